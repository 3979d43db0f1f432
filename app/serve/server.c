/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/server.h"

#include <ctype.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "serve/hosts.h"

enum {
    HEAD_BYTES_MAX = 32 * 1024,       /* of a request: first line and headers */
    ADDRESS_BYTES_MAX = 8 * 1024,     /* path and arguments, decoded */
    HEADERS_MAX = 100,
    CONNECTION_BYTES = 2 * HEAD_BYTES_MAX, /* libmicrohttpd's memory for one; what does not fit it answers itself */
    PIECE_BYTES = 16 * 1024,      /* of an answer, handed over at once */
    SWEEP_MS = 250,               /* deadlines are looked at so often */
    GONE_MS = 500,                /* time for what a client sent before it left */
    DESCRIPTORS_KEPT = 64,        /* for all that is not a connection */
    BACKLOG = 512
};

typedef struct exchange exchange;

/* A socket. */
typedef struct connection {
    struct connection *next, *previous;
    ap_server *server;
    int fd;
    uint64_t since_ms; /* waiting for a header since */
    uint64_t left_ms;  /* the client sends nothing more since; 0: it may */
    exchange *exchange; /* the request under way, or NULL */
} connection;

/* A request and its answer. */
struct exchange {
    connection *connection;
    struct MHD_Connection *mhd;
    char *method, *path;
    uint64_t since_ms; /* header complete, and then: last progress of the answer */
    ap_buf body;
    uint64_t dropped; /* bytes of a body that is too large */
    bool is_too_large, is_too_many;
    bool has_begun, is_suspended, is_queued, is_gone, must_close;
    ap_reply reply;
    ap_call *call;
};

struct ap_server {
    const ap_serve_options *options;
    ap_api *api;
    struct MHD_Daemon *daemon;
    int watch; /* epoll: all connections, for their clients' leaving */
    connection *connections;
    size_t busy_count;
    size_t bodies_bytes;
    uint64_t swept_ms;
    bool is_draining;
    bool must_run; /* a connection closed: the library may have stopped accepting and looks only when run */
};

static uint64_t now_ms(void) { return ap_clock_ns() / 1000000; }

/* ---- Answers ------------------------------------------------------------- */

static void wake(void *context)
{
    exchange *e = context;
    if (!e->is_suspended)
        return;
    e->is_suspended = false;
    e->since_ms = now_ms();
    MHD_resume_connection(e->mhd);
}

static void suspend(exchange *e)
{
    e->is_suspended = true;
    MHD_suspend_connection(e->mhd);
}

/* libmicrohttpd asks for the next piece when the last one is with the system. */
static ssize_t read_piece(void *context, uint64_t position, char *out, size_t room)
{
    exchange *e = context;
    ap_reply *r = &e->reply;
    if (e->is_gone || r->is_broken)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    const char *bytes = r->asset ? r->asset + position : r->body.ptr + r->taken;
    size_t left = r->asset ? r->asset_bytes - (size_t)position : r->body.len - r->taken;
    if (left == 0 && r->is_complete)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (left == 0) {
        suspend(e);
        return 0;
    }
    e->since_ms = now_ms();
    size_t count = left < room ? left : room;
    memcpy(out, bytes, count);
    if (!r->asset)
        r->taken += count;
    return (ssize_t)count;
}

