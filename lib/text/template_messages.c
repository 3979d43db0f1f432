/* SPDX-License-Identifier: Apache-2.0 */
#include "text/template_messages.h"

typedef struct prep {
    ap_jrun *run;
    const ap_template_traits *traits;
    size_t index; /* of the message in hand, for messages */
} prep;

static ap_status wrong(prep *p, const char *what)
{
    return p->run->failed = ap_fail(p->run->err, AP_E_ARG, "messages[%zu]%s", p->index, what);
}

static ap_status literal(ap_jrun *run, const char *text, ap_jval *out) { return ap_jstr_new(run, ap_str_from(text), true, out); }

static ap_status put(ap_jrun *run, ap_jdict *dict, const char *name, ap_jval value)
{
    ap_jval key;
    AP_TRY(literal(run, name, &key));
    return ap_jdict_set(run, dict, key, value);
}

/* [{"type": "text", "text": content}] */
static ap_status as_parts(prep *p, ap_jval content, ap_jval *out)
{
    ap_jdict *part;
    ap_jlist *list;
    ap_jval text;
    AP_TRY(ap_jdict_new(p->run, 2, &part));
    AP_TRY(literal(p->run, "text", &text));
    AP_TRY(put(p->run, part, "type", text));
    AP_TRY(put(p->run, part, "text", content));
    AP_TRY(ap_jlist_new(p->run, AP_JL_LIST, 1, &list));
    AP_TRY(ap_jlist_add(p->run, list, ap_jof_dict(part)));
    *out = ap_jof_list(list);
    return AP_OK;
}

/* Checks the parts, and joins their texts with newlines unless the template wants them. */
static ap_status join_parts(prep *p, const ap_jlist *parts, ap_jval *out)
{
    ap_jbuild build = {0};
    for (size_t i = 0; i < parts->count; i++) {
        const ap_jval *part = &parts->items[i];
        const ap_jval *type = part->kind == AP_J_DICT ? ap_jdict_get(part->u.dict, AP_STR("type")) : NULL;
        const ap_jval *text = part->kind == AP_J_DICT ? ap_jdict_get(part->u.dict, AP_STR("text")) : NULL;
        if (!type || !ap_jis_str(*type))
            return wrong(p, ".content has a part without a type");
        if (!ap_jis_text(*type, "text")) {
            ap_str name = ap_jbytes(*type);
            return p->run->failed = ap_fail(p->run->err, AP_E_UNSUPPORTED, "messages[%zu].content has a part of type '%.*s', only text is supported",
                                            p->index, name.len > 60 ? 60 : (int)name.len, name.ptr);
        }
        if (!text || !ap_jis_str(*text))
            return wrong(p, ".content has a text part without text");
        if (i)
            AP_TRY(ap_jbuild_bytes(p->run, &build, "\n", 1, false));
        AP_TRY(ap_jbuild_str(p->run, &build, text->u.s));
    }
    if (p->traits->typed_content)
        return AP_OK;
    return ap_jbuild_done(p->run, &build, out);
}

static ap_status prepare_content(prep *p, ap_jdict *message)
{
    ap_jval *content = ap_jdict_get(message, AP_STR("content")), value;
    AP_TRY(literal(p->run, "", &value));
    if (!content || content->kind == AP_J_NONE) {
        AP_TRY(put(p->run, message, "content", value));
        content = ap_jdict_get(message, AP_STR("content"));
    } else if (content->kind == AP_J_LIST) {
        return join_parts(p, content->u.list, content);
    } else if (!ap_jis_str(*content)) {
        return wrong(p, ".content must be a string, a list of parts or null");
    }
    if (p->traits->typed_content && !p->traits->string_content)
        return as_parts(p, *content, content);
    return AP_OK;
}

