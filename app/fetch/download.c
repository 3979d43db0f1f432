/* A file in pieces, several at once.
 *
 * The first request goes alone: it finds the way through the redirects, shows whether the server can give ranges and
 * what it calls the file.  Then the others follow to the address found.  An answer counts only if it is exactly the
 * range that was asked for, of a file of the same length and name (ETag); anything else begins the file again.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <nettle/sha1.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "fetch/exchange.h"
#include "fetch/partial.h"

enum {
    CONNECTIONS_DEFAULT = 4,
    CONNECTIONS_MAX = 16,
    PIECE_BYTES_DEFAULT = 32 << 20, /* a second of a fast line: the cost of one more request does not show */
    RESTARTS_MAX = 3,
    PROGRESS_BYTES_MIN = 64 << 10, /* between two cuts, so that a try counts as one that brought something */
    HASH_PIECE = 1 << 20
};
static const uint64_t SAVE_NS = (uint64_t)5 * 1000000000;

typedef struct download download;

typedef struct slot {
    ap_exchange exchange;
    download *owner;
    uint64_t at, end; /* the next byte to come, and the first that is not asked for (UINT64_MAX: not known yet) */
    uint64_t ready_ns; /* waiting: not before */
    size_t piece;
    bool is_running, is_waiting, has_gone_straight;
    bool is_stale; /* its address has ended, which is nothing to tell */
} slot;

struct download {
    ap_transfer *transfer;
    ap_transfer_file *file;
    ap_transfer_request request;
    ap_partial partial;
    slot *slots;
    size_t slot_count;
    char location[AP_ADDRESS_ROOM]; /* where the redirects led to, or empty */
    bool location_has_left;
    bool is_ranged;   /* the server gave a range */
    bool is_unranged; /* ask for all of it: ranges could not be told from those of another file */
    bool must_restart, has_received, is_worthless;
    ap_retries retries;
    bool has_begun_again; /* for lack of a validator */
    uint64_t received, received_at_failure;
    uint64_t saved_ns;
    ap_hash hash;
    uint64_t hashed;
    unsigned char *piece; /* of the hash */
};

static bool can_resume(const download *d)
{
    return d->partial.validator[0] || d->file->sha256 || d->file->git_sha1;
}

/* ---- What an answer says of itself ---- */

static bool read_number(const char **at, const char *end, uint64_t *out)
{
    const char *start = *at;
    uint64_t value = 0;
    for (; *at < end && **at >= '0' && **at <= '9'; (*at)++)
        if (!ap_mul_u64(value, 10, &value) || !ap_add_u64(value, (uint64_t)(**at - '0'), &value))
            return false;
    *out = value;
    return *at > start;
}

bool ap_transfer_read_range(ap_str text, uint64_t *first, uint64_t *last, uint64_t *total)
{
    const char *at = text.ptr, *end = at + text.len;
    if (!ap_str_starts(text, AP_STR("bytes ")))
        return false;
    at += 6;
    return read_number(&at, end, first) && at < end && *at++ == '-' && read_number(&at, end, last) && at < end && *at++ == '/' &&
           read_number(&at, end, total) && at == end && *first <= *last && *last < *total;
}

/* A date of a header in seconds, or -1. */
static int64_t read_date(const ap_exchange *x, const char *name)
{
    ap_str value;
    char text[64];
    if (!ap_transfer_header(&x->head, name, &value) || value.len >= sizeof text)
        return -1;
    (void)snprintf(text, sizeof text, "%.*s", (int)value.len, value.ptr);
    return (int64_t)curl_getdate(text, NULL);
}

/* A strong ETag, else the date of the last change if that can be no other one within the same second (RFC 9110, 8.8.2.2);
 * what is too long is none. */
static void read_validator(const ap_exchange *x, char out[AP_TRANSFER_ETAG_MAX])
{
    ap_str value;
    int64_t changed = read_date(x, "last-modified");
    out[0] = 0;
    if ((ap_transfer_header(&x->head, "etag", &value) && value.len > 1 && value.ptr[0] == '"') ||
        (changed >= 0 && changed < read_date(x, "date") && ap_transfer_header(&x->head, "last-modified", &value)))
        (void)snprintf(out, AP_TRANSFER_ETAG_MAX, "%.*s", value.len < AP_TRANSFER_ETAG_MAX ? (int)value.len : 0, value.ptr);
    for (const char *c = out; *c; c++)
        if ((unsigned char)*c >= 0x80) /* it is noted as JSON, and such bytes need not be UTF-8 */
            out[0] = 0;
}

