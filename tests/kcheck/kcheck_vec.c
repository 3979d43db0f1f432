/* kcheck_vec.c - norm, sum, gated activation, rotary pairs, and what the sampler asks of logits.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kcheck.h"

/* Vectors of every length to two registers and a tail, then the sizes of real models; all off any boundary. */
static uint32_t length_of(kcheck *k, int round)
{
    static const uint32_t sizes[] = {100, 576, 1536, 2048, 4097};
    return round < 40 ? (uint32_t)round : sizes[kcheck_random(k) % 5];
}

enum { ROUNDS = 40 + 60 };

/* Numbers around the places where exp changes its mind, among ordinary ones. */
static void fill_exponents(kcheck *k, int kind, float *out, uint32_t n)
{
    static const float edges[] = {0.0f, -0.0f, -0x1.5d589ep+6f, -0x1.5d58a0p+6f, 0x1.62e42ep+6f, 0x1.62e430p+6f,
                                  -INFINITY, INFINITY, -1e30f, 1e30f, 0x1p-149f, 0x1.62e43p-2f};
    kcheck_fill(k, kind, out, n);
    for (uint32_t i = 0; i < n; i++)
        if (kind == 0)
            out[i] *= 90;
        else if (kind == 3)
            out[i] = edges[kcheck_random(k) % (sizeof edges / sizeof *edges)];
}

static void check_rms_norm(kcheck *k, int unused)
{
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t n = length_of(k, round);
        int kind = round % KCHECK_KINDS;
        float *x = kcheck_guarded(k, n, kcheck_random(k) % 16), *w = kcheck_guarded(k, n, kcheck_random(k) % 16);
        float *want = kcheck_guarded(k, n, 0), *got = kcheck_guarded(k, n, kcheck_random(k) % 16);
        kcheck_fill(k, kind, x, n);
        kcheck_fill(k, 0, w, n);
        float epsilon = round % 2 ? 1e-5f : 0;
        k->plain.vec.rms_norm(want, x, w, n, epsilon);
        k->level.vec.rms_norm(got, x, w, n, epsilon);
        kcheck_same_floats(k, got, want, n, "%u elements, inputs %s", n, kcheck_kind_name(kind));
        /* In place, as the last norm of a pass may be called. */
        k->level.vec.rms_norm(x, x, w, n, epsilon);
        kcheck_same_floats(k, x, want, n, "%u elements in place, inputs %s", n, kcheck_kind_name(kind));
    }
    kcheck_guarded_check(k);
}

static void check_add(kcheck *k, int unused)
{
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t n = length_of(k, round);
        int kind = round % KCHECK_KINDS;
        float *want = kcheck_guarded(k, n, 0), *got = kcheck_guarded(k, n, kcheck_random(k) % 16);
        float *y = kcheck_guarded(k, n, kcheck_random(k) % 16);
        kcheck_fill(k, kind, want, n);
        kcheck_fill(k, kind, y, n);
        memcpy(got, want, n * sizeof *got);
        k->plain.vec.add(want, y, n);
        k->level.vec.add(got, y, n);
        kcheck_same_floats(k, got, want, n, "%u elements, inputs %s", n, kcheck_kind_name(kind));
    }
    kcheck_guarded_check(k);
}

static void check_layer_norm(kcheck *k, int unused)
{
    for (int round = 0; round < 2 * ROUNDS; round++) {
        uint32_t n = length_of(k, round / 2);
        int kind = round % KCHECK_KINDS;
        float *x = kcheck_guarded(k, n, kcheck_random(k) % 16), *w = kcheck_guarded(k, n, kcheck_random(k) % 16);
        float *b = kcheck_guarded(k, n, kcheck_random(k) % 16);
        float *want = kcheck_guarded(k, n, 0), *got = kcheck_guarded(k, n, kcheck_random(k) % 16);
        kcheck_fill(k, kind, x, n);
        kcheck_fill(k, 0, w, n);
        kcheck_fill(k, 0, b, n);
        bool is_bare = round % 3 == 0;
        k->plain.vec.layer_norm(want, x, is_bare ? NULL : w, round % 3 == 1 ? b : NULL, n, 1e-5f);
        k->level.vec.layer_norm(got, x, is_bare ? NULL : w, round % 3 == 1 ? b : NULL, n, 1e-5f);
        kcheck_same_floats(k, got, want, n, "%u elements, inputs %s", n, kcheck_kind_name(kind));
        k->level.vec.layer_norm(x, x, is_bare ? NULL : w, round % 3 == 1 ? b : NULL, n, 1e-5f);
        kcheck_same_floats(k, x, want, n, "%u elements in place, inputs %s", n, kcheck_kind_name(kind));
    }
    kcheck_guarded_check(k);
}

