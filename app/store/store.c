/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/utf8.h"
#include "store/manifest.h"
#include "worker/worker.h"

enum { PATH_ROOM = 4096, DIGEST_PREFIX_MIN = 6 };

struct ap_store {
    char folder[2048]; /* …/models */
};

/* ---- Places ---- */

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
        return ap_fail(err, AP_E_LIMIT, "the path of the data folder is too long");
    return AP_OK;
}

ap_status ap_store_open(ap_store **out, const char *data_folder, ap_error *err)
{
    *out = NULL;
    ap_store *store = ap_alloc_zero(1, sizeof *store);
    if (!store)
        return ap_fail_nomem(err, sizeof *store);
    ap_status status = AP_OK;
    static const char *const parts[] = {"blobs", "names", "cache"};
    if (snprintf(store->folder, sizeof store->folder, "%s/models", data_folder) >= (int)sizeof store->folder)
        status = ap_fail(err, AP_E_LIMIT, "the path of the data folder is too long");
    for (size_t i = 0; i < 3 && status == AP_OK; i++) {
        char path[PATH_ROOM];
        (void)snprintf(path, sizeof path, "%s/%s", store->folder, parts[i]);
        status = ap_file_make_folders(path, 0755, err);
    }
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

bool ap_store_name_is_valid(const char *name)
{
    size_t length = strlen(name);
    if (length == 0 || length > AP_STORE_NAME_MAX || name[0] == '.' || name[0] == '-' || strstr(name, ".."))
        return false;
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("._:-", name[i]))
            return false;
    return true;
}

static void name_path(const ap_store *store, const char *name, char path[PATH_ROOM])
{
    (void)snprintf(path, PATH_ROOM, "%s/names/%s.json", store->folder, name);
}

static void blob_path(const ap_store *store, const char *digest, char path[PATH_ROOM])
{
    (void)snprintf(path, PATH_ROOM, "%s/blobs/%s.aperto", store->folder, digest);
}

/* ---- Walking manifests ---- */

typedef ap_status manifest_fn(void *context, const char *path, const ap_store_entry *entry, const ap_file_stamp *stamp,
                              ap_error *err);

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void free_names(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ap_free(names[i]);
    ap_free(names);
}

/* File names ending in .json of a folder, sorted. */
static ap_status list_folder(const char *folder, char ***names, size_t *count, ap_error *err)
{
    *names = NULL;
    *count = 0;
    DIR *dir = opendir(folder);
    if (!dir)
        return ap_fail(err, AP_E_IO, "the folder '%s' cannot be read: %s", folder, strerror(errno));
    ap_status status = AP_OK;
    for (struct dirent *d; status == AP_OK && (d = readdir(dir));) {
        size_t length = strlen(d->d_name);
        if (length < 6 || strcmp(d->d_name + length - 5, ".json") != 0)
            continue;
        char **grown = ap_realloc_array(*names, *count + 1, sizeof *grown);
        if (grown)
            *names = grown;
        char *copy = grown ? ap_strndup(d->d_name, length) : NULL;
        if (!copy)
            status = ap_fail_nomem(err, length);
        else
            grown[(*count)++] = copy;
    }
    closedir(dir);
    if (status == AP_OK && *count)
        qsort(*names, *count, sizeof **names, by_text);
    return status;
}

/* A manifest that cannot be read is handed on as a damaged entry; the others go on. */
static ap_status walk(const ap_store *store, const char *part, manifest_fn *fn, void *context, ap_error *err)
{
    char folder[PATH_ROOM], **names;
    size_t count;
    (void)snprintf(folder, sizeof folder, "%s/%s", store->folder, part);
    ap_status status = list_folder(folder, &names, &count, err);
    for (size_t i = 0; i < count && status == AP_OK; i++) {
        char path[PATH_ROOM];
        ap_store_entry entry;
        ap_file_stamp stamp;
        if (snprintf(path, sizeof path, "%s/%s", folder, names[i]) >= (int)sizeof path)
            continue;
        if (ap_manifest_read(path, &entry, &stamp, NULL) != AP_OK) {
            entry = (ap_store_entry){.is_damaged = true};
            (void)snprintf(entry.name, sizeof entry.name, "%.*s", (int)(strlen(names[i]) - 5), names[i]);
        }
        status = fn(context, path, &entry, &stamp, err);
    }
    free_names(names, count);
    return status;
}

typedef struct listing {
    ap_store_entry *entries;
    size_t count;
} listing;

