/* special.h - a set of texts that are one token each, found in running text.
 *
 * A trie over bytes.  At one position the longest text wins; the caller walks the positions from left to right, so
 * the work is at most AP_SPECIAL_BYTES_MAX steps per byte, whatever texts a file brings (an Aho-Corasick automaton
 * has the same bound once it must answer leftmost-longest), and one table look-up where no text can start.
 *
 * Inside lib/text only.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEXT_SPECIAL_H
#define AP_TEXT_SPECIAL_H

#include "base/str.h"

typedef struct ap_special_node {
    uint32_t child, sibling; /* 0: none */
    int32_t id;              /* -1: no text ends here */
    uint8_t byte;
} ap_special_node;

/* Zero is a valid empty set. */
typedef struct ap_special {
    ap_special_node *nodes;
    uint32_t count, room;
    uint32_t first[256]; /* the node for a first byte; 0: none */
} ap_special;

/* Adds a text of at least one byte; *old is the id that has it already, or -1.  AP_E_NOMEM, AP_E_LIMIT. */
ap_status ap_special_add(ap_special *special, ap_str text, int32_t id, int32_t *old, ap_error *err);
/* The longest text that starts at `p` and ends by `end`: its id and length, or -1. */
int32_t ap_special_match(const ap_special *special, const char *p, const char *end, size_t *length);
/* The text that is exactly `text`, or -1. */
int32_t ap_special_find(const ap_special *special, ap_str text);
/* One byte on from a node (first[byte] is the first); 0: no text goes on so. */
uint32_t ap_special_step(const ap_special *special, uint32_t node, uint8_t byte);
void ap_special_deinit(ap_special *special);

#endif
