/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/elementary.h"
#include "kernel/vec.h"

void ap_rope_frequencies(float *frequencies, uint32_t width, float base, float divisor, const float *divisors)
{
    for (uint32_t j = 0; j < width / 2; j++) {
        frequencies[j] = ap_powf(base, -(float)(2 * j) / (float)width) / divisor;
        if (divisors)
            frequencies[j] /= divisors[j];
    }
}

void ap_rope_row(float *row, const float *frequencies, uint32_t width, uint32_t position)
{
    for (uint32_t j = 0; j < width / 2; j++)
        ap_sincosf((float)position * frequencies[j], &row[width / 2 + j], &row[j]);
}
