/* Walks the tree: statements write to run->out, expressions give values.
 *
 * A scope is made by a loop's round, a macro call, with, call, filter and
 * generation blocks; `if` makes none.  `set` binds in the innermost scope, so
 * what a loop sets is gone after it, as in Jinja2.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/jinja_tree.h"

typedef enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } flow;

static ap_status eval(ap_jrun *run, ap_jscope *scope, const ap_jnode *node, ap_jval *out);
static ap_status exec(ap_jrun *run, ap_jscope *scope, const ap_jnode *node, flow *how);

/* ---- scopes ---------------------------------------------------------------------- */

static ap_status new_scope(ap_jrun *run, ap_jscope *outer, ap_jscope **out)
{
    AP_JNEW(run, *out, 1);
    **out = (ap_jscope){.outer = outer};
    return AP_OK;
}

static ap_status bind(ap_jrun *run, ap_jscope *scope, uint32_t name, ap_jval value)
{
    for (size_t i = 0; i < scope->count; i++)
        if (scope->bindings[i].name == name) {
            scope->bindings[i].value = value;
            return AP_OK;
        }
    if (scope->count == scope->room) {
        size_t room = scope->room ? scope->room * 2 : 2; /* a loop's variable and `loop` */
        ap_jbinding *grown;
        AP_JNEW(run, grown, room);
        if (scope->count)
            memcpy(grown, scope->bindings, scope->count * sizeof *grown);
        scope->bindings = grown;
        scope->room = room;
    }
    scope->bindings[scope->count++] = (ap_jbinding){name, value};
    return AP_OK;
}

static ap_status lookup(ap_jrun *run, const ap_jscope *scope, uint32_t name, ap_jval *out)
{
    for (; scope; scope = scope->outer)
        for (size_t i = 0; i < scope->count; i++)
            if (scope->bindings[i].name == name) {
                *out = scope->bindings[i].value;
                return AP_OK;
            }
    ap_str text = run->program->names[name];
    const ap_jfunction *function = ap_jfunction_find(text);
    if (function) {
        *out = (ap_jval){.kind = AP_J_FUNCTION, .u.function = function};
        return AP_OK;
    }
    ap_jval shown;
    AP_TRY(ap_jstr_new(run, text, true, &shown));
    return ap_jundefined(run, NULL, shown, out);
}

static ap_status assign(ap_jrun *run, ap_jscope *scope, const ap_jnode *target, ap_jval value);

static ap_status unpack(ap_jrun *run, ap_jscope *scope, const ap_jnode *target, ap_jval value)
{
    ap_jlist *items;
    size_t wanted = 0, i = 0;
    for (const ap_jnode *t = target->list; t; t = t->next)
        wanted++;
    if (value.kind == AP_J_UNDEFINED)
        return ap_jfail_undefined(run, value);
    AP_TRY(ap_jiterate(run, value, &items));
    if (items->count != wanted)
        return ap_jfail(run, "%s values to unpack (expected %zu, got %zu)", items->count < wanted ? "not enough" : "too many",
                        wanted, items->count);
    for (const ap_jnode *t = target->list; t; t = t->next)
        AP_TRY(assign(run, scope, t, items->items[i++]));
    return AP_OK;
}

static ap_status assign(ap_jrun *run, ap_jscope *scope, const ap_jnode *target, ap_jval value)
{
    if (target->type == AP_JN_NAME)
        return bind(run, scope, target->name, value);
    if (target->type == AP_JN_TUPLE)
        return unpack(run, scope, target, value);
    ap_jval space;
    AP_TRY(lookup(run, scope, target->name, &space));
    if (space.kind != AP_J_NAMESPACE)
        return ap_jfail(run, "cannot assign attribute on non-namespace object");
    return ap_jdict_set(run, space.u.dict, target->value, value);
}

/* ---- calls ------------------------------------------------------------------------- */

typedef struct call_lists {
    ap_jval *at;
    ap_jkwarg *named;
    size_t count, room, named_count, named_room;
} call_lists;

static ap_status add_positional(ap_jrun *run, call_lists *lists, ap_jval value)
{
    if (lists->count == lists->room) {
        size_t room = lists->room ? lists->room * 2 : 4;
        ap_jval *grown;
        AP_JNEW(run, grown, room);
        if (lists->count)
            memcpy(grown, lists->at, lists->count * sizeof *grown);
        lists->at = grown;
        lists->room = room;
    }
    lists->at[lists->count++] = value;
    return ap_jstep(run, 1);
}

static ap_status add_named(ap_jrun *run, call_lists *lists, ap_str name, ap_jval value)
{
    for (size_t i = 0; i < lists->named_count; i++)
        if (ap_str_equal(lists->named[i].name, name))
            return ap_jfail(run, "a call gives the argument '%.*s' twice", name.len > 60 ? 60 : (int)name.len, name.ptr);
    if (lists->named_count == lists->named_room) {
        size_t room = lists->named_room ? lists->named_room * 2 : 4;
        ap_jkwarg *grown;
        AP_JNEW(run, grown, room);
        if (lists->named_count)
            memcpy(grown, lists->named, lists->named_count * sizeof *grown);
        lists->named = grown;
        lists->named_room = room;
    }
    lists->named[lists->named_count++] = (ap_jkwarg){name, value};
    return ap_jstep(run, 1 + lists->named_count / 8);
}

