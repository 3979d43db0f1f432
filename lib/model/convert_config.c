/* convert_config.c - config.json out of a model's sizes.
 *
 * The family's table (arch.h) is read backwards: what it says of config.json's names holds in both directions.  The
 * result is then read as any folder's is, and must give the sizes it was made of: what config.json cannot say is refused
 * by name instead of being lost.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "kernel/elementary.h"
#include "model/convert.h"
#include "model/hf.h"

typedef struct config {
    json_t *json;
    const ap_arch *arch;
    const ap_hparams *sizes;
    const ap_gguf *keys;
    const ap_convert_tensors *tensors;
    ap_error *err;
} config;

static ap_status put(config *c, const char *name, json_t *value)
{
    return json_object_set_new(c->json, name, value) == 0 ? AP_OK : ap_fail_nomem(c->err, 64);
}

/* The shortest decimal of a float: 1e-05, not 9.99999975e-06. */
static json_t *real_of(float x)
{
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, (double)x);
        if (strtof(text, NULL) == x)
            break;
    }
    return json_real(strtod(text, NULL));
}

/* The nearest whole number of one that is not negative; one too large stays as it is. */
static double nearest(double x) { return x >= 0 && x < 1e15 ? (double)(int64_t)(x + 0.5) : x; }

/* ---- Sizes by their GGUF keys ---- */

typedef struct size_field {
    const char *key;
    size_t offset;
    enum { WHOLE, NUMBER, FLAG } kind;
} size_field;

#define FIELD(key, member, kind) {key, offsetof(ap_hparams, member), kind}
static const size_field fields[] = {
    FIELD("block_count", layer_count, WHOLE),
    FIELD("embedding_length", width, WHOLE),
    FIELD("feed_forward_length", ffn_width, WHOLE),
    FIELD("attention.head_count", head_count, WHOLE),
    FIELD("attention.head_count_kv", kv_head_count, WHOLE),
    FIELD("attention.key_length", head_width, WHOLE),
    FIELD("attention.value_length", head_width, WHOLE),
    FIELD("context_length", context_tokens, WHOLE),
    FIELD("attention.layer_norm_rms_epsilon", norm_epsilon, NUMBER),
    FIELD("attention.layer_norm_epsilon", norm_epsilon, NUMBER),
    FIELD("vocab_size", vocab_count, WHOLE),
    FIELD("attention.sliding_window", window, WHOLE),
    FIELD("attention.scale", score_scale, NUMBER),
    FIELD("attn_logit_softcapping", score_cap, NUMBER),
    FIELD("final_logit_softcapping", logit_cap, NUMBER),
    FIELD("attention.clamp_kqv", qkv_clip, NUMBER),
    FIELD("attention.max_alibi_bias", alibi_bias, NUMBER),
    FIELD("use_parallel_residual", is_parallel, FLAG),
    FIELD("expert_count", expert_count, WHOLE),
    FIELD("expert_used_count", expert_used, WHOLE),
    FIELD("expert_feed_forward_length", expert_ffn_width, WHOLE),
    FIELD("expert_weights_norm", is_router_normed, FLAG),
    /* Not of the table; compared all the same. */
    FIELD("rope.freq_base", rope.base, NUMBER),
    FIELD("rope.scaling.factor", rope.divisor, NUMBER),
    FIELD("rope.scaling.attn_factor", rope.magnitude, NUMBER),
    FIELD("rope.scaling.type", rope.is_yarn, FLAG),
    FIELD("rope.scaling.yarn_beta_fast", rope.ramp_low, NUMBER),
    FIELD("rope.scaling.yarn_beta_slow", rope.ramp_high, NUMBER),
    FIELD("rope.freq_base_swa", rope_local.base, NUMBER),
    FIELD("rope.freq_base_swa", rope_local.divisor, NUMBER),
    FIELD("rope.dimension_count", rope_width, WHOLE),
    FIELD("embedding_scale", embedding_scale, NUMBER),
    FIELD("pooling_type", pooling, WHOLE),
    FIELD("token_type_count", type_count, WHOLE),
    FIELD(AP_CONFIG_LABELS, label_count, WHOLE),
};
enum { FIELD_COUNT = sizeof fields / sizeof fields[0] };

