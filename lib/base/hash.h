/* hash.h - SHA-256 for a stranger's file (checkable with sha256sum) and
 * BLAKE2b-256 for our own packed files and digests of bits (b2sum -l 256),
 * three times as fast.  Both are libsodium's.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_BASE_HASH_H
#define AP_BASE_HASH_H

#include "base/error.h"

typedef enum ap_hash_kind { AP_HASH_SHA256, AP_HASH_BLAKE2B } ap_hash_kind;

typedef struct ap_hash {
    ap_hash_kind kind;
    _Alignas(64) unsigned char state[512];
} ap_hash;

enum { AP_HASH_BYTES = 32, AP_HASH_HEX = 65 };

void ap_hash_begin(ap_hash *hash, ap_hash_kind kind);
void ap_hash_add(ap_hash *hash, const void *bytes, size_t count);
/* Ends the computation and writes 64 lower-case hex digits and a NUL. */
void ap_hash_end(ap_hash *hash, char hex[AP_HASH_HEX]);

/* The digest of a whole file from its start; `progress` (may be NULL) is told
 * the bytes done.  The file offset is not used. */
typedef void ap_hash_progress(void *context, uint64_t done, uint64_t total);
ap_status ap_hash_file(int fd, ap_hash_kind kind, char hex[AP_HASH_HEX], ap_hash_progress *progress, void *context,
                       ap_error *err);

#endif
