/* convert_vocab.c - the files of the tokenizer out of GGUF keys.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "base/alloc.h"
#include "base/json.h"
#include "model/convert.h"
#include "model/hf_card.h"
#include "model/vocabulary.h"
#include "text/tokenizer_json.h"

ap_status ap_convert_print(const json_t *json, ap_buf *out, ap_error *err)
{
    AP_TRY(ap_json_print(json, JSON_INDENT(2) | JSON_REAL_PRECISION(9), out, err));
    return ap_buf_add_char(out, '\n', err);
}

ap_status ap_convert_document_json(const ap_convert_options *options, const char *name, const json_t *json, ap_error *err)
{
    ap_buf text = {0};
    ap_status status = ap_convert_print(json, &text, err);
    if (status == AP_OK)
        status = options->document(options->document_context, name, text.ptr, text.len, err);
    ap_buf_deinit(&text);
    return status;
}

/* The spelling of a special token, where there is one. */
static void put_token(json_t *to, const char *name, const ap_vocab_source *source, int32_t id)
{
    if (id >= 0 && (uint32_t)id < source->token_count)
        (void)json_object_set_new(to, name, json_stringn(source->tokens[id].ptr, source->tokens[id].len));
}

static void put_id(json_t *to, const char *name, int32_t id)
{
    if (id >= 0)
        (void)json_object_set_new(to, name, json_integer(id));
}

/* As the folder had it that the file was made of, or what GGUF's own keys say. */
static ap_status read_generation(const ap_gguf *keys, json_t **out, ap_error *err)
{
    enum { BYTES_MAX = 1 << 20, VALUES_MAX = 65536 };
    ap_str text;
    if (ap_gguf_get_str(keys, AP_HF_KEY_GENERATION, &text, NULL) == AP_OK) {
        ap_status status = ap_json_parse(out, text, (ap_json_limits){BYTES_MAX, VALUES_MAX}, err);
        if (status == AP_OK && !json_is_object(*out))
            status = ap_fail(err, AP_E_FORMAT, "key '%s' is %s; an object is needed", AP_HF_KEY_GENERATION, ap_json_kind_name(*out));
        else if (status != AP_OK)
            ap_error_prefix(err, "key '" AP_HF_KEY_GENERATION "'");
        return status;
    }
    *out = json_object();
    for (size_t i = 0; i < AP_HF_SAMPLING_COUNT && *out; i++) {
        float number;
        uint32_t whole;
        json_t *value = NULL;
        if (ap_hf_sampling[i].is_whole && ap_gguf_get_u32(keys, ap_hf_sampling[i].key, &whole, NULL) == AP_OK)
            value = json_integer(whole);
        else if (!ap_hf_sampling[i].is_whole && ap_gguf_get_f32(keys, ap_hf_sampling[i].key, &number, NULL) == AP_OK)
            value = json_real(number);
        if (value && json_object_set_new(*out, ap_hf_sampling[i].config, value) == 0)
            (void)json_object_set_new(*out, "do_sample", json_true());
    }
    return *out ? AP_OK : ap_fail_nomem(err, 64);
}

static ap_status write_generation(const ap_gguf *keys, const ap_vocab_source *source, const ap_convert_options *options, ap_error *err)
{
    const int32_t ends[] = {source->eos, source->eot, source->eom};
    json_t *root, *list = json_array();
    ap_status read = read_generation(keys, &root, err);
    for (size_t i = 0; i < 3; i++)
        if (ends[i] >= 0)
            (void)json_array_append_new(list, json_integer(ends[i]));
    put_id(root, "bos_token_id", source->bos);
    if (json_array_size(list) == 1)
        put_id(root, "eos_token_id", (int32_t)json_integer_value(json_array_get(list, 0)));
    else if (json_array_size(list) > 1)
        (void)json_object_set(root, "eos_token_id", list);
    put_id(root, "pad_token_id", source->pad);
    ap_status status = read == AP_OK ? ap_convert_document_json(options, "generation_config.json", root, err) : read;
    json_decref(list);
    json_decref(root);
    return status;
}

/* Encoders call what stands around a text by other names; of two texts, only those with types tell them apart. */
static void put_encoder(json_t *root, const ap_gguf *keys, const ap_vocab_source *source, const ap_hparams *sizes)
{
    uint32_t mask;
    put_token(root, "cls_token", source, source->bos);
    put_token(root, "sep_token", source, source->eos);
    if (ap_gguf_get_u32(keys, "tokenizer.ggml.mask_token_id", &mask, NULL) == AP_OK && mask < source->token_count)
        put_token(root, "mask_token", source, (int32_t)mask);
    json_t *names = json_pack("[s, s]", "input_ids", "attention_mask");
    if (sizes->type_count > 1)
        (void)json_array_insert_new(names, 1, json_string("token_type_ids"));
    (void)json_object_set_new(root, "model_input_names", names);
    (void)json_object_set_new(root, "model_max_length", json_integer(sizes->context_tokens));
}

static ap_status write_config(const ap_gguf *keys, const ap_vocab_source *source, const ap_arch *arch, const ap_hparams *sizes,
                              const ap_convert_options *options, ap_error *err)
{
    ap_str template = {0};
    json_t *root = json_pack("{s:s, s:b}", "tokenizer_class", "PreTrainedTokenizerFast", "clean_up_tokenization_spaces", 0);
    if (!root)
        return ap_fail_nomem(err, 256);
    put_token(root, "bos_token", source, source->bos);
    put_token(root, "eos_token", source, source->eos);
    put_token(root, "unk_token", source, source->unk);
    put_token(root, "pad_token", source, source->pad);
    if (arch->is_encoder)
        put_encoder(root, keys, source, sizes);
    ap_status status = ap_convert_document_json(options, "tokenizer_config.json", root, err);
    json_decref(root);
    if (status == AP_OK && ap_gguf_get_str(keys, "tokenizer.chat_template", &template, NULL) == AP_OK)
        status = options->document(options->document_context, "chat_template.jinja", template.ptr, template.len, err);
    return status;
}

static ap_status write_tokenizer(const ap_vocab_source *source, const ap_convert_options *options, ap_error *err)
{
    ap_buf text = {0};
    ap_status status = ap_tokenizer_json_write(source, &text, err);
    if (status == AP_OK)
        status = options->document(options->document_context, "tokenizer.json", text.ptr, text.len, err);
    ap_buf_deinit(&text);
    return status;
}

ap_status ap_convert_vocab(const ap_gguf *keys, const ap_arch *arch, const ap_hparams *sizes, const ap_convert_options *options, ap_error *err)
{
    ap_arena arena = {0};
    ap_vocab_source source;
    ap_status status = ap_vocab_source_read(&source, &arena, keys, err);
    if (status == AP_OK && !arch->is_encoder)
        status = write_generation(keys, &source, options, err);
    if (status == AP_OK && !ap_vocab_has_ids_only(keys)) {
        status = write_tokenizer(&source, options, err);
        if (status == AP_OK)
            status = write_config(keys, &source, arch, sizes, options, err);
    }
    ap_arena_deinit(&arena);
    return status;
}
