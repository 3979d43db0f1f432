/* Sources, and the one way from a source to files in the downloads folder.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "fetch/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "fetch/address.h"
#include "fetch/pending.h"
#include "fetch/hub.h"
#include "fetch/oci.h"

bool ap_fetch_is_same(const char *a, const char *b)
{
    const char *x = strchr(a, '/'), *y = strchr(b, '/');
    if (x && y && x - a == 40 && y - b == 40 && strlen(x) == 65 && strlen(y) == 65)
        return strcmp(x, y) == 0;
    return a[0] && strcmp(a, b) == 0;
}

/* ---- Looking ---- */

/* A source that was understood and asked. */
typedef struct looked {
    ap_fetch_settings settings;
    ap_transfer *transfer;
    ap_fetch_state state;
    bool is_hub;
    ap_hub_source hub;
    ap_hub_tree tree;
    ap_hub_choice choice;
    char commit[AP_TRANSFER_SHA1_HEX];
    char name[AP_HUB_NAME_MAX + 1]; /* of the file, if it is no hub */
    ap_oci *oci;                    /* of a registry */
    ap_oci_manifest manifest;
    const ap_oci_blob *weights; /* in it */
} looked;

static void looked_deinit(looked *l)
{
    ap_hub_tree_deinit(&l->tree);
    ap_oci_manifest_deinit(&l->manifest);
    ap_oci_close(&l->oci);
    ap_transfer_close(&l->transfer);
}

static ap_status look_at_hub(const char *source, const ap_fetch_options *o, looked *l, ap_error *err)
{
    l->is_hub = true;
    AP_TRY(ap_hub_look(l->transfer, &l->settings, &l->hub, l->commit, &l->tree, err));
    AP_TRY(ap_hub_choose(&l->tree, &l->hub, o->is_model_file, &l->choice, err));
    ap_hub_source_write(&l->hub, &l->choice, l->state.source);
    (void)snprintf(l->state.revision, sizeof l->state.revision, "%s/%s", l->commit, l->choice.digest);
    l->state.bytes = l->choice.bytes;
    return AP_OK;
}

/* The last part of the path: it becomes a name on this machine. */
static ap_status name_of(const char *address, char name[AP_HUB_NAME_MAX + 1], ap_error *err)
{
    size_t end = strcspn(address, "?#"), start = end;
    while (start > 0 && address[start - 1] != '/')
        start--;
    ap_str text = {address + start, end - start};
    bool is_plain = text.len > 5 && text.len <= AP_HUB_NAME_MAX && strncasecmp(text.ptr + text.len - 5, ".gguf", 5) == 0 && text.ptr[0] != '.';
    for (size_t i = 0; i < text.len && is_plain; i++)
        is_plain = strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-+%~", text.ptr[i]) && text.ptr[i];
    if (!is_plain)
        return ap_fail(err, AP_E_ARG, "'%.*s' is no GGUF file: of a web address the path must end in NAME.gguf", text.len < 100 ? (int)text.len : 100,
                       text.ptr);
    memcpy(name, text.ptr, text.len);
    name[text.len] = 0;
    return AP_OK;
}

static ap_status look_at_web(const char *source, looked *l, ap_error *err)
{
    char address[AP_ADDRESS_ROOM];
    ap_transfer_answer answer = {0};
    ap_str value;
    AP_TRY(ap_address_check(source, l->settings.http_origin, address, err));
    if (strlen(source) >= sizeof l->state.source)
        return ap_fail(err, AP_E_LIMIT, "the address is longer than %zu bytes", sizeof l->state.source - 1);
    if (ap_address_same_origin(address, l->settings.endpoint))
        return ap_fail(err, AP_E_ARG, "write hf:ORG/REPO:FILE for a file of %s: its digest is then checked", l->settings.endpoint);
    AP_TRY(name_of(address, l->name, err));
    (void)snprintf(l->state.source, sizeof l->state.source, "%s", source);
    const ap_transfer_request request = {.address = address, .method = "HEAD", .body_fd = -1};
    ap_status status = ap_transfer_ask(l->transfer, &request, &answer, err);
    if (status == AP_OK && answer.code != 200)
        status = ap_fail(err, AP_E_NOTFOUND, "%.300s: the server answers with HTTP %ld", source, answer.code);
    if (status == AP_OK && (ap_transfer_header(&answer.head, "etag", &value) || ap_transfer_header(&answer.head, "last-modified", &value)) &&
        value.len < sizeof l->state.revision)
        (void)snprintf(l->state.revision, sizeof l->state.revision, "%.*s", (int)value.len, value.ptr);
    if (status == AP_OK && ap_transfer_header(&answer.head, "content-length", &value))
        for (size_t i = 0; i < value.len && value.ptr[i] >= '0' && value.ptr[i] <= '9' && l->state.bytes < AP_TRANSFER_BYTES_MAX; i++)
            l->state.bytes = 10 * l->state.bytes + (uint64_t)(value.ptr[i] - '0');
    ap_transfer_answer_deinit(&answer);
    return status;
}

