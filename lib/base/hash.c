/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"

static_assert(sizeof(crypto_generichash_state) <= 512, "room for the larger state");
static_assert(sizeof(crypto_hash_sha256_state) <= 512, "room for the smaller state");

void ap_hash_begin(ap_hash *hash, ap_hash_kind kind)
{
    hash->kind = kind;
    if (kind == AP_HASH_SHA256)
        crypto_hash_sha256_init((crypto_hash_sha256_state *)(void *)hash->state);
    else
        crypto_generichash_init((crypto_generichash_state *)(void *)hash->state, NULL, 0, AP_HASH_BYTES);
}

void ap_hash_add(ap_hash *hash, const void *bytes, size_t count)
{
    if (hash->kind == AP_HASH_SHA256)
        crypto_hash_sha256_update((crypto_hash_sha256_state *)(void *)hash->state, bytes, count);
    else
        crypto_generichash_update((crypto_generichash_state *)(void *)hash->state, bytes, count);
}

void ap_hash_end(ap_hash *hash, char hex[AP_HASH_HEX])
{
    unsigned char out[AP_HASH_BYTES];
    if (hash->kind == AP_HASH_SHA256)
        crypto_hash_sha256_final((crypto_hash_sha256_state *)(void *)hash->state, out);
    else
        crypto_generichash_final((crypto_generichash_state *)(void *)hash->state, out, sizeof out);
    sodium_bin2hex(hex, AP_HASH_HEX, out, sizeof out);
}

ap_status ap_hash_file(int fd, ap_hash_kind kind, char hex[AP_HASH_HEX], ap_hash_progress *progress, void *context,
                       ap_error *err)
{
    enum { PIECE = 1024 * 1024 };
    ap_file_stamp stamp;
    AP_TRY(ap_file_stamp_of(fd, &stamp, err));
    unsigned char *piece = ap_alloc(PIECE);
    if (!piece)
        return ap_fail_nomem(err, PIECE);
    ap_hash hash;
    ap_hash_begin(&hash, kind);
    uint64_t done = 0;
    ap_status status = AP_OK;
    while (done < stamp.bytes) {
        ssize_t n = pread(fd, piece, PIECE, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            status = ap_fail(err, AP_E_IO, "reading stopped at byte %" PRIu64 " of %" PRIu64 ": %s", done, stamp.bytes,
                             n < 0 ? strerror(errno) : "the file became shorter");
            break;
        }
        ap_hash_add(&hash, piece, (size_t)n);
        done += (uint64_t)n;
        if (progress)
            progress(context, done, stamp.bytes);
    }
    ap_hash_end(&hash, hex);
    ap_free(piece);
    return status;
}
