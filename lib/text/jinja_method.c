/* Methods of strings, lists and dictionaries, and the functions a template sees.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/jinja_tree.h"

#include <utf8proc.h>

typedef enum method {
    /* strings */
    M_CAPITALIZE, M_CENTER, M_COUNT, M_ENDSWITH, M_FIND, M_FORMAT, M_INDEX, M_ISALNUM, M_ISALPHA, M_ISDIGIT, M_ISLOWER,
    M_ISSPACE, M_ISUPPER, M_JOIN, M_LJUST, M_LOWER, M_LSTRIP, M_PARTITION, M_REMOVEPREFIX, M_REMOVESUFFIX, M_REPLACE,
    M_RFIND, M_RINDEX, M_RJUST, M_RPARTITION, M_RSPLIT, M_RSTRIP, M_SPLIT, M_SPLITLINES, M_STARTSWITH, M_STRIP,
    M_SWAPCASE, M_TITLE, M_UPPER, M_ZFILL,
    /* dictionaries, lists, loops */
    M_GET, M_ITEMS, M_KEYS, M_VALUES, M_COPY, M_LIST_COUNT, M_LIST_INDEX, M_CYCLE, M_CHANGED, M_NEXT, M_RESET, M_UNSAFE, M_ABSENT
} method;

typedef struct method_name {
    const char *name;
    method id;
} method_name;

static const method_name str_methods[] = {
    {"capitalize", M_CAPITALIZE}, {"casefold", M_LOWER}, {"center", M_CENTER}, {"count", M_COUNT}, {"endswith", M_ENDSWITH},
    {"find", M_FIND}, {"format", M_FORMAT}, {"index", M_INDEX}, {"isalnum", M_ISALNUM}, {"isalpha", M_ISALPHA},
    {"isdecimal", M_ISDIGIT}, {"isdigit", M_ISDIGIT}, {"isnumeric", M_ISDIGIT}, {"islower", M_ISLOWER}, {"isspace", M_ISSPACE},
    {"isupper", M_ISUPPER}, {"join", M_JOIN}, {"ljust", M_LJUST}, {"lower", M_LOWER}, {"lstrip", M_LSTRIP},
    {"partition", M_PARTITION}, {"removeprefix", M_REMOVEPREFIX}, {"removesuffix", M_REMOVESUFFIX}, {"replace", M_REPLACE},
    {"rfind", M_RFIND}, {"rindex", M_RINDEX}, {"rjust", M_RJUST}, {"rpartition", M_RPARTITION}, {"rsplit", M_RSPLIT},
    {"rstrip", M_RSTRIP}, {"split", M_SPLIT}, {"splitlines", M_SPLITLINES}, {"startswith", M_STARTSWITH},
    {"strip", M_STRIP}, {"swapcase", M_SWAPCASE}, {"title", M_TITLE}, {"upper", M_UPPER}, {"zfill", M_ZFILL}, {NULL, M_ABSENT}};
static const method_name dict_methods[] = {
    {"get", M_GET}, {"items", M_ITEMS}, {"keys", M_KEYS}, {"values", M_VALUES}, {"copy", M_COPY}, {"clear", M_UNSAFE},
    {"pop", M_UNSAFE}, {"popitem", M_UNSAFE}, {"setdefault", M_UNSAFE}, {"update", M_UNSAFE}, {NULL, M_ABSENT}};
static const method_name list_methods[] = {
    {"count", M_LIST_COUNT}, {"index", M_LIST_INDEX}, {"copy", M_COPY}, {"append", M_UNSAFE}, {"clear", M_UNSAFE},
    {"extend", M_UNSAFE}, {"insert", M_UNSAFE}, {"pop", M_UNSAFE}, {"remove", M_UNSAFE}, {"reverse", M_UNSAFE},
    {"sort", M_UNSAFE}, {NULL, M_ABSENT}};
static const method_name tuple_methods[] = {{"count", M_LIST_COUNT}, {"index", M_LIST_INDEX}, {NULL, M_ABSENT}};
static const method_name cycler_methods[] = {{"next", M_NEXT}, {"reset", M_RESET}, {NULL, M_ABSENT}};
static const method_name loop_methods[] = {{"cycle", M_CYCLE}, {"changed", M_CHANGED}, {NULL, M_ABSENT}};

