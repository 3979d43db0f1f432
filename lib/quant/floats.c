/* floats.c - F32, F16 and BF16: a block is one element, a panel column 16 of them.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant/block.h"
#include "quant/family.h"
#include "quant/half.h"

static void f32_decode(const unsigned char *block, float *out) { memcpy(out, block, 4); }

static void f16_decode(const unsigned char *block, float *out)
{
    uint16_t half;
    memcpy(&half, block, 2);
    *out = ap_f32_of_f16(half);
}

static void bf16_decode(const unsigned char *block, float *out)
{
    uint16_t half;
    memcpy(&half, block, 2);
    *out = ap_f32_of_bf16(half);
}

static void pack4(const unsigned char *block, unsigned lane, unsigned char *panel)
{
    memcpy(panel + 4 * lane, block, 4);
}

static void unpack4(const unsigned char *panel, unsigned lane, unsigned char *block)
{
    memcpy(block, panel + 4 * lane, 4);
}

static void pack2(const unsigned char *block, unsigned lane, unsigned char *panel)
{
    memcpy(panel + 2 * lane, block, 2);
}

static void unpack2(const unsigned char *panel, unsigned lane, unsigned char *block)
{
    memcpy(block, panel + 2 * lane, 2);
}

static void f32_encode(const float *x, const float *w, unsigned char *block)
{
    (void)w;
    memcpy(block, x, 4);
}

static void f16_encode(const float *x, const float *w, unsigned char *block)
{
    (void)w;
    memcpy(block, &(uint16_t){ap_f16_of_f32(*x)}, 2);
}

static void bf16_encode(const float *x, const float *w, unsigned char *block)
{
    (void)w;
    memcpy(block, &(uint16_t){ap_bf16_of_f32(*x)}, 2);
}

const ap_quant_family ap_family_f32 = {1, 4, 4 * AP_PANEL_ROWS, f32_decode, pack4, unpack4, f32_encode};
const ap_quant_family ap_family_f16 = {1, 2, 2 * AP_PANEL_ROWS, f16_decode, pack2, unpack2, f16_encode};
const ap_quant_family ap_family_bf16 = {1, 2, 2 * AP_PANEL_ROWS, bf16_decode, pack2, unpack2, bf16_encode};
