/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/attention.h"

#include <string.h>

#include "quant/half.h"

ap_kv_layout ap_kv_layout_of(ap_kv_type type, uint32_t layer_count, uint32_t kv_head_count, uint32_t head_width)
{
    size_t item = type == AP_KV_F32 ? sizeof(float) : sizeof(uint16_t);
    ap_kv_layout layout = {
        .type = type, .layer_count = layer_count, .kv_head_count = kv_head_count, .head_width = head_width};
    layout.head_bytes = (size_t)AP_PAGE_TOKENS * head_width * item;
    layout.layer_bytes = 2 * kv_head_count * layout.head_bytes;
    layout.page_bytes = layer_count * layout.layer_bytes;
    return layout;
}

static void put(const ap_kv_layout *layout, unsigned char *at, float value)
{
    if (layout->type == AP_KV_F32) {
        memcpy(at, &value, sizeof value);
    } else {
        uint16_t half = ap_f16_of_f32(value);
        memcpy(at, &half, sizeof half);
    }
}

void ap_kv_clear_group(const ap_kv_layout *layout, void *page, uint32_t position)
{
    size_t group_bytes = layout->head_bytes / AP_PAGE_TOKENS * AP_KEY_GROUP;
    size_t group = position % AP_PAGE_TOKENS / AP_KEY_GROUP;
    for (uint32_t layer = 0; layer < layout->layer_count; layer++)
        for (uint32_t h = 0; h < layout->kv_head_count; h++)
            memset((unsigned char *)page + layer * layout->layer_bytes + h * layout->head_bytes + group * group_bytes, 0,
                   group_bytes);
}

void ap_kv_write(const ap_kv_layout *layout, void *page, uint32_t layer, uint32_t position, const float *k,
                 const float *v)
{
    uint32_t slot = position % AP_PAGE_TOKENS, width = layout->head_width;
    size_t item = layout->type == AP_KV_F32 ? sizeof(float) : sizeof(uint16_t);
    size_t group_bytes = AP_KEY_GROUP * width * item;
    unsigned char *keys = (unsigned char *)page + layer * layout->layer_bytes;
    unsigned char *values = keys + layout->kv_head_count * layout->head_bytes;
    for (uint32_t h = 0; h < layout->kv_head_count; h++) {
        unsigned char *group = keys + h * layout->head_bytes + slot / AP_KEY_GROUP * group_bytes;
        for (uint32_t d = 0; d < width; d++)
            put(layout, group + (d * AP_KEY_GROUP + slot % AP_KEY_GROUP) * item, k[h * width + d]);
        unsigned char *row = values + h * layout->head_bytes + slot * width * item;
        for (uint32_t d = 0; d < width; d++)
            put(layout, row + d * item, v[h * width + d]);
    }
}
