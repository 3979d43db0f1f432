/* kblock.c - the formats with 256 weights per block: Q4_K, Q5_K, Q6_K.
 *
 * Q4_K and Q5_K: eight parts of 32 columns.  Part s has a 6-bit scale and a 6-bit
 * minimum (packed into 12 bytes: 16 times 6 bits, nothing left over, so bytes can
 * replace them and come back); weight = (d scale) q - dmin min.  Parts 2c and 2c+1
 * are the low and high nibbles of qs[32c ..]; bit s of qh[l] is the fifth bit of
 * column l of part s.
 *
 * Q6_K: sixteen groups of 16 columns with a signed 8-bit scale each; weight =
 * (d scale) (q - 32).  Half n of the block, quarter j of the half, column l < 32:
 * the low four bits are nibble j / 2 of ql[64n + 32(j % 2) + l], the top two are
 * bits 2j of qh[32n + l]; its scale is scales[8n + 2j + l / 16].  Quarter j of half
 * n is part 4n + j of the panel.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant/block.h"
#include "quant/codes.h"
#include "quant/encode.h"
#include "quant/family.h"
#include "quant/half.h"

static void scales_unpack(const uint8_t packed[12], uint8_t scale[8], uint8_t min[8])
{
    for (int j = 0; j < 4; j++) {
        scale[j] = packed[j] & 63;
        min[j] = packed[j + 4] & 63;
        scale[j + 4] = (uint8_t)((packed[j + 8] & 15) | packed[j] >> 6 << 4);
        min[j + 4] = (uint8_t)(packed[j + 8] >> 4 | packed[j + 4] >> 6 << 4);
    }
}

static void scales_pack(const uint8_t scale[8], const uint8_t min[8], uint8_t packed[12])
{
    for (int j = 0; j < 4; j++) {
        packed[j] = (uint8_t)(scale[j] | scale[j + 4] >> 4 << 6);
        packed[j + 4] = (uint8_t)(min[j] | min[j + 4] >> 4 << 6);
        packed[j + 8] = (uint8_t)((scale[j + 4] & 15) | min[j + 4] << 4);
    }
}

/* Part s of Q4_K and Q5_K in the file's order. */
static void q4_part(const uint8_t qs[128], int s, uint8_t q[32])
{
    for (int l = 0; l < 32; l++)
        q[l] = qs[32 * (s / 2) + l] >> 4 * (s % 2) & 15;
}

static void q4_part_store(const uint8_t q[32], int s, uint8_t qs[128])
{
    for (int l = 0; l < 32; l++)
        qs[32 * (s / 2) + l] = (uint8_t)(qs[32 * (s / 2) + l] | (q[l] & 15) << 4 * (s % 2));
}

static void q6_part(const ap_block_q6_k *b, int s, uint8_t q[32])
{
    int n = s / 4, j = s % 4;
    for (int l = 0; l < 32; l++)
        q[l] = (uint8_t)((b->ql[64 * n + 32 * (j % 2) + l] >> 4 * (j / 2) & 15) |
                         (b->qh[32 * n + l] >> 2 * j & 3) << 4);
}

static void q6_part_store(const uint8_t q[32], int s, ap_block_q6_k *b)
{
    int n = s / 4, j = s % 4;
    for (int l = 0; l < 32; l++) {
        uint8_t *low = &b->ql[64 * n + 32 * (j % 2) + l], *top = &b->qh[32 * n + l];
        *low = (uint8_t)(*low | (q[l] & 15) << 4 * (j / 2));
        *top = (uint8_t)(*top | q[l] >> 4 << 2 * j);
    }
}

static void min_decode(float d, float dmin, uint8_t scale, uint8_t min, const uint8_t q[32], float *out)
{
    float dw = d * (float)scale, m = dmin * (float)min;
    for (int l = 0; l < 32; l++)
        out[l] = dw * (float)q[l] - m;
}

static void q4_k_decode(const unsigned char *bytes, float *out)
{
    ap_block_q4_k b;
    uint8_t scale[8], min[8], q[32];
    memcpy(&b, bytes, sizeof b);
    scales_unpack(b.scales, scale, min);
    for (int s = 0; s < 8; s++) {
        q4_part(b.qs, s, q);
        min_decode(ap_f32_of_f16(b.d), ap_f32_of_f16(b.dmin), scale[s], min[s], q, out + 32 * s);
    }
}

