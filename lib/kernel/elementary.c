/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/elementary.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "kernel/lanes_plain.h"
#include "kernel/lanes_math.h"

float ap_expf(float x)
{
    float out[16];
    lanes_store(out, lanes_exp(lanes_set(x)));
    return out[0];
}

/* ---- Doubles: each step below is + - * / or fma, correctly rounded ---- */

static double double_of_bits(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint64_t bits_of_double(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* log(x) = e ln 2 + 2 atanh(s), x = 2^e m, m within a factor of sqrt 2 of one, s = (m - 1) / (m + 1);
 * s^2 < 0.0295, so the terms up to s^23 leave a rest below 2^-60. */
double ap_log_double(double x)
{
    uint64_t bits = bits_of_double(x);
    int64_t e = (int64_t)(bits >> 52) - 1023;
    double m = double_of_bits((bits & 0x000fffffffffffffu) | 0x3ff0000000000000u);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        e++;
    }
    double s = (m - 1) / (m + 1), q = s * s, sum = 1.0 / 23;
    for (int k = 21; k >= 1; k -= 2)
        sum = fma(sum, q, 1.0 / k);
    return fma((double)e, 0x1.62e42fefa39efp-1, fma((double)e, 0x1.abc9e3b39803fp-56, 2 * s * sum));
}

/* For |x| < 700: n = nearest integer to x / ln 2, Taylor sum of the rest to its 13th power. */
static double exp_double(double x)
{
    double t = fma(x, 0x1.71547652b82fep+0, 0x1.8p+52), n = t - 0x1.8p+52;
    double r = fma(n, -0x1.62e42fefa39efp-1, x);
    r = fma(n, -0x1.abc9e3b39803fp-56, r);
    double sum = 1;
    for (int k = 13; k >= 1; k--)
        sum = fma(sum, r / k, 1);
    return sum * double_of_bits((uint64_t)((int64_t)n + 1023) << 52);
}

/* A float that is a subnormal is a normal double, so the doubles need no cases. */
float ap_logf(float x)
{
    if (!(x > 0))
        return x == 0 ? -INFINITY : NAN;
    if (x == INFINITY)
        return x;
    return (float)ap_log_double((double)x);
}

float ap_powf(float base, float exponent) { return (float)exp_double((double)exponent * ap_log_double((double)base)); }

/* x = k pi / 2 + r, |r| <= pi / 4, pi / 2 in two parts; Taylor sums to r^17 and r^16. */
void ap_sincosf(float x, float *sine, float *cosine)
{
    double t = fma((double)x, 0x1.45f306dc9c883p-1, 0x1.8p+52), k = t - 0x1.8p+52;
    double r = fma(k, -0x1.921fb54442d18p+0, (double)x);
    r = fma(k, -0x1.1a62633145c07p-54, r);
    double q = r * r, s = 1, c = 1;
    for (int i = 8; i >= 1; i--) {
        s = fma(s, -q / ((2 * i) * (2 * i + 1)), 1);
        c = fma(c, -q / ((2 * i) * (2 * i - 1)), 1);
    }
    s *= r;
    switch (bits_of_double(t) & 3) { /* the low bits of t are those of k */
    case 0: *sine = (float)s, *cosine = (float)c; break;
    case 1: *sine = (float)c, *cosine = (float)-s; break;
    case 2: *sine = (float)-s, *cosine = (float)-c; break;
    default: *sine = (float)-c, *cosine = (float)s; break;
    }
}

/* ---- Philox ---- */

void ap_philox(uint64_t key, const uint32_t counter[4], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xd2511f53u * c0, p1 = (uint64_t)0xcd9e8d57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

float ap_uniform(uint32_t bits) { return (float)(bits >> 8) * 0x1p-24f; }