static bool add_headers(struct MHD_Response *response, const exchange *e)
{
    static const char *const fixed[][2] = {
        {"X-Content-Type-Options", "nosniff"},
        {"Referrer-Policy", "no-referrer"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Cross-Origin-Opener-Policy", "same-origin"},
        {"Cache-Control", "no-store"},
        {"Content-Security-Policy",
         "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
         "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
    };
    bool is_ok = true;
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        is_ok = is_ok && MHD_add_response_header(response, fixed[i][0], fixed[i][1]) == MHD_YES;
    if (e->reply.type)
        is_ok = is_ok && MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, e->reply.type) == MHD_YES;
    for (size_t i = 0; i < e->reply.header_count; i++)
        is_ok = is_ok && MHD_add_response_header(response, e->reply.headers[i].name, e->reply.headers[i].value) == MHD_YES;
    if (e->must_close || e->connection->server->is_draining)
        is_ok = is_ok && MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close") == MHD_YES;
    return is_ok;
}

static enum MHD_Result queue_reply(exchange *e)
{
    const ap_reply *r = &e->reply;
    uint64_t size = r->is_stream ? MHD_SIZE_UNKNOWN : r->asset ? r->asset_bytes : r->body.len;
    if (r->is_broken)
        return MHD_NO;
    struct MHD_Response *response = MHD_create_response_from_callback(size, PIECE_BYTES, read_piece, e, NULL);
    if (!response)
        return MHD_NO;
    enum MHD_Result result = MHD_NO;
    e->since_ms = now_ms();
    if (add_headers(response, e))
        result = MHD_queue_response(e->mhd, (unsigned)r->status, response);
    MHD_destroy_response(response);
    e->is_queued = result == MHD_YES;
    return result;
}

static enum MHD_Result refuse_now(exchange *e, const ap_refusal *refusal)
{
    e->has_begun = true;
    e->must_close = true; /* what follows on this connection cannot be trusted, or was not read */
    ap_reply_refuse(&e->reply, refusal);
    return queue_reply(e);
}

/* ---- The head of a request ----------------------------------------------- */

typedef struct head {
    size_t bytes, address_bytes, count;
    unsigned framing_count, host_count, origin_count;
    const char *host, *origin, *encoding, *transfer;
    const char *length;
    bool has_bad_name, has_bad_value;
} head;

/* The library joins a folded line to the name before it ("Content-Length:\r\n 5" becomes a header
 * "Content-Length5"), while a proxy may read a length there: neither such names nor names that are no
 * tokens pass. */
static bool is_bad_name(const char *name)
{
    static const char *const framing[] = {"Content-Length", "Transfer-Encoding"};
    for (size_t i = 0; i < sizeof framing / sizeof *framing; i++)
        if (strncasecmp(name, framing[i], strlen(framing[i])) == 0 && name[strlen(framing[i])])
            return true;
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("!#$%&'*+-.^_`|~", *p))
            return true;
    return !*name;
}

/* The library cuts a value at a NUL before anybody can see that there was one. */
static bool is_bad_value(const char *value)
{
    for (const char *p = value; *p; p++)
        if (((unsigned char)*p < 0x20 && *p != '\t') || *p == 0x7f)
            return true;
    return false;
}

static enum MHD_Result read_header(void *context, enum MHD_ValueKind kind, const char *key, const char *value)
{
    head *h = context;
    h->count++;
    h->has_bad_name = h->has_bad_name || is_bad_name(key);
    h->has_bad_value = h->has_bad_value || is_bad_value(value);
    if (strcasecmp(key, "Content-Length") == 0) {
        h->framing_count++;
        h->length = value;
    } else if (strcasecmp(key, "Transfer-Encoding") == 0) {
        h->framing_count++;
        h->transfer = value;
    } else if (strcasecmp(key, "Host") == 0) {
        h->host_count++;
        h->host = value;
    } else if (strcasecmp(key, "Origin") == 0) {
        h->origin_count++;
        h->origin = value;
    } else if (strcasecmp(key, "Content-Encoding") == 0) {
        h->encoding = value;
    }
    return MHD_YES;
}

static enum MHD_Result add_argument(void *context, enum MHD_ValueKind kind, const char *key, size_t key_bytes,
                                    const char *value, size_t value_bytes)
{
    head *h = context;
    h->address_bytes += key_bytes + value_bytes + 2;
    return MHD_YES;
}

