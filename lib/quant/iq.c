/* iq.c - formats that are only decoded: IQ1 to IQ3, whose weights are points of a codebook, and the ternary TQ.
 *
 * A super block has 256 columns; every eighth or fourth of them is one point (grids.h), its coordinates are indices
 * into the levels below, its signs come apart.  db is the scale of 32 or 16 columns, each product rounded as
 * written, signs last:
 *
 *     IQ2_XXS  db = d (0.5 + s) 0.25      IQ3_XXS  db = d (0.5 + s) 0.5      value = db level sign
 *     IQ2_XS   db = d (0.5 + s) 0.25      IQ3_S    db = d (1 + 2 s)
 *     IQ2_S    db = d (0.5 + s) 0.25      IQ1_S, IQ1_M  db = d (2 s + 1), value = db (level + delta), delta +-1/8
 *     TQ1_0, TQ2_0   value = d digit, digit -1, 0 or 1
 *
 * Seven bits hold eight signs: the eighth makes their number even.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdbool.h>

#include "quant/block.h"
#include "quant/family.h"
#include "quant/grids.h"
#include "quant/half.h"

typedef struct block_iq2_xxs { uint16_t d; uint32_t qs[8][2]; } __attribute__((packed)) block_iq2_xxs;
typedef struct block_iq2_xs { uint16_t d, qs[32]; uint8_t scales[8]; } block_iq2_xs;
typedef struct block_iq2_s { uint16_t d; uint8_t qs[32], signs[32], qh[8], scales[8]; } block_iq2_s;
typedef struct block_iq3_xxs { uint16_t d; uint8_t qs[64]; uint32_t scales[8]; } __attribute__((packed)) block_iq3_xxs;
typedef struct block_iq3_s { uint16_t d; uint8_t qs[64], qh[8], signs[32], scales[4]; } block_iq3_s;
typedef struct block_iq1_s { uint16_t d; uint8_t qs[32]; uint16_t qh[8]; } block_iq1_s;
typedef struct block_iq1_m { uint8_t qs[32], qh[16]; uint16_t scales[4]; } block_iq1_m;
typedef struct block_tq1_0 { uint8_t qs[48], qh[4]; uint16_t d; } block_tq1_0;
typedef struct block_tq2_0 { uint8_t qs[64]; uint16_t d; } block_tq2_0;

static_assert(sizeof(block_iq2_xxs) == 66, "IQ2_XXS");
static_assert(sizeof(block_iq2_xs) == 74, "IQ2_XS");
static_assert(sizeof(block_iq2_s) == 82, "IQ2_S");
static_assert(sizeof(block_iq3_xxs) == 98, "IQ3_XXS");
static_assert(sizeof(block_iq3_s) == 110, "IQ3_S");
static_assert(sizeof(block_iq1_s) == 50, "IQ1_S");
static_assert(sizeof(block_iq1_m) == 56, "IQ1_M");
static_assert(sizeof(block_tq1_0) == 54, "TQ1_0");
static_assert(sizeof(block_tq2_0) == 66, "TQ2_0");

static const float levels_iq2[4] = {8, 25, 43, 0}; /* the fourth never occurs */
static const float levels_iq3_xxs[8] = {4, 12, 20, 28, 36, 44, 52, 62};
static const float levels_iq3_s[8] = {1, 3, 5, 7, 9, 11, 13, 15};
static const float levels_iq1[4] = {-1, 0, 1, 0};

static unsigned even_signs(uint32_t seven)
{
    seven &= 127;
    return seven | (unsigned)__builtin_parity(seven) << 7;
}

/* `count` coordinates of one point; bit i of signs is that of coordinate i. */
static void point(float db, unsigned grid, int bits, const float *levels, unsigned signs, int count, float *out)
{
    for (int i = 0; i < count; i++) {
        float value = db * levels[grid >> bits * i & ((1u << bits) - 1)];
        out[i] = signs >> i & 1 ? -value : value;
    }
}

static float quarter_scale(uint16_t d, unsigned s) { return ap_f32_of_f16(d) * (0.5f + (float)s) * 0.25f; }

static void iq2_xxs_decode(const unsigned char *bytes, float *out)
{
    block_iq2_xxs b;
    memcpy(&b, bytes, sizeof b);
    for (int s = 0; s < 8; s++) {
        float db = quarter_scale(b.d, b.qs[s][1] >> 28);
        for (int i = 0; i < 4; i++)
            point(db, ap_grid_iq2_xxs[b.qs[s][0] >> 8 * i & 255], 2, levels_iq2, even_signs(b.qs[s][1] >> 7 * i), 8,
                  out + 32 * s + 8 * i);
    }
}

static void iq2_xs_decode(const unsigned char *bytes, float *out)
{
    block_iq2_xs b;
    memcpy(&b, bytes, sizeof b);
    for (int i = 0; i < 32; i++) {
        float db = quarter_scale(b.d, b.scales[i / 4] >> 4 * (i / 2 % 2) & 15);
        point(db, ap_grid_iq2_xs[b.qs[i] & 511], 2, levels_iq2, even_signs(b.qs[i] >> 9), 8, out + 8 * i);
    }
}

static void iq2_s_decode(const unsigned char *bytes, float *out)
{
    block_iq2_s b;
    memcpy(&b, bytes, sizeof b);
    for (int i = 0; i < 32; i++) {
        float db = quarter_scale(b.d, b.scales[i / 4] >> 4 * (i / 2 % 2) & 15);
        unsigned at = b.qs[i] | (b.qh[i / 4] >> 2 * (i % 4) & 3u) << 8;
        point(db, ap_grid_iq2_s[at], 2, levels_iq2, b.signs[i], 8, out + 8 * i);
    }
}

