/* arch_olmo.c - OLMo 1, and OLMo 2 and 3.
 *
 * OLMo 1 is Llama with layer norms that have no weights; q, k and v may be clipped.  OLMo 2 norms what a block adds
 * and nothing before, and all heads of q (of k) as one vector.  OLMo 3 adds a window on three of four layers, whose
 * rotary embedding is not scaled.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "model/arch_rules.h"

static const ap_tensor_rule olmo_tensors[] = {
    {AP_ROLE_EMBEDDING, "token_embd.weight", AP_EXTENT_WIDTH, AP_EXTENT_VOCAB, false, "model.embed_tokens.weight"},
    {AP_ROLE_OUTPUT, "output.weight", AP_EXTENT_WIDTH, AP_EXTENT_VOCAB, true, "lm_head.weight"},
    AP_RULES_ATTENTION(AP_HF_ROWS_Q_PAIRS, AP_HF_ROWS_K_PAIRS),
    AP_RULES_GATED,
};

static const ap_config_key olmo_keys[] = {
    AP_CONFIG_KEYS_LLAMA,
    {"layer_norm_eps", "attention.layer_norm_epsilon", AP_CONFIG_F32, .usual = 1e-5f}, /* no file says it */
    {"clip_qkv", "attention.clamp_kqv", AP_CONFIG_F32},
    AP_CONFIG_SILU,
};

const ap_arch ap_arch_olmo = {
    .name = "olmo",
    .rope_pairs = AP_ROPE_INTERLEAVED,
    .norm = AP_NORM_LAYER_BARE,
    .tensors = olmo_tensors,
    .tensor_count = AP_COUNT_OF(olmo_tensors),
    AP_HF_LLAMA_LIKE(olmo_keys, "olmo", "OlmoForCausalLM"),
};

static const ap_tensor_rule olmo2_tensors[] = {
    AP_RULES_ENDS,
    AP_RULES_ATTENTION(AP_HF_ROWS_SAME, AP_HF_ROWS_SAME),
    AP_RULES_QK_NORM(AP_EXTENT_Q, AP_EXTENT_KV),
    AP_VECTOR(AP_ROLE_ATTN_POST_NORM, "post_attention_norm.weight", AP_EXTENT_WIDTH, false,
              "post_attention_layernorm.weight"),
    AP_RULES_GATED,
    AP_VECTOR(AP_ROLE_FFN_POST_NORM, "post_ffw_norm.weight", AP_EXTENT_WIDTH, false,
              "post_feedforward_layernorm.weight"),
};

static const ap_config_key olmo2_keys[] = {AP_CONFIG_KEYS_LLAMA, AP_CONFIG_KEYS_WINDOW, AP_CONFIG_SILU};

const ap_arch ap_arch_olmo2 = {
    .name = "olmo2",
    .rope_pairs = AP_ROPE_HALVES,
    .norm_place = AP_NORM_AFTER,
    .qk_norm = AP_QK_NORM_WHOLE,
    .is_rope_local_unscaled = true,
    .window_period = 4,
    .window_open = 3,
    .tensors = olmo2_tensors,
    .tensor_count = AP_COUNT_OF(olmo2_tensors),
    .hf = {.classes = {"Olmo2ForCausalLM", "Olmo3ForCausalLM"},
           .model_types = {"olmo2", "olmo3"},
           .class_keys = {NULL, "attention.sliding_window"},
           .layers = "model.layers.",
           .keys = olmo2_keys,
           .key_count = AP_COUNT_OF(olmo2_keys)},
};
