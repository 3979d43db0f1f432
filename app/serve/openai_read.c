/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/openai_read.h"

#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "serve/json_limits.h"

/* ---- Messages ------------------------------------------------------------ */

static bool message_refused(ap_refusal *refusal, size_t index, const char *field, const char *code, const char *what)
{
    char param[96];
    (void)snprintf(param, sizeof param, "messages[%zu]%s%.40s", index, field[0] ? "." : "", field);
    return ap_refuse(refusal, 400, param, code, "'%s' %s", param, what);
}

static bool is_nothing(const json_t *value)
{
    return !value || json_is_null(value) || (json_is_array(value) && json_array_size(value) == 0);
}

/* Text parts become one text; anything else among them is refused by its type. */
static bool join_parts(const json_t *parts, size_t index, ap_buf *text, ap_refusal *refusal)
{
    const json_t *part;
    size_t i;
    if (json_array_size(parts) == 0)
        return message_refused(refusal, index, "content", NULL, "is an empty array");
    json_array_foreach(parts, i, part) {
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *value = json_object_get(part, "text");
        char place[48], what[160], key_place[96];
        (void)snprintf(place, sizeof place, "content[%zu]", i);
        if (!type)
            return message_refused(refusal, index, place, NULL, "is not a part with a 'type'");
        if (strcmp(type, "text") != 0) {
            (void)snprintf(what, sizeof what, "is of type '%.40s'; this release takes only 'text' parts", type);
            return message_refused(refusal, index, place, "unsupported_field", what);
        }
        const char *key;
        json_t *member;
        json_object_foreach((json_t *)part, key, member)
            if (strcmp(key, "type") != 0 && strcmp(key, "text") != 0 && !json_is_null(member)) {
                (void)snprintf(key_place, sizeof key_place, "%s.%.30s", place, key);
                return message_refused(refusal, index, key_place, "unknown_field", "is an unknown field");
            }
        if (!json_is_string(value))
            return message_refused(refusal, index, place, NULL, "has no 'text'");
        if ((i && ap_buf_add_char(text, '\n', NULL) != AP_OK) ||
            ap_buf_add(text, json_string_value(value), json_string_length(value), NULL) != AP_OK)
            return ap_refuse(refusal, 503, NULL, NULL, "out of memory for the messages");
    }
    return true;
}

static json_t *read_content(const json_t *content, size_t index, ap_refusal *refusal)
{
    if (json_is_string(content))
        return json_incref((json_t *)content);
    if (!json_is_array(content)) {
        (void)message_refused(refusal, index, "content", NULL, "must be a string or an array of text parts");
        return NULL;
    }
    ap_buf text = {0};
    json_t *joined = NULL;
    if (join_parts(content, index, &text, refusal)) {
        joined = json_stringn(text.ptr ? text.ptr : "", text.len);
        if (!joined)
            (void)ap_refuse(refusal, 503, NULL, NULL, "out of memory for the messages");
    }
    ap_buf_deinit(&text);
    return joined;
}

static bool check_message_fields(const json_t *message, size_t index, ap_refusal *refusal)
{
    static const char *const passed_on[] = {"role", "content", "name", "reasoning_content"};
    /* What clients echo from an earlier answer; it must say nothing. */
    static const char *const empty_only[] = {"refusal", "annotations", "audio", "tool_calls", "function_call",
                                             "tool_call_id"};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)message, key, value) {
        bool is_passed = false, is_known = false;
        for (size_t i = 0; i < sizeof passed_on / sizeof *passed_on; i++)
            is_passed = is_passed || strcmp(key, passed_on[i]) == 0;
        for (size_t i = 0; i < sizeof empty_only / sizeof *empty_only; i++)
            is_known = is_known || strcmp(key, empty_only[i]) == 0;
        if (is_known && !is_nothing(value))
            return message_refused(refusal, index, key, "unsupported_field", "is not supported in this release");
        if (!is_known && !is_passed)
            return message_refused(refusal, index, key, "unknown_field", "is an unknown field");
    }
    static const char *const texts[] = {"name", "reasoning_content"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        value = json_object_get(message, texts[i]);
        if (value && !json_is_null(value) && !json_is_string(value))
            return message_refused(refusal, index, texts[i], NULL, "must be a string");
    }
    return true;
}

