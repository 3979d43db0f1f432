/* template.h - chat templates: from messages to the text a model was trained on.
 *
 * A template is a Jinja program that came with a model, so it is a stranger's
 * code.  Our interpreter gives it the values of one request and nothing else,
 * and budgets for everything it could make grow (jinja.h has the numbers).
 *
 *     ap_template_compile(&template, source, err);            once per model
 *     ap_render_input input = {.json = body, .tokens = specials, .token_count = 2, .now = now};
 *     ap_template_render(template, &input, &out, err);        per request, from any thread
 *     ... out.text, out.parts ...
 *     ap_rendered_deinit(&out);
 *
 * Semantics are those of Python's Jinja2 with the options Hugging Face uses:
 * trim_blocks, lstrip_blocks, loop controls, the generation tag, tojson without
 * HTML escapes, an immutable sandbox.  Time is `now`, read as UTC.
 *
 * Parts.  Every byte of the result is known to come from the template (its text,
 * its literals, the special tokens we gave it) or from the input (messages, tools,
 * documents, kwargs); when in doubt it is input.  Control tokens may be
 * matched only inside a template part, so no user can write one.  Ordinary text
 * is one run across parts: parts say where control tokens may be, not where words end.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEXT_TEMPLATE_H
#define AP_TEXT_TEMPLATE_H

#include "base/str.h"

typedef struct ap_template ap_template; /* immutable once compiled: any number of threads may render */

/* What a template can do, found out by rendering small conversations when it is compiled. */
typedef struct ap_template_traits {
    bool system_role;      /* a system message shows in the output */
    bool string_content;   /* content may be a string */
    bool typed_content;    /* content may be a list of parts */
    bool tools;            /* a list of tools shows in the output */
    bool tool_calls;       /* an assistant's calls show in the output, perhaps only with tools */
    bool tool_results;     /* a message of role "tool" shows in the output, the same */
    bool string_arguments; /* arguments must be JSON text, an object does not do */
    bool reasoning;        /* reasoning_content of an assistant message shows in the output */
} ap_template_traits;

/* Parses the source (copied) and probes it.  AP_E_TEMPLATE: line and what is wrong;
 * AP_E_UNSUPPORTED: a feature refused by name (include, import, extends, block, …); AP_E_LIMIT. */
ap_status ap_template_compile(ap_template **out, ap_str source, ap_error *err);
void ap_template_destroy(ap_template **chat_template);
const ap_template_traits *ap_template_traits_of(const ap_template *chat_template);
/* Whether it has a variable of this name. */
bool ap_template_reads(const ap_template *chat_template, ap_str name);
/* Names a request's kwargs may not have: the variables we give, the interpreter's own, and what looks private. */
bool ap_template_owns(ap_str name);

/* The ChatML template, for a model that brings none but whose vocabulary has <|im_start|>. */
ap_str ap_template_chatml(void);

/* A special token of the model under its template name: {"bos_token", "<s>"}. */
typedef struct ap_template_token {
    const char *name;
    ap_str text;
} ap_template_token;

typedef struct ap_render_input {
    /* One JSON object, UTF-8: messages (required), tools, documents, add_generation_prompt,
     * kwargs (variables of the request's chat_template_kwargs).  Another key is refused. */
    ap_str json;
    const ap_template_token *tokens; /* may be NULL */
    size_t token_count;
    int64_t now;   /* Unix time that strftime_now shows */
    bool verbatim; /* every key of the object is a variable as it stands, messages are not prepared:
                    * what Jinja2 would see.  For `aperto render` and tests. */
} ap_render_input;

typedef struct ap_rendered_part {
    size_t offset, length; /* of text; parts follow each other without gaps, neighbours differ in is_template */
    bool is_template;
} ap_rendered_part;

typedef struct ap_rendered {
    char *text; /* NUL-terminated */
    size_t length;
    ap_rendered_part *parts;
    size_t part_count;
} ap_rendered;

/* Prepares the messages and renders.  Preparing: developer becomes system; null content becomes "";
 * text parts are joined for templates that want strings, strings become one part for those that want lists; a system
 * message goes into the first user message where the template knows none; arguments of tool calls become objects (or text).
 * AP_E_ARG: the input is not what it must be, or a kwarg is named like a variable or function of ours.
 * AP_E_TEMPLATE: raise_exception's text, or a run-time error with its line.  AP_E_LIMIT: a budget was used
 * up; AP_E_UNSUPPORTED; AP_E_NOMEM.  On failure *out is empty. */
ap_status ap_template_render(const ap_template *chat_template, const ap_render_input *input, ap_rendered *out,
                             ap_error *err);
void ap_rendered_deinit(ap_rendered *rendered);

#endif
