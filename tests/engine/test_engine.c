/* The engine's promises on a small seeded model: neighbours, preemption, cancelling, limits.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <malloc.h>
#include <string.h>
#include <unistd.h>

#include "aperto.h"
#include "support.h"
#include "tiny_model.h"

enum { ANSWERS = 32, ANSWER_TOKENS = 64 };

static ap_model *open_tiny(const ap_tiny_model *tiny)
{
    int source = ap_tiny_model_file(tiny), packed = ap_test_temporary();
    ap_import_options options = {.size = sizeof options};
    ap_import_report report;
    assert_ok(ap_model_import(source, packed, &options, &report, err));
    ap_model *model = NULL;
    assert_ok(ap_model_open(&model, packed, err));
    close(source);
    close(packed);
    return model;
}

static ap_engine *new_engine(const ap_model *model, uint32_t context, uint64_t kv_bytes, unsigned threads)
{
    ap_engine_options options = {.size = sizeof options, .context_tokens = context, .kv_bytes = kv_bytes, .threads = threads};
    ap_engine *engine = NULL;
    assert_ok(ap_engine_create(&engine, model, &options, err));
    return engine;
}

/* What came out of each request. */
typedef struct outcome {
    int32_t tokens[ANSWERS][ANSWER_TOKENS];
    uint32_t count[ANSWERS];
    ap_finish finish[ANSWERS];
    ap_status failed[ANSWERS];
    char text[ANSWERS][4096];
    int32_t stop_index[ANSWERS];
    uint32_t ended;
} outcome;

static void keep_event(void *context, const ap_event *event)
{
    outcome *o = context;
    uint64_t id = event->id;
    assert_true(id < ANSWERS);
    if (event->kind == AP_EVENT_TOKEN && o->count[id] < ANSWER_TOKENS)
        o->tokens[id][o->count[id]++] = event->token;
    if (event->kind != AP_EVENT_FAILED)
        strncat(o->text[id], event->text, event->text_length); /* 64 tokens are far below the room */
    if (event->kind == AP_EVENT_TOKEN)
        return;
    o->ended++;
    if (event->kind == AP_EVENT_FAILED) {
        o->failed[id] = event->error->status;
    } else {
        o->finish[id] = event->finish;
        o->stop_index[id] = event->stop_index;
    }
}

static void run_all(ap_engine *engine, outcome *o)
{
    bool busy = true;
    for (int steps = 0; busy; steps++) {
        assert_true(steps < 100000);
        assert_ok(ap_engine_step(engine, keep_event, o, &busy, err));
    }
}

static ap_request request_of(uint64_t id, const int32_t *prompt, size_t count, uint32_t max_tokens)
{
    ap_request r = {.size = sizeof r, .id = id, .prompt = prompt, .prompt_count = count, .max_tokens = max_tokens,
                    .sampling = ap_sampling_default(), .ignore_end = true};
    r.sampling.seed = 1000 + id;
    return r;
}

static void fill_prompt(int32_t *prompt, size_t count, uint64_t seed)
{
    for (size_t i = 0; i < count; i++)
        prompt[i] = (int32_t)(ap_test_random(&seed) % 256);
}

