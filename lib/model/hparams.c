/* SPDX-License-Identifier: Apache-2.0 */
#include <float.h>
#include <math.h>
#include <stdio.h>

#include "kernel/elementary.h"
#include "model/model.h"

/* Above every model people name today, and small enough that no product below can wrap. */
enum {
    WIDTH_MAX = 65536,
    HEADS_MAX = 1024,
    HEAD_WIDTH_MAX = 256,
    FFN_MAX = 1 << 20,
    VOCAB_MAX = 1 << 20,
    TYPES_MAX = 256,
    CONTEXT_MAX = 1 << 24,
    EXPERTS_MAX = 1024
};

static const float FACTOR_MIN = 1e-3f, FACTOR_MAX = 1e6f;

/* Reads "<architecture>.<name>"; `fallback` 0 means the key must be there. */
static ap_status read_u32(const ap_gguf *gguf, const ap_arch *arch, const char *name, uint32_t low, uint32_t high,
                          uint32_t fallback, uint32_t *out, ap_error *err)
{
    char key[96];
    (void)snprintf(key, sizeof key, "%s.%s", arch->name, name);
    if (fallback && !ap_gguf_find(gguf, ap_str_from(key))) {
        *out = fallback;
        return AP_OK;
    }
    AP_TRY(ap_gguf_get_u32(gguf, key, out, err));
    if (*out < low || *out > high)
        return ap_fail(err, AP_E_FORMAT, "key '%s' is %u; allowed are %u to %u", key, *out, low, high);
    return AP_OK;
}

static ap_status read_f32(const ap_gguf *gguf, const ap_arch *arch, const char *name, float low, float high,
                          float fallback, float *out, ap_error *err)
{
    char key[96];
    (void)snprintf(key, sizeof key, "%s.%s", arch->name, name);
    if (fallback > 0 && !ap_gguf_find(gguf, ap_str_from(key))) {
        *out = fallback;
        return AP_OK;
    }
    AP_TRY(ap_gguf_get_f32(gguf, key, out, err));
    if (!(*out >= low && *out <= high))
        return ap_fail(err, AP_E_FORMAT, "key '%s' is %g; allowed are %g to %g", key, (double)*out, (double)low,
                       (double)high);
    return AP_OK;
}

/* Only what one forward pass reads is believed; a feature it does not have is refused by name. */
static ap_status refuse_features(const ap_gguf *gguf, const ap_arch *arch, ap_error *err)
{
    const struct {
        const char *name;
        float idle; /* the value that asks for nothing: some converters write it */
    } refused[] = {{"expert_shared_count", 0},  {"expert_shared_feed_forward_length", 0},
                   {"expert_group_count", 0},   {"expert_weights_scale", 0},
                   {"logit_scale", 0},          {"residual_scale", 0},
                   {"embedding_scale", 0},      {"attention.causal", arch->is_encoder ? 0 : 1},
                   {"rope.scaling.yarn_log_multiplier", 0}, {"rope.scaling.yarn_ext_factor", 1},
                   {"rope.scaling.yarn_attn_factor", 1}};
    char key[96];
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        (void)snprintf(key, sizeof key, "%s.%s", arch->name, refused[i].name);
        if (!ap_gguf_find(gguf, ap_str_from(key)))
            continue;
        uint32_t whole;
        float number;
        bool flag;
        if (ap_gguf_get_u32(gguf, key, &whole, NULL) == AP_OK && (float)whole == refused[i].idle)
            continue;
        if (ap_gguf_get_f32(gguf, key, &number, NULL) == AP_OK && number == refused[i].idle)
            continue;
        if (ap_gguf_get_bool(gguf, key, &flag, NULL) == AP_OK && (float)flag == refused[i].idle)
            continue;
        return ap_fail(err, AP_E_UNSUPPORTED, "key '%s' asks for a feature that this release does not have", key);
    }
    return AP_OK;
}

