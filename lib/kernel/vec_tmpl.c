/* vec_tmpl.c - the vector operations, compiled once per level.
 *
 * AP_LANES_H: the level's lanes header; AP_VEC_INSTALL: the name of the function that puts
 * these into a table.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <math.h>

#include "kernel/level.h"

#include AP_LANES_H
#include "kernel/lanes_math.h"

static void rms_norm(float *out, const float *x, const float *w, uint32_t n, float epsilon)
{
    ap_lanes sums = lanes_set(0);
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16) {
        ap_lanes v = lanes_load(x + i);
        sums = lanes_fma(v, v, sums);
    }
    if (i < n) {
        ap_lanes v = lanes_load_some(x + i, n - i);
        sums = lanes_fma(v, v, sums);
    }
    ap_lanes r = lanes_set(1.0f / sqrtf(lanes_sum(sums) / (float)n + epsilon));
    for (i = 0; i + 16 <= n; i += 16)
        lanes_store(out + i, lanes_mul(lanes_mul(lanes_load(x + i), r), lanes_load(w + i)));
    if (i < n)
        lanes_store_some(out + i, lanes_mul(lanes_mul(lanes_load_some(x + i, n - i), r), lanes_load_some(w + i, n - i)), n - i);
}

/* The 16 partial sums of x[i], or with `is_square` of x[i]^2, joined. */
static float sum_of(const float *x, uint32_t n, bool is_square)
{
    ap_lanes sums = lanes_set(0);
    uint32_t i = 0;
    for (; i < n; i += 16) {
        ap_lanes v = n - i < 16 ? lanes_load_some(x + i, n - i) : lanes_load(x + i);
        sums = is_square ? lanes_fma(v, v, sums) : lanes_add(sums, v);
    }
    return lanes_sum(sums);
}

static void layer_norm(float *out, const float *x, const float *w, const float *b, uint32_t n, float epsilon)
{
    float mean = sum_of(x, n, false) / (float)n;
    for (uint32_t i = 0; i < n; i++)
        out[i] = x[i] - mean;
    float r = 1.0f / sqrtf(sum_of(out, n, true) / (float)n + epsilon);
    for (uint32_t i = 0; i < n; i++)
        out[i] = out[i] * r;
    for (uint32_t i = 0; w && i < n; i++)
        out[i] = out[i] * w[i];
    for (uint32_t i = 0; b && i < n; i++)
        out[i] = out[i] + b[i];
}

static void add(float *x, const float *y, uint32_t n)
{
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16)
        lanes_store(x + i, lanes_add(lanes_load(x + i), lanes_load(y + i)));
    for (; i < n; i++)
        x[i] += y[i];
}

static void add_scaled(float *x, const float *y, float scale, uint32_t n)
{
    ap_lanes s = lanes_set(scale);
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16)
        lanes_store(x + i, lanes_fma(lanes_load(y + i), s, lanes_load(x + i)));
    for (; i < n; i++)
        x[i] = fmaf(y[i], scale, x[i]);
}

static void scale_by(float *x, float scale, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        x[i] *= scale;
}

static inline ap_lanes clipped(ap_lanes x, ap_lanes low, ap_lanes high)
{
    return lanes_if_less(x, low, low, lanes_if_less(high, x, high, x));
}

static void clip(float *x, float limit, uint32_t n)
{
    ap_lanes low = lanes_set(-limit), high = lanes_set(limit);
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16)
        lanes_store(x + i, clipped(lanes_load(x + i), low, high));
    if (i < n)
        lanes_store_some(x + i, clipped(lanes_load_some(x + i, n - i), low, high), n - i);
}

static inline ap_lanes capped(ap_lanes x, ap_lanes cap) { return lanes_mul(cap, lanes_tanh(lanes_div(x, cap))); }

static void softcap(float *x, float limit, uint32_t n)
{
    ap_lanes cap = lanes_set(limit);
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16)
        lanes_store(x + i, capped(lanes_load(x + i), cap));
    if (i < n)
        lanes_store_some(x + i, capped(lanes_load_some(x + i, n - i), cap), n - i);
}

/* ---- Activations ---- */

static inline ap_lanes silu(ap_lanes gate) { return lanes_logistic_times(gate, gate); }

