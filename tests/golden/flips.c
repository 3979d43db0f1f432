/* flips.c - what forward.c reads of a model, one thing changed at a time: every field of ap_hparams and of the entry
 * that changes a number, every vector that a layer may have.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "flips.h"

#include <string.h>

/* The model's entry, free to be changed. */
static ap_arch *own_entry(ap_model *m)
{
    static ap_arch copy;
    copy = *m->arch;
    m->arch = &copy;
    return &copy;
}

static bool take_number(float *value, float none)
{
    if (*value == none)
        return false;
    *value = none;
    return true;
}

static bool any(const bool *flags, uint32_t count)
{
    bool found = false;
    for (uint32_t i = 0; i < count; i++)
        found = found || flags[i];
    return found;
}

/* ---- Sizes ---- */

static bool epsilon(ap_model *m)
{
    m->sizes.norm_epsilon *= 10;
    return true;
}

static bool rope_base(ap_model *m)
{
    m->sizes.rope.base *= 2;
    return any(m->sizes.is_rotary, m->sizes.layer_count) && !any(m->sizes.is_sliding, m->sizes.layer_count);
}

static bool rope_local_base(ap_model *m)
{
    m->sizes.rope_local.base *= 4;
    return any(m->sizes.is_rotary, m->sizes.layer_count) && any(m->sizes.is_sliding, m->sizes.layer_count);
}

static bool has_full_layer(const ap_hparams *s)
{
    for (uint32_t i = 0; i < s->layer_count; i++)
        if (s->is_rotary[i] && !s->is_sliding[i])
            return true;
    return false;
}

static bool rope_divisor(ap_model *m) { return has_full_layer(&m->sizes) && take_number(&m->sizes.rope.divisor, 1); }

static bool rope_magnitude(ap_model *m)
{
    bool local = take_number(&m->sizes.rope_local.magnitude, 1);
    return take_number(&m->sizes.rope.magnitude, 1) || local;
}

static bool rope_ramp(ap_model *m)
{
    if (!m->sizes.rope.is_yarn)
        return false;
    m->sizes.rope.ramp_low += 1;
    m->sizes.rope.ramp_high += 1;
    return true;
}

static bool rope_divisors(ap_model *m)
{
    bool there = m->rope_divisors || m->rope_divisors_long || m->rope_divisors_short;
    m->rope_divisors = m->rope_divisors_long = m->rope_divisors_short = NULL;
    return there;
}

static bool rope_pairs(ap_model *m)
{
    if (!any(m->sizes.is_rotary, m->sizes.layer_count))
        return false;
    ap_arch *entry = own_entry(m);
    entry->rope_pairs = entry->rope_pairs == AP_ROPE_HALVES ? AP_ROPE_INTERLEAVED : AP_ROPE_HALVES;
    return true;
}

static bool rotary_part(ap_model *m)
{
    if (!any(m->sizes.is_rotary, m->sizes.layer_count) || m->sizes.rope_width == m->sizes.head_width || m->rope_divisors ||
        m->rope_divisors_long)
        return false;
    m->sizes.rope_width = m->sizes.head_width;
    return true;
}

static bool layers_without_positions(ap_model *m)
{
    ap_hparams *s = &m->sizes;
    bool some = any(s->is_rotary, s->layer_count), all = true;
    for (uint32_t i = 0; i < s->layer_count; i++) {
        all = all && s->is_rotary[i];
        s->is_rotary[i] = true;
    }
    return some && !all;
}

static bool alibi(ap_model *m) { return take_number(&m->sizes.alibi_bias, 0); }

static bool alibi_scale(ap_model *m)
{
    ap_arch *entry = own_entry(m);
    entry->is_alibi_scaled = !entry->is_alibi_scaled;
    return m->sizes.alibi_bias != 0 && m->sizes.score_scale != 1;
}

static bool activation(ap_model *m)
{
    ap_activation *a = &m->sizes.activation;
    *a = *a == AP_ACTIVATION_GELU_TANH ? AP_ACTIVATION_GELU
         : *a == AP_ACTIVATION_GELU    ? AP_ACTIVATION_GELU_TANH
         : *a == AP_ACTIVATION_SILU    ? AP_ACTIVATION_GELU
                                       : AP_ACTIVATION_SILU;
    return true;
}

static bool embedding_scale(ap_model *m) { return take_number(&m->sizes.embedding_scale, 1); }

static bool score_scale(ap_model *m)
{
    m->sizes.score_scale *= 1.25f;
    return true;
}

