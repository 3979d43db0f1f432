/* SPDX-License-Identifier: Apache-2.0 */
#define AP_LANES_H "kernel/lanes_plain.h"
#define AP_VEC_INSTALL ap_vec_install_plain
#include "kernel/vec_tmpl.c"
