/* hf_vocab.c - the tokenizer of a folder as GGUF keys.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>

#include "base/arena.h"
#include "model/hf.h"
#include "model/hf_card.h"
#include "model/model.h"
#include "model/vocabulary.h"
#include "text/vocab_read.h"

enum { ENDS_MAX = 3 };

/* ---- Special tokens ---- */

/* Ids that no row belongs to are defaults of the configuration's class, not of the model. */
static ap_status write_id(const json_t *value, uint32_t rows, const char *key, ap_gguf_writer *keys, ap_error *err)
{
    if (!json_is_integer(value))
        return ap_fail(err, AP_E_FORMAT, "the id of a special token is %s; an integer is needed", ap_json_kind_name(value));
    json_int_t id = json_integer_value(value);
    return id < 0 || id >= rows ? AP_OK : ap_gguf_writer_u32(keys, key, (uint32_t)id, err);
}

/* The ends of an answer: one id, or a list of them. */
static ap_status write_ends(const json_t *value, uint32_t rows, ap_gguf_writer *keys, ap_error *err)
{
    static const char *const names[ENDS_MAX] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                                "tokenizer.ggml.eom_token_id"};
    if (!json_is_array(value))
        return write_id(value, rows, names[0], keys, err);
    if (json_array_size(value) > ENDS_MAX)
        return ap_fail(err, AP_E_UNSUPPORTED, "'eos_token_id' has %zu ids; this release keeps %d", json_array_size(value), ENDS_MAX);
    for (size_t i = 0; i < json_array_size(value); i++)
        AP_TRY(write_id(json_array_get(value, i), rows, names[i], keys, err));
    return AP_OK;
}

/* generation_config.json knows better than config.json. */
static const json_t *find_either(const json_t *generation, const json_t *config, const char *name)
{
    const json_t *value = ap_json_find(generation, name);
    return value ? value : ap_json_find(config, name);
}

/* Those that the tokenizer itself puts around text (`own`) stand already and stay. */
static ap_status write_specials(const json_t *generation, const json_t *config, const ap_vocab_source *own, uint32_t rows,
                                ap_gguf_writer *keys, ap_error *err)
{
    const json_t *begin = find_either(generation, config, "bos_token_id"), *end = find_either(generation, config, "eos_token_id"),
                 *pad = find_either(generation, config, "pad_token_id");
    if (begin && own->add_bos <= 0)
        AP_TRY(write_id(begin, rows, "tokenizer.ggml.bos_token_id", keys, err));
    if (end && own->add_eos <= 0)
        AP_TRY(write_ends(end, rows, keys, err));
    return pad ? write_id(pad, rows, "tokenizer.ggml.padding_token_id", keys, err) : AP_OK;
}

/* ---- How to sample ---- */

/* Under GGUF's own keys, if the folder asks for sampling at all; and all of it, but for the tokens, for the way back. */
static ap_status write_generation(const json_t *generation, ap_gguf_writer *keys, ap_error *err)
{
    static const char *const tokens[] = {"bos_token_id", "eos_token_id", "pad_token_id"};
    for (size_t i = 0; i < AP_HF_SAMPLING_COUNT && json_is_true(json_object_get(generation, "do_sample")); i++) {
        const json_t *value = json_object_get(generation, ap_hf_sampling[i].config);
        double number = json_number_value(value);
        if (json_is_number(value) && number >= 0 && number < 1e9)
            AP_TRY(ap_hf_sampling[i].is_whole ? ap_gguf_writer_u32(keys, ap_hf_sampling[i].key, (uint32_t)number, err)
                                              : ap_gguf_writer_f32(keys, ap_hf_sampling[i].key, (float)number, err));
    }
    json_t *rest = json_copy((json_t *)generation);
    for (size_t i = 0; i < 3; i++)
        (void)json_object_del(rest, tokens[i]);
    ap_status status = ap_hf_card_keep(AP_HF_KEY_GENERATION, rest, keys, err);
    json_decref(rest);
    return status;
}

/* ---- A folder without a tokenizer ---- */

