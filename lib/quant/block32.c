/* block32.c - the formats with 32 weights per block: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.
 *
 * With e the column in the block, q the unsigned code (4 bits, or 5 with bit e of
 * qh on top; the first 16 columns are the low nibbles of qs, the others the high):
 *
 *     Q4_0  (q - 8) d      Q5_0  (q - 16) d     Q8_0  q d, q signed
 *     Q4_1  q d + m        Q5_1  q d + m        product and sum rounded apart
 *
 * A file's nibble order is the panel's: byte 4v + c of qs holds columns 4v + c and
 * 16 + 4v + c, so packing 4 bits moves words and changes no byte.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant/block.h"
#include "quant/codes.h"
#include "quant/encode.h"
#include "quant/family.h"
#include "quant/half.h"

static int nibble(const uint8_t qs[16], int e) { return e < 16 ? qs[e] & 15 : qs[e - 16] >> 4; }

static int fifth(const uint8_t qh[4], int e) { return (qh[e / 8] >> e % 8 & 1) << 4; }

static void q4_0_decode(const unsigned char *bytes, float *out)
{
    ap_block_q4_0 b;
    memcpy(&b, bytes, sizeof b);
    float d = ap_f32_of_f16(b.d);
    for (int e = 0; e < 32; e++)
        out[e] = (float)(nibble(b.qs, e) - 8) * d;
}

static void q4_1_decode(const unsigned char *bytes, float *out)
{
    ap_block_q4_1 b;
    memcpy(&b, bytes, sizeof b);
    float d = ap_f32_of_f16(b.d), m = ap_f32_of_f16(b.m);
    for (int e = 0; e < 32; e++)
        out[e] = (float)nibble(b.qs, e) * d + m;
}

static void q5_0_decode(const unsigned char *bytes, float *out)
{
    ap_block_q5_0 b;
    memcpy(&b, bytes, sizeof b);
    float d = ap_f32_of_f16(b.d);
    for (int e = 0; e < 32; e++)
        out[e] = (float)((nibble(b.qs, e) | fifth(b.qh, e)) - 16) * d;
}

static void q5_1_decode(const unsigned char *bytes, float *out)
{
    ap_block_q5_1 b;
    memcpy(&b, bytes, sizeof b);
    float d = ap_f32_of_f16(b.d), m = ap_f32_of_f16(b.m);
    for (int e = 0; e < 32; e++)
        out[e] = (float)(nibble(b.qs, e) | fifth(b.qh, e)) * d + m;
}

static void q8_0_decode(const unsigned char *bytes, float *out)
{
    ap_block_q8_0 b;
    memcpy(&b, bytes, sizeof b);
    float d = ap_f32_of_f16(b.d);
    for (int e = 0; e < 32; e++)
        out[e] = (float)b.qs[e] * d;
}

/* Column 4g + c has its bit at bit g of byte c of the lane. */
static void pack_fifth(const uint8_t qh[4], unsigned lane, uint8_t high[64])
{
    for (int c = 0; c < 4; c++) {
        int byte = 0;
        for (int g = 0; g < 8; g++)
            byte |= (qh[g / 2] >> (4 * (g % 2) + c) & 1) << g;
        high[4 * lane + c] = (uint8_t)byte;
    }
}

static void unpack_fifth(const uint8_t high[64], unsigned lane, uint8_t qh[4])
{
    memset(qh, 0, 4);
    for (int c = 0; c < 4; c++)
        for (int g = 0; g < 8; g++)
            qh[g / 2] = (uint8_t)(qh[g / 2] | (high[4 * lane + c] >> g & 1) << (4 * (g % 2) + c));
}

static void q4_0_pack(const unsigned char *bytes, unsigned lane, unsigned char *panel)
{
    ap_block_q4_0 b;
    ap_panel_q4_0 *p = (ap_panel_q4_0 *)panel;
    memcpy(&b, bytes, sizeof b);
    p->d[lane] = b.d;
    ap_nibbles_pack(b.qs, lane, p->code);
}

