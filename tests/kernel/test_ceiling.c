/* What products are measured against is measured by doing what it says.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "kernel/kernel.h"
#include "support.h"

static void every_level_does_the_products_it_counts(void **state)
{
    unsigned levels = 0;
    for (unsigned isa = 0; isa < AP_ISA_COUNT; isa++) {
        ap_kernels kernels;
        if (ap_kernels_get((ap_isa)isa, &kernels, NULL) != AP_OK)
            continue;
        levels++;
        for (uint32_t rounds = 1; rounds <= 100; rounds += 33) {
            ap_dots d = kernels.ceiling.dots(rounds);
            assert_true(d.products > 0 && d.products % rounds == 0);
            assert_int_equal(d.sum, (uint32_t)(d.products * (uint64_t)(AP_DOTS_X * AP_DOTS_Y)));
        }
    }
    assert_true(levels > 0);
}

static void a_measurement_takes_about_a_second(void **state)
{
    ap_kernels kernels;
    ap_pool *pool;
    assert_ok(ap_kernels_get(ap_isa_detect(), &kernels, err));
    assert_ok(ap_pool_create(&pool, 2, err));
    uint64_t start = ap_clock_ns();
    double per_s = ap_ceiling_measure(&kernels, pool);
    uint64_t ns = ap_clock_ns() - start;
    ap_pool_destroy(&pool);
    assert_true(per_s > 1e8 && per_s < 1e15);
    assert_in_range(ns / 1000000, 200, 20000); /* a machine that does other things takes longer */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_level_does_the_products_it_counts),
        cmocka_unit_test(a_measurement_takes_about_a_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
