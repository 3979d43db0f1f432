/* convert.c - from a Hugging Face folder to a GGUF file.
 *
 * The source speaks GGUF's terms already (source.h).  What is left is what other readers of GGUF expect of a file: tensors
 * that folders fuse, and all experts of a layer, stand in one; vectors, routers and positions are F32.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "model/convert.h"

#include <stdio.h>

#include "base/alloc.h"

/* ---- Options ---- */

ap_status ap_convert_check_options(const ap_convert_options *options, ap_error *err)
{
    if (options->size != sizeof *options)
        return ap_fail(err, AP_E_ARG, "the options have %zu bytes, this library expects %zu", options->size, sizeof *options);
    return AP_OK;
}

/* ---- What will be written ---- */

/* Consecutive parts become one tensor. */
typedef struct target {
    char name[64];
    ap_type type;
    uint32_t dim_count;
    uint64_t dims[AP_GGUF_DIMS_MAX];
    uint32_t first, count; /* parts */
    uint64_t rows_wanted;  /* of a fused tensor; 0: of one alone */
} target;

typedef struct plan {
    const ap_source *source;
    const ap_arch *arch;
    ap_hparams sizes;
    const ap_gguf_tensor **parts;
    target *targets;
    uint32_t part_count, target_count, room;
    uint64_t bytes, bytes_of[64]; /* of the source; of all, and of matrices by type */
    const ap_convert_options *options;
    ap_convert_report *report;
    uint64_t done_bytes;
} plan;

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
static ap_type kept_type(const plan *p, const ap_gguf_tensor *from)
{
    return p->source->kept ? p->source->kept[from - p->source->tensors] : from->type;
}

static void begin_target(plan *p, const ap_wanted *w, const ap_gguf_tensor *from)
{
    bool is_vector = w->rule->rows == AP_EXTENT_NONE, fuses = is_fused(w->rule);
    target *t = &p->targets[p->target_count++];
    *t = (target){.type = is_always_f32(w->rule) ? AP_TYPE_F32 : kept_type(p, from), .first = p->part_count, .dims = {w->columns, w->rows, 1, 1}};
    (void)snprintf(t->name, sizeof t->name, "%s", fuses ? w->fused_name : w->name);
    t->dim_count = is_vector ? 1 : 2;
    t->rows_wanted = fuses ? w->fused_total : 0;
    if (fuses && w->rule->fused == AP_FUSED_EXPERTS)
        t->dims[t->dim_count++] = p->sizes.expert_count;
    else if (fuses)
        t->dims[is_vector ? 0 : 1] = w->fused_total;
    if (is_vector && t->dim_count == 2) /* one bias per expert */
        t->dims[1] = p->sizes.expert_count;
}

static ap_status add_part(void *context, const ap_wanted *w, ap_error *err)
{
    plan *p = context;
    ap_source_part part;
    AP_TRY(ap_source_find_part(p->source, w, &part, err));
    if (!part.tensor)
        return AP_OK;
    target *last = p->target_count ? &p->targets[p->target_count - 1] : NULL;
    if (!is_fused(w->rule) || !last || strcmp(last->name, w->fused_name) != 0) {
        begin_target(p, w, part.tensor);
        last = &p->targets[p->target_count - 1];
    }
    if (kept_type(p, part.tensor) != last->type && last->count)
        last->type = AP_TYPE_F32;
    p->parts[p->part_count++] = part.tensor;
    last->count++;
    p->bytes += part.tensor->bytes;
    if (w->rule->rows != AP_EXTENT_NONE)
        p->bytes_of[kept_type(p, part.tensor) % 64] += part.tensor->bytes;
    return AP_OK;
}

static ap_status count_part(void *context, const ap_wanted *w, ap_error *err)
{
    ((plan *)context)->room++;
    return AP_OK;
}

static uint64_t rows_of(const ap_gguf_tensor *t) { return t->dim_count == 1 ? t->dims[0] : t->dims[1] * t->dims[2] * t->dims[3]; }

