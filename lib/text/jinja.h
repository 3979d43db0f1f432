/* jinja.h - inside the room: values, programs and the interpreter behind template.h.
 *
 * jinja_value.c makes, reads and compares values, jinja_print.c writes them, jinja_json.c reads them; jinja_lex.c and
 * jinja_parse.c turn source into a tree (jinja_tree.h), jinja_eval.c walks it; jinja_filter.c and jinja_sequence.c
 * hold filters and tests, jinja_method.c methods and functions, jinja_format.c and jinja_arith.c the work below them.
 *
 * Everything of one run lives in one arena with a limit and dies with it; no value is ever freed alone.  Values
 * are immutable but for namespaces.  A run belongs to one thread; a program is read-only.
 *
 * Every string knows which of its bytes are ours (from the template) and which came in.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEXT_JINJA_H
#define AP_TEXT_JINJA_H

#include "base/arena.h"

enum {
    AP_JINJA_SOURCE_MAX = 1 << 20,  /* the largest known template has 17 KB */
    AP_JINJA_PARSE_DEPTH = 150,     /* nested blocks and brackets in the source */
    AP_JINJA_DEPTH = 800,           /* nested evaluation, macro calls included: some 100 macros deep, under 1 MB of stack */
    AP_JINJA_NEST = 100,            /* lists in lists: input, printing, comparing */
    AP_JINJA_STEPS = 1000000,       /* nodes visited and values made: 100 ms at most; a message of a chat takes about 200 */
    AP_JINJA_RANGE = 100000,        /* elements of a range, as in Jinja2's sandbox */
    AP_JINJA_STRING = 8 << 20,      /* bytes of one string and of the output: some two million tokens */
    AP_JINJA_MEMORY = 64 << 20,     /* bytes of all values of one run */
    AP_JINJA_PROBE_STEPS = 50000,   /* of a probe when a template is compiled; real ones need a few hundred */
    AP_JINJA_PROBE_MEMORY = 4 << 20,
    AP_JINJA_PROGRAM = 64 << 20     /* bytes of a parsed template */
};

typedef enum ap_jkind {
    AP_J_UNDEFINED, AP_J_NONE, AP_J_BOOL, AP_J_INT, AP_J_FLOAT, AP_J_STRING, AP_J_LIST, AP_J_DICT,
    AP_J_NAMESPACE, AP_J_MACRO, AP_J_METHOD, AP_J_FUNCTION, AP_J_LOOP, AP_J_COUNTER
} ap_jkind;

typedef struct ap_jstr {
    const char *ptr; /* valid UTF-8 */
    size_t len;
    const uint8_t *marks; /* NULL: the string is `ours` as a whole; else 1 per byte of ours, 0 per byte of input */
    bool ours;
    bool ascii;  /* false: perhaps not */
    bool markup; /* Jinja2's Markup: came from safe or escape */
} ap_jstr;

typedef struct ap_jval {
    uint8_t kind;
    bool ours; /* numbers, booleans: known to come from the template */
    union {
        bool b;
        int64_t i;
        double f;
        const ap_jstr *s;
        struct ap_jlist *list;
        struct ap_jdict *dict; /* also namespaces */
        const struct ap_jundef *undef;
        const struct ap_jmacro *macro;
        const struct ap_jmethod *method;
        const struct ap_jfunction *function;
        struct ap_jloop *loop;
        struct ap_jcounter *counter;
    } u;
} ap_jval;

/* What Python has many types for.  A generator has no length, is always true and can be read once. */
typedef enum ap_jflavor { AP_JL_LIST, AP_JL_TUPLE, AP_JL_KEYS, AP_JL_VALUES, AP_JL_ITEMS, AP_JL_RANGE, AP_JL_GENERATOR } ap_jflavor;

typedef struct ap_jlist {
    ap_jval *items;
    size_t count, room;
    ap_jflavor flavor;
    bool consumed;
    int64_t start, stop, step; /* a range's own numbers */
} ap_jlist;

typedef struct ap_jpair {
    ap_jval key, value;
} ap_jpair;

typedef struct ap_jdict {
    ap_jpair *pairs; /* in order of insertion */
    size_t count, room;
} ap_jdict;

typedef struct ap_jundef {
    const char *type; /* of the object looked into, NULL for a plain name */
    ap_jval name;
    bool unsafe; /* exists in Python, but the sandbox hides it */
    const char *hint; /* the whole message, or NULL */
} ap_jundef;

typedef struct ap_jscope {
    struct ap_jscope *outer;
    struct ap_jbinding *bindings;
    size_t count, room;
} ap_jscope;

