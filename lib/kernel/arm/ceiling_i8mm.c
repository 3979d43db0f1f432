/* ceiling_i8mm.c - SMMLA: eight products in each lane.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <arm_neon.h>

enum { PRODUCTS = 32 };

static inline __attribute__((always_inline)) int32x4_t dots_of(int32x4_t sum, int8x16_t x, int8x16_t y)
{
    return vmmlaq_s32(sum, x, y);
}

#define INSTALL ap_ceiling_install_i8mm
#include "kernel/arm/ceiling_neon_tmpl.c"