static bool score_cap(ap_model *m) { return take_number(&m->sizes.score_cap, 0); }
static bool logit_cap(ap_model *m) { return take_number(&m->sizes.logit_cap, 0); }
static bool qkv_clip(ap_model *m) { return take_number(&m->sizes.qkv_clip, 0); }

static bool parallel(ap_model *m)
{
    /* The other way needs a norm of its own, which only files of some families have. */
    if (m->sizes.is_parallel ? !m->layers[0].ffn_norm : m->arch->norm_place != AP_NORM_BEFORE || m->sizes.expert_count)
        return false;
    m->sizes.is_parallel = !m->sizes.is_parallel;
    return true;
}

static bool window(ap_model *m)
{
    if (!m->sizes.window || !any(m->sizes.is_sliding, m->sizes.layer_count))
        return false;
    m->sizes.window *= 64;
    return true;
}

static bool window_edge(ap_model *m)
{
    m->sizes.window += m->arch->is_encoder ? 2 : 1; /* half of it on either side */
    return any(m->sizes.is_sliding, m->sizes.layer_count);
}

static bool window_layers(ap_model *m)
{
    ap_hparams *s = &m->sizes;
    bool some = any(s->is_sliding, s->layer_count), all = true;
    for (uint32_t i = 0; i < s->layer_count; i++) {
        all = all && s->is_sliding[i];
        s->is_sliding[i] = !s->is_sliding[i];
    }
    return some && !all;
}

static bool experts_used(ap_model *m)
{
    if (m->sizes.expert_used < 2)
        return false;
    m->sizes.expert_used -= 1;
    return true;
}

static bool router_norm(ap_model *m)
{
    m->sizes.is_router_normed = !m->sizes.is_router_normed;
    return m->sizes.expert_count > 0;
}

static bool norm_kind(ap_model *m)
{
    ap_arch *entry = own_entry(m);
    /* Without weights there is none that could be taken instead. */
    if (entry->norm == AP_NORM_LAYER_BARE)
        return false;
    entry->norm = entry->norm == AP_NORM_RMS ? AP_NORM_LAYER : AP_NORM_RMS;
    return true;
}

/* ---- Vectors ---- */

static bool take(const float **vector)
{
    bool there = *vector != NULL;
    *vector = NULL;
    return there;
}

#define OF_EVERY_LAYER(flip, vector)                              \
    static bool flip(ap_model *m)                                 \
    {                                                             \
        bool found = false;                                       \
        for (uint32_t i = 0; i < m->sizes.layer_count; i++)       \
            found = take(&m->layers[i].vector) || found;          \
        return found;                                             \
    }

#define OF_EVERY_MLP(flip, vector)                                                           \
    static bool flip(ap_model *m)                                                            \
    {                                                                                        \
        bool found = false;                                                                  \
        for (uint32_t i = 0; i < m->sizes.layer_count; i++) {                                \
            found = take(&m->layers[i].mlp.vector) || found;                                 \
            for (uint32_t e = 0; m->layers[i].experts && e < m->sizes.expert_count; e++)     \
                found = take(&m->layers[i].experts[e].vector) || found;                      \
        }                                                                                    \
        return found;                                                                        \
    }

OF_EVERY_LAYER(q_bias, q_bias)
OF_EVERY_LAYER(v_bias, v_bias)
OF_EVERY_LAYER(attn_out_bias, attn_out_bias)
OF_EVERY_LAYER(q_norm, q_norm)
OF_EVERY_LAYER(k_norm, k_norm)
OF_EVERY_LAYER(sinks, sinks)
OF_EVERY_LAYER(attn_norm_bias, attn_norm_bias)
OF_EVERY_LAYER(ffn_norm_bias, ffn_norm_bias)
OF_EVERY_LAYER(attn_post_norm, attn_post_norm)
OF_EVERY_LAYER(attn_post_norm_bias, attn_post_norm_bias)
OF_EVERY_LAYER(ffn_post_norm, ffn_post_norm)
OF_EVERY_LAYER(ffn_post_norm_bias, ffn_post_norm_bias)
OF_EVERY_LAYER(router_bias, router_bias)
OF_EVERY_MLP(gate_bias, gate_bias)
OF_EVERY_MLP(up_bias, up_bias)
OF_EVERY_MLP(down_bias, down_bias)

/* Every query sees the same change of its scores when all keys move by a vector, unless positions turn the keys: only then
 * does the bias of keys show at all. */
