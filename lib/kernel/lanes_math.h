/* lanes_math.h - what the vector kernels share, written over lane operations.
 *
 * Included after a level's lanes header.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_KERNEL_LANES_MATH_H
#define AP_KERNEL_LANES_MATH_H

/* exp(x) = 2^n * exp(r), n the integer next to x / ln 2 and |r| <= ln 2 / 2.  Adding 1.5 * 2^23
 * rounds to that integer and leaves it in the low bits.  ln 2 is taken away in two parts (the first
 * has 15 bits, so n times it is exact); exp(r) is the Taylor sum to r^7 / 7!, whose
 * rest is below 2^-27 of it. */
static inline ap_lanes lanes_exp(ap_lanes x)
{
    ap_lanes magic = lanes_set(12582912.0f);
    ap_lanes t = lanes_fma(x, lanes_set(0x1.715476p+0f), magic);
    ap_lanes n = lanes_sub(t, magic);
    ap_lanes r = lanes_fma(n, lanes_set(-0x1.62e4p-1f), x);
    r = lanes_fma(n, lanes_set(-0x1.7f7d1cp-20f), r);
    ap_lanes p = lanes_fma(lanes_set(1.0f / 5040), r, lanes_set(1.0f / 720));
    p = lanes_fma(p, r, lanes_set(1.0f / 120));
    p = lanes_fma(p, r, lanes_set(1.0f / 24));
    p = lanes_fma(p, r, lanes_set(1.0f / 6));
    p = lanes_fma(p, r, lanes_set(0.5f));
    p = lanes_fma(p, r, lanes_set(1.0f));
    p = lanes_fma(p, r, lanes_set(1.0f));
    p = lanes_scale(p, t);
    /* Above the largest float's logarithm; below that of 2^-126. */
    p = lanes_if_less(lanes_set(0x1.62e42ep+6f), x, lanes_set(__builtin_inff()), p);
    return lanes_if_less(x, lanes_set(-0x1.5d589ep+6f), lanes_set(0), p);
}

/* One fixed tree: lanes 8 apart, then 4, 2, 1. */
static inline float lanes_sum(ap_lanes a)
{
    float v[16];
    lanes_store(v, a);
    for (int step = 8; step; step /= 2)
        for (int i = 0; i < step; i++)
            v[i] += v[i + step];
    return v[0];
}

static inline float lanes_largest(ap_lanes a)
{
    float v[16];
    lanes_store(v, a);
    for (int step = 8; step; step /= 2)
        for (int i = 0; i < step; i++)
            v[i] = v[i] > v[i + step] ? v[i] : v[i + step];
    return v[0];
}

#endif
