/* jinja_tree.h - tokens and the tree of a parsed template, between lexer, parser and evaluator.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEXT_JINJA_TREE_H
#define AP_TEXT_JINJA_TREE_H

#include "text/jinja.h"

typedef enum ap_jtoken_kind {
    AP_JT_DATA, AP_JT_BLOCK_BEGIN, AP_JT_BLOCK_END, AP_JT_PRINT_BEGIN, AP_JT_PRINT_END,
    AP_JT_NAME, AP_JT_STRING, AP_JT_INT, AP_JT_FLOAT, AP_JT_OP, AP_JT_END
} ap_jtoken_kind;

/* Operators of two characters are one number: first * 256 + second. */
#define AP_JPAIR(a, b) ((a) << 8 | (b))

typedef struct ap_jtoken {
    ap_jtoken_kind kind;
    uint32_t line;
    int op;
    ap_str text; /* STRING: unescaped */
    ap_jval value; /* INT, FLOAT */
} ap_jtoken;

typedef struct ap_jtokens {
    ap_jtoken *items; /* the last is AP_JT_END */
    size_t count, room;
} ap_jtokens;

/* Tokens live in `scratch`, text in run->arena. */
ap_status ap_jlex(ap_jrun *run, ap_jrun *scratch, ap_str source, ap_jtokens *tokens);

typedef enum ap_jnode_type {
    /* expressions */
    AP_JN_CONST, AP_JN_NAME, AP_JN_TUPLE, AP_JN_LIST, AP_JN_DICT, AP_JN_COND, AP_JN_OR, AP_JN_AND, AP_JN_NOT, AP_JN_NEG,
    AP_JN_POS, AP_JN_COMPARE, AP_JN_ARITH, AP_JN_CONCAT, AP_JN_ATTR, AP_JN_ITEM, AP_JN_SLICE, AP_JN_CALL, AP_JN_FILTER,
    AP_JN_TEST,
    /* parts of a call */
    AP_JN_NAMED, AP_JN_STAR, AP_JN_STARSTAR,
    /* targets besides NAME and TUPLE */
    AP_JN_NSREF,
    /* statements */
    AP_JN_TEXT, AP_JN_PRINT, AP_JN_IF, AP_JN_FOR, AP_JN_SET, AP_JN_SETBLOCK, AP_JN_WITH, AP_JN_MACRO, AP_JN_CALLBLOCK,
    AP_JN_FILTERBLOCK, AP_JN_SCOPE, AP_JN_BREAK, AP_JN_CONTINUE
} ap_jnode_type;

typedef enum ap_jcompare { AP_JC_EQ, AP_JC_NE, AP_JC_LT, AP_JC_LE, AP_JC_GT, AP_JC_GE, AP_JC_IN, AP_JC_NOT_IN } ap_jcompare;

enum { AP_JF_NEGATED = 1, AP_JF_RECURSIVE = 2, AP_JF_CALLER = 4, AP_JF_VARARGS = 8, AP_JF_KWARGS = 16 };

/* One shape for all; what the fields mean is said where a node is made, in jinja_parse.c. */
typedef struct ap_jnode {
    uint8_t type, op, flags;
    uint32_t line;
    uint32_t name; /* number of a variable */
    struct ap_jnode *a, *b, *c;
    struct ap_jnode *list;        /* items, arguments, parameters; chained by next */
    struct ap_jnode *body, *other; /* statements; chained by next */
    struct ap_jnode *next;
    ap_jval value; /* constant; name of an attribute, filter, test, keyword */
    const ap_jfilter *filter;
    const ap_jtest *test;
} ap_jnode;

/* A for loop that runs. */
typedef struct ap_jloop {
    const ap_jnode *node;
    ap_jscope *outer;
    ap_jlist *source;   /* what is iterated over, read up to `taken` */
    ap_jlist *ready;    /* items that passed the loop's condition; `source` itself if there is none */
    size_t taken;
    size_t index;       /* of the item now in the body, from 0 */
    unsigned depth;     /* recursive calls above this one */
    ap_jval last_change;
    bool has_change;
} ap_jloop;
ap_status ap_jloop_method(ap_jrun *run, ap_jloop *loop, bool is_cycle, const ap_jargs *args, ap_jval *out);

/* Numbers of the names the interpreter itself gives values to. */
enum { AP_JNAME_LOOP, AP_JNAME_CALLER, AP_JNAME_VARARGS, AP_JNAME_KWARGS, AP_JNAME_COUNT };

#endif
