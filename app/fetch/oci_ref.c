/* References, by the grammar of the distribution specification; nothing is filled in that was not said.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "fetch/oci.h"

#include <stdio.h>

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

static const char scheme[] = "oci://";

bool ap_oci_is_ref(const char *text) { return strncmp(text, "oci:", 4) == 0; }

static bool take(const char *from, size_t length, char *out, size_t room)
{
    if (length == 0 || length >= room)
        return false;
    memcpy(out, from, length);
    out[length] = 0;
    return true;
}

/* A name or an address with perhaps a port; IPv6 in brackets. */
static bool is_host(const char *host)
{
    const char *port = strchr(host, ':');
    if (host[0] == '[') {
        const char *end = strchr(host, ']');
        if (!end || strspn(host + 1, DIGITS "abcdefABCDEF:.") != (size_t)(end - host - 1) || (end[1] && end[1] != ':'))
            return false;
        port = end[1] ? end + 1 : NULL;
    } else if (strspn(host, LOWER UPPER DIGITS ".-") != (port ? (size_t)(port - host) : strlen(host)) || port == host) {
        return false;
    }
    return !port || (port[1] && strlen(port + 1) <= 5 && strspn(port + 1, DIGITS) == strlen(port + 1));
}

/* Words of letters and digits, between them one dot, one or two _, or any number of -; gives back its end, or NULL. */
static const char *skip_part(const char *p)
{
    for (;;) {
        size_t word = strspn(p, LOWER DIGITS), separator = strspn(p + word, "._-");
        if (word == 0)
            return NULL;
        p += word;
        if (separator == 0)
            return p;
        if (!(separator == 1 || strncmp(p, "__", separator) == 0 || strspn(p, "-") == separator))
            return NULL;
        p += separator;
    }
}

static bool is_repository(const char *text)
{
    const char *p = skip_part(text);
    while (p && *p == '/')
        p = skip_part(p + 1);
    return p && !*p;
}

static bool is_tag(const char *text)
{
    return strspn(text, LOWER UPPER DIGITS "_.-") == strlen(text) && text[0] != '.' && text[0] != '-';
}

ap_status ap_oci_ref_parse(const char *text, ap_oci_ref *out, ap_error *err)
{
    *out = (ap_oci_ref){0};
    const char *host = text + sizeof scheme - 1;
    const char *path = strncmp(text, scheme, sizeof scheme - 1) == 0 ? strchr(host, '/') : NULL;
    if (!path)
        return ap_fail(err, AP_E_ARG, "'%.300s' is no address of a model in a registry: oci://HOST/REPOSITORY:TAG is needed", text);
    if (!take(host, (size_t)(path - host), out->host, sizeof out->host) || !is_host(out->host))
        return ap_fail(err, AP_E_ARG, "'%.300s': the host is none, or longer than %d characters", text, AP_OCI_NAME_MAX);
    const char *repository = path + 1, *digest = strchr(repository, '@');
    size_t length = digest ? (size_t)(digest - repository) : strlen(repository);
    const char *tag = memchr(repository, ':', length);
    if (tag && (!take(tag + 1, length - (size_t)(tag + 1 - repository), out->tag, sizeof out->tag) || !is_tag(out->tag)))
        return ap_fail(err, AP_E_ARG, "'%.300s': the tag is none: 1 to %d characters of A-Z a-z 0-9 _ . -, not starting with . or -", text,
                       AP_OCI_TAG_MAX);
    if (!take(repository, tag ? (size_t)(tag - repository) : length, out->repository, sizeof out->repository) ||
        !is_repository(out->repository))
        return ap_fail(err, AP_E_ARG, "'%.300s': the repository is none: at most %d characters, words of a-z 0-9 with . _ - / between", text,
                       AP_OCI_NAME_MAX);
    static const char sha256[] = "@sha256:";
    if (digest && (strncmp(digest, sha256, sizeof sha256 - 1) != 0 || strlen(digest + sizeof sha256 - 1) != AP_HASH_HEX - 1 ||
                   strspn(digest + sizeof sha256 - 1, DIGITS "abcdef") != AP_HASH_HEX - 1))
        return ap_fail(err, AP_E_ARG, "'%.300s': the digest is none: @sha256: and 64 digits of 0-9 a-f", text);
    if (digest)
        memcpy(out->sha256, digest + sizeof sha256 - 1, AP_HASH_HEX);
    if (!out->tag[0] && !digest)
        return ap_fail(err, AP_E_ARG, "'%.300s' names no state of the repository: add :TAG or @sha256:DIGEST", text);
    return AP_OK;
}

void ap_oci_ref_source(const ap_oci_ref *ref, char out[AP_OCI_SOURCE_ROOM])
{
    if (ref->tag[0])
        (void)snprintf(out, AP_OCI_SOURCE_ROOM, "%s%s/%s:%s", scheme, ref->host, ref->repository, ref->tag);
    else
        (void)snprintf(out, AP_OCI_SOURCE_ROOM, "%s%s/%s@sha256:%s", scheme, ref->host, ref->repository, ref->sha256);
}
