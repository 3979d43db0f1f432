/* supervise.h - when to start, to give up waiting and to start again: the part
 * of the supervisor that knows no processes, only times.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_WORKER_SUPERVISE_H
#define AP_WORKER_SUPERVISE_H

#include "worker/worker.h"

enum {
    AP_WATCH_WAIT_MS_MAX = 30 * 1000,
    AP_WATCH_PROVED_MS = 60 * 1000 /* a worker ready for so long was a good one */
};

typedef struct ap_watch {
    ap_supervisor_state state;
    uint64_t ready_timeout_ms;
    uint64_t due_ms;   /* STARTING: too late for READY; WAITING: time to start */
    uint64_t since_ms; /* READY: since when */
    unsigned deaths;   /* in a row */
    uint64_t starts;
} ap_watch;

typedef enum ap_watch_action { AP_WATCH_NOTHING, AP_WATCH_START, AP_WATCH_KILL } ap_watch_action;

void ap_watch_init(ap_watch *watch, uint64_t ready_timeout_ms, uint64_t now_ms);
/* What is due.  Answer START by ap_watch_started (or ap_watch_died if it could not be), KILL by
 * ap_watch_died. */
ap_watch_action ap_watch_due(const ap_watch *watch, uint64_t now_ms);
void ap_watch_started(ap_watch *watch, uint64_t now_ms);
void ap_watch_ready(ap_watch *watch, uint64_t now_ms);
void ap_watch_died(ap_watch *watch, uint64_t now_ms);
/* Milliseconds until something is due, -1: nothing is planned. */
int ap_watch_timeout_ms(const ap_watch *watch, uint64_t now_ms);

#endif
