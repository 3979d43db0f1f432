/* hf_source.c - a Hugging Face folder as a source in GGUF's terms.
 *
 * config.json gives keys and, through them, the sizes; the family's rules give each tensor's two names; each tensor of
 * the folder is claimed by one rule or belongs to a feature that is not there.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "model/hf.h"
#include "model/model.h"
#include "model/rules.h"
#include "model/source.h"

/* Where the rows of a tensor come from. */
typedef struct origin {
    const unsigned char *data;
    ap_dtype dtype;
    ap_hf_rows rows;
} origin;

typedef struct folder {
    ap_hf_files files;
    json_t *config;
    const ap_arch *arch;
    ap_hparams sizes;
    ap_buf keys; /* a GGUF file without tensors */
    ap_arena arena;
    ap_gguf_tensor *tensors;
    origin *origins;
    uint32_t count;
    float *rope_divisors;
    bool is_tied; /* an output matrix in the file repeats the embedding */
    bool must_have_output;
} folder;

/* ---- Keys ---- */

static ap_status write_keys(folder *f, ap_gguf_writer *keys, ap_error *err)
{
    ap_status status = ap_hf_config_write(f->config, keys, &f->arch, err);
    if (status != AP_OK) {
        ap_error_prefix(err, "config.json");
        return status == AP_E_NOTFOUND ? AP_E_FORMAT : status;
    }
    for (size_t i = 0; i < f->arch->tensor_count; i++) {
        const ap_tensor_rule *rule = &f->arch->tensors[i];
        if (rule->role != AP_ROLE_EMBEDDING)
            continue;
        const ap_hf_weight *w = ap_hf_files_weight(&f->files, ap_str_from(rule->hf_name));
        if (!w || w->tensor->dim_count != 2 || w->tensor->dims[0] == 0 || w->tensor->dims[0] > AP_VOCAB_TOKENS_MAX)
            return ap_fail(err, AP_E_FORMAT, "tensor '%s' is missing, or has not two dimensions of which the first is 1 to %d",
                           rule->hf_name, AP_VOCAB_TOKENS_MAX);
        f->sizes.vocab_count = (uint32_t)w->tensor->dims[0];
    }
    return ap_hf_vocab_write(&f->files, f->config, f->sizes.vocab_count, keys, err);
}

static ap_status make_keys(folder *f, ap_gguf **out, ap_error *err)
{
    ap_gguf_writer *keys;
    AP_TRY(ap_gguf_writer_create(&keys, AP_GGUF_ALIGNMENT_DEFAULT, err));
    ap_status status = write_keys(f, keys, err);
    if (status == AP_OK)
        status = ap_gguf_writer_keys_only(keys, &f->keys, err);
    ap_gguf_writer_destroy(&keys);
    if (status == AP_OK)
        status = ap_gguf_open(out, (const unsigned char *)f->keys.ptr, f->keys.len, err);
    return status;
}

/* ---- Tensors ---- */

static ap_status read_tie(folder *f, ap_error *err)
{
    bool flag;
    if (!ap_json_find(f->config, "tie_word_embeddings"))
        return AP_OK; /* then the folder has an output matrix, or it has none */
    AP_TRY(ap_json_get_bool(f->config, "tie_word_embeddings", &flag, err));
    f->is_tied = flag;
    f->must_have_output = !flag;
    return AP_OK;
}

static ap_status type_of(const ap_hf_weight *w, ap_type *out, ap_error *err)
{
    switch ((int)w->tensor->dtype) {
    case AP_DTYPE_F32:
        *out = AP_TYPE_F32;
        return AP_OK;
    case AP_DTYPE_BF16:
        *out = AP_TYPE_BF16;
        return AP_OK;
    case AP_DTYPE_F16:
    case AP_DTYPE_F8_E4M3: /* each of their values is one of F16 */
    case AP_DTYPE_F8_E5M2:
        *out = AP_TYPE_F16;
        return AP_OK;
    }
    return ap_fail(err, AP_E_UNSUPPORTED, "tensor '%.*s' has the type %s; F32, F16, BF16, F8_E4M3 and F8_E5M2 are read",
                   (int)w->name.len, w->name.ptr, ap_dtype_name(w->tensor->dtype));
}

static ap_status add(folder *f, const ap_wanted *wanted, ap_type type, uint32_t dim_count, const uint64_t *dims, origin from,
                     ap_error *err)
{
    ap_gguf_tensor *t = &f->tensors[f->count];
    *t = (ap_gguf_tensor){.type = type, .dim_count = dim_count, .dims = {1, 1, 1, 1}, .bytes = ap_type_info_of(type)->block_bytes};
    t->name = (ap_str){ap_arena_copy(&f->arena, wanted->name, strlen(wanted->name)), strlen(wanted->name)};
    if (!t->name.ptr)
        return ap_fail_nomem(err, sizeof wanted->name);
    for (uint32_t i = 0; i < dim_count; i++) {
        t->dims[i] = dims[dim_count - 1 - i]; /* GGUF says the fastest first */
        t->bytes *= dims[i];
    }
    f->origins[f->count++] = from;
    return AP_OK;
}

