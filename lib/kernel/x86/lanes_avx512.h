/* lanes_avx512.h - sixteen floats as one AVX-512 register; lanes_plain.h has the meaning.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_KERNEL_LANES_H
#define AP_KERNEL_LANES_H

#include <immintrin.h>
#include <stdint.h>

typedef __m512 ap_lanes;

enum { LANES_HELD = 16, LANES_ROWS = 8 }; /* 16 of 32 registers are sums */

static inline ap_lanes lanes_set(float x) { return _mm512_set1_ps(x); }
static inline ap_lanes lanes_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void lanes_store(float *p, ap_lanes x) { _mm512_storeu_ps(p, x); }
static inline ap_lanes lanes_load_some(const float *p, uint32_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
static inline void lanes_store_some(float *p, ap_lanes x, uint32_t n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), x);
}
static inline ap_lanes lanes_load_half(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static inline ap_lanes lanes_load_half_some(const uint16_t *p, uint32_t n)
{
    uint16_t whole[16] = {0};
    for (uint32_t i = 0; i < n; i++)
        whole[i] = p[i];
    return lanes_load_half(whole);
}
static inline ap_lanes lanes_load_bf16(const uint16_t *p)
{
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p)), 16));
}
static inline ap_lanes lanes_load_code(const int8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}
static inline ap_lanes lanes_load_code_some(const int8_t *p, uint32_t n)
{
    int8_t whole[16] = {0};
    for (uint32_t i = 0; i < n; i++)
        whole[i] = p[i];
    return lanes_load_code(whole);
}
static inline ap_lanes lanes_add(ap_lanes x, ap_lanes y) { return _mm512_add_ps(x, y); }
static inline ap_lanes lanes_sub(ap_lanes x, ap_lanes y) { return _mm512_sub_ps(x, y); }
static inline ap_lanes lanes_mul(ap_lanes x, ap_lanes y) { return _mm512_mul_ps(x, y); }
static inline ap_lanes lanes_div(ap_lanes x, ap_lanes y) { return _mm512_div_ps(x, y); }
static inline ap_lanes lanes_fma(ap_lanes x, ap_lanes y, ap_lanes z) { return _mm512_fmadd_ps(x, y, z); }
/* The instruction is a > b ? a : b exactly, NaN and zeros of two signs included. */
static inline ap_lanes lanes_max(ap_lanes x, ap_lanes y) { return _mm512_max_ps(x, y); }
static inline ap_lanes lanes_if_less(ap_lanes x, ap_lanes y, ap_lanes yes, ap_lanes no)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, y, _CMP_LT_OQ), no, yes);
}
static inline ap_lanes lanes_scale(ap_lanes p, ap_lanes t)
{
    __m512i n = _mm512_sub_epi32(_mm512_castps_si512(t), _mm512_set1_epi32(0x4b400000));
    __m512i half = _mm512_srai_epi32(n, 1), bias = _mm512_set1_epi32(127);
    __m512i first = _mm512_slli_epi32(_mm512_add_epi32(half, bias), 23);
    __m512i second = _mm512_slli_epi32(_mm512_add_epi32(_mm512_sub_epi32(n, half), bias), 23);
    return _mm512_mul_ps(_mm512_mul_ps(p, _mm512_castsi512_ps(first)), _mm512_castsi512_ps(second));
}

#endif
