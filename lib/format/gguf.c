/* SPDX-License-Identifier: Apache-2.0 */
#include "format/gguf.h"

#include "base/alloc.h"
#include "base/map.h"
#include "base/utf8.h"

enum {
    HEADER_BYTES = 24,
    KEY_BYTES_MIN = 8 + 1 + 4 + 1,          /* length, one byte of key, type, the smallest value */
    TENSOR_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8 /* length, one byte of name, count, one dimension, type, offset */
};

struct ap_gguf {
    const unsigned char *bytes;
    uint64_t length;
    uint32_t key_count, tensor_count;
    ap_gguf_key *keys;
    ap_gguf_tensor *tensors;
    ap_map key_index, tensor_index;
    uint64_t data_offset;
};

static const struct {
    const char *name;
    uint32_t bytes; /* 0: not of one size */
} kinds[AP_GGUF_KIND_COUNT] = {
    [AP_GGUF_U8] = {"u8", 1},   [AP_GGUF_I8] = {"i8", 1},   [AP_GGUF_U16] = {"u16", 2},  [AP_GGUF_I16] = {"i16", 2},
    [AP_GGUF_U32] = {"u32", 4}, [AP_GGUF_I32] = {"i32", 4}, [AP_GGUF_F32] = {"f32", 4},  [AP_GGUF_BOOL] = {"bool", 1},
    [AP_GGUF_U64] = {"u64", 8}, [AP_GGUF_I64] = {"i64", 8}, [AP_GGUF_F64] = {"f64", 8},  [AP_GGUF_STRING] = {"string", 0},
    [AP_GGUF_ARRAY] = {"array", 0},
};

/* ---- A cursor that never passes the end ---- */

typedef struct cursor {
    const unsigned char *bytes;
    uint64_t at, length;
    ap_error *err;
} cursor;

static uint64_t left(const cursor *c) { return c->length - c->at; }

static ap_status take(cursor *c, uint64_t count, const char *what, const unsigned char **out)
{
    if (count > left(c))
        return ap_fail(c->err, AP_E_FORMAT, "%s at offset %" PRIu64 " needs %" PRIu64 " bytes; the file has %" PRIu64 " left",
                       what, c->at, count, left(c));
    *out = c->bytes + c->at;
    c->at += count;
    return AP_OK;
}

static ap_status take_u32(cursor *c, const char *what, uint32_t *out)
{
    const unsigned char *p;
    AP_TRY(take(c, 4, what, &p));
    memcpy(out, p, 4);
    return AP_OK;
}

static ap_status take_u64(cursor *c, const char *what, uint64_t *out)
{
    const unsigned char *p;
    AP_TRY(take(c, 8, what, &p));
    memcpy(out, p, 8);
    return AP_OK;
}

static ap_status take_str(cursor *c, const char *what, ap_str *out)
{
    uint64_t start = c->at, length;
    const unsigned char *p;
    AP_TRY(take_u64(c, what, &length));
    if (length > left(c))
        return ap_fail(c->err, AP_E_FORMAT, "%s at offset %" PRIu64 " has the length %" PRIu64 "; the file has %" PRIu64 " left",
                       what, start, length, left(c));
    AP_TRY(take(c, length, what, &p));
    *out = (ap_str){(const char *)p, (size_t)length};
    return AP_OK;
}

/* ---- Keys ---- */

static ap_status check_kind(cursor *c, const char *what, uint32_t kind, uint32_t limit, uint64_t at)
{
    if (kind >= limit)
        return ap_fail(c->err, AP_E_FORMAT, "%s at offset %" PRIu64 " is %u; the highest is %u", what, at, kind, limit - 1);
    return AP_OK;
}

static ap_status check_bools(cursor *c, const ap_gguf_key *key)
{
    for (uint64_t i = 0; i < key->byte_count; i++)
        if (key->bytes[i] > 1)
            return ap_fail(c->err, AP_E_FORMAT, "bool at offset %" PRIu64 " is %u; only 0 and 1 are allowed",
                           (uint64_t)(key->bytes + i - c->bytes), key->bytes[i]);
    return AP_OK;
}

