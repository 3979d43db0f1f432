/* Filters that work on many values.
 *
 * What Jinja2 gives as a generator is one here too: no length, always true, read once.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/jinja.h"

#define FILTER(name) static ap_status name(ap_jrun *run, ap_jval v, const ap_jargs *args, ap_jval *out)

/* ---- helpers -------------------------------------------------------------------------- */

static ap_status none_given(ap_jrun *run, const char *name, const ap_jargs *args) { return ap_jbind(run, name, args, "", 0, NULL, 0); }

static ap_status new_generator(ap_jrun *run, ap_jlist **list, ap_jval *out)
{
    AP_TRY(ap_jlist_new(run, AP_JL_GENERATOR, 0, list));
    *out = ap_jof_list(*list);
    return AP_OK;
}

static bool is_int_text(ap_str text)
{
    if (text.len == 0 || text.len > 9)
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
    return true;
}

ap_status ap_jget_path(ap_jrun *run, ap_jval object, ap_jval path, ap_jval *out)
{
    *out = object;
    if (!ap_jis_str(path))
        return ap_jget_item(run, object, path, out);
    ap_str text = ap_jbytes(path);
    for (size_t begin = 0; begin <= text.len;) {
        size_t end = begin;
        while (end < text.len && text.ptr[end] != '.')
            end++;
        ap_str name = {text.ptr + begin, end - begin};
        ap_jval key;
        if (is_int_text(name)) {
            int64_t i = 0;
            for (size_t k = 0; k < name.len; k++)
                i = i * 10 + (name.ptr[k] - '0');
            key = ap_jint(i);
        } else {
            AP_TRY(ap_jstr_new(run, name, true, &key));
        }
        AP_TRY(ap_jget_item(run, *out, key, out));
        begin = end + 1;
    }
    return AP_OK;
}

static bool has_path(ap_jval path) { return ap_jgiven(path) && path.kind != AP_J_NONE; }

/* What a value is sorted or compared by: the value, or what the path leads to; text without case if asked. */
static ap_status key_of(ap_jrun *run, ap_jval v, ap_jval path, bool case_sensitive, ap_jval *out)
{
    *out = v;
    if (has_path(path))
        AP_TRY(ap_jget_path(run, v, path, out));
    if (!case_sensitive && ap_jis_str(*out))
        AP_TRY(ap_jstr_case(run, out->u.s, AP_JCASE_LOWER, out));
    return AP_OK;
}

typedef struct sort_item {
    ap_jval key, value;
} sort_item;

/* Jinja2 compares lists of keys, so what is equal need not have an order (None and None). */
static ap_status less_key(ap_jrun *run, ap_jval a, ap_jval b, bool *less)
{
    bool equal = false;
    *less = false;
    if (!ap_jis_str(a) && !ap_jis_number(a))
        AP_TRY(ap_jequal(run, a, b, &equal));
    return equal ? AP_OK : ap_jless(run, a, b, "<", less);
}

/* Stable merge sort; `reverse` keeps equal items in order, as Python's does. */
static ap_status merge_sort(ap_jrun *run, sort_item *items, sort_item *space, size_t n, bool reverse)
{
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t begin = 0; begin < n; begin += 2 * width) {
            size_t middle = begin + width < n ? begin + width : n, end = middle + width < n ? middle + width : n;
            size_t a = begin, b = middle;
            for (size_t at = begin; at < end; at++) {
                bool second = a == middle;
                if (a < middle && b < end)
                    AP_TRY(reverse ? less_key(run, items[a].key, items[b].key, &second)
                                   : less_key(run, items[b].key, items[a].key, &second));
                space[at] = second ? items[b++] : items[a++];
            }
        }
        memcpy(items, space, n * sizeof *items);
    }
    return AP_OK;
}

