/* SPDX-License-Identifier: Apache-2.0 */
#include "format/safetensors.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/map.h"
#include "base/utf8.h"

/* "a":{"dtype":"I8","shape":[],"data_offsets":[0,0]} and a comma: no entry is shorter. */
enum { LENGTH_BYTES = 8, ENTRY_BYTES_MIN = 51, METADATA_MAX = 65536, NAME_SHOWN_MAX = 80 };

struct ap_safetensors {
    const unsigned char *bytes;
    uint64_t length, data_offset;
    ap_safetensor *tensors;
    uint32_t count, room;
    ap_map index;
};

static const struct {
    const char *name;
    uint32_t bits;
} dtypes[AP_DTYPE_COUNT] = {
#define X(name, bits) {#name, bits},
    AP_DTYPE_LIST(X)
#undef X
};

const char *ap_dtype_name(ap_dtype dtype) { return dtypes[dtype].name; }

/* ---- A scanner that never passes the end of the header ---- */

typedef struct scanner {
    const char *text;
    size_t at, length;
    ap_error *err;
} scanner;

static char peek(scanner *s)
{
    while (s->at < s->length && memchr(" \t\r\n", s->text[s->at], 4))
        s->at++;
    return s->at < s->length ? s->text[s->at] : 0; /* a NUL in the header is as wrong as its end */
}

/* Offsets in messages count from the start of the file. */
static ap_status refuse(const scanner *s, const char *what)
{
    return ap_fail(s->err, AP_E_FORMAT, "the header has no %s at offset %zu", what, s->at + LENGTH_BYTES);
}

static ap_status take(scanner *s, char c, const char *what)
{
    if (peek(s) != c)
        return refuse(s, what);
    s->at++;
    return AP_OK;
}

static bool take_if(scanner *s, char c)
{
    bool is_it = peek(s) == c;
    s->at += is_it;
    return is_it;
}

/* The bytes between the quotes, escapes as they stand. */
static ap_status take_text(scanner *s, const char *what, ap_str *out)
{
    AP_TRY(take(s, '"', what));
    size_t start = s->at;
    while (s->at < s->length && s->text[s->at] != '"') {
        if ((unsigned char)s->text[s->at] < 0x20)
            return refuse(s, "end of a string");
        s->at += s->text[s->at] == '\\' ? 2 : 1;
    }
    if (s->at >= s->length)
        return refuse(s, "end of a string");
    *out = (ap_str){s->text + start, s->at++ - start};
    return AP_OK;
}

/* A name without escapes, so that two spellings of one name cannot both be there. */
static ap_status take_name(scanner *s, ap_str *out)
{
    AP_TRY(take_text(s, "name", out));
    size_t at = s->at - 1 - out->len + LENGTH_BYTES;
    if (out->len == 0 || out->len > AP_SAFETENSORS_NAME_BYTES_MAX)
        return ap_fail(s->err, AP_E_FORMAT, "the name at offset %zu has the length %zu; allowed are 1 to %d", at, out->len,
                       AP_SAFETENSORS_NAME_BYTES_MAX);
    if (memchr(out->ptr, '\\', out->len))
        return ap_fail(s->err, AP_E_UNSUPPORTED, "the name at offset %zu is written with escapes", at);
    return AP_OK;
}

static ap_status take_number(scanner *s, const char *what, uint64_t *out)
{
    (void)peek(s);
    size_t start = s->at;
    *out = 0;
    while (s->at < s->length && s->text[s->at] >= '0' && s->text[s->at] <= '9') {
        if (!ap_mul_u64(*out, 10, out) || !ap_add_u64(*out, (uint64_t)(s->text[s->at] - '0'), out) || *out > INT64_MAX)
            return ap_fail(s->err, AP_E_FORMAT, "the %s at offset %zu is above 2^63 - 1", what, start + LENGTH_BYTES);
        s->at++;
    }
    size_t digits = s->at - start;
    if (digits == 0 || (digits > 1 && s->text[start] == '0')) {
        s->at = start;
        return refuse(s, what);
    }
    return AP_OK;
}