static ap_status read_items(cursor *c, ap_gguf_key *key)
{
    uint64_t start = c->at;
    uint32_t size = kinds[key->item_kind].bytes;
    key->bytes = c->bytes + start;
    if (size) {
        if (key->count > left(c) / size)
            return ap_fail(c->err, AP_E_FORMAT, "array at offset %" PRIu64 " has %" PRIu64 " items of %u bytes; the file has %" PRIu64 " bytes left",
                           start, key->count, size, left(c));
        c->at += key->count * size;
    } else {
        if (key->count > left(c) / 8)
            return ap_fail(c->err, AP_E_FORMAT, "array at offset %" PRIu64 " has %" PRIu64 " strings; the file has %" PRIu64 " bytes left",
                           start, key->count, left(c));
        ap_str ignored;
        for (uint64_t i = 0; i < key->count; i++)
            AP_TRY(take_str(c, "string", &ignored));
    }
    key->byte_count = c->at - start;
    return key->item_kind == AP_GGUF_BOOL ? check_bools(c, key) : AP_OK;
}

static ap_status read_key(cursor *c, ap_gguf_key *key)
{
    uint64_t start = c->at;
    uint32_t kind;
    AP_TRY(take_str(c, "key", &key->name));
    if (key->name.len == 0 || key->name.len > AP_GGUF_KEY_BYTES_MAX)
        return ap_fail(c->err, AP_E_FORMAT, "key at offset %" PRIu64 " has the length %zu; allowed are 1 to %d", start,
                       key->name.len, AP_GGUF_KEY_BYTES_MAX);
    AP_TRY(take_u32(c, "value type", &kind));
    AP_TRY(check_kind(c, "value type", kind, AP_GGUF_KIND_COUNT, c->at - 4));
    key->kind = key->item_kind = (ap_gguf_kind)kind;
    key->count = 1;
    if (key->kind == AP_GGUF_ARRAY) {
        AP_TRY(take_u32(c, "item type", &kind));
        AP_TRY(check_kind(c, "item type", kind, AP_GGUF_KIND_COUNT, c->at - 4));
        if (kind == AP_GGUF_ARRAY)
            return ap_fail(c->err, AP_E_UNSUPPORTED, "item type at offset %" PRIu64 " is an array inside an array", c->at - 4);
        key->item_kind = (ap_gguf_kind)kind;
        AP_TRY(take_u64(c, "array count", &key->count));
    }
    return read_items(c, key);
}

static ap_status read_keys(ap_gguf *g, cursor *c)
{
    g->keys = ap_alloc_zero(g->key_count, sizeof *g->keys);
    if (!g->keys)
        return ap_fail_nomem(c->err, g->key_count * sizeof *g->keys);
    for (uint32_t i = 0; i < g->key_count; i++) {
        uint64_t start = c->at;
        AP_TRY(read_key(c, &g->keys[i]));
        ap_status status = ap_map_add(&g->key_index, g->keys[i].name, i, NULL, c->err);
        if (status == AP_E_STATE)
            return ap_fail(c->err, AP_E_FORMAT, "key '%.*s' at offset %" PRIu64 " is there twice",
                           (int)(g->keys[i].name.len < 80 ? g->keys[i].name.len : 80), g->keys[i].name.ptr, start);
        AP_TRY(status);
    }
    return AP_OK;
}

/* ---- Tensors ---- */

static ap_status read_dims(cursor *c, ap_gguf_tensor *t, uint64_t *elements)
{
    uint64_t at = c->at;
    AP_TRY(take_u32(c, "dimension count", &t->dim_count));
    if (t->dim_count < 1 || t->dim_count > AP_GGUF_DIMS_MAX)
        return ap_fail(c->err, AP_E_FORMAT, "dimension count at offset %" PRIu64 " is %u; allowed are 1 to %d", at,
                       t->dim_count, AP_GGUF_DIMS_MAX);
    *elements = 1;
    for (uint32_t i = 0; i < AP_GGUF_DIMS_MAX; i++) {
        t->dims[i] = 1;
        if (i >= t->dim_count)
            continue;
        at = c->at;
        AP_TRY(take_u64(c, "dimension", &t->dims[i]));
        if (t->dims[i] == 0 || t->dims[i] > INT64_MAX)
            return ap_fail(c->err, AP_E_FORMAT, "dimension at offset %" PRIu64 " is %" PRIu64 "; allowed are 1 to 2^63 - 1", at,
                           t->dims[i]);
        if (!ap_mul_u64(*elements, t->dims[i], elements) || *elements > INT64_MAX)
            return ap_fail(c->err, AP_E_FORMAT, "dimension at offset %" PRIu64 " is %" PRIu64 "; the product of all exceeds 2^63 - 1",
                           at, t->dims[i]);
    }
    return AP_OK;
}

