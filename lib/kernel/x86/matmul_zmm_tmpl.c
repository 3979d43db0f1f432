/* matmul_zmm_tmpl.c - products in 512-bit registers; included by a file per level.
 *
 * A register holds one group (four columns) of a panel's 16 rows, so a lane is a
 * row from the first load to the last store.  Two ways, the same chain:
 *
 *   few tokens   weights go from memory through registers straight into the dots,
 *                four panels abreast: four streams of reads, prefetched.
 *   many         the codes of four panels are unpacked to bytes for one slab of 256
 *                columns (16 KiB, the first cache), then every token passes over them
 *                in small groups; an activation once broadcast meets four panels.
 *
 * A level says, before it includes this file:
 *
 *     BYTE_BIAS   128 when it wants signed codes (Q8_0, code tables) as unsigned bytes (code + 128), else 0
 *     dot4        acc + the sum of four products in each lane, exactly
 *     INSTALL     the name of its install function
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <immintrin.h>
#include <string.h>

#include "kernel/level.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

/* A *record* is what a pass multiplies: a plane of a token.  The counts of records
 * below are even, so that the planes of a token stay together. */
enum {
    PANELS = 4,           /* abreast */
    TOKENS_FEW = 8,       /* in one pass without unpacking into memory */
    FEW_MAX = 24,         /* beyond that, unpacking into memory once for all tokens wins */
    TOKENS_AT_ONCE = 192, /* 48 KiB of sums: second cache; unpacking costs 2 percent of the products */
    PREFETCH_BYTES = 2048
};

/* What varies by format, all known while compiling. */
typedef struct format {
    ap_type type;
    int offset;    /* true code = unsigned code - offset */
    bool has_min;
    bool is_16;    /* two scales per 32 columns */
    uint32_t block_bytes, blocks_per; /* of a panel block, and how many blocks of 32 columns it has */
} format;

static const format q4_0 = {AP_TYPE_Q4_0, 8, false, false, sizeof(ap_panel_q4_0), 1};
static const format q4_1 = {AP_TYPE_Q4_1, 0, true, false, sizeof(ap_panel_q4_1), 1};
static const format q5_0 = {AP_TYPE_Q5_0, 16, false, false, sizeof(ap_panel_q5_0), 1};
static const format q5_1 = {AP_TYPE_Q5_1, 0, true, false, sizeof(ap_panel_q5_1), 1};
static const format q8_0 = {AP_TYPE_Q8_0, BYTE_BIAS, false, false, sizeof(ap_panel_q8_0), 1};
static const format q4_k = {AP_TYPE_Q4_K, 0, true, false, sizeof(ap_panel_q4_k), 8};
static const format q5_k = {AP_TYPE_Q5_K, 0, true, false, sizeof(ap_panel_q5_k), 8};
static const format q6_k = {AP_TYPE_Q6_K, 32, false, true, sizeof(ap_panel_q6_k), 8};
static const format q2_k = {AP_TYPE_Q2_K, 0, true, true, sizeof(ap_panel_q2_k), 8};
static const format q3_k = {AP_TYPE_Q3_K, 4, false, true, sizeof(ap_panel_q3_k), 8};
static const format q8_k = {AP_TYPE_Q8_K, BYTE_BIAS, false, false, sizeof(ap_panel_q8_k), 8};
static const format iq4_nl = {AP_TYPE_IQ4_NL, BYTE_BIAS, false, false, sizeof(ap_panel_iq4_nl), 1};
static const format iq4_xs = {AP_TYPE_IQ4_XS, BYTE_BIAS, false, false, sizeof(ap_panel_iq4_xs), 8};
static const format mxfp4 = {AP_TYPE_MXFP4, BYTE_BIAS, false, false, sizeof(ap_panel_mxfp4), 1};

/* Four panels, one slab, codes as bytes. */
typedef struct chunk {
    uint8_t code[8][8][PANELS][64]; /* [block][group][panel] */
    float scale[8][2][PANELS][16];
    float min[8][2][PANELS][16];
} chunk;

