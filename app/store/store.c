/* Names, and what may be done with them.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "store/inside.h"
#include "store/passport.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

#include "base/alloc.h"

enum { PATH_ROOM = AP_STORE_PATH_ROOM, DIGEST_PREFIX_MIN = 6 };

bool ap_store_name_is_valid(const char *name)
{
    size_t length = strlen(name);
    if (length == 0 || length > AP_STORE_NAME_MAX || name[0] == '.' || name[0] == '-' || strstr(name, ".."))
        return false;
    return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-") == length;
}

bool ap_store_is_source(const char *text)
{
    static const char *const schemes[] = {"hf:", "https:", "http:", "oci:", "ftp:", "file:"};
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
        if (strncasecmp(text, schemes[i], strlen(schemes[i])) == 0)
            return true;
    return false;
}

bool ap_store_is_path(const char *model)
{
    size_t length = strlen(model);
    return strchr(model, '/') || (length > 5 && strcmp(model + length - 5, ".gguf") == 0) || access(model, F_OK) == 0;
}

/* ---- Listing ---- */

typedef struct listing {
    const ap_store *store;
    bool is_cache;
    ap_store_entry *entries;
    size_t count;
} listing;

static ap_status add_to_listing(void *context, const char *path, const ap_manifest *m, ap_error *err)
{
    listing *l = context;
    const ap_store_entry *entry = &m->now;
    if (l->is_cache && entry->is_damaged) /* it has no name, and goes with the next change */
        return AP_OK;
    ap_store_entry *grown = ap_realloc_array(l->entries, l->count + 1, sizeof *grown);
    if (!grown)
        return ap_fail_nomem(err, (l->count + 1) * sizeof *grown);
    l->entries = grown;
    grown[l->count] = *entry;
    grown[l->count].has_no_blob = !entry->is_damaged && !ap_store_has_blob(l->store, entry);
    grown[l->count++].is_cached = l->is_cache;
    return AP_OK;
}

ap_status ap_store_list(ap_store *store, ap_store_entry **entries, size_t *count, ap_error *err)
{
    listing l = {.store = store};
    ap_status status = ap_store_walk(store, "names", add_to_listing, &l, err);
    l.is_cache = true;
    if (status == AP_OK)
        status = ap_store_walk(store, "cache", add_to_listing, &l, err);
    if (status != AP_OK) {
        ap_free(l.entries);
        l = (listing){0};
    }
    *entries = l.entries;
    *count = l.count;
    return status;
}

/* ---- Finding ---- */

/* Edits that turn one name into the other, for "did you mean". */
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

/* What a name means goes before what another meant, so that of one blob the name found is one that can be used. */
static void compare_digest(search *s, const ap_store_entry *entry, bool is_history)
{
    if (strncmp(entry->digest, s->wanted, strlen(s->wanted)) != 0)
        return;
    /* Several names of one blob are one model. */
    bool is_same = s->matches && strcmp(s->found->digest, entry->digest) == 0;
    s->matches += !is_same;
    if (is_same && is_history)
        return;
    *s->found = *entry;
}

static ap_status compare_entry(void *context, const char *path, const ap_manifest *m, ap_error *err)
{
    search *s = context;
    const ap_store_entry *entry = &m->now;
    size_t length = strlen(s->wanted);
    unsigned d = strncmp(s->wanted, entry->name, length) == 0 ? 1 : distance(s->wanted, entry->name);
    if (d < s->nearest_distance) {
        s->nearest_distance = d;
        (void)snprintf(s->nearest, sizeof s->nearest, "%s", entry->name);
    }
    if (entry->is_damaged || length < DIGEST_PREFIX_MIN)
        return AP_OK;
    compare_digest(s, entry, false);
    for (size_t i = 0; i < m->before_count; i++)
        compare_digest(s, &m->before[i], true);
    return AP_OK;
}

/* A file given by path has a name for serve and for lists; to use it takes its path. */
static ap_status compare_cached(void *context, const char *path, const ap_manifest *m, ap_error *err)
{
    search *s = context;
    if (m->now.is_damaged || strcmp(m->now.name, s->wanted) != 0)
        return AP_OK;
    *s->found = m->now;
    s->matches++;
    return AP_OK;
}

