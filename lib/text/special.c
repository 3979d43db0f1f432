/* SPDX-License-Identifier: Apache-2.0 */
#include "text/special.h"

#include "base/alloc.h"

static ap_status new_node(ap_special *special, uint8_t byte, uint32_t *out, ap_error *err)
{
    if (special->count >= special->room) {
        uint32_t room = special->room ? special->room * 2 : 256;
        if (room > 1u << 27)
            return ap_fail(err, AP_E_LIMIT, "the special tokens are too long together");
        ap_special_node *nodes = ap_realloc_array(special->nodes, room, sizeof *nodes);
        if (!nodes)
            return ap_fail_nomem(err, room * sizeof *nodes);
        special->nodes = nodes;
        special->room = room;
        if (special->count == 0)
            special->nodes[special->count++] = (ap_special_node){.id = -1}; /* 0 means none */
    }
    *out = special->count;
    special->nodes[special->count++] = (ap_special_node){.id = -1, .byte = byte};
    return AP_OK;
}

uint32_t ap_special_step(const ap_special *special, uint32_t node, uint8_t byte)
{
    uint32_t child = special->nodes[node].child;
    while (child && special->nodes[child].byte != byte)
        child = special->nodes[child].sibling;
    return child;
}

ap_status ap_special_add(ap_special *special, ap_str text, int32_t id, int32_t *old, ap_error *err)
{
    ap_assert(text.len > 0);
    const uint8_t *p = (const uint8_t *)text.ptr;
    uint32_t node = special->first[p[0]];
    if (!node) {
        AP_TRY(new_node(special, p[0], &node, err));
        special->first[p[0]] = node;
    }
    for (size_t i = 1; i < text.len; i++) {
        uint32_t child = ap_special_step(special, node, p[i]);
        if (!child) {
            AP_TRY(new_node(special, p[i], &child, err));
            special->nodes[child].sibling = special->nodes[node].child;
            special->nodes[node].child = child;
        }
        node = child;
    }
    *old = special->nodes[node].id;
    if (*old < 0)
        special->nodes[node].id = id;
    return AP_OK;
}

int32_t ap_special_match(const ap_special *special, const char *p, const char *end, size_t *length)
{
    if (p >= end)
        return -1;
    uint32_t node = special->first[(uint8_t)*p];
    int32_t id = -1;
    for (const char *q = p + 1; node; q++) {
        if (special->nodes[node].id >= 0) {
            id = special->nodes[node].id;
            *length = (size_t)(q - p);
        }
        node = q < end ? ap_special_step(special, node, (uint8_t)*q) : 0;
    }
    return id;
}

int32_t ap_special_find(const ap_special *special, ap_str text)
{
    size_t length = 0;
    int32_t id = text.len ? ap_special_match(special, text.ptr, text.ptr + text.len, &length) : -1;
    return length == text.len ? id : -1;
}

void ap_special_deinit(ap_special *special)
{
    ap_free(special->nodes);
    *special = (ap_special){0};
}
