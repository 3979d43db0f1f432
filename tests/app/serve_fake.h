/* serve_fake.h - a server for tests: the real one over a backend that follows a script,
 * in a thread, on a free port of the loopback; and a client of raw bytes.
 *
 * What the backend does is told by the text of the prompt or of the last message:
 *   "job"      answers with the job it was given
 *   "hang"     never accepts          "wait"  accepts and then says nothing
 *   "drip"     a piece each 5 ms until cancelled or max_tokens
 *   "flood"    64 KiB pieces without end; with logprobs none of it is text
 *   "die"      two pieces, then the worker ends         "nan"  …, then E_NUMERIC
 *   "long"     the prompt is longer than the context    "template"  the template refuses
 *   "full", "starting"   is not taken
 *   "cut:A|B"  pieces A and B
 *   else       "Hel", "lo wor", "ld!" and the end
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TESTS_SERVE_FAKE_H
#define AP_TESTS_SERVE_FAKE_H

#include "serve/serve.h"
#include "support.h"

typedef struct fake_server fake_server;

ap_serve_options fake_options(void);
fake_server *fake_start(const ap_serve_options *options);
/* The same over another backend, which must outlive it. */
fake_server *fake_start_over(const ap_serve_options *options, ap_backend backend);
/* Told to stop once (twice: at once); waits for its end. */
void fake_stop(fake_server *server, unsigned times);
void fake_signal(fake_server *server);
/* Waits until it ended by itself; false after timeout_ms. */
bool fake_ended(fake_server *server, unsigned timeout_ms);
uint16_t fake_port(const fake_server *server);
/* Jobs at work now, and cancelled ever. */
unsigned fake_live(const fake_server *server);
unsigned fake_cancelled(const fake_server *server);
/* True as soon as so many are at work. */
bool fake_wait_live(const fake_server *server, unsigned count, unsigned timeout_ms);

/* The backend alone, for tests without a server; stepped by the caller. */
typedef struct fake_backend fake_backend;
fake_backend *fake_backend_create(void);
void fake_backend_destroy(fake_backend *fake);
ap_backend fake_backend_of(fake_backend *fake);
unsigned fake_backend_live(const fake_backend *fake);

typedef struct response {
    int status;      /* 0: none came */
    ap_buf head;     /* status line and headers */
    ap_buf body;     /* chunks joined */
    bool is_whole;   /* as many bytes as promised, or the last chunk */
} response;

int client_connect(const fake_server *server);
/* False when the other side is gone. */
bool client_send(int fd, const char *bytes, size_t count);
/* Reads until the response is whole, the connection closes or 10 s are over. */
void client_read(int fd, response *out);
void response_deinit(response *r);
/* NULL if there is none; the value up to the line's end is in *length. */
const char *response_header(const response *r, const char *name, size_t *length);
/* One request on a connection of its own; body may be NULL. */
void client_request(const fake_server *server, const char *method, const char *path, const char *headers,
                    const char *body, response *out);
bool body_contains(const response *r, const char *text);

#endif
