/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/openai_chat.h"

#include <stdio.h>
#include <string.h>

/* ---- Roles, content, fields ---------------------------------------------- */

static bool message_refused(ap_refusal *refusal, size_t index, const char *field, const char *code,
                            const char *what)
{
    char param[96];
    (void)snprintf(param, sizeof param, "messages[%zu]%s%.40s", index, field[0] ? "." : "", field);
    return ap_refuse(refusal, 400, param, code, "'%s' %s", param, what);
}

static bool out_of_memory(ap_refusal *refusal)
{
    return ap_refuse(refusal, 503, NULL, NULL, "out of memory for the messages");
}

static bool is_nothing(const json_t *value)
{
    return !value || json_is_null(value) || (json_is_array(value) && json_array_size(value) == 0);
}

/* Text parts become one text; anything else among them is refused by its type. */
static bool join_parts(const json_t *parts, size_t index, ap_buf *text, ap_refusal *refusal)
{
    const json_t *part;
    size_t i;
    if (json_array_size(parts) == 0)
        return message_refused(refusal, index, "content", NULL, "is an empty array");
    json_array_foreach(parts, i, part)
    {
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *value = json_object_get(part, "text");
        char place[48], what[160], key_place[96];
        (void)snprintf(place, sizeof place, "content[%zu]", i);
        if (!type)
            return message_refused(refusal, index, place, NULL, "is not a part with a 'type'");
        if (strcmp(type, "text") != 0) {
            (void)snprintf(what, sizeof what, "is of type '%.40s'; this release takes only 'text' parts",
                           type);
            return message_refused(refusal, index, place, "unsupported_field", what);
        }
        const char *key;
        json_t *member;
        json_object_foreach((json_t *)part, key, member) if (strcmp(key, "type") != 0 &&
                                                             strcmp(key, "text") != 0 &&
                                                             !json_is_null(member))
        {
            (void)snprintf(key_place, sizeof key_place, "%s.%.30s", place, key);
            return message_refused(refusal, index, key_place, "unknown_field", "is an unknown field");
        }
        if (!json_is_string(value))
            return message_refused(refusal, index, place, NULL, "has no 'text'");
        if ((i && ap_buf_add_char(text, '\n', NULL) != AP_OK) ||
            ap_buf_add(text, json_string_value(value), json_string_length(value), NULL) != AP_OK)
            return out_of_memory(refusal);
    }
    return true;
}

static json_t *read_content(const json_t *content, size_t index, ap_refusal *refusal)
{
    if (json_is_string(content))
        return json_incref((json_t *)content);
    if (!json_is_array(content)) {
        (void)message_refused(refusal, index, "content", NULL, "must be a string or an array of text parts");
        return NULL;
    }
    ap_buf text = {0};
    json_t *joined = NULL;
    if (join_parts(content, index, &text, refusal)) {
        joined = json_stringn(text.ptr ? text.ptr : "", text.len);
        if (!joined)
            (void)out_of_memory(refusal);
    }
    ap_buf_deinit(&text);
    return joined;
}

/* The fields of a message, and those of one role alone.  Clients echo what an earlier answer had: a field
 * that says nothing is taken everywhere. */
static bool check_message_fields(const json_t *message, const char *role, size_t index, ap_refusal *refusal)
{
    static const struct {
        const char *name, *role; /* NULL: of all roles; "": of none */
        bool is_text;
    } known[] = {
        {"role", NULL, false},
        {"content", NULL, false},
        {"name", NULL, true},
        {"reasoning_content", NULL, true},
        {"tool_calls", "assistant", false},
        {"tool_call_id", "tool", true},
        {"refusal", "", false},
        {"annotations", "", false},
        {"audio", "", false},
        {"function_call", "", false},
    };
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)message, key, value)
    {
        size_t i = 0;
        while (i < sizeof known / sizeof *known && strcmp(key, known[i].name) != 0)
            i++;
        if (i == sizeof known / sizeof *known)
            return message_refused(refusal, index, key, "unknown_field", "is an unknown field");
        if (known[i].is_text && !json_is_string(value) && !json_is_null(value))
            return message_refused(refusal, index, key, NULL, "must be a string");
        if (is_nothing(value))
            continue;
        if (known[i].role && !known[i].role[0])
            return message_refused(refusal, index, key, "unsupported_field",
                                   "is not supported in this release");
        if (known[i].role && strcmp(known[i].role, role) != 0) {
            char what[64];
            (void)snprintf(what, sizeof what, "is only for role '%s'", known[i].role);
            return message_refused(refusal, index, key, NULL, what);
        }
    }
    return true;
}

