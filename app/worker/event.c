/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/event.h"

#include <math.h>

static ap_status broke(ap_error *err, const char *what)
{
    return ap_fail(err, AP_E_WORKER, "the worker broke the protocol: %s", what);
}

static bool get_u32(const json_t *object, const char *key, uint32_t *value)
{
    const json_t *number = json_object_get(object, key);
    if (!json_is_integer(number) || json_integer_value(number) < 0 || json_integer_value(number) > UINT32_MAX)
        return false;
    *value = (uint32_t)json_integer_value(number);
    return true;
}

static bool get_finite(const json_t *object, const char *key, double low, double *value)
{
    const json_t *number = json_object_get(object, key);
    if (!json_is_number(number))
        return false;
    *value = json_number_value(number);
    return isfinite(*value) && *value >= low;
}

/* A string without NUL inside, so that it is safe as a C string. */
static const char *get_text(const json_t *object, const char *key)
{
    const json_t *text = json_object_get(object, key);
    const char *value = json_string_value(text);
    return value && strlen(value) == json_string_length(text) ? value : NULL;
}

/* Nothing that moves a terminal's cursor. */
static bool is_one_line(const char *text)
{
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return false;
    return true;
}

/* "a, b_2": they go into a header. */
static bool are_names(const char *text)
{
    return strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_, ") == strlen(text);
}

static bool is_token(const json_t *token)
{
    uint32_t id;
    double logprob;
    const json_t *bytes = json_object_get(token, "bytes"), *byte;
    size_t i;
    if (!get_u32(token, "id", &id) || id > INT32_MAX || !get_finite(token, "logprob", -9999, &logprob) ||
        !json_is_string(json_object_get(token, "text")) || !json_is_array(bytes))
        return false;
    json_array_foreach(bytes, i, byte) if (!json_is_integer(byte) || json_integer_value(byte) < 0 ||
                                           json_integer_value(byte) > 255) return false;
    return true;
}

static bool are_tokens(const json_t *tokens)
{
    const json_t *token, *top, *other;
    size_t i, k;
    if (!json_is_array(tokens))
        return false;
    json_array_foreach(tokens, i, token)
    {
        if (!is_token(token))
            return false;
        top = json_object_get(token, "top");
        if (!json_is_array(top) || json_array_size(top) > AP_WORKER_TOP_LOGPROBS_MAX)
            return false;
        json_array_foreach(top, k, other) if (!is_token(other)) return false;
    }
    return true;
}

static bool are_calls(const json_t *calls)
{
    const json_t *call;
    size_t i;
    if (!json_is_array(calls))
        return false;
    json_array_foreach(calls, i, call)
    {
        uint32_t index;
        const json_t *id = json_object_get(call, "id"), *arguments = json_object_get(call, "arguments");
        const char *name = get_text(call, "name");
        if (!get_u32(call, "index", &index) || (id && !get_text(call, "id")) || (name == NULL) == (arguments == NULL) ||
            (arguments && !json_is_string(arguments)))
            return false;
    }
    return true;
}

static bool take_text(const json_t *body, ap_worker_event *event)
{
    const json_t *text = json_object_get(body, "text"), *reasoning = json_object_get(body, "reasoning");
    event->text = json_string_value(text);
    event->text_length = json_string_length(text);
    event->reasoning = json_string_value(reasoning);
    event->reasoning_length = json_string_length(reasoning);
    event->calls = json_object_get(body, "calls");
    return event->text && (!reasoning || event->reasoning) && (!event->calls || are_calls(event->calls));
}

