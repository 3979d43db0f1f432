/* peer_logits.c - the logits of a record's prompts, as the model defines them or as another program is known to compute them.
 *
 *     peer_logits MODEL.gguf RECORD.json [HABIT…] >LOGITS        float32, prompt by prompt, row by row
 *     peer_logits --habits                                       their names
 *
 * A habit is one thing that other programs do otherwise (docs/convert.md); with the right habits the logits are theirs, and
 * so it is proved what the difference consists of.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/json.h"
#include "model/model.h"
#include "quant/half.h"

enum { RECORD_BYTES_MAX = 32 << 20, RECORD_VALUES_MAX = 1 << 22, TOKENS_MAX = 256, PAGES_MAX = TOKENS_MAX / AP_PAGE_TOKENS };

static void must(ap_status status, const ap_error *err)
{
    if (status == AP_OK)
        return;
    (void)fprintf(stderr, "peer_logits: %s\n", err->message);
    exit(1);
}

/* ---- Habits ---- */

typedef struct run {
    ap_model *model;
    ap_kernels kernels;
    uint32_t context_at_least;
} run;

static void every_layer_sees_all(run *r)
{
    for (uint32_t i = 0; i < r->model->sizes.layer_count; i++)
        r->model->sizes.is_sliding[i] = false;
}

static void experts_weigh_one(run *r) { r->model->sizes.is_router_normed = true; }

static void ramp_in_whole_pairs(run *r)
{
    ap_rope_scaling *both[] = {&r->model->sizes.rope, &r->model->sizes.rope_local};
    for (size_t i = 0; i < 2; i++) {
        both[i]->ramp_low = floorf(both[i]->ramp_low);
        both[i]->ramp_high = ceilf(both[i]->ramp_high);
    }
}

static void scores_by_head_width(run *r) { r->model->sizes.score_scale = 1 / sqrtf((float)r->model->sizes.head_width); }

static void context_of_256(run *r) { r->context_at_least = 256; }

/* The approximation by tanh, out of a table with an entry for every number of 16 bits. */
static float gelu_of_half(float x)
{
    if (x <= -10)
        return 0;
    if (x >= 10)
        return x;
    float in = ap_f32_of_f16(ap_f16_of_f32(x));
    return ap_f32_of_f16(ap_f16_of_f32(0.5f * in * (1 + tanhf(0.7978845608f * in * (1 + 0.044715f * in * in)))));
}

static void activate_of_half(float *out, const float *gate, const float *up, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        out[i] = gelu_of_half(gate[i]) * (up ? up[i] : 1);
}

static void gelu_from_table(run *r)
{
    r->kernels.vec.activate[AP_ACTIVATION_GELU] = r->kernels.vec.activate[AP_ACTIVATION_GELU_TANH] = activate_of_half;
}

static const struct {
    const char *name;
    void (*take)(run *r);
} habits[] = {
    {"every-layer-sees-all", every_layer_sees_all}, {"experts-weigh-one", experts_weigh_one},
    {"ramp-in-whole-pairs", ramp_in_whole_pairs},   {"scores-by-head-width", scores_by_head_width},
    {"context-of-256", context_of_256},             {"gelu-from-table", gelu_from_table},
};

static void take_habit(run *r, const char *name)
{
    for (size_t i = 0; i < sizeof habits / sizeof habits[0]; i++)
        if (strcmp(name, habits[i].name) == 0) {
            habits[i].take(r);
            return;
        }
    (void)fprintf(stderr, "peer_logits: no habit is called '%s'\n", name);
    exit(2);
}

/* ---- A prompt ---- */

static void print_logits(const run *r, const json_t *prompt)
{
    ap_error err = {0};
    const json_t *tokens;
    uint32_t context = r->model->sizes.context_tokens;
    must(ap_json_get_array(prompt, "tokens", &tokens, &err), &err);
    if (ap_json_find(prompt, "context"))
        must(ap_json_get_u32(prompt, "context", &context, &err), &err);
    context = context < r->context_at_least ? r->context_at_least : context;
    int32_t ids[TOKENS_MAX];
    uint32_t count = (uint32_t)json_array_size(tokens);
    if (count > TOKENS_MAX)
        must(ap_fail(&err, AP_E_LIMIT, "a prompt has %u tokens, at most %d are allowed", count, TOKENS_MAX), &err);
    for (uint32_t i = 0; i < count; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(tokens, i));

    ap_pool *pool;
    ap_forward *forward;
    void *pages[PAGES_MAX];
    size_t page_bytes = ap_forward_page_bytes(r->model, AP_KV_F32), row = r->model->sizes.vocab_count;
    must(ap_pool_create(&pool, 1, &err), &err);
    must(ap_forward_create(&forward, r->model, NULL, &r->kernels, pool, AP_KV_F32, TOKENS_MAX, context, &err), &err);
    for (size_t i = 0; i < PAGES_MAX; i++)
        pages[i] = ap_alloc_aligned(page_bytes);
    ap_piece piece = {.tokens = ids, .count = count, .pages = pages, .outputs = count};
    ap_forward_run(forward, &piece, 1);
    float *logits = ap_alloc_array(count * row, sizeof *logits);
    ap_forward_logits(forward, 0, count, logits);
    (void)fwrite(logits, sizeof *logits, count * row, stdout);
    ap_free(logits);
    for (size_t i = 0; i < PAGES_MAX; i++)
        ap_free(pages[i]);
    ap_forward_destroy(&forward);
    ap_pool_destroy(&pool);
}

static ap_model *open_model(const char *path)
{
    ap_error err = {0};
    int in;
    FILE *packed = tmpfile();
    ap_import_options options = {.size = sizeof options};
    ap_import_report report;
    ap_model *model;
    must(ap_file_open(path, &in, &err), &err);
    must(packed ? AP_OK : ap_fail(&err, AP_E_IO, "no temporary file"), &err);
    must(ap_model_import(in, fileno(packed), &options, &report, &err), &err);
    must(ap_model_open(&model, fileno(packed), &err), &err);
    (void)fclose(packed);
    close(in);
    return model;
}

int main(int argc, char **argv)
{
    ap_error err = {0};
    if (argc == 2 && strcmp(argv[1], "--habits") == 0) {
        for (size_t i = 0; i < sizeof habits / sizeof habits[0]; i++)
            (void)puts(habits[i].name);
        return 0;
    }
    if (argc < 3) {
        (void)fprintf(stderr, "usage: peer_logits MODEL.gguf RECORD.json [HABIT…] >LOGITS\n");
        return 2;
    }
    ap_buf text;
    json_t *record;
    const json_t *prompts, *prompt;
    size_t index;
    run r = {.model = open_model(argv[1])};
    must(ap_kernels_get(ap_isa_detect(), &r.kernels, &err), &err);
    for (int i = 3; i < argc; i++)
        take_habit(&r, argv[i]);
    must(ap_file_read(argv[2], RECORD_BYTES_MAX, &text, &err), &err);
    must(ap_json_parse(&record, ap_buf_str(&text), (ap_json_limits){RECORD_BYTES_MAX, RECORD_VALUES_MAX}, &err), &err);
    must(ap_json_get_array(record, "prompts", &prompts, &err), &err);
    json_array_foreach(prompts, index, prompt)
        print_logits(&r, prompt);
    json_decref(record);
    ap_buf_deinit(&text);
    ap_model_close(&r.model);
    return fflush(stdout) == 0 ? 0 : 1;
}