/* ---- Entries ---- */

static ap_status take_shape(scanner *s, ap_safetensor *t)
{
    AP_TRY(take(s, '[', "shape"));
    t->dim_count = 0;
    if (take_if(s, ']'))
        return AP_OK;
    do {
        if (t->dim_count == AP_SAFETENSORS_DIMS_MAX)
            return ap_fail(s->err, AP_E_LIMIT, "the shape at offset %zu has more than %d dimensions", s->at + LENGTH_BYTES,
                           AP_SAFETENSORS_DIMS_MAX);
        AP_TRY(take_number(s, "dimension", &t->dims[t->dim_count]));
        t->dim_count++;
    } while (take_if(s, ','));
    return take(s, ']', "end of a shape");
}

static ap_status take_offsets(scanner *s, uint64_t *begin, uint64_t *end)
{
    AP_TRY(take(s, '[', "data_offsets"));
    AP_TRY(take_number(s, "data offset", begin));
    AP_TRY(take(s, ',', "second data offset"));
    AP_TRY(take_number(s, "data offset", end));
    return take(s, ']', "end of data_offsets");
}

static ap_status take_dtype(scanner *s, ap_dtype *out)
{
    ap_str name;
    AP_TRY(take_text(s, "dtype", &name));
    for (uint32_t i = 0; i < AP_DTYPE_COUNT; i++)
        if (ap_str_is(name, dtypes[i].name)) {
            *out = (ap_dtype)i;
            return AP_OK;
        }
    return ap_fail(s->err, AP_E_UNSUPPORTED, "the dtype at offset %zu is '%.*s', which this release does not know",
                   s->at - 1 - name.len + LENGTH_BYTES, (int)(name.len < 20 ? name.len : 20), name.ptr);
}

static int shown(ap_str name) { return (int)(name.len < NAME_SHOWN_MAX ? name.len : NAME_SHOWN_MAX); }

/* Shape, dtype and span must say the same. */
static ap_status check_size(const scanner *s, const ap_safetensor *t, uint64_t begin, uint64_t end)
{
    uint64_t elements = 1, bits;
    bool fits = true;
    for (uint32_t i = 0; i < t->dim_count; i++)
        fits = fits && ap_mul_u64(elements, t->dims[i], &elements);
    if (!fits || !ap_mul_u64(elements, dtypes[t->dtype].bits, &bits))
        return ap_fail(s->err, AP_E_FORMAT, "tensor '%.*s' has a shape whose product exceeds 2^64", shown(t->name), t->name.ptr);
    if (begin > end || bits % 8 || end - begin != bits / 8)
        return ap_fail(s->err, AP_E_FORMAT, "tensor '%.*s' spans the data from %" PRIu64 " to %" PRIu64 "; %" PRIu64
                       " elements of %s take %" PRIu64 " bytes", shown(t->name), t->name.ptr, begin, end, elements,
                       dtypes[t->dtype].name, bits / 8);
    return AP_OK;
}