static void name_in_folder(const folder *f, const ap_wanted *wanted, char name[128])
{
    if (wanted->layer == AP_LAYER_NONE)
        (void)snprintf(name, 128, "%s", wanted->rule->hf_name);
    else
        (void)snprintf(name, 128, "%s%u.%s", f->arch->hf.layers, wanted->layer, wanted->rule->hf_name);
}

static ap_status check_shape(const ap_wanted *wanted, const char *name, const ap_safetensor *t, ap_error *err)
{
    bool is_vector = wanted->rule->rows == AP_EXTENT_NONE;
    bool is_right = is_vector ? t->dim_count == 1 && t->dims[0] == wanted->columns
                              : t->dim_count == 2 && t->dims[0] == wanted->rows && t->dims[1] == wanted->columns;
    if (is_right)
        return AP_OK;
    char shape[32] = "";
    if (!is_vector)
        (void)snprintf(shape, sizeof shape, "%u, ", wanted->rows);
    return ap_fail(err, AP_E_FORMAT, "tensor '%s' has %u dimensions, the first %" PRIu64 ", the last %" PRIu64 "; [%s%u] is needed", name,
                   t->dim_count, t->dim_count ? t->dims[0] : 0, t->dim_count ? t->dims[t->dim_count - 1] : 0, shape, wanted->columns);
}

static ap_status claim(void *context, const ap_wanted *wanted, ap_error *err)
{
    folder *f = context;
    char name[128];
    if (wanted->rule->role == AP_ROLE_ROPE_DIVISORS && f->rope_divisors) {
        uint64_t count = f->sizes.rope_width / 2;
        return add(f, wanted, AP_TYPE_F32, 1, &count,
                   (origin){(const unsigned char *)f->rope_divisors, AP_DTYPE_F32, AP_HF_ROWS_SAME}, err);
    }
    if (!wanted->rule->hf_name)
        return AP_OK;
    name_in_folder(f, wanted, name);
    ap_hf_weight *w = ap_hf_files_weight(&f->files, ap_str_from(name));
    bool is_output = wanted->rule->role == AP_ROLE_OUTPUT;
    if (!w)
        return wanted->rule->is_optional && !(is_output && f->must_have_output)
                   ? AP_OK
                   : ap_fail(err, AP_E_FORMAT, "tensor '%s' is missing", name);
    w->is_used = true;
    if (is_output && f->is_tied)
        return AP_OK;
    ap_type type;
    AP_TRY(type_of(w, &type, err));
    AP_TRY(check_shape(wanted, name, w->tensor, err));
    return add(f, wanted, type, w->tensor->dim_count, w->tensor->dims, (origin){w->data, w->tensor->dtype, wanted->rule->hf_rows}, err);
}

/* Tables that older programs saved along and that the forward pass computes itself. */
static bool is_idle(ap_str name)
{
    static const char *const ends[] = {".rotary_emb.inv_freq"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        size_t length = strlen(ends[i]);
        if (name.len > length && memcmp(name.ptr + name.len - length, ends[i], length) == 0)
            return true;
    }
    return false;
}

static ap_status make_tensors(folder *f, const ap_gguf *keys, ap_error *err)
{
    uint32_t vocab_count = f->sizes.vocab_count;
    AP_TRY(ap_hparams_read(&f->sizes, f->arch, keys, err));
    f->sizes.vocab_count = vocab_count;
    AP_TRY(read_tie(f, err));
    AP_TRY(ap_hf_rope_divisors(f->config, &f->sizes, &f->rope_divisors, err));
    size_t room = (size_t)f->arch->tensor_count * (f->sizes.layer_count + 1);
    f->tensors = ap_arena_zero(&f->arena, room, sizeof *f->tensors);
    f->origins = ap_arena_zero(&f->arena, room, sizeof *f->origins);
    if (!f->tensors || !f->origins)
        return ap_fail_nomem(err, room * sizeof *f->tensors);
    AP_TRY(ap_rules_walk(f->arch, &f->sizes, claim, f, err));
    for (uint32_t i = 0; i < f->files.weight_count; i++) {
        const ap_hf_weight *w = &f->files.weights[i];
        if (!w->is_used && !is_idle(w->name))
            return ap_fail(err, AP_E_UNSUPPORTED, "tensor '%.*s' belongs to a feature that this release does not have",
                           (int)(w->name.len < 200 ? w->name.len : 200), w->name.ptr);
    }
    return AP_OK;
}

