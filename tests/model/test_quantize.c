/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "format/gguf_write.h"
#include "model/mix.h"
#include "quant/quant.h"
#include "tiny_model.h"

static const char *const types[] = {"F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_XS"};
enum { TYPES = sizeof types / sizeof *types };

static const ap_tiny_model model = {.seed = 31, .layers = 1, .ffn = 256};

typedef struct opened {
    ap_mapping file;
    ap_gguf *gguf;
} opened;

static opened open_file(int fd)
{
    opened o;
    assert_ok(ap_file_map(fd, &o.file, err));
    assert_ok(ap_gguf_open(&o.gguf, o.file.ptr, o.file.len, err));
    return o;
}

static void close_file(opened *o)
{
    ap_gguf_close(&o->gguf);
    ap_file_unmap(&o->file);
}

static int quantized(int source, const char *type, unsigned threads, int imatrix)
{
    int fd = ap_test_temporary();
    ap_quantize_options options = {.size = sizeof options, .type = type, .threads = threads, .imatrix_fd = imatrix};
    ap_quantize_report report;
    assert_ok(ap_model_quantize(&(ap_import_file){.fd = source}, 1, fd, &options, &report, err));
    assert_true(report.written_bytes == (uint64_t)lseek(fd, 0, SEEK_END));
    assert_true(report.changed_count > 0);
    return fd;
}

static void expect_refused(int source, const char *type, int imatrix, ap_status status, const char *word)
{
    int fd = ap_test_temporary();
    ap_quantize_options options = {.size = sizeof options, .type = type, .imatrix_fd = imatrix};
    ap_quantize_report report;
    ap_error error = {0};
    assert_int_equal(ap_model_quantize(&(ap_import_file){.fd = source}, 1, fd, &options, &report, &error), status);
    if (!strstr(error.message, word))
        fail_msg("'%s' does not say '%s'", error.message, word);
    close(fd);
}

static ap_type type_of(const ap_gguf *g, const char *name)
{
    const ap_gguf_tensor *t = ap_gguf_find_tensor(g, ap_str_from(name));
    assert_non_null(t);
    return t->type;
}

/* Each row is what the encoder makes of the source's row, whatever the number of threads; the rest is copied. */
static void rows_are_encoded_and_the_rest_is_copied(void **state)
{
    int source_fd = ap_tiny_model_file(&model);
    opened source = open_file(source_fd);
    for (int i = 0; i < TYPES; i++) {
        int one = quantized(source_fd, types[i], 1, -1), three = quantized(source_fd, types[i], 3, -1);
        opened a = open_file(one), b = open_file(three);
        assert_int_equal(a.file.len, b.file.len);
        assert_memory_equal(a.file.ptr, b.file.ptr, a.file.len);
        assert_int_equal(ap_gguf_tensor_count(a.gguf), ap_gguf_tensor_count(source.gguf));
        assert_int_equal(ap_gguf_key_count(a.gguf), ap_gguf_key_count(source.gguf) + 3); /* type, version, alignment */
        for (uint32_t t = 0; t < ap_gguf_tensor_count(a.gguf); t++) {
            const ap_gguf_tensor *from = ap_gguf_tensor_at(source.gguf, t), *to = ap_gguf_tensor_at(a.gguf, t);
            assert_true(ap_str_equal(from->name, to->name));
            assert_int_equal(from->dim_count, to->dim_count);
            if (from->dim_count == 1)
                assert_int_equal(to->type, AP_TYPE_F32);
            if (to->type == from->type) {
                assert_memory_equal(ap_gguf_data(a.gguf, to), ap_gguf_data(source.gguf, from), to->bytes);
                continue;
            }
            unsigned char *want = ap_alloc(to->bytes);
            ap_encode(to->type, (const float *)(const void *)ap_gguf_data(source.gguf, from),
                      (size_t)(from->dims[0] * from->dims[1]), NULL, want);
            assert_memory_equal(ap_gguf_data(a.gguf, to), want, to->bytes);
            ap_free(want);
        }
        close_file(&a);
        close_file(&b);
        close(one);
        /* What is written can be imported. */
        int packed = ap_test_temporary();
        ap_import_options options = {.size = sizeof options};
        ap_import_report report;
        assert_ok(ap_model_import(three, packed, &options, &report, err));
        close(packed);
        close(three);
    }
    close_file(&source);
    close(source_fd);
}

