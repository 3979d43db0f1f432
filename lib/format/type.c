/* SPDX-License-Identifier: Apache-2.0 */
#include "format/type.h"

#include <stddef.h>

static const ap_type_info types[] = {
#define X(number, name, elems, bytes) {AP_TYPE_##name, #name, elems, bytes},
    AP_TYPE_LIST(X)
#undef X
};

const ap_type_info *ap_type_info_of(uint32_t id)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if ((uint32_t)types[i].type == id)
            return &types[i];
    return NULL;
}

const char *ap_type_removed(uint32_t id)
{
    switch (id) {
#define X(number, name) \
    case number: return #name;
        AP_TYPE_REMOVED_LIST(X)
#undef X
    default: return NULL;
    }
}
