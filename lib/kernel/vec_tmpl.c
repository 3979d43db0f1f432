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

static void add(float *x, const float *y, uint32_t n)
{
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16)
        lanes_store(x + i, lanes_add(lanes_load(x + i), lanes_load(y + i)));
    for (; i < n; i++)
        x[i] += y[i];
}

static inline ap_lanes silu_times(ap_lanes gate, ap_lanes up)
{
    ap_lanes e = lanes_exp(lanes_sub(lanes_set(0), gate));
    return lanes_mul(lanes_div(gate, lanes_add(lanes_set(1), e)), up);
}

static void silu_mul(float *out, const float *gate, const float *up, uint32_t n)
{
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16)
        lanes_store(out + i, silu_times(lanes_load(gate + i), lanes_load(up + i)));
    if (i < n)
        lanes_store_some(out + i, silu_times(lanes_load_some(gate + i, n - i), lanes_load_some(up + i, n - i)), n - i);
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
        .rms_norm = rms_norm, .add = add, .silu_mul = silu_mul, .exp_sum = exp_sum, .largest = largest, .rope = rope};
}
