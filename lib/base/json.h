/* json.h - JSON out of memory that strangers wrote, with limits, and typed lookups by path.
 *
 * jansson does the reading.  Bytes, depth and number of values are counted over the
 * raw text before anything is allocated: "[[],[],…" would otherwise become thirty times
 * its size in objects.  A value takes about 100 bytes of memory.
 *
 *     AP_TRY(ap_json_parse(&root, text, (ap_json_limits){.bytes_max = 1 << 20, .values_max = 65536}, err));
 *     AP_TRY(ap_json_get_u32(root, "rope_scaling.factor", &factor, err));
 *     json_decref(root);
 *
 * Refused: a key given twice in one object, NaN and infinity, invalid UTF-8, NUL bytes, anything after
 * the value.  An integer beyond 64 bits is read as a real number: Python writes such
 * (a tokenizer's model_max_length of 10^30).
 *
 * A path is keys with dots between, and indices in arrays: "added_tokens.3.content".  A key that has a
 * dot itself cannot be named; look it up with jansson.  null counts as absent.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_BASE_JSON_H
#define AP_BASE_JSON_H

#include <jansson.h>

#include "base/str.h"

enum { AP_JSON_NESTING_MAX = 64 };

typedef struct ap_json_limits {
    size_t bytes_max;  /* of the text */
    size_t values_max; /* of all kinds, at any depth */
} ap_json_limits;

/* Any value; for the caller to json_decref.  On failure *out is NULL.  AP_E_FORMAT says line, column and,
 * if one is near, the key; AP_E_LIMIT says the limit; AP_E_NOMEM. */
ap_status ap_json_parse(json_t **out, ap_str text, ap_json_limits limits, ap_error *err);

/* The value at a path, borrowed; NULL if absent or null. */
const json_t *ap_json_find(const json_t *root, const char *path);

/* AP_E_NOTFOUND if absent or null; AP_E_FORMAT names the path and what stands there; *out is then as it was.
 * Results are borrowed from root.  A string may hold NUL bytes. */
ap_status ap_json_get_u32(const json_t *root, const char *path, uint32_t *out, ap_error *err);
ap_status ap_json_get_u64(const json_t *root, const char *path, uint64_t *out, ap_error *err);
/* Integers are fine.  What a float cannot hold is refused. */
ap_status ap_json_get_f32(const json_t *root, const char *path, float *out, ap_error *err);
ap_status ap_json_get_bool(const json_t *root, const char *path, bool *out, ap_error *err);
ap_status ap_json_get_str(const json_t *root, const char *path, ap_str *out, ap_error *err);
ap_status ap_json_get_object(const json_t *root, const char *path, const json_t **out, ap_error *err);
ap_status ap_json_get_array(const json_t *root, const char *path, const json_t **out, ap_error *err);

/* Appends the text of a value, of any kind; flags are jansson's (JSON_COMPACT, …). */
ap_status ap_json_print(const json_t *value, size_t flags, ap_buf *out, ap_error *err);

/* "a string", "null", …: for refusals of one's own. */
const char *ap_json_kind_name(const json_t *value);

#endif
