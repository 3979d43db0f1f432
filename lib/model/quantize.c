/* quantize.c - from a model in floats to a GGUF file in another type.
 *
 * Keys are copied but for general.file_type; tensors keep name, shape and order.  A folder is taken as the GGUF file that it
 * becomes (source_fused.c), so the way over such a file gives the same bytes.  Rows are encoded by all
 * threads, each row by itself, so the file has the same bytes whatever their number.  Importance, if there is any, is the mean
 * square of each column's inputs (imatrix.h): with it the encoder minimises the error of outputs instead of weights.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/pool.h"
#include "format/gguf_write.h"
#include "model/imatrix.h"
#include "model/mix.h"
#include "model/model.h"
#include "model/source.h"

/* Source rows at work: enough for every thread, few enough for the cache. */
enum { BUFFER_BYTES = 8 * 1024 * 1024 };

typedef struct quantize {
    const ap_source *source;
    const ap_quantize_options *options;
    ap_quantize_report *report;
    ap_imatrix *imatrix; /* NULL: all columns count alike */
    ap_pool *pool;
    ap_type *types; /* of each tensor, as it will be written */
    uint32_t matrix_count, short_count;  /* all that changed, those whose rows are no whole blocks of the type for them */
    uint32_t short_types[AP_TYPE_ROOM]; /* what those became */
    uint64_t done_bytes, total_bytes;
} quantize;

/* Rows of one tensor on their way. */
typedef struct row_run {
    const ap_gguf_tensor *tensor;
    ap_type to;
    const unsigned char *from;
    const float *importance; /* per column, or NULL */
    float *floats;           /* one row per thread */
    unsigned char *out;
} row_run;

static bool is_float(ap_type type) { return type == AP_TYPE_F32 || type == AP_TYPE_F16 || type == AP_TYPE_BF16; }

static uint64_t row_count(const ap_gguf_tensor *t) { return t->dims[1] * t->dims[2] * t->dims[3]; }

static uint64_t bytes_of_row(ap_type type, uint64_t columns)
{
    const ap_type_info *info = ap_type_info_of((uint32_t)type);
    return columns / info->block_elems * info->block_bytes;
}

static void encode_rows(void *context, size_t begin, size_t end, unsigned thread)
{
    const row_run *run = context;
    size_t columns = (size_t)run->tensor->dims[0];
    uint64_t from_bytes = bytes_of_row(run->tensor->type, columns), to_bytes = bytes_of_row(run->to, columns);
    float *floats = run->floats + thread * columns;
    for (size_t row = begin; row < end; row++) {
        ap_decode(run->tensor->type, run->from + row * from_bytes, columns, floats);
        ap_encode(run->to, floats, columns, run->importance, run->out + row * to_bytes);
    }
}

static ap_status choose_types(quantize *q, const ap_mix *mix, ap_error *err)
{
    const ap_source *s = q->source;
    ap_mix_model m = {.is_tied = !ap_source_find(s, AP_STR("output.weight")), .has_importance = q->imatrix != NULL};
    ap_str arch;
    char key[96];
    uint32_t heads = 1, kv_heads = 1;
    AP_TRY(ap_gguf_get_str(s->keys, "general.architecture", &arch, err));
    (void)snprintf(key, sizeof key, "%.*s.block_count", (int)(arch.len < 40 ? arch.len : 40), arch.ptr);
    AP_TRY(ap_gguf_get_u32(s->keys, key, &m.layer_count, err));
    (void)snprintf(key, sizeof key, "%.*s.attention.head_count", (int)(arch.len < 40 ? arch.len : 40), arch.ptr);
    if (ap_gguf_get_u32(s->keys, key, &heads, NULL) == AP_OK) {
        kv_heads = heads;
        (void)snprintf(key, sizeof key, "%.*s.attention.head_count_kv", (int)(arch.len < 40 ? arch.len : 40), arch.ptr);
        (void)ap_gguf_get_u32(s->keys, key, &kv_heads, NULL);
    }
    m.heads_per_kv = kv_heads ? heads / kv_heads : 1;
    for (uint32_t i = 0; i < s->tensor_count; i++) {
        const ap_gguf_tensor *t = &s->tensors[i];
        ap_type asked;
        q->types[i] = ap_mix_choose(mix, &m, t->name, t->dims[0], row_count(t), t->type, &asked);
        q->matrix_count += asked != t->type;
        if (asked != q->types[i]) {
            q->short_count++;
            q->short_types[q->types[i] % AP_TYPE_ROOM]++;
        }
        q->total_bytes += t->bytes;
        if (q->types[i] != t->type && !is_float(t->type))
            return ap_fail(err, AP_E_ARG, "tensor '%.*s' is %s already; quantise from the model in F32, F16 or BF16",
                           (int)t->name.len, t->name.ptr, ap_type_info_of(t->type)->name);
    }
    return AP_OK;
}

