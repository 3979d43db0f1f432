/* vocab.c - from a stranger's description of a vocabulary to a tokenizer.
 *
 * Everything is checked here, so that tokenising need not.  Three things a merge list could break are impossible by
 * form: a merge makes a text longer than either half, so there are no cycles; it is refused if it names a text that
 * is no ordinary token, so it never makes a control token; and it may stand in the list once.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "text/vocab.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/utf8.h"

enum { SHOWN = 60 }; /* bytes of a stranger's text in a message */

static int shown(ap_str text) { return (int)(text.len < SHOWN ? text.len : SHOWN); }

/* ---- The alphabet of byte-level BPE --------------------------------------- */

/* Bytes that print stand for themselves, the other 68 in order for U+0100, U+0101, … */
static bool stands_for_itself(unsigned byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

static void fill_alphabet(int16_t of_code[0x144])
{
    for (unsigned i = 0; i < 0x144; i++)
        of_code[i] = -1;
    unsigned next = 0x100;
    for (unsigned byte = 0; byte < 256; byte++)
        of_code[stands_for_itself(byte) ? byte : next++] = (int16_t)byte;
}

ap_status ap_alphabet_add(ap_buf *out, uint8_t byte, ap_error *err)
{
    unsigned code = byte;
    char bytes[4];
    if (!stands_for_itself(byte)) {
        code = 0x100;
        for (unsigned i = 0; i < byte; i++)
            code += !stands_for_itself(i);
    }
    return ap_buf_add(out, bytes, ap_utf8_put(code, bytes), err);
}

/* Writes the bytes `text` stands for (never more than it has); false if a character is not of the alphabet. */
static bool from_alphabet(const int16_t of_code[0x144], ap_str text, char *out, size_t *out_bytes)
{
    size_t n, count = 0;
    for (size_t i = 0; i < text.len; i += n) {
        int32_t code = ap_utf8_next(text.ptr + i, text.len - i, &n);
        if (code < 0 || code >= 0x144 || of_code[code] < 0)
            return false;
        out[count++] = (char)of_code[code];
    }
    *out_bytes = count;
    return true;
}

/* ---- Tokens --------------------------------------------------------------- */

static ap_status check_source(const ap_vocab_source *source, ap_error *err)
{
    if ((unsigned)source->kind > AP_VOCAB_WORDPIECE)
        return ap_fail(err, AP_E_UNSUPPORTED, "vocabulary kind %d is not known", (int)source->kind);
    if (source->token_count == 0 || !source->tokens)
        return ap_fail(err, AP_E_FORMAT, "the vocabulary is empty");
    if (source->token_count > AP_VOCAB_TOKENS_MAX)
        return ap_fail(err, AP_E_LIMIT, "%u tokens are more than the limit of %d", source->token_count,
                       AP_VOCAB_TOKENS_MAX);
    if (source->merge_count > AP_VOCAB_MERGES_MAX)
        return ap_fail(err, AP_E_LIMIT, "%u merges are more than the limit of %d", source->merge_count,
                       AP_VOCAB_MERGES_MAX);
    if (source->merge_count && !source->merges)
        return ap_fail(err, AP_E_FORMAT, "the list of merges is missing");
    const struct {
        const char *name;
        int32_t id;
    } named[] = {{"bos", source->bos}, {"eos", source->eos}, {"eot", source->eot},
                 {"eom", source->eom}, {"unknown", source->unk}, {"padding", source->pad}};
    for (unsigned i = 0; i < sizeof named / sizeof named[0]; i++)
        if (named[i].id < -1 || named[i].id >= (int64_t)source->token_count)
            return ap_fail(err, AP_E_FORMAT, "the %s token is %d, the vocabulary has %u tokens", named[i].name,
                           named[i].id, source->token_count);
    size_t total = 0;
    for (uint32_t i = 0; i < source->token_count; i++) {
        ap_str token = source->tokens[i];
        int32_t type = source->types ? source->types[i] : 0;
        if (type < 0 || type > AP_TOKEN_BYTE)
            return ap_fail(err, AP_E_FORMAT, "token %u has type %d, types are 0 to %d", i, type, AP_TOKEN_BYTE);
        if (token.len > AP_TOKEN_BYTES_MAX)
            return ap_fail(err, AP_E_LIMIT, "token %u has %zu bytes, the limit is %d", i, token.len,
                           AP_TOKEN_BYTES_MAX);
        total += token.len;
        if (total > AP_VOCAB_BYTES_MAX)
            return ap_fail(err, AP_E_LIMIT, "the tokens have more than %d bytes together", AP_VOCAB_BYTES_MAX);
        if (!ap_utf8_valid(token))
            return ap_fail(err, AP_E_FORMAT, "token %u is not valid UTF-8", i);
    }
    return AP_OK;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "<0x41>" */
static ap_status read_byte_token(ap_tokenizer *t, uint32_t id, ap_str text, char *out, ap_error *err)
{
    int high = text.len == 6 ? hex_digit(text.ptr[3]) : -1, low = text.len == 6 ? hex_digit(text.ptr[4]) : -1;
    if (high < 0 || low < 0 || memcmp(text.ptr, "<0x", 3) != 0 || text.ptr[5] != '>')
        return ap_fail(err, AP_E_FORMAT, "byte token %u is '%.*s', not of the form <0x41>", id, shown(text), text.ptr);
    unsigned byte = (unsigned)high * 16 + (unsigned)low;
    if (t->kind != AP_VOCAB_BPE) {
        if (t->bytes[byte] != AP_SYMBOL_NONE)
            return ap_fail(err, AP_E_FORMAT, "tokens %u and %u are both byte %u", t->bytes[byte], id, byte);
        t->bytes[byte] = id;
    }
    *out = (char)byte;
    return AP_OK;
}

static ap_status add_special(ap_special *set, ap_str text, uint32_t id, ap_error *err)
{
    if (text.len == 0)
        return AP_OK; /* keeps its id, matches nothing */
    if (text.len > AP_SPECIAL_BYTES_MAX)
        return ap_fail(err, AP_E_LIMIT, "special token %u has %zu bytes, the limit is %d", id, text.len,
                       AP_SPECIAL_BYTES_MAX);
    int32_t old;
    AP_TRY(ap_special_add(set, text, (int32_t)id, &old, err));
    if (old >= 0)
        return ap_fail(err, AP_E_FORMAT, "tokens %d and %u are both '%.*s'", old, id, shown(text), text.ptr);
    return AP_OK;
}

/* U+2581 as the space it stands for. */
static ap_status unescape(ap_tokenizer *t, ap_str text, ap_str *out, ap_error *err)
{
    char *spaced = ap_arena_alloc(&t->arena, text.len + 1);
    if (!spaced)
        return ap_fail_nomem(err, text.len);
    size_t n = 0;
    for (size_t i = 0; i < text.len;) {
        if (ap_str_starts((ap_str){text.ptr + i, text.len - i}, AP_STR(AP_SPM_SPACE))) {
            spaced[n++] = ' ';
            i += AP_SPM_SPACE_BYTES;
        } else {
            spaced[n++] = text.ptr[i++];
        }
    }
    *out = (ap_str){spaced, n};
    return AP_OK;
}

/* Among those of text as it stands, or of normalized text, where it is looked for in its own normal form. */
static ap_status add_defined(ap_tokenizer *t, ap_str text, uint32_t id, ap_error *err)
{
    if (!t->normalizer || !t->flags || !(t->flags[id] & AP_TOKEN_NORMALIZED))
        return add_special(&t->defined, text, id, err);
    ap_buf buffers[2] = {0};
    ap_str normal;
    ap_status status = ap_normalize(t->normalizer, text, buffers, &normal, err);
    if (status == AP_OK)
        status = add_special(&t->normalized, normal, id, err);
    ap_buf_deinit(&buffers[0]);
    ap_buf_deinit(&buffers[1]);
    return status;
}

/* Fills pieces, kinds and the special sets; *normal gets the ordinary tokens by what merges call them: raw bytes
 * (BPE) or the vocabulary's spelling (SPM).  Its keys live in the arena. */
static ap_status read_tokens(ap_tokenizer *t, const ap_vocab_source *source, const int16_t *of_code, ap_map *normal,
                             ap_error *err)
{
    AP_TRY(ap_map_reserve(normal, t->count, err));
    for (uint32_t id = 0; id < t->count; id++) {
        ap_str text = source->tokens[id];
        ap_token_kind kind = source->types && source->types[id] ? (ap_token_kind)source->types[id] : AP_TOKEN_NORMAL;
        t->kinds[id] = (uint8_t)kind;
        char *copy = ap_arena_copy(&t->arena, text.ptr, text.len);
        if (!copy)
            return ap_fail_nomem(err, text.len + 1);
        ap_str key = {copy, text.len}, piece = key;
        bool is_normal = kind == AP_TOKEN_NORMAL && text.len > 0;
        if (kind == AP_TOKEN_BYTE) {
            AP_TRY(read_byte_token(t, id, text, copy, err));
            piece.len = 1;
        } else if (kind == AP_TOKEN_CONTROL || kind == AP_TOKEN_UNKNOWN) {
            AP_TRY(add_special(&t->control, key, id, err));
        } else if (kind == AP_TOKEN_USER_DEFINED) {
            AP_TRY(add_defined(t, key, id, err));
            if (t->kind != AP_VOCAB_BPE)
                AP_TRY(unescape(t, text, &piece, err));
        } else if (t->kind == AP_VOCAB_BPE) {
            /* A token outside the alphabet is its own text and is never made by merging. */
            if (from_alphabet(of_code, text, copy, &piece.len)) {
                key = piece;
                if (is_normal && piece.len == 1)
                    t->bytes[(uint8_t)*copy] = id;
            } else {
                is_normal = false;
                memcpy(copy, text.ptr, text.len);
            }
        } else {
            AP_TRY(unescape(t, text, &piece, err));
        }
        t->pieces[id] = piece;
        if (piece.len > t->piece_bytes_max)
            t->piece_bytes_max = piece.len;
        if (!is_normal)
            continue;
        uint32_t old;
        ap_status status = ap_map_add(normal, key, id, &old, err);
        if (status == AP_E_STATE)
            return ap_fail(err, AP_E_FORMAT, "tokens %u and %u are both '%.*s'", old, id, shown(text), text.ptr);
        AP_TRY(status);
    }
    return AP_OK;
}

/* ---- SentencePiece: pairs from scores ------------------------------------- */

typedef struct scored {
    float score;
    uint32_t id;
} scored;

static int by_score(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static size_t char_bytes(const char *p, size_t n)
{
    size_t length;
    (void)ap_utf8_next(p, n, &length);
    return length;
}

/* Each character of each ordinary token gets a symbol: its token's id, or a new number. */
static ap_status add_chars(ap_tokenizer *t, const ap_vocab_source *source, const ap_map *normal, ap_error *err)
{
    uint32_t next = t->count;
    for (uint32_t id = 0; id < t->count; id++) {
        ap_str text = source->tokens[id];
        if (t->kinds[id] != AP_TOKEN_NORMAL && t->kinds[id] != AP_TOKEN_USER_DEFINED)
            continue;
        for (size_t i = 0, n; i < text.len; i += n) {
            n = char_bytes(text.ptr + i, text.len - i);
            uint32_t symbol;
            if (ap_map_get(&t->chars, (ap_str){text.ptr + i, n}, &symbol))
                continue;
            if (!ap_map_get(normal, (ap_str){text.ptr + i, n}, &symbol))
                symbol = next++;
            char *key = ap_arena_copy(&t->arena, text.ptr + i, n);
            if (!key)
                return ap_fail_nomem(err, n + 1);
            AP_TRY(ap_map_add(&t->chars, (ap_str){key, n}, symbol, NULL, err));
        }
    }
    return AP_OK;
}

/* What a merge makes is a token, so where no token holds two characters side by side no merge crosses.  16 bits for each
 * token leave most of them 0. */
static ap_status fill_joins(ap_tokenizer *t, const ap_vocab_source *source, ap_error *err)
{
    unsigned bits = 12;
    while (bits < 23 && (1u << bits) / 16 < t->count)
        bits++;
    t->join_shift = 64 - bits;
    t->joins = ap_arena_zero(&t->arena, (1u << bits) / 64, sizeof *t->joins);
    if (!t->joins)
        return ap_fail_nomem(err, (1u << bits) / 8);
    for (uint32_t id = 0; id < t->count; id++) {
        ap_str text = source->tokens[id];
        int32_t left = -1, right;
        for (size_t i = 0, n; i < text.len; i += n, left = right) {
            right = ap_utf8_next(text.ptr + i, text.len - i, &n);
            if (left < 0)
                continue;
            uint64_t bit = ap_tokenizer_join_bit(t, (uint32_t)left, (uint32_t)right);
            t->joins[bit / 64] |= (uint64_t)1 << bit % 64;
        }
    }
    return AP_OK;
}

static bool symbol_of(const ap_tokenizer *t, const ap_map *normal, ap_str text, uint32_t *symbol)
{
    if (ap_map_get(normal, text, symbol))
        return true;
    return char_bytes(text.ptr, text.len) == text.len && ap_map_get(&t->chars, text, symbol);
}

/* Calls for every way to cut a token in two symbols; counts them, and adds them if the table is there. */
static uint32_t cut_token(ap_tokenizer *t, const ap_map *normal, ap_str text, uint32_t id, uint32_t rank)
{
    uint32_t count = 0;
    for (size_t i = 0; i < text.len;) {
        i += char_bytes(text.ptr + i, text.len - i);
        ap_pair pair = {.rank = rank, .result = id};
        if (i == text.len || !symbol_of(t, normal, (ap_str){text.ptr, i}, &pair.left) ||
            !symbol_of(t, normal, (ap_str){text.ptr + i, text.len - i}, &pair.right))
            continue;
        count++;
        if (t->pairs.slots)
            (void)ap_pairs_add(&t->pairs, pair); /* two texts determine their join: it cannot be there */
    }
    return count;
}

/* ---- Merges --------------------------------------------------------------- */

/* Half of a merge as `normal` knows it. */
static bool spelled(const ap_tokenizer *t, const int16_t *of_code, ap_str text, char *out, size_t *bytes)
{
    if (t->kind == AP_VOCAB_BPE)
        return from_alphabet(of_code, text, out, bytes);
    if (text.len > AP_TOKEN_BYTES_MAX)
        return false;
    memcpy(out, text.ptr, text.len);
    *bytes = text.len;
    return true;
}

static bool part_of(const ap_tokenizer *t, const ap_map *normal, ap_str text, uint32_t *symbol)
{
    return t->kind == AP_VOCAB_BPE ? ap_map_get(normal, text, symbol) : symbol_of(t, normal, text, symbol);
}

/* Tokens that are always one in text may be made by merging as well, where the normalizer makes their text. */
static ap_status add_defined_as_normal(ap_tokenizer *t, const ap_vocab_source *source, const int16_t *of_code, ap_map *normal,
                                       ap_error *err)
{
    for (uint32_t id = 0; id < t->count; id++) {
        ap_str text = source->tokens[id];
        if (t->kinds[id] != AP_TOKEN_USER_DEFINED || text.len == 0)
            continue;
        char *copy = ap_arena_copy(&t->arena, text.ptr, text.len);
        size_t bytes;
        if (!copy)
            return ap_fail_nomem(err, text.len);
        if (!spelled(t, of_code, text, copy, &bytes))
            continue;
        ap_status status = ap_map_add(normal, (ap_str){copy, bytes}, id, NULL, err);
        if (status != AP_E_STATE) /* an ordinary token of that text comes first */
            AP_TRY(status);
    }
    return AP_OK;
}

static ap_status read_merges(ap_tokenizer *t, const ap_vocab_source *source, const int16_t *of_code,
                             ap_map *normal, ap_error *err)
{
    AP_TRY(add_defined_as_normal(t, source, of_code, normal, err));
    if (t->kind == AP_VOCAB_SPM)
        AP_TRY(add_chars(t, source, normal, err));
    AP_TRY(ap_pairs_init(&t->pairs, source->merge_count, err));
    char whole[2 * AP_TOKEN_BYTES_MAX + 1];
    uint32_t rank_before = 0, result_before = 0;
    for (uint32_t rank = 0; rank < source->merge_count; rank++) {
        ap_str merge = source->merges[rank];
        if (merge.len > 2 * AP_TOKEN_BYTES_MAX + 1)
            return ap_fail(err, AP_E_LIMIT, "merge %u has %zu bytes, the limit is %d", rank, merge.len,
                           2 * AP_TOKEN_BYTES_MAX + 1);
        const char *space = merge.len > 1 ? memchr(merge.ptr + 1, ' ', merge.len - 1) : NULL;
        if (!space || space + 1 == merge.ptr + merge.len)
            return ap_fail(err, AP_E_FORMAT, "merge %u '%.*s' is not two parts with a space between", rank,
                           shown(merge), merge.ptr);
        ap_str left = {merge.ptr, (size_t)(space - merge.ptr)};
        ap_str right = {space + 1, merge.len - left.len - 1};
        size_t n = 0, m = 0;
        ap_pair pair = {.rank = rank};
        if (!spelled(t, of_code, left, whole, &n) || !part_of(t, normal, (ap_str){whole, n}, &pair.left) ||
            !spelled(t, of_code, right, whole + n, &m) || !part_of(t, normal, (ap_str){whole + n, m}, &pair.right) ||
            !ap_map_get(normal, (ap_str){whole, n + m}, &pair.result))
            return ap_fail(err, AP_E_FORMAT, "merge %u '%.*s' has a part or a result that is no ordinary token", rank,
                           shown(merge), merge.ptr);
        if (source->equal_ranks && rank && pair.result == result_before)
            pair.rank = rank_before;
        rank_before = pair.rank;
        result_before = pair.result;
        const ap_pair *old = ap_pairs_add(&t->pairs, pair);
        if (old)
            return ap_fail(err, AP_E_FORMAT, "merges %u and %u are both '%.*s'", old->rank, rank, shown(merge),
                           merge.ptr);
    }
    return AP_OK;
}

static ap_status read_scores(ap_tokenizer *t, const ap_vocab_source *source, const ap_map *normal, ap_error *err)
{
    if (!source->scores)
        return ap_fail(err, AP_E_FORMAT, "a SentencePiece vocabulary needs scores");
    AP_TRY(add_chars(t, source, normal, err));
    scored *order = ap_alloc_array(t->count, sizeof *order);
    if (!order)
        return ap_fail_nomem(err, t->count * sizeof *order);
    uint32_t count = 0;
    uint64_t pair_count = 0;
    ap_status status = AP_OK;
    for (uint32_t id = 0; id < t->count && status == AP_OK; id++) {
        if (t->kinds[id] != AP_TOKEN_NORMAL || source->tokens[id].len == 0)
            continue;
        if (!__builtin_isfinite(source->scores[id]))
            status = ap_fail(err, AP_E_FORMAT, "the score of token %u is not a finite number", id);
        order[count++] = (scored){source->scores[id], id};
        pair_count += cut_token(t, normal, source->tokens[id], id, 0);
    }
    if (status == AP_OK && pair_count > UINT32_MAX / 8)
        status = ap_fail(err, AP_E_LIMIT, "the tokens can be cut in %" PRIu64 " ways, the limit is %u", pair_count,
                         UINT32_MAX / 8);
    if (status == AP_OK)
        status = ap_pairs_init(&t->pairs, (uint32_t)pair_count, err);
    if (status == AP_OK) {
        qsort(order, count, sizeof *order, by_score);
        uint32_t rank = 0; /* equal scores share a rank: then the place in the text decides */
        for (uint32_t i = 0; i < count; i++) {
            if (i && order[i].score != order[i - 1].score)
                rank = i;
            (void)cut_token(t, normal, source->tokens[order[i].id], order[i].id, rank);
        }
    }
    ap_free(order);
    return status;
}

/* ---- Unigram and WordPiece: tries of pieces ------------------------------- */

static ap_status add_piece(ap_special *trie, ap_str text, uint32_t id, ap_error *err)
{
    int32_t old;
    return text.len ? ap_special_add(trie, text, (int32_t)id, &old, err) : AP_OK;
}

static bool is_spelled(const ap_tokenizer *t, uint32_t id)
{
    return t->kinds[id] == AP_TOKEN_NORMAL || t->kinds[id] == AP_TOKEN_USER_DEFINED;
}

static ap_status read_unigram(ap_tokenizer *t, const ap_vocab_source *source, ap_error *err)
{
    enum { UNKNOWN_PENALTY = 10 };
    if (!source->scores)
        return ap_fail(err, AP_E_FORMAT, "a Unigram vocabulary needs scores");
    float *scores = ap_arena_alloc(&t->arena, t->count * sizeof *scores);
    if (!scores)
        return ap_fail_nomem(err, t->count * sizeof *scores);
    float least = 0;
    for (uint32_t id = 0; id < t->count; id++) {
        scores[id] = source->scores[id];
        if (!__builtin_isfinite(scores[id]))
            return ap_fail(err, AP_E_FORMAT, "the score of token %u is not a finite number", id);
        if (!is_spelled(t, id))
            continue;
        least = scores[id] < least ? scores[id] : least;
        AP_TRY(add_piece(&t->heads, source->tokens[id], id, err));
    }
    t->scores = scores;
    t->unknown_score = least - UNKNOWN_PENALTY;
    return AP_OK;
}

static ap_status read_wordpiece(ap_tokenizer *t, const ap_vocab_source *source, ap_error *err)
{
    for (uint32_t id = 0; id < t->count; id++) {
        ap_str text = source->tokens[id];
        if (!is_spelled(t, id))
            continue;
        bool is_head = ap_str_starts(text, AP_STR(AP_SPM_SPACE));
        ap_str rest = {text.ptr + AP_SPM_SPACE_BYTES, text.len - AP_SPM_SPACE_BYTES};
        AP_TRY(add_piece(is_head ? &t->heads : &t->tails, is_head ? rest : text, id, err));
    }
    return AP_OK;
}

/* ---- Ends of turns -------------------------------------------------------- */

static int by_id(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return x < y ? -1 : x > y;
}

static ap_status find_ends(ap_tokenizer *t, ap_error *err)
{
    static const char *const known[] = {
        "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|return|>", "<|call|>", "<end_of_turn>", "<|endoftext|>",
        "<|end_of_text|>", "</s>", "<EOT>", "<|EOT|>", "[EOS]", ("<\xef\xbd\x9c" "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>"),
        "<|end|>" /* last: see below */};
    enum { KNOWN = sizeof known / sizeof known[0] };
    t->ends = ap_arena_zero(&t->arena, KNOWN + 3, sizeof *t->ends);
    if (!t->ends)
        return ap_fail_nomem(err, (KNOWN + 3) * sizeof *t->ends);
    /* Where <|return|> ends a turn, <|end|> only ends one message of it. */
    bool has_return = ap_tokenizer_special(t, AP_STR("<|return|>")) >= 0;
    int32_t found[KNOWN + 3] = {t->eos, t->eot, t->eom};
    for (unsigned i = 0; i < KNOWN; i++)
        found[i + 3] = i == KNOWN - 1 && has_return ? -1 : ap_tokenizer_special(t, ap_str_from(known[i]));
    qsort(found, KNOWN + 3, sizeof found[0], by_id);
    for (unsigned i = 0; i < KNOWN + 3; i++)
        if (found[i] >= 0 && (i == 0 || found[i] != found[i - 1]))
            t->ends[t->end_count++] = found[i];
    return AP_OK;
}

/* ---- Creation ------------------------------------------------------------- */

static ap_status refuse_split(ap_str name, ap_error *err)
{
    ap_buf names = {0};
    ap_status status = ap_split_names(&names, err);
    if (status == AP_OK)
        status = ap_fail(err, AP_E_UNSUPPORTED, "pre-tokenizer '%.*s' is not known; known: %.*s", shown(name), name.ptr,
                         (int)names.len, names.ptr);
    ap_buf_deinit(&names);
    return status;
}

/* The pre-tokenizer: expressions, or a name, or none where text need not be cut. */
static ap_status choose_split(ap_tokenizer *t, const ap_vocab_source *source, ap_error *err)
{
    if (source->split_count || (source->split && t->kind == AP_VOCAB_BPE)) {
        for (uint32_t i = 0; i < source->split_count; i++)
            AP_TRY(ap_split_add(&t->own_split, source->split[i], err));
        t->split = &t->own_split;
    } else if (t->kind == AP_VOCAB_BPE) {
        ap_str pre = source->pre.len ? source->pre : AP_STR("default");
        t->split = ap_split_find(pre);
        if (!t->split)
            return refuse_split(pre, err);
    }
    if (!t->split)
        return AP_OK;
    t->classes = ap_alloc(sizeof *t->classes);
    if (!t->classes)
        return ap_fail_nomem(err, sizeof *t->classes);
    ap_classes_fill(t->classes);
    return AP_OK;
}

static ap_status choose_normalizer(ap_tokenizer *t, const ap_vocab_source *source, ap_error *err)
{
    static const ap_str bert[] = {{"clean", 5}, {"chinese", 7}, {"nfd", 3}, {"drop_nonspacing", 15}, {"lowercase", 9}};
    static const ap_str mapped[] = {{"charsmap", 8}};
    const ap_str *steps = source->normalizer;
    uint32_t count = source->normalizer_count;
    if (!steps && t->kind == AP_VOCAB_WORDPIECE) {
        steps = bert;
        count = sizeof bert / sizeof bert[0];
    } else if (!steps && source->charsmap.len) {
        steps = mapped;
        count = 1;
    }
    return count ? ap_normalizer_create(&t->normalizer, &t->arena, steps, count, source->charsmap, err) : AP_OK;
}

static ap_status fill(ap_tokenizer *t, const ap_vocab_source *source, ap_map *normal, ap_error *err)
{
    for (unsigned i = 0; i < 256; i++)
        t->bytes[i] = AP_SYMBOL_NONE;
    t->pieces = ap_arena_zero(&t->arena, t->count, sizeof *t->pieces);
    t->kinds = ap_arena_zero(&t->arena, t->count, sizeof *t->kinds);
    if (!t->pieces || !t->kinds)
        return ap_fail_nomem(err, t->count * sizeof *t->pieces);
    int16_t of_code[0x144];
    fill_alphabet(of_code);
    /* Readers of GGUF disagree about that key here; only a source that says how is taken at its word. */
    if (t->kind == AP_VOCAB_BPE && source->add_space_prefix > 0 && source->space_prefix != AP_SPACE_UNLESS)
        return ap_fail(err, AP_E_UNSUPPORTED, "add_space_prefix is not supported for byte-level BPE");
    AP_TRY(choose_split(t, source, err));
    AP_TRY(choose_normalizer(t, source, err));
    if (source->flags) {
        t->flags = (uint8_t *)ap_arena_copy(&t->arena, source->flags, t->count);
        if (!t->flags)
            return ap_fail_nomem(err, t->count);
    }
    AP_TRY(read_tokens(t, source, of_code, normal, err));
    bool is_bpe = t->kind == AP_VOCAB_BPE, is_bert = t->kind == AP_VOCAB_WORDPIECE;
    if (is_bpe || (t->kind == AP_VOCAB_SPM && source->merges))
        AP_TRY(read_merges(t, source, of_code, normal, err));
    else if (t->kind == AP_VOCAB_SPM)
        AP_TRY(read_scores(t, source, normal, err));
    else
        AP_TRY(is_bert ? read_wordpiece(t, source, err) : read_unigram(t, source, err));
    if (t->kind == AP_VOCAB_SPM)
        AP_TRY(fill_joins(t, source, err));
    t->bos = source->bos, t->eos = source->eos, t->eot = source->eot, t->eom = source->eom;
    t->unk = source->unk, t->pad = source->pad;
    bool adds_bos = is_bpe ? t->split->adds_bos : t->kind != AP_VOCAB_UNIGRAM;
    bool adds_eos = is_bert || t->kind == AP_VOCAB_UNIGRAM;
    t->adds_bos = source->add_bos < 0 ? adds_bos : source->add_bos > 0;
    t->adds_eos = source->add_eos < 0 ? adds_eos : source->add_eos > 0;
    t->adds_space = is_bert || (source->add_space_prefix < 0 ? !is_bpe : source->add_space_prefix > 0);
    t->decode = source->decode;
    t->drops_space = !is_bpe && ((t->adds_space && !(t->decode & AP_DECODE_KEEP_SPACE)) || (t->decode & AP_DECODE_DROP_SPACE));
    t->space_prefix = source->space_prefix;
    t->removes_extra_spaces = source->remove_extra_spaces < 0 ? t->kind == AP_VOCAB_UNIGRAM : source->remove_extra_spaces > 0;
    if (t->adds_bos && source->add_bos > 0 && t->bos < 0)
        return ap_fail(err, AP_E_FORMAT, "a begin token is asked for but not named");
    AP_TRY(find_ends(t, err));
    if (is_bpe && (source->ignore_merges < 0 ? t->split->ignores_merges : source->ignore_merges > 0)) {
        t->words = *normal;
        *normal = (ap_map){0};
    }
    return AP_OK;
}

ap_status ap_tokenizer_create(ap_tokenizer **out, const ap_vocab_source *source, ap_error *err)
{
    *out = NULL;
    AP_TRY(check_source(source, err));
    ap_tokenizer *t = ap_alloc_zero(1, sizeof *t);
    if (!t)
        return ap_fail_nomem(err, sizeof *t);
    t->kind = source->kind;
    t->count = source->token_count;
    ap_map normal = {0};
    ap_status status = fill(t, source, &normal, err);
    ap_map_deinit(&normal);
    if (status != AP_OK)
        ap_tokenizer_destroy(&t);
    *out = t;
    return status;
}

void ap_tokenizer_destroy(ap_tokenizer **tokenizer)
{
    ap_tokenizer *t = *tokenizer;
    if (!t)
        return;
    ap_special_deinit(&t->control);
    ap_special_deinit(&t->defined);
    ap_special_deinit(&t->normalized);
    ap_special_deinit(&t->heads);
    ap_special_deinit(&t->tails);
    ap_pairs_deinit(&t->pairs);
    ap_map_deinit(&t->words);
    ap_map_deinit(&t->chars);
    ap_split_deinit(&t->own_split);
    ap_free(t->classes);
    ap_arena_deinit(&t->arena);
    ap_free(t);
    *tokenizer = NULL;
}

/* ---- Questions ------------------------------------------------------------ */

static bool is_id(const ap_tokenizer *t, int32_t id) { return id >= 0 && (uint32_t)id < t->count; }

ap_vocab_kind ap_tokenizer_kind(const ap_tokenizer *t) { return t->kind; }
uint32_t ap_tokenizer_count(const ap_tokenizer *t) { return t->count; }
ap_str ap_tokenizer_piece(const ap_tokenizer *t, int32_t id) { return is_id(t, id) ? t->pieces[id] : (ap_str){0}; }

ap_token_kind ap_tokenizer_token_kind(const ap_tokenizer *t, int32_t id)
{
    return is_id(t, id) ? (ap_token_kind)t->kinds[id] : AP_TOKEN_UNUSED;
}

bool ap_tokenizer_is_control(const ap_tokenizer *t, int32_t id)
{
    return is_id(t, id) && (t->kinds[id] == AP_TOKEN_CONTROL || t->kinds[id] == AP_TOKEN_UNKNOWN);
}

int32_t ap_tokenizer_special(const ap_tokenizer *t, ap_str text)
{
    int32_t id = ap_special_find(&t->control, text);
    return id >= 0 ? id : ap_special_find(&t->defined, text);
}

int32_t ap_tokenizer_bos(const ap_tokenizer *t) { return t->bos; }
int32_t ap_tokenizer_eos(const ap_tokenizer *t) { return t->eos; }
int32_t ap_tokenizer_unk(const ap_tokenizer *t) { return t->unk; }
int32_t ap_tokenizer_pad(const ap_tokenizer *t) { return t->pad; }
bool ap_tokenizer_adds_bos(const ap_tokenizer *t) { return t->adds_bos && t->bos >= 0; }
bool ap_tokenizer_adds_eos(const ap_tokenizer *t) { return t->adds_eos && t->eos >= 0; }
bool ap_tokenizer_adds_space(const ap_tokenizer *t) { return t->adds_space && t->kind != AP_VOCAB_BPE; }
bool ap_tokenizer_drops_space(const ap_tokenizer *t) { return t->drops_space; }

ap_str ap_tokenizer_first_piece(const ap_tokenizer *t, ap_str piece, char *room)
{
    if (t->decode & AP_DECODE_DROP_FIRST_SPACES) {
        size_t n = 0;
        for (size_t i = 0; i < piece.len; i++)
            if (piece.ptr[i] != ' ')
                room[n++] = piece.ptr[i];
        return (ap_str){room, n};
    }
    bool has_space = piece.len && piece.ptr[0] == ' ';
    return (ap_str){piece.ptr + has_space, piece.len - has_space};
}

const int32_t *ap_tokenizer_ends(const ap_tokenizer *t, size_t *count)
{
    *count = t->end_count;
    return t->ends;
}

bool ap_tokenizer_is_end(const ap_tokenizer *t, int32_t id)
{
    for (size_t i = 0; i < t->end_count; i++)
        if (t->ends[i] == id)
            return true;
    return false;
}
