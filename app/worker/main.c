/* main.c - a serving worker, from its first instruction to its last.
 *
 * Descriptor 3 is the socket to the front, 4 the packed model, 2 a pipe that the
 * front logs, 5 and 6 the files of an adapter if there is one; there are no others.  The order at start matters: the sandbox is
 * entered before a byte of the model or of a request is read, so the engine's
 * threads are made inside it (it lets clone make threads and nothing else).
 *
 * The loop: take what the front sent, look whether the model's file is still the
 * one that was opened, make one step, send its events.  With nothing to do it sleeps in poll.
 * Frames are read for at most a few milliseconds between two steps, so a crowd of
 * new requests does not stop those at work.  If the front does not read, events
 * collect up to a bound; then neither steps nor jobs happen until half of it is gone.
 * When the front hangs up, the worker ends.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "worker/job.h"
#include "worker/sandbox.h"
#include "worker/wire.h"

enum {
    SOCKET_FD = 3,
    MODEL_FD = 4,
    ADAPTER_FD = 5, /* and the next */
    UNSENT_BYTES_HIGH = 4 * 1024 * 1024, /* seconds of text for hundreds of requests */
    FILL_BYTES = 1024 * 1024,            /* read between two steps */
    FRAMES_NS = 5 * 1000 * 1000          /* and worked on: a step of a small model takes about as long */
};

/* What tells that the bytes behind the map are still those that were opened. */
typedef struct model_stamp {
    dev_t device;
    ino_t inode;
    off_t bytes;
    struct timespec modified;
    bool has_name; /* a name in some folder leads to it */
} model_stamp;

typedef struct worker {
    const char *name;
    ap_engine_options engine_options;
    ap_sandbox_mode mode;
    char sandbox[AP_SANDBOX_STATE_BYTES];
    unsigned adapter_files;
    ap_model *model;
    ap_adapter *adapter; /* NULL: none */
    ap_engine *engine;
    ap_jobs *jobs;
    ap_wire_reader reader;
    ap_wire_writer writer;
    model_stamp stamp;
    bool is_open; /* the front listens */
    bool is_busy; /* the engine has work */
} worker;

/* ---- Options and the model ----------------------------------------------- */

static ap_status read_options(worker *w, json_t *root, ap_error *err)
{
    const char *name, *isa = NULL;
    int threads, context, kv_type, step, requests, reduced, adapter_files;
    json_int_t kv_bytes, memory_max;
    json_error_t detail;
    if (json_unpack_ex(root, &detail, JSON_STRICT, "{s:s, s:i, s:i, s:i, s:I, s:i, s:i, s:I, s:b, s:i, s?s}", "name",
                       &name, "threads", &threads, "context_tokens", &context, "kv_type", &kv_type,
                       "kv_bytes", &kv_bytes, "step_tokens", &step, "requests_max", &requests,
                       "memory_bytes_max", &memory_max, "reduced", &reduced, "adapter_files", &adapter_files, "isa", &isa) != 0)
        return ap_fail(err, AP_E_ARG, "the worker's options: %s; only the program itself starts a worker",
                       detail.text);
    w->name = name;
    if (adapter_files < 0 || adapter_files > 2)
        return ap_fail(err, AP_E_ARG, "the worker's options: %d files of an adapter", adapter_files);
    w->adapter_files = (unsigned)adapter_files;
    w->mode = reduced ? AP_SANDBOX_REDUCED : AP_SANDBOX_FULL;
    w->engine_options = (ap_engine_options){.size = sizeof(ap_engine_options),
                                            .threads = (unsigned)threads,
                                            .isa = isa,
                                            .kv_type = (ap_kv_type)kv_type,
                                            .context_tokens = (uint32_t)context,
                                            .kv_bytes = (uint64_t)kv_bytes,
                                            .step_tokens = (uint32_t)step,
                                            .requests_max = (uint32_t)requests,
                                            .memory_bytes_max = (uint64_t)memory_max};
    return AP_OK;
}

static ap_status read_stamp(model_stamp *stamp, ap_error *err)
{
    struct stat st;
    if (syscall(SYS_fstat, MODEL_FD, &st) != 0) /* not libc's fstat, see sandbox.h */
        return ap_fail(err, AP_E_IO, "the model file cannot be looked at: %s", strerror(errno));
    *stamp = (model_stamp){st.st_dev, st.st_ino, st.st_size, st.st_mtim, st.st_nlink > 0};
    return AP_OK;
}

static ap_status check_stamp(const worker *w, ap_error *err)
{
    model_stamp now = {0};
    AP_TRY(read_stamp(&now, err));
    if (now.device != w->stamp.device || now.inode != w->stamp.inode)
        return ap_fail(err, AP_E_IO, "the model file was replaced while it was in use");
    /* A file renamed over ours leaves ours, which we hold, without a name. */
    if (w->stamp.has_name && !now.has_name)
        return ap_fail(err, AP_E_IO, "the model file was removed or replaced while it was in use");
    if (now.bytes != w->stamp.bytes)
        return ap_fail(err, AP_E_IO, "the model file went from %lld to %lld bytes while it was in use",
                       (long long)w->stamp.bytes, (long long)now.bytes);
    if (now.modified.tv_sec != w->stamp.modified.tv_sec || now.modified.tv_nsec != w->stamp.modified.tv_nsec)
        return ap_fail(err, AP_E_IO, "the model file was written to while it was in use");
    return AP_OK;
}

