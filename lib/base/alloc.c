/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { VECTOR_ALIGN = 64 };

static atomic_uint_fast64_t alloc_seen;
static atomic_uint_fast64_t alloc_fail_from; /* 0: never */
static atomic_bool alloc_fail_for_ever;
static atomic_uint_fast64_t alloc_bytes;

static bool must_fail(size_t bytes)
{
    if (bytes > PTRDIFF_MAX)
        return true; /* no object is so large, and checkers of memory take the question for a fault */
    uint64_t from = atomic_load_explicit(&alloc_fail_from, memory_order_relaxed);
    if (from == 0)
        return false;
    atomic_fetch_add(&alloc_bytes, bytes);
    uint64_t n = atomic_fetch_add(&alloc_seen, 1) + 1;
    return n == from || (n > from && atomic_load(&alloc_fail_for_ever));
}

void ap_alloc_fail_at(uint64_t n, bool for_ever)
{
    atomic_store(&alloc_seen, 0);
    atomic_store(&alloc_bytes, 0);
    atomic_store(&alloc_fail_for_ever, for_ever);
    atomic_store(&alloc_fail_from, n);
}

uint64_t ap_alloc_count(void) { return atomic_load(&alloc_seen); }
uint64_t ap_alloc_bytes(void) { return atomic_load(&alloc_bytes); }

void *ap_alloc(size_t bytes) { return must_fail(bytes) ? NULL : malloc(bytes ? bytes : 1); }

void *ap_alloc_zero(size_t count, size_t bytes)
{
    size_t total;
    if (!ap_mul_size(count, bytes, &total) || must_fail(total))
        return NULL;
    return calloc(count ? count : 1, bytes ? bytes : 1);
}

void *ap_alloc_array(size_t count, size_t bytes)
{
    size_t total;
    return ap_mul_size(count, bytes, &total) ? ap_alloc(total) : NULL;
}

void *ap_realloc(void *pointer, size_t bytes) { return must_fail(bytes) ? NULL : realloc(pointer, bytes ? bytes : 1); }

void *ap_realloc_array(void *pointer, size_t count, size_t bytes)
{
    size_t total;
    return ap_mul_size(count, bytes, &total) ? ap_realloc(pointer, total) : NULL;
}

void *ap_alloc_aligned(size_t bytes)
{
    if (must_fail(bytes) || bytes > SIZE_MAX - VECTOR_ALIGN)
        return NULL;
    size_t whole = (bytes + VECTOR_ALIGN - 1) / VECTOR_ALIGN * VECTOR_ALIGN;
    return aligned_alloc(VECTOR_ALIGN, whole ? whole : VECTOR_ALIGN);
}

char *ap_strndup(const char *text, size_t length)
{
    char *copy = length < SIZE_MAX ? ap_alloc(length + 1) : NULL;
    if (copy) {
        if (length)
            memcpy(copy, text, length);
        copy[length] = 0;
    }
    return copy;
}

void ap_free(void *pointer) { free(pointer); }
