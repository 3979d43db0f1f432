/* measure.c - perplexity of a text, and the distance of a model from its parent, prediction by prediction.
 *
 * Under the law as everything else: exponentials are the kernels', sums are in f64 by ascending index, so the figures have the
 * same bits on every machine.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "engine/engine.h"

typedef struct measuring {
    const ap_kernels *kernels;
    float *exps; /* [2][vocab_count]: of the row at hand and of its parent's */
    uint32_t vocab_count;
    const int32_t *ids; /* of the chunk */
    size_t count;
    float *parent_rows; /* [chunk_tokens - 1][vocab_count], or NULL */
    bool is_parent;     /* whose rows come now */
    float *divergences; /* [predictions] */
    uint64_t done, same;
    double nll, nll_squares, parent_nll, divergence;
} measuring;

/* What a row of logits foretells. */
typedef struct forecast {
    const float *logits, *exps; /* exp(logit - largest) */
    double sum, log_sum;        /* of exps; log of the sum of exp(logit), NaN if a logit is NaN or above all floats */
    uint32_t top;               /* the likeliest, the lowest of equals */
} forecast;

static forecast look(const measuring *m, const float *logits, float *exps)
{
    forecast f = {.logits = logits, .exps = exps};
    float largest = m->kernels->vec.largest(logits, m->vocab_count);
    (void)m->kernels->vec.exp_sum(exps, logits, m->vocab_count, largest);
    bool is_sound = true;
    for (uint32_t i = 0; i < m->vocab_count; i++) {
        f.sum += (double)exps[i];
        is_sound = is_sound && logits[i] <= FLT_MAX;
    }
    while (f.top + 1 < m->vocab_count && logits[f.top] < largest)
        f.top++;
    f.log_sum = is_sound && f.sum > 0 ? (double)largest + ap_log_double(f.sum) : (double)NAN;
    return f;
}

/* Of q from p, in nats: the sum of p (log p - log q). */
static double divergence_of(const forecast *p, const forecast *q, uint32_t count)
{
    double sum = 0;
    for (uint32_t i = 0; i < count; i++)
        if (p->exps[i] > 0) /* else logits may be infinite in both */
            sum += (double)p->exps[i] * ((double)p->logits[i] - (double)q->logits[i]);
    double divergence = sum / p->sum - (p->log_sum - q->log_sum);
    return divergence < 0 ? 0 : divergence; /* below 0 it is rounding; NaN stays */
}

static void take_row(void *context, size_t position, const float *logits, uint32_t count)
{
    measuring *m = context;
    if (position + 1 >= m->count)
        return; /* it foretells what is not there */
    float *parent = m->parent_rows ? m->parent_rows + position * m->vocab_count : NULL;
    if (m->is_parent) {
        memcpy(parent, logits, count * sizeof *logits);
        return;
    }
    int32_t next = m->ids[position + 1];
    forecast own = look(m, logits, m->exps);
    double loss = own.log_sum - (double)logits[next];
    m->nll += loss;
    m->nll_squares += loss * loss;
    if (parent) {
        forecast other = look(m, parent, m->exps + count);
        double divergence = divergence_of(&other, &own, count);
        m->parent_nll += other.log_sum - (double)parent[next];
        m->divergence += divergence;
        m->divergences[m->done] = (float)divergence;
        m->same += own.top == other.top;
    }
    m->done++;
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void sum_up(measuring *m, ap_measure *out)
{
    double n = (double)m->done, mean = m->nll / n, variance = m->nll_squares / n - mean * mean;
    *out = (ap_measure){.predictions = m->done, .nll = mean};
    out->nll_error = m->done > 1 && variance > 0 ? sqrt(variance / (n - 1)) : 0;
    if (!m->divergences)
        return;
    qsort(m->divergences, (size_t)m->done, sizeof *m->divergences, by_size);
    out->parent_nll = m->parent_nll / n;
    out->kl_mean = m->divergence / n;
    out->kl_999 = (double)m->divergences[(size_t)ceil(0.999 * n) - 1];
    out->top1 = (double)m->same / n;
}

static ap_status run_chunks(measuring *m, ap_engine *e, ap_engine *parent, const int32_t *ids, size_t count, const ap_measure_options *o,
                            ap_error *err)
{
    for (size_t at = 0; count - at > 1;) {
        m->ids = ids + at;
        m->count = count - at < o->chunk_tokens ? count - at : o->chunk_tokens;
        m->is_parent = true;
        if (parent)
            AP_TRY(ap_engine_logits(parent, m->ids, m->count, 0, false, take_row, m, err));
        m->is_parent = false;
        AP_TRY(ap_engine_logits(e, m->ids, m->count, 0, false, take_row, m, err));
        at += m->count;
        if (o->progress)
            o->progress(o->progress_context, at, count);
        if (!isfinite(m->nll) || !isfinite(m->parent_nll) || !isfinite(m->divergence))
            return ap_fail(err, AP_E_NUMERIC, "a model's logits are not finite, in the chunk that begins at token %zu", at - m->count);
    }
    return AP_OK;
}

ap_status ap_engine_measure(ap_engine *e, ap_engine *parent, const int32_t *ids, size_t count, const ap_measure_options *o, ap_measure *out,
                            ap_error *err)
{
    measuring m = {.kernels = ap_engine_kernels(e), .vocab_count = ap_engine_model(e)->sizes.vocab_count};
    if (o->size != sizeof *o)
        return ap_fail(err, AP_E_ARG, "the options have %zu bytes, this library expects %zu", o->size, sizeof *o);
    if (count < 2 || o->chunk_tokens < 2)
        return ap_fail(err, AP_E_ARG, "%zu tokens in chunks of %u: nothing is foretold", count, o->chunk_tokens);
    if (parent && ap_engine_model(parent)->sizes.vocab_count != m.vocab_count)
        return ap_fail(err, AP_E_ARG, "the models have vocabularies of %u and %u tokens: they cannot be compared", m.vocab_count,
                       ap_engine_model(parent)->sizes.vocab_count);
    size_t rows = (count < o->chunk_tokens ? count : o->chunk_tokens) - 1;
    if (parent && o->memory_bytes_max && (uint64_t)rows * m.vocab_count * sizeof(float) > o->memory_bytes_max)
        return ap_fail(err, AP_E_NOMEM, "the logits of one chunk take %" PRIu64 " MiB, %" PRIu64 " MiB are free",
                       ((uint64_t)rows * m.vocab_count * sizeof(float)) >> 20, o->memory_bytes_max >> 20);
    m.exps = ap_alloc_array(2 * (size_t)m.vocab_count, sizeof *m.exps);
    if (parent) {
        m.parent_rows = ap_alloc_array(rows * m.vocab_count, sizeof *m.parent_rows);
        m.divergences = ap_alloc_array(count, sizeof *m.divergences);
    }
    ap_status status = AP_OK;
    if (!m.exps || (parent && (!m.parent_rows || !m.divergences)))
        status = ap_fail_nomem(err, rows * m.vocab_count * sizeof *m.parent_rows);
    if (status == AP_OK)
        status = run_chunks(&m, e, parent, ids, count, o, err);
    if (status == AP_OK)
        sum_up(&m, out);
    ap_free(m.exps);
    ap_free(m.parent_rows);
    ap_free(m.divergences);
    return status;
}
