/* Operations on vectors: the order of the law written out once more, float64 with bounds counted
 * from the operations, rotary positions, and the committed digest.  Each level is asked.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "support.h"

#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "kernel/kernel.h"

enum { LONGEST = 1600 };
static const double unit = 0x1p-24; /* of one rounding, relative */

/* The next level of this CPU, from *isa on; false when there is none. */
static bool next_level(unsigned *isa, ap_kernels *kernels)
{
    ap_error err;
    while (*isa < AP_ISA_COUNT)
        if (ap_kernels_get((ap_isa)(*isa)++, kernels, &err) == AP_OK)
            return true;
    return false;
}

#define EACH_LEVEL(kernels)   \
    ap_kernels kernels;       \
    unsigned next_isa_ = 0;   \
    while (next_level(&next_isa_, &kernels))

static void fill(float *x, uint32_t n, float size, uint64_t seed)
{
    for (uint32_t i = 0; i < n; i++)
        x[i] = ap_test_uniform(&seed) * size;
}

static uint32_t next_length(uint32_t n) { return n < 70 ? n + 1 : n == 70 ? 576 : n == 576 ? LONGEST : UINT32_MAX; }

/* Number i mod 16, ascending; then 8 apart, 4, 2, 1. */
static float sum_by_the_law(const float *x, uint32_t n, bool squares)
{
    float part[16] = {0};
    for (uint32_t i = 0; i < n; i++)
        part[i % 16] = squares ? fmaf(x[i], x[i], part[i % 16]) : part[i % 16] + x[i];
    for (int step = 8; step; step /= 2)
        for (int i = 0; i < step; i++)
            part[i] = part[i] + part[i + step];
    return part[0];
}

static void norms_follow_the_order_of_the_law(void **state)
{
    static float x[LONGEST], w[LONGEST], want[LONGEST], got[LONGEST];
    EACH_LEVEL(kernels)
        for (uint32_t n = 1; n <= LONGEST; n = next_length(n)) {
            fill(x, n, 3, n);
            fill(w, n, 2, n + 1);
            float r = 1.0f / sqrtf(sum_by_the_law(x, n, true) / (float)n + 1e-5f);
            for (uint32_t i = 0; i < n; i++)
                want[i] = x[i] * r * w[i];
            kernels.vec.rms_norm(got, x, w, n, 1e-5f);
            assert_memory_equal(got, want, n * sizeof *got);
        }
}

static void norms_are_as_exact_as_their_operations_allow(void **state)
{
    static float x[LONGEST], w[LONGEST], got[LONGEST];
    EACH_LEVEL(kernels)
        for (uint32_t n = 1; n <= LONGEST; n = next_length(n)) {
            fill(x, n, n % 3 ? 1 : 1e4f, n + 2);
            fill(w, n, 2, n + 3);
            double sum = 0;
            for (uint32_t i = 0; i < n; i++)
                sum += (double)x[i] * (double)x[i];
            double r = 1 / sqrt(sum / n + (double)1e-6f);
            kernels.vec.rms_norm(got, x, w, n, 1e-6f);
            /* The sum: its lane's n / 16 steps and four joints; mean and epsilon one each; the root halves what
             * came before; root, quotient and two products one each. */
            double bound = ((n / 16 + 1 + 4 + 2) / 2.0 + 4) * unit;
            for (uint32_t i = 0; i < n; i++) {
                double exact = (double)x[i] * r * (double)w[i];
                assert_true(fabs((double)got[i] - exact) <= bound * fabs(exact));
            }
        }
}

static void gated_activations_are_as_exact_as_their_operations_allow(void **state)
{
    static float gate[LONGEST], up[LONGEST], got[LONGEST];
    EACH_LEVEL(kernels)
        for (uint32_t n = 1; n <= LONGEST; n = next_length(n)) {
            fill(gate, n, n % 2 ? 4 : 80, n);
            fill(up, n, 2, n + 1);
            kernels.vec.activate[AP_ACTIVATION_SILU](got, gate, up, n);
            for (uint32_t i = 0; i < n; i++) {
                double g = (double)gate[i], exact = g / (1 + exp(-g)) * (double)up[i];
                /* exp two, sum, quotient and product one each. */
                assert_true(fabs((double)got[i] - exact) <= 5 * unit * fabs(exact) + 0x1p-126);
            }
        }
}

