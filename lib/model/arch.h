/* arch.h - a model family as data.
 *
 * One table entry says how a family is wired and what its tensors are called, in GGUF
 * files and in Hugging Face folders (those become GGUF's terms at import, source.h);
 * one forward pass (forward.c) reads it.  A new family is a new entry and a
 * golden test.  Facts per family stand beside the entry (arch_llama.c).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_MODEL_ARCH_H
#define AP_MODEL_ARCH_H

#include "base/str.h"

/* The sizes of one model, read from its metadata and checked (hparams.c). */
typedef struct ap_hparams {
    uint32_t layer_count;
    uint32_t width;         /* D: of the residual stream */
    uint32_t head_count;    /* H: query heads */
    uint32_t kv_head_count; /* divides head_count */
    uint32_t head_width;    /* of a query, key or value head; even */
    uint32_t ffn_width;     /* F */
    uint32_t vocab_count;   /* V: tokens; the file's embedding may have more rows */
    uint32_t context_tokens;
    uint32_t rope_width; /* rotated dimensions of a head; even, <= head_width */
    float rope_base;
    float rope_divisor; /* linear scaling: every frequency is divided by it; 1: none */
    float norm_epsilon;
} ap_hparams;

/* Which pairs of a head's dimensions a rotary embedding turns. */
typedef enum ap_rope_pairs {
    AP_ROPE_INTERLEAVED, /* (0,1), (2,3), …: how GGUF files of the llama family are laid out */
    AP_ROPE_HALVES       /* (0,n/2), (1,n/2+1), … */
} ap_rope_pairs;

/* What a tensor is for.  Those before AP_ROLE_LAYER_FIRST stand once per model. */
typedef enum ap_role {
    AP_ROLE_EMBEDDING,
    AP_ROLE_OUTPUT_NORM,
    AP_ROLE_OUTPUT, /* absent: the embedding is used again (tied) */
    AP_ROLE_ROPE_DIVISORS,
    AP_ROLE_LAYER_FIRST,
    AP_ROLE_ATTN_NORM = AP_ROLE_LAYER_FIRST,
    AP_ROLE_Q,
    AP_ROLE_K,
    AP_ROLE_V,
    AP_ROLE_Q_BIAS,
    AP_ROLE_K_BIAS,
    AP_ROLE_V_BIAS,
    AP_ROLE_ATTN_OUT,
    AP_ROLE_FFN_NORM,
    AP_ROLE_GATE,
    AP_ROLE_UP,
    AP_ROLE_DOWN,
    AP_ROLE_COUNT
} ap_role;

/* A size of a tensor, as a word for a number of ap_hparams. */
typedef enum ap_extent {
    AP_EXTENT_NONE, /* the tensor has one dimension less: a vector */
    AP_EXTENT_WIDTH,
    AP_EXTENT_Q,  /* head_count * head_width */
    AP_EXTENT_KV, /* kv_head_count * head_width */
    AP_EXTENT_FFN,
    AP_EXTENT_VOCAB,
    AP_EXTENT_ROPE_HALF /* rope_width / 2 */
} ap_extent;

/* How the rows of a folder's tensor become those of GGUF. */
typedef enum ap_hf_rows {
    AP_HF_ROWS_SAME,
    AP_HF_ROWS_Q_PAIRS, /* rotary pairs of query heads, halves in the folder, become neighbours (AP_ROPE_INTERLEAVED) */
    AP_HF_ROWS_K_PAIRS  /* likewise of key heads */
} ap_hf_rows;

typedef struct ap_tensor_rule {
    ap_role role;
    const char *gguf_name; /* of the model, or of a layer behind "blk.N." */
    ap_extent columns, rows;
    bool is_optional;
    const char *hf_name; /* of the model, or of a layer behind hf->layers and "N."; NULL: folders have no such tensor */
    ap_hf_rows hf_rows;
} ap_tensor_rule;

/* What a folder's config.json says, as a key of GGUF. */
typedef struct ap_config_key {
    const char *config; /* path in config.json; absent or null: the key is left out */
    const char *gguf;   /* behind "<architecture>."; NULL: only `must` is looked at */
    enum { AP_CONFIG_U32, AP_CONFIG_F32, AP_CONFIG_TEXT } kind;
    const char *only_if; /* path of a flag; absent or false: the key is left out */
    const char *must;    /* of a text: any other value is refused */
} ap_config_key;

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
    const char *classes[6]; /* names in "architectures"; the rest is NULL */
    const char *layers;     /* "model.layers." */
    const ap_config_key *keys;
    size_t key_count;
} ap_hf_family;

typedef struct ap_arch {
    const char *name; /* GGUF general.architecture, and the prefix of its keys */
    ap_rope_pairs rope_pairs;
    const ap_tensor_rule *tensors;
    size_t tensor_count;
    ap_hf_family hf; /* no classes: folders of this family are not read */
} ap_arch;

extern const ap_arch ap_arch_llama;

/* NULL if there is no entry. */
const ap_arch *ap_arch_find(ap_str name);
/* All names with a comma between, for a refusal. */
const char *ap_arch_names(void);
/* By a name in the "architectures" of config.json. */
const ap_arch *ap_arch_find_class(ap_str name);
const char *ap_arch_class_names(void);

#endif
