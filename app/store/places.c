/* Where things are, and the walk that keeps the place tidy.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "store/inside.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"

enum { PATH_ROOM = AP_STORE_PATH_ROOM, DIGEST_DIGITS = AP_HASH_HEX - 1 };

ap_status ap_store_data_folder(char *path, size_t room, ap_error *err)
{
    const char *own = getenv("APERTO_DATA"), *xdg = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    int n = -1;
    if (own && *own)
        n = snprintf(path, room, "%s", own);
    else if (xdg && *xdg == '/')
        n = snprintf(path, room, "%s/aperto", xdg);
    else if (home && *home)
        n = snprintf(path, room, "%s/.local/share/aperto", home);
    else
        return ap_fail(err, AP_E_ARG, "there is no place for models: neither APERTO_DATA nor XDG_DATA_HOME nor HOME is set");
    if (n < 0 || (size_t)n >= room || n > 1500)
        return ap_fail(err, AP_E_LIMIT, "the path of the data folder is longer than 1500 bytes");
    return AP_OK;
}

ap_status ap_store_open(ap_store **out, const char *data_folder, ap_sandbox_mode sandbox, ap_error *err)
{
    *out = NULL;
    ap_store *store = ap_alloc_zero(1, sizeof *store);
    if (!store)
        return ap_fail_nomem(err, sizeof *store);
    store->sandbox = sandbox;
    ap_status status = AP_OK;
    if (snprintf(store->folder, sizeof store->folder, "%s/models", data_folder) >= (int)sizeof store->folder)
        status = ap_fail(err, AP_E_LIMIT, "the path of the data folder is too long");
    struct stat st;
    if (status == AP_OK && stat(data_folder, &st) == 0 && !S_ISDIR(st.st_mode))
        status = ap_fail(err, AP_E_IO, "the data folder '%s' is no folder", data_folder);
    if (status != AP_OK)
        ap_store_close(&store);
    *out = store;
    return status;
}

void ap_store_close(ap_store **store)
{
    ap_free(*store);
    *store = NULL;
}

void ap_store_downloads_folder(const ap_store *store, char *path, size_t room)
{
    (void)snprintf(path, room, "%s/downloads", store->folder);
}

void ap_store_name_path(const ap_store *store, const char *name, char path[PATH_ROOM])
{
    (void)snprintf(path, PATH_ROOM, "%s/names/%s.json", store->folder, name);
}

void ap_store_blob_path(const ap_store *store, const char *digest, char path[PATH_ROOM])
{
    (void)snprintf(path, PATH_ROOM, "%s/blobs/%s.aperto", store->folder, digest);
}

bool ap_store_has_blob(const ap_store *store, const ap_store_entry *entry)
{
    char path[PATH_ROOM];
    struct stat st;
    ap_store_blob_path(store, entry->digest, path);
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == entry->packed_bytes;
}

ap_status ap_store_lock(const ap_store *store, int *lock, ap_error *err)
{
    static const char *const parts[] = {"blobs", "names", "cache"};
    char path[PATH_ROOM];
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", store->folder, parts[i]);
        AP_TRY(ap_file_make_folders(path, 0755, err));
    }
    (void)snprintf(path, sizeof path, "%s/lock", store->folder);
    *lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (*lock < 0)
        return ap_fail(err, AP_E_IO, "the store '%.250s' cannot be changed: %s", store->folder, strerror(errno));
    while (flock(*lock, LOCK_EX) != 0)
        if (errno != EINTR) {
            close(*lock);
            return ap_fail(err, AP_E_IO, "'%s' cannot be locked: %s", path, strerror(errno));
        }
    return AP_OK;
}

/* ---- Walking ---- */

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void free_names(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ap_free(names[i]);
    ap_free(names);
}

