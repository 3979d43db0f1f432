/* backend.h - whoever does the work of a request: in the program the workers,
 * in tests a script.
 *
 * The API submits jobs (worker.h tells what they look like) and gets the worker's
 * events: ACCEPTED, any number of TEXT, then exactly one DONE or ERROR; or at
 * once ERROR.  Nothing is called back from inside submit or cancel, and
 * nothing after cancel.
 *
 * The backend has no thread: the loop of the server polls its descriptors and
 * calls step.  One thread for everything.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_SERVE_BACKEND_H
#define AP_SERVE_BACKEND_H

#include <poll.h>

#include "worker/worker.h"

/* A handle for cancel; 0 is none. */
typedef uint64_t ap_job_id;

typedef struct ap_backend_ops {
    /* AP_E_STATE: the model is not ready; AP_E_FULL: try later; AP_E_LIMIT. */
    ap_status (*submit)(void *self, size_t model, const char *json, size_t length, ap_worker_event_fn *fn,
                        void *context, ap_job_id *id, ap_error *err);
    void (*cancel)(void *self, size_t model, ap_job_id id);
    /* Adds {"state","ready":bool,"sandbox","restarts",…} of a model, as one JSON object. */
    ap_status (*describe)(void *self, size_t model, ap_buf *out, bool *is_ready, ap_error *err);
    /* Fills at most `room` entries and lowers *timeout_ms (-1: none) if something is due earlier. */
    size_t (*poll)(void *self, struct pollfd *fds, size_t room, int *timeout_ms);
    /* Events are delivered from here. */
    void (*step)(void *self);
} ap_backend_ops;

typedef struct ap_backend {
    const ap_backend_ops *ops;
    void *self;
} ap_backend;

/* ---- Over the worker's supervisor ---------------------------------------- */

struct ap_serve_options;
typedef struct ap_workers ap_workers;

/* One worker per model of the options, which must outlive it; none is started yet. */
ap_status ap_workers_create(ap_workers **out, const struct ap_serve_options *options, ap_error *err);
/* Starts them, one when the other is ready and has said what memory it took; blocks.  The failure is the first
 * worker's that ended instead: what is wrong at the first start is told to whoever started it, and not retried.
 * AP_E_CANCELLED when stop_fd (-1: none) can be read. */
ap_status ap_workers_start(ap_workers *workers, int stop_fd, ap_error *err);
ap_backend ap_workers_backend(ap_workers *workers);
/* Stops them, waiting at most grace_ms for each. */
void ap_workers_destroy(ap_workers **workers, unsigned grace_ms);

#endif
