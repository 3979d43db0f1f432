/* lanes_neon.h - sixteen floats as four NEON registers; lanes_plain.h has the meaning.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_KERNEL_LANES_H
#define AP_KERNEL_LANES_H

#include <arm_neon.h>
#include <stdint.h>

typedef struct ap_lanes {
    float32x4_t v[4];
} ap_lanes;

enum { LANES_HELD = 4, LANES_ROWS = 4 }; /* 16 of 32 registers are sums */

#define AP_EACH_QUARTER _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++)

static inline ap_lanes lanes_set(float x)
{
    float32x4_t v = vdupq_n_f32(x);
    return (ap_lanes){{v, v, v, v}};
}
static inline ap_lanes lanes_load(const float *p)
{
    ap_lanes r;
    AP_EACH_QUARTER r.v[i] = vld1q_f32(p + 4 * i);
    return r;
}
static inline void lanes_store(float *p, ap_lanes a) { AP_EACH_QUARTER vst1q_f32(p + 4 * i, a.v[i]); }
static inline ap_lanes lanes_load_some(const float *p, uint32_t n)
{
    float whole[16] = {0};
    for (uint32_t i = 0; i < n; i++)
        whole[i] = p[i];
    return lanes_load(whole);
}
static inline void lanes_store_some(float *p, ap_lanes a, uint32_t n)
{
    float whole[16];
    lanes_store(whole, a);
    for (uint32_t i = 0; i < n; i++)
        p[i] = whole[i];
}
static inline ap_lanes lanes_load_half(const uint16_t *p)
{
    ap_lanes r;
    AP_EACH_QUARTER r.v[i] = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i)));
    return r;
}
static inline ap_lanes lanes_load_half_some(const uint16_t *p, uint32_t n)
{
    uint16_t whole[16] = {0};
    for (uint32_t i = 0; i < n; i++)
        whole[i] = p[i];
    return lanes_load_half(whole);
}
static inline ap_lanes lanes_load_bf16(const uint16_t *p)
{
    ap_lanes r;
    AP_EACH_QUARTER r.v[i] = vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16));
    return r;
}
static inline ap_lanes lanes_load_code(const int8_t *p)
{
    int8x16_t codes = vld1q_s8(p);
    int16x8_t low = vmovl_s8(vget_low_s8(codes)), high = vmovl_s8(vget_high_s8(codes));
    return (ap_lanes){{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
                       vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))}};
}
static inline ap_lanes lanes_load_code_some(const int8_t *p, uint32_t n)
{
    int8_t whole[16] = {0};
    for (uint32_t i = 0; i < n; i++)
        whole[i] = p[i];
    return lanes_load_code(whole);
}
static inline ap_lanes lanes_add(ap_lanes a, ap_lanes b)
{
    AP_EACH_QUARTER a.v[i] = vaddq_f32(a.v[i], b.v[i]);
    return a;
}
static inline ap_lanes lanes_sub(ap_lanes a, ap_lanes b)
{
    AP_EACH_QUARTER a.v[i] = vsubq_f32(a.v[i], b.v[i]);
    return a;
}
static inline ap_lanes lanes_mul(ap_lanes a, ap_lanes b)
{
    AP_EACH_QUARTER a.v[i] = vmulq_f32(a.v[i], b.v[i]);
    return a;
}
static inline ap_lanes lanes_div(ap_lanes a, ap_lanes b)
{
    AP_EACH_QUARTER a.v[i] = vdivq_f32(a.v[i], b.v[i]);
    return a;
}
static inline ap_lanes lanes_fma(ap_lanes a, ap_lanes b, ap_lanes c)
{
    AP_EACH_QUARTER c.v[i] = vfmaq_f32(c.v[i], a.v[i], b.v[i]);
    return c;
}
/* By comparison: NEON's own maximum treats NaN and zeros of two signs otherwise. */
static inline ap_lanes lanes_max(ap_lanes a, ap_lanes b)
{
    AP_EACH_QUARTER a.v[i] = vbslq_f32(vcgtq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]);
    return a;
}
static inline ap_lanes lanes_if_less(ap_lanes a, ap_lanes b, ap_lanes x, ap_lanes y)
{
    AP_EACH_QUARTER x.v[i] = vbslq_f32(vcltq_f32(a.v[i], b.v[i]), x.v[i], y.v[i]);
    return x;
}
static inline ap_lanes lanes_scale(ap_lanes p, ap_lanes t)
{
    const int32x4_t bias = vdupq_n_s32(127);
    AP_EACH_QUARTER
    {
        int32x4_t n = vsubq_s32(vreinterpretq_s32_f32(t.v[i]), vdupq_n_s32(0x4b400000)), half = vshrq_n_s32(n, 1);
        float32x4_t first = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23));
        float32x4_t second = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vsubq_s32(n, half), bias), 23));
        p.v[i] = vmulq_f32(vmulq_f32(p.v[i], first), second);
    }
    return p;
}

#undef AP_EACH_QUARTER

#endif
