/* alloc.h - memory from the heap, in a form that tests can make fail.
 *
 * All of lib/ and app/ allocates here (arenas do too).  Sizes are products of
 * checked factors: ap_alloc_array refuses a product that does not fit.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_BASE_ALLOC_H
#define AP_BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* NULL when memory ends or a test says so.  A size of 0 gives a unique pointer. */
void *ap_alloc(size_t bytes);
void *ap_alloc_zero(size_t count, size_t bytes);
void *ap_alloc_array(size_t count, size_t bytes);
void *ap_realloc(void *pointer, size_t bytes);
void *ap_realloc_array(void *pointer, size_t count, size_t bytes);
/* Aligned to 64 bytes, for vectors; freed by ap_free like all else. */
void *ap_alloc_aligned(size_t bytes);
char *ap_strndup(const char *text, size_t length);
void ap_free(void *pointer);

/* *out = a * b; false if it does not fit. */
static inline bool ap_mul_size(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool ap_add_size(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }
static inline bool ap_mul_u64(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool ap_add_u64(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_add_overflow(a, b, out); }

/* Tests only.  The n-th allocation from now fails (1 = the next), and all after
 * it too if `for_ever`; 0 switches off. */
void ap_alloc_fail_at(uint64_t n, bool for_ever);
/* Allocations since the last ap_alloc_fail_at (unless that switched off), and the bytes they asked for, freed or
 * not: what was held at any time is at most that. */
uint64_t ap_alloc_count(void);
uint64_t ap_alloc_bytes(void);

#endif
