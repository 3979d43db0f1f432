/* job.h - what the worker does with a request: from JSON to tokens to the
 * engine, and from the engine's events back to frames.
 *
 * A job is one JSON object:
 *
 *   "kind": "chat" with "messages":[…], "tools":[…], "kwargs":{…}, "now":seconds; its answer is taken apart into text,
 *           reasoning and calls of these tools
 *           "completion" with "prompt":"text" or [ids]
 *   "max_tokens" 1 … 2^31-1; absent: until the model ends or the context is full
 *   "temperature" 0 … 100 · "top_p" above 0, to 1 · "top_k" 0 … 2^31-1 · "min_p" 0 … 1
 *   "repetition_penalty" above 0, to 100 · "frequency_penalty", "presence_penalty" -100 … 100
 *   "seed": a 64-bit integer (a negative one stands for its bits) · "choice": 0 … 65,535
 *   "logit_bias": {"id": -100 … 100}, at most 1,024 · "stop": at most 16 texts of 1 to 256 bytes
 *   "ignore_eos", "logprobs": booleans · "top_logprobs": 0 … 20
 *
 * A field that is not there is off; an unknown one is refused.  The front has
 * checked all of this; it is checked again because the engine runs here.
 *
 * Belongs to the worker's one thread.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_WORKER_JOB_H
#define AP_WORKER_JOB_H

#include "worker/wire.h"
#include "worker/worker.h"

typedef struct ap_jobs ap_jobs;

/* Frames go to `out`; engine and vocabulary must outlive it. */
ap_status ap_jobs_create(ap_jobs **out, ap_engine *engine, const ap_vocab *vocab, ap_wire_writer *writer,
                         ap_error *err);
void ap_jobs_destroy(ap_jobs **jobs);

/* Answers ACCEPTED or ERROR.  A failure means that not even that could be written. */
ap_status ap_jobs_submit(ap_jobs *jobs, uint64_t id, const char *json, size_t length, ap_error *err);
void ap_jobs_cancel(ap_jobs *jobs, uint64_t id);
/* One step of the engine, its events as frames.  A failure means that the engine cannot go on. */
ap_status ap_jobs_step(ap_jobs *jobs, bool *busy, ap_error *err);

/* ERROR for a request, or for the worker itself with id 0; param may be NULL. */
ap_status ap_jobs_error_frame(ap_wire_writer *writer, uint64_t id, const ap_error *error, const char *param,
                              ap_error *err);

#endif
