/* The scheduler under seeded traffic: a plan never promises more tokens or pages
 * than there are, decodes go first, nobody starves, everybody ends.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <string.h>

#include "engine/sched.h"

enum { PAGE = 32, REQUESTS_MAX = 64 };

typedef struct traffic {
    uint32_t prompt, answer; /* wanted */
    uint32_t spoken;         /* answer tokens so far, kept over a preemption */
    uint64_t id;
} traffic;

typedef struct world {
    ap_sched_request views[REQUESTS_MAX];
    traffic live[REQUESTS_MAX];
    uint32_t count;
    uint32_t pages_total, pages_free, step_tokens, context;
    uint64_t steps, finished, preempted;
} world;

static uint32_t pages_for(uint32_t tokens) { return (tokens + PAGE - 1) / PAGE; }

static void arrive(world *w, uint64_t *random, uint64_t id)
{
    uint32_t total = 2 + (uint32_t)(ap_test_random(random) % (w->context - 1));
    if (total > w->context)
        total = w->context;
    uint32_t prompt = 1 + (uint32_t)(ap_test_random(random) % (total - 1));
    w->live[w->count] = (traffic){.prompt = prompt, .answer = total - prompt, .id = id};
    w->views[w->count] = (ap_sched_request){.known = prompt};
    w->count++;
}

static void check_plan(const world *w)
{
    uint32_t tokens = 0, freed = 0, taken = 0;
    bool decode_left_out = false, prompt_served = false;
    for (uint32_t i = 0; i < w->count; i++) {
        const ap_sched_request *v = &w->views[i];
        if (v->is_preempted) {
            assert_int_equal(v->take, 0);
            assert_true(v->pages > 0);
            assert_true(i > 0); /* the oldest never loses its pages */
            freed += v->pages;
            continue;
        }
        assert_true(v->take <= v->known - v->computed);
        tokens += v->take;
        uint32_t need = pages_for(v->computed + v->take);
        taken += need > v->pages ? need - v->pages : 0;
        bool is_decode = v->pages > 0 && v->known - v->computed == 1;
        decode_left_out |= is_decode && v->take == 0;
        prompt_served |= !is_decode && v->take > 0;
    }
    assert_true(tokens <= w->step_tokens);
    assert_true(taken <= w->pages_free + freed);
    assert_false(decode_left_out && prompt_served);
    assert_true(w->views[0].take > 0); /* the oldest always advances */
}

static void apply_plan(world *w)
{
    for (uint32_t i = 0; i < w->count; i++)
        if (w->views[i].is_preempted) {
            w->pages_free += w->views[i].pages;
            w->views[i].pages = 0;
            w->views[i].computed = 0;
            w->preempted++;
        }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < w->count; i++) {
        ap_sched_request *v = &w->views[i];
        traffic *t = &w->live[i];
        uint32_t need = pages_for(v->computed + v->take);
        if (v->take && need > v->pages) {
            w->pages_free -= need - v->pages;
            v->pages = need;
        }
        v->computed += v->take;
        bool is_done = false;
        if (v->take && v->computed == v->known) {
            t->spoken++;
            if (t->spoken == t->answer)
                is_done = true;
            else
                v->known++;
        }
        if (is_done) {
            w->pages_free += v->pages;
            w->finished++;
            continue;
        }
        w->views[kept] = *v;
        w->live[kept] = *t;
        kept++;
    }
    w->count = kept;
}

static void simulate(uint64_t seed, uint32_t pages_total, uint32_t step_tokens, uint64_t arrivals)
{
    uint64_t random = seed;
    world w = {.pages_total = pages_total, .pages_free = pages_total, .step_tokens = step_tokens, .context = 16 * PAGE};
    uint64_t arrived = 0;
    while (arrived < arrivals || w.count) {
        while (arrived < arrivals && w.count < REQUESTS_MAX && (w.count == 0 || ap_test_random(&random) % 8 == 0))
            arrive(&w, &random, arrived++);
        ap_sched_limits limits = {.step_tokens = step_tokens, .page_tokens = PAGE, .pages_free = w.pages_free};
        ap_sched_plan(w.views, w.count, &limits);
        check_plan(&w);
        apply_plan(&w);
        assert_true(++w.steps < arrivals * 1000); /* ends */
    }
    assert_int_equal(w.finished, arrivals);
    assert_int_equal(w.pages_free, pages_total); /* no page lost */
}

static void sched_serves_everybody_with_plenty_of_pages(void **state) { simulate(1, 4096, 512, 2000); }
static void sched_serves_everybody_when_pages_are_scarce(void **state)
{
    for (uint64_t seed = 2; seed < 12; seed++)
        simulate(seed, 40, 64, 300);
}
static void sched_serves_everybody_with_one_context_of_pages(void **state)
{
    for (uint64_t seed = 20; seed < 30; seed++)
        simulate(seed, 16, 64, 100);
}

static void sched_gives_decodes_before_prompts(void **state)
{
    ap_sched_request r[3] = {{.known = 1000}, {.known = 11, .computed = 10, .pages = 1}, {.known = 21, .computed = 20, .pages = 1}};
    ap_sched_limits limits = {.step_tokens = 64, .page_tokens = PAGE, .pages_free = 100};
    ap_sched_plan(r, 3, &limits);
    assert_int_equal(r[1].take, 1);
    assert_int_equal(r[2].take, 1);
    assert_int_equal(r[0].take, 62);
}

static void sched_shares_the_budget_among_prompts(void **state)
{
    ap_sched_request r[2] = {{.known = 1000}, {.known = 1000}};
    ap_sched_limits limits = {.step_tokens = 128, .page_tokens = PAGE, .pages_free = 100};
    ap_sched_plan(r, 2, &limits);
    assert_int_equal(r[0].take, 64);
    assert_int_equal(r[1].take, 64);
}

static void sched_preempts_the_youngest(void **state)
{
    ap_sched_request r[3] = {{.known = 33, .computed = 32, .pages = 1}, {.known = 11, .computed = 10, .pages = 1},
                             {.known = 21, .computed = 20, .pages = 1}};
    ap_sched_limits limits = {.step_tokens = 64, .page_tokens = PAGE, .pages_free = 0};
    ap_sched_plan(r, 3, &limits);
    assert_int_equal(r[0].take, 1);
    assert_int_equal(r[1].take, 1);
    assert_true(r[2].is_preempted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sched_serves_everybody_with_plenty_of_pages),
        cmocka_unit_test(sched_serves_everybody_when_pages_are_scarce),
        cmocka_unit_test(sched_serves_everybody_with_one_context_of_pages),
        cmocka_unit_test(sched_gives_decodes_before_prompts),
        cmocka_unit_test(sched_shares_the_budget_among_prompts),
        cmocka_unit_test(sched_preempts_the_youngest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