static void iq3_xxs_decode(const unsigned char *bytes, float *out)
{
    block_iq3_xxs b;
    memcpy(&b, bytes, sizeof b);
    for (int s = 0; s < 8; s++) {
        float db = ap_f32_of_f16(b.d) * (0.5f + (float)(b.scales[s] >> 28)) * 0.5f;
        for (int i = 0; i < 8; i++)
            point(db, ap_grid_iq3_xxs[b.qs[8 * s + i]], 3, levels_iq3_xxs,
                  even_signs(b.scales[s] >> 7 * (i / 2)) >> 4 * (i % 2), 4, out + 32 * s + 4 * i);
    }
}

static void iq3_s_decode(const unsigned char *bytes, float *out)
{
    block_iq3_s b;
    memcpy(&b, bytes, sizeof b);
    for (int i = 0; i < 64; i++) {
        float db = ap_f32_of_f16(b.d) * (float)(1 + 2 * (b.scales[i / 16] >> 4 * (i / 8 % 2) & 15));
        unsigned at = b.qs[i] | (b.qh[i / 8] >> i % 8 & 1u) << 8;
        point(db, ap_grid_iq3_s[at], 3, levels_iq3_s, (unsigned)b.signs[i / 2] >> 4 * (i % 2), 4, out + 4 * i);
    }
}

/* Level and delta are exact together, so there is one rounding. */
static void ternary_point(float db, unsigned grid, bool is_below, float *out)
{
    for (int i = 0; i < 8; i++)
        out[i] = db * (levels_iq1[grid >> 2 * i & 3] + (is_below ? -0.125f : 0.125f));
}

static void iq1_s_decode(const unsigned char *bytes, float *out)
{
    block_iq1_s b;
    memcpy(&b, bytes, sizeof b);
    for (int i = 0; i < 32; i++) {
        unsigned qh = b.qh[i / 4];
        float db = ap_f32_of_f16(b.d) * (float)(2 * (qh >> 12 & 7) + 1);
        ternary_point(db, ap_grid_iq1[b.qs[i] | (qh >> 3 * (i % 4) & 7) << 8], qh >> 15, out + 8 * i);
    }
}

static void iq1_m_decode(const unsigned char *bytes, float *out)
{
    block_iq1_m b;
    memcpy(&b, bytes, sizeof b);
    unsigned half = 0; /* the scale's sixteen bits lie in the top nibbles of the small scales */
    for (int i = 0; i < 4; i++)
        half |= (unsigned)b.scales[i] >> 12 << 4 * i;
    for (int i = 0; i < 32; i++) {
        unsigned qh = b.qh[i / 2] >> 4 * (i % 2);
        float db = ap_f32_of_f16((uint16_t)half) * (float)(2 * (b.scales[i / 8] >> 3 * (i / 2 % 4) & 7) + 1);
        ternary_point(db, ap_grid_iq1[b.qs[i] | (qh & 7) << 8], qh >> 3 & 1, out + 8 * i);
    }
}

/* Five base-3 digits of a byte, the highest first: the byte is the number times 256 / 243, rounded up. */
static float trit(uint8_t byte, int digit)
{
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    return (float)(((uint8_t)(byte * power[digit]) * 3 >> 8) - 1);
}

static void tq1_0_decode(const unsigned char *bytes, float *out)
{
    block_tq1_0 b;
    memcpy(&b, bytes, sizeof b);
    float d = ap_f32_of_f16(b.d);
    for (int digit = 0; digit < 5; digit++) {
        for (int i = 0; i < 32; i++)
            out[32 * digit + i] = d * trit(b.qs[i], digit);
        for (int i = 0; i < 16; i++)
            out[160 + 16 * digit + i] = d * trit(b.qs[32 + i], digit);
        for (int i = 0; i < 4 && digit < 4; i++)
            out[240 + 4 * digit + i] = d * trit(b.qh[i], digit);
    }
}

static void tq2_0_decode(const unsigned char *bytes, float *out)
{
    block_tq2_0 b;
    memcpy(&b, bytes, sizeof b);
    for (int i = 0; i < 256; i++)
        out[i] = ap_f32_of_f16(b.d) * (float)((b.qs[32 * (i / 128) + i % 32] >> 2 * (i / 32 % 4) & 3) - 1);
}

const ap_quant_family ap_family_iq2_xxs = {.block_elems = 256, .block_bytes = 66, .decode = iq2_xxs_decode};
const ap_quant_family ap_family_iq2_xs = {.block_elems = 256, .block_bytes = 74, .decode = iq2_xs_decode};
const ap_quant_family ap_family_iq2_s = {.block_elems = 256, .block_bytes = 82, .decode = iq2_s_decode};
const ap_quant_family ap_family_iq3_xxs = {.block_elems = 256, .block_bytes = 98, .decode = iq3_xxs_decode};
const ap_quant_family ap_family_iq3_s = {.block_elems = 256, .block_bytes = 110, .decode = iq3_s_decode};
const ap_quant_family ap_family_iq1_s = {.block_elems = 256, .block_bytes = 50, .decode = iq1_s_decode};
const ap_quant_family ap_family_iq1_m = {.block_elems = 256, .block_bytes = 56, .decode = iq1_m_decode};
const ap_quant_family ap_family_tq1_0 = {.block_elems = 256, .block_bytes = 54, .decode = tq1_0_decode};
const ap_quant_family ap_family_tq2_0 = {.block_elems = 256, .block_bytes = 66, .decode = tq2_0_decode};
