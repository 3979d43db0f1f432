/* What is asked of a hub, and what its refusals mean.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "fetch/hub.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/utf8.h"
#include "fetch/address.h"

static bool is_hex(ap_str text, size_t length)
{
    if (text.len != length)
        return false;
    for (size_t i = 0; i < length; i++)
        if (!(text.ptr[i] >= '0' && text.ptr[i] <= '9') && !(text.ptr[i] >= 'a' && text.ptr[i] <= 'f'))
            return false;
    return true;
}

/* ---- Names ---- */

static const char form[] = "write hf:ORG/REPO, hf:ORG/REPO:FILE or hf:ORG/REPO:FILE@REVISION";

static bool is_repo_part(ap_str part)
{
    if (part.len == 0 || part.len > 96 || part.ptr[0] == '.' || part.ptr[0] == '-' || part.ptr[part.len - 1] == '.' ||
        part.ptr[part.len - 1] == '-')
        return false;
    for (size_t i = 0; i < part.len; i++) {
        char c = part.ptr[i];
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
        if (!is_plain || (i && (c == '.' || c == '-') && part.ptr[i - 1] == c))
            return false;
    }
    return true;
}

static bool is_revision(ap_str text)
{
    if (text.len == 0 || text.len > AP_HUB_REVISION_MAX || text.ptr[0] == '/' || text.ptr[0] == '-')
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("_.-/+", c);
        if (!is_plain || c == 0 || (i && c == '.' && text.ptr[i - 1] == '.'))
            return false;
    }
    return true;
}

ap_status ap_hub_source_read(ap_hub_source *out, const char *text, ap_error *err)
{
    *out = (ap_hub_source){.revision = "main"};
    ap_assert(strncmp(text, "hf:", 3) == 0);
    const char *repo = text + 3, *colon = strchr(repo, ':'), *at = strrchr(repo, '@');
    size_t length = strcspn(repo, ":@");
    const char *slash = memchr(repo, '/', length);
    if (!slash || !is_repo_part((ap_str){repo, (size_t)(slash - repo)}) || !is_repo_part((ap_str){slash + 1, length - (size_t)(slash + 1 - repo)}))
        return ap_fail(err, AP_E_ARG, "'%.200s' names no repository; %s", text, form);
    if (at && colon && at < colon)
        return ap_fail(err, AP_E_ARG, "'%.200s': the revision comes last; %s", text, form);
    if (at && !is_revision(ap_str_from(at + 1)))
        return ap_fail(err, AP_E_ARG, "'%.200s' is no possible revision (1 to %d of letters, digits and ._-/+); %s", at + 1, AP_HUB_REVISION_MAX, form);
    (void)snprintf(out->repo, sizeof out->repo, "%.*s", (int)length, repo);
    if (at)
        (void)snprintf(out->revision, sizeof out->revision, "%s", at + 1);
    if (!colon)
        return AP_OK;
    ap_str file = {colon + 1, at ? (size_t)(at - colon - 1) : strlen(colon + 1)};
    if (ap_hub_check_path(file, NULL) != AP_OK)
        return ap_fail(err, AP_E_ARG, "'%.*s' is no possible name of a file in a repository; %s", file.len < 200 ? (int)file.len : 200, file.ptr, form);
    memcpy(out->file, file.ptr, file.len);
    return AP_OK;
}

void ap_hub_source_write(const ap_hub_source *source, const ap_hub_choice *choice, char out[1001])
{
    bool is_main = strcmp(source->revision, "main") == 0;
    static_assert(3 + AP_HUB_REPO_MAX + 1 + AP_HUB_PATH_MAX + 1 + AP_HUB_REVISION_MAX < 1001, "a source fits its place");
    (void)snprintf(out, 1001, "hf:%s%s%s%s%s", source->repo, choice->is_folder ? (source->file[0] ? ":" : "") : ":",
                   choice->is_folder ? source->file : choice->files[0]->path, is_main ? "" : "@", is_main ? "" : source->revision);
}

