/* source_fused.c - a Hugging Face folder as the GGUF file that it becomes.
 *
 * The folder speaks GGUF's terms already (hf_source.c).  What is left is what readers of GGUF expect of a file: tensors
 * that folders fuse, and all experts of a layer, stand in one; vectors, routers and positions are F32; all sizes are keys.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "format/gguf_write.h"
#include "model/model.h"
#include "model/source.h"

/* Consecutive parts become one tensor. */
typedef struct group {
    uint32_t first, count; /* parts */
    uint64_t rows_wanted;  /* of a fused tensor; 0: of one alone */
} group;

typedef struct fused {
    ap_source folder;
    const ap_arch *arch;
    ap_hparams sizes;
    ap_arena arena;
    const ap_gguf_tensor **parts;
    ap_gguf_tensor *tensors;
    group *groups; /* of each tensor */
    uint32_t part_count, tensor_count, room;
    uint64_t bytes_of[64]; /* of matrices by type */
    ap_buf keys;           /* a GGUF file without tensors */
    unsigned char *given;  /* one row as the folder gives it, */
    float *floats;         /* and decoded */
    char note[512];
} fused;

/* ---- Tensors ---- */

static bool is_fused(const ap_tensor_rule *rule)
{
    return rule->fused == AP_FUSED_EXPERTS || rule->hf_rows == AP_HF_ROWS_QKV || rule->hf_rows == AP_HF_ROWS_GROUPS ||
           rule->hf_rows == AP_HF_ROWS_GATE_UP;
}

/* What other readers compute with in F32 only. */
static bool is_always_f32(const ap_tensor_rule *rule)
{
    return rule->rows == AP_EXTENT_NONE || rule->role == AP_ROLE_ROUTER || rule->role == AP_ROLE_POSITIONS;
}

/* Quantised folders say in which type a model keeps a matrix whose rows are decoded to floats. */
static ap_type kept_type(const fused *f, const ap_gguf_tensor *from) { return f->folder.kept[from - f->folder.tensors]; }

static ap_status begin_tensor(fused *f, const ap_wanted *w, const ap_gguf_tensor *from, ap_error *err)
{
    bool is_vector = w->rule->rows == AP_EXTENT_NONE, fuses = is_fused(w->rule);
    const char *name = fuses ? w->fused_name : w->name;
    ap_gguf_tensor *t = &f->tensors[f->tensor_count];
    *t = (ap_gguf_tensor){.type = is_always_f32(w->rule) ? AP_TYPE_F32 : kept_type(f, from), .dims = {w->columns, w->rows, 1, 1}};
    t->name = (ap_str){ap_arena_copy(&f->arena, name, strlen(name)), strlen(name)};
    if (!t->name.ptr)
        return ap_fail_nomem(err, strlen(name));
    t->dim_count = is_vector ? 1 : 2;
    if (fuses && w->rule->fused == AP_FUSED_EXPERTS)
        t->dims[t->dim_count++] = f->sizes.expert_count;
    else if (fuses)
        t->dims[is_vector ? 0 : 1] = w->fused_total;
    if (is_vector) /* one bias per expert, or one in all */
        t->dims[1] = t->dim_count == 2 ? f->sizes.expert_count : 1;
    f->groups[f->tensor_count++] = (group){.first = f->part_count, .rows_wanted = fuses ? w->fused_total : 0};
    return AP_OK;
}

static ap_status add_part(void *context, const ap_wanted *w, ap_error *err)
{
    fused *f = context;
    ap_source_part part;
    AP_TRY(ap_source_find_part(&f->folder, w, &part, err));
    if (!part.tensor)
        return AP_OK;
    if (!is_fused(w->rule) || !f->tensor_count || !ap_str_is(f->tensors[f->tensor_count - 1].name, w->fused_name))
        AP_TRY(begin_tensor(f, w, part.tensor, err));
    ap_gguf_tensor *t = &f->tensors[f->tensor_count - 1];
    group *g = &f->groups[f->tensor_count - 1];
    if (kept_type(f, part.tensor) != t->type && g->count)
        t->type = AP_TYPE_F32;
    f->parts[f->part_count++] = part.tensor;
    g->count++;
    if (w->rule->rows != AP_EXTENT_NONE)
        f->bytes_of[kept_type(f, part.tensor) % 64] += part.tensor->bytes;
    return AP_OK;
}

static ap_status count_part(void *context, const ap_wanted *w, ap_error *err)
{
    ((fused *)context)->room++;
    return AP_OK;
}

static uint64_t rows_of(const ap_gguf_tensor *t) { return t->dim_count == 1 ? t->dims[0] : t->dims[1] * t->dims[2] * t->dims[3]; }

