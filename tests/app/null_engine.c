/* null_engine.c - libaperto's face without a model: what the worker's own tests run on.
 *
 * Tokens are bytes.  A request answers with its prompt over and over, one byte a
 * step.  Some bytes in a prompt make trouble:
 *   1  the step fails, the engine cannot go on
 *   2  the request fails as if its logits were not finite
 *   3  an answer token is a megabyte of text
 *   4  the step ends the process by SIGSEGV
 *   5  the step makes a system call that the sandbox forbids
 * Each step reads the last byte of the model file.
 *
 * In the answer to a chat '^' begins a call of "f", '%' is "{}" of its arguments, '$' is a thought.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "aperto.h"

#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/utf8.h"

enum { REQUESTS = 1024, HUGE_BYTES = 2 * 1024 * 1024 };

const char *ap_kv_type_name(unsigned type) { return "f16"; }

struct ap_model {
    ap_mapping map;
    ap_model_info info;
};
struct ap_vocab {
    int nothing;
};

typedef struct null_request {
    uint64_t id;
    unsigned char *prompt;
    uint32_t count, drawn, max;
    char stop;
    bool has_stop, logprobs, is_cancelled;
    uint32_t top;
} null_request;

struct ap_engine {
    const ap_model *model;
    ap_engine_options options;
    null_request live[REQUESTS];
    uint32_t live_count;
    uint64_t steps;
};

static struct ap_vocab the_vocab;

void ap_release(void *pointer) { ap_free(pointer); }

ap_sampling ap_sampling_default(void)
{
    return (ap_sampling){.temperature = 1, .top_p = 1, .repetition_penalty = 1};
}

ap_status ap_adapter_open(ap_adapter **out, const ap_model *model, int config_fd, int weights_fd, ap_error *err)
{
    *out = NULL;
    return ap_fail(err, AP_E_UNSUPPORTED, "the null engine has no adapters");
}

ap_status ap_model_open(ap_model **out, int fd, ap_error *err)
{
    ap_model *model = ap_alloc_zero(1, sizeof *model);
    if (!model)
        return ap_fail_nomem(err, sizeof *model);
    AP_TRY(ap_file_map(fd, &model->map, err));
    if (model->map.len < 4 || memcmp(model->map.ptr, "NULL", 4) != 0)
        return ap_fail(err, AP_E_FORMAT, "the file does not begin with NULL");
    memcpy(model->info.architecture, "null", 5);
    memcpy(model->info.name, "a \xff name", 9); /* a stranger's: not UTF-8 */
    model->info.vocab_count = 256;
    model->info.has_chat_template = true;
    *out = model;
    return AP_OK;
}

const ap_model_info *ap_model_info_of(const ap_model *model) { return &model->info; }
const ap_vocab *ap_model_vocab(const ap_model *model) { return &the_vocab; }
uint32_t ap_vocab_count(const ap_vocab *vocab) { return 256; }

const char *ap_vocab_piece(const ap_vocab *vocab, int32_t id, size_t *length)
{
    static char pieces[256];
    *length = id >= 0 && id < 256;
    if (!*length)
        return NULL;
    pieces[id] = (char)id;
    return &pieces[id];
}

ap_status ap_vocab_tokenize(const ap_vocab *vocab, const char *text, size_t length, unsigned flags,
                            ap_tokens *out, ap_error *err)
{
    out->ids = ap_alloc_array(length + 1, sizeof *out->ids);
    if (!out->ids)
        return ap_fail_nomem(err, length);
    for (size_t i = 0; i < length; i++)
        out->ids[i] = (unsigned char)text[i];
    out->count = length;
    return AP_OK;
}

/* The whole JSON is the prompt, so that a test sees what was passed. */
ap_status ap_vocab_render(const ap_vocab *vocab, const char *json, size_t length, int64_t now, char **text,
                          size_t *text_length, ap_tokens *tokens, ap_error *err)
{
    if (memmem(json, length, "refuse", 6))
        return ap_fail(err, AP_E_TEMPLATE, "the template said \xc3\xa4 and \xff");
    return ap_vocab_tokenize(vocab, json, length, 0, tokens, err);
}

