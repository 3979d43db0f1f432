/* matmul_neon_tmpl.c - block products with NEON, compiled once per level.
 *
 * AP_ARM_LEVEL: 0 for widening multiplications, 1 for SDOT (four products in each lane), 2 for SMMLA (two rows by two
 * tokens, eight columns); AP_MATMUL_INSTALL: the name of the function that puts these into a table.
 *
 * A panel's 16 rows are four registers of four; the codes of one block of half a panel are 16 registers, which stay
 * while up to 16 records of tokens pass.  Codes are made signed when they are loaded, so all dots are of signed bytes.
 *
 * With widening multiplications the sums are 16 bits wide at first, of as many groups as fit:
 *
 *     |codes| <= 32, 4 groups     4 * 32 * 127 = 16256
 *     |codes| <= 128, 2 groups    2 * 128 * 127 = 32512
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <arm_neon.h>
#include <string.h>

#include "kernel/level.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

enum { PANELS = 4, RECORDS_AT_ONCE = 16, PREFETCH_BYTES = 2048 };

/* What varies by format, all known while compiling. */
typedef struct format {
    ap_type type;
    int offset; /* true code = unsigned code - offset */
    bool has_min;
    bool is_16;
    bool is_wide; /* codes above 32 */
    uint32_t block_bytes, blocks_per;
} format;

static const format q4_0 = {AP_TYPE_Q4_0, 8, false, false, false, sizeof(ap_panel_q4_0), 1};
static const format q4_1 = {AP_TYPE_Q4_1, 0, true, false, false, sizeof(ap_panel_q4_1), 1};
static const format q5_0 = {AP_TYPE_Q5_0, 16, false, false, false, sizeof(ap_panel_q5_0), 1};
static const format q5_1 = {AP_TYPE_Q5_1, 0, true, false, false, sizeof(ap_panel_q5_1), 1};
static const format q8_0 = {AP_TYPE_Q8_0, 0, false, false, true, sizeof(ap_panel_q8_0), 1};
static const format q4_k = {AP_TYPE_Q4_K, 0, true, false, false, sizeof(ap_panel_q4_k), 8};
static const format q5_k = {AP_TYPE_Q5_K, 0, true, false, false, sizeof(ap_panel_q5_k), 8};
static const format q6_k = {AP_TYPE_Q6_K, 32, false, true, false, sizeof(ap_panel_q6_k), 8};
static const format q2_k = {AP_TYPE_Q2_K, 0, true, true, false, sizeof(ap_panel_q2_k), 8};
static const format q3_k = {AP_TYPE_Q3_K, 4, false, true, false, sizeof(ap_panel_q3_k), 8};
static const format q8_k = {AP_TYPE_Q8_K, 0, false, false, true, sizeof(ap_panel_q8_k), 8};
static const format iq4_nl = {AP_TYPE_IQ4_NL, 0, false, false, true, sizeof(ap_panel_iq4_nl), 1};
static const format iq4_xs = {AP_TYPE_IQ4_XS, 0, false, false, true, sizeof(ap_panel_iq4_xs), 8};
static const format mxfp4 = {AP_TYPE_MXFP4, 0, false, false, false, sizeof(ap_panel_mxfp4), 1};

/* ---- Scales of four rows ---- */

typedef struct scales {
    float32x4_t w[2], min[2];
} scales;

INLINE float32x4_t halves(const uint16_t from[16], int quarter)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from + 4 * quarter)));
}

/* Four bytes as 32-bit integers. */
INLINE uint32x4_t four(const uint8_t from[16], int quarter)
{
    uint32_t bytes;
    memcpy(&bytes, from + 4 * quarter, 4);
    return vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(bytes))));
}

INLINE float32x4_t bytes_u(const uint8_t from[16], int quarter) { return vcvtq_f32_u32(four(from, quarter)); }

INLINE float32x4_t bytes_s(const int8_t from[16], int quarter)
{
    uint32_t bytes;
    memcpy(&bytes, from + 4 * quarter, 4);
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(bytes))))));
}

static_assert(offsetof(ap_panel_q5_1, m) == offsetof(ap_panel_q4_1, m), "load_scales reads both alike");

