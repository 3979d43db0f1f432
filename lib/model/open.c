/* open.c - a packed file becomes a model: shapes are checked once more, pointers are set.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "kernel/attention.h"
#include "model/mix.h"
#include "model/model.h"
#include "model/rules.h"

static ap_status check_bytes(const ap_packed_tensor *t, uint64_t expected, ap_error *err)
{
    if (t->bytes != expected)
        return ap_fail(err, AP_E_FORMAT, "this packed file is damaged: tensor '%.*s' has %" PRIu64 " bytes, %" PRIu64 " are needed",
                       (int)t->name.len, t->name.ptr, t->bytes, expected);
    return AP_OK;
}

static ap_status bind_vector(const ap_packed_tensor *t, const float **out, ap_error *err)
{
    if (t->type != AP_TYPE_F32 || t->layout != AP_LAYOUT_ROWS)
        return ap_fail(err, AP_E_FORMAT, "this packed file is damaged: tensor '%.*s' is not a vector of f32", (int)t->name.len,
                       t->name.ptr);
    AP_TRY(check_bytes(t, t->columns * sizeof(float), err));
    *out = (const float *)(const void *)t->data;
    return AP_OK;
}

static ap_status bind_matrix(const ap_packed_tensor *t, ap_matrix *out, ap_error *err)
{
    uint64_t expected;
    if (t->layout != AP_LAYOUT_PANELS)
        return ap_fail(err, AP_E_FORMAT, "this packed file is damaged: tensor '%.*s' is not in panels", (int)t->name.len,
                       t->name.ptr);
    AP_TRY(ap_pack_bytes(t->type, (uint32_t)t->rows, (uint32_t)t->columns, &expected, err));
    AP_TRY(check_bytes(t, expected, err));
    *out = (ap_matrix){.type = t->type, .rows = (uint32_t)t->rows, .cols = (uint32_t)t->columns, .panels = t->data};
    return AP_OK;
}

static ap_status bind_rows(const ap_packed_tensor *t, ap_matrix *out, const unsigned char **rows, ap_error *err)
{
    uint64_t ignored; /* checks type and columns */
    AP_TRY(ap_pack_bytes(t->type, (uint32_t)t->rows, (uint32_t)t->columns, &ignored, err));
    AP_TRY(check_bytes(t, ap_row_bytes(t->type, (uint32_t)t->columns) * t->rows, err));
    *rows = t->data;
    *out = (ap_matrix){.type = t->type, .rows = (uint32_t)t->rows, .cols = (uint32_t)t->columns};
    return AP_OK;
}

/* Where a role's weights are kept in ap_layer or ap_mlp. */
typedef struct role_place {
    enum { NOWHERE, LAYER_VECTOR, LAYER_MATRIX, MLP_VECTOR, MLP_MATRIX } kind;
    size_t offset;
} role_place;

