/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/engine.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"

enum {
    CONTEXT_TOKENS_DEFAULT = 8192, /* what a chat needs; more memory only on demand */
    CONTEXT_TOKENS_MIN = 16,
    STEP_TOKENS_DEFAULT = 512,
    STEP_TOKENS_MAX = 8192,
    REQUESTS_DEFAULT = 256,
    REQUESTS_MAX = 4096,
    LOGIT_ROWS = 16 /* rows of logits in memory at once: 16 x 128k x 4 bytes are 8 MiB */
};
static const uint64_t KV_BYTES_DEFAULT = (uint64_t)1 << 30;
/* What comes and goes beside: prompts, requests on their way in, answers on their way out. */
static const uint64_t RESERVE_BYTES = (uint64_t)64 << 20;

struct ap_engine {
    const ap_model *model;
    ap_kernels kernels;
    ap_pool *pool;
    ap_pages *pages;
    ap_forward *forward;
    ap_sampler *sampler;
    uint32_t context_tokens, step_tokens, requests_max;
    size_t page_bytes;
    uint64_t work_bytes; /* forward pass, logits, sampler */

    ap_live **live; /* in order of arrival */
    uint32_t live_count;
    ap_sched_request *views;
    ap_piece *pieces;
    ap_live **piece_owner; /* whose piece it is */
    uint32_t piece_count;
    float *logits; /* LOGIT_ROWS x vocab_count */
    ap_token_logprob *top;

    uint64_t steps, prompt_tokens, answer_tokens, preemptions;
};

ap_sampling ap_sampling_default(void)
{
    return (ap_sampling){.temperature = 1, .top_p = 1, .repetition_penalty = 1};
}

/* ---- Creation ---- */

static ap_status choose_sizes(ap_engine *e, const ap_engine_options *o, uint64_t *kv_bytes, ap_error *err)
{
    if (!ap_kv_type_name(o->kv_type))
        return ap_fail(err, AP_E_ARG, "KV type %d is none; there are f16, f32 and q8", (int)o->kv_type);
    uint32_t declared = e->model->sizes.context_tokens;
    uint32_t usual = declared < CONTEXT_TOKENS_DEFAULT ? declared : CONTEXT_TOKENS_DEFAULT;
    e->context_tokens = o->context_tokens ? o->context_tokens : usual;
    if (e->context_tokens > declared)
        return ap_fail(err, AP_E_LIMIT, "a context of %u tokens is asked for; the model was made for %u", e->context_tokens,
                       declared);
    if (e->context_tokens < CONTEXT_TOKENS_MIN && e->context_tokens < declared)
        return ap_fail(err, AP_E_LIMIT, "a context of %u tokens is below %d", e->context_tokens, CONTEXT_TOKENS_MIN);
    e->step_tokens = o->step_tokens ? o->step_tokens : STEP_TOKENS_DEFAULT;
    if (e->step_tokens > STEP_TOKENS_MAX)
        return ap_fail(err, AP_E_LIMIT, "%u tokens per step are above %d", e->step_tokens, STEP_TOKENS_MAX);
    if (e->model->arch->is_encoder && e->step_tokens < e->context_tokens) {
        if (e->context_tokens > STEP_TOKENS_MAX)
            return ap_fail(err, AP_E_LIMIT, "a context of %u tokens is asked for; an encoder computes it in one step, of at most %d",
                           e->context_tokens, STEP_TOKENS_MAX);
        e->step_tokens = e->context_tokens;
    }
    e->requests_max = o->requests_max ? o->requests_max : REQUESTS_DEFAULT;
    if (e->requests_max > REQUESTS_MAX)
        return ap_fail(err, AP_E_LIMIT, "%u requests are above %d", e->requests_max, REQUESTS_MAX);
    /* Every request that speaks gets its token in every step. */
    if (e->requests_max > e->step_tokens)
        e->requests_max = e->step_tokens;
    e->page_bytes = ap_forward_page_bytes(e->model, o->kv_type);
    uint64_t context_pages = e->context_tokens / AP_PAGE_TOKENS + (e->context_tokens % AP_PAGE_TOKENS != 0);
    uint64_t context_bytes = context_pages * e->page_bytes;
    *kv_bytes = o->kv_bytes;
    if (*kv_bytes == 0) {
        *kv_bytes = 4 * context_bytes < KV_BYTES_DEFAULT ? 4 * context_bytes : KV_BYTES_DEFAULT;
        if (*kv_bytes < context_bytes)
            *kv_bytes = context_bytes;
    }
    if (*kv_bytes < context_bytes)
        return ap_fail(err, AP_E_LIMIT,
                       "one context of %u tokens needs %" PRIu64 " bytes of KV memory, %" PRIu64 " are given",
                       e->context_tokens, context_bytes, *kv_bytes);
    if (*kv_bytes / e->page_bytes > UINT32_MAX / 2)
        return ap_fail(err, AP_E_LIMIT, "%" PRIu64 " bytes of KV memory are too many pages", *kv_bytes);
    return AP_OK;
}

