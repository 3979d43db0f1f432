/* Tests, and the filters that work on one value; jinja_sequence.c has those on many.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <utf8proc.h>

#include "text/jinja.h"

#define FILTER(name) static ap_status name(ap_jrun *run, ap_jval v, const ap_jargs *args, ap_jval *out)
#define TEST(name) static ap_status name(ap_jrun *run, ap_jval v, const ap_jargs *args, bool *out)

/* ---- helpers --------------------------------------------------------------------- */

static ap_status text_of(ap_jrun *run, ap_jval v, ap_jval *out) { return ap_jto_str(run, v, out); }

static ap_status int_or(ap_jrun *run, const char *name, ap_jval v, int64_t otherwise, int64_t *out)
{
    *out = otherwise;
    if (!ap_jgiven(v) || v.kind == AP_J_NONE)
        return AP_OK;
    if (!ap_jis_integer(v))
        return ap_jfail(run, "%s: an int is wanted, not '%s'", name, ap_jtype_name(v));
    *out = ap_jas_int(v);
    return AP_OK;
}

static ap_status mark_safe(ap_jrun *run, ap_jval text, ap_jval *out)
{
    ap_jstr *s;
    AP_JNEW(run, s, 1);
    *s = *text.u.s;
    s->markup = true;
    *out = ap_jof_str(s);
    return AP_OK;
}

/* ---- filters ------------------------------------------------------------------------ */

FILTER(filter_abs)
{
    AP_TRY(ap_jbind(run, "abs", args, "", 0, NULL, 0));
    if (v.kind == AP_J_UNDEFINED)
        return ap_jfail_undefined(run, v);
    if (!ap_jis_number(v))
        return ap_jfail(run, "bad operand type for abs(): '%s'", ap_jtype_name(v));
    if (v.kind == AP_J_FLOAT)
        *out = ap_jfloat(fabs(v.u.f));
    else if (ap_jas_int(v) < 0)
        AP_TRY(ap_jarith(run, AP_JOP_SUB, ap_jint(0), v, out));
    else
        *out = ap_jint(ap_jas_int(v));
    out->ours = v.ours;
    return AP_OK;
}

FILTER(filter_attr)
{
    ap_jval name;
    AP_TRY(ap_jbind(run, "attr", args, "name", 1, &name, 1));
    AP_TRY(text_of(run, name, &name));
    if (v.kind == AP_J_DICT) { /* attributes alone, never items */
        int id;
        bool unsafe = false;
        if (!ap_jmethod_find(v, ap_jbytes(name), &id, &unsafe))
            return ap_jundefined(run, "dict", name, out);
    }
    return ap_jget_attr(run, v, name, out);
}

static ap_status change_case(ap_jrun *run, ap_jval v, const ap_jargs *args, ap_jcase how, ap_jval *out)
{
    AP_TRY(ap_jbind(run, "a case filter", args, "", 0, NULL, 0));
    AP_TRY(text_of(run, v, &v));
    return ap_jstr_case(run, v.u.s, how, out);
}

FILTER(filter_upper) { return change_case(run, v, args, AP_JCASE_UPPER, out); }
FILTER(filter_lower) { return change_case(run, v, args, AP_JCASE_LOWER, out); }
FILTER(filter_capitalize) { return change_case(run, v, args, AP_JCASE_CAPITALIZE, out); }

/* Words begin after a blank, a hyphen or an opening bracket: not what str.title does. */
FILTER(filter_title)
{
    ap_jbuild build = {0};
    AP_TRY(ap_jbind(run, "title", args, "", 0, NULL, 0));
    AP_TRY(text_of(run, v, &v));
    const ap_jstr *s = v.u.s;
    size_t begin = 0;
    bool was_break = false;
    for (size_t at = 0, length = 0; at <= s->len; at += length) {
        uint32_t code = at < s->len ? ap_jcode(s, at, &length) : 0;
        bool is_break = at < s->len && (ap_jis_space(code) || (code < 0x80 && code && strchr("-({[<", (int)code)));
        if (at == s->len || (at > begin && is_break != was_break)) {
            ap_jval word;
            AP_TRY(ap_jstr_slice(run, s, begin, at, &word));
            AP_TRY(ap_jstr_case(run, word.u.s, AP_JCASE_CAPITALIZE, &word));
            AP_TRY(ap_jbuild_str(run, &build, word.u.s));
            begin = at;
            if (at == s->len)
                break;
        }
        was_break = is_break;
    }
    return ap_jbuild_done(run, &build, out);
}

