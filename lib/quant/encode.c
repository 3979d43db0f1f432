/* SPDX-License-Identifier: Apache-2.0 */
#include "quant/encode.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#include "quant/block.h"
#include "quant/half.h"

const ap_levels ap_levels_4 = {NULL, -8, 7}, ap_levels_5 = {NULL, -16, 15}, ap_levels_6 = {NULL, -32, 31};
const ap_levels ap_levels_8 = {NULL, -127, 127}, ap_levels_iq4 = {ap_codes_iq4, 0, 15};

enum { STARTS = 9, ROUNDS = 5 };

static int nearest_integer(float x, int low, int high)
{
    if (!(x > (float)low))
        return low;
    if (x > (float)high)
        return high;
    return (int)((x + 0x1.8p23f) - 0x1.8p23f);
}

int ap_level_nearest(const ap_levels *levels, float x)
{
    if (!levels->table)
        return nearest_integer(x, levels->low, levels->high);
    /* Counting the middles below x takes no branch, so a compiler can do all at once. */
    int code = 0;
    for (int i = 0; i < levels->high; i++)
        code += 2 * x > (float)(levels->table[i] + levels->table[i + 1]);
    return code;
}

float ap_level_value(const ap_levels *levels, int code)
{
    return levels->table ? (float)levels->table[code] : (float)code;
}

/* With codes for the scale s: the best scale for those codes, and how much of the error it takes away. */
static double refit(const ap_levels *levels, const float *x, const float *w, int n, float s, float *better)
{
    double xq = 0, qq = 0;
    float inverse = 1 / s;
    for (int i = 0; i < n; i++) {
        float q = ap_level_value(levels, ap_level_nearest(levels, x[i] * inverse));
        xq += (double)w[i] * x[i] * q;
        qq += (double)w[i] * q * q;
    }
    *better = qq > 0 ? (float)(xq / qq) : s;
    return qq > 0 ? xq * xq / qq : 0;
}

float ap_fit_scale(const ap_levels *levels, const float *x, const float *w, int n)
{
    float amax = 0, peak = 0, best = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > amax) {
            amax = fabsf(x[i]);
            peak = x[i];
        }
    if (!(amax > 0x1p-100f) || amax > 0x1.fffffep127f)
        return 0;
    double gain = -1;
    float ends[2] = {ap_level_value(levels, levels->low), ap_level_value(levels, levels->high)};
    /* The largest weight falls on either end of the codes, somewhat inside or beyond it. */
    for (int side = 0; side < 2; side++)
        for (int k = 0; k < STARTS; k++) {
            float s = peak / (ends[side] * (1 + 0.05f * (float)(k - STARTS / 2)));
            for (int round = 0; round < ROUNDS; round++) {
                float better;
                double now = refit(levels, x, w, n, s, &better);
                if (now > gain) {
                    gain = now;
                    best = better;
                }
                if (better == s || better == 0)
                    break;
                s = better;
            }
        }
    return best;
}

/* One round for scale and minimum; returns the error left with the refitted pair and the codes of the old one. */
static double refit_min(int top, const float *x, const float *w, int n, float *s, float *m)
{
    double sw = 0, sq = 0, sqq = 0, sx = 0, sxq = 0, sxx = 0;
    float inverse = *s > 0 ? 1 / *s : 0;
    for (int i = 0; i < n; i++) {
        double q = nearest_integer((x[i] + *m) * inverse, 0, top), wi = w[i];
        sw += wi;
        sq += wi * q;
        sqq += wi * q * q;
        sx += wi * x[i];
        sxq += wi * x[i] * q;
        sxx += wi * x[i] * (double)x[i];
    }
    double det = sw * sqq - sq * sq, scale = 0, min = 0;
    if (det > 0) {
        scale = (sw * sxq - sx * sq) / det;
        min = (sq * sxq - sqq * sx) / det;
    }
    if (!(det > 0) || min < 0 || scale <= 0) {
        min = 0;
        scale = sqq > 0 ? sxq / sqq : 0;
    }
    if (scale < 0)
        scale = 0;
    *s = (float)scale;
    *m = (float)min;
    return sxx - 2 * scale * sxq + 2 * min * sx + scale * scale * sqq - 2 * scale * min * sq + min * min * sw;
}