static void check_activate(kcheck *k, int kind_of)
{
    ap_activate_fn *plain = k->plain.vec.activate[kind_of], *level = k->level.vec.activate[kind_of];
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t n = length_of(k, round);
        int kind = round % KCHECK_KINDS;
        float *gate = kcheck_guarded(k, n, kcheck_random(k) % 16), *up = kcheck_guarded(k, n, kcheck_random(k) % 16);
        float *want = kcheck_guarded(k, n, 0), *got = kcheck_guarded(k, n, kcheck_random(k) % 16);
        fill_exponents(k, kind, gate, n);
        if (kind == 0 && round % 2) /* where the forms of gelu differ from a ramp */
            for (uint32_t i = 0; i < n; i++)
                gate[i] /= 15;
        kcheck_fill(k, kind, up, n);
        float *second = round % 5 == 0 && kind_of != AP_ACTIVATION_SILU_7 ? NULL : up;
        plain(want, gate, second, n);
        level(got, gate, second, n);
        kcheck_same_floats(k, got, want, n, "%u elements, inputs %s", n, kcheck_kind_name(kind));
        level(gate, gate, second, n);
        kcheck_same_floats(k, gate, want, n, "%u elements in place, inputs %s", n, kcheck_kind_name(kind));
    }
    kcheck_guarded_check(k);
}

/* Operations on one vector and one number. */
typedef enum with_number { ADD_SCALED, SCALE, CLIP, SOFTCAP } with_number;

static void call_with_number(const ap_vec_ops *vec, int which, float *x, const float *y, float number, uint32_t n)
{
    switch (which) {
    case ADD_SCALED: vec->add_scaled(x, y, number, n); break;
    case SCALE: vec->scale(x, number, n); break;
    case CLIP: vec->clip(x, number, n); break;
    default: vec->softcap(x, number, n); break;
    }
}

static void check_with_number(kcheck *k, int which)
{
    static const float numbers[] = {1, 0.125f, 8, 30, 50, 7e20f};
    for (int round = 0; round < 2 * ROUNDS; round++) {
        uint32_t n = length_of(k, round / 2);
        int kind = round % KCHECK_KINDS;
        float *want = kcheck_guarded(k, n, 0), *got = kcheck_guarded(k, n, kcheck_random(k) % 16);
        float *y = kcheck_guarded(k, n, kcheck_random(k) % 16), number = numbers[round % 6];
        fill_exponents(k, kind, want, n);
        kcheck_fill(k, kind, y, n);
        memcpy(got, want, n * sizeof *got);
        call_with_number(&k->plain.vec, which, want, y, number, n);
        call_with_number(&k->level.vec, which, got, y, number, n);
        kcheck_same_floats(k, got, want, n, "%u elements, number %g, inputs %s", n, (double)number, kcheck_kind_name(kind));
    }
    kcheck_guarded_check(k);
}