static ap_status check_room(const download *d, uint64_t bytes, ap_error *err)
{
    struct statvfs disk;
    uint64_t needed = bytes - d->partial.done_bytes;
    if (fstatvfs(d->file->folder, &disk) != 0)
        return ap_fail(err, AP_E_IO, "the disk cannot be asked for its free space: %s", strerror(errno));
    uint64_t there = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (needed > there)
        return ap_fail(err, AP_E_IO, "'%s' needs %.1f MB more, the disk has %.1f MB free", d->file->name, (double)needed / 1e6,
                       (double)there / 1e6);
    return AP_OK;
}

/* The length of the whole file is known now. */
static ap_status learn_length(download *d, uint64_t bytes, ap_error *err)
{
    ap_partial *p = &d->partial;
    uint64_t piece = d->transfer->options.piece_bytes ? d->transfer->options.piece_bytes : PIECE_BYTES_DEFAULT;
    if (d->file->bytes != UINT64_MAX && bytes != d->file->bytes)
        return ap_fail(err, AP_E_INTEGRITY, "the server gives '%s' %" PRIu64 " bytes, it should have %" PRIu64, d->file->name, bytes,
                       d->file->bytes);
    if (p->done && p->bytes == bytes)
        return AP_OK;
    if (p->done) {
        d->must_restart = true;
        return ap_fail(err, AP_E_STATE, "the length changed");
    }
    AP_TRY(ap_partial_plan(p, bytes, piece, err));
    return check_room(d, bytes, err);
}

static ap_status restart(download *d, const char *why, ap_error *err)
{
    d->must_restart = true;
    return ap_fail(err, AP_E_STATE, "%s", why);
}

static ap_status take_range(download *d, slot *s, ap_error *err)
{
    uint64_t first, last, total;
    ap_str text;
    char shown[AP_ADDRESS_SHOWN_ROOM];
    ap_address_show(s->exchange.address, shown);
    if (!ap_transfer_header(&s->exchange.head, "content-range", &text) || !ap_transfer_read_range(text, &first, &last, &total))
        return ap_fail(err, AP_E_FORMAT, "%s answers with a range and does not say which", shown);
    AP_TRY(learn_length(d, total, err));
    uint64_t end = s->end < total ? s->end : total;
    if (first != s->at || last + 1 != end)
        return ap_fail(err, AP_E_FORMAT, "%s answers with the bytes %" PRIu64 " to %" PRIu64 ", asked for were %" PRIu64 " to %" PRIu64, shown,
                       first, last, s->at, end - 1);
    s->end = end;
    d->is_ranged = true;
    return AP_OK;
}

static ap_status take_whole(download *d, slot *s, ap_error *err)
{
    ap_str text;
    uint64_t bytes = d->file->bytes;
    char shown[AP_ADDRESS_SHOWN_ROOM];
    ap_address_show(s->exchange.address, shown);
    if (s->at > 0 || d->is_ranged || d->partial.done_bytes > 0)
        return restart(d, "the server gives the whole file instead of a part", err);
    if (ap_transfer_header(&s->exchange.head, "content-length", &text)) {
        const char *at = text.ptr;
        if (!read_number(&at, text.ptr + text.len, &bytes))
            return ap_fail(err, AP_E_FORMAT, "%s gives a length that is no number", shown);
    }
    if (bytes == UINT64_MAX)
        return ap_fail(err, AP_E_UNSUPPORTED, "%s does not say how long the file is, so its end could not be told from a cut", shown);
    AP_TRY(learn_length(d, bytes, err));
    s->end = bytes;
    return AP_OK;
}

