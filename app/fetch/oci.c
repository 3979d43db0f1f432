/* The registry: manifests, blobs, uploads.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "fetch/oci_inside.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"

enum {
    ANSWER_BYTES_MAX = 64 * 1024, /* of answers that are no manifest: nothing in them is read */
    /* What is sent at once: lost when the connection is cut, kept in memory. */
    CHUNK_BYTES = 16 << 20,
    CHUNK_BYTES_MAX = 256 << 20, /* what a registry may ask for at least */
    FAILURES_MAX = 5             /* in a row that bring nothing */
};

#define MANIFEST_TYPE "application/vnd.oci.image.manifest.v1+json"

struct ap_oci {
    ap_transfer *transfer;
    ap_oci_ref ref;
    char base[16 + 2 * (AP_OCI_NAME_MAX + 1) + 8]; /* "https://HOST/v2/REPOSITORY" */
    char authorization[AP_OCI_AUTHORIZATION_ROOM]; /* empty: nobody asked for it yet */
};

ap_status ap_oci_open(ap_oci **out, ap_transfer *transfer, const ap_oci_ref *ref, ap_error *err)
{
    *out = NULL;
    ap_oci *o = ap_alloc_zero(1, sizeof *o);
    if (!o)
        return ap_fail_nomem(err, sizeof *o);
    o->transfer = transfer;
    o->ref = *ref;
    char checked[AP_ADDRESS_ROOM], http[AP_OCI_NAME_MAX + 16];
    (void)snprintf(http, sizeof http, "http://%s/", ref->host);
    (void)snprintf(o->base, sizeof o->base, "%s://%s/v2/%s", ap_address_is_loopback(http) ? "http" : "https", ref->host, ref->repository);
    ap_status status = ap_address_check(o->base, NULL, checked, err);
    if (status != AP_OK)
        ap_oci_close(&o);
    *out = o;
    return status;
}

void ap_oci_close(ap_oci **oci)
{
    ap_free(*oci);
    *oci = NULL;
}

/* ---- Asking ---- */

static const char *authorization_for(const ap_oci *o, const char *address)
{
    return o->authorization[0] && ap_address_same_origin(o->base, address) ? o->authorization : NULL;
}

/* After a 401 of the registry itself: a token, or the credentials. */
static ap_status come_in(ap_oci *o, const ap_buf *head, ap_error *err)
{
    ap_str value;
    ap_oci_challenge *challenge = ap_alloc(sizeof *challenge);
    if (!challenge)
        return ap_fail_nomem(err, sizeof *challenge);
    ap_status status = ap_transfer_header(head, "www-authenticate", &value)
                           ? ap_oci_challenge_parse(value, challenge, err)
                           : ap_fail(err, AP_E_NOTFOUND, "the registry '%s' refuses (HTTP 401) and does not say what it wants", o->ref.host);
    if (status == AP_OK)
        status = ap_oci_authorize(o->transfer, &o->ref, o->base, challenge, o->authorization, err);
    ap_free(challenge);
    return status;
}

/* Asks; when the registry wants to know who we are, says so and asks again. */
static ap_status ask(ap_oci *o, ap_transfer_request *request, ap_transfer_answer *answer, ap_error *err)
{
    for (int turn = 0;; turn++) {
        request->authorization = authorization_for(o, request->address);
        AP_TRY(ap_transfer_ask(o->transfer, request, answer, err));
        if (answer->code != 401 || turn == 1 || !ap_address_same_origin(o->base, answer->address))
            return AP_OK;
        ap_status status = come_in(o, &answer->head, err);
        ap_transfer_answer_deinit(answer);
        *answer = (ap_transfer_answer){0};
        AP_TRY(status);
    }
}

/* What the registry's refusal means; its own words are in the body, and strangers' words are not repeated. */
static ap_status refused(const ap_oci *o, long code, const char *what, ap_error *err)
{
    const char *why = code == 401   ? "the credentials are not accepted, or there are none"
                      : code == 403 ? "the right to it is missing"
                      : code == 404 ? "it is not there, or not for everybody"
                                    : "it refuses";
    return ap_fail(err, code == 401 || code == 403 || code == 404 ? AP_E_NOTFOUND : AP_E_IO, "%s of '%s/%s': %s (HTTP %ld)", what, o->ref.host,
                   o->ref.repository, why, code);
}

