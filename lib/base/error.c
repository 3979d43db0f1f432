/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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

/* Names out of a stranger's file go into messages: nothing in them may move the cursor. */
static void make_one_line(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p; p++)
        if (*p < 0x20 || *p == 0x7f)
            *p = '?';
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