static bool check_head(const ap_server *server, const head *h, ap_refusal *refusal)
{
    const ap_serve_options *o = server->options;
    if (h->address_bytes > ADDRESS_BYTES_MAX)
        return ap_refuse(refusal, 414, NULL, "address_too_long", "path and arguments have %zu bytes, the limit is %d",
                         h->address_bytes, ADDRESS_BYTES_MAX);
    if (h->bytes > HEAD_BYTES_MAX)
        return ap_refuse(refusal, 431, NULL, "headers_too_large", "first line and headers have %zu bytes, the limit is %d",
                         h->bytes, HEAD_BYTES_MAX);
    if (h->count > HEADERS_MAX)
        return ap_refuse(refusal, 431, NULL, "too_many_headers", "the request has %zu headers, the limit is %d", h->count,
                         HEADERS_MAX);
    if (h->has_bad_name)
        return ap_refuse(refusal, 400, NULL, "bad_header", "a header's name is not allowed, or a header is folded");
    if (h->has_bad_value)
        return ap_refuse(refusal, 400, NULL, "bad_header", "a header's value has a control character");
    if (h->framing_count > 1)
        return ap_refuse(refusal, 400, NULL, "ambiguous_length",
                         "more than one Content-Length or Transfer-Encoding in one request");
    if (h->transfer && strcasecmp(h->transfer, "chunked") != 0)
        return ap_refuse(refusal, 501, NULL, "transfer_encoding", "the only Transfer-Encoding taken is chunked");
    if (h->length && (strspn(h->length, "0123456789") != strlen(h->length) || !*h->length || strlen(h->length) > 18))
        return ap_refuse(refusal, 400, NULL, "bad_length", "the Content-Length is not a number in range");
    if (h->host_count != 1 || !h->host)
        return ap_refuse(refusal, 400, NULL, "bad_host", "a request needs one Host header");
    if (!ap_host_is_allowed(h->host, o->host, o->allowed_hosts, o->allowed_host_count))
        return ap_refuse(refusal, 403, NULL, "host_not_allowed", "this server is not reached by the name in Host");
    if (h->origin_count > 1 || (h->origin && !ap_origin_is_same(h->origin, h->host)))
        return ap_refuse(refusal, 403, NULL, "origin_not_allowed", "requests from pages of other origins are refused");
    if (h->encoding && strcasecmp(h->encoding, "identity") != 0)
        return ap_refuse(refusal, 415, NULL, "content_encoding", "the body's Content-Encoding is not supported");
    return true;
}

static enum MHD_Result begin_exchange(ap_server *server, struct MHD_Connection *mhd, const char *url, const char *method,
                                      void **context)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    connection *c = info ? info->socket_context : NULL;
    exchange *e = c ? ap_alloc_zero(1, sizeof *e) : NULL;
    if (!e)
        return MHD_NO;
    e->connection = c;
    e->mhd = mhd;
    e->since_ms = now_ms();
    e->reply.wake = wake;
    e->reply.wake_context = e;
    e->body.limit = server->options->body_bytes_max;
    c->exchange = e;
    server->busy_count++;
    *context = e;
    e->method = ap_strndup(method, strlen(method));
    e->path = ap_strndup(url, strlen(url));
    if (!e->method || !e->path)
        return MHD_NO;
    head h = {0};
    ap_refusal refusal;
    (void)MHD_get_connection_values(mhd, MHD_HEADER_KIND, read_header, &h);
    info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    h.bytes = info ? info->header_size : 0;
    h.address_bytes = strlen(url);
    (void)MHD_get_connection_values_n(mhd, MHD_GET_ARGUMENT_KIND, add_argument, &h);
    if (!check_head(server, &h, &refusal))
        return refuse_now(e, &refusal);
    /* A body somewhat too large is read and dropped, so that its sender reads the answer; one far too large is not. */
    unsigned long long length = h.length ? strtoull(h.length, NULL, 10) : 0;
    e->is_too_large = length > server->options->body_bytes_max;
    if (length / 4 > server->options->body_bytes_max) {
        (void)ap_refuse(&refusal, 413, NULL, "body_too_large", "the body has %llu bytes, the limit is %zu", length,
                        server->options->body_bytes_max);
        return refuse_now(e, &refusal);
    }
    return MHD_YES;
}

