/* block.h - the bytes of a weight block, as files hold them and as panels hold them.
 *
 * A file stores a matrix row by row, each row a run of blocks.  A panel holds 16
 * rows side by side, so that one vector register holds the same column of 16
 * rows: SIMD lanes are rows, and lanes never meet.  Inside a panel the blocks of
 * all 16 rows with the same columns stand together, ascending along the row; the
 * panels of a matrix follow each other.  The same bytes serve every CPU.
 *
 * Codes are grouped by four columns, because that is what one 8-bit dot
 * instruction takes (x86 vpdpbusd, ARM sdot): a group is 64 bytes, four columns
 * of row 0, the same four of row 1, … of row 15.  A block of 32 columns has
 * groups 0 to 7 (columns 4g to 4g+3).
 *
 *   4 bits  code[v], v = 0..3: low nibbles are group v, high nibbles group v + 4
 *           (columns 4v.. and 16 + 4v..), so one AND and one shift give two groups.
 *   5 bits  as 4 bits, and high: bit g of a byte is the fifth bit in group g.
 *   6 bits  as 4 bits, and high[h], h = 0..1: bits 2j, 2j+1 of a byte are the top
 *           bits in group 4h + j.
 *   2 bits  pairs[h] alone, as the top bits of 6 bits; 3 bits: those, and high with the third.
 *   8 bits  code[g]: the signed codes of group g.
 *
 * Scales are kept as the file has them (f16, or bytes beside an f16); the packed
 * 6-bit scales of Q4_K, Q5_K and IQ4_XS become bytes, which costs 2.8, 2.3 and 1.5
 * percent and nothing else is added.  Rows missing in the last panel are zero bytes.
 * F32, F16, BF16: element [column][row].
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_QUANT_BLOCK_H
#define AP_QUANT_BLOCK_H

#include <assert.h>
#include <stdint.h>

enum {
    AP_PANEL_ROWS = 16,
    AP_BLOCK_COLS = 32,   /* columns under one activation scale */
    AP_SUPER_COLS = 256   /* columns of a K block */
};

/* As in files.  uint16_t holds an f16; nothing is aligned, so blocks are copied out before use. */
typedef struct ap_block_q4_0 { uint16_t d; uint8_t qs[16]; } ap_block_q4_0;
typedef struct ap_block_q4_1 { uint16_t d, m; uint8_t qs[16]; } ap_block_q4_1;
typedef struct ap_block_q5_0 { uint16_t d; uint8_t qh[4]; uint8_t qs[16]; } ap_block_q5_0;
typedef struct ap_block_q5_1 { uint16_t d, m; uint8_t qh[4]; uint8_t qs[16]; } ap_block_q5_1;
typedef struct ap_block_q8_0 { uint16_t d; int8_t qs[32]; } ap_block_q8_0;
typedef struct ap_block_q4_k { uint16_t d, dmin; uint8_t scales[12]; uint8_t qs[128]; } ap_block_q4_k;
typedef struct ap_block_q5_k { uint16_t d, dmin; uint8_t scales[12]; uint8_t qh[32]; uint8_t qs[128]; } ap_block_q5_k;
typedef struct ap_block_q6_k { uint8_t ql[128]; uint8_t qh[64]; int8_t scales[16]; uint16_t d; } ap_block_q6_k;
typedef struct ap_block_q2_k { uint8_t scales[16]; uint8_t qs[64]; uint16_t d, dmin; } ap_block_q2_k;
typedef struct ap_block_q3_k { uint8_t hmask[32]; uint8_t qs[64]; uint8_t scales[12]; uint16_t d; } ap_block_q3_k;
typedef struct ap_block_q8_k { float d; int8_t qs[256]; int16_t bsums[16]; } ap_block_q8_k;
typedef struct ap_block_iq4_nl { uint16_t d; uint8_t qs[16]; } ap_block_iq4_nl;
typedef struct ap_block_iq4_xs { uint16_t d, scales_h; uint8_t scales_l[4]; uint8_t qs[128]; } ap_block_iq4_xs;
typedef struct ap_block_mxfp4 { uint8_t e; uint8_t qs[16]; } ap_block_mxfp4;

static_assert(sizeof(ap_block_q4_0) == 18, "Q4_0");
static_assert(sizeof(ap_block_q4_1) == 20, "Q4_1");
static_assert(sizeof(ap_block_q5_0) == 22, "Q5_0");
static_assert(sizeof(ap_block_q5_1) == 24, "Q5_1");
static_assert(sizeof(ap_block_q8_0) == 34, "Q8_0");
static_assert(sizeof(ap_block_q4_k) == 144, "Q4_K");
static_assert(sizeof(ap_block_q5_k) == 176, "Q5_K");
static_assert(sizeof(ap_block_q6_k) == 210, "Q6_K");
static_assert(sizeof(ap_block_q2_k) == 84, "Q2_K");
static_assert(sizeof(ap_block_q3_k) == 110, "Q3_K");
static_assert(sizeof(ap_block_q8_k) == 292, "Q8_K");
static_assert(sizeof(ap_block_iq4_nl) == 18, "IQ4_NL");
static_assert(sizeof(ap_block_iq4_xs) == 136, "IQ4_XS");
static_assert(sizeof(ap_block_mxfp4) == 17, "MXFP4");

