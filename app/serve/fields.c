/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/fields.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { CHAT = AP_ENDPOINT_CHAT, TEXT = AP_ENDPOINT_COMPLETION, BOTH = CHAT | TEXT };

#define AT(member) offsetof(ap_openai_fields, member)
#define REAL(name, ends, low, high, above) {#name, ends, AP_FIELD_HONOURED, AP_FIELD_REAL, AT(name), low, high, above, {0}}
#define COUNT(name, ends, low, high) {#name, ends, AP_FIELD_HONOURED, AP_FIELD_COUNT, AT(name), low, high, false, {0}}
#define FLAG(name, ends) {#name, ends, AP_FIELD_HONOURED, AP_FIELD_FLAG, AT(name), 0, 0, false, {0}}
#define JSON(name, ends, member) {name, ends, AP_FIELD_HONOURED, AP_FIELD_JSON, AT(member), 0, 0, false, {0}}
#define IDLE(name, ends) {name, ends, AP_FIELD_NO_EFFECT, AP_FIELD_JSON, 0, 0, 0, false, {0}}
#define REFUSED(name, ends, ...) {name, ends, AP_FIELD_REFUSED, AP_FIELD_JSON, 0, 0, 0, false, {__VA_ARGS__}}

static const ap_field table[] = {
    JSON("model", BOTH, model),
    JSON("messages", CHAT, messages),
    JSON("prompt", TEXT, prompt),
    COUNT(max_tokens, BOTH, 1, INT32_MAX),
    COUNT(max_completion_tokens, CHAT, 1, INT32_MAX),
    REAL(temperature, BOTH, 0, 2, false),
    REAL(top_p, BOTH, 0, 1, true),
    COUNT(top_k, BOTH, 0, INT32_MAX),
    REAL(min_p, BOTH, 0, 1, false),
    REAL(repetition_penalty, BOTH, 0, 100, true),
    REAL(frequency_penalty, BOTH, -2, 2, false),
    REAL(presence_penalty, BOTH, -2, 2, false),
    COUNT(n, BOTH, 1, 16),
    /* The whole range of 64 bits; jansson has refused what is beyond. */
    COUNT(seed, BOTH, -0x1p63, 0x1p63),
    JSON("stop", BOTH, stop),
    JSON("logit_bias", BOTH, logit_bias),
    FLAG(logprobs, CHAT),
    COUNT(top_logprobs, CHAT, 0, 20),
    {"logprobs", TEXT, AP_FIELD_HONOURED, AP_FIELD_COUNT, AT(logprob_count), 0, 5, false, {0}},
    FLAG(stream, BOTH),
    JSON("stream_options", BOTH, stream_options),
    FLAG(ignore_eos, BOTH),
    JSON("chat_template_kwargs", CHAT, template_kwargs),
    JSON("reasoning_effort", CHAT, reasoning_effort),
    JSON("tools", CHAT, tools),
    JSON("tool_choice", CHAT, tool_choice),
    FLAG(parallel_tool_calls, CHAT),

    /* These steer accounts, caches and hints of a hosted service; no answer depends on them here. */
    IDLE("user", BOTH),
    IDLE("metadata", CHAT),
    IDLE("store", CHAT),
    IDLE("service_tier", CHAT),
    IDLE("safety_identifier", CHAT),
    IDLE("prompt_cache_key", CHAT),
    IDLE("prompt_cache_retention", CHAT),
    IDLE("cache_prompt", BOTH),
    IDLE("prediction", CHAT),
    IDLE("verbosity", CHAT),

    REFUSED("functions", CHAT, "[]"),
    REFUSED("function_call", CHAT, "\"none\"", "\"auto\""),
    REFUSED("response_format", CHAT, "{\"type\":\"text\"}"),
    REFUSED("modalities", CHAT, "[\"text\"]"),
    REFUSED("audio", CHAT, NULL),
    REFUSED("web_search_options", CHAT, NULL),
    REFUSED("moderation", CHAT, NULL),
    REFUSED("add_generation_prompt", CHAT, "true"),
    REFUSED("continue_final_message", CHAT, "false"),
    REFUSED("echo", BOTH, "false"),
    REFUSED("suffix", TEXT, "\"\""),
    REFUSED("grammar", BOTH, "\"\""),
    REFUSED("json_schema", BOTH, NULL),
    REFUSED("guided_json", BOTH, NULL),
    REFUSED("guided_regex", BOTH, NULL),
    REFUSED("guided_choice", BOTH, NULL),
    REFUSED("guided_grammar", BOTH, NULL),
    REFUSED("structured_outputs", BOTH, NULL),
    REFUSED("min_tokens", BOTH, "0"),
    REFUSED("stop_token_ids", BOTH, "[]"),
    REFUSED("include_stop_str_in_output", BOTH, "false"),
    REFUSED("skip_special_tokens", BOTH, "true"),
    REFUSED("bad_words", BOTH, "[]"),
    REFUSED("use_beam_search", BOTH, "false"),
    REFUSED("prompt_logprobs", BOTH, NULL),
    REFUSED("reasoning_format", CHAT, "\"auto\"", "\"deepseek\""),
    REFUSED("id_slot", BOTH, "-1"),
    REFUSED("typical_p", BOTH, "1", "1.0"),
    REFUSED("mirostat", BOTH, "0"),
    REFUSED("xtc_probability", BOTH, "0", "0.0"),
    REFUSED("dry_multiplier", BOTH, "0", "0.0"),
    REFUSED("truncate_prompt_tokens", BOTH, NULL),
};
#undef AT

