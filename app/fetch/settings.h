/* settings.h - what the environment says about downloads; read here and nowhere else in this room.
 *
 *     HF_ENDPOINT        the hub's address; https://huggingface.co if not set
 *     HF_TOKEN           who we are there; else HUGGING_FACE_HUB_TOKEN; else the file HF_TOKEN_PATH, or token in HF_HOME, or in
 *                        huggingface below XDG_CACHE_HOME or ~/.cache: as the package huggingface_hub looks for it
 *     DOCKER_CONFIG      the folder of the file of docker login, config.json; ~/.docker if not set
 *     SSL_CERT_FILE      certificates to trust instead of the system's
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_FETCH_SETTINGS_H
#define AP_FETCH_SETTINGS_H

#include "base/str.h"

enum { AP_FETCH_TOKEN_MAX = 1024, AP_FETCH_ENDPOINT_MAX = 400 };

typedef struct ap_fetch_settings {
    char endpoint[AP_FETCH_ENDPOINT_MAX + 1]; /* without a slash at its end */
    char authorization[AP_FETCH_TOKEN_MAX + 8]; /* "Bearer …", or empty */
    const char *http_origin; /* the endpoint, if the user wrote http */
    const char *ca_file;     /* or NULL */
    bool is_token_withheld;  /* there is one, and the endpoint would get it over plain http */
} ap_fetch_settings;

/* The file of docker login; false if nothing says where it is. */
bool ap_fetch_logins_path(char *path, size_t room);

/* AP_E_ARG names the variable that makes no sense; a token is never shown. */
ap_status ap_fetch_settings_read(ap_fetch_settings *out, ap_error *err);

#endif