/* ---- The body ------------------------------------------------------------ */

static enum MHD_Result take_body(ap_server *server, exchange *e, const char *bytes, size_t count)
{
    const ap_serve_options *o = server->options;
    if (!e->is_too_large && !e->is_too_many) {
        e->is_too_large = count > o->body_bytes_max - e->body.len;
        e->is_too_many = !e->is_too_large && count > o->bodies_bytes_max - server->bodies_bytes;
    }
    if (!e->is_too_large && !e->is_too_many && ap_buf_add(&e->body, bytes, count, NULL) == AP_OK) {
        server->bodies_bytes += count;
        return MHD_YES;
    }
    e->is_too_many = e->is_too_many || !e->is_too_large;
    server->bodies_bytes -= e->body.len;
    e->dropped += e->body.len + count;
    ap_buf_deinit(&e->body);
    return e->dropped / 4 > o->body_bytes_max ? MHD_NO : MHD_YES;
}

static enum MHD_Result note_query(void *context, enum MHD_ValueKind kind, const char *key, const char *value)
{
    *(const char **)context = key;
    return MHD_NO; /* the first is enough */
}

static void begin_call(ap_server *server, exchange *e)
{
    ap_refusal refusal;
    e->has_begun = true;
    if (e->is_too_large) {
        (void)ap_refuse(&refusal, 413, NULL, "body_too_large", "the body is longer than the limit of %zu bytes",
                        server->options->body_bytes_max);
        ap_reply_refuse(&e->reply, &refusal);
        return;
    }
    if (e->is_too_many) {
        (void)ap_refuse(&refusal, 429, NULL, "queue_full", "too many large requests at once; try again later");
        ap_reply_refuse(&e->reply, &refusal);
        return;
    }
    ap_api_request request = {.method = e->method, .path = e->path, .body = ap_buf_str(&e->body)};
    request.content_type = MHD_lookup_connection_value(e->mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_TYPE);
    (void)MHD_get_connection_values(e->mhd, MHD_GET_ARGUMENT_KIND, note_query, &request.query);
    ap_api_begin(server->api, &request, &e->reply, &e->call);
    server->bodies_bytes -= e->body.len;
    ap_buf_deinit(&e->body);
}

static enum MHD_Result handle(void *self, struct MHD_Connection *mhd, const char *url, const char *method,
                              const char *version, const char *upload, size_t *upload_bytes, void **context)
{
    ap_server *server = self;
    exchange *e = *context;
    if (!e)
        return begin_exchange(server, mhd, url, method, context);
    if (*upload_bytes) {
        size_t count = *upload_bytes;
        *upload_bytes = 0;
        return e->has_begun ? MHD_YES : take_body(server, e, upload, count);
    }
    if (e->is_gone)
        return MHD_NO;
    if (!e->has_begun)
        begin_call(server, e);
    if (e->connection->left_ms && !e->reply.is_complete) {
        ap_api_end(server->api, &e->call);
        return MHD_NO;
    }
    if (e->is_queued)
        return MHD_YES;
    if (e->reply.status || e->reply.is_broken)
        return queue_reply(e);
    suspend(e);
    return MHD_YES;
}

/* ---- Ends ---------------------------------------------------------------- */

static void complete(void *self, struct MHD_Connection *mhd, void **context, enum MHD_RequestTerminationCode how)
{
    ap_server *server = self;
    exchange *e = *context;
    *context = NULL;
    if (!e)
        return;
    ap_api_end(server->api, &e->call);
    server->bodies_bytes -= e->body.len;
    server->busy_count--;
    e->connection->exchange = NULL;
    e->connection->since_ms = now_ms();
    ap_buf_deinit(&e->body);
    ap_reply_deinit(&e->reply);
    ap_free(e->method);
    ap_free(e->path);
    ap_free(e);
}