static inline ap_lanes silu_7(ap_lanes gate, ap_lanes up)
{
    ap_lanes seven = lanes_set(7);
    gate = lanes_if_less(seven, gate, seven, gate);
    up = clipped(up, lanes_set(-7), seven);
    return lanes_mul(lanes_logistic_times(lanes_mul(gate, lanes_set(1.702f)), gate), lanes_add(up, lanes_set(1)));
}

static inline ap_lanes activated(ap_activation kind, ap_lanes gate, ap_lanes up, bool has_up)
{
    if (kind == AP_ACTIVATION_SILU_7)
        return silu_7(gate, up);
    ap_lanes y = kind == AP_ACTIVATION_SILU ? silu(gate) : kind == AP_ACTIVATION_GELU ? lanes_gelu(gate) : lanes_gelu_tanh(gate);
    return has_up ? lanes_mul(y, up) : y;
}

static inline __attribute__((always_inline)) void activate(ap_activation kind, float *out, const float *gate,
                                                           const float *up, uint32_t n)
{
    bool has_up = up;
    up = has_up ? up : gate;
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16)
        lanes_store(out + i, activated(kind, lanes_load(gate + i), lanes_load(up + i), has_up));
    if (i < n)
        lanes_store_some(out + i, activated(kind, lanes_load_some(gate + i, n - i), lanes_load_some(up + i, n - i), has_up), n - i);
}

static void activate_silu(float *out, const float *gate, const float *up, uint32_t n)
{
    activate(AP_ACTIVATION_SILU, out, gate, up, n);
}
static void activate_gelu(float *out, const float *gate, const float *up, uint32_t n)
{
    activate(AP_ACTIVATION_GELU, out, gate, up, n);
}
static void activate_gelu_tanh(float *out, const float *gate, const float *up, uint32_t n)
{
    activate(AP_ACTIVATION_GELU_TANH, out, gate, up, n);
}
static void activate_silu_7(float *out, const float *gate, const float *up, uint32_t n)
{
    activate(AP_ACTIVATION_SILU_7, out, gate, up, n);
}

static float exp_sum(float *out, const float *x, uint32_t n, float shift)
{
    ap_lanes sums = lanes_set(0), s = lanes_set(shift);
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16) {
        ap_lanes e = lanes_exp(lanes_sub(lanes_load(x + i), s));
        lanes_store(out + i, e);
        sums = lanes_add(sums, e);
    }
    if (i < n) {
        lanes_store_some(out + i, lanes_exp(lanes_sub(lanes_load_some(x + i, n - i), s)), n - i);
        sums = lanes_add(sums, lanes_load_some(out + i, n - i));
    }
    return lanes_sum(sums);
}

static float largest(const float *x, uint32_t n)
{
    ap_lanes best = lanes_set(-INFINITY);
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16)
        best = lanes_max(best, lanes_load(x + i));
    float result = lanes_largest(best);
    for (; i < n; i++)
        result = result > x[i] ? result : x[i];
    return result;
}

/* Scalar steps: with the level's flags the compiler makes vectors of them, and may not change a bit. */
static inline void turn_pairs(float *restrict first, float *restrict second, const float *restrict row, uint32_t pairs,
                              uint32_t step)
{
    const float *restrict cosine = row, *restrict sine = row + pairs;
    for (uint32_t j = 0; j < pairs; j++) {
        float a = first[j * step], b = second[j * step];
        first[j * step] = fmaf(a, cosine[j], -(b * sine[j]));
        second[j * step] = fmaf(b, cosine[j], a * sine[j]);
    }
}

static void rope(float *x, const float *row, uint32_t width, bool halves)
{
    if (halves)
        turn_pairs(x, x + width / 2, row, width / 2, 1);
    else
        turn_pairs(x, x + 1, row, width / 2, 2);
}

void AP_VEC_INSTALL(ap_kernels *kernels)
{
    kernels->vec = (ap_vec_ops){
        .rms_norm = rms_norm,
        .layer_norm = layer_norm,
        .add = add,
        .add_scaled = add_scaled,
        .scale = scale_by,
        .clip = clip,
        .softcap = softcap,
        .activate = {[AP_ACTIVATION_SILU] = activate_silu,
                     [AP_ACTIVATION_GELU] = activate_gelu,
                     [AP_ACTIVATION_GELU_TANH] = activate_gelu_tanh,
                     [AP_ACTIVATION_SILU_7] = activate_silu_7},
        .exp_sum = exp_sum,
        .largest = largest,
        .rope = rope,
    };
}
