/* tiny_families.h - what the files of each family hold, written down once more for the tests; for tiny_model.c alone.
 *
 * Sizes: D width, Q all query heads, K all KV heads, A q, k and v, H a head, N heads, F the MLP, G gate and up, E experts, V
 * vocabulary, C context, R pairs of a rotary embedding, T token types, L labels; 0 none.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TESTS_TINY_FAMILIES_H
#define AP_TESTS_TINY_FAMILIES_H

enum { TINY_EXPERTS = 6, TINY_ROTARY = 12, TINY_TYPES = 2 };

typedef enum tiny_when { ALWAYS, VARIANT, NOT_VARIANT, LATER /* not in the first layer */ } tiny_when;

typedef struct tiny_tensor {
    const char *name; /* NULL ends a list */
    char columns, rows, experts;
    tiny_when when;
} tiny_tensor;

typedef struct tiny_key {
    const char *name; /* behind the architecture */
    enum { TINY_U32, TINY_F32, TINY_BOOL, TINY_YARN, TINY_WINDOW } kind;
    float value;
    tiny_when when;
} tiny_key;

typedef struct tiny_family {
    const char *name;
    bool has_layer_norms;
    const tiny_key *keys;
    const tiny_tensor *model, *layer, *layer_more;
} tiny_family;

#define BOTH(name, ...) {name ".weight", __VA_ARGS__}, {name ".bias", __VA_ARGS__}
#define ENDS {"token_embd.weight", 'D', 'V'}, {"output_norm.weight", 'D'}
#define NORMS {"attn_norm.weight", 'D'}, {"ffn_norm.weight", 'D'}
#define HEAD_NORMS {"attn_q_norm.weight", 'H'}, {"attn_k_norm.weight", 'H'}
#define POST_NORMS {"post_attention_norm.weight", 'D'}, {"post_ffw_norm.weight", 'D'}
#define QKV_BIAS {"attn_q.bias", 'Q'}, {"attn_k.bias", 'K'}, {"attn_v.bias", 'K'}
#define GATED {"ffn_gate.weight", 'D', 'F'}, {"ffn_up.weight", 'D', 'F'}, {"ffn_down.weight", 'F', 'D'}
#define EXPERTS                                                                      \
    {"ffn_gate_inp.weight", 'D', 'E'}, {"ffn_gate_exps.weight", 'D', 'F', 'E'},      \
        {"ffn_up_exps.weight", 'D', 'F', 'E'}, {"ffn_down_exps.weight", 'F', 'D', 'E'}

static const tiny_tensor tied[] = {ENDS, {0}}, untied[] = {ENDS, {"output.weight", 'D', 'V'}, {0}};
static const tiny_tensor phi3_ends[] = {ENDS, {"rope_factors_long.weight", 'R', 0, 0, VARIANT},
                                        {"rope_factors_short.weight", 'R', 0, 0, VARIANT}, {0}};
static const tiny_tensor bare_ends[] = {{"token_embd.weight", 'D', 'V'}, {0}};
static const tiny_tensor layer_norm_ends[] = {ENDS, {"output_norm.bias", 'D'}, {0}};
static const tiny_tensor bloom_ends[] = {ENDS, {"output_norm.bias", 'D'}, BOTH("token_embd_norm", 'D'), {0}};
static const tiny_tensor gpt2_ends[] = {ENDS, {"output_norm.bias", 'D'}, {"position_embd.weight", 'D', 'C'}, {0}};

static const tiny_tensor attention[] = {
    {"attn_q.weight", 'D', 'Q'}, {"attn_k.weight", 'D', 'K'}, {"attn_v.weight", 'D', 'K'}, {"attn_output.weight", 'Q', 'D'}, {0}};
static const tiny_tensor attention_fused[] = {{"attn_qkv.weight", 'D', 'A'}, {"attn_output.weight", 'Q', 'D'}, {0}};