static double size_of(const ap_hparams *s, const size_field *f)
{
    const char *at = (const char *)s + f->offset;
    if (f->kind == WHOLE)
        return *(const uint32_t *)at;
    return f->kind == NUMBER ? (double)*(const float *)at : (double)*(const bool *)at;
}

static const size_field *find_field(const char *key)
{
    for (size_t i = 0; i < FIELD_COUNT; i++)
        if (strcmp(fields[i].key, key) == 0)
            return &fields[i];
    return NULL;
}

/* ---- The table, backwards ---- */

static bool is_true(const config *c, const char *path) { return path && json_is_true(json_object_get(c->json, path)); }

/* Of encoders, which have a number for it: where one of so many layers sees everything, so many; else 0. */
static uint32_t period_of(const config *c)
{
    const ap_hparams *s = c->sizes;
    for (uint32_t period = 1; c->arch->is_encoder && s->window && period <= s->layer_count; period++) {
        uint32_t i = 0;
        while (i < s->layer_count && s->is_sliding[i] == (i % period != c->arch->window_open))
            i++;
        if (i == s->layer_count)
            return period;
    }
    return 0;
}

static ap_status put_layers(config *c, const ap_config_key *k)
{
    bool is_rope = strcmp(k->gguf, "rope.layer_pattern") == 0;
    if (!is_rope && (c->sizes->window == 0 || period_of(c)))
        return AP_OK;
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->sizes->layer_count; i++) {
        bool flag = is_rope ? c->sizes->is_rotary[i] : c->sizes->is_sliding[i];
        (void)json_array_append_new(list, k->must ? json_string(flag ? k->must : "full_attention") : json_integer(flag));
    }
    return put(c, k->config, list);
}

static ap_status put_text(config *c, const ap_config_key *k)
{
    char name[96];
    ap_str text = {k->must, k->must ? strcspn(k->must, "|") : 0};
    (void)snprintf(name, sizeof name, "%s.%s", c->arch->name, k->gguf ? k->gguf : "");
    if (k->gguf && ap_gguf_find(c->keys, ap_str_from(name)))
        AP_TRY(ap_gguf_get_str(c->keys, name, &text, c->err));
    else if (k->only_if)
        return AP_OK;
    return text.len ? put(c, k->config, json_stringn(text.ptr, text.len)) : AP_OK;
}

static json_t *root_of(float scale)
{
    double exact = 1 / ((double)scale * (double)scale), whole = nearest(exact);
    return 1 / sqrtf((float)whole) == scale ? json_integer((json_int_t)whole) : json_real(exact);
}

/* Whether a row before this one says the same number, on a condition that holds. */
static bool is_said(const config *c, const ap_config_key *k)
{
    for (const ap_config_key *other = c->arch->hf.keys; other < k; other++)
        if (other->only_if && other->gguf && strcmp(other->gguf, k->gguf) == 0 && is_true(c, other->only_if))
            return true;
    return false;
}