static void gates_far_out_are_shut_or_open(void **state)
{
    EACH_LEVEL(kernels)
    {
        float gate[5] = {-1000, -90, 0, 90, 1000}, up[5] = {3, 3, 3, 3, 3}, got[5];
        kernels.vec.activate[AP_ACTIVATION_SILU](got, gate, up, 5);
        assert_true(got[0] == 0 && got[1] == 0 && got[2] == 0 && got[3] == 270 && got[4] == 3000);
    }
}

/* Mean and variance by their sums; within what the sums, the root and the quotient may be off by. */
static void layer_norms_follow_the_order_of_the_law(void **state)
{
    static float x[LONGEST], w[LONGEST], b[LONGEST], centred[LONGEST], want[LONGEST], got[LONGEST];
    EACH_LEVEL(kernels)
        for (uint32_t n = 1; n <= LONGEST; n = next_length(n)) {
            fill(x, n, 3, n);
            fill(w, n, 2, n + 1);
            fill(b, n, 2, n + 2);
            double exact_mean = 0, exact_square = 0;
            for (uint32_t i = 0; i < n; i++)
                exact_mean += (double)x[i] / n;
            for (uint32_t i = 0; i < n; i++)
                exact_square += ((double)x[i] - exact_mean) * ((double)x[i] - exact_mean) / n;
            float mean = sum_by_the_law(x, n, false) / (float)n;
            for (uint32_t i = 0; i < n; i++)
                centred[i] = x[i] - mean;
            float r = 1.0f / sqrtf(sum_by_the_law(centred, n, true) / (float)n + 1e-5f);
            for (int parts = 0; parts < 3; parts++) { /* bare, with weights, with both */
                for (uint32_t i = 0; i < n; i++) {
                    want[i] = centred[i] * r;
                    want[i] = parts > 0 ? want[i] * w[i] : want[i];
                    want[i] = parts > 1 ? want[i] + b[i] : want[i];
                }
                kernels.vec.layer_norm(got, x, parts > 0 ? w : NULL, parts > 1 ? b : NULL, n, 1e-5f);
                assert_memory_equal(got, want, n * sizeof *got);
            }
            for (uint32_t i = 0; i < n; i++) {
                double exact = ((double)x[i] - exact_mean) / sqrt(exact_square + 1e-5) * (double)w[i] + (double)b[i];
                assert_true(fabs((double)got[i] - exact) <= 2e-4 * (n == 1) + 4e-6);
            }
        }
}

/* Against float64: gelu in both forms keeps its relative exactness in the tail but for what exp does to the rounding of
 * its argument; a cap is a tanh. */
static void gelu_and_caps_are_exact_over_their_range(void **state)
{
    EACH_LEVEL(kernels)
        for (float x = -12; x < 12; x += 0x1.8p-9f) {
            float erf_form, tanh_form, capped[3] = {x, x, x * 0.01f};
            kernels.vec.activate[AP_ACTIVATION_GELU](&erf_form, &x, NULL, 1);
            kernels.vec.activate[AP_ACTIVATION_GELU_TANH](&tanh_form, &x, NULL, 1);
            double z = (double)x, exact = z * erfc(-z / sqrt(2)) / 2;
            assert_true(fabs((double)erf_form - exact) <= (6 + 2 * z * z) * unit * fabs(exact) + 2 * unit * (z > 0 ? z : 0));
            double inner = sqrt(2 / 3.14159265358979323846) * (z + 0.044715 * z * z * z);
            exact = z / (1 + exp(-2 * inner));
            assert_true(fabs((double)tanh_form - exact) <= (6 + 8 * fabs(inner)) * unit * fabs(exact) + 0x1p-120);
            kernels.vec.softcap(capped, 3, 3);
            for (int i = 1; i < 3; i++) {
                exact = 3 * tanh((i == 1 ? z : (double)(x * 0.01f)) / 3);
                assert_true(fabs((double)capped[i] - exact) <= 6 * unit * fabs(exact));
            }
        }
}

