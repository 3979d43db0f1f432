/* SPDX-License-Identifier: Apache-2.0 */
#include "fetch/partial.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/json.h"

enum {
    STATE_BYTES_MAX = 16 << 20,
    STATE_VALUES_MAX = 1 << 20,
    PIECE_BYTES_MIN = 4096, /* smaller ones would make the state larger than the file */
    PATH_ROOM = AP_PARTIAL_NAME_MAX + 16
};

static const char *with(const char *name, const char *suffix, char path[PATH_ROOM])
{
    (void)snprintf(path, PATH_ROOM, "%s%s", name, suffix);
    return path;
}

/* ---- Reading the state ---- */

static ap_status read_done(ap_partial *p, const json_t *done, uint64_t file_bytes, ap_error *err)
{
    if (json_array_size(done) != p->count)
        return ap_fail(err, AP_E_FORMAT, "done has %zu pieces, the file has %zu", json_array_size(done), p->count);
    for (size_t i = 0; i < p->count; i++) {
        const json_t *value = json_array_get(done, i);
        json_int_t n = json_integer_value(value);
        uint64_t start = i * p->piece_bytes, size = p->bytes - start < p->piece_bytes ? p->bytes - start : p->piece_bytes;
        if (!json_is_integer(value) || n < 0 || (uint64_t)n > size)
            return ap_fail(err, AP_E_FORMAT, "done[%zu] is no number from 0 to %" PRIu64, i, size);
        if (n && start + (uint64_t)n > file_bytes)
            return ap_fail(err, AP_E_FORMAT, "done[%zu] speaks of the byte %" PRIu64 ", there are %" PRIu64, i, start + (uint64_t)n - 1, file_bytes);
        p->done[i] = (uint64_t)n;
        p->done_bytes += p->done[i];
    }
    return AP_OK;
}

static ap_status read_root(ap_partial *p, const json_t *root, uint64_t bytes_wanted, uint64_t file_bytes, ap_error *err)
{
    ap_str address, validator;
    uint64_t bytes, piece_bytes;
    const json_t *done;
    AP_TRY(ap_json_get_str(root, "address", &address, err));
    if (!ap_str_is(address, p->address))
        return ap_fail(err, AP_E_STATE, "it is of another file");
    AP_TRY(ap_json_get_u64(root, "bytes", &bytes, err));
    if (bytes_wanted != UINT64_MAX && bytes != bytes_wanted)
        return ap_fail(err, AP_E_STATE, "it is of a file of %" PRIu64 " bytes, this one has %" PRIu64, bytes, bytes_wanted);
    AP_TRY(ap_json_get_str(root, "validator", &validator, err));
    if (validator.len >= sizeof p->validator)
        return ap_fail(err, AP_E_LIMIT, "validator has %zu bytes, the limit is %zu", validator.len, sizeof p->validator - 1);
    for (size_t i = 0; i < validator.len; i++) /* it becomes a line of a header */
        if ((unsigned char)validator.ptr[i] < 0x20 || validator.ptr[i] == 0x7f)
            return ap_fail(err, AP_E_FORMAT, "validator has a control character at %zu", i);
    AP_TRY(ap_json_get_u64(root, "piece_bytes", &piece_bytes, err));
    AP_TRY(ap_json_get_array(root, "done", &done, err));
    AP_TRY(ap_partial_plan(p, bytes, piece_bytes, err));
    AP_TRY(read_done(p, done, file_bytes, err));
    memcpy(p->validator, validator.ptr, validator.len);
    p->validator[validator.len] = 0;
    return AP_OK;
}

ap_status ap_partial_read_state(ap_partial *p, ap_str text, uint64_t bytes_wanted, uint64_t file_bytes, ap_error *err)
{
    json_t *root = NULL;
    ap_status status = ap_json_parse(&root, text, (ap_json_limits){.bytes_max = STATE_BYTES_MAX, .values_max = STATE_VALUES_MAX}, err);
    if (status == AP_OK)
        status = read_root(p, root, bytes_wanted, file_bytes, err);
    json_decref(root);
    return status;
}

