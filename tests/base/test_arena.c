/* Arenas: alignment, no overlap, limits, reset.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/arena.h"
#include "support.h"

static void pieces_are_aligned_and_do_not_overlap(void **state)
{
    enum { PIECES = 2000 };
    static unsigned char *piece[PIECES];
    static size_t size[PIECES];
    ap_arena arena = {0};
    uint64_t seed = 1;
    for (int i = 0; i < PIECES; i++) {
        size[i] = ap_test_random(&seed) % (i % 100 == 0 ? 100000 : 200);
        piece[i] = ap_arena_alloc(&arena, size[i]);
        assert_non_null(piece[i]);
        assert_true((uintptr_t)piece[i] % 16 == 0);
        memset(piece[i], i % 251, size[i]);
    }
    for (int i = 0; i < PIECES; i++)
        for (size_t k = 0; k < size[i]; k++)
            assert_int_equal(piece[i][k], i % 251);
    ap_arena_deinit(&arena);
    assert_null(arena.chunks);
}

static void zeroed_memory_is_zero_even_after_a_reset(void **state)
{
    ap_arena arena = {0};
    for (int round = 0; round < 3; round++) {
        unsigned char *p = ap_arena_zero(&arena, 25, 40);
        assert_non_null(p);
        for (int i = 0; i < 1000; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xff, 1000);
        ap_arena_reset(&arena);
        assert_true(arena.used_bytes == 0);
    }
    char *copy = ap_arena_copy(&arena, "abcdef", 4);
    assert_string_equal(copy, "abcd");
    assert_string_equal(ap_arena_copy(&arena, NULL, 0), "");
    ap_arena_deinit(&arena);
}

static void sizes_that_do_not_fit_are_refused(void **state)
{
    ap_arena arena = {0};
    assert_null(ap_arena_alloc(&arena, SIZE_MAX));
    assert_null(ap_arena_alloc(&arena, SIZE_MAX - 15));
    assert_null(ap_arena_alloc(&arena, SIZE_MAX / 2));
    assert_null(ap_arena_zero(&arena, SIZE_MAX / 2 + 2, 2));
    assert_null(ap_arena_copy(&arena, "", SIZE_MAX));
    assert_non_null(ap_arena_alloc(&arena, 1));
    ap_arena_deinit(&arena);
}

static void the_limit_is_an_end_of_memory(void **state)
{
    ap_arena arena = {.limit_bytes = 4096};
    size_t got = 0;
    while (ap_arena_alloc(&arena, 64))
        got += 64;
    assert_in_range(got, 2048, 4096);
    assert_null(ap_arena_alloc(&arena, 64));
    ap_arena_reset(&arena);
    assert_non_null(ap_arena_alloc(&arena, 64));
    ap_arena_deinit(&arena);
    ap_arena small = {.limit_bytes = 100};
    assert_null(ap_arena_alloc(&small, 101));
    assert_null(ap_arena_alloc(&small, 1u << 20));
    ap_arena_deinit(&small);
}

static void a_failing_heap_leaves_the_arena_usable(void **state)
{
    ap_arena arena = {0};
    char *first = ap_arena_copy(&arena, "first", 5);
    ap_alloc_fail_at(1, true);
    while (ap_arena_alloc(&arena, 1024)) /* until the chunk is used up */
        assert_true(arena.used_bytes < 64u << 20);
    assert_null(ap_arena_alloc(&arena, 1u << 20));
    ap_alloc_fail_at(0, false);
    assert_non_null(ap_arena_alloc(&arena, 1u << 20));
    assert_string_equal(first, "first");
    ap_arena_deinit(&arena);
    ap_arena_deinit(&arena); /* zero is a valid empty arena */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_aligned_and_do_not_overlap),
        cmocka_unit_test(zeroed_memory_is_zero_even_after_a_reset),
        cmocka_unit_test(sizes_that_do_not_fit_are_refused),
        cmocka_unit_test(the_limit_is_an_end_of_memory),
        cmocka_unit_test(a_failing_heap_leaves_the_arena_usable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