static ap_status put_key(config *c, const ap_config_key *k)
{
    if (!k->gguf)
        return k->kind == AP_CONFIG_FLAG ? put(c, k->config, json_boolean(strcmp(k->must, "true") == 0)) : put_text(c, k);
    if (k->kind == AP_CONFIG_TEXT)
        return put_text(c, k);
    if (k->kind == AP_CONFIG_LAYERS)
        return put_layers(c, k);
    if (strcmp(k->gguf, "attention.sliding_window_pattern") == 0)
        return period_of(c) ? put(c, k->config, json_integer(period_of(c))) : AP_OK;
    const size_field *f = find_field(k->gguf);
    bool is_other_norm = strcmp(k->gguf, c->arch->norm == AP_NORM_RMS ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon") == 0;
    if (!f || is_other_norm || k->kind == AP_CONFIG_FOURFOLD)
        return AP_OK;
    double value = size_of(c->sizes, f);
    if (k->only_if && !json_object_get(c->json, k->only_if))
        AP_TRY(put(c, k->only_if, json_boolean(value != 0)));
    if ((k->only_if && !is_true(c, k->only_if)) || is_true(c, k->unless) || is_said(c, k))
        return AP_OK;
    switch (k->kind) {
    case AP_CONFIG_U32: return value != 0 ? put(c, k->config, json_integer((json_int_t)value)) : AP_OK;
    case AP_CONFIG_F32: return value != 0 ? put(c, k->config, real_of((float)value)) : AP_OK;
    case AP_CONFIG_FLAG: return put(c, k->config, json_boolean(value != 0));
    case AP_CONFIG_ROOT: return put(c, k->config, root_of((float)value));
    default: /* a flag that stands for a number */
        return json_object_get(c->json, k->config) ? AP_OK : put(c, k->config, json_boolean(value == (double)k->usual));
    }
}

/* ---- Rotary embeddings ---- */

static const float *divisors_of(const config *c, ap_role role, uint32_t *count)
{
    const ap_convert_tensors *t = c->tensors;
    *count = c->sizes->rope_width / 2;
    return role == AP_ROLE_ROPE_DIVISORS ? t->divisors : role == AP_ROLE_ROPE_DIVISORS_LONG ? t->divisors_long : t->divisors_short;
}

static json_t *list_of(const float *numbers, uint32_t count)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < count; i++)
        (void)json_array_append_new(list, real_of(numbers[i]));
    return list;
}

/* The numbers of Llama 3.1's scaling out of the divisors it gave.  They are known up to a common scale of length, low and high
 * factor: low is 1, as in every published model; each divisor between 1 and the factor lies on one line. */
static json_t *fit_llama3(const config *c)
{
    static const double TURN = 6.283185307179586;
    uint32_t count;
    const float *d = divisors_of(c, AP_ROLE_ROPE_DIVISORS, &count);
    double factor = 1, first_share = 0, first_frequency = 0, last_share = 0, last_frequency = 0, at_least = 0, at_most = 1e9;
    unsigned points = 0;
    for (uint32_t j = 0; j < count; j++)
        factor = (double)d[j] > factor ? (double)d[j] : factor;
    for (uint32_t j = 0; j < count; j++) {
        double frequency = (double)ap_powf(c->sizes->rope.base, -(float)(2 * j) / (float)c->sizes->rope_width);
        double share = (1 / (double)d[j] - 1 / factor) / (1 - 1 / factor);
        if (d[j] == 1)
            at_least = 4 * TURN / frequency > at_least ? 4 * TURN / frequency : at_least;
        else if ((double)d[j] == factor)
            at_most = TURN / frequency < at_most ? TURN / frequency : at_most;
        else if (points++ == 0)
            first_share = share, first_frequency = frequency;
        else
            last_share = share, last_frequency = frequency;
    }
    double high = 4, original = nearest((at_least + at_most) / 2);
    if (points >= 2) {
        double slope = (first_share - last_share) / (first_frequency - last_frequency), start = slope * first_frequency - first_share;
        high = nearest((1 + 1 / start) * 1000) / 1000;
        original = nearest(slope * (high - 1) * TURN);
    } else if (points == 1) {
        original = nearest((1 + 3 * first_share) * TURN / first_frequency);
    }
    if (!(original >= 1 && original < 1e9 && high > 1 && high < 1e9))
        original = 1, high = 4; /* on no line: the proof below says so */
    return json_pack("{s:s, s:f, s:f, s:f, s:I}", "rope_type", "llama3", "factor", factor, "low_freq_factor", 1.0, "high_freq_factor", high,
                     "original_max_position_embeddings", (json_int_t)original);
}

