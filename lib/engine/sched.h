/* sched.h - what to compute in the next step: a pure function.
 *
 * Each step has a budget of tokens.  It is filled with decodes first (one token
 * of every request that already speaks), oldest first, then with pieces of
 * prompts in equal shares.  When pages run out, the youngest request that holds
 * any loses them and is computed again later; the law makes that invisible in
 * its answer.  The oldest request always advances, because the pool holds at
 * least one full context, so everybody's turn comes.
 *
 * No clock, no memory, no threads: the same input gives the same plan, and a seeded
 * simulation (tests/engine/test_sched.c) drives it through days of traffic.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_ENGINE_SCHED_H
#define AP_ENGINE_SCHED_H

#include <stdbool.h>
#include <stdint.h>

/* One live request as the scheduler sees it, and its place in the plan. */
typedef struct ap_sched_request {
    uint32_t known;    /* tokens that exist: prompt and answer so far; > computed */
    uint32_t computed; /* of these, how many have keys and values stored */
    uint32_t pages;    /* pages held; 0 while waiting */
    uint32_t take;       /* plan: tokens to compute now */
    bool is_preempted;   /* plan: give back all pages before anything else; computed becomes 0 */
} ap_sched_request;

typedef struct ap_sched_limits {
    uint32_t step_tokens; /* at least the number of requests that may run */
    uint32_t page_tokens;
    uint32_t pages_free;
} ap_sched_limits;

/* Fills take and is_preempted of `requests`, which stand in order of arrival. */
void ap_sched_plan(ap_sched_request *requests, uint32_t count, const ap_sched_limits *limits);

#endif