static ap_status check_tensor(fused *f, uint32_t index, ap_error *err)
{
    ap_gguf_tensor *t = &f->tensors[index];
    const group *g = &f->groups[index];
    uint64_t rows = 0;
    for (uint32_t k = 0; k < g->count; k++)
        rows += rows_of(f->parts[g->first + k]);
    if (g->rows_wanted && rows != g->rows_wanted)
        return ap_fail(err, AP_E_FORMAT, "tensor '%.*s' has %" PRIu64 " rows of the %" PRIu64 " that it is fused of", (int)t->name.len,
                       t->name.ptr, rows, g->rows_wanted);
    t->bytes = t->dims[1] * t->dims[2] * t->dims[3] * ap_row_bytes(t->type, (uint32_t)t->dims[0]);
    return AP_OK;
}

static ap_status make_tensors(fused *f, ap_source *s, ap_error *err)
{
    AP_TRY(ap_source_sizes(&f->folder, &f->arch, &f->sizes, err));
    AP_TRY(ap_rules_walk(f->arch, &f->sizes, count_part, f, err));
    f->parts = ap_arena_zero(&f->arena, f->room, sizeof *f->parts);
    f->tensors = ap_arena_zero(&f->arena, f->room, sizeof *f->tensors);
    f->groups = ap_arena_zero(&f->arena, f->room, sizeof *f->groups);
    if (!f->parts || !f->tensors || !f->groups)
        return ap_fail_nomem(err, f->room * sizeof *f->tensors);
    AP_TRY(ap_rules_walk(f->arch, &f->sizes, add_part, f, err));
    AP_TRY(ap_map_reserve(&s->index, f->tensor_count, err));
    for (uint32_t i = 0; i < f->tensor_count; i++) {
        AP_TRY(check_tensor(f, i, err));
        AP_TRY(ap_map_add(&s->index, f->tensors[i].name, i, NULL, err));
    }
    return AP_OK;
}

/* ---- Keys ---- */

/* The numbers that GGUF gives to files by what most of their matrices are. */
static uint32_t file_type(const fused *f)
{
    static const struct {
        ap_type type;
        uint32_t number;
    } known[] = {{AP_TYPE_F32, 0}, {AP_TYPE_F16, 1}, {AP_TYPE_Q4_0, 2}, {AP_TYPE_Q4_1, 3}, {AP_TYPE_Q8_0, 7}, {AP_TYPE_BF16, 32},
                 {AP_TYPE_MXFP4, 38}};
    uint32_t most = 0;
    for (uint32_t i = 1; i < 64; i++)
        if (f->bytes_of[i] > f->bytes_of[most])
            most = i;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if ((uint32_t)known[i].type == most)
            return known[i].number;
    return 1024; /* "guessed": the tensors say it */
}

/* A size that folders leave to be computed. */
static ap_status add_size(const fused *f, const char *what, uint32_t size, ap_gguf_writer *w, ap_error *err)
{
    char name[96];
    (void)snprintf(name, sizeof name, "%s.%s", f->arch->name, what);
    return size == 0 || ap_gguf_find(f->folder.keys, ap_str_from(name)) ? AP_OK : ap_gguf_writer_u32(w, name, size, err);
}

static ap_status write_keys(const fused *f, ap_gguf_writer *w, ap_error *err)
{
    AP_TRY(ap_gguf_writer_copy_keys(w, f->folder.keys, NULL, err));
    AP_TRY(ap_gguf_writer_str(w, "general.type", AP_STR("model"), err));
    AP_TRY(ap_gguf_writer_u32(w, "general.file_type", file_type(f), err));
    AP_TRY(ap_gguf_writer_u32(w, "general.quantization_version", 2, err));
    AP_TRY(add_size(f, "vocab_size", f->sizes.vocab_count, w, err));
    AP_TRY(add_size(f, "attention.head_count_kv", f->sizes.kv_head_count, w, err));
    AP_TRY(add_size(f, "rope.dimension_count", ap_hparams_is_rotary(&f->sizes) ? f->sizes.rope_width : 0, w, err));
    return add_size(f, "expert_feed_forward_length", f->sizes.expert_ffn_width, w, err);
}

static ap_status make_keys(fused *f, ap_gguf **out, ap_error *err)
{
    ap_gguf_writer *w;
    AP_TRY(ap_gguf_writer_create(&w, AP_GGUF_ALIGNMENT_DEFAULT, err));
    ap_status status = write_keys(f, w, err);
    if (status == AP_OK)
        status = ap_gguf_writer_keys_only(w, &f->keys, err);
    ap_gguf_writer_destroy(&w);
    if (status == AP_OK)
        status = ap_gguf_open(out, (const unsigned char *)f->keys.ptr, f->keys.len, err);
    return status;
}