/* Sorts into a new list.  `paths` may hold several, separated by commas. */
static ap_status sort_list(ap_jrun *run, const ap_jlist *list, ap_jval path, bool case_sensitive, bool reverse, ap_jlist **out)
{
    sort_item *items, *space;
    size_t n = list->count;
    AP_JNEW(run, items, n + 1);
    AP_JNEW(run, space, n + 1);
    bool several = ap_jis_str(path) && memchr(path.u.s->ptr, ',', path.u.s->len);
    for (size_t i = 0; i < n; i++) {
        items[i].value = list->items[i];
        if (!several) {
            AP_TRY(key_of(run, list->items[i], path, case_sensitive, &items[i].key));
            continue;
        }
        ap_jlist *keys;
        AP_TRY(ap_jlist_new(run, AP_JL_LIST, 0, &keys));
        for (size_t begin = 0; begin <= path.u.s->len;) {
            const char *comma = memchr(path.u.s->ptr + begin, ',', path.u.s->len - begin);
            size_t end = comma ? (size_t)(comma - path.u.s->ptr) : path.u.s->len;
            ap_jval one, key;
            AP_TRY(ap_jstr_slice(run, path.u.s, begin, end, &one));
            AP_TRY(key_of(run, list->items[i], one, case_sensitive, &key));
            AP_TRY(ap_jlist_add(run, keys, key));
            begin = end + 1;
        }
        items[i].key = ap_jof_list(keys);
    }
    AP_TRY(merge_sort(run, items, space, n, reverse));
    AP_TRY(ap_jlist_new(run, AP_JL_LIST, n, out));
    for (size_t i = 0; i < n; i++)
        AP_TRY(ap_jlist_add(run, *out, items[i].value));
    return AP_OK;
}

/* ---- taking apart ------------------------------------------------------------------------ */

FILTER(filter_length)
{
    int64_t length;
    AP_TRY(none_given(run, "length", args));
    AP_TRY(ap_jlength(run, v, &length));
    *out = ap_jint(length);
    return AP_OK;
}

static ap_status no_element(ap_jrun *run, const char *hint, ap_jval *out)
{
    ap_jundef *undef;
    AP_JNEW(run, undef, 1);
    *undef = (ap_jundef){.hint = hint};
    *out = (ap_jval){.kind = AP_J_UNDEFINED, .u.undef = undef};
    return AP_OK;
}

FILTER(filter_first)
{
    ap_jlist *items;
    AP_TRY(none_given(run, "first", args));
    AP_TRY(ap_jiterate(run, v, &items));
    if (items->count == 0)
        return no_element(run, "no first item, the sequence was empty", out);
    *out = items->items[0];
    return AP_OK;
}

FILTER(filter_last)
{
    ap_jlist *items;
    AP_TRY(none_given(run, "last", args));
    if (v.kind == AP_J_LIST && v.u.list->flavor == AP_JL_GENERATOR)
        return ap_jfail(run, "'generator' object is not reversible");
    AP_TRY(ap_jiterate(run, v, &items));
    if (items->count == 0)
        return no_element(run, "no last item, the sequence was empty", out);
    *out = items->items[items->count - 1];
    return AP_OK;
}

FILTER(filter_list)
{
    ap_jlist *items, *list;
    AP_TRY(none_given(run, "list", args));
    AP_TRY(ap_jiterate(run, v, &items));
    AP_TRY(ap_jlist_new(run, AP_JL_LIST, items->count, &list));
    for (size_t i = 0; i < items->count; i++)
        AP_TRY(ap_jlist_add(run, list, items->items[i]));
    *out = ap_jof_list(list);
    return AP_OK;
}

FILTER(filter_items)
{
    ap_jlist *list;
    AP_TRY(none_given(run, "items", args));
    AP_TRY(new_generator(run, &list, out));
    if (v.kind == AP_J_UNDEFINED)
        return AP_OK;
    if (v.kind != AP_J_DICT)
        return ap_jfail(run, "can only get item pairs from a mapping");
    for (size_t i = 0; i < v.u.dict->count; i++) {
        ap_jval pair;
        AP_TRY(ap_jpair_new(run, v.u.dict->pairs[i].key, v.u.dict->pairs[i].value, &pair));
        AP_TRY(ap_jlist_add(run, list, pair));
    }
    return AP_OK;
}

FILTER(filter_reverse)
{
    ap_jlist *items, *list;
    ap_jbuild build = {0};
    AP_TRY(none_given(run, "reverse", args));
    if (v.kind == AP_J_LIST && v.u.list->flavor == AP_JL_GENERATOR)
        AP_TRY(filter_list(run, v, args, &v));
    AP_TRY(ap_jiterate(run, v, &items));
    AP_TRY(new_generator(run, &list, out));
    for (size_t i = items->count; i-- > 0;) {
        if (ap_jis_str(v))
            AP_TRY(ap_jbuild_str(run, &build, items->items[i].u.s));
        else
            AP_TRY(ap_jlist_add(run, list, items->items[i]));
    }
    return ap_jis_str(v) ? ap_jbuild_done(run, &build, out) : AP_OK;
}