bool ap_jmethod_find(ap_jval object, ap_str name, int *id, bool *unsafe)
{
    const method_name *table = ap_jis_str(object) ? str_methods : object.kind == AP_J_DICT ? dict_methods
                             : object.kind == AP_J_LOOP ? loop_methods
                             : object.kind == AP_J_COUNTER && !object.u.counter->is_joiner ? cycler_methods : NULL;
    if (object.kind == AP_J_LIST)
        table = object.u.list->flavor == AP_JL_LIST ? list_methods
              : object.u.list->flavor == AP_JL_TUPLE || object.u.list->flavor == AP_JL_RANGE ? tuple_methods : NULL;
    for (; table && table->name; table++)
        if (ap_str_is(name, table->name)) {
            *id = table->id;
            *unsafe = table->id == M_UNSAFE;
            return true;
        }
    return false;
}

/* ---- arguments ------------------------------------------------------------------ */

static int wanted_slots(const char *names)
{
    int n = *names != 0;
    for (; *names; names++)
        n += *names == ' ';
    return n;
}

ap_status ap_jbind(ap_jrun *run, const char *function, const ap_jargs *args, const char *names, size_t required,
                   ap_jval *slots, size_t slot_count)
{
    ap_assert((size_t)wanted_slots(names) == slot_count);
    if (args->count > slot_count)
        return ap_jfail(run, "%s() takes at most %zu argument(s), got %zu", function, slot_count, args->count);
    for (size_t i = 0; i < slot_count; i++)
        slots[i] = i < args->count ? args->at[i] : (ap_jval){.kind = AP_J_UNDEFINED};
    for (size_t k = 0; k < args->named_count; k++) {
        ap_str key = args->named[k].name;
        const char *name = names;
        size_t i = 0;
        for (; i < slot_count; i++, name += strcspn(name, " ") + 1)
            if (ap_str_equal(key, (ap_str){name, strcspn(name, " ")}))
                break;
        if (i == slot_count)
            return ap_jfail(run, "%s() has no argument '%.*s'", function, key.len > 60 ? 60 : (int)key.len, key.ptr);
        if (i < args->count)
            return ap_jfail(run, "%s() got several values for '%.*s'", function, (int)key.len, key.ptr);
        slots[i] = args->named[k].value;
    }
    for (size_t i = 0; i < required; i++)
        if (!ap_jgiven(slots[i]))
            return ap_jfail(run, "%s() lacks its argument %zu of '%s'", function, i + 1, names);
    return AP_OK;
}

static ap_status want_str(ap_jrun *run, const char *function, ap_jval v)
{
    if (v.kind == AP_J_UNDEFINED)
        return ap_jfail_undefined(run, v);
    return ap_jis_str(v) ? AP_OK : ap_jfail(run, "%s() wants a str, not '%s'", function, ap_jtype_name(v));
}

static ap_status want_int(ap_jrun *run, const char *function, ap_jval v, int64_t otherwise, int64_t *out)
{
    *out = otherwise;
    if (!ap_jgiven(v))
        return AP_OK;
    if (!ap_jis_integer(v))
        return ap_jfail(run, "%s() wants an int, not '%s'", function, ap_jtype_name(v));
    *out = ap_jas_int(v);
    return AP_OK;
}

/* ---- strings ---------------------------------------------------------------------- */

static ap_status add_slice(ap_jrun *run, ap_jlist *list, const ap_jstr *s, size_t begin, size_t end)
{
    ap_jval part;
    AP_TRY(ap_jstr_slice(run, s, begin, end, &part));
    return ap_jlist_add(run, list, part);
}

static const char *find_last(const char *p, size_t n, const ap_jstr *part)
{
    for (size_t at = n; at-- + 1 > part->len;)
        if (at + 1 >= part->len && memcmp(p + at + 1 - part->len, part->ptr, part->len) == 0)
            return p + at + 1 - part->len;
    return NULL;
}

static void reverse_list(ap_jlist *list)
{
    for (size_t i = 0, k = list->count; i + 1 < k; i++) {
        ap_jval swap = list->items[i];
        list->items[i] = list->items[--k];
        list->items[k] = swap;
    }
}

static ap_status split_on(ap_jrun *run, const ap_jstr *s, const ap_jstr *sep, int64_t max, bool right, ap_jlist *list)
{
    size_t begin = 0, end = s->len;
    if (sep->len == 0)
        return ap_jfail(run, "empty separator");
    AP_TRY(ap_jstep(run, s->len / 8 * (right ? sep->len / 16 + 1 : 1)));
    while (max-- != 0) {
        const char *found = right ? find_last(s->ptr, end, sep) : memmem(s->ptr + begin, s->len - begin, sep->ptr, sep->len);
        if (!found)
            break;
        size_t at = (size_t)(found - s->ptr);
        AP_TRY(right ? add_slice(run, list, s, at + sep->len, end) : add_slice(run, list, s, begin, at));
        if (right)
            end = at;
        else
            begin = at + sep->len;
    }
    AP_TRY(add_slice(run, list, s, begin, end));
    if (right)
        reverse_list(list);
    return AP_OK;
}

