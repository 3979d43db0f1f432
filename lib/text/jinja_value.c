/* Values: making, reading, comparing.  Printing is in jinja_print.c.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "text/jinja.h"

/* ---- failures and budgets --------------------------------------------------- */

ap_status ap_jfail(ap_jrun *run, const char *format, ...)
{
    char text[sizeof run->err->message];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    run->failed = ap_fail(run->err, AP_E_TEMPLATE, "line %" PRIu32 ": %s", run->line, text);
    return run->failed;
}

ap_status ap_jfail_limit(ap_jrun *run, const char *what, uint64_t limit)
{
    run->failed = ap_fail(run->err, AP_E_LIMIT, "line %" PRIu32 " of the chat template: %s are limited to %" PRIu64,
                          run->line, what, limit);
    return run->failed;
}

ap_status ap_jfail_undefined(ap_jrun *run, ap_jval v)
{
    const ap_jundef *undef = v.u.undef;
    ap_jval shown;
    if (!undef)
        return ap_jfail(run, "a value is undefined");
    if (undef->hint)
        return ap_jfail(run, "%s", undef->hint);
    AP_TRY(ap_jto_str(run, undef->name, &shown));
    ap_str name = ap_jbytes(shown);
    int len = name.len > 200 ? 200 : (int)name.len;
    if (undef->unsafe)
        return ap_jfail(run, "access to attribute '%.*s' of '%s' object is unsafe", len, name.ptr, undef->type);
    if (!undef->type)
        return ap_jfail(run, "'%.*s' is undefined", len, name.ptr);
    if (ap_jis_str(undef->name))
        return ap_jfail(run, "'%s object' has no attribute '%.*s'", undef->type, len, name.ptr);
    return ap_jfail(run, "%s object has no element %.*s", undef->type, len, name.ptr);
}

ap_status ap_jstep(ap_jrun *run, uint64_t n)
{
    if (n > run->steps_max - run->steps) {
        run->steps = run->steps_max;
        return ap_jfail_limit(run, "steps", run->steps_max);
    }
    run->steps += n;
    return AP_OK;
}

void *ap_jalloc(ap_jrun *run, size_t bytes)
{
    void *result = ap_arena_alloc(&run->arena, bytes);
    if (result)
        return result;
    size_t limit = run->arena.limit_bytes;
    if (bytes + 16 > limit || run->arena.used_bytes > limit - bytes - 16) /* 16: the arena rounds up */
        (void)ap_jfail_limit(run, run->what, limit);
    else
        run->failed = ap_fail_nomem(run->err, bytes);
    return NULL;
}

/* ---- making values ------------------------------------------------------------ */

ap_status ap_jundefined(ap_jrun *run, const char *type, ap_jval name, ap_jval *out)
{
    ap_jundef *undef;
    AP_JNEW(run, undef, 1);
    *undef = (ap_jundef){.type = type, .name = name};
    *out = (ap_jval){.kind = AP_J_UNDEFINED, .ours = true, .u.undef = undef};
    return AP_OK;
}

static bool is_ascii(const char *p, size_t n)
{
    unsigned char all = 0;
    for (size_t i = 0; i < n; i++)
        all |= (unsigned char)p[i];
    return all < 0x80;
}

ap_status ap_jstr_new(ap_jrun *run, ap_str bytes, bool ours, ap_jval *out)
{
    ap_jstr *s;
    AP_JNEW(run, s, 1);
    *s = (ap_jstr){.ptr = bytes.len ? bytes.ptr : "", .len = bytes.len, .ours = ours, .ascii = is_ascii(bytes.ptr, bytes.len)};
    *out = ap_jof_str(s);
    return AP_OK;
}

ap_status ap_jlist_new(ap_jrun *run, ap_jflavor flavor, size_t room, ap_jlist **out)
{
    ap_jlist *list;
    AP_JNEW(run, list, 1);
    *list = (ap_jlist){.flavor = flavor};
    if (room) {
        AP_JNEW(run, list->items, room);
        list->room = room;
    }
    *out = list;
    return AP_OK;
}

