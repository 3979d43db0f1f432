/* arch_rules.h - rules that many families share; for the tables of arch_*.c alone.
 *
 * Names of folders are those of the families around Llama; others write their rules out.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_MODEL_ARCH_RULES_H
#define AP_MODEL_ARCH_RULES_H

#include "model/arch.h"

#define AP_COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

#define AP_VECTOR(role, name, extent, optional, ...) {role, name, extent, AP_EXTENT_NONE, optional, __VA_ARGS__}

/* Embedding, last norm, output matrix. */
#define AP_RULES_ENDS \
    {AP_ROLE_EMBEDDING, "token_embd.weight", AP_EXTENT_WIDTH, AP_EXTENT_VOCAB, false, "model.embed_tokens.weight"}, \
    AP_VECTOR(AP_ROLE_OUTPUT_NORM, "output_norm.weight", AP_EXTENT_WIDTH, false, "model.norm.weight"), \
    {AP_ROLE_OUTPUT, "output.weight", AP_EXTENT_WIDTH, AP_EXTENT_VOCAB, true, "lm_head.weight"}

/* Queries, keys, values and the matrix behind attention; how folders order the rows of q and k. */
#define AP_RULES_ATTENTION(q_rows, k_rows) \
    {AP_ROLE_Q, "attn_q.weight", AP_EXTENT_WIDTH, AP_EXTENT_Q, false, "self_attn.q_proj.weight", q_rows, \
     AP_FUSED_QKV, "attn_qkv.weight"}, \
    {AP_ROLE_K, "attn_k.weight", AP_EXTENT_WIDTH, AP_EXTENT_KV, false, "self_attn.k_proj.weight", k_rows, \
     AP_FUSED_QKV, "attn_qkv.weight"}, \
    {AP_ROLE_V, "attn_v.weight", AP_EXTENT_WIDTH, AP_EXTENT_KV, false, "self_attn.v_proj.weight", AP_HF_ROWS_SAME, \
     AP_FUSED_QKV, "attn_qkv.weight"}, \
    {AP_ROLE_ATTN_OUT, "attn_output.weight", AP_EXTENT_Q, AP_EXTENT_WIDTH, false, "self_attn.o_proj.weight"}

/* Their biases: of q, k and v, and of the matrix behind. */
#define AP_RULES_QKV_BIAS(q_rows, k_rows, optional) \
    AP_VECTOR(AP_ROLE_Q_BIAS, "attn_q.bias", AP_EXTENT_Q, optional, "self_attn.q_proj.bias", q_rows, AP_FUSED_QKV, \
              "attn_qkv.bias"), \
    AP_VECTOR(AP_ROLE_K_BIAS, "attn_k.bias", AP_EXTENT_KV, optional, "self_attn.k_proj.bias", k_rows, AP_FUSED_QKV, \
              "attn_qkv.bias"), \
    AP_VECTOR(AP_ROLE_V_BIAS, "attn_v.bias", AP_EXTENT_KV, optional, "self_attn.v_proj.bias", AP_HF_ROWS_SAME, \
              AP_FUSED_QKV, "attn_qkv.bias")
#define AP_RULE_OUT_BIAS(optional) \
    AP_VECTOR(AP_ROLE_ATTN_OUT_BIAS, "attn_output.bias", AP_EXTENT_WIDTH, optional, "self_attn.o_proj.bias")

/* Norms of queries and keys: of one head's width, or of all. */
#define AP_RULES_QK_NORM(q_extent, k_extent) \
    AP_VECTOR(AP_ROLE_Q_NORM, "attn_q_norm.weight", q_extent, false, "self_attn.q_norm.weight"), \
    AP_VECTOR(AP_ROLE_K_NORM, "attn_k_norm.weight", k_extent, false, "self_attn.k_norm.weight")

/* Norms before attention and before the MLP. */
#define AP_RULES_NORMS \
    AP_VECTOR(AP_ROLE_ATTN_NORM, "attn_norm.weight", AP_EXTENT_WIDTH, false, "input_layernorm.weight"), \
    AP_VECTOR(AP_ROLE_FFN_NORM, "ffn_norm.weight", AP_EXTENT_WIDTH, false, "post_attention_layernorm.weight")

/* A gated MLP. */
#define AP_RULES_GATED \
    {AP_ROLE_GATE, "ffn_gate.weight", AP_EXTENT_WIDTH, AP_EXTENT_FFN, false, "mlp.gate_proj.weight", AP_HF_ROWS_SAME, \
     AP_FUSED_GATE_UP, "ffn_up.weight"}, \
    {AP_ROLE_UP, "ffn_up.weight", AP_EXTENT_WIDTH, AP_EXTENT_FFN, false, "mlp.up_proj.weight", AP_HF_ROWS_SAME, \
     AP_FUSED_GATE_UP, "ffn_up.weight"}, \
    {AP_ROLE_DOWN, "ffn_down.weight", AP_EXTENT_FFN, AP_EXTENT_WIDTH, false, "mlp.down_proj.weight"}

/* A router and gated experts, one tensor for each or all in one; names of folders for the router and an expert's three. */
#define AP_RULES_EXPERTS(router, gate, up, down) \
    {AP_ROLE_ROUTER, "ffn_gate_inp.weight", AP_EXTENT_WIDTH, AP_EXTENT_EXPERTS, false, router}, \
    {AP_ROLE_EXPERT_GATE, "ffn_gate.%u.weight", AP_EXTENT_WIDTH, AP_EXTENT_EXPERT_FFN, false, gate, AP_HF_ROWS_SAME, \
     AP_FUSED_EXPERTS, "ffn_gate_exps.weight"}, \
    {AP_ROLE_EXPERT_UP, "ffn_up.%u.weight", AP_EXTENT_WIDTH, AP_EXTENT_EXPERT_FFN, false, up, AP_HF_ROWS_SAME, \
     AP_FUSED_EXPERTS, "ffn_up_exps.weight"}, \
    {AP_ROLE_EXPERT_DOWN, "ffn_down.%u.weight", AP_EXTENT_EXPERT_FFN, AP_EXTENT_WIDTH, false, down, AP_HF_ROWS_SAME, \
     AP_FUSED_EXPERTS, "ffn_down_exps.weight"}

