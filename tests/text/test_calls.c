/* Answers taken apart: what each family writes, whole and in pieces of every size.
 *
 * An answer is written here as the model would with control tokens as "\xff<token>\xfe"; its parts as lines "content: …",
 * "reasoning: …", "call name: …", neighbouring deltas joined.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "support.h"
#include "text/calls.h"

#define C(token) "\xff" token "\xfe"
/* DeepSeek's */
#define DS(name) "<\xef\xbd\x9c" name "\xef\xbd\x9c>"
#define GAP "\xe2\x96\x81"
#define DS_CALLS DS("tool" GAP "calls" GAP "begin")
#define DS_CALLS_END DS("tool" GAP "calls" GAP "end")
#define DS_CALL DS("tool" GAP "call" GAP "begin")
#define DS_CALL_END DS("tool" GAP "call" GAP "end")
#define DS_SEP DS("tool" GAP "sep")

typedef struct shape {
    const char *source; /* stands for the template */
    bool has_controls;  /* all marks are control tokens */
} shape;

static const shape hermes = {"<tool_call> <think>", false}, hermes_controls = {"<tool_call> <think>", true};
static const shape llama = {"<|python_tag|>", true}, mistral = {"[TOOL_CALLS] [THINK]", true}, mistral_text = {"[TOOL_CALLS]", false};
static const shape deepseek = {DS_CALLS "</think>", false}, deepseek_controls = {DS_CALLS "</think>", true};
static const shape harmony = {"<|channel|> <|call|>", true}, json = {"\"name\" \"arguments\"", false}, none = {"", false};

typedef struct sample {
    const shape *shape;
    const char *text, *parts;
    bool is_thinking; /* the prompt opened it */
} sample;

#define WEATHER "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}"
#define WEATHER_PARTS "call get_weather: {\"city\": \"Paris\"}\n"

