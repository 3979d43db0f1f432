/* forward.c - one pass over a mixed batch, for every family in the table.
 *
 * Between two products every token is on its own, so those steps run over tokens;
 * a product runs over panels of output rows; attention runs over pairs of
 * (run of tokens, KV head).  No sum ever crosses two work items, so neither
 * threads nor the cut of the batch can change a bit.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <math.h>

#include "base/alloc.h"
#include "model/model.h"

/* Query tokens of one sequence in one work item of attention: enough to share loaded
 * keys, few enough that threads end together. */
enum { ATTENTION_TILE = 16 };

/* Planes of activations (docs/law.md, section 2): the inputs of q, k and v and of the output head cost the
 * most when rounded to 8 bits, and those products are few. */
enum { PLANES = 1, PLANES_FINE = 2 };

/* Where a token of the batch belongs. */
typedef struct token_place {
    uint32_t piece;
    uint32_t position;
} token_place;

/* Tokens [first, first + count) of one piece, attended together. */
typedef struct attention_tile {
    uint32_t piece;
    uint32_t first; /* index in the batch */
    uint32_t count;
} attention_tile;

struct ap_forward {
    const ap_model *model;
    const ap_kernels *kernels;
    ap_pool *pool;
    ap_kv_layout kv;
    float score_scale; /* 1 / sqrt(head_width) */
    bool reads_codes;  /* some product reads 8-bit activations */
    uint32_t tokens_max;
    unsigned char *memory; /* all arrays below */

    float *x;        /* [T][D] the residual stream */
    float *h;        /* [T][widest input] what the next product reads */
    unsigned char *acts; /* the same in 8 bits */
    float *q, *k, *v;    /* [T][heads * head_width] */
    float *y;            /* [T][D] what a product adds to the residual stream */
    float *gate, *up;    /* [T][F] */
    float *rope;         /* [T][rope_width]: cos and sin rows */
    float *rope_frequencies;
    float *final;        /* [T][D] output rows, normed */
    token_place *places;
    attention_tile *tiles;

    /* The batch at hand. */
    const ap_piece *pieces;
    uint32_t token_count, tile_count, output_count;
    const ap_layer *layer;
    uint32_t layer_index;
};

/* ---- Memory ---- */

static size_t widest_input(const ap_hparams *s)
{
    size_t widest = s->width, heads = (size_t)s->head_count * s->head_width;
    if (heads > widest)
        widest = heads;
    return s->ffn_width > widest ? s->ffn_width : widest;
}

/* Hands out the parts of one allocation: with memory NULL it only counts. */
typedef struct carver {
    unsigned char *memory;
    size_t used;
    bool overflow;
} carver;

static void *carve(carver *c, size_t count, size_t bytes)
{
    size_t total;
    if (!ap_mul_size(count, bytes, &total) || total > SIZE_MAX / 4 - c->used) {
        c->overflow = true;
        return NULL;
    }
    void *part = c->memory ? c->memory + c->used : NULL;
    c->used += (total + 63) / 64 * 64;
    return part;
}

static void carve_all(ap_forward *f, carver *c)
{
    const ap_hparams *s = &f->model->sizes;
    size_t t = f->tokens_max, q = (size_t)s->head_count * s->head_width, kv = (size_t)s->kv_head_count * s->head_width;
    f->x = carve(c, t * s->width, sizeof(float));
    f->h = carve(c, t * widest_input(s), sizeof(float));
    size_t widest = ap_acts_bytes(f->tokens_max, (uint32_t)widest_input(s), 1);
    size_t fine = ap_acts_bytes(f->tokens_max, s->width, PLANES_FINE);
    f->acts = carve(c, widest > fine ? widest : fine, 1);
    f->q = carve(c, t * q, sizeof(float));
    f->k = carve(c, t * kv, sizeof(float));
    f->v = carve(c, t * kv, sizeof(float));
    f->y = carve(c, t * s->width, sizeof(float));
    f->gate = carve(c, t * s->ffn_width, sizeof(float));
    f->up = carve(c, t * s->ffn_width, sizeof(float));
    f->rope = carve(c, t * s->rope_width, sizeof(float));
    f->rope_frequencies = carve(c, s->rope_width / 2, sizeof(float));
    f->final = carve(c, t * s->width, sizeof(float));
    f->places = carve(c, t, sizeof *f->places);
    f->tiles = carve(c, t, sizeof *f->tiles);
}

