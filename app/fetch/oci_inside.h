/* oci_inside.h - what the files of the registry share: who may come in.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_FETCH_OCI_INSIDE_H
#define AP_FETCH_OCI_INSIDE_H

#include "fetch/address.h"
#include "fetch/oci.h"

enum { AP_OCI_PARAMETER_MAX = 2000, AP_OCI_AUTHORIZATION_ROOM = 8000 };

/* What a registry asks for before it answers. */
typedef struct ap_oci_challenge {
    bool is_bearer; /* else Basic */
    char realm[AP_OCI_PARAMETER_MAX + 1], service[AP_OCI_PARAMETER_MAX + 1], scope[AP_OCI_PARAMETER_MAX + 1];
} ap_oci_challenge;

/* The value of WWW-Authenticate.  AP_E_FORMAT, AP_E_LIMIT; AP_E_UNSUPPORTED for other schemes. */
ap_status ap_oci_challenge_parse(ap_str value, ap_oci_challenge *out, ap_error *err);

/* The value of Authorization that answers a challenge of the registry at `address`; its folder of credentials is looked
 * up now.  `room` is AP_OCI_AUTHORIZATION_ROOM. */
ap_status ap_oci_authorize(ap_transfer *transfer, const ap_oci_ref *ref, const char *address, const ap_oci_challenge *challenge,
                           char *authorization, ap_error *err);

#endif
