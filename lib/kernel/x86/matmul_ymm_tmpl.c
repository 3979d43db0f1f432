/* matmul_ymm_tmpl.c - block products in 256-bit registers (AVX2, FMA, F16C), compiled once per level.
 *
 * AP_DPBUSD: the instruction that adds four unsigned x signed products without saturating, or undefined where there is none
 * (`maddubs`, below); AP_MATMUL_INSTALL: the name of the function that puts these into a table.
 *
 * A panel's 16 rows are two registers of eight; the codes of one block of one half
 * panel are eight registers, which stay while up to 16 tokens pass.  There is no
 * second way for many tokens: with `maddubs` the multiplier is the limit, and
 * unpacking once more per 16 tokens costs a few percent (bench/LOG.md).
 *
 * `maddubs` adds two unsigned x signed products into 16 bits and saturates beyond
 * 32767, so each format may add up only so many groups before widening:
 *
 *     codes <= 15, 8 groups     8 * 2 * 15 * 127 = 30480  (MXFP4: |codes| <= 12)
 *     codes <= 31, 4 groups     4 * 2 * 31 * 127 = 31496
 *     codes <= 63, 2 groups     2 * 2 * 63 * 127 = 32004
 *     |codes| <= 128, 1 group   1 * 2 * 128 * 127 = 32512, the code's sign moved to
 *                               the activation, which is never -128
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <immintrin.h>
#include <string.h>

#include "kernel/level.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

enum { PANELS = 4, TOKENS_AT_ONCE = 16, PREFETCH_BYTES = 2048 };

/* What varies by format, all known while compiling. */
typedef struct format {
    ap_type type;
    int offset; /* true code = unsigned code - offset */
    bool has_min;
    bool is_16;
    int groups; /* that fit one 16-bit sum */
    uint32_t block_bytes, blocks_per;
} format;

static const format q4_0 = {AP_TYPE_Q4_0, 8, false, false, 8, sizeof(ap_panel_q4_0), 1};
static const format q4_1 = {AP_TYPE_Q4_1, 0, true, false, 8, sizeof(ap_panel_q4_1), 1};
static const format q5_0 = {AP_TYPE_Q5_0, 16, false, false, 4, sizeof(ap_panel_q5_0), 1};
static const format q5_1 = {AP_TYPE_Q5_1, 0, true, false, 4, sizeof(ap_panel_q5_1), 1};
static const format q8_0 = {AP_TYPE_Q8_0, 0, false, false, 1, sizeof(ap_panel_q8_0), 1};
static const format q4_k = {AP_TYPE_Q4_K, 0, true, false, 8, sizeof(ap_panel_q4_k), 8};
static const format q5_k = {AP_TYPE_Q5_K, 0, true, false, 4, sizeof(ap_panel_q5_k), 8};
static const format q6_k = {AP_TYPE_Q6_K, 32, false, true, 2, sizeof(ap_panel_q6_k), 8};
static const format q2_k = {AP_TYPE_Q2_K, 0, true, true, 4, sizeof(ap_panel_q2_k), 8};
static const format q3_k = {AP_TYPE_Q3_K, 4, false, true, 4, sizeof(ap_panel_q3_k), 8};
static const format q8_k = {AP_TYPE_Q8_K, 0, false, false, 1, sizeof(ap_panel_q8_k), 8};
static const format iq4_nl = {AP_TYPE_IQ4_NL, 0, false, false, 1, sizeof(ap_panel_iq4_nl), 1};
static const format iq4_xs = {AP_TYPE_IQ4_XS, 0, false, false, 1, sizeof(ap_panel_iq4_xs), 8};
static const format mxfp4 = {AP_TYPE_MXFP4, 0, false, false, 8, sizeof(ap_panel_mxfp4), 1};

typedef struct scales {
    __m256 w[2], min[2];
} scales;

/* Of 16 rows, the eight of `half`. */
INLINE __m256 halves(const uint16_t from[16], int half)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + 8 * half)));
}

INLINE __m256i eight(const uint8_t from[16], int half)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(from + 8 * half)));
}

INLINE __m256 bytes_u(const uint8_t from[16], int half) { return _mm256_cvtepi32_ps(eight(from, half)); }

INLINE __m256 bytes_s(const int8_t from[16], int half)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(from + 8 * half))));
}

INLINE __m256 negated(__m256 x) { return _mm256_xor_ps(x, _mm256_set1_ps(-0.0f)); }

