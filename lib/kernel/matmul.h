/* matmul.h - products of packed weights with the activations of some tokens.
 *
 * y[token][row] = sum over the columns of w[row][col] * x[token][col].
 *
 * Block formats multiply 8-bit activations: each 32 consecutive floats of a token
 * become codes and one scale (docs/law.md, section 2), kept in records of 256
 * columns, all tokens of the first 256 columns, then all of the next: a piece of
 * a large product then reads one stretch of memory.  With two *planes* a token has a
 * second record beside the first, the codes of what the first left over, and its
 * product is the sum of both chains: 15 bits where 8 cost too much.  Float formats
 * multiply the floats themselves.  An ap_acts carries both, so matrices of different types
 * share it (q, k and v; gate and up).
 *
 * The chain of one (row, token) never depends on how many tokens there are, how
 * panels are split among threads, or on the level.
 *
 *     size_t bytes = ap_acts_bytes(tokens, cols, 1);
 *     ap_acts acts = {.tokens = tokens, .cols = cols, .planes = 1, .x = x, .x_stride = x_stride};
 *     ap_acts_set(&acts, kernels, pool, memory);
 *     ap_matmul_job jobs[3] = {{&q, &acts, yq, q_stride}, {&k, …}, {&v, …}};
 *     ap_matmul(kernels, pool, jobs, 3);     // one start of the pool for all three
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_KERNEL_MATMUL_H
#define AP_KERNEL_MATMUL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"
#include "quant/block.h"
#include "quant/quant.h"

/* 256 columns of one token; what lies beyond the last column is zero. */
typedef struct ap_act_slab {
    int8_t code[AP_SUPER_COLS]; /* -127 to 127 */
    float d[8];                 /* scale of each 32 columns; NaN if one of them was NaN or infinite */
    int32_t sum[8];             /* of the 32 codes */
    float sum_f[8];             /* the same as a float */
    int16_t half_sum[16];       /* of 16 codes each */
} ap_act_slab;
static_assert(sizeof(ap_act_slab) == 384, "six cache lines");

typedef struct ap_acts {
    uint32_t tokens, cols;
    uint32_t planes;  /* 1 or 2: records per token and slab */
    const float *x;   /* token t at x + t * x_stride */
    size_t x_stride;  /* in floats */
    const ap_act_slab *slabs; /* plane p of slab s of token t at slabs[(s * tokens + t) * planes + p]; NULL when only
                                 floats were asked for */
} ap_acts;

typedef struct ap_matmul_job {
    const ap_matrix *matrix;
    const ap_acts *acts; /* acts->cols == matrix->cols */
    float *y;            /* token t at y + t * y_stride, matrix->rows floats each; need not be aligned */
    size_t y_stride;     /* in floats */
} ap_matmul_job;

/* Codes and scales of one token: plane p of slab s is written to slabs[s * slab_stride + p]. */
typedef void ap_quantize_fn(const float *x, uint32_t cols, uint32_t planes, ap_act_slab *slabs, size_t slab_stride);
/* A rectangle of the output: the rows of some panels, for some tokens. */
typedef struct ap_matmul_part {
    uint32_t panel_begin, panel_end;
    uint32_t token_begin, token_end;
} ap_matmul_part;
typedef void ap_matmul_fn(const ap_matmul_job *job, ap_matmul_part part);

enum { AP_MATMUL_TYPES = 40 };

/* Types whose products read codes: X(type, name in functions, the chain of docs/law.md). */
#define AP_CODE_TYPES(X)        \
    X(Q4_0, q4_0, chain_32)     \
    X(Q4_1, q4_1, chain_32_min) \
    X(Q5_0, q5_0, chain_32)     \
    X(Q5_1, q5_1, chain_32_min) \
    X(Q8_0, q8_0, chain_32)     \
    X(Q4_K, q4_k, chain_32_min) \
    X(Q5_K, q5_k, chain_32_min) \
    X(Q6_K, q6_k, chain_16)     \
    X(Q2_K, q2_k, chain_16_min) \
    X(Q3_K, q3_k, chain_16)     \
    X(Q8_K, q8_k, chain_32)     \
    X(IQ4_NL, iq4_nl, chain_32) \
    X(IQ4_XS, iq4_xs, chain_32) \
    X(MXFP4, mxfp4, chain_32)

typedef struct ap_matmul_ops {
    ap_quantize_fn *quantize;
    ap_matmul_fn *product[AP_MATMUL_TYPES]; /* by ap_type; NULL where ap_quant_supports says no */
} ap_matmul_ops;

struct ap_kernels;

/* Do products with this type read codes (and not floats)? */
bool ap_matmul_needs_codes(ap_type type);
/* Memory that ap_acts_set wants for codes; a multiple of 64. */
size_t ap_acts_bytes(uint32_t tokens, uint32_t cols, uint32_t planes);
/* The caller has filled tokens, cols and planes, x (borrowed) and x_stride; fills `memory` (64-byte aligned,
 * ap_acts_bytes large, borrowed) with the codes; memory NULL: floats only.  pool may be NULL. */
void ap_acts_set(ap_acts *acts, const struct ap_kernels *kernels, ap_pool *pool, void *memory);
/* Runs all jobs in one run of the pool (NULL: this thread alone). */
void ap_matmul(const struct ap_kernels *kernels, ap_pool *pool, const ap_matmul_job *jobs, uint32_t job_count);

#endif