static ap_status take_head(ap_exchange *x, ap_error *err)
{
    slot *s = x->context;
    download *d = s->owner;
    char validator[AP_TRANSFER_ETAG_MAX], shown[AP_ADDRESS_SHOWN_ROOM];
    ap_str encoding;
    ap_address_show(x->address, shown);
    if (d->file->check_head)
        AP_TRY(d->file->check_head(d->file->check_context, &x->head, err));
    read_validator(x, validator);
    if (ap_transfer_header(&x->head, "content-encoding", &encoding) && !ap_str_is(encoding, "identity"))
        return ap_fail(err, AP_E_UNSUPPORTED, "%s answers with the content encoding '%.*s', which was not asked for", shown,
                       encoding.len < 40 ? (int)encoding.len : 40, encoding.ptr);
    if (d->partial.done && d->partial.validator[0] && strcmp(d->partial.validator, validator) != 0 && (d->partial.done_bytes || d->is_ranged))
        return restart(d, "the file is another one now", err);
    if (x->code == 206 && x->range[0])
        AP_TRY(take_range(d, s, err));
    else if (x->code == 200)
        AP_TRY(take_whole(d, s, err));
    else
        return ap_fail(err, AP_E_FORMAT, "%s answers with HTTP %ld to a download", shown, x->code);
    memcpy(d->partial.validator, validator, sizeof validator);
    memcpy(d->location, x->address, sizeof d->location);
    d->location_has_left = x->has_left;
    if (x->code == 206 && !can_resume(d)) {
        d->is_unranged = true;
        return restart(d, "nothing tells whether parts belong together", err);
    }
    return AP_OK;
}

static ap_status take_body(ap_exchange *x, const void *bytes, size_t count, ap_error *err)
{
    slot *s = x->context;
    download *d = s->owner;
    if (count > s->end - s->at)
        return ap_fail(err, AP_E_INTEGRITY, "the server sends more bytes of '%s' than it said", d->file->name);
    AP_TRY(ap_partial_write(&d->partial, s->at, bytes, count, err));
    s->at += count;
    d->received += count;
    return AP_OK;
}

/* ---- Slots ---- */

static bool is_taken(const download *d, size_t piece)
{
    for (size_t i = 0; i < d->slot_count; i++)
        if ((d->slots[i].is_running || d->slots[i].is_waiting) && d->slots[i].piece == piece)
            return true;
    return false;
}

static uint64_t piece_end(const ap_partial *p, size_t i)
{
    return i + 1 < p->count ? (i + 1) * p->piece_bytes : p->bytes;
}

/* The next piece for a slot that has nothing to do; false if there is none. */
static bool choose(download *d, slot *s)
{
    const ap_partial *p = &d->partial;
    s->at = 0;
    s->end = UINT64_MAX;
    s->piece = 0;
    if (!p->done)
        return s == d->slots;
    if (p->count == 0) { /* an empty file is asked for as well */
        s->end = 0;
        return s == d->slots && !d->has_received;
    }
    for (size_t i = 0; i < p->count; i++) {
        if (i * p->piece_bytes + p->done[i] == piece_end(p, i) || is_taken(d, i))
            continue;
        s->piece = i;
        s->at = i * p->piece_bytes + p->done[i];
        s->end = piece_end(p, i);
        return true;
    }
    return false;
}

static ap_status begin(download *d, slot *s, ap_error *err)
{
    ap_exchange *x = &s->exchange;
    ap_exchange_deinit(x);
    AP_TRY(ap_exchange_init(x, d->transfer, &d->request, err));
    s->owner = d;
    x->context = s;
    x->on_head = take_head;
    x->on_body = take_body;
    s->has_gone_straight = d->location[0] != 0;
    s->is_stale = false;
    if (s->has_gone_straight) {
        memcpy(x->address, d->location, sizeof d->location);
        x->has_left = d->location_has_left;
    }
    uint64_t piece = d->transfer->options.piece_bytes ? d->transfer->options.piece_bytes : PIECE_BYTES_DEFAULT;
    bool is_all = s->at == 0 && d->partial.done && s->end == d->partial.bytes;
    if (s->end == UINT64_MAX)
        s->end = piece;
    if (!is_all && !d->is_unranged)
        (void)snprintf(x->range, sizeof x->range, "%" PRIu64 "-%" PRIu64, s->at, s->end - 1);
    memcpy(x->validator, d->partial.validator, sizeof x->validator);
    AP_TRY(ap_exchange_begin(x, err));
    s->is_running = true;
    s->is_waiting = false;
    return AP_OK;
}