INLINE scales load_scales(const format f, const unsigned char *panel, uint32_t block, int quarter)
{
    const unsigned char *p = panel + (size_t)(block / f.blocks_per) * f.block_bytes;
    uint32_t part = block % f.blocks_per;
    scales s = {0};
    switch (f.type) {
    case AP_TYPE_Q4_1:
    case AP_TYPE_Q5_1:
        s.w[0] = halves(((const ap_panel_q4_1 *)p)->d, quarter);
        s.min[0] = halves(((const ap_panel_q4_1 *)p)->m, quarter);
        break;
    case AP_TYPE_Q4_K: {
        const ap_panel_q4_k *k = (const ap_panel_q4_k *)p;
        s.w[0] = vmulq_f32(halves(k->d, quarter), bytes_u(k->part[part].scale, quarter));
        s.min[0] = vnegq_f32(vmulq_f32(halves(k->dmin, quarter), bytes_u(k->part[part].min, quarter)));
        break;
    }
    case AP_TYPE_Q5_K: {
        const ap_panel_q5_k *k = (const ap_panel_q5_k *)p;
        s.w[0] = vmulq_f32(halves(k->d, quarter), bytes_u(k->part[part].scale, quarter));
        s.min[0] = vnegq_f32(vmulq_f32(halves(k->dmin, quarter), bytes_u(k->part[part].min, quarter)));
        break;
    }
    case AP_TYPE_Q6_K: {
        const ap_panel_q6_k *k = (const ap_panel_q6_k *)p;
        UNROLL for (int h = 0; h < 2; h++)
            s.w[h] = vmulq_f32(halves(k->d, quarter), bytes_s(k->part[part].scale[h], quarter));
        break;
    }
    case AP_TYPE_Q2_K: {
        const ap_panel_q2_k *k = (const ap_panel_q2_k *)p;
        UNROLL for (int h = 0; h < 2; h++) {
            uint32x4_t both = four(k->part[part].scale_min[h], quarter);
            s.w[h] = vmulq_f32(halves(k->d, quarter), vcvtq_f32_u32(vandq_u32(both, vdupq_n_u32(15))));
            s.min[h] = vnegq_f32(vmulq_f32(halves(k->dmin, quarter), vcvtq_f32_u32(vshrq_n_u32(both, 4))));
        }
        break;
    }
    case AP_TYPE_Q3_K: {
        const ap_panel_q3_k *k = (const ap_panel_q3_k *)p;
        uint32x4_t low = four(k->part[part].scale_low, quarter), top = four(k->scale_top[part / 2], quarter);
        UNROLL for (int h = 0; h < 2; h++) {
            uint32x4_t bits = vandq_u32(vshlq_u32(low, vdupq_n_s32(-4 * h)), vdupq_n_u32(15));
            uint32x4_t two = vandq_u32(vshlq_u32(top, vdupq_n_s32(-(4 * (int)(part % 2) + 2 * h))), vdupq_n_u32(3));
            int32x4_t scale = vsubq_s32(vreinterpretq_s32_u32(vorrq_u32(bits, vshlq_n_u32(two, 4))), vdupq_n_s32(32));
            s.w[h] = vmulq_f32(halves(k->d, quarter), vcvtq_f32_s32(scale));
        }
        break;
    }
    case AP_TYPE_Q8_K: s.w[0] = vld1q_f32(((const ap_panel_q8_k *)p)->d + 4 * quarter); break;
    case AP_TYPE_IQ4_XS: {
        const ap_panel_iq4_xs *k = (const ap_panel_iq4_xs *)p;
        int32x4_t scale = vsubq_s32(vreinterpretq_s32_u32(four(k->part[part].scale, quarter)), vdupq_n_s32(32));
        s.w[0] = vmulq_f32(halves(k->d, quarter), vcvtq_f32_s32(scale));
        break;
    }
    case AP_TYPE_MXFP4: {
        uint32x4_t e = four(((const ap_panel_mxfp4 *)p)->e, quarter);
        uint32x4_t normal = vshlq_n_u32(vsubq_u32(e, vdupq_n_u32(1)), 23);
        uint32x4_t tiny = vshlq_u32(vdupq_n_u32(0x00200000), vreinterpretq_s32_u32(e));
        s.w[0] = vreinterpretq_f32_u32(vbslq_u32(vcltq_u32(e, vdupq_n_u32(2)), tiny, normal));
        break;
    }
    default: s.w[0] = halves((const uint16_t *)p, quarter); break;
    }
    return s;
}

/* ---- Codes of four rows: q[g] has the four columns of group g ---- */

INLINE void nibbles(const uint8_t code[4][64], int quarter, uint8x16_t q[8])
{
    UNROLL for (int v = 0; v < 4; v++) {
        uint8x16_t both = vld1q_u8(code[v] + 16 * quarter);
        q[v] = vandq_u8(both, vdupq_n_u8(15));
        q[v + 4] = vshrq_n_u8(both, 4);
    }
}

