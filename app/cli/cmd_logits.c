/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/memory.h"
#include "cli/cli.h"

static const char *tokens_text, *types_text, *file, *isa, *adapter_path;
static ap_kv_type kv_type;
static bool all, as_digest;
static int64_t chunk, threads;

static const cli_option options[] = {
    {"--tokens", "IDS", CLI_TEXT, &tokens_text, .help = "Token ids: 1,2,3."},
    {"--file", "FILE", CLI_TEXT, &file, .help = "Read the ids from FILE; - is standard input."},
    {"--types", "LIST", CLI_TEXT, &types_text, .help = "Of an encoder: the type of each token, 0,0,1: 0 for a first text, 1 for a second."},
    {"--all", NULL, CLI_FLAG, &all, .help = "Logits of every position, not of the last alone; of an encoder, each token's vector as well."},
    {"--chunk", "N", CLI_NUMBER, &chunk, 1, 8192, "Compute N tokens at a time (all at once if not given); not for encoders."},
    CLI_OPTION_THREADS(&threads),
    CLI_OPTION_ISA(&isa),
    CLI_OPTION_KV(&kv_type),
    CLI_OPTION_ADAPTER(&adapter_path),
    CLI_OPTION_SANDBOX,
    {"--digest", NULL, CLI_FLAG, &as_digest,
     .help = "Print BLAKE2b-256 over the bits of the logits (little-endian f32, in order, every NaN as 7fc00000) instead of the numbers."},
};

typedef struct job {
    int fd;
    cli_adapter adapter;
    int32_t *ids;
    uint8_t *types; /* NULL: none are given */
    size_t count;
    uint64_t available_bytes; /* of memory; the worker could not look */
    /* in the worker */
    ap_oneshot *self;
    ap_hash hash;
    ap_status status;
    ap_error *err;
    bool is_first;
} job;

static void hash_values(job *j, const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = 0x7fc00000u;
        if (!isnan(values[i]))
            memcpy(&bits, &values[i], 4);
        ap_hash_add(&j->hash, &bits, 4);
    }
}

/* A list of numbers behind `before`. */
static ap_status write_values(job *j, const char *before, const float *values, uint32_t count)
{
    ap_buf line = {0};
    ap_status status = ap_buf_printf(&line, j->err, "%s[", before);
    for (uint32_t i = 0; i < count && status == AP_OK; i++) /* JSON knows no NaN and no infinity */
        status = isfinite(values[i]) ? ap_buf_printf(&line, j->err, "%s%.9g", i ? "," : "", (double)values[i])
                                     : ap_buf_printf(&line, j->err, "%snull", i ? "," : "");
    if (status == AP_OK)
        status = ap_buf_add(&line, "]", 1, j->err);
    if (status == AP_OK)
        status = ap_oneshot_write(j->self, line.ptr, line.len, j->err);
    ap_buf_deinit(&line);
    return status;
}

static void write_row(job *j, size_t position, const char *kind, const float *values, uint32_t count)
{
    char before[96];
    (void)snprintf(before, sizeof before, "%s{\"position\":%zu,\"%s\":", j->is_first ? "{\"rows\":[" : ",\n", position, kind);
    j->is_first = false;
    j->status = write_values(j, before, values, count);
    if (j->status == AP_OK)
        j->status = ap_oneshot_write(j->self, "}", 1, j->err);
}

static void take_row(void *context, size_t position, const float *logits, uint32_t count)
{
    job *j = context;
    if (j->status == AP_OK && as_digest)
        hash_values(j, logits, count);
    else if (j->status == AP_OK)
        write_row(j, position, "logits", logits, count);
}

/* ---- An encoder's ---- */

static void take_hidden(void *context, size_t sequence, const float *values, size_t rows, uint32_t columns)
{
    job *j = context;
    if (as_digest)
        hash_values(j, values, rows * columns);
    for (size_t i = 0; i < rows && !as_digest && j->status == AP_OK; i++)
        write_row(j, i, "hidden", values + i * columns, columns);
    if (!as_digest && j->status == AP_OK)
        j->status = ap_oneshot_write(j->self, "],\n", 3, j->err);
}

static void take_embedding(void *context, size_t sequence, const float *values, size_t rows, uint32_t columns)
{
    job *j = context;
    if (as_digest)
        hash_values(j, values, columns);
    else if (j->status == AP_OK)
        j->status = write_values(j, j->is_first ? "{\"embedding\":" : "\"embedding\":", values, columns);
}

static void take_scores(void *context, size_t sequence, const float *values, size_t rows, uint32_t columns)
{
    job *j = context;
    if (as_digest)
        hash_values(j, values, columns);
    else if (j->status == AP_OK)
        j->status = write_values(j, ",\n\"scores\":", values, columns);
}

/* {"rows":[…], "embedding":[…], "scores":[…]}, of which the first are there with --all and the last if the model has some. */
static ap_status encode(job *j, ap_engine *engine, const ap_model_info *info, ap_error *err)
{
    const ap_sequence sequence = {j->ids, j->types, j->count};
    if (chunk)
        return ap_fail(err, AP_E_ARG, "--chunk is not for encoders: a sequence is computed in one piece");
    if (all)
        AP_TRY(ap_engine_encode(engine, &sequence, 1, AP_ENCODE_HIDDEN, take_hidden, j, err));
    AP_TRY(ap_engine_encode(engine, &sequence, 1, AP_ENCODE_EMBEDDING, take_embedding, j, err));
    if (info->label_count)
        AP_TRY(ap_engine_encode(engine, &sequence, 1, AP_ENCODE_SCORES, take_scores, j, err));
    AP_TRY(j->status);
    return as_digest ? AP_OK : ap_oneshot_write(j->self, "}\n", 2, err);
}