static ap_status make_plan(plan *p, ap_arena *arena, ap_error *err)
{
    AP_TRY(ap_source_sizes(p->source, &p->arch, &p->sizes, err));
    AP_TRY(ap_rules_walk(p->arch, &p->sizes, count_part, p, err));
    p->parts = ap_arena_zero(arena, p->room, sizeof *p->parts);
    p->targets = ap_arena_zero(arena, p->room, sizeof *p->targets);
    if (!p->parts || !p->targets)
        return ap_fail_nomem(err, p->room * sizeof *p->targets);
    AP_TRY(ap_rules_walk(p->arch, &p->sizes, add_part, p, err));
    for (uint32_t i = 0; i < p->target_count; i++) {
        const target *t = &p->targets[i];
        uint64_t rows = 0;
        for (uint32_t k = 0; k < t->count; k++)
            rows += rows_of(p->parts[t->first + k]);
        if (t->rows_wanted && rows != t->rows_wanted)
            return ap_fail(err, AP_E_FORMAT, "tensor '%s' has %" PRIu64 " rows of the %" PRIu64 " that it is fused of", t->name, rows,
                           t->rows_wanted);
    }
    return AP_OK;
}

/* ---- Keys ---- */

/* The numbers that GGUF gives to files by what most of their matrices are. */
static uint32_t file_type(const plan *p)
{
    static const struct {
        ap_type type;
        uint32_t number;
    } known[] = {{AP_TYPE_F32, 0}, {AP_TYPE_F16, 1}, {AP_TYPE_Q4_0, 2}, {AP_TYPE_Q4_1, 3}, {AP_TYPE_Q8_0, 7}, {AP_TYPE_BF16, 32},
                 {AP_TYPE_MXFP4, 38}};
    uint32_t most = 0;
    for (uint32_t i = 1; i < 64; i++)
        if (p->bytes_of[i] > p->bytes_of[most])
            most = i;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if ((uint32_t)known[i].type == most)
            return known[i].number;
    return 1024; /* "guessed": the tensors say it */
}

/* A size that folders leave to be computed. */
static ap_status add_size(const plan *p, const char *what, uint32_t size, ap_gguf_writer *w, ap_error *err)
{
    char name[96];
    (void)snprintf(name, sizeof name, "%s.%s", p->arch->name, what);
    return size == 0 || ap_gguf_find(p->source->keys, ap_str_from(name)) ? AP_OK : ap_gguf_writer_u32(w, name, size, err);
}

static ap_status write_keys(const plan *p, ap_gguf_writer *w, ap_error *err)
{
    AP_TRY(ap_gguf_writer_copy_keys(w, p->source->keys, NULL, err));
    AP_TRY(ap_gguf_writer_u32(w, "general.file_type", file_type(p), err));
    AP_TRY(ap_gguf_writer_u32(w, "general.quantization_version", 2, err));
    AP_TRY(add_size(p, "vocab_size", p->sizes.vocab_count, w, err));
    return add_size(p, "expert_feed_forward_length", p->sizes.expert_ffn_width, w, err);
}

/* ---- Rows ---- */

enum { BUFFER_BYTES = 8 * 1024 * 1024 };

/* Rows as the source gives them, decoded, and encoded again. */
typedef struct buffers {
    unsigned char *given, *encoded;
    float *floats;
} buffers;

static ap_status write_part(plan *p, const target *t, const ap_gguf_tensor *from, ap_gguf_writer *w, const buffers *b, ap_error *err)
{
    uint64_t row_bytes = ap_source_row_bytes(from), rows = from->dims[1] * from->dims[2] * from->dims[3];
    uint64_t at_once = BUFFER_BYTES / row_bytes + 1, step;
    for (uint64_t row = 0; row < rows; row += step) {
        step = rows - row < at_once ? rows - row : at_once;
        const unsigned char *bytes = ap_source_rows(p->source, from, row, step, b->given);
        if (t->type == from->type) {
            AP_TRY(ap_gguf_writer_data(w, bytes, step * row_bytes, err));
        } else {
            size_t count = (size_t)(step * from->dims[0]);
            ap_decode(from->type, bytes, count, b->floats);
            if (t->type != AP_TYPE_F32)
                ap_encode(t->type, b->floats, count, NULL, b->encoded);
            AP_TRY(ap_gguf_writer_data(w, t->type == AP_TYPE_F32 ? (unsigned char *)b->floats : b->encoded,
                                       step * ap_row_bytes(t->type, (uint32_t)from->dims[0]), err));
        }
        p->done_bytes += step * row_bytes;
        if (p->options->progress)
            p->options->progress(p->options->progress_context, p->done_bytes, p->bytes);
    }
    return AP_OK;
}

