/* Work on whole strings, origin of every byte kept: case, replace, lines, padding;
 * format strings of both kinds; dates.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <utf8proc.h>

#include "base/utf8.h"
#include "text/jinja.h"

static bool byte_ours(const ap_jstr *s, size_t at) { return s->marks ? s->marks[at] : s->ours; }

static bool is_cased(uint32_t code)
{
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)code);
    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT;
}

ap_status ap_jstr_case(ap_jrun *run, const ap_jstr *s, ap_jcase how, ap_jval *out)
{
    ap_jbuild build = {0};
    bool after_cased = false;
    AP_TRY(ap_jstep(run, s->len / 2));
    for (size_t at = 0, length; at < s->len; at += length) {
        uint32_t code = ap_jcode(s, at, &length);
        bool cased = is_cased(code), first = how == AP_JCASE_CAPITALIZE ? at == 0 : !after_cased, ours = byte_ours(s, at);
        bool upper = how == AP_JCASE_UPPER, title = (how == AP_JCASE_TITLE || how == AP_JCASE_CAPITALIZE) && first;
        if (how == AP_JCASE_SWAP)
            upper = utf8proc_category((utf8proc_int32_t)code) == UTF8PROC_CATEGORY_LL;
        after_cased = cased;
        if (code == 0xDF && (upper || title)) { /* the sharp s has no capital of its own in Python */
            AP_TRY(ap_jbuild_bytes(run, &build, upper ? "SS" : "Ss", 2, ours));
            continue;
        }
        utf8proc_int32_t changed = upper ? utf8proc_toupper((utf8proc_int32_t)code)
                                 : title ? utf8proc_totitle((utf8proc_int32_t)code) : utf8proc_tolower((utf8proc_int32_t)code);
        char bytes[4];
        AP_TRY(ap_jbuild_bytes(run, &build, bytes, ap_utf8_put((uint32_t)changed, bytes), ours));
    }
    return ap_jbuild_done(run, &build, out);
}

ap_status ap_jstr_replace(ap_jrun *run, const ap_jstr *s, const ap_jstr *old, const ap_jstr *with, int64_t count, ap_jval *out)
{
    ap_jbuild build = {0};
    size_t at = 0, length;
    AP_TRY(ap_jstep(run, s->len / 8));
    while (count-- != 0) {
        const char *found = old->len ? memmem(s->ptr + at, s->len - at, old->ptr, old->len) : s->ptr + at;
        if (!found)
            break;
        AP_TRY(ap_jstep(run, 1));
        AP_TRY(ap_jbuild_slice(run, &build, s, at, (size_t)(found - s->ptr)));
        AP_TRY(ap_jbuild_str(run, &build, with));
        at = (size_t)(found - s->ptr) + old->len;
        if (old->len == 0) { /* between all characters */
            if (at >= s->len)
                break;
            (void)ap_jcode(s, at, &length);
            AP_TRY(ap_jbuild_slice(run, &build, s, at, at + length));
            at += length;
        }
    }
    AP_TRY(ap_jbuild_slice(run, &build, s, at, s->len));
    return ap_jbuild_done(run, &build, out);
}

static bool is_line_end(uint32_t c) { return (c >= 10 && c <= 13) || (c >= 28 && c <= 30) || c == 0x85 || c == 0x2028 || c == 0x2029; }

ap_status ap_jstr_lines(ap_jrun *run, const ap_jstr *s, bool keep_ends, ap_jlist **out)
{
    size_t begin = 0;
    AP_TRY(ap_jlist_new(run, AP_JL_LIST, 0, out));
    AP_TRY(ap_jstep(run, s->len / 4));
    for (size_t at = 0, length; at < s->len; at += length) {
        uint32_t code = ap_jcode(s, at, &length);
        if (!is_line_end(code))
            continue;
        if (code == '\r' && at + 1 < s->len && s->ptr[at + 1] == '\n')
            length = 2;
        ap_jval line;
        AP_TRY(ap_jstr_slice(run, s, begin, keep_ends ? at + length : at, &line));
        AP_TRY(ap_jlist_add(run, *out, line));
        begin = at + length;
    }
    if (begin < s->len) {
        ap_jval line;
        AP_TRY(ap_jstr_slice(run, s, begin, s->len, &line));
        AP_TRY(ap_jlist_add(run, *out, line));
    }
    return AP_OK;
}

