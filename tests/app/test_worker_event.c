/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <math.h>
#include <string.h>

#include "base/utf8.h"
#include "worker/event.h"

#define TOKEN "\"id\":1,\"logprob\":-0.5,\"text\":\"a\",\"bytes\":[97]"

static const struct {
    uint32_t kind;
    uint64_t id;
    const char *json;
} good[] = {
    {AP_WORKER_READY, 0, "{\"sandbox\":\"full\",\"model\":{\"name\":\"m\"},\"engine\":{\"threads\":2}}"},
    {AP_WORKER_ACCEPTED, 1, "{\"prompt_tokens\":5}"},
    {AP_WORKER_TEXT, 1, "{\"text\":\"\u00e4x\",\"tokens\":[{" TOKEN ",\"top\":[{" TOKEN "},{" TOKEN "}]}]}"},
    {AP_WORKER_TEXT, 1, "{\"text\":\"\"}"},
    {AP_WORKER_ACCEPTED, 1, "{\"prompt_tokens\":5,\"no_effect\":\"a, b\"}"},
    {AP_WORKER_TEXT, 1,
     "{\"text\":\"\",\"reasoning\":\"r\",\"calls\":[{\"index\":0,\"name\":\"f\",\"id\":\"x\"},{\"index\":0,\"arguments\":\"{\"}]}"},
    {AP_WORKER_DONE, 1,
     "{\"finish_reason\":\"stop\",\"text\":\"x\",\"stop\":\"###\",\"prompt_tokens\":3,\"completion_tokens\":"
     "2,"
     "\"prompt_ms\":1.5,\"completion_ms\":2}"},
    {AP_WORKER_DONE, 1,
     "{\"finish_reason\":\"cancelled\",\"text\":\"\",\"stop\":null,\"prompt_tokens\":3,"
     "\"completion_tokens\":0,\"prompt_ms\":0,\"completion_ms\":0}"},
    {AP_WORKER_ERROR, 1,
     "{\"status\":\"E_CONTEXT\",\"message\":\"too long\",\"param\":\"prompt\",\"prompt_tokens\":9,"
     "\"context_tokens\":8}"},
    {AP_WORKER_ERROR, 0, "{\"status\":\"E_IO\",\"message\":\"the model file was replaced\"}"},
    {AP_WORKER_STATS_REPLY, 0, "{\"running\":0}"},
};
enum { GOOD_COUNT = sizeof good / sizeof *good };

static ap_status read(size_t which, const char *bytes, size_t count, ap_worker_event *event, json_t **body)
{
    ap_wire_frame frame = {
        .kind = good[which].kind, .id = good[which].id, .payload = bytes, .bytes = (uint32_t)count};
    ap_error error = {0};
    ap_status status = ap_worker_event_read(&frame, event, body, &error);
    assert_true(status == AP_OK || (status == AP_E_WORKER && error.message[0] && !*body));
    return status;
}

static void right_frames_are_read(void **state)
{
    for (size_t i = 0; i < GOOD_COUNT; i++) {
        ap_worker_event e;
        json_t *body;
        assert_int_equal(read(i, good[i].json, strlen(good[i].json), &e, &body), AP_OK);
        assert_int_equal(e.kind, good[i].kind);
        json_decref(body);
    }
}

static void a_frame_cut_anywhere_is_refused(void **state)
{
    for (size_t i = 0; i < GOOD_COUNT; i++)
        for (size_t n = 0; n < strlen(good[i].json); n++) {
            ap_worker_event e;
            json_t *body;
            char *exact = ap_alloc(n); /* no byte behind the end, so that reading one is seen */
            memcpy(exact, good[i].json, n);
            assert_int_equal(read(i, exact, n, &e, &body), AP_E_WORKER);
            ap_free(exact);
        }
}

/* What is let through must hold what the header promises, whatever the bytes were. */
static void check_promises(const ap_worker_event *e)
{
    if (e->kind == AP_WORKER_TEXT || e->kind == AP_WORKER_DONE) {
        assert_non_null(e->text);
        assert_true(ap_utf8_valid((ap_str){e->text, e->text_length}));
    }
    if (e->kind == AP_WORKER_DONE)
        assert_true(e->finish <= AP_FINISH_CANCELLED && isfinite(e->prompt_ms) && e->prompt_ms >= 0);
    if (e->kind == AP_WORKER_ERROR) {
        assert_true(e->status != AP_OK && e->message[0]);
        assert_string_not_equal(ap_status_text(e->status), "unknown status");
    }
    for (size_t i = 0; i < json_array_size(e->tokens); i++)
        assert_true(json_is_array(json_object_get(json_array_get(e->tokens, i), "top")));
}

static void changed_frames_are_refused_or_keep_their_promises(void **state)
{
    uint64_t random = 99;
    unsigned passed = 0, refused = 0;
    for (int round = 0; round < 300000; round++) {
        size_t which = ap_test_random(&random) % GOOD_COUNT, length = strlen(good[which].json);
        char bytes[400];
        memcpy(bytes, good[which].json, length);
        for (uint64_t changes = 1 + ap_test_random(&random) % 3; changes; changes--) {
            uint64_t r = ap_test_random(&random);
            bytes[(r >> 16) % length] = r & 1 ? (char)(r >> 8) : "\"{}[],:-19e\\"[(r >> 1) % 12];
        }
        ap_worker_event e;
        json_t *body;
        if (read(which, bytes, length, &e, &body) == AP_OK) {
            check_promises(&e);
            json_decref(body);
            passed++;
        } else {
            refused++;
        }
    }
    assert_true(passed > 1000 && refused > 1000); /* else nothing was tried */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(right_frames_are_read),
        cmocka_unit_test(a_frame_cut_anywhere_is_refused),
        cmocka_unit_test(changed_frames_are_refused_or_keep_their_promises),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
