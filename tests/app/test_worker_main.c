/* The whole worker process, sandbox and loop, on the null engine.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "worker/worker.h"

enum { MODEL_BYTES = 3 * 4096 };

static char model_path[] = "/tmp/aperto-null-model-XXXXXX";
static int model_fd = -1;

typedef struct seen {
    unsigned accepted, text, done, cancelled, failed, stats;
    size_t text_bytes;
    char message[500];
} seen;

static void on_event(void *context, const ap_worker_event *e)
{
    seen *s = context;
    s->accepted += e->kind == AP_WORKER_ACCEPTED;
    s->text += e->kind == AP_WORKER_TEXT;
    s->text_bytes += e->text_length;
    s->done += e->kind == AP_WORKER_DONE;
    s->cancelled += e->kind == AP_WORKER_DONE && e->finish == AP_FINISH_CANCELLED;
    s->failed += e->kind == AP_WORKER_ERROR;
    s->stats += e->kind == AP_WORKER_STATS_REPLY;
    if (e->kind == AP_WORKER_ERROR)
        (void)snprintf(s->message, sizeof s->message, "%s", e->message);
}

static int write_model(void **state)
{
    int fd = open(model_path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    char bytes[MODEL_BYTES] = "NULL";
    bool is_fine = fd >= 0 && write(fd, bytes, sizeof bytes) == sizeof bytes;
    close(fd);
    model_fd = open(model_path, O_RDONLY | O_CLOEXEC);
    return is_fine && model_fd >= 0 ? 0 : -1;
}

static int remove_model(void **state)
{
    close(model_fd);
    (void)unlink(model_path);
    return 0;
}

static ap_worker *start(void)
{
    ap_worker *w = NULL;
    ap_worker_options o = {.model_fd = model_fd, .name = "null", .context_tokens = 2000000000};
    assert_ok(ap_worker_start(&w, &o, err));
    assert_ok(ap_worker_wait_ready(w, 20000, err));
    return w;
}

static void send_job(ap_worker *w, uint64_t id, const char *prompt, unsigned max_tokens, const char *more)
{
    char job[500];
    int n = snprintf(job, sizeof job,
                     "{\"kind\":\"completion\",\"prompt\":\"%s\",\"max_tokens\":%u,\"seed\":1%s}", prompt,
                     max_tokens, more);
    assert_ok(ap_worker_send(w, id, job, (size_t)n, err));
}

static ap_status receive_until(ap_worker *w, seen *s, const unsigned *counter, unsigned enough, ap_error *err)
{
    uint64_t end = ap_clock_ns() + 20000000000u;
    while (*counter < enough) {
        assert_true(ap_clock_ns() < end);
        struct pollfd wait = {ap_worker_fd(w), ap_worker_poll_events(w), 0};
        (void)poll(&wait, 1, 100);
        AP_TRY(ap_worker_receive(w, on_event, s, err));
    }
    return AP_OK;
}

static void expect_end(ap_worker *w, unsigned failed, const char *message)
{
    seen s = {0};
    ap_error error = {0};
    unsigned never = 0;
    assert_int_equal(receive_until(w, &s, &never, 1, &error), AP_E_WORKER);
    if (!strstr(error.message, message))
        fail_msg("not '%s': %s", message, error.message);
    assert_int_equal(s.failed, failed);
    if (failed)
        assert_non_null(strstr(s.message, message));
    ap_worker_stop(&w, 0);
}

static void ready_tells_sandbox_model_and_engine(void **state)
{
    ap_worker *w = start();
    const json_t *info = ap_worker_info(w);
    assert_int_equal(strncmp(ap_worker_sandbox(w), "full", 4), 0);
    const json_t *model = json_object_get(info, "model");
    assert_string_equal(json_string_value(json_object_get(model, "architecture")), "null");
    assert_string_equal(json_string_value(json_object_get(model, "name")), "a \xef\xbf\xbd name");
    assert_int_equal(json_integer_value(json_object_get(model, "vocab_count")), 256);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(info, "engine"), "context_tokens")),
                     2000000000);
    assert_int_equal(json_integer_value(json_object_get(info, "law")), AP_LAW_VERSION);
    ap_worker_stop(&w, 5000);
}

static void twenty_jobs_at_once_are_all_answered(void **state)
{
    ap_worker *w = start();
    seen s = {0};
    for (uint64_t id = 1; id <= 20; id++)
        send_job(w, id, "hello", 50, "");
    assert_ok(receive_until(w, &s, &s.done, 20, err));
    assert_int_equal(s.accepted, 20);
    assert_int_equal(s.text_bytes, 20 * 51);
    assert_int_equal(s.failed, 0);
    assert_int_equal(ap_worker_ask_stats(w), AP_OK);
    assert_ok(receive_until(w, &s, &s.stats, 1, err));
    ap_worker_stop(&w, 5000);
}

static void a_bad_job_harms_no_other(void **state)
{
    ap_worker *w = start();
    seen s = {0};
    send_job(w, 1, "hello", 100, "");
    assert_ok(ap_worker_send(w, 2, "nonsense", 8, err));
    assert_ok(ap_worker_send(w, 3, "", 0, err));
    send_job(w, 4, "x\\u0002", 100, "");
    assert_ok(receive_until(w, &s, &s.done, 1, err));
    assert_ok(receive_until(w, &s, &s.failed, 3, err));
    ap_worker_stop(&w, 5000);
}

static void cancel_ends_an_endless_answer(void **state)
{
    ap_worker *w = start();
    seen s = {0};
    send_job(w, 1, "hello", 1000000000, "");
    send_job(w, 2, "hello", 1000000000, "");
    assert_ok(receive_until(w, &s, &s.text, 100, err));
    assert_int_equal(ap_worker_cancel(w, 1), AP_OK);
    assert_ok(receive_until(w, &s, &s.cancelled, 1, err));
    assert_int_equal(ap_worker_live_count(w), 1);
    unsigned before = s.text;
    assert_ok(receive_until(w, &s, &s.text, before + 100, err)); /* the other goes on */
    ap_worker_stop(&w, 5000);
}