ap_status ap_jstr_escape(ap_jrun *run, const ap_jstr *s, ap_jval *out)
{
    static const char marks[] = "&<>'\"";
    static const char *const entities[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    ap_jbuild build = {0};
    size_t from = 0;
    AP_TRY(ap_jstep(run, s->len / 8));
    for (size_t at = 0; at < s->len; at++) {
        const char *known = s->ptr[at] ? strchr(marks, s->ptr[at]) : NULL;
        if (!known)
            continue;
        AP_TRY(ap_jbuild_slice(run, &build, s, from, at));
        AP_TRY(ap_jbuild_bytes(run, &build, entities[known - marks], strlen(entities[known - marks]), byte_ours(s, at)));
        from = at + 1;
    }
    AP_TRY(ap_jbuild_slice(run, &build, s, from, s->len));
    return ap_jbuild_done(run, &build, out);
}

static ap_status add_fill(ap_jrun *run, ap_jbuild *build, int64_t count, ap_str fill)
{
    AP_TRY(ap_jstep(run, (uint64_t)count / 4));
    for (int64_t i = 0; i < count; i++)
        AP_TRY(ap_jbuild_bytes(run, build, fill.ptr, fill.len, false));
    return AP_OK;
}

ap_status ap_jstr_pad(ap_jrun *run, const ap_jstr *s, int64_t left, int64_t right, ap_str fill, ap_jval *out)
{
    ap_jbuild build = {0};
    if (left + right > AP_JINJA_STRING || left > AP_JINJA_STRING || right > AP_JINJA_STRING)
        return ap_jfail_limit(run, "the bytes of a string", AP_JINJA_STRING);
    AP_TRY(add_fill(run, &build, left, fill));
    AP_TRY(ap_jbuild_str(run, &build, s));
    AP_TRY(add_fill(run, &build, right, fill));
    return ap_jbuild_done(run, &build, out);
}

/* ---- formats ---------------------------------------------------------------------- */

/* [[fill]align][sign][0][width][.precision][type], the part of Python's format language that templates use. */
typedef struct spec {
    char fill, align, sign, type;
    bool comma;
    int64_t width, precision; /* precision -1: none */
} spec;

static int64_t read_number(ap_str text, size_t *at)
{
    int64_t n = 0;
    for (; *at < text.len && text.ptr[*at] >= '0' && text.ptr[*at] <= '9'; (*at)++)
        n = n > AP_JINJA_STRING ? n : n * 10 + (text.ptr[*at] - '0');
    return n;
}

static bool is_align(char c) { return c == '<' || c == '>' || c == '^' || c == '='; }

static ap_status read_spec(ap_jrun *run, ap_str text, spec *s)
{
    size_t at = 0;
    *s = (spec){.fill = ' ', .precision = -1};
    if (text.len > 1 && is_align(text.ptr[1])) {
        s->fill = text.ptr[0];
        s->align = text.ptr[1];
        at = 2;
    } else if (text.len && is_align(text.ptr[0])) {
        s->align = text.ptr[at++];
    }
    if (at < text.len && (text.ptr[at] == '+' || text.ptr[at] == '-' || text.ptr[at] == ' '))
        s->sign = text.ptr[at++];
    if (at < text.len && text.ptr[at] == '0') {
        s->fill = '0';
        s->align = s->align ? s->align : '=';
        at++;
    }
    s->width = read_number(text, &at);
    if (at < text.len && text.ptr[at] == ',') {
        s->comma = true;
        at++;
    }
    if (at < text.len && text.ptr[at] == '.') {
        at++;
        s->precision = read_number(text, &at);
    }
    if (at < text.len)
        s->type = text.ptr[at++];
    if (at < text.len || (s->type && !strchr("sdfgeExXob%", s->type)))
        return ap_jfail(run, "the format '%.*s' is not supported", text.len > 60 ? 60 : (int)text.len, text.ptr);
    if (s->precision > 100 && s->type != 's' && s->type)
        return ap_jfail(run, "the precision of a number is limited to 100");
    return AP_OK;
}

static void add_commas(char *text)
{
    char copy[512];
    size_t n = 0, start = text[0] == '-' || text[0] == '+' || text[0] == ' ', digits = strspn(text + start, "0123456789");
    for (size_t i = 0; text[i] && n + 2 < sizeof copy; i++) {
        if (i > start && i < start + digits && (start + digits - i) % 3 == 0)
            copy[n++] = ',';
        copy[n++] = text[i];
    }
    copy[n] = 0;
    memcpy(text, copy, n + 1);
}

static ap_status number_text(ap_jrun *run, ap_jval v, const spec *s, char out[512])
{
    char type = s->type ? s->type : v.kind == AP_J_FLOAT ? 0 : 'd';
    if (type == 's')
        return ap_jfail(run, "unknown format code 's' for object of type '%s'", ap_jtype_name(v));
    if (strchr("dxXob", type) && type) {
        if (!ap_jis_integer(v))
            return ap_jfail(run, "unknown format code '%c' for object of type '%s'", type, ap_jtype_name(v));
        int64_t i = ap_jas_int(v);
        uint64_t size = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
        char digits[72], *p = digits + sizeof digits - 1;
        unsigned base = type == 'd' ? 10 : type == 'o' ? 8 : type == 'b' ? 2 : 16;
        *p = 0;
        do
            *--p = (type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[size % base];
        while (size /= base);
        (void)snprintf(out, 512, "%s%s", i < 0 ? "-" : s->sign == '+' ? "+" : s->sign == ' ' ? " " : "", p);
    } else {
        double f = ap_jas_float(v) * (type == '%' ? 100 : 1);
        int digits = s->precision < 0 ? 6 : (int)s->precision;
        const char *plus = f >= 0 && s->sign == '+' ? "+" : f >= 0 && s->sign == ' ' ? " " : "";
        if (type == 0 && s->precision < 0) {
            char repr[40];
            ap_jfloat_repr(f, repr);
            (void)snprintf(out, 512, "%s%s", plus, repr);
        } else if (type == 'g' || type == 0) {
            (void)snprintf(out, 512, "%s%.*g", plus, digits, f);
        } else if (type == 'e' || type == 'E') {
            (void)snprintf(out, 512, type == 'e' ? "%s%.*e" : "%s%.*E", plus, digits, f);
        } else {
            (void)snprintf(out, 512, "%s%.*f%s", plus, digits, f, type == '%' ? "%" : "");
        }
    }
    if (s->comma)
        add_commas(out);
    return AP_OK;
}

static ap_status format_value(ap_jrun *run, ap_jbuild *build, ap_jval v, ap_str spec_text)
{
    spec s;
    ap_jval text;
    char number[512];
    bool is_number = ap_jis_number(v) && !(v.kind == AP_J_BOOL && spec_text.len == 0);
    AP_TRY(read_spec(run, spec_text, &s));
    if (is_number) {
        AP_TRY(number_text(run, v, &s, number));
        char *copy = ap_jalloc(run, strlen(number) + 1);
        if (!copy)
            return run->failed;
        memcpy(copy, number, strlen(number) + 1);
        AP_TRY(ap_jstr_new(run, ap_str_from(copy), v.ours, &text));
    } else {
        if (s.type && s.type != 's')
            return ap_jfail(run, "unknown format code '%c' for object of type '%s'", s.type, ap_jtype_name(v));
        if (v.kind == AP_J_UNDEFINED)
            AP_TRY(ap_jstr_new(run, AP_STR(""), true, &text));
        else
            AP_TRY(ap_jto_str(run, v, &text));
        if (s.precision >= 0)
            AP_TRY(ap_jstr_slice(run, text.u.s, 0, ap_jstr_offset(text.u.s, (size_t)s.precision), &text));
    }
    int64_t length = (int64_t)ap_jstr_chars(text.u.s), pad = s.width > length ? s.width - length : 0;
    char align = s.align ? s.align : is_number ? '>' : '<';
    if (align == '=' && text.u.s->len && strchr("+- ", text.u.s->ptr[0])) {
        AP_TRY(ap_jbuild_slice(run, build, text.u.s, 0, 1));
        AP_TRY(ap_jstr_slice(run, text.u.s, 1, text.u.s->len, &text));
    }
    int64_t left = align == '<' ? 0 : align == '^' ? pad / 2 : pad;
    AP_TRY(ap_jstr_pad(run, text.u.s, left, pad - left, (ap_str){&s.fill, 1}, &text));
    return ap_jbuild_str(run, build, text.u.s);
}

/* The value a field names: a number, a name, or nothing (the next), then .attribute and [item]. */
static ap_status field_value(ap_jrun *run, ap_str field, const ap_jargs *args, size_t *next, ap_jval *out)
{
    size_t end = 0;
    while (end < field.len && field.ptr[end] != '.' && field.ptr[end] != '[')
        end++;
    ap_str head = {field.ptr, end};
    size_t index = *next, at = 0;
    bool is_index = head.len == 0;
    if (head.len && head.ptr[0] >= '0' && head.ptr[0] <= '9') {
        index = (size_t)read_number(head, &at);
        is_index = at == head.len;
    } else if (head.len == 0) {
        ++*next;
    }
    bool found = is_index && index < args->count;
    if (found)
        *out = args->at[index];
    for (size_t i = 0; i < args->named_count && !is_index && !found; i++)
        if ((found = ap_str_equal(args->named[i].name, head)))
            *out = args->named[i].value;
    if (!found)
        return ap_jfail(run, "format() has no value for the field '%.*s'", field.len > 60 ? 60 : (int)field.len, field.ptr);
    while (end < field.len) {
        bool item = field.ptr[end] == '[';
        size_t from = ++end;
        while (end < field.len && field.ptr[end] != ']' && (item || (field.ptr[end] != '.' && field.ptr[end] != '[')))
            end++;
        ap_str name = {field.ptr + from, end - from};
        ap_jval key;
        at = 0;
        AP_TRY(ap_jstr_new(run, name, true, &key));
        int64_t number = item && name.len && name.ptr[0] >= '0' && name.ptr[0] <= '9' ? read_number(name, &at) : 0;
        if (item && name.len && at == name.len)
            key = ap_jint(number);
        AP_TRY(item ? ap_jget_item(run, *out, key, out) : ap_jget_attr(run, *out, key, out));
        if (item && end < field.len)
            end++;
    }
    return AP_OK;
}

static ap_status format_field(ap_jrun *run, ap_jbuild *build, ap_str field, const ap_jargs *args, size_t *next)
{
    const char *colon = memchr(field.ptr, ':', field.len);
    ap_str name = {field.ptr, colon ? (size_t)(colon - field.ptr) : field.len}, how = {"", 0};
    ap_jval v;
    if (colon)
        how = (ap_str){colon + 1, field.len - name.len - 1};
    char conversion = 0;
    if (name.len >= 2 && name.ptr[name.len - 2] == '!') {
        conversion = name.ptr[name.len - 1];
        name.len -= 2;
    }
    AP_TRY(field_value(run, name, args, next, &v));
    if (conversion == 'r') {
        ap_jbuild repr = {0};
        AP_TRY(ap_jbuild_repr(run, &repr, v));
        AP_TRY(ap_jbuild_done(run, &repr, &v));
    } else if (conversion == 's') {
        AP_TRY(ap_jto_str(run, v, &v));
    } else if (conversion) {
        return ap_jfail(run, "the conversion '!%c' is not supported", conversion);
    }
    return format_value(run, build, v, how);
}

ap_status ap_jformat(ap_jrun *run, const ap_jstr *format, const ap_jargs *args, ap_jval *out)
{
    ap_jbuild build = {0};
    size_t at = 0, next = 0;
    AP_TRY(ap_jstep(run, format->len / 16));
    while (at < format->len) {
        size_t from = at;
        while (at < format->len && format->ptr[at] != '{' && format->ptr[at] != '}')
            at++;
        AP_TRY(ap_jbuild_slice(run, &build, format, from, at));
        if (at == format->len)
            break;
        char c = format->ptr[at];
        if (at + 1 < format->len && format->ptr[at + 1] == c) {
            AP_TRY(ap_jbuild_slice(run, &build, format, at, at + 1));
            at += 2;
            continue;
        }
        const char *close = c == '{' ? memchr(format->ptr + at, '}', format->len - at) : NULL;
        if (!close)
            return ap_jfail(run, "single '%c' in a format string", c);
        ap_str field = {format->ptr + at + 1, (size_t)(close - format->ptr) - at - 1};
        if (field.len && memchr(field.ptr, '{', field.len))
            return ap_jfail(run, "fields inside fields of a format string are not supported");
        AP_TRY(format_field(run, &build, field, args, &next));
        at += field.len + 2;
    }
    return ap_jbuild_done(run, &build, out);
}

/* One conversion of "%…", its '%' at format->ptr[*at]; `values` is what the right side gives. */
static ap_status percent_one(ap_jrun *run, ap_jbuild *build, const ap_jstr *format, size_t *at, const ap_jlist *values,
                             size_t *next, ap_jval mapping)
{
    char text[64];
    size_t n = 0, i = *at + 1;
    ap_jval v = {.kind = AP_J_UNDEFINED};
    bool left = false, named = i < format->len && format->ptr[i] == '(';
    if (named) {
        const char *close = memchr(format->ptr + i, ')', format->len - i);
        if (!close || mapping.kind != AP_J_DICT)
            return ap_jfail(run, close ? "format requires a mapping" : "incomplete format key");
        ap_jval key, *found;
        AP_TRY(ap_jstr_new(run, (ap_str){format->ptr + i + 1, (size_t)(close - format->ptr) - i - 1}, true, &key));
        AP_TRY(ap_jdict_find(run, mapping.u.dict, key, &found));
        if (!found)
            return ap_jfail(run, "the format names a key that is not there");
        v = *found;
        i = (size_t)(close - format->ptr) + 1;
    }
    for (; i < format->len && strchr("-+ 0", format->ptr[i]) && format->ptr[i]; i++) {
        left |= format->ptr[i] == '-';
        if (format->ptr[i] != '-' && n < 2)
            text[n++] = format->ptr[i];
    }
    size_t from = i;
    while (i < format->len && ((format->ptr[i] >= '0' && format->ptr[i] <= '9') || format->ptr[i] == '.'))
        i++;
    if (i >= format->len || i - from > 20)
        return ap_jfail(run, "incomplete format");
    char type = format->ptr[i];
    *at = i + 1;
    if (type == '%')
        return ap_jbuild_bytes(run, build, "%", 1, byte_ours(format, i));
    if (!strchr("srdifgeExXo", type) || !type)
        return ap_jfail(run, "unsupported format character '%c'", type);
    if (!named) {
        if (*next >= values->count)
            return ap_jfail(run, "not enough arguments for format string");
        v = values->items[(*next)++];
    }
    if (type == 's' || type == 'r') {
        ap_jbuild repr = {0};
        AP_TRY(type == 's' ? ap_jbuild_value(run, &repr, v) : ap_jbuild_repr(run, &repr, v));
        AP_TRY(ap_jbuild_done(run, &repr, &v));
        n = 0;
    } else if (!ap_jis_number(v)) {
        return ap_jfail(run, "%%%c format: a number is required, not %s", type, ap_jtype_name(v));
    } else if (strchr("di", type) && v.kind == AP_J_FLOAT) {
        if (!(v.u.f > -9e18 && v.u.f < 9e18))
            return ap_jfail(run, "an integer result does not fit in 64 bits");
        v = (ap_jval){.kind = AP_J_INT, .ours = v.ours, .u.i = (int64_t)v.u.f};
    }
    char how[80];
    (void)snprintf(how, sizeof how, "%s%.*s%.*s%c", left ? "<" : ap_jis_str(v) ? ">" : "", (int)n, text, (int)(i - from),
                   format->ptr + from, type == 'i' ? 'd' : type == 'r' ? 's' : type);
    char *copy = ap_jalloc(run, sizeof how);
    if (!copy)
        return run->failed;
    memcpy(copy, how, sizeof how);
    return format_value(run, build, v, ap_str_from(copy));
}

ap_status ap_jpercent(ap_jrun *run, const ap_jstr *format, ap_jval args, ap_jval *out)
{
    ap_jbuild build = {0};
    ap_jlist *values;
    size_t at = 0, next = 0;
    if (args.kind == AP_J_LIST && args.u.list->flavor == AP_JL_TUPLE) {
        values = args.u.list;
    } else {
        AP_TRY(ap_jlist_new(run, AP_JL_TUPLE, 1, &values));
        AP_TRY(ap_jlist_add(run, values, args));
    }
    AP_TRY(ap_jstep(run, format->len / 16));
    while (at < format->len) {
        const char *sign = memchr(format->ptr + at, '%', format->len - at);
        size_t end = sign ? (size_t)(sign - format->ptr) : format->len;
        AP_TRY(ap_jbuild_slice(run, &build, format, at, end));
        at = end;
        if (sign)
            AP_TRY(percent_one(run, &build, format, &at, values, &next, args));
    }
    if (next < values->count && args.kind != AP_J_DICT)
        return ap_jfail(run, "not all arguments converted during string formatting");
    return ap_jbuild_done(run, &build, out);
}

/* ---- dates --------------------------------------------------------------------------- */

ap_status ap_jstrftime(ap_jrun *run, const ap_jstr *format, ap_jval *out)
{
    enum { FORMAT_MAX = 200, TEXT_MAX = 8192 };
    char text[FORMAT_MAX + 2], *result;
    struct tm date;
    time_t now = (time_t)run->now;
    if (format->len > FORMAT_MAX)
        return ap_jfail_limit(run, "the bytes of a date format", FORMAT_MAX);
    if (!gmtime_r(&now, &date))
        return ap_jfail(run, "the date is out of range");
    /* A field width such as %999d could ask for much; the names have none. */
    for (size_t i = 0; i + 2 < format->len; i++)
        if (format->ptr[i] == '%' && format->ptr[i + 1] >= '1' && format->ptr[i + 1] <= '9')
            return ap_jfail(run, "widths in date formats are not supported");
    memcpy(text, format->ptr, format->len);
    memcpy(text + format->len, ".", 2); /* never empty, so that 0 means "too long" */
    AP_JNEW(run, result, TEXT_MAX);
    size_t n = strftime(result, TEXT_MAX, text, &date);
    if (n == 0)
        return ap_jfail_limit(run, "the bytes of a date", TEXT_MAX);
    return ap_jstr_new(run, (ap_str){result, n - 1}, !format->marks && format->ours, out);
}
