/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <float.h>
#include <stdio.h>

/* Longer ones may not fit 64 bits: 10^18 - 1 does, 10^19 - 1 does not. */
enum { INTEGER_DIGITS_SAFE = 18, KEY_SHOWN_MAX = 63 };

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Not a parser: steps over the strings of a text and stops at every other byte. */
typedef struct scan {
    ap_str text;
    size_t at;
} scan;

static bool next_outside(scan *s, char *out)
{
    while (s->at < s->text.len) {
        char c = s->text.ptr[s->at++];
        if (c != '"') {
            *out = c;
            return true;
        }
        while (s->at < s->text.len && s->text.ptr[s->at] != '"')
            s->at += s->text.ptr[s->at] == '\\' ? 2 : 1;
        s->at++;
    }
    return false;
}

/* Counts at least as many values as the parser will make, and looks for long integers. */
static ap_status check_size(ap_str text, ap_json_limits limits, bool *has_long, ap_error *err)
{
    size_t depth = 0, values = 1, digits = 0;
    scan s = {.text = text};
    char c;
    while (next_outside(&s, &c)) {
        digits = is_digit(c) ? digits + 1 : 0;
        *has_long = *has_long || digits > INTEGER_DIGITS_SAFE;
        if (c == '[' || c == '{') {
            values++;
            if (++depth > AP_JSON_NESTING_MAX)
                return ap_fail(err, AP_E_LIMIT, "the JSON is nested deeper than the limit of %d at byte %zu",
                               AP_JSON_NESTING_MAX, s.at - 1);
        } else if (c == ']' || c == '}') {
            depth -= depth > 0;
        } else if (c == ',') {
            values++;
        }
        if (values > limits.values_max)
            return ap_fail(err, AP_E_LIMIT, "the JSON has more values than the limit of %zu at byte %zu", limits.values_max,
                           s.at - 1);
    }
    return AP_OK;
}

/* A copy in which integers that may not fit 64 bits are written as real numbers. */
static ap_status widen_integers(ap_str text, ap_buf *out, ap_error *err)
{
    scan s = {.text = text};
    size_t copied = 0;
    char c;
    while (next_outside(&s, &c)) {
        if (!is_digit(c))
            continue;
        size_t first = s.at - 1;
        while (s.at < text.len && is_digit(text.ptr[s.at]))
            s.at++;
        bool is_long = s.at - first > INTEGER_DIGITS_SAFE;
        bool is_integer = s.at == text.len || !memchr(".eE", text.ptr[s.at], 3);
        if (is_long && is_integer) {
            AP_TRY(ap_buf_add(out, text.ptr + copied, s.at - copied, err));
            AP_TRY(ap_buf_add(out, "e0", 2, err));
            copied = s.at;
        }
        while (s.at < text.len && (is_digit(text.ptr[s.at]) || memchr(".eE+-", text.ptr[s.at], 5)))
            s.at++; /* the digits of a fraction or an exponent are no integer of their own */
    }
    return ap_buf_add(out, text.ptr + copied, text.len - copied, err);
}

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

/* The key before a value that could not be read, empty if none is near: back over the value and the colon. */
static ap_str key_before(ap_str text, size_t at)
{
    size_t i = at < text.len ? at : text.len;
    while (i > 0 && !is_space(text.ptr[i - 1]) && !memchr(":,[{\"", text.ptr[i - 1], 5))
        i--;
    while (i > 0 && is_space(text.ptr[i - 1]))
        i--;
    if (i == 0 || text.ptr[--i] != ':')
        return (ap_str){0};
    while (i > 0 && is_space(text.ptr[i - 1]))
        i--;
    if (i == 0 || text.ptr[--i] != '"')
        return (ap_str){0};
    size_t end = i;
    while (i > 0 && text.ptr[i - 1] != '"' && end - i < KEY_SHOWN_MAX)
        i--;
    return (ap_str){text.ptr + i, end - i};
}

static ap_status parse_whole(json_t **out, ap_str text, ap_error *err)
{
    json_error_t why;
    *out = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &why);
    if (*out)
        return AP_OK;
    if (json_error_code(&why) == json_error_out_of_memory)
        return ap_fail_nomem(err, text.len);
    ap_str key = key_before(text, why.position > 0 ? (size_t)why.position : 0);
    return ap_fail(err, AP_E_FORMAT, "this is not valid JSON: %s (line %d, column %d)%s%.*s%s", why.text, why.line, why.column,
                   key.len ? ", in the value of '" : "", (int)key.len, key.ptr, key.len ? "'" : "");
}

ap_status ap_json_parse(json_t **out, ap_str text, ap_json_limits limits, ap_error *err)
{
    *out = NULL;
    if (text.len == 0)
        return ap_fail(err, AP_E_FORMAT, "this is not valid JSON: it is empty");
    if (text.len > limits.bytes_max)
        return ap_fail(err, AP_E_LIMIT, "the JSON has %zu bytes; the limit is %zu", text.len, limits.bytes_max);
    const char *nul = memchr(text.ptr, 0, text.len); /* jansson would step over it */
    if (nul)
        return ap_fail(err, AP_E_FORMAT, "this is not valid JSON: byte %zu is NUL", (size_t)(nul - text.ptr));
    bool has_long = false;
    AP_TRY(check_size(text, limits, &has_long, err));
    if (!has_long)
        return parse_whole(out, text, err);
    ap_buf wide = {0};
    ap_status status = widen_integers(text, &wide, err);
    if (status == AP_OK)
        status = parse_whole(out, ap_buf_str(&wide), err);
    ap_buf_deinit(&wide);
    return status;
}

