/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/openai_chat.h"

#include <stdio.h>
#include <string.h>

#define NAME_BYTES "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."

bool ap_openai_is_tool_name(const json_t *name)
{
    size_t length = json_string_length(name);
    return length >= 1 && length <= AP_OPENAI_TOOL_NAME_BYTES_MAX &&
           strspn(json_string_value(name), NAME_BYTES) == length;
}

static bool tool_refused(ap_refusal *refusal, size_t index, const char *field, const char *code,
                         const char *what)
{
    char param[96];
    (void)snprintf(param, sizeof param, "tools[%zu]%s%.60s", index, field[0] ? "." : "", field);
    return ap_refuse(refusal, 400, param, code, "'%s' %s", param, what);
}

/* What is not among `known` is refused by its name. */
static bool check_keys(const json_t *object, const char *const known[], const char *prefix, size_t index,
                       ap_refusal *refusal)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        bool is_known = false;
        for (size_t i = 0; known[i]; i++)
            is_known = is_known || strcmp(key, known[i]) == 0;
        char field[64];
        (void)snprintf(field, sizeof field, "%s%.40s", prefix, key);
        if (!is_known)
            return tool_refused(refusal, index, field, "unknown_field", "is an unknown field");
    }
    return true;
}

static bool is_absent(const json_t *value) { return !value || json_is_null(value); }

static bool check_function(const json_t *function, size_t index, ap_refusal *refusal)
{
    static const char *const known[] = {"name", "description", "parameters", "strict", NULL};
    const json_t *description = json_object_get(function, "description"),
                 *parameters = json_object_get(function, "parameters"),
                 *strict = json_object_get(function, "strict");
    if (!json_is_object(function))
        return tool_refused(refusal, index, "function", NULL, "must be an object");
    if (!check_keys(function, known, "function.", index, refusal))
        return false;
    if (!ap_openai_is_tool_name(json_object_get(function, "name")))
        return tool_refused(refusal, index, "function.name", NULL,
                            "must be a string of 1 to 64 letters, digits, '_', '-' or '.'");
    if (!is_absent(description) && !json_is_string(description))
        return tool_refused(refusal, index, "function.description", NULL, "must be a string");
    if (!is_absent(parameters) && !json_is_object(parameters))
        return tool_refused(refusal, index, "function.parameters", NULL, "must be an object");
    if (!is_absent(strict) && !json_is_boolean(strict))
        return tool_refused(refusal, index, "function.strict", NULL, "must be true or false");
    if (json_is_true(strict))
        return tool_refused(
            refusal, index, "function.strict", "unsupported_field",
            "is true, which this release cannot promise: it has no grammar that holds a model to a schema");
    return true;
}

static bool check_tool(const json_t *tools, size_t index, ap_refusal *refusal)
{
    static const char *const known[] = {"type", "function", NULL};
    const json_t *tool = json_array_get(tools, index);
    const char *type = json_string_value(json_object_get(tool, "type"));
    if (!type)
        return tool_refused(refusal, index, "", NULL, "must be an object with a 'type'");
    if (strcmp(type, "function") != 0) {
        char what[96];
        (void)snprintf(what, sizeof what, "is '%.40s'; this release takes only 'function'", type);
        return tool_refused(refusal, index, "type", "unsupported_field", what);
    }
    const json_t *function = json_object_get(tool, "function"), *name = json_object_get(function, "name");
    if (!check_keys(tool, known, "", index, refusal) || !check_function(function, index, refusal))
        return false;
    for (size_t i = 0; i < index; i++)
        if (json_equal(json_object_get(json_object_get(json_array_get(tools, i), "function"), "name"), name))
            return tool_refused(refusal, index, "function.name", NULL, "is the name of an earlier tool");
    return true;
}

bool ap_openai_tools_read(const ap_openai_fields *fields, const json_t **tools, ap_refusal *refusal)
{
    const json_t *all = fields->tools, *choice = fields->tool_choice;
    const char *mode = json_string_value(choice);
    bool is_none = mode && strcmp(mode, "none") == 0, is_auto = mode && strcmp(mode, "auto") == 0;
    *tools = NULL;
    if (all && !json_is_array(all))
        return ap_refuse(refusal, 400, "tools", NULL, "'tools' must be an array");
    if (json_array_size(all) > AP_OPENAI_TOOLS_MAX)
        return ap_refuse(refusal, 400, "tools", NULL, "'tools' has %zu entries, the limit is %d",
                         json_array_size(all), AP_OPENAI_TOOLS_MAX);
    for (size_t i = 0; i < json_array_size(all); i++)
        if (!check_tool(all, i, refusal))
            return false;
    if (choice && (json_is_object(choice) || (mode && strcmp(mode, "required") == 0)))
        return ap_refuse(
            refusal, 400, "tool_choice", "unsupported_field",
            "'tool_choice' can be 'none' or 'auto' in this release: no model can be forced to make a call");
    if (choice && !is_none && !is_auto)
        return ap_refuse(refusal, 400, "tool_choice", NULL, "'tool_choice' must be 'none' or 'auto'");
    if (json_array_size(all) > 0 && !is_none)
        *tools = all;
    return true;
}