size_t ap_forward_page_bytes(const ap_model *model, ap_kv_type kv_type)
{
    const ap_hparams *s = &model->sizes;
    return ap_kv_layout_of(kv_type, s->layer_count, s->kv_head_count, s->head_width).page_bytes;
}

static bool any_reads_codes(const ap_model *m)
{
    bool any = ap_matmul_needs_codes(m->output.type);
    for (uint32_t i = 0; i < m->sizes.layer_count; i++) {
        const ap_layer *l = &m->layers[i];
        const ap_matrix *const all[] = {&l->q, &l->k, &l->v, &l->attn_out, &l->gate, &l->up, &l->down};
        for (size_t j = 0; j < sizeof all / sizeof all[0]; j++)
            any = any || ap_matmul_needs_codes(all[j]->type);
    }
    return any;
}

ap_status ap_forward_bytes(const ap_model *model, uint32_t tokens_max, size_t *bytes, ap_error *err)
{
    ap_forward f = {.model = model, .tokens_max = tokens_max};
    carver c = {0};
    carve_all(&f, &c);
    *bytes = c.used;
    return c.overflow ? ap_fail(err, AP_E_LIMIT, "the work memory of %u tokens is more than can be addressed", tokens_max)
                      : AP_OK;
}

ap_status ap_forward_create(ap_forward **out, const ap_model *model, const ap_kernels *kernels, ap_pool *pool,
                            ap_kv_type kv_type, uint32_t tokens_max, ap_error *err)
{
    *out = NULL;
    const ap_hparams *s = &model->sizes;
    ap_forward *f = ap_alloc_zero(1, sizeof *f);
    if (!f)
        return ap_fail_nomem(err, sizeof *f);
    *f = (ap_forward){
        .model = model,
        .kernels = kernels,
        .pool = pool,
        .kv = ap_kv_layout_of(kv_type, s->layer_count, s->kv_head_count, s->head_width),
        .score_scale = 1.0f / sqrtf((float)s->head_width),
        .reads_codes = any_reads_codes(model),
        .tokens_max = tokens_max,
    };
    size_t bytes;
    ap_status status = ap_forward_bytes(model, tokens_max, &bytes, err);
    f->memory = status == AP_OK ? ap_alloc_aligned(bytes) : NULL;
    if (!f->memory) {
        ap_free(f);
        return status != AP_OK ? status : ap_fail_nomem(err, bytes);
    }
    carver c = {.memory = f->memory};
    carve_all(f, &c);
    ap_rope_frequencies(f->rope_frequencies, s->rope_width, s->rope_base, s->rope_divisor, model->rope_divisors);
    *out = f;
    return AP_OK;
}

void ap_forward_destroy(ap_forward **forward)
{
    if (*forward) {
        ap_free((*forward)->memory);
        ap_free(*forward);
    }
    *forward = NULL;
}

/* ---- The batch ---- */

static void place_tokens(ap_forward *f, const ap_piece *pieces, uint32_t piece_count)
{
    uint32_t t = 0, tiles = 0, outputs = 0;
    for (uint32_t p = 0; p < piece_count; p++) {
        const ap_piece *piece = &pieces[p];
        for (uint32_t i = 0; i < piece->count; i++) {
            if (i % ATTENTION_TILE == 0)
                f->tiles[tiles++] = (attention_tile){.piece = p, .first = t + i};
            f->tiles[tiles - 1].count++;
            uint32_t position = piece->position + i;
            f->places[t + i] = (token_place){.piece = p, .position = position};
            /* Here and not by the thread that writes the key: its neighbours in the group may be faster. */
            if (position % AP_KEY_GROUP == 0)
                ap_kv_clear_group(&f->kv, piece->pages[position / AP_PAGE_TOKENS], position);
        }
        t += piece->count;
        outputs += piece->outputs;
    }
    ap_assert(t <= f->tokens_max);
    f->pieces = pieces;
    f->token_count = t;
    f->tile_count = tiles;
    f->output_count = outputs;
}

static void each_token(ap_forward *f, ap_pool_fn *fn)
{
    /* A few pieces per thread: even work, few visits to the shared counter. */
    size_t grain = f->token_count / (4 * (size_t)ap_pool_threads(f->pool));
    ap_pool_run(f->pool, f->token_count, grain ? grain : 1, fn, f);
}

/* ---- Steps over tokens ---- */

static ap_acts acts_of(ap_forward *f, uint32_t width, uint32_t planes)
{
    return (ap_acts){.tokens = f->token_count,
                     .cols = width,
                     .planes = planes,
                     .x = f->h,
                     .x_stride = width,
                     .slabs = (const ap_act_slab *)(const void *)f->acts};
}

