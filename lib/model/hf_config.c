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

enum { KEY_ROOM = 96, CLASSES_MAX = 8 };

/* ---- The family ---- */

static ap_status find_family(const json_t *config, const ap_arch **arch, ap_error *err)
{
    ap_str name;
    AP_TRY(ap_json_get_str(config, "architectures.0", &name, err));
    *arch = ap_arch_find_class(name);
    if (!*arch)
        return ap_fail(err, AP_E_UNSUPPORTED, "'architectures' is '%.*s'; this release has: %s", (int)(name.len < 60 ? name.len : 60),
                       name.ptr, ap_arch_class_names());
    const json_t *packing = ap_json_find(config, "quantization_config");
    if (packing) {
        ap_str method = AP_STR("unknown");
        if (ap_json_find(packing, "quant_method"))
            AP_TRY(ap_json_get_str(packing, "quant_method", &method, err));
        return ap_fail(err, AP_E_UNSUPPORTED, "'quantization_config.quant_method' is '%.*s'; this release reads folders of plain floats",
                       (int)(method.len < 40 ? method.len : 40), method.ptr);
    }
    return AP_OK;
}

/* The last part of the name under which it was saved: "org/model" or a path. */
static ap_status write_name(const json_t *config, ap_gguf_writer *keys, ap_error *err)
{
    ap_str name;
    if (!ap_json_find(config, "_name_or_path"))
        return AP_OK;
    AP_TRY(ap_json_get_str(config, "_name_or_path", &name, err));
    while (name.len && name.ptr[name.len - 1] == '/')
        name.len--;
    for (size_t i = name.len; i > 0; i--)
        if (name.ptr[i - 1] == '/') {
            name = (ap_str){name.ptr + i, name.len - i};
            break;
        }
    return name.len ? ap_gguf_writer_str(keys, "general.name", name, err) : AP_OK;
}

/* ---- Its numbers ---- */

static ap_status write_key(const json_t *config, const ap_arch *arch, const ap_config_key *k, ap_gguf_writer *keys, ap_error *err)
{
    char name[KEY_ROOM];
    bool is_on = true;
    if (k->only_if) {
        is_on = false;
        if (ap_json_find(config, k->only_if))
            AP_TRY(ap_json_get_bool(config, k->only_if, &is_on, err));
    }
    if (!is_on || !ap_json_find(config, k->config))
        return AP_OK;
    (void)snprintf(name, sizeof name, "%s.%s", arch->name, k->gguf ? k->gguf : "");
    if (k->kind == AP_CONFIG_U32) {
        uint32_t number;
        AP_TRY(ap_json_get_u32(config, k->config, &number, err));
        return ap_gguf_writer_u32(keys, name, number, err);
    }
    if (k->kind == AP_CONFIG_F32) {
        float number;
        AP_TRY(ap_json_get_f32(config, k->config, &number, err));
        return ap_gguf_writer_f32(keys, name, number, err);
    }
    ap_str text;
    AP_TRY(ap_json_get_str(config, k->config, &text, err));
    if (k->must && !ap_str_is(text, k->must))
        return ap_fail(err, AP_E_UNSUPPORTED, "'%s' is '%.*s'; this release has '%s'", k->config, (int)(text.len < 40 ? text.len : 40),
                       text.ptr, k->must);
    return k->gguf ? ap_gguf_writer_str(keys, name, text, err) : AP_OK;
}

/* ---- Rotary embeddings ---- */

/* The object that describes scaling, and its type; "default" if there is none. */
static ap_status find_scaling(const json_t *config, const json_t **out, ap_str *type, ap_error *err)
{
    *out = ap_json_find(config, "rope_parameters");
    if (!*out)
        *out = ap_json_find(config, "rope_scaling");
    *type = AP_STR("default");
    if (!*out)
        return AP_OK;
    if (!json_is_object(*out))
        return ap_fail(err, AP_E_FORMAT, "the scaling of rotary embeddings is %s; an object is needed", ap_json_kind_name(*out));
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)*out, key, value)
        if (json_is_object(value))
            return ap_fail(err, AP_E_UNSUPPORTED, "'rope_parameters.%.40s' describes one kind of layers; this release has one "
                           "description for all", key);
    const char *name = ap_json_find(*out, "rope_type") ? "rope_type" : "type";
    return ap_json_find(*out, name) ? ap_json_get_str(*out, name, type, err) : AP_OK;
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

static ap_status write_rope(const json_t *config, const ap_arch *arch, ap_gguf_writer *keys, ap_error *err)
{
    const json_t *scaling;
    ap_str type;
    char name[KEY_ROOM];
    AP_TRY(find_scaling(config, &scaling, &type, err));
    bool is_inside = ap_json_find(scaling, "rope_theta");
    AP_TRY(write_number(is_inside ? scaling : config, "rope_theta", arch, "rope.freq_base", keys, err));
    if (ap_str_is(type, "default") || ap_str_is(type, "llama3")) /* the latter becomes a tensor */
        return AP_OK;
    (void)snprintf(name, sizeof name, "%s.rope.scaling.type", arch->name);
    AP_TRY(ap_gguf_writer_str(keys, name, type, err));
    return write_number(scaling, "factor", arch, "rope.scaling.factor", keys, err);
}

static ap_status read_positive(const json_t *scaling, const char *path, float *out, ap_error *err)
{
    AP_TRY(ap_json_get_f32(scaling, path, out, err));
    if (!(*out > 0))
        return ap_fail(err, AP_E_FORMAT, "'%s' of the rotary scaling is %g; a number above 0 is needed", path, (double)*out);
    return AP_OK;
}

/* Llama 3.1.  Waves shorter than original / high stay, those longer than original / low turn slower by the factor, and
 * between them the frequency goes from one to the other in proportion to how often the wave fits in the original context. */
ap_status ap_hf_rope_divisors(const json_t *config, const ap_hparams *sizes, float **out, ap_error *err)
{
    static const double TURN = 6.283185307179586;
    const json_t *s;
    ap_str type;
    float factor, low, high, original;
    *out = NULL;
    AP_TRY(find_scaling(config, &s, &type, err));
    if (!ap_str_is(type, "llama3"))
        return AP_OK;
    AP_TRY(read_positive(s, "factor", &factor, err));
    AP_TRY(read_positive(s, "low_freq_factor", &low, err));
    AP_TRY(read_positive(s, "high_freq_factor", &high, err));
    AP_TRY(read_positive(s, "original_max_position_embeddings", &original, err));
    if (!(high > low))
        return ap_fail(err, AP_E_FORMAT, "'high_freq_factor' of the rotary scaling is %g; it must be above 'low_freq_factor', %g",
                       (double)high, (double)low);
    uint32_t count = sizes->rope_width / 2;
    float *divisors = ap_alloc_array(count, sizeof *divisors);
    if (!divisors)
        return ap_fail_nomem(err, count * sizeof *divisors);
    for (uint32_t j = 0; j < count; j++) {
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
    *out = divisors;
    return AP_OK;
}

ap_status ap_hf_config_write(const json_t *config, ap_gguf_writer *keys, const ap_arch **arch, ap_error *err)
{
    AP_TRY(find_family(config, arch, err));
    AP_TRY(ap_gguf_writer_str(keys, "general.architecture", ap_str_from((*arch)->name), err));
    AP_TRY(write_name(config, keys, err));
    for (size_t i = 0; i < (*arch)->hf.key_count; i++)
        AP_TRY(write_key(config, *arch, &(*arch)->hf.keys[i], keys, err));
    return write_rope(config, *arch, keys, err);
}
