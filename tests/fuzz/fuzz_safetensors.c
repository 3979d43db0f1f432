/* Any bytes as a safetensors file, and as the index of one in several files.
 *
 * Holds: what is accepted covers the data from its start to the end of the file, each name finds its own tensor, a shard's
 * name is a plain file name; what is refused says why in one line.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>

#include "format/safetensors.h"
#include "format/shards.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hold(bool condition)
{
    if (!condition)
        abort();
}

static void check_refusal(const ap_error *err) { hold(err->message[0] && !strchr(err->message, '\n')); }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ap_error err = {0};
    ap_safetensors *file;
    if (ap_safetensors_open(&file, data, size, &err) == AP_OK) {
        uint64_t at = 0;
        for (uint32_t i = 0; i < ap_safetensors_count(file); i++) {
            const ap_safetensor *t = ap_safetensors_at(file, i);
            hold(i == 0 || t->offset == at);
            hold(t->offset <= size && t->bytes <= size - t->offset && t->dim_count <= AP_SAFETENSORS_DIMS_MAX);
            hold(ap_safetensors_find(file, t->name) == t && ap_safetensors_data(file, t) == data + t->offset);
            hold(ap_dtype_name(t->dtype)[0]);
            at = t->offset + t->bytes;
        }
        hold(ap_safetensors_count(file) == 0 || at == size);
        ap_safetensors_close(&file);
    } else {
        check_refusal(&err);
    }
    err = (ap_error){0};
    ap_shards *shards;
    if (ap_shards_open(&shards, (ap_str){(const char *)data, size}, &err) == AP_OK) {
        for (uint32_t i = 0; i < ap_shards_count(shards); i++) {
            ap_str name = ap_shards_name(shards, i);
            hold(ap_file_name_is_plain(name) && !memchr(name.ptr, '/', name.len) && !memchr(name.ptr, 0, name.len));
        }
        for (uint32_t i = 0; i < ap_shards_tensor_count(shards); i++) {
            uint32_t shard;
            (void)ap_shards_tensor(shards, i, &shard);
            hold(shard < ap_shards_count(shards));
        }
        ap_shards_close(&shards);
    } else {
        check_refusal(&err);
    }
    return 0;
}
