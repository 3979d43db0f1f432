/* arch_llama.c - Llama 1 to 3.2 and what shares their shape: SmolLM 1 and 2,
 * Mistral, Mixtral, Falcon 3, R1 distillations of Llama.
 *
 * x = E[token]; per layer h = rms(x)·w, q k v of h, rotary q and k, attention,
 * x += Wo·a, h = rms(x)·w, x += down(silu(gate·h) · (up·h)); logits = head·rms(x).
 * In GGUF the rows of Wq and Wk are reordered so that rotary pairs are neighbours, and
 * Llama 3.1 and later carry frequency divisors as a tensor; folders have neither.
 * Mixtral has experts in place of the MLP, whose weights are a softmax over the used ones.
 * SmolLM3 is Llama with every fourth layer without positions.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "model/arch_rules.h"

#define LLAMA_RULES                                                                                      \
    AP_RULES_ENDS, AP_RULES_NORMS, AP_RULES_ATTENTION(AP_HF_ROWS_Q_PAIRS, AP_HF_ROWS_K_PAIRS),           \
        AP_RULES_QKV_BIAS(AP_HF_ROWS_Q_PAIRS, AP_HF_ROWS_K_PAIRS, true), AP_RULE_OUT_BIAS(true),         \
        {AP_ROLE_ROPE_DIVISORS, "rope_freqs.weight", AP_EXTENT_ROPE_HALF, AP_EXTENT_NONE, true}

static const ap_tensor_rule llama_tensors[] = {
    LLAMA_RULES,
    AP_RULES_GATED,
    AP_VECTOR(AP_ROLE_GATE_BIAS, "ffn_gate.bias", AP_EXTENT_FFN, true, "mlp.gate_proj.bias"),
    AP_VECTOR(AP_ROLE_UP_BIAS, "ffn_up.bias", AP_EXTENT_FFN, true, "mlp.up_proj.bias"),
    AP_VECTOR(AP_ROLE_DOWN_BIAS, "ffn_down.bias", AP_EXTENT_WIDTH, true, "mlp.down_proj.bias"),
    AP_RULES_EXPERTS("block_sparse_moe.gate.weight", "block_sparse_moe.experts.%u.w1.weight",
                     "block_sparse_moe.experts.%u.w3.weight", "block_sparse_moe.experts.%u.w2.weight"),
};

static const ap_tensor_rule smollm3_tensors[] = {LLAMA_RULES, AP_RULES_GATED};

static const ap_config_key llama_keys[] = {
    AP_CONFIG_KEYS_LLAMA,
    {"sliding_window", "attention.sliding_window", AP_CONFIG_U32}, /* Mistral 7B v0.1 */
    AP_CONFIG_KEYS_EXPERTS,
    AP_CONFIG_SILU,
};

const ap_arch ap_arch_llama = {
    .name = "llama",
    .rope_pairs = AP_ROPE_INTERLEAVED,
    .is_router_normed = true,
    .tensors = llama_tensors,
    .tensor_count = AP_COUNT_OF(llama_tensors),
    .hf = {.classes = {"LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM"},
           .model_types = {"llama", "mistral", "mixtral"},
           .class_keys = {NULL, "attention.sliding_window", "expert_count"},
           .layers = "model.layers.",
           .keys = llama_keys,
           .key_count = AP_COUNT_OF(llama_keys)},
};

static const ap_config_key smollm3_keys[] = {
    AP_CONFIG_KEYS_LLAMA,
    AP_CONFIG_KEYS_WINDOW_IF_USED,
    {"no_rope_layers", "rope.layer_pattern", AP_CONFIG_LAYERS}, /* 1: rotary, in spite of the name */
    AP_CONFIG_SILU,
};

const ap_arch ap_arch_smollm3 = {
    .name = "smollm3",
    .rope_pairs = AP_ROPE_INTERLEAVED,
    .rotary_period = 4,
    .tensors = smollm3_tensors,
    .tensor_count = AP_COUNT_OF(smollm3_tensors),
    AP_HF_LLAMA_LIKE(smollm3_keys, "smollm3", "SmolLM3ForCausalLM"),
};
