/* The backend of the program: a supervisor and its worker for each model.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "serve/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "serve/reply.h"
#include "serve/serve.h"

enum { LIVE_MAX = AP_WORKER_REQUESTS_MAX };

typedef struct live_job {
    ap_job_id id;
    ap_worker_event_fn *fn; /* NULL: cancelled, its last event is dropped */
    void *context;
} live_job;

/* Looking for a packed file again, beside the loop.  The thread alone writes until is_over. */
typedef struct search {
    const ap_served_model *model;
    pthread_t thread;
    bool is_running; /* the thread is not joined yet */
    atomic_bool is_over;
    int fd;
    ap_status status;
    ap_error error;
} search;

typedef struct unit {
    ap_supervisor *supervisor;
    const ap_served_model *model;
    int packed_fd;       /* the model's, or own_fd */
    int own_fd;          /* of a file that was found again; -1: none was */
    ap_file_stamp stamp; /* of the packed file, when its digest was right */
    ap_file_stamp adapter_stamps[2];
    search search;
    live_job live[LIVE_MAX];
    size_t live_count;
} unit;

struct ap_workers {
    const ap_serve_options *options;
    unit *units;
    size_t count; /* started */
    uint64_t available_bytes; /* not yet taken by a worker */
    ap_job_id last_id;
};

static uint64_t now_ms(void) { return ap_clock_ns() / 1000000; }

static void *look_for_file(void *context)
{
    search *s = context;
    s->status = s->model->reopen(s->model->reopen_context, &s->fd, &s->error);
    atomic_store(&s->is_over, true);
    return NULL;
}

/* The file that was checked is not there as it was.  AP_E_STATE while it is looked for: the supervisor asks again. */
static ap_status find_again(unit *u, ap_error *err)
{
    search *s = &u->search;
    const char *name = u->model->name;
    if (!u->model->reopen)
        return ap_fail(err, AP_E_INTEGRITY, "the packed file of '%s' was changed since it was checked", name);
    if (!s->is_running) {
        s->model = u->model;
        s->fd = -1;
        atomic_store(&s->is_over, false);
        if (pthread_create(&s->thread, NULL, look_for_file, s) != 0)
            return ap_fail(err, AP_E_NOMEM, "no thread to look for the packed file of '%s'", name);
        s->is_running = true;
    }
    if (!atomic_load(&s->is_over))
        return ap_fail(err, AP_E_STATE, "the packed file of '%s' was changed; it is looked for in the store and compared", name);
    (void)pthread_join(s->thread, NULL);
    s->is_running = false;
    if (s->status != AP_OK) {
        if (err)
            *err = s->error;
        return s->status;
    }
    if (u->own_fd >= 0)
        (void)close(u->own_fd);
    u->packed_fd = u->own_fd = s->fd;
    return ap_file_stamp_of(u->packed_fd, &u->stamp, err);
}

/* A restart is to cost a moment and not the minutes of a digest: the open file is the one that was
 * checked as long as its stamp is the same. */
static ap_status open_model(void *context, int *fd, ap_error *err)
{
    unit *u = context;
    ap_file_stamp stamp;
    *fd = -1;
    AP_TRY(ap_file_stamp_of(u->packed_fd, &stamp, err));
    if (!ap_file_stamp_equal(&stamp, &u->stamp))
        AP_TRY(find_again(u, err));
    for (unsigned i = 0; i < u->model->adapter.count; i++) {
        AP_TRY(ap_file_stamp_of(u->model->adapter.fds[i], &stamp, err));
        if (!ap_file_stamp_equal(&stamp, &u->adapter_stamps[i]))
            return ap_fail(err, AP_E_INTEGRITY, "the adapter of '%s' was changed; start the server again to serve it", u->model->name);
    }
    *fd = fcntl(u->packed_fd, F_DUPFD_CLOEXEC, 3);
    return *fd >= 0 ? AP_OK : ap_fail(err, AP_E_IO, "no descriptor for '%s': %s", u->model->name, strerror(errno));
}

