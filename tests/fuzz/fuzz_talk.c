/* What a worker says, as the front hears it and writes it to its clients.
 *
 * The input is the bytes of the socket; when it begins with '#' it is lines, "#" kind letter, request digit, payload,
 * which get their headers here: mutations then find their way to the JSON.  Kinds: r READY, a ACCEPTED, t TEXT,
 * d DONE, e ERROR, s STATS_REPLY.
 *
 * Holds: cut anywhere, the stream says the same; each request ends at most once and says nothing after; each answer is
 * JSON, or a stream of JSON, that is whole when it is said to be.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/utf8.h"
#include "serve/api.h"
#include "worker/talk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CALLS = 4, JOBS = 5 };

static const struct {
    const char *path, *body;
} calls[CALLS] = {
    {"/v1/chat/completions", "{\"model\":\"m\",\"n\":2,\"stream\":true,\"logprobs\":true,\"top_logprobs\":2,"
                             "\"stream_options\":{\"include_usage\":true},\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}"},
    {"/v1/chat/completions", "{\"model\":\"m\",\"logprobs\":true,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}"},
    {"/v1/completions", "{\"model\":\"m\",\"stream\":true,\"prompt\":\"x\",\"logprobs\":1}"},
    {"/v1/completions", "{\"model\":\"m\",\"prompt\":\"x\",\"logprobs\":1}"},
};

typedef struct front {
    ap_talk talk;
    uint64_t last_id;
    struct {
        ap_worker_event_fn *fn;
        void *context;
        bool is_over;
    } jobs[JOBS + 1]; /* by id; 0 is none */
    uint64_t heard; /* a digest of the events */
    unsigned events;
} front;

static void hold(bool condition)
{
    if (!condition)
        abort();
}

/* ---- A backend whose worker is the input --------------------------------- */

static ap_status submit(void *self, size_t model, const char *json, size_t length, ap_worker_event_fn *fn, void *context,
                        ap_job_id *id, ap_error *err)
{
    front *f = self;
    *id = ++f->last_id;
    hold(*id <= JOBS);
    f->jobs[*id].fn = fn;
    f->jobs[*id].context = context;
    return AP_OK;
}

static void cancel(void *self, size_t model, ap_job_id id)
{
    front *f = self;
    hold(id >= 1 && id <= JOBS && !f->jobs[id].is_over);
    f->jobs[id].fn = NULL;
}

static ap_status describe(void *self, size_t model, ap_buf *out, bool *is_ready, ap_error *err)
{
    *is_ready = true;
    return ap_buf_add_str(out, AP_STR("{}"), err);
}

static size_t poll_nothing(void *self, struct pollfd *fds, size_t room, int *timeout_ms) { return 0; }
static void step(void *self) {}

/* ---- Events -------------------------------------------------------------- */

static void digest(front *f, const void *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        f->heard = (f->heard ^ ((const unsigned char *)bytes)[i]) * UINT64_C(1099511628211);
}

static void check_event(const ap_worker_event *e)
{
    if (e->kind == AP_WORKER_TEXT || e->kind == AP_WORKER_DONE)
        hold(ap_utf8_valid((ap_str){e->text, e->text_length}) && e->text[e->text_length] == 0);
    if (e->kind == AP_WORKER_DONE)
        hold(e->finish <= AP_FINISH_CANCELLED && e->prompt_ms >= 0 && e->completion_ms >= 0);
    if (e->kind == AP_WORKER_ERROR)
        hold(e->status != AP_OK && e->message[0] && !strchr(e->message, '\n'));
}

static void on_event(void *context, const ap_worker_event *e)
{
    front *f = context;
    check_event(e);
    f->events++;
    digest(f, &e->kind, sizeof e->kind);
    digest(f, &e->id, sizeof e->id);
    digest(f, e->text, e->text_length);
    if (e->kind == AP_WORKER_READY)
        for (uint64_t id = 1; id <= JOBS; id++)
            hold(ap_talk_ask(&f->talk, id, NULL) == AP_OK);
    if (e->id == 0)
        return;
    hold(e->id <= JOBS && !f->jobs[e->id].is_over);
    f->jobs[e->id].is_over = e->kind == AP_WORKER_DONE || e->kind == AP_WORKER_ERROR;
    if (f->jobs[e->id].fn)
        f->jobs[e->id].fn(f->jobs[e->id].context, e);
}

