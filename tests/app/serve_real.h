/* serve_real.h - the server of serve_fake.h over a real worker with a real model, for tests of the whole way.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TESTS_SERVE_REAL_H
#define AP_TESTS_SERVE_REAL_H

#include "serve_fake.h"

typedef struct real_server {
    ap_serve_options options;
    ap_served_model model; /* its name is "tiny" */
    ap_workers *workers;
    fake_server *server;
    char packed_path[32];
} real_server;

/* Packs the model file, which is closed, and serves it. */
void real_start(real_server *real, int source);
void real_stop(real_server *real);
/* The status; body NULL: GET. */
int real_ask(const real_server *real, const char *path, const char *body, response *r);

#endif
