/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/pool.h"
#include "cli/cli.h"

enum { REPETITIONS_MAX = 100 };

static int64_t prompt = 512, generate = 128, depth, batch = 1, threads, repetitions = 5;
static const char *isa;
static ap_kv_type kv_type;
static bool as_json;
static uint64_t available_bytes; /* of memory, for the engine */

static const cli_option options[] = {
    {"-p", "N", CLI_NUMBER, &prompt, 0, 1 << 20, "Tokens of the prompt test (512); 0 leaves it out."},
    {"-n", "N", CLI_NUMBER, &generate, 0, 1 << 20, "Tokens of the generation test (128); 0 leaves it out."},
    {"-d", "N", CLI_NUMBER, &depth, 0, 1 << 20, "Tokens already in the context before each test (0)."},
    {"-b", "N", CLI_NUMBER, &batch, 1, 256, "Requests at once in the generation test (1)."},
    {"-r", "N", CLI_NUMBER, &repetitions, 1, REPETITIONS_MAX, "Repetitions, after one to warm up (5); the median counts."},
    CLI_OPTION_THREADS(&threads),
    CLI_OPTION_ISA(&isa),
    CLI_OPTION_KV(&kv_type),
    CLI_OPTION_JSON(&as_json),
    CLI_OPTION_SANDBOX,
};

/* Times of the runs of one test, in nanoseconds. */
typedef struct timing {
    const char *kind;
    uint64_t tokens;
    uint64_t ns[REPETITIONS_MAX];
} timing;

