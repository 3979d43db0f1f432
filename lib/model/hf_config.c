/* hf_config.c - config.json as GGUF keys.
 *
 * What a family's numbers are called stands in its entry (arch.h).  Rotary embeddings are described alike for all
 * families: rope_theta and rope_scaling at the top, or, since transformers 5, both inside rope_parameters.
 * A kind of scaling that GGUF has as keys is written as such, and hparams.c judges it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <math.h>
#include <stdio.h>

#include "base/alloc.h"
#include "kernel/elementary.h"
#include "model/hf.h"

enum { KEY_ROOM = 96 };

/* ---- The family ---- */

static ap_status find_family(const json_t *config, const ap_arch **arch, ap_error *err)
{
    ap_str name;
    AP_TRY(ap_json_get_str(config, "architectures.0", &name, err));
    *arch = ap_arch_find_class(name);
    if (!*arch)
        return ap_fail(err, AP_E_UNSUPPORTED, "'architectures' is '%.*s'; this release has: %s", (int)(name.len < 60 ? name.len : 60),
                       name.ptr, ap_arch_class_names());
    return AP_OK;
}

/* ---- One object ---- */

ap_status ap_hf_config_complete(json_t *config, ap_error *err)
{
    json_t *text = json_object_get(config, "text_config"), *usual;
    ap_str name;
    if (json_is_object(text) && json_object_update_missing(config, text) != 0)
        return ap_fail_nomem(err, json_object_size(text));
    const ap_arch *arch = ap_json_get_str(config, "architectures.0", &name, NULL) == AP_OK ? ap_arch_find_class(name) : NULL;
    if (!arch || !arch->hf.usual)
        return AP_OK; /* what is wrong with the family is said when it is read */
    AP_TRY(ap_json_parse(&usual, ap_str_from(arch->hf.usual), (ap_json_limits){4096, 256}, err));
    int failed = json_object_update_missing(config, usual);
    json_decref(usual);
    return failed ? ap_fail_nomem(err, sizeof *arch) : AP_OK;
}

/* ---- Its numbers ---- */

static ap_status read_positive(const json_t *from, const char *path, float *out, ap_error *err)
{
    AP_TRY(ap_json_get_f32(from, path, out, err));
    if (!(*out > 0))
        return ap_fail(err, AP_E_FORMAT, "'%s' is %g; a number above 0 is needed", path, (double)*out);
    return AP_OK;
}

/* Whether anything but null and false stands there. */
static bool is_set(const json_t *config, const char *path)
{
    const json_t *value = ap_json_find(config, path);
    return value && !json_is_false(value);
}

/* Whether a text stands in "one|two". */
static bool is_one_of(ap_str text, const char *list)
{
    for (const char *word = list;; word++) {
        size_t length = strcspn(word, "|");
        if (ap_str_equal(text, (ap_str){word, length}))
            return true;
        word += length;
        if (!*word)
            return false;
    }
}

static ap_status write_layers(const json_t *config, const ap_config_key *k, const char *name, ap_gguf_writer *keys, ap_error *err)
{
    const json_t *list;
    unsigned char flags[AP_LAYERS_MAX];
    AP_TRY(ap_json_get_array(config, k->config, &list, err));
    size_t count = json_array_size(list);
    if (count > AP_LAYERS_MAX)
        return ap_fail(err, AP_E_LIMIT, "'%s' has %zu layers; at most %d are allowed", k->config, count, AP_LAYERS_MAX);
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_array_get(list, i);
        ap_str text = {json_string_value(value), json_string_length(value)};
        flags[i] = k->must ? json_is_string(value) && ap_str_is(text, k->must) : json_is_true(value) || json_integer_value(value) == 1;
        /* The other kind of layers is the one that sees everything; a third would be taken for it. */
        if (k->must && !flags[i] && !(json_is_string(value) && ap_str_is(text, "full_attention")))
            return ap_fail(err, AP_E_UNSUPPORTED, "'%s.%zu' is no kind of layer that this release has: full_attention, %s", k->config, i,
                           k->must);
    }
    return ap_gguf_writer_numbers(keys, name, AP_GGUF_BOOL, count, flags, err);
}

