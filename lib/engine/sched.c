/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/sched.h"

/* A share of a prompt below this wastes the pass: weights are read once per
 * pass, so a handful of tokens costs nearly as much as these. */
enum { SHARE_TOKENS_MIN = 32 };

typedef struct plan_state {
    ap_sched_request *requests;
    uint32_t count;
    uint32_t page_tokens;
    uint32_t budget;     /* tokens not yet given out */
    uint32_t pages_free; /* pages neither held nor promised in this plan */
} plan_state;

static uint32_t pages_for(uint32_t tokens, uint32_t page_tokens)
{
    return tokens / page_tokens + (tokens % page_tokens != 0);
}

/* Pages this request needs beyond those it holds to compute `take` tokens. */
static uint32_t pages_missing(const plan_state *state, const ap_sched_request *r, uint32_t take)
{
    uint32_t need = pages_for(r->computed + take, state->page_tokens);
    return need > r->pages ? need - r->pages : 0;
}

static void preempt(plan_state *state, ap_sched_request *victim)
{
    state->pages_free += victim->pages + pages_missing(state, victim, victim->take);
    state->budget += victim->take;
    victim->take = 0;
    victim->is_preempted = true;
}

/* Makes `pages` free by preempting holders younger than request `self`. */
static bool make_room(plan_state *state, uint32_t self, uint32_t pages)
{
    for (uint32_t i = state->count; state->pages_free < pages && i-- > self + 1;)
        if (state->requests[i].pages > 0 && !state->requests[i].is_preempted)
            preempt(state, &state->requests[i]);
    return state->pages_free >= pages;
}

static void give(plan_state *state, ap_sched_request *r, uint32_t take)
{
    state->pages_free -= pages_missing(state, r, take);
    state->budget -= take;
    r->take = take;
}

static bool is_decode(const ap_sched_request *r) { return r->pages > 0 && r->known - r->computed == 1; }

static bool is_prompt(const ap_sched_request *r) { return !r->is_preempted && r->take == 0 && !is_decode(r); }

static void plan_decodes(plan_state *state)
{
    for (uint32_t i = 0; i < state->count && state->budget > 0; i++) {
        ap_sched_request *r = &state->requests[i];
        if (!is_decode(r) || r->is_preempted)
            continue;
        if (make_room(state, i, pages_missing(state, r, 1)))
            give(state, r, 1);
        else
            preempt(state, r); /* it is itself the youngest holder */
    }
}

static void plan_prompts(plan_state *state)
{
    uint32_t waiting = 0;
    for (uint32_t i = 0; i < state->count; i++)
        waiting += is_prompt(&state->requests[i]);
    for (uint32_t i = 0; i < state->count && state->budget > 0; i++) {
        ap_sched_request *r = &state->requests[i];
        if (!is_prompt(r))
            continue;
        uint32_t share = state->budget / waiting--;
        if (share < SHARE_TOKENS_MIN)
            share = SHARE_TOKENS_MIN;
        uint32_t left = r->known - r->computed;
        uint32_t take = left < share ? left : share;
        if (take > state->budget)
            take = state->budget;
        /* One that holds nothing yet enters only when all it knows now would
         * fit; else it would push others out, or be pushed out half-way.  Whoever
         * is younger waits behind it: no overtaking, nobody starves. */
        if (r->pages == 0 && state->pages_free < pages_missing(state, r, left)) {
            bool is_oldest = true;
            for (uint32_t j = 0; j < i; j++)
                is_oldest = is_oldest && state->requests[j].pages == 0;
            if (!is_oldest || !make_room(state, i, pages_missing(state, r, left)))
                return;
        }
        if (!make_room(state, i, pages_missing(state, r, take)))
            continue;
        give(state, r, take);
    }
}

void ap_sched_plan(ap_sched_request *requests, uint32_t count, const ap_sched_limits *limits)
{
    for (uint32_t i = 0; i < count; i++) {
        requests[i].take = 0;
        requests[i].is_preempted = false;
    }
    plan_state state = {requests, count, limits->page_tokens, limits->step_tokens, limits->pages_free};
    plan_decodes(&state);
    plan_prompts(&state);
}
