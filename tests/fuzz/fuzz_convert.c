/* A folder (model_input.h) converted to a GGUF file; or a GGUF file, whole or in parts, converted to a folder in several files.
 *
 * Holds: what is refused is refused in one line and before a byte is written; what is converted can be imported and opened.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>

#include "model_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILES_MAX = 64, SHARD_BYTES = 4096 };

typedef struct folder {
    ap_import_file files[FILES_MAX];
    char names[FILES_MAX][64];
    size_t count;
} folder;

static void add_file(folder *f, const char *name, int fd)
{
    hold(f->count < FILES_MAX);
    (void)snprintf(f->names[f->count], sizeof f->names[0], "%s", name);
    f->files[f->count] = (ap_import_file){f->names[f->count], fd};
    f->count++;
}

static ap_status keep_document(void *context, const char *name, const char *bytes, size_t count, ap_error *err)
{
    add_file(context, name, file_of(bytes, count));
    return AP_OK;
}

static void must_open(const ap_import_file *files, size_t count)
{
    int packed = memfd_create("packed", MFD_CLOEXEC);
    ap_import_options options = {.size = sizeof options};
    ap_import_report report;
    ap_model *model;
    ap_error err = {0};
    ap_status status = count == 1 ? ap_model_import(files[0].fd, packed, &options, &report, &err)
                                  : ap_model_import_files(files, count, packed, &options, &report, &err);
    if (status != AP_OK)
        (void)fprintf(stderr, "what was converted is refused: %s\n", err.message);
    hold(status == AP_OK && ap_model_open(&model, packed, &err) == AP_OK);
    ap_model_close(&model);
    close(packed);
}

static void to_gguf(const model_input *in)
{
    ap_convert_options options = {.size = sizeof options};
    ap_convert_report report;
    ap_error err = {0};
    int out = memfd_create("gguf", MFD_CLOEXEC);
    if (ap_model_convert_to_gguf(in->files, in->count, out, &options, &report, &err) == AP_OK)
        must_open(&(ap_import_file){NULL, out}, 1);
    else
        hold_refusal(&err, out);
    close(out);
}

static void to_folder(const ap_import_file *files, size_t count)
{
    static folder f;
    f.count = 0;
    ap_convert_report report = {.shard_count = 1};
    ap_error err = {0};
    ap_status status = AP_OK;
    /* More files than there is room for: the first is enough. */
    for (uint32_t shard = 0; status == AP_OK && shard < report.shard_count && report.shard_count <= FILES_MAX / 2; shard++) {
        char name[64];
        int out = memfd_create("weights", MFD_CLOEXEC);
        ap_convert_options options = {.size = sizeof options, .shard_bytes_max = SHARD_BYTES, .shard = shard, .document = keep_document,
                                      .document_context = &f};
        status = ap_model_convert_to_folder(files, count, out, &options, &report, &err);
        if (status != AP_OK) {
            hold(shard == 0);
            hold_refusal(&err, out);
        }
        (void)snprintf(name, sizeof name, AP_CONVERT_SHARD_NAME, shard + 1, report.shard_count);
        add_file(&f, report.shard_count == 1 ? "model.safetensors" : name, out);
    }
    if (status == AP_OK && report.shard_count <= FILES_MAX / 2)
        must_open(f.files, f.count);
    for (size_t i = 0; i < f.count; i++)
        close(f.files[i].fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= 4 && memcmp(data, "GGUF", 4) == 0) {
        int fd = file_of(data, size);
        to_folder(&(ap_import_file){NULL, fd}, 1);
        close(fd);
        return 0;
    }
    model_input in = open_input(data, size);
    if (is_in_parts(data, size))
        to_folder(in.files, in.count);
    else
        to_gguf(&in);
    close_input(&in);
    return 0;
}
