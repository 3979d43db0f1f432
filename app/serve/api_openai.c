/* POST /v1/chat/completions and /v1/completions: from jobs and the worker's
 * events to one JSON answer or a stream of chunks.
 *
 * Both ways go through the same pieces: a stream writes each piece as a
 * chunk, an answer collects them per choice.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <sodium.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "serve/answer_calls.h"
#include "serve/api.h"
#include "serve/openai_read.h"

typedef struct job {
    ap_call *call;
    ap_job_id id;
    uint32_t index; /* of the choice in the answer */
    bool is_live, is_accepted;
    uint32_t prompt_tokens, completion_tokens;
    ap_finish finish;
    ap_buf text;     /* not streamed: the answer */
    ap_buf reasoning;
    ap_answer_calls calls;
    ap_buf logprobs; /* not streamed: entries, commas between */
    ap_buf offsets;  /* not streamed completions: text_offset */
    ap_buf values, tops;
    size_t offset;   /* completions: characters in the tokens so far */
} job;

struct ap_call {
    ap_api *api;
    ap_reply *reply;
    size_t model;
    ap_openai_request request;
    bool is_chat, is_over;
    char id[48];
    int64_t created;
    size_t job_count, accepted_count, done_count;
    size_t held_bytes; /* of all answers, not yet written */
    ap_buf chunk; /* being written */
    job jobs[];
};

/* ---- Ends ---------------------------------------------------------------- */

static void cancel_jobs(ap_call *call)
{
    ap_backend *backend = &call->api->backend;
    for (size_t i = 0; i < call->job_count; i++)
        if (call->jobs[i].is_live) {
            call->jobs[i].is_live = false;
            backend->ops->cancel(backend->self, call->model, call->jobs[i].id);
        }
}

/* What clients may read of a failure: nothing of the machine's inside. */
static void refusal_of(ap_status status, const char *message, const char *param, ap_refusal *refusal)
{
    switch (status) {
    case AP_E_CONTEXT:
        (void)ap_refuse(refusal, 400, param, "context_length_exceeded", "%s", message);
        break;
    case AP_E_ARG:
    case AP_E_LIMIT:
    case AP_E_UNSUPPORTED:
    case AP_E_FORMAT:
    case AP_E_TEMPLATE:
        (void)ap_refuse(refusal, 400, param, status == AP_E_TEMPLATE ? "template_refused" : NULL, "%s", message);
        break;
    case AP_E_FULL:
        (void)ap_refuse(refusal, 429, NULL, "queue_full", "too many requests are at work or waiting; try again later");
        break;
    case AP_E_STATE:
        (void)ap_refuse(refusal, 503, NULL, "model_not_ready", "the model is not ready; /readyz says why, try again later");
        break;
    case AP_E_WORKER:
        (void)ap_refuse(refusal, 503, NULL, "worker_ended",
                        "the process that holds the model ended; it is being started again");
        break;
    case AP_E_NOMEM:
        (void)ap_refuse(refusal, 503, NULL, "out_of_memory", "memory ended");
        break;
    case AP_E_NUMERIC:
        (void)ap_refuse(refusal, 500, NULL, "not_finite", "the model produced a value that is not a number");
        break;
    default:
        (void)ap_refuse(refusal, 500, NULL, "internal_error", "%s", ap_status_text(status));
        break;
    }
}

/* Before the status line the failure is the answer, after it the last thing in the stream. */
static void fail_call(ap_call *call, const ap_refusal *refusal)
{
    call->is_over = true;
    cancel_jobs(call);
    if (!call->reply->is_stream) {
        ap_reply_refuse(call->reply, refusal);
        return;
    }
    ap_buf text = {0};
    ap_status status = ap_buf_add_str(&text, AP_STR("data: "), NULL);
    if (status == AP_OK)
        status = ap_refusal_write(&text, refusal, NULL);
    if (status == AP_OK)
        status = ap_buf_add_str(&text, AP_STR("\n\n"), NULL);
    if (status == AP_OK)
        ap_reply_add(call->reply, text.ptr, text.len);
    else
        call->reply->is_broken = true;
    ap_buf_deinit(&text);
    ap_reply_complete(call->reply, 0, NULL);
}