/* The model then takes and gives ids only.  Each row has a name to be shown by, and no text becomes a token. */
static ap_status write_bare_ids(uint32_t rows, ap_gguf_writer *keys, ap_error *err)
{
    enum { NAME_ROOM = 16 };
    ap_arena arena = {0};
    ap_str *names = ap_arena_zero(&arena, rows, sizeof *names);
    int32_t *types = ap_arena_zero(&arena, rows, sizeof *types);
    ap_status status = names && types ? AP_OK : ap_fail_nomem(err, rows * sizeof *names);
    for (uint32_t i = 0; i < rows && status == AP_OK; i++) {
        char name[NAME_ROOM];
        int length = snprintf(name, sizeof name, "[%u]", i);
        names[i] = (ap_str){ap_arena_copy(&arena, name, (size_t)length), (size_t)length};
        types[i] = AP_TOKEN_UNUSED;
        if (!names[i].ptr)
            status = ap_fail_nomem(err, NAME_ROOM);
    }
    if (status == AP_OK)
        status = ap_gguf_writer_str(keys, "tokenizer.ggml.model", AP_STR(AP_VOCAB_MODEL_NONE), err);
    if (status == AP_OK)
        status = ap_gguf_writer_str(keys, "tokenizer.ggml.pre", AP_STR("gpt-2"), err);
    if (status == AP_OK)
        status = ap_gguf_writer_strs(keys, "tokenizer.ggml.tokens", rows, names, err);
    if (status == AP_OK)
        status = ap_gguf_writer_numbers(keys, "tokenizer.ggml.token_type", AP_GGUF_I32, rows, types, err);
    if (status == AP_OK)
        status = ap_gguf_writer_strs(keys, "tokenizer.ggml.merges", 0, NULL, err);
    ap_arena_deinit(&arena);
    return status;
}

/* ---- The chat template ---- */

/* One template, or several with names, of which "default" is the one for chats. */
static const json_t *template_of(const json_t *config)
{
    const json_t *value = ap_json_find(config, "chat_template"), *entry;
    size_t i;
    json_array_foreach(value, i, entry) {
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name && strcmp(name, "default") == 0)
            return json_object_get(entry, "template");
    }
    return value;
}

/* A file of its own counts before the entry in tokenizer_config.json, where older folders have it. */
static ap_status write_template(const ap_hf_files *files, ap_gguf_writer *keys, ap_error *err)
{
    static const char key[] = "tokenizer.chat_template";
    ap_str text;
    json_t *config;
    if (ap_hf_files_find(files, "chat_template.jinja", &text))
        return ap_gguf_writer_str(keys, key, text, err);
    AP_TRY(ap_hf_files_json(files, "tokenizer_config.json", &config, err));
    const json_t *value = template_of(config);
    ap_status status = AP_OK;
    if (json_is_string(value))
        status = ap_gguf_writer_str(keys, key, (ap_str){json_string_value(value), json_string_length(value)}, err);
    json_decref(config);
    return status;
}

/* ---- All of it ---- */

static ap_str find(const ap_hf_files *files, const char *name)
{
    ap_str text = {0};
    (void)ap_hf_files_find(files, name, &text);
    return text;
}

static ap_status read_lists(const ap_hf_files *files, const json_t *config, const char *vocab, const char *merges, ap_vocab_source *source,
                            ap_arena *arena, ap_error *err)
{
    const json_t *type = ap_json_find(config, "model_type");
    ap_vocab_lists lists = {.vocab = find(files, vocab), .added = find(files, "added_tokens.json"),
                            .specials = find(files, "special_tokens_map.json"), .config = find(files, "tokenizer_config.json"),
                            .model_type = {json_string_value(type), json_string_length(type)}};
    if (merges && !ap_hf_files_find(files, merges, &lists.merges))
        return ap_fail(err, AP_E_FORMAT, "%s needs %s beside it", vocab, merges);
    return ap_vocab_lists_read(source, arena, &lists, err);
}

