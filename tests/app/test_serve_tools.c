/* Tools and reasoning, the whole way: sockets, the interface, a real worker, a model that says what it was
 * told to.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <unistd.h>

#include "serve_real.h"
#include "telling_model.h"
#include "tiny_model.h"

#define TOOL(name)                                                                                           \
    "{\"type\":\"function\",\"function\":{\"name\":\"" name "\",\"parameters\":{\"type\":\"object\"}}}"
#define TOOLS                "\"tools\":[" TOOL("f") "," TOOL("g") "]"
#define USER(text)           "{\"role\":\"user\",\"content\":\"" text "\"}"
#define CHAT(messages, rest) "{\"model\":\"tiny\",\"messages\":[" messages "]," rest "}"

/* Cut in two at every place, each under a question of its own; twice as long as what may be cut. */
static const char whole[] =
    "<think>Hm.</think>Ok <tool_call>{\"name\":\"f\",\"arguments\":{\"x\":\"y\"}}</tool_call>";
enum { CUTS = sizeof whole - 2, FIRST = ' ', ANSWERS = CUTS + 3 };

/* JSON cannot have them as they are, they begin other answers, or are what is left of a cut. */
static bool is_usable(char c) { return !strchr("\"\\~}|<>", c); }

static real_server real;
static char after[CUTS]; /* the question of cut i ends in it */

static int start(void **state)
{
    static char texts[CUTS][2][sizeof whole];
    static const char *pieces[CUTS][2];
    static const char *const two[] = {"<tool_call>{\"name\":\"f\",",
                                      "\"arguments\":{}}</tool_call>\n<tool_call>{\"name\":\"g\",",
                                      "\"arguments\":{\"a\":", "1}}</tool_call>"};
    static const char *const other[] = {"<tool_call>{\"name\":\"h\"", ",\"arguments\":{}}</tool_call> "};
    static const char *const thoughts[] = {"<think>It", " depends"};
    telling_answer answers[ANSWERS];
    char c = FIRST;
    for (size_t i = 0; i < CUTS; i++) {
        while (!is_usable(c))
            c++;
        after[i] = c++;
        assert_true(after[i] < 0x7f);
        (void)snprintf(texts[i][0], sizeof whole, "%.*s", (int)i + 1, whole);
        (void)snprintf(texts[i][1], sizeof whole, "%s", whole + i + 1);
        pieces[i][0] = texts[i][0];
        pieces[i][1] = texts[i][1];
        answers[i] = (telling_answer){after[i], pieces[i], 2};
    }
    answers[CUTS] = (telling_answer){'~', two, 4};
    answers[CUTS + 1] = (telling_answer){'}', other, 2};
    answers[CUTS + 2] = (telling_answer){'|', thoughts, 2};
    int fd = ap_test_temporary();
    telling_model_write(answers, ANSWERS, fd);
    real_start(&real, fd);
    return 0;
}

static int stop(void **state)
{
    real_stop(&real);
    return 0;
}

static json_t *ask(const char *body, response *r)
{
    if (real_ask(&real, "/v1/chat/completions", body, r) != 200)
        fail_msg("status %d: %s", r->status, r->body.ptr);
    json_t *root = json_loadb(r->body.ptr, r->body.len, 0, NULL);
    assert_non_null(root);
    return root;
}

/* The message of the only choice, with what it says of the end: {"finish_reason", "message"}. */
static json_t *answer_of(const char *body)
{
    response r;
    json_t *root = ask(body, &r), *choice = json_incref(json_array_get(json_object_get(root, "choices"), 0));
    json_object_del(choice, "index");
    json_object_del(choice, "logprobs");
    json_object_del(json_object_get(choice, "message"), "refusal");
    json_decref(root);
    response_deinit(&r);
    return choice;
}

static void join(json_t *to, const char *key, const json_t *text)
{
    const char *before = json_string_value(json_object_get(to, key));
    if (!json_is_string(text))
        return;
    json_object_set_new(to, key, json_sprintf("%s%s", before ? before : "", json_string_value(text)));
}

