/* address.h - which web addresses are asked, and which of them are one place.
 *
 * Only https; plain http to this machine itself (loopback), or to the one origin that the user named with http
 * (HF_ENDPOINT).  An origin is scheme, host and port: what is meant for one is never sent to another.  Addresses
 * with a name or password in them are refused: they would end up in manifests and messages.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_FETCH_ADDRESS_H
#define AP_FETCH_ADDRESS_H

#include "base/str.h"

enum {
    AP_ADDRESS_ROOM = 8192,       /* bytes of an address with its NUL; signed ones take two thousand */
    AP_ADDRESS_SHOWN_ROOM = 200
};

/* Copies what may be asked, without its fragment.  AP_E_ARG says what is wrong with it.  `http_origin` may be NULL. */
ap_status ap_address_check(const char *address, const char *http_origin, char out[AP_ADDRESS_ROOM], ap_error *err);
/* Where an answer of `from` sends us.  AP_E_INTEGRITY for what a server may not ask: from https to http, from elsewhere
 * to this machine, and all that ap_address_check refuses. */
ap_status ap_address_follow(const char *from, ap_str location, const char *http_origin, char out[AP_ADDRESS_ROOM],
                            ap_error *err);
bool ap_address_same_origin(const char *a, const char *b);
bool ap_address_is_loopback(const char *address);
/* Host and path for messages: no arguments, which may be signatures. */
void ap_address_show(const char *address, char out[AP_ADDRESS_SHOWN_ROOM]);
/* Adds `text` with everything but letters, digits and -._~ (and those in `kept`) as %XX. */
ap_status ap_address_escape(ap_buf *out, ap_str text, const char *kept, ap_error *err);

#endif
