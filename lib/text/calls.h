/* calls.h - a model's answer taken apart: content, reasoning, calls of tools.
 *
 * Families write calls of tools and their thinking in forms of their own; which one a model has is seen in
 * its template (ap_call_format_find, one table).  The parser takes the answer in pieces of any size and gives
 * out parts (aperto.h: ap_answer_piece); it is a machine over bytes, so the parts joined do not depend on the
 * cuts.
 *
 *     ap_call_format_find(&format, template_source, traits, tokenizer);       once per model
 *     ap_calls_create(&calls, &format, names, name_count, is_thinking, err);  per answer
 *     ap_calls_push(calls, text, fn, context, err) …  ap_calls_finish(calls, fn, context, err);
 *
 * Marks.  A mark ("<tool_call>") that is a control token of the vocabulary counts only as this token, never
 * as text that spells it; other marks are looked for in the text.  Control tokens come between the bytes 0xff
 * and 0xfe (stream.h, AP_STREAM_MARKS), which UTF-8 does not have; those that are no mark are left out.
 *
 * Without marks.  Small models forget them.  In every form but harmony, an answer that is nothing but calls as
 * objects of JSON, one after the other or in an array, perhaps between ``` (or ```json, ```tool_call) and ```, is
 * these calls: each has the name of a tool and arguments, and is complete.  Only reasoning and calls with marks may
 * come before, nothing after but white space.  Until the answer ends it is held back, up to
 * AP_CALL_HELD_BYTES_MAX; at the first byte that makes it another text it is given out as content.  Where an object
 * without marks is the model's own form (Llama, JSON) it need only begin the answer, and is given out as it comes.
 *
 * What is a call.  Its name is one of `names` and its form is right up to where the arguments begin; else all
 * of it is content, as written.  From there on the arguments are passed on as the model writes them, whether
 * they are JSON or not, as OpenAI's interface has it; an answer that is cut leaves them cut.  Only where a
 * form has no JSON (Python calls) are they translated, and given out whole.
 *
 * White space next to reasoning and calls is no content and left out.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEXT_CALLS_H
#define AP_TEXT_CALLS_H

#include "text/template.h"
#include "text/tokenizer.h"

typedef enum ap_call_form {
    AP_CALLS_NONE,     /* the template has no calls, or in a form we do not read */
    AP_CALLS_LLAMA,    /* {"name":…,"parameters":…}, perhaps after <|python_tag|>; or [f(a=1)] */
    AP_CALLS_MISTRAL,  /* [TOOL_CALLS][{"name":…,"arguments":…}], or [TOOL_CALLS]name[ARGS]{…} */
    AP_CALLS_HERMES,   /* <tool_call>{"name":…,"arguments":…}</tool_call> */
    AP_CALLS_DEEPSEEK, /* <|tool_calls_begin|> with a name and a JSON text for each, in two forms */
    AP_CALLS_HARMONY,  /* messages in channels, one with the recipient functions.name */
    AP_CALLS_JSON /* an object with "name" and "arguments" or "parameters", or an array of such, and nothing
                     before it */
} ap_call_form;

typedef enum ap_thinking {
    AP_THINKING_NONE,
    AP_THINKING_TAGS /* <think> */,
    AP_THINKING_MISTRAL /* [THINK] */
} ap_thinking;

enum { AP_CALL_MARKS_MAX = 24 };

typedef struct ap_call_format {
    ap_call_form form;
    const char *name; /* of the form; with AP_CALLS_NONE of one that is not read, or NULL: no form, or none that is known */
    bool shows_tools; /* the template writes what tools there are into the prompt */
    ap_thinking thinking;
    bool is_control[AP_CALL_MARKS_MAX]; /* by mark: a control token of the vocabulary */
} ap_call_format;

/* From the template's source and what its probes found.  Without a tokenizer (NULL) every mark is text. */
void ap_call_format_find(ap_call_format *out, ap_str source, const ap_template_traits *traits,
                         const ap_tokenizer *tokenizer);
/* Whether a prompt that ends with this text of the template's own has already opened the reasoning. */
bool ap_call_format_opens(const ap_call_format *format, ap_str prompt_end);

enum {
    AP_CALLS_MAX = 128,               /* per answer; what looks like one more is content */
    AP_CALL_HELD_BYTES_MAX = 1 << 18, /* of what may yet become a call; beyond it is content */
    AP_CALL_HEADER_BYTES_MAX = 1024,  /* of a name, or of a header of harmony */
    AP_CALL_NESTING_MAX = 32          /* of arguments written as Python */
};

typedef struct ap_answer ap_calls;

/* Names are copied; no names: nothing is taken for a call, reasoning is still found.  is_thinking: the prompt
 * opened it. */
ap_status ap_calls_create(ap_calls **out, const ap_call_format *format, const ap_str *names,
                          size_t name_count, bool is_thinking, ap_error *err);
void ap_calls_destroy(ap_calls **calls);
ap_status ap_calls_push(ap_calls *calls, ap_str text, ap_answer_fn *fn, void *context, ap_error *err);
ap_status ap_calls_finish(ap_calls *calls, ap_answer_fn *fn, void *context, ap_error *err);

/* "f(a=1, b=['x'])" to the name and {"a": 1, "b": ["x"]}, added to *arguments.  False if it is none;
 * calls_python.c. */
bool ap_call_from_python(ap_str text, ap_str *name, ap_buf *arguments);

#endif
