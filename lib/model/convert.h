/* convert.h - what the files that convert models share.
 *
 *     convert.c         from a folder to a GGUF file
 *     convert_folder.c  from a GGUF file to a folder: its tensors
 *     convert_config.c  config.json out of the sizes, by the same table that reads it
 *     convert_encoder.c what an encoder's folder says beyond that: labels, pooling, rows of positions
 *     convert_card.c    README.md with the model's name, licence, tags, …
 *     convert_vocab.c   the files of the tokenizer out of GGUF keys
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_MODEL_CONVERT_H
#define AP_MODEL_CONVERT_H

#include <jansson.h>

#include "model/model.h"
#include "model/source.h"

ap_status ap_convert_check_options(const ap_convert_options *options, ap_error *err);

/* What the tensors say that config.json has to repeat. */
typedef struct ap_convert_tensors {
    const char *dtype; /* "bfloat16": of most weights */
    bool has_output, has_q_bias, has_up_bias, has_norm_bias, has_head_bias;
    uint32_t positions_skipped; /* rows of learned positions in front of the first */
    const float *divisors, *divisors_long, *divisors_short; /* rope_width / 2 each; NULL: none */
} ap_convert_tensors;

/* The family that a file's folder belongs to, where several share a name; and how many rows of positions its folders have in
 * front of that of the first position. */
ap_status ap_convert_family(const ap_gguf *keys, const ap_arch **arch, uint32_t *positions_skipped, ap_error *err);
/* Adds to config.json what an encoder says beyond its sizes. */
ap_status ap_convert_encoder_config(json_t *config, const ap_arch *arch, const ap_hparams *sizes, const ap_gguf *keys, uint32_t positions_skipped,
                                    ap_error *err);
/* What 1_Pooling/config.json says; *out is NULL if nothing is said of a pooling. */
ap_status ap_convert_pooling(const ap_arch *arch, const ap_hparams *sizes, const ap_gguf *keys, json_t **out, ap_error *err);
/* Hands that file and modules.json to options->document, if there is a pooling. */
ap_status ap_convert_pooling_files(const ap_arch *arch, const ap_hparams *sizes, const ap_gguf *keys, const ap_convert_options *options,
                                   ap_error *err);

/* A new object with what tells this member of the family apart; *form is which of the alternatives of hf_name its tensors have.
 * AP_E_UNSUPPORTED for a family without folders.  The object is the caller's also on failure. */
ap_status ap_convert_describe(const ap_arch *arch, const ap_hparams *sizes, bool has_attn_norm, json_t **out, unsigned *form, ap_error *err);
/* Fills the object; AP_E_UNSUPPORTED names what it cannot say. */
ap_status ap_convert_config(json_t *config, const ap_arch *arch, const ap_hparams *sizes, const ap_gguf *keys, const ap_convert_tensors *tensors,
                            ap_error *err);
/* Hands the files of the tokenizer, generation_config.json and the chat template to options->document. */
ap_status ap_convert_vocab(const ap_gguf *keys, const ap_arch *arch, const ap_hparams *sizes, const ap_convert_options *options, ap_error *err);
/* Adds the text of a file. */
ap_status ap_convert_print(const json_t *json, ap_buf *out, ap_error *err);
/* Hands README.md to options->document, with what general.* says of the model, if that is anything. */
ap_status ap_convert_card(const ap_gguf *keys, const ap_convert_options *options, ap_error *err);
ap_status ap_convert_document_json(const ap_convert_options *options, const char *name, const json_t *json, ap_error *err);

#endif
