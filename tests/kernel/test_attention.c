/* Attention over pages: the law's order written out once more in scalars, float64 with a bound
 * counted from the operations, and what does not show in a result: how keys were written, where
 * pages lie, what else they hold, how queries were cut.  Each level is asked.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "support.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "kernel/kernel.h"
#include "quant/half.h"

static const double unit = 0x1p-24; /* of one rounding, relative */

/* One layer of a sequence: what was written, the pages, the queries. */
typedef struct scene {
    ap_kv_layout layout;
    uint32_t length, group, window; /* window 0: none */
    float scale, cap;               /* cap 0: none */
    const float *slopes, *sinks;    /* of each query head, or NULL */
    float *keys, *values; /* [position][kv head][dimension] */
    unsigned char *memory;
    void **pages;
    float *q, *out; /* [position][kv head][head of the group][dimension] */
} scene;

static size_t kv_floats(const scene *s) { return (size_t)s->layout.kv_head_count * s->layout.head_width; }
static size_t q_floats(const scene *s) { return kv_floats(s) * s->group; }

static scene scene_create(ap_kv_type type, uint32_t width, uint32_t kv_heads, uint32_t group, uint32_t length, uint64_t seed)
{
    scene s = {.layout = ap_kv_layout_of(type, 2, kv_heads, width), .length = length, .group = group,
               .scale = 1.0f / sqrtf((float)width)};
    uint32_t page_count = (length + AP_PAGE_TOKENS - 1) / AP_PAGE_TOKENS;
    s.keys = ap_alloc_array(length * kv_floats(&s), sizeof(float));
    s.values = ap_alloc_array(length * kv_floats(&s), sizeof(float));
    s.q = ap_alloc_array(length * q_floats(&s), sizeof(float));
    s.out = ap_alloc_array(length * q_floats(&s), sizeof(float));
    s.memory = ap_alloc_aligned(page_count * s.layout.page_bytes);
    s.pages = ap_alloc_array(page_count, sizeof *s.pages);
    for (size_t i = 0; i < length * kv_floats(&s); i++) {
        s.keys[i] = ap_test_uniform(&seed);
        s.values[i] = ap_test_uniform(&seed);
    }
    for (size_t i = 0; i < length * q_floats(&s); i++)
        s.q[i] = 3 * ap_test_uniform(&seed);
    for (uint32_t i = 0; i < page_count; i++)
        s.pages[i] = s.memory + i * s.layout.page_bytes;
    memset(s.memory, 0xff, page_count * s.layout.page_bytes); /* NaN */
    return s;
}

static void scene_destroy(scene *s)
{
    ap_free(s->keys);
    ap_free(s->values);
    ap_free(s->q);
    ap_free(s->out);
    ap_free(s->memory);
    ap_free(s->pages);
}

static void write_one(scene *s, uint32_t position)
{
    ap_kv_write(&s->layout, s->pages[position / AP_PAGE_TOKENS], 1, position, s->keys + position * kv_floats(s),
                s->values + position * kv_floats(s));
}

static void write_all(scene *s)
{
    for (uint32_t position = 0; position < s->length; position++) {
        if (position % AP_KEY_GROUP == 0)
            ap_kv_clear_group(&s->layout, s->pages[position / AP_PAGE_TOKENS], position);
        write_one(s, position);
    }
}

static void attend(const scene *s, const ap_kernels *kernels, uint32_t position, uint32_t count)
{
    for (uint32_t h = 0; h < s->layout.kv_head_count; h++) {
        size_t at = position * q_floats(s) + (size_t)h * s->group * s->layout.head_width;
        ap_attend_job job = {.layout = &s->layout, .pages = s->pages, .layer = 1, .kv_head = h, .position = position,
                             .count = count, .group = s->group, .window = s->window, .scale = s->scale,
                             .cap = s->cap, .slopes = s->slopes ? s->slopes + h * s->group : NULL,
                             .sinks = s->sinks ? s->sinks + h * s->group : NULL, .q = s->q + at, .out = s->out + at,
                             .stride = q_floats(s)};
        kernels->attention.attend[s->layout.type](&job);
    }
}

/* Queries [begin, end), `tile` at a time. */
static void attend_range(scene *s, const ap_kernels *kernels, uint32_t begin, uint32_t end, uint32_t tile)
{
    for (uint32_t at = begin; at < end; at += tile)
        attend(s, kernels, at, end - at < tile ? end - at : tile);
}