static ap_status write_text(const json_t *config, const ap_config_key *k, const char *name, ap_gguf_writer *keys, ap_error *err)
{
    ap_str text;
    AP_TRY(ap_json_get_str(config, k->config, &text, err));
    if (k->must && !is_one_of(text, k->must))
        return ap_fail(err, AP_E_UNSUPPORTED, "'%s' is '%.*s'; this release has '%s'", k->config, (int)(text.len < 40 ? text.len : 40),
                       text.ptr, k->must);
    return k->gguf ? ap_gguf_writer_str(keys, name, text, err) : AP_OK;
}

static ap_status write_flag(const json_t *config, const ap_config_key *k, const char *name, ap_gguf_writer *keys, ap_error *err)
{
    bool flag;
    AP_TRY(ap_json_get_bool(config, k->config, &flag, err));
    if (k->must && strcmp(k->must, flag ? "true" : "false") != 0)
        return ap_fail(err, AP_E_UNSUPPORTED, "'%s' is %s; this release has %s", k->config, flag ? "true" : "false", k->must);
    return k->gguf ? ap_gguf_writer_bool(keys, name, flag, err) : AP_OK;
}

static ap_status write_key(const json_t *config, const ap_arch *arch, const ap_config_key *k, ap_gguf_writer *keys, ap_error *err)
{
    char name[KEY_ROOM];
    uint32_t whole = (uint32_t)k->usual;
    float number = k->usual;
    bool is_there = ap_json_find(config, k->config);
    if ((k->only_if && !is_set(config, k->only_if)) || (k->unless && is_set(config, k->unless)) || (!is_there && k->usual == 0))
        return AP_OK;
    (void)snprintf(name, sizeof name, "%s.%s", arch->name, k->gguf ? k->gguf : "");
    switch (k->kind) {
    case AP_CONFIG_U32:
    case AP_CONFIG_FOURFOLD:
        if (is_there)
            AP_TRY(ap_json_get_u32(config, k->config, &whole, err));
        if (k->kind == AP_CONFIG_FOURFOLD)
            whole = whole <= UINT32_MAX / 4 ? 4 * whole : UINT32_MAX; /* which is refused as too wide */
        return ap_gguf_writer_u32(keys, name, whole, err);
    case AP_CONFIG_F32:
        if (is_there)
            AP_TRY(ap_json_get_f32(config, k->config, &number, err));
        return ap_gguf_writer_f32(keys, name, number, err);
    case AP_CONFIG_ROOT:
        AP_TRY(read_positive(config, k->config, &number, err));
        return ap_gguf_writer_f32(keys, name, 1 / sqrtf(number), err);
    case AP_CONFIG_IF_U32: return is_set(config, k->config) ? ap_gguf_writer_u32(keys, name, whole, err) : AP_OK;
    case AP_CONFIG_IF_F32: return is_set(config, k->config) ? ap_gguf_writer_f32(keys, name, number, err) : AP_OK;
    case AP_CONFIG_FLAG: return write_flag(config, k, name, keys, err);
    case AP_CONFIG_LAYERS: return write_layers(config, k, name, keys, err);
    case AP_CONFIG_TEXT: return write_text(config, k, name, keys, err);
    }
    return ap_fail(err, AP_E_BUG, "'%s' has no kind", k->config);
}

/* ---- Rotary embeddings ---- */

typedef struct scaling {
    const json_t *object; /* NULL: none */
    ap_str type;
} scaling;

static ap_status read_scaling(const json_t *object, scaling *out, ap_error *err)
{
    *out = (scaling){object, AP_STR("default")};
    if (!object)
        return AP_OK;
    if (!json_is_object(object))
        return ap_fail(err, AP_E_FORMAT, "the scaling of rotary embeddings is %s; an object is needed", ap_json_kind_name(object));
    const char *name = ap_json_find(object, "rope_type") ? "rope_type" : "type";
    return ap_json_find(object, name) ? ap_json_get_str(object, name, &out->type, err) : AP_OK;
}