/* Sixteen requests of many lengths and settings, each alone and all together. */
static void neighbours(uint64_t kv_bytes, bool expect_preemption)
{
    enum { COUNT = 16, PROMPT_MAX = 700 };
    ap_tiny_model tiny = {.seed = 7, .type = 3, .context = 2048};
    ap_model *model = open_tiny(&tiny);
    static int32_t prompts[COUNT][PROMPT_MAX];
    size_t lengths[COUNT];
    ap_request requests[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) {
        lengths[i] = 1 + i * 43;
        fill_prompt(prompts[i], lengths[i], 50 + i);
        requests[i] = request_of(i, prompts[i], lengths[i], 8 + 3 * i);
        requests[i].sampling.temperature = i % 3 == 0 ? 0 : 0.5f + 0.1f * (float)i;
        requests[i].sampling.top_p = i % 2 ? 0.9f : 1;
        requests[i].sampling.top_k = i % 5 == 1 ? 40 : 0;
        requests[i].sampling.min_p = i % 7 == 2 ? 0.05f : 0;
        requests[i].sampling.repetition_penalty = i % 4 == 3 ? 1.3f : 1;
        requests[i].sampling.frequency_penalty = i % 6 == 4 ? 0.5f : 0;
    }
    static outcome alone, together;
    memset(&alone, 0, sizeof alone);
    memset(&together, 0, sizeof together);
    for (uint32_t i = 0; i < COUNT; i++) {
        ap_engine *engine = new_engine(model, 2048, 0, 1);
        assert_ok(ap_engine_submit(engine, &requests[i], err));
        run_all(engine, &alone);
        ap_engine_destroy(&engine);
    }
    ap_engine *engine = new_engine(model, 2048, kv_bytes, 2);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_ok(ap_engine_submit(engine, &requests[i], err));
    run_all(engine, &together);
    ap_engine_stats stats;
    ap_engine_stats_of(engine, &stats);
    assert_int_equal(stats.pages_free, stats.page_count);
    if (expect_preemption)
        assert_true(stats.preemptions > 0);
    /* Once more on the same, warm engine, in the other order. */
    static outcome warm;
    memset(&warm, 0, sizeof warm);
    for (uint32_t i = COUNT; i-- > 0;)
        assert_ok(ap_engine_submit(engine, &requests[i], err));
    run_all(engine, &warm);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(alone.count[i], 8 + 3 * i);
        assert_int_equal(together.count[i], alone.count[i]);
        assert_memory_equal(alone.tokens[i], together.tokens[i], alone.count[i] * sizeof(int32_t));
        assert_memory_equal(alone.tokens[i], warm.tokens[i], alone.count[i] * sizeof(int32_t));
        assert_string_equal(alone.text[i], together.text[i]);
    }
    ap_engine_destroy(&engine);
    ap_model_close(&model);
}

static void request_gives_same_tokens_alone_and_among_sixteen(void **state) { neighbours(0, false); }

static void preemption_does_not_show_in_any_answer(void **state)
{
    /* Room for hardly more than one context of 2,048 tokens: 2 layers x 2 heads x 64 x 2 x 2 bytes each. */
    neighbours((uint64_t)2048 * 2 * 2 * 64 * 2 * 2, true);
}

static void prompt_beyond_the_context_is_refused_with_both_counts(void **state)
{
    ap_tiny_model tiny = {.seed = 1, .layers = 1, .context = 64};
    ap_model *model = open_tiny(&tiny);
    ap_engine *engine = new_engine(model, 64, 0, 1);
    int32_t prompt[6400];
    fill_prompt(prompt, 6400, 1);
    static const size_t lengths[] = {64, 65, 6400};
    for (size_t i = 0; i < 3; i++) {
        ap_error error = {0};
        ap_request r = request_of(1, prompt, lengths[i], 0);
        assert_int_equal(ap_engine_submit(engine, &r, &error), AP_E_CONTEXT);
        char number[16];
        (void)snprintf(number, sizeof number, " %zu ", lengths[i]);
        assert_non_null(strstr(error.message, number));
        assert_non_null(strstr(error.message, " 64 "));
    }
    ap_error error = {0};
    ap_request r = request_of(1, prompt, 60, 5);
    assert_int_equal(ap_engine_submit(engine, &r, &error), AP_E_CONTEXT);
    r = request_of(1, prompt, 63, 1); /* the last that fits */
    assert_ok(ap_engine_submit(engine, &r, err));
    static outcome o;
    memset(&o, 0, sizeof o);
    run_all(engine, &o);
    assert_int_equal(o.count[1], 1);
    assert_int_equal(o.finish[1], AP_FINISH_LENGTH);
    ap_engine_destroy(&engine);
    ap_model_close(&model);
}