static ap_status prepare_calls(prep *p, ap_jdict *message)
{
    static const ap_jjson json = {.item_separator = {", ", 2}, .key_separator = {": ", 2}};
    const ap_jval *calls = ap_jdict_get(message, AP_STR("tool_calls"));
    if (!calls || calls->kind == AP_J_NONE)
        return AP_OK;
    if (calls->kind != AP_J_LIST)
        return wrong(p, ".tool_calls must be a list");
    for (size_t i = 0; i < calls->u.list->count; i++) {
        const ap_jval *call = &calls->u.list->items[i];
        const ap_jval *function = call->kind == AP_J_DICT ? ap_jdict_get(call->u.dict, AP_STR("function")) : NULL;
        if (!function || function->kind != AP_J_DICT)
            return wrong(p, ".tool_calls has an entry without function");
        ap_jval *arguments = ap_jdict_get(function->u.dict, AP_STR("arguments")), parsed;
        if (!arguments)
            continue;
        if (ap_jis_str(*arguments) && !p->traits->string_arguments) {
            /* A model may have written what is no JSON; the template then gets the text itself. */
            ap_error *before = p->run->err, ignored;
            p->run->err = &ignored;
            ap_status status = ap_jread_json(p->run, ap_jbytes(*arguments), &parsed);
            p->run->err = before;
            if (status == AP_E_NOMEM || status == AP_E_LIMIT) {
                *before = ignored;
                return status;
            }
            if (status == AP_OK && parsed.kind == AP_J_DICT)
                *arguments = parsed;
        } else if (!ap_jis_str(*arguments) && p->traits->string_arguments) {
            ap_jbuild build = {0};
            AP_TRY(ap_jbuild_json(p->run, &build, *arguments, &json));
            AP_TRY(ap_jbuild_done(p->run, &build, arguments));
        }
    }
    return AP_OK;
}

static ap_status prepare_role(prep *p, ap_jdict *message, bool knows_developer)
{
    static const char *const known[] = {"system", "user", "assistant", "tool", "developer", "function", "ipython", "observation", "model"};
    ap_jval *role = ap_jdict_get(message, AP_STR("role"));
    if (!role || !ap_jis_str(*role))
        return wrong(p, ".role must be a string");
    if (ap_jis_text(*role, "developer") && !knows_developer)
        return literal(p->run, "system", role);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (ap_jis_text(*role, known[i]))
            return literal(p->run, known[i], role);
    return AP_OK;
}

/* Puts the leading system message before the text of the first user message. */
static ap_status merge_system(prep *p, ap_jlist *list)
{
    const ap_jval *system = ap_jdict_get(list->items[0].u.dict, AP_STR("content"));
    size_t user = 1;
    while (user < list->count && !ap_jis_text(*ap_jdict_get(list->items[user].u.dict, AP_STR("role")), "user"))
        user++;
    if (user == list->count)
        return p->run->failed = ap_fail(p->run->err, AP_E_ARG, "this model takes no system message, and there is no user message to put it into");
    ap_jval *content = ap_jdict_get(list->items[user].u.dict, AP_STR("content")), merged;
    p->index = user;
    if (!ap_jis_str(*system) || !ap_jis_str(*content)) {
        ap_jlist *parts;
        AP_TRY(ap_jlist_new(p->run, AP_JL_LIST, 0, &parts));
        const ap_jval *from[2] = {system, content};
        for (size_t i = 0; i < 2; i++) {
            ap_jval piece = *from[i];
            if (ap_jis_str(piece))
                AP_TRY(as_parts(p, piece, &piece));
            for (size_t k = 0; k < piece.u.list->count; k++)
                AP_TRY(ap_jlist_add(p->run, parts, piece.u.list->items[k]));
        }
        merged = ap_jof_list(parts);
    } else {
        ap_jbuild build = {0};
        AP_TRY(ap_jbuild_str(p->run, &build, system->u.s));
        AP_TRY(ap_jbuild_bytes(p->run, &build, "\n\n", 2, false));
        AP_TRY(ap_jbuild_str(p->run, &build, content->u.s));
        AP_TRY(ap_jbuild_done(p->run, &build, &merged));
    }
    *content = merged;
    list->items++, list->count--, list->room--;
    return AP_OK;
}

ap_status ap_messages_prepare(ap_jrun *run, const ap_template_traits *traits, bool knows_developer, ap_jval *messages)
{
    prep p = {run, traits, 0};
    if (messages->kind != AP_J_LIST || messages->u.list->count == 0)
        return run->failed = ap_fail(run->err, AP_E_ARG, "messages must be a list with at least one message");
    ap_jlist *list = messages->u.list;
    for (; p.index < list->count; p.index++) {
        if (list->items[p.index].kind != AP_J_DICT)
            return wrong(&p, " must be an object");
        ap_jdict *message = list->items[p.index].u.dict;
        AP_TRY(prepare_role(&p, message, knows_developer));
        AP_TRY(prepare_content(&p, message));
        AP_TRY(prepare_calls(&p, message));
    }
    if (!traits->system_role && ap_jis_text(*ap_jdict_get(list->items[0].u.dict, AP_STR("role")), "system"))
        return merge_system(&p, list);
    return AP_OK;
}
