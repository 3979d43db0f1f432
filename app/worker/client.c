/* The front's handle of a serving worker.
 *
 * Everything read from the socket is a stranger's: the worker runs a model file
 * from the internet.  talk.c stands between a worker gone bad and the process
 * that holds keys and conversations; this file starts the process and buries it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "worker/child.h"
#include "worker/talk.h"

enum {
    UNSENT_BYTES_MAX = 2 * AP_WORKER_JOB_BYTES_MAX, /* one job on its way, one waiting */
    RECEIVE_BYTES = 4 * 1024 * 1024, /* read in one call, so that a front with many workers goes round */
    MODEL_FD = 4,                    /* see main.c */
    ADAPTER_FD = 5,                  /* and the next */
    SOCKET_FD = 3
};

struct ap_worker {
    pid_t pid;
    int fd;
    char name[200];
    bool is_dead; /* reaped, `death` says how */
    ap_error death;
    ap_talk talk;
    ap_wire_writer writer;
    ap_words words;
};

/* ---- Start --------------------------------------------------------------- */

static ap_status describe_options(const ap_worker_options *o, char **out, ap_error *err)
{
    json_t *root =
        json_pack("{s:s, s:i, s:i, s:i, s:I, s:i, s:i, s:I, s:b, s:i}", "name", o->name ? o->name : "model", "threads",
                  (int)o->threads, "context_tokens", (int)o->context_tokens, "kv_type", (int)o->kv_type,
                  "kv_bytes", (json_int_t)o->kv_bytes, "step_tokens", (int)o->step_tokens, "requests_max",
                  (int)o->requests_max, "memory_bytes_max",
                  (json_int_t)(o->memory_bytes_max > INT64_MAX ? INT64_MAX : o->memory_bytes_max), "reduced", o->sandbox == AP_SANDBOX_REDUCED,
                  "adapter_files", (int)o->adapter.count);
    if (!root)
        return ap_fail(err, AP_E_ARG, "the worker's name is not UTF-8");
    int failed = o->isa ? json_object_set_new(root, "isa", json_string(o->isa)) : 0;
    *out = failed ? NULL : json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return *out ? AP_OK : ap_fail(err, AP_E_ARG, "the worker's options could not be written");
}

static ap_status check_fd(int fd, const char *whose, ap_error *err)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return ap_fail(err, AP_E_ARG, "the %s's descriptor %d is not open", whose, fd);
    if ((flags & O_ACCMODE) != O_RDONLY)
        return ap_fail(err, AP_E_ARG, "the %s's descriptor %d is open for writing", whose, fd);
    return AP_OK;
}

static ap_status check_options(const ap_worker_options *o, ap_error *err)
{
    AP_TRY(check_fd(o->model_fd, "model", err));
    if (o->adapter.count > 2)
        return ap_fail(err, AP_E_ARG, "an adapter has %u files; at most 2 are allowed", o->adapter.count);
    for (unsigned i = 0; i < o->adapter.count; i++)
        AP_TRY(check_fd(o->adapter.fds[i], "adapter", err));
    if (o->threads > INT32_MAX || o->context_tokens > INT32_MAX || o->step_tokens > INT32_MAX ||
        o->kv_bytes > INT64_MAX || o->requests_max > AP_WORKER_REQUESTS_MAX)
        return ap_fail(err, AP_E_ARG,
                       "a number among the worker's options is too large (requests: at most %d)",
                       AP_WORKER_REQUESTS_MAX);
    return AP_OK;
}

/* Between fork and exec of a process that may have threads: nothing here allocates or locks. */
static _Noreturn void become_worker(int socket, const ap_worker_options *o, int words, char *const *arguments)
{
    static char *const no_environment[] = {NULL};
    static const char failed[] = "the program could not be started again\n";
    ap_child_reset_signals();
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    /* Out of the way first, since each may sit on a number that another is to get. */
    nothing = fcntl(nothing, F_DUPFD_CLOEXEC, 10);
    socket = fcntl(socket, F_DUPFD_CLOEXEC, 10);
    int model = fcntl(o->model_fd, F_DUPFD_CLOEXEC, 10), adapter[2] = {-1, -1};
    for (unsigned i = 0; i < o->adapter.count; i++)
        adapter[i] = fcntl(o->adapter.fds[i], F_DUPFD_CLOEXEC, 10);
    words = fcntl(words, F_DUPFD_CLOEXEC, 10);
    if (dup2(nothing, 0) == 0 && dup2(nothing, 1) == 1 && dup2(words, 2) == 2 &&
        dup2(socket, SOCKET_FD) == SOCKET_FD && dup2(model, MODEL_FD) == MODEL_FD &&
        (o->adapter.count < 1 || dup2(adapter[0], ADAPTER_FD) == ADAPTER_FD) && (o->adapter.count < 2 || dup2(adapter[1], ADAPTER_FD + 1) == ADAPTER_FD + 1)) {
        (void)syscall(SYS_close_range, ADAPTER_FD + o->adapter.count, UINT32_MAX, 0u); /* an old kernel: the worker does it itself */
        (void)execve("/proc/self/exe", arguments, no_environment);
    }
    if (write(2, failed, sizeof failed - 1) < 0)
        _exit(126);
    _exit(127);
}

