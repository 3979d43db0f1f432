/* SPDX-License-Identifier: Apache-2.0 */
#include "format/packed.h"

#include "aperto.h"
#include "base/alloc.h"

struct ap_packed {
    ap_gguf *gguf;
    ap_str source_sha256;
    ap_packed_tensor *tensors;
};

static ap_status find_numbers(const ap_gguf *gguf, const char *name, ap_gguf_kind kind, uint64_t count,
                              const unsigned char **out, ap_error *err)
{
    const ap_gguf_key *key = ap_gguf_find(gguf, ap_str_from(name));
    if (!key || key->kind != AP_GGUF_ARRAY || key->item_kind != kind || key->count != count)
        return ap_fail(err, AP_E_FORMAT, "this packed file is damaged: key '%s' has not %" PRIu64 " items of its type", name,
                       count);
    *out = key->bytes;
    return AP_OK;
}

static ap_status check_number(const ap_gguf *gguf, const char *name, uint32_t expected, ap_error *err)
{
    uint32_t found;
    AP_TRY(ap_gguf_get_u32(gguf, name, &found, err));
    if (found != expected)
        return ap_fail(err, AP_E_UNSUPPORTED, "key '%s' is %u; this release reads %u: import the model again", name, found,
                       expected);
    return AP_OK;
}

static ap_status read_tensors(ap_packed *p, ap_error *err)
{
    const ap_gguf *g = p->gguf;
    uint32_t count = ap_gguf_tensor_count(g);
    const unsigned char *types, *layouts, *dims;
    AP_TRY(find_numbers(g, "aperto.tensor.types", AP_GGUF_I32, count, &types, err));
    AP_TRY(find_numbers(g, "aperto.tensor.layouts", AP_GGUF_U8, count, &layouts, err));
    AP_TRY(find_numbers(g, "aperto.tensor.dims", AP_GGUF_U64, 2 * (uint64_t)count, &dims, err));
    p->tensors = ap_alloc_zero(count, sizeof *p->tensors);
    if (!p->tensors)
        return ap_fail_nomem(err, count * sizeof *p->tensors);
    for (uint32_t i = 0; i < count; i++) {
        const ap_gguf_tensor *t = ap_gguf_tensor_at(g, i);
        uint32_t type;
        memcpy(&type, types + 4 * (size_t)i, 4);
        ap_packed_tensor *out = &p->tensors[i];
        memcpy(&out->columns, dims + 16 * (size_t)i, 8);
        memcpy(&out->rows, dims + 16 * (size_t)i + 8, 8);
        if (t->type != AP_TYPE_I8 || t->dim_count != 1 || !ap_type_info_of(type) || layouts[i] >= AP_LAYOUT_COUNT ||
            out->columns == 0 || out->rows == 0)
            return ap_fail(err, AP_E_FORMAT, "this packed file is damaged: tensor '%.*s' has type %u, layout %u, %" PRIu64 " x %" PRIu64,
                           (int)t->name.len, t->name.ptr, type, layouts[i], out->columns, out->rows);
        out->name = t->name;
        out->type = (ap_type)type;
        out->layout = (ap_packed_layout)layouts[i];
        out->bytes = t->bytes;
        out->data = ap_gguf_data(g, t);
        if ((uintptr_t)out->data % AP_PACK_ALIGNMENT)
            return ap_fail(err, AP_E_FORMAT, "this packed file is damaged: tensor '%.*s' is not aligned to %d bytes",
                           (int)t->name.len, t->name.ptr, AP_PACK_ALIGNMENT);
    }
    return AP_OK;
}

static ap_status open_into(ap_packed *p, const unsigned char *bytes, uint64_t length, ap_error *err)
{
    AP_TRY(ap_gguf_open(&p->gguf, bytes, length, err));
    if (!ap_gguf_find(p->gguf, AP_STR("aperto.pack.version")))
        return ap_fail(err, AP_E_FORMAT, "this is a plain GGUF file; it must be packed before use");
    AP_TRY(check_number(p->gguf, "aperto.pack.version", AP_PACK_VERSION, err));
    AP_TRY(check_number(p->gguf, "aperto.pack.law", AP_LAW_VERSION, err));
    AP_TRY(ap_gguf_get_str(p->gguf, "aperto.source.sha256", &p->source_sha256, err));
    return read_tensors(p, err);
}

