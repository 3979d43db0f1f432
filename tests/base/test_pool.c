/* The team of threads: every piece exactly once, for all team sizes, over very many runs.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/pool.h"
#include "support.h"

enum { ITEMS_MAX = 4096 };

typedef struct job {
    atomic_uchar hits[ITEMS_MAX];
    size_t count, grain;
    unsigned threads;
    atomic_uint wrong;
} job;

/* cmocka's checks belong to one thread; helpers only count what is wrong. */
static void mark(void *context, size_t begin, size_t end, unsigned thread)
{
    job *j = context;
    /* One call may be handed several pieces (a team of one takes them all), but never a part of one. */
    bool is_right = begin < end && end <= j->count && begin % j->grain == 0 && (end % j->grain == 0 || end == j->count) &&
                    thread < j->threads;
    if (!is_right) {
        atomic_fetch_add(&j->wrong, 1);
        return;
    }
    for (size_t i = begin; i < end; i++)
        atomic_fetch_add_explicit(&j->hits[i], 1, memory_order_relaxed);
}

static void run_and_check(ap_pool *pool, job *j, size_t count, size_t grain)
{
    memset(j->hits, 0, count);
    j->count = count;
    j->grain = grain;
    j->threads = ap_pool_threads(pool);
    ap_pool_run(pool, count, grain, mark, j);
    assert_int_equal(atomic_load(&j->wrong), 0);
    for (size_t i = 0; i < count; i++)
        if (atomic_load_explicit(&j->hits[i], memory_order_relaxed) != 1)
            fail_msg("item %zu of %zu (grain %zu, %u threads) ran %u times", i, count, grain, j->threads, j->hits[i]);
}

static void every_piece_runs_exactly_once(void **state)
{
    static job j;
    for (unsigned threads = 1; threads <= 8; threads++) {
        ap_pool *pool = NULL;
        assert_ok(ap_pool_create(&pool, threads, err));
        assert_int_equal(ap_pool_threads(pool), threads);
        static const size_t counts[] = {0, 1, 2, 3, 7, 8, 9, 64, 1000, ITEMS_MAX}, grains[] = {1, 2, 3, 16, 999, 100000};
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
            for (size_t g = 0; g < sizeof grains / sizeof grains[0]; g++)
                run_and_check(pool, &j, counts[c], grains[g]);
        ap_pool_destroy(&pool);
        assert_null(pool);
    }
}

/* Runs follow each other at once, as in a forward pass, and after pauses in which helpers fall asleep. */
static void many_thousands_of_runs_lose_nothing(void **state)
{
    static job j;
    static const unsigned teams[] = {2, 3, 8};
    for (size_t t = 0; t < sizeof teams / sizeof teams[0]; t++) {
        ap_pool *pool = NULL;
        assert_ok(ap_pool_create(&pool, teams[t], err));
        uint64_t seed = 7;
        for (int round = 0; round < 10000; round++) {
            uint64_t r = ap_test_random(&seed);
            run_and_check(pool, &j, r % 40, 1 + (r >> 8) % 5);
            if (r >> 54 == 0)
                usleep(500);
        }
        ap_pool_destroy(&pool);
    }
}

static void pools_come_and_go(void **state)
{
    static job j;
    for (int i = 0; i < 200; i++) {
        ap_pool *pool = NULL;
        assert_ok(ap_pool_create(&pool, 1 + (unsigned)i % 5, err));
        if (i % 3)
            run_and_check(pool, &j, 20, 1);
        ap_pool_destroy(&pool);
    }
    ap_pool *none = NULL;
    ap_pool_destroy(&none);
}

static void sizes_of_teams_are_checked(void **state)
{
    ap_pool *pool = NULL;
    assert_int_equal(ap_pool_create(&pool, AP_POOL_THREADS_MAX + 1, NULL), AP_E_LIMIT);
    assert_null(pool);
    assert_ok(ap_pool_create(&pool, 0, err));
    assert_int_equal(ap_pool_threads(pool), ap_pool_cpus());
    assert_true(ap_pool_cpus() >= 1);
    ap_pool_destroy(&pool);
}

static ap_status create(void *context)
{
    ap_pool *pool = NULL;
    ap_status status = ap_pool_create(&pool, 3, NULL);
    assert_true((status == AP_OK) == (pool != NULL));
    ap_pool_destroy(&pool);
    return status;
}

static void the_end_of_memory_leaves_no_thread(void **state) { ap_test_each_oom(create, NULL); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_piece_runs_exactly_once),
        cmocka_unit_test(many_thousands_of_runs_lose_nothing),
        cmocka_unit_test(pools_come_and_go),
        cmocka_unit_test(sizes_of_teams_are_checked),
        cmocka_unit_test(the_end_of_memory_leaves_no_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
