/* SPDX-License-Identifier: Apache-2.0 */
#include "text/ranks.h"

#include <sodium.h>
#include <stdio.h>

#include "base/map.h"
#include "text/split.h"
#include "text/vocab.h"

typedef struct list {
    ap_vocab_source *out;
    ap_arena *arena;
    ap_error *err;
    ap_str *bytes; /* by rank */
    uint32_t count;
    uint32_t first; /* the id of rank 0 */
    ap_str *tokens;
    int32_t *types;
} list;

static ap_status no_memory(list *l, size_t bytes) { return ap_fail_nomem(l->err, bytes); }

static ap_status keep(list *l, ap_str text, ap_str *out)
{
    char *copy = ap_arena_copy(l->arena, text.ptr, text.len);
    *out = (ap_str){copy, text.len};
    return copy ? AP_OK : no_memory(l, text.len);
}

static ap_status decode(list *l, ap_str text, uint32_t rank)
{
    unsigned char raw[AP_TOKEN_BYTES_MAX];
    size_t n = 0;
    if (sodium_base642bin(raw, sizeof raw, text.ptr, text.len, NULL, &n, NULL, sodium_base64_VARIANT_ORIGINAL) != 0 || n == 0)
        return ap_fail(l->err, AP_E_FORMAT, "the bytes of rank %u are not base64 of 1 to %d bytes", rank, AP_TOKEN_BYTES_MAX);
    return keep(l, (ap_str){(const char *)raw, n}, &l->bytes[rank]);
}

/* ---- Tokens and merges ------------------------------------------------------------------------------------------- */

static ap_status allocate(list *l, uint32_t count)
{
    l->out->token_count = count;
    l->tokens = ap_arena_zero(l->arena, count, sizeof *l->tokens);
    l->types = ap_arena_zero(l->arena, count, sizeof *l->types);
    l->out->tokens = l->tokens;
    l->out->types = l->types;
    return l->tokens && l->types ? AP_OK : no_memory(l, count * sizeof *l->tokens);
}

static ap_status put_special(list *l, uint32_t id, const char *text)
{
    if (id >= l->out->token_count)
        return ap_fail(l->err, AP_E_FORMAT, "special token '%.60s' has the id %u; the vocabulary ends at %u", text, id, l->out->token_count - 1);
    if (l->tokens[id].ptr)
        return ap_fail(l->err, AP_E_FORMAT, "special token '%.60s' has the id %u of another", text, id);
    l->types[id] = AP_TOKEN_CONTROL;
    return keep(l, ap_str_from(text), &l->tokens[id]);
}

static ap_status spell(list *l, ap_str bytes, ap_buf *out)
{
    for (size_t i = 0; i < bytes.len; i++)
        AP_TRY(ap_alphabet_add(out, (uint8_t)bytes.ptr[i], l->err));
    return AP_OK;
}

static ap_status put_ordinary(list *l, ap_buf *buf)
{
    for (uint32_t rank = 0; rank < l->count; rank++) {
        uint32_t id = l->first + rank;
        ap_buf_clear(buf);
        AP_TRY(spell(l, l->bytes[rank], buf));
        AP_TRY(keep(l, ap_buf_str(buf), &l->tokens[id]));
        l->types[id] = AP_TOKEN_NORMAL;
    }
    for (uint32_t id = 0; id < l->out->token_count; id++) {
        char name[24];
        if (l->tokens[id].ptr)
            continue;
        int n = snprintf(name, sizeof name, "[PAD%u]", id);
        l->types[id] = AP_TOKEN_UNUSED;
        AP_TRY(keep(l, (ap_str){name, (size_t)n}, &l->tokens[id]));
    }
    return AP_OK;
}

/* Every way to cut a token in two that are in the list. */
static ap_status add_merges(list *l, const ap_map *ranks, ap_buf *buf, ap_str *merges, uint32_t *count)
{
    uint32_t n = 0, other;
    for (uint32_t rank = 0; rank < l->count; rank++) {
        ap_str whole = l->bytes[rank];
        for (size_t i = 1; i < whole.len; i++) {
            ap_str left = {whole.ptr, i}, right = {whole.ptr + i, whole.len - i};
            if (!ap_map_get(ranks, left, &other) || !ap_map_get(ranks, right, &other))
                continue;
            if (merges) {
                ap_buf_clear(buf);
                AP_TRY(spell(l, left, buf));
                AP_TRY(ap_buf_add_char(buf, ' ', l->err));
                AP_TRY(spell(l, right, buf));
                AP_TRY(keep(l, ap_buf_str(buf), &merges[n]));
            }
            if (++n > AP_VOCAB_MERGES_MAX)
                return ap_fail(l->err, AP_E_LIMIT, "the tokens can be cut in more than %d ways", AP_VOCAB_MERGES_MAX);
        }
    }
    *count = n;
    return AP_OK;
}