static void join_calls(json_t *message, const json_t *calls)
{
    const json_t *piece;
    size_t i;
    if (calls && !json_object_get(message, "tool_calls"))
        json_object_set_new(message, "tool_calls", json_array());
    json_t *all = json_object_get(message, "tool_calls");
    json_array_foreach(calls, i, piece)
    {
        size_t index = (size_t)json_integer_value(json_object_get(piece, "index"));
        const json_t *function = json_object_get(piece, "function");
        if (index == json_array_size(all)) {
            json_array_append_new(all,
                                  json_pack("{s:O, s:O, s:{s:O, s:s}}", "id", json_object_get(piece, "id"),
                                            "type", json_object_get(piece, "type"), "function", "name",
                                            json_object_get(function, "name"), "arguments", ""));
        } else {
            assert_null(json_object_get(piece, "id"));
            assert_null(json_object_get(function, "name"));
        }
        join(json_object_get(json_array_get(all, index), "function"), "arguments",
             json_object_get(function, "arguments"));
    }
}

/* The same, put together from a stream as a client does it. */
static json_t *stream_of(const char *body)
{
    response r;
    json_t *message = json_object(), *reason = NULL;
    if (real_ask(&real, "/v1/chat/completions", body, &r) != 200)
        fail_msg("status %d: %s", r.status, r.body.ptr);
    unsigned roles = 0;
    for (char *line = r.body.ptr, *end; (end = strstr(line, "\n\n")); line = end + 2) {
        if (strncmp(line, "data: [DONE]", 12) == 0)
            break;
        json_t *chunk = json_loadb(line + 6, (size_t)(end - line - 6), 0, NULL);
        assert_non_null(chunk);
        json_t *choice = json_array_get(json_object_get(chunk, "choices"), 0),
               *delta = json_object_get(choice, "delta");
        assert_true(json_object_size(delta) <= 1 || roles == 0); /* one field for each but the first */
        roles += json_object_get(delta, "role") != NULL;
        join(message, "role", json_object_get(delta, "role"));
        join(message, "content", json_object_get(delta, "content"));
        join(message, "reasoning_content", json_object_get(delta, "reasoning_content"));
        join_calls(message, json_object_get(delta, "tool_calls"));
        if (json_is_string(json_object_get(choice, "finish_reason")))
            reason = json_incref(json_object_get(choice, "finish_reason"));
        json_decref(chunk);
    }
    assert_int_equal(roles, 1);
    response_deinit(&r);
    return json_pack("{s:o, s:o}", "finish_reason", reason, "message", message);
}

