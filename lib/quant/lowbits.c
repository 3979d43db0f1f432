/* lowbits.c - the formats with 2 and 3 bits: Q2_K and Q3_K.
 *
 * Sixteen groups of 16 columns.  Group s = 8n + 2j + p holds columns 128n + 32j + 16p + l, l < 16, whose
 * low bits are bits 2j, 2j + 1 of qs[32n + 16p + l]; so part 4n + j of the panel has groups 2(4n + j)
 * and the next.
 *
 *     Q2_K   (d (scales[s] & 15)) q - dmin (scales[s] >> 4)
 *     Q3_K   (d (scale - 32)) (q - 4), bit 4n + j of hmask[16p + l] the third bit; sixteen scales of 6 bits in
 *            12 bytes: the low four are nibble k / 8 of scales[k % 8], the top two bits 2(k / 4), 2(k / 4) + 1
 *            of scales[8 + k % 4]
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant/block.h"
#include "quant/codes.h"
#include "quant/family.h"
#include "quant/half.h"

/* The low two bits of part s. */
static void pairs_load(const uint8_t qs[64], int s, uint8_t q[32])
{
    for (int l = 0; l < 32; l++)
        q[l] = qs[32 * (s / 4) + l] >> 2 * (s % 4) & 3;
}

static void pairs_store(const uint8_t q[32], int s, uint8_t qs[64])
{
    for (int l = 0; l < 32; l++)
        qs[32 * (s / 4) + l] = (uint8_t)(qs[32 * (s / 4) + l] | (q[l] & 3) << 2 * (s % 4));
}

static void q2_k_decode(const unsigned char *bytes, float *out)
{
    ap_block_q2_k b;
    uint8_t q[32];
    memcpy(&b, bytes, sizeof b);
    float d = ap_f32_of_f16(b.d), dmin = ap_f32_of_f16(b.dmin);
    for (int s = 0; s < 8; s++) {
        pairs_load(b.qs, s, q);
        for (int l = 0; l < 32; l++) {
            uint8_t scale = b.scales[2 * s + l / 16];
            float dw = d * (float)(scale & 15), m = dmin * (float)(scale >> 4);
            out[32 * s + l] = dw * (float)q[l] - m;
        }
    }
}

static void q2_k_pack(const unsigned char *bytes, unsigned lane, unsigned char *panel)
{
    ap_block_q2_k b;
    ap_panel_q2_k *p = (ap_panel_q2_k *)panel;
    uint8_t q[32];
    memcpy(&b, bytes, sizeof b);
    p->d[lane] = b.d;
    p->dmin[lane] = b.dmin;
    for (int s = 0; s < 8; s++) {
        p->part[s].scale_min[0][lane] = b.scales[2 * s];
        p->part[s].scale_min[1][lane] = b.scales[2 * s + 1];
        pairs_load(b.qs, s, q);
        ap_pair_to_panel(q, 0, lane, p->part[s].pairs);
    }
}

static void q2_k_unpack(const unsigned char *panel, unsigned lane, unsigned char *bytes)
{
    ap_block_q2_k b = {0};
    const ap_panel_q2_k *p = (const ap_panel_q2_k *)panel;
    b.d = p->d[lane];
    b.dmin = p->dmin[lane];
    for (int s = 0; s < 8; s++) {
        uint8_t q[32] = {0};
        b.scales[2 * s] = p->part[s].scale_min[0][lane];
        b.scales[2 * s + 1] = p->part[s].scale_min[1][lane];
        ap_pair_of_panel(p->part[s].pairs, 0, lane, q);
        pairs_store(q, s, b.qs);
    }
    memcpy(bytes, &b, sizeof b);
}

static int q3_scale(const uint8_t scales[12], int k)
{
    return (scales[k % 8] >> 4 * (k / 8) & 15) | (scales[8 + k % 4] >> 2 * (k / 4) & 3) << 4;
}

static void q3_part(const ap_block_q3_k *b, int s, uint8_t q[32])
{
    pairs_load(b->qs, s, q);
    for (int l = 0; l < 32; l++)
        q[l] = (uint8_t)(q[l] | (b->hmask[l] >> s & 1) << 2);
}

static void q3_k_decode(const unsigned char *bytes, float *out)
{
    ap_block_q3_k b;
    uint8_t q[32];
    memcpy(&b, bytes, sizeof b);
    for (int s = 0; s < 8; s++) {
        q3_part(&b, s, q);
        for (int l = 0; l < 32; l++) {
            float dw = ap_f32_of_f16(b.d) * (float)(q3_scale(b.scales, 2 * s + l / 16) - 32);
            out[32 * s + l] = dw * (float)(q[l] - 4);
        }
    }
}

static void q3_k_pack(const unsigned char *bytes, unsigned lane, unsigned char *panel)
{
    ap_block_q3_k b;
    ap_panel_q3_k *p = (ap_panel_q3_k *)panel;
    uint8_t q[32];
    memcpy(&b, bytes, sizeof b);
    p->d[lane] = b.d;
    for (int i = 0; i < 4; i++) {
        int top = 0;
        for (int j = 0; j < 4; j++)
            top |= q3_scale(b.scales, 4 * i + j) >> 4 << 2 * j;
        p->scale_top[i][lane] = (uint8_t)top;
    }
    for (int s = 0; s < 8; s++) {
        p->part[s].scale_low[lane] =
            (uint8_t)((q3_scale(b.scales, 2 * s) & 15) | (q3_scale(b.scales, 2 * s + 1) & 15) << 4);
        q3_part(&b, s, q);
        ap_pair_to_panel(q, 0, lane, p->part[s].pairs);
        ap_bit_to_panel(q, 2, lane, p->part[s].high);
    }
}

static void q3_k_unpack(const unsigned char *panel, unsigned lane, unsigned char *bytes)
{
    ap_block_q3_k b = {0};
    const ap_panel_q3_k *p = (const ap_panel_q3_k *)panel;
    b.d = p->d[lane];
    for (int k = 0; k < 16; k++) {
        int low = p->part[k / 2].scale_low[lane] >> 4 * (k % 2) & 15, top = p->scale_top[k / 4][lane] >> 2 * (k % 4) & 3;
        b.scales[k % 8] = (uint8_t)(b.scales[k % 8] | low << 4 * (k / 8));
        b.scales[8 + k % 4] = (uint8_t)(b.scales[8 + k % 4] | top << 2 * (k / 4));
    }
    for (int s = 0; s < 8; s++) {
        uint8_t q[32] = {0};
        ap_pair_of_panel(p->part[s].pairs, 0, lane, q);
        ap_bit_of_panel(p->part[s].high, 2, lane, q);
        pairs_store(q, s, b.qs);
        for (int l = 0; l < 32; l++)
            b.hmask[l] = (uint8_t)(b.hmask[l] | q[l] >> 2 << s);
    }
    memcpy(bytes, &b, sizeof b);
}

const ap_quant_family ap_family_q2_k = {256, 84, sizeof(ap_panel_q2_k), q2_k_decode, q2_k_pack, q2_k_unpack};
const ap_quant_family ap_family_q3_k = {256, 110, sizeof(ap_panel_q3_k), q3_k_decode, q3_k_pack, q3_k_unpack};
