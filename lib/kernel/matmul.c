/* matmul.c - products of packed weights in plain C: the meaning, for every CPU.
 *
 * One chain per (row, token), blocks of 32 columns ascending, acc starts at +0.
 * u is what the block adds, in units of the activations' scale da; dots are exact
 * integers, w = d * scale is exact too:
 *
 *     32-wide           u = dot * w
 *     with a minimum    u = min * sum; u = fma(dot, w, u)    (Q4_K, Q5_K: minus the minimum)
 *     16-wide           u = dot1 * w1; u = fma(dot0, w0, u)      (Q3_K, Q6_K)
 *     16-wide, minimum  u = min1 * sum1; u = fma(min0, sum0, u); u = fma(dot1, w1, u); u = fma(dot0, w0, u)    (Q2_K)
 *     then              acc = fma(u, da, acc)
 *
 * with sum the token's sum of codes in the block, and 0 and 1 the first and the
 * second 16 columns.  Each format brings a block to one form (struct block32: signed codes by
 * column and lane, scales by lane) and the chains are written once.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <math.h>

#include "kernel/level.h"

enum { LANES = AP_PANEL_ROWS, TOKENS_AT_ONCE = 64 };

typedef struct block32 {
    int8_t code[32][LANES];
    float scale[2][LANES]; /* 16-wide: first and second half; otherwise scale[0] */
    float min[2][LANES];   /* what is added per column, negative for the K formats; halves as scale */
} block32;

typedef void unpack_fn(const unsigned char *panel, uint32_t block, block32 *out);

static void load_nibbles(const uint8_t code[4][64], int offset, block32 *out)
{
    for (int e = 0; e < 16; e++)
        for (int r = 0; r < LANES; r++) {
            int byte = code[e / 4][4 * r + e % 4];
            out->code[e][r] = (int8_t)((byte & 15) - offset);
            out->code[e + 16][r] = (int8_t)((byte >> 4) - offset);
        }
}

static void add_fifth(const uint8_t high[64], block32 *out)
{
    for (int e = 0; e < 32; e++)
        for (int r = 0; r < LANES; r++)
            out->code[e][r] = (int8_t)(out->code[e][r] + ((high[4 * r + e % 4] >> e / 4 & 1) << 4));
}

static void load_halves(const uint16_t from[LANES], float to[LANES])
{
    for (int r = 0; r < LANES; r++)
        to[r] = ap_f32_of_f16(from[r]);
}

static void unpack_q4_0(const unsigned char *panel, uint32_t block, block32 *out)
{
    const ap_panel_q4_0 *p = (const ap_panel_q4_0 *)panel + block;
    load_nibbles(p->code, 8, out);
    load_halves(p->d, out->scale[0]);
}

static void unpack_q4_1(const unsigned char *panel, uint32_t block, block32 *out)
{
    const ap_panel_q4_1 *p = (const ap_panel_q4_1 *)panel + block;
    load_nibbles(p->code, 0, out);
    load_halves(p->d, out->scale[0]);
    load_halves(p->m, out->min[0]);
}

static void unpack_q5_0(const unsigned char *panel, uint32_t block, block32 *out)
{
    const ap_panel_q5_0 *p = (const ap_panel_q5_0 *)panel + block;
    load_nibbles(p->code, 16, out);
    add_fifth(p->high, out);
    load_halves(p->d, out->scale[0]);
}

static void unpack_q5_1(const unsigned char *panel, uint32_t block, block32 *out)
{
    const ap_panel_q5_1 *p = (const ap_panel_q5_1 *)panel + block;
    load_nibbles(p->code, 0, out);
    add_fifth(p->high, out);
    load_halves(p->d, out->scale[0]);
    load_halves(p->m, out->min[0]);
}

static void unpack_q8_0(const unsigned char *panel, uint32_t block, block32 *out)
{
    const ap_panel_q8_0 *p = (const ap_panel_q8_0 *)panel + block;
    for (int e = 0; e < 32; e++)
        for (int r = 0; r < LANES; r++)
            out->code[e][r] = p->code[e / 4][4 * r + e % 4];
    load_halves(p->d, out->scale[0]);
}

