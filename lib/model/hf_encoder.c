/* hf_encoder.c - what a folder says about the vectors and scores of its sequences.
 *
 * A classifier's config.json has labels.  How an embedding is made of the final vectors stands beside it: in
 * 1_Pooling/config.json, where modules.json lists the steps of the library that trains most embedding models.
 * A step that this release does not have would change every number, so it is refused.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>

#include "base/arena.h"
#include "model/hf.h"

enum { KEY_ROOM = 96, RANK = 4, PADDING_USUAL = 1, PADDING_MAX = 1 << 20 };

static bool ends_with(ap_str text, const char *end)
{
    size_t length = strlen(end);
    return text.len >= length && memcmp(text.ptr + text.len - length, end, length) == 0;
}

ap_status ap_hf_positions_skipped(const json_t *config, const ap_arch *arch, uint32_t *out, ap_error *err)
{
    uint32_t padding = PADDING_USUAL;
    *out = 0;
    if (!arch->hf.are_positions_behind_padding)
        return AP_OK;
    if (ap_json_find(config, "pad_token_id"))
        AP_TRY(ap_json_get_u32(config, "pad_token_id", &padding, err));
    if (padding > PADDING_MAX)
        return ap_fail(err, AP_E_LIMIT, "'pad_token_id' is %u; at most %d is allowed", padding, PADDING_MAX);
    *out = padding + 1;
    return AP_OK;
}

/* ---- Keys ---- */

static ap_status write_number(const ap_arch *arch, const char *key, uint32_t value, ap_gguf_writer *keys, ap_error *err)
{
    char name[KEY_ROOM];
    (void)snprintf(name, sizeof name, "%s.%s", arch->name, key);
    return ap_gguf_writer_u32(keys, name, value, err);
}

/* Of positions there are as many as the table has rows behind those of the padding. */
static ap_status write_context(const json_t *config, const ap_arch *arch, ap_gguf_writer *keys, ap_error *err)
{
    uint32_t skipped, rows;
    AP_TRY(ap_hf_positions_skipped(config, arch, &skipped, err));
    if (skipped == 0)
        return AP_OK; /* the family's keys have it */
    AP_TRY(ap_json_get_u32(config, "max_position_embeddings", &rows, err));
    if (rows <= skipped)
        return ap_fail(err, AP_E_FORMAT, "'max_position_embeddings' is %u, of which %u belong to the padding", rows, skipped);
    AP_TRY(ap_gguf_writer_u32(keys, AP_HF_KEY_POSITIONS, skipped, err));
    return write_number(arch, "context_length", rows - skipped, keys, err);
}

/* Names by number in "id2label"; a class without it has two. */
static ap_status write_labels(const json_t *config, const ap_arch *arch, ap_gguf_writer *keys, ap_error *err)
{
    const json_t *labels = ap_json_find(config, "id2label");
    uint32_t count = 2;
    char name[KEY_ROOM];
    if (ap_json_find(config, "num_labels"))
        AP_TRY(ap_json_get_u32(config, "num_labels", &count, err));
    if (labels) {
        AP_TRY(ap_json_get_object(config, "id2label", &labels, err));
        count = (uint32_t)json_object_size(labels);
    }
    if (count == 0 || count > AP_LABELS_MAX)
        return ap_fail(err, AP_E_LIMIT, "'id2label' has %u labels; 1 to %d are allowed", count, AP_LABELS_MAX);
    ap_arena arena = {0};
    ap_str *names = ap_arena_zero(&arena, count, sizeof *names);
    ap_status status = names ? AP_OK : ap_fail_nomem(err, count * sizeof *names);
    for (uint32_t i = 0; i < count && status == AP_OK; i++) {
        char number[16];
        (void)snprintf(number, sizeof number, "%u", i);
        const json_t *label = json_object_get(labels, number);
        if (labels && !json_is_string(label))
            status = ap_fail(err, AP_E_FORMAT, "'id2label.%u' is %s; a string is needed", i, ap_json_kind_name(label));
        else
            names[i] = label ? (ap_str){json_string_value(label), json_string_length(label)} : AP_STR("");
    }
    (void)snprintf(name, sizeof name, "%s.classifier.output_labels", arch->name);
    if (status == AP_OK)
        status = ap_gguf_writer_strs(keys, name, count, names, err);
    ap_arena_deinit(&arena);
    return status;
}

/* ---- Pooling ---- */

/* Steps that are known; a pooling that is named must be there, for another one would give other numbers. */
static ap_status check_modules(const ap_hf_files *files, ap_gguf_writer *keys, ap_error *err)
{
    static const char *const known[] = {".Transformer", ".Pooling", ".Normalize"};
    json_t *modules;
    const json_t *module;
    size_t index;
    ap_str pooling;
    bool normalizes = false, has_pooling = ap_hf_files_find(files, AP_HF_POOLING_FILE, &pooling);
    AP_TRY(ap_hf_files_list(files, "modules.json", &modules, err));
    ap_status status = AP_OK;
    json_array_foreach(modules, index, module) {
        const char *type = json_string_value(json_object_get(module, "type"));
        bool is_known = false;
        normalizes = normalizes || (type && ends_with(ap_str_from(type), ".Normalize"));
        for (size_t i = 0; type && i < sizeof known / sizeof known[0]; i++)
            is_known = is_known || ends_with(ap_str_from(type), known[i]);
        if (status == AP_OK && !is_known)
            status = ap_fail(err, AP_E_UNSUPPORTED, "modules.json: '%zu.type' is '%.100s'; this release has Transformer, Pooling and Normalize",
                             index, type ? type : "");
        if (status == AP_OK && ends_with(ap_str_from(type), ".Pooling") && !has_pooling)
            status = ap_fail(err, AP_E_FORMAT, "modules.json: '%zu' is a pooling, and the folder has no %s", index, AP_HF_POOLING_FILE);
    }
    json_decref(modules);
    return status == AP_OK && normalizes ? ap_gguf_writer_bool(keys, AP_HF_KEY_NORMALIZE, true, err) : status;
}

