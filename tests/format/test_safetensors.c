/* What the safetensors reader accepts and refuses: every rule of the format, every cut and every flipped bit of a small
 * file.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "format/safetensors.h"
#include "support.h"

enum { FILE_ROOM = 4096 };

/* A file with this header and so many bytes of data. */
typedef struct file {
    unsigned char bytes[FILE_ROOM];
    size_t length;
} file;

static file file_of(const char *header, size_t data_bytes)
{
    file f = {0};
    uint64_t length = strlen(header);
    assert_true(8 + length + data_bytes <= FILE_ROOM);
    memcpy(f.bytes, &length, 8);
    memcpy(f.bytes + 8, header, length);
    for (size_t i = 0; i < data_bytes; i++)
        f.bytes[8 + length + i] = (unsigned char)i;
    f.length = 8 + length + data_bytes;
    return f;
}

static void assert_refused(const unsigned char *bytes, size_t length, ap_status expected, const char *part)
{
    ap_safetensors *out = NULL;
    ap_error error = {0};
    ap_status status = ap_safetensors_open(&out, bytes, length, &error);
    if (status != expected || out || !strstr(error.message, part))
        fail_msg("'%.200s': status %d, '%s' without '%s'", length > 8 ? (const char *)bytes + 8 : "", status, error.message, part);
}

static const char good[] = "{\"__metadata__\":{\"format\":\"pt\",\"a\":\"\\\"{\"},\"b\":{\"data_offsets\":[4,28],\"dtype\":\"F32\",\"shape\":[2,3]},"
                           " \"a\" : { \"dtype\" : \"BF16\" , \"shape\" : [ 2 ] , \"data_offsets\" : [ 0 , 4 ] },"
                           "\"none\":{\"dtype\":\"I64\",\"shape\":[3,0],\"data_offsets\":[4,4]},"
                           "\"one\":{\"dtype\":\"F8_E4M3\",\"shape\":[],\"data_offsets\":[28,29]}}   ";

static void a_good_file_gives_its_tensors_in_order_of_data(void **state)
{
    file f = file_of(good, 29);
    ap_safetensors *s;
    assert_ok(ap_safetensors_open(&s, f.bytes, f.length, err));
    static const char *const order[] = {"a", "none", "b", "one"};
    assert_int_equal(ap_safetensors_count(s), 4);
    for (uint32_t i = 0; i < 4; i++) {
        const ap_safetensor *t = ap_safetensors_at(s, i);
        assert_true(ap_str_is(t->name, order[i]));
        assert_ptr_equal(ap_safetensors_find(s, ap_str_from(order[i])), t);
    }
    const ap_safetensor *b = ap_safetensors_find(s, AP_STR("b"));
    assert_int_equal(b->dtype, AP_DTYPE_F32);
    assert_int_equal(b->dim_count, 2);
    assert_int_equal(b->dims[0], 2);
    assert_int_equal(b->dims[1], 3);
    assert_int_equal(b->bytes, 24);
    assert_int_equal(ap_safetensors_data(s, b)[0], 4);
    assert_int_equal(ap_safetensors_at(s, 3)->dim_count, 0);
    assert_string_equal(ap_dtype_name(ap_safetensors_at(s, 3)->dtype), "F8_E4M3");
    assert_null(ap_safetensors_find(s, AP_STR("__metadata__")));
    ap_safetensors_close(&s);
    assert_null(s);
    f = file_of("{}", 0);
    assert_ok(ap_safetensors_open(&s, f.bytes, f.length, err));
    assert_int_equal(ap_safetensors_count(s), 0);
    ap_safetensors_close(&s);
}

