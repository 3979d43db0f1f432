/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/hosts.h"

#include <arpa/inet.h>
#include <strings.h>

enum { NAME_BYTES_MAX = 255 };

/* The name without port and brackets; false if it is not of that form. */
static bool split_host(const char *host, char name[NAME_BYTES_MAX + 1])
{
    bool has_bracket = host[0] == '[';
    const char *start = host + has_bracket;
    size_t length = strcspn(start, has_bracket ? "]" : ":");
    const char *rest = start + length;
    if (has_bracket && *rest++ != ']')
        return false;
    if (length == 0 || length > NAME_BYTES_MAX)
        return false;
    if (*rest == ':') {
        size_t digits = strspn(rest + 1, "0123456789");
        if (digits == 0 || digits > 5)
            return false;
        rest += 1 + digits;
    }
    if (*rest)
        return false;
    memcpy(name, start, length);
    name[length] = 0;
    return true;
}

static bool is_address(const char *name)
{
    unsigned char bytes[16];
    return inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1;
}

bool ap_host_is_possible(const char *host)
{
    size_t length = strlen(host);
    return is_address(host) ||
           (length > 0 && length <= NAME_BYTES_MAX &&
            strspn(host, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_") == length);
}

static bool is_any(const char *listening)
{
    return strcmp(listening, "0.0.0.0") == 0 || strcmp(listening, "::") == 0;
}

bool ap_host_is_allowed(const char *host, const char *listening, const char *const *allowed, size_t allowed_count)
{
    static const char *const loopback[] = {"localhost", "127.0.0.1", "::1"};
    char name[NAME_BYTES_MAX + 1];
    if (!split_host(host, name))
        return false;
    for (size_t i = 0; i < sizeof loopback / sizeof *loopback; i++)
        if (strcasecmp(name, loopback[i]) == 0)
            return true;
    for (size_t i = 0; i < allowed_count; i++)
        if (strcasecmp(name, allowed[i]) == 0)
            return true;
    return strcasecmp(name, listening) == 0 || (is_any(listening) && is_address(name));
}

bool ap_origin_is_same(const char *origin, const char *host)
{
    if (strncasecmp(origin, "http://", 7) == 0)
        return strcasecmp(origin + 7, host) == 0;
    return strncasecmp(origin, "https://", 8) == 0 && strcasecmp(origin + 8, host) == 0;
}