static_assert(offsetof(ap_panel_q5_1, m) == offsetof(ap_panel_q4_1, m), "load_scales reads both alike");

INLINE scales load_scales(const format f, const unsigned char *panel, uint32_t block, int half)
{
    const unsigned char *p = panel + (size_t)(block / f.blocks_per) * f.block_bytes;
    uint32_t part = block % f.blocks_per;
    scales s = {0};
    switch (f.type) {
    case AP_TYPE_Q4_1:
    case AP_TYPE_Q5_1:
        s.w[0] = halves(((const ap_panel_q4_1 *)p)->d, half);
        s.min[0] = halves(((const ap_panel_q4_1 *)p)->m, half);
        break;
    case AP_TYPE_Q4_K: {
        const ap_panel_q4_k *k = (const ap_panel_q4_k *)p;
        s.w[0] = _mm256_mul_ps(halves(k->d, half), bytes_u(k->part[part].scale, half));
        s.min[0] = negated(_mm256_mul_ps(halves(k->dmin, half), bytes_u(k->part[part].min, half)));
        break;
    }
    case AP_TYPE_Q5_K: {
        const ap_panel_q5_k *k = (const ap_panel_q5_k *)p;
        s.w[0] = _mm256_mul_ps(halves(k->d, half), bytes_u(k->part[part].scale, half));
        s.min[0] = negated(_mm256_mul_ps(halves(k->dmin, half), bytes_u(k->part[part].min, half)));
        break;
    }
    case AP_TYPE_Q6_K: {
        const ap_panel_q6_k *k = (const ap_panel_q6_k *)p;
        s.w[0] = _mm256_mul_ps(halves(k->d, half), bytes_s(k->part[part].scale[0], half));
        s.w[1] = _mm256_mul_ps(halves(k->d, half), bytes_s(k->part[part].scale[1], half));
        break;
    }
    case AP_TYPE_Q2_K: {
        const ap_panel_q2_k *k = (const ap_panel_q2_k *)p;
        UNROLL for (int h = 0; h < 2; h++) {
            __m256i both = eight(k->part[part].scale_min[h], half);
            __m256i scale = _mm256_and_si256(both, _mm256_set1_epi32(15)), min = _mm256_srli_epi32(both, 4);
            s.w[h] = _mm256_mul_ps(halves(k->d, half), _mm256_cvtepi32_ps(scale));
            s.min[h] = negated(_mm256_mul_ps(halves(k->dmin, half), _mm256_cvtepi32_ps(min)));
        }
        break;
    }
    case AP_TYPE_Q3_K: {
        const ap_panel_q3_k *k = (const ap_panel_q3_k *)p;
        __m256i low = eight(k->part[part].scale_low, half);
        __m256i top = _mm256_srli_epi32(eight(k->scale_top[part / 2], half), 4 * (int)(part % 2));
        UNROLL for (int h = 0; h < 2; h++) {
            __m256i bits = _mm256_and_si256(_mm256_srli_epi32(low, 4 * h), _mm256_set1_epi32(15));
            __m256i two = _mm256_and_si256(_mm256_srli_epi32(top, 2 * h), _mm256_set1_epi32(3));
            bits = _mm256_sub_epi32(_mm256_or_si256(bits, _mm256_slli_epi32(two, 4)), _mm256_set1_epi32(32));
            s.w[h] = _mm256_mul_ps(halves(k->d, half), _mm256_cvtepi32_ps(bits));
        }
        break;
    }
    case AP_TYPE_Q8_K: s.w[0] = _mm256_loadu_ps(((const ap_panel_q8_k *)p)->d + 8 * half); break;
    case AP_TYPE_IQ4_XS: {
        const ap_panel_iq4_xs *k = (const ap_panel_iq4_xs *)p;
        __m256i scale = _mm256_sub_epi32(eight(k->part[part].scale, half), _mm256_set1_epi32(32));
        s.w[0] = _mm256_mul_ps(halves(k->d, half), _mm256_cvtepi32_ps(scale));
        break;
    }
    case AP_TYPE_MXFP4: {
        __m256i e = eight(((const ap_panel_mxfp4 *)p)->e, half);
        __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
        __m256i tiny = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
        __m256i is_tiny = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e);
        s.w[0] = _mm256_castsi256_ps(_mm256_blendv_epi8(normal, tiny, is_tiny));
        break;
    }
    default: s.w[0] = halves((const uint16_t *)p, half); break;
    }
    return s;
}

INLINE __m256i load(const void *p) { return _mm256_loadu_si256(p); }

