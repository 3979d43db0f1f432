/* kcheck_attention.c - attention over pages of keys and values.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <string.h>

#include "kcheck.h"

/* A sequence in pages; what was not written is NaN, so that a read of it is seen. */
typedef struct sequence {
    ap_kv_layout layout;
    void **pages;
    uint32_t length;
} sequence;

static sequence make_sequence(kcheck *k, ap_kv_type type, int kind, uint32_t kv_heads, uint32_t width, uint32_t length)
{
    sequence s = {.layout = ap_kv_layout_of(type, 2, kv_heads, width), .length = length};
    uint32_t page_count = (length + AP_PAGE_TOKENS - 1) / AP_PAGE_TOKENS;
    s.pages = kcheck_alloc(k, page_count * sizeof *s.pages);
    unsigned char *memory = kcheck_alloc(k, page_count * s.layout.page_bytes);
    memset(memory, 0xff, page_count * s.layout.page_bytes);
    for (uint32_t i = 0; i < page_count; i++) /* last page first in memory */
        s.pages[i] = memory + (page_count - 1 - i) * s.layout.page_bytes;
    float *key = kcheck_alloc(k, kv_heads * width * sizeof *key), *value = kcheck_alloc(k, kv_heads * width * sizeof *key);
    for (uint32_t position = 0; position < length; position++) {
        void *page = s.pages[position / AP_PAGE_TOKENS];
        if (position % AP_KEY_GROUP == 0)
            ap_kv_clear_group(&s.layout, page, position);
        kcheck_fill(k, kind, key, kv_heads * width);
        kcheck_fill(k, kind, value, kv_heads * width);
        ap_kv_write(&s.layout, page, 1, position, key, value);
    }
    return s;
}

/* Infinities and NaN among the keys make nearly every row NaN; with them one row in three is ordinary. */
static int mild_kind(kcheck *k, int kind) { return kind >= KCHECK_KINDS_FINITE && kcheck_random(k) % 3 == 0 ? 0 : kind; }

static void check_one(kcheck *k, ap_kv_type type, int kind, uint32_t width, uint32_t kv_heads, uint32_t group,
                      uint32_t position, uint32_t count)
{
    /* Keys behind the last query are for encoders. */
    sequence s = make_sequence(k, type, mild_kind(k, kind), kv_heads, width, position + count + kcheck_random(k) % 3 * 40);
    size_t stride = (size_t)kv_heads * group * width + kcheck_random(k) % 5, floats = count * stride;
    float *q = kcheck_alloc(k, floats * sizeof *q);
    float *want = kcheck_guarded(k, floats, 0), *got = kcheck_guarded(k, floats, kcheck_random(k) % 16);
    kcheck_fill(k, mild_kind(k, kind), q, floats);
    float scale = 2 * kcheck_uniform(k), slopes[9], sinks[9];
    kcheck_fill(k, 0, slopes, group);
    kcheck_fill(k, 0, sinks, group);
    /* Windows of a key, of a few, across a page, across a segment. */
    static const uint32_t windows[] = {0, 0, 1, 5, 40, 700, 1030};
    uint32_t window = windows[kcheck_random(k) % 7], features = kcheck_random(k);
    bool is_encoder = features / 27 % 3 == 0;
    for (uint32_t h = 0; h < kv_heads; h++) {
        ap_attend_job job = {.layout = &s.layout, .pages = s.pages, .layer = 1, .kv_head = h, .position = position,
                             .count = count, .end = is_encoder ? s.length : 0, .group = group, .window = window, .scale = scale,
                             .cap = features % 3 ? 0 : 5, .slopes = features / 3 % 3 || is_encoder ? NULL : slopes,
                             .sinks = features / 9 % 3 ? NULL : sinks, .q = q + h * group * width,
                             .out = want + h * group * width, .stride = stride};
        k->plain.attention.attend[type](&job);
        job.out = got + h * group * width;
        k->level.attention.attend[type](&job);
    }
    kcheck_same_floats(k, got, want, floats, "queries %u … %u, window %u, features %u, %u KV heads of %u dimensions for %u each, inputs %s",
                       position, position + count - 1, window, features % 81, kv_heads, width, group, kcheck_kind_name(kind));
    kcheck_guarded_check(k);
}

static void check_attend(kcheck *k, int type)
{
    static const uint32_t widths[] = {2, 14, 16, 18, 32, 48, 64, 66, 80, 96, 112, 128, 144, 192, 250, 256};
    static const uint32_t positions[] = {0, 1, 15, 16, 31, 32, 33, 63, 100, 500};
    static const uint32_t late[] = {1007, 1023, 1024, 1025, 2040, 2100};
    uint32_t turn = kcheck_random(k);
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (uint32_t group = 1; group <= 9; group++, turn++)
            check_one(k, (ap_kv_type)type, (int)(turn % KCHECK_KINDS), widths[w], 1 + turn % 3, group,
                      positions[turn % 10], turn % 2 ? 1 : 1 + turn / 2 % 20);
    for (size_t i = 0; i < sizeof late / sizeof *late; i++)
        for (int kind = 0; kind < KCHECK_KINDS; kind++, turn++)
            check_one(k, (ap_kv_type)type, kind, turn % 3 ? 32 : 72, 1, 1 + turn % 5, late[i], 1 + turn % 3 * 11);
}

static void call_attend(const ap_kernels *kernels, void *context)
{
    ap_attend_job *job = context;
    kernels->attention.attend[job->layout->type](job);
}

static void bench_attend(kcheck *k, int type)
{
    static const struct {
        uint32_t width, group, position, count;
    } shapes[] = {{64, 1, 4095, 1}, {64, 3, 4095, 1}, {128, 4, 4095, 1}, {128, 8, 4095, 1},
                  {64, 3, 0, 16},   {64, 3, 496, 16}, {64, 1, 496, 16},  {128, 4, 4080, 16}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        uint32_t width = shapes[i].width, group = shapes[i].group, position = shapes[i].position, count = shapes[i].count;
        sequence s = make_sequence(k, (ap_kv_type)type, 0, 1, width, position + count);
        size_t stride = group * width;
        float *q = kcheck_alloc(k, count * stride * sizeof *q), *out = kcheck_alloc(k, count * stride * sizeof *out);
        kcheck_fill(k, 0, q, count * stride);
        ap_attend_job job = {.layout = &s.layout, .pages = s.pages, .layer = 1, .position = position, .count = count,
                             .group = group, .scale = 0.125f, .q = q, .out = out, .stride = stride};
        char what[64];
        snprintf(what, sizeof what, "%u at %u, %u x %u", count, position, group, width);
        if (count == 1) /* what is read */
            kcheck_time(k, what, call_attend, &job, (position + 1) * 2.0 * (double)s.layout.head_bytes / AP_PAGE_TOKENS, "B");
        else
            kcheck_time(k, what, call_attend, &job, 4.0 * count * (position + (count + 1) / 2.0) * group * width, "op");
    }
}

void kcheck_attention(kcheck *k)
{
    static const char *const names[] = {[AP_KV_F16] = "attend f16", [AP_KV_F32] = "attend f32", [AP_KV_Q8] = "attend q8"};
    for (int type = 0; type < AP_KV_TYPE_COUNT; type++)
        kcheck_slot(k, (kcheck_case){names[type], type,
                                     k->level.attention.attend[type] != k->below.attention.attend[type], check_attend,
                                     bench_attend});
}