bool ap_vocab_template_reads(const ap_vocab *vocab, const char *name) { return name[0] == 'r'; }
bool ap_vocab_template_owns(const char *name) { return strcmp(name, "messages") == 0; }

struct ap_answer {
    uint32_t calls;
};

ap_status ap_vocab_render_chat(const ap_vocab *vocab, const char *json, size_t length, int64_t now, ap_tokens *tokens,
                               ap_answer **answer, ap_error *err)
{
    *answer = ap_alloc_zero(1, sizeof **answer);
    ap_status status = *answer ? ap_vocab_render(vocab, json, length, now, NULL, NULL, tokens, err) : ap_fail_nomem(err, 1);
    if (status != AP_OK)
        ap_answer_destroy(answer);
    return status;
}

ap_status ap_answer_push(ap_answer *answer, const char *text, size_t length, ap_answer_fn *fn, void *context, ap_error *err)
{
    ap_answer_piece piece = {.kind = AP_ANSWER_CONTENT, .text = text, .length = length, .id = ""};
    if (length == 1 && *text == '^')
        piece = (ap_answer_piece){AP_ANSWER_CALL, answer->calls++, "f", 1, "", 0};
    else if (length == 1 && *text == '%')
        piece = (ap_answer_piece){AP_ANSWER_ARGUMENTS, answer->calls - 1, "{}", 2, "", 0};
    else if (length == 1 && *text == '$')
        piece.kind = AP_ANSWER_REASONING;
    return length ? fn(context, &piece, err) : AP_OK;
}

ap_status ap_answer_finish(ap_answer *answer, ap_answer_fn *fn, void *context, ap_error *err) { return AP_OK; }

void ap_answer_destroy(ap_answer **answer)
{
    ap_free(*answer);
    *answer = NULL;
}

ap_status ap_engine_create(ap_engine **out, const ap_model *model, const ap_engine_options *options,
                           ap_error *err)
{
    ap_engine *engine = ap_alloc_zero(1, sizeof *engine);
    *out = engine;
    if (!engine)
        return ap_fail_nomem(err, sizeof *engine);
    engine->model = model;
    engine->options = *options;
    if (!engine->options.context_tokens)
        engine->options.context_tokens = 8192;
    return AP_OK;
}

ap_status ap_engine_submit(ap_engine *engine, const ap_request *r, ap_error *err)
{
    if (r->prompt_count + r->max_tokens > engine->options.context_tokens)
        return ap_fail(err, AP_E_CONTEXT, "%zu and %u tokens do not fit", r->prompt_count, r->max_tokens);
    if (engine->live_count == REQUESTS)
        return ap_fail(err, AP_E_FULL, "full");
    null_request *q = &engine->live[engine->live_count];
    *q = (null_request){.id = r->id,
                        .prompt = ap_alloc(r->prompt_count),
                        .count = (uint32_t)r->prompt_count,
                        .max = r->max_tokens ? r->max_tokens
                                             : engine->options.context_tokens - (uint32_t)r->prompt_count,
                        .has_stop = r->stop_count > 0,
                        .stop = r->stop_count ? r->stops[r->stop_count - 1][0] : 0,
                        .logprobs = r->logprobs,
                        .top = r->top_logprobs};
    if (!q->prompt)
        return ap_fail_nomem(err, r->prompt_count);
    for (size_t i = 0; i < r->prompt_count; i++)
        q->prompt[i] = (unsigned char)r->prompt[i];
    engine->live_count++;
    return AP_OK;
}

ap_status ap_engine_cancel(ap_engine *engine, uint64_t id)
{
    for (uint32_t i = 0; i < engine->live_count; i++)
        if (engine->live[i].id == id) {
            engine->live[i].is_cancelled = true;
            return AP_OK;
        }
    return AP_E_NOTFOUND;
}