FILTER(filter_center)
{
    ap_jval slot;
    int64_t width;
    AP_TRY(ap_jbind(run, "center", args, "width", 0, &slot, 1));
    AP_TRY(int_or(run, "center", slot, 80, &width));
    AP_TRY(text_of(run, v, &v));
    int64_t length = (int64_t)ap_jstr_chars(v.u.s), pad = width > length ? width - length : 0;
    int64_t left = pad / 2 + (pad & width & 1);
    return ap_jstr_pad(run, v.u.s, left, pad - left, AP_STR(" "), out);
}

FILTER(filter_default)
{
    ap_jval slot[2];
    AP_TRY(ap_jbind(run, "default", args, "default_value boolean", 0, slot, 2));
    *out = v;
    if (v.kind != AP_J_UNDEFINED && !(ap_jis_true(slot[1]) && !ap_jis_true(v)))
        return AP_OK;
    if (args->count || args->named_count)
        *out = slot[0];
    if (!ap_jgiven(slot[0]) && !args->count)
        return ap_jstr_new(run, AP_STR(""), true, out);
    return AP_OK;
}

FILTER(filter_escape)
{
    AP_TRY(ap_jbind(run, "escape", args, "", 0, NULL, 0));
    AP_TRY(text_of(run, v, &v));
    if (!v.u.s->markup)
        AP_TRY(ap_jstr_escape(run, v.u.s, &v));
    return mark_safe(run, v, out);
}

FILTER(filter_forceescape)
{
    AP_TRY(ap_jbind(run, "forceescape", args, "", 0, NULL, 0));
    AP_TRY(text_of(run, v, &v));
    AP_TRY(ap_jstr_escape(run, v.u.s, &v));
    return mark_safe(run, v, out);
}

FILTER(filter_safe)
{
    AP_TRY(ap_jbind(run, "safe", args, "", 0, NULL, 0));
    AP_TRY(text_of(run, v, &v));
    return mark_safe(run, v, out);
}

FILTER(filter_string)
{
    AP_TRY(ap_jbind(run, "string", args, "", 0, NULL, 0));
    return text_of(run, v, out);
}

static bool is_finite_text(const char *text)
{
    for (; *text; text++)
        if (!strchr("0123456789+-.eE_ \t\n\r\f\v", *text))
            return false;
    return true;
}

/* Python's float(text): surrounding blanks, digits with single underscores; inf and nan are left out. */
static bool read_float(ap_str text, double *out)
{
    char copy[400], *stop;
    if (text.len >= sizeof copy || memchr(text.ptr, 0, text.len))
        return false;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = 0;
    if (!is_finite_text(copy))
        return false;
    *out = strtod(copy, &stop);
    if (stop == copy)
        return false;
    return stop[strspn(stop, " \t\n\r\f\v")] == 0;
}

static bool read_int(ap_str text, int64_t base, int64_t *out)
{
    char copy[100];
    size_t n = 0;
    while (text.len && ap_jis_space((unsigned char)text.ptr[0]))
        text.ptr++, text.len--;
    while (text.len && ap_jis_space((unsigned char)text.ptr[text.len - 1]))
        text.len--;
    bool negative = text.len && text.ptr[0] == '-';
    if (text.len && (text.ptr[0] == '-' || text.ptr[0] == '+'))
        text.ptr++, text.len--;
    if (text.len > 2 && text.ptr[0] == '0' && ((base == 16 && (text.ptr[1] | 32) == 'x') || (base == 8 && (text.ptr[1] | 32) == 'o') ||
                                               (base == 2 && (text.ptr[1] | 32) == 'b')))
        text.ptr += 2, text.len -= 2;
    if (text.len == 0 || text.len >= sizeof copy - 2)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i], low = (char)(c | 32);
        int digit = c >= '0' && c <= '9' ? c - '0' : low >= 'a' && low <= 'z' ? low - 'a' + 10 : 99;
        if (c == '_' && i && i + 1 < text.len && text.ptr[i - 1] != '_')
            continue;
        if (digit >= base)
            return false;
        copy[n++] = c;
    }
    copy[n] = 0;
    char signed_copy[104], *stop;
    (void)snprintf(signed_copy, sizeof signed_copy, "%s%s", negative ? "-" : "", copy);
    long long value = strtoll(signed_copy, &stop, (int)base);
    *out = value;
    return *stop == 0 && value != INT64_MAX && value != INT64_MIN; /* the ends may be overflow */
}