static void a_mix_spends_bits_where_errors_cost_more(void **state)
{
    ap_tiny_model deep = model;
    deep.layers = 8;
    deep.has_output = true;
    int source = ap_tiny_model_file(&deep), fd = quantized(source, "Q4_K_M", 2, -1);
    opened o = open_file(fd);
    uint32_t file_type;
    assert_ok(ap_gguf_get_u32(o.gguf, "general.file_type", &file_type, err));
    assert_int_equal(file_type, 15);
    assert_int_equal(type_of(o.gguf, "output.weight"), AP_TYPE_Q6_K);
    assert_int_equal(type_of(o.gguf, "token_embd.weight"), AP_TYPE_Q4_K);
    assert_int_equal(type_of(o.gguf, "blk.3.attn_q.weight"), AP_TYPE_Q4_K);
    assert_int_equal(type_of(o.gguf, "blk.3.ffn_norm.weight"), AP_TYPE_F32);
    /* Of eight layers the first, the last, and of those between the third. */
    for (uint32_t layer = 0; layer < 8; layer++) {
        bool is_better = layer == 0 || layer == 7 || layer == 3 || layer == 6;
        char name[64];
        snprintf(name, sizeof name, "blk.%u.ffn_down.weight", layer);
        assert_int_equal(type_of(o.gguf, name), is_better ? AP_TYPE_Q6_K : AP_TYPE_Q4_K);
        snprintf(name, sizeof name, "blk.%u.attn_v.weight", layer);
        assert_int_equal(type_of(o.gguf, name), is_better ? AP_TYPE_Q6_K : AP_TYPE_Q4_K);
    }
    close_file(&o);
    close(fd);
    close(source);

    const ap_mix *mix = ap_mix_find("Q4_K_M");
    ap_mix_model m = {.layer_count = 24, .heads_per_kv = 4, .is_tied = true};
    ap_type asked;
    assert_int_equal(ap_mix_choose(mix, &m, AP_STR("token_embd.weight"), 896, 1000, AP_TYPE_F16, &asked), AP_TYPE_Q8_0);
    assert_int_equal(asked, AP_TYPE_Q6_K);
    assert_int_equal(ap_mix_choose(mix, &m, AP_STR("blk.4.attn_q.weight"), 896, 896, AP_TYPE_F16, &asked), AP_TYPE_Q5_0);
    assert_int_equal(ap_mix_choose(mix, &m, AP_STR("blk.4.attn_q.weight"), 72, 72, AP_TYPE_F16, &asked), AP_TYPE_F16);
    assert_int_equal(ap_mix_choose(mix, &m, AP_STR("blk.4.ffn_gate_inp.weight"), 1024, 8, AP_TYPE_F32, &asked), AP_TYPE_F32);
    assert_int_equal(ap_mix_choose(mix, &m, AP_STR("blk.4.attn_q.bias"), 1024, 1, AP_TYPE_F32, &asked), AP_TYPE_F32);
    assert_int_equal(ap_mix_choose(ap_mix_find("IQ4_XS"), &m, AP_STR("blk.4.attn_v.weight"), 1024, 256, AP_TYPE_F16, &asked), AP_TYPE_Q5_K);
    assert_null(ap_mix_find("Q4"));
}

/* What rows that are no whole blocks became is said, and the model keeps the name of what was asked. */
static void types_that_do_not_fit_are_told(void **state)
{
    ap_tiny_model narrow = {.seed = 8, .layers = 2, .width = 64, .heads = 2, .kv_heads = 1, .ffn = 256, .has_output = true};
    int source = ap_tiny_model_file(&narrow), fd = ap_test_temporary(), packed = ap_test_temporary();
    ap_quantize_options options = {.size = sizeof options, .type = "Q4_K_M", .imatrix_fd = -1};
    ap_quantize_report report;
    assert_ok(ap_model_quantize(&(ap_import_file){.fd = source}, 1, fd, &options, &report, err));
    /* Of each layer all but the end of the MLP, and embedding and output: 64 columns. */
    assert_non_null(strstr(report.notes, "14 of 16 matrices have rows that blocks of their type in Q4_K_M do not divide"));
    assert_non_null(strstr(report.notes, " in Q5_0, "));
    ap_import_options import = {.size = sizeof import};
    ap_import_report imported;
    ap_model *opened_model;
    assert_ok(ap_model_import(fd, packed, &import, &imported, err));
    assert_string_equal(imported.quantization, "Q4_K_M");
    assert_non_null(strstr(imported.notes, "It is called Q4_K_M; of the types in it Q5_0 has the most bytes ("));
    assert_ok(ap_model_open(&opened_model, packed, err));
    assert_string_equal(ap_model_info_of(opened_model)->quantization, "Q4_K_M");
    ap_model_close(&opened_model);
    close(packed);
    close(fd);

    /* Without such rows there is nothing to say. */
    fd = ap_test_temporary();
    options.type = "Q8_0";
    assert_ok(ap_model_quantize(&(ap_import_file){.fd = source}, 1, fd, &options, &report, err));
    assert_string_equal(report.notes, "");
    close(fd);
    close(source);
}

