/* source_gguf.c - what every source shares, and the source that is a GGUF file.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "model/source.h"

#include "base/alloc.h"
#include "base/file.h"

uint64_t ap_source_row_bytes(const ap_gguf_tensor *t)
{
    return t->bytes / (t->dims[1] * t->dims[2] * t->dims[3]);
}

const ap_gguf_tensor *ap_source_find(const ap_source *s, ap_str name)
{
    uint32_t index;
    if (!s->index.room)
        return ap_gguf_find_tensor(s->keys, name);
    return ap_map_get(&s->index, name, &index) ? &s->tensors[index] : NULL;
}

const unsigned char *ap_source_rows(const ap_source *s, const ap_gguf_tensor *tensor, uint64_t first, uint64_t count,
                                    unsigned char *room)
{
    return s->rows(s, (uint32_t)(tensor - s->tensors), first, count, room);
}

void ap_source_close(ap_source *s)
{
    if (s->close)
        s->close(s);
    *s = (ap_source){0};
}

ap_status ap_source_open_files(ap_source *out, const ap_import_file *files, size_t file_count, ap_error *err)
{
    size_t length = file_count ? strlen(files[0].name) : 0;
    bool is_gguf = length > 5 && strcmp(files[0].name + length - 5, ".gguf") == 0;
    return is_gguf ? ap_source_open_split(out, files, file_count, err) : ap_source_open_folder(out, files, file_count, err);
}

/* ---- A GGUF file ---- */

static const unsigned char *gguf_rows(const ap_source *s, uint32_t tensor, uint64_t first, uint64_t count, unsigned char *room)
{
    const ap_gguf_tensor *t = &s->tensors[tensor];
    return ap_gguf_data(s->keys, t) + first * ap_source_row_bytes(t);
}

static void gguf_close(ap_source *s)
{
    ap_gguf_close(&s->keys);
    ap_file_unmap(s->own);
    ap_free(s->own);
}

/* What people take for a GGUF file and what is none; the reader would only say that the first bytes are wrong. */
static ap_status refuse_others(const ap_mapping *file, ap_error *err)
{
    const unsigned char *b = file->ptr;
    if (file->len > 8 && b[8] == '{' && memcmp(b, "GGUF", 4) != 0)
        return ap_fail(err, AP_E_ARG, "this is a safetensors file, which has weights but no description of the model: give the folder "
                       "that holds it with its config.json");
    bool is_archive = file->len > 4 && memcmp(b, "PK\3\4", 4) == 0, is_pickle = file->len > 2 && b[0] == 0x80 && b[1] >= 2 && b[1] <= 5;
    if (is_archive || is_pickle)
        return ap_fail(err, AP_E_UNSUPPORTED, "this looks like a pickle file, as PyTorch saves weights: reading one can run code that is "
                       "hidden in it, so it is never read; convert the weights to safetensors, or take a version of the model that has them");
    return AP_OK;
}

/* A model may be split over files (each with a number from 0); one of them alone is no model. */
static ap_status refuse_part(const ap_gguf *gguf, ap_error *err)
{
    const struct {
        const char *key;
        uint32_t high;
    } limits[] = {{AP_SPLIT_COUNT, 1}, {AP_SPLIT_NO, 0}, {AP_SPLIT_TENSORS, ap_gguf_tensor_count(gguf)}};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        uint32_t value;
        if (!ap_gguf_find(gguf, ap_str_from(limits[i].key)))
            continue;
        AP_TRY(ap_gguf_get_u32(gguf, limits[i].key, &value, err));
        if (value > limits[i].high)
            return ap_fail(err, AP_E_UNSUPPORTED, "key '%s' is %u: the file is one part of a split model; the others belong beside it, "
                           "named as NAME-00001-of-00003.gguf", limits[i].key, value);
    }
    return AP_OK;
}

ap_status ap_source_open_gguf(ap_source *out, int fd, ap_error *err)
{
    *out = (ap_source){0};
    ap_mapping *file = ap_alloc_zero(1, sizeof *file);
    if (!file)
        return ap_fail_nomem(err, sizeof *file);
    out->rows = gguf_rows;
    out->close = gguf_close;
    out->own = file;
    ap_status status = ap_file_map(fd, file, err);
    if (status == AP_OK)
        status = refuse_others(file, err);
    if (status == AP_OK)
        status = ap_gguf_open(&out->keys, file->ptr, file->len, err);
    if (status == AP_OK)
        status = refuse_part(out->keys, err);
    if (status != AP_OK) {
        ap_source_close(out);
        return status;
    }
    out->file_bytes = file->len;
    out->tensor_count = ap_gguf_tensor_count(out->keys);
    out->tensors = out->tensor_count ? ap_gguf_tensor_at(out->keys, 0) : NULL;
    return AP_OK;
}