/* A try that brought nothing lasting; `why` stands in the exchange. */
static ap_status count_failure(download *d, slot *s, ap_error *err)
{
    ap_exchange *x = &s->exchange;
    bool is_first = d->received == 0 && d->partial.done_bytes == 0;
    if (d->received - d->received_at_failure >= PROGRESS_BYTES_MIN)
        d->retries = (ap_retries){0};
    d->received_at_failure = d->received;
    if (x->error.status == AP_E_NOTFOUND && is_first)
        return ap_fail(err, AP_E_IO, "%s", x->error.message);
    if (x->error.status == AP_E_NOTFOUND) /* unreachable now */
        x->error.status = AP_E_IO;
    if (s->at > 0 && !can_resume(d) && d->has_begun_again)
        return ap_fail(err, AP_E_IO, "%s; it was begun again once already, for the server gives neither ETag nor date, and without them the rest "
                       "cannot be told from that of another file", x->error.message);
    if (s->at > 0 && !can_resume(d)) {
        d->has_begun_again = d->is_unranged = true;
        return restart(d, "the connection was cut, and the server gives neither ETag nor date that would tell whether the rest belongs to what is there", err);
    }
    s->is_waiting = true;
    return ap_transfer_retry(d->transfer, &d->retries, x, s->is_stale, &s->ready_ns, err);
}

static ap_status take_answer(download *d, slot *s, ap_error *err)
{
    ap_exchange *x = &s->exchange;
    char shown[AP_ADDRESS_SHOWN_ROOM];
    ap_address_show(x->address, shown);
    if (x->code / 100 == 2 && s->at == s->end) {
        d->has_received = true;
        return AP_OK;
    }
    if (x->code / 100 == 2) {
        (void)ap_fail(&x->error, AP_E_IO, "%s ended after %" PRIu64 " bytes of %" PRIu64, shown, s->at, s->end);
        return count_failure(d, s, err);
    }
    (void)ap_fail(&x->error, AP_E_IO, "%s answers with HTTP %ld", shown, x->code);
    if (s->has_gone_straight && x->code >= 400) { /* signed addresses end: ask the way again */
        d->location[0] = 0;
        s->is_stale = true;
        return count_failure(d, s, err);
    }
    if (x->code == 416 && d->partial.done_bytes > 0)
        return restart(d, "the file is shorter now", err);
    d->file->code = x->code;
    d->is_worthless = x->code == 404 || x->code == 410; /* there is nothing to go on with */
    ap_buf_deinit(&d->file->refusal_head);
    d->file->refusal_head = x->head;
    x->head = (ap_buf){0};
    return ap_fail(err, AP_E_NOTFOUND, "%s answers with HTTP %ld", shown, x->code);
}

static ap_status take_end(download *d, slot *s, CURLcode code, ap_error *err)
{
    s->is_running = false;
    switch (ap_exchange_judge(&s->exchange, code)) {
    case AP_VERDICT_ANSWERED: return take_answer(d, s, err);
    case AP_VERDICT_CUT: return count_failure(d, s, err);
    case AP_VERDICT_REDIRECTED:
        if (d->file->check_head)
            AP_TRY(d->file->check_head(d->file->check_context, &s->exchange.head, err));
        AP_TRY(ap_exchange_begin(&s->exchange, err));
        s->is_running = true;
        return AP_OK;
    default: return ap_fail(err, s->exchange.error.status, "%s", s->exchange.error.message);
    }
}

/* ---- The loop ---- */

static void report(const download *d)
{
    const ap_transfer_options *o = &d->transfer->options;
    uint64_t total = d->file->progress_total ? d->file->progress_total : d->partial.bytes;
    if (o->progress && total)
        o->progress(o->context, d->file->progress_before + d->partial.done_bytes, total);
}

/* Hashes what is there from the start without a hole, at most `most` bytes; it was just written, so it is read from memory. */
static ap_status hash_some(download *d, uint64_t most, ap_error *err)
{
    const ap_partial *p = &d->partial;
    while (most && d->hashed < p->bytes) {
        size_t i = (size_t)(d->hashed / p->piece_bytes);
        uint64_t there = i * p->piece_bytes + p->done[i] - d->hashed;
        if (d->hashed > i * p->piece_bytes + p->done[i] || there == 0)
            return AP_OK;
        if (there > HASH_PIECE)
            there = HASH_PIECE;
        ssize_t n = pread(p->fd, d->piece, (size_t)there, (off_t)d->hashed);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return ap_fail(err, AP_E_IO, "'%s' cannot be read again: %s", p->name, n < 0 ? strerror(errno) : "it became shorter");
        ap_hash_add(&d->hash, d->piece, (size_t)n);
        d->hashed += (uint64_t)n;
        most = (uint64_t)n < most ? most - (uint64_t)n : 0;
    }
    return AP_OK;
}

