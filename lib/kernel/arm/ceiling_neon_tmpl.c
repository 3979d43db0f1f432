/* ceiling_neon_tmpl.c - the fastest dots of a level; included by a file per level, which defines PRODUCTS (done by
 * one of its instructions), dots_of (a step of one chain: an int32x4_t and two int8x16_t) and INSTALL.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kernel/level.h"

enum { CHAINS = 16 };

static ap_dots dots(uint32_t rounds)
{
    int8x16_t x = vdupq_n_s8(AP_DOTS_X), y = vdupq_n_s8(AP_DOTS_Y);
    int32x4_t sums[CHAINS];
    for (int c = 0; c < CHAINS; c++)
        sums[c] = vdupq_n_s32(0);
    for (uint32_t r = 0; r < rounds; r++)
        _Pragma("GCC unroll 16") for (int c = 0; c < CHAINS; c++) {
            __asm__("" : "+w"(x), "+w"(sums[c])); /* x may be another now, and the sums stay in order */
            sums[c] = dots_of(sums[c], x, y);
        }
    ap_dots out = {.products = (uint64_t)rounds * CHAINS * PRODUCTS};
    for (int c = 0; c < CHAINS; c++)
        out.sum += (uint32_t)vaddvq_s32(sums[c]);
    return out;
}

void INSTALL(ap_kernels *kernels) { kernels->ceiling.dots = dots; }