static ap_status add_all_merges(list *l, ap_map *ranks, ap_buf *buf)
{
    AP_TRY(ap_map_reserve(ranks, l->count, l->err));
    for (uint32_t rank = 0; rank < l->count; rank++) {
        uint32_t old;
        ap_status status = ap_map_add(ranks, l->bytes[rank], rank, &old, l->err);
        if (status == AP_E_STATE)
            return ap_fail(l->err, AP_E_FORMAT, "ranks %u and %u are the same bytes", old, rank);
        AP_TRY(status);
    }
    uint32_t count;
    AP_TRY(add_merges(l, ranks, buf, NULL, &count));
    ap_str *merges = ap_arena_zero(l->arena, (size_t)count + 1, sizeof *merges);
    if (!merges)
        return no_memory(l, count * sizeof *merges);
    l->out->merges = merges;
    return add_merges(l, ranks, buf, merges, &l->out->merge_count);
}

/* The special tokens have their places. */
static ap_status finish(list *l)
{
    ap_map ranks = {0};
    ap_buf buf = {0};
    ap_status status = put_ordinary(l, &buf);
    if (status == AP_OK)
        status = add_all_merges(l, &ranks, &buf);
    ap_map_deinit(&ranks);
    ap_buf_deinit(&buf);
    l->out->kind = AP_VOCAB_BPE;
    l->out->equal_ranks = true;
    l->out->ignore_merges = 1;
    l->out->add_bos = l->out->bos >= 0;
    l->out->add_eos = 0;
    l->out->add_space_prefix = 0;
    return status;
}

static ap_status begin(list *l, uint32_t count)
{
    if (count == 0 || count > AP_VOCAB_TOKENS_MAX)
        return ap_fail(l->err, AP_E_LIMIT, "the vocabulary has %u ranks; allowed are 1 to %d", count, AP_VOCAB_TOKENS_MAX);
    l->count = count;
    l->bytes = ap_arena_zero(l->arena, count, sizeof *l->bytes);
    return l->bytes ? AP_OK : no_memory(l, count * sizeof *l->bytes);
}

static ap_status check_whole(list *l)
{
    for (uint32_t rank = 0; rank < l->count; rank++)
        if (!l->bytes[rank].ptr)
            return ap_fail(l->err, AP_E_FORMAT, "the vocabulary has no rank %u of %u", rank, l->count);
    return AP_OK;
}

/* ---- tekken.json ------------------------------------------------------------------------------------------------- */

/* Files before version 7 do not list them. */
static const char *const old_specials[] = {
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]",
    "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]"};
enum { OLD_SPECIALS = sizeof old_specials / sizeof old_specials[0] };

static ap_status put_tekken_specials(list *l, const json_t *specials)
{
    size_t i;
    json_t *one;
    if (!specials)
        for (uint32_t id = 0; id < OLD_SPECIALS && id < l->first; id++)
            AP_TRY(put_special(l, id, old_specials[id]));
    json_array_foreach(specials, i, one) {
        const json_t *rank = json_object_get(one, "rank"), *text = json_object_get(one, "token_str");
        if (!json_is_integer(rank) || json_integer_value(rank) < 0 || json_integer_value(rank) >= l->first || !json_is_string(text) ||
            strlen(json_string_value(text)) != json_string_length(text))
            return ap_fail(l->err, AP_E_FORMAT, "special token %zu of tekken.json has no text, or a rank that is not 0 to %u", i, l->first - 1);
        AP_TRY(put_special(l, (uint32_t)json_integer_value(rank), json_string_value(text)));
    }
    for (uint32_t id = 0; id < l->first; id++) {
        char name[24];
        (void)snprintf(name, sizeof name, "<SPECIAL_%u>", id);
        if (!l->tokens[id].ptr)
            AP_TRY(put_special(l, id, name));
    }
    const struct {
        const char *name;
        int32_t *id;
    } named[] = {{"<unk>", &l->out->unk}, {"<s>", &l->out->bos}, {"</s>", &l->out->eos}, {"<pad>", &l->out->pad}};
    for (size_t k = 0; k < sizeof named / sizeof named[0]; k++)
        for (uint32_t id = 0; id < l->first; id++)
            if (ap_str_is(l->tokens[id], named[k].name))
                *named[k].id = (int32_t)id;
    return AP_OK;
}

