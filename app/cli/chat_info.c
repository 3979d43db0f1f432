/* What the import found out about a chat template, for people and as JSON.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

static bool does(const ap_import_report *r, uint32_t bit) { return (r->chat & bit) != 0; }

void cli_print_chat(const ap_import_report *r, bool is_sentence)
{
    if (!does(r, AP_CHAT_KNOWN))
        return;
    char tools[160];
    const char *form = r->chat_calls;
    if (!does(r, AP_CHAT_TOOLS))
        (void)snprintf(tools, sizeof tools, "refused, the template does not show them");
    else if (!form[0])
        (void)snprintf(tools, sizeof tools, "refused, the form of its calls is not known");
    else if (!does(r, AP_CHAT_CALLS))
        (void)snprintf(tools, sizeof tools, "refused, calls of the form '%s' are not read", form);
    else
        (void)snprintf(tools, sizeof tools, "shown, calls read in the form '%s', those of earlier turns %s", form,
                       does(r, AP_CHAT_RESULTS) ? "shown with their results" : "refused, the template leaves them or their results out");
    const char *system = does(r, AP_CHAT_SYSTEM) ? "shown" : "put into the first user message";
    const char *reasoning = does(r, AP_CHAT_REASONING) ? "told apart from the answer" : "no form of it known";
    const char *bos = does(r, AP_CHAT_BOS_TWICE) ? "written twice by the template"
                      : does(r, AP_CHAT_BOS)     ? "written by the template"
                      : does(r, AP_CHAT_TOKENIZER_BOS)
                          ? "before plain text only, the template does not write it"
                          : "none";
    (void)printf(is_sentence ? "Chats: system messages %s; tools %s; reasoning: %s; BOS: %s.\n"
                             : "  system       %s\n  tools        %s\n  reasoning    %s\n  BOS          %s\n",
                 system, tools, reasoning, bos);
}

json_t *cli_chat_json(const ap_import_report *r)
{
    if (!does(r, AP_CHAT_KNOWN))
        return json_null();
    return json_pack("{s:b, s:b, s:s*, s:b, s:b, s:b, s:b, s:b, s:b}", "system_role", does(r, AP_CHAT_SYSTEM),
                     "tools", does(r, AP_CHAT_TOOLS), "calls", r->chat_calls[0] ? r->chat_calls : NULL,
                     "calls_are_read", does(r, AP_CHAT_CALLS), "tool_results", does(r, AP_CHAT_RESULTS),
                     "reasoning", does(r, AP_CHAT_REASONING), "template_writes_bos", does(r, AP_CHAT_BOS),
                     "tokenizer_adds_bos", does(r, AP_CHAT_TOKENIZER_BOS), "bos_would_be_doubled",
                     does(r, AP_CHAT_BOS_TWICE) || (does(r, AP_CHAT_BOS) && does(r, AP_CHAT_TOKENIZER_BOS)));
}
