/* From a stranger's file to a blob, through a one-shot worker.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "store/inside.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/utf8.h"

enum { PATH_ROOM = AP_STORE_PATH_ROOM };

typedef struct pack_job {
    ap_store_source source;
    int out_fd;
    char source_sha256[AP_HASH_HEX];
    bool is_store_to_blame; /* in this process */
} pack_job;

/* Runs in the one-shot worker; the report travels back as its bytes. */
static ap_status pack_in_worker(ap_oneshot *self, void *context, ap_error *err)
{
    const pack_job *job = context;
    ap_import_options options = {.size = sizeof options,
                                 .source_sha256 = job->source_sha256,
                                 .progress = ap_oneshot_progress,
                                 .progress_context = self};
    ap_import_report report = {0};
    const ap_store_source *s = &job->source;
    AP_TRY(s->is_many ? ap_model_import_files(s->files, s->count, job->out_fd, &options, &report, err)
                        : ap_model_import(s->fds[0], job->out_fd, &options, &report, err));
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

/* The report is what an untrusted process sent: no byte of it is taken at its word. */
static ap_status read_report(ap_buf *bytes, ap_import_report *report, ap_error *err)
{
    if (bytes->len != sizeof *report)
        return ap_fail(err, AP_E_WORKER, "the importing worker gave no report");
    char *flag = bytes->ptr + offsetof(ap_import_report, has_chat_template);
    *flag = *flag != 0;
    memcpy(report, bytes->ptr, sizeof *report);
    tidy(report->architecture, sizeof report->architecture);
    tidy(report->name, sizeof report->name);
    tidy(report->license, sizeof report->license);
    tidy(report->quantization, sizeof report->quantization);
    tidy(report->chat_calls, sizeof report->chat_calls);
    tidy(report->notes, sizeof report->notes);
    report->chat &= AP_CHAT_ALL;
    if (report->parameter_count > INT64_MAX || report->source_bytes > INT64_MAX)
        return ap_fail(err, AP_E_WORKER, "the importing worker gave an impossible report");
    return AP_OK;
}

static ap_status run_worker(const ap_store *store, pack_job *job, ap_progress *progress, void *context,
                            ap_import_report *report, ap_error *err)
{
    pack_reply reply = {.bytes = {.limit = sizeof *report}, .progress = progress, .context = context};
    ap_oneshot_options options = {.fds = job->source.fds, .fd_count = job->source.count, .output_fd = job->out_fd, .sandbox = store->sandbox,
                                  .result = keep_reply, .progress = pass_progress, .context = &reply};
    ap_status status = ap_worker_oneshot(pack_in_worker, job, &options, err);
    if (status == AP_OK)
        status = read_report(&reply.bytes, report, err);
    ap_buf_deinit(&reply.bytes);
    return status;
}

static bool blob_is_whole(const ap_store *store, const char *digest)
{
    char path[PATH_ROOM], actual[AP_HASH_HEX] = "";
    int fd;
    ap_store_blob_path(store, digest, path);
    if (ap_file_open(path, &fd, NULL) != AP_OK)
        return false;
    (void)ap_hash_file(fd, AP_HASH_BLAKE2B, actual, NULL, NULL, NULL);
    close(fd);
    return strcmp(actual, digest) == 0;
}

/* What cannot be written is the store's fault and not the source's: it is named instead. */
static bool blame_store(const ap_store *store, ap_error *err)
{
    static const char written[] = "writing failed: ";
    ap_error why;
    if (!err || err->status != AP_E_IO || strncmp(err->message, written, sizeof written - 1) != 0)
        return false;
    why = *err;
    (void)ap_fail(err, AP_E_IO, "the store '%.250s' cannot be written: %s", store->folder, why.message + sizeof written - 1);
    return true;
}

/* Packs an open source into a new blob; fills digest, sizes and report of the entry. */
static ap_status pack(const ap_store *store, pack_job *job, ap_progress *progress, void *context, ap_store_entry *entry,
                      ap_error *err)
{
    char target[PATH_ROOM];
    ap_file_new file;
    ap_file_stamp stamp;
    (void)snprintf(target, sizeof target, "%s/blobs/packing", store->folder);
    AP_TRY(ap_file_new_begin(&file, target, err));
    job->out_fd = file.fd;
    ap_status status = run_worker(store, job, progress, context, &entry->report, err);
    job->is_store_to_blame = status != AP_OK && blame_store(store, err);
    if (status == AP_OK)
        status = ap_store_source_stamp(&job->source, &stamp, err);
    if (status == AP_OK && !ap_file_stamp_equal(&stamp, &job->source.stamp))
        status = ap_fail(err, AP_E_STATE, "%s changed while it was read", job->source.is_many ? "one of its files" : "the file");
    if (status == AP_OK)
        status = ap_hash_file(file.fd, AP_HASH_BLAKE2B, entry->digest, NULL, NULL, err);
    if (status == AP_OK)
        status = ap_file_stamp_of(file.fd, &stamp, err);
    if (status != AP_OK) {
        ap_file_new_abort(&file);
        return status;
    }
    entry->packed_bytes = stamp.bytes;
    ap_store_blob_path(store, entry->digest, file.path);
    if (blob_is_whole(store, entry->digest)) { /* a worker may have it mapped: it stays the same file */
        ap_file_new_abort(&file);
        return AP_OK;
    }
    return ap_file_new_commit(&file, 0444, err);
}

typedef struct known_source {
    const char *sha256;
    ap_store_entry *found;
    bool is_found;
} known_source;

static void compare_source(known_source *k, const ap_store_entry *entry)
{
    if (k->is_found || entry->law_version != AP_LAW_VERSION || strcmp(entry->source_sha256, k->sha256) != 0)
        return;
    *k->found = *entry;
    k->is_found = true;
}

static ap_status look_for_source(void *context, const char *path, const ap_manifest *m, ap_error *err)
{
    if (m->now.is_damaged)
        return AP_OK;
    compare_source(context, &m->now);
    for (size_t i = 0; i < m->before_count; i++)
        compare_source(context, &m->before[i]);
    return AP_OK;
}

/* True with the entry filled if a whole blob of these bytes is there. */
static ap_status find_source(const ap_store *store, const char *sha256, ap_store_entry *entry, bool *is_found, ap_error *err)
{
    known_source k = {.sha256 = sha256, .found = entry};
    AP_TRY(ap_store_walk(store, "names", look_for_source, &k, err));
    if (!k.is_found)
        AP_TRY(ap_store_walk(store, "cache", look_for_source, &k, err));
    *is_found = k.is_found && blob_is_whole(store, entry->digest); /* else it is packed again, over the damaged one */
    if (!*is_found)
        *entry = (ap_store_entry){0};
    return AP_OK;
}

ap_status ap_store_take_source(const ap_store *store, const char *path, const ap_store_origin *origin, ap_progress *progress,
                               void *context, ap_store_entry *entry, ap_file_stamp *stamp, ap_error *err)
{
    pack_job job = {.is_store_to_blame = false};
    char full[PATH_MAX];
    bool is_known = false;
    ap_status status = ap_store_source_open(&job.source, path, err);
    const char *source = origin ? origin->source : realpath(path, full), *revision = origin ? origin->revision : NULL;
    if (status == AP_OK && (!source || strlen(source) > AP_STORE_PATH_MAX))
        status = ap_fail(err, AP_E_LIMIT, "the path is longer than %d bytes", AP_STORE_PATH_MAX);
    if (status == AP_OK && revision && strlen(revision) > AP_STORE_REVISION_MAX)
        status = ap_fail(err, AP_E_LIMIT, "what the source calls its state is longer than %d bytes", AP_STORE_REVISION_MAX);
    if (status == AP_OK)
        status = ap_store_source_hash(&job.source, job.source_sha256, progress, context, err);
    if (status == AP_OK)
        status = find_source(store, job.source_sha256, entry, &is_known, err);
    if (status == AP_OK && !is_known)
        status = pack(store, &job, progress, context, entry, err);
    *stamp = job.source.stamp;
    ap_store_source_close(&job.source);
    if (status != AP_OK) {
        entry->is_refused = !job.is_store_to_blame && (status == AP_E_FORMAT || status == AP_E_UNSUPPORTED || status == AP_E_LIMIT || status == AP_E_NOTFOUND);
        if (!job.is_store_to_blame)
            ap_error_prefix(err, origin ? origin->source : path); /* what was asked for, and not where it lies meanwhile */
        return status;
    }
    memcpy(entry->source_sha256, job.source_sha256, sizeof entry->source_sha256);
    (void)snprintf(entry->source, sizeof entry->source, "%s", source);
    (void)snprintf(entry->revision, sizeof entry->revision, "%s", revision ? revision : "");
    tidy(entry->source, sizeof entry->source);
    tidy(entry->revision, sizeof entry->revision);
    entry->law_version = AP_LAW_VERSION;
    entry->created = ap_clock_wall();
    entry->replaced = 0;
    entry->is_undone = false;
    return AP_OK;
}
