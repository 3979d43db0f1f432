/* partial.h - a file that is not whole yet: FOLDER/NAME.part, and in FOLDER/NAME.state which bytes of it are good.
 *
 * The state is written after the bytes it speaks of are on the disk, so it never claims too much: after a crash the
 * worst is that some bytes are fetched again.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_FETCH_PARTIAL_H
#define AP_FETCH_PARTIAL_H

#include "fetch/transfer.h"

enum { AP_PARTIAL_NAME_MAX = 240 /* of NAME: it grows a suffix */ };

typedef struct ap_partial {
    int folder;
    const char *name;
    const char *address; /* that was asked */
    int fd;
    uint64_t bytes, piece_bytes, done_bytes;
    uint64_t *done; /* per piece: how many bytes from its start are good; NULL: nothing is known yet */
    size_t count;
    char validator[AP_TRANSFER_ETAG_MAX]; /* what the server calls these bytes: for If-Range; may be empty */
} ap_partial;

/* Opens or makes NAME.part and reads what is known of it; a state that is not of this address, of `bytes` (unless that
 * is UINT64_MAX) or damaged counts as none, and damage->status is AP_OK unless it was damaged.  `name` and `address` are
 * borrowed. */
ap_status ap_partial_open(ap_partial *p, int folder, const char *name, const char *address, uint64_t bytes, ap_error *damage,
                          ap_error *err);
/* What a state says of a file of `bytes_wanted` (or UINT64_MAX) of which `file_bytes` are there: fills a partial that has
 * name and address.  AP_E_STATE: it is of another file; AP_E_NOMEM; else the field is named.  After a failure the
 * partial is only good to be closed or reset. */
ap_status ap_partial_read_state(ap_partial *p, ap_str text, uint64_t bytes_wanted, uint64_t file_bytes, ap_error *err);
void ap_partial_close(ap_partial *p);
/* The length is known: makes the table of pieces. */
ap_status ap_partial_plan(ap_partial *p, uint64_t bytes, uint64_t piece_bytes, ap_error *err);
/* Forgets all bytes, and the plan. */
ap_status ap_partial_reset(ap_partial *p, ap_error *err);
/* Writes what follows the good bytes of the piece that holds `at`, perhaps into the next ones. */
ap_status ap_partial_write(ap_partial *p, uint64_t at, const void *bytes, size_t count, ap_error *err);
ap_status ap_partial_save(ap_partial *p, ap_error *err);
/* The file is whole and right: it gets its name.  Closes p. */
ap_status ap_partial_finish(ap_partial *p, ap_error *err);
/* Removes both files.  Closes p. */
void ap_partial_remove(ap_partial *p);

#endif
