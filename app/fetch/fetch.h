/* fetch.h - models from elsewhere: looks at a source, and fetches it into a folder of its own.
 *
 *     hf:ORG/REPO[:FILE][@REVISION]     a hub (hub.h)
 *     https://HOST/….gguf               a GGUF file; its digest is not known beforehand, TLS and its length must do
 *     oci://HOST/REPOSITORY:TAG[@sha256:…]   an OCI registry (oci.h); there goes push as well
 *
 * Everything fetched lies in the downloads folder until it is imported:
 *
 *     KEY/pull.json     which source this is, and which state of it
 *     KEY/lock          held by the process that fetches it
 *     KEY/NAME/…        its files, whole or in part (transfer.h)
 *
 * What is left of a download that was stopped stays, if it is of use: the same pull goes on with it, ap_fetch_leftovers lists it,
 * ap_fetch_forget removes it, and what nobody touched for AP_FETCH_KEEP_DAYS goes with the next pull.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_FETCH_H
#define AP_FETCH_H

#include <signal.h>

#include "base/str.h"

enum { AP_FETCH_SOURCE_ROOM = 1001, AP_FETCH_REVISION_ROOM = 201, AP_FETCH_PATH_ROOM = 4096, AP_FETCH_KEEP_DAYS = 30 };

struct ap_fetch_state;

typedef struct ap_fetch_options {
    const char *folder;                        /* of all downloads; made when needed */
    bool (*is_model_file)(const char *path);   /* which files of a folder belong to a model in safetensors */
    const volatile sig_atomic_t *stop;         /* becomes 1 when the user has enough; may be NULL */
    ap_progress *progress;                     /* bytes of all files; may be NULL */
    void (*note)(void *context, const char *line); /* what the user should know meanwhile; may be NULL */
    /* Whether this state of the source is there already: then nothing is fetched.  May be NULL. */
    bool (*has_it)(void *context, const struct ap_fetch_state *now);
    void *context; /* of all */
} ap_fetch_options;

/* A source as it is now. */
typedef struct ap_fetch_state {
    char source[AP_FETCH_SOURCE_ROOM];     /* with the file that was chosen; pulling it again follows the source */
    char revision[AP_FETCH_REVISION_ROOM]; /* COMMIT/DIGEST of a hub, the manifest's digest of a registry, else what the server calls the file (ETag); or empty */
    uint64_t bytes;
} ap_fetch_state;

typedef struct ap_fetched {
    ap_fetch_state state;
    char path[AP_FETCH_PATH_ROOM]; /* the file (of a split model the first part) or folder, for the import; empty: has_it said yes */
    char folder[AP_FETCH_PATH_ROOM]; /* of this download; empty: there is none */
    int lock;
} ap_fetched;

/* Asks what the source is now; fetches no file. */
ap_status ap_fetch_look(const char *source, const ap_fetch_options *options, ap_fetch_state *out, ap_error *err);
/* Whether two revisions of one source mean the same bytes: another commit may have the same files. */
bool ap_fetch_is_same(const char *revision, const char *other);

/* Fetches it, or what is missing of it; afterwards ap_fetch_end.  AP_E_CANCELLED: stopped, the next call goes on. */
ap_status ap_fetch_pull(const char *source, const ap_fetch_options *options, ap_fetched *out, ap_error *err);
/* Removes what was fetched once it is of no more use (imported, or refused for what it is), else leaves it for the next time;
 * gives the lock back. */
void ap_fetch_end(ap_fetched *fetched, bool is_done);

/* ---- To a registry ---- */

typedef struct ap_fetch_push {
    int fd;             /* a GGUF file, or a packed one */
    bool is_packed;
    const char *sha256; /* of it */
    uint64_t bytes;
    const char *file_name; /* what it is called there */
    const char *config;    /* the JSON that describes it */
    const volatile sig_atomic_t *stop;
    ap_progress *progress;
    void (*note)(void *context, const char *line);
    void *context; /* of both */
} ap_fetch_push;

/* AP_E_ARG unless it is "oci://HOST/REPOSITORY:TAG". */
ap_status ap_fetch_check_target(const char *target, ap_error *err);
/* Makes the tag mean this model.  `out` says what pull would find there now. */
ap_status ap_fetch_push_model(const char *target, const ap_fetch_push *push, ap_fetch_state *out, ap_error *err);

/* ---- What is left of downloads ---- */

typedef struct ap_fetch_leftover {
    char source[AP_FETCH_SOURCE_ROOM];
    uint64_t bytes_there, bytes;
    int64_t touched; /* Unix time */
} ap_fetch_leftover;

/* All of them, freed with ap_free. */
ap_status ap_fetch_leftovers(const char *folder, ap_fetch_leftover **out, size_t *count, ap_error *err);
/* Removes that of a source, as the list shows it.  AP_E_NOTFOUND; AP_E_STATE if it is being fetched. */
ap_status ap_fetch_forget(const char *folder, const char *source, ap_error *err);

#endif