/* AP_E_STATE if there is none. */
static ap_status read_state(ap_partial *p, uint64_t bytes_wanted, uint64_t file_bytes, ap_error *err)
{
    char path[PATH_ROOM];
    ap_buf text;
    int fd = openat(p->folder, with(p->name, ".state", path), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return AP_E_STATE;
    ap_status status = ap_file_read_fd(fd, STATE_BYTES_MAX, &text, err);
    close(fd);
    AP_TRY(status);
    status = ap_partial_read_state(p, ap_buf_str(&text), bytes_wanted, file_bytes, err);
    ap_buf_deinit(&text);
    return status;
}

/* ---- Opening ---- */

static void forget_plan(ap_partial *p)
{
    ap_free(p->done);
    p->done = NULL;
    p->count = 0;
    p->bytes = p->piece_bytes = p->done_bytes = 0;
    p->validator[0] = 0;
}

ap_status ap_partial_open(ap_partial *p, int folder, const char *name, const char *address, uint64_t bytes, ap_error *damage, ap_error *err)
{
    *damage = (ap_error){0};
    char path[PATH_ROOM];
    struct stat st;
    *p = (ap_partial){.folder = folder, .name = name, .address = address, .fd = -1};
    if (!name[0] || strlen(name) > AP_PARTIAL_NAME_MAX || strchr(name, '/'))
        return ap_fail(err, AP_E_ARG, "'%.100s' is no name of a file: 1 to %d bytes without '/'", name, AP_PARTIAL_NAME_MAX);
    p->fd = openat(folder, with(name, ".part", path), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
    if (p->fd < 0 || fstat(p->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        ap_status status = ap_fail(err, AP_E_IO, "'%s' cannot be opened: %s", path, p->fd < 0 ? strerror(errno) : "it is no regular file");
        ap_partial_close(p);
        return status;
    }
    ap_status status = read_state(p, bytes, (uint64_t)st.st_size, damage);
    damage->status = status == AP_E_STATE || status == AP_E_NOMEM ? AP_OK : status;
    return status == AP_OK ? AP_OK : ap_partial_reset(p, err);
}

void ap_partial_close(ap_partial *p)
{
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
    forget_plan(p);
}

ap_status ap_partial_plan(ap_partial *p, uint64_t bytes, uint64_t piece_bytes, ap_error *err)
{
    if (bytes > AP_TRANSFER_BYTES_MAX)
        return ap_fail(err, AP_E_LIMIT, "'%s' has %" PRIu64 " bytes, the limit is %" PRIu64, p->name, bytes, AP_TRANSFER_BYTES_MAX);
    if (piece_bytes < PIECE_BYTES_MIN)
        return ap_fail(err, AP_E_ARG, "pieces of %" PRIu64 " bytes are below %d", piece_bytes, PIECE_BYTES_MIN);
    uint64_t count = bytes / piece_bytes + (bytes % piece_bytes != 0);
    if (count > STATE_VALUES_MAX / 2)
        return ap_fail(err, AP_E_LIMIT, "'%s' would be fetched in %" PRIu64 " pieces, the limit is %d", p->name, count, STATE_VALUES_MAX / 2);
    forget_plan(p);
    p->done = ap_alloc_zero((size_t)count + 1, sizeof *p->done);
    if (!p->done)
        return ap_fail_nomem(err, (count + 1) * sizeof *p->done);
    p->count = (size_t)count;
    p->bytes = bytes;
    p->piece_bytes = piece_bytes;
    return AP_OK;
}

ap_status ap_partial_reset(ap_partial *p, ap_error *err)
{
    char path[PATH_ROOM];
    forget_plan(p);
    (void)unlinkat(p->folder, with(p->name, ".state", path), 0);
    if (ftruncate(p->fd, 0) != 0)
        return ap_fail(err, AP_E_IO, "'%s' cannot be emptied: %s", p->name, strerror(errno));
    return AP_OK;
}

/* ---- Writing ---- */

ap_status ap_partial_write(ap_partial *p, uint64_t at, const void *bytes, size_t count, ap_error *err)
{
    const char *from = bytes;
    ap_assert(at <= p->bytes && count <= p->bytes - at);
    while (count) {
        size_t i = (size_t)(at / p->piece_bytes);
        uint64_t room = (i + 1) * p->piece_bytes - at;
        ap_assert(at == i * p->piece_bytes + p->done[i]);
        ssize_t n = pwrite(p->fd, from, count < room ? count : (size_t)room, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return ap_fail(err, AP_E_IO, "'%s' cannot be written: %s", p->name, n < 0 ? strerror(errno) : "nothing was taken");
        p->done[i] += (uint64_t)n;
        p->done_bytes += (uint64_t)n;
        at += (uint64_t)n;
        from += n;
        count -= (size_t)n;
    }
    return AP_OK;
}

static char *state_text(const ap_partial *p)
{
    json_t *done = json_array();
    for (size_t i = 0; done && i < p->count; i++)
        if (json_array_append_new(done, json_integer((json_int_t)p->done[i])) != 0) {
            json_decref(done);
            return NULL;
        }
    json_t *root = json_pack("{s:s, s:s, s:I, s:I, s:o}", "address", p->address, "validator", p->validator, "bytes",
                             (json_int_t)p->bytes, "piece_bytes", (json_int_t)p->piece_bytes, "done", done);
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return text;
}

ap_status ap_partial_save(ap_partial *p, ap_error *err)
{
    char path[PATH_ROOM], fresh[PATH_ROOM];
    if (!p->done)
        return AP_OK; /* nothing to say */
    if (fdatasync(p->fd) != 0)
        return ap_fail(err, AP_E_IO, "'%s' cannot be written: %s", p->name, strerror(errno));
    char *text = state_text(p);
    if (!text)
        return ap_fail_nomem(err, p->count * sizeof *p->done);
    int fd = openat(p->folder, with(p->name, ".state.new", fresh), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    ap_status status = fd < 0 ? ap_fail(err, AP_E_IO, "'%s' cannot be made: %s", fresh, strerror(errno))
                              : ap_file_write_all(fd, text, strlen(text), err);
    free(text);
    if (status == AP_OK && (fsync(fd) != 0 || renameat(p->folder, fresh, p->folder, with(p->name, ".state", path)) != 0))
        status = ap_fail(err, AP_E_IO, "'%s' cannot be finished: %s", fresh, strerror(errno));
    if (fd >= 0)
        close(fd);
    if (status != AP_OK)
        (void)unlinkat(p->folder, fresh, 0);
    return status;
}

ap_status ap_partial_finish(ap_partial *p, ap_error *err)
{
    char part[PATH_ROOM], state[PATH_ROOM];
    if (fsync(p->fd) != 0 || renameat(p->folder, with(p->name, ".part", part), p->folder, p->name) != 0 || fsync(p->folder) != 0)
        return ap_fail(err, AP_E_IO, "'%s' cannot be finished: %s", p->name, strerror(errno));
    (void)unlinkat(p->folder, with(p->name, ".state", state), 0);
    ap_partial_close(p);
    return AP_OK;
}

void ap_partial_remove(ap_partial *p)
{
    char path[PATH_ROOM];
    (void)unlinkat(p->folder, with(p->name, ".part", path), 0);
    (void)unlinkat(p->folder, with(p->name, ".state", path), 0);
    ap_partial_close(p);
}
