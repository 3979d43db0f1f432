/* kcheck_matmul.c - products of packed weights, and the 8-bit codes of activations.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <string.h>

#include "kcheck.h"

static const ap_type types[] = {AP_TYPE_F32,  AP_TYPE_F16,  AP_TYPE_BF16, AP_TYPE_Q4_0, AP_TYPE_Q4_1, AP_TYPE_Q5_0,
                                AP_TYPE_Q5_1, AP_TYPE_Q8_0, AP_TYPE_Q4_K, AP_TYPE_Q5_K, AP_TYPE_Q6_K, AP_TYPE_Q2_K,
                                AP_TYPE_Q3_K, AP_TYPE_Q8_K, AP_TYPE_IQ4_NL, AP_TYPE_IQ4_XS, AP_TYPE_MXFP4};
enum { TYPES = sizeof types / sizeof *types };

/* How the weights of a check are chosen. */
enum weights { RANDOM, CODES_LOW, CODES_HIGH, SCALES_WILD, WEIGHT_KINDS };
static const char *const weights_text[WEIGHT_KINDS] = {"random", "codes all 0", "codes all 1", "wild scales"};

static uint16_t scale_half(kcheck *k, int weights)
{
    static const uint16_t wild[] = {0x0000, 0x8000, 0x0001, 0x83ff, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e01, 0x3c00};
    if (weights == SCALES_WILD)
        return wild[kcheck_random(k) % (sizeof wild / sizeof *wild)];
    return ap_f16_of_f32(kcheck_uniform(k) * 0.02f);
}

/* Where the f16 scales stand in a source block: none, one or two in a row. */
static void scale_place(ap_type type, size_t *offset, int *count)
{
    *offset = type == AP_TYPE_Q6_K   ? offsetof(ap_block_q6_k, d)
              : type == AP_TYPE_Q2_K ? offsetof(ap_block_q2_k, d)
              : type == AP_TYPE_Q3_K ? offsetof(ap_block_q3_k, d)
                                     : 0;
    *count = type == AP_TYPE_Q4_1 || type == AP_TYPE_Q5_1 || type == AP_TYPE_Q4_K || type == AP_TYPE_Q5_K ||
                     type == AP_TYPE_Q2_K                    ? 2
             : type == AP_TYPE_MXFP4 || type == AP_TYPE_Q8_K ? 0
                                                             : 1;
}

static void fill_floats(kcheck *k, ap_type type, int weights, unsigned char *source, size_t count)
{
    static const int kind[WEIGHT_KINDS] = {0, 1, 2, 6};
    for (size_t i = 0; i < count; i++) {
        float value;
        kcheck_fill(k, kind[weights], &value, 1);
        uint16_t half = type == AP_TYPE_F16 ? ap_f16_of_f32(value) : ap_bf16_of_f32(value);
        if (type == AP_TYPE_F32)
            memcpy(source + 4 * i, &value, 4);
        else
            memcpy(source + 2 * i, &half, 2);
    }
}

static ap_matrix make_matrix(kcheck *k, ap_type type, int weights, uint32_t rows, uint32_t cols)
{
    const ap_type_info *info = ap_type_info_of(type);
    size_t row_bytes = ap_row_bytes(type, cols), bytes = row_bytes * rows;
    uint64_t panel_bytes = 0;
    unsigned char *source = kcheck_alloc(k, bytes);
    if (ap_pack_bytes(type, rows, cols, &panel_bytes, NULL) != AP_OK)
        kcheck_fail(k, "the shape %u x %u does not fit the type", rows, cols);
    unsigned char *panels = kcheck_alloc(k, panel_bytes);
    if (!ap_matmul_needs_codes(type)) {
        fill_floats(k, type, weights, source, (size_t)rows * cols);
    } else {
        for (size_t i = 0; i < bytes; i++)
            source[i] = (unsigned char)(weights == CODES_LOW ? 0 : weights == CODES_HIGH ? 255 : kcheck_random(k));
        /* The smallest signed code is not the byte with all or no bits set. */
        if ((type == AP_TYPE_Q8_0 || type == AP_TYPE_Q8_K) && weights == CODES_LOW)
            memset(source, 128, bytes);
        /* Q8_K's scale is a float; random bytes are as wild as any, but seldom ordinary. */
        for (size_t block = 0; type == AP_TYPE_Q8_K && weights != SCALES_WILD && block < bytes; block += info->block_bytes)
            memcpy(source + block, &(float){kcheck_uniform(k) * 0.02f}, 4);
        size_t offset;
        int count;
        scale_place(type, &offset, &count);
        for (size_t block = 0; block < bytes; block += info->block_bytes)
            for (int i = 0; i < count; i++) {
                uint16_t half = scale_half(k, weights);
                memcpy(source + block + offset + 2 * (size_t)i, &half, 2);
            }
    }
    ap_pack_rows(type, cols, rows, source, panels);
    return (ap_matrix){type, rows, cols, panels};
}

