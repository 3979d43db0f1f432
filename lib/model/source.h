/* source.h - what a model is imported from, in GGUF's terms.
 *
 * A GGUF file is in these terms already (source_gguf.c), and so are the parts of a split one (source_split.c).  A Hugging Face folder is put into them
 * (hf_source.c): config.json and the tokenizer become keys, tensors get their GGUF names, and
 * rows that GGUF has in another order are handed out in that order.  So import.c is
 * written once, and a model packs to the same weights wherever it came from.  What writes GGUF files takes a folder with
 * its tensors fused as in such a file (source_fused.c).
 *
 * Belongs to one thread: a source may keep what it needs to make rows.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_MODEL_SOURCE_H
#define AP_MODEL_SOURCE_H

#include "aperto.h"
#include "base/map.h"
#include "format/gguf.h"
#include "model/rules.h"

typedef struct ap_source ap_source;

struct ap_source {
    ap_gguf *keys; /* sizes, vocabulary, template; owned */
    /* Name, type, dimensions (fastest first) and bytes of each tensor as ap_source_rows gives it. */
    const ap_gguf_tensor *tensors;
    uint32_t tensor_count;
    const ap_type *kept; /* per tensor, the type in which a model keeps it; NULL: its own */
    const char *note;    /* what a user should know, sentences; NULL: nothing */
    uint64_t file_bytes;

    const unsigned char *(*rows)(const ap_source *source, uint32_t tensor, uint64_t first, uint64_t count, unsigned char *room);
    void (*close)(ap_source *source); /* frees what is below */
    void *own;
    ap_map index; /* of tensors by name; empty: that of `keys` serves */
};

ap_status ap_source_open_gguf(ap_source *out, int fd, ap_error *err);
/* A GGUF file, if there is one file without a name; the parts of a split one, if the first is called *.gguf; else the files of
 * a folder. */
ap_status ap_source_open_files(ap_source *out, const ap_import_file *files, size_t file_count, ap_error *err);
ap_status ap_source_open_folder(ap_source *out, const ap_import_file *files, size_t file_count, ap_error *err);
ap_status ap_source_open_split(ap_source *out, const ap_import_file *files, size_t file_count, ap_error *err);
bool ap_source_is_folder(const ap_import_file *files, size_t file_count);
/* A folder as the GGUF file that it becomes: with all keys and tensors of that, in their order, types and shapes. */
ap_status ap_source_open_fused(ap_source *out, const ap_import_file *files, size_t file_count, ap_error *err);
/* Keys of a part of a split GGUF file: its number from 0, how many parts and tensors there are in all. */
#define AP_SPLIT_NO "split.no"
#define AP_SPLIT_COUNT "split.count"
#define AP_SPLIT_TENSORS "split.tensors.count"
/* A zeroed source is fine. */
void ap_source_close(ap_source *source);

/* NULL if absent. */
const ap_gguf_tensor *ap_source_find(const ap_source *source, ap_str name);

/* Bytes of rows [first, first + count); of a vector there is one row.  They lie in the file, or were
 * put into `room`, which has space for them. */
const unsigned char *ap_source_rows(const ap_source *source, const ap_gguf_tensor *tensor, uint64_t first, uint64_t count,
                                    unsigned char *room);
uint64_t ap_source_row_bytes(const ap_gguf_tensor *tensor);

/* The family and the sizes, the count of tokens included. */
ap_status ap_source_sizes(const ap_source *source, const ap_arch **arch, ap_hparams *sizes, ap_error *err);

/* Where the rows of a rule begin: behind others where tensors are fused. */
typedef struct ap_source_part {
    const ap_gguf_tensor *tensor;
    uint64_t row;
    uint64_t skip; /* bytes of that row: a vector may be a part of one */
} ap_source_part;
/* Under its own name, or in a fused tensor; part->tensor is NULL if it is neither there nor needed. */
ap_status ap_source_find_part(const ap_source *source, const ap_wanted *wanted, ap_source_part *part, ap_error *err);

/* A bias or a norm that no rule reads would be left out of every answer without a word: AP_E_UNSUPPORTED names one.
 * is_read[i] is of tensor i. */
ap_status ap_source_refuse_unread(const ap_source *source, const bool *is_read, ap_error *err);

#endif
