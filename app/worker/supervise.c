/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/supervise.h"

#include <stdio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"

/* ---- Times --------------------------------------------------------------- */

void ap_watch_init(ap_watch *watch, uint64_t ready_timeout_ms, uint64_t now_ms)
{
    *watch =
        (ap_watch){.state = AP_SUPERVISOR_WAITING, .ready_timeout_ms = ready_timeout_ms, .due_ms = now_ms};
}

ap_watch_action ap_watch_due(const ap_watch *watch, uint64_t now_ms)
{
    if (watch->state == AP_SUPERVISOR_READY || now_ms < watch->due_ms)
        return AP_WATCH_NOTHING;
    return watch->state == AP_SUPERVISOR_WAITING ? AP_WATCH_START : AP_WATCH_KILL;
}

void ap_watch_started(ap_watch *watch, uint64_t now_ms)
{
    watch->state = AP_SUPERVISOR_STARTING;
    watch->due_ms = now_ms + watch->ready_timeout_ms;
    watch->starts++;
}

void ap_watch_ready(ap_watch *watch, uint64_t now_ms)
{
    watch->state = AP_SUPERVISOR_READY;
    watch->since_ms = now_ms;
}

void ap_watch_died(ap_watch *watch, uint64_t now_ms)
{
    if (watch->state == AP_SUPERVISOR_READY && now_ms - watch->since_ms >= AP_WATCH_PROVED_MS)
        watch->deaths = 0;
    watch->deaths++;
    /* At once, then after 1, 2, 4 … 30 s: a lone accident costs a moment, a model that kills
     * its worker each time costs little. */
    uint64_t wait_ms = watch->deaths == 1  ? 0
                       : watch->deaths > 6 ? AP_WATCH_WAIT_MS_MAX
                                           : 1000u << (watch->deaths - 2);
    if (wait_ms > AP_WATCH_WAIT_MS_MAX)
        wait_ms = AP_WATCH_WAIT_MS_MAX;
    watch->state = AP_SUPERVISOR_WAITING;
    watch->due_ms = now_ms + wait_ms;
}

int ap_watch_timeout_ms(const ap_watch *watch, uint64_t now_ms)
{
    if (watch->state == AP_SUPERVISOR_READY)
        return -1;
    uint64_t left_ms = watch->due_ms > now_ms ? watch->due_ms - now_ms : 0;
    return left_ms < INT32_MAX ? (int)left_ms : INT32_MAX;
}

/* ---- Processes ----------------------------------------------------------- */

struct ap_supervisor {
    ap_supervisor_options options;
    char *name, *isa;
    ap_watch watch;
    ap_worker *worker; /* NULL while WAITING */
    ap_error last;     /* why the last worker ended */
    bool was_ready;    /* some worker was */
};

/* A failure of the very first start is told to whoever asked for it, once. */
static void log_failure(const ap_supervisor *s, const char *what)
{
    if (s->was_ready || s->watch.starts > 1)
        ap_log(AP_LOG_ERROR, "worker %s %s: %s", s->name, what, s->last.message);
}

/* The time comes from the caller, so a start that takes long (a digest) is not seen
 * until the next step; the time limit for READY begins before it. */
static void start(ap_supervisor *s, uint64_t now_ms)
{
    ap_error error = {0};
    int model_fd = -1;
    ap_status status = s->options.open(s->options.open_context, &model_fd, &error);
    if (status == AP_OK) {
        ap_worker_options options = s->options.worker;
        options.model_fd = model_fd;
        status = ap_worker_start(&s->worker, &options, &error);
        (void)close(model_fd);
    }
    ap_watch_started(&s->watch, now_ms);
    if (status == AP_OK)
        return;
    error.status = status;
    s->last = error;
    ap_watch_died(&s->watch, now_ms);
    log_failure(s, "could not be started");
}

static void note_death(ap_supervisor *s, uint64_t now_ms, const ap_error *why)
{
    s->last = *why;
    ap_worker_stop(&s->worker, 0);
    ap_watch_died(&s->watch, now_ms);
    log_failure(s, "ended");
}

