/* matmul_avx512vnni.c - block products with AVX-512 VNNI: one instruction for four columns.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <immintrin.h>
#include <stdbool.h>

enum { BYTE_BIAS = 128 };

/* vpdpbusd adds four unsigned x signed products without saturating.  As an
 * instruction and not as an intrinsic: around the intrinsic gcc 12 moves every sum
 * to another register and back, which cost a quarter of the speed (bench/LOG.md). */
static inline __attribute__((always_inline)) __m512i dot4(__m512i acc, __m512i q, __m512i x, const bool is_signed)
{
    (void)is_signed; /* never: the bias makes all codes unsigned */
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(q), "v"(x));
    return acc;
}

#define INSTALL ap_matmul_install_avx512vnni
#include "kernel/x86/matmul_zmm_tmpl.c"
