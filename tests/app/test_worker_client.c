/* The front's handle against workers that are honest, slow, dying and hostile.
 *
 * The worker here is this test program itself, started again: its name says how it behaves.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "worker/wire.h"
#include "worker/worker.h"

static const char ready_text[] = "{\"sandbox\":\"full\",\"model\":{\"name\":\"m\"},\"engine\":{}}";

/* ---- The worker's side --------------------------------------------------- */

static void say(uint32_t kind, uint64_t id, const char *json)
{
    ap_wire_writer writer = {0};
    (void)ap_wire_put(&writer, kind, id, json, strlen(json), NULL);
    while (ap_wire_unsent(&writer) && ap_wire_flush(&writer, 3, NULL) == AP_OK) {
        struct pollfd wait = {3, POLLOUT, 0};
        (void)poll(&wait, 1, 1000);
    }
    ap_wire_writer_deinit(&writer);
}

static ap_wire_frame await_frame(ap_wire_reader *reader)
{
    reader->kinds =
        AP_WIRE_KIND(AP_WORKER_JOB) | AP_WIRE_KIND(AP_WORKER_CANCEL) | AP_WIRE_KIND(AP_WORKER_STATS);
    reader->payload_max = AP_WORKER_JOB_BYTES_MAX;
    for (;;) {
        ap_wire_frame frame;
        bool have = false, is_open = true;
        if (ap_wire_next(reader, &frame, &have, NULL) != AP_OK)
            _exit(9);
        if (have)
            return frame;
        struct pollfd wait = {3, POLLIN, 0};
        (void)poll(&wait, 1, -1);
        if (ap_wire_fill(reader, 3, 1000000, &is_open, NULL) != AP_OK || !is_open)
            _exit(0);
    }
}

static _Noreturn void answer_all(void)
{
    ap_wire_reader reader = {0};
    say(AP_WORKER_READY, 0, ready_text);
    for (;;) {
        ap_wire_frame f = await_frame(&reader);
        if (f.kind == AP_WORKER_STATS) {
            say(AP_WORKER_STATS_REPLY, 0, "{\"running\":0}");
            continue;
        }
        if (f.kind == AP_WORKER_CANCEL) {
            say(AP_WORKER_DONE, f.id,
                "{\"finish_reason\":\"cancelled\",\"text\":\"\",\"stop\":null,\"prompt_tokens\":1,"
                "\"completion_tokens\":0,\"prompt_ms\":0,\"completion_ms\":0}");
            continue;
        }
        char count[64];
        (void)snprintf(count, sizeof count, "{\"prompt_tokens\":%u}", f.bytes);
        say(AP_WORKER_ACCEPTED, f.id, count);
        if (f.bytes == 4 && memcmp(f.payload, "wait", 4) == 0)
            continue;
        if (f.bytes == 3 && memcmp(f.payload, "die", 3) == 0)
            (void)syscall(SYS_tgkill, getpid(), getpid(), SIGKILL);
        if (f.bytes == 4 && memcmp(f.payload, "long", 4) == 0) {
            say(AP_WORKER_ERROR, f.id,
                "{\"status\":\"E_CONTEXT\",\"message\":\"too long\",\"param\":\"messages\","
                "\"prompt_tokens\":9000,\"context_tokens\":8192}");
            continue;
        }
        say(AP_WORKER_TEXT, f.id,
            "{\"text\":\"a\\u0000b\",\"tokens\":[{\"id\":1,\"logprob\":-0.5,\"text\":\"a\",\"bytes\":[97],"
            "\"top\":[]}]}");
        say(AP_WORKER_DONE, f.id,
            "{\"finish_reason\":\"stop\",\"text\":\"c\",\"stop\":\"###\",\"prompt_tokens\":3,"
            "\"completion_tokens\":2,\"prompt_ms\":1.5,\"completion_ms\":2}");
    }
}

#define DONE_WITH(finish, text, prompt)                                                                      \
    "{\"finish_reason\":" finish ",\"text\":" text ",\"stop\":null,\"prompt_tokens\":" prompt                \
    ",\"completion_tokens\":2,\"prompt_ms\":1,\"completion_ms\":2}"

