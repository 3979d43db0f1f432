/* Which form of calls and reasoning a model has: seen in what its template writes.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/calls_marks.h"

#define X(name, text) text,
const char *const ap_call_marks[AP_MARK_COUNT] = {AP_CALL_MARKS(X)};
#undef X
_Static_assert((int)AP_MARK_COUNT <= (int)AP_CALL_MARKS_MAX, "a row of is_control per mark");

/* The first row whose words are all in the template's source holds; forms that share a mark with a later one
 * come first. */
static const struct {
    const char *words[2]; /* the second may be NULL */
    ap_call_form form;
    const char *name;
} rows[] = {
    {{"<seed:", NULL}, AP_CALLS_NONE, "Seed-OSS"},
    {{"<function=", "<parameter="}, AP_CALLS_NONE, "Qwen3-Coder (XML)"},
    {{"<arg_key>", NULL}, AP_CALLS_NONE, "GLM"},
    {{"<invoke", NULL}, AP_CALLS_NONE, "MiniMax (XML)"},
    {{AP_DEEPSEEK_BAR "DSML" AP_DEEPSEEK_BAR, NULL}, AP_CALLS_NONE, "DeepSeek V3.2 (DSML)"},
    {{"tool_calls_section_begin", NULL}, AP_CALLS_NONE, "Kimi K2"},
    {{"functools", NULL}, AP_CALLS_NONE, "Firefunction"},
    {{">>>all", NULL}, AP_CALLS_NONE, "Functionary 3.2"},
    {{"<function=", NULL}, AP_CALLS_NONE, "Functionary 3.1"},
    {{"START_ACTION", NULL}, AP_CALLS_NONE, "Command R7B"},
    {{"Action:\\n```json", NULL}, AP_CALLS_NONE, "Command R+"}, /* Jinja has the line break as \n */
    {{"<|tool_call_start|>", NULL}, AP_CALLS_NONE, "LFM2"},
    {{"<|tool_list_start|>", NULL}, AP_CALLS_NONE, "LFM2"},
    {{"<|tools_prefix|>", NULL}, AP_CALLS_NONE, "Apertus"},
    {{"function call", "<|role_sep|>"}, AP_CALLS_NONE, "GigaChat"},
    {{"<|tool_call|>", NULL}, AP_CALLS_NONE, "Granite 3"},
    {{"<|tool_call>", NULL}, AP_CALLS_NONE, "Gemma 4"},
    {{"<tool_calls>", NULL}, AP_CALLS_NONE, "<tool_calls> with a list"},
    {{"<|call|>", "<|channel|>"}, AP_CALLS_HARMONY, "harmony"},
    {{"[TOOL_CALLS]", NULL}, AP_CALLS_MISTRAL, "Mistral"},
    {{AP_DEEPSEEK_MARK("tool", "calls", "begin"), NULL}, AP_CALLS_DEEPSEEK, "DeepSeek"},
    {{"<tool_call>", NULL}, AP_CALLS_HERMES, "Hermes"},
    {{"<|python_tag|>", NULL}, AP_CALLS_LLAMA, "Llama 3"},
    {{"ipython", "\"parameters\""}, AP_CALLS_LLAMA, "Llama 3"},
    {{"\"name\"", "\"arguments\""}, AP_CALLS_JSON, "JSON"},
    {{"\"name\"", "\"parameters\""}, AP_CALLS_JSON, "JSON"},
};

static bool has(ap_str source, const char *word)
{
    return !word || memmem(source.ptr, source.len, word, strlen(word));
}

static bool is_control(const ap_tokenizer *tokenizer, const char *text)
{
    return tokenizer &&
           ap_tokenizer_is_control(tokenizer, ap_tokenizer_special(tokenizer, ap_str_from(text)));
}

void ap_call_format_find(ap_call_format *out, ap_str source, const ap_template_traits *traits,
                         const ap_tokenizer *tokenizer)
{
    *out = (ap_call_format){.shows_tools = traits->tools, .name = NULL};
    for (unsigned i = 0; i < AP_MARK_COUNT; i++)
        out->is_control[i] = is_control(tokenizer, ap_call_marks[i]);
    size_t row = 0, count = sizeof rows / sizeof rows[0];
    while (row < count && !(has(source, rows[row].words[0]) && has(source, rows[row].words[1])))
        row++;
    if (row < count && (traits->tools || rows[row].form != AP_CALLS_JSON)) {
        out->form = rows[row].form;
        out->name = rows[row].name;
    }
    if (has(source, "[THINK]"))
        out->thinking = AP_THINKING_MISTRAL;
    else if (has(source, "<think>") || has(source, "</think>"))
        out->thinking = AP_THINKING_TAGS;
    if (out->form == AP_CALLS_HARMONY)
        out->thinking = AP_THINKING_NONE;
}

bool ap_call_format_opens(const ap_call_format *format, ap_str end)
{
    if (format->thinking == AP_THINKING_NONE)
        return false;
    const char *mark =
        ap_call_marks[format->thinking == AP_THINKING_TAGS ? AP_MARK_THINK_OPEN : AP_MARK_MISTRAL_THINK_OPEN];
    size_t length = strlen(mark);
    while (end.len && strchr(" \t\r\n", end.ptr[end.len - 1]))
        end.len--;
    return end.len >= length && memcmp(end.ptr + end.len - length, mark, length) == 0;
}
