/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/json_limits.h"

#include <ctype.h>
#include <stdio.h>

#include "base/utf8.h"

/* Not a parser: it only has to count at least as much as the parser will make. */
static bool check_size(ap_str body, ap_refusal *refusal)
{
    size_t depth = 0, values = 0;
    bool in_text = false;
    for (size_t i = 0; i < body.len; i++) {
        char c = body.ptr[i];
        if (in_text) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_text = false;
            continue;
        }
        if (c == '"') {
            in_text = true;
        } else if (c == '[' || c == '{') {
            values++;
            if (++depth > AP_JSON_DEPTH_MAX)
                return ap_refuse(refusal, 400, NULL, "json_too_deep",
                                 "the JSON body is nested deeper than the limit of %d at byte %zu", AP_JSON_DEPTH_MAX, i);
        } else if (c == ']' || c == '}') {
            depth -= depth > 0;
        } else if (c == ',') {
            values++;
        }
        if (values > AP_JSON_VALUES_MAX)
            return ap_refuse(refusal, 400, NULL, "json_too_large", "the JSON body has more values than the limit of %d",
                             AP_JSON_VALUES_MAX);
    }
    return true;
}

/* The key before a value that could not be read: back over the value, the colon, to the key's quotes. */
static void name_field(ap_str body, size_t at, char *name, size_t bytes)
{
    name[0] = 0;
    size_t i = at < body.len ? at : body.len;
    while (i > 0 && (isalnum((unsigned char)body.ptr[i - 1]) || strchr("+-.", body.ptr[i - 1])))
        i--;
    while (i > 0 && strchr(" \t\r\n", body.ptr[i - 1]))
        i--;
    if (i == 0 || body.ptr[--i] != ':')
        return;
    while (i > 0 && strchr(" \t\r\n", body.ptr[i - 1]))
        i--;
    if (i == 0 || body.ptr[--i] != '"')
        return;
    size_t end = i;
    while (i > 0 && (isalnum((unsigned char)body.ptr[i - 1]) || body.ptr[i - 1] == '_'))
        i--;
    if (i > 0 && body.ptr[i - 1] == '"' && end - i < bytes)
        (void)snprintf(name, bytes, "%.*s", (int)(end - i), body.ptr + i);
}

json_t *ap_json_read(ap_str body, ap_refusal *refusal)
{
    if (body.len == 0) {
        (void)ap_refuse(refusal, 400, NULL, "invalid_json", "the body is empty; a JSON object is expected");
        return NULL;
    }
    if (!ap_utf8_valid(body)) {
        (void)ap_refuse(refusal, 400, NULL, "invalid_utf8", "the body is not valid UTF-8");
        return NULL;
    }
    if (memchr(body.ptr, 0, body.len)) { /* jansson would step over it */
        (void)ap_refuse(refusal, 400, NULL, "invalid_json", "the body has a NUL byte");
        return NULL;
    }
    if (!check_size(body, refusal))
        return NULL;
    json_error_t detail;
    json_t *root = json_loadb(body.ptr, body.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &detail);
    if (!root) {
        char name[64];
        name_field(body, detail.position > 0 ? (size_t)detail.position : 0, name, sizeof name);
        (void)ap_refuse(refusal, 400, name, "invalid_json", "the body is not valid JSON: %s (line %d, column %d)%s%s%s",
                        detail.text, detail.line, detail.column, name[0] ? ", in the value of '" : "", name,
                        name[0] ? "'" : "");
        return NULL;
    }
    if (!json_is_object(root)) {
        json_decref(root);
        (void)ap_refuse(refusal, 400, NULL, "invalid_json", "the body is JSON, but not an object");
        return NULL;
    }
    return root;
}