ap_status ap_worker_start(ap_worker **out, const ap_worker_options *options, ap_error *err)
{
    *out = NULL;
    AP_TRY(check_options(options, err));
    char *text = NULL;
    int ends[2] = {-1, -1}, words_end = -1;
    ap_status status;
    ap_worker *worker = ap_alloc_zero(1, sizeof *worker);
    if (!worker)
        return ap_fail_nomem(err, sizeof *worker);
    worker->fd = worker->words.fd = -1;
    if ((status = ap_talk_init(&worker->talk, err)) != AP_OK)
        goto fail;
    (void)snprintf(worker->name, sizeof worker->name, "%s", options->name ? options->name : "model");
    worker->writer.buf.limit = UNSENT_BYTES_MAX;
    if ((status = describe_options(options, &text, err)) != AP_OK)
        goto fail;
    if ((status = ap_words_open(&worker->words, &words_end, err)) != AP_OK)
        goto fail;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
        status = ap_fail(err, AP_E_IO, "no socket pair for a worker: %s", strerror(errno));
        goto fail;
    }
    char *arguments[] = {(char[]){"aperto"}, (char[]){"worker"}, text, NULL};
    worker->pid = fork();
    if (worker->pid < 0) {
        status = ap_fail(err, AP_E_IO, "no process for a worker: %s", strerror(errno));
        goto fail;
    }
    if (worker->pid == 0)
        become_worker(ends[1], options, words_end, arguments);
    (void)close(ends[1]);
    (void)close(words_end);
    worker->fd = ends[0];
    free(text);
    *out = worker;
    return AP_OK;
fail:
    free(text); /* jansson's, from malloc */
    if (ends[0] >= 0) {
        (void)close(ends[0]);
        (void)close(ends[1]);
    }
    if (words_end >= 0)
        (void)close(words_end);
    ap_words_close(&worker->words);
    ap_talk_deinit(&worker->talk);
    ap_free(worker);
    return status;
}

int ap_worker_fd(const ap_worker *worker) { return worker->fd; }

short ap_worker_poll_events(const ap_worker *worker)
{
    return (short)(POLLIN | (ap_wire_unsent(&worker->writer) ? POLLOUT : 0));
}

pid_t ap_worker_pid(const ap_worker *worker) { return worker->pid; }
bool ap_worker_is_ready(const ap_worker *worker) { return worker->talk.is_ready && !worker->is_dead; }
size_t ap_worker_live_count(const ap_worker *worker) { return worker->talk.asked_count; }
const json_t *ap_worker_info(const ap_worker *worker) { return worker->talk.info; }
const char *ap_worker_sandbox(const ap_worker *worker) { return worker->talk.sandbox; }

/* ---- To the worker ------------------------------------------------------- */

ap_status ap_worker_send(ap_worker *worker, uint64_t id, const char *json, size_t length, ap_error *err)
{
    if (!ap_worker_is_ready(worker))
        return ap_fail(err, AP_E_STATE, "the worker of '%s' is not ready", worker->name);
    if (length > AP_WORKER_JOB_BYTES_MAX)
        return ap_fail(err, AP_E_LIMIT, "a request of %zu bytes is longer than the limit of %d", length,
                       AP_WORKER_JOB_BYTES_MAX);
    AP_TRY(ap_talk_ask(&worker->talk, id, err));
    ap_status status = ap_wire_put(&worker->writer, AP_WORKER_JOB, id, json, length, err);
    if (status != AP_OK) {
        ap_talk_forget(&worker->talk, id);
        return status;
    }
    /* A failure to write shows again, with its cause, in the next receive. */
    (void)ap_wire_flush(&worker->writer, worker->fd, NULL);
    return AP_OK;
}

static ap_status send_small(ap_worker *worker, ap_worker_kind kind, uint64_t id)
{
    if (!ap_worker_is_ready(worker))
        return AP_E_STATE;
    AP_TRY(ap_wire_put(&worker->writer, kind, id, NULL, 0, NULL));
    (void)ap_wire_flush(&worker->writer, worker->fd, NULL);
    return AP_OK;
}