static ap_status eval_arguments(ap_jrun *run, ap_jscope *scope, const ap_jnode *list, const ap_jval *caller, ap_jargs *out)
{
    call_lists lists = {0};
    for (const ap_jnode *n = list; n; n = n->next) {
        ap_jval value;
        bool part = n->type == AP_JN_NAMED || n->type == AP_JN_STAR || n->type == AP_JN_STARSTAR;
        AP_TRY(eval(run, scope, part ? n->a : n, &value));
        if (!part) {
            AP_TRY(add_positional(run, &lists, value));
        } else if (n->type == AP_JN_NAMED) {
            AP_TRY(add_named(run, &lists, ap_jbytes(n->value), value));
        } else if (n->type == AP_JN_STAR) {
            ap_jlist *items;
            AP_TRY(ap_jiterate(run, value, &items));
            for (size_t i = 0; i < items->count; i++)
                AP_TRY(add_positional(run, &lists, items->items[i]));
        } else {
            if (value.kind != AP_J_DICT)
                return ap_jfail(run, "the argument after ** must be a mapping, not %s", ap_jtype_name(value));
            for (size_t i = 0; i < value.u.dict->count; i++) {
                ap_jpair *pair = &value.u.dict->pairs[i];
                if (!ap_jis_str(pair->key))
                    return ap_jfail(run, "keywords must be strings");
                AP_TRY(add_named(run, &lists, ap_jbytes(pair->key), pair->value));
            }
        }
    }
    if (caller)
        AP_TRY(add_named(run, &lists, AP_STR("caller"), *caller));
    *out = (ap_jargs){lists.at, lists.count, lists.named, lists.named_count};
    return AP_OK;
}

/* Runs statements with their output going into a string. */
static ap_status capture(ap_jrun *run, ap_jscope *scope, const ap_jnode *body, ap_jval *out)
{
    ap_jbuild build = {0}, *before = run->out;
    flow how = FLOW_ON;
    run->out = &build;
    ap_status status = exec(run, scope, body, &how);
    run->out = before;
    AP_TRY(status);
    return ap_jbuild_done(run, &build, out);
}

static ap_status macro_rest(ap_jrun *run, ap_jscope *scope, const ap_jnode *node, const ap_jargs *args, size_t taken,
                            const bool *used)
{
    ap_str name = ap_jbytes(node->value);
    int len = name.len > 60 ? 60 : (int)name.len;
    if (args->count > taken && !(node->flags & AP_JF_VARARGS))
        return ap_jfail(run, "macro '%.*s' takes not more than %zu argument(s)", len, name.ptr, taken);
    if (node->flags & AP_JF_VARARGS) {
        ap_jlist *rest;
        AP_TRY(ap_jlist_new(run, AP_JL_TUPLE, 0, &rest));
        for (size_t i = taken; i < args->count; i++)
            AP_TRY(ap_jlist_add(run, rest, args->at[i]));
        AP_TRY(bind(run, scope, AP_JNAME_VARARGS, ap_jof_list(rest)));
    }
    ap_jdict *kwargs = NULL;
    if (node->flags & AP_JF_KWARGS) {
        AP_TRY(ap_jdict_new(run, 0, &kwargs));
        AP_TRY(bind(run, scope, AP_JNAME_KWARGS, ap_jof_dict(kwargs)));
    }
    bool has_caller = false;
    for (size_t i = 0; i < args->named_count; i++) {
        ap_str key = args->named[i].name;
        if (used[i])
            continue;
        if ((node->flags & AP_JF_CALLER) && ap_str_is(key, "caller")) {
            AP_TRY(bind(run, scope, AP_JNAME_CALLER, args->named[i].value));
            has_caller = true;
        } else if (kwargs) {
            ap_jval shown;
            AP_TRY(ap_jstr_new(run, key, false, &shown));
            AP_TRY(ap_jdict_set(run, kwargs, shown, args->named[i].value));
        } else {
            return ap_jfail(run, "macro '%.*s' takes no keyword argument '%.*s'", len, name.ptr, key.len > 60 ? 60 : (int)key.len, key.ptr);
        }
    }
    if ((node->flags & AP_JF_CALLER) && !has_caller) {
        ap_jval shown;
        AP_TRY(ap_jstr_new(run, AP_STR("caller"), true, &shown));
        ap_jval none = {0};
        AP_TRY(ap_jundefined(run, NULL, shown, &none));
        AP_TRY(bind(run, scope, AP_JNAME_CALLER, none));
    }
    return AP_OK;
}