static bool k_bias(ap_model *m)
{
    bool found = false;
    for (uint32_t i = 0; i < m->sizes.layer_count; i++)
        found = take(&m->layers[i].k_bias) || found;
    return found && any(m->sizes.is_rotary, m->sizes.layer_count);
}

static bool embedding_norm(ap_model *m)
{
    (void)take(&m->embedding_norm_bias);
    return take(&m->embedding_norm);
}

static bool output_norm_bias(ap_model *m) { return take(&m->output_norm_bias); }

static bool positions(ap_model *m)
{
    bool there = m->position_rows != NULL;
    m->position_rows = NULL;
    m->positions = (ap_matrix){0};
    return there;
}

/* ---- Encoders ---- */

static bool sight(ap_model *m)
{
    ap_arch *entry = own_entry(m);
    bool is_encoder = entry->is_encoder;
    entry->is_encoder = false;
    return is_encoder;
}

static bool token_types(ap_model *m)
{
    bool there = m->type_rows != NULL;
    m->type_rows = NULL;
    return there;
}

/* As if every token were of the first text. */
static bool second_type(ap_model *m)
{
    if (m->sizes.type_count < 2)
        return false;
    static unsigned char twice[1 << 16];
    size_t bytes = ap_row_bytes(m->types.type, m->types.cols);
    memcpy(twice, m->type_rows, bytes);
    memcpy(twice + bytes, m->type_rows, bytes);
    m->type_rows = twice;
    return true;
}

static bool pooling(ap_model *m)
{
    m->sizes.pooling = m->sizes.pooling == AP_POOLING_MEAN ? AP_POOLING_CLS : AP_POOLING_MEAN;
    return m->arch->is_encoder;
}

static bool head_activation(ap_model *m)
{
    ap_arch *entry = own_entry(m);
    entry->is_head_gelu = !entry->is_head_gelu;
    return m->sizes.label_count > 0;
}

static bool head_bias(ap_model *m) { return take(&m->head.bias); }
static bool head_norm(ap_model *m) { return take(&m->head.norm); }
static bool scores_bias(ap_model *m) { return take(&m->head.scores_bias); }

const ap_flip ap_flips[] = {
    {"epsilon", epsilon},
    {"rope base", rope_base},
    {"rope base of sliding layers", rope_local_base},
    {"rope divisor", rope_divisor},
    {"rope magnitude", rope_magnitude},
    {"rope ramp", rope_ramp},
    {"rope divisors", rope_divisors},
    {"rope pairs", rope_pairs},
    {"rotary part of a head", rotary_part},
    {"layers without positions", layers_without_positions},
    {"ALiBi", alibi},
    {"ALiBi's scale", alibi_scale},
    {"activation", activation},
    {"embedding scale", embedding_scale},
    {"score scale", score_scale},
    {"score cap", score_cap},
    {"logit cap", logit_cap},
    {"clip of q, k, v", qkv_clip},
    {"parallel blocks", parallel},
    {"window", window},
    {"edge of the window", window_edge},
    {"layers with a window", window_layers},
    {"experts used", experts_used},
    {"router's norm", router_norm},
    {"kind of norm", norm_kind},
    {"bias of q", q_bias},
    {"bias of k", k_bias},
    {"bias of v", v_bias},
    {"bias after attention", attn_out_bias},
    {"norm of q", q_norm},
    {"norm of k", k_norm},
    {"sinks", sinks},
    {"bias of the norm before attention", attn_norm_bias},
    {"bias of the norm before the MLP", ffn_norm_bias},
    {"norm after attention", attn_post_norm},
    {"norm after the MLP", ffn_post_norm},
    {"bias of the norm after attention", attn_post_norm_bias},
    {"bias of the norm after the MLP", ffn_post_norm_bias},
    {"bias of the router", router_bias},
    {"bias of gate", gate_bias},
    {"bias of up", up_bias},
    {"bias of down", down_bias},
    {"norm of embeddings", embedding_norm},
    {"bias of the last norm", output_norm_bias},
    {"learned positions", positions},
    {"sight of what comes later", sight},
    {"token types", token_types},
    {"second token type", second_type},
    {"pooling", pooling},
    {"activation of the head", head_activation},
    {"bias of the head", head_bias},
    {"norm of the head", head_norm},
    {"bias of the scores", scores_bias},
};

const size_t ap_flip_count = sizeof ap_flips / sizeof ap_flips[0];
