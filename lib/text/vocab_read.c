/* vocab_read.c - lists become what a tokenizer.json would say, and go the same way as one.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "text/vocab_read.h"

#include "text/ranks.h"
#include "text/sentencepiece.h"
#include "text/tokenizer_json.h"

static const ap_json_limits json_limits = {AP_TOKENIZER_JSON_BYTES_MAX, AP_TOKENIZER_JSON_VALUES_MAX};

static json_t *text_of(ap_str text) { return json_stringn(text.ptr, text.len); }

/* Sets and gives the value away; false when memory ends or the text is not UTF-8. */
static bool set(json_t *object, const char *name, json_t *value) { return json_object_set_new(object, name, value) == 0; }

/* ---- vocab.txt --------------------------------------------------------------------------------------------------- */

static const char *const bert_specials[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
enum { BERT_SPECIALS = sizeof bert_specials / sizeof bert_specials[0] };

static bool is_bert_special(ap_str token)
{
    for (unsigned i = 0; i < BERT_SPECIALS; i++)
        if (ap_str_is(token, bert_specials[i]))
            return true;
    return false;
}

static bool has_upper(ap_str token)
{
    for (size_t i = 0; i < token.len; i++)
        if (token.ptr[i] >= 'A' && token.ptr[i] <= 'Z')
            return true;
    return false;
}

/* *cased: some word has a capital letter ("[unused1]" and the special tokens are none). */
static ap_status read_lines(ap_str file, json_t *vocab, bool *cased, ap_error *err)
{
    json_int_t id = 0;
    *cased = false;
    for (ap_str rest = file; rest.len; id++) {
        ap_str line = ap_str_next_line(&rest);
        if (id == AP_VOCAB_TOKENS_MAX)
            return ap_fail(err, AP_E_LIMIT, "vocab.txt has more than %d lines", AP_VOCAB_TOKENS_MAX);
        if (memchr(line.ptr, 0, line.len))
            return ap_fail(err, AP_E_FORMAT, "line %lld of vocab.txt has a U+0000", (long long)id + 1);
        json_t *old = json_object_getn(vocab, line.ptr, line.len);
        if (old)
            return ap_fail(err, AP_E_FORMAT, "lines %lld and %lld of vocab.txt are the same", (long long)json_integer_value(old) + 1,
                           (long long)id + 1);
        if (json_object_setn_new(vocab, line.ptr, line.len, json_integer(id)) != 0)
            return ap_fail(err, AP_E_FORMAT, "line %lld of vocab.txt is not valid UTF-8", (long long)id + 1);
        *cased = *cased || (!is_bert_special(line) && has_upper(line));
    }
    return AP_OK;
}

static bool flag_of(const json_t *config, const char *name, bool otherwise)
{
    const json_t *value = json_object_get(config, name);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static ap_status fill_bert(json_t *root, json_t *vocab, const json_t *config, bool lowercase, ap_error *err)
{
    json_t *added = json_array();
    bool is_whole = set(root, "added_tokens", added);
    for (unsigned i = 0; i < BERT_SPECIALS; i++) {
        json_t *id = json_object_get(vocab, bert_specials[i]);
        if (!id && i >= 1 && i <= 3)
            return ap_fail(err, AP_E_FORMAT, "vocab.txt has no %s", bert_specials[i]);
        if (id)
            is_whole = is_whole && json_array_append_new(added, json_pack("{s:O, s:s, s:b, s:b}", "id", id, "content", bert_specials[i],
                                                                         "special", 1, "normalized", 0)) == 0;
    }
    is_whole = is_whole &&
               set(root, "normalizer",
                   json_pack("{s:s, s:b, s:b, s:b, s:b}", "type", "BertNormalizer", "lowercase", lowercase, "clean_text", 1,
                             "handle_chinese_chars", flag_of(config, "tokenize_chinese_chars", true), "strip_accents",
                             flag_of(config, "strip_accents", lowercase))) &&
               set(root, "pre_tokenizer", json_pack("{s:s}", "type", "BertPreTokenizer")) &&
               set(root, "post_processor",
                   json_pack("{s:s, s:[s, O], s:[s, O]}", "type", "BertProcessing", "sep", "[SEP]", json_object_get(vocab, "[SEP]"),
                             "cls", "[CLS]", json_object_get(vocab, "[CLS]"))) &&
               set(root, "model", json_pack("{s:s, s:s, s:O}", "type", "WordPiece", "unk_token", "[UNK]", "vocab", vocab));
    return is_whole ? AP_OK : ap_fail_nomem(err, json_object_size(vocab));
}

/* ---- vocab.json and merges.txt ----------------------------------------------------------------------------------- */

typedef struct family {
    const char *class, *model_type;
    const char *expression; /* NULL: ByteLevel's own */
    bool is_nfc, has_ends;
    const char *specials[5];
} family;

#define QWEN2                                                                                                                  \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const family families[] = {
    {"GPT2Tokenizer", "gpt2", NULL, false, false, {"<|endoftext|>"}},
    {"RobertaTokenizer", "roberta", NULL, false, true, {"<s>", "</s>", "<pad>", "<unk>", "<mask>"}},
    {"Qwen2Tokenizer", "qwen2", QWEN2, true, false, {"<|endoftext|>"}},
};

static const family *family_of(const json_t *config, ap_str model_type)
{
    const json_t *class = json_object_get(config, "tokenizer_class");
    ap_str name = {json_string_value(class), json_string_length(class)};
    if (name.len > 4 && memcmp(name.ptr + name.len - 4, "Fast", 4) == 0)
        name.len -= 4;
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (name.len ? ap_str_is(name, families[i].class) : ap_str_is(model_type, families[i].model_type))
            return &families[i];
    return NULL;
}

static json_t *find_added(const json_t *added, ap_str content)
{
    size_t i;
    json_t *one;
    json_array_foreach(added, i, one)
        if (ap_str_equal(content, (ap_str){json_string_value(json_object_get(one, "content")),
                                           json_string_length(json_object_get(one, "content"))}))
            return one;
    return NULL;
}

/* A token that is already there, in the vocabulary or added, becomes a special one. */
static bool add_special(json_t *added, const json_t *vocab, const char *content)
{
    json_t *one = find_added(added, ap_str_from(content)), *id = json_object_get(vocab, content);
    if (one)
        return set(one, "special", json_true()) && set(one, "normalized", json_false());
    if (!id)
        return true;
    return json_array_append_new(added, json_pack("{s:O, s:s, s:b, s:b, s:b}", "id", id, "content", content, "special", 1, "normalized",
                                                  0, "lstrip", strcmp(content, "<mask>") == 0)) == 0;
}

/* What special_tokens_map.json names: strings, objects with a content, or lists of them. */
static bool add_named(json_t *added, const json_t *vocab, const json_t *value)
{
    size_t i;
    json_t *one;
    if (json_is_array(value)) {
        json_array_foreach(value, i, one)
            if (!json_is_array(one) && !add_named(added, vocab, one))
                return false;
        return true;
    }
    const char *content = json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
    return !content || add_special(added, vocab, content);
}

static ap_status fill_added(json_t *added, const json_t *vocab, const json_t *config, const json_t *more, const json_t *named,
                            const family *f, ap_error *err)
{
    const char *key;
    json_t *value;
    bool is_whole = true;
    json_object_foreach(json_object_get(config, "added_tokens_decoder"), key, value) {
        json_t *copy = json_is_object(value) ? json_deep_copy(value) : NULL;
        char *end;
        long id = strtol(key, &end, 10);
        if (!copy || *end || !set(copy, "id", json_integer(id))) {
            json_decref(copy);
            return ap_fail(err, AP_E_FORMAT, "added_tokens_decoder of tokenizer_config.json has an entry '%.40s' that is no token", key);
        }
        is_whole = is_whole && json_array_append_new(added, copy) == 0;
    }
    json_object_foreach((json_t *)more, key, value)
        if (!find_added(added, ap_str_from(key)))
            is_whole = is_whole && json_array_append_new(added, json_pack("{s:O, s:s, s:b}", "id", value, "content", key, "special", 0)) == 0;
    for (size_t i = 0; i < sizeof f->specials / sizeof f->specials[0] && f->specials[i]; i++)
        is_whole = is_whole && add_special(added, vocab, f->specials[i]);
    json_object_foreach((json_t *)named, key, value)
        is_whole = is_whole && add_named(added, vocab, value);
    return is_whole ? AP_OK : ap_fail_nomem(err, json_array_size(added));
}

/* A comment in the first line; then pairs. */
static ap_status read_merges(ap_str file, json_t *merges, ap_error *err)
{
    size_t line_number = 0;
    for (ap_str rest = file; rest.len;) {
        ap_str line = ap_str_next_line(&rest);
        line_number++;
        if (line.len == 0 || (line_number == 1 && ap_str_starts(line, AP_STR("#version"))))
            continue;
        if (json_array_size(merges) == AP_VOCAB_MERGES_MAX)
            return ap_fail(err, AP_E_LIMIT, "merges.txt has more than %d merges", AP_VOCAB_MERGES_MAX);
        if (json_array_append_new(merges, text_of(line)) != 0)
            return ap_fail(err, AP_E_FORMAT, "line %zu of merges.txt is not valid UTF-8", line_number);
    }
    return AP_OK;
}

static ap_status fill_bpe(json_t *root, json_t *vocab, const json_t *config, const json_t *more, const json_t *named, const family *f,
                          ap_str merges_file, ap_error *err)
{
    json_t *added = json_array(), *merges = json_array();
    bool is_whole = set(root, "added_tokens", added);
    is_whole = set(root, "model", json_pack("{s:s, s:O, s:o}", "type", "BPE", "vocab", vocab, "merges", merges)) && is_whole;
    if (is_whole && f->expression)
        is_whole = set(root, "pre_tokenizer",
                       json_pack("{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, {s:s, s:b, s:b}]}", "type", "Sequence", "pretokenizers", "type", "Split",
                                 "pattern", "Regex", f->expression, "behavior", "Isolated", "invert", 0, "type", "ByteLevel",
                                 "add_prefix_space", 0, "use_regex", 0));
    else if (is_whole)
        is_whole = set(root, "pre_tokenizer", json_pack("{s:s, s:b}", "type", "ByteLevel", "add_prefix_space",
                                                        flag_of(config, "add_prefix_space", false)));
    if (is_whole && f->is_nfc)
        is_whole = set(root, "normalizer", json_pack("{s:s}", "type", "NFC"));
    json_t *begin = json_object_get(vocab, "<s>"), *end = json_object_get(vocab, "</s>");
    if (f->has_ends && (!begin || !end))
        return ap_fail(err, AP_E_FORMAT, "vocab.json has no <s> or no </s>");
    if (is_whole && f->has_ends)
        is_whole = set(root, "post_processor", json_pack("{s:s, s:[s, O], s:[s, O]}", "type", "RobertaProcessing", "sep", "</s>", end, "cls",
                                                         "<s>", begin));
    if (!is_whole)
        return ap_fail_nomem(err, json_object_size(vocab));
    AP_TRY(fill_added(added, vocab, config, more, named, f, err));
    return read_merges(merges_file, merges, err);
}

/* ---- Both -------------------------------------------------------------------------------------------------------- */

/* *out is NULL where there is no file. */
static ap_status parse(json_t **out, ap_str file, const char *name, ap_error *err)
{
    *out = NULL;
    if (file.len == 0)
        return AP_OK;
    AP_TRY(ap_json_parse(out, file, json_limits, err));
    if (json_is_object(*out))
        return AP_OK;
    json_decref(*out);
    *out = NULL;
    return ap_fail(err, AP_E_FORMAT, "%s is no object", name);
}

static ap_status fill_root(json_t *root, json_t *vocab, const json_t *config, const json_t *more, const json_t *named,
                           const ap_vocab_lists *files, ap_error *err)
{
    if (files->merges.len == 0) {
        bool cased;
        AP_TRY(read_lines(files->vocab, vocab, &cased, err));
        return fill_bert(root, vocab, config, flag_of(config, "do_lower_case", !cased), err);
    }
    const json_t *class = json_object_get(config, "tokenizer_class");
    const family *f = family_of(config, files->model_type);
    if (!f)
        return ap_fail(err, AP_E_UNSUPPORTED, "vocab.json and merges.txt of '%.40s', whose words and special tokens they do not say; known are those of "
                       "GPT2Tokenizer, RobertaTokenizer and Qwen2Tokenizer",
                       json_is_string(class) ? json_string_value(class) : files->model_type.len ? files->model_type.ptr : "?");
    return fill_bpe(root, vocab, config, more, named, f, files->merges, err);
}

ap_status ap_vocab_lists_read(ap_vocab_source *out, ap_arena *arena, const ap_vocab_lists *files, ap_error *err)
{
    json_t *root = json_object(), *vocab = NULL, *config = NULL, *more = NULL, *named = NULL;
    *out = (ap_vocab_source)AP_VOCAB_SOURCE_NONE;
    ap_status status = root ? parse(&config, files->config, "tokenizer_config.json", err) : ap_fail_nomem(err, sizeof *files);
    if (status == AP_OK)
        status = parse(&more, files->added, "added_tokens.json", err);
    if (status == AP_OK)
        status = parse(&named, files->specials, "special_tokens_map.json", err);
    if (status == AP_OK && files->merges.len)
        status = parse(&vocab, files->vocab, "vocab.json", err);
    if (status == AP_OK && !vocab)
        vocab = json_object();
    if (status == AP_OK)
        status = vocab ? fill_root(root, vocab, config, more, named, files, err) : ap_fail_nomem(err, sizeof *files);
    if (status == AP_OK)
        status = ap_tokenizer_json_read_root(out, arena, root, err);
    json_decref(root);
    json_decref(vocab);
    json_decref(config);
    json_decref(more);
    json_decref(named);
    return status;
}

/* ---- XLM-R ------------------------------------------------------------------------------------------------------- */

/* <s>, <pad>, </s>, <unk>; the pieces from the fourth on one further; <mask> at the end. */
ap_status ap_xlm_roberta_read(ap_vocab_source *out, ap_arena *arena, ap_str file, ap_error *err)
{
    static const char *const heads[] = {"<s>", "<pad>", "</s>", "<unk>"};
    enum { HEADS = 4, OLD_HEADS = 3 };
    AP_TRY(ap_sentencepiece_read(out, arena, file, err));
    uint32_t count = out->token_count + 2;
    if (out->token_count < OLD_HEADS || out->kind != AP_VOCAB_UNIGRAM)
        return ap_fail(err, AP_E_UNSUPPORTED, "sentencepiece.bpe.model of XLM-R is a Unigram model of 3 pieces or more; this one is not");
    ap_str *tokens = ap_arena_zero(arena, count, sizeof *tokens);
    float *scores = ap_arena_zero(arena, count, sizeof *scores);
    int32_t *types = ap_arena_zero(arena, count, sizeof *types);
    uint8_t *flags = ap_arena_zero(arena, count, sizeof *flags);
    if (!tokens || !scores || !types || !flags)
        return ap_fail_nomem(err, count * sizeof *tokens);
    for (uint32_t i = OLD_HEADS; i < out->token_count; i++) {
        tokens[i + 1] = out->tokens[i];
        scores[i + 1] = out->scores[i];
        types[i + 1] = out->types[i];
    }
    for (uint32_t i = 0; i < HEADS; i++) {
        tokens[i] = ap_str_from(heads[i]);
        types[i] = i == HEADS - 1 ? AP_TOKEN_UNKNOWN : AP_TOKEN_CONTROL;
    }
    tokens[count - 1] = AP_STR("<mask>");
    types[count - 1] = AP_TOKEN_CONTROL;
    flags[count - 1] = AP_TOKEN_LSTRIP;
    out->token_count = count;
    out->tokens = tokens, out->scores = scores, out->types = types, out->flags = flags;
    out->bos = 0, out->pad = 1, out->eos = 2, out->unk = 3;
    out->add_bos = out->add_eos = 1;
    return AP_OK;
}

/* ---- One file ---------------------------------------------------------------------------------------------------- */

static ap_status read_json(ap_vocab_source *out, ap_arena *arena, ap_str file, ap_error *err)
{
    json_t *root;
    AP_TRY(ap_json_parse(&root, file, json_limits, err));
    ap_status status;
    if (json_is_string(ap_json_find(root, "config.pattern")))
        status = ap_tekken_read(out, arena, root, err);
    else if (!json_object_get(root, "model") && json_is_integer(json_object_iter_value(json_object_iter(root))))
        status = ap_fail(err, AP_E_UNSUPPORTED, "a vocab.json, which needs its merges.txt: give the folder of the model instead");
    else
        status = ap_tokenizer_json_read_root(out, arena, root, err);
    json_decref(root);
    return status;
}

static bool has_line(ap_str file, const char *text)
{
    while (file.len)
        if (ap_str_is(ap_str_next_line(&file), text))
            return true;
    return false;
}

ap_status ap_vocab_file_read(ap_vocab_source *out, ap_arena *arena, ap_str file, ap_error *err)
{
    enum { PIECE_TAG = 0x0a }; /* a SentencePiece model begins with a piece, whose length and first tag follow */
    if (file.len && file.ptr[0] == '{')
        return read_json(out, arena, file, err);
    if (file.len > 2 && file.ptr[0] == PIECE_TAG && file.ptr[2] == PIECE_TAG)
        return ap_sentencepiece_read(out, arena, file, err);
    if (ap_tiktoken_is(file))
        return ap_tiktoken_read(out, arena, file, err);
    if (file.len <= AP_TOKENIZER_JSON_BYTES_MAX && has_line(file, "[UNK]") && has_line(file, "[SEP]")) {
        const ap_vocab_lists files = {.vocab = file};
        return ap_vocab_lists_read(out, arena, &files, err);
    }
    return ap_fail(err, AP_E_FORMAT, "no vocabulary: neither GGUF, tokenizer.json, tokenizer.model, tekken.json, a tiktoken file nor BERT's vocab.txt");
}
