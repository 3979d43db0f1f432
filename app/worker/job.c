/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/job.h"

#include <math.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/utf8.h"

enum { STOPS_MAX = 16, STOP_BYTES_MAX = 256, BIASES_MAX = 1024, CHOICES_MAX = 65535, KWARGS_MAX = 64, NO_EFFECT_BYTES = 512 };

/* What logarithms of zero become in JSON, which has no infinity. */
static const float lowest_logprob = -9999;

typedef struct live_job {
    uint64_t id;
    json_t *stops;     /* array of strings, or NULL */
    ap_answer *answer; /* of a chat, else NULL */
    bool logprobs;
    bool has_failed; /* ERROR was sent, the engine is to forget it */
} live_job;

struct ap_jobs {
    ap_engine *engine;
    const ap_vocab *vocab;
    ap_wire_writer *writer;
    live_job live[AP_WORKER_REQUESTS_MAX];
    size_t live_count;
    ap_buf payload;   /* of the frame being written */
    ap_buf content, reasoning, calls; /* what came of the event in hand */
    ap_error failure; /* in an event function: the step is to fail */
};

/* A job while it is read. */
typedef struct job_input {
    const json_t *root;
    bool is_chat;
    ap_request request;
    ap_tokens rendered; /* the library's */
    ap_answer *answer;  /* too */
    char no_effect[NO_EFFECT_BYTES];
    int32_t *ids;       /* ours */
    ap_logit_bias biases[BIASES_MAX];
    const char *stops[STOPS_MAX];
    const char *param; /* whom to blame */
} job_input;

ap_status ap_jobs_create(ap_jobs **out, ap_engine *engine, const ap_vocab *vocab, ap_wire_writer *writer,
                         ap_error *err)
{
    ap_jobs *jobs = ap_alloc_zero(1, sizeof *jobs);
    *out = jobs;
    if (!jobs)
        return ap_fail_nomem(err, sizeof *jobs);
    jobs->engine = engine;
    jobs->vocab = vocab;
    jobs->writer = writer;
    return AP_OK;
}

static void forget(ap_jobs *jobs, live_job *job)
{
    json_decref(job->stops);
    ap_answer_destroy(&job->answer);
    *job = jobs->live[--jobs->live_count];
}

void ap_jobs_destroy(ap_jobs **pointer)
{
    ap_jobs *jobs = *pointer;
    *pointer = NULL;
    if (!jobs)
        return;
    while (jobs->live_count)
        forget(jobs, &jobs->live[0]);
    ap_buf_deinit(&jobs->content);
    ap_buf_deinit(&jobs->reasoning);
    ap_buf_deinit(&jobs->calls);
    ap_buf_deinit(&jobs->payload);
    ap_free(jobs);
}

static live_job *find_live(ap_jobs *jobs, uint64_t id)
{
    for (size_t i = 0; i < jobs->live_count; i++)
        if (jobs->live[i].id == id)
            return &jobs->live[i];
    return NULL;
}

/* ---- Reading a job ------------------------------------------------------- */

typedef enum field_kind { FIELD_REAL, FIELD_COUNT, FIELD_FLAG, FIELD_OTHER } field_kind;

typedef struct field {
    const char *name;
    field_kind kind;
    size_t offset; /* in ap_request */
    double low, high;
    bool is_above_low; /* low itself is out */
} field;

