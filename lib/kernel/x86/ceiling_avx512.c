/* ceiling_avx512.c - the dots of AVX-512 without VNNI, which its products widen one by one.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <immintrin.h>

#define CHAINS 8

static inline __attribute__((always_inline)) __m512i dot4(__m512i sum, __m512i x, __m512i y)
{
    return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(x, y), _mm512_set1_epi16(1)));
}

#define INSTALL ap_ceiling_install_avx512
#include "kernel/x86/ceiling_zmm_tmpl.c"
