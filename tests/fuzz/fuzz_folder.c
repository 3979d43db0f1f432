/* A model folder: config.json up to the first NUL, model.safetensors behind it.
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
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    size_t config_bytes = end ? (size_t)(end - data) : size;
    ap_import_file files[] = {{"config.json", file_of(data, config_bytes)},
                              {"model.safetensors", file_of(end ? end + 1 : data, end ? size - config_bytes - 1 : 0)}};
    int out = memfd_create("packed", MFD_CLOEXEC);
    ap_import_options options = {.size = sizeof options};
    ap_import_report report = {0};
    ap_error err = {0};
    ap_status status = ap_model_import_folder(files, 2, out, &options, &report, &err);
    if (status == AP_OK) {
        ap_model *model;
        hold(ap_model_open(&model, out, &err) == AP_OK);
        ap_model_close(&model);
    } else {
        hold(err.message[0] && !strchr(err.message, '\n') && lseek(out, 0, SEEK_END) == 0);
    }
    close(files[0].fd);
    close(files[1].fd);
    close(out);
    return 0;
}
