/* A real model in a real worker: imported by a one-shot, answered from the sandbox.
 *
 * The model is a tiny one with random weights, or the GGUF file that the variable
 * APERTO_TEST_MODEL names.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tiny_model.h"
#include "worker/worker.h"

static char packed_path[] = "/tmp/aperto-packed-XXXXXX";
static int packed_fd = -1;

/* One-shots take only descriptors that cannot be written. */
static int reopen_for_reading(int fd)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = open(path, O_RDONLY | O_CLOEXEC);
    close(fd);
    return again;
}

/* ---- Import in a one-shot ------------------------------------------------ */

typedef struct import_job {
    int source_fd, output_fd;
} import_job;

static ap_status import(ap_oneshot *self, void *context, ap_error *err)
{
    const import_job *job = context;
    ap_import_report report = {0};
    ap_import_options options = {
        .size = sizeof options, .progress = ap_oneshot_progress, .progress_context = self};
    AP_TRY(ap_model_import(job->source_fd, job->output_fd, &options, &report, err));
    return ap_oneshot_write(self, &report, sizeof report, err);
}

static ap_status import_file(int source_fd, int output_fd, ap_buf *report, ap_error *err)
{
    import_job job = {source_fd, output_fd};
    ap_oneshot_options o = {.fds = &job.source_fd,
                            .fd_count = 1,
                            .output_fd = output_fd,
                            .result = ap_oneshot_collect,
                            .context = report};
    return ap_worker_oneshot(import, &job, &o, err);
}

static const char *real_model(void)
{
    const char *path = getenv("APERTO_TEST_MODEL");
    return path && *path ? path : NULL;
}

static void import_runs_in_a_oneshot(void **state)
{
    const ap_tiny_model tiny = {.seed = 11};
    int source = real_model() ? open(real_model(), O_RDONLY | O_CLOEXEC)
                              : reopen_for_reading(ap_tiny_model_file(&tiny));
    int fd = mkostemp(packed_path, O_CLOEXEC);
    assert_true(source >= 0 && fd >= 0);
    ap_buf report = {0};
    assert_ok(import_file(source, fd, &report, err));
    close(source);
    assert_int_equal(report.len, sizeof(ap_import_report));
    ap_import_report r;
    memcpy(&r, report.ptr, sizeof r);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_true(r.packed_bytes == (uint64_t)st.st_size);
    assert_string_equal(r.architecture, "llama");
    ap_buf_deinit(&report);
    close(fd);
    packed_fd = open(packed_path, O_RDONLY | O_CLOEXEC);
    assert_true(packed_fd >= 0);
}

static void a_bad_file_is_refused_through_the_oneshot(void **state)
{
    char path[] = "/tmp/aperto-bad-XXXXXX";
    int bad = mkostemp(path, O_CLOEXEC), fd = ap_test_temporary();
    assert_int_equal(write(bad, "GGUF\3\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0", 24), 24);
    ap_error error = {0};
    bad = reopen_for_reading(bad);
    ap_status status = import_file(bad, fd, NULL, &error);
    if (status == AP_OK || status == AP_E_WORKER || !error.message[0])
        fail_msg("%s: %s", ap_status_text(status), error.message);
    close(bad);
    close(fd);
    (void)unlink(path);
}

/* ---- Serving ------------------------------------------------------------- */

enum { IDS = 64 };

typedef struct seen {
    unsigned accepted, text, done, cancelled, failed, tokens;
    uint32_t completion_tokens[IDS];
    ap_buf answers[IDS];
    ap_status status;
    uint32_t prompt_tokens, context_tokens;
    char message[500], param[32];
} seen;

static void on_event(void *context, const ap_worker_event *e)
{
    seen *s = context;
    s->accepted += e->kind == AP_WORKER_ACCEPTED;
    s->text += e->kind == AP_WORKER_TEXT;
    s->tokens += (unsigned)json_array_size(e->tokens);
    s->done += e->kind == AP_WORKER_DONE;
    s->cancelled += e->kind == AP_WORKER_DONE && e->finish == AP_FINISH_CANCELLED;
    s->failed += e->kind == AP_WORKER_ERROR;
    if (e->text)
        (void)ap_buf_add(&s->answers[e->id % IDS], e->text, e->text_length, NULL);
    if (e->kind == AP_WORKER_DONE)
        s->completion_tokens[e->id % IDS] = e->completion_tokens;
    if (e->kind == AP_WORKER_ERROR) {
        s->status = e->status;
        s->prompt_tokens = e->prompt_tokens;
        s->context_tokens = e->context_tokens;
        (void)snprintf(s->message, sizeof s->message, "%s", e->message);
        (void)snprintf(s->param, sizeof s->param, "%s", e->param ? e->param : "");
    }
}

