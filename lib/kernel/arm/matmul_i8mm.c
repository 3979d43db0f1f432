/* SPDX-License-Identifier: Apache-2.0 */
#define AP_ARM_LEVEL 2
#define AP_MATMUL_INSTALL ap_matmul_install_i8mm
#include "kernel/arm/matmul_neon_tmpl.c"
