/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_real.h"

#include <fcntl.h>
#include <unistd.h>

void real_start(real_server *real, int source)
{
    ap_import_report report;
    ap_import_options import = {.size = sizeof import};
    *real = (real_server){.packed_path = "/tmp/aperto-serve-XXXXXX",
                          .model = {.name = "tiny", .digest = "0123456789abcdef", .created = 1700000000}};
    int out = mkostemp(real->packed_path, O_CLOEXEC);
    assert_ok(ap_model_import(source, out, &import, &report, err));
    (void)close(source);
    (void)close(out);
    real->model.packed_fd = open(real->packed_path, O_RDONLY | O_CLOEXEC);
    real->options = fake_options();
    real->options.models = &real->model;
    real->options.model_count = 1;
    assert_ok(ap_workers_create(&real->workers, &real->options, err));
    assert_ok(ap_workers_start(real->workers, -1, err));
    real->server = fake_start_over(&real->options, ap_workers_backend(real->workers));
}

void real_stop(real_server *real)
{
    fake_stop(real->server, 1);
    ap_workers_destroy(&real->workers, 2000);
    (void)close(real->model.packed_fd);
    (void)unlink(real->packed_path);
}

int real_ask(const real_server *real, const char *path, const char *body, response *r)
{
    client_request(real->server, body ? "POST" : "GET", path, NULL, body, r);
    return r->status;
}