ap_status ap_supervisor_create(ap_supervisor **out, const ap_supervisor_options *options, uint64_t now_ms,
                               ap_error *err)
{
    *out = NULL;
    const char *name = options->worker.name ? options->worker.name : "model", *isa = options->worker.isa;
    ap_supervisor *s = ap_alloc_zero(1, sizeof *s);
    if (!s)
        return ap_fail_nomem(err, sizeof *s);
    s->options = *options;
    s->name = ap_strndup(name, strlen(name));
    s->isa = isa ? ap_strndup(isa, strlen(isa)) : NULL;
    if (!s->name || (isa && !s->isa)) {
        ap_supervisor_destroy(&s, 0);
        return ap_fail_nomem(err, strlen(name) + 1);
    }
    s->options.worker.name = s->name;
    s->options.worker.isa = s->isa;
    ap_watch_init(&s->watch, options->ready_timeout_ms ? options->ready_timeout_ms : 60000, now_ms);
    start(s, now_ms);
    if (s->worker) {
        *out = s;
        return AP_OK;
    }
    /* The first start is somebody's command: what is wrong now is told to him, not retried. */
    if (err)
        *err = s->last;
    ap_status status = s->last.status;
    ap_supervisor_destroy(&s, 0);
    return status;
}

void ap_supervisor_step(ap_supervisor *s, uint64_t now_ms, ap_worker_event_fn *fn, void *context)
{
    ap_error error = {0};
    if (s->worker && ap_worker_receive(s->worker, fn, context, &error) != AP_OK)
        note_death(s, now_ms, &error);
    if (s->worker && s->watch.state == AP_SUPERVISOR_STARTING && ap_worker_is_ready(s->worker))
        ap_watch_ready(&s->watch, now_ms);
    s->was_ready = s->was_ready || s->watch.state == AP_SUPERVISOR_READY;
    switch (ap_watch_due(&s->watch, now_ms)) {
    case AP_WATCH_START:
        start(s, now_ms);
        break;
    case AP_WATCH_KILL:
        (void)ap_fail(&error, AP_E_WORKER, "the worker was not ready within %" PRIu64 " ms",
                      s->watch.ready_timeout_ms);
        note_death(s, now_ms, &error);
        break;
    case AP_WATCH_NOTHING:
        break;
    }
}

int ap_supervisor_timeout_ms(const ap_supervisor *s, uint64_t now_ms)
{
    return ap_watch_timeout_ms(&s->watch, now_ms);
}

ap_worker *ap_supervisor_worker(ap_supervisor *s)
{
    return s->watch.state == AP_SUPERVISOR_READY ? s->worker : NULL;
}

int ap_supervisor_fd(const ap_supervisor *s) { return s->worker ? ap_worker_fd(s->worker) : -1; }
short ap_supervisor_poll_events(const ap_supervisor *s)
{
    return s->worker ? ap_worker_poll_events(s->worker) : 0;
}
ap_supervisor_state ap_supervisor_state_of(const ap_supervisor *s) { return s->watch.state; }
uint64_t ap_supervisor_restarts(const ap_supervisor *s) { return s->watch.starts ? s->watch.starts - 1 : 0; }

ap_status ap_supervisor_last_failure(const ap_supervisor *s, ap_error *err)
{
    if (s->last.message[0] && err)
        *err = s->last;
    return s->last.message[0] ? s->last.status : AP_OK;
}

void ap_supervisor_describe(const ap_supervisor *s, uint64_t now_ms, char *text, size_t bytes)
{
    const char *before = s->last.message[0] ? "; before that: " : "";
    switch (s->watch.state) {
    case AP_SUPERVISOR_READY:
        (void)snprintf(text, bytes, "ready");
        break;
    case AP_SUPERVISOR_STARTING:
        (void)snprintf(text, bytes, "starting%s%s", before, s->last.message);
        break;
    case AP_SUPERVISOR_WAITING:
        (void)snprintf(text, bytes, "restarts in %d s: %s",
                       (ap_supervisor_timeout_ms(s, now_ms) + 999) / 1000, s->last.message);
        break;
    }
}

void ap_supervisor_destroy(ap_supervisor **pointer, unsigned grace_ms)
{
    ap_supervisor *s = *pointer;
    *pointer = NULL;
    if (!s)
        return;
    ap_worker_stop(&s->worker, grace_ms);
    ap_free(s->name);
    ap_free(s->isa);
    ap_free(s);
}
