/* Borrowed strings and the growing buffer.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "support.h"

static void strings_compare_by_bytes(void **state)
{
    ap_str none = {0};
    assert_true(ap_str_equal(none, AP_STR("")));
    assert_true(ap_str_equal(ap_str_from(NULL), none));
    assert_true(ap_str_is(AP_STR("abc"), "abc"));
    assert_false(ap_str_is(AP_STR("abc"), "abd"));
    assert_false(ap_str_is(AP_STR("abc"), "ab"));
    assert_false(ap_str_equal((ap_str){"a\0b", 3}, (ap_str){"a\0c", 3}));
    assert_true(ap_str_starts(AP_STR("abc"), AP_STR("ab")));
    assert_true(ap_str_starts(AP_STR("abc"), none));
    assert_true(ap_str_starts(none, none));
    assert_false(ap_str_starts(AP_STR("ab"), AP_STR("abc")));
}

static void a_buffer_grows_and_always_ends_in_nul(void **state)
{
    ap_buf buf = {0};
    char expected[5001] = {0};
    for (int i = 0; i < 5000; i++) {
        expected[i] = (char)('a' + i % 26);
        assert_ok(ap_buf_add_char(&buf, expected[i], err));
        assert_int_equal(buf.ptr[buf.len], 0);
    }
    assert_string_equal(buf.ptr, expected);
    ap_buf_clear(&buf);
    assert_string_equal(buf.ptr, "");
    assert_ok(ap_buf_add(&buf, NULL, 0, err));
    assert_ok(ap_buf_add(&buf, "x\0y", 3, err));
    assert_ok(ap_buf_printf(&buf, err, "%d-%s", 42, "z"));
    assert_memory_equal(buf.ptr, "x\0y42-z", 8);
    assert_int_equal(buf.len, 7);
    ap_buf_deinit(&buf);
    assert_null(buf.ptr);
    ap_buf_clear(&buf);
    ap_buf_deinit(&buf);
    assert_ok(ap_buf_add(&buf, "", 0, err));
    assert_string_equal(buf.ptr, ""); /* followed by a NUL once anything was added, even nothing */
    ap_buf_deinit(&buf);
}

static void the_limit_is_exact_and_changes_nothing(void **state)
{
    ap_error error = {0};
    ap_buf buf = {.limit = 10};
    assert_ok(ap_buf_add(&buf, "123456789", 9, err));
    assert_int_equal(ap_buf_add(&buf, "ab", 2, &error), AP_E_LIMIT);
    assert_non_null(strstr(error.message, "11"));
    assert_non_null(strstr(error.message, "10"));
    assert_int_equal(ap_buf_printf(&buf, &error, "%s", "ab"), AP_E_LIMIT);
    assert_string_equal(buf.ptr, "123456789");
    assert_ok(ap_buf_add_char(&buf, '0', err));
    assert_int_equal(ap_buf_add_char(&buf, '1', &error), AP_E_LIMIT);
    assert_string_equal(buf.ptr, "1234567890");
    assert_int_equal(ap_buf_reserve(&buf, SIZE_MAX, &error), AP_E_NOMEM);
    assert_int_equal(ap_buf_reserve(&buf, SIZE_MAX / 2, &error), AP_E_NOMEM);
    ap_buf_deinit(&buf);
}

static ap_status fill(void *context)
{
    ap_buf buf = {0};
    ap_status status = AP_OK;
    size_t before = 0;
    for (int i = 0; i < 200 && status == AP_OK; i++) {
        before = buf.len;
        status = ap_buf_printf(&buf, NULL, "%d,", i);
    }
    if (status != AP_OK) {
        assert_int_equal(buf.len, before);
        if (buf.ptr)
            assert_int_equal(buf.ptr[buf.len], 0);
    }
    ap_buf_deinit(&buf);
    return status;
}

static void the_end_of_memory_leaves_the_content(void **state) { ap_test_each_oom(fill, NULL); }

static void lines_come_without_their_ends(void **state)
{
    static const char *const lines[] = {"one", "", "two\r", "three"};
    ap_str rest = AP_STR("one\n\r\ntwo\r\r\nthree");
    for (size_t i = 0; i < 4; i++)
        assert_true(ap_str_is(ap_str_next_line(&rest), lines[i]));
    assert_int_equal(rest.len, 0);
}

static void what_does_not_fit_is_left_out(void **state)
{
    char text[10] = "";
    memset(text + 8, 'x', 2);
    ap_str_append(text, 8, "%s", "four");
    assert_string_equal(text, "four");
    ap_str_append(text, 8, "%d ", 12345678);
    assert_string_equal(text, "four123");
    ap_str_append(text, 8, "more");
    assert_string_equal(text, "four123");
    assert_int_equal(text[8], 'x');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_compare_by_bytes),
        cmocka_unit_test(a_buffer_grows_and_always_ends_in_nul),
        cmocka_unit_test(the_limit_is_exact_and_changes_nothing),
        cmocka_unit_test(the_end_of_memory_leaves_the_content),
        cmocka_unit_test(lines_come_without_their_ends),
        cmocka_unit_test(what_does_not_fit_is_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
