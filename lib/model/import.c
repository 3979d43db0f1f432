/* import.c - from a source (source.h) to a packed file.
 *
 * First everything is checked that open.c will rely on: architecture, sizes, every
 * tensor the family needs, the vocabulary.  Only then is a byte written.  Weights
 * stream through a buffer of a few hundred rows, so memory does not grow with the model.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "model/mix.h"
#include "model/model.h"
#include "model/rules.h"
#include "model/source.h"

/* Rows that are packed at a time: a multiple of 16 whose source stays in the cache. */
enum { BUFFER_BYTES = 4 * 1024 * 1024 };

typedef struct import {
    const ap_source *source;
    const ap_arch *arch;
    ap_hparams sizes;
    bool decode_to_f32, is_tied;
    uint32_t widened[AP_TYPE_ROOM], widened_count; /* matrices of types that are only decoded, so kept as another */
    /* What will be written, and where it comes from. */
    ap_packed_tensor *tensors;
    ap_source_part *parts;
    uint32_t count, room, idle_count;
    ap_arena *arena;
    uint64_t parameter_count, source_bytes_total, source_bytes_done;
    uint64_t type_bytes[AP_TYPE_ROOM]; /* source bytes per type, to name the most frequent */
    const ap_import_options *options;
    ap_import_report *report;
} import;

/* ---- Checking ---- */

static ap_status add_tensor(void *context, const ap_wanted *wanted, ap_error *err)
{
    import *im = context;
    ap_source_part part;
    AP_TRY(ap_source_find_part(im->source, wanted, &part, err));
    const ap_gguf_tensor *source = part.tensor;
    if (!source) {
        if (wanted->rule->role == AP_ROLE_OUTPUT)
            im->is_tied = true;
        return AP_OK;
    }
    if (!ap_quant_decodes(source->type))
        return ap_fail(err, AP_E_UNSUPPORTED, "tensor '%s' has the type %u (%s), which this release cannot run", wanted->name,
                       (unsigned)source->type, ap_type_info_of(source->type)->name);
    bool is_vector = wanted->rule->rows == AP_EXTENT_NONE;
    if (is_vector && source->type != AP_TYPE_F32 && source->type != AP_TYPE_F16 && source->type != AP_TYPE_BF16)
        return ap_fail(err, AP_E_UNSUPPORTED, "tensor '%s' is a vector of type %s; F32, F16 and BF16 are read", wanted->name,
                       ap_type_info_of(source->type)->name);
    ap_packed_tensor *t = &im->tensors[im->count];
    char *name = ap_arena_copy(im->arena, wanted->name, strlen(wanted->name));
    if (!name)
        return ap_fail_nomem(err, sizeof wanted->name);
    *t = (ap_packed_tensor){.name = ap_str_from(name), .columns = wanted->columns, .rows = is_vector ? 1 : wanted->rows};
    /* Vectors are few and read by everybody: always f32. */
    ap_type kept = im->source->kept ? im->source->kept[source - im->source->tensors] : source->type;
    t->type = is_vector || im->decode_to_f32 ? AP_TYPE_F32 : ap_quant_supports(kept) ? kept : AP_TYPE_Q8_0;
    if (!is_vector && !ap_quant_supports(source->type)) {
        im->widened[source->type % AP_TYPE_ROOM]++;
        im->widened_count++;
    }
    bool is_by_row = is_vector || wanted->rule->role == AP_ROLE_POSITIONS || wanted->rule->role == AP_ROLE_TOKEN_TYPES;
    t->layout = is_by_row ? AP_LAYOUT_ROWS : AP_LAYOUT_PANELS;
    if (is_by_row)
        t->bytes = ap_row_bytes(t->type, (uint32_t)t->columns) * t->rows;
    else
        AP_TRY(ap_pack_bytes(t->type, (uint32_t)t->rows, (uint32_t)t->columns, &t->bytes, err));
    uint64_t source_bytes = ap_row_bytes(source->type, (uint32_t)t->columns) * t->rows;
    im->parts[im->count++] = part;
    im->parameter_count += t->columns * t->rows;
    im->source_bytes_total += source_bytes;
    if (!is_vector)
        im->type_bytes[kept % AP_TYPE_ROOM] += source_bytes;
    return AP_OK;
}

/* An embedding that is not also the output is only ever read by row, so it stays in rows. */
static void keep_embedding_in_rows(import *im)
{
    for (uint32_t i = 0; i < im->count && !im->is_tied; i++) {
        ap_packed_tensor *t = &im->tensors[i];
        if (ap_str_is(t->name, "token_embd.weight")) {
            t->layout = AP_LAYOUT_ROWS;
            t->bytes = ap_row_bytes(t->type, (uint32_t)t->columns) * t->rows;
        }
    }
}

