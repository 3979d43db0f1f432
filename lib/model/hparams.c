/* SPDX-License-Identifier: Apache-2.0 */
#include <float.h>
#include <math.h>
#include <stdio.h>

#include "model/model.h"

/* Above every model people name today, and small enough that no product below can wrap. */
enum {
    LAYERS_MAX = 512,
    WIDTH_MAX = 65536,
    HEADS_MAX = 1024,
    HEAD_WIDTH_MAX = 256,
    FFN_MAX = 1 << 20,
    VOCAB_MAX = 1 << 20,
    CONTEXT_MAX = 1 << 24
};

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
    static const struct {
        const char *name;
        float idle; /* the value that asks for nothing: some converters write it */
    } refused[] = {{"expert_count", 0},           {"attention.sliding_window", 0}, {"attn_logit_softcapping", 0},
                   {"final_logit_softcapping", 0}, {"attention.max_alibi_bias", 0}, {"logit_scale", 0},
                   {"residual_scale", 0},          {"embedding_scale", 0},          {"attention.clamp_kqv", 0},
                   {"attention.scale", 0},         {"rope.scaling.attn_factor", 1}, {"attention.causal", 1}};
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

static const float FACTOR_MIN = 1e-3f, FACTOR_MAX = 1e6f;

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

/* A factor without a type is linear, as in the files of converters that knew no other. */
static ap_status read_rope_scaling(ap_hparams *sizes, const ap_arch *arch, const ap_gguf *gguf, ap_error *err)
{
    char type_key[96], factor_key[96];
    (void)snprintf(type_key, sizeof type_key, "%s.rope.scaling.type", arch->name);
    (void)snprintf(factor_key, sizeof factor_key, "%s.rope.scaling.factor", arch->name);
    ap_str type = AP_STR("linear");
    bool has_type = ap_gguf_find(gguf, ap_str_from(type_key)), has_factor = ap_gguf_find(gguf, ap_str_from(factor_key));
    float old;
    AP_TRY(read_old_rope_scale(gguf, arch, &old, err));
    if (has_type)
        AP_TRY(ap_gguf_get_str(gguf, type_key, &type, err));
    bool is_none = ap_str_is(type, "none");
    if (!is_none && !ap_str_is(type, "linear"))
        return ap_fail(err, AP_E_UNSUPPORTED, "key '%s' is '%.*s'; this release has none and linear", type_key,
                       (int)(type.len < 40 ? type.len : 40), type.ptr);
    sizes->rope_divisor = isnan(old) ? 1 : old;
    if (has_factor || (has_type && !is_none && isnan(old)))
        AP_TRY(read_f32(gguf, arch, "rope.scaling.factor", FACTOR_MIN, FACTOR_MAX, 0, &sizes->rope_divisor, err));
    if (is_none)
        sizes->rope_divisor = 1;
    if (!isnan(old) && old != sizes->rope_divisor)
        return ap_fail(err, AP_E_FORMAT, "key '%s.rope.scale_linear' is %g, but the keys of rope.scaling say %g", arch->name,
                       (double)old, (double)sizes->rope_divisor);
    return AP_OK;
}

ap_status ap_hparams_read(ap_hparams *s, const ap_arch *arch, const ap_gguf *gguf, ap_error *err)
{
    *s = (ap_hparams){0};
    AP_TRY(refuse_features(gguf, arch, err));
    AP_TRY(read_u32(gguf, arch, "block_count", 1, LAYERS_MAX, 0, &s->layer_count, err));
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
    AP_TRY(read_u32(gguf, arch, "rope.dimension_count", 2, HEAD_WIDTH_MAX, s->head_width, &s->rope_width, err));
    if (s->rope_width % 2 || s->rope_width > s->head_width)
        return ap_fail(err, AP_E_FORMAT, "%u rotary dimensions; an even number up to the head's %u is needed",
                       s->rope_width, s->head_width);
    AP_TRY(read_f32(gguf, arch, "rope.freq_base", 1, 1e12f, 10000, &s->rope_base, err));
    AP_TRY(read_f32(gguf, arch, "attention.layer_norm_rms_epsilon", FLT_MIN, 1, 0, &s->norm_epsilon, err));
    AP_TRY(read_rope_scaling(s, arch, gguf, err));
    s->vocab_count = 0; /* rows of the embedding: import.c and open.c know them */
    return AP_OK;
}