static ap_kernels kernels_of(ap_isa isa)
{
    ap_kernels kernels;
    assert_ok(ap_kernels_get(isa, &kernels, err));
    return kernels;
}

/* The scale of a block of 8-bit codes: bf16, not below the largest magnitude / 127. */
static float scale_of(const float *x, uint32_t count)
{
    float largest = 0;
    for (uint32_t i = 0; i < count; i++)
        largest = fmaxf(largest, fabsf(x[i]));
    float scale = ap_f32_of_bf16((uint16_t)(ap_bits_of_float(largest / 127) >> 16));
    return scale < largest / 127 ? ap_f32_of_bf16((uint16_t)((ap_bits_of_float(largest / 127) >> 16) + 1)) : scale;
}

/* Number d of a key or value, as it is read back. */
static float stored(const scene *s, const float *x, uint32_t d)
{
    if (s->layout.type != AP_KV_Q8)
        return s->layout.type == AP_KV_F32 ? x[d] : ap_f32_of_f16(ap_f16_of_f32(x[d]));
    uint32_t begin = d / 32 * 32, left = s->layout.head_width - begin;
    float scale = scale_of(x + begin, left < 32 ? left : 32);
    return rintf(x[d] * (1 / scale)) * scale;
}

/* ---- The law in scalars ---- */

/* A key that the window hides is skipped; j counts from the segment's begin all the same. */
static void attend_by_the_law(const scene *s, uint32_t position, uint32_t head, const float *q, float *out)
{
    ap_kernels plain = kernels_of(AP_ISA_PLAIN);
    uint32_t width = s->layout.head_width, kv_head = head / s->group;
    uint32_t first = s->window && position + 1 > s->window ? position + 1 - s->window : 0;
    float largest = s->sinks ? s->sinks[head] : -INFINITY, sum = s->sinks ? 1 : 0;
    float value[AP_HEAD_WIDTH_MAX] = {0}, e[AP_SEGMENT_TOKENS];
    for (uint32_t begin = 0; begin <= position; begin += AP_SEGMENT_TOKENS) {
        uint32_t n = position + 1 - begin < AP_SEGMENT_TOKENS ? position + 1 - begin : AP_SEGMENT_TOKENS;
        uint32_t from = first > begin ? first - begin : 0;
        float best = -INFINITY, part[16] = {0};
        if (from >= n)
            continue;
        for (uint32_t j = from; j < n; j++) {
            const float *key = s->keys + (begin + j) * kv_floats(s) + kv_head * width;
            float score = 0;
            for (uint32_t d = 0; d < width; d++)
                score = fmaf(q[d], stored(s, key, d), score);
            e[j] = score * s->scale;
            if (s->cap > 0)
                plain.vec.softcap(&e[j], s->cap, 1);
            if (s->slopes)
                e[j] = fmaf(-s->slopes[head], (float)(position - begin - j), e[j]);
            best = best > e[j] ? best : e[j];
        }
        for (uint32_t j = from; j < n; j++) {
            e[j] = ap_expf(e[j] - best);
            part[j % 16] += e[j];
        }
        for (int step = 8; step; step /= 2)
            for (int i = 0; i < step; i++)
                part[i] += part[i + step];
        float both = largest > best ? largest : best;
        float old = ap_expf(largest - both), new = ap_expf(best - both);
        sum = fmaf(part[0], new, sum * old);
        for (uint32_t d = 0; d < width; d++) {
            float chain = 0;
            for (uint32_t j = from; j < n; j++)
                chain = fmaf(e[j], stored(s, s->values + (begin + j) * kv_floats(s) + kv_head * width, d), chain);
            value[d] = fmaf(chain, new, value[d] * old);
        }
        largest = both;
    }
    for (uint32_t d = 0; d < width; d++)
        out[d] = value[d] / sum;
}

