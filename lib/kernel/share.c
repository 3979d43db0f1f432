/* share.c - how a product is shared among the threads of a pool.
 *
 * Pieces are groups of four panels: 64 rows are 256 bytes of a token's output, so
 * two threads never write one cache line (given an aligned y), and four panels
 * are what the kernels stream at once.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kernel/kernel.h"

enum { GROUP_PANELS = 4 };

typedef struct product_run {
    const ap_kernels *kernels;
    const ap_matmul_job *jobs;
    uint32_t job_count;
} product_run;

typedef struct quantize_run {
    const ap_kernels *kernels;
    const ap_acts *acts;
    ap_act_slab *slabs;
} quantize_run;

bool ap_matmul_needs_codes(ap_type type)
{
    return type != AP_TYPE_F32 && type != AP_TYPE_F16 && type != AP_TYPE_BF16;
}

static size_t slab_count(uint32_t cols) { return cols / AP_SUPER_COLS + (cols % AP_SUPER_COLS != 0); }

size_t ap_acts_bytes(uint32_t tokens, uint32_t cols) { return tokens * slab_count(cols) * sizeof(ap_act_slab); }

static void quantize_tokens(void *context, size_t begin, size_t end, unsigned thread)
{
    const quantize_run *run = context;
    for (size_t t = begin; t < end; t++)
        run->kernels->matmul.quantize(run->acts->x + t * run->acts->x_stride, run->acts->cols, run->slabs + t,
                                      run->acts->tokens);
}

void ap_acts_set(ap_acts *acts, const ap_kernels *kernels, ap_pool *pool, const float *x, size_t x_stride,
                 uint32_t tokens, uint32_t cols, void *memory)
{
    *acts = (ap_acts){.tokens = tokens, .cols = cols, .x = x, .x_stride = x_stride, .slabs = memory};
    if (!memory)
        return;
    quantize_run run = {kernels, acts, memory};
    /* A few thousand floats are done before another thread has woken. */
    if (!pool || (size_t)tokens * cols < 16384)
        quantize_tokens(&run, 0, tokens, 0);
    else
        ap_pool_run(pool, tokens, 4, quantize_tokens, &run);
}

static uint32_t group_count(const ap_matmul_job *job)
{
    uint32_t panels = ap_panel_count(job->matrix->rows);
    return panels / GROUP_PANELS + (panels % GROUP_PANELS != 0);
}

/* Groups of all jobs, numbered through. */
static void multiply_groups(void *context, size_t begin, size_t end, unsigned thread)
{
    const product_run *run = context;
    size_t first = 0;
    for (uint32_t i = 0; i < run->job_count && first < end; i++) {
        const ap_matmul_job *job = &run->jobs[i];
        size_t groups = group_count(job);
        size_t from = begin > first ? begin - first : 0, to = end - first < groups ? end - first : groups;
        if (from < to) {
            size_t panels = ap_panel_count(job->matrix->rows);
            size_t last = to * GROUP_PANELS < panels ? to * GROUP_PANELS : panels;
            run->kernels->matmul.product[job->matrix->type](job, (uint32_t)(from * GROUP_PANELS), (uint32_t)last);
        }
        first += groups;
    }
}

void ap_matmul(const ap_kernels *kernels, ap_pool *pool, const ap_matmul_job *jobs, uint32_t job_count)
{
    product_run run = {kernels, jobs, job_count};
    size_t groups = 0;
    for (uint32_t i = 0; i < job_count; i++) {
        ap_assert(jobs[i].acts->cols == jobs[i].matrix->cols);
        groups += group_count(&jobs[i]);
    }
    if (!pool)
        multiply_groups(&run, 0, groups, 0);
    else
        ap_pool_run(pool, groups, 1, multiply_groups, &run);
}
