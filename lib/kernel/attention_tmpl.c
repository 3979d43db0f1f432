/* attention_tmpl.c - attention, compiled once per level and KV type.
 *
 * AP_LANES_H: the level's lanes header; AP_KV_ITEM: the stored type; AP_KV_LANES: the operation
 * that loads 16 of them; AP_KV_LANES_SOME: the first n < 16; AP_ATTEND_INDEX, AP_ATTENTION_INSTALL.
 *
 * Query rows (a token and one of its heads) are taken ROWS at a time: each loaded key or
 * value serves all of them.  How many share a load does not touch a row's own chain.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <math.h>

#include "kernel/attention.h"
#include "kernel/level.h"
#include "kernel/elementary.h"

#include AP_LANES_H
#include "kernel/lanes_math.h"

enum { ROWS = 4, LANES = 16, VALUE_TILE = 4 };

/* The rows at hand, and what the segments so far made of each. */
typedef struct rows {
    const float *q[ROWS];
    float *out[ROWS];
    uint32_t visible[ROWS]; /* keys 0 … visible - 1 */
    float largest[ROWS], sum[ROWS];
    float value[ROWS][AP_HEAD_WIDTH_MAX];
    uint32_t count;
} rows;

typedef struct segment {
    uint32_t begin;
    uint32_t seen[ROWS]; /* keys of this segment that each row sees; ascending rows may see more */
    uint32_t seen_max;
    _Alignas(64) float score[ROWS][AP_SEGMENT_TOKENS];
} segment;

static const AP_KV_ITEM *keys_of(const ap_attend_job *job, uint32_t position)
{
    const ap_kv_layout *l = job->layout;
    const unsigned char *page = job->pages[position / AP_PAGE_TOKENS];
    size_t group = position % AP_PAGE_TOKENS / AP_KEY_GROUP;
    return (const AP_KV_ITEM *)(const void *)(page + job->layer * l->layer_bytes + job->kv_head * l->head_bytes) +
           group * AP_KEY_GROUP * l->head_width;
}

static const AP_KV_ITEM *value_of(const ap_attend_job *job, uint32_t position)
{
    const ap_kv_layout *l = job->layout;
    const unsigned char *page = job->pages[position / AP_PAGE_TOKENS];
    return (const AP_KV_ITEM *)(const void *)(page + job->layer * l->layer_bytes +
                                              (l->kv_head_count + job->kv_head) * l->head_bytes) +
           (size_t)(position % AP_PAGE_TOKENS) * l->head_width;
}

/* Scores of 16 keys for ROWS rows: chains over the dimensions. */
static inline void score_group(const ap_attend_job *job, const rows *r, const AP_KV_ITEM *keys, segment *s, uint32_t at)
{
    ap_lanes a0 = lanes_set(0), a1 = a0, a2 = a0, a3 = a0;
    for (uint32_t d = 0; d < job->layout->head_width; d++) {
        ap_lanes k = AP_KV_LANES(keys + (size_t)d * LANES);
        a0 = lanes_fma(lanes_set(r->q[0][d]), k, a0);
        a1 = lanes_fma(lanes_set(r->q[1][d]), k, a1);
        a2 = lanes_fma(lanes_set(r->q[2][d]), k, a2);
        a3 = lanes_fma(lanes_set(r->q[3][d]), k, a3);
    }
    ap_lanes scale = lanes_set(job->scale);
    lanes_store(&s->score[0][at], lanes_mul(a0, scale));
    lanes_store(&s->score[1][at], lanes_mul(a1, scale));
    lanes_store(&s->score[2][at], lanes_mul(a2, scale));
    lanes_store(&s->score[3][at], lanes_mul(a3, scale));
}

