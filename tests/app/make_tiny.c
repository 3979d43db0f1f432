/* make_tiny.c - writes a tiny model to a path: make_tiny OUT.gguf [CONTEXT [LAYERS [NAN_TOKEN]]]
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "support.h"
#include "tiny_model.h"

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
    ap_buf bytes = {0};
    ap_tiny_model_write(&tiny, &bytes);
    FILE *out = argc > 1 ? fopen(argv[1], "wb") : NULL;
    bool is_good = out && fwrite(bytes.ptr, 1, bytes.len, out) == bytes.len;
    is_good = out && fclose(out) == 0 && is_good;
    ap_buf_deinit(&bytes);
    return !is_good;
}