/* d * scale and dmin * min have at most 11 + 6 significant bits: exact. */
static void load_k_scales(const uint16_t d[LANES], const uint16_t dmin[LANES], const uint8_t scale[LANES],
                          const uint8_t min[LANES], block32 *out)
{
    for (int r = 0; r < LANES; r++) {
        out->scale[0][r] = ap_f32_of_f16(d[r]) * (float)scale[r];
        out->min[0][r] = -(ap_f32_of_f16(dmin[r]) * (float)min[r]);
    }
}

static void unpack_q4_k(const unsigned char *panel, uint32_t block, block32 *out)
{
    const ap_panel_q4_k *p = (const ap_panel_q4_k *)panel + block / 8;
    const ap_part_q4_k *part = &p->part[block % 8];
    load_nibbles(part->code, 0, out);
    load_k_scales(p->d, p->dmin, part->scale, part->min, out);
}

static void unpack_q5_k(const unsigned char *panel, uint32_t block, block32 *out)
{
    const ap_panel_q5_k *p = (const ap_panel_q5_k *)panel + block / 8;
    const ap_part_q5_k *part = &p->part[block % 8];
    load_nibbles(part->code, 0, out);
    add_fifth(part->high, out);
    load_k_scales(p->d, p->dmin, part->scale, part->min, out);
}

static void unpack_q6_k(const unsigned char *panel, uint32_t block, block32 *out)
{
    const ap_panel_q6_k *p = (const ap_panel_q6_k *)panel + block / 8;
    const ap_part_q6_k *part = &p->part[block % 8];
    load_nibbles(part->code, 32, out);
    for (int e = 0; e < 32; e++)
        for (int r = 0; r < LANES; r++)
            out->code[e][r] = (int8_t)(out->code[e][r] + ((part->high[e / 16][4 * r + e % 4] >> 2 * (e / 4 % 4) & 3) << 4));
    for (int r = 0; r < LANES; r++) {
        out->scale[0][r] = ap_f32_of_f16(p->d[r]) * (float)part->scale[0][r];
        out->scale[1][r] = ap_f32_of_f16(p->d[r]) * (float)part->scale[1][r];
    }
}

static void load_pairs(const uint8_t pairs[2][64], int offset, block32 *out)
{
    for (int e = 0; e < 32; e++)
        for (int r = 0; r < LANES; r++)
            out->code[e][r] = (int8_t)((pairs[e / 16][4 * r + e % 4] >> 2 * (e / 4 % 4) & 3) - offset);
}

static void unpack_q2_k(const unsigned char *panel, uint32_t block, block32 *out)
{
    const ap_panel_q2_k *p = (const ap_panel_q2_k *)panel + block / 8;
    const ap_part_q2_k *part = &p->part[block % 8];
    load_pairs(part->pairs, 0, out);
    for (int h = 0; h < 2; h++)
        for (int r = 0; r < LANES; r++) {
            out->scale[h][r] = ap_f32_of_f16(p->d[r]) * (float)(part->scale_min[h][r] & 15);
            out->min[h][r] = -(ap_f32_of_f16(p->dmin[r]) * (float)(part->scale_min[h][r] >> 4));
        }
}

static void unpack_q3_k(const unsigned char *panel, uint32_t block, block32 *out)
{
    const ap_panel_q3_k *p = (const ap_panel_q3_k *)panel + block / 8;
    int at = (int)(block % 8);
    const ap_part_q3_k *part = &p->part[at];
    load_pairs(part->pairs, 4, out);
    for (int e = 0; e < 32; e++)
        for (int r = 0; r < LANES; r++)
            out->code[e][r] = (int8_t)(out->code[e][r] + ((part->high[4 * r + e % 4] >> e / 4 & 1) << 2));
    for (int h = 0; h < 2; h++)
        for (int r = 0; r < LANES; r++) {
            int top = p->scale_top[at / 2][r] >> 2 * (2 * (at % 2) + h) & 3;
            int scale = (part->scale_low[r] >> 4 * h & 15) | top << 4;
            out->scale[h][r] = ap_f32_of_f16(p->d[r]) * (float)(scale - 32);
        }
}

