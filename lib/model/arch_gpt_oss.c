/* arch_gpt_oss.c - gpt-oss.
 *
 * Biases everywhere, a sink per query head, a window on every layer with an even number, YaRN whose ramp has ends between
 * pairs.  Router weights are a softmax over the used experts; an expert keeps gate and up within 7.  The norm before
 * the MLP is called "post_attention_norm".
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "model/arch_rules.h"

static const ap_tensor_rule gpt_oss_tensors[] = {
    AP_RULES_ENDS,
    AP_VECTOR(AP_ROLE_ATTN_NORM, "attn_norm.weight", AP_EXTENT_WIDTH, false, "input_layernorm.weight"),
    AP_RULES_ATTENTION(AP_HF_ROWS_SAME, AP_HF_ROWS_SAME),
    AP_RULES_QKV_BIAS(AP_HF_ROWS_SAME, AP_HF_ROWS_SAME, false),
    AP_RULE_OUT_BIAS(false),
    AP_VECTOR(AP_ROLE_SINKS, "attn_sinks.weight", AP_EXTENT_HEADS, false, "self_attn.sinks"),
    AP_VECTOR(AP_ROLE_FFN_NORM, "post_attention_norm.weight", AP_EXTENT_WIDTH, false,
              "post_attention_layernorm.weight"),
    {AP_ROLE_ROUTER, "ffn_gate_inp.weight", AP_EXTENT_WIDTH, AP_EXTENT_EXPERTS, false, "mlp.router.weight"},
    {AP_ROLE_EXPERT_GATE, "ffn_gate.%u.weight", AP_EXTENT_WIDTH, AP_EXTENT_EXPERT_FFN, false, "mlp.experts.gate_up_proj",
     AP_HF_ROWS_EXPERT_GATE_UP, AP_FUSED_EXPERTS, "ffn_gate_exps.weight"},
    {AP_ROLE_EXPERT_UP, "ffn_up.%u.weight", AP_EXTENT_WIDTH, AP_EXTENT_EXPERT_FFN, false, "mlp.experts.gate_up_proj",
     AP_HF_ROWS_EXPERT_GATE_UP, AP_FUSED_EXPERTS, "ffn_up_exps.weight"},
    {AP_ROLE_EXPERT_DOWN, "ffn_down.%u.weight", AP_EXTENT_EXPERT_FFN, AP_EXTENT_WIDTH, false, "mlp.experts.down_proj",
     AP_HF_ROWS_EXPERT, AP_FUSED_EXPERTS, "ffn_down_exps.weight"},
    AP_VECTOR(AP_ROLE_ROUTER_BIAS, "ffn_gate_inp.bias", AP_EXTENT_EXPERTS, false, "mlp.router.bias"),
    {AP_ROLE_EXPERT_GATE_BIAS, "ffn_gate.%u.bias", AP_EXTENT_EXPERT_FFN, AP_EXTENT_NONE, false, "mlp.experts.gate_up_proj_bias",
     AP_HF_ROWS_EXPERT_GATE_UP, AP_FUSED_EXPERTS, "ffn_gate_exps.bias"},
    {AP_ROLE_EXPERT_UP_BIAS, "ffn_up.%u.bias", AP_EXTENT_EXPERT_FFN, AP_EXTENT_NONE, false, "mlp.experts.gate_up_proj_bias",
     AP_HF_ROWS_EXPERT_GATE_UP, AP_FUSED_EXPERTS, "ffn_up_exps.bias"},
    {AP_ROLE_EXPERT_DOWN_BIAS, "ffn_down.%u.bias", AP_EXTENT_WIDTH, AP_EXTENT_NONE, false, "mlp.experts.down_proj_bias",
     AP_HF_ROWS_EXPERT, AP_FUSED_EXPERTS, "ffn_down_exps.bias"},
};

static const ap_config_key config_keys[] = {AP_CONFIG_KEYS_LLAMA, AP_CONFIG_KEYS_WINDOW, AP_CONFIG_KEYS_EXPERTS, AP_CONFIG_SILU};

const ap_arch ap_arch_gpt_oss = {
    .name = "gpt-oss",
    .rope_pairs = AP_ROPE_HALVES,
    .activation = AP_ACTIVATION_SILU_7,
    .is_yarn_exact = true,
    .window_period = 2,
    .window_open = 1,
    .is_router_normed = true,
    .tensors = gpt_oss_tensors,
    .tensor_count = AP_COUNT_OF(gpt_oss_tensors),
    AP_HF_LLAMA_LIKE(config_keys, "gpt_oss", "GptOssForCausalLM"),
};