/* A number that stands under a key of GGUF, under config.json's name. */
static void copy_number(const config *c, json_t *to, const char *name, const char *key)
{
    char full[96];
    float number;
    (void)snprintf(full, sizeof full, "%s.%s", c->arch->name, key);
    if (ap_gguf_get_f32(c->keys, full, &number, NULL) == AP_OK)
        (void)json_object_set_new(to, name, real_of(number));
}

static json_t *make_scaling(const config *c)
{
    const ap_rope_scaling *s = &c->sizes->rope;
    uint32_t count;
    if (divisors_of(c, AP_ROLE_ROPE_DIVISORS, &count))
        return fit_llama3(c);
    if (c->tensors->divisors_long && c->tensors->divisors_short) {
        json_t *made = json_pack("{s:s, s:o, s:o}", "type", "longrope", "long_factor", list_of(c->tensors->divisors_long, count), "short_factor",
                                 list_of(c->tensors->divisors_short, count));
        (void)json_object_set_new(made, "attention_factor", real_of(s->magnitude));
        return made;
    }
    if (s->is_yarn) {
        json_t *made = json_pack("{s:s, s:o, s:I, s:b}", "rope_type", "yarn", "factor", real_of(s->divisor),
                                 "original_max_position_embeddings", (json_int_t)s->original_tokens, "truncate", !c->arch->is_yarn_exact);
        float of_itself = 0.1f * ap_logf(s->divisor) + 1;
        copy_number(c, made, "beta_fast", "rope.scaling.yarn_beta_fast");
        copy_number(c, made, "beta_slow", "rope.scaling.yarn_beta_slow");
        if (s->magnitude != of_itself)
            (void)json_object_set_new(made, "attention_factor", real_of(s->magnitude));
        return made;
    }
    return s->divisor == 1 ? NULL : json_pack("{s:s, s:o}", "rope_type", "linear", "factor", real_of(s->divisor));
}

static const char *name_of(const char *own, const char *usual) { return own ? own : usual; }

static ap_status put_rope(config *c)
{
    const ap_hparams *s = c->sizes;
    if (!ap_hparams_is_rotary(s))
        return AP_OK;
    AP_TRY(put(c, name_of(c->arch->hf.rope_base_name, "rope_theta"), real_of(s->rope.base)));
    if (c->arch->rope_local_base > 0)
        AP_TRY(put(c, name_of(c->arch->hf.rope_local_name, "rope_local_base_freq"), real_of(s->rope_local.base)));
    if (s->rope_width != s->head_width || c->arch->hf.rope_share_name) { /* there the usual share is another one */
        /* Rounded up, so that the product, cut to a whole number, is the width again. */
        float share = nextafterf((float)s->rope_width / (float)s->head_width, 2);
        bool is_plain = (uint32_t)((double)((float)s->rope_width / (float)s->head_width) * s->head_width) == s->rope_width;
        share = is_plain ? (float)s->rope_width / (float)s->head_width : share;
        AP_TRY(put(c, name_of(c->arch->hf.rope_share_name, "partial_rotary_factor"), real_of(share)));
    }
    if (c->tensors->divisors_long)
        AP_TRY(put(c, "original_max_position_embeddings", json_integer(s->rope.original_tokens)));
    json_t *scaling = make_scaling(c);
    return scaling ? put(c, "rope_scaling", scaling) : AP_OK;
}

/* ---- What is not of the table ---- */

static unsigned find_class(const config *c)
{
    unsigned found = 0;
    for (unsigned i = 0; i < 4 && c->arch->hf.classes[i]; i++) {
        const char *key = c->arch->hf.class_keys[i];
        if (c->arch->hf.model_types[i] && (!key || size_of(c->sizes, find_field(key)) != 0))
            found = i;
    }
    return found;
}