static unsigned long long mib(uint64_t bytes) { return (bytes + (1 << 20) - 1) >> 20; }

/* The pages are touched when first used, perhaps hours later: whether they fit must be known before. */
static ap_status admit(const ap_engine *e, const ap_engine_options *o, uint64_t kv_bytes, ap_error *err)
{
    if (o->memory_bytes_max == 0 || (kv_bytes <= o->memory_bytes_max && e->work_bytes + RESERVE_BYTES <=
                                                                            o->memory_bytes_max - kv_bytes))
        return AP_OK;
    return ap_fail(err, AP_E_NOMEM,
                   "the model needs %llu MiB of memory beside its weights (KV pages for contexts of %u tokens %llu, work "
                   "%llu, requests %llu), %llu MiB are available",
                   mib(kv_bytes) + mib(e->work_bytes) + mib(RESERVE_BYTES), e->context_tokens, mib(kv_bytes),
                   mib(e->work_bytes), mib(RESERVE_BYTES), (unsigned long long)(o->memory_bytes_max >> 20));
}

static ap_status create_parts(ap_engine *e, const ap_engine_options *o, ap_error *err)
{
    ap_isa isa = ap_isa_detect();
    if (o->isa)
        AP_TRY(ap_isa_parse(o->isa, &isa, err));
    AP_TRY(ap_kernels_get(isa, &e->kernels, err));
    if (!ap_float_mode_is_lawful())
        return ap_fail(err, AP_E_STATE, "this thread rounds otherwise than to nearest, or flushes subnormals to zero");
    uint64_t kv_bytes;
    AP_TRY(choose_sizes(e, o, &kv_bytes, err));
    uint32_t vocab_count = e->model->sizes.vocab_count;
    size_t forward_bytes;
    AP_TRY(ap_forward_bytes(e->model, o->adapter, e->step_tokens, &forward_bytes, err));
    e->work_bytes = forward_bytes + ap_sampler_bytes(vocab_count) + LOGIT_ROWS * sizeof *e->logits * (uint64_t)vocab_count;
    AP_TRY(admit(e, o, kv_bytes, err));
    AP_TRY(ap_pool_create(&e->pool, o->threads, err));
    AP_TRY(ap_pages_create(&e->pages, (uint32_t)(kv_bytes / e->page_bytes), e->page_bytes, err));
    AP_TRY(ap_forward_create(&e->forward, e->model, o->adapter, &e->kernels, e->pool, o->kv_type, e->step_tokens, e->context_tokens,
                             err));
    AP_TRY(ap_sampler_create(&e->sampler, &e->kernels, vocab_count, err));
    e->live = ap_alloc_array(e->requests_max, sizeof *e->live);
    e->views = ap_alloc_array(e->requests_max, sizeof *e->views);
    e->pieces = ap_alloc_array(e->requests_max, sizeof *e->pieces);
    e->piece_owner = ap_alloc_array(e->requests_max, sizeof *e->piece_owner);
    e->logits = ap_alloc_aligned((size_t)LOGIT_ROWS * vocab_count * sizeof *e->logits);
    e->top = ap_alloc_array(32, sizeof *e->top);
    if (!e->live || !e->views || !e->pieces || !e->piece_owner || !e->logits || !e->top)
        return ap_fail_nomem(err, (size_t)LOGIT_ROWS * vocab_count * sizeof *e->logits);
    return AP_OK;
}