/* What a user should know of the folder, and what other readers need and a folder may not have told us. */
static void write_note(fused *f)
{
    const ap_gguf *keys = f->folder.keys;
    ap_str model = {0};
    if (f->folder.note)
        ap_str_append(f->note, sizeof f->note, "%s", f->folder.note);
    (void)ap_gguf_get_str(keys, "tokenizer.ggml.model", &model, NULL);
    if (ap_vocab_has_ids_only(keys))
        ap_str_append(f->note, sizeof f->note, "There is no tokenizer: the model takes token ids and no text. ");
    else if (ap_str_is(model, "gpt2") && !ap_gguf_find(keys, AP_STR("tokenizer.ggml.pre")))
        ap_str_append(f->note, sizeof f->note,
                      "GGUF has no name for this pre-tokenizer: it stands under a key of our own, and other programs would cut text otherwise. ");
}

/* ---- Rows ---- */

static const unsigned char *part_rows(const fused *f, const ap_gguf_tensor *from, ap_type to, uint64_t first, uint64_t count, unsigned char *room)
{
    uint64_t columns = from->dims[0], to_bytes = ap_row_bytes(to, (uint32_t)columns);
    if (from->type == to)
        return ap_source_rows(&f->folder, from, first, count, room);
    for (uint64_t i = 0; i < count; i++) {
        ap_decode(from->type, ap_source_rows(&f->folder, from, first + i, 1, f->given), (size_t)columns, f->floats);
        ap_encode(to, f->floats, (size_t)columns, NULL, room + i * to_bytes);
    }
    return room;
}

static const unsigned char *fused_rows(const ap_source *s, uint32_t tensor, uint64_t first, uint64_t count, unsigned char *room)
{
    const fused *f = s->own;
    const ap_gguf_tensor *t = &f->tensors[tensor];
    const group *g = &f->groups[tensor];
    unsigned char *at = room;
    uint64_t left = t->dim_count == 1 ? g->count : count; /* a vector is one row, of which each part is one */
    for (uint32_t i = g->first; left > 0; i++) {
        const ap_gguf_tensor *from = f->parts[i];
        uint64_t rows = from->dims[1];
        if (first >= rows) {
            first -= rows;
            continue;
        }
        uint64_t take = rows - first < left ? rows - first : left;
        const unsigned char *bytes = part_rows(f, from, t->type, first, take, at);
        if (take == left && at == room)
            return bytes;
        uint64_t byte_count = take * ap_row_bytes(t->type, (uint32_t)from->dims[0]);
        if (bytes != at)
            memcpy(at, bytes, (size_t)byte_count);
        at += byte_count;
        left -= take;
        first = 0;
    }
    return room;
}

static ap_status make_row_room(fused *f, ap_error *err)
{
    uint64_t bytes = 1, columns = 1;
    for (uint32_t i = 0; i < f->part_count; i++) {
        uint64_t row = ap_source_row_bytes(f->parts[i]);
        bytes = row > bytes ? row : bytes;
        columns = f->parts[i]->dims[0] > columns ? f->parts[i]->dims[0] : columns;
    }
    f->given = ap_arena_alloc(&f->arena, (size_t)bytes);
    f->floats = ap_arena_zero(&f->arena, (size_t)columns, sizeof *f->floats);
    return f->given && f->floats ? AP_OK : ap_fail_nomem(err, (size_t)bytes);
}

/* ---- Opening ---- */

static void fused_close(ap_source *s)
{
    fused *f = s->own;
    ap_gguf_close(&s->keys);
    ap_map_deinit(&s->index);
    ap_source_close(&f->folder);
    ap_buf_deinit(&f->keys);
    ap_arena_deinit(&f->arena);
    ap_free(f);
}

static ap_status open_into(ap_source *s, fused *f, const ap_import_file *files, size_t count, ap_error *err)
{
    ap_vocab *vocab;
    AP_TRY(ap_source_open_folder(&f->folder, files, count, err));
    AP_TRY(make_tensors(f, s, err));
    AP_TRY(ap_vocab_create(&vocab, f->folder.keys, err)); /* what could not be opened later is refused now */
    ap_vocab_close(&vocab);
    AP_TRY(make_keys(f, &s->keys, err));
    AP_TRY(make_row_room(f, err));
    write_note(f);
    s->note = f->note;
    s->tensors = f->tensors;
    s->tensor_count = f->tensor_count;
    s->file_bytes = f->folder.file_bytes;
    return AP_OK;
}

ap_status ap_source_open_fused(ap_source *out, const ap_import_file *files, size_t file_count, ap_error *err)
{
    *out = (ap_source){0};
    fused *f = ap_alloc_zero(1, sizeof *f);
    if (!f)
        return ap_fail_nomem(err, sizeof *f);
    out->own = f;
    out->rows = fused_rows;
    out->close = fused_close;
    ap_status status = open_into(out, f, files, file_count, err);
    if (status != AP_OK)
        ap_source_close(out);
    return status;
}