/* Makes the 8-bit form of h[token], `width` floats. */
static void quantize(ap_forward *f, size_t token, uint32_t width, uint32_t planes)
{
    if (f->reads_codes)
        f->kernels->matmul.quantize(f->h + token * width, width, planes,
                                    (ap_act_slab *)(void *)f->acts + token * planes, (size_t)f->token_count * planes);
}

static void norm_into_h(ap_forward *f, size_t token, const float *weight, uint32_t planes)
{
    uint32_t width = f->model->sizes.width;
    f->kernels->vec.rms_norm(f->h + token * width, f->x + token * width, weight, width, f->model->sizes.norm_epsilon);
    quantize(f, token, width, planes);
}

static void step_embed(void *context, size_t begin, size_t end, unsigned thread)
{
    ap_forward *f = context;
    const ap_hparams *s = &f->model->sizes;
    for (size_t t = begin; t < end; t++) {
        const token_place *place = &f->places[t];
        const ap_piece *piece = &f->pieces[place->piece];
        ap_model_embed(f->model, (uint32_t)piece->tokens[place->position - piece->position], f->x + t * s->width);
        ap_rope_row(f->rope + t * s->rope_width, f->rope_frequencies, s->rope_width, place->position);
        norm_into_h(f, t, f->model->layers[0].attn_norm, PLANES_FINE);
    }
}

static void step_positions(void *context, size_t begin, size_t end, unsigned thread)
{
    ap_forward *f = context;
    const ap_hparams *s = &f->model->sizes;
    const ap_vec_ops *vec = &f->kernels->vec;
    const ap_layer *layer = f->layer;
    bool is_halves = f->model->arch->rope_pairs == AP_ROPE_HALVES;
    size_t q_width = (size_t)s->head_count * s->head_width, kv_width = (size_t)s->kv_head_count * s->head_width;
    for (size_t t = begin; t < end; t++) {
        float *q = f->q + t * q_width, *k = f->k + t * kv_width, *v = f->v + t * kv_width;
        if (layer->q_bias)
            vec->add(q, layer->q_bias, (uint32_t)q_width);
        if (layer->k_bias)
            vec->add(k, layer->k_bias, (uint32_t)kv_width);
        if (layer->v_bias)
            vec->add(v, layer->v_bias, (uint32_t)kv_width);
        const float *rope = f->rope + t * s->rope_width;
        for (uint32_t h = 0; h < s->head_count; h++)
            vec->rope(q + (size_t)h * s->head_width, rope, s->rope_width, is_halves);
        for (uint32_t h = 0; h < s->kv_head_count; h++)
            vec->rope(k + (size_t)h * s->head_width, rope, s->rope_width, is_halves);
        const token_place *place = &f->places[t];
        ap_kv_write(&f->kv, f->pieces[place->piece].pages[place->position / AP_PAGE_TOKENS], f->layer_index,
                    place->position, k, v);
    }
}

static void step_attend(void *context, size_t begin, size_t end, unsigned thread)
{
    ap_forward *f = context;
    const ap_hparams *s = &f->model->sizes;
    size_t q_width = (size_t)s->head_count * s->head_width;
    for (size_t i = begin; i < end; i++) {
        const attention_tile *tile = &f->tiles[i / s->kv_head_count];
        uint32_t kv_head = (uint32_t)(i % s->kv_head_count), group = s->head_count / s->kv_head_count;
        size_t at = tile->first * q_width + (size_t)kv_head * group * s->head_width;
        ap_attend_job job = {
            .layout = &f->kv,
            .pages = f->pieces[tile->piece].pages,
            .layer = f->layer_index,
            .kv_head = kv_head,
            .position = f->places[tile->first].position,
            .count = tile->count,
            .group = group,
            .scale = f->score_scale,
            .q = f->q + at,
            .out = f->h + at,
            .stride = q_width,
        };
        f->kernels->attention.attend[f->kv.type](&job);
    }
}

static void step_attended(void *context, size_t begin, size_t end, unsigned thread)
{
    ap_forward *f = context;
    uint32_t width = f->model->sizes.head_count * f->model->sizes.head_width;
    for (size_t t = begin; t < end; t++)
        quantize(f, t, width, PLANES);
}