static void forget(seen *s)
{
    for (int i = 0; i < IDS; i++)
        ap_buf_deinit(&s->answers[i]);
}

static ap_worker *start(void)
{
    ap_worker *w = NULL;
    ap_worker_options o = {.model_fd = packed_fd, .name = "test", .threads = 2};
    if (packed_fd < 0)
        skip();
    assert_ok(ap_worker_start(&w, &o, err));
    assert_ok(ap_worker_wait_ready(w, 60000, err));
    return w;
}

static ap_status receive_until(ap_worker *w, seen *s, const unsigned *counter, unsigned enough, ap_error *err)
{
    uint64_t end = ap_clock_ns() + 60000000000u;
    while (*counter < enough) {
        assert_true(ap_clock_ns() < end);
        struct pollfd wait = {ap_worker_fd(w), ap_worker_poll_events(w), 0};
        (void)poll(&wait, 1, 100);
        AP_TRY(ap_worker_receive(w, on_event, s, err));
    }
    return AP_OK;
}

/* The tiny model has a vocabulary of bytes and answers nonsense, so its end token is not waited for. */
static void send_job(ap_worker *w, uint64_t id, const char *prompt, unsigned max_tokens, int seed,
                     const char *more)
{
    char job[600];
    int n = snprintf(
        job, sizeof job,
        "{\"kind\":\"completion\",\"prompt\":\"%s\",\"max_tokens\":%u,\"seed\":%d,\"ignore_eos\":true%s}",
        prompt, max_tokens, seed, more);
    assert_ok(ap_worker_send(w, id, job, (size_t)n, err));
}

static uint32_t context_of(ap_worker *w)
{
    return (uint32_t)json_integer_value(
        json_object_get(json_object_get(ap_worker_info(w), "engine"), "context_tokens"));
}

static void one_job_is_answered(void **state)
{
    ap_worker *w = start();
    seen s = {0};
    assert_int_equal(strncmp(ap_worker_sandbox(w), "full", 4), 0);
    send_job(w, 1, "Once upon a time", 12, 7, ",\"logprobs\":true,\"top_logprobs\":3");
    ap_status status = receive_until(w, &s, &s.done, 1, NULL);
    assert_int_equal(status, AP_OK);
    assert_int_equal(s.failed, 0);
    assert_int_equal(s.completion_tokens[1], 12);
    assert_int_equal(s.tokens, 12);
    ap_worker_stop(&w, 5000);
    forget(&s);
}

static void twenty_at_once_answer_as_each_alone(void **state)
{
    enum { COUNT = 20 };
    ap_worker *w = start();
    seen alone = {0}, together = {0};
    for (unsigned i = 1; i <= COUNT; i++) {
        char prompt[64];
        (void)snprintf(prompt, sizeof prompt, "The number %u is", i);
        send_job(w, i, prompt, 10, (int)i, "");
        assert_ok(receive_until(w, &alone, &alone.done, i, err));
    }
    for (unsigned i = 1; i <= COUNT; i++) {
        char prompt[64];
        (void)snprintf(prompt, sizeof prompt, "The number %u is", i);
        send_job(w, i, prompt, 10, (int)i, "");
    }
    assert_ok(receive_until(w, &together, &together.done, COUNT, err));
    assert_int_equal(alone.failed + together.failed, 0);
    for (unsigned i = 1; i <= COUNT; i++) {
        assert_int_equal(alone.answers[i].len, together.answers[i].len);
        if (alone.answers[i].len)
            assert_memory_equal(alone.answers[i].ptr, together.answers[i].ptr, alone.answers[i].len);
    }
    ap_worker_stop(&w, 5000);
    forget(&alone);
    forget(&together);
}