/* A file type that the matrices belie is not believed. */
static void a_model_is_called_after_what_it_holds(void **state)
{
    uint64_t bytes[AP_TYPE_ROOM] = {[AP_TYPE_Q8_0] = 100, [AP_TYPE_F32] = 3};
    ap_tiny_model tiny = {.seed = 8, .layers = 1};
    int source = ap_tiny_model_file(&tiny), fd = quantized(source, "Q4_K_M", 1, -1);
    opened o = open_file(fd);
    assert_string_equal(ap_quantization_name(o.gguf, bytes), "Q8_0");
    bytes[AP_TYPE_Q5_0] = 1;
    assert_string_equal(ap_quantization_name(o.gguf, bytes), "Q4_K_M");
    char note[256] = "";
    ap_quantization_note(note, sizeof note, "Q4_K_M", bytes);
    assert_string_equal(note, "It is called Q4_K_M; of the types in it Q8_0 has the most bytes (96%). ");
    bytes[AP_TYPE_Q4_K] = 101;
    note[0] = 0;
    ap_quantization_note(note, sizeof note, "Q4_K_M", bytes);
    assert_string_equal(note, "");
    close_file(&o);
    close(fd);
    close(source);
}

static double weight_of(uint64_t column) { return column % 8 == 0 ? 50 : 1; }

/* An imatrix for one tensor, one column in eight above the others. */
static int imatrix_of(const char *tensor, uint64_t columns)
{
    char name[64];
    ap_gguf_writer *w;
    int fd = ap_test_temporary();
    float *sums = ap_alloc_array((size_t)columns, sizeof *sums), count = 3;
    for (uint64_t i = 0; i < columns; i++)
        sums[i] = 3 * (float)weight_of(i);
    assert_ok(ap_gguf_writer_create(&w, 32, err));
    assert_ok(ap_gguf_writer_str(w, "general.type", AP_STR("imatrix"), err));
    snprintf(name, sizeof name, "%s.in_sum2", tensor);
    assert_ok(ap_gguf_writer_tensor(w, ap_str_from(name), AP_TYPE_F32, 2, (uint64_t[]){columns, 1}, err));
    snprintf(name, sizeof name, "%s.counts", tensor);
    assert_ok(ap_gguf_writer_tensor(w, ap_str_from(name), AP_TYPE_F32, 2, (uint64_t[]){1, 1}, err));
    assert_ok(ap_gguf_writer_begin(w, fd, err));
    assert_ok(ap_gguf_writer_data(w, sums, columns * sizeof *sums, err));
    assert_ok(ap_gguf_writer_data(w, &count, sizeof count, err));
    assert_ok(ap_gguf_writer_end(w, NULL, err));
    ap_gguf_writer_destroy(&w);
    ap_free(sums);
    return fd;
}

/* The error of one matrix, weighed so. */
static double weighed_error(int source_fd, int fd, const char *name)
{
    opened a = open_file(source_fd), b = open_file(fd);
    const ap_gguf_tensor *from = ap_gguf_find_tensor(a.gguf, ap_str_from(name)), *to = ap_gguf_find_tensor(b.gguf, ap_str_from(name));
    size_t count = (size_t)(from->dims[0] * from->dims[1]);
    const float *x = (const float *)(const void *)ap_gguf_data(a.gguf, from);
    float *y = ap_alloc_array(count, sizeof *y);
    ap_decode(to->type, ap_gguf_data(b.gguf, to), count, y);
    double error = 0;
    for (size_t i = 0; i < count; i++) {
        error += (y[i] - x[i]) * (double)(y[i] - x[i]) * weight_of(i % from->dims[0]);
    }
    ap_free(y);
    close_file(&a);
    close_file(&b);
    return error;
}

static void importance_moves_the_error_to_where_it_matters_less(void **state)
{
    static const char name[] = "blk.0.ffn_up.weight";
    int source = ap_tiny_model_file(&model), imatrix = imatrix_of(name, 256);
    int plain = quantized(source, "Q4_K_M", 2, -1), weighed = quantized(source, "Q4_K_M", 2, imatrix);
    assert_true(weighed_error(source, weighed, name) < 0.97 * weighed_error(source, plain, name));
    /* A matrix that the file does not mention is as without it. */
    assert_true(weighed_error(source, weighed, "blk.0.ffn_gate.weight") == weighed_error(source, plain, "blk.0.ffn_gate.weight"));
    close(plain);
    close(weighed);
    close(imatrix);

    int wrong = imatrix_of(name, 128), foreign = imatrix_of("blk.99.ffn_up.weight", 256), nothing = ap_test_temporary();
    expect_refused(source, "Q4_K_M", wrong, AP_E_FORMAT, "128 columns");
    expect_refused(source, "Q4_K_M", foreign, AP_E_FORMAT, "no tensor of this model");
    expect_refused(source, "Q4_K_M", nothing, AP_E_FORMAT, "");
    expect_refused(source, "Q4_K_M", source, AP_E_FORMAT, "imatrix");
    close(wrong);
    close(foreign);
    close(nothing);
    close(source);
}

