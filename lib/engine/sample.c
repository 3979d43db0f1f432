/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

/* What a random number is for; part of its counter. */
enum { PURPOSE_TOKEN = 0 };

/* How many of the likeliest are put in order at first; nearly every top-p ends within. */
enum { SORT_FIRST = 256 };

struct ap_sampler {
    const ap_kernels *kernels;
    uint32_t vocab_count;
    float *z;        /* logits on their way to a draw */
    float *e;        /* exp(z - largest) */
    uint64_t *order; /* keys of candidates, see key_of */
    uint32_t *seen;  /* how often a token occurs in the answer, + ANY if anywhere; all 0 between draws */
};

size_t ap_sampler_bytes(uint32_t vocab_count)
{
    const ap_sampler *s = NULL;
    return (sizeof *s->z + sizeof *s->e + sizeof *s->order + sizeof *s->seen) * vocab_count;
}

ap_status ap_sampler_create(ap_sampler **out, const ap_kernels *kernels, uint32_t vocab_count, ap_error *err)
{
    *out = NULL;
    ap_sampler *s = ap_alloc_zero(1, sizeof *s);
    if (!s)
        return ap_fail_nomem(err, sizeof *s);
    *s = (ap_sampler){.kernels = kernels, .vocab_count = vocab_count};
    s->z = ap_alloc_array(vocab_count, sizeof *s->z);
    s->e = ap_alloc_array(vocab_count, sizeof *s->e);
    s->order = ap_alloc_array(vocab_count, sizeof *s->order);
    s->seen = ap_alloc_zero(vocab_count, sizeof *s->seen);
    if (!s->z || !s->e || !s->order || !s->seen) {
        ap_sampler_destroy(&s);
        return ap_fail_nomem(err, vocab_count * sizeof *s->order);
    }
    *out = s;
    return AP_OK;
}

void ap_sampler_destroy(ap_sampler **sampler)
{
    if (*sampler) {
        ap_free((*sampler)->z);
        ap_free((*sampler)->e);
        ap_free((*sampler)->order);
        ap_free((*sampler)->seen);
        ap_free(*sampler);
    }
    *sampler = NULL;
}

/* ---- Order ---- */

/* A number that sorts like "larger value first, then lower id": the bits of a float, made
 * monotone, above the complement of the id. */
static uint64_t key_of(float value, uint32_t id)
{
    uint32_t bits;
    value += 0.0f; /* the two zeros are equal, so they tie */
    memcpy(&bits, &value, sizeof bits);
    bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return (uint64_t)bits << 32 | (uint32_t)~id;
}

static uint32_t id_of(uint64_t key) { return ~(uint32_t)key; }

static int descending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

static void sift_down(uint64_t *heap, uint32_t count, uint32_t i)
{
    for (;;) {
        uint32_t least = i, left = 2 * i + 1, right = left + 1;
        if (left < count && heap[left] < heap[least])
            least = left;
        if (right < count && heap[right] < heap[least])
            least = right;
        if (least == i)
            return;
        uint64_t swap = heap[i];
        heap[i] = heap[least];
        heap[least] = swap;
        i = least;
    }
}

/* Brings the `count` largest keys of order[0, n) to the front, in descending order.  A heap
 * of the best so far has the least on top, so most keys cost one comparison.  Keys differ, so
 * there is one answer however it is found. */
static void sort_largest(uint64_t *order, uint32_t n, uint32_t count)
{
    for (uint32_t i = count / 2; i-- > 0 && count < n;)
        sift_down(order, count, i);
    for (uint32_t i = count; i < n; i++)
        if (order[i] > order[0]) {
            uint64_t swap = order[0];
            order[0] = order[i];
            order[i] = swap;
            sift_down(order, count, 0);
        }
    qsort(order, count, sizeof *order, descending);
}

/* ---- Steps ---- */

static void add_biases(float *z, const ap_logit_bias *biases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        z[biases[i].token] += biases[i].bias;
}

/* One visit per token of the text, whatever it holds; `seen` is all zeros again afterwards. */
static void penalise(ap_sampler *s, const ap_sampling *p, const ap_sample_history *h)
{
    enum { ANYWHERE = 1u << 31 };
    bool repetition = p->repetition_penalty != 1, counted = p->frequency_penalty != 0 || p->presence_penalty != 0;
    if (!repetition && !counted)
        return;
    for (uint32_t i = repetition ? 0 : h->prompt_count; i < h->known; i++) {
        uint32_t *seen = &s->seen[h->tokens[i]];
        *seen = (*seen | ANYWHERE) + (i >= h->prompt_count);
    }
    for (uint32_t i = 0; i < h->known; i++) {
        int32_t token = h->tokens[i];
        uint32_t seen = s->seen[token];
        s->seen[token] = 0;
        if (!seen)
            continue;
        float *z = &s->z[token];
        if (repetition)
            *z = *z > 0 ? *z / p->repetition_penalty : *z * p->repetition_penalty;
        uint32_t count = seen & ~ANYWHERE;
        if (count)
            *z -= (float)count * p->frequency_penalty + p->presence_penalty;
    }
}

static int32_t greatest(const float *z, uint32_t n, float largest)
{
    for (uint32_t i = 0; i < n; i++)
        if (z[i] == largest)
            return (int32_t)i;
    return -1;
}

