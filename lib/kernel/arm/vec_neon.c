/* SPDX-License-Identifier: Apache-2.0 */
#define AP_LANES_H "kernel/arm/lanes_neon.h"
#define AP_VEC_INSTALL ap_vec_install_neon
#include "kernel/vec_tmpl.c"
