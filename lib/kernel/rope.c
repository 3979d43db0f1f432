/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/elementary.h"
#include "kernel/vec.h"

float ap_rope_pair_of_turns(uint32_t width, float base, uint32_t original_tokens, float turns)
{
    return (float)width * ap_logf((float)original_tokens / (turns * 6.2831855f)) / (2 * ap_logf(base));
}

/* From the frequency itself to the divided one, as the pair number goes from ramp_low to ramp_high. */
static float yarn_frequency(float frequency, float divided, const ap_rope_scaling *s, uint32_t pair)
{
    float span = s->ramp_high - s->ramp_low, part = ((float)pair - s->ramp_low) / (span > 0.001f ? span : 0.001f);
    part = part < 0 ? 0 : part > 1 ? 1 : part;
    return divided * part + frequency * (1 - part);
}

void ap_rope_frequencies(float *frequencies, uint32_t width, const ap_rope_scaling *s, const float *divisors)
{
    for (uint32_t j = 0; j < width / 2; j++) {
        float frequency = ap_powf(s->base, -(float)(2 * j) / (float)width), divided = frequency / s->divisor;
        frequencies[j] = s->is_yarn ? yarn_frequency(frequency, divided, s, j) : divided;
        if (divisors)
            frequencies[j] /= divisors[j];
    }
}

void ap_rope_row(float *row, const float *frequencies, uint32_t width, uint32_t position, float magnitude)
{
    for (uint32_t j = 0; j < width / 2; j++) {
        ap_sincosf((float)position * frequencies[j], &row[width / 2 + j], &row[j]);
        row[j] *= magnitude;
        row[width / 2 + j] *= magnitude;
    }
}
