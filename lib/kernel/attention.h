/* attention.h - keys and values in pages, and attention over them.
 *
 * A page holds AP_PAGE_TOKENS consecutive positions of one sequence for all
 * layers; for each layer first all keys, then all values:
 *
 *     K[kv head][group of 16 keys][dimension][16 keys]      lanes are keys
 *     V[kv head][key][dimension]                            lanes are dimensions
 *
 * as f16 (rounded to nearest even), f32 or q8: 8-bit codes, with a scale (bf16) for each 32 dimensions of a head, the last
 * of them perhaps fewer, that follow the codes of a group of keys, and those of all values of the head:
 *
 *     K codes[dimension][16 keys], scales[block][16 keys]       V codes[key][dimension] …, scales[key][block] …
 *
 * A code times its scale is a float exactly.  A group is cleared before its first key is written, so no lane is
 * ever read that was not written.
 *
 * The law (section 5): scores are chains over the dimensions, values are chains over
 * the keys, both ascending; the walk is cut at multiples of AP_SEGMENT_TOKENS absolute
 * positions; in a segment the largest score is taken first, then exp, sum (key i in partial sum i
 * mod 16) and values; segments are merged in ascending order.  A key outside of the window is
 * skipped; a segment without a visible key does nothing.
 *
 * Pages belong to the caller.  Different tokens may be written, and different queries
 * attended, by different threads; a query reads what was written before.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_KERNEL_ATTENTION_H
#define AP_KERNEL_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

#include "aperto.h"

enum {
    AP_PAGE_TOKENS = 32, /* a short chat wastes little, the table stays small */
    AP_KEY_GROUP = 16,
    AP_SEGMENT_TOKENS = 1024,
    AP_HEAD_WIDTH_MAX = 256,
    AP_KV_BLOCK = 32 /* dimensions with one scale, in q8 */
};

typedef struct ap_kv_layout {
    ap_kv_type type;
    uint32_t layer_count, kv_head_count, head_width; /* head_width is even */
    size_t head_bytes;  /* keys (or values) of one KV head in one page */
    size_t layer_bytes; /* keys and values of one layer */
    size_t page_bytes;
} ap_kv_layout;

static inline uint32_t ap_kv_block_count(uint32_t head_width) { return (head_width + AP_KV_BLOCK - 1) / AP_KV_BLOCK; }

ap_kv_layout ap_kv_layout_of(ap_kv_type type, uint32_t layer_count, uint32_t kv_head_count, uint32_t head_width);

/* Clears the keys of the group of `position` in all layers; before its first token is written. */
void ap_kv_clear_group(const ap_kv_layout *layout, void *page, uint32_t position);

/* Stores one token's keys and values ([kv head][dimension]) at its place in its page. */
void ap_kv_write(const ap_kv_layout *layout, void *page, uint32_t layer, uint32_t position, const float *k,
                 const float *v);

/* Consecutive positions of one sequence, one KV head and all query heads that share it. */
typedef struct ap_attend_job {
    const ap_kv_layout *layout;
    void *const *pages; /* page i holds positions i * AP_PAGE_TOKENS … */
    uint32_t layer, kv_head;
    uint32_t position, count; /* queries at position … position + count - 1; each sees its own key and all before */
    uint32_t end;             /* above 0: and those behind it, up to here; then no slopes */
    uint32_t group;           /* query heads of this KV head */
    uint32_t window;          /* a query sees its own key and so many before that there are `window`; 0: all.  With `end`:
                               * window / 2 keys on either side */
    float scale;              /* of the scores */
    float cap;                /* of the scaled scores: cap * tanh(score / cap); 0: none */
    const float *slopes;      /* of each head of the group: the score falls by so much per position (ALiBi); or NULL */
    const float *sinks;       /* of each: the score of a key that has no value; or NULL */
    const float *q;           /* query t, head g at q + t * stride + g * head_width */
    float *out;               /* likewise; not q */
    size_t stride;
} ap_attend_job;

typedef void ap_attend_fn(const ap_attend_job *job);

typedef struct ap_attention_ops {
    ap_attend_fn *attend[AP_KV_TYPE_COUNT]; /* by ap_kv_type */
} ap_attention_ops;

#endif
