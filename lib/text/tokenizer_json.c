/* SPDX-License-Identifier: Apache-2.0 */
#include "text/tokenizer_json.h"

#include <stdio.h>

#include "base/json.h"
#include "text/split.h"

enum { SHOWN = 60, STEP_BYTES_MAX = 512, NESTING_MAX = 8 };

typedef struct reader {
    ap_vocab_source *out;
    ap_arena *arena;
    ap_error *err;
    const json_t *root, *model;
    ap_str *tokens;
    float *scores;
    int32_t *types;
    uint8_t *flags;
    bool has_flags;
    ap_str steps[AP_NORMALIZER_STEPS_MAX];
    uint32_t step_count;
    ap_str stages[AP_SPLIT_STAGES_MAX];
    uint32_t stage_count;
    bool is_byte_level, is_metaspace, splits_words;
    unsigned depth;
} reader;

static const char *type_of(const json_t *component)
{
    const char *type = json_string_value(json_object_get(component, "type"));
    return type ? type : "?";
}

static bool is(const json_t *component, const char *type) { return strcmp(type_of(component), type) == 0; }

static bool flag_of(const json_t *component, const char *name, bool otherwise)
{
    const json_t *value = json_object_get(component, name);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static ap_status refuse(reader *r, const char *part, const char *what)
{
    return ap_fail(r->err, AP_E_UNSUPPORTED, "the %s of tokenizer.json has '%.*s', which is not supported", part, SHOWN, what);
}

static ap_status keep(reader *r, ap_str text, ap_str *out)
{
    char *copy = ap_arena_copy(r->arena, text.ptr, text.len);
    if (!copy)
        return ap_fail_nomem(r->err, text.len + 1);
    *out = (ap_str){copy, text.len};
    return AP_OK;
}

static ap_str text_of(const json_t *value)
{
    return json_is_string(value) ? (ap_str){json_string_value(value), json_string_length(value)} : (ap_str){"", 0};
}

/* {"String": …} or {"Regex": …} */
static ap_str pattern_of(const json_t *component, bool *is_regex)
{
    const json_t *pattern = json_object_get(component, "pattern"), *regex = json_object_get(pattern, "Regex");
    *is_regex = json_is_string(regex);
    return text_of(*is_regex ? regex : json_object_get(pattern, "String"));
}

/* ---- Normalizers ---- */

static ap_status add_step(reader *r, const char *name, ap_str argument)
{
    if (r->step_count == AP_NORMALIZER_STEPS_MAX)
        return ap_fail(r->err, AP_E_LIMIT, "the normalizer of tokenizer.json has more than %d steps", AP_NORMALIZER_STEPS_MAX);
    ap_buf text = {.limit = STEP_BYTES_MAX};
    ap_status status = ap_buf_add_str(&text, ap_str_from(name), r->err);
    if (status == AP_OK)
        status = ap_buf_add_str(&text, argument, r->err);
    if (status == AP_OK)
        status = keep(r, ap_buf_str(&text), &r->steps[r->step_count]);
    r->step_count += status == AP_OK;
    ap_buf_deinit(&text);
    return status;
}

static ap_status add_replace(reader *r, const json_t *n)
{
    bool is_regex;
    ap_str from = pattern_of(n, &is_regex), to = text_of(json_object_get(n, "content"));
    if (is_regex && ap_str_is(from, " {2,}"))
        return add_step(r, "squeeze:", to);
    if (is_regex || from.len == 0)
        return refuse(r, "normalizer", is_regex ? from.ptr : "an empty Replace");
    char head[40];
    (void)snprintf(head, sizeof head, "replace:%zu:", from.len);
    ap_buf both = {.limit = STEP_BYTES_MAX};
    ap_status status = ap_buf_add_str(&both, from, r->err);
    if (status == AP_OK)
        status = ap_buf_add_str(&both, to, r->err);
    if (status == AP_OK)
        status = add_step(r, head, ap_buf_str(&both));
    ap_buf_deinit(&both);
    return status;
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static ap_status read_charsmap(reader *r, ap_str text)
{
    while (text.len && text.ptr[text.len - 1] == '=')
        text.len--;
    unsigned char *bytes = ap_arena_alloc(r->arena, text.len + 4);
    if (!bytes)
        return ap_fail_nomem(r->err, text.len);
    size_t count = 0;
    uint32_t bits = 0;
    for (size_t i = 0; i < text.len; i++) {
        int digit = base64_digit(text.ptr[i]);
        if (digit < 0)
            return ap_fail(r->err, AP_E_FORMAT, "the precompiled_charsmap of tokenizer.json is not base64 at character %zu", i);
        bits = bits << 6 | (uint32_t)digit;
        if (i % 4 == 1 || i % 4 == 2 || i % 4 == 3)
            bytes[count++] = (unsigned char)(bits >> (6 - 2 * (i % 4)));
    }
    r->out->charsmap = (ap_str){(const char *)bytes, count};
    return count ? add_step(r, "charsmap_graphemes", (ap_str){"", 0}) : AP_OK;
}

static ap_status add_bert(reader *r, const json_t *n)
{
    const ap_str none = {"", 0};
    bool lowercase = flag_of(n, "lowercase", true);
    if (flag_of(n, "clean_text", true))
        AP_TRY(add_step(r, "clean", none));
    if (flag_of(n, "handle_chinese_chars", true))
        AP_TRY(add_step(r, "chinese", none));
    if (flag_of(n, "strip_accents", lowercase)) {
        AP_TRY(add_step(r, "nfd", none));
        AP_TRY(add_step(r, "drop_nonspacing", none));
    }
    return lowercase ? add_step(r, "lowercase", none) : AP_OK;
}

static ap_status read_normalizer(reader *r, const json_t *n)
{
    static const struct {
        const char *type, *step;
    } simple[] = {{"NFC", "nfc"}, {"NFD", "nfd"}, {"NFKC", "nfkc"}, {"NFKD", "nfkd"}, {"Lowercase", "lowercase"},
                  {"StripAccents", "strip_marks"}, {"Nmt", "nmt"}};
    const ap_str none = {"", 0};
    if (!n || json_is_null(n))
        return AP_OK;
    for (size_t i = 0; i < sizeof simple / sizeof simple[0]; i++)
        if (is(n, simple[i].type))
            return add_step(r, simple[i].step, none);
    if (is(n, "Sequence")) {
        size_t i;
        json_t *inner;
        if (r->depth++ == NESTING_MAX)
            return refuse(r, "normalizer", "sequences too deep in one another");
        json_array_foreach(json_object_get(n, "normalizers"), i, inner)
            AP_TRY(read_normalizer(r, inner));
        r->depth--;
        return AP_OK;
    }
    if (is(n, "Prepend"))
        return add_step(r, "prepend:", text_of(json_object_get(n, "prepend")));
    if (is(n, "Replace"))
        return add_replace(r, n);
    if (is(n, "Strip")) {
        if (flag_of(n, "strip_left", true))
            AP_TRY(add_step(r, "strip_left", none));
        return flag_of(n, "strip_right", true) ? add_step(r, "strip_right", none) : AP_OK;
    }
    if (is(n, "Precompiled"))
        return read_charsmap(r, text_of(json_object_get(n, "precompiled_charsmap")));
    if (is(n, "BertNormalizer"))
        return add_bert(r, n);
    return refuse(r, "normalizer", type_of(n));
}

static bool drop_last_step(reader *r, ap_str step)
{
    bool is_there = r->step_count && ap_str_equal(r->steps[r->step_count - 1], step);
    r->step_count -= is_there;
    return is_there;
}

/* ---- Pre-tokenizers ---- */

static ap_status add_stage_text(reader *r, ap_split_mode mode, ap_str expression)
{
    if (r->stage_count == AP_SPLIT_STAGES_MAX)
        return ap_fail(r->err, AP_E_LIMIT, "the pre-tokenizer of tokenizer.json has more than %d stages", AP_SPLIT_STAGES_MAX);
    ap_buf stage = {0};
    ap_status status = ap_buf_add_str(&stage, ap_str_from(ap_split_mode_text(mode)), r->err);
    if (status == AP_OK)
        status = ap_buf_add_str(&stage, expression, r->err);
    if (status == AP_OK)
        status = keep(r, ap_buf_str(&stage), &r->stages[r->stage_count]);
    r->stage_count += status == AP_OK;
    ap_buf_deinit(&stage);
    return status;
}

static ap_status add_stage(reader *r, ap_split_mode mode, unsigned scanner)
{
    return add_stage_text(r, mode, ap_str_from(ap_split_expression(scanner)));
}

static bool is_stage(const reader *r, uint32_t i, ap_split_mode mode, unsigned scanner)
{
    if (i >= r->stage_count)
        return false;
    ap_str stage = r->stages[i];
    return ap_split_take_mode(&stage) == mode && ap_str_equal(stage, ap_str_from(ap_split_expression(scanner)));
}

/* What becomes of matches and gaps. */
static ap_status read_mode(reader *r, const json_t *p, const char *otherwise, bool invert, ap_split_mode *out)
{
    static const struct {
        const char *behavior;
        ap_split_mode mode, inverted;
    } modes[] = {{"Isolated", AP_SPLIT_BOTH, AP_SPLIT_BOTH},
                 {"Removed", AP_SPLIT_DROP_MATCHES, AP_SPLIT_DROP_GAPS},
                 {"MergedWithPrevious", AP_SPLIT_GLUE_BEFORE, AP_SPLIT_GLUE_AFTER},
                 {"MergedWithNext", AP_SPLIT_GLUE_AFTER, AP_SPLIT_GLUE_BEFORE},
                 {"Contiguous", AP_SPLIT_JOIN, AP_SPLIT_JOIN}};
    const char *behavior = json_string_value(json_object_get(p, "behavior"));
    behavior = behavior ? behavior : otherwise;
    for (size_t i = 0; behavior && i < sizeof modes / sizeof modes[0]; i++)
        if (strcmp(behavior, modes[i].behavior) == 0) {
            *out = invert ? modes[i].inverted : modes[i].mode;
            return AP_OK;
        }
    return refuse(r, "pre_tokenizer", behavior ? behavior : "Split without a behavior");
}

/* A text as an expression that matches it. */
static ap_status add_literal(reader *r, ap_split_mode mode, ap_str text)
{
    ap_buf escaped = {0};
    ap_status status = AP_OK;
    if (text.len == 0)
        return refuse(r, "pre_tokenizer", "a split by nothing");
    for (size_t i = 0; i < text.len && status == AP_OK; i++) {
        if (strchr("\\^$.|?*+()[]{}", text.ptr[i]))
            status = ap_buf_add_char(&escaped, '\\', r->err);
        if (status == AP_OK)
            status = ap_buf_add_char(&escaped, text.ptr[i], r->err);
    }
    if (status == AP_OK)
        status = add_stage_text(r, mode, ap_buf_str(&escaped));
    ap_buf_deinit(&escaped);
    return status;
}

static ap_status add_split(reader *r, const json_t *p)
{
    bool is_regex;
    ap_split_mode mode;
    ap_str pattern = pattern_of(p, &is_regex);
    if (!is_regex && ap_str_is(pattern, " ") && r->step_count &&
        ap_str_is(r->steps[r->step_count - 1], "replace:1: " AP_METASPACE))
        return AP_OK; /* no space is left to cut at */
    AP_TRY(read_mode(r, p, NULL, flag_of(p, "invert", false), &mode));
    if (!is_regex)
        return add_literal(r, mode, pattern);
    unsigned scanner = ap_split_scanner(pattern);
    if (scanner == AP_SCAN_NONE)
        return add_stage_text(r, mode, pattern);
    /* Where every character is in a match, taking the gaps away takes nothing. */
    bool is_whole = mode == AP_SPLIT_DROP_GAPS && ap_split_covers(scanner);
    return add_stage(r, is_whole ? AP_SPLIT_BOTH : mode, scanner);
}

static ap_status read_pre_tokenizer(reader *r, const json_t *p);

static ap_status read_pre_tokenizers(reader *r, const json_t *list)
{
    size_t i;
    json_t *inner;
    if (r->depth++ == NESTING_MAX)
        return refuse(r, "pre_tokenizer", "sequences too deep in one another");
    json_array_foreach(list, i, inner)
        AP_TRY(read_pre_tokenizer(r, inner));
    r->depth--;
    return AP_OK;
}

static ap_status add_byte_level(reader *r, const json_t *p)
{
    r->is_byte_level = true;
    if (flag_of(p, "add_prefix_space", true)) {
        if (r->stage_count)
            return refuse(r, "pre_tokenizer", "add_prefix_space behind another stage");
        r->out->add_space_prefix = 1;
        r->out->space_prefix = AP_SPACE_UNLESS;
    }
    return flag_of(p, "use_regex", true) ? add_stage(r, AP_SPLIT_BOTH, AP_SCAN_GPT2) : AP_OK;
}

static ap_status add_metaspace(reader *r, const json_t *p)
{
    const char *scheme = json_string_value(json_object_get(p, "prepend_scheme"));
    ap_str replacement = text_of(json_object_get(p, "replacement"));
    if (!ap_str_is(replacement, AP_METASPACE))
        return refuse(r, "pre_tokenizer", "a Metaspace that is not U+2581");
    r->splits_words = is_stage(r, 0, AP_SPLIT_DROP_MATCHES, AP_SCAN_SPACE);
    if (r->is_metaspace || r->stage_count > r->splits_words)
        return refuse(r, "pre_tokenizer", "a Metaspace behind another stage than WhitespaceSplit");
    r->stage_count = 0; /* words with one space between, however many there were */
    r->is_metaspace = true;
    if (!scheme)
        scheme = flag_of(p, "add_prefix_space", true) ? "always" : "never";
    r->out->add_space_prefix = strcmp(scheme, "never") != 0;
    r->out->space_prefix = strcmp(scheme, "first") == 0 ? AP_SPACE_FIRST : AP_SPACE_UNLESS;
    return flag_of(p, "split", true) ? add_stage(r, AP_SPLIT_BOTH, AP_SCAN_METASPACE) : AP_OK;
}

/* Behind ByteLevel the text is spelled in another alphabet, in which some bytes are numbers: only what is known there. */
static ap_status read_behind_bytes(reader *r, const json_t *p)
{
    bool is_regex;
    const char *behavior = json_string_value(json_object_get(p, "behavior"));
    if (is(p, "Split") && ap_str_is(pattern_of(p, &is_regex), "[0-9][0-9][0-9]") && is_regex && behavior &&
        strcmp(behavior, "Isolated") == 0)
        return add_stage(r, AP_SPLIT_BOTH, AP_SCAN_ASCII_DIGITS_3);
    if (is(p, "Digits") && !flag_of(p, "individual_digits", false))
        return add_stage(r, AP_SPLIT_BOTH, AP_SCAN_BYTE_DIGITS);
    return refuse(r, "pre_tokenizer behind ByteLevel", type_of(p));
}

static ap_status add_fixed(reader *r, const json_t *length)
{
    char expression[40];
    json_int_t n = json_is_integer(length) ? json_integer_value(length) : 5;
    if (n < 1 || n > AP_REGEX_REPEAT_MAX)
        return refuse(r, "pre_tokenizer", "a FixedLength that is not 1 to 1000");
    (void)snprintf(expression, sizeof expression, "(?:.|\\n){1,%d}", (int)n);
    return add_stage_text(r, AP_SPLIT_BOTH, ap_str_from(expression));
}

static ap_status read_pre_tokenizer(reader *r, const json_t *p)
{
    if (!p || json_is_null(p))
        return AP_OK;
    if (is(p, "Sequence"))
        return read_pre_tokenizers(r, json_object_get(p, "pretokenizers"));
    if (is(p, "Metaspace"))
        return add_metaspace(r, p);
    if (is(p, "ByteLevel") && !r->is_byte_level)
        return add_byte_level(r, p);
    if (r->is_byte_level)
        return read_behind_bytes(r, p);
    if (is(p, "Split"))
        return add_split(r, p);
    if (is(p, "WhitespaceSplit"))
        return add_stage(r, AP_SPLIT_DROP_MATCHES, AP_SCAN_SPACE);
    if (is(p, "Whitespace"))
        return add_stage(r, AP_SPLIT_DROP_GAPS, AP_SCAN_WORDS);
    if (is(p, "BertPreTokenizer")) {
        AP_TRY(add_stage(r, AP_SPLIT_DROP_MATCHES, AP_SCAN_SPACE));
        return add_stage(r, AP_SPLIT_BOTH, AP_SCAN_PUNCT);
    }
    if (is(p, "Digits"))
        return add_stage(r, AP_SPLIT_BOTH, flag_of(p, "individual_digits", false) ? AP_SCAN_DIGIT : AP_SCAN_DIGITS);
    if (is(p, "CharDelimiterSplit"))
        return add_literal(r, AP_SPLIT_DROP_MATCHES, text_of(json_object_get(p, "delimiter")));
    if (is(p, "FixedLength"))
        return add_fixed(r, json_object_get(p, "length"));
    if (is(p, "Punctuation")) {
        ap_split_mode mode;
        AP_TRY(read_mode(r, p, "Isolated", false, &mode));
        return mode == AP_SPLIT_JOIN ? add_stage(r, AP_SPLIT_BOTH, AP_SCAN_PUNCT_RUN) : add_stage(r, mode, AP_SCAN_PUNCT);
    }
    return refuse(r, "pre_tokenizer", type_of(p));
}

/* ---- Tokens ---- */

static ap_status check_id(reader *r, ap_str content, const json_t *id, uint32_t *count)
{
    json_int_t n = json_is_integer(id) ? json_integer_value(id) : -1;
    if (n < 0 || n >= AP_VOCAB_TOKENS_MAX)
        return ap_fail(r->err, n < 0 ? AP_E_FORMAT : AP_E_LIMIT,
                       "token '%.*s' of tokenizer.json has the id %lld; ids are 0 to %d", (int)(content.len < SHOWN ? content.len : SHOWN),
                       content.ptr, (long long)n, AP_VOCAB_TOKENS_MAX - 1);
    if (n >= *count)
        *count = (uint32_t)n + 1;
    return AP_OK;
}

static ap_status put_token(reader *r, uint32_t id, ap_str text, int32_t type)
{
    ap_str *slot = &r->tokens[id];
    if (slot->ptr && !ap_str_equal(*slot, text))
        return ap_fail(r->err, AP_E_FORMAT, "tokens '%.*s' and '%.*s' of tokenizer.json both have the id %u",
                       (int)(slot->len < SHOWN ? slot->len : SHOWN), slot->ptr, (int)(text.len < SHOWN ? text.len : SHOWN),
                       text.ptr, id);
    if (!slot->ptr)
        AP_TRY(keep(r, text, slot));
    r->types[id] = type;
    return AP_OK;
}

static ap_status count_tokens(reader *r, uint32_t *count)
{
    const json_t *vocab = json_object_get(r->model, "vocab"), *added = json_object_get(r->root, "added_tokens");
    const char *key;
    size_t i;
    json_t *value;
    *count = 0;
    if (json_is_array(vocab)) {
        if (json_array_size(vocab) > AP_VOCAB_TOKENS_MAX)
            return ap_fail(r->err, AP_E_LIMIT, "tokenizer.json has %zu tokens; the limit is %d", json_array_size(vocab),
                           AP_VOCAB_TOKENS_MAX);
        *count = (uint32_t)json_array_size(vocab);
    } else {
        json_object_foreach((json_t *)vocab, key, value)
            AP_TRY(check_id(r, ap_str_from(key), value, count));
    }
    if (*count == 0)
        return ap_fail(r->err, AP_E_FORMAT, "the vocabulary of tokenizer.json is empty");
    json_array_foreach(added, i, value)
        AP_TRY(check_id(r, text_of(json_object_get(value, "content")), json_object_get(value, "id"), count));
    return AP_OK;
}

/* What continues a word has no mark in a description, what begins one has U+2581. */
static ap_status put_wordpiece(reader *r, uint32_t id, ap_str text, ap_str prefix)
{
    ap_buf head = {0};
    if (prefix.len && ap_str_starts(text, prefix) && text.len > prefix.len)
        return put_token(r, id, (ap_str){text.ptr + prefix.len, text.len - prefix.len}, AP_TOKEN_NORMAL);
    ap_status status = ap_buf_add(&head, AP_METASPACE, 3, r->err);
    if (status == AP_OK)
        status = ap_buf_add_str(&head, text, r->err);
    if (status == AP_OK)
        status = put_token(r, id, ap_buf_str(&head), AP_TOKEN_NORMAL);
    ap_buf_deinit(&head);
    return status;
}

static bool is_byte_token(ap_str text)
{
    static const char digits[] = "0123456789ABCDEF";
    return text.len == 6 && memcmp(text.ptr, "<0x", 3) == 0 && text.ptr[5] == '>' && strchr(digits, text.ptr[3]) &&
           strchr(digits, text.ptr[4]);
}

static ap_status read_vocab(reader *r)
{
    const json_t *vocab = json_object_get(r->model, "vocab");
    ap_vocab_kind kind = r->out->kind;
    bool has_bytes = kind != AP_VOCAB_BPE && flag_of(r->model, "byte_fallback", false);
    const json_t *prefix = json_object_get(r->model, "continuing_subword_prefix");
    const char *key;
    size_t i;
    json_t *value;
    if (json_is_array(vocab)) {
        json_array_foreach(vocab, i, value) {
            const json_t *text = json_array_get(value, 0), *score = json_array_get(value, 1);
            if (!json_is_string(text) || !json_is_number(score))
                return ap_fail(r->err, AP_E_FORMAT, "token %zu of tokenizer.json is no pair of a string and a number", i);
            int32_t type = has_bytes && is_byte_token(text_of(text)) ? AP_TOKEN_BYTE : AP_TOKEN_NORMAL;
            r->scores[i] = (float)json_number_value(score);
            AP_TRY(put_token(r, (uint32_t)i, text_of(text), type));
        }
        return AP_OK;
    }
    json_object_foreach((json_t *)vocab, key, value) {
        uint32_t id = (uint32_t)json_integer_value(value);
        ap_str text = ap_str_from(key);
        if (kind == AP_VOCAB_WORDPIECE)
            AP_TRY(put_wordpiece(r, id, text, prefix ? text_of(prefix) : AP_STR("##")));
        else
            AP_TRY(put_token(r, id, text, has_bytes && is_byte_token(text) ? AP_TOKEN_BYTE : AP_TOKEN_NORMAL));
    }
    return AP_OK;
}

static ap_status read_added(reader *r)
{
    static const struct {
        const char *name;
        uint8_t flag;
    } flags[] = {{"lstrip", AP_TOKEN_LSTRIP}, {"rstrip", AP_TOKEN_RSTRIP}, {"single_word", AP_TOKEN_SINGLE_WORD},
                 {"normalized", AP_TOKEN_NORMALIZED}};
    size_t i;
    json_t *value;
    json_array_foreach(json_object_get(r->root, "added_tokens"), i, value) {
        ap_str text = text_of(json_object_get(value, "content"));
        uint32_t id = (uint32_t)json_integer_value(json_object_get(value, "id"));
        bool special = flag_of(value, "special", false);
        if (text.len == 0)
            continue;
        if (r->out->kind == AP_VOCAB_WORDPIECE && r->tokens[id].ptr) { /* written as its own text, not as a word's begin */
            ap_str old = r->tokens[id];
            if (ap_str_starts(old, AP_STR(AP_METASPACE)) && ap_str_equal((ap_str){old.ptr + 3, old.len - 3}, text))
                r->tokens[id] = (ap_str){0};
        }
        AP_TRY(put_token(r, id, text, special ? AP_TOKEN_CONTROL : AP_TOKEN_USER_DEFINED));
        for (size_t k = 0; k < sizeof flags / sizeof flags[0]; k++)
            if (flag_of(value, flags[k].name, flags[k].flag == AP_TOKEN_NORMALIZED && !special))
                r->flags[id] |= flags[k].flag;
        bool matters = (r->flags[id] & ~AP_TOKEN_NORMALIZED) || (!special && r->step_count);
        r->has_flags = r->has_flags || (r->flags[id] && matters);
    }
    return AP_OK;
}

static int32_t id_of(const reader *r, ap_str text)
{
    uint32_t count = r->out->token_count;
    for (uint32_t id = 0; id < count; id++)
        if (ap_str_equal(r->tokens[id], text))
            return (int32_t)id;
    if (r->out->kind == AP_VOCAB_WORDPIECE)
        for (uint32_t id = 0; id < count; id++)
            if (ap_str_starts(r->tokens[id], AP_STR(AP_METASPACE)) &&
                ap_str_equal((ap_str){r->tokens[id].ptr + 3, r->tokens[id].len - 3}, text))
                return (int32_t)id;
    return -1;
}

static ap_status read_unknown(reader *r)
{
    const json_t *name = json_object_get(r->model, "unk_token"), *id = json_object_get(r->model, "unk_id");
    if (json_is_string(name))
        r->out->unk = id_of(r, text_of(name));
    else if (json_is_integer(id) && json_integer_value(id) >= 0 && json_integer_value(id) < r->out->token_count)
        r->out->unk = (int32_t)json_integer_value(id);
    if (r->out->unk >= 0)
        r->types[r->out->unk] = AP_TOKEN_UNKNOWN;
    return AP_OK;
}

/* Rows without a token keep their ids. */
static ap_status fill_holes(reader *r)
{
    for (uint32_t id = 0; id < r->out->token_count; id++) {
        char name[24];
        if (r->tokens[id].ptr)
            continue;
        int n = snprintf(name, sizeof name, "[PAD%u]", id);
        AP_TRY(put_token(r, id, (ap_str){name, (size_t)n}, AP_TOKEN_UNUSED));
    }
    return AP_OK;
}

static ap_status read_tokens(reader *r)
{
    uint32_t count;
    AP_TRY(count_tokens(r, &count));
    r->out->token_count = count;
    r->tokens = ap_arena_zero(r->arena, count, sizeof *r->tokens);
    r->types = ap_arena_zero(r->arena, count, sizeof *r->types);
    r->flags = ap_arena_zero(r->arena, count, sizeof *r->flags);
    r->scores = ap_arena_zero(r->arena, count, sizeof *r->scores);
    if (!r->tokens || !r->types || !r->flags || !r->scores)
        return ap_fail_nomem(r->err, count * sizeof *r->tokens);
    AP_TRY(read_vocab(r));
    AP_TRY(read_added(r));
    AP_TRY(read_unknown(r));
    AP_TRY(fill_holes(r));
    r->out->tokens = r->tokens;
    r->out->types = r->types;
    r->out->flags = r->has_flags ? r->flags : NULL;
    r->out->scores = r->out->kind == AP_VOCAB_UNIGRAM ? r->scores : NULL;
    return AP_OK;
}

static ap_status read_merges(reader *r)
{
    const json_t *merges = json_object_get(r->model, "merges");
    size_t count = json_array_size(merges), i;
    json_t *value;
    if (count > AP_VOCAB_MERGES_MAX)
        return ap_fail(r->err, AP_E_LIMIT, "tokenizer.json has %zu merges; the limit is %d", count, AP_VOCAB_MERGES_MAX);
    ap_str *list = ap_arena_zero(r->arena, count + 1, sizeof *list);
    if (!list)
        return ap_fail_nomem(r->err, count * sizeof *list);
    json_array_foreach(merges, i, value) {
        if (json_is_string(value)) {
            AP_TRY(keep(r, text_of(value), &list[i]));
            continue;
        }
        ap_str left = text_of(json_array_get(value, 0)), right = text_of(json_array_get(value, 1));
        if (json_array_size(value) != 2 || left.len == 0 || right.len == 0)
            return ap_fail(r->err, AP_E_FORMAT, "merge %zu of tokenizer.json is no pair of strings", i);
        if (memchr(left.ptr, ' ', left.len) || memchr(right.ptr, ' ', right.len))
            return ap_fail(r->err, AP_E_UNSUPPORTED, "merge %zu of tokenizer.json has a space in a part, which is not supported", i);
        char *both = ap_arena_alloc(r->arena, left.len + right.len + 1);
        if (!both)
            return ap_fail_nomem(r->err, left.len + right.len + 1);
        memcpy(both, left.ptr, left.len);
        both[left.len] = ' ';
        memcpy(both + left.len + 1, right.ptr, right.len);
        list[i] = (ap_str){both, left.len + right.len + 1};
    }
    r->out->merges = list;
    r->out->merge_count = (uint32_t)count;
    return AP_OK;
}

/* ---- Post-processors ---- */

static ap_status take_special(reader *r, ap_str name, int32_t *id, int8_t *adds)
{
    if (*adds == 1)
        return refuse(r, "post_processor", "two tokens on one side of the text");
    *id = id_of(r, name);
    *adds = 1;
    return *id < 0 ? ap_fail(r->err, AP_E_FORMAT, "the post_processor of tokenizer.json adds a token that is not in the vocabulary")
                   : AP_OK;
}

static ap_status read_template(reader *r, const json_t *p)
{
    bool is_behind = false;
    size_t i;
    json_t *piece;
    json_array_foreach(json_object_get(p, "single"), i, piece) {
        const json_t *special = json_object_get(piece, "SpecialToken");
        if (!special)
            is_behind = true;
        else if (is_behind)
            AP_TRY(take_special(r, text_of(json_object_get(special, "id")), &r->out->eos, &r->out->add_eos));
        else
            AP_TRY(take_special(r, text_of(json_object_get(special, "id")), &r->out->bos, &r->out->add_bos));
    }
    return AP_OK;
}

static ap_status read_post_processor(reader *r, const json_t *p)
{
    if (!p || json_is_null(p) || is(p, "ByteLevel"))
        return AP_OK; /* offsets only */
    if (is(p, "Sequence")) {
        size_t i;
        json_t *inner;
        if (r->depth++ == NESTING_MAX)
            return refuse(r, "post_processor", "sequences too deep in one another");
        json_array_foreach(json_object_get(p, "processors"), i, inner)
            AP_TRY(read_post_processor(r, inner));
        r->depth--;
        return AP_OK;
    }
    if (is(p, "TemplateProcessing"))
        return read_template(r, p);
    if (is(p, "BertProcessing") || is(p, "RobertaProcessing")) {
        AP_TRY(take_special(r, text_of(json_array_get(json_object_get(p, "cls"), 0)), &r->out->bos, &r->out->add_bos));
        return take_special(r, text_of(json_array_get(json_object_get(p, "sep"), 0)), &r->out->eos, &r->out->add_eos);
    }
    return refuse(r, "post_processor", type_of(p));
}

/* ---- Decoders ---- */

/* What a decoder's parts do, in any order that gives the same. */
typedef struct decoding {
    bool bytes, spaces, strips, metaspace, words;
} decoding;

static ap_status read_decoder(reader *r, const json_t *d, decoding *out)
{
    bool is_regex;
    if (is(d, "Sequence")) {
        size_t i;
        json_t *inner;
        if (r->depth++ == NESTING_MAX)
            return refuse(r, "decoder", "sequences too deep in one another");
        json_array_foreach(json_object_get(d, "decoders"), i, inner)
            AP_TRY(read_decoder(r, inner, out));
        r->depth--;
        return AP_OK;
    }
    if (is(d, "ByteLevel")) {
        out->bytes = true;
        return AP_OK;
    }
    if (is(d, "ByteFallback") || is(d, "Fuse"))
        return AP_OK; /* bytes are always bytes here, and text is always joined */
    if (is(d, "Replace") && ap_str_is(pattern_of(d, &is_regex), AP_METASPACE) && !is_regex &&
        ap_str_is(text_of(json_object_get(d, "content")), " ")) {
        out->spaces = true;
        return AP_OK;
    }
    if (is(d, "Strip") && ap_str_is(text_of(json_object_get(d, "content")), " ") && !json_integer_value(json_object_get(d, "stop")) &&
        json_integer_value(json_object_get(d, "start")) <= 1) {
        out->strips = out->strips || json_integer_value(json_object_get(d, "start")) == 1;
        return AP_OK;
    }
    if (is(d, "Metaspace") && ap_str_is(text_of(json_object_get(d, "replacement")), AP_METASPACE)) {
        const char *scheme = json_string_value(json_object_get(d, "prepend_scheme"));
        out->spaces = true;
        out->metaspace = scheme ? strcmp(scheme, "never") != 0 : flag_of(d, "add_prefix_space", true);
        return AP_OK;
    }
    const json_t *prefix = json_object_get(d, "prefix"), *own = json_object_get(r->model, "continuing_subword_prefix");
    if (is(d, "WordPiece") && ap_str_equal(text_of(prefix), own ? text_of(own) : AP_STR("##"))) {
        out->words = true;
        r->out->decode |= flag_of(d, "cleanup", true) ? AP_DECODE_TIDY : 0;
        return AP_OK;
    }
    return refuse(r, "decoder", type_of(d));
}

/* None at all: the text is joined as the kind of vocabulary needs. */
static ap_status check_decoder(reader *r, const json_t *d)
{
    decoding does = {0};
    ap_vocab_kind kind = r->out->kind;
    if (!d || json_is_null(d))
        return AP_OK;
    AP_TRY(read_decoder(r, d, &does));
    bool fits = kind == AP_VOCAB_BPE         ? does.bytes && !does.strips && !does.words && !does.spaces
                : kind == AP_VOCAB_WORDPIECE ? does.words && !does.bytes && !does.strips && !does.spaces
                                             : does.spaces && !does.bytes && !does.words;
    if (!fits)
        return refuse(r, "decoder", "other parts than its model needs");
    if (kind == AP_VOCAB_BPE || kind == AP_VOCAB_WORDPIECE)
        return AP_OK;
    bool adds = r->out->add_space_prefix > 0, drops = does.strips || does.metaspace;
    r->out->decode |= adds && !drops ? AP_DECODE_KEEP_SPACE : !adds && drops ? AP_DECODE_DROP_SPACE : 0;
    r->out->decode |= does.metaspace ? AP_DECODE_DROP_FIRST_SPACES : 0;
    return AP_OK;
}

/* ---- The model ---- */

static ap_status refuse_affixes(reader *r)
{
    static const char *const names[] = {"continuing_subword_prefix", "end_of_word_suffix", "dropout"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const json_t *value = json_object_get(r->model, names[i]);
        if (json_string_length(value) || json_number_value(value) != 0)
            return refuse(r, "model", names[i]);
    }
    return AP_OK;
}

/* Whether spaces become U+2581 in a way that is known, and which steps said so. */
static void read_escapes(reader *r)
{
    static const char replace_space[] = "replace:1: " AP_METASPACE, prepend[] = "prepend:" AP_METASPACE;
    if (r->is_metaspace) {
        (void)drop_last_step(r, AP_STR(replace_space));
        return;
    }
    bool prepended = drop_last_step(r, AP_STR(prepend));
    r->is_metaspace = drop_last_step(r, AP_STR(replace_space));
    prepended = prepended || drop_last_step(r, AP_STR(prepend));
    r->out->add_space_prefix = prepended;
    r->out->space_prefix = AP_SPACE_EACH;
}

/* WhitespaceSplit before Metaspace: words with one space before each. */
static ap_status read_words(reader *r)
{
    r->out->remove_extra_spaces = r->splits_words;
    if (r->splits_words && !(r->out->add_space_prefix > 0 && r->out->space_prefix == AP_SPACE_UNLESS))
        return refuse(r, "pre_tokenizer", "WhitespaceSplit without a Metaspace that prepends always");
    return r->splits_words ? add_step(r, "spaces", (ap_str){"", 0}) : AP_OK;
}

static ap_status read_bpe(reader *r)
{
    AP_TRY(refuse_affixes(r));
    r->out->ignore_merges = flag_of(r->model, "ignore_merges", false);
    if (r->is_byte_level) {
        r->out->kind = AP_VOCAB_BPE;
        r->out->add_space_prefix = r->out->add_space_prefix > 0;
        return AP_OK;
    }
    r->out->kind = AP_VOCAB_SPM;
    read_escapes(r);
    if (!r->is_metaspace)
        return refuse(r, "model", "a BPE that is neither of bytes nor of words with U+2581");
    if (!flag_of(r->model, "fuse_unk", false) && !flag_of(r->model, "byte_fallback", false))
        return refuse(r, "model", "unknown characters that are not joined");
    if (r->out->ignore_merges)
        return refuse(r, "model", "ignore_merges without bytes");
    return read_words(r);
}

static ap_status read_model(reader *r)
{
    const char *type = json_string_value(json_object_get(r->model, "type"));
    if (!type) /* older files do not say */
        type = json_is_array(json_object_get(r->model, "vocab")) ? "Unigram" : json_object_get(r->model, "merges") ? "BPE" : "WordPiece";
    if (strcmp(type, "BPE") == 0)
        return read_bpe(r);
    if (strcmp(type, "Unigram") == 0) {
        r->out->kind = AP_VOCAB_UNIGRAM;
        if (!r->is_metaspace)
            read_escapes(r);
        if (!r->is_metaspace)
            return refuse(r, "model", "a Unigram without U+2581");
        return read_words(r);
    }
    if (strcmp(type, "WordPiece") == 0) {
        r->out->kind = AP_VOCAB_WORDPIECE;
        const json_t *most = json_object_get(r->model, "max_input_chars_per_word");
        if (json_is_integer(most) && json_integer_value(most) != 100)
            return refuse(r, "model", "max_input_chars_per_word other than 100");
        if (r->stage_count == 0 || r->is_metaspace)
            return refuse(r, "model", "a WordPiece without words");
        if (r->stage_count == 2 && is_stage(r, 0, AP_SPLIT_DROP_MATCHES, AP_SCAN_SPACE) && is_stage(r, 1, AP_SPLIT_BOTH, AP_SCAN_PUNCT))
            r->stage_count = 0; /* BertPreTokenizer, which a description need not say */
        return AP_OK;
    }
    return refuse(r, "model", type);
}

/* The name that GGUF has for these stages, if it has one: other readers of GGUF know no expressions. */
static void name_stages(reader *r)
{
    ap_split stages = {.ignores_merges = r->out->ignore_merges > 0};
    for (uint32_t i = 0; i < r->stage_count; i++) {
        stages.stages[i] = (uint8_t)ap_split_scanner(r->stages[i]);
        if (stages.stages[i] == AP_SCAN_NONE)
            return; /* with a mode, or one of its own */
    }
    const ap_split *known = r->out->kind == AP_VOCAB_BPE ? ap_split_same(&stages) : NULL;
    if (known)
        r->out->pre = (ap_str){known->names, strcspn(known->names, " ")};
}

static ap_status publish(reader *r)
{
    bool is_spaced = r->out->kind == AP_VOCAB_UNIGRAM || r->out->kind == AP_VOCAB_SPM;
    if ((r->is_metaspace && !is_spaced) || (r->is_byte_level && r->out->kind != AP_VOCAB_BPE))
        return refuse(r, "pre_tokenizer", "a component for another kind of model");
    ap_str *steps = ap_arena_zero(r->arena, r->step_count + 1, sizeof *steps);
    ap_str *stages = ap_arena_zero(r->arena, r->stage_count + 1, sizeof *stages);
    if (!steps || !stages)
        return ap_fail_nomem(r->err, (r->step_count + r->stage_count + 2) * sizeof *steps);
    memcpy(steps, r->steps, r->step_count * sizeof *steps);
    memcpy(stages, r->stages, r->stage_count * sizeof *stages);
    r->out->normalizer = steps;
    r->out->normalizer_count = r->step_count;
    r->out->split = stages;
    r->out->split_count = r->stage_count;
    name_stages(r);
    return AP_OK;
}

static ap_status read_all(reader *r)
{
    r->model = json_object_get(r->root, "model");
    if (!json_is_object(r->model))
        return ap_fail(r->err, AP_E_FORMAT, "tokenizer.json has no model");
    r->out->add_bos = r->out->add_eos = 0;
    AP_TRY(read_normalizer(r, json_object_get(r->root, "normalizer")));
    AP_TRY(read_pre_tokenizer(r, json_object_get(r->root, "pre_tokenizer")));
    AP_TRY(read_model(r));
    AP_TRY(read_tokens(r));
    if (r->out->kind == AP_VOCAB_BPE || r->out->kind == AP_VOCAB_SPM)
        AP_TRY(read_merges(r));
    AP_TRY(read_post_processor(r, json_object_get(r->root, "post_processor")));
    AP_TRY(check_decoder(r, json_object_get(r->root, "decoder")));
    return publish(r);
}

ap_status ap_tokenizer_json_read_root(ap_vocab_source *out, ap_arena *arena, const json_t *root, ap_error *err)
{
    *out = (ap_vocab_source)AP_VOCAB_SOURCE_NONE;
    reader r = {.out = out, .arena = arena, .err = err, .root = root};
    return read_all(&r);
}

ap_status ap_tokenizer_json_read(ap_vocab_source *out, ap_arena *arena, ap_str text, ap_error *err)
{
    json_t *root;
    *out = (ap_vocab_source)AP_VOCAB_SOURCE_NONE;
    AP_TRY(ap_json_parse(&root, text, (ap_json_limits){AP_TOKENIZER_JSON_BYTES_MAX, AP_TOKENIZER_JSON_VALUES_MAX}, err));
    ap_status status = ap_tokenizer_json_read_root(out, arena, root, err);
    json_decref(root);
    return status;
}
