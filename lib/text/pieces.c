/* pieces.c - one word into pieces: Unigram and WordPiece.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "base/alloc.h"
#include "base/utf8.h"
#include "text/vocab.h"

enum { NO_PIECE = -1, NOTHING_ENDS = -2, WORD_CHARS_MAX = 100 };

static ap_status add_id(ap_ids *out, int32_t id, ap_error *err)
{
    AP_TRY(ap_ids_reserve(out, 1, err));
    out->ids[out->count++] = id;
    return AP_OK;
}

/* ---- Unigram ---------------------------------------------------------------- */

/* Every piece that begins at `at` proposes itself where it ends. */
static void propose(const ap_tokenizer *t, ap_str word, ap_path_node *best, size_t at, size_t length)
{
    bool has_single = false;
    uint32_t node = t->heads.first[(uint8_t)word.ptr[at]];
    for (size_t i = at + 1; node; i++) {
        int32_t id = t->heads.nodes[node].id;
        if (id >= 0) {
            double score = best[at].score + (double)t->scores[id];
            if (best[i].id == NOTHING_ENDS || score > best[i].score)
                best[i] = (ap_path_node){score, (uint32_t)at, id};
            has_single = has_single || i == at + length;
        }
        node = i < word.len ? ap_special_step(&t->heads, node, (uint8_t)word.ptr[i]) : 0;
    }
    double score = best[at].score + (double)t->unknown_score;
    if (!has_single && (best[at + length].id == NOTHING_ENDS || score > best[at + length].score))
        best[at + length] = (ap_path_node){score, (uint32_t)at, NO_PIECE};
}

/* Characters without a piece: byte tokens, or one unknown token for the whole run of them. */
static ap_status add_missing(const ap_tokenizer *t, ap_str text, ap_ids *out, ap_error *err)
{
    bool has_bytes = true;
    for (size_t i = 0; i < text.len && has_bytes; i++)
        has_bytes = t->bytes[(uint8_t)text.ptr[i]] != AP_SYMBOL_NONE;
    for (size_t i = 0; i < text.len && has_bytes; i++)
        AP_TRY(add_id(out, (int32_t)t->bytes[(uint8_t)text.ptr[i]], err));
    return has_bytes ? AP_OK : ap_tokenize_unknown(t, text, out, err);
}

/* Follows the best way backwards and turns it round: `from` and `id` of a node become the end and the id of the piece
 * that begins there. */
static void turn_round(ap_path_node *best, size_t length)
{
    uint32_t from = best[length].from;
    int32_t id = best[length].id;
    for (size_t end = length; end > 0;) {
        size_t begin = from;
        ap_path_node node = best[begin];
        best[begin].from = (uint32_t)end;
        best[begin].id = id;
        end = begin;
        from = node.from;
        id = node.id;
    }
}

ap_status ap_unigram_word(const ap_tokenizer *t, ap_str word, ap_path_node **nodes, size_t *room, ap_ids *out, ap_error *err)
{
    if (word.len + 1 > *room) {
        size_t more = word.len + 1 > 2 * *room ? word.len + 1 : 2 * *room;
        ap_path_node *grown = ap_realloc_array(*nodes, more, sizeof *grown);
        if (!grown)
            return ap_fail_nomem(err, more * sizeof *grown);
        *nodes = grown;
        *room = more;
    }
    ap_path_node *best = *nodes;
    size_t length;
    for (size_t i = 0; i <= word.len; i++)
        best[i] = (ap_path_node){.id = NOTHING_ENDS};
    for (size_t at = 0; at < word.len; at += length) {
        (void)ap_utf8_next(word.ptr + at, word.len - at, &length);
        propose(t, word, best, at, length);
    }
    turn_round(best, word.len);
    for (size_t at = 0; at < word.len;) {
        size_t end = best[at].from;
        if (best[at].id >= 0) {
            AP_TRY(add_id(out, best[at].id, err));
        } else {
            while (end < word.len && best[end].id == NO_PIECE)
                end = best[end].from;
            AP_TRY(add_missing(t, (ap_str){word.ptr + at, end - at}, out, err));
        }
        at = end;
    }
    return AP_OK;
}

/* ---- WordPiece -------------------------------------------------------------- */

ap_status ap_wordpiece_word(const ap_tokenizer *t, ap_str word, ap_ids *out, ap_error *err)
{
    size_t before = out->count, chars = 0, length;
    for (size_t i = 0; i < word.len && chars <= WORD_CHARS_MAX; i += length, chars++)
        (void)ap_utf8_next(word.ptr + i, word.len - i, &length);
    if (chars > WORD_CHARS_MAX)
        return ap_tokenize_unknown(t, word, out, err);
    for (size_t at = 0; at < word.len; at += length) {
        int32_t id = ap_special_match(at ? &t->tails : &t->heads, word.ptr + at, word.ptr + word.len, &length);
        if (id < 0) {
            out->count = before;
            return ap_tokenize_unknown(t, word, out, err);
        }
        AP_TRY(add_id(out, id, err));
    }
    return AP_OK;
}
