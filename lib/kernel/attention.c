/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/attention.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "quant/half.h"

ap_kv_layout ap_kv_layout_of(ap_kv_type type, uint32_t layer_count, uint32_t kv_head_count, uint32_t head_width)
{
    size_t token_bytes = type == AP_KV_F32   ? head_width * sizeof(float)
                         : type == AP_KV_F16 ? head_width * sizeof(uint16_t)
                                             : head_width + ap_kv_block_count(head_width) * sizeof(uint16_t);
    ap_kv_layout layout = {
        .type = type, .layer_count = layer_count, .kv_head_count = kv_head_count, .head_width = head_width};
    layout.head_bytes = AP_PAGE_TOKENS * token_bytes;
    layout.layer_bytes = 2 * kv_head_count * layout.head_bytes;
    layout.page_bytes = layer_count * layout.layer_bytes;
    return layout;
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

/* Floats or halves, `stride` apart. */
static void put(ap_kv_type type, unsigned char *at, size_t stride, const float *x, uint32_t width)
{
    for (uint32_t d = 0; d < width; d++)
        if (type == AP_KV_F32) {
            memcpy(at + d * stride * sizeof *x, &x[d], sizeof *x);
        } else {
            uint16_t half = ap_f16_of_f32(x[d]);
            memcpy(at + d * stride * sizeof half, &half, sizeof half);
        }
}

/* At most 32 floats to codes `stride` apart; gives back the scale as bf16: up from largest / 127, so that codes stay
 * within 127.  One that is no number makes the scale NaN; what is below 2^-100 becomes zero. */
static uint16_t put_block(int8_t *code, size_t stride, const float *x, uint32_t count)
{
    float largest = 0, scale = 0, inverse = 0;
    bool is_finite = true;
    for (uint32_t i = 0; i < count; i++) {
        float a = fabsf(x[i]);
        is_finite = is_finite && a <= FLT_MAX;
        largest = a > largest ? a : largest;
    }
    uint16_t bits = 0;
    if (is_finite && largest >= 0x1p-100f) {
        bits = (uint16_t)((ap_bits_of_float(largest / 127.0f) + 0xffffu) >> 16);
        scale = ap_f32_of_bf16(bits);
        inverse = 1.0f / scale;
    }
    /* Adding 1.5 * 2^23 rounds to the nearest integer, ties to even. */
    for (uint32_t i = 0; i < count; i++)
        code[i * stride] = is_finite ? (int8_t)((x[i] * inverse + 0x1.8p23f) - 0x1.8p23f) : 0;
    return is_finite ? bits : 0x7fc0;
}

static void put_codes(int8_t *code, size_t stride, uint16_t *scale, size_t scale_stride, const float *x, uint32_t width)
{
    for (uint32_t d = 0; d < width; d += AP_KV_BLOCK) {
        uint32_t count = width - d < AP_KV_BLOCK ? width - d : AP_KV_BLOCK;
        scale[d / AP_KV_BLOCK * scale_stride] = put_block(code + d * stride, stride, x + d, count);
    }
}

void ap_kv_write(const ap_kv_layout *layout, void *page, uint32_t layer, uint32_t position, const float *k,
                 const float *v)
{
    uint32_t slot = position % AP_PAGE_TOKENS, lane = slot % AP_KEY_GROUP, width = layout->head_width;
    size_t item = layout->type == AP_KV_F32 ? sizeof(float) : sizeof(uint16_t);
    size_t group_bytes = layout->head_bytes / AP_PAGE_TOKENS * AP_KEY_GROUP;
    unsigned char *keys = (unsigned char *)page + layer * layout->layer_bytes;
    unsigned char *values = keys + layout->kv_head_count * layout->head_bytes;
    for (uint32_t h = 0; h < layout->kv_head_count; h++, k += width, v += width) {
        unsigned char *group = keys + h * layout->head_bytes + slot / AP_KEY_GROUP * group_bytes;
        unsigned char *rows = values + h * layout->head_bytes;
        if (layout->type == AP_KV_Q8) {
            uint16_t *key_scales = (uint16_t *)(void *)(group + (size_t)AP_KEY_GROUP * width);
            uint16_t *value_scales = (uint16_t *)(void *)(rows + (size_t)AP_PAGE_TOKENS * width);
            put_codes((int8_t *)group + lane, AP_KEY_GROUP, key_scales + lane, AP_KEY_GROUP, k, width);
            put_codes((int8_t *)rows + slot * width, 1, value_scales + slot * ap_kv_block_count(width), 1, v, width);
        } else {
            put(layout->type, group + lane * item, AP_KEY_GROUP, k, width);
            put(layout->type, rows + slot * width * item, 1, v, width);
        }
    }
}
