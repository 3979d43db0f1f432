/* SPDX-License-Identifier: Apache-2.0 */
#include <cpuid.h>

#include "kernel/level.h"

/* clang 14 knows no name for this one. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

/* Nor for this one. */
static bool has_avxvnni(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1 << 4);
}

/* The builtin also asks whether the operating system saves the registers. */
bool ap_x86_has(ap_isa isa)
{
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    switch (isa) {
    case AP_ISA_PLAIN: return true;
    case AP_ISA_AVX2: return avx2;
    case AP_ISA_AVXVNNI: return avx2 && has_avxvnni();
    case AP_ISA_AVX512: return avx512;
    case AP_ISA_AVX512VNNI: return avx512 && __builtin_cpu_supports("avx512vnni");
    default: return false;
    }
}