static ap_status put_biases(config *c)
{
    for (size_t i = 0; i < c->arch->tensor_count; i++) {
        const ap_tensor_rule *rule = &c->arch->tensors[i];
        bool is_q = rule->role == AP_ROLE_Q_BIAS, is_up = rule->role == AP_ROLE_UP_BIAS;
        if (rule->is_optional && rule->role == AP_ROLE_HEAD_BIAS)
            AP_TRY(put(c, "classifier_bias", json_boolean(c->tensors->has_head_bias)));
        if (rule->is_optional && rule->role == AP_ROLE_HEAD_NORM_BIAS)
            AP_TRY(put(c, "norm_bias", json_boolean(c->tensors->has_norm_bias)));
        if (!rule->is_optional || (!is_q && !is_up))
            continue;
        if (is_q)
            AP_TRY(put(c, name_of(c->arch->hf.bias_name, "attention_bias"), json_boolean(c->tensors->has_q_bias)));
        else
            AP_TRY(put(c, "mlp_bias", json_boolean(c->tensors->has_up_bias)));
    }
    return AP_OK;
}

static ap_status put_special(config *c, const char *name, const char *key)
{
    uint32_t id;
    if (!ap_gguf_find(c->keys, ap_str_from(key)) || ap_gguf_get_u32(c->keys, key, &id, NULL) != AP_OK || id >= c->sizes->vocab_count)
        return AP_OK;
    return put(c, name, json_integer(id));
}

static ap_status fill(config *c)
{
    unsigned class = find_class(c);
    AP_TRY(put(c, "architectures", json_pack("[s]", c->arch->hf.classes[class])));
    AP_TRY(put(c, "model_type", json_string(c->arch->hf.model_types[class])));
    AP_TRY(put(c, "torch_dtype", json_string(c->tensors->dtype)));
    AP_TRY(put(c, "tie_word_embeddings", json_boolean(!c->tensors->has_output)));
    AP_TRY(put(c, "vocab_size", json_integer(c->sizes->vocab_count)));
    AP_TRY(put_special(c, "bos_token_id", "tokenizer.ggml.bos_token_id"));
    AP_TRY(put_special(c, "eos_token_id", "tokenizer.ggml.eos_token_id"));
    AP_TRY(put_special(c, "pad_token_id", "tokenizer.ggml.padding_token_id"));
    for (size_t i = 0; i < c->arch->hf.key_count; i++)
        AP_TRY(put_key(c, &c->arch->hf.keys[i]));
    AP_TRY(put_biases(c));
    if (c->arch->is_encoder)
        AP_TRY(ap_convert_encoder_config(c->json, c->arch, c->sizes, c->keys, c->tensors->positions_skipped, c->err));
    return put_rope(c);
}

/* ---- The proof ---- */

static ap_status compare_divisors(const config *c, ap_role role, ap_arena *arena)
{
    uint32_t count;
    const float *made, *given = divisors_of(c, role, &count);
    AP_TRY(ap_hf_rope_divisors(c->json, c->sizes, role, arena, &made, c->err));
    bool is_same = !given == !made;
    for (uint32_t j = 0; is_same && given && j < count; j++)
        is_same = fabsf(made[j] - given[j]) <= 1e-6f * given[j];
    return is_same ? AP_OK
                   : ap_fail(c->err, AP_E_UNSUPPORTED, "the model's divisors of rotary frequencies are none that config.json can say");
}

static ap_status compare(const config *c, const ap_hparams *read)
{
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        double have = size_of(read, &fields[i]), want = size_of(c->sizes, &fields[i]);
        bool is_near = fields[i].kind == NUMBER && fabs(have - want) <= 1e-6 * fabs(want); /* a quotient, rounded once more */
        bool is_idle = !c->arch->is_encoder && fields[i].offset == offsetof(ap_hparams, pooling) && want == AP_POOLING_NONE; /* of text */
        if (have != want && !is_near && !is_idle)
            return ap_fail(c->err, AP_E_UNSUPPORTED, "'%s' is %g, which the config.json of this family cannot say: it would be read as %g",
                           fields[i].key, want, have);
    }
    for (uint32_t i = 0; i < c->sizes->layer_count; i++)
        if (read->is_sliding[i] != c->sizes->is_sliding[i] || read->is_rotary[i] != c->sizes->is_rotary[i])
            return ap_fail(c->err, AP_E_UNSUPPORTED, "the window or the positions of layer %u are such as the config.json of this family cannot say", i);
    return read->activation == c->sizes->activation
               ? AP_OK
               : ap_fail(c->err, AP_E_UNSUPPORTED, "the model's activation is one that the config.json of this family cannot say");
}

