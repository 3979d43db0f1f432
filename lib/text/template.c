/* Chat templates: compiling, probing, rendering.  template_messages.c prepares the messages.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/template.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "text/jinja.h"
#include "text/template_messages.h"

struct ap_template {
    ap_jprogram program;
    ap_template_traits traits;
    bool knows_developer; /* the source speaks of the role "developer" itself */
};

/* ---- variables -------------------------------------------------------------------- */

static const char *const token_names[] = {"bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token",
                                          "mask_token", "additional_special_tokens"};

static bool is_token_name(ap_str name)
{
    for (size_t i = 0; i < sizeof token_names / sizeof *token_names; i++)
        if (ap_str_is(name, token_names[i]))
            return true;
    return false;
}

bool ap_template_owns(ap_str name)
{
    static const char *const names[] = {"messages", "tools", "documents", "add_generation_prompt", "loop", "self", "super",
                                        "caller", "varargs", "kwargs", "lipsum", "true", "false", "none", "True", "False", "None",
                                        "and", "or", "not", "if", "else", "in", "is"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (ap_str_is(name, names[i]))
            return true;
    return name.len == 0 || name.ptr[0] == '_' || is_token_name(name) || ap_jinja_is_function(name);
}

static ap_status set_kwargs(ap_jrun *run, const ap_jval *kwargs)
{
    if (!kwargs || kwargs->kind == AP_J_NONE)
        return AP_OK;
    if (kwargs->kind != AP_J_DICT)
        return ap_fail(run->err, AP_E_ARG, "kwargs must be an object");
    for (size_t i = 0; i < kwargs->u.dict->count; i++) {
        ap_str name = ap_jbytes(kwargs->u.dict->pairs[i].key);
        if (ap_template_owns(name))
            return ap_fail(run->err, AP_E_ARG, "kwargs may not set '%.*s': templates have something else under this name",
                           name.len > 60 ? 60 : (int)name.len, name.ptr);
        AP_TRY(ap_jinja_set(run, name, kwargs->u.dict->pairs[i].value));
    }
    return AP_OK;
}

/* Every key is a variable as it stands. */
static ap_status set_verbatim(ap_jrun *run, const ap_jdict *all)
{
    for (size_t i = 0; i < all->count; i++) {
        ap_str name = ap_jbytes(all->pairs[i].key);
        ap_jval value = all->pairs[i].value;
        if (is_token_name(name) && ap_jis_str(value))
            AP_TRY(ap_jstr_new(run, ap_jbytes(value), true, &value));
        AP_TRY(ap_jinja_set(run, name, value));
    }
    return AP_OK;
}

static ap_status set_prepared(ap_jrun *run, const ap_template *t, ap_jdict *all)
{
    static const char *const known[] = {"messages", "tools", "documents", "add_generation_prompt", "kwargs"};
    ap_jval *value[5];
    for (size_t i = 0; i < 5; i++)
        value[i] = ap_jdict_get(all, ap_str_from(known[i]));
    for (size_t i = 0; i < all->count; i++) {
        ap_str name = ap_jbytes(all->pairs[i].key);
        bool is_known = false;
        for (size_t k = 0; k < 5; k++)
            is_known |= ap_str_is(name, known[k]);
        if (!is_known)
            return ap_fail(run->err, AP_E_ARG, "'%.*s' is no part of a rendering's input", name.len > 60 ? 60 : (int)name.len, name.ptr);
    }
    if (!value[0])
        return ap_fail(run->err, AP_E_ARG, "messages are missing");
    for (size_t i = 1; i < 3; i++)
        if (value[i] && value[i]->kind != AP_J_NONE && value[i]->kind != AP_J_LIST)
            return ap_fail(run->err, AP_E_ARG, "%s must be a list", known[i]);
    if (value[3] && value[3]->kind != AP_J_BOOL)
        return ap_fail(run->err, AP_E_ARG, "add_generation_prompt must be true or false");
    AP_TRY(ap_messages_prepare(run, &t->traits, t->knows_developer, value[0]));
    for (size_t i = 0; i < 4; i++)
        AP_TRY(ap_jinja_set(run, ap_str_from(known[i]), value[i] ? *value[i] : i == 3 ? ap_jbool(false) : ap_jnone()));
    return set_kwargs(run, value[4]);
}

/* ---- rendering ---------------------------------------------------------------------- */

static ap_status copy_out(const ap_jbuild *build, ap_rendered *out, ap_error *err)
{
    size_t parts = build->len ? 1 : 0;
    for (size_t i = 1; build->marks && i < build->len; i++)
        parts += build->marks[i] != build->marks[i - 1];
    out->text = ap_strndup(build->len ? build->ptr : "", build->len);
    out->parts = ap_alloc_zero(parts + 1, sizeof *out->parts);
    if (!out->text || !out->parts) {
        ap_rendered_deinit(out);
        return ap_fail_nomem(err, build->len + parts * sizeof *out->parts);
    }
    out->length = build->len;
    for (size_t begin = 0; begin < build->len;) {
        size_t end = build->marks ? begin + 1 : build->len;
        while (end < build->len && build->marks[end] == build->marks[begin])
            end++;
        out->parts[out->part_count++] = (ap_rendered_part){begin, end - begin, build->marks ? build->marks[begin] : build->ours};
        begin = end;
    }
    return AP_OK;
}

/* A rendering with the budgets that `run` begins with. */
static ap_status render_run(ap_jrun *run, const ap_template *t, const ap_render_input *input, ap_jbuild *build)
{
    ap_jval all, text;
    if (!ap_utf8_valid(input->json))
        return ap_fail(run->err, AP_E_ARG, "the messages are not valid UTF-8");
    AP_TRY(ap_jread_json(run, input->json, &all));
    if (all.kind != AP_J_DICT)
        return ap_fail(run->err, AP_E_ARG, "the input of a chat template must be a JSON object");
    for (size_t i = 0; i < input->token_count; i++) {
        if (!ap_utf8_valid(input->tokens[i].text))
            continue; /* a token of raw bytes cannot be printed: it stays undefined */
        AP_TRY(ap_jstr_new(run, input->tokens[i].text, true, &text));
        AP_TRY(ap_jinja_set(run, ap_str_from(input->tokens[i].name), text));
    }
    AP_TRY(input->verbatim ? set_verbatim(run, all.u.dict) : set_prepared(run, t, all.u.dict));
    run->steps = 0; /* reading had a budget of its own */
    return ap_jinja_render(run, build);
}

static ap_status render(const ap_template *t, const ap_render_input *input, bool is_probe, ap_rendered *out, ap_error *err)
{
    ap_jrun run;
    ap_jbuild build = {0};
    *out = (ap_rendered){0};
    ap_status status = ap_jinja_begin(&run, &t->program, input->now, err);
    if (is_probe) {
        run.steps_max = AP_JINJA_PROBE_STEPS;
        run.arena.limit_bytes = AP_JINJA_PROBE_MEMORY;
    }
    if (status == AP_OK)
        status = render_run(&run, t, input, &build);
    if (status == AP_OK)
        status = copy_out(&build, out, err);
    ap_jinja_end(&run);
    return status;
}

ap_status ap_template_render(const ap_template *t, const ap_render_input *input, ap_rendered *out, ap_error *err)
{
    ap_error ignored;
    return render(t, input, false, out, err ? err : &ignored);
}

void ap_rendered_deinit(ap_rendered *rendered)
{
    ap_free(rendered->text);
    ap_free(rendered->parts);
    *rendered = (ap_rendered){0};
}

/* ---- probing --------------------------------------------------------------------------- */

#define NEEDLE "Zq7needle"

/* Renders `json` and asks whether NEEDLE shows, not in quotes if `bare`.  What the template refuses shows nothing. */
static ap_status probe(const ap_template *t, const char *json, bool bare, bool *shows, ap_error *err)
{
    static const ap_template_token tokens[] = {{"bos_token", {"<s>", 3}}, {"eos_token", {"</s>", 4}}};
    ap_render_input input = {.json = ap_str_from(json), .tokens = tokens, .token_count = 2, .verbatim = true};
    ap_rendered out;
    *shows = false;
    ap_status status = render(t, &input, true, &out, err);
    if (status == AP_E_NOMEM)
        return status;
    if (status != AP_OK)
        return AP_OK;
    const char *found = strstr(out.text, NEEDLE);
    char before = found && found > out.text ? found[-1] : 0;
    *shows = found && !(bare && (before == '\'' || before == '"'));
    ap_rendered_deinit(&out);
    return AP_OK;
}

#define TOOLS_OF(name)                                                                                    \
    "[{\"type\":\"function\",\"function\":{\"name\":\"" name "\",\"description\":\"d\",\"parameters\":{\"type\":"      \
    "\"object\",\"properties\":{\"p\":{\"type\":\"string\",\"description\":\"e\"}},\"required\":[\"p\"]}}}]"

enum { PROBE_BYTES = 1024 };

/* Whether content may be a string, or a list of parts. */
static ap_status find_content(ap_template *t, const char *tools, ap_error *err)
{
    static const char form[] = "{\"messages\":[{\"role\":\"user\",\"content\":%s\"" NEEDLE "\"%s}],\"tools\":%s,"
                               "\"documents\":null,\"add_generation_prompt\":true}";
    char json[PROBE_BYTES];
    (void)snprintf(json, sizeof json, form, "", "", tools);
    AP_TRY(probe(t, json, false, &t->traits.string_content, err));
    (void)snprintf(json, sizeof json, form, "[{\"type\":\"text\",\"text\":", "}]", tools);
    return probe(t, json, true, &t->traits.typed_content, err);
}

/* Calls of earlier turns and their results, in a conversation that ends in `rest`. */
static ap_status find_earlier_calls(ap_template *t, const char *rest, ap_error *err)
{
    static const char call[] = "{\"messages\":[{\"role\":\"user\",\"content\":%s\"a\"%s},{\"role\":\"assistant\",\"content\":%s\"\"%s,"
        "\"tool_calls\":[{\"id\":\"abcdefghi\",\"type\":\"function\",\"function\":{\"name\":\"%s\",\"arguments\":%s}}]}%s],%s}";
    ap_template_traits *traits = &t->traits;
    char json[PROBE_BYTES], result[128];
    bool with_object, with_text, typed = traits->typed_content && !traits->string_content;
    const char *open = typed ? "[{\"type\":\"text\",\"text\":" : "", *close = typed ? "}]" : "";
    (void)snprintf(json, sizeof json, call, open, close, open, close, "f", "{\"p\":\"" NEEDLE "\"}", "", rest);
    AP_TRY(probe(t, json, false, &with_object, err));
    (void)snprintf(json, sizeof json, call, open, close, open, close, "f", "\"{\\\"p\\\": \\\"" NEEDLE "\\\"}\"", "", rest);
    AP_TRY(probe(t, json, false, &with_text, err));
    traits->string_arguments = with_text && !with_object;
    const char *arguments = traits->string_arguments ? "\"{}\"" : "{\"p\":\"x\"}";
    (void)snprintf(json, sizeof json, call, open, close, open, close, NEEDLE, arguments, "", rest);
    AP_TRY(probe(t, json, false, &traits->tool_calls, err));
    (void)snprintf(result, sizeof result, ",{\"role\":\"tool\",\"tool_call_id\":\"abcdefghi\",\"name\":\"f\",\"content\":%s\"" NEEDLE "\"%s}",
                   open, close);
    (void)snprintf(json, sizeof json, call, open, close, open, close, "f", arguments, result, rest);
    return probe(t, json, false, &traits->tool_results, err);
}

static ap_status find_traits(ap_template *t, ap_error *err)
{
    ap_template_traits *traits = &t->traits;
    char json[PROBE_BYTES], rest[PROBE_BYTES / 2];
    const char *tools = "null";
    AP_TRY(find_content(t, tools, err));
    if (!traits->string_content && !traits->typed_content) { /* some cannot do without tools */
        tools = TOOLS_OF("f");
        AP_TRY(find_content(t, tools, err));
    }
    (void)snprintf(rest, sizeof rest, "\"tools\":%s,\"documents\":null,\"add_generation_prompt\":false", tools);
    /* The texts of the other probes have the form that works. */
    bool typed = traits->typed_content && !traits->string_content;
    const char *open = typed ? "[{\"type\":\"text\",\"text\":" : "", *close = typed ? "}]" : "";
    (void)snprintf(json, sizeof json, "{\"messages\":[{\"role\":\"system\",\"content\":%s\"" NEEDLE "\"%s},{\"role\":\"user\",\"content\":"
                   "%s\"a\"%s}],%s}", open, close, open, close, rest);
    AP_TRY(probe(t, json, false, &traits->system_role, err));
    (void)snprintf(json, sizeof json, "{\"messages\":[{\"role\":\"user\",\"content\":%s\"a\"%s}],\"documents\":null,\"add_generation_prompt\":true,"
      "\"tools\":" TOOLS_OF(NEEDLE) "}", open, close);
    AP_TRY(probe(t, json, false, &traits->tools, err));
    (void)snprintf(json, sizeof json, "{\"messages\":[{\"role\":\"user\",\"content\":%s\"a\"%s},{\"role\":\"assistant\",\"content\":%s\"b\"%s,"
                   "\"reasoning_content\":\"" NEEDLE "\"}],%s}", open, close, open, close, rest);
    AP_TRY(probe(t, json, false, &traits->reasoning, err));
    AP_TRY(find_earlier_calls(t, rest, err));
    if (!traits->tools || (traits->tool_calls && traits->tool_results))
        return AP_OK;
    (void)snprintf(rest, sizeof rest, "\"tools\":" TOOLS_OF("f") ",\"documents\":null,\"add_generation_prompt\":false");
    return find_earlier_calls(t, rest, err); /* some show them with tools only */
}

/* ---- templates ---------------------------------------------------------------------------- */

ap_status ap_template_compile(ap_template **out, ap_str source, ap_error *err)
{
    *out = NULL;
    if (!ap_utf8_valid(source))
        return ap_fail(err, AP_E_TEMPLATE, "the chat template is not valid UTF-8");
    ap_template *t = ap_alloc_zero(1, sizeof *t);
    if (!t)
        return ap_fail_nomem(err, sizeof *t);
    ap_status status = ap_jinja_parse(&t->program, source, err);
    if (status == AP_OK) {
        ap_error probe_err;
        t->knows_developer = source.len && memmem(source.ptr, source.len, "developer", 9);
        status = find_traits(t, &probe_err);
        if (status != AP_OK && err)
            *err = probe_err;
    }
    if (status != AP_OK) {
        ap_template_destroy(&t);
        return status;
    }
    *out = t;
    return AP_OK;
}

void ap_template_destroy(ap_template **chat_template)
{
    if (!*chat_template)
        return;
    ap_jinja_deinit(&(*chat_template)->program);
    ap_free(*chat_template);
    *chat_template = NULL;
}

const ap_template_traits *ap_template_traits_of(const ap_template *chat_template) { return &chat_template->traits; }

bool ap_template_reads(const ap_template *t, ap_str name)
{
    for (uint32_t i = 0; i < t->program.name_count; i++)
        if (ap_str_equal(t->program.names[i], name))
            return true;
    return false;
}

ap_str ap_template_chatml(void)
{
    return AP_STR("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
                  "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}");
}