/* The first of these files that is there. */
static ap_status read_tokenizer(const ap_hf_files *files, const json_t *config, ap_vocab_source *source, ap_arena *arena, bool *is_there,
                                ap_error *err)
{
    static const char *const alone[] = {"tokenizer.json", "tekken.json", "tokenizer.model", "spiece.model", "tiktoken.model"};
    ap_str text;
    *is_there = true;
    for (size_t i = 0; i < sizeof alone / sizeof alone[0]; i++)
        if (ap_hf_files_find(files, alone[i], &text))
            return ap_vocab_file_read(source, arena, text, err);
    if (ap_hf_files_find(files, "sentencepiece.bpe.model", &text)) {
        const json_t *type = ap_json_find(config, "model_type");
        const char *name = json_is_string(type) ? json_string_value(type) : "?";
        if (strcmp(name, "xlm-roberta") != 0)
            return ap_fail(err, AP_E_UNSUPPORTED, "sentencepiece.bpe.model of '%.40s', whose ids are not those of its pieces; known is xlm-roberta",
                           name);
        return ap_xlm_roberta_read(source, arena, text, err);
    }
    if (ap_hf_files_find(files, "vocab.json", &text))
        return read_lists(files, config, "vocab.json", "merges.txt", source, arena, err);
    *is_there = ap_hf_files_find(files, "vocab.txt", &text);
    return *is_there ? read_lists(files, config, "vocab.txt", NULL, source, arena, err) : AP_OK;
}

/* The token that stands for a hidden one in training: a text, or an object with one. */
static ap_status write_mask(const ap_hf_files *files, const ap_vocab_source *source, ap_gguf_writer *keys, ap_error *err)
{
    static const char *const names[] = {"tokenizer_config.json", "special_tokens_map.json"};
    bool is_done = false;
    for (size_t i = 0; i < 2 && !is_done; i++) {
        json_t *config;
        AP_TRY(ap_hf_files_json(files, names[i], &config, err));
        const json_t *mask = ap_json_find(config, "mask_token"), *content = json_is_object(mask) ? json_object_get(mask, "content") : mask;
        ap_str text = {json_string_value(content), json_string_length(content)};
        ap_status status = AP_OK;
        for (uint32_t id = 0; id < source->token_count && text.len && !is_done; id++)
            if (ap_str_equal(source->tokens[id], text)) {
                status = ap_gguf_writer_u32(keys, "tokenizer.ggml.mask_token_id", id, err);
                is_done = true;
            }
        json_decref(config);
        AP_TRY(status);
    }
    return AP_OK;
}

/* *source says which special tokens stand in the keys already; what it points to is gone. */
static ap_status write_tokenizer(const ap_hf_files *files, const json_t *config, uint32_t rows, ap_vocab_source *source, ap_gguf_writer *keys,
                                 ap_error *err)
{
    ap_arena arena = {0};
    bool is_there;
    *source = (ap_vocab_source)AP_VOCAB_SOURCE_NONE;
    ap_status status = read_tokenizer(files, config, source, &arena, &is_there, err);
    if (status == AP_OK && is_there)
        status = ap_vocab_source_write(source, rows, keys, err);
    if (status == AP_OK && is_there)
        status = write_mask(files, source, keys, err);
    ap_arena_deinit(&arena);
    return status == AP_OK && !is_there ? write_bare_ids(rows, keys, err) : status;
}

ap_status ap_hf_vocab_write(const ap_hf_files *files, const json_t *config, uint32_t rows, ap_gguf_writer *keys, ap_error *err)
{
    json_t *generation;
    ap_vocab_source source;
    AP_TRY(ap_hf_files_json(files, "generation_config.json", &generation, err));
    ap_status status = write_tokenizer(files, config, rows, &source, keys, err);
    if (status == AP_OK)
        status = write_specials(generation, config, &source, rows, keys, err);
    if (status == AP_OK)
        status = write_template(files, keys, err);
    if (status == AP_OK && generation)
        status = write_generation(generation, keys, err);
    json_decref(generation);
    return status;
}
