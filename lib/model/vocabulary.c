/* vocabulary.c - the vocabulary and the chat template out of a file's metadata.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <jansson.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/utf8.h"
#include "model/model.h"
#include "model/vocabulary.h"
#include "text/vocab_read.h"

/* A template that cannot be compiled does not spoil the model: it can still complete
 * text, and a chat is refused with the reason. */
static ap_status read_template(ap_vocab *vocab, const ap_gguf *gguf, ap_error *err)
{
    ap_str source = {0};
    if (ap_gguf_find(gguf, AP_STR("tokenizer.chat_template")))
        AP_TRY(ap_gguf_get_str(gguf, "tokenizer.chat_template", &source, err));
    else if (ap_tokenizer_special(vocab->tokenizer, AP_STR("<|im_start|>")) >= 0)
        source = ap_template_chatml();
    else
        return AP_OK;
    vocab->template_status = ap_template_compile(&vocab->chat_template, source, &vocab->template_error);
    if (vocab->template_status == AP_OK)
        ap_call_format_find(&vocab->calls, source, ap_template_traits_of(vocab->chat_template), vocab->tokenizer);
    return vocab->template_status == AP_E_NOMEM ? ap_fail_nomem(err, source.len) : AP_OK;
}

ap_status ap_vocab_create(ap_vocab **out, const ap_gguf *gguf, ap_error *err)
{
    *out = NULL;
    ap_vocab *vocab = ap_alloc_zero(1, sizeof *vocab);
    if (!vocab)
        return ap_fail_nomem(err, sizeof *vocab);
    ap_arena arena = {0};
    ap_vocab_source source;
    ap_status status = ap_vocab_source_read(&source, &arena, gguf, err);
    if (status == AP_OK)
        status = ap_tokenizer_create(&vocab->tokenizer, &source, err);
    ap_arena_deinit(&arena);
    vocab->has_ids_only = ap_vocab_has_ids_only(gguf);
    if (status == AP_OK)
        status = read_template(vocab, gguf, err);
    if (status != AP_OK) {
        ap_vocab_close(&vocab);
        return status;
    }
    *out = vocab;
    return AP_OK;
}

/* ---- aperto.h ---- */

static ap_status open_gguf(ap_vocab **out, ap_mapping file, ap_error *err)
{
    ap_gguf *gguf = NULL;
    ap_status status = ap_gguf_open(&gguf, file.ptr, file.len, err);
    if (status == AP_OK)
        status = ap_vocab_create(out, gguf, err);
    ap_gguf_close(&gguf);
    return status;
}

/* A tokenizer alone, without a template. */
static ap_status open_alone(ap_vocab **out, ap_mapping file, ap_error *err)
{
    ap_arena arena = {0};
    ap_vocab_source source;
    ap_vocab *vocab = ap_alloc_zero(1, sizeof *vocab);
    if (!vocab)
        return ap_fail_nomem(err, sizeof *vocab);
    ap_status status = ap_vocab_file_read(&source, &arena, (ap_str){(const char *)file.ptr, file.len}, err);
    if (status == AP_OK)
        status = ap_tokenizer_create(&vocab->tokenizer, &source, err);
    ap_arena_deinit(&arena);
    if (status != AP_OK)
        ap_vocab_close(&vocab);
    *out = vocab;
    return status;
}

ap_status ap_vocab_open(ap_vocab **out, int fd, ap_error *err)
{
    *out = NULL;
    ap_mapping file;
    AP_TRY(ap_file_map(fd, &file, err));
    bool is_gguf = file.len >= 4 && memcmp(file.ptr, "GGUF", 4) == 0;
    ap_status status = is_gguf ? open_gguf(out, file, err) : open_alone(out, file, err);
    ap_file_unmap(&file);
    return status;
}

void ap_vocab_close(ap_vocab **vocab)
{
    if (*vocab) {
        ap_template_destroy(&(*vocab)->chat_template);
        ap_tokenizer_destroy(&(*vocab)->tokenizer);
        ap_free(*vocab);
    }
    *vocab = NULL;
}

uint32_t ap_vocab_count(const ap_vocab *vocab) { return ap_tokenizer_count(vocab->tokenizer); }

bool ap_vocab_has_template(const ap_vocab *vocab) { return vocab->chat_template != NULL; }

bool ap_vocab_template_reads(const ap_vocab *vocab, const char *name)
{
    return vocab->chat_template && ap_template_reads(vocab->chat_template, ap_str_from(name));
}

bool ap_vocab_template_owns(const char *name) { return ap_template_owns(ap_str_from(name)); }

