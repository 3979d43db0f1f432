/* api.h - the routes, and the calls they start.  Knows no sockets.
 *
 * A call is one HTTP request being answered.  ap_api_begin reads it and fills
 * the reply, at once or as the backend's events come; ap_api_end is told when the
 * reply was sent or its client is gone, and cancels what still runs.
 *
 * One thread.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_SERVE_API_H
#define AP_SERVE_API_H

#include "serve/backend.h"
#include "serve/fields.h"
#include "serve/serve.h"

typedef struct ap_api ap_api;
typedef struct ap_call ap_call;

typedef struct ap_api_request {
    const char *method, *path;
    const char *query; /* the name of one argument after '?', or NULL */
    const char *content_type; /* NULL: none given */
    ap_str body;              /* borrowed for the call of ap_api_begin */
} ap_api_request;

ap_status ap_api_create(ap_api **out, const ap_serve_options *options, ap_backend backend, ap_error *err);
void ap_api_destroy(ap_api **api);
/* From now on new work is refused with 503. */
void ap_api_drain(ap_api *api);
size_t ap_api_call_count(const ap_api *api);

/* *call stays NULL when the reply is complete at once.  The reply must outlive the call. */
void ap_api_begin(ap_api *api, const ap_api_request *request, ap_reply *reply, ap_call **call);
void ap_api_end(ap_api *api, ap_call **call);

/* ---- Inside the room ------------------------------------------------------ */

struct ap_api {
    const ap_serve_options *options;
    ap_backend backend;
    size_t call_count;
    bool is_draining;
};

/* api_openai.c */
void ap_openai_begin(ap_api *api, ap_endpoint endpoint, ap_str body, ap_reply *reply, ap_call **call);

#endif
