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
#include "model/hf_card.h"
#include "model/model.h"
#include "model/rules.h"
#include "model/source.h"

/* Where the elements of a tensor come from: that of row r and column c is number
 * base + row(r) * row_step + c * column_step of the folder's tensor, row() being ap_hf_span_row. */
typedef struct origin {
    const unsigned char *data;
    ap_dtype dtype;
    ap_hf_span span;
    uint64_t base, row_step, column_step;
    bool is_less_one;
    ap_hf_matrix matrix; /* quantised: its row row(r) instead of all that */
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
    ap_type *kept; /* per tensor */
    uint32_t count;
    ap_hf_quantization quantization;
    uint32_t rounded_4_bits, rounded_fp8; /* matrices that no packed type holds exactly */
    bool has_idle_scales;
    char note[400];
    uint32_t positions_skipped;
    bool is_tied; /* an output matrix in the file repeats the embedding */
    bool must_have_output;
} folder;

/* ---- Names ---- */

/* "model.layers.3.mlp.experts.7.up_proj.weight" of layer 3, expert 7. */
static void write_name(const ap_arch *arch, const ap_wanted *wanted, ap_str rest, char name[AP_HF_NAME_ROOM])
{
    size_t used = 0;
    const char *number = memchr(rest.ptr, '%', rest.len);
    if (wanted->layer != AP_LAYER_NONE)
        used = (size_t)snprintf(name, AP_HF_NAME_ROOM, "%s%u.", arch->hf.layers, wanted->layer);
    if (!number)
        (void)snprintf(name + used, AP_HF_NAME_ROOM - used, "%.*s", (int)rest.len, rest.ptr);
    else
        (void)snprintf(name + used, AP_HF_NAME_ROOM - used, "%.*s%u%.*s", (int)(number - rest.ptr), rest.ptr, wanted->expert,
                       (int)(rest.ptr + rest.len - number - 2), number + 2);
}

void ap_hf_name(const ap_arch *arch, const ap_wanted *wanted, unsigned which, char name[AP_HF_NAME_ROOM])
{
    ap_str rest;
    while (!ap_hf_alternative(wanted->rule->hf_name, which, &rest))
        which--;
    write_name(arch, wanted, rest, name);
}

/* Under its name or that of its codes. */
static ap_hf_weight *look_up(const folder *f, const char *name)
{
    char other[AP_HF_NAME_ROOM + 16];
    static const char plain[] = ".weight";
    const char *ending = ap_hf_quantized_ending(f->quantization.method);
    ap_hf_weight *w = ap_hf_files_weight(&f->files, ap_str_from(name));
    if (w || !ending)
        return w;
    size_t stem = strlen(name);
    if (ending[0] == '.') {
        if (stem < sizeof plain || strcmp(name + stem - (sizeof plain - 1), plain) != 0)
            return NULL;
        stem -= sizeof plain - 1;
    }
    (void)snprintf(other, sizeof other, "%.*s%s", (int)stem, name, ending);
    return ap_hf_files_weight(&f->files, ap_str_from(other));
}

/* NULL if absent; `name` is then that of the first alternative. */
static ap_hf_weight *find_weight(const folder *f, const ap_wanted *wanted, char name[AP_HF_NAME_ROOM])
{
    ap_str rest, root = ap_str_from(f->arch->hf.root ? f->arch->hf.root : "");
    for (unsigned i = 0; ap_hf_alternative(wanted->rule->hf_name, i, &rest); i++) {
        write_name(f->arch, wanted, rest, name);
        ap_hf_weight *w = look_up(f, name);
        if (!w && root.len && ap_str_starts(ap_str_from(name), root))
            w = look_up(f, name + root.len);
        if (w)
            return w;
    }
    (void)ap_hf_alternative(wanted->rule->hf_name, 0, &rest);
    write_name(f->arch, wanted, rest, name);
    return NULL;
}

/* ---- Keys ---- */

static ap_status write_keys(folder *f, ap_gguf_writer *keys, ap_error *err)
{
    ap_status status = ap_hf_config_write(f->config, keys, &f->arch, err);
    if (status == AP_OK)
        status = ap_hf_positions_skipped(f->config, f->arch, &f->positions_skipped, err);
    if (status == AP_OK)
        status = ap_hf_quantization_read(f->config, &f->quantization, err);
    if (status != AP_OK) {
        ap_error_prefix(err, "config.json");
        return status == AP_E_NOTFOUND ? AP_E_FORMAT : status;
    }
    AP_TRY(ap_hf_card_write(&f->files, f->config, keys, err));
    AP_TRY(ap_hf_encoder_write(&f->files, f->config, f->arch, keys, err));
    for (size_t i = 0; i < f->arch->tensor_count; i++) {
        const ap_tensor_rule *rule = &f->arch->tensors[i];
        if (rule->role != AP_ROLE_EMBEDDING)
            continue;
        char name[AP_HF_NAME_ROOM];
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
                          .bytes = rows * ap_row_bytes(type, (uint32_t)columns)};
    t->name = (ap_str){ap_arena_copy(&f->arena, wanted->name, strlen(wanted->name)), strlen(wanted->name)};
    if (!t->name.ptr)
        return ap_fail_nomem(err, sizeof wanted->name);
    f->kept[f->count] = from.matrix.method ? from.matrix.kept : type;
    f->origins[f->count++] = from;
    return AP_OK;
}

