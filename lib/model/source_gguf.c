/* source_gguf.c - what every source shares, and the source that is a GGUF file.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "model/source.h"

#include "base/alloc.h"
#include "base/file.h"
#include "model/model.h"

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

bool ap_source_is_folder(const ap_import_file *files, size_t file_count)
{
    if (file_count > 0 && !files[0].name)
        return false;
    size_t length = file_count ? strlen(files[0].name) : 0;
    return length <= 5 || strcmp(files[0].name + length - 5, ".gguf") != 0;
}

ap_status ap_source_open_files(ap_source *out, const ap_import_file *files, size_t file_count, ap_error *err)
{
    if (ap_source_is_folder(files, file_count))
        return ap_source_open_folder(out, files, file_count, err);
    return files[0].name ? ap_source_open_split(out, files, file_count, err) : ap_source_open_gguf(out, files[0].fd, err);
}

/* ---- What family, what sizes, which tensor ---- */

static ap_status read_architecture(const ap_gguf *keys, const ap_arch **arch, ap_error *err)
{
    ap_str name, type;
    AP_TRY(ap_gguf_get_str(keys, "general.architecture", &name, err));
    if (ap_gguf_find(keys, AP_STR("general.type"))) {
        AP_TRY(ap_gguf_get_str(keys, "general.type", &type, err));
        if (!ap_str_is(type, "model"))
            return ap_fail(err, AP_E_UNSUPPORTED, "key 'general.type' is '%.*s'; a model is needed",
                           (int)(type.len < 40 ? type.len : 40), type.ptr);
    }
    *arch = ap_arch_find(name);
    if (!*arch)
        return ap_fail(err, AP_E_UNSUPPORTED, "key 'general.architecture' is '%.*s'; this release has: %s",
                       (int)(name.len < 40 ? name.len : 40), name.ptr, ap_arch_names());
    return AP_OK;
}

static ap_status read_vocab_count(const ap_source *s, uint32_t *count, ap_error *err)
{
    const ap_gguf_tensor *embedding = ap_source_find(s, AP_STR("token_embd.weight"));
    if (!embedding)
        return ap_fail(err, AP_E_FORMAT, "tensor 'token_embd.weight' is missing");
    const ap_gguf_key *tokens = ap_gguf_find(s->keys, AP_STR("tokenizer.ggml.tokens"));
    uint64_t rows = embedding->dims[1];
    if (rows > AP_VOCAB_TOKENS_MAX)
        return ap_fail(err, AP_E_LIMIT, "tensor 'token_embd.weight' has %" PRIu64 " rows; at most %d are allowed", rows,
                       AP_VOCAB_TOKENS_MAX);
    if (!tokens || tokens->count > rows)
        return ap_fail(err, AP_E_FORMAT, "the vocabulary has %" PRIu64 " tokens, the embedding %" PRIu64 " rows",
                       tokens ? tokens->count : 0, rows);
    *count = (uint32_t)rows;
    return AP_OK;
}

ap_status ap_source_sizes(const ap_source *s, const ap_arch **arch, ap_hparams *sizes, ap_error *err)
{
    AP_TRY(read_architecture(s->keys, arch, err));
    AP_TRY(ap_hparams_read(sizes, *arch, s->keys, err));
    return read_vocab_count(s, &sizes->vocab_count, err);
}

ap_status ap_source_find_part(const ap_source *s, const ap_wanted *w, ap_source_part *part, ap_error *err)
{
    const ap_gguf_tensor *fused = w->fused_total ? ap_source_find(s, ap_str_from(w->fused_name)) : NULL;
    if (fused && ap_wanted_is_fused(w, fused->dims)) {
        bool is_vector = w->rule->rows == AP_EXTENT_NONE;
        uint64_t row = is_vector ? w->fused_first / fused->dims[0] : w->fused_first;
        uint64_t within = is_vector ? w->fused_first % fused->dims[0] : 0;
        *part = (ap_source_part){fused, row, ap_source_row_bytes(fused) / fused->dims[0] * within};
        return AP_OK;
    }
    *part = (ap_source_part){.tensor = ap_source_find(s, ap_str_from(w->name))};
    if (part->tensor)
        return ap_wanted_check(w, part->tensor->dim_count, part->tensor->dims, err);
    if (fused && !w->rule->is_optional)
        return ap_fail(err, AP_E_FORMAT, "tensor '%s' is missing; '%s' has %" PRIu64 " rows of %" PRIu64 ", not %" PRIu64 " of %u",
                       w->name, w->fused_name, fused->dims[1] * fused->dims[2] * fused->dims[3], fused->dims[0], w->fused_total,
                       w->columns);
    return w->rule->is_optional ? AP_OK : ap_fail(err, AP_E_FORMAT, "tensor '%s' is missing", w->name);
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

/* Positions as older converters stored them; the forward pass computes its own. */
static bool is_idle(ap_str name)
{
    static const char end[] = ".attn_rot_embd.weight";
    size_t length = sizeof end - 1;
    return name.len > length && memcmp(name.ptr + name.len - length, end, length) == 0;
}

ap_status ap_source_refuse_unread(const ap_source *s, const bool *is_read, ap_error *err)
{
    for (uint32_t i = 0; i < s->tensor_count; i++) {
        ap_str name = s->tensors[i].name;
        if (!is_read[i] && !is_idle(name))
            return ap_fail(err, AP_E_UNSUPPORTED, "tensor '%.*s' belongs to a feature that this release does not have",
                           (int)name.len, name.ptr);
    }
    return AP_OK;
}
