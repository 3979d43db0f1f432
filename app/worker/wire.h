/* wire.h - frames over a stream socket, for both ends of the process border.
 *
 * A reader collects bytes in whatever pieces they come and hands out whole
 * frames; it believes a length only as far as the bytes are there, so a header that
 * promises 64 MiB costs nothing until they arrive.  A writer keeps what the socket
 * does not take yet, up to a bound.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_WORKER_WIRE_H
#define AP_WORKER_WIRE_H

#include "base/str.h"

enum { AP_WIRE_HEADER_BYTES = 16 };

/* The bit of a kind in a set of kinds (0 … 63). */
#define AP_WIRE_KIND(kind) (UINT64_C(1) << (kind))

typedef struct ap_wire_frame {
    uint32_t kind;
    uint64_t id;
    const char *payload; /* borrowed until the next call on the reader; a NUL does not follow */
    uint32_t bytes;
} ap_wire_frame;

typedef struct ap_wire_reader {
    uint64_t kinds;       /* what this end accepts */
    uint32_t payload_max; /* and how much at once */
    ap_buf buf;
    size_t start; /* first byte of buf not yet handed out */
} ap_wire_reader;

/* Adds what is there, at most about `bytes_max`.  *is_open becomes false at the end of the stream (also when
 * the other end was reset).  A socket that would block is AP_OK. */
ap_status ap_wire_fill(ap_wire_reader *reader, int fd, size_t bytes_max, bool *is_open, ap_error *err);
/* The next whole frame, if there is one.  AP_E_FORMAT for a frame this end does not accept; nothing after it
 * can be read. */
ap_status ap_wire_next(ap_wire_reader *reader, ap_wire_frame *frame, bool *have, ap_error *err);
void ap_wire_reader_deinit(ap_wire_reader *reader);

typedef struct ap_wire_writer {
    ap_buf buf; /* buf.limit is the bound of unsent bytes; 0: none */
    size_t start;
} ap_wire_writer;

/* All or nothing: AP_E_FULL when the bound of unsent bytes would be passed (an empty writer takes
 * any frame), AP_E_NOMEM. */
ap_status ap_wire_put(ap_wire_writer *writer, uint32_t kind, uint64_t id, const void *payload, size_t bytes,
                      ap_error *err);
/* Sends what the socket takes; with a blocking socket, all.  AP_E_IO when nobody reads any more. */
ap_status ap_wire_flush(ap_wire_writer *writer, int fd, ap_error *err);
static inline size_t ap_wire_unsent(const ap_wire_writer *writer) { return writer->buf.len - writer->start; }
void ap_wire_writer_deinit(ap_wire_writer *writer);

/* "E_CONTEXT" for AP_E_CONTEXT and back; false for a name that is none (AP_OK has none either). */
const char *ap_wire_status_name(ap_status status);
bool ap_wire_status_from(ap_str name, ap_status *status);

/* Adds "text" with its quotes as a JSON string; bytes that are not UTF-8 become U+FFFD. */
ap_status ap_wire_add_json(ap_buf *out, ap_str text, ap_error *err);

#endif
