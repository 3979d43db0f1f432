/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/openai_read.h"

#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "serve/json_limits.h"
#include "serve/openai_chat.h"

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
            ap_str_append(r->no_effect, sizeof r->no_effect, "%s%s", r->no_effect[0] ? ", " : "", param);
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

/* The variables for the template; the effort of reasoning is one of them. */
static bool read_kwargs(ap_openai_request *r, ap_refusal *refusal)
{
    static const char *const efforts[] = {"none", "minimal", "low", "medium", "high", "xhigh"};
    const json_t *kwargs = r->fields.template_kwargs, *effort = r->fields.reasoning_effort;
    if (kwargs && !json_is_object(kwargs))
        return ap_refuse(refusal, 400, "chat_template_kwargs", NULL, "'chat_template_kwargs' must be an object");
    if (!kwargs && !effort)
        return true;
    bool is_known = !effort;
    for (size_t i = 0; i < sizeof efforts / sizeof *efforts && json_is_string(effort); i++)
        is_known = is_known || strcmp(json_string_value(effort), efforts[i]) == 0;
    if (!is_known)
        return ap_refuse(refusal, 400, "reasoning_effort", NULL,
                         "'reasoning_effort' must be one of 'none', 'minimal', 'low', 'medium', 'high', 'xhigh'");
    const json_t *other = effort ? json_object_get(kwargs, "reasoning_effort") : NULL;
    if (other && !json_equal(other, effort))
        return ap_refuse(refusal, 400, "reasoning_effort", NULL,
                         "'reasoning_effort' and 'chat_template_kwargs.reasoning_effort' mean the same and differ");
    r->kwargs = kwargs ? json_copy((json_t *)kwargs) : json_object();
    if (!r->kwargs || (effort && json_object_set(r->kwargs, "reasoning_effort", (json_t *)effort)))
        return ap_refuse(refusal, 503, NULL, NULL, "out of memory for the template's variables");
    return true;
}

static bool read_chat(ap_openai_request *r, ap_refusal *refusal)
{
    r->prompt_count = 1;
    r->messages = ap_openai_messages_read(r->fields.messages, refusal);
    return r->messages && read_kwargs(r, refusal) && ap_openai_tools_read(&r->fields, &r->tools, refusal);
}

static bool read_all(ap_openai_request *r, ap_refusal *refusal)
{
    if (!ap_fields_read(r->endpoint, r->root, &r->fields, r->no_effect, refusal))
        return false;
    const json_t *model = r->fields.model;
    if (!json_is_string(model))
        return ap_refuse(refusal, 400, "model", model ? NULL : "missing_field", "'model' must be the name of a model");
    return (r->endpoint == AP_ENDPOINT_CHAT ? read_chat(r, refusal) : read_prompts(r, refusal)) &&
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
    json_decref(request->kwargs);
    request->root = request->messages = request->kwargs = NULL;
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
        if (r->tools)
            AP_TRY(add_json(out, "tools", r->tools, err));
        if (r->kwargs)
            AP_TRY(add_json(out, "kwargs", r->kwargs, err));
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
