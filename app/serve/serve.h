/* serve.h - HTTP: an OpenAI-compatible server in front of the workers, and a page to chat on.
 *
 * Four parts, each of which can be read alone:
 *   server.c       connections, limits, deadlines, streams; knows no models
 *   api.c, api_openai.c, openai_read.c    JSON in, jobs to the backend, JSON out; know no sockets
 *   fields.c       the table of every field of every endpoint
 *   backend.h      where the work goes: backend_worker.c in the program, a script in tests
 * One thread runs all of it; nothing here computes anything that takes long.
 *
 *     ap_serve_options o = ap_serve_options_default();
 *     o.models = &model;  o.model_count = 1;  o.listening = print_address;
 *     ap_serve_run(&o, &error);        until SIGTERM or SIGINT
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_SERVE_H
#define AP_SERVE_H

#include "serve/backend.h"

enum { AP_SERVE_MODELS_MAX = 32 };

/* A served model.  Strings and descriptor stay the caller's. */
typedef struct ap_served_model {
    const char *name;   /* what requests call it, at most 200 bytes */
    int packed_fd;      /* the packed file, read-only, digest checked by the caller */
    const char *digest; /* of the packed file, hex; for system_fingerprint */
    ap_adapter_files adapter;
    const char *adapter_sha256; /* hex, for system_fingerprint too; NULL: no adapter */
    int64_t created;    /* Unix time of the import */
    /* Finds the file of this digest again, read-only and compared, when the one above was changed or removed; the new
     * descriptor becomes the server's.  Called in a thread of its own, since comparing takes long.  NULL: the model stays
     * down until the server is started again. */
    ap_status (*reopen)(void *context, int *fd, ap_error *err);
    void *reopen_context;
} ap_served_model;

typedef struct ap_serve_options {
    const char *host;     /* an address or a name to listen on; "127.0.0.1" */
    uint16_t port;        /* 0: any that is free */
    const char *const *allowed_hosts; /* names accepted in Host beside loopback and `host` */
    size_t allowed_host_count;
    const ap_served_model *models;
    size_t model_count;   /* 1 to AP_SERVE_MODELS_MAX */

    /* For each worker; 0 and NULL mean the engine's own choice. */
    unsigned threads;
    uint64_t memory_bytes; /* for KV pages */
    uint64_t available_bytes; /* what all workers together may take; 0: what the system has at the start */
    uint32_t context_tokens;
    const char *isa;
    ap_kv_type kv_type;
    ap_sandbox_mode sandbox;

    unsigned drain_s;        /* after the first signal, running requests have so long */
    size_t body_bytes_max;   /* of one request */
    size_t bodies_bytes_max; /* of all requests being received */
    unsigned calls_max;      /* requests at work; more get 429 */
    unsigned connections_max;
    unsigned header_ms, body_ms, write_ms; /* deadlines: header (also idle), body, one piece of an answer */

    /* Told once, in the calling thread, when connections are accepted; its failure ends the server; may be NULL. */
    ap_status (*listening)(void *context, const char *host, uint16_t port, ap_error *err);
    void *listening_context;
} ap_serve_options;

/* All numbers set, no models. */
ap_serve_options ap_serve_options_default(void);

/* Serves until told to stop.  The first SIGTERM or SIGINT: no new requests, those at
 * work finish (at most drain_s), then it returns AP_OK; the second: it
 * returns at once.  AP_E_ARG for options, AP_E_IO when the address cannot be had
 * (the message names it), or why a model could not be loaded: nothing is served before all models are ready. */
ap_status ap_serve_run(const ap_serve_options *options, ap_error *err);

/* The same over any backend and without signals: each time stop_fd can be read
 * (up to 256 bytes are) counts as one signal. */
ap_status ap_serve_loop(const ap_serve_options *options, ap_backend backend, int stop_fd, ap_error *err);

#endif