static ap_status find_near(ap_store *store, const char *name, ap_store_entry *entry, ap_error *err)
{
    search s = {.wanted = name, .found = entry, .nearest_distance = 4};
    AP_TRY(ap_store_walk(store, "names", compare_entry, &s, err));
    if (s.matches == 1)
        return AP_OK;
    if (s.matches > 1)
        return ap_fail(err, AP_E_NOTFOUND, "'%s' is the start of %u digests; give more digits", name, s.matches);
    AP_TRY(ap_store_walk(store, "cache", compare_cached, &s, err));
    if (s.matches)
        return ap_fail(err, AP_E_NOTFOUND, "'%s' was given by path and has no name in the store; write '%.300s'", name, entry->source);
    if (s.nearest[0])
        return ap_fail(err, AP_E_NOTFOUND, "there is no model '%s'; did you mean '%s'?", name, s.nearest);
    return ap_fail(err, AP_E_NOTFOUND, "there is no model '%s'; 'aperto list' shows those that are", name);
}

typedef struct stamp_search {
    ap_file_stamp stamp;
    ap_store_entry *found;
    char path[PATH_ROOM]; /* of the manifest, empty: not found */
} stamp_search;

static ap_status look_for_stamp(void *context, const char *path, const ap_manifest *m, ap_error *err)
{
    stamp_search *s = context;
    if (m->now.is_damaged || !ap_file_stamp_equal(&m->stamp, &s->stamp))
        return AP_OK;
    *s->found = m->now;
    (void)snprintf(s->path, sizeof s->path, "%s", path);
    return AP_OK;
}

/* What was packed of a path before; s->path is empty if nothing was. */
static ap_status find_cached(ap_store *store, const char *path, stamp_search *s, ap_error *err)
{
    ap_store_source source;
    s->path[0] = 0;
    AP_TRY(ap_store_source_open(&source, path, err));
    s->stamp = source.stamp;
    ap_store_source_close(&source);
    return ap_store_walk(store, "cache", look_for_stamp, s, err);
}

/* A manifest of exactly this name, whatever else the word may be. */
static ap_status find_name(ap_store *store, const char *name, ap_store_entry *entry, ap_error *err)
{
    ap_manifest manifest;
    if (!ap_store_name_is_valid(name))
        return ap_fail(err, AP_E_NOTFOUND, "'%.100s' is neither a file nor a possible name of a model", name);
    ap_status status = ap_store_read_name(store, name, &manifest, err);
    *entry = manifest.now;
    ap_manifest_deinit(&manifest);
    return status;
}

static ap_status find_any(ap_store *store, const char *model, ap_store_entry *entry, ap_error *err)
{
    ap_status status = find_name(store, model, entry, err);
    if (status != AP_E_NOTFOUND)
        return status;
    if (ap_store_is_path(model)) {
        stamp_search s = {.found = entry};
        AP_TRY(find_cached(store, model, &s, err));
        entry->is_cached = s.path[0] != 0;
        return s.path[0] ? AP_OK : ap_fail(err, AP_E_NOTFOUND, "'%s' is not packed yet", model);
    }
    return ap_store_name_is_valid(model) ? find_near(store, model, entry, err) : status;
}

ap_status ap_store_find(ap_store *store, const char *model, ap_store_entry *entry, ap_error *err)
{
    AP_TRY(find_any(store, model, entry, err));
    entry->has_no_blob = !ap_store_has_blob(store, entry);
    return AP_OK;
}

/* ---- Importing ---- */

void ap_store_make_name(const char *path, char name[AP_STORE_NAME_MAX + 1])
{
    size_t end = strlen(path), n = 0;
    while (end > 1 && path[end - 1] == '/') /* a folder */
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    const char *base = path + start;
    size_t length = end - start;
    if (length > 5 && strncmp(base + length - 5, ".gguf", 5) == 0)
        length -= 5;
    for (size_t i = 0; i < length && n < AP_STORE_NAME_MAX; i++) {
        char c = (char)tolower((unsigned char)base[i]);
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || (c == ':' && n) || (c == '.' && n && name[n - 1] != '.');
        if (is_plain)
            name[n++] = c;
        else if (n && name[n - 1] != '-')
            name[n++] = '-';
    }
    while (n && name[n - 1] == '-') /* of letters that no name has */
        n--;
    name[n] = 0;
    if (ap_store_is_source(name)) /* "hf:x.gguf", "oci://HOST/hf:TAG" */
        *strchr(name, ':') = '-';
    if (!ap_store_name_is_valid(name))
        (void)snprintf(name, AP_STORE_NAME_MAX + 1, "model");
}

