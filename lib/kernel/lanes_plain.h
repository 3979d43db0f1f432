/* lanes_plain.h - sixteen floats at once, in plain C: the meaning of each lane operation.
 *
 * The vector kernels (vec_tmpl.c, attention_tmpl.c) are written once over these
 * operations and compiled once per level with that level's header.  Lanes never
 * meet; max and select are comparisons, as the law says.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_KERNEL_LANES_H
#define AP_KERNEL_LANES_H

#include <math.h>

#include "quant/half.h"

typedef struct ap_lanes {
    float v[16];
} ap_lanes;

/* How many sums a loop may hold in registers, and how many rows attention takes at once; of a level, no matter
 * of bits. */
enum { LANES_HELD = 4, LANES_ROWS = 4 };

#define AP_EACH_LANE for (int i = 0; i < 16; i++)

static inline ap_lanes lanes_set(float x)
{
    ap_lanes r;
    AP_EACH_LANE r.v[i] = x;
    return r;
}
static inline ap_lanes lanes_load(const float *p)
{
    ap_lanes r;
    AP_EACH_LANE r.v[i] = p[i];
    return r;
}
/* The first n < 16; the others are +0. */
static inline ap_lanes lanes_load_some(const float *p, uint32_t n)
{
    ap_lanes r;
    AP_EACH_LANE r.v[i] = (uint32_t)i < n ? p[i] : 0;
    return r;
}
static inline void lanes_store(float *p, ap_lanes a) { AP_EACH_LANE p[i] = a.v[i]; }
static inline void lanes_store_some(float *p, ap_lanes a, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        p[i] = a.v[i];
}
static inline ap_lanes lanes_load_half(const uint16_t *p)
{
    ap_lanes r;
    AP_EACH_LANE r.v[i] = ap_f32_of_f16(p[i]);
    return r;
}
static inline ap_lanes lanes_load_half_some(const uint16_t *p, uint32_t n)
{
    ap_lanes r;
    AP_EACH_LANE r.v[i] = (uint32_t)i < n ? ap_f32_of_f16(p[i]) : 0;
    return r;
}
static inline ap_lanes lanes_load_bf16(const uint16_t *p)
{
    ap_lanes r;
    AP_EACH_LANE r.v[i] = ap_f32_of_bf16(p[i]);
    return r;
}
/* Integers as floats. */
static inline ap_lanes lanes_load_code(const int8_t *p)
{
    ap_lanes r;
    AP_EACH_LANE r.v[i] = (float)p[i];
    return r;
}
static inline ap_lanes lanes_load_code_some(const int8_t *p, uint32_t n)
{
    ap_lanes r;
    AP_EACH_LANE r.v[i] = (uint32_t)i < n ? (float)p[i] : 0;
    return r;
}
static inline ap_lanes lanes_add(ap_lanes a, ap_lanes b)
{
    AP_EACH_LANE a.v[i] += b.v[i];
    return a;
}
static inline ap_lanes lanes_sub(ap_lanes a, ap_lanes b)
{
    AP_EACH_LANE a.v[i] -= b.v[i];
    return a;
}
static inline ap_lanes lanes_mul(ap_lanes a, ap_lanes b)
{
    AP_EACH_LANE a.v[i] *= b.v[i];
    return a;
}
static inline ap_lanes lanes_div(ap_lanes a, ap_lanes b)
{
    AP_EACH_LANE a.v[i] /= b.v[i];
    return a;
}
/* a * b + c, rounded once. */
static inline ap_lanes lanes_fma(ap_lanes a, ap_lanes b, ap_lanes c)
{
    AP_EACH_LANE c.v[i] = fmaf(a.v[i], b.v[i], c.v[i]);
    return c;
}
/* a > b ? a : b */
static inline ap_lanes lanes_max(ap_lanes a, ap_lanes b)
{
    AP_EACH_LANE a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
    return a;
}
/* a < b ? x : y */
static inline ap_lanes lanes_if_less(ap_lanes a, ap_lanes b, ap_lanes x, ap_lanes y)
{
    AP_EACH_LANE x.v[i] = a.v[i] < b.v[i] ? x.v[i] : y.v[i];
    return x;
}
/* p * 2^n for t = n + 1.5 * 2^23, -252 <= n <= 254, in two exact factors. */
static inline ap_lanes lanes_scale(ap_lanes p, ap_lanes t)
{
    AP_EACH_LANE
    {
        uint32_t n = ap_bits_of_float(t.v[i]) - 0x4b400000u;
        uint32_t half = (uint32_t)((int32_t)n >> 1);
        p.v[i] = p.v[i] * ap_float_of_bits((half + 127) << 23) * ap_float_of_bits((n - half + 127) << 23);
    }
    return p;
}

#undef AP_EACH_LANE

#endif