/* Early converters wrote one number, "rope.scale_linear", where 0 and 1 mean none; NAN if the key is not there. */
static ap_status read_old_rope_scale(const ap_gguf *gguf, const ap_arch *arch, float *out, ap_error *err)
{
    char key[96];
    (void)snprintf(key, sizeof key, "%s.rope.scale_linear", arch->name);
    *out = NAN;
    if (!ap_gguf_find(gguf, ap_str_from(key)))
        return AP_OK;
    AP_TRY(ap_gguf_get_f32(gguf, key, out, err));
    if (*out == 0)
        *out = 1;
    if (!(*out >= FACTOR_MIN && *out <= FACTOR_MAX))
        return ap_fail(err, AP_E_FORMAT, "key '%s' is %g; allowed are 0 and %g to %g", key, (double)*out, (double)FACTOR_MIN,
                       (double)FACTOR_MAX);
    return AP_OK;
}

static bool has_key(const ap_gguf *gguf, const ap_arch *arch, const char *name)
{
    char key[96];
    (void)snprintf(key, sizeof key, "%s.%s", arch->name, name);
    return ap_gguf_find(gguf, ap_str_from(key));
}

/* 0 says that there is none of it. */
static ap_status read_optional_f32(const ap_gguf *gguf, const ap_arch *arch, const char *name, float low, float high,
                                   float fallback, float *out, ap_error *err)
{
    char key[96];
    (void)snprintf(key, sizeof key, "%s.%s", arch->name, name);
    *out = fallback;
    if (!has_key(gguf, arch, name))
        return AP_OK;
    AP_TRY(ap_gguf_get_f32(gguf, key, out, err));
    if (*out != 0 && !(*out >= low && *out <= high))
        return ap_fail(err, AP_E_FORMAT, "key '%s' is %g; allowed are 0 and %g to %g", key, (double)*out, (double)low,
                       (double)high);
    return AP_OK;
}

static ap_status read_optional_u32(const ap_gguf *gguf, const ap_arch *arch, const char *name, uint32_t high, uint32_t *out,
                                   ap_error *err)
{
    *out = 0;
    return has_key(gguf, arch, name) ? read_u32(gguf, arch, name, 0, high, 0, out, err) : AP_OK;
}

static ap_status read_flag(const ap_gguf *gguf, const ap_arch *arch, const char *name, bool fallback, bool *out, ap_error *err)
{
    char key[96];
    (void)snprintf(key, sizeof key, "%s.%s", arch->name, name);
    *out = fallback;
    return has_key(gguf, arch, name) ? ap_gguf_get_bool(gguf, key, out, err) : AP_OK;
}

/* Where YaRN's ramp begins and ends: whole pairs unless the family says otherwise. */
static ap_status read_yarn(ap_hparams *sizes, const ap_arch *arch, const ap_gguf *gguf, ap_error *err)
{
    ap_rope_scaling *s = &sizes->rope;
    float fast, slow;
    AP_TRY(read_f32(gguf, arch, "rope.scaling.yarn_beta_fast", 1e-3f, 1e6f, 32, &fast, err));
    AP_TRY(read_f32(gguf, arch, "rope.scaling.yarn_beta_slow", 1e-3f, 1e6f, 1, &slow, err));
    if (s->base <= 1)
        return ap_fail(err, AP_E_FORMAT, "yarn with the rotary base %g; a base above 1 is needed", (double)s->base);
    float low = ap_rope_pair_of_turns(sizes->rope_width, s->base, s->original_tokens, fast);
    float high = ap_rope_pair_of_turns(sizes->rope_width, s->base, s->original_tokens, slow), last = (float)(sizes->rope_width - 1);
    low = low < 0 ? 0 : low > last ? last : low;
    high = high < 0 ? 0 : high > last ? last : high;
    if (!arch->is_yarn_exact) {
        low = (float)(uint32_t)low;
        high = (float)(uint32_t)high < high ? (float)((uint32_t)high + 1) : high;
    }
    s->is_yarn = true;
    s->ramp_low = low;
    s->ramp_high = high;
    s->magnitude *= 0.1f * ap_logf(s->divisor) + 1;
    return AP_OK;
}