static bool float_to_int(double f, int64_t *out)
{
    if (!(f > -9.2e18 && f < 9.2e18))
        return false;
    *out = (int64_t)f;
    return true;
}

FILTER(filter_int)
{
    ap_jval slot[2];
    int64_t base, i;
    double f;
    AP_TRY(ap_jbind(run, "int", args, "default base", 0, slot, 2));
    AP_TRY(int_or(run, "int", slot[1], 10, &base));
    if (base < 2 || base > 36)
        return ap_jfail(run, "int: the base must be between 2 and 36");
    if (v.kind == AP_J_UNDEFINED && v.u.undef)
        return ap_jfail_undefined(run, v);
    bool done = false;
    if (ap_jis_integer(v))
        done = (i = ap_jas_int(v), true);
    else if (v.kind == AP_J_FLOAT)
        done = float_to_int(v.u.f, &i);
    else if (ap_jis_str(v))
        done = read_int(ap_jbytes(v), base, &i) || (read_float(ap_jbytes(v), &f) && float_to_int(f, &i));
    *out = done ? (ap_jval){.kind = AP_J_INT, .ours = v.kind != AP_J_STRING && v.ours, .u.i = i}
         : ap_jgiven(slot[0]) ? slot[0] : ap_jint(0);
    return AP_OK;
}

FILTER(filter_float)
{
    ap_jval slot;
    double f;
    AP_TRY(ap_jbind(run, "float", args, "default", 0, &slot, 1));
    if (v.kind == AP_J_UNDEFINED && v.u.undef)
        return ap_jfail_undefined(run, v);
    bool done = ap_jis_number(v);
    if (done)
        f = ap_jas_float(v);
    else if (ap_jis_str(v))
        done = read_float(ap_jbytes(v), &f);
    *out = done ? (ap_jval){.kind = AP_J_FLOAT, .ours = v.kind != AP_J_STRING && v.ours, .u.f = f}
         : ap_jgiven(slot) ? slot : ap_jfloat(0);
    return AP_OK;
}

/* "common" rounds the decimal value exactly, halves to even, as Python's round does: printf does the same. */
FILTER(filter_round)
{
    ap_jval slot[2];
    int64_t places;
    AP_TRY(ap_jbind(run, "round", args, "precision method", 0, slot, 2));
    AP_TRY(int_or(run, "round", slot[0], 0, &places));
    bool common = !ap_jgiven(slot[1]) || ap_jis_text(slot[1], "common");
    if (!common && !ap_jis_text(slot[1], "ceil") && !ap_jis_text(slot[1], "floor"))
        return ap_jfail(run, "method must be common, ceil or floor");
    if (v.kind == AP_J_UNDEFINED)
        return ap_jfail_undefined(run, v);
    if (!ap_jis_number(v) || places < -300 || places > 300)
        return ap_jfail(run, "round: a number and a precision within 300 are wanted");
    bool ours = v.ours;
    double f = ap_jas_float(v), scale = pow(10, fabs((double)places));
    if (common && v.kind != AP_J_FLOAT && places >= 0) {
        *out = ap_jint(ap_jas_int(v));
    } else if (common && places >= 0) {
        char text[700];
        (void)snprintf(text, sizeof text, "%.*f", (int)places, f);
        *out = ap_jfloat(strtod(text, NULL));
    } else if (common) {
        double result = rint(f / scale) * scale;
        *out = v.kind == AP_J_FLOAT ? ap_jfloat(result) : ap_jint((int64_t)result);
    } else {
        f = places < 0 ? f / scale : f * scale;
        f = ap_jis_text(slot[1], "ceil") ? ceil(f) : floor(f);
        *out = ap_jfloat(places < 0 ? f * scale : f / scale);
    }
    out->ours = ours;
    return AP_OK;
}