static void gates_within_seven_are_what_the_model_card_says(void **state)
{
    EACH_LEVEL(kernels)
        for (float x = -20; x < 20; x += 0.37f) {
            float up = x * 0.9f - 1, got;
            kernels.vec.activate[AP_ACTIVATION_SILU_7](&got, &x, &up, 1);
            double gate = fmin((double)x, 7), linear = fmax(-7, fmin((double)up, 7));
            double exact = gate / (1 + exp(-1.702 * gate)) * (linear + 1);
            assert_true(fabs((double)got - exact) <= (8 + 4 * fabs(gate)) * unit * (fabs(exact) + 1e-6));
        }
}

static void exponential_sums_follow_the_order_of_the_law(void **state)
{
    static float x[LONGEST], want[LONGEST], got[LONGEST];
    EACH_LEVEL(kernels)
        for (uint32_t n = 1; n <= LONGEST; n = next_length(n)) {
            fill(x, n, 12, n);
            float largest = x[0];
            for (uint32_t i = 1; i < n; i++)
                largest = x[i] > largest ? x[i] : largest;
            assert_true(kernels.vec.largest(x, n) == largest);
            double exact = 0;
            for (uint32_t i = 0; i < n; i++) {
                want[i] = ap_expf(x[i] - largest);
                exact += exp((double)x[i] - (double)largest);
            }
            float sum = kernels.vec.exp_sum(got, x, n, largest), want_sum = sum_by_the_law(want, n, false);
            assert_memory_equal(got, want, n * sizeof *got);
            assert_memory_equal(&sum, &want_sum, sizeof sum);
            /* exp two, the difference in its exponent up to 24, the sum its steps. */
            assert_true(fabs((double)sum - exact) <= (2 + 24 + n / 16 + 1 + 4) * unit * exact);
        }
}

static void nothing_added_up_is_zero(void **state)
{
    EACH_LEVEL(kernels)
    {
        float none = 1;
        assert_true(kernels.vec.exp_sum(&none, &none, 0, 0) == 0);
        assert_true(kernels.vec.largest(&none, 0) == -INFINITY);
        kernels.vec.add(&none, &none, 0);
        kernels.vec.activate[AP_ACTIVATION_SILU](&none, &none, &none, 0);
        assert_true(none == 1);
    }
}

static void all_but_one_ruled_out_is_certainty(void **state)
{
    float x[37], e[37];
    EACH_LEVEL(kernels)
        for (uint32_t left = 0; left < 37; left++) {
            for (uint32_t i = 0; i < 37; i++)
                x[i] = i == left ? -5.0f : -INFINITY;
            float largest = kernels.vec.largest(x, 37), sum = kernels.vec.exp_sum(e, x, 37, largest);
            assert_true(largest == -5 && sum == 1 && e[left] == 1);
        }
}

static void a_nan_is_never_lost(void **state)
{
    float x[37], y[37], w[37], out[37];
    EACH_LEVEL(kernels)
        for (uint32_t bad = 0; bad < 37; bad++) {
            fill(x, 37, 1, bad);
            fill(w, 37, 1, 9);
            x[bad] = NAN;
            kernels.vec.rms_norm(out, x, w, 37, 1e-5f);
            for (uint32_t i = 0; i < 37; i++)
                assert_true(isnan(out[i]));
            kernels.vec.activate[AP_ACTIVATION_SILU](out, x, w, 37);
            for (uint32_t i = 0; i < 37; i++)
                assert_true(isnan(out[i]) == (i == bad));
            for (int kind = 0; kind < AP_ACTIVATION_COUNT; kind++) {
                kernels.vec.activate[kind](out, x, w, 37);
                assert_true(isnan(out[bad]));
                kernels.vec.activate[kind](out, w, x, 37);
                assert_true(isnan(out[bad]));
            }
            memcpy(y, x, sizeof y);
            kernels.vec.clip(y, 1, 37);
            assert_true(isnan(y[bad]));
            kernels.vec.softcap(y, 1, 37);
            assert_true(isnan(y[bad]));
            kernels.vec.layer_norm(out, x, NULL, NULL, 37, 1e-5f);
            assert_true(isnan(out[(bad + 1) % 37]));
            memcpy(y, w, sizeof y);
            kernels.vec.add(y, x, 37);
            for (uint32_t i = 0; i < 37; i++)
                assert_true(isnan(y[i]) == (i == bad));
            assert_true(isnan(kernels.vec.exp_sum(out, x, 37, 1)));
        }
}

