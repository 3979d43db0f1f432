/* ceiling_avx512vnni.c - the dots of AVX-512 VNNI: one instruction for four products in each lane.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <immintrin.h>

#define CHAINS 12 /* two units, five cycles: ten are enough */

static inline __attribute__((always_inline)) __m512i dot4(__m512i sum, __m512i x, __m512i y)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y));
    return sum;
}

#define INSTALL ap_ceiling_install_avx512vnni
#include "kernel/x86/ceiling_zmm_tmpl.c"