FILTER(filter_format)
{
    if (args->named_count && args->count)
        return ap_jfail(run, "can't handle positional and keyword arguments at the same time");
    AP_TRY(text_of(run, v, &v));
    ap_jval values;
    if (args->named_count) {
        ap_jdict *dict;
        AP_TRY(ap_jdict_new(run, 0, &dict));
        for (size_t i = 0; i < args->named_count; i++) {
            ap_jval key;
            AP_TRY(ap_jstr_new(run, args->named[i].name, true, &key));
            AP_TRY(ap_jdict_set(run, dict, key, args->named[i].value));
        }
        values = ap_jof_dict(dict);
    } else {
        ap_jlist *list;
        AP_TRY(ap_jlist_new(run, AP_JL_TUPLE, args->count, &list));
        for (size_t i = 0; i < args->count; i++)
            AP_TRY(ap_jlist_add(run, list, args->at[i]));
        values = ap_jof_list(list);
    }
    return ap_jpercent(run, v.u.s, values, out);
}

FILTER(filter_indent)
{
    ap_jval slot[3];
    ap_jlist *lines;
    ap_jbuild build = {0};
    AP_TRY(ap_jbind(run, "indent", args, "width first blank", 0, slot, 3));
    int64_t width = 4;
    if (!ap_jis_str(slot[0]))
        AP_TRY(int_or(run, "indent", slot[0], 4, &width));
    AP_TRY(text_of(run, v, &v));
    ap_jval indent = slot[0];
    if (!ap_jis_str(indent)) {
        AP_TRY(ap_jstr_new(run, AP_STR(""), true, &indent));
        AP_TRY(ap_jstr_pad(run, indent.u.s, width > 0 ? width : 0, 0, AP_STR(" "), &indent));
    }
    AP_TRY(ap_jstr_lines(run, v.u.s, false, &lines));
    /* Jinja2 adds a newline before it splits, so that a last empty line counts. */
    size_t end = v.u.s->len;
    bool ends = lines->count == 0 || (end && (v.u.s->ptr[end - 1] == '\n' || v.u.s->ptr[end - 1] == '\r'));
    if (ends) {
        ap_jval empty;
        AP_TRY(ap_jstr_new(run, AP_STR(""), true, &empty));
        AP_TRY(ap_jlist_add(run, lines, empty));
    }
    for (size_t i = 0; i < lines->count; i++) {
        const ap_jstr *line = lines->items[i].u.s;
        if (i)
            AP_TRY(ap_jbuild_bytes(run, &build, "\n", 1, false));
        if (i == 0 ? ap_jis_true(slot[1]) : line->len || ap_jis_true(slot[2]))
            AP_TRY(ap_jbuild_str(run, &build, indent.u.s));
        AP_TRY(ap_jbuild_str(run, &build, line));
    }
    return ap_jbuild_done(run, &build, out);
}

FILTER(filter_replace)
{
    ap_jval slot[3];
    int64_t count;
    AP_TRY(ap_jbind(run, "replace", args, "old new count", 2, slot, 3));
    AP_TRY(int_or(run, "replace", slot[2], -1, &count));
    AP_TRY(text_of(run, v, &v));
    AP_TRY(text_of(run, slot[0], &slot[0]));
    AP_TRY(text_of(run, slot[1], &slot[1]));
    return ap_jstr_replace(run, v.u.s, slot[0].u.s, slot[1].u.s, count, out);
}

FILTER(filter_trim)
{
    ap_jval slot;
    AP_TRY(ap_jbind(run, "trim", args, "chars", 0, &slot, 1));
    AP_TRY(text_of(run, v, &v));
    return ap_jstr_strip(run, v.u.s, ap_jis_str(slot) ? slot.u.s : NULL, true, true, out);
}

