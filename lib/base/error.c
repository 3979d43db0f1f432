/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

const char *ap_status_text(ap_status status)
{
    switch (status) {
#define X(number, name, text) \
    case AP_##name:           \
        return text;
        AP_STATUS_LIST(X)
#undef X
    }
    return "unknown status";
}

/* Names out of a stranger's file go into messages, and messages to terminals and into JSON: what is left is UTF-8
 * in one line that cannot act.  It never grows. */
static void make_one_line(char *text)
{
    size_t left = strlen(text), length;
    char *out = text;
    for (const char *p = text; left > 0; p += length, left -= length) {
        if (ap_utf8_is_inert(ap_utf8_next(p, left, &length))) {
            memmove(out, p, length);
            out += length;
        } else {
            *out++ = '?';
        }
    }
    *out = 0;
}

void ap_error_write(ap_error *err, ap_status status, const char *format, ...)
{
    if (!err)
        return;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    err->status = status;
    make_one_line(err->message);
}

void ap_error_prefix(ap_error *err, const char *prefix)
{
    if (!err)
        return;
    char old[sizeof err->message];
    memcpy(old, err->message, sizeof old);
    int n = snprintf(err->message, sizeof err->message, "%.200s: ", prefix);
    if (n > 0 && (size_t)n < sizeof err->message) {
        size_t room = sizeof err->message - (size_t)n - 1;
        size_t length = strlen(old);
        if (length > room)
            length = room;
        memcpy(err->message + n, old, length);
        err->message[(size_t)n + length] = 0;
    }
    make_one_line(err->message);
}