#define AT(member) offsetof(ap_request, member)
static const field fields[] = {
    {"max_tokens", FIELD_COUNT, AT(max_tokens), 1, INT32_MAX, false},
    {"temperature", FIELD_REAL, AT(sampling.temperature), 0, 100, false},
    {"top_p", FIELD_REAL, AT(sampling.top_p), 0, 1, true},
    {"min_p", FIELD_REAL, AT(sampling.min_p), 0, 1, false},
    {"top_k", FIELD_COUNT, AT(sampling.top_k), 0, INT32_MAX, false},
    {"repetition_penalty", FIELD_REAL, AT(sampling.repetition_penalty), 0, 100, true},
    {"frequency_penalty", FIELD_REAL, AT(sampling.frequency_penalty), -100, 100, false},
    {"presence_penalty", FIELD_REAL, AT(sampling.presence_penalty), -100, 100, false},
    {"choice", FIELD_COUNT, AT(sampling.choice), 0, CHOICES_MAX, false},
    {"top_logprobs", FIELD_COUNT, AT(top_logprobs), 0, AP_WORKER_TOP_LOGPROBS_MAX, false},
    {"ignore_eos", FIELD_FLAG, AT(ignore_end), 0, 0, false},
    {"logprobs", FIELD_FLAG, AT(logprobs), 0, 0, false},
    {"kind", FIELD_OTHER, 0, 0, 0, false},
    {"messages", FIELD_OTHER, 0, 0, 0, false},
    {"tools", FIELD_OTHER, 0, 0, 0, false},
    {"kwargs", FIELD_OTHER, 0, 0, 0, false},
    {"now", FIELD_OTHER, 0, 0, 0, false},
    {"prompt", FIELD_OTHER, 0, 0, 0, false},
    {"seed", FIELD_OTHER, 0, 0, 0, false},
    {"logit_bias", FIELD_OTHER, 0, 0, 0, false},
    {"stop", FIELD_OTHER, 0, 0, 0, false},
};
#undef AT

static ap_status bad(job_input *in, const char *param, ap_error *err, const char *what)
{
    in->param = param;
    return ap_fail(err, AP_E_ARG, "'%s' %s", param, what);
}

static ap_status read_field(job_input *in, const field *f, const json_t *value, ap_error *err)
{
    char *target = (char *)&in->request + f->offset;
    char range[96];
    (void)snprintf(range, sizeof range, "is not %s %s%.10g to %.10g",
                   f->kind == FIELD_REAL ? "a number" : "an integer from",
                   f->is_above_low         ? "above "
                   : f->kind == FIELD_REAL ? "from "
                                           : "",
                   f->low, f->high);
    switch (f->kind) {
    case FIELD_REAL: {
        double number = json_number_value(value);
        if (!json_is_number(value) || !isfinite(number) || number > f->high || number < f->low ||
            (f->is_above_low && number == f->low))
            return bad(in, f->name, err, range);
        float narrow = (float)number;
        /* The smallest doubles become zero as floats. */
        if (f->is_above_low && narrow == 0)
            return bad(in, f->name, err, range);
        memcpy(target, &narrow, sizeof narrow);
        return AP_OK;
    }
    case FIELD_COUNT: {
        json_int_t number = json_integer_value(value);
        if (!json_is_integer(value) || number < (json_int_t)f->low || number > (json_int_t)f->high)
            return bad(in, f->name, err, range);
        uint32_t narrow = (uint32_t)number;
        memcpy(target, &narrow, sizeof narrow);
        return AP_OK;
    }
    case FIELD_FLAG: {
        if (!json_is_boolean(value))
            return bad(in, f->name, err, "is neither true nor false");
        bool flag = json_is_true(value);
        memcpy(target, &flag, sizeof flag);
        return AP_OK;
    }
    case FIELD_OTHER:
        break;
    }
    return AP_OK;
}

static ap_status read_fields(job_input *in, ap_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)in->root, key, value)
    {
        const field *found = NULL;
        for (size_t i = 0; i < sizeof fields / sizeof *fields && !found; i++)
            if (strcmp(fields[i].name, key) == 0)
                found = &fields[i];
        if (!found)
            return ap_fail(err, AP_E_ARG, "a job has no field '%.60s'", key);
        AP_TRY(read_field(in, found, value, err));
    }
    const json_t *seed = json_object_get(in->root, "seed");
    if (!json_is_integer(seed))
        return bad(in, "seed", err, "is missing or not an integer of 64 bits");
    in->request.sampling.seed = (uint64_t)json_integer_value(seed);
    if (in->request.top_logprobs && !in->request.logprobs)
        return bad(in, "top_logprobs", err, "needs 'logprobs'");
    return AP_OK;
}

static ap_status read_stops(job_input *in, ap_error *err)
{
    const json_t *stops = json_object_get(in->root, "stop"), *stop;
    size_t i;
    if (!stops)
        return AP_OK;
    if (!json_is_array(stops) || json_array_size(stops) > STOPS_MAX)
        return bad(in, "stop", err, "is not an array of at most 16 texts");
    json_array_foreach(stops, i, stop)
    {
        size_t length = json_string_length(stop);
        if (!json_is_string(stop) || length < 1 || length > STOP_BYTES_MAX)
            return bad(in, "stop", err, "has an entry that is not a text of 1 to 256 bytes");
        if (strlen(json_string_value(stop)) != length)
            return bad(in, "stop", err, "has an entry with a NUL character");
        in->stops[i] = json_string_value(stop);
    }
    in->request.stops = in->stops;
    in->request.stop_count = json_array_size(stops);
    return AP_OK;
}

