/* replay.c - runs a fuzz target over files, so that the corpus and every old crash are ordinary tests.
 *
 *     fuzz_NAME FILE|FOLDER...      --mutate N before them: each also N times with a few places changed
 *                                   --random N puts N inputs from a fixed seed after them
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

static long mutations; /* of each file */

static uint64_t draw(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 20;
}

/* One to four places: a flipped bit, another byte, a number at the edge of its type, a piece of the file itself; and one
 * time in eight the end is cut off. */
static void run_mutated(const uint8_t *bytes, size_t size, uint64_t *state)
{
    static const uint64_t numbers[] = {0, 1, UINT64_MAX, 1ull << 31, 1ull << 32, 1ull << 61, 1ull << 63, 255, 65535};
    uint8_t *copy = ap_alloc(size);
    if (!copy)
        return;
    memcpy(copy, bytes, size);
    for (uint64_t places = 1 + draw(state) % 4; places; places--) {
        size_t at = draw(state) % size, room = size - at, count = room < 8 ? room : 8, from = draw(state) % (at + 1);
        switch (draw(state) % 4) {
        case 0: copy[at] ^= (uint8_t)(1 << draw(state) % 8); break;
        case 1: copy[at] = (uint8_t)draw(state); break;
        case 2: memcpy(copy + at, &numbers[draw(state) % (sizeof numbers / sizeof numbers[0])], count); break;
        default: memmove(copy + at, copy + from, count);
        }
    }
    size_t kept = draw(state) % 8 ? size : draw(state) % size;
    /* Again a block of exactly this size. */
    uint8_t *cut = ap_realloc(copy, kept);
    (void)LLVMFuzzerTestOneInput(cut ? cut : copy, kept);
    ap_free(cut ? cut : copy);
}

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
    uint64_t state = file.len; /* the same mutations whatever was read before */
    for (long i = 0; i < mutations && file.len; i++)
        run_mutated(bytes, file.len, &state);
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
        if (strcmp(argv[i], "--mutate") == 0 && i + 1 < argc) {
            mutations = strtol(argv[++i], NULL, 10);
            continue;
        }
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
