/* SPDX-License-Identifier: Apache-2.0 */
#include "text/calls_scan.h"

#include "base/json.h"

bool ap_call_is_space(char byte) { return byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r'; }

bool ap_call_is_name_byte(char byte, bool is_first)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_' ||
           (!is_first && ((byte >= '0' && byte <= '9') || byte == '.' || byte == '-'));
}

bool ap_call_track(ap_call_tracker *t, char byte)
{
    if (!t->has_begun) {
        t->has_begun = true;
        t->in_string = byte == '"';
        t->depth = byte == '{' || byte == '[';
        t->is_scalar = !t->in_string && !t->depth;
        return true;
    }
    if (t->is_scalar) {
        t->is_over = ap_call_is_space(byte) || byte == ',' || byte == '}' || byte == ']';
        return !t->is_over;
    }
    if (t->in_string) {
        if (t->is_escaped)
            t->is_escaped = false;
        else if (byte == '\\')
            t->is_escaped = true;
        else if (byte == '"')
            t->in_string = false;
    } else if (byte == '"') {
        t->in_string = true;
    } else if (byte == '{' || byte == '[') {
        t->depth++;
    } else if (byte == '}' || byte == ']') {
        t->depth--;
    }
    t->is_over = !t->in_string && t->depth == 0;
    return true;
}

bool ap_call_track_python(ap_call_tracker *t, char byte)
{
    if (t->in_string) {
        if (t->is_escaped)
            t->is_escaped = false;
        else if (byte == '\\')
            t->is_escaped = true;
        else if (byte == (t->is_scalar ? '\'' : '"'))
            t->in_string = false;
    } else if (byte == '"' || byte == '\'') {
        t->in_string = true;
        t->is_scalar = byte == '\'';
    } else if (byte == '(' || byte == '[' || byte == '{') {
        t->depth++;
    } else if (byte == ')' || byte == ']' || byte == '}') {
        return --t->depth == 0;
    }
    return false;
}

ap_status ap_call_decode(ap_str json, ap_buf *out, bool *is_text, ap_error *err)
{
    ap_buf list = {0}; /* a value alone is no document for the reader */
    json_t *root = NULL;
    ap_buf_clear(out);
    ap_status status = ap_buf_printf(&list, err, "[%.*s]", (int)json.len, json.ptr);
    *is_text = status == AP_OK &&
               ap_json_parse(&root, ap_buf_str(&list), (ap_json_limits){AP_CALL_HELD_BYTES_MAX + 2, 2},
                             NULL) == AP_OK &&
               json_is_string(json_array_get(root, 0));
    const json_t *text = json_array_get(root, 0);
    if (*is_text)
        status = ap_buf_add(out, json_string_value(text), json_string_length(text), err);
    json_decref(root);
    ap_buf_deinit(&list);
    return status;
}

ap_call_key ap_call_key_of(ap_str text)
{
    static const struct {
        const char *text;
        ap_call_key key;
    } keys[] = {{"name", KEY_NAME}, {"arguments", KEY_ARGUMENTS}, {"parameters", KEY_ARGUMENTS},
                {"id", KEY_ID},     {"tool_call", KEY_CALL},      {"tool_calls", KEY_CALLS}};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (ap_str_is(text, keys[i].text))
            return keys[i].key;
    return KEY_OTHER;
}

ap_str ap_call_header_word(ap_str header, ap_str before)
{
    for (size_t i = 0; i + before.len <= header.len; i++) {
        unsigned char last = i ? (unsigned char)header.ptr[i - 1] : 0;
        bool is_start =
            last <= AP_HEADER_CONSTRAIN || before.ptr[0] == AP_HEADER_CHANNEL || ap_call_is_space((char)last);
        if (!is_start || memcmp(header.ptr + i, before.ptr, before.len) != 0)
            continue;
        ap_str word = {header.ptr + i + before.len, 0};
        while (i + before.len + word.len < header.len && (unsigned char)word.ptr[word.len] > ' ')
            word.len++;
        return word;
    }
    return (ap_str){0};
}
