/* One-shots: a forked child in the sandbox that runs one function.
 *
 * A fork and not a new program: the function and its arguments are simply there.
 * The price is that the child holds a copy of the parent's memory; it cannot send it
 * anywhere but back to the parent.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "worker/child.h"
#include "worker/sandbox.h"
#include "worker/wire.h"

enum {
    FDS_MAX = AP_SANDBOX_FDS_MAX - 3, /* and the output, standard error, the socket */
    PIECE_BYTES = 256 * 1024,
    RESULT_BYTES_DEFAULT = 64 * 1024 * 1024,
    PROGRESS_NS = 50 * 1000 * 1000
};

/* Child -> parent. */
enum { FRAME_RESULT = 1, FRAME_PROGRESS = 2, FRAME_END = 3 };

typedef struct progress_report {
    uint64_t done, total;
} progress_report;

typedef struct end_report {
    uint32_t status;
    char message[sizeof((ap_error *)0)->message];
} end_report;

/* ---- The child's side ---------------------------------------------------- */

struct ap_oneshot {
    int fd;
    ap_wire_writer writer;
    uint64_t progress_ns; /* when the last report went */
    uint64_t result_bytes, result_bytes_max;
};

static ap_status send_frame(ap_oneshot *self, uint32_t kind, const void *payload, size_t bytes, ap_error *err)
{
    AP_TRY(ap_wire_put(&self->writer, kind, 1, payload, bytes, err));
    return ap_wire_flush(&self->writer, self->fd, err); /* the child's end blocks */
}

ap_status ap_oneshot_write(ap_oneshot *self, const void *bytes, size_t count, ap_error *err)
{
    if (count > self->result_bytes_max - self->result_bytes)
        return ap_fail(err, AP_E_LIMIT, "the result is longer than the limit of %" PRIu64 " bytes",
                       self->result_bytes_max);
    self->result_bytes += count;
    for (size_t at = 0; at < count;) {
        size_t piece = count - at < PIECE_BYTES ? count - at : PIECE_BYTES;
        AP_TRY(send_frame(self, FRAME_RESULT, (const char *)bytes + at, piece, err));
        at += piece;
    }
    return AP_OK;
}

void ap_oneshot_progress(void *context, uint64_t done, uint64_t total)
{
    ap_oneshot *self = context;
    uint64_t now = ap_clock_ns();
    if (done < total && self->progress_ns && now - self->progress_ns < PROGRESS_NS)
        return;
    self->progress_ns = now;
    progress_report report = {done, total};
    /* Who cannot hear how far we are will notice the end. */
    (void)send_frame(self, FRAME_PROGRESS, &report, sizeof report, NULL);
}

static ap_status enter(const ap_oneshot_options *o, int socket, ap_error *err)
{
    int fds[FDS_MAX + 3];
    size_t count = 0;
    for (size_t i = 0; i < o->fd_count; i++)
        fds[count++] = o->fds[i];
    if (o->output_fd >= 0)
        fds[count++] = o->output_fd;
    fds[count++] = STDERR_FILENO;
    fds[count++] = socket;
    char state[AP_SANDBOX_STATE_BYTES];
    return ap_sandbox_enter(
        &(ap_sandbox_options){
            .mode = o->sandbox, .fds = fds, .fd_count = count, .has_output = o->output_fd >= 0},
        state, err);
}

