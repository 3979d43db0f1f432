/* UTF-8 over all scalar values, and the replacement of what is none.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/utf8.h"
#include "support.h"

static void every_scalar_value_goes_round(void **state)
{
    uint32_t count = 0;
    char bytes[4], last[4] = {0};
    size_t last_length = 0;
    for (uint32_t code = 0; code <= 0x10ffff; code++) {
        if (code >= 0xd800 && code <= 0xdfff)
            continue;
        size_t n = ap_utf8_put(code, bytes), length = 0;
        if (n != (code < 0x80 ? 1u : code < 0x800 ? 2u : code < 0x10000 ? 3u : 4u))
            fail_msg("U+%04X has %zu bytes", code, n);
        if (ap_utf8_next(bytes, n, &length) != (int32_t)code || length != n)
            fail_msg("U+%04X does not come back", code);
        for (size_t cut = 1; cut < n; cut++) /* every true prefix is short, and is the tail */
            if (ap_utf8_next(bytes, cut, &length) != AP_UTF8_SHORT || length != cut || ap_utf8_tail((ap_str){bytes, cut}) != cut)
                fail_msg("U+%04X cut after %zu bytes is not seen as short", code, cut);
        /* UTF-8 sorts as code points do. */
        size_t shorter = n < last_length ? n : last_length;
        if (count && !(memcmp(last, bytes, shorter) < 0))
            fail_msg("U+%04X does not sort after its neighbour", code);
        memcpy(last, bytes, 4);
        last_length = n;
        count++;
    }
    assert_int_equal(count, 1112064);
}

/* No byte sequence of up to three bytes reads as a code point that would be written differently. */
static void nothing_else_is_accepted(void **state)
{
    uint32_t accepted[4] = {0};
    for (uint32_t v = 0; v < 1u << 24; v++) {
        char bytes[4] = {(char)(v >> 16), (char)(v >> 8), (char)v, 0}, again[4];
        size_t length = 0;
        int32_t code = ap_utf8_next(bytes, 3, &length);
        if (code < 0) {
            if (length < 1 || length > 3)
                fail_msg("an invalid part of %zu bytes", length);
            continue;
        }
        if (ap_utf8_put((uint32_t)code, again) != length || memcmp(again, bytes, length) != 0)
            fail_msg("%06x reads as U+%04X", v, (unsigned)code);
        accepted[length]++;
    }
    assert_int_equal(accepted[1], 128u << 16);
    assert_int_equal(accepted[2], 1920u << 8);
    assert_int_equal(accepted[3], 0x10000 - 0x800 - 2048);
}

#define BAD "\xef\xbf\xbd"

static void invalid_parts_become_one_replacement_each(void **state)
{
    /* Tables 3-8 to 3-11 of the Unicode Standard, then the ends. */
    static const struct {
        ap_str in;
        const char *out;
    } cases[] = {
        {AP_STR("\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41"), BAD BAD BAD BAD BAD BAD BAD BAD "A"},
        {AP_STR("\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41"), BAD BAD BAD BAD BAD BAD BAD BAD "A"},
        {AP_STR("\xf4\x91\x92\x93\xff\x41\x80\xbf\x42"), BAD BAD BAD BAD BAD "A" BAD BAD "B"},
        {AP_STR("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41"), BAD BAD BAD BAD "A"},
        {AP_STR("\xf0\x9f\x98"), BAD},
        {AP_STR("a\xc3"), "a" BAD},
        {AP_STR(""), ""},
        {AP_STR("\xe2\x82\xac\xf0\x9f\x98\x80 ok"), "\xe2\x82\xac\xf0\x9f\x98\x80 ok"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ap_buf out = {0};
        assert_ok(ap_buf_add(&out, "", 0, err));
        assert_ok(ap_utf8_add_lossy(&out, cases[i].in, err));
        assert_string_equal(out.ptr, cases[i].out);
        assert_true(ap_utf8_valid(ap_buf_str(&out)));
        assert_int_equal(ap_utf8_valid(cases[i].in), strcmp(cases[i].out, cases[i].in.ptr) == 0);
        ap_buf_deinit(&out);
    }
    ap_buf limited = {.limit = 2};
    assert_int_equal(ap_utf8_add_lossy(&limited, AP_STR("\xff"), NULL), AP_E_LIMIT);
    ap_buf_deinit(&limited);
}

static void the_tail_is_only_what_may_still_become_a_character(void **state)
{
    assert_int_equal(ap_utf8_tail((ap_str){0}), 0);
    assert_int_equal(ap_utf8_tail(AP_STR("abc")), 0);
    assert_int_equal(ap_utf8_tail(AP_STR("abc\xe2\x82")), 2);
    assert_int_equal(ap_utf8_tail(AP_STR("\xe2\x82\xac")), 0);
    assert_int_equal(ap_utf8_tail(AP_STR("\xf0\x9f\x98")), 3);
    assert_int_equal(ap_utf8_tail(AP_STR("\xf0\x80")), 0); /* overlong: never a character */
    assert_int_equal(ap_utf8_tail(AP_STR("\xed\xa0")), 0); /* a surrogate */
    assert_int_equal(ap_utf8_tail(AP_STR("\x80\x80\x80\x80")), 0);
    assert_int_equal(ap_utf8_tail(AP_STR("a\xff")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_scalar_value_goes_round),
        cmocka_unit_test(nothing_else_is_accepted),
        cmocka_unit_test(invalid_parts_become_one_replacement_each),
        cmocka_unit_test(the_tail_is_only_what_may_still_become_a_character),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