static void step_ffn_norm(void *context, size_t begin, size_t end, unsigned thread)
{
    ap_forward *f = context;
    uint32_t width = f->model->sizes.width;
    for (size_t t = begin; t < end; t++) {
        f->kernels->vec.add(f->x + t * width, f->y + t * width, width);
        norm_into_h(f, t, f->layer->ffn_norm, PLANES);
    }
}

static void step_activate(void *context, size_t begin, size_t end, unsigned thread)
{
    ap_forward *f = context;
    uint32_t width = f->model->sizes.ffn_width;
    for (size_t t = begin; t < end; t++) {
        f->kernels->vec.silu_mul(f->h + t * width, f->gate + t * width, f->up + t * width, width);
        quantize(f, t, width, PLANES);
    }
}

/* After the MLP: the residual, then the norm that the next layer begins with. */
static void step_next_layer(void *context, size_t begin, size_t end, unsigned thread)
{
    ap_forward *f = context;
    uint32_t width = f->model->sizes.width;
    bool is_last = f->layer_index + 1 == f->model->sizes.layer_count;
    for (size_t t = begin; t < end; t++) {
        f->kernels->vec.add(f->x + t * width, f->y + t * width, width);
        if (!is_last)
            norm_into_h(f, t, f->model->layers[f->layer_index + 1].attn_norm, PLANES_FINE);
    }
}

/* ---- The pass ---- */

static void multiply(ap_forward *f, uint32_t planes, ap_matmul_job *jobs, uint32_t count)
{
    ap_acts acts = acts_of(f, jobs[0].matrix->cols, planes);
    for (uint32_t i = 0; i < count; i++) {
        jobs[i].acts = &acts;
        jobs[i].y_stride = jobs[i].matrix->rows;
    }
    ap_matmul(f->kernels, f->pool, jobs, count);
}

static void run_layer(ap_forward *f)
{
    const ap_layer *layer = f->layer;
    multiply(f, PLANES_FINE,
             (ap_matmul_job[]){{.matrix = &layer->q, .y = f->q},
                               {.matrix = &layer->k, .y = f->k},
                               {.matrix = &layer->v, .y = f->v}}, 3);
    each_token(f, step_positions);
    ap_pool_run(f->pool, (size_t)f->tile_count * f->model->sizes.kv_head_count, 1, step_attend, f);
    each_token(f, step_attended);
    multiply(f, PLANES, (ap_matmul_job[]){{.matrix = &layer->attn_out, .y = f->y}}, 1);
    each_token(f, step_ffn_norm);
    multiply(f, PLANES, (ap_matmul_job[]){{.matrix = &layer->gate, .y = f->gate}, {.matrix = &layer->up, .y = f->up}}, 2);
    each_token(f, step_activate);
    multiply(f, PLANES, (ap_matmul_job[]){{.matrix = &layer->down, .y = f->y}}, 1);
    each_token(f, step_next_layer);
}

static void keep_outputs(ap_forward *f, uint32_t piece_count)
{
    const ap_hparams *s = &f->model->sizes;
    uint32_t t = 0, row = 0;
    for (uint32_t p = 0; p < piece_count; p++) {
        const ap_piece *piece = &f->pieces[p];
        for (uint32_t i = piece->count - piece->outputs; i < piece->count; i++, row++)
            f->kernels->vec.rms_norm(f->final + (size_t)row * s->width, f->x + (size_t)(t + i) * s->width,
                                     f->model->output_norm, s->width, s->norm_epsilon);
        t += piece->count;
    }
}

void ap_forward_run(ap_forward *f, const ap_piece *pieces, uint32_t piece_count)
{
    place_tokens(f, pieces, piece_count);
    each_token(f, step_embed);
    for (f->layer_index = 0; f->layer_index < f->model->sizes.layer_count; f->layer_index++) {
        f->layer = &f->model->layers[f->layer_index];
        run_layer(f);
    }
    keep_outputs(f, piece_count);
    f->pieces = NULL;
}

void ap_forward_logits(ap_forward *f, uint32_t first, uint32_t count, float *logits)
{
    const ap_hparams *s = &f->model->sizes;
    ap_assert(count <= f->output_count && first <= f->output_count - count);
    ap_acts acts = {.tokens = count, .cols = s->width, .planes = PLANES_FINE,
                    .x = f->final + (size_t)first * s->width, .x_stride = s->width};
    ap_acts_set(&acts, f->kernels, f->pool, f->acts);
    ap_matmul_job job = {.matrix = &f->model->output, .acts = &acts, .y = logits, .y_stride = s->vocab_count};
    ap_matmul(f->kernels, f->pool, &job, 1);
}
