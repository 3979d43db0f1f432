/* SPDX-License-Identifier: Apache-2.0 */
#include "fetch/pending.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"

enum { KEY_DIGITS = 32, NOTE_BYTES_MAX = 16384, DEPTH_MAX = 3 };

/* ---- One download ---- */

static bool is_key(const char *name) { return strspn(name, "0123456789abcdef") == KEY_DIGITS && name[KEY_DIGITS] == 0; }

static ap_status key_path(const char *folder, const char *source, char path[AP_FETCH_PATH_ROOM], ap_error *err)
{
    ap_hash hash;
    char hex[AP_HASH_HEX];
    ap_hash_begin(&hash, AP_HASH_SHA256);
    ap_hash_add(&hash, source, strlen(source));
    ap_hash_end(&hash, hex);
    if (snprintf(path, AP_FETCH_PATH_ROOM, "%s/%.*s", folder, KEY_DIGITS, hex) >= AP_FETCH_PATH_ROOM - 300)
        return ap_fail(err, AP_E_LIMIT, "the path of the downloads folder is too long");
    return AP_OK;
}

/* AP_E_STATE if another process holds it.  A lock that was removed between open and flock is none. */
static ap_status lock(const char *path, int *out, ap_error *err)
{
    char file[AP_FETCH_PATH_ROOM];
    (void)snprintf(file, sizeof file, "%.4080s/lock", path);
    for (;;) {
        struct stat held, there;
        *out = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (*out < 0)
            return ap_fail(err, AP_E_IO, "'%s' cannot be opened: %s", file, strerror(errno));
        if (flock(*out, LOCK_EX | LOCK_NB) != 0) {
            close(*out);
            *out = -1;
            return errno == EINTR ? ap_fail(err, AP_E_CANCELLED, "stopped") : ap_fail(err, AP_E_STATE, "another process is fetching this just now");
        }
        if (fstat(*out, &held) == 0 && stat(file, &there) == 0 && held.st_ino == there.st_ino && held.st_dev == there.st_dev)
            return AP_OK;
        close(*out);
        (void)ap_file_make_folders(path, 0755, NULL);
    }
}

static bool read_note(const char *path, ap_fetch_state *out)
{
    char file[AP_FETCH_PATH_ROOM];
    ap_buf text;
    json_t *root = NULL;
    ap_str source, revision;
    *out = (ap_fetch_state){0};
    (void)snprintf(file, sizeof file, "%.4070s/pull.json", path);
    if (ap_file_read(file, NOTE_BYTES_MAX, &text, NULL) != AP_OK)
        return false;
    bool is_good = ap_json_parse(&root, ap_buf_str(&text), (ap_json_limits){.bytes_max = NOTE_BYTES_MAX, .values_max = 100}, NULL) == AP_OK &&
                   ap_json_get_str(root, "source", &source, NULL) == AP_OK && source.len < sizeof out->source &&
                   ap_json_get_str(root, "revision", &revision, NULL) == AP_OK && revision.len < sizeof out->revision &&
                   ap_json_get_u64(root, "bytes", &out->bytes, NULL) == AP_OK;
    if (is_good) {
        memcpy(out->source, source.ptr, source.len);
        memcpy(out->revision, revision.ptr, revision.len);
    }
    json_decref(root);
    ap_buf_deinit(&text);
    return is_good;
}

static ap_status write_note(const char *path, const ap_fetch_state *state, ap_error *err)
{
    char file_path[AP_FETCH_PATH_ROOM];
    json_t *root = json_pack("{s:s, s:s, s:I}", "source", state->source, "revision", state->revision, "bytes", (json_int_t)state->bytes);
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    if (!text)
        return ap_fail(err, AP_E_FORMAT, "the source calls its state by a name that is not UTF-8");
    (void)snprintf(file_path, sizeof file_path, "%.4070s/pull.json", path);
    ap_status status = ap_file_replace(file_path, text, strlen(text), 0644, err);
    free(text);
    return status;
}

/* Removes a folder and what is in it, following no link. */
static void remove_all(int parent, const char *name, unsigned depth)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *dir = fd >= 0 && depth < DEPTH_MAX ? fdopendir(fd) : NULL;
    if (!dir && fd >= 0)
        close(fd);
    for (struct dirent *d; dir && (d = readdir(dir));) {
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
            continue;
        if (unlinkat(fd, d->d_name, 0) != 0)
            remove_all(fd, d->d_name, depth + 1);
    }
    if (dir)
        closedir(dir);
    (void)unlinkat(parent, name, AT_REMOVEDIR);
}

ap_status ap_pending_begin(const char *folder, ap_fetched *out, bool *is_same_state, ap_error *err)
{
    ap_fetch_state before;
    *is_same_state = false;
    AP_TRY(key_path(folder, out->state.source, out->folder, err));
    if (ap_file_make_folders(out->folder, 0755, NULL) != AP_OK)
        return ap_fail(err, AP_E_IO, "the folder of downloads '%.250s' cannot be changed: %s", folder, strerror(errno));
    AP_TRY(lock(out->folder, &out->lock, err));
    *is_same_state = read_note(out->folder, &before) && ap_fetch_is_same(before.revision, out->state.revision);
    ap_status status = write_note(out->folder, &out->state, err);
    if (status != AP_OK)
        ap_fetch_end(out, false);
    return status;
}

