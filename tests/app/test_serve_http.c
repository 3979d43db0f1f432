/* The server against clients that are wrong, slow, gone or too many.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "serve/hosts.h"
#include "serve_fake.h"

#define CHAT(text) "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"" text "\"}]}"
#define STREAM(text) "{\"model\":\"tiny\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"" text "\"}]}"
#define POST_HEAD "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"

static fake_server *server;

static int start(void **state)
{
    ap_serve_options o = fake_options();
    server = fake_start(&o);
    return 0;
}

static int stop(void **state)
{
    fake_stop(server, 1);
    return 0;
}

static uint64_t now_ms(void) { return ap_clock_ns() / 1000000; }

static void send_text(int fd, const char *text) { (void)client_send(fd, text, strlen(text)); }

static void send_post(int fd, const char *body)
{
    ap_buf text = {0};
    assert_ok(ap_buf_printf(&text, err, POST_HEAD "Content-Length: %zu\r\n\r\n%s", strlen(body), body));
    assert_true(client_send(fd, text.ptr, text.len));
    ap_buf_deinit(&text);
}

/* True when the other side closes within the time; what it sends until then is dropped. */
static bool is_closed_within(int fd, int timeout_ms)
{
    char bytes[4096];
    uint64_t end = now_ms() + (uint64_t)timeout_ms;
    while (now_ms() < end) {
        struct pollfd wait = {fd, POLLIN, 0};
        if (poll(&wait, 1, (int)(end - now_ms())) <= 0)
            return false;
        if (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) <= 0)
            return true;
    }
    return false;
}

static void assert_serves(void)
{
    response r;
    client_request(server, "POST", "/v1/chat/completions", NULL, CHAT("hi"), &r);
    assert_int_equal(r.status, 200);
    assert_true(body_contains(&r, "Hello world!"));
    response_deinit(&r);
}

/* ---- Wrong requests ------------------------------------------------------ */

/* Sends raw bytes; a 4xx (or nothing) must come, the connection must close, and no second answer may follow. */
static void assert_refused_and_closed(const char *raw, int status)
{
    response r;
    int fd = client_connect(server);
    send_text(fd, raw);
    client_read(fd, &r);
    if (r.status != status)
        fail_msg("status %d instead of %d for: %s", r.status, status, raw);
    assert_null(strstr(r.body.ptr, "HTTP/1.1 200"));
    assert_true(is_closed_within(fd, 2000));
    response_deinit(&r);
    (void)close(fd);
}

static void two_lengths_in_one_request_are_refused(void **state)
{
    static const char smuggled[] = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    char raw[1024];
    static const char *const heads[] = {"Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
                                        "Content-Length: 44\r\nContent-Length: 44\r\n\r\n",
                                        "Content-Length: 44\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                                        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
                                        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                                        "tRANSFER-encoding: chunked\r\ncontent-LENGTH: 0\r\n\r\n0\r\n\r\n"};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        (void)snprintf(raw, sizeof raw, POST_HEAD "%s%s", heads[i], smuggled);
        assert_refused_and_closed(raw, 400);
    }
    assert_serves();
}

static void lengths_that_are_no_numbers_are_refused(void **state)
{
    static const char *const lengths[] = {"-1", "+5", "0x10", "5 5", "99999999999999999999999", "1e3"};
    char raw[512];
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        (void)snprintf(raw, sizeof raw, POST_HEAD "Content-Length: %s\r\n\r\nhello", lengths[i]);
        response r;
        int fd = client_connect(server);
        send_text(fd, raw);
        client_read(fd, &r);
        if (r.status != 400 && r.status != 413)
            fail_msg("status %d for the length '%s'", r.status, lengths[i]);
        assert_true(is_closed_within(fd, 2000));
        response_deinit(&r);
        (void)close(fd);
    }
}

