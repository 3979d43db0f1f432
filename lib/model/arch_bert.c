/* arch_bert.c - the encoders: BERT, RoBERTa and XLM-R, ModernBERT.
 *
 * BERT adds learned positions and token types to the embedding and norms it; each block's sum with the residual stream is
 * normed, so the last layer's norm is the last of all.  RoBERTa and XLM-R are wired alike and share its GGUF name; in
 * folders their names differ and the first position is row pad_token_id + 1.  BERT's pooler and RoBERTa's first layer of
 * the head are the same thing: dense, tanh.
 *
 * ModernBERT norms before each block but for the first attention, which reads the normed embedding; every third
 * layer from the first on sees everything, the others a window on both sides with a rotary base of their own; the MLP is
 * gelu(gate) * up.  Its head is dense, gelu, norm, and reads the mean where GGUF says "rank".
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "model/arch_rules.h"

#define NORM(role, gguf, folder)                                                                                           \
    AP_VECTOR(role, gguf ".weight", AP_EXTENT_WIDTH, false, folder ".weight|" folder ".gamma"),                            \
    AP_VECTOR(role##_BIAS, gguf ".bias", AP_EXTENT_WIDTH, false, folder ".bias|" folder ".beta")
#define PART(role, fused, gguf, columns, rows, folder)                                                                     \
    {role, gguf ".weight", columns, rows, false, folder ".weight", AP_HF_ROWS_SAME, fused, "attn_qkv.weight"},              \
    AP_VECTOR(role##_BIAS, gguf ".bias", rows, false, folder ".bias", AP_HF_ROWS_SAME, fused, "attn_qkv.bias")

/* All but the head. */
#define RULES_BERT(root, position_rows)                                                                                    \
    {AP_ROLE_EMBEDDING, "token_embd.weight", AP_EXTENT_WIDTH, AP_EXTENT_VOCAB, false, root "embeddings.word_embeddings.weight"}, \
    {AP_ROLE_POSITIONS, "position_embd.weight", AP_EXTENT_WIDTH, AP_EXTENT_CONTEXT, false,                                 \
     root "embeddings.position_embeddings.weight", position_rows},                                                         \
    {AP_ROLE_TOKEN_TYPES, "token_types.weight", AP_EXTENT_WIDTH, AP_EXTENT_TYPES, false,                                   \
     root "embeddings.token_type_embeddings.weight"},                                                                      \
    NORM(AP_ROLE_EMBEDDING_NORM, "token_embd_norm", root "embeddings.LayerNorm"),                                          \
    PART(AP_ROLE_Q, AP_FUSED_QKV, "attn_q", AP_EXTENT_WIDTH, AP_EXTENT_Q, "attention.self.query"),                         \
    PART(AP_ROLE_K, AP_FUSED_QKV, "attn_k", AP_EXTENT_WIDTH, AP_EXTENT_KV, "attention.self.key"),                          \
    PART(AP_ROLE_V, AP_FUSED_QKV, "attn_v", AP_EXTENT_WIDTH, AP_EXTENT_KV, "attention.self.value"),                        \
    PART(AP_ROLE_ATTN_OUT, AP_FUSED_NONE, "attn_output", AP_EXTENT_Q, AP_EXTENT_WIDTH, "attention.output.dense"),          \
    NORM(AP_ROLE_ATTN_POST_NORM, "attn_output_norm", "attention.output.LayerNorm"),                                        \
    PART(AP_ROLE_UP, AP_FUSED_NONE, "ffn_up", AP_EXTENT_WIDTH, AP_EXTENT_FFN, "intermediate.dense"),                       \
    PART(AP_ROLE_DOWN, AP_FUSED_NONE, "ffn_down", AP_EXTENT_FFN, AP_EXTENT_WIDTH, "output.dense"),                         \
    NORM(AP_ROLE_FFN_POST_NORM, "layer_output_norm", "output.LayerNorm")
#define RULES_HEAD(layer, scores)                                                                                          \
    {AP_ROLE_HEAD, "cls.weight", AP_EXTENT_WIDTH, AP_EXTENT_WIDTH, false, layer ".weight"},                                \
    AP_VECTOR(AP_ROLE_HEAD_BIAS, "cls.bias", AP_EXTENT_WIDTH, false, layer ".bias"),                                       \
    {AP_ROLE_SCORES, "cls.output.weight", AP_EXTENT_WIDTH, AP_EXTENT_LABELS, false, scores ".weight"},                     \
    AP_VECTOR(AP_ROLE_SCORES_BIAS, "cls.output.bias", AP_EXTENT_LABELS, false, scores ".bias")

#define KEYS_ENCODER                                                                                                       \
    {"num_hidden_layers", "block_count", AP_CONFIG_U32},                                                                   \
    {"hidden_size", "embedding_length", AP_CONFIG_U32},                                                                    \
    {"intermediate_size", "feed_forward_length", AP_CONFIG_U32},                                                           \
    {"num_attention_heads", "attention.head_count", AP_CONFIG_U32},                                                        \
    {"vocab_size", "vocab_size", AP_CONFIG_U32},                                                                           \
    {"problem_type", "classifier.problem_type", AP_CONFIG_TEXT, .only_if = "problem_type",                                 \
     .must = "single_label_classification|multi_label_classification|regression"}
