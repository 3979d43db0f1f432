/* Importances gathered from a text: what the matrices read, whatever the threads and the cut.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "aperto.h"
#include "format/gguf.h"
#include "model/imatrix.h"
#include "support.h"
#include "tiny_model.h"

enum { TOKENS = 200, CHUNK = 64 };

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

static void make_ids(int32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ids[i] = (int32_t)((i * 37 + i * i * 5 + 11) % 256);
}

/* The file's bytes. */
static ap_buf gathered(const ap_model *model, size_t count, unsigned threads, uint32_t step_tokens)
{
    int32_t ids[TOKENS];
    make_ids(ids, count);
    ap_engine_options o = {.size = sizeof o, .threads = threads, .kv_type = AP_KV_F32, .context_tokens = CHUNK, .step_tokens = step_tokens,
                           .requests_max = 1};
    ap_imatrix_options io = {.size = sizeof io, .chunk_tokens = CHUNK, .dataset = "squares"};
    ap_engine *engine;
    uint64_t bytes;
    int out = ap_test_temporary();
    ap_buf file;
    assert_ok(ap_engine_create(&engine, model, &o, err));
    assert_ok(ap_engine_imatrix(engine, ids, count, &io, out, &bytes, err));
    ap_engine_destroy(&engine);
    ap_mapping map;
    assert_ok(ap_file_map(out, &map, err));
    assert_int_equal(map.len, bytes);
    file = (ap_buf){0};
    assert_ok(ap_buf_add(&file, map.ptr, map.len, err));
    ap_file_unmap(&map);
    close(out);
    return file;
}

static const float *numbers(const ap_gguf *gguf, const char *name, uint64_t columns, uint64_t matrices)
{
    const ap_gguf_tensor *t = ap_gguf_find_tensor(gguf, ap_str_from(name));
    if (!t)
        fail_msg("there is no tensor '%s'", name);
    assert_int_equal(t->dims[0], columns);
    assert_int_equal(t->dims[1], matrices);
    return (const float *)(const void *)ap_gguf_data(gguf, t);
}

static void threads_and_steps_change_no_bit(void **state)
{
    static const ap_tiny_model models[] = {{.seed = 4, .layers = 2, .width = 64, .ffn = 96}, {.seed = 5, .family = "mixtral"}, {.seed = 6, .family = "phi3"}};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        ap_model *model = open_tiny(&models[i]);
        ap_buf one = gathered(model, TOKENS, 1, 64), three = gathered(model, TOKENS, 3, 64), steps = gathered(model, TOKENS, 2, 7);
        assert_int_equal(one.len, three.len);
        assert_memory_equal(one.ptr, three.ptr, one.len);
        if (!model->sizes.expert_count) { /* with experts, whose tokens come first depends on the cut: sums round otherwise */
            assert_int_equal(one.len, steps.len);
            assert_memory_equal(one.ptr, steps.ptr, one.len);
        }
        ap_buf_deinit(&one);
        ap_buf_deinit(&three);
        ap_buf_deinit(&steps);
        ap_model_close(&model);
    }
}

/* Of the first layer it is known without the forward pass: the normed embeddings. */
static void sums_are_of_what_the_matrices_read(void **state)
{
    ap_model *model = open_tiny(&(ap_tiny_model){.seed = 7, .layers = 2, .width = 64, .ffn = 96});
    ap_buf file = gathered(model, TOKENS, 2, 64);
    ap_gguf *gguf;
    assert_ok(ap_gguf_open(&gguf, (const unsigned char *)file.ptr, file.len, err));
    int32_t ids[TOKENS];
    double expected[64] = {0};
    make_ids(ids, TOKENS);
    for (size_t i = 0; i < TOKENS; i++) {
        float x[64];
        double squares = 0;
        ap_model_embed(model, (uint32_t)ids[i], x);
        for (int c = 0; c < 64; c++)
            squares += (double)x[c] * (double)x[c];
        for (int c = 0; c < 64; c++) {
            double normed = (double)x[c] / sqrt(squares / 64 + (double)model->sizes.norm_epsilon) * (double)model->layers[0].attn_norm[c];
            expected[c] += normed * normed;
        }
    }
    static const char *const readers[] = {"blk.0.attn_q.weight.in_sum2", "blk.0.attn_k.weight.in_sum2", "blk.0.attn_v.weight.in_sum2"};
    for (size_t r = 0; r < 3; r++) {
        const float *sums = numbers(gguf, readers[r], 64, 1);
        for (int c = 0; c < 64; c++)
            if (fabs((double)sums[c] - expected[c]) > 1e-5 * expected[c])
                fail_msg("%s: column %d is %g, %g is expected", readers[r], c, (double)sums[c], expected[c]);
    }
    assert_true(numbers(gguf, "blk.1.ffn_down.weight.counts", 1, 1)[0] == TOKENS);
    (void)numbers(gguf, "blk.1.ffn_down.weight.in_sum2", 96, 1);
    (void)numbers(gguf, "blk.1.attn_output.weight.in_sum2", 64, 1);
    uint32_t chunks;
    assert_ok(ap_gguf_get_u32(gguf, "imatrix.chunk_count", &chunks, err));
    assert_int_equal(chunks, 4);
    ap_gguf_close(&gguf);
    ap_buf_deinit(&file);
    ap_model_close(&model);
}