/* What a code of IQ4_NL and IQ4_XS stands for, and of MXFP4: the eight values of E2M1 doubled, with both signs. */
static const int8_t ap_codes_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
static const int8_t ap_codes_mxfp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* As in panels: the same block of 16 rows. */
typedef struct ap_panel_q4_0 { uint16_t d[16]; uint8_t code[4][64]; } ap_panel_q4_0;
typedef struct ap_panel_q4_1 { uint16_t d[16], m[16]; uint8_t code[4][64]; } ap_panel_q4_1;
typedef struct ap_panel_q5_0 { uint16_t d[16]; uint8_t high[64]; uint8_t code[4][64]; } ap_panel_q5_0;
typedef struct ap_panel_q5_1 { uint16_t d[16], m[16]; uint8_t high[64]; uint8_t code[4][64]; } ap_panel_q5_1;
typedef struct ap_panel_q8_0 { uint16_t d[16]; int8_t code[8][64]; } ap_panel_q8_0;

typedef struct ap_part_q4_k { uint8_t scale[16], min[16]; uint8_t code[4][64]; } ap_part_q4_k;
typedef struct ap_part_q5_k { uint8_t scale[16], min[16]; uint8_t high[64]; uint8_t code[4][64]; } ap_part_q5_k;
/* scale[0] is for columns 0 to 15 of the part, scale[1] for 16 to 31. */
typedef struct ap_part_q6_k { int8_t scale[2][16]; uint8_t high[2][64]; uint8_t code[4][64]; } ap_part_q6_k;
typedef struct ap_panel_q4_k { uint16_t d[16], dmin[16]; ap_part_q4_k part[8]; } ap_panel_q4_k;
typedef struct ap_panel_q5_k { uint16_t d[16], dmin[16]; ap_part_q5_k part[8]; } ap_panel_q5_k;
typedef struct ap_panel_q6_k { uint16_t d[16]; ap_part_q6_k part[8]; } ap_panel_q6_k;

/* Byte h of scale_min: half h of the part, the scale in its low nibble, the minimum in its high one. */
typedef struct ap_part_q2_k { uint8_t scale_min[2][16]; uint8_t pairs[2][64]; } ap_part_q2_k;
/* Low nibble of scale_low: the low four bits of the first half's scale, high nibble: of the second's.  Their top two
 * bits are 2j and 2j + 1 of scale_top[j / 4], j the half counted through the block's sixteen. */
typedef struct ap_part_q3_k { uint8_t scale_low[16]; uint8_t high[64]; uint8_t pairs[2][64]; } ap_part_q3_k;
/* Scales of Q3_K and IQ4_XS are kept as in the file, counted from -32. */
typedef struct ap_part_iq4_xs { uint8_t scale[16]; uint8_t code[4][64]; } ap_part_iq4_xs;
typedef struct ap_panel_q2_k { uint16_t d[16], dmin[16]; ap_part_q2_k part[8]; } ap_panel_q2_k;
typedef struct ap_panel_q3_k { uint16_t d[16]; uint8_t scale_top[4][16]; ap_part_q3_k part[8]; } ap_panel_q3_k;
typedef struct ap_panel_q8_k { float d[16]; int16_t bsums[16][16]; int8_t code[8][8][64]; } ap_panel_q8_k;
typedef struct ap_panel_iq4_nl { uint16_t d[16]; uint8_t code[4][64]; } ap_panel_iq4_nl;
typedef struct ap_panel_iq4_xs { uint16_t d[16]; ap_part_iq4_xs part[8]; } ap_panel_iq4_xs;
typedef struct ap_panel_mxfp4 { uint8_t e[16]; uint8_t code[4][64]; } ap_panel_mxfp4;

static_assert(sizeof(ap_panel_q2_k) == 16 * sizeof(ap_block_q2_k), "Q2_K panel");
static_assert(sizeof(ap_panel_q3_k) == 16 * sizeof(ap_block_q3_k), "Q3_K panel");
static_assert(sizeof(ap_panel_q8_k) == 16 * sizeof(ap_block_q8_k), "Q8_K panel");
static_assert(sizeof(ap_panel_iq4_nl) == 16 * sizeof(ap_block_iq4_nl), "IQ4_NL panel");
static_assert(sizeof(ap_panel_iq4_xs) == 32 + 8 * 272, "IQ4_XS panel");
static_assert(sizeof(ap_panel_mxfp4) == 16 * sizeof(ap_block_mxfp4), "MXFP4 panel");

static_assert(sizeof(ap_panel_q4_0) == 16 * sizeof(ap_block_q4_0), "Q4_0 panel");
static_assert(sizeof(ap_panel_q4_1) == 16 * sizeof(ap_block_q4_1), "Q4_1 panel");
static_assert(sizeof(ap_panel_q5_0) == 16 * sizeof(ap_block_q5_0), "Q5_0 panel");
static_assert(sizeof(ap_panel_q5_1) == 16 * sizeof(ap_block_q5_1), "Q5_1 panel");
static_assert(sizeof(ap_panel_q8_0) == 16 * sizeof(ap_block_q8_0), "Q8_0 panel");
static_assert(sizeof(ap_panel_q4_k) == 64 + 8 * 288, "Q4_K panel");
static_assert(sizeof(ap_panel_q5_k) == 64 + 8 * 352, "Q5_K panel");
static_assert(sizeof(ap_panel_q6_k) == 16 * sizeof(ap_block_q6_k), "Q6_K panel");

#endif
