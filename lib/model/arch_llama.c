/* arch_llama.c - Llama 1 to 3.2 and what shares their shape: SmolLM 1 and 2,
 * Mistral without a window, Falcon 3, R1 distillations of Llama.
 *
 * x = E[token]; per layer h = rms(x)·w, q k v of h, rotary q and k, attention,
 * x += Wo·a, h = rms(x)·w, x += down(silu(gate·h) · (up·h)); logits = head·rms(x).
 * The GGUF converter of this family reorders the rows of Wq and Wk so that rotary pairs are
 * neighbours.  Llama 3.1 and later carry frequency divisors as a tensor.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "model/arch.h"

static const ap_tensor_rule tensors[] = {
    {AP_ROLE_EMBEDDING, "token_embd.weight", AP_EXTENT_WIDTH, AP_EXTENT_VOCAB, false},
    {AP_ROLE_OUTPUT_NORM, "output_norm.weight", AP_EXTENT_WIDTH, AP_EXTENT_NONE, false},
    {AP_ROLE_OUTPUT, "output.weight", AP_EXTENT_WIDTH, AP_EXTENT_VOCAB, true},
    {AP_ROLE_ROPE_DIVISORS, "rope_freqs.weight", AP_EXTENT_ROPE_HALF, AP_EXTENT_NONE, true},
    {AP_ROLE_ATTN_NORM, "attn_norm.weight", AP_EXTENT_WIDTH, AP_EXTENT_NONE, false},
    {AP_ROLE_Q, "attn_q.weight", AP_EXTENT_WIDTH, AP_EXTENT_Q, false},
    {AP_ROLE_K, "attn_k.weight", AP_EXTENT_WIDTH, AP_EXTENT_KV, false},
    {AP_ROLE_V, "attn_v.weight", AP_EXTENT_WIDTH, AP_EXTENT_KV, false},
    {AP_ROLE_Q_BIAS, "attn_q.bias", AP_EXTENT_Q, AP_EXTENT_NONE, true},
    {AP_ROLE_K_BIAS, "attn_k.bias", AP_EXTENT_KV, AP_EXTENT_NONE, true},
    {AP_ROLE_V_BIAS, "attn_v.bias", AP_EXTENT_KV, AP_EXTENT_NONE, true},
    {AP_ROLE_ATTN_OUT, "attn_output.weight", AP_EXTENT_Q, AP_EXTENT_WIDTH, false},
    {AP_ROLE_FFN_NORM, "ffn_norm.weight", AP_EXTENT_WIDTH, AP_EXTENT_NONE, false},
    {AP_ROLE_GATE, "ffn_gate.weight", AP_EXTENT_WIDTH, AP_EXTENT_FFN, false},
    {AP_ROLE_UP, "ffn_up.weight", AP_EXTENT_WIDTH, AP_EXTENT_FFN, false},
    {AP_ROLE_DOWN, "ffn_down.weight", AP_EXTENT_FFN, AP_EXTENT_WIDTH, false},
};

const ap_arch ap_arch_llama = {
    .name = "llama",
    .rope_pairs = AP_ROPE_INTERLEAVED,
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof tensors[0],
};