/* All file names of a folder, sorted; none if it was not made yet. */
static ap_status list_folder(const char *folder, char ***names, size_t *count, ap_error *err)
{
    *names = NULL;
    *count = 0;
    DIR *dir = opendir(folder);
    if (!dir && errno == ENOENT)
        return AP_OK;
    if (!dir)
        return ap_fail(err, AP_E_IO, "the folder '%s' cannot be read: %s", folder, strerror(errno));
    ap_status status = AP_OK;
    for (;;) {
        errno = 0;
        const struct dirent *d = readdir(dir);
        if (!d && errno)
            status = ap_fail(err, AP_E_IO, "the folder '%s' cannot be read: %s", folder, strerror(errno));
        if (!d || status != AP_OK)
            break;
        char **grown = ap_realloc_array(*names, *count + 1, sizeof *grown);
        if (grown)
            *names = grown;
        char *copy = grown ? ap_strndup(d->d_name, strlen(d->d_name)) : NULL;
        if (!copy) {
            status = ap_fail_nomem(err, strlen(d->d_name));
            break;
        }
        grown[(*count)++] = copy;
    }
    closedir(dir);
    if (status == AP_OK && *count)
        qsort(*names, *count, sizeof **names, by_text);
    return status;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

ap_status ap_store_walk(const ap_store *store, const char *part, ap_store_walk_fn *fn, void *context, ap_error *err)
{
    char folder[PATH_ROOM], **names;
    size_t count;
    bool is_names = strcmp(part, "names") == 0;
    (void)snprintf(folder, sizeof folder, "%s/%s", store->folder, part);
    ap_status status = list_folder(folder, &names, &count, err);
    for (size_t i = 0; i < count && status == AP_OK; i++) {
        char path[PATH_ROOM], stem[256];
        ap_manifest manifest;
        if (!ends_with(names[i], ".json") || snprintf(path, sizeof path, "%s/%s", folder, names[i]) >= (int)sizeof path)
            continue;
        (void)snprintf(stem, sizeof stem, "%.*s", (int)(strlen(names[i]) - 5), names[i]);
        if (is_names && !ap_store_name_is_valid(stem))
            continue; /* not ours */
        ap_status read = ap_manifest_read(path, &manifest, NULL);
        if (read == AP_E_NOMEM)
            status = ap_fail_nomem(err, sizeof manifest);
        if (read != AP_E_NOMEM && (read != AP_OK || (is_names && strcmp(manifest.now.name, stem) != 0))) {
            ap_manifest_deinit(&manifest);
            manifest.now.is_damaged = true;
            (void)snprintf(manifest.now.name, sizeof manifest.now.name, "%.*s", AP_STORE_NAME_MAX, stem);
        }
        if (status == AP_OK && read != AP_E_NOTFOUND) /* else removed since the folder was read */
            status = fn(context, path, &manifest, err);
        ap_manifest_deinit(&manifest);
    }
    free_names(names, count);
    return status;
}

/* ---- Sweeping ---- */

typedef struct needed {
    char (*digests)[AP_HASH_HEX];
    size_t count;
    bool has_damaged;
} needed;

static ap_status note_needed(void *context, const char *path, const ap_manifest *m, ap_error *err)
{
    needed *n = context;
    n->has_damaged = n->has_damaged || m->now.is_damaged;
    if (m->now.is_damaged)
        return AP_OK;
    void *grown = ap_realloc_array(n->digests, n->count + 1 + m->before_count, sizeof *n->digests);
    if (!grown)
        return ap_fail_nomem(err, (n->count + 1 + m->before_count) * sizeof *n->digests);
    n->digests = grown;
    memcpy(n->digests[n->count++], m->now.digest, AP_HASH_HEX);
    for (size_t i = 0; i < m->before_count; i++)
        memcpy(n->digests[n->count++], m->before[i].digest, AP_HASH_HEX);
    return AP_OK;
}

/* A cached source that is gone, or another one now, will never be asked for under this stamp again. */
static ap_status drop_stale(void *context, const char *path, const ap_manifest *m, ap_error *err)
{
    ap_store_source now;
    bool is_fresh = false;
    if (!m->now.is_damaged && ap_store_source_open(&now, m->now.source, NULL) == AP_OK) {
        is_fresh = ap_file_stamp_equal(&now.stamp, &m->stamp);
        ap_store_source_close(&now);
    }
    if (!is_fresh)
        (void)unlink(path);
    return AP_OK;
}

/* Files of one folder that may go: half-written ones, and blobs that nothing needs. */
static ap_status sweep_folder(const ap_store *store, const char *part, const needed *n, ap_error *err)
{
    char folder[PATH_ROOM], **names;
    size_t count;
    (void)snprintf(folder, sizeof folder, "%s/%s", store->folder, part);
    ap_status status = list_folder(folder, &names, &count, err);
    for (size_t i = 0; i < count && status == AP_OK; i++) {
        char path[PATH_ROOM];
        bool must_go = strstr(names[i], ".json.new-") || strncmp(names[i], "packing.new-", 12) == 0;
        if (n && !n->has_damaged && strspn(names[i], "0123456789abcdef") == DIGEST_DIGITS &&
            strcmp(names[i] + DIGEST_DIGITS, ".aperto") == 0) {
            must_go = true;
            for (size_t k = 0; k < n->count; k++)
                must_go = must_go && strncmp(n->digests[k], names[i], DIGEST_DIGITS) != 0;
        }
        if (must_go && snprintf(path, sizeof path, "%s/%s", folder, names[i]) < (int)sizeof path && unlink(path) != 0 &&
            errno != ENOENT)
            status = ap_fail(err, AP_E_IO, "'%s' cannot be removed: %s", path, strerror(errno));
    }
    free_names(names, count);
    return status;
}

ap_status ap_store_sweep(const ap_store *store, ap_error *err)
{
    needed n = {0};
    ap_status status = ap_store_walk(store, "cache", drop_stale, NULL, err);
    if (status == AP_OK)
        status = ap_store_walk(store, "names", note_needed, &n, err);
    if (status == AP_OK)
        status = ap_store_walk(store, "cache", note_needed, &n, err);
    if (status == AP_OK)
        status = sweep_folder(store, "names", NULL, err);
    if (status == AP_OK)
        status = sweep_folder(store, "cache", NULL, err);
    if (status == AP_OK)
        status = sweep_folder(store, "blobs", &n, err);
    ap_free(n.digests);
    return status;
}