#define TOKEN "\"id\":1,\"logprob\":0,\"text\":\"\",\"bytes\":[]"
#define TOPS_5 "{" TOKEN "},{" TOKEN "},{" TOKEN "},{" TOKEN "},{" TOKEN "}"
#define TOPS_21 TOPS_5 "," TOPS_5 "," TOPS_5 "," TOPS_5 ",{" TOKEN "}"

/* What a worker under a stranger's control may say to request 1. */
static const struct {
    uint32_t kind;
    uint64_t id;
    const char *json;
    bool is_early; /* before ACCEPTED; else after it */
} hostile[] = {
    {AP_WORKER_READY, 0, ready_text},        /* twice */
    {AP_WORKER_READY, 1, ready_text},        /* for a request */
    {AP_WORKER_JOB, 1, "{}"},                /* the front's kind */
    {77, 1, "{}"},                           /* no kind */
    {AP_WORKER_TEXT, 2, "{\"text\":\"x\"}"}, /* another's request */
    {AP_WORKER_TEXT, 0, "{\"text\":\"x\"}"},
    {AP_WORKER_DONE, UINT64_MAX, DONE_WITH("\"stop\"", "\"\"", "1")},
    {AP_WORKER_TEXT, 1, ""},
    {AP_WORKER_TEXT, 1, "[]"},
    {AP_WORKER_TEXT, 1, "{\"text\":\"x\""}, /* cut */
    {AP_WORKER_TEXT, 1, "{\"text\":\"x\"} more"},
    {AP_WORKER_TEXT, 1, "{\"text\":\"\xff\"}"},             /* not UTF-8 */
    {AP_WORKER_TEXT, 1, "{\"text\":\"\\ud800\"}"},          /* half a pair */
    {AP_WORKER_TEXT, 1, "{\"text\":\"x\",\"text\":\"y\"}"}, /* twice */
    {AP_WORKER_TEXT, 1, "{\"text\":5}"},
    {AP_WORKER_TEXT, 1, "{}"},
    {AP_WORKER_TEXT, 1, "{\"text\":\"\",\"tokens\":{}}"},
    {AP_WORKER_TEXT, 1, "{\"text\":\"\",\"tokens\":[5]}"},
    {AP_WORKER_TEXT, 1,
     "{\"text\":\"\",\"tokens\":[{\"id\":-1,\"logprob\":0,\"text\":\"\",\"bytes\":[],\"top\":[]}]}"},
    {AP_WORKER_TEXT, 1,
     "{\"text\":\"\",\"tokens\":[{\"id\":1,\"logprob\":1e999,\"text\":\"\",\"bytes\":[],\"top\":[]}]}"},
    {AP_WORKER_TEXT, 1,
     "{\"text\":\"\",\"tokens\":[{\"id\":1,\"logprob\":0,\"text\":\"\",\"bytes\":[256],\"top\":[]}]}"},
    {AP_WORKER_TEXT, 1,
     "{\"text\":\"\",\"tokens\":[{\"id\":1,\"logprob\":0,\"text\":\"\",\"bytes\":[],\"top\":[{}]}]}"},
    {AP_WORKER_TEXT, 1, "{\"text\":\"\",\"tokens\":[{" TOKEN ",\"top\":[" TOPS_21 "]}]}"},
    {AP_WORKER_TEXT, 1, "{\"text\":\"x\"}", true},
    {AP_WORKER_DONE, 1, DONE_WITH("\"stop\"", "\"\"", "1"), true},
    {AP_WORKER_ACCEPTED, 1, "{\"prompt_tokens\":1}"}, /* twice */
    {AP_WORKER_ACCEPTED, 1, "{\"prompt_tokens\":-1}", true},
    {AP_WORKER_ACCEPTED, 1, "{\"prompt_tokens\":4294967296}", true},
    {AP_WORKER_ACCEPTED, 1, "{\"prompt_tokens\":1.5}", true},
    {AP_WORKER_DONE, 1, DONE_WITH("\"because\"", "\"\"", "1")},
    {AP_WORKER_DONE, 1, DONE_WITH("\"stop\\u0000\"", "\"\"", "1")},
    {AP_WORKER_DONE, 1, DONE_WITH("null", "\"\"", "1")},
    {AP_WORKER_DONE, 1, DONE_WITH("\"stop\"", "null", "1")},
    {AP_WORKER_DONE, 1, DONE_WITH("\"stop\"", "\"\"", "-5")},
    {AP_WORKER_ERROR, 1, "{\"status\":\"OK\",\"message\":\"x\"}"},
    {AP_WORKER_ERROR, 1, "{\"status\":\"E_NONE\",\"message\":\"x\"}"},
    {AP_WORKER_ERROR, 1, "{\"status\":\"E_ARG\",\"message\":\"\"}"},
    {AP_WORKER_ERROR, 1, "{\"status\":\"E_ARG\",\"message\":\"two\\nlines\"}"},
    {AP_WORKER_ERROR, 1, "{\"status\":\"E_ARG\",\"message\":\"x\",\"param\":5}"},
    {AP_WORKER_ERROR, 1, "{\"status\":\"E_ARG\",\"message\":\"x\",\"prompt_tokens\":\"many\"}"},
    {AP_WORKER_STATS_REPLY, 1, "{}"},
};
enum { HOSTILE_COUNT = sizeof hostile / sizeof *hostile };