static const sample samples[] = {
    /* Hermes, Qwen */
    {&hermes, "Hello \n", "content: Hello \n\n", false},
    {&hermes, "<tool_call>\n" WEATHER "\n</tool_call>", WEATHER_PARTS, false},
    {&hermes, "Let me look.\n\n<tool_call>\n" WEATHER "\n</tool_call>\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": [2, \"}\"]}}\n</tool_call>\n",
     "content: Let me look.\n" WEATHER_PARTS "call add: {\"a\": 1, \"b\": [2, \"}\"]}\n", false},
    {&hermes, "<think>\nWhich city?\n\nParis.\n</think>\n\n<tool_call>\n" WEATHER "\n</tool_call>",
     "reasoning: Which city?\n\nParis.\n" WEATHER_PARTS, false},
    {&hermes, "Which city?\n</think>\n\nParis it is.", "reasoning: Which city?\ncontent: Paris it is.\n", true},
    {&hermes, "<think>\nagain\n</think>yes", "reasoning: again\ncontent: yes\n", true},
    {&hermes, "<think>\n\n</think>\n\nyes", "content: yes\n", false},
    {&hermes, "never closed <tool_call>", "reasoning: never closed <tool_call>\n", true},
    {&hermes, "A tag <think> in text and </think> too", "content: A tag <think> in text and </think> too\n", false},
    {&hermes, "<tool_call>\n{\"arguments\": {\"city\": \"Oslo\"}, \"name\": \"get_weather\"}\n</tool_call>", "call get_weather: {\"city\": \"Oslo\"}\n", false},
    {&hermes, "<tool_call>{\"name\":\"get_weather\",\"arguments\":\"{\\\"city\\\":\\\"Oslo\\\"}\"}</tool_call>", "call get_weather: {\"city\":\"Oslo\"}\n", false},
    {&hermes, "<tool_call>{\"name\":\"get_weather\"}</tool_call>", "call get_weather: {}\n", false},
    {&hermes, "<tool_call>{\"name\":\"get_weather\",\"arguments\":null}</tool_call>", "call get_weather: {}\n", false},
    {&hermes, "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"<tool_call>\\\"}</tool_call>\"}}</tool_call>",
     "call get_weather: {\"city\": \"<tool_call>\\\"}</tool_call>\"}\n", false},
    {&hermes, "<tool_call>{\"name\": \"get_weather\", \"arguments\": {city: Paris}}</tool_call>", "call get_weather: {city: Paris}\n", false},
    {&hermes, "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Par", "call get_weather: {\"city\": \"Par\n", false},
    {&hermes, "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"a\": 1}</tool_call>ok", "call get_weather: {\"a\": 1}\ncontent: ok\n", false},
    {&hermes, "<tool_call>{\"name\": \"rm_rf\", \"arguments\": {}}</tool_call>", "content: <tool_call>{\"name\": \"rm_rf\", \"arguments\": {}}</tool_call>\n", false},
    {&hermes, "so <tool_call> and nothing", "content: so <tool_call> and nothing\n", false},
    {&hermes, "<tool_call>]", "content: <tool_call>]\n", false},
    {&hermes, "<tool_call>{\"name\": \"get_w", "content: <tool_call>{\"name\": \"get_w\n", false},
    {&hermes, "a <tool_cal", "content: a <tool_cal\n", false},
    /* Without the marks, as small models write it */
    {&hermes, WEATHER, WEATHER_PARTS, false},
    {&hermes_controls, " \n" WEATHER "\n", WEATHER_PARTS, false},
    {&hermes, "<think>\nWhich city?\n</think>\n\n" WEATHER, "reasoning: Which city?\n" WEATHER_PARTS, false},
    {&hermes, "[" WEATHER ", {\"name\": \"add\", \"arguments\": {}}]", WEATHER_PARTS "call add: {}\n", false},
    {&hermes, WEATHER "</tool_call>", WEATHER_PARTS, false},
    {&hermes, "Sure: " WEATHER, "content: Sure: " WEATHER "\n", false},
    {&hermes, "{\"name\": \"Paris\", \"arguments\": {}}", "content: {\"name\": \"Paris\", \"arguments\": {}}\n", false},
    {&hermes, "{\"name\": \"add\", \"age\": 3}", "content: {\"name\": \"add\", \"age\": 3}\n", false},
    {&hermes, "[1, 2]", "content: [1, 2]\n", false},
    {&mistral, "[" WEATHER "]", WEATHER_PARTS, false},
    {&mistral, "[add()]", "content: [add()]\n", false},
    {&hermes, WEATHER "\n" WEATHER, WEATHER_PARTS WEATHER_PARTS, false},
    {&hermes, WEATHER "</tool_call>\n" WEATHER "\n</tool_call>", WEATHER_PARTS WEATHER_PARTS, false},
    {&hermes_controls, WEATHER "\n" C("</tool_call>") "\n", WEATHER_PARTS, false},
    {&deepseek_controls, "Which?" C("</think>") "\n\n" WEATHER, "reasoning: Which?\n" WEATHER_PARTS, true},
    {&hermes, "<tool_call>\n" WEATHER "\n</tool_call>\n" WEATHER, WEATHER_PARTS WEATHER_PARTS, false},
    {&hermes, "{\"name\": \"get_weather\", \"arguments\": \"{\\\"city\\\": \\\"Paris\\\"}\"}", WEATHER_PARTS, false},
    /* in a fence */
    {&hermes, "```json\n" WEATHER "\n```\n", WEATHER_PARTS, false},
    {&hermes, "```\n" WEATHER "```", WEATHER_PARTS, false},
    {&hermes, "```tool_call\n" WEATHER "\n" WEATHER "\n```", WEATHER_PARTS WEATHER_PARTS, false},
    {&hermes, "<think>\nWhich?\n</think>\n\n```json\n[" WEATHER "]\n```", "reasoning: Which?\n" WEATHER_PARTS, false},
    {&hermes, "```json\n" WEATHER, WEATHER_PARTS, false},
    {&llama, "```json\n{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}}\n```", WEATHER_PARTS, false},
    {&mistral, "```json\n[" WEATHER "]\n```", WEATHER_PARTS, false},
    {&json, "```json\n{\"tool_calls\": [" WEATHER "]}\n```", WEATHER_PARTS, false},
    {&deepseek, "```json\n" WEATHER "\n```", WEATHER_PARTS, false},
    {&hermes, "```python\n" WEATHER "\n```", "content: ```python\n" WEATHER "\n```\n", false},
    {&hermes, "```js on\n" WEATHER "\n```", "content: ```js on\n" WEATHER "\n```\n", false},
    {&hermes, "```js\n" WEATHER "\n```", "content: ```js\n" WEATHER "\n```\n", false},
    {&hermes, "``json\n" WEATHER "\n```", "content: ``json\n" WEATHER "\n```\n", false},
    {&hermes, "```json\n{\"name\": \"rm\", \"arguments\": {}}\n```\n", "content: ```json\n{\"name\": \"rm\", \"arguments\": {}}\n```\n\n", false},
    {&none, "```json\n" WEATHER "\n```", "content: ```json\n" WEATHER "\n```\n", false},
    /* an example and not the whole answer: text, as written */
    {&hermes, WEATHER "\n\nThis is how.", "content: " WEATHER "\n\nThis is how.\n", false},
    {&hermes, "```json\n" WEATHER "\n```\nThis is how.", "content: ```json\n" WEATHER "\n```\nThis is how.\n", false},
    {&hermes, WEATHER ", {\"name\": \"rm\", \"arguments\": {}}", "content: " WEATHER ", {\"name\": \"rm\", \"arguments\": {}}\n", false},
    {&hermes, WEATHER "</tool_call></tool_call>", "content: " WEATHER "</tool_call></tool_call>\n", false},
    {&hermes, WEATHER "</tool_ca", "content: " WEATHER "</tool_ca\n", false},
    {&hermes, WEATHER "\n<tool_call>" WEATHER "</tool_call>", "content: " WEATHER "\n" WEATHER_PARTS, false},
    {&hermes_controls, WEATHER "\n" C("<tool_call>") WEATHER C("</tool_call>"), "content: " WEATHER "\n" WEATHER_PARTS, false},
    {&hermes_controls, "{\"name\": " C("<tool_call>") WEATHER C("</tool_call>"), "content: {\"name\":\n" WEATHER_PARTS, false},
    /* cut off by a limit of tokens */
    {&hermes, "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Par", "content: {\"name\": \"get_weather\", \"arguments\": {\"city\": \"Par\n", false},
    {&hermes, "[" WEATHER ",", "content: [" WEATHER ",\n", false},
    {&hermes, "``", "content: ``\n", false},
    {&hermes, "```json\n", "content: ```json\n\n", false},
    {&hermes_controls, "<tool_call>" WEATHER "</tool_call>", "content: <tool_call>" WEATHER "</tool_call>\n", false},
    {&hermes_controls, "thinking" C("<tool_call>") "\n" WEATHER "\n" C("</tool_call>"), "reasoning: thinking\n" WEATHER_PARTS, true},
    {&hermes_controls, C("<tool_call>") "{\"name\":\"add\",\"arguments\":{\"a\":\"" C("</tool_call>") "after", "call add: {\"a\":\"\ncontent: after\n", false},
    /* Llama 3 */
    {&llama, "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}}", WEATHER_PARTS, false},
    {&llama, C("<|python_tag|>") "{\"type\": \"function\", \"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}}", WEATHER_PARTS, false},
    {&llama, "{\"name\": \"add\", \"parameters\": {\"a\": 1}}; {\"name\": \"add\", \"parameters\": {\"a\": 2}}", "call add: {\"a\": 1}\ncall add: {\"a\": 2}\n", false},
    {&llama, "{\"name\": \"Bob\", \"age\": 3}", "content: {\"name\": \"Bob\", \"age\": 3}\n", false},
    {&llama, "{\"name\": \"add\"}", "content: {\"name\": \"add\"}\n", false},
    {&llama, "Here: {\"name\": \"add\", \"parameters\": {}}", "content: Here: {\"name\": \"add\", \"parameters\": {}}\n", false},
    {&llama, C("<|python_tag|>") "brave_search.call(query=\"x\")", "content: brave_search.call(query=\"x\")\n", false},
    {&llama, "<|python_tag|>{\"name\": \"add\", \"parameters\": {}}", "content: <|python_tag|>{\"name\": \"add\", \"parameters\": {}}\n", false},
    {&llama, "[get_weather(city='Paris'), add(a=1, b=[2.5, None, True], c={'k': \"v\\n\"})]",
     WEATHER_PARTS "call add: {\"a\": 1, \"b\": [2.5, null, true], \"c\": {\"k\": \"v\\u000a\"}}\n", false},
    {&llama, "[add()]", "call add: {}\n", false},
    {&llama, "[1, 2]", "content: [1, 2]\n", false},
    {&llama, "[see(that)]", "content: [see(that)]\n", false},
    {&llama, "[add(a=b)] no", "content: [add(a=b)] no\n", false},
    /* Mistral */
    {&mistral, C("[TOOL_CALLS]") "[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}, {\"name\": \"add\", \"arguments\": {}, \"id\": \"abcdefghi\"}]",
     WEATHER_PARTS "call add: {}\n", false},
    {&mistral, C("[TOOL_CALLS]") " [{\"id\": \"abcdefghi\", \"name\": \"add\", \"arguments\": {\"a\": 1}}]", "call add abcdefghi: {\"a\": 1}\n", false},
    {&mistral, "Yes." C("[TOOL_CALLS]") "get_weather" C("[ARGS]") "{\"city\": \"Paris\"}" C("[TOOL_CALLS]") "add" C("[CALL_ID]") "123456789" C("[ARGS]") "{\"a\": 1}",
     "content: Yes.\n" WEATHER_PARTS "call add 123456789: {\"a\": 1}\n", false},
    {&mistral, C("[TOOL_CALLS]") "get_weather{\"city\": \"Paris\"}", WEATHER_PARTS, false},
    {&mistral, C("[THINK]") "Which city? " C("[/THINK]") "Paris.", "reasoning: Which city?\ncontent: Paris.\n", false},
    {&mistral, C("[TOOL_CALLS]") "nonsense", "content: nonsense\n", false},
    {&mistral, C("[TOOL_CALLS]") "[{\"name\": \"rm\", \"arguments\": {}}]", "content: [{\"name\": \"rm\", \"arguments\": {}}]\n", false},
    {&mistral, "[TOOL_CALLS]add[ARGS]{}", "content: [TOOL_CALLS]add[ARGS]{}\n", false},
    {&mistral, C("[TOOL_CALLS]") "add" C("[ARGS]") "a=1 ", "call add: a=1\n", false},
    {&mistral_text, "[TOOL_CALLS]add[ARGS]{\"a\": \"[TOOL_CALLS]\"}[TOOL_CALLS]add[ARGS]{}", "call add: {\"a\": \"[TOOL_CALLS]\"}\ncall add: {}\n", false},
    {&mistral_text, "[TOOL_CALLS][TOOL]", "content: [TOOL_CALLS][TOOL]\n", false},
    /* DeepSeek */
    {&deepseek, DS_CALLS DS_CALL "function" DS_SEP "get_weather\n```json\n{\"city\": \"Paris\"}\n```" DS_CALL_END "\n" DS_CALL "function" DS_SEP
     "add\n```json\n{}\n```" DS_CALL_END DS_CALLS_END, WEATHER_PARTS "call add: {}\n", false},
    {&deepseek, "Thinking.</think>I look." DS_CALLS DS_CALL "get_weather" DS_SEP "{\"city\": \"Paris\"}" DS_CALL_END DS_CALLS_END,
     "reasoning: Thinking.\ncontent: I look.\n" WEATHER_PARTS, true},
    {&deepseek, DS_CALLS DS_CALL "rm" DS_SEP "{}" DS_CALL_END DS_CALLS_END, "content: " DS_CALLS DS_CALL "rm" DS_SEP "{}" DS_CALL_END DS_CALLS_END "\n", false},
    {&deepseek, DS_CALLS "text", "content: " DS_CALLS "text\n", false},
    {&deepseek_controls, "<think>x" C("</think>") C(DS_CALLS) C(DS_CALL) "add" C(DS_SEP) "{\"a\": 1}" C(DS_CALL_END) C(DS_CALLS_END), "reasoning: <think>x\ncall add: {\"a\": 1}\n", true},
    {&deepseek_controls, DS_CALLS DS_CALL "add" DS_SEP "{}" DS_CALL_END DS_CALLS_END, "content: " DS_CALLS DS_CALL "add" DS_SEP "{}" DS_CALL_END DS_CALLS_END "\n", false},
    /* gpt-oss */
    {&harmony, C("<|channel|>") "analysis" C("<|message|>") "Which city?" C("<|end|>") C("<|start|>") "assistant" C("<|channel|>") "final" C("<|message|>") "Paris.",
     "reasoning: Which city?\ncontent: Paris.\n", false},
    {&harmony, C("<|channel|>") "analysis" C("<|message|>") "One." C("<|end|>") C("<|start|>") "assistant" C("<|channel|>") "analysis" C("<|message|>") "Two."
     C("<|end|>") C("<|start|>") "assistant" C("<|channel|>") "commentary to=functions.get_weather " C("<|constrain|>") "json" C("<|message|>") "{\"city\": \"Paris\"}",
     "reasoning: One.\nTwo.\n" WEATHER_PARTS, false},
    {&harmony, C("<|channel|>") "commentary" C("<|message|>") "I look." C("<|end|>") C("<|start|>") "assistant to=functions.add" C("<|channel|>") "commentary json"
     C("<|message|>") "{\"a\": 1}" C("<|call|>"), "content: I look.\ncall add: {\"a\": 1}\n", false},
    {&harmony, C("<|channel|>") "commentary to=functions.rm" C("<|message|>") "{}", "content: {}\n", false},
    {&harmony, C("<|channel|>") "commentary to=functions.add" C("<|message|>") "{\"a\": 1}" WEATHER,
     "call add: {\"a\": 1}\ncontent: " WEATHER "\n", false},
    {&harmony, "Hello there.", "content: Hello there.\n", false},
    {&harmony, "Hello" C("<|end|>") C("<|start|>") "assistant" C("<|channel|>") "final" C("<|message|>") "you", "content: Helloyou\n", false},
    {&harmony, C("<|channel|>") "final" C("<|message|>") "<|channel|>analysis<|message|>", "content: <|channel|>analysis<|message|>\n", false},
    {&harmony, C("<|channel|>") "analysis" C("<|message|>") "x" C("<|end|>") C("<|start|>") "assist", "reasoning: x\n", false},
    /* JSON */
    {&json, "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}", WEATHER_PARTS, false},
    {&json, " [" WEATHER ", {\"name\": \"add\", \"parameters\": {}}]", WEATHER_PARTS "call add: {}\n", false},
    {&json, "{\"tool_calls\": [" WEATHER "]}", WEATHER_PARTS, false},
    {&json, "{\"tool_call\": " WEATHER "}", WEATHER_PARTS, false},
    {&json, "{\"tool_calls\": [{\"name\": \"rm\", \"arguments\": {}}]}", "content: {\"tool_calls\": [{\"name\": \"rm\", \"arguments\": {}}]}\n", false},
    {&json, "{\"response\": \"no\"}", "content: {\"response\": \"no\"}\n", false},
    /* no form: nothing is touched but control tokens */
    {&none, " <tool_call>" WEATHER "</tool_call> \n", "content:  <tool_call>" WEATHER "</tool_call> \n\n", false},
    {&none, "a" C("<|x|>") "b", "content: ab\n", false},
};

static ap_call_format format_of(const shape *s)
{
    ap_call_format format;
    ap_template_traits traits = {.tools = true};
    ap_call_format_find(&format, ap_str_from(s->source), &traits, NULL);
    for (size_t i = 0; i < AP_CALL_MARKS_MAX; i++)
        format.is_control[i] = s->has_controls;
    return format;
}

typedef struct listener {
    ap_buf out;
    int kind; /* -1: none yet */
    uint32_t calls;
    unsigned pieces;
} listener;

static ap_status listen(void *context, const ap_answer_piece *piece, ap_error *err)
{
    listener *l = context;
    static const char *const names[] = {"content: ", "reasoning: "};
    l->pieces++;
    if (piece->kind == AP_ANSWER_CALL) {
        assert_int_equal(piece->call, l->calls++);
        AP_TRY(ap_buf_printf(&l->out, err, "%scall %.*s%s%.*s: ", l->kind >= 0 ? "\n" : "", (int)piece->length, piece->text,
                             piece->id_length ? " " : "", (int)piece->id_length, piece->id));
    } else if (piece->kind == AP_ANSWER_ARGUMENTS) {
        assert_int_equal(piece->call, l->calls - 1);
        assert_true(l->kind == AP_ANSWER_CALL || l->kind == AP_ANSWER_ARGUMENTS);
    } else if (l->kind != (int)piece->kind) {
        AP_TRY(ap_buf_printf(&l->out, err, "%s%s", l->kind >= 0 ? "\n" : "", names[piece->kind]));
    }
    l->kind = (int)piece->kind;
    return piece->kind == AP_ANSWER_CALL ? AP_OK : ap_buf_add(&l->out, piece->text, piece->length, err);
}

/* In pieces that end at `cuts`, or of one byte each. */
static void parse(const ap_call_format *format, bool is_thinking, ap_str text, const size_t *cuts, size_t cut_count, bool by_byte, listener *l)
{
    const ap_str names[] = {AP_STR("get_weather"), AP_STR("add")};
    ap_calls *calls = NULL;
    size_t at = 0;
    *l = (listener){.kind = -1};
    assert_ok(ap_calls_create(&calls, format, names, 2, is_thinking, err));
    for (size_t i = 0; i < (by_byte ? text.len : cut_count); i++) {
        size_t end = by_byte ? i + 1 : cuts[i];
        assert_ok(ap_calls_push(calls, (ap_str){text.ptr + at, end - at}, listen, l, err));
        at = end;
    }
    assert_ok(ap_calls_push(calls, (ap_str){text.ptr + at, text.len - at}, listen, l, err));
    assert_ok(ap_calls_finish(calls, listen, l, err));
    ap_calls_destroy(&calls);
    assert_null(calls);
    if (l->kind >= 0)
        assert_ok(ap_buf_add_char(&l->out, '\n', err));
}

static void families_are_taken_apart(void **state)
{
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        const sample *s = &samples[i];
        ap_call_format format = format_of(s->shape);
        listener l;
        parse(&format, s->is_thinking, ap_str_from(s->text), NULL, 0, false, &l);
        if (!ap_str_is(ap_buf_str(&l.out), s->parts))
            fail_msg("%s\ngave\n%s\nnot\n%s", s->text, l.out.ptr ? l.out.ptr : "", s->parts);
        ap_buf_deinit(&l.out);
    }
}