/* ---- Pull ---- */

/* The bytes of a manifest by tag or digest, and their digest. */
static ap_status get_manifest(ap_oci *o, const char *reference, ap_transfer_answer *answer, char sha256[AP_HASH_HEX], ap_error *err)
{
    /* Lists as well, so that one is refused as what it is and not as missing. */
    static const char *const lines[] = {"Accept: " MANIFEST_TYPE ", application/vnd.docker.distribution.manifest.v2+json, "
                                        "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json"};
    char address[sizeof o->base + AP_OCI_TAG_MAX + 96];
    (void)snprintf(address, sizeof address, "%s/manifests/%s", o->base, reference);
    ap_transfer_request request = {.address = address, .lines = lines, .line_count = 1, .answer_bytes_max = AP_OCI_MANIFEST_BYTES_MAX};
    AP_TRY(ask(o, &request, answer, err));
    if (answer->code != 200) {
        char what[AP_OCI_TAG_MAX + 40];
        (void)snprintf(what, sizeof what, "the manifest '%s'", reference);
        return refused(o, answer->code, what, err);
    }
    ap_hash hash;
    ap_hash_begin(&hash, AP_HASH_SHA256);
    ap_hash_add(&hash, answer->body.ptr, answer->body.len);
    ap_hash_end(&hash, sha256);
    return AP_OK;
}

ap_status ap_oci_get_manifest(ap_oci *o, ap_oci_manifest *out, ap_error *err)
{
    char digest[80], sha256[AP_HASH_HEX];
    *out = (ap_oci_manifest){0};
    ap_transfer_answer *answer = ap_alloc_zero(1, sizeof *answer);
    if (!answer)
        return ap_fail_nomem(err, sizeof *answer);
    (void)snprintf(digest, sizeof digest, "sha256:%s", o->ref.sha256);
    ap_status status = get_manifest(o, o->ref.sha256[0] ? digest : o->ref.tag, answer, sha256, err);
    if (status == AP_OK && o->ref.sha256[0] && strcmp(sha256, o->ref.sha256) != 0)
        status = ap_fail(err, AP_E_INTEGRITY, "the registry '%s' gives another manifest than sha256:%.12s…: sha256:%.12s…", o->ref.host,
                         o->ref.sha256, sha256);
    if (status == AP_OK)
        status = ap_oci_manifest_parse(ap_buf_str(&answer->body), out, err);
    if (status == AP_OK)
        memcpy(out->sha256, sha256, sizeof sha256);
    ap_transfer_answer_deinit(answer);
    ap_free(answer);
    return status;
}

ap_status ap_oci_get_blob(ap_oci *o, const ap_oci_blob *blob, int folder, const char *name, ap_error *err)
{
    char address[sizeof o->base + 96];
    (void)snprintf(address, sizeof address, "%s/blobs/sha256:%s", o->base, blob->sha256);
    for (int turn = 0;; turn++) {
        ap_transfer_file file = {.address = address, .authorization = authorization_for(o, address), .folder = folder, .name = name,
                                 .bytes = blob->bytes, .sha256 = blob->sha256};
        ap_status status = ap_transfer_fetch(o->transfer, &file, err);
        /* A token ends after some minutes; what was fetched until then stays. */
        bool may_come_in = status != AP_OK && file.code == 401 && turn == 0;
        if (may_come_in)
            status = come_in(o, &file.refusal_head, err);
        else if (status != AP_OK && file.code)
            status = refused(o, file.code, "the layer of the weights", err);
        ap_buf_deinit(&file.refusal_head);
        if (!may_come_in || status != AP_OK)
            return status;
    }
}

/* ---- Push ---- */

typedef struct upload {
    ap_oci *oci;
    int fd;          /* or -1: */
    const char *ptr; /* the bytes in memory */
    const ap_oci_blob *blob;
    char *location; /* AP_ADDRESS_ROOM: where the next piece goes */
    unsigned char *piece; /* room for chunk_bytes, or for the blob where that is less */
    uint64_t sent, chunk_bytes;
    unsigned begins;
    ap_progress *progress;
    void *context;
} upload;