ap_status ap_engine_create(ap_engine **out, const ap_model *model, const ap_engine_options *options, ap_error *err)
{
    *out = NULL;
    if (options->size != sizeof *options)
        return ap_fail(err, AP_E_ARG, "the options have %zu bytes, this library expects %zu", options->size,
                       sizeof *options);
    ap_engine *e = ap_alloc_zero(1, sizeof *e);
    if (!e)
        return ap_fail_nomem(err, sizeof *e);
    e->model = model;
    ap_status status = create_parts(e, options, err);
    if (status != AP_OK) {
        ap_engine_destroy(&e);
        return status;
    }
    *out = e;
    return AP_OK;
}

void ap_engine_destroy(ap_engine **engine)
{
    ap_engine *e = *engine;
    *engine = NULL;
    if (!e)
        return;
    for (uint32_t i = 0; i < e->live_count; i++) {
        ap_live_drop_pages(e->live[i], e->pages);
        ap_live_destroy(&e->live[i]);
    }
    ap_sampler_destroy(&e->sampler);
    ap_forward_destroy(&e->forward);
    ap_pages_destroy(&e->pages);
    ap_pool_destroy(&e->pool);
    ap_free(e->live);
    ap_free(e->views);
    ap_free(e->pieces);
    ap_free(e->piece_owner);
    ap_free(e->logits);
    ap_free(e->top);
    ap_free(e);
}

/* ---- Requests ---- */

static ap_live *find_live(const ap_engine *e, uint64_t id)
{
    for (uint32_t i = 0; i < e->live_count; i++)
        if (e->live[i]->id == id)
            return e->live[i];
    return NULL;
}

static ap_status refuse_encoder(const ap_engine *e, ap_error *err)
{
    if (!e->model->arch->is_encoder)
        return AP_OK;
    return ap_fail(err, AP_E_UNSUPPORTED, "this model is an encoder (%s): it gives embeddings%s, and no text", e->model->arch->name,
                   e->model->sizes.label_count ? " and scores" : "");
}

ap_status ap_engine_submit(ap_engine *e, const ap_request *request, ap_error *err)
{
    AP_TRY(refuse_encoder(e, err));
    if (e->live_count == e->requests_max)
        return ap_fail(err, AP_E_FULL, "%u requests are waiting or running; no more are taken", e->live_count);
    if (find_live(e, request->id))
        return ap_fail(err, AP_E_ARG, "a request with the id %" PRIu64 " is live already", request->id);
    ap_live *live;
    AP_TRY(ap_live_create(&live, request, e->model->vocab->tokenizer, e->model->sizes.vocab_count, e->context_tokens, err));
    e->live[e->live_count++] = live;
    return AP_OK;
}

ap_status ap_engine_cancel(ap_engine *e, uint64_t id)
{
    ap_live *live = find_live(e, id);
    if (!live)
        return AP_E_NOTFOUND;
    live->is_cancelled = true;
    ap_live_drop_pages(live, e->pages);
    return AP_OK;
}

/* Takes a request out of the list; the others keep their order. */
static void remove_live(ap_engine *e, ap_live *live)
{
    uint32_t i = 0;
    while (e->live[i] != live)
        i++;
    memmove(&e->live[i], &e->live[i + 1], (e->live_count - i - 1) * sizeof *e->live);
    e->live_count--;
    ap_live_drop_pages(live, e->pages);
    ap_live_destroy(&live);
}

/* ---- Events ---- */

typedef struct sink {
    ap_event_fn *fn;
    void *context;
} sink;