static void cuts_change_nothing(void **state)
{
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        const sample *s = &samples[i];
        ap_call_format format = format_of(s->shape);
        ap_str text = ap_str_from(s->text);
        for (size_t one = 0; one <= text.len + 1; one++) {
            size_t cuts[2] = {one, one + (text.len - one) / 2};
            listener l;
            parse(&format, s->is_thinking, text, cuts, one <= text.len ? 2 : 0, one > text.len, &l);
            if (!ap_str_is(ap_buf_str(&l.out), s->parts))
                fail_msg("%s\ncut at %zu gave\n%s\nnot\n%s", s->text, one, l.out.ptr ? l.out.ptr : "", s->parts);
            ap_buf_deinit(&l.out);
        }
    }
}

/* Not only at the end: what is certain comes at once. */
static void text_and_arguments_stream(void **state)
{
    static const char text[] = "Let me see<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Par";
    const ap_str names[] = {AP_STR("get_weather")};
    ap_call_format format = format_of(&hermes);
    ap_calls *calls = NULL;
    listener l = {.kind = -1};
    assert_ok(ap_calls_create(&calls, &format, names, 1, false, err));
    assert_ok(ap_calls_push(calls, AP_STR("Let me see"), listen, &l, err));
    assert_true(ap_str_is(ap_buf_str(&l.out), "content: Let me see"));
    assert_ok(ap_calls_push(calls, ap_str_from(text + 10), listen, &l, err));
    assert_true(ap_str_is(ap_buf_str(&l.out), "content: Let me see\ncall get_weather: {\"city\": \"Par"));
    assert_int_equal(l.pieces, 3);
    ap_buf_deinit(&l.out);
    ap_calls_destroy(&calls);
}