static bool ends_with(ap_str name, const char *end)
{
    size_t length = strlen(end);
    return name.len >= length && memcmp(name.ptr + name.len - length, end, length) == 0;
}

/* Where the elements are, and the shape that the folder's tensor must have. */
static uint32_t locate(const folder *f, const ap_wanted *w, origin *o, uint64_t shape[3])
{
    bool is_vector = w->rule->rows == AP_EXTENT_NONE;
    uint64_t columns = is_vector ? 1 : w->columns;
    o->span = ap_hf_span_of(w, &f->sizes);
    if (o->span.rows == AP_HF_ROWS_POSITIONS) {
        o->span.first = f->positions_skipped;
        o->span.all += f->positions_skipped;
    }
    o->is_less_one = f->arch->hf.are_norms_less_one && ends_with(ap_str_from(w->rule->gguf_name), "norm.weight");
    if (o->span.rows == AP_HF_ROWS_EXPERT || o->span.rows == AP_HF_ROWS_EXPERT_GATE_UP) {
        uint64_t each = o->span.all / f->sizes.expert_count; /* rows of an expert, stored with its columns first */
        o->row_step = 1;
        o->column_step = each;
        o->base = w->expert * (columns - 1) * each; /* rows count through all experts before */
        shape[0] = f->sizes.expert_count;
        shape[1] = is_vector ? each : columns;
        shape[2] = each;
        return is_vector ? 2 : 3;
    }
    bool is_turned = f->arch->hf.has_columns_first && !is_vector && w->layer != AP_LAYER_NONE;
    o->row_step = is_turned ? 1 : columns;
    o->column_step = is_turned ? o->span.all : 1;
    shape[0] = is_turned ? columns : o->span.all;
    shape[1] = is_turned ? o->span.all : columns;
    return is_vector ? 1 : 2;
}

/* A matrix of codes, scales and zeros. */
static ap_status claim_quantized(folder *f, const ap_wanted *wanted, const ap_hf_weight *w, origin from, const uint64_t shape[3],
                                 uint32_t dim_count, ap_error *err)
{
    bool is_turned = from.column_step != 1 && dim_count == 2;
    if (wanted->rule->rows == AP_EXTENT_NONE || is_turned)
        return ap_fail(err, AP_E_UNSUPPORTED, "tensor '%.*s' is quantised, which this release does not have for %s", (int)w->name.len,
                       w->name.ptr, is_turned ? "matrices with their columns first" : "vectors");
    uint64_t experts = dim_count == 3 ? shape[0] : 1, rows = dim_count == 3 ? shape[0] * shape[2] : shape[0];
    AP_TRY(ap_hf_matrix_open(&f->files, &f->quantization, w, experts, wanted->expert, rows, wanted->columns, &from.matrix, err));
    const ap_hf_matrix *m = &from.matrix;
    if (m->kept != m->type)
        ++*(m->method == AP_HF_FP8 ? &f->rounded_fp8 : &f->rounded_4_bits);
    return add(f, wanted, m->type, from, err);
}

