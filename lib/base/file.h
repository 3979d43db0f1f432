/* file.h - files: read whole within a limit, map read-only, replace atomically.
 *
 * Only regular files are read: a FIFO, a device, a socket or a directory is
 * refused by name before a byte is asked of it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_BASE_FILE_H
#define AP_BASE_FILE_H

#include "base/str.h"

/* A read-only map of a whole file.  The bytes follow the file: if somebody cuts
 * it short, touching them raises SIGBUS, so only a worker maps. */
typedef struct ap_mapping {
    const unsigned char *ptr;
    uint64_t len;
} ap_mapping;

/* What identifies the bytes of a file without reading them. */
typedef struct ap_file_stamp {
    uint64_t device, inode, bytes;
    int64_t modified_ns, changed_ns;
} ap_file_stamp;

/* Opens a regular file for reading, close-on-exec; *fd is -1 on failure. */
ap_status ap_file_open(const char *path, int *fd, ap_error *err);
/* AP_E_ARG unless fd is a regular file. */
ap_status ap_file_stamp_of(int fd, ap_file_stamp *stamp, ap_error *err);
bool ap_file_stamp_equal(const ap_file_stamp *a, const ap_file_stamp *b);

ap_status ap_file_map(int fd, ap_mapping *out, ap_error *err);
void ap_file_unmap(ap_mapping *mapping);

/* Reads all of fd or path, which must have at most `limit` bytes, into a new
 * NUL-terminated buffer that the caller frees with ap_buf_deinit.  `read_fd`
 * takes pipes as well (standard input). */
ap_status ap_file_read(const char *path, size_t limit, ap_buf *out, ap_error *err);
ap_status ap_file_read_fd(int fd, size_t limit, ap_buf *out, ap_error *err);
/* Writes all bytes, however often the system writes short. */
ap_status ap_file_write_all(int fd, const void *bytes, size_t count, ap_error *err);

/* A new file, to become `path` on commit: written, synced, renamed, folder synced.
 * Until then `path` is untouched, and where the file system allows it the new file has no name: a process
 * that is killed leaves nothing behind. */
typedef struct ap_file_new {
    int fd;
    char path[4096];
    char temporary[4096];
    bool has_name; /* `temporary` is there */
} ap_file_new;
ap_status ap_file_new_begin(ap_file_new *file, const char *path, ap_error *err);
ap_status ap_file_new_commit(ap_file_new *file, unsigned mode, ap_error *err);
void ap_file_new_abort(ap_file_new *file);
/* All of it at once: `path` has these bytes, or what it had before. */
ap_status ap_file_replace(const char *path, const void *bytes, size_t count, unsigned mode, ap_error *err);

/* Waits until the entry `path` of its folder is on the disk. */
ap_status ap_file_sync_folder_of(const char *path, ap_error *err);

/* Makes a folder and those above it, each with `mode`. */
ap_status ap_file_make_folders(const char *path, unsigned mode, ap_error *err);

#endif
