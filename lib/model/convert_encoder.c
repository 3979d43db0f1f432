/* convert_encoder.c - what the folder of an encoder says beyond the sizes of its model.
 *
 * GGUF has one name for BERT, RoBERTa and XLM-R: which of them a folder is, and the rows of positions that belong to the
 * padding, stand in keys of our own or follow from the vocabulary, as in files of other converters.  Those rows are never read,
 * so GGUF leaves them out; here they are zero.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>

#include "model/convert.h"
#include "model/hf.h"

enum { KEY_ROOM = 96, PADDING_USUAL = 1, SKIPPED_MAX = 1 << 20 };

ap_status ap_convert_family(const ap_gguf *keys, const ap_arch **arch, uint32_t *positions_skipped, ap_error *err)
{
    ap_str name = {0};
    *positions_skipped = 0;
    if (ap_gguf_get_str(keys, AP_HF_KEY_CLASS, &name, NULL) == AP_OK) {
        const ap_arch *said = ap_arch_find_class(name);
        if (!said || strcmp(said->name, (*arch)->name) != 0)
            return ap_fail(err, AP_E_FORMAT, "key '%s' is '%.*s', which is no class of %s", AP_HF_KEY_CLASS, (int)(name.len < 60 ? name.len : 60),
                           name.ptr, (*arch)->name);
        *arch = said;
    } else if (ap_gguf_get_str(keys, "tokenizer.ggml.model", &name, NULL) == AP_OK) {
        *arch = ap_arch_find_folder(*arch, name);
    }
    if (!(*arch)->hf.are_positions_behind_padding)
        return AP_OK;
    uint32_t padding = PADDING_USUAL;
    if (ap_gguf_find(keys, AP_STR(AP_HF_KEY_POSITIONS)))
        AP_TRY(ap_gguf_get_u32(keys, AP_HF_KEY_POSITIONS, positions_skipped, err));
    else if (ap_gguf_get_u32(keys, "tokenizer.ggml.padding_token_id", &padding, NULL) == AP_OK && padding < SKIPPED_MAX)
        *positions_skipped = padding + 1;
    else
        *positions_skipped = PADDING_USUAL + 1;
    if (*positions_skipped == 0 || *positions_skipped > SKIPPED_MAX)
        return ap_fail(err, AP_E_LIMIT, "key '%s' is %u; 1 to %d are allowed", AP_HF_KEY_POSITIONS, *positions_skipped, SKIPPED_MAX);
    return AP_OK;
}

/* ---- config.json ---- */

static ap_status put(json_t *config, const char *name, json_t *value, ap_error *err)
{
    return json_object_set_new(config, name, value) == 0 ? AP_OK : ap_fail_nomem(err, 64);
}

/* Labels without a name are called as the class itself would call them. */
static ap_status put_labels(json_t *config, const ap_arch *arch, const ap_hparams *sizes, const ap_gguf *keys, ap_error *err)
{
    ap_arena arena = {0};
    const ap_str *names = NULL;
    uint64_t count = 0;
    char text[KEY_ROOM], number[16];
    json_t *to_label = json_object(), *to_id = json_object();
    (void)snprintf(text, sizeof text, "%s.classifier.output_labels", arch->name);
    ap_status status = ap_gguf_find(keys, ap_str_from(text)) ? ap_gguf_get_strs(keys, text, &arena, &names, &count, err) : AP_OK;
    for (uint32_t i = 0; i < sizes->label_count && status == AP_OK; i++) {
        bool has_name = i < count && names[i].len;
        (void)snprintf(number, sizeof number, "%u", i);
        int length = snprintf(text, sizeof text, "LABEL_%u", i);
        json_t *label = has_name ? json_stringn(names[i].ptr, names[i].len) : json_stringn(text, (size_t)length);
        if (!label)
            status = ap_fail(err, AP_E_UNSUPPORTED, "the name of label %u is no valid UTF-8, which config.json cannot hold", i);
        else if (!memchr(json_string_value(label), 0, json_string_length(label)))
            (void)json_object_set_new(to_id, json_string_value(label), json_integer(i));
        (void)json_object_set_new(to_label, number, label);
    }
    ap_arena_deinit(&arena);
    if (status == AP_OK)
        status = put(config, "id2label", json_incref(to_label), err);
    if (status == AP_OK)
        status = put(config, "label2id", json_incref(to_id), err);
    json_decref(to_label);
    json_decref(to_id);
    return status;
}