static bool read_id(const char *text, uint32_t vocab_count, int32_t *id)
{
    uint64_t value = 0;
    size_t i = 0;
    for (; text[i] >= '0' && text[i] <= '9' && i < 10; i++)
        value = value * 10 + (uint64_t)(text[i] - '0');
    if (i == 0 || text[i] != 0 || value >= vocab_count)
        return false;
    *id = (int32_t)value;
    return true;
}

static ap_status read_biases(job_input *in, uint32_t vocab_count, ap_error *err)
{
    const json_t *biases = json_object_get(in->root, "logit_bias");
    const char *key;
    json_t *value;
    if (!biases)
        return AP_OK;
    if (!json_is_object(biases) || json_object_size(biases) > BIASES_MAX)
        return bad(in, "logit_bias", err, "is not an object of at most 1024 token ids");
    json_object_foreach((json_t *)biases, key, value)
    {
        ap_logit_bias *bias = &in->biases[in->request.bias_count];
        double number = json_number_value(value);
        if (!read_id(key, vocab_count, &bias->token))
            return bad(in, "logit_bias", err, "has a key that is not a token id of this model");
        if (!json_is_number(value) || !(fabs(number) <= 100))
            return bad(in, "logit_bias", err, "has a value that is not a number from -100 to 100");
        bias->bias = (float)number;
        in->request.bias_count++;
    }
    in->request.biases = in->biases;
    return AP_OK;
}

/* ---- Text to tokens ------------------------------------------------------ */

static ap_status copy_ids(job_input *in, const json_t *prompt, uint32_t vocab_count, ap_error *err)
{
    size_t count = json_array_size(prompt), i;
    const json_t *id;
    in->ids = ap_alloc_array(count ? count : 1, sizeof *in->ids);
    if (!in->ids)
        return ap_fail_nomem(err, count * sizeof *in->ids);
    json_array_foreach(prompt, i, id)
    {
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= vocab_count)
            return bad(in, "prompt", err, "has an entry that is not a token id of this model");
        in->ids[i] = (int32_t)json_integer_value(id);
    }
    in->request.prompt = in->ids;
    in->request.prompt_count = count;
    return AP_OK;
}

/* Names the kwargs that the template does not read: no answer depends on them. */
static ap_status read_kwargs(job_input *in, const json_t *kwargs, const ap_vocab *vocab, ap_error *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(kwargs) || json_object_size(kwargs) > KWARGS_MAX)
        return bad(in, "kwargs", err, "is no object of at most 64 variables");
    json_object_foreach((json_t *)kwargs, key, value)
    {
        size_t used = strlen(in->no_effect), length = strlen(key);
        if (length == 0 || length > 60 || strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") < length)
            return bad(in, "kwargs", err, "has a key that is no name of a variable");
        if (ap_vocab_template_owns(key)) {
            in->param = "kwargs";
            return ap_fail(err, AP_E_ARG, "'%s' has another meaning in templates: a request cannot set it", key);
        }
        if (!ap_vocab_template_reads(vocab, key) && used + length + 3 < sizeof in->no_effect)
            ap_str_append(in->no_effect, sizeof in->no_effect, "%s%s", used ? ", " : "", key);
    }
    return AP_OK;
}

