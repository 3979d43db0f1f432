/* SPDX-License-Identifier: Apache-2.0 */
#include "fetch/exchange.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

#include "base/alloc.h"

enum { REFUSAL_BYTES_MAX = 4096, CONNECT_SECONDS = 20, STALL_SECONDS_DEFAULT = 30 };

bool ap_transfer_header(const ap_buf *head, const char *name, ap_str *value)
{
    size_t length = strlen(name);
    const char *at = head->ptr, *end = at + head->len;
    while (at < end) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        if ((size_t)(line_end - at) > length && at[length] == ':' && strncasecmp(at, name, length) == 0) {
            at += length + 1;
            while (at < line_end && (*at == ' ' || *at == '\t'))
                at++;
            *value = (ap_str){at, (size_t)(line_end - at)};
            return true;
        }
        at = line_end + 1;
    }
    return false;
}

/* ---- What curl calls ---- */

static size_t fail(ap_exchange *x, ap_status status)
{
    x->status = status;
    return 0; /* fewer than were given: curl ends the exchange */
}

static size_t take_head(char *bytes, size_t size, size_t count, void *context)
{
    ap_exchange *x = context;
    char shown[AP_ADDRESS_SHOWN_ROOM];
    count *= size;
    if (count >= 5 && memcmp(bytes, "HTTP/", 5) == 0)
        ap_buf_clear(&x->head); /* of an answer before this one: 100 Continue */
    x->head_bytes += count;
    ap_address_show(x->address, shown);
    if (x->head_bytes > AP_TRANSFER_HEAD_BYTES_MAX)
        return fail(x, ap_fail(&x->error, AP_E_LIMIT, "%s answers with more than %d bytes of headers", shown, AP_TRANSFER_HEAD_BYTES_MAX));
    if (++x->head_lines > AP_TRANSFER_HEAD_LINES_MAX)
        return fail(x, ap_fail(&x->error, AP_E_LIMIT, "%s answers with more than %d lines of headers", shown, AP_TRANSFER_HEAD_LINES_MAX));
    size_t length = count;
    while (length && (unsigned char)bytes[length - 1] <= ' ')
        length--;
    for (size_t i = 0; i < length; i++)
        if (((unsigned char)bytes[i] < 0x20 && bytes[i] != '\t') || bytes[i] == 0x7f)
            return fail(x, ap_fail(&x->error, AP_E_FORMAT, "%s answers with a control character in its headers", shown));
    ap_status status = ap_buf_add(&x->head, bytes, length, &x->error);
    if (status == AP_OK)
        status = ap_buf_add_char(&x->head, '\n', &x->error);
    return status == AP_OK ? count : fail(x, status);
}

static ap_status tell_head(ap_exchange *x)
{
    if (x->is_head_told)
        return AP_OK;
    x->is_head_told = true;
    (void)curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &x->code);
    return x->code / 100 == 2 && x->on_head ? x->on_head(x, &x->error) : AP_OK;
}

static size_t take_body(char *bytes, size_t size, size_t count, void *context)
{
    ap_exchange *x = context;
    count *= size;
    ap_status status = tell_head(x);
    if (status == AP_OK && x->code / 100 == 2)
        status = x->on_body(x, bytes, count, &x->error);
    else if (status == AP_OK && x->refusal.len < REFUSAL_BYTES_MAX)
        status = ap_buf_add(&x->refusal, bytes, count < REFUSAL_BYTES_MAX - x->refusal.len ? count : REFUSAL_BYTES_MAX - x->refusal.len, &x->error);
    return status == AP_OK ? count : fail(x, status);
}

static size_t give_body(char *bytes, size_t size, size_t count, void *context)
{
    ap_exchange *x = context;
    const ap_transfer_request *r = x->request;
    uint64_t total = r->body.ptr ? r->body.len : r->body_bytes;
    size_t n = size * count;
    if (n > total - x->sent_bytes)
        n = (size_t)(total - x->sent_bytes);
    if (r->body.ptr) {
        memcpy(bytes, r->body.ptr + x->sent_bytes, n);
    } else if (n) {
        ssize_t got = pread(r->body_fd, bytes, n, (off_t)x->sent_bytes);
        if (got <= 0) {
            x->status = ap_fail(&x->error, AP_E_IO, "the file to send cannot be read: %s", got < 0 ? strerror(errno) : "it became shorter");
            return CURL_READFUNC_ABORT;
        }
        n = (size_t)got;
    }
    x->sent_bytes += n;
    return n;
}

/* ---- Begin and end ---- */