const ap_field *ap_fields_table(size_t *count)
{
    *count = sizeof table / sizeof *table;
    return table;
}

static const ap_field *find(ap_endpoint endpoint, const char *name)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if ((table[i].endpoints & endpoint) && strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

static bool read_real(const ap_field *f, const json_t *value, double *out, ap_refusal *refusal)
{
    double number = json_number_value(value);
    /* The engine computes with floats: what is zero there is zero here. */
    bool is_low = f->is_above_low ? !((float)number > (float)f->low) : !(number >= f->low);
    if (!json_is_number(value) || !isfinite(number) || is_low || number > f->high)
        return ap_refuse(refusal, 400, f->name, NULL, "'%s' must be a number %s %g to %g", f->name,
                         f->is_above_low ? "above" : "from", f->low, f->high);
    *out = number;
    return true;
}

static bool read_count(const ap_field *f, const json_t *value, int64_t *out, ap_refusal *refusal)
{
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || (double)number < f->low || (double)number > f->high)
        return f->high >= 0x1p63
                   ? ap_refuse(refusal, 400, f->name, NULL, "'%s' must be an integer of 64 bits", f->name)
                   : ap_refuse(refusal, 400, f->name, NULL, "'%s' must be an integer from %.0f to %.0f", f->name, f->low,
                               f->high);
    *out = number;
    return true;
}

static bool is_harmless(const ap_field *f, const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
    bool found = false;
    for (size_t i = 0; text && i < sizeof f->harmless / sizeof *f->harmless && f->harmless[i]; i++)
        found = found || strcmp(text, f->harmless[i]) == 0;
    free(text); /* jansson's, from malloc */
    return found;
}

static bool read_honoured(const ap_field *f, const json_t *value, ap_openai_fields *fields, ap_refusal *refusal)
{
    void *target = (char *)fields + f->offset;
    switch (f->kind) {
    case AP_FIELD_REAL:
        return read_real(f, value, target, refusal);
    case AP_FIELD_COUNT:
        return read_count(f, value, target, refusal);
    case AP_FIELD_FLAG:
        if (!json_is_boolean(value))
            return ap_refuse(refusal, 400, f->name, NULL, "'%s' must be true or false", f->name);
        *(bool *)target = json_is_true(value);
        return true;
    case AP_FIELD_JSON:
        *(const json_t **)target = value;
        return true;
    }
    return false;
}

bool ap_fields_read(ap_endpoint endpoint, const json_t *root, ap_openai_fields *fields, char *no_effect,
                    ap_refusal *refusal)
{
    *fields = (ap_openai_fields){
        .temperature = 1, .top_p = 1, .repetition_penalty = 1, .n = 1, .logprob_count = -1, .parallel_tool_calls = true};
    no_effect[0] = 0;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)root, name, value) {
        const ap_field *f = find(endpoint, name);
        if (!f && endpoint == AP_ENDPOINT_COMPLETION && strcmp(name, "best_of") == 0)
            continue; /* depends on n: below */
        if (!f)
            return ap_refuse(refusal, 400, name, "unknown_field", "unknown field '%.60s'", name);
        if (json_is_null(value))
            continue;
        if (f->rule == AP_FIELD_REFUSED && !is_harmless(f, value))
            return ap_refuse(refusal, 400, name, "unsupported_field", "'%s' is not supported in this release", name);
        if (f->rule == AP_FIELD_NO_EFFECT)
            ap_str_append(no_effect, AP_REPLY_HEADER_BYTES, "%s%s", no_effect[0] ? ", " : "", name);
        if (f->rule == AP_FIELD_HONOURED && !read_honoured(f, value, fields, refusal))
            return false;
    }
    fields->has_seed = json_is_integer(json_object_get(root, "seed"));
    const json_t *best = json_object_get(root, "best_of");
    if (endpoint == AP_ENDPOINT_COMPLETION && best && !json_is_null(best) &&
        (!json_is_integer(best) || json_integer_value(best) != fields->n))
        return ap_refuse(refusal, 400, "best_of", "unsupported_field",
                         "'best_of' is not supported in this release unless it equals 'n'");
    return true;
}