/* A factor without a type is linear, as in the files of converters that knew no other. */
static ap_status read_rope_scaling(ap_hparams *sizes, const ap_arch *arch, const ap_gguf *gguf, ap_error *err)
{
    char type_key[96];
    (void)snprintf(type_key, sizeof type_key, "%s.rope.scaling.type", arch->name);
    ap_str type = AP_STR("linear");
    bool has_type = ap_gguf_find(gguf, ap_str_from(type_key)), has_factor = has_key(gguf, arch, "rope.scaling.factor");
    float old;
    AP_TRY(read_old_rope_scale(gguf, arch, &old, err));
    if (has_type)
        AP_TRY(ap_gguf_get_str(gguf, type_key, &type, err));
    bool is_none = ap_str_is(type, "none"), is_long = ap_str_is(type, "longrope"), is_yarn = ap_str_is(type, "yarn");
    if (!is_none && !is_long && !is_yarn && !ap_str_is(type, "linear"))
        return ap_fail(err, AP_E_UNSUPPORTED, "key '%s' is '%.*s'; this release has none, linear, yarn and longrope", type_key,
                       (int)(type.len < 40 ? type.len : 40), type.ptr);
    ap_rope_scaling *s = &sizes->rope;
    s->divisor = isnan(old) ? 1 : old;
    if ((has_factor && !is_long) || (has_type && !is_none && !is_long && isnan(old)))
        AP_TRY(read_f32(gguf, arch, "rope.scaling.factor", FACTOR_MIN, FACTOR_MAX, 0, &s->divisor, err));
    if (is_none)
        s->divisor = 1;
    if (!isnan(old) && old != s->divisor)
        return ap_fail(err, AP_E_FORMAT, "key '%s.rope.scale_linear' is %g, but the keys of rope.scaling say %g", arch->name,
                       (double)old, (double)s->divisor);
    AP_TRY(read_f32(gguf, arch, "rope.scaling.attn_factor", FACTOR_MIN, FACTOR_MAX, 1, &s->magnitude, err));
    AP_TRY(read_u32(gguf, arch, "rope.scaling.original_context_length", 1, CONTEXT_MAX, sizes->context_tokens,
                    &s->original_tokens, err));
    return is_yarn ? read_yarn(sizes, arch, gguf, err) : AP_OK;
}

static ap_status read_positions(ap_hparams *s, const ap_arch *arch, const ap_gguf *gguf, ap_error *err)
{
    AP_TRY(read_u32(gguf, arch, "rope.dimension_count", 2, HEAD_WIDTH_MAX, s->head_width, &s->rope_width, err));
    if (s->rope_width % 2 || s->rope_width > s->head_width)
        return ap_fail(err, AP_E_FORMAT, "%u rotary dimensions; an even number up to the head's %u is needed",
                       s->rope_width, s->head_width);
    AP_TRY(read_f32(gguf, arch, "rope.freq_base", 1, 1e12f, 10000, &s->rope.base, err));
    AP_TRY(read_rope_scaling(s, arch, gguf, err));
    s->rope_local = s->rope;
    if (arch->rope_local_base > 0 || arch->is_rope_local_unscaled) {
        s->rope_local = (ap_rope_scaling){.divisor = 1, .magnitude = 1};
        float usual = arch->rope_local_base > 0 ? arch->rope_local_base : s->rope.base;
        AP_TRY(read_f32(gguf, arch, "rope.freq_base_swa", 1, 1e12f, usual, &s->rope_local.base, err));
    }
    AP_TRY(read_optional_f32(gguf, arch, "attention.max_alibi_bias", 1e-3f, 1e6f, arch->alibi_bias, &s->alibi_bias, err));
    for (uint32_t i = 0; i < s->layer_count; i++)
        s->is_rotary[i] = s->alibi_bias == 0 && (arch->rotary_period == 0 || (i + 1) % arch->rotary_period != 0);
    return AP_OK;
}