static ap_status refuse_unread(import *im, ap_error *err)
{
    bool *is_read = ap_arena_zero(im->arena, im->source->tensor_count, sizeof *is_read);
    if (!is_read)
        return ap_fail_nomem(err, im->source->tensor_count * sizeof *is_read);
    for (uint32_t i = 0; i < im->count; i++)
        is_read[im->parts[i].tensor - im->source->tensors] = true;
    for (uint32_t i = 0; i < im->source->tensor_count; i++)
        im->idle_count += !is_read[i];
    return ap_source_refuse_unread(im->source, is_read, err);
}

static ap_status count_tensor(void *context, const ap_wanted *wanted, ap_error *err)
{
    ((import *)context)->room++;
    return AP_OK;
}

static ap_status plan(import *im, ap_error *err)
{
    AP_TRY(ap_source_sizes(im->source, &im->arch, &im->sizes, err));
    AP_TRY(ap_rules_walk(im->arch, &im->sizes, count_tensor, im, err));
    if (im->room > AP_GGUF_TENSORS_MAX)
        return ap_fail(err, AP_E_LIMIT, "a model of this shape has up to %u tensors; at most %d are allowed", im->room,
                       AP_GGUF_TENSORS_MAX);
    im->tensors = ap_arena_zero(im->arena, im->room, sizeof *im->tensors);
    im->parts = ap_arena_zero(im->arena, im->room, sizeof *im->parts);
    if (!im->tensors || !im->parts)
        return ap_fail_nomem(err, im->room * sizeof *im->tensors);
    AP_TRY(ap_rules_walk(im->arch, &im->sizes, add_tensor, im, err));
    AP_TRY(refuse_unread(im, err));
    keep_embedding_in_rows(im);
    return AP_OK;
}

/* Checks the vocabulary as well: what cannot be opened later is refused now. */
static ap_status report(import *im, ap_error *err)
{
    ap_import_report *r = im->report;
    *r = (ap_import_report){.parameter_count = im->parameter_count, .context_tokens = im->sizes.context_tokens};
    (void)snprintf(r->architecture, sizeof r->architecture, "%s", im->arch->name);
    ap_gguf_copy_str(im->source->keys, "general.name", r->name, sizeof r->name);
    ap_gguf_copy_str(im->source->keys, "general.license", r->license, sizeof r->license);
    (void)snprintf(r->quantization, sizeof r->quantization, "%s", ap_quantization_name(im->source->keys, im->type_bytes));
    ap_vocab *vocab;
    AP_TRY(ap_vocab_create(&vocab, im->source->keys, err));
    r->has_chat_template = ap_vocab_has_template(vocab);
    ap_vocab_describe_chat(vocab, r);
    char *notes = r->notes;
    size_t room = sizeof r->notes;
    if (vocab->template_status != AP_OK)
        ap_str_append(notes, room, "The chat template cannot be used: %.200s. ", vocab->template_error.message);
    else if (ap_vocab_has_ids_only(im->source->keys))
        ap_str_append(notes, room, "There is no tokenizer: the model takes token ids and no text. ");
    else if (!r->has_chat_template && !im->arch->is_encoder)
        ap_str_append(notes, room, "There is no chat template: only plain completion works. ");
    if (r->chat & AP_CHAT_BOS_TWICE)
        ap_str_append(notes, room, "Warning: the chat template writes BOS twice, so chats begin with it twice. ");
    else if ((r->chat & AP_CHAT_BOS) && (r->chat & AP_CHAT_TOKENIZER_BOS))
        ap_str_append(notes, room, "Warning: BOS is doubled where a rendered chat is tokenised as plain text, since the chat template writes "
                      "it and the tokenizer adds it; chats here have it once. ");
    if (im->arch->is_encoder)
        ap_str_append(notes, room, "This is an encoder: it makes embeddings%s and no text. ", im->sizes.label_count ? " and scores" : "");
    ap_quantization_note(notes, room, r->quantization, im->type_bytes);
    if (im->widened_count && !im->decode_to_f32) {
        ap_str_append(notes, room, "Weights of types that are only decoded (");
        ap_type_counts_add(notes, room, im->widened);
        ap_str_append(notes, room, ") were packed as Q8_0. ");
    }
    if (im->source->note && !im->decode_to_f32)
        ap_str_append(notes, room, "%s", im->source->note);
    if (im->idle_count)
        ap_str_append(notes, room, "%u tensors of the file are not used.", im->idle_count);
    ap_vocab_close(&vocab);
    return AP_OK;
}