ap_status ap_exchange_init(ap_exchange *x, ap_transfer *transfer, const ap_transfer_request *request, ap_error *err)
{
    *x = (ap_exchange){.transfer = transfer, .request = request};
    return ap_address_check(request->address, transfer->options.http_origin, x->address, err);
}

void ap_exchange_end(ap_exchange *x)
{
    if (x->easy) {
        (void)curl_multi_remove_handle(x->transfer->multi, x->easy);
        curl_easy_cleanup(x->easy);
    }
    x->easy = NULL;
    curl_slist_free_all(x->lines);
    x->lines = NULL;
}

void ap_exchange_deinit(ap_exchange *x)
{
    ap_exchange_end(x);
    ap_buf_deinit(&x->head);
    ap_buf_deinit(&x->refusal);
}

static bool add_line(ap_exchange *x, const char *format, const char *value)
{
    char line[AP_ADDRESS_ROOM];
    if (snprintf(line, sizeof line, format, value) >= (int)sizeof line)
        return false;
    struct curl_slist *grown = curl_slist_append(x->lines, line);
    if (grown)
        x->lines = grown;
    return grown != NULL;
}

static bool add_lines(ap_exchange *x)
{
    const ap_transfer_request *r = x->request;
    bool is_good = add_line(x, "Accept-Encoding: %s", "identity"); /* lengths and ranges are of the bytes themselves */
    for (size_t i = 0; i < r->line_count && is_good; i++)
        is_good = add_line(x, "%s", r->lines[i]);
    if (is_good && r->authorization && !x->has_left)
        is_good = add_line(x, "Authorization: %s", r->authorization);
    if (is_good && x->range[0] && x->validator[0])
        is_good = add_line(x, "If-Range: %s", x->validator);
    return is_good;
}

/* Every option is set: what is not set is not what it should be. */
#define SET(option, value) (is_good = is_good && curl_easy_setopt(x->easy, option, value) == CURLE_OK)

static bool set_request(ap_exchange *x)
{
    const ap_transfer_request *r = x->request;
    bool is_good = true;
    const char *method = r->method ? r->method : "GET";
    if (r->body.ptr || r->body_bytes) {
        SET(CURLOPT_UPLOAD, 1L);
        SET(CURLOPT_READFUNCTION, give_body);
        SET(CURLOPT_READDATA, x);
        SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)(r->body.ptr ? r->body.len : r->body_bytes));
        SET(CURLOPT_CUSTOMREQUEST, method);
    } else if (strcmp(method, "HEAD") == 0) {
        SET(CURLOPT_NOBODY, 1L);
    } else if (strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 || strcmp(method, "PATCH") == 0) {
        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_POSTFIELDS, "");
        SET(CURLOPT_POSTFIELDSIZE, 0L);
        SET(CURLOPT_CUSTOMREQUEST, method);
    } else if (strcmp(method, "GET") != 0) {
        SET(CURLOPT_CUSTOMREQUEST, method);
    }
    if (x->range[0])
        SET(CURLOPT_RANGE, x->range);
    return is_good;
}

static bool set_all(ap_exchange *x)
{
    const ap_transfer_options *o = &x->transfer->options;
    long stall = o->stall_seconds ? (long)o->stall_seconds : STALL_SECONDS_DEFAULT;
    bool is_good = set_request(x);
    SET(CURLOPT_URL, x->address);
    SET(CURLOPT_PROTOCOLS_STR, "https,http"); /* which of them was decided by ap_address_check */
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (o->ca_file)
        SET(CURLOPT_CAINFO, o->ca_file);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1); /* several ranges are several connections */
    SET(CURLOPT_HTTP09_ALLOWED, 0L);
    SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    SET(CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE); /* the Authorization is for the server behind a CONNECT */
    /* libcurl reads https_proxy, all_proxy, no_proxy.  To this machine itself plain http goes straight: a proxy would read
     * the token, and its "this machine" is another one. */
    if (strncmp(x->address, "http:", 5) == 0 && ap_address_is_loopback(x->address))
        SET(CURLOPT_PROXY, "");
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS < stall ? (long)CONNECT_SECONDS : stall);
    SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
    SET(CURLOPT_LOW_SPEED_TIME, stall);
    SET(CURLOPT_USERAGENT, "aperto");
    SET(CURLOPT_HTTPHEADER, x->lines);
    SET(CURLOPT_HEADERFUNCTION, take_head);
    SET(CURLOPT_HEADERDATA, x);
    SET(CURLOPT_WRITEFUNCTION, take_body);
    SET(CURLOPT_WRITEDATA, x);
    SET(CURLOPT_ERRORBUFFER, x->words);
    SET(CURLOPT_PRIVATE, x);
    return is_good;
}
#undef SET

