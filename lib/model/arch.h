/* arch.h - a model family as data.
 *
 * One table entry says how a family is wired and what its tensors are called, in GGUF
 * files and in Hugging Face folders (those become GGUF's terms at import, source.h);
 * one forward pass (forward.c) reads it.  A new family is a new entry and a
 * golden test.  Facts per family stand beside the entry (arch_llama.c).
 *
 * Three places say what a model is:
 *
 *   the entry      what no file of the family changes: kinds of norm and where they stand, the
 *                  pairs of a rotary embedding, the activation, and values for keys left out
 *   ap_hparams     what the file's keys say: sizes, scales, caps, window, experts, which layers
 *                  are sliding and which are rotary; one reader for all families (hparams.c), so a
 *                  key means the same in each
 *   the tensors    what is there: a bias, a norm after attention, sinks, an output matrix; the
 *                  forward pass adds or norms where a layer has the vector
 *
 * Fused tensors (q|k|v, gate|up, all experts in one) are split by rows at import: the
 * forward pass knows q, k, v, gate, up and single experts only.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_MODEL_ARCH_H
#define AP_MODEL_ARCH_H

#include <jansson.h>

#include "aperto.h"
#include "base/str.h"
#include "kernel/vec.h"

enum { AP_LAYERS_MAX = 512, AP_EXPERTS_USED_MAX = 64, AP_LABELS_MAX = 65536 };

/* The sizes of one model, read from its metadata and checked (hparams.c); zero means that there is no such thing. */
typedef struct ap_hparams {
    uint32_t layer_count;
    uint32_t width;         /* D: of the residual stream */
    uint32_t head_count;    /* H: query heads */
    uint32_t kv_head_count; /* divides head_count */
    uint32_t head_width;    /* of a query, key or value head; even */
    uint32_t ffn_width;     /* F */
    uint32_t vocab_count;   /* V: tokens; the file's embedding may have more rows */
    uint32_t context_tokens;

    ap_rope_scaling rope;       /* of the layers that see everything */
    ap_rope_scaling rope_local; /* of the layers with a window */
    uint32_t rope_width;        /* rotated dimensions of a head; even, <= head_width */
    float alibi_bias;           /* largest bias of ALiBi; nothing is rotary then */

    ap_activation activation;
    float norm_epsilon;
    float embedding_scale; /* 1: none */
    float score_scale;
    float score_cap, logit_cap; /* cap * tanh(x / cap) */
    float qkv_clip;             /* queries, keys and values are kept within -clip … clip */
    bool is_parallel;           /* the MLP reads what attention reads */

    uint32_t window; /* keys that a query of a sliding layer sees, its own included; of an encoder half of it on either side */
    bool is_sliding[AP_LAYERS_MAX];
    bool is_rotary[AP_LAYERS_MAX];

    uint32_t type_count;  /* token types; 0: none */
    ap_pooling pooling;
    uint32_t label_count; /* of the head; 0: no head */

    uint32_t expert_count, expert_used; /* of the used, the largest router logits */
    uint32_t expert_ffn_width;
    bool is_router_normed; /* softmax over the used experts; else over all */
} ap_hparams;

/* Which pairs of a head's dimensions a rotary embedding turns. */
typedef enum ap_rope_pairs {
    AP_ROPE_INTERLEAVED, /* (0,1), (2,3), …: how GGUF files of the llama family are laid out */
    AP_ROPE_HALVES       /* (0,n/2), (1,n/2+1), … */
} ap_rope_pairs;

typedef enum ap_norm_kind {
    AP_NORM_RMS,
    AP_NORM_LAYER,
    AP_NORM_LAYER_BARE /* a layer norm without weights: there are no tensors */
} ap_norm_kind;

/* Where a block (attention, MLP) is normed. */
typedef enum ap_norm_place {
    AP_NORM_BEFORE,
    AP_NORM_AFTER, /* what the block adds is normed; it reads the residual stream as it is */
    AP_NORM_SUM,   /* the residual stream itself is normed when the block has been added */
    AP_NORM_AROUND
} ap_norm_place;

/* Norms of queries and keys, after their biases and before positions. */
typedef enum ap_qk_norm {
    AP_QK_NORM_NONE,
    AP_QK_NORM_HEAD, /* each head alone, all with the same weights */
    AP_QK_NORM_WHOLE /* all heads as one vector */
} ap_qk_norm;

