/* gguf.h - reads a GGUF file (versions 2 and 3, little-endian) out of memory.
 *
 * The bytes come from strangers.  Every count, length, offset, type, product and
 * sum is checked against the file before anything is allocated or read; a refusal
 * is one line with field, offset, value and limit.  Strings and arrays are borrowed
 * spans of the file: parsing a vocabulary of 128,000 tokens walks it once and copies
 * nothing.
 *
 * Layout (little-endian, nothing aligned before the data):
 *     "GGUF"  u32 version  u64 tensor count  u64 key count
 *     keys:    string key, u32 value type, value    (string: u64 length, bytes; array: u32 type, u64 count, items)
 *     tensors: string name, u32 dimensions, u64 dimension each (fastest first), u32 type, u64 offset in the data
 *     zeros up to a multiple of general.alignment (32 if absent), then the data
 *
 * Constant after opening: any number of threads may read.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_FORMAT_GGUF_H
#define AP_FORMAT_GGUF_H

#include "base/arena.h"
#include "format/type.h"

enum {
    AP_GGUF_KEYS_MAX = 65536,
    AP_GGUF_TENSORS_MAX = 65536,
    AP_GGUF_KEY_BYTES_MAX = 65535,
    AP_GGUF_NAME_BYTES_MAX = 63,
    AP_GGUF_ALIGNMENT_DEFAULT = 32,
    AP_GGUF_ALIGNMENT_MIN = 8,
    AP_GGUF_ALIGNMENT_MAX = 1 << 16,
    AP_GGUF_DIMS_MAX = 4
};

typedef enum ap_gguf_kind {
    AP_GGUF_U8, AP_GGUF_I8, AP_GGUF_U16, AP_GGUF_I16, AP_GGUF_U32, AP_GGUF_I32, AP_GGUF_F32, AP_GGUF_BOOL,
    AP_GGUF_STRING, AP_GGUF_ARRAY, AP_GGUF_U64, AP_GGUF_I64, AP_GGUF_F64, AP_GGUF_KIND_COUNT
} ap_gguf_kind;

typedef struct ap_gguf_key {
    ap_str name;
    ap_gguf_kind kind;
    ap_gguf_kind item_kind;     /* of an array; else equal to kind */
    uint64_t count;             /* items; 1 if not an array */
    const unsigned char *bytes; /* the items as they stand in the file, unaligned */
    uint64_t byte_count;
} ap_gguf_key;

typedef struct ap_gguf_tensor {
    ap_str name;
    ap_type type;
    uint32_t dim_count;
    uint64_t dims[AP_GGUF_DIMS_MAX]; /* those beyond dim_count are 1 */
    uint64_t offset;                 /* in the file */
    uint64_t bytes;
} ap_gguf_tensor;

typedef struct ap_gguf ap_gguf;

/* Powers of two within the limits above. */
bool ap_gguf_is_alignment(uint32_t alignment);

/* The bytes must stay until ap_gguf_close.  AP_E_FORMAT, AP_E_LIMIT, AP_E_UNSUPPORTED, AP_E_NOMEM. */
ap_status ap_gguf_open(ap_gguf **out, const unsigned char *bytes, uint64_t length, ap_error *err);
void ap_gguf_close(ap_gguf **gguf);
/* The same checks of a header alone, for a file of `file_bytes` whose data is yet to come. */
ap_status ap_gguf_check_header(const unsigned char *header, uint64_t header_bytes, uint64_t file_bytes, ap_error *err);

uint32_t ap_gguf_key_count(const ap_gguf *gguf);
const ap_gguf_key *ap_gguf_key_at(const ap_gguf *gguf, uint32_t index);
uint32_t ap_gguf_tensor_count(const ap_gguf *gguf);
const ap_gguf_tensor *ap_gguf_tensor_at(const ap_gguf *gguf, uint32_t index);
/* NULL if absent. */
const ap_gguf_key *ap_gguf_find(const ap_gguf *gguf, ap_str name);
const ap_gguf_tensor *ap_gguf_find_tensor(const ap_gguf *gguf, ap_str name);
const unsigned char *ap_gguf_data(const ap_gguf *gguf, const ap_gguf_tensor *tensor);

/* Typed values.  AP_E_NOTFOUND if the key is absent; AP_E_FORMAT names the key and
 * both types, or the value that does not fit.  Any integer type will do for u32. */
ap_status ap_gguf_get_u32(const ap_gguf *gguf, const char *name, uint32_t *out, ap_error *err);
ap_status ap_gguf_get_f32(const ap_gguf *gguf, const char *name, float *out, ap_error *err);
ap_status ap_gguf_get_bool(const ap_gguf *gguf, const char *name, bool *out, ap_error *err);
ap_status ap_gguf_get_str(const ap_gguf *gguf, const char *name, ap_str *out, ap_error *err);

/* For showing: the string cut to fit between two characters and NUL-terminated; empty if there is none of that
 * name; nothing is written if room is 0.  It is valid UTF-8, and what would act on a terminal (controls, marks of
 * direction) became '?'. */
void ap_gguf_copy_str(const ap_gguf *gguf, const char *name, char *out, size_t room);

/* Arrays, made readable in memory of `arena`.  Strings are borrowed from the file.  The
 * two number arrays are optional: absent gives NULL; present, they must have
 * `count` items. */
ap_status ap_gguf_get_strs(const ap_gguf *gguf, const char *name, ap_arena *arena, const ap_str **out, uint64_t *count,
                           ap_error *err);
ap_status ap_gguf_get_f32s(const ap_gguf *gguf, const char *name, uint64_t count, ap_arena *arena, const float **out,
                           ap_error *err);
ap_status ap_gguf_get_i32s(const ap_gguf *gguf, const char *name, uint64_t count, ap_arena *arena, const int32_t **out,
                           ap_error *err);

#endif