static _Noreturn void be_hostile(size_t which)
{
    ap_wire_reader reader = {0};
    say(AP_WORKER_READY, 0, ready_text);
    (void)await_frame(&reader);
    if (!hostile[which].is_early)
        say(AP_WORKER_ACCEPTED, 1, "{\"prompt_tokens\":1}");
    say(hostile[which].kind, hostile[which].id, hostile[which].json);
    for (;;) /* and stays: the front must not wait for it to go */
        pause();
}

/* A right conversation with some bytes changed. */
static _Noreturn void be_mutant(uint64_t seed)
{
    static const char *const lines[] = {"{\"prompt_tokens\":5}",
                                        "{\"text\":\"\u00e4x\",\"tokens\":[{\"id\":1,\"logprob\":-0.5,"
                                        "\"text\":\"a\",\"bytes\":[97],\"top\":[{\"id\":1,"
                                        "\"logprob\":-0.5,\"text\":\"a\",\"bytes\":[97]}]}]}",
                                        DONE_WITH("\"stop\"", "\"x\"", "5"),
                                        "{\"status\":\"E_ARG\",\"message\":\"x\",\"param\":\"stop\"}"};
    static const uint32_t kinds[] = {AP_WORKER_ACCEPTED, AP_WORKER_TEXT, AP_WORKER_DONE, AP_WORKER_ERROR};
    ap_wire_reader reader = {0};
    ap_wire_writer writer = {0};
    say(AP_WORKER_READY, 0, ready_text);
    (void)await_frame(&reader);
    for (size_t i = 0; i < 4; i++)
        (void)ap_wire_put(&writer, kinds[i], i == 3 ? 2 : 1, lines[i], strlen(lines[i]), NULL);
    for (uint64_t changes = 1 + ap_test_random(&seed) % 4; changes; changes--) {
        uint64_t r = ap_test_random(&seed);
        char *byte = &writer.buf.ptr[(r >> 16) % writer.buf.len];
        *byte = r & 1 ? (char)(*byte ^ (1 << ((r >> 1) & 7))) : "\"{}[],:0\\\xff"[(r >> 1) % 10];
    }
    (void)ap_wire_flush(&writer, 3, NULL);
    _exit(0);
}