/* Of the layers that see everything, and of those with a window (object NULL: nothing is said of them). */
static ap_status find_scaling(const json_t *config, scaling *all, scaling *local, ap_error *err)
{
    const json_t *found = ap_json_find(config, "rope_parameters");
    const json_t *full = ap_json_find(found, "full_attention"), *sliding = ap_json_find(found, "sliding_attention");
    AP_TRY(read_scaling(sliding, local, err));
    if (full || sliding)
        found = full;
    else if (!found)
        found = ap_json_find(config, "rope_scaling");
    return read_scaling(found, all, err);
}

static ap_status write_number(const json_t *from, const char *path, const ap_arch *arch, const char *key, ap_gguf_writer *keys,
                              ap_error *err)
{
    char name[KEY_ROOM];
    float number;
    if (!ap_json_find(from, path))
        return AP_OK;
    (void)snprintf(name, sizeof name, "%s.%s", arch->name, key);
    AP_TRY(ap_json_get_f32(from, path, &number, err));
    return ap_gguf_writer_f32(keys, name, number, err);
}

static ap_status write_count(const json_t *from, const char *path, const ap_arch *arch, const char *key, ap_gguf_writer *keys,
                             ap_error *err)
{
    char name[KEY_ROOM];
    uint32_t number;
    if (!ap_json_find(from, path))
        return AP_OK;
    (void)snprintf(name, sizeof name, "%s.%s", arch->name, key);
    AP_TRY(ap_json_get_u32(from, path, &number, err));
    return ap_gguf_writer_u32(keys, name, number, err);
}

/* Rotary dimensions, where they are a share of the head's. */
static ap_status write_share(const json_t *config, const json_t *from, const char *path, const ap_arch *arch, ap_gguf_writer *keys,
                             ap_error *err)
{
    char name[KEY_ROOM];
    float share;
    uint32_t width, heads;
    AP_TRY(read_positive(from, path, &share, err));
    if (ap_json_find(config, "head_dim")) {
        AP_TRY(ap_json_get_u32(config, "head_dim", &width, err));
    } else {
        AP_TRY(ap_json_get_u32(config, "hidden_size", &width, err));
        AP_TRY(ap_json_get_u32(config, "num_attention_heads", &heads, err));
        width = heads ? width / heads : 0;
    }
    if (share > 1 || width > UINT16_MAX)
        return ap_fail(err, AP_E_FORMAT, "'%s' is %g of %u dimensions; at most 1 of %d is allowed", path, (double)share, width, UINT16_MAX);
    (void)snprintf(name, sizeof name, "%s.rope.dimension_count", arch->name);
    return ap_gguf_writer_u32(keys, name, (uint32_t)((double)share * width), err);
}

/* Cosines and sines are stretched by attention_factor; GGUF says by how much more than the kind of scaling does itself. */
static ap_status write_stretch(const json_t *s, float of_itself, float usual, const ap_arch *arch, ap_gguf_writer *keys, ap_error *err)
{
    char name[KEY_ROOM];
    float factor = usual;
    if (ap_json_find(s, "attention_factor"))
        AP_TRY(read_positive(s, "attention_factor", &factor, err));
    (void)snprintf(name, sizeof name, "%s.rope.scaling.attn_factor", arch->name);
    return factor == of_itself ? AP_OK : ap_gguf_writer_f32(keys, name, factor / of_itself, err);
}

static ap_status write_yarn(const json_t *s, const ap_arch *arch, ap_gguf_writer *keys, ap_error *err)
{
    static const char *const refused[] = {"mscale", "mscale_all_dim"};
    bool is_whole = true;
    float factor;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (ap_json_find(s, refused[i]))
            return ap_fail(err, AP_E_UNSUPPORTED, "'%s' of YaRN is not in this release", refused[i]);
    if (ap_json_find(s, "truncate"))
        AP_TRY(ap_json_get_bool(s, "truncate", &is_whole, err));
    if (is_whole == arch->is_yarn_exact)
        return ap_fail(err, AP_E_UNSUPPORTED, "'truncate' of YaRN is %s, which this release does not have for %s",
                       is_whole ? "true" : "false", arch->name);
    AP_TRY(read_positive(s, "factor", &factor, err));
    float of_itself = 0.1f * ap_logf(factor) + 1;
    AP_TRY(write_stretch(s, of_itself, of_itself, arch, keys, err));
    AP_TRY(write_number(s, "beta_fast", arch, "rope.scaling.yarn_beta_fast", keys, err));
    return write_number(s, "beta_slow", arch, "rope.scaling.yarn_beta_slow", keys, err);
}