static void fail_status(ap_call *call, ap_status status)
{
    ap_refusal refusal;
    refusal_of(status, "", NULL, &refusal);
    fail_call(call, &refusal);
}

static void fail_size(ap_call *call)
{
    ap_refusal refusal;
    (void)ap_refuse(&refusal, 400, NULL, "answer_too_large",
                    "the answer is longer than the limit of %d bytes; stream it, or ask for fewer tokens, answers or "
                    "log-probabilities",
                    AP_REPLY_BODY_BYTES_MAX);
    fail_call(call, &refusal);
}

/* ---- Log-probabilities --------------------------------------------------- */

static ap_str text_of(const json_t *token)
{
    const json_t *text = json_object_get(token, "text");
    return (ap_str){json_string_value(text), json_string_length(text)};
}

static double logprob_of(const json_t *token) { return json_number_value(json_object_get(token, "logprob")); }

static ap_status add_chat_token(ap_buf *out, const json_t *token, ap_error *err)
{
    const json_t *bytes = json_object_get(token, "bytes"), *byte;
    size_t i;
    AP_TRY(ap_buf_add_str(out, AP_STR("{\"token\":"), err));
    AP_TRY(ap_json_add_text(out, text_of(token), err));
    AP_TRY(ap_buf_printf(out, err, ",\"logprob\":%.9g,\"bytes\":[", logprob_of(token)));
    json_array_foreach(bytes, i, byte)
        AP_TRY(ap_buf_printf(out, err, i ? ",%d" : "%d", (int)json_integer_value(byte)));
    return ap_buf_add_char(out, ']', err);
}

static ap_status add_chat_logprobs(ap_buf *out, const json_t *tokens, ap_error *err)
{
    const json_t *token, *top;
    size_t i, k;
    json_array_foreach(tokens, i, token) {
        if (out->len)
            AP_TRY(ap_buf_add_char(out, ',', err));
        AP_TRY(add_chat_token(out, token, err));
        AP_TRY(ap_buf_add_str(out, AP_STR(",\"top_logprobs\":["), err));
        json_array_foreach(json_object_get(token, "top"), k, top) {
            if (k)
                AP_TRY(ap_buf_add_char(out, ',', err));
            AP_TRY(add_chat_token(out, top, err));
            AP_TRY(ap_buf_add_char(out, '}', err));
        }
        AP_TRY(ap_buf_add_str(out, AP_STR("]}"), err));
    }
    return AP_OK;
}

/* {"text":logprob,…}: the likeliest ones and the drawn one.  Two tokens may have one text (bytes that are
 * no character alone); the likelier is kept, since a JSON object has one of each. */
static ap_status add_text_tops(ap_buf *out, const json_t *token, ap_error *err)
{
    const json_t *tops = json_object_get(token, "top"), *top, *other;
    size_t i, k, used = 0;
    AP_TRY(ap_buf_add_char(out, '{', err));
    json_array_foreach(tops, i, top) {
        bool is_known = false;
        for (k = 0; k < i; k++) {
            other = json_array_get(tops, k);
            is_known = is_known || ap_str_equal(text_of(other), text_of(top));
        }
        if (is_known)
            continue;
        AP_TRY(ap_buf_printf(out, err, used++ ? "," : ""));
        AP_TRY(ap_json_add_text(out, text_of(top), err));
        AP_TRY(ap_buf_printf(out, err, ":%.9g", logprob_of(top)));
    }
    bool is_known = false;
    json_array_foreach(tops, i, top)
        is_known = is_known || ap_str_equal(text_of(top), text_of(token));
    if (!is_known) {
        AP_TRY(ap_buf_printf(out, err, used ? "," : ""));
        AP_TRY(ap_json_add_text(out, text_of(token), err));
        AP_TRY(ap_buf_printf(out, err, ":%.9g", logprob_of(token)));
    }
    return ap_buf_add_char(out, '}', err);
}

