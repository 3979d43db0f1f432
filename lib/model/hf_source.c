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

/* Where the elements of a tensor come from: that of row r and column c is number
 * base + row(r) * row_step + c * column_step of the folder's tensor, where row() reorders as `rows` says. */
typedef struct origin {
    const unsigned char *data;
    ap_dtype dtype;
    ap_hf_rows rows;
    unsigned part; /* 0, 1, 2: q, k, v */
    uint64_t base, row_step, column_step;
    bool is_less_one;
} origin;

enum { NAME_ROOM = 128 };

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
    bool is_tied; /* an output matrix in the file repeats the embedding */
    bool must_have_output;
} folder;

/* ---- Names ---- */

/* The alternative number `which` in "one|two"; false if there are not so many. */
static bool alternative(const char *list, unsigned which, ap_str *out)
{
    for (; which > 0; which--) {
        list += strcspn(list, "|");
        if (!*list++)
            return false;
    }
    *out = (ap_str){list, strcspn(list, "|")};
    return true;
}

/* "model.layers.3.mlp.experts.7.up_proj.weight" of layer 3, expert 7. */
static void write_name(const folder *f, const ap_wanted *wanted, ap_str rest, char name[NAME_ROOM])
{
    size_t used = 0;
    const char *number = memchr(rest.ptr, '%', rest.len);
    if (wanted->layer != AP_LAYER_NONE)
        used = (size_t)snprintf(name, NAME_ROOM, "%s%u.", f->arch->hf.layers, wanted->layer);
    if (!number)
        (void)snprintf(name + used, NAME_ROOM - used, "%.*s", (int)rest.len, rest.ptr);
    else
        (void)snprintf(name + used, NAME_ROOM - used, "%.*s%u%.*s", (int)(number - rest.ptr), rest.ptr, wanted->expert,
                       (int)(rest.ptr + rest.len - number - 2), number + 2);
}

/* NULL if absent; `name` is then that of the first alternative. */
static ap_hf_weight *find_weight(const folder *f, const ap_wanted *wanted, char name[NAME_ROOM])
{
    ap_str rest, root = ap_str_from(f->arch->hf.root ? f->arch->hf.root : "");
    for (unsigned i = 0; alternative(wanted->rule->hf_name, i, &rest); i++) {
        write_name(f, wanted, rest, name);
        ap_hf_weight *w = ap_hf_files_weight(&f->files, ap_str_from(name));
        if (!w && root.len && ap_str_starts(ap_str_from(name), root))
            w = ap_hf_files_weight(&f->files, ap_str_from(name + root.len));
        if (w)
            return w;
    }
    (void)alternative(wanted->rule->hf_name, 0, &rest);
    write_name(f, wanted, rest, name);
    return NULL;
}

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
        char name[NAME_ROOM];
        const ap_hf_weight *w = find_weight(f, &(ap_wanted){.rule = rule, .layer = AP_LAYER_NONE}, name);
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

static ap_status add(folder *f, const ap_wanted *wanted, ap_type type, origin from, ap_error *err)
{
    bool is_vector = wanted->rule->rows == AP_EXTENT_NONE;
    uint64_t rows = is_vector ? 1 : wanted->rows, columns = wanted->columns;
    ap_gguf_tensor *t = &f->tensors[f->count];
    *t = (ap_gguf_tensor){.type = type, .dim_count = is_vector ? 1 : 2, .dims = {columns, rows, 1, 1},
                          .bytes = rows * columns * ap_type_info_of(type)->block_bytes};
    t->name = (ap_str){ap_arena_copy(&f->arena, wanted->name, strlen(wanted->name)), strlen(wanted->name)};
    if (!t->name.ptr)
        return ap_fail_nomem(err, sizeof wanted->name);
    f->origins[f->count++] = from;
    return AP_OK;
}

/* The number of a rule among those that share a tensor. */
static unsigned part_of(ap_role role)
{
    switch ((int)role) {
    case AP_ROLE_K:
    case AP_ROLE_K_BIAS:
    case AP_ROLE_UP:
    case AP_ROLE_EXPERT_UP:
    case AP_ROLE_EXPERT_UP_BIAS: return 1;
    case AP_ROLE_V:
    case AP_ROLE_V_BIAS: return 2;
    }
    return 0;
}

static bool ends_with(ap_str name, const char *end)
{
    size_t length = strlen(end);
    return name.len >= length && memcmp(name.ptr + name.len - length, end, length) == 0;
}