FILTER(filter_batch)
{
    ap_jval slot[2];
    ap_jlist *items, *list, *row = NULL;
    AP_TRY(ap_jbind(run, "batch", args, "linecount fill_with", 1, slot, 2));
    if (!ap_jis_integer(slot[0]) || ap_jas_int(slot[0]) < 1)
        return ap_jfail(run, "batch: a positive int is wanted");
    size_t width = (size_t)ap_jas_int(slot[0]);
    AP_TRY(ap_jiterate(run, v, &items));
    AP_TRY(new_generator(run, &list, out));
    for (size_t i = 0; i < items->count; i++) {
        if (!row || row->count == width) {
            AP_TRY(ap_jlist_new(run, AP_JL_LIST, 0, &row));
            AP_TRY(ap_jlist_add(run, list, ap_jof_list(row)));
        }
        AP_TRY(ap_jlist_add(run, row, items->items[i]));
    }
    while (row && has_path(slot[1]) && row->count < width)
        AP_TRY(ap_jlist_add(run, row, slot[1]));
    return AP_OK;
}

FILTER(filter_slice)
{
    ap_jval slot[2];
    ap_jlist *items, *list;
    AP_TRY(ap_jbind(run, "slice", args, "slices fill_with", 1, slot, 2));
    if (!ap_jis_integer(slot[0]) || ap_jas_int(slot[0]) < 1)
        return ap_jfail(run, "slice: a positive int is wanted");
    size_t slices = (size_t)ap_jas_int(slot[0]), at = 0;
    AP_TRY(ap_jiterate(run, v, &items));
    AP_TRY(new_generator(run, &list, out));
    for (size_t i = 0; i < slices; i++) {
        ap_jlist *row;
        size_t share = items->count / slices + (i < items->count % slices);
        AP_TRY(ap_jlist_new(run, AP_JL_LIST, 0, &row));
        for (size_t k = 0; k < share; k++)
            AP_TRY(ap_jlist_add(run, row, items->items[at++]));
        if (has_path(slot[1]) && items->count % slices && i >= items->count % slices)
            AP_TRY(ap_jlist_add(run, row, slot[1]));
        AP_TRY(ap_jlist_add(run, list, ap_jof_list(row)));
    }
    return AP_OK;
}

/* ---- putting together ------------------------------------------------------------------------ */

FILTER(filter_join)
{
    ap_jval slot[2];
    ap_jlist *items;
    ap_jbuild build = {0};
    AP_TRY(ap_jbind(run, "join", args, "d attribute", 0, slot, 2));
    if (ap_jgiven(slot[0]))
        AP_TRY(ap_jto_str(run, slot[0], &slot[0]));
    AP_TRY(ap_jiterate(run, v, &items));
    for (size_t i = 0; i < items->count; i++) {
        ap_jval item = items->items[i];
        if (has_path(slot[1]))
            AP_TRY(ap_jget_path(run, item, slot[1], &item));
        if (i && ap_jis_str(slot[0]))
            AP_TRY(ap_jbuild_str(run, &build, slot[0].u.s));
        AP_TRY(ap_jbuild_value(run, &build, item));
    }
    return ap_jbuild_done(run, &build, out);
}

FILTER(filter_sum)
{
    ap_jval slot[2];
    ap_jlist *items;
    AP_TRY(ap_jbind(run, "sum", args, "attribute start", 0, slot, 2));
    AP_TRY(ap_jiterate(run, v, &items));
    *out = ap_jgiven(slot[1]) ? slot[1] : ap_jint(0);
    for (size_t i = 0; i < items->count; i++) {
        ap_jval item = items->items[i];
        if (has_path(slot[0]))
            AP_TRY(ap_jget_path(run, item, slot[0], &item));
        AP_TRY(ap_jarith(run, AP_JOP_ADD, *out, item, out));
    }
    return AP_OK;
}

static ap_status extreme(ap_jrun *run, ap_jval v, const ap_jargs *args, bool max, ap_jval *out)
{
    ap_jval slot[2], best = {0};
    ap_jlist *items;
    AP_TRY(ap_jbind(run, max ? "max" : "min", args, "case_sensitive attribute", 0, slot, 2));
    AP_TRY(ap_jiterate(run, v, &items));
    if (items->count == 0)
        return no_element(run, "no aggregated item, the sequence was empty", out);
    for (size_t i = 0; i < items->count; i++) {
        ap_jval key;
        bool better = i == 0;
        AP_TRY(key_of(run, items->items[i], slot[1], ap_jis_true(slot[0]), &key));
        if (i)
            AP_TRY(max ? ap_jless(run, best, key, ">", &better) : ap_jless(run, key, best, "<", &better));
        if (better) {
            best = key;
            *out = items->items[i];
        }
    }
    return AP_OK;
}