static void every_level_follows_the_order_of_the_law(void **state)
{
    static const struct {
        uint32_t width, kv_heads, group, begin, end, window;
        float cap;
        bool has_slopes, has_sinks;
    } shapes[] = {{64, 1, 3, 0, 40},     {64, 1, 1, 1020, 1030}, {16, 2, 4, 2040, 2060}, {18, 2, 5, 1010, 1041},
                  {128, 1, 2, 100, 117}, {2, 1, 9, 0, 33},       {80, 1, 1, 0, 20},      {256, 1, 1, 1024, 1026},
                  /* Windows below a tile, across a page, a segment and two; then each feature and all of them. */
                  {16, 1, 3, 0, 40, 1},  {32, 1, 2, 1015, 1040, 5}, {18, 2, 5, 1010, 1041, 40}, {16, 1, 1, 2045, 2050, 1030},
                  {16, 2, 4, 2040, 2060, 12}, {64, 1, 3, 0, 40, 0, 2}, {16, 1, 3, 1020, 1030, 0, 0, true},
                  {32, 2, 3, 1020, 1030, 0, 0, false, true}, {16, 2, 3, 1020, 1041, 20, 1.5f, true, true}};
    static const float slopes[] = {0.5f, 0.25f, 0.01f, 2, 0.125f, 1}, sinks[] = {1, -2, 0, 3, 0.5f, -100};
    float want[AP_HEAD_WIDTH_MAX];
    for (int type = 0; type < AP_KV_TYPE_COUNT; type++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            scene s = scene_create((ap_kv_type)type, shapes[i].width, shapes[i].kv_heads, shapes[i].group, shapes[i].end, i);
            s.window = shapes[i].window;
            s.cap = shapes[i].cap;
            s.slopes = shapes[i].has_slopes ? slopes : NULL;
            s.sinks = shapes[i].has_sinks ? sinks : NULL;
            write_all(&s);
            for (unsigned isa = 0; isa < AP_ISA_COUNT; isa++) {
                ap_kernels kernels;
                ap_error err;
                if (ap_kernels_get((ap_isa)isa, &kernels, &err) != AP_OK)
                    continue;
                attend_range(&s, &kernels, shapes[i].begin, shapes[i].end, 11);
                for (uint32_t position = shapes[i].begin; position < shapes[i].end; position++)
                    for (uint32_t h = 0; h < shapes[i].kv_heads * shapes[i].group; h++) {
                        size_t at = position * q_floats(&s) + (size_t)h * shapes[i].width;
                        attend_by_the_law(&s, position, h, s.q + at, want);
                        assert_memory_equal(s.out + at, want, shapes[i].width * sizeof *want);
                    }
            }
            scene_destroy(&s);
        }
}

/* Against float64 on the stored keys and values.  With u = 2^-24, S a bound of the sums of |q k| times
 * scale and |v| <= 1: a score is off by (width + 1) u S, what exp is given by that, the same of the
 * largest and a rounding of at most 2 S u, exp adds 2 u; so a weight is off by w = 2 (width + 2) S u + 2 u
 * relative.  The sum adds 64 + 4 roundings, a chain of values 1024, each joint of segments 2 and its
 * exp's w; the quotient one.  Numerator and denominator each may be off by that. */
static void results_are_as_exact_as_their_operations_allow(void **state)
{
    ap_kernels kernels = kernels_of(ap_isa_detect());
    static const uint32_t positions[] = {0, 1, 15, 16, 1023, 1024, 1500, 2999};
    for (int type = 0; type < AP_KV_TYPE_COUNT; type++) {
        uint32_t width = 64;
        scene s = scene_create((ap_kv_type)type, width, 1, 2, 3000, 77);
        write_all(&s);
        double *e = ap_alloc_array(3000, sizeof *e);
        for (size_t p = 0; p < sizeof positions / sizeof *positions; p++) {
            uint32_t position = positions[p], segments = position / AP_SEGMENT_TOKENS + 1;
            attend(&s, &kernels, position, 1);
            for (uint32_t h = 0; h < 2; h++) {
                const float *q = s.q + position * q_floats(&s) + h * width, *got = s.out + position * q_floats(&s) + h * width;
                double largest = -INFINITY, sum = 0, most = 0;
                for (uint32_t j = 0; j <= position; j++) {
                    double score = 0, magnitude = 0;
                    for (uint32_t d = 0; d < width; d++) {
                        double product = (double)q[d] * (double)stored(&s, s.keys + j * width, d);
                        score += product;
                        magnitude += fabs(product);
                    }
                    e[j] = score * (double)s.scale;
                    largest = fmax(largest, e[j]);
                    most = fmax(most, magnitude * (double)s.scale);
                }
                for (uint32_t j = 0; j <= position; j++)
                    sum += e[j] = exp(e[j] - largest);
                double w = (2 * (width + 2) * most + 2) * unit;
                double bound = 2 * (w + (AP_SEGMENT_TOKENS + 68) * unit + segments * (w + 2 * unit)) + unit;
                for (uint32_t d = 0; d < width; d++) {
                    double exact = 0;
                    for (uint32_t j = 0; j <= position; j++)
                        exact += e[j] / sum * (double)stored(&s, s.values + j * width, d);
                    assert_true(fabs((double)got[d] - exact) <= bound);
                    /* What happens is far below what may happen. */
                    assert_true(fabs((double)got[d] - exact) <= 2e-6);
                }
            }
        }
        ap_free(e);
        scene_destroy(&s);
    }
}