static ap_status take_location(upload *u, const char *from, const ap_buf *head, ap_error *err)
{
    ap_str location;
    if (!ap_transfer_header(head, "location", &location))
        return ap_fail(err, AP_E_FORMAT, "the registry '%s' does not say where to send the blob", u->oci->ref.host);
    return ap_address_follow(from, location, NULL, u->location, err);
}

/* "0-99" of the header Range: 100 bytes are there. */
static uint64_t bytes_there(const ap_buf *head)
{
    ap_str value;
    if (!ap_transfer_header(head, "range", &value))
        return 0;
    const char *dash = memchr(value.ptr, '-', value.len);
    uint64_t last = 0;
    for (const char *p = dash ? dash + 1 : NULL; p && p < value.ptr + value.len && *p >= '0' && *p <= '9' && last < AP_TRANSFER_BYTES_MAX; p++)
        last = last * 10 + (uint64_t)(*p - '0');
    return last ? last + 1 : 0; /* 0-0 is written for nothing as well; one byte is soon sent again */
}

static ap_status is_there(ap_oci *o, const ap_oci_blob *blob, bool *out, ap_error *err)
{
    char address[sizeof o->base + 96];
    ap_transfer_answer *answer = ap_alloc_zero(1, sizeof *answer);
    if (!answer)
        return ap_fail_nomem(err, sizeof *answer);
    (void)snprintf(address, sizeof address, "%s/blobs/sha256:%s", o->base, blob->sha256);
    ap_transfer_request request = {.address = address, .method = "HEAD", .answer_bytes_max = ANSWER_BYTES_MAX};
    ap_status status = ask(o, &request, answer, err);
    *out = status == AP_OK && answer->code == 200;
    ap_transfer_answer_deinit(answer);
    ap_free(answer);
    return status;
}

/* Pieces are as long as the registry wants; each upload may ask for other ones. */
static ap_status set_chunk(upload *u, uint64_t bytes, ap_error *err)
{
    uint64_t room = bytes < u->blob->bytes ? bytes : u->blob->bytes + 1;
    unsigned char *piece = ap_realloc(u->piece, (size_t)room);
    if (!piece)
        return ap_fail_nomem(err, (size_t)room);
    u->piece = piece;
    u->chunk_bytes = bytes;
    return AP_OK;
}

static ap_status begin_upload(upload *u, ap_error *err)
{
    ap_oci *o = u->oci;
    char address[sizeof o->base + 32];
    ap_str least;
    (void)snprintf(address, sizeof address, "%s/blobs/uploads/", o->base);
    ap_transfer_answer *answer = ap_alloc_zero(1, sizeof *answer);
    if (!answer)
        return ap_fail_nomem(err, sizeof *answer);
    ap_transfer_request request = {.address = address, .method = "POST", .answer_bytes_max = ANSWER_BYTES_MAX};
    ap_status status = ask(o, &request, answer, err);
    if (status == AP_OK && answer->code != 202)
        status = refused(o, answer->code, "pushing to the repository", err);
    if (status == AP_OK)
        status = take_location(u, address, &answer->head, err);
    if (status == AP_OK && ++u->begins > FAILURES_MAX)
        status = ap_fail(err, AP_E_IO, "the registry '%s' forgot %d uploads of the same blob", o->ref.host, FAILURES_MAX);
    uint64_t wanted = 0;
    u->sent = 0;
    if (status == AP_OK && ap_transfer_header(&answer->head, "oci-chunk-min-length", &least)) {
        for (size_t i = 0; i < least.len && least.ptr[i] >= '0' && least.ptr[i] <= '9' && wanted <= CHUNK_BYTES_MAX; i++)
            wanted = wanted * 10 + (uint64_t)(least.ptr[i] - '0');
        if (wanted > CHUNK_BYTES_MAX)
            status = ap_fail(err, AP_E_LIMIT, "the registry '%s' wants pieces of more than %d bytes", o->ref.host, CHUNK_BYTES_MAX);
    }
    if (status == AP_OK)
        status = set_chunk(u, wanted > CHUNK_BYTES ? wanted : CHUNK_BYTES, err);
    ap_transfer_answer_deinit(answer);
    ap_free(answer);
    return status;
}

