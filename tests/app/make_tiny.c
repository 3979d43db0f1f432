/* make_tiny.c - writes a tiny model to a path: make_tiny OUT.gguf [CONTEXT [LAYERS [NAN_TOKEN [TYPE]]]]
 *
 * make_tiny OUT.gguf adapter writes a LoRA adapter for the model that make_tiny OUT.gguf writes.
 * OUT/ with a slash is a folder that must be there; TYPE is a number of GGUF's (8: Q8_0; a folder takes 0, 1 and 30).
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "support.h"
#include "tiny_model.h"

static bool write_file(const char *path, const ap_buf *bytes)
{
    FILE *out = fopen(path, "wb");
    bool is_good = out && fwrite(bytes->ptr, 1, bytes->len, out) == bytes->len;
    return out && fclose(out) == 0 && is_good;
}

static bool write_folder(const char *path, const ap_tiny_model *tiny)
{
    ap_tiny_file files[AP_TINY_FILES_MAX];
    size_t count = ap_tiny_model_folder(tiny, 2, files);
    bool is_good = true;
    for (size_t i = 0; i < count; i++) {
        char full[1024];
        (void)snprintf(full, sizeof full, "%s%s", path, files[i].name);
        is_good = write_file(full, &files[i].bytes) && is_good;
    }
    ap_tiny_files_deinit(files, count);
    return is_good;
}

int main(int argc, char **argv)
{
    ap_tiny_model tiny = {.seed = 1, .type = 8, .layers = 1, .ffn = 256, .context = 2048};
    if (argc > 2)
        tiny.context = (uint32_t)strtoul(argv[2], NULL, 10);
    if (argc > 3)
        tiny.layers = (uint32_t)strtoul(argv[3], NULL, 10);
    if (argc > 4) { /* a NaN needs floats, and an output matrix without it */
        tiny.nan_token = (uint32_t)strtoul(argv[4], NULL, 10);
        tiny.type = 0;
        tiny.has_output = true;
    }
    if (argc > 5)
        tiny.type = (uint32_t)strtoul(argv[5], NULL, 10);
    if (argc < 2)
        return 2;
    if (argv[1][0] && argv[1][strlen(argv[1]) - 1] == '/')
        return !write_folder(argv[1], &tiny);
    ap_buf bytes = {0};
    if (argc > 2 && strcmp(argv[2], "adapter") == 0)
        ap_tiny_adapter_write(&tiny, 4, &bytes);
    else
        ap_tiny_model_write(&tiny, &bytes);
    bool is_good = write_file(argv[1], &bytes);
    ap_buf_deinit(&bytes);
    return !is_good;
}
