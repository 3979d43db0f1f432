/* Jobs in, frames out, on the null engine in this process.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <math.h>
#include <string.h>

#include "worker/job.h"

typedef struct bench {
    ap_engine *engine;
    ap_jobs *jobs;
    ap_wire_writer writer;
    json_t *frames; /* of the last round: [[kind, id, body], …] */
} bench;

static int set_up(void **state)
{
    static bench b;
    memset(&b, 0, sizeof b);
    *state = &b;
    ap_engine_options o = {.size = sizeof o, .context_tokens = 1000};
    return ap_engine_create(&b.engine, NULL, &o, NULL) ||
           ap_jobs_create(&b.jobs, b.engine, NULL, &b.writer, NULL);
}

static int tear_down(void **state)
{
    bench *b = *state;
    ap_jobs_destroy(&b->jobs);
    ap_engine_destroy(&b->engine);
    ap_wire_writer_deinit(&b->writer);
    json_decref(b->frames);
    return 0;
}

/* What was written so far, parsed. */
static json_t *take_frames(bench *b)
{
    json_decref(b->frames);
    b->frames = json_array();
    size_t at = b->writer.start;
    while (at < b->writer.buf.len) {
        uint32_t bytes, kind;
        uint64_t id;
        memcpy(&bytes, b->writer.buf.ptr + at, 4);
        memcpy(&kind, b->writer.buf.ptr + at + 4, 4);
        memcpy(&id, b->writer.buf.ptr + at + 8, 8);
        json_t *body =
            json_loadb(b->writer.buf.ptr + at + 16, bytes, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(body);
        json_array_append_new(b->frames, json_pack("[i, I, o]", (int)kind, (json_int_t)id, body));
        at += 16 + bytes;
    }
    b->writer.start = b->writer.buf.len;
    return b->frames;
}

static json_int_t kind_of(const json_t *frames, size_t i)
{
    return json_integer_value(json_array_get(json_array_get(frames, i), 0));
}
static const json_t *body_of(const json_t *frames, size_t i)
{
    return json_array_get(json_array_get(frames, i), 2);
}
static const char *text_of(const json_t *body, const char *key)
{
    return json_string_value(json_object_get(body, key));
}
static json_int_t number_of(const json_t *body, const char *key)
{
    return json_integer_value(json_object_get(body, key));
}

static json_t *run(bench *b, uint64_t id, const char *job)
{
    assert_ok(ap_jobs_submit(b->jobs, id, job, strlen(job), err));
    bool busy = true;
    for (int i = 0; i < 3000 && busy; i++)
        assert_ok(ap_jobs_step(b->jobs, &busy, err));
    return take_frames(b);
}

static void a_completion_is_accepted_streamed_and_done(void **state)
{
    json_t *f =
        run(*state, 9, "{\"kind\":\"completion\",\"prompt\":\"ab\\u00e4\",\"max_tokens\":3,\"seed\":1}");
    assert_int_equal(json_array_size(f), 5);
    assert_int_equal(kind_of(f, 0), AP_WORKER_ACCEPTED);
    assert_int_equal(number_of(body_of(f, 0), "prompt_tokens"), 4);
    assert_int_equal(kind_of(f, 1), AP_WORKER_TEXT);
    assert_string_equal(text_of(body_of(f, 1), "text"), "a");
    assert_null(json_object_get(body_of(f, 1), "tokens"));
    assert_int_equal(kind_of(f, 4), AP_WORKER_DONE);
    const json_t *done = body_of(f, 4);
    assert_string_equal(text_of(done, "finish_reason"), "length");
    assert_string_equal(text_of(done, "text"), ".");
    assert_true(json_is_null(json_object_get(done, "stop")));
    assert_int_equal(number_of(done, "prompt_tokens"), 4);
    assert_int_equal(number_of(done, "completion_tokens"), 3);
    assert_true(json_real_value(json_object_get(done, "prompt_ms")) == 1.5);
}

static void prompts_may_be_ids(void **state)
{
    json_t *f = run(*state, 9, "{\"kind\":\"completion\",\"prompt\":[104,105],\"max_tokens\":2,\"seed\":-1}");
    assert_int_equal(json_array_size(f), 4);
    assert_string_equal(text_of(body_of(f, 1), "text"), "h");
    assert_string_equal(text_of(body_of(f, 2), "text"), "i");
}

static void a_chat_is_rendered_from_all_its_parts(void **state)
{
    bench *b = *state;
    json_t *f = run(b, 1,
                    "{\"kind\":\"chat\",\"messages\":[{\"role\":\"user\",\"content\":\"a\\u0000\"}],"
                    "\"tools\":[{\"x\":1.5}],"
                    "\"kwargs\":{\"k\":true},\"now\":5,\"max_tokens\":200,\"seed\":0}");
    ap_buf text = {0};
    for (size_t i = 1; i + 1 < json_array_size(f); i++)
        assert_ok(ap_buf_add_str(&text, ap_str_from(text_of(body_of(f, i), "text")), err));
    assert_non_null(strstr(text.ptr, "{\"role\":\"user\",\"content\":\"a\\u0000\"}"));
    assert_non_null(strstr(text.ptr, "\"tools\":[{\"x\":1.5}]"));
    assert_non_null(strstr(text.ptr, "\"kwargs\":{\"k\":true}"));
    assert_non_null(strstr(text.ptr, "\"add_generation_prompt\":true"));
    ap_buf_deinit(&text);
}

static void an_answer_is_taken_apart(void **state)
{
    json_t *f = run(*state, 1,
                    "{\"kind\":\"chat\",\"messages\":[{\"role\":\"user\",\"content\":\"^%$\"}],\"kwargs\":{\"k\":1,\"r\":2,\"l\":3},"
                    "\"now\":5,\"max_tokens\":60,\"seed\":0}");
    assert_string_equal(text_of(body_of(f, 0), "no_effect"), "k, l");
    unsigned calls = 0, arguments = 0, thoughts = 0;
    for (size_t i = 1; i + 1 < json_array_size(f); i++) {
        const json_t *call = json_array_get(json_object_get(body_of(f, i), "calls"), 0);
        const char *thought = text_of(body_of(f, i), "reasoning");
        calls += text_of(call, "name") && strcmp(text_of(call, "name"), "f") == 0 && number_of(call, "index") == 0;
        arguments += text_of(call, "arguments") && strcmp(text_of(call, "arguments"), "{}") == 0;
        thoughts += thought && strcmp(thought, "$") == 0;
        if (call || thought)
            assert_string_equal(text_of(body_of(f, i), "text"), "");
    }
    assert_int_equal(calls, 1);
    assert_int_equal(arguments, 1);
    assert_int_equal(thoughts, 1);
}

static void stop_strings_and_logprobs_are_reported(void **state)
{
    json_t *f = run(*state, 1,
                    "{\"kind\":\"completion\",\"prompt\":[97,255,98],\"seed\":1,\"stop\":[\"b\"],"
                    "\"logprobs\":true,\"top_logprobs\":2}");
    assert_int_equal(json_array_size(f), 5);
    const json_t *token = json_array_get(json_object_get(body_of(f, 2), "tokens"), 0);
    assert_int_equal(number_of(token, "id"), 255);
    assert_string_equal(text_of(token, "text"), "\xef\xbf\xbd"); /* a byte that is no character */
    assert_int_equal(json_integer_value(json_array_get(json_object_get(token, "bytes"), 0)), 255);
    assert_true(json_number_value(json_object_get(token, "logprob")) == -0.25);
    const json_t *top = json_object_get(token, "top");
    assert_int_equal(json_array_size(top), 2);
    assert_true(json_number_value(json_object_get(json_array_get(top, 1), "logprob")) == -9999);
    assert_string_equal(text_of(body_of(f, 4), "finish_reason"), "stop");
    assert_string_equal(text_of(body_of(f, 4), "stop"), "b");
}

#define BODY "\"kind\":\"completion\",\"prompt\":\"x\",\"max_tokens\":1,\"seed\":1"

static void bad_jobs_are_refused_by_the_name_of_their_field(void **state)
{
    static const struct {
        const char *job, *param, *message;
    } bad[] = {
        {"", NULL, "not a JSON object"},
        {"[]", NULL, "not a JSON object"},
        {"{" BODY ",\"seed\":2}", NULL, "not a JSON object"},
        {"{" BODY "} x", NULL, "not a JSON object"},
        {"{" BODY ",\"stop\":[\"\xff\"]}", NULL, "not a JSON object"},
        {"{" BODY ",\"colour\":1}", NULL, "colour"},
        {"{" BODY ",\"temperature\":-0.1}", "temperature", "0 to 100"},
        {"{" BODY ",\"temperature\":100.5}", "temperature", ""},
        {"{" BODY ",\"temperature\":\"1\"}", "temperature", ""},
        {"{" BODY ",\"temperature\":null}", "temperature", ""},
        {"{" BODY ",\"top_p\":0}", "top_p", "above 0 to 1"},
        {"{" BODY ",\"top_p\":1e-300}", "top_p", ""},
        {"{" BODY ",\"top_p\":1.0001}", "top_p", ""},
        {"{" BODY ",\"min_p\":2}", "min_p", ""},
        {"{" BODY ",\"top_k\":-1}", "top_k", "integer"},
        {"{" BODY ",\"top_k\":1.5}", "top_k", ""},
        {"{" BODY ",\"top_k\":2147483648}", "top_k", ""},
        {"{" BODY ",\"repetition_penalty\":0}", "repetition_penalty", ""},
        {"{" BODY ",\"frequency_penalty\":101}", "frequency_penalty", ""},
        {"{" BODY ",\"presence_penalty\":-101}", "presence_penalty", ""},
        {"{" BODY ",\"choice\":65536}", "choice", ""},
        {"{" BODY ",\"ignore_eos\":1}", "ignore_eos", ""},
        {"{" BODY ",\"logprobs\":5}", "logprobs", ""},
        {"{" BODY ",\"top_logprobs\":1}", "top_logprobs", "needs"},
        {"{" BODY ",\"logprobs\":true,\"top_logprobs\":21}", "top_logprobs", "20"},
        {"{" BODY ",\"stop\":\"x\"}", "stop", "array"},
        {"{" BODY ",\"stop\":[\"\"]}", "stop", "1 to 256"},
        {"{" BODY ",\"stop\":[5]}", "stop", ""},
        {"{" BODY ",\"stop\":[\"a\\u0000\"]}", "stop", "NUL"},
        {"{" BODY ",\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"a\",\"b\",\"c\",\"d\","
                  "\"e\",\"f\","
         "\"g\",\"h\"]}",
         "stop", "16"},
        {"{" BODY ",\"logit_bias\":[]}", "logit_bias", ""},
        {"{" BODY ",\"logit_bias\":{\"256\":1}}", "logit_bias", "token id"},
        {"{" BODY ",\"logit_bias\":{\"-1\":1}}", "logit_bias", ""},
        {"{" BODY ",\"logit_bias\":{\"\":1}}", "logit_bias", ""},
        {"{" BODY ",\"logit_bias\":{\"1x\":1}}", "logit_bias", ""},
        {"{" BODY ",\"logit_bias\":{\"18446744073709551617\":1}}", "logit_bias", ""},
        {"{" BODY ",\"logit_bias\":{\"1\":100.1}}", "logit_bias", "-100 to 100"},
        {"{" BODY ",\"messages\":[]}", "messages", "completion"},
        {"{" BODY ",\"now\":1}", "now", "completion"},
        {"{\"prompt\":\"x\",\"seed\":1}", "kind", ""},
        {"{\"kind\":\"song\",\"seed\":1}", "kind", ""},
        {"{\"kind\":\"completion\",\"prompt\":\"x\"}", "seed", "missing"},
        {"{\"kind\":\"completion\",\"prompt\":\"x\",\"seed\":1.5}", "seed", ""},
        {"{\"kind\":\"completion\",\"prompt\":\"x\",\"seed\":1,\"max_tokens\":0}", "max_tokens",
         "1 to 2147483647"},
        {"{\"kind\":\"completion\",\"seed\":1}", "prompt", "missing"},
        {"{\"kind\":\"completion\",\"seed\":1,\"prompt\":{}}", "prompt", ""},
        {"{\"kind\":\"completion\",\"seed\":1,\"prompt\":\"\"}", "prompt", "no token"},
        {"{\"kind\":\"completion\",\"seed\":1,\"prompt\":[]}", "prompt", "no token"},
        {"{\"kind\":\"completion\",\"seed\":1,\"prompt\":[256]}", "prompt", "token id"},
        {"{\"kind\":\"completion\",\"seed\":1,\"prompt\":[-1]}", "prompt", ""},
        {"{\"kind\":\"completion\",\"seed\":1,\"prompt\":[\"x\"]}", "prompt", ""},
        {"{\"kind\":\"chat\",\"seed\":1,\"now\":1}", "messages", ""},
        {"{\"kind\":\"chat\",\"seed\":1,\"now\":1,\"messages\":[]}", "messages", "empty"},
        {"{\"kind\":\"chat\",\"seed\":1,\"messages\":[{}]}", "now", ""},
        {"{\"kind\":\"chat\",\"seed\":1,\"now\":1,\"messages\":[{}],\"prompt\":\"x\"}", "prompt", "chat"},
        {"{\"kind\":\"chat\",\"seed\":1,\"now\":1,\"messages\":[{}],\"tools\":{}}", "tools", ""},
        {"{\"kind\":\"chat\",\"seed\":1,\"now\":1,\"messages\":[{}],\"kwargs\":[]}", "kwargs", ""},
        {"{\"kind\":\"chat\",\"seed\":1,\"now\":1,\"messages\":[{}],\"kwargs\":{\"a b\":1}}", "kwargs", ""},
        {"{\"kind\":\"chat\",\"seed\":1,\"now\":1,\"messages\":[{}],\"kwargs\":{\"messages\":1}}", "kwargs", "'messages'"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *f = run(*state, i + 1, bad[i].job);
        assert_int_equal(json_array_size(f), 1);
        assert_int_equal(kind_of(f, 0), AP_WORKER_ERROR);
        const json_t *body = body_of(f, 0);
        const char *param = text_of(body, "param"), *message = text_of(body, "message");
        if (strcmp(text_of(body, "status"), "E_ARG") != 0 || !strstr(message, bad[i].message) ||
            (param == NULL) != (bad[i].param == NULL) || (param && strcmp(param, bad[i].param) != 0))
            fail_msg("%s: %s, %s", bad[i].job, param ? param : "-", message);
    }
}

static void deep_json_is_refused_and_not_followed(void **state)
{
    ap_buf job = {0};
    assert_ok(ap_buf_add_str(&job, AP_STR("{" BODY ",\"kwargs\":"), err));
    for (int i = 0; i < 100000; i++)
        assert_ok(ap_buf_add_char(&job, '[', err));
    json_t *f = run(*state, 1, job.ptr);
    assert_int_equal(kind_of(f, 0), AP_WORKER_ERROR);
    ap_buf_deinit(&job);
}

static void a_long_prompt_is_refused_with_both_counts(void **state)
{
    ap_buf job = {0};
    assert_ok(ap_buf_add_str(&job, AP_STR("{\"kind\":\"completion\",\"seed\":1,\"prompt\":\""), err));
    for (int i = 0; i < 1001; i++)
        assert_ok(ap_buf_add_char(&job, 'x', err));
    assert_ok(ap_buf_add_str(&job, AP_STR("\"}"), err));
    const json_t *body = body_of(run(*state, 1, job.ptr), 0);
    assert_string_equal(text_of(body, "status"), "E_CONTEXT");
    assert_string_equal(text_of(body, "param"), "prompt");
    assert_int_equal(number_of(body, "prompt_tokens"), 1001);
    assert_int_equal(number_of(body, "context_tokens"), 1000);
    ap_buf_deinit(&job);
    body = body_of(
        run(*state, 2, "{\"kind\":\"completion\",\"seed\":1,\"prompt\":\"x\",\"max_tokens\":1000}"), 0);
    assert_string_equal(text_of(body, "status"), "E_CONTEXT");
    assert_string_equal(text_of(body, "param"), "max_tokens");
}

static void a_template_that_refuses_is_told_in_valid_utf8(void **state)
{
    json_t *f = run(*state, 1, "{\"kind\":\"chat\",\"messages\":[\"refuse\"],\"now\":1,\"seed\":1}");
    const json_t *body = body_of(f, 0);
    assert_string_equal(text_of(body, "status"), "E_TEMPLATE");
    assert_string_equal(text_of(body, "param"), "messages");
    assert_non_null(strstr(text_of(body, "message"), "the template said"));
}

static void a_request_fails_alone(void **state)
{
    bench *b = *state;
    static const char bad[] = "{\"kind\":\"completion\",\"prompt\":[97,2],\"seed\":1}";
    static const char good[] = "{\"kind\":\"completion\",\"prompt\":\"x\",\"max_tokens\":4,\"seed\":1}";
    assert_ok(ap_jobs_submit(b->jobs, 1, bad, sizeof bad - 1, err));
    assert_ok(ap_jobs_submit(b->jobs, 3, bad, sizeof bad - 1, err));
    ap_jobs_cancel(b->jobs, 3);
    ap_jobs_cancel(b->jobs, 77);
    json_t *f = run(b, 2, good);
    unsigned failed = 0, done = 0, cancelled = 0;
    for (size_t i = 0; i < json_array_size(f); i++) {
        failed +=
            kind_of(f, i) == AP_WORKER_ERROR && strcmp(text_of(body_of(f, i), "status"), "E_NUMERIC") == 0;
        if (kind_of(f, i) == AP_WORKER_DONE) {
            done++;
            cancelled += strcmp(text_of(body_of(f, i), "finish_reason"), "cancelled") == 0;
        }
    }
    assert_int_equal(failed, 1);
    assert_int_equal(done, 2);
    assert_int_equal(cancelled, 1);
}

static void a_token_too_long_for_a_frame_fails_its_request(void **state)
{
    json_t *f = run(*state, 1, "{\"kind\":\"completion\",\"prompt\":[97,3],\"seed\":1,\"max_tokens\":100}");
    size_t last = json_array_size(f) - 1;
    assert_int_equal(kind_of(f, last), AP_WORKER_ERROR);
    assert_string_equal(text_of(body_of(f, last), "status"), "E_LIMIT");
    assert_int_equal(last, 2);
    /* The engine let it go: the id is free again. */
    f = run(*state, 1, "{" BODY "}");
    assert_int_equal(kind_of(f, json_array_size(f) - 1), AP_WORKER_DONE);
}

static void an_id_in_use_is_refused(void **state)
{
    bench *b = *state;
    assert_ok(ap_jobs_submit(b->jobs, 1, "{" BODY "}", strlen("{" BODY "}"), err));
    assert_ok(ap_jobs_submit(b->jobs, 1, "{" BODY "}", strlen("{" BODY "}"), err));
    json_t *f = take_frames(b);
    assert_string_equal(text_of(body_of(f, 1), "status"), "E_STATE");
}

static void an_engine_that_stops_is_a_failure_of_the_step(void **state)
{
    bench *b = *state;
    static const char job[] = "{\"kind\":\"completion\",\"prompt\":[1],\"seed\":1}";
    assert_ok(ap_jobs_submit(b->jobs, 1, job, sizeof job - 1, err));
    bool busy;
    ap_error error = {0};
    assert_int_equal(ap_jobs_step(b->jobs, &busy, &error), AP_E_BUG);
    assert_true(error.message[0]);
}

static ap_status one_job(void *context)
{
    static const char job[] =
        "{\"kind\":\"completion\",\"prompt\":\"a\\u00e4\\n\",\"max_tokens\":3,\"seed\":1,"
        "\"logprobs\":true,\"top_logprobs\":2,\"stop\":[\"z\"]}";
    bench b = {0};
    bool busy = true;
    ap_engine_options o = {.size = sizeof o, .context_tokens = 1000};
    ap_status status = ap_engine_create(&b.engine, NULL, &o, NULL);
    if (status == AP_OK)
        status = ap_jobs_create(&b.jobs, b.engine, NULL, &b.writer, NULL);
    if (status == AP_OK)
        status = ap_jobs_submit(b.jobs, 1, job, sizeof job - 1, NULL);
    while (status == AP_OK && busy)
        status = ap_jobs_step(b.jobs, &busy, NULL);
    ap_jobs_destroy(&b.jobs);
    ap_engine_destroy(&b.engine);
    ap_wire_writer_deinit(&b.writer);
    return status;
}

static void memory_may_end_at_any_point(void **state) { ap_test_each_oom(one_job, NULL); }

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_completion_is_accepted_streamed_and_done),
        TEST(prompts_may_be_ids),
        TEST(a_chat_is_rendered_from_all_its_parts),
        TEST(an_answer_is_taken_apart),
        TEST(stop_strings_and_logprobs_are_reported),
        TEST(bad_jobs_are_refused_by_the_name_of_their_field),
        TEST(deep_json_is_refused_and_not_followed),
        TEST(a_long_prompt_is_refused_with_both_counts),
        TEST(a_template_that_refuses_is_told_in_valid_utf8),
        TEST(a_request_fails_alone),
        TEST(a_token_too_long_for_a_frame_fails_its_request),
        TEST(an_id_in_use_is_refused),
        TEST(an_engine_that_stops_is_a_failure_of_the_step),
        TEST(memory_may_end_at_any_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
