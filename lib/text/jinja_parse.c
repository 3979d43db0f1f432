/* Tokens to a tree, by recursive descent in the order of Jinja2's grammar.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"
#include "text/jinja_tree.h"

typedef struct parser {
    ap_jrun run; /* its arena is the program's */
    ap_jtoken *at;
    ap_map names;
    ap_str *name_list;
    uint32_t name_count, name_room;
    unsigned depth;
    unsigned loops;
    uint8_t macro_flags; /* which of caller, varargs, kwargs the macro being read mentions */
} parser;

static const char *const own_names[AP_JNAME_COUNT] = {"loop", "caller", "varargs", "kwargs"};

static ap_status parse_condition(parser *p, ap_jnode **out);
static ap_status parse_or(parser *p, ap_jnode **out);
static ap_status parse_unary(parser *p, bool filters, ap_jnode **out);
static ap_status parse_body(parser *p, const char *ends, ap_jnode **out, ap_jtoken **end);

/* ---- tokens ------------------------------------------------------------------- */

static ap_status unexpected(parser *p, const char *wanted)
{
    const ap_jtoken *t = p->at;
    p->run.line = t->line;
    const char *kind = t->kind == AP_JT_END ? "the end of the template" : t->kind == AP_JT_BLOCK_END ? "%}"
                     : t->kind == AP_JT_PRINT_END ? "}}" : t->kind == AP_JT_DATA ? "text" : NULL;
    int len = t->text.len > 60 ? 60 : (int)t->text.len;
    if (kind)
        return ap_jfail(&p->run, "expected %s, found %s", wanted, kind);
    return ap_jfail(&p->run, "expected %s, found '%.*s'", wanted, len, t->text.ptr);
}

static bool is_op(const parser *p, int op) { return p->at->kind == AP_JT_OP && p->at->op == op; }
static bool is_name(const ap_jtoken *t, const char *name) { return t->kind == AP_JT_NAME && ap_str_is(t->text, name); }

static bool skip_op(parser *p, int op)
{
    if (!is_op(p, op))
        return false;
    p->at++;
    return true;
}

static bool skip_name(parser *p, const char *name)
{
    if (!is_name(p->at, name))
        return false;
    p->at++;
    return true;
}

static ap_status expect_op(parser *p, int op)
{
    char wanted[] = {'\'', (char)op, '\'', 0};
    return skip_op(p, op) ? AP_OK : unexpected(p, wanted);
}

static ap_status expect_name(parser *p, ap_str *name)
{
    if (p->at->kind != AP_JT_NAME)
        return unexpected(p, "a name");
    *name = p->at++->text;
    return AP_OK;
}

static ap_status expect_block_end(parser *p)
{
    if (p->at->kind != AP_JT_BLOCK_END)
        return unexpected(p, "the end of the block");
    p->at++;
    return AP_OK;
}

static ap_status deeper(parser *p)
{
    p->run.line = p->at->line;
    if (p->depth >= AP_JINJA_PARSE_DEPTH)
        return ap_jfail_limit(&p->run, "blocks and expressions inside each other", AP_JINJA_PARSE_DEPTH);
    p->depth++;
    return AP_OK;
}

/* ---- nodes -------------------------------------------------------------------- */

static ap_status new_node(parser *p, ap_jnode_type type, ap_jnode **out)
{
    AP_JNEW(&p->run, *out, 1);
    **out = (ap_jnode){.type = (uint8_t)type, .line = p->at->line};
    return AP_OK;
}

static ap_status new_const(parser *p, ap_jval value, ap_jnode **out)
{
    AP_TRY(new_node(p, AP_JN_CONST, out));
    (*out)->value = value;
    return AP_OK;
}

static ap_status set_text(parser *p, ap_jnode *node, ap_str text) { return ap_jstr_new(&p->run, text, true, &node->value); }

/* The number of a variable's name. */
static ap_status intern(parser *p, ap_str name, uint32_t *id)
{
    if (ap_map_get(&p->names, name, id))
        return AP_OK;
    if (p->name_count == p->name_room) {
        uint32_t room = p->name_room ? p->name_room * 2 : 32;
        ap_str *grown;
        AP_JNEW(&p->run, grown, room);
        if (p->name_count)
            memcpy(grown, p->name_list, p->name_count * sizeof *grown);
        p->name_list = grown;
        p->name_room = room;
    }
    AP_TRY(ap_map_add(&p->names, name, p->name_count, NULL, p->run.err));
    *id = p->name_count;
    p->name_list[p->name_count++] = name;
    return AP_OK;
}