/* ---- Answers ------------------------------------------------------------- */

static void check_json(const char *text, size_t length)
{
    json_t *root = json_loadb(text, length, JSON_ALLOW_NUL, NULL);
    hold(json_is_object(root));
    json_decref(root);
}

static void check_reply(const ap_reply *r)
{
    const char *at = r->body.ptr ? r->body.ptr : "", *end = at + r->body.len;
    hold(!r->is_broken);
    if (!r->is_stream) {
        hold(r->is_complete == (r->status != 0) && (r->status != 0 || r->body.len == 0));
        if (r->is_complete)
            check_json(at, r->body.len);
        return;
    }
    hold(r->status == 200);
    while (at < end) {
        const char *stop = memmem(at, (size_t)(end - at), "\n\n", 2);
        hold(stop && strncmp(at, "data: ", 6) == 0);
        if (stop - at == 12 && memcmp(at, "data: [DONE]", 12) == 0)
            hold(stop + 2 == end && r->is_complete);
        else
            check_json(at + 6, (size_t)(stop - at) - 6);
        at = stop + 2;
    }
}

/* ---- One conversation ---------------------------------------------------- */

static void talk(front *f, const char *bytes, size_t count, size_t piece)
{
    static const ap_backend_ops ops = {submit, cancel, describe, poll_nothing, step};
    const ap_served_model model = {.name = "m", .digest = "0123456789abcdef"};
    ap_serve_options options = ap_serve_options_default();
    ap_reply replies[CALLS] = {0};
    ap_call *running[CALLS];
    ap_api *api;
    options.models = &model;
    options.model_count = 1;
    *f = (front){0};
    hold(ap_talk_init(&f->talk, NULL) == AP_OK);
    hold(ap_api_create(&api, &options, (ap_backend){&ops, f}, NULL) == AP_OK);
    for (size_t i = 0; i < CALLS; i++) {
        ap_api_request request = {.method = "POST", .path = calls[i].path, .body = ap_str_from(calls[i].body)};
        ap_api_begin(api, &request, &replies[i], &running[i]);
        hold(running[i] && !replies[i].is_complete);
    }
    ap_error error = {0};
    ap_status status = AP_OK;
    for (size_t at = 0; at < count && status == AP_OK; at += piece) {
        size_t length = count - at < piece ? count - at : piece;
        hold(ap_buf_add(&f->talk.reader.buf, bytes + at, length, NULL) == AP_OK);
        status = ap_talk_hear(&f->talk, on_event, f, &error);
    }
    hold(status == AP_OK || (status == AP_E_WORKER && error.message[0]));
    digest(f, &status, sizeof status);
    for (size_t i = 0; i < CALLS; i++) {
        check_reply(&replies[i]);
        ap_api_end(api, &running[i]);
        ap_reply_deinit(&replies[i]);
    }
    hold(ap_api_call_count(api) == 0);
    ap_api_destroy(&api);
    ap_talk_deinit(&f->talk);
}

/* "#kd…" lines to frames. */
static void put_lines(ap_wire_writer *writer, const char *text, size_t size)
{
    static const char letters[] = "ratdes"; /* READY … STATS_REPLY */
    while (size) {
        const char *end = memchr(text, '\n', size);
        size_t length = end ? (size_t)(end - text) : size;
        const char *letter = length > 2 && text[1] ? strchr(letters, text[1]) : NULL;
        if (letter)
            hold(ap_wire_put(writer, AP_WORKER_READY + (uint32_t)(letter - letters), (uint64_t)(text[2] - '0'), text + 3,
                             length - 3, NULL) == AP_OK);
        length += end != NULL;
        text += length;
        size -= length;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static front whole, cut; /* large, and read after talk() */
    ap_wire_writer writer = {0};
    const char *bytes = (const char *)data;
    ap_log_set_level(AP_LOG_ERROR); /* a failed request is a line each */
    if (size && *bytes == '#') {
        put_lines(&writer, bytes, size);
        bytes = writer.buf.ptr;
        size = writer.buf.len;
    }
    talk(&whole, bytes, size, size ? size : 1);
    talk(&cut, bytes, size, 7 + size / 5);
    hold(whole.heard == cut.heard && whole.events == cut.events);
    ap_wire_writer_deinit(&writer);
    return 0;
}