static ap_status call_macro(ap_jrun *run, const ap_jmacro *macro, const ap_jargs *args, ap_jval *out)
{
    const ap_jnode *node = macro->node;
    ap_jscope *scope;
    bool *used;
    size_t taken = 0;
    AP_TRY(new_scope(run, macro->scope, &scope));
    AP_JNEW(run, used, args->named_count + 1);
    memset(used, 0, args->named_count + 1);
    for (const ap_jnode *param = node->list; param; param = param->next, taken++) {
        ap_jval value = {.kind = AP_J_UNDEFINED};
        bool given = taken < args->count;
        if (given)
            value = args->at[taken];
        for (size_t i = 0; i < args->named_count; i++) {
            if (!ap_str_equal(args->named[i].name, run->program->names[param->name]))
                continue;
            if (given)
                return ap_jfail(run, "macro got several values for the argument '%.*s'", (int)args->named[i].name.len,
                                args->named[i].name.ptr);
            value = args->named[i].value;
            given = used[i] = true;
        }
        if (!given && param->a) {
            AP_TRY(eval(run, scope, param->a, &value));
        } else if (!given) {
            ap_jval shown;
            AP_TRY(ap_jstr_new(run, run->program->names[param->name], true, &shown));
            AP_TRY(ap_jundefined(run, NULL, shown, &value));
        }
        AP_TRY(bind(run, scope, param->name, value));
    }
    AP_TRY(macro_rest(run, scope, node, args, taken, used));
    return capture(run, scope, node->body, out);
}

static ap_status exec_for(ap_jrun *run, ap_jscope *outer, const ap_jnode *node, ap_jval iterable, unsigned depth);

static ap_status call_loop(ap_jrun *run, const ap_jloop *loop, const ap_jargs *args, ap_jval *out)
{
    if (!(loop->node->flags & AP_JF_RECURSIVE))
        return ap_jfail(run, "the loop must have the 'recursive' marker to be called");
    ap_jval iterable;
    AP_TRY(ap_jbind(run, "loop", args, "iterable", 1, &iterable, 1));
    ap_jbuild build = {0}, *before = run->out;
    run->out = &build;
    ap_status status = exec_for(run, loop->outer, loop->node, iterable, loop->depth + 1);
    run->out = before;
    AP_TRY(status);
    return ap_jbuild_done(run, &build, out);
}

static ap_status call_any(ap_jrun *run, ap_jval callee, const ap_jargs *args, ap_jval *out)
{
    switch ((ap_jkind)callee.kind) {
    case AP_J_MACRO:
        return call_macro(run, callee.u.macro, args, out);
    case AP_J_METHOD:
        return ap_jmethod_call(run, callee.u.method, args, out);
    case AP_J_FUNCTION:
        return callee.u.function->fn(run, args, out);
    case AP_J_LOOP:
        return call_loop(run, callee.u.loop, args, out);
    case AP_J_COUNTER:
        return ap_jcounter_attr(run, callee, AP_STR(""), out);
    case AP_J_UNDEFINED:
        return ap_jfail_undefined(run, callee);
    default:
        return ap_jfail(run, "'%s' object is not callable", ap_jtype_name(callee));
    }
}

static ap_status deeper(ap_jrun *run)
{
    if (run->depth >= AP_JINJA_DEPTH)
        return ap_jfail_limit(run, "calls and blocks inside each other", AP_JINJA_DEPTH);
    run->depth++;
    return ap_jstep(run, 1);
}

ap_status ap_jcall(ap_jrun *run, ap_jval callee, const ap_jargs *args, ap_jval *out)
{
    uint32_t line = run->line;
    AP_TRY(deeper(run));
    ap_status status = call_any(run, callee, args, out);
    run->depth--;
    if (status == AP_OK)
        run->line = line;
    return status;
}

/* ---- expressions --------------------------------------------------------------------- */

static ap_status eval_list(ap_jrun *run, ap_jscope *scope, const ap_jnode *node, ap_jval *out)
{
    ap_jlist *list;
    AP_TRY(ap_jlist_new(run, node->type == AP_JN_TUPLE ? AP_JL_TUPLE : AP_JL_LIST, 0, &list));
    for (const ap_jnode *n = node->list; n; n = n->next) {
        ap_jval value;
        AP_TRY(eval(run, scope, n, &value));
        AP_TRY(ap_jlist_add(run, list, value));
    }
    *out = ap_jof_list(list);
    return AP_OK;
}

static ap_status eval_dict(ap_jrun *run, ap_jscope *scope, const ap_jnode *node, ap_jval *out)
{
    ap_jdict *dict;
    AP_TRY(ap_jdict_new(run, 0, &dict));
    for (const ap_jnode *n = node->list; n; n = n->next->next) {
        ap_jval key, value;
        AP_TRY(eval(run, scope, n, &key));
        AP_TRY(eval(run, scope, n->next, &value));
        AP_TRY(ap_jdict_set(run, dict, key, value));
    }
    *out = ap_jof_dict(dict);
    return AP_OK;
}

static ap_status compare(ap_jrun *run, int op, ap_jval a, ap_jval b, bool *result)
{
    switch (op) {
    case AP_JC_EQ:
        return ap_jequal(run, a, b, result);
    case AP_JC_LT:
        return ap_jless(run, a, b, "<", result);
    case AP_JC_GT:
        return ap_jless(run, b, a, ">", result);
    case AP_JC_IN:
        return ap_jcontains(run, b, a, result);
    default:
        break;
    }
    AP_TRY(op == AP_JC_NE   ? ap_jequal(run, a, b, result)
           : op == AP_JC_LE ? ap_jless(run, b, a, "<=", result)
           : op == AP_JC_GE ? ap_jless(run, a, b, ">=", result)
                            : ap_jcontains(run, b, a, result));
    *result = !*result;
    return AP_OK;
}

