/* head.c - what the final vectors of a sequence become: one vector, and scores of labels.
 *
 * The mean is a sum over the tokens, ascending, times 1 / count; products are the law's, of one row.
 * So neither threads nor what else was in the batch can change a bit.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <string.h>

#include "model/model.h"

enum { PLANES_FINE = 2 };

void ap_head_pool(const ap_model *m, const ap_kernels *kernels, const float *final, uint32_t count, float *out)
{
    uint32_t width = m->sizes.width;
    ap_assert(count > 0 && m->sizes.pooling != AP_POOLING_NONE);
    const float *one = m->sizes.pooling == AP_POOLING_LAST ? final + (size_t)(count - 1) * width : final;
    memcpy(out, one, width * sizeof *out);
    if (m->sizes.pooling != AP_POOLING_MEAN)
        return;
    for (uint32_t t = 1; t < count; t++)
        kernels->vec.add(out, final + (size_t)t * width, width);
    kernels->vec.scale(out, 1.0f / (float)count, width);
}

/* The 8-bit form of one vector. */
static size_t code_floats(const ap_model *m) { return (ap_acts_bytes(1, m->sizes.width, PLANES_FINE) + 63) / 64 * 16; }

/* And what the layer makes. */
size_t ap_head_work_floats(const ap_model *m) { return code_floats(m) + m->sizes.width; }

static void multiply(const ap_kernels *kernels, ap_pool *pool, const ap_matrix *matrix, const float *x, float *work, float *y)
{
    ap_acts acts = {.tokens = 1, .cols = matrix->cols, .planes = PLANES_FINE, .x = x, .x_stride = matrix->cols};
    ap_acts_set(&acts, kernels, pool, (unsigned char *)work);
    ap_matmul_job job = {.matrix = matrix, .acts = &acts, .y = y, .y_stride = matrix->rows};
    ap_matmul(kernels, pool, &job, 1);
}

void ap_head_score(const ap_model *m, const ap_kernels *kernels, ap_pool *pool, const float *pooled, float *work, float *scores)
{
    const ap_head *head = &m->head;
    const ap_vec_ops *vec = &kernels->vec;
    uint32_t width = m->sizes.width;
    float *h = work + code_floats(m);
    multiply(kernels, pool, &head->layer, pooled, work, h);
    if (head->bias)
        vec->add(h, head->bias, width);
    if (m->arch->is_head_gelu)
        vec->activate[AP_ACTIVATION_GELU](h, h, NULL, width);
    else
        vec->softcap(h, 1, width); /* tanh */
    if (head->norm)
        vec->layer_norm(h, h, head->norm, head->norm_bias, width, m->sizes.norm_epsilon);
    multiply(kernels, pool, &head->scores, h, work, scores);
    if (head->scores_bias)
        vec->add(scores, head->scores_bias, m->sizes.label_count);
}
