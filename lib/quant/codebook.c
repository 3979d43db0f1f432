/* codebook.c - formats whose 4-bit codes index a table: IQ4_NL, IQ4_XS, MXFP4; and Q8_K.
 *
 * Nibbles lie as in Q4_0 (block32.c).  T is ap_codes_iq4, M is ap_codes_mxfp4 (block.h):
 *
 *     IQ4_NL   d T[q]
 *     IQ4_XS   (d (scale - 32)) T[q]; part s of 8 has a 6-bit scale: nibble s % 2 of scales_l[s / 2], and bits 2s, 2s + 1
 *              of scales_h on top
 *     MXFP4    2^(e - 128) M[q]
 *     Q8_K     d q, q signed; bsums are kept and not read
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant/block.h"
#include "quant/codes.h"
#include "quant/encode.h"
#include "quant/family.h"
#include "quant/half.h"

static int nibble(const uint8_t qs[16], int e) { return e < 16 ? qs[e] & 15 : qs[e - 16] >> 4; }

static void iq4_nl_decode(const unsigned char *bytes, float *out)
{
    ap_block_iq4_nl b;
    memcpy(&b, bytes, sizeof b);
    for (int e = 0; e < 32; e++)
        out[e] = ap_f32_of_f16(b.d) * (float)ap_codes_iq4[nibble(b.qs, e)];
}

static void iq4_nl_pack(const unsigned char *bytes, unsigned lane, unsigned char *panel)
{
    ap_block_iq4_nl b;
    ap_panel_iq4_nl *p = (ap_panel_iq4_nl *)panel;
    memcpy(&b, bytes, sizeof b);
    p->d[lane] = b.d;
    ap_nibbles_pack(b.qs, lane, p->code);
}

static void iq4_nl_unpack(const unsigned char *panel, unsigned lane, unsigned char *bytes)
{
    ap_block_iq4_nl b;
    const ap_panel_iq4_nl *p = (const ap_panel_iq4_nl *)panel;
    b.d = p->d[lane];
    ap_nibbles_unpack(p->code, lane, b.qs);
    memcpy(bytes, &b, sizeof b);
}

static int iq4_xs_scale(const ap_block_iq4_xs *b, int s)
{
    return (b->scales_l[s / 2] >> 4 * (s % 2) & 15) | (b->scales_h >> 2 * s & 3) << 4;
}

static void iq4_xs_decode(const unsigned char *bytes, float *out)
{
    ap_block_iq4_xs b;
    memcpy(&b, bytes, sizeof b);
    for (int s = 0; s < 8; s++) {
        float dw = ap_f32_of_f16(b.d) * (float)(iq4_xs_scale(&b, s) - 32);
        for (int e = 0; e < 32; e++)
            out[32 * s + e] = dw * (float)ap_codes_iq4[nibble(b.qs + 16 * s, e)];
    }
}

static void iq4_xs_pack(const unsigned char *bytes, unsigned lane, unsigned char *panel)
{
    ap_block_iq4_xs b;
    ap_panel_iq4_xs *p = (ap_panel_iq4_xs *)panel;
    memcpy(&b, bytes, sizeof b);
    p->d[lane] = b.d;
    for (int s = 0; s < 8; s++) {
        p->part[s].scale[lane] = (uint8_t)iq4_xs_scale(&b, s);
        ap_nibbles_pack(b.qs + 16 * s, lane, p->part[s].code);
    }
}

static void iq4_xs_unpack(const unsigned char *panel, unsigned lane, unsigned char *bytes)
{
    ap_block_iq4_xs b = {0};
    const ap_panel_iq4_xs *p = (const ap_panel_iq4_xs *)panel;
    b.d = p->d[lane];
    for (int s = 0; s < 8; s++) {
        int code = p->part[s].scale[lane];
        b.scales_l[s / 2] = (uint8_t)(b.scales_l[s / 2] | (code & 15) << 4 * (s % 2));
        b.scales_h = (uint16_t)(b.scales_h | code >> 4 << 2 * s);
        ap_nibbles_unpack(p->part[s].code, lane, b.qs + 16 * s);
    }
    memcpy(bytes, &b, sizeof b);
}

static void mxfp4_decode(const unsigned char *bytes, float *out)
{
    ap_block_mxfp4 b;
    memcpy(&b, bytes, sizeof b);
    for (int e = 0; e < 32; e++)
        out[e] = ap_f32_of_e8m0_half(b.e) * (float)ap_codes_mxfp4[nibble(b.qs, e)];
}

static void mxfp4_pack(const unsigned char *bytes, unsigned lane, unsigned char *panel)
{
    ap_block_mxfp4 b;
    ap_panel_mxfp4 *p = (ap_panel_mxfp4 *)panel;
    memcpy(&b, bytes, sizeof b);
    p->e[lane] = b.e;
    ap_nibbles_pack(b.qs, lane, p->code);
}

static void mxfp4_unpack(const unsigned char *panel, unsigned lane, unsigned char *bytes)
{
    ap_block_mxfp4 b;
    const ap_panel_mxfp4 *p = (const ap_panel_mxfp4 *)panel;
    b.e = p->e[lane];
    ap_nibbles_unpack(p->code, lane, b.qs);
    memcpy(bytes, &b, sizeof b);
}

static void q8_k_decode(const unsigned char *bytes, float *out)
{
    ap_block_q8_k b;
    memcpy(&b, bytes, sizeof b);
    for (int e = 0; e < 256; e++)
        out[e] = b.d * (float)b.qs[e];
}

static void q8_k_pack(const unsigned char *bytes, unsigned lane, unsigned char *panel)
{
    ap_block_q8_k b;
    ap_panel_q8_k *p = (ap_panel_q8_k *)panel;
    memcpy(&b, bytes, sizeof b);
    p->d[lane] = b.d;
    for (int s = 0; s < 16; s++)
        p->bsums[s][lane] = b.bsums[s];
    for (int s = 0; s < 8; s++)
        for (int g = 0; g < 8; g++)
            memcpy(&p->code[s][g][4 * lane], &b.qs[32 * s + 4 * g], 4);
}

static void q8_k_unpack(const unsigned char *panel, unsigned lane, unsigned char *bytes)
{
    ap_block_q8_k b;
    const ap_panel_q8_k *p = (const ap_panel_q8_k *)panel;
    b.d = p->d[lane];
    for (int s = 0; s < 16; s++)
        b.bsums[s] = p->bsums[s][lane];
    for (int s = 0; s < 8; s++)
        for (int g = 0; g < 8; g++)
            memcpy(&b.qs[32 * s + 4 * g], &p->code[s][g][4 * lane], 4);
    memcpy(bytes, &b, sizeof b);
}

/* ---- Encoding ---- */