static void tell_done(ap_engine *e, ap_live *live, ap_finish finish, int32_t stop_index, ap_str text, const sink *to)
{
    uint64_t now = ap_clock_ns();
    uint64_t first = live->first_token_ns ? live->first_token_ns : now;
    ap_event event = {
        .kind = AP_EVENT_DONE,
        .id = live->id,
        .token = -1,
        .text = text.ptr ? text.ptr : "",
        .text_length = text.len,
        .finish = finish,
        .stop_index = stop_index,
        .prompt_count = live->prompt_count,
        .answer_count = live->known - live->prompt_count,
        .prompt_ns = live->started_ns ? first - live->started_ns : 0,
        .answer_ns = now - first,
    };
    to->fn(to->context, &event);
    remove_live(e, live);
}

static void tell_failed(ap_engine *e, ap_live *live, const ap_error *error, const sink *to)
{
    ap_event event = {.kind = AP_EVENT_FAILED, .id = live->id, .token = -1, .text = "", .error = error};
    to->fn(to->context, &event);
    remove_live(e, live);
}

/* ---- One step ---- */

static void end_cancelled(ap_engine *e, const sink *to)
{
    for (uint32_t i = 0; i < e->live_count;) {
        if (e->live[i]->is_cancelled)
            tell_done(e, e->live[i], AP_FINISH_CANCELLED, -1, (ap_str){0}, to);
        else
            i++;
    }
}

/* Fills pieces[] with what the scheduler wants computed now. */
static void plan_batch(ap_engine *e)
{
    for (uint32_t i = 0; i < e->live_count; i++)
        e->views[i] = (ap_sched_request){
            .known = e->live[i]->known, .computed = e->live[i]->computed, .pages = e->live[i]->page_count};
    ap_sched_limits limits = {
        .step_tokens = e->step_tokens, .page_tokens = AP_PAGE_TOKENS, .pages_free = ap_pages_free_count(e->pages)};
    ap_sched_plan(e->views, e->live_count, &limits);
    for (uint32_t i = 0; i < e->live_count; i++)
        if (e->views[i].is_preempted) {
            ap_live_drop_pages(e->live[i], e->pages);
            e->preemptions++;
        }
    e->piece_count = 0;
    for (uint32_t i = 0; i < e->live_count; i++) {
        ap_live *live = e->live[i];
        uint32_t take = e->views[i].take;
        if (take == 0)
            continue;
        if (live->started_ns == 0)
            live->started_ns = ap_clock_ns();
        ap_live_take_pages(live, e->pages, live->computed + take);
        e->piece_owner[e->piece_count] = live;
        e->pieces[e->piece_count++] = (ap_piece){
            .tokens = live->tokens + live->computed,
            .count = take,
            .position = live->computed,
            .pages = live->page_memory,
            .outputs = live->computed + take == live->known,
        };
    }
}

/* Takes the drawn token into the request's text and tells; ends the request if it is over. */
static void take_token(ap_engine *e, ap_live *live, int32_t token, ap_event *event, const sink *to)
{
    live->tokens[live->known++] = token;
    e->answer_tokens++;
    if (live->first_token_ns == 0)
        live->first_token_ns = ap_clock_ns();
    bool is_end = !live->ignore_end && ap_tokenizer_is_end(e->model->vocab->tokenizer, token);
    ap_str text = {0};
    int32_t stop_index = -1;
    if (!is_end)
        stop_index = ap_stream_push(live->stream, token, &text);
    bool is_full = live->known == live->token_limit;
    event->text = text.ptr ? text.ptr : "";
    event->text_length = text.len;
    to->fn(to->context, event);
    if (stop_index >= 0)
        tell_done(e, live, AP_FINISH_STOP, stop_index, (ap_str){0}, to);
    else if (is_end || is_full)
        tell_done(e, live, is_end ? AP_FINISH_STOP : AP_FINISH_LENGTH, -1, ap_stream_finish(live->stream), to);
}

static void draw(ap_engine *e, ap_live *live, const float *logits, const sink *to)
{
    ap_event event = {.kind = AP_EVENT_TOKEN, .id = live->id};
    ap_error error = {0};
    ap_sample_history history = {live->tokens, live->prompt_count, live->known};
    ap_status status = ap_sample(e->sampler, logits, &live->sampling, live->biases, live->bias_count, &history,
                                 &event.token, &error);
    if (status != AP_OK) {
        tell_failed(e, live, &error, to);
        return;
    }
    if (live->wants_logprobs) {
        ap_sample_logprobs(e->sampler, logits, event.token, &event.logprob, e->top, live->top_logprobs);
        event.top = e->top;
        uint32_t vocab_count = e->model->sizes.vocab_count;
        event.top_count = live->top_logprobs < vocab_count ? live->top_logprobs : vocab_count;
    }
    take_token(e, live, event.token, &event, to);
}

