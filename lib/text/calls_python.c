/* A call written as Python, f(a=1, b=["x", None]), as a name and JSON.
 *
 * Literals only: strings, numbers, True, False, None (and JSON's words), lists, tuples, dicts with text keys.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/calls.h"

#include <stdio.h>

typedef struct reader {
    const char *at, *end;
    ap_buf *out;
    unsigned depth;
    bool is_wrong;
} reader;

static void add(reader *r, const char *text, size_t count)
{
    if (ap_buf_add(r->out, text, count, NULL) != AP_OK)
        r->is_wrong = true;
}

static void skip_space(reader *r)
{
    while (r->at < r->end && strchr(" \t\r\n", *r->at) && *r->at)
        r->at++;
}

static bool take(reader *r, char byte)
{
    skip_space(r);
    if (r->at == r->end || *r->at != byte)
        return false;
    r->at++;
    return true;
}

static void expect(reader *r, char byte)
{
    if (!take(r, byte))
        r->is_wrong = true;
}

static bool is_word_byte(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') ||
           byte == '_' || byte == '.' || byte == '+' || byte == '-';
}

static ap_str word(reader *r)
{
    skip_space(r);
    ap_str text = {r->at, 0};
    while (r->at < r->end && is_word_byte(*r->at))
        r->at++;
    text.len = (size_t)(r->at - text.ptr);
    return text;
}

static uint32_t hex(reader *r, unsigned digits)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < digits; i++, r->at++) {
        char c = r->at < r->end ? *r->at : 'x';
        unsigned digit = c >= '0' && c <= '9'                 ? (unsigned)(c - '0')
                         : (c | 32) >= 'a' && (c | 32) <= 'f' ? (unsigned)((c | 32) - 'a' + 10)
                                                              : 16;
        if (digit == 16) {
            r->is_wrong = true;
            return 0;
        }
        value = value << 4 | digit;
    }
    return value;
}

/* One byte or character as JSON writes it; bytes from 0x80 on stand for themselves. */
static void add_char(reader *r, uint32_t code)
{
    char text[8];
    int n;
    if (code == '"' || code == '\\')
        n = snprintf(text, sizeof text, "\\%c", (int)code);
    else if (code < 0x20)
        n = snprintf(text, sizeof text, "\\u%04x", (unsigned)code);
    else
        n = snprintf(text, sizeof text, "%c", (int)code);
    add(r, text, (size_t)n);
}

static void escape(reader *r)
{
    static const char from[] = "nrtbfav0", to[] = "\n\r\t\b\f\a\v\0";
    char c = r->at < r->end ? *r->at++ : 0;
    const char *found = c ? strchr(from, c) : NULL;
    if (found) {
        add_char(r, (unsigned char)to[found - from]);
    } else if (c == 'x') {
        char text[8];
        uint32_t code = hex(r, 2);
        if (code < 0x80)
            add_char(r, code);
        else
            add(r, text, (size_t)snprintf(text, sizeof text, "\\u%04x", (unsigned)code));
    } else if (c == 'u') { /* JSON's own form */
        const char *digits = r->at;
        (void)hex(r, 4);
        add(r, "\\u", 2);
        if (!r->is_wrong)
            add(r, digits, 4);
    } else if (c == '\\' || c == '\'' || c == '"') {
        add_char(r, (unsigned char)c);
    } else if (c != '\n') { /* Python leaves an unknown escape as it is */
        add_char(r, '\\');
        r->at -= c != 0;
    }
}

static void string(reader *r, char quote)
{
    add(r, "\"", 1);
    while (!r->is_wrong) {
        if (r->at == r->end) {
            r->is_wrong = true;
            return;
        }
        char c = *r->at++;
        if (c == quote)
            break;
        if (c == '\\')
            escape(r);
        else if ((unsigned char)c >= 0x80)
            add(r, &c, 1);
        else
            add_char(r, (unsigned char)c);
    }
    add(r, "\"", 1);
}

static void value(reader *r);

static void items(reader *r, char close, bool is_dict)
{
    add(r, is_dict ? "{" : "[", 1);
    for (bool is_first = true; !r->is_wrong && !take(r, close); is_first = false) {
        if (!is_first) {
            expect(r, ',');
            if (take(r, close)) /* Python allows a comma at the end */
                break;
            add(r, ", ", 2);
        }
        if (is_dict) {
            bool is_text = take(r, '\'') || take(r, '"');
            if (!is_text) {
                r->is_wrong = true;
                return;
            }
            string(r, r->at[-1]);
            expect(r, ':');
            add(r, ": ", 2);
        }
        value(r);
    }
    add(r, is_dict ? "}" : "]", 1);
}

/* -?digits[.digits][e[+-]digits], as JSON has it too. */
static bool is_number(ap_str t)
{
    size_t i = t.len && t.ptr[0] == '-', start = i;
    while (i < t.len && t.ptr[i] >= '0' && t.ptr[i] <= '9')
        i++;
    if (i == start || (t.ptr[start] == '0' && i > start + 1))
        return false;
    if (i < t.len && t.ptr[i] == '.') {
        size_t point = ++i;
        while (i < t.len && t.ptr[i] >= '0' && t.ptr[i] <= '9')
            i++;
        if (i == point)
            return false;
    }
    if (i < t.len && (t.ptr[i] | 32) == 'e') {
        i += i + 1 < t.len && (t.ptr[i + 1] == '+' || t.ptr[i + 1] == '-') ? 2 : 1;
        size_t exponent = i;
        while (i < t.len && t.ptr[i] >= '0' && t.ptr[i] <= '9')
            i++;
        if (i == exponent)
            return false;
    }
    return i == t.len;
}

static void value(reader *r)
{
    static const char *const words[][2] = {{"True", "true"}, {"False", "false"}, {"None", "null"},
                                           {"true", "true"}, {"false", "false"}, {"null", "null"}};
    if (++r->depth > AP_CALL_NESTING_MAX) {
        r->is_wrong = true;
        return;
    }
    if (take(r, '\'') || take(r, '"')) {
        string(r, r->at[-1]);
    } else if (take(r, '[')) {
        items(r, ']', false);
    } else if (take(r, '(')) {
        items(r, ')', false);
    } else if (take(r, '{')) {
        items(r, '}', true);
    } else {
        ap_str text = word(r);
        const char *found = NULL;
        for (size_t i = 0; i < sizeof words / sizeof words[0] && !found; i++)
            if (ap_str_is(text, words[i][0]))
                found = words[i][1];
        if (found)
            add(r, found, strlen(found));
        else if (is_number(text))
            add(r, text.ptr, text.len);
        else
            r->is_wrong = true;
    }
    r->depth--;
}

bool ap_call_from_python(ap_str text, ap_str *name, ap_buf *arguments)
{
    reader r = {.at = text.ptr, .end = text.ptr + text.len, .out = arguments};
    *name = word(&r);
    expect(&r, '(');
    add(&r, "{", 1);
    for (bool is_first = true; !r.is_wrong && !take(&r, ')'); is_first = false) {
        if (!is_first) {
            expect(&r, ',');
            if (take(&r, ')'))
                break;
            add(&r, ", ", 2);
        }
        ap_str key = word(&r);
        add(&r, "\"", 1);
        add(&r, key.ptr, key.len);
        add(&r, "\": ", 3);
        expect(&r, '=');
        r.is_wrong = r.is_wrong || key.len == 0;
        if (!r.is_wrong)
            value(&r);
    }
    add(&r, "}", 1);
    return !r.is_wrong && r.at == r.end;
}
