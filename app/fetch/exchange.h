/* exchange.h - one request and its answer: what transfer.c and download.c share.
 *
 * An exchange is begun, runs in the transfer's multi handle, and is judged at its end.  Redirects are followed by
 * beginning it again at the next address.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_FETCH_EXCHANGE_H
#define AP_FETCH_EXCHANGE_H

#include <curl/curl.h>

#include "fetch/address.h"
#include "fetch/transfer.h"

struct ap_transfer {
    ap_transfer_options options;
    CURLM *multi;
};

typedef enum ap_verdict {
    AP_VERDICT_ANSWERED,   /* look at code */
    AP_VERDICT_REDIRECTED, /* begin again: the address is the next one */
    AP_VERDICT_CUT,        /* begin again after ap_transfer_retry */
    AP_VERDICT_FAILED      /* error says why */
} ap_verdict;

typedef struct ap_exchange ap_exchange;
struct ap_exchange {
    ap_transfer *transfer;
    const ap_transfer_request *request;
    char address[AP_ADDRESS_ROOM]; /* where it is asked now */
    bool has_left;                 /* the origin of the request's address: no Authorization any more */
    unsigned redirects;
    char range[64];                     /* "0-99", or empty */
    char validator[AP_TRANSFER_ETAG_MAX]; /* for If-Range, or empty */

    /* Told the head of an answer with a 2xx code, then its body; a failure ends the exchange. */
    ap_status (*on_head)(ap_exchange *self, ap_error *err);
    ap_status (*on_body)(ap_exchange *self, const void *bytes, size_t count, ap_error *err);
    void *context;

    CURL *easy;
    struct curl_slist *lines;
    ap_buf head;
    unsigned head_lines;
    size_t head_bytes;
    ap_buf refusal; /* the body of an answer with another code, its start */
    uint64_t sent_bytes;
    long code;
    long retry_after_s;
    bool is_head_told;
    ap_status status; /* of our own callbacks */
    ap_error error;   /* after AP_VERDICT_CUT and AP_VERDICT_FAILED */
    char words[CURL_ERROR_SIZE];
};

/* Prepares an exchange for a request, at its address or (continued) at `address`. */
ap_status ap_exchange_init(ap_exchange *self, ap_transfer *transfer, const ap_transfer_request *request, ap_error *err);
void ap_exchange_deinit(ap_exchange *self);
/* Puts it into the multi handle. */
ap_status ap_exchange_begin(ap_exchange *self, ap_error *err);
/* Takes it out, running or not. */
void ap_exchange_end(ap_exchange *self);
/* After curl reported `code` for it; takes it out. */
ap_verdict ap_exchange_judge(ap_exchange *self, CURLcode code);

/* Lets all exchanges go on for a while; *ended is one that ended (with *code), or NULL.  AP_E_CANCELLED. */
ap_status ap_transfer_turn(ap_transfer *transfer, unsigned wait_ms, ap_exchange **ended, CURLcode *code, ap_error *err);

/* Tries in a row that brought nothing. */
typedef struct ap_retries {
    unsigned failures;
    uint64_t waited_ms; /* in all */
    uint64_t until_ns;  /* the end of the pause; whoever fails before it met the same trouble and waits for the same end */
} ap_retries;

/* After a cut: *until_ns is when to begin again, after what the server asks for, else twice the last pause.  Says so, unless
 * it is quiet.  The error of the exchange if there were too many, or the pauses too long. */
ap_status ap_transfer_retry(ap_transfer *transfer, ap_retries *retries, const ap_exchange *exchange, bool is_quiet, uint64_t *until_ns,
                            ap_error *err);
/* "bytes 0-99/1000", with first <= last < total. */
bool ap_transfer_read_range(ap_str text, uint64_t *first, uint64_t *last, uint64_t *total);
void ap_transfer_note(const ap_transfer *transfer, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