/* Appends to a chain. */
static void link_node(ap_jnode ***tail, ap_jnode *node)
{
    **tail = node;
    *tail = &node->next;
}

/* ---- expressions ---------------------------------------------------------------- */

/* NAME: name. */
static ap_status parse_name(parser *p, ap_jnode **out)
{
    ap_str name;
    AP_TRY(new_node(p, AP_JN_NAME, out));
    AP_TRY(expect_name(p, &name));
    AP_TRY(intern(p, name, &(*out)->name));
    static const uint8_t flags[AP_JNAME_COUNT] = {0, AP_JF_CALLER, AP_JF_VARARGS, AP_JF_KWARGS};
    if ((*out)->name < AP_JNAME_COUNT)
        p->macro_flags |= flags[(*out)->name];
    return AP_OK;
}

/* NAMED: value (the keyword), a.  STAR, STARSTAR: a. */
static ap_status parse_arguments(parser *p, ap_jnode **list)
{
    AP_TRY(expect_op(p, '('));
    ap_jnode **tail = list;
    for (bool first = true; !is_op(p, ')'); first = false) {
        if (!first) {
            AP_TRY(expect_op(p, ','));
            if (is_op(p, ')'))
                break;
        }
        ap_jnode *node;
        if (is_op(p, '*') || is_op(p, AP_JPAIR('*', '*'))) {
            AP_TRY(new_node(p, is_op(p, '*') ? AP_JN_STAR : AP_JN_STARSTAR, &node));
            p->at++;
            AP_TRY(parse_condition(p, &node->a));
        } else if (p->at->kind == AP_JT_NAME && p->at[1].kind == AP_JT_OP && p->at[1].op == '=') {
            AP_TRY(new_node(p, AP_JN_NAMED, &node));
            AP_TRY(set_text(p, node, p->at->text));
            p->at += 2;
            AP_TRY(parse_condition(p, &node->a));
        } else {
            AP_TRY(parse_condition(p, &node));
        }
        link_node(&tail, node);
    }
    return expect_op(p, ')');
}

/* TUPLE: list.  What ends a tuple: a closing bracket, a tag's end, or the name `until`. */
static bool ends_tuple(const parser *p, const char *until)
{
    return p->at->kind == AP_JT_PRINT_END || p->at->kind == AP_JT_BLOCK_END || is_op(p, ')') || (until && is_name(p->at, until));
}

static ap_status parse_tuple(parser *p, bool with_condition, const char *until, bool in_brackets, ap_jnode **out)
{
    ap_jnode *list = NULL, **tail = &list, *tuple;
    bool is_tuple = false;
    AP_TRY(new_node(p, AP_JN_TUPLE, &tuple));
    for (bool first = true;; first = false) {
        ap_jnode *item;
        if (!first)
            AP_TRY(expect_op(p, ','));
        if (ends_tuple(p, until))
            break;
        AP_TRY(with_condition ? parse_condition(p, &item) : parse_or(p, &item));
        link_node(&tail, item);
        if (!is_op(p, ','))
            break;
        is_tuple = true;
    }
    if (!is_tuple && list) {
        *out = list;
        return AP_OK;
    }
    if (!list && !in_brackets)
        return unexpected(p, "an expression");
    tuple->list = list;
    *out = tuple;
    return AP_OK;
}

/* LIST: list.  DICT: list of key, value, key, value … */
static ap_status parse_display(parser *p, ap_jnode **out)
{
    bool is_dict = is_op(p, '{');
    int close = is_dict ? '}' : ']';
    AP_TRY(new_node(p, is_dict ? AP_JN_DICT : AP_JN_LIST, out));
    ap_jnode **tail = &(*out)->list, *item;
    p->at++;
    for (bool first = true; !is_op(p, close); first = false) {
        if (!first) {
            AP_TRY(expect_op(p, ','));
            if (is_op(p, close))
                break;
        }
        AP_TRY(parse_condition(p, &item));
        link_node(&tail, item);
        if (is_dict) {
            AP_TRY(expect_op(p, ':'));
            AP_TRY(parse_condition(p, &item));
            link_node(&tail, item);
        }
    }
    return expect_op(p, close);
}

