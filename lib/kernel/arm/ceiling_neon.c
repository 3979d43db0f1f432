/* ceiling_neon.c - dots by widening multiplications: as many added up in 16 bits as 5-bit codes allow, then widened.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <arm_neon.h>

enum { GROUPS = 8, PRODUCTS = 16 * GROUPS };

static inline __attribute__((always_inline)) int32x4_t dots_of(int32x4_t sum, int8x16_t x, int8x16_t y)
{
    int16x8_t low = vmull_s8(vget_low_s8(x), vget_low_s8(y)), high = vmull_high_s8(x, y);
    _Pragma("GCC unroll 8") for (int g = 1; g < GROUPS; g++) {
        low = vmlal_s8(low, vget_low_s8(x), vget_low_s8(y));
        high = vmlal_high_s8(high, x, y);
        __asm__("" : "+w"(low), "+w"(high));
    }
    return vpadalq_s16(vpadalq_s16(sum, low), high);
}

#define INSTALL ap_ceiling_install_neon
#include "kernel/arm/ceiling_neon_tmpl.c"
