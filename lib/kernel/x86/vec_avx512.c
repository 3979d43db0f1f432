/* SPDX-License-Identifier: Apache-2.0 */
#define AP_LANES_H "kernel/x86/lanes_avx512.h"
#define AP_VEC_INSTALL ap_vec_install_avx512
#include "kernel/vec_tmpl.c"
