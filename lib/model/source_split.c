/* source_split.c - the source that is a GGUF file in parts.
 *
 * Each part is a GGUF file with keys of its number, of how many parts and of how many tensors there are in all; the first
 * has all other keys.  Names of files mean nothing here: the numbers inside decide.
 * Format: https://github.com/ggml-org/llama.cpp (tool gguf-split), by its output.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "base/alloc.h"
#include "base/file.h"
#include "model/source.h"

enum { PARTS_MAX = 65535 /* split.no is a u16 */ };

typedef struct part {
    ap_mapping file;
    ap_gguf *gguf;
    uint32_t first_tensor;
} part;

typedef struct split {
    part *parts; /* by number */
    uint32_t part_count;
    ap_gguf_tensor *tensors; /* of all parts */
} split;

static const part *part_of(const split *p, uint32_t tensor)
{
    uint32_t i = p->part_count - 1;
    while (p->parts[i].first_tensor > tensor)
        i--;
    return &p->parts[i];
}

static const unsigned char *split_rows(const ap_source *s, uint32_t tensor, uint64_t first, uint64_t count, unsigned char *room)
{
    const ap_gguf_tensor *t = &s->tensors[tensor];
    return ap_gguf_data(part_of(s->own, tensor)->gguf, t) + first * ap_source_row_bytes(t);
}

static void split_close(ap_source *s)
{
    split *p = s->own;
    for (uint32_t i = 0; i < p->part_count; i++) {
        ap_gguf_close(&p->parts[i].gguf);
        ap_file_unmap(&p->parts[i].file);
    }
    ap_map_deinit(&s->index);
    ap_free(p->parts);
    ap_free(p->tensors);
    ap_free(p);
}

static ap_status get_number(const ap_gguf *gguf, const char *file, const char *key, uint32_t *out, ap_error *err)
{
    return ap_gguf_get_u32(gguf, key, out, NULL) == AP_OK
               ? AP_OK
               : ap_fail(err, AP_E_FORMAT, "'%.100s' is no part of a split model: it has no number '%s'", file, key);
}

/* Opens a file and puts it where its number says. */
static ap_status open_part(split *p, const ap_import_file *file, uint32_t *tensor_total, ap_error *err)
{
    part one = {0};
    uint32_t number = 0, count = 0, total = 0;
    ap_status status = ap_file_map(file->fd, &one.file, err);
    if (status == AP_OK)
        status = ap_gguf_open(&one.gguf, one.file.ptr, one.file.len, err);
    if (status == AP_OK)
        status = get_number(one.gguf, file->name, AP_SPLIT_NO, &number, err);
    if (status == AP_OK)
        status = get_number(one.gguf, file->name, AP_SPLIT_COUNT, &count, err);
    if (status == AP_OK)
        status = get_number(one.gguf, file->name, AP_SPLIT_TENSORS, &total, err);
    if (status == AP_OK && count != p->part_count)
        status = ap_fail(err, AP_E_FORMAT, "'%.100s' says that the model has %u parts; there are %u", file->name, count, p->part_count);
    if (status == AP_OK && number >= count)
        status = ap_fail(err, AP_E_FORMAT, "'%.100s' has the number %u of %u parts", file->name, number, count);
    if (status == AP_OK && p->parts[number].gguf)
        status = ap_fail(err, AP_E_FORMAT, "'%.100s' is a second part with the number %u", file->name, number);
    if (status == AP_OK && *tensor_total != UINT32_MAX && total != *tensor_total)
        status = ap_fail(err, AP_E_FORMAT, "'%.100s' says that the model has %u tensors, another part %u", file->name, total, *tensor_total);
    if (status != AP_OK) {
        ap_gguf_close(&one.gguf);
        ap_file_unmap(&one.file);
        return status;
    }
    *tensor_total = total;
    p->parts[number] = one;
    return AP_OK;
}

static ap_status join(ap_source *s, split *p, uint32_t tensor_total, ap_error *err)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < p->part_count; i++) {
        p->parts[i].first_tensor = (uint32_t)count;
        count += ap_gguf_tensor_count(p->parts[i].gguf);
        s->file_bytes += p->parts[i].file.len;
        if (count > AP_GGUF_TENSORS_MAX)
            return ap_fail(err, AP_E_LIMIT, "the parts have more than %d tensors", AP_GGUF_TENSORS_MAX);
    }
    if (count != tensor_total)
        return ap_fail(err, AP_E_FORMAT, "key '%s' is %u; the parts have %u tensors", AP_SPLIT_TENSORS, tensor_total, (uint32_t)count);
    p->tensors = ap_alloc_array((size_t)count + 1, sizeof *p->tensors);
    if (!p->tensors)
        return ap_fail_nomem(err, (size_t)count * sizeof *p->tensors);
    AP_TRY(ap_map_reserve(&s->index, (uint32_t)count + 1, err));
    for (uint32_t i = 0; i < p->part_count; i++) {
        const ap_gguf *gguf = p->parts[i].gguf;
        for (uint32_t t = 0; t < ap_gguf_tensor_count(gguf); t++) {
            ap_gguf_tensor *tensor = &p->tensors[s->tensor_count];
            *tensor = *ap_gguf_tensor_at(gguf, t);
            if (ap_map_add(&s->index, tensor->name, s->tensor_count++, NULL, err) != AP_OK)
                return ap_fail(err, AP_E_FORMAT, "tensor '%.*s' stands in two parts", (int)tensor->name.len, tensor->name.ptr);
        }
    }
    s->tensors = p->tensors;
    s->keys = p->parts[0].gguf;
    return AP_OK;
}

static ap_status open_parts(ap_source *s, split *p, const ap_import_file *files, size_t file_count, ap_error *err)
{
    uint32_t tensor_total = UINT32_MAX;
    if (file_count < 1 || file_count > PARTS_MAX)
        return ap_fail(err, AP_E_LIMIT, "a model of %zu parts; 1 to %d are allowed", file_count, PARTS_MAX);
    p->parts = ap_alloc_zero(file_count, sizeof *p->parts);
    if (!p->parts)
        return ap_fail_nomem(err, file_count * sizeof *p->parts);
    p->part_count = (uint32_t)file_count;
    for (size_t i = 0; i < file_count; i++)
        AP_TRY(open_part(p, &files[i], &tensor_total, err));
    return join(s, p, tensor_total, err);
}

ap_status ap_source_open_split(ap_source *out, const ap_import_file *files, size_t file_count, ap_error *err)
{
    *out = (ap_source){0};
    split *p = ap_alloc_zero(1, sizeof *p);
    if (!p)
        return ap_fail_nomem(err, sizeof *p);
    out->own = p;
    out->rows = split_rows;
    out->close = split_close;
    ap_status status = open_parts(out, p, files, file_count, err);
    if (status != AP_OK)
        ap_source_close(out);
    return status;
}
