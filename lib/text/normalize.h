/* normalize.h - what a vocabulary does to text before it looks for tokens.
 *
 * A list of steps, each over the whole text.  As strings, in descriptions and in files:
 *
 *     nfc nfd nfkc nfkd       Unicode's normal forms
 *     lowercase               each character on its own
 *     strip_marks             all of M                drop_nonspacing    all of Mn
 *     strip_left strip_right  whitespace at the ends
 *     clean                   BERT: no controls, every whitespace a space
 *     chinese                 BERT: a space on both sides of ideographs
 *     spaces                  every whitespace a space
 *     nmt                     SentencePiece's rule: some controls go, some spaces become U+0020
 *     charsmap                the precompiled map: the longest match at each place
 *     charsmap_graphemes      the same as the package `tokenizers` applies it, by graphemes
 *     prepend:TEXT            nothing before empty text
 *     replace:N:FROMTO        FROM has N bytes
 *     squeeze:TEXT            two spaces or more become TEXT
 *
 * Invalid parts of UTF-8 pass through every step as they are.  Time is linear in the text, whatever it holds.
 *
 * Inside lib/text only.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEXT_NORMALIZE_H
#define AP_TEXT_NORMALIZE_H

#include "base/arena.h"

typedef struct ap_normalizer ap_normalizer;

/* AP_E_UNSUPPORTED names a step that is not known, AP_E_FORMAT what is wrong with the map.  Lives in the arena;
 * everything is copied. */
ap_status ap_normalizer_create(ap_normalizer **out, ap_arena *arena, const ap_str *steps, uint32_t count, ap_str charsmap,
                               ap_error *err);
/* The normalized text, in one of the two buffers or the text itself. */
ap_status ap_normalize(const ap_normalizer *normalizer, ap_str text, ap_buf buffers[2], ap_str *out, ap_error *err);

#endif