static ap_status write_header(quantize *q, const ap_mix *mix, ap_gguf_writer *w, int out_fd, ap_error *err)
{
    AP_TRY(ap_gguf_writer_copy_keys(w, q->source->keys, "general.file_type", err));
    AP_TRY(ap_gguf_writer_u32(w, "general.file_type", ap_mix_file_type(mix), err));
    if (!ap_gguf_find(q->source->keys, AP_STR("general.quantization_version")))
        AP_TRY(ap_gguf_writer_u32(w, "general.quantization_version", 2, err));
    for (uint32_t i = 0; i < q->source->tensor_count; i++) {
        const ap_gguf_tensor *t = &q->source->tensors[i];
        AP_TRY(ap_gguf_writer_tensor(w, t->name, q->types[i], t->dim_count, t->dims, err));
    }
    return ap_gguf_writer_begin(w, out_fd, err);
}

static ap_status write_tensor(quantize *q, uint32_t index, ap_gguf_writer *w, ap_error *err)
{
    const ap_gguf_tensor *t = &q->source->tensors[index];
    ap_type to = q->types[index];
    uint64_t columns = t->dims[0], rows = row_count(t), from_bytes = ap_source_row_bytes(t);
    uint64_t to_bytes = bytes_of_row(to, columns), at_once = BUFFER_BYTES / (from_bytes ? from_bytes : 1) + 1;
    at_once = at_once < rows ? at_once : rows;
    unsigned char *given = ap_alloc_array((size_t)at_once, (size_t)from_bytes);
    row_run run = {.tensor = t, .to = to};
    run.out = ap_alloc_array((size_t)at_once, (size_t)to_bytes);
    run.floats = ap_alloc_array(ap_pool_threads(q->pool), (size_t)columns * sizeof(float));
    ap_status status = given && run.out && run.floats ? AP_OK : ap_fail_nomem(err, (size_t)(at_once * from_bytes));
    uint64_t step = 0;
    for (uint64_t row = 0; row < rows && status == AP_OK; row += step) {
        /* Each expert has an importance of its own: a stretch of rows stays within one. */
        uint64_t expert = row / t->dims[1], expert_end = (expert + 1) * t->dims[1];
        step = rows - row < at_once ? rows - row : at_once;
        step = expert_end - row < step ? expert_end - row : step;
        run.from = ap_source_rows(q->source, t, row, step, given);
        run.importance = ap_imatrix_columns(q->imatrix, t->name, columns, expert);
        if (to == t->type) {
            status = ap_gguf_writer_data(w, run.from, step * from_bytes, err);
        } else {
            ap_pool_run(q->pool, (size_t)step, 1, encode_rows, &run);
            status = ap_gguf_writer_data(w, run.out, step * to_bytes, err);
        }
        q->done_bytes += step * from_bytes;
        if (q->options->progress)
            q->options->progress(q->options->progress_context, q->done_bytes, q->total_bytes);
    }
    ap_free(given);
    ap_free(run.out);
    ap_free(run.floats);
    return status;
}

