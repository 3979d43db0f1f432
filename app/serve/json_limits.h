/* json_limits.h - a request body becomes JSON, or a refusal that says where and why.
 *
 * Depth and number of values are counted over the raw bytes before anything is
 * allocated: 32 MiB of "[[],[],…" would otherwise become a gigabyte of objects.
 * Keys given twice and invalid UTF-8 are refused.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_SERVE_JSON_LIMITS_H
#define AP_SERVE_JSON_LIMITS_H

#include <jansson.h>

#include "serve/reply.h"

enum {
    AP_JSON_DEPTH_MAX = 64,
    AP_JSON_VALUES_MAX = 262144 /* twice the tokens of the longest contexts in use */
};

/* An object for the caller, or NULL and a refusal. */
json_t *ap_json_read(ap_str body, ap_refusal *refusal);

#endif
