/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/reply.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/utf8.h"

void ap_reply_deinit(ap_reply *reply) { ap_buf_deinit(&reply->body); }

static void wake(ap_reply *reply)
{
    if (reply->wake)
        reply->wake(reply->wake_context);
}

static void break_off(ap_reply *reply)
{
    reply->is_broken = true;
    wake(reply);
}

void ap_reply_header_add(ap_reply *reply, const char *name, const char *format, ...)
{
    if (reply->header_count == AP_REPLY_HEADERS_MAX)
        return;
    ap_reply_header *header = &reply->headers[reply->header_count++];
    header->name = name;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(header->value, sizeof header->value, format, arguments);
    va_end(arguments);
}

void ap_reply_add(ap_reply *reply, const void *bytes, size_t count)
{
    if (reply->is_broken || reply->is_complete)
        return;
    if (reply->taken == reply->body.len) {
        ap_buf_clear(&reply->body);
        reply->taken = 0;
    } else if (reply->taken > 65536) { /* what was taken goes, but not at every byte */
        memmove(reply->body.ptr, reply->body.ptr + reply->taken, reply->body.len - reply->taken);
        reply->body.len -= reply->taken;
        reply->taken = 0;
    }
    size_t bound = reply->is_stream ? AP_REPLY_UNSENT_BYTES_MAX : AP_REPLY_BODY_BYTES_MAX;
    if (count > bound || reply->body.len - reply->taken > bound - count ||
        ap_buf_add(&reply->body, bytes, count, NULL) != AP_OK) {
        break_off(reply);
        return;
    }
    if (reply->is_stream)
        wake(reply);
}

void ap_reply_begin_stream(ap_reply *reply, int status, const char *type)
{
    reply->is_stream = true;
    reply->status = status;
    reply->type = type;
    wake(reply);
}

void ap_reply_complete(ap_reply *reply, int status, const char *type)
{
    reply->is_complete = true;
    if (!reply->is_stream) {
        reply->status = status;
        reply->type = type;
    }
    wake(reply);
}

/* ---- Refusals ------------------------------------------------------------ */

bool ap_refuse(ap_refusal *refusal, int status, const char *param, const char *code, const char *format, ...)
{
    refusal->status = status;
    refusal->code = code;
    (void)snprintf(refusal->param, sizeof refusal->param, "%s", param ? param : "");
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(refusal->message, sizeof refusal->message, format, arguments);
    va_end(arguments);
    return false;
}

static const char *type_of(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 429:
        return "rate_limit_exceeded";
    default:
        return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

ap_status ap_refusal_write(ap_buf *out, const ap_refusal *refusal, ap_error *err)
{
    AP_TRY(ap_buf_add_str(out, AP_STR("{\"error\":{\"message\":"), err));
    AP_TRY(ap_json_add_text(out, ap_str_from(refusal->message), err));
    AP_TRY(ap_buf_printf(out, err, ",\"type\":\"%s\",\"param\":", type_of(refusal->status)));
    if (refusal->param[0])
        AP_TRY(ap_json_add_text(out, ap_str_from(refusal->param), err));
    else
        AP_TRY(ap_buf_add_str(out, AP_STR("null"), err));
    if (refusal->code)
        return ap_buf_printf(out, err, ",\"code\":\"%s\"}}", refusal->code);
    return ap_buf_add_str(out, AP_STR(",\"code\":null}}"), err);
}

void ap_reply_refuse(ap_reply *reply, const ap_refusal *refusal)
{
    ap_buf text = {0};
    if (ap_refusal_write(&text, refusal, NULL) == AP_OK)
        ap_reply_add(reply, text.ptr, text.len);
    else
        break_off(reply);
    ap_buf_deinit(&text);
    if (refusal->status == 429 || refusal->status == 503)
        ap_reply_header_add(reply, "Retry-After", "1");
    ap_reply_complete(reply, refusal->status, "application/json");
}

/* ---- JSON ---------------------------------------------------------------- */

ap_status ap_json_add_text(ap_buf *out, ap_str text, ap_error *err)
{
    size_t start = 0, i = 0;
    AP_TRY(ap_buf_add_char(out, '"', err));
    while (i < text.len) {
        unsigned char c = (unsigned char)text.ptr[i];
        size_t length = 1;
        bool is_bad = c >= 0x80 && ap_utf8_next(text.ptr + i, text.len - i, &length) < 0;
        if (!is_bad && c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
            i += length;
            continue;
        }
        AP_TRY(ap_buf_add(out, text.ptr + start, i - start, err));
        if (is_bad)
            AP_TRY(ap_buf_add_str(out, AP_STR("\xef\xbf\xbd"), err));
        else if (c == '"' || c == '\\')
            AP_TRY(ap_buf_printf(out, err, "\\%c", c));
        else if (c == '\n')
            AP_TRY(ap_buf_add_str(out, AP_STR("\\n"), err));
        else
            AP_TRY(ap_buf_printf(out, err, "\\u%04x", c));
        i += length;
        start = i;
    }
    AP_TRY(ap_buf_add(out, text.ptr + start, i - start, err));
    return ap_buf_add_char(out, '"', err);
}
