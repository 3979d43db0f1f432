/* arch_gemma.c - Gemma 1, 2 and 3 (text).
 *
 * The embedding is scaled by the root of the width; norms weigh by 1 + w, which GGUF has added already.  Gemma 2
 * norms what a block adds as well, caps scores and logits, and every layer with an even number has the window.
 * Gemma 3 caps nothing but norms heads of q and k; five of six layers have the window, and those turn by
 * base 10,000.  The models of 27B scale scores by the width per head: 144 and 168, while a head has 128.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "model/arch_rules.h"

/* "gelu" in files of the first Gemma meant the form with tanh as well. */
static const ap_config_key config_keys[] = {
    AP_CONFIG_KEYS_LLAMA,
    AP_CONFIG_KEYS_WINDOW,
    {"query_pre_attn_scalar", "attention.scale", AP_CONFIG_ROOT},
    {"attn_logit_softcapping", "attn_logit_softcapping", AP_CONFIG_F32},
    {"final_logit_softcapping", "final_logit_softcapping", AP_CONFIG_F32},
    {"hidden_act", NULL, AP_CONFIG_TEXT, .must = "gelu_pytorch_tanh|gelu"},
    {"hidden_activation", NULL, AP_CONFIG_TEXT, .must = "gelu_pytorch_tanh"},
    {"use_bidirectional_attention", NULL, AP_CONFIG_FLAG, .must = "false"},
};
#define GEMMA_FOLDER(name, type)                                                                                               \
    .hf = {.classes = {name}, .model_types = {type}, .layers = "model.layers.", .are_norms_less_one = true, .keys = config_keys, \
           .key_count = AP_COUNT_OF(config_keys)}

static const ap_tensor_rule gemma_tensors[] = {
    AP_RULES_ENDS,
    AP_RULES_NORMS,
    AP_RULES_ATTENTION(AP_HF_ROWS_SAME, AP_HF_ROWS_SAME),
    AP_RULES_GATED,
};

const ap_arch ap_arch_gemma = {
    .name = "gemma",
    .rope_pairs = AP_ROPE_HALVES,
    .activation = AP_ACTIVATION_GELU_TANH,
    .is_embedding_scaled = true,
    .tensors = gemma_tensors,
    .tensor_count = AP_COUNT_OF(gemma_tensors),
    GEMMA_FOLDER("GemmaForCausalLM", "gemma"),
};

/* Norms before and after both halves of a layer. */
#define NORMS_AROUND                                                                                      \
    AP_VECTOR(AP_ROLE_ATTN_NORM, "attn_norm.weight", AP_EXTENT_WIDTH, false, "input_layernorm.weight"),   \
    AP_VECTOR(AP_ROLE_ATTN_POST_NORM, "post_attention_norm.weight", AP_EXTENT_WIDTH, false,               \
              "post_attention_layernorm.weight"),                                                         \
    AP_VECTOR(AP_ROLE_FFN_NORM, "ffn_norm.weight", AP_EXTENT_WIDTH, false,                                \
              "pre_feedforward_layernorm.weight"),                                                        \
    AP_VECTOR(AP_ROLE_FFN_POST_NORM, "post_ffw_norm.weight", AP_EXTENT_WIDTH, false,                      \
              "post_feedforward_layernorm.weight")

static const ap_tensor_rule gemma2_tensors[] = {
    AP_RULES_ENDS,
    NORMS_AROUND,
    AP_RULES_ATTENTION(AP_HF_ROWS_SAME, AP_HF_ROWS_SAME),
    AP_RULES_GATED,
};

const ap_arch ap_arch_gemma2 = {
    .name = "gemma2",
    .rope_pairs = AP_ROPE_HALVES,
    .activation = AP_ACTIVATION_GELU_TANH,
    .is_embedding_scaled = true,
    .norm_place = AP_NORM_AROUND,
    .score_cap = 50,
    .logit_cap = 30,
    .window_period = 2,
    .window_open = 1,
    .score_width_layers = 46,
    .tensors = gemma2_tensors,
    .tensor_count = AP_COUNT_OF(gemma2_tensors),
    GEMMA_FOLDER("Gemma2ForCausalLM", "gemma2"),
};

static const ap_tensor_rule gemma3_tensors[] = {
    AP_RULES_ENDS,
    NORMS_AROUND,
    AP_RULES_ATTENTION(AP_HF_ROWS_SAME, AP_HF_ROWS_SAME),
    AP_RULES_QK_NORM(AP_EXTENT_HEAD, AP_EXTENT_HEAD),
    AP_RULES_GATED,
};

const ap_arch ap_arch_gemma3 = {
    .name = "gemma3",
    .rope_pairs = AP_ROPE_HALVES,
    .activation = AP_ACTIVATION_GELU_TANH,
    .is_embedding_scaled = true,
    .norm_place = AP_NORM_AROUND,
    .qk_norm = AP_QK_NORM_HEAD,
    .rope_local_base = 10000,
    .window_period = 6,
    .window_open = 5,
    .score_width_layers = 62,
    .tensors = gemma3_tensors,
    .tensor_count = AP_COUNT_OF(gemma3_tensors),
    /* The models from 4B on read pictures as well: their text part is the same model, and says only what is not usual. */
    .hf = {.classes = {"Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"},
           .model_types = {"gemma3_text"},
           .layers = "model.layers.",
           .root = "model.",
           .are_norms_less_one = true,
           .keys = config_keys,
           .key_count = AP_COUNT_OF(config_keys),
           .usual = "{\"num_attention_heads\": 8, \"num_key_value_heads\": 4, \"head_dim\": 256, \"max_position_embeddings\": 131072,"
                    "\"rms_norm_eps\": 1e-6, \"rope_theta\": 1e6, \"rope_local_base_freq\": 1e4, \"query_pre_attn_scalar\": 256,"
                    "\"sliding_window\": 4096, \"hidden_activation\": \"gelu_pytorch_tanh\", \"tie_word_embeddings\": true}"},
};
