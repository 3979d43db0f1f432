/* matmul_avx512.c - block products with AVX-512 F, BW, VL and DQ, without VNNI.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <immintrin.h>
#include <stdbool.h>

enum { BYTE_BIAS = 0 };

/* vpmaddubsw adds two unsigned x signed products in 16 bits and saturates: safe for
 * codes up to 127 (2 * 127 * 127 = 32258) and, for the signed codes of Q8_0, with
 * |code| up to 128 and the code's sign moved to the activation, whose magnitude
 * is at most 127 (2 * 128 * 127 = 32512). */
static inline __attribute__((always_inline)) __m512i dot4(__m512i acc, __m512i q, __m512i x, const bool is_signed)
{
    if (is_signed) {
        x = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(q), _mm512_setzero_si512(), x);
        q = _mm512_abs_epi8(q);
    }
    __m512i pairs = _mm512_maddubs_epi16(q, x);
    return _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

#define INSTALL ap_matmul_install_avx512
#include "kernel/x86/matmul_zmm_tmpl.c"