ap_status ap_jlist_add(ap_jrun *run, ap_jlist *list, ap_jval value)
{
    AP_TRY(ap_jstep(run, 1));
    if (list->count == list->room) {
        size_t room = list->room ? list->room * 2 : 8;
        ap_jval *grown;
        AP_JNEW(run, grown, room);
        if (list->count)
            memcpy(grown, list->items, list->count * sizeof *grown);
        list->items = grown;
        list->room = room;
    }
    list->items[list->count++] = value;
    return AP_OK;
}

ap_status ap_jpair_new(ap_jrun *run, ap_jval a, ap_jval b, ap_jval *out)
{
    ap_jlist *list = NULL;
    AP_TRY(ap_jlist_new(run, AP_JL_TUPLE, 2, &list));
    list->items[0] = a;
    list->items[1] = b;
    list->count = 2;
    *out = ap_jof_list(list);
    return AP_OK;
}

ap_status ap_jdict_new(ap_jrun *run, size_t room, ap_jdict **out)
{
    ap_jdict *dict;
    AP_JNEW(run, dict, 1);
    *dict = (ap_jdict){0};
    if (room) {
        AP_JNEW(run, dict->pairs, room);
        dict->room = room;
    }
    *out = dict;
    return AP_OK;
}

ap_jval *ap_jdict_get(const ap_jdict *dict, ap_str key)
{
    for (size_t i = 0; i < dict->count; i++)
        if (ap_jis_str(dict->pairs[i].key) && ap_str_equal(ap_jbytes(dict->pairs[i].key), key))
            return &dict->pairs[i].value;
    return NULL;
}

static bool is_hashable(ap_jval v)
{
    if (v.kind == AP_J_LIST && v.u.list->flavor == AP_JL_TUPLE) {
        for (size_t i = 0; i < v.u.list->count; i++)
            if (v.u.list->items[i].kind == AP_J_LIST || v.u.list->items[i].kind == AP_J_DICT)
                return false; /* a tuple in a tuple is refused too: nobody keys by it */
        return true;
    }
    return v.kind != AP_J_LIST && v.kind != AP_J_DICT;
}

ap_status ap_jdict_find(ap_jrun *run, const ap_jdict *dict, ap_jval key, ap_jval **found)
{
    *found = NULL;
    if (!is_hashable(key))
        return ap_jfail(run, "unhashable type: '%s'", ap_jtype_name(key));
    AP_TRY(ap_jstep(run, 1 + dict->count / 16));
    if (ap_jis_str(key)) {
        *found = ap_jdict_get(dict, ap_jbytes(key));
        return AP_OK;
    }
    for (size_t i = 0; i < dict->count; i++) {
        bool equal;
        AP_TRY(ap_jequal(run, dict->pairs[i].key, key, &equal));
        if (equal) {
            *found = &dict->pairs[i].value;
            return AP_OK;
        }
    }
    return AP_OK;
}

ap_status ap_jdict_set(ap_jrun *run, ap_jdict *dict, ap_jval key, ap_jval value)
{
    ap_jval *old;
    AP_TRY(ap_jdict_find(run, dict, key, &old));
    if (old) {
        *old = value;
        return AP_OK;
    }
    if (dict->count == dict->room) {
        size_t room = dict->room ? dict->room * 2 : 8;
        ap_jpair *grown;
        AP_JNEW(run, grown, room);
        if (dict->count)
            memcpy(grown, dict->pairs, dict->count * sizeof *grown);
        dict->pairs = grown;
        dict->room = room;
    }
    dict->pairs[dict->count++] = (ap_jpair){key, value};
    return AP_OK;
}

/* ---- strings that grow ---------------------------------------------------------- */