/* ---- Rotary positions ---- */

static void rotary_frequencies_are_powers_of_the_base(void **state)
{
    float frequencies[64], divisors[64];
    for (uint32_t j = 0; j < 64; j++)
        divisors[j] = 1 + (float)j;
    for (uint32_t width = 2; width <= 128; width += 2) {
        ap_rope_frequencies(frequencies, width, &(ap_rope_scaling){.base = 500000, .divisor = 4}, divisors);
        for (uint32_t j = 0; j < width / 2; j++) {
            /* The exponent is a rounded float: ln(500000) = 13.2 of its errors, at most 1 in size; then
             * three roundings. */
            double exact = pow(500000, -2.0 * j / width) / 4 / (1 + j);
            assert_true(fabs((double)frequencies[j] - exact) <= (13.2 + 3) * unit * exact);
        }
        ap_rope_frequencies(frequencies, width, &(ap_rope_scaling){.base = 500000, .divisor = 1}, NULL);
        assert_true(frequencies[0] == 1);
    }
}

static void rotary_rows_are_cosines_and_sines_of_the_float_angle(void **state)
{
    float frequencies[32], row[64];
    ap_rope_frequencies(frequencies, 64, &(ap_rope_scaling){.base = 100000, .divisor = 1}, NULL);
    for (uint32_t position = 0; position < 1u << 20; position += 12345) {
        ap_rope_row(row, frequencies, 64, position, 1);
        for (uint32_t j = 0; j < 32; j++) {
            double angle = (double)((float)position * frequencies[j]);
            assert_true(fabs((double)row[j] - cos(angle)) <= 1.001 * unit);
            assert_true(fabs((double)row[32 + j] - sin(angle)) <= 1.001 * unit);
        }
    }
}

static void rotary_pairs_are_turned_and_the_rest_stays(void **state)
{
    enum { WIDTH = 24, ALL = 40 };
    float frequencies[WIDTH / 2], row[WIDTH], still[WIDTH], x[ALL], y[ALL];
    ap_rope_frequencies(frequencies, WIDTH, &(ap_rope_scaling){.base = 10000, .divisor = 1}, NULL);
    ap_rope_row(row, frequencies, WIDTH, 77, 1);
    ap_rope_row(still, frequencies, WIDTH, 0, 1);
    EACH_LEVEL(kernels)
        for (int halves = 0; halves <= 1; halves++) {
            fill(x, ALL, 1, 5);
            memcpy(y, x, sizeof y);
            kernels.vec.rope(y, row, WIDTH, halves);
            for (uint32_t j = 0; j < WIDTH / 2; j++) {
                uint32_t first = halves ? j : 2 * j, second = halves ? j + WIDTH / 2 : 2 * j + 1;
                float c = row[j], s = row[WIDTH / 2 + j], a = x[first], b = x[second];
                assert_true(y[first] == fmaf(a, c, -(b * s)) && y[second] == fmaf(b, c, a * s));
                /* A product and an fma, of numbers below one. */
                assert_true(fabs((double)y[first] - ((double)a * (double)c - (double)b * (double)s)) <= 3 * unit);
                assert_true(fabs((double)y[second] - ((double)b * (double)c + (double)a * (double)s)) <= 3 * unit);
            }
            assert_memory_equal(y + WIDTH, x + WIDTH, (ALL - WIDTH) * sizeof *x);
            memcpy(y, x, sizeof y);
            kernels.vec.rope(y, still, WIDTH, halves);
            assert_memory_equal(y, x, sizeof y);
        }
}