typedef struct scales {
    __m512 w[2], min[2];
} scales;

INLINE __m512 halves(const uint16_t from[16]) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from)); }

INLINE __m512 bytes_u(const uint8_t from[16])
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from)));
}

INLINE __m512 bytes_s(const int8_t from[16])
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)from)));
}

INLINE __m512 negated(__m512 x)
{
    return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(x), _mm512_set1_epi32(INT32_MIN)));
}

/* The scales of one block of 32 columns of one panel. */
INLINE scales load_scales(const format f, const unsigned char *panel, uint32_t block)
{
    const unsigned char *p = panel + (size_t)(block / f.blocks_per) * f.block_bytes;
    uint32_t part = block % f.blocks_per;
    scales s = {0};
    switch (f.type) {
    case AP_TYPE_Q4_1:
    case AP_TYPE_Q5_1:
        s.w[0] = halves(((const ap_panel_q4_1 *)p)->d);
        s.min[0] = halves(((const ap_panel_q4_1 *)p)->m);
        break;
    case AP_TYPE_Q4_K: {
        const ap_panel_q4_k *k = (const ap_panel_q4_k *)p;
        s.w[0] = _mm512_mul_ps(halves(k->d), bytes_u(k->part[part].scale));
        s.min[0] = negated(_mm512_mul_ps(halves(k->dmin), bytes_u(k->part[part].min)));
        break;
    }
    case AP_TYPE_Q5_K: {
        const ap_panel_q5_k *k = (const ap_panel_q5_k *)p;
        s.w[0] = _mm512_mul_ps(halves(k->d), bytes_u(k->part[part].scale));
        s.min[0] = negated(_mm512_mul_ps(halves(k->dmin), bytes_u(k->part[part].min)));
        break;
    }
    case AP_TYPE_Q6_K: {
        const ap_panel_q6_k *k = (const ap_panel_q6_k *)p;
        s.w[0] = _mm512_mul_ps(halves(k->d), bytes_s(k->part[part].scale[0]));
        s.w[1] = _mm512_mul_ps(halves(k->d), bytes_s(k->part[part].scale[1]));
        break;
    }
    case AP_TYPE_Q2_K: {
        const ap_panel_q2_k *k = (const ap_panel_q2_k *)p;
        UNROLL for (int h = 0; h < 2; h++) {
            __m512i both = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)k->part[part].scale_min[h]));
            __m512i scale = _mm512_and_si512(both, _mm512_set1_epi32(15)), min = _mm512_srli_epi32(both, 4);
            s.w[h] = _mm512_mul_ps(halves(k->d), _mm512_cvtepi32_ps(scale));
            s.min[h] = negated(_mm512_mul_ps(halves(k->dmin), _mm512_cvtepi32_ps(min)));
        }
        break;
    }
    case AP_TYPE_Q3_K: {
        const ap_panel_q3_k *k = (const ap_panel_q3_k *)p;
        __m512i low = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)k->part[part].scale_low));
        __m512i top = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)k->scale_top[part / 2]));
        top = _mm512_srli_epi32(top, 4 * (part % 2));
        UNROLL for (unsigned h = 0; h < 2; h++) {
            __m512i bits = _mm512_and_si512(_mm512_srli_epi32(low, 4 * h), _mm512_set1_epi32(15));
            __m512i two = _mm512_and_si512(_mm512_srli_epi32(top, 2 * h), _mm512_set1_epi32(3));
            bits = _mm512_sub_epi32(_mm512_or_si512(bits, _mm512_slli_epi32(two, 4)), _mm512_set1_epi32(32));
            s.w[h] = _mm512_mul_ps(halves(k->d), _mm512_cvtepi32_ps(bits));
        }
        break;
    }
    case AP_TYPE_Q8_K: s.w[0] = _mm512_loadu_ps(((const ap_panel_q8_k *)p)->d); break;
    case AP_TYPE_IQ4_XS: {
        const ap_panel_iq4_xs *k = (const ap_panel_iq4_xs *)p;
        __m512i scale = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)k->part[part].scale));
        s.w[0] = _mm512_mul_ps(halves(k->d), _mm512_cvtepi32_ps(_mm512_sub_epi32(scale, _mm512_set1_epi32(32))));
        break;
    }
    case AP_TYPE_MXFP4: {
        __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)((const ap_panel_mxfp4 *)p)->e));
        __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
        __mmask16 is_tiny = _mm512_cmplt_epu32_mask(e, _mm512_set1_epi32(2));
        s.w[0] = _mm512_castsi512_ps(_mm512_mask_sllv_epi32(normal, is_tiny, _mm512_set1_epi32(0x00200000), e));
        break;
    }
    default: s.w[0] = halves((const uint16_t *)p); break;
    }
    return s;
}

