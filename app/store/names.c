/* A name is a pointer to a blob, with a memory of where it pointed before.
 *
 * Every change writes one manifest anew, after the lock was taken and before anything is swept: a machine that stops in
 * between leaves either the old meaning or the new one, and the blobs of both.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "store/inside.h"

#include <stdio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"

ap_status ap_store_check_name(const char *name, ap_error *err)
{
    return ap_store_name_is_valid(name) ? AP_OK
                                        : ap_fail(err, AP_E_ARG, "'%.100s' is no possible name: 1 to %d characters of A-Z a-z 0-9 . _ : -, "
                                                  "not starting with . or -, without '..'", name, AP_STORE_NAME_MAX);
}

ap_status ap_store_check_new_name(const char *name, ap_error *err)
{
    AP_TRY(ap_store_check_name(name, err));
    return ap_store_is_source(name) ? ap_fail(err, AP_E_ARG, "'%.100s' is no possible name: it begins like a source, '%.*s'", name,
                                              (int)strcspn(name, ":") + 1, name)
                                    : AP_OK;
}

ap_status ap_store_read_name(const ap_store *store, const char *name, ap_manifest *out, ap_error *err)
{
    char path[AP_STORE_PATH_ROOM];
    ap_store_name_path(store, name, path);
    AP_TRY(ap_manifest_read(path, out, err));
    return strcmp(out->now.name, name) == 0
               ? AP_OK
               : ap_fail(err, AP_E_FORMAT, "the manifest '%s' is damaged: it says '%s'", path, out->now.name);
}

/* The same for a name that must be there. */
static ap_status read_known_name(const ap_store *store, const char *name, ap_manifest *out, ap_error *err)
{
    *out = (ap_manifest){0};
    AP_TRY(ap_store_check_name(name, err));
    ap_status status = ap_store_read_name(store, name, out, err);
    return status == AP_E_NOTFOUND ? ap_fail(err, status, "there is no name '%s'; 'aperto list' shows those that are", name) : status;
}

static void take_out(ap_manifest *m, size_t at)
{
    memmove(&m->before[at], &m->before[at + 1], (m->before_count - at - 1) * sizeof *m->before);
    m->before_count--;
}

/* Puts the present meaning in front of the history. */
static ap_status remember(ap_manifest *m, bool is_undone, ap_error *err)
{
    if (m->before_count >= AP_STORE_HISTORY_MAX)
        return ap_fail(err, AP_E_LIMIT, "the history of '%s' has %d meanings, which is the limit; 'aperto rm --only-history %s' drops them",
                       m->now.name, AP_STORE_HISTORY_MAX, m->now.name);
    ap_store_entry *grown = ap_realloc_array(m->before, m->before_count + 1, sizeof *grown);
    if (!grown)
        return ap_fail_nomem(err, (m->before_count + 1) * sizeof *grown);
    m->before = grown;
    memmove(grown + 1, grown, m->before_count++ * sizeof *grown);
    grown[0] = m->now;
    grown[0].replaced = ap_clock_wall();
    grown[0].is_undone = is_undone;
    return AP_OK;
}

static ap_status move(ap_manifest *m, ap_store_entry *entry, bool is_undone, ap_error *err)
{
    /* The same source, packed for another law, is the same model. */
    bool is_same = strcmp(m->now.digest, entry->digest) == 0 ||
                   (strcmp(m->now.source_sha256, entry->source_sha256) == 0 && m->now.law_version != entry->law_version);
    for (size_t i = m->before_count; i-- > 0;) /* a blob stands once in a manifest */
        if (strcmp(m->before[i].digest, entry->digest) == 0)
            take_out(m, i);
    if (!is_same)
        AP_TRY(remember(m, is_undone, err));
    (void)snprintf(entry->name, sizeof entry->name, "%s", m->now.name);
    entry->replaced = 0;
    entry->is_undone = false;
    (void)snprintf(entry->moved_from, sizeof entry->moved_from, "%s", is_same ? "" : m->now.digest);
    m->now = *entry;
    return AP_OK;
}

ap_status ap_store_move(ap_manifest *manifest, ap_store_entry *entry, ap_error *err) { return move(manifest, entry, false, err); }

static ap_status write_name(const ap_store *store, const ap_manifest *m, ap_error *err)
{
    char path[AP_STORE_PATH_ROOM];
    ap_store_name_path(store, m->now.name, path);
    return ap_manifest_write(path, m, err);
}

