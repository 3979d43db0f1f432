/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/alloc.h"

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

ap_str ap_str_trim(ap_str text)
{
    while (text.len && is_space(text.ptr[0]))
        text = (ap_str){text.ptr + 1, text.len - 1};
    while (text.len && is_space(text.ptr[text.len - 1]))
        text.len--;
    return text;
}

ap_str ap_str_next_line(ap_str *rest)
{
    const char *end = rest->len ? memchr(rest->ptr, '\n', rest->len) : NULL; /* an empty text may have no bytes at all */
    size_t n = end ? (size_t)(end - rest->ptr) : rest->len;
    ap_str line = {rest->ptr, n};
    *rest = (ap_str){rest->ptr + n + (end != NULL), rest->len - n - (end != NULL)};
    if (line.len && line.ptr[line.len - 1] == '\r')
        line.len--;
    return line;
}

void ap_str_append(char *text, size_t room, const char *format, ...)
{
    size_t used = strlen(text);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text + used, room - used, format, args);
    va_end(args);
}

ap_status ap_buf_reserve(ap_buf *buf, size_t more, ap_error *err)
{
    if (more > SIZE_MAX / 2 - buf->len - 1)
        return ap_fail_nomem(err, SIZE_MAX);
    size_t need = buf->len + more;
    if (buf->limit && need > buf->limit)
        return ap_fail(err, AP_E_LIMIT, "text of %zu bytes is longer than the limit of %zu", need, buf->limit);
    if (need + 1 <= buf->room)
        return AP_OK;
    size_t room = buf->room ? buf->room : 64;
    while (room < need + 1)
        room *= 2;
    char *grown = ap_realloc(buf->ptr, room);
    if (!grown)
        return ap_fail_nomem(err, room);
    buf->ptr = grown;
    buf->room = room;
    buf->ptr[buf->len] = 0;
    return AP_OK;
}

ap_status ap_buf_add(ap_buf *buf, const void *bytes, size_t count, ap_error *err)
{
    AP_TRY(ap_buf_reserve(buf, count, err));
    if (count)
        memcpy(buf->ptr + buf->len, bytes, count);
    buf->len += count;
    buf->ptr[buf->len] = 0;
    return AP_OK;
}

ap_status ap_buf_add_str(ap_buf *buf, ap_str text, ap_error *err) { return ap_buf_add(buf, text.ptr, text.len, err); }

ap_status ap_buf_add_char(ap_buf *buf, char c, ap_error *err) { return ap_buf_add(buf, &c, 1, err); }

ap_status ap_buf_printf(ap_buf *buf, ap_error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0)
        return ap_fail(err, AP_E_ARG, "text could not be formatted");
    AP_TRY(ap_buf_reserve(buf, (size_t)n, err));
    va_start(args, format);
    (void)vsnprintf(buf->ptr + buf->len, (size_t)n + 1, format, args);
    va_end(args);
    buf->len += (size_t)n;
    return AP_OK;
}

void ap_buf_clear(ap_buf *buf)
{
    buf->len = 0;
    if (buf->ptr)
        buf->ptr[0] = 0;
}

void ap_buf_deinit(ap_buf *buf)
{
    ap_free(buf->ptr);
    *buf = (ap_buf){0};
}