static int fake_worker(const char *options)
{
    json_t *root = json_loads(options, 0, NULL);
    char name[100] = "";
    if (json_object_get(root, "name"))
        (void)snprintf(name, sizeof name, "%s", json_string_value(json_object_get(root, "name")));
    json_decref(root);
    if (strcmp(name, "honest") == 0)
        answer_all();
    if (strcmp(name, "mute") == 0)
        for (;;)
            pause();
    if (strncmp(name, "hostile ", 8) == 0)
        be_hostile((size_t)strtoul(name + 8, NULL, 10));
    if (strncmp(name, "mutant ", 7) == 0)
        be_mutant(strtoul(name + 7, NULL, 10));
    if (strcmp(name, "flood") == 0) {
        say(AP_WORKER_READY, 0, ready_text);
        char bytes[4096];
        memset(bytes, 0xff, sizeof bytes);
        for (;;)
            (void)!write(3, bytes, sizeof bytes);
    }
    if (strcmp(name, "bare ready") == 0)
        say(AP_WORKER_READY, 0, "{}");
    if (strcmp(name, "no model") == 0)
        say(AP_WORKER_ERROR, 0, "{\"status\":\"E_FORMAT\",\"message\":\"tensor 5 lies\"}");
    if (strcmp(name, "words") == 0)
        (void)!write(2, "thirst\n", 7);
    if (strcmp(name, "deaf") == 0) {
        say(AP_WORKER_READY, 0, ready_text);
        for (;;)
            pause();
    }
    if (strcmp(name, "looks") == 0) { /* at what it was given */
        extern char **environ;
        bool is_fine =
            environ[0] == NULL && getsid(0) == getpid() && fcntl(5, F_GETFD) < 0 && fcntl(6, F_GETFD) < 0;
        char byte;
        is_fine = is_fine && pread(4, &byte, 1, 0) == 1 && (fcntl(4, F_GETFL) & O_ACCMODE) == O_RDONLY;
        say(AP_WORKER_ERROR, 0,
            is_fine ? "{\"status\":\"E_STATE\",\"message\":\"fine\"}"
                    : "{\"status\":\"E_BUG\",\"message\":\"not fine\"}");
    }
    return 3;
}

/* ---- The front's side ---------------------------------------------------- */

typedef struct seen {
    unsigned accepted, text, done, failed, stats;
    uint64_t last_id;
    ap_finish finish;
    ap_status status;
    uint32_t prompt_tokens, context_tokens;
    char message[500], param[50], stop[50], text_bytes[50];
    size_t text_length;
} seen;

static void on_event(void *context, const ap_worker_event *e)
{
    seen *s = context;
    s->last_id = e->id;
    s->accepted += e->kind == AP_WORKER_ACCEPTED;
    s->text += e->kind == AP_WORKER_TEXT;
    s->done += e->kind == AP_WORKER_DONE;
    s->failed += e->kind == AP_WORKER_ERROR;
    s->stats += e->kind == AP_WORKER_STATS_REPLY;
    if (e->kind == AP_WORKER_TEXT && e->text_length < sizeof s->text_bytes) {
        s->text_length = e->text_length;
        memcpy(s->text_bytes, e->text, e->text_length);
        assert_true(!e->tokens || json_is_array(e->tokens));
    }
    if (e->kind == AP_WORKER_DONE) {
        s->finish = e->finish;
        (void)snprintf(s->stop, sizeof s->stop, "%s", e->stop ? e->stop : "");
    }
    if (e->kind == AP_WORKER_ERROR) {
        s->status = e->status;
        s->prompt_tokens = e->prompt_tokens;
        s->context_tokens = e->context_tokens;
        (void)snprintf(s->message, sizeof s->message, "%s", e->message);
        (void)snprintf(s->param, sizeof s->param, "%s", e->param ? e->param : "");
    }
}

static int model_fd = -1;

static ap_worker *start(const char *name)
{
    ap_worker *w = NULL;
    ap_worker_options o = {.model_fd = model_fd, .name = name};
    assert_ok(ap_worker_start(&w, &o, err));
    return w;
}

static ap_worker *start_ready(const char *name)
{
    ap_worker *w = start(name);
    assert_ok(ap_worker_wait_ready(w, 10000, err));
    return w;
}

/* Receives until `enough` or the end; fails after ten seconds. */
static ap_status receive_until(ap_worker *w, seen *s, const unsigned *counter, unsigned enough, ap_error *err)
{
    uint64_t end = ap_clock_ns() + 10000000000u;
    while (*counter < enough) {
        assert_true(ap_clock_ns() < end);
        struct pollfd wait = {ap_worker_fd(w), ap_worker_poll_events(w), 0};
        (void)poll(&wait, 1, 100);
        AP_TRY(ap_worker_receive(w, on_event, s, err));
    }
    return AP_OK;
}