#define GELU "gelu|gelu_fast|gelu_new|gelu_pytorch_tanh"
#define KEYS_BERT                                                                                                          \
    KEYS_ENCODER,                                                                                                          \
    {"layer_norm_eps", "attention.layer_norm_epsilon", AP_CONFIG_F32, .usual = 1e-12f},                                    \
    {"hidden_act", "hidden_activation", AP_CONFIG_TEXT, .must = GELU},                                                     \
    {"position_embedding_type", NULL, AP_CONFIG_TEXT, .must = "absolute"},                                                 \
    {"is_decoder", NULL, AP_CONFIG_FLAG, .must = "false"}

static const ap_tensor_rule bert_tensors[] = {
    RULES_BERT("bert.", AP_HF_ROWS_SAME),
    RULES_HEAD("bert.pooler.dense", "classifier"),
};

static const ap_config_key bert_keys[] = {
    KEYS_BERT,
    {"max_position_embeddings", "context_length", AP_CONFIG_U32},
};

#define ARCH_BERT                                                                                                          \
    .name = "bert",                                                                                                        \
    .norm = AP_NORM_LAYER,                                                                                                 \
    .norm_place = AP_NORM_SUM,                                                                                             \
    .activation = AP_ACTIVATION_GELU,                                                                                      \
    .is_encoder = true,                                                                                                    \
    .rank_pooling = AP_POOLING_CLS,                                                                                        \
    .rotary_period = 1

const ap_arch ap_arch_bert = {
    ARCH_BERT,
    .tensors = bert_tensors,
    .tensor_count = AP_COUNT_OF(bert_tensors),
    .hf = {.classes = {"BertModel", "BertForMaskedLM", "BertForPreTraining", "BertForSequenceClassification"},
           .model_types = {"bert", NULL, NULL, "bert"},
           .class_keys = {[3] = AP_CONFIG_LABELS},
           .vocab_model = "bert",
           .layers = "bert.encoder.layer.",
           .root = "bert.",
           .idle = "pooler.|embeddings.position_ids|cls.",
           .keys = bert_keys,
           .key_count = AP_COUNT_OF(bert_keys)},
};

static const ap_tensor_rule roberta_tensors[] = {
    RULES_BERT("roberta.", AP_HF_ROWS_POSITIONS),
    RULES_HEAD("classifier.dense", "classifier.out_proj"),
};

static const ap_config_key roberta_keys[] = {KEYS_BERT};

#define ARCH_ROBERTA                                                                                                       \
    ARCH_BERT,                                                                                                             \
    .tensors = roberta_tensors,                                                                                            \
    .tensor_count = AP_COUNT_OF(roberta_tensors)
#define HF_ROBERTA(prefix, type)                                                                                           \
    .classes = {prefix "Model", prefix "ForMaskedLM", prefix "ForSequenceClassification"},                                 \
    .model_types = {type, NULL, type},                                                                                     \
    .class_keys = {[2] = AP_CONFIG_LABELS},                                                                                \
    .layers = "roberta.encoder.layer.",                                                                                    \
    .root = "roberta.",                                                                                                    \
    .are_positions_behind_padding = true,                                                                                  \
    .idle = "pooler.|embeddings.position_ids|lm_head.",                                                                    \
    .keys = roberta_keys,                                                                                                  \
    .key_count = AP_COUNT_OF(roberta_keys)

const ap_arch ap_arch_roberta = {ARCH_ROBERTA, .hf = {HF_ROBERTA("Roberta", "roberta"), .vocab_model = "gpt2"}};
const ap_arch ap_arch_xlm_roberta = {ARCH_ROBERTA, .hf = {HF_ROBERTA("XLMRoberta", "xlm-roberta"), .vocab_model = "t5"}};

