/* quantize_neon.c - 8-bit codes of activations with NEON.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <arm_neon.h>
#include <string.h>

#include "kernel/level.h"
#include "quant/half.h"

#define UNROLL _Pragma("GCC unroll 8")

/* 32 floats; what the codes leave over replaces x. */
static void quantize_block(float *x, ap_act_slab *slab, uint32_t part)
{
    float32x4_t v[8];
    uint32x4_t top = vdupq_n_u32(0);
    UNROLL for (int i = 0; i < 8; i++) {
        v[i] = vld1q_f32(x + 4 * i);
        top = vmaxq_u32(top, vreinterpretq_u32_f32(vabsq_f32(v[i]))); /* magnitudes sort as their bits do, NaN on top */
    }
    uint32_t bits = vmaxvq_u32(top);
    float amax = ap_float_of_bits(bits), d = 0;
    int32x4_t q[8];
    UNROLL for (int i = 0; i < 8; i++)
        q[i] = vdupq_n_s32(0);
    if (bits >= 0x7f800000u) {
        d = ap_float_of_bits(0x7fc00000u);
    } else if (amax >= 0x1p-100f) {
        const float32x4_t id = vdupq_n_f32(127.0f / amax);
        d = amax / 127.0f;
        /* The clamp to +-127 is in the arithmetic: |x id| rounds to 127 at most. */
        UNROLL for (int i = 0; i < 8; i++)
            q[i] = vcvtnq_s32_f32(vmulq_f32(v[i], id));
    }
    int32_t sum[2];
    UNROLL for (int h = 0; h < 2; h++) {
        int16x8_t low = vcombine_s16(vmovn_s32(q[4 * h]), vmovn_s32(q[4 * h + 1]));
        int16x8_t high = vcombine_s16(vmovn_s32(q[4 * h + 2]), vmovn_s32(q[4 * h + 3]));
        vst1q_s8(slab->code + 32 * part + 16 * h, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
        sum[h] = vaddvq_s16(vaddq_s16(low, high));
        slab->half_sum[2 * part + (uint32_t)h] = (int16_t)sum[h];
    }
    UNROLL for (int i = 0; i < 8; i++)
        vst1q_f32(x + 4 * i, vfmsq_f32(v[i], vcvtq_f32_s32(q[i]), vdupq_n_f32(d)));
    slab->d[part] = d;
    slab->sum[part] = sum[0] + sum[1];
    slab->sum_f[part] = (float)(sum[0] + sum[1]);
}

static void quantize(const float *x, uint32_t cols, uint32_t planes, ap_act_slab *slabs, size_t slab_stride)
{
    for (uint32_t col = 0; col < cols; col += AP_SUPER_COLS) {
        ap_act_slab *slab = slabs + col / AP_SUPER_COLS * slab_stride;
        for (uint32_t part = 0; part < 8; part++) {
            uint32_t at = col + 32 * part, count = at >= cols ? 0 : cols - at;
            float rest[32] = {0};
            if (count > 0)
                memcpy(rest, x + at, (count < 32 ? count : 32) * sizeof *x);
            for (uint32_t plane = 0; plane < planes; plane++)
                quantize_block(rest, slab + plane, part);
        }
    }
}

void ap_quantize_install_neon(ap_kernels *kernels) { kernels->matmul.quantize = quantize; }