static ap_status eval_compare(ap_jrun *run, ap_jscope *scope, const ap_jnode *node, ap_jval *out)
{
    ap_jval left, right;
    bool result = true;
    AP_TRY(eval(run, scope, node->a, &left));
    for (const ap_jnode *n = node->list; n && result; n = n->next, left = right) {
        AP_TRY(eval(run, scope, n->b, &right));
        AP_TRY(compare(run, n->op, left, right, &result));
    }
    *out = ap_jbool(result);
    return AP_OK;
}

static ap_status eval_logic(ap_jrun *run, ap_jscope *scope, const ap_jnode *node, ap_jval *out)
{
    for (const ap_jnode *n = node->list; n; n = n->next) {
        AP_TRY(eval(run, scope, n, out));
        if (ap_jis_true(*out) == (node->type == AP_JN_OR))
            break;
    }
    return AP_OK;
}

static ap_status eval_sign(ap_jrun *run, ap_jscope *scope, const ap_jnode *node, ap_jval *out)
{
    ap_jval v;
    AP_TRY(eval(run, scope, node->a, &v));
    if (v.kind == AP_J_UNDEFINED)
        return ap_jfail_undefined(run, v);
    if (!ap_jis_number(v))
        return ap_jfail(run, "bad operand type for unary %c: '%s'", node->type == AP_JN_NEG ? '-' : '+', ap_jtype_name(v));
    bool ours = v.ours;
    if (node->type == AP_JN_NEG && v.kind == AP_J_FLOAT)
        *out = ap_jfloat(-v.u.f);
    else if (node->type == AP_JN_NEG)
        return ap_jarith(run, AP_JOP_SUB, (ap_jval){.kind = AP_J_INT, .ours = ours}, v, out);
    else
        *out = v.kind == AP_J_BOOL ? ap_jint(v.u.b) : v;
    out->ours = ours;
    return AP_OK;
}

static ap_status eval_concat(ap_jrun *run, ap_jscope *scope, const ap_jnode *node, ap_jval *out)
{
    ap_jbuild build = {0};
    for (const ap_jnode *n = node->list; n; n = n->next) {
        ap_jval v;
        AP_TRY(eval(run, scope, n, &v));
        AP_TRY(ap_jbuild_value(run, &build, v));
    }
    return ap_jbuild_done(run, &build, out);
}

static ap_status eval_item(ap_jrun *run, ap_jscope *scope, const ap_jnode *node, ap_jval *out)
{
    ap_jval object, key, part[3] = {ap_jnone(), ap_jnone(), ap_jnone()};
    AP_TRY(eval(run, scope, node->a, &object));
    if (node->b->type != AP_JN_SLICE) {
        AP_TRY(eval(run, scope, node->b, &key));
        return ap_jget_item(run, object, key, out);
    }
    const ap_jnode *nodes[3] = {node->b->a, node->b->b, node->b->c};
    for (int i = 0; i < 3; i++)
        if (nodes[i])
            AP_TRY(eval(run, scope, nodes[i], &part[i]));
    return ap_jslice(run, object, part[0], part[1], part[2], out);
}

static ap_status eval_filter(ap_jrun *run, ap_jscope *scope, const ap_jnode *node, const ap_jval *input, ap_jval *out);

/* `input` is the text of a filter block, for a chain that begins without a value. */
static ap_status eval_filter_inside(ap_jrun *run, ap_jscope *scope, const ap_jnode *node, const ap_jval *input, ap_jval *out)
{
    ap_jval v;
    ap_jargs args;
    ap_str name = ap_jbytes(node->value);
    if (!node->a)
        v = *input;
    else if (node->a->type == AP_JN_FILTER)
        AP_TRY(eval_filter(run, scope, node->a, input, &v));
    else
        AP_TRY(eval(run, scope, node->a, &v));
    AP_TRY(eval_arguments(run, scope, node->list, NULL, &args));
    run->line = node->line;
    if (!node->filter)
        return ap_jfail(run, "no filter named '%.*s'", name.len > 60 ? 60 : (int)name.len, name.ptr);
    if (!node->filter->fn)
        return run->failed = ap_fail(run->err, AP_E_UNSUPPORTED, "line %" PRIu32 ": the filter '%s' is not supported", run->line,
                                     node->filter->name);
    return node->filter->fn(run, v, &args, out);
}

static ap_status eval_filter(ap_jrun *run, ap_jscope *scope, const ap_jnode *node, const ap_jval *input, ap_jval *out)
{
    AP_TRY(deeper(run));
    ap_status status = eval_filter_inside(run, scope, node, input, out);
    run->depth--;
    return status;
}