static void cancelled_request_frees_its_pages_at_once(void **state)
{
    ap_tiny_model tiny = {.seed = 3, .layers = 1};
    ap_model *model = open_tiny(&tiny);
    ap_engine *engine = new_engine(model, 1024, 0, 1);
    int32_t prompt[300];
    fill_prompt(prompt, 300, 9);
    static outcome o;
    memset(&o, 0, sizeof o);
    for (uint64_t id = 0; id < 3; id++) {
        ap_request r = request_of(id, prompt, 300, 100);
        assert_ok(ap_engine_submit(engine, &r, err));
    }
    bool busy;
    for (int i = 0; i < 4; i++)
        assert_ok(ap_engine_step(engine, keep_event, &o, &busy, err));
    for (uint64_t id = 0; id < 3; id++)
        assert_int_equal(ap_engine_cancel(engine, id), AP_OK);
    ap_engine_stats stats;
    ap_engine_stats_of(engine, &stats);
    assert_int_equal(stats.pages_free, stats.page_count);
    run_all(engine, &o);
    for (uint64_t id = 0; id < 3; id++)
        assert_int_equal(o.finish[id], AP_FINISH_CANCELLED);
    assert_int_equal(ap_engine_cancel(engine, 0), AP_E_NOTFOUND);
    ap_engine_destroy(&engine);
    ap_model_close(&model);
}

static void logits_that_are_not_numbers_fail_one_request_only(void **state)
{
    ap_tiny_model tiny = {.seed = 5, .layers = 1, .nan_token = 65, .has_output = true};
    ap_model *model = open_tiny(&tiny);
    int32_t good[40], bad[40];
    fill_prompt(good, 40, 4);
    for (int i = 0; i < 40; i++)
        good[i] = good[i] == 65 ? 66 : good[i];
    memcpy(bad, good, sizeof bad);
    bad[20] = 65;
    static outcome alone, beside;
    memset(&alone, 0, sizeof alone);
    memset(&beside, 0, sizeof beside);
    ap_engine *engine = new_engine(model, 1024, 0, 1);
    ap_request r = request_of(0, good, 40, 20);
    ap_logit_bias never = {65, -1000};
    r.biases = &never;
    r.bias_count = 1;
    assert_ok(ap_engine_submit(engine, &r, err));
    run_all(engine, &alone);
    ap_request poisoned = request_of(1, bad, 40, 20);
    assert_ok(ap_engine_submit(engine, &r, err));
    assert_ok(ap_engine_submit(engine, &poisoned, err));
    run_all(engine, &beside);
    assert_int_equal(beside.failed[1], AP_E_NUMERIC);
    assert_int_equal(beside.count[0], 20);
    assert_memory_equal(alone.tokens[0], beside.tokens[0], 20 * sizeof(int32_t));
    ap_engine_destroy(&engine);
    ap_model_close(&model);
}

static void stop_string_ends_the_text_wherever_it_starts(void **state)
{
    ap_tiny_model tiny = {.seed = 11, .layers = 1};
    ap_model *model = open_tiny(&tiny);
    ap_engine *engine = new_engine(model, 1024, 0, 1);
    int32_t prompt[10];
    fill_prompt(prompt, 10, 2);
    static outcome whole, cut;
    memset(&whole, 0, sizeof whole);
    ap_request r = request_of(0, prompt, 10, 48);
    assert_ok(ap_engine_submit(engine, &r, err));
    run_all(engine, &whole);
    size_t length = strlen(whole.text[0]);
    assert_true(length > 20);
    /* Every three characters of ASCII in the answer, as a stop string, end it before themselves. */
    for (size_t at = 0; at + 3 <= length; at++) {
        char stop[4] = {0};
        memcpy(stop, whole.text[0] + at, 3);
        if ((stop[0] | stop[1] | stop[2]) & 0x80)
            continue;
        const char *first = strstr(whole.text[0], stop);
        memset(&cut, 0, sizeof cut);
        const char *stops[] = {"never seen here", stop};
        ap_request stopped = r;
        stopped.stops = stops;
        stopped.stop_count = 2;
        assert_ok(ap_engine_submit(engine, &stopped, err));
        run_all(engine, &cut);
        assert_int_equal(cut.finish[0], AP_FINISH_STOP);
        assert_int_equal(cut.stop_index[0], 1);
        assert_int_equal(strlen(cut.text[0]), (size_t)(first - whole.text[0]));
        assert_memory_equal(cut.text[0], whole.text[0], strlen(cut.text[0]));
    }
    ap_engine_destroy(&engine);
    ap_model_close(&model);
}