/* ---- What does not show ---- */

enum { LONG = 3000 };

/* Queries 0 … LONG - 1, one by one, each as soon as its own key is written: decoding, step by step. */
static scene decoded_one_by_one(ap_kv_type type, const ap_kernels *kernels)
{
    scene s = scene_create(type, 16, 1, 3, LONG, 5);
    for (uint32_t position = 0; position < LONG; position++) {
        if (position % AP_KEY_GROUP == 0)
            ap_kv_clear_group(&s.layout, s.pages[position / AP_PAGE_TOKENS], position);
        write_one(&s, position);
        attend(&s, kernels, position, 1);
    }
    return s;
}

static void neither_chunks_nor_tiles_show(void **state)
{
    static const uint32_t tiles[] = {2, 7, 16, 61, 64, 333, LONG};
    ap_kernels kernels = kernels_of(ap_isa_detect());
    for (int type = 0; type < AP_KV_TYPE_COUNT; type++) {
        scene s = decoded_one_by_one((ap_kv_type)type, &kernels);
        scene other = scene_create((ap_kv_type)type, 16, 1, 3, LONG, 5);
        write_all(&other); /* so early queries find later keys in their pages */
        for (size_t i = 0; i < sizeof tiles / sizeof *tiles; i++) {
            memset(other.out, 0, LONG * q_floats(&other) * sizeof(float));
            attend_range(&other, &kernels, 0, LONG, tiles[i]);
            assert_memory_equal(other.out, s.out, LONG * q_floats(&s) * sizeof(float));
        }
        scene_destroy(&s);
        scene_destroy(&other);
    }
}

static void neither_the_place_of_pages_nor_the_order_of_writing_shows(void **state)
{
    ap_kernels kernels = kernels_of(ap_isa_detect());
    scene s = decoded_one_by_one(AP_KV_F16, &kernels), other = scene_create(AP_KV_F16, 16, 1, 3, LONG, 5);
    uint32_t order[LONG], page_count = (LONG + AP_PAGE_TOKENS - 1) / AP_PAGE_TOKENS;
    uint64_t random = 8;
    for (uint32_t i = page_count - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(ap_test_random(&random) % (i + 1));
        void *page = other.pages[i];
        other.pages[i] = other.pages[j];
        other.pages[j] = page;
    }
    for (uint32_t i = 0; i < LONG; i++) {
        order[i] = i;
        if (i % AP_KEY_GROUP == 0)
            ap_kv_clear_group(&other.layout, other.pages[i / AP_PAGE_TOKENS], i);
    }
    for (uint32_t i = LONG - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(ap_test_random(&random) % (i + 1)), position = order[i];
        order[i] = order[j];
        order[j] = position;
    }
    for (uint32_t i = 0; i < LONG; i++)
        write_one(&other, order[i]);
    attend_range(&other, &kernels, 0, LONG, 16);
    assert_memory_equal(other.out, s.out, LONG * q_floats(&s) * sizeof(float));
    scene_destroy(&s);
    scene_destroy(&other);
}

/* ---- Values that are known ---- */

static void a_first_token_sees_its_own_value_alone(void **state)
{
    scene s = scene_create(AP_KV_F16, 64, 1, 1, 1, 3);
    write_all(&s);
    for (unsigned isa = 0; isa < AP_ISA_COUNT; isa++) {
        ap_kernels kernels;
        ap_error err;
        if (ap_kernels_get((ap_isa)isa, &kernels, &err) != AP_OK)
            continue;
        attend(&s, &kernels, 0, 1);
        for (uint32_t d = 0; d < 64; d++)
            assert_true(s.out[d] == stored(&s, s.values, d));
    }
    scene_destroy(&s);
}