static ap_status eval_test(ap_jrun *run, ap_jscope *scope, const ap_jnode *node, ap_jval *out)
{
    ap_jval v;
    ap_jargs args;
    bool result;
    ap_str name = ap_jbytes(node->value);
    AP_TRY(eval(run, scope, node->a, &v));
    AP_TRY(eval_arguments(run, scope, node->list, NULL, &args));
    if (!node->test)
        return ap_jfail(run, "no test named '%.*s'", name.len > 60 ? 60 : (int)name.len, name.ptr);
    AP_TRY(node->test->fn(run, v, &args, &result));
    *out = ap_jbool(result != !!(node->flags & AP_JF_NEGATED));
    return AP_OK;
}

static ap_status eval_inside(ap_jrun *run, ap_jscope *scope, const ap_jnode *node, ap_jval *out)
{
    ap_jval a, b;
    ap_jargs args;
    switch ((ap_jnode_type)node->type) {
    case AP_JN_CONST:
        *out = node->value;
        return AP_OK;
    case AP_JN_NAME:
        return lookup(run, scope, node->name, out);
    case AP_JN_TUPLE:
    case AP_JN_LIST:
        return eval_list(run, scope, node, out);
    case AP_JN_DICT:
        return eval_dict(run, scope, node, out);
    case AP_JN_COND:
        AP_TRY(eval(run, scope, node->a, &a));
        if (ap_jis_true(a) || node->c)
            return eval(run, scope, ap_jis_true(a) ? node->b : node->c, out);
        *out = (ap_jval){.kind = AP_J_UNDEFINED};
        return AP_OK;
    case AP_JN_OR:
    case AP_JN_AND:
        return eval_logic(run, scope, node, out);
    case AP_JN_NOT:
        AP_TRY(eval(run, scope, node->a, &a));
        *out = ap_jbool(!ap_jis_true(a));
        return AP_OK;
    case AP_JN_NEG:
    case AP_JN_POS:
        return eval_sign(run, scope, node, out);
    case AP_JN_COMPARE:
        return eval_compare(run, scope, node, out);
    case AP_JN_ARITH:
        AP_TRY(eval(run, scope, node->a, &a));
        AP_TRY(eval(run, scope, node->b, &b));
        return ap_jarith(run, (ap_jop)node->op, a, b, out);
    case AP_JN_CONCAT:
        return eval_concat(run, scope, node, out);
    case AP_JN_ATTR:
        AP_TRY(eval(run, scope, node->a, &a));
        return ap_jget_attr(run, a, node->value, out);
    case AP_JN_ITEM:
        return eval_item(run, scope, node, out);
    case AP_JN_CALL:
        AP_TRY(eval(run, scope, node->a, &a));
        AP_TRY(eval_arguments(run, scope, node->list, NULL, &args));
        return ap_jcall(run, a, &args, out);
    case AP_JN_FILTER:
        return eval_filter(run, scope, node, NULL, out);
    case AP_JN_TEST:
        return eval_test(run, scope, node, out);
    default:
        return ap_jfail(run, "an expression of kind %d cannot be evaluated", node->type);
    }
}

static ap_status eval(ap_jrun *run, ap_jscope *scope, const ap_jnode *node, ap_jval *out)
{
    AP_TRY(deeper(run));
    ap_status status = eval_inside(run, scope, node, out);
    run->depth--;
    return status;
}

/* ---- loops ------------------------------------------------------------------------------ */

/* Tries to have `wanted` items ready. */
static ap_status loop_fetch(ap_jrun *run, ap_jloop *loop, size_t wanted)
{
    while (loop->node->c && loop->ready->count < wanted && loop->taken < loop->source->count) {
        ap_jval item = loop->source->items[loop->taken++], passes;
        ap_jscope *scope;
        AP_TRY(new_scope(run, loop->outer, &scope));
        AP_TRY(assign(run, scope, loop->node->a, item));
        AP_TRY(eval(run, scope, loop->node->c, &passes));
        if (ap_jis_true(passes))
            AP_TRY(ap_jlist_add(run, loop->ready, item));
    }
    return AP_OK;
}

static ap_status exec_rounds(ap_jrun *run, ap_jloop *loop)
{
    for (;; loop->index++) {
        ap_jscope *scope;
        flow how = FLOW_ON;
        AP_TRY(ap_jstep(run, 1));
        AP_TRY(loop_fetch(run, loop, loop->index + 1));
        if (loop->index >= loop->ready->count)
            return AP_OK;
        AP_TRY(new_scope(run, loop->outer, &scope));
        AP_TRY(bind(run, scope, AP_JNAME_LOOP, (ap_jval){.kind = AP_J_LOOP, .u.loop = loop}));
        AP_TRY(assign(run, scope, loop->node->a, loop->ready->items[loop->index]));
        AP_TRY(exec(run, scope, loop->node->body, &how));
        if (how == FLOW_BREAK) {
            loop->index++;
            return AP_OK;
        }
    }
}

static ap_status exec_for(ap_jrun *run, ap_jscope *outer, const ap_jnode *node, ap_jval iterable, unsigned depth)
{
    ap_jloop *loop;
    AP_JNEW(run, loop, 1);
    *loop = (ap_jloop){.node = node, .outer = outer, .depth = depth};
    AP_TRY(ap_jiterate(run, iterable, &loop->source));
    loop->ready = loop->source;
    if (node->c)
        AP_TRY(ap_jlist_new(run, AP_JL_LIST, 0, &loop->ready));
    AP_TRY(exec_rounds(run, loop));
    if (loop->index > 0 || !node->other)
        return AP_OK;
    ap_jscope *scope;
    flow how = FLOW_ON;
    AP_TRY(new_scope(run, outer, &scope));
    return exec(run, scope, node->other, &how);
}