FILTER(filter_max) { return extreme(run, v, args, true, out); }
FILTER(filter_min) { return extreme(run, v, args, false, out); }

/* ---- order and groups -------------------------------------------------------------------------- */

FILTER(filter_sort)
{
    ap_jval slot[3];
    ap_jlist *items, *sorted;
    AP_TRY(ap_jbind(run, "sort", args, "reverse case_sensitive attribute", 0, slot, 3));
    AP_TRY(ap_jiterate(run, v, &items));
    AP_TRY(sort_list(run, items, slot[2], ap_jis_true(slot[1]), ap_jis_true(slot[0]), &sorted));
    *out = ap_jof_list(sorted);
    return AP_OK;
}

FILTER(filter_dictsort)
{
    ap_jval slot[3], pairs, method;
    ap_jlist *sorted;
    AP_TRY(ap_jbind(run, "dictsort", args, "case_sensitive by reverse", 0, slot, 3));
    bool by_value = ap_jis_text(slot[1], "value");
    if (ap_jgiven(slot[1]) && !by_value && !ap_jis_text(slot[1], "key"))
        return ap_jfail(run, "you can only sort by either \"key\" or \"value\"");
    if (v.kind == AP_J_UNDEFINED)
        return ap_jfail_undefined(run, v);
    if (v.kind != AP_J_DICT)
        return ap_jfail(run, "dictsort: a mapping is wanted, not '%s'", ap_jtype_name(v));
    AP_TRY(ap_jstr_new(run, AP_STR("items"), true, &method));
    AP_TRY(ap_jget_attr(run, v, method, &method));
    AP_TRY(ap_jcall(run, method, &(ap_jargs){0}, &pairs));
    AP_TRY(sort_list(run, pairs.u.list, ap_jint(by_value), ap_jis_true(slot[0]), ap_jis_true(slot[2]), &sorted));
    *out = ap_jof_list(sorted);
    return AP_OK;
}

FILTER(filter_unique)
{
    ap_jval slot[2];
    ap_jlist *items, *list;
    ap_jdict *seen;
    AP_TRY(ap_jbind(run, "unique", args, "case_sensitive attribute", 0, slot, 2));
    AP_TRY(ap_jiterate(run, v, &items));
    AP_TRY(new_generator(run, &list, out));
    AP_TRY(ap_jdict_new(run, 0, &seen));
    for (size_t i = 0; i < items->count; i++) {
        ap_jval key, *found;
        AP_TRY(key_of(run, items->items[i], slot[1], ap_jis_true(slot[0]), &key));
        AP_TRY(ap_jdict_find(run, seen, key, &found));
        if (found)
            continue;
        AP_TRY(ap_jdict_set(run, seen, key, ap_jnone()));
        AP_TRY(ap_jlist_add(run, list, items->items[i]));
    }
    return AP_OK;
}

/* Groups are tuples (grouper, list); their names as attributes are not there. */
FILTER(filter_groupby)
{
    ap_jval slot[3], last = {0};
    ap_jlist *items, *sorted, *groups, *members = NULL;
    AP_TRY(ap_jbind(run, "groupby", args, "attribute default case_sensitive", 1, slot, 3));
    AP_TRY(ap_jiterate(run, v, &items));
    AP_TRY(sort_list(run, items, slot[0], ap_jis_true(slot[2]), false, &sorted));
    AP_TRY(ap_jlist_new(run, AP_JL_LIST, 0, &groups));
    for (size_t i = 0; i < sorted->count; i++) {
        ap_jval key, shown, group;
        bool same = false;
        AP_TRY(ap_jget_path(run, sorted->items[i], slot[0], &shown));
        AP_TRY(key_of(run, sorted->items[i], slot[0], ap_jis_true(slot[2]), &key));
        if (members)
            AP_TRY(ap_jequal(run, last, key, &same));
        if (!same) {
            AP_TRY(ap_jlist_new(run, AP_JL_LIST, 0, &members));
            AP_TRY(ap_jpair_new(run, shown, ap_jof_list(members), &group));
            AP_TRY(ap_jlist_add(run, groups, group));
        }
        last = key;
        AP_TRY(ap_jlist_add(run, members, sorted->items[i]));
    }
    *out = ap_jof_list(groups);
    return AP_OK;
}

