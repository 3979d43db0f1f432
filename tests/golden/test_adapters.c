/* LoRA adapters against PEFT, golden/adapter/ (golden/README.md): folders and GGUF files for models of golden/arch/.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "golden.h"
#include "support.h"
#include "tiny_model.h"

static int open_file(const char *folder, const char *name)
{
    char path[600];
    int fd = -1;
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    ap_error error = {0};
    return ap_file_open(ap_test_file(path), &fd, &error) == AP_OK ? fd : -1;
}

static void the_reference_agrees(void **state)
{
    char folder[512], base_folder[600];
    ap_str base;
    (void)snprintf(folder, sizeof folder, "golden/adapter/%s", (const char *)*state);
    json_t *record = golden_record(folder);
    assert_ok(ap_json_get_str(record, "base", &base, err));
    (void)snprintf(base_folder, sizeof base_folder, "golden/arch/%.*s", (int)base.len, base.ptr);
    int packed = ap_test_temporary();
    ap_import_report report;
    ap_model *model;
    ap_adapter *adapter;
    assert_ok(golden_import(base_folder, packed, false, &report, err));
    assert_ok(ap_model_open(&model, packed, err));
    close(packed);
    int config = open_file(folder, "adapter_config.json");
    int weights = open_file(folder, config < 0 ? "adapter.gguf" : "adapter_model.safetensors");
    assert_ok(ap_adapter_open(&adapter, model, config, weights, err));
    close(weights);
    if (config >= 0)
        close(config);
    print_message("%s: %.1e of the largest logit\n", (const char *)*state, golden_run(model, adapter, record));
    ap_adapter_close(&adapter);
    ap_model_close(&model);
    json_decref(record);
}

int main(void) { return golden_each("adapter", "golden/adapter", the_reference_agrees); }
