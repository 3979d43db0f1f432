/* Arithmetic with Python's rules: floor division, modulo with the divisor's sign,
 * + and * on strings and lists.  Integers have 64 bits; a result beyond is an error.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "text/jinja.h"

static ap_status overflow(ap_jrun *run) { return ap_jfail(run, "an integer result does not fit in 64 bits"); }

static ap_status int_power(ap_jrun *run, int64_t base, int64_t exponent, int64_t *out)
{
    int64_t result = 1;
    for (; exponent; exponent >>= 1) {
        if ((exponent & 1) && __builtin_mul_overflow(result, base, &result))
            return overflow(run);
        if (exponent > 1 && __builtin_mul_overflow(base, base, &base))
            return overflow(run);
    }
    *out = result;
    return AP_OK;
}

static ap_status on_ints(ap_jrun *run, ap_jop op, int64_t a, int64_t b, ap_jval *out)
{
    int64_t r = 0;
    bool over = false;
    switch (op) {
    case AP_JOP_ADD:
        over = __builtin_add_overflow(a, b, &r);
        break;
    case AP_JOP_SUB:
        over = __builtin_sub_overflow(a, b, &r);
        break;
    case AP_JOP_MUL:
        over = __builtin_mul_overflow(a, b, &r);
        break;
    case AP_JOP_FLOORDIV:
        over = a == INT64_MIN && b == -1;
        if (!over)
            r = a / b - (a % b != 0 && (a < 0) != (b < 0));
        break;
    case AP_JOP_MOD:
        r = b == -1 ? 0 : a % b;
        if (r && (r < 0) != (b < 0))
            r += b;
        break;
    default:
        AP_TRY(int_power(run, a, b, &r));
    }
    if (over)
        return overflow(run);
    *out = ap_jint(r);
    return AP_OK;
}

static ap_status on_floats(ap_jrun *run, ap_jop op, double a, double b, ap_jval *out)
{
    double r = 0;
    switch (op) {
    case AP_JOP_ADD:
        r = a + b;
        break;
    case AP_JOP_SUB:
        r = a - b;
        break;
    case AP_JOP_MUL:
        r = a * b;
        break;
    case AP_JOP_DIV:
        r = a / b;
        break;
    case AP_JOP_POW:
        r = pow(a, b);
        break;
    default: {
        double rest = fmod(a, b);
        if (rest != 0 && (rest < 0) != (b < 0))
            rest += b;
        r = op == AP_JOP_MOD ? rest : floor((a - rest) / b + 0.5);
    }
    }
    *out = ap_jfloat(r);
    return AP_OK;
}

static ap_status repeat(ap_jrun *run, ap_jval v, int64_t times, ap_jval *out)
{
    if (times < 0)
        times = 0;
    if (ap_jis_str(v)) {
        ap_jbuild build = {0};
        if (v.u.s->len == 0)
            times = 0;
        if (times > AP_JINJA_STRING)
            return ap_jfail_limit(run, "the bytes of a string", AP_JINJA_STRING);
        for (int64_t i = 0; i < times; i++)
            AP_TRY(ap_jbuild_str(run, &build, v.u.s));
        return ap_jbuild_done(run, &build, out);
    }
    ap_jlist *list;
    if (v.u.list->count == 0)
        times = 0;
    AP_TRY(ap_jlist_new(run, v.u.list->flavor, 0, &list));
    for (int64_t i = 0; i < times; i++)
        for (size_t k = 0; k < v.u.list->count; k++)
            AP_TRY(ap_jlist_add(run, list, v.u.list->items[k]));
    *out = ap_jof_list(list);
    return AP_OK;
}

static ap_status add_strings(ap_jrun *run, const ap_jstr *a, const ap_jstr *b, ap_jval *out)
{
    ap_jbuild build = {0};
    bool markup = a->markup || b->markup;
    ap_jval x = ap_jof_str(a), y = ap_jof_str(b);
    if (markup && !a->markup)
        AP_TRY(ap_jstr_escape(run, a, &x));
    if (markup && !b->markup)
        AP_TRY(ap_jstr_escape(run, b, &y));
    AP_TRY(ap_jbuild_str(run, &build, x.u.s));
    AP_TRY(ap_jbuild_str(run, &build, y.u.s));
    AP_TRY(ap_jbuild_done(run, &build, out));
    if (markup) {
        ap_jstr *s;
        AP_JNEW(run, s, 1);
        *s = *out->u.s;
        s->markup = true;
        out->u.s = s;
    }
    return AP_OK;
}

static bool is_sequence(ap_jval v) { return v.kind == AP_J_LIST && v.u.list->flavor <= AP_JL_TUPLE; }

static ap_status add_lists(ap_jrun *run, const ap_jlist *a, const ap_jlist *b, ap_jval *out)
{
    ap_jlist *list;
    AP_TRY(ap_jlist_new(run, a->flavor, a->count + b->count, &list));
    for (size_t i = 0; i < a->count; i++)
        AP_TRY(ap_jlist_add(run, list, a->items[i]));
    for (size_t i = 0; i < b->count; i++)
        AP_TRY(ap_jlist_add(run, list, b->items[i]));
    *out = ap_jof_list(list);
    return AP_OK;
}

ap_status ap_jarith(ap_jrun *run, ap_jop op, ap_jval a, ap_jval b, ap_jval *out)
{
    static const char *const signs[] = {"+", "-", "*", "/", "//", "%", "**"};
    if (a.kind == AP_J_UNDEFINED)
        return ap_jfail_undefined(run, a);
    if (op == AP_JOP_MOD && ap_jis_str(a))
        return ap_jpercent(run, a.u.s, b, out);
    if (b.kind == AP_J_UNDEFINED)
        return ap_jfail_undefined(run, b);
    if (ap_jis_number(a) && ap_jis_number(b)) {
        bool ours = a.ours && b.ours;
        bool floats = a.kind == AP_J_FLOAT || b.kind == AP_J_FLOAT || op == AP_JOP_DIV;
        if ((op == AP_JOP_DIV || op == AP_JOP_FLOORDIV || op == AP_JOP_MOD) && ap_jas_float(b) == 0)
            return ap_jfail(run, "division by zero");
        floats |= op == AP_JOP_POW && !floats && ap_jas_int(b) < 0;
        AP_TRY(floats ? on_floats(run, op, ap_jas_float(a), ap_jas_float(b), out)
                      : on_ints(run, op, ap_jas_int(a), ap_jas_int(b), out));
        out->ours = ours;
        return AP_OK;
    }
    if (op == AP_JOP_ADD && ap_jis_str(a) && ap_jis_str(b))
        return add_strings(run, a.u.s, b.u.s, out);
    if (op == AP_JOP_ADD && is_sequence(a) && is_sequence(b) && a.u.list->flavor == b.u.list->flavor)
        return add_lists(run, a.u.list, b.u.list, out);
    if (op == AP_JOP_MUL && (ap_jis_str(a) || is_sequence(a)) && ap_jis_integer(b))
        return repeat(run, a, ap_jas_int(b), out);
    if (op == AP_JOP_MUL && (ap_jis_str(b) || is_sequence(b)) && ap_jis_integer(a))
        return repeat(run, b, ap_jas_int(a), out);
    if (op == AP_JOP_ADD && (ap_jis_str(a) || is_sequence(a)))
        return ap_jfail(run, "can only concatenate %s (not \"%s\") to %s", ap_jtype_name(a), ap_jtype_name(b), ap_jtype_name(a));
    return ap_jfail(run, "unsupported operand type(s) for %s: '%s' and '%s'", signs[op], ap_jtype_name(a), ap_jtype_name(b));
}