/* What may yet be a call without marks waits, and no byte longer. */
static void text_that_can_be_no_call_is_not_held_back(void **state)
{
    static const struct {
        const char *held, *decides;
    } cases[] = {
        {"{\"name\": \"Paris\", \"arguments\": ", "{"},
        {"{\"answer\": 42", "}"},
        {"[", "1"},
        {"``", "x"},
        {"```js", "."},
        {"```json\n", "x"},
        {WEATHER "\n\n", "S"},
        {"```json\n" WEATHER "\n```\n\n", "S"},
    };
    const ap_str names[] = {AP_STR("get_weather")};
    ap_call_format format = format_of(&hermes);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ap_calls *calls = NULL;
        listener l = {.kind = -1};
        char all[256];
        assert_ok(ap_calls_create(&calls, &format, names, 1, false, err));
        assert_ok(ap_calls_push(calls, ap_str_from(cases[i].held), listen, &l, err));
        assert_int_equal(l.pieces, 0);
        assert_ok(ap_calls_push(calls, ap_str_from(cases[i].decides), listen, &l, err));
        (void)snprintf(all, sizeof all, "content: %s%s", cases[i].held, cases[i].decides);
        assert_true(ap_str_is(ap_buf_str(&l.out), all));
        ap_buf_deinit(&l.out);
        ap_calls_destroy(&calls);
    }
    /* Nor more of it than the limit. */
    ap_calls *calls = NULL;
    ap_buf text = {0};
    listener l = {.kind = -1};
    assert_ok(ap_buf_printf(&text, err, "{\"other\": \""));
    while (text.len < AP_CALL_HELD_BYTES_MAX)
        assert_ok(ap_buf_add_char(&text, 'x', err));
    assert_ok(ap_calls_create(&calls, &format, names, 1, false, err));
    assert_ok(ap_calls_push(calls, ap_buf_str(&text), listen, &l, err));
    assert_int_equal(l.pieces, 0);
    assert_ok(ap_calls_push(calls, AP_STR("x"), listen, &l, err));
    assert_int_equal(l.out.len, strlen("content: ") + AP_CALL_HELD_BYTES_MAX + 1);
    ap_calls_destroy(&calls);
    ap_buf_deinit(&l.out);
    ap_buf_deinit(&text);
}

