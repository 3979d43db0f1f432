/* serve_tiny [GGUF] - the real server over a real worker, for tests from outside (clients,
 * browser): a tiny model with random weights, or the file given.  Prints "listening PORT" and
 * serves until SIGTERM.  Not installed.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "serve/serve.h"
#include "tiny_model.h"

static ap_status on_listening(void *context, const char *host, uint16_t port, ap_error *err)
{
    (void)printf("listening %u\n", port);
    (void)fflush(stdout);
    return AP_OK;
}

static ap_status pack(int source_fd, int *packed_fd, ap_error *err)
{
    char path[64];
    ap_import_report report;
    ap_import_options options = {.size = sizeof options};
    int out = ap_test_temporary();
    AP_TRY(ap_model_import(source_fd, out, &options, &report, err));
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", out);
    *packed_fd = open(path, O_RDONLY | O_CLOEXEC); /* a worker's file cannot be written */
    (void)close(out);
    return *packed_fd >= 0 ? AP_OK : ap_fail(err, AP_E_IO, "the packed file cannot be opened again");
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "worker") == 0)
        return ap_worker_main(argc, argv);
    const ap_tiny_model tiny = {.seed = 11};
    ap_error error = {0};
    ap_served_model model = {.name = "tiny", .packed_fd = -1, .digest = "0123456789abcdef", .created = 1700000000};
    ap_serve_options o = ap_serve_options_default();
    int source = argc > 1 ? open(argv[1], O_RDONLY | O_CLOEXEC) : ap_tiny_model_file(&tiny);
    ap_status status = pack(source, &model.packed_fd, &error);
    o.port = 0;
    o.models = &model;
    o.model_count = 1;
    o.listening = on_listening;
    if (status == AP_OK)
        status = ap_serve_run(&o, &error);
    if (status != AP_OK)
        (void)fprintf(stderr, "serve_tiny: %s\n", error.message);
    return status != AP_OK;
}