static ap_status add_text(ap_buf *out, const char *key, const char *text, ap_error *err)
{
    AP_TRY(ap_buf_printf(out, err, "\"%s\":", key));
    AP_TRY(ap_wire_add_json(out, ap_str_from(text), err));
    return ap_buf_add_char(out, ',', err);
}

static ap_status add_stats(ap_buf *out, const ap_engine *engine, ap_error *err)
{
    ap_engine_stats s;
    ap_engine_stats_of(engine, &s);
    AP_TRY(ap_buf_add_char(out, '{', err));
    AP_TRY(add_text(out, "isa", s.isa ? s.isa : "", err));
    return ap_buf_printf(out, err,
                         "\"running\":%" PRIu32 ",\"waiting\":%" PRIu32 ",\"page_count\":%" PRIu32
                         ",\"pages_free\":%" PRIu32 ",\"steps\":%" PRIu64 ",\"prompt_tokens\":%" PRIu64
                         ",\"answer_tokens\":%" PRIu64 ",\"preemptions\":%" PRIu64
                         ",\"context_tokens\":%" PRIu32 ",\"threads\":%u,\"memory_bytes\":%" PRIu64 "}",
                         s.running, s.waiting, s.page_count, s.pages_free, s.steps, s.prompt_tokens,
                         s.answer_tokens, s.preemptions, s.context_tokens, s.threads, s.memory_bytes);
}

static ap_status add_ready(ap_buf *out, const worker *w, ap_error *err)
{
    const ap_model_info *info = ap_model_info_of(w->model);
    AP_TRY(ap_buf_add_char(out, '{', err));
    AP_TRY(add_text(out, "sandbox", w->sandbox, err));
    AP_TRY(ap_buf_printf(out, err, "\"law\":%d,\"kv_type\":\"%s\",\"model\":{", AP_LAW_VERSION,
                         ap_kv_type_name(w->engine_options.kv_type)));
    AP_TRY(add_text(out, "architecture", info->architecture, err));
    AP_TRY(add_text(out, "name", info->name, err));
    AP_TRY(add_text(out, "license", info->license, err));
    AP_TRY(add_text(out, "quantization", info->quantization, err));
    AP_TRY(add_text(out, "source_sha256", info->source_sha256, err));
    AP_TRY(ap_buf_printf(
        out, err,
        "\"parameter_count\":%" PRIu64 ",\"weight_bytes\":%" PRIu64 ",\"file_bytes\":%" PRIu64
        ",\"context_tokens\":%" PRIu32 ",\"vocab_count\":%" PRIu32 ",\"layer_count\":%" PRIu32
        ",\"embedding_width\":%" PRIu32 ",\"has_chat_template\":%s},\"engine\":",
        info->parameter_count, info->weight_bytes, info->file_bytes, info->context_tokens, info->vocab_count,
        info->layer_count, info->embedding_width, info->has_chat_template ? "true" : "false"));
    AP_TRY(add_stats(out, w->engine, err));
    return ap_buf_add_char(out, '}', err);
}

static ap_status say(worker *w, ap_worker_kind kind, ap_status (*add)(ap_buf *, const worker *, ap_error *),
                     ap_error *err)
{
    ap_buf payload = {0};
    ap_status status = add(&payload, w, err);
    if (status == AP_OK)
        status = ap_wire_put(&w->writer, kind, 0, payload.ptr, payload.len, err);
    ap_buf_deinit(&payload);
    return status;
}

static ap_status add_stats_reply(ap_buf *out, const worker *w, ap_error *err)
{
    return add_stats(out, w->engine, err);
}

static ap_status get_ready(worker *w, ap_error *err)
{
    const int fds[] = {STDERR_FILENO, SOCKET_FD, MODEL_FD, ADAPTER_FD, ADAPTER_FD + 1};
    bool has_config = w->adapter_files == 2;
    AP_TRY(
        ap_sandbox_enter(&(ap_sandbox_options){.mode = w->mode, .fds = fds, .fd_count = 3 + w->adapter_files}, w->sandbox, err));
    AP_TRY(read_stamp(&w->stamp, err));
    AP_TRY(ap_model_open(&w->model, MODEL_FD, err));
    const ap_model_info *info = ap_model_info_of(w->model);
    if (info->is_encoder) /* there is no job for it yet: better said now than to every request */
        return ap_fail(err, AP_E_UNSUPPORTED, "this model is an encoder (%s): it makes embeddings%s and no text; `aperto logits` shows them",
                       info->architecture, info->label_count ? " and scores" : "");
    if (w->adapter_files)
        AP_TRY(ap_adapter_open(&w->adapter, w->model, has_config ? ADAPTER_FD : -1, has_config ? ADAPTER_FD + 1 : ADAPTER_FD, err));
    w->engine_options.adapter = w->adapter;
    AP_TRY(ap_engine_create(&w->engine, w->model, &w->engine_options, err));
    AP_TRY(ap_jobs_create(&w->jobs, w->engine, ap_model_vocab(w->model), &w->writer, err));
    return say(w, AP_WORKER_READY, add_ready, err);
}

