/* A real model against published text: the llama2.c checkpoint stories260K, 200 greedy tokens with keys and values in
 * f32, against the ids of a float64 forward pass (tests/golden/stories260k.py --ids) that spell the published story.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "aperto.h"
#include "support.h"
#include "tiny_model.h"

enum { STEPS = 200, BEGIN = 1 };

static int write_gguf(void)
{
    const char *folder = ap_test_data("models/stories260K");
    char script[4096], path[] = "/tmp/aperto-test-XXXXXX";
    (void)snprintf(script, sizeof script, "%s", ap_test_file("golden/stories260k.py"));
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        execlp("python3", "python3", script, folder, path, (char *)NULL);
        _exit(127);
    }
    int result = 0;
    assert_int_equal(waitpid(child, &result, 0), child);
    close(fd);
    ap_status status = result == 0 ? ap_file_open(path, &fd, NULL) : AP_E_IO;
    assert_int_equal(unlink(path), 0);
    assert_int_equal(status, AP_OK);
    return fd;
}

static void expected_ids(int32_t ids[STEPS])
{
    ap_buf text = {0};
    assert_ok(ap_file_read(ap_test_file("model/data/stories260K.ids"), 1 << 16, &text, err));
    char *at = text.ptr;
    for (int i = 0; i < STEPS; i++) {
        char *end;
        ids[i] = (int32_t)strtol(at, &end, 10);
        assert_true(end != at);
        at = end + (*end == ',');
    }
    ap_buf_deinit(&text);
}

typedef struct answer {
    int32_t ids[STEPS];
    uint32_t count;
} answer;

static void keep(void *context, const ap_event *event)
{
    answer *a = context;
    assert_int_not_equal(event->kind, AP_EVENT_FAILED);
    if (event->kind == AP_EVENT_TOKEN && a->count < STEPS)
        a->ids[a->count++] = event->token;
}

static void two_hundred_greedy_tokens_are_the_published_story(void **state)
{
    int source = write_gguf(), packed = ap_test_temporary();
    ap_import_options import = {.size = sizeof import, .decode_to_f32 = true};
    ap_import_report report;
    assert_ok(ap_model_import(source, packed, &import, &report, err));
    assert_string_equal(report.quantization, "F32");
    ap_model *model;
    assert_ok(ap_model_open(&model, packed, err));
    close(source);
    close(packed);
    ap_engine_options options = {.size = sizeof options, .kv_type = AP_KV_F32, .threads = 2};
    ap_engine *engine;
    assert_ok(ap_engine_create(&engine, model, &options, err));
    int32_t begin = BEGIN, expected[STEPS];
    ap_request request = {.size = sizeof request, .id = 1, .prompt = &begin, .prompt_count = 1, .max_tokens = STEPS,
                          .sampling = ap_sampling_default(), .ignore_end = true};
    request.sampling.temperature = 0;
    assert_ok(ap_engine_submit(engine, &request, err));
    answer a = {0};
    for (bool busy = true; busy;)
        assert_ok(ap_engine_step(engine, keep, &a, &busy, err));
    expected_ids(expected);
    assert_int_equal(a.count, STEPS);
    for (int i = 0; i < STEPS; i++)
        if (a.ids[i] != expected[i])
            fail_msg("token %d is %d, expected is %d", i, a.ids[i], expected[i]);
    ap_engine_destroy(&engine);
    ap_model_close(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(two_hundred_greedy_tokens_are_the_published_story)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