/* A name that is new, or means what came from the same source before, gets what was imported. */
static ap_status name_import(const ap_store *store, const char *name, ap_store_entry *entry, ap_error *err)
{
    char path[PATH_ROOM];
    ap_manifest manifest;
    ap_store_name_path(store, name, path);
    ap_status status = ap_store_read_name(store, name, &manifest, err);
    (void)snprintf(entry->name, sizeof entry->name, "%s", name);
    if (status == AP_E_NOTFOUND) {
        manifest.now = *entry;
        status = AP_OK;
    } else if (status == AP_OK) {
        const ap_store_entry *now = &manifest.now;
        if (strcmp(now->digest, entry->digest) != 0 && strcmp(now->source_sha256, entry->source_sha256) != 0 &&
            strcmp(now->source, entry->source) != 0)
            status = ap_fail(err, AP_E_STATE, "the name '%s' means another model already, from %.500s; choose another with --as, or "
                             "move the name with 'aperto tag --move'", name, now->source);
        else
            status = ap_store_move(&manifest, entry, err);
    }
    if (status == AP_OK)
        status = ap_manifest_write(path, &manifest, err);
    ap_manifest_deinit(&manifest);
    return status;
}

/* What was measured of the file travels beside it; without it the model is no worse. */
static void adopt_passport(ap_store *store, const char *path, ap_store_entry *entry)
{
    ap_passport passport;
    ap_error why = {0};
    ap_import_report *r = &entry->report;
    ap_status status = ap_passport_read_beside(path, entry->source_sha256, &passport, &why);
    if (status == AP_OK)
        status = ap_store_put_passport(store, &passport, &why);
    if (status != AP_OK && status != AP_E_NOTFOUND)
        ap_str_append(r->notes, sizeof r->notes, "%s%s.", r->notes[0] ? " " : "", why.message);
}

ap_status ap_store_import(ap_store *store, const char *path, const ap_store_origin *origin, const char *name,
                          ap_progress *progress, void *context, ap_store_entry *entry, ap_error *err)
{
    char made[AP_STORE_NAME_MAX + 1];
    ap_file_stamp stamp;
    int lock;
    if (!name) {
        ap_store_make_name(origin ? origin->source : path, made);
        name = made;
    }
    *entry = (ap_store_entry){0};
    AP_TRY(ap_store_check_new_name(name, err));
    AP_TRY(ap_store_lock(store, &lock, err));
    ap_status status = ap_store_sweep(store, err);
    if (status == AP_OK)
        status = ap_store_take_source(store, path, origin, progress, context, entry, &stamp, err);
    if (status == AP_OK)
        status = name_import(store, name, entry, err);
    if (status == AP_OK)
        adopt_passport(store, path, entry);
    if (status != AP_OK)
        (void)ap_store_sweep(store, NULL); /* what was packed has no name */
    close(lock);
    return status;
}

/* ---- Opening ---- */

ap_status ap_store_open_blob(ap_store *store, const ap_store_entry *entry, ap_progress *progress, void *context, int *fd,
                             ap_error *err)
{
    char path[PATH_ROOM], digest[AP_HASH_HEX];
    *fd = -1;
    if (entry->law_version != AP_LAW_VERSION)
        return ap_fail(err, AP_E_UNSUPPORTED, "'%s' was packed for version %u of the law, this program has version %d: import it again from %s",
                       entry->name, entry->law_version, AP_LAW_VERSION, entry->source);
    ap_store_blob_path(store, entry->digest, path);
    ap_status status = ap_file_open(path, fd, err);
    if (status == AP_E_NOTFOUND)
        return ap_fail(err, AP_E_INTEGRITY, "the packed file '%s' of '%s' is missing; import the model again from %s", path,
                       entry->name, entry->source);
    AP_TRY(status);
    status = ap_hash_file(*fd, AP_HASH_BLAKE2B, digest, progress, context, err);
    if (status == AP_OK && strcmp(digest, entry->digest) != 0)
        status = ap_fail(err, AP_E_INTEGRITY, "the packed file '%s' of '%s' has the digest %.16s…: it is damaged; import the model again from %s",
                         path, entry->name, digest, entry->source);
    if (status != AP_OK) {
        close(*fd);
        *fd = -1;
    }
    return status;
}