static const tiny_tensor llama[] = {NORMS, GATED, {0}}, llama_experts[] = {NORMS, EXPERTS, {0}};
static const tiny_tensor qwen2[] = {NORMS, GATED, QKV_BIAS, {0}};
static const tiny_tensor qwen3[] = {NORMS, GATED, HEAD_NORMS, {0}}, qwen3moe[] = {NORMS, EXPERTS, HEAD_NORMS, {0}};
static const tiny_tensor gemma2[] = {NORMS, POST_NORMS, GATED, {0}}, gemma3[] = {NORMS, POST_NORMS, GATED, HEAD_NORMS, {0}};
static const tiny_tensor phi3[] = {NORMS, {"ffn_up.weight", 'D', 'G'}, {"ffn_down.weight", 'F', 'D'}, {0}};
static const tiny_tensor olmo[] = {GATED, {0}};
static const tiny_tensor olmo2[] = {POST_NORMS, GATED, {"attn_q_norm.weight", 'Q'}, {"attn_k_norm.weight", 'K'}, {0}};
static const tiny_tensor gpt2[] = {BOTH("attn_norm", 'D'), BOTH("ffn_norm", 'D'), {"attn_qkv.bias", 'A'}, {"attn_output.bias", 'D'},
                                   {"ffn_up.weight", 'D', 'F'}, {"ffn_up.bias", 'F'}, {"ffn_down.weight", 'F', 'D'},
                                   {"ffn_down.bias", 'D'}, {0}};
static const tiny_tensor falcon[] = {BOTH("attn_norm", 'D'), BOTH("attn_norm_2", 'D', 0, 0, VARIANT), {"ffn_up.weight", 'D', 'F'},
                                     {"ffn_down.weight", 'F', 'D'}, {0}};
static const tiny_tensor gpt_oss[] = {{"attn_norm.weight", 'D'}, {"post_attention_norm.weight", 'D'}, QKV_BIAS, {"attn_output.bias", 'D'},
                                      {"attn_sinks.weight", 'N'}, EXPERTS, {"ffn_gate_inp.bias", 'E'},
                                      {"ffn_gate_exps.bias", 'F', 0, 'E'}, {"ffn_up_exps.bias", 'F', 0, 'E'},
                                      {"ffn_down_exps.bias", 'D', 0, 'E'}, {0}};

static const tiny_tensor bert_ends[] = {{"token_embd.weight", 'D', 'V'}, {"position_embd.weight", 'D', 'C'}, {"token_types.weight", 'D', 'T'},
                                        BOTH("token_embd_norm", 'D'), {"cls.weight", 'D', 'D'}, {"cls.bias", 'D'},
                                        {"cls.output.weight", 'D', 'L'}, {"cls.output.bias", 'L'}, {0}};
static const tiny_tensor bert[] = {BOTH("attn_output_norm", 'D'), BOTH("layer_output_norm", 'D'), {"attn_qkv.bias", 'A'},
                                   {"attn_output.bias", 'D'}, {"ffn_up.weight", 'D', 'F'}, {"ffn_up.bias", 'F'},
                                   {"ffn_down.weight", 'F', 'D'}, {"ffn_down.bias", 'D'}, {0}};
static const tiny_tensor modern_ends[] = {ENDS, {"token_embd_norm.weight", 'D'}, {"cls.weight", 'D', 'D'}, {"cls.norm.weight", 'D'},
                                          {"cls.output.weight", 'D', 'L'}, {"cls.output.bias", 'L'}, {0}};
static const tiny_tensor modern[] = {{"attn_norm.weight", 'D', 0, 0, LATER}, {"ffn_norm.weight", 'D'}, {"ffn_up.weight", 'D', 'G'},
                                     {"ffn_down.weight", 'F', 'D'}, {0}};

#define WINDOW(when) {"attention.sliding_window", TINY_WINDOW, 0, when}
#define YARN(when)                                                                                         \
    {"rope.scaling.type", TINY_YARN, 0, when}, {"rope.scaling.factor", TINY_F32, 8, when},                 \
        {"rope.scaling.original_context_length", TINY_U32, 256, when}
