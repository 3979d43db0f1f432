/* answer_calls.h - the calls of tools in one answer: collected from a worker's events, written as OpenAI has
 * them.
 *
 *     ap_answer_calls_take(&calls, event->calls, most, err);    per event
 *     ap_answer_calls_write(&calls, out, err);                  the whole, or
 *     ap_answer_calls_write_new(&calls, out, err);              what a stream has not told yet
 *     ap_answer_calls_told(&calls);
 *
 * Zero is a valid empty set.  One thread.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_SERVE_ANSWER_CALLS_H
#define AP_SERVE_ANSWER_CALLS_H

#include <jansson.h>

#include "base/str.h"

enum {
    AP_ANSWER_CALLS_MAX = 128, /* of one answer */
    AP_CALL_ID_LETTERS = 9     /* letters and digits: the templates of Mistral take no other ids */
};

typedef struct ap_answer_call {
    char id[AP_CALL_ID_LETTERS + 1];
    bool is_told; /* its name was */
    ap_buf name, arguments;
} ap_answer_call;

typedef struct ap_answer_calls {
    ap_answer_call *items;
    size_t count;
} ap_answer_calls;

/* Takes the calls of an event (worker.h), which may be NULL; those after the first `most` are left out.
 * AP_E_WORKER: the worker's numbers do not follow each other. */
ap_status ap_answer_calls_take(ap_answer_calls *calls, const json_t *event, size_t most, ap_error *err);
/* [{"id":…,"type":"function","function":{"name":…,"arguments":…}}] */
ap_status ap_answer_calls_write(const ap_answer_calls *calls, ap_buf *out, ap_error *err);
/* The same with "index", of what is new: id, type and name once, then pieces of the arguments. */
ap_status ap_answer_calls_write_new(const ap_answer_calls *calls, ap_buf *out, ap_error *err);
bool ap_answer_calls_has_new(const ap_answer_calls *calls);
/* What was new is not any more, and its bytes are gone. */
void ap_answer_calls_told(ap_answer_calls *calls);
size_t ap_answer_calls_bytes(const ap_answer_calls *calls);
void ap_answer_calls_deinit(ap_answer_calls *calls);

#endif