static ap_status render(job_input *in, const ap_vocab *vocab, ap_error *err)
{
    const json_t *messages = json_object_get(in->root, "messages"),
                 *tools = json_object_get(in->root, "tools");
    const json_t *kwargs = json_object_get(in->root, "kwargs"), *now = json_object_get(in->root, "now");
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return bad(in, "messages", err, "is missing, empty or not an array");
    if (tools && !json_is_array(tools))
        return bad(in, "tools", err, "is not an array");
    if (kwargs)
        AP_TRY(read_kwargs(in, kwargs, vocab, err));
    if (!json_is_integer(now))
        return bad(in, "now", err, "is missing or not an integer");
    json_t *context = json_object();
    int failed = !context || json_object_set(context, "messages", (json_t *)messages) ||
                 json_object_set_new(context, "add_generation_prompt", json_true()) ||
                 (tools && json_object_set(context, "tools", (json_t *)tools)) ||
                 (kwargs && json_object_set(context, "kwargs", (json_t *)kwargs));
    char *text = failed ? NULL : json_dumps(context, JSON_COMPACT);
    json_decref(context);
    if (!text)
        return ap_fail(err, AP_E_NOMEM, "out of memory for the messages of a request");
    in->param = "messages";
    ap_status status =
        ap_vocab_render_chat(vocab, text, strlen(text), json_integer_value(now), &in->rendered, &in->answer, err);
    free(text); /* jansson's, from malloc */
    if (status == AP_E_UNSUPPORTED && json_array_size(tools) > 0)
        in->param = "tools";
    in->request.text_marks = true;
    return status;
}

static ap_status make_tokens(job_input *in, const ap_vocab *vocab, ap_error *err)
{
    const char *kind = json_string_value(json_object_get(in->root, "kind"));
    const json_t *prompt = json_object_get(in->root, "prompt");
    if (kind && strcmp(kind, "chat") == 0) {
        in->is_chat = true;
        if (prompt)
            return bad(in, "prompt", err, "does not go with kind \"chat\"");
        AP_TRY(render(in, vocab, err));
    } else if (kind && strcmp(kind, "completion") == 0) {
        static const char *const of_chat[] = {"messages", "tools", "kwargs", "now"};
        for (size_t i = 0; i < sizeof of_chat / sizeof *of_chat; i++)
            if (json_object_get(in->root, of_chat[i]))
                return bad(in, of_chat[i], err, "does not go with kind \"completion\"");
        if (json_is_array(prompt))
            AP_TRY(copy_ids(in, prompt, ap_vocab_count(vocab), err));
        else if (json_is_string(prompt))
            AP_TRY(ap_vocab_tokenize(vocab, json_string_value(prompt), json_string_length(prompt),
                                     AP_TOKENIZE_BOS, &in->rendered, err));
        else
            return bad(in, "prompt", err, "is missing, or neither a text nor an array of token ids");
        in->param = "prompt";
    } else {
        return bad(in, "kind", err, "is neither \"chat\" nor \"completion\"");
    }
    if (!in->ids) {
        in->request.prompt = in->rendered.ids;
        in->request.prompt_count = in->rendered.count;
    }
    if (in->request.prompt_count == 0)
        return ap_fail(err, AP_E_ARG, "'%s' makes no token", in->param);
    if (in->request.prompt_count > UINT32_MAX)
        return ap_fail(err, AP_E_LIMIT, "'%s' makes more tokens than can be counted", in->param);
    return AP_OK;
}

static ap_status read_job(job_input *in, const ap_vocab *vocab, ap_error *err)
{
    if (!json_is_object(in->root))
        return ap_fail(err, AP_E_ARG, "a job is not a JSON object of at most %d levels, without a key twice",
                       JSON_PARSER_MAX_DEPTH);
    AP_TRY(read_fields(in, err));
    AP_TRY(read_stops(in, err));
    AP_TRY(read_biases(in, ap_vocab_count(vocab), err));
    return make_tokens(in, vocab, err);
}

/* ---- Answers ------------------------------------------------------------- */

static ap_status add_error(ap_buf *out, const ap_error *error, const char *param, const uint32_t *counts,
                           ap_error *err)
{
    ap_buf line = {
        0}; /* a cut message may end inside a character, which must not make it longer than the front takes */
    AP_TRY(ap_buf_printf(out, err, "{\"status\":\"%s\",\"message\":", ap_wire_status_name(error->status)));
    const char *message = error->message[0] ? error->message : ap_status_text(error->status);
    size_t length = strlen(message);
    length -= ap_utf8_tail((ap_str){message, length});
    ap_status status = AP_OK;
    if (!ap_utf8_valid((ap_str){message, length})) {
        status = ap_buf_add(&line, message, length, err);
        for (size_t i = 0; status == AP_OK && i < line.len; i++)
            if ((unsigned char)line.ptr[i] >= 0x80)
                line.ptr[i] = '?';
        message = line.ptr;
    }
    if (status == AP_OK)
        status = ap_wire_add_json(out, (ap_str){message, length}, err);
    ap_buf_deinit(&line);
    AP_TRY(status);
    if (param)
        AP_TRY(ap_buf_printf(out, err, ",\"param\":\"%s\"", param));
    if (counts)
        AP_TRY(ap_buf_printf(out, err, ",\"prompt_tokens\":%" PRIu32 ",\"context_tokens\":%" PRIu32,
                             counts[0], counts[1]));
    return ap_buf_add_char(out, '}', err);
}

