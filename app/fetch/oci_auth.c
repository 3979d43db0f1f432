/* Who may come in: challenges, the file of docker login, tokens.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "fetch/oci_inside.h"

#include <sodium.h>
#include <stdio.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/json.h"
#include "fetch/settings.h"

enum {
    LOGINS_BYTES_MAX = 1 << 20,
    LOGINS_VALUES_MAX = 10000,
    TOKEN_ANSWER_BYTES_MAX = 64 * 1024,
    CREDENTIALS_BASE64_MAX = 4096
};

/* ---- Challenges ---- */

static bool is_space(char c) { return c == ' ' || c == '\t'; }

/* A parameter `key=value` or `key="value"`; false at the end, or with an error. */
static bool next_parameter(ap_str *rest, ap_str *key, char value[AP_OCI_PARAMETER_MAX + 1], ap_status *status, ap_error *err)
{
    const char *p = rest->ptr, *end = p + rest->len;
    size_t n = 0;
    while (p < end && (is_space(*p) || *p == ','))
        p++;
    if (p == end)
        return false;
    const char *start = p;
    while (p < end && *p != '=' && *p != ',' && !is_space(*p))
        p++;
    *key = (ap_str){start, (size_t)(p - start)};
    if (p == end || *p != '=') {
        *status = ap_fail(err, AP_E_FORMAT, "the registry's challenge has a parameter without a value");
        return false;
    }
    p++;
    bool is_quoted = p < end && *p == '"', is_closed = !is_quoted;
    for (p += is_quoted; p < end && (is_quoted || (*p != ',' && !is_space(*p))); p++) {
        if (is_quoted && *p == '"') {
            is_closed = true;
            p++;
            break;
        }
        p += is_quoted && *p == '\\' && p + 1 < end;
        if ((unsigned char)*p < 0x20 || *p == 0x7f || n == AP_OCI_PARAMETER_MAX) {
            *status = ap_fail(err, AP_E_LIMIT, "a parameter of the registry's challenge has a control character or more than %d bytes",
                              AP_OCI_PARAMETER_MAX);
            return false;
        }
        value[n++] = *p;
    }
    value[n] = 0;
    if (!is_closed) {
        *status = ap_fail(err, AP_E_FORMAT, "a parameter of the registry's challenge has no end");
        return false;
    }
    *rest = (ap_str){p, (size_t)(end - p)};
    return true;
}

ap_status ap_oci_challenge_parse(ap_str value, ap_oci_challenge *out, ap_error *err)
{
    *out = (ap_oci_challenge){0};
    size_t n = 0;
    while (n < value.len && !is_space(value.ptr[n]))
        n++;
    out->is_bearer = n == 6 && strncasecmp(value.ptr, "Bearer", n) == 0;
    if (!out->is_bearer && !(n == 5 && strncasecmp(value.ptr, "Basic", n) == 0))
        return ap_fail(err, AP_E_UNSUPPORTED, "the registry asks for '%.*s' credentials; Basic and Bearer are known", (int)(n < 40 ? n : 40),
                       value.ptr);
    ap_str rest = {value.ptr + n, value.len - n}, key;
    ap_status status = AP_OK;
    char *text = ap_alloc(AP_OCI_PARAMETER_MAX + 1);
    if (!text)
        return ap_fail_nomem(err, (size_t)AP_OCI_PARAMETER_MAX + 1);
    while (next_parameter(&rest, &key, text, &status, err)) {
        char *to = key.len == 5 && strncasecmp(key.ptr, "realm", 5) == 0     ? out->realm
                   : key.len == 7 && strncasecmp(key.ptr, "service", 7) == 0 ? out->service
                   : key.len == 5 && strncasecmp(key.ptr, "scope", 5) == 0   ? out->scope
                                                                            : NULL;
        if (to)
            memcpy(to, text, strlen(text) + 1);
    }
    ap_free(text);
    if (status == AP_OK && out->is_bearer && !out->realm[0])
        status = ap_fail(err, AP_E_FORMAT, "the registry's challenge names no realm");
    return status;
}