FILTER(filter_truncate)
{
    ap_jval slot[4], head;
    int64_t length, leeway;
    ap_jbuild build = {0};
    AP_TRY(ap_jbind(run, "truncate", args, "length killwords end leeway", 0, slot, 4));
    AP_TRY(int_or(run, "truncate", slot[0], 255, &length));
    AP_TRY(int_or(run, "truncate", slot[3], 5, &leeway));
    if (!ap_jgiven(slot[2]))
        AP_TRY(ap_jstr_new(run, AP_STR("..."), true, &slot[2]));
    AP_TRY(text_of(run, slot[2], &slot[2]));
    AP_TRY(text_of(run, v, &v));
    int64_t tail = (int64_t)ap_jstr_chars(slot[2].u.s);
    length = length > AP_JINJA_STRING ? AP_JINJA_STRING : length; /* no string is longer */
    leeway = leeway > AP_JINJA_STRING ? AP_JINJA_STRING : leeway;
    if (length < tail || leeway < 0)
        return ap_jfail(run, "truncate: expected length >= %" PRId64 " and leeway >= 0", tail);
    if ((int64_t)ap_jstr_chars(v.u.s) <= length + leeway) {
        *out = v;
        return AP_OK;
    }
    size_t end = ap_jstr_offset(v.u.s, (size_t)(length - tail));
    if (!ap_jis_true(slot[1]))
        for (size_t at = end; at > 0; at--)
            if (v.u.s->ptr[at - 1] == ' ') {
                end = at - 1;
                break;
            }
    AP_TRY(ap_jstr_slice(run, v.u.s, 0, end, &head));
    AP_TRY(ap_jbuild_str(run, &build, head.u.s));
    AP_TRY(ap_jbuild_str(run, &build, slot[2].u.s));
    return ap_jbuild_done(run, &build, out);
}

FILTER(filter_wordcount)
{
    int64_t words = 0;
    bool inside = false;
    AP_TRY(ap_jbind(run, "wordcount", args, "", 0, NULL, 0));
    AP_TRY(text_of(run, v, &v));
    AP_TRY(ap_jstep(run, v.u.s->len / 4));
    for (size_t at = 0, length; at < v.u.s->len; at += length) {
        utf8proc_int32_t code = (utf8proc_int32_t)ap_jcode(v.u.s, at, &length);
        utf8proc_category_t c = utf8proc_category(code);
        bool word = code == '_' || (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO) ||
                    (c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO);
        words += word && !inside;
        inside = word;
    }
    *out = ap_jint(words);
    return AP_OK;
}

FILTER(filter_urlencode)
{
    ap_jbuild build = {0};
    AP_TRY(ap_jbind(run, "urlencode", args, "", 0, NULL, 0));
    if (v.kind == AP_J_DICT || v.kind == AP_J_LIST)
        return ap_jfail(run, "urlencode of a mapping or list is not supported");
    AP_TRY(text_of(run, v, &v));
    const ap_jstr *s = v.u.s;
    AP_TRY(ap_jstep(run, s->len / 2));
    for (size_t i = 0; i < s->len; i++) {
        unsigned char c = (unsigned char)s->ptr[i];
        char text[4];
        if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c && strchr("_.-~/", c))) {
            AP_TRY(ap_jbuild_slice(run, &build, s, i, i + 1));
        } else {
            (void)snprintf(text, sizeof text, "%%%02X", c);
            AP_TRY(ap_jbuild_bytes(run, &build, text, 3, false));
        }
    }
    return ap_jbuild_done(run, &build, out);
}

FILTER(filter_tojson)
{
    ap_jval slot[4];
    ap_jbuild build = {0};
    AP_TRY(ap_jbind(run, "tojson", args, "ensure_ascii indent separators sort_keys", 0, slot, 4));
    ap_jjson how = {.ascii = ap_jis_true(slot[0]), .sort_keys = ap_jis_true(slot[3]), .item_separator = AP_STR(", "),
                    .key_separator = AP_STR(": ")};
    if (ap_jis_str(slot[1]) || ap_jis_integer(slot[1])) {
        how.indented = true;
        how.item_separator = AP_STR(",");
        if (!ap_jis_str(slot[1])) {
            int64_t width = ap_jas_int(slot[1]);
            if (width > 64)
                return ap_jfail_limit(run, "the columns of a JSON indent", 64);
            AP_TRY(ap_jstr_new(run, AP_STR(""), true, &slot[1]));
            AP_TRY(ap_jstr_pad(run, slot[1].u.s, width > 0 ? width : 0, 0, AP_STR(" "), &slot[1]));
        }
        how.indent = ap_jbytes(slot[1]);
    }
    if (slot[2].kind == AP_J_LIST) {
        const ap_jlist *list = slot[2].u.list;
        if (list->count != 2 || !ap_jis_str(list->items[0]) || !ap_jis_str(list->items[1]))
            return ap_jfail(run, "tojson: separators must be two strings");
        how.item_separator = ap_jbytes(list->items[0]);
        how.key_separator = ap_jbytes(list->items[1]);
    }
    AP_TRY(ap_jbuild_json(run, &build, v, &how));
    return ap_jbuild_done(run, &build, out);
}