static int by_time(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double rate(const timing *t, uint64_t ns) { return (double)t->tokens * 1e9 / (double)ns; }

/* What the events of one run say: when every request has its first token, and when all are over. */
typedef struct run_clock {
    uint32_t waiting;
    uint64_t first_ns;
    ap_error failure; /* of the first request that failed */
} run_clock;

static void take_event(void *context, const ap_event *event)
{
    run_clock *c = context;
    if (event->kind == AP_EVENT_TOKEN && event->answer_count == 0 && c->waiting && --c->waiting == 0)
        c->first_ns = ap_clock_ns();
    if (event->kind == AP_EVENT_FAILED && c->failure.status == AP_OK)
        c->failure = *event->error;
}

/* Runs `requests` of `count` prompt tokens and `answer` drawn ones; tells the time to everybody's first token and after it. */
static ap_status run_once(ap_engine *engine, uint32_t vocab, uint32_t requests, uint64_t count, uint32_t answer,
                          uint64_t *prompt_ns, uint64_t *answer_ns, ap_error *err)
{
    int32_t *ids = ap_alloc_array((size_t)count, sizeof *ids);
    if (!ids)
        return ap_fail_nomem(err, (size_t)count * sizeof *ids);
    /* Any ids will do; these are spread over the vocabulary. */
    for (uint64_t i = 0; i < count; i++)
        ids[i] = (int32_t)((i * 7919 + 100) % vocab);
    run_clock clock = {.waiting = requests};
    uint64_t start = ap_clock_ns();
    ap_status status = AP_OK;
    for (uint32_t i = 0; i < requests && status == AP_OK; i++) {
        ap_request r = {.size = sizeof r, .id = i + 1, .prompt = ids, .prompt_count = (size_t)count, .max_tokens = answer,
                        .sampling = ap_sampling_default(), .ignore_end = true};
        r.sampling.temperature = 0;
        status = ap_engine_submit(engine, &r, err);
    }
    bool busy = true;
    while (busy && status == AP_OK)
        status = ap_engine_step(engine, take_event, &clock, &busy, err);
    uint64_t end = ap_clock_ns();
    if (status == AP_OK && clock.failure.status != AP_OK)
        status = ap_fail(err, clock.failure.status, "%s", clock.failure.message);
    *prompt_ns = clock.first_ns - start;
    *answer_ns = end - clock.first_ns;
    ap_free(ids);
    return status;
}

static ap_status measure(ap_engine *engine, uint32_t vocab, timing *p, timing *g, ap_error *err)
{
    for (int64_t r = -1; r < repetitions; r++) {
        uint64_t first, rest, ignored;
        if (prompt) {
            /* At a depth the prompt's own time is that of both less that of the depth alone. */
            uint64_t before = 0;
            if (depth)
                AP_TRY(run_once(engine, vocab, 1, (uint64_t)depth, 1, &before, &ignored, err));
            AP_TRY(run_once(engine, vocab, 1, (uint64_t)(depth + prompt), 1, &first, &ignored, err));
            if (r >= 0)
                p->ns[r] = first > before ? first - before : 1;
        }
        if (generate) {
            /* One token more than is counted: the first comes with the prompt. */
            AP_TRY(run_once(engine, vocab, (uint32_t)batch, (uint64_t)(depth ? depth : 1), (uint32_t)generate + 1, &first, &rest, err));
            if (r >= 0)
                g->ns[r] = rest;
        }
    }
    return AP_OK;
}

/* ---- How fast this machine reads memory: no token can come faster than its weights ---- */

enum { READ_BYTES = 256 * 1024 * 1024, READ_PIECE = 1024 * 1024, READ_PASSES = 4 };

typedef struct reading {
    const uint64_t *words;
    uint64_t sums[AP_POOL_THREADS_MAX];
} reading;

static void read_piece(void *context, size_t begin, size_t end, unsigned thread)
{
    reading *r = context;
    uint64_t sum[8] = {0};
    for (size_t i = begin; i + 8 <= end; i += 8)
        for (size_t k = 0; k < 8; k++)
            sum[k] += r->words[i + k];
    for (size_t k = 0; k < 8; k++)
        r->sums[thread] += sum[k];
}

/* Bytes per second, the best of a few passes over more than any cache holds. */
static ap_status measure_reading(unsigned thread_count, double *bytes_per_s, ap_error *err)
{
    ap_pool *pool;
    uint64_t *words = ap_alloc_aligned(READ_BYTES), best_ns = UINT64_MAX;
    if (!words)
        return ap_fail_nomem(err, READ_BYTES);
    memset(words, 1, READ_BYTES);
    ap_status status = ap_pool_create(&pool, thread_count, err);
    if (status == AP_OK) {
        reading r = {.words = words};
        for (unsigned pass = 0; pass < READ_PASSES; pass++) {
            uint64_t start = ap_clock_ns();
            ap_pool_run(pool, READ_BYTES / sizeof *words, READ_PIECE / sizeof *words, read_piece, &r);
            uint64_t ns = ap_clock_ns() - start;
            best_ns = ns < best_ns ? ns : best_ns;
        }
        volatile uint64_t sink = r.sums[0]; /* so that the reading is not left out */
        (void)sink;
        *bytes_per_s = (double)READ_BYTES * 1e9 / (double)best_ns;
    }
    ap_pool_destroy(&pool);
    ap_free(words);
    return status;
}

/* What this machine could do, and what a token needs of it. */
typedef struct ceilings {
    double bytes_per_s, int8_per_s;
    double bytes_per_token, int8_per_token; /* the first of a generated one, the second of one in a prompt */
} ceilings;

static ap_status report(ap_oneshot *self, timing *t, const ap_engine_stats *stats, const ceilings *c, bool is_first,
                        ap_error *err)
{
    ap_buf out = {0};
    size_t n = (size_t)repetitions;
    qsort(t->ns, n, sizeof *t->ns, by_time);
    double median = n % 2 ? rate(t, t->ns[n / 2]) : (rate(t, t->ns[n / 2]) + rate(t, t->ns[n / 2 - 1])) / 2;
    double slowest = rate(t, t->ns[n - 1]), fastest = rate(t, t->ns[0]);
    bool is_generate = strcmp(t->kind, "prompt") != 0;
    char of_ceiling[32] = "null";
    if (is_generate)
        (void)snprintf(of_ceiling, sizeof of_ceiling, "%.3f", c->bytes_per_token * median / c->bytes_per_s);
    else if (c->int8_per_token > 0)
        (void)snprintf(of_ceiling, sizeof of_ceiling, "%.3f", c->int8_per_token * median / c->int8_per_s);
    long long requests = is_generate ? (long long)batch : 1;
    ap_status status;
    if (as_json)
        status = ap_buf_printf(&out, err,
                               "%s{\"kind\":\"%s\",\"tokens\":%" PRIu64 ",\"depth\":%lld,\"batch\":%lld,\"threads\":%u,"
                               "\"isa\":\"%s\",\"tokens_per_s\":%.2f,\"min\":%.2f,\"max\":%.2f,\"repetitions\":%lld,"
                               "\"of_ceiling\":%s}",
                               is_first ? "" : ",", t->kind, t->tokens, (long long)depth, requests, stats->threads,
                               stats->isa, median, slowest, fastest, (long long)repetitions, of_ceiling);
    else
        status = ap_buf_printf(&out, err,
                               "%-9s %6" PRIu64 " tokens  depth %lld  batch %lld  threads %u  %s  %9.2f tokens/s  "
                               "(%.2f to %.2f, %lld runs)  of %s: %s\n",
                               t->kind, t->tokens, (long long)depth, requests, stats->threads, stats->isa, median, slowest,
                               fastest, (long long)repetitions, is_generate ? "memory speed" : "8-bit products", of_ceiling);
    if (status == AP_OK)
        status = ap_oneshot_write(self, out.ptr, out.len, err);
    ap_buf_deinit(&out);
    return status;
}

static ap_status with_engine(ap_oneshot *self, ap_engine *engine, const ap_model_info *info, ap_error *err)
{
    timing p = {.kind = "prompt", .tokens = (uint64_t)prompt};
    timing g = {.kind = batch > 1 ? "batch" : "generate", .tokens = (uint64_t)(generate * batch)};
    AP_TRY(measure(engine, info->vocab_count, &p, &g, err));
    ap_engine_stats stats;
    ap_engine_stats_of(engine, &stats);
    /* A step reads the weights once, however many requests it serves. */
    ceilings c = {.bytes_per_token = (double)info->weight_bytes / (double)batch,
                  .int8_per_token = 2.0 * (double)info->int8_weights};
    AP_TRY(measure_reading(stats.threads, &c.bytes_per_s, err));
    AP_TRY(ap_isa_int8_ops(stats.isa, stats.threads, &c.int8_per_s, err));
    if (as_json)
        AP_TRY(ap_oneshot_write(self, "{\"results\":[", 12, err));
    if (prompt)
        AP_TRY(report(self, &p, &stats, &c, true, err));
    if (generate)
        AP_TRY(report(self, &g, &stats, &c, !prompt, err));
    ap_buf end = {0};
    ap_status status =
        ap_buf_printf(&end, err,
                      as_json ? "],\"ceilings\":{\"read_gb_s\":%.2f,\"int8_gop_s\":%.1f}}\n"
                              : "memory is read at %.2f GB/s; 8-bit products, two operations each, reach %.1f GOP/s\n",
                      c.bytes_per_s / 1e9, c.int8_per_s / 1e9);
    if (status == AP_OK)
        status = ap_oneshot_write(self, end.ptr, end.len, err);
    ap_buf_deinit(&end);
    return status;
}

static ap_status work(ap_oneshot *self, void *context, ap_error *err)
{
    const int *fd = context;
    ap_model *model;
    AP_TRY(ap_model_open(&model, *fd, err));
    if (ap_model_info_of(model)->is_encoder) {
        ap_model_close(&model);
        return ap_fail(err, AP_E_UNSUPPORTED, "this model is an encoder: it makes no text whose speed could be measured");
    }
    uint64_t longest = (uint64_t)depth + (uint64_t)(prompt > generate + 1 ? prompt : generate + 1) + 2;
    uint32_t context_tokens = longest < 64 ? 64 : (uint32_t)longest;
    ap_engine_options o = {.size = sizeof o, .threads = (unsigned)threads, .isa = isa, .kv_type = kv_type,
                           .context_tokens = context_tokens, .requests_max = (uint32_t)batch,
                           .memory_bytes_max = available_bytes};
    uint64_t token_bytes = ap_model_info_of(model)->kv_token_bytes[kv_type];
    o.kv_bytes = ((uint64_t)context_tokens + 64) * token_bytes * (uint64_t)batch;
    ap_engine *engine = NULL;
    ap_status status = cli_hint_memory(ap_engine_create(&engine, model, &o, err), "-p, -n, -d or -b", err);
    if (status == AP_OK)
        status = with_engine(self, engine, ap_model_info_of(model), err);
    ap_engine_destroy(&engine);
    ap_model_close(&model);
    return status;
}

static int run(unsigned count, char **operands)
{
    ap_error err = {0};
    ap_store_entry entry;
    int fd;
    if (prompt == 0 && generate == 0)
        return cli_error(CLI_MISUSE, "with -p 0 and -n 0 there is nothing to measure");
    available_bytes = ap_memory_available(""); /* the sandbox could not look */
    available_bytes = available_bytes > READ_BYTES ? available_bytes - READ_BYTES : 1;
    if (cli_open_model(operands[0], &entry, &fd, &err) != AP_OK)
        return cli_failed(&err);
    int code = cli_run_oneshot(work, &fd, &fd, 1);
    close(fd);
    return code;
}

const cli_command cli_bench = {
    .name = "bench",
    .operands = "MODEL",
    .operands_min = 1,
    .operands_max = 1,
    .summary = "tokens per second of prompt and generation",
    .description = "Measures reading a prompt and generating tokens on this machine: medians over repetitions, with the slowest and "
                   "the fastest. Generation is greedy, from a context of one token (or of -d). of_ceiling says what part is reached "
                   "of what this machine can do: for generation of the speed at which it can read the weights from memory; for a "
                   "prompt of the 8-bit operations it can do in registers, with two per weight and token of all layers' 8-bit "
                   "products counted. Attention is not counted, nor the output head, which a prompt needs once. Both ceilings are "
                   "measured in about a second each.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
