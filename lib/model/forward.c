/* forward.c - one pass over a mixed batch, for every family in the table.
 *
 * Between two products every token is on its own, so those steps run over tokens;
 * a product runs over panels of output rows; attention runs over pairs of
 * (run of tokens, KV head).  No sum ever crosses two work items, so neither
 * threads nor the cut of the batch can change a bit.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stddef.h>
#include <string.h>

#include "base/alloc.h"
#include "model/adapter.h"
#include "model/model.h"

/* Query tokens of one sequence in one work item of attention: enough to share loaded
 * keys, few enough that threads end together. */
enum { ATTENTION_TILE = 16 };

/* Planes of activations (docs/law.md, section 2): the inputs of q, k and v and of the output head cost the
 * most when rounded to 8 bits, and those products are few. */
enum { PLANES = 1, PLANES_FINE = 2 };

/* Rows of a product to which one work item adds an adapter's share. */
enum { ADAPTED_ROWS = 1024 };

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

/* One of the experts that a token uses. */
typedef struct expert_choice {
    uint32_t expert;
    uint32_t slot; /* where its result stands */
    float weight;
} expert_choice;

/* A token at an expert; slots of one expert are neighbours, so that its products are one job. */
typedef struct expert_slot {
    uint32_t token;
    uint32_t expert;
} expert_slot;

/* Position tables: of layers that see everything, and of those with a window. */
enum { ROPE_FULL, ROPE_LOCAL, ROPE_TABLES };

struct ap_forward {
    const ap_model *model;
    const ap_adapter *adapter; /* NULL: none */
    const ap_kernels *kernels;
    ap_pool *pool;
    ap_kv_layout kv;
    bool reads_codes;  /* some product reads 8-bit activations */
    uint32_t tokens_max;
    unsigned char *memory; /* all arrays below */

    float *x;        /* [T][D] the residual stream */
    float *h;        /* [T][widest input] what the next product reads */
    unsigned char *acts; /* the same in 8 bits */
    float *q, *k, *v;    /* [T][heads * head_width] */
    float *y;            /* [T][D] what a product adds to the residual stream */
    float *gate, *up;    /* [T][F] */
    float *rope[ROPE_TABLES]; /* [T][rope_width]: cos and sin rows; the same where the tables are */
    float *rope_frequencies[ROPE_TABLES];
    float rope_magnitude[ROPE_TABLES];
    float *slopes; /* [heads] of ALiBi, or NULL */
    float *final;        /* [T][D] output rows, normed */
    float *low; /* [T][largest rank] A x of an adapter */
    token_place *places;
    attention_tile *tiles;

    /* With experts: S = T * experts used. */
    float *router;          /* [T][experts] */
    expert_choice *choices; /* [T][used], experts ascending */
    expert_slot *slots;     /* [S] */
    uint32_t *expert_first; /* [experts + 1]: slot of its first token */
    float *slot_x, *slot_y; /* [S][D] */
    float *slot_gate, *slot_up; /* [S][F of an expert] */
    unsigned char *slot_acts;
    ap_acts *expert_acts;       /* [experts] */
    ap_matmul_job *expert_jobs; /* [2 * experts] */

    /* The batch at hand. */
    const ap_piece *pieces;
    uint32_t token_count, tile_count, output_count;
    const ap_layer *layer;
    uint32_t layer_index;
    const ap_lora *lora; /* whose share is being added */
    float *adapted;      /* [T][rows] to this */
    ap_forward_observer *observer; /* or NULL */
    void *observer_context;
};

/* ---- Memory ---- */