static ap_status look_at_registry(const char *source, const ap_fetch_options *o, looked *l, ap_error *err)
{
    ap_oci_ref ref;
    char line[500];
    ap_buf left = {.limit = 400};
    AP_TRY(ap_oci_ref_parse(source, &ref, err));
    ap_oci_ref_source(&ref, l->state.source);
    AP_TRY(ap_oci_open(&l->oci, l->transfer, &ref, err));
    AP_TRY(ap_oci_get_manifest(l->oci, &l->manifest, err));
    ap_status status = ap_oci_manifest_weights(&l->manifest, &l->weights, &left, err);
    if (status == AP_OK && left.len && o->note) {
        (void)snprintf(line, sizeof line, "the manifest has layers that are not used: %s", left.ptr);
        o->note(o->context, line);
    }
    ap_buf_deinit(&left);
    AP_TRY(status);
    /* Out of what the user wrote: nothing that the manifest says becomes a path. */
    const char *slash = strrchr(ref.repository, '/'), *last = slash ? slash + 1 : ref.repository;
    if (snprintf(l->name, sizeof l->name, "%s%s%s.gguf", last, ref.tag[0] ? ":" : "", ref.tag) >= (int)sizeof l->name)
        (void)snprintf(l->name, sizeof l->name, "model.gguf");
    (void)snprintf(l->state.revision, sizeof l->state.revision, "sha256:%s", l->manifest.sha256);
    l->state.bytes = l->weights->bytes;
    return AP_OK;
}

/* On failure there is nothing to deinit. */
static ap_status look(const char *source, const ap_fetch_options *o, looked *l, ap_error *err)
{
    *l = (looked){0};
    bool is_hub = strncmp(source, "hf:", 3) == 0, is_registry = ap_oci_is_ref(source);
    if (!is_hub && !is_registry && strncmp(source, "https:", 6) != 0 && strncmp(source, "http:", 5) != 0)
        return ap_fail(err, AP_E_ARG, "'%.200s': sources of this kind are not in this release; hf:ORG/REPO, oci://HOST/REPOSITORY:TAG, https://… and files are", source);
    AP_TRY(ap_fetch_settings_read(&l->settings, err));
    if (is_hub) /* before anybody is asked */
        AP_TRY(ap_hub_source_read(&l->hub, source, err));
    const ap_transfer_options options = {.http_origin = l->settings.http_origin,
                                         .ca_file = l->settings.ca_file,
                                         .stop = o->stop,
                                         .progress = o->progress,
                                         .note = o->note,
                                         .context = o->context};
    AP_TRY(ap_transfer_open(&l->transfer, &options, err));
    ap_status status = is_hub        ? look_at_hub(source, o, l, err)
                       : is_registry ? look_at_registry(source, o, l, err)
                                     : look_at_web(source, l, err);
    if (status != AP_OK)
        looked_deinit(l);
    return status;
}

ap_status ap_fetch_look(const char *source, const ap_fetch_options *options, ap_fetch_state *out, ap_error *err)
{
    looked *l = ap_alloc(sizeof *l);
    if (!l)
        return ap_fail_nomem(err, sizeof *l);
    ap_status status = look(source, options, l, err);
    if (status == AP_OK) {
        *out = l->state;
        looked_deinit(l);
    }
    ap_free(l);
    return status;
}

/* ---- Fetching ---- */

/* All of it and its packed form, which takes about as much, must fit before the first byte comes. */
static ap_status check_room(const ap_fetched *f, uint64_t bytes, uint64_t there, ap_error *err)
{
    struct statvfs disk;
    int length = (int)(strrchr(f->folder, '/') - f->folder); /* all downloads' folder: what a user knows */
    if (statvfs(f->folder, &disk) != 0)
        return ap_fail(err, AP_E_IO, "the disk of '%.*s' cannot be asked for its free space: %s", length < 300 ? length : 300, f->folder, strerror(errno));
    uint64_t room = (uint64_t)disk.f_bavail * disk.f_frsize, needed = bytes - (there < bytes ? there : bytes) + bytes;
    if (needed <= room)
        return AP_OK;
    return ap_fail(err, AP_E_IO, "the download and the packed model need %.1f MB, the disk of '%.*s' has %.1f MB free", (double)needed / 1e6,
                   length < 200 ? length : 200, f->folder, (double)room / 1e6);
}

/* Where a chosen file will lie: in `folder`, or in one below it, as in its repository.  The caller closes *out. */
static ap_status open_place(int folder, const ap_hub_choice *choice, const ap_hub_file *file, int *out, ap_error *err)
{
    const char *name = ap_hub_plain_name(file);
    char below[AP_HUB_PATH_MAX + 1];
    if (!choice->is_folder || name == file->path) {
        *out = fcntl(folder, F_DUPFD_CLOEXEC, 0);
    } else {
        (void)snprintf(below, sizeof below, "%.*s", (int)(name - file->path - 1), file->path);
        bool is_there = mkdirat(folder, below, 0755) == 0 || errno == EEXIST;
        *out = is_there ? openat(folder, below, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW) : -1;
    }
    return *out >= 0 ? AP_OK : ap_fail(err, AP_E_IO, "the folder of '%.100s' cannot be made: %s", file->path, strerror(errno));
}