static void equal_scores_give_the_mean_and_a_far_larger_one_takes_all(void **state)
{
    ap_kernels kernels = kernels_of(ap_isa_detect());
    uint32_t width = 16, length = 2048 + 7, chosen = 1500;
    scene s = scene_create(AP_KV_F32, width, 1, 1, length, 3);
    for (uint32_t position = 0; position < length; position++)
        for (uint32_t d = 0; d < width; d++) {
            s.keys[position * width + d] = d == 0 ? 1.0f : d == 1 && position == chosen ? 1.0f : 0.0f;
            s.values[position * width + d] = (float)(position % 2);
        }
    write_all(&s);
    float *q = s.q + (length - 1) * width, *out = s.out + (length - 1) * width;
    memset(q, 0, width * sizeof *q);
    q[0] = 5;
    attend(&s, &kernels, length - 1, 1);
    for (uint32_t d = 0; d < width; d++) /* all sums are of small integers, so exact */
        assert_true(out[d] == (float)(length / 2) / (float)length);
    q[1] = 1000; /* 250 above the others: exp(-250) is +0 */
    s.scale = 0.25f;
    attend(&s, &kernels, length - 1, 1);
    for (uint32_t d = 0; d < width; d++)
        assert_true(out[d] == (float)(chosen % 2));
    scene_destroy(&s);
}

static void a_poisoned_key_reaches_those_after_it_and_nobody_before(void **state)
{
    for (unsigned isa = 0; isa < AP_ISA_COUNT; isa++) {
        ap_kernels kernels;
        ap_error err;
        if (ap_kernels_get((ap_isa)isa, &kernels, &err) != AP_OK)
            continue;
        scene s = scene_create(AP_KV_F16, 16, 1, 3, 100, 3);
        s.keys[41 * 16 + 5] = NAN;
        write_all(&s);
        attend_range(&s, &kernels, 0, 100, 16);
        for (uint32_t position = 0; position < 100; position++)
            for (uint32_t i = 0; i < 48; i++)
                assert_true(isnan(s.out[position * 48 + i]) == (position >= 41));
        scene_destroy(&s);
    }
}

/* ---- Pages ---- */

static void a_token_lies_where_the_header_says(void **state)
{
    scene s = scene_create(AP_KV_F16, 18, 3, 1, 64, 4);
    assert_int_equal(s.layout.head_bytes, 32 * 18 * 2);
    assert_int_equal(s.layout.layer_bytes, 2 * 3 * s.layout.head_bytes);
    assert_int_equal(s.layout.page_bytes, 2 * s.layout.layer_bytes);
    assert_int_equal(ap_kv_layout_of(AP_KV_F32, 2, 3, 18).page_bytes, 2 * s.layout.page_bytes);
    write_all(&s);
    for (uint32_t position = 0; position < 64; position++)
        for (uint32_t h = 0; h < 3; h++)
            for (uint32_t d = 0; d < 18; d++) {
                const uint16_t *layer = (const uint16_t *)s.pages[position / 32] + s.layout.layer_bytes / 2;
                uint32_t slot = position % 32;
                assert_int_equal(layer[(h * 32 + slot / 16 * 16) * 18 + d * 16 + slot % 16],
                                 ap_f16_of_f32(s.keys[(position * 3 + h) * 18 + d]));
                assert_int_equal(layer[((3 + h) * 32 + slot) * 18 + d], ap_f16_of_f32(s.values[(position * 3 + h) * 18 + d]));
            }
    /* The other layer was cleared in its keys, and nothing else was touched. */
    for (size_t i = 0; i < s.layout.layer_bytes; i++)
        assert_int_equal(s.memory[i], i < s.layout.layer_bytes / 2 ? 0 : 0xff);
    scene_destroy(&s);
}

static void codes_lie_where_the_header_says_with_their_scales_behind(void **state)
{
    scene s = scene_create(AP_KV_Q8, 50, 3, 1, 64, 4); /* a whole block and one of 18 */
    assert_int_equal(s.layout.head_bytes, 32 * (50 + 2 * 2));
    write_all(&s);
    for (uint32_t position = 0; position < 64; position++)
        for (uint32_t h = 0; h < 3; h++)
            for (uint32_t d = 0; d < 50; d++) {
                uint32_t slot = position % 32, lane = slot % 16, left = 50 - d / 32 * 32, count = left < 32 ? left : 32;
                const unsigned char *layer = (const unsigned char *)s.pages[position / 32] + s.layout.layer_bytes;
                const unsigned char *group = layer + h * s.layout.head_bytes + slot / 16 * (s.layout.head_bytes / 2);
                const unsigned char *rows = layer + (3 + h) * s.layout.head_bytes;
                const float *key = s.keys + (position * 3 + h) * 50, *value = s.values + (position * 3 + h) * 50;
                float scale = scale_of(key + d / 32 * 32, count);
                assert_int_equal((int8_t)group[d * 16 + lane], (int)rintf(key[d] * (1 / scale)));
                assert_int_equal(((const uint16_t *)(const void *)(group + 16 * 50))[d / 32 * 16 + lane], ap_bf16_of_f32(scale));
                scale = scale_of(value + d / 32 * 32, count);
                assert_int_equal((int8_t)rows[slot * 50 + d], (int)rintf(value[d] * (1 / scale)));
                assert_int_equal(((const uint16_t *)(const void *)(rows + 32 * 50))[slot * 2 + d / 32], ap_bf16_of_f32(scale));
            }
    scene_destroy(&s);
}