static void each_expert_counts_its_own_tokens(void **state)
{
    ap_model *model = open_tiny(&(ap_tiny_model){.seed = 8, .family = "mixtral"});
    ap_buf file = gathered(model, TOKENS, 2, 64);
    ap_gguf *gguf;
    assert_ok(ap_gguf_open(&gguf, (const unsigned char *)file.ptr, file.len, err));
    uint32_t experts = model->sizes.expert_count;
    const float *counts = numbers(gguf, "blk.0.ffn_gate_exps.weight.counts", 1, experts);
    const float *sums = numbers(gguf, "blk.0.ffn_gate_exps.weight.in_sum2", model->sizes.width, experts);
    const float *down = numbers(gguf, "blk.0.ffn_down_exps.weight.in_sum2", model->sizes.expert_ffn_width, experts);
    float total = 0;
    for (uint32_t e = 0; e < experts; e++) {
        total += counts[e];
        assert_true((sums[e * model->sizes.width] > 0) == (counts[e] > 0));
        assert_true((down[e * model->sizes.expert_ffn_width] > 0) == (counts[e] > 0));
    }
    assert_true(total == (float)(TOKENS * model->sizes.expert_used));
    ap_gguf_close(&gguf);
    ap_buf_deinit(&file);
    ap_model_close(&model);
}

static void the_quantiser_takes_the_file(void **state)
{
    ap_tiny_model tiny = {.seed = 9, .layers = 2, .width = 256, .ffn = 256};
    ap_model *model = open_tiny(&tiny);
    ap_buf file = gathered(model, TOKENS, 2, 64);
    int source = ap_tiny_model_file(&tiny), imatrix = ap_test_temporary(), with = ap_test_temporary(), without = ap_test_temporary();
    assert_ok(ap_file_write_all(imatrix, file.ptr, file.len, err));
    ap_quantize_options options = {.size = sizeof options, .type = "Q4_0", .imatrix_fd = imatrix};
    ap_quantize_report report;
    assert_ok(ap_model_quantize(&(ap_import_file){.fd = source}, 1, with, &options, &report, err));
    options.imatrix_fd = -1;
    assert_ok(ap_model_quantize(&(ap_import_file){.fd = source}, 1, without, &options, &report, err));
    ap_mapping a, b;
    assert_ok(ap_file_map(with, &a, err));
    assert_ok(ap_file_map(without, &b, err));
    assert_int_equal(a.len, b.len);
    assert_memory_not_equal(a.ptr, b.ptr, a.len);
    ap_file_unmap(&a);
    ap_file_unmap(&b);
    close(source);
    close(imatrix);
    close(with);
    close(without);
    ap_buf_deinit(&file);
    ap_model_close(&model);
}

static void nonsense_is_refused(void **state)
{
    ap_model *model = open_tiny(&(ap_tiny_model){.seed = 4, .layers = 1, .width = 64, .ffn = 96});
    ap_engine_options o = {.size = sizeof o, .context_tokens = CHUNK, .requests_max = 1};
    ap_imatrix_options io = {.size = sizeof io, .chunk_tokens = CHUNK, .dataset = "x"};
    ap_engine *engine;
    uint64_t bytes;
    int32_t ids[CHUNK + 1];
    int out = ap_test_temporary();
    make_ids(ids, CHUNK + 1);
    assert_ok(ap_engine_create(&engine, model, &o, err));
    assert_int_equal(ap_engine_imatrix(engine, ids, 0, &io, out, &bytes, NULL), AP_E_ARG);
    io.chunk_tokens = 0;
    assert_int_equal(ap_engine_imatrix(engine, ids, 3, &io, out, &bytes, NULL), AP_E_ARG);
    io.chunk_tokens = CHUNK + 1;
    assert_int_equal(ap_engine_imatrix(engine, ids, CHUNK + 1, &io, out, &bytes, NULL), AP_E_CONTEXT);
    ids[1] = 1 << 30;
    assert_int_not_equal(ap_engine_imatrix(engine, ids, 3, &io, out, &bytes, NULL), AP_OK);
    io.size = 1;
    assert_int_equal(ap_engine_imatrix(engine, ids, 3, &io, out, &bytes, NULL), AP_E_ARG);
    assert_int_equal(lseek(out, 0, SEEK_END), 0);
    close(out);
    ap_engine_destroy(&engine);
    ap_model_close(&model);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_and_steps_change_no_bit),
        cmocka_unit_test(sums_are_of_what_the_matrices_read),
        cmocka_unit_test(each_expert_counts_its_own_tokens),
        cmocka_unit_test(the_quantiser_takes_the_file),
        cmocka_unit_test(nonsense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
