/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"

/* About 20 microseconds of looking before sleeping: the gap between two runs of
 * one forward pass is shorter, a futex wake takes longer. */
enum { SPIN_TURNS = 4000 };

/* A ticket is the number of the run in the high half and the next piece not yet taken in
 * the low half.  A helper that comes late, because its CPU was busy with another
 * program, finds another run or no piece left and does nothing; the caller waits only for
 * pieces that were taken, never for helpers that did not come. */
enum { CLOSED = 0xffffffff };

struct ap_pool {
    unsigned threads;
    unsigned started;
    pthread_t *handles;
    /* The job: written while the ticket is closed, read by who has taken a piece. */
    ap_pool_fn *fn;
    void *context;
    size_t count, grain;
    atomic_uint pieces;
    _Alignas(64) atomic_uint round;         /* the number of the run; what helpers wait for */
    _Alignas(64) atomic_uint_fast64_t ticket;
    _Alignas(64) atomic_uint done;          /* pieces of this run that are finished */
    _Alignas(64) atomic_uint sleepers;      /* helpers inside the futex */
    atomic_bool stopping;
};

typedef struct helper_start {
    ap_pool *pool;
    unsigned thread;
} helper_start;

static void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Takes pieces of run `round` until there are none. */
static void work(ap_pool *pool, unsigned round, unsigned thread)
{
    uint_fast64_t ticket = atomic_load(&pool->ticket);
    for (;;) {
        unsigned piece = (unsigned)(ticket & CLOSED);
        if ((unsigned)(ticket >> 32) != round || piece >= atomic_load_explicit(&pool->pieces, memory_order_relaxed))
            return;
        if (!atomic_compare_exchange_weak(&pool->ticket, &ticket, ticket + 1))
            continue;
        size_t begin = piece * pool->grain;
        size_t end = pool->count - begin > pool->grain ? begin + pool->grain : pool->count;
        pool->fn(pool->context, begin, end, thread);
        atomic_fetch_add_explicit(&pool->done, 1, memory_order_release);
        ticket = atomic_load(&pool->ticket);
    }
}

static void wait_for_round(ap_pool *pool, unsigned seen)
{
    for (int i = 0; i < SPIN_TURNS; i++) {
        if (atomic_load_explicit(&pool->round, memory_order_acquire) != seen)
            return;
        cpu_relax();
    }
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(&pool->round) == seen)
        syscall(SYS_futex, &pool->round, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_fetch_sub(&pool->sleepers, 1);
}

static void *helper_main(void *argument)
{
    helper_start start = *(helper_start *)argument;
    ap_free(argument);
    ap_pool *pool = start.pool;
    unsigned seen = 0;
    for (;;) {
        wait_for_round(pool, seen);
        seen = atomic_load_explicit(&pool->round, memory_order_acquire);
        if (atomic_load(&pool->stopping))
            return NULL;
        work(pool, seen, start.thread);
    }
}

static void wake_helpers(ap_pool *pool, unsigned round)
{
    atomic_store(&pool->round, round);
    if (atomic_load(&pool->sleepers))
        syscall(SYS_futex, &pool->round, FUTEX_WAKE_PRIVATE, 1 << 30, NULL, NULL, 0);
}

unsigned ap_pool_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        int n = CPU_COUNT(&set);
        if (n > 0)
            return n < AP_POOL_THREADS_MAX ? (unsigned)n : AP_POOL_THREADS_MAX;
    }
    return 1;
}

ap_status ap_pool_create(ap_pool **out, unsigned threads, ap_error *err)
{
    *out = NULL;
    if (threads == 0)
        threads = ap_pool_cpus();
    if (threads > AP_POOL_THREADS_MAX)
        return ap_fail(err, AP_E_LIMIT, "%u threads are more than the limit of %d", threads, AP_POOL_THREADS_MAX);
    ap_pool *pool = ap_alloc_aligned(sizeof *pool);
    if (!pool)
        return ap_fail_nomem(err, sizeof *pool);
    *pool = (ap_pool){.threads = threads};
    pool->handles = ap_alloc_array(threads, sizeof *pool->handles);
    if (!pool->handles) {
        ap_free(pool);
        return ap_fail_nomem(err, threads * sizeof *pool->handles);
    }
    for (unsigned i = 1; i < threads; i++) {
        helper_start *start = ap_alloc(sizeof *start);
        if (start)
            *start = (helper_start){pool, i};
        if (!start || pthread_create(&pool->handles[pool->started], NULL, helper_main, start) != 0) {
            ap_free(start);
            ap_pool_destroy(&pool);
            return ap_fail(err, AP_E_NOMEM, "thread %u of %u could not be started", i + 1, threads);
        }
        pool->started++;
    }
    *out = pool;
    return AP_OK;
}

void ap_pool_destroy(ap_pool **pool_pointer)
{
    ap_pool *pool = *pool_pointer;
    *pool_pointer = NULL;
    if (!pool)
        return;
    atomic_store(&pool->stopping, true);
    wake_helpers(pool, atomic_load(&pool->round) + 1);
    for (unsigned i = 0; i < pool->started; i++)
        pthread_join(pool->handles[i], NULL);
    ap_free(pool->handles);
    ap_free(pool);
}

unsigned ap_pool_threads(const ap_pool *pool) { return pool->threads; }

void ap_pool_run(ap_pool *pool, size_t count, size_t grain, ap_pool_fn *fn, void *context)
{
    if (count == 0)
        return;
    if (pool->threads == 1 || count <= grain) {
        fn(context, 0, count, 0);
        return;
    }
    size_t pieces = count / grain + (count % grain != 0);
    if (pieces >= CLOSED) { /* far beyond any use: fewer, larger pieces */
        grain = count / 65536 + 1;
        pieces = count / grain + (count % grain != 0);
    }
    unsigned round = atomic_load_explicit(&pool->round, memory_order_relaxed) + 1;
    atomic_store(&pool->ticket, (uint_fast64_t)round << 32 | CLOSED);
    pool->fn = fn;
    pool->context = context;
    pool->count = count;
    pool->grain = grain;
    atomic_store_explicit(&pool->pieces, (unsigned)pieces, memory_order_relaxed);
    atomic_store_explicit(&pool->done, 0, memory_order_relaxed);
    atomic_store(&pool->ticket, (uint_fast64_t)round << 32);
    wake_helpers(pool, round);
    work(pool, round, 0);
    for (int turns = 0; atomic_load_explicit(&pool->done, memory_order_acquire) != pieces;) {
        /* A helper that lost its CPU in the middle of a piece is given ours. */
        if (++turns > SPIN_TURNS)
            sched_yield();
        else
            cpu_relax();
    }
}
