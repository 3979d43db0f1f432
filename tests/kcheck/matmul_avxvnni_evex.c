/* matmul_avxvnni_evex.c - the products of level avxvnni with the same instruction as AVX-512 encodes it, for processors that have
 * that one alone: all but two bytes of each product is checked there.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kcheck.h"

#define AP_DPBUSD "vpdpbusd"
#define AP_MATMUL_INSTALL ap_matmul_install_evex
#include "kernel/x86/matmul_ymm_tmpl.c"
