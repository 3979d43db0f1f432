/* JSON of strangers: what is refused and how, what a path finds.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"
#include "support.h"

enum { BYTES_MAX = 4096, VALUES_MAX = 100 };
static const ap_json_limits limits = {.bytes_max = BYTES_MAX, .values_max = VALUES_MAX};

static json_t *parsed(const char *text)
{
    json_t *root = NULL;
    assert_ok(ap_json_parse(&root, ap_str_from(text), limits, err));
    assert_non_null(root);
    return root;
}

static void assert_refused(const char *text, size_t length, ap_status expected, const char *part)
{
    json_t *root = NULL;
    ap_error error = {0};
    ap_status status = ap_json_parse(&root, (ap_str){text, length}, limits, &error);
    if (status != expected || root || !strstr(error.message, part))
        fail_msg("'%.60s': status %d, '%s' without '%s'", text, status, error.message, part);
}

static void what_is_no_json_is_refused_with_its_place(void **state)
{
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", "empty"},
        {"{\"a\":1,\"a\":2}", "duplicate"},
        {"{\"a\":1} x", "end of file"},
        {"{\"limit\": NaN}", "'limit'"},
        {"{\n\"x\" : -Infinity}", "'x'"},
        {"{\"x\":1e999}", "overflow"},
        {"{\"a\":[1,2}", "line 1"},
        {"\"\xff\"", "decode byte"},
        {"\"\\ud800\"", "invalid"},
        {"\xef\xbb\xbf{}", "invalid token"},
        {"{\"a\\u0000b\":1}", "NUL"},
        {"{\"a\":", "not valid JSON"},
        {"\"", "not valid JSON"},
        {"\"\\", "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_refused(cases[i].text, strlen(cases[i].text), AP_E_FORMAT, cases[i].part);
    assert_refused("{\0}", 3, AP_E_FORMAT, "byte 1 is NUL");
}

static void limits_of_bytes_depth_and_values_hold_exactly(void **state)
{
    char text[BYTES_MAX + 2];
    json_t *root;
    memset(text, ' ', sizeof text);
    text[0] = '1';
    assert_ok(ap_json_parse(&root, (ap_str){text, BYTES_MAX}, limits, err));
    json_decref(root);
    assert_refused(text, BYTES_MAX + 1, AP_E_LIMIT, "4097 bytes; the limit is 4096");
    for (size_t depth = AP_JSON_NESTING_MAX; depth <= AP_JSON_NESTING_MAX + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        if (depth == AP_JSON_NESTING_MAX) {
            assert_ok(ap_json_parse(&root, (ap_str){text, 2 * depth}, limits, err));
            json_decref(root);
        } else {
            assert_refused(text, 2 * depth, AP_E_LIMIT, "limit of 64 at byte 64");
        }
    }
    for (size_t count = VALUES_MAX - 1; count <= VALUES_MAX; count++) { /* and the array itself */
        size_t n = 0;
        text[n++] = '[';
        for (size_t i = 1; i < count; i++) {
            memcpy(text + n, "1,", 2);
            n += 2;
        }
        memcpy(text + n, "1]", 2);
        n += 2;
        if (count == VALUES_MAX - 1) {
            assert_ok(ap_json_parse(&root, (ap_str){text, n}, limits, err));
            json_decref(root);
        } else {
            assert_refused(text, n, AP_E_LIMIT, "more values than the limit of 100");
        }
    }
}

static void brackets_and_digits_inside_strings_do_not_count(void **state)
{
    char text[BYTES_MAX];
    size_t n = 0;
    text[n++] = '"';
    for (size_t i = 0; i < 300; i++) {
        memcpy(text + n, "[\\\",{9", 6);
        n += 6;
    }
    text[n++] = '"';
    json_t *root;
    assert_ok(ap_json_parse(&root, (ap_str){text, n}, limits, err));
    assert_int_equal(json_string_length(root), 300 * 5);
    json_decref(root);
    root = parsed("{\"a\":\"x\\\\\",\"b\":\"1000000000000000019884624838656\"}");
    ap_str b;
    assert_ok(ap_json_get_str(root, "b", &b, err));
    assert_int_equal(b.len, 31);
    json_decref(root);
}