static ap_status read_tensor(cursor *c, ap_gguf_tensor *t)
{
    uint64_t start = c->at, elements;
    AP_TRY(take_str(c, "tensor name", &t->name));
    if (t->name.len == 0 || t->name.len > AP_GGUF_NAME_BYTES_MAX)
        return ap_fail(c->err, AP_E_FORMAT, "tensor name at offset %" PRIu64 " has the length %zu; allowed are 1 to %d", start,
                       t->name.len, AP_GGUF_NAME_BYTES_MAX);
    AP_TRY(read_dims(c, t, &elements));
    uint32_t type;
    AP_TRY(take_u32(c, "tensor type", &type));
    const ap_type_info *info = ap_type_info_of(type);
    if (!info && ap_type_removed(type))
        return ap_fail(c->err, AP_E_UNSUPPORTED, "tensor '%.*s' has the type %u (%s) at offset %" PRIu64 ", which was removed from GGUF",
                       (int)t->name.len, t->name.ptr, type, ap_type_removed(type), c->at - 4);
    if (!info)
        return ap_fail(c->err, AP_E_UNSUPPORTED, "tensor '%.*s' has the type %u at offset %" PRIu64 ", which GGUF does not have",
                       (int)t->name.len, t->name.ptr, type, c->at - 4);
    t->type = (ap_type)type;
    if (t->dims[0] % info->block_elems)
        return ap_fail(c->err, AP_E_FORMAT, "tensor '%.*s' has rows of %" PRIu64 " elements; %s has blocks of %u",
                       (int)t->name.len, t->name.ptr, t->dims[0], info->name, info->block_elems);
    if (!ap_mul_u64(elements / info->block_elems, info->block_bytes, &t->bytes))
        return ap_fail(c->err, AP_E_FORMAT, "tensor '%.*s' has %" PRIu64 " elements of type %s: its bytes exceed 2^64",
                       (int)t->name.len, t->name.ptr, elements, info->name);
    return take_u64(c, "tensor offset", &t->offset);
}

static ap_status read_tensors(ap_gguf *g, cursor *c)
{
    g->tensors = ap_alloc_zero(g->tensor_count, sizeof *g->tensors);
    if (!g->tensors)
        return ap_fail_nomem(c->err, g->tensor_count * sizeof *g->tensors);
    for (uint32_t i = 0; i < g->tensor_count; i++) {
        uint64_t start = c->at;
        AP_TRY(read_tensor(c, &g->tensors[i]));
        ap_status status = ap_map_add(&g->tensor_index, g->tensors[i].name, i, NULL, c->err);
        if (status == AP_E_STATE)
            return ap_fail(c->err, AP_E_FORMAT, "tensor '%.*s' at offset %" PRIu64 " is there twice",
                           (int)g->tensors[i].name.len, g->tensors[i].name.ptr, start);
        AP_TRY(status);
    }
    return AP_OK;
}

bool ap_gguf_is_alignment(uint32_t alignment)
{
    return alignment >= AP_GGUF_ALIGNMENT_MIN && alignment <= AP_GGUF_ALIGNMENT_MAX && (alignment & (alignment - 1)) == 0;
}

static ap_status read_alignment(const ap_gguf *g, uint32_t *alignment, ap_error *err)
{
    const ap_gguf_key *key = ap_gguf_find(g, AP_STR("general.alignment"));
    *alignment = AP_GGUF_ALIGNMENT_DEFAULT;
    if (!key)
        return AP_OK;
    if (key->kind != AP_GGUF_U32)
        return ap_fail(err, AP_E_FORMAT, "key 'general.alignment' is %s; u32 is needed", kinds[key->kind].name);
    memcpy(alignment, key->bytes, 4);
    if (!ap_gguf_is_alignment(*alignment))
        return ap_fail(err, AP_E_FORMAT, "key 'general.alignment' is %u; a power of two from %d to %d is needed", *alignment,
                       AP_GGUF_ALIGNMENT_MIN, AP_GGUF_ALIGNMENT_MAX);
    return AP_OK;
}

static bool pad_up(uint64_t value, uint32_t alignment, uint64_t *out)
{
    if (!ap_add_u64(value, alignment - 1, out))
        return false;
    *out &= ~(uint64_t)(alignment - 1);
    return true;
}

