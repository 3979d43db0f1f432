/* stream.h - tokens in, text out, while a model is still speaking.
 *
 * What comes out is whole UTF-8: a character whose bytes are spread over tokens waits (at most 3 bytes), an invalid
 * part becomes one U+FFFD.  *Stop strings* end the text: the stream is over as soon as one is complete, wherever in a
 * token it starts or ends; of several complete at the same byte the longest counts.  Nothing from the stop string on
 * comes out, so whatever may yet become one waits as well (at most its length).  The text does not depend on how
 * it was cut into tokens: all pieces joined give the same.
 *
 *     ap_stream_create(&stream, tokenizer, stops, stop_count, 0, err);
 *     for each token:  hit = ap_stream_push(stream, id, &text);  send text;  stop if hit >= 0
 *     text = ap_stream_finish(stream);  send text
 *
 * One per answer, for one thread.  Allocates on creation only: the longest piece three times, and the longest stop
 * string.  Time is linear in the text, whatever the stop strings (a state machine, no searching again).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEXT_STREAM_H
#define AP_TEXT_STREAM_H

#include "text/tokenizer.h"

enum { AP_STREAM_STOPS_MAX = 16, AP_STREAM_STOP_BYTES_MAX = 256 };

enum {
    AP_STREAM_SPECIAL = 1, /* control tokens are written out instead of left out */
    AP_STREAM_MARKS = 4,   /* and stand between 0xff and 0xfe, which the text has nowhere else; no stop string crosses one */
    AP_STREAM_START = 2    /* the tokens are a text from its start, not the continuation of a prompt: the space SPM
                            * puts before a text is taken away */
};

typedef struct ap_stream ap_stream;

/* The tokenizer must outlive the stream; stop strings are copied.  AP_E_LIMIT, AP_E_ARG for one that is empty or not
 * valid UTF-8. */
ap_status ap_stream_create(ap_stream **out, const ap_tokenizer *tokenizer, const char *const *stops, size_t stop_count,
                           unsigned flags, ap_error *err);
void ap_stream_destroy(ap_stream **stream);

/* Takes one token.  *text is what is certain now, maybe empty, valid until the next call.  Returns the index of the
 * stop string that is complete, else -1; after a stop there is no more text and the answer stays.  An id that is
 * none has no text. */
int32_t ap_stream_push(ap_stream *stream, int32_t id, ap_str *text);
/* No more tokens: what was held back, half a character as U+FFFD (which no longer completes a stop string).  Empty
 * after a stop. */
ap_str ap_stream_finish(ap_stream *stream);

#endif
