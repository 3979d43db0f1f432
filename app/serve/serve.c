/* The loop: one thread that waits for sockets, workers and signals.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "serve/serve.h"

#include <errno.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"
#include "serve/server.h"

enum { WORKER_GRACE_MS = 2000 };

ap_serve_options ap_serve_options_default(void)
{
    return (ap_serve_options){.host = "127.0.0.1",
                              .port = 8080,
                              .drain_s = 30,
                              .body_bytes_max = 32 * 1024 * 1024,
                              .bodies_bytes_max = 256 * 1024 * 1024,
                              .calls_max = 256,
                              .connections_max = 4096,
                              .header_ms = 30 * 1000,
                              .body_ms = 120 * 1000,
                              .write_ms = 30 * 1000};
}

static ap_status check_options(const ap_serve_options *o, ap_error *err)
{
    if (o->model_count < 1 || o->model_count > AP_SERVE_MODELS_MAX)
        return ap_fail(err, AP_E_ARG, "%zu models are to be served; 1 to %d can be", o->model_count, AP_SERVE_MODELS_MAX);
    for (size_t i = 0; i < o->model_count; i++) {
        size_t length = strlen(o->models[i].name);
        if (length < 1 || length > 200 || !ap_utf8_valid(ap_str_from(o->models[i].name)))
            return ap_fail(err, AP_E_ARG, "a model's name must have 1 to 200 bytes of UTF-8");
        for (size_t k = 0; k < i; k++)
            if (strcmp(o->models[i].name, o->models[k].name) == 0)
                return ap_fail(err, AP_E_ARG, "two models have the name '%.200s'", o->models[i].name);
    }
    return AP_OK;
}

typedef struct loop {
    ap_server *server;
    ap_backend backend;
    int stop_fd;
    unsigned stop_count;
    uint64_t stop_by_ms;
} loop;

static uint64_t now_ms(void) { return ap_clock_ns() / 1000000; }

static void note_stop(loop *l, const ap_serve_options *o)
{
    char bytes[256];
    if (read(l->stop_fd, bytes, sizeof bytes) <= 0)
        return;
    if (++l->stop_count == 1) {
        l->stop_by_ms = now_ms() + (uint64_t)o->drain_s * 1000;
        ap_server_drain(l->server);
        size_t busy = ap_server_busy_count(l->server);
        ap_log(AP_LOG_INFO, "stopping: %zu %s up to %u s to end", busy, busy == 1 ? "request has" : "requests have", o->drain_s);
    }
}

static bool is_over(const loop *l)
{
    return l->stop_count > 1 ||
           (l->stop_count == 1 && (ap_server_busy_count(l->server) == 0 || now_ms() >= l->stop_by_ms));
}

static ap_status turn(loop *l, const ap_serve_options *o, ap_error *err)
{
    struct pollfd fds[1 + AP_SERVER_FDS + AP_SERVE_MODELS_MAX];
    int timeout_ms = l->stop_count ? 100 : -1;
    fds[0] = (struct pollfd){l->stop_fd, POLLIN, 0};
    ap_server_poll(l->server, fds + 1, &timeout_ms);
    size_t count = 1 + AP_SERVER_FDS;
    count += l->backend.ops->poll(l->backend.self, fds + count, AP_SERVE_MODELS_MAX, &timeout_ms);
    if (poll(fds, count, timeout_ms) < 0 && errno != EINTR)
        return ap_fail(err, AP_E_IO, "waiting failed: %s", strerror(errno));
    if (fds[0].revents & POLLIN)
        note_stop(l, o);
    l->backend.ops->step(l->backend.self);
    ap_server_run(l->server);
    return AP_OK;
}

ap_status ap_serve_loop(const ap_serve_options *options, ap_backend backend, int stop_fd, ap_error *err)
{
    AP_TRY(check_options(options, err));
    if (sodium_init() < 0)
        return ap_fail(err, AP_E_BUG, "libsodium could not be started");
    loop l = {.backend = backend, .stop_fd = stop_fd};
    ap_api *api = NULL;
    uint16_t port = 0;
    ap_status status = ap_api_create(&api, options, backend, err);
    if (status == AP_OK)
        status = ap_server_create(&l.server, options, api, &port, err);
    if (status == AP_OK && options->listening)
        status = options->listening(options->listening_context, options->host, port, err);
    while (status == AP_OK && !is_over(&l))
        status = turn(&l, options, err);
    ap_server_destroy(&l.server);
    if (api)
        ap_api_destroy(&api);
    return status;
}

ap_status ap_serve_run(const ap_serve_options *options, ap_error *err)
{
    AP_TRY(check_options(options, err));
    ap_workers *workers = NULL;
    sigset_t stop, before;
    (void)sigemptyset(&stop);
    (void)sigaddset(&stop, SIGTERM);
    (void)sigaddset(&stop, SIGINT);
    (void)signal(SIGPIPE, SIG_IGN);
    if (pthread_sigmask(SIG_BLOCK, &stop, &before) != 0)
        return ap_fail(err, AP_E_IO, "signals cannot be blocked");
    int stop_fd = signalfd(-1, &stop, SFD_CLOEXEC | SFD_NONBLOCK);
    ap_status status = stop_fd < 0 ? ap_fail(err, AP_E_IO, "no descriptor for signals: %s", strerror(errno)) : AP_OK;
    if (status == AP_OK)
        status = ap_workers_create(&workers, options, err);
    if (status == AP_OK)
        status = ap_workers_start(workers, stop_fd, err);
    if (status == AP_OK)
        status = ap_serve_loop(options, ap_workers_backend(workers), stop_fd, err);
    if (status == AP_E_CANCELLED)
        status = AP_OK; /* asked for by signal */
    ap_workers_destroy(&workers, WORKER_GRACE_MS);
    /* What came after the end began asked for the same: it is not to kill us when it is let through again. */
    char late[sizeof(struct signalfd_siginfo)];
    while (stop_fd >= 0 && read(stop_fd, late, sizeof late) > 0)
        ;
    if (stop_fd >= 0)
        (void)close(stop_fd);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status;
}