static void load_codebook(const uint8_t code[4][64], const int8_t table[16], block32 *out)
{
    load_nibbles(code, 0, out);
    for (int e = 0; e < 32; e++)
        for (int r = 0; r < LANES; r++)
            out->code[e][r] = table[out->code[e][r]];
}

static void unpack_iq4_nl(const unsigned char *panel, uint32_t block, block32 *out)
{
    const ap_panel_iq4_nl *p = (const ap_panel_iq4_nl *)panel + block;
    load_codebook(p->code, ap_codes_iq4, out);
    load_halves(p->d, out->scale[0]);
}

static void unpack_iq4_xs(const unsigned char *panel, uint32_t block, block32 *out)
{
    const ap_panel_iq4_xs *p = (const ap_panel_iq4_xs *)panel + block / 8;
    const ap_part_iq4_xs *part = &p->part[block % 8];
    load_codebook(part->code, ap_codes_iq4, out);
    for (int r = 0; r < LANES; r++)
        out->scale[0][r] = ap_f32_of_f16(p->d[r]) * (float)(part->scale[r] - 32);
}

static void unpack_mxfp4(const unsigned char *panel, uint32_t block, block32 *out)
{
    const ap_panel_mxfp4 *p = (const ap_panel_mxfp4 *)panel + block;
    load_codebook(p->code, ap_codes_mxfp4, out);
    for (int r = 0; r < LANES; r++)
        out->scale[0][r] = ap_f32_of_e8m0_half(p->e[r]);
}

static void unpack_q8_k(const unsigned char *panel, uint32_t block, block32 *out)
{
    const ap_panel_q8_k *p = (const ap_panel_q8_k *)panel + block / 8;
    for (int e = 0; e < 32; e++)
        for (int r = 0; r < LANES; r++)
            out->code[e][r] = p->code[block % 8][e / 4][4 * r + e % 4];
    memcpy(out->scale[0], p->d, sizeof p->d);
}

static void dot_columns(const block32 *b, const int8_t *x, int begin, int end, int32_t dot[LANES])
{
    for (int r = 0; r < LANES; r++)
        dot[r] = 0;
    for (int e = begin; e < end; e++)
        for (int r = 0; r < LANES; r++)
            dot[r] += b->code[e][r] * x[e];
}

typedef void chain_fn(const block32 *b, const ap_act_slab *a, int part, float acc[LANES]);

static void chain_32(const block32 *b, const ap_act_slab *a, int part, float acc[LANES])
{
    int32_t dot[LANES];
    dot_columns(b, a->code + 32 * part, 0, 32, dot);
    for (int r = 0; r < LANES; r++)
        acc[r] = fmaf((float)dot[r] * b->scale[0][r], a->d[part], acc[r]);
}

static void chain_32_min(const block32 *b, const ap_act_slab *a, int part, float acc[LANES])
{
    int32_t dot[LANES];
    dot_columns(b, a->code + 32 * part, 0, 32, dot);
    for (int r = 0; r < LANES; r++) {
        float u = b->min[0][r] * a->sum_f[part];
        u = fmaf((float)dot[r], b->scale[0][r], u);
        acc[r] = fmaf(u, a->d[part], acc[r]);
    }
}

static void chain_16(const block32 *b, const ap_act_slab *a, int part, float acc[LANES])
{
    int32_t dot0[LANES], dot1[LANES];
    dot_columns(b, a->code + 32 * part, 0, 16, dot0);
    dot_columns(b, a->code + 32 * part, 16, 32, dot1);
    for (int r = 0; r < LANES; r++) {
        float u = (float)dot1[r] * b->scale[1][r];
        u = fmaf((float)dot0[r], b->scale[0][r], u);
        acc[r] = fmaf(u, a->d[part], acc[r]);
    }
}

