/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_fake.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

enum { JOBS_MAX = 256, DRIP_MS = 5, CLIENT_S = 60 };

typedef struct fake_job {
    ap_job_id id; /* 0: free */
    ap_worker_event_fn *fn;
    void *context;
    json_t *job;
    char *text;
    unsigned step;
    uint64_t due_ms;
} fake_job;

struct fake_backend {
    fake_job jobs[JOBS_MAX];
    ap_job_id last_id;
    atomic_uint live, cancelled;
};

static uint64_t now_ms(void) { return ap_clock_ns() / 1000000; }

static const char *prompt_text(const json_t *job)
{
    const json_t *messages = json_object_get(job, "messages");
    const json_t *last = json_array_get(messages, json_array_size(messages) ? json_array_size(messages) - 1 : 0);
    const char *text = json_string_value(messages ? json_object_get(last, "content") : json_object_get(job, "prompt"));
    return text ? text : "";
}

static void release(fake_backend *f, fake_job *j)
{
    json_decref(j->job);
    free(j->text);
    *j = (fake_job){0};
    atomic_fetch_sub(&f->live, 1);
}

static ap_status submit(void *self, size_t model, const char *json, size_t length, ap_worker_event_fn *fn,
                        void *context, ap_job_id *id, ap_error *err)
{
    fake_backend *f = self;
    json_t *job = json_loadb(json, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    assert_non_null(job);
    const char *text = prompt_text(job);
    ap_status status = AP_OK;
    if (strcmp(text, "full") == 0)
        status = ap_fail(err, AP_E_FULL, "full");
    if (strcmp(text, "starting") == 0)
        status = ap_fail(err, AP_E_STATE, "/secret/path is starting");
    size_t i = 0;
    while (i < JOBS_MAX && f->jobs[i].id)
        i++;
    if (status == AP_OK && i == JOBS_MAX)
        status = ap_fail(err, AP_E_FULL, "no room in the test");
    if (status != AP_OK) {
        json_decref(job);
        return status;
    }
    char *copy = strcmp(text, "job") == 0 ? strndup(json, length) : strdup(text);
    assert_non_null(copy); /* not from base: tests that make memory end mean the server's */
    f->jobs[i] = (fake_job){++f->last_id, fn, context, job, copy, 0, now_ms()};
    *id = f->last_id;
    atomic_fetch_add(&f->live, 1);
    return AP_OK;
}

static void cancel(void *self, size_t model, ap_job_id id)
{
    fake_backend *f = self;
    for (size_t i = 0; i < JOBS_MAX; i++)
        if (f->jobs[i].id == id) {
            release(f, &f->jobs[i]);
            atomic_fetch_add(&f->cancelled, 1);
        }
}

static ap_status describe(void *self, size_t model, ap_buf *out, bool *is_ready, ap_error *err)
{
    *is_ready = true;
    return ap_buf_add_str(out, AP_STR("{\"name\":\"tiny\",\"state\":\"ready\",\"sandbox\":\"full\"}"), err);
}

static size_t poll_none(void *self, struct pollfd *fds, size_t room, int *timeout_ms)
{
    fake_backend *f = self;
    for (size_t i = 0; i < JOBS_MAX; i++)
        if (f->jobs[i].id && (*timeout_ms < 0 || *timeout_ms > 1))
            *timeout_ms = 1;
    return 0;
}

/* ---- The script ---------------------------------------------------------- */

static void say(fake_job *j, const ap_worker_event *event)
{
    ap_worker_event copy = *event;
    copy.id = j->id;
    j->fn(j->context, &copy);
}

/* A token with its text, of which `shown` bytes are told as text. */
static void say_token(fake_job *j, const char *text, size_t length, size_t shown)
{
    json_t *tokens = NULL;
    if (json_is_true(json_object_get(j->job, "logprobs"))) {
        json_int_t top = json_integer_value(json_object_get(j->job, "top_logprobs"));
        json_t *bytes = json_array(), *tops = json_array();
        for (size_t i = 0; i < shown; i++) /* of a flood none: they would take longer than the flood */
            json_array_append_new(bytes, json_integer((unsigned char)text[i]));
        for (json_int_t i = 0; i < top; i++)
            json_array_append_new(tops, json_pack("{s:i,s:s#,s:O,s:f}", "id", (int)i, "text", i ? "other" : text,
                                                  i ? (size_t)5 : length, "bytes", bytes, "logprob", -0.5 - (double)i));
        tokens = json_pack("[{s:i,s:s#,s:f,s:o,s:o}]", "id", 5, "text", text, length, "logprob", -0.5, "bytes", bytes,
                           "top", tops);
        assert_non_null(tokens);
    }
    say(j, &(ap_worker_event){.kind = AP_WORKER_TEXT, .text = text, .text_length = shown, .tokens = tokens});
    json_decref(tokens);
}

static void say_text(fake_job *j, const char *text, size_t length) { say_token(j, text, length, length); }

static void end(fake_backend *f, fake_job *j, const ap_worker_event *event)
{
    fake_job copy = *j;
    *j = (fake_job){0}; /* a callback may not find it any more */
    ap_worker_event last = *event;
    last.id = copy.id;
    last.prompt_tokens = 7;
    atomic_fetch_sub(&f->live, 1);
    copy.fn(copy.context, &last);
    json_decref(copy.job);
    free(copy.text);
}

static void say_done(fake_backend *f, fake_job *j, ap_finish finish, unsigned count)
{
    end(f, j, &(ap_worker_event){.kind = AP_WORKER_DONE, .text = "", .finish = finish, .completion_tokens = count});
}

static void say_error(fake_backend *f, fake_job *j, ap_status status, const char *message, const char *param)
{
    end(f, j, &(ap_worker_event){.kind = AP_WORKER_ERROR, .status = status, .message = message, .param = param});
}

static void play_pieces(fake_backend *f, fake_job *j, unsigned step)
{
    static const char *const hello[] = {"Hel", "lo wor", "ld!"};
    if (strncmp(j->text, "cut:", 4) == 0) {
        const char *p = j->text + 4;
        for (unsigned i = 1; i < step && p; i++)
            p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL;
        if (p)
            say_text(j, p, strcspn(p, "|"));
        else
            say_done(f, j, AP_FINISH_STOP, step - 1);
    } else if (json_object_get(j->job, "kind") && j->text[0] == '{') { /* "job" */
        if (step == 1)
            say_text(j, j->text, strlen(j->text));
        else
            say_done(f, j, AP_FINISH_LENGTH, 1);
    } else if (step <= 3) {
        say_text(j, hello[step - 1], strlen(hello[step - 1]));
    } else {
        say_done(f, j, AP_FINISH_STOP, 3);
    }
}

static void play(fake_backend *f, fake_job *j)
{
    static char flood[65536];
    const char *t = j->text;
    unsigned step = j->step++;
    ap_job_id id = j->id;
    if (strcmp(t, "hang") == 0)
        return;
    if (strcmp(t, "long") == 0) {
        say_error(f, j, AP_E_CONTEXT, "the prompt has 9,000 tokens, the context 8,192", "messages");
    } else if (strcmp(t, "template") == 0) {
        say_error(f, j, AP_E_TEMPLATE, "roles must alternate", "messages");
    } else if (step == 0) {
        say(j, &(ap_worker_event){.kind = AP_WORKER_ACCEPTED, .prompt_tokens = 7});
    } else if (strcmp(t, "wait") == 0) {
        return;
    } else if (strcmp(t, "drip") == 0) {
        json_int_t most = json_integer_value(json_object_get(j->job, "max_tokens"));
        if (most && step > most) {
            say_done(f, j, AP_FINISH_LENGTH, (unsigned)most);
            return;
        }
        say_text(j, "x ", 2);
        if (j->id == id)
            j->due_ms = now_ms() + DRIP_MS;
    } else if (strcmp(t, "flood") == 0) {
        memset(flood, 'y', sizeof flood);
        say_token(j, flood, sizeof flood, json_is_true(json_object_get(j->job, "logprobs")) ? 0 : sizeof flood);
    } else if ((strcmp(t, "die") == 0 || strcmp(t, "nan") == 0) && step > 2) {
        bool is_nan = strcmp(t, "nan") == 0;
        say_error(f, j, is_nan ? AP_E_NUMERIC : AP_E_WORKER, "/secret/path at 0x7fff was ended by signal 11", NULL);
    } else {
        play_pieces(f, j, step);
    }
}

static void step(void *self)
{
    fake_backend *f = self;
    uint64_t now = now_ms();
    for (size_t i = 0; i < JOBS_MAX; i++)
        if (f->jobs[i].id && f->jobs[i].due_ms <= now)
            play(f, &f->jobs[i]);
}

fake_backend *fake_backend_create(void)
{
    fake_backend *f = calloc(1, sizeof *f);
    assert_non_null(f);
    return f;
}

void fake_backend_destroy(fake_backend *f)
{
    for (size_t i = 0; i < JOBS_MAX; i++)
        if (f->jobs[i].id)
            release(f, &f->jobs[i]);
    free(f);
}

ap_backend fake_backend_of(fake_backend *f)
{
    static const ap_backend_ops ops = {submit, cancel, describe, poll_none, step};
    return (ap_backend){&ops, f};
}

unsigned fake_backend_live(const fake_backend *f) { return atomic_load(&f->live); }

/* ---- The server ---------------------------------------------------------- */

struct fake_server {
    ap_serve_options options;
    fake_backend *backend; /* NULL over another one */
    ap_backend over;
    int stop_fd;
    pthread_t thread;
    atomic_uint port; /* 0: not yet */
    atomic_bool is_over;
    ap_status status;
    ap_error error;
};

ap_serve_options fake_options(void)
{
    static const ap_served_model models[] = {
        {.name = "tiny", .packed_fd = -1, .digest = "0123456789abcdef0123456789abcdef", .created = 1700000000},
        {.name = "org/other", .packed_fd = -1, .digest = "fedcba9876543210", .created = 1700000001}};
    ap_serve_options o = ap_serve_options_default();
    o.port = 0;
    o.models = models;
    o.model_count = 2;
    o.drain_s = 5;
    return o;
}

static ap_status on_listening(void *context, const char *host, uint16_t port, ap_error *err)
{
    atomic_store(&((fake_server *)context)->port, port);
    return AP_OK;
}

static void *serve(void *context)
{
    fake_server *s = context;
    s->status = ap_serve_loop(&s->options, s->over, s->stop_fd, &s->error);
    atomic_store(&s->is_over, true);
    return NULL;
}

static void nap(void) { (void)usleep(1000); }

static fake_server *start(const ap_serve_options *options, fake_backend *fake, ap_backend over)
{
    fake_server *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->backend = fake;
    s->over = over;
    s->options = *options;
    s->options.listening = on_listening;
    s->options.listening_context = s;
    s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(s->stop_fd >= 0);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
    while (!atomic_load(&s->port) && !atomic_load(&s->is_over))
        nap();
    if (atomic_load(&s->is_over))
        fail_msg("the server did not start: %s", s->error.message);
    return s;
}

fake_server *fake_start(const ap_serve_options *options)
{
    fake_backend *fake = fake_backend_create();
    return start(options, fake, fake_backend_of(fake));
}

fake_server *fake_start_over(const ap_serve_options *options, ap_backend backend)
{
    return start(options, NULL, backend);
}

void fake_signal(fake_server *s)
{
    uint64_t one = 1;
    assert_int_equal(write(s->stop_fd, &one, sizeof one), sizeof one);
    for (int i = 0; i < 50 && !atomic_load(&s->is_over); i++)
        nap(); /* two writes at once would be read as one */
}

bool fake_ended(fake_server *s, unsigned timeout_ms)
{
    for (unsigned i = 0; i < timeout_ms && !atomic_load(&s->is_over); i++)
        nap();
    return atomic_load(&s->is_over);
}

void fake_stop(fake_server *s, unsigned times)
{
    for (unsigned i = 0; i < times && !atomic_load(&s->is_over); i++)
        fake_signal(s);
    assert_int_equal(pthread_join(s->thread, NULL), 0);
    assert_int_equal(s->status, AP_OK);
    assert_int_equal(fake_live(s), 0); /* nothing goes on for nobody */
    if (s->backend)
        fake_backend_destroy(s->backend);
    (void)close(s->stop_fd);
    free(s);
}

uint16_t fake_port(const fake_server *s) { return (uint16_t)atomic_load(&s->port); }
unsigned fake_live(const fake_server *s) { return s->backend ? atomic_load(&s->backend->live) : 0; }
unsigned fake_cancelled(const fake_server *s) { return s->backend ? atomic_load(&s->backend->cancelled) : 0; }

bool fake_wait_live(const fake_server *s, unsigned count, unsigned timeout_ms)
{
    for (unsigned i = 0; i < timeout_ms && fake_live(s) != count; i++)
        nap();
    return fake_live(s) == count;
}

/* ---- The client ---------------------------------------------------------- */

int client_connect(const fake_server *server)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(fake_port(server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = CLIENT_S};
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

bool client_send(int fd, const char *bytes, size_t count)
{
    while (count) {
        ssize_t sent = send(fd, bytes, count, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        bytes += sent;
        count -= (size_t)sent;
    }
    return true;
}

const char *response_header(const response *r, const char *name, size_t *length)
{
    size_t name_length = strlen(name);
    for (const char *line = r->head.ptr; line && *line; line = strstr(line, "\r\n") ? strstr(line, "\r\n") + 2 : NULL)
        if (strncasecmp(line, name, name_length) == 0 && line[name_length] == ':') {
            const char *value = line + name_length + 1 + strspn(line + name_length + 1, " ");
            *length = strcspn(value, "\r\n");
            return value;
        }
    return NULL;
}

/* Takes whole chunks from the front of `raw`; true at the last one. */
static bool join_chunks(ap_buf *raw, ap_buf *body)
{
    size_t at = 0;
    bool is_last = false;
    for (;;) {
        char *line_end = raw->len > at ? memmem(raw->ptr + at, raw->len - at, "\r\n", 2) : NULL;
        if (!line_end)
            break;
        size_t size = strtoul(raw->ptr + at, NULL, 16), start = (size_t)(line_end - raw->ptr) + 2;
        if (raw->len < start + size + 2)
            break;
        (void)ap_buf_add(body, raw->ptr + start, size, NULL);
        at = start + size + 2;
        if (size == 0) {
            is_last = true;
            break;
        }
    }
    memmove(raw->ptr, raw->ptr + at, raw->len - at);
    raw->len -= at;
    return is_last;
}

void client_read(int fd, response *r)
{
    char bytes[16384];
    ap_buf raw = {0};
    size_t length, wanted = SIZE_MAX;
    bool is_chunked = false;
    *r = (response){0};
    for (;;) {
        if (!r->status) {
            char *head_end = raw.len ? memmem(raw.ptr, raw.len, "\r\n\r\n", 4) : NULL;
            if (head_end) {
                size_t head_bytes = (size_t)(head_end - raw.ptr) + 4;
                (void)ap_buf_add(&r->head, raw.ptr, head_bytes, NULL);
                memmove(raw.ptr, raw.ptr + head_bytes, raw.len - head_bytes);
                raw.len -= head_bytes;
                r->status = atoi(r->head.ptr + strcspn(r->head.ptr, " "));
                is_chunked = response_header(r, "Transfer-Encoding", &length) != NULL;
                const char *value = response_header(r, "Content-Length", &length);
                wanted = value ? strtoul(value, NULL, 10) : r->status == 204 ? 0 : SIZE_MAX;
            }
        }
        if (r->status && is_chunked) {
            r->is_whole = join_chunks(&raw, &r->body);
        } else if (r->status) {
            (void)ap_buf_add(&r->body, raw.ptr, raw.len, NULL);
            raw.len = 0;
            r->is_whole = r->body.len >= wanted;
        }
        ssize_t got = r->is_whole ? 0 : recv(fd, bytes, sizeof bytes, 0);
        if (got <= 0)
            break;
        (void)ap_buf_add(&raw, bytes, (size_t)got, NULL);
    }
    ap_buf_deinit(&raw);
    (void)ap_buf_add(&r->body, "", 0, NULL);
    if (!r->body.ptr)
        (void)ap_buf_reserve(&r->body, 1, NULL);
    r->body.ptr[r->body.len] = 0;
}

void response_deinit(response *r)
{
    ap_buf_deinit(&r->head);
    ap_buf_deinit(&r->body);
}

void client_request(const fake_server *server, const char *method, const char *path, const char *headers,
                    const char *body, response *out)
{
    ap_buf text = {0};
    int fd = client_connect(server);
    assert_ok(ap_buf_printf(&text, err, "%s %s HTTP/1.1\r\n%s%s", method, path, headers ? headers : "",
                            headers && strcasestr(headers, "host:") ? "" : "Host: localhost\r\n"));
    if (body && !(headers && strcasestr(headers, "transfer-encoding")))
        assert_ok(ap_buf_printf(&text, err, "Content-Length: %zu\r\n", strlen(body)));
    assert_ok(ap_buf_printf(&text, err, "Connection: close\r\n\r\n"));
    if (body)
        assert_ok(ap_buf_add(&text, body, strlen(body), err));
    (void)client_send(fd, text.ptr, text.len); /* a refusal may come before the end of a body */
    client_read(fd, out);
    ap_buf_deinit(&text);
    (void)close(fd);
}

bool body_contains(const response *r, const char *text) { return memmem(r->body.ptr, r->body.len, text, strlen(text)); }