static ap_status take_tensor(scanner *s, ap_safetensor *t)
{
    enum { HAS_DTYPE = 1, HAS_SHAPE = 2, HAS_OFFSETS = 4 };
    unsigned has = 0, now;
    uint64_t begin = 0, end = 0;
    AP_TRY(take(s, '{', "description of a tensor"));
    do {
        ap_str key;
        AP_TRY(take_text(s, "key", &key));
        now = ap_str_is(key, "dtype") ? HAS_DTYPE : ap_str_is(key, "shape") ? HAS_SHAPE : ap_str_is(key, "data_offsets") ? HAS_OFFSETS : 0;
        if (now == 0 || (has & now))
            return ap_fail(s->err, AP_E_FORMAT, "tensor '%.*s' has the key '%.*s' at offset %zu %s", shown(t->name), t->name.ptr,
                           (int)(key.len < 20 ? key.len : 20), key.ptr, s->at - 1 - key.len + LENGTH_BYTES,
                           now ? "twice" : "which tensors do not have");
        has |= now;
        AP_TRY(take(s, ':', "':'"));
        AP_TRY(now == HAS_DTYPE ? take_dtype(s, &t->dtype) : now == HAS_SHAPE ? take_shape(s, t) : take_offsets(s, &begin, &end));
    } while (take_if(s, ','));
    AP_TRY(take(s, '}', "end of a tensor"));
    if (has != (HAS_DTYPE | HAS_SHAPE | HAS_OFFSETS))
        return ap_fail(s->err, AP_E_FORMAT, "tensor '%.*s' lacks its %s", shown(t->name), t->name.ptr,
                       !(has & HAS_DTYPE) ? "dtype" : !(has & HAS_SHAPE) ? "shape" : "data_offsets");
    t->offset = begin; /* the start of the data is added when all is known */
    t->bytes = end - begin;
    return check_size(s, t, begin, end);
}

/* Nobody reads what it says, so only its form is checked. */
static ap_status skip_metadata(scanner *s)
{
    uint32_t count = 0;
    ap_str ignored;
    AP_TRY(take(s, '{', "metadata object"));
    if (take_if(s, '}'))
        return AP_OK;
    do {
        if (++count > METADATA_MAX)
            return ap_fail(s->err, AP_E_LIMIT, "the metadata has more than %d entries", METADATA_MAX);
        AP_TRY(take_text(s, "metadata key", &ignored));
        AP_TRY(take(s, ':', "':'"));
        AP_TRY(take_text(s, "metadata text", &ignored));
    } while (take_if(s, ','));
    return take(s, '}', "end of the metadata");
}

static ap_status read_header(ap_safetensors *f, scanner *s)
{
    bool has_metadata = false;
    AP_TRY(take(s, '{', "'{'"));
    if (take_if(s, '}'))
        return AP_OK;
    do {
        ap_str name;
        AP_TRY(take_name(s, &name));
        AP_TRY(take(s, ':', "':'"));
        if (ap_str_is(name, "__metadata__")) {
            if (has_metadata)
                return ap_fail(s->err, AP_E_FORMAT, "the metadata is there twice");
            has_metadata = true;
            AP_TRY(skip_metadata(s));
            continue;
        }
        if (f->count == AP_SAFETENSORS_TENSORS_MAX)
            return ap_fail(s->err, AP_E_LIMIT, "the file has more than %d tensors", AP_SAFETENSORS_TENSORS_MAX);
        ap_assert(f->count < f->room);
        f->tensors[f->count].name = name;
        AP_TRY(take_tensor(s, &f->tensors[f->count]));
        f->count++;
    } while (take_if(s, ','));
    return take(s, '}', "end");
}

/* ---- The file ---- */

static int by_offset(const void *a, const void *b)
{
    const ap_safetensor *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes; /* an empty one stands before what begins there */
}

static ap_status place_tensors(ap_safetensors *f, ap_error *err)
{
    uint64_t at = 0, data_bytes = f->length - f->data_offset;
    qsort(f->tensors, f->count, sizeof *f->tensors, by_offset);
    for (uint32_t i = 0; i < f->count; i++) {
        ap_safetensor *t = &f->tensors[i];
        if (t->offset != at)
            return ap_fail(err, AP_E_FORMAT, "tensor '%.*s' begins at %" PRIu64 " of the data, %s the end of the one before at %" PRIu64,
                           shown(t->name), t->name.ptr, t->offset, t->offset < at ? "before" : "after", at);
        if (t->bytes > data_bytes - at)
            return ap_fail(err, AP_E_FORMAT, "tensor '%.*s' needs %" PRIu64 " bytes at %" PRIu64 " of the data, which has %" PRIu64,
                           shown(t->name), t->name.ptr, t->bytes, at, data_bytes);
        at += t->bytes;
        t->offset += f->data_offset;
        ap_status status = ap_map_add(&f->index, t->name, i, NULL, err);
        if (status == AP_E_STATE)
            return ap_fail(err, AP_E_FORMAT, "tensor '%.*s' is there twice", shown(t->name), t->name.ptr);
        AP_TRY(status);
    }
    if (at != data_bytes)
        return ap_fail(err, AP_E_FORMAT, "the tensors end at %" PRIu64 " of the data, which has %" PRIu64 " bytes", at, data_bytes);
    return AP_OK;
}

