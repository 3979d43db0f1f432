/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "worker/worker.h"

static const ap_oneshot_options plain = {.output_fd = -1};
static char hello[] = "hello";

static ap_status echo(ap_oneshot *self, void *context, ap_error *err)
{
    const char *text = context;
    AP_TRY(ap_oneshot_write(self, text, strlen(text), err));
    return ap_oneshot_write(self, "!", 1, err);
}

static void the_result_comes_back(void **state)
{
    ap_buf out = {0};
    ap_oneshot_options o = {.output_fd = -1, .result = ap_oneshot_collect, .context = &out};
    assert_ok(ap_worker_oneshot(echo, hello, &o, err));
    assert_string_equal(out.ptr, "hello!");
    ap_buf_deinit(&out);
    assert_ok(ap_worker_oneshot(echo, hello, &plain, err));
}

static ap_status write_much(ap_oneshot *self, void *context, ap_error *err)
{
    static char piece[700001];
    for (int i = 0; i < 10; i++) {
        memset(piece, 'a' + i, sizeof piece);
        AP_TRY(ap_oneshot_write(self, piece, sizeof piece, err));
    }
    return AP_OK;
}

static void large_results_come_whole(void **state)
{
    ap_buf out = {0};
    ap_oneshot_options o = {.output_fd = -1, .result = ap_oneshot_collect, .context = &out};
    assert_ok(ap_worker_oneshot(write_much, NULL, &o, err));
    assert_int_equal(out.len, 7000010);
    for (size_t i = 0; i < out.len; i++)
        if (out.ptr[i] != (char)('a' + i / 700001))
            fail_msg("byte %zu is wrong", i);
    ap_buf_deinit(&out);
}

static void a_result_over_its_limit_is_refused(void **state)
{
    ap_buf out = {0};
    ap_oneshot_options o = {
        .output_fd = -1, .result = ap_oneshot_collect, .context = &out, .result_bytes_max = 1000000};
    ap_error error = {0};
    assert_int_equal(ap_worker_oneshot(write_much, NULL, &o, &error), AP_E_LIMIT);
    assert_non_null(strstr(error.message, "1000000"));
    assert_true(out.len <= 1000000);
    ap_buf_deinit(&out);
}

static ap_status refuse_result(void *context, const char *bytes, size_t count, ap_error *err)
{
    return ap_fail(err, AP_E_IO, "the disk is full");
}

static void a_parent_that_cannot_take_the_result_stops_the_child(void **state)
{
    ap_oneshot_options o = {.output_fd = -1, .result = refuse_result};
    ap_error error = {0};
    assert_int_equal(ap_worker_oneshot(write_much, NULL, &o, &error), AP_E_IO);
    assert_string_equal(error.message, "the disk is full");
}

static ap_status report_progress(ap_oneshot *self, void *context, ap_error *err)
{
    for (uint64_t i = 0; i <= 100000; i++)
        ap_oneshot_progress(self, i, 100000);
    return AP_OK;
}

typedef struct heard {
    unsigned count;
    uint64_t last, total;
} heard;

static void hear(void *context, uint64_t done, uint64_t total)
{
    heard *h = context;
    assert_true(done >= h->last);
    h->count++;
    h->last = done;
    h->total = total;
}

static void progress_is_told_but_not_a_hundred_thousand_times(void **state)
{
    heard h = {0};
    ap_oneshot_options o = {.output_fd = -1, .progress = hear, .context = &h};
    assert_ok(ap_worker_oneshot(report_progress, NULL, &o, err));
    assert_int_equal(h.last, 100000);
    assert_int_equal(h.total, 100000);
    assert_true(h.count >= 1 && h.count < 2000);
}

static ap_status refuse(ap_oneshot *self, void *context, ap_error *err)
{
    return ap_fail(err, AP_E_FORMAT, "tensor count 5 is above\n4");
}

static ap_status refuse_silently(ap_oneshot *self, void *context, ap_error *err) { return AP_E_NOMEM; }

static void a_failure_comes_back_with_status_and_message(void **state)
{
    ap_error error = {0};
    assert_int_equal(ap_worker_oneshot(refuse, NULL, &plain, &error), AP_E_FORMAT);
    assert_int_equal(error.status, AP_E_FORMAT);
    assert_string_equal(error.message, "tensor count 5 is above?4");
    assert_int_equal(ap_worker_oneshot(refuse_silently, NULL, &plain, &error), AP_E_NOMEM);
    assert_true(error.message[0]);
    assert_int_equal(ap_worker_oneshot(refuse, NULL, &plain, NULL), AP_E_FORMAT);
}

static ap_status end_by_signal(ap_oneshot *self, void *context, ap_error *err)
{
    int number = *(int *)context;
    (void)signal(number, SIG_DFL); /* a sanitizer would report instead */
    (void)syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), number);
    return AP_OK;
}

static ap_status leave(ap_oneshot *self, void *context, ap_error *err)
{
    (void)!write(2, "a last\x1b[31m word\n", 17);
    _exit(3);
}