ap_status ap_jloop_method(ap_jrun *run, ap_jloop *loop, bool is_cycle, const ap_jargs *args, ap_jval *out)
{
    if (is_cycle) {
        if (args->count == 0)
            return ap_jfail(run, "no items for cycling given");
        *out = args->at[loop->index % args->count];
        return AP_OK;
    }
    ap_jlist *now;
    bool same = false;
    AP_TRY(ap_jlist_new(run, AP_JL_TUPLE, 0, &now));
    for (size_t i = 0; i < args->count; i++)
        AP_TRY(ap_jlist_add(run, now, args->at[i]));
    if (loop->has_change)
        AP_TRY(ap_jequal(run, loop->last_change, ap_jof_list(now), &same));
    loop->last_change = ap_jof_list(now);
    loop->has_change = true;
    *out = ap_jbool(!same);
    return AP_OK;
}

static ap_status loop_attr(ap_jrun *run, ap_jloop *loop, ap_jval name, ap_jval *out)
{
    int64_t index = (int64_t)loop->index;
    bool reverse = ap_jis_text(name, "revindex"), reverse0 = ap_jis_text(name, "revindex0");
    if (ap_jis_text(name, "index") || ap_jis_text(name, "index0")) {
        *out = ap_jint(index + ap_jis_text(name, "index"));
    } else if (ap_jis_text(name, "first")) {
        *out = ap_jbool(index == 0);
    } else if (ap_jis_text(name, "last") || ap_jis_text(name, "nextitem")) {
        AP_TRY(loop_fetch(run, loop, loop->index + 2));
        bool last = loop->ready->count <= loop->index + 1;
        if (ap_jis_text(name, "last"))
            *out = ap_jbool(last);
        else if (last)
            return ap_jundefined(run, NULL, name, out);
        else
            *out = loop->ready->items[loop->index + 1];
    } else if (ap_jis_text(name, "previtem")) {
        if (index == 0)
            return ap_jundefined(run, NULL, name, out);
        *out = loop->ready->items[loop->index - 1];
    } else if (reverse || reverse0 || ap_jis_text(name, "length")) {
        AP_TRY(loop_fetch(run, loop, SIZE_MAX));
        int64_t length = (int64_t)loop->ready->count;
        *out = ap_jint(reverse ? length - index : reverse0 ? length - index - 1 : length);
    } else if (ap_jis_text(name, "depth") || ap_jis_text(name, "depth0")) {
        *out = ap_jint((int64_t)loop->depth + ap_jis_text(name, "depth"));
    } else {
        return ap_jundefined(run, "LoopContext", name, out);
    }
    return AP_OK;
}

/* ---- attributes and items ------------------------------------------------------------------ */

ap_status ap_jget_attr(ap_jrun *run, ap_jval object, ap_jval name, ap_jval *out)
{
    if (object.kind == AP_J_UNDEFINED)
        return ap_jfail_undefined(run, object);
    int id;
    bool unsafe = ap_str_starts(ap_jbytes(name), AP_STR("__"));
    if (unsafe || ap_jmethod_find(object, ap_jbytes(name), &id, &unsafe)) {
        if (unsafe) {
            ap_jundef *undef;
            AP_JNEW(run, undef, 1);
            *undef = (ap_jundef){.type = ap_jtype_name(object), .name = name, .unsafe = true};
            *out = (ap_jval){.kind = AP_J_UNDEFINED, .u.undef = undef};
            return AP_OK;
        }
        ap_jmethod *method;
        AP_JNEW(run, method, 1);
        *method = (ap_jmethod){object, id};
        *out = (ap_jval){.kind = AP_J_METHOD, .u.method = method};
        return AP_OK;
    }
    if (object.kind == AP_J_LOOP)
        return loop_attr(run, object.u.loop, name, out);
    if (object.kind == AP_J_COUNTER)
        return ap_jcounter_attr(run, object, ap_jbytes(name), out);
    if (object.kind == AP_J_DICT || object.kind == AP_J_NAMESPACE) {
        ap_jval *found;
        AP_TRY(ap_jdict_find(run, object.u.dict, name, &found));
        if (found) {
            *out = *found;
            return AP_OK;
        }
    }
    return ap_jundefined(run, object.kind == AP_J_NONE ? "None" : ap_jtype_name(object), name, out);
}

static bool resolve_index(ap_jval key, size_t count, size_t *at)
{
    if (!ap_jis_integer(key))
        return false;
    int64_t i = ap_jas_int(key);
    if (i < 0)
        i += (int64_t)count;
    *at = (size_t)i;
    return i >= 0 && (uint64_t)i < count;
}

