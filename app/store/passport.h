/* passport.h - how far a quantised model is from its parent, as measured.
 *
 *     models/passports/SHA256.json   of the model whose source has this digest; it names the parent's
 *     FILE.gguf.passport.json        the same beside a file that 'aperto quantize' wrote, so that it travels along
 *
 * Bound to both by the digests of their sources: one that lies beside another file than its own is refused.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_STORE_PASSPORT_H
#define AP_STORE_PASSPORT_H

#include <jansson.h>

#include "store/store.h"

typedef struct ap_passport {
    char sha256[AP_HASH_HEX], parent_sha256[AP_HASH_HEX]; /* of the sources of both */
    char parent[256];        /* what the parent was called */
    char text[256];          /* what the text is called */
    char text_sha256[AP_HASH_HEX];
    uint32_t chunk_tokens;
    unsigned law_version;
    int64_t created; /* Unix time */
    ap_measure measure;
} ap_passport;

/* A new object; NULL if there is no memory. */
json_t *ap_passport_json(const ap_passport *passport);
/* AP_E_FORMAT names what is missing or impossible. */
ap_status ap_passport_parse(ap_str text, ap_passport *out, ap_error *err);

/* Atomically; an earlier one of the same model is replaced. */
ap_status ap_store_put_passport(ap_store *store, const ap_passport *passport, ap_error *err);
/* Of the model whose source has this digest.  AP_E_NOTFOUND if there is none. */
ap_status ap_store_passport(ap_store *store, const char *source_sha256, ap_passport *out, ap_error *err);

/* The file beside the GGUF file at `path`. */
ap_status ap_passport_write_beside(const char *path, const ap_passport *passport, ap_error *err);
/* AP_E_NOTFOUND if there is none; AP_E_INTEGRITY if it is that of another file than the one with this digest. */
ap_status ap_passport_read_beside(const char *path, const char *sha256, ap_passport *out, ap_error *err);

#endif
