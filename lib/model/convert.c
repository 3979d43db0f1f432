/* convert.c - from a Hugging Face folder to a GGUF file.
 *
 * The source has what will be written (source_fused.c): its keys and rows go out as they are.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "model/convert.h"

#include <math.h>
#include <stdio.h>

#include "base/alloc.h"

/* ---- Options ---- */

ap_status ap_convert_check_options(const ap_convert_options *options, ap_error *err)
{
    if (options->size != sizeof *options)
        return ap_fail(err, AP_E_ARG, "the options have %zu bytes, this library expects %zu", options->size, sizeof *options);
    return AP_OK;
}

/* ---- Writing ---- */

enum { BUFFER_BYTES = 8 * 1024 * 1024 };

static uint64_t rows_of(const ap_gguf_tensor *t) { return t->dims[1] * t->dims[2] * t->dims[3]; }
static uint64_t rows_at_once(const ap_gguf_tensor *t) { return BUFFER_BYTES / ap_source_row_bytes(t) + 1; }

static ap_status write_rows(const ap_source *s, ap_gguf_writer *w, const ap_convert_options *options, ap_error *err)
{
    uint64_t done = 0, total = 0, room_bytes = 1;
    for (uint32_t i = 0; i < s->tensor_count; i++) {
        uint64_t bytes = rows_at_once(&s->tensors[i]) * ap_source_row_bytes(&s->tensors[i]);
        room_bytes = bytes > room_bytes ? bytes : room_bytes;
        total += s->tensors[i].bytes;
    }
    unsigned char *room = ap_alloc_array((size_t)room_bytes, 1);
    ap_status status = room ? AP_OK : ap_fail_nomem(err, (size_t)room_bytes);
    for (uint32_t i = 0; i < s->tensor_count; i++) {
        const ap_gguf_tensor *t = &s->tensors[i];
        uint64_t rows = rows_of(t), at_once = rows_at_once(t), step;
        for (uint64_t row = 0; row < rows && status == AP_OK; row += step) {
            step = rows - row < at_once ? rows - row : at_once;
            uint64_t bytes = step * ap_source_row_bytes(t);
            status = ap_gguf_writer_data(w, ap_source_rows(s, t, row, step, room), bytes, err);
            done += bytes;
            if (options->progress)
                options->progress(options->progress_context, done, total);
        }
    }
    ap_free(room);
    return status;
}

/* ---- Other readers ---- */

/* What llama.cpp computes otherwise, as docs/convert.md lists it (but for its table of GELU, which only rounds). */
static void tell_elsewhere(const ap_arch *arch, const ap_hparams *s, const ap_source *source, char *out, size_t room)
{
    bool slides = false, is_gemma = strncmp(arch->name, "gemma", 5) == 0;
    float by_width = 1.0f / sqrtf((float)(arch->score_width_layers == s->layer_count ? s->width / s->head_count : s->head_width));
    for (uint32_t i = 0; i < s->layer_count; i++)
        slides = slides || s->is_sliding[i];
    const struct {
        bool is_so;
        const char *what;
    } known[] = {
        {slides && (arch == &ap_arch_llama || arch == &ap_arch_qwen2 || arch == &ap_arch_phi3), "every layer sees the whole context, also those with a window"},
        {is_gemma && s->score_scale != by_width, "scores are divided by the root of the head's width, not of query_pre_attn_scalar"},
        {arch->is_yarn_exact && s->rope.is_yarn, "the ramp of YaRN begins and ends at whole pairs"},
        {arch == &ap_arch_qwen3moe && !s->is_router_normed, "the weights of the chosen experts are scaled to 1 in sum"},
        {ap_source_find(source, AP_STR("rope_factors_long.weight")) && s->rope.original_tokens < 256,
         "contexts are multiples of 256 tokens, so the short list of rotary factors is never taken"},
        {arch == &ap_arch_falcon && s->alibi_bias > 0, "the file is refused, for its biases and ALiBi"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0] && !out[0]; i++)
        if (known[i].is_so)
            (void)snprintf(out, room, "llama.cpp computes something else from this file: %s (docs/convert.md)", known[i].what);
}

static ap_status write_file(const ap_source *s, int out_fd, const ap_convert_options *options, ap_convert_report *report, ap_error *err)
{
    ap_gguf_writer *w;
    AP_TRY(ap_gguf_writer_create(&w, AP_GGUF_ALIGNMENT_DEFAULT, err));
    ap_status status = ap_gguf_writer_copy_keys(w, s->keys, NULL, err);
    for (uint32_t i = 0; i < s->tensor_count && status == AP_OK; i++) {
        const ap_gguf_tensor *t = &s->tensors[i];
        status = ap_gguf_writer_tensor(w, t->name, t->type, t->dim_count, t->dims, err);
    }
    if (status == AP_OK)
        status = ap_gguf_writer_begin(w, out_fd, err);
    if (status == AP_OK)
        status = write_rows(s, w, options, err);
    if (status == AP_OK)
        status = ap_gguf_writer_end(w, &report->written_bytes, err);
    ap_gguf_writer_destroy(&w);
    return status;
}

ap_status ap_model_convert_to_gguf(const ap_import_file *files, size_t file_count, int out_fd, const ap_convert_options *options,
                                   ap_convert_report *report, ap_error *err)
{
    *report = (ap_convert_report){0};
    AP_TRY(ap_convert_check_options(options, err));
    ap_source source;
    AP_TRY(ap_source_open_fused(&source, files, file_count, err));
    const ap_arch *arch;
    ap_hparams sizes;
    ap_status status = ap_source_sizes(&source, &arch, &sizes, err);
    if (status == AP_OK)
        tell_elsewhere(arch, &sizes, &source, report->elsewhere, sizeof report->elsewhere);
    if (status == AP_OK)
        status = write_file(&source, out_fd, options, report, err);
    if (status == AP_OK)
        (void)snprintf(report->notes, sizeof report->notes, "%s", source.note);
    report->source_bytes = source.file_bytes;
    report->tensor_count = source.tensor_count;
    ap_source_close(&source);
    return status;
}
