/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "support.h"
#include "text/template.h"

static const ap_template_token llama_tokens[] = {{"bos_token", {"<|begin_of_text|>", 17}}, {"eos_token", {"<|eot_id|>", 10}}};

static const char llama3[] =
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] "
    "+ '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + "
    "content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>"
    "\n\n' }}{% endif %}";

/* Compiles and renders; the caller gets the status, text and message. */
static ap_status try_render(const char *source, const char *json, bool verbatim, ap_rendered *out, ap_error *err)
{
    ap_template *t = NULL;
    *out = (ap_rendered){0};
    ap_render_input input = {.json = ap_str_from(json), .tokens = llama_tokens, .token_count = verbatim ? 0 : 2, .now = 1752148800,
                             .verbatim = verbatim};
    ap_status status = ap_template_compile(&t, ap_str_from(source), err);
    if (status == AP_OK)
        status = ap_template_render(t, &input, out, err);
    ap_template_destroy(&t);
    assert_null(t);
    return status;
}

static void expect(const char *source, const char *json, bool verbatim, const char *text)
{
    ap_error err = {0};
    ap_rendered out;
    ap_status status = try_render(source, json, verbatim, &out, &err);
    if (status != AP_OK)
        fail_msg("%s: %s", source, err.message);
    assert_string_equal(out.text, text);
    assert_int_equal(out.length, strlen(text));
    ap_rendered_deinit(&out);
}

static void refuse(const char *source, const char *json, bool verbatim, ap_status wanted, const char *part)
{
    ap_error err = {0};
    ap_rendered out;
    assert_int_equal(try_render(source, json, verbatim, &out, &err), wanted);
    assert_null(out.text);
    if (!strstr(err.message, part))
        fail_msg("the message '%s' does not say '%s'", err.message, part);
}

#define CHAT "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\" U \"}],\"add_generation_prompt\":true}"

static void chatml_and_llama3_render_a_chat(void **state)
{
    expect(ap_template_chatml().ptr, CHAT, false, "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n U <|im_end|>\n<|im_start|>assistant\n");
    expect(llama3, CHAT, false, "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user"
           "<|end_header_id|>\n\nU<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
}

static void raise_exception_gives_its_own_text(void **state)
{
    refuse("{{ raise_exception('roles must ' ~ 'alternate') }}", CHAT, false, AP_E_TEMPLATE, "roles must alternate");
    refuse("{{ raise_exception('') }}", CHAT, false, AP_E_TEMPLATE, "without a reason");
}

static void errors_name_their_line(void **state)
{
    refuse("a\nb\n{% if %}x{% endif %}", CHAT, false, AP_E_TEMPLATE, "line 3: expected an expression");
    refuse("a\n{{ messages[0].content.nothing.more }}", CHAT, false, AP_E_TEMPLATE, "line 2: 'str object' has no attribute 'nothing'");
    refuse("{% include 'x' %}", CHAT, false, AP_E_UNSUPPORTED, "'include' is not supported");
    refuse("{% frobnicate %}", CHAT, false, AP_E_TEMPLATE, "unknown tag 'frobnicate'");
    refuse("{{ x|nofilter }}", CHAT, false, AP_E_TEMPLATE, "no filter named 'nofilter'");
}

static void kwargs_cannot_shadow_what_is_ours(void **state)
{
    static const char *const names[] = {"messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token", "loop",
                                        "raise_exception", "strftime_now", "range", "namespace", "dict", "self", "caller", "_x", "__class__"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char json[256];
        (void)snprintf(json, sizeof json, "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"kwargs\":{\"%s\":1}}", names[i]);
        refuse("{{ messages[0].content }}", json, false, AP_E_ARG, names[i]);
    }
    expect("{{ enable_thinking }}{{ messages[0].content }}",
           "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"kwargs\":{\"enable_thinking\":false}}", false, "Falsea");
    refuse("x", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"enable_thinking\":false}", false, AP_E_ARG, "'enable_thinking'");
}

#define USER(content) "{\"messages\":[{\"role\":\"user\",\"content\":" content "}]}"

static void content_takes_the_form_the_template_wants(void **state)
{
    const char *simple = "{% for m in messages %}{{ m.role + ':' + m.content + ';' }}{% endfor %}";
    const char *typed = "{% for m in messages %}{{ m.role }}:{% for c in m.content %}[{{ c.text }}]{% endfor %};{% endfor %}";
    expect(simple, USER("[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]"), false, "user:a\nb;");
    expect(simple, USER("null"), false, "user:;");
    expect(typed, USER("\"x\""), false, "user:[x];");
    expect(typed, USER("[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]"), false, "user:[a][b];");
    refuse(simple, USER("[{\"type\":\"image_url\",\"image_url\":{}}]"), false, AP_E_UNSUPPORTED, "part of type 'image_url'");
    refuse(simple, USER("[{\"type\":\"text\"}]"), false, AP_E_ARG, "messages[0].content");
    refuse(simple, USER("7"), false, AP_E_ARG, "messages[0].content");
    refuse(simple, "{\"messages\":[]}", false, AP_E_ARG, "at least one message");
    refuse(simple, "{\"messages\":[{\"content\":\"a\"}]}", false, AP_E_ARG, "messages[0].role");
    refuse(simple, "{}", false, AP_E_ARG, "messages are missing");
}

static void system_and_developer_reach_the_model(void **state)
{
    const char *plain = "{% for m in messages %}{{ m.role + ':' + m.content + ';' }}{% endfor %}";
    const char *no_system = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}"
                            "{% endif %}{{ m.role + ':' + m.content + ';' }}{% endfor %}";
    const char *chat = "{\"messages\":[{\"role\":\"developer\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"U\"}]}";
    expect(plain, chat, false, "system:S;user:U;");
    expect(no_system, chat, false, "user:S\n\nU;");
    refuse(no_system, "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"}]}", false, AP_E_ARG, "no user message");
}

