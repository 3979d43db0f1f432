/* Conversion of every family: a folder of golden/arch becomes a GGUF file and that a folder again, and the logits stay the same in
 * every bit.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "golden.h"
#include "support.h"
#include "tiny_model.h"

static ap_buf logits_of(int packed, const json_t *record)
{
    ap_model *model;
    assert_ok(ap_model_open(&model, packed, err));
    ap_buf logits = golden_logits(model, record);
    ap_model_close(&model);
    close(packed);
    return logits;
}

static void expect_same(const ap_buf *expected, int packed, const json_t *record)
{
    ap_buf got = logits_of(packed, record);
    assert_int_equal(got.len, expected->len);
    assert_memory_equal(got.ptr, expected->ptr, got.len);
    ap_buf_deinit(&got);
}

/* ---- The folder that is written ---- */

typedef struct made_folder {
    ap_import_file files[16];
    char names[16][64];
    size_t count;
} made_folder;

static int add_file(made_folder *f, const char *name)
{
    assert_true(f->count < 16);
    (void)snprintf(f->names[f->count], sizeof f->names[0], "%s", name);
    f->files[f->count].name = f->names[f->count];
    return f->files[f->count++].fd = ap_test_temporary();
}

static ap_status keep_document(void *context, const char *name, const char *bytes, size_t count, ap_error *err)
{
    return ap_file_write_all(add_file(context, name), bytes, count, err);
}

/* In several files. */
static void make_folder(made_folder *f, int gguf, uint64_t shard_bytes)
{
    ap_import_file source = {.fd = gguf};
    ap_convert_report report = {.shard_count = 1};
    for (uint32_t shard = 0; shard < report.shard_count; shard++) {
        int weights = ap_test_temporary();
        ap_convert_options options = {.size = sizeof options, .shard_bytes_max = shard_bytes, .shard = shard, .document = keep_document,
                                      .document_context = f};
        assert_ok(ap_model_convert_to_folder(&source, 1, weights, &options, &report, err));
        char name[64];
        (void)snprintf(name, sizeof name, AP_CONVERT_SHARD_NAME, shard + 1, report.shard_count);
        close(add_file(f, name));
        f->files[f->count - 1].fd = weights;
    }
    assert_true(report.shard_count > 1);
}

static void expect_folder(int gguf, uint64_t shard_bytes, const ap_buf *expected, const json_t *record)
{
    made_folder f = {.count = 0};
    int packed = ap_test_temporary();
    ap_import_options import = {.size = sizeof import};
    ap_import_report imported;
    make_folder(&f, gguf, shard_bytes);
    assert_ok(ap_model_import_files(f.files, f.count, packed, &import, &imported, err));
    for (size_t i = 0; i < f.count; i++)
        close(f.files[i].fd);
    expect_same(expected, packed, record);
}

/* ---- Both ways ---- */

static void there_the_same_bits(const char *parent, const char *name, bool and_back)
{
    char path[600];
    golden_folder folder;
    ap_error error = {0};
    ap_import_options import = {.size = sizeof import};
    ap_convert_options convert = {.size = sizeof convert};
    ap_import_report imported;
    ap_convert_report report;
    int direct = ap_test_temporary(), gguf = ap_test_temporary(), packed = ap_test_temporary();
    (void)snprintf(path, sizeof path, "%s/%s", parent, name);
    ap_status status = golden_import(path, direct, false, &imported, &error);
    if (status == AP_E_UNSUPPORTED && strstr(error.message, "'architectures' is"))
        skip();
    if (status != AP_OK)
        fail_msg("%s: %s", path, error.message);
    json_t *record = golden_record(path);
    ap_model *model;
    assert_ok(ap_model_open(&model, direct, err));
    and_back = and_back && !ap_model_info_of(model)->is_encoder; /* folders of encoders are not written */
    ap_model_close(&model);
    ap_buf expected = logits_of(direct, record);

    golden_open(&folder, path);
    assert_ok(ap_model_convert_to_gguf(folder.files, folder.count, gguf, &convert, &report, err));
    golden_close(&folder);
    assert_true(report.tensor_count > 0);
    assert_ok(ap_model_import(gguf, packed, &import, &imported, err));
    expect_same(&expected, packed, record);
    if (and_back)
        expect_folder(gguf, 150000, &expected, record);

    ap_buf_deinit(&expected);
    json_decref(record);
    close(gguf);
}

static void a_family(void **state) { there_the_same_bits("golden/arch", *state, true); }
static void a_quantized_folder(void **state) { there_the_same_bits("golden/quantized", *state, false); }

int main(void)
{
    int failed = golden_each("convert", "golden/arch", a_family);
    return golden_each("convert_quantized", "golden/quantized", a_quantized_folder) || failed;
}