static ap_status start_slots(download *d, bool *is_busy, ap_error *err)
{
    uint64_t now = ap_clock_ns();
    *is_busy = false;
    for (size_t i = 0; i < d->slot_count; i++) {
        slot *s = &d->slots[i];
        bool is_first_alone = i == 0 || (d->is_ranged && d->location[0]);
        if (s->is_waiting && now >= s->ready_ns) {
            s->is_waiting = false;
            if (choose(d, s))
                AP_TRY(begin(d, s, err));
        } else if (!s->is_running && !s->is_waiting && is_first_alone && choose(d, s)) {
            AP_TRY(begin(d, s, err));
        }
        *is_busy = *is_busy || s->is_running || s->is_waiting;
    }
    return AP_OK;
}

static ap_status run(download *d, ap_error *err)
{
    enum { TURN_MS = 100 };
    for (;;) {
        bool is_busy;
        ap_exchange *ended;
        CURLcode code;
        AP_TRY(start_slots(d, &is_busy, err));
        report(d);
        if (!is_busy)
            return AP_OK;
        AP_TRY(ap_transfer_turn(d->transfer, TURN_MS, &ended, &code, err));
        if (ended)
            AP_TRY(take_end(d, ended->context, code, err));
        if (d->partial.done)
            AP_TRY(hash_some(d, 8 * HASH_PIECE, err));
        if (ap_clock_ns() - d->saved_ns > SAVE_NS) {
            AP_TRY(ap_partial_save(&d->partial, err));
            d->saved_ns = ap_clock_ns();
        }
    }
}

static void end_slots(download *d)
{
    for (size_t i = 0; i < d->slot_count; i++) {
        ap_exchange_deinit(&d->slots[i].exchange);
        d->slots[i].is_running = d->slots[i].is_waiting = false;
    }
}

static ap_status run_with_restarts(download *d, ap_error *err)
{
    ap_error why = {0};
    for (unsigned restarts = 0;; restarts++) {
        d->must_restart = d->has_received = d->is_ranged = false;
        d->location[0] = 0;
        d->hashed = 0;
        ap_hash_begin(&d->hash, AP_HASH_SHA256);
        ap_status status = run(d, &why);
        end_slots(d);
        if (status == AP_OK || !d->must_restart || restarts == RESTARTS_MAX)
            return status == AP_OK ? AP_OK : ap_fail(err, why.status, "%s", why.message);
        if (d->partial.done_bytes)
            ap_transfer_note(d->transfer, "%s: %s; beginning it again", d->file->name, why.message);
        AP_TRY(ap_partial_reset(&d->partial, err));
    }
}

/* ---- The end ---- */

