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

/* 1 / (1 + exp(-x)) of x, times y. */
static inline ap_lanes lanes_logistic_times(ap_lanes x, ap_lanes y)
{
    ap_lanes e = lanes_exp(lanes_sub(lanes_set(0), x));
    return lanes_div(y, lanes_add(lanes_set(1), e));
}

/* tanh: (1 - e) / (1 + e), e = exp(-2 |x|), with the sign of x; where that would cancel, |x| < 1/2, the
 * Taylor sum to x^15, whose rest is below 2^-26 of it. */
static inline ap_lanes lanes_tanh(ap_lanes x)
{
    ap_lanes minus = lanes_sub(lanes_set(0), x), size = lanes_if_less(x, lanes_set(0), minus, x), q = lanes_mul(x, x);
    ap_lanes p = lanes_fma(lanes_set(-929569.0f / 638512875.0f), q, lanes_set(21844.0f / 6081075));
    p = lanes_fma(p, q, lanes_set(-1382.0f / 155925));
    p = lanes_fma(p, q, lanes_set(62.0f / 2835));
    p = lanes_fma(p, q, lanes_set(-17.0f / 315));
    p = lanes_fma(p, q, lanes_set(2.0f / 15));
    p = lanes_fma(p, q, lanes_set(-1.0f / 3));
    ap_lanes near = lanes_fma(lanes_mul(x, q), p, x);
    ap_lanes e = lanes_exp(lanes_mul(size, lanes_set(-2)));
    ap_lanes far = lanes_div(lanes_sub(lanes_set(1), e), lanes_add(lanes_set(1), e));
    far = lanes_if_less(x, lanes_set(0), lanes_sub(lanes_set(0), far), far);
    return lanes_if_less(size, lanes_set(0.5f), near, far);
}

/* x times the normal distribution function.  With z = |x| / sqrt 2 and t = 1 / (1 + 0.35 z), the upper tail is
 * exp(-z^2) t P(t) / 2; P was fitted to within 2^-27, so nothing cancels where the result is small. */
static inline ap_lanes lanes_gelu(ap_lanes x)
{
    static const float fitted[] = {-0x1.457cfcp-3f, 0x1.73a3d6p-3f, -0x1.c60290p-6f, 0x1.64722ap-4f, 0x1.2b16f6p-3f,
                                   0x1.35a188p-3f,  0x1.80d2e2p-3f, 0x1.93bd48p-3f,  0x1.947260p-3f};
    ap_lanes size = lanes_if_less(x, lanes_set(0), lanes_sub(lanes_set(0), x), x);
    ap_lanes z = lanes_mul(size, lanes_set(0x1.6a09e6p-1f));
    ap_lanes t = lanes_div(lanes_set(1), lanes_fma(lanes_set(0.35f), z, lanes_set(1)));
    ap_lanes p = lanes_set(0x1.3a956ap-5f);
    for (size_t i = 0; i < sizeof fitted / sizeof fitted[0]; i++)
        p = lanes_fma(p, t, lanes_set(fitted[i]));
    ap_lanes e = lanes_exp(lanes_sub(lanes_set(0), lanes_mul(z, z)));
    ap_lanes tail = lanes_mul(lanes_mul(lanes_mul(p, t), e), lanes_set(0.5f));
    ap_lanes low = lanes_mul(x, tail);
    return lanes_if_less(lanes_set(0), x, lanes_sub(x, low), low);
}

/* Its approximation x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, which is x / (1 + exp(-2 ...)). */
static inline ap_lanes lanes_gelu_tanh(ap_lanes x)
{
    ap_lanes inner = lanes_fma(lanes_mul(x, x), lanes_set(0.071354816f), lanes_set(1.5957691f));
    return lanes_logistic_times(lanes_mul(x, inner), x);
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