static ap_status open_into(ap_safetensors *f, ap_error *err)
{
    uint64_t header_bytes;
    if (f->length < LENGTH_BYTES + 2)
        return ap_fail(err, AP_E_FORMAT, "the file has %" PRIu64 " bytes; a safetensors file has at least %d", f->length,
                       LENGTH_BYTES + 2);
    memcpy(&header_bytes, f->bytes, LENGTH_BYTES);
    if (header_bytes > AP_SAFETENSORS_HEADER_BYTES_MAX)
        return ap_fail(err, AP_E_LIMIT, "the header length at offset 0 is %" PRIu64 "; at most %d is allowed", header_bytes,
                       AP_SAFETENSORS_HEADER_BYTES_MAX);
    if (header_bytes > f->length - LENGTH_BYTES)
        return ap_fail(err, AP_E_FORMAT, "the header length at offset 0 is %" PRIu64 "; the file has %" PRIu64 " bytes left",
                       header_bytes, f->length - LENGTH_BYTES);
    if (header_bytes == 0 || f->bytes[LENGTH_BYTES] != '{')
        return ap_fail(err, AP_E_FORMAT, "the header at offset %d does not start with '{'", LENGTH_BYTES);
    scanner s = {.text = (const char *)f->bytes + LENGTH_BYTES, .length = (size_t)header_bytes, .err = err};
    if (!ap_utf8_valid((ap_str){s.text, s.length}))
        return ap_fail(err, AP_E_FORMAT, "the header is not valid UTF-8");
    f->data_offset = LENGTH_BYTES + header_bytes;
    f->room = (uint32_t)(header_bytes / ENTRY_BYTES_MIN + 1);
    if (f->room > AP_SAFETENSORS_TENSORS_MAX)
        f->room = AP_SAFETENSORS_TENSORS_MAX;
    f->tensors = ap_alloc_zero(f->room, sizeof *f->tensors);
    if (!f->tensors)
        return ap_fail_nomem(err, f->room * sizeof *f->tensors);
    AP_TRY(read_header(f, &s));
    (void)peek(&s);
    if (s.at != s.length)
        return refuse(&s, "end after its last '}'");
    return place_tensors(f, err);
}

ap_status ap_safetensors_open(ap_safetensors **out, const unsigned char *bytes, uint64_t length, ap_error *err)
{
    *out = NULL;
    ap_safetensors *f = ap_alloc_zero(1, sizeof *f);
    if (!f)
        return ap_fail_nomem(err, sizeof *f);
    f->bytes = bytes;
    f->length = length;
    ap_status status = open_into(f, err);
    if (status != AP_OK) {
        ap_safetensors_close(&f);
        return status;
    }
    *out = f;
    return AP_OK;
}

void ap_safetensors_close(ap_safetensors **file)
{
    if (*file) {
        ap_map_deinit(&(*file)->index);
        ap_free((*file)->tensors);
        ap_free(*file);
    }
    *file = NULL;
}

uint32_t ap_safetensors_count(const ap_safetensors *f) { return f->count; }
const ap_safetensor *ap_safetensors_at(const ap_safetensors *f, uint32_t index) { return &f->tensors[index]; }

const ap_safetensor *ap_safetensors_find(const ap_safetensors *f, ap_str name)
{
    uint32_t index;
    return ap_map_get(&f->index, name, &index) ? &f->tensors[index] : NULL;
}

const unsigned char *ap_safetensors_data(const ap_safetensors *f, const ap_safetensor *t) { return f->bytes + t->offset; }
