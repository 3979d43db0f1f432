/* SPDX-License-Identifier: Apache-2.0 */
#define AP_ARM_LEVEL 0
#define AP_MATMUL_INSTALL ap_matmul_install_neon
#include "kernel/arm/matmul_neon_tmpl.c"