static void notice_connection(void *self, struct MHD_Connection *mhd, void **socket_context,
                              enum MHD_ConnectionNotificationCode code)
{
    ap_server *server = self;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        connection *c = *socket_context;
        *socket_context = NULL;
        server->must_run = true;
        if (!c)
            return;
        (void)epoll_ctl(server->watch, EPOLL_CTL_DEL, c->fd, NULL);
        if (c->next)
            c->next->previous = c->previous;
        *(c->previous ? &c->previous->next : &server->connections) = c->next;
        ap_free(c);
        return;
    }
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    connection *c = info ? ap_alloc_zero(1, sizeof *c) : NULL;
    *socket_context = c; /* without one the first request is closed */
    if (!c)
        return;
    c->server = server;
    c->fd = info->connect_fd;
    c->since_ms = now_ms();
    c->next = server->connections;
    if (c->next)
        c->next->previous = c;
    server->connections = c;
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLET, .data.ptr = c};
    if (epoll_ctl(server->watch, EPOLL_CTL_ADD, c->fd, &event) != 0)
        ap_log(AP_LOG_WARN, "a client cannot be watched: %s", strerror(errno));
}

/* The client left, or is given up: what runs for it ends now, the rest when libmicrohttpd comes by. */
static void hang_up(exchange *e)
{
    e->is_gone = true;
    ap_api_end(e->connection->server->api, &e->call);
    (void)shutdown(e->connection->fd, SHUT_RDWR);
    wake(e);
}

static void look_for_gone_clients(ap_server *server)
{
    struct epoll_event events[64];
    int count = epoll_wait(server->watch, events, sizeof events / sizeof *events, 0);
    for (int i = 0; i < count; i++) {
        connection *c = events[i].data.ptr;
        exchange *e = c->exchange;
        c->left_ms = now_ms();
        /* A complete answer on its way may still be wanted by a client that has only ended its own side. */
        if (e && e->has_begun && !e->is_gone && !(e->is_queued && e->reply.is_complete))
            hang_up(e);
    }
}

static void sweep(ap_server *server)
{
    const ap_serve_options *o = server->options;
    uint64_t now = now_ms();
    if (now - server->swept_ms < SWEEP_MS)
        return;
    server->swept_ms = now;
    for (connection *c = server->connections; c; c = c->next) {
        exchange *e = c->exchange;
        if (c->left_ms && now - c->left_ms > GONE_MS && !(e && e->has_begun)) {
            (void)shutdown(c->fd, SHUT_RDWR); /* the library did not see the end of what it reads */
        } else if (!e) {
            if (now - c->since_ms > o->header_ms)
                (void)shutdown(c->fd, SHUT_RDWR);
        } else if (!e->has_begun) {
            if (now - e->since_ms > o->body_ms)
                (void)shutdown(c->fd, SHUT_RDWR);
        } else if (!e->is_gone && (e->reply.is_broken || (e->is_queued && !e->is_suspended &&
                                                          now - e->since_ms > o->write_ms))) {
            hang_up(e);
        }
    }
}

/* ---- The server ---------------------------------------------------------- */

static int open_listener(const ap_serve_options *o, uint16_t *port, ap_error *err)
{
    char service[8];
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    (void)snprintf(service, sizeof service, "%u", o->port);
    int failed = getaddrinfo(o->host, service, &hints, &found);
    if (failed) {
        (void)ap_fail(err, AP_E_IO, "no address for host '%.100s': %s", o->host, gai_strerror(failed));
        return -1;
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        (void)ap_fail(err, AP_E_IO, "cannot listen on %.100s port %u: %s", o->host, o->port, strerror(errno));
        if (fd >= 0)
            (void)close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    struct sockaddr_storage address;
    socklen_t bytes = sizeof address;
    if (fd >= 0 && getsockname(fd, (struct sockaddr *)&address, &bytes) == 0)
        *port = ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                                    : ((struct sockaddr_in *)&address)->sin_port);
    return fd;
}

