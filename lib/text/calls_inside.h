/* calls_inside.h - the state of the machine that takes an answer apart, shared by calls.c (marks, modes,
 * families), calls_object.c (calls as JSON or Python) and calls_out.c (what is given out).
 *
 * A *candidate* is text that looks like a call and has not been announced: it is kept in `raw`, so that it
 * can become content when it turns out to be none.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEXT_CALLS_INSIDE_H
#define AP_TEXT_CALLS_INSIDE_H

#include "base/alloc.h"
#include "text/calls_scan.h"

typedef enum ap_calls_mode {
    CONTENT,
    REASONING,
    WHOLE,       /* an answer that may be calls without their marks, from its first byte on */
    OBJECT,      /* inside {"name":…,"arguments":…} */
    LIST,        /* between the objects of an array */
    PYTHON,      /* inside f(a=1) */
    PYTHON_NEXT, /* after its bracket */
    ARGS_START,  /* before the JSON text of arguments that stand alone */
    ARGS,
    ARGS_END,
    M_START, /* after [TOOL_CALLS] */
    M_NAME,
    M_ID,
    D_NEXT,   /* between DeepSeek's calls */
    D_HEAD,   /* "function", or the name */
    D_NAME,   /* the name, up to the end of its line */
    H_HEADER, /* harmony: up to <|message|> */
    H_BODY    /* text of a message that is no call */
} ap_calls_mode;

/* How far an object is read. */
typedef struct ap_calls_object {
    enum { WANT_KEY, IN_KEY, WANT_COLON, WANT_VALUE, IN_VALUE, WANT_COMMA } state;
    ap_call_key key;
    bool is_escaped, is_streaming, has_arguments;
    ap_call_tracker value;
} ap_calls_object;

struct ap_answer {
    ap_call_format format;
    ap_str *names;
    size_t name_count;
    char *name_bytes;

    ap_answer_fn *fn; /* of the push in hand */
    void *context;
    ap_error *err;
    ap_status status;

    ap_buf out; /* of one kind, not yet given out */
    ap_answer_kind out_kind;

    ap_calls_mode mode;
    bool in_control; /* after 0xff */
    ap_buf control;  /* the name of the control token */
    char held[64];   /* may become a mark */
    size_t held_bytes;
    ap_buf space;     /* white space that is content only if more follows */
    bool has_said;    /* content since the last call or reasoning */
    bool has_content; /* any, besides white space: nothing can stand alone any more */
    bool is_apart;    /* reasoning or a call came before: white space here is no content */
    bool may_close;   /* the mark that closes a call may follow */
    bool is_bare;     /* the candidate has no mark in front */
    bool is_wrapped;  /* a brace is open around the calls */
    bool in_list;     /* the object is in an array */
    bool has_thought; /* in this reasoning */
    bool stands_alone; /* objects are calls without marks */
    bool is_fenced;    /* and stand in a fence, so that backticks after them are no content */
    bool is_headed;   /* harmony: <|start|> came, so what follows is a header */

    ap_calls *probe; /* WHOLE: takes the same bytes and tells whether they are calls */
    enum { FENCE_OPEN, FENCE_NAME, FENCE_OVER } fence;
    size_t fence_bytes; /* of the fence that opens `raw` */

    ap_buf raw;        /* the candidate as written */
    bool is_announced; /* the call in hand was given out */
    uint32_t call_count;
    ap_calls_object object;
    ap_buf key, value, name, id, arguments;
    ap_call_tracker tracker; /* of arguments that stand alone */
    bool in_analysis;        /* harmony: the message in hand */
    bool was_said[2];        /* harmony: a message of content, of reasoning came */
};

/* ---- calls_out.c ------------------------------------------------------------ */

/* The first failure stays; from then on nothing is given out. */
void ap_calls_check(ap_calls *c, ap_status status);
void ap_calls_keep(ap_calls *c, ap_buf *buf, char byte);
void ap_calls_flush(ap_calls *c);
void ap_calls_put(ap_calls *c, ap_answer_kind kind, ap_str text);
void ap_calls_drop_space(ap_calls *c);
/* One byte of content, one of reasoning. */
void ap_calls_say(ap_calls *c, char byte);
void ap_calls_think(ap_calls *c, char byte);
/* Reasoning or a call ends here. */
void ap_calls_leave(ap_calls *c);
void ap_calls_begin_candidate(ap_calls *c, ap_str mark, bool is_bare);
bool ap_calls_is_candidate(const ap_calls *c);
/* What it was taken for it is not: all of it is content. */
void ap_calls_fail(ap_calls *c);
bool ap_calls_is_known(const ap_calls *c, ap_str name);
/* The candidate is a call of this name.  False: no tool is named so, or there were too many; nothing has
 * changed. */
bool ap_calls_announce(ap_calls *c, ap_str name);
void ap_calls_end_call(ap_calls *c, ap_calls_mode next);

/* ---- calls_object.c --------------------------------------------------------- */

void ap_calls_begin_object(ap_calls *c);
void ap_calls_begin_list(ap_calls *c);
void ap_calls_begin_python(ap_calls *c, char byte);
/* One byte in the mode OBJECT, LIST, PYTHON or PYTHON_NEXT. */
void ap_calls_object_byte(ap_calls *c, char byte);
void ap_calls_list_byte(ap_calls *c, char byte);
void ap_calls_python_byte(ap_calls *c, char byte);
void ap_calls_python_next_byte(ap_calls *c, char byte);

/* ---- calls_whole.c ---------------------------------------------------------- */

/* The byte in hand, one of "{[`", begins what may be calls that are the whole answer. */
void ap_calls_begin_whole(ap_calls *c, char byte);
void ap_calls_whole_byte(ap_calls *c, char byte);
/* Whether all calls so far are complete, so that nothing or another one may follow. */
bool ap_calls_whole_is_over(const ap_calls *c);
/* The answer ends here: its calls are given out. */
void ap_calls_end_whole(ap_calls *c);

/* ---- calls.c ---------------------------------------------------------------- */

/* One byte of the answer, through both layers. */
void ap_calls_on_byte(ap_calls *c, char byte);

#endif