/* The pass left one output row per piece that reached its last known token. */
static void draw_all(ap_engine *e, const sink *to)
{
    uint32_t rows = 0, next = 0; /* rows: of this pass; next: first piece not yet looked at */
    for (uint32_t i = 0; i < e->piece_count; i++)
        rows += e->pieces[i].outputs;
    uint32_t vocab_count = e->model->sizes.vocab_count;
    for (uint32_t first = 0; first < rows; first += LOGIT_ROWS) {
        uint32_t count = rows - first < LOGIT_ROWS ? rows - first : LOGIT_ROWS;
        ap_forward_logits(e->forward, first, count, e->logits);
        for (uint32_t row = 0; row < count; next++)
            if (e->pieces[next].outputs)
                draw(e, e->piece_owner[next], e->logits + (size_t)row++ * vocab_count, to);
    }
}

ap_status ap_engine_step(ap_engine *e, ap_event_fn *fn, void *context, bool *busy, ap_error *err)
{
    sink to = {fn, context};
    end_cancelled(e, &to);
    if (e->live_count) {
        plan_batch(e);
        ap_forward_run(e->forward, e->pieces, e->piece_count);
        for (uint32_t i = 0; i < e->piece_count; i++) {
            ap_live *live = e->piece_owner[i];
            live->computed += e->pieces[i].count;
            e->prompt_tokens += live->computed <= live->prompt_count ? e->pieces[i].count : 0;
        }
        e->steps++;
        draw_all(e, &to);
    }
    *busy = e->live_count > 0;
    return AP_OK;
}

void ap_engine_stats_of(const ap_engine *e, ap_engine_stats *stats)
{
    *stats = (ap_engine_stats){
        .page_count = ap_pages_count(e->pages),
        .pages_free = ap_pages_free_count(e->pages),
        .steps = e->steps,
        .prompt_tokens = e->prompt_tokens,
        .answer_tokens = e->answer_tokens,
        .preemptions = e->preemptions,
        .context_tokens = e->context_tokens,
        .threads = ap_pool_threads(e->pool),
        .isa = ap_isa_name(e->kernels.isa),
        .memory_bytes = (uint64_t)ap_pages_count(e->pages) * e->page_bytes + e->work_bytes,
    };
    for (uint32_t i = 0; i < e->live_count; i++) {
        stats->running += e->live[i]->page_count > 0;
        stats->waiting += e->live[i]->page_count == 0;
    }
}

void ap_engine_observe(ap_engine *e, ap_forward_observer *observer, void *context)
{
    ap_forward_observe(e->forward, observer, context);
}

const ap_model *ap_engine_model(const ap_engine *e) { return e->model; }

const ap_kernels *ap_engine_kernels(const ap_engine *e) { return &e->kernels; }

/* ---- Raw logits ---- */

/* One piece of the sequence, and its rows to fn in order. */
static void logits_of_piece(ap_engine *e, ap_live *live, uint32_t count, bool only_last, ap_logits_fn *fn, void *context)
{
    ap_live_take_pages(live, e->pages, live->computed + count);
    bool is_end = live->computed + count == live->known;
    ap_piece piece = {.tokens = live->tokens + live->computed,
                      .count = count,
                      .position = live->computed,
                      .pages = live->page_memory,
                      .outputs = only_last ? is_end : count};
    ap_forward_run(e->forward, &piece, 1);
    uint32_t vocab_count = e->model->sizes.vocab_count;
    size_t position = live->computed + count - piece.outputs;
    for (uint32_t first = 0; first < piece.outputs; first += LOGIT_ROWS) {
        uint32_t rows = piece.outputs - first < LOGIT_ROWS ? piece.outputs - first : LOGIT_ROWS;
        ap_forward_logits(e->forward, first, rows, e->logits);
        for (uint32_t row = 0; row < rows; row++)
            fn(context, position++, e->logits + (size_t)row * vocab_count, vocab_count);
    }
    live->computed += count;
}