/* Reads one flag per layer, if the key is there. */
static ap_status read_layer_flags(const ap_gguf *gguf, const ap_arch *arch, const char *name, const ap_hparams *s, bool *flags,
                                  ap_error *err)
{
    char key[96];
    (void)snprintf(key, sizeof key, "%s.%s", arch->name, name);
    const ap_gguf_key *found = ap_gguf_find(gguf, ap_str_from(key));
    if (!found)
        return AP_OK;
    if (found->kind != AP_GGUF_ARRAY || found->item_kind != AP_GGUF_BOOL || found->count != s->layer_count)
        return ap_fail(err, AP_E_FORMAT, "key '%s' is no array of one bool for each of %u layers", key, s->layer_count);
    for (uint32_t i = 0; i < s->layer_count; i++)
        flags[i] = found->bytes[i] != 0;
    return AP_OK;
}

/* Which layers have the window: a period or a list in the file, or the family's period. */
static ap_status read_window(ap_hparams *s, const ap_arch *arch, const ap_gguf *gguf, ap_error *err)
{
    static const char pattern[] = "attention.sliding_window_pattern";
    char key[96];
    (void)snprintf(key, sizeof key, "%s.%s", arch->name, pattern);
    AP_TRY(read_optional_u32(gguf, arch, "attention.sliding_window", INT32_MAX, &s->window, err));
    uint32_t period = arch->window_period, open = arch->window_open, given;
    if (ap_gguf_get_u32(gguf, key, &given, NULL) == AP_OK) {
        period = given;
        open = arch->window_period && arch->window_open == 0 ? 0 : given - 1; /* the first of a period, or the last */
    }
    for (uint32_t i = 0; s->window && i < s->layer_count; i++)
        s->is_sliding[i] = period == 0 || i % period != open;
    if (s->window && has_key(gguf, arch, pattern) && ap_gguf_get_u32(gguf, key, &given, NULL) != AP_OK)
        AP_TRY(read_layer_flags(gguf, arch, pattern, s, s->is_sliding, err));
    return read_layer_flags(gguf, arch, "rope.layer_pattern", s, s->is_rotary, err);
}

static ap_status read_experts(ap_hparams *s, const ap_arch *arch, const ap_gguf *gguf, ap_error *err)
{
    AP_TRY(read_optional_u32(gguf, arch, "expert_count", EXPERTS_MAX, &s->expert_count, err));
    if (s->expert_count == 0)
        return AP_OK;
    bool has_rules = false;
    for (size_t i = 0; i < arch->tensor_count; i++)
        has_rules = has_rules || arch->tensors[i].role >= AP_ROLE_EXPERT_FIRST;
    if (!has_rules)
        return ap_fail(err, AP_E_UNSUPPORTED, "key '%s.expert_count' is %u; this release has no %s with experts", arch->name,
                       s->expert_count, arch->name);
    AP_TRY(read_u32(gguf, arch, "expert_used_count", 1, s->expert_count < AP_EXPERTS_USED_MAX ? s->expert_count : AP_EXPERTS_USED_MAX,
                    0, &s->expert_used, err));
    AP_TRY(read_u32(gguf, arch, "expert_feed_forward_length", 1, FFN_MAX, s->ffn_width, &s->expert_ffn_width, err));
    uint32_t gating;
    AP_TRY(read_optional_u32(gguf, arch, "expert_gating_func", 16, &gating, err));
    if (gating != 0 && gating != 1 && gating != 3)
        return ap_fail(err, AP_E_UNSUPPORTED, "key '%s.expert_gating_func' is %u; this release has the softmax, 1 and 3", arch->name,
                       gating);
    return read_flag(gguf, arch, "expert_weights_norm", arch->is_router_normed || gating == 3, &s->is_router_normed, err);
}