static const role_place places[AP_ROLE_COUNT] = {
    [AP_ROLE_ATTN_NORM] = {LAYER_VECTOR, offsetof(ap_layer, attn_norm)},
    [AP_ROLE_ATTN_NORM_BIAS] = {LAYER_VECTOR, offsetof(ap_layer, attn_norm_bias)},
    [AP_ROLE_Q] = {LAYER_MATRIX, offsetof(ap_layer, q)},
    [AP_ROLE_K] = {LAYER_MATRIX, offsetof(ap_layer, k)},
    [AP_ROLE_V] = {LAYER_MATRIX, offsetof(ap_layer, v)},
    [AP_ROLE_Q_BIAS] = {LAYER_VECTOR, offsetof(ap_layer, q_bias)},
    [AP_ROLE_K_BIAS] = {LAYER_VECTOR, offsetof(ap_layer, k_bias)},
    [AP_ROLE_V_BIAS] = {LAYER_VECTOR, offsetof(ap_layer, v_bias)},
    [AP_ROLE_Q_NORM] = {LAYER_VECTOR, offsetof(ap_layer, q_norm)},
    [AP_ROLE_K_NORM] = {LAYER_VECTOR, offsetof(ap_layer, k_norm)},
    [AP_ROLE_SINKS] = {LAYER_VECTOR, offsetof(ap_layer, sinks)},
    [AP_ROLE_ATTN_OUT] = {LAYER_MATRIX, offsetof(ap_layer, attn_out)},
    [AP_ROLE_ATTN_OUT_BIAS] = {LAYER_VECTOR, offsetof(ap_layer, attn_out_bias)},
    [AP_ROLE_ATTN_POST_NORM] = {LAYER_VECTOR, offsetof(ap_layer, attn_post_norm)},
    [AP_ROLE_ATTN_POST_NORM_BIAS] = {LAYER_VECTOR, offsetof(ap_layer, attn_post_norm_bias)},
    [AP_ROLE_FFN_NORM] = {LAYER_VECTOR, offsetof(ap_layer, ffn_norm)},
    [AP_ROLE_FFN_NORM_BIAS] = {LAYER_VECTOR, offsetof(ap_layer, ffn_norm_bias)},
    [AP_ROLE_FFN_POST_NORM] = {LAYER_VECTOR, offsetof(ap_layer, ffn_post_norm)},
    [AP_ROLE_FFN_POST_NORM_BIAS] = {LAYER_VECTOR, offsetof(ap_layer, ffn_post_norm_bias)},
    [AP_ROLE_GATE] = {MLP_MATRIX, offsetof(ap_mlp, gate)},
    [AP_ROLE_UP] = {MLP_MATRIX, offsetof(ap_mlp, up)},
    [AP_ROLE_DOWN] = {MLP_MATRIX, offsetof(ap_mlp, down)},
    [AP_ROLE_GATE_BIAS] = {MLP_VECTOR, offsetof(ap_mlp, gate_bias)},
    [AP_ROLE_UP_BIAS] = {MLP_VECTOR, offsetof(ap_mlp, up_bias)},
    [AP_ROLE_DOWN_BIAS] = {MLP_VECTOR, offsetof(ap_mlp, down_bias)},
    [AP_ROLE_ROUTER] = {LAYER_MATRIX, offsetof(ap_layer, router)},
    [AP_ROLE_ROUTER_BIAS] = {LAYER_VECTOR, offsetof(ap_layer, router_bias)},
    [AP_ROLE_EXPERT_GATE] = {MLP_MATRIX, offsetof(ap_mlp, gate)},
    [AP_ROLE_EXPERT_UP] = {MLP_MATRIX, offsetof(ap_mlp, up)},
    [AP_ROLE_EXPERT_DOWN] = {MLP_MATRIX, offsetof(ap_mlp, down)},
    [AP_ROLE_EXPERT_GATE_BIAS] = {MLP_VECTOR, offsetof(ap_mlp, gate_bias)},
    [AP_ROLE_EXPERT_UP_BIAS] = {MLP_VECTOR, offsetof(ap_mlp, up_bias)},
    [AP_ROLE_EXPERT_DOWN_BIAS] = {MLP_VECTOR, offsetof(ap_mlp, down_bias)},
};

static void *place_in_layer(const ap_model *m, const ap_wanted *w)
{
    ap_layer *layer = &m->layers[w->layer];
    ap_mlp *mlp = w->rule->role >= AP_ROLE_EXPERT_FIRST ? &layer->experts[w->expert] : &layer->mlp;
    role_place place = places[w->rule->role];
    return (char *)(place.kind >= MLP_VECTOR ? (void *)mlp : (void *)layer) + place.offset;
}

const ap_matrix *ap_model_matrix(const ap_model *m, const ap_wanted *w)
{
    role_place place = places[w->rule->role];
    if (place.kind != LAYER_MATRIX && place.kind != MLP_MATRIX)
        return NULL;
    const ap_matrix *matrix = place_in_layer(m, w);
    return matrix->panels ? matrix : NULL;
}

static ap_status bind_in_layer(ap_model *m, const ap_wanted *w, const ap_packed_tensor *t, ap_error *err)
{
    role_place place = places[w->rule->role];
    void *at = place_in_layer(m, w);
    if (place.kind == LAYER_VECTOR || place.kind == MLP_VECTOR)
        return bind_vector(t, at, err);
    return bind_matrix(t, at, err);
}