/* Where the elements are, and the shape that the folder's tensor must have. */
static uint32_t locate(const folder *f, const ap_wanted *w, origin *o, uint64_t shape[3])
{
    const ap_hparams *s = &f->sizes;
    bool is_vector = w->rule->rows == AP_EXTENT_NONE;
    uint64_t rows = is_vector ? w->columns : w->rows, columns = is_vector ? 1 : w->columns, all = rows, before = 0;
    uint64_t q = (uint64_t)s->head_count * s->head_width, kv = (uint64_t)s->kv_head_count * s->head_width;
    o->rows = w->rule->hf_rows;
    o->part = part_of(w->rule->role);
    o->is_less_one = f->arch->hf.are_norms_less_one && ends_with(ap_str_from(w->rule->gguf_name), "norm.weight");
    if (o->rows == AP_HF_ROWS_EXPERT || o->rows == AP_HF_ROWS_EXPERT_GATE_UP) {
        uint64_t step = o->rows == AP_HF_ROWS_EXPERT ? 1 : 2;
        o->row_step = step;
        o->column_step = rows * step;
        o->base = w->expert * columns * rows * step + (step == 2 ? o->part : 0);
        shape[0] = s->expert_count;
        shape[1] = is_vector ? rows * step : columns;
        shape[2] = rows * step;
        return is_vector ? 2 : 3;
    }
    if (o->rows == AP_HF_ROWS_QKV || o->rows == AP_HF_ROWS_GROUPS)
        all = q + 2 * kv;
    if (o->rows == AP_HF_ROWS_QKV)
        before = o->part == 0 ? 0 : o->part == 1 ? q : q + kv;
    if (o->rows == AP_HF_ROWS_GATE_UP) {
        all = 2 * rows;
        before = o->part * rows;
    }
    bool is_turned = f->arch->hf.has_columns_first && !is_vector && w->layer != AP_LAYER_NONE;
    o->row_step = is_turned ? 1 : columns;
    o->column_step = is_turned ? all : 1;
    o->base = before * o->row_step;
    shape[0] = is_turned ? columns : all;
    shape[1] = is_turned ? all : columns;
    return is_vector ? 1 : 2;
}

static ap_status check_shape(const char *name, const ap_safetensor *t, uint32_t dim_count, const uint64_t *shape, ap_error *err)
{
    char got[128] = "", wanted[128] = "";
    size_t used = 0;
    if (t->dim_count == dim_count && memcmp(t->dims, shape, dim_count * sizeof *shape) == 0)
        return AP_OK;
    for (uint32_t i = 0; i < t->dim_count && used < sizeof got - 24; i++)
        used += (size_t)snprintf(got + used, sizeof got - used, "%s%" PRIu64, i ? ", " : "", t->dims[i]);
    used = 0;
    for (uint32_t i = 0; i < dim_count; i++)
        used += (size_t)snprintf(wanted + used, sizeof wanted - used, "%s%" PRIu64, i ? ", " : "", shape[i]);
    return ap_fail(err, AP_E_FORMAT, "tensor '%s' has the shape [%s]; [%s] is needed", name, got, wanted);
}

static ap_status claim(void *context, const ap_wanted *wanted, ap_error *err)
{
    folder *f = context;
    char name[NAME_ROOM];
    ap_role role = wanted->rule->role;
    if (role == AP_ROLE_ROPE_DIVISORS || role == AP_ROLE_ROPE_DIVISORS_LONG || role == AP_ROLE_ROPE_DIVISORS_SHORT) {
        const float *made;
        AP_TRY(ap_hf_rope_divisors(f->config, &f->sizes, role, &f->arena, &made, err));
        origin from = {.data = (const unsigned char *)made, .dtype = AP_DTYPE_F32, .row_step = 1, .column_step = 1};
        return made ? add(f, wanted, AP_TYPE_F32, from, err) : AP_OK;
    }
    if (!wanted->rule->hf_name)
        return AP_OK;
    ap_hf_weight *w = find_weight(f, wanted, name);
    bool is_output = wanted->rule->role == AP_ROLE_OUTPUT;
    if (!w)
        return wanted->rule->is_optional && !(is_output && f->must_have_output)
                   ? AP_OK
                   : ap_fail(err, AP_E_FORMAT, "tensor '%s' is missing", name);
    w->is_used = true;
    if (is_output && f->is_tied)
        return AP_OK;
    ap_type type;
    origin from = {.data = w->data, .dtype = w->tensor->dtype};
    uint64_t shape[3];
    AP_TRY(type_of(w, &type, err));
    uint32_t dim_count = locate(f, wanted, &from, shape);
    AP_TRY(check_shape(name, w->tensor, dim_count, shape, err));
    return add(f, wanted, from.is_less_one ? AP_TYPE_F32 : type, from, err);
}

