/* talk.h - the conversation with one worker as the front hears it: what the worker may say, and when.
 *
 * Frames are cut from the stream (wire.h), read (event.h) and held against what was asked: READY once and
 * first; for each request ACCEPTED, then TEXT, then one DONE; or one ERROR at any time.  Whoever breaks that
 * order is not heard any more.  Knows no process and no socket but for reading, so that a fuzzer can talk.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_WORKER_TALK_H
#define AP_WORKER_TALK_H

#include "worker/wire.h"
#include "worker/worker.h"

typedef struct ap_asked {
    uint64_t id;
    bool is_accepted;
} ap_asked;

typedef struct ap_talk {
    ap_wire_reader reader;
    ap_asked *asked; /* requests without DONE or ERROR, room for AP_WORKER_REQUESTS_MAX */
    size_t asked_count;
    bool is_ready;
    json_t *info; /* READY's body */
    char sandbox[200];
    ap_error report; /* ERROR with id 0: why the worker is about to end */
} ap_talk;

ap_status ap_talk_init(ap_talk *talk, ap_error *err);
void ap_talk_deinit(ap_talk *talk);
/* Notes a request that goes to the worker.  AP_E_STATE before READY, AP_E_ARG for an id that is 0 or in use,
 * AP_E_FULL. */
ap_status ap_talk_ask(ap_talk *talk, uint64_t id, ap_error *err);
bool ap_talk_is_asked(const ap_talk *talk, uint64_t id);
/* It is over; fine for an id that is not asked. */
void ap_talk_forget(ap_talk *talk, uint64_t id);
/* Tells fn (may be NULL) what each whole frame says.  AP_E_WORKER as soon as the worker breaks the protocol;
 * what was told before stands. */
ap_status ap_talk_hear(ap_talk *talk, ap_worker_event_fn *fn, void *context, ap_error *err);

#endif
