/* model_input.h - one input of a fuzz target as the files of a model.
 *
 * config.json up to the first NUL, model.safetensors behind it; or, behind "PARTS" and two bytes of length, the first part of
 * a GGUF file and the second.  A config.json that speaks of pooling is 1_Pooling/config.json as well, so that one text is
 * read by both readers.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TESTS_FUZZ_MODEL_INPUT_H
#define AP_TESTS_FUZZ_MODEL_INPUT_H

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "aperto.h"
#include "base/file.h"

typedef struct model_input {
    ap_import_file files[3];
    size_t count;
} model_input;

static inline void hold(bool condition)
{
    if (!condition)
        abort();
}

static inline int file_of(const void *bytes, size_t size)
{
    int fd = memfd_create("model", MFD_CLOEXEC);
    hold(fd >= 0 && ap_file_write_all(fd, bytes, size, NULL) == AP_OK);
    return fd;
}

static inline bool is_in_parts(const uint8_t *data, size_t size) { return size >= 7 && memcmp(data, "PARTS", 5) == 0; }

static inline model_input open_input(const uint8_t *data, size_t size)
{
    bool is_parts = is_in_parts(data, size);
    const uint8_t *first = is_parts ? data + 7 : data, *end = data + size, *second = end;
    if (is_parts)
        second = (size_t)(end - first) > (size_t)(data[5] | data[6] << 8) ? first + (data[5] | data[6] << 8) : end;
    else if (size && memchr(data, 0, size))
        second = memchr(data, 0, size);
    size_t skip = !is_parts && second < end;
    bool has_pooling = !is_parts && memmem(first, (size_t)(second - first), "pooling_mode", 12);
    return (model_input){{{is_parts ? "a-00001-of-00002.gguf" : "config.json", file_of(first, (size_t)(second - first))},
                          {is_parts ? "a-00002-of-00002.gguf" : "model.safetensors", file_of(second + skip, (size_t)(end - second) - skip)},
                          {"1_Pooling/config.json", file_of(first, (size_t)(second - first))}},
                         has_pooling ? 3 : 2};
}

static inline void close_input(model_input *in)
{
    for (size_t i = 0; i < 3; i++)
        close(in->files[i].fd);
}

/* What is refused says why in one line, and before a byte is written. */
static inline void hold_refusal(const ap_error *err, int out)
{
    hold(err->message[0] && !strchr(err->message, '\n') && lseek(out, 0, SEEK_END) == 0);
}

#endif
