/* lanes_avx2.h - sixteen floats as two AVX2 registers; lanes_plain.h has the meaning.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_KERNEL_LANES_H
#define AP_KERNEL_LANES_H

#include <immintrin.h>
#include <stdint.h>

typedef struct ap_lanes {
    __m256 a, b;
} ap_lanes;

enum { LANES_HELD = 4, LANES_ROWS = 4 }; /* 8 of 16 registers are sums; with 12 gcc spills */

static inline ap_lanes lanes_set(float x) { return (ap_lanes){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
static inline ap_lanes lanes_load(const float *p) { return (ap_lanes){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
static inline void lanes_store(float *p, ap_lanes x)
{
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
static inline ap_lanes lanes_load_some(const float *p, uint32_t n)
{
    float whole[16] = {0};
    for (uint32_t i = 0; i < n; i++)
        whole[i] = p[i];
    return lanes_load(whole);
}
static inline void lanes_store_some(float *p, ap_lanes x, uint32_t n)
{
    float whole[16];
    lanes_store(whole, x);
    for (uint32_t i = 0; i < n; i++)
        p[i] = whole[i];
}
static inline ap_lanes lanes_load_half(const uint16_t *p)
{
    return (ap_lanes){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)),
                      _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p + 8)))};
}
static inline ap_lanes lanes_load_half_some(const uint16_t *p, uint32_t n)
{
    uint16_t whole[16] = {0};
    for (uint32_t i = 0; i < n; i++)
        whole[i] = p[i];
    return lanes_load_half(whole);
}
static inline __m256 lanes_widen_bf16(const uint16_t *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)), 16));
}
static inline ap_lanes lanes_load_bf16(const uint16_t *p) { return (ap_lanes){lanes_widen_bf16(p), lanes_widen_bf16(p + 8)}; }
static inline ap_lanes lanes_load_code(const int8_t *p)
{
    __m128i codes = _mm_loadu_si128((const __m128i *)(const void *)p);
    return (ap_lanes){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes)),
                      _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(codes, codes)))};
}
static inline ap_lanes lanes_load_code_some(const int8_t *p, uint32_t n)
{
    int8_t whole[16] = {0};
    for (uint32_t i = 0; i < n; i++)
        whole[i] = p[i];
    return lanes_load_code(whole);
}
static inline ap_lanes lanes_add(ap_lanes x, ap_lanes y)
{
    return (ap_lanes){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}
static inline ap_lanes lanes_sub(ap_lanes x, ap_lanes y)
{
    return (ap_lanes){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}
static inline ap_lanes lanes_mul(ap_lanes x, ap_lanes y)
{
    return (ap_lanes){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}
static inline ap_lanes lanes_div(ap_lanes x, ap_lanes y)
{
    return (ap_lanes){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}
static inline ap_lanes lanes_fma(ap_lanes x, ap_lanes y, ap_lanes z)
{
    return (ap_lanes){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
/* The instruction is a > b ? a : b exactly, NaN and zeros of two signs included. */
static inline ap_lanes lanes_max(ap_lanes x, ap_lanes y)
{
    return (ap_lanes){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)};
}
static inline ap_lanes lanes_if_less(ap_lanes x, ap_lanes y, ap_lanes yes, ap_lanes no)
{
    return (ap_lanes){_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ)),
                      _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ))};
}
static inline __m256 lanes_scale_half(__m256 p, __m256 t)
{
    __m256i n = _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(0x4b400000));
    __m256i half = _mm256_srai_epi32(n, 1), bias = _mm256_set1_epi32(127);
    __m256i first = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    __m256i second = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(n, half), bias), 23);
    return _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second));
}
static inline ap_lanes lanes_scale(ap_lanes p, ap_lanes t)
{
    return (ap_lanes){lanes_scale_half(p.a, t.a), lanes_scale_half(p.b, t.b)};
}

#endif