static ap_status fetch_hub(looked *l, int folder, const ap_fetched *f, ap_error *err)
{
    uint64_t there = 0, before = 0;
    ap_status status = AP_OK;
    int place;
    for (size_t i = 0; i < l->choice.count; i++) {
        AP_TRY(open_place(folder, &l->choice, l->choice.files[i], &place, err));
        there += ap_transfer_bytes_there(place, ap_hub_plain_name(l->choice.files[i]));
        close(place);
    }
    AP_TRY(check_room(f, l->state.bytes, there, err));
    for (size_t i = 0; i < l->choice.count && status == AP_OK; i++) {
        AP_TRY(open_place(folder, &l->choice, l->choice.files[i], &place, err));
        status = ap_hub_fetch(l->transfer, &l->settings, &l->hub, l->commit, l->choice.files[i], place, before, l->state.bytes, err);
        before += l->choice.files[i]->bytes;
        close(place);
    }
    return status;
}

static ap_status fetch_web(looked *l, int folder, const ap_fetched *f, bool is_same_state, ap_error *err)
{
    char address[AP_ADDRESS_ROOM];
    AP_TRY(check_room(f, l->state.bytes, ap_transfer_bytes_there(folder, l->name), err));
    if (!is_same_state) /* nothing but the state of the source tells whether a whole file is of use */
        (void)unlinkat(folder, l->name, 0);
    AP_TRY(ap_address_check(l->state.source, l->settings.http_origin, address, err));
    ap_transfer_file file = {.address = address, .folder = folder, .name = l->name, .bytes = l->state.bytes ? l->state.bytes : UINT64_MAX};
    ap_status status = ap_transfer_fetch(l->transfer, &file, err);
    ap_buf_deinit(&file.refusal_head);
    return status;
}

static ap_status fetch_registry(looked *l, int folder, const ap_fetched *f, ap_error *err)
{
    AP_TRY(check_room(f, l->state.bytes, ap_transfer_bytes_there(folder, l->name), err));
    return ap_oci_get_blob(l->oci, l->weights, folder, l->name, err);
}

static ap_status fetch_into(looked *l, ap_fetched *f, bool is_same_state, ap_error *err)
{
    const char *repo = strchr(l->hub.repo, '/');
    const char *name = l->is_hub ? repo + 1 : "file";
    const char *first = !l->is_hub ? l->name : l->choice.is_folder ? "" : ap_hub_plain_name(l->choice.files[0]);
    char path[AP_FETCH_PATH_ROOM];
    if (snprintf(path, sizeof path, "%s/%s", f->folder, name) >= (int)sizeof path ||
        snprintf(f->path, sizeof f->path, "%s/%s%s%s", f->folder, name, *first ? "/" : "", first) >= (int)sizeof f->path)
        return ap_fail(err, AP_E_LIMIT, "the path of the download is longer than %zu bytes", sizeof path - 1);
    AP_TRY(ap_file_make_folders(path, 0755, err));
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (folder < 0)
        return ap_fail(err, AP_E_IO, "'%s' cannot be opened: %s", path, strerror(errno));
    if (l->oci && !is_same_state) /* of another digest, but perhaps of the same length */
        (void)unlinkat(folder, l->name, 0);
    ap_status status = l->is_hub ? fetch_hub(l, folder, f, err)
                       : l->oci  ? fetch_registry(l, folder, f, err)
                                 : fetch_web(l, folder, f, is_same_state, err);
    close(folder);
    return status;
}

ap_status ap_fetch_pull(const char *source, const ap_fetch_options *options, ap_fetched *out, ap_error *err)
{
    looked *l = ap_alloc(sizeof *l);
    bool is_same_state;
    *out = (ap_fetched){.lock = -1};
    if (!l)
        return ap_fail_nomem(err, sizeof *l);
    ap_pending_sweep(options);
    ap_status status = look(source, options, l, err);
    if (status != AP_OK) {
        ap_free(l);
        return status;
    }
    out->state = l->state;
    if (options->has_it && options->has_it(options->context, &l->state)) {
        looked_deinit(l);
        ap_free(l);
        return AP_OK;
    }
    status = ap_pending_begin(options->folder, out, &is_same_state, err);
    if (status == AP_OK) {
        status = fetch_into(l, out, is_same_state, err);
        if (status != AP_OK)
            ap_fetch_end(out, false);
    }
    if (status != AP_OK)
        ap_error_prefix(err, l->state.source);
    looked_deinit(l);
    ap_free(l);
    return status;
}