typedef struct ap_jbinding {
    uint32_t name;
    ap_jval value;
} ap_jbinding;

typedef struct ap_jmacro {
    const struct ap_jnode *node;
    ap_jscope *scope; /* where it was written */
} ap_jmacro;

typedef struct ap_jmethod {
    ap_jval self;
    int id;
} ap_jmethod;

typedef struct ap_jcounter { /* cycler and joiner */
    ap_jlist *items;
    size_t position;
    bool is_joiner;
} ap_jcounter;

typedef struct ap_jkwarg {
    ap_str name;
    ap_jval value;
} ap_jkwarg;

typedef struct ap_jargs {
    const ap_jval *at;
    size_t count;
    const ap_jkwarg *named;
    size_t named_count;
} ap_jargs;

typedef struct ap_jbuild { /* a string that grows */
    char *ptr;
    uint8_t *marks; /* NULL while all bytes are alike */
    size_t len, room;
    bool ours, not_ascii;
} ap_jbuild;

typedef struct ap_jprogram {
    ap_arena arena;
    const struct ap_jnode *body;
    ap_str *names; /* of variables, by number */
    uint32_t name_count;
} ap_jprogram;

typedef struct ap_jrun {
    ap_arena arena;
    ap_error *err;
    ap_status failed; /* the status of the last failure */
    const char *what; /* what the arena holds, for the message when it is full */
    const ap_jprogram *program;
    ap_jscope *globals;
    ap_jbuild *out;
    uint64_t steps, steps_max; /* used so far, and the budget */
    unsigned depth, nest;
    uint32_t line; /* of what runs now */
    int64_t now;
} ap_jrun;

/* ---- programs -------------------------------------------------------------- */

/* Fills *program; on failure it is empty. */
ap_status ap_jinja_parse(ap_jprogram *program, ap_str source, ap_error *err);
void ap_jinja_deinit(ap_jprogram *program);

/* A run: begin, put variables in, render, read the output, end.  `run` is the caller's storage. */
ap_status ap_jinja_begin(ap_jrun *run, const ap_jprogram *program, int64_t now, ap_error *err);
/* A name the template does not use is passed over. */
ap_status ap_jinja_set(ap_jrun *run, ap_str name, ap_jval value);
ap_status ap_jinja_render(ap_jrun *run, ap_jbuild *out);
void ap_jinja_end(ap_jrun *run);
/* True for the functions every template sees: range, raise_exception, … */
bool ap_jinja_is_function(ap_str name);

/* ---- failures and budgets --------------------------------------------------- */