/* What a tensor is for.  Those before AP_ROLE_LAYER_FIRST stand once per model, those from
 * AP_ROLE_EXPERT_FIRST on once per expert of a layer, the others once per layer. */
typedef enum ap_role {
    AP_ROLE_EMBEDDING,
    AP_ROLE_EMBEDDING_NORM,
    AP_ROLE_EMBEDDING_NORM_BIAS,
    AP_ROLE_POSITIONS,   /* learned, added to the embedding */
    AP_ROLE_TOKEN_TYPES, /* likewise */
    AP_ROLE_OUTPUT_NORM,
    AP_ROLE_OUTPUT_NORM_BIAS,
    AP_ROLE_OUTPUT, /* absent: the embedding is used again (tied) */
    AP_ROLE_ROPE_DIVISORS,
    AP_ROLE_ROPE_DIVISORS_LONG, /* where the context limit is above the original length */
    AP_ROLE_ROPE_DIVISORS_SHORT,
    /* Of a model with labels: a layer that reads the pooled vector, and the scores. */
    AP_ROLE_HEAD_FIRST,
    AP_ROLE_HEAD = AP_ROLE_HEAD_FIRST,
    AP_ROLE_HEAD_BIAS,
    AP_ROLE_HEAD_NORM,
    AP_ROLE_HEAD_NORM_BIAS,
    AP_ROLE_SCORES,
    AP_ROLE_SCORES_BIAS,
    AP_ROLE_LAYER_FIRST,
    AP_ROLE_ATTN_NORM = AP_ROLE_LAYER_FIRST,
    AP_ROLE_ATTN_NORM_BIAS,
    AP_ROLE_Q,
    AP_ROLE_K,
    AP_ROLE_V,
    AP_ROLE_Q_BIAS,
    AP_ROLE_K_BIAS,
    AP_ROLE_V_BIAS,
    AP_ROLE_Q_NORM,
    AP_ROLE_K_NORM,
    AP_ROLE_SINKS, /* a score per query head that takes weight and has no value */
    AP_ROLE_ATTN_OUT,
    AP_ROLE_ATTN_OUT_BIAS,
    AP_ROLE_ATTN_POST_NORM,
    AP_ROLE_ATTN_POST_NORM_BIAS,
    AP_ROLE_FFN_NORM,
    AP_ROLE_FFN_NORM_BIAS,
    AP_ROLE_FFN_POST_NORM,
    AP_ROLE_FFN_POST_NORM_BIAS,
    /* Of a model without experts. */
    AP_ROLE_DENSE_FIRST,
    AP_ROLE_GATE = AP_ROLE_DENSE_FIRST,
    AP_ROLE_UP,
    AP_ROLE_DOWN,
    AP_ROLE_GATE_BIAS,
    AP_ROLE_UP_BIAS,
    AP_ROLE_DOWN_BIAS,
    /* Of one with experts. */
    AP_ROLE_ROUTER,
    AP_ROLE_ROUTER_BIAS,
    AP_ROLE_EXPERT_FIRST,
    AP_ROLE_EXPERT_GATE = AP_ROLE_EXPERT_FIRST,
    AP_ROLE_EXPERT_UP,
    AP_ROLE_EXPERT_DOWN,
    AP_ROLE_EXPERT_GATE_BIAS,
    AP_ROLE_EXPERT_UP_BIAS,
    AP_ROLE_EXPERT_DOWN_BIAS,
    AP_ROLE_COUNT
} ap_role;

/* A size of a tensor, as a word for a number of ap_hparams. */
typedef enum ap_extent {
    AP_EXTENT_NONE, /* the tensor has one dimension less: a vector */
    AP_EXTENT_WIDTH,
    AP_EXTENT_Q,  /* head_count * head_width */
    AP_EXTENT_KV, /* kv_head_count * head_width */
    AP_EXTENT_HEAD,
    AP_EXTENT_HEADS, /* head_count */
    AP_EXTENT_FFN,
    AP_EXTENT_EXPERT_FFN,
    AP_EXTENT_EXPERTS,
    AP_EXTENT_VOCAB,
    AP_EXTENT_CONTEXT,
    AP_EXTENT_TYPES,
    AP_EXTENT_LABELS,
    AP_EXTENT_ROPE_HALF /* rope_width / 2 */
} ap_extent;