/* ---- choosing and mapping ------------------------------------------------------------------------- */

static ap_status choose(ap_jrun *run, ap_jval v, const ap_jargs *args, bool by_attribute, bool keep, ap_jval *out)
{
    ap_jlist *items, *list;
    ap_jargs rest = *args;
    ap_jval path = {0};
    const ap_jtest *test = NULL;
    if (by_attribute) {
        if (rest.count == 0)
            return ap_jfail(run, "missing parameter for attribute name");
        path = rest.at[0];
        rest.at++, rest.count--;
    }
    if (rest.count) {
        if (!ap_jis_str(rest.at[0]) || !(test = ap_jtest_find(ap_jbytes(rest.at[0]))))
            return ap_jfail(run, "no test of the name that was given");
        rest.at++, rest.count--;
    }
    AP_TRY(new_generator(run, &list, out));
    if (!ap_jis_true(v)) /* None too: Jinja2 looks before it iterates */
        return AP_OK;
    AP_TRY(ap_jiterate(run, v, &items));
    for (size_t i = 0; i < items->count; i++) {
        ap_jval item = items->items[i];
        if (by_attribute)
            AP_TRY(ap_jget_path(run, item, path, &item));
        bool passes = ap_jis_true(item);
        if (test)
            AP_TRY(test->fn(run, item, &rest, &passes));
        if (passes == keep)
            AP_TRY(ap_jlist_add(run, list, items->items[i]));
        AP_TRY(ap_jstep(run, 1));
    }
    return AP_OK;
}

FILTER(filter_select) { return choose(run, v, args, false, true, out); }
FILTER(filter_reject) { return choose(run, v, args, false, false, out); }
FILTER(filter_selectattr) { return choose(run, v, args, true, true, out); }
FILTER(filter_rejectattr) { return choose(run, v, args, true, false, out); }

FILTER(filter_map)
{
    ap_jlist *items, *list;
    ap_jargs rest = *args;
    ap_jval slot[2] = {{0}, {0}};
    const ap_jfilter *filter = NULL;
    if (rest.count) {
        if (!ap_jis_str(rest.at[0]) || !(filter = ap_jfilter_find(ap_jbytes(rest.at[0]))) || !filter->fn)
            return ap_jfail(run, "no filter of the name that was given");
        rest.at++, rest.count--;
    } else {
        AP_TRY(ap_jbind(run, "map", args, "attribute default", 1, slot, 2));
    }
    AP_TRY(new_generator(run, &list, out));
    if (!ap_jis_true(v))
        return AP_OK;
    AP_TRY(ap_jiterate(run, v, &items));
    if (run->depth >= AP_JINJA_DEPTH) /* map('map', 'map', …) */
        return ap_jfail_limit(run, "calls and blocks inside each other", AP_JINJA_DEPTH);
    run->depth++;
    for (size_t i = 0; i < items->count; i++) {
        ap_jval item;
        AP_TRY(ap_jstep(run, 1));
        if (filter)
            AP_TRY(filter->fn(run, items->items[i], &rest, &item));
        else
            AP_TRY(ap_jget_path(run, items->items[i], slot[0], &item));
        if (!filter && item.kind == AP_J_UNDEFINED && ap_jgiven(slot[1]))
            item = slot[1];
        AP_TRY(ap_jlist_add(run, list, item));
    }
    run->depth--;
    return AP_OK;
}

const ap_jfilter ap_jfilters_sequence[] = {
    {"batch", filter_batch}, {"count", filter_length}, {"dictsort", filter_dictsort}, {"first", filter_first},
    {"groupby", filter_groupby}, {"items", filter_items}, {"join", filter_join}, {"last", filter_last},
    {"length", filter_length}, {"list", filter_list}, {"map", filter_map}, {"max", filter_max}, {"min", filter_min},
    {"reject", filter_reject}, {"rejectattr", filter_rejectattr}, {"reverse", filter_reverse}, {"select", filter_select},
    {"selectattr", filter_selectattr}, {"slice", filter_slice}, {"sort", filter_sort}, {"sum", filter_sum},
    {"unique", filter_unique}, {NULL, NULL}};
