/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"

#include <sodium.h>

#include "base/alloc.h"

struct ap_map_slot {
    const char *key; /* NULL: empty */
    uint32_t length;
    uint32_t value;
    uint32_t hash;
};

/* Keys come from strangers' files, so the hash is keyed: a file cannot be made
 * whose names all fall into one slot. */
static uint32_t hash_of(ap_str key)
{
    static unsigned char secret[crypto_shorthash_KEYBYTES];
    static bool is_drawn;
    if (!__atomic_load_n(&is_drawn, __ATOMIC_ACQUIRE)) {
        /* A race draws twice before any map exists; maps are made by one thread first. */
        randombytes_buf(secret, sizeof secret);
        __atomic_store_n(&is_drawn, true, __ATOMIC_RELEASE);
    }
    unsigned char out[crypto_shorthash_BYTES];
    static const char nothing[1];
    crypto_shorthash(out, (const unsigned char *)(key.ptr ? key.ptr : nothing), key.len, secret);
    uint32_t hash;
    memcpy(&hash, out, sizeof hash);
    return hash;
}

static ap_map_slot *find_slot(const ap_map *map, ap_str key, uint32_t hash)
{
    uint32_t mask = map->room - 1;
    for (uint32_t i = hash & mask;; i = (i + 1) & mask) {
        ap_map_slot *slot = &map->slots[i];
        if (!slot->key)
            return slot;
        if (slot->hash == hash && ap_str_equal((ap_str){slot->key, slot->length}, key))
            return slot;
    }
}

static ap_status grow(ap_map *map, uint32_t room, ap_error *err)
{
    ap_map_slot *slots = ap_alloc_zero(room, sizeof *slots);
    if (!slots)
        return ap_fail_nomem(err, (size_t)room * sizeof *slots);
    ap_map bigger = {.slots = slots, .room = room, .count = map->count};
    for (uint32_t i = 0; i < map->room; i++) {
        const ap_map_slot *old = &map->slots[i];
        if (old->key)
            *find_slot(&bigger, (ap_str){old->key, old->length}, old->hash) = *old;
    }
    ap_free(map->slots);
    *map = bigger;
    return AP_OK;
}

ap_status ap_map_reserve(ap_map *map, uint32_t count, ap_error *err)
{
    if (count > UINT32_MAX / 4)
        return ap_fail(err, AP_E_LIMIT, "a table of %u keys is too large", count);
    uint32_t room = 16;
    while (room / 4 * 3 < count)
        room *= 2;
    return room > map->room ? grow(map, room, err) : AP_OK;
}

static ap_status put(ap_map *map, ap_str key, uint32_t value, bool replace, uint32_t *old, ap_error *err)
{
    if (key.len > UINT32_MAX)
        return ap_fail(err, AP_E_LIMIT, "a key of %zu bytes is too long", key.len);
    AP_TRY(ap_map_reserve(map, map->count + 1, err));
    uint32_t hash = hash_of(key);
    ap_map_slot *slot = find_slot(map, key, hash);
    if (slot->key) {
        if (old)
            *old = slot->value;
        if (!replace)
            return ap_fail(err, AP_E_STATE, "'%.*s' is there twice", (int)(key.len < 200 ? key.len : 200), key.ptr);
        slot->value = value;
        return AP_OK;
    }
    *slot = (ap_map_slot){.key = key.ptr ? key.ptr : "", .length = (uint32_t)key.len, .value = value, .hash = hash};
    map->count++;
    return AP_OK;
}

ap_status ap_map_add(ap_map *map, ap_str key, uint32_t value, uint32_t *old, ap_error *err)
{
    return put(map, key, value, false, old, err);
}

ap_status ap_map_set(ap_map *map, ap_str key, uint32_t value, ap_error *err)
{
    return put(map, key, value, true, NULL, err);
}

bool ap_map_get(const ap_map *map, ap_str key, uint32_t *value)
{
    if (map->count == 0)
        return false;
    const ap_map_slot *slot = find_slot(map, key, hash_of(key));
    if (!slot->key)
        return false;
    *value = slot->value;
    return true;
}

void ap_map_deinit(ap_map *map)
{
    ap_free(map->slots);
    *map = (ap_map){0};
}
