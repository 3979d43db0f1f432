/* arch_qwen.c - Qwen 2 and 2.5 (also the R1 distillations), Qwen 3, Qwen 3 with experts.
 *
 * Llama with rotary halves.  Qwen 2 has biases on q, k and v; Qwen 3 norms each head of q and k instead.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "model/arch_rules.h"

static const ap_config_key dense_keys[] = {
    AP_CONFIG_KEYS_LLAMA,
    AP_CONFIG_KEYS_WINDOW_IF_USED,
    AP_CONFIG_SILU,
};

static const ap_tensor_rule qwen2_tensors[] = {
    AP_RULES_ENDS,
    AP_RULES_NORMS,
    AP_RULES_ATTENTION(AP_HF_ROWS_SAME, AP_HF_ROWS_SAME),
    AP_RULES_QKV_BIAS(AP_HF_ROWS_SAME, AP_HF_ROWS_SAME, false),
    AP_RULES_GATED,
};

const ap_arch ap_arch_qwen2 = {
    .name = "qwen2",
    .rope_pairs = AP_ROPE_HALVES,
    .tensors = qwen2_tensors,
    .tensor_count = AP_COUNT_OF(qwen2_tensors),
    AP_HF_LLAMA_LIKE(dense_keys, "qwen2", "Qwen2ForCausalLM"),
};

static const ap_tensor_rule qwen3_tensors[] = {
    AP_RULES_ENDS,
    AP_RULES_NORMS,
    AP_RULES_ATTENTION(AP_HF_ROWS_SAME, AP_HF_ROWS_SAME),
    AP_RULES_QK_NORM(AP_EXTENT_HEAD, AP_EXTENT_HEAD),
    AP_RULES_GATED,
};

const ap_arch ap_arch_qwen3 = {
    .name = "qwen3",
    .rope_pairs = AP_ROPE_HALVES,
    .qk_norm = AP_QK_NORM_HEAD,
    .tensors = qwen3_tensors,
    .tensor_count = AP_COUNT_OF(qwen3_tensors),
    AP_HF_LLAMA_LIKE(dense_keys, "qwen3", "Qwen3ForCausalLM"),
};

static const ap_tensor_rule qwen3moe_tensors[] = {
    AP_RULES_ENDS,
    AP_RULES_NORMS,
    AP_RULES_ATTENTION(AP_HF_ROWS_SAME, AP_HF_ROWS_SAME),
    AP_RULES_QK_NORM(AP_EXTENT_HEAD, AP_EXTENT_HEAD),
    AP_RULES_EXPERTS("mlp.gate.weight", "mlp.experts.%u.gate_proj.weight", "mlp.experts.%u.up_proj.weight",
                     "mlp.experts.%u.down_proj.weight"),
};

static const ap_config_key qwen3moe_keys[] = {
    AP_CONFIG_KEYS_LLAMA,
    AP_CONFIG_KEYS_WINDOW_IF_USED,
    AP_CONFIG_KEYS_EXPERTS,
    {"num_experts", "expert_count", AP_CONFIG_U32, .unless = "num_local_experts"},
    {"moe_intermediate_size", "expert_feed_forward_length", AP_CONFIG_U32},
    {"norm_topk_prob", "expert_weights_norm", AP_CONFIG_FLAG},
    AP_CONFIG_SILU,
};

const ap_arch ap_arch_qwen3moe = {
    .name = "qwen3moe",
    .rope_pairs = AP_ROPE_HALVES,
    .qk_norm = AP_QK_NORM_HEAD,
    .is_router_normed = true,
    .tensors = qwen3moe_tensors,
    .tensor_count = AP_COUNT_OF(qwen3moe_tensors),
    AP_HF_LLAMA_LIKE(qwen3moe_keys, "qwen3_moe", "Qwen3MoeForCausalLM"),
};