static ap_status parse_strings(parser *p, ap_jnode **out)
{
    AP_TRY(new_node(p, AP_JN_CONST, out));
    ap_jbuild b = {0};
    if (p->at[1].kind != AP_JT_STRING)
        return set_text(p, *out, p->at++->text);
    while (p->at->kind == AP_JT_STRING) {
        AP_TRY(ap_jbuild_bytes(&p->run, &b, p->at->text.ptr, p->at->text.len, true));
        p->at++;
    }
    return ap_jbuild_done(&p->run, &b, &(*out)->value);
}

static ap_status parse_primary(parser *p, ap_jnode **out)
{
    ap_jtoken *t = p->at;
    if (t->kind == AP_JT_NAME) {
        bool yes = is_name(t, "true") || is_name(t, "True");
        ap_jval value = yes ? ap_jbool(true) : ap_jnone();
        if (is_name(t, "false") || is_name(t, "False"))
            value = ap_jbool(false);
        else if (!yes && !is_name(t, "none") && !is_name(t, "None"))
            return parse_name(p, out);
        AP_TRY(new_const(p, value, out));
        p->at++;
        return AP_OK;
    }
    if (t->kind == AP_JT_STRING)
        return parse_strings(p, out);
    if (t->kind == AP_JT_INT || t->kind == AP_JT_FLOAT) {
        AP_TRY(new_const(p, t->value, out));
        p->at++;
        return AP_OK;
    }
    if (skip_op(p, '(')) {
        AP_TRY(parse_tuple(p, true, NULL, true, out));
        return expect_op(p, ')');
    }
    if (is_op(p, '[') || is_op(p, '{'))
        return parse_display(p, out);
    return unexpected(p, "an expression");
}

/* SLICE: a, b, c, each may be NULL. */
static ap_status parse_index(parser *p, ap_jnode **out)
{
    ap_jnode *parts[3] = {NULL}, *node;
    size_t n = 0;
    AP_TRY(new_node(p, AP_JN_SLICE, &node));
    while (!is_op(p, ']') && !is_op(p, ',')) {
        if (is_op(p, ':')) {
            if (++n > 2)
                return unexpected(p, "']'");
            p->at++;
        } else {
            if (parts[n])
                return unexpected(p, "']'");
            AP_TRY(parse_condition(p, &parts[n]));
        }
    }
    if (n == 0 && !parts[0]) { /* x[]: the empty tuple is the key */
        if (!is_op(p, ']'))
            return unexpected(p, "an index");
        node->type = AP_JN_TUPLE;
        *out = node;
        return AP_OK;
    }
    node->a = parts[0], node->b = parts[1], node->c = parts[2];
    *out = n ? node : parts[0];
    return AP_OK;
}

/* ATTR: a, value.  ITEM: a, b.  CALL: a, list. */
static ap_status parse_postfix_one(parser *p, ap_jnode *object, ap_jnode **out)
{
    ap_jnode *node;
    if (is_op(p, '(')) {
        AP_TRY(new_node(p, AP_JN_CALL, &node));
        AP_TRY(parse_arguments(p, &node->list));
    } else if (skip_op(p, '.')) {
        AP_TRY(new_node(p, p->at->kind == AP_JT_INT ? AP_JN_ITEM : AP_JN_ATTR, &node));
        if (p->at->kind == AP_JT_INT) {
            AP_TRY(parse_primary(p, &node->b));
        } else {
            ap_str name;
            AP_TRY(expect_name(p, &name));
            AP_TRY(set_text(p, node, name));
        }
    } else {
        p->at++;
        AP_TRY(new_node(p, AP_JN_ITEM, &node));
        AP_TRY(parse_index(p, &node->b));
        if (is_op(p, ',')) { /* x[1, 2]: a tuple as key */
            ap_jnode *tuple, **tail;
            AP_TRY(new_node(p, AP_JN_TUPLE, &tuple));
            tail = &tuple->list;
            link_node(&tail, node->b);
            while (skip_op(p, ',')) {
                ap_jnode *item;
                AP_TRY(parse_index(p, &item));
                link_node(&tail, item);
            }
            node->b = tuple;
        }
        AP_TRY(expect_op(p, ']'));
    }
    node->a = object;
    *out = node;
    return AP_OK;
}

static ap_status parse_postfix(parser *p, ap_jnode **node)
{
    while (is_op(p, '.') || is_op(p, '[') || is_op(p, '('))
        AP_TRY(parse_postfix_one(p, *node, node));
    return AP_OK;
}