/* The length up to which a model was trained before its context was stretched. */
static const json_t *with_original_length(const json_t *config, const json_t *s)
{
    return ap_json_find(s, "original_max_position_embeddings") ? s : config;
}

/* The factors themselves become tensors. */
static ap_status write_longrope(const json_t *config, const json_t *s, const ap_arch *arch, ap_gguf_writer *keys, ap_error *err)
{
    float longest, original;
    AP_TRY(read_positive(config, "max_position_embeddings", &longest, err));
    AP_TRY(read_positive(with_original_length(config, s), "original_max_position_embeddings", &original, err));
    float usual = longest > original && original > 1 ? sqrtf(1 + ap_logf(longest / original) / ap_logf(original)) : 1;
    return write_stretch(s, 1, usual, arch, keys, err);
}

static ap_status write_rope(const json_t *config, const ap_arch *arch, ap_gguf_writer *keys, ap_error *err)
{
    scaling all, local;
    char name[KEY_ROOM];
    AP_TRY(find_scaling(config, &all, &local, err));
    const json_t *base = ap_json_find(all.object, "rope_theta") ? all.object : config;
    const json_t *share = ap_json_find(all.object, "partial_rotary_factor") ? all.object : config;
    AP_TRY(write_number(base, ap_json_find(base, "rope_theta") ? "rope_theta" : "rotary_emb_base", arch, "rope.freq_base", keys, err));
    if (ap_json_find(local.object, "rope_theta"))
        AP_TRY(write_number(local.object, "rope_theta", arch, "rope.freq_base_swa", keys, err));
    else
        AP_TRY(write_number(config, "rope_local_base_freq", arch, "rope.freq_base_swa", keys, err));
    if (ap_json_find(share, "partial_rotary_factor"))
        AP_TRY(write_share(config, share, "partial_rotary_factor", arch, keys, err));
    else if (ap_json_find(config, "rotary_pct"))
        AP_TRY(write_share(config, config, "rotary_pct", arch, keys, err));
    if (!ap_str_is(local.type, "default"))
        return ap_fail(err, AP_E_UNSUPPORTED, "the rotary embedding of layers with a window is scaled ('%.*s'), which this release does not have",
                       (int)(local.type.len < 40 ? local.type.len : 40), local.type.ptr);
    if (ap_str_is(all.type, "default") || ap_str_is(all.type, "llama3")) /* the latter becomes a tensor */
        return AP_OK;
    bool is_long = ap_str_is(all.type, "longrope") || ap_str_is(all.type, "su");
    (void)snprintf(name, sizeof name, "%s.rope.scaling.type", arch->name);
    AP_TRY(ap_gguf_writer_str(keys, name, is_long ? AP_STR("longrope") : all.type, err));
    AP_TRY(write_number(all.object, "factor", arch, "rope.scaling.factor", keys, err));
    AP_TRY(write_count(with_original_length(config, all.object), "original_max_position_embeddings", arch,
                       "rope.scaling.original_context_length", keys, err));
    if (is_long)
        return write_longrope(config, all.object, arch, keys, err);
    return ap_str_is(all.type, "yarn") ? write_yarn(all.object, arch, keys, err) : AP_OK;
}

/* Llama 3.1.  Waves shorter than original / high stay, those longer than original / low turn slower by the factor, and
 * between them the frequency goes from one to the other in proportion to how often the wave fits in the original context. */
static ap_status fill_llama3(const json_t *s, const ap_hparams *sizes, float *divisors, ap_error *err)
{
    static const double TURN = 6.283185307179586;
    float factor, low, high, original;
    AP_TRY(read_positive(s, "factor", &factor, err));
    AP_TRY(read_positive(s, "low_freq_factor", &low, err));
    AP_TRY(read_positive(s, "high_freq_factor", &high, err));
    AP_TRY(read_positive(s, "original_max_position_embeddings", &original, err));
    if (!(high > low))
        return ap_fail(err, AP_E_FORMAT, "'high_freq_factor' of the rotary scaling is %g; it must be above 'low_freq_factor', %g",
                       (double)high, (double)low);
    for (uint32_t j = 0; j < sizes->rope_width / 2; j++) {
        double frequency = ap_powf(sizes->rope.base, -(float)(2 * j) / (float)sizes->rope_width);
        double turns = (double)original * frequency / TURN; /* of this wave in the original context */
        double share = (turns - (double)low) / ((double)high - (double)low);
        if (turns > (double)high)
            divisors[j] = 1;
        else if (turns < (double)low)
            divisors[j] = factor;
        else
            divisors[j] = (float)(1 / ((1 - share) / (double)factor + share));
    }
    return AP_OK;
}