static void store_nibbles(const int q[32], uint8_t qs[16])
{
    for (int e = 0; e < 16; e++)
        qs[e] = (uint8_t)(q[e] | q[e + 16] << 4);
}

static void iq4_nl_encode(const float *x, const float *w, unsigned char *bytes)
{
    ap_block_iq4_nl b;
    int q[32];
    b.d = ap_scale_f16(ap_fit_scale(&ap_levels_iq4, x, w, 32));
    float d = ap_f32_of_f16(b.d), inverse = d != 0 ? 1 / d : 0;
    for (int e = 0; e < 32; e++)
        q[e] = ap_level_nearest(&ap_levels_iq4, x[e] * inverse);
    store_nibbles(q, b.qs);
    memcpy(bytes, &b, sizeof b);
}

static void iq4_xs_encode(const float *x, const float *w, unsigned char *bytes)
{
    ap_block_iq4_xs b = {0};
    int scale[8], code[256];
    ap_fit_super(&ap_levels_iq4, 32, -32, 31, x, w, &b.d, scale, code);
    for (int s = 0; s < 8; s++) {
        int stored = scale[s] + 32;
        b.scales_l[s / 2] = (uint8_t)(b.scales_l[s / 2] | (stored & 15) << 4 * (s % 2));
        b.scales_h = (uint16_t)(b.scales_h | stored >> 4 << 2 * s);
        store_nibbles(code + 32 * s, b.qs + 16 * s);
    }
    memcpy(bytes, &b, sizeof b);
}

const ap_quant_family ap_family_iq4_nl = {32, 18, sizeof(ap_panel_iq4_nl), iq4_nl_decode, iq4_nl_pack, iq4_nl_unpack, iq4_nl_encode};
const ap_quant_family ap_family_iq4_xs = {256, 136, sizeof(ap_panel_iq4_xs), iq4_xs_decode, iq4_xs_pack, iq4_xs_unpack, iq4_xs_encode};
const ap_quant_family ap_family_mxfp4 = {32, 17, sizeof(ap_panel_mxfp4), mxfp4_decode, mxfp4_pack, mxfp4_unpack};
const ap_quant_family ap_family_q8_k = {256, 292, sizeof(ap_panel_q8_k), q8_k_decode, q8_k_pack, q8_k_unpack};