/* Words between runs of white space. */
static ap_status split_words(ap_jrun *run, const ap_jstr *s, int64_t max, ap_jlist *list)
{
    size_t at = 0, length = 0;
    AP_TRY(ap_jstep(run, s->len / 4));
    for (;;) {
        while (at < s->len && ap_jis_space(ap_jcode(s, at, &length)))
            at += length;
        if (at >= s->len)
            return AP_OK;
        size_t begin = at;
        if (max-- == 0) {
            return add_slice(run, list, s, begin, s->len);
        }
        while (at < s->len && !ap_jis_space(ap_jcode(s, at, &length)))
            at += length;
        AP_TRY(add_slice(run, list, s, begin, at));
    }
}

static ap_status rsplit_words(ap_jrun *run, const ap_jstr *s, int64_t max, ap_jlist *list)
{
    ap_jlist *words;
    if (max < 0)
        return split_words(run, s, max, list);
    AP_TRY(ap_jlist_new(run, AP_JL_LIST, 0, &words));
    AP_TRY(split_words(run, s, -1, words));
    size_t first = words->count > (uint64_t)max ? words->count - (size_t)max : 0;
    if (first) { /* everything before the last `max` words is one piece */
        const ap_jstr *last = words->items[first - 1].u.s;
        size_t end = (size_t)(last->ptr + last->len - s->ptr);
        AP_TRY(add_slice(run, list, s, 0, end));
    }
    for (size_t i = first; i < words->count; i++)
        AP_TRY(ap_jlist_add(run, list, words->items[i]));
    return AP_OK;
}

static ap_status str_split(ap_jrun *run, const ap_jstr *s, const ap_jargs *args, bool right, ap_jval *out)
{
    ap_jval slot[2];
    int64_t max;
    ap_jlist *list;
    AP_TRY(ap_jbind(run, "split", args, "sep maxsplit", 0, slot, 2));
    AP_TRY(want_int(run, "split", slot[1], -1, &max));
    AP_TRY(ap_jlist_new(run, AP_JL_LIST, 0, &list));
    *out = ap_jof_list(list);
    if (!ap_jgiven(slot[0]) || slot[0].kind == AP_J_NONE)
        return right ? rsplit_words(run, s, max, list) : split_words(run, s, max, list);
    AP_TRY(want_str(run, "split", slot[0]));
    return split_on(run, s, slot[0].u.s, max, right, list);
}

static ap_status str_partition(ap_jrun *run, const ap_jstr *s, const ap_jargs *args, bool right, ap_jval *out)
{
    ap_jval sep;
    ap_jlist *list;
    AP_TRY(ap_jbind(run, "partition", args, "sep", 1, &sep, 1));
    AP_TRY(want_str(run, "partition", sep));
    AP_TRY(ap_jlist_new(run, AP_JL_TUPLE, 3, &list));
    const ap_jstr *p = sep.u.s;
    if (p->len == 0)
        return ap_jfail(run, "empty separator");
    AP_TRY(ap_jstep(run, s->len / 8 * (p->len / 16 + 1)));
    const char *found = right ? find_last(s->ptr, s->len, p) : memmem(s->ptr, s->len, p->ptr, p->len);
    size_t at = found ? (size_t)(found - s->ptr) : right ? 0 : s->len, after = found ? at + p->len : at;
    AP_TRY(add_slice(run, list, s, 0, at));
    AP_TRY(add_slice(run, list, s, at, after));
    AP_TRY(add_slice(run, list, s, after, s->len));
    *out = ap_jof_list(list);
    return AP_OK;
}

/* The byte range that optional start and end arguments select. */
static ap_status str_range(ap_jrun *run, const ap_jstr *s, ap_jval from, ap_jval to, size_t *begin, size_t *end)
{
    int64_t length = (int64_t)ap_jstr_chars(s), a, b;
    AP_TRY(want_int(run, "a string method", from.kind == AP_J_NONE ? (ap_jval){.kind = AP_J_UNDEFINED} : from, 0, &a));
    AP_TRY(want_int(run, "a string method", to.kind == AP_J_NONE ? (ap_jval){.kind = AP_J_UNDEFINED} : to, length, &b));
    a = a < 0 ? a + length : a;
    b = b < 0 ? b + length : b;
    a = a < 0 ? 0 : a > length ? length : a;
    b = b < a ? a : b > length ? length : b;
    *begin = ap_jstr_offset(s, (size_t)a);
    *end = ap_jstr_offset(s, (size_t)b);
    return ap_jstep(run, s->ascii ? 0 : s->len / 8);
}