ap_status ap_hub_check_path(ap_str path, ap_error *err)
{
    char shown[64];
    (void)snprintf(shown, sizeof shown, "%.*s", path.len < 60 ? (int)path.len : 60, path.ptr);
    if (path.len == 0 || path.len > AP_HUB_PATH_MAX)
        return ap_fail(err, AP_E_INTEGRITY, "the path '%s' of a file has %zu bytes; 1 to %d are read", shown, path.len, AP_HUB_PATH_MAX);
    if (!ap_utf8_valid(path))
        return ap_fail(err, AP_E_INTEGRITY, "the path '%s' of a file is not UTF-8", shown);
    for (size_t i = 0; i < path.len; i++)
        if ((unsigned char)path.ptr[i] < 0x20 || path.ptr[i] == 0x7f || path.ptr[i] == '\\')
            return ap_fail(err, AP_E_INTEGRITY, "the path '%s' of a file has a control character or a backslash in it", shown);
    for (size_t start = 0; start <= path.len;) {
        const char *slash = memchr(path.ptr + start, '/', path.len - start);
        size_t end = slash ? (size_t)(slash - path.ptr) : path.len;
        ap_str part = {path.ptr + start, end - start};
        if (part.len == 0 || part.len > AP_HUB_NAME_MAX || ap_str_is(part, ".") || ap_str_is(part, ".."))
            return ap_fail(err, AP_E_INTEGRITY, "the path '%s' of a file leads out of its folder, or has a part that is not 1 to %d bytes long",
                           shown, AP_HUB_NAME_MAX);
        start = end + 1;
    }
    return AP_OK;
}

const char *ap_hub_plain_name(const ap_hub_file *file)
{
    const char *slash = strrchr(file->path, '/');
    return slash ? slash + 1 : file->path;
}

/* ---- The tree ---- */

static ap_status read_entry(ap_hub_tree *tree, const json_t *entry, ap_error *err)
{
    ap_str type, path, oid;
    ap_hub_file file = {0};
    AP_TRY(ap_json_get_str(entry, "type", &type, err));
    if (!ap_str_is(type, "file"))
        return AP_OK; /* a folder: its files come themselves */
    AP_TRY(ap_json_get_str(entry, "path", &path, err));
    AP_TRY(ap_hub_check_path(path, err));
    const json_t *lfs = NULL;
    ap_status status = ap_json_get_object(entry, "lfs", &lfs, err);
    if (status != AP_OK && status != AP_E_NOTFOUND)
        return status;
    AP_TRY(ap_json_get_str(lfs ? lfs : entry, "oid", &oid, err));
    AP_TRY(ap_json_get_u64(lfs ? lfs : entry, "size", &file.bytes, err));
    if (!is_hex(oid, lfs ? 64 : 40))
        return ap_fail(err, AP_E_FORMAT, "the digest of '%.60s' is not %d hex digits", path.ptr, lfs ? 64 : 40);
    if (file.bytes > AP_TRANSFER_BYTES_MAX)
        return ap_fail(err, AP_E_LIMIT, "'%.60s' has %" PRIu64 " bytes, the limit is %" PRIu64, path.ptr, file.bytes, AP_TRANSFER_BYTES_MAX);
    memcpy(lfs ? file.sha256 : file.sha1, oid.ptr, oid.len);
    file.path = ap_arena_copy(&tree->arena, path.ptr, path.len);
    if (!file.path)
        return ap_fail_nomem(err, path.len);
    if (tree->count == AP_HUB_FILES_MAX)
        return ap_fail(err, AP_E_LIMIT, "the repository has more than %d files", AP_HUB_FILES_MAX);
    if ((tree->count & (tree->count + 1)) == 0) { /* room for 1, 3, 7, 15, … */
        ap_hub_file *grown = ap_realloc_array(tree->files, 2 * tree->count + 1, sizeof *grown);
        if (!grown)
            return ap_fail_nomem(err, (2 * tree->count + 1) * sizeof *grown);
        tree->files = grown;
    }
    tree->files[tree->count++] = file;
    return AP_OK;
}