/* Hands the ids to the caller of aperto.h. */
static ap_tokens tokens_of(ap_ids *ids)
{
    ap_tokens tokens = {ids->ids, ids->count};
    *ids = (ap_ids){0};
    return tokens;
}

ap_status ap_vocab_tokenize(const ap_vocab *vocab, const char *text, size_t length, unsigned flags, ap_tokens *out,
                            ap_error *err)
{
    *out = (ap_tokens){0};
    if (vocab->has_ids_only)
        return ap_fail(err, AP_E_UNSUPPORTED, "the model came without a tokenizer: it takes token ids and no text");
    ap_text_part part = {{text, length}, (flags & AP_TOKENIZE_SPECIAL) != 0};
    ap_ids ids = {0};
    ap_status status = ap_tokenize(vocab->tokenizer, &part, 1, flags, &ids, err);
    if (status == AP_OK)
        *out = tokens_of(&ids);
    ap_ids_deinit(&ids);
    return status;
}

ap_status ap_vocab_detokenize(const ap_vocab *vocab, const int32_t *ids, size_t count, unsigned flags, char **text,
                              size_t *length, ap_error *err)
{
    *text = NULL;
    *length = 0;
    ap_buf raw = {0}, whole = {0};
    ap_status status = ap_detokenize(vocab->tokenizer, ids, count, flags, &raw, err);
    if (status == AP_OK)
        status = ap_buf_reserve(&whole, raw.len, err);
    if (status == AP_OK)
        status = ap_utf8_add_lossy(&whole, ap_buf_str(&raw), err);
    ap_buf_deinit(&raw);
    if (status != AP_OK) {
        ap_buf_deinit(&whole);
        return status;
    }
    *text = whole.ptr;
    *length = whole.len;
    return AP_OK;
}

const char *ap_vocab_piece(const ap_vocab *vocab, int32_t id, size_t *length)
{
    ap_str piece = ap_tokenizer_piece(vocab->tokenizer, id);
    *length = piece.len;
    return piece.ptr;
}

static ap_status tokenize_rendered(const ap_vocab *vocab, const ap_rendered *rendered, ap_tokens *tokens, ap_error *err)
{
    ap_text_part *parts = ap_alloc_array(rendered->part_count, sizeof *parts);
    if (!parts)
        return ap_fail_nomem(err, rendered->part_count * sizeof *parts);
    for (size_t i = 0; i < rendered->part_count; i++)
        parts[i] = (ap_text_part){{rendered->text + rendered->parts[i].offset, rendered->parts[i].length},
                                  rendered->parts[i].is_template};
    ap_ids ids = {0};
    /* Templates print the begin token themselves. */
    ap_status status = ap_tokenize(vocab->tokenizer, parts, rendered->part_count, 0, &ids, err);
    ap_free(parts);
    if (status == AP_OK)
        *tokens = tokens_of(&ids);
    ap_ids_deinit(&ids);
    return status;
}

static ap_status render(const ap_vocab *vocab, ap_str json, int64_t now, ap_rendered *rendered, ap_error *err)
{
    if (vocab->template_status != AP_OK)
        return ap_fail(err, vocab->template_status, "the model's chat template cannot be used: %s",
                       vocab->template_error.message);
    if (!vocab->chat_template)
        return ap_fail(err, AP_E_UNSUPPORTED, "the model has no chat template; use plain completion");
    static const struct {
        const char *name;
        int32_t (*id)(const ap_tokenizer *);
    } names[] = {{"bos_token", ap_tokenizer_bos}, {"eos_token", ap_tokenizer_eos}, {"unk_token", ap_tokenizer_unk}, {"pad_token", ap_tokenizer_pad}};
    ap_template_token specials[4];
    size_t special_count = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        int32_t id = names[i].id(vocab->tokenizer);
        if (id >= 0)
            specials[special_count++] = (ap_template_token){names[i].name, ap_tokenizer_piece(vocab->tokenizer, id)};
    }
    ap_render_input input = {.json = json, .tokens = specials, .token_count = special_count, .now = now};
    return ap_template_render(vocab->chat_template, &input, rendered, err);
}

ap_status ap_vocab_render(const ap_vocab *vocab, const char *json, size_t json_length, int64_t now, char **text,
                          size_t *text_length, ap_tokens *tokens, ap_error *err)
{
    if (text)
        *text = NULL;
    if (tokens)
        *tokens = (ap_tokens){0};
    ap_rendered rendered;
    AP_TRY(render(vocab, (ap_str){json, json_length}, now, &rendered, err));
    ap_status status = tokens ? tokenize_rendered(vocab, &rendered, tokens, err) : AP_OK;
    if (status == AP_OK && text) {
        *text = rendered.text;
        *text_length = rendered.length;
        rendered.text = NULL;
    }
    ap_rendered_deinit(&rendered);
    return status;
}