static ap_status str_affix(ap_jrun *run, const ap_jstr *s, const ap_jargs *args, bool at_end, ap_jval *out)
{
    ap_jval slot[3];
    size_t begin, end;
    AP_TRY(ap_jbind(run, at_end ? "endswith" : "startswith", args, "affix start end", 1, slot, 3));
    AP_TRY(str_range(run, s, slot[1], slot[2], &begin, &end));
    bool tuple = slot[0].kind == AP_J_LIST && slot[0].u.list->flavor == AP_JL_TUPLE, result = false;
    size_t count = tuple ? slot[0].u.list->count : 1;
    for (size_t i = 0; i < count && !result; i++) {
        ap_jval v = tuple ? slot[0].u.list->items[i] : slot[0];
        AP_TRY(want_str(run, at_end ? "endswith" : "startswith", v));
        ap_str affix = ap_jbytes(v);
        if (affix.len <= end - begin)
            result = affix.len == 0 || memcmp(s->ptr + (at_end ? end - affix.len : begin), affix.ptr, affix.len) == 0;
    }
    *out = ap_jbool(result);
    return AP_OK;
}

static ap_status str_find(ap_jrun *run, const ap_jstr *s, const ap_jargs *args, method id, ap_jval *out)
{
    ap_jval slot[3];
    size_t begin, end;
    AP_TRY(ap_jbind(run, "find", args, "sub start end", 1, slot, 3));
    AP_TRY(want_str(run, "find", slot[0]));
    AP_TRY(str_range(run, s, slot[1], slot[2], &begin, &end));
    const ap_jstr *part = slot[0].u.s;
    AP_TRY(ap_jstep(run, (end - begin) / 8 * (part->len / 16 + 1)));
    if (id == M_COUNT) {
        int64_t n = 0;
        if (part->len == 0)
            n = (int64_t)ap_jstr_chars(&(ap_jstr){.ptr = s->ptr + begin, .len = end - begin}) + 1;
        for (const char *p; part->len && (p = memmem(s->ptr + begin, end - begin, part->ptr, part->len)); n++)
            begin = (size_t)(p - s->ptr) + part->len;
        *out = ap_jint(n);
        return AP_OK;
    }
    bool right = id == M_RFIND || id == M_RINDEX;
    const char *found = right ? find_last(s->ptr + begin, end - begin, part)
                      : part->len == 0 ? s->ptr + begin : memmem(s->ptr + begin, end - begin, part->ptr, part->len);
    if (!found && (id == M_INDEX || id == M_RINDEX))
        return ap_jfail(run, "substring not found");
    *out = ap_jint(found ? (int64_t)ap_jstr_chars(&(ap_jstr){.ptr = s->ptr, .len = (size_t)(found - s->ptr)}) : -1);
    return AP_OK;
}

static ap_status str_join(ap_jrun *run, const ap_jstr *s, const ap_jargs *args, ap_jval *out)
{
    ap_jval slot;
    ap_jlist *items;
    ap_jbuild build = {0};
    AP_TRY(ap_jbind(run, "join", args, "iterable", 1, &slot, 1));
    AP_TRY(ap_jiterate(run, slot, &items));
    for (size_t i = 0; i < items->count; i++) {
        AP_TRY(want_str(run, "join", items->items[i]));
        if (i)
            AP_TRY(ap_jbuild_str(run, &build, s));
        AP_TRY(ap_jbuild_str(run, &build, items->items[i].u.s));
    }
    return ap_jbuild_done(run, &build, out);
}

static ap_status str_strip_args(ap_jrun *run, const ap_jstr *s, const ap_jargs *args, bool left, bool right, ap_jval *out)
{
    ap_jval slot;
    AP_TRY(ap_jbind(run, "strip", args, "chars", 0, &slot, 1));
    bool all = !ap_jgiven(slot) || slot.kind == AP_J_NONE;
    if (!all)
        AP_TRY(want_str(run, "strip", slot));
    return ap_jstr_strip(run, s, all ? NULL : slot.u.s, left, right, out);
}

