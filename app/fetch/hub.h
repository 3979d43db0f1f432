/* hub.h - a hub of models as Hugging Face runs one: which files a repository has, which of them make a model.
 *
 *     hf:ORG/REPO[:FILE][@REVISION]
 *
 * FILE is a GGUF file of the repository, the quantisation in its name (Q4_K_M), or the word safetensors; it may be
 * left out where there is only one choice.  Asked are, below the endpoint:
 *
 *     /api/models/ORG/REPO/revision/REVISION      the commit that a branch or tag means now
 *     /api/models/ORG/REPO/tree/COMMIT            all files with sizes and digests, in pages (Link: …; rel="next")
 *     /ORG/REPO/resolve/COMMIT/FILE               the bytes; of large files by redirect to another host
 *
 * What comes back is a stranger's: sizes, counts and every path are checked before anything is made of them, and no
 * path of a repository becomes a path on this machine; files get plain names in one folder.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_FETCH_HUB_H
#define AP_FETCH_HUB_H

#include "base/arena.h"
#include "fetch/settings.h"
#include "fetch/transfer.h"

enum {
    AP_HUB_REPO_MAX = 200,
    AP_HUB_PATH_MAX = 600,   /* of a file in a repository */
    AP_HUB_NAME_MAX = 200,   /* of each part of it */
    AP_HUB_REVISION_MAX = 100,
    AP_HUB_FILES_MAX = 100000, /* of a repository */
    AP_HUB_PAGES_MAX = 200,
    AP_HUB_PAGE_BYTES_MAX = 16 << 20,
    AP_HUB_CHOSEN_MAX = 300 /* files of one model */
};

typedef struct ap_hub_source {
    char repo[AP_HUB_REPO_MAX + 1];
    char file[AP_HUB_PATH_MAX + 1];         /* or empty */
    char revision[AP_HUB_REVISION_MAX + 1]; /* "main" if not given */
} ap_hub_source;

typedef struct ap_hub_file {
    const char *path;
    uint64_t bytes;
    char sha256[AP_HASH_HEX];           /* of large files, else empty */
    char sha1[AP_TRANSFER_SHA1_HEX]; /* of the others, as git has it, else empty */
} ap_hub_file;

typedef struct ap_hub_tree {
    ap_arena arena; /* paths */
    ap_hub_file *files;
    size_t count;
} ap_hub_tree;

/* The files that make the model that was asked for. */
typedef struct ap_hub_choice {
    const ap_hub_file *files[AP_HUB_CHOSEN_MAX];
    size_t count;
    uint64_t bytes;
    bool is_folder; /* else one GGUF file, or its parts in order */
    char digest[AP_HASH_HEX]; /* of names and digests of these files: two choices of one digest are the same model */
} ap_hub_choice;

/* AP_E_ARG says what the form is. */
ap_status ap_hub_source_read(ap_hub_source *out, const char *text, ap_error *err);
/* "hf:…" with the file that was chosen; at most 1,000 bytes and a NUL. */
void ap_hub_source_write(const ap_hub_source *source, const ap_hub_choice *choice, char out[1001]);

/* A path of a repository: relative, parts of 1 to AP_HUB_NAME_MAX bytes of valid UTF-8 without control characters and
 * backslashes, none of them . or .. ; AP_E_INTEGRITY. */
ap_status ap_hub_check_path(ap_str path, ap_error *err);
/* The plain name that a file gets on this machine: the last part of its path. */
const char *ap_hub_plain_name(const ap_hub_file *file);

/* Adds the files of one page of the tree. */
ap_status ap_hub_read_page(ap_hub_tree *tree, ap_str json, ap_error *err);
void ap_hub_tree_deinit(ap_hub_tree *tree);
/* `is_model_file` tells which paths in a folder belong to a model in safetensors. */
ap_status ap_hub_choose(const ap_hub_tree *tree, const ap_hub_source *source, bool (*is_model_file)(const char *path),
                        ap_hub_choice *out, ap_error *err);

/* Asks for commit and tree. */
ap_status ap_hub_look(ap_transfer *transfer, const ap_fetch_settings *settings, const ap_hub_source *source,
                      char commit[AP_TRANSFER_SHA1_HEX], ap_hub_tree *tree, ap_error *err);
/* Fetches one file into a folder; `before` and `total` are for the progress of all. */
ap_status ap_hub_fetch(ap_transfer *transfer, const ap_fetch_settings *settings, const ap_hub_source *source, const char *commit,
                       const ap_hub_file *file, int folder, uint64_t before, uint64_t total, ap_error *err);

#endif