/* ---- Answers ---- */

enum { TOOLS_MAX = 1024, CHAT_BYTES_MAX = 64 << 20, CHAT_VALUES_MAX = 1 << 20 };

static ap_status check_tools(const ap_call_format *format, size_t count, ap_error *err)
{
    if (count > TOOLS_MAX)
        return ap_fail(err, AP_E_LIMIT, "%zu tools are more than the limit of %d", count, TOOLS_MAX);
    if (count && !format->shows_tools)
        return ap_fail(err, AP_E_UNSUPPORTED, "the model's chat template does not show tools to the model");
    if (count && format->form == AP_CALLS_NONE && !format->name)
        return ap_fail(err, AP_E_UNSUPPORTED, "tools are not supported for this model: the form of its calls is not known");
    if (count && format->form == AP_CALLS_NONE)
        return ap_fail(err, AP_E_UNSUPPORTED, "tools are not supported for this model: its calls have the form '%s'", format->name);
    return AP_OK;
}

/* Borrowed from the JSON; names has room for TOOLS_MAX. */
static ap_status read_names(const json_t *tools, const ap_call_format *format, ap_str *names, size_t *count, ap_error *err)
{
    const json_t *tool;
    size_t i;
    *count = json_array_size(tools);
    AP_TRY(check_tools(format, *count, err));
    json_array_foreach(tools, i, tool)
    {
        const json_t *function = json_object_get(tool, "function"), *name = json_object_get(function ? function : tool, "name");
        if (!json_is_string(name) || json_string_length(name) == 0)
            return ap_fail(err, AP_E_ARG, "tools[%zu] has no name", i);
        names[i] = (ap_str){json_string_value(name), json_string_length(name)};
    }
    return AP_OK;
}

/* Calls and results that the template leaves out would be lost in silence. */
static ap_status check_shown(const ap_template_traits *traits, const json_t *messages, ap_error *err)
{
    const json_t *message;
    size_t i;
    json_array_foreach(messages, i, message)
    {
        const json_t *calls = json_object_get(message, "tool_calls"), *role = json_object_get(message, "role");
        if (json_array_size(calls) && !traits->tool_calls)
            return ap_fail(err, AP_E_TEMPLATE,
                           "messages[%zu].tool_calls: the model's chat template does not show calls of tools", i);
        if (json_is_string(role) && strcmp(json_string_value(role), "tool") == 0 && !traits->tool_results)
            return ap_fail(err, AP_E_TEMPLATE,
                           "messages[%zu]: the model's chat template does not show results of tools", i);
    }
    return AP_OK;
}

static ap_status make_answer(const ap_vocab *vocab, ap_str json, const ap_rendered *rendered, ap_answer **answer, ap_error *err)
{
    json_t *root = NULL;
    size_t count = 0;
    ap_str end = {0};
    if (rendered->part_count && rendered->parts[rendered->part_count - 1].is_template)
        end = (ap_str){rendered->text + rendered->parts[rendered->part_count - 1].offset, rendered->parts[rendered->part_count - 1].length};
    ap_str *names = ap_alloc_array(TOOLS_MAX, sizeof *names);
    if (!names)
        return ap_fail_nomem(err, TOOLS_MAX * sizeof *names);
    ap_status status = ap_json_parse(&root, json, (ap_json_limits){CHAT_BYTES_MAX, CHAT_VALUES_MAX}, err);
    if (status == AP_OK)
        status = read_names(json_object_get(root, "tools"), &vocab->calls, names, &count, err);
    if (status == AP_OK)
        status = check_shown(ap_template_traits_of(vocab->chat_template), json_object_get(root, "messages"), err);
    if (status == AP_OK)
        status = ap_calls_create(answer, &vocab->calls, names, count, ap_call_format_opens(&vocab->calls, end), err);
    json_decref(root);
    ap_free(names);
    return status;
}

ap_status ap_vocab_render_chat(const ap_vocab *vocab, const char *json, size_t json_length, int64_t now, ap_tokens *tokens,
                               ap_answer **answer, ap_error *err)
{
    *tokens = (ap_tokens){0};
    *answer = NULL;
    ap_rendered rendered;
    AP_TRY(render(vocab, (ap_str){json, json_length}, now, &rendered, err));
    ap_status status = make_answer(vocab, (ap_str){json, json_length}, &rendered, answer, err);
    if (status == AP_OK)
        status = tokenize_rendered(vocab, &rendered, tokens, err);
    if (status != AP_OK)
        ap_answer_destroy(answer);
    ap_rendered_deinit(&rendered);
    return status;
}