static ap_status add_to_listing(void *context, const char *path, const ap_store_entry *entry, const ap_file_stamp *stamp,
                                ap_error *err)
{
    listing *l = context;
    ap_store_entry *grown = ap_realloc_array(l->entries, l->count + 1, sizeof *grown);
    if (!grown)
        return ap_fail_nomem(err, (l->count + 1) * sizeof *grown);
    l->entries = grown;
    grown[l->count++] = *entry;
    return AP_OK;
}

ap_status ap_store_list(ap_store *store, ap_store_entry **entries, size_t *count, ap_error *err)
{
    listing l = {0};
    ap_status status = walk(store, "names", add_to_listing, &l, err);
    if (status != AP_OK) {
        ap_free(l.entries);
        l = (listing){0};
    }
    *entries = l.entries;
    *count = l.count;
    return status;
}

/* ---- Finding ---- */

/* Edits that turn one word into the other, for "did you mean". */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[AP_STORE_NAME_MAX + 2];
    size_t n = strlen(b);
    for (size_t j = 0; j <= n; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; a[i - 1]; i++) {
        unsigned corner = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= n; j++) {
            unsigned change = corner + (a[i - 1] != b[j - 1]);
            corner = row[j];
            unsigned add = row[j - 1] + 1, drop = row[j] + 1;
            row[j] = change < add ? (change < drop ? change : drop) : (add < drop ? add : drop);
        }
    }
    return row[n];
}

typedef struct search {
    const char *wanted;
    ap_store_entry *found;
    unsigned matches;
    char nearest[AP_STORE_NAME_MAX + 1];
    unsigned nearest_distance;
} search;

static ap_status compare_entry(void *context, const char *path, const ap_store_entry *entry, const ap_file_stamp *stamp,
                               ap_error *err)
{
    search *s = context;
    size_t length = strlen(s->wanted);
    unsigned d = distance(s->wanted, entry->name);
    if (d < s->nearest_distance) {
        s->nearest_distance = d;
        (void)snprintf(s->nearest, sizeof s->nearest, "%s", entry->name);
    }
    if (entry->is_damaged || length < DIGEST_PREFIX_MIN || strncmp(entry->digest, s->wanted, length) != 0)
        return AP_OK;
    /* Several names of one blob are one model. */
    if (s->matches == 0 || strcmp(s->found->digest, entry->digest) != 0)
        s->matches++;
    *s->found = *entry;
    return AP_OK;
}

ap_status ap_store_find(ap_store *store, const char *name, ap_store_entry *entry, ap_error *err)
{
    char path[PATH_ROOM];
    ap_file_stamp stamp;
    if (!ap_store_name_is_valid(name))
        return ap_fail(err, AP_E_NOTFOUND, "'%.100s' is neither a file nor a possible name of a model", name);
    name_path(store, name, path);
    ap_status status = ap_manifest_read(path, entry, &stamp, err);
    if (status != AP_E_NOTFOUND)
        return status;
    search s = {.wanted = name, .found = entry, .nearest_distance = 4};
    AP_TRY(walk(store, "names", compare_entry, &s, err));
    if (s.matches == 1)
        return AP_OK;
    if (s.matches > 1)
        return ap_fail(err, AP_E_NOTFOUND, "'%s' is the start of %u digests; give more digits", name, s.matches);
    if (s.nearest[0])
        return ap_fail(err, AP_E_NOTFOUND, "there is no model '%s'; did you mean '%s'?", name, s.nearest);
    return ap_fail(err, AP_E_NOTFOUND, "there is no model '%s'; 'aperto list' shows those that are", name);
}

/* ---- Packing ---- */

typedef struct pack_job {
    int source_fd, out_fd;
    char source_sha256[AP_HASH_HEX];
} pack_job;

/* Runs in the one-shot worker; the report travels back as its bytes. */
static ap_status pack_in_worker(ap_oneshot *self, void *context, ap_error *err)
{
    const pack_job *job = context;
    ap_import_options options = {.size = sizeof options,
                                 .source_sha256 = job->source_sha256,
                                 .progress = ap_oneshot_progress,
                                 .progress_context = self};
    ap_import_report report;
    AP_TRY(ap_model_import(job->source_fd, job->out_fd, &options, &report, err));
    return ap_oneshot_write(self, &report, sizeof report, err);
}

typedef struct pack_reply {
    ap_buf bytes;
    ap_progress *progress;
    void *context;
} pack_reply;

static ap_status keep_reply(void *context, const char *bytes, size_t count, ap_error *err)
{
    pack_reply *reply = context;
    return ap_buf_add(&reply->bytes, bytes, count, err);
}