static ap_status fill_list(const json_t *s, const char *name, uint32_t count, float *divisors, ap_error *err)
{
    const json_t *list;
    AP_TRY(ap_json_get_array(s, name, &list, err));
    if (json_array_size(list) != count)
        return ap_fail(err, AP_E_FORMAT, "'%s' of the rotary scaling has %zu numbers; %u are needed", name, json_array_size(list), count);
    for (uint32_t j = 0; j < count; j++) {
        double number = json_number_value(json_array_get(list, j)); /* 0 for what is none */
        divisors[j] = (float)number;
        if (!(divisors[j] > 0))
            return ap_fail(err, AP_E_FORMAT, "'%s.%u' of the rotary scaling is no number above 0", name, j);
    }
    return AP_OK;
}

ap_status ap_hf_rope_divisors(const json_t *config, const ap_hparams *sizes, ap_role role, ap_arena *arena, const float **out,
                              ap_error *err)
{
    scaling all, local;
    *out = NULL;
    AP_TRY(find_scaling(config, &all, &local, err));
    bool is_long = ap_str_is(all.type, "longrope") || ap_str_is(all.type, "su");
    if (role == AP_ROLE_ROPE_DIVISORS ? !ap_str_is(all.type, "llama3") : !is_long)
        return AP_OK;
    uint32_t count = sizes->rope_width / 2;
    float *divisors = ap_arena_zero(arena, count, sizeof *divisors);
    if (!divisors)
        return ap_fail_nomem(err, count * sizeof *divisors);
    if (role == AP_ROLE_ROPE_DIVISORS)
        AP_TRY(fill_llama3(all.object, sizes, divisors, err));
    else
        AP_TRY(fill_list(all.object, role == AP_ROLE_ROPE_DIVISORS_LONG ? "long_factor" : "short_factor", count, divisors, err));
    *out = divisors;
    return AP_OK;
}

/* Qwen 2 before layer_types: the layers from a certain one on have the window. */
static ap_status write_old_window(const json_t *config, const ap_arch *arch, ap_gguf_writer *keys, ap_error *err)
{
    unsigned char flags[AP_LAYERS_MAX];
    char name[KEY_ROOM];
    uint32_t first, count;
    if (!is_set(config, "use_sliding_window") || ap_json_find(config, "layer_types"))
        return AP_OK;
    AP_TRY(ap_json_get_u32(config, "max_window_layers", &first, err));
    AP_TRY(ap_json_get_u32(config, "num_hidden_layers", &count, err));
    if (count > AP_LAYERS_MAX)
        return ap_fail(err, AP_E_LIMIT, "'num_hidden_layers' is %u; at most %d are allowed", count, AP_LAYERS_MAX);
    for (uint32_t i = 0; i < count; i++)
        flags[i] = i >= first;
    (void)snprintf(name, sizeof name, "%s.attention.sliding_window_pattern", arch->name);
    return ap_gguf_writer_numbers(keys, name, AP_GGUF_BOOL, count, flags, err);
}

ap_status ap_hf_config_write(const json_t *config, ap_gguf_writer *keys, const ap_arch **arch, ap_error *err)
{
    AP_TRY(find_family(config, arch, err));
    AP_TRY(ap_gguf_writer_str(keys, "general.architecture", ap_str_from((*arch)->name), err));
    for (size_t i = 0; i < (*arch)->hf.key_count; i++)
        AP_TRY(write_key(config, *arch, &(*arch)->hf.keys[i], keys, err));
    AP_TRY(write_old_window(config, *arch, keys, err));
    return write_rope(config, *arch, keys, err);
}
