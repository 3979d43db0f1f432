/* pool.h - a team of threads that runs one function at a time over many pieces.
 *
 *     ap_pool_run(pool, panel_count, 4, multiply_panels, &job);
 *
 * calls multiply_panels(&job, begin, end, thread) for pieces of four panels until all
 * are done and returns when the last one is.  Which thread runs which piece is
 * not fixed, so a piece may write only what belongs to it; that is also why the
 * number of threads never changes a result.
 *
 * The caller is thread 0 of the team.  Helpers spin for some microseconds after a
 * run (a forward pass starts hundreds of runs in a row) and sleep on a futex
 * after that, so an idle engine costs nothing.  A pool belongs to one caller at
 * a time.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_BASE_POOL_H
#define AP_BASE_POOL_H

#include "base/error.h"

enum { AP_POOL_THREADS_MAX = 256 };

typedef struct ap_pool ap_pool;
typedef void ap_pool_fn(void *context, size_t begin, size_t end, unsigned thread);

/* threads >= 1, the caller included; 0 means one per available CPU. */
ap_status ap_pool_create(ap_pool **out, unsigned threads, ap_error *err);
void ap_pool_destroy(ap_pool **pool);
unsigned ap_pool_threads(const ap_pool *pool);
/* Runs fn over [0, count) in pieces of `grain` (the last may be shorter). */
void ap_pool_run(ap_pool *pool, size_t count, size_t grain, ap_pool_fn *fn, void *context);
/* CPUs this process may run on. */
unsigned ap_pool_cpus(void);

#endif
