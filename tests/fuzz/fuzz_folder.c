/* A model of two files: config.json up to the first NUL, model.safetensors behind it; or, behind "PARTS" and two bytes of
 * length, the first part of a GGUF file and the second.  A config.json that speaks of pooling is 1_Pooling/config.json as
 * well, so that one text is read by both readers.
 *
 * Holds: what is refused is refused in one line and before a byte is written; what is imported can be opened.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "aperto.h"
#include "base/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hold(bool condition)
{
    if (!condition)
        abort();
}

static int file_of(const void *bytes, size_t size)
{
    int fd = memfd_create("folder", MFD_CLOEXEC);
    hold(fd >= 0 && ap_file_write_all(fd, bytes, size, NULL) == AP_OK);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool is_parts = size >= 7 && memcmp(data, "PARTS", 5) == 0;
    const uint8_t *first = is_parts ? data + 7 : data, *end = data + size, *second = end;
    if (is_parts)
        second = (size_t)(end - first) > (size_t)(data[5] | data[6] << 8) ? first + (data[5] | data[6] << 8) : end;
    else if (size && memchr(data, 0, size))
        second = memchr(data, 0, size);
    size_t skip = !is_parts && second < end;
    bool has_pooling = !is_parts && memmem(first, (size_t)(second - first), "pooling_mode", 12);
    ap_import_file files[] = {{is_parts ? "a-00001-of-00002.gguf" : "config.json", file_of(first, (size_t)(second - first))},
                              {is_parts ? "a-00002-of-00002.gguf" : "model.safetensors", file_of(second + skip, (size_t)(end - second) - skip)},
                              {"1_Pooling/config.json", file_of(first, (size_t)(second - first))}};
    int out = memfd_create("packed", MFD_CLOEXEC);
    ap_import_options options = {.size = sizeof options};
    ap_import_report report = {0};
    ap_error err = {0};
    ap_status status = ap_model_import_files(files, has_pooling ? 3 : 2, out, &options, &report, &err);
    if (status == AP_OK) {
        ap_model *model;
        hold(ap_model_open(&model, out, &err) == AP_OK);
        ap_model_close(&model);
    } else {
        hold(err.message[0] && !strchr(err.message, '\n') && lseek(out, 0, SEEK_END) == 0);
    }
    close(files[0].fd);
    close(files[1].fd);
    close(files[2].fd);
    close(out);
    return 0;
}