ap_status ap_exchange_begin(ap_exchange *x, ap_error *err)
{
    ap_exchange_end(x);
    ap_buf_clear(&x->head);
    ap_buf_clear(&x->refusal);
    x->head_lines = 0;
    x->head_bytes = 0;
    x->sent_bytes = 0;
    x->code = x->retry_after_s = 0;
    x->is_head_told = false;
    x->status = AP_OK;
    x->words[0] = 0;
    x->easy = curl_easy_init();
    if (x->easy && add_lines(x) && set_all(x) && curl_multi_add_handle(x->transfer->multi, x->easy) == CURLM_OK)
        return AP_OK;
    ap_exchange_end(x);
    return ap_fail(err, AP_E_NOMEM, "out of memory while a connection was prepared");
}

/* ---- Judgement ---- */

/* What may be better the next time.  A name that is unknown or a port that is closed is rather a mistake, unless
 * things went well before: the caller decides by AP_E_NOTFOUND. */
static bool is_cut(CURLcode code)
{
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY: return true;
    default: return false;
    }
}

static bool is_busy(long code) { return code == 408 || code == 429 || code == 500 || code == 502 || code == 503 || code == 504; }

static ap_verdict follow(ap_exchange *x)
{
    ap_str location;
    char next[AP_ADDRESS_ROOM], shown[AP_ADDRESS_SHOWN_ROOM];
    ap_address_show(x->request->address, shown);
    if (!ap_transfer_header(&x->head, "location", &location))
        return AP_VERDICT_ANSWERED;
    if (++x->redirects > AP_TRANSFER_REDIRECTS_MAX) {
        (void)ap_fail(&x->error, AP_E_LIMIT, "%s sends us on more than %d times", shown, AP_TRANSFER_REDIRECTS_MAX);
        return AP_VERDICT_FAILED;
    }
    if (ap_address_follow(x->address, location, x->transfer->options.http_origin, next, &x->error) != AP_OK)
        return AP_VERDICT_FAILED;
    memcpy(x->address, next, sizeof next);
    x->has_left = x->has_left || !ap_address_same_origin(x->address, x->request->address);
    return AP_VERDICT_REDIRECTED;
}

ap_verdict ap_exchange_judge(ap_exchange *x, CURLcode code)
{
    char shown[AP_ADDRESS_SHOWN_ROOM];
    curl_off_t retry_after = 0;
    long connect_code = 0;
    ap_address_show(x->address, shown);
    if (code == CURLE_OK && x->status == AP_OK)
        x->status = tell_head(x); /* there was no body */
    (void)curl_easy_getinfo(x->easy, CURLINFO_RETRY_AFTER, &retry_after);
    (void)curl_easy_getinfo(x->easy, CURLINFO_HTTP_CONNECTCODE, &connect_code);
    x->retry_after_s = (long)retry_after;
    ap_exchange_end(x);
    if (x->status != AP_OK)
        return AP_VERDICT_FAILED;
    if (code != CURLE_OK && connect_code / 100 == 4) {
        (void)ap_fail(&x->error, AP_E_IO, "%s: the proxy that the environment names refuses the way there (HTTP %ld%s)", shown, connect_code,
                      connect_code == 407 ? ": it wants a name and a password, as in https_proxy=http://NAME:PASSWORD@HOST:PORT" : "");
        return AP_VERDICT_FAILED;
    }
    if (code != CURLE_OK) {
        const char *words = x->words[0] ? x->words : curl_easy_strerror(code);
        bool is_unreachable = code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_RESOLVE_PROXY;
        (void)ap_fail(&x->error, is_unreachable ? AP_E_NOTFOUND : AP_E_IO, "%s: %.200s", shown, words);
        return is_cut(code) ? AP_VERDICT_CUT : AP_VERDICT_FAILED;
    }
    if (is_busy(x->code)) {
        (void)ap_fail(&x->error, AP_E_IO, "%s answers with HTTP %ld%s", shown, x->code, x->code == 429 ? ": too many requests" : "");
        if (x->retry_after_s <= AP_TRANSFER_RETRY_AFTER_MAX)
            return AP_VERDICT_CUT;
        (void)ap_fail(&x->error, AP_E_IO, "%s answers with HTTP %ld and asks us to come back in %ld seconds; try again then", shown, x->code,
                      x->retry_after_s);
        return AP_VERDICT_FAILED;
    }
    const char *method = x->request->method ? x->request->method : "GET";
    bool is_redirect = x->code == 301 || x->code == 302 || x->code == 303 || x->code == 307 || x->code == 308;
    return is_redirect && (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0) ? follow(x) : AP_VERDICT_ANSWERED;
}