static void pass_progress(void *context, uint64_t done, uint64_t total)
{
    pack_reply *reply = context;
    if (reply->progress)
        reply->progress(reply->context, done, total);
}

/* Text of strangers: it ends, it is one line, it is UTF-8. */
static void tidy(char *text, size_t room)
{
    text[room - 1] = 0;
    bool is_utf8 = ap_utf8_valid(ap_str_from(text));
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f || (!is_utf8 && (unsigned char)*p >= 0x80))
            *p = '?';
}

static ap_status run_worker(pack_job *job, ap_progress *progress, void *context, ap_import_report *report, ap_error *err)
{
    pack_reply reply = {.bytes = {.limit = sizeof *report}, .progress = progress, .context = context};
    ap_oneshot_options options = {.fds = &job->source_fd, .fd_count = 1, .output_fd = job->out_fd, .result = keep_reply,
                                  .progress = pass_progress, .context = &reply};
    ap_status status = ap_worker_oneshot(pack_in_worker, job, &options, err);
    if (status == AP_OK && reply.bytes.len != sizeof *report)
        status = ap_fail(err, AP_E_WORKER, "the importing worker gave no report");
    if (status == AP_OK) {
        memcpy(report, reply.bytes.ptr, sizeof *report);
        tidy(report->architecture, sizeof report->architecture);
        tidy(report->name, sizeof report->name);
        tidy(report->license, sizeof report->license);
        tidy(report->quantization, sizeof report->quantization);
        tidy(report->notes, sizeof report->notes);
    }
    ap_buf_deinit(&reply.bytes);
    return status;
}

/* Packs an open source into a new blob; fills digest, sizes and report of the entry. */
static ap_status pack(const ap_store *store, pack_job *job, ap_progress *progress, void *context, ap_store_entry *entry,
                      ap_error *err)
{
    char target[PATH_ROOM];
    ap_file_new file;
    (void)snprintf(target, sizeof target, "%s/blobs/packing", store->folder);
    AP_TRY(ap_file_new_begin(&file, target, err));
    job->out_fd = file.fd;
    ap_file_stamp stamp;
    ap_status status = run_worker(job, progress, context, &entry->report, err);
    if (status == AP_OK)
        status = ap_hash_file(file.fd, AP_HASH_BLAKE2B, entry->digest, NULL, NULL, err);
    if (status == AP_OK)
        status = ap_file_stamp_of(file.fd, &stamp, err);
    if (status != AP_OK) {
        ap_file_new_abort(&file);
        return status;
    }
    entry->packed_bytes = stamp.bytes;
    blob_path(store, entry->digest, file.path);
    return ap_file_new_commit(&file, 0444, err);
}

typedef struct known_source {
    const ap_store *store;
    const char *sha256;
    ap_store_entry *found;
    bool is_found;
} known_source;

static ap_status look_for_source(void *context, const char *path, const ap_store_entry *entry, const ap_file_stamp *stamp,
                                 ap_error *err)
{
    known_source *k = context;
    char blob[PATH_ROOM];
    if (entry->is_damaged || k->is_found || strcmp(entry->source_sha256, k->sha256) != 0)
        return AP_OK;
    blob_path(k->store, entry->digest, blob);
    struct stat st;
    if (stat(blob, &st) == 0 && (uint64_t)st.st_size == entry->packed_bytes) {
        *k->found = *entry;
        k->is_found = true;
    }
    return AP_OK;
}

/* Leftovers of an import that was cut off; whoever holds the lock knows that nobody packs. */
static void remove_leftovers(const ap_store *store)
{
    char folder[PATH_ROOM];
    (void)snprintf(folder, sizeof folder, "%s/blobs", store->folder);
    DIR *dir = opendir(folder);
    if (!dir)
        return;
    for (struct dirent *d; (d = readdir(dir));)
        if (strncmp(d->d_name, "packing.new-", 12) == 0)
            (void)unlinkat(dirfd(dir), d->d_name, 0);
    closedir(dir);
}

static ap_status lock_store(const ap_store *store, int *lock, ap_error *err)
{
    char path[PATH_ROOM];
    (void)snprintf(path, sizeof path, "%s/lock", store->folder);
    *lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (*lock < 0)
        return ap_fail(err, AP_E_IO, "'%s' cannot be opened: %s", path, strerror(errno));
    while (flock(*lock, LOCK_EX) != 0)
        if (errno != EINTR) {
            close(*lock);
            return ap_fail(err, AP_E_IO, "the store cannot be locked: %s", strerror(errno));
        }
    return AP_OK;
}