static size_t widest_input(const ap_hparams *s)
{
    size_t widest = s->width, heads = (size_t)s->head_count * s->head_width;
    if (heads > widest)
        widest = heads;
    return s->ffn_width > widest && s->expert_count == 0 ? s->ffn_width : widest;
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

static bool has_two_tables(const ap_hparams *s)
{
    return s->window && memcmp(&s->rope, &s->rope_local, sizeof s->rope) != 0;
}

static void carve_experts(ap_forward *f, carver *c)
{
    const ap_hparams *s = &f->model->sizes;
    size_t t = f->tokens_max, slots = t * s->expert_used;
    if (s->expert_count == 0)
        return;
    size_t widest = s->width > s->expert_ffn_width ? s->width : s->expert_ffn_width;
    f->router = carve(c, t * s->expert_count, sizeof(float));
    f->choices = carve(c, slots, sizeof *f->choices);
    f->slots = carve(c, slots, sizeof *f->slots);
    f->expert_first = carve(c, s->expert_count + 1, sizeof *f->expert_first);
    f->slot_x = carve(c, slots * s->width, sizeof(float));
    f->slot_y = carve(c, slots * s->width, sizeof(float));
    f->slot_gate = carve(c, slots * s->expert_ffn_width, sizeof(float));
    f->slot_up = carve(c, slots * s->expert_ffn_width, sizeof(float));
    f->slot_acts = carve(c, slots, ap_acts_bytes(1, (uint32_t)widest, PLANES));
    f->expert_acts = carve(c, s->expert_count, sizeof *f->expert_acts);
    f->expert_jobs = carve(c, 2 * (size_t)s->expert_count, sizeof *f->expert_jobs);
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
    f->gate = carve(c, s->expert_count ? 0 : t * s->ffn_width, sizeof(float));
    f->up = carve(c, s->expert_count ? 0 : t * s->ffn_width, sizeof(float));
    for (int i = 0; i < ROPE_TABLES; i++) {
        bool is_own = i == 0 || has_two_tables(s);
        f->rope[i] = is_own ? carve(c, t * s->rope_width, sizeof(float)) : f->rope[0];
        f->rope_frequencies[i] = is_own ? carve(c, s->rope_width / 2, sizeof(float)) : f->rope_frequencies[0];
    }
    f->slopes = s->alibi_bias > 0 ? carve(c, s->head_count, sizeof(float)) : NULL;
    f->final = carve(c, t * s->width, sizeof(float));
    f->low = carve(c, t * ap_adapter_rank(f->adapter), sizeof(float));
    f->places = carve(c, t, sizeof *f->places);
    f->tiles = carve(c, t, sizeof *f->tiles);
    carve_experts(f, c);
}

size_t ap_forward_page_bytes(const ap_model *model, ap_kv_type kv_type)
{
    const ap_hparams *s = &model->sizes;
    return ap_kv_layout_of(kv_type, s->layer_count, s->kv_head_count, s->head_width).page_bytes;
}

static bool mlp_reads_codes(const ap_mlp *m)
{
    return ap_matmul_needs_codes(m->gate.type) || ap_matmul_needs_codes(m->up.type) || ap_matmul_needs_codes(m->down.type);
}

static bool any_reads_codes(const ap_model *m)
{
    bool any = ap_matmul_needs_codes(m->output.type);
    for (uint32_t i = 0; i < m->sizes.layer_count; i++) {
        const ap_layer *l = &m->layers[i];
        const ap_matrix *const all[] = {&l->q, &l->k, &l->v, &l->attn_out, &l->router};
        for (size_t j = 0; j < sizeof all / sizeof all[0]; j++)
            any = any || ap_matmul_needs_codes(all[j]->type);
        any = any || mlp_reads_codes(&l->mlp);
        for (uint32_t e = 0; e < m->sizes.expert_count; e++)
            any = any || mlp_reads_codes(&l->experts[e]);
    }
    return any;
}

ap_status ap_forward_bytes(const ap_model *model, const ap_adapter *adapter, uint32_t tokens_max, size_t *bytes, ap_error *err)
{
    ap_forward f = {.model = model, .adapter = adapter, .tokens_max = tokens_max};
    carver c = {0};
    carve_all(&f, &c);
    *bytes = c.used;
    return c.overflow ? ap_fail(err, AP_E_LIMIT, "the work memory of %u tokens is more than can be addressed", tokens_max)
                      : AP_OK;
}

/* Of head h (ALiBi): powers of the same number for the first 2^k heads, and those between for the rest. */
static void set_slopes(ap_forward *f)
{
    const ap_hparams *s = &f->model->sizes;
    uint32_t whole = 1;
    while (2 * whole <= s->head_count)
        whole *= 2;
    for (uint32_t h = 0; h < s->head_count; h++) {
        float exponent = h < whole ? s->alibi_bias * (float)(h + 1) : s->alibi_bias / 2 * (float)(2 * (h - whole) + 1);
        f->slopes[h] = ap_powf(2, -exponent / (float)whole) * (f->model->arch->is_alibi_scaled ? s->score_scale : 1);
    }
}

static void set_positions(ap_forward *f, uint32_t context_tokens)
{
    const ap_model *m = f->model;
    const ap_hparams *s = &m->sizes;
    const float *by_length = context_tokens > s->rope.original_tokens ? m->rope_divisors_long : m->rope_divisors_short;
    const float *divisors = by_length ? by_length : m->rope_divisors;
    f->rope_magnitude[ROPE_FULL] = s->rope.magnitude;
    f->rope_magnitude[ROPE_LOCAL] = s->rope_local.magnitude;
    ap_rope_frequencies(f->rope_frequencies[ROPE_FULL], s->rope_width, &s->rope, divisors);
    if (has_two_tables(s))
        ap_rope_frequencies(f->rope_frequencies[ROPE_LOCAL], s->rope_width, &s->rope_local, NULL);
    if (f->slopes)
        set_slopes(f);
}

ap_status ap_forward_create(ap_forward **out, const ap_model *model, const ap_adapter *adapter, const ap_kernels *kernels,
                            ap_pool *pool, ap_kv_type kv_type, uint32_t tokens_max, uint32_t context_tokens, ap_error *err)
{
    *out = NULL;
    const ap_hparams *s = &model->sizes;
    ap_forward *f = ap_alloc_zero(1, sizeof *f);
    if (!f)
        return ap_fail_nomem(err, sizeof *f);
    *f = (ap_forward){
        .model = model,
        .adapter = adapter,
        .kernels = kernels,
        .pool = pool,
        .kv = ap_kv_layout_of(kv_type, s->layer_count, s->kv_head_count, s->head_width),
        .reads_codes = any_reads_codes(model),
        .tokens_max = tokens_max,
    };
    size_t bytes;
    ap_status status = ap_forward_bytes(model, adapter, tokens_max, &bytes, err);
    f->memory = status == AP_OK ? ap_alloc_aligned(bytes) : NULL;
    if (!f->memory) {
        ap_free(f);
        return status != AP_OK ? status : ap_fail_nomem(err, bytes);
    }
    carver c = {.memory = f->memory};
    carve_all(f, &c);
    set_positions(f, context_tokens);
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

/* out may be x. */
static void norm(const ap_forward *f, float *out, const float *x, const float *weight, const float *bias, uint32_t width)
{
    float epsilon = f->model->sizes.norm_epsilon;
    if (f->model->arch->norm == AP_NORM_RMS)
        f->kernels->vec.rms_norm(out, x, weight, width, epsilon);
    else
        f->kernels->vec.layer_norm(out, x, weight, bias, width, epsilon);
}

/* What a block (attention or MLP) reads. */
static void norm_into_h(ap_forward *f, size_t token, const float *weight, const float *bias, uint32_t planes)
{
    uint32_t width = f->model->sizes.width;
    float *h = f->h + token * width, *x = f->x + token * width;
    bool has_norm = weight || f->model->arch->norm == AP_NORM_LAYER_BARE;
    if (f->model->arch->norm_place == AP_NORM_AFTER || f->model->arch->norm_place == AP_NORM_SUM || !has_norm)
        memcpy(h, x, width * sizeof *h);
    else
        norm(f, h, x, weight, bias, width);
    quantize(f, token, width, planes);
}

/* Adds what a block made to the residual stream. */
static void add_block(ap_forward *f, size_t token, const float *bias, const float *post_norm, const float *post_norm_bias)
{
    uint32_t width = f->model->sizes.width;
    float *x = f->x + token * width, *y = f->y + token * width;
    if (bias)
        f->kernels->vec.add(y, bias, width);
    bool is_of_sum = f->model->arch->norm_place == AP_NORM_SUM;
    if (post_norm && !is_of_sum)
        norm(f, y, y, post_norm, post_norm_bias, width);
    f->kernels->vec.add(x, y, width);
    if (post_norm && is_of_sum)
        norm(f, x, x, post_norm, post_norm_bias, width);
}

static void embed(ap_forward *f, size_t t)
{
    const ap_model *m = f->model;
    const ap_hparams *s = &m->sizes;
    const token_place *place = &f->places[t];
    const ap_piece *piece = &f->pieces[place->piece];
    float *x = f->x + t * s->width;
    ap_model_embed(m, (uint32_t)piece->tokens[place->position - piece->position], x);
    if (s->embedding_scale != 1)
        f->kernels->vec.scale(x, s->embedding_scale, s->width);
    if (m->position_rows) {
        float *position = f->h + t * s->width;
        ap_model_position(m, place->position, position);
        f->kernels->vec.add(x, position, s->width);
    }
    if (m->type_rows) {
        float *type = f->h + t * s->width;
        ap_model_type(m, piece->types ? piece->types[place->position - piece->position] : 0, type);
        f->kernels->vec.add(x, type, s->width);
    }
    if (m->embedding_norm)
        norm(f, x, x, m->embedding_norm, m->embedding_norm_bias, s->width);
}

static void step_embed(void *context, size_t begin, size_t end, unsigned thread)
{
    ap_forward *f = context;
    const ap_hparams *s = &f->model->sizes;
    for (size_t t = begin; t < end; t++) {
        embed(f, t);
        for (int i = 0; i < (has_two_tables(s) ? ROPE_TABLES : 1); i++)
            ap_rope_row(f->rope[i] + t * s->rope_width, f->rope_frequencies[i], s->rope_width, f->places[t].position,
                        f->rope_magnitude[i]);
        norm_into_h(f, t, f->model->layers[0].attn_norm, f->model->layers[0].attn_norm_bias, PLANES_FINE);
    }
}

/* Queries or keys or values of one token: bias, clip, norm, position. */
static void finish_heads(const ap_forward *f, float *x, uint32_t heads, const float *bias, const float *weight, const float *rope)
{
    const ap_hparams *s = &f->model->sizes;
    const ap_vec_ops *vec = &f->kernels->vec;
    uint32_t width = heads * s->head_width;
    if (bias)
        vec->add(x, bias, width);
    if (s->qkv_clip > 0)
        vec->clip(x, s->qkv_clip, width);
    if (weight && f->model->arch->qk_norm == AP_QK_NORM_WHOLE)
        norm(f, x, x, weight, NULL, width);
    for (uint32_t h = 0; h < heads; h++) {
        float *head = x + (size_t)h * s->head_width;
        if (weight && f->model->arch->qk_norm == AP_QK_NORM_HEAD)
            norm(f, head, head, weight, NULL, s->head_width);
        if (rope)
            vec->rope(head, rope, s->rope_width, f->model->arch->rope_pairs == AP_ROPE_HALVES);
    }
}

static void step_positions(void *context, size_t begin, size_t end, unsigned thread)
{
    ap_forward *f = context;
    const ap_hparams *s = &f->model->sizes;
    const ap_layer *layer = f->layer;
    const float *rows = f->rope[s->is_sliding[f->layer_index] ? ROPE_LOCAL : ROPE_FULL];
    size_t q_width = (size_t)s->head_count * s->head_width, kv_width = (size_t)s->kv_head_count * s->head_width;
    for (size_t t = begin; t < end; t++) {
        float *q = f->q + t * q_width, *k = f->k + t * kv_width, *v = f->v + t * kv_width;
        const float *rope = s->is_rotary[f->layer_index] ? rows + t * s->rope_width : NULL;
        finish_heads(f, q, s->head_count, layer->q_bias, layer->q_norm, rope);
        finish_heads(f, k, s->kv_head_count, layer->k_bias, layer->k_norm, rope);
        finish_heads(f, v, s->kv_head_count, layer->v_bias, NULL, NULL);
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
        size_t head = (size_t)kv_head * group, at = tile->first * q_width + head * s->head_width;
        ap_attend_job job = {
            .layout = &f->kv,
            .pages = f->pieces[tile->piece].pages,
            .layer = f->layer_index,
            .kv_head = kv_head,
            .position = f->places[tile->first].position,
            .count = tile->count,
            .end = f->model->arch->is_encoder ? f->pieces[tile->piece].count : 0,
            .group = group,
            .window = s->is_sliding[f->layer_index] ? s->window : 0,
            .scale = s->score_scale,
            .cap = s->score_cap,
            .slopes = f->slopes ? f->slopes + head : NULL,
            .sinks = f->layer->sinks ? f->layer->sinks + head : NULL,
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

/* After attention: the residual and what the MLP reads.  Side by side with attention it reads what that did. */
static void step_ffn_norm(void *context, size_t begin, size_t end, unsigned thread)
{
    ap_forward *f = context;
    const ap_layer *l = f->layer;
    bool is_parallel = f->model->sizes.is_parallel;
    for (size_t t = begin; t < end; t++) {
        if (is_parallel)
            norm_into_h(f, t, l->ffn_norm, l->ffn_norm_bias, PLANES);
        add_block(f, t, l->attn_out_bias, l->attn_post_norm, l->attn_post_norm_bias);
        if (!is_parallel)
            norm_into_h(f, t, l->ffn_norm, l->ffn_norm_bias, PLANES);
    }
}

/* out = f(gate) * up, or f(up) where there is no gate; biases first. */
static void activate(const ap_forward *f, const ap_mlp *m, float *out, float *gate, float *up, uint32_t width)
{
    const ap_vec_ops *vec = &f->kernels->vec;
    if (m->gate_bias)
        vec->add(gate, m->gate_bias, width);
    if (m->up_bias)
        vec->add(up, m->up_bias, width);
    vec->activate[f->model->sizes.activation](out, m->gate.panels ? gate : up, m->gate.panels ? up : NULL, width);
}

static void step_activate(void *context, size_t begin, size_t end, unsigned thread)
{
    ap_forward *f = context;
    uint32_t width = f->model->sizes.ffn_width;
    for (size_t t = begin; t < end; t++) {
        activate(f, &f->layer->mlp, f->h + t * width, f->gate + t * width, f->up + t * width, width);
        quantize(f, t, width, PLANES);
    }
}

/* After the MLP: the residual, then the norm that the next layer begins with. */
static void step_next_layer(void *context, size_t begin, size_t end, unsigned thread)
{
    ap_forward *f = context;
    const ap_layer *l = f->layer;
    bool is_last = f->layer_index + 1 == f->model->sizes.layer_count;
    for (size_t t = begin; t < end; t++) {
        add_block(f, t, l->mlp.down_bias, l->ffn_post_norm, l->ffn_post_norm_bias);
        if (!is_last)
            norm_into_h(f, t, l[1].attn_norm, l[1].attn_norm_bias, PLANES_FINE);
    }
}

/* ---- Steps over tokens and slots, with experts ---- */

/* The used experts are those with the largest router logits, ties to the lower index. */
static void step_route(void *context, size_t begin, size_t end, unsigned thread)
{
    ap_forward *f = context;
    const ap_hparams *s = &f->model->sizes;
    for (size_t t = begin; t < end; t++) {
        float *logits = f->router + t * s->expert_count, e[AP_EXPERTS_USED_MAX], chosen[AP_EXPERTS_USED_MAX];
        expert_choice *choices = f->choices + t * s->expert_used;
        if (f->layer->router_bias)
            f->kernels->vec.add(logits, f->layer->router_bias, s->expert_count);
        uint32_t used = 0;
        for (uint32_t expert = 0; expert < s->expert_count; expert++) {
            uint32_t larger = 0;
            for (uint32_t other = 0; other < s->expert_count; other++)
                larger += logits[other] > logits[expert] || (logits[other] == logits[expert] && other < expert);
            if (larger >= s->expert_used || used == s->expert_used)
                continue;
            chosen[used] = logits[expert];
            choices[used++].expert = expert;
        }
        /* Every logit is a NaN, or none is larger: never fewer than are asked for. */
        ap_assert(used == s->expert_used);
        const ap_vec_ops *vec = &f->kernels->vec;
        float largest = vec->largest(logits, s->expert_count), sum = vec->exp_sum(e, chosen, used, largest);
        if (!s->is_router_normed)
            sum = vec->exp_sum(logits, logits, s->expert_count, largest);
        for (uint32_t i = 0; i < used; i++)
            choices[i].weight = e[i] / sum;
    }
}

/* Tokens gathered per expert, ascending in both. */
static void place_slots(ap_forward *f)
{
    const ap_hparams *s = &f->model->sizes;
    uint32_t *first = f->expert_first, total = f->token_count * s->expert_used;
    memset(first, 0, (s->expert_count + 1) * sizeof *first);
    for (uint32_t i = 0; i < total; i++)
        first[f->choices[i].expert + 1]++;
    for (uint32_t e = 0; e < s->expert_count; e++)
        first[e + 1] += first[e];
    for (uint32_t i = 0; i < total; i++) {
        expert_choice *choice = &f->choices[i];
        choice->slot = first[choice->expert]++;
        f->slots[choice->slot] = (expert_slot){.token = i / s->expert_used, .expert = choice->expert};
    }
    /* Each now says where the next begins. */
    memmove(first + 1, first, s->expert_count * sizeof *first);
    first[0] = 0;
}

/* The 8-bit form of what a slot's expert reads next, among those of the same expert. */
static void quantize_slot(ap_forward *f, size_t slot, const float *x, uint32_t width)
{
    uint32_t expert = f->slots[slot].expert, first = f->expert_first[expert], count = f->expert_first[expert + 1] - first;
    ap_act_slab *slabs = (ap_act_slab *)(void *)(f->slot_acts + ap_acts_bytes(first, width, PLANES));
    if (f->reads_codes)
        f->kernels->matmul.quantize(x, width, PLANES, slabs + (slot - first) * PLANES, (size_t)count * PLANES);
}

static void step_gather(void *context, size_t begin, size_t end, unsigned thread)
{
    ap_forward *f = context;
    uint32_t width = f->model->sizes.width;
    for (size_t i = begin; i < end; i++) {
        float *x = f->slot_x + i * width;
        memcpy(x, f->h + (size_t)f->slots[i].token * width, width * sizeof *x);
        quantize_slot(f, i, x, width);
    }
}

static void step_activate_slots(void *context, size_t begin, size_t end, unsigned thread)
{
    ap_forward *f = context;
    uint32_t width = f->model->sizes.expert_ffn_width;
    for (size_t i = begin; i < end; i++) {
        float *gate = f->slot_gate + i * width;
        activate(f, &f->layer->experts[f->slots[i].expert], gate, gate, f->slot_up + i * width, width);
        quantize_slot(f, i, gate, width);
    }
}

/* The weighted sum of a token's experts, by ascending index. */
static void step_join(void *context, size_t begin, size_t end, unsigned thread)
{
    ap_forward *f = context;
    const ap_hparams *s = &f->model->sizes;
    for (size_t t = begin; t < end; t++) {
        float *y = f->y + t * s->width;
        memset(y, 0, s->width * sizeof *y);
        for (uint32_t i = 0; i < s->expert_used; i++) {
            const expert_choice *choice = &f->choices[t * s->expert_used + i];
            float *part = f->slot_y + (size_t)choice->slot * s->width;
            const float *bias = f->layer->experts[choice->expert].down_bias;
            if (bias)
                f->kernels->vec.add(part, bias, s->width);
            f->kernels->vec.add_scaled(y, part, choice->weight, s->width);
        }
    }
}

/* ---- The pass ---- */

static void run_jobs(ap_forward *f, const ap_matmul_job *jobs, uint32_t count)
{
    for (uint32_t i = 0; f->observer && i < count; i++)
        f->observer(f->observer_context, jobs[i].matrix, jobs[i].acts->x, jobs[i].acts->tokens);
    ap_matmul(f->kernels, f->pool, jobs, count);
}

static void multiply(ap_forward *f, uint32_t planes, ap_matmul_job *jobs, uint32_t count)
{
    ap_acts acts = acts_of(f, jobs[0].matrix->cols, planes);
    for (uint32_t i = 0; i < count; i++) {
        jobs[i].acts = &acts;
        jobs[i].y_stride = jobs[i].matrix->rows;
    }
    run_jobs(f, jobs, count);
}

static void step_adapt(void *context, size_t begin, size_t end, unsigned thread)
{
    ap_forward *f = context;
    uint32_t rank = f->lora->a.rows, rows = f->lora->rows, parts = (rows + ADAPTED_ROWS - 1) / ADAPTED_ROWS;
    for (size_t i = begin; i < end; i++) {
        const float *low = f->low + i / parts * rank;
        uint32_t first = (uint32_t)(i % parts) * ADAPTED_ROWS, count = rows - first < ADAPTED_ROWS ? rows - first : ADAPTED_ROWS;
        float *y = f->adapted + i / parts * rows + first;
        for (uint32_t r = 0; r < rank; r++)
            f->kernels->vec.add_scaled(y, f->lora->b + (size_t)r * rows + first, low[r] * f->lora->scale, count);
    }
}

/* Adds the adapter's share to a product whose input stands in h. */
static void adapt(ap_forward *f, ap_role role, float *y)
{
    f->lora = ap_adapter_find(f->adapter, f->layer_index, role);
    if (!f->lora)
        return;
    f->adapted = y;
    multiply(f, PLANES, (ap_matmul_job[]){{.matrix = &f->lora->a, .y = f->low}}, 1);
    size_t parts = (f->lora->rows + ADAPTED_ROWS - 1) / ADAPTED_ROWS;
    ap_pool_run(f->pool, f->token_count * parts, 1, step_adapt, f);
}

/* One product of each expert that has tokens: `second` NULL, or two of the same input. */
static void multiply_experts(ap_forward *f, const float *x, uint32_t cols, size_t first_matrix, float *first_y,
                             size_t second_matrix, float *second_y)
{
    uint32_t count = 0;
    for (uint32_t e = 0; e < f->model->sizes.expert_count; e++) {
        uint32_t first = f->expert_first[e], tokens = f->expert_first[e + 1] - first;
        if (tokens == 0)
            continue;
        ap_acts *acts = &f->expert_acts[e];
        *acts = (ap_acts){.tokens = tokens, .cols = cols, .planes = PLANES, .x = x + (size_t)first * cols, .x_stride = cols,
                          .slabs = (const ap_act_slab *)(const void *)(f->slot_acts + ap_acts_bytes(first, cols, PLANES))};
        const char *mlp = (const char *)&f->layer->experts[e];
        for (int i = 0; i < (second_y ? 2 : 1); i++) {
            const ap_matrix *matrix = (const void *)(mlp + (i ? second_matrix : first_matrix));
            f->expert_jobs[count++] = (ap_matmul_job){.matrix = matrix, .acts = acts, .y_stride = matrix->rows,
                                                      .y = (i ? second_y : first_y) + (size_t)first * matrix->rows};
        }
    }
    run_jobs(f, f->expert_jobs, count);
}

static void each_slot(ap_forward *f, ap_pool_fn *fn)
{
    ap_pool_run(f->pool, (size_t)f->token_count * f->model->sizes.expert_used, 1, fn, f);
}

static void run_experts(ap_forward *f)
{
    const ap_hparams *s = &f->model->sizes;
    multiply(f, PLANES, (ap_matmul_job[]){{.matrix = &f->layer->router, .y = f->router}}, 1);
    adapt(f, AP_ROLE_ROUTER, f->router);
    each_token(f, step_route);
    place_slots(f);
    each_slot(f, step_gather);
    multiply_experts(f, f->slot_x, s->width, offsetof(ap_mlp, gate), f->slot_gate, offsetof(ap_mlp, up), f->slot_up);
    each_slot(f, step_activate_slots);
    multiply_experts(f, f->slot_gate, s->expert_ffn_width, offsetof(ap_mlp, down), f->slot_y, 0, NULL);
    each_token(f, step_join);
}

static void run_mlp(ap_forward *f)
{
    const ap_mlp *m = &f->layer->mlp;
    /* Without a gate there is one product. */
    multiply(f, PLANES, (ap_matmul_job[]){{.matrix = &m->up, .y = f->up}, {.matrix = &m->gate, .y = f->gate}},
             m->gate.panels ? 2 : 1);
    adapt(f, AP_ROLE_UP, f->up);
    adapt(f, AP_ROLE_GATE, f->gate);
    each_token(f, step_activate);
    multiply(f, PLANES, (ap_matmul_job[]){{.matrix = &m->down, .y = f->y}}, 1);
    adapt(f, AP_ROLE_DOWN, f->y);
}

static void run_layer(ap_forward *f)
{
    const ap_layer *layer = f->layer;
    multiply(f, PLANES_FINE,
             (ap_matmul_job[]){{.matrix = &layer->q, .y = f->q},
                               {.matrix = &layer->k, .y = f->k},
                               {.matrix = &layer->v, .y = f->v}}, 3);
    adapt(f, AP_ROLE_Q, f->q);
    adapt(f, AP_ROLE_K, f->k);
    adapt(f, AP_ROLE_V, f->v);
    each_token(f, step_positions);
    ap_pool_run(f->pool, (size_t)f->tile_count * f->model->sizes.kv_head_count, 1, step_attend, f);
    each_token(f, step_attended);
    multiply(f, PLANES, (ap_matmul_job[]){{.matrix = &layer->attn_out, .y = f->y}}, 1);
    adapt(f, AP_ROLE_ATTN_OUT, f->y);
    each_token(f, step_ffn_norm);
    if (layer->experts)
        run_experts(f);
    else
        run_mlp(f);
    each_token(f, step_next_layer);
}

static void keep_outputs(ap_forward *f, uint32_t piece_count)
{
    const ap_hparams *s = &f->model->sizes;
    uint32_t t = 0, row = 0;
    for (uint32_t p = 0; p < piece_count; p++) {
        const ap_piece *piece = &f->pieces[p];
        for (uint32_t i = piece->count - piece->outputs; i < piece->count; i++, row++) {
            float *final = f->final + (size_t)row * s->width;
            const float *x = f->x + (size_t)(t + i) * s->width;
            if (f->model->arch->norm_place == AP_NORM_SUM) /* is normed */
                memcpy(final, x, s->width * sizeof *final);
            else
                norm(f, final, x, f->model->output_norm, f->model->output_norm_bias, s->width);
        }
        t += piece->count;
    }
}

void ap_forward_observe(ap_forward *f, ap_forward_observer *observer, void *context)
{
    f->observer = observer;
    f->observer_context = context;
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
    for (uint32_t i = 0; s->logit_cap > 0 && i < count; i++)
        f->kernels->vec.softcap(logits + (size_t)i * s->vocab_count, s->logit_cap, s->vocab_count);
}

const float *ap_forward_final(const ap_forward *f, uint32_t first)
{
    ap_assert(first < f->output_count);
    return f->final + (size_t)first * f->model->sizes.width;
}