static void check_one(kcheck *k, ap_type type, int weights, int kind, uint32_t rows, uint32_t cols, uint32_t tokens)
{
    size_t x_stride = cols + kcheck_random(k) % 5, y_stride = rows + kcheck_random(k) % 5;
    size_t shift = kcheck_random(k) % 16;
    ap_matrix matrix = make_matrix(k, type, weights, rows, cols);
    float *x = kcheck_alloc(k, tokens * x_stride * sizeof *x);
    kcheck_fill(k, kind, x, tokens * x_stride);
    ap_acts acts = {.tokens = tokens, .cols = cols, .planes = 1 + kcheck_random(k) % 2, .x = x, .x_stride = x_stride};
    ap_acts_set(&acts, &k->plain, NULL, kcheck_alloc(k, ap_acts_bytes(tokens, cols, acts.planes)));
    /* Rows of y are apart: what lies between them must stay as kcheck_guarded left it, on both sides. */
    size_t y_count = (tokens - 1) * y_stride + rows;
    float *want = kcheck_guarded(k, y_count, 0), *got = kcheck_guarded(k, y_count, shift);
    ap_matmul_job job = {&matrix, &acts, want, y_stride};
    uint32_t panels = ap_panel_count(rows), split = kcheck_random(k) % (panels + 1), cut = kcheck_random(k) % (tokens + 1);
    k->plain.matmul.product[type](&job, (ap_matmul_part){0, panels, 0, tokens});
    job.y = got;
    k->level.matmul.product[type](&job, (ap_matmul_part){0, split, 0, tokens});
    k->level.matmul.product[type](&job, (ap_matmul_part){split, panels, 0, cut});
    k->level.matmul.product[type](&job, (ap_matmul_part){split, panels, cut, tokens});
    kcheck_same_floats(k, got, want, y_count,
                       "%u rows (split at panel %u), %u columns, %u tokens (at %u), %u planes, weights %s, inputs %s",
                       rows, split, cols, tokens, cut, acts.planes, weights_text[weights], kcheck_kind_name(kind));
    kcheck_guarded_check(k);
}

static void check_product(kcheck *k, int type)
{
    static const uint32_t tokens[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 64, 197};
    static const uint32_t rows[] = {1, 16, 23, 64, 65, 144};
    static const uint32_t cols_32[] = {32, 256, 288, 576, 1056}, cols_256[] = {256, 512, 1280, 256, 768};
    static const uint32_t cols_1[] = {1, 7, 64, 131, 576};
    const uint32_t *cols = ap_type_info_of((uint32_t)type)->block_elems == 256 ? cols_256
                           : ap_matmul_needs_codes((ap_type)type)              ? cols_32
                                                                               : cols_1;
    uint32_t turn = kcheck_random(k);
    for (size_t t = 0; t < sizeof tokens / sizeof *tokens; t++)
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++, turn++)
            check_one(k, (ap_type)type, (int)(turn % WEIGHT_KINDS), (int)(turn / WEIGHT_KINDS % KCHECK_KINDS), rows[r],
                      cols[turn % 5], tokens[t]);
    /* Every kind of weight with every kind of input, at the shapes of each code path. */
    for (int w = 0; w < WEIGHT_KINDS; w++)
        for (int kind = 0; kind < KCHECK_KINDS; kind++)
            for (uint32_t n = 1; n <= 13; n += 4)
                check_one(k, (ap_type)type, w, kind, 70, cols[1], n);
}

