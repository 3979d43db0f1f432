/* vocab.h - the inside of a tokenizer: what vocab.c makes and tokenize.c and stream.c use.
 *
 * Symbols of merges are token ids; SPM has more symbols than tokens, one for each character that occurs in tokens
 * but is none itself (a merge may start from it, no token is written for it).
 *
 * Inside lib/text only.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEXT_VOCAB_H
#define AP_TEXT_VOCAB_H

#include "base/arena.h"
#include "base/map.h"
#include "text/merge.h"
#include "text/normalize.h"
#include "text/special.h"
#include "text/split.h"
#include "text/tokenizer.h"

struct ap_tokenizer {
    ap_vocab_kind kind;
    uint32_t count;
    size_t piece_bytes_max;
    ap_arena arena;    /* pieces, kinds, ends, keys of maps */
    ap_str *pieces;    /* raw bytes */
    uint8_t *kinds;
    int32_t bos, eos, eot, eom, unk, pad;
    bool adds_bos, adds_eos, adds_space, drops_space;
    uint8_t decode; /* AP_DECODE_KEEP_SPACE, … */
    ap_space_prefix space_prefix;
    bool removes_extra_spaces;
    uint8_t *flags;            /* AP_TOKEN_LSTRIP …; NULL: none */
    ap_normalizer *normalizer; /* NULL: none */
    int32_t *ends;
    size_t end_count;

    ap_special control; /* CONTROL and UNKNOWN */
    ap_special defined; /* USER_DEFINED */
    ap_special normalized; /* those of them that are looked for after the normalizer, normalized themselves */
    ap_special heads; /* Unigram: all pieces; WordPiece: those that begin a word, without U+2581 */
    ap_special tails; /* WordPiece: those that continue one */
    const float *scores; /* Unigram */
    float unknown_score; /* Unigram: of a character that no piece is */
    ap_pairs pairs;
    uint32_t bytes[256]; /* the symbol of a byte (BPE) or its BYTE token (SPM); AP_SYMBOL_NONE: absent */

    ap_classes *classes;   /* with split */
    const ap_split *split; /* BPE; NULL: text is one word */
    ap_split own_split;    /* where the source gives expressions */
    ap_map words;          /* BPE that ignores merges: raw bytes of NORMAL tokens to ids */
    ap_map chars;          /* SPM: one character to its symbol, in the vocabulary's spelling (U+2581 for space) */
    uint64_t *joins;       /* SPM: bits; see ap_tokenizer_joins */
    unsigned join_shift;
};

static inline uint64_t ap_tokenizer_join_bit(const ap_tokenizer *tokenizer, uint32_t left, uint32_t right)
{
    return ((uint64_t)left << 21 | right) * 0x9e3779b97f4a7c15u >> tokenizer->join_shift;
}

/* SPM: whether some token may hold the two characters side by side.  False is certain; true may be another pair with
 * the same hash. */
static inline bool ap_tokenizer_joins(const ap_tokenizer *tokenizer, uint32_t left, uint32_t right)
{
    uint64_t bit = ap_tokenizer_join_bit(tokenizer, left, right);
    return tokenizer->joins[bit / 64] >> bit % 64 & 1;
}

/* U+2581, the way SentencePiece writes a space. */
#define AP_SPM_SPACE AP_METASPACE
enum { AP_SPM_SPACE_BYTES = 3 };

/* Writes the letter of byte-level BPE that stands for a byte. */
ap_status ap_alphabet_add(ap_buf *out, uint8_t byte, ap_error *err);

/* The piece that a text begins with, without the space or spaces that do not belong to the text: writes to `room` (of the
 * piece's length) where spaces within it go. */
ap_str ap_tokenizer_first_piece(const ap_tokenizer *tokenizer, ap_str piece, char *room);

/* One unknown token for the text, or a refusal if the vocabulary has none. */
ap_status ap_tokenize_unknown(const ap_tokenizer *tokenizer, ap_str text, ap_ids *out, ap_error *err);

/* The best way through a word; *nodes grows as needed and is used again. */
typedef struct ap_path_node {
    double score;
    uint32_t from; /* where the piece that ends here begins */
    int32_t id;    /* below 0: see pieces.c */
} ap_path_node;
ap_status ap_unigram_word(const ap_tokenizer *tokenizer, ap_str word, ap_path_node **nodes, size_t *room, ap_ids *out,
                          ap_error *err);
/* The longest pieces from the left, or one unknown token for the word. */
ap_status ap_wordpiece_word(const ap_tokenizer *tokenizer, ap_str word, ap_ids *out, ap_error *err);

#endif
