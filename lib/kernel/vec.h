/* vec.h - operations on the vectors of one token: norm, residual, rotary position,
 * gated activation, and what the sampler asks of a row of logits.
 *
 * Orders are those of docs/law.md, section 4: a sum has 16 partial sums, element i
 * in number i mod 16, ascending, then one fixed tree.  Everything else is one
 * element at a time.  Nothing here needs alignment.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_KERNEL_VEC_H
#define AP_KERNEL_VEC_H

#include <stdbool.h>
#include <stdint.h>

/* out[i] = (x[i] * r) * w[i], r = 1 / sqrtf(sum of x[i]^2 (by fma) / n + epsilon). */
typedef void ap_rms_norm_fn(float *out, const float *x, const float *w, uint32_t n, float epsilon);
/* x[i] += y[i] */
typedef void ap_add_fn(float *x, const float *y, uint32_t n);
/* out[i] = gate[i] / (1 + exp(-gate[i])) * up[i]; out may be gate or up. */
typedef void ap_silu_mul_fn(float *out, const float *gate, const float *up, uint32_t n);
/* out[i] = exp(x[i] - shift); returns the sum. */
typedef float ap_exp_sum_fn(float *out, const float *x, uint32_t n, float shift);
/* The largest element; the sign of a zero is not defined, NaN is not looked for. */
typedef float ap_largest_fn(const float *x, uint32_t n);

/* Turns the pairs of the first `width` elements of x by a row of ap_rope_row: (2j, 2j + 1), or
 * (j, j + width / 2) if `halves`.  (a, b) becomes (fma(a, cos, -(b sin)), fma(b, cos, a sin)). */
typedef void ap_rope_fn(float *x, const float *row, uint32_t width, bool halves);

typedef struct ap_vec_ops {
    ap_rms_norm_fn *rms_norm;
    ap_add_fn *add;
    ap_silu_mul_fn *silu_mul;
    ap_exp_sum_fn *exp_sum;
    ap_largest_fn *largest;
    ap_rope_fn *rope;
} ap_vec_ops;

/* ---- Tables of rotary positions: once per token, plain C for all levels ---- */

/* frequencies[j] = base^(-2j / width) / divisor / divisors[j] (NULL: 1), j < width / 2. */
void ap_rope_frequencies(float *frequencies, uint32_t width, float base, float divisor, const float *divisors);
/* row[j] = cos, row[width / 2 + j] = sin of (float)position * frequencies[j]. */
void ap_rope_row(float *row, const float *frequencies, uint32_t width, uint32_t position);

#endif
