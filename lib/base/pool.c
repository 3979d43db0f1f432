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

struct ap_pool {
    unsigned threads;
    unsigned started;
    pthread_t *handles;
    ap_pool_fn *fn;
    void *context;
    size_t count, grain;
    _Alignas(64) atomic_uint round;    /* changes when a run begins: helpers wait for that */
    _Alignas(64) atomic_size_t next;   /* first piece not yet taken */
    _Alignas(64) atomic_uint busy;     /* helpers not yet through with this run */
    _Alignas(64) atomic_uint sleepers; /* helpers inside the futex */
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

static void work(ap_pool *pool, unsigned thread)
{
    for (;;) {
        size_t begin = atomic_fetch_add_explicit(&pool->next, pool->grain, memory_order_relaxed);
        if (begin >= pool->count)
            return;
        size_t end = pool->count - begin > pool->grain ? begin + pool->grain : pool->count;
        pool->fn(pool->context, begin, end, thread);
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
        work(pool, start.thread);
        atomic_fetch_sub_explicit(&pool->busy, 1, memory_order_release);
    }
}

static void begin_round(ap_pool *pool)
{
    atomic_fetch_add(&pool->round, 1);
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
    begin_round(pool);
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
    pool->fn = fn;
    pool->context = context;
    pool->count = count;
    pool->grain = grain;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->busy, pool->started, memory_order_relaxed);
    begin_round(pool);
    work(pool, 0);
    for (int turns = 0; atomic_load_explicit(&pool->busy, memory_order_acquire) != 0;) {
        /* A helper that lost its CPU to another program is given ours. */
        if (++turns > SPIN_TURNS)
            sched_yield();
        else
            cpu_relax();
    }
}
