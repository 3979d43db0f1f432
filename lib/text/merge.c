/* SPDX-License-Identifier: Apache-2.0 */
#include "text/merge.h"

#include <sodium.h>
#include <string.h>

#include "base/alloc.h"

enum {
    FAN = 16,
    LEVELS_MAX = 8, /* 16^8 = 2^32 */
    SMALL = 64      /* symbols the first allocation has room for */
};

#define RANK_NONE UINT32_MAX

static uint32_t slot_of(const ap_pairs *pairs, uint32_t left, uint32_t right)
{
    uint64_t x = ((uint64_t)left << 32 | right) + pairs->key;
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdu;
    x ^= x >> 29;
    x *= 0xc4ceb9fe1a85ec53u;
    return (uint32_t)(x >> 32) & pairs->mask;
}

ap_status ap_pairs_init(ap_pairs *pairs, uint32_t count, ap_error *err)
{
    if (count > UINT32_MAX / 4)
        return ap_fail(err, AP_E_LIMIT, "a table of %u pairs is too large", count);
    uint32_t room = 16;
    while (room / 2 < count)
        room *= 2;
    pairs->slots = ap_alloc_array(room, sizeof *pairs->slots);
    if (!pairs->slots)
        return ap_fail_nomem(err, room * sizeof *pairs->slots);
    for (uint32_t i = 0; i < room; i++)
        pairs->slots[i] = (ap_pair){AP_SYMBOL_NONE, AP_SYMBOL_NONE, RANK_NONE, AP_SYMBOL_NONE};
    pairs->mask = room - 1;
    randombytes_buf(&pairs->key, sizeof pairs->key);
    return AP_OK;
}

const ap_pair *ap_pairs_add(ap_pairs *pairs, ap_pair pair)
{
    uint32_t i = slot_of(pairs, pair.left, pair.right);
    for (; pairs->slots[i].left != AP_SYMBOL_NONE; i = (i + 1) & pairs->mask)
        if (pairs->slots[i].left == pair.left && pairs->slots[i].right == pair.right)
            return &pairs->slots[i];
    pairs->slots[i] = pair;
    return NULL;
}

void ap_pairs_deinit(ap_pairs *pairs)
{
    ap_free(pairs->slots);
    *pairs = (ap_pairs){0};
}

/* An empty slot answers RANK_NONE, so a miss needs no case of its own. */
static inline const ap_pair *find(const ap_pairs *pairs, uint32_t left, uint32_t right)
{
    uint32_t i = slot_of(pairs, left, right);
    for (;; i = (i + 1) & pairs->mask) {
        const ap_pair *slot = &pairs->slots[i];
        if ((slot->left == left && slot->right == right) || slot->left == AP_SYMBOL_NONE)
            return slot;
    }
}

/* The memory is symbols | spans | results | ranks, level by level, each level rounded up to FAN. */
static size_t words_of(uint32_t count)
{
    size_t level = ((size_t)count + FAN - 1) / FAN * FAN, total = 3 * level + level;
    while (level > FAN) {
        level = (level / FAN + FAN - 1) / FAN * FAN;
        total += level;
    }
    return total;
}

uint32_t *ap_merger_begin(ap_merger *merger, uint32_t count, size_t *bytes)
{
    if (count <= merger->room && merger->memory)
        return merger->memory;
    uint32_t room = merger->room ? merger->room : SMALL;
    while (room < count)
        room = room > UINT32_MAX / 2 ? count : room * 2;
    *bytes = words_of(room) * sizeof(uint32_t);
    uint32_t *memory = ap_alloc(*bytes); /* nothing is kept between words */
    if (!memory)
        return NULL;
    ap_free(merger->memory);
    merger->memory = memory;
    merger->room = room;
    return memory;
}

static inline uint32_t least(const uint32_t *p)
{
    uint32_t m = p[0];
    for (unsigned i = 1; i < FAN; i++)
        m = p[i] < m ? p[i] : m;
    return m;
}

/* Tells the levels above that rank[0][at] has changed. */
static inline void raise_change(uint32_t *const *rank, unsigned levels, uint32_t at)
{
    for (unsigned k = 0; k + 1 < levels; k++) {
        uint32_t block = at / FAN, m = least(rank[k] + (size_t)block * FAN);
        if (rank[k + 1][block] == m)
            return;
        rank[k + 1][block] = m;
        at = block;
    }
}

uint32_t ap_merger_run(ap_merger *merger, const ap_pairs *pairs, uint32_t count)
{
    if (count < 2)
        return count;
    size_t level = ((size_t)count + FAN - 1) / FAN * FAN;
    uint32_t *symbol = merger->memory;
    /* A symbol that covers positions i to i + s - 1 has span[i] = span[i + s - 1] = s: steps both ways. */
    uint32_t *span = symbol + level, *result = span + level, *rank[LEVELS_MAX];
    unsigned levels = 1;
    rank[0] = result + level;
    for (uint32_t i = 0; i + 1 < count; i++) {
        const ap_pair *pair = find(pairs, symbol[i], symbol[i + 1]);
        rank[0][i] = pair->rank;
        result[i] = pair->result;
        span[i] = 1;
    }
    span[count - 1] = 1;
    for (size_t i = count - 1; i < level; i++)
        rank[0][i] = RANK_NONE;
    for (; level > FAN; levels++) {
        uint32_t *above = rank[levels - 1] + level;
        size_t blocks = level / FAN, whole = (blocks + FAN - 1) / FAN * FAN;
        for (size_t i = 0; i < blocks; i++)
            above[i] = least(rank[levels - 1] + i * FAN);
        for (size_t i = blocks; i < whole; i++)
            above[i] = RANK_NONE;
        rank[levels] = above;
        level = whole;
    }

    uint32_t best;
    while ((best = least(rank[levels - 1])) != RANK_NONE) {
        uint32_t i = 0;
        for (unsigned k = levels; k-- > 0;) {
            const uint32_t *p = rank[k] + (size_t)i * FAN;
            uint32_t j = 0;
            while (p[j] != best)
                j++;
            i = i * FAN + j;
        }
        uint32_t right = i + span[i], whole = span[i] + span[right];
        symbol[i] = result[i];
        span[i] = span[i + whole - 1] = whole;
        rank[0][right] = RANK_NONE;
        raise_change(rank, levels, right);
        rank[0][i] = RANK_NONE;
        if (i + whole < count) {
            const ap_pair *pair = find(pairs, symbol[i], symbol[i + whole]);
            rank[0][i] = pair->rank;
            result[i] = pair->result;
        }
        raise_change(rank, levels, i);
        if (i > 0) {
            uint32_t before = i - span[i - 1];
            const ap_pair *pair = find(pairs, symbol[before], symbol[i]);
            rank[0][before] = pair->rank;
            result[before] = pair->result;
            raise_change(rank, levels, before);
        }
    }

    uint32_t left = 0;
    for (uint32_t i = 0; i < count; i += span[i])
        symbol[left++] = symbol[i];
    return left;
}

void ap_merger_deinit(ap_merger *merger)
{
    ap_free(merger->memory);
    *merger = (ap_merger){0};
}