static const char *read_role(const json_t *message, size_t index, ap_refusal *refusal)
{
    const json_t *value = json_object_get(message, "role");
    const char *role = json_string_value(value);
    static const char *const roles[] = {"system", "user", "assistant"};
    for (size_t i = 0; role && i < sizeof roles / sizeof *roles; i++)
        if (strcmp(role, roles[i]) == 0)
            return roles[i];
    if (role && strcmp(role, "developer") == 0)
        return "system";
    if (role && (strcmp(role, "tool") == 0 || strcmp(role, "function") == 0)) {
        char what[96];
        (void)snprintf(what, sizeof what, "is '%s', which is not supported in this release", role);
        (void)message_refused(refusal, index, "role", "unsupported_field", what);
        return NULL;
    }
    (void)message_refused(refusal, index, "role", NULL, "must be one of 'system', 'developer', 'user', 'assistant'");
    return NULL;
}

static bool add_message(ap_openai_request *r, const json_t *message, size_t index, ap_refusal *refusal)
{
    if (!json_is_object(message))
        return message_refused(refusal, index, "", NULL, "must be an object");
    const char *role = read_role(message, index, refusal);
    if (!role || !check_message_fields(message, index, refusal))
        return false;
    json_t *content = read_content(json_object_get(message, "content"), index, refusal);
    if (!content)
        return false;
    json_t *out = json_pack("{s:s, s:o}", "role", role, "content", content);
    static const char *const optional[] = {"name", "reasoning_content"};
    int failed = !out;
    for (size_t i = 0; i < sizeof optional / sizeof *optional && !failed; i++) {
        json_t *value = json_object_get(message, optional[i]);
        if (value && !json_is_null(value))
            failed = json_object_set(out, optional[i], value);
    }
    if (failed || json_array_append(r->messages, out)) {
        json_decref(out);
        return ap_refuse(refusal, 503, NULL, NULL, "out of memory for the messages");
    }
    json_decref(out);
    return true;
}

static bool read_messages(ap_openai_request *r, ap_refusal *refusal)
{
    const json_t *messages = r->fields.messages, *message;
    size_t i;
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return ap_refuse(refusal, 400, "messages", messages ? NULL : "missing_field",
                         "'messages' must be an array of at least one message");
    if (json_array_size(messages) > AP_OPENAI_MESSAGES_MAX)
        return ap_refuse(refusal, 400, "messages", NULL, "'messages' has %zu entries, the limit is %d",
                         json_array_size(messages), AP_OPENAI_MESSAGES_MAX);
    r->messages = json_array();
    if (!r->messages)
        return ap_refuse(refusal, 503, NULL, NULL, "out of memory for the messages");
    json_array_foreach(messages, i, message)
        if (!add_message(r, message, i, refusal))
            return false;
    r->prompt_count = 1;
    return true;
}

/* ---- Prompts ------------------------------------------------------------- */

static bool are_ids(const json_t *ids)
{
    const json_t *id;
    size_t i;
    if (!json_is_array(ids) || json_array_size(ids) == 0)
        return false;
    json_array_foreach(ids, i, id)
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX)
            return false;
    return true;
}

static bool read_prompts(ap_openai_request *r, ap_refusal *refusal)
{
    const json_t *prompt = r->fields.prompt, *entry;
    size_t i;
    if (!prompt)
        return ap_refuse(refusal, 400, "prompt", "missing_field", "'prompt' is missing");
    r->prompt_count = 1;
    if (json_is_string(prompt) || are_ids(prompt))
        return true;
    bool is_list = json_is_array(prompt) && json_array_size(prompt) > 0;
    bool is_text = is_list && json_is_string(json_array_get(prompt, 0));
    if (is_list)
        json_array_foreach(prompt, i, entry)
            is_list = is_list && (is_text ? json_is_string(entry) : are_ids(entry));
    if (!is_list)
        return ap_refuse(refusal, 400, "prompt", NULL,
                         "'prompt' must be a string, an array of strings, an array of token ids, or an array of those");
    r->prompt_count = json_array_size(prompt);
    return true;
}

static const json_t *prompt_at(const ap_openai_request *r, size_t index)
{
    const json_t *prompt = r->fields.prompt, *first = json_array_get(prompt, 0);
    return json_is_string(first) || json_is_array(first) ? json_array_get(prompt, index) : prompt;
}

/* ---- The other fields ---------------------------------------------------- */

static bool check_stop(const json_t *stop, ap_refusal *refusal)
{
    size_t length = json_string_length(stop);
    if (!json_is_string(stop) || length < 1 || length > AP_OPENAI_STOP_BYTES_MAX ||
        strlen(json_string_value(stop)) != length)
        return ap_refuse(refusal, 400, "stop", NULL, "each entry of 'stop' must be a string of 1 to %d bytes without NUL",
                         AP_OPENAI_STOP_BYTES_MAX);
    return true;
}

