/* SPDX-License-Identifier: Apache-2.0 */
#include "quant/encode.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#include "quant/block.h"
#include "quant/half.h"

const ap_levels ap_levels_4 = {NULL, -8, 7}, ap_levels_5 = {NULL, -16, 15}, ap_levels_6 = {NULL, -32, 31};
const ap_levels ap_levels_8 = {NULL, -127, 127}, ap_levels_iq4 = {ap_codes_iq4, 0, 15};

/* Loops over columns go LANES at a time: sums have so many partial sums, joined by one tree, so a compiler may use its
 * vectors and changes no bit.  Groups are 16 or 32 columns, nothing is left over. */
enum { LANES = 16, GROUP_MAX = 32, SUPER_GROUPS_MAX = 16 };

/* How hard to search: more of each gains less than 1% of the error that is left. */
enum { STARTS = 11, FINE_STARTS = 6, LINE_STARTS = 13, ROUNDS = 3, LINE_ROUNDS = 2, SUPER_ROUNDS = 3 };

/* Up to TINY every scale is zero as an f16, above LARGE every one is the largest; between them no square overflows. */
static const float TINY = 0x1p-30f, LARGE = 0x1p40f;

/* One group with what all rounds of a search need. */
typedef struct group {
    const float *x, *w;
    float wx[GROUP_MAX];
    int n;
} group;

static float to_integer(float x) { return (x + 0x1.8p23f) - 0x1.8p23f; }

static int nearest_integer(float x, int low, int high)
{
    if (!(x > (float)low))
        return low;
    if (x > (float)high)
        return high;
    return (int)to_integer(x);
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

/* The values nearest to x times inverse, of codes from low to high; NaN becomes low. */
static void round_all(float low, float high, const float *x, float inverse, float shift, int n, float *q)
{
    for (int i = 0; i < n; i += LANES)
        for (int l = i; l < i + LANES; l++) {
            float t = (x[l] + shift) * inverse;
            t = t > low ? t : low;
            t = t < high ? t : high;
            q[l] = to_integer(t);
        }
}

static void values_near(const ap_levels *levels, const float *x, float inverse, int n, float *q)
{
    if (!levels->table) {
        round_all((float)levels->low, (float)levels->high, x, inverse, 0, n, q);
        return;
    }
    for (int i = 0; i < n; i += LANES) {
        float t[LANES], value[LANES];
        for (int l = 0; l < LANES; l++) {
            t[l] = x[i + l] * inverse;
            value[l] = levels->table[0];
        }
        for (int k = 0; k < levels->high; k++) {
            float step = (float)(levels->table[k + 1] - levels->table[k]);
            float middle = 0.5f * (float)(levels->table[k + 1] + levels->table[k]);
            for (int l = 0; l < LANES; l++)
                value[l] += t[l] > middle ? step : 0;
        }
        for (int l = 0; l < LANES; l++)
            q[i + l] = value[l];
    }
}

static float sum_lanes(float part[LANES])
{
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            part[l] += part[l + half];
    return part[0];
}

static float dot(const float *a, const float *b, int n)
{
    float part[LANES] = {0};
    for (int i = 0; i < n; i += LANES)
        for (int l = 0; l < LANES; l++)
            part[l] += a[i + l] * b[i + l];
    return sum_lanes(part);
}

/* The sum of w q^2. */
static float weigh(const float *w, const float *q, int n)
{
    float part[LANES] = {0};
    for (int i = 0; i < n; i += LANES)
        for (int l = 0; l < LANES; l++)
            part[l] += w[i + l] * q[i + l] * q[i + l];
    return sum_lanes(part);
}

static float sum(const float *a, int n)
{
    float part[LANES] = {0};
    for (int i = 0; i < n; i += LANES)
        for (int l = 0; l < LANES; l++)
            part[l] += a[i + l];
    return sum_lanes(part);
}

static group group_of(const float *x, const float *w, int n)
{
    group g = {.x = x, .w = w, .n = n};
    for (int i = 0; i < n; i++)
        g.wx[i] = w[i] * x[i];
    return g;
}

/* With codes for the scale 1 / inverse: the best scale for those codes, and how much of the error it takes away. */
static float refit(const ap_levels *levels, const group *g, float inverse, float *better)
{
    float q[GROUP_MAX];
    values_near(levels, g->x, inverse, g->n, q);
    float xq = dot(g->wx, q, g->n), qq = weigh(g->w, q, g->n);
    *better = qq > 0 ? xq / qq : 0;
    return xq * *better;
}

float ap_fit_scale(const ap_levels *levels, const float *x, const float *w, int n)
{
    float amax = 0, peak = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > amax) {
            amax = fabsf(x[i]);
            peak = x[i];
        }
    float ends[2] = {ap_level_value(levels, levels->low), ap_level_value(levels, levels->high)};
    if (!(amax > TINY) || amax > FLT_MAX)
        return 0;
    if (amax > LARGE)
        return peak / ends[0];
    group g = group_of(x, w, n);
    float gain = -1, best = 0, better;
    /* The largest weight falls on either end of the codes, somewhat inside or beyond it.  With 8 bits the ends are alike and
     * nothing is cut off; there the starts lie close, for how the weights fall between the codes is a draw at each. */
    bool is_fine = ends[1] - ends[0] > 250;
    int starts = is_fine ? FINE_STARTS : STARTS;
    for (int side = 0; side < (is_fine ? 1 : 2); side++)
        for (int k = 0; k < starts; k++) {
            float beyond = is_fine ? -0.01f * (float)k : 0.03f * (float)(k - STARTS / 2);
            float inverse = ends[side] * (1 + beyond) / peak;
            float now = refit(levels, &g, inverse, &better);
            if (now > gain) {
                gain = now;
                best = better;
            }
        }
    for (int round = 0; round < ROUNDS && best != 0; round++) {
        float now = refit(levels, &g, 1 / best, &better);
        if (!(now > gain))
            break;
        gain = now;
        best = better;
    }
    return best;
}

