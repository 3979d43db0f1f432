/* openai_read.h - a request body of the OpenAI interface, read and checked, and
 * the jobs for the worker that come of it.
 *
 * A call has prompts times n jobs; each is what it would be alone.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_SERVE_OPENAI_READ_H
#define AP_SERVE_OPENAI_READ_H

#include "serve/fields.h"

enum {
    AP_OPENAI_JOBS_MAX = 128,     /* prompts times n */
    AP_OPENAI_STOPS_MAX = 16,     /* OpenAI takes 4 */
    AP_OPENAI_STOP_BYTES_MAX = 256,
    AP_OPENAI_BIASES_MAX = 1024
};

typedef struct ap_openai_request {
    ap_endpoint endpoint;
    ap_openai_fields fields;   /* borrowed from root */
    json_t *root;
    json_t *messages;          /* chat: normalised */
    json_t *kwargs;            /* chat: the template's variables, or NULL */
    const json_t *tools;       /* chat: borrowed; NULL: the model is offered none */
    size_t prompt_count;
    int64_t max_tokens;        /* 0: until the model ends */
    int64_t seed;              /* drawn if none came */
    bool include_usage;
    bool logprobs;
    int64_t top_logprobs;
    char no_effect[AP_REPLY_HEADER_BYTES];
} ap_openai_request;

/* False: *refusal; nothing to free.  The model's name is a text, not yet looked up. */
bool ap_openai_read(ap_openai_request *request, ap_endpoint endpoint, ap_str body, ap_refusal *refusal);
void ap_openai_request_deinit(ap_openai_request *request);

/* The job for answer `choice` to prompt `prompt`. */
ap_status ap_openai_job(const ap_openai_request *request, size_t prompt, size_t choice, ap_buf *out, ap_error *err);

#endif
