/* Allocation: checked products, alignment, and faults on demand.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "support.h"

static void products_that_do_not_fit_are_refused(void **state)
{
    size_t big = SIZE_MAX / 2 + 2, out = 7;
    assert_null(ap_alloc_array(big, 2));
    assert_null(ap_alloc_zero(big, 2));
    assert_null(ap_alloc_aligned(SIZE_MAX));
    assert_null(ap_alloc_aligned(SIZE_MAX - 63));
    assert_null(ap_strndup("", SIZE_MAX));
    void *kept = ap_alloc(8);
    assert_non_null(kept);
    assert_null(ap_realloc_array(kept, big, 2)); /* `kept` still belongs to us */
    ap_free(kept);
    assert_false(ap_mul_size(big, 2, &out));
    assert_true(ap_mul_size(SIZE_MAX / 2, 2, &out));
    assert_true(out == SIZE_MAX - 1);
    assert_false(ap_add_size(SIZE_MAX, 1, &out));
    uint64_t wide;
    assert_false(ap_mul_u64(1ull << 32, 1ull << 32, &wide));
    assert_false(ap_add_u64(UINT64_MAX, 1, &wide));
    assert_true(ap_add_u64(UINT64_MAX - 1, 1, &wide) && wide == UINT64_MAX);
}

static void a_size_of_zero_gives_a_pointer_of_its_own(void **state)
{
    void *a = ap_alloc(0), *b = ap_alloc_array(0, 8), *c = ap_alloc_zero(0, 0), *d = ap_alloc_aligned(0);
    assert_true(a && b && c && d && a != b && b != c && c != d);
    ap_free(a);
    ap_free(b);
    ap_free(c);
    ap_free(d);
    ap_free(NULL);
}

static void vectors_are_aligned_and_copies_end_in_nul(void **state)
{
    for (size_t n = 0; n < 300; n++) {
        unsigned char *p = ap_alloc_aligned(n);
        assert_non_null(p);
        assert_true((uintptr_t)p % 64 == 0);
        memset(p, 1, n);
        ap_free(p);
    }
    char *copy = ap_strndup("abcdef", 3);
    assert_string_equal(copy, "abc");
    ap_free(copy);
    copy = ap_strndup(NULL, 0);
    assert_string_equal(copy, "");
    ap_free(copy);
    unsigned char *zero = ap_alloc_zero(100, 3);
    for (int i = 0; i < 300; i++)
        assert_int_equal(zero[i], 0);
    ap_free(zero);
}

static void the_nth_allocation_fails_once_or_for_ever(void **state)
{
    void *kept[6] = {0};
    ap_alloc_fail_at(3, false);
    for (int i = 0; i < 6; i++) {
        kept[i] = ap_alloc(4);
        assert_true((kept[i] == NULL) == (i == 2));
    }
    assert_true(ap_alloc_count() == 6);
    ap_alloc_fail_at(0, false);
    for (int i = 0; i < 6; i++)
        ap_free(kept[i]);
    void *old = ap_alloc(4);
    ap_alloc_fail_at(1, true);
    assert_null(ap_alloc(1));
    assert_null(ap_alloc_zero(1, 1));
    assert_null(ap_alloc_array(1, 1));
    assert_null(ap_realloc(old, 8));
    assert_null(ap_realloc_array(old, 2, 8));
    assert_null(ap_alloc_aligned(1));
    assert_null(ap_strndup("a", 1));
    assert_true(ap_alloc_count() == 7);
    ap_alloc_fail_at(0, false);
    ap_free(old);
}

static void bytes_asked_for_are_counted_on_demand(void **state)
{
    ap_free(ap_alloc(1000));
    ap_alloc_fail_at(UINT64_MAX, false); /* count, never fail */
    assert_true(ap_alloc_bytes() == 0);
    void *p = ap_alloc(10);
    p = ap_realloc(p, 100);
    ap_free(p);
    ap_free(ap_alloc_zero(1000, 3));
    ap_free(ap_alloc_array(10, 1000));
    ap_free(ap_alloc_aligned(100000));
    assert_true(ap_alloc_bytes() == 10 + 100 + 3000 + 10000 + 100000);
    assert_true(ap_alloc_count() == 5);
    ap_alloc_fail_at(0, false);
    ap_free(ap_alloc(1000));
    assert_true(ap_alloc_bytes() == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_that_do_not_fit_are_refused),
        cmocka_unit_test(a_size_of_zero_gives_a_pointer_of_its_own),
        cmocka_unit_test(vectors_are_aligned_and_copies_end_in_nul),
        cmocka_unit_test(the_nth_allocation_fails_once_or_for_ever),
        cmocka_unit_test(bytes_asked_for_are_counted_on_demand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