ap_status ap_answer_push(ap_answer *answer, const char *text, size_t length, ap_answer_fn *fn, void *context, ap_error *err)
{
    return ap_calls_push(answer, (ap_str){text, length}, fn, context, err);
}

ap_status ap_answer_finish(ap_answer *answer, ap_answer_fn *fn, void *context, ap_error *err)
{
    return ap_calls_finish(answer, fn, context, err);
}

void ap_answer_destroy(ap_answer **answer) { ap_calls_destroy(answer); }

ap_status ap_vocab_render_user(const ap_vocab *vocab, const char *text, size_t length, int64_t now, ap_tokens *tokens,
                               ap_error *err)
{
    ap_buf json = {0};
    *tokens = (ap_tokens){0};
    if (!ap_utf8_valid((ap_str){text, length}))
        return ap_fail(err, AP_E_ARG, "the text is not valid UTF-8");
    json_t *root = json_pack("{s:[{s:s, s:s%}], s:b}", "messages", "role", "user", "content", text, length,
                             "add_generation_prompt", 1);
    ap_status status = root ? ap_json_print(root, JSON_COMPACT, &json, err) : ap_fail_nomem(err, length);
    if (status == AP_OK)
        status = ap_vocab_render(vocab, json.ptr, json.len, now, NULL, NULL, tokens, err);
    json_decref(root);
    ap_buf_deinit(&json);
    return status;
}

/* ---- What the template does ---- */

#define CHAT "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"add_generation_prompt\":true"
#define TOOL "{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\",\"parameters\":{\"type\":\"object\",\"properties\":{}}}}"

static ap_status render_short(const ap_vocab *vocab, ap_str json, ap_tokens *tokens, ap_error *err)
{
    return ap_vocab_render(vocab, json.ptr, json.len, 0, NULL, NULL, tokens, err);
}

/* How many BOS a conversation begins with. */
static size_t count_bos(const ap_vocab *vocab, ap_import_report *report)
{
    ap_tokens tokens;
    ap_error why = {0};
    size_t count = 0;
    if (render_short(vocab, AP_STR(CHAT "}"), &tokens, &why) != AP_OK) {
        ap_str_append(report->notes, sizeof report->notes, "Warning: the chat template fails for a message without tools (%.160s). ", why.message);
        if (render_short(vocab, AP_STR(CHAT ",\"tools\":[" TOOL "]}"), &tokens, NULL) != AP_OK)
            return 0;
    }
    int32_t bos = ap_tokenizer_bos(vocab->tokenizer);
    while (bos >= 0 && count < tokens.count && tokens.ids[count] == bos)
        count++;
    ap_free(tokens.ids);
    return count;
}

void ap_vocab_describe_chat(const ap_vocab *vocab, ap_import_report *report)
{
    report->chat = 0;
    report->chat_calls[0] = 0;
    if (!vocab->chat_template)
        return;
    const ap_template_traits *traits = ap_template_traits_of(vocab->chat_template);
    const ap_call_format *calls = &vocab->calls;
    size_t bos = count_bos(vocab, report);
    if (!traits->string_content && !traits->typed_content)
        return; /* it showed no message at all: whatever else were said would be wrong */
    const struct {
        uint32_t bit;
        bool is_set;
    } bits[] = {
        {AP_CHAT_KNOWN, true},
        {AP_CHAT_SYSTEM, traits->system_role},
        {AP_CHAT_TOOLS, calls->shows_tools},
        {AP_CHAT_CALLS, calls->form != AP_CALLS_NONE},
        {AP_CHAT_RESULTS, traits->tool_calls && traits->tool_results},
        {AP_CHAT_REASONING, calls->thinking != AP_THINKING_NONE || calls->form == AP_CALLS_HARMONY},
        {AP_CHAT_BOS, bos > 0},
        {AP_CHAT_BOS_TWICE, bos > 1},
        {AP_CHAT_TOKENIZER_BOS, ap_tokenizer_adds_bos(vocab->tokenizer)},
    };
    for (size_t i = 0; i < sizeof bits / sizeof bits[0]; i++)
        report->chat |= bits[i].is_set ? bits[i].bit : 0;
    (void)snprintf(report->chat_calls, sizeof report->chat_calls, "%s", calls->name ? calls->name : "");
}
