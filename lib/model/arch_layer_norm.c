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
    AP_RULES_FUSED_ATTENTION("attn.c_attn", AP_HF_ROWS_QKV, "attn.c_proj"),
    AP_RULES_FUSED_ATTENTION_BIAS("attn.c_attn", AP_HF_ROWS_QKV, "attn.c_proj", false),
    AP_RULES_LAYER_NORM(AP_ROLE_FFN_NORM, AP_ROLE_FFN_NORM_BIAS, "ffn_norm", false, "ln_2"),
    AP_RULES_PLAIN("mlp.c_fc", "mlp.c_proj"),
    AP_RULES_PLAIN_BIAS("mlp.c_fc", "mlp.c_proj", false),
};

static const ap_config_key gpt2_keys[] = {
    {"n_layer", "block_count", AP_CONFIG_U32},
    {"n_embd", "embedding_length", AP_CONFIG_U32},
    {"n_head", "attention.head_count", AP_CONFIG_U32},
    {"n_inner", "feed_forward_length", AP_CONFIG_U32},
    {"n_embd", "feed_forward_length", AP_CONFIG_FOURFOLD, .unless = "n_inner"},
    {"n_positions", "context_length", AP_CONFIG_U32},
    {"layer_norm_epsilon", "attention.layer_norm_epsilon", AP_CONFIG_F32, .usual = 1e-5f},
    {"activation_function", NULL, AP_CONFIG_TEXT, .must = "gelu_new|gelu_pytorch_tanh"},
    {"scale_attn_weights", NULL, AP_CONFIG_FLAG, .must = "true"},
    {"scale_attn_by_inverse_layer_idx", NULL, AP_CONFIG_FLAG, .must = "false"},
    {"add_cross_attention", NULL, AP_CONFIG_FLAG, .must = "false"},
};

const ap_arch ap_arch_gpt2 = {
    .name = "gpt2",
    .norm = AP_NORM_LAYER,
    .activation = AP_ACTIVATION_GELU_TANH,
    .rotary_period = 1,
    .tensors = gpt2_tensors,
    .tensor_count = AP_COUNT_OF(gpt2_tensors),
    .hf = {.classes = {"GPT2LMHeadModel"},
           .model_types = {"gpt2"},
           .layers = "transformer.h.",
           .root = "transformer.",
           .has_columns_first = true,
           .keys = gpt2_keys,
           .key_count = AP_COUNT_OF(gpt2_keys)},
};