static const char *read_role(const json_t *message, size_t index, ap_refusal *refusal)
{
    const json_t *value = json_object_get(message, "role");
    const char *role = json_string_value(value);
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    for (size_t i = 0; role && i < sizeof roles / sizeof *roles; i++)
        if (strcmp(role, roles[i]) == 0)
            return roles[i];
    if (role && strcmp(role, "developer") == 0)
        return "system";
    if (role && strcmp(role, "function") == 0) {
        (void)message_refused(refusal, index, "role", "unsupported_field",
                              "is 'function', the old name of 'tool'");
        return NULL;
    }
    (void)message_refused(refusal, index, "role", NULL,
                          "must be one of 'system', 'developer', 'user', 'assistant', 'tool'");
    return NULL;
}

/* ---- Tools --------------------------------------------------------------- */

static bool call_refused(ap_refusal *refusal, size_t index, size_t call, const char *field, const char *what)
{
    char place[64];
    (void)snprintf(place, sizeof place, "tool_calls[%zu]%s%s", call, field[0] ? "." : "", field);
    return message_refused(refusal, index, place, NULL, what);
}

static bool is_id(const json_t *id)
{
    size_t length = json_string_length(id);
    return length >= 1 && length <= AP_OPENAI_CALL_ID_BYTES_MAX && strlen(json_string_value(id)) == length;
}

static bool check_call(const json_t *call, size_t index, size_t at, ap_refusal *refusal)
{
    /* "index" is in the pieces of a stream, and clients that join them keep it. */
    static const char *const known[] = {"id", "type", "function", "index"};
    const json_t *function = json_object_get(call, "function");
    const char *type = json_string_value(json_object_get(call, "type")), *key;
    json_t *value;
    if (!type || strcmp(type, "function") != 0)
        return call_refused(refusal, index, at, "type", "must be 'function'");
    if (!is_id(json_object_get(call, "id")))
        return call_refused(refusal, index, at, "id", "must be a string of 1 to 256 bytes");
    if (!ap_openai_is_tool_name(json_object_get(function, "name")))
        return call_refused(refusal, index, at, "function.name",
                            "must be a string of 1 to 64 letters, digits, '_', '-' or '.'");
    if (!json_is_string(json_object_get(function, "arguments")))
        return call_refused(refusal, index, at, "function.arguments", "must be a string of JSON");
    json_object_foreach((json_t *)call, key, value)
    {
        bool is_known = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            is_known = is_known || strcmp(key, known[i]) == 0;
        if (!is_known)
            return call_refused(refusal, index, at, key, "is an unknown field");
    }
    if (json_object_size(function) > 2)
        return call_refused(refusal, index, at, "function", "has a field besides 'name' and 'arguments'");
    return true;
}

/* The calls an assistant made, and under `ids` their names by id for the results that follow. */
static bool add_calls(json_t *out, json_t *calls, size_t index, json_t *ids, ap_refusal *refusal)
{
    const json_t *call;
    size_t i;
    if (!json_is_array(calls) || json_array_size(calls) > AP_OPENAI_CALLS_MAX)
        return message_refused(refusal, index, "tool_calls", NULL, "must be an array of at most 128 calls");
    json_array_foreach(calls, i, call)
    {
        if (!check_call(call, index, i, refusal))
            return false;
        if (json_object_set(ids, json_string_value(json_object_get(call, "id")),
                            json_object_get(json_object_get(call, "function"), "name")))
            return out_of_memory(refusal);
    }
    return json_object_set(out, "tool_calls", calls) == 0 || out_of_memory(refusal);
}

