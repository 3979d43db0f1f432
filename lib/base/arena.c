/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include "base/alloc.h"

enum { CHUNK_BYTES_MIN = 16 * 1024, CHUNK_BYTES_MAX = 4 * 1024 * 1024, ALIGN = 16 };

struct ap_arena_chunk {
    ap_arena_chunk *next;
    size_t room;
    size_t used;
    size_t pad; /* keeps `data` aligned to 16 bytes */
    unsigned char data[];
};

void *ap_arena_alloc(ap_arena *arena, size_t bytes)
{
    if (bytes > SIZE_MAX - ALIGN - sizeof(ap_arena_chunk))
        return NULL;
    bytes = (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (bytes == 0)
        bytes = ALIGN;
    if (arena->limit_bytes && (bytes > arena->limit_bytes || arena->used_bytes > arena->limit_bytes - bytes))
        return NULL;
    ap_arena_chunk *chunk = arena->chunks;
    if (!chunk || chunk->room - chunk->used < bytes) {
        /* Doubling keeps the number of chunks small, the cap keeps the waste small. */
        size_t room = chunk ? chunk->room * 2 : CHUNK_BYTES_MIN;
        if (room > CHUNK_BYTES_MAX)
            room = CHUNK_BYTES_MAX;
        if (room < bytes)
            room = bytes;
        chunk = ap_alloc(sizeof *chunk + room);
        if (!chunk)
            return NULL;
        *chunk = (ap_arena_chunk){.next = arena->chunks, .room = room};
        arena->chunks = chunk;
    }
    void *result = chunk->data + chunk->used;
    chunk->used += bytes;
    arena->used_bytes += bytes;
    return result;
}

void *ap_arena_zero(ap_arena *arena, size_t count, size_t bytes)
{
    size_t total;
    if (!ap_mul_size(count, bytes, &total))
        return NULL;
    void *result = ap_arena_alloc(arena, total);
    if (result)
        memset(result, 0, total);
    return result;
}

char *ap_arena_copy(ap_arena *arena, const void *bytes, size_t count)
{
    char *copy = count < SIZE_MAX ? ap_arena_alloc(arena, count + 1) : NULL;
    if (copy) {
        if (count)
            memcpy(copy, bytes, count);
        copy[count] = 0;
    }
    return copy;
}

static void free_chunks(ap_arena_chunk *chunk)
{
    while (chunk) {
        ap_arena_chunk *next = chunk->next;
        ap_free(chunk);
        chunk = next;
    }
}

void ap_arena_reset(ap_arena *arena)
{
    if (arena->chunks) {
        free_chunks(arena->chunks->next);
        arena->chunks->next = NULL;
        arena->chunks->used = 0;
    }
    arena->used_bytes = 0;
}

void ap_arena_deinit(ap_arena *arena)
{
    free_chunks(arena->chunks);
    *arena = (ap_arena){.limit_bytes = arena->limit_bytes};
}