ap_status ap_jget_item(ap_jrun *run, ap_jval object, ap_jval key, ap_jval *out)
{
    size_t at;
    if (object.kind == AP_J_UNDEFINED)
        return ap_jfail_undefined(run, object);
    if (object.kind == AP_J_DICT && key.kind != AP_J_LIST && key.kind != AP_J_DICT) {
        ap_jval *found;
        AP_TRY(ap_jdict_find(run, object.u.dict, key, &found));
        if (found) {
            *out = *found;
            return AP_OK;
        }
    } else if (object.kind == AP_J_DICT && key.kind == AP_J_LIST && key.u.list->flavor == AP_JL_TUPLE) {
        ap_jval *found;
        AP_TRY(ap_jdict_find(run, object.u.dict, key, &found));
        if (found) {
            *out = *found;
            return AP_OK;
        }
    } else if (object.kind == AP_J_LIST && (object.u.list->flavor <= AP_JL_TUPLE || object.u.list->flavor == AP_JL_RANGE)) {
        if (resolve_index(key, object.u.list->count, &at)) {
            *out = object.u.list->items[at];
            return AP_OK;
        }
    } else if (ap_jis_str(object) && ap_jis_integer(key)) {
        const ap_jstr *s = object.u.s;
        AP_TRY(ap_jstep(run, s->ascii ? 0 : s->len / 8));
        if (resolve_index(key, ap_jstr_chars(s), &at)) {
            size_t begin = ap_jstr_offset(s, at), length;
            (void)ap_jcode(s, begin, &length);
            return ap_jstr_slice(run, s, begin, begin + length, out);
        }
    }
    if (ap_jis_str(key))
        return ap_jget_attr(run, object, key, out);
    return ap_jundefined(run, ap_jtype_name(object), key, out);
}

static ap_status slice_bound(ap_jrun *run, ap_jval v, int64_t length, int64_t low, int64_t high, int64_t otherwise, int64_t *out)
{
    if (v.kind == AP_J_NONE) {
        *out = otherwise;
        return AP_OK;
    }
    if (v.kind == AP_J_UNDEFINED)
        return ap_jfail_undefined(run, v);
    if (!ap_jis_integer(v))
        return ap_jfail(run, "slice indices must be integers or None");
    int64_t i = ap_jas_int(v);
    if (i < 0)
        i += length;
    *out = i < low ? low : i > high ? high : i;
    return AP_OK;
}

ap_status ap_jslice(ap_jrun *run, ap_jval object, ap_jval start, ap_jval stop, ap_jval step, ap_jval *out)
{
    int64_t length, by = 1, from = 0, to = 0;
    bool is_list = object.kind == AP_J_LIST && (object.u.list->flavor <= AP_JL_TUPLE || object.u.list->flavor == AP_JL_RANGE);
    if (object.kind == AP_J_UNDEFINED)
        return ap_jfail_undefined(run, object);
    if (!is_list && !ap_jis_str(object))
        return ap_jfail(run, "'%s' object cannot be sliced", ap_jtype_name(object));
    AP_TRY(ap_jlength(run, object, &length));
    if (step.kind != AP_J_NONE && (!ap_jis_integer(step) || ap_jas_int(step) == 0))
        return ap_jfail(run, "a slice's step must be an integer other than 0");
    if (step.kind != AP_J_NONE)
        by = ap_jas_int(step);
    bool back = by < 0;
    AP_TRY(slice_bound(run, start, length, back ? -1 : 0, back ? length - 1 : length, back ? length - 1 : 0, &from));
    AP_TRY(slice_bound(run, stop, length, back ? -1 : 0, back ? length - 1 : length, back ? -1 : length, &to));
    if (ap_jis_str(object) && by == 1) {
        const ap_jstr *s = object.u.s;
        AP_TRY(ap_jstep(run, s->ascii ? 0 : s->len / 8));
        size_t begin = ap_jstr_offset(s, (size_t)from), end = to > from ? ap_jstr_offset(s, (size_t)to) : begin;
        return ap_jstr_slice(run, s, begin, end, out);
    }
    ap_jlist *chosen, *source;
    ap_jbuild build = {0};
    AP_TRY(ap_jiterate(run, object, &source));
    AP_TRY(ap_jlist_new(run, is_list && object.u.list->flavor == AP_JL_TUPLE ? AP_JL_TUPLE : AP_JL_LIST, 0, &chosen));
    while (back ? from > to : from < to) {
        if (is_list)
            AP_TRY(ap_jlist_add(run, chosen, source->items[from]));
        else
            AP_TRY(ap_jbuild_str(run, &build, source->items[from].u.s));
        if (__builtin_add_overflow(from, by, &from))
            break;
    }
    if (!is_list)
        return ap_jbuild_done(run, &build, out);
    *out = ap_jof_list(chosen);
    return AP_OK;
}

/* ---- statements ------------------------------------------------------------------------------ */

static ap_status exec_set(ap_jrun *run, ap_jscope *scope, const ap_jnode *node)
{
    ap_jval value;
    if (node->type == AP_JN_SET) {
        AP_TRY(eval(run, scope, node->b, &value));
    } else {
        ap_jscope *inner;
        AP_TRY(new_scope(run, scope, &inner));
        AP_TRY(capture(run, inner, node->body, &value));
        if (node->b)
            AP_TRY(eval_filter(run, scope, node->b, &value, &value));
    }
    return assign(run, scope, node->a, value);
}

