/* replay.c - runs a fuzz target over files, so that the corpus and every old crash are ordinary tests.
 *
 *     fuzz_NAME FILE|FOLDER...      --random N puts N inputs from a fixed seed after them
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILE_BYTES_MAX = 64 << 20, RANDOM_BYTES_MAX = 512 };

static int replay_file(const char *path)
{
    ap_buf file = {0};
    ap_error error = {0};
    if (ap_file_read(path, FILE_BYTES_MAX, &file, &error) != AP_OK) {
        (void)fprintf(stderr, "%s\n", error.message);
        return -1;
    }
    /* A block of exactly this size: the sanitizer then sees a byte too far. */
    uint8_t *bytes = ap_alloc(file.len);
    if (!bytes)
        return -1;
    if (file.len)
        memcpy(bytes, file.ptr, file.len);
    (void)LLVMFuzzerTestOneInput(bytes, file.len);
    ap_free(bytes);
    ap_buf_deinit(&file);
    return 1;
}

static int replay_path(const char *path)
{
    struct stat stat_of;
    if (stat(path, &stat_of) != 0 || !S_ISDIR(stat_of.st_mode))
        return replay_file(path);
    int count = 0;
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        char inside[4096];
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(inside, sizeof inside, "%s/%s", path, entry->d_name);
        int done = replay_path(inside);
        if (done < 0) {
            count = -1;
            break;
        }
        count += done;
    }
    if (folder)
        (void)closedir(folder);
    return folder ? count : -1;
}

static void replay_random(long count)
{
    static const char pieces[] = "<|im_end|> <tool> 's 12 \xc3\xa9\xe2\x96\x81\xf0\x9f\x98\x80 \n\r\t the aaaa";
    uint64_t state = 1;
    for (long i = 0; i < count; i++) {
        uint8_t bytes[RANDOM_BYTES_MAX];
        size_t n = 0, want = (state >> 17) % RANDOM_BYTES_MAX;
        while (n < want) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            unsigned choice = (unsigned)(state >> 60);
            if (choice < 10) { /* some of the pieces */
                size_t from = (state >> 33) % (sizeof pieces - 1), most = sizeof pieces - 1 - from;
                for (size_t k = 0; k < 1 + choice && k < most && n < want; k++)
                    bytes[n++] = (uint8_t)pieces[from + k];
            } else {
                bytes[n++] = (uint8_t)(state >> 40);
            }
        }
        (void)LLVMFuzzerTestOneInput(bytes, n);
        state = state * 6364136223846793005u + 1442695040888963407u;
    }
}

int main(int argc, char **argv)
{
    int count = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--random") == 0 && i + 1 < argc) {
            replay_random(strtol(argv[++i], NULL, 10));
            continue;
        }
        int done = replay_path(argv[i]);
        if (done < 0) {
            (void)fprintf(stderr, "cannot replay '%s'\n", argv[i]);
            return 1;
        }
        count += done;
    }
    (void)printf("%d files replayed\n", count);
    return 0;
}