static void drop(ap_engine *engine, uint32_t i)
{
    ap_free(engine->live[i].prompt);
    engine->live[i] = engine->live[--engine->live_count];
}

/* True: the request is over. */
static bool advance(ap_engine *engine, null_request *q, ap_event_fn *fn, void *context)
{
    static char huge[HUGE_BYTES];
    ap_error error = {0};
    ap_event e = {.kind = AP_EVENT_DONE,
                  .id = q->id,
                  .text = "",
                  .stop_index = -1,
                  .prompt_count = q->count,
                  .answer_count = q->drawn,
                  .prompt_ns = 1500000,
                  .answer_ns = 2000000,
                  .finish = AP_FINISH_CANCELLED};
    unsigned char byte = q->prompt[q->drawn % q->count];
    if (q->is_cancelled) {
        fn(context, &e);
        return true;
    }
    if (byte == 2) {
        (void)ap_fail(&error, AP_E_NUMERIC, "a logit is not finite");
        e.kind = AP_EVENT_FAILED;
        e.error = &error;
        fn(context, &e);
        return true;
    }
    if (byte == 4) {
        (void)signal(SIGSEGV, SIG_DFL);
        (void)syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGSEGV);
    }
    if (byte == 5)
        (void)syscall(SYS_socket, 1, 1, 0);
    char text[4];
    size_t length = ap_utf8_put(byte, text);
    ap_token_logprob top[20];
    for (int i = 0; i < 20; i++)
        top[i] = (ap_token_logprob){i + 200, i == 1 ? -INFINITY : -(float)i};
    e.kind = AP_EVENT_TOKEN;
    e.token = byte;
    e.text = text;
    e.text_length = length;
    e.logprob = -0.25f;
    e.top = top;
    e.top_count = q->top;
    if (byte == 3) {
        memset(huge, 'x', sizeof huge);
        e.text = huge;
        e.text_length = sizeof huge;
    }
    q->drawn++;
    bool is_stopped = q->has_stop && (char)byte == q->stop;
    if (is_stopped)
        e.text_length = 0;
    fn(context, &e);
    if (!is_stopped && q->drawn < q->max)
        return false;
    e = (ap_event){.kind = AP_EVENT_DONE,
                   .id = q->id,
                   .text = is_stopped ? "" : ".",
                   .text_length = !is_stopped,
                   .finish = is_stopped ? AP_FINISH_STOP : AP_FINISH_LENGTH,
                   .stop_index = is_stopped ? 0 : -1,
                   .prompt_count = q->count,
                   .answer_count = q->drawn,
                   .prompt_ns = 1500000,
                   .answer_ns = 2000000};
    fn(context, &e);
    return true;
}

ap_status ap_engine_step(ap_engine *engine, ap_event_fn *fn, void *context, bool *busy, ap_error *err)
{
    static volatile unsigned char seen __attribute__((unused));
    engine->steps++;
    if (engine->model)
        seen = engine->model->map.ptr[engine->model->map.len - 1];
    for (uint32_t i = 0; i < engine->live_count; i++)
        if (engine->live[i].prompt[engine->live[i].drawn % engine->live[i].count] == 1)
            return ap_fail(err, AP_E_BUG, "the null engine was told to stop");
    for (uint32_t i = engine->live_count; i-- > 0;)
        if (advance(engine, &engine->live[i], fn, context))
            drop(engine, i);
    *busy = engine->live_count > 0;
    return AP_OK;
}

void ap_engine_destroy(ap_engine **engine)
{
    if (*engine)
        while ((*engine)->live_count)
            drop(*engine, 0);
    ap_free(*engine);
    *engine = NULL;
}

void ap_engine_stats_of(const ap_engine *engine, ap_engine_stats *stats)
{
    *stats = (ap_engine_stats){.running = engine->live_count,
                               .steps = engine->steps,
                               .context_tokens = engine->options.context_tokens,
                               .threads = 1,
                               .isa = "plain"};
}
