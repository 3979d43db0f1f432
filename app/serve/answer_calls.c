/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/answer_calls.h"

#include <sodium.h>

#include "base/alloc.h"
#include "serve/reply.h"

static void make_id(char id[AP_CALL_ID_LETTERS + 1])
{
    static const char letters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    for (size_t i = 0; i < AP_CALL_ID_LETTERS; i++)
        id[i] = letters[randombytes_uniform(sizeof letters - 1)];
    id[AP_CALL_ID_LETTERS] = 0;
}

static ap_status begin_call(ap_answer_calls *calls, ap_str name, ap_error *err)
{
    ap_answer_call *grown = ap_realloc_array(calls->items, calls->count + 1, sizeof *grown);
    if (!grown)
        return ap_fail_nomem(err, (calls->count + 1) * sizeof *grown);
    calls->items = grown;
    ap_answer_call *call = &grown[calls->count++];
    *call = (ap_answer_call){0};
    make_id(call->id);
    return ap_buf_add_str(&call->name, name, err);
}

static ap_str text_of(const json_t *value)
{
    return (ap_str){json_string_value(value), json_string_length(value)};
}

ap_status ap_answer_calls_take(ap_answer_calls *calls, const json_t *event, size_t most, ap_error *err)
{
    const json_t *piece;
    size_t i;
    json_array_foreach(event, i, piece)
    {
        const json_t *name = json_object_get(piece, "name");
        json_int_t index = json_integer_value(json_object_get(piece, "index"));
        if (index >= (json_int_t)most)
            continue;
        if (name && index == (json_int_t)calls->count)
            AP_TRY(begin_call(calls, text_of(name), err));
        else if (!name && index < (json_int_t)calls->count)
            AP_TRY(ap_buf_add_str(&calls->items[index].arguments,
                                  text_of(json_object_get(piece, "arguments")), err));
        else
            return ap_fail(err, AP_E_WORKER,
                           "the worker broke the protocol: call %" JSON_INTEGER_FORMAT " after %zu", index,
                           calls->count);
    }
    return AP_OK;
}

static ap_status write_call(ap_buf *out, const ap_answer_call *call, bool with_name, ap_error *err)
{
    if (with_name) {
        AP_TRY(
            ap_buf_printf(out, err, "\"id\":\"%s\",\"type\":\"function\",\"function\":{\"name\":", call->id));
        AP_TRY(ap_json_add_text(out, ap_buf_str(&call->name), err));
        AP_TRY(ap_buf_add_char(out, ',', err));
    } else {
        AP_TRY(ap_buf_add_str(out, AP_STR("\"function\":{"), err));
    }
    AP_TRY(ap_buf_add_str(out, AP_STR("\"arguments\":"), err));
    AP_TRY(ap_json_add_text(out, ap_buf_str(&call->arguments), err));
    return ap_buf_add_str(out, AP_STR("}}"), err);
}

ap_status ap_answer_calls_write(const ap_answer_calls *calls, ap_buf *out, ap_error *err)
{
    for (size_t i = 0; i < calls->count; i++) {
        AP_TRY(ap_buf_add_str(out, i ? AP_STR(",{") : AP_STR("[{"), err));
        AP_TRY(write_call(out, &calls->items[i], true, err));
    }
    return ap_buf_add_str(out, calls->count ? AP_STR("]") : AP_STR("[]"), err);
}

static bool is_new(const ap_answer_call *call) { return !call->is_told || call->arguments.len; }

ap_status ap_answer_calls_write_new(const ap_answer_calls *calls, ap_buf *out, ap_error *err)
{
    const char *open = "[";
    for (size_t i = 0; i < calls->count; i++) {
        if (!is_new(&calls->items[i]))
            continue;
        AP_TRY(ap_buf_printf(out, err, "%s{\"index\":%zu,", open, i));
        AP_TRY(write_call(out, &calls->items[i], !calls->items[i].is_told, err));
        open = ",";
    }
    return ap_buf_add_str(out, *open == '[' ? AP_STR("[]") : AP_STR("]"), err);
}

bool ap_answer_calls_has_new(const ap_answer_calls *calls)
{
    for (size_t i = calls->count; i-- > 0;)
        if (is_new(&calls->items[i]))
            return true;
    return false;
}

void ap_answer_calls_told(ap_answer_calls *calls)
{
    for (size_t i = 0; i < calls->count; i++) {
        calls->items[i].is_told = true;
        ap_buf_clear(&calls->items[i].name);
        ap_buf_clear(&calls->items[i].arguments);
    }
}

size_t ap_answer_calls_bytes(const ap_answer_calls *calls)
{
    size_t bytes = 0;
    for (size_t i = 0; i < calls->count; i++)
        bytes += calls->items[i].name.len + calls->items[i].arguments.len;
    return bytes;
}

void ap_answer_calls_deinit(ap_answer_calls *calls)
{
    for (size_t i = 0; i < calls->count; i++) {
        ap_buf_deinit(&calls->items[i].name);
        ap_buf_deinit(&calls->items[i].arguments);
    }
    ap_free(calls->items);
    *calls = (ap_answer_calls){0};
}
