/* Elementary functions against libm in double, their exact values, and the digest of their
 * bits that every compiler and CPU must reproduce.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "support.h"

#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "kernel/elementary.h"
#include "quant/half.h"

/* The distance of got from want, in units of want's last place as a normal float. */
static double ulps(float got, double want)
{
    int exponent;
    (void)frexp(want, &exponent);
    return fabs((double)got - want) / ldexp(1, (exponent < -125 ? -125 : exponent) - 24);
}

static void exp_is_within_one_unit_in_the_last_place(void **state)
{
    /* 2.8 million floats; the stride is a prime, so all mantissas occur.  All floats were tried once:
     * 0.94 units at worst. */
    for (uint64_t bits = 0; bits >> 32 == 0; bits += 1543) {
        float x = ap_float_of_bits((uint32_t)bits), got = ap_expf(x);
        double want = exp((double)x);
        if (isnan(x))
            assert_true(isnan(got));
        else if (want < 0x1p-126)
            assert_true(got == 0 && !signbit(got));
        else if (want > 0x1.fffffep127)
            assert_true(got == INFINITY);
        else if (ulps(got, want) > 1)
            fail_msg("exp(%a) is %a, should be near %a", (double)x, (double)got, want);
    }
}

static void exp_ends_where_the_law_says(void **state)
{
    assert_true(ap_expf(0.0f) == 1 && ap_expf(-0.0f) == 1 && ap_expf(0x1p-149f) == 1);
    assert_true(ap_expf(-INFINITY) == 0 && !signbit(ap_expf(-INFINITY)));
    assert_true(ap_expf(INFINITY) == INFINITY && isnan(ap_expf(NAN)));
    /* Every float around the two ends. */
    for (float x = -87.3f; x > -87.4f; x = nextafterf(x, -INFINITY))
        assert_int_equal(ap_expf(x) != 0, exp((double)x) >= 0x1p-126);
    for (float x = 88.7f; x < 88.8f; x = nextafterf(x, INFINITY))
        assert_int_equal(isinf(ap_expf(x)), exp((double)x) > 0x1.fffffep127);
    assert_true(ap_expf(-1e38f) == 0 && ap_expf(1e38f) == INFINITY);
}

static void log_is_the_double_rounded_once(void **state)
{
    /* Half a unit, and the little by which the double may be off where it nearly is a tie. */
    for (uint32_t bits = 1; bits < 0x7f800000u; bits += 1009) {
        float x = ap_float_of_bits(bits);
        if (ulps(ap_logf(x), log((double)x)) > 0.5 + 0x1p-20)
            fail_msg("log(%a) is %a, should be near %a", (double)x, (double)ap_logf(x), log((double)x));
    }
    assert_true(ap_logf(1) == 0 && ap_logf(0) == -INFINITY && ap_logf(-0.0f) == -INFINITY);
    assert_true(ap_logf(INFINITY) == INFINITY);
    assert_true(isnan(ap_logf(-1)) && isnan(ap_logf(-INFINITY)) && isnan(ap_logf(NAN)));
}

static void sine_and_cosine_are_right_at_long_positions(void **state)
{
    float sine, cosine;
    for (uint32_t bits = 0; bits < 0x4b800000u; bits += 1009) { /* to 2^24 */
        float x = ap_float_of_bits(bits);
        ap_sincosf(x, &sine, &cosine);
        if (ulps(sine, sin((double)x)) > 0.5 + 0x1p-20 || ulps(cosine, cos((double)x)) > 0.5 + 0x1p-20)
            fail_msg("sin, cos of %a are %a, %a", (double)x, (double)sine, (double)cosine);
        float minus_sine, same_cosine;
        ap_sincosf(-x, &minus_sine, &same_cosine);
        assert_true(minus_sine == -sine && same_cosine == cosine);
    }
    for (uint32_t position = 0; position < 1u << 20; position += 7) {
        ap_sincosf((float)position, &sine, &cosine);
        assert_true(ulps(sine, sin((double)position)) <= 0.5 + 0x1p-20);
        assert_true(ulps(cosine, cos((double)position)) <= 0.5 + 0x1p-20);
    }
    ap_sincosf(0, &sine, &cosine);
    assert_true(sine == 0 && cosine == 1);
    ap_sincosf(NAN, &sine, &cosine);
    assert_true(isnan(sine) && isnan(cosine));
    ap_sincosf(INFINITY, &sine, &cosine);
    assert_true(isnan(sine) && isnan(cosine));
}

