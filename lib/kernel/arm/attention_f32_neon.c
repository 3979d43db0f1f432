/* SPDX-License-Identifier: Apache-2.0 */
#define AP_LANES_H "kernel/arm/lanes_neon.h"
#define AP_KV_ITEM float
#define AP_KV_LANES lanes_load
#define AP_KV_LANES_SOME lanes_load_some
#define AP_ATTEND_INDEX AP_KV_F32
#define AP_ATTENTION_INSTALL ap_attention_install_f32_neon
#include "kernel/attention_tmpl.c"