/* `mask` of `bytes` moved down by `down` (up, where it is negative). */
INLINE uint8x16_t moved(uint8x16_t bytes, const int down, uint8_t mask)
{
    return vandq_u8(vshlq_u8(bytes, vdupq_n_s8((int8_t)-down)), vdupq_n_u8(mask));
}

INLINE void add_bit(const uint8_t high[64], int quarter, const int place, uint8x16_t q[8])
{
    uint8x16_t h = vld1q_u8(high + 16 * quarter);
    UNROLL for (int g = 0; g < 8; g++)
        q[g] = vorrq_u8(q[g], moved(h, g - place, (uint8_t)(1 << place)));
}

INLINE void add_top2(const uint8_t high[2][64], int quarter, uint8x16_t q[8])
{
    UNROLL for (int g = 0; g < 8; g++)
        q[g] = vorrq_u8(q[g], moved(vld1q_u8(high[g / 4] + 16 * quarter), 2 * (g % 4) - 4, 48));
}

INLINE void pairs(const uint8_t code[2][64], int quarter, uint8x16_t q[8])
{
    UNROLL for (int g = 0; g < 8; g++)
        q[g] = moved(vld1q_u8(code[g / 4] + 16 * quarter), 2 * (g % 4), 3);
}

INLINE void codebook(const uint8_t code[4][64], const int8_t table[16], int quarter, uint8x16_t q[8])
{
    const uint8x16_t values = vreinterpretq_u8_s8(vld1q_s8(table));
    nibbles(code, quarter, q);
    UNROLL for (int g = 0; g < 8; g++)
        q[g] = vqtbl1q_u8(values, q[g]);
}

INLINE void bytes(const int8_t code[8][64], int quarter, uint8x16_t q[8])
{
    UNROLL for (int g = 0; g < 8; g++)
        q[g] = vreinterpretq_u8_s8(vld1q_s8(code[g] + 16 * quarter));
}

INLINE void load_codes(const format f, const unsigned char *panel, uint32_t block, int quarter, int8x16_t out[8])
{
    const unsigned char *p = panel + (size_t)(block / f.blocks_per) * f.block_bytes;
    uint32_t part = block % f.blocks_per;
    uint8x16_t q[8];
    switch (f.type) {
    case AP_TYPE_Q4_0: nibbles(((const ap_panel_q4_0 *)p)->code, quarter, q); break;
    case AP_TYPE_Q4_1: nibbles(((const ap_panel_q4_1 *)p)->code, quarter, q); break;
    case AP_TYPE_Q5_0:
        nibbles(((const ap_panel_q5_0 *)p)->code, quarter, q);
        add_bit(((const ap_panel_q5_0 *)p)->high, quarter, 4, q);
        break;
    case AP_TYPE_Q5_1:
        nibbles(((const ap_panel_q5_1 *)p)->code, quarter, q);
        add_bit(((const ap_panel_q5_1 *)p)->high, quarter, 4, q);
        break;
    case AP_TYPE_Q8_0: bytes(((const ap_panel_q8_0 *)p)->code, quarter, q); break;
    case AP_TYPE_Q8_K: bytes(((const ap_panel_q8_k *)p)->code[part], quarter, q); break;
    case AP_TYPE_IQ4_NL: codebook(((const ap_panel_iq4_nl *)p)->code, ap_codes_iq4, quarter, q); break;
    case AP_TYPE_IQ4_XS: codebook(((const ap_panel_iq4_xs *)p)->part[part].code, ap_codes_iq4, quarter, q); break;
    case AP_TYPE_MXFP4: codebook(((const ap_panel_mxfp4 *)p)->code, ap_codes_mxfp4, quarter, q); break;
    case AP_TYPE_Q2_K: pairs(((const ap_panel_q2_k *)p)->part[part].pairs, quarter, q); break;
    case AP_TYPE_Q3_K:
        pairs(((const ap_panel_q3_k *)p)->part[part].pairs, quarter, q);
        add_bit(((const ap_panel_q3_k *)p)->part[part].high, quarter, 2, q);
        break;
    case AP_TYPE_Q4_K: nibbles(((const ap_panel_q4_k *)p)->part[part].code, quarter, q); break;
    case AP_TYPE_Q5_K:
        nibbles(((const ap_panel_q5_k *)p)->part[part].code, quarter, q);
        add_bit(((const ap_panel_q5_k *)p)->part[part].high, quarter, 4, q);
        break;
    default:
        nibbles(((const ap_panel_q6_k *)p)->part[part].code, quarter, q);
        add_top2(((const ap_panel_q6_k *)p)->part[part].high, quarter, q);
        break;
    }
    UNROLL for (int g = 0; g < 8; g++)
        out[g] = vreinterpretq_s8_u8(f.offset ? vsubq_u8(q[g], vdupq_n_u8((uint8_t)f.offset)) : q[g]);
#if AP_ARM_LEVEL == 2
    /* A row's eight columns side by side, as SMMLA takes them: rows 0, 1 and rows 2, 3 of each two groups. */
    UNROLL for (int g = 0; g < 8; g += 2) {
        int32x4_t first = vreinterpretq_s32_s8(out[g]), second = vreinterpretq_s32_s8(out[g + 1]);
        out[g] = vreinterpretq_s8_s32(vzip1q_s32(first, second));
        out[g + 1] = vreinterpretq_s8_s32(vzip2q_s32(first, second));
    }
#endif
}

