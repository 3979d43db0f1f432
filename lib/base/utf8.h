/* utf8.h - UTF-8 the way Unicode's table 3-7 has it: no overlong forms, no
 * surrogates, nothing above U+10FFFF.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_BASE_UTF8_H
#define AP_BASE_UTF8_H

#include "base/str.h"

enum { AP_UTF8_BAD = -1, AP_UTF8_SHORT = -2 };

/* Reads one code point from p[0..n), n > 0, and puts the number of bytes read in
 * *length.  AP_UTF8_BAD: no character starts so; *length is the length of the
 * maximal invalid part (1 to 3), which a decoder replaces by one U+FFFD.
 * AP_UTF8_SHORT: the bytes end inside a character that is right so far; *length
 * is what is there. */
int32_t ap_utf8_next(const char *p, size_t n, size_t *length);
/* Writes 1 to 4 bytes and returns how many; `code` must be a scalar value. */
size_t ap_utf8_put(uint32_t code, char out[4]);
bool ap_utf8_valid(ap_str text);
/* Whether what ap_utf8_next returned may stand in a line shown to people: not what is no character, a control, a
 * separator of lines or a mark of direction. */
bool ap_utf8_is_inert(int32_t code);
/* How many bytes at the end are the start of a character that is not complete: 0 to 3. */
size_t ap_utf8_tail(ap_str text);
/* Adds text, each maximal invalid part replaced by U+FFFD. */
ap_status ap_utf8_add_lossy(ap_buf *out, ap_str text, ap_error *err);

#endif