static void an_honest_worker_answers(void **state)
{
    ap_worker *w = start_ready("honest");
    seen s = {0};
    assert_true(ap_worker_is_ready(w));
    assert_string_equal(ap_worker_sandbox(w), "full");
    assert_non_null(json_object_get(ap_worker_info(w), "model"));
    assert_ok(ap_worker_send(w, 7, "hello", 5, err));
    assert_int_equal(ap_worker_live_count(w), 1);
    assert_ok(receive_until(w, &s, &s.done, 1, err));
    assert_int_equal(s.accepted, 1);
    assert_int_equal(s.text, 1);
    assert_int_equal(s.text_length, 3);
    assert_memory_equal(s.text_bytes, "a\0b", 3);
    assert_int_equal(s.finish, AP_FINISH_STOP);
    assert_string_equal(s.stop, "###");
    assert_int_equal(ap_worker_live_count(w), 0);
    assert_int_equal(ap_worker_ask_stats(w), AP_OK);
    assert_ok(receive_until(w, &s, &s.stats, 1, err));
    assert_ok(ap_worker_send(w, 8, "long", 4, err));
    assert_ok(receive_until(w, &s, &s.failed, 1, err));
    assert_int_equal(s.status, AP_E_CONTEXT);
    assert_int_equal(s.prompt_tokens, 9000);
    assert_int_equal(s.context_tokens, 8192);
    assert_string_equal(s.param, "messages");
    ap_worker_stop(&w, 2000);
    assert_null(w);
}

static void a_request_is_cancelled(void **state)
{
    ap_worker *w = start_ready("honest");
    seen s = {0};
    assert_int_equal(ap_worker_cancel(w, 99), AP_OK); /* nobody's */
    assert_ok(ap_worker_send(w, 1, "wait", 4, err));
    assert_int_equal(ap_worker_cancel(w, 1), AP_OK);
    assert_ok(receive_until(w, &s, &s.done, 1, err));
    assert_int_equal(s.finish, AP_FINISH_CANCELLED);
    ap_worker_stop(&w, 2000);
}

static void a_thousand_requests_each_get_one_end(void **state)
{
    ap_worker *w = start_ready("honest");
    seen s = {0};
    for (uint64_t id = 1; id <= 1000; id++)
        assert_ok(ap_worker_send(w, id, "hello", 5, err));
    assert_ok(receive_until(w, &s, &s.done, 1000, err));
    assert_int_equal(s.done, 1000);
    assert_int_equal(s.failed, 0);
    ap_worker_stop(&w, 2000);
}

static void send_refuses_what_it_must(void **state)
{
    ap_worker *w = start("honest");
    assert_int_equal(ap_worker_send(w, 1, "x", 1, NULL), AP_E_STATE); /* not ready */
    assert_ok(ap_worker_wait_ready(w, 10000, err));
    assert_int_equal(ap_worker_send(w, 0, "x", 1, NULL), AP_E_ARG);
    assert_ok(ap_worker_send(w, 1, "wait", 4, err));
    assert_int_equal(ap_worker_send(w, 1, "x", 1, NULL), AP_E_ARG);
    assert_int_equal(ap_worker_send(w, 2, "x", (size_t)AP_WORKER_JOB_BYTES_MAX + 1, NULL), AP_E_LIMIT);
    for (uint64_t id = 2; id <= AP_WORKER_REQUESTS_MAX; id++)
        assert_ok(ap_worker_send(w, id, "wait", 4, err));
    assert_int_equal(ap_worker_send(w, 5000, "x", 1, NULL), AP_E_FULL);
    ap_worker_stop(&w, 2000);
    w = start_ready("deaf");
    char *large = ap_alloc_zero(1, AP_WORKER_JOB_BYTES_MAX);
    ap_status status = AP_OK;
    uint64_t id = 1;
    while (id < 10 && (status = ap_worker_send(w, id, large, AP_WORKER_JOB_BYTES_MAX, NULL)) == AP_OK)
        id++;
    assert_int_equal(status, AP_E_FULL); /* a worker that does not read fills no memory */
    assert_true(id <= 3);
    assert_true(ap_worker_poll_events(w) & POLLOUT);
    ap_free(large);
    ap_worker_stop(&w, 0);
}