static_assert(offsetof(ap_panel_q5_1, m) == offsetof(ap_panel_q4_1, m), "load_scales reads both alike");

INLINE __m512i load(const void *p) { return _mm512_loadu_si512(p); }

INLINE void nibbles(const uint8_t code[4][64], __m512i q[8])
{
    const __m512i low = _mm512_set1_epi8(15);
    UNROLL for (int v = 0; v < 4; v++) {
        __m512i both = load(code[v]);
        q[v] = _mm512_and_si512(both, low);
        q[v + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
    }
}

/* q | (bits & mask) */
INLINE __m512i join(__m512i q, __m512i bits, __m512i mask) { return _mm512_ternarylogic_epi32(q, bits, mask, 0xf8); }

INLINE void add_fifth(const uint8_t high[64], __m512i q[8])
{
    const __m512i bit = _mm512_set1_epi8(16);
    __m512i h = load(high);
    UNROLL for (int g = 0; g < 8; g++)
        q[g] = join(q[g], g < 4 ? _mm512_slli_epi16(h, (unsigned)(4 - g)) : _mm512_srli_epi16(h, (unsigned)(g - 4)), bit);
}

INLINE void add_top2(const uint8_t high[2][64], __m512i q[8])
{
    const __m512i bits = _mm512_set1_epi8(48);
    UNROLL for (int i = 0; i < 2; i++) {
        __m512i h = load(high[i]);
        q[4 * i] = join(q[4 * i], _mm512_slli_epi16(h, 4), bits);
        q[4 * i + 1] = join(q[4 * i + 1], _mm512_slli_epi16(h, 2), bits);
        q[4 * i + 2] = join(q[4 * i + 2], h, bits);
        q[4 * i + 3] = join(q[4 * i + 3], _mm512_srli_epi16(h, 2), bits);
    }
}

INLINE void pairs(const uint8_t code[2][64], __m512i q[8])
{
    const __m512i low = _mm512_set1_epi8(3);
    UNROLL for (int g = 0; g < 8; g++)
        q[g] = _mm512_and_si512(_mm512_srli_epi16(load(code[g / 4]), (unsigned)(2 * (g % 4))), low);
}

INLINE void add_third(const uint8_t high[64], __m512i q[8])
{
    const __m512i bit = _mm512_set1_epi8(4);
    __m512i h = load(high);
    UNROLL for (int g = 0; g < 8; g++)
        q[g] = join(q[g], g < 2 ? _mm512_slli_epi16(h, (unsigned)(2 - g)) : _mm512_srli_epi16(h, (unsigned)(g - 2)), bit);
}

INLINE void codebook(const uint8_t code[4][64], const int8_t table[16], __m512i q[8])
{
    __m512i values = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)table));
    values = _mm512_xor_si512(values, _mm512_set1_epi8((char)BYTE_BIAS));
    nibbles(code, q);
    UNROLL for (int g = 0; g < 8; g++)
        q[g] = _mm512_shuffle_epi8(values, q[g]);
}

INLINE void bytes(const int8_t code[8][64], __m512i q[8])
{
    const __m512i bias = _mm512_set1_epi8((char)BYTE_BIAS);
    UNROLL for (int g = 0; g < 8; g++)
        q[g] = _mm512_xor_si512(load(code[g]), bias);
}

