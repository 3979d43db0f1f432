/* The forward pass against a second one: written for being read, in doubles, straight from the file's tensors, with the
 * C library's functions.  Models are seeded, weights and cache f32, so only rounding may differ.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "aperto.h"
#include "format/format.h"
#include "support.h"
#include "tiny_model.h"

enum { TOKENS = 70, WIDTH_MAX = 256 };

/* ---- The reference ---- */

typedef struct reference {
    const ap_gguf *gguf;
    const ap_tiny_model *m;
    uint32_t head_width;
    double x[TOKENS][WIDTH_MAX];                       /* the residual stream */
    double k[TOKENS][WIDTH_MAX], v[TOKENS][WIDTH_MAX]; /* of the layer at hand */
} reference;

/* NULL if the file has no such tensor. */
static const float *weights(const reference *r, int layer, const char *name)
{
    char full[64];
    if (layer < 0)
        (void)snprintf(full, sizeof full, "%s", name);
    else
        (void)snprintf(full, sizeof full, "blk.%d.%s", layer, name);
    const ap_gguf_tensor *t = ap_gguf_find_tensor(r->gguf, ap_str_from(full));
    return t ? (const float *)(const void *)ap_gguf_data(r->gguf, t) : NULL;
}

/* out = W in + bias, W having `rows` rows. */
static void multiply(const float *w, const float *bias, const double *in, uint32_t columns, uint32_t rows, double *out)
{
    for (uint32_t i = 0; i < rows; i++) {
        out[i] = bias ? bias[i] : 0;
        for (uint32_t j = 0; j < columns; j++)
            out[i] += (double)w[(size_t)i * columns + j] * in[j];
    }
}

static void norm(const float *w, const double *in, uint32_t n, double *out)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += in[i] * in[i];
    for (uint32_t i = 0; i < n; i++)
        out[i] = in[i] / sqrt(sum / n + 1e-5) * w[i];
}

/* Turns neighbours (2j, 2j + 1) of each head. */
static void rotate(const reference *r, double *heads, uint32_t head_count, uint32_t position)
{
    const float *divisors = weights(r, -1, "rope_freqs.weight");
    double scale = r->m->rope_scale > 0 ? (double)r->m->rope_scale : 1;
    for (uint32_t h = 0; h < head_count; h++)
        for (uint32_t j = 0; j < r->head_width / 2; j++) {
            double *pair = heads + h * r->head_width + 2 * j, a = pair[0], b = pair[1];
            double angle = position * pow(10000, -2.0 * j / r->head_width) / scale / (divisors ? (double)divisors[j] : 1);
            pair[0] = a * cos(angle) - b * sin(angle);
            pair[1] = a * sin(angle) + b * cos(angle);
        }
}

/* What `q` of one head sees in the keys and values up to `position`. */
static void attend(const reference *r, const double *q, uint32_t kv_head, uint32_t position, double *out)
{
    double score[TOKENS], sum = 0;
    const size_t at = (size_t)kv_head * r->head_width;
    memset(out, 0, r->head_width * sizeof *out);
    for (uint32_t t = 0; t <= position; t++) {
        double dot = 0;
        for (uint32_t d = 0; d < r->head_width; d++)
            dot += q[d] * r->k[t][at + d];
        score[t] = exp(dot / sqrt(r->head_width)); /* small enough here without taking the largest away */
        sum += score[t];
    }
    for (uint32_t t = 0; t <= position; t++)
        for (uint32_t d = 0; d < r->head_width; d++)
            out[d] += score[t] / sum * r->v[t][at + d];
}

static void run_layer(reference *r, int layer)
{
    uint32_t width = r->m->width, kv_width = r->m->kv_heads * r->head_width, ffn = r->m->ffn;
    static double q[TOKENS][WIDTH_MAX], h[WIDTH_MAX], a[WIDTH_MAX], gate[WIDTH_MAX], up[WIDTH_MAX];
    for (uint32_t t = 0; t < TOKENS; t++) {
        norm(weights(r, layer, "attn_norm.weight"), r->x[t], width, h);
        multiply(weights(r, layer, "attn_q.weight"), weights(r, layer, "attn_q.bias"), h, width, width, q[t]);
        multiply(weights(r, layer, "attn_k.weight"), weights(r, layer, "attn_k.bias"), h, width, kv_width, r->k[t]);
        multiply(weights(r, layer, "attn_v.weight"), weights(r, layer, "attn_v.bias"), h, width, kv_width, r->v[t]);
        rotate(r, q[t], r->m->heads, t);
        rotate(r, r->k[t], r->m->kv_heads, t);
    }
    for (uint32_t t = 0; t < TOKENS; t++) {
        for (uint32_t head = 0; head < r->m->heads; head++)
            attend(r, q[t] + head * r->head_width, head / (r->m->heads / r->m->kv_heads), t, a + head * r->head_width);
        multiply(weights(r, layer, "attn_output.weight"), NULL, a, width, width, h);
        for (uint32_t i = 0; i < width; i++)
            r->x[t][i] += h[i];
        norm(weights(r, layer, "ffn_norm.weight"), r->x[t], width, h);
        multiply(weights(r, layer, "ffn_gate.weight"), NULL, h, width, ffn, gate);
        multiply(weights(r, layer, "ffn_up.weight"), NULL, h, width, ffn, up);
        for (uint32_t i = 0; i < ffn; i++)
            up[i] *= gate[i] / (1 + exp(-gate[i]));
        multiply(weights(r, layer, "ffn_down.weight"), NULL, up, ffn, width, h);
        for (uint32_t i = 0; i < width; i++)
            r->x[t][i] += h[i];
    }
}

