/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/wire.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/utf8.h"

/* A buffer that once held a large frame gives its memory back when it is empty. */
enum { KEEP_BYTES = 1024 * 1024, PIECE_BYTES = 64 * 1024 };

static uint32_t get_u32(const char *p)
{
    uint32_t value;
    memcpy(&value, p, sizeof value); /* little-endian machines only, as the build checks */
    return value;
}

static uint64_t get_u64(const char *p)
{
    uint64_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

/* Moves what is left to the front, once that is cheap: at least half of the buffer is done with. */
static void forget_done(ap_buf *buf, size_t *start)
{
    if (*start == 0 || *start < buf->len - *start)
        return;
    size_t left = buf->len - *start;
    if (left)
        memmove(buf->ptr, buf->ptr + *start, left);
    buf->len = left;
    *start = 0;
    if (left == 0 && buf->room > KEEP_BYTES) {
        size_t limit = buf->limit;
        ap_buf_deinit(buf);
        buf->limit = limit;
    }
}

ap_status ap_wire_fill(ap_wire_reader *reader, int fd, size_t bytes_max, bool *is_open, ap_error *err)
{
    *is_open = true;
    forget_done(&reader->buf, &reader->start);
    for (size_t got = 0; got < bytes_max;) {
        AP_TRY(ap_buf_reserve(&reader->buf, PIECE_BYTES, err));
        ssize_t n = recv(fd, reader->buf.ptr + reader->buf.len, PIECE_BYTES, MSG_DONTWAIT);
        if (n > 0) {
            reader->buf.len += (size_t)n;
            got += (size_t)n;
            continue;
        }
        if (n == 0 || errno == ECONNRESET) {
            *is_open = false;
            return AP_OK;
        }
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return AP_OK;
        return ap_fail(err, AP_E_IO, "reading from the socket failed: %s", strerror(errno));
    }
    return AP_OK;
}

ap_status ap_wire_next(ap_wire_reader *reader, ap_wire_frame *frame, bool *have, ap_error *err)
{
    *have = false;
    size_t left = reader->buf.len - reader->start;
    if (left < AP_WIRE_HEADER_BYTES)
        return AP_OK;
    const char *p = reader->buf.ptr + reader->start;
    frame->bytes = get_u32(p);
    frame->kind = get_u32(p + 4);
    frame->id = get_u64(p + 8);
    frame->payload = p + AP_WIRE_HEADER_BYTES;
    if (frame->kind > 63 || !(reader->kinds & AP_WIRE_KIND(frame->kind)))
        return ap_fail(err, AP_E_FORMAT, "a frame has kind %" PRIu32 ", which does not come from that side",
                       frame->kind);
    if (frame->bytes > reader->payload_max)
        return ap_fail(err, AP_E_FORMAT, "a frame of %" PRIu32 " bytes is longer than the limit of %" PRIu32,
                       frame->bytes, reader->payload_max);
    if (left - AP_WIRE_HEADER_BYTES < frame->bytes)
        return AP_OK;
    reader->start += AP_WIRE_HEADER_BYTES + frame->bytes;
    *have = true;
    return AP_OK;
}

void ap_wire_reader_deinit(ap_wire_reader *reader)
{
    ap_buf_deinit(&reader->buf);
    reader->start = 0;
}

ap_status ap_wire_put(ap_wire_writer *writer, uint32_t kind, uint64_t id, const void *payload, size_t bytes,
                      ap_error *err)
{
    if (bytes > UINT32_MAX - AP_WIRE_HEADER_BYTES)
        return ap_fail(err, AP_E_LIMIT, "a frame of %zu bytes is longer than a frame can be", bytes);
    forget_done(&writer->buf, &writer->start);
    size_t unsent = ap_wire_unsent(writer), limit = writer->buf.limit;
    if (limit && unsent && bytes + AP_WIRE_HEADER_BYTES > (unsent < limit ? limit - unsent : 0))
        return ap_fail(err, AP_E_FULL, "%zu bytes are still unsent; the limit is %zu", unsent, limit);
    writer->buf.limit = 0; /* the bound is on what is unsent, checked above */
    ap_status status = ap_buf_reserve(&writer->buf, bytes + AP_WIRE_HEADER_BYTES, err);
    writer->buf.limit = limit;
    if (status != AP_OK)
        return status;
    char *p = writer->buf.ptr + writer->buf.len;
    uint32_t count = (uint32_t)bytes;
    memcpy(p, &count, 4);
    memcpy(p + 4, &kind, 4);
    memcpy(p + 8, &id, 8);
    if (bytes)
        memcpy(p + AP_WIRE_HEADER_BYTES, payload, bytes);
    writer->buf.len += AP_WIRE_HEADER_BYTES + bytes;
    return AP_OK;
}

ap_status ap_wire_flush(ap_wire_writer *writer, int fd, ap_error *err)
{
    while (ap_wire_unsent(writer)) {
        /* No SIGPIPE: the front is a library's guest and may not have ignored it. */
        ssize_t n = send(fd, writer->buf.ptr + writer->start, ap_wire_unsent(writer), MSG_NOSIGNAL);
        if (n >= 0) {
            writer->start += (size_t)n;
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return AP_OK;
        return ap_fail(err, AP_E_IO, "writing to the socket failed: %s", strerror(errno));
    }
    forget_done(&writer->buf, &writer->start);
    return AP_OK;
}

void ap_wire_writer_deinit(ap_wire_writer *writer)
{
    ap_buf_deinit(&writer->buf);
    writer->start = 0;
}

const char *ap_wire_status_name(ap_status status)
{
    switch (status) {
#define X(number, name, text)                                                                                \
    case AP_##name:                                                                                          \
        return #name;
        AP_STATUS_LIST(X)
#undef X
    }
    return "E_BUG";
}

bool ap_wire_status_from(ap_str name, ap_status *status)
{
#define X(number, status_name, text)                                                                         \
    if (number != AP_OK && ap_str_is(name, #status_name)) {                                                  \
        *status = AP_##status_name;                                                                          \
        return true;                                                                                         \
    }
    AP_STATUS_LIST(X)
#undef X
    return false;
}

static ap_status add_escaped(ap_buf *out, ap_str text, ap_error *err)
{
    size_t plain = 0; /* start of the run that needs no escape */
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        AP_TRY(ap_buf_add(out, text.ptr + plain, i - plain, err));
        plain = i + 1;
        if (c == '"' || c == '\\') {
            char pair[2] = {'\\', (char)c};
            AP_TRY(ap_buf_add(out, pair, 2, err));
        } else {
            AP_TRY(ap_buf_printf(out, err, "\\u%04x", c));
        }
    }
    return ap_buf_add(out, text.ptr + plain, text.len - plain, err);
}

ap_status ap_wire_add_json(ap_buf *out, ap_str text, ap_error *err)
{
    ap_buf mended = {0};
    ap_status status = AP_OK;
    if (text.len && !ap_utf8_valid(text)) {
        status = ap_utf8_add_lossy(&mended, text, err);
        text = ap_buf_str(&mended);
    }
    if (status == AP_OK)
        status = ap_buf_add_char(out, '"', err);
    if (status == AP_OK && text.len)
        status = add_escaped(out, text, err);
    if (status == AP_OK)
        status = ap_buf_add_char(out, '"', err);
    ap_buf_deinit(&mended);
    return status;
}