/* What is no number spoils its own block alone; what is too small for a scale is zero. */
static void codes_of_extremes(void **state)
{
    static const float extremes[] = {NAN, INFINITY, -INFINITY, FLT_MAX, -FLT_MAX, 0x1p-99f, 0x1p-101f, -0x1p-149f, 0.0f};
    ap_kernels kernels = kernels_of(ap_isa_detect());
    for (size_t i = 0; i < sizeof extremes / sizeof *extremes; i++) {
        scene s = scene_create(AP_KV_Q8, 64, 1, 1, 1, 3);
        memset(s.values, 0, 32 * sizeof(float));
        s.values[7] = extremes[i];
        write_all(&s);
        attend(&s, &kernels, 0, 1);
        float bound = fabsf(extremes[i]) / 127;
        for (uint32_t d = 0; d < 64; d++)
            if (d >= 32)
                assert_true(s.out[d] == stored(&s, s.values, d));
            else if (!isfinite(extremes[i]))
                assert_true(isnan(s.out[d]));
            else if (d == 7 && fabsf(extremes[i]) >= 0x1p-100f)
                assert_true(fabsf(s.out[d] - extremes[i]) <= bound);
            else
                assert_true(s.out[d] == 0);
        scene_destroy(&s);
    }
}

static void digest_of(const ap_kernels *kernels, ap_kv_type first, ap_kv_type last, char *hex)
{
    static const uint32_t widths[] = {64, 18, 128};
    ap_hash hash;
    ap_hash_begin(&hash, AP_HASH_BLAKE2B);
    for (ap_kv_type type = first; type <= last; type++)
        for (size_t i = 0; i < 3; i++) {
            scene s = scene_create(type, widths[i], 2, 2, 1100, 6 + i);
            write_all(&s);
            attend_range(&s, kernels, 0, 20, 16);
            attend_range(&s, kernels, 1090, 1100, 10);
            ap_hash_add(&hash, s.out, 20 * q_floats(&s) * sizeof(float));
            ap_hash_add(&hash, s.out + 1090 * q_floats(&s), 10 * q_floats(&s) * sizeof(float));
            scene_destroy(&s);
        }
    ap_hash_end(&hash, hex);
}

static void bits_are_the_committed_ones(void **state)
{
    for (unsigned isa = 0; isa < AP_ISA_COUNT; isa++) {
        ap_kernels kernels;
        ap_error err;
        char got[AP_HASH_HEX];
        if (ap_kernels_get((ap_isa)isa, &kernels, &err) != AP_OK)
            continue;
        digest_of(&kernels, AP_KV_F16, AP_KV_F32, got);
        assert_string_equal(got, "0f091b3f81b0fb08307f4c0eea0cf10af4ba74b36d56b1f60c9057db69d7c3df");
        digest_of(&kernels, AP_KV_Q8, AP_KV_Q8, got);
        assert_string_equal(got, "2e186b3f22379a4023803f1e2680440c032c003774b8026d162e3bee15279942");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_level_follows_the_order_of_the_law),
        cmocka_unit_test(results_are_as_exact_as_their_operations_allow),
        cmocka_unit_test(neither_chunks_nor_tiles_show),
        cmocka_unit_test(neither_the_place_of_pages_nor_the_order_of_writing_shows),
        cmocka_unit_test(a_first_token_sees_its_own_value_alone),
        cmocka_unit_test(equal_scores_give_the_mean_and_a_far_larger_one_takes_all),
        cmocka_unit_test(a_poisoned_key_reaches_those_after_it_and_nobody_before),
        cmocka_unit_test(a_token_lies_where_the_header_says),
        cmocka_unit_test(codes_lie_where_the_header_says_with_their_scales_behind),
        cmocka_unit_test(codes_of_extremes),
        cmocka_unit_test(bits_are_the_committed_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
