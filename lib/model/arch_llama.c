/* arch_llama.c - Llama 1 to 3.2 and what shares their shape: SmolLM 1 and 2,
 * Mistral without a window, Falcon 3, R1 distillations of Llama.
 *
 * x = E[token]; per layer h = rms(x)·w, q k v of h, rotary q and k, attention,
 * x += Wo·a, h = rms(x)·w, x += down(silu(gate·h) · (up·h)); logits = head·rms(x).
 * In GGUF the rows of Wq and Wk are reordered so that rotary pairs are neighbours, and
 * Llama 3.1 and later carry frequency divisors as a tensor; folders have neither.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "model/arch.h"

static const ap_tensor_rule tensors[] = {
    {AP_ROLE_EMBEDDING, "token_embd.weight", AP_EXTENT_WIDTH, AP_EXTENT_VOCAB, false,
     "model.embed_tokens.weight"},
    {AP_ROLE_OUTPUT_NORM, "output_norm.weight", AP_EXTENT_WIDTH, AP_EXTENT_NONE, false, "model.norm.weight"},
    {AP_ROLE_OUTPUT, "output.weight", AP_EXTENT_WIDTH, AP_EXTENT_VOCAB, true, "lm_head.weight"},
    {AP_ROLE_ROPE_DIVISORS, "rope_freqs.weight", AP_EXTENT_ROPE_HALF, AP_EXTENT_NONE, true},
    {AP_ROLE_ATTN_NORM, "attn_norm.weight", AP_EXTENT_WIDTH, AP_EXTENT_NONE, false, "input_layernorm.weight"},
    {AP_ROLE_Q, "attn_q.weight", AP_EXTENT_WIDTH, AP_EXTENT_Q, false,
     "self_attn.q_proj.weight", AP_HF_ROWS_Q_PAIRS},
    {AP_ROLE_K, "attn_k.weight", AP_EXTENT_WIDTH, AP_EXTENT_KV, false,
     "self_attn.k_proj.weight", AP_HF_ROWS_K_PAIRS},
    {AP_ROLE_V, "attn_v.weight", AP_EXTENT_WIDTH, AP_EXTENT_KV, false, "self_attn.v_proj.weight"},
    {AP_ROLE_Q_BIAS, "attn_q.bias", AP_EXTENT_Q, AP_EXTENT_NONE, true,
     "self_attn.q_proj.bias", AP_HF_ROWS_Q_PAIRS},
    {AP_ROLE_K_BIAS, "attn_k.bias", AP_EXTENT_KV, AP_EXTENT_NONE, true,
     "self_attn.k_proj.bias", AP_HF_ROWS_K_PAIRS},
    {AP_ROLE_V_BIAS, "attn_v.bias", AP_EXTENT_KV, AP_EXTENT_NONE, true, "self_attn.v_proj.bias"},
    {AP_ROLE_ATTN_OUT, "attn_output.weight", AP_EXTENT_Q, AP_EXTENT_WIDTH, false, "self_attn.o_proj.weight"},
    {AP_ROLE_FFN_NORM, "ffn_norm.weight", AP_EXTENT_WIDTH, AP_EXTENT_NONE, false,
     "post_attention_layernorm.weight"},
    {AP_ROLE_GATE, "ffn_gate.weight", AP_EXTENT_WIDTH, AP_EXTENT_FFN, false, "mlp.gate_proj.weight"},
    {AP_ROLE_UP, "ffn_up.weight", AP_EXTENT_WIDTH, AP_EXTENT_FFN, false, "mlp.up_proj.weight"},
    {AP_ROLE_DOWN, "ffn_down.weight", AP_EXTENT_FFN, AP_EXTENT_WIDTH, false, "mlp.down_proj.weight"},
};

static const ap_config_key config_keys[] = {
    AP_CONFIG_KEYS_LLAMA,
    {"sliding_window", "attention.sliding_window", AP_CONFIG_U32}, /* Mistral 7B v0.1 */
    {"hidden_act", NULL, AP_CONFIG_TEXT, .must = "silu"},
};

const ap_arch ap_arch_llama = {
    .name = "llama",
    .rope_pairs = AP_ROPE_INTERLEAVED,
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof tensors[0],
    .hf = {.classes = {"LlamaForCausalLM", "MistralForCausalLM"},
           .layers = "model.layers.",
           .keys = config_keys,
           .key_count = sizeof config_keys / sizeof config_keys[0]},
};