#define WEIGHT(role, fused, fused_name, gguf, columns, rows, folder, hf_rows)                                              \
    {role, gguf ".weight", columns, rows, false, folder ".weight", hf_rows, fused, fused_name ".weight"},                  \
    AP_VECTOR(role##_BIAS, gguf ".bias", rows, true, folder ".bias", hf_rows, fused, fused_name ".bias")
#define MODERN_NORM(role, gguf, folder)                                                                                    \
    AP_VECTOR(role, gguf ".weight", AP_EXTENT_WIDTH, false, folder ".weight"),                                             \
    AP_VECTOR(role##_BIAS, gguf ".bias", AP_EXTENT_WIDTH, true, folder ".bias")

static const ap_tensor_rule modern_tensors[] = {
    {AP_ROLE_EMBEDDING, "token_embd.weight", AP_EXTENT_WIDTH, AP_EXTENT_VOCAB, false, "model.embeddings.tok_embeddings.weight"},
    MODERN_NORM(AP_ROLE_EMBEDDING_NORM, "token_embd_norm", "model.embeddings.norm"),
    MODERN_NORM(AP_ROLE_OUTPUT_NORM, "output_norm", "model.final_norm"),
    WEIGHT(AP_ROLE_HEAD, AP_FUSED_NONE, "", "cls", AP_EXTENT_WIDTH, AP_EXTENT_WIDTH, "head.dense", AP_HF_ROWS_SAME),
    MODERN_NORM(AP_ROLE_HEAD_NORM, "cls.norm", "head.norm"),
    WEIGHT(AP_ROLE_SCORES, AP_FUSED_NONE, "", "cls.output", AP_EXTENT_WIDTH, AP_EXTENT_LABELS, "classifier", AP_HF_ROWS_SAME),
    MODERN_NORM(AP_ROLE_ATTN_NORM, "attn_norm", "attn_norm"),
    WEIGHT(AP_ROLE_Q, AP_FUSED_QKV, "attn_qkv", "attn_q", AP_EXTENT_WIDTH, AP_EXTENT_Q, "attn.Wqkv", AP_HF_ROWS_QKV),
    WEIGHT(AP_ROLE_K, AP_FUSED_QKV, "attn_qkv", "attn_k", AP_EXTENT_WIDTH, AP_EXTENT_KV, "attn.Wqkv", AP_HF_ROWS_QKV),
    WEIGHT(AP_ROLE_V, AP_FUSED_QKV, "attn_qkv", "attn_v", AP_EXTENT_WIDTH, AP_EXTENT_KV, "attn.Wqkv", AP_HF_ROWS_QKV),
    WEIGHT(AP_ROLE_ATTN_OUT, AP_FUSED_NONE, "", "attn_output", AP_EXTENT_Q, AP_EXTENT_WIDTH, "attn.Wo", AP_HF_ROWS_SAME),
    MODERN_NORM(AP_ROLE_FFN_NORM, "ffn_norm", "mlp_norm"),
    WEIGHT(AP_ROLE_GATE, AP_FUSED_GATE_UP, "ffn_up", "ffn_gate", AP_EXTENT_WIDTH, AP_EXTENT_FFN, "mlp.Wi", AP_HF_ROWS_GATE_UP),
    WEIGHT(AP_ROLE_UP, AP_FUSED_GATE_UP, "ffn_up", "ffn_up", AP_EXTENT_WIDTH, AP_EXTENT_FFN, "mlp.Wi", AP_HF_ROWS_GATE_UP),
    WEIGHT(AP_ROLE_DOWN, AP_FUSED_NONE, "", "ffn_down", AP_EXTENT_FFN, AP_EXTENT_WIDTH, "mlp.Wo", AP_HF_ROWS_SAME),
};

static const ap_config_key modern_keys[] = {
    KEYS_ENCODER,
    {"max_position_embeddings", "context_length", AP_CONFIG_U32},
    {"norm_eps", "attention.layer_norm_epsilon", AP_CONFIG_F32, .usual = 1e-5f},
    {"hidden_activation", "hidden_activation", AP_CONFIG_TEXT, .must = GELU},
    {"classifier_activation", NULL, AP_CONFIG_TEXT, .must = "gelu"},
    {"local_attention", "attention.sliding_window", AP_CONFIG_U32, .usual = 128},
    {"layer_types", "attention.sliding_window_pattern", AP_CONFIG_LAYERS, .must = "sliding_attention"},
    {"global_attn_every_n_layers", "attention.sliding_window_pattern", AP_CONFIG_U32, .unless = "layer_types", .usual = 3},
    {"global_rope_theta", "rope.freq_base", AP_CONFIG_F32, .unless = "rope_parameters", .usual = 160000},
    {"local_rope_theta", "rope.freq_base_swa", AP_CONFIG_F32, .unless = "rope_parameters", .usual = 10000},
};

const ap_arch ap_arch_modern_bert = {
    .name = "modern-bert",
    .rope_pairs = AP_ROPE_HALVES,
    .norm = AP_NORM_LAYER,
    .activation = AP_ACTIVATION_GELU,
    .is_encoder = true,
    .has_no_first_norm = true,
    .is_head_gelu = true,
    .rank_pooling = AP_POOLING_MEAN,
    .rope_local_base = 10000,
    .window_period = 3,
    .window_open = 0,
    .tensors = modern_tensors,
    .tensor_count = AP_COUNT_OF(modern_tensors),
    .hf = {.classes = {"ModernBertModel", "ModernBertForMaskedLM", "ModernBertForSequenceClassification"},
           .model_types = {"modernbert", NULL, "modernbert"},
           .class_keys = {[2] = AP_CONFIG_LABELS},
           .rope_base_name = "global_rope_theta",
           .rope_local_name = "local_rope_theta",
           .layers = "model.layers.",
           .root = "model.",
           .idle = "head.|decoder.",
           .keys = modern_keys,
           .key_count = AP_COUNT_OF(modern_keys)},
};
