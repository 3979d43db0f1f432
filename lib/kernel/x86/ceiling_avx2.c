/* ceiling_avx2.c - the fastest dots of AVX2: `maddubs`, eight of them added up in 16 bits, then widened.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <immintrin.h>

#include "kernel/level.h"

#define UNROLL _Pragma("GCC unroll 8")

enum { CHAINS = 4, GROUPS = 8 };

static ap_dots dots(uint32_t rounds)
{
    __m256i x = _mm256_set1_epi8(AP_DOTS_X), y = _mm256_set1_epi8(AP_DOTS_Y), sums[CHAINS];
    UNROLL for (int c = 0; c < CHAINS; c++)
        sums[c] = _mm256_setzero_si256();
    for (uint32_t r = 0; r < rounds; r++) {
        __m256i pairs[CHAINS];
        UNROLL for (int c = 0; c < CHAINS; c++)
            pairs[c] = _mm256_setzero_si256();
        UNROLL for (int g = 0; g < GROUPS; g++)
            UNROLL for (int c = 0; c < CHAINS; c++) {
                pairs[c] = _mm256_add_epi16(pairs[c], _mm256_maddubs_epi16(x, y));
                __asm__("" : "+x"(x), "+x"(pairs[c])); /* x may be another now, and the sums stay in order */
            }
        UNROLL for (int c = 0; c < CHAINS; c++)
            sums[c] = _mm256_add_epi32(sums[c], _mm256_madd_epi16(pairs[c], _mm256_set1_epi16(1)));
    }
    ap_dots out = {.products = (uint64_t)rounds * CHAINS * GROUPS * 32};
    UNROLL for (int c = 0; c < CHAINS; c++) {
        uint32_t lanes[8];
        _mm256_storeu_si256((__m256i *)lanes, sums[c]);
        for (int i = 0; i < 8; i++)
            out.sum += lanes[i];
    }
    return out;
}

void ap_ceiling_install_avx2(ap_kernels *kernels) { kernels->ceiling.dots = dots; }