/* Turns a row's scores into exp(score - largest); gives back largest and sum. */
static float soften(float *score, uint32_t n, float *sum)
{
    ap_lanes best = lanes_set(-INFINITY);
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        best = lanes_max(best, lanes_load(score + i));
    float largest = lanes_largest(best);
    for (; i < n; i++)
        largest = largest > score[i] ? largest : score[i];
    ap_lanes shift = lanes_set(largest), sums = lanes_set(0);
    for (i = 0; i + LANES <= n; i += LANES) {
        ap_lanes e = lanes_exp(lanes_sub(lanes_load(score + i), shift));
        lanes_store(score + i, e);
        sums = lanes_add(sums, e);
    }
    if (i < n) {
        lanes_store_some(score + i, lanes_exp(lanes_sub(lanes_load_some(score + i, n - i), shift)), n - i);
        sums = lanes_add(sums, lanes_load_some(score + i, n - i));
    }
    *sum = lanes_sum(sums);
    return largest;
}

/* Values of dimensions d … for ROWS rows, chains over the keys [from, to) of the segment. */
static inline void add_values(const ap_attend_job *job, const segment *s, uint32_t d, uint32_t width, uint32_t from,
                              uint32_t to, uint32_t row_from, uint32_t row_to, ap_lanes acc[ROWS])
{
    for (uint32_t key = from; key < to; key++) {
        const AP_KV_ITEM *at = value_of(job, s->begin + key) + d;
        ap_lanes v = width == LANES ? AP_KV_LANES(at) : AP_KV_LANES_SOME(at, width);
        for (uint32_t r = row_from; r < row_to; r++)
            acc[r] = lanes_fma(lanes_set(s->score[r][key]), v, acc[r]);
    }
}

/* The same for VALUE_TILE whole lanes of dimensions and all rows, over keys that every row sees. */
static inline void add_values_tile(const ap_attend_job *job, const segment *s, uint32_t d, uint32_t to,
                                   ap_lanes acc[VALUE_TILE][ROWS])
{
    ap_lanes a[VALUE_TILE][ROWS];
    for (uint32_t i = 0; i < VALUE_TILE; i++)
        for (uint32_t r = 0; r < ROWS; r++)
            a[i][r] = acc[i][r];
    for (uint32_t key = 0; key < to; key++) {
        const AP_KV_ITEM *at = value_of(job, s->begin + key) + d;
        ap_lanes p0 = lanes_set(s->score[0][key]), p1 = lanes_set(s->score[1][key]);
        ap_lanes p2 = lanes_set(s->score[2][key]), p3 = lanes_set(s->score[3][key]);
        for (uint32_t i = 0; i < VALUE_TILE; i++) {
            ap_lanes v = AP_KV_LANES(at + i * LANES);
            a[i][0] = lanes_fma(p0, v, a[i][0]);
            a[i][1] = lanes_fma(p1, v, a[i][1]);
            a[i][2] = lanes_fma(p2, v, a[i][2]);
            a[i][3] = lanes_fma(p3, v, a[i][3]);
        }
    }
    for (uint32_t i = 0; i < VALUE_TILE; i++)
        for (uint32_t r = 0; r < ROWS; r++)
            acc[i][r] = a[i][r];
}

/* Joins a segment's part of a row (16 dimensions or fewer) to what came before. */
static inline void merge(rows *r, uint32_t row, uint32_t d, uint32_t width, float old_share, float new_share, ap_lanes part)
{
    float lanes[LANES];
    lanes_store(lanes, part);
    for (uint32_t i = 0; i < width; i++)
        r->value[row][d + i] = fmaf(lanes[i], new_share, r->value[row][d + i] * old_share);
}