static ap_status claim(void *context, const ap_wanted *wanted, ap_error *err)
{
    folder *f = context;
    char name[AP_HF_NAME_ROOM];
    ap_role role = wanted->rule->role;
    if (role == AP_ROLE_ROPE_DIVISORS || role == AP_ROLE_ROPE_DIVISORS_LONG || role == AP_ROLE_ROPE_DIVISORS_SHORT) {
        const float *made;
        AP_TRY(ap_hf_rope_divisors(f->config, &f->sizes, role, &f->arena, &made, err));
        origin from = {.data = (const unsigned char *)made, .dtype = AP_DTYPE_F32, .span = {.step = 1}, .row_step = 1, .column_step = 1};
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
    uint32_t dim_count = locate(f, wanted, &from, shape);
    if (ap_hf_is_quantized(&f->quantization, w))
        return claim_quantized(f, wanted, w, from, shape, dim_count, err);
    AP_TRY(type_of(w, &type, err));
    AP_TRY(ap_hf_weight_check(w, dim_count, shape, err));
    return add(f, wanted, from.is_less_one ? AP_TYPE_F32 : type, from, err);
}

static bool is_zero(const unsigned char *bytes, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (bytes[i])
            return false;
    return true;
}

/* Of another task than this model's: a pooler that no head reads, what a masked model is trained with. */
static bool is_of_idle_part(const folder *f, ap_str name)
{
    ap_str root = ap_str_from(f->arch->hf.root ? f->arch->hf.root : ""), start;
    if (ap_str_starts(name, root))
        name = (ap_str){name.ptr + root.len, name.len - root.len};
    for (unsigned i = 0; f->arch->hf.idle && ap_hf_alternative(f->arch->hf.idle, i, &start); i++)
        if (ap_str_starts(name, start))
            return true;
    return false;
}

/* Tables that older programs saved along and that the forward pass computes itself. */
static bool is_idle(folder *f, const ap_hf_weight *w)
{
    ap_str name = w->name;
    static const char *const ends[] = {".rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias", ".attn.bias",
                                       ".attn.masked_bias"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        size_t length = strlen(ends[i]);
        if (name.len > length && memcmp(name.ptr + name.len - length, ends[i], length) == 0)
            return true;
    }
    if (is_of_idle_part(f, name))
        return true;
    if (ap_hf_is_idle_scale(&f->quantization, name))
        return f->has_idle_scales = true;
    /* Older programs gave every GPTQ matrix a bias. */
    return f->quantization.method == AP_HF_GPTQ && ends_with(name, ".bias") && is_zero(w->data, w->tensor->bytes);
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
    f->kept = ap_arena_zero(&f->arena, room, sizeof *f->kept);
    if (!f->tensors || !f->origins || !f->kept)
        return ap_fail_nomem(err, room * sizeof *f->tensors);
    AP_TRY(ap_rules_walk(f->arch, &f->sizes, claim, f, err));
    for (uint32_t i = 0; i < f->files.weight_count; i++) {
        const ap_hf_weight *w = &f->files.weights[i];
        if (!w->is_used && !is_idle(f, w))
            return ap_fail(err, AP_E_UNSUPPORTED, "tensor '%.*s' belongs to a feature that this release does not have",
                           (int)(w->name.len < 200 ? w->name.len : 200), w->name.ptr);
    }
    return AP_OK;
}

/* ---- Rows ---- */

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
        uint16_t half = ap_hf_half_of_f8(o->dtype, *from);
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
    bool is_plain = !o->matrix.method && bytes == from_bytes && !o->is_less_one && o->column_step == 1;
    bool is_in_order = o->span.step == 1 && o->span.rows != AP_HF_ROWS_Q_PAIRS && o->span.rows != AP_HF_ROWS_K_PAIRS &&
                       o->span.rows != AP_HF_ROWS_GROUPS;
    if (is_plain && is_in_order && o->row_step == columns)
        return o->data + (o->base + (o->span.first + first) * columns) * bytes;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t number = ap_hf_span_row(&o->span, &f->sizes, first + i);
        if (o->matrix.method) {
            ap_hf_matrix_row(&o->matrix, number, room + i * ap_row_bytes(t->type, (uint32_t)columns));
            continue;
        }
        const unsigned char *row = o->data + (o->base + number * o->row_step) * from_bytes;
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

/* What does not stay as it is, for people. */
static void write_note(folder *f)
{
    char *note = f->note;
    size_t room = sizeof f->note;
    if (f->files.has_pictures)
        ap_str_append(note, room, "The model reads pictures; its text part is taken, and takes text alone. ");
    if (f->rounded_4_bits)
        ap_str_append(note, room, "%u matrices whose groups no packed 4-bit type holds were rounded to Q8_0. ", f->rounded_4_bits);
    if (f->rounded_fp8)
        ap_str_append(note, room, "%u matrices in FP8 were multiplied by their scales and rounded to BF16. ", f->rounded_fp8);
    if (f->has_idle_scales)
        ap_str_append(note, room, "Scales for activations in FP8 are not used: activations are not rounded to FP8. ");
}

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
    AP_TRY(ap_hf_config_complete(f->config, err));
    AP_TRY(make_keys(f, &s->keys, err));
    AP_TRY(make_tensors(f, s->keys, err));
    AP_TRY(ap_map_reserve(&s->index, f->count, err));
    for (uint32_t i = 0; i < f->count; i++)
        AP_TRY(ap_map_add(&s->index, f->tensors[i].name, i, NULL, err));
    write_note(f);
    s->note = f->note;
    s->kept = f->kept;
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