static const ap_tensor_rule gptneox_tensors[] = {
    AP_RULES_LAYER_NORM_ENDS("gpt_neox.embed_in", "gpt_neox.final_layer_norm", "embed_out"),
    AP_RULES_LAYER_NORM(AP_ROLE_ATTN_NORM, AP_ROLE_ATTN_NORM_BIAS, "attn_norm", false, "input_layernorm"),
    AP_RULES_FUSED_ATTENTION("attention.query_key_value", AP_HF_ROWS_GROUPS, "attention.dense"),
    AP_RULES_FUSED_ATTENTION_BIAS("attention.query_key_value", AP_HF_ROWS_GROUPS, "attention.dense", true),
    AP_RULES_LAYER_NORM(AP_ROLE_FFN_NORM, AP_ROLE_FFN_NORM_BIAS, "ffn_norm", false, "post_attention_layernorm"),
    AP_RULES_PLAIN("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
    AP_RULES_PLAIN_BIAS("mlp.dense_h_to_4h", "mlp.dense_4h_to_h", false),
};

static const ap_config_key gptneox_keys[] = {
    AP_CONFIG_KEYS_LLAMA,
    {"layer_norm_eps", "attention.layer_norm_epsilon", AP_CONFIG_F32, .usual = 1e-5f},
    {"use_parallel_residual", "use_parallel_residual", AP_CONFIG_FLAG},
    {"hidden_act", "hidden_activation", AP_CONFIG_TEXT, .must = "gelu|gelu_fast|gelu_new|gelu_pytorch_tanh"},
};

const ap_arch ap_arch_gptneox = {
    .name = "gptneox",
    .rope_pairs = AP_ROPE_HALVES,
    .norm = AP_NORM_LAYER,
    .activation = AP_ACTIVATION_GELU,
    .is_parallel = true,
    .tensors = gptneox_tensors,
    .tensor_count = AP_COUNT_OF(gptneox_tensors),
    .hf = {.classes = {"GPTNeoXForCausalLM"},
           .model_types = {"gpt_neox"},
           .rope_base_name = "rotary_emb_base",
           .rope_share_name = "rotary_pct",
           .layers = "gpt_neox.layers.",
           .keys = gptneox_keys,
           .key_count = AP_COUNT_OF(gptneox_keys)},
};

static const ap_tensor_rule bloom_tensors[] = {
    AP_RULES_LAYER_NORM_ENDS("transformer.word_embeddings", "transformer.ln_f", "lm_head"),
    AP_RULES_LAYER_NORM(AP_ROLE_EMBEDDING_NORM, AP_ROLE_EMBEDDING_NORM_BIAS, "token_embd_norm", false, "transformer.word_embeddings_layernorm"),
    AP_RULES_LAYER_NORM(AP_ROLE_ATTN_NORM, AP_ROLE_ATTN_NORM_BIAS, "attn_norm", false, "input_layernorm"),
    AP_RULES_FUSED_ATTENTION("self_attention.query_key_value", AP_HF_ROWS_GROUPS, "self_attention.dense"),
    AP_RULES_FUSED_ATTENTION_BIAS("self_attention.query_key_value", AP_HF_ROWS_GROUPS, "self_attention.dense", false),
    AP_RULES_LAYER_NORM(AP_ROLE_FFN_NORM, AP_ROLE_FFN_NORM_BIAS, "ffn_norm", false, "post_attention_layernorm"),
    AP_RULES_PLAIN("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
    AP_RULES_PLAIN_BIAS("mlp.dense_h_to_4h", "mlp.dense_4h_to_h", false),
};

static const ap_config_key bloom_keys[] = {
    {"n_layer", "block_count", AP_CONFIG_U32},
    {"num_hidden_layers", "block_count", AP_CONFIG_U32, .unless = "n_layer"},
    {"hidden_size", "embedding_length", AP_CONFIG_U32},
    {"n_embed", "embedding_length", AP_CONFIG_U32, .unless = "hidden_size"},
    {"hidden_size", "feed_forward_length", AP_CONFIG_FOURFOLD},
    {"n_embed", "feed_forward_length", AP_CONFIG_FOURFOLD, .unless = "hidden_size"},
    {"n_head", "attention.head_count", AP_CONFIG_U32},
    {"num_attention_heads", "attention.head_count", AP_CONFIG_U32, .unless = "n_head"},
    {"seq_length", "context_length", AP_CONFIG_U32, .usual = 2048}, /* what it was trained with; ALiBi knows no end */
    {"layer_norm_epsilon", "attention.layer_norm_epsilon", AP_CONFIG_F32, .usual = 1e-5f},
    {"apply_residual_connection_post_layernorm", NULL, AP_CONFIG_FLAG, .must = "false"},
};

const ap_arch ap_arch_bloom = {
    .name = "bloom",
    .norm = AP_NORM_LAYER,
    .activation = AP_ACTIVATION_GELU_TANH,
    .alibi_bias = 8,
    .tensors = bloom_tensors,
    .tensor_count = AP_COUNT_OF(bloom_tensors),
    .hf = {.classes = {"BloomForCausalLM"},
           .model_types = {"bloom"},
           .layers = "transformer.h.",
           .root = "transformer.",
           .keys = bloom_keys,
           .key_count = AP_COUNT_OF(bloom_keys)},
};

static const ap_tensor_rule falcon_tensors[] = {
    AP_RULES_LAYER_NORM_ENDS("transformer.word_embeddings", "transformer.ln_f", "lm_head"),
    AP_VECTOR(AP_ROLE_FFN_NORM, "attn_norm.weight", AP_EXTENT_WIDTH, false,
              "ln_mlp.weight|post_attention_layernorm.weight|input_layernorm.weight"),
    AP_VECTOR(AP_ROLE_FFN_NORM_BIAS, "attn_norm.bias", AP_EXTENT_WIDTH, false,
              "ln_mlp.bias|post_attention_layernorm.bias|input_layernorm.bias"),
    AP_VECTOR(AP_ROLE_ATTN_NORM, "attn_norm_2.weight", AP_EXTENT_WIDTH, true, "ln_attn.weight|input_layernorm.weight"),
    AP_VECTOR(AP_ROLE_ATTN_NORM_BIAS, "attn_norm_2.bias", AP_EXTENT_WIDTH, true, "ln_attn.bias|input_layernorm.bias"),
    AP_RULES_FUSED_ATTENTION("self_attention.query_key_value", AP_HF_ROWS_GROUPS, "self_attention.dense"),
    AP_RULES_FUSED_ATTENTION_BIAS("self_attention.query_key_value", AP_HF_ROWS_GROUPS, "self_attention.dense", true),
    AP_RULES_PLAIN("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
    AP_RULES_PLAIN_BIAS("mlp.dense_h_to_4h", "mlp.dense_4h_to_h", true),
};

static const ap_config_key falcon_keys[] = {
    {"num_hidden_layers", "block_count", AP_CONFIG_U32},
    {"n_layer", "block_count", AP_CONFIG_U32, .unless = "num_hidden_layers"},
    {"hidden_size", "embedding_length", AP_CONFIG_U32},
    {"ffn_hidden_size", "feed_forward_length", AP_CONFIG_U32},
    {"hidden_size", "feed_forward_length", AP_CONFIG_FOURFOLD, .unless = "ffn_hidden_size"},
    {"num_attention_heads", "attention.head_count", AP_CONFIG_U32},
    {"n_head", "attention.head_count", AP_CONFIG_U32, .unless = "num_attention_heads"},
    /* With multi_query there is one, whatever the number of heads says, but for the newer form of the decoder. */
    {"num_kv_heads", "attention.head_count_kv", AP_CONFIG_U32, .only_if = "new_decoder_architecture"},
    {"n_head_kv", "attention.head_count_kv", AP_CONFIG_U32, .unless = "multi_query"},
    {"multi_query", "attention.head_count_kv", AP_CONFIG_IF_U32, .unless = "new_decoder_architecture", .usual = 1},
    {"max_position_embeddings", "context_length", AP_CONFIG_U32, .usual = 2048},
    {"layer_norm_epsilon", "attention.layer_norm_epsilon", AP_CONFIG_F32, .usual = 1e-5f},
    {"alibi", "attention.max_alibi_bias", AP_CONFIG_IF_F32, .usual = 8},
    {"parallel_attn", "use_parallel_residual", AP_CONFIG_FLAG},
    {"activation", "hidden_activation", AP_CONFIG_TEXT, .must = "gelu|gelu_fast|gelu_new|gelu_pytorch_tanh"},
};

/* Falcon 40B has a norm for attention, 11B shares one as 7B does, RW is serial. */
static unsigned describe_falcon(json_t *config, const ap_hparams *s, bool has_attn_norm)
{
    bool is_new = s->is_parallel && (has_attn_norm || (s->kv_head_count != 1 && s->kv_head_count != s->head_count));
    (void)json_object_set_new(config, "new_decoder_architecture", json_boolean(is_new));
    (void)json_object_set_new(config, "multi_query", json_boolean(!is_new && s->kv_head_count == 1));
    if (is_new && !has_attn_norm)
        (void)json_object_set_new(config, "num_ln_in_parallel_attn", json_integer(1));
    return is_new && has_attn_norm ? 0 : !s->is_parallel ? 1 : 2;
}

const ap_arch ap_arch_falcon = {
    .name = "falcon",
    .rope_pairs = AP_ROPE_HALVES,
    .norm = AP_NORM_LAYER,
    .activation = AP_ACTIVATION_GELU,
    .is_alibi_scaled = true,
    .is_parallel = true,
    .tensors = falcon_tensors,
    .tensor_count = AP_COUNT_OF(falcon_tensors),
    .hf = {.classes = {"FalconForCausalLM", "RWForCausalLM"},
           .model_types = {"falcon"},
           .bias_name = "bias",
           .describe = describe_falcon,
           .layers = "transformer.h.",
           .keys = falcon_keys,
           .key_count = AP_COUNT_OF(falcon_keys)},
};