static bool check_stops(const json_t *stops, ap_refusal *refusal)
{
    const json_t *stop;
    size_t i;
    if (!stops || json_is_string(stops))
        return !stops || check_stop(stops, refusal);
    if (!json_is_array(stops) || json_array_size(stops) > AP_OPENAI_STOPS_MAX)
        return ap_refuse(refusal, 400, "stop", NULL, "'stop' must be a string or an array of at most %d strings",
                         AP_OPENAI_STOPS_MAX);
    json_array_foreach(stops, i, stop)
        if (!check_stop(stop, refusal))
            return false;
    return true;
}

static bool check_biases(const json_t *biases, ap_refusal *refusal)
{
    const char *key;
    json_t *value;
    if (!biases)
        return true;
    if (!json_is_object(biases) || json_object_size(biases) > AP_OPENAI_BIASES_MAX)
        return ap_refuse(refusal, 400, "logit_bias", NULL, "'logit_bias' must be an object of at most %d token ids",
                         AP_OPENAI_BIASES_MAX);
    json_object_foreach((json_t *)biases, key, value) {
        size_t digits = strspn(key, "0123456789");
        if (digits == 0 || digits > 10 || key[digits])
            return ap_refuse(refusal, 400, "logit_bias", NULL, "'logit_bias' has the key '%.20s', which is no token id", key);
        if (!json_is_number(value) || !(fabs(json_number_value(value)) <= 100))
            return ap_refuse(refusal, 400, "logit_bias", NULL,
                             "'logit_bias' of token %.10s must be a number from -100 to 100", key);
    }
    return true;
}

static bool read_stream_options(ap_openai_request *r, ap_refusal *refusal)
{
    const json_t *options = r->fields.stream_options;
    const char *key;
    json_t *value;
    if (!options)
        return true;
    if (!json_is_object(options))
        return ap_refuse(refusal, 400, "stream_options", NULL, "'stream_options' must be an object");
    if (!r->fields.stream)
        return ap_refuse(refusal, 400, "stream_options", NULL, "'stream_options' needs 'stream': true");
    json_object_foreach((json_t *)options, key, value) {
        char param[80];
        (void)snprintf(param, sizeof param, "stream_options.%.40s", key);
        if (strcmp(key, "include_usage") == 0 && (json_is_boolean(value) || json_is_null(value))) {
            r->include_usage = json_is_true(value);
        } else if (strcmp(key, "include_obfuscation") == 0) {
            size_t used = strlen(r->no_effect);
            (void)snprintf(r->no_effect + used, sizeof r->no_effect - used, "%s%s", used ? ", " : "", param);
        } else if (strcmp(key, "include_usage") == 0) {
            return ap_refuse(refusal, 400, param, NULL, "'%s' must be true or false", param);
        } else {
            return ap_refuse(refusal, 400, param, "unknown_field", "unknown field '%s'", param);
        }
    }
    return true;
}

static bool read_numbers(ap_openai_request *r, ap_refusal *refusal)
{
    const ap_openai_fields *f = &r->fields;
    if (f->max_tokens && f->max_completion_tokens && f->max_tokens != f->max_completion_tokens)
        return ap_refuse(refusal, 400, "max_tokens", NULL,
                         "'max_tokens' and 'max_completion_tokens' mean the same and differ");
    r->max_tokens = f->max_tokens ? f->max_tokens : f->max_completion_tokens;
    if (r->endpoint == AP_ENDPOINT_COMPLETION) {
        r->max_tokens = r->max_tokens ? r->max_tokens : 16; /* OpenAI's */
        r->logprobs = f->logprob_count >= 0;
        r->top_logprobs = r->logprobs ? f->logprob_count : 0;
    } else {
        r->logprobs = f->logprobs;
        r->top_logprobs = f->top_logprobs;
        if (r->top_logprobs && !r->logprobs)
            return ap_refuse(refusal, 400, "top_logprobs", NULL, "'top_logprobs' needs 'logprobs': true");
    }
    if (r->prompt_count > AP_OPENAI_JOBS_MAX / (size_t)f->n)
        return ap_refuse(refusal, 400, r->prompt_count > 1 ? "prompt" : "n", NULL,
                         "%zu prompts with 'n' = %d make more answers than the limit of %d", r->prompt_count, (int)f->n,
                         AP_OPENAI_JOBS_MAX);
    r->seed = f->seed;
    /* 53 bits, so that a client's JSON can give it back. */
    if (!f->has_seed)
        r->seed = (int64_t)(((uint64_t)randombytes_random() << 21) ^ (randombytes_random() >> 11));
    return true;
}