/* ---- Lookups ---- */

/* The item of an array, or NULL if the segment is no index in it. */
static const json_t *item_of(const json_t *array, ap_str segment)
{
    size_t index = 0;
    if (segment.len == 0 || segment.len > 9)
        return NULL;
    for (size_t i = 0; i < segment.len; i++) {
        if (!is_digit(segment.ptr[i]))
            return NULL;
        index = index * 10 + (size_t)(segment.ptr[i] - '0');
    }
    return json_array_get(array, index);
}

const json_t *ap_json_find(const json_t *root, const char *path)
{
    const json_t *value = root;
    while (value) {
        size_t length = strcspn(path, ".");
        value = json_is_array(value) ? item_of(value, (ap_str){path, length}) : json_object_getn(value, path, length);
        if (path[length] == 0)
            break;
        path += length + 1;
    }
    return json_is_null(value) ? NULL : value;
}

const char *ap_json_kind_name(const json_t *value)
{
    if (!value)
        return "absent";
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a real number";
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    case JSON_NULL: return "null";
    }
    return "unknown";
}

static ap_status find_value(const json_t *root, const char *path, const json_t **out, ap_error *err)
{
    *out = ap_json_find(root, path);
    return *out ? AP_OK : ap_fail(err, AP_E_NOTFOUND, "'%s' is missing", path);
}

static ap_status refuse_kind(const json_t *value, const char *path, const char *needed, ap_error *err)
{
    return ap_fail(err, AP_E_FORMAT, "'%s' is %s; %s is needed", path, ap_json_kind_name(value), needed);
}

static ap_status get_unsigned(const json_t *root, const char *path, uint64_t max, uint64_t *out, ap_error *err)
{
    const json_t *value;
    AP_TRY(find_value(root, path, &value, err));
    if (!json_is_integer(value))
        return refuse_kind(value, path, "an integer", err);
    json_int_t number = json_integer_value(value);
    if (number < 0 || (uint64_t)number > max)
        return ap_fail(err, AP_E_FORMAT, "'%s' is %" PRId64 "; a number from 0 to %" PRIu64 " is needed", path, (int64_t)number,
                       max);
    *out = (uint64_t)number;
    return AP_OK;
}

ap_status ap_json_get_u32(const json_t *root, const char *path, uint32_t *out, ap_error *err)
{
    uint64_t wide;
    AP_TRY(get_unsigned(root, path, UINT32_MAX, &wide, err));
    *out = (uint32_t)wide;
    return AP_OK;
}

ap_status ap_json_get_u64(const json_t *root, const char *path, uint64_t *out, ap_error *err)
{
    return get_unsigned(root, path, INT64_MAX, out, err);
}

ap_status ap_json_get_f32(const json_t *root, const char *path, float *out, ap_error *err)
{
    const json_t *value;
    AP_TRY(find_value(root, path, &value, err));
    if (!json_is_number(value))
        return refuse_kind(value, path, "a number", err);
    double number = json_number_value(value);
    if (!(number >= -FLT_MAX && number <= FLT_MAX))
        return ap_fail(err, AP_E_FORMAT, "'%s' is %g; a number of at most %g is needed", path, number, (double)FLT_MAX);
    *out = (float)number;
    return AP_OK;
}

ap_status ap_json_get_bool(const json_t *root, const char *path, bool *out, ap_error *err)
{
    const json_t *value;
    AP_TRY(find_value(root, path, &value, err));
    if (!json_is_boolean(value))
        return refuse_kind(value, path, "true or false", err);
    *out = json_is_true(value);
    return AP_OK;
}

ap_status ap_json_get_str(const json_t *root, const char *path, ap_str *out, ap_error *err)
{
    const json_t *value;
    AP_TRY(find_value(root, path, &value, err));
    if (!json_is_string(value))
        return refuse_kind(value, path, "a string", err);
    *out = (ap_str){json_string_value(value), json_string_length(value)};
    return AP_OK;
}

ap_status ap_json_get_object(const json_t *root, const char *path, const json_t **out, ap_error *err)
{
    const json_t *value;
    AP_TRY(find_value(root, path, &value, err));
    if (!json_is_object(value))
        return refuse_kind(value, path, "an object", err);
    *out = value;
    return AP_OK;
}

ap_status ap_json_get_array(const json_t *root, const char *path, const json_t **out, ap_error *err)
{
    const json_t *value;
    AP_TRY(find_value(root, path, &value, err));
    if (!json_is_array(value))
        return refuse_kind(value, path, "an array", err);
    *out = value;
    return AP_OK;
}

static int add_bytes(const char *bytes, size_t count, void *out) { return ap_buf_add(out, bytes, count, NULL) == AP_OK ? 0 : -1; }

ap_status ap_json_print(const json_t *value, size_t flags, ap_buf *out, ap_error *err)
{
    return json_dump_callback(value, add_bytes, out, flags | JSON_ENCODE_ANY) == 0 ? AP_OK : ap_fail_nomem(err, out->len);
}
