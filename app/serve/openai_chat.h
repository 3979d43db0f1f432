/* openai_chat.h - messages and tools of a chat request, checked and brought into the one form that templates
 * know.
 *
 * Content becomes text (parts are joined by a newline), "developer" becomes "system", which is what OpenAI
 * means by it, and the result of a tool gets the name of the tool whose call it answers, since some templates
 * ask for it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_SERVE_OPENAI_CHAT_H
#define AP_SERVE_OPENAI_CHAT_H

#include "serve/fields.h"

enum {
    AP_OPENAI_MESSAGES_MAX = 16384,
    AP_OPENAI_CALLS_MAX = 128, /* in one message */
    AP_OPENAI_CALL_ID_BYTES_MAX = 256,
    AP_OPENAI_TOOLS_MAX = 128, /* OpenAI's */
    AP_OPENAI_TOOL_NAME_BYTES_MAX = 64
};

/* A new array, or NULL and a refusal. */
json_t *ap_openai_messages_read(const json_t *messages, ap_refusal *refusal);

/* *tools is what the model is offered, borrowed: NULL for none, also by "tool_choice": "none".  False:
 * *refusal. */
bool ap_openai_tools_read(const ap_openai_fields *fields, const json_t **tools, ap_refusal *refusal);
/* Letters, digits, '_', '-' and '.', at most AP_OPENAI_TOOL_NAME_BYTES_MAX: what can stand in every form of
 * calls. */
bool ap_openai_is_tool_name(const json_t *name);

#endif