static bool read_all(ap_openai_request *r, ap_refusal *refusal)
{
    if (!ap_fields_read(r->endpoint, r->root, &r->fields, r->no_effect, refusal))
        return false;
    const json_t *model = r->fields.model, *kwargs = r->fields.template_kwargs;
    if (!json_is_string(model))
        return ap_refuse(refusal, 400, "model", model ? NULL : "missing_field", "'model' must be the name of a model");
    if (kwargs && !json_is_object(kwargs))
        return ap_refuse(refusal, 400, "chat_template_kwargs", NULL, "'chat_template_kwargs' must be an object");
    return (r->endpoint == AP_ENDPOINT_CHAT ? read_messages(r, refusal) : read_prompts(r, refusal)) &&
           check_stops(r->fields.stop, refusal) && check_biases(r->fields.logit_bias, refusal) &&
           read_stream_options(r, refusal) && read_numbers(r, refusal);
}

bool ap_openai_read(ap_openai_request *request, ap_endpoint endpoint, ap_str body, ap_refusal *refusal)
{
    *request = (ap_openai_request){.endpoint = endpoint};
    request->root = ap_json_read(body, refusal);
    if (request->root && read_all(request, refusal))
        return true;
    ap_openai_request_deinit(request);
    return false;
}

void ap_openai_request_deinit(ap_openai_request *request)
{
    json_decref(request->root);
    json_decref(request->messages);
    request->root = request->messages = NULL;
}

/* ---- Jobs ---------------------------------------------------------------- */

static ap_status add_json(ap_buf *out, const char *key, const json_t *value, ap_error *err)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    if (!text)
        return ap_fail(err, AP_E_NOMEM, "out of memory for a job");
    ap_status status = ap_buf_printf(out, err, ",\"%s\":", key);
    if (status == AP_OK)
        status = ap_buf_add(out, text, strlen(text), err);
    free(text); /* jansson's, from malloc */
    return status;
}

/* A real for JSON: the shortest form that reads back as the same float would need more than printf has. */
static ap_status add_real(ap_buf *out, const char *key, double value, ap_error *err)
{
    return ap_buf_printf(out, err, ",\"%s\":%.17g", key, value);
}

static ap_status add_stops(ap_buf *out, const json_t *stop, ap_error *err)
{
    if (!json_is_string(stop))
        return add_json(out, "stop", stop, err);
    AP_TRY(ap_buf_add_str(out, AP_STR(",\"stop\":["), err));
    AP_TRY(ap_json_add_text(out, (ap_str){json_string_value(stop), json_string_length(stop)}, err));
    return ap_buf_add_char(out, ']', err);
}

ap_status ap_openai_job(const ap_openai_request *r, size_t prompt, size_t choice, ap_buf *out, ap_error *err)
{
    const ap_openai_fields *f = &r->fields;
    ap_buf_clear(out);
    if (r->endpoint == AP_ENDPOINT_CHAT) {
        AP_TRY(ap_buf_printf(out, err, "{\"kind\":\"chat\",\"now\":%" PRId64, ap_clock_wall()));
        AP_TRY(add_json(out, "messages", r->messages, err));
        if (f->template_kwargs)
            AP_TRY(add_json(out, "kwargs", f->template_kwargs, err));
    } else {
        AP_TRY(ap_buf_add_str(out, AP_STR("{\"kind\":\"completion\""), err));
        AP_TRY(add_json(out, "prompt", prompt_at(r, prompt), err));
    }
    if (r->max_tokens)
        AP_TRY(ap_buf_printf(out, err, ",\"max_tokens\":%" PRId64, r->max_tokens));
    AP_TRY(add_real(out, "temperature", f->temperature, err));
    AP_TRY(add_real(out, "top_p", f->top_p, err));
    AP_TRY(add_real(out, "min_p", f->min_p, err));
    AP_TRY(add_real(out, "repetition_penalty", f->repetition_penalty, err));
    AP_TRY(add_real(out, "frequency_penalty", f->frequency_penalty, err));
    AP_TRY(add_real(out, "presence_penalty", f->presence_penalty, err));
    AP_TRY(ap_buf_printf(out, err, ",\"top_k\":%" PRId64 ",\"seed\":%" PRId64 ",\"choice\":%zu,\"ignore_eos\":%s", f->top_k,
                         r->seed, choice, f->ignore_eos ? "true" : "false"));
    if (f->logit_bias)
        AP_TRY(add_json(out, "logit_bias", f->logit_bias, err));
    if (f->stop)
        AP_TRY(add_stops(out, f->stop, err));
    if (r->logprobs)
        AP_TRY(ap_buf_printf(out, err, ",\"logprobs\":true,\"top_logprobs\":%" PRId64, r->top_logprobs));
    return ap_buf_add_char(out, '}', err);
}
