/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *kind_of(mode_t mode)
{
    if (S_ISDIR(mode))
        return "a folder";
    if (S_ISFIFO(mode))
        return "a pipe";
    if (S_ISSOCK(mode))
        return "a socket";
    if (S_ISCHR(mode) || S_ISBLK(mode))
        return "a device";
    return "not a regular file";
}

ap_status ap_file_open(const char *path, int *fd, ap_error *err)
{
    *fd = -1;
    /* O_NONBLOCK: opening a FIFO without a writer must not wait. */
    int opened = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (opened < 0)
        return ap_fail(err, errno == ENOENT ? AP_E_NOTFOUND : AP_E_IO, "'%s' cannot be opened: %s", path,
                       strerror(errno));
    struct stat st = {0};
    if (fstat(opened, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(opened);
        return ap_fail(err, AP_E_ARG, "'%s' is %s; a regular file is needed", path, kind_of(st.st_mode));
    }
    *fd = opened;
    return AP_OK;
}

ap_status ap_file_stamp_of(int fd, ap_file_stamp *stamp, ap_error *err)
{
    struct stat st = {0};
    /* The call itself: libc's fstat is newfstatat with an empty path, and a sandbox that lets that
     * through lets every path through. */
    if (syscall(SYS_fstat, fd, &st) != 0)
        return ap_fail(err, AP_E_IO, "the file cannot be looked at: %s", strerror(errno));
    if (!S_ISREG(st.st_mode))
        return ap_fail(err, AP_E_ARG, "this is %s; a regular file is needed", kind_of(st.st_mode));
    *stamp = (ap_file_stamp){
        .device = st.st_dev,
        .inode = st.st_ino,
        .bytes = (uint64_t)st.st_size,
        .modified_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
        .changed_ns = (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec,
    };
    return AP_OK;
}

bool ap_file_stamp_equal(const ap_file_stamp *a, const ap_file_stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->bytes == b->bytes &&
           a->modified_ns == b->modified_ns && a->changed_ns == b->changed_ns;
}

ap_status ap_file_map(int fd, ap_mapping *out, ap_error *err)
{
    *out = (ap_mapping){0};
    ap_file_stamp stamp;
    AP_TRY(ap_file_stamp_of(fd, &stamp, err));
    if (stamp.bytes == 0)
        return ap_fail(err, AP_E_FORMAT, "the file is empty");
    if (stamp.bytes > SIZE_MAX / 2)
        return ap_fail(err, AP_E_LIMIT, "a file of %" PRIu64 " bytes cannot be mapped", stamp.bytes);
    void *bytes = mmap(NULL, (size_t)stamp.bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED)
        return ap_fail(err, AP_E_IO, "the file cannot be mapped: %s", strerror(errno));
    *out = (ap_mapping){bytes, stamp.bytes};
    return AP_OK;
}

void ap_file_unmap(ap_mapping *mapping)
{
    if (mapping->ptr)
        (void)munmap((void *)mapping->ptr, (size_t)mapping->len);
    *mapping = (ap_mapping){0};
}

ap_status ap_file_read_fd(int fd, size_t limit, ap_buf *out, ap_error *err)
{
    *out = (ap_buf){0};
    ap_status status = ap_buf_reserve(out, 0, err);
    while (status == AP_OK) {
        status = ap_buf_reserve(out, 64 * 1024, err);
        if (status != AP_OK)
            break;
        ssize_t n = read(fd, out->ptr + out->len, 64 * 1024);
        if (n == 0)
            break;
        if (n < 0) {
            if (errno == EINTR)
                continue;
            status = ap_fail(err, AP_E_IO, "reading failed: %s", strerror(errno));
        } else if ((out->len += (size_t)n) > limit) {
            status = ap_fail(err, AP_E_LIMIT, "the input is longer than the limit of %zu bytes", limit);
        }
    }
    if (status != AP_OK)
        ap_buf_deinit(out);
    else
        out->ptr[out->len] = 0;
    return status;
}

ap_status ap_file_read(const char *path, size_t limit, ap_buf *out, ap_error *err)
{
    *out = (ap_buf){0};
    int fd;
    AP_TRY(ap_file_open(path, &fd, err));
    ap_status status = ap_file_read_fd(fd, limit, out, err);
    if (status != AP_OK)
        ap_error_prefix(err, path);
    close(fd);
    return status;
}

ap_status ap_file_write_all(int fd, const void *bytes, size_t count, ap_error *err)
{
    const char *p = bytes;
    while (count) {
        ssize_t n = write(fd, p, count);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return ap_fail(err, AP_E_IO, "writing failed: %s", n < 0 ? strerror(errno) : "nothing was taken");
        p += n;
        count -= (size_t)n;
    }
    return AP_OK;
}

/* A file without a name is gone with whoever made it, however that one ends.  Not every file system has such. */
static int open_nameless(const char *path)
{
    char copy[4096];
    (void)snprintf(copy, sizeof copy, "%s", path);
    return access("/proc/self/fd", X_OK) == 0 ? open(dirname(copy), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;
}

ap_status ap_file_new_begin(ap_file_new *file, const char *path, ap_error *err)
{
    file->fd = -1;
    int a = snprintf(file->path, sizeof file->path, "%s", path);
    int b = snprintf(file->temporary, sizeof file->temporary, "%s.new-XXXXXX", path);
    if (a < 0 || b < 0 || (size_t)b >= sizeof file->temporary)
        return ap_fail(err, AP_E_LIMIT, "the path '%.100s…' is longer than %zu bytes", path, sizeof file->path - 12);
    file->fd = open_nameless(path);
    file->has_name = file->fd < 0;
    if (file->has_name)
        file->fd = mkostemp(file->temporary, O_CLOEXEC);
    if (file->fd < 0)
        return ap_fail(err, AP_E_IO, "'%s' cannot be created: %s", path, strerror(errno));
    return AP_OK;
}

/* For a moment it stands beside its place, because only a rename can replace what is there. */
static int give_name(ap_file_new *file)
{
    char self[64];
    (void)snprintf(self, sizeof self, "/proc/self/fd/%d", file->fd);
    for (unsigned i = 0; !file->has_name && i < 1000; i++) {
        (void)snprintf(file->temporary + strlen(file->temporary) - 6, 7, "%03u%03u", (unsigned)getpid() % 1000, i);
        file->has_name = linkat(AT_FDCWD, self, AT_FDCWD, file->temporary, AT_SYMLINK_FOLLOW) == 0;
        if (!file->has_name && errno != EEXIST)
            return -1;
    }
    return file->has_name ? 0 : -1;
}

void ap_file_new_abort(ap_file_new *file)
{
    if (file->fd >= 0) {
        close(file->fd);
        if (file->has_name)
            (void)unlink(file->temporary);
    }
    file->fd = -1;
}

ap_status ap_file_sync_folder_of(const char *path, ap_error *err)
{
    char copy[4096];
    (void)snprintf(copy, sizeof copy, "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return ap_fail(err, AP_E_IO, "the folder of '%s' cannot be opened: %s", path, strerror(errno));
    int failed = fsync(fd);
    close(fd);
    return failed ? ap_fail(err, AP_E_IO, "the folder of '%s' cannot be synced", path) : AP_OK;
}

ap_status ap_file_new_commit(ap_file_new *file, unsigned mode, ap_error *err)
{
    ap_status status = AP_OK;
    if (fchmod(file->fd, (mode_t)mode) != 0 || fsync(file->fd) != 0 || give_name(file) != 0 ||
        rename(file->temporary, file->path) != 0)
        status = ap_fail(err, AP_E_IO, "'%s' cannot be finished: %s", file->path, strerror(errno));
    if (status != AP_OK) {
        ap_file_new_abort(file);
        return status;
    }
    close(file->fd);
    file->fd = -1;
    return ap_file_sync_folder_of(file->path, err);
}

ap_status ap_file_replace(const char *path, const void *bytes, size_t count, unsigned mode, ap_error *err)
{
    ap_file_new file;
    AP_TRY(ap_file_new_begin(&file, path, err));
    ap_status status = ap_file_write_all(file.fd, bytes, count, err);
    if (status == AP_OK)
        return ap_file_new_commit(&file, mode, err);
    ap_file_new_abort(&file);
    return status;
}

ap_status ap_file_make_folders(const char *path, unsigned mode, ap_error *err)
{
    char part[4096];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof part)
        return ap_fail(err, AP_E_LIMIT, "a path of %zu bytes is not possible", length);
    memcpy(part, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if (part[i] != '/' && part[i] != 0)
            continue;
        part[i] = 0;
        if (mkdir(part, (mode_t)mode) != 0 && errno != EEXIST)
            return ap_fail(err, AP_E_IO, "the folder '%s' cannot be made: %s", part, strerror(errno));
        part[i] = i < length ? '/' : 0;
    }
    return AP_OK;
}