#define T(name, dtype, shape, offsets) "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void each_rule_of_the_header_is_kept(void **state)
{
    static const struct {
        const char *header;
        size_t data_bytes;
        ap_status status;
        const char *part;
    } cases[] = {
        {"[]", 0, AP_E_FORMAT, "does not start with '{'"},
        {" {}", 0, AP_E_FORMAT, "does not start with '{'"},
        {"{ ", 0, AP_E_FORMAT, "no name at offset 10"},
        {"{}x", 0, AP_E_FORMAT, "no end after its last '}' at offset 10"},
        {"{}{}", 0, AP_E_FORMAT, "no end"},
        {"{\"\xff\":1}", 0, AP_E_FORMAT, "UTF-8"},
        {"{" T("a", "F32", "[1]", "[0,4]") ",}", 4, AP_E_FORMAT, "no name"},
        {"{" T("a", "F32", "[1]", "[0,4]"), 4, AP_E_FORMAT, "no end"},
        {"{" T("a", "F32", "[1]", "[0,4]") " " T("b", "F32", "[1]", "[4,8]") "}", 8, AP_E_FORMAT, "no end"},
        {"{" T("a", "F32", "[1]", "[0,4]") "," T("a", "F32", "[1]", "[4,8]") "}", 8, AP_E_FORMAT, "'a' is there twice"},
        {"{" T("a\\u0062", "F32", "[1]", "[0,4]") "}", 4, AP_E_UNSUPPORTED, "escapes"},
        {"{" T("", "F32", "[1]", "[0,4]") "}", 4, AP_E_FORMAT, "length 0"},
        {"{" T("a\n", "F32", "[1]", "[0,4]") "}", 4, AP_E_FORMAT, "end of a string"},
        {"{" T("a", "F31", "[1]", "[0,4]") "}", 4, AP_E_UNSUPPORTED, "'F31'"},
        {"{" T("a", "F32", "[1.0]", "[0,4]") "}", 4, AP_E_FORMAT, "end of a shape"},
        {"{" T("a", "F32", "[-1]", "[0,4]") "}", 4, AP_E_FORMAT, "no dimension"},
        {"{" T("a", "F32", "[01]", "[0,4]") "}", 4, AP_E_FORMAT, "no dimension"},
        {"{" T("a", "F32", "[1,]", "[0,4]") "}", 4, AP_E_FORMAT, "no dimension"},
        {"{" T("a", "F32", "[1]", "[0]") "}", 4, AP_E_FORMAT, "second data offset"},
        {"{" T("a", "F32", "[1]", "[0,4,8]") "}", 4, AP_E_FORMAT, "end of data_offsets"},
        {"{" T("a", "F32", "[1]", "[4,0]") "}", 4, AP_E_FORMAT, "from 4 to 0"},
        {"{" T("a", "F32", "[2]", "[0,4]") "}", 4, AP_E_FORMAT, "2 elements of F32 take 8 bytes"},
        {"{" T("a", "F4", "[3]", "[0,1]") "}", 1, AP_E_FORMAT, "3 elements of F4"},
        {"{" T("a", "F32", "[9223372036854775807,4]", "[0,4]") "}", 4, AP_E_FORMAT, "exceeds 2^64"},
        {"{" T("a", "F32", "[9223372036854775807]", "[0,4]") "}", 4, AP_E_FORMAT, "exceeds 2^64"},
        {"{" T("a", "F32", "[9223372036854775808]", "[0,4]") "}", 4, AP_E_FORMAT, "above 2^63 - 1"},
        {"{" T("a", "F32", "[99999999999999999999]", "[0,4]") "}", 4, AP_E_FORMAT, "above 2^63 - 1"},
        {"{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, AP_E_LIMIT, "more than 8 dimensions"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, AP_E_FORMAT, "lacks its data_offsets"},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, AP_E_FORMAT, "lacks its dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, AP_E_FORMAT, "twice"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4, AP_E_FORMAT, "'x'"},
        {"{\"a\":{}}", 4, AP_E_FORMAT, "no key"},
        {"{\"a\":1}", 4, AP_E_FORMAT, "no description"},
        {"{\"__metadata__\":{\"a\":1}}", 0, AP_E_FORMAT, "no metadata text"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, AP_E_FORMAT, "metadata is there twice"},
        /* a gap before, between, after; an overlap; data beyond the file */
        {"{" T("a", "F32", "[1]", "[4,8]") "}", 8, AP_E_FORMAT, "begins at 4 of the data, after"},
        {"{" T("a", "F32", "[1]", "[0,4]") "," T("b", "F32", "[1]", "[5,9]") "}", 9, AP_E_FORMAT, "after the end of the one before at 4"},
        {"{" T("a", "F32", "[1]", "[0,4]") "," T("b", "F32", "[1]", "[3,7]") "}", 7, AP_E_FORMAT, "before the end"},
        {"{" T("a", "F32", "[1]", "[0,4]") "," T("b", "F32", "[1]", "[0,4]") "}", 4, AP_E_FORMAT, "before the end"},
        {"{" T("a", "F32", "[1]", "[0,4]") "}", 5, AP_E_FORMAT, "end at 4 of the data, which has 5"},
        {"{" T("a", "F32", "[1]", "[0,4]") "}", 3, AP_E_FORMAT, "needs 4 bytes at 0"},
        {"{}", 4, AP_E_FORMAT, "end at 0 of the data, which has 4"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        file f = file_of(cases[i].header, cases[i].data_bytes);
        assert_refused(f.bytes, f.length, cases[i].status, cases[i].part);
    }
}

static void the_header_length_is_checked_before_a_byte_of_it_is_read(void **state)
{
    file f = file_of("{}", 0);
    static const uint64_t lengths[] = {0, 3, 100000000, 100000001, UINT64_MAX, UINT64_MAX - 7, 0x04034b50 /* a zip archive */};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        memcpy(f.bytes, &lengths[i], 8);
        assert_refused(f.bytes, f.length, lengths[i] > 100000000 ? AP_E_LIMIT : AP_E_FORMAT, "header");
    }
    assert_refused(f.bytes, 0, AP_E_FORMAT, "has 0 bytes");
    assert_refused(f.bytes, 9, AP_E_FORMAT, "has 9 bytes");
}