static void chain_16_min(const block32 *b, const ap_act_slab *a, int part, float acc[LANES])
{
    int32_t dot0[LANES], dot1[LANES];
    float sum0 = (float)a->half_sum[2 * part], sum1 = (float)a->half_sum[2 * part + 1];
    dot_columns(b, a->code + 32 * part, 0, 16, dot0);
    dot_columns(b, a->code + 32 * part, 16, 32, dot1);
    for (int r = 0; r < LANES; r++) {
        float u = b->min[1][r] * sum1;
        u = fmaf(b->min[0][r], sum0, u);
        u = fmaf((float)dot1[r], b->scale[1][r], u);
        u = fmaf((float)dot0[r], b->scale[0][r], u);
        acc[r] = fmaf(u, a->d[part], acc[r]);
    }
}

/* With two planes a token's result is the sum of its two chains. */
static void add_planes(uint32_t planes, float acc[][LANES])
{
    for (int r = 0; planes == 2 && r < LANES; r++)
        acc[0][r] += acc[1][r];
}

static void store(const ap_matmul_job *job, uint32_t panel, uint32_t token, const float acc[LANES])
{
    uint32_t row = panel * LANES, left = job->matrix->rows - row;
    memcpy(job->y + token * job->y_stride + row, acc, (left < LANES ? left : LANES) * sizeof *acc);
}

static void product(const ap_matmul_job *job, ap_matmul_part part, unpack_fn *unpack, chain_fn *chain)
{
    const ap_matrix *m = job->matrix;
    const ap_acts *acts = job->acts;
    uint64_t panel_bytes = ap_panel_bytes(m->type, m->cols);
    uint32_t planes = acts->planes, at_once = TOKENS_AT_ONCE / planes;
    for (uint32_t panel = part.panel_begin; panel < part.panel_end; panel++)
        for (uint32_t first = part.token_begin; first < part.token_end; first += at_once) {
            uint32_t count = part.token_end - first < at_once ? part.token_end - first : at_once;
            float acc[TOKENS_AT_ONCE][LANES] = {0};
            for (uint32_t block = 0; block < m->cols / AP_BLOCK_COLS; block++) {
                block32 b;
                unpack(m->panels + panel * panel_bytes, block, &b);
                const ap_act_slab *slabs = acts->slabs + ((size_t)(block / 8) * acts->tokens + first) * planes;
                for (uint32_t i = 0; i < count * planes; i++)
                    chain(&b, &slabs[i], (int)(block % 8), acc[i]);
            }
            for (uint32_t t = 0; t < count; t++) {
                add_planes(planes, acc + t * planes);
                store(job, panel, first + t, acc[t * planes]);
            }
        }
}

