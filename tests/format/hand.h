/* hand.h - GGUF files put together number by number, valid or not.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TESTS_HAND_H
#define AP_TESTS_HAND_H

#include <string.h>

#include "support.h"

typedef struct hand {
    ap_buf b;
} hand;

static inline void put(hand *h, const void *bytes, size_t n) { assert_int_equal(ap_buf_add(&h->b, bytes, n, NULL), AP_OK); }
static inline void u32(hand *h, uint32_t v) { put(h, &v, 4); }
static inline void u64(hand *h, uint64_t v) { put(h, &v, 8); }
static inline void str(hand *h, const char *text)
{
    u64(h, strlen(text));
    put(h, text, strlen(text));
}
static inline hand begin(uint32_t version, uint64_t tensors, uint64_t keys)
{
    hand h = {0};
    put(&h, "GGUF", 4);
    u32(&h, version);
    u64(&h, tensors);
    u64(&h, keys);
    return h;
}
/* Dimensions beyond the second are 2^32. */
static inline void tensor(hand *h, const char *name, uint32_t dims, uint64_t d0, uint64_t d1, uint32_t type, uint64_t offset)
{
    str(h, name);
    u32(h, dims);
    u64(h, d0);
    if (dims > 1)
        u64(h, d1);
    for (uint32_t i = 2; i < dims && i < 8; i++)
        u64(h, 1ull << 32);
    u32(h, type);
    u64(h, offset);
}
static inline void pad(hand *h, size_t alignment)
{
    while (h->b.len % alignment)
        put(h, "", 1);
}
/* `data` zeros behind the header's padding to 32. */
static inline void finish(hand *h, size_t data)
{
    pad(h, 32);
    for (size_t i = 0; i < data; i++)
        put(h, "", 1);
}

#endif