ap_status ap_workers_create(ap_workers **out, const ap_serve_options *o, ap_error *err)
{
    *out = NULL;
    ap_workers *w = ap_alloc_zero(1, sizeof *w);
    if (!w)
        return ap_fail_nomem(err, sizeof *w);
    w->options = o;
    w->available_bytes = o->available_bytes ? o->available_bytes : ap_memory_available("");
    w->units = ap_alloc_zero(o->model_count, sizeof *w->units);
    ap_status status = w->units ? AP_OK : ap_fail_nomem(err, o->model_count * sizeof *w->units);
    for (size_t i = 0; status == AP_OK && i < o->model_count; i++) {
        w->units[i].model = &o->models[i];
        w->units[i].packed_fd = o->models[i].packed_fd;
        w->units[i].own_fd = -1;
        status = ap_file_stamp_of(o->models[i].packed_fd, &w->units[i].stamp, err);
        for (unsigned f = 0; status == AP_OK && f < o->models[i].adapter.count; f++)
            status = ap_file_stamp_of(o->models[i].adapter.fds[f], &w->units[i].adapter_stamps[f], err);
    }
    if (status != AP_OK)
        ap_workers_destroy(&w, 0);
    *out = w;
    return status;
}

void ap_workers_destroy(ap_workers **pointer, unsigned grace_ms)
{
    ap_workers *w = *pointer;
    *pointer = NULL;
    if (!w)
        return;
    for (size_t i = 0; i < w->count; i++)
        ap_supervisor_destroy(&w->units[i].supervisor, grace_ms);
    for (size_t i = 0; i < w->count; i++) {
        unit *u = &w->units[i];
        if (u->search.is_running) {
            (void)pthread_join(u->search.thread, NULL);
            if (u->search.fd >= 0)
                (void)close(u->search.fd);
        }
        if (u->own_fd >= 0)
            (void)close(u->own_fd);
    }
    ap_free(w->units);
    ap_free(w);
}

static size_t find_live(const unit *u, ap_job_id id)
{
    size_t i = 0;
    while (i < u->live_count && u->live[i].id != id)
        i++;
    return i;
}

static void on_event(void *context, const ap_worker_event *event)
{
    unit *u = context;
    size_t i = event->id ? find_live(u, event->id) : u->live_count;
    if (i == u->live_count)
        return; /* READY, statistics */
    live_job job = u->live[i];
    if (event->kind == AP_WORKER_DONE || event->kind == AP_WORKER_ERROR)
        u->live[i] = u->live[--u->live_count];
    if (job.fn)
        job.fn(job.context, event);
}

static ap_status submit(void *self, size_t model, const char *json, size_t length, ap_worker_event_fn *fn,
                        void *context, ap_job_id *id, ap_error *err)
{
    ap_workers *w = self;
    unit *u = &w->units[model];
    ap_worker *worker = ap_supervisor_worker(u->supervisor);
    char state[400];
    if (!worker) {
        ap_supervisor_describe(u->supervisor, now_ms(), state, sizeof state);
        return ap_fail(err, AP_E_STATE, "the model '%.80s' is not ready: %s", u->model->name, state);
    }
    if (u->live_count == LIVE_MAX)
        return ap_fail(err, AP_E_FULL, "%d requests are at work or waiting", LIVE_MAX);
    AP_TRY(ap_worker_send(worker, w->last_id + 1, json, length, err));
    *id = ++w->last_id;
    u->live[u->live_count++] = (live_job){*id, fn, context};
    return AP_OK;
}

static void cancel(void *self, size_t model, ap_job_id id)
{
    ap_workers *w = self;
    unit *u = &w->units[model];
    size_t i = find_live(u, id);
    if (i == u->live_count)
        return;
    u->live[i].fn = NULL;
    ap_worker *worker = ap_supervisor_worker(u->supervisor);
    if (worker)
        (void)ap_worker_cancel(worker, id);
}

static ap_status add_member(ap_buf *out, const char *key, const json_t *value, ap_error *err)
{
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    ap_status status = text ? ap_buf_printf(out, err, ",\"%s\":%s", key, text) : AP_OK;
    free(text); /* jansson's, from malloc */
    return status;
}

static ap_status describe(void *self, size_t model, ap_buf *out, bool *is_ready, ap_error *err)
{
    ap_workers *w = self;
    unit *u = &w->units[model];
    ap_worker *worker = ap_supervisor_worker(u->supervisor);
    char state[400];
    ap_supervisor_describe(u->supervisor, now_ms(), state, sizeof state);
    *is_ready = worker != NULL;
    AP_TRY(ap_buf_add_str(out, AP_STR("{\"name\":"), err));
    AP_TRY(ap_json_add_text(out, ap_str_from(u->model->name), err));
    AP_TRY(ap_buf_add_str(out, AP_STR(",\"state\":"), err));
    AP_TRY(ap_json_add_text(out, ap_str_from(state), err));
    AP_TRY(ap_buf_printf(out, err, ",\"restarts\":%" PRIu64 ",\"requests\":%zu", ap_supervisor_restarts(u->supervisor),
                         u->live_count));
    if (worker) {
        const json_t *info = ap_worker_info(worker);
        AP_TRY(ap_buf_add_str(out, AP_STR(",\"sandbox\":"), err));
        AP_TRY(ap_json_add_text(out, ap_str_from(ap_worker_sandbox(worker)), err));
        AP_TRY(add_member(out, "model", json_object_get(info, "model"), err));
        /* Of the engine only what does not change; the counts of READY are those of an idle start. */
        static const char *const lasting[] = {"isa", "threads", "context_tokens", "memory_bytes"};
        for (size_t i = 0; i < sizeof lasting / sizeof *lasting; i++)
            AP_TRY(add_member(out, lasting[i], json_object_get(json_object_get(info, "engine"), lasting[i]), err));
    }
    return ap_buf_add_char(out, '}', err);
}

