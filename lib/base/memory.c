/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEXT_BYTES = 16 * 1024 /* the longest of these files has 3 */, PATH_BYTES = 4096 };

/* The names differ, the meaning is one.  The use has the page cache in it, in two lists. */
typedef struct group_kind {
    const char *folder, *limit, *used, *cache[2];
} group_kind;

static const group_kind version_1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                                     {"total_inactive_file", "total_active_file"}};
static const group_kind version_2 = {
    "/sys/fs/cgroup", "memory.max", "memory.current", {"inactive_file", "active_file"}};

/* The file root + folder + name as a text; empty if it cannot be read. */
static const char *read_text(char text[TEXT_BYTES], const char *root, const char *folder, const char *group,
                             const char *name)
{
    char path[PATH_BYTES];
    size_t count = 0;
    int length = snprintf(path, sizeof path, "%s%s%s/%s", root, folder, group, name);
    int fd = length > 0 && (size_t)length < sizeof path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    for (ssize_t n = 1; fd >= 0 && n > 0 && count < TEXT_BYTES - 1; count += n > 0 ? (size_t)n : 0)
        n = read(fd, text + count, TEXT_BYTES - 1 - count);
    if (fd >= 0)
        (void)close(fd);
    text[count] = 0;
    return text;
}

static bool read_number(const char *text, uint64_t *value)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false; /* "max", or nothing */
    *value = strtoull(text, &end, 10);
    return true;
}

/* The number after a line's first word. */
static bool find_number(const char *text, const char *word, uint64_t *value)
{
    size_t length = strlen(word);
    for (const char *line = text; line; line = strchr(line, '\n'), line += line != NULL)
        if (strncmp(line, word, length) == 0 && strchr(": ", line[length]) && line[length])
            return read_number(line + length + strspn(line + length, ": "), value);
    return false;
}

/* UINT64_MAX: no limit. */
static uint64_t left_in_group(const char *root, const group_kind *kind, const char *group)
{
    char text[TEXT_BYTES];
    uint64_t limit, used, cache = 0, part;
    if (!read_number(read_text(text, root, kind->folder, group, kind->limit), &limit) ||
        !read_number(read_text(text, root, kind->folder, group, kind->used), &used))
        return UINT64_MAX;
    (void)read_text(text, root, kind->folder, group, "memory.stat");
    for (int i = 0; i < 2; i++)
        cache += find_number(text, kind->cache[i], &part) ? part : 0;
    used -= cache < used ? cache : used;
    return limit > used ? limit - used : 0;
}

/* The group and all above it: each has a say.  In a container the path may be the host's, where only the
 * root of what is mounted exists. */
static uint64_t left_in_groups(const char *root, const group_kind *kind, char *group)
{
    uint64_t least = UINT64_MAX;
    for (;;) {
        uint64_t left = left_in_group(root, kind, group);
        least = left < least ? left : least;
        char *slash = strrchr(group, '/');
        if (!slash)
            return least;
        *slash = 0;
    }
}

/* A line of /proc/self/cgroup: "4:memory:/path" in version 1, "0::/path" in version 2. */
static uint64_t left_by_line(const char *root, char *line)
{
    char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group || strstr(group, "/.."))
        return UINT64_MAX;
    *controllers++ = *group++ = 0;
    if (controllers[0] == 0)
        return left_in_groups(root, &version_2, group);
    for (char *place = NULL, *name = strtok_r(controllers, ",", &place); name; name = strtok_r(NULL, ",", &place))
        if (strcmp(name, "memory") == 0)
            return left_in_groups(root, &version_1, group);
    return UINT64_MAX;
}

uint64_t ap_memory_available(const char *root)
{
    char text[TEXT_BYTES];
    uint64_t kib, least = UINT64_MAX;
    if (find_number(read_text(text, root, "/proc", "", "meminfo"), "MemAvailable", &kib) && kib < UINT64_MAX / 1024)
        least = kib * 1024;
    (void)read_text(text, root, "/proc/self", "", "cgroup");
    for (char *place = NULL, *line = strtok_r(text, "\n", &place); line; line = strtok_r(NULL, "\n", &place)) {
        uint64_t left = left_by_line(root, line);
        least = left < least ? left : least;
    }
    return least ? least : 1;
}
