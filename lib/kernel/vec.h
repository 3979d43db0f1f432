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
/* c[i] = x[i] - sum of x[i] / n; out[i] = (c[i] * r) * w[i] + b[i], r = 1 / sqrtf(sum of c[i]^2 (by fma) / n + epsilon).
 * Without w (NULL) the product, without b the sum is left out.  out may be x. */
typedef void ap_layer_norm_fn(float *out, const float *x, const float *w, const float *b, uint32_t n, float epsilon);
/* x[i] += y[i] */
typedef void ap_add_fn(float *x, const float *y, uint32_t n);
/* x[i] = fma(y[i], scale, x[i]) */
typedef void ap_add_scaled_fn(float *x, const float *y, float scale, uint32_t n);
/* x[i] = x[i] * scale */
typedef void ap_scale_fn(float *x, float scale, uint32_t n);
/* x[i] within -limit … limit; NaN stays NaN. */
typedef void ap_clip_fn(float *x, float limit, uint32_t n);
/* x[i] = cap * tanh(x[i] / cap) */
typedef void ap_softcap_fn(float *x, float cap, uint32_t n);

/* Activations of an MLP (docs/law.md, section 4). */
typedef enum ap_activation {
    AP_ACTIVATION_SILU,      /* x / (1 + exp(-x)) */
    AP_ACTIVATION_GELU,      /* x * normal distribution(x), by erf */
    AP_ACTIVATION_GELU_TANH, /* its approximation by tanh */
    AP_ACTIVATION_SILU_7,    /* gpt-oss: gate <= 7, |up| <= 7; gate / (1 + exp(-1.702 gate)) * (up + 1) */
    AP_ACTIVATION_COUNT
} ap_activation;
/* out[i] = f(gate[i]) * up[i]; up NULL: f(gate[i]), not with SILU_7.  out may be gate or up. */
typedef void ap_activate_fn(float *out, const float *gate, const float *up, uint32_t n);
/* out[i] = exp(x[i] - shift); returns the sum. */
typedef float ap_exp_sum_fn(float *out, const float *x, uint32_t n, float shift);
/* The largest element; the sign of a zero is not defined, NaN is not looked for. */
typedef float ap_largest_fn(const float *x, uint32_t n);

/* Turns the pairs of the first `width` elements of x by a row of ap_rope_row: (2j, 2j + 1), or
 * (j, j + width / 2) if `halves`.  (a, b) becomes (fma(a, cos, -(b sin)), fma(b, cos, a sin)). */
typedef void ap_rope_fn(float *x, const float *row, uint32_t width, bool halves);

typedef struct ap_vec_ops {
    ap_rms_norm_fn *rms_norm;
    ap_layer_norm_fn *layer_norm;
    ap_add_fn *add;
    ap_add_scaled_fn *add_scaled;
    ap_scale_fn *scale;
    ap_clip_fn *clip;
    ap_softcap_fn *softcap;
    ap_activate_fn *activate[AP_ACTIVATION_COUNT];
    ap_exp_sum_fn *exp_sum;
    ap_largest_fn *largest;
    ap_rope_fn *rope;
} ap_vec_ops;

/* ---- Tables of rotary positions: once per token, plain C for all levels ---- */

/* How frequencies are changed for texts longer than those of the first training. */
typedef struct ap_rope_scaling {
    float base;
    float divisor;   /* linear: every frequency is divided by it; 1: none */
    float magnitude; /* cos and sin are multiplied by it; 1: none */
    /* YaRN: only the slow frequencies are divided, with a ramp over the pairs ramp_low … ramp_high. */
    bool is_yarn;
    float ramp_low, ramp_high;
    uint32_t original_tokens; /* of the first training; 0: unknown */
} ap_rope_scaling;

/* The pair that turns `turns` times in the original length: where YaRN's ramp begins or ends. */
float ap_rope_pair_of_turns(uint32_t width, float base, uint32_t original_tokens, float turns);
/* frequencies[j], j < width / 2, each divided by divisors[j] (NULL: 1). */
void ap_rope_frequencies(float *frequencies, uint32_t width, const ap_rope_scaling *scaling, const float *divisors);
/* row[j] = cos, row[width / 2 + j] = sin of (float)position * frequencies[j], times magnitude. */
void ap_rope_row(float *row, const float *frequencies, uint32_t width, uint32_t position, float magnitude);

#endif