/* ---- Dots of four rows with the codes of RECORDS records ---- */

/* Of the first and the second 16 columns; of all 32 in sum[0] where the format does not tell them apart. */
typedef struct dots {
    int32x4_t sum[2];
} dots;

#if AP_ARM_LEVEL == 2

enum { RECORDS = 2 };

INLINE void dot(const format f, const int8x16_t q[8], const int8_t *const x[RECORDS], dots out[RECORDS])
{
    int32x4_t low[2], high[2]; /* rows 0 and 1, rows 2 and 3: each by both records */
    UNROLL for (int h = 0; h < 2; h++) {
        low[h] = h && !f.is_16 ? low[0] : vdupq_n_s32(0);
        high[h] = h && !f.is_16 ? high[0] : vdupq_n_s32(0);
        UNROLL for (int g = 4 * h; g < 4 * h + 4; g += 2) {
            int8x16_t both = vcombine_s8(vld1_s8(x[0] + 4 * g), vld1_s8(x[1] + 4 * g));
            low[h] = vmmlaq_s32(low[h], q[g], both);
            high[h] = vmmlaq_s32(high[h], q[g + 1], both);
        }
    }
    UNROLL for (int h = 0; h < 2; h++) {
        int at = f.is_16 ? h : 1;
        out[0].sum[h] = vuzp1q_s32(low[at], high[at]);
        out[1].sum[h] = vuzp2q_s32(low[at], high[at]);
    }
}

#else

enum { RECORDS = 1 };

#if AP_ARM_LEVEL == 1
/* The sum of groups 4h to 4h + 3, added to `sum`. */
INLINE int32x4_t dot_half(const format f, const int8x16_t q[8], const int8_t *x, int h, int32x4_t sum)
{
    int8x16_t codes = vld1q_s8(x + 16 * h);
    (void)f;
    sum = vdotq_laneq_s32(sum, q[4 * h], codes, 0);
    sum = vdotq_laneq_s32(sum, q[4 * h + 1], codes, 1);
    sum = vdotq_laneq_s32(sum, q[4 * h + 2], codes, 2);
    return vdotq_laneq_s32(sum, q[4 * h + 3], codes, 3);
}
#else
INLINE int32x4_t dot_half(const format f, const int8x16_t q[8], const int8_t *x, int h, int32x4_t sum)
{
    int32x4_t low = vdupq_n_s32(0), high = low; /* rows 0 and 1, rows 2 and 3: two sums of each */
    int16x8_t first = vdupq_n_s16(0), second = first;
    UNROLL for (int i = 0; i < 4; i++) {
        int32_t columns;
        memcpy(&columns, x + 16 * h + 4 * i, 4);
        int8x16_t codes = vreinterpretq_s8_s32(vdupq_n_s32(columns));
        first = vmlal_s8(first, vget_low_s8(q[4 * h + i]), vget_low_s8(codes));
        second = vmlal_high_s8(second, q[4 * h + i], codes);
        if (i == 3 || (f.is_wide && i == 1)) {
            low = vpadalq_s16(low, first);
            high = vpadalq_s16(high, second);
            first = second = vdupq_n_s16(0);
        }
    }
    return vaddq_s32(sum, vpaddq_s32(low, high));
}
#endif

INLINE void dot(const format f, const int8x16_t q[8], const int8_t *const x[RECORDS], dots out[RECORDS])
{
    int32x4_t zero = vdupq_n_s32(0);
    out->sum[0] = dot_half(f, q, x[0], 0, zero);
    out->sum[1] = dot_half(f, q, x[0], 1, f.is_16 ? zero : out->sum[0]);
    if (!f.is_16)
        out->sum[0] = out->sum[1];
}