/* One of several flags, or their names in "pooling_mode". */
static ap_status read_pooling(const json_t *config, uint32_t *out, ap_error *err)
{
    static const struct {
        const char *flag, *name;
        uint32_t pooling; /* AP_POOLING_NONE: this release has no such thing */
    } modes[] = {{"pooling_mode_cls_token", "cls", AP_POOLING_CLS},
                 {"pooling_mode_mean_tokens", "mean", AP_POOLING_MEAN},
                 {"pooling_mode_lasttoken", "lasttoken", AP_POOLING_LAST},
                 {"pooling_mode_max_tokens", "max", AP_POOLING_NONE},
                 {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", AP_POOLING_NONE},
                 {"pooling_mode_weightedmean_tokens", "weightedmean", AP_POOLING_NONE}};
    ap_str name = {0};
    uint32_t count = 0;
    if (ap_json_find(config, "pooling_mode"))
        AP_TRY(ap_json_get_str(config, "pooling_mode", &name, err));
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (!json_is_true(json_object_get(config, modes[i].flag)) && !(name.len && ap_str_is(name, modes[i].name)))
            continue;
        if (modes[i].pooling == AP_POOLING_NONE)
            return ap_fail(err, AP_E_UNSUPPORTED, "'%s' is asked for; this release has the poolings cls, mean and lasttoken", modes[i].flag);
        *out = modes[i].pooling;
        count++;
    }
    if (count != 1)
        return ap_fail(err, AP_E_UNSUPPORTED, "%u poolings are asked for; this release has one of cls, mean and lasttoken", count);
    return AP_OK;
}

/* Of a classifier, what its head reads; *found false: nothing is said. */
static ap_status find_pooling(const ap_hf_files *files, const json_t *config, const ap_arch *arch, bool has_labels, uint32_t *pooling,
                              bool *found, ap_gguf_writer *keys, ap_error *err)
{
    json_t *file;
    ap_str name;
    *found = true;
    if (has_labels) {
        *pooling = RANK;
        if (!ap_json_find(config, "classifier_pooling"))
            return AP_OK;
        AP_TRY(ap_json_get_str(config, "classifier_pooling", &name, err));
        if (!ap_str_is(name, "cls") && !ap_str_is(name, "mean"))
            return ap_fail(err, AP_E_UNSUPPORTED, "'classifier_pooling' is '%.*s'; this release has cls and mean",
                           (int)(name.len < 40 ? name.len : 40), name.ptr);
        ap_pooling given = ap_str_is(name, "cls") ? AP_POOLING_CLS : AP_POOLING_MEAN;
        *pooling = given == arch->rank_pooling ? RANK : (uint32_t)given;
        return AP_OK;
    }
    AP_TRY(check_modules(files, keys, err));
    AP_TRY(ap_hf_files_json(files, AP_HF_POOLING_FILE, &file, err));
    *found = file != NULL;
    ap_status status = file ? read_pooling(file, pooling, err) : AP_OK;
    if (status != AP_OK)
        ap_error_prefix(err, AP_HF_POOLING_FILE);
    json_decref(file);
    return status;
}

ap_status ap_hf_encoder_write(const ap_hf_files *files, const json_t *config, const ap_arch *arch, ap_gguf_writer *keys, ap_error *err)
{
    ap_str class_name;
    uint32_t pooling = RANK, types;
    bool has_pooling;
    AP_TRY(ap_json_get_str(config, "architectures.0", &class_name, err));
    bool has_labels = ends_with(class_name, "ForSequenceClassification");
    AP_TRY(find_pooling(files, config, arch, has_labels, &pooling, &has_pooling, keys, err));
    if (has_pooling)
        AP_TRY(write_number(arch, "pooling_type", pooling, keys, err));
    if (!arch->is_encoder)
        return AP_OK;
    char name[KEY_ROOM];
    AP_TRY(ap_gguf_writer_str(keys, AP_HF_KEY_CLASS, class_name, err));
    (void)snprintf(name, sizeof name, "%s.attention.causal", arch->name);
    AP_TRY(ap_gguf_writer_bool(keys, name, false, err));
    if (ap_json_find(config, "type_vocab_size")) {
        AP_TRY(ap_json_get_u32(config, "type_vocab_size", &types, err));
        AP_TRY(ap_gguf_writer_u32(keys, "tokenizer.ggml.token_type_count", types, err));
    }
    AP_TRY(write_context(config, arch, keys, err));
    return has_labels ? write_labels(config, arch, keys, err) : AP_OK;
}