static void q5_k_decode(const unsigned char *bytes, float *out)
{
    ap_block_q5_k b;
    uint8_t scale[8], min[8], q[32];
    memcpy(&b, bytes, sizeof b);
    scales_unpack(b.scales, scale, min);
    for (int s = 0; s < 8; s++) {
        q4_part(b.qs, s, q);
        for (int l = 0; l < 32; l++)
            q[l] = (uint8_t)(q[l] | (b.qh[l] >> s & 1) << 4);
        min_decode(ap_f32_of_f16(b.d), ap_f32_of_f16(b.dmin), scale[s], min[s], q, out + 32 * s);
    }
}

static void q6_k_decode(const unsigned char *bytes, float *out)
{
    ap_block_q6_k b;
    uint8_t q[32];
    memcpy(&b, bytes, sizeof b);
    for (int s = 0; s < 8; s++) {
        q6_part(&b, s, q);
        for (int l = 0; l < 32; l++)
            out[32 * s + l] = ap_f32_of_f16(b.d) * (float)b.scales[2 * s + l / 16] * (float)(q[l] - 32);
    }
}

static void q4_k_pack(const unsigned char *bytes, unsigned lane, unsigned char *panel)
{
    ap_block_q4_k b;
    ap_panel_q4_k *p = (ap_panel_q4_k *)panel;
    uint8_t scale[8], min[8], q[32];
    memcpy(&b, bytes, sizeof b);
    p->d[lane] = b.d;
    p->dmin[lane] = b.dmin;
    scales_unpack(b.scales, scale, min);
    for (int s = 0; s < 8; s++) {
        p->part[s].scale[lane] = scale[s];
        p->part[s].min[lane] = min[s];
        q4_part(b.qs, s, q);
        ap_nibbles_to_panel(q, lane, p->part[s].code);
    }
}

static void q4_k_unpack(const unsigned char *panel, unsigned lane, unsigned char *bytes)
{
    ap_block_q4_k b = {0};
    const ap_panel_q4_k *p = (const ap_panel_q4_k *)panel;
    uint8_t scale[8], min[8], q[32];
    b.d = p->d[lane];
    b.dmin = p->dmin[lane];
    for (int s = 0; s < 8; s++) {
        scale[s] = p->part[s].scale[lane];
        min[s] = p->part[s].min[lane];
        memset(q, 0, sizeof q);
        ap_nibbles_of_panel(p->part[s].code, lane, q);
        q4_part_store(q, s, b.qs);
    }
    scales_pack(scale, min, b.scales);
    memcpy(bytes, &b, sizeof b);
}

static void q5_k_pack(const unsigned char *bytes, unsigned lane, unsigned char *panel)
{
    ap_block_q5_k b;
    ap_panel_q5_k *p = (ap_panel_q5_k *)panel;
    uint8_t scale[8], min[8], q[32];
    memcpy(&b, bytes, sizeof b);
    p->d[lane] = b.d;
    p->dmin[lane] = b.dmin;
    scales_unpack(b.scales, scale, min);
    for (int s = 0; s < 8; s++) {
        p->part[s].scale[lane] = scale[s];
        p->part[s].min[lane] = min[s];
        q4_part(b.qs, s, q);
        for (int l = 0; l < 32; l++)
            q[l] = (uint8_t)(q[l] | (b.qh[l] >> s & 1) << 4);
        ap_nibbles_to_panel(q, lane, p->part[s].code);
        ap_bit_to_panel(q, 4, lane, p->part[s].high);
    }
}

static void q5_k_unpack(const unsigned char *panel, unsigned lane, unsigned char *bytes)
{
    ap_block_q5_k b = {0};
    const ap_panel_q5_k *p = (const ap_panel_q5_k *)panel;
    uint8_t scale[8], min[8], q[32];
    b.d = p->d[lane];
    b.dmin = p->dmin[lane];
    for (int s = 0; s < 8; s++) {
        scale[s] = p->part[s].scale[lane];
        min[s] = p->part[s].min[lane];
        memset(q, 0, sizeof q);
        ap_nibbles_of_panel(p->part[s].code, lane, q);
        ap_bit_of_panel(p->part[s].high, 4, lane, q);
        q4_part_store(q, s, b.qs);
        for (int l = 0; l < 32; l++)
            b.qh[l] = (uint8_t)(b.qh[l] | q[l] >> 4 << s);
    }
    scales_pack(scale, min, b.scales);
    memcpy(bytes, &b, sizeof b);
}