static ap_status str_remove(ap_jrun *run, const ap_jstr *s, const ap_jargs *args, bool at_end, ap_jval *out)
{
    ap_jval slot;
    AP_TRY(ap_jbind(run, "removeprefix", args, "affix", 1, &slot, 1));
    AP_TRY(want_str(run, "removeprefix", slot));
    const ap_jstr *p = slot.u.s;
    bool has = p->len && p->len <= s->len && memcmp(at_end ? s->ptr + s->len - p->len : s->ptr, p->ptr, p->len) == 0;
    return ap_jstr_slice(run, s, has && !at_end ? p->len : 0, has && at_end ? s->len - p->len : s->len, out);
}

static ap_status str_adjust(ap_jrun *run, const ap_jstr *s, const ap_jargs *args, method id, ap_jval *out)
{
    ap_jval slot[2];
    int64_t width, length = (int64_t)ap_jstr_chars(s);
    AP_TRY(ap_jbind(run, "ljust", args, "width fillchar", 1, slot, 2));
    AP_TRY(want_int(run, "ljust", slot[0], 0, &width));
    ap_str fill = AP_STR(" ");
    if (ap_jgiven(slot[1])) {
        AP_TRY(want_str(run, "ljust", slot[1]));
        fill = ap_jbytes(slot[1]);
        if (ap_jstr_chars(slot[1].u.s) != 1)
            return ap_jfail(run, "the fill character must be exactly one character long");
    }
    int64_t pad = width > length ? width - length : 0;
    int64_t left = id == M_LJUST ? 0 : id == M_RJUST ? pad : pad / 2 + (pad & width & 1);
    return ap_jstr_pad(run, s, left, pad - left, fill, out);
}

static ap_status str_zfill(ap_jrun *run, const ap_jstr *s, const ap_jargs *args, ap_jval *out)
{
    ap_jval slot, rest;
    int64_t width, length = (int64_t)ap_jstr_chars(s);
    AP_TRY(ap_jbind(run, "zfill", args, "width", 1, &slot, 1));
    AP_TRY(want_int(run, "zfill", slot, 0, &width));
    size_t sign = s->len && (s->ptr[0] == '-' || s->ptr[0] == '+');
    ap_jbuild build = {0};
    AP_TRY(ap_jbuild_slice(run, &build, s, 0, sign));
    AP_TRY(ap_jstr_slice(run, s, sign, s->len, &rest));
    AP_TRY(ap_jstr_pad(run, rest.u.s, width > length ? width - length : 0, 0, AP_STR("0"), &rest));
    AP_TRY(ap_jbuild_str(run, &build, rest.u.s));
    return ap_jbuild_done(run, &build, out);
}

static bool code_is(method id, uint32_t code)
{
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)code);
    bool alpha = c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
    bool digit = c == UTF8PROC_CATEGORY_ND;
    return id == M_ISALPHA ? alpha : id == M_ISDIGIT ? digit : id == M_ISALNUM ? alpha || digit : ap_jis_space(code);
}

static ap_status str_is(ap_jrun *run, const ap_jstr *s, method id, ap_jval *out)
{
    bool all = s->len > 0, cased = false;
    AP_TRY(ap_jstep(run, s->len / 4));
    for (size_t at = 0, length; at < s->len && all; at += length) {
        uint32_t code = ap_jcode(s, at, &length);
        if (id == M_ISUPPER || id == M_ISLOWER) {
            utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)code);
            cased |= c == (id == M_ISUPPER ? UTF8PROC_CATEGORY_LU : UTF8PROC_CATEGORY_LL);
            all = c != UTF8PROC_CATEGORY_LT && c != (id == M_ISUPPER ? UTF8PROC_CATEGORY_LL : UTF8PROC_CATEGORY_LU);
        } else {
            all = code_is(id, code);
        }
    }
    *out = ap_jbool(all && (cased || (id != M_ISUPPER && id != M_ISLOWER)));
    return AP_OK;
}

static ap_status str_replace(ap_jrun *run, const ap_jstr *s, const ap_jargs *args, ap_jval *out)
{
    ap_jval slot[3];
    int64_t count;
    AP_TRY(ap_jbind(run, "replace", args, "old new count", 2, slot, 3));
    AP_TRY(want_str(run, "replace", slot[0]));
    AP_TRY(want_str(run, "replace", slot[1]));
    AP_TRY(want_int(run, "replace", slot[2], -1, &count));
    return ap_jstr_replace(run, s, slot[0].u.s, slot[1].u.s, count, out);
}

