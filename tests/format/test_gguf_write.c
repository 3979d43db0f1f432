/* What the writer writes the reader reads; what the reader would refuse is never written.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "format/format.h"
#include "support.h"
#include "tiny_model.h"

static ap_status write_and_open(void *context)
{
    const ap_buf *file = context;
    ap_gguf *g = NULL;
    ap_gguf_writer *w = NULL;
    ap_packed *p = NULL;
    ap_mapping map = {0};
    ap_error refusal = {0};
    int fd = ap_test_temporary();
    ap_packed_tensor tensors[2] = {{.name = AP_STR("one"), .type = AP_TYPE_Q4_0, .layout = AP_LAYOUT_PANELS, .columns = 32, .rows = 5, .bytes = 288},
                                   {.name = AP_STR("two"), .type = AP_TYPE_F32, .layout = AP_LAYOUT_ROWS, .columns = 3, .rows = 1, .bytes = 12}};
    unsigned char data[288];
    memset(data, 7, sizeof data);
    ap_status status = ap_gguf_open(&g, (unsigned char *)file->ptr, file->len, &refusal);
    if (status == AP_OK)
        status = ap_packed_plan(&w, g, AP_STR("00"), tensors, 2, &refusal);
    if (status == AP_OK)
        status = ap_gguf_writer_begin(w, fd, &refusal);
    if (status == AP_OK)
        status = ap_gguf_writer_data(w, data, 288, &refusal);
    if (status == AP_OK)
        status = ap_gguf_writer_data(w, data, 12, &refusal);
    if (status == AP_OK)
        status = ap_gguf_writer_end(w, NULL, &refusal);
    if (status == AP_OK)
        status = ap_file_map(fd, &map, &refusal);
    if (status == AP_OK)
        status = ap_packed_open(&p, map.ptr, map.len, &refusal);
    if (status == AP_OK) {
        assert_int_equal(ap_packed_count(p), 2);
        const ap_packed_tensor *t = ap_packed_find(p, AP_STR("one"));
        assert_true(t && t->type == AP_TYPE_Q4_0 && t->layout == AP_LAYOUT_PANELS && t->columns == 32 && t->rows == 5);
        assert_int_equal((uintptr_t)t->data % 64, 0);
        assert_memory_equal(t->data, data, 288);
        ap_str text;
        assert_ok(ap_gguf_get_str(ap_packed_gguf(p), "general.name", &text, err));
        assert_true(ap_str_is(text, "tiny"));
    }
    ap_packed_close(&p);
    ap_file_unmap(&map);
    ap_gguf_writer_destroy(&w);
    ap_gguf_close(&g);
    close(fd);
    return status;
}

static void packed_file_is_read_as_it_was_written(void **state)
{
    ap_tiny_model tiny = {.seed = 1, .type = 2, .layers = 1, .width = 32, .heads = 2, .kv_heads = 1, .ffn = 32};
    ap_buf file = {0};
    ap_tiny_model_write(&tiny, &file);
    assert_int_equal(write_and_open(&file), AP_OK);
    ap_test_each_oom(write_and_open, &file);
    ap_buf_deinit(&file);
}

static void keys_are_counted_as_the_reader_counts(void **state)
{
    ap_gguf_writer *w;
    assert_ok(ap_gguf_writer_create(&w, 32, err)); /* writes the first key itself */
    for (uint32_t i = 1; i < AP_GGUF_KEYS_MAX; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "k%u", i);
        assert_ok(ap_gguf_writer_u32(w, name, i, err));
    }
    ap_error error = {0};
    assert_int_equal(ap_gguf_writer_u32(w, "one.more", 0, &error), AP_E_LIMIT);
    int fd = ap_test_temporary();
    assert_ok(ap_gguf_writer_begin(w, fd, err));
    ap_gguf_writer_destroy(&w);
    ap_mapping file;
    assert_ok(ap_file_map(fd, &file, err));
    ap_gguf *g;
    assert_ok(ap_gguf_open(&g, file.ptr, file.len, err));
    /* The packed file needs keys of its own: refused before anything is written. */
    error = (ap_error){0};
    assert_int_equal(ap_packed_plan(&w, g, AP_STR(""), NULL, 0, &error), AP_E_LIMIT);
    assert_null(w);
    ap_gguf_close(&g);
    ap_file_unmap(&file);
    close(fd);
}


/* ---- The reader's limits ---- */

/* A writer with one tensor, of which a case changes something. */
typedef struct plan {
    const char *what;
    uint32_t name_bytes, dim_count;
    uint64_t dims[AP_GGUF_DIMS_MAX];
    ap_type type;
    ap_status declared, begun; /* what the writer answers when the tensor is declared and when the file is begun */
    const char *word;
} plan;

static ap_status declare(ap_gguf_writer *w, const plan *p, ap_error *err)
{
    char name[256];
    memset(name, 'n', sizeof name);
    assert_true(p->name_bytes <= sizeof name);
    return ap_gguf_writer_tensor(w, (ap_str){name, p->name_bytes}, p->type, p->dim_count, p->dims, err);
}