static size_t poll_fds(void *self, struct pollfd *fds, size_t room, int *timeout_ms)
{
    ap_workers *w = self;
    size_t used = 0;
    for (size_t i = 0; i < w->count; i++) {
        ap_supervisor *s = w->units[i].supervisor;
        int due_ms = ap_supervisor_timeout_ms(s, now_ms());
        if (due_ms >= 0 && (*timeout_ms < 0 || due_ms < *timeout_ms))
            *timeout_ms = due_ms;
        if (ap_supervisor_fd(s) >= 0 && used < room)
            fds[used++] = (struct pollfd){ap_supervisor_fd(s), ap_supervisor_poll_events(s), 0};
    }
    return used;
}

static void step(void *self)
{
    ap_workers *w = self;
    for (size_t i = 0; i < w->count; i++)
        ap_supervisor_step(w->units[i].supervisor, now_ms(), on_event, &w->units[i]);
}

static ap_status wait_ready(ap_workers *w, const unit *u, int stop_fd, ap_error *err)
{
    for (;;) {
        struct pollfd fds[1 + AP_SERVE_MODELS_MAX] = {{stop_fd, POLLIN, 0}};
        int timeout_ms = -1;
        step(w);
        for (size_t i = 0; i < w->count; i++) {
            ap_status status = ap_supervisor_last_failure(w->units[i].supervisor, err);
            if (status != AP_OK && w->options->model_count > 1)
                ap_error_prefix(err, w->units[i].model->name);
            AP_TRY(status);
        }
        if (ap_supervisor_worker(u->supervisor))
            return AP_OK;
        size_t count = 1 + poll_fds(w, fds + 1, AP_SERVE_MODELS_MAX, &timeout_ms);
        (void)poll(fds, count, timeout_ms);
        if (fds[0].revents & POLLIN)
            return ap_fail(err, AP_E_CANCELLED, "stopped before the models were ready");
    }
}

/* A worker's pages are the system's until they are first written, so what the next one may take is counted
 * here.  A restarted worker takes what it took before. */
static void count_memory(ap_workers *w, unit *u)
{
    const json_t *info = ap_worker_info(ap_supervisor_worker(u->supervisor));
    json_int_t took = json_integer_value(json_object_get(json_object_get(info, "engine"), "memory_bytes"));
    uint64_t bytes = took > 0 ? (uint64_t)took : 0;
    /* Not 0, which means no bound. */
    w->available_bytes = bytes < w->available_bytes ? w->available_bytes - bytes : 1;
}

ap_status ap_workers_start(ap_workers *w, int stop_fd, ap_error *err)
{
    const ap_serve_options *o = w->options;
    while (w->count < o->model_count) {
        unit *u = &w->units[w->count];
        ap_supervisor_options options = {.worker = {.name = u->model->name,
                                                    .adapter = u->model->adapter,
                                                    .threads = o->threads,
                                                    .isa = o->isa,
                                                    .context_tokens = o->context_tokens,
                                                    .kv_type = o->kv_type,
                                                    .kv_bytes = o->memory_bytes,
                                                    .memory_bytes_max = w->available_bytes,
                                                    .sandbox = o->sandbox},
                                         .open = open_model,
                                         .open_context = u};
        AP_TRY(ap_supervisor_create(&u->supervisor, &options, now_ms(), err));
        w->count++;
        AP_TRY(wait_ready(w, u, stop_fd, err));
        count_memory(w, u);
    }
    return AP_OK;
}

ap_backend ap_workers_backend(ap_workers *workers)
{
    static const ap_backend_ops ops = {submit, cancel, describe, poll_fds, step};
    return (ap_backend){&ops, workers};
}