#define X(TYPE, name, chain)                                                       \
    static void product_##name(const ap_matmul_job *job, ap_matmul_part part)      \
    {                                                                              \
        product(job, part, unpack_##name, chain);                                  \
    }
AP_CODE_TYPES(X)
#undef X

/* Float weights: one fma per element, one chain over all columns. */
typedef float element_fn(const unsigned char *panel, size_t index);

static float element_f32(const unsigned char *panel, size_t index)
{
    float value;
    memcpy(&value, panel + 4 * index, 4);
    return value;
}

static float element_f16(const unsigned char *panel, size_t index)
{
    uint16_t half;
    memcpy(&half, panel + 2 * index, 2);
    return ap_f32_of_f16(half);
}

static float element_bf16(const unsigned char *panel, size_t index)
{
    uint16_t half;
    memcpy(&half, panel + 2 * index, 2);
    return ap_f32_of_bf16(half);
}

static void product_float(const ap_matmul_job *job, ap_matmul_part part, element_fn *element)
{
    const ap_matrix *m = job->matrix;
    const ap_acts *acts = job->acts;
    uint64_t panel_bytes = ap_panel_bytes(m->type, m->cols);
    for (uint32_t panel = part.panel_begin; panel < part.panel_end; panel++) {
        const unsigned char *weights = m->panels + panel * panel_bytes;
        for (uint32_t t = part.token_begin; t < part.token_end; t++) {
            const float *x = acts->x + t * acts->x_stride;
            float acc[LANES] = {0};
            for (size_t k = 0; k < m->cols; k++)
                for (int r = 0; r < LANES; r++)
                    acc[r] = fmaf(element(weights, LANES * k + (size_t)r), x[k], acc[r]);
            store(job, panel, t, acc);
        }
    }
}

static void product_f32(const ap_matmul_job *job, ap_matmul_part part)
{
    product_float(job, part, element_f32);
}

static void product_f16(const ap_matmul_job *job, ap_matmul_part part)
{
    product_float(job, part, element_f16);
}

static void product_bf16(const ap_matmul_job *job, ap_matmul_part part)
{
    product_float(job, part, element_bf16);
}

/* 32 floats at most (the last columns of a float matrix); codes beyond `count` are 0.  What
 * the codes leave over replaces x: the next plane's input. */
static void quantize_block(float *x, uint32_t count, ap_act_slab *slab, int part)
{
    int8_t *code = slab->code + 32 * part;
    float amax = 0;
    bool is_finite = true;
    memset(code, 0, 32);
    for (uint32_t i = 0; i < count; i++) {
        float a = fabsf(x[i]);
        is_finite = is_finite && a <= 0x1.fffffep127f;
        amax = a > amax ? a : amax;
    }
    int sum[2] = {0, 0};
    float d = 0;
    if (!is_finite) {
        d = ap_float_of_bits(0x7fc00000u);
    } else if (amax >= 0x1p-100f) {
        float id = 127.0f / amax;
        d = amax / 127.0f;
        for (uint32_t i = 0; i < count; i++) {
            /* Adding 1.5 * 2^23 rounds to the nearest integer, ties to even. */
            int q = (int)((x[i] * id + 0x1.8p23f) - 0x1.8p23f);
            q = q > 127 ? 127 : q < -127 ? -127 : q;
            code[i] = (int8_t)q;
            sum[i / 16] += q;
        }
    }
    for (uint32_t i = 0; i < count; i++)
        x[i] = fmaf(-(float)code[i], d, x[i]);
    slab->d[part] = d;
    slab->sum[part] = sum[0] + sum[1];
    slab->half_sum[2 * part] = (int16_t)sum[0];
    slab->half_sum[2 * part + 1] = (int16_t)sum[1];
    slab->sum_f[part] = (float)(sum[0] + sum[1]);
}

static void quantize(const float *x, uint32_t cols, uint32_t planes, ap_act_slab *slabs, size_t slab_stride)
{
    for (uint32_t col = 0; col < cols; col += AP_SUPER_COLS) {
        ap_act_slab *slab = slabs + col / AP_SUPER_COLS * slab_stride;
        for (uint32_t part = 0; part < 8; part++) {
            uint32_t at = col + 32 * part;
            uint32_t count = at >= cols ? 0 : cols - at < 32 ? cols - at : 32;
            float rest[32];
            memcpy(rest, count ? x + at : x, count * sizeof *x);
            for (uint32_t plane = 0; plane < planes; plane++)
                quantize_block(rest, count, slab + plane, (int)part);
        }
    }
}

void ap_matmul_install_plain(ap_kernels *kernels)
{
    ap_matmul_ops *ops = &kernels->matmul;
    ops->quantize = quantize;
    ops->product[AP_TYPE_F32] = product_f32;
    ops->product[AP_TYPE_F16] = product_f16;
    ops->product[AP_TYPE_BF16] = product_bf16;
#define X(TYPE, name, chain) ops->product[AP_TYPE_##TYPE] = product_##name;
    AP_CODE_TYPES(X)
#undef X
}
