/* transfer.h - HTTP as downloads need it: ask for small answers, fetch large files.
 *
 * libcurl carries the bytes; redirects, retries, ranges and limits are decided here, because a server is a stranger:
 *
 *   - Redirects are followed by our own loop (AP_TRANSFER_REDIRECTS_MAX).  The Authorization goes to the origin of
 *     the first address only; once a redirect left that origin it is not sent again, wherever the next one leads.
 *   - 408, 429, 500, 502, 503, 504 and cut connections are tried again with growing pauses (or those of Retry-After) until
 *     several tries in a row brought nothing; what is tried again and why is told.  Trouble that several connections
 *     meet at once counts once.
 *   - Certificates are always checked.  Proxies are what the environment says to curl: https_proxy, HTTPS_PROXY, http_proxy
 *     (small letters only), all_proxy, ALL_PROXY, no_proxy, NO_PROXY.  The Authorization goes through the tunnel of a
 *     CONNECT and is never in it; plain http to this machine itself passes no proxy.
 *   - Heads and answers have limits; a connection without a byte for stall_seconds counts as cut.
 *
 * A file is fetched in pieces of fixed size, several at once.  What is there lies in FOLDER/NAME.part, and
 * FOLDER/NAME.state says which bytes of it are good; after a cut, a kill or a full disk the next call goes on from
 * there, and only if the file is still the same (If-Range, and the validator of each piece).  A validator is a strong ETag
 * or a Last-Modified that is at least a second older than the answer's Date, as RFC 9110 wants it.  From a server that gives
 * neither, of a file whose digest nobody knows, nothing is put together: it comes in one piece, and after a cut it is begun
 * again once.  NAME appears only when its length and digest are right.
 *
 * One handle per thread; nothing is shared between handles.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_FETCH_TRANSFER_H
#define AP_FETCH_TRANSFER_H

#include <signal.h>

#include "base/hash.h"
#include "base/str.h"

enum {
    AP_TRANSFER_REDIRECTS_MAX = 10,
    AP_TRANSFER_HEAD_BYTES_MAX = 64 * 1024, /* of all heads of one answer */
    AP_TRANSFER_HEAD_LINES_MAX = 200,
    AP_TRANSFER_RETRY_AFTER_MAX = 300, /* seconds a server may make us wait */
    AP_TRANSFER_TRIES_MAX = 6,         /* in a row that bring nothing */
    AP_TRANSFER_WAIT_SECONDS_MAX = 600, /* of all pauses in such a row */
    AP_TRANSFER_SHA1_HEX = 41,
    AP_TRANSFER_ETAG_MAX = 256
};
#define AP_TRANSFER_BYTES_MAX ((uint64_t)1 << 44) /* of one file: 16 TiB */

typedef struct ap_transfer ap_transfer;

typedef struct ap_transfer_options {
    const char *http_origin;           /* plain http is allowed there as well (address.h); NULL: nowhere but here */
    const char *ca_file;               /* certificates to trust; NULL: the system's */
    unsigned connections;              /* at once, for one file; 0: 4 */
    unsigned stall_seconds;            /* 0: 30 */
    unsigned pause_ms;                 /* before the first retry, doubled for each next one; 0: 1000 */
    uint64_t piece_bytes;              /* 0: 32 MiB */
    const volatile sig_atomic_t *stop; /* becomes 1 when the user has enough; may be NULL */
    ap_progress *progress;             /* of files; may be NULL */
    /* What the user should know while it goes on: one line.  May be NULL. */
    void (*note)(void *context, const char *line);
    void *context; /* of both */
} ap_transfer_options;

/* The texts of the options are borrowed until close. */
ap_status ap_transfer_open(ap_transfer **out, const ap_transfer_options *options, ap_error *err);
void ap_transfer_close(ap_transfer **transfer);

/* ---- Small answers ---- */

typedef struct ap_transfer_request {
    const char *address;
    const char *method;        /* NULL: GET */
    const char *authorization; /* the value of the header, or NULL */
    const char *const *lines;  /* other headers, "Accept: application/json"; go to every host */
    size_t line_count;
    ap_str body;          /* sent if not NULL */
    int body_fd;          /* else, if body_bytes: so many bytes from here (pread, from 0) */
    uint64_t body_bytes;
    size_t answer_bytes_max;
} ap_transfer_request;

typedef struct ap_transfer_answer {
    long code;  /* of HTTP */
    ap_buf body;
    ap_buf head; /* "name: value\n" per line */
    char address[8192]; /* that answered in the end */
} ap_transfer_answer;

/* Asks, through redirects (of GET and HEAD only; others come back as they are) and retries (of all methods but POST
 * and PATCH).  AP_OK for every code that is not tried again, 404 as well; the caller looks.  Deinit in any case. */
ap_status ap_transfer_ask(ap_transfer *transfer, const ap_transfer_request *request, ap_transfer_answer *answer, ap_error *err);
void ap_transfer_answer_deinit(ap_transfer_answer *answer);
/* A header's value, borrowed, by its lower-case name; false if it is not there. */
bool ap_transfer_header(const ap_buf *head, const char *name, ap_str *value);

/* ---- Files ---- */

typedef struct ap_transfer_file {
    const char *address;
    const char *authorization;
    const char *const *lines;
    size_t line_count;
    int folder;       /* an open folder */
    const char *name; /* in it: a plain name, checked by the caller */
    const char *identity; /* what must be the same for a part that is there to be of use; NULL: the address */
    uint64_t bytes;       /* UINT64_MAX: what the server says */
    const char *sha256;   /* the digest that it must have, hex; or NULL */
    const char *git_sha1; /* the same as git names it (SHA-1 over "blob N\0" and the bytes); or NULL */
    /* Told the head of each answer, those of redirects too; a failure ends the download.  May be NULL. */
    ap_status (*check_head)(void *context, const ap_buf *head, ap_error *err);
    void *check_context;
    uint64_t progress_before, progress_total; /* of several files; 0, 0: one alone */
    /* Results. */
    char sha256_is[AP_HASH_HEX];
    char etag[AP_TRANSFER_ETAG_MAX]; /* or the date of the last change, or empty */
    long code;                       /* of a refusal by HTTP, else 0 */
    ap_buf refusal_head;             /* its head; ap_buf_deinit in any case */
} ap_transfer_file;

/* Fetches a file, or the rest of it.  Nothing to do if NAME is there, with the digest that it must have or, if none is
 * given, in the right length (etag is then empty).
 *   AP_E_CANCELLED  stopped; the next call goes on
 *   AP_E_INTEGRITY  length or digest differ from what was promised; bytes of a wrong digest are thrown away
 *   AP_E_NOTFOUND   the server refused; its code is in file->code
 *   AP_E_IO         unreachable, cut too often, or less room on the disk than the file needs; what is there stays */
ap_status ap_transfer_fetch(ap_transfer *transfer, ap_transfer_file *file, ap_error *err);
/* How many bytes of NAME a folder holds already, finished or not; 0 if nothing. */
uint64_t ap_transfer_bytes_there(int folder, const char *name);

#endif