/* The eight groups of one block of one panel as bytes. */
INLINE void load_codes(const format f, const unsigned char *panel, uint32_t block, __m512i q[8])
{
    const unsigned char *p = panel + (size_t)(block / f.blocks_per) * f.block_bytes;
    uint32_t part = block % f.blocks_per;
    switch (f.type) {
    case AP_TYPE_Q4_0: nibbles(((const ap_panel_q4_0 *)p)->code, q); break;
    case AP_TYPE_Q4_1: nibbles(((const ap_panel_q4_1 *)p)->code, q); break;
    case AP_TYPE_Q5_0:
        nibbles(((const ap_panel_q5_0 *)p)->code, q);
        add_fifth(((const ap_panel_q5_0 *)p)->high, q);
        break;
    case AP_TYPE_Q5_1:
        nibbles(((const ap_panel_q5_1 *)p)->code, q);
        add_fifth(((const ap_panel_q5_1 *)p)->high, q);
        break;
    case AP_TYPE_Q8_0: bytes(((const ap_panel_q8_0 *)p)->code, q); break;
    case AP_TYPE_Q8_K: bytes(((const ap_panel_q8_k *)p)->code[part], q); break;
    case AP_TYPE_IQ4_NL: codebook(((const ap_panel_iq4_nl *)p)->code, ap_codes_iq4, q); break;
    case AP_TYPE_IQ4_XS: codebook(((const ap_panel_iq4_xs *)p)->part[part].code, ap_codes_iq4, q); break;
    case AP_TYPE_MXFP4: codebook(((const ap_panel_mxfp4 *)p)->code, ap_codes_mxfp4, q); break;
    case AP_TYPE_Q2_K: pairs(((const ap_panel_q2_k *)p)->part[part].pairs, q); break;
    case AP_TYPE_Q3_K:
        pairs(((const ap_panel_q3_k *)p)->part[part].pairs, q);
        add_third(((const ap_panel_q3_k *)p)->part[part].high, q);
        break;
    case AP_TYPE_Q4_K: nibbles(((const ap_panel_q4_k *)p)->part[part].code, q); break;
    case AP_TYPE_Q5_K:
        nibbles(((const ap_panel_q5_k *)p)->part[part].code, q);
        add_fifth(((const ap_panel_q5_k *)p)->part[part].high, q);
        break;
    default:
        nibbles(((const ap_panel_q6_k *)p)->part[part].code, q);
        add_top2(((const ap_panel_q6_k *)p)->part[part].high, q);
        break;
    }
}

INLINE bool codes_are_signed(const format f)
{
    return BYTE_BIAS == 0 && (f.type == AP_TYPE_Q8_0 || f.type == AP_TYPE_Q8_K || f.type == AP_TYPE_IQ4_NL ||
                              f.type == AP_TYPE_IQ4_XS || f.type == AP_TYPE_MXFP4);
}

INLINE __m512i activation(const ap_act_slab *a, uint32_t part, int group)
{
    int32_t four;
    memcpy(&four, a->code + 32 * part + 4 * group, 4);
    return _mm512_set1_epi32(four);
}

/* Where a dot starts: the offset of the codes, times the sum of the activations, taken away beforehand. */
INLINE __m512i start(const format f, const ap_act_slab *a, uint32_t part, int half)
{
    return _mm512_set1_epi32(-f.offset * (f.is_16 ? a->half_sum[2 * part + (uint32_t)half] : a->sum[part]));
}