static ap_status bind(void *context, const ap_wanted *wanted, ap_error *err)
{
    ap_model *m = context;
    const ap_packed_tensor *t = ap_packed_find(m->packed, ap_str_from(wanted->name));
    if (!t)
        return wanted->rule->is_optional ? AP_OK : ap_fail(err, AP_E_FORMAT, "tensor '%s' is missing", wanted->name);
    uint64_t dims[2] = {t->columns, t->rows};
    AP_TRY(ap_wanted_check(wanted, 2, dims, err));
    if (wanted->rule->role >= AP_ROLE_LAYER_FIRST)
        return bind_in_layer(m, wanted, t, err);
    switch (wanted->rule->role) {
    case AP_ROLE_EMBEDDING:
        return t->layout == AP_LAYOUT_PANELS ? bind_matrix(t, &m->embedding, err)
                                             : bind_rows(t, &m->embedding, &m->embedding_rows, err);
    case AP_ROLE_POSITIONS: return bind_rows(t, &m->positions, &m->position_rows, err);
    case AP_ROLE_TOKEN_TYPES: return bind_rows(t, &m->types, &m->type_rows, err);
    case AP_ROLE_HEAD: return bind_matrix(t, &m->head.layer, err);
    case AP_ROLE_HEAD_BIAS: return bind_vector(t, &m->head.bias, err);
    case AP_ROLE_HEAD_NORM: return bind_vector(t, &m->head.norm, err);
    case AP_ROLE_HEAD_NORM_BIAS: return bind_vector(t, &m->head.norm_bias, err);
    case AP_ROLE_SCORES: return bind_matrix(t, &m->head.scores, err);
    case AP_ROLE_SCORES_BIAS: return bind_vector(t, &m->head.scores_bias, err);
    case AP_ROLE_EMBEDDING_NORM: return bind_vector(t, &m->embedding_norm, err);
    case AP_ROLE_EMBEDDING_NORM_BIAS: return bind_vector(t, &m->embedding_norm_bias, err);
    case AP_ROLE_OUTPUT_NORM: return bind_vector(t, &m->output_norm, err);
    case AP_ROLE_OUTPUT_NORM_BIAS: return bind_vector(t, &m->output_norm_bias, err);
    case AP_ROLE_OUTPUT: return bind_matrix(t, &m->output, err);
    case AP_ROLE_ROPE_DIVISORS: return bind_vector(t, &m->rope_divisors, err);
    case AP_ROLE_ROPE_DIVISORS_LONG: return bind_vector(t, &m->rope_divisors_long, err);
    case AP_ROLE_ROPE_DIVISORS_SHORT: return bind_vector(t, &m->rope_divisors_short, err);
    default: return ap_fail(err, AP_E_BUG, "tensor '%s' has no place", wanted->name);
    }
}

/* Attention and MLP side by side may share a norm; the file then has one. */
static void share_norms(ap_model *m)
{
    for (uint32_t i = 0; m->sizes.is_parallel && i < m->sizes.layer_count; i++) {
        ap_layer *l = &m->layers[i];
        if (l->attn_norm)
            continue;
        l->attn_norm = l->ffn_norm;
        l->attn_norm_bias = l->ffn_norm_bias;
    }
}

static void describe(ap_model *m)
{
    ap_model_info *info = &m->info;
    const ap_gguf *gguf = ap_packed_gguf(m->packed);
    *info = (ap_model_info){
        .file_bytes = m->file.len,
        .context_tokens = m->sizes.context_tokens,
        .vocab_count = m->sizes.vocab_count,
        .layer_count = m->sizes.layer_count,
        .embedding_width = m->sizes.width,
        .has_chat_template = ap_vocab_has_template(m->vocab),
        .is_encoder = m->arch->is_encoder,
        .pooling = m->sizes.pooling,
        .label_count = m->sizes.label_count,
        .type_count = m->sizes.type_count,
    };
    for (ap_kv_type type = 0; type < AP_KV_TYPE_COUNT; type++)
        info->kv_token_bytes[type] = (uint32_t)(ap_forward_page_bytes(m, type) / AP_PAGE_TOKENS);
    (void)snprintf(info->architecture, sizeof info->architecture, "%s", m->arch->name);
    ap_gguf_copy_str(gguf, "general.name", info->name, sizeof info->name);
    ap_gguf_copy_str(gguf, "general.license", info->license, sizeof info->license);
    ap_gguf_copy_str(gguf, "aperto.source.sha256", info->source_sha256, sizeof info->source_sha256);
    uint64_t type_bytes[AP_TYPE_ROOM] = {0};
    for (uint32_t i = 0; i < ap_packed_count(m->packed); i++) {
        const ap_packed_tensor *t = ap_packed_at(m->packed, i);
        info->parameter_count += t->columns * t->rows;
        info->weight_bytes += t->bytes;
        if (ap_str_starts(t->name, AP_STR("blk.")) && t->rows > 1 && ap_matmul_needs_codes(t->type))
            info->int8_weights += t->columns * t->rows;
        if (t->rows > 1)
            type_bytes[t->type % AP_TYPE_ROOM] += t->bytes;
    }
    (void)snprintf(info->quantization, sizeof info->quantization, "%s", ap_quantization_name(gguf, type_bytes));
}

