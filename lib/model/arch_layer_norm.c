/* arch_layer_norm.c - families with layer norms and a plain MLP: GPT-2, GPT-NeoX (Pythia), BLOOM, Falcon.
 *
 * GPT-2 adds learned positions to the embedding.  BLOOM norms the embedding and has ALiBi.  GPT-NeoX and Falcon run
 * attention and MLP side by side.  Falcon 7B has one norm for both; 40B has two, where "attn_norm_2" is attention's
 * and "attn_norm" the MLP's.  The Falcon with ALiBi (RW) is serial, its bias is scaled like the scores; there are no
 * GGUF files of it, so ours name its norms as those of 40B.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "model/arch_rules.h"

static const ap_tensor_rule gpt2_tensors[] = {
    AP_RULES_LAYER_NORM_ENDS("transformer.wte", "transformer.ln_f", "lm_head"),
    {AP_ROLE_POSITIONS, "position_embd.weight", AP_EXTENT_WIDTH, AP_EXTENT_CONTEXT, false, "transformer.wpe.weight"},
    AP_RULES_LAYER_NORM(AP_ROLE_ATTN_NORM, AP_ROLE_ATTN_NORM_BIAS, "attn_norm", false, "ln_1"),
    AP_RULES_FUSED_ATTENTION("attn.c_proj"),
    AP_RULES_FUSED_ATTENTION_BIAS("attn.c_proj", false),
    AP_RULES_LAYER_NORM(AP_ROLE_FFN_NORM, AP_ROLE_FFN_NORM_BIAS, "ffn_norm", false, "ln_2"),
    AP_RULES_PLAIN("mlp.c_fc", "mlp.c_proj"),
    AP_RULES_PLAIN_BIAS("mlp.c_fc", "mlp.c_proj", false),
};

const ap_arch ap_arch_gpt2 = {
    .name = "gpt2",
    .norm = AP_NORM_LAYER,
    .activation = AP_ACTIVATION_GELU_TANH,
    .rotary_period = 1,
    .tensors = gpt2_tensors,
    .tensor_count = AP_COUNT_OF(gpt2_tensors),
};

static const ap_tensor_rule gptneox_tensors[] = {
    AP_RULES_LAYER_NORM_ENDS("gpt_neox.embed_in", "gpt_neox.final_layer_norm", "embed_out"),
    AP_RULES_LAYER_NORM(AP_ROLE_ATTN_NORM, AP_ROLE_ATTN_NORM_BIAS, "attn_norm", false, "input_layernorm"),
    AP_RULES_FUSED_ATTENTION("attention.dense"),
    AP_RULES_FUSED_ATTENTION_BIAS("attention.dense", true),
    AP_RULES_LAYER_NORM(AP_ROLE_FFN_NORM, AP_ROLE_FFN_NORM_BIAS, "ffn_norm", false, "post_attention_layernorm"),
    AP_RULES_PLAIN("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
    AP_RULES_PLAIN_BIAS("mlp.dense_h_to_4h", "mlp.dense_4h_to_h", false),
};

const ap_arch ap_arch_gptneox = {
    .name = "gptneox",
    .rope_pairs = AP_ROPE_HALVES,
    .norm = AP_NORM_LAYER,
    .activation = AP_ACTIVATION_GELU,
    .is_parallel = true,
    .tensors = gptneox_tensors,
    .tensor_count = AP_COUNT_OF(gptneox_tensors),
};

static const ap_tensor_rule bloom_tensors[] = {
    AP_RULES_LAYER_NORM_ENDS("transformer.word_embeddings", "transformer.ln_f", "lm_head"),
    AP_RULES_LAYER_NORM(AP_ROLE_EMBEDDING_NORM, AP_ROLE_EMBEDDING_NORM_BIAS, "token_embd_norm", false, "transformer.word_embeddings_layernorm"),
    AP_RULES_LAYER_NORM(AP_ROLE_ATTN_NORM, AP_ROLE_ATTN_NORM_BIAS, "attn_norm", false, "input_layernorm"),
    AP_RULES_FUSED_ATTENTION("self_attention.dense"),
    AP_RULES_FUSED_ATTENTION_BIAS("self_attention.dense", false),
    AP_RULES_LAYER_NORM(AP_ROLE_FFN_NORM, AP_ROLE_FFN_NORM_BIAS, "ffn_norm", false, "post_attention_layernorm"),
    AP_RULES_PLAIN("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
    AP_RULES_PLAIN_BIAS("mlp.dense_h_to_4h", "mlp.dense_4h_to_h", false),
};

const ap_arch ap_arch_bloom = {
    .name = "bloom",
    .norm = AP_NORM_LAYER,
    .activation = AP_ACTIVATION_GELU_TANH,
    .alibi_bias = 8,
    .tensors = bloom_tensors,
    .tensor_count = AP_COUNT_OF(bloom_tensors),
};

static const ap_tensor_rule falcon_tensors[] = {
    AP_RULES_LAYER_NORM_ENDS("transformer.word_embeddings", "transformer.ln_f", "lm_head"),
    AP_RULES_LAYER_NORM(AP_ROLE_FFN_NORM, AP_ROLE_FFN_NORM_BIAS, "attn_norm", false, "input_layernorm"),
    AP_RULES_LAYER_NORM(AP_ROLE_ATTN_NORM, AP_ROLE_ATTN_NORM_BIAS, "attn_norm_2", true, "ln_attn"),
    AP_RULES_FUSED_ATTENTION("self_attention.dense"),
    AP_RULES_FUSED_ATTENTION_BIAS("self_attention.dense", true),
    AP_RULES_PLAIN("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
    AP_RULES_PLAIN_BIAS("mlp.dense_h_to_4h", "mlp.dense_4h_to_h", true),
};

const ap_arch ap_arch_falcon = {
    .name = "falcon",
    .rope_pairs = AP_ROPE_HALVES,
    .norm = AP_NORM_LAYER,
    .activation = AP_ACTIVATION_GELU,
    .is_alibi_scaled = true,
    .is_parallel = true,
    .tensors = falcon_tensors,
    .tensor_count = AP_COUNT_OF(falcon_tensors),
};