/* Tensors stand in order without gap or overlap, so nothing can hide between them. */
static ap_status place_tensors(ap_gguf *g, uint64_t header_end, ap_error *err)
{
    uint32_t alignment;
    AP_TRY(read_alignment(g, &alignment, err));
    if (!pad_up(header_end, alignment, &g->data_offset))
        return ap_fail(err, AP_E_FORMAT, "the header ends at %" PRIu64 ", too far", header_end);
    if (g->tensor_count == 0)
        return AP_OK;
    if (g->data_offset > g->length)
        return ap_fail(err, AP_E_FORMAT, "the data starts at %" PRIu64 "; the file has %" PRIu64 " bytes", g->data_offset,
                       g->length);
    uint64_t data_bytes = g->length - g->data_offset, expected = 0;
    for (uint32_t i = 0; i < g->tensor_count; i++) {
        ap_gguf_tensor *t = &g->tensors[i];
        if (t->offset != expected)
            return ap_fail(err, AP_E_FORMAT, "tensor '%.*s' has the offset %" PRIu64 "; %" PRIu64 " follows from those before it",
                           (int)t->name.len, t->name.ptr, t->offset, expected);
        if (t->offset > data_bytes || t->bytes > data_bytes - t->offset)
            return ap_fail(err, AP_E_FORMAT, "tensor '%.*s' needs %" PRIu64 " bytes at offset %" PRIu64 "; the data has %" PRIu64,
                           (int)t->name.len, t->name.ptr, t->bytes, t->offset, data_bytes);
        if (!pad_up(t->offset + t->bytes, alignment, &expected))
            return ap_fail(err, AP_E_FORMAT, "tensor '%.*s' ends too far", (int)t->name.len, t->name.ptr);
        t->offset += g->data_offset;
    }
    return AP_OK;
}

/* ---- Opening ---- */

static ap_status read_counts(ap_gguf *g, cursor *c)
{
    const unsigned char *magic;
    uint32_t version;
    uint64_t tensors, keys;
    AP_TRY(take(c, 4, "magic", &magic));
    if (memcmp(magic, "GGUF", 4) != 0)
        return ap_fail(c->err, AP_E_FORMAT, "this is not a GGUF file: it starts with the bytes %02x %02x %02x %02x", magic[0],
                       magic[1], magic[2], magic[3]);
    AP_TRY(take_u32(c, "version", &version));
    if (version != 0 && (version & 0xffff) == 0)
        return ap_fail(c->err, AP_E_UNSUPPORTED, "the file is big-endian (version field 0x%08x); only little-endian is read",
                       version);
    if (version != 2 && version != 3)
        return ap_fail(c->err, AP_E_UNSUPPORTED, "version at offset 4 is %u; 2 and 3 are read", version);
    AP_TRY(take_u64(c, "tensor count", &tensors));
    AP_TRY(take_u64(c, "key count", &keys));
    if (tensors > AP_GGUF_TENSORS_MAX || tensors > left(c) / TENSOR_BYTES_MIN)
        return ap_fail(c->err, AP_E_LIMIT, "tensor count at offset 8 is %" PRIu64 "; at most %d, and not more than the file can hold",
                       tensors, AP_GGUF_TENSORS_MAX);
    if (keys > AP_GGUF_KEYS_MAX || keys > left(c) / KEY_BYTES_MIN)
        return ap_fail(c->err, AP_E_LIMIT, "key count at offset 16 is %" PRIu64 "; at most %d, and not more than the file can hold",
                       keys, AP_GGUF_KEYS_MAX);
    g->tensor_count = (uint32_t)tensors;
    g->key_count = (uint32_t)keys;
    return AP_OK;
}

static ap_status open_into(ap_gguf *g, uint64_t readable, ap_error *err)
{
    cursor c = {g->bytes, 0, readable, err};
    AP_TRY(read_counts(g, &c));
    AP_TRY(read_keys(g, &c));
    AP_TRY(read_tensors(g, &c));
    return place_tensors(g, c.at, err);
}

ap_status ap_gguf_open(ap_gguf **out, const unsigned char *bytes, uint64_t length, ap_error *err)
{
    *out = NULL;
    ap_gguf *g = ap_alloc_zero(1, sizeof *g);
    if (!g)
        return ap_fail_nomem(err, sizeof *g);
    g->bytes = bytes;
    g->length = length;
    ap_status status = open_into(g, length, err);
    if (status != AP_OK) {
        ap_gguf_close(&g);
        return status;
    }
    *out = g;
    return AP_OK;
}