/* As text, with ids replaced: they are drawn.  The reference is taken. */
static char *plain(json_t *answer)
{
    json_t *call;
    size_t i;
    json_array_foreach(json_object_get(json_object_get(answer, "message"), "tool_calls"), i, call)
    {
        const char *id = json_string_value(json_object_get(call, "id"));
        assert_non_null(id);
        assert_int_equal(strspn(id, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"), 9);
        assert_int_equal(strlen(id), 9);
        json_object_set_new(call, "id", json_string("ID"));
    }
    char *text = json_dumps(answer, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(answer);
    assert_non_null(text);
    return text;
}

static void check(json_t *answer, const char *wanted)
{
    char *text = plain(answer);
    assert_string_equal(text, wanted);
    free(text);
}

static void an_answer_is_the_same_streamed_or_not_at_every_cut(void **state)
{
    for (size_t i = 0; i < CUTS; i++) {
        char body[512];
        const char *wanted =
            "{\"finish_reason\":\"tool_calls\",\"message\":{\"content\":\"Ok\",\"reasoning_content\":\"Hm.\","
            "\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"arguments\":\"{\\\"x\\\":\\\"y\\\"}\","
            "\"name\":\"f\"},\"id\":\"ID\",\"type\":\"function\"}]}}";
        (void)snprintf(body, sizeof body, CHAT(USER("%c"), TOOLS), after[i]);
        check(answer_of(body), wanted);
        (void)snprintf(body, sizeof body, CHAT(USER("%c"), TOOLS ",\"stream\":true"), after[i]);
        check(stream_of(body), wanted);
    }
}

#define CALL(name, arguments)                                                                                \
    "{\"function\":{\"arguments\":\"" arguments "\",\"name\":\"" name                                        \
    "\"},\"id\":\"ID\",\"type\":\"function\"}"
#define CALLS(content, calls)                                                                                \
    "{\"finish_reason\":\"tool_calls\",\"message\":{\"content\":" content                                    \
    ",\"role\":\"assistant\",\"tool_calls\":[" calls "]}}"

static void several_calls_come_unless_one_was_asked_for(void **state)
{
    check(answer_of(CHAT(USER("~"), TOOLS)), CALLS("null", CALL("f", "{}") "," CALL("g", "{\\\"a\\\":1}")));
    check(answer_of(CHAT(USER("~"), TOOLS ",\"parallel_tool_calls\":false")), CALLS("null", CALL("f", "{}")));
    check(stream_of(CHAT(USER("~"), TOOLS ",\"parallel_tool_calls\":false,\"stream\":true")),
          CALLS("\"\"", CALL("f", "{}")));
    check(stream_of(CHAT(USER("~"), TOOLS ",\"stream\":true")),
          CALLS("\"\"", CALL("f", "{}") "," CALL("g", "{\\\"a\\\":1}")));
}

static void each_answer_and_call_has_an_id_of_its_own(void **state)
{
    response r;
    json_t *root = ask(CHAT(USER("~"), TOOLS ",\"n\":3"), &r), *ids = json_object(), *choice, *call;
    size_t i, k;
    json_array_foreach(json_object_get(root, "choices"), i, choice)
        json_array_foreach(json_object_get(json_object_get(choice, "message"), "tool_calls"), k, call)
            json_object_set_new(ids, json_string_value(json_object_get(call, "id")), json_true());
    assert_int_equal(json_object_size(ids), 6);
    json_decref(ids);
    json_decref(root);
    response_deinit(&r);
}

static void a_call_of_what_was_not_offered_is_text(void **state)
{
    static const char text[] =
        "{\"finish_reason\":\"stop\",\"message\":{\"content\":\"<tool_call>{\\\"name\\\":\\\"h\\\","
        "\\\"arguments\\\":{}}</tool_call> \",\"role\":\"assistant\"}}";
    check(answer_of(CHAT(USER("}"), TOOLS)), text);
    check(stream_of(CHAT(USER("}"), TOOLS ",\"stream\":true")), text);
}

static uint32_t prompt_tokens(const char *body)
{
    response r;
    json_t *root = ask(body, &r);
    uint32_t count =
        (uint32_t)json_integer_value(json_object_get(json_object_get(root, "usage"), "prompt_tokens"));
    json_decref(root);
    response_deinit(&r);
    return count;
}

static void no_choice_of_tools_shows_the_model_none(void **state)
{
    static const char none[] = CHAT(USER("~"), TOOLS ",\"tool_choice\":\"none\"");
    char *text = plain(answer_of(none));
    assert_non_null(strstr(text, "\"finish_reason\":\"stop\""));
    assert_non_null(strstr(text, "<tool_call>"));
    assert_null(strstr(text, "tool_calls\":["));
    free(text);
    assert_int_equal(prompt_tokens(none), prompt_tokens(CHAT(USER("~"), "\"tools\":[]")));
    assert_true(prompt_tokens(none) < prompt_tokens(CHAT(USER("~"), TOOLS ",\"tool_choice\":\"auto\"")));
}

static void an_answer_that_is_cut_says_so(void **state)
{
    check(answer_of(CHAT(USER("~"), TOOLS ",\"max_tokens\":3")),
          "{\"finish_reason\":\"length\",\"message\":{\"content\":null,\"role\":\"assistant\",\"tool_calls\":"
          "[" CALL("f", "{}") "," CALL("g", "{\\\"a\\\":") "]}}");
    check(answer_of(CHAT(USER("|"), "\"max_tokens\":2")),
          "{\"finish_reason\":\"length\",\"message\":{\"content\":\"\",\"reasoning_content\":\"It depends\","
          "\"role\":\"assistant\"}}");
}

static void logprobs_cover_every_token_of_reasoning_and_calls(void **state)
{
    response r;
    static const char *const streams[] = {"false", "true"};
    for (size_t i = 0; i < 2; i++) {
        char body[512];
        (void)snprintf(body, sizeof body, CHAT(USER("%c"), TOOLS ",\"logprobs\":true,\"stream\":%s"),
                       after[30], streams[i]);
        assert_int_equal(real_ask(&real, "/v1/chat/completions", body, &r), 200);
        unsigned count = 0;
        for (const char *p = r.body.ptr; (p = strstr(p, "\"top_logprobs\"")); p++)
            count++;
        assert_int_equal(count, 3); /* both pieces and the end */
        response_deinit(&r);
    }
}

#define MADE(id)                                                                                             \
    "{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"" id "\",\"type\":\"function\",\"function\":{"        \
    "\"name\":\"f\",\"arguments\":\"{}\"}}]}"
#define RESULT(id, text) "{\"role\":\"tool\",\"tool_call_id\":\"" id "\",\"content\":\"" text "\"}"

static void the_result_of_a_tool_reaches_the_model(void **state)
{
    check(answer_of(CHAT(USER("a") "," MADE("abcdefghi") "," RESULT("abcdefghi", "~"), TOOLS)),
          CALLS("null", CALL("f", "{}") "," CALL("g", "{\\\"a\\\":1}")));
}

static void what_the_template_does_not_read_is_named(void **state)
{
    response r;
    size_t length;
    static const char body[] =
        CHAT(USER("~"), "\"reasoning_effort\":\"low\",\"chat_template_kwargs\":{\"thinking\":true}");
    assert_int_equal(real_ask(&real, "/v1/chat/completions", body, &r), 200);
    const char *value = response_header(&r, "Aperto-No-Effect", &length);
    assert_non_null(value);
    assert_int_equal(strncmp(value, "chat_template_kwargs.thinking", length), 0);
    response_deinit(&r);
    assert_int_equal(
        prompt_tokens(CHAT(USER("~"), "\"reasoning_effort\":\"low\"")),
        prompt_tokens(CHAT(USER("~"), "\"chat_template_kwargs\":{\"reasoning_effort\":\"low\"}")));
    assert_true(prompt_tokens(body) > prompt_tokens(CHAT(USER("~"), "\"tools\":null")));
}

static void a_variable_that_is_the_templates_own_is_refused(void **state)
{
    static const char *const names[] = {
        "messages", "tools", "documents", "add_generation_prompt", "bos_token",    "eos_token",
        "loop",     "self",  "namespace", "raise_exception",       "strftime_now", "_private"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char body[256], named[64];
        response r;
        (void)snprintf(body, sizeof body, CHAT(USER("~"), "\"chat_template_kwargs\":{\"%s\":\"x\"}"),
                       names[i]);
        (void)snprintf(named, sizeof named, "'%s'", names[i]);
        assert_int_equal(real_ask(&real, "/v1/chat/completions", body, &r), 400);
        assert_true(body_contains(&r, named));
        assert_true(body_contains(&r, "\"param\":\"chat_template_kwargs\""));
        response_deinit(&r);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "worker") == 0)
        return ap_worker_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_the_same_streamed_or_not_at_every_cut),
        cmocka_unit_test(several_calls_come_unless_one_was_asked_for),
        cmocka_unit_test(each_answer_and_call_has_an_id_of_its_own),
        cmocka_unit_test(a_call_of_what_was_not_offered_is_text),
        cmocka_unit_test(no_choice_of_tools_shows_the_model_none),
        cmocka_unit_test(an_answer_that_is_cut_says_so),
        cmocka_unit_test(logprobs_cover_every_token_of_reasoning_and_calls),
        cmocka_unit_test(the_result_of_a_tool_reaches_the_model),
        cmocka_unit_test(what_the_template_does_not_read_is_named),
        cmocka_unit_test(a_variable_that_is_the_templates_own_is_refused),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