static ap_status fault(ap_oneshot *self, void *context, ap_error *err)
{
    (void)signal(SIGSEGV, SIG_DFL);
    volatile char *volatile nowhere = NULL;
    *nowhere = 1;
    return AP_OK;
}

static void a_crash_is_told_and_nothing_else_is_lost(void **state)
{
    static const int signals[] = {SIGSEGV, SIGKILL, SIGBUS, SIGABRT, SIGTERM};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        ap_error error = {0};
        char expected[32];
        (void)snprintf(expected, sizeof expected, "signal %d", signals[i]);
        assert_int_equal(ap_worker_oneshot(end_by_signal, (void *)&signals[i], &plain, &error), AP_E_WORKER);
        if (!strstr(error.message, expected))
            fail_msg("signal %d: %s", signals[i], error.message);
    }
    ap_error error = {0};
#if !defined(__SANITIZE_ADDRESS__)
    assert_int_equal(ap_worker_oneshot(fault, NULL, &plain, &error), AP_E_WORKER);
    assert_non_null(strstr(error.message, "signal 11"));
#else
    (void)fault;
#endif
    assert_int_equal(ap_worker_oneshot(leave, NULL, &plain, &error), AP_E_WORKER);
    assert_non_null(strstr(error.message, "exit status 3"));
    assert_non_null(strstr(error.message, "a last?[31m word"));
    /* And no child is left behind. */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static ap_status chatter(ap_oneshot *self, void *context, ap_error *err)
{
    for (int i = 0; i < 100000; i++)
        (void)!write(2, "noise and more noise\n", 21);
    return AP_OK;
}

static void a_child_cannot_fill_the_log(void **state)
{
    char path[] = "/tmp/aperto-log-XXXXXX";
    int fd = mkstemp(path), kept = dup(2);
    dup2(fd, 2);
    ap_status status = ap_worker_oneshot(chatter, NULL, &plain, NULL);
    dup2(kept, 2);
    off_t bytes = lseek(fd, 0, SEEK_END);
    close(fd);
    close(kept);
    unlink(path);
    assert_int_equal(status, AP_OK);
    assert_true(bytes > 1000 && bytes < 20000);
}

/* A child that went bad speaks to the parent directly. */
static ap_status speak_badly(ap_oneshot *self, void *context, ap_error *err)
{
    const char *bytes = context;
    for (int fd = 3; fd < 64; fd++)
        (void)!write(fd, bytes, 24);
    return AP_OK;
}

static void a_child_that_breaks_the_protocol_is_refused(void **state)
{
    static const char bad[][25] = {
        "\xff\xff\xff\xff\x01\0\0\0\1\0\0\0\0\0\0\0",                 /* a length beyond all limits */
        "\x00\x00\x00\x00\x07\0\0\0\1\0\0\0\0\0\0\0",                 /* no such kind */
        "\x08\x00\x00\x00\x03\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", /* an end that is none */
        "\x07\x00\x00\x00\x02\0\0\0\1\0\0\0\0\0\0\0short--",          /* a report that is none */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ap_error error = {0};
        assert_int_equal(ap_worker_oneshot(speak_badly, (void *)bad[i], &plain, &error), AP_E_WORKER);
        if (!strstr(error.message, "protocol"))
            fail_msg("%zu: %s", i, error.message);
    }
}

static void descriptors_that_may_be_written_are_refused(void **state)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC), closed = 1000;
    ap_oneshot_options o = {.fds = &fd, .fd_count = 1, .output_fd = -1};
    assert_int_equal(ap_worker_oneshot(echo, hello, &o, NULL), AP_E_ARG);
    o.fds = &closed;
    assert_int_equal(ap_worker_oneshot(echo, hello, &o, NULL), AP_E_ARG);
    o.fd_count = 318;
    assert_int_equal(ap_worker_oneshot(echo, hello, &o, NULL), AP_E_ARG);
    close(fd);
}

static ap_status look_at_self(ap_oneshot *self, void *context, ap_error *err)
{
    return getpid() != *(pid_t *)context ? AP_OK : ap_fail(err, AP_E_BUG, "not a process of its own");
}

static void a_hundred_one_after_the_other_leave_no_descriptor(void **state)
{
    pid_t here = getpid();
    int before = dup(0);
    close(before);
    for (int i = 0; i < 100; i++)
        assert_ok(ap_worker_oneshot(look_at_self, &here, &plain, err));
    int after = dup(0);
    close(after);
    assert_int_equal(before, after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_result_comes_back),
        cmocka_unit_test(large_results_come_whole),
        cmocka_unit_test(a_result_over_its_limit_is_refused),
        cmocka_unit_test(a_parent_that_cannot_take_the_result_stops_the_child),
        cmocka_unit_test(progress_is_told_but_not_a_hundred_thousand_times),
        cmocka_unit_test(a_failure_comes_back_with_status_and_message),
        cmocka_unit_test(a_crash_is_told_and_nothing_else_is_lost),
        cmocka_unit_test(a_child_cannot_fill_the_log),
        cmocka_unit_test(a_child_that_breaks_the_protocol_is_refused),
        cmocka_unit_test(descriptors_that_may_be_written_are_refused),
        cmocka_unit_test(a_hundred_one_after_the_other_leave_no_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
