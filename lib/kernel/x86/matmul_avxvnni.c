/* matmul_avxvnni.c - AVX2 with AVX-VNNI: the form of vpdpbusd for processors without AVX-512.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define AP_DPBUSD "%{vex%} vpdpbusd"
#define AP_MATMUL_INSTALL ap_matmul_install_avxvnni
#include "kernel/x86/matmul_ymm_tmpl.c"
