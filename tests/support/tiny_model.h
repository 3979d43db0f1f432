/* tiny_model.h - small seeded models as GGUF files, so that tests need no weights.
 *
 * The writer is the tests' own: the reader under test meets a file it did not
 * write.  The vocabulary is byte-level BPE: the 256 bytes, a few merges and the
 * ChatML control tokens; the template is ChatML.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TESTS_TINY_MODEL_H
#define AP_TESTS_TINY_MODEL_H

#include "base/str.h"

/* Zero fields take the default in brackets. */
typedef struct ap_tiny_model {
    uint64_t seed;
    uint32_t type;       /* of all matrices, a GGUF type id (0: F32) */
    uint32_t layers;     /* [2] */
    uint32_t width;      /* [256], a multiple of the type's block */
    uint32_t heads;      /* [4] */
    uint32_t kv_heads;   /* [2] */
    uint32_t ffn;        /* [512] */
    uint32_t context;    /* [4096] */
    /* An architecture of GGUF, or mistral or mixtral, with the features its files have; NULL: llama.  Fields below these
     * belong to llama alone. */
    const char *family;
    uint32_t head_width; /* [width / heads]; of a family */
    uint32_t window;     /* [300]; of a family with one */
    bool is_variant;     /* of a family: what some of its models have (tiny_families.h) */
    bool has_output;     /* an output matrix of its own; else tied */
    bool has_bias;       /* q, k and v have biases */
    bool has_rope_freqs; /* rotary divisors */
    float rope_scale;    /* linear scaling under its old key; 0: none */
    uint32_t spare_rows; /* rows of embedding and output beyond the vocabulary */
    const char *extra_vector; /* the name of one more tensor, or NULL */
    uint32_t nan_token;  /* the embedding of this token is NaN; 0: none */
} ap_tiny_model;

enum { AP_TINY_VOCAB = 272, AP_TINY_END = 256, AP_TINY_IM_START = 257, AP_TINY_IM_END = 258 };

/* Adds the file's bytes to `out`. */
void ap_tiny_model_write(const ap_tiny_model *model, ap_buf *out);
/* Writes it to a new temporary file, opened for reading; unlinked already. */
int ap_tiny_model_file(const ap_tiny_model *model);
/* An adapter for it (llama) in GGUF, for all matrices of all layers: adds the file's bytes to `out`. */
void ap_tiny_adapter_write(const ap_tiny_model *model, uint32_t rank, ap_buf *out);
/* The same model as the files of a folder, as transformers would save it: F32, F16 or BF16, no tokenizer; in so many
 * files of weights (1: model.safetensors, more: with an index).  Returns how many files there are. */
typedef struct ap_tiny_file {
    char name[64];
    ap_buf bytes;
} ap_tiny_file;
enum { AP_TINY_FILES_MAX = 8 };
size_t ap_tiny_model_folder(const ap_tiny_model *model, unsigned shards, ap_tiny_file files[AP_TINY_FILES_MAX]);
/* The same model, of the llama family, as a GGUF file in parts, the first of which has the keys.  Returns `parts`. */
size_t ap_tiny_model_parts(const ap_tiny_model *model, unsigned parts, ap_tiny_file files[AP_TINY_FILES_MAX]);
void ap_tiny_files_deinit(ap_tiny_file *files, size_t count);
/* An empty temporary file, open for reading and writing, unlinked already. */
int ap_test_temporary(void);

#endif