/* Four parallel arrays: tokens, token_logprobs, top_logprobs, text_offset (in characters of the tokens' texts). */
static ap_status add_text_logprobs(job *j, const json_t *tokens, ap_error *err)
{
    const json_t *token, *byte;
    size_t i, k;
    json_array_foreach(tokens, i, token) {
        const char *comma = j->logprobs.len ? "," : "";
        AP_TRY(ap_buf_printf(&j->logprobs, err, "%s", comma));
        AP_TRY(ap_json_add_text(&j->logprobs, text_of(token), err));
        AP_TRY(ap_buf_printf(&j->values, err, "%s%.9g", comma, logprob_of(token)));
        AP_TRY(ap_buf_printf(&j->tops, err, "%s", comma));
        AP_TRY(add_text_tops(&j->tops, token, err));
        AP_TRY(ap_buf_printf(&j->offsets, err, "%s%zu", comma, j->offset));
        json_array_foreach(json_object_get(token, "bytes"), k, byte)
            j->offset += (json_integer_value(byte) & 0xc0) != 0x80;
    }
    return AP_OK;
}

static size_t held_by(const job *j)
{
    return j->text.len + j->reasoning.len + ap_answer_calls_bytes(&j->calls) + j->logprobs.len + j->values.len +
           j->tops.len + j->offsets.len;
}

static void clear_logprobs(job *j)
{
    j->call->held_bytes -= j->logprobs.len + j->values.len + j->tops.len + j->offsets.len;
    ap_buf_clear(&j->logprobs);
    ap_buf_clear(&j->values);
    ap_buf_clear(&j->tops);
    ap_buf_clear(&j->offsets);
}

static void clear_pieces(job *j)
{
    clear_logprobs(j);
    j->call->held_bytes -= held_by(j);
    ap_buf_clear(&j->text);
    ap_buf_clear(&j->reasoning);
    ap_answer_calls_told(&j->calls);
}

/* The value of "logprobs" of a choice, from what was collected. */
static ap_status write_logprobs(ap_buf *out, const job *j, ap_error *err)
{
    const ap_openai_request *r = &j->call->request;
    if (!r->logprobs)
        return ap_buf_add_str(out, AP_STR("null"), err);
    if (j->call->is_chat) {
        AP_TRY(ap_buf_add_str(out, AP_STR("{\"content\":["), err));
        AP_TRY(ap_buf_add_str(out, ap_buf_str(&j->logprobs), err));
        return ap_buf_add_str(out, AP_STR("],\"refusal\":null}"), err);
    }
    AP_TRY(ap_buf_add_str(out, AP_STR("{\"tokens\":["), err));
    AP_TRY(ap_buf_add_str(out, ap_buf_str(&j->logprobs), err));
    AP_TRY(ap_buf_add_str(out, AP_STR("],\"token_logprobs\":["), err));
    AP_TRY(ap_buf_add_str(out, ap_buf_str(&j->values), err));
    AP_TRY(ap_buf_add_str(out, AP_STR("],\"top_logprobs\":["), err));
    AP_TRY(ap_buf_add_str(out, ap_buf_str(&j->tops), err));
    AP_TRY(ap_buf_add_str(out, AP_STR("],\"text_offset\":["), err));
    AP_TRY(ap_buf_add_str(out, ap_buf_str(&j->offsets), err));
    return ap_buf_add_str(out, AP_STR("]}"), err);
}

/* ---- Writing ------------------------------------------------------------- */

static const char *finish_name(const job *j)
{
    if (j->finish == AP_FINISH_LENGTH)
        return "length";
    return j->calls.count ? "tool_calls" : "stop";
}

static ap_status write_head(ap_buf *out, const ap_call *call, const char *object, ap_error *err)
{
    const ap_served_model *model = &call->api->options->models[call->model];
    AP_TRY(ap_buf_printf(out, err, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%" PRId64 ",\"model\":", call->id, object,
                         call->created));
    AP_TRY(ap_json_add_text(out, ap_str_from(model->name), err));
    const char *adapter = model->adapter_sha256;
    return ap_buf_printf(out, err, ",\"system_fingerprint\":\"aperto-law%d-%.12s%s%.12s\"", AP_LAW_VERSION, model->digest,
                         adapter ? "-" : "", adapter ? adapter : "");
}

/* A prompt is counted once, however many answers it gets. */
static ap_status write_usage(ap_buf *out, const ap_call *call, ap_error *err)
{
    uint64_t prompt = 0, completion = 0;
    for (size_t i = 0; i < call->job_count; i++) {
        if (i % (size_t)call->request.fields.n == 0)
            prompt += call->jobs[i].prompt_tokens;
        completion += call->jobs[i].completion_tokens;
    }
    return ap_buf_printf(out, err,
                         "{\"prompt_tokens\":%" PRIu64 ",\"completion_tokens\":%" PRIu64 ",\"total_tokens\":%" PRIu64 "}",
                         prompt, completion, prompt + completion);
}

