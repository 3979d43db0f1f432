/* calls_scan.h - the small questions calls.c asks of text: where JSON ends, which key this is, what a header
 * says.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEXT_CALLS_SCAN_H
#define AP_TEXT_CALLS_SCAN_H

#include "text/calls.h"

/* Where a value of JSON ends, without a look at whether it is one. */
typedef struct ap_call_tracker {
    uint32_t depth;
    bool in_string, is_escaped, is_scalar, has_begun, is_over;
} ap_call_tracker;

/* Takes one byte; is_over is set by the last byte of an object, array or string, and before the first byte
 * behind another value, which is then not taken: the result says whether it was. */
bool ap_call_track(ap_call_tracker *tracker, char byte);
/* The same for brackets and strings of Python, from behind the first bracket, whose depth is 1: true at the
 * one that closes it.  is_scalar: the open string has the quote '. */
bool ap_call_track_python(ap_call_tracker *tracker, char byte);

/* The keys of a call that matter. */
typedef enum ap_call_key { KEY_OTHER, KEY_NAME, KEY_ARGUMENTS, KEY_ID, KEY_CALL, KEY_CALLS } ap_call_key;

ap_call_key ap_call_key_of(ap_str text);

/* The text of a JSON string; *is_text is false if it is none. */
ap_status ap_call_decode(ap_str json, ap_buf *out, bool *is_text, ap_error *err);

bool ap_call_is_space(char byte);
/* Of a function's name; `-` and `.` are no Python, but tools are named so. */
bool ap_call_is_name_byte(char byte, bool is_first);

/* How harmony's marks stand in a header that is kept as text. */
enum { AP_HEADER_CHANNEL = 1, AP_HEADER_CONSTRAIN = 2 };

/* The word after `before`, which stands at the start or after a space or mark; empty: not there. */
ap_str ap_call_header_word(ap_str header, ap_str before);

#endif