static ap_status run(quantize *q, const ap_mix *mix, int out_fd, ap_error *err)
{
    ap_gguf_writer *w = NULL;
    q->types = ap_alloc_array(q->source->tensor_count ? q->source->tensor_count : 1, sizeof *q->types);
    ap_status status = q->types ? choose_types(q, mix, err) : ap_fail_nomem(err, q->source->tensor_count * sizeof *q->types);
    if (status == AP_OK && q->imatrix)
        status = ap_imatrix_check(q->imatrix, q->source->tensors, q->source->tensor_count, err);
    if (status == AP_OK)
        status = ap_gguf_writer_create(&w, AP_GGUF_ALIGNMENT_DEFAULT, err);
    if (status == AP_OK)
        status = write_header(q, mix, w, out_fd, err);
    for (uint32_t i = 0; i < q->source->tensor_count && status == AP_OK; i++) {
        status = write_tensor(q, i, w, err);
        q->report->changed_count += q->types[i] != q->source->tensors[i].type;
    }
    if (status == AP_OK)
        status = ap_gguf_writer_end(w, &q->report->written_bytes, err);
    ap_gguf_writer_destroy(&w);
    ap_free(q->types);
    return status;
}

static void add_notes(const quantize *q)
{
    char *notes = q->report->notes;
    size_t room = sizeof q->report->notes;
    if (q->source->note)
        ap_str_append(notes, room, "%s", q->source->note);
    if (q->short_count) {
        ap_str_append(notes, room, "%u of %u matrices have rows that blocks of their type in %s do not divide, and are larger for it: ",
                      q->short_count, q->matrix_count, q->options->type);
        ap_type_counts_add(notes, room, q->short_types);
        ap_str_append(notes, room, ". ");
    }
}

typedef struct reading {
    const ap_source *source;
    bool *is_read;
} reading;

static ap_status check_part(void *context, const ap_wanted *w, ap_error *err)
{
    const reading *r = context;
    ap_source_part part;
    AP_TRY(ap_source_find_part(r->source, w, &part, err));
    if (part.tensor)
        r->is_read[part.tensor - r->source->tensors] = true;
    return AP_OK;
}

/* A model that could not be opened later is refused before a byte is written: its sizes, its tensors, its vocabulary. */
static ap_status check_model(const ap_source *source, ap_error *err)
{
    const ap_arch *arch;
    ap_hparams sizes;
    ap_vocab *vocab = NULL;
    reading r = {.source = source};
    AP_TRY(ap_source_sizes(source, &arch, &sizes, err));
    r.is_read = ap_alloc_zero(source->tensor_count ? source->tensor_count : 1, sizeof *r.is_read);
    if (!r.is_read)
        return ap_fail_nomem(err, source->tensor_count);
    ap_status status = ap_rules_walk(arch, &sizes, check_part, &r, err);
    if (status == AP_OK)
        status = ap_source_refuse_unread(source, r.is_read, err);
    if (status == AP_OK)
        status = ap_vocab_create(&vocab, source->keys, err);
    ap_vocab_close(&vocab);
    ap_free(r.is_read);
    return status;
}

ap_status ap_model_quantize(const ap_import_file *files, size_t file_count, int out_fd, const ap_quantize_options *options,
                            ap_quantize_report *report, ap_error *err)
{
    *report = (ap_quantize_report){0};
    if (options->size != sizeof *options)
        return ap_fail(err, AP_E_ARG, "the options have %zu bytes, this library expects %zu", options->size, sizeof *options);
    const ap_mix *mix = ap_mix_find(options->type);
    if (!mix)
        return ap_fail(err, AP_E_ARG, "'%.40s' is no type to quantise to; there are: %s", options->type, ap_mix_names());
    ap_source source;
    AP_TRY(ap_source_is_folder(files, file_count) ? ap_source_open_fused(&source, files, file_count, err)
                                                  : ap_source_open_files(&source, files, file_count, err));
    quantize q = {.source = &source, .options = options, .report = report};
    ap_status status = AP_OK;
    if (ap_gguf_find(source.keys, AP_STR("aperto.pack.version")))
        status = ap_fail(err, AP_E_ARG, "this file is packed already; quantise the file it was made of");
    if (status == AP_OK)
        status = check_model(&source, err);
    if (status == AP_OK && options->imatrix_fd >= 0)
        status = ap_imatrix_open(&q.imatrix, options->imatrix_fd, err);
    if (status == AP_OK)
        status = ap_pool_create(&q.pool, options->threads, err);
    if (status == AP_OK)
        status = run(&q, mix, out_fd, err);
    if (status == AP_OK)
        add_notes(&q);
    report->source_bytes = source.file_bytes;
    ap_pool_destroy(&q.pool);
    ap_imatrix_close(&q.imatrix);
    ap_source_close(&source);
    return status;
}