void ap_fit_scale_min(int top, const float *x, const float *w, int n, float *scale, float *min)
{
    float low = 0, high = x[0];
    for (int i = 0; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    *scale = *min = 0;
    if (!(high - low > 0x1p-100f) || high - low > 0x1p127f)
        return;
    double least = INFINITY;
    for (int k = 0; k < STARTS; k++) {
        float s = (high - low) / ((float)top * (1 + 0.05f * (float)(k - 2))), m = -low;
        for (int round = 0; round < ROUNDS; round++) {
            float old_s = s, old_m = m;
            double error = refit_min(top, x, w, n, &s, &m);
            if (error < least) {
                least = error;
                *scale = s;
                *min = m;
            }
            if (s == old_s && m == old_m)
                break;
            if (s == 0)
                break;
        }
    }
}

uint16_t ap_scale_f16(float scale)
{
    return ap_f16_of_f32(scale > 65504.0f ? 65504.0f : scale < -65504.0f ? -65504.0f : scale);
}

enum { SUPER_ROUNDS = 4, SUPER_GROUPS_MAX = 16 };

/* The integer scale for one group, the error it leaves and its codes. */
static double choose_scale(const ap_levels *levels, float d, int ideal, int low, int high, const float *x, const float *w,
                           int n, int *scale, int *code)
{
    double least = INFINITY;
    for (int s = ideal - 1; s <= ideal + 1; s++) {
        if (s < low || s > high)
            continue;
        double error = 0;
        float step = d * (float)s, inverse = step != 0 ? 1 / step : 0;
        int codes[32];
        for (int i = 0; i < n; i++) {
            codes[i] = ap_level_nearest(levels, x[i] * inverse);
            double e = x[i] - step * ap_level_value(levels, codes[i]);
            error += w[i] * e * e;
        }
        if (error < least) {
            least = error;
            *scale = s;
            for (int i = 0; i < n; i++)
                code[i] = codes[i];
        }
    }
    return least;
}

void ap_fit_super(const ap_levels *levels, int size, int scale_low, int scale_high, const float *x, const float *w,
                  uint16_t *d, int *scale, int *code)
{
    int groups = AP_SUPER_COLS / size;
    float ideal[SUPER_GROUPS_MAX], peak = 0;
    for (int g = 0; g < groups; g++) {
        ideal[g] = ap_fit_scale(levels, x + g * size, w + g * size, size);
        peak = fabsf(ideal[g]) > fabsf(peak) ? ideal[g] : peak;
    }
    *d = 0;
    for (int g = 0; g < groups; g++)
        scale[g] = 0;
    for (int i = 0; i < AP_SUPER_COLS; i++)
        code[i] = ap_level_nearest(levels, 0);
    if (peak == 0)
        return;
    double least = INFINITY;
    /* The group with the largest scale gets the far end of the integers: they reach further below zero. */
    float next = peak / (float)scale_low;
    for (int round = 0; round < SUPER_ROUNDS; round++) {
        uint16_t half = ap_scale_f16(next);
        float df = ap_f32_of_f16(half);
        int scales[SUPER_GROUPS_MAX], codes[AP_SUPER_COLS];
        double error = 0, xq = 0, qq = 0;
        if (df == 0)
            return;
        for (int g = 0; g < groups; g++) {
            int near = nearest_integer(ideal[g] / df, scale_low, scale_high);
            error += choose_scale(levels, df, near, scale_low, scale_high, x + g * size, w + g * size, size, &scales[g],
                                  codes + g * size);
        }
        if (!(error < least))
            return;
        least = error;
        *d = half;
        for (int g = 0; g < groups; g++)
            scale[g] = scales[g];
        for (int i = 0; i < AP_SUPER_COLS; i++) {
            double q = (double)scales[i / size] * ap_level_value(levels, codes[i]);
            code[i] = codes[i];
            xq += w[i] * x[i] * q;
            qq += w[i] * q * q;
        }
        if (!(qq > 0))
            return;
        next = (float)(xq / qq);
    }
}

/* Scale and minimum of one group; as choose_scale. */
static double choose_pair(int top, float d, float dmin, int ideal_scale, int ideal_min, const float *x, const float *w,
                          uint8_t *scale, uint8_t *min, uint8_t code[32])
{
    double least = INFINITY;
    for (int s = ideal_scale - 1; s <= ideal_scale + 1; s++)
        for (int m = ideal_min - 1; m <= ideal_min + 1; m++) {
            if (s < 0 || s > 63 || m < 0 || m > 63)
                continue;
            double error = 0;
            float step = d * (float)s, low = dmin * (float)m, inverse = step > 0 ? 1 / step : 0;
            uint8_t codes[32];
            for (int i = 0; i < 32; i++) {
                codes[i] = (uint8_t)nearest_integer((x[i] + low) * inverse, 0, top);
                double e = x[i] - (step * (float)codes[i] - low);
                error += w[i] * e * e;
            }
            if (error < least) {
                least = error;
                *scale = (uint8_t)s;
                *min = (uint8_t)m;
                for (int i = 0; i < 32; i++)
                    code[i] = codes[i];
            }
        }
    return least;
}

void ap_fit_super_min(int top, const float *x, const float *w, uint16_t *d, uint16_t *dmin, uint8_t scale[8],
                      uint8_t min[8], uint8_t code[256])
{
    float ideal[8], low[8], scale_max = 0, min_max = 0;
    for (int g = 0; g < 8; g++) {
        ap_fit_scale_min(top, x + 32 * g, w + 32 * g, 32, &ideal[g], &low[g]);
        scale_max = ideal[g] > scale_max ? ideal[g] : scale_max;
        min_max = low[g] > min_max ? low[g] : min_max;
    }
    *d = *dmin = 0;
    for (int i = 0; i < 256; i++)
        scale[i / 32] = min[i / 32] = code[i] = 0;
    double least = INFINITY;
    float next = scale_max / 63, next_min = min_max / 63;
    for (int round = 0; round < SUPER_ROUNDS; round++) {
        uint16_t half = ap_scale_f16(next), half_min = ap_scale_f16(next_min);
        float df = ap_f32_of_f16(half), mf = ap_f32_of_f16(half_min);
        uint8_t scales[8], mins[8], codes[256];
        double error = 0;
        for (int g = 0; g < 8; g++) {
            int near = df > 0 ? nearest_integer(ideal[g] / df, 0, 63) : 0;
            int near_min = mf > 0 ? nearest_integer(low[g] / mf, 0, 63) : 0;
            error += choose_pair(top, df, mf, near, near_min, x + 32 * g, w + 32 * g, &scales[g], &mins[g], codes + 32 * g);
        }
        if (!(error < least))
            return;
        least = error;
        *d = half;
        *dmin = half_min;
        /* With a = scale q and b = min: the pair (d, dmin) that fits d a - dmin b best. */
        double aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
        for (int i = 0; i < 256; i++) {
            double a = scales[i / 32] * codes[i], b = mins[i / 32];
            scale[i / 32] = scales[i / 32];
            min[i / 32] = mins[i / 32];
            code[i] = codes[i];
            aa += w[i] * a * a;
            ab += w[i] * a * b;
            bb += w[i] * b * b;
            xa += w[i] * x[i] * a;
            xb += w[i] * x[i] * b;
        }
        double det = aa * bb - ab * ab;
        if (det > 1e-12 * aa * bb && det > 0) {
            next = (float)((xa * bb - xb * ab) / det);
            next_min = (float)((xa * ab - xb * aa) / det);
        } else {
            next = aa > 0 ? (float)((xa + ab * mf) / aa) : df;
            next_min = mf;
        }
        if (!(next > 0) || !(next_min >= 0))
            return;
    }
}