/* What is new of an answer goes out in one chunk per kind: clients look at one field of a delta. */
typedef enum chunk_kind { CHUNK_ROLE, CHUNK_REASONING, CHUNK_TEXT, CHUNK_CALLS, CHUNK_FINISH, CHUNK_USAGE } chunk_kind;

static ap_status write_delta(ap_buf *out, const job *j, chunk_kind kind, ap_error *err)
{
    switch (kind) {
    case CHUNK_ROLE:
        return ap_buf_add_str(out, AP_STR("{\"role\":\"assistant\",\"content\":\"\"}"), err);
    case CHUNK_REASONING:
        AP_TRY(ap_buf_add_str(out, AP_STR("{\"reasoning_content\":"), err));
        AP_TRY(ap_json_add_text(out, ap_buf_str(&j->reasoning), err));
        break;
    case CHUNK_TEXT:
        AP_TRY(ap_buf_add_str(out, AP_STR("{\"content\":"), err));
        AP_TRY(ap_json_add_text(out, ap_buf_str(&j->text), err));
        break;
    case CHUNK_CALLS:
        AP_TRY(ap_buf_add_str(out, AP_STR("{\"tool_calls\":"), err));
        AP_TRY(ap_answer_calls_write_new(&j->calls, out, err));
        break;
    default:
        AP_TRY(ap_buf_add_char(out, '{', err));
        break;
    }
    return ap_buf_add_char(out, '}', err);
}

static ap_status write_choice(ap_buf *out, const job *j, chunk_kind kind, ap_error *err)
{
    AP_TRY(ap_buf_printf(out, err, "{\"index\":%" PRIu32 ",\"%s\":", j->index, j->call->is_chat ? "delta" : "text"));
    if (j->call->is_chat)
        AP_TRY(write_delta(out, j, kind, err));
    else
        AP_TRY(ap_json_add_text(out, kind == CHUNK_TEXT ? ap_buf_str(&j->text) : AP_STR(""), err));
    AP_TRY(ap_buf_add_str(out, AP_STR(",\"logprobs\":"), err));
    if (kind == CHUNK_REASONING || kind == CHUNK_TEXT || kind == CHUNK_CALLS)
        AP_TRY(write_logprobs(out, j, err));
    else
        AP_TRY(ap_buf_add_str(out, AP_STR("null"), err));
    if (kind == CHUNK_FINISH)
        return ap_buf_printf(out, err, ",\"finish_reason\":\"%s\"}", finish_name(j));
    return ap_buf_add_str(out, AP_STR(",\"finish_reason\":null}"), err);
}

static ap_status write_chunk(ap_buf *out, const ap_call *call, const job *j, chunk_kind kind, ap_error *err)
{
    ap_buf_clear(out);
    AP_TRY(ap_buf_add_str(out, AP_STR("data: "), err));
    AP_TRY(write_head(out, call, call->is_chat ? "chat.completion.chunk" : "text_completion", err));
    AP_TRY(ap_buf_add_str(out, AP_STR(",\"choices\":["), err));
    if (kind != CHUNK_USAGE)
        AP_TRY(write_choice(out, j, kind, err));
    AP_TRY(ap_buf_add_char(out, ']', err));
    if (call->request.include_usage) {
        AP_TRY(ap_buf_add_str(out, AP_STR(",\"usage\":"), err));
        if (kind == CHUNK_USAGE)
            AP_TRY(write_usage(out, call, err));
        else
            AP_TRY(ap_buf_add_str(out, AP_STR("null"), err));
    }
    return ap_buf_add_str(out, AP_STR("}\n\n"), err);
}

static bool send_chunk(ap_call *call, const job *j, chunk_kind kind)
{
    if (write_chunk(&call->chunk, call, j, kind, NULL) != AP_OK) {
        fail_status(call, AP_E_NOMEM);
        return false;
    }
    ap_reply_add(call->reply, call->chunk.ptr, call->chunk.len);
    return true;
}

