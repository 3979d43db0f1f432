/* attention_tmpl.c - attention, compiled once per level and KV type.
 *
 * AP_LANES_H: the level's lanes header; AP_KV_ITEM: the stored type; AP_KV_LANES: the operation
 * that loads 16 of them; AP_KV_LANES_SOME: the first n < 16; AP_ATTEND_INDEX, AP_ATTENTION_INSTALL.
 * Codes (q8) are multiplied by their scale as they are loaded, which is exact.
 *
 * Query rows (a token and one of its heads) are taken up to ROWS at a time: each loaded key or
 * value serves all of them.  How many share a load does not touch a row's own chain.  The
 * inner functions are compiled once for each number of rows, so that sums stay in
 * registers and one row alone (decoding) pays for one.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <math.h>

#include "kernel/attention.h"
#include "kernel/level.h"
#include "kernel/elementary.h"
#include "quant/half.h"

#include AP_LANES_H
#include "kernel/lanes_math.h"

enum { ROWS = LANES_ROWS, LANES = 16, LINE = 64, HAS_SCALES = AP_ATTEND_INDEX == AP_KV_Q8 };

#define AP_INLINE static inline __attribute__((always_inline))

/* The rows at hand, and what the segments so far made of each. */
typedef struct rows {
    uint32_t count;
    uint32_t first[ROWS], visible[ROWS]; /* keys first … visible - 1 */
    float slope[ROWS];
    float *out[ROWS];
    float largest[ROWS], sum[ROWS];
    _Alignas(64) float q[AP_HEAD_WIDTH_MAX * ROWS]; /* [dimension][row] */
    float value[ROWS][AP_HEAD_WIDTH_MAX];
} rows;

/* A segment's own part of each row. */
typedef struct segment {
    uint32_t begin;
    /* Each row sees the keys from … seen - 1 of this segment; both are 0 where it sees none. */
    uint32_t from[ROWS], seen[ROWS];
    uint32_t from_all, seen_all; /* the keys that all rows see, if from_all < seen_all */
    uint32_t from_min, seen_max; /* those that any row sees */
    /* First scores, then exp(score - largest).  Rows are not a power of two apart, or all would
     * fall into one set of the cache. */
    _Alignas(64) float score[ROWS][AP_SEGMENT_TOKENS + LANES];
    float value[ROWS][AP_HEAD_WIDTH_MAX];
} segment;

static const AP_KV_ITEM *keys_of(const ap_attend_job *job, uint32_t position)
{
    const ap_kv_layout *l = job->layout;
    const unsigned char *page = job->pages[position / AP_PAGE_TOKENS];
    return (const AP_KV_ITEM *)(const void *)(page + job->layer * l->layer_bytes + job->kv_head * l->head_bytes);
}

static const AP_KV_ITEM *values_of(const ap_attend_job *job, uint32_t position)
{
    const ap_kv_layout *l = job->layout;
    const unsigned char *page = job->pages[position / AP_PAGE_TOKENS];
    return (const AP_KV_ITEM *)(const void *)(page + job->layer * l->layer_bytes +
                                              (l->kv_head_count + job->kv_head) * l->head_bytes);
}

/* Of a group's keys at the dimensions of one block, one a lane. */
AP_INLINE ap_lanes key_scales(const AP_KV_ITEM *group, uint32_t width, uint32_t d)
{
    const uint16_t *scales = (const uint16_t *)(const void *)(group + (size_t)AP_KEY_GROUP * width);
    return lanes_load_bf16(scales + d / AP_KV_BLOCK * AP_KEY_GROUP);
}

/* Of one value at dimension d; `head` is where values_of begins. */
AP_INLINE ap_lanes value_scale(const AP_KV_ITEM *head, uint32_t width, uint32_t slot, uint32_t d)
{
    const uint16_t *scales = (const uint16_t *)(const void *)(head + (size_t)AP_PAGE_TOKENS * width);
    return lanes_set(ap_f32_of_bf16(scales[slot * ap_kv_block_count(width) + d / AP_KV_BLOCK]));
}

/* From one group of keys to the next. */
static size_t group_items(const ap_attend_job *job)
{
    return job->layout->head_bytes / AP_PAGE_TOKENS * AP_KEY_GROUP / sizeof(AP_KV_ITEM);
}

