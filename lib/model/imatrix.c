/* SPDX-License-Identifier: Apache-2.0 */
#include "model/imatrix.h"

#include <string.h>

#include "base/alloc.h"
#include "base/file.h"

struct ap_imatrix {
    ap_mapping file;
    ap_gguf *gguf;
    float *columns;
    uint64_t room;
    /* What `columns` holds now. */
    const ap_gguf_tensor *sums;
    uint64_t matrix;
};

/* The least importance, of a mean of 1: what stays for a column that the text never used. */
#define SHARE_MIN 1e-4f

static const char sums_end[] = ".in_sum2", counts_end[] = ".counts";

static const ap_gguf_tensor *find(const ap_imatrix *im, ap_str tensor, const char *end)
{
    char name[AP_GGUF_NAME_BYTES_MAX + 1];
    size_t length = strlen(end);
    if (tensor.len + length > AP_GGUF_NAME_BYTES_MAX)
        return NULL;
    memcpy(name, tensor.ptr, tensor.len);
    memcpy(name + tensor.len, end, length);
    return ap_gguf_find_tensor(im->gguf, (ap_str){name, tensor.len + length});
}

static ap_status check_entries(ap_imatrix *im, ap_error *err)
{
    ap_str type;
    if (ap_gguf_get_str(im->gguf, "general.type", &type, NULL) != AP_OK || !ap_str_is(type, "imatrix"))
        return ap_fail(err, AP_E_FORMAT, "key 'general.type' is not 'imatrix': the file holds no importances");
    uint32_t entries = 0;
    for (uint32_t i = 0; i < ap_gguf_tensor_count(im->gguf); i++) {
        const ap_gguf_tensor *t = ap_gguf_tensor_at(im->gguf, i);
        if (t->type != AP_TYPE_F32)
            return ap_fail(err, AP_E_FORMAT, "tensor '%.*s' of the imatrix is not F32", (int)t->name.len, t->name.ptr);
        size_t end = sizeof sums_end - 1;
        if (t->name.len <= end || memcmp(t->name.ptr + t->name.len - end, sums_end, end) != 0)
            continue;
        const ap_gguf_tensor *counts = find(im, (ap_str){t->name.ptr, t->name.len - end}, counts_end);
        if (!counts || counts->bytes != t->dims[1] * sizeof(float))
            return ap_fail(err, AP_E_FORMAT, "tensor '%.*s' of the imatrix has no counts that fit", (int)t->name.len,
                           t->name.ptr);
        im->room = t->dims[0] > im->room ? t->dims[0] : im->room;
        entries++;
    }
    if (entries == 0)
        return ap_fail(err, AP_E_FORMAT, "the imatrix has no entry");
    im->columns = ap_alloc_array((size_t)im->room, sizeof *im->columns);
    return im->columns ? AP_OK : ap_fail_nomem(err, (size_t)im->room * sizeof *im->columns);
}

ap_status ap_imatrix_open(ap_imatrix **out, int fd, ap_error *err)
{
    *out = NULL;
    ap_imatrix *im = ap_alloc_zero(1, sizeof *im);
    if (!im)
        return ap_fail_nomem(err, sizeof *im);
    ap_status status = ap_file_map(fd, &im->file, err);
    if (status == AP_OK)
        status = ap_gguf_open(&im->gguf, im->file.ptr, im->file.len, err);
    if (status == AP_OK)
        status = check_entries(im, err);
    if (status != AP_OK)
        ap_imatrix_close(&im);
    *out = im;
    return status;
}

void ap_imatrix_close(ap_imatrix **imatrix)
{
    if (*imatrix) {
        ap_gguf_close(&(*imatrix)->gguf);
        ap_file_unmap(&(*imatrix)->file);
        ap_free((*imatrix)->columns);
        ap_free(*imatrix);
    }
    *imatrix = NULL;
}

ap_status ap_imatrix_check(const ap_imatrix *im, const ap_gguf_tensor *tensors, uint32_t count, ap_error *err)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < count; i++) {
        const ap_gguf_tensor *t = &tensors[i], *sums = find(im, t->name, sums_end);
        if (!sums)
            continue;
        found++;
        if (sums->dims[0] != t->dims[0] || sums->dims[1] != t->dims[2] * t->dims[3])
            return ap_fail(err, AP_E_FORMAT,
                           "the imatrix has %" PRIu64 " columns of %" PRIu64 " matrices for '%.*s', which has %" PRIu64
                           " of %" PRIu64, sums->dims[0], sums->dims[1], (int)t->name.len, t->name.ptr, t->dims[0],
                           t->dims[2] * t->dims[3]);
    }
    if (found == 0)
        return ap_fail(err, AP_E_FORMAT, "the imatrix has no tensor of this model");
    return AP_OK;
}

const float *ap_imatrix_columns(ap_imatrix *im, ap_str tensor, uint64_t columns, uint64_t matrix)
{
    const ap_gguf_tensor *sums = im ? find(im, tensor, sums_end) : NULL;
    if (!sums || sums->dims[0] != columns || matrix >= sums->dims[1])
        return NULL;
    if (im->sums == sums && im->matrix == matrix)
        return im->columns;
    /* The count is the same for all columns, so it falls out when the mean becomes 1. */
    memcpy(im->columns, ap_gguf_data(im->gguf, sums) + matrix * columns * sizeof(float), columns * sizeof(float));
    double total = 0;
    for (uint64_t i = 0; i < columns; i++) {
        float v = im->columns[i];
        im->columns[i] = v > 0 && v <= 0x1p100f ? v : 0;
        total += im->columns[i];
    }
    if (!(total > 0))
        return NULL;
    float scale = (float)((double)columns / total);
    for (uint64_t i = 0; i < columns; i++) {
        float share = im->columns[i] * scale;
        im->columns[i] = share > SHARE_MIN ? share : SHARE_MIN;
    }
    im->sums = sums;
    im->matrix = matrix;
    return im->columns;
}