static long read_proc(pid_t pid, const char *file, int field)
{
    char path[64], text[1024];
    (void)snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    char *p = text;
    for (int i = 0; i < field && p; i++) {
        p = strchr(p, ' ');
        p += p != NULL;
    }
    assert_non_null(p);
    return strtol(p, NULL, 10);
}

static void a_front_that_does_not_read_stops_the_worker_in_bounded_memory(void **state)
{
    ap_worker *w = start();
    seen s = {0};
    for (uint64_t id = 1; id <= 200; id++)
        send_job(w, id, "hello", 1000000000, ",\"logprobs\":true,\"top_logprobs\":20");
    assert_ok(receive_until(w, &s, &s.accepted, 200, err));
    /* It works until its bound and then rests: no processor time passes. */
    long used = -1, before;
    for (int i = 0; i < 100; i++) {
        before = used;
        (void)poll(NULL, 0, 200);
        used = read_proc(ap_worker_pid(w), "stat", 13) + read_proc(ap_worker_pid(w), "stat", 14);
        if (used == before)
            break;
    }
    assert_int_equal(used, before);
    long pages = read_proc(ap_worker_pid(w), "statm", 1);
#if !defined(__SANITIZE_ADDRESS__)
    assert_true(pages * 4096L < 64 * 1024 * 1024);
#endif
    (void)pages;
    unsigned seen_text = s.text;
    assert_ok(receive_until(w, &s, &s.text, seen_text + 20000, err)); /* and on it goes */
    ap_worker_stop(&w, 5000);
}

static void a_worker_ends_when_its_front_hangs_up(void **state)
{
    ap_worker *w = start();
    send_job(w, 1, "hello", 1000000000, "");
    uint64_t begin = ap_clock_ns();
    ap_worker_stop(&w, 20000);
    assert_true(ap_clock_ns() - begin < 10000000000u);
}

static void a_worker_ends_when_its_front_is_killed(void **state)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    pid_t front = fork();
    if (front == 0) {
        ap_worker *w = start();
        send_job(w, 1, "hello", 1000000000, "");
        pid_t pid = ap_worker_pid(w);
        (void)!write(ends[1], &pid, sizeof pid);
        (void)raise(SIGKILL);
    }
    pid_t worker;
    assert_int_equal(read(ends[0], &worker, sizeof worker), sizeof worker);
    assert_int_equal(waitpid(front, NULL, 0), front);
    uint64_t end = ap_clock_ns() + 10000000000u;
    while (waitpid(worker, NULL, WNOHANG) == 0) {
        assert_true(ap_clock_ns() < end);
        (void)poll(NULL, 0, 5);
    }
    close(ends[0]);
    close(ends[1]);
}