static ap_status parse_dotted(parser *p, ap_jnode *node)
{
    ap_str name;
    AP_TRY(expect_name(p, &name));
    while (skip_op(p, '.')) {
        ap_str more = {0};
        AP_TRY(expect_name(p, &more));
        name.len = (size_t)(more.ptr + more.len - name.ptr);
    }
    return set_text(p, node, name);
}

/* FILTER: a (NULL: the body of a block), value, filter (NULL: unknown), list. */
static ap_status parse_filter(parser *p, ap_jnode *input, ap_jnode **out)
{
    AP_TRY(new_node(p, AP_JN_FILTER, out));
    AP_TRY(parse_dotted(p, *out));
    (*out)->a = input;
    (*out)->filter = ap_jfilter_find(ap_jbytes((*out)->value));
    return is_op(p, '(') ? parse_arguments(p, &(*out)->list) : AP_OK;
}

/* TEST: a, value, test (NULL: unknown), list; flag NEGATED. */
static ap_status parse_test(parser *p, ap_jnode *input, ap_jnode **out)
{
    AP_TRY(new_node(p, AP_JN_TEST, out));
    if (skip_name(p, "not"))
        (*out)->flags = AP_JF_NEGATED;
    AP_TRY(parse_dotted(p, *out));
    (*out)->a = input;
    (*out)->test = ap_jtest_find(ap_jbytes((*out)->value));
    const ap_jtoken *t = p->at;
    if (is_op(p, '('))
        return parse_arguments(p, &(*out)->list);
    if (is_name(t, "else") || is_name(t, "or") || is_name(t, "and"))
        return AP_OK;
    if (is_name(t, "is"))
        return ap_jfail(&p->run, "tests cannot be chained with is");
    if (t->kind != AP_JT_NAME && t->kind != AP_JT_STRING && t->kind != AP_JT_INT && t->kind != AP_JT_FLOAT && !is_op(p, '[') &&
        !is_op(p, '{'))
        return AP_OK;
    AP_TRY(parse_primary(p, &(*out)->list));
    return parse_postfix(p, &(*out)->list);
}

static ap_status parse_filters(parser *p, ap_jnode **node)
{
    for (;;) {
        if (skip_op(p, '|'))
            AP_TRY(parse_filter(p, *node, node));
        else if (skip_name(p, "is"))
            AP_TRY(parse_test(p, *node, node));
        else if (is_op(p, '('))
            AP_TRY(parse_postfix_one(p, *node, node));
        else
            return AP_OK;
    }
}

/* NEG, POS, NOT: a. */
static ap_status parse_unary_inside(parser *p, bool filters, ap_jnode **out)
{
    if (is_op(p, '-') || is_op(p, '+')) {
        ap_jnode *node;
        AP_TRY(new_node(p, is_op(p, '-') ? AP_JN_NEG : AP_JN_POS, &node));
        p->at++;
        AP_TRY(parse_unary(p, false, &node->a));
        *out = node;
    } else {
        AP_TRY(parse_primary(p, out));
    }
    AP_TRY(parse_postfix(p, out));
    return filters ? parse_filters(p, out) : AP_OK;
}

static ap_status parse_unary(parser *p, bool filters, ap_jnode **out)
{
    AP_TRY(deeper(p));
    AP_TRY(parse_unary_inside(p, filters, out));
    p->depth--;
    return AP_OK;
}