static bool add_result(json_t *out, const json_t *message, size_t index, const json_t *ids,
                       ap_refusal *refusal)
{
    json_t *id = json_object_get(message, "tool_call_id");
    if (!is_id(id))
        return message_refused(refusal, index, "tool_call_id", is_nothing(id) ? "missing_field" : NULL,
                               "must be a string of 1 to 256 bytes");
    json_t *name = json_object_get(ids, json_string_value(id));
    if (!name)
        return message_refused(refusal, index, "tool_call_id", NULL,
                               "is the id of no call in an earlier message");
    int failed = json_object_set(out, "tool_call_id", id);
    if (!json_object_get(out, "name"))
        failed |= json_object_set(out, "name", name);
    return !failed || out_of_memory(refusal);
}

/* ---- All of them --------------------------------------------------------- */

static bool fill_message(json_t *out, const json_t *message, const char *role, size_t index, json_t *ids,
                         ap_refusal *refusal)
{
    static const char *const optional[] = {"name", "reasoning_content"};
    json_t *calls = json_object_get(message, "tool_calls"), *content = json_object_get(message, "content");
    int failed = json_object_set_new(out, "role", json_string(role));
    /* Who calls tools need not say anything. */
    if (!is_nothing(calls) && (!content || json_is_null(content)))
        failed |= json_object_set_new(out, "content", json_string(""));
    else if (!(content = read_content(content, index, refusal)))
        return false;
    else
        failed |= json_object_set_new(out, "content", content);
    for (size_t i = 0; i < sizeof optional / sizeof *optional; i++) {
        json_t *value = json_object_get(message, optional[i]);
        if (!is_nothing(value))
            failed |= json_object_set(out, optional[i], value);
    }
    if (failed)
        return out_of_memory(refusal);
    if (strcmp(role, "tool") == 0)
        return add_result(out, message, index, ids, refusal);
    return is_nothing(calls) || add_calls(out, calls, index, ids, refusal);
}

static bool add_message(json_t *messages, const json_t *message, size_t index, json_t *ids,
                        ap_refusal *refusal)
{
    if (!json_is_object(message))
        return message_refused(refusal, index, "", NULL, "must be an object");
    const char *role = read_role(message, index, refusal);
    if (!role || !check_message_fields(message, role, index, refusal))
        return false;
    json_t *out = json_object();
    bool is_good = out ? fill_message(out, message, role, index, ids, refusal) : out_of_memory(refusal);
    if (is_good && json_array_append(messages, out))
        is_good = out_of_memory(refusal);
    json_decref(out);
    return is_good;
}

json_t *ap_openai_messages_read(const json_t *messages, ap_refusal *refusal)
{
    size_t count = json_array_size(messages);
    if (!json_is_array(messages) || count == 0) {
        (void)ap_refuse(refusal, 400, "messages", messages ? NULL : "missing_field",
                        "'messages' must be an array of at least one message");
        return NULL;
    }
    if (count > AP_OPENAI_MESSAGES_MAX) {
        (void)ap_refuse(refusal, 400, "messages", NULL, "'messages' has %zu entries, the limit is %d", count,
                        AP_OPENAI_MESSAGES_MAX);
        return NULL;
    }
    json_t *out = json_array(), *ids = json_object();
    bool is_good = (out && ids) || out_of_memory(refusal);
    for (size_t i = 0; is_good && i < count; i++)
        is_good = add_message(out, json_array_get(messages, i), i, ids, refusal);
    json_decref(ids);
    if (is_good)
        return out;
    json_decref(out);
    return NULL;
}