static void q4_0_unpack(const unsigned char *panel, unsigned lane, unsigned char *bytes)
{
    ap_block_q4_0 b;
    const ap_panel_q4_0 *p = (const ap_panel_q4_0 *)panel;
    b.d = p->d[lane];
    ap_nibbles_unpack(p->code, lane, b.qs);
    memcpy(bytes, &b, sizeof b);
}

static void q4_1_pack(const unsigned char *bytes, unsigned lane, unsigned char *panel)
{
    ap_block_q4_1 b;
    ap_panel_q4_1 *p = (ap_panel_q4_1 *)panel;
    memcpy(&b, bytes, sizeof b);
    p->d[lane] = b.d;
    p->m[lane] = b.m;
    ap_nibbles_pack(b.qs, lane, p->code);
}

static void q4_1_unpack(const unsigned char *panel, unsigned lane, unsigned char *bytes)
{
    ap_block_q4_1 b;
    const ap_panel_q4_1 *p = (const ap_panel_q4_1 *)panel;
    b.d = p->d[lane];
    b.m = p->m[lane];
    ap_nibbles_unpack(p->code, lane, b.qs);
    memcpy(bytes, &b, sizeof b);
}

static void q5_0_pack(const unsigned char *bytes, unsigned lane, unsigned char *panel)
{
    ap_block_q5_0 b;
    ap_panel_q5_0 *p = (ap_panel_q5_0 *)panel;
    memcpy(&b, bytes, sizeof b);
    p->d[lane] = b.d;
    pack_fifth(b.qh, lane, p->high);
    ap_nibbles_pack(b.qs, lane, p->code);
}

static void q5_0_unpack(const unsigned char *panel, unsigned lane, unsigned char *bytes)
{
    ap_block_q5_0 b;
    const ap_panel_q5_0 *p = (const ap_panel_q5_0 *)panel;
    b.d = p->d[lane];
    unpack_fifth(p->high, lane, b.qh);
    ap_nibbles_unpack(p->code, lane, b.qs);
    memcpy(bytes, &b, sizeof b);
}

static void q5_1_pack(const unsigned char *bytes, unsigned lane, unsigned char *panel)
{
    ap_block_q5_1 b;
    ap_panel_q5_1 *p = (ap_panel_q5_1 *)panel;
    memcpy(&b, bytes, sizeof b);
    p->d[lane] = b.d;
    p->m[lane] = b.m;
    pack_fifth(b.qh, lane, p->high);
    ap_nibbles_pack(b.qs, lane, p->code);
}

static void q5_1_unpack(const unsigned char *panel, unsigned lane, unsigned char *bytes)
{
    ap_block_q5_1 b;
    const ap_panel_q5_1 *p = (const ap_panel_q5_1 *)panel;
    b.d = p->d[lane];
    b.m = p->m[lane];
    unpack_fifth(p->high, lane, b.qh);
    ap_nibbles_unpack(p->code, lane, b.qs);
    memcpy(bytes, &b, sizeof b);
}

static void q8_0_pack(const unsigned char *bytes, unsigned lane, unsigned char *panel)
{
    ap_block_q8_0 b;
    ap_panel_q8_0 *p = (ap_panel_q8_0 *)panel;
    memcpy(&b, bytes, sizeof b);
    p->d[lane] = b.d;
    for (int g = 0; g < 8; g++)
        memcpy(&p->code[g][4 * lane], &b.qs[4 * g], 4);
}

static void q8_0_unpack(const unsigned char *panel, unsigned lane, unsigned char *bytes)
{
    ap_block_q8_0 b;
    const ap_panel_q8_0 *p = (const ap_panel_q8_0 *)panel;
    b.d = p->d[lane];
    for (int g = 0; g < 8; g++)
        memcpy(&b.qs[4 * g], &p->code[g][4 * lane], 4);
    memcpy(bytes, &b, sizeof b);
}

/* ---- Encoding ---- */

/* Codes 0 to 2^bits - 1 in column order, into qs and qh (NULL: 4 bits). */
static void store_codes(const uint8_t q[32], uint8_t qs[16], uint8_t *qh)
{
    for (int e = 0; e < 16; e++)
        qs[e] = (uint8_t)((q[e] & 15) | (q[e + 16] & 15) << 4);
    for (int e = 0; qh && e < 32; e++)
        qh[e / 8] = (uint8_t)((e % 8 ? qh[e / 8] : 0) | (q[e] >> 4) << e % 8);
}