static ap_status send_error(ap_wire_writer *writer, uint64_t id, const ap_error *error, const char *param,
                            const uint32_t *counts, ap_error *err)
{
    ap_buf payload = {0};
    ap_status status = add_error(&payload, error, param, counts, err);
    if (status == AP_OK)
        status = ap_wire_put(writer, AP_WORKER_ERROR, id, payload.ptr, payload.len, err);
    ap_buf_deinit(&payload);
    return status;
}

ap_status ap_jobs_error_frame(ap_wire_writer *writer, uint64_t id, const ap_error *error, const char *param,
                              ap_error *err)
{
    return send_error(writer, id, error, param, NULL, err);
}

static ap_status answer_refused(ap_jobs *jobs, uint64_t id, const job_input *in, const ap_error *why,
                                ap_error *err)
{
    if (why->status != AP_E_CONTEXT)
        return send_error(jobs->writer, id, why, in->param, NULL, err);
    ap_engine_stats stats;
    ap_engine_stats_of(jobs->engine, &stats);
    const uint32_t counts[2] = {(uint32_t)in->request.prompt_count, stats.context_tokens};
    const char *param = counts[0] < counts[1] && in->request.max_tokens ? "max_tokens" : in->param;
    return send_error(jobs->writer, id, why, param, counts, err);
}

static ap_status submit(ap_jobs *jobs, job_input *in, ap_error *err)
{
    AP_TRY(read_job(in, jobs->vocab, err));
    if (find_live(jobs, in->request.id))
        return ap_fail(err, AP_E_STATE, "request %" PRIu64 " is at work already", in->request.id);
    if (jobs->live_count == AP_WORKER_REQUESTS_MAX)
        return ap_fail(err, AP_E_FULL, "%d requests are at work or waiting", AP_WORKER_REQUESTS_MAX);
    AP_TRY(ap_engine_submit(jobs->engine, &in->request, err));
    live_job *job = &jobs->live[jobs->live_count++];
    *job = (live_job){.id = in->request.id,
                      .stops = json_incref(json_object_get(in->root, "stop")),
                      .answer = in->answer,
                      .logprobs = in->request.logprobs};
    in->answer = NULL;
    return AP_OK;
}

ap_status ap_jobs_submit(ap_jobs *jobs, uint64_t id, const char *json, size_t length, ap_error *err)
{
    ap_error why = {0};
    job_input *in = ap_alloc_zero(1, sizeof *in);
    if (!in) {
        (void)ap_fail_nomem(&why, sizeof *in);
        return send_error(jobs->writer, id, &why, NULL, NULL, err);
    }
    in->request.size = sizeof in->request;
    in->request.id = id;
    in->request.sampling = ap_sampling_default();
    json_error_t detail;
    json_t *root = json_loadb(json, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &detail);
    in->root = root;
    ap_status status = submit(jobs, in, &why);
    if (status == AP_OK) {
        ap_buf_clear(&jobs->payload);
        status = ap_buf_printf(&jobs->payload, err, "{\"prompt_tokens\":%" PRIu32 "%s%s%s}", (uint32_t)in->request.prompt_count,
                               in->no_effect[0] ? ",\"no_effect\":\"" : "", in->no_effect, in->no_effect[0] ? "\"" : "");
        if (status == AP_OK)
            status =
                ap_wire_put(jobs->writer, AP_WORKER_ACCEPTED, id, jobs->payload.ptr, jobs->payload.len, err);
    } else {
        why.status = status;
        status = answer_refused(jobs, id, in, &why, err);
    }
    ap_release(in->rendered.ids);
    ap_answer_destroy(&in->answer);
    ap_free(in->ids);
    json_decref(root);
    ap_free(in);
    return status;
}

void ap_jobs_cancel(ap_jobs *jobs, uint64_t id)
{
    /* DONE may have crossed with the wish. */
    (void)ap_engine_cancel(jobs->engine, id);
}

/* ---- Events to frames ---------------------------------------------------- */

