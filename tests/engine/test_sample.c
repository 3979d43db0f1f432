/* The sampler: which tokens may be drawn, how often, and that nothing but seed, choice and position decides.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "engine/sample.h"
#include "support.h"

enum { VOCAB = 1000 };

static ap_kernels kernels;
static ap_sampler *sampler;
static const ap_sample_history nothing = {.known = 5};

static int set_up(void **state)
{
    ap_error err = {0};
    return ap_kernels_get(ap_isa_detect(), &kernels, &err) != AP_OK ||
           ap_sampler_create(&sampler, &kernels, VOCAB, &err) != AP_OK;
}
static int tear_down(void **state)
{
    ap_sampler_destroy(&sampler);
    return 0;
}

static void fill(float *z, uint64_t seed)
{
    for (int i = 0; i < VOCAB; i++)
        z[i] = 8 * ap_test_uniform(&seed);
}

static int32_t draw(const float *z, const ap_sampling *p, const ap_sample_history *history)
{
    int32_t token = -1;
    assert_ok(ap_sample(sampler, z, p, NULL, 0, history, &token, err));
    assert_in_range(token, 0, VOCAB - 1);
    return token;
}

static void greedy_takes_the_largest_and_the_lower_id_of_two(void **state)
{
    float z[VOCAB];
    fill(z, 1);
    z[700] = z[300] = z[999] = 20;
    ap_sampling p = ap_sampling_default();
    p.temperature = 0;
    assert_int_equal(draw(z, &p, &nothing), 300);
    ap_logit_bias bias = {300, -0.5f};
    int32_t token;
    assert_ok(ap_sample(sampler, z, &p, &bias, 1, &nothing, &token, err));
    assert_int_equal(token, 700);
    assert_true(z[300] == 20); /* the caller's logits stay */
}

static void zeros_of_two_signs_tie(void **state)
{
    float z[VOCAB];
    for (int i = 0; i < VOCAB; i++)
        z[i] = -1;
    z[3] = -0.0f;
    z[5] = 0.0f;
    ap_sampling p = ap_sampling_default();
    p.top_k = 1;
    assert_int_equal(draw(z, &p, &nothing), 3);
    p.temperature = 0;
    assert_int_equal(draw(z, &p, &nothing), 3);
    ap_token_logprob top[2];
    float logprob;
    ap_sample_logprobs(sampler, z, 3, &logprob, top, 2);
    assert_int_equal(top[0].token, 3);
    assert_int_equal(top[1].token, 5);
}

/* The set of tokens that any random number can lead to. */
static unsigned support_of(const float *z, ap_sampling p, bool seen[VOCAB])
{
    unsigned count = 0;
    memset(seen, 0, VOCAB * sizeof *seen);
    for (uint32_t position = 1; position <= 8000; position++) {
        ap_sample_history h = {.known = position};
        int32_t token = draw(z, &p, &h);
        count += !seen[token];
        seen[token] = true;
    }
    return count;
}

static void top_k_draws_among_exactly_k(void **state)
{
    float z[VOCAB];
    bool seen[VOCAB];
    for (int i = 0; i < VOCAB; i++)
        z[i] = (float)(i % 10) * 0.1f; /* a hundred tokens share each value: ties go to lower ids */
    ap_sampling p = ap_sampling_default();
    p.top_k = 7;
    assert_int_equal(support_of(z, p, seen), 7);
    for (int i = 0; i < 7; i++)
        assert_true(seen[9 + 10 * i]);
}

static void top_p_keeps_the_fewest_that_reach_it(void **state)
{
    float z[VOCAB];
    bool seen[VOCAB];
    for (int i = 0; i < VOCAB; i++)
        z[i] = -30;
    z[10] = logf(0.5f);
    z[20] = logf(0.25f);
    z[30] = logf(0.15f);
    z[40] = logf(0.1f);
    ap_sampling p = ap_sampling_default();
    p.top_p = 0.7f;
    assert_int_equal(support_of(z, p, seen), 2);
    assert_true(seen[10] && seen[20]);
    p.top_p = 0.8f; /* the token that crosses the line is in */
    assert_int_equal(support_of(z, p, seen), 3);
    p.top_p = 0; /* one is always left */
    assert_int_equal(support_of(z, p, seen), 1);
    assert_true(seen[10]);
    p.top_p = 1;
    p.min_p = 0.4f;
    assert_int_equal(support_of(z, p, seen), 2);
}

/* Many candidates have the same share, so the first 256 in order are not enough. */
static void top_p_over_a_flat_distribution_goes_as_far_as_it_must(void **state)
{
    float z[VOCAB] = {0};
    bool seen[VOCAB];
    ap_sampling p = ap_sampling_default();
    p.top_p = 0.7f;
    unsigned count = support_of(z, p, seen);
    assert_in_range(count, 690, 701);
    for (int i = 701; i < VOCAB; i++)
        assert_false(seen[i]);
}

