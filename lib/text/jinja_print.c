/* Values as text: Python's str and repr, and JSON.
 *
 * What repr and JSON write counts as input throughout, even their punctuation:
 * nothing that was turned into data can become a control token again.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <utf8proc.h>

#include "text/jinja_tree.h"

/* Shortest digits that read back as f, in Python's layout. */
void ap_jfloat_repr(double f, char out[40])
{
    if (isnan(f) || isinf(f)) {
        (void)snprintf(out, 40, "%s", isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
        return;
    }
    char digits[40];
    int precision = 0;
    do
        (void)snprintf(digits, sizeof digits, "%.*e", precision, f);
    while (strtod(digits, NULL) != f && precision++ < 17);
    long exponent = strtol(strchr(digits, 'e') + 1, NULL, 10);
    if (exponent >= -4 && exponent < 16) {
        int decimals = precision - (int)exponent;
        (void)snprintf(out, 40, "%.*f", decimals > 1 ? decimals : 1, f);
        return;
    }
    *strchr(digits, 'e') = 0;
    (void)snprintf(out, 40, "%.24se%c%02d", digits, exponent < 0 ? '-' : '+', abs((int)exponent) % 1000);
}

static ap_status add(ap_jrun *run, ap_jbuild *b, const char *text) { return ap_jbuild_bytes(run, b, text, strlen(text), false); }

static ap_status enter(ap_jrun *run)
{
    if (run->nest >= AP_JINJA_NEST)
        return ap_jfail_limit(run, "values inside values", AP_JINJA_NEST);
    run->nest++;
    return ap_jstep(run, 1);
}

static bool is_printable(uint32_t code)
{
    if (code < 0x7f)
        return code >= 0x20;
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

static ap_status repr_string(ap_jrun *run, ap_jbuild *b, const ap_jstr *s)
{
    bool single = s->len && memchr(s->ptr, '\'', s->len), both = s->len && memchr(s->ptr, '"', s->len);
    char quote = single && !both ? '"' : '\'', text[16];
    AP_TRY(ap_jstep(run, s->len / 4));
    AP_TRY(ap_jbuild_bytes(run, b, &quote, 1, false));
    size_t from = 0;
    for (size_t at = 0, length; at < s->len; at += length) {
        uint32_t code = ap_jcode(s, at, &length);
        if (code == '\n' || code == '\r' || code == '\t')
            (void)snprintf(text, sizeof text, "\\%c", code == '\n' ? 'n' : code == '\r' ? 'r' : 't');
        else if (code == '\\' || code == (unsigned char)quote)
            (void)snprintf(text, sizeof text, "\\%c", (char)code);
        else if (is_printable(code))
            continue;
        else
            (void)snprintf(text, sizeof text, code < 0x100 ? "\\x%02x" : code < 0x10000 ? "\\u%04x" : "\\U%08x", code);
        AP_TRY(ap_jbuild_bytes(run, b, s->ptr + from, at - from, false));
        AP_TRY(add(run, b, text));
        from = at + length;
    }
    AP_TRY(ap_jbuild_bytes(run, b, s->ptr + from, s->len - from, false));
    return ap_jbuild_bytes(run, b, &quote, 1, false);
}

static ap_status repr_items(ap_jrun *run, ap_jbuild *b, const ap_jlist *list)
{
    for (size_t i = 0; i < list->count; i++) {
        if (i)
            AP_TRY(add(run, b, ", "));
        AP_TRY(ap_jstep(run, 1));
        AP_TRY(ap_jbuild_repr(run, b, list->items[i]));
    }
    return AP_OK;
}

static ap_status repr_list(ap_jrun *run, ap_jbuild *b, const ap_jlist *list)
{
    char text[96];
    switch (list->flavor) {
    case AP_JL_RANGE:
        (void)snprintf(text, sizeof text, list->step == 1 ? "range(%" PRId64 ", %" PRId64 ")"
                       : "range(%" PRId64 ", %" PRId64 ", %" PRId64 ")", list->start, list->stop, list->step);
        return add(run, b, text);
    case AP_JL_GENERATOR:
        return add(run, b, "<generator object>");
    case AP_JL_TUPLE:
        AP_TRY(add(run, b, "("));
        AP_TRY(repr_items(run, b, list));
        return add(run, b, list->count == 1 ? ",)" : ")");
    case AP_JL_LIST:
        AP_TRY(add(run, b, "["));
        AP_TRY(repr_items(run, b, list));
        return add(run, b, "]");
    default:
        AP_TRY(add(run, b, list->flavor == AP_JL_KEYS ? "dict_keys([" : list->flavor == AP_JL_VALUES ? "dict_values([" : "dict_items(["));
        AP_TRY(repr_items(run, b, list));
        return add(run, b, "])");
    }
}

static ap_status repr_dict(ap_jrun *run, ap_jbuild *b, const ap_jdict *dict)
{
    AP_TRY(add(run, b, "{"));
    for (size_t i = 0; i < dict->count; i++) {
        if (i)
            AP_TRY(add(run, b, ", "));
        AP_TRY(ap_jbuild_repr(run, b, dict->pairs[i].key));
        AP_TRY(add(run, b, ": "));
        AP_TRY(ap_jbuild_repr(run, b, dict->pairs[i].value));
    }
    return add(run, b, "}");
}

static ap_status repr_inside(ap_jrun *run, ap_jbuild *b, ap_jval v)
{
    switch ((ap_jkind)v.kind) {
    case AP_J_STRING:
        return repr_string(run, b, v.u.s);
    case AP_J_LIST:
        return repr_list(run, b, v.u.list);
    case AP_J_DICT:
        return repr_dict(run, b, v.u.dict);
    case AP_J_NAMESPACE:
        AP_TRY(add(run, b, "<Namespace "));
        AP_TRY(repr_dict(run, b, v.u.dict));
        return add(run, b, ">");
    case AP_J_UNDEFINED:
        return add(run, b, "Undefined");
    case AP_J_MACRO:
        AP_TRY(add(run, b, "<Macro "));
        AP_TRY(repr_string(run, b, v.u.macro->node->value.u.s));
        return add(run, b, ">");
    case AP_J_METHOD:
        return add(run, b, "<method>");
    case AP_J_FUNCTION:
        return add(run, b, "<function>");
    case AP_J_LOOP:
        return add(run, b, "<LoopContext>");
    case AP_J_COUNTER:
        return add(run, b, "<Cycler>");
    default:
        return ap_jbuild_value(run, b, v);
    }
}

ap_status ap_jbuild_repr(ap_jrun *run, ap_jbuild *b, ap_jval v)
{
    AP_TRY(enter(run));
    ap_status status = repr_inside(run, b, v);
    run->nest--;
    return status;
}

ap_status ap_jbuild_value(ap_jrun *run, ap_jbuild *b, ap_jval v)
{
    char text[40];
    switch ((ap_jkind)v.kind) {
    case AP_J_UNDEFINED:
        return AP_OK;
    case AP_J_STRING:
        return ap_jbuild_str(run, b, v.u.s);
    case AP_J_NONE:
        return ap_jbuild_bytes(run, b, "None", 4, v.ours);
    case AP_J_BOOL:
        return ap_jbuild_bytes(run, b, v.u.b ? "True" : "False", v.u.b ? 4 : 5, v.ours);
    case AP_J_INT:
        (void)snprintf(text, sizeof text, "%" PRId64, v.u.i);
        return ap_jbuild_bytes(run, b, text, strlen(text), v.ours);
    case AP_J_FLOAT:
        ap_jfloat_repr(v.u.f, text);
        return ap_jbuild_bytes(run, b, text, strlen(text), v.ours);
    default:
        return ap_jbuild_repr(run, b, v);
    }
}

ap_status ap_jto_str(ap_jrun *run, ap_jval v, ap_jval *out)
{
    if (ap_jis_str(v)) {
        *out = v;
        return AP_OK;
    }
    ap_jbuild b = {0};
    AP_TRY(ap_jbuild_value(run, &b, v));
    return ap_jbuild_done(run, &b, out);
}

/* ---- JSON --------------------------------------------------------------------- */

static ap_status json_string(ap_jrun *run, ap_jbuild *b, const ap_jstr *s, bool ascii)
{
    char text[16];
    size_t from = 0;
    AP_TRY(ap_jstep(run, s->len / 4));
    AP_TRY(add(run, b, "\""));
    for (size_t at = 0, length; at < s->len; at += length) {
        uint32_t code = ap_jcode(s, at, &length);
        static const char shorts[] = "\b\t\n\f\r\"\\", letters[] = "btnfr\"\\";
        const char *known = code && code < 0x80 ? strchr(shorts, (int)code) : NULL;
        if (known)
            (void)snprintf(text, sizeof text, "\\%c", letters[known - shorts]);
        else if (code >= 0x20 && (code < 0x7f || !ascii))
            continue;
        else if (code < 0x10000)
            (void)snprintf(text, sizeof text, "\\u%04x", code);
        else
            (void)snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xD7C0 + (code >> 10), 0xDC00 + (code & 0x3FF));
        AP_TRY(ap_jbuild_bytes(run, b, s->ptr + from, at - from, false));
        AP_TRY(add(run, b, text));
        from = at + length;
    }
    AP_TRY(ap_jbuild_bytes(run, b, s->ptr + from, s->len - from, false));
    return add(run, b, "\"");
}

/* Numbers, booleans, None: what may stand bare, and as a key in quotes. */
static ap_status json_bare(ap_jrun *run, ap_jbuild *b, ap_jval v)
{
    if (v.kind == AP_J_NONE)
        return add(run, b, "null");
    if (v.kind == AP_J_BOOL)
        return add(run, b, v.u.b ? "true" : "false");
    if (v.kind == AP_J_FLOAT && isnan(v.u.f))
        return add(run, b, "NaN");
    if (v.kind == AP_J_FLOAT && isinf(v.u.f))
        return add(run, b, v.u.f > 0 ? "Infinity" : "-Infinity");
    v.ours = false;
    return ap_jbuild_value(run, b, v);
}

static ap_status json_line(ap_jrun *run, ap_jbuild *b, const ap_jjson *how, unsigned level)
{
    if (!how->indented)
        return AP_OK;
    AP_TRY(add(run, b, "\n"));
    for (unsigned i = 0; i < level; i++)
        AP_TRY(ap_jbuild_bytes(run, b, how->indent.ptr, how->indent.len, false));
    return AP_OK;
}

static ap_status json_key(ap_jrun *run, ap_jbuild *b, ap_jval key, bool ascii)
{
    if (ap_jis_str(key))
        return json_string(run, b, key.u.s, ascii);
    if (!ap_jis_number(key) && key.kind != AP_J_NONE)
        return ap_jfail(run, "keys must be str, int, float, bool or None, not %s", ap_jtype_name(key));
    AP_TRY(add(run, b, "\""));
    AP_TRY(json_bare(run, b, key));
    return add(run, b, "\"");
}

/* Stable insertion sort by key; dictionaries in templates are small and steps are counted. */
static ap_status json_sorted(ap_jrun *run, const ap_jdict *dict, const ap_jpair **out)
{
    ap_jpair *sorted;
    AP_JNEW(run, sorted, dict->count + 1);
    for (size_t i = 0; i < dict->count; i++) {
        size_t at = i;
        for (; at > 0; at--) {
            bool less;
            AP_TRY(ap_jless(run, dict->pairs[i].key, sorted[at - 1].key, "<", &less));
            if (!less)
                break;
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = dict->pairs[i];
    }
    *out = sorted;
    return AP_OK;
}

static ap_status json_value(ap_jrun *run, ap_jbuild *b, ap_jval v, const ap_jjson *how, unsigned level);

static ap_status json_inside(ap_jrun *run, ap_jbuild *b, ap_jval v, const ap_jjson *how, unsigned level)
{
    bool is_list = v.kind == AP_J_LIST;
    size_t count = is_list ? v.u.list->count : v.u.dict->count;
    const ap_jpair *pairs = is_list ? NULL : v.u.dict->pairs;
    if (count == 0)
        return add(run, b, is_list ? "[]" : "{}");
    if (!is_list && how->sort_keys)
        AP_TRY(json_sorted(run, v.u.dict, &pairs));
    AP_TRY(add(run, b, is_list ? "[" : "{"));
    for (size_t i = 0; i < count; i++) {
        AP_TRY(ap_jstep(run, 1));
        if (i)
            AP_TRY(ap_jbuild_bytes(run, b, how->item_separator.ptr, how->item_separator.len, false));
        AP_TRY(json_line(run, b, how, level + 1));
        if (!is_list) {
            AP_TRY(json_key(run, b, pairs[i].key, how->ascii));
            AP_TRY(ap_jbuild_bytes(run, b, how->key_separator.ptr, how->key_separator.len, false));
        }
        AP_TRY(json_value(run, b, is_list ? v.u.list->items[i] : pairs[i].value, how, level + 1));
    }
    AP_TRY(json_line(run, b, how, level));
    return add(run, b, is_list ? "]" : "}");
}

static ap_status json_value(ap_jrun *run, ap_jbuild *b, ap_jval v, const ap_jjson *how, unsigned level)
{
    if (ap_jis_str(v))
        return json_string(run, b, v.u.s, how->ascii);
    if (ap_jis_number(v) || v.kind == AP_J_NONE)
        return json_bare(run, b, v);
    if (v.kind != AP_J_DICT && (v.kind != AP_J_LIST || v.u.list->flavor > AP_JL_TUPLE))
        return ap_jfail(run, "Object of type %s is not JSON serializable", ap_jtype_name(v));
    AP_TRY(enter(run));
    ap_status status = json_inside(run, b, v, how, level);
    run->nest--;
    return status;
}

ap_status ap_jbuild_json(ap_jrun *run, ap_jbuild *b, ap_jval v, const ap_jjson *options)
{
    return json_value(run, b, v, options, 0);
}
