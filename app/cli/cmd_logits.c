/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/memory.h"
#include "cli/cli.h"

static const char *tokens_text, *file, *isa, *adapter_path;
static ap_kv_type kv_type;
static bool all, as_digest;
static int64_t chunk, threads;

static const cli_option options[] = {
    {"--tokens", "IDS", CLI_TEXT, &tokens_text, .help = "Token ids: 1,2,3."},
    {"--file", "FILE", CLI_TEXT, &file, .help = "Read the ids from FILE; - is standard input."},
    {"--all", NULL, CLI_FLAG, &all, .help = "Logits of every position, not of the last alone."},
    {"--chunk", "N", CLI_NUMBER, &chunk, 1, 8192, "Compute N tokens at a time (all at once if not given)."},
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
    cli_adapter files;
    int32_t *ids;
    size_t count;
    uint64_t available_bytes; /* of memory; the worker could not look */
    /* in the worker */
    ap_oneshot *self;
    ap_hash hash;
    ap_status status;
    ap_error *err;
    bool is_first;
} job;

static void take_row(void *context, size_t position, const float *logits, uint32_t count)
{
    job *j = context;
    if (j->status != AP_OK)
        return;
    if (as_digest) {
        for (uint32_t i = 0; i < count; i++) {
            uint32_t bits = 0x7fc00000u;
            if (!isnan(logits[i]))
                memcpy(&bits, &logits[i], 4);
            ap_hash_add(&j->hash, &bits, 4);
        }
        return;
    }
    ap_buf line = {0};
    j->status = ap_buf_printf(&line, j->err, "%s{\"position\":%zu,\"logits\":[", j->is_first ? "{\"rows\":[" : ",\n", position);
    j->is_first = false;
    for (uint32_t i = 0; i < count && j->status == AP_OK; i++) /* JSON knows no NaN and no infinity */
        j->status = isfinite(logits[i]) ? ap_buf_printf(&line, j->err, "%s%.9g", i ? "," : "", (double)logits[i])
                                        : ap_buf_printf(&line, j->err, "%snull", i ? "," : "");
    if (j->status == AP_OK)
        j->status = ap_buf_add(&line, "]}", 2, j->err);
    if (j->status == AP_OK)
        j->status = ap_oneshot_write(j->self, line.ptr, line.len, j->err);
    ap_buf_deinit(&line);
}

static ap_status compute(job *j, ap_engine *engine, ap_error *err)
{
    ap_hash_begin(&j->hash, AP_HASH_BLAKE2B);
    AP_TRY(ap_engine_logits(engine, j->ids, j->count, (uint32_t)chunk, !all, take_row, j, err));
    AP_TRY(j->status);
    if (!as_digest)
        return ap_oneshot_write(j->self, "]}\n", 3, err);
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
    bool has_config = j->files.count == 2;
    ap_status status = AP_OK;
    if (j->files.count)
        status = ap_adapter_open(&adapter, model, has_config ? j->files.fds[0] : -1, j->files.fds[has_config], err);
    o.adapter = adapter;
    if (status == AP_OK)
        status = cli_hint_memory(ap_engine_create(&engine, model, &o, err), "--chunk, or give fewer tokens", err);
    if (status == AP_OK)
        status = compute(j, engine, err);
    ap_engine_destroy(&engine);
    ap_adapter_close(&adapter);
    ap_model_close(&model);
    return status;
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
    ap_store_entry entry;
    ap_status status = cli_open_adapter(adapter_path, &j.files, &err);
    if (status == AP_OK)
        status = cli_open_model(operands[0], &entry, &j.fd, &err);
    int fds[3] = {j.fd, j.files.fds[0], j.files.fds[1]};
    code = status == AP_OK ? cli_run_oneshot(work, &j, fds, 1 + j.files.count) : cli_failed(&err);
    cli_close_adapter(&j.files);
    if (j.fd >= 0)
        close(j.fd);
    ap_free(j.ids);
    return code;
}

const cli_command cli_logits = {
    .name = "logits",
    .operands = "MODEL",
    .operands_min = 1,
    .operands_max = 1,
    .summary = "raw logits of a token sequence, or a digest of their bits",
    .description = "Prints the model's raw output for given token ids as JSON, or a digest of its bits. The digest does not depend on "
                   "--chunk, --threads or --isa: this is the tool that tests the law of same bits.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