static void arguments_of_calls_become_what_the_template_wants(void **state)
{
    const char *chat = "{\"messages\":[{\"role\":\"user\",\"content\":\"U\"},{\"role\":\"assistant\",\"content\":null,\"tool_calls\":"
                       "[{\"id\":\"1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\": 1}\"}}]}]}";
    const char *wants_object = "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls %}{{ c.function.name }}{{ c.function.arguments|tojson }}"
                               "{% endfor %}{% endfor %}";
    const char *wants_text = "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls %}{{ c.function.name + c.function.arguments }}"
                             "{% endfor %}{% endfor %}";
    expect(wants_object, chat, false, "Uf{\"a\": 1}");
    expect(wants_text, chat, false, "Uf{\"a\": 1}");
}

static void traits_say_what_a_template_can_do(void **state)
{
    ap_template *t;
    assert_ok(ap_template_compile(&t, ap_template_chatml(), err));
    const ap_template_traits *traits = ap_template_traits_of(t);
    assert_true(traits->system_role && traits->string_content && traits->tool_results);
    assert_false(traits->typed_content || traits->tools || traits->tool_calls || traits->string_arguments || traits->reasoning);
    ap_template_destroy(&t);
    /* One that fails without tools, as those of Hermes 2 do, is asked with some. */
    assert_ok(ap_template_compile(&t, AP_STR("{% for t in tools %}{{ t.function.name }}{% endfor %}{% for m in messages %}"
                                             "{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}"
                                             "{% endfor %}"), err));
    traits = ap_template_traits_of(t);
    assert_true(traits->system_role && traits->string_content && traits->tools && traits->tool_calls && traits->tool_results);
    ap_template_destroy(&t);
}

static void the_clock_is_the_callers(void **state)
{
    expect("{{ strftime_now('%d %b %Y') }}|{{ strftime_now('%Y-%m-%d %H:%M') }}", "{}", true, "10 Jul 2025|2025-07-10 12:00");
}

static void bad_input_is_refused_by_name(void **state)
{
    refuse("x", "[1]", true, AP_E_ARG, "must be a JSON object");
    refuse("x", "{\"a\":", true, AP_E_ARG, "at byte 5");
    refuse("x", "{\"a\":\"\xff\"}", true, AP_E_ARG, "UTF-8");
    refuse("x", "{\"a\":\"\xed\xa0\x80\"}", true, AP_E_ARG, "UTF-8");
    refuse("x", "{\"a\":\"\\ud800\"}", true, AP_E_ARG, "surrogate");
    refuse("x", "{\"a\":123456789012345678901234567890}", true, AP_E_ARG, "64 bits");
    refuse("\xff", "{}", true, AP_E_TEMPLATE, "UTF-8");
    expect("{{ a|length }}{{ a }}", "{\"a\":\"\xEF\xBB\xBF\xF0\x9F\x98\x80\"}", true, "2\xEF\xBB\xBF\xF0\x9F\x98\x80");
    expect("{{ a|length }}", "{\"a\":\"a\\u0000b\\ud83d\\ude00\"}", true, "4");
}

typedef struct oom_case {
    const char *source, *json;
} oom_case;

static ap_status compile_and_render(void *context)
{
    const oom_case *c = context;
    ap_error err = {0};
    ap_rendered out;
    ap_status status = try_render(c->source, c->json, false, &out, &err);
    assert_true(status == AP_OK ? out.text != NULL : out.text == NULL);
    ap_rendered_deinit(&out);
    return status;
}

static void every_allocation_may_fail(void **state)
{
    oom_case cases[] = {{llama3, CHAT}, {ap_template_chatml().ptr, CHAT},
                        {"{% macro f(x) %}{{ x|tojson(indent=2) }}{% endmacro %}{% for k, v in messages[0].items() %}{{ f([k, v]) }}{% endfor %}", CHAT}};
    for (size_t i = 0; i < 3; i++)
        ap_test_each_oom(compile_and_render, &cases[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chatml_and_llama3_render_a_chat),
        cmocka_unit_test(raise_exception_gives_its_own_text),
        cmocka_unit_test(errors_name_their_line),
        cmocka_unit_test(kwargs_cannot_shadow_what_is_ours),
        cmocka_unit_test(content_takes_the_form_the_template_wants),
        cmocka_unit_test(system_and_developer_reach_the_model),
        cmocka_unit_test(arguments_of_calls_become_what_the_template_wants),
        cmocka_unit_test(traits_say_what_a_template_can_do),
        cmocka_unit_test(the_clock_is_the_callers),
        cmocka_unit_test(bad_input_is_refused_by_name),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