INLINE __m512 chain(const format f, scales s, __m512i dot0, __m512i dot1, const ap_act_slab *a, uint32_t part, __m512 acc)
{
    __m512 c = _mm512_cvtepi32_ps(dot0), u;
    if (f.is_16 && f.has_min) {
        u = _mm512_mul_ps(s.min[1], _mm512_set1_ps((float)a->half_sum[2 * part + 1]));
        u = _mm512_fmadd_ps(s.min[0], _mm512_set1_ps((float)a->half_sum[2 * part]), u);
        u = _mm512_fmadd_ps(c, s.w[0], _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot1), s.w[1], u));
    } else if (f.is_16)
        u = _mm512_fmadd_ps(c, s.w[0], _mm512_mul_ps(_mm512_cvtepi32_ps(dot1), s.w[1]));
    else if (f.has_min)
        u = _mm512_fmadd_ps(c, s.w[0], _mm512_mul_ps(s.min[0], _mm512_set1_ps(a->sum_f[part])));
    else
        u = _mm512_mul_ps(c, s.w[0]);
    return _mm512_fmadd_ps(u, _mm512_set1_ps(a->d[part]), acc);
}

/* The panels of one group.  Where the matrix has fewer than four left, the last one
 * stands in for the missing: its sums are computed again and not stored. */
typedef struct group {
    const unsigned char *panel[PANELS];
    uint32_t row, rows;    /* first row; rows that are stored */
    size_t bytes;          /* of a panel */
    size_t next;           /* from a panel's end to what is read after it */
} group;

INLINE group group_at(const ap_matmul_job *job, size_t panel_bytes, uint32_t first, uint32_t end)
{
    group g = {.row = first * AP_PANEL_ROWS, .bytes = panel_bytes};
    /* In the last group: the panel's own beginning, which costs nothing; what lies
     * behind belongs to another thread. */
    g.next = end - first > PANELS ? (PANELS - 1) * panel_bytes : (size_t)0 - panel_bytes;
    for (uint32_t i = 0; i < PANELS; i++)
        g.panel[i] = job->matrix->panels + (first + i < end ? first + i : end - 1) * panel_bytes;
    uint32_t last = first + PANELS < end ? first + PANELS : end;
    uint32_t row_end = last > job->matrix->rows / AP_PANEL_ROWS ? job->matrix->rows : last * AP_PANEL_ROWS;
    g.rows = row_end - g.row;
    return g;
}

/* The lines ahead of those at `offset`; past the end of the panel the next group's
 * begin.  Into the second cache: into the first the lines push out what is in use,
 * 24 against 31 GB/s with two threads (bench/LOG.md). */
INLINE void prefetch(const group *g, int panel, size_t offset, size_t bytes)
{
    size_t at = offset + PREFETCH_BYTES;
    const unsigned char *p = g->panel[panel] + (at >= g->bytes ? at + g->next : at);
    for (size_t i = 0; i < bytes; i += 64)
        _mm_prefetch((const char *)p + i, _MM_HINT_T1);
}

/* sums: of a token's planes, one after the other.  `record` is its first. */
INLINE void store_sums(const ap_matmul_job *job, const group *g, uint32_t record, const __m512 (*planes)[PANELS])
{
    uint32_t count = job->acts->planes;
    float *y = job->y + record / count * job->y_stride + g->row;
    __m512 sums[PANELS];
    UNROLL for (uint32_t p = 0; p < PANELS; p++)
        sums[p] = count == 2 ? _mm512_add_ps(planes[0][p], planes[1][p]) : planes[0][p];
    UNROLL for (uint32_t p = 0; p < PANELS; p++) {
        uint32_t left = g->rows > 16 * p ? g->rows - 16 * p : 0;
        __mmask16 mask = (__mmask16)(left >= 16 ? 0xffff : (1u << left) - 1);
        _mm512_mask_storeu_ps(y + 16 * p, mask, sums[p]);
    }
}

/* Few records: `count` of them, from memory to sums in one pass over the columns.  The
 * codes of a block stay in registers while the tokens pass. */
