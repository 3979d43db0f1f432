/* Errors: one line, cut to fit, a text for every status.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "support.h"

static void every_status_has_its_text(void **state)
{
#define X(number, name, text)                            \
    assert_int_equal(AP_##name, number);                 \
    assert_string_equal(ap_status_text(AP_##name), text);
    AP_STATUS_LIST(X)
#undef X
    assert_string_equal(ap_status_text((ap_status)999), "unknown status");
}

static void a_message_is_one_line(void **state)
{
    ap_error error = {0};
    assert_int_equal(ap_fail(&error, AP_E_ARG, "name '%s'", "a\nb\x1b[2J\r\t\x7f" "c"), AP_E_ARG);
    assert_int_equal(error.status, AP_E_ARG);
    assert_string_equal(error.message, "name 'a?b?[2J???c'");
    ap_error_prefix(&error, "fi\nle");
    assert_string_equal(error.message, "fi?le: name 'a?b?[2J???c'");
    assert_int_equal(ap_fail(NULL, AP_E_IO, "nobody listens to %d", 1), AP_E_IO);
    ap_error_prefix(NULL, "x");
}

static void a_long_message_is_cut(void **state)
{
    char text[3000];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = 0;
    ap_error error;
    memset(&error, 0xff, sizeof error);
    (void)ap_fail(&error, AP_E_LIMIT, "%s", text);
    assert_int_equal(strlen(error.message), sizeof error.message - 1);
    ap_error_prefix(&error, text);
    assert_int_equal(strlen(error.message), sizeof error.message - 1);
    assert_non_null(strstr(error.message, ": x"));
    (void)ap_fail_nomem(&error, 12345);
    assert_int_equal(error.status, AP_E_NOMEM);
    assert_non_null(strstr(error.message, "12345"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_its_text),
        cmocka_unit_test(a_message_is_one_line),
        cmocka_unit_test(a_long_message_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