static ap_status call_str(ap_jrun *run, const ap_jstr *s, method id, const ap_jargs *args, ap_jval *out)
{
    static const ap_jcase cases[] = {[M_UPPER] = AP_JCASE_UPPER, [M_LOWER] = AP_JCASE_LOWER, [M_TITLE] = AP_JCASE_TITLE,
                                     [M_CAPITALIZE] = AP_JCASE_CAPITALIZE, [M_SWAPCASE] = AP_JCASE_SWAP};
    ap_jval keep_ends;
    ap_jlist *lines;
    switch (id) {
    case M_UPPER:
    case M_LOWER:
    case M_TITLE:
    case M_CAPITALIZE:
    case M_SWAPCASE:
        AP_TRY(ap_jbind(run, "a case method", args, "", 0, NULL, 0));
        return ap_jstr_case(run, s, cases[id], out);
    case M_STRIP:
    case M_LSTRIP:
    case M_RSTRIP:
        return str_strip_args(run, s, args, id != M_RSTRIP, id != M_LSTRIP, out);
    case M_SPLIT:
    case M_RSPLIT:
        return str_split(run, s, args, id == M_RSPLIT, out);
    case M_PARTITION:
    case M_RPARTITION:
        return str_partition(run, s, args, id == M_RPARTITION, out);
    case M_STARTSWITH:
    case M_ENDSWITH:
        return str_affix(run, s, args, id == M_ENDSWITH, out);
    case M_FIND:
    case M_RFIND:
    case M_INDEX:
    case M_RINDEX:
    case M_COUNT:
        return str_find(run, s, args, id, out);
    case M_JOIN:
        return str_join(run, s, args, out);
    case M_FORMAT:
        return ap_jformat(run, s, args, out);
    case M_REPLACE:
        return str_replace(run, s, args, out);
    case M_REMOVEPREFIX:
    case M_REMOVESUFFIX:
        return str_remove(run, s, args, id == M_REMOVESUFFIX, out);
    case M_CENTER:
    case M_LJUST:
    case M_RJUST:
        return str_adjust(run, s, args, id, out);
    case M_ZFILL:
        return str_zfill(run, s, args, out);
    case M_SPLITLINES:
        AP_TRY(ap_jbind(run, "splitlines", args, "keepends", 0, &keep_ends, 1));
        AP_TRY(ap_jstr_lines(run, s, ap_jis_true(keep_ends), &lines));
        *out = ap_jof_list(lines);
        return AP_OK;
    default:
        AP_TRY(ap_jbind(run, "a string test", args, "", 0, NULL, 0));
        return str_is(run, s, id, out);
    }
}

/* ---- dictionaries, lists -------------------------------------------------------------- */

static ap_status dict_view(ap_jrun *run, const ap_jdict *dict, ap_jflavor flavor, ap_jval *out)
{
    ap_jlist *list;
    AP_TRY(ap_jlist_new(run, flavor, dict->count, &list));
    for (size_t i = 0; i < dict->count; i++) {
        ap_jval v = flavor == AP_JL_KEYS ? dict->pairs[i].key : dict->pairs[i].value;
        if (flavor == AP_JL_ITEMS)
            AP_TRY(ap_jpair_new(run, dict->pairs[i].key, dict->pairs[i].value, &v));
        AP_TRY(ap_jlist_add(run, list, v));
    }
    *out = ap_jof_list(list);
    return AP_OK;
}

static ap_status call_dict(ap_jrun *run, ap_jdict *dict, method id, const ap_jargs *args, ap_jval *out)
{
    ap_jval slot[2], *found;
    if (id == M_GET) {
        if (args->named_count)
            return ap_jfail(run, "get() takes no keyword arguments");
        AP_TRY(ap_jbind(run, "get", args, "key default", 1, slot, 2));
        AP_TRY(ap_jdict_find(run, dict, slot[0], &found));
        *out = found ? *found : args->count > 1 ? slot[1] : ap_jnone();
        return AP_OK;
    }
    AP_TRY(ap_jbind(run, "a dictionary method", args, "", 0, NULL, 0));
    if (id == M_COPY) {
        *out = ap_jof_dict(dict); /* nothing can change either of the two */
        return AP_OK;
    }
    return dict_view(run, dict, id == M_KEYS ? AP_JL_KEYS : id == M_VALUES ? AP_JL_VALUES : AP_JL_ITEMS, out);
}