INLINE void few(const format f, const ap_matmul_job *job, const group *g, uint32_t record, uint32_t count)
{
    const ap_acts *acts = job->acts;
    size_t records = (size_t)acts->tokens * acts->planes;
    __m512 sums[TOKENS_FEW][PANELS];
    for (uint32_t t = 0; t < count; t++)
        for (int p = 0; p < PANELS; p++)
            sums[t][p] = _mm512_setzero_ps();
    uint32_t blocks = job->matrix->cols / AP_BLOCK_COLS;
    for (uint32_t block = 0; block < blocks; block++) {
        const ap_act_slab *a = acts->slabs + block / 8 * records + record;
        uint32_t part = block % 8;
        size_t offset = (size_t)block * (f.block_bytes / f.blocks_per);
        for (int p = 0; p < PANELS; p++) {
            prefetch(g, p, offset, f.block_bytes / f.blocks_per);
            __m512i q[8];
            load_codes(f, g->panel[p], block, q);
            scales s = load_scales(f, g->panel[p], block);
            for (uint32_t t = 0; t < count; t++) {
                /* Two sums of four groups shorten the wait of one dot for the one before it. */
                __m512i dot0 = start(f, a + t, part, 0);
                __m512i dot1 = f.is_16 ? start(f, a + t, part, 1) : _mm512_setzero_si512();
                UNROLL for (int i = 0; i < 4; i++) {
                    dot0 = dot4(dot0, q[i], activation(a + t, part, i), codes_are_signed(f));
                    dot1 = dot4(dot1, q[i + 4], activation(a + t, part, i + 4), codes_are_signed(f));
                }
                if (!f.is_16)
                    dot0 = _mm512_add_epi32(dot0, dot1);
                sums[t][p] = chain(f, s, dot0, dot1, a + t, part, sums[t][p]);
            }
        }
    }
    for (uint32_t t = 0; t < count; t += acts->planes)
        store_sums(job, g, record + t, sums + t);
}

INLINE void unpack(const format f, const group *g, uint32_t first_block, uint32_t blocks, chunk *c)
{
    for (uint32_t b = 0; b < blocks; b++) {
        size_t offset = (size_t)(first_block + b) * (f.block_bytes / f.blocks_per);
        for (int p = 0; p < PANELS; p++) {
            __m512i q[8];
            prefetch(g, p, offset, f.block_bytes / f.blocks_per);
            load_codes(f, g->panel[p], first_block + b, q);
            UNROLL for (int i = 0; i < 8; i++)
                _mm512_store_si512(c->code[b][i][p], q[i]);
            scales s = load_scales(f, g->panel[p], first_block + b);
            _mm512_store_ps(c->scale[b][0][p], s.w[0]);
            if (f.is_16)
                _mm512_store_ps(c->scale[b][1][p], s.w[1]);
            if (f.has_min)
                _mm512_store_ps(c->min[b][0][p], s.min[0]);
            if (f.has_min && f.is_16)
                _mm512_store_ps(c->min[b][1][p], s.min[1]);
        }
    }
}

/* n tokens times `panels` panels from `first` on, over one unpacked slab. */
INLINE void tile(const format f, const chunk *c, const ap_act_slab *a, float (*sums)[PANELS][16], uint32_t blocks,
                 const int n, const int first, const int panels)
{
    for (uint32_t b = 0; b < blocks; b++) {
        __m512i dot[2][4][PANELS];
        UNROLL for (int t = 0; t < n; t++) {
            __m512i begin = start(f, a + t, b, 0), begin1 = f.is_16 ? start(f, a + t, b, 1) : begin;
            UNROLL for (int p = 0; p < panels; p++) {
                dot[0][t][p] = begin;
                dot[1][t][p] = begin1;
            }
        }
        UNROLL for (int i = 0; i < 8; i++) {
            const int half = f.is_16 ? i / 4 : 0;
            __m512i q[PANELS];
            UNROLL for (int p = 0; p < panels; p++) {
                q[p] = _mm512_load_si512(c->code[b][i][first + p]);
                /* Keep it: gcc would load it again for each token, and loads are the next limit. */
                __asm__("" : "+v"(q[p]));
            }
            UNROLL for (int t = 0; t < n; t++) {
                __m512i x = activation(a + t, b, i);
                UNROLL for (int p = 0; p < panels; p++)
                    dot[half][t][p] = dot4(dot[half][t][p], q[p], x, codes_are_signed(f));
            }
        }
        UNROLL for (int t = 0; t < n; t++)
            UNROLL for (int p = 0; p < panels; p++) {
                scales s = {{_mm512_load_ps(c->scale[b][0][first + p]), _mm512_load_ps(c->scale[b][1][first + p])},
                            {_mm512_load_ps(c->min[b][0][first + p]), _mm512_load_ps(c->min[b][1][first + p])}};
                float *sum = sums[t][first + p];
                _mm512_store_ps(sum, chain(f, s, dot[0][t][p], dot[1][t][p], a + t, b, _mm512_load_ps(sum)));
            }
    }
}

