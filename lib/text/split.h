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

enum { AP_SPLIT_STAGES_MAX = 5 };

/* The length of the match that starts at p < end; 0: none starts here. */
typedef size_t ap_split_stage(const ap_classes *classes, const char *p, const char *end);

typedef struct ap_split {
    const char *names; /* of tokenizer.ggml.pre, separated by spaces */
    ap_split_stage *stages[AP_SPLIT_STAGES_MAX + 1]; /* NULL after the last */
    bool adds_bos;       /* where the file does not say */
    bool ignores_merges; /* a word that is a token is that token, whatever merging would give */
} ap_split;

/* NULL if the name is unknown. */
const ap_split *ap_split_find(ap_str name);
/* All known names into *out, separated by ", ". */
ap_status ap_split_names(ap_buf *out, ap_error *err);

typedef struct ap_splitter {
    const ap_classes *classes;
    const ap_split *split;
    const char *p;
    unsigned depth;
    const char *ends[AP_SPLIT_STAGES_MAX + 1]; /* of the piece being cut, per stage */
} ap_splitter;

void ap_splitter_begin(ap_splitter *splitter, const ap_classes *classes, const ap_split *split, ap_str text);
/* The next word, never empty; false at the end. */
bool ap_splitter_next(ap_splitter *splitter, ap_str *word);

#endif