static ap_status exec_with(ap_jrun *run, ap_jscope *scope, const ap_jnode *node, flow *how)
{
    ap_jscope *inner;
    AP_TRY(new_scope(run, scope, &inner));
    for (const ap_jnode *n = node->list; n; n = n->next) {
        ap_jval value;
        AP_TRY(eval(run, scope, n->b, &value)); /* values see the scope outside */
        AP_TRY(assign(run, inner, n->a, value));
    }
    return exec(run, inner, node->body, how);
}

static ap_status new_macro(ap_jrun *run, ap_jscope *scope, const ap_jnode *node, ap_jval *out)
{
    ap_jmacro *macro;
    AP_JNEW(run, macro, 1);
    *macro = (ap_jmacro){node, scope};
    *out = (ap_jval){.kind = AP_J_MACRO, .u.macro = macro};
    return AP_OK;
}

static ap_status exec_call(ap_jrun *run, ap_jscope *scope, const ap_jnode *node)
{
    ap_jval caller, callee, text;
    ap_jargs args;
    AP_TRY(new_macro(run, scope, node->b, &caller));
    AP_TRY(eval(run, scope, node->a->a, &callee));
    AP_TRY(eval_arguments(run, scope, node->a->list, &caller, &args));
    AP_TRY(ap_jcall(run, callee, &args, &text));
    return ap_jbuild_value(run, run->out, text);
}

static ap_status exec_if(ap_jrun *run, ap_jscope *scope, const ap_jnode *node, flow *how)
{
    for (; node; node = node->c) {
        ap_jval test;
        AP_TRY(eval(run, scope, node->a, &test));
        if (ap_jis_true(test))
            return exec(run, scope, node->body, how);
        if (!node->c)
            return exec(run, scope, node->other, how);
    }
    return AP_OK;
}

static ap_status exec_one(ap_jrun *run, ap_jscope *scope, const ap_jnode *node, flow *how)
{
    ap_jval value;
    ap_jscope *inner;
    switch ((ap_jnode_type)node->type) {
    case AP_JN_TEXT:
        return ap_jbuild_str(run, run->out, node->value.u.s);
    case AP_JN_PRINT:
        AP_TRY(eval(run, scope, node->a, &value));
        return ap_jbuild_value(run, run->out, value);
    case AP_JN_IF:
        return exec_if(run, scope, node, how);
    case AP_JN_FOR:
        AP_TRY(eval(run, scope, node->b, &value));
        return exec_for(run, scope, node, value, 0);
    case AP_JN_SET:
    case AP_JN_SETBLOCK:
        return exec_set(run, scope, node);
    case AP_JN_WITH:
        return exec_with(run, scope, node, how);
    case AP_JN_MACRO:
        AP_TRY(new_macro(run, scope, node, &value));
        return bind(run, scope, node->name, value);
    case AP_JN_CALLBLOCK:
        return exec_call(run, scope, node);
    case AP_JN_FILTERBLOCK:
        AP_TRY(new_scope(run, scope, &inner));
        AP_TRY(capture(run, inner, node->body, &value));
        AP_TRY(eval_filter(run, scope, node->b, &value, &value));
        return ap_jbuild_value(run, run->out, value);
    case AP_JN_SCOPE:
        AP_TRY(new_scope(run, scope, &inner));
        return exec(run, inner, node->body, how);
    case AP_JN_BREAK:
        *how = FLOW_BREAK;
        return AP_OK;
    case AP_JN_CONTINUE:
        *how = FLOW_CONTINUE;
        return AP_OK;
    default:
        return ap_jfail(run, "a statement of kind %d cannot be run", node->type);
    }
}

/* Runs a chain of statements until its end or a break or continue. */
static ap_status exec(ap_jrun *run, ap_jscope *scope, const ap_jnode *node, flow *how)
{
    AP_TRY(deeper(run));
    for (; node && *how == FLOW_ON; node = node->next) {
        AP_TRY(ap_jstep(run, 1));
        run->line = node->line;
        AP_TRY(exec_one(run, scope, node, how));
    }
    run->depth--;
    return AP_OK;
}

/* ---- runs --------------------------------------------------------------------------------------- */

ap_status ap_jinja_begin(ap_jrun *run, const ap_jprogram *program, int64_t now, ap_error *err)
{
    *run = (ap_jrun){.arena.limit_bytes = AP_JINJA_MEMORY, .err = err, .steps_max = AP_JINJA_STEPS, .program = program, .now = now, .line = 1,
                     .what = "the bytes of all values of one rendering"};
    return new_scope(run, NULL, &run->globals);
}

ap_status ap_jinja_set(ap_jrun *run, ap_str name, ap_jval value)
{
    for (uint32_t i = 0; i < run->program->name_count; i++)
        if (ap_str_equal(run->program->names[i], name))
            return bind(run, run->globals, i, value);
    return AP_OK;
}

ap_status ap_jinja_render(ap_jrun *run, ap_jbuild *out)
{
    flow how = FLOW_ON;
    run->out = out;
    return exec(run, run->globals, run->program->body, &how);
}

void ap_jinja_end(ap_jrun *run) { ap_arena_deinit(&run->arena); }
