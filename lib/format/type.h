/* type.h - the kinds of weight a model file can hold, by the number GGUF gives them.
 *
 * A tensor is rows of whole blocks; a block of `block_elems` weights takes
 * `block_bytes` bytes.  This table says only how large things are.  What the
 * bytes mean is the room quant's, which supports a part of this list; knowing
 * the others lets a reader check their sizes and refuse them by name.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_FORMAT_TYPE_H
#define AP_FORMAT_TYPE_H

#include <stdint.h>

/* X(number, NAME, weights per block, bytes per block) */
#define AP_TYPE_LIST(X)     \
    X(0, F32, 1, 4)         \
    X(1, F16, 1, 2)         \
    X(2, Q4_0, 32, 18)      \
    X(3, Q4_1, 32, 20)      \
    X(6, Q5_0, 32, 22)      \
    X(7, Q5_1, 32, 24)      \
    X(8, Q8_0, 32, 34)      \
    X(9, Q8_1, 32, 36)      \
    X(10, Q2_K, 256, 84)    \
    X(11, Q3_K, 256, 110)   \
    X(12, Q4_K, 256, 144)   \
    X(13, Q5_K, 256, 176)   \
    X(14, Q6_K, 256, 210)   \
    X(15, Q8_K, 256, 292)   \
    X(16, IQ2_XXS, 256, 66) \
    X(17, IQ2_XS, 256, 74)  \
    X(18, IQ3_XXS, 256, 98) \
    X(19, IQ1_S, 256, 50)   \
    X(20, IQ4_NL, 32, 18)   \
    X(21, IQ3_S, 256, 110)  \
    X(22, IQ2_S, 256, 82)   \
    X(23, IQ4_XS, 256, 136) \
    X(24, I8, 1, 1)         \
    X(25, I16, 1, 2)        \
    X(26, I32, 1, 4)        \
    X(27, I64, 1, 8)        \
    X(28, F64, 1, 8)        \
    X(29, IQ1_M, 256, 56)   \
    X(30, BF16, 1, 2)       \
    X(34, TQ1_0, 256, 54)   \
    X(35, TQ2_0, 256, 66)   \
    X(39, MXFP4, 32, 17)    \
    X(40, NVFP4, 64, 36)    \
    X(41, Q1_0, 128, 18)    \
    X(42, Q2_0, 64, 18)

/* Given up, so that their sizes need not be known: X(number, NAME) */
#define AP_TYPE_REMOVED_LIST(X) \
    X(4, Q4_2)                  \
    X(5, Q4_3)                  \
    X(31, Q4_0_4_4)             \
    X(32, Q4_0_4_8)             \
    X(33, Q4_0_8_8)             \
    X(36, IQ4_NL_4_4)           \
    X(37, IQ4_NL_4_8)           \
    X(38, IQ4_NL_8_8)

typedef enum ap_type {
#define X(number, name, elems, bytes) AP_TYPE_##name = number,
    AP_TYPE_LIST(X)
#undef X
} ap_type;

typedef struct ap_type_info {
    ap_type type;
    const char *name; /* "Q4_K" */
    uint32_t block_elems;
    uint32_t block_bytes;
} ap_type_info;

/* NULL for a number that stands for no type (never used, or removed from GGUF). */
const ap_type_info *ap_type_info_of(uint32_t id);

/* The name of a type that GGUF once had and gave up; NULL for any other number. */
const char *ap_type_removed(uint32_t id);

#endif