static ap_status call_list(ap_jrun *run, ap_jlist *list, method id, const ap_jargs *args, ap_jval *out)
{
    ap_jval wanted;
    int64_t count = 0;
    if (id == M_COPY) {
        *out = ap_jof_list(list);
        return AP_OK;
    }
    AP_TRY(ap_jbind(run, "index", args, "value", 1, &wanted, 1));
    for (size_t i = 0; i < list->count; i++) {
        bool equal;
        AP_TRY(ap_jequal(run, list->items[i], wanted, &equal));
        count += equal;
        if (equal && id == M_LIST_INDEX) {
            *out = ap_jint((int64_t)i);
            return AP_OK;
        }
    }
    if (id == M_LIST_INDEX)
        return ap_jfail(run, "the value is not in the list");
    *out = ap_jint(count);
    return AP_OK;
}

ap_status ap_jmethod_call(ap_jrun *run, const ap_jmethod *m, const ap_jargs *args, ap_jval *out)
{
    method id = (method)m->id;
    switch ((ap_jkind)m->self.kind) {
    case AP_J_STRING:
        return call_str(run, m->self.u.s, id, args, out);
    case AP_J_DICT:
        return call_dict(run, m->self.u.dict, id, args, out);
    case AP_J_LIST:
        return call_list(run, m->self.u.list, id, args, out);
    case AP_J_COUNTER: {
        ap_jcounter *c = m->self.u.counter;
        *out = c->items->items[c->position];
        c->position = id == M_NEXT ? (c->position + 1) % c->items->count : 0;
        return AP_OK;
    }
    default:
        return ap_jloop_method(run, m->self.u.loop, id == M_CYCLE, args, out);
    }
}

/* ---- functions ---------------------------------------------------------------------------- */

static ap_status fn_range(ap_jrun *run, const ap_jargs *args, ap_jval *out)
{
    ap_jval slot[3];
    int64_t start = 0, stop, step = 1, span;
    ap_jlist *list;
    AP_TRY(ap_jbind(run, "range", args, "start stop step", 1, slot, 3));
    for (size_t i = 0; i < 3; i++)
        if (ap_jgiven(slot[i]) && slot[i].kind == AP_J_UNDEFINED)
            return ap_jfail_undefined(run, slot[i]);
    AP_TRY(want_int(run, "range", slot[0], 0, &start));
    AP_TRY(want_int(run, "range", slot[1], 0, &stop));
    AP_TRY(want_int(run, "range", slot[2], 1, &step));
    if (!ap_jgiven(slot[1])) {
        stop = start;
        start = 0;
    }
    if (step == 0)
        return ap_jfail(run, "range() step must not be zero");
    if (__builtin_sub_overflow(stop, start, &span) || step == INT64_MIN)
        return ap_jfail_limit(run, "elements of a range", AP_JINJA_RANGE);
    int64_t size = step > 0 ? step : -step, distance = step > 0 ? span : span == INT64_MIN ? INT64_MAX : -span;
    int64_t count = distance <= 0 ? 0 : (distance - 1) / size + 1;
    if (count > AP_JINJA_RANGE)
        return ap_jfail_limit(run, "elements of a range", AP_JINJA_RANGE);
    AP_TRY(ap_jlist_new(run, AP_JL_RANGE, (size_t)count, &list));
    list->start = start, list->stop = stop, list->step = step;
    for (int64_t i = 0; i < count; i++)
        AP_TRY(ap_jlist_add(run, list, ap_jint(start + i * step)));
    *out = ap_jof_list(list);
    return AP_OK;
}

/* dict(mapping or pairs, key=value…); namespace takes the same. */
static ap_status fill_dict(ap_jrun *run, const char *name, const ap_jargs *args, ap_jdict **out)
{
    ap_jlist *items;
    AP_TRY(ap_jdict_new(run, 0, out));
    if (args->count > 1)
        return ap_jfail(run, "%s() takes at most 1 positional argument, got %zu", name, args->count);
    if (args->count && args->at[0].kind == AP_J_DICT) {
        const ap_jdict *from = args->at[0].u.dict;
        for (size_t i = 0; i < from->count; i++)
            AP_TRY(ap_jdict_set(run, *out, from->pairs[i].key, from->pairs[i].value));
    } else if (args->count) {
        AP_TRY(ap_jiterate(run, args->at[0], &items));
        for (size_t i = 0; i < items->count; i++) {
            ap_jlist *pair;
            AP_TRY(ap_jiterate(run, items->items[i], &pair));
            if (pair->count != 2)
                return ap_jfail(run, "%s() wants pairs, element %zu has %zu values", name, i, pair->count);
            AP_TRY(ap_jdict_set(run, *out, pair->items[0], pair->items[1]));
        }
    }
    for (size_t i = 0; i < args->named_count; i++) {
        ap_jval key;
        AP_TRY(ap_jstr_new(run, args->named[i].name, true, &key));
        AP_TRY(ap_jdict_set(run, *out, key, args->named[i].value));
    }
    return AP_OK;
}