/* Room for `more` bytes, and marks as soon as the string is mixed. */
static ap_status build_reserve(ap_jrun *run, ap_jbuild *b, size_t more, bool mixed)
{
    if (more > AP_JINJA_STRING || b->len > AP_JINJA_STRING - more)
        return ap_jfail_limit(run, "the bytes of a string", AP_JINJA_STRING);
    AP_TRY(ap_jstep(run, more / 256));
    size_t need = b->len + more;
    if (need > b->room) {
        size_t room = b->room ? b->room : 64;
        while (room < need)
            room *= 2;
        char *ptr;
        AP_JNEW(run, ptr, room);
        if (b->len)
            memcpy(ptr, b->ptr, b->len);
        if (b->marks) {
            uint8_t *marks;
            AP_JNEW(run, marks, room);
            memcpy(marks, b->marks, b->len);
            b->marks = marks;
        }
        b->ptr = ptr;
        b->room = room;
    }
    if (mixed && !b->marks) {
        AP_JNEW(run, b->marks, b->room);
        memset(b->marks, b->ours, b->len);
    }
    return AP_OK;
}

static ap_status build_add(ap_jrun *run, ap_jbuild *b, const char *ptr, const uint8_t *marks, size_t len, bool ours, bool ascii)
{
    if (len == 0)
        return AP_OK;
    if (b->len == 0)
        b->ours = ours;
    AP_TRY(build_reserve(run, b, len, marks || b->marks || ours != b->ours));
    memcpy(b->ptr + b->len, ptr, len);
    if (b->marks) {
        if (marks)
            memcpy(b->marks + b->len, marks, len);
        else
            memset(b->marks + b->len, ours, len);
    }
    b->not_ascii |= !ascii;
    b->len += len;
    return AP_OK;
}

ap_status ap_jbuild_bytes(ap_jrun *run, ap_jbuild *b, const char *ptr, size_t len, bool ours)
{
    return build_add(run, b, ptr, NULL, len, ours, is_ascii(ptr, len));
}

ap_status ap_jbuild_str(ap_jrun *run, ap_jbuild *b, const ap_jstr *s)
{
    return build_add(run, b, s->ptr, s->marks, s->len, s->ours, s->ascii);
}

ap_status ap_jbuild_slice(ap_jrun *run, ap_jbuild *b, const ap_jstr *s, size_t begin, size_t end)
{
    return build_add(run, b, s->ptr + begin, s->marks ? s->marks + begin : NULL, end - begin, s->ours, s->ascii);
}

ap_status ap_jbuild_done(ap_jrun *run, ap_jbuild *b, ap_jval *out)
{
    ap_jstr *s;
    AP_JNEW(run, s, 1);
    *s = (ap_jstr){.ptr = b->len ? b->ptr : "", .len = b->len, .marks = b->len ? b->marks : NULL,
                   .ours = b->len ? b->ours : true, .ascii = !b->not_ascii};
    *out = ap_jof_str(s);
    return AP_OK;
}

/* ---- strings as sequences of code points ------------------------------------------- */

uint32_t ap_jcode(const ap_jstr *s, size_t at, size_t *length)
{
    unsigned char c = (unsigned char)s->ptr[at];
    if (c < 0x80) {
        *length = 1;
        return c;
    }
    int32_t code = ap_utf8_next(s->ptr + at, s->len - at, length);
    return code < 0 ? 0xFFFD : (uint32_t)code;
}

static bool starts_char(char c) { return ((unsigned char)c & 0xC0) != 0x80; }

size_t ap_jstr_chars(const ap_jstr *s)
{
    if (s->ascii)
        return s->len;
    size_t count = 0;
    for (size_t i = 0; i < s->len; i++)
        count += starts_char(s->ptr[i]);
    return count;
}

size_t ap_jstr_offset(const ap_jstr *s, size_t chars)
{
    if (s->ascii)
        return chars < s->len ? chars : s->len;
    size_t at = 0;
    for (size_t i = 0; i < chars && at < s->len; i++)
        do
            at++;
        while (at < s->len && !starts_char(s->ptr[at]));
    return at;
}

