/* model.h - a packed model in memory: architecture, sizes, weights, vocabulary;
 * and the one forward pass for all families.
 *
 * An ap_model borrows everything from the mapped packed file; it is opened once,
 * read by one engine, and never changes.  The forward pass owns work memory for
 * a bounded number of tokens and allocates nothing while it runs.
 *
 * Words: a *piece* is a run of consecutive tokens of one sequence that one pass
 * computes; a *batch* is the pieces of one pass; an *output row* is a token whose
 * logits are wanted.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_MODEL_MODEL_H
#define AP_MODEL_MODEL_H

#include "base/file.h"
#include "base/pool.h"
#include "format/format.h"
#include "kernel/kernel.h"
#include "model/arch.h"
#include "model/rules.h"
#include "quant/quant.h"
#include "text/text.h"

/* A matrix without panels or a NULL vector is absent, here and below. */
typedef struct ap_mlp {
    ap_matrix gate, up, down; /* no gate: down(f(up x)) */
    const float *gate_bias, *up_bias, *down_bias;
} ap_mlp;

typedef struct ap_layer {
    const float *attn_norm, *attn_norm_bias, *attn_post_norm, *attn_post_norm_bias;
    const float *ffn_norm, *ffn_norm_bias, *ffn_post_norm, *ffn_post_norm_bias;
    ap_matrix q, k, v, attn_out;
    const float *q_bias, *k_bias, *v_bias, *attn_out_bias;
    const float *q_norm, *k_norm, *sinks;
    ap_mlp mlp;
    ap_matrix router; /* with experts: no mlp */
    const float *router_bias;
    ap_mlp *experts;
} ap_layer;

/* What makes scores of the pooled vector: scores(norm(f(layer))), where the norm may be absent. */
typedef struct ap_head {
    ap_matrix layer, scores;
    const float *bias, *norm, *norm_bias, *scores_bias;
} ap_head;

struct ap_model {
    ap_mapping file;
    ap_packed *packed;
    const ap_arch *arch;
    ap_hparams sizes;
    ap_matrix embedding, output;         /* the same panels when tied */
    const unsigned char *embedding_rows; /* untied: rows as the source has them, and no panels */
    ap_matrix positions;                 /* learned: rows as the source has them */
    const unsigned char *position_rows;
    ap_matrix types; /* of tokens, likewise */
    const unsigned char *type_rows;
    const float *embedding_norm, *embedding_norm_bias;
    const float *output_norm, *output_norm_bias;
    const float *rope_divisors, *rope_divisors_long, *rope_divisors_short; /* rope_width / 2, or NULL */
    ap_head head;
    ap_layer *layers;
    ap_mlp *experts; /* of all layers */
    ap_vocab *vocab;
    ap_model_info info;
};

struct ap_vocab {
    ap_tokenizer *tokenizer;
    bool has_ids_only;          /* the source had no tokenizer */
    ap_template *chat_template; /* NULL: the model has none */
    ap_call_format calls; /* how its answers show calls and reasoning */
    ap_status template_status;  /* why it cannot be used, if it has one that was refused */
    ap_error template_error;
};

/* Where the matrix that is wanted stands in the model, for a role from AP_ROLE_LAYER_FIRST on; NULL if it is none or absent. */
const ap_matrix *ap_model_matrix(const ap_model *model, const ap_wanted *wanted);
/* The embedding of one token < vocab_count: `width` floats. */
void ap_model_embed(const ap_model *model, uint32_t token, float *out);
/* The learned vector of a position < context_tokens, of a token type < type_count; only if there are such. */
void ap_model_position(const ap_model *model, uint32_t position, float *out);
void ap_model_type(const ap_model *model, uint32_t type, float *out);

/* Reads and checks the sizes of a model; every refusal names the key, the value and the limit. */
ap_status ap_hparams_read(ap_hparams *sizes, const ap_arch *arch, const ap_gguf *gguf, ap_error *err);
/* Some layer has rotary positions. */
bool ap_hparams_is_rotary(const ap_hparams *sizes);

/* tokenizer.ggml.model of a model that came without a tokenizer; every token is there and unused. */
#define AP_VOCAB_MODEL_NONE "none"
bool ap_vocab_has_ids_only(const ap_gguf *gguf);

/* The vocabulary and the template out of a file's metadata; copies what it keeps. */
ap_status ap_vocab_create(ap_vocab **out, const ap_gguf *gguf, ap_error *err);
/* Fills chat and chat_calls of the report, and adds to its notes where a plain chat fails. */
void ap_vocab_describe_chat(const ap_vocab *vocab, ap_import_report *report);

/* ---- The forward pass (forward.c) ---- */

typedef struct ap_forward ap_forward;

typedef struct ap_piece {
    const int32_t *tokens; /* ids < vocab_count */
    const uint8_t *types;  /* < type_count; NULL: all 0 */
    uint32_t count;
    uint32_t position;   /* of the first token; those before are in the pages; 0 of an encoder's, whose piece is a whole sequence */
    void *const *pages;  /* page i holds positions i * AP_PAGE_TOKENS …; room for all of this piece */
    uint32_t outputs;    /* so many of the last tokens are output rows: 0 to count */
} ap_piece;

/* Work memory for passes of up to `tokens_max` tokens of contexts up to `context_tokens`, which chooses the position
 * table where there are several.  Model, adapter (NULL: none), kernels and pool must outlive it. */
ap_status ap_forward_create(ap_forward **out, const ap_model *model, const ap_adapter *adapter, const ap_kernels *kernels,
                            ap_pool *pool, ap_kv_type kv_type, uint32_t tokens_max, uint32_t context_tokens, ap_error *err);
void ap_forward_destroy(ap_forward **forward);
/* Bytes of one KV page of this model. */
size_t ap_forward_page_bytes(const ap_model *model, ap_kv_type kv_type);
/* Bytes of the work memory that ap_forward_create takes. */
ap_status ap_forward_bytes(const ap_model *model, const ap_adapter *adapter, uint32_t tokens_max, size_t *bytes, ap_error *err);

/* Sees what each product of a layer reads: `tokens` rows of matrix->cols floats, as they are before they are rounded to 8
 * bits.  The pass calls it on the caller's thread, so the order is always the same. */
typedef void ap_forward_observer(void *context, const ap_matrix *matrix, const float *x, uint32_t tokens);
/* NULL: nobody, as at first. */
void ap_forward_observe(ap_forward *forward, ap_forward_observer *observer, void *context);

/* Computes all pieces: writes their keys and values into the pages and keeps the final
 * vectors of the output rows, in order of the pieces. */
void ap_forward_run(ap_forward *forward, const ap_piece *pieces, uint32_t piece_count);
/* Logits of output rows [first, first + count) of the last run: count x vocab_count floats. */
void ap_forward_logits(ap_forward *forward, uint32_t first, uint32_t count, float *logits);
/* The final vectors themselves, `width` floats each, from output row `first` on; good until the next run. */
const float *ap_forward_final(const ap_forward *forward, uint32_t first);

/* ---- What an encoder's final vectors become (head.c) ---- */

/* One vector of the `count` of a sequence: `width` floats; as model->sizes.pooling says, which is not NONE. */
void ap_head_pool(const ap_model *model, const ap_kernels *kernels, const float *final, uint32_t count, float *out);
/* Floats of work memory for ap_head_score, aligned to 64 bytes. */
size_t ap_head_work_floats(const ap_model *model);
/* label_count scores of a pooled vector; only of a model with a head. */
void ap_head_score(const ap_model *model, const ap_kernels *kernels, ap_pool *pool, const float *pooled, float *work, float *scores);

#endif
