/* level.h - who fills which part of the table; inside the room only.
 *
 * Adding an operation family: its header declares a struct of pointers, kernel.h
 * puts that struct into ap_kernels, each file that implements a part of it for a
 * level has one function here, and dispatch.c lists that function at its level.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_KERNEL_LEVEL_H
#define AP_KERNEL_LEVEL_H

#include "kernel/kernel.h"

typedef void ap_kernels_install_fn(ap_kernels *kernels);

ap_kernels_install_fn ap_matmul_install_plain, ap_vec_install_plain;
ap_kernels_install_fn ap_ceiling_install_plain;
ap_kernels_install_fn ap_attention_install_f16_plain, ap_attention_install_f32_plain, ap_attention_install_q8_plain;

#if AP_HAVE_X86
ap_kernels_install_fn ap_float_install_avx2, ap_float_install_avx512;
ap_kernels_install_fn ap_matmul_install_avx2, ap_matmul_install_avxvnni, ap_matmul_install_avx512, ap_matmul_install_avx512vnni;
ap_kernels_install_fn ap_quantize_install_avx2;
ap_kernels_install_fn ap_vec_install_avx2, ap_vec_install_avx512;
ap_kernels_install_fn ap_attention_install_f16_avx2, ap_attention_install_f32_avx2, ap_attention_install_q8_avx2;
ap_kernels_install_fn ap_attention_install_f16_avx512, ap_attention_install_f32_avx512, ap_attention_install_q8_avx512;
ap_kernels_install_fn ap_ceiling_install_avx2, ap_ceiling_install_avxvnni, ap_ceiling_install_avx512, ap_ceiling_install_avx512vnni;
bool ap_x86_has(ap_isa isa);
#elif AP_HAVE_ARM
ap_kernels_install_fn ap_float_install_neon, ap_quantize_install_neon, ap_vec_install_neon;
ap_kernels_install_fn ap_matmul_install_neon, ap_matmul_install_dotprod, ap_matmul_install_i8mm;
ap_kernels_install_fn ap_attention_install_f16_neon, ap_attention_install_f32_neon, ap_attention_install_q8_neon;
ap_kernels_install_fn ap_ceiling_install_neon, ap_ceiling_install_dotprod, ap_ceiling_install_i8mm;
bool ap_arm_has(ap_isa isa);
#endif

#endif
