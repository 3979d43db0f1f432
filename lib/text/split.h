/* split.h - pre-tokenizers: text into words, inside which BPE merges.
 *
 * Each is a list of *stages*; a stage has one expression (see the table in split.c) and a *mode* that says what becomes
 * of matches and of the gaps between them: usually both are pieces.  The next stage cuts each piece further, seeing
 * nothing outside it.  The expressions of known families are matched by hand-written scanners: leftmost alternative
 * first, each byte looked at a bounded number of times.  Others go to regex.h, where an invalid part of UTF-8 is a
 * border and a piece of its own.
 *
 * As a string, in descriptions and in files, a stage is its expression, after `(?#MODE)` if not both are pieces:
 * "drop matches", "drop gaps", "glue before" (a match joins the gap before it), "glue after" (the gap after it joins a
 * match), "join" (neighbouring matches are one).
 *
 * Inside lib/text only.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEXT_SPLIT_H
#define AP_TEXT_SPLIT_H

#include "text/classes.h"
#include "text/regex.h"

enum { AP_SPLIT_STAGES_MAX = 7 };

typedef enum ap_split_mode {
    AP_SPLIT_BOTH,
    AP_SPLIT_DROP_MATCHES,
    AP_SPLIT_DROP_GAPS,
    AP_SPLIT_GLUE_BEFORE,
    AP_SPLIT_GLUE_AFTER,
    AP_SPLIT_JOIN
} ap_split_mode;

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
    AP_SCAN_DIGITS_3, AP_SCAN_ASCII_DIGITS_3, AP_SCAN_DIGIT_GROUPS, AP_SCAN_PUNCT, AP_SCAN_PUNCT_RUN, AP_SCAN_FALCON_PUNCT,
    AP_SCAN_DEFAULT_PUNCT, AP_SCAN_BLOOM, AP_SCAN_LINES, AP_SCAN_METASPACE, AP_SCAN_SPACE, AP_SCAN_WORDS, AP_SCAN_BYTE_DIGITS,
    AP_SCAN_REGEX /* no scanner: the stage has an expression of its own */
};

/* What a stage does that is not one of a known pre-tokenizer. */
typedef struct ap_split_how {
    ap_split_mode mode;
    ap_regex *regex; /* of AP_SCAN_REGEX */
} ap_split_how;

typedef struct ap_split {
    const char *names; /* of tokenizer.ggml.pre, separated by spaces */
    uint8_t stages[AP_SPLIT_STAGES_MAX + 1]; /* scanners; AP_SCAN_NONE after the last */
    ap_split_how how[AP_SPLIT_STAGES_MAX];
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
/* Takes the `(?#MODE)` off an expression. */
ap_split_mode ap_split_take_mode(ap_str *expression);
/* "(?#MODE)", or "". */
const char *ap_split_mode_text(ap_split_mode mode);
/* Adds a stage, as a string, behind those there are.  AP_E_LIMIT, AP_E_UNSUPPORTED. */
ap_status ap_split_add(ap_split *split, ap_str stage, ap_error *err);
void ap_split_deinit(ap_split *split);
/* The known pre-tokenizer with the same stages that treats merges alike, or NULL. */
const ap_split *ap_split_same(const ap_split *split);
/* All known names into *out, separated by ", ". */
ap_status ap_split_names(ap_buf *out, ap_error *err);

typedef struct ap_splitter {
    const ap_classes *classes;
    const ap_split *split;
    ap_regex_run *run;
    const char *p;
    unsigned depth;
    const char *ends[AP_SPLIT_STAGES_MAX + 1];   /* of the piece being cut, per stage */
    const char *begins[AP_SPLIT_STAGES_MAX + 1]; /* and where it begins */
    struct {
        const char *begin, *end; /* the match found last; begin at the piece's end: none */
    } found[AP_SPLIT_STAGES_MAX];
    const char *valid_to[AP_SPLIT_STAGES_MAX];   /* of an expression's text: up to where it is known to be valid UTF-8 */
    const char *grouped; /* see split.c */
    ap_status status;    /* of ap_splitter_next */
    ap_error *err;
} ap_splitter;

/* `run` is needed where a stage is an expression of its own. */
void ap_splitter_begin(ap_splitter *splitter, const ap_classes *classes, const ap_split *split, ap_str text, ap_regex_run *run,
                       ap_error *err);
/* The next word, never empty; false at the end, or if splitter->status says that it went wrong. */
bool ap_splitter_next(ap_splitter *splitter, ap_str *word);

#endif
