/* store.h - the models on this machine: packed once, found by name, never half there.
 *
 *     models/blobs/DIGEST.aperto   packed files, read-only, named by their BLAKE2b-256
 *     models/names/NAME.json       manifests: which blob a name means, and where it came from
 *     models/cache/KEY.json        the same for files that were given by path, found again by their stamp
 *     models/downloads/            what is fetched and not imported yet (fetch/fetch.h); not the store's matter
 *     models/lock                  held by whoever changes any of it
 *
 * A blob enters by rename after its bytes are synced, a name after its blob; so whatever is found is
 * whole.  Packing runs in a one-shot worker: this process parses no model.  Whoever changes the store
 * also sweeps it: leftovers of an import that was cut off, cache entries whose file is gone or another
 * one now, and blobs that nothing refers to any more (none while a manifest is damaged, for nobody knows what
 * that one means).
 *
 * A name that gets another meaning keeps the ones before in its history, and their blobs stay; only
 * ap_store_forget and ap_store_remove drop them.
 *
 * Names are 1 to 96 characters of A-Z a-z 0-9 . _ : -, not starting with . or -, without "..". A new one does not begin
 * like a source ("hf:", "oci:", …) either, or nobody could tell it from one.
 * MODEL below is a name, the start of a digest (also one in a history), or the path of a GGUF file or of a Hugging Face folder (whatever has
 * a / or ends in .gguf and is no name); a name wins.
 *
 * One handle per thread; any number of processes.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_STORE_H
#define AP_STORE_H

#include "aperto.h"
#include "base/file.h"
#include "base/hash.h"
#include "worker/worker.h"

enum {
    AP_STORE_NAME_MAX = 96,
    AP_STORE_PATH_MAX = 1000, /* of a source */
    AP_STORE_REVISION_MAX = 200,
    AP_STORE_HISTORY_MAX = 64 /* meanings that a name had before */
};

/* What a manifest says: one meaning of a name. */
typedef struct ap_store_entry {
    char name[AP_STORE_NAME_MAX + 1]; /* of a cached file: made from its own name */
    char digest[AP_HASH_HEX];         /* of the packed file */
    uint64_t packed_bytes;
    char source[AP_STORE_PATH_MAX + 1]; /* where it was imported from */
    char source_sha256[AP_HASH_HEX];
    char revision[AP_STORE_REVISION_MAX + 1]; /* what the source calls this state of itself: a commit, an ETag, a digest; or empty */
    int64_t created;      /* Unix time */
    int64_t replaced;     /* in a history: when the name got another meaning; else 0 */
    bool is_undone;       /* in a history: by a rollback */
    unsigned law_version; /* of the arithmetic it was packed for */
    ap_import_report report;
    bool is_damaged; /* the manifest cannot be read; only `name` is set */
    bool has_no_blob; /* list and find: the packed file is missing, or shorter or longer than it was */
    bool is_refused;  /* import: it failed, and other bytes of the source are needed; trying again is of no use */
    bool is_cached;   /* list and find: of a file given by path; `name` is what serve calls it */
    char moved_from[AP_HASH_HEX]; /* import, tag, rollback: what the name meant until this call, if that was another blob */
} ap_store_entry;

typedef struct ap_store ap_store;

/* The data folder: $APERTO_DATA, else $XDG_DATA_HOME/aperto, else ~/.local/share/aperto.
 * AP_E_ARG if none of them says anything. */
ap_status ap_store_data_folder(char *path, size_t room, ap_error *err);
/* Opens the store below a data folder; `sandbox` is that of packing.  Folders that are missing are made by the first
 * change, not by who only looks. */
ap_status ap_store_open(ap_store **out, const char *data_folder, ap_sandbox_mode sandbox, ap_error *err);
void ap_store_close(ap_store **store);
bool ap_store_name_is_valid(const char *name);
/* What a name must be that is given now; AP_E_ARG says what is wrong. */
ap_status ap_store_check_new_name(const char *name, ap_error *err);
/* Whether the text begins like a source elsewhere ("hf:", "https:", …). */
bool ap_store_is_source(const char *text);
/* A name out of a path: "Folder/My Model.Q4.gguf" becomes "my-model.q4". */
void ap_store_make_name(const char *path, char name[AP_STORE_NAME_MAX + 1]);
/* Whether it is read as a path where no model has it as its name: with a / in it, ending in .gguf, or something lies there. */
bool ap_store_is_path(const char *model);
bool ap_store_is_model_file(const char *path); /* in a folder: a file that an import would read */
/* Where whoever imports may keep what is not whole yet; the store itself does not look there. */
void ap_store_downloads_folder(const ap_store *store, char *path, size_t room);

