/* ceiling_zmm_tmpl.c - dots in 512-bit registers; included by a file per level, which defines CHAINS, dot4
 * and INSTALL.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kernel/level.h"

static ap_dots dots(uint32_t rounds)
{
    __m512i x = _mm512_set1_epi8(AP_DOTS_X), y = _mm512_set1_epi8(AP_DOTS_Y), sums[CHAINS];
    for (int c = 0; c < CHAINS; c++)
        sums[c] = _mm512_setzero_si512();
    for (uint32_t r = 0; r < rounds; r++)
        _Pragma("GCC unroll 16") for (int c = 0; c < CHAINS; c++) {
            __asm__("" : "+v"(x)); /* it may be another now */
            sums[c] = dot4(sums[c], x, y);
        }
    ap_dots out = {.products = (uint64_t)rounds * CHAINS * 64};
    for (int c = 0; c < CHAINS; c++)
        out.sum += (uint32_t)_mm512_reduce_add_epi32(sums[c]);
    return out;
}

void INSTALL(ap_kernels *kernels) { kernels->ceiling.dots = dots; }
