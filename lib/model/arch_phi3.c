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
    AP_RULES_FUSED_ATTENTION("self_attn.qkv_proj", AP_HF_ROWS_QKV, "self_attn.o_proj"),
    {AP_ROLE_GATE, "ffn_gate.weight", AP_EXTENT_WIDTH, AP_EXTENT_FFN, false, "mlp.gate_up_proj.weight", AP_HF_ROWS_GATE_UP,
     AP_FUSED_GATE_UP, "ffn_up.weight"},
    {AP_ROLE_UP, "ffn_up.weight", AP_EXTENT_WIDTH, AP_EXTENT_FFN, false, "mlp.gate_up_proj.weight", AP_HF_ROWS_GATE_UP,
     AP_FUSED_GATE_UP, "ffn_up.weight"},
    {AP_ROLE_DOWN, "ffn_down.weight", AP_EXTENT_FFN, AP_EXTENT_WIDTH, false, "mlp.down_proj.weight"},
    AP_VECTOR(AP_ROLE_ROPE_DIVISORS_LONG, "rope_factors_long.weight", AP_EXTENT_ROPE_HALF, true),
    AP_VECTOR(AP_ROLE_ROPE_DIVISORS_SHORT, "rope_factors_short.weight", AP_EXTENT_ROPE_HALF, true),
};

static const ap_config_key config_keys[] = {
    AP_CONFIG_KEYS_LLAMA,
    {"sliding_window", "attention.sliding_window", AP_CONFIG_U32},
    AP_CONFIG_SILU,
};

const ap_arch ap_arch_phi3 = {
    .name = "phi3",
    .rope_pairs = AP_ROPE_HALVES,
    .tensors = phi3_tensors,
    .tensor_count = AP_COUNT_OF(phi3_tensors),
    AP_HF_LLAMA_LIKE(config_keys, "phi3", "Phi3ForCausalLM"),
};