/* All names in alphabetical order, damaged ones included, then files that were given by path; the array is freed with
 * ap_free. */
ap_status ap_store_list(ap_store *store, ap_store_entry **entries, size_t *count, ap_error *err);
/* What is known of MODEL; packs nothing.  AP_E_NOTFOUND names the nearest. */
ap_status ap_store_find(ap_store *store, const char *model, ap_store_entry *entry, ap_error *err);

/* Where a model came from, if that is not the path at which it lies now. */
typedef struct ap_store_origin {
    const char *source;   /* "hf:ORG/REPO", "oci://…", "https://…" */
    const char *revision; /* see ap_store_entry; may be NULL */
} ap_store_origin;

/* Imports a GGUF file or a folder under a name (NULL: made from its own).  `origin` may be NULL.  A source that is there already
 * is not packed again, unless its blob is damaged: that mends it.  If the name means what came from the same
 * source before, it moves and the old meaning goes into its history; AP_E_STATE if it means another model. */
ap_status ap_store_import(ap_store *store, const char *path, const ap_store_origin *origin, const char *name,
                          ap_progress *progress, void *context, ap_store_entry *entry, ap_error *err);
/* The SHA-256 that an import of this path would record as source_sha256. */
ap_status ap_store_source_sha256(const char *path, char sha256[AP_HASH_HEX], ap_progress *progress, void *context, ap_error *err);
/* Finds MODEL and opens it; a file given by path is packed into the cache at its first use, and again if what
 * was packed is damaged.  *fd is the packed file, open for reading, its digest checked; the caller closes it. */
ap_status ap_store_resolve(ap_store *store, const char *model, ap_progress *progress, void *context,
                           ap_store_entry *entry, int *fd, ap_error *err);
/* Opens a blob and compares its digest; AP_E_INTEGRITY if it differs, AP_E_UNSUPPORTED if it was packed for
 * another law. */
ap_status ap_store_open_blob(ap_store *store, const ap_store_entry *entry, ap_progress *progress, void *context, int *fd,
                             ap_error *err);
/* Removes a name, or what was packed of a path; the blob goes when nothing else needs it.  AP_E_STATE if the name has a
 * history, unless that may go as well. */
ap_status ap_store_remove(ap_store *store, const char *model, bool with_history, ap_error *err);

/* ---- Names and what they meant ---- */

/* Makes `name` mean what MODEL means.  If it means another blob already: AP_E_STATE, unless it may move; what it meant
 * then goes into its history.  *entry is the new meaning. */
ap_status ap_store_tag(ap_store *store, const char *model, const char *name, bool may_move, ap_store_entry *entry,
                       ap_error *err);
/* Makes a name mean what it meant before, and again before that when called again.  The meaning that is left stays in
 * the history, marked as undone.  AP_E_STATE if there is none before; AP_E_INTEGRITY or AP_E_UNSUPPORTED if its
 * blob is gone or was packed for another law: the name then stays as it is. */
ap_status ap_store_rollback(ap_store *store, const char *name, ap_store_entry *entry, ap_error *err);
/* What a name meant before, latest first; freed with ap_free. */
ap_status ap_store_history(ap_store *store, const char *name, ap_store_entry **entries, size_t *count, ap_error *err);
/* Drops the history of a name, and the blobs that nothing else needs; *count meanings. */
ap_status ap_store_forget(ap_store *store, const char *name, size_t *count, ap_error *err);

/* ---- A model given by path ---- */

/* All its files open. */
typedef struct ap_store_source {
    ap_import_file *files; /* of a folder or parts, by name; else one without a name */
    int *fds;              /* the same descriptors */
    size_t count;
    bool is_many; /* a folder, or a file in parts */
    ap_file_stamp stamp;
} ap_store_source;

/* On failure there is nothing to close.  What cannot be a model is refused by what is there instead. */
ap_status ap_store_source_open(ap_store_source *out, const char *path, ap_error *err);
/* Adds the README.md of a folder, if it has one: converters read its card.  It is no part of the model, so no digest and no stamp is
 * of it. */
ap_status ap_store_source_add_card(ap_store_source *source, const char *path, ap_error *err);
void ap_store_source_close(ap_store_source *source);

#endif