static void check_exp_sum(kcheck *k, int unused)
{
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t n = length_of(k, round);
        int kind = round % KCHECK_KINDS;
        float *x = kcheck_guarded(k, n, kcheck_random(k) % 16), shift = round % 4 ? kcheck_uniform(k) * 20 : 0;
        float *want = kcheck_guarded(k, n, 0), *got = kcheck_guarded(k, n, kcheck_random(k) % 16);
        fill_exponents(k, kind, x, n);
        float want_sum = k->plain.vec.exp_sum(want, x, n, shift), got_sum = k->level.vec.exp_sum(got, x, n, shift);
        kcheck_same_floats(k, got, want, n, "%u elements, inputs %s", n, kcheck_kind_name(kind));
        kcheck_same_floats(k, &got_sum, &want_sum, 1, "sum of %u elements, inputs %s", n, kcheck_kind_name(kind));
    }
    /* A walk through all floats, a different one with each seed. */
    enum { STRIDE = 4099, BLOCK = 1024 };
    float *x = kcheck_alloc(k, BLOCK * sizeof *x), *want = kcheck_alloc(k, BLOCK * sizeof *x);
    float *got = kcheck_alloc(k, BLOCK * sizeof *x);
    for (uint64_t bits = kcheck_random(k) % STRIDE; bits >> 32 == 0;) {
        for (int i = 0; i < BLOCK; i++, bits += STRIDE)
            x[i] = ap_float_of_bits((uint32_t)bits);
        (void)k->plain.vec.exp_sum(want, x, BLOCK, 0);
        (void)k->level.vec.exp_sum(got, x, BLOCK, 0);
        kcheck_same_floats(k, got, want, BLOCK, "a walk through all floats that begins at %a", (double)x[0]);
    }
    kcheck_guarded_check(k);
}

static void check_largest(kcheck *k, int unused)
{
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t n = length_of(k, round);
        /* NaN is not looked for, and which of two zeros wins is nobody's promise. */
        int kind = round % (KCHECK_KINDS - 1);
        float *x = kcheck_guarded(k, n, kcheck_random(k) % 16);
        kcheck_fill(k, kind, x, n);
        if (round % 5 == 0) /* everything ruled out but one */
            for (uint32_t i = 0, left = n ? kcheck_random(k) % n : 0; i < n; i++)
                x[i] = i == left ? x[i] : -INFINITY;
        float want = k->plain.vec.largest(x, n), got = k->level.vec.largest(x, n);
        if (got != want)
            kcheck_fail(k, "%u elements, inputs %s: %a, plain C has %a", n, kcheck_kind_name(kind), (double)got, (double)want);
    }
}

static void check_rope(kcheck *k, int unused)
{
    for (int round = 0; round < 4 * ROUNDS; round++) {
        uint32_t width = 2 * (1 + kcheck_random(k) % 128);
        int kind = round % KCHECK_KINDS;
        float *row = kcheck_guarded(k, width, kcheck_random(k) % 16);
        float *want = kcheck_guarded(k, width, 0), *got = kcheck_guarded(k, width, kcheck_random(k) % 16);
        kcheck_fill(k, 0, row, width);
        kcheck_fill(k, kind, want, width);
        memcpy(got, want, width * sizeof *got);
        k->plain.vec.rope(want, row, width, round / KCHECK_KINDS % 2);
        k->level.vec.rope(got, row, width, round / KCHECK_KINDS % 2);
        kcheck_same_floats(k, got, want, width, "%u dimensions, %s, inputs %s", width,
                           round / KCHECK_KINDS % 2 ? "halves" : "neighbours", kcheck_kind_name(kind));
    }
    kcheck_guarded_check(k);
}

typedef struct bench_context {
    float *a, *b, *c;
    uint32_t n;
    int which;
} bench_context;

static float sink;

static void call_rms_norm(const ap_kernels *kernels, void *context)
{
    bench_context *c = context;
    kernels->vec.rms_norm(c->a, c->b, c->c, c->n, 1e-5f);
}

static void call_add(const ap_kernels *kernels, void *context)
{
    bench_context *c = context;
    kernels->vec.add(c->a, c->b, c->n);
}

static void call_layer_norm(const ap_kernels *kernels, void *context)
{
    bench_context *c = context;
    kernels->vec.layer_norm(c->a, c->b, c->c, c->c, c->n, 1e-5f);
}

static void call_activate(const ap_kernels *kernels, void *context)
{
    bench_context *c = context;
    kernels->vec.activate[c->which](c->a, c->b, c->c, c->n);
}

