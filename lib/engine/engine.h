/* engine.h - many requests, one loop; the interface is in aperto.h.
 *
 * Each ap_engine_step: cancelled requests leave, the scheduler says what is due,
 * preempted requests give back their pages, one forward pass computes the mixed
 * batch, and each request whose last known token was computed draws its next.
 * The logits are taken in pieces of a few rows, so their memory stays small
 * whatever the number of requests.
 *
 * A request whose logits are not finite fails alone; its pages go back unused
 * and its neighbours' bits do not change.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_ENGINE_ENGINE_H
#define AP_ENGINE_ENGINE_H

#include "aperto.h"
#include "engine/pages.h"
#include "engine/request.h"
#include "engine/sample.h"
#include "engine/sched.h"
#include "model/model.h"

/* Sees what the matrices of the model read from now on (model.h). */
void ap_engine_observe(ap_engine *engine, ap_forward_observer *observer, void *context);
const ap_model *ap_engine_model(const ap_engine *engine);
const ap_kernels *ap_engine_kernels(const ap_engine *engine);

#endif