ap_status ap_gguf_check_header(const unsigned char *header, uint64_t header_bytes, uint64_t file_bytes, ap_error *err)
{
    ap_gguf *g = ap_alloc_zero(1, sizeof *g);
    if (!g)
        return ap_fail_nomem(err, sizeof *g);
    g->bytes = header;
    g->length = file_bytes;
    ap_status status = open_into(g, header_bytes, err);
    ap_gguf_close(&g);
    return status;
}

void ap_gguf_close(ap_gguf **gguf)
{
    if (*gguf) {
        ap_map_deinit(&(*gguf)->key_index);
        ap_map_deinit(&(*gguf)->tensor_index);
        ap_free((*gguf)->keys);
        ap_free((*gguf)->tensors);
        ap_free(*gguf);
    }
    *gguf = NULL;
}

uint32_t ap_gguf_key_count(const ap_gguf *g) { return g->key_count; }
const ap_gguf_key *ap_gguf_key_at(const ap_gguf *g, uint32_t index) { return &g->keys[index]; }
uint32_t ap_gguf_tensor_count(const ap_gguf *g) { return g->tensor_count; }
const ap_gguf_tensor *ap_gguf_tensor_at(const ap_gguf *g, uint32_t index) { return &g->tensors[index]; }
const unsigned char *ap_gguf_data(const ap_gguf *g, const ap_gguf_tensor *tensor) { return g->bytes + tensor->offset; }

const ap_gguf_key *ap_gguf_find(const ap_gguf *g, ap_str name)
{
    uint32_t index;
    return ap_map_get(&g->key_index, name, &index) ? &g->keys[index] : NULL;
}

const ap_gguf_tensor *ap_gguf_find_tensor(const ap_gguf *g, ap_str name)
{
    uint32_t index;
    return ap_map_get(&g->tensor_index, name, &index) ? &g->tensors[index] : NULL;
}

/* ---- Typed values ---- */

static ap_status find_kind(const ap_gguf *g, const char *name, ap_gguf_kind kind, const ap_gguf_key **out, ap_error *err)
{
    *out = ap_gguf_find(g, ap_str_from(name));
    if (!*out)
        return ap_fail(err, AP_E_NOTFOUND, "key '%s' is missing", name);
    if ((*out)->kind != kind)
        return ap_fail(err, AP_E_FORMAT, "key '%s' is %s; %s is needed", name, kinds[(*out)->kind].name, kinds[kind].name);
    return AP_OK;
}

ap_status ap_gguf_get_u32(const ap_gguf *g, const char *name, uint32_t *out, ap_error *err)
{
    const ap_gguf_key *key = ap_gguf_find(g, ap_str_from(name));
    if (!key)
        return ap_fail(err, AP_E_NOTFOUND, "key '%s' is missing", name);
    bool is_signed = key->kind == AP_GGUF_I8 || key->kind == AP_GGUF_I16 || key->kind == AP_GGUF_I32 || key->kind == AP_GGUF_I64;
    bool is_unsigned = key->kind == AP_GGUF_U8 || key->kind == AP_GGUF_U16 || key->kind == AP_GGUF_U32 || key->kind == AP_GGUF_U64;
    if (!is_signed && !is_unsigned)
        return ap_fail(err, AP_E_FORMAT, "key '%s' is %s; an integer is needed", name, kinds[key->kind].name);
    uint32_t size = kinds[key->kind].bytes;
    uint64_t value = 0;
    memcpy(&value, key->bytes, size);
    if (is_signed && (value >> (size * 8 - 1) & 1))
        return ap_fail(err, AP_E_FORMAT, "key '%s' is negative; a number from 0 to %u is needed", name, UINT32_MAX);
    if (value > UINT32_MAX)
        return ap_fail(err, AP_E_FORMAT, "key '%s' is %" PRIu64 "; at most %u is allowed", name, value, UINT32_MAX);
    *out = (uint32_t)value;
    return AP_OK;
}

ap_status ap_gguf_get_f32(const ap_gguf *g, const char *name, float *out, ap_error *err)
{
    const ap_gguf_key *key;
    AP_TRY(find_kind(g, name, AP_GGUF_F32, &key, err));
    memcpy(out, key->bytes, 4);
    return AP_OK;
}