static ap_status write_rows(plan *p, ap_gguf_writer *w, ap_error *err)
{
    uint64_t given_bytes = 0, float_count = 0;
    for (uint32_t i = 0; i < p->part_count; i++) {
        uint64_t row = ap_source_row_bytes(p->parts[i]), rows = BUFFER_BYTES / row + 1;
        given_bytes = rows * row > given_bytes ? rows * row : given_bytes;
        float_count = rows * p->parts[i]->dims[0] > float_count ? rows * p->parts[i]->dims[0] : float_count;
    }
    buffers b = {.given = ap_alloc_array((size_t)given_bytes, 1),
                 .encoded = ap_alloc_array((size_t)float_count, sizeof(float)),
                 .floats = ap_alloc_array((size_t)float_count, sizeof(float))};
    ap_status status = b.given && b.encoded && b.floats ? AP_OK : ap_fail_nomem(err, (size_t)float_count * sizeof *b.floats);
    for (uint32_t i = 0; i < p->target_count; i++)
        for (uint32_t k = 0; k < p->targets[i].count && status == AP_OK; k++)
            status = write_part(p, &p->targets[i], p->parts[p->targets[i].first + k], w, &b, err);
    ap_free(b.given);
    ap_free(b.encoded);
    ap_free(b.floats);
    return status;
}

static ap_status write_file(plan *p, int out_fd, ap_error *err)
{
    ap_gguf_writer *w;
    AP_TRY(ap_gguf_writer_create(&w, AP_GGUF_ALIGNMENT_DEFAULT, err));
    ap_status status = write_keys(p, w, err);
    for (uint32_t i = 0; i < p->target_count && status == AP_OK; i++) {
        const target *t = &p->targets[i];
        status = ap_gguf_writer_tensor(w, ap_str_from(t->name), t->type, t->dim_count, t->dims, err);
    }
    if (status == AP_OK)
        status = ap_gguf_writer_begin(w, out_fd, err);
    if (status == AP_OK)
        status = write_rows(p, w, err);
    if (status == AP_OK)
        status = ap_gguf_writer_end(w, &p->report->written_bytes, err);
    ap_gguf_writer_destroy(&w);
    return status;
}

/* What a user should know of the source, and what other readers need and a folder may not have told us. */
static void write_notes(const plan *p)
{
    char *notes = p->report->notes;
    size_t room = sizeof p->report->notes;
    if (p->source->note)
        ap_str_append(notes, room, "%s", p->source->note);
    const ap_gguf *keys = p->source->keys;
    ap_str model = {0};
    (void)ap_gguf_get_str(keys, "tokenizer.ggml.model", &model, NULL);
    if (ap_vocab_has_ids_only(keys))
        ap_str_append(notes, room, "The folder has no tokenizer: the model takes token ids and no text. ");
    else if (ap_str_is(model, "gpt2") && !ap_gguf_find(keys, AP_STR("tokenizer.ggml.pre")))
        ap_str_append(notes, room, "GGUF has no name for this pre-tokenizer: it stands under a key of our own, and other programs would cut text otherwise. ");
}

ap_status ap_model_convert_to_gguf(const ap_import_file *files, size_t file_count, int out_fd, const ap_convert_options *options,
                                   ap_convert_report *report, ap_error *err)
{
    *report = (ap_convert_report){0};
    AP_TRY(ap_convert_check_options(options, err));
    ap_source source;
    ap_arena arena = {0};
    AP_TRY(ap_source_open_folder(&source, files, file_count, err));
    plan p = {.source = &source, .options = options, .report = report};
    ap_vocab *vocab = NULL;
    ap_status status = make_plan(&p, &arena, err);
    if (status == AP_OK)
        status = ap_vocab_create(&vocab, source.keys, err); /* what could not be opened later is refused now */
    ap_vocab_close(&vocab);
    if (status == AP_OK)
        status = write_file(&p, out_fd, err);
    if (status == AP_OK)
        write_notes(&p);
    report->source_bytes = source.file_bytes;
    report->tensor_count = p.target_count;
    ap_arena_deinit(&arena);
    ap_source_close(&source);
    return status;
}
