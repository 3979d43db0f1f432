/* gguf_write.h - writes a GGUF file, version 3.
 *
 *     ap_gguf_writer_create(&w, 64, err);
 *     ap_gguf_writer_copy_keys(w, source, "aperto.", err);  keys of another file, as they stand, but ours
 *     ap_gguf_writer_u32(w, "aperto.pack.law", 1, err);     a further key
 *     ap_gguf_writer_tensor(w, name, AP_TYPE_I8, 1, dims, err);  all tensors, in the order of their data
 *     ap_gguf_writer_begin(w, fd, err);                     header out, from the start of the file; a header that the
 *                                                           reader would refuse is refused and not a byte written
 *     ap_gguf_writer_data(w, bytes, count, err);            each tensor's bytes, in any number of calls
 *     ap_gguf_writer_end(w, err);                           refuses if bytes are missing
 *
 * The order of keys is that of their first mention.  Padding is written as needed; a file of
 * the same keys and data has the same bytes.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_FORMAT_GGUF_WRITE_H
#define AP_FORMAT_GGUF_WRITE_H

#include "format/gguf.h"

typedef struct ap_gguf_writer ap_gguf_writer;

ap_status ap_gguf_writer_create(ap_gguf_writer **out, uint32_t alignment, ap_error *err);
void ap_gguf_writer_destroy(ap_gguf_writer **writer);

/* Keys of `source` but those whose name starts with `except` (NULL: none), general.alignment, which is the
 * writer's own, and split.*, which say that the source is a part of something.  They are copied. */
ap_status ap_gguf_writer_copy_keys(ap_gguf_writer *writer, const ap_gguf *source, const char *except, ap_error *err);
ap_status ap_gguf_writer_u32(ap_gguf_writer *writer, const char *name, uint32_t value, ap_error *err);
ap_status ap_gguf_writer_f32(ap_gguf_writer *writer, const char *name, float value, ap_error *err);
ap_status ap_gguf_writer_bool(ap_gguf_writer *writer, const char *name, bool value, ap_error *err);
ap_status ap_gguf_writer_str(ap_gguf_writer *writer, const char *name, ap_str value, ap_error *err);
ap_status ap_gguf_writer_strs(ap_gguf_writer *writer, const char *name, uint64_t count, const ap_str *items, ap_error *err);
/* An array of `count` numbers of a fixed size. */
ap_status ap_gguf_writer_numbers(ap_gguf_writer *writer, const char *name, ap_gguf_kind kind, uint64_t count,
                                 const void *items, ap_error *err);

ap_status ap_gguf_writer_tensor(ap_gguf_writer *writer, ap_str name, ap_type type, uint32_t dim_count,
                                const uint64_t *dims, ap_error *err);
ap_status ap_gguf_writer_begin(ap_gguf_writer *writer, int fd, ap_error *err);
ap_status ap_gguf_writer_data(ap_gguf_writer *writer, const void *bytes, uint64_t count, ap_error *err);
/* *file_bytes (may be NULL) is the length of the whole file. */
ap_status ap_gguf_writer_end(ap_gguf_writer *writer, uint64_t *file_bytes, ap_error *err);
/* Instead of the three: the whole file into memory, for a writer without tensors. */
ap_status ap_gguf_writer_keys_only(ap_gguf_writer *writer, ap_buf *out, ap_error *err);

#endif