static ap_status read_done(const json_t *body, ap_worker_event *event, ap_error *err)
{
    const char *reason = get_text(body, "finish_reason");
    if (reason && strcmp(reason, "stop") == 0)
        event->finish = AP_FINISH_STOP;
    else if (reason && strcmp(reason, "length") == 0)
        event->finish = AP_FINISH_LENGTH;
    else if (reason && strcmp(reason, "cancelled") == 0)
        event->finish = AP_FINISH_CANCELLED;
    else
        return broke(err, "DONE without a finish_reason that is known");
    const json_t *stop = json_object_get(body, "stop");
    event->stop = get_text(body, "stop");
    if (!take_text(body, event) || (!event->stop && !json_is_null(stop)) ||
        !get_u32(body, "prompt_tokens", &event->prompt_tokens) ||
        !get_u32(body, "completion_tokens", &event->completion_tokens) ||
        !get_finite(body, "prompt_ms", 0, &event->prompt_ms) ||
        !get_finite(body, "completion_ms", 0, &event->completion_ms))
        return broke(err, "a field of DONE is missing or wrong");
    return AP_OK;
}

static ap_status read_error(const json_t *body, ap_worker_event *event, ap_error *err)
{
    const char *name = get_text(body, "status");
    event->message = get_text(body, "message");
    event->param = get_text(body, "param");
    const json_t *param = json_object_get(body, "param");
    if (!name || !ap_wire_status_from(ap_str_from(name), &event->status) || !event->message ||
        !*event->message || strlen(event->message) >= sizeof((ap_error *)0)->message ||
        (param && !json_is_null(param) && !event->param))
        return broke(err, "a field of ERROR is missing or wrong");
    if (!is_one_line(event->message))
        return broke(err, "the message of an ERROR is not one line");
    if ((json_object_get(body, "prompt_tokens") && !get_u32(body, "prompt_tokens", &event->prompt_tokens)) ||
        (json_object_get(body, "context_tokens") && !get_u32(body, "context_tokens", &event->context_tokens)))
        return broke(err, "a count of an ERROR is wrong");
    return AP_OK;
}

static ap_status read_ready(const json_t *body, ap_error *err)
{
    const char *sandbox = get_text(body, "sandbox");
    if (!sandbox || !is_one_line(sandbox) || !json_is_object(json_object_get(body, "model")) ||
        !json_is_object(json_object_get(body, "engine")))
        return broke(err, "a field of READY is missing or wrong");
    return AP_OK;
}

static ap_status read_by_kind(const json_t *body, ap_worker_event *event, ap_error *err)
{
    bool of_worker = event->kind == AP_WORKER_READY || event->kind == AP_WORKER_STATS_REPLY;
    if (of_worker ? event->id != 0 : event->id == 0 && event->kind != AP_WORKER_ERROR)
        return broke(err, "a frame of the worker has a request's id, or the other way round");
    switch (event->kind) {
    case AP_WORKER_READY:
        return read_ready(body, err);
    case AP_WORKER_STATS_REPLY:
        return AP_OK;
    case AP_WORKER_ACCEPTED:
        event->no_effect = get_text(body, "no_effect");
        if (json_object_get(body, "no_effect") && (!event->no_effect || !are_names(event->no_effect)))
            return broke(err, "a field of ACCEPTED is wrong");
        return get_u32(body, "prompt_tokens", &event->prompt_tokens) ? AP_OK
                                                                     : broke(err, "ACCEPTED without a count");
    case AP_WORKER_TEXT:
        event->tokens = json_object_get(body, "tokens");
        if (!take_text(body, event) || (event->tokens && !are_tokens(event->tokens)))
            return broke(err, "a field of TEXT is missing or wrong");
        return AP_OK;
    case AP_WORKER_DONE:
        return read_done(body, event, err);
    case AP_WORKER_ERROR:
        return read_error(body, event, err);
    default:
        return broke(err, "it sent a frame that only the front sends");
    }
}

ap_status ap_worker_event_read(const ap_wire_frame *frame, ap_worker_event *event, json_t **out,
                               ap_error *err)
{
    json_error_t detail;
    json_t *body = json_loadb(frame->payload, frame->bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &detail);
    *event = (ap_worker_event){.kind = (ap_worker_kind)frame->kind, .id = frame->id, .body = body};
    ap_status status =
        json_is_object(body) ? read_by_kind(body, event, err) : broke(err, "a payload is not a JSON object");
    *out = status == AP_OK ? body : NULL;
    if (status != AP_OK)
        json_decref(body);
    return status;
}