/* What was collected of an answer; its log-probabilities go with the first chunk of it. */
static bool send_pieces(job *j)
{
    static const chunk_kind kinds[] = {CHUNK_REASONING, CHUNK_TEXT, CHUNK_CALLS};
    const bool has[] = {j->reasoning.len > 0, j->text.len > 0, ap_answer_calls_has_new(&j->calls)};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (has[i] && !send_chunk(j->call, j, kinds[i]))
            return false;
        if (has[i])
            clear_logprobs(j);
    }
    if (j->logprobs.len && !send_chunk(j->call, j, CHUNK_TEXT))
        return false;
    clear_pieces(j);
    return true;
}

static ap_status write_message(ap_buf *out, const job *j, ap_error *err)
{
    AP_TRY(ap_buf_add_str(out, AP_STR("\"message\":{\"role\":\"assistant\",\"content\":"), err));
    if (j->text.len == 0 && j->calls.count)
        AP_TRY(ap_buf_add_str(out, AP_STR("null"), err));
    else
        AP_TRY(ap_json_add_text(out, ap_buf_str(&j->text), err));
    if (j->reasoning.len) {
        AP_TRY(ap_buf_add_str(out, AP_STR(",\"reasoning_content\":"), err));
        AP_TRY(ap_json_add_text(out, ap_buf_str(&j->reasoning), err));
    }
    if (j->calls.count) {
        AP_TRY(ap_buf_add_str(out, AP_STR(",\"tool_calls\":"), err));
        AP_TRY(ap_answer_calls_write(&j->calls, out, err));
    }
    return ap_buf_add_str(out, AP_STR(",\"refusal\":null}"), err);
}

static ap_status write_answer(ap_buf *out, const ap_call *call, ap_error *err)
{
    AP_TRY(write_head(out, call, call->is_chat ? "chat.completion" : "text_completion", err));
    AP_TRY(ap_buf_add_str(out, AP_STR(",\"choices\":["), err));
    for (size_t i = 0; i < call->job_count; i++) {
        const job *j = &call->jobs[i];
        AP_TRY(ap_buf_printf(out, err, "%s{\"index\":%" PRIu32 ",", i ? "," : "", j->index));
        if (call->is_chat) {
            AP_TRY(write_message(out, j, err));
        } else {
            AP_TRY(ap_buf_add_str(out, AP_STR("\"text\":"), err));
            AP_TRY(ap_json_add_text(out, ap_buf_str(&j->text), err));
        }
        AP_TRY(ap_buf_add_str(out, AP_STR(",\"logprobs\":"), err));
        AP_TRY(write_logprobs(out, j, err));
        AP_TRY(ap_buf_printf(out, err, ",\"finish_reason\":\"%s\"}", finish_name(j)));
    }
    AP_TRY(ap_buf_add_str(out, AP_STR("],\"usage\":"), err));
    AP_TRY(write_usage(out, call, err));
    return ap_buf_add_char(out, '}', err);
}

/* ---- Events -------------------------------------------------------------- */

static void finish_call(ap_call *call)
{
    call->is_over = true;
    if (call->reply->is_stream) {
        if (call->request.include_usage && !send_chunk(call, NULL, CHUNK_USAGE))
            return;
        ap_reply_add(call->reply, "data: [DONE]\n\n", 14);
        ap_reply_complete(call->reply, 0, NULL);
        return;
    }
    ap_buf_clear(&call->chunk);
    if (write_answer(&call->chunk, call, NULL) != AP_OK) {
        fail_status(call, AP_E_NOMEM);
        return;
    }
    if (call->chunk.len > AP_REPLY_BODY_BYTES_MAX) {
        fail_size(call);
        return;
    }
    ap_reply_add(call->reply, call->chunk.ptr, call->chunk.len);
    ap_reply_complete(call->reply, 200, "application/json");
}

