/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/ceiling.h"

#include "base/clock.h"
#include "kernel/kernel.h"
#include "kernel/level.h"

enum { PASSES = 10, PASS_MS = 100, PIECES = 8 /* of a pass, for each thread: none waits long for another */ };

/* What the compiler makes of it, like the products of this level. */
static ap_dots dots(uint32_t rounds)
{
    enum { CODES = 64, SUMS = 16 };
    int8_t x[CODES], y[CODES];
    int32_t sums[SUMS] = {0};
    for (int i = 0; i < CODES; i++) {
        x[i] = AP_DOTS_X;
        y[i] = AP_DOTS_Y;
    }
    for (uint32_t r = 0; r < rounds; r++) {
        __asm__ volatile("" : : "r"(x), "r"(y) : "memory"); /* the codes may be others now */
        for (int i = 0; i < SUMS; i++)
            for (int k = 0; k < CODES / SUMS; k++)
                sums[i] += x[k * SUMS + i] * y[k * SUMS + i];
    }
    ap_dots out = {.products = (uint64_t)rounds * CODES};
    for (int i = 0; i < SUMS; i++)
        out.sum += (uint32_t)sums[i];
    return out;
}

void ap_ceiling_install_plain(ap_kernels *kernels) { kernels->ceiling.dots = dots; }

typedef struct pass {
    ap_dots_fn *dots;
    uint32_t rounds;
    uint32_t sums[AP_POOL_THREADS_MAX];
} pass;

static void run_piece(void *context, size_t begin, size_t end, unsigned thread)
{
    pass *p = context;
    for (; begin < end; begin++)
        p->sums[thread] += p->dots(p->rounds).sum;
}

double ap_ceiling_measure(const ap_kernels *kernels, ap_pool *pool)
{
    pass p = {.dots = kernels->ceiling.dots, .rounds = 64};
    uint64_t best_ns = UINT64_MAX, ns = 0;
    /* How many rounds a piece of a pass has. */
    for (; ns < (uint64_t)PASS_MS * 1000000 / PIECES / 2; p.rounds *= 2) {
        uint64_t start = ap_clock_ns();
        (void)p.dots(2 * p.rounds);
        ns = ap_clock_ns() - start;
    }
    size_t pieces = (size_t)PIECES * ap_pool_threads(pool);
    for (int i = 0; i < PASSES; i++) {
        uint64_t start = ap_clock_ns();
        ap_pool_run(pool, pieces, 1, run_piece, &p);
        ns = ap_clock_ns() - start;
        best_ns = ns < best_ns ? ns : best_ns;
    }
    volatile uint32_t sink = p.sums[0]; /* so that nothing is left out */
    (void)sink;
    return 2e9 * (double)p.dots(1).products * p.rounds * (double)pieces / (double)best_ns;
}