/* The converter's order of rows makes half-split pairs interleaved: both must turn alike. */
static void the_two_pairings_differ_in_order_only(void **state)
{
    enum { WIDTH = 32 };
    float frequencies[WIDTH / 2], row[WIDTH], halves[WIDTH], neighbours[WIDTH];
    ap_rope_frequencies(frequencies, WIDTH, &(ap_rope_scaling){.base = 10000, .divisor = 1}, NULL);
    ap_rope_row(row, frequencies, WIDTH, 4001, 1);
    EACH_LEVEL(kernels)
    {
        fill(halves, WIDTH, 1, 6);
        for (uint32_t j = 0; j < WIDTH / 2; j++) {
            neighbours[2 * j] = halves[j];
            neighbours[2 * j + 1] = halves[j + WIDTH / 2];
        }
        kernels.vec.rope(halves, row, WIDTH, true);
        kernels.vec.rope(neighbours, row, WIDTH, false);
        for (uint32_t j = 0; j < WIDTH / 2; j++) {
            assert_memory_equal(&neighbours[2 * j], &halves[j], sizeof(float));
            assert_memory_equal(&neighbours[2 * j + 1], &halves[j + WIDTH / 2], sizeof(float));
        }
    }
}

static void bits_are_the_committed_ones(void **state)
{
    static float x[LONGEST], y[LONGEST], out[LONGEST];
    EACH_LEVEL(kernels)
    {
        char got[AP_HASH_HEX];
        ap_hash hash;
        ap_hash_begin(&hash, AP_HASH_BLAKE2B);
        for (uint32_t n = 1; n <= LONGEST; n = next_length(n)) {
            fill(x, n, 9, n);
            fill(y, n, 9, n + 7);
            kernels.vec.rms_norm(out, x, y, n, 1e-5f);
            ap_hash_add(&hash, out, n * sizeof *out);
            kernels.vec.activate[AP_ACTIVATION_SILU](out, x, y, n);
            kernels.vec.add(out, y, n);
            ap_hash_add(&hash, out, n * sizeof *out);
            float sum = kernels.vec.exp_sum(out, x, n, kernels.vec.largest(x, n));
            ap_hash_add(&hash, out, n * sizeof *out);
            ap_hash_add(&hash, &sum, sizeof sum);
        }
        float frequencies[64], row[128];
        ap_rope_frequencies(frequencies, 128, &(ap_rope_scaling){.base = 500000, .divisor = 1}, NULL);
        for (uint32_t position = 1; position < 200000; position = position * 3 + 1) {
            ap_rope_row(row, frequencies, 128, position, 1);
            ap_hash_add(&hash, row, sizeof row);
            kernels.vec.rope(x, row, 128, position % 2);
        }
        ap_hash_add(&hash, x, 128 * sizeof *x);
        ap_hash_end(&hash, got);
        assert_string_equal(got, "da019d0436f5770b7e979da8379c0e036f75059a8b3f34610f088efe788584da");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_follow_the_order_of_the_law),
        cmocka_unit_test(norms_are_as_exact_as_their_operations_allow),
        cmocka_unit_test(gated_activations_are_as_exact_as_their_operations_allow),
        cmocka_unit_test(gates_far_out_are_shut_or_open),
        cmocka_unit_test(layer_norms_follow_the_order_of_the_law),
        cmocka_unit_test(gelu_and_caps_are_exact_over_their_range),
        cmocka_unit_test(gates_within_seven_are_what_the_model_card_says),
        cmocka_unit_test(exponential_sums_follow_the_order_of_the_law),
        cmocka_unit_test(nothing_added_up_is_zero),
        cmocka_unit_test(all_but_one_ruled_out_is_certainty),
        cmocka_unit_test(a_nan_is_never_lost),
        cmocka_unit_test(rotary_frequencies_are_powers_of_the_base),
        cmocka_unit_test(rotary_rows_are_cosines_and_sines_of_the_float_angle),
        cmocka_unit_test(rotary_pairs_are_turned_and_the_rest_stays),
        cmocka_unit_test(the_two_pairings_differ_in_order_only),
        cmocka_unit_test(bits_are_the_committed_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