/* Reads, hashes and packs a source file unless its bytes are in the store already. */
static ap_status take_source(const ap_store *store, const char *path, ap_progress *progress, void *context,
                             ap_store_entry *entry, ap_file_stamp *stamp, ap_error *err)
{
    pack_job job;
    char full[PATH_MAX];
    AP_TRY(ap_file_open(path, &job.source_fd, err));
    ap_status status = ap_file_stamp_of(job.source_fd, stamp, err);
    if (status == AP_OK)
        status = ap_hash_file(job.source_fd, AP_HASH_SHA256, job.source_sha256, NULL, NULL, err);
    ap_store_entry known;
    known_source k = {.store = store, .sha256 = job.source_sha256, .found = &known};
    if (status == AP_OK)
        status = walk(store, "names", look_for_source, &k, err);
    if (status == AP_OK && !k.is_found)
        status = walk(store, "cache", look_for_source, &k, err);
    *entry = k.is_found ? known : (ap_store_entry){0};
    if (status == AP_OK && !k.is_found) {
        remove_leftovers(store);
        status = pack(store, &job, progress, context, entry, err);
    }
    close(job.source_fd);
    if (status != AP_OK) {
        ap_error_prefix(err, path);
        return status;
    }
    memcpy(entry->source_sha256, job.source_sha256, sizeof entry->source_sha256);
    (void)snprintf(entry->source, sizeof entry->source, "%.1000s", realpath(path, full) ? full : path);
    tidy(entry->source, sizeof entry->source);
    entry->created = ap_clock_wall();
    return AP_OK;
}

/* A name out of a file's: "Folder/My Model.Q4.gguf" becomes "my-model.q4". */
static void make_name(const char *path, char name[AP_STORE_NAME_MAX + 1])
{
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    size_t length = strlen(base), n = 0;
    if (length > 5 && strcmp(base + length - 5, ".gguf") == 0)
        length -= 5;
    for (size_t i = 0; i < length && n < AP_STORE_NAME_MAX; i++) {
        char c = (char)tolower((unsigned char)base[i]);
        bool is_plain = isalnum((unsigned char)c) || c == '_' || (c == '.' && n && name[n - 1] != '.');
        if (is_plain)
            name[n++] = c;
        else if (n && name[n - 1] != '-')
            name[n++] = '-';
    }
    name[n] = 0;
    if (!ap_store_name_is_valid(name))
        (void)snprintf(name, AP_STORE_NAME_MAX + 1, "model");
}

ap_status ap_store_import(ap_store *store, const char *path, const char *name, ap_progress *progress, void *context,
                          ap_store_entry *entry, ap_error *err)
{
    char made[AP_STORE_NAME_MAX + 1], manifest[PATH_ROOM];
    int lock;
    if (!name) {
        make_name(path, made);
        name = made;
    }
    if (!ap_store_name_is_valid(name))
        return ap_fail(err, AP_E_ARG,
                       "'%.100s' is no possible name: 1 to %d characters of A-Z a-z 0-9 . _ : -, not starting with . or -", name,
                       AP_STORE_NAME_MAX);
    AP_TRY(lock_store(store, &lock, err));
    ap_file_stamp stamp, old_stamp;
    ap_status status = take_source(store, path, progress, context, entry, &stamp, err);
    name_path(store, name, manifest);
    ap_store_entry old;
    if (status == AP_OK && ap_manifest_read(manifest, &old, &old_stamp, NULL) == AP_OK && strcmp(old.digest, entry->digest) != 0)
        status = ap_fail(err, AP_E_STATE, "the name '%s' means another model already; remove it first or choose another with --as", name);
    if (status == AP_OK) {
        (void)snprintf(entry->name, sizeof entry->name, "%s", name);
        status = ap_manifest_write(manifest, entry, NULL, err);
    }
    close(lock);
    return status;
}

/* ---- Opening ---- */

ap_status ap_store_open_blob(ap_store *store, const ap_store_entry *entry, ap_progress *progress, void *context, int *fd,
                             ap_error *err)
{
    char path[PATH_ROOM], digest[AP_HASH_HEX];
    *fd = -1;
    blob_path(store, entry->digest, path);
    AP_TRY(ap_file_open(path, fd, err));
    ap_status status = ap_hash_file(*fd, AP_HASH_BLAKE2B, digest, progress, context, err);
    if (status == AP_OK && strcmp(digest, entry->digest) != 0)
        status = ap_fail(err, AP_E_INTEGRITY, "the packed file of '%s' has the digest %.16s…, not %.16s…: remove it and import the model again",
                         entry->name, digest, entry->digest);
    if (status != AP_OK) {
        close(*fd);
        *fd = -1;
    }
    return status;
}

