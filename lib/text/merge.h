/* merge.h - the heart of BPE: merge the best adjacent pair until none is left.
 *
 * A *symbol* is a number; a table says for a pair of symbols its rank (lower is merged first, the leftmost of equal
 * ones first) and what it becomes.  A tree over the positions, 16 wide, keeps the least rank below each node:
 * finding and updating walk one path of it.  A word of 16 symbols is one scan, ten million symbols take six levels,
 * and neighbours share cache lines, so a long run costs little more per byte than a short one.  (A heap of pairs
 * needs twice the memory, leaves dead entries behind, and its cache misses grow with the run.)
 *
 * Inside lib/text only.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEXT_MERGE_H
#define AP_TEXT_MERGE_H

#include "base/error.h"

#define AP_SYMBOL_NONE UINT32_MAX

typedef struct ap_pair {
    uint32_t left, right; /* left AP_SYMBOL_NONE: empty slot */
    uint32_t rank, result;
} ap_pair;

/* Open addressing, at most half full, hashed with a random key: strangers choose the pairs. */
typedef struct ap_pairs {
    ap_pair *slots;
    uint32_t mask;
    uint64_t key;
} ap_pairs;

/* Room for `count` pairs. */
ap_status ap_pairs_init(ap_pairs *pairs, uint32_t count, ap_error *err);
/* NULL if it was added, else the pair that is there already. */
const ap_pair *ap_pairs_add(ap_pairs *pairs, ap_pair pair);
void ap_pairs_deinit(ap_pairs *pairs);

/* Working memory; grows as needed and is used again for the next word.  Zero is valid. */
typedef struct ap_merger {
    uint32_t *memory;
    uint32_t room;
} ap_merger;

/* Room for `count` symbols; returns where to write them, NULL when memory ends (then *bytes is what was wanted). */
uint32_t *ap_merger_begin(ap_merger *merger, uint32_t count, size_t *bytes);
/* Merges the symbols written there in place and returns how many are left. */
uint32_t ap_merger_run(ap_merger *merger, const ap_pairs *pairs, uint32_t count);
void ap_merger_deinit(ap_merger *merger);

#endif