static ap_status add_token(ap_buf *out, const ap_vocab *vocab, int32_t token, float logprob, ap_error *err)
{
    size_t length = 0;
    const char *piece = ap_vocab_piece(vocab, token, &length);
    AP_TRY(ap_buf_printf(out, err, "{\"id\":%" PRId32 ",\"logprob\":%.9g,\"text\":", token,
                         (double)(logprob >= lowest_logprob ? logprob : lowest_logprob)));
    AP_TRY(ap_wire_add_json(out, (ap_str){piece, piece ? length : 0}, err));
    AP_TRY(ap_buf_add_str(out, AP_STR(",\"bytes\":["), err));
    for (size_t i = 0; piece && i < length; i++)
        AP_TRY(ap_buf_printf(out, err, i ? ",%u" : "%u", (unsigned char)piece[i]));
    return ap_buf_add_char(out, ']', err);
}

static ap_status on_piece(void *context, const ap_answer_piece *piece, ap_error *err)
{
    ap_jobs *jobs = context;
    ap_str text = {piece->text, piece->length}, id = {piece->id, piece->id_length};
    if (piece->kind == AP_ANSWER_CONTENT)
        return ap_buf_add_str(&jobs->content, text, err);
    if (piece->kind == AP_ANSWER_REASONING)
        return ap_buf_add_str(&jobs->reasoning, text, err);
    AP_TRY(ap_buf_printf(&jobs->calls, err, "%s{\"index\":%" PRIu32 ",\"%s\":", jobs->calls.len ? "," : "", piece->call,
                         piece->kind == AP_ANSWER_CALL ? "name" : "arguments"));
    AP_TRY(ap_wire_add_json(&jobs->calls, text, err));
    if (id.len) {
        AP_TRY(ap_buf_add_str(&jobs->calls, AP_STR(",\"id\":"), err));
        AP_TRY(ap_wire_add_json(&jobs->calls, id, err));
    }
    return ap_buf_add_char(&jobs->calls, '}', err);
}

/* The text of an event as content, reasoning and calls; without an answer to take apart all of it is content. */
static ap_status take_apart(ap_jobs *jobs, live_job *job, const ap_event *event, ap_error *err)
{
    ap_buf_clear(&jobs->content);
    ap_buf_clear(&jobs->reasoning);
    ap_buf_clear(&jobs->calls);
    if (!job->answer)
        return ap_buf_add(&jobs->content, event->text, event->text_length, err);
    AP_TRY(ap_answer_push(job->answer, event->text, event->text_length, on_piece, jobs, err));
    return event->kind == AP_EVENT_DONE ? ap_answer_finish(job->answer, on_piece, jobs, err) : AP_OK;
}

static ap_status add_parts(ap_buf *out, const ap_jobs *jobs, ap_error *err)
{
    AP_TRY(ap_buf_add_str(out, AP_STR("\"text\":"), err));
    AP_TRY(ap_wire_add_json(out, ap_buf_str(&jobs->content), err));
    if (jobs->reasoning.len) {
        AP_TRY(ap_buf_add_str(out, AP_STR(",\"reasoning\":"), err));
        AP_TRY(ap_wire_add_json(out, ap_buf_str(&jobs->reasoning), err));
    }
    if (!jobs->calls.len)
        return AP_OK;
    AP_TRY(ap_buf_add_str(out, AP_STR(",\"calls\":["), err));
    AP_TRY(ap_buf_add_str(out, ap_buf_str(&jobs->calls), err));
    return ap_buf_add_char(out, ']', err);
}

static ap_status add_text_event(ap_buf *out, const ap_jobs *jobs, const live_job *job, const ap_event *event, ap_error *err)
{
    const ap_vocab *vocab = jobs->vocab;
    AP_TRY(ap_buf_add_char(out, '{', err));
    AP_TRY(add_parts(out, jobs, err));
    if (job->logprobs) {
        AP_TRY(ap_buf_add_str(out, AP_STR(",\"tokens\":["), err));
        AP_TRY(add_token(out, vocab, event->token, event->logprob, err));
        AP_TRY(ap_buf_add_str(out, AP_STR(",\"top\":["), err));
        for (size_t i = 0; i < event->top_count; i++) {
            if (i)
                AP_TRY(ap_buf_add_char(out, ',', err));
            AP_TRY(add_token(out, vocab, event->top[i].token, event->top[i].logprob, err));
            AP_TRY(ap_buf_add_char(out, '}', err));
        }
        AP_TRY(ap_buf_add_str(out, AP_STR("]}]"), err));
    }
    return ap_buf_add_char(out, '}', err);
}