ap_status ap_gguf_get_bool(const ap_gguf *g, const char *name, bool *out, ap_error *err)
{
    const ap_gguf_key *key;
    AP_TRY(find_kind(g, name, AP_GGUF_BOOL, &key, err));
    *out = key->bytes[0] == 1;
    return AP_OK;
}

/* The string whose length stands at *at, already checked when the file was opened. */
static ap_str string_at(const unsigned char **at)
{
    uint64_t length;
    memcpy(&length, *at, 8);
    ap_str text = {(const char *)*at + 8, (size_t)length};
    *at += 8 + length;
    return text;
}

ap_status ap_gguf_get_str(const ap_gguf *g, const char *name, ap_str *out, ap_error *err)
{
    const ap_gguf_key *key;
    AP_TRY(find_kind(g, name, AP_GGUF_STRING, &key, err));
    const unsigned char *at = key->bytes;
    *out = string_at(&at);
    return AP_OK;
}

void ap_gguf_copy_str(const ap_gguf *g, const char *name, char *out, size_t room)
{
    ap_str text = {0};
    if (room == 0)
        return;
    (void)ap_gguf_get_str(g, name, &text, NULL);
    size_t used = 0, length;
    for (size_t i = 0; i < text.len; i += length) {
        bool is_kept = ap_utf8_is_inert(ap_utf8_next(text.ptr + i, text.len - i, &length));
        size_t bytes = is_kept ? length : 1;
        if (used + bytes >= room)
            break;
        memcpy(out + used, is_kept ? text.ptr + i : "?", bytes);
        used += bytes;
    }
    out[used] = 0;
}

static ap_status find_array(const ap_gguf *g, const char *name, ap_gguf_kind kind, const ap_gguf_key **out, ap_error *err)
{
    AP_TRY(find_kind(g, name, AP_GGUF_ARRAY, out, err));
    if ((*out)->item_kind != kind)
        return ap_fail(err, AP_E_FORMAT, "key '%s' is an array of %s; %s is needed", name, kinds[(*out)->item_kind].name,
                       kinds[kind].name);
    return AP_OK;
}

ap_status ap_gguf_get_strs(const ap_gguf *g, const char *name, ap_arena *arena, const ap_str **out, uint64_t *count,
                           ap_error *err)
{
    const ap_gguf_key *key;
    AP_TRY(find_array(g, name, AP_GGUF_STRING, &key, err));
    size_t bytes;
    if (!ap_mul_size((size_t)key->count, sizeof(ap_str), &bytes))
        return ap_fail_nomem(err, SIZE_MAX);
    ap_str *strings = ap_arena_alloc(arena, bytes);
    if (!strings)
        return ap_fail_nomem(err, bytes);
    const unsigned char *at = key->bytes;
    for (uint64_t i = 0; i < key->count; i++)
        strings[i] = string_at(&at);
    *out = strings;
    *count = key->count;
    return AP_OK;
}

/* Copies a number array out of the file, where it is not aligned. */
static ap_status get_numbers(const ap_gguf *g, const char *name, ap_gguf_kind kind, uint64_t count, ap_arena *arena,
                             const void **out, ap_error *err)
{
    *out = NULL;
    if (!ap_gguf_find(g, ap_str_from(name)))
        return AP_OK;
    const ap_gguf_key *key;
    AP_TRY(find_array(g, name, kind, &key, err));
    if (key->count != count)
        return ap_fail(err, AP_E_FORMAT, "key '%s' has %" PRIu64 " items; %" PRIu64 " are needed", name, key->count, count);
    *out = ap_arena_copy(arena, key->bytes, (size_t)key->byte_count);
    return *out ? AP_OK : ap_fail_nomem(err, (size_t)key->byte_count);
}

ap_status ap_gguf_get_f32s(const ap_gguf *g, const char *name, uint64_t count, ap_arena *arena, const float **out,
                           ap_error *err)
{
    const void *numbers;
    ap_status status = get_numbers(g, name, AP_GGUF_F32, count, arena, &numbers, err);
    *out = numbers;
    return status;
}

ap_status ap_gguf_get_i32s(const ap_gguf *g, const char *name, uint64_t count, ap_arena *arena, const int32_t **out,
                           ap_error *err)
{
    const void *numbers;
    ap_status status = get_numbers(g, name, AP_GGUF_I32, count, arena, &numbers, err);
    *out = numbers;
    return status;
}