static ap_status read_piece(const upload *u, size_t count, ap_error *err)
{
    if (u->fd < 0) {
        memcpy(u->piece, u->ptr + u->sent, count);
        return AP_OK;
    }
    for (size_t done = 0; done < count;) {
        ssize_t n = pread(u->fd, u->piece + done, count - done, (off_t)(u->sent + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return ap_fail(err, AP_E_IO, "the file to push cannot be read: %s", n ? strerror(errno) : "it became shorter");
        done += (size_t)n;
    }
    return AP_OK;
}

/* Sends the next piece; `*code` is the answer's. */
static ap_status send_piece(upload *u, size_t count, long *code, ap_error *err)
{
    char range[80];
    (void)snprintf(range, sizeof range, "Content-Range: %" PRIu64 "-%" PRIu64, u->sent, u->sent + count - 1);
    const char *const lines[] = {"Content-Type: application/octet-stream", range};
    char *address = ap_strndup(u->location, strlen(u->location));
    ap_transfer_answer *answer = ap_alloc_zero(1, sizeof *answer);
    ap_status status = address && answer ? read_piece(u, count, err) : ap_fail_nomem(err, AP_ADDRESS_ROOM + sizeof *answer);
    ap_transfer_request request = {.address = address, .method = "PATCH", .lines = lines, .line_count = 2,
                                   .body = {(const char *)u->piece, count}, .answer_bytes_max = ANSWER_BYTES_MAX};
    if (status == AP_OK)
        status = ask(u->oci, &request, answer, err);
    if (status == AP_OK) {
        *code = answer->code;
        if (*code == 202)
            status = take_location(u, address, &answer->head, err);
    }
    if (answer)
        ap_transfer_answer_deinit(answer);
    ap_free(answer);
    ap_free(address);
    return status;
}

/* After a cut: how much of it the registry has.  A new upload if it knows nothing of this one. */
static ap_status find_place(upload *u, ap_error *err)
{
    char *address = ap_strndup(u->location, strlen(u->location));
    ap_transfer_answer *answer = ap_alloc_zero(1, sizeof *answer);
    ap_transfer_request request = {.address = address, .answer_bytes_max = ANSWER_BYTES_MAX};
    ap_status status = address && answer ? ask(u->oci, &request, answer, err) : ap_fail_nomem(err, AP_ADDRESS_ROOM + sizeof *answer);
    bool is_known = status == AP_OK && answer->code == 204;
    if (is_known) {
        uint64_t there = bytes_there(&answer->head);
        u->sent = there <= u->blob->bytes ? there : 0;
        status = take_location(u, address, &answer->head, err);
        is_known = there <= u->blob->bytes;
    }
    if (answer)
        ap_transfer_answer_deinit(answer);
    ap_free(answer);
    ap_free(address);
    return status == AP_OK && !is_known ? begin_upload(u, err) : status;
}

static ap_status end_upload(upload *u, ap_error *err)
{
    ap_buf address = {.limit = AP_ADDRESS_ROOM - 1};
    ap_transfer_answer *answer = ap_alloc_zero(1, sizeof *answer);
    ap_status status = answer ? ap_buf_printf(&address, err, "%s%cdigest=sha256%%3A%s", u->location, strchr(u->location, '?') ? '&' : '?',
                                              u->blob->sha256)
                              : ap_fail_nomem(err, sizeof *answer);
    ap_transfer_request request = {.address = address.ptr, .method = "PUT", .answer_bytes_max = ANSWER_BYTES_MAX};
    if (status == AP_OK)
        status = ask(u->oci, &request, answer, err);
    if (status == AP_OK && answer->code != 201 && answer->code != 204)
        status = answer->code == 400 ? ap_fail(err, AP_E_INTEGRITY, "the registry '%s' got other bytes than sha256:%.12s… says (HTTP 400)",
                                               u->oci->ref.host, u->blob->sha256)
                                     : refused(u->oci, answer->code, "a blob", err);
    if (answer)
        ap_transfer_answer_deinit(answer);
    ap_free(answer);
    ap_buf_deinit(&address);
    return status;
}

static ap_status send_all(upload *u, ap_error *err)
{
    unsigned failures = 0;
    AP_TRY(begin_upload(u, err));
    while (u->sent < u->blob->bytes) {
        uint64_t left = u->blob->bytes - u->sent, before = u->sent;
        size_t count = (size_t)(left < u->chunk_bytes ? left : u->chunk_bytes);
        long code = 0;
        ap_status status = send_piece(u, count, &code, err);
        if (status == AP_OK && code == 202) {
            u->sent += count;
            failures = 0;
            if (u->progress)
                u->progress(u->context, u->sent, u->blob->bytes);
            continue;
        }
        /* A cut, or a piece that does not begin where the registry stopped. */
        bool may_go_on = status == AP_E_IO || (status == AP_OK && (code == 416 || code == 404));
        if (status == AP_OK)
            status = refused(u->oci, code, "a piece of a blob", err);
        if (!may_go_on || ++failures > FAILURES_MAX)
            return status;
        AP_TRY(find_place(u, err));
        failures = u->sent > before ? 0 : failures;
    }
    return end_upload(u, err);
}

static ap_status put(upload *u, ap_error *err)
{
    bool has = false;
    AP_TRY(is_there(u->oci, u->blob, &has, err));
    if (has)
        return AP_OK;
    u->location = ap_alloc(AP_ADDRESS_ROOM);
    ap_status status = u->location ? send_all(u, err) : ap_fail_nomem(err, (size_t)AP_ADDRESS_ROOM);
    ap_free(u->piece);
    ap_free(u->location);
    return status;
}

ap_status ap_oci_put_blob(ap_oci *o, int fd, const ap_oci_blob *blob, ap_progress *progress, void *context, ap_error *err)
{
    upload u = {.oci = o, .fd = fd, .blob = blob, .progress = progress, .context = context};
    return put(&u, err);
}

static void digest_of(ap_str bytes, char sha256[AP_HASH_HEX])
{
    ap_hash hash;
    ap_hash_begin(&hash, AP_HASH_SHA256);
    ap_hash_add(&hash, bytes.ptr, bytes.len);
    ap_hash_end(&hash, sha256);
}

ap_status ap_oci_put_bytes(ap_oci *o, ap_str bytes, ap_oci_blob *blob, ap_error *err)
{
    upload u = {.oci = o, .fd = -1, .ptr = bytes.ptr, .blob = blob};
    digest_of(bytes, blob->sha256);
    blob->bytes = bytes.len;
    return put(&u, err);
}

/* ---- The manifest that is pushed ---- */

static json_t *descriptor(const ap_oci_blob *b)
{
    char digest[80];
    (void)snprintf(digest, sizeof digest, "sha256:%s", b->sha256);
    json_t *o = json_pack("{s:s, s:s, s:I}", "mediaType", b->media_type, "digest", digest, "size", (json_int_t)b->bytes);
    if (o && b->file_name[0])
        json_object_set_new(o, "annotations", json_pack("{s:s, s:s}", "org.cncf.model.filepath", b->file_name,
                                                        "org.opencontainers.image.title", b->file_name));
    return o;
}

ap_status ap_oci_put_manifest(ap_oci *o, ap_oci_manifest *m, ap_error *err)
{
    static const char *const lines[] = {"Content-Type: " MANIFEST_TYPE};
    char address[sizeof o->base + AP_OCI_TAG_MAX + 16];
    json_t *root = json_pack("{s:i, s:s, s:s, s:o, s:[o]}", "schemaVersion", 2, "mediaType", MANIFEST_TYPE, "artifactType",
                             "application/vnd.cncf.model.manifest.v1+json", "config", descriptor(&m->config), "layers",
                             descriptor(&m->layers[0]));
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    ap_transfer_answer *answer = ap_alloc_zero(1, sizeof *answer);
    ap_status status = text && answer ? AP_OK : ap_fail_nomem(err, sizeof *answer);
    (void)snprintf(address, sizeof address, "%s/manifests/%s", o->base, o->ref.tag);
    ap_transfer_request request = {.address = address, .method = "PUT", .lines = lines, .line_count = 1, .body = ap_str_from(text),
                                   .answer_bytes_max = ANSWER_BYTES_MAX};
    if (status == AP_OK) {
        digest_of(request.body, m->sha256);
        status = ask(o, &request, answer, err);
    }
    if (status == AP_OK && answer->code / 100 != 2)
        status = refused(o, answer->code, "the manifest", err);
    if (answer)
        ap_transfer_answer_deinit(answer);
    ap_free(answer);
    free(text);
    return status;
}