static void powers_of_position_tables_are_the_double_rounded_once(void **state)
{
    static const float bases[] = {1.0f, 10000.0f, 100000.0f, 500000.0f, 1e6f, 1e12f, 2.0f, 0.5f};
    for (size_t b = 0; b < sizeof bases / sizeof *bases; b++)
        for (int32_t i = -512; i <= 512; i++) {
            float exponent = (float)i / 256.0f;
            double want = pow((double)bases[b], (double)exponent);
            if (ulps(ap_powf(bases[b], exponent), want) > 0.5 + 0x1p-20)
                fail_msg("%a^%a is %a", (double)bases[b], (double)exponent, (double)ap_powf(bases[b], exponent));
        }
    assert_true(ap_powf(10000, 0) == 1 && ap_powf(2, 3) == 8 && ap_powf(2, -126) == 0x1p-126f);
}

/* The vectors that come with the generator's paper. */
static void philox_gives_the_published_numbers(void **state)
{
    static const struct {
        uint64_t key;
        uint32_t counter[4], want[4];
    } known[] = {
        {0, {0, 0, 0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX,
         {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822u,
         {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint32_t got[4];
        ap_philox(known[i].key, known[i].counter, got);
        assert_memory_equal(got, known[i].want, sizeof got);
    }
}

static void uniform_numbers_stay_below_one(void **state)
{
    assert_true(ap_uniform(0) == 0 && ap_uniform(0xff) == 0 && ap_uniform(0x100) == 0x1p-24f);
    assert_true(ap_uniform(UINT32_MAX) == 1 - 0x1p-24f && ap_uniform(0x80000000u) == 0.5f);
    double mean = 0, square = 0;
    enum { N = 1 << 16 };
    for (uint32_t i = 0; i < N; i++) {
        uint32_t bits[4];
        ap_philox(7, (uint32_t[4]){0, i, 0, 0}, bits);
        double u = (double)ap_uniform(bits[0]);
        mean += u / N;
        square += u * u / N;
    }
    /* Five standard deviations of the mean and of the mean square. */
    assert_true(fabs(mean - 0.5) < 5 * sqrt(1 / 12.0 / N) && fabs(square - 1 / 3.0) < 5 * sqrt(4 / 45.0 / N));
}

static void add(ap_hash *hash, float value)
{
    assert_false(isnan(value)); /* which NaN is not the law's */
    ap_hash_add(hash, &value, sizeof value);
}

static void bits_are_the_committed_ones(void **state)
{
    char got[AP_HASH_HEX];
    ap_hash hash;
    ap_hash_begin(&hash, AP_HASH_BLAKE2B);
    for (uint32_t bits = 0; bits < 0x7f800000u; bits += 49999) {
        float x = ap_float_of_bits(bits), sine, cosine;
        add(&hash, ap_expf(x));
        add(&hash, ap_expf(-x));
        add(&hash, ap_logf(x));
        if (x < 0x1p24f) {
            ap_sincosf(x, &sine, &cosine);
            add(&hash, sine);
            add(&hash, cosine);
        }
        if (x >= 1 && x <= 1e12f)
            add(&hash, ap_powf(x, -(float)(bits % 64) / 64));
    }
    ap_hash_end(&hash, got);
    assert_string_equal(got, "99d204f54a3405f804d2b86121782407f76bd149b578acc9292b83929af9921d");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_within_one_unit_in_the_last_place),
        cmocka_unit_test(exp_ends_where_the_law_says),
        cmocka_unit_test(log_is_the_double_rounded_once),
        cmocka_unit_test(sine_and_cosine_are_right_at_long_positions),
        cmocka_unit_test(powers_of_position_tables_are_the_double_rounded_once),
        cmocka_unit_test(philox_gives_the_published_numbers),
        cmocka_unit_test(uniform_numbers_stay_below_one),
        cmocka_unit_test(bits_are_the_committed_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
