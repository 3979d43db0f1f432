/* A file of importances, asked for its own tensors.
 *
 * Holds: a refusal is one line; what is given is above 0 and finite.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "model/imatrix.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hold(bool condition)
{
    if (!condition)
        abort();
}

static void ask(ap_imatrix *imatrix, uint64_t columns)
{
    ap_gguf_tensor tensor = {.name = AP_STR("blk.0.ffn_down.weight"), .type = AP_TYPE_F32, .dim_count = 2, .dims = {columns, 8, 1, 1}};
    (void)ap_imatrix_check(imatrix, &tensor, 1, NULL);
    for (uint64_t matrix = 0; matrix < 3; matrix++) {
        const float *given = ap_imatrix_columns(imatrix, tensor.name, columns, matrix);
        for (uint64_t i = 0; given && i < columns; i++)
            hold(isfinite(given[i]) && given[i] > 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = memfd_create("imatrix", MFD_CLOEXEC);
    hold(fd >= 0 && ap_file_write_all(fd, data, size, NULL) == AP_OK);
    ap_imatrix *imatrix;
    ap_error err = {0};
    if (ap_imatrix_open(&imatrix, fd, &err) == AP_OK) {
        ask(imatrix, 16);
        ask(imatrix, 24);
    } else {
        hold(err.message[0] && !strchr(err.message, '\n'));
    }
    ap_imatrix_close(&imatrix);
    close(fd);
    return 0;
}
