/* How well a model foretells, and how far it is from its parent: against the plain formulas.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "aperto.h"
#include "support.h"
#include "tiny_model.h"

enum { TOKENS = 150, CHUNK = 32 };

static const ap_tiny_model floats = {.seed = 4, .layers = 2, .width = 64, .ffn = 96};

static ap_model *open_tiny(const ap_tiny_model *tiny)
{
    int source = ap_tiny_model_file(tiny), packed = ap_test_temporary();
    ap_import_options options = {.size = sizeof options};
    ap_import_report report;
    ap_model *model;
    assert_ok(ap_model_import(source, packed, &options, &report, err));
    assert_ok(ap_model_open(&model, packed, err));
    close(source);
    close(packed);
    return model;
}

static ap_engine *engine_on(const ap_model *model, const char *isa, unsigned threads)
{
    ap_engine_options o = {.size = sizeof o, .context_tokens = CHUNK, .requests_max = 1, .threads = threads, .isa = isa};
    ap_engine *engine;
    assert_ok(ap_engine_create(&engine, model, &o, err));
    return engine;
}

static ap_engine *engine_of(const ap_model *model) { return engine_on(model, NULL, 2); }

static void make_ids(int32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ids[i] = (int32_t)((i * 41 + i * i * 7 + 3) % 256);
}

static ap_measure measure(ap_engine *engine, ap_engine *parent, size_t count)
{
    int32_t ids[TOKENS];
    ap_measure m;
    ap_measure_options o = {.size = sizeof o, .chunk_tokens = CHUNK};
    make_ids(ids, count);
    assert_ok(ap_engine_measure(engine, parent, ids, count, &o, &m, err));
    return m;
}

/* ---- The plain formulas, over logits of every position ---- */

typedef struct rows {
    double logs[TOKENS][AP_TINY_VOCAB];
    uint32_t top[TOKENS];
} rows;

static void keep_row(void *context, size_t position, const float *logits, uint32_t count)
{
    rows *r = context;
    double sum = 0;
    assert_int_equal(count, AP_TINY_VOCAB);
    r->top[position] = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum += exp((double)logits[i]);
        if (logits[i] > logits[r->top[position]])
            r->top[position] = i;
    }
    for (uint32_t i = 0; i < count; i++)
        r->logs[position][i] = (double)logits[i] - log(sum);
}

static void figures_are_those_of_the_formulas(void **state)
{
    static rows p, q;
    ap_tiny_model other = floats;
    other.type = 1; /* the same numbers drawn, rounded: near, and not the same */
    ap_model *parent_model = open_tiny(&floats), *model = open_tiny(&other);
    ap_engine *parent = engine_of(parent_model), *engine = engine_of(model);
    int32_t ids[TOKENS];
    make_ids(ids, TOKENS);
    double nll = 0, parent_nll = 0, kl = 0, largest = 0;
    uint64_t count = 0, same = 0;
    for (size_t at = 0; at + 1 < TOKENS; at += CHUNK) {
        size_t n = TOKENS - at < CHUNK ? TOKENS - at : CHUNK;
        assert_ok(ap_engine_logits(parent, ids + at, n, 0, false, keep_row, &p, err));
        assert_ok(ap_engine_logits(engine, ids + at, n, 0, false, keep_row, &q, err));
        for (size_t i = 0; i + 1 < n; i++, count++) {
            double divergence = 0;
            for (uint32_t v = 0; v < AP_TINY_VOCAB; v++)
                divergence += exp(p.logs[i][v]) * (p.logs[i][v] - q.logs[i][v]);
            kl += divergence;
            largest = fmax(largest, divergence);
            nll -= q.logs[i][ids[at + i + 1]];
            parent_nll -= p.logs[i][ids[at + i + 1]];
            same += p.top[i] == q.top[i];
        }
    }
    ap_measure m = measure(engine, parent, TOKENS);
    double n = (double)count;
    assert_int_equal(m.predictions, count);
    assert_true(fabs(m.nll - nll / n) < 1e-9 && fabs(m.parent_nll - parent_nll / n) < 1e-9);
    assert_true(kl > 0 && fabs(m.kl_mean - kl / n) < 1e-6 * kl / n + 1e-9);
    assert_true(fabs(m.kl_999 - largest) < 1e-5 * largest); /* of 145 predictions 99.9% are all */
    assert_true(fabs(m.top1 - (double)same / n) < 1e-12);
    assert_true(m.nll_error > 0);

    ap_measure alone = measure(engine, NULL, TOKENS);
    assert_true(alone.nll == m.nll && alone.nll_error == m.nll_error && alone.kl_mean == 0);
    ap_measure itself = measure(engine, engine, TOKENS);
    assert_true(itself.kl_mean == 0 && itself.kl_999 == 0 && itself.top1 == 1 && itself.nll == itself.parent_nll);
    ap_engine_destroy(&parent);
    ap_engine_destroy(&engine);
    ap_model_close(&model);
    ap_model_close(&parent_model);
}