/* Returns the scale; codes count from zero. */
static uint16_t encode_signed(const ap_levels *levels, const float *x, const float *w, uint8_t q[32])
{
    uint16_t half = ap_scale_f16(ap_fit_scale(levels, x, w, 32));
    float d = ap_f32_of_f16(half), inverse = d != 0 ? 1 / d : 0;
    for (int e = 0; e < 32; e++)
        q[e] = (uint8_t)(ap_level_nearest(levels, x[e] * inverse) - levels->low);
    return half;
}

static void encode_min(int top, const float *x, const float *w, uint16_t *d, uint16_t *m, uint8_t q[32])
{
    float scale, min;
    ap_levels levels = {NULL, 0, top};
    ap_fit_scale_min(top, x, w, 32, &scale, &min);
    *d = ap_scale_f16(scale);
    *m = ap_scale_f16(-min);
    float step = ap_f32_of_f16(*d), low = ap_f32_of_f16(*m), inverse = step > 0 ? 1 / step : 0;
    for (int e = 0; e < 32; e++)
        q[e] = (uint8_t)ap_level_nearest(&levels, (x[e] - low) * inverse);
}

static void q4_0_encode(const float *x, const float *w, unsigned char *bytes)
{
    ap_block_q4_0 b;
    uint8_t q[32];
    b.d = encode_signed(&ap_levels_4, x, w, q);
    store_codes(q, b.qs, NULL);
    memcpy(bytes, &b, sizeof b);
}

static void q4_1_encode(const float *x, const float *w, unsigned char *bytes)
{
    ap_block_q4_1 b;
    uint8_t q[32];
    encode_min(15, x, w, &b.d, &b.m, q);
    store_codes(q, b.qs, NULL);
    memcpy(bytes, &b, sizeof b);
}

static void q5_0_encode(const float *x, const float *w, unsigned char *bytes)
{
    ap_block_q5_0 b;
    uint8_t q[32];
    b.d = encode_signed(&ap_levels_5, x, w, q);
    store_codes(q, b.qs, b.qh);
    memcpy(bytes, &b, sizeof b);
}

static void q5_1_encode(const float *x, const float *w, unsigned char *bytes)
{
    ap_block_q5_1 b;
    uint8_t q[32];
    encode_min(31, x, w, &b.d, &b.m, q);
    store_codes(q, b.qs, b.qh);
    memcpy(bytes, &b, sizeof b);
}

static void q8_0_encode(const float *x, const float *w, unsigned char *bytes)
{
    ap_block_q8_0 b;
    b.d = ap_scale_f16(ap_fit_scale(&ap_levels_8, x, w, 32));
    float d = ap_f32_of_f16(b.d), inverse = d != 0 ? 1 / d : 0;
    for (int e = 0; e < 32; e++)
        b.qs[e] = (int8_t)ap_level_nearest(&ap_levels_8, x[e] * inverse);
    memcpy(bytes, &b, sizeof b);
}

const ap_quant_family ap_family_q4_0 = {32, 18, sizeof(ap_panel_q4_0), q4_0_decode, q4_0_pack, q4_0_unpack, q4_0_encode};
const ap_quant_family ap_family_q4_1 = {32, 20, sizeof(ap_panel_q4_1), q4_1_decode, q4_1_pack, q4_1_unpack, q4_1_encode};
const ap_quant_family ap_family_q5_0 = {32, 22, sizeof(ap_panel_q5_0), q5_0_decode, q5_0_pack, q5_0_unpack, q5_0_encode};
const ap_quant_family ap_family_q5_1 = {32, 24, sizeof(ap_panel_q5_1), q5_1_decode, q5_1_pack, q5_1_unpack, q5_1_encode};
const ap_quant_family ap_family_q8_0 = {32, 34, sizeof(ap_panel_q8_0), q8_0_decode, q8_0_pack, q8_0_unpack, q8_0_encode};
