/* fields.h - the table "never silent": what each field of each endpoint does.
 *
 * A field is honoured (its value changes the answer), without effect here
 * (accepted, and named in the header Aperto-No-Effect), or refused (400 naming
 * it).  What is not in the table is refused as unknown.  `null` is as good as
 * absent for every field that is not required.  Reader, tests and
 * documents all come from this one table; a new field is a new row.
 *
 * No state, any thread.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_SERVE_FIELDS_H
#define AP_SERVE_FIELDS_H

#include <jansson.h>

#include "serve/reply.h"

typedef enum ap_endpoint { AP_ENDPOINT_CHAT = 1, AP_ENDPOINT_COMPLETION = 2 } ap_endpoint; /* bits */

typedef enum ap_field_rule { AP_FIELD_HONOURED, AP_FIELD_NO_EFFECT, AP_FIELD_REFUSED } ap_field_rule;

/* How an honoured field's value is checked and kept in ap_openai_fields. */
typedef enum ap_field_kind {
    AP_FIELD_REAL,  /* double in low … high */
    AP_FIELD_COUNT, /* int64_t in low … high */
    AP_FIELD_FLAG,  /* bool */
    AP_FIELD_JSON   /* const json_t *, looked at by the endpoint */
} ap_field_kind;

/* What came in, checked as far as the table goes; borrowed from the JSON. */
typedef struct ap_openai_fields {
    double temperature, top_p, min_p, repetition_penalty, frequency_penalty, presence_penalty;
    int64_t max_tokens, max_completion_tokens; /* 0: absent */
    int64_t top_k, n, top_logprobs, seed;
    int64_t logprob_count; /* /v1/completions: -1 absent */
    bool has_seed, stream, ignore_eos, logprobs, parallel_tool_calls;
    const json_t *model, *messages, *prompt, *stop, *logit_bias, *stream_options; /* NULL: absent */
    const json_t *tools, *tool_choice, *template_kwargs, *reasoning_effort;       /* NULL: absent */
} ap_openai_fields;

typedef struct ap_field {
    const char *name;
    unsigned endpoints; /* bits of ap_endpoint */
    ap_field_rule rule;
    ap_field_kind kind;
    size_t offset;     /* in ap_openai_fields */
    double low, high;  /* REAL, COUNT */
    bool is_above_low; /* low itself is out */
    /* REFUSED: values that ask for nothing, as compact JSON, and are let pass; a list ended by NULL or empty. */
    const char *harmless[3];
} ap_field;

/* The rows; the count is in *count. */
const ap_field *ap_fields_table(size_t *count);

/* Reads every member of `root` by the table.  False: *refusal says what to answer.
 * `no_effect` (AP_REPLY_HEADER_BYTES long) receives the names without effect, ", " between. */
bool ap_fields_read(ap_endpoint endpoint, const json_t *root, ap_openai_fields *fields, char *no_effect,
                    ap_refusal *refusal);

#endif