ap_status ap_engine_logits(ap_engine *e, const int32_t *ids, size_t count, uint32_t chunk, bool only_last,
                           ap_logits_fn *fn, void *context, ap_error *err)
{
    AP_TRY(refuse_encoder(e, err));
    if (e->live_count)
        return ap_fail(err, AP_E_STATE, "%u requests are live; raw logits need an idle engine", e->live_count);
    if (count == 0 || count > e->context_tokens)
        return ap_fail(err, AP_E_CONTEXT, "%zu tokens are given; the context takes 1 to %u", count, e->context_tokens);
    ap_request request = {.size = sizeof request, .id = 1, .prompt = ids, .prompt_count = count,
                          .sampling = ap_sampling_default()};
    ap_live *live;
    /* One more than the context: the prompt of a request must leave room for an answer, this one wants none. */
    AP_TRY(ap_live_create(&live, &request, e->model->vocab->tokenizer, e->model->sizes.vocab_count, e->context_tokens + 1,
                          err));
    uint32_t piece = chunk && chunk < e->step_tokens ? chunk : e->step_tokens;
    while (live->computed < live->known) {
        uint32_t left = live->known - live->computed;
        logits_of_piece(e, live, left < piece ? left : piece, only_last, fn, context);
    }
    ap_live_drop_pages(live, e->pages);
    ap_live_destroy(&live);
    return AP_OK;
}

/* ---- Encodings ---- */

/* What a call needs beside the engine's own memory; all of it is freed at its end. */
typedef struct encode_work {
    ap_page_id *pages; /* of the pass at hand */
    void **page_memory;
    uint32_t page_count;
    float *pooled, *scores, *head;
} encode_work;

static ap_status create_work(encode_work *w, const ap_engine *e, ap_error *err)
{
    /* Each sequence may have one page that is not full. */
    size_t pages = e->step_tokens / AP_PAGE_TOKENS + (size_t)e->requests_max, head = ap_head_work_floats(e->model);
    w->pages = ap_alloc_array(pages, sizeof *w->pages);
    w->page_memory = ap_alloc_array(pages, sizeof *w->page_memory);
    w->pooled = ap_alloc_array(e->model->sizes.width, sizeof *w->pooled);
    w->scores = ap_alloc_array(e->model->sizes.label_count + 1, sizeof *w->scores);
    w->head = ap_alloc_aligned(head * sizeof *w->head);
    if (!w->pages || !w->page_memory || !w->pooled || !w->scores || !w->head)
        return ap_fail_nomem(err, head * sizeof *w->head);
    return AP_OK;
}

static void destroy_work(encode_work *w)
{
    ap_free(w->pages);
    ap_free(w->page_memory);
    ap_free(w->pooled);
    ap_free(w->scores);
    ap_free(w->head);
}

static ap_status check_sequence(const ap_engine *e, const ap_sequence *s, size_t index, ap_error *err)
{
    const ap_hparams *sizes = &e->model->sizes;
    uint32_t most = e->context_tokens < e->step_tokens ? e->context_tokens : e->step_tokens;
    if (s->count == 0 || s->count > most)
        return ap_fail(err, AP_E_CONTEXT, "sequence %zu has %zu tokens; 1 to %u are taken", index, s->count, most);
    for (size_t i = 0; i < s->count; i++) {
        if (s->ids[i] < 0 || (uint32_t)s->ids[i] >= sizes->vocab_count)
            return ap_fail(err, AP_E_ARG, "token %d at position %zu of sequence %zu is none of the model's %u", s->ids[i], i, index,
                           sizes->vocab_count);
        if (s->types && s->types[i] >= sizes->type_count)
            return ap_fail(err, AP_E_ARG, "token type %u at position %zu of sequence %zu is none of the model's %u", s->types[i], i, index,
                           sizes->type_count);
    }
    return AP_OK;
}

