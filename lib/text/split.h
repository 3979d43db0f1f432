/* split.h - pre-tokenizers: text into words, inside which BPE merges.
 *
 * Each is a list of *stages*; a stage has one expression (see the table in split.c).  Matches become pieces and so do
 * the gaps between them, and the next stage cuts each piece further, seeing nothing outside it.  The expressions are
 * matched by hand-written scanners: leftmost alternative first, no regex engine, each byte looked at a bounded
 * number of times.
 *
 * Inside lib/text only.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEXT_SPLIT_H
#define AP_TEXT_SPLIT_H

#include "text/classes.h"

enum { AP_SPLIT_STAGES_MAX = 7 };

/* U+2581, the way SentencePiece writes a space. */
#define AP_METASPACE "\xe2\x96\x81"

/* The length of the match that starts at p < end; 0: none starts here. */
typedef size_t ap_scan(const ap_classes *classes, const char *p, const char *end);

/* The scanners; split.c has their expressions. */
enum {
    AP_SCAN_NONE,
    AP_SCAN_GPT2, AP_SCAN_LLAMA3, AP_SCAN_QWEN2, AP_SCAN_QWEN35, AP_SCAN_SEED_CODER, AP_SCAN_TEKKEN, AP_SCAN_O200K,
    AP_SCAN_DEEPSEEK_V3, AP_SCAN_DEEPSEEK_V3_CJK, AP_SCAN_DEEPSEEK_HAN, AP_SCAN_LLM_LETTERS, AP_SCAN_LLM_PUNCT,
    AP_SCAN_NEWLINE, AP_SCAN_SPACED_LETTERS, AP_SCAN_SPACED_PUNCT, AP_SCAN_TAIL, AP_SCAN_DIGIT, AP_SCAN_DIGITS,
    AP_SCAN_DIGITS_3, AP_SCAN_ASCII_DIGITS_3, AP_SCAN_DIGIT_GROUPS, AP_SCAN_PUNCT, AP_SCAN_PUNCT_RUN,
    AP_SCAN_DEFAULT_PUNCT, AP_SCAN_BLOOM, AP_SCAN_LINES, AP_SCAN_METASPACE
};

typedef struct ap_split {
    const char *names; /* of tokenizer.ggml.pre, separated by spaces */
    uint8_t stages[AP_SPLIT_STAGES_MAX + 1]; /* scanners; AP_SCAN_NONE after the last */
    bool adds_bos;       /* where the file does not say */
    bool ignores_merges; /* a word that is a token is that token, whatever merging would give */
} ap_split;

/* NULL if the name is unknown. */
const ap_split *ap_split_find(ap_str name);
/* The scanner of an expression as files spell it, or AP_SCAN_NONE; and its expression in one spelling. */
unsigned ap_split_scanner(ap_str expression);
const char *ap_split_expression(unsigned scanner);
/* Whether every character of any text is in a match. */
bool ap_split_covers(unsigned scanner);
/* The known pre-tokenizer with the same stages, or NULL. */
const ap_split *ap_split_same(const ap_split *split);
/* All known names into *out, separated by ", ". */
ap_status ap_split_names(ap_buf *out, ap_error *err);

typedef struct ap_splitter {
    const ap_classes *classes;
    const ap_split *split;
    const char *p;
    unsigned depth;
    const char *ends[AP_SPLIT_STAGES_MAX + 1]; /* of the piece being cut, per stage */
    const char *grouped; /* see split.c */
} ap_splitter;

void ap_splitter_begin(ap_splitter *splitter, const ap_classes *classes, const ap_split *split, ap_str text);
/* The next word, never empty; false at the end. */
bool ap_splitter_next(ap_splitter *splitter, ap_str *word);

#endif
