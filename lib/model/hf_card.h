/* hf_card.h - the card of a model: what stands in front of a folder's README.md, and under general.* in GGUF.
 *
 *     ---
 *     license: apache-2.0
 *     base_model: org/model
 *     language: [en, it]
 *     ---
 *
 * Of YAML, keys at the beginning of a line are read, with a text, or a list of texts ("[a, b]", or "- a" on lines of their own);
 * everything else there is passed over, for it says nothing that GGUF has a key for.  Keys general.* without a name of their own
 * on a card stand in one more entry, "gguf", an object of JSON on one line.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_MODEL_HF_CARD_H
#define AP_MODEL_HF_CARD_H

#include <jansson.h>

#include "model/hf.h"

enum {
    AP_HF_CARD_BYTES_MAX = 4 << 20, /* results of benchmarks stand there too */
    AP_HF_CARD_LINES_MAX = 1 << 18,
    AP_HF_CARD_ORIGINS_MAX = 256
};

#define AP_HF_CARD_FILE "README.md"
#define AP_HF_CARD_GGUF "gguf"
/* Own keys of converted files: the card and the generation_config.json, as JSON, for the way back. */
#define AP_HF_KEY_CARD "aperto.hf.card"
#define AP_HF_KEY_GENERATION "aperto.hf.generation_config"

/* A name on cards, and a key that holds the same text or list. */
typedef struct ap_hf_card_field {
    const char *card, *key;
    bool is_list;
} ap_hf_card_field;
extern const ap_hf_card_field ap_hf_card_fields[];
extern const size_t ap_hf_card_field_count;

/* Names of other models or data, "org/name", and where they stand: general.base_model.count, general.base_model.0.name, …. */
extern const ap_hf_card_field ap_hf_card_origins[];
extern const size_t ap_hf_card_origin_count;
#define AP_HF_CARD_HOME "https://huggingface.co/"

/* Numbers of generation_config.json that GGUF has keys for. */
enum { AP_HF_SAMPLING_COUNT = 5 };
typedef struct ap_hf_sampling_field {
    const char *config, *key;
    bool is_whole;
} ap_hf_sampling_field;
extern const ap_hf_sampling_field ap_hf_sampling[AP_HF_SAMPLING_COUNT];

/* Keys that a card may not say: they describe the file and not the model. */
bool ap_hf_card_owns(ap_str key);

/* Whether an entry can have this name. */
bool ap_hf_card_is_name(ap_str name);
/* An object, for the caller to json_decref; empty if nothing is there.  AP_E_LIMIT names what is too long. */
ap_status ap_hf_card_read(json_t **out, ap_str readme, ap_error *err);
/* The keys that a card says, with their values; for the caller to json_decref, also on failure. */
ap_status ap_hf_card_general(const json_t *card, json_t **out, ap_error *err);
/* Writes the keys of a folder's card, the name that config.json may have instead, and the card itself. */
ap_status ap_hf_card_write(const ap_hf_files *files, const json_t *config, ap_gguf_writer *keys, ap_error *err);
/* Writes an object as text under a key; nothing if it is empty. */
ap_status ap_hf_card_keep(const char *key, const json_t *object, ap_gguf_writer *keys, ap_error *err);

#endif