/* Scores of `groups` (1 or 2) groups of 16 keys for `count` rows: chains over the dimensions.
 * As many bytes of `ahead` are asked for as are read: into the second cache, where they arrive
 * in time and push nothing out (bench/LOG.md). */
AP_INLINE void score_groups(const ap_attend_job *job, const rows *r, const AP_KV_ITEM *keys, const AP_KV_ITEM *ahead,
                            segment *s, uint32_t at, uint32_t groups, uint32_t count)
{
    uint32_t width = job->layout->head_width;
    size_t stride = group_items(job);
    ap_lanes sum[ROWS][2], k_scale[2];
    for (uint32_t g = 0; g < groups; g++) {
        k_scale[g] = lanes_set(0);
        for (uint32_t i = 0; i < count; i++)
            sum[i][g] = lanes_set(0);
    }
    for (uint32_t d = 0; d < width; d++) {
        ap_lanes k[2];
        for (uint32_t g = 0; g < groups; g++) {
            k[g] = AP_KV_LANES(keys + g * stride + (size_t)d * LANES);
            if (HAS_SCALES && d % AP_KV_BLOCK == 0)
                k_scale[g] = key_scales(keys + g * stride, width, d);
            if (HAS_SCALES)
                k[g] = lanes_mul(k[g], k_scale[g]);
        }
        for (uint32_t i = 0; i < count; i++) {
            ap_lanes q = lanes_set(r->q[d * count + i]);
            for (uint32_t g = 0; g < groups; g++)
                sum[i][g] = lanes_fma(q, k[g], sum[i][g]);
        }
        for (uint32_t line = 0; line < (groups * LANES * sizeof *ahead + LINE - 1) / LINE; line++)
            __builtin_prefetch(ahead + (size_t)d * groups * LANES + line * (LINE / sizeof *ahead), 0, 2);
    }
    ap_lanes scale = lanes_set(job->scale);
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t g = 0; g < groups; g++)
            lanes_store(&s->score[i][at + g * LANES], lanes_mul(sum[i][g], scale));
}

AP_INLINE void score_segment(const ap_attend_job *job, const rows *r, segment *s, uint32_t count)
{
    size_t second = group_items(job);
    for (uint32_t at = s->from_min / AP_PAGE_TOKENS * AP_PAGE_TOKENS; at < s->seen_max; at += AP_PAGE_TOKENS) {
        const AP_KV_ITEM *keys = keys_of(job, s->begin + at);
        const AP_KV_ITEM *ahead = at + AP_PAGE_TOKENS < s->seen_max ? keys_of(job, s->begin + at + AP_PAGE_TOKENS)
                                                                    : values_of(job, s->begin);
        bool is_half = s->seen_max - at <= AP_KEY_GROUP;
        if (2 * count <= LANES_HELD && !is_half) {
            score_groups(job, r, keys, ahead, s, at, 2, count);
        } else {
            score_groups(job, r, keys, ahead, s, at, 1, count);
            if (!is_half)
                score_groups(job, r, keys + second, ahead + second, s, at + AP_KEY_GROUP, 1, count);
        }
    }
}