/* Whether a file in it has bytes; pull.json and lock at its top are not the model's. */
static bool holds_bytes(int parent, const char *name, unsigned depth)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *dir = fd >= 0 && depth < DEPTH_MAX ? fdopendir(fd) : NULL;
    bool is_held = false;
    if (!dir && fd >= 0)
        close(fd);
    for (struct dirent *d; dir && !is_held && (d = readdir(dir));) {
        struct stat st;
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0 || fstatat(fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        is_held = S_ISDIR(st.st_mode) ? holds_bytes(fd, d->d_name, depth + 1) : depth > 0 && st.st_size > 0;
    }
    if (dir)
        closedir(dir);
    return is_held;
}

void ap_fetch_end(ap_fetched *fetched, bool is_done)
{
    if (fetched->lock < 0)
        return;
    if (is_done || !holds_bytes(AT_FDCWD, fetched->folder, 0)) { /* nothing to go on with */
        remove_all(AT_FDCWD, fetched->folder, 0);
        fetched->folder[0] = 0;
    }
    close(fetched->lock);
    fetched->lock = -1;
}

/* ---- All downloads ---- */

/* Bytes on the disk and the latest change of what is in a folder. */
static void measure(int parent, const char *name, unsigned depth, ap_fetch_leftover *out)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *dir = fd >= 0 && depth < DEPTH_MAX ? fdopendir(fd) : NULL;
    if (!dir && fd >= 0)
        close(fd);
    for (struct dirent *d; dir && (d = readdir(dir));) {
        struct stat st;
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0 || fstatat(fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        if (S_ISDIR(st.st_mode))
            measure(fd, d->d_name, depth + 1, out);
        else if (depth > 0) /* pull.json and lock are not the model's */
            out->bytes_there += (uint64_t)st.st_blocks * 512;
        out->touched = st.st_mtime > out->touched ? st.st_mtime : out->touched;
    }
    if (dir)
        closedir(dir);
}

typedef ap_status each_fn(void *context, const char *path, const ap_fetch_leftover *leftover, ap_error *err);

static ap_status for_each(const char *folder, each_fn *fn, void *context, ap_error *err)
{
    DIR *dir = opendir(folder);
    ap_status status = AP_OK;
    if (!dir)
        return errno == ENOENT ? AP_OK : ap_fail(err, AP_E_IO, "the folder '%s' cannot be read: %s", folder, strerror(errno));
    for (struct dirent *d; status == AP_OK && (d = readdir(dir));) {
        char path[AP_FETCH_PATH_ROOM];
        ap_fetch_state state;
        ap_fetch_leftover leftover = {0};
        if (!is_key(d->d_name) || snprintf(path, sizeof path, "%s/%s", folder, d->d_name) >= (int)sizeof path)
            continue; /* not ours */
        (void)read_note(path, &state); /* without it the source stays empty */
        memcpy(leftover.source, state.source, sizeof leftover.source);
        leftover.bytes = state.bytes;
        struct stat st; /* one that was just made has no files yet */
        leftover.touched = stat(path, &st) == 0 ? st.st_mtime : ap_clock_wall();
        measure(AT_FDCWD, path, 0, &leftover);
        status = fn(context, path, &leftover, err);
    }
    closedir(dir);
    return status;
}

typedef struct list {
    ap_fetch_leftover *entries;
    size_t count;
} list;

static ap_status add(void *context, const char *path, const ap_fetch_leftover *leftover, ap_error *err)
{
    list *l = context;
    ap_fetch_leftover *grown = ap_realloc_array(l->entries, l->count + 1, sizeof *grown);
    if (!grown)
        return ap_fail_nomem(err, (l->count + 1) * sizeof *grown);
    l->entries = grown;
    if (leftover->source[0])
        grown[l->count++] = *leftover;
    return AP_OK;
}

static int by_source(const void *a, const void *b)
{
    return strcmp(((const ap_fetch_leftover *)a)->source, ((const ap_fetch_leftover *)b)->source);
}

ap_status ap_fetch_leftovers(const char *folder, ap_fetch_leftover **out, size_t *count, ap_error *err)
{
    list l = {0};
    ap_status status = for_each(folder, add, &l, err);
    if (status != AP_OK) {
        ap_free(l.entries);
        l = (list){0};
    }
    if (l.count)
        qsort(l.entries, l.count, sizeof *l.entries, by_source);
    *out = l.entries;
    *count = l.count;
    return status;
}

ap_status ap_fetch_forget(const char *folder, const char *source, ap_error *err)
{
    ap_fetched f = {.lock = -1};
    struct stat st;
    AP_TRY(key_path(folder, source, f.folder, err));
    if (stat(f.folder, &st) != 0)
        return ap_fail(err, AP_E_NOTFOUND, "there is no unfinished download of '%.300s'; 'aperto list' shows those that are", source);
    AP_TRY(lock(f.folder, &f.lock, err));
    ap_fetch_end(&f, true);
    return AP_OK;
}

static ap_status drop_old(void *context, const char *path, const ap_fetch_leftover *leftover, ap_error *err)
{
    const ap_fetch_options *o = context;
    ap_fetched f = {.lock = -1};
    int64_t days = (ap_clock_wall() - leftover->touched) / 86400;
    if (days < AP_FETCH_KEEP_DAYS || lock(path, &f.lock, NULL) != AP_OK)
        return AP_OK;
    (void)snprintf(f.folder, sizeof f.folder, "%s", path);
    ap_fetch_end(&f, true);
    if (o->note && leftover->source[0]) {
        ap_error line; /* makes one line of it */
        ap_error_write(&line, AP_OK, "removed the unfinished download of %.300s (%.1f MB), which nobody touched for %" PRId64 " days",
                       leftover->source, (double)leftover->bytes_there / 1e6, days);
        o->note(o->context, line.message);
    }
    return AP_OK;
}

void ap_pending_sweep(const ap_fetch_options *options) { (void)for_each(options->folder, drop_old, (void *)options, NULL); }