/* Which form of gelu, where a family has both; the entry's activation else. */
static ap_status read_activation(ap_hparams *s, const ap_arch *arch, const ap_gguf *gguf, ap_error *err)
{
    char key[96];
    ap_str name;
    s->activation = arch->activation;
    (void)snprintf(key, sizeof key, "%s.hidden_activation", arch->name);
    if (!ap_gguf_find(gguf, ap_str_from(key)))
        return AP_OK;
    AP_TRY(ap_gguf_get_str(gguf, key, &name, err));
    bool is_tanh = ap_str_is(name, "gelu_new") || ap_str_is(name, "gelu_fast") || ap_str_is(name, "gelu_pytorch_tanh");
    if ((arch->activation != AP_ACTIVATION_GELU && arch->activation != AP_ACTIVATION_GELU_TANH) || (!is_tanh && !ap_str_is(name, "gelu")))
        return ap_fail(err, AP_E_UNSUPPORTED, "key '%s' is '%.*s', which this release does not have for %s", key,
                       (int)(name.len < 40 ? name.len : 40), name.ptr, arch->name);
    s->activation = is_tanh ? AP_ACTIVATION_GELU_TANH : AP_ACTIVATION_GELU;
    return AP_OK;
}

static ap_status read_scales(ap_hparams *s, const ap_arch *arch, const ap_gguf *gguf, ap_error *err)
{
    const char *epsilon = arch->norm == AP_NORM_RMS ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon";
    AP_TRY(read_f32(gguf, arch, epsilon, FLT_MIN, 1, 0, &s->norm_epsilon, err));
    bool is_wide = arch->score_width_layers == s->layer_count;
    float usual = 1.0f / sqrtf((float)(is_wide ? s->width / s->head_count : s->head_width));
    AP_TRY(read_optional_f32(gguf, arch, "attention.scale", 1e-6f, 1e6f, usual, &s->score_scale, err));
    if (s->score_scale == 0)
        s->score_scale = usual;
    AP_TRY(read_optional_f32(gguf, arch, "attn_logit_softcapping", 1e-3f, 1e6f, arch->score_cap, &s->score_cap, err));
    AP_TRY(read_optional_f32(gguf, arch, "final_logit_softcapping", 1e-3f, 1e6f, arch->logit_cap, &s->logit_cap, err));
    AP_TRY(read_optional_f32(gguf, arch, "attention.clamp_kqv", 1e-3f, 1e6f, 0, &s->qkv_clip, err));
    s->embedding_scale = arch->is_embedding_scaled ? sqrtf((float)s->width) : 1;
    return read_flag(gguf, arch, "use_parallel_residual", arch->is_parallel, &s->is_parallel, err);
}

/* What becomes of a sequence's final vectors. */
static ap_status read_pooling(ap_hparams *s, const ap_arch *arch, const ap_gguf *gguf, ap_error *err)
{
    enum { RANK = 4 };
    char key[96];
    uint32_t pooling = arch->is_encoder ? AP_POOLING_MEAN : AP_POOLING_LAST;
    if (has_key(gguf, arch, "pooling_type"))
        AP_TRY(read_u32(gguf, arch, "pooling_type", 0, RANK, 0, &pooling, err));
    s->pooling = pooling == RANK ? arch->rank_pooling : (ap_pooling)pooling;
    (void)snprintf(key, sizeof key, "%s.classifier.output_labels", arch->name);
    const ap_gguf_key *labels = ap_gguf_find(gguf, ap_str_from(key));
    s->label_count = pooling == RANK; /* files of rerankers need not name their one score */
    if (!labels)
        return AP_OK;
    if (labels->kind != AP_GGUF_ARRAY || labels->item_kind != AP_GGUF_STRING || labels->count == 0 || labels->count > AP_LABELS_MAX)
        return ap_fail(err, AP_E_FORMAT, "key '%s' is no array of 1 to %d strings", key, AP_LABELS_MAX);
    s->label_count = (uint32_t)labels->count;
    return AP_OK;
}

