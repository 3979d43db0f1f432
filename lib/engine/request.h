/* request.h - one live request: its tokens, its pages, its text so far.
 *
 * Everything it will ever need is allocated when it is submitted, so a step
 * allocates nothing.  A preempted request keeps its tokens and text and loses
 * only its pages; what was computed once is computed again with the same bits.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_ENGINE_REQUEST_H
#define AP_ENGINE_REQUEST_H

#include "engine/pages.h"
#include "text/text.h"

typedef struct ap_live {
    uint64_t id;
    int32_t *tokens; /* prompt, then answer */
    uint32_t prompt_count, known, computed;
    uint32_t token_limit; /* prompt and answer together never exceed it */
    ap_page_id *pages;
    void **page_memory; /* the same pages as pointers, for the forward pass */
    uint32_t page_count;

    ap_sampling sampling;
    ap_logit_bias *biases;
    size_t bias_count;
    bool ignore_end, wants_logprobs, is_cancelled;
    uint32_t top_logprobs;
    ap_stream *stream;

    uint64_t started_ns, first_token_ns; /* 0: not yet */
} ap_live;

/* Checks the request against model and limits and copies it; AP_E_ARG and AP_E_CONTEXT name the field. */
ap_status ap_live_create(ap_live **out, const ap_request *request, const ap_tokenizer *tokenizer, uint32_t vocab_count,
                         uint32_t context_tokens, ap_error *err);
/* The pages must have been dropped. */
void ap_live_destroy(ap_live **live);
void ap_live_drop_pages(ap_live *live, ap_pages *pages);
/* Pages for `tokens` tokens in all; the scheduler knows that they are free. */
void ap_live_take_pages(ap_live *live, ap_pages *pages, uint32_t tokens);

#endif