INLINE void nibbles(const uint8_t code[4][64], int half, __m256i q[8])
{
    const __m256i low = _mm256_set1_epi8(15);
    UNROLL for (int v = 0; v < 4; v++) {
        __m256i both = load(code[v] + 32 * half);
        q[v] = _mm256_and_si256(both, low);
        q[v + 4] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
    }
}

INLINE void add_fifth(const uint8_t high[64], int half, __m256i q[8])
{
    const __m256i bit = _mm256_set1_epi8(16);
    __m256i h = load(high + 32 * half);
    UNROLL for (int g = 0; g < 8; g++)
        q[g] = _mm256_or_si256(
            q[g], _mm256_and_si256(g < 4 ? _mm256_slli_epi16(h, 4 - g) : _mm256_srli_epi16(h, g - 4), bit));
}

INLINE void add_top2(const uint8_t high[2][64], int half, __m256i q[8])
{
    const __m256i bits = _mm256_set1_epi8(48);
    UNROLL for (int i = 0; i < 2; i++) {
        __m256i h = load(high[i] + 32 * half);
        q[4 * i] = _mm256_or_si256(q[4 * i], _mm256_and_si256(_mm256_slli_epi16(h, 4), bits));
        q[4 * i + 1] = _mm256_or_si256(q[4 * i + 1], _mm256_and_si256(_mm256_slli_epi16(h, 2), bits));
        q[4 * i + 2] = _mm256_or_si256(q[4 * i + 2], _mm256_and_si256(h, bits));
        q[4 * i + 3] = _mm256_or_si256(q[4 * i + 3], _mm256_and_si256(_mm256_srli_epi16(h, 2), bits));
    }
}

INLINE void pairs(const uint8_t code[2][64], int half, __m256i q[8])
{
    const __m256i low = _mm256_set1_epi8(3);
    UNROLL for (int g = 0; g < 8; g++)
        q[g] = _mm256_and_si256(_mm256_srli_epi16(load(code[g / 4] + 32 * half), 2 * (g % 4)), low);
}

INLINE void add_third(const uint8_t high[64], int half, __m256i q[8])
{
    const __m256i bit = _mm256_set1_epi8(4);
    __m256i h = load(high + 32 * half);
    UNROLL for (int g = 0; g < 8; g++)
        q[g] = _mm256_or_si256(
            q[g], _mm256_and_si256(g < 2 ? _mm256_slli_epi16(h, 2 - g) : _mm256_srli_epi16(h, g - 2), bit));
}

INLINE void codebook(const uint8_t code[4][64], const int8_t table[16], int half, __m256i q[8])
{
    const __m256i values = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
    nibbles(code, half, q);
    UNROLL for (int g = 0; g < 8; g++)
        q[g] = _mm256_shuffle_epi8(values, q[g]);
}

INLINE void bytes(const int8_t code[8][64], int half, __m256i q[8])
{
    UNROLL for (int g = 0; g < 8; g++)
        q[g] = load(code[g] + 32 * half);
}

INLINE bool codes_are_signed(const format f)
{
    return f.type == AP_TYPE_Q8_0 || f.type == AP_TYPE_Q8_K || f.type == AP_TYPE_IQ4_NL || f.type == AP_TYPE_IQ4_XS ||
           f.type == AP_TYPE_MXFP4;
}

