/* SPDX-License-Identifier: Apache-2.0 */
#include "fetch/address.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <stdio.h>
#include <strings.h>

/* ---- Parts ---- */

typedef struct parts {
    bool is_https, is_loopback;
    char host[256];
    char port[8];
} parts;

static bool is_loopback_host(const char *host)
{
    struct in_addr four;
    if (strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
        return true;
    return inet_pton(AF_INET, host, &four) == 1 && (ntohl(four.s_addr) >> 24) == 127;
}

static bool copy_part(CURLU *url, CURLUPart part, unsigned flags, char *out, size_t room)
{
    char *text = NULL;
    bool fits = curl_url_get(url, part, &text, flags) == CURLUE_OK && strlen(text) < room;
    if (fits)
        (void)snprintf(out, room, "%s", text);
    curl_free(text);
    return fits;
}

static bool has_part(CURLU *url, CURLUPart part)
{
    char *text = NULL;
    bool is_there = curl_url_get(url, part, &text, 0) == CURLUE_OK;
    curl_free(text);
    return is_there;
}

static ap_status read_parts(CURLU *url, parts *p, ap_error *err)
{
    char scheme[16];
    if (!copy_part(url, CURLUPART_SCHEME, 0, scheme, sizeof scheme) ||
        (strcmp(scheme, "https") != 0 && strcmp(scheme, "http") != 0))
        return ap_fail(err, AP_E_ARG, "only https:// is fetched");
    if (!copy_part(url, CURLUPART_HOST, 0, p->host, sizeof p->host) || !p->host[0])
        return ap_fail(err, AP_E_ARG, "the address has no host of at most %zu bytes", sizeof p->host - 1);
    if (!copy_part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT, p->port, sizeof p->port))
        return ap_fail(err, AP_E_ARG, "the address has no usable port");
    if (has_part(url, CURLUPART_USER) || has_part(url, CURLUPART_PASSWORD))
        return ap_fail(err, AP_E_ARG, "the address has a name or password in it; those are never sent");
    p->is_https = strcmp(scheme, "https") == 0;
    p->is_loopback = is_loopback_host(p->host);
    return AP_OK;
}

static bool parts_of(const char *address, parts *p)
{
    CURLU *url = curl_url();
    bool is_good = url && curl_url_set(url, CURLUPART_URL, address, 0) == CURLUE_OK && read_parts(url, p, NULL) == AP_OK;
    curl_url_cleanup(url);
    return is_good;
}

bool ap_address_same_origin(const char *a, const char *b)
{
    parts p, q;
    return parts_of(a, &p) && parts_of(b, &q) && p.is_https == q.is_https && strcasecmp(p.host, q.host) == 0 &&
           strcmp(p.port, q.port) == 0;
}

bool ap_address_is_loopback(const char *address)
{
    parts p;
    return parts_of(address, &p) && p.is_loopback;
}

/* ---- What may be asked ---- */

static bool is_plain_text(ap_str text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] <= 0x20 || (unsigned char)text.ptr[i] >= 0x7f)
            return false;
    return text.len > 0;
}

/* The address of `url` is complete; it goes to `out` if it may be asked. */
static ap_status take(CURLU *url, const char *http_origin, parts *p, char out[AP_ADDRESS_ROOM], ap_error *err)
{
    AP_TRY(read_parts(url, p, err));
    (void)curl_url_set(url, CURLUPART_FRAGMENT, NULL, 0);
    if (!copy_part(url, CURLUPART_URL, 0, out, AP_ADDRESS_ROOM))
        return ap_fail(err, AP_E_LIMIT, "the address is longer than %d bytes", AP_ADDRESS_ROOM - 1);
    if (!p->is_https && !p->is_loopback && (!http_origin || !ap_address_same_origin(out, http_origin)))
        return ap_fail(err, AP_E_ARG, "%.200s would be asked over http, where everybody on the way can read and change the bytes; only "
                       "https:// is fetched", p->host);
    return AP_OK;
}