static void call_number(const ap_kernels *kernels, void *context)
{
    bench_context *c = context;
    call_with_number(&kernels->vec, c->which, c->a, c->b, 0.99f, c->n);
}

static void call_exp_sum(const ap_kernels *kernels, void *context)
{
    bench_context *c = context;
    sink += kernels->vec.exp_sum(c->a, c->b, c->n, 1.0f);
}

static void call_largest(const ap_kernels *kernels, void *context)
{
    bench_context *c = context;
    sink += kernels->vec.largest(c->b, c->n);
}

static void call_rope(const ap_kernels *kernels, void *context)
{
    bench_context *c = context;
    kernels->vec.rope(c->a, c->b, c->n, false);
}

static void bench_which(kcheck *k, kcheck_call *call, uint32_t n, int which)
{
    bench_context c = {.a = kcheck_alloc(k, n * sizeof(float)), .b = kcheck_alloc(k, n * sizeof(float)),
                       .c = kcheck_alloc(k, n * sizeof(float)), .n = n, .which = which};
    char what[32];
    kcheck_fill(k, 0, c.a, n);
    kcheck_fill(k, 0, c.b, n);
    kcheck_fill(k, 0, c.c, n);
    snprintf(what, sizeof what, "%u elements", n);
    kcheck_time(k, what, call, &c, n, "el");
}

static void bench(kcheck *k, kcheck_call *call, uint32_t n) { bench_which(k, call, n, 0); }

enum { MODEL_WIDTH = 2048, VOCABULARY = 128256, HEAD_WIDTH = 128 };

static void bench_rms_norm(kcheck *k, int unused) { bench(k, call_rms_norm, MODEL_WIDTH); }
static void bench_add(kcheck *k, int unused) { bench(k, call_add, MODEL_WIDTH); }
static void bench_layer_norm(kcheck *k, int unused) { bench(k, call_layer_norm, MODEL_WIDTH); }
static void bench_activate(kcheck *k, int kind) { bench_which(k, call_activate, MODEL_WIDTH, kind); }
static void bench_with_number(kcheck *k, int which) { bench_which(k, call_number, MODEL_WIDTH, which); }
static void bench_exp_sum(kcheck *k, int unused) { bench(k, call_exp_sum, VOCABULARY); }
static void bench_largest(kcheck *k, int unused) { bench(k, call_largest, VOCABULARY); }
static void bench_rope(kcheck *k, int unused) { bench(k, call_rope, HEAD_WIDTH); }

void kcheck_vec(kcheck *k)
{
    const ap_vec_ops *level = &k->level.vec, *below = &k->below.vec;
    const kcheck_case cases[] = {
        {"rms_norm", 0, level->rms_norm != below->rms_norm, check_rms_norm, bench_rms_norm},
        {"add", 0, level->add != below->add, check_add, bench_add},
        {"layer_norm", 0, level->layer_norm != below->layer_norm, check_layer_norm, bench_layer_norm},
        {"add_scaled", ADD_SCALED, level->add_scaled != below->add_scaled, check_with_number, bench_with_number},
        {"scale", SCALE, level->scale != below->scale, check_with_number, bench_with_number},
        {"clip", CLIP, level->clip != below->clip, check_with_number, bench_with_number},
        {"softcap", SOFTCAP, level->softcap != below->softcap, check_with_number, bench_with_number},
        {"exp_sum", 0, level->exp_sum != below->exp_sum, check_exp_sum, bench_exp_sum},
        {"largest", 0, level->largest != below->largest, check_largest, bench_largest},
        {"rope", 0, level->rope != below->rope, check_rope, bench_rope},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        kcheck_slot(k, cases[i]);
    static const char *const activations[] = {"silu", "gelu", "gelu_tanh", "silu_7"};
    for (int i = 0; i < AP_ACTIVATION_COUNT; i++)
        kcheck_slot(k, (kcheck_case){activations[i], i, level->activate[i] != below->activate[i], check_activate, bench_activate});
}