static void writable_and_closed_models_are_refused(void **state)
{
    ap_worker *w = NULL;
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    ap_worker_options o = {.model_fd = fd, .name = "honest"};
    assert_int_equal(ap_worker_start(&w, &o, NULL), AP_E_ARG);
    close(fd);
    assert_int_equal(ap_worker_start(&w, &o, NULL), AP_E_ARG);
    o = (ap_worker_options){.model_fd = model_fd, .name = "\xff"};
    assert_int_equal(ap_worker_start(&w, &o, NULL), AP_E_ARG);
    assert_null(w);
}

static void hostile_frames_end_the_worker_and_fail_its_requests(void **state)
{
    for (size_t i = 0; i < HOSTILE_COUNT; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "hostile %zu", i);
        ap_worker *w = start_ready(name);
        pid_t pid = ap_worker_pid(w);
        seen s = {0};
        ap_error error = {0};
        assert_ok(ap_worker_send(w, 1, "{}", 2, err));
        unsigned never = 0;
        ap_status status = receive_until(w, &s, &never, 1, &error);
        if (status != AP_E_WORKER || !strstr(error.message, "protocol"))
            fail_msg("hostile frame %zu: %s", i, error.message);
        assert_int_equal(s.failed, 1);
        assert_int_equal(s.last_id, 1);
        assert_int_equal(s.status, AP_E_WORKER);
        assert_int_equal(s.text + s.done + s.stats, 0);
        assert_int_equal(s.accepted, !hostile[i].is_early);
        assert_int_equal(kill(pid, 0), -1); /* gone and reaped */
        assert_int_equal(ap_worker_live_count(w), 0);
        assert_int_equal(ap_worker_send(w, 2, "{}", 2, NULL), AP_E_STATE);
        assert_int_equal(ap_worker_receive(w, on_event, &s, NULL), AP_E_WORKER); /* and stays so */
        assert_int_equal(s.failed, 1);
        ap_worker_stop(&w, 0);
    }
}

/* Whatever bytes come: no crash, and each request ends exactly once. */
static void changed_bytes_never_lose_or_double_an_end(void **state)
{
    for (int seed = 1; seed <= 300; seed++) {
        char name[32];
        (void)snprintf(name, sizeof name, "mutant %d", seed);
        ap_worker *w = start_ready(name);
        seen s = {0};
        unsigned never = 0;
        assert_ok(ap_worker_send(w, 1, "{}", 2, err));
        assert_ok(ap_worker_send(w, 2, "{}", 2, err));
        assert_int_equal(receive_until(w, &s, &never, 1, NULL), AP_E_WORKER);
        assert_int_equal(s.done + s.failed, 2);
        ap_worker_stop(&w, 0);
    }
}

static void a_flood_is_refused_at_its_first_frame(void **state)
{
    ap_worker *w = start("flood"); /* READY may already be followed by the flood */
    seen s = {0};
    unsigned never = 0;
    ap_error error = {0};
    assert_int_equal(receive_until(w, &s, &never, 1, &error), AP_E_WORKER);
    ap_worker_stop(&w, 0);
}