ap_status ap_address_check(const char *address, const char *http_origin, char out[AP_ADDRESS_ROOM], ap_error *err)
{
    parts p;
    ap_str text = ap_str_from(address);
    if (text.len >= AP_ADDRESS_ROOM || !is_plain_text(text))
        return ap_fail(err, AP_E_ARG, "the address must be 1 to %d bytes of visible ASCII; write other characters as %%XX", AP_ADDRESS_ROOM - 1);
    CURLU *url = curl_url();
    if (!url)
        return ap_fail_nomem(err, 1);
    ap_status status;
    CURLUcode code = curl_url_set(url, CURLUPART_URL, address, 0);
    if (code == CURLUE_UNSUPPORTED_SCHEME)
        status = ap_fail(err, AP_E_ARG, "only https:// is fetched");
    else if (code != CURLUE_OK)
        status = ap_fail(err, AP_E_ARG, "this is no web address: %s", curl_url_strerror(code));
    else
        status = take(url, http_origin, &p, out, err);
    curl_url_cleanup(url);
    return status;
}

ap_status ap_address_follow(const char *from, ap_str location, const char *http_origin, char out[AP_ADDRESS_ROOM], ap_error *err)
{
    parts before, after;
    char where[AP_ADDRESS_ROOM], shown[AP_ADDRESS_SHOWN_ROOM];
    ap_address_show(from, shown);
    if (location.len >= sizeof where || !is_plain_text(location) || !parts_of(from, &before))
        return ap_fail(err, AP_E_INTEGRITY, "%s sends us to an address that is none, or is longer than %d bytes", shown, AP_ADDRESS_ROOM - 1);
    memcpy(where, location.ptr, location.len);
    where[location.len] = 0;
    CURLU *url = curl_url();
    if (!url)
        return ap_fail_nomem(err, 1);
    ap_error why = {0};
    ap_status status = AP_OK;
    if (curl_url_set(url, CURLUPART_URL, from, 0) != CURLUE_OK || curl_url_set(url, CURLUPART_URL, where, 0) != CURLUE_OK)
        status = ap_fail(&why, AP_E_INTEGRITY, "'%.100s' is no web address", where);
    if (status == AP_OK)
        status = take(url, http_origin, &after, out, &why);
    if (status == AP_OK && before.is_https && !after.is_https)
        status = ap_fail(&why, AP_E_INTEGRITY, "from https to http, at %.100s", after.host);
    if (status == AP_OK && after.is_loopback && !before.is_loopback)
        status = ap_fail(&why, AP_E_INTEGRITY, "to this machine itself (%.100s)", after.host);
    curl_url_cleanup(url);
    return status == AP_OK ? AP_OK : ap_fail(err, AP_E_INTEGRITY, "%s sends us where no server may: %.250s", shown, why.message);
}

/* ---- Text ---- */

void ap_address_show(const char *address, char out[AP_ADDRESS_SHOWN_ROOM])
{
    CURLU *url = curl_url();
    char host[256], path[AP_ADDRESS_ROOM], port[8];
    if (url && curl_url_set(url, CURLUPART_URL, address, 0) == CURLUE_OK && copy_part(url, CURLUPART_HOST, 0, host, sizeof host) &&
        copy_part(url, CURLUPART_PATH, 0, path, sizeof path)) {
        bool has_port = copy_part(url, CURLUPART_PORT, 0, port, sizeof port);
        if (snprintf(out, AP_ADDRESS_SHOWN_ROOM, "%s%s%s%s", host, has_port ? ":" : "", has_port ? port : "", path) >= AP_ADDRESS_SHOWN_ROOM)
            (void)snprintf(out + AP_ADDRESS_SHOWN_ROOM - 4, 4, "…");
    } else {
        (void)snprintf(out, AP_ADDRESS_SHOWN_ROOM, "the server");
    }
    curl_url_cleanup(url);
}

ap_status ap_address_escape(ap_buf *out, ap_str text, const char *kept, ap_error *err)
{
    static const char always[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c && (strchr(always, c) || strchr(kept, c)))
            AP_TRY(ap_buf_add_char(out, c, err));
        else
            AP_TRY(ap_buf_printf(out, err, "%%%02X", (unsigned char)c));
    }
    return AP_OK;
}
