/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/request.h"

#include <string.h>

#include "base/alloc.h"
#include "kernel/attention.h"

enum { STOPS_MAX = 16, STOP_BYTES_MAX = 256, BIASES_MAX = 1024, TOP_LOGPROBS_MAX = 20 };

/* NaN fails every comparison, so it is outside of every range. */
static bool in_range(float value, float low, float high) { return value >= low && value <= high; }

static ap_status check_sampling(const ap_sampling *s, ap_error *err)
{
    /* A smaller divisor would make finite logits infinite. */
    if (s->temperature != 0 && !in_range(s->temperature, 1e-20f, 100))
        return ap_fail(err, AP_E_ARG, "temperature must be 0, or between 1e-20 and 100");
    if (!in_range(s->top_p, 0, 1))
        return ap_fail(err, AP_E_ARG, "top_p must be between 0 and 1");
    if (!in_range(s->min_p, 0, 1))
        return ap_fail(err, AP_E_ARG, "min_p must be between 0 and 1");
    if (s->top_k < 0)
        return ap_fail(err, AP_E_ARG, "top_k %d is negative; 0 switches it off", s->top_k);
    if (!in_range(s->repetition_penalty, 1e-6f, 100))
        return ap_fail(err, AP_E_ARG, "repetition_penalty must be between 1e-6 and 100");
    if (!in_range(s->frequency_penalty, -100, 100))
        return ap_fail(err, AP_E_ARG, "frequency_penalty must be between -100 and 100");
    if (!in_range(s->presence_penalty, -100, 100))
        return ap_fail(err, AP_E_ARG, "presence_penalty must be between -100 and 100");
    return AP_OK;
}

static ap_status check_request(const ap_request *r, uint32_t vocab_count, uint32_t context_tokens, ap_error *err)
{
    if (r->size != sizeof *r)
        return ap_fail(err, AP_E_ARG, "the request has %zu bytes, this library expects %zu", r->size, sizeof *r);
    if (r->prompt_count == 0)
        return ap_fail(err, AP_E_ARG, "the prompt is empty");
    /* One position must be left for the answer. */
    if (r->prompt_count >= context_tokens)
        return ap_fail(err, AP_E_CONTEXT, "the prompt has %zu tokens; with a context of %u tokens at most %u fit",
                       r->prompt_count, context_tokens, context_tokens - 1);
    if (r->max_tokens > context_tokens - (uint32_t)r->prompt_count)
        return ap_fail(err, AP_E_CONTEXT,
                       "the prompt has %zu tokens and %u more are asked for; the context has %u tokens in all",
                       r->prompt_count, r->max_tokens, context_tokens);
    for (size_t i = 0; i < r->prompt_count; i++)
        if (r->prompt[i] < 0 || (uint32_t)r->prompt[i] >= vocab_count)
            return ap_fail(err, AP_E_ARG, "token %d at position %zu of the prompt is none of the model's %u", r->prompt[i],
                           i, vocab_count);
    if (r->bias_count > BIASES_MAX)
        return ap_fail(err, AP_E_LIMIT, "logit_bias has %zu entries; at most %d are allowed", r->bias_count, BIASES_MAX);
    for (size_t i = 0; i < r->bias_count; i++) {
        if (r->biases[i].token < 0 || (uint32_t)r->biases[i].token >= vocab_count)
            return ap_fail(err, AP_E_ARG, "logit_bias names token %d; the model has %u", r->biases[i].token, vocab_count);
        if (!in_range(r->biases[i].bias, -1000, 1000))
            return ap_fail(err, AP_E_ARG, "logit_bias of token %d must be between -1000 and 1000", r->biases[i].token);
    }
    if (r->stop_count > STOPS_MAX)
        return ap_fail(err, AP_E_LIMIT, "stop has %zu strings; at most %d are allowed", r->stop_count, STOPS_MAX);
    for (size_t i = 0; i < r->stop_count; i++) {
        size_t length = strnlen(r->stops[i], STOP_BYTES_MAX + 1);
        if (length == 0 || length > STOP_BYTES_MAX)
            return ap_fail(err, AP_E_ARG, "stop string %zu must have 1 to %d bytes", i, STOP_BYTES_MAX);
    }
    if (r->top_logprobs > TOP_LOGPROBS_MAX)
        return ap_fail(err, AP_E_LIMIT, "top_logprobs %u is above %d", r->top_logprobs, TOP_LOGPROBS_MAX);
    return check_sampling(&r->sampling, err);
}

ap_status ap_live_create(ap_live **out, const ap_request *r, const ap_tokenizer *tokenizer, uint32_t vocab_count,
                         uint32_t context_tokens, ap_error *err)
{
    *out = NULL;
    AP_TRY(check_request(r, vocab_count, context_tokens, err));
    ap_live *live = ap_alloc_zero(1, sizeof *live);
    if (!live)
        return ap_fail_nomem(err, sizeof *live);
    *live = (ap_live){
        .id = r->id,
        .prompt_count = (uint32_t)r->prompt_count,
        .known = (uint32_t)r->prompt_count,
        .token_limit = r->max_tokens ? (uint32_t)r->prompt_count + r->max_tokens : context_tokens,
        .sampling = r->sampling,
        .bias_count = r->bias_count,
        .ignore_end = r->ignore_end,
        .wants_logprobs = r->logprobs,
        .top_logprobs = r->logprobs ? r->top_logprobs : 0,
    };
    uint32_t pages = live->token_limit / AP_PAGE_TOKENS + 1;
    live->tokens = ap_alloc_array(live->token_limit, sizeof *live->tokens);
    live->pages = ap_alloc_array(pages, sizeof *live->pages);
    live->page_memory = ap_alloc_array(pages, sizeof *live->page_memory);
    live->biases = ap_alloc_array(r->bias_count, sizeof *live->biases);
    ap_status status = AP_OK;
    if (!live->tokens || !live->pages || !live->page_memory || !live->biases)
        status = ap_fail_nomem(err, live->token_limit * sizeof *live->tokens);
    if (status == AP_OK)
        status = ap_stream_create(&live->stream, tokenizer, r->stops, r->stop_count,
                                  r->text_marks ? AP_STREAM_MARKS : r->text_specials ? AP_STREAM_SPECIAL : 0, err);
    if (status != AP_OK) {
        ap_live_destroy(&live);
        return status;
    }
    memcpy(live->tokens, r->prompt, r->prompt_count * sizeof *live->tokens);
    if (r->bias_count)
        memcpy(live->biases, r->biases, r->bias_count * sizeof *live->biases);
    *out = live;
    return AP_OK;
}

void ap_live_destroy(ap_live **live_pointer)
{
    ap_live *live = *live_pointer;
    *live_pointer = NULL;
    if (!live)
        return;
    ap_assert(live->page_count == 0);
    ap_stream_destroy(&live->stream);
    ap_free(live->tokens);
    ap_free(live->pages);
    ap_free(live->page_memory);
    ap_free(live->biases);
    ap_free(live);
}

void ap_live_drop_pages(ap_live *live, ap_pages *pages)
{
    while (live->page_count)
        ap_pages_drop(pages, live->pages[--live->page_count]);
    live->computed = 0;
}

void ap_live_take_pages(ap_live *live, ap_pages *pages, uint32_t tokens)
{
    while ((uint64_t)live->page_count * AP_PAGE_TOKENS < tokens) {
        ap_page_id id = 0;
        bool is_taken = ap_pages_take(pages, &id);
        ap_assert(is_taken);
        live->pages[live->page_count] = id;
        live->page_memory[live->page_count] = ap_pages_memory(pages, id);
        live->page_count++;
    }
}