static void wrong_values_are_refused_by_name(void **state)
{
    ap_tiny_model tiny = {.seed = 1, .layers = 1};
    ap_model *model = open_tiny(&tiny);
    ap_engine *engine = new_engine(model, 64, 0, 1);
    int32_t prompt[4] = {1, 2, 3, 4}, outside[2] = {1, AP_TINY_VOCAB};
    static const struct {
        const char *name;
        float value;
    } bad[] = {{"temperature", -1}, {"temperature", 1e30f}, {"top_p", 1.5f}, {"top_p", -0.1f}, {"min_p", 2},
               {"repetition_penalty", 0}, {"frequency_penalty", 1e9f}, {"presence_penalty", -1e9f}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (int nan = 0; nan < 2; nan++) {
            ap_request r = request_of(1, prompt, 4, 4);
            float value = nan ? __builtin_nanf("") : bad[i].value;
            const char *name = bad[i].name;
            float *field = !strcmp(name, "temperature") ? &r.sampling.temperature : !strcmp(name, "top_p") ? &r.sampling.top_p
                           : !strcmp(name, "min_p") ? &r.sampling.min_p
                           : !strcmp(name, "repetition_penalty") ? &r.sampling.repetition_penalty
                           : !strcmp(name, "frequency_penalty") ? &r.sampling.frequency_penalty : &r.sampling.presence_penalty;
            *field = value;
            ap_error error = {0};
            assert_int_equal(ap_engine_submit(engine, &r, &error), AP_E_ARG);
            assert_non_null(strstr(error.message, name));
        }
    ap_error error = {0};
    ap_request r = request_of(1, outside, 2, 4);
    assert_int_equal(ap_engine_submit(engine, &r, &error), AP_E_ARG);
    r = request_of(1, prompt, 0, 4);
    assert_int_equal(ap_engine_submit(engine, &r, &error), AP_E_ARG);
    r = request_of(1, prompt, 4, 4);
    r.top_logprobs = 21;
    assert_int_equal(ap_engine_submit(engine, &r, &error), AP_E_LIMIT);
    ap_engine_destroy(&engine);
    ap_model_close(&model);
}

/* Some models pad their embedding; no token belongs to those rows. */
static void rows_beyond_the_vocabulary_are_never_drawn(void **state)
{
    for (int has_output = 0; has_output < 2; has_output++) {
        ap_tiny_model tiny = {.seed = 21, .type = 2, .layers = 1, .spare_rows = 500, .has_output = has_output};
        ap_model *model = open_tiny(&tiny);
        assert_int_equal(ap_model_info_of(model)->vocab_count, AP_TINY_VOCAB);
        ap_engine *engine = new_engine(model, 1024, 0, 1);
        int32_t prompt[10];
        fill_prompt(prompt, 10, 2);
        static outcome o;
        memset(&o, 0, sizeof o);
        for (uint64_t id = 0; id < 8; id++) {
            ap_request r = request_of(id, prompt, 10, ANSWER_TOKENS);
            r.sampling.temperature = id ? 1 : 0;
            r.sampling.top_k = id % 2 ? 400 : 0;
            assert_ok(ap_engine_submit(engine, &r, err));
        }
        run_all(engine, &o);
        for (uint64_t id = 0; id < 8; id++)
            for (uint32_t i = 0; i < ANSWER_TOKENS; i++)
                assert_in_range(o.tokens[id][i], 0, AP_TINY_VOCAB - 1);
        int32_t outside = AP_TINY_VOCAB;
        ap_request r = request_of(9, &outside, 1, 1);
        assert_int_equal(ap_engine_submit(engine, &r, NULL), AP_E_ARG);
        ap_engine_destroy(&engine);
        ap_model_close(&model);
    }
}

static ap_status import_with(const char *extra_vector, ap_error *error)
{
    ap_tiny_model tiny = {.seed = 2, .layers = 1, .extra_vector = extra_vector};
    int source = ap_tiny_model_file(&tiny), packed = ap_test_temporary();
    ap_import_options options = {.size = sizeof options};
    ap_import_report report;
    ap_status status = ap_model_import(source, packed, &options, &report, error);
    close(source);
    close(packed);
    return status;
}

static void tensor_that_no_rule_reads_is_refused_by_name(void **state)
{
    static const char *const names[] = {"blk.0.ffn_gate_inp.weight", "blk.0.attn_q_norm.weight", "output.bias",
                                        "blk.1.attn_norm.weight"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        ap_error error = {0};
        assert_int_equal(import_with(names[i], &error), AP_E_UNSUPPORTED);
        assert_non_null(strstr(error.message, names[i]));
    }
    assert_ok(import_with("blk.0.attn_rot_embd.weight", err));
}

static void tiny_divisors_and_unknown_cache_types_are_refused(void **state)
{
    ap_tiny_model tiny = {.seed = 1, .layers = 1};
    ap_model *model = open_tiny(&tiny);
    ap_engine *engine = NULL;
    ap_engine_options options = {.size = sizeof options, .kv_type = (ap_kv_type)7, .threads = 1};
    assert_int_equal(ap_engine_create(&engine, model, &options, NULL), AP_E_ARG);
    engine = new_engine(model, 64, 0, 1);
    int32_t prompt[4] = {1, 2, 3, 4};
    /* Dividing by these would make finite logits infinite and put the blame on the model. */
    ap_request r = request_of(1, prompt, 4, 4);
    ap_error error = {0};
    r.sampling.temperature = 1e-40f;
    assert_int_equal(ap_engine_submit(engine, &r, &error), AP_E_ARG);
    assert_non_null(strstr(error.message, "temperature"));
    r.sampling.temperature = 1;
    r.sampling.repetition_penalty = 1e-40f;
    assert_int_equal(ap_engine_submit(engine, &r, &error), AP_E_ARG);
    assert_non_null(strstr(error.message, "repetition_penalty"));
    static outcome o;
    memset(&o, 0, sizeof o);
    r.sampling.temperature = 1e-20f; /* the least that is taken, both at once */
    r.sampling.repetition_penalty = 1e-6f;
    assert_ok(ap_engine_submit(engine, &r, err));
    run_all(engine, &o);
    assert_int_equal(o.count[1], 4);
    ap_engine_destroy(&engine);
    ap_model_close(&model);
}

static ap_status create_and_answer(void *context)
{
    ap_engine *engine = NULL;
    ap_engine_options options = {.size = sizeof options, .context_tokens = 64, .threads = 2};
    ap_error error = {0};
    ap_status status = ap_engine_create(&engine, context, &options, &error);
    int32_t prompt[3] = {1, 2, 3};
    ap_request r = request_of(1, prompt, 3, 4);
    if (status == AP_OK)
        status = ap_engine_submit(engine, &r, &error);
    static outcome o;
    memset(&o, 0, sizeof o);
    bool busy = true;
    while (status == AP_OK && busy)
        status = ap_engine_step(engine, keep_event, &o, &busy, &error);
    ap_engine_destroy(&engine);
    return status;
}

static void memory_that_ends_is_an_error_and_leaks_nothing(void **state)
{
    ap_tiny_model tiny = {.seed = 1, .layers = 1};
    ap_model *model = open_tiny(&tiny);
    ap_test_each_oom(create_and_answer, model);
    ap_model_close(&model);
}

/* The reserve of the engine, see engine.c. */
enum { RESERVE_BYTES = 64 << 20 };

/* What the heap holds; 0 where a sanitizer's heap does not tell. */
static size_t heap_bytes(void)
{
#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
    return 0;
#endif
#endif
    struct mallinfo2 heap = mallinfo2();
    return heap.uordblks + heap.hblkhd;
}

static void memory_that_is_not_there_is_refused_with_the_sum(void **state)
{
    ap_tiny_model tiny = {.seed = 4, .type = 8, .context = 1 << 20};
    ap_model *model = open_tiny(&tiny);
    ap_engine_options o = {.size = sizeof o, .context_tokens = 1 << 18, .threads = 1};
    ap_engine *engine;
    ap_engine_stats stats;
    ap_error error = {0};
    size_t before = heap_bytes();
    assert_ok(ap_engine_create(&engine, model, &o, err));
    size_t taken = heap_bytes() - before;
    ap_engine_stats_of(engine, &stats);
    ap_engine_destroy(&engine);
    if (taken)
        assert_in_range(taken, stats.memory_bytes, stats.memory_bytes + (1 << 20));

    o.memory_bytes_max = stats.memory_bytes + RESERVE_BYTES;
    assert_ok(ap_engine_create(&engine, model, &o, err));
    ap_engine_destroy(&engine);
    for (int i = 0; i < 3; i++) {
        o.memory_bytes_max = (const uint64_t[]){stats.memory_bytes + RESERVE_BYTES - 1, 100 << 20, 1}[i];
        assert_int_equal(ap_engine_create(&engine, model, &o, &error), AP_E_NOMEM);
        assert_null(engine);
        assert_non_null(strstr(error.message, "262144 tokens"));
    }
    assert_non_null(strstr(error.message, " 0 MiB are available"));
    unsigned need, pages, work, requests;
    assert_int_equal(sscanf(error.message, "the model needs %u MiB of memory beside its weights (KV pages for contexts of 262144 "
                                           "tokens %u, work %u, requests %u)", &need, &pages, &work, &requests), 4);
    assert_int_equal(need, pages + work + requests);
    assert_int_equal(pages, 1024); /* four contexts, at most a gigabyte */
    o.memory_bytes_max = 1 << 28;
    o.context_tokens = 4096; /* a smaller context helps, as the message says */
    assert_ok(ap_engine_create(&engine, model, &o, err));
    ap_engine_destroy(&engine);
    ap_model_close(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_gives_same_tokens_alone_and_among_sixteen),
        cmocka_unit_test(preemption_does_not_show_in_any_answer),
        cmocka_unit_test(prompt_beyond_the_context_is_refused_with_both_counts),
        cmocka_unit_test(cancelled_request_frees_its_pages_at_once),
        cmocka_unit_test(logits_that_are_not_numbers_fail_one_request_only),
        cmocka_unit_test(stop_string_ends_the_text_wherever_it_starts),
        cmocka_unit_test(wrong_values_are_refused_by_name),
        cmocka_unit_test(rows_beyond_the_vocabulary_are_never_drawn),
        cmocka_unit_test(tensor_that_no_rule_reads_is_refused_by_name),
        cmocka_unit_test(tiny_divisors_and_unknown_cache_types_are_refused),
        cmocka_unit_test(memory_that_is_not_there_is_refused_with_the_sum),
        cmocka_unit_test(memory_that_ends_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