/* The names of what changes nothing: fields, and what the template does not read of its variables. */
static void tell_no_effect(ap_call *call, const char *kwargs)
{
    ap_openai_request *r = &call->request;
    for (size_t length; kwargs && *kwargs; kwargs += length + strspn(kwargs + length, ", ")) {
        length = strcspn(kwargs, ",");
        bool is_effort = r->fields.reasoning_effort && ap_str_is((ap_str){kwargs, length}, "reasoning_effort");
        ap_str_append(r->no_effect, sizeof r->no_effect, "%s%s%.*s", r->no_effect[0] ? ", " : "",
                      is_effort ? "" : "chat_template_kwargs.", (int)length, kwargs);
    }
    if (r->no_effect[0])
        ap_reply_header_add(call->reply, "Aperto-No-Effect", "%s", r->no_effect);
}

static void on_accepted(job *j, const ap_worker_event *event)
{
    ap_call *call = j->call;
    if (j->is_accepted)
        return;
    j->is_accepted = true;
    j->prompt_tokens = event->prompt_tokens;
    if (call->accepted_count == 0) /* all have the same variables */
        tell_no_effect(call, event->no_effect);
    if (++call->accepted_count < call->job_count || !call->request.fields.stream)
        return;
    /* All prompts fit: nothing that is the client's fault can come any more. */
    ap_reply_begin_stream(call->reply, 200, "text/event-stream");
    for (size_t i = 0; call->is_chat && i < call->job_count; i++)
        if (!send_chunk(call, &call->jobs[i], CHUNK_ROLE))
            return;
    for (size_t i = 0; i < call->job_count; i++) { /* what came of others meanwhile */
        job *early = &call->jobs[i];
        if (!send_pieces(early) || (early->id && !early->is_live && !send_chunk(call, early, CHUNK_FINISH)))
            return;
    }
}

static bool collect(job *j, const ap_worker_event *event)
{
    ap_call *call = j->call;
    ap_status status = AP_OK;
    size_t before = held_by(j), calls_max = call->request.fields.parallel_tool_calls ? AP_ANSWER_CALLS_MAX : 1;
    if (event->tokens && call->request.logprobs)
        status = call->is_chat ? add_chat_logprobs(&j->logprobs, event->tokens, NULL)
                               : add_text_logprobs(j, event->tokens, NULL);
    if (status == AP_OK)
        status = ap_buf_add(&j->text, event->text, event->text_length, NULL);
    if (status == AP_OK && event->reasoning)
        status = ap_buf_add(&j->reasoning, event->reasoning, event->reasoning_length, NULL);
    if (status == AP_OK)
        status = ap_answer_calls_take(&j->calls, event->calls, calls_max, NULL);
    call->held_bytes += held_by(j) - before;
    if (status != AP_OK)
        fail_status(call, status);
    else if (call->held_bytes > AP_REPLY_BODY_BYTES_MAX)
        fail_size(call);
    return !call->is_over;
}

static void on_text(job *j, const ap_worker_event *event)
{
    ap_call *call = j->call;
    if (collect(j, event) && call->reply->is_stream)
        (void)send_pieces(j);
}

static void on_done(job *j, const ap_worker_event *event)
{
    ap_call *call = j->call;
    j->is_live = false;
    if (event->finish == AP_FINISH_CANCELLED) { /* not by us: then no event would come */
        ap_refusal refusal;
        (void)ap_refuse(&refusal, 503, NULL, "cancelled", "the request was cancelled");
        fail_call(call, &refusal);
        return;
    }
    j->finish = event->finish;
    j->prompt_tokens = event->prompt_tokens;
    j->completion_tokens = event->completion_tokens;
    on_text(j, event);
    if (call->is_over || (call->reply->is_stream && !send_chunk(call, j, CHUNK_FINISH)))
        return;
    if (++call->done_count == call->job_count)
        finish_call(call);
}

static void on_event(void *context, const ap_worker_event *event)
{
    job *j = context;
    ap_call *call = j->call;
    if (call->is_over)
        return;
    switch (event->kind) {
    case AP_WORKER_ACCEPTED:
        on_accepted(j, event);
        break;
    case AP_WORKER_TEXT:
        on_text(j, event);
        break;
    case AP_WORKER_DONE:
        on_done(j, event);
        break;
    case AP_WORKER_ERROR: {
        ap_refusal refusal;
        j->is_live = false;
        /* A job has the name of the template for what it gives it. */
        const char *param = event->param && strcmp(event->param, "kwargs") == 0 ? "chat_template_kwargs" : event->param;
        refusal_of(event->status, event->message, param, &refusal);
        if (refusal.status >= 500)
            ap_log(AP_LOG_WARN, "request %s failed: %s", call->id, event->message);
        fail_call(call, &refusal);
        break;
    }
    default:
        break;
    }
}