ap_status ap_jstr_slice(ap_jrun *run, const ap_jstr *s, size_t begin, size_t end, ap_jval *out)
{
    ap_jstr *part;
    if (begin == 0 && end == s->len) {
        *out = ap_jof_str(s);
        return AP_OK;
    }
    AP_JNEW(run, part, 1);
    *part = *s;
    part->ptr = s->ptr + begin;
    part->len = end > begin ? end - begin : 0;
    part->marks = s->marks && part->len ? s->marks + begin : NULL;
    *out = ap_jof_str(part);
    return AP_OK;
}

/* What Python's str.isspace holds for space. */
bool ap_jis_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static bool strips(const ap_jstr *chars, uint32_t code)
{
    if (!chars)
        return ap_jis_space(code);
    for (size_t at = 0, length; at < chars->len; at += length)
        if (ap_jcode(chars, at, &length) == code)
            return true;
    return false;
}

ap_status ap_jstr_strip(ap_jrun *run, const ap_jstr *s, const ap_jstr *chars, bool left, bool right, ap_jval *out)
{
    size_t begin = 0, end = s->len, length;
    AP_TRY(ap_jstep(run, chars ? chars->len / 16 * (s->len / 16 + 1) : 0));
    while (left && begin < end && strips(chars, ap_jcode(s, begin, &length)))
        begin += length;
    while (right && end > begin) {
        size_t at = end - 1;
        while (at > begin && !starts_char(s->ptr[at]))
            at--;
        if (!strips(chars, ap_jcode(s, at, &length)))
            break;
        end = at;
    }
    AP_TRY(ap_jstep(run, (s->len - (end - begin)) / 8));
    return ap_jstr_slice(run, s, begin, end, out);
}

/* ---- looking ------------------------------------------------------------------------ */

double ap_jas_float(ap_jval v) { return v.kind == AP_J_FLOAT ? v.u.f : (double)ap_jas_int(v); }

bool ap_jis_true(ap_jval v)
{
    switch ((ap_jkind)v.kind) {
    case AP_J_UNDEFINED:
    case AP_J_NONE:
        return false;
    case AP_J_BOOL:
        return v.u.b;
    case AP_J_INT:
        return v.u.i != 0;
    case AP_J_FLOAT:
        return v.u.f != 0;
    case AP_J_STRING:
        return v.u.s->len > 0;
    case AP_J_LIST:
        return v.u.list->flavor == AP_JL_GENERATOR || v.u.list->count > 0;
    case AP_J_DICT:
        return v.u.dict->count > 0;
    default:
        return true;
    }
}

const char *ap_jtype_name(ap_jval v)
{
    static const char *const kinds[] = {"Undefined", "NoneType", "bool", "int", "float", "str", "list", "dict",
                                        "Namespace", "Macro", "builtin_function_or_method", "function", "LoopContext", "Cycler"};
    static const char *const flavors[] = {"list", "tuple", "dict_keys", "dict_values", "dict_items", "range", "generator"};
    return v.kind == AP_J_LIST ? flavors[v.u.list->flavor] : kinds[v.kind];
}

static ap_status enter(ap_jrun *run)
{
    if (run->nest >= AP_JINJA_NEST)
        return ap_jfail_limit(run, "values inside values", AP_JINJA_NEST);
    run->nest++;
    return AP_OK;
}

