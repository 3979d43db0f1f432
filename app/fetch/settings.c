/* SPDX-License-Identifier: Apache-2.0 */
#include "fetch/settings.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "fetch/address.h"

static const char *get(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* A token goes into a header: it must not be able to begin another one. */
static ap_status take_token(ap_fetch_settings *s, ap_str text, const char *where, ap_error *err)
{
    text = ap_str_trim(text);
    if (text.len > AP_FETCH_TOKEN_MAX)
        return ap_fail(err, AP_E_ARG, "%s: a token is at most %d bytes long", where, AP_FETCH_TOKEN_MAX);
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] <= ' ' || (unsigned char)text.ptr[i] >= 0x7f)
            return ap_fail(err, AP_E_ARG, "%s: a token is visible ASCII without spaces", where);
    if (text.len)
        (void)snprintf(s->authorization, sizeof s->authorization, "Bearer %.*s", (int)text.len, text.ptr);
    return AP_OK;
}

static bool token_path(char *path, size_t room)
{
    const char *own = get("HF_TOKEN_PATH"), *home = get("HF_HOME"), *cache = get("XDG_CACHE_HOME"), *user = get("HOME");
    int n = -1;
    if (own)
        n = snprintf(path, room, "%s", own);
    else if (home)
        n = snprintf(path, room, "%s/token", home);
    else if (cache)
        n = snprintf(path, room, "%s/huggingface/token", cache);
    else if (user)
        n = snprintf(path, room, "%s/.cache/huggingface/token", user);
    return n > 0 && (size_t)n < room;
}

bool ap_fetch_logins_path(char *path, size_t room)
{
    const char *own = get("DOCKER_CONFIG"), *user = get("HOME");
    int n = own ? snprintf(path, room, "%s/config.json", own) : user ? snprintf(path, room, "%s/.docker/config.json", user) : -1;
    return n > 0 && (size_t)n < room;
}

static ap_status read_token(ap_fetch_settings *s, ap_error *err)
{
    const char *name = get("HF_TOKEN") ? "HF_TOKEN" : "HUGGING_FACE_HUB_TOKEN", *value = get(name);
    char path[4096];
    ap_buf text;
    if (value)
        return take_token(s, ap_str_from(value), name, err);
    if (!token_path(path, sizeof path))
        return AP_OK;
    ap_status status = ap_file_read(path, 4 * AP_FETCH_TOKEN_MAX, &text, err);
    if (status == AP_E_NOTFOUND)
        return AP_OK;
    AP_TRY(status);
    status = take_token(s, ap_buf_str(&text), path, err);
    ap_buf_deinit(&text);
    return status;
}

ap_status ap_fetch_settings_read(ap_fetch_settings *s, ap_error *err)
{
    const char *endpoint = get("HF_ENDPOINT");
    char checked[AP_ADDRESS_ROOM];
    *s = (ap_fetch_settings){.ca_file = get("SSL_CERT_FILE")};
    if (!endpoint)
        endpoint = "https://huggingface.co";
    size_t length = strlen(endpoint);
    while (length && endpoint[length - 1] == '/')
        length--;
    if (length > AP_FETCH_ENDPOINT_MAX)
        return ap_fail(err, AP_E_ARG, "HF_ENDPOINT is longer than %d bytes", AP_FETCH_ENDPOINT_MAX);
    (void)snprintf(s->endpoint, sizeof s->endpoint, "%.*s", (int)length, endpoint);
    s->http_origin = strncmp(s->endpoint, "http://", 7) == 0 ? s->endpoint : NULL;
    if (ap_address_check(s->endpoint, s->http_origin, checked, err) != AP_OK || strpbrk(s->endpoint, "?#")) {
        ap_error_prefix(err, "HF_ENDPOINT");
        return err && strpbrk(s->endpoint, "?#") ? ap_fail(err, AP_E_ARG, "HF_ENDPOINT has a ? or # in it") : AP_E_ARG;
    }
    AP_TRY(read_token(s, err));
    /* Whoever chose http for the bytes did not choose to show everybody on the way who he is. */
    s->is_token_withheld = s->authorization[0] && s->http_origin && !ap_address_is_loopback(s->endpoint);
    if (s->is_token_withheld)
        s->authorization[0] = 0;
    return AP_OK;
}