static ap_status open_into(ap_model *m, ap_error *err)
{
    AP_TRY(ap_packed_open(&m->packed, m->file.ptr, m->file.len, err));
    const ap_gguf *gguf = ap_packed_gguf(m->packed);
    ap_str name;
    AP_TRY(ap_gguf_get_str(gguf, "general.architecture", &name, err));
    m->arch = ap_arch_find(name);
    if (!m->arch)
        return ap_fail(err, AP_E_UNSUPPORTED, "key 'general.architecture' is none of: %s", ap_arch_names());
    AP_TRY(ap_hparams_read(&m->sizes, m->arch, gguf, err));
    const ap_packed_tensor *embedding = ap_packed_find(m->packed, AP_STR("token_embd.weight"));
    if (!embedding || embedding->rows > AP_VOCAB_TOKENS_MAX)
        return ap_fail(err, AP_E_FORMAT, "this packed file is damaged: there is no embedding of a possible size");
    m->sizes.vocab_count = (uint32_t)embedding->rows;
    m->layers = ap_alloc_zero(m->sizes.layer_count, sizeof *m->layers);
    if (!m->layers)
        return ap_fail_nomem(err, m->sizes.layer_count * sizeof *m->layers);
    uint32_t experts = m->sizes.expert_count;
    if (experts && !(m->experts = ap_alloc_zero((size_t)m->sizes.layer_count * experts, sizeof *m->experts)))
        return ap_fail_nomem(err, (size_t)m->sizes.layer_count * experts * sizeof *m->experts);
    for (uint32_t i = 0; experts && i < m->sizes.layer_count; i++)
        m->layers[i].experts = m->experts + (size_t)i * experts;
    AP_TRY(ap_rules_walk(m->arch, &m->sizes, bind, m, err));
    share_norms(m);
    if (!m->output.panels && !m->arch->is_encoder) {
        if (!m->embedding.panels)
            return ap_fail(err, AP_E_FORMAT, "this packed file is damaged: there is no output matrix");
        m->output = m->embedding;
    }
    AP_TRY(ap_vocab_create(&m->vocab, gguf, err));
    if (ap_vocab_count(m->vocab) > m->sizes.vocab_count)
        return ap_fail(err, AP_E_FORMAT, "the vocabulary has %u tokens, the embedding %u rows", ap_vocab_count(m->vocab),
                       m->sizes.vocab_count);
    /* Rows that fill the embedding up belong to no token: nobody computes or draws them. */
    m->sizes.vocab_count = m->embedding.rows = m->output.rows = ap_vocab_count(m->vocab);
    describe(m);
    return AP_OK;
}

ap_status ap_model_open(ap_model **out, int fd, ap_error *err)
{
    *out = NULL;
    ap_model *m = ap_alloc_zero(1, sizeof *m);
    if (!m)
        return ap_fail_nomem(err, sizeof *m);
    ap_status status = ap_file_map(fd, &m->file, err);
    if (status == AP_OK)
        status = open_into(m, err);
    if (status != AP_OK) {
        ap_model_close(&m);
        return status;
    }
    *out = m;
    return AP_OK;
}

void ap_model_close(ap_model **model)
{
    ap_model *m = *model;
    *model = NULL;
    if (!m)
        return;
    ap_vocab_close(&m->vocab);
    ap_packed_close(&m->packed);
    ap_file_unmap(&m->file);
    ap_free(m->experts);
    ap_free(m->layers);
    ap_free(m);
}

const ap_model_info *ap_model_info_of(const ap_model *model) { return &model->info; }
const ap_vocab *ap_model_vocab(const ap_model *model) { return model->vocab; }

static void decode_row(const ap_matrix *of, const unsigned char *rows, uint32_t row, float *out)
{
    ap_decode(of->type, rows + row * ap_row_bytes(of->type, of->cols), of->cols, out);
}

void ap_model_embed(const ap_model *m, uint32_t token, float *out)
{
    if (m->embedding_rows)
        decode_row(&m->embedding, m->embedding_rows, token, out);
    else
        ap_matrix_row(&m->embedding, token, out);
}

void ap_model_position(const ap_model *m, uint32_t position, float *out)
{
    decode_row(&m->positions, m->position_rows, position, out);
}

void ap_model_type(const ap_model *m, uint32_t type, float *out) { decode_row(&m->types, m->type_rows, type, out); }
