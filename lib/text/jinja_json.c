/* JSON text to values, straight into the run's arena and under its budgets.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "text/jinja.h"

typedef struct reader {
    ap_jrun *run;
    const char *p;
    size_t len, at;
    unsigned depth;
} reader;

static ap_status wrong(reader *r, const char *what)
{
    return r->run->failed = ap_fail(r->run->err, AP_E_ARG, "the JSON is wrong at byte %zu: %s", r->at, what);
}

static void skip_blanks(reader *r)
{
    while (r->at < r->len && (r->p[r->at] == ' ' || r->p[r->at] == '\n' || r->p[r->at] == '\t' || r->p[r->at] == '\r'))
        r->at++;
}

static char peek(const reader *r) { return r->at < r->len ? r->p[r->at] : 0; }

static bool skip(reader *r, char c)
{
    skip_blanks(r);
    if (peek(r) != c || r->at >= r->len)
        return false;
    r->at++;
    return true;
}

static bool read_hex(reader *r, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        char c = peek(r), low = (char)(c | 32);
        int v = c >= '0' && c <= '9' ? c - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
        if (v < 0)
            return false;
        *out = *out << 4 | (uint32_t)v;
    }
    return true;
}

/* What follows a backslash. */
static ap_status read_escape(reader *r, char *out, size_t *n)
{
    static const char letters[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    char c = peek(r);
    const char *known = c ? strchr(letters, c) : NULL;
    r->at++;
    if (known) {
        out[(*n)++] = values[known - letters];
        return AP_OK;
    }
    uint32_t code, low;
    if (c != 'u' || !read_hex(r, &code))
        return wrong(r, "an escape that is none");
    if (code >= 0xD800 && code < 0xE000) {
        bool pair = code < 0xDC00 && peek(r) == '\\' && r->at + 1 < r->len && r->p[r->at + 1] == 'u';
        r->at += pair ? 2 : 0;
        if (!pair || !read_hex(r, &low) || low < 0xDC00 || low > 0xDFFF)
            return wrong(r, "half a surrogate pair names no character");
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    *n += ap_utf8_put(code, out + *n);
    return AP_OK;
}

/* Behind the opening quote.  Borrowed from the text when nothing is escaped. */
static ap_status read_string(reader *r, ap_jval *out)
{
    size_t begin = r->at, end = begin, n = 0;
    bool plain = true;
    for (; end < r->len && r->p[end] != '"'; end++) {
        if ((unsigned char)r->p[end] < 0x20) {
            r->at = end;
            return wrong(r, "a control character in a string");
        }
        if (r->p[end] == '\\') {
            plain = false;
            end++;
        }
    }
    if (end >= r->len)
        return wrong(r, "a string is not closed");
    AP_TRY(ap_jstep(r->run, 1 + (end - begin) / 64));
    if (plain) {
        r->at = end + 1;
        return ap_jstr_new(r->run, (ap_str){r->p + begin, end - begin}, false, out);
    }
    char *copy;
    AP_JNEW(r->run, copy, end - begin + 4);
    while (r->at < end) {
        if (r->p[r->at] != '\\') {
            copy[n++] = r->p[r->at++];
            continue;
        }
        r->at++;
        AP_TRY(read_escape(r, copy, &n));
    }
    if (r->at != end)
        return wrong(r, "an escape that is none");
    r->at++;
    return ap_jstr_new(r->run, (ap_str){copy, n}, false, out);
}

static size_t skip_digits(reader *r)
{
    size_t from = r->at;
    while (peek(r) >= '0' && peek(r) <= '9')
        r->at++;
    return r->at - from;
}

static ap_status read_number(reader *r, ap_jval *out)
{
    enum { DIGITS_MAX = 400 }; /* the shortest text of the smallest double has 17; more only costs time */
    size_t begin = r->at;
    bool is_float = false;
    char text[DIGITS_MAX + 1];
    if (peek(r) == '-')
        r->at++;
    bool zero = peek(r) == '0';
    size_t digits = skip_digits(r);
    if (digits == 0 || (zero && digits > 1))
        return wrong(r, "a value that is none");
    if (peek(r) == '.') {
        is_float = true;
        r->at++;
        if (skip_digits(r) == 0)
            return wrong(r, "a number ends with its point");
    }
    if (peek(r) == 'e' || peek(r) == 'E') {
        is_float = true;
        r->at++;
        if (peek(r) == '+' || peek(r) == '-')
            r->at++;
        if (skip_digits(r) == 0)
            return wrong(r, "a number lacks its exponent");
    }
    if (r->at - begin > DIGITS_MAX)
        return wrong(r, "a number of more than 400 characters");
    memcpy(text, r->p + begin, r->at - begin);
    text[r->at - begin] = 0;
    errno = 0;
    *out = is_float ? ap_jfloat(strtod(text, NULL)) : ap_jint(strtoll(text, NULL, 10));
    out->ours = false;
    if (!is_float && errno)
        return wrong(r, "an integer that does not fit in 64 bits");
    return AP_OK;
}

static ap_status read_value(reader *r, ap_jval *out);

static ap_status read_inside(reader *r, char close, ap_jval *out)
{
    ap_jlist *list = NULL;
    ap_jdict *dict = NULL;
    if (close == ']') {
        AP_TRY(ap_jlist_new(r->run, AP_JL_LIST, 0, &list));
        *out = ap_jof_list(list);
    } else {
        AP_TRY(ap_jdict_new(r->run, 0, &dict));
        *out = ap_jof_dict(dict);
    }
    if (skip(r, close))
        return AP_OK;
    do {
        ap_jval key, value;
        if (dict) {
            if (!skip(r, '"'))
                return wrong(r, "a key is missing");
            AP_TRY(read_string(r, &key));
            if (!skip(r, ':'))
                return wrong(r, "':' is missing");
        }
        AP_TRY(read_value(r, &value));
        AP_TRY(dict ? ap_jdict_set(r->run, dict, key, value) : ap_jlist_add(r->run, list, value));
    } while (skip(r, ','));
    return skip(r, close) ? AP_OK : wrong(r, close == ']' ? "',' or ']' is missing" : "',' or '}' is missing");
}

static bool skip_word(reader *r, const char *word)
{
    size_t n = strlen(word);
    if (r->len - r->at < n || memcmp(r->p + r->at, word, n) != 0)
        return false;
    r->at += n;
    return true;
}

static ap_status read_value(reader *r, ap_jval *out)
{
    skip_blanks(r);
    AP_TRY(ap_jstep(r->run, 1));
    if (skip(r, '"'))
        return read_string(r, out);
    if (peek(r) == '[' || peek(r) == '{') {
        char close = r->p[r->at++] == '[' ? ']' : '}';
        if (r->depth >= AP_JINJA_NEST)
            return r->run->failed = ap_fail(r->run->err, AP_E_LIMIT, "the JSON nests deeper than %d at byte %zu", AP_JINJA_NEST, r->at);
        r->depth++;
        AP_TRY(read_inside(r, close, out));
        r->depth--;
        return AP_OK;
    }
    *out = ap_jnone();
    if (skip_word(r, "true") || skip_word(r, "false"))
        *out = ap_jbool(r->p[r->at - 2] == 'u');
    else if (!skip_word(r, "null"))
        return read_number(r, out);
    out->ours = false;
    return AP_OK;
}

ap_status ap_jread_json(ap_jrun *run, ap_str text, ap_jval *out)
{
    reader r = {.run = run, .p = text.len ? text.ptr : "", .len = text.len};
    AP_TRY(read_value(&r, out));
    skip_blanks(&r);
    return r.at == r.len ? AP_OK : wrong(&r, "something follows the value");
}
