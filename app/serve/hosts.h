/* hosts.h - who may speak to the server, judged by the headers Host and Origin.
 *
 * A page anywhere on the web can make a browser send requests to a server on
 * the same machine.  Two things stop it from reading or starting anything: a
 * request whose Host is a name that is not ours comes from a name that was
 * bent to our address (rebinding); one whose Origin is not ours comes from
 * somebody else's page.  An address cannot be bent, so where the server listens
 * on all addresses any address is accepted as Host, but no unlisted name.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_SERVE_HOSTS_H
#define AP_SERVE_HOSTS_H

#include "base/str.h"

/* Whether a Host header could say it: a name of letters, digits, '.', '-', '_', or an address, without a port. */
bool ap_host_is_possible(const char *host);
/* `listening` is the host option; `host` the header's value, with or without a port. */
bool ap_host_is_allowed(const char *host, const char *listening, const char *const *allowed, size_t allowed_count);
/* "http://" or "https://" and exactly the Host header's value. */
bool ap_origin_is_same(const char *origin, const char *host);

#endif