static int quantized_files(const ap_import_file *files, size_t count, const char *type)
{
    int fd = ap_test_temporary();
    ap_quantize_options options = {.size = sizeof options, .type = type, .imatrix_fd = -1};
    ap_quantize_report report;
    assert_ok(ap_model_quantize(files, count, fd, &options, &report, err));
    assert_true(report.source_bytes > 0 && report.changed_count > 0);
    return fd;
}

static void expect_same_bytes(int one, int other)
{
    opened a = open_file(one), b = open_file(other);
    assert_int_equal(a.file.len, b.file.len);
    assert_memory_equal(a.file.ptr, b.file.ptr, a.file.len);
    close_file(&a);
    close_file(&b);
    close(one);
    close(other);
}

static size_t give_files(const ap_tiny_file *made, size_t count, ap_import_file *files)
{
    for (size_t i = 0; i < count; i++) {
        files[i] = (ap_import_file){.name = made[i].name, .fd = ap_test_temporary()};
        assert_ok(ap_file_write_all(files[i].fd, made[i].bytes.ptr, made[i].bytes.len, err));
    }
    return count;
}

static void parts_give_the_bytes_of_the_whole(void **state)
{
    int whole = ap_tiny_model_file(&model);
    for (unsigned parts = 1; parts <= 3; parts++) {
        ap_tiny_file made[AP_TINY_FILES_MAX];
        ap_import_file files[AP_TINY_FILES_MAX];
        size_t count = give_files(made, ap_tiny_model_parts(&model, parts, made), files);
        expect_same_bytes(quantized_files(files, count, "Q4_K_M"), quantized(whole, "Q4_K_M", 2, -1));
        if (parts > 1)
            expect_refused(files[1].fd, "Q4_K_M", -1, AP_E_UNSUPPORTED, "one part of a split model");
        for (size_t i = 0; i < count; i++)
            close(files[i].fd);
        ap_tiny_files_deinit(made, count);
    }
    close(whole);
}

/* One file of weights or two; floats in the folder's own type. */
static void a_folder_gives_the_bytes_of_its_gguf_file(void **state)
{
    static const uint32_t floats[] = {0, 1, 30};
    for (unsigned i = 0; i < 6; i++) {
        ap_tiny_model tiny = model;
        tiny.type = floats[i % 3];
        tiny.has_bias = i >= 3;
        ap_tiny_file made[AP_TINY_FILES_MAX];
        ap_import_file files[AP_TINY_FILES_MAX];
        size_t count = give_files(made, ap_tiny_model_folder(&tiny, 1 + i / 3, made), files);
        int gguf = ap_test_temporary();
        ap_convert_options options = {.size = sizeof options};
        ap_convert_report report;
        assert_ok(ap_model_convert_to_gguf(files, count, gguf, &options, &report, err));
        expect_same_bytes(quantized_files(files, count, "Q8_0"), quantized(gguf, "Q8_0", 2, -1));
        close(gguf);
        for (size_t k = 0; k < count; k++)
            close(files[k].fd);
        ap_tiny_files_deinit(made, count);
    }
}

static void what_cannot_be_quantised_is_refused_by_name(void **state)
{
    int source = ap_tiny_model_file(&model);
    expect_refused(source, "Q3_K_M", -1, AP_E_ARG, "Q5_K_M, Q4_K_M");
    close(source);
    ap_tiny_model done = model;
    done.type = AP_TYPE_Q8_0;
    source = ap_tiny_model_file(&done);
    expect_refused(source, "Q4_0", -1, AP_E_ARG, "is Q8_0 already");
    int packed = ap_test_temporary();
    ap_import_options import = {.size = sizeof import};
    ap_import_report report;
    assert_ok(ap_model_import(source, packed, &import, &report, err));
    expect_refused(packed, "Q4_0", -1, AP_E_ARG, "packed already");
    close(packed);
    close(source);
    ap_quantize_options options = {.size = 8};
    ap_quantize_report r;
    assert_int_equal(ap_model_quantize(&(ap_import_file){.fd = -1}, 1, -1, &options, &r, NULL), AP_E_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_encoded_and_the_rest_is_copied),
        cmocka_unit_test(a_mix_spends_bits_where_errors_cost_more),
        cmocka_unit_test(types_that_do_not_fit_are_told),
        cmocka_unit_test(a_model_is_called_after_what_it_holds),
        cmocka_unit_test(importance_moves_the_error_to_where_it_matters_less),
        cmocka_unit_test(parts_give_the_bytes_of_the_whole),
        cmocka_unit_test(a_folder_gives_the_bytes_of_its_gguf_file),
        cmocka_unit_test(what_cannot_be_quantised_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