/* A tensor of GGUF that holds the rows of several rules, one behind the other. */
typedef enum ap_fused {
    AP_FUSED_NONE,
    AP_FUSED_QKV,     /* q, then k, then v */
    AP_FUSED_GATE_UP, /* gate, then up */
    AP_FUSED_EXPERTS  /* expert 0, then 1, … */
} ap_fused;

/* How the rows of a rule stand in a folder's tensor. */
typedef enum ap_hf_rows {
    AP_HF_ROWS_SAME,
    AP_HF_ROWS_Q_PAIRS, /* rotary pairs of query heads, halves in the folder, become neighbours (AP_ROPE_INTERLEAVED) */
    AP_HF_ROWS_K_PAIRS, /* likewise of key heads */
    AP_HF_ROWS_QKV,     /* all of q, all of k, all of v */
    AP_HF_ROWS_GROUPS,  /* per key head: its query heads, the key head, the value head */
    AP_HF_ROWS_GATE_UP, /* all of gate, all of up */
    AP_HF_ROWS_POSITIONS, /* the first behind those of the padding */
    /* All experts in one tensor, each with its columns first. */
    AP_HF_ROWS_EXPERT,
    AP_HF_ROWS_EXPERT_GATE_UP /* gate and up by turns */
} ap_hf_rows;

typedef struct ap_tensor_rule {
    ap_role role;
    const char *gguf_name; /* of the model, or of a layer behind "blk.N."; of an expert it has "%u" for its number */
    ap_extent columns, rows;
    bool is_optional;
    /* Of the model, or of a layer behind hf->layers and "N."; "%u" as above; several with '|' between, the first that is
     * there counts.  NULL: folders have no such tensor. */
    const char *hf_name;
    ap_hf_rows hf_rows;
    ap_fused fused;         /* where else the rows may stand */
    const char *fused_name; /* in GGUF, as gguf_name */
} ap_tensor_rule;

/* What a folder's config.json says, as a key of GGUF. */
typedef struct ap_config_key {
    const char *config; /* path in config.json; absent or null: see `usual` */
    const char *gguf;   /* behind "<architecture>."; NULL: only `must` is looked at */
    enum {
        AP_CONFIG_U32,
        AP_CONFIG_F32,
        AP_CONFIG_FLAG,
        AP_CONFIG_TEXT,
        AP_CONFIG_FOURFOLD, /* four times this u32 */
        AP_CONFIG_ROOT,     /* a number above 0 whose root goes under 1 */
        AP_CONFIG_IF_U32,   /* a flag; where it is true the key is `usual` */
        AP_CONFIG_IF_F32,
        AP_CONFIG_LAYERS /* a list with one value per layer: a flag for each, whether it is `must` or 1 */
    } kind;
    const char *must; /* of a text: any other value is refused, '|' between those allowed; of a flag "true" or "false" */
    const char *only_if, *unless; /* paths; where nothing (something) but null and false stands there the key is left out */
    float usual;                  /* of a number that is absent; 0: the key is left out then */
} ap_config_key;

/* In class_keys: the class of models with a head. */
#define AP_CONFIG_LABELS "classifier.output_labels"

/* Names that the families around Llama share. */
#define AP_CONFIG_KEYS_LLAMA                                                          \
    {"num_hidden_layers", "block_count", AP_CONFIG_U32},                              \
    {"hidden_size", "embedding_length", AP_CONFIG_U32},                               \
    {"intermediate_size", "feed_forward_length", AP_CONFIG_U32},                      \
    {"num_attention_heads", "attention.head_count", AP_CONFIG_U32},                   \
    {"num_key_value_heads", "attention.head_count_kv", AP_CONFIG_U32},                \
    {"head_dim", "attention.key_length", AP_CONFIG_U32},                              \
    {"head_dim", "attention.value_length", AP_CONFIG_U32},                            \
    {"max_position_embeddings", "context_length", AP_CONFIG_U32},                     \
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon", AP_CONFIG_F32},              \
    {"vocab_size", "vocab_size", AP_CONFIG_U32}

