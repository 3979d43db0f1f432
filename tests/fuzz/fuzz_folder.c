/* A folder or a GGUF file in parts (model_input.h), imported.
 *
 * Holds: what is refused is refused in one line and before a byte is written; what is imported can be opened.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "model_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    model_input in = open_input(data, size);
    int out = memfd_create("packed", MFD_CLOEXEC);
    ap_import_options options = {.size = sizeof options};
    ap_import_report report = {0};
    ap_error err = {0};
    if (ap_model_import_files(in.files, in.count, out, &options, &report, &err) == AP_OK) {
        ap_model *model;
        hold(ap_model_open(&model, out, &err) == AP_OK);
        ap_model_close(&model);
    } else {
        hold_refusal(&err, out);
    }
    close_input(&in);
    close(out);
    return 0;
}