ap_status ap_convert_encoder_config(json_t *config, const ap_arch *arch, const ap_hparams *sizes, const ap_gguf *keys, uint32_t positions_skipped,
                                    ap_error *err)
{
    bool has_types = false, has_pooled_head = false;
    for (size_t i = 0; i < arch->tensor_count; i++) {
        has_types = has_types || arch->tensors[i].role == AP_ROLE_TOKEN_TYPES;
        has_pooled_head = has_pooled_head || arch->tensors[i].role == AP_ROLE_HEAD_NORM;
    }
    if (has_types)
        AP_TRY(put(config, "type_vocab_size", json_integer(sizes->type_count), err));
    if (positions_skipped) {
        AP_TRY(put(config, "max_position_embeddings", json_integer((json_int_t)sizes->context_tokens + positions_skipped), err));
        AP_TRY(put(config, "pad_token_id", json_integer((json_int_t)positions_skipped - 1), err));
    }
    if (sizes->label_count == 0)
        return AP_OK;
    if (has_pooled_head) /* whose class can read the first vector or the mean */
        AP_TRY(put(config, "classifier_pooling", json_string(sizes->pooling == AP_POOLING_MEAN ? "mean" : "cls"), err));
    return put_labels(config, arch, sizes, keys, err);
}

/* ---- Pooling ---- */

ap_status ap_convert_pooling(const ap_arch *arch, const ap_hparams *sizes, const ap_gguf *keys, json_t **out, ap_error *err)
{
    char key[KEY_ROOM];
    *out = NULL;
    (void)snprintf(key, sizeof key, "%s.pooling_type", arch->name);
    if (!ap_gguf_find(keys, ap_str_from(key)) || sizes->label_count || sizes->pooling == AP_POOLING_NONE)
        return AP_OK;
    *out = json_pack("{s:i, s:b, s:b, s:b, s:b, s:b, s:b, s:b}", "word_embedding_dimension", (int)sizes->width, "pooling_mode_cls_token",
                     sizes->pooling == AP_POOLING_CLS, "pooling_mode_mean_tokens", sizes->pooling == AP_POOLING_MEAN, "pooling_mode_max_tokens", 0,
                     "pooling_mode_mean_sqrt_len_tokens", 0, "pooling_mode_weightedmean_tokens", 0, "pooling_mode_lasttoken",
                     sizes->pooling == AP_POOLING_LAST, "include_prompt", 1);
    return *out ? AP_OK : ap_fail_nomem(err, 512);
}

#define MODULE "sentence_transformers.models."

ap_status ap_convert_pooling_files(const ap_arch *arch, const ap_hparams *sizes, const ap_gguf *keys, const ap_convert_options *options, ap_error *err)
{
    json_t *pooling;
    bool normalizes = false;
    AP_TRY(ap_convert_pooling(arch, sizes, keys, &pooling, err));
    if (!pooling)
        return AP_OK;
    (void)ap_gguf_get_bool(keys, AP_HF_KEY_NORMALIZE, &normalizes, NULL);
    ap_status status = ap_convert_document_json(options, AP_HF_POOLING_FILE, pooling, err);
    json_t *modules = json_pack("[{s:i, s:s, s:s, s:s}, {s:i, s:s, s:s, s:s}]", "idx", 0, "name", "0", "path", "", "type", MODULE "Transformer", "idx",
                                1, "name", "1", "path", "1_Pooling", "type", MODULE "Pooling");
    if (normalizes)
        (void)json_array_append_new(modules, json_pack("{s:i, s:s, s:s, s:s}", "idx", 2, "name", "2", "path", "2_Normalize", "type", MODULE "Normalize"));
    if (status == AP_OK)
        status = ap_convert_document_json(options, "modules.json", modules, err);
    json_decref(modules);
    json_decref(pooling);
    return status;
}