/* Not a byte of a refused file is written. */
static void check_begin(ap_gguf_writer *w, ap_status wanted, const char *word, const char *what)
{
    ap_error error = {0};
    int fd = ap_test_temporary();
    ap_status status = ap_gguf_writer_begin(w, fd, &error);
    if (status != wanted || (word && !strstr(error.message, word)))
        fail_msg("%s: '%s' wanted with '%s', came '%s': %s", what, ap_status_text(wanted), word ? word : "", ap_status_text(status), error.message);
    assert_true((lseek(fd, 0, SEEK_END) > 0) == (status == AP_OK));
    close(fd);
}

static void tensors_that_the_reader_refuses_are_not_written(void **state)
{
    static const plan plans[] = {
        {"good", 63, 4, {32, 2, 2, 2}, AP_TYPE_Q4_0, AP_OK, AP_OK, NULL},
        {"no name", 0, 1, {32}, AP_TYPE_F32, AP_OK, AP_E_FORMAT, "name"},
        {"long name", 64, 1, {32}, AP_TYPE_F32, AP_OK, AP_E_FORMAT, "length 64"},
        {"no dimensions", 4, 0, {0}, AP_TYPE_F32, AP_E_ARG, AP_OK, "0 dimensions"},
        {"five dimensions", 4, 5, {1, 1, 1, 1}, AP_TYPE_F32, AP_E_ARG, AP_OK, "5 dimensions"},
        {"no such type", 4, 1, {32}, (ap_type)4, AP_E_ARG, AP_OK, "type 4"},
        {"empty", 4, 2, {32, 0}, AP_TYPE_F32, AP_OK, AP_E_FORMAT, "dimension"},
        {"part of a block", 4, 1, {33}, AP_TYPE_Q4_0, AP_OK, AP_E_FORMAT, "blocks of 32"},
        {"block over rows", 4, 2, {16, 2}, AP_TYPE_Q4_0, AP_OK, AP_E_FORMAT, "blocks of 32"},
        {"product wraps", 4, 2, {1ull << 32, 1ull << 32}, AP_TYPE_F32, AP_E_LIMIT, AP_OK, "too large"},
        {"bytes wrap", 4, 1, {1ull << 62}, AP_TYPE_F32, AP_E_LIMIT, AP_OK, "too large"},
        {"beyond files", 4, 1, {1ull << 63}, AP_TYPE_I8, AP_E_LIMIT, AP_OK, "too large"},
        {"elements beyond 2^63", 4, 2, {1ull << 40, 1ull << 23}, AP_TYPE_Q1_0, AP_OK, AP_E_FORMAT, "product"},
    };
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
        const plan *p = &plans[i];
        ap_gguf_writer *w;
        ap_error error = {0};
        assert_ok(ap_gguf_writer_create(&w, 32, err));
        ap_status status = declare(w, p, &error);
        if (status != p->declared || (status != AP_OK && !strstr(error.message, p->word)))
            fail_msg("%s: declared, came '%s': %s", p->what, ap_status_text(status), error.message);
        check_begin(w, p->begun, p->declared == AP_OK ? p->word : NULL, p->what);
        ap_gguf_writer_destroy(&w);
    }
    ap_gguf_writer *w;
    assert_ok(ap_gguf_writer_create(&w, 32, err));
    for (int i = 0; i < 2; i++)
        assert_ok(declare(w, &plans[0], err));
    check_begin(w, AP_E_FORMAT, "twice", "two tensors of one name");
    ap_gguf_writer_destroy(&w);
    assert_ok(ap_gguf_writer_create(&w, 8, err));
    uint64_t one = 1;
    for (uint32_t i = 0; i <= AP_GGUF_TENSORS_MAX; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "t%u", i);
        assert_ok(ap_gguf_writer_tensor(w, ap_str_from(name), AP_TYPE_I8, 1, &one, err));
    }
    check_begin(w, AP_E_LIMIT, "65537", "a tensor too many");
    ap_gguf_writer_destroy(&w);
}