#define USED(count) {"expert_count", TINY_U32, TINY_EXPERTS}, {"expert_used_count", TINY_U32, count}

static const tiny_key no_keys[] = {{0}}, window_keys[] = {WINDOW(ALWAYS), {0}}, yarn_keys[] = {YARN(VARIANT), {0}};
static const tiny_key expert_keys[] = {USED(2), {0}};
static const tiny_key gemma2_keys[] = {WINDOW(ALWAYS), {"attn_logit_softcapping", TINY_F32, 5},
                                       {"final_logit_softcapping", TINY_F32, 3}, {0}};
static const tiny_key gemma3_keys[] = {WINDOW(ALWAYS), {"rope.freq_base", TINY_F32, 1e6f}, {"rope.scaling.factor", TINY_F32, 8}, {0}};
static const tiny_key phi3_keys[] = {WINDOW(NOT_VARIANT), {"rope.scaling.attn_factor", TINY_F32, 1.19f, VARIANT},
                                     {"rope.scaling.original_context_length", TINY_U32, 256, VARIANT},
                                     {"rope.dimension_count", TINY_U32, TINY_ROTARY, VARIANT}, {0}};
static const tiny_key olmo_keys[] = {{"attention.clamp_kqv", TINY_F32, 0.5f}, {0}};
static const tiny_key bert_keys[] = {{"attention.causal", TINY_BOOL, 0}, {"pooling_type", TINY_U32, 4}, {0}};
static const tiny_key modern_keys[] = {WINDOW(ALWAYS), {"attention.sliding_window_pattern", TINY_U32, 3}, {"rope.freq_base", TINY_F32, 160000},
                                       {"attention.causal", TINY_BOOL, 0}, {"pooling_type", TINY_U32, 4}, {0}};
static const tiny_key olmo2_keys[] = {WINDOW(VARIANT), YARN(VARIANT), {0}};
static const tiny_key gptneox_keys[] = {{"rope.dimension_count", TINY_U32, TINY_ROTARY},
                                        {"use_parallel_residual", TINY_BOOL, 0, VARIANT}, {0}};
static const tiny_key gpt_oss_keys[] = {WINDOW(ALWAYS), YARN(ALWAYS), USED(4), {0}};

static const tiny_family families[] = {
    {"mistral", false, window_keys, untied, attention, llama},
    {"mixtral", false, expert_keys, untied, attention, llama_experts},
    {"qwen2", false, yarn_keys, tied, attention, qwen2},
    {"qwen3", false, no_keys, tied, attention, qwen3},
    {"qwen3moe", false, expert_keys, tied, attention, qwen3moe},
    {"gemma", false, no_keys, tied, attention, llama},
    {"gemma2", false, gemma2_keys, tied, attention, gemma2},
    {"gemma3", false, gemma3_keys, tied, attention, gemma3},
    {"phi3", false, phi3_keys, phi3_ends, attention_fused, phi3},
    {"smollm3", false, no_keys, tied, attention, llama},
    {"olmo", true, olmo_keys, bare_ends, attention, olmo},
    {"olmo2", false, olmo2_keys, untied, attention, olmo2},
    {"gpt2", true, no_keys, gpt2_ends, attention_fused, gpt2},
    {"gptneox", true, gptneox_keys, layer_norm_ends, attention_fused, gpt2},
    {"bloom", true, no_keys, bloom_ends, attention_fused, gpt2},
    {"falcon", true, no_keys, layer_norm_ends, attention_fused, falcon},
    {"gpt-oss", false, gpt_oss_keys, untied, attention, gpt_oss},
    {"bert", true, bert_keys, bert_ends, attention_fused, bert},
    {"modern-bert", true, modern_keys, modern_ends, attention_fused, modern},
};

#endif