static ap_status equal_inside(ap_jrun *run, ap_jval a, ap_jval b, bool *equal)
{
    *equal = false;
    if (a.kind == AP_J_LIST) {
        const ap_jlist *x = a.u.list, *y = b.u.list;
        *equal = x == y;
        bool lists = x->flavor <= AP_JL_TUPLE || x->flavor == AP_JL_RANGE;
        if (x == y || !lists || x->flavor != y->flavor || x->count != y->count)
            return AP_OK;
        for (size_t i = 0; i < x->count; i++) {
            AP_TRY(ap_jequal(run, x->items[i], y->items[i], equal));
            if (!*equal)
                return AP_OK;
        }
        *equal = true;
        return AP_OK;
    }
    const ap_jdict *x = a.u.dict, *y = b.u.dict;
    *equal = x == y;
    if (x == y || x->count != y->count)
        return AP_OK;
    for (size_t i = 0; i < x->count; i++) {
        ap_jval *other;
        AP_TRY(ap_jdict_find(run, y, x->pairs[i].key, &other));
        *equal = false;
        if (other)
            AP_TRY(ap_jequal(run, x->pairs[i].value, *other, equal));
        if (!*equal)
            return AP_OK;
    }
    *equal = true;
    return AP_OK;
}

ap_status ap_jequal(ap_jrun *run, ap_jval a, ap_jval b, bool *equal)
{
    AP_TRY(ap_jstep(run, 1));
    if (ap_jis_number(a) && ap_jis_number(b)) {
        *equal = a.kind == AP_J_FLOAT || b.kind == AP_J_FLOAT ? ap_jas_float(a) == ap_jas_float(b)
                                                              : ap_jas_int(a) == ap_jas_int(b);
        return AP_OK;
    }
    *equal = false;
    if (a.kind != b.kind)
        return AP_OK;
    switch ((ap_jkind)a.kind) {
    case AP_J_UNDEFINED:
    case AP_J_NONE:
        *equal = true;
        return AP_OK;
    case AP_J_STRING:
        AP_TRY(ap_jstep(run, a.u.s->len == b.u.s->len ? a.u.s->len / 1024 : 0));
        *equal = ap_str_equal(ap_jbytes(a), ap_jbytes(b));
        return AP_OK;
    case AP_J_LIST:
    case AP_J_DICT: {
        AP_TRY(enter(run));
        ap_status status = equal_inside(run, a, b, equal);
        run->nest--;
        return status;
    }
    default:
        *equal = a.u.dict == b.u.dict; /* the same object */
        return AP_OK;
    }
}

static ap_status less_inside(ap_jrun *run, const ap_jlist *x, const ap_jlist *y, const char *operator, bool *less)
{
    for (size_t i = 0; i < x->count && i < y->count; i++) {
        bool equal;
        AP_TRY(ap_jequal(run, x->items[i], y->items[i], &equal));
        if (!equal)
            return ap_jless(run, x->items[i], y->items[i], operator, less);
    }
    *less = x->count < y->count;
    return AP_OK;
}

ap_status ap_jless(ap_jrun *run, ap_jval a, ap_jval b, const char *operator, bool *less)
{
    AP_TRY(ap_jstep(run, 1));
    if (ap_jis_number(a) && ap_jis_number(b)) {
        *less = a.kind == AP_J_FLOAT || b.kind == AP_J_FLOAT ? ap_jas_float(a) < ap_jas_float(b)
                                                             : ap_jas_int(a) < ap_jas_int(b);
        return AP_OK;
    }
    if (ap_jis_str(a) && ap_jis_str(b)) {
        ap_str x = ap_jbytes(a), y = ap_jbytes(b);
        size_t n = x.len < y.len ? x.len : y.len;
        int order = n ? memcmp(x.ptr, y.ptr, n) : 0; /* bytes of UTF-8 sort as code points do */
        *less = order ? order < 0 : x.len < y.len;
        return ap_jstep(run, n / 1024);
    }
    if (a.kind == AP_J_UNDEFINED)
        return ap_jfail_undefined(run, a);
    if (b.kind == AP_J_UNDEFINED)
        return ap_jfail_undefined(run, b);
    if (a.kind == AP_J_LIST && b.kind == AP_J_LIST && a.u.list->flavor == b.u.list->flavor &&
        a.u.list->flavor <= AP_JL_TUPLE) {
        AP_TRY(enter(run));
        ap_status status = less_inside(run, a.u.list, b.u.list, operator, less);
        run->nest--;
        return status;
    }
    return ap_jfail(run, "'%s' not supported between instances of '%s' and '%s'", operator, ap_jtype_name(a),
                    ap_jtype_name(b));
}

