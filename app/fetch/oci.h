/* oci.h - models in OCI registries: the references, the manifests, pull and push.
 *
 * A registry keeps blobs by their SHA-256 and manifests that list blobs.  A model is a manifest with one layer of weights:
 * a GGUF file, or a packed file of our own (AP_OCI_PACKED); a pushed one follows the CNCF ModelPack specification, and
 * what others push is taken as well (oci_manifest.c has the list).  Everything that comes is compared with the digest that
 * the manifest names, and the manifest with its own; what a layer says of file names is only ever shown.
 *
 *     ap_oci_ref ref;
 *     AP_TRY(ap_oci_ref_parse("oci://HOST/REPOSITORY:TAG", &ref, err));
 *     AP_TRY(ap_oci_open(&oci, transfer, &ref, err));
 *     AP_TRY(ap_oci_get_manifest(oci, &manifest, err));
 *
 * Only https, but plain http to this machine itself.  Who wants credentials asks with a challenge: then what the
 * file of docker login (DOCKER_CONFIG or ~/.docker/config.json, "auths") has for this host is given to the realm that the
 * challenge names, and the token that comes back to the registry alone.  No helper program is run.
 *
 * Belongs to the thread of its transfer.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_FETCH_OCI_H
#define AP_FETCH_OCI_H

#include "fetch/transfer.h"

enum {
    AP_OCI_NAME_MAX = 255, /* of a host, of a repository */
    AP_OCI_TAG_MAX = 128,
    AP_OCI_MEDIA_TYPE_MAX = 255,
    AP_OCI_MANIFEST_BYTES_MAX = 4 << 20, /* what registries take at most */
    AP_OCI_LAYERS_MAX = 256,
    AP_OCI_SOURCE_ROOM = 1 + 6 + 2 * (AP_OCI_NAME_MAX + 1) + AP_OCI_TAG_MAX + 72
};

/* Media types that are pushed: a packed file, and any file as it is. */
#define AP_OCI_PACKED "application/vnd.aperto.packed.v1"
#define AP_OCI_RAW "application/vnd.cncf.model.weight.v1.raw"

/* ---- References ---- */

typedef struct ap_oci_ref {
    char host[AP_OCI_NAME_MAX + 1]; /* with its port */
    char repository[AP_OCI_NAME_MAX + 1];
    char tag[AP_OCI_TAG_MAX + 1];   /* or empty */
    char sha256[AP_HASH_HEX];       /* of the manifest, or empty */
} ap_oci_ref;

bool ap_oci_is_ref(const char *text); /* begins with oci: */
/* "oci://HOST[:PORT]/REPOSITORY[:TAG][@sha256:HEX]" with a tag or a digest.  AP_E_ARG says what is wrong. */
ap_status ap_oci_ref_parse(const char *text, ap_oci_ref *out, ap_error *err);
/* What to ask for later: without the digest if there is a tag. */
void ap_oci_ref_source(const ap_oci_ref *ref, char out[AP_OCI_SOURCE_ROOM]);

/* ---- Manifests ---- */

typedef struct ap_oci_blob {
    char media_type[AP_OCI_MEDIA_TYPE_MAX + 1];
    char sha256[AP_HASH_HEX];
    uint64_t bytes;
    char file_name[AP_OCI_NAME_MAX + 1]; /* what the layer calls itself, for people only; may be empty or cut */
} ap_oci_blob;

typedef struct ap_oci_manifest {
    char sha256[AP_HASH_HEX]; /* ap_oci_get_manifest: of its bytes */
    ap_oci_blob config;
    ap_oci_blob *layers;
    size_t layer_count;
} ap_oci_manifest;

/* Deinit in any case.  AP_E_FORMAT, AP_E_LIMIT; AP_E_UNSUPPORTED for lists of manifests. */
ap_status ap_oci_manifest_parse(ap_str text, ap_oci_manifest *out, ap_error *err);
void ap_oci_manifest_deinit(ap_oci_manifest *manifest);
/* The one layer that is the model; AP_E_UNSUPPORTED says what is there instead.  `left` (may be NULL) gets the media
 * types of layers that belong to the model and are not used, with ", " between. */
ap_status ap_oci_manifest_weights(const ap_oci_manifest *manifest, const ap_oci_blob **weights, ap_buf *left, ap_error *err);

/* ---- The registry ---- */

typedef struct ap_oci ap_oci;

/* The transfer is borrowed.  Asks nothing yet. */
ap_status ap_oci_open(ap_oci **out, ap_transfer *transfer, const ap_oci_ref *ref, ap_error *err);
void ap_oci_close(ap_oci **oci);

/* The manifest that the reference names; by digest if it has one.  AP_E_INTEGRITY if the bytes are others. */
ap_status ap_oci_get_manifest(ap_oci *oci, ap_oci_manifest *out, ap_error *err);
/* Fetches a blob into FOLDER/NAME, or the rest of it; the name is the caller's.  As ap_transfer_fetch. */
ap_status ap_oci_get_blob(ap_oci *oci, const ap_oci_blob *blob, int folder, const char *name, ap_error *err);

/* Brings a blob there, in pieces; goes on where the registry stopped.  Nothing to do if it has it. */
ap_status ap_oci_put_blob(ap_oci *oci, int fd, const ap_oci_blob *blob, ap_progress *progress, void *context, ap_error *err);
/* The same of bytes in memory: their digest and length become those of the blob. */
ap_status ap_oci_put_bytes(ap_oci *oci, ap_str bytes, ap_oci_blob *blob, ap_error *err);
/* Makes the tag mean a manifest of this config and one layer (layers[0].file_name becomes its file path); its digest
 * is manifest->sha256. */
ap_status ap_oci_put_manifest(ap_oci *oci, ap_oci_manifest *manifest, ap_error *err);

#endif
