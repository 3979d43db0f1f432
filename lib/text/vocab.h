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
    bool adds_bos, adds_eos, adds_space;
    int32_t *ends;
    size_t end_count;

    ap_special control; /* CONTROL and UNKNOWN */
    ap_special defined; /* USER_DEFINED */
    ap_pairs pairs;
    uint32_t bytes[256]; /* the symbol of a byte (BPE) or its BYTE token (SPM); AP_SYMBOL_NONE: absent */

    ap_classes *classes;   /* BPE */
    const ap_split *split; /* BPE */
    ap_map words;          /* BPE that ignores merges: raw bytes of NORMAL tokens to ids */
    ap_map chars;          /* SPM: one character to its symbol, in the vocabulary's spelling (U+2581 for space) */
};

/* U+2581, the way SentencePiece writes a space. */
#define AP_SPM_SPACE "\xe2\x96\x81"
enum { AP_SPM_SPACE_BYTES = 3 };

#endif
