/* Errors: one line, cut to fit, a text for every status.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/utf8.h"
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

/* A name out of a stranger's file, as a refusal shows it on a terminal or in JSON. */
static void a_message_is_whole_utf8_and_cannot_act_on_a_terminal(void **state)
{
    ap_error error = {0};
    (void)ap_fail(&error, AP_E_FORMAT, "tensor '%s'", "a\xc2\x9b" "2J\xe2\x80\xae" "b\xe2\x80\xa8" "c\xff\xe2\x82");
    assert_string_equal(error.message, "tensor 'a?2J?b?c?" "?'");
    (void)ap_fail(&error, AP_E_FORMAT, "tensor '%s'", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
    assert_string_equal(error.message, "tensor '\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80'");
    /* Wherever the cut falls, no half character is left. */
    char text[sizeof error.message + 8];
    for (size_t shift = 0; shift < 4; shift++) {
        memset(text, 'x', shift);
        for (size_t i = shift; i + 5 <= sizeof text; i += 4)
            memcpy(text + i, "\xf0\x9f\x98\x80", 5);
        (void)ap_fail(&error, AP_E_FORMAT, "%s", text);
        assert_true(ap_utf8_valid(ap_str_from(error.message)));
        ap_error_prefix(&error, "\xc2\x9b" "file");
        assert_true(ap_utf8_valid(ap_str_from(error.message)));
        assert_true(memcmp(error.message, "?file: ", 7) == 0);
    }
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
        cmocka_unit_test(a_message_is_whole_utf8_and_cannot_act_on_a_terminal),
        cmocka_unit_test(a_long_message_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