static void beyond_the_limits_it_is_content(void **state)
{
    const ap_str names[] = {AP_STR("f")};
    ap_call_format format = format_of(&hermes);
    ap_buf text = {0};
    listener l = {.kind = -1};
    ap_calls *calls = NULL;
    for (int i = 0; i < AP_CALLS_MAX + 1; i++)
        assert_ok(ap_buf_printf(&text, err, "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>"));
    assert_ok(ap_buf_printf(&text, err, "<tool_call>{\"other\":\""));
    for (int i = 0; i < AP_CALL_HELD_BYTES_MAX; i++)
        assert_ok(ap_buf_add_char(&text, 'x', err));
    assert_ok(ap_calls_create(&calls, &format, names, 1, false, err));
    assert_ok(ap_calls_push(calls, ap_buf_str(&text), listen, &l, err));
    assert_int_equal(l.calls, AP_CALLS_MAX);
    assert_non_null(strstr(l.out.ptr, "content: <tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call><tool_call>{\"other\":\"xxx"));
    ap_calls_destroy(&calls);
    ap_buf_deinit(&l.out);
    ap_buf_deinit(&text);
}

static ap_status parse_all(void *context)
{
    const ap_str names[] = {AP_STR("get_weather"), AP_STR("add")};
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i += 3) {
        ap_call_format format = format_of(samples[i].shape);
        ap_calls *calls = NULL;
        listener l = {.kind = -1};
        ap_error err = {0};
        ap_status status = ap_calls_create(&calls, &format, names, 2, samples[i].is_thinking, &err);
        if (status == AP_OK)
            status = ap_calls_push(calls, ap_str_from(samples[i].text), listen, &l, &err);
        if (status == AP_OK)
            status = ap_calls_finish(calls, listen, &l, &err);
        ap_calls_destroy(&calls);
        ap_buf_deinit(&l.out);
        AP_TRY(status);
    }
    return AP_OK;
}