#endif

INLINE float32x4_t chain(const format f, scales s, dots d, const ap_act_slab *a, uint32_t part, float32x4_t acc)
{
    float32x4_t first = vcvtq_f32_s32(d.sum[0]), u;
    if (f.is_16 && f.has_min) {
        u = vmulq_n_f32(s.min[1], (float)a->half_sum[2 * part + 1]);
        u = vfmaq_n_f32(u, s.min[0], (float)a->half_sum[2 * part]);
        u = vfmaq_f32(u, vcvtq_f32_s32(d.sum[1]), s.w[1]);
        u = vfmaq_f32(u, first, s.w[0]);
    } else if (f.is_16) {
        u = vmulq_f32(vcvtq_f32_s32(d.sum[1]), s.w[1]);
        u = vfmaq_f32(u, first, s.w[0]);
    } else if (f.has_min) {
        u = vfmaq_f32(vmulq_n_f32(s.min[0], a->sum_f[part]), first, s.w[0]);
    } else {
        u = vmulq_f32(first, s.w[0]);
    }
    return vfmaq_n_f32(acc, u, a->d[part]);
}

/* Half a panel: eight rows of one block, for `count` records; sums are PANELS * 16 floats apart. */
INLINE void half_panel(const format f, const unsigned char *panel, uint32_t block, int half, const ap_act_slab *a, uint32_t count,
                       float *sums)
{
    uint32_t part = block % 8;
    int8x16_t q[2][8];
    scales s[2];
    UNROLL for (int i = 0; i < 2; i++) {
        load_codes(f, panel, block, 2 * half + i, q[i]);
        s[i] = load_scales(f, panel, block, 2 * half + i);
    }
    for (uint32_t t = 0; t < count; t += RECORDS) {
        uint32_t last = t + RECORDS <= count ? RECORDS - 1 : 0; /* a record without a partner is its own */
        const int8_t *const x[2] = {a[t].code + 32 * part, a[t + last].code + 32 * part};
        UNROLL for (int i = 0; i < 2; i++) {
            dots d[RECORDS];
            dot(f, q[i], x, d);
            UNROLL for (uint32_t r = 0; r < RECORDS; r++) {
                if (r > last)
                    break;
                float *sum = sums + (size_t)(t + r) * PANELS * 16 + 4 * i;
                vst1q_f32(sum, chain(f, s[i], d[r], a + t + r, part, vld1q_f32(sum)));
            }
        }
    }
}

/* `count` records (planes of tokens) times up to four panels, one pass over the columns. */
INLINE void pass(const format f, const ap_matmul_job *job, uint32_t first, uint32_t end, size_t panel_bytes, uint32_t record,
                 uint32_t count)
{
    uint32_t panels = end - first < PANELS ? end - first : PANELS;
    const ap_acts *acts = job->acts;
    float sums[RECORDS_AT_ONCE][PANELS][16];
    memset(sums, 0, count * sizeof *sums);
    const unsigned char *start = job->matrix->panels + first * panel_bytes;
    uint32_t blocks = job->matrix->cols / AP_BLOCK_COLS;
    for (uint32_t block = 0; block < blocks; block++) {
        const ap_act_slab *a = acts->slabs + (size_t)(block / 8) * acts->tokens * acts->planes + record;
        size_t bytes_per = f.block_bytes / f.blocks_per, ahead = block * bytes_per + PREFETCH_BYTES;
        /* Past the end of a panel the next group's begin, three panels further on; in the
         * last group the panel's own beginning, what lies behind is another thread's. */
        if (ahead >= panel_bytes)
            ahead += end - first > PANELS ? (PANELS - 1) * panel_bytes : (size_t)0 - panel_bytes;
        for (uint32_t p = 0; p < panels; p++) {
            const unsigned char *panel = start + p * panel_bytes;
            for (size_t i = 0; i < bytes_per; i += 64)
                __builtin_prefetch(panel + ahead + i);
            for (int half = 0; half < 2; half++)
                half_panel(f, panel, block, half, a, count, sums[0][p] + 8 * half);
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
        for (uint32_t r = begin; r < end; r += RECORDS_AT_ONCE)
            pass(f, job, panel, part.panel_end, panel_bytes, r, end - r < RECORDS_AT_ONCE ? end - r : RECORDS_AT_ONCE);
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