static ap_status read_tekken(list *l, const json_t *root)
{
    uint32_t total, specials;
    const json_t *vocab;
    ap_str pattern;
    AP_TRY(ap_json_get_u32(root, "config.default_vocab_size", &total, l->err));
    AP_TRY(ap_json_get_u32(root, "config.default_num_special_tokens", &specials, l->err));
    AP_TRY(ap_json_get_str(root, "config.pattern", &pattern, l->err));
    AP_TRY(ap_json_get_array(root, "vocab", &vocab, l->err));
    if (specials == 0 || specials >= total || total > AP_VOCAB_TOKENS_MAX || json_array_size(vocab) < total - specials)
        return ap_fail(l->err, AP_E_FORMAT, "tekken.json has %zu ranks, %u tokens and %u special ones, which does not fit",
                       json_array_size(vocab), total, specials);
    AP_TRY(begin(l, total - specials));
    AP_TRY(allocate(l, total));
    l->first = specials;
    for (uint32_t i = 0; i < l->count; i++) {
        const json_t *one = json_array_get(vocab, i), *rank = json_object_get(one, "rank"), *bytes = json_object_get(one, "token_bytes");
        if (!json_is_integer(rank) || json_integer_value(rank) != i || !json_is_string(bytes))
            return ap_fail(l->err, AP_E_FORMAT, "entry %u of tekken.json is not rank %u with bytes", i, i);
        AP_TRY(decode(l, (ap_str){json_string_value(bytes), json_string_length(bytes)}, i));
    }
    AP_TRY(put_tekken_specials(l, ap_json_find(root, "special_tokens")));
    ap_str *split = ap_arena_zero(l->arena, 1, sizeof *split);
    if (!split)
        return no_memory(l, sizeof *split);
    unsigned scanner = ap_split_scanner(pattern);
    AP_TRY(keep(l, scanner == AP_SCAN_NONE ? pattern : ap_str_from(ap_split_expression(scanner)), split));
    l->out->split = split;
    l->out->split_count = 1;
    if (scanner == AP_SCAN_TEKKEN)
        l->out->pre = AP_STR("tekken");
    return finish(l);
}

ap_status ap_tekken_read(ap_vocab_source *out, ap_arena *arena, const json_t *root, ap_error *err)
{
    *out = (ap_vocab_source)AP_VOCAB_SOURCE_NONE;
    list l = {.out = out, .arena = arena, .err = err};
    return read_tekken(&l, root);
}

/* ---- tiktoken ---------------------------------------------------------------------------------------------------- */

typedef struct special {
    uint32_t id;
    const char *text;
} special;

/* "NAME%u" with numbers from `number` up to the end, where no other name is. */
typedef struct family {
    uint32_t ranks, tokens, number;
    const char *pre, *filler;
    int8_t adds_bos;
    uint32_t filler_from;
    special specials[12];
} family;

static const family families[] = {
    {128000, 128256, 0, "llama-bpe", "<|reserved_special_token_%u|>", 1, 128000,
     {{128000, "<|begin_of_text|>"}, {128001, "<|end_of_text|>"}, {128004, "<|finetune_right_pad_id|>"}, {128006, "<|start_header_id|>"},
      {128007, "<|end_header_id|>"}, {128008, "<|eom_id|>"}, {128009, "<|eot_id|>"}, {128010, "<|python_tag|>"}}},
    {151643, 151851, 0, "qwen2", "<|extra_%u|>", 0, 151646,
     {{151643, "<|endoftext|>"}, {151644, "<|im_start|>"}, {151645, "<|im_end|>"}}},
    {199998, 200019, 0, "gpt-4o", NULL, 0, 0, {{199999, "<|endoftext|>"}, {200018, "<|endofprompt|>"}}},
    {100256, 100277, 0, "dbrx", NULL, 0, 0,
     {{100257, "<|endoftext|>"}, {100258, "<|fim_prefix|>"}, {100259, "<|fim_middle|>"}, {100260, "<|fim_suffix|>"}, {100276, "<|endofprompt|>"}}},
};
enum { FAMILIES = sizeof families / sizeof families[0] };