ap_status ap_jcontains(ap_jrun *run, ap_jval container, ap_jval item, bool *contains)
{
    *contains = false;
    if (ap_jis_str(container)) {
        if (item.kind == AP_J_UNDEFINED && item.u.undef)
            return ap_jfail(run, "'in <string>' requires string as left operand, not Undefined");
        if (!ap_jis_str(item))
            return ap_jfail(run, "'in <string>' requires string as left operand, not %s", ap_jtype_name(item));
        const ap_jstr *s = container.u.s, *part = item.u.s;
        AP_TRY(ap_jstep(run, s->len / 8));
        *contains = part->len == 0 || memmem(s->ptr, s->len, part->ptr, part->len) != NULL;
        return AP_OK;
    }
    if (container.kind == AP_J_DICT) {
        ap_jval *found;
        AP_TRY(ap_jdict_find(run, container.u.dict, item, &found));
        *contains = found != NULL;
        return AP_OK;
    }
    if (container.kind != AP_J_LIST && container.kind != AP_J_UNDEFINED)
        return ap_jfail(run, "argument of type '%s' is not iterable", ap_jtype_name(container));
    ap_jlist *items;
    AP_TRY(ap_jiterate(run, container, &items));
    for (size_t i = 0; i < items->count && !*contains; i++)
        AP_TRY(ap_jequal(run, items->items[i], item, contains));
    return AP_OK;
}

ap_status ap_jlength(ap_jrun *run, ap_jval v, int64_t *length)
{
    switch ((ap_jkind)v.kind) {
    case AP_J_UNDEFINED:
        *length = 0;
        return AP_OK;
    case AP_J_STRING:
        *length = (int64_t)ap_jstr_chars(v.u.s);
        return ap_jstep(run, v.u.s->ascii ? 0 : v.u.s->len / 64);
    case AP_J_LIST:
        if (v.u.list->flavor == AP_JL_GENERATOR)
            break;
        *length = (int64_t)v.u.list->count;
        return AP_OK;
    case AP_J_DICT:
        *length = (int64_t)v.u.dict->count;
        return AP_OK;
    default:
        break;
    }
    return ap_jfail(run, "object of type '%s' has no len()", ap_jtype_name(v));
}

ap_status ap_jiterate(ap_jrun *run, ap_jval v, ap_jlist **items)
{
    switch ((ap_jkind)v.kind) {
    case AP_J_UNDEFINED:
        return ap_jlist_new(run, AP_JL_LIST, 0, items);
    case AP_J_LIST:
        *items = v.u.list;
        if (v.u.list->flavor == AP_JL_GENERATOR) {
            if (v.u.list->consumed)
                return ap_jlist_new(run, AP_JL_LIST, 0, items);
            v.u.list->consumed = true;
        }
        return AP_OK;
    case AP_J_DICT:
        AP_TRY(ap_jlist_new(run, AP_JL_LIST, v.u.dict->count, items));
        for (size_t i = 0; i < v.u.dict->count; i++)
            AP_TRY(ap_jlist_add(run, *items, v.u.dict->pairs[i].key));
        return AP_OK;
    case AP_J_STRING: {
        const ap_jstr *s = v.u.s;
        AP_TRY(ap_jlist_new(run, AP_JL_LIST, 0, items));
        for (size_t at = 0, length; at < s->len; at += length) {
            ap_jval one;
            (void)ap_jcode(s, at, &length);
            AP_TRY(ap_jstr_slice(run, s, at, at + length, &one));
            AP_TRY(ap_jlist_add(run, *items, one));
        }
        return AP_OK;
    }
    default:
        return ap_jfail(run, "'%s' object is not iterable", ap_jtype_name(v));
    }
}
