/* quantize_avx2.c - the 8-bit codes of activations with AVX2.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <immintrin.h>
#include <string.h>

#include "kernel/level.h"
#include "quant/half.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

INLINE int32_t sum_of(__m128i v)
{
    v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32(v, 0xb1)));
}

/* Sixteen codes in one register: their sum. */
INLINE int32_t sum_of_codes(__m128i codes)
{
    __m128i pairs = _mm_maddubs_epi16(_mm_set1_epi8(1), codes); /* 1 unsigned, codes signed */
    return sum_of(_mm_madd_epi16(pairs, _mm_set1_epi16(1)));
}

/* Magnitudes are compared as integers, which order floats as their values do and put
 * infinities and NaN on top.  What the codes leave over replaces x. */
INLINE void quantize_block(float *x, ap_act_slab *slab, uint32_t part)
{
    const __m256i magnitude = _mm256_set1_epi32(INT32_MAX);
    __m256 v[4];
    UNROLL for (int i = 0; i < 4; i++)
        v[i] = _mm256_loadu_ps(x + 8 * i);
    __m256i top = _mm256_and_si256(_mm256_castps_si256(v[0]), magnitude);
    UNROLL for (int i = 1; i < 4; i++)
        top = _mm256_max_epi32(top, _mm256_and_si256(_mm256_castps_si256(v[i]), magnitude));
    __m128i most = _mm_max_epi32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
    most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4e));
    most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0xb1));
    uint32_t bits = (uint32_t)_mm_cvtsi128_si32(most);
    float amax = ap_float_of_bits(bits), d = 0;
    __m128i low = _mm_setzero_si128(), high = low;
    __m256i q[4] = {0};
    if (bits >= 0x7f800000u) {
        d = ap_float_of_bits(0x7fc00000u);
    } else if (amax >= 0x1p-100f) {
        const __m256 id = _mm256_set1_ps(127.0f / amax);
        d = amax / 127.0f;
        UNROLL for (int i = 0; i < 4; i++)
            q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], id));
        /* Packing works within halves; the last permutation puts the eights in order.  The
         * clamp to +-127 is in the arithmetic: |x id| rounds to 127 at most. */
        __m256i pairs = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
        pairs = _mm256_permutevar8x32_epi32(pairs, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        low = _mm256_castsi256_si128(pairs);
        high = _mm256_extracti128_si256(pairs, 1);
    }
    UNROLL for (int i = 0; i < 4; i++)
        _mm256_storeu_ps(x + 8 * i, _mm256_fnmadd_ps(_mm256_cvtepi32_ps(q[i]), _mm256_set1_ps(d), v[i]));
    _mm_storeu_si128((__m128i *)(slab->code + 32 * part), low);
    _mm_storeu_si128((__m128i *)(slab->code + 32 * part + 16), high);
    int32_t sum0 = sum_of_codes(low), sum1 = sum_of_codes(high);
    slab->d[part] = d;
    slab->sum[part] = sum0 + sum1;
    slab->sum_f[part] = (float)(sum0 + sum1);
    slab->half_sum[2 * part] = (int16_t)sum0;
    slab->half_sum[2 * part + 1] = (int16_t)sum1;
}

static void quantize(const float *x, uint32_t cols, uint32_t planes, ap_act_slab *slabs, size_t slab_stride)
{
    for (uint32_t col = 0; col < cols; col += AP_SUPER_COLS) {
        ap_act_slab *slab = slabs + col / AP_SUPER_COLS * slab_stride;
        for (uint32_t part = 0; part < 8; part++) {
            uint32_t at = col + 32 * part, count = at >= cols ? 0 : cols - at;
            float rest[32] = {0};
            if (count > 0)
                memcpy(rest, x + at, (count < 32 ? count : 32) * sizeof *x);
            for (uint32_t plane = 0; plane < planes; plane++)
                quantize_block(rest, slab + plane, part);
        }
    }
}

void ap_quantize_install_avx2(ap_kernels *kernels) { kernels->matmul.quantize = quantize; }