static void a_prompt_longer_than_the_context_is_refused_with_both_counts(void **state)
{
    ap_worker *w = start();
    seen s = {0};
    ap_buf job = {0};
    uint32_t context = context_of(w);
    assert_ok(ap_buf_add_str(&job, AP_STR("{\"kind\":\"completion\",\"seed\":1,\"prompt\":[1"), err));
    for (uint32_t i = 0; i < context; i++)
        assert_ok(ap_buf_add_str(&job, AP_STR(",1"), err));
    assert_ok(ap_buf_add_str(&job, AP_STR("]}"), err));
    assert_ok(ap_worker_send(w, 1, job.ptr, job.len, err));
    assert_ok(receive_until(w, &s, &s.failed, 1, err));
    assert_int_equal(s.status, AP_E_CONTEXT);
    assert_int_equal(s.prompt_tokens, context + 1);
    assert_int_equal(s.context_tokens, context);
    assert_string_equal(s.param, "prompt");
    ap_buf_deinit(&job);
    ap_worker_stop(&w, 5000);
    forget(&s);
}

static void a_chat_is_answered(void **state)
{
    static const char job[] =
        "{\"kind\":\"chat\",\"messages\":[{\"role\":\"user\",\"content\":\"What is the capital of "
        "France?\"}],\"now\":1700000000,\"max_tokens\":24,\"temperature\":0,\"seed\":1}";
    ap_worker *w = start();
    seen s = {0};
    assert_true(
        json_is_true(json_object_get(json_object_get(ap_worker_info(w), "model"), "has_chat_template")));
    assert_ok(ap_worker_send(w, 1, job, sizeof job - 1, err));
    assert_ok(receive_until(w, &s, &s.done, 1, err));
    assert_int_equal(s.failed, 0);
    if (real_model())
        print_message("answer: %s\n", s.answers[1].ptr);
    ap_worker_stop(&w, 5000);
    forget(&s);
}

static void cancel_and_a_bad_job_leave_the_others_alone(void **state)
{
    ap_worker *w = start();
    seen s = {0};
    unsigned long_answer = context_of(w) - 40;
    send_job(w, 1, "a", long_answer, 1, "");
    send_job(w, 2, "b", 20, 1, "");
    assert_ok(ap_worker_send(w, 3, "{}", 2, err));
    assert_ok(receive_until(w, &s, &s.accepted, 2, err));
    assert_int_equal(ap_worker_cancel(w, 1), AP_OK);
    assert_ok(receive_until(w, &s, &s.done, 2, err));
    assert_int_equal(s.failed, 1);
    assert_int_equal(s.cancelled, 1);
    assert_int_equal(s.completion_tokens[2], 20);
    ap_worker_stop(&w, 5000);
    forget(&s);
}

/* ---- Death and change ---------------------------------------------------- */

static ap_status open_packed(void *context, int *fd, ap_error *err)
{
    return ap_file_open(packed_path, fd, err);
}

static void step_until(ap_supervisor *sup, seen *s, ap_supervisor_state wanted, const unsigned *counter,
                       unsigned enough)
{
    uint64_t end = ap_clock_ns() + 60000000000u;
    while ((counter && *counter < enough) || (!counter && ap_supervisor_state_of(sup) != wanted)) {
        assert_true(ap_clock_ns() < end);
        struct pollfd wait = {ap_supervisor_fd(sup), ap_supervisor_poll_events(sup), 0};
        (void)poll(&wait, 1, 20);
        ap_supervisor_step(sup, ap_clock_ns() / 1000000, on_event, s);
    }
}

static void a_killed_worker_is_replaced_and_answers_the_same(void **state)
{
    if (packed_fd < 0)
        skip();
    seen s = {0};
    ap_supervisor *sup = NULL;
    ap_supervisor_options o = {.worker = {.name = "test", .threads = 2}, .open = open_packed};
    assert_ok(ap_supervisor_create(&sup, &o, ap_clock_ns() / 1000000, err));
    step_until(sup, &s, AP_SUPERVISOR_READY, NULL, 0);
    ap_worker *w = ap_supervisor_worker(sup);
    send_job(w, 1, "Hello", 10, 5, "");
    step_until(sup, &s, AP_SUPERVISOR_READY, &s.done, 1);
    for (uint64_t id = 10; id < 15; id++)
        send_job(w, id, "a", context_of(w) - 40, 1, "");
    step_until(sup, &s, AP_SUPERVISOR_READY, &s.accepted, 6);
    assert_int_equal(kill(ap_worker_pid(w), SIGKILL), 0);
    step_until(sup, &s, AP_SUPERVISOR_READY, &s.failed, 5);
    assert_int_equal(s.status, AP_E_WORKER);
    step_until(sup, &s, AP_SUPERVISOR_READY, NULL, 0);
    assert_int_equal(ap_supervisor_restarts(sup), 1);
    send_job(ap_supervisor_worker(sup), 2, "Hello", 10, 5, "");
    step_until(sup, &s, AP_SUPERVISOR_READY, &s.done, 2);
    assert_int_equal(s.answers[1].len, s.answers[2].len);
    if (s.answers[1].len)
        assert_memory_equal(s.answers[1].ptr, s.answers[2].ptr, s.answers[1].len);
    ap_supervisor_destroy(&sup, 5000);
    forget(&s);
}