static ap_status fn_dict(ap_jrun *run, const ap_jargs *args, ap_jval *out)
{
    ap_jdict *dict;
    AP_TRY(fill_dict(run, "dict", args, &dict));
    *out = ap_jof_dict(dict);
    return AP_OK;
}

static ap_status fn_namespace(ap_jrun *run, const ap_jargs *args, ap_jval *out)
{
    AP_TRY(fn_dict(run, args, out));
    out->kind = AP_J_NAMESPACE;
    return AP_OK;
}

static ap_status fn_raise(ap_jrun *run, const ap_jargs *args, ap_jval *out)
{
    ap_jval message;
    AP_TRY(ap_jbind(run, "raise_exception", args, "message", 1, &message, 1));
    AP_TRY(ap_jto_str(run, message, &message));
    ap_str text = ap_jbytes(message);
    if (text.len == 0)
        text = AP_STR("the chat template refused without a reason");
    return run->failed = ap_fail(run->err, AP_E_TEMPLATE, "%.*s", text.len > 400 ? 400 : (int)text.len, text.ptr);
}

static ap_status fn_strftime(ap_jrun *run, const ap_jargs *args, ap_jval *out)
{
    ap_jval format;
    AP_TRY(ap_jbind(run, "strftime_now", args, "format", 1, &format, 1));
    AP_TRY(want_str(run, "strftime_now", format));
    return ap_jstrftime(run, format.u.s, out);
}

static ap_status new_counter(ap_jrun *run, bool is_joiner, ap_jval *out)
{
    ap_jcounter *counter;
    AP_JNEW(run, counter, 1);
    *counter = (ap_jcounter){.is_joiner = is_joiner};
    *out = (ap_jval){.kind = AP_J_COUNTER, .u.counter = counter};
    return ap_jlist_new(run, AP_JL_TUPLE, 0, &counter->items);
}

static ap_status fn_cycler(ap_jrun *run, const ap_jargs *args, ap_jval *out)
{
    AP_TRY(new_counter(run, false, out));
    if (args->count == 0)
        return ap_jfail(run, "at least one item has to be provided to cycler");
    for (size_t i = 0; i < args->count; i++)
        AP_TRY(ap_jlist_add(run, out->u.counter->items, args->at[i]));
    return AP_OK;
}

static ap_status fn_joiner(ap_jrun *run, const ap_jargs *args, ap_jval *out)
{
    ap_jval sep;
    AP_TRY(ap_jbind(run, "joiner", args, "sep", 0, &sep, 1));
    AP_TRY(new_counter(run, true, out));
    if (!ap_jgiven(sep))
        AP_TRY(ap_jstr_new(run, AP_STR(", "), true, &sep));
    return ap_jlist_add(run, out->u.counter->items, sep);
}

/* A counter's attributes; the empty name is a call of the counter itself. */
ap_status ap_jcounter_attr(ap_jrun *run, ap_jval v, ap_str name, ap_jval *out)
{
    ap_jcounter *c = v.u.counter;
    if (c->is_joiner && name.len == 0) {
        if (c->position++ == 0)
            return ap_jstr_new(run, AP_STR(""), true, out);
        *out = c->items->items[0];
        return AP_OK;
    }
    if (!c->is_joiner && ap_str_is(name, "current")) {
        *out = c->items->items[c->position];
        return AP_OK;
    }
    ap_jval shown;
    AP_TRY(ap_jstr_new(run, name, true, &shown));
    return ap_jundefined(run, c->is_joiner ? "Joiner" : "Cycler", shown, out);
}

const ap_jfunction *ap_jfunction_find(ap_str name)
{
    static const ap_jfunction table[] = {{"range", fn_range}, {"dict", fn_dict}, {"namespace", fn_namespace},
        {"raise_exception", fn_raise}, {"strftime_now", fn_strftime}, {"cycler", fn_cycler}, {"joiner", fn_joiner}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (ap_str_is(name, table[i].name))
            return &table[i];
    return NULL;
}

bool ap_jinja_is_function(ap_str name) { return ap_jfunction_find(name) != NULL; }