/* Caps a row's scores and lets them fall with the distance. */
static void bend(const ap_attend_job *job, const rows *r, segment *s, uint32_t row)
{
    static const float lane[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    ap_lanes cap = lanes_set(job->cap), slope = lanes_set(-r->slope[row]);
    for (uint32_t at = s->from[row] / LANES * LANES; at < s->seen[row]; at += LANES) {
        ap_lanes v = lanes_load(&s->score[row][at]);
        if (job->cap > 0)
            v = lanes_mul(cap, lanes_tanh(lanes_div(v, cap)));
        if (job->slopes) {
            float distance = (float)(int32_t)(r->visible[row] - 1 - s->begin - at);
            v = lanes_fma(slope, lanes_sub(lanes_set(distance), lanes_load(lane)), v);
        }
        lanes_store(&s->score[row][at], v);
    }
}

/* Turns a row's scores from … n - 1 into exp(score - largest); gives back largest and sum. */
static float soften(float *score, uint32_t from, uint32_t n, float *sum)
{
    /* Of lanes outside exp makes +0, which alters no partial sum. */
    uint32_t begin = from / LANES * LANES, whole = (n + LANES - 1) / LANES * LANES;
    for (uint32_t i = begin; i < from; i++)
        score[i] = -INFINITY;
    for (uint32_t i = n; i < whole; i++)
        score[i] = -INFINITY;
    ap_lanes best = lanes_load(score + begin), sums = lanes_set(0);
    for (uint32_t i = begin + LANES; i < whole; i += LANES)
        best = lanes_max(best, lanes_load(score + i));
    float largest = lanes_largest(best);
    ap_lanes shift = lanes_set(largest);
    for (uint32_t i = begin; i < whole; i += LANES) {
        ap_lanes e = lanes_exp(lanes_sub(lanes_load(score + i), shift));
        lanes_store(score + i, e);
        sums = lanes_add(sums, e);
    }
    *sum = lanes_sum(sums);
    return largest;
}

/* Values of `tile` whole lanes of dimensions from d on, for the rows from `first` on: chains over
 * the keys [from, to) of the segment that go on from what s->value holds. */
AP_INLINE void add_values(const ap_attend_job *job, segment *s, uint32_t d, uint32_t tile, uint32_t from, uint32_t to,
                          uint32_t first, uint32_t count)
{
    uint32_t width = job->layout->head_width;
    ap_lanes sum[4][ROWS];
    for (uint32_t t = 0; t < tile; t++)
        for (uint32_t i = 0; i < count; i++)
            sum[t][i] = lanes_load(&s->value[first + i][d + t * LANES]);
    while (from < to) {
        uint32_t slot = from % AP_PAGE_TOKENS, left = AP_PAGE_TOKENS - slot, keys = to - from < left ? to - from : left;
        const AP_KV_ITEM *head = values_of(job, s->begin + from), *at = head + (size_t)slot * width + d;
        const AP_KV_ITEM *ahead = from + left < to ? values_of(job, s->begin + from + left) + d : at;
        for (uint32_t key = from; key < from + keys; key++, at += width, ahead += width) {
            ap_lanes p[ROWS];
            for (uint32_t i = 0; i < count; i++)
                p[i] = lanes_set(s->score[first + i][key]);
            for (uint32_t t = 0; t < tile; t++) {
                ap_lanes v = AP_KV_LANES(at + t * LANES);
                if (HAS_SCALES)
                    v = lanes_mul(v, value_scale(head, width, slot + key - from, d + t * LANES));
                for (uint32_t i = 0; i < count; i++)
                    sum[t][i] = lanes_fma(p[i], v, sum[t][i]);
            }
            for (uint32_t line = 0; line < (tile * LANES * sizeof *ahead + LINE - 1) / LINE; line++)
                __builtin_prefetch(ahead + line * (LINE / sizeof *ahead), 0, 2);
        }
        from += keys;
    }
    for (uint32_t t = 0; t < tile; t++)
        for (uint32_t i = 0; i < count; i++)
            lanes_store(&s->value[first + i][d + t * LANES], sum[t][i]);
}

/* The same for the last dimensions, fewer than 16. */
AP_INLINE void add_values_some(const ap_attend_job *job, segment *s, uint32_t d, uint32_t from, uint32_t to,
                               uint32_t first, uint32_t count)
{
    uint32_t width = job->layout->head_width;
    ap_lanes sum[ROWS];
    for (uint32_t i = 0; i < count; i++)
        sum[i] = lanes_load(&s->value[first + i][d]);
    for (uint32_t key = from; key < to; key++) {
        uint32_t slot = key % AP_PAGE_TOKENS;
        const AP_KV_ITEM *head = values_of(job, s->begin + key);
        ap_lanes v = AP_KV_LANES_SOME(head + (size_t)slot * width + d, width - d);
        if (HAS_SCALES)
            v = lanes_mul(v, value_scale(head, width, slot, d));
        for (uint32_t i = 0; i < count; i++)
            sum[i] = lanes_fma(lanes_set(s->score[first + i][key]), v, sum[i]);
    }
    for (uint32_t i = 0; i < count; i++)
        lanes_store(&s->value[first + i][d], sum[i]);
}

AP_INLINE void value_rows(const ap_attend_job *job, segment *s, uint32_t from, uint32_t to, uint32_t first, uint32_t count)
{
    uint32_t width = job->layout->head_width, d = 0;
    if (4 * count <= LANES_HELD)
        for (; d + 4 * LANES <= width; d += 4 * LANES)
            add_values(job, s, d, 4, from, to, first, count);
    if (2 * count <= LANES_HELD)
        for (; d + 2 * LANES <= width; d += 2 * LANES)
            add_values(job, s, d, 2, from, to, first, count);
    for (; d + LANES <= width; d += LANES)
        add_values(job, s, d, 1, from, to, first, count);
    if (d < width)
        add_values_some(job, s, d, from, to, first, count);
}

static void value_one_row(const ap_attend_job *job, segment *s, uint32_t from, uint32_t to, uint32_t row)
{
    value_rows(job, s, from, to, row, 1);
}

/* Joins the segment to what came before it. */
static void merge(rows *r, const segment *s, uint32_t width, const float *sum, const float *largest)
{
    _Static_assert(2 * ROWS <= LANES, "the shares of all rows are one exp");
    float difference[LANES] = {0}, share[LANES];
    for (uint32_t i = 0; i < r->count; i++) {
        if (s->seen[i] == 0)
            continue;
        float both = r->largest[i] > largest[i] ? r->largest[i] : largest[i];
        difference[i] = r->largest[i] - both;
        difference[ROWS + i] = largest[i] - both;
        r->largest[i] = both;
    }
    lanes_store(share, lanes_exp(lanes_load(difference)));
    for (uint32_t i = 0; i < r->count; i++) {
        if (s->seen[i] == 0)
            continue;
        float old_share = share[i], new_share = share[ROWS + i];
        r->sum[i] = fmaf(sum[i], new_share, r->sum[i] * old_share);
        for (uint32_t d = 0; d < width; d += LANES)
            lanes_store(&r->value[i][d], lanes_fma(lanes_load(&s->value[i][d]), lanes_set(new_share),
                                                   lanes_mul(lanes_load(&r->value[i][d]), lanes_set(old_share))));
    }
}

AP_INLINE void run_segment(const ap_attend_job *job, rows *r, segment *s, uint32_t count)
{
    uint32_t width = job->layout->head_width;
    float sum[ROWS] = {0}, largest[ROWS] = {0};
    score_segment(job, r, s, count);
    for (uint32_t i = 0; i < count; i++) {
        if (s->seen[i] && (job->slopes || job->cap > 0))
            bend(job, r, s, i);
        if (s->seen[i])
            largest[i] = soften(s->score[i], s->from[i], s->seen[i], &sum[i]);
        for (uint32_t d = 0; d < width; d += LANES)
            lanes_store(&s->value[i][d], lanes_set(0));
    }
    bool is_shared = s->from_all < s->seen_all;
    uint32_t from = is_shared ? s->from_all : 0, to = is_shared ? s->seen_all : 0;
    for (uint32_t i = 0; i < count; i++)
        if (s->from[i] < from)
            value_one_row(job, s, s->from[i], from, i);
    if (is_shared)
        value_rows(job, s, from, to, 0, count);
    for (uint32_t i = 0; i < count; i++)
        if (s->seen[i] > to)
            value_one_row(job, s, is_shared ? to : s->from[i], s->seen[i], i);
    merge(r, s, width, sum, largest);
}

/* One body for each number of rows. */
static void run_segment_1(const ap_attend_job *job, rows *r, segment *s) { run_segment(job, r, s, 1); }
static void run_segment_2(const ap_attend_job *job, rows *r, segment *s) { run_segment(job, r, s, 2); }
static void run_segment_3(const ap_attend_job *job, rows *r, segment *s) { run_segment(job, r, s, 3); }
static void run_segment_4(const ap_attend_job *job, rows *r, segment *s) { run_segment(job, r, s, 4); }
static void run_segment_5(const ap_attend_job *job, rows *r, segment *s) 
{
    if (ROWS >= 5)
        run_segment(job, r, s, 5);
}
static void run_segment_6(const ap_attend_job *job, rows *r, segment *s) 
{
    if (ROWS >= 6)
        run_segment(job, r, s, 6);
}
static void run_segment_7(const ap_attend_job *job, rows *r, segment *s) 
{
    if (ROWS >= 7)
        run_segment(job, r, s, 7);
}
static void run_segment_8(const ap_attend_job *job, rows *r, segment *s)
{
    if (ROWS >= 8)
        run_segment(job, r, s, 8);
}

static void (*const run_segment_of[])(const ap_attend_job *, rows *, segment *) = {
    NULL,          run_segment_1, run_segment_2, run_segment_3, run_segment_4,
    run_segment_5, run_segment_6, run_segment_7, run_segment_8};

/* What each row sees of the segment that begins at s->begin; false: no row sees any of it. */
static bool look(const rows *r, segment *s)
{
    uint32_t end = s->begin + AP_SEGMENT_TOKENS;
    s->from_all = s->seen_max = 0;
    s->from_min = s->seen_all = AP_SEGMENT_TOKENS;
    for (uint32_t i = 0; i < r->count; i++) {
        uint32_t first = r->first[i] > s->begin ? r->first[i] : s->begin, last = r->visible[i] < end ? r->visible[i] : end;
        s->from[i] = first < last ? first - s->begin : 0;
        s->seen[i] = first < last ? last - s->begin : 0;
        s->seen_all = s->seen[i] < s->seen_all ? s->seen[i] : s->seen_all;
        s->from_all = s->from[i] > s->from_all ? s->from[i] : s->from_all;
        s->seen_max = s->seen[i] > s->seen_max ? s->seen[i] : s->seen_max;
        if (s->seen[i])
            s->from_min = s->from[i] < s->from_min ? s->from[i] : s->from_min;
    }
    return s->seen_max > 0;
}

static void run_rows(const ap_attend_job *job, rows *r)
{
    segment s;
    uint32_t visible_max = 0, first_min = UINT32_MAX, width = job->layout->head_width;
    for (uint32_t i = 0; i < r->count; i++) {
        for (uint32_t d = 0; d < width; d += LANES)
            lanes_store(&r->value[i][d], lanes_set(0));
        visible_max = r->visible[i] > visible_max ? r->visible[i] : visible_max;
        first_min = r->first[i] < first_min ? r->first[i] : first_min;
    }
    for (s.begin = first_min / AP_SEGMENT_TOKENS * AP_SEGMENT_TOKENS; s.begin < visible_max; s.begin += AP_SEGMENT_TOKENS)
        if (look(r, &s))
            run_segment_of[r->count](job, r, &s);
    for (uint32_t i = 0; i < r->count; i++) {
        ap_lanes sum = lanes_set(r->sum[i]);
        uint32_t d = 0;
        for (; d + LANES <= width; d += LANES)
            lanes_store(r->out[i] + d, lanes_div(lanes_load(&r->value[i][d]), sum));
        if (d < width)
            lanes_store_some(r->out[i] + d, lanes_div(lanes_load(&r->value[i][d]), sum), width - d);
    }
}

/* The keys first … visible - 1 of a query. */
static void set_sight(const ap_attend_job *job, rows *r, uint32_t row, uint32_t position)
{
    uint32_t reach = job->window / 2;
    if (job->end) {
        r->first[row] = job->window && position > reach ? position - reach : 0;
        r->visible[row] = job->window && job->end - position > reach + 1 ? position + reach + 1 : job->end;
    } else {
        r->visible[row] = position + 1;
        r->first[row] = job->window && position + 1 > job->window ? position + 1 - job->window : 0;
    }
}

static void attend(const ap_attend_job *job)
{
    rows r;
    uint32_t width = job->layout->head_width, total = job->count * job->group;
    for (uint32_t done = 0; done < total; done += r.count) {
        /* Evenly cut: five and four cost less than eight and one. */
        uint32_t left = total - done, pieces = (left + ROWS - 1) / ROWS;
        r.count = (left + pieces - 1) / pieces;
        for (uint32_t i = 0; i < r.count; i++) {
            uint32_t token = (done + i) / job->group, head = (done + i) % job->group;
            size_t at = token * job->stride + (size_t)head * width;
            for (uint32_t d = 0; d < width; d++)
                r.q[d * r.count + i] = job->q[at + d];
            r.out[i] = job->out + at;
            set_sight(job, &r, i, job->position + token);
            r.slope[i] = job->slopes ? job->slopes[head] : 0;
            /* A sink is a first segment of one key without a value. */
            r.largest[i] = job->sinks ? job->sinks[head] : -INFINITY;
            r.sum[i] = job->sinks ? 1 : 0;
        }
        run_rows(job, &r);
    }
}

void AP_ATTENTION_INSTALL(ap_kernels *kernels) { kernels->attention.attend[AP_ATTEND_INDEX] = attend; }