static void integers_beyond_64_bits_become_real_numbers(void **state)
{
    json_t *root = parsed("{\"a\":1000000000000000019884624838656,\"b\":[-1000000000000000019884624838656,"
                          "0.12345678901234567890123,1.5e0000000000000000000001,999999999999999999,9223372036854775807]}");
    float value;
    assert_ok(ap_json_get_f32(root, "a", &value, err));
    assert_true(value == 1e30f);
    assert_ok(ap_json_get_f32(root, "b.0", &value, err));
    assert_true(value == -1e30f);
    assert_ok(ap_json_get_f32(root, "b.1", &value, err));
    assert_true(value == 0.12345678901234567890f);
    assert_ok(ap_json_get_f32(root, "b.2", &value, err));
    assert_true(value == 15.0f);
    uint64_t number;
    assert_ok(ap_json_get_u64(root, "b.3", &number, err));
    assert_true(number == 999999999999999999u);
    assert_true(json_is_real(ap_json_find(root, "b.4"))); /* 19 digits: not looked at closely */
    json_decref(root);
}

static void a_path_walks_objects_and_arrays(void **state)
{
    json_t *root = parsed("{\"a\":{\"b\":[{\"c\":7},null,[true]]},\"n\":null,\"\":1}");
    uint32_t number = 0;
    assert_ok(ap_json_get_u32(root, "a.b.0.c", &number, err));
    assert_int_equal(number, 7);
    bool flag = false;
    assert_ok(ap_json_get_bool(root, "a.b.2.0", &flag, err));
    assert_true(flag);
    static const char *const absent[] = {"n", "a.b.1", "a.b.3", "a.b.x", "a.b.", "a.b.-1", "a.b.00000000001", "a.c", "b", "a.b.0.c.d"};
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        assert_null(ap_json_find(root, absent[i]));
    json_decref(root);
    assert_null(ap_json_find(NULL, "a"));
}

static void a_wrong_kind_is_refused_with_its_path(void **state)
{
    json_t *root = parsed("{\"o\":{\"s\":\"x\\u0000y\",\"i\":-1,\"big\":4294967296,\"r\":1.5,\"huge\":1e300,\"a\":[]}}");
    ap_error error;
    uint32_t number = 5;
    uint64_t wide = 5;
    float real = 5;
    bool flag;
    ap_str text;
    const json_t *value;
    assert_int_equal(ap_json_get_u32(root, "o.s", &number, &error), AP_E_FORMAT);
    assert_string_equal(error.message, "'o.s' is a string; an integer is needed");
    assert_int_equal(ap_json_get_u32(root, "o.i", &number, &error), AP_E_FORMAT);
    assert_string_equal(error.message, "'o.i' is -1; a number from 0 to 4294967295 is needed");
    assert_int_equal(ap_json_get_u32(root, "o.big", &number, &error), AP_E_FORMAT);
    assert_int_equal(ap_json_get_u32(root, "o.r", &number, &error), AP_E_FORMAT);
    assert_int_equal(ap_json_get_u32(root, "o.none", &number, &error), AP_E_NOTFOUND);
    assert_string_equal(error.message, "'o.none' is missing");
    assert_int_equal(number, 5);
    assert_int_equal(ap_json_get_u64(root, "o.i", &wide, &error), AP_E_FORMAT);
    assert_int_equal(wide, 5);
    assert_int_equal(ap_json_get_f32(root, "o.huge", &real, &error), AP_E_FORMAT);
    assert_int_equal(ap_json_get_f32(root, "o.a", &real, &error), AP_E_FORMAT);
    assert_string_equal(error.message, "'o.a' is an array; a number is needed");
    assert_true(real == 5);
    assert_int_equal(ap_json_get_bool(root, "o.i", &flag, &error), AP_E_FORMAT);
    assert_int_equal(ap_json_get_str(root, "o.i", &text, &error), AP_E_FORMAT);
    assert_int_equal(ap_json_get_object(root, "o.a", &value, &error), AP_E_FORMAT);
    assert_int_equal(ap_json_get_array(root, "o", &value, &error), AP_E_FORMAT);
    assert_ok(ap_json_get_array(root, "o.a", &value, err));
    assert_ok(ap_json_get_object(root, "o", &value, err));
    assert_ok(ap_json_get_str(root, "o.s", &text, err));
    assert_true(ap_str_equal(text, AP_STR("x\0y")));
    assert_ok(ap_json_get_f32(root, "o.i", &real, err));
    assert_true(real == -1.0f);
    json_decref(root);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_json_is_refused_with_its_place),
        cmocka_unit_test(limits_of_bytes_depth_and_values_hold_exactly),
        cmocka_unit_test(brackets_and_digits_inside_strings_do_not_count),
        cmocka_unit_test(integers_beyond_64_bits_become_real_numbers),
        cmocka_unit_test(a_path_walks_objects_and_arrays),
        cmocka_unit_test(a_wrong_kind_is_refused_with_its_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
