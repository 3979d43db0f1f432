/* share.c - how a product is shared among the threads of a pool.
 *
 * Panels go in groups of four: 64 rows are 256 bytes of a token's output, so two
 * threads never write one cache line (given an aligned y), and four panels are
 * what the kernels stream at once.  Few tokens: a piece is a run of groups, read
 * once from memory.  Many: a group for about 128 tokens, which is enough to pay for
 * unpacking and small enough for the last pieces to end together.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kernel/kernel.h"

enum { GROUP_PANELS = 4, PIECE_TOKENS = 128, FEW_TOKENS = 64 };

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

size_t ap_acts_bytes(uint32_t tokens, uint32_t cols, uint32_t planes)
{
    return (size_t)tokens * planes * slab_count(cols) * sizeof(ap_act_slab);
}

static void quantize_tokens(void *context, size_t begin, size_t end, unsigned thread)
{
    const quantize_run *run = context;
    const ap_acts *acts = run->acts;
    for (size_t t = begin; t < end; t++)
        run->kernels->matmul.quantize(acts->x + t * acts->x_stride, acts->cols, acts->planes,
                                      run->slabs + t * acts->planes, (size_t)acts->tokens * acts->planes);
}

void ap_acts_set(ap_acts *acts, const ap_kernels *kernels, ap_pool *pool, void *memory)
{
    acts->slabs = memory;
    if (!memory)
        return;
    quantize_run run = {kernels, acts, memory};
    /* A few thousand floats are done before another thread has woken. */
    if (!pool || (size_t)acts->tokens * acts->cols < 16384)
        quantize_tokens(&run, 0, acts->tokens, 0);
    else
        ap_pool_run(pool, acts->tokens, 4, quantize_tokens, &run);
}

static uint32_t group_count(const ap_matmul_job *job)
{
    uint32_t panels = ap_panel_count(job->matrix->rows);
    return panels / GROUP_PANELS + (panels % GROUP_PANELS != 0);
}

/* What a token costs: one pass per plane, and the floats have none. */
static uint32_t planes_of(const ap_matmul_job *job)
{
    return ap_matmul_needs_codes(job->matrix->type) ? job->acts->planes : 1;
}

/* Stretches of tokens, with planes each a multiple of 12 but the last: kernels take 3, 4 or 6 at a time. */
static uint32_t stretch_tokens(const ap_matmul_job *job)
{
    uint32_t planes = planes_of(job), records = job->acts->tokens * planes;
    if (records <= FEW_TOKENS)
        return job->acts->tokens;
    uint32_t stretches = (records - 1) / PIECE_TOKENS + 1;
    return ((records - 1) / stretches + 12) / 12 * 12 / planes;
}

static uint32_t stretch_count(const ap_matmul_job *job)
{
    return job->acts->tokens ? (job->acts->tokens - 1) / stretch_tokens(job) + 1 : 0;
}

/* Pieces of all jobs, numbered through: the stretches of the first group, then of the next. */
static void multiply_pieces(void *context, size_t begin, size_t end, unsigned thread)
{
    const product_run *run = context;
    size_t first = 0;
    for (uint32_t i = 0; i < run->job_count && first < end; i++) {
        const ap_matmul_job *job = &run->jobs[i];
        ap_matmul_fn *product = run->kernels->matmul.product[job->matrix->type];
        uint32_t tokens = job->acts->tokens, panels = ap_panel_count(job->matrix->rows);
        uint32_t stretches = stretch_count(job), length = tokens ? stretch_tokens(job) : 0;
        size_t pieces = (size_t)group_count(job) * stretches;
        size_t from = begin > first ? begin - first : 0, to = end - first < pieces ? end - first : pieces;
        while (from < to) {
            /* With one stretch all groups are one call, so that reading ahead crosses from group to group. */
            size_t group = from / stretches, stretch = from % stretches;
            size_t last = stretches == 1 ? to : group + 1;
            ap_matmul_part part = {.panel_begin = (uint32_t)group * GROUP_PANELS,
                                   .token_begin = (uint32_t)stretch * length};
            part.panel_end = last * GROUP_PANELS < panels ? (uint32_t)last * GROUP_PANELS : panels;
            part.token_end = tokens - part.token_begin < length ? tokens : part.token_begin + length;
            product(job, part);
            from = stretches == 1 ? to : from + 1;
        }
        first += pieces;
    }
}

void ap_matmul(const ap_kernels *kernels, ap_pool *pool, const ap_matmul_job *jobs, uint32_t job_count)
{
    product_run run = {kernels, jobs, job_count};
    size_t pieces = 0;
    bool are_few = true;
    for (uint32_t i = 0; i < job_count; i++) {
        ap_assert(jobs[i].acts->cols == jobs[i].matrix->cols);
        pieces += (size_t)group_count(&jobs[i]) * stretch_count(&jobs[i]);
        are_few = are_few && jobs[i].acts->tokens * planes_of(&jobs[i]) <= FEW_TOKENS;
    }
    if (!pool) {
        multiply_pieces(&run, 0, pieces, 0);
        return;
    }
    /* Long runs of memory for few tokens, yet several per thread: a thread may be held up. */
    size_t grain = are_few ? pieces / (4 * (size_t)ap_pool_threads(pool)) : 1;
    ap_pool_run(pool, pieces, grain < 1 ? 1 : grain > 16 ? 16 : grain, multiply_pieces, &run);
}