/* Tables that older programs saved along and that the forward pass computes itself. */
static bool is_idle(ap_str name)
{
    static const char *const ends[] = {".rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias", ".attn.bias",
                                       ".attn.masked_bias"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        size_t length = strlen(ends[i]);
        if (name.len > length && memcmp(name.ptr + name.len - length, ends[i], length) == 0)
            return true;
    }
    return false;
}

static ap_status count_one(void *context, const ap_wanted *wanted, ap_error *err)
{
    ++*(size_t *)context;
    return AP_OK;
}

static ap_status make_tensors(folder *f, const ap_gguf *keys, ap_error *err)
{
    uint32_t vocab_count = f->sizes.vocab_count;
    AP_TRY(ap_hparams_read(&f->sizes, f->arch, keys, err));
    f->sizes.vocab_count = vocab_count;
    AP_TRY(read_tie(f, err));
    size_t room = 0;
    AP_TRY(ap_rules_walk(f->arch, &f->sizes, count_one, &room, err));
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

/* Which row of the folder's tensor is row `row` of the rule's.  A head's rotary dimensions are two halves there:
 * x0 x1 … y0 y1 …; here they may be pairs: x0 y0 x1 y1 …. */
static uint64_t folder_row(const folder *f, const origin *o, uint64_t row)
{
    const ap_hparams *s = &f->sizes;
    uint64_t width = s->head_width, turned = s->rope_width, head = row / width, in_head = row % width;
    if (o->rows == AP_HF_ROWS_Q_PAIRS || o->rows == AP_HF_ROWS_K_PAIRS)
        return in_head >= turned ? row : row - in_head + in_head % 2 * (turned / 2) + in_head / 2;
    if (o->rows != AP_HF_ROWS_GROUPS)
        return row;
    uint64_t queries = s->head_count / s->kv_head_count;
    uint64_t group = o->part == 0 ? head / queries : head, within = o->part == 0 ? head % queries : queries + o->part - 1;
    return (group * (queries + 2) + within) * width + in_head;
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

static uint32_t source_bytes(ap_dtype dtype)
{
    return dtype == AP_DTYPE_F32 ? 4 : dtype == AP_DTYPE_F8_E4M3 || dtype == AP_DTYPE_F8_E5M2 ? 1 : 2;
}

/* One element in the type of the source's tensor. */
static void put_element(const origin *o, const unsigned char *from, unsigned char *to)
{
    ap_type type = o->dtype == AP_DTYPE_F32 ? AP_TYPE_F32 : o->dtype == AP_DTYPE_BF16 ? AP_TYPE_BF16 : AP_TYPE_F16;
    unsigned char element[4];
    if (source_bytes(o->dtype) == 1) {
        uint16_t half = half_of(o->dtype, *from);
        memcpy(element, &half, 2);
    } else {
        memcpy(element, from, source_bytes(o->dtype));
    }
    if (!o->is_less_one) {
        memcpy(to, element, ap_type_info_of(type)->block_bytes);
        return;
    }
    float number;
    ap_decode(type, element, 1, &number);
    number += 1;
    memcpy(to, &number, 4);
}

/* A vector is one row of GGUF and many of the folder's. */
static const unsigned char *folder_rows(const ap_source *s, uint32_t tensor, uint64_t first, uint64_t count, unsigned char *room)
{
    const folder *f = s->own;
    const ap_gguf_tensor *t = &f->tensors[tensor];
    const origin *o = &f->origins[tensor];
    uint32_t bytes = ap_type_info_of(t->type)->block_bytes, from_bytes = source_bytes(o->dtype);
    uint64_t columns = t->dim_count == 1 ? 1 : t->dims[0];
    if (t->dim_count == 1)
        count = t->dims[0];
    bool is_plain = bytes == from_bytes && !o->is_less_one && o->column_step == 1;
    bool is_in_order = o->rows != AP_HF_ROWS_Q_PAIRS && o->rows != AP_HF_ROWS_K_PAIRS && o->rows != AP_HF_ROWS_GROUPS;
    if (is_plain && is_in_order && o->row_step == columns)
        return o->data + (o->base + first * columns) * bytes;
    for (uint64_t i = 0; i < count; i++) {
        const unsigned char *row = o->data + (o->base + folder_row(f, o, first + i) * o->row_step) * from_bytes;
        if (is_plain) {
            memcpy(room + i * columns * bytes, row, (size_t)(columns * bytes));
            continue;
        }
        for (uint64_t c = 0; c < columns; c++)
            put_element(o, row + c * o->column_step * from_bytes, room + (i * columns + c) * bytes);
    }
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