/* ---- The file of docker login ---- */

static ap_status read_logins(json_t **out, ap_error *err)
{
    char path[4096];
    ap_buf text;
    *out = NULL;
    if (!ap_fetch_logins_path(path, sizeof path))
        return AP_OK;
    ap_status status = ap_file_read(path, LOGINS_BYTES_MAX, &text, err);
    if (status == AP_E_NOTFOUND)
        return AP_OK;
    AP_TRY(status);
    status = ap_json_parse(out, ap_buf_str(&text), (ap_json_limits){.bytes_max = LOGINS_BYTES_MAX, .values_max = LOGINS_VALUES_MAX}, err);
    if (text.ptr)
        sodium_memzero(text.ptr, text.len);
    ap_buf_deinit(&text);
    if (status != AP_OK)
        ap_error_prefix(err, path);
    return status;
}

/* Keys are hosts, or addresses with scheme and path as old versions wrote them. */
static bool is_for_host(const char *key, const char *host)
{
    const char *start = strstr(key, "://");
    start = start ? start + 3 : key;
    return strcspn(start, "/") == strlen(host) && strncasecmp(start, host, strlen(host)) == 0;
}

/* "user:password" in base64 of a host's entry, empty if there is none. */
static ap_status find_login(const char *host, char base64[CREDENTIALS_BASE64_MAX + 1], ap_error *err)
{
    json_t *root, *auths, *entry, *found = NULL;
    const char *key;
    base64[0] = 0;
    AP_TRY(read_logins(&root, err));
    auths = json_object_get(root, "auths");
    json_object_foreach(auths, key, entry)
    {
        if (is_for_host(key, host))
            found = entry;
    }
    const char *given = json_string_value(json_object_get(found, "auth"));
    const char *user = json_string_value(json_object_get(found, "username")), *password = json_string_value(json_object_get(found, "password"));
    ap_status status = AP_OK;
    char plain[1024];
    int n = user && password ? snprintf(plain, sizeof plain, "%s:%s", user, password) : 0;
    if (given && *given && (strlen(given) > CREDENTIALS_BASE64_MAX ||
                            strspn(given, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") != strlen(given)))
        status = ap_fail(err, AP_E_FORMAT, "what the file of docker login has for '%s' is no base64 of at most %d characters", host,
                         CREDENTIALS_BASE64_MAX);
    else if (given && *given)
        memcpy(base64, given, strlen(given) + 1);
    else if (n < 0 || (size_t)n >= sizeof plain)
        status = ap_fail(err, AP_E_LIMIT, "what the file of docker login has for '%s' is longer than %zu bytes", host, sizeof plain - 1);
    else if (n)
        sodium_bin2base64(base64, CREDENTIALS_BASE64_MAX, (const unsigned char *)plain, (size_t)n, sodium_base64_VARIANT_ORIGINAL);
    else if (json_object_get(root, "credsStore") || json_object_get(json_object_get(root, "credHelpers"), host))
        status = ap_fail(err, AP_E_UNSUPPORTED, "the registry '%s' asks for credentials, and they are kept by a helper program, which is not "
                         "run: the file of docker login needs an entry for it in \"auths\"", host);
    sodium_memzero(plain, sizeof plain);
    json_decref(root);
    return status;
}

/* ---- Tokens ---- */

static ap_status read_token(const ap_buf *body, char *authorization, ap_error *err)
{
    json_t *root;
    ap_str token;
    AP_TRY(ap_json_parse(&root, ap_buf_str(body), (ap_json_limits){.bytes_max = TOKEN_ANSWER_BYTES_MAX, .values_max = 1000}, err));
    ap_status status = ap_json_get_str(root, "token", &token, NULL);
    if (status != AP_OK)
        status = ap_json_get_str(root, "access_token", &token, NULL);
    if (status != AP_OK)
        status = ap_fail(err, AP_E_FORMAT, "the answer has neither 'token' nor 'access_token'");
    for (size_t i = 0; status == AP_OK && i < token.len; i++)
        if (token.ptr[i] <= 0x20 || token.ptr[i] >= 0x7f)
            status = ap_fail(err, AP_E_FORMAT, "the token has a character that no header may have");
    if (status == AP_OK && (token.len == 0 || token.len > AP_OCI_AUTHORIZATION_ROOM - 8))
        status = ap_fail(err, AP_E_LIMIT, "the token has %zu bytes; 1 to %d are possible", token.len, AP_OCI_AUTHORIZATION_ROOM - 8);
    if (status == AP_OK)
        (void)snprintf(authorization, AP_OCI_AUTHORIZATION_ROOM, "Bearer %.*s", (int)token.len, token.ptr);
    json_decref(root);
    return status;
}

static ap_status add_argument(ap_buf *address, const char *name, const char *value, ap_error *err)
{
    if (!*value)
        return AP_OK;
    AP_TRY(ap_buf_printf(address, err, "%c%s=", memchr(address->ptr, '?', address->len) ? '&' : '?', name));
    return ap_address_escape(address, ap_str_from(value), "", err);
}

static ap_status ask_token(ap_transfer *transfer, const char *registry, const ap_oci_challenge *c, const char *basic,
                           char *authorization, ap_error *err)
{
    char *realm = ap_alloc(AP_ADDRESS_ROOM);
    ap_buf address = {.limit = AP_ADDRESS_ROOM - 1};
    ap_transfer_answer *answer = ap_alloc_zero(1, sizeof *answer);
    ap_status status = realm && answer ? AP_OK : ap_fail_nomem(err, AP_ADDRESS_ROOM + sizeof *answer);
    /* The same rules as for a redirect: no way from https to http, none from elsewhere to this machine. */
    if (status == AP_OK)
        status = ap_address_follow(registry, ap_str_from(c->realm), NULL, realm, err);
    if (status == AP_OK)
        status = ap_buf_add_str(&address, ap_str_from(realm), err);
    if (status == AP_OK)
        status = add_argument(&address, "service", c->service, err);
    if (status == AP_OK)
        status = add_argument(&address, "scope", c->scope, err);
    const ap_transfer_request request = {.address = address.ptr, .authorization = *basic ? basic : NULL, .answer_bytes_max = TOKEN_ANSWER_BYTES_MAX};
    if (status == AP_OK)
        status = ap_transfer_ask(transfer, &request, answer, err);
    if (status == AP_OK && answer->code != 200)
        status = ap_fail(err, AP_E_NOTFOUND, "no token is given (HTTP %ld); 'docker login' or \"auths\" in its file gives one the right to it", answer->code);
    if (status == AP_OK)
        status = read_token(&answer->body, authorization, err);
    if (status != AP_OK) {
        char shown[AP_ADDRESS_SHOWN_ROOM];
        ap_address_show(c->realm, shown);
        ap_error_prefix(err, shown);
    }
    if (answer)
        ap_transfer_answer_deinit(answer);
    ap_free(answer);
    ap_buf_deinit(&address);
    ap_free(realm);
    return status;
}

ap_status ap_oci_authorize(ap_transfer *transfer, const ap_oci_ref *ref, const char *address, const ap_oci_challenge *challenge,
                           char *authorization, ap_error *err)
{
    char base64[CREDENTIALS_BASE64_MAX + 1], basic[CREDENTIALS_BASE64_MAX + 8] = "";
    AP_TRY(find_login(ref->host, base64, err));
    if (base64[0])
        (void)snprintf(basic, sizeof basic, "Basic %s", base64);
    ap_status status = AP_OK;
    if (challenge->is_bearer)
        status = ask_token(transfer, address, challenge, basic, authorization, err);
    else if (!basic[0])
        status = ap_fail(err, AP_E_NOTFOUND, "the registry '%s' asks for credentials; the file of docker login has none for it", ref->host);
    else
        (void)snprintf(authorization, AP_OCI_AUTHORIZATION_ROOM, "%s", basic);
    sodium_memzero(base64, sizeof base64);
    sodium_memzero(basic, sizeof basic);
    return status;
}
