/* SPDX-License-Identifier: Apache-2.0 */
#define AP_LANES_H "kernel/x86/lanes_avx2.h"
#define AP_VEC_INSTALL ap_vec_install_avx2
#include "kernel/vec_tmpl.c"
