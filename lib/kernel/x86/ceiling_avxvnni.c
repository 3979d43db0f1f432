/* ceiling_avxvnni.c - the dots of AVX-VNNI: one instruction for four products in each lane.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <immintrin.h>

#include "kernel/level.h"

enum { CHAINS = 12 };

static ap_dots dots(uint32_t rounds)
{
    __m256i x = _mm256_set1_epi8(AP_DOTS_X), y = _mm256_set1_epi8(AP_DOTS_Y), sums[CHAINS];
    for (int c = 0; c < CHAINS; c++)
        sums[c] = _mm256_setzero_si256();
    for (uint32_t r = 0; r < rounds; r++)
        _Pragma("GCC unroll 12") for (int c = 0; c < CHAINS; c++)
            __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sums[c]) : "x"(x), "x"(y));
    ap_dots out = {.products = (uint64_t)rounds * CHAINS * 32};
    for (int c = 0; c < CHAINS; c++) {
        uint32_t lanes[8];
        _mm256_storeu_si256((__m256i *)lanes, sums[c]);
        for (int i = 0; i < 8; i++)
            out.sum += lanes[i];
    }
    return out;
}

void ap_ceiling_install_avxvnni(ap_kernels *kernels) { kernels->ceiling.dots = dots; }
