/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/cli.h"

static const char *file, *target, *isa;
static int64_t chunk_tokens = CLI_CHUNK_TOKENS, chunks_max, threads;
static bool as_json;

static const cli_option options[] = {
    {"--file", "FILE", CLI_TEXT, &file, .help = "The text; - is standard input. Take what the model will be used for: some hundred kilobytes."},
    {"--out", "FILE", CLI_TEXT, &target, .help = "Where to write the importances, for 'aperto quantize --imatrix'."},
    CLI_OPTION_CHUNKS(&chunk_tokens, &chunks_max),
    CLI_OPTION_THREADS(&threads),
    CLI_OPTION_ISA(&isa),
    CLI_OPTION_JSON(&as_json),
    CLI_OPTION_SANDBOX,
};

typedef struct job {
    int fd, out_fd;
    ap_str text;
    uint64_t available_bytes; /* of memory; the worker could not look */
} job;

typedef struct report {
    uint64_t tokens, chunks, written_bytes;
} report;

static ap_status gather(ap_oneshot *self, const job *j, const ap_model *model, ap_error *err)
{
    int32_t *ids = NULL;
    size_t count = 0;
    uint32_t declared = ap_model_info_of(model)->context_tokens;
    if (chunk_tokens > declared)
        return ap_fail(err, AP_E_LIMIT, "chunks of %d tokens are longer than the %u that the model was made for; lower --ctx", (int)chunk_tokens, declared);
    AP_TRY(cli_make_chunks(ap_model_vocab(model), j->text, (uint32_t)chunk_tokens, (uint64_t)chunks_max, &ids, &count, err));
    ap_engine_options o = {.size = sizeof o, .threads = (unsigned)threads, .isa = isa, .kv_type = AP_KV_F32, .requests_max = 1,
                           .memory_bytes_max = j->available_bytes, .context_tokens = (uint32_t)chunk_tokens,
                           .step_tokens = (uint32_t)chunk_tokens};
    ap_engine *engine = NULL;
    ap_status status = cli_hint_memory(ap_engine_create(&engine, model, &o, err), "--ctx", err);
    report r = {.tokens = count, .chunks = (count + (size_t)chunk_tokens - 1) / (size_t)chunk_tokens};
    if (status == AP_OK) {
        const char *slash = strrchr(file, '/');
        ap_imatrix_options io = {.size = sizeof io, .chunk_tokens = (uint32_t)chunk_tokens, .dataset = slash ? slash + 1 : file,
                                 .progress = ap_oneshot_progress, .progress_context = self};
        status = ap_engine_imatrix(engine, ids, count, &io, j->out_fd, &r.written_bytes, err);
    }
    if (status == AP_OK)
        status = ap_oneshot_write(self, &r, sizeof r, err);
    ap_engine_destroy(&engine);
    ap_free(ids);
    return status;
}

static ap_status work(ap_oneshot *self, void *context, ap_error *err)
{
    const job *j = context;
    ap_model *model;
    AP_TRY(ap_model_open(&model, j->fd, err));
    ap_status status = gather(self, j, model, err);
    ap_model_close(&model);
    return status;
}

static void show_progress(void *context, uint64_t done, uint64_t total)
{
    static char title[] = "reading";
    cli_progress(title, done, total);
}

static ap_status run_worker(job *j, ap_buf *reply, ap_error *err)
{
    ap_oneshot_options o = {.fds = &j->fd, .fd_count = 1, .output_fd = j->out_fd, .sandbox = cli_sandbox,
                            .result = ap_oneshot_collect, .progress = show_progress, .context = reply};
    AP_TRY(ap_worker_oneshot(work, j, &o, err));
    return reply->len == sizeof(report) ? AP_OK : ap_fail(err, AP_E_WORKER, "the worker gave no report");
}

static int print_report(const ap_buf *reply)
{
    report r;
    memcpy(&r, reply->ptr, sizeof r);
    if (as_json)
        return cli_print_json(json_pack("{s:s, s:I, s:I, s:I}", "file", target, "tokens", (json_int_t)r.tokens, "chunks",
                                        (json_int_t)r.chunks, "written_bytes", (json_int_t)r.written_bytes));
    (void)printf("%s: %llu tokens in %llu chunks\n", target, (unsigned long long)r.tokens, (unsigned long long)r.chunks);
    return cli_finish_output();
}

static int run(unsigned count, char **operands)
{
    ap_error err = {0};
    ap_buf text = {0}, reply = {.limit = sizeof(report)};
    ap_store_entry entry;
    ap_file_new out;
    if (!file || !target)
        return cli_error(CLI_MISUSE, "options --file and --out are needed");
    if (access(target, F_OK) == 0 || errno != ENOENT)
        return cli_error(CLI_FAILED, "'%.400s' exists already; nothing was written", target);
    job j = {.fd = -1, .out_fd = -1, .available_bytes = ap_memory_available("")};
    ap_status status = cli_read_file(file, CLI_TEXT_BYTES_MAX, &text, &err);
    j.text = ap_buf_str(&text);
    if (status == AP_OK)
        status = cli_check_text(j.text, "the text", &err);
    if (status == AP_OK)
        status = cli_open_model(operands[0], &entry, &j.fd, &err);
    if (status == AP_OK)
        status = ap_file_new_begin(&out, target, &err);
    if (status == AP_OK) {
        j.out_fd = out.fd;
        status = run_worker(&j, &reply, &err);
        if (status == AP_OK)
            status = ap_file_new_commit(&out, 0644, &err);
        else
            ap_file_new_abort(&out);
    }
    int code = status == AP_OK ? print_report(&reply) : cli_failed(&err);
    if (j.fd >= 0)
        close(j.fd);
    ap_buf_deinit(&text);
    ap_buf_deinit(&reply);
    return code;
}

const cli_command cli_imatrix = {
    .name = "imatrix",
    .operands = "MODEL",
    .operands_min = 1,
    .operands_max = 1,
    .summary = "how much each part of a model's weights matters for a text",
    .description = "Runs a text through MODEL and writes for each weight matrix how large its inputs were, column by column. With that, "
                   "'aperto quantize' puts the error where it matters least. Best with the model in floats. Other programs read the file "
                   "as well (GGUF, type imatrix). The same bytes whatever the number of threads.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