static void figures_have_the_same_bits_on_every_level(void **state)
{
    ap_tiny_model other = floats;
    const char *isa;
    other.type = 1;
    ap_model *parent_model = open_tiny(&floats), *model = open_tiny(&other);
    ap_measure first = {0};
    for (unsigned k = 0; (isa = ap_isa_available(k)); k++) {
        ap_engine *parent = engine_on(parent_model, isa, k + 1), *engine = engine_on(model, isa, k + 1);
        ap_measure m = measure(engine, parent, TOKENS);
        if (k == 0)
            first = m;
        assert_memory_equal(&m, &first, sizeof m);
        ap_engine_destroy(&parent);
        ap_engine_destroy(&engine);
    }
    assert_true(first.kl_mean > 0);
    ap_model_close(&model);
    ap_model_close(&parent_model);
}

static void a_last_token_alone_is_left_out(void **state)
{
    ap_model *model = open_tiny(&floats);
    ap_engine *engine = engine_of(model);
    assert_int_equal(measure(engine, NULL, CHUNK).predictions, CHUNK - 1);
    assert_int_equal(measure(engine, NULL, CHUNK + 1).predictions, CHUNK - 1);
    assert_int_equal(measure(engine, NULL, CHUNK + 2).predictions, CHUNK);
    ap_engine_destroy(&engine);
    ap_model_close(&model);
}

static void what_cannot_be_measured_is_refused(void **state)
{
    ap_tiny_model broken = floats;
    broken.nan_token = 44; /* the second id */
    ap_model *model = open_tiny(&floats), *nan = open_tiny(&broken);
    ap_engine *engine = engine_of(model), *not_finite = engine_of(nan);
    int32_t ids[TOKENS];
    ap_measure m;
    ap_measure_options o = {.size = sizeof o, .chunk_tokens = CHUNK};
    make_ids(ids, TOKENS);
    ids[1] = 44;
    assert_int_equal(ap_engine_measure(engine, NULL, ids, 1, &o, &m, NULL), AP_E_ARG);
    assert_int_equal(ap_engine_measure(not_finite, NULL, ids, TOKENS, &o, &m, NULL), AP_E_NUMERIC);
    assert_int_equal(ap_engine_measure(engine, not_finite, ids, TOKENS, &o, &m, NULL), AP_E_NUMERIC);
    o.memory_bytes_max = 1000;
    assert_int_equal(ap_engine_measure(engine, engine, ids, TOKENS, &o, &m, NULL), AP_E_NOMEM);
    o.chunk_tokens = 1;
    assert_int_equal(ap_engine_measure(engine, NULL, ids, TOKENS, &o, &m, NULL), AP_E_ARG);
    o.chunk_tokens = CHUNK + 1;
    assert_int_equal(ap_engine_measure(engine, NULL, ids, TOKENS, &o, &m, NULL), AP_E_CONTEXT);
    ap_engine_destroy(&engine);
    ap_engine_destroy(&not_finite);
    ap_model_close(&model);
    ap_model_close(&nan);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_are_those_of_the_formulas),
        cmocka_unit_test(figures_have_the_same_bits_on_every_level),
        cmocka_unit_test(a_last_token_alone_is_left_out),
        cmocka_unit_test(what_cannot_be_measured_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
