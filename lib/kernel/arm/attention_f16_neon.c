/* SPDX-License-Identifier: Apache-2.0 */
#define AP_LANES_H "kernel/arm/lanes_neon.h"
#define AP_KV_ITEM uint16_t
#define AP_KV_LANES lanes_load_half
#define AP_KV_LANES_SOME lanes_load_half_some
#define AP_ATTEND_INDEX AP_KV_F16
#define AP_ATTENTION_INSTALL ap_attention_install_f16_neon
#include "kernel/attention_tmpl.c"
