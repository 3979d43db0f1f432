/* SPDX-License-Identifier: Apache-2.0 */
#define AP_LANES_H "kernel/lanes_plain.h"
#define AP_KV_ITEM int8_t
#define AP_KV_LANES lanes_load_code
#define AP_KV_LANES_SOME lanes_load_code_some
#define AP_ATTEND_INDEX AP_KV_Q8
#define AP_ATTENTION_INSTALL ap_attention_install_q8_plain
#include "kernel/attention_tmpl.c"
