/* packed.h - the file the model store keeps: weights as the kernels want them.
 *
 * It is a GGUF file, so one reader serves both.  It keeps all keys of its source,
 * and each tensor lies under its own name as one row of bytes (type I8) in the order and with the
 * alignment (64) in which it is mapped.  What those bytes are stands in keys of ours:
 *
 *     aperto.pack.version    u32          1; another number is refused
 *     aperto.pack.law        u32          the law the layout belongs to
 *     aperto.source.sha256   string       64 hex digits of the source file, or empty
 *     aperto.tensor.types    i32 array    the weights' type, per tensor
 *     aperto.tensor.layouts  u8 array     ap_packed_layout, per tensor
 *     aperto.tensor.dims     u64 array    columns and rows, per tensor (rows 1: a vector)
 *
 * The file has the same bytes whatever machine packed it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_FORMAT_PACKED_H
#define AP_FORMAT_PACKED_H

#include "format/gguf.h"
#include "format/gguf_write.h"

enum { AP_PACK_VERSION = 1, AP_PACK_ALIGNMENT = 64 };

typedef enum ap_packed_layout {
    AP_LAYOUT_ROWS,   /* rows as the source has them */
    AP_LAYOUT_PANELS, /* panels of 16 rows (quant/block.h) */
    AP_LAYOUT_COUNT
} ap_packed_layout;

typedef struct ap_packed_tensor {
    ap_str name;
    ap_type type;
    ap_packed_layout layout;
    uint64_t columns, rows;
    uint64_t bytes;
    const unsigned char *data; /* in the file, aligned to 64; NULL while writing */
} ap_packed_tensor;

typedef struct ap_packed ap_packed;

/* Checks the keys above against the tensors; whether the number of bytes fits type, layout and
 * dimensions is for those to say who know layouts.  The file's bytes must stay. */
ap_status ap_packed_open(ap_packed **out, const unsigned char *bytes, uint64_t length, ap_error *err);
void ap_packed_close(ap_packed **packed);
const ap_gguf *ap_packed_gguf(const ap_packed *packed);
ap_str ap_packed_source_sha256(const ap_packed *packed);
uint32_t ap_packed_count(const ap_packed *packed);
const ap_packed_tensor *ap_packed_at(const ap_packed *packed, uint32_t index);
/* NULL if absent. */
const ap_packed_tensor *ap_packed_find(const ap_packed *packed, ap_str name);

/* Declares `count` tensors in a new writer that has the keys of `source`; their data then goes
 * through ap_gguf_writer_data in this order. */
ap_status ap_packed_plan(ap_gguf_writer **out, const ap_gguf *source, ap_str source_sha256,
                         const ap_packed_tensor *tensors, uint32_t count, ap_error *err);

#endif
