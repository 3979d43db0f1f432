/* SPDX-License-Identifier: Apache-2.0 */
#define AP_MATMUL_INSTALL ap_matmul_install_avx2
#include "kernel/x86/matmul_ymm_tmpl.c"