/* Which arithmetic operator stands here, at a level of binding: 0 for + -, 2 for * / // %, 3 for **; -1 for none. */
static int arith_here(const parser *p, int level)
{
    static const struct { int op, level, is; } table[] = {
        {'+', 0, AP_JOP_ADD}, {'-', 0, AP_JOP_SUB}, {'*', 2, AP_JOP_MUL}, {'/', 2, AP_JOP_DIV},
        {AP_JPAIR('/', '/'), 2, AP_JOP_FLOORDIV}, {'%', 2, AP_JOP_MOD}, {AP_JPAIR('*', '*'), 3, AP_JOP_POW}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (is_op(p, table[i].op) && table[i].level == level)
            return table[i].is;
    return -1;
}

/* ARITH: op, a, b.  CONCAT (level 1): list. */
static ap_status parse_arith(parser *p, int level, ap_jnode **out)
{
    if (level == 4)
        return parse_unary(p, true, out);
    AP_TRY(parse_arith(p, level + 1, out));
    if (level == 1 && is_op(p, '~')) {
        ap_jnode *node, **tail;
        AP_TRY(new_node(p, AP_JN_CONCAT, &node));
        tail = &node->list;
        link_node(&tail, *out);
        while (skip_op(p, '~')) {
            ap_jnode *item;
            AP_TRY(parse_arith(p, level + 1, &item));
            link_node(&tail, item);
        }
        *out = node;
    }
    for (int op; (op = arith_here(p, level)) >= 0;) {
        ap_jnode *node;
        AP_TRY(new_node(p, AP_JN_ARITH, &node));
        p->at++;
        node->op = (uint8_t)op;
        node->a = *out;
        AP_TRY(parse_arith(p, level + 1, &node->b));
        *out = node;
    }
    return AP_OK;
}

static int compare_here(parser *p)
{
    static const struct { int op, is; } table[] = {
        {AP_JPAIR('=', '='), AP_JC_EQ}, {AP_JPAIR('!', '='), AP_JC_NE}, {'<', AP_JC_LT}, {AP_JPAIR('<', '='), AP_JC_LE},
        {'>', AP_JC_GT}, {AP_JPAIR('>', '='), AP_JC_GE}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (skip_op(p, table[i].op))
            return table[i].is;
    if (skip_name(p, "in"))
        return AP_JC_IN;
    if (is_name(p->at, "not") && is_name(p->at + 1, "in")) {
        p->at += 2;
        return AP_JC_NOT_IN;
    }
    return -1;
}

/* COMPARE: a, then list of COMPARE nodes with op and b. */
static ap_status parse_compare(parser *p, ap_jnode **out)
{
    AP_TRY(parse_arith(p, 0, out));
    ap_jnode *node = NULL, **tail = NULL;
    for (int op; (op = compare_here(p)) >= 0;) {
        ap_jnode *operand;
        if (!node) {
            AP_TRY(new_node(p, AP_JN_COMPARE, &node));
            node->a = *out;
            tail = &node->list;
            *out = node;
        }
        AP_TRY(new_node(p, AP_JN_COMPARE, &operand));
        operand->op = (uint8_t)op;
        AP_TRY(parse_arith(p, 0, &operand->b));
        link_node(&tail, operand);
    }
    return AP_OK;
}

static ap_status parse_not(parser *p, ap_jnode **out)
{
    if (!is_name(p->at, "not"))
        return parse_compare(p, out);
    ap_jnode *node;
    AP_TRY(deeper(p));
    AP_TRY(new_node(p, AP_JN_NOT, &node));
    p->at++;
    AP_TRY(parse_not(p, &node->a));
    p->depth--;
    *out = node;
    return AP_OK;
}

/* OR, AND: list, all operands of one chain. */
static ap_status parse_logic(parser *p, bool is_or, ap_jnode **out)
{
    AP_TRY(is_or ? parse_logic(p, false, out) : parse_not(p, out));
    const char *word = is_or ? "or" : "and";
    if (!is_name(p->at, word))
        return AP_OK;
    ap_jnode *node, **tail;
    AP_TRY(new_node(p, is_or ? AP_JN_OR : AP_JN_AND, &node));
    tail = &node->list;
    link_node(&tail, *out);
    while (skip_name(p, word)) {
        ap_jnode *item;
        AP_TRY(is_or ? parse_logic(p, false, &item) : parse_not(p, &item));
        link_node(&tail, item);
    }
    *out = node;
    return AP_OK;
}

static ap_status parse_or(parser *p, ap_jnode **out) { return parse_logic(p, true, out); }

/* COND: a (the condition), b, c (NULL: undefined). */
static ap_status parse_condition_inside(parser *p, ap_jnode **out)
{
    AP_TRY(parse_or(p, out));
    while (is_name(p->at, "if")) {
        ap_jnode *node;
        AP_TRY(new_node(p, AP_JN_COND, &node));
        p->at++;
        node->b = *out;
        AP_TRY(parse_or(p, &node->a));
        if (skip_name(p, "else"))
            AP_TRY(parse_condition(p, &node->c));
        *out = node;
    }
    return AP_OK;
}

static ap_status parse_condition(parser *p, ap_jnode **out)
{
    AP_TRY(deeper(p));
    AP_TRY(parse_condition_inside(p, out));
    p->depth--;
    return AP_OK;
}

/* ---- targets ---------------------------------------------------------------------- */

/* NSREF: name, value (the attribute). */
static ap_status parse_target_one(parser *p, ap_jnode **out);

static ap_status parse_target(parser *p, const char *until, ap_jnode **out)
{
    ap_jnode *tuple, **tail;
    AP_TRY(deeper(p));
    AP_TRY(new_node(p, AP_JN_TUPLE, &tuple));
    AP_TRY(parse_target_one(p, out));
    p->depth--;
    if (!is_op(p, ','))
        return AP_OK;
    tail = &tuple->list;
    link_node(&tail, *out);
    while (skip_op(p, ',')) {
        ap_jnode *item;
        if (is_op(p, ')') || is_op(p, '=') || (until && is_name(p->at, until)))
            break;
        AP_TRY(parse_target_one(p, &item));
        link_node(&tail, item);
    }
    *out = tuple;
    return AP_OK;
}

static ap_status parse_target_one(parser *p, ap_jnode **out)
{
    if (skip_op(p, '(')) {
        AP_TRY(parse_target(p, NULL, out));
        return expect_op(p, ')');
    }
    static const char *const constants[] = {"true", "false", "none", "True", "False", "None"};
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (is_name(p->at, constants[i]))
            return unexpected(p, "a variable to assign to");
    AP_TRY(parse_name(p, out));
    if (skip_op(p, '.')) {
        ap_str attribute;
        AP_TRY(expect_name(p, &attribute));
        (*out)->type = AP_JN_NSREF;
        AP_TRY(set_text(p, *out, attribute));
    }
    return AP_OK;
}

/* ---- statements --------------------------------------------------------------------- */

/* `name` is one of the words of the space-separated list. */
static bool is_one_of(ap_str name, const char *words)
{
    for (const char *w = words; *w;) {
        size_t n = strcspn(w, " ");
        if (ap_str_equal(name, (ap_str){w, n}))
            return true;
        w += n + (w[n] == ' ');
    }
    return false;
}

/* Reads {% endNAME %}, whose name parse_body already passed. */
static ap_status parse_block(parser *p, const char *end, ap_jnode **body)
{
    ap_jtoken *unused;
    AP_TRY(expect_block_end(p));
    AP_TRY(parse_body(p, end, body, &unused));
    return expect_block_end(p);
}

/* IF: a, body, c (an elif: another IF), other (else). */
static ap_status parse_if(parser *p, ap_jnode **out)
{
    ap_jtoken *end;
    AP_TRY(new_node(p, AP_JN_IF, out));
    for (ap_jnode *node = *out;;) {
        AP_TRY(parse_tuple(p, false, NULL, false, &node->a));
        AP_TRY(expect_block_end(p));
        AP_TRY(parse_body(p, "elif else endif", &node->body, &end));
        if (is_name(end, "elif")) {
            AP_TRY(new_node(p, AP_JN_IF, &node->c));
            node = node->c;
            continue;
        }
        if (is_name(end, "else"))
            return parse_block(p, "endif", &node->other);
        return expect_block_end(p);
    }
}

/* FOR: a (target), b (iterable), c (condition or NULL), body, other; flag RECURSIVE. */
static ap_status parse_for(parser *p, ap_jnode **out)
{
    ap_jtoken *end;
    AP_TRY(new_node(p, AP_JN_FOR, out));
    ap_jnode *node = *out;
    AP_TRY(parse_target(p, "in", &node->a));
    if (!skip_name(p, "in"))
        return unexpected(p, "'in'");
    AP_TRY(parse_tuple(p, false, "recursive", false, &node->b));
    if (skip_name(p, "if"))
        AP_TRY(parse_condition(p, &node->c));
    if (skip_name(p, "recursive"))
        node->flags = AP_JF_RECURSIVE;
    AP_TRY(expect_block_end(p));
    p->loops++;
    AP_TRY(parse_body(p, "else endfor", &node->body, &end));
    p->loops--;
    return is_name(end, "else") ? parse_block(p, "endfor", &node->other) : expect_block_end(p);
}

/* SET: a, b.  SETBLOCK: a, b (filters around the body's text, or NULL), body. */
static ap_status parse_set(parser *p, ap_jnode **out)
{
    AP_TRY(new_node(p, AP_JN_SET, out));
    AP_TRY(parse_target(p, NULL, &(*out)->a));
    if (skip_op(p, '=')) {
        AP_TRY(parse_tuple(p, true, NULL, false, &(*out)->b));
        return expect_block_end(p);
    }
    (*out)->type = AP_JN_SETBLOCK;
    while (skip_op(p, '|'))
        AP_TRY(parse_filter(p, (*out)->b, &(*out)->b));
    return parse_block(p, "endset", &(*out)->body);
}

/* WITH: list of SET nodes, body. */
static ap_status parse_with(parser *p, ap_jnode **out)
{
    AP_TRY(new_node(p, AP_JN_WITH, out));
    ap_jnode **tail = &(*out)->list;
    while (p->at->kind != AP_JT_BLOCK_END) {
        ap_jnode *set;
        if ((*out)->list)
            AP_TRY(expect_op(p, ','));
        AP_TRY(new_node(p, AP_JN_SET, &set));
        AP_TRY(parse_target_one(p, &set->a));
        AP_TRY(expect_op(p, '='));
        AP_TRY(parse_condition(p, &set->b));
        link_node(&tail, set);
    }
    return parse_block(p, "endwith", &(*out)->body);
}

/* A parameter is a NAME with its default in a. */
static ap_status parse_parameters(parser *p, ap_jnode **list)
{
    AP_TRY(expect_op(p, '('));
    ap_jnode **tail = list;
    bool has_default = false;
    while (!is_op(p, ')')) {
        ap_jnode *name;
        if (*list)
            AP_TRY(expect_op(p, ','));
        AP_TRY(parse_name(p, &name));
        if (skip_op(p, '=')) {
            AP_TRY(parse_condition(p, &name->a));
            has_default = true;
        } else if (has_default) {
            return ap_jfail(&p->run, "a parameter without default follows one with a default");
        }
        link_node(&tail, name);
    }
    return expect_op(p, ')');
}

/* MACRO: name, value (its name), list, body, flags.  CALLBLOCK: a (the call), b (a MACRO). */
static ap_status parse_macro(parser *p, bool is_call, ap_jnode **out)
{
    ap_jnode *macro, *call = NULL;
    uint8_t outer = p->macro_flags;
    unsigned loops = p->loops;
    AP_TRY(new_node(p, AP_JN_MACRO, &macro));
    *out = macro;
    if (is_call) {
        AP_TRY(new_node(p, AP_JN_CALLBLOCK, &call));
        *out = call;
        call->b = macro;
        if (is_op(p, '('))
            AP_TRY(parse_parameters(p, &macro->list));
        AP_TRY(parse_condition(p, &call->a));
        if (call->a->type != AP_JN_CALL)
            return ap_jfail(&p->run, "expected a call after 'call'");
        AP_TRY(set_text(p, macro, AP_STR("caller")));
        outer |= p->macro_flags;
    } else {
        ap_jnode *name;
        AP_TRY(set_text(p, macro, p->at->text));
        AP_TRY(parse_target_one(p, &name));
        macro->name = name->name;
        AP_TRY(parse_parameters(p, &macro->list));
    }
    p->macro_flags = 0;
    p->loops = 0;
    AP_TRY(parse_block(p, is_call ? "endcall" : "endmacro", &macro->body));
    macro->flags = p->macro_flags;
    p->macro_flags |= outer;
    p->loops = loops;
    return AP_OK;
}

/* FILTERBLOCK: b (filters), body.  SCOPE: body. */
static ap_status parse_filter_block(parser *p, ap_jnode **out)
{
    AP_TRY(new_node(p, AP_JN_FILTERBLOCK, out));
    AP_TRY(parse_filter(p, NULL, &(*out)->b));
    while (skip_op(p, '|'))
        AP_TRY(parse_filter(p, (*out)->b, &(*out)->b));
    return parse_block(p, "endfilter", &(*out)->body);
}

static ap_status parse_statement(parser *p, ap_jnode **out)
{
    ap_str tag;
    p->run.line = p->at->line;
    AP_TRY(expect_name(p, &tag));
    if (ap_str_is(tag, "if"))
        return parse_if(p, out);
    if (ap_str_is(tag, "for"))
        return parse_for(p, out);
    if (ap_str_is(tag, "set"))
        return parse_set(p, out);
    if (ap_str_is(tag, "with"))
        return parse_with(p, out);
    if (ap_str_is(tag, "macro") || ap_str_is(tag, "call"))
        return parse_macro(p, ap_str_is(tag, "call"), out);
    if (ap_str_is(tag, "filter"))
        return parse_filter_block(p, out);
    if (ap_str_is(tag, "generation")) {
        AP_TRY(new_node(p, AP_JN_SCOPE, out));
        return parse_block(p, "endgeneration", &(*out)->body);
    }
    if (ap_str_is(tag, "break") || ap_str_is(tag, "continue")) {
        if (p->loops == 0)
            return ap_jfail(&p->run, "'%.*s' outside of a loop", (int)tag.len, tag.ptr);
        AP_TRY(new_node(p, ap_str_is(tag, "break") ? AP_JN_BREAK : AP_JN_CONTINUE, out));
        return expect_block_end(p);
    }
    if (ap_str_is(tag, "print")) {
        /* The printed values follow each other like a concatenation. */
        AP_TRY(new_node(p, AP_JN_PRINT, out));
        AP_TRY(parse_tuple(p, true, NULL, false, &(*out)->a));
        if ((*out)->a->type == AP_JN_TUPLE)
            (*out)->a->type = AP_JN_CONCAT;
        return expect_block_end(p);
    }
    int len = tag.len > 60 ? 60 : (int)tag.len;
    if (is_one_of(tag, "include import from extends block autoescape"))
        return p->run.failed = ap_fail(p->run.err, AP_E_UNSUPPORTED, "line %" PRIu32 ": the tag '%.*s' is not supported in chat templates",
                       p->run.line, len, tag.ptr);
    return ap_jfail(&p->run, "unknown tag '%.*s'", len, tag.ptr);
}

/* TEXT: value.  PRINT: a.  Reads statements up to a block whose tag is one of `ends` (NULL: the template's end), passes
 * that name and gives its token in *end. */
static ap_status parse_body_inside(parser *p, const char *ends, ap_jnode **out, ap_jtoken **end)
{
    ap_jnode **tail = out, *node = NULL;
    *out = NULL;
    for (;; link_node(&tail, node)) {
        switch (p->at->kind) {
        case AP_JT_DATA:
            AP_TRY(new_node(p, AP_JN_TEXT, &node));
            AP_TRY(set_text(p, node, p->at++->text));
            break;
        case AP_JT_PRINT_BEGIN:
            AP_TRY(new_node(p, AP_JN_PRINT, &node));
            p->at++;
            AP_TRY(parse_tuple(p, true, NULL, false, &node->a));
            if (p->at->kind != AP_JT_PRINT_END)
                return unexpected(p, "the end of the print statement");
            p->at++;
            break;
        case AP_JT_BLOCK_BEGIN:
            p->at++;
            if (ends && p->at->kind == AP_JT_NAME && is_one_of(p->at->text, ends)) {
                *end = p->at++;
                return AP_OK;
            }
            AP_TRY(parse_statement(p, &node));
            break;
        default:
            if (p->at->kind == AP_JT_END && !ends)
                return AP_OK;
            return unexpected(p, ends ? ends : "a statement");
        }
    }
}

static ap_status parse_body(parser *p, const char *ends, ap_jnode **out, ap_jtoken **end)
{
    AP_TRY(deeper(p));
    AP_TRY(parse_body_inside(p, ends, out, end));
    p->depth--;
    return AP_OK;
}

static ap_status parse_all(parser *p, ap_jrun *scratch, ap_str source, ap_jnode **body)
{
    ap_jtokens tokens = {0};
    ap_jtoken *unused;
    for (uint32_t i = 0, id; i < AP_JNAME_COUNT; i++)
        AP_TRY(intern(p, ap_str_from(own_names[i]), &id));
    AP_TRY(ap_jlex(&p->run, scratch, source, &tokens));
    p->at = tokens.items;
    return parse_body(p, NULL, body, &unused);
}

ap_status ap_jinja_parse(ap_jprogram *program, ap_str source, ap_error *err)
{
    ap_error ignored;
    *program = (ap_jprogram){0};
    if (source.len > AP_JINJA_SOURCE_MAX)
        return ap_fail(err, AP_E_LIMIT, "the chat template has %zu bytes, the limit is %d", source.len, AP_JINJA_SOURCE_MAX);
    parser p = {.run = {.arena.limit_bytes = AP_JINJA_PROGRAM, .steps_max = AP_JINJA_STEPS, .err = err ? err : &ignored, .what = "the bytes of a parsed template"}};
    ap_jrun scratch = p.run;
    ap_jnode *body = NULL;
    ap_status status = parse_all(&p, &scratch, source, &body);
    ap_arena_deinit(&scratch.arena);
    ap_map_deinit(&p.names);
    if (status != AP_OK) {
        ap_arena_deinit(&p.run.arena);
        return status;
    }
    *program = (ap_jprogram){.arena = p.run.arena, .body = body, .names = p.name_list, .name_count = p.name_count};
    return AP_OK;
}

void ap_jinja_deinit(ap_jprogram *program)
{
    ap_arena_deinit(&program->arena);
    *program = (ap_jprogram){0};
}