/* ---- Writing ---- */

/* Space for the rows that are at work: as the source gives them, decoded, encoded again, and packed. */
typedef struct work_rows {
    uint64_t rows_max;
    unsigned char *given, *encoded, *packed;
    float *decoded;
} work_rows;

/* A few rows in the type in which they are kept. */
static const unsigned char *convert_rows(const ap_packed_tensor *t, const ap_gguf_tensor *source, const unsigned char *from,
                                         uint64_t rows, const work_rows *work)
{
    if (t->type == source->type)
        return from;
    size_t count = (size_t)(rows * t->columns);
    ap_decode(source->type, from, count, work->decoded);
    if (t->type == AP_TYPE_F32)
        return (const unsigned char *)work->decoded;
    ap_encode(t->type, work->decoded, count, NULL, work->encoded);
    return work->encoded;
}

static ap_status write_tensor(import *im, uint32_t index, ap_gguf_writer *writer, const work_rows *work, ap_error *err)
{
    const ap_packed_tensor *t = &im->tensors[index];
    ap_source_part part = im->parts[index];
    const ap_gguf_tensor *source = part.tensor;
    uint64_t source_row = ap_row_bytes(source->type, (uint32_t)t->columns);
    for (uint64_t row = 0; row < t->rows; row += work->rows_max) {
        uint32_t rows = (uint32_t)(t->rows - row < work->rows_max ? t->rows - row : work->rows_max);
        const unsigned char *kept = ap_source_rows(im->source, source, part.row + row, rows, work->given) + part.skip;
        kept = convert_rows(t, source, kept, rows, work);
        if (t->layout == AP_LAYOUT_PANELS) {
            ap_pack_rows(t->type, (uint32_t)t->columns, rows, kept, work->packed);
            AP_TRY(ap_gguf_writer_data(writer, work->packed, ap_panel_count(rows) * ap_panel_bytes(t->type, (uint32_t)t->columns), err));
        } else {
            AP_TRY(ap_gguf_writer_data(writer, kept, ap_row_bytes(t->type, (uint32_t)t->columns) * rows, err));
        }
        im->source_bytes_done += rows * source_row;
        if (im->options->progress)
            im->options->progress(im->options->progress_context, im->source_bytes_done, im->source_bytes_total);
    }
    return AP_OK;
}

static ap_status write_all(import *im, ap_gguf_writer *writer, int out_fd, ap_error *err)
{
    uint64_t panel_max = 0, columns_max = 0, source_row_max = 0, kept_row_max = 0;
    for (uint32_t i = 0; i < im->count; i++) {
        const ap_packed_tensor *t = &im->tensors[i];
        uint64_t panel = ap_panel_bytes(t->type, (uint32_t)t->columns), row = ap_source_row_bytes(im->parts[i].tensor);
        panel_max = panel > panel_max ? panel : panel_max;
        columns_max = t->columns > columns_max ? t->columns : columns_max;
        source_row_max = row > source_row_max ? row : source_row_max;
        row = ap_row_bytes(t->type, (uint32_t)t->columns);
        kept_row_max = row > kept_row_max ? row : kept_row_max;
    }
    uint64_t panels = BUFFER_BYTES / panel_max + 1;
    work_rows work = {.rows_max = panels * AP_PANEL_ROWS};
    work.given = ap_alloc_array((size_t)work.rows_max, (size_t)source_row_max);
    work.encoded = ap_alloc_array((size_t)work.rows_max, (size_t)kept_row_max);
    work.packed = ap_alloc_aligned((size_t)(panels * panel_max));
    work.decoded = ap_alloc_array((size_t)work.rows_max, (size_t)columns_max * sizeof *work.decoded);
    bool has_all = work.given && work.encoded && work.packed && work.decoded;
    ap_status status = has_all ? AP_OK : ap_fail_nomem(err, (size_t)(panels * panel_max));
    if (status == AP_OK)
        status = ap_gguf_writer_begin(writer, out_fd, err);
    for (uint32_t i = 0; i < im->count && status == AP_OK; i++)
        status = write_tensor(im, i, writer, &work, err);
    ap_free(work.given);
    ap_free(work.encoded);
    ap_free(work.packed);
    ap_free(work.decoded);
    return status == AP_OK ? ap_gguf_writer_end(writer, &im->report->packed_bytes, err) : status;
}