static ap_status decode(job *j, ap_engine *engine, ap_error *err)
{
    if (j->types)
        return ap_fail(err, AP_E_ARG, "--types is for encoders only");
    AP_TRY(ap_engine_logits(engine, j->ids, j->count, (uint32_t)chunk, !all, take_row, j, err));
    AP_TRY(j->status);
    return as_digest ? AP_OK : ap_oneshot_write(j->self, "]}\n", 3, err);
}

static ap_status compute(job *j, ap_engine *engine, const ap_model_info *info, ap_error *err)
{
    ap_hash_begin(&j->hash, AP_HASH_BLAKE2B);
    AP_TRY(info->is_encoder ? encode(j, engine, info, err) : decode(j, engine, err));
    if (!as_digest)
        return AP_OK;
    char hex[AP_HASH_HEX];
    ap_hash_end(&j->hash, hex);
    hex[AP_HASH_HEX - 1] = '\n';
    return ap_oneshot_write(j->self, hex, AP_HASH_HEX, err);
}

static ap_status work(ap_oneshot *self, void *context, ap_error *err)
{
    job *j = context;
    j->self = self;
    j->err = err;
    j->is_first = true;
    ap_model *model;
    AP_TRY(ap_model_open(&model, j->fd, err));
    /* The context is as long as the sequence; a step takes all of it unless --chunk says less. */
    uint32_t context_tokens = j->count < 16 ? 16 : (uint32_t)j->count;
    uint32_t declared = ap_model_info_of(model)->context_tokens;
    ap_engine_options o = {.size = sizeof o, .threads = (unsigned)threads, .isa = isa, .kv_type = kv_type, .requests_max = 1,
                           .memory_bytes_max = j->available_bytes, .context_tokens = context_tokens > declared && j->count <= declared ? declared : context_tokens};
    if (!chunk)
        o.step_tokens = context_tokens < 8192 ? context_tokens : 8192;
    ap_engine *engine = NULL;
    ap_adapter *adapter = NULL;
    bool has_config = j->adapter.files.count == 2;
    ap_status status = AP_OK;
    if (j->adapter.files.count)
        status = ap_adapter_open(&adapter, model, has_config ? j->adapter.files.fds[0] : -1, j->adapter.files.fds[has_config], err);
    o.adapter = adapter;
    if (status == AP_OK)
        status = cli_hint_memory(ap_engine_create(&engine, model, &o, err), "--chunk, or give fewer tokens", err);
    if (status == AP_OK)
        status = compute(j, engine, ap_model_info_of(model), err);
    ap_engine_destroy(&engine);
    ap_adapter_close(&adapter);
    ap_model_close(&model);
    return status;
}

/* One for each token. */
static int read_types(job *j)
{
    int32_t *types;
    size_t count;
    int code = cli_read_ids_of(types_text, "--types", NULL, &types, &count);
    if (code != CLI_DONE)
        return code;
    j->types = ap_alloc_array(count, 1);
    bool is_fine = j->types && count == j->count;
    for (size_t i = 0; i < count && is_fine; i++) {
        is_fine = types[i] >= 0 && types[i] <= UINT8_MAX;
        j->types[i] = (uint8_t)types[i];
    }
    ap_free(types);
    return is_fine ? CLI_DONE : cli_error(CLI_MISUSE, "--types has %zu numbers; one from 0 to 255 for each of %zu tokens is needed", count, j->count);
}

static int run(unsigned count, char **operands)
{
    ap_error err = {0};
    job j = {.fd = -1, .available_bytes = ap_memory_available("")};
    if (!tokens_text == !file)
        return cli_error(CLI_MISUSE, "logits needs either --tokens IDS or --file FILE");
    int code = cli_read_ids_of(tokens_text, "--tokens", file, &j.ids, &j.count);
    if (code != CLI_DONE)
        return code;
    if (types_text)
        code = read_types(&j);
    if (code != CLI_DONE) {
        ap_free(j.ids);
        ap_free(j.types);
        return code;
    }
    ap_store_entry entry;
    ap_status status = cli_open_adapter(adapter_path, &j.adapter, &err);
    if (status == AP_OK)
        status = cli_open_model(operands[0], &entry, &j.fd, &err);
    int fds[3] = {j.fd, j.adapter.files.fds[0], j.adapter.files.fds[1]};
    code = status == AP_OK ? cli_run_oneshot(work, &j, fds, 1 + j.adapter.files.count) : cli_failed(&err);
    cli_close_adapter(&j.adapter);
    if (j.fd >= 0)
        close(j.fd);
    ap_free(j.ids);
    ap_free(j.types);
    return code;
}

const cli_command cli_logits = {
    .name = "logits",
    .operands = "MODEL",
    .operands_min = 1,
    .operands_max = 1,
    .summary = "raw logits of a token sequence, an encoder's vectors and scores, or a digest of the bits",
    .description = "Prints the model's raw output for given token ids as JSON, or a digest of its bits: logits, or of an encoder the "
                   "embedding (not scaled to length one) and, where the model has them, its scores before any sigmoid or softmax. The digest does not depend on "
                   "--chunk, --threads or --isa: this is the tool that tests the law of same bits.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
