/* sample.h - from logits to one token.
 *
 * The order is fixed: logit bias, repetition penalty (prompt and answer, once
 * per distinct token), frequency and presence penalty (answer only), then either
 * the largest logit (temperature 0; ties to the lower id) or temperature,
 * top-k, top-p, min-p and a draw.  The draw's random number depends on
 * seed, choice and position alone (docs/law.md, Sampling).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_ENGINE_SAMPLE_H
#define AP_ENGINE_SAMPLE_H

#include "aperto.h"
#include "base/error.h"
#include "kernel/kernel.h"

/* Scratch for one draw at a time, sized by the vocabulary. */
typedef struct ap_sampler ap_sampler;
size_t ap_sampler_bytes(uint32_t vocab_count); /* what it takes */
ap_status ap_sampler_create(ap_sampler **out, const ap_kernels *kernels, uint32_t vocab_count, ap_error *err);
void ap_sampler_destroy(ap_sampler **sampler);

/* What was said before this draw: `tokens` holds prompt and answer, the draw is for position `known`. */
typedef struct ap_sample_history {
    const int32_t *tokens;
    uint32_t prompt_count, known;
} ap_sample_history;

/* `logits` stay as they are.  AP_E_NUMERIC if one of them is NaN or plus infinity, or if none is left. */
ap_status ap_sample(ap_sampler *sampler, const float *logits, const ap_sampling *sampling, const ap_logit_bias *biases,
                    size_t bias_count, const ap_sample_history *history, int32_t *token, ap_error *err);

/* The `count` likeliest tokens with their log-probabilities, likeliest first, ties to the lower id;
 * and that of `token`. */
void ap_sample_logprobs(ap_sampler *sampler, const float *logits, int32_t token, float *logprob, ap_token_logprob *top,
                        uint32_t count);

#endif