/* The pooling stands in a file of its own. */
static ap_status write_encoder(const config *c, const ap_arch *arch, ap_gguf_writer *writer)
{
    json_t *pooling;
    AP_TRY(ap_convert_pooling(c->arch, c->sizes, c->keys, &pooling, c->err));
    ap_buf text = {0};
    ap_status status = pooling ? ap_convert_print(pooling, &text, c->err) : AP_OK;
    ap_hf_file file = {.name = AP_HF_POOLING_FILE, .map = {(const unsigned char *)text.ptr, text.len}};
    ap_hf_files files = {.files = &file, .count = pooling != NULL};
    if (status == AP_OK)
        status = ap_hf_encoder_write(&files, c->json, arch, writer, c->err);
    ap_buf_deinit(&text);
    json_decref(pooling);
    return status;
}

static ap_status read_back(const config *c)
{
    ap_gguf_writer *writer;
    ap_gguf *gguf = NULL;
    ap_buf bytes = {0};
    ap_arena arena = {0};
    ap_hparams *read = ap_alloc_zero(1, sizeof *read);
    const ap_arch *arch;
    if (!read)
        return ap_fail_nomem(c->err, sizeof *read);
    ap_status status = ap_gguf_writer_create(&writer, AP_GGUF_ALIGNMENT_DEFAULT, c->err);
    if (status == AP_OK)
        status = ap_hf_config_write(c->json, writer, &arch, c->err);
    if (status == AP_OK)
        status = write_encoder(c, arch, writer);
    if (status == AP_OK)
        status = ap_gguf_writer_keys_only(writer, &bytes, c->err);
    if (status == AP_OK)
        status = ap_gguf_open(&gguf, (const unsigned char *)bytes.ptr, bytes.len, c->err);
    if (status == AP_OK)
        status = ap_hparams_read(read, arch, gguf, c->err);
    if (status == AP_OK) {
        read->vocab_count = c->sizes->vocab_count;
        status = compare(c, read);
    }
    static const ap_role roles[] = {AP_ROLE_ROPE_DIVISORS, AP_ROLE_ROPE_DIVISORS_LONG, AP_ROLE_ROPE_DIVISORS_SHORT};
    for (size_t i = 0; i < sizeof roles / sizeof roles[0] && status == AP_OK; i++)
        status = compare_divisors(c, roles[i], &arena);
    ap_gguf_writer_destroy(&writer);
    ap_gguf_close(&gguf);
    ap_buf_deinit(&bytes);
    ap_arena_deinit(&arena);
    ap_free(read);
    return status;
}

/* ---- Both ---- */

ap_status ap_convert_describe(const ap_arch *arch, const ap_hparams *sizes, bool has_attn_norm, json_t **out, unsigned *form, ap_error *err)
{
    *out = json_object();
    *form = 0;
    if (!*out)
        return ap_fail_nomem(err, 64);
    if (!arch->hf.model_types[0])
        return ap_fail(err, AP_E_UNSUPPORTED, "this release writes no folders of %s", arch->name);
    if (arch->hf.describe)
        *form = arch->hf.describe(*out, sizes, has_attn_norm);
    return AP_OK;
}

ap_status ap_convert_config(json_t *json, const ap_arch *arch, const ap_hparams *sizes, const ap_gguf *keys, const ap_convert_tensors *tensors,
                            ap_error *err)
{
    config c = {.json = json, .arch = arch, .sizes = sizes, .keys = keys, .tensors = tensors, .err = err};
    AP_TRY(fill(&c));
    return read_back(&c);
}