/* ---- Begin and end ------------------------------------------------------- */

static bool find_model(const ap_api *api, const json_t *name, size_t *model, ap_refusal *refusal)
{
    ap_str wanted = {json_string_value(name), json_string_length(name)};
    for (*model = 0; *model < api->options->model_count; ++*model)
        if (ap_str_is(wanted, api->options->models[*model].name))
            return true;
    return ap_refuse(refusal, 404, "model", "model_not_found", "no model named '%.100s' is served", wanted.ptr);
}

static bool submit_jobs(ap_call *call, ap_refusal *refusal)
{
    ap_backend *backend = &call->api->backend;
    size_t n = (size_t)call->request.fields.n;
    ap_error error = {0};
    for (size_t i = 0; i < call->job_count; i++) {
        job *j = &call->jobs[i];
        ap_status status = ap_openai_job(&call->request, i / n, i % n, &call->chunk, &error);
        if (status == AP_OK)
            status = backend->ops->submit(backend->self, call->model, call->chunk.ptr, call->chunk.len, on_event, j, &j->id,
                                          &error);
        if (status != AP_OK) {
            refusal_of(status, error.message, NULL, refusal);
            return false;
        }
        j->is_live = true;
    }
    return true;
}

static void make_id(ap_call *call)
{
    unsigned char bytes[12];
    char hex[sizeof bytes * 2 + 1];
    randombytes_buf(bytes, sizeof bytes);
    (void)snprintf(call->id, sizeof call->id, "%s-%s", call->is_chat ? "chatcmpl" : "cmpl",
                   sodium_bin2hex(hex, sizeof hex, bytes, sizeof bytes));
}

void ap_openai_begin(ap_api *api, ap_endpoint endpoint, ap_str body, ap_reply *reply, ap_call **out)
{
    ap_openai_request request;
    ap_refusal refusal;
    ap_call *call = NULL;
    size_t model = 0;
    if (!ap_openai_read(&request, endpoint, body, &refusal)) {
        ap_reply_refuse(reply, &refusal);
        return;
    }
    size_t job_count = request.prompt_count * (size_t)request.fields.n;
    if (!find_model(api, request.fields.model, &model, &refusal))
        goto refused;
    call = ap_alloc_zero(1, sizeof *call + job_count * sizeof *call->jobs);
    if (!call) {
        refusal_of(AP_E_NOMEM, "", NULL, &refusal);
        goto refused;
    }
    call->api = api;
    call->reply = reply;
    call->model = model;
    call->request = request;
    call->is_chat = endpoint == AP_ENDPOINT_CHAT;
    call->created = ap_clock_wall();
    call->job_count = job_count;
    make_id(call);
    for (size_t i = 0; i < job_count; i++) {
        call->jobs[i].call = call;
        call->jobs[i].index = (uint32_t)i;
    }
    api->call_count++;
    ap_reply_header_add(reply, "Aperto-Seed", "%" PRId64, request.seed);
    if (!submit_jobs(call, &refusal)) {
        fail_call(call, &refusal);
        ap_api_end(api, &call);
        return;
    }
    *out = call;
    return;
refused:
    ap_openai_request_deinit(&request);
    ap_reply_refuse(reply, &refusal);
}

void ap_api_end(ap_api *api, ap_call **pointer)
{
    ap_call *call = *pointer;
    *pointer = NULL;
    if (!call)
        return;
    cancel_jobs(call);
    for (size_t i = 0; i < call->job_count; i++) {
        ap_buf_deinit(&call->jobs[i].text);
        ap_buf_deinit(&call->jobs[i].reasoning);
        ap_answer_calls_deinit(&call->jobs[i].calls);
        ap_buf_deinit(&call->jobs[i].logprobs);
        ap_buf_deinit(&call->jobs[i].values);
        ap_buf_deinit(&call->jobs[i].tops);
        ap_buf_deinit(&call->jobs[i].offsets);
    }
    ap_openai_request_deinit(&call->request);
    ap_buf_deinit(&call->chunk);
    ap_free(call);
    api->call_count--;
}