typedef struct ap_hf_family {
    const char *classes[8]; /* names in "architectures"; the rest is NULL */
    /* For writing a folder.  Of each class its "model_type", and the number that only models of the class have, a key
     * behind "<architecture>."; NULL: all have it.  The last class that fits is the model's. */
    const char *model_types[4], *class_keys[4];
    /* What config.json calls these here; NULL: rope_theta, rope_local_base_freq, partial_rotary_factor, attention_bias. */
    const char *rope_base_name, *rope_local_name, *rope_share_name, *bias_name;
    const char *vocab_model; /* of families that share a name in GGUF: whose tokenizer.ggml.model this is; NULL: there is no other */
    /* Says in config.json what tells the members of a family apart, before the keys are written, and gives back which of the
     * alternatives of hf_name they use; NULL: the first. */
    unsigned (*describe)(json_t *config, const ap_hparams *sizes, bool has_attn_norm);
    const char *layers;     /* "model.layers." */
    const char *root;       /* what some folders leave out in front of names; NULL: nothing */
    const char *usual;      /* a JSON object: what config.json means where it says nothing; NULL: nothing */
    bool has_columns_first;  /* matrices of layers are stored the other way round */
    bool are_norms_less_one; /* norms weigh by 1 + what is stored */
    bool are_positions_behind_padding; /* the first position is row pad_token_id + 1 of the learned ones */
    const char *idle;        /* beginnings of names, behind the root, of tensors that no answer needs; '|' between */
    const ap_config_key *keys;
    size_t key_count;
} ap_hf_family;

typedef struct ap_arch {
    const char *name; /* GGUF general.architecture, and the prefix of its keys */
    ap_rope_pairs rope_pairs;
    ap_norm_kind norm;
    ap_norm_place norm_place;
    ap_qk_norm qk_norm;
    ap_activation activation;
    bool is_encoder;          /* every token sees its whole sequence; there are no logits */
    bool has_no_first_norm;   /* of attention, in the first layer */
    bool is_head_gelu;        /* between the layers of a head, gelu; else tanh */
    ap_pooling rank_pooling;  /* what pooling_type 4, "rank", means with a head */
    bool is_embedding_scaled; /* by the root of the width */
    bool is_alibi_scaled;     /* the bias is scaled like the scores */
    bool is_yarn_exact;       /* the ends of YaRN's ramp are not whole numbers */

    /* Values for keys that files of the family leave out. */
    float alibi_bias;
    float score_cap, logit_cap;
    float rope_local_base;         /* above 0: sliding layers have this base and no scaling */
    bool is_rope_local_unscaled;   /* sliding layers have the same base and no scaling */
    bool is_parallel;              /* key use_parallel_residual */
    bool is_router_normed;         /* key expert_weights_norm */
    uint32_t window_period;        /* one layer in so many sees everything; 0: none of them does */
    uint32_t window_open;          /* which: layer i where i % period is this */
    uint32_t rotary_period;        /* one layer in so many, the last, is not rotary (1: none is); 0: all are */
    uint32_t score_width_layers;   /* with so many layers scores are scaled by the width per head, not the head's */

    const ap_tensor_rule *tensors;
    size_t tensor_count;
    ap_hf_family hf; /* no classes: folders of this family are not read */
} ap_arch;

extern const ap_arch ap_arch_bert, ap_arch_roberta, ap_arch_xlm_roberta, ap_arch_modern_bert, ap_arch_bloom, ap_arch_falcon, ap_arch_gemma, ap_arch_gemma2, ap_arch_gemma3, ap_arch_gpt2,
    ap_arch_gpt_oss, ap_arch_gptneox, ap_arch_llama, ap_arch_olmo, ap_arch_olmo2, ap_arch_phi3,
    ap_arch_qwen2, ap_arch_qwen3, ap_arch_qwen3moe, ap_arch_smollm3;

/* NULL if there is no entry. */
const ap_arch *ap_arch_find(ap_str name);
/* All names with a comma between, for a refusal. */
const char *ap_arch_names(void);
/* By a name in the "architectures" of config.json. */
const ap_arch *ap_arch_find_class(ap_str name);
const char *ap_arch_class_names(void);
/* Of families that share the name of `arch` in GGUF, the one whose vocabularies are of this kind; `arch` if there is none. */
const ap_arch *ap_arch_find_folder(const ap_arch *arch, ap_str vocab_model);

#endif