/* The eight groups of one block, eight rows. */
INLINE void load_codes(const format f, const unsigned char *panel, uint32_t block, int half, __m256i q[8])
{
    const unsigned char *p = panel + (size_t)(block / f.blocks_per) * f.block_bytes;
    uint32_t part = block % f.blocks_per;
    switch (f.type) {
    case AP_TYPE_Q4_0: nibbles(((const ap_panel_q4_0 *)p)->code, half, q); break;
    case AP_TYPE_Q4_1: nibbles(((const ap_panel_q4_1 *)p)->code, half, q); break;
    case AP_TYPE_Q5_0:
        nibbles(((const ap_panel_q5_0 *)p)->code, half, q);
        add_fifth(((const ap_panel_q5_0 *)p)->high, half, q);
        break;
    case AP_TYPE_Q5_1:
        nibbles(((const ap_panel_q5_1 *)p)->code, half, q);
        add_fifth(((const ap_panel_q5_1 *)p)->high, half, q);
        break;
    case AP_TYPE_Q8_0: bytes(((const ap_panel_q8_0 *)p)->code, half, q); break;
    case AP_TYPE_Q8_K: bytes(((const ap_panel_q8_k *)p)->code[part], half, q); break;
    case AP_TYPE_IQ4_NL: codebook(((const ap_panel_iq4_nl *)p)->code, ap_codes_iq4, half, q); break;
    case AP_TYPE_IQ4_XS: codebook(((const ap_panel_iq4_xs *)p)->part[part].code, ap_codes_iq4, half, q); break;
    case AP_TYPE_MXFP4: codebook(((const ap_panel_mxfp4 *)p)->code, ap_codes_mxfp4, half, q); break;
    case AP_TYPE_Q2_K: pairs(((const ap_panel_q2_k *)p)->part[part].pairs, half, q); break;
    case AP_TYPE_Q3_K:
        pairs(((const ap_panel_q3_k *)p)->part[part].pairs, half, q);
        add_third(((const ap_panel_q3_k *)p)->part[part].high, half, q);
        break;
    case AP_TYPE_Q4_K: nibbles(((const ap_panel_q4_k *)p)->part[part].code, half, q); break;
    case AP_TYPE_Q5_K:
        nibbles(((const ap_panel_q5_k *)p)->part[part].code, half, q);
        add_fifth(((const ap_panel_q5_k *)p)->part[part].high, half, q);
        break;
    default:
        nibbles(((const ap_panel_q6_k *)p)->part[part].code, half, q);
        add_top2(((const ap_panel_q6_k *)p)->part[part].high, half, q);
        break;
    }
}

INLINE __m256i activation(const ap_act_slab *a, uint32_t part, int group)
{
    int32_t four;
    memcpy(&four, a->code + 32 * part + 4 * group, 4);
    return _mm256_set1_epi32(four);
}

#ifdef AP_DPBUSD
/* Signed codes become unsigned by a bias, which the start of a sum takes back. */
INLINE int bias_of(const format f) { return codes_are_signed(f) ? 128 : f.offset; }

INLINE __m256i add_groups(const format f, const __m256i q[8], const ap_act_slab *a, uint32_t part, int from, int to, __m256i sum)
{
    UNROLL for (int g = from; g < to; g++) {
        __m256i code = codes_are_signed(f) ? _mm256_xor_si256(q[g], _mm256_set1_epi8(-128)) : q[g];
        __asm__(AP_DPBUSD " %2, %1, %0" : "+x"(sum) : "x"(code), "x"(activation(a, part, g)));
    }
    return sum;
}
#else
INLINE int bias_of(const format f) { return f.offset; }

INLINE __m256i add_groups(const format f, const __m256i q[8], const ap_act_slab *a, uint32_t part, int from, int to, __m256i sum)
{
    const __m256i ones = _mm256_set1_epi16(1);
    UNROLL for (int g = from; g < to; g += f.groups) {
        __m256i pairs = _mm256_setzero_si256();
        UNROLL for (int i = 0; i < f.groups; i++) {
            __m256i x = activation(a, part, g + i), code = q[g + i];
            __m256i two = codes_are_signed(f)
                              ? _mm256_maddubs_epi16(_mm256_abs_epi8(code), _mm256_sign_epi8(x, code))
                              : _mm256_maddubs_epi16(code, x);
            pairs = i == 0 ? two : _mm256_add_epi16(pairs, two);
        }
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
    }
    return sum;
}
#endif

/* The sum over groups [from, to) in 32 bits, started where the codes' bias wants it. */
INLINE __m256i dot(const format f, const __m256i q[8], const ap_act_slab *a, uint32_t part, int from, int to)
{
    int32_t codes = f.is_16 ? a->half_sum[2 * part + (from ? 1 : 0)] : a->sum[part];
    return add_groups(f, q, a, part, from, to, _mm256_set1_epi32(-bias_of(f) * codes));
}