static ap_status run(import *im, int out_fd, ap_error *err)
{
    ap_arena arena = {0};
    im->arena = &arena;
    ap_gguf_writer *writer = NULL;
    ap_status status = plan(im, err);
    if (status == AP_OK)
        status = report(im, err);
    if (status == AP_OK)
        status = ap_packed_plan(&writer, im->source->keys, ap_str_from(im->options->source_sha256 ? im->options->source_sha256 : ""),
                                im->tensors, im->count, err);
    if (status == AP_OK)
        status = write_all(im, writer, out_fd, err);
    ap_gguf_writer_destroy(&writer);
    ap_arena_deinit(&arena);
    return status;
}

static ap_status import_source(ap_source *source, int out_fd, const ap_import_options *options, ap_import_report *report_out,
                               ap_error *err)
{
    import im = {.source = source, .decode_to_f32 = options->decode_to_f32, .options = options, .report = report_out};
    ap_status status = run(&im, out_fd, err);
    report_out->source_bytes = source->file_bytes;
    ap_source_close(source);
    return status;
}

static ap_status check_options(const ap_import_options *options, ap_error *err)
{
    if (options->size != sizeof *options)
        return ap_fail(err, AP_E_ARG, "the options have %zu bytes, this library expects %zu", options->size,
                       sizeof *options);
    return AP_OK;
}

/* ---- What is packed already ---- */

static ap_status copy_whole(int from, int to, uint64_t bytes, const ap_import_options *options, ap_error *err)
{
    enum { PIECE_BYTES = 1 << 20 };
    unsigned char *piece = ap_alloc(PIECE_BYTES);
    ap_status status = piece ? AP_OK : ap_fail_nomem(err, (size_t)PIECE_BYTES);
    for (uint64_t done = 0; done < bytes && status == AP_OK;) {
        ssize_t n = pread(from, piece, PIECE_BYTES, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            status = ap_fail(err, AP_E_IO, "reading failed: %s", n ? strerror(errno) : "the file became shorter");
        else
            status = ap_file_write_all(to, piece, (size_t)n, err);
        done += n > 0 ? (uint64_t)n : 0;
        if (options->progress)
            options->progress(options->progress_context, done, bytes);
    }
    ap_free(piece);
    return status;
}

/* Whoever packed it is a stranger as well: all that is checked when a packed file is opened is checked here, and the same
 * again whenever the copy is opened.  Bytes of weights mean numbers, whatever they are. */
static ap_status import_packed(int source_fd, int out_fd, const ap_import_options *options, ap_import_report *r, ap_error *err)
{
    ap_model *model;
    AP_TRY(ap_model_open(&model, source_fd, err));
    const ap_model_info *info = ap_model_info_of(model);
    *r = (ap_import_report){.parameter_count = info->parameter_count, .source_bytes = info->file_bytes, .packed_bytes = info->file_bytes,
                            .context_tokens = info->context_tokens, .has_chat_template = info->has_chat_template};
    memcpy(r->architecture, info->architecture, sizeof r->architecture);
    memcpy(r->name, info->name, sizeof r->name);
    memcpy(r->license, info->license, sizeof r->license);
    memcpy(r->quantization, info->quantization, sizeof r->quantization);
    ap_vocab_describe_chat(ap_model_vocab(model), r);
    ap_str_append(r->notes, sizeof r->notes, "It came packed: it was checked and copied.");
    ap_status status = options->decode_to_f32 ? ap_fail(err, AP_E_ARG, "this file is packed already")
                                              : copy_whole(source_fd, out_fd, info->file_bytes, options, err);
    ap_model_close(&model);
    return status;
}

ap_status ap_model_import(int source_fd, int out_fd, const ap_import_options *options, ap_import_report *report_out,
                          ap_error *err)
{
    ap_source source;
    AP_TRY(check_options(options, err));
    AP_TRY(ap_source_open_gguf(&source, source_fd, err));
    if (ap_gguf_find(source.keys, AP_STR("aperto.pack.version"))) {
        ap_source_close(&source);
        return import_packed(source_fd, out_fd, options, report_out, err);
    }
    return import_source(&source, out_fd, options, report_out, err);
}

ap_status ap_model_import_files(const ap_import_file *files, size_t file_count, int out_fd, const ap_import_options *options,
                                ap_import_report *report_out, ap_error *err)
{
    ap_source source;
    AP_TRY(check_options(options, err));
    AP_TRY(ap_source_open_files(&source, files, file_count, err));
    return import_source(&source, out_fd, options, report_out, err);
}
