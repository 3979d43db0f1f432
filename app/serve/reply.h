/* reply.h - what the API answers, in a form that knows no sockets.
 *
 * The API fills a reply: status and headers once, then bytes, then "complete".
 * Whoever carries it (the server, a test) is woken at each change and
 * takes bytes from the front.  The status stays 0 until the first byte may go
 * out: for a stream that is when the worker has accepted the request, for
 * all else when the answer is whole.
 *
 * One thread.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_SERVE_REPLY_H
#define AP_SERVE_REPLY_H

#include "base/str.h"

enum {
    AP_REPLY_HEADERS_MAX = 4,
    AP_REPLY_HEADER_BYTES = 512, /* a value, with its NUL */
    AP_REPLY_UNSENT_BYTES_MAX = 4 * 1024 * 1024, /* of a stream: a reader this slow is let go */
    AP_REPLY_BODY_BYTES_MAX = 64 * 1024 * 1024   /* of an answer that is not streamed */
};

typedef struct ap_reply_header {
    const char *name; /* static */
    char value[AP_REPLY_HEADER_BYTES];
} ap_reply_header;

typedef struct ap_reply {
    int status;       /* 0: nothing may be sent yet */
    const char *type; /* static */
    ap_reply_header headers[AP_REPLY_HEADERS_MAX];
    size_t header_count;
    const char *asset; /* static bytes instead of `body`, or NULL */
    size_t asset_bytes;
    ap_buf body;
    size_t taken;     /* of body, by the carrier */
    bool is_stream;   /* the length is not known before the end */
    bool is_complete;
    bool is_broken;   /* memory or a bound ended: the connection can only be closed */
    void (*wake)(void *context); /* may be NULL */
    void *wake_context;
} ap_reply;

void ap_reply_deinit(ap_reply *reply);
/* The value is cut to fit; it must be visible ASCII by construction. */
void ap_reply_header_add(ap_reply *reply, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Bytes for the carrier.  Without memory, or when a stream's bytes are not fetched, the reply is broken. */
void ap_reply_add(ap_reply *reply, const void *bytes, size_t count);
/* A stream starts: the status may be sent. */
void ap_reply_begin_stream(ap_reply *reply, int status, const char *type);
/* All bytes are there; `status` and `type` only for what is not a stream. */
void ap_reply_complete(ap_reply *reply, int status, const char *type);

/* ---- Refusals ------------------------------------------------------------ */

/* Why a request is not answered, in OpenAI's terms. */
typedef struct ap_refusal {
    int status;
    const char *code; /* static, or NULL */
    char param[128];  /* empty: none */
    char message[600];
} ap_refusal;

/* Fills *refusal and returns false. */
bool ap_refuse(ap_refusal *refusal, int status, const char *param, const char *code, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* {"error":{"message":…,"type":…,"param":…,"code":…}} */
ap_status ap_refusal_write(ap_buf *out, const ap_refusal *refusal, ap_error *err);
/* The whole reply is this refusal, with Retry-After for 429 and 503. */
void ap_reply_refuse(ap_reply *reply, const ap_refusal *refusal);

/* Adds "text" with its quotes as a JSON string.  Bytes that are not UTF-8 become U+FFFD. */
ap_status ap_json_add_text(ap_buf *out, ap_str text, ap_error *err);

#endif