/* What is left: the sum of w (x - scale q + min)^2. */
static float residue(const group *g, const float *q, float scale, float min)
{
    float part[LANES] = {0};
    for (int i = 0; i < g->n; i += LANES)
        for (int l = 0; l < LANES; l++) {
            float e = (g->x[i + l] + min) - scale * q[i + l];
            part[l] += g->w[i + l] * e * e;
        }
    return sum_lanes(part);
}

typedef struct line {
    float scale, min;
} line;

/* The best scale and minimum for codes q; sw and sx are the sums of w and w x. */
static line fit_line(const group *g, const float *q, double sw, double sx)
{
    double sq = dot(g->w, q, g->n), sqq = weigh(g->w, q, g->n), sxq = dot(g->wx, q, g->n);
    double det = sw * sqq - sq * sq, scale = 0, min = 0;
    if (det > 0) {
        scale = (sw * sxq - sx * sq) / det;
        min = (sq * sxq - sqq * sx) / det;
    }
    if (!(det > 0) || min < 0 || scale <= 0) {
        min = 0;
        scale = sqq > 0 ? sxq / sqq : 0;
    }
    return (line){scale > 0 ? (float)scale : 0, (float)min};
}

void ap_fit_scale_min(int top, const float *x, const float *w, int n, float *scale, float *min)
{
    float low = 0, high = x[0];
    for (int i = 0; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    *scale = *min = 0;
    if (!(high - low > TINY) || high - low > FLT_MAX)
        return;
    if (high - low > LARGE) {
        *scale = (high - low) / (float)top;
        *min = -low;
        return;
    }
    group g = group_of(x, w, n);
    float least = INFINITY, q[GROUP_MAX];
    double sw = sum(w, n), sx = sum(g.wx, n);
    line best = {0};
    for (int k = 0; k < LINE_STARTS; k++) {
        line now = {(high - low) / ((float)top + 0.3f * (float)(k - LINE_STARTS / 2)), -low};
        for (int round = 0; round < LINE_ROUNDS && now.scale > 0; round++) {
            round_all(0, (float)top, x, 1 / now.scale, now.min, n, q);
            now = fit_line(&g, q, sw, sx);
            float left = residue(&g, q, now.scale, now.min);
            if (left < least) {
                least = left;
                best = now;
            } else if (round > 0)
                break;
        }
    }
    *scale = best.scale;
    *min = best.min;
}

uint16_t ap_scale_f16(float scale)
{
    return ap_f16_of_f32(scale > 65504.0f ? 65504.0f : scale < -65504.0f ? -65504.0f : scale);
}

/* The integer scale for one group, and the error it leaves. */
static float choose_scale(const ap_levels *levels, float d, int ideal, int low, int high, const group *g, int *scale)
{
    float least = INFINITY, q[GROUP_MAX];
    for (int s = ideal - 1; s <= ideal + 1; s++) {
        if (s < low || s > high)
            continue;
        float step = d * (float)s;
        values_near(levels, g->x, step != 0 ? 1 / step : 0, g->n, q);
        float left = residue(g, q, step, 0);
        if (left < least || s == ideal - 1 || s == low) {
            least = left;
            *scale = s;
        }
    }
    return least;
}

void ap_fit_super(const ap_levels *levels, int size, int scale_low, int scale_high, const float *x, const float *w,
                  uint16_t *d, int *scale, int *code)
{
    int groups = AP_SUPER_COLS / size;
    group g[SUPER_GROUPS_MAX];
    float ideal[SUPER_GROUPS_MAX], peak = 0;
    for (int i = 0; i < groups; i++) {
        g[i] = group_of(x + i * size, w + i * size, size);
        ideal[i] = ap_fit_scale(levels, g[i].x, g[i].w, size);
        peak = fabsf(ideal[i]) > fabsf(peak) ? ideal[i] : peak;
        scale[i] = 0;
    }
    *d = 0;
    float least = INFINITY;
    /* The group with the largest scale gets the far end of the integers: they reach further below zero. */
    float next = peak / (float)scale_low;
    for (int round = 0; round < SUPER_ROUNDS; round++) {
        uint16_t half = ap_scale_f16(next);
        float df = ap_f32_of_f16(half), left = 0;
        int scales[SUPER_GROUPS_MAX];
        if (df == 0)
            break;
        for (int i = 0; i < groups; i++) {
            int near = nearest_integer(ideal[i] / df, scale_low, scale_high);
            left += choose_scale(levels, df, near, scale_low, scale_high, &g[i], &scales[i]);
        }
        if (!(left < least) && round > 0)
            break;
        least = left;
        *d = half;
        float xq = 0, qq = 0;
        for (int i = 0; i < groups; i++) {
            float q[GROUP_MAX], step = df * (float)scales[i], s = (float)scales[i];
            scale[i] = scales[i];
            values_near(levels, g[i].x, step != 0 ? 1 / step : 0, size, q);
            xq += s * dot(g[i].wx, q, size);
            qq += s * s * weigh(g[i].w, q, size);
        }
        if (!(qq > 0) || !(fabsf(xq) <= FLT_MAX))
            break;
        next = xq / qq;
    }
    for (int i = 0; i < AP_SUPER_COLS; i++) {
        float step = ap_f32_of_f16(*d) * (float)scale[i / size];
        code[i] = ap_level_nearest(levels, x[i] * (step != 0 ? 1 / step : 0));
    }
}

/* Scale and minimum of one group; as choose_scale. */
static float choose_line(int top, float d, float dmin, int ideal_scale, int ideal_min, const group *g, uint8_t *scale,
                         uint8_t *min)
{
    float least = INFINITY, q[GROUP_MAX];
    *scale = *min = 0;
    for (int s = ideal_scale - 1; s <= ideal_scale + 1; s++)
        for (int m = ideal_min - 1; m <= ideal_min + 1; m++) {
            if (s < 0 || s > 63 || m < 0 || m > 63)
                continue;
            float step = d * (float)s, low = dmin * (float)m;
            round_all(0, (float)top, g->x, step > 0 ? 1 / step : 0, low, g->n, q);
            float left = residue(g, q, step, low);
            if (left < least) {
                least = left;
                *scale = (uint8_t)s;
                *min = (uint8_t)m;
            }
        }
    return least;
}

void ap_fit_super_min(int top, const float *x, const float *w, uint16_t *d, uint16_t *dmin, uint8_t scale[8],
                      uint8_t min[8], uint8_t code[256])
{
    group g[8];
    float ideal[8], low[8], scale_max = 0, min_max = 0, least = INFINITY;
    for (int i = 0; i < 8; i++) {
        g[i] = group_of(x + 32 * i, w + 32 * i, 32);
        ap_fit_scale_min(top, g[i].x, g[i].w, 32, &ideal[i], &low[i]);
        scale_max = ideal[i] > scale_max ? ideal[i] : scale_max;
        min_max = low[i] > min_max ? low[i] : min_max;
        scale[i] = min[i] = 0;
    }
    *d = *dmin = 0;
    float next = scale_max / 63, next_min = min_max / 63;
    for (int round = 0; round < SUPER_ROUNDS; round++) {
        uint16_t half = ap_scale_f16(next), half_min = ap_scale_f16(next_min);
        float df = ap_f32_of_f16(half), mf = ap_f32_of_f16(half_min), left = 0;
        uint8_t scales[8], mins[8];
        for (int i = 0; i < 8; i++) {
            int near = df > 0 ? nearest_integer(ideal[i] / df, 0, 63) : 0;
            int near_min = mf > 0 ? nearest_integer(low[i] / mf, 0, 63) : 0;
            left += choose_line(top, df, mf, near, near_min, &g[i], &scales[i], &mins[i]);
        }
        if (!(left < least) && round > 0)
            break;
        least = left;
        *d = half;
        *dmin = half_min;
        /* With a = scale q and b = min: the pair (d, dmin) that fits d a - dmin b best. */
        double aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
        for (int i = 0; i < 8; i++) {
            float q[GROUP_MAX], step = df * (float)scales[i];
            double s = scales[i], m = mins[i];
            scale[i] = scales[i];
            min[i] = mins[i];
            round_all(0, (float)top, g[i].x, step > 0 ? 1 / step : 0, mf * (float)mins[i], 32, q);
            aa += s * s * (double)weigh(g[i].w, q, 32);
            ab += s * m * (double)dot(g[i].w, q, 32);
            bb += m * m * (double)sum(g[i].w, 32);
            xa += s * (double)dot(g[i].wx, q, 32);
            xb += m * (double)sum(g[i].wx, 32);
        }
        double det = aa * bb - ab * ab;
        if (det > 1e-9 * aa * bb && det > 0) {
            next = (float)((xa * bb - xb * ab) / det);
            next_min = (float)((xa * ab - xb * aa) / det);
        } else {
            next = aa > 0 ? (float)((xa + ab * (double)mf) / aa) : df;
            next_min = mf;
        }
        if (!(next > 0) || !(next_min >= 0))
            break;
    }
    for (int i = 0; i < AP_SUPER_COLS; i++) {
        float step = ap_f32_of_f16(*d) * (float)scale[i / 32], m = ap_f32_of_f16(*dmin) * (float)min[i / 32];
        code[i] = (uint8_t)nearest_integer((x[i] + m) * (step > 0 ? 1 / step : 0), 0, top);
    }
}
