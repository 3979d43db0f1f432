/* hf.h - what the files that read a Hugging Face folder share.
 *
 *     hf_files.c   the files of the folder in memory; which of them holds which tensor
 *     hf_config.c  config.json: the family, and its numbers as GGUF keys
 *     hf_encoder.c pooling, labels, token types
 *     hf_card.c    the card in front of README.md: name, licence, tags, … (hf_card.h)
 *     hf_vocab.c   the tokenizer, the special tokens and the chat template as GGUF keys
 *     hf_source.c  tensors under their GGUF names, rows in GGUF's order
 *     hf_rows.c    which rows of a folder's matrix are those of a rule
 *     hf_quantized.c  matrices in AWQ, GPTQ, FP8 and MXFP4: what they become, row by row
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_MODEL_HF_H
#define AP_MODEL_HF_H

#include "base/arena.h"
#include "base/file.h"
#include "base/json.h"
#include "base/map.h"
#include "format/gguf_write.h"
#include "format/safetensors.h"
#include "model/rules.h"

/* ---- The files ---- */

typedef struct ap_hf_file {
    const char *name;
    ap_mapping map;
    ap_safetensors *tensors; /* NULL: none were looked for in this file */
} ap_hf_file;

typedef struct ap_hf_weight {
    ap_str name;
    const ap_safetensor *tensor;
    const unsigned char *data;
    bool is_used;
} ap_hf_weight;

typedef struct ap_hf_files {
    ap_hf_file *files;
    size_t count;
    uint64_t bytes;
    ap_hf_weight *weights;
    uint32_t weight_count;
    bool has_pictures; /* tensors that only read pictures: they are left out */
    ap_map weight_index;
} ap_hf_files;

/* Maps all and reads the headers of the weights.  Refusals begin with the name of the file at fault. */
ap_status ap_hf_files_open(ap_hf_files *out, const ap_import_file *files, size_t count, ap_error *err);
void ap_hf_files_close(ap_hf_files *files);
/* False if there is none of that name. */
bool ap_hf_files_find(const ap_hf_files *files, const char *name, ap_str *bytes);
ap_hf_weight *ap_hf_files_weight(const ap_hf_files *files, ap_str name); /* NULL if absent */
/* AP_E_FORMAT with both shapes unless the tensor has this one. */
ap_status ap_hf_weight_check(const ap_hf_weight *weight, uint32_t dim_count, const uint64_t *shape, ap_error *err);
/* *root is NULL, with AP_OK, if there is no file of that name; else an object, for the caller to json_decref. */
ap_status ap_hf_files_json(const ap_hf_files *files, const char *name, json_t **root, ap_error *err);
/* The same of an array. */
ap_status ap_hf_files_list(const ap_hf_files *files, const char *name, json_t **root, ap_error *err);

/* ---- config.json ---- */

/* Puts what a model that reads pictures says of its text part, and what is usual in its family, where config.json says
 * nothing itself.  AP_E_NOMEM. */
ap_status ap_hf_config_complete(json_t *config, ap_error *err);
/* Writes general.architecture and the family's keys. */
ap_status ap_hf_config_write(const json_t *config, ap_gguf_writer *keys, const ap_arch **arch, ap_error *err);
/* What folders say in config.json and GGUF in a tensor (Llama 3.1, longrope): the divisors of the rotary frequencies for
 * AP_ROLE_ROPE_DIVISORS, …_LONG or …_SHORT, rope_width / 2 of them; *out is NULL if there is no such scaling. */
ap_status ap_hf_rope_divisors(const json_t *config, const ap_hparams *sizes, ap_role role, ap_arena *arena, const float **out,
                              ap_error *err);

/* ---- Names ---- */

enum { AP_HF_NAME_ROOM = 128 };
/* "model.layers.3.mlp.experts.7.up_proj.weight" of layer 3, expert 7: alternative number `which` of the rule's names, or the
 * last there is. */
void ap_hf_name(const ap_arch *arch, const ap_wanted *wanted, unsigned which, char name[AP_HF_NAME_ROOM]);

/* ---- Encoders (hf_encoder.c) ---- */

/* The one file that may stand in a folder within. */
#define AP_HF_POOLING_FILE "1_Pooling/config.json"

/* Own keys of converted files, which nothing but the way back to a folder reads. */
#define AP_HF_KEY_CLASS "aperto.hf.class"             /* the name in "architectures" */
#define AP_HF_KEY_POSITIONS "aperto.hf.position_rows_skipped"
#define AP_HF_KEY_NORMALIZE "aperto.hf.normalize"     /* bool: modules.json ends in Normalize */