static _Noreturn void be_child(ap_oneshot_fn *fn, void *fn_context, const ap_oneshot_options *o, int socket,
                               int words, pid_t parent)
{
    ap_child_reset_signals();
    /* The parent's thread waits in this file, so its end is the end of whoever wanted this. */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    ap_error error = {0};
    if (socket == STDERR_FILENO) /* the parent may run without standard error */
        socket = fcntl(socket, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (getppid() != parent || dup2(words, STDERR_FILENO) < 0)
        _exit(1);
    ap_oneshot self = {.fd = socket,
                       .result_bytes_max = o->result_bytes_max ? o->result_bytes_max : RESULT_BYTES_DEFAULT};
    ap_status status = enter(o, socket, &error);
    if (status == AP_OK)
        status = fn(&self, fn_context, &error);
    end_report report = {.status = (uint32_t)status};
    memcpy(report.message, error.message, sizeof report.message);
    status = send_frame(&self, FRAME_END, &report, sizeof report, NULL);
    _exit(status == AP_OK ? 0 : 1); /* nothing of the parent's atexit handlers and buffers is ours */
}

/* ---- The parent's side --------------------------------------------------- */

typedef struct parent {
    const ap_oneshot_options *options;
    uint64_t result_bytes, result_bytes_max;
    bool has_end;
    ap_error end;
} parent;

ap_status ap_oneshot_collect(void *buf, const char *bytes, size_t count, ap_error *err)
{
    return ap_buf_add(buf, bytes, count, err);
}

static ap_status take_end(parent *p, const ap_wire_frame *frame, ap_error *err)
{
    end_report report;
    if (frame->bytes != sizeof report)
        return ap_fail(err, AP_E_WORKER, "the child broke the protocol: its end has %" PRIu32 " bytes",
                       frame->bytes);
    memcpy(&report, frame->payload, sizeof report);
    if (!memchr(report.message, 0, sizeof report.message) ||
        strcmp(ap_status_text((ap_status)report.status), ap_status_text((ap_status)-1)) == 0)
        return ap_fail(err, AP_E_WORKER, "the child broke the protocol: its end has no status that is known");
    p->has_end = true;
    ap_status status = (ap_status)report.status;
    if (status != AP_OK)
        (void)ap_fail(&p->end, status, "%s", report.message[0] ? report.message : ap_status_text(status));
    return AP_OK;
}

static ap_status take_frame(parent *p, const ap_wire_frame *frame, ap_error *err)
{
    const ap_oneshot_options *o = p->options;
    progress_report report;
    if (p->has_end)
        return ap_fail(err, AP_E_WORKER, "the child broke the protocol: it spoke after its end");
    switch (frame->kind) {
    case FRAME_RESULT:
        if (frame->bytes > p->result_bytes_max - p->result_bytes)
            return ap_fail(err, AP_E_LIMIT, "the result is longer than the limit of %" PRIu64 " bytes",
                           p->result_bytes_max);
        p->result_bytes += frame->bytes;
        return o->result ? o->result(o->context, frame->payload, frame->bytes, err) : AP_OK;
    case FRAME_PROGRESS:
        if (frame->bytes != sizeof report)
            return ap_fail(err, AP_E_WORKER, "the child broke the protocol: a report has %" PRIu32 " bytes",
                           frame->bytes);
        memcpy(&report, frame->payload, sizeof report);
        if (o->progress)
            o->progress(o->context, report.done < report.total ? report.done : report.total, report.total);
        return AP_OK;
    default:
        return take_end(p, frame, err);
    }
}

/* Until the child hangs up or says what it may not. */
static ap_status listen_to(parent *p, int fd, ap_words *words, ap_error *err)
{
    ap_wire_reader reader = {.kinds = AP_WIRE_KIND(FRAME_RESULT) | AP_WIRE_KIND(FRAME_PROGRESS) |
                                      AP_WIRE_KIND(FRAME_END),
                             .payload_max = PIECE_BYTES};
    bool is_open = true;
    ap_status status = AP_OK;
    while (status == AP_OK && is_open) {
        struct pollfd wait[2] = {{fd, POLLIN, 0}, {words->fd, POLLIN, 0}};
        if (poll(wait, 2, -1) < 0 && errno != EINTR) {
            status = ap_fail(err, AP_E_IO, "waiting for the child failed: %s", strerror(errno));
            break;
        }
        ap_words_drain(words, "task");
        status = ap_wire_fill(&reader, fd, 4 * PIECE_BYTES, &is_open, err);
        ap_wire_frame frame;
        bool have = true;
        while (status == AP_OK && have) {
            status = ap_wire_next(&reader, &frame, &have, err);
            if (status == AP_E_FORMAT)
                status =
                    ap_fail(err, AP_E_WORKER, "the child broke the protocol: it sent a frame that is none");
            if (status == AP_OK && have)
                status = take_frame(p, &frame, err);
        }
    }
    ap_wire_reader_deinit(&reader);
    return status;
}

static ap_status check_options(const ap_oneshot_options *o, ap_error *err)
{
    if (o->fd_count > FDS_MAX)
        return ap_fail(err, AP_E_ARG, "%zu descriptors are more than the limit of %d", o->fd_count, FDS_MAX);
    for (size_t i = 0; i < o->fd_count; i++) {
        int flags = fcntl(o->fds[i], F_GETFL);
        if (flags < 0 || (flags & O_ACCMODE) != O_RDONLY || o->fds[i] == STDERR_FILENO)
            return ap_fail(err, AP_E_ARG, "descriptor %d is not one open for reading only", o->fds[i]);
    }
    if (o->output_fd >= 0 && (fcntl(o->output_fd, F_GETFL) < 0 || o->output_fd == STDERR_FILENO))
        return ap_fail(err, AP_E_ARG, "descriptor %d cannot be written", o->output_fd);
    return AP_OK;
}

ap_status ap_worker_oneshot(ap_oneshot_fn *fn, void *fn_context, const ap_oneshot_options *options,
                            ap_error *err)
{
    AP_TRY(check_options(options, err));
    ap_words words;
    int words_end, ends[2];
    AP_TRY(ap_words_open(&words, &words_end, err));
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        ap_status failed = ap_fail(err, AP_E_IO, "no socket pair for a child: %s", strerror(errno));
        (void)close(words_end);
        ap_words_close(&words);
        return failed;
    }
    pid_t parent_pid = getpid();
    pid_t pid = fork();
    if (pid == 0)
        be_child(fn, fn_context, options, ends[1], words_end, parent_pid);
    (void)close(ends[1]);
    (void)close(words_end);
    if (pid < 0) {
        ap_status failed = ap_fail(err, AP_E_IO, "no process for a child: %s", strerror(errno));
        (void)close(ends[0]);
        ap_words_close(&words);
        return failed;
    }
    parent p = {.options = options,
                .result_bytes_max =
                    options->result_bytes_max ? options->result_bytes_max : RESULT_BYTES_DEFAULT};
    ap_status status = listen_to(&p, ends[0], &words, err);
    (void)close(ends[0]);
    int wait_status;
    ap_child_reap(pid, true, &wait_status); /* it hung up, or is to be stopped */
    for (int i = 0; i < 16 && words.fd >= 0; i++)
        ap_words_drain(&words, "task");
    if (status == AP_OK && !p.has_end) {
        char how[420];
        ap_child_describe(wait_status, &words, how, sizeof how);
        status = ap_fail(err, AP_E_WORKER, "the child process %s", how);
    } else if (status == AP_OK && p.end.status != AP_OK) {
        if (err)
            *err = p.end;
        status = p.end.status;
    }
    ap_words_close(&words);
    return status;
}