ap_status ap_hub_read_page(ap_hub_tree *tree, ap_str json, ap_error *err)
{
    json_t *root;
    AP_TRY(ap_json_parse(&root, json, (ap_json_limits){.bytes_max = AP_HUB_PAGE_BYTES_MAX, .values_max = 1 << 19}, err));
    ap_status status = AP_OK;
    if (!json_is_array(root))
        status = ap_fail(err, AP_E_FORMAT, "the list of files is %s and no list", ap_json_kind_name(root));
    for (size_t i = 0; status == AP_OK && i < json_array_size(root); i++)
        status = read_entry(tree, json_array_get(root, i), err);
    json_decref(root);
    return status;
}

void ap_hub_tree_deinit(ap_hub_tree *tree)
{
    ap_arena_deinit(&tree->arena);
    ap_free(tree->files);
    *tree = (ap_hub_tree){0};
}

/* ---- Refusals ---- */

/* What to do about a refusal of the hub. */
static ap_status explain(const ap_fetch_settings *s, const ap_hub_source *source, const char *what, long code, const ap_buf *head, ap_error *err)
{
    ap_str why = {0}, words = {0};
    bool has_token = s->authorization[0];
    const char *withheld = s->is_token_withheld ? " (the token there is was not sent: HF_ENDPOINT is plain http)" : "";
    if (head->len) {
        (void)ap_transfer_header(head, "x-error-code", &why);
        (void)ap_transfer_header(head, "x-error-message", &words);
    }
    if (ap_str_is(why, "GatedRepo") || (code == 403 && !why.len)) {
        if (has_token)
            return ap_fail(err, AP_E_NOTFOUND, "%s gives '%s' only to those who were granted it: ask for access at %s/%s with the account of "
                           "your token; HTTP %ld", s->endpoint, source->repo, s->endpoint, source->repo, code);
        return ap_fail(err, AP_E_NOTFOUND, "%s gives '%s' only to those who accepted its conditions: accept them at %s/%s, then set HF_TOKEN to a "
                       "token of that account%s; HTTP %ld", s->endpoint, source->repo, s->endpoint, source->repo, withheld, code);
    }
    if (ap_str_is(why, "RevisionNotFound"))
        return ap_fail(err, AP_E_NOTFOUND, "'%s' has no branch, tag or commit '%s'", source->repo, source->revision);
    if (ap_str_is(why, "EntryNotFound"))
        return ap_fail(err, AP_E_NOTFOUND, "'%s' has no file '%s' at '%s'", source->repo, what, source->revision);
    if (code == 401 && has_token && !ap_str_is(why, "RepoNotFound"))
        return ap_fail(err, AP_E_NOTFOUND, "%s does not know the token in HF_TOKEN (or the token file): set a valid one, or none for models that are "
                       "open; HTTP 401", s->endpoint);
    if (*what && (code == 404 || code == 410))
        return ap_fail(err, AP_E_NOTFOUND, "%s lists '%s' among the files of '%s' and does not have it; HTTP %ld", s->endpoint, what, source->repo, code);
    if (code == 401 || code == 404)
        return ap_fail(err, AP_E_NOTFOUND, "there is no '%s' on %s, or it is private: look at the name%s%s; HTTP %ld", source->repo, s->endpoint,
                       has_token ? ", and whether your token may read it" : ", or set HF_TOKEN to a token that may read it", withheld, code);
    return ap_fail(err, AP_E_NOTFOUND, "%s answers with HTTP %ld for '%s'%s%.*s", s->endpoint, code, source->repo, words.len ? ": " : "",
                   words.len < 100 ? (int)words.len : 100, words.len ? words.ptr : "");
}

/* ---- Asking ---- */

static ap_status ask(ap_transfer *t, const ap_fetch_settings *s, const ap_hub_source *source, const char *address, ap_transfer_answer *answer,
                     ap_error *err)
{
    const ap_transfer_request request = {.address = address,
                                         .authorization = s->authorization[0] ? s->authorization : NULL,
                                         .lines = (const char *const[]){"Accept: application/json"},
                                         .line_count = 1,
                                         .body_fd = -1,
                                         .answer_bytes_max = AP_HUB_PAGE_BYTES_MAX};
    AP_TRY(ap_transfer_ask(t, &request, answer, err));
    return answer->code == 200 ? AP_OK : explain(s, source, "", answer->code, &answer->head, err);
}