/* All tokens over one slab: 12 dots at a time (16 where each block has two) and what
 * else the chain needs fill the 32 registers. */
INLINE void tiles(const format f, const chunk *c, const ap_act_slab *a, float (*sums)[PANELS][16], uint32_t blocks,
                  uint32_t tokens)
{
    uint32_t t = 0;
    if (f.is_16) {
        for (; t + 4 <= tokens; t += 4)
            UNROLL for (int p = 0; p < PANELS; p += 2)
                tile(f, c, a + t, sums + t, blocks, 4, p, 2);
        for (; t < tokens; t++)
            tile(f, c, a + t, sums + t, blocks, 1, 0, PANELS);
    } else {
        for (; t + 3 <= tokens; t += 3)
            tile(f, c, a + t, sums + t, blocks, 3, 0, PANELS);
        if (tokens - t == 2)
            tile(f, c, a + t, sums + t, blocks, 2, 0, PANELS);
        else if (tokens - t == 1)
            tile(f, c, a + t, sums + t, blocks, 1, 0, PANELS);
    }
}

INLINE void many(const format f, const ap_matmul_job *job, const group *g, uint32_t begin, uint32_t end)
{
    const ap_acts *acts = job->acts;
    _Alignas(64) chunk c;
    _Alignas(64) float sums[TOKENS_AT_ONCE][PANELS][16];
    uint32_t blocks = job->matrix->cols / AP_BLOCK_COLS;
    size_t records = (size_t)acts->tokens * acts->planes;
    for (uint32_t record = begin; record < end; record += TOKENS_AT_ONCE) {
        uint32_t count = end - record < TOKENS_AT_ONCE ? end - record : TOKENS_AT_ONCE;
        memset(sums, 0, count * sizeof *sums);
        for (uint32_t b = 0; b < blocks; b += 8) {
            uint32_t here = blocks - b < 8 ? blocks - b : 8;
            unpack(f, g, b, here, &c);
            tiles(f, &c, acts->slabs + b / 8 * records + record, sums, here, count);
        }
        for (uint32_t t = 0; t < count; t += acts->planes)
            store_sums(job, g, record + t, (const __m512(*)[PANELS])(const void *)sums[t]);
    }
}

INLINE void product(const format f, const ap_matmul_job *job, ap_matmul_part part)
{
    size_t panel_bytes = (size_t)(job->matrix->cols / (AP_BLOCK_COLS * f.blocks_per)) * f.block_bytes;
    for (uint32_t panel = part.panel_begin; panel < part.panel_end; panel += PANELS) {
        group g = group_at(job, panel_bytes, panel, part.panel_end);
        uint32_t begin = part.token_begin * job->acts->planes, end = part.token_end * job->acts->planes;
        if (end - begin <= FEW_MAX)
            for (uint32_t r = begin; r < end; r += TOKENS_FEW)
                few(f, job, &g, r, end - r < TOKENS_FEW ? end - r : TOKENS_FEW);
        else
            many(f, job, &g, begin, end);
    }
}

#define X(TYPE, name, chain) \
    static void product_##name(const ap_matmul_job *job, ap_matmul_part part) { product(name, job, part); }
AP_CODE_TYPES(X)
#undef X

void INSTALL(ap_kernels *kernels)
{
    ap_matmul_ops *ops = &kernels->matmul;
#define X(TYPE, name, chain) ops->product[AP_TYPE_##TYPE] = product_##name;
    AP_CODE_TYPES(X)
#undef X
}
