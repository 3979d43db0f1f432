/* elementary.h - elementary functions under the law: fixed sequences of + - * / fma.
 *
 * Nothing of libm is called but fma and sqrtf, so every compiler, CPU and level gives
 * the same bits.  Those used per element (exp) exist for 16 lanes as well
 * (lanes_math.h), with the same steps; those used once per row or per position
 * are computed in double and rounded once.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_KERNEL_ELEMENTARY_H
#define AP_KERNEL_ELEMENTARY_H

#include <stdint.h>

/* Within 0.94 units in the last place (every float was tried); exp(0) = 1, exp(-inf) = +0, +0 where the result would be
 * below 2^-126, +inf above the largest float; NaN stays NaN. */
float ap_expf(float x);
/* Rounded from a double that is right to about 2^-50; log of 0 is -inf, of a negative number NaN. */
float ap_logf(float x);
/* For a normal x > 0, right to about 2^-50. */
double ap_log_double(double x);
/* Cosine and sine of an angle in radians, |x| < 2^24, rounded from double likewise. */
void ap_sincosf(float x, float *sine, float *cosine);
/* base^exponent for base > 0, rounded from double likewise. */
float ap_powf(float base, float exponent);

/* Philox 4x32-10 (Salmon et al., 2011): 128 bits from a 64-bit key and a 128-bit counter. */
void ap_philox(uint64_t key, const uint32_t counter[4], uint32_t out[4]);
/* In [0, 1), a multiple of 2^-24. */
float ap_uniform(uint32_t bits);

#endif
