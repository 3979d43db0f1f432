/* inside.h - what the files of this room share: places, walks, packing.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_STORE_INSIDE_H
#define AP_STORE_INSIDE_H

#include "store/store.h"

enum { AP_STORE_PATH_ROOM = 4096 };

struct ap_store {
    char folder[2048]; /* …/models */
    ap_sandbox_mode sandbox;
};

/* ---- places.c ---- */

void ap_store_name_path(const ap_store *store, const char *name, char path[AP_STORE_PATH_ROOM]);
void ap_store_blob_path(const ap_store *store, const char *digest, char path[AP_STORE_PATH_ROOM]);
/* Makes the folders where they are missing and waits for the lock; the descriptor is closed to give it back. */
ap_status ap_store_lock(const ap_store *store, int *lock, ap_error *err);

/* A file of "names" or "cache". */
typedef struct ap_manifest {
    ap_store_entry now;
    ap_file_stamp stamp;    /* of a source given by path; else zero */
    ap_store_entry *before; /* the history, latest first */
    size_t before_count;
} ap_manifest;

/* Calls fn for each manifest of "names" or "cache", by file name.  One that cannot be read is handed on as a
 * damaged entry; the others go on. */
typedef ap_status ap_store_walk_fn(void *context, const char *path, const ap_manifest *manifest, ap_error *err);
ap_status ap_store_walk(const ap_store *store, const char *part, ap_store_walk_fn *fn, void *context, ap_error *err);

/* Whether the packed file is there in its length; its digest is not looked at. */
bool ap_store_has_blob(const ap_store *store, const ap_store_entry *entry);

/* With the lock held: see store.h. */
ap_status ap_store_sweep(const ap_store *store, ap_error *err);

/* ---- manifest.c ---- */

/* AP_E_FORMAT names the file and what is wrong with it; AP_E_NOTFOUND.  In any case *out can be deinitialised. */
ap_status ap_manifest_read(const char *path, ap_manifest *out, ap_error *err);
/* The same of its bytes. */
ap_status ap_manifest_parse(ap_str text, ap_manifest *out, ap_error *err);
/* Atomically: what was there before stays until all is on the disk. */
ap_status ap_manifest_write(const char *path, const ap_manifest *manifest, ap_error *err);
void ap_manifest_deinit(ap_manifest *manifest);

/* ---- names.c ---- */

/* The manifest of a name; AP_E_NOTFOUND without a message, AP_E_FORMAT if it is damaged. */
ap_status ap_store_read_name(const ap_store *store, const char *name, ap_manifest *out, ap_error *err);
/* With the lock held: the manifest's present meaning goes into the history, unless it is the same blob or the same
 * source packed for another law, and `entry` takes its place and gets name and moved_from.  Not written yet. */
ap_status ap_store_move(ap_manifest *manifest, ap_store_entry *entry, ap_error *err);
ap_status ap_store_check_name(const char *name, ap_error *err);

/* ---- source.c ---- */

/* As it is now; equal to source->stamp unless a file changed since. */
ap_status ap_store_source_stamp(const ap_store_source *source, ap_file_stamp *stamp, ap_error *err);
/* Of a folder: the SHA-256 of what sha256sum prints for its files, in order of their names. */
ap_status ap_store_source_hash(const ap_store_source *source, char sha256[AP_HASH_HEX], ap_progress *progress, void *context,
                               ap_error *err);

/* ---- pack.c ---- */

/* With the lock held: reads and hashes a source and packs it into a blob, unless a whole blob of these bytes
 * is there.  Fills all of the entry but the name. */
ap_status ap_store_take_source(const ap_store *store, const char *path, const ap_store_origin *origin, ap_progress *progress,
                               void *context, ap_store_entry *entry, ap_file_stamp *stamp, ap_error *err);

#endif
