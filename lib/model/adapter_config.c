/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "base/json.h"
#include "model/adapter.h"

enum { CONFIG_VALUES_MAX = 1 << 16 };

/* Keys that change nothing in what an adapter computes, or that are read below. */
static const char *const known[] = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying", "eva_config",
    "exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform",
    "lora_alpha", "lora_dropout", "loftq_config", "lora_ga_config", "megatron_core", "peft_type", "peft_version",
    "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config", "target_modules", "task_type", "use_rslora",
};

static bool is_known(const char *key)
{
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(key, known[i]) == 0)
            return true;
    return false;
}

static bool is_unset(const json_t *value)
{
    return json_is_null(value) || json_is_false(value) || (json_is_object(value) && json_object_size(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0);
}

static ap_status check_text(const json_t *root, const char *key, const char *must, ap_error *err)
{
    ap_str text;
    if (!ap_json_find(root, key))
        return AP_OK;
    AP_TRY(ap_json_get_str(root, key, &text, err));
    return ap_str_is(text, must) ? AP_OK
                                 : ap_fail(err, AP_E_UNSUPPORTED, "'%s' is '%.*s'; this release has '%s'", key,
                                           (int)(text.len < 40 ? text.len : 40), text.ptr, must);
}

/* Ways to begin that took something out of the model's own weights: the adapter is right for what was left only. */
static ap_status check_start(const json_t *root, ap_error *err)
{
    static const char *const harmless[] = {"gaussian", "eva", "orthogonal"};
    const json_t *start = ap_json_find(root, "init_lora_weights");
    ap_str text = {json_string_value(start), json_string_length(start)};
    if (!json_is_string(start))
        return AP_OK;
    for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++)
        if (ap_str_is(text, harmless[i]))
            return AP_OK;
    return ap_fail(err, AP_E_UNSUPPORTED, "'init_lora_weights' is '%.*s', which changes the model itself; this release has true, false, "
                   "gaussian, eva and orthogonal", (int)(text.len < 40 ? text.len : 40), text.ptr);
}

static ap_status read_config(ap_adapter_config *c, ap_error *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(c->root))
        return ap_fail(err, AP_E_FORMAT, "this is %s; an object is needed", ap_json_kind_name(c->root));
    if (!ap_json_find(c->root, "peft_type"))
        return ap_fail(err, AP_E_FORMAT, "'peft_type' is missing");
    AP_TRY(check_text(c->root, "peft_type", "LORA", err));
    AP_TRY(check_text(c->root, "bias", "none", err));
    AP_TRY(check_start(c->root, err));
    json_object_foreach(c->root, key, value)
        if (!is_known(key) && !is_unset(value))
            return ap_fail(err, AP_E_UNSUPPORTED, "'%.60s' is set, which this release does not have", key);
    AP_TRY(ap_json_get_u32(c->root, "r", &c->rank, err));
    AP_TRY(ap_json_get_f32(c->root, "lora_alpha", &c->alpha, err));
    if (ap_json_find(c->root, "use_rslora"))
        AP_TRY(ap_json_get_bool(c->root, "use_rslora", &c->is_by_root, err));
    return AP_OK;
}

ap_status ap_adapter_config_read(ap_adapter_config *out, ap_str json, ap_error *err)
{
    *out = (ap_adapter_config){0};
    AP_TRY(ap_json_parse(&out->root, json, (ap_json_limits){AP_ADAPTER_CONFIG_BYTES_MAX, CONFIG_VALUES_MAX}, err));
    ap_status status = read_config(out, err);
    return status == AP_E_NOTFOUND ? AP_E_FORMAT : status;
}

void ap_adapter_config_deinit(ap_adapter_config *config)
{
    json_decref(config->root);
    *config = (ap_adapter_config){0};
}

/* ---- Patterns ---- */

/* Keys of patterns are regular expressions for the end of a module's name, behind a dot or from its start.  In practice
 * they are names, so those are read, a dot standing for any character as it does there. */
static ap_status check_pattern(const char *list, const char *key, ap_error *err)
{
    for (const char *c = key; *c; c++)
        if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || *c == '_' || *c == '.'))
            return ap_fail(err, AP_E_UNSUPPORTED, "'%s' has the key '%.60s'; this release has names of modules and no other patterns", list, key);
    return AP_OK;
}

static bool fits(const char *key, const char *module)
{
    size_t length = strlen(key), all = strlen(module);
    if (length == 0 || length > all || (length < all && module[all - length - 1] != '.'))
        return false;
    for (size_t i = 0; i < length; i++)
        if (key[i] != '.' && key[i] != module[all - length + i])
            return false;
    return true;
}

/* The number of the first key that fits; *out stays as it is if there is none. */
static ap_status look_up(const ap_adapter_config *c, const char *list, const char *module, double *out, ap_error *err)
{
    const json_t *patterns;
    const char *key;
    json_t *value;
    bool is_found = false;
    if (!ap_json_find(c->root, list))
        return AP_OK;
    AP_TRY(ap_json_get_object(c->root, list, &patterns, err));
    json_object_foreach((json_t *)patterns, key, value)
    {
        AP_TRY(check_pattern(list, key, err));
        if (!json_is_number(value))
            return ap_fail(err, AP_E_FORMAT, "'%s.%.60s' is %s; a number is needed", list, key, ap_json_kind_name(value));
        if (!is_found && fits(key, module)) {
            *out = json_number_value(value);
            is_found = true;
        }
    }
    return AP_OK;
}

ap_status ap_adapter_config_scale(const ap_adapter_config *c, const char *module, uint32_t rank, float *scale, ap_error *err)
{
    double expected = c->rank, alpha = (double)c->alpha;
    AP_TRY(look_up(c, "rank_pattern", module, &expected, err));
    AP_TRY(look_up(c, "alpha_pattern", module, &alpha, err));
    if (expected != rank)
        return ap_fail(err, AP_E_FORMAT, "the config says rank %g for '%.120s', whose tensors have rank %u", expected, module, rank);
    *scale = (float)(alpha / (c->is_by_root ? sqrt((double)rank) : (double)rank));
    if (!isfinite(*scale))
        return ap_fail(err, AP_E_FORMAT, "'lora_alpha' of '%.120s' is %g, too large for a float", module, alpha);
    return AP_OK;
}
