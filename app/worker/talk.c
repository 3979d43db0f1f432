/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/talk.h"

#include "base/alloc.h"
#include "worker/event.h"

ap_status ap_talk_init(ap_talk *talk, ap_error *err)
{
    *talk = (ap_talk){0};
    talk->asked = ap_alloc_array(AP_WORKER_REQUESTS_MAX, sizeof *talk->asked);
    if (!talk->asked)
        return ap_fail_nomem(err, AP_WORKER_REQUESTS_MAX * sizeof *talk->asked);
    talk->reader.payload_max = AP_WORKER_EVENT_BYTES_MAX;
    talk->reader.kinds = AP_WIRE_KIND(AP_WORKER_READY) | AP_WIRE_KIND(AP_WORKER_ACCEPTED) |
                         AP_WIRE_KIND(AP_WORKER_TEXT) | AP_WIRE_KIND(AP_WORKER_DONE) |
                         AP_WIRE_KIND(AP_WORKER_ERROR) | AP_WIRE_KIND(AP_WORKER_STATS_REPLY);
    return AP_OK;
}

void ap_talk_deinit(ap_talk *talk)
{
    ap_wire_reader_deinit(&talk->reader);
    json_decref(talk->info);
    talk->info = NULL;
    ap_free(talk->asked);
    talk->asked = NULL;
    talk->asked_count = 0;
}

/* At most AP_WORKER_REQUESTS_MAX: a walk costs less than the frame it belongs to. */
static ap_asked *find(const ap_talk *talk, uint64_t id)
{
    for (size_t i = 0; i < talk->asked_count; i++)
        if (talk->asked[i].id == id)
            return &talk->asked[i];
    return NULL;
}

ap_status ap_talk_ask(ap_talk *talk, uint64_t id, ap_error *err)
{
    if (!talk->is_ready)
        return ap_fail(err, AP_E_STATE, "the worker is not ready");
    if (id == 0 || find(talk, id))
        return ap_fail(err, AP_E_ARG, "request id %" PRIu64 " is 0 or in use", id);
    if (talk->asked_count == AP_WORKER_REQUESTS_MAX)
        return ap_fail(err, AP_E_FULL, "%d requests are at work or waiting", AP_WORKER_REQUESTS_MAX);
    talk->asked[talk->asked_count++] = (ap_asked){.id = id};
    return AP_OK;
}

bool ap_talk_is_asked(const ap_talk *talk, uint64_t id) { return find(talk, id) != NULL; }

void ap_talk_forget(ap_talk *talk, uint64_t id)
{
    ap_asked *asked = find(talk, id);
    if (asked)
        *asked = talk->asked[--talk->asked_count];
}

static ap_status broke(ap_error *err, const char *what)
{
    return ap_fail(err, AP_E_WORKER, "the worker broke the protocol: %s", what);
}

static ap_status take_ready(ap_talk *talk, json_t *body, ap_error *err)
{
    const char *sandbox = json_string_value(json_object_get(body, "sandbox"));
    if (talk->is_ready)
        return broke(err, "READY came twice");
    if (strlen(sandbox) >= sizeof talk->sandbox)
        return broke(err, "its sandbox has a long name");
    memcpy(talk->sandbox, sandbox, strlen(sandbox) + 1);
    talk->info = json_incref(body);
    talk->is_ready = true;
    return AP_OK;
}

/* Whether what was said fits what was asked and what was said before. */
static ap_status check_turn(ap_talk *talk, json_t *body, const ap_worker_event *event, ap_error *err)
{
    if (event->kind == AP_WORKER_READY)
        return take_ready(talk, body, err);
    if (event->id == 0)
        return AP_OK;
    ap_asked *asked = find(talk, event->id);
    if (!asked)
        return broke(err, "it spoke of a request that it does not have");
    if (event->kind == AP_WORKER_ERROR)
        return AP_OK;
    if (asked->is_accepted == (event->kind == AP_WORKER_ACCEPTED))
        return broke(err, asked->is_accepted ? "ACCEPTED came twice" : "an answer came before ACCEPTED");
    asked->is_accepted = true;
    return AP_OK;
}

static ap_status hear_frame(ap_talk *talk, const ap_wire_frame *frame, ap_worker_event_fn *fn, void *context,
                            ap_error *err)
{
    ap_worker_event event;
    json_t *body = NULL;
    AP_TRY(ap_worker_event_read(frame, &event, &body, err));
    ap_status status = check_turn(talk, body, &event, err);
    if (status == AP_OK && event.kind == AP_WORKER_ERROR && event.id == 0) {
        (void)ap_fail(&talk->report, event.status, "%s", event.message); /* the end follows */
    } else if (status == AP_OK) {
        if (event.kind == AP_WORKER_DONE || event.kind == AP_WORKER_ERROR)
            ap_talk_forget(talk, event.id);
        if (fn)
            fn(context, &event);
    }
    json_decref(body);
    return status;
}

ap_status ap_talk_hear(ap_talk *talk, ap_worker_event_fn *fn, void *context, ap_error *err)
{
    for (;;) {
        ap_wire_frame frame;
        bool have;
        ap_error cut = {0};
        if (ap_wire_next(&talk->reader, &frame, &have, &cut) != AP_OK)
            return broke(err, cut.message);
        if (!have)
            return AP_OK;
        AP_TRY(hear_frame(talk, &frame, fn, context, err));
    }
}