ap_status ap_worker_cancel(ap_worker *worker, uint64_t id)
{
    return ap_talk_is_asked(&worker->talk, id) ? send_small(worker, AP_WORKER_CANCEL, id) : AP_OK;
}

ap_status ap_worker_ask_stats(ap_worker *worker) { return send_small(worker, AP_WORKER_STATS, 0); }

/* ---- The end of a worker ------------------------------------------------- */

/* `cause` is NULL when the worker ended by itself. */
static void bury(ap_worker *worker, const ap_error *cause, ap_worker_event_fn *fn, void *context)
{
    char how[420];
    int wait_status;
    ap_child_reap(worker->pid, true, &wait_status);
    for (int i = 0; i < 16 && worker->words.fd >= 0; i++)
        ap_words_drain(&worker->words, worker->name);
    worker->is_dead = true;
    if (cause) {
        worker->death = *cause;
    } else if (worker->talk.report.status != AP_OK) {
        /* Before READY its own status says best what was wrong with model or options. */
        worker->death = worker->talk.report;
        if (worker->talk.is_ready)
            worker->death.status = AP_E_WORKER;
    } else {
        ap_child_describe(wait_status, &worker->words, how, sizeof how);
        (void)ap_fail(&worker->death, AP_E_WORKER, "the worker of '%.40s' %s", worker->name, how);
    }
    while (worker->talk.asked_count) {
        ap_worker_event event = {.kind = AP_WORKER_ERROR,
                                 .id = worker->talk.asked[--worker->talk.asked_count].id,
                                 .status = AP_E_WORKER,
                                 .message = worker->death.message};
        if (fn)
            fn(context, &event);
    }
}

static ap_status dead(const ap_worker *worker, ap_error *err)
{
    if (err)
        *err = worker->death;
    return worker->death.status;
}

ap_status ap_worker_receive(ap_worker *worker, ap_worker_event_fn *fn, void *context, ap_error *err)
{
    if (worker->is_dead)
        return dead(worker, err);
    ap_words_drain(&worker->words, worker->name);
    /* A worker that does not take bytes any more is noticed by reading: it may have said why. */
    (void)ap_wire_flush(&worker->writer, worker->fd, NULL);
    bool is_open = true;
    ap_error cause = {0};
    ap_status status = ap_wire_fill(&worker->talk.reader, worker->fd, RECEIVE_BYTES, &is_open, &cause);
    if (status == AP_OK)
        status = ap_talk_hear(&worker->talk, fn, context, &cause);
    if (status == AP_OK && is_open)
        return AP_OK;
    cause.status = AP_E_WORKER;
    bury(worker, status == AP_OK ? NULL : &cause, fn, context);
    return dead(worker, err);
}

ap_status ap_worker_wait_ready(ap_worker *worker, unsigned timeout_ms, ap_error *err)
{
    uint64_t end = ap_clock_ns() + (uint64_t)timeout_ms * 1000000;
    for (;;) {
        AP_TRY(ap_worker_receive(worker, NULL, NULL, err));
        if (worker->talk.is_ready)
            return AP_OK;
        uint64_t now = ap_clock_ns();
        if (now >= end)
            return ap_fail(err, AP_E_WORKER, "the worker of '%.40s' was not ready within %u ms", worker->name,
                           timeout_ms);
        struct pollfd wait = {worker->fd, ap_worker_poll_events(worker), 0};
        uint64_t left_ms = (end - now + 999999) / 1000000;
        (void)poll(&wait, 1, left_ms < 1000 ? (int)left_ms : 1000);
    }
}

void ap_worker_stop(ap_worker **pointer, unsigned grace_ms)
{
    ap_worker *worker = *pointer;
    *pointer = NULL;
    if (!worker)
        return;
    (void)close(worker->fd); /* the worker sees the end of its socket and goes */
    if (!worker->is_dead) {
        int wait_status = 0;
        uint64_t end = ap_clock_ns() + (uint64_t)grace_ms * 1000000;
        pid_t gone = 0;
        while ((gone = waitpid(worker->pid, &wait_status, WNOHANG)) == 0 && ap_clock_ns() < end)
            (void)poll(NULL, 0, 5);
        if (gone == 0)
            ap_child_reap(worker->pid, true, &wait_status);
    }
    ap_words_close(&worker->words);
    ap_talk_deinit(&worker->talk);
    ap_wire_writer_deinit(&worker->writer);
    ap_free(worker);
}
