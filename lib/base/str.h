/* str.h - borrowed bytes with a length, and a growing buffer with a limit.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_BASE_STR_H
#define AP_BASE_STR_H

#include <string.h>
#include "base/error.h"

/* Borrowed: whoever made the bytes owns them.  Not NUL-terminated, any bytes. */
typedef struct ap_str {
    const char *ptr;
    size_t len;
} ap_str;

#define AP_STR(literal) ((ap_str){literal, sizeof(literal) - 1})

static inline ap_str ap_str_from(const char *text) { return (ap_str){text, text ? strlen(text) : 0}; }
static inline bool ap_str_equal(ap_str a, ap_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}
static inline bool ap_str_is(ap_str a, const char *text) { return ap_str_equal(a, ap_str_from(text)); }
static inline bool ap_str_starts(ap_str a, ap_str prefix)
{
    return a.len >= prefix.len && (prefix.len == 0 || memcmp(a.ptr, prefix.ptr, prefix.len) == 0);
}

/* The text without spaces, tabs and line ends around it. */
ap_str ap_str_trim(ap_str text);
/* The next line of a text, without its end (\n or \r\n), taken off `rest`; the last may have no end. */
ap_str ap_str_next_line(ap_str *rest);
/* Adds to the text that is in `text`, of `room` bytes with its NUL; what does not fit is left out. */
void ap_str_append(char *text, size_t room, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A buffer that grows up to `limit` bytes.  Zero is a valid empty buffer with
 * no limit but memory.  The bytes are always followed by a NUL once anything
 * was added.  After a failure the content is unchanged. */
typedef struct ap_buf {
    char *ptr;
    size_t len;
    size_t room;
    size_t limit; /* 0: none */
} ap_buf;

/* AP_E_LIMIT beyond the limit, AP_E_NOMEM. */
ap_status ap_buf_reserve(ap_buf *buf, size_t more, ap_error *err);
ap_status ap_buf_add(ap_buf *buf, const void *bytes, size_t count, ap_error *err);
ap_status ap_buf_add_str(ap_buf *buf, ap_str text, ap_error *err);
ap_status ap_buf_add_char(ap_buf *buf, char c, ap_error *err);
ap_status ap_buf_printf(ap_buf *buf, ap_error *err, const char *format, ...) __attribute__((format(printf, 3, 4)));
void ap_buf_clear(ap_buf *buf);
void ap_buf_deinit(ap_buf *buf);
static inline ap_str ap_buf_str(const ap_buf *buf) { return (ap_str){buf->ptr, buf->len}; }

#endif