static ap_status make_address(ap_buf *out, const ap_fetch_settings *s, const char *part, const ap_hub_source *source, const char *route,
                              const char *revision, const char *file, ap_error *err)
{
    out->limit = AP_ADDRESS_ROOM - 1;
    AP_TRY(ap_buf_printf(out, err, "%s%s/%s/%s/", s->endpoint, part, source->repo, route));
    AP_TRY(ap_address_escape(out, ap_str_from(revision), "", err)); /* a slash in it as well: it is one part */
    if (file) {
        AP_TRY(ap_buf_add_char(out, '/', err));
        AP_TRY(ap_address_escape(out, ap_str_from(file), "/", err));
    }
    return AP_OK;
}

static ap_status ask_commit(ap_transfer *t, const ap_fetch_settings *s, const ap_hub_source *source, char commit[AP_TRANSFER_SHA1_HEX],
                            ap_error *err)
{
    ap_buf address = {0};
    ap_transfer_answer answer = {0};
    json_t *root = NULL;
    ap_str sha;
    ap_status status = make_address(&address, s, "/api/models", source, "revision", source->revision, NULL, err);
    if (status == AP_OK)
        status = ask(t, s, source, address.ptr, &answer, err);
    if (status == AP_OK)
        status = ap_json_parse(&root, ap_buf_str(&answer.body), (ap_json_limits){.bytes_max = AP_HUB_PAGE_BYTES_MAX, .values_max = 1 << 20}, err);
    if (status == AP_OK)
        status = ap_json_get_str(root, "sha", &sha, err);
    if (status == AP_OK && !is_hex(sha, 40))
        status = ap_fail(err, AP_E_FORMAT, "%s gives a commit of '%s' that is not 40 hex digits", s->endpoint, source->repo);
    if (status == AP_OK) {
        memcpy(commit, sha.ptr, 40);
        commit[40] = 0;
    }
    json_decref(root);
    ap_transfer_answer_deinit(&answer);
    ap_buf_deinit(&address);
    return status;
}

/* The address in <…>; rel="next", if there is one. */
static bool read_next(const ap_buf *head, ap_str *out)
{
    ap_str link;
    if (!ap_transfer_header(head, "link", &link))
        return false;
    for (const char *at = link.ptr, *end = at + link.len; at < end;) {
        const char *open = memchr(at, '<', (size_t)(end - at)), *close = open ? memchr(open, '>', (size_t)(end - open)) : NULL;
        if (!close)
            return false;
        const char *comma = memchr(close, ',', (size_t)(end - close)), *stop = comma ? comma : end;
        if (memmem(close, (size_t)(stop - close), "rel=\"next\"", 10)) {
            *out = (ap_str){open + 1, (size_t)(close - open - 1)};
            return true;
        }
        at = stop + (comma != NULL);
    }
    return false;
}

static ap_status ask_page(ap_transfer *t, const ap_fetch_settings *s, const ap_hub_source *source, ap_hub_tree *tree, ap_buf *address, bool *is_last,
                          ap_error *err)
{
    ap_transfer_answer answer;
    ap_str next;
    char checked[AP_ADDRESS_ROOM];
    ap_status status = ask(t, s, source, address->ptr, &answer, err);
    if (status == AP_OK) {
        status = ap_hub_read_page(tree, ap_buf_str(&answer.body), err);
        if (status != AP_OK)
            ap_error_prefix(err, source->repo);
    }
    *is_last = status != AP_OK || !read_next(&answer.head, &next);
    if (!*is_last)
        status = ap_address_follow(answer.address, next, s->http_origin, checked, err);
    if (!*is_last && status == AP_OK && !ap_address_same_origin(checked, s->endpoint)) /* it would get our token */
        status = ap_fail(err, AP_E_INTEGRITY, "%s says that its list of files goes on elsewhere", s->endpoint);
    if (!*is_last && status == AP_OK) {
        ap_buf_clear(address);
        status = ap_buf_add(address, checked, strlen(checked), err);
    }
    ap_transfer_answer_deinit(&answer);
    return status;
}

