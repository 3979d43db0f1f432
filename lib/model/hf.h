/* hf.h - what the files that read a Hugging Face folder share.
 *
 *     hf_files.c   the files of the folder in memory; which of them holds which tensor
 *     hf_config.c  config.json: the family, and its numbers as GGUF keys
 *     hf_vocab.c   the tokenizer, the special tokens and the chat template as GGUF keys
 *     hf_source.c  tensors under their GGUF names, rows in GGUF's order
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
#include "model/arch.h"

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
    ap_map weight_index;
} ap_hf_files;

/* Maps all and reads the headers of the weights.  Refusals begin with the name of the file at fault. */
ap_status ap_hf_files_open(ap_hf_files *out, const ap_import_file *files, size_t count, ap_error *err);
void ap_hf_files_close(ap_hf_files *files);
/* False if there is none of that name. */
bool ap_hf_files_find(const ap_hf_files *files, const char *name, ap_str *bytes);
ap_hf_weight *ap_hf_files_weight(const ap_hf_files *files, ap_str name); /* NULL if absent */
/* *root is NULL, with AP_OK, if there is no file of that name; else an object, for the caller to json_decref. */
ap_status ap_hf_files_json(const ap_hf_files *files, const char *name, json_t **root, ap_error *err);

/* ---- config.json ---- */

/* Writes general.architecture, general.name and the family's keys. */
ap_status ap_hf_config_write(const json_t *config, ap_gguf_writer *keys, const ap_arch **arch, ap_error *err);
/* What folders say in config.json and GGUF in a tensor (Llama 3.1, longrope): the divisors of the rotary frequencies for
 * AP_ROLE_ROPE_DIVISORS, …_LONG or …_SHORT, rope_width / 2 of them; *out is NULL if there is no such scaling. */
ap_status ap_hf_rope_divisors(const json_t *config, const ap_hparams *sizes, ap_role role, ap_arena *arena, const float **out,
                              ap_error *err);

/* ---- The vocabulary ---- */

/* Writes the tokenizer.* keys for a model whose embedding has `rows` rows. */
ap_status ap_hf_vocab_write(const ap_hf_files *files, const json_t *config, uint32_t rows, ap_gguf_writer *keys, ap_error *err);

#endif