static ap_status read_encoder(ap_hparams *s, const ap_arch *arch, const ap_gguf *gguf, ap_error *err)
{
    static const char types[] = "tokenizer.ggml.token_type_count";
    bool has_types = false, has_head = false;
    for (size_t i = 0; i < arch->tensor_count; i++) {
        has_types = has_types || arch->tensors[i].role == AP_ROLE_TOKEN_TYPES;
        has_head = has_head || arch->tensors[i].role == AP_ROLE_SCORES;
    }
    AP_TRY(read_pooling(s, arch, gguf, err));
    if (s->label_count && !has_head)
        return ap_fail(err, AP_E_UNSUPPORTED, "the file has %u labels; this release has no %s with a head that scores", s->label_count,
                       arch->name);
    s->type_count = 1;
    if (has_types && ap_gguf_find(gguf, ap_str_from(types))) {
        AP_TRY(ap_gguf_get_u32(gguf, types, &s->type_count, err));
        if (s->type_count == 0 || s->type_count > TYPES_MAX)
            return ap_fail(err, AP_E_FORMAT, "key '%s' is %u; allowed are 1 to %d", types, s->type_count, TYPES_MAX);
    }
    if (arch->is_encoder && s->alibi_bias > 0)
        return ap_fail(err, AP_E_UNSUPPORTED, "key '%s.attention.max_alibi_bias' asks for a feature that this release does not have",
                       arch->name);
    return AP_OK;
}

ap_status ap_hparams_read(ap_hparams *s, const ap_arch *arch, const ap_gguf *gguf, ap_error *err)
{
    *s = (ap_hparams){0};
    AP_TRY(refuse_features(gguf, arch, err));
    AP_TRY(read_u32(gguf, arch, "block_count", 1, AP_LAYERS_MAX, 0, &s->layer_count, err));
    AP_TRY(read_u32(gguf, arch, "embedding_length", 1, WIDTH_MAX, 0, &s->width, err));
    AP_TRY(read_u32(gguf, arch, "attention.head_count", 1, HEADS_MAX, 0, &s->head_count, err));
    AP_TRY(read_u32(gguf, arch, "attention.head_count_kv", 1, HEADS_MAX, s->head_count, &s->kv_head_count, err));
    AP_TRY(read_u32(gguf, arch, "feed_forward_length", 1, FFN_MAX, 0, &s->ffn_width, err));
    AP_TRY(read_u32(gguf, arch, "context_length", 1, CONTEXT_MAX, 0, &s->context_tokens, err));
    if (s->head_count % s->kv_head_count)
        return ap_fail(err, AP_E_FORMAT, "%u query heads cannot be shared evenly by %u KV heads", s->head_count,
                       s->kv_head_count);
    /* 0 makes the check below refuse a width that is no multiple of the heads, unless the key says more. */
    uint32_t even = s->width % s->head_count == 0 ? s->width / s->head_count : 0;
    AP_TRY(read_u32(gguf, arch, "attention.key_length", 2, HEAD_WIDTH_MAX, even, &s->head_width, err));
    uint32_t value_width;
    AP_TRY(read_u32(gguf, arch, "attention.value_length", 2, HEAD_WIDTH_MAX, s->head_width, &value_width, err));
    if (s->head_width < 2 || s->head_width > HEAD_WIDTH_MAX || s->head_width % 2)
        return ap_fail(err, AP_E_FORMAT, "heads of %u dimensions; an even number from 2 to %d is needed", s->head_width,
                       HEAD_WIDTH_MAX);
    if (value_width != s->head_width)
        return ap_fail(err, AP_E_UNSUPPORTED, "key heads of %u and value heads of %u dimensions differ", s->head_width,
                       value_width);
    AP_TRY(read_positions(s, arch, gguf, err));
    AP_TRY(read_window(s, arch, gguf, err));
    AP_TRY(read_experts(s, arch, gguf, err));
    AP_TRY(read_scales(s, arch, gguf, err));
    AP_TRY(read_activation(s, arch, gguf, err));
    AP_TRY(read_encoder(s, arch, gguf, err));
    s->vocab_count = 0; /* rows of the embedding: import.c and open.c know them */
    return AP_OK;
}

bool ap_hparams_is_rotary(const ap_hparams *sizes)
{
    for (uint32_t i = 0; i < sizes->layer_count; i++)
        if (sizes->is_rotary[i])
            return true;
    return false;
}