static ap_status check_blob(const ap_store *store, const ap_store_entry *entry, ap_error *err)
{
    if (entry->law_version != AP_LAW_VERSION)
        return ap_fail(err, AP_E_UNSUPPORTED, "'%.12s' was packed for version %u of the law, this program has version %d: import it again from %s",
                       entry->digest, entry->law_version, AP_LAW_VERSION, entry->source);
    if (!ap_store_has_blob(store, entry))
        return ap_fail(err, AP_E_INTEGRITY, "the packed file of '%.12s' is missing or incomplete; import the model again from %s",
                       entry->digest, entry->source);
    return AP_OK;
}

/* ---- tag ---- */

static ap_status tag(ap_store *store, const char *model, const char *name, bool may_move, ap_manifest *m, ap_store_entry *entry,
                     ap_error *err)
{
    AP_TRY(ap_store_find(store, model, entry, err));
    AP_TRY(check_blob(store, entry, err));
    entry->has_no_blob = entry->is_cached = false; /* a file given by path has a name now */
    ap_status status = ap_store_read_name(store, name, m, err);
    if (status == AP_E_NOTFOUND) {
        m->now = *entry;
        (void)snprintf(m->now.name, sizeof m->now.name, "%s", name);
        AP_TRY(ap_store_move(m, entry, err));
        return write_name(store, m, err);
    }
    AP_TRY(status);
    if (strcmp(m->now.digest, entry->digest) == 0) {
        *entry = m->now;
        return AP_OK;
    }
    if (!may_move)
        return ap_fail(err, AP_E_STATE, "the name '%s' means another model already (%.12s, from %.500s); --move gives it the new meaning "
                       "and keeps the old one in its history", name, m->now.digest, m->now.source);
    AP_TRY(ap_store_move(m, entry, err));
    return write_name(store, m, err);
}

ap_status ap_store_tag(ap_store *store, const char *model, const char *name, bool may_move, ap_store_entry *entry, ap_error *err)
{
    ap_manifest m = {0};
    int lock;
    AP_TRY(ap_store_check_new_name(name, err));
    AP_TRY(ap_store_lock(store, &lock, err));
    ap_status status = tag(store, model, name, may_move, &m, entry, err);
    ap_manifest_deinit(&m);
    close(lock);
    return status;
}

/* ---- rollback ---- */

static ap_status rollback(ap_store *store, const char *name, ap_manifest *m, ap_store_entry *entry, ap_error *err)
{
    size_t at = 0;
    AP_TRY(read_known_name(store, name, m, err));
    while (at < m->before_count && m->before[at].is_undone)
        at++;
    if (at == m->before_count)
        return ap_fail(err, AP_E_STATE, "'%s' meant nothing else before '%.12s'%s", name, m->now.digest,
                       at ? "; what was undone comes back with 'aperto tag DIGEST NAME --move'" : "");
    *entry = m->before[at];
    AP_TRY(check_blob(store, entry, err));
    AP_TRY(move(m, entry, true, err));
    return write_name(store, m, err);
}

ap_status ap_store_rollback(ap_store *store, const char *name, ap_store_entry *entry, ap_error *err)
{
    ap_manifest m = {0};
    int lock;
    AP_TRY(ap_store_lock(store, &lock, err));
    ap_status status = rollback(store, name, &m, entry, err);
    ap_manifest_deinit(&m);
    close(lock);
    return status;
}

/* ---- The history ---- */

ap_status ap_store_history(ap_store *store, const char *name, ap_store_entry **entries, size_t *count, ap_error *err)
{
    ap_manifest m;
    ap_status status = read_known_name(store, name, &m, err);
    *entries = status == AP_OK ? m.before : NULL;
    *count = status == AP_OK ? m.before_count : 0;
    for (size_t i = 0; i < *count; i++)
        m.before[i].has_no_blob = !ap_store_has_blob(store, &m.before[i]);
    if (status == AP_OK)
        m.before = NULL; /* the caller's */
    ap_manifest_deinit(&m);
    return status;
}

ap_status ap_store_forget(ap_store *store, const char *name, size_t *count, ap_error *err)
{
    ap_manifest m = {0};
    int lock;
    *count = 0;
    AP_TRY(ap_store_lock(store, &lock, err));
    ap_status status = read_known_name(store, name, &m, err);
    size_t dropped = m.before_count;
    m.before_count = 0;
    if (status == AP_OK && dropped)
        status = write_name(store, &m, err);
    if (status == AP_OK) {
        *count = dropped;
        status = ap_store_sweep(store, err);
    }
    ap_manifest_deinit(&m);
    close(lock);
    return status;
}
