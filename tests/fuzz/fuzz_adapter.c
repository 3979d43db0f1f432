/* A LoRA adapter for one small model: a GGUF file, or adapter_config.json up to the first NUL and
 * adapter_model.safetensors behind it.
 *
 * Holds: what is refused is refused in one line; what is accepted has matrices of the model's shapes.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "model/adapter.h"
#include "model/model.h"
#include "tiny_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hold(bool condition)
{
    if (!condition)
        abort();
}

static int file_of(const void *bytes, size_t size)
{
    int fd = memfd_create("adapter", MFD_CLOEXEC);
    hold(fd >= 0 && ap_file_write_all(fd, bytes, size, NULL) == AP_OK);
    return fd;
}

static const ap_model *small_model(void)
{
    static ap_model *model;
    static const ap_tiny_model tiny = {.seed = 3, .layers = 2, .width = 32, .heads = 4, .kv_heads = 2, .ffn = 48, .context = 64};
    if (model)
        return model;
    int source = ap_tiny_model_file(&tiny), packed = memfd_create("packed", MFD_CLOEXEC);
    ap_import_options options = {.size = sizeof options};
    ap_import_report report;
    hold(ap_model_import(source, packed, &options, &report, NULL) == AP_OK && ap_model_open(&model, packed, NULL) == AP_OK);
    close(source);
    close(packed);
    return model;
}

static void check_matrices(const ap_model *model, const ap_adapter *adapter)
{
    for (uint32_t layer = 0; layer < model->sizes.layer_count; layer++)
        for (unsigned role = 0; role < AP_ROLE_COUNT; role++) {
            const ap_lora *lora = ap_adapter_find(adapter, layer, (ap_role)role);
            if (!lora)
                continue;
            const ap_layer *l = &model->layers[layer];
            const ap_matrix *of = role == AP_ROLE_Q ? &l->q : role == AP_ROLE_K ? &l->k : role == AP_ROLE_V ? &l->v
                                  : role == AP_ROLE_ATTN_OUT ? &l->attn_out : role == AP_ROLE_GATE ? &l->mlp.gate
                                  : role == AP_ROLE_UP ? &l->mlp.up : &l->mlp.down;
            hold(lora->rows == of->rows && lora->a.cols == of->cols && lora->a.rows <= ap_adapter_rank(adapter));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const ap_model *model = small_model();
    bool is_gguf = size >= 4 && memcmp(data, "GGUF", 4) == 0;
    const uint8_t *end = size && !is_gguf ? memchr(data, 0, size) : NULL, *weights = end ? end + 1 : data;
    int config = end ? file_of(data, (size_t)(end - data)) : -1, fd = file_of(weights, size - (size_t)(weights - data));
    ap_adapter *adapter;
    ap_error err = {0};
    if (ap_adapter_open(&adapter, model, config, fd, &err) == AP_OK)
        check_matrices(model, adapter);
    else
        hold(err.message[0] && !strchr(err.message, '\n') && !adapter);
    ap_adapter_close(&adapter);
    close(fd);
    if (config >= 0)
        close(config);
    return 0;
}