static void keys_that_the_reader_refuses_are_not_written(void **state)
{
    static char name[AP_GGUF_KEY_BYTES_MAX + 2];
    static const uint8_t flags[] = {1, 0, 2};
    for (int i = 0; i < 7; i++) {
        ap_gguf_writer *w;
        memset(name, 'n', sizeof name - 1);
        assert_ok(ap_gguf_writer_create(&w, 32, err));
        switch (i) {
        case 0:
            assert_ok(ap_gguf_writer_u32(w, "", 1, err));
            check_begin(w, AP_E_FORMAT, "length 0", "no name");
            break;
        case 1:
            assert_ok(ap_gguf_writer_u32(w, name, 1, err));
            check_begin(w, AP_E_FORMAT, "length 65536", "a long name");
            break;
        case 2:
            name[AP_GGUF_KEY_BYTES_MAX] = 0;
            assert_ok(ap_gguf_writer_u32(w, name, 1, err));
            check_begin(w, AP_OK, NULL, "the longest name");
            break;
        case 3:
            assert_ok(ap_gguf_writer_u32(w, "k", 1, err));
            assert_ok(ap_gguf_writer_str(w, "k", AP_STR("1"), err));
            check_begin(w, AP_E_FORMAT, "'k'", "two keys of one name");
            break;
        case 4:
            assert_ok(ap_gguf_writer_u32(w, "general.alignment", 64, err));
            check_begin(w, AP_E_FORMAT, "twice", "another alignment");
            break;
        case 5:
            assert_ok(ap_gguf_writer_numbers(w, "k", AP_GGUF_BOOL, 3, flags, err));
            check_begin(w, AP_E_FORMAT, "bool", "a bool of 2");
            break;
        default:
            assert_int_equal(ap_gguf_writer_numbers(w, "k", AP_GGUF_STRING, 1, flags, NULL), AP_E_ARG);
            assert_int_equal(ap_gguf_writer_numbers(w, "k", AP_GGUF_ARRAY, 1, flags, NULL), AP_E_ARG);
            assert_int_equal(ap_gguf_writer_numbers(w, "k", AP_GGUF_KIND_COUNT, 1, flags, NULL), AP_E_ARG);
            assert_int_equal(ap_gguf_writer_numbers(w, "k", AP_GGUF_U64, 1ull << 61, flags, NULL), AP_E_NOMEM);
            check_begin(w, AP_OK, NULL, "nothing was added");
        }
        ap_gguf_writer_destroy(&w);
    }
    static const uint32_t bad[] = {0, 1, 4, 7, 24, 33, 1u << 17, 0x80000000u, UINT32_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ap_gguf_writer *w;
        ap_error error = {0};
        assert_int_equal(ap_gguf_writer_create(&w, bad[i], &error), AP_E_ARG);
        assert_null(w);
        assert_non_null(strstr(error.message, "alignment"));
    }
}

static void every_alignment_is_written_as_it_is_read(void **state)
{
    for (uint32_t alignment = AP_GGUF_ALIGNMENT_MIN; alignment <= AP_GGUF_ALIGNMENT_MAX; alignment *= 2) {
        ap_gguf_writer *w;
        uint64_t dims[] = {5}, file_bytes;
        assert_ok(ap_gguf_writer_create(&w, alignment, err));
        assert_ok(ap_gguf_writer_tensor(w, AP_STR("a"), AP_TYPE_I8, 1, dims, err));
        assert_ok(ap_gguf_writer_tensor(w, AP_STR("b"), AP_TYPE_I8, 1, dims, err));
        int fd = ap_test_temporary();
        assert_ok(ap_gguf_writer_begin(w, fd, err));
        assert_ok(ap_gguf_writer_data(w, "first", 5, err));
        assert_ok(ap_gguf_writer_data(w, "other", 5, err));
        assert_ok(ap_gguf_writer_end(w, &file_bytes, err));
        ap_gguf_writer_destroy(&w);
        ap_mapping file;
        ap_gguf *g;
        assert_ok(ap_file_map(fd, &file, err));
        assert_true(file.len == file_bytes);
        assert_ok(ap_gguf_open(&g, file.ptr, file.len, err));
        const ap_gguf_tensor *a = ap_gguf_tensor_at(g, 0), *b = ap_gguf_tensor_at(g, 1);
        assert_true(a->offset % alignment == 0 && b->offset == a->offset + alignment);
        assert_memory_equal(ap_gguf_data(g, a), "first", 5);
        assert_memory_equal(ap_gguf_data(g, b), "other", 5);
        ap_gguf_close(&g);
        ap_file_unmap(&file);
        close(fd);
    }
}

static void data_must_be_what_was_declared(void **state)
{
    ap_gguf_writer *w;
    assert_ok(ap_gguf_writer_create(&w, 32, err));
    uint64_t dims[] = {3};
    assert_ok(ap_gguf_writer_tensor(w, AP_STR("a"), AP_TYPE_F32, 1, dims, err));
    int fd = ap_test_temporary();
    assert_ok(ap_gguf_writer_begin(w, fd, err));
    unsigned char bytes[13] = {0};
    assert_int_equal(ap_gguf_writer_end(w, NULL, NULL), AP_E_BUG);
    assert_int_equal(ap_gguf_writer_data(w, bytes, 13, NULL), AP_E_BUG);
    assert_ok(ap_gguf_writer_data(w, bytes, 5, err));
    assert_int_equal(ap_gguf_writer_data(w, bytes, 8, NULL), AP_E_BUG);
    assert_ok(ap_gguf_writer_data(w, bytes, 7, err));
    assert_int_equal(ap_gguf_writer_data(w, bytes, 1, NULL), AP_E_BUG);
    assert_ok(ap_gguf_writer_end(w, NULL, err));
    ap_gguf_writer_destroy(&w);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_file_is_read_as_it_was_written),
        cmocka_unit_test(keys_are_counted_as_the_reader_counts),
        cmocka_unit_test(tensors_that_the_reader_refuses_are_not_written),
        cmocka_unit_test(keys_that_the_reader_refuses_are_not_written),
        cmocka_unit_test(every_alignment_is_written_as_it_is_read),
        cmocka_unit_test(data_must_be_what_was_declared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
