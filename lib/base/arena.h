/* arena.h - many small allocations of one lifetime, freed by one call.
 *
 * Lifetimes have names: process, model, request, step.  An arena may carry a
 * limit; beyond it an allocation answers NULL just as when memory ends.  Zero
 * is a valid empty arena without a limit.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_BASE_ARENA_H
#define AP_BASE_ARENA_H

#include "base/str.h"

typedef struct ap_arena_chunk ap_arena_chunk;
typedef struct ap_arena {
    ap_arena_chunk *chunks; /* newest first */
    size_t used_bytes;      /* handed out since the last reset */
    size_t limit_bytes;     /* 0: none */
} ap_arena;

/* Aligned to 16 bytes; NULL when memory or the limit ends. */
void *ap_arena_alloc(ap_arena *arena, size_t bytes);
void *ap_arena_zero(ap_arena *arena, size_t count, size_t bytes);
/* A NUL-terminated copy. */
char *ap_arena_copy(ap_arena *arena, const void *bytes, size_t count);
/* Forgets everything and keeps one chunk for the next round. */
void ap_arena_reset(ap_arena *arena);
void ap_arena_deinit(ap_arena *arena);

#endif