static void an_archive_behind_the_data_is_refused(void **state)
{
    static const char end_of_zip[] = "PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    file f = file_of(good, 29);
    memcpy(f.bytes + f.length, end_of_zip, sizeof end_of_zip);
    assert_refused(f.bytes, f.length + sizeof end_of_zip, AP_E_FORMAT, "end at 29 of the data, which has 51");
}

static void more_tensors_than_a_million_are_refused(void **state)
{
    ap_buf b = {0};
    assert_ok(ap_buf_add(&b, "\0\0\0\0\0\0\0\0{", 9, err));
    for (uint32_t i = 0; i <= AP_SAFETENSORS_TENSORS_MAX; i++)
        assert_ok(ap_buf_printf(&b, err, "%s\"%x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}", i ? "," : "", i));
    assert_ok(ap_buf_add_char(&b, '}', err));
    uint64_t length = b.len - 8;
    memcpy(b.ptr, &length, 8);
    assert_refused((unsigned char *)b.ptr, b.len, AP_E_LIMIT, "more than 1000000 tensors");
    ap_buf_deinit(&b);
}

static void check_all(const ap_safetensors *s, uint64_t length)
{
    uint64_t at = ap_safetensors_count(s) ? ap_safetensors_at(s, 0)->offset : length;
    for (uint32_t i = 0; i < ap_safetensors_count(s); i++) {
        const ap_safetensor *t = ap_safetensors_at(s, i);
        assert_true(t->offset == at && t->bytes <= length - at);
        assert_ptr_equal(ap_safetensors_find(s, t->name), t);
        at += t->bytes;
    }
    assert_true(at == length);
}

static void every_cut_is_refused_and_every_flipped_bit_survived(void **state)
{
    file f = file_of(good, 29);
    for (size_t length = 0; length < f.length; length++) {
        unsigned char *copy = ap_alloc(length); /* exactly so long: the sanitizer sees a byte too far */
        memcpy(copy, f.bytes, length);
        assert_refused(copy, length, AP_E_FORMAT, "");
        ap_free(copy);
    }
    size_t accepted = 0;
    for (size_t bit = 0; bit < f.length * 8; bit++) {
        f.bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        ap_safetensors *s = NULL;
        ap_error error = {0};
        if (ap_safetensors_open(&s, f.bytes, f.length, &error) == AP_OK) {
            check_all(s, f.length);
            accepted++;
        } else {
            assert_true(!s && error.message[0] && !strchr(error.message, '\n'));
        }
        ap_safetensors_close(&s);
        f.bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    assert_true(accepted >= 29 * 8); /* the data may be anything */
}

static ap_status open_once(void *context)
{
    file *f = context;
    ap_safetensors *s;
    ap_status status = ap_safetensors_open(&s, f->bytes, f->length, NULL);
    ap_safetensors_close(&s);
    return status;
}

static void the_end_of_memory_leaves_nothing(void **state)
{
    file f = file_of(good, 29);
    ap_test_each_oom(open_once, &f);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_file_gives_its_tensors_in_order_of_data),
        cmocka_unit_test(each_rule_of_the_header_is_kept),
        cmocka_unit_test(the_header_length_is_checked_before_a_byte_of_it_is_read),
        cmocka_unit_test(an_archive_behind_the_data_is_refused),
        cmocka_unit_test(more_tensors_than_a_million_are_refused),
        cmocka_unit_test(every_cut_is_refused_and_every_flipped_bit_survived),
        cmocka_unit_test(the_end_of_memory_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
