/* compare.c - how far our logits are from a reference's, prediction by prediction.
 *
 *     compare OURS.aperto < WINDOWS
 *
 * WINDOWS is a sequence of: u32 token count n, n token ids (i32), u32 row count n - 1, and so many rows of
 * vocabulary-size f32 logits; little-endian.  A window is independent of all others.  Prints one JSON object:
 * mean negative log-likelihood of both, mean Kullback-Leibler divergence from the reference to us, share
 * of equal top choices.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aperto.h"

typedef struct rows {
    float *logits; /* count x vocab */
    uint32_t vocab;
} rows;

static void die(const char *what, const ap_error *err)
{
    fprintf(stderr, "compare: %s: %s\n", what, err ? err->message : "");
    exit(1);
}

static void keep_row(void *context, size_t position, const float *logits, uint32_t count)
{
    rows *r = context;
    memcpy(r->logits + position * r->vocab, logits, (size_t)count * sizeof(float));
}

static ap_engine *open_engine(const char *path, ap_model **model)
{
    ap_error err = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || ap_model_open(model, fd, &err) != AP_OK)
        die(path, &err);
    close(fd);
    ap_engine_options options = {.size = sizeof options, .context_tokens = 512, .step_tokens = 512, .kv_type = AP_KV_F16,
                                 .requests_max = 4};
    ap_engine *engine;
    if (ap_engine_create(&engine, *model, &options, &err) != AP_OK)
        die("engine", &err);
    return engine;
}

/* Log-softmax in place; returns the index of the largest. */
static uint32_t log_softmax(float *z, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (z[i] > z[best])
            best = i;
    double sum = 0, top = z[best];
    for (uint32_t i = 0; i < n; i++)
        sum += exp(z[i] - top);
    float shift = (float)(top + log(sum));
    for (uint32_t i = 0; i < n; i++)
        z[i] -= shift;
    return best;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: compare OURS.aperto < WINDOWS\n");
        return 2;
    }
    ap_model *model;
    ap_engine *engine = open_engine(argv[1], &model);
    uint32_t vocab = ap_model_info_of(model)->vocab_count;
    rows ours = {malloc((size_t)512 * vocab * 4), vocab}, theirs = {malloc((size_t)512 * vocab * 4), vocab};
    int32_t ids[512];
    double nll_ours = 0, nll_theirs = 0, kl = 0, kl_max = 0;
    uint64_t count = 0, same = 0;
    for (uint32_t n, row_count; fread(&n, 4, 1, stdin) == 1;) {
        ap_error err = {0};
        if (n < 2 || n > 512 || fread(ids, 4, n, stdin) != n || fread(&row_count, 4, 1, stdin) != 1)
            die("windows are malformed", NULL);
        if (row_count != n - 1 || fread(theirs.logits, 4ul * vocab, row_count, stdin) != row_count)
            die("rows are malformed", NULL);
        if (ap_engine_logits(engine, ids, n, 0, false, keep_row, &ours, &err) != AP_OK)
            die("logits", &err);
        for (uint32_t i = 0; i + 1 < n; i++) {
            float *p = theirs.logits + (size_t)i * vocab, *q = ours.logits + (size_t)i * vocab;
            same += log_softmax(p, vocab) == log_softmax(q, vocab);
            double divergence = 0;
            for (uint32_t j = 0; j < vocab; j++)
                divergence += exp(p[j]) * (double)(p[j] - q[j]);
            kl += divergence;
            kl_max = divergence > kl_max ? divergence : kl_max;
            nll_ours -= q[ids[i + 1]];
            nll_theirs -= p[ids[i + 1]];
            count++;
        }
    }
    double n = (double)count;
    printf("{\"predictions\": %llu, \"nll_ours\": %.6f, \"nll_reference\": %.6f, \"nll_ratio\": %.6f, "
           "\"kl_mean\": %.8f, \"kl_max\": %.6f, \"top1\": %.6f}\n",
           (unsigned long long)count, nll_ours / n, nll_theirs / n, nll_ours / nll_theirs, kl / n, kl_max, (double)same / n);
    free(ours.logits);
    free(theirs.logits);
    ap_engine_destroy(&engine);
    ap_model_close(&model);
    return count ? 0 : 1;
}