const ap_jfilter *ap_jfilter_find(ap_str name)
{
    static const ap_jfilter table[] = {
        {"abs", filter_abs}, {"attr", filter_attr}, {"capitalize", filter_capitalize}, {"center", filter_center},
        {"d", filter_default}, {"default", filter_default}, {"e", filter_escape}, {"escape", filter_escape},
        {"float", filter_float}, {"forceescape", filter_forceescape}, {"format", filter_format}, {"indent", filter_indent},
        {"int", filter_int}, {"lower", filter_lower}, {"replace", filter_replace}, {"round", filter_round},
        {"safe", filter_safe}, {"string", filter_string}, {"title", filter_title}, {"tojson", filter_tojson},
        {"trim", filter_trim}, {"truncate", filter_truncate}, {"upper", filter_upper}, {"urlencode", filter_urlencode},
        {"wordcount", filter_wordcount}, {"filesizeformat", NULL}, {"pprint", NULL}, {"random", NULL}, {"striptags", NULL},
        {"urlize", NULL}, {"wordwrap", NULL}, {"xmlattr", NULL}, {NULL, NULL}};
    for (const ap_jfilter *f = table; f->name; f++)
        if (ap_str_is(name, f->name))
            return f;
    for (const ap_jfilter *f = ap_jfilters_sequence; f->name; f++)
        if (ap_str_is(name, f->name))
            return f;
    return NULL;
}

/* ---- tests ---------------------------------------------------------------------------- */

static ap_status no_arguments(ap_jrun *run, const ap_jargs *args) { return ap_jbind(run, "a test", args, "", 0, NULL, 0); }

/* A test that is a C condition on v. */
#define SIMPLE_TEST(name, condition)                                                    \
    TEST(name)                                                                          \
    {                                                                                   \
        *out = (condition);                                                             \
        return no_arguments(run, args);                                                 \
    }

SIMPLE_TEST(test_defined, v.kind != AP_J_UNDEFINED)
SIMPLE_TEST(test_undefined, v.kind == AP_J_UNDEFINED)
SIMPLE_TEST(test_none, v.kind == AP_J_NONE)
SIMPLE_TEST(test_boolean, v.kind == AP_J_BOOL)
SIMPLE_TEST(test_true, v.kind == AP_J_BOOL && v.u.b)
SIMPLE_TEST(test_false, v.kind == AP_J_BOOL && !v.u.b)
SIMPLE_TEST(test_integer, v.kind == AP_J_INT)
SIMPLE_TEST(test_float, v.kind == AP_J_FLOAT)
SIMPLE_TEST(test_number, ap_jis_number(v))
SIMPLE_TEST(test_string, ap_jis_str(v))
SIMPLE_TEST(test_mapping, v.kind == AP_J_DICT)
SIMPLE_TEST(test_iterable, ap_jis_str(v) || v.kind == AP_J_LIST || v.kind == AP_J_DICT || v.kind == AP_J_UNDEFINED || v.kind == AP_J_LOOP)
SIMPLE_TEST(test_sequence, ap_jis_str(v) || v.kind == AP_J_DICT || v.kind == AP_J_UNDEFINED ||
            (v.kind == AP_J_LIST && (v.u.list->flavor <= AP_JL_TUPLE || v.u.list->flavor == AP_JL_RANGE)))
SIMPLE_TEST(test_callable, v.kind == AP_J_MACRO || v.kind == AP_J_METHOD || v.kind == AP_J_FUNCTION || v.kind == AP_J_LOOP ||
            v.kind == AP_J_UNDEFINED || (v.kind == AP_J_COUNTER && v.u.counter->is_joiner))
SIMPLE_TEST(test_escaped, ap_jis_str(v) && v.u.s->markup)
SIMPLE_TEST(test_filter, ap_jis_str(v) && ap_jfilter_find(ap_jbytes(v)))
SIMPLE_TEST(test_test, ap_jis_str(v) && ap_jtest_find(ap_jbytes(v)))

static ap_status test_case(ap_jrun *run, ap_jval v, const char *method, bool *out)
{
    ap_jval name, bound, result;
    AP_TRY(text_of(run, v, &v));
    AP_TRY(ap_jstr_new(run, ap_str_from(method), true, &name));
    AP_TRY(ap_jget_attr(run, v, name, &bound));
    AP_TRY(ap_jcall(run, bound, &(ap_jargs){0}, &result));
    *out = ap_jis_true(result);
    return AP_OK;
}

