/* map.h - from bytes to a 32-bit number: token text to id, tensor name to index.
 *
 * Open addressing with a hash keyed at random per process (nothing iterates,
 * so the order never shows).  Keys are borrowed: they must outlive the map.  A map of n keys takes about 24 n
 * bytes.  Not thread-safe while growing; any number of readers afterwards.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_BASE_MAP_H
#define AP_BASE_MAP_H

#include "base/str.h"

typedef struct ap_map_slot ap_map_slot;
typedef struct ap_map {
    ap_map_slot *slots;
    uint32_t room; /* a power of two, or 0 */
    uint32_t count;
} ap_map;

/* Room for `count` keys without growing.  AP_E_NOMEM. */
ap_status ap_map_reserve(ap_map *map, uint32_t count, ap_error *err);
/* Adds key -> value.  AP_E_STATE if the key is there already (the old value
 * stays; *old receives it when not NULL).  AP_E_NOMEM. */
ap_status ap_map_add(ap_map *map, ap_str key, uint32_t value, uint32_t *old, ap_error *err);
/* Adds or replaces. */
ap_status ap_map_set(ap_map *map, ap_str key, uint32_t value, ap_error *err);
/* False if absent. */
bool ap_map_get(const ap_map *map, ap_str key, uint32_t *value);
void ap_map_deinit(ap_map *map);

#endif