typedef struct stamp_search {
    const ap_store *store;
    const ap_file_stamp *stamp;
    ap_store_entry *found;
    bool is_found;
} stamp_search;

static ap_status look_for_stamp(void *context, const char *path, const ap_store_entry *entry, const ap_file_stamp *stamp,
                                ap_error *err)
{
    stamp_search *s = context;
    char blob[PATH_ROOM];
    blob_path(s->store, entry->digest, blob);
    if (!entry->is_damaged && ap_file_stamp_equal(stamp, s->stamp) && access(blob, R_OK) == 0) {
        *s->found = *entry;
        s->is_found = true;
    }
    return AP_OK;
}

/* A file given by path: packed at its first use, found again by what the system says of it. */
static ap_status resolve_path(ap_store *store, const char *path, ap_progress *progress, void *context,
                              ap_store_entry *entry, ap_error *err)
{
    int source, lock;
    ap_file_stamp stamp;
    AP_TRY(ap_file_open(path, &source, err));
    ap_status status = ap_file_stamp_of(source, &stamp, err);
    close(source);
    AP_TRY(status);
    stamp_search s = {store, &stamp, entry, false};
    AP_TRY(walk(store, "cache", look_for_stamp, &s, err));
    if (s.is_found)
        return AP_OK;
    AP_TRY(lock_store(store, &lock, err));
    status = take_source(store, path, progress, context, entry, &stamp, err);
    if (status == AP_OK) {
        char manifest[PATH_ROOM];
        make_name(path, entry->name);
        (void)snprintf(manifest, sizeof manifest, "%s/cache/%.16s-%" PRIx64 ".json", store->folder, entry->source_sha256,
                       stamp.inode);
        status = ap_manifest_write(manifest, entry, &stamp, err);
    }
    close(lock);
    return status;
}

ap_status ap_store_resolve(ap_store *store, const char *model, ap_progress *progress, void *context,
                           ap_store_entry *entry, int *fd, ap_error *err)
{
    *fd = -1;
    size_t length = strlen(model);
    bool is_path = strchr(model, '/') || (length > 5 && strcmp(model + length - 5, ".gguf") == 0);
    if (is_path)
        AP_TRY(resolve_path(store, model, progress, context, entry, err));
    else
        AP_TRY(ap_store_find(store, model, entry, err));
    return ap_store_open_blob(store, entry, NULL, NULL, fd, err);
}

/* ---- Removing ---- */

typedef struct uses {
    const char *digest;
    unsigned count;
} uses;

static ap_status count_use(void *context, const char *path, const ap_store_entry *entry, const ap_file_stamp *stamp,
                           ap_error *err)
{
    uses *u = context;
    /* A damaged manifest may mean any blob: keep them all. */
    u->count += entry->is_damaged || strcmp(entry->digest, u->digest) == 0;
    return AP_OK;
}

ap_status ap_store_remove(ap_store *store, const char *name, ap_error *err)
{
    char path[PATH_ROOM];
    int lock;
    ap_store_entry entry;
    ap_file_stamp stamp;
    if (!ap_store_name_is_valid(name))
        return ap_fail(err, AP_E_NOTFOUND, "'%.100s' is no possible name of a model", name);
    AP_TRY(lock_store(store, &lock, err));
    name_path(store, name, path);
    ap_status status = ap_manifest_read(path, &entry, &stamp, err);
    bool is_damaged = status == AP_E_FORMAT; /* may go; which blob it meant nobody knows, so none goes */
    if (status == AP_E_NOTFOUND)
        status = ap_fail(err, AP_E_NOTFOUND, "there is no model '%s'", name);
    if ((status == AP_OK || is_damaged) && unlink(path) != 0)
        status = ap_fail(err, AP_E_IO, "'%s' cannot be removed: %s", path, strerror(errno));
    else if (is_damaged)
        status = AP_OK;
    else if (status == AP_OK) {
        uses u = {.digest = entry.digest};
        status = walk(store, "names", count_use, &u, err);
        if (status == AP_OK)
            status = walk(store, "cache", count_use, &u, err);
        blob_path(store, entry.digest, path);
        if (status == AP_OK && u.count == 0 && unlink(path) != 0 && errno != ENOENT)
            status = ap_fail(err, AP_E_IO, "'%s' cannot be removed: %s", path, strerror(errno));
    }
    close(lock);
    return status;
}