TEST(test_lower) { return test_case(run, v, "islower", out); }
TEST(test_upper) { return test_case(run, v, "isupper", out); }

static ap_status modulo_is(ap_jrun *run, ap_jval v, int64_t by, int64_t rest, bool *out)
{
    ap_jval r;
    AP_TRY(ap_jarith(run, AP_JOP_MOD, v, ap_jint(by), &r));
    return ap_jequal(run, r, ap_jint(rest), out);
}

TEST(test_odd)
{
    AP_TRY(no_arguments(run, args));
    return modulo_is(run, v, 2, 1, out);
}

TEST(test_even)
{
    AP_TRY(no_arguments(run, args));
    return modulo_is(run, v, 2, 0, out);
}

TEST(test_divisibleby)
{
    ap_jval slot;
    AP_TRY(ap_jbind(run, "divisibleby", args, "num", 1, &slot, 1));
    if (!ap_jis_integer(slot))
        return ap_jfail(run, "divisibleby: an int is wanted");
    return modulo_is(run, v, ap_jas_int(slot), 0, out);
}

TEST(test_in)
{
    ap_jval slot;
    AP_TRY(ap_jbind(run, "in", args, "seq", 1, &slot, 1));
    return ap_jcontains(run, slot, v, out);
}

TEST(test_sameas)
{
    ap_jval slot;
    AP_TRY(ap_jbind(run, "sameas", args, "other", 1, &slot, 1));
    *out = false;
    if (v.kind != slot.kind)
        return AP_OK;
    if (v.kind == AP_J_LIST || v.kind >= AP_J_DICT) {
        *out = v.u.list == slot.u.list;
        return AP_OK;
    }
    return ap_jequal(run, v, slot, out);
}

static ap_status other_of(ap_jrun *run, const ap_jargs *args, ap_jval *other)
{
    return ap_jbind(run, "a comparison", args, "other", 1, other, 1);
}

TEST(test_eq)
{
    ap_jval other;
    AP_TRY(other_of(run, args, &other));
    return ap_jequal(run, v, other, out);
}

TEST(test_ne)
{
    AP_TRY(test_eq(run, v, args, out));
    *out = !*out;
    return AP_OK;
}

TEST(test_lt)
{
    ap_jval other;
    AP_TRY(other_of(run, args, &other));
    return ap_jless(run, v, other, "<", out);
}

TEST(test_gt)
{
    ap_jval other;
    AP_TRY(other_of(run, args, &other));
    return ap_jless(run, other, v, ">", out);
}

TEST(test_le)
{
    AP_TRY(test_gt(run, v, args, out));
    *out = !*out;
    return AP_OK;
}

TEST(test_ge)
{
    AP_TRY(test_lt(run, v, args, out));
    *out = !*out;
    return AP_OK;
}

const ap_jtest *ap_jtest_find(ap_str name)
{
    static const ap_jtest table[] = {
        {"defined", test_defined}, {"undefined", test_undefined}, {"none", test_none}, {"boolean", test_boolean},
        {"true", test_true}, {"false", test_false}, {"integer", test_integer}, {"float", test_float}, {"number", test_number},
        {"string", test_string}, {"mapping", test_mapping}, {"iterable", test_iterable}, {"sequence", test_sequence},
        {"callable", test_callable}, {"escaped", test_escaped}, {"filter", test_filter}, {"test", test_test},
        {"lower", test_lower}, {"upper", test_upper}, {"odd", test_odd}, {"even", test_even}, {"divisibleby", test_divisibleby},
        {"in", test_in}, {"sameas", test_sameas}, {"eq", test_eq}, {"equalto", test_eq}, {"==", test_eq}, {"ne", test_ne},
        {"!=", test_ne}, {"lt", test_lt}, {"lessthan", test_lt}, {"<", test_lt}, {"gt", test_gt}, {"greaterthan", test_gt},
        {">", test_gt}, {"le", test_le}, {"<=", test_le}, {"ge", test_ge}, {">=", test_ge}, {NULL, NULL}};
    for (const ap_jtest *t = table; t->name; t++)
        if (ap_str_is(name, t->name))
            return t;
    return NULL;
}