static void memory_may_end_anywhere(void **state) { ap_test_each_oom(parse_all, NULL); }

/* ---- Which form a template has ------------------------------------------------- */

static ap_call_format format_of_file(const char *path, ap_template_traits *traits)
{
    ap_buf source = {0};
    ap_template *t = NULL;
    ap_call_format format;
    assert_ok(ap_file_read(path, 1 << 20, &source, err));
    assert_ok(ap_template_compile(&t, ap_buf_str(&source), err));
    *traits = *ap_template_traits_of(t);
    ap_call_format_find(&format, ap_buf_str(&source), traits, NULL);
    ap_template_destroy(&t);
    ap_buf_deinit(&source);
    return format;
}

static void forms_are_seen_in_templates(void **state)
{
    static const struct {
        const char *file, *name;
        ap_call_form form;
        ap_thinking thinking;
    } files[] = {
        {"llama_cpp/meta-llama-Llama-3.1-8B-Instruct.jinja", "Llama 3", AP_CALLS_LLAMA, AP_THINKING_NONE},
        {"llama_cpp/meta-llama-Llama-3.2-3B-Instruct.jinja", "Llama 3", AP_CALLS_LLAMA, AP_THINKING_NONE},
        {"llama_cpp/meta-llama-Llama-3.3-70B-Instruct.jinja", "Llama 3", AP_CALLS_LLAMA, AP_THINKING_NONE},
        {"llama_cpp/mistralai-Mistral-Nemo-Instruct-2407.jinja", "Mistral", AP_CALLS_MISTRAL, AP_THINKING_NONE},
        {"llama_cpp/Mistral-Small-3.2-24B-Instruct-2506.jinja", "Mistral", AP_CALLS_MISTRAL, AP_THINKING_NONE},
        {"llama_cpp/mistralai-Ministral-3-14B-Reasoning-2512.jinja", "Mistral", AP_CALLS_MISTRAL, AP_THINKING_MISTRAL},
        {"mistral_common/v11_think.jinja", "Mistral", AP_CALLS_MISTRAL, AP_THINKING_TAGS},
        {"llama_cpp/NousResearch-Hermes-3-Llama-3.1-8B-tool_use.jinja", "Hermes", AP_CALLS_HERMES, AP_THINKING_NONE},
        {"llama_cpp/Qwen-Qwen2.5-7B-Instruct.jinja", "Hermes", AP_CALLS_HERMES, AP_THINKING_NONE},
        {"axolotl/qwen3.jinja", "Hermes", AP_CALLS_HERMES, AP_THINKING_TAGS},
        {"llama_cpp/deepseek-ai-DeepSeek-V3.1.jinja", "DeepSeek", AP_CALLS_DEEPSEEK, AP_THINKING_TAGS},
        {"llama_cpp/llama-cpp-deepseek-r1.jinja", "DeepSeek", AP_CALLS_DEEPSEEK, AP_THINKING_TAGS},
        {"llama_cpp/openai-gpt-oss-120b.jinja", "harmony", AP_CALLS_HARMONY, AP_THINKING_NONE},
        {"llama_cpp/Qwen3-Coder.jinja", "Qwen3-Coder (XML)", AP_CALLS_NONE, AP_THINKING_NONE},
        {"llama_cpp/GLM-4.7-Flash.jinja", "GLM", AP_CALLS_NONE, AP_THINKING_TAGS},
        {"llama_cpp/moonshotai-Kimi-K2.jinja", "Kimi K2", AP_CALLS_NONE, AP_THINKING_NONE},
        {"llama_cpp/CohereForAI-c4ai-command-r7b-12-2024-tool_use.jinja", "Command R7B", AP_CALLS_NONE, AP_THINKING_NONE},
        {"llama_cpp/CohereForAI-c4ai-command-r-plus-tool_use.jinja", "Command R+", AP_CALLS_NONE, AP_THINKING_NONE},
        {"llama_cpp/GigaChat3-10B-A1.8B.jinja", "GigaChat", AP_CALLS_NONE, AP_THINKING_NONE},
        {"llama_cpp/GigaChat3.1-10B-A1.8B.jinja", "GigaChat", AP_CALLS_NONE, AP_THINKING_NONE},
        {"llama_cpp/tencent-Hy3.jinja", NULL, AP_CALLS_NONE, AP_THINKING_NONE},
        {"llama_cpp/google-gemma-2-2b-it.jinja", NULL, AP_CALLS_NONE, AP_THINKING_NONE},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[128];
        ap_template_traits traits;
        (void)snprintf(path, sizeof path, "chat_templates/%s", files[i].file);
        ap_call_format format = format_of_file(ap_test_data(path), &traits);
        if (format.form != files[i].form || format.thinking != files[i].thinking ||
            strcmp(format.name ? format.name : "-", files[i].name ? files[i].name : "-") != 0)
            fail_msg("%s: form %d '%s', thinking %d", path, (int)format.form, format.name ? format.name : "-", (int)format.thinking);
    }
}

static void a_prompt_may_open_the_reasoning(void **state)
{
    ap_call_format format = format_of(&hermes);
    assert_true(ap_call_format_opens(&format, AP_STR("<|im_start|>assistant\n<think>\n")));
    assert_false(ap_call_format_opens(&format, AP_STR("<|im_start|>assistant\n<think>\n\n</think>\n\n")));
    assert_false(ap_call_format_opens(&format, AP_STR("")));
    format = format_of(&none);
    assert_false(ap_call_format_opens(&format, AP_STR("<think>\n")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_are_taken_apart),
        cmocka_unit_test(cuts_change_nothing),
        cmocka_unit_test(text_and_arguments_stream),
        cmocka_unit_test(text_that_can_be_no_call_is_not_held_back),
        cmocka_unit_test(beyond_the_limits_it_is_content),
        cmocka_unit_test(memory_may_end_anywhere),
        cmocka_unit_test(forms_are_seen_in_templates),
        cmocka_unit_test(a_prompt_may_open_the_reasoning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
