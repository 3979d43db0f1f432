/* shards.h - model.safetensors.index.json: which tensor lies in which of a model's files.
 *
 * A shard is named by a stranger's file, so the name is never opened as a path: it must be a plain file
 * name, and is then looked up among the files that the owner of the folder handed over.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_FORMAT_SHARDS_H
#define AP_FORMAT_SHARDS_H

#include "base/str.h"

enum {
    AP_SHARDS_MAX = 256,
    AP_SHARD_NAME_BYTES_MAX = 255,
    AP_SHARD_INDEX_BYTES_MAX = 64 << 20,
    AP_SHARD_TENSORS_MAX = 1000 * 1000
};

/* Whether a name can only be that of a file in one folder: 1 to 255 bytes of UTF-8 without '/', '\', NUL and
 * controls, not "." and not "..". */
bool ap_file_name_is_plain(ap_str name);

typedef struct ap_shards ap_shards;

/* Copies what it keeps.  AP_E_FORMAT, AP_E_LIMIT, AP_E_NOMEM. */
ap_status ap_shards_open(ap_shards **out, ap_str json, ap_error *err);
void ap_shards_close(ap_shards **shards);

/* Each file once, in the order of its first mention. */
uint32_t ap_shards_count(const ap_shards *shards);
ap_str ap_shards_name(const ap_shards *shards, uint32_t shard);

uint32_t ap_shards_tensor_count(const ap_shards *shards);
/* The name of a tensor and the number of its file. */
ap_str ap_shards_tensor(const ap_shards *shards, uint32_t index, uint32_t *shard);

#endif
