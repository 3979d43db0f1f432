/* safetensors.h - reads one safetensors file out of memory.
 *
 * The bytes come from strangers.  The header is JSON of one fixed form, read by a scanner of its own: a
 * header of 100 MB as general JSON would take two gigabytes of objects, this takes less than four times
 * its length.  Names are borrowed from the file.
 *
 * Layout:
 *     u64 header bytes (little-endian), header, data to the end of the file
 *     header: {"NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …, "__metadata__": {"k": "v", …}}
 *
 * Rows come first in "shape", the other way round than in GGUF.  The offsets count from the start of the
 * data.  Sorted by them the tensors cover the data without a gap or an overlap, to the last byte of the
 * file: nothing else fits in, such as a second archive.  Data need not be aligned.
 *
 * Constant after opening: any number of threads may read.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_FORMAT_SAFETENSORS_H
#define AP_FORMAT_SAFETENSORS_H

#include "base/str.h"

enum {
    AP_SAFETENSORS_HEADER_BYTES_MAX = 100 * 1000 * 1000,
    AP_SAFETENSORS_TENSORS_MAX = 1000 * 1000,
    AP_SAFETENSORS_NAME_BYTES_MAX = 1024,
    AP_SAFETENSORS_DIMS_MAX = 8
};

/* X(NAME, bits per element) */
#define AP_DTYPE_LIST(X)                                                                                            \
    X(F64, 64) X(F32, 32) X(F16, 16) X(BF16, 16) X(F8_E4M3, 8) X(F8_E5M2, 8) X(I64, 64) X(I32, 32) X(I16, 16)       \
    X(I8, 8) X(U64, 64) X(U32, 32) X(U16, 16) X(U8, 8) X(BOOL, 8) X(C64, 64) X(F8_E8M0, 8) X(F8_E4M3FNUZ, 8)        \
    X(F8_E5M2FNUZ, 8) X(F6_E2M3, 6) X(F6_E3M2, 6) X(F4, 4)

typedef enum ap_dtype {
#define X(name, bits) AP_DTYPE_##name,
    AP_DTYPE_LIST(X)
#undef X
    AP_DTYPE_COUNT
} ap_dtype;

const char *ap_dtype_name(ap_dtype dtype);

typedef struct ap_safetensor {
    ap_str name; /* unique in the file; no escapes */
    ap_dtype dtype;
    uint32_t dim_count; /* 0: one number */
    uint64_t dims[AP_SAFETENSORS_DIMS_MAX]; /* slowest first; a dimension may be 0 */
    uint64_t offset;                        /* in the file */
    uint64_t bytes;
} ap_safetensor;

typedef struct ap_safetensors ap_safetensors;

/* The bytes must stay until ap_safetensors_close.  AP_E_FORMAT, AP_E_LIMIT, AP_E_UNSUPPORTED (a dtype), AP_E_NOMEM. */
ap_status ap_safetensors_open(ap_safetensors **out, const unsigned char *bytes, uint64_t length, ap_error *err);
void ap_safetensors_close(ap_safetensors **file);

uint32_t ap_safetensors_count(const ap_safetensors *file);
/* In order of their data. */
const ap_safetensor *ap_safetensors_at(const ap_safetensors *file, uint32_t index);
/* NULL if absent. */
const ap_safetensor *ap_safetensors_find(const ap_safetensors *file, ap_str name);
const unsigned char *ap_safetensors_data(const ap_safetensors *file, const ap_safetensor *tensor);

#endif