/* ---- Rows ---- */

/* The row of the folder's tensor that is row `row` of GGUF's.  A head's rotary dimensions are two halves there:
 * x0 x1 … y0 y1 …; here they are pairs: x0 y0 x1 y1 …. */
static uint64_t folder_row(const folder *f, ap_hf_rows rows, uint64_t row)
{
    uint64_t width = f->sizes.head_width, turned = f->sizes.rope_width, in_head = row % width;
    if (rows == AP_HF_ROWS_SAME || in_head >= turned)
        return row;
    return row - in_head + in_head % 2 * (turned / 2) + in_head / 2;
}

/* F16 has every value of both 8-bit floats: E5M2 is its upper half, E4M3 has the bias 7 where F16 has 15. */
static uint16_t half_of(ap_dtype dtype, unsigned char byte)
{
    if (dtype == AP_DTYPE_F8_E5M2)
        return (uint16_t)(byte << 8);
    unsigned sign = (byte & 0x80u) << 8, exponent = byte >> 3 & 15, mantissa = byte & 7;
    if (exponent == 15 && mantissa == 7)
        return (uint16_t)(sign | 0x7e00); /* its only NaN; it has no infinity */
    if (exponent == 0)
        return (uint16_t)(sign | ap_f16_of_f32((float)mantissa * 0x1p-9f));
    return (uint16_t)(sign | (exponent + 8) << 10 | mantissa << 7);
}

static void copy_elements(ap_dtype dtype, const unsigned char *from, uint64_t count, unsigned char *to, uint32_t bytes)
{
    if (dtype != AP_DTYPE_F8_E4M3 && dtype != AP_DTYPE_F8_E5M2) {
        memcpy(to, from, (size_t)(count * bytes));
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint16_t half = half_of(dtype, from[i]);
        memcpy(to + 2 * i, &half, 2);
    }
}

/* A vector is one row of GGUF; what is reordered are then its elements. */
static const unsigned char *folder_rows(const ap_source *s, uint32_t tensor, uint64_t first, uint64_t count, unsigned char *room)
{
    const folder *f = s->own;
    const ap_gguf_tensor *t = &f->tensors[tensor];
    const origin *o = &f->origins[tensor];
    uint32_t bytes = ap_type_info_of(t->type)->block_bytes;
    uint64_t source_bytes = o->dtype == AP_DTYPE_F8_E4M3 || o->dtype == AP_DTYPE_F8_E5M2 ? 1 : bytes;
    uint64_t columns = t->dim_count == 1 ? 1 : t->dims[0];
    if (t->dim_count == 1)
        count = t->dims[0];
    if (o->rows == AP_HF_ROWS_SAME && source_bytes == bytes)
        return o->data + first * columns * bytes;
    for (uint64_t i = 0; i < count; i++)
        copy_elements(o->dtype, o->data + folder_row(f, o->rows, first + i) * columns * source_bytes, columns,
                      room + i * columns * bytes, bytes);
    return room;
}

/* ---- Opening ---- */

static void folder_close(ap_source *s)
{
    folder *f = s->own;
    ap_gguf_close(&s->keys);
    ap_map_deinit(&s->index);
    ap_hf_files_close(&f->files);
    json_decref(f->config);
    ap_buf_deinit(&f->keys);
    ap_arena_deinit(&f->arena);
    ap_free(f->rope_divisors);
    ap_free(f);
}

static ap_status open_into(ap_source *s, folder *f, const ap_import_file *files, size_t count, ap_error *err)
{
    AP_TRY(ap_hf_files_open(&f->files, files, count, err));
    AP_TRY(ap_hf_files_json(&f->files, "config.json", &f->config, err));
    if (!f->config)
        return ap_fail(err, AP_E_NOTFOUND, "the folder has no config.json");
    AP_TRY(make_keys(f, &s->keys, err));
    AP_TRY(make_tensors(f, s->keys, err));
    AP_TRY(ap_map_reserve(&s->index, f->count, err));
    for (uint32_t i = 0; i < f->count; i++)
        AP_TRY(ap_map_add(&s->index, f->tensors[i].name, i, NULL, err));
    s->tensors = f->tensors;
    s->tensor_count = f->count;
    s->file_bytes = f->files.bytes;
    return AP_OK;
}

ap_status ap_source_open_folder(ap_source *out, const ap_import_file *files, size_t file_count, ap_error *err)
{
    *out = (ap_source){0};
    folder *f = ap_alloc_zero(1, sizeof *f);
    if (!f)
        return ap_fail_nomem(err, sizeof *f);
    out->own = f;
    out->rows = folder_rows;
    out->close = folder_close;
    ap_status status = open_into(out, f, files, file_count, err);
    if (status != AP_OK)
        ap_source_close(out);
    return status;
}