/* Writes the pooling; of an encoder also context, token types and labels. */
ap_status ap_hf_encoder_write(const ap_hf_files *files, const json_t *config, const ap_arch *arch, ap_gguf_writer *keys, ap_error *err);
/* Rows of learned positions in front of that of the first position. */
ap_status ap_hf_positions_skipped(const json_t *config, const ap_arch *arch, uint32_t *out, ap_error *err);

/* ---- Names and rows (also of adapters) ---- */

/* The alternative number `which` of a rule's hf_name, "one|two"; false if there are not so many. */
bool ap_hf_alternative(const char *list, unsigned which, ap_str *out);

/* Where the rows of a rule are in a folder's tensor (of all experts together), which has `all` of them. */
typedef struct ap_hf_span {
    ap_hf_rows rows;
    unsigned part; /* 0, 1, 2: q, k, v, or gate, up */
    uint64_t first, step, all;
} ap_hf_span;

ap_hf_span ap_hf_span_of(const ap_wanted *wanted, const ap_hparams *sizes);
/* Which row of the folder's tensor is row `row` of the rule's. */
uint64_t ap_hf_span_row(const ap_hf_span *span, const ap_hparams *sizes, uint64_t row);

/* ---- Quantised matrices ---- */

typedef enum ap_hf_method { AP_HF_PLAIN, AP_HF_GPTQ, AP_HF_AWQ, AP_HF_FP8, AP_HF_MXFP4 } ap_hf_method;

/* "quantization_config" of config.json. */
typedef struct ap_hf_quantization {
    ap_hf_method method;
    uint32_t group_columns;             /* GPTQ and AWQ; 0: a group is a whole row */
    bool is_zero_less_one;              /* GPTQ: zeros are stored less one (version 1) */
    bool must_have_groups;              /* GPTQ: columns are in groups of any order */
    uint32_t block_rows, block_columns; /* FP8: of one scale; 0: there are no blocks */
} ap_hf_quantization;

/* A matrix [rows][columns]; files are borrowed. */
typedef struct ap_hf_matrix {
    ap_hf_method method; /* AP_HF_PLAIN: none, the tensor is one of floats */
    uint64_t rows, columns;
    const unsigned char *codes, *zeros, *scales, *groups; /* groups NULL: ascending */
    ap_dtype scale_dtype;
    uint64_t group_columns, block_rows, block_columns;
    bool is_zero_less_one;
    ap_type type; /* of the rows: equal to the source in every bit */
    ap_type kept; /* what a model keeps of them: `type`, or one that rounds */
} ap_hf_matrix;

/* AP_E_UNSUPPORTED names the method, the bits or the packing that this release lacks. */
ap_status ap_hf_quantization_read(const json_t *config, ap_hf_quantization *out, ap_error *err);
/* What stands in place of ".weight", or behind the name, of a matrix of this kind; NULL: its name is the plain one. */
const char *ap_hf_quantized_ending(ap_hf_method method);
bool ap_hf_is_quantized(const ap_hf_quantization *quantization, const ap_hf_weight *weight);
/* Scales of activations and keys, which are not rounded to FP8 here. */
bool ap_hf_is_idle_scale(const ap_hf_quantization *quantization, ap_str name);
/* Finds what belongs to `codes` (is_quantized) and marks it as used; checks types, shapes, groups and zeros.  `rows` are
 * those of all experts together; exponents are checked of `expert` alone. */
ap_status ap_hf_matrix_open(const ap_hf_files *files, const ap_hf_quantization *quantization, const ap_hf_weight *codes,
                            uint64_t experts, uint64_t expert, uint64_t rows, uint64_t columns, ap_hf_matrix *out, ap_error *err);
/* One row in matrix->type. */
void ap_hf_matrix_row(const ap_hf_matrix *matrix, uint64_t row, unsigned char *out);
/* The F16 that is equal to a number in F8_E4M3 or F8_E5M2. */
uint16_t ap_hf_half_of_f8(ap_dtype dtype, unsigned char byte);

/* ---- The vocabulary ---- */

/* Writes the tokenizer.* keys for a model whose embedding has `rows` rows. */
ap_status ap_hf_vocab_write(const ap_hf_files *files, const json_t *config, uint32_t rows, ap_gguf_writer *keys, ap_error *err);

#endif