static void a_worker_that_dies_takes_only_its_requests(void **state)
{
    ap_worker *w = start();
    send_job(w, 1, "hello", 1000000000, "");
    send_job(w, 2, "hello", 1000000000, "");
    assert_int_equal(kill(ap_worker_pid(w), SIGKILL), 0);
    expect_end(w, 2, "signal 9");
    w = start();
    send_job(w, 1, "hello\\u0004", 1000000000, "");
    expect_end(w, 1, "signal 11");
    w = start();
    send_job(w, 1, "hello\\u0005", 1000000000, "");
    expect_end(w, 1, "sandbox");
    w = start();
    send_job(w, 1, "hello", 1000000000, "");
    send_job(w, 2, "hello\\u0001", 1000000000, "");
    expect_end(w, 2, "told to stop");
}

static void a_model_cut_short_under_it_ends_the_worker_with_a_message(void **state)
{
    ap_worker *w = start();
    send_job(w, 1, "hello", 1000000000, "");
    seen s = {0};
    assert_ok(receive_until(w, &s, &s.text, 10, err));
    assert_int_equal(truncate(model_path, 4096), 0);
    expect_end(w, 1, "model file"); /* seen before a step, or SIGBUS in one */
    ap_worker_options o = {.model_fd = model_fd, .name = "null"};
    assert_int_equal(truncate(model_path, 0), 0);
    assert_ok(ap_worker_start(&w, &o, err));
    ap_error error = {0};
    ap_status status = ap_worker_wait_ready(w, 20000, &error);
    assert_true(status != AP_OK && error.message[0]);
    ap_worker_stop(&w, 0);
}

static void a_model_replaced_written_or_removed_ends_the_worker(void **state)
{
    static const char *const ways[] = {"replaced", "written", "removed"};
    for (int way = 0; way < 3; way++) {
        remove_model(NULL);
        assert_int_equal(write_model(NULL), 0);
        ap_worker *w = start();
        seen s = {0};
        send_job(w, 1, "hello", 1000000000, "");
        assert_ok(receive_until(w, &s, &s.text, 10, err));
        if (way == 0) {
            char other[] = "/tmp/aperto-null-other-XXXXXX";
            int fd = mkstemp(other);
            close(fd);
            assert_int_equal(rename(other, model_path), 0);
        } else if (way == 1) {
            int fd = open(model_path, O_WRONLY);
            assert_int_equal(pwrite(fd, "x", 1, 100), 1);
            close(fd);
        } else {
            assert_int_equal(unlink(model_path), 0);
        }
        expect_end(w, 1, ways[way]);
    }
}

static void what_is_not_a_model_is_refused_before_ready(void **state)
{
    int fd = open(model_path, O_WRONLY);
    assert_int_equal(pwrite(fd, "GGUF", 4, 0), 4);
    close(fd);
    ap_worker *w = NULL;
    ap_error error = {0};
    ap_worker_options o = {.model_fd = model_fd, .name = "null"};
    assert_ok(ap_worker_start(&w, &o, err));
    assert_int_equal(ap_worker_wait_ready(w, 20000, &error), AP_E_FORMAT);
    assert_string_equal(error.message, "the file does not begin with NULL");
    ap_worker_stop(&w, 0);
}

static void somebody_who_types_worker_gets_a_sentence(void **state)
{
    char *const lines[][4] = {{(char[]){"x"}, (char[]){"worker"}, NULL},
                              {(char[]){"x"}, (char[]){"worker"}, (char[]){"{}"}, NULL},
                              {(char[]){"x"}, (char[]){"worker"}, (char[]){"nonsense"}, NULL}};
    for (size_t i = 0; i < 3; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            close(2);
            (void)execv("/proc/self/exe", lines[i]);
            _exit(99);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 2);
    }
}

static int name_model(void **state)
{
    int fd = mkstemp(model_path);
    return fd < 0 ? -1 : close(fd);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "worker") == 0)
        return ap_worker_main(argc, argv);
#define TEST(name) cmocka_unit_test_setup_teardown(name, write_model, remove_model)
    const struct CMUnitTest tests[] = {
        TEST(ready_tells_sandbox_model_and_engine),
        TEST(twenty_jobs_at_once_are_all_answered),
        TEST(a_bad_job_harms_no_other),
        TEST(cancel_ends_an_endless_answer),
        TEST(a_front_that_does_not_read_stops_the_worker_in_bounded_memory),
        TEST(a_worker_ends_when_its_front_hangs_up),
        TEST(a_worker_ends_when_its_front_is_killed),
        TEST(a_worker_that_dies_takes_only_its_requests),
        TEST(a_model_cut_short_under_it_ends_the_worker_with_a_message),
        TEST(a_model_replaced_written_or_removed_ends_the_worker),
        TEST(what_is_not_a_model_is_refused_before_ready),
        TEST(somebody_who_types_worker_gets_a_sentence),
    };
    return cmocka_run_group_tests(tests, name_model, NULL);
}