static ap_status add_done_event(ap_buf *out, const ap_jobs *jobs, const live_job *job, const ap_event *event,
                                ap_error *err)
{
    static const char *const reasons[] = {"stop", "length", "cancelled"};
    const json_t *stop =
        event->stop_index >= 0 ? json_array_get(job->stops, (size_t)event->stop_index) : NULL;
    AP_TRY(ap_buf_printf(out, err, "{\"finish_reason\":\"%s\",", reasons[event->finish]));
    AP_TRY(add_parts(out, jobs, err));
    AP_TRY(ap_buf_add_str(out, AP_STR(",\"stop\":"), err));
    if (stop)
        AP_TRY(ap_wire_add_json(out, (ap_str){json_string_value(stop), json_string_length(stop)}, err));
    else
        AP_TRY(ap_buf_add_str(out, AP_STR("null"), err));
    return ap_buf_printf(out, err,
                         ",\"prompt_tokens\":%" PRIu32 ",\"completion_tokens\":%" PRIu32
                         ",\"prompt_ms\":%.3f,\"completion_ms\":%.3f}",
                         event->prompt_count, event->answer_count, (double)event->prompt_ns / 1e6,
                         (double)event->answer_ns / 1e6);
}

/* A token of a strange vocabulary may be a megabyte long. */
static ap_status refuse_long(ap_jobs *jobs, live_job *job, ap_error *err)
{
    ap_error why = {0};
    (void)ap_fail(&why, AP_E_LIMIT, "an event of %zu bytes is longer than the limit of %d", jobs->payload.len,
                  AP_WORKER_EVENT_BYTES_MAX);
    job->has_failed = true;
    return send_error(jobs->writer, job->id, &why, NULL, NULL, err);
}

static ap_status pass_on(ap_jobs *jobs, live_job *job, const ap_event *event, ap_error *err)
{
    ap_buf *out = &jobs->payload;
    ap_buf_clear(out);
    if (event->kind != AP_EVENT_FAILED)
        AP_TRY(take_apart(jobs, job, event, err));
    switch (event->kind) {
    case AP_EVENT_TOKEN:
        if (!jobs->content.len && !jobs->reasoning.len && !jobs->calls.len && !job->logprobs)
            return AP_OK; /* held back; nothing to tell */
        AP_TRY(add_text_event(out, jobs, job, event, err));
        break;
    case AP_EVENT_DONE:
        AP_TRY(add_done_event(out, jobs, job, event, err));
        break;
    case AP_EVENT_FAILED:
        return send_error(jobs->writer, event->id, event->error, NULL, NULL, err);
    }
    if (out->len > AP_WORKER_EVENT_BYTES_MAX)
        return refuse_long(jobs, job, err);
    return ap_wire_put(jobs->writer, event->kind == AP_EVENT_TOKEN ? AP_WORKER_TEXT : AP_WORKER_DONE,
                       event->id, out->ptr, out->len, err);
}

static void on_event(void *context, const ap_event *event)
{
    ap_jobs *jobs = context;
    live_job *job = find_live(jobs, event->id);
    if (!job || jobs->failure.status != AP_OK)
        return;
    if (!job->has_failed) {
        ap_error why = {0};
        ap_status status = pass_on(jobs, job, event, &why);
        if (status != AP_OK)
            (void)ap_fail(&jobs->failure, status, "%s", why.message);
    }
    if (event->kind != AP_EVENT_TOKEN)
        forget(jobs, job);
}

ap_status ap_jobs_step(ap_jobs *jobs, bool *busy, ap_error *err)
{
    AP_TRY(ap_engine_step(jobs->engine, on_event, jobs, busy, err));
    if (jobs->failure.status != AP_OK)
        return ap_fail(err, jobs->failure.status, "%s", jobs->failure.message);
    for (size_t i = 0; i < jobs->live_count; i++)
        if (jobs->live[i].has_failed)
            (void)ap_engine_cancel(jobs->engine, jobs->live[i].id); /* its DONE is dropped */
    return AP_OK;
}