/* ---- The loop ------------------------------------------------------------ */

static ap_status handle(worker *w, const ap_wire_frame *frame, ap_error *err)
{
    switch (frame->kind) {
    case AP_WORKER_JOB:
        w->is_busy = true;
        return ap_jobs_submit(w->jobs, frame->id, frame->payload, frame->bytes, err);
    case AP_WORKER_CANCEL:
        ap_jobs_cancel(w->jobs, frame->id);
        return AP_OK;
    default:
        return say(w, AP_WORKER_STATS_REPLY, add_stats_reply, err);
    }
}

/* False: time is up and there is more. */
static ap_status handle_frames(worker *w, bool *is_done, ap_error *err)
{
    uint64_t begin = ap_clock_ns();
    ap_wire_frame frame;
    bool have = true;
    do {
        AP_TRY(ap_wire_next(&w->reader, &frame, &have, err));
        if (have)
            AP_TRY(handle(w, &frame, err));
    } while (have && ap_clock_ns() - begin < FRAMES_NS);
    *is_done = !have;
    return AP_OK;
}

/* Until the front says something, or takes something while `writes`. */
static void sleep_until(bool reads, bool writes)
{
    struct pollfd wait = {SOCKET_FD, (short)((reads ? POLLIN : 0) | (writes ? POLLOUT : 0)), 0};
    (void)ppoll(&wait, 1, NULL, NULL);
}

static ap_status serve(worker *w, ap_error *err)
{
    bool is_read = true, is_stuck = false; /* all frames here are handled; the front does not read */
    while (w->is_open) {
        if (ap_wire_flush(&w->writer, SOCKET_FD, NULL) != AP_OK)
            return AP_OK; /* nobody listens any more */
        is_stuck = ap_wire_unsent(&w->writer) > (is_stuck ? UNSENT_BYTES_HIGH / 2 : UNSENT_BYTES_HIGH);
        if (is_stuck) {
            sleep_until(false, true);
            continue;
        }
        if (is_read && !w->is_busy)
            sleep_until(true, ap_wire_unsent(&w->writer) > 0);
        if (is_read)
            AP_TRY(ap_wire_fill(&w->reader, SOCKET_FD, FILL_BYTES, &w->is_open, err));
        AP_TRY(handle_frames(w, &is_read, err));
        if (w->is_busy) {
            AP_TRY(check_stamp(w, err));
            AP_TRY(ap_jobs_step(w->jobs, &w->is_busy, err));
        }
    }
    return AP_OK;
}

static _Noreturn void end(worker *w, ap_status status, const ap_error *why)
{
    if (status != AP_OK) {
        ap_error report = *why;
        report.status = status;
        if (ap_jobs_error_frame(&w->writer, 0, &report, NULL, NULL) == AP_OK) {
            /* What is unsent are answers that have no end; the report is worth waiting for, but not for ever.
             */
            for (int i = 0;
                 i < 20 && ap_wire_flush(&w->writer, SOCKET_FD, NULL) == AP_OK && ap_wire_unsent(&w->writer);
                 i++) {
                struct pollfd wait = {SOCKET_FD, POLLOUT, 0};
                (void)ppoll(&wait, 1, &(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
            }
        }
    }
    /* At once: exit handlers (of sanitizers, of libraries) want calls that the sandbox forbids, and the
     * kernel takes memory back faster than we do. */
    _exit(status == AP_OK ? 0 : 1);
}

int ap_worker_main(int argc, char **argv)
{
    static worker w; /* never freed, see end() */
    ap_error error = {0};
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGBUS, SIG_DFL); /* a model file cut short; a sanitizer would take it for a bug */
    w.is_open = true;
    w.reader.payload_max = AP_WORKER_JOB_BYTES_MAX;
    w.reader.kinds =
        AP_WIRE_KIND(AP_WORKER_JOB) | AP_WIRE_KIND(AP_WORKER_CANCEL) | AP_WIRE_KIND(AP_WORKER_STATS);
    json_t *root =
        argc == 3 ? json_loads(argv[2], 0, NULL) : NULL; /* kept while it runs: the strings are in use */
    ap_status status = read_options(&w, root, &error);
    if (status != AP_OK) {
        /* Somebody typed it: there is no socket to answer on. */
        (void)!write(STDERR_FILENO, "aperto: error: ", 15);
        (void)!write(STDERR_FILENO, error.message, strlen(error.message));
        (void)!write(STDERR_FILENO, "\n", 1);
        json_decref(root);
        return 2;
    }
    status = get_ready(&w, &error);
    if (status == AP_OK)
        status = serve(&w, &error);
    end(&w, status, &error);
}