ap_status ap_packed_open(ap_packed **out, const unsigned char *bytes, uint64_t length, ap_error *err)
{
    *out = NULL;
    ap_packed *p = ap_alloc_zero(1, sizeof *p);
    if (!p)
        return ap_fail_nomem(err, sizeof *p);
    ap_status status = open_into(p, bytes, length, err);
    if (status != AP_OK) {
        ap_packed_close(&p);
        return status;
    }
    *out = p;
    return AP_OK;
}

void ap_packed_close(ap_packed **packed)
{
    if (*packed) {
        ap_gguf_close(&(*packed)->gguf);
        ap_free((*packed)->tensors);
        ap_free(*packed);
    }
    *packed = NULL;
}

const ap_gguf *ap_packed_gguf(const ap_packed *p) { return p->gguf; }
ap_str ap_packed_source_sha256(const ap_packed *p) { return p->source_sha256; }
uint32_t ap_packed_count(const ap_packed *p) { return ap_gguf_tensor_count(p->gguf); }
const ap_packed_tensor *ap_packed_at(const ap_packed *p, uint32_t index) { return &p->tensors[index]; }

const ap_packed_tensor *ap_packed_find(const ap_packed *p, ap_str name)
{
    const ap_gguf_tensor *t = ap_gguf_find_tensor(p->gguf, name);
    return t ? &p->tensors[t - ap_gguf_tensor_at(p->gguf, 0)] : NULL;
}

/* ---- Writing ---- */

static ap_status describe(ap_gguf_writer *w, const ap_packed_tensor *tensors, uint32_t count, ap_arena *arena, ap_error *err)
{
    int32_t *types = ap_arena_zero(arena, count, sizeof *types);
    uint8_t *layouts = ap_arena_zero(arena, count, sizeof *layouts);
    uint64_t *dims = ap_arena_zero(arena, count, 2 * sizeof *dims);
    if (!types || !layouts || !dims)
        return ap_fail_nomem(err, count * sizeof *dims);
    for (uint32_t i = 0; i < count; i++) {
        types[i] = (int32_t)tensors[i].type;
        layouts[i] = (uint8_t)tensors[i].layout;
        dims[2 * i] = tensors[i].columns;
        dims[2 * i + 1] = tensors[i].rows;
    }
    AP_TRY(ap_gguf_writer_numbers(w, "aperto.tensor.types", AP_GGUF_I32, count, types, err));
    AP_TRY(ap_gguf_writer_numbers(w, "aperto.tensor.layouts", AP_GGUF_U8, count, layouts, err));
    AP_TRY(ap_gguf_writer_numbers(w, "aperto.tensor.dims", AP_GGUF_U64, 2 * (uint64_t)count, dims, err));
    for (uint32_t i = 0; i < count; i++)
        AP_TRY(ap_gguf_writer_tensor(w, tensors[i].name, AP_TYPE_I8, 1, &tensors[i].bytes, err));
    return AP_OK;
}

ap_status ap_packed_plan(ap_gguf_writer **out, const ap_gguf *source, ap_str source_sha256,
                         const ap_packed_tensor *tensors, uint32_t count, ap_error *err)
{
    AP_TRY(ap_gguf_writer_create(out, AP_PACK_ALIGNMENT, err));
    ap_arena arena = {0};
    ap_status status = ap_gguf_writer_copy_keys(*out, source, "aperto.", err);
    if (status == AP_OK)
        status = ap_gguf_writer_u32(*out, "aperto.pack.version", AP_PACK_VERSION, err);
    if (status == AP_OK)
        status = ap_gguf_writer_u32(*out, "aperto.pack.law", AP_LAW_VERSION, err);
    if (status == AP_OK)
        status = ap_gguf_writer_str(*out, "aperto.source.sha256", source_sha256, err);
    if (status == AP_OK)
        status = describe(*out, tensors, count, &arena, err);
    ap_arena_deinit(&arena);
    if (status != AP_OK)
        ap_gguf_writer_destroy(out);
    return status;
}