/* What the families with layer norms and a plain MLP have alike; folders of each call it otherwise. */
#define AP_RULES_LAYER_NORM_ENDS(model, norm, head) \
    {AP_ROLE_EMBEDDING, "token_embd.weight", AP_EXTENT_WIDTH, AP_EXTENT_VOCAB, false, model ".weight"}, \
    AP_VECTOR(AP_ROLE_OUTPUT_NORM, "output_norm.weight", AP_EXTENT_WIDTH, false, norm ".weight"), \
    AP_VECTOR(AP_ROLE_OUTPUT_NORM_BIAS, "output_norm.bias", AP_EXTENT_WIDTH, false, norm ".bias"), \
    {AP_ROLE_OUTPUT, "output.weight", AP_EXTENT_WIDTH, AP_EXTENT_VOCAB, true, head ".weight"}
#define AP_RULES_LAYER_NORM(weight_role, bias_role, gguf, optional, folder) \
    AP_VECTOR(weight_role, gguf ".weight", AP_EXTENT_WIDTH, optional, folder ".weight"), \
    AP_VECTOR(bias_role, gguf ".bias", AP_EXTENT_WIDTH, optional, folder ".bias")
/* q, k and v are one tensor in files and folders; how their rows stand in that of folders. */
#define AP_RULES_FUSED_ATTENTION(qkv, rows, out) \
    {AP_ROLE_Q, "attn_q.weight", AP_EXTENT_WIDTH, AP_EXTENT_Q, false, qkv ".weight", rows, AP_FUSED_QKV, \
     "attn_qkv.weight"}, \
    {AP_ROLE_K, "attn_k.weight", AP_EXTENT_WIDTH, AP_EXTENT_KV, false, qkv ".weight", rows, AP_FUSED_QKV, \
     "attn_qkv.weight"}, \
    {AP_ROLE_V, "attn_v.weight", AP_EXTENT_WIDTH, AP_EXTENT_KV, false, qkv ".weight", rows, AP_FUSED_QKV, \
     "attn_qkv.weight"}, \
    {AP_ROLE_ATTN_OUT, "attn_output.weight", AP_EXTENT_Q, AP_EXTENT_WIDTH, false, out ".weight"}
#define AP_RULES_FUSED_ATTENTION_BIAS(qkv, rows, out, optional) \
    AP_VECTOR(AP_ROLE_Q_BIAS, "attn_q.bias", AP_EXTENT_Q, optional, qkv ".bias", rows, AP_FUSED_QKV, "attn_qkv.bias"), \
    AP_VECTOR(AP_ROLE_K_BIAS, "attn_k.bias", AP_EXTENT_KV, optional, qkv ".bias", rows, AP_FUSED_QKV, "attn_qkv.bias"), \
    AP_VECTOR(AP_ROLE_V_BIAS, "attn_v.bias", AP_EXTENT_KV, optional, qkv ".bias", rows, AP_FUSED_QKV, "attn_qkv.bias"), \
    AP_VECTOR(AP_ROLE_ATTN_OUT_BIAS, "attn_output.bias", AP_EXTENT_WIDTH, optional, out ".bias")
#define AP_RULES_PLAIN(up, down) \
    {AP_ROLE_UP, "ffn_up.weight", AP_EXTENT_WIDTH, AP_EXTENT_FFN, false, up ".weight"}, \
    {AP_ROLE_DOWN, "ffn_down.weight", AP_EXTENT_FFN, AP_EXTENT_WIDTH, false, down ".weight"}
#define AP_RULES_PLAIN_BIAS(up, down, optional) \
    AP_VECTOR(AP_ROLE_UP_BIAS, "ffn_up.bias", AP_EXTENT_FFN, optional, up ".bias"), \
    AP_VECTOR(AP_ROLE_DOWN_BIAS, "ffn_down.bias", AP_EXTENT_WIDTH, optional, down ".bias")

/* What config.json says of windows: how long, and of which layers. */
#define AP_CONFIG_KEYS_WINDOW \
    {"sliding_window", "attention.sliding_window", AP_CONFIG_U32}, \
    {"layer_types", "attention.sliding_window_pattern", AP_CONFIG_LAYERS, .must = "sliding_attention"}
/* The same where a flag has to allow it. */
#define AP_CONFIG_KEYS_WINDOW_IF_USED \
    {"sliding_window", "attention.sliding_window", AP_CONFIG_U32, .only_if = "use_sliding_window"}, \
    {"layer_types", "attention.sliding_window_pattern", AP_CONFIG_LAYERS, .must = "sliding_attention"}
#define AP_CONFIG_KEYS_EXPERTS \
    {"num_local_experts", "expert_count", AP_CONFIG_U32}, \
    {"num_experts_per_tok", "expert_used_count", AP_CONFIG_U32}
#define AP_CONFIG_SILU {"hidden_act", NULL, AP_CONFIG_TEXT, .must = "silu"}

#define AP_HF_LLAMA_LIKE(table, type, ...) \
    .hf = {.classes = {__VA_ARGS__}, .model_types = {type}, .layers = "model.layers.", .keys = table, .key_count = AP_COUNT_OF(table)}

#endif