static ap_status git_hash(const ap_transfer_file *f, int fd, uint64_t bytes, unsigned char *piece, char hex[AP_TRANSFER_SHA1_HEX],
                          ap_error *err)
{
    struct sha1_ctx hash;
    uint8_t digest[SHA1_DIGEST_SIZE];
    char head[40];
    int length = snprintf(head, sizeof head, "blob %" PRIu64, bytes) + 1; /* with its NUL */
    sha1_init(&hash);
    sha1_update(&hash, (size_t)length, (const uint8_t *)head);
    for (uint64_t at = 0; at < bytes;) {
        ssize_t n = pread(fd, piece, HASH_PIECE, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return ap_fail(err, AP_E_IO, "'%s' cannot be read", f->name);
        sha1_update(&hash, (size_t)n, piece);
        at += (uint64_t)n;
    }
    sha1_digest(&hash, sizeof digest, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    return AP_OK;
}

static bool is_right(const ap_transfer_file *f, const char *sha1)
{
    return (!f->sha256 || strcmp(f->sha256, f->sha256_is) == 0) && (!f->git_sha1 || strcmp(f->git_sha1, sha1) == 0);
}

static ap_status check_digests(download *d, ap_error *err)
{
    ap_transfer_file *f = d->file;
    char sha1[AP_TRANSFER_SHA1_HEX] = "";
    AP_TRY(hash_some(d, UINT64_MAX, err));
    ap_hash_end(&d->hash, f->sha256_is);
    memcpy(f->etag, d->partial.validator, sizeof f->etag);
    if (f->git_sha1)
        AP_TRY(git_hash(f, d->partial.fd, d->partial.bytes, d->piece, sha1, err));
    if (is_right(f, sha1))
        return AP_OK;
    d->is_worthless = true;
    return ap_fail(err, AP_E_INTEGRITY, "'%s' has the digest %s, it should have %s: what was fetched is thrown away", f->name,
                   f->sha256 ? f->sha256_is : sha1, f->sha256 ? f->sha256 : f->git_sha1);
}

/* Whether NAME was fetched before; what is not what it should be (the file changed at its place) goes. */
static bool is_there(ap_transfer_file *f, unsigned char *piece)
{
    struct stat st;
    char sha1[AP_TRANSFER_SHA1_HEX] = "";
    int fd = openat(f->folder, f->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return false;
    bool is_good = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (f->bytes == UINT64_MAX || (uint64_t)st.st_size == f->bytes);
    if (is_good && f->sha256)
        is_good = ap_hash_file(fd, AP_HASH_SHA256, f->sha256_is, NULL, NULL, NULL) == AP_OK;
    if (is_good && f->git_sha1)
        is_good = git_hash(f, fd, (uint64_t)st.st_size, piece, sha1, NULL) == AP_OK;
    close(fd);
    is_good = is_good && is_right(f, sha1);
    if (!is_good)
        (void)unlinkat(f->folder, f->name, 0);
    return is_good;
}

static ap_status fetch(download *d, ap_error *err)
{
    ap_transfer_file *f = d->file;
    ap_partial *p = &d->partial;
    ap_error damage;
    AP_TRY(ap_partial_open(p, f->folder, f->name, f->identity ? f->identity : f->address, f->bytes, &damage, err));
    if (damage.status != AP_OK)
        ap_transfer_note(d->transfer, "%s: what is noted of an earlier try is damaged (%s); beginning it again", f->name, damage.message);
    ap_status status = AP_OK;
    if (p->done && p->done_bytes && !can_resume(d))
        status = ap_partial_reset(p, err);
    if (status == AP_OK && f->bytes != UINT64_MAX)
        status = learn_length(d, f->bytes, err);
    if (status == AP_OK && p->done)
        status = check_room(d, p->bytes, err);
    if (status == AP_OK)
        status = run_with_restarts(d, err);
    if (status == AP_OK)
        status = check_digests(d, err);
    if (status == AP_OK)
        status = ap_partial_finish(p, err);
    if (status != AP_OK && (d->is_worthless || !p->done_bytes || !can_resume(d)))
        ap_partial_remove(p);
    else if (status != AP_OK)
        (void)ap_partial_save(p, NULL); /* it failed already */
    ap_partial_close(p);
    return status;
}

ap_status ap_transfer_fetch(ap_transfer *transfer, ap_transfer_file *file, ap_error *err)
{
    file->code = 0;
    file->sha256_is[0] = file->etag[0] = 0;
    file->refusal_head = (ap_buf){0};
    unsigned connections = transfer->options.connections ? transfer->options.connections : CONNECTIONS_DEFAULT;
    download d = {.transfer = transfer, .file = file, .saved_ns = ap_clock_ns(),
                  .slot_count = connections < CONNECTIONS_MAX ? connections : CONNECTIONS_MAX,
                  .request = {.address = file->address, .authorization = file->authorization, .lines = file->lines,
                              .line_count = file->line_count, .body_fd = -1}};
    d.partial.fd = -1;
    d.slots = ap_alloc_zero(d.slot_count, sizeof *d.slots);
    d.piece = ap_alloc(HASH_PIECE);
    ap_status status = AP_OK;
    if (!d.slots || !d.piece)
        status = ap_fail_nomem(err, HASH_PIECE + d.slot_count * sizeof *d.slots);
    else if (!is_there(file, d.piece))
        status = fetch(&d, err);
    ap_free(d.slots);
    ap_free(d.piece);
    return status;
}

uint64_t ap_transfer_bytes_there(int folder, const char *name)
{
    struct stat st;
    uint64_t there = 0;
    char part[AP_PARTIAL_NAME_MAX + 16];
    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
        return (uint64_t)st.st_size;
    (void)snprintf(part, sizeof part, "%s.part", name);
    if (fstatat(folder, part, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
        there = (uint64_t)st.st_blocks * 512; /* it has holes */
    return there;
}