static float random_number(const ap_sampling *p, uint32_t position)
{
    uint32_t counter[4] = {p->choice, position, PURPOSE_TOKEN, 0}, bits[4];
    ap_philox(p->seed, counter, bits);
    return ap_uniform(bits[0]);
}

/* Nothing is cut off: a walk in order of ids over doubles. */
static int32_t draw_from_all(const ap_sampler *s, double share)
{
    double total = 0, sum = 0;
    for (uint32_t i = 0; i < s->vocab_count; i++)
        total += (double)s->e[i];
    int32_t last = -1;
    for (uint32_t i = 0; i < s->vocab_count; i++) {
        if (s->e[i] == 0)
            continue;
        sum += (double)s->e[i];
        last = (int32_t)i;
        if (sum > share * total)
            return last;
    }
    return last; /* rounding left the walk a hair short */
}

/* How many of the ordered candidates stay: top_k of them, of these the fewest whose sum reaches top_p of
 * theirs, of these such as have at least min_p of the likeliest. */
static uint32_t keep(ap_sampler *s, const ap_sampling *p, uint32_t candidates, double total, uint32_t sorted, bool *is_enough)
{
    double sum = 0;
    *is_enough = true;
    for (uint32_t i = 0; i < sorted; i++) {
        float e = s->e[id_of(s->order[i])];
        if (e < p->min_p || e == 0)
            return i ? i : 1;
        sum += (double)e;
        if (sum >= (double)p->top_p * total)
            return i + 1;
    }
    *is_enough = sorted == candidates;
    return sorted;
}

/* The likeliest first, ties by id; sums run in that order. */
static int32_t draw_from_best(ap_sampler *s, const ap_sampling *p, double share)
{
    uint32_t n = s->vocab_count, candidates = n;
    for (uint32_t i = 0; i < n; i++)
        s->order[i] = key_of(s->z[i], i);
    double total = 0;
    if (p->top_k > 0 && (uint32_t)p->top_k < n) {
        candidates = (uint32_t)p->top_k;
        sort_largest(s->order, n, candidates);
        for (uint32_t i = 0; i < candidates; i++)
            total += (double)s->e[id_of(s->order[i])];
    } else {
        for (uint32_t i = 0; i < n; i++)
            total += (double)s->e[i];
    }
    uint32_t sorted = candidates < n ? candidates : SORT_FIRST < n ? SORT_FIRST : n, kept;
    bool is_enough = candidates < n;
    if (is_enough) {
        kept = keep(s, p, candidates, total, sorted, &is_enough);
    } else {
        for (;; sorted = sorted < n / 16 ? sorted * 16 : n) {
            sort_largest(s->order, n, sorted);
            kept = keep(s, p, candidates, total, sorted, &is_enough);
            if (is_enough)
                break;
        }
    }
    double sum = 0, kept_total = 0;
    for (uint32_t i = 0; i < kept; i++)
        kept_total += (double)s->e[id_of(s->order[i])];
    for (uint32_t i = 0; i < kept; i++) {
        sum += (double)s->e[id_of(s->order[i])];
        if (sum > share * kept_total)
            return (int32_t)id_of(s->order[i]);
    }
    return (int32_t)id_of(s->order[kept - 1]);
}

ap_status ap_sample(ap_sampler *s, const float *logits, const ap_sampling *p, const ap_logit_bias *biases,
                    size_t bias_count, const ap_sample_history *history, int32_t *token, ap_error *err)
{
    uint32_t n = s->vocab_count;
    memcpy(s->z, logits, n * sizeof *s->z);
    add_biases(s->z, biases, bias_count);
    penalise(s, p, history);
    if (p->temperature > 0)
        for (uint32_t i = 0; i < n; i++)
            s->z[i] /= p->temperature;
    float largest = s->kernels->vec.largest(s->z, n);
    /* NaN and plus infinity both make this sum NaN. */
    float sum = s->kernels->vec.exp_sum(s->e, s->z, n, largest);
    if (!(sum > 0) || !isfinite(sum))
        return ap_fail(err, AP_E_NUMERIC, "the model's logits at position %u are not finite numbers", history->known);
    if (p->temperature == 0) {
        *token = greatest(s->z, n, largest);
        return AP_OK;
    }
    double share = (double)random_number(p, history->known);
    bool is_cut = p->top_k > 0 || p->top_p < 1 || p->min_p > 0;
    *token = is_cut ? draw_from_best(s, p, share) : draw_from_all(s, share);
    return AP_OK;
}

void ap_sample_logprobs(ap_sampler *s, const float *logits, int32_t token, float *logprob, ap_token_logprob *top,
                        uint32_t count)
{
    uint32_t n = s->vocab_count;
    float largest = s->kernels->vec.largest(logits, n);
    float shift = largest + ap_logf(s->kernels->vec.exp_sum(s->e, logits, n, largest));
    *logprob = logits[token] - shift;
    if (count == 0)
        return;
    for (uint32_t i = 0; i < n; i++)
        s->order[i] = key_of(logits[i], i);
    count = count < n ? count : n;
    sort_largest(s->order, n, count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t id = id_of(s->order[i]);
        top[i] = (ap_token_logprob){(int32_t)id, logits[id] - shift};
    }
}