/* Packs a file given by path and remembers its stamp. */
static ap_status pack_path(ap_store *store, const char *path, ap_progress *progress, void *context, ap_store_entry *entry,
                           ap_error *err)
{
    int lock;
    ap_manifest m = {0};
    AP_TRY(ap_store_lock(store, &lock, err));
    ap_status status = ap_store_sweep(store, err);
    if (status == AP_OK)
        status = ap_store_take_source(store, path, NULL, progress, context, entry, &m.stamp, err);
    if (status == AP_OK) {
        char manifest[PATH_ROOM];
        ap_store_make_name(path, entry->name);
        (void)snprintf(manifest, sizeof manifest, "%s/cache/%.16s-%" PRIx64 "-%" PRIx64 ".json", store->folder,
                       entry->source_sha256, m.stamp.device, m.stamp.inode);
        m.now = *entry;
        status = ap_manifest_write(manifest, &m, err);
    }
    close(lock);
    return status;
}

static ap_status resolve_path(ap_store *store, const char *path, ap_progress *progress, void *context,
                              ap_store_entry *entry, int *fd, ap_error *err)
{
    stamp_search s = {.found = entry};
    AP_TRY(find_cached(store, path, &s, err));
    if (s.path[0]) {
        ap_status status = ap_store_open_blob(store, entry, progress, context, fd, err);
        /* The source is at hand, so a blob that is damaged, gone or out of date is only packed again. */
        if (status != AP_E_INTEGRITY && status != AP_E_NOTFOUND && status != AP_E_UNSUPPORTED)
            return status;
    }
    AP_TRY(pack_path(store, path, progress, context, entry, err));
    return ap_store_open_blob(store, entry, progress, context, fd, err);
}

ap_status ap_store_resolve(ap_store *store, const char *model, ap_progress *progress, void *context,
                           ap_store_entry *entry, int *fd, ap_error *err)
{
    *fd = -1;
    ap_status status = find_name(store, model, entry, err);
    if (status == AP_E_NOTFOUND && ap_store_is_path(model))
        return resolve_path(store, model, progress, context, entry, fd, err);
    if (status == AP_E_NOTFOUND)
        status = ap_store_find(store, model, entry, err);
    AP_TRY(status);
    return ap_store_open_blob(store, entry, progress, context, fd, err);
}

/* ---- Removing ---- */

/* The manifest that `model` means; a damaged one may go as well. */
static ap_status find_manifest(ap_store *store, const char *model, char path[PATH_ROOM], ap_error *err)
{
    ap_store_entry entry;
    if (ap_store_name_is_valid(model)) {
        ap_store_name_path(store, model, path);
        if (access(path, F_OK) == 0)
            return AP_OK;
    }
    if (ap_store_is_path(model)) {
        stamp_search s = {.found = &entry};
        AP_TRY(find_cached(store, model, &s, err));
        (void)snprintf(path, PATH_ROOM, "%s", s.path);
        return path[0] ? AP_OK : ap_fail(err, AP_E_NOTFOUND, "nothing was packed of '%s'", model);
    }
    /* A removal never acts on the start of a digest: it may belong to several names. */
    AP_TRY(ap_store_find(store, model, &entry, err));
    return ap_fail(err, AP_E_ARG, "'%s' is the start of a digest; give the name, '%s'", model, entry.name);
}

/* Whoever removes a name sees today's model before them, not those it meant before. */
static ap_status check_history(const char *path, const char *name, ap_error *err)
{
    ap_manifest m;
    ap_status status = ap_manifest_read(path, &m, err);
    if (status == AP_OK && m.before_count)
        status = ap_fail(err, AP_E_STATE, "'%s' meant %zu other model%s before, which would go as well: add --with-history, or drop "
                         "only those with --only-history", name, m.before_count, m.before_count == 1 ? "" : "s");
    ap_manifest_deinit(&m);
    return status == AP_E_FORMAT || status == AP_E_LIMIT ? AP_OK : status; /* damaged: nobody knows, and it has to go */
}

ap_status ap_store_remove(ap_store *store, const char *model, bool with_history, ap_error *err)
{
    char path[PATH_ROOM];
    int lock;
    AP_TRY(ap_store_lock(store, &lock, err));
    ap_status status = find_manifest(store, model, path, err);
    if (status == AP_OK && !with_history)
        status = check_history(path, model, err);
    if (status == AP_OK && unlink(path) != 0)
        status = ap_fail(err, AP_E_IO, "'%s' cannot be removed: %s", path, strerror(errno));
    if (status == AP_OK)
        status = ap_store_sweep(store, err);
    close(lock);
    return status;
}