ap_status ap_hub_look(ap_transfer *t, const ap_fetch_settings *s, const ap_hub_source *source, char commit[AP_TRANSFER_SHA1_HEX],
                      ap_hub_tree *tree, ap_error *err)
{
    ap_buf address = {0};
    bool is_last = false;
    *tree = (ap_hub_tree){0};
    AP_TRY(ask_commit(t, s, source, commit, err));
    ap_status status = make_address(&address, s, "/api/models", source, "tree", commit, NULL, err);
    if (status == AP_OK)
        status = ap_buf_add_str(&address, AP_STR("?recursive=true"), err);
    for (unsigned page = 0; status == AP_OK && !is_last; page++)
        status = page < AP_HUB_PAGES_MAX ? ask_page(t, s, source, tree, &address, &is_last, err)
                                         : ap_fail(err, AP_E_LIMIT, "the list of files of '%s' has more than %d pages", source->repo, AP_HUB_PAGES_MAX);
    ap_buf_deinit(&address);
    if (status != AP_OK)
        ap_hub_tree_deinit(tree);
    return status;
}

/* ---- Fetching ---- */

/* What the hub says of a file when it is asked for must be what its list said. */
static ap_status check_promise(void *context, const ap_buf *head, ap_error *err)
{
    const ap_hub_file *file = context;
    const char *digest = file->sha256[0] ? file->sha256 : file->sha1;
    ap_str value;
    char size[24];
    if (ap_transfer_header(head, "x-linked-etag", &value)) {
        if (value.len > 2 && value.ptr[0] == '"')
            value = (ap_str){value.ptr + 1, value.len - 2};
        if ((is_hex(value, 64) || is_hex(value, 40)) && !ap_str_is(value, digest))
            return ap_fail(err, AP_E_INTEGRITY, "the hub says that '%.100s' has the digest %.*s, its list of files says %s", file->path,
                           (int)value.len, value.ptr, digest);
    }
    (void)snprintf(size, sizeof size, "%" PRIu64, file->bytes);
    if (ap_transfer_header(head, "x-linked-size", &value) && !ap_str_is(value, size))
        return ap_fail(err, AP_E_INTEGRITY, "the hub says that '%.100s' has %.*s bytes, its list of files says %s", file->path,
                       value.len < 24 ? (int)value.len : 24, value.ptr, size);
    return AP_OK;
}

ap_status ap_hub_fetch(ap_transfer *t, const ap_fetch_settings *s, const ap_hub_source *source, const char *commit, const ap_hub_file *file,
                       int folder, uint64_t before, uint64_t total, ap_error *err)
{
    ap_buf address = {0};
    char identity[128];
    (void)snprintf(identity, sizeof identity, "%s%s", file->sha256[0] ? "sha256:" : "git:", file->sha256[0] ? file->sha256 : file->sha1);
    ap_status status = make_address(&address, s, "", source, "resolve", commit, file->path, err);
    ap_transfer_file f = {.address = address.ptr,
                          .identity = identity,
                          .authorization = s->authorization[0] ? s->authorization : NULL,
                          .folder = folder,
                          .name = ap_hub_plain_name(file),
                          .bytes = file->bytes,
                          .sha256 = file->sha256[0] ? file->sha256 : NULL,
                          .git_sha1 = file->sha1[0] ? file->sha1 : NULL,
                          .check_head = check_promise,
                          .check_context = (void *)file,
                          .progress_before = before,
                          .progress_total = total};
    if (status == AP_OK)
        status = ap_transfer_fetch(t, &f, err);
    if (status != AP_OK && f.code)
        status = explain(s, source, file->path, f.code, &f.refusal_head, err);
    ap_buf_deinit(&f.refusal_head);
    ap_buf_deinit(&address);
    return status;
}