static void a_killed_worker_fails_its_requests_and_only_them(void **state)
{
    ap_worker *w = start_ready("honest"), *other = start_ready("honest");
    seen s = {0}, t = {0};
    for (uint64_t id = 1; id <= 5; id++)
        assert_ok(ap_worker_send(w, id, "wait", 4, err));
    assert_ok(ap_worker_send(other, 1, "wait", 4, err));
    assert_ok(receive_until(w, &s, &s.accepted, 5, err));
    assert_int_equal(kill(ap_worker_pid(w), SIGKILL), 0);
    unsigned never = 0;
    ap_error error = {0};
    assert_int_equal(receive_until(w, &s, &never, 1, &error), AP_E_WORKER);
    assert_non_null(strstr(error.message, "signal 9"));
    assert_int_equal(s.failed, 5);
    assert_non_null(strstr(s.message, "signal 9"));
    assert_int_equal(ap_worker_cancel(other, 1), AP_OK);
    assert_ok(receive_until(other, &t, &t.done, 1, err));
    ap_worker_stop(&w, 0);
    ap_worker_stop(&other, 2000);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void a_worker_that_cannot_start_says_why(void **state)
{
    static const struct {
        const char *name;
        ap_status status;
        const char *message;
    } cases[] = {
        {"no model", AP_E_FORMAT, "tensor 5 lies"},
        {"words", AP_E_WORKER, "thirst"},
        {"unknown", AP_E_WORKER, "exit status 3"},
        {"bare ready", AP_E_WORKER, "READY"},
#if !defined(__SANITIZE_ADDRESS__)
        {"looks", AP_E_STATE, "fine"},
#endif
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ap_worker *w = start(cases[i].name);
        ap_error error = {0};
        ap_status status = ap_worker_wait_ready(w, 10000, &error);
        if (status != cases[i].status || !strstr(error.message, cases[i].message))
            fail_msg("'%s': %s (%s)", cases[i].name, error.message, ap_status_text(status));
        ap_worker_stop(&w, 0);
    }
}

static void waiting_for_ready_has_an_end(void **state)
{
    ap_worker *w = start("mute");
    uint64_t begin = ap_clock_ns();
    assert_int_equal(ap_worker_wait_ready(w, 100, NULL), AP_E_WORKER);
    assert_true(ap_clock_ns() - begin < 5000000000u);
    ap_worker_stop(&w, 10); /* does not go by itself */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void no_descriptor_is_left(void **state)
{
    int before = dup(0);
    close(before);
    for (int i = 0; i < 20; i++) {
        ap_worker *w = start_ready("honest");
        ap_worker_stop(&w, 2000);
    }
    ap_worker *none = NULL;
    ap_worker_stop(&none, 0);
    int after = dup(0);
    close(after);
    assert_int_equal(before, after);
}

static ap_status start_and_stop(void *context)
{
    ap_worker *w = NULL;
    ap_worker_options o = {.model_fd = model_fd, .name = "honest"};
    AP_TRY(ap_worker_start(&w, &o, NULL));
    ap_worker_stop(&w, 0);
    return AP_OK;
}

static void a_start_without_memory_is_a_status(void **state) { ap_test_each_oom(start_and_stop, NULL); }

/* ---- The supervisor with real processes ---------------------------------- */

static int opened;

static ap_status open_model(void *context, int *fd, ap_error *err)
{
    opened++;
    *fd = dup(model_fd);
    return *(bool *)context ? AP_OK : ap_fail(err, AP_E_NOTFOUND, "the model is gone");
}

static void run_supervisor(ap_supervisor *sup, seen *s, uint64_t now_ms, ap_supervisor_state wanted)
{
    for (int i = 0; i < 1000 && ap_supervisor_state_of(sup) != wanted; i++) {
        struct pollfd wait = {ap_supervisor_fd(sup), ap_supervisor_poll_events(sup), 0};
        (void)poll(&wait, 1, 10);
        ap_supervisor_step(sup, now_ms, on_event, s);
    }
    assert_int_equal(ap_supervisor_state_of(sup), wanted);
}

static void the_supervisor_restarts_and_tells_why(void **state)
{
    bool is_there = true;
    ap_supervisor *sup = NULL;
    ap_supervisor_options o = {.worker.name = "honest", .open = open_model, .open_context = &is_there};
    seen s = {0};
    char text[600];
    opened = 0;
    assert_ok(ap_supervisor_create(&sup, &o, 1000, err));
    assert_null(ap_supervisor_worker(sup));
    run_supervisor(sup, &s, 1000, AP_SUPERVISOR_READY);
    assert_int_equal(ap_supervisor_timeout_ms(sup, 1000), -1);
    assert_ok(ap_worker_send(ap_supervisor_worker(sup), 5, "die", 3, err));
    /* The first death: a new start at once, in the same or the next step. */
    for (int i = 0; i < 1000 && s.failed == 0; i++) {
        (void)poll(NULL, 0, 5);
        ap_supervisor_step(sup, 1000, on_event, &s);
    }
    assert_int_equal(s.failed, 1);
    assert_int_equal(s.last_id, 5);
    assert_non_null(strstr(s.message, "signal 9"));
    run_supervisor(sup, &s, 1000, AP_SUPERVISOR_READY);
    assert_int_equal(ap_supervisor_restarts(sup), 1);
    assert_int_equal(opened, 2);
    /* The second in a row waits a second; meanwhile the model goes away. */
    is_there = false;
    assert_int_equal(kill(ap_worker_pid(ap_supervisor_worker(sup)), SIGKILL), 0);
    run_supervisor(sup, &s, 2000, AP_SUPERVISOR_WAITING);
    assert_int_equal(ap_supervisor_timeout_ms(sup, 2000), 1000);
    assert_int_equal(ap_supervisor_fd(sup), -1);
    assert_null(ap_supervisor_worker(sup));
    ap_supervisor_describe(sup, 2000, text, sizeof text);
    assert_non_null(strstr(text, "restarts in 1 s"));
    assert_non_null(strstr(text, "signal 9"));
    ap_supervisor_step(sup, 2999, on_event, &s);
    assert_int_equal(opened, 2);
    ap_supervisor_step(sup, 3000, on_event, &s);
    assert_int_equal(opened, 3);
    assert_int_equal(ap_supervisor_timeout_ms(sup, 3000), 2000);
    ap_supervisor_describe(sup, 3000, text, sizeof text);
    assert_non_null(strstr(text, "the model is gone"));
    is_there = true;
    ap_supervisor_step(sup, 5000, on_event, &s);
    run_supervisor(sup, &s, 5000, AP_SUPERVISOR_READY);
    ap_supervisor_destroy(&sup, 2000);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void the_supervisor_gives_up_on_a_mute_worker(void **state)
{
    bool is_there = true;
    ap_supervisor *sup = NULL;
    ap_supervisor_options o = {
        .worker.name = "mute", .open = open_model, .open_context = &is_there, .ready_timeout_ms = 500};
    char text[600];
    assert_ok(ap_supervisor_create(&sup, &o, 0, err));
    ap_supervisor_step(sup, 499, NULL, NULL);
    assert_int_equal(ap_supervisor_state_of(sup), AP_SUPERVISOR_STARTING);
    ap_supervisor_step(sup, 500, NULL, NULL);
    ap_supervisor_describe(sup, 500, text, sizeof text);
    assert_non_null(strstr(text, "not ready within 500 ms"));
    ap_supervisor_destroy(&sup, 0);
    is_there = false;
    ap_error error = {0};
    assert_int_equal(ap_supervisor_create(&sup, &o, 0, &error), AP_E_NOTFOUND);
    assert_null(sup);
    assert_string_equal(error.message, "the model is gone");
}

static int open_self(void **state)
{
    model_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    return model_fd < 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "worker") == 0)
        return fake_worker(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_honest_worker_answers),
        cmocka_unit_test(a_request_is_cancelled),
        cmocka_unit_test(a_thousand_requests_each_get_one_end),
        cmocka_unit_test(send_refuses_what_it_must),
        cmocka_unit_test(writable_and_closed_models_are_refused),
        cmocka_unit_test(hostile_frames_end_the_worker_and_fail_its_requests),
        cmocka_unit_test(changed_bytes_never_lose_or_double_an_end),
        cmocka_unit_test(a_flood_is_refused_at_its_first_frame),
        cmocka_unit_test(a_killed_worker_fails_its_requests_and_only_them),
        cmocka_unit_test(a_worker_that_cannot_start_says_why),
        cmocka_unit_test(waiting_for_ready_has_an_end),
        cmocka_unit_test(no_descriptor_is_left),
        cmocka_unit_test(a_start_without_memory_is_a_status),
        cmocka_unit_test(the_supervisor_restarts_and_tells_why),
        cmocka_unit_test(the_supervisor_gives_up_on_a_mute_worker),
    };
    return cmocka_run_group_tests(tests, open_self, NULL);
}