static ap_status check_encoding(const ap_engine *e, ap_encoding encoding, ap_error *err)
{
    if (e->live_count)
        return ap_fail(err, AP_E_STATE, "%u requests are live; encodings need an idle engine", e->live_count);
    if (encoding != AP_ENCODE_HIDDEN && encoding != AP_ENCODE_EMBEDDING && encoding != AP_ENCODE_SCORES)
        return ap_fail(err, AP_E_ARG, "encoding %d is none", (int)encoding);
    if (encoding != AP_ENCODE_HIDDEN && e->model->sizes.pooling == AP_POOLING_NONE)
        return ap_fail(err, AP_E_UNSUPPORTED, "this model has no pooling: it gives a vector for each token, and none for all of them");
    if (encoding == AP_ENCODE_SCORES && e->model->sizes.label_count == 0)
        return ap_fail(err, AP_E_UNSUPPORTED, "this model has no head that scores");
    return AP_OK;
}

/* Puts as many sequences as fit into one pass, at least one; how many. */
static size_t plan_encoding(ap_engine *e, const ap_sequence *sequences, size_t count, encode_work *w)
{
    uint32_t tokens = 0, pages_free = ap_pages_free_count(e->pages);
    size_t taken = 0;
    w->page_count = 0;
    for (; taken < count && taken < e->requests_max; taken++) {
        const ap_sequence *s = &sequences[taken];
        uint32_t pages = ((uint32_t)s->count + AP_PAGE_TOKENS - 1) / AP_PAGE_TOKENS;
        if (s->count > e->step_tokens - tokens || pages > pages_free - w->page_count)
            break;
        e->pieces[taken] = (ap_piece){.tokens = s->ids, .types = s->types, .count = (uint32_t)s->count,
                                      .pages = w->page_memory + w->page_count, .outputs = (uint32_t)s->count};
        tokens += (uint32_t)s->count;
        for (uint32_t i = 0; i < pages; i++, w->page_count++) {
            bool is_taken = ap_pages_take(e->pages, &w->pages[w->page_count]);
            ap_assert(is_taken);
            w->page_memory[w->page_count] = ap_pages_memory(e->pages, w->pages[w->page_count]);
        }
    }
    ap_assert(taken > 0);
    return taken;
}

static void tell_encoding(ap_engine *e, size_t sequence, const float *final, uint32_t count, ap_encoding encoding, encode_work *w,
                          ap_encode_fn *fn, void *context)
{
    const ap_hparams *sizes = &e->model->sizes;
    if (encoding == AP_ENCODE_HIDDEN) {
        fn(context, sequence, final, count, sizes->width);
        return;
    }
    ap_head_pool(e->model, &e->kernels, final, count, w->pooled);
    if (encoding == AP_ENCODE_EMBEDDING) {
        fn(context, sequence, w->pooled, 1, sizes->width);
        return;
    }
    ap_head_score(e->model, &e->kernels, e->pool, w->pooled, w->head, w->scores);
    fn(context, sequence, w->scores, 1, sizes->label_count);
}

ap_status ap_engine_encode(ap_engine *e, const ap_sequence *sequences, size_t count, ap_encoding encoding, ap_encode_fn *fn,
                           void *context, ap_error *err)
{
    AP_TRY(check_encoding(e, encoding, err));
    for (size_t i = 0; i < count; i++)
        AP_TRY(check_sequence(e, &sequences[i], i, err));
    encode_work w = {0};
    ap_status status = create_work(&w, e, err);
    for (size_t first = 0, taken; status == AP_OK && first < count; first += taken) {
        taken = plan_encoding(e, sequences + first, count - first, &w);
        ap_forward_run(e->forward, e->pieces, (uint32_t)taken);
        uint32_t row = 0;
        for (size_t i = 0; i < taken; row += e->pieces[i++].count)
            tell_encoding(e, first + i, ap_forward_final(e->forward, row), e->pieces[i].count, encoding, &w, fn, context);
        while (w.page_count)
            ap_pages_drop(e->pages, w.pages[--w.page_count]);
    }
    destroy_work(&w);
    return status;
}
