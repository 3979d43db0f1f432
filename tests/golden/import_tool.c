/* import_tool.c - packs a GGUF file, optionally with its weights decoded to f32.
 *
 *     import_tool [--float] SOURCE.gguf OUT.aperto
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "aperto.h"

int main(int argc, char **argv)
{
    bool decode = argc == 4 && strcmp(argv[1], "--float") == 0;
    if (argc != 3 && !decode) {
        fprintf(stderr, "usage: import_tool [--float] SOURCE.gguf OUT.aperto\n");
        return 2;
    }
    ap_error err = {0};
    ap_import_report report;
    ap_import_options options = {.size = sizeof options, .source_sha256 = NULL, .decode_to_f32 = decode};
    int in = open(argv[argc - 2], O_RDONLY | O_CLOEXEC);
    int out = open(argv[argc - 1], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (in < 0 || out < 0 || ap_model_import(in, out, &options, &report, &err) != AP_OK) {
        fprintf(stderr, "import_tool: %s\n", err.message[0] ? err.message : "a file cannot be opened");
        return 1;
    }
    printf("%s: %s, %s, %llu parameters, %llu bytes packed\n", argv[argc - 1], report.architecture, report.quantization,
           (unsigned long long)report.parameter_count, (unsigned long long)report.packed_bytes);
    return close(in) + close(out);
}