static void check_quantize(kcheck *k, int unused)
{
    for (int round = 0; round < 200; round++) {
        uint32_t cols = 1 + kcheck_random(k) % 1100;
        size_t slabs = cols / 256 + (cols % 256 != 0), planes = 1 + kcheck_random(k) % 2;
        size_t stride = planes + kcheck_random(k) % 3;
        float *x = kcheck_guarded(k, cols, kcheck_random(k) % 16);
        kcheck_fill(k, round % KCHECK_KINDS, x, cols);
        if (round % 3 == 0) /* exact ties between two codes */
            for (uint32_t i = 0; i < cols; i++)
                x[i] = i % 32 == 0 ? 127.0f : (float)((int)(kcheck_random(k) % 254) - 127) + 0.5f;
        ap_act_slab *want = kcheck_alloc(k, slabs * stride * sizeof *want);
        ap_act_slab *got = kcheck_alloc(k, slabs * stride * sizeof *got);
        memset(want, 0x55, slabs * stride * sizeof *want);
        memset(got, 0x55, slabs * stride * sizeof *got);
        k->plain.matmul.quantize(x, cols, (uint32_t)planes, want, stride);
        k->level.matmul.quantize(x, cols, (uint32_t)planes, got, stride);
        for (size_t s = 0; s < slabs * stride; s++) {
            kcheck_same_bytes(k, got[s].code, want[s].code, sizeof want->code, "codes of slab %zu, %u columns", s, cols);
            kcheck_same_floats(k, got[s].d, want[s].d, 8, "scales of slab %zu, %u columns, inputs %s", s, cols,
                               kcheck_kind_name(round % KCHECK_KINDS));
            kcheck_same_bytes(k, got[s].sum, want[s].sum, sizeof *want - offsetof(ap_act_slab, sum),
                              "sums of slab %zu, %u columns", s, cols);
        }
    }
}

typedef struct bench_context {
    ap_matmul_job job;
    ap_matrix matrix;
    ap_acts acts;
} bench_context;

static void call_product(const ap_kernels *kernels, void *context)
{
    bench_context *c = context;
    ap_matmul_part all = {0, ap_panel_count(c->matrix.rows), 0, c->acts.tokens};
    kernels->matmul.product[c->matrix.type](&c->job, all);
}

static void call_quantize(const ap_kernels *kernels, void *context)
{
    bench_context *c = context;
    kernels->matmul.quantize(c->acts.x, c->acts.cols, c->acts.planes, (ap_act_slab *)c->acts.slabs, c->acts.planes);
}

static void bench_product(kcheck *k, int type)
{
    static const uint32_t tokens[] = {1, 2, 4, 16, 128};
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        bench_context c = {0};
        uint32_t n = tokens[i], rows = 256, cols = 2048;
        char what[64];
        c.matrix = make_matrix(k, (ap_type)type, RANDOM, rows, cols);
        float *x = kcheck_alloc(k, n * cols * sizeof *x), *y = kcheck_alloc(k, n * rows * sizeof *y);
        kcheck_fill(k, 0, x, n * cols);
        c.acts = (ap_acts){.tokens = n, .cols = cols, .planes = 1, .x = x, .x_stride = cols};
        ap_acts_set(&c.acts, &k->plain, NULL, kcheck_alloc(k, ap_acts_bytes(n, cols, 1)));
        c.job = (ap_matmul_job){&c.matrix, &c.acts, y, rows};
        snprintf(what, sizeof what, "%u x %u, %u token%s", rows, cols, n, n == 1 ? "" : "s");
        kcheck_time(k, what, call_product, &c, 2.0 * rows * cols * n, "op");
    }
}

static void bench_quantize(kcheck *k, int unused)
{
    bench_context c = {0};
    uint32_t cols = 2048;
    float *x = kcheck_alloc(k, cols * sizeof *x);
    kcheck_fill(k, 0, x, cols);
    for (uint32_t planes = 1; planes <= 2; planes++) {
        c.acts = (ap_acts){.tokens = 1, .cols = cols, .planes = planes, .x = x, .x_stride = cols};
        ap_acts_set(&c.acts, &k->plain, NULL, kcheck_alloc(k, ap_acts_bytes(1, cols, planes)));
        kcheck_time(k, planes == 1 ? "2048 columns" : "2048 columns, 2 planes", call_quantize, &c, cols * 4.0, "B");
    }
}

void kcheck_matmul(kcheck *k)
{
    kcheck_slot(k, (kcheck_case){.name = "quantize", .is_changed = k->level.matmul.quantize != k->below.matmul.quantize,
                                 .check = check_quantize, .bench = bench_quantize});
    for (int i = 0; i < TYPES; i++) {
        ap_type type = types[i];
        char name[32];
        snprintf(name, sizeof name, "product %s", ap_type_info_of(type)->name);
        kcheck_slot(k, (kcheck_case){.name = name, .variant = (int)type,
                                     .is_changed = k->level.matmul.product[type] != k->below.matmul.product[type],
                                     .check = check_product, .bench = bench_product});
    }
}