INLINE __m256 chain(const format f, scales s, const __m256i q[8], const ap_act_slab *a, uint32_t part, __m256 acc)
{
    __m256 c, u;
    if (f.is_16 && f.has_min) {
        u = _mm256_mul_ps(s.min[1], _mm256_set1_ps((float)a->half_sum[2 * part + 1]));
        u = _mm256_fmadd_ps(s.min[0], _mm256_set1_ps((float)a->half_sum[2 * part]), u);
        u = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot(f, q, a, part, 4, 8)), s.w[1], u);
        u = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot(f, q, a, part, 0, 4)), s.w[0], u);
    } else if (f.is_16) {
        c = _mm256_cvtepi32_ps(dot(f, q, a, part, 0, 4));
        u = _mm256_mul_ps(_mm256_cvtepi32_ps(dot(f, q, a, part, 4, 8)), s.w[1]);
        u = _mm256_fmadd_ps(c, s.w[0], u);
    } else {
        c = _mm256_cvtepi32_ps(dot(f, q, a, part, 0, 8));
        if (f.has_min)
            u = _mm256_fmadd_ps(c, s.w[0], _mm256_mul_ps(s.min[0], _mm256_set1_ps(a->sum_f[part])));
        else
            u = _mm256_mul_ps(c, s.w[0]);
    }
    return _mm256_fmadd_ps(u, _mm256_set1_ps(a->d[part]), acc);
}

/* `count` records (planes of tokens) times up to four panels, one pass over the columns. */
INLINE void pass(const format f, const ap_matmul_job *job, uint32_t first, uint32_t end, size_t panel_bytes,
                 uint32_t record, uint32_t count)
{
    uint32_t panels = end - first < PANELS ? end - first : PANELS;
    const ap_acts *acts = job->acts;
    _Alignas(32) float sums[TOKENS_AT_ONCE][PANELS][16];
    memset(sums, 0, count * sizeof *sums);
    const unsigned char *start = job->matrix->panels + first * panel_bytes;
    uint32_t blocks = job->matrix->cols / AP_BLOCK_COLS;
    for (uint32_t block = 0; block < blocks; block++) {
        const ap_act_slab *a = acts->slabs + (size_t)(block / 8) * acts->tokens * acts->planes + record;
        uint32_t part = block % 8;
        size_t bytes = f.block_bytes / f.blocks_per, ahead = block * bytes + PREFETCH_BYTES;
        /* Past the end of a panel the next group's begin, three panels further on; in the
         * last group the panel's own beginning, what lies behind is another thread's. */
        if (ahead >= panel_bytes)
            ahead += end - first > PANELS ? (PANELS - 1) * panel_bytes : (size_t)0 - panel_bytes;
        for (uint32_t p = 0; p < panels; p++) {
            const unsigned char *panel = start + p * panel_bytes;
            for (size_t i = 0; i < bytes; i += 64)
                _mm_prefetch((const char *)(panel + ahead + i), _MM_HINT_T1);
            for (int half = 0; half < 2; half++) {
                __m256i q[8];
                load_codes(f, panel, block, half, q);
                scales s = load_scales(f, panel, block, half);
                for (uint32_t t = 0; t < count; t++) {
                    float *sum = sums[t][p] + 8 * half;
                    _mm256_store_ps(sum, chain(f, s, q, a + t, part, _mm256_load_ps(sum)));
                }
            }
        }
    }
    uint32_t row = first * AP_PANEL_ROWS, left = job->matrix->rows - row;
    uint32_t rows = left < panels * AP_PANEL_ROWS ? left : panels * AP_PANEL_ROWS;
    for (uint32_t t = 0; t < count; t += acts->planes) {
        for (uint32_t p = 0; acts->planes == 2 && p < panels; p++)
            for (int r = 0; r < 16; r++)
                sums[t][p][r] += sums[t + 1][p][r];
        memcpy(job->y + (record + t) / acts->planes * job->y_stride + row, sums[t], rows * sizeof(float));
    }
}

INLINE void product(const format f, const ap_matmul_job *job, ap_matmul_part part)
{
    size_t panel_bytes = (size_t)(job->matrix->cols / (AP_BLOCK_COLS * f.blocks_per)) * f.block_bytes;
    uint32_t begin = part.token_begin * job->acts->planes, end = part.token_end * job->acts->planes;
    for (uint32_t panel = part.panel_begin; panel < part.panel_end; panel += PANELS)
        for (uint32_t r = begin; r < end; r += TOKENS_AT_ONCE)
            pass(f, job, panel, part.panel_end, panel_bytes, r, end - r < TOKENS_AT_ONCE ? end - r : TOKENS_AT_ONCE);
}

#define X(TYPE, name, chain) \
    static void product_##name(const ap_matmul_job *job, ap_matmul_part part) { product(name, job, part); }
AP_CODE_TYPES(X)
#undef X

void AP_MATMUL_INSTALL(ap_kernels *kernels)
{
    ap_matmul_ops *ops = &kernels->matmul;
#define X(TYPE, name, chain) ops->product[AP_TYPE_##TYPE] = product_##name;
    AP_CODE_TYPES(X)
#undef X
}
