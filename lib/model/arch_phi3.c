/* arch_phi3.c - Phi 3, 3.5 and 4.
 *
 * Llama with rotary halves; q, k, v and gate, up are fused in files.  Two sets of divisors for rotary frequencies
 * (longrope): which one is chosen once, by the context limit.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "model/arch_rules.h"

static const ap_tensor_rule phi3_tensors[] = {
    AP_RULES_ENDS,
    AP_RULES_NORMS,
    AP_RULES_ATTENTION(AP_HF_ROWS_SAME, AP_HF_ROWS_SAME),
    AP_RULES_GATED,
    AP_VECTOR(AP_ROLE_ROPE_DIVISORS_LONG, "rope_factors_long.weight", AP_EXTENT_ROPE_HALF, true),
    AP_VECTOR(AP_ROLE_ROPE_DIVISORS_SHORT, "rope_factors_short.weight", AP_EXTENT_ROPE_HALF, true),
};

const ap_arch ap_arch_phi3 = {
    .name = "phi3",
    .rope_pairs = AP_ROPE_HALVES,
    .tensors = phi3_tensors,
    .tensor_count = AP_COUNT_OF(phi3_tensors),
};