/* As many connections as there are descriptors for. */
static unsigned connection_limit(const ap_serve_options *o)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return o->connections_max;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max < 65536 ? limit.rlim_max : 65536;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
        (void)getrlimit(RLIMIT_NOFILE, &limit);
    }
    rlim_t room = limit.rlim_cur > 2 * DESCRIPTORS_KEPT ? limit.rlim_cur - DESCRIPTORS_KEPT : limit.rlim_cur / 2 + 1;
    return room < o->connections_max ? (unsigned)room : o->connections_max;
}

static void log_line(void *self, const char *format, va_list arguments)
{
    char line[300];
    (void)vsnprintf(line, sizeof line, format, arguments);
    ap_log(AP_LOG_DEBUG, "http: %s", line);
}

ap_status ap_server_create(ap_server **out, const ap_serve_options *options, ap_api *api, uint16_t *port, ap_error *err)
{
    *out = NULL;
    ap_server *server = ap_alloc_zero(1, sizeof *server);
    if (!server)
        return ap_fail_nomem(err, sizeof *server);
    server->options = options;
    server->api = api;
    ap_status status = AP_E_IO;
    int listener = -1;
    server->watch = epoll_create1(EPOLL_CLOEXEC);
    if (server->watch < 0) {
        (void)ap_fail(err, AP_E_IO, "no epoll: %s", strerror(errno));
        goto fail;
    }
    listener = open_listener(options, port, err);
    if (listener < 0)
        goto fail;
    server->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, handle, server,
        MHD_OPTION_EXTERNAL_LOGGER, log_line, server, MHD_OPTION_LISTEN_SOCKET, listener,
        MHD_OPTION_CONNECTION_LIMIT, connection_limit(options), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_BYTES, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
        MHD_OPTION_NOTIFY_COMPLETED, complete, server, MHD_OPTION_NOTIFY_CONNECTION, notice_connection, server,
        MHD_OPTION_END);
    if (!server->daemon) {
        status = ap_fail(err, AP_E_NOMEM, "the HTTP library could not be started");
        goto fail;
    }
    *out = server;
    return AP_OK;
fail:
    if (listener >= 0)
        (void)close(listener);
    if (server->watch >= 0)
        (void)close(server->watch);
    ap_free(server);
    return status;
}

void ap_server_destroy(ap_server **pointer)
{
    ap_server *server = *pointer;
    *pointer = NULL;
    if (!server)
        return;
    /* The library wants no connection suspended when it ends. */
    for (connection *c = server->connections; c; c = c->next)
        if (c->exchange && !c->exchange->is_gone)
            hang_up(c->exchange);
    (void)MHD_run(server->daemon);
    MHD_stop_daemon(server->daemon);
    (void)close(server->watch);
    ap_free(server);
}

void ap_server_poll(ap_server *server, struct pollfd fds[AP_SERVER_FDS], int *timeout_ms)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    MHD_UNSIGNED_LONG_LONG due_ms;
    int wait_ms = server->must_run ? 0 : server->connections ? SWEEP_MS : -1;
    if (MHD_get_timeout(server->daemon, &due_ms) == MHD_YES && (wait_ms < 0 || due_ms < (unsigned)wait_ms))
        wait_ms = (int)due_ms;
    if (wait_ms >= 0 && (*timeout_ms < 0 || wait_ms < *timeout_ms))
        *timeout_ms = wait_ms;
    fds[0] = (struct pollfd){info ? info->epoll_fd : -1, POLLIN, 0};
    fds[1] = (struct pollfd){server->watch, POLLIN, 0};
}

void ap_server_run(ap_server *server)
{
    look_for_gone_clients(server);
    sweep(server);
    server->must_run = false;
    (void)MHD_run(server->daemon);
}

void ap_server_drain(ap_server *server)
{
    server->is_draining = true;
    ap_api_drain(server->api);
    int listener = MHD_quiesce_daemon(server->daemon);
    if (listener >= 0)
        (void)close(listener);
}

size_t ap_server_busy_count(const ap_server *server) { return server->busy_count; }