/* One line; false at its fault. */
static bool split_line(ap_str line, ap_str *text, uint32_t *rank)
{
    while (line.len && line.ptr[line.len - 1] == ' ')
        line.len--;
    const char *space = memchr(line.ptr, ' ', line.len);
    if (!space || space == line.ptr || line.len - (size_t)(space - line.ptr) > 9)
        return false;
    *text = (ap_str){line.ptr, (size_t)(space - line.ptr)};
    *rank = 0;
    for (const char *p = space + 1; p < line.ptr + line.len; p++) {
        if (*p < '0' || *p > '9')
            return false;
        *rank = *rank * 10 + (uint32_t)(*p - '0');
    }
    return space + 1 < line.ptr + line.len;
}

bool ap_tiktoken_is(ap_str file)
{
    enum { LINE_BYTES_MAX = 256 };
    uint32_t rank;
    ap_str text, rest = {file.ptr, file.len < LINE_BYTES_MAX ? file.len : LINE_BYTES_MAX};
    if (!memchr(rest.ptr, '\n', rest.len) || !split_line(ap_str_next_line(&rest), &text, &rank) || rank != 0)
        return false;
    unsigned char raw[LINE_BYTES_MAX];
    size_t n;
    return sodium_base642bin(raw, sizeof raw, text.ptr, text.len, NULL, &n, NULL, sodium_base64_VARIANT_ORIGINAL) == 0 && n > 0;
}

static ap_status put_family(list *l, const family *f)
{
    AP_TRY(allocate(l, f->tokens));
    for (size_t i = 0; i < sizeof f->specials / sizeof f->specials[0] && f->specials[i].text; i++)
        AP_TRY(put_special(l, f->specials[i].id, f->specials[i].text));
    uint32_t number = f->number;
    for (uint32_t id = f->filler_from; f->filler && id < f->tokens; id++) {
        char name[48];
        if (l->tokens[id].ptr)
            continue;
        (void)snprintf(name, sizeof name, f->filler, number++);
        AP_TRY(put_special(l, id, name));
    }
    l->out->pre = ap_str_from(f->pre);
    l->out->eos = (int32_t)(f->adds_bos ? f->specials[1].id : f->specials[0].id);
    l->out->bos = f->adds_bos ? (int32_t)f->specials[0].id : -1;
    return finish(l);
}

ap_status ap_tiktoken_read(ap_vocab_source *out, ap_arena *arena, ap_str file, ap_error *err)
{
    *out = (ap_vocab_source)AP_VOCAB_SOURCE_NONE;
    list l = {.out = out, .arena = arena, .err = err};
    if (file.len > AP_RANKS_BYTES_MAX)
        return ap_fail(err, AP_E_LIMIT, "the tiktoken file has %zu bytes; the limit is %d", file.len, AP_RANKS_BYTES_MAX);
    uint32_t count = 0, line_number = 0, rank;
    ap_str text;
    for (ap_str rest = file; rest.len;)
        count += ap_str_next_line(&rest).len > 0;
    AP_TRY(begin(&l, count));
    for (ap_str rest = file; rest.len;) {
        ap_str line = ap_str_next_line(&rest);
        line_number++;
        if (line.len == 0)
            continue;
        if (!split_line(line, &text, &rank) || rank >= count)
            return ap_fail(err, AP_E_FORMAT, "line %u of the tiktoken file is not bytes in base64 and a rank below %u", line_number, count);
        if (l.bytes[rank].ptr)
            return ap_fail(err, AP_E_FORMAT, "line %u of the tiktoken file has rank %u a second time", line_number, rank);
        AP_TRY(decode(&l, text, rank));
    }
    AP_TRY(check_whole(&l));
    for (size_t i = 0; i < FAMILIES; i++)
        if (families[i].ranks == count)
            return put_family(&l, &families[i]);
    return ap_fail(err, AP_E_UNSUPPORTED, "a tiktoken file of %u ranks, which does not say its expression and special tokens; known are those of 128000 "
                   "(Llama 3), 151643 (Qwen), 199998 (o200k) and 100256 (cl100k)", count);
}