static void run_segment(const ap_attend_job *job, rows *r, segment *s)
{
    uint32_t seen_all = UINT32_MAX;
    s->seen_max = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        uint32_t beyond = r->visible[i] > s->begin ? r->visible[i] - s->begin : 0;
        s->seen[i] = beyond < AP_SEGMENT_TOKENS ? beyond : AP_SEGMENT_TOKENS;
        s->seen_max = s->seen[i] > s->seen_max ? s->seen[i] : s->seen_max;
        seen_all = s->seen[i] < seen_all ? s->seen[i] : seen_all;
    }
    if (s->seen_max == 0)
        return;
    for (uint32_t at = 0; at < s->seen_max; at += AP_KEY_GROUP)
        score_group(job, r, keys_of(job, s->begin + at), s, at);

    float old_share[ROWS], new_share[ROWS];
    for (uint32_t i = 0; i < r->count; i++) {
        if (s->seen[i] == 0)
            continue;
        float sum, largest = soften(s->score[i], s->seen[i], &sum);
        float both = r->largest[i] > largest ? r->largest[i] : largest;
        old_share[i] = ap_expf(r->largest[i] - both);
        new_share[i] = ap_expf(largest - both);
        r->sum[i] = fmaf(sum, new_share[i], r->sum[i] * old_share[i]);
        r->largest[i] = both;
    }

    uint32_t width = job->layout->head_width, d = 0;
    /* Rows that are not there read scores of another row's memory; their sums are dropped. */
    for (; d + VALUE_TILE * LANES <= width; d += VALUE_TILE * LANES) {
        ap_lanes acc[VALUE_TILE][ROWS];
        for (uint32_t i = 0; i < VALUE_TILE; i++)
            for (uint32_t row = 0; row < ROWS; row++)
                acc[i][row] = lanes_set(0);
        add_values_tile(job, s, d, seen_all, acc);
        for (uint32_t i = 0; i < VALUE_TILE; i++)
            for (uint32_t row = 0; row < r->count; row++) {
                if (s->seen[row] == 0)
                    continue;
                add_values(job, s, d + i * LANES, LANES, seen_all, s->seen[row], row, row + 1, acc[i]);
                merge(r, row, d + i * LANES, LANES, old_share[row], new_share[row], acc[i][row]);
            }
    }
    for (; d < width; d += LANES) {
        uint32_t part = width - d < LANES ? width - d : LANES;
        for (uint32_t row = 0; row < r->count; row++) {
            if (s->seen[row] == 0)
                continue;
            ap_lanes acc[ROWS];
            acc[row] = lanes_set(0);
            add_values(job, s, d, part, 0, s->seen[row], row, row + 1, acc);
            merge(r, row, d, part, old_share[row], new_share[row], acc[row]);
        }
    }
}

static void attend_rows(const ap_attend_job *job, rows *r)
{
    segment s;
    uint32_t width = job->layout->head_width, visible_max = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        r->largest[i] = -INFINITY;
        r->sum[i] = 0;
        for (uint32_t d = 0; d < width; d++)
            r->value[i][d] = 0;
        visible_max = r->visible[i] > visible_max ? r->visible[i] : visible_max;
    }
    for (uint32_t i = r->count; i < ROWS; i++) {
        r->q[i] = r->q[0]; /* computed along, never used */
        for (uint32_t key = 0; key < AP_SEGMENT_TOKENS; key++)
            s.score[i][key] = 0;
    }
    for (s.begin = 0; s.begin < visible_max; s.begin += AP_SEGMENT_TOKENS)
        run_segment(job, r, &s);
    for (uint32_t i = 0; i < r->count; i++)
        for (uint32_t d = 0; d < width; d++)
            r->out[i][d] = r->value[i][d] / r->sum[i];
}

static void attend(const ap_attend_job *job)
{
    rows r;
    r.count = 0;
    for (uint32_t t = 0; t < job->count; t++)
        for (uint32_t g = 0; g < job->group; g++) {
            size_t at = t * job->stride + (size_t)g * job->layout->head_width;
            r.q[r.count] = job->q + at;
            r.out[r.count] = job->out + at;
            r.visible[r.count] = job->position + t + 1;
            bool is_last = t + 1 == job->count && g + 1 == job->group;
            if (++r.count == ROWS || is_last) {
                attend_rows(job, &r);
                r.count = 0;
            }
        }
}

void AP_ATTENTION_INSTALL(ap_kernels *kernels) { kernels->attention.attend[AP_ATTEND_INDEX] = attend; }