/* A folded header and lines that end in a bare newline may pass, but what follows must be read the same way. */
static void folded_headers_and_bare_newlines_do_not_desynchronise(void **state)
{
    static const char *const heads[] = {
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n Content-Length: 40\r\n\r\n",
        "GET /healthz HTTP/1.1\nHost: localhost\nX-A: b\n\n",
        "POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length:\r\n 0\r\nContent-Length: 5\r\n\r\nabcde",
        "POST /healthz HTTP/1.1\nHost: localhost\nContent-Length: 0\nTransfer-Encoding: chunked\n\n0\n\n",
    };
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        response first, second;
        int fd = client_connect(server);
        send_text(fd, heads[i]);
        client_read(fd, &first);
        if (i < 2) { /* no body: the next request on the connection is the one we send */
            assert_true(first.status == 200 || first.status == 400);
            if (first.status == 200) {
                send_text(fd, "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n");
                client_read(fd, &second);
                assert_int_equal(second.status, 200);
                assert_true(body_contains(&second, "tiny"));
                response_deinit(&second);
            }
        } else {
            assert_int_equal(first.status, 400);
            assert_true(is_closed_within(fd, 2000));
        }
        response_deinit(&first);
        (void)close(fd);
    }
}

static void hosts_are_counted(void **state)
{
    assert_refused_and_closed("GET /healthz HTTP/1.1\r\n\r\n", 400);
    assert_refused_and_closed("GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400);
    assert_refused_and_closed("GET /healthz HTTP/1.1\r\nHost: \r\n\r\n", 403);
}

/* A request of `line`, `count` headers and one header of `bytes`, refused in our words. */
static void assert_refused_by_us(const char *line, int count, int bytes, int status, const char *code)
{
    ap_buf raw = {0};
    response r;
    size_t length;
    assert_ok(ap_buf_printf(&raw, err, "%s\r\nHost: localhost\r\n", line));
    for (int i = 0; i < count; i++)
        assert_ok(ap_buf_printf(&raw, err, "X-%d: v\r\n", i));
    assert_ok(ap_buf_printf(&raw, err, "X-Long: %0*d\r\n\r\n", bytes, 0));
    int fd = client_connect(server);
    assert_true(client_send(fd, raw.ptr, raw.len));
    client_read(fd, &r);
    if (r.status != status || (code && !body_contains(&r, code)))
        fail_msg("status %d with %s, not %d with %s", r.status, r.body.ptr, status, code);
    const char *type = response_header(&r, "Content-Type", &length);
    assert_true(type && strncmp(type, "application/json", length) == 0);
    if (code)
        assert_true(is_closed_within(fd, 2000));
    response_deinit(&r);
    ap_buf_deinit(&raw);
    (void)close(fd);
}

static void limits_of_a_head_are_answered_in_json(void **state)
{
    static char line[9000];
    assert_refused_by_us("GET /healthz HTTP/1.1", 98, 31000, 200, NULL);
    assert_refused_by_us("GET /healthz HTTP/1.1", 0, 33000, 431, "headers_too_large");
    assert_refused_by_us("GET /healthz HTTP/1.1", 99, 1, 431, "too_many_headers");
    (void)snprintf(line, sizeof line, "GET /%08192d HTTP/1.1", 0);
    assert_refused_by_us(line, 0, 1, 414, "address_too_long");
    (void)snprintf(line, sizeof line, "GET /?a=%08192d HTTP/1.1", 0);
    assert_refused_by_us(line, 0, 1, 414, "address_too_long");
    (void)snprintf(line, sizeof line, "GET /%08000d HTTP/1.1", 0);
    assert_refused_by_us(line, 0, 1, 404, NULL);
}

static void other_transfer_encodings_are_refused(void **state)
{
    assert_refused_and_closed(POST_HEAD "Transfer-Encoding: gzip\r\n\r\nhello", 501);
    assert_refused_and_closed(POST_HEAD "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501);
    assert_refused_and_closed(POST_HEAD "Transfer-Encoding: \r\n\r\n0\r\n\r\n", 501);
}

static void control_characters_in_headers_are_refused(void **state)
{
    static const char *const values[] = {"a\x01", "a\x7f", "a\x0b", "\x1b[2J"};
    static const char *const names[] = {"X", "Host"};
    for (size_t i = 0; i < 8; i++) {
        ap_buf raw = {0};
        response r;
        assert_ok(ap_buf_printf(&raw, err, "GET /healthz HTTP/1.1\r\n%s%s: ", i < 4 ? "Host: localhost\r\n" : "", names[i / 4]));
        if (i >= 4)
            assert_ok(ap_buf_printf(&raw, err, "localhost"));
        assert_ok(ap_buf_printf(&raw, err, "%s\r\n\r\n", values[i % 4]));
        int fd = client_connect(server);
        assert_true(client_send(fd, raw.ptr, raw.len));
        client_read(fd, &r);
        if (r.status != 400)
            fail_msg("status %d for value %zu of %s", r.status, i % 4, names[i / 4]);
        assert_true(is_closed_within(fd, 2000));
        response_deinit(&r);
        ap_buf_deinit(&raw);
        (void)close(fd);
    }
}

/* docs/errors.md lists what libmicrohttpd answers before it tells us, in HTML or by closing.  Whatever it says, it must
 * not let anything of the connection through. */
static void what_the_library_refuses_ends_the_connection(void **state)
{
    static const char hidden[] = POST_HEAD "Content-Length: 60\r\n\r\n" CHAT("hi");
    static const struct {
        int status; /* 0: closed without a word */
        const char *head;
        const char *filler; /* repeated up to `bytes` */
        size_t bytes;
        const char *tail;
    } cases[] = {
        {431, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ", "a", 1000000, "\r\n\r\n"},
        {431, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n", "X-Y: value\r\n", 100000, "\r\n"},
        {414, "GET /", "a", 100000, " HTTP/1.1\r\nHost: localhost\r\n\r\n"},
        {414, "", "G", 100000, " / HTTP/1.1\r\nHost: localhost\r\n\r\n"},
        {0, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nCookie: ", "a=b; ", 30000, "\r\n\r\n"},
        {505, "GET /healthz HTTP/9.9\r\nHost: localhost\r\n\r\n", "", 0, ""},
        {505, "GET /healthz HTTP/0.9\r\nHost: localhost\r\n\r\n", "", 0, ""},
        {505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", 0, ""},
        {400, "GET /healthz http/1.1\r\nHost: localhost\r\n\r\n", "", 0, ""},
        {400, "GET /healthz\r\nHost: localhost\r\n\r\n", "", 0, ""},
        {400, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n", "", 0, ""},
        {400, "\x16\x03\x01\x02\x01\xfc\x03\x03 tls\r\n\r\n", "", 0, ""},
        {0, "hello\r\n\r\n", "", 0, ""},
        {400, POST_HEAD "Content-Length: -1\r\n\r\n", "", 0, ""},
        {413, POST_HEAD "Content-Length: 99999999999999999999999\r\n\r\n", "", 0, ""},
        {400, POST_HEAD "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "", 0, ""},
        {413, POST_HEAD "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", "", 0, ""},
        {431, POST_HEAD "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: ", "a", 100000, "\r\n\r\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ap_buf raw = {0};
        response r;
        assert_ok(ap_buf_printf(&raw, err, "%s", cases[i].head));
        for (size_t end = raw.len + cases[i].bytes; raw.len < end;)
            assert_ok(ap_buf_printf(&raw, err, "%s", cases[i].filler));
        assert_ok(ap_buf_printf(&raw, err, "%s%s", cases[i].tail, hidden));
        int fd = client_connect(server);
        (void)client_send(fd, raw.ptr, raw.len); /* it may be gone before all is sent */
        client_read(fd, &r);
        /* Where much was sent in vain the system may throw the answer away with the connection. */
        if (r.status != cases[i].status && !(r.status == 0 && cases[i].bytes > 50000))
            fail_msg("case %zu: status %d, not %d", i, r.status, cases[i].status);
        if (!is_closed_within(fd, 2000))
            fail_msg("case %zu: the connection stays open", i);
        assert_null(memmem(r.body.ptr, r.body.len, "Hello world!", 12));
        response_deinit(&r);
        ap_buf_deinit(&raw);
        (void)close(fd);
    }
    assert_serves();
}

/* Thousands of them fill the library's memory for the connection; it then forgets about it when another one is idle. */
static void arguments_without_end_are_dropped_at_the_deadline(void **state)
{
    ap_serve_options o = fake_options();
    ap_buf raw = {0};
    response r;
    o.header_ms = 400;
    fake_server *strict = fake_start(&o);
    int idle = client_connect(strict), fd = client_connect(strict);
    send_text(idle, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client_read(idle, &r);
    response_deinit(&r);
    assert_ok(ap_buf_printf(&raw, err, "GET /healthz?"));
    while (raw.len < 30000)
        assert_ok(ap_buf_printf(&raw, err, "a=1&"));
    assert_ok(ap_buf_printf(&raw, err, " HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    assert_true(client_send(fd, raw.ptr, raw.len));
    assert_true(is_closed_within(fd, 2000));
    ap_buf_deinit(&raw);
    (void)close(fd);
    (void)close(idle);
    fake_stop(strict, 1);
}

static void large_headers_are_refused(void **state)
{
    enum { LINES = 4000 };
    ap_buf raw = {0};
    response r;
    assert_ok(ap_buf_printf(&raw, err, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n"));
    for (int i = 0; i < LINES; i++)
        assert_ok(ap_buf_printf(&raw, err, "X-Header-%d: some value\r\n", i));
    int fd = client_connect(server);
    (void)client_send(fd, raw.ptr, raw.len);
    client_read(fd, &r);
    assert_true(r.status == 0 || r.status == 431 || r.status == 413 || r.status == 400);
    assert_true(is_closed_within(fd, 2000));
    response_deinit(&r);
    ap_buf_deinit(&raw);
    (void)close(fd);
    assert_serves();
}

static void a_long_address_is_refused(void **state)
{
    ap_buf raw = {0};
    response r;
    assert_ok(ap_buf_printf(&raw, err, "GET /"));
    for (int i = 0; i < 40000; i++)
        assert_ok(ap_buf_add_char(&raw, 'a', err));
    assert_ok(ap_buf_printf(&raw, err, " HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    int fd = client_connect(server);
    (void)client_send(fd, raw.ptr, raw.len);
    client_read(fd, &r);
    assert_true(r.status == 0 || (r.status >= 400 && r.status < 500));
    assert_true(is_closed_within(fd, 2000));
    response_deinit(&r);
    ap_buf_deinit(&raw);
    (void)close(fd);
}

static void garbage_is_refused(void **state)
{
    static const char *const raws[] = {"\x16\x03\x01\x02\x01\xfc\x03\x03 tls\r\n\r\n", "hello\r\n\r\n",
                                       "GET\r\n\r\n", "GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
                                       "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"};
    for (size_t i = 0; i < sizeof raws / sizeof *raws; i++) {
        response r;
        int fd = client_connect(server);
        send_text(fd, raws[i]);
        (void)shutdown(fd, SHUT_WR);
        client_read(fd, &r);
        assert_true(r.status == 0 || r.status >= 400);
        response_deinit(&r);
        (void)close(fd);
    }
    assert_serves();
}

static void a_byte_at_a_time_is_the_same_request(void **state)
{
    static const char raw[] = POST_HEAD "Transfer-Encoding: chunked\r\n\r\n"
                                        "3c\r\n" CHAT("hi") "\r\n0\r\n\r\n";
    response r;
    int fd = client_connect(server);
    assert_int_equal(strlen(CHAT("hi")), 0x3c);
    for (size_t i = 0; i < sizeof raw - 1; i++)
        assert_true(client_send(fd, raw + i, 1));
    client_read(fd, &r);
    assert_int_equal(r.status, 200);
    assert_true(r.is_whole);
    response_deinit(&r);
    (void)close(fd);
}

static void a_connection_serves_many_requests(void **state)
{
    int fd = client_connect(server);
    for (int i = 0; i < 20; i++) {
        response r;
        send_post(fd, i % 2 ? STREAM("hi") : CHAT("hi"));
        client_read(fd, &r);
        assert_int_equal(r.status, 200);
        assert_true(r.is_whole);
        response_deinit(&r);
    }
    (void)close(fd);
}

static void requests_sent_at_once_are_answered_in_order(void **state)
{
    response r;
    int fd = client_connect(server);
    send_text(fd, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /v1/models/tiny HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client_read(fd, &r);
    assert_true(body_contains(&r, "ok"));
    response_deinit(&r);
    (void)close(fd);
}

/* ---- Large bodies -------------------------------------------------------- */

static void a_body_over_the_limit_is_refused_with_the_limit(void **state)
{
    ap_serve_options o = fake_options();
    o.body_bytes_max = 100000;
    fake_server *small = fake_start(&o), *before = server;
    server = small;
    char *body = calloc(1, 600002);
    assert_non_null(body);
    memset(body, ' ', 600001);
    static const size_t lengths[] = {100001, 300000, 600001};
    for (size_t i = 0; i < 3; i++) {
        response r;
        body[lengths[i]] = 0;
        client_request(small, "POST", "/v1/chat/completions", NULL, body, &r);
        body[lengths[i]] = ' ';
        /* Far too large: the answer may be lost with the connection, whose rest nobody reads. */
        assert_true(r.status == 413 || (i == 2 && r.status == 0));
        assert_true(r.status == 0 || body_contains(&r, "100000"));
        response_deinit(&r);
    }
    free(body);
    assert_serves();
    server = before;
    fake_stop(small, 1);
}

static void an_endless_chunked_body_ends(void **state)
{
    ap_serve_options o = fake_options();
    o.body_bytes_max = 100000;
    fake_server *small = fake_start(&o), *before = server;
    server = small;
    char piece[1024 + 8];
    int fd = client_connect(small), sent = 0;
    (void)snprintf(piece, sizeof piece, "400\r\n%1024s\r\n", "");
    send_text(fd, POST_HEAD "Transfer-Encoding: chunked\r\n\r\n");
    while (sent < 100000 && client_send(fd, piece, 5 + 1024 + 2))
        sent++;
    assert_true(sent < 100000);
    (void)close(fd);
    assert_serves();
    server = before;
    fake_stop(small, 1);
}

static void bodies_at_once_have_a_limit(void **state)
{
    ap_serve_options o = fake_options();
    o.bodies_bytes_max = 50000;
    fake_server *small = fake_start(&o), *before = server;
    server = small;
    char head[200], *half = calloc(1, 40001);
    assert_non_null(half);
    memset(half, ' ', 40000);
    int first = client_connect(small);
    (void)snprintf(head, sizeof head, POST_HEAD "Content-Length: 40001\r\n\r\n");
    send_text(first, head);
    send_text(first, half);
    (void)usleep(50000);
    response r;
    client_request(small, "POST", "/v1/chat/completions", NULL, half, &r);
    assert_int_equal(r.status, 429);
    response_deinit(&r);
    (void)close(first);
    (void)usleep(50000);
    client_request(small, "POST", "/v1/chat/completions", NULL, half, &r);
    assert_int_equal(r.status, 400); /* only blanks: not JSON, but taken */
    response_deinit(&r);
    free(half);
    server = before;
    fake_stop(small, 1);
}

/* ---- Slow clients -------------------------------------------------------- */

static void slow_clients_are_dropped_and_others_served(void **state)
{
    ap_serve_options o = fake_options();
    o.header_ms = 400;
    o.body_ms = 400;
    o.write_ms = 400;
    fake_server *strict = fake_start(&o), *before = server;
    server = strict;
    int idle = client_connect(strict), head = client_connect(strict), body = client_connect(strict),
        reader = client_connect(strict);
    send_post(reader, STREAM("flood"));
    send_text(body, POST_HEAD "Content-Length: 100\r\n\r\n");
    uint64_t end = now_ms() + 1500;
    bool head_gone = false, body_gone = false;
    while (now_ms() < end && !(head_gone && body_gone)) { /* a byte now and then does not help */
        head_gone = head_gone || !client_send(head, "X", 1);
        body_gone = body_gone || !client_send(body, " ", 1);
        assert_serves();
        (void)usleep(20000);
    }
    assert_true(head_gone);
    assert_true(body_gone);
    assert_true(is_closed_within(idle, 2000));
    assert_true(fake_wait_live(strict, 0, 3000)); /* the one that does not read */
    (void)close(idle);
    (void)close(head);
    (void)close(body);
    (void)close(reader);
    server = before;
    fake_stop(strict, 1);
}

static void a_waiting_client_is_not_slow(void **state)
{
    ap_serve_options o = fake_options();
    o.header_ms = o.body_ms = o.write_ms = 300;
    fake_server *strict = fake_start(&o);
    int fd = client_connect(strict);
    send_post(fd, STREAM("wait"));
    assert_true(fake_wait_live(strict, 1, 2000));
    (void)usleep(1200000);
    assert_int_equal(fake_live(strict), 1);
    (void)close(fd);
    assert_true(fake_wait_live(strict, 0, 2000));
    fake_stop(strict, 1);
}

/* ---- Clients that leave -------------------------------------------------- */

static void a_client_that_leaves_frees_its_request_at_once(void **state)
{
    static const char *const bodies[] = {CHAT("hang"), STREAM("hang"), CHAT("wait"), STREAM("wait"),
                                         CHAT("drip"), STREAM("drip"), STREAM("flood")};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        for (int how = 0; how < 2; how++) {
            int fd = client_connect(server);
            struct linger reset = {.l_onoff = 1, .l_linger = 0};
            send_post(fd, bodies[i]);
            assert_true(fake_wait_live(server, 1, 2000));
            (void)usleep(10000);
            if (how) /* with a reset instead of an end */
                assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
            uint64_t left = now_ms();
            (void)close(fd);
            if (!fake_wait_live(server, 0, 1000))
                fail_msg("request %zu goes on for nobody", i);
            assert_true(now_ms() - left < 500);
        }
    assert_serves();
}

static void clients_that_leave_at_every_byte_leave_nothing_behind(void **state)
{
    static const char raw[] = POST_HEAD "Content-Type: application/json\r\nContent-Length: 81\r\n\r\n" STREAM("cut:a|b|c");
    assert_int_equal(strlen(STREAM("cut:a|b|c")), 81);
    for (size_t n = 0; n < sizeof raw; n++) {
        int fd = client_connect(server);
        assert_true(client_send(fd, raw, n));
        (void)close(fd);
    }
    assert_true(fake_wait_live(server, 0, 2000));
    assert_serves();
}

static void a_stream_cut_at_every_byte_does_no_harm(void **state)
{
    char bytes[2048];
    for (size_t n = 0; n < 900; n += 7) {
        int fd = client_connect(server);
        size_t got = 0;
        send_post(fd, STREAM("drip"));
        while (got < n) {
            ssize_t more = recv(fd, bytes, n - got < sizeof bytes ? n - got : sizeof bytes, 0);
            assert_true(more > 0);
            got += (size_t)more;
        }
        (void)close(fd);
    }
    assert_true(fake_wait_live(server, 0, 2000));
    assert_serves();
}

/* ---- Many ---------------------------------------------------------------- */

static void a_full_queue_answers_429_at_once(void **state)
{
    enum { CALLS = 3 };
    ap_serve_options o = fake_options();
    o.calls_max = CALLS;
    fake_server *small = fake_start(&o);
    int fds[CALLS];
    for (int i = 0; i < CALLS; i++) {
        fds[i] = client_connect(small);
        send_post(fds[i], CHAT("wait"));
    }
    assert_true(fake_wait_live(small, CALLS, 2000));
    response r;
    uint64_t asked = now_ms();
    client_request(small, "POST", "/v1/chat/completions", NULL, CHAT("hi"), &r);
    assert_int_equal(r.status, 429);
    assert_true(now_ms() - asked < 200);
    size_t length;
    assert_non_null(response_header(&r, "Retry-After", &length));
    response_deinit(&r);
    (void)close(fds[0]);
    assert_true(fake_wait_live(small, CALLS - 1, 2000));
    client_request(small, "POST", "/v1/chat/completions", NULL, CHAT("hi"), &r);
    assert_int_equal(r.status, 200);
    response_deinit(&r);
    for (int i = 1; i < CALLS; i++)
        (void)close(fds[i]);
    fake_stop(small, 1);
}

static void more_connections_than_allowed_do_not_stop_the_others(void **state)
{
    enum { IDLE = 40 };
    ap_serve_options o = fake_options();
    o.connections_max = 16;
    o.header_ms = 500;
    fake_server *small = fake_start(&o), *before = server;
    server = small;
    int fds[IDLE];
    for (int i = 0; i < IDLE; i++)
        fds[i] = client_connect(small);
    (void)usleep(1200000); /* the idle ones are dropped in time */
    assert_serves();
    for (int i = 0; i < IDLE; i++)
        (void)close(fds[i]);
    server = before;
    fake_stop(small, 1);
}

static void streams_side_by_side_keep_apart(void **state)
{
    enum { STREAMS = 32 };
    int fds[STREAMS];
    char body[200], wanted[32];
    for (int i = 0; i < STREAMS; i++) {
        fds[i] = client_connect(server);
        (void)snprintf(body, sizeof body, STREAM("cut:<%d|%d>"), i, i);
        send_post(fds[i], body);
    }
    for (int i = 0; i < STREAMS; i++) {
        response r;
        client_read(fds[i], &r);
        (void)snprintf(wanted, sizeof wanted, "\"content\":\"<%d\"", i);
        if (!body_contains(&r, wanted))
            fail_msg("'%s' is not in: %s", wanted, r.body.ptr);
        (void)snprintf(wanted, sizeof wanted, "\"content\":\"%d>\"", i);
        assert_true(body_contains(&r, wanted));
        assert_true(r.is_whole);
        response_deinit(&r);
        (void)close(fds[i]);
    }
}

/* ---- The end ------------------------------------------------------------- */

static void an_idle_server_stops_at_the_first_signal(void **state)
{
    ap_serve_options o = fake_options();
    fake_server *s = fake_start(&o);
    int idle = client_connect(s); /* open, but asks nothing */
    fake_signal(s);
    assert_true(fake_ended(s, 1000));
    (void)close(idle);
    fake_stop(s, 0);
}

static void the_first_signal_lets_requests_end_and_takes_no_more(void **state)
{
    ap_serve_options o = fake_options();
    fake_server *s = fake_start(&o);
    int kept = client_connect(s), busy = client_connect(s);
    response r;
    send_text(kept, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client_read(kept, &r);
    response_deinit(&r);
    send_post(busy, "{\"model\":\"tiny\",\"stream\":true,\"max_tokens\":60,\"messages\":[{\"role\":\"user\",\"content\":\"drip\"}]}");
    assert_true(fake_wait_live(s, 1, 2000));
    fake_signal(s);
    send_post(kept, CHAT("hi"));
    client_read(kept, &r);
    assert_int_equal(r.status, 503);
    response_deinit(&r);
    client_read(busy, &r);
    assert_true(r.is_whole);
    assert_true(body_contains(&r, "[DONE]"));
    response_deinit(&r);
    assert_true(fake_ended(s, 2000));
    (void)close(kept);
    (void)close(busy);
    fake_stop(s, 0);
}

static void the_second_signal_stops_at_once(void **state)
{
    ap_serve_options o = fake_options();
    fake_server *s = fake_start(&o);
    int fds[3] = {client_connect(s), client_connect(s), client_connect(s)};
    send_post(fds[0], STREAM("wait"));
    send_post(fds[1], CHAT("wait"));
    send_post(fds[2], STREAM("flood"));
    assert_true(fake_wait_live(s, 3, 2000));
    fake_signal(s);
    assert_false(fake_ended(s, 300));
    fake_signal(s);
    assert_true(fake_ended(s, 1000));
    for (int i = 0; i < 3; i++)
        (void)close(fds[i]);
    fake_stop(s, 0);
}

static void draining_has_an_end(void **state)
{
    ap_serve_options o = fake_options();
    o.drain_s = 1;
    fake_server *s = fake_start(&o);
    int fd = client_connect(s);
    send_post(fd, CHAT("wait"));
    assert_true(fake_wait_live(s, 1, 2000));
    fake_signal(s);
    assert_true(fake_ended(s, 3000));
    (void)close(fd);
    fake_stop(s, 0);
}

static void a_taken_port_is_named(void **state)
{
    ap_serve_options o = fake_options();
    ap_error error = {0};
    fake_backend *backend = fake_backend_create();
    o.port = fake_port(server);
    assert_int_equal(ap_serve_loop(&o, fake_backend_of(backend), -1, &error), AP_E_IO);
    assert_non_null(strstr(error.message, "port"));
    o.host = "no.such.host.invalid";
    assert_int_equal(ap_serve_loop(&o, fake_backend_of(backend), -1, &error), AP_E_IO);
    o.model_count = 0;
    assert_int_equal(ap_serve_loop(&o, fake_backend_of(backend), -1, &error), AP_E_ARG);
    fake_backend_destroy(backend);
}

/* ---- Hosts and origins --------------------------------------------------- */

static void hosts_are_judged_by_name_and_not_by_port(void **state)
{
    static const char *const listed[] = {"models.example"};
    static const struct {
        const char *host, *listening;
        bool is_allowed;
    } cases[] = {
        {"localhost", "127.0.0.1", true},        {"127.0.0.1:8080", "127.0.0.1", true},
        {"[::1]", "127.0.0.1", true},            {"[::1]:80", "127.0.0.1", true},
        {"models.example:443", "127.0.0.1", true}, {"MODELS.example", "127.0.0.1", true},
        {"box.lan", "box.lan", true},            {"box.lan", "0.0.0.0", false},
        {"10.0.0.7:8080", "0.0.0.0", true},      {"[fe80::1]:8080", "::", true},
        {"10.0.0.7", "127.0.0.1", false},        {"evil.example", "0.0.0.0", false},
        {"localhost.", "127.0.0.1", false},      {"localhost:", "127.0.0.1", false},
        {"localhost:x", "127.0.0.1", false},     {"localhost:123456", "127.0.0.1", false},
        {"[::1", "127.0.0.1", false},            {"[::1]x", "127.0.0.1", false},
        {"", "127.0.0.1", false},                {"localhost@evil.example", "127.0.0.1", false},
        {"127.1", "0.0.0.0", false},             {"2130706433", "0.0.0.0", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (ap_host_is_allowed(cases[i].host, cases[i].listening, listed, 1) != cases[i].is_allowed)
            fail_msg("host '%s' on '%s'", cases[i].host, cases[i].listening);
    assert_true(ap_origin_is_same("http://a:1", "a:1"));
    assert_true(ap_origin_is_same("https://A:1", "a:1"));
    assert_false(ap_origin_is_same("http://a:1", "a:2"));
    assert_false(ap_origin_is_same("null", "null"));
    assert_false(ap_origin_is_same("file://a", "a"));
    assert_false(ap_origin_is_same("http://a", "a:80"));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_lengths_in_one_request_are_refused),
        cmocka_unit_test(lengths_that_are_no_numbers_are_refused),
        cmocka_unit_test(folded_headers_and_bare_newlines_do_not_desynchronise),
        cmocka_unit_test(hosts_are_counted),
        cmocka_unit_test(limits_of_a_head_are_answered_in_json),
        cmocka_unit_test(other_transfer_encodings_are_refused),
        cmocka_unit_test(control_characters_in_headers_are_refused),
        cmocka_unit_test(what_the_library_refuses_ends_the_connection),
        cmocka_unit_test(arguments_without_end_are_dropped_at_the_deadline),
        cmocka_unit_test(large_headers_are_refused),
        cmocka_unit_test(a_long_address_is_refused),
        cmocka_unit_test(garbage_is_refused),
        cmocka_unit_test(a_byte_at_a_time_is_the_same_request),
        cmocka_unit_test(a_connection_serves_many_requests),
        cmocka_unit_test(requests_sent_at_once_are_answered_in_order),
        cmocka_unit_test(a_body_over_the_limit_is_refused_with_the_limit),
        cmocka_unit_test(an_endless_chunked_body_ends),
        cmocka_unit_test(bodies_at_once_have_a_limit),
        cmocka_unit_test(slow_clients_are_dropped_and_others_served),
        cmocka_unit_test(a_waiting_client_is_not_slow),
        cmocka_unit_test(a_client_that_leaves_frees_its_request_at_once),
        cmocka_unit_test(clients_that_leave_at_every_byte_leave_nothing_behind),
        cmocka_unit_test(a_stream_cut_at_every_byte_does_no_harm),
        cmocka_unit_test(a_full_queue_answers_429_at_once),
        cmocka_unit_test(more_connections_than_allowed_do_not_stop_the_others),
        cmocka_unit_test(streams_side_by_side_keep_apart),
        cmocka_unit_test(an_idle_server_stops_at_the_first_signal),
        cmocka_unit_test(the_first_signal_lets_requests_end_and_takes_no_more),
        cmocka_unit_test(the_second_signal_stops_at_once),
        cmocka_unit_test(draining_has_an_end),
        cmocka_unit_test(a_taken_port_is_named),
        cmocka_unit_test(hosts_are_judged_by_name_and_not_by_port),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