static void run_reference(reference *r, const int32_t *ids, double (*logits)[AP_TINY_VOCAB])
{
    uint32_t width = r->m->width;
    const float *embedding = weights(r, -1, "token_embd.weight"), *output = weights(r, -1, "output.weight");
    for (uint32_t t = 0; t < TOKENS; t++)
        for (uint32_t i = 0; i < width; i++)
            r->x[t][i] = embedding[(size_t)ids[t] * width + i];
    for (uint32_t layer = 0; layer < r->m->layers; layer++)
        run_layer(r, (int)layer);
    for (uint32_t t = 0; t < TOKENS; t++) {
        double h[WIDTH_MAX];
        norm(weights(r, -1, "output_norm.weight"), r->x[t], width, h);
        multiply(output ? output : embedding, NULL, h, width, AP_TINY_VOCAB, logits[t]);
    }
}

/* ---- Against it ---- */

static void compare_row(void *context, size_t position, const float *logits, uint32_t count)
{
    double(*wanted)[AP_TINY_VOCAB] = context, largest = 0;
    assert_int_equal(count, AP_TINY_VOCAB);
    for (uint32_t i = 0; i < count; i++)
        largest = fmax(largest, fabs(wanted[position][i]));
    for (uint32_t i = 0; i < count; i++)
        if (!(fabs((double)logits[i] - wanted[position][i]) <= 2e-5 * largest))
            fail_msg("position %zu, logit %u is %.9g, the reference says %.9g", position, i, (double)logits[i], wanted[position][i]);
}

static void check_model(const ap_tiny_model *m)
{
    static double wanted[TOKENS][AP_TINY_VOCAB];
    static reference r;
    ap_buf file = {0};
    ap_gguf *gguf;
    int32_t ids[TOKENS];
    uint64_t random = m->seed;
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (int32_t)(ap_test_random(&random) % AP_TINY_VOCAB);
    ap_tiny_model_write(m, &file);
    assert_ok(ap_gguf_open(&gguf, (unsigned char *)file.ptr, file.len, err));
    r = (reference){.gguf = gguf, .m = m, .head_width = m->width / m->heads};
    run_reference(&r, ids, wanted);

    int source = ap_tiny_model_file(m), packed = ap_test_temporary();
    ap_import_options import = {.size = sizeof import};
    ap_import_report report;
    ap_model *model;
    ap_engine *engine;
    ap_engine_options options = {.size = sizeof options, .kv_type = AP_KV_F32, .threads = 2};
    assert_ok(ap_model_import(source, packed, &import, &report, err));
    assert_ok(ap_model_open(&model, packed, err));
    assert_ok(ap_engine_create(&engine, model, &options, err));
    assert_ok(ap_engine_logits(engine, ids, TOKENS, 0, false, compare_row, wanted, err));
    assert_ok(ap_engine_logits(engine, ids, TOKENS, 9, false, compare_row, wanted, err));
    ap_engine_destroy(&engine);
    ap_model_close(&model);
    close(source);
    close(packed);
    ap_gguf_close(&gguf);
    ap_buf_deinit(&file);
}

#define SIZES .layers = 2, .width = 64, .heads = 4, .ffn = 96, .context = 128

static void tied_model_agrees(void **state) { check_model(&(ap_tiny_model){.seed = 21, SIZES, .kv_heads = 4}); }
static void shared_keys_biases_and_divisors_agree(void **state)
{
    check_model(&(ap_tiny_model){.seed = 22, SIZES, .kv_heads = 2, .has_output = true, .has_bias = true, .has_rope_freqs = true});
}
static void odd_sizes_agree(void **state)
{
    check_model(&(ap_tiny_model){.seed = 23, .layers = 3, .width = 36, .heads = 6, .kv_heads = 1, .ffn = 51, .context = 128});
}
static void linear_scaling_of_early_files_agrees(void **state)
{
    check_model(&(ap_tiny_model){.seed = 24, SIZES, .kv_heads = 2, .rope_scale = 4});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tied_model_agrees),
        cmocka_unit_test(shared_keys_biases_and_divisors_agree),
        cmocka_unit_test(odd_sizes_agree),
        cmocka_unit_test(linear_scaling_of_early_files_agrees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