static void draws_follow_the_distribution(void **state)
{
    enum { DRAWS = 60000 };
    float z[VOCAB];
    double expected[VOCAB], total = 0;
    static unsigned seen[VOCAB];
    fill(z, 3);
    ap_sampling p = ap_sampling_default();
    p.temperature = 1.5f;
    for (int cut = 0; cut < 2; cut++) {
        p.top_k = cut ? VOCAB - 1 : 0; /* both ways of drawing */
        total = 0;
        memset(seen, 0, sizeof seen);
        for (int i = 0; i < VOCAB; i++)
            total += expected[i] = exp(z[i] / 1.5);
        for (uint32_t i = 0; i < DRAWS; i++) {
            ap_sample_history h = {.known = i};
            seen[draw(z, &p, &h)]++;
        }
        double chi = 0;
        int cells = 0;
        for (int i = 0; i < VOCAB; i++) {
            double e = expected[i] / total * DRAWS;
            if (e < 10)
                continue;
            chi += (seen[i] - e) * (seen[i] - e) / e;
            cells++;
        }
        /* Mean cells, deviation sqrt(2 cells); the seed is fixed, so this cannot flicker. */
        assert_true(cells > 300);
        assert_true(chi < cells + 5 * sqrt(2.0 * cells));
    }
}

static void seed_choice_and_position_decide_and_nothing_else(void **state)
{
    float z[VOCAB];
    fill(z, 4);
    ap_sampling p = ap_sampling_default();
    p.seed = 42;
    int32_t first = draw(z, &p, &nothing);
    for (int i = 0; i < 50; i++) {
        float other[VOCAB];
        fill(other, 100 + (uint64_t)i);
        (void)draw(other, &p, &(ap_sample_history){.known = (uint32_t)i});
        assert_int_equal(draw(z, &p, &nothing), first);
    }
    unsigned by_seed = 0, by_choice = 0, by_position = 0;
    for (uint32_t i = 1; i <= 100; i++) {
        ap_sampling q = p;
        q.seed = 42 + i;
        by_seed += draw(z, &q, &nothing) != first;
        q = p;
        q.choice = i;
        by_choice += draw(z, &q, &nothing) != first;
        by_position += draw(z, &p, &(ap_sample_history){.known = 5 + i}) != first;
    }
    assert_true(by_seed > 80 && by_choice > 80 && by_position > 80);
}

static void penalties_count_what_they_say(void **state)
{
    float z[VOCAB];
    for (int i = 0; i < VOCAB; i++)
        z[i] = 0;
    /* prompt: 1 1 2; answer: 3 3 4 */
    int32_t tokens[] = {1, 1, 2, 3, 3, 4};
    ap_sample_history h = {tokens, 3, 6};
    ap_sampling p = ap_sampling_default();
    p.temperature = 0;
    z[1] = 2.0f; /* halved once by the repetition penalty: 1.0 */
    z[9] = 1.5f;
    p.repetition_penalty = 2;
    assert_int_equal(draw(z, &p, &h), 9);
    z[9] = 0.9f;
    assert_int_equal(draw(z, &p, &h), 1);
    p.repetition_penalty = 1;
    p.frequency_penalty = 0.5f;
    p.presence_penalty = 0.25f;
    z[1] = 0;
    z[9] = 1.0f;
    z[3] = 2.2f; /* twice in the answer: less 1.25, 0.95 */
    assert_int_equal(draw(z, &p, &h), 9);
    z[3] = 2.3f;
    assert_int_equal(draw(z, &p, &h), 3);
    z[2] = 2.0f; /* only in the prompt: no penalty */
    assert_int_equal(draw(z, &p, &h), 2);
}

static void logprobs_are_those_of_the_untouched_logits(void **state)
{
    float z[VOCAB], logprob;
    ap_token_logprob top[5];
    fill(z, 8);
    double sum = 0;
    for (int i = 0; i < VOCAB; i++)
        sum += exp(z[i]);
    ap_sample_logprobs(sampler, z, 17, &logprob, top, 5);
    assert_true(fabs(logprob - (z[17] - log(sum))) < 1e-5);
    for (int i = 0; i < 5; i++) {
        assert_true(fabs(top[i].logprob - (z[top[i].token] - log(sum))) < 1e-5);
        assert_true(i == 0 || top[i].logprob <= top[i - 1].logprob);
        for (int j = 0; j < VOCAB; j++) {
            bool is_above = j == top[0].token || j == top[1].token || j == top[2].token || j == top[3].token || j == top[4].token;
            assert_true(is_above || z[j] <= z[top[4].token]);
        }
    }
}

static void logits_that_are_not_finite_are_an_error(void **state)
{
    static const float bad[] = {NAN, INFINITY};
    for (int i = 0; i < 2; i++)
        for (int greedy = 0; greedy < 2; greedy++) {
            float z[VOCAB];
            int32_t token;
            ap_error refusal = {0};
            fill(z, 5);
            z[500] = bad[i];
            ap_sampling p = ap_sampling_default();
            p.temperature = greedy ? 0 : 1;
            assert_int_equal(ap_sample(sampler, z, &p, NULL, 0, &nothing, &token, &refusal), AP_E_NUMERIC);
            assert_non_null(strstr(refusal.message, "finite"));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_largest_and_the_lower_id_of_two),
        cmocka_unit_test(zeros_of_two_signs_tie),
        cmocka_unit_test(top_k_draws_among_exactly_k),
        cmocka_unit_test(top_p_keeps_the_fewest_that_reach_it),
        cmocka_unit_test(top_p_over_a_flat_distribution_goes_as_far_as_it_must),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(seed_choice_and_position_decide_and_nothing_else),
        cmocka_unit_test(penalties_count_what_they_say),
        cmocka_unit_test(logprobs_are_those_of_the_untouched_logits),
        cmocka_unit_test(logits_that_are_not_finite_are_an_error),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