static void q6_k_pack(const unsigned char *bytes, unsigned lane, unsigned char *panel)
{
    ap_block_q6_k b;
    ap_panel_q6_k *p = (ap_panel_q6_k *)panel;
    uint8_t q[32];
    memcpy(&b, bytes, sizeof b);
    p->d[lane] = b.d;
    for (int s = 0; s < 8; s++) {
        p->part[s].scale[0][lane] = b.scales[2 * s];
        p->part[s].scale[1][lane] = b.scales[2 * s + 1];
        q6_part(&b, s, q);
        ap_nibbles_to_panel(q, lane, p->part[s].code);
        ap_pair_to_panel(q, 4, lane, p->part[s].high);
    }
}

static void q6_k_unpack(const unsigned char *panel, unsigned lane, unsigned char *bytes)
{
    ap_block_q6_k b = {0};
    const ap_panel_q6_k *p = (const ap_panel_q6_k *)panel;
    uint8_t q[32];
    b.d = p->d[lane];
    for (int s = 0; s < 8; s++) {
        b.scales[2 * s] = p->part[s].scale[0][lane];
        b.scales[2 * s + 1] = p->part[s].scale[1][lane];
        memset(q, 0, sizeof q);
        ap_nibbles_of_panel(p->part[s].code, lane, q);
        ap_pair_of_panel(p->part[s].high, 4, lane, q);
        q6_part_store(q, s, &b);
    }
    memcpy(bytes, &b, sizeof b);
}

/* ---- Encoding ---- */

static void q4_k_encode(const float *x, const float *w, unsigned char *bytes)
{
    ap_block_q4_k b = {0};
    uint8_t scale[8], min[8], q[256];
    ap_fit_super_min(15, x, w, &b.d, &b.dmin, scale, min, q);
    scales_pack(scale, min, b.scales);
    for (int s = 0; s < 8; s++)
        q4_part_store(q + 32 * s, s, b.qs);
    memcpy(bytes, &b, sizeof b);
}

static void q5_k_encode(const float *x, const float *w, unsigned char *bytes)
{
    ap_block_q5_k b = {0};
    uint8_t scale[8], min[8], q[256];
    ap_fit_super_min(31, x, w, &b.d, &b.dmin, scale, min, q);
    scales_pack(scale, min, b.scales);
    for (int s = 0; s < 8; s++) {
        q4_part_store(q + 32 * s, s, b.qs);
        for (int l = 0; l < 32; l++)
            b.qh[l] = (uint8_t)(b.qh[l] | q[32 * s + l] >> 4 << s);
    }
    memcpy(bytes, &b, sizeof b);
}

static void q6_k_encode(const float *x, const float *w, unsigned char *bytes)
{
    ap_block_q6_k b = {0};
    int scale[16], code[256];
    ap_fit_super(&ap_levels_6, 16, -128, 127, x, w, &b.d, scale, code);
    for (int s = 0; s < 8; s++) {
        uint8_t q[32];
        for (int l = 0; l < 32; l++)
            q[l] = (uint8_t)(code[32 * s + l] + 32);
        q6_part_store(q, s, &b);
        b.scales[2 * s] = (int8_t)scale[2 * s];
        b.scales[2 * s + 1] = (int8_t)scale[2 * s + 1];
    }
    memcpy(bytes, &b, sizeof b);
}

const ap_quant_family ap_family_q4_k = {256, 144, sizeof(ap_panel_q4_k), q4_k_decode, q4_k_pack, q4_k_unpack, q4_k_encode};
const ap_quant_family ap_family_q5_k = {256, 176, sizeof(ap_panel_q5_k), q5_k_decode, q5_k_pack, q5_k_unpack, q5_k_encode};
const ap_quant_family ap_family_q6_k = {256, 210, sizeof(ap_panel_q6_k), q6_k_decode, q6_k_pack, q6_k_unpack, q6_k_encode};