ap_status ap_jfail(ap_jrun *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
ap_status ap_jfail_limit(ap_jrun *run, const char *what, uint64_t limit);
ap_status ap_jfail_undefined(ap_jrun *run, ap_jval undefined);
/* Counts `n` steps. */
ap_status ap_jstep(ap_jrun *run, uint64_t n);
/* NULL with run->failed set. */
void *ap_jalloc(ap_jrun *run, size_t bytes);

static inline ap_status ap_jfailed(const ap_jrun *run) { return run->failed == AP_OK ? AP_E_BUG : run->failed; }

#define AP_JNEW(run, pointer, count)                                                 \
    do {                                                                             \
        if (!((pointer) = ap_jalloc((run), sizeof *(pointer) * (size_t)(count))))    \
            return ap_jfailed(run);                                                  \
    } while (0)

/* ---- making values ------------------------------------------------------------ */

static inline ap_jval ap_jnone(void) { return (ap_jval){.kind = AP_J_NONE, .ours = true}; }
static inline ap_jval ap_jbool(bool b) { return (ap_jval){.kind = AP_J_BOOL, .ours = true, .u.b = b}; }
static inline ap_jval ap_jint(int64_t i) { return (ap_jval){.kind = AP_J_INT, .ours = true, .u.i = i}; }
static inline ap_jval ap_jfloat(double f) { return (ap_jval){.kind = AP_J_FLOAT, .ours = true, .u.f = f}; }
static inline ap_jval ap_jof_str(const ap_jstr *s) { return (ap_jval){.kind = AP_J_STRING, .u.s = s}; }
static inline ap_jval ap_jof_list(ap_jlist *list) { return (ap_jval){.kind = AP_J_LIST, .u.list = list}; }
static inline ap_jval ap_jof_dict(ap_jdict *dict) { return (ap_jval){.kind = AP_J_DICT, .u.dict = dict}; }

ap_status ap_jundefined(ap_jrun *run, const char *type, ap_jval name, ap_jval *out);
/* The bytes are borrowed and must outlive the run. */
ap_status ap_jstr_new(ap_jrun *run, ap_str bytes, bool ours, ap_jval *out);
ap_status ap_jlist_new(ap_jrun *run, ap_jflavor flavor, size_t room, ap_jlist **out);
ap_status ap_jlist_add(ap_jrun *run, ap_jlist *list, ap_jval value);
ap_status ap_jpair_new(ap_jrun *run, ap_jval a, ap_jval b, ap_jval *out); /* a tuple of two */
ap_status ap_jdict_new(ap_jrun *run, size_t room, ap_jdict **out);
ap_status ap_jdict_set(ap_jrun *run, ap_jdict *dict, ap_jval key, ap_jval value);
ap_status ap_jdict_find(ap_jrun *run, const ap_jdict *dict, ap_jval key, ap_jval **found); /* NULL: absent */
/* By text, without steps or failure. */
ap_jval *ap_jdict_get(const ap_jdict *dict, ap_str key);

ap_status ap_jbuild_bytes(ap_jrun *run, ap_jbuild *b, const char *ptr, size_t len, bool ours);
ap_status ap_jbuild_str(ap_jrun *run, ap_jbuild *b, const ap_jstr *s);
ap_status ap_jbuild_slice(ap_jrun *run, ap_jbuild *b, const ap_jstr *s, size_t begin, size_t end);
/* As print would show it. */
ap_status ap_jbuild_value(ap_jrun *run, ap_jbuild *b, ap_jval v);
ap_status ap_jbuild_repr(ap_jrun *run, ap_jbuild *b, ap_jval v);
ap_status ap_jbuild_done(ap_jrun *run, ap_jbuild *b, ap_jval *out);

typedef struct ap_jjson {
    bool ascii, sort_keys, indented;
    ap_str indent, item_separator, key_separator;
} ap_jjson;
ap_status ap_jbuild_json(ap_jrun *run, ap_jbuild *b, ap_jval v, const ap_jjson *options);

/* ---- looking at values ---------------------------------------------------------- */

bool ap_jis_true(ap_jval v);
static inline bool ap_jis_str(ap_jval v) { return v.kind == AP_J_STRING; }
static inline bool ap_jis_number(ap_jval v) { return v.kind == AP_J_INT || v.kind == AP_J_FLOAT || v.kind == AP_J_BOOL; }
static inline bool ap_jis_integer(ap_jval v) { return v.kind == AP_J_INT || v.kind == AP_J_BOOL; }
static inline int64_t ap_jas_int(ap_jval v) { return v.kind == AP_J_BOOL ? v.u.b : v.u.i; }
double ap_jas_float(ap_jval v);
static inline ap_str ap_jbytes(ap_jval v) { return (ap_str){v.u.s->ptr, v.u.s->len}; }
/* Is a string, with this text. */
static inline bool ap_jis_text(ap_jval v, const char *text) { return ap_jis_str(v) && ap_str_is(ap_jbytes(v), text); }
const char *ap_jtype_name(ap_jval v); /* Python's: "str" */
ap_status ap_jequal(ap_jrun *run, ap_jval a, ap_jval b, bool *equal);
/* Python's <; AP_E_TEMPLATE for what cannot be ordered. */
ap_status ap_jless(ap_jrun *run, ap_jval a, ap_jval b, const char *operator, bool *less);
ap_status ap_jcontains(ap_jrun *run, ap_jval container, ap_jval item, bool *contains);
ap_status ap_jlength(ap_jrun *run, ap_jval v, int64_t *length); /* AP_E_TEMPLATE if it has none */
/* What a for loop would see. */
ap_status ap_jiterate(ap_jrun *run, ap_jval v, ap_jlist **items);
ap_status ap_jto_str(ap_jrun *run, ap_jval v, ap_jval *out); /* Python's str() */
void ap_jfloat_repr(double f, char out[40]);

/* Strings count in code points.  Offsets beyond the end are the end. */
size_t ap_jstr_chars(const ap_jstr *s);
size_t ap_jstr_offset(const ap_jstr *s, size_t chars);
ap_status ap_jstr_slice(ap_jrun *run, const ap_jstr *s, size_t begin, size_t end, ap_jval *out); /* bytes */
bool ap_jis_space(uint32_t code);
uint32_t ap_jcode(const ap_jstr *s, size_t at, size_t *length); /* the code point at a byte offset */
ap_status ap_jstr_strip(ap_jrun *run, const ap_jstr *s, const ap_jstr *chars, bool left, bool right, ap_jval *out);

/* JSON text (valid UTF-8, outliving the run) as values, all of them input.  AP_E_ARG says at which byte it is
 * wrong; refused are lone surrogates and integers beyond 64 bits. */
ap_status ap_jread_json(ap_jrun *run, ap_str text, ap_jval *out);

/* ---- operations ------------------------------------------------------------------ */

typedef enum ap_jop { AP_JOP_ADD, AP_JOP_SUB, AP_JOP_MUL, AP_JOP_DIV, AP_JOP_FLOORDIV, AP_JOP_MOD, AP_JOP_POW } ap_jop;
ap_status ap_jarith(ap_jrun *run, ap_jop op, ap_jval a, ap_jval b, ap_jval *out);
ap_status ap_jget_attr(ap_jrun *run, ap_jval object, ap_jval name, ap_jval *out);
ap_status ap_jget_item(ap_jrun *run, ap_jval object, ap_jval key, ap_jval *out);
/* "a.b.0" as the attribute arguments of filters have it; an integer is an index. */
ap_status ap_jget_path(ap_jrun *run, ap_jval object, ap_jval path, ap_jval *out);
ap_status ap_jslice(ap_jrun *run, ap_jval object, ap_jval start, ap_jval stop, ap_jval step, ap_jval *out);
ap_status ap_jcall(ap_jrun *run, ap_jval callee, const ap_jargs *args, ap_jval *out);

/* The method of that name: false if the value has none; *unsafe if the sandbox hides it. */
bool ap_jmethod_find(ap_jval object, ap_str name, int *id, bool *unsafe);
ap_status ap_jmethod_call(ap_jrun *run, const ap_jmethod *method, const ap_jargs *args, ap_jval *out);

typedef ap_status ap_jfunction_fn(ap_jrun *run, const ap_jargs *args, ap_jval *out);
typedef struct ap_jfunction {
    const char *name;
    ap_jfunction_fn *fn;
} ap_jfunction;
const ap_jfunction *ap_jfunction_find(ap_str name);
ap_status ap_jcounter_attr(ap_jrun *run, ap_jval counter, ap_str name, ap_jval *out);

typedef ap_status ap_jfilter_fn(ap_jrun *run, ap_jval v, const ap_jargs *args, ap_jval *out);
typedef struct ap_jfilter {
    const char *name;
    ap_jfilter_fn *fn; /* NULL: known to Jinja2, refused here */
} ap_jfilter;
const ap_jfilter *ap_jfilter_find(ap_str name);
extern const ap_jfilter ap_jfilters_sequence[]; /* the half in jinja_sequence.c, ends with a NULL name */

typedef ap_status ap_jtest_fn(ap_jrun *run, ap_jval v, const ap_jargs *args, bool *out);
typedef struct ap_jtest {
    const char *name;
    ap_jtest_fn *fn;
} ap_jtest;
const ap_jtest *ap_jtest_find(ap_str name);

/* Sorts arguments into the parameters `names` (space-separated; NULL-kind slots stay AP_J_UNDEFINED with u.undef NULL).
 * The first `required` must be there.  Fails like a Python call. */
ap_status ap_jbind(ap_jrun *run, const char *function, const ap_jargs *args, const char *names, size_t required,
                   ap_jval *slots, size_t slot_count);
static inline bool ap_jgiven(ap_jval slot) { return slot.kind != AP_J_UNDEFINED || slot.u.undef; }

ap_status ap_jformat(ap_jrun *run, const ap_jstr *format, const ap_jargs *args, ap_jval *out);  /* str.format */
ap_status ap_jpercent(ap_jrun *run, const ap_jstr *format, ap_jval args, ap_jval *out);         /* "%s" % x */
ap_status ap_jstrftime(ap_jrun *run, const ap_jstr *format, ap_jval *out);

typedef enum ap_jcase { AP_JCASE_UPPER, AP_JCASE_LOWER, AP_JCASE_TITLE, AP_JCASE_CAPITALIZE, AP_JCASE_SWAP } ap_jcase;
ap_status ap_jstr_case(ap_jrun *run, const ap_jstr *s, ap_jcase how, ap_jval *out);
ap_status ap_jstr_replace(ap_jrun *run, const ap_jstr *s, const ap_jstr *old, const ap_jstr *with, int64_t count, ap_jval *out);
ap_status ap_jstr_lines(ap_jrun *run, const ap_jstr *s, bool keep_ends, ap_jlist **out);
ap_status ap_jstr_escape(ap_jrun *run, const ap_jstr *s, ap_jval *out);
ap_status ap_jstr_pad(ap_jrun *run, const ap_jstr *s, int64_t left, int64_t right, ap_str fill, ap_jval *out);

#endif