/* A copy of the packed file that may be spoilt. */
static int copy_packed(char *path)
{
    ap_buf bytes = {0};
    assert_ok(ap_file_read(packed_path, (size_t)1 << 31, &bytes, err));
    int fd = mkostemp(path, O_CLOEXEC);
    assert_ok(ap_file_write_all(fd, bytes.ptr, bytes.len, err));
    ap_buf_deinit(&bytes);
    close(fd);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static void a_file_cut_or_replaced_under_it_ends_the_worker_only(void **state)
{
    if (packed_fd < 0)
        skip();
    for (int way = 0; way < 3; way++) {
        char path[] = "/tmp/aperto-spoilt-XXXXXX";
        int whole = packed_fd;
        packed_fd = copy_packed(path);
        ap_worker *w = start();
        seen s = {0};
        ap_error error = {0};
        send_job(w, 1, "a", context_of(w) - 40, 1, "");
        assert_ok(receive_until(w, &s, &s.accepted, 1, err));
        if (way == 0)
            assert_int_equal(truncate(path, 4096), 0);
        else if (way == 1)
            assert_int_equal(truncate(path, 0), 0);
        else
            assert_int_equal(unlink(path), 0);
        unsigned never = 0;
        assert_int_equal(receive_until(w, &s, &never, 1, &error), AP_E_WORKER);
        /* If the answer ended in the same moment, there was nothing to fail. */
        assert_int_equal(s.failed + s.done, 1);
        assert_non_null(strstr(error.message, "model file"));
        ap_worker_stop(&w, 0);
        forget(&s);
        close(packed_fd);
        (void)unlink(path);
        packed_fd = whole;
    }
}

static void a_packed_file_cut_anywhere_is_refused_at_start(void **state)
{
    if (packed_fd < 0)
        skip();
    char path[] = "/tmp/aperto-cut-XXXXXX";
    int fd = copy_packed(path);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    for (int i = 9; i >= 0; i--) {
        assert_int_equal(truncate(path, st.st_size * i / 10), 0);
        ap_worker *w = NULL;
        ap_error error = {0};
        ap_worker_options o = {.model_fd = fd, .name = "cut"};
        assert_ok(ap_worker_start(&w, &o, err));
        ap_status status = ap_worker_wait_ready(w, 60000, &error);
        /* A refusal with a name, not a death. */
        if (status == AP_OK || status == AP_E_WORKER)
            fail_msg("cut to %d tenths: %s", i, error.message);
        ap_worker_stop(&w, 0);
    }
    close(fd);
    (void)unlink(path);
}

static int clean_up(void **state)
{
    if (packed_fd >= 0)
        close(packed_fd);
    (void)unlink(packed_path);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "worker") == 0)
        return ap_worker_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(import_runs_in_a_oneshot),
        cmocka_unit_test(a_bad_file_is_refused_through_the_oneshot),
        cmocka_unit_test(one_job_is_answered),
        cmocka_unit_test(twenty_at_once_answer_as_each_alone),
        cmocka_unit_test(a_prompt_longer_than_the_context_is_refused_with_both_counts),
        cmocka_unit_test(a_chat_is_answered),
        cmocka_unit_test(cancel_and_a_bad_job_leave_the_others_alone),
        cmocka_unit_test(a_killed_worker_is_replaced_and_answers_the_same),
        cmocka_unit_test(a_file_cut_or_replaced_under_it_ends_the_worker_only),
        cmocka_unit_test(a_packed_file_cut_anywhere_is_refused_at_start),
    };
    return cmocka_run_group_tests(tests, NULL, clean_up);
}
