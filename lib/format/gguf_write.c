/* SPDX-License-Identifier: Apache-2.0 */
#include "format/gguf_write.h"

#include "base/alloc.h"
#include "base/file.h"

struct ap_gguf_writer {
    uint32_t alignment;
    ap_buf keys, infos;
    uint64_t key_count, tensor_count, tensor_room;
    uint64_t *tensor_bytes; /* of each declared tensor's data */
    uint64_t data_bytes; /* offset of the next tensor to be declared */

    int fd;
    uint64_t tensor_now, done_now; /* which tensor's bytes come next, and how many came */
    uint64_t written;              /* bytes of the file so far */
};

static const uint32_t item_bytes[AP_GGUF_KIND_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

ap_status ap_gguf_writer_create(ap_gguf_writer **out, uint32_t alignment, ap_error *err)
{
    *out = NULL;
    if (!ap_gguf_is_alignment(alignment))
        return ap_fail(err, AP_E_ARG, "an alignment of %u; a power of two from %d to %d is needed", alignment,
                       AP_GGUF_ALIGNMENT_MIN, AP_GGUF_ALIGNMENT_MAX);
    ap_gguf_writer *w = ap_alloc_zero(1, sizeof *w);
    if (!w)
        return ap_fail_nomem(err, sizeof *w);
    w->alignment = alignment;
    w->fd = -1;
    ap_status status = ap_gguf_writer_u32(w, "general.alignment", alignment, err);
    if (status != AP_OK) {
        ap_gguf_writer_destroy(&w);
        return status;
    }
    *out = w;
    return AP_OK;
}

void ap_gguf_writer_destroy(ap_gguf_writer **writer)
{
    if (*writer) {
        ap_buf_deinit(&(*writer)->keys);
        ap_buf_deinit(&(*writer)->infos);
        ap_free((*writer)->tensor_bytes);
        ap_free(*writer);
    }
    *writer = NULL;
}

static ap_status put_str(ap_buf *buf, ap_str text, ap_error *err)
{
    uint64_t length = text.len;
    AP_TRY(ap_buf_add(buf, &length, 8, err));
    return ap_buf_add_str(buf, text, err);
}

static ap_status put_name(ap_gguf_writer *w, ap_str name, ap_gguf_kind kind, ap_error *err)
{
    uint32_t number = kind;
    if (w->key_count == AP_GGUF_KEYS_MAX)
        return ap_fail(err, AP_E_LIMIT, "the file would have more than %d keys", AP_GGUF_KEYS_MAX);
    AP_TRY(put_str(&w->keys, name, err));
    AP_TRY(ap_buf_add(&w->keys, &number, 4, err));
    w->key_count++;
    return AP_OK;
}

ap_status ap_gguf_writer_copy_keys(ap_gguf_writer *w, const ap_gguf *source, const char *except, ap_error *err)
{
    for (uint32_t i = 0; i < ap_gguf_key_count(source); i++) {
        const ap_gguf_key *key = ap_gguf_key_at(source, i);
        if (ap_str_is(key->name, "general.alignment") || ap_str_starts(key->name, AP_STR("split.")) || (except && ap_str_starts(key->name, ap_str_from(except))))
            continue;
        AP_TRY(put_name(w, key->name, key->kind, err));
        if (key->kind == AP_GGUF_ARRAY) {
            uint32_t kind = key->item_kind;
            AP_TRY(ap_buf_add(&w->keys, &kind, 4, err));
            AP_TRY(ap_buf_add(&w->keys, &key->count, 8, err));
        }
        AP_TRY(ap_buf_add(&w->keys, key->bytes, (size_t)key->byte_count, err));
    }
    return AP_OK;
}

ap_status ap_gguf_writer_u32(ap_gguf_writer *w, const char *name, uint32_t value, ap_error *err)
{
    AP_TRY(put_name(w, ap_str_from(name), AP_GGUF_U32, err));
    return ap_buf_add(&w->keys, &value, 4, err);
}

ap_status ap_gguf_writer_f32(ap_gguf_writer *w, const char *name, float value, ap_error *err)
{
    AP_TRY(put_name(w, ap_str_from(name), AP_GGUF_F32, err));
    return ap_buf_add(&w->keys, &value, 4, err);
}

ap_status ap_gguf_writer_bool(ap_gguf_writer *w, const char *name, bool value, ap_error *err)
{
    AP_TRY(put_name(w, ap_str_from(name), AP_GGUF_BOOL, err));
    return ap_buf_add(&w->keys, &(unsigned char){value}, 1, err);
}

ap_status ap_gguf_writer_str(ap_gguf_writer *w, const char *name, ap_str value, ap_error *err)
{
    AP_TRY(put_name(w, ap_str_from(name), AP_GGUF_STRING, err));
    return put_str(&w->keys, value, err);
}

ap_status ap_gguf_writer_numbers(ap_gguf_writer *w, const char *name, ap_gguf_kind kind, uint64_t count,
                                 const void *items, ap_error *err)
{
    uint32_t number = kind;
    size_t bytes;
    if (number >= AP_GGUF_KIND_COUNT || item_bytes[kind] == 0)
        return ap_fail(err, AP_E_ARG, "key '%s': items of kind %u are not numbers", name, number);
    if (count > SIZE_MAX || !ap_mul_size((size_t)count, item_bytes[kind], &bytes))
        return ap_fail_nomem(err, SIZE_MAX);
    AP_TRY(put_name(w, ap_str_from(name), AP_GGUF_ARRAY, err));
    AP_TRY(ap_buf_add(&w->keys, &number, 4, err));
    AP_TRY(ap_buf_add(&w->keys, &count, 8, err));
    return ap_buf_add(&w->keys, items, bytes, err);
}

ap_status ap_gguf_writer_strs(ap_gguf_writer *w, const char *name, uint64_t count, const ap_str *items, ap_error *err)
{
    AP_TRY(put_name(w, ap_str_from(name), AP_GGUF_ARRAY, err));
    AP_TRY(ap_buf_add(&w->keys, &(uint32_t){AP_GGUF_STRING}, 4, err));
    AP_TRY(ap_buf_add(&w->keys, &count, 8, err));
    for (uint64_t i = 0; i < count; i++)
        AP_TRY(put_str(&w->keys, items[i], err));
    return AP_OK;
}

static uint64_t padding(const ap_gguf_writer *w, uint64_t bytes) { return (w->alignment - bytes % w->alignment) % w->alignment; }

static ap_status remember(ap_gguf_writer *w, uint64_t bytes, ap_error *err)
{
    if (w->tensor_count == w->tensor_room) {
        uint64_t room = w->tensor_room ? 2 * w->tensor_room : 64;
        uint64_t *grown = ap_realloc_array(w->tensor_bytes, (size_t)room, sizeof *grown);
        if (!grown)
            return ap_fail_nomem(err, (size_t)room * sizeof *grown);
        w->tensor_bytes = grown;
        w->tensor_room = room;
    }
    w->tensor_bytes[w->tensor_count++] = bytes;
    return AP_OK;
}

ap_status ap_gguf_writer_tensor(ap_gguf_writer *w, ap_str name, ap_type type, uint32_t dim_count, const uint64_t *dims,
                                ap_error *err)
{
    const ap_type_info *info = ap_type_info_of(type);
    if (!info || dim_count < 1 || dim_count > AP_GGUF_DIMS_MAX)
        return ap_fail(err, AP_E_ARG, "tensor '%.*s' has type %u and %u dimensions; a known type and 1 to %d are needed",
                       (int)name.len, name.ptr, (unsigned)type, dim_count, AP_GGUF_DIMS_MAX);
    uint64_t elements = 1, bytes, end;
    for (uint32_t i = 0; i < dim_count; i++)
        if (!ap_mul_u64(elements, dims[i], &elements))
            return ap_fail(err, AP_E_LIMIT, "tensor '%.*s' is too large", (int)name.len, name.ptr);
    if (!ap_mul_u64(elements / info->block_elems, info->block_bytes, &bytes) ||
        !ap_add_u64(w->data_bytes, bytes, &end) || end > INT64_MAX)
        return ap_fail(err, AP_E_LIMIT, "tensor '%.*s' is too large", (int)name.len, name.ptr);
    uint32_t number = type;
    AP_TRY(remember(w, bytes, err));
    AP_TRY(put_str(&w->infos, name, err));
    AP_TRY(ap_buf_add(&w->infos, &dim_count, 4, err));
    AP_TRY(ap_buf_add(&w->infos, dims, dim_count * sizeof *dims, err));
    AP_TRY(ap_buf_add(&w->infos, &number, 4, err));
    AP_TRY(ap_buf_add(&w->infos, &w->data_bytes, 8, err));
    w->data_bytes = end + padding(w, end);
    return AP_OK;
}

static ap_status put_out(ap_gguf_writer *w, const void *bytes, uint64_t count, ap_error *err)
{
    AP_TRY(ap_file_write_all(w->fd, bytes, (size_t)count, err));
    w->written += count;
    return AP_OK;
}

static ap_status put_padding(ap_gguf_writer *w, ap_error *err)
{
    static const unsigned char zeros[4096];
    for (uint64_t count = padding(w, w->written), part; count; count -= part) {
        part = count < sizeof zeros ? count : sizeof zeros;
        AP_TRY(put_out(w, zeros, part, err));
    }
    return AP_OK;
}

/* Names, their repetition, dimensions and values have one judge: what the reader refuses is refused here. */
static ap_status put_header(ap_gguf_writer *w, ap_buf *header, ap_error *err)
{
    uint32_t version = 3;
    AP_TRY(ap_buf_add(header, "GGUF", 4, err));
    AP_TRY(ap_buf_add(header, &version, 4, err));
    AP_TRY(ap_buf_add(header, &w->tensor_count, 8, err));
    AP_TRY(ap_buf_add(header, &w->key_count, 8, err));
    AP_TRY(ap_buf_add(header, w->keys.ptr, w->keys.len, err));
    AP_TRY(ap_buf_add(header, w->infos.ptr, w->infos.len, err));
    uint64_t file_bytes;
    if (!ap_add_u64(header->len + padding(w, header->len), w->data_bytes, &file_bytes))
        return ap_fail(err, AP_E_LIMIT, "the file would be too large");
    ap_status status = ap_gguf_check_header((const unsigned char *)header->ptr, header->len, file_bytes, err);
    if (status != AP_OK)
        ap_error_prefix(err, "the file to be written");
    return status;
}

ap_status ap_gguf_writer_begin(ap_gguf_writer *w, int fd, ap_error *err)
{
    ap_buf header = {0};
    w->fd = fd;
    ap_status status = put_header(w, &header, err);
    if (status == AP_OK)
        status = put_out(w, header.ptr, header.len, err);
    ap_buf_deinit(&header);
    return status == AP_OK ? put_padding(w, err) : status;
}

ap_status ap_gguf_writer_keys_only(ap_gguf_writer *w, ap_buf *out, ap_error *err)
{
    ap_assert(w->tensor_count == 0 && out->len == 0);
    AP_TRY(put_header(w, out, err));
    for (uint64_t count = padding(w, out->len); count > 0; count--)
        AP_TRY(ap_buf_add_char(out, 0, err));
    return AP_OK;
}

ap_status ap_gguf_writer_data(ap_gguf_writer *w, const void *bytes, uint64_t count, ap_error *err)
{
    if (w->tensor_now >= w->tensor_count)
        return ap_fail(err, AP_E_BUG, "bytes for more than the %" PRIu64 " tensors that were declared", w->tensor_count);
    uint64_t room = w->tensor_bytes[w->tensor_now] - w->done_now;
    if (count > room)
        return ap_fail(err, AP_E_BUG, "tensor %" PRIu64 " was declared with fewer bytes than are written", w->tensor_now);
    AP_TRY(put_out(w, bytes, count, err));
    w->done_now += count;
    if (w->done_now < w->tensor_bytes[w->tensor_now])
        return AP_OK;
    w->tensor_now++;
    w->done_now = 0;
    return put_padding(w, err);
}

ap_status ap_gguf_writer_end(ap_gguf_writer *w, uint64_t *file_bytes, ap_error *err)
{
    if (w->tensor_now != w->tensor_count)
        return ap_fail(err, AP_E_BUG, "%" PRIu64 " of %" PRIu64 " tensors were written", w->tensor_now, w->tensor_count);
    if (file_bytes)
        *file_bytes = w->written;
    return AP_OK;
}
