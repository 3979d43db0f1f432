/* event.h - what a worker says, checked field by field before the front looks at it.
 *
 * Whether it may say so now (is the request live, did READY come already) is client.c's
 * matter; whether it is well formed is decided here, from the frame alone.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_WORKER_EVENT_H
#define AP_WORKER_EVENT_H

#include "worker/wire.h"
#include "worker/worker.h"

/* On AP_OK the event points into *body, which the caller releases with json_decref.
 * AP_E_WORKER says what was wrong; then *body is NULL. */
ap_status ap_worker_event_read(const ap_wire_frame *frame, ap_worker_event *event, json_t **body,
                               ap_error *err);

#endif
