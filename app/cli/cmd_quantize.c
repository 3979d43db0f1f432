/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "cli/cli.h"

static const char *type, *imatrix;
static int64_t threads;
static bool as_json;
static cli_measuring what = {.chunk_tokens = CLI_CHUNK_TOKENS};

static const cli_option options[] = {
    {"--type", "T", CLI_TEXT, &type,
     .help = "What the weights become: Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_0, IQ4_XS; or F16, BF16, F32."},
    {"--imatrix", "FILE", CLI_TEXT, &imatrix,
     .help = "How much each input column matters (a GGUF file of type imatrix); the error then goes where it matters least."},
    {"--text", "FILE", CLI_TEXT, &what.file,
     .help = "Measure the result against SOURCE on this text, and keep what is found as its passport: in the store, and beside TARGET, from "
             "where 'pull' takes it along."},
    CLI_OPTION_CHUNKS(&what.chunk_tokens, &what.chunks_max),
    CLI_OPTION_THREADS(&threads),
    CLI_OPTION_JSON(&as_json),
    CLI_OPTION_SANDBOX,
};

enum { PATH_ROOM = 4096 };

typedef struct job {
    ap_store_source source;
    int imatrix_fd; /* or -1 */
    int out_fd;
} job;

/* In the one-shot worker; the report travels back as its bytes. */
static ap_status work(ap_oneshot *self, void *context, ap_error *err)
{
    const job *j = context;
    ap_quantize_options o = {.size = sizeof o, .type = type, .imatrix_fd = j->imatrix_fd, .threads = (unsigned)threads,
                             .progress = ap_oneshot_progress, .progress_context = self};
    ap_quantize_report report;
    AP_TRY(ap_model_quantize(j->source.files, j->source.count, j->out_fd, &o, &report, err));
    return ap_oneshot_write(self, &report, sizeof report, err);
}

static void show_progress(void *context, uint64_t done, uint64_t total)
{
    static char title[] = "quantising";
    cli_progress(title, done, total);
}

static ap_status quantize(job *j, ap_buf *reply, ap_error *err)
{
    size_t count = j->source.count;
    int *fds = ap_alloc_array(count + 1, sizeof *fds);
    if (!fds)
        return ap_fail_nomem(err, (count + 1) * sizeof *fds);
    memcpy(fds, j->source.fds, count * sizeof *fds);
    fds[count] = j->imatrix_fd;
    ap_oneshot_options o = {.fds = fds, .fd_count = count + (j->imatrix_fd >= 0), .output_fd = j->out_fd, .sandbox = cli_sandbox,
                            .result = ap_oneshot_collect, .progress = show_progress, .context = reply};
    ap_status status = ap_worker_oneshot(work, j, &o, err);
    ap_free(fds);
    AP_TRY(status);
    return reply->len == sizeof(ap_quantize_report) ? AP_OK : ap_fail(err, AP_E_WORKER, "the worker gave no report");
}

static int print_report(const char *target, const ap_buf *reply, const ap_passport *passport)
{
    ap_quantize_report r;
    memcpy(&r, reply->ptr, sizeof r);
    r.notes[sizeof r.notes - 1] = 0;
    if (as_json)
        return cli_print_json(json_pack("{s:s, s:s, s:I, s:I, s:i, s:s, s:o}", "file", target, "type", type, "source_bytes",
                                        (json_int_t)r.source_bytes, "written_bytes", (json_int_t)r.written_bytes, "tensors_changed",
                                        (int)r.changed_count, "notes", r.notes, "passport", passport ? ap_passport_json(passport) : json_null()));
    (void)printf("%s: %s, %.1f MB of %.1f MB\n", target, type, (double)r.written_bytes / 1e6, (double)r.source_bytes / 1e6);
    cli_print_notes(r.notes);
    if (passport)
        cli_print_passport(passport);
    else
        (void)printf("It has no passport: with --text FILE its distance from its parent is measured.\n");
    return cli_finish_output();
}

/* Both are paths here, also where the store has a model of that name. */
static ap_status as_path(const char *operand, char path[PATH_ROOM], ap_error *err)
{
    int length = snprintf(path, PATH_ROOM, "%s%s", strchr(operand, '/') ? "" : "./", operand);
    return length < PATH_ROOM ? AP_OK : ap_fail(err, AP_E_LIMIT, "the path is longer than %d bytes", PATH_ROOM - 3);
}

static ap_status measure(const char *source, const char *target, ap_passport *passport, ap_error *err)
{
    ap_measure m;
    char parent[PATH_ROOM], model[PATH_ROOM];
    AP_TRY(as_path(source, parent, err));
    AP_TRY(as_path(target, model, err));
    what.parent = parent;
    what.model = model;
    what.threads = threads;
    AP_TRY(cli_measure(&what, &m, passport, err));
    return ap_passport_write_beside(target, passport, err);
}

static int run(unsigned count, char **operands)
{
    ap_error err = {0};
    job j = {.imatrix_fd = -1, .out_fd = -1};
    ap_buf reply = {.limit = sizeof(ap_quantize_report)};
    ap_file_new target;
    if (!type)
        return cli_error(CLI_MISUSE, "option --type is needed: Q4_K_M, for example");
    if (access(operands[1], F_OK) == 0 || errno != ENOENT)
        return cli_error(CLI_FAILED, "'%.400s' exists already; nothing was written", operands[1]);
    if (what.file && strcmp(what.file, "-") != 0 && access(what.file, R_OK) != 0)
        return cli_error(CLI_FAILED, "'%.400s' cannot be read: %s; nothing was written", what.file, strerror(errno));
    char source[CLI_PATH_ROOM];
    ap_status status = cli_open_source(operands[0], &j.source, source, &err);
    if (status == AP_OK && imatrix)
        status = ap_file_open(imatrix, &j.imatrix_fd, &err);
    if (status == AP_OK)
        status = ap_file_new_begin(&target, operands[1], &err);
    if (status == AP_OK) {
        j.out_fd = target.fd;
        status = quantize(&j, &reply, &err);
        if (status == AP_OK)
            status = ap_file_new_commit(&target, 0644, &err);
        else
            ap_file_new_abort(&target);
    }
    ap_passport passport;
    if (status == AP_OK && what.file)
        status = measure(source, operands[1], &passport, &err);
    int code = status == AP_OK ? print_report(operands[1], &reply, what.file ? &passport : NULL) : cli_failed(&err);
    ap_store_source_close(&j.source);
    if (j.imatrix_fd >= 0)
        close(j.imatrix_fd);
    ap_buf_deinit(&reply);
    return code;
}

const cli_command cli_quantize = {
    .name = "quantize",
    .operands = "SOURCE TARGET",
    .operands_min = 2,
    .operands_max = 2,
    .summary = "a model in fewer bits",
    .description = "Writes the model of SOURCE in F32, F16 or BF16, a GGUF file (also one in parts), a Hugging Face folder or the name of a model "
                   "in the store that was made of such a one, as the GGUF "
                   "file TARGET with weights in another type. "
                   "Norms, biases and routers stay as they are; the output, and in some layers the values and the end of the MLP, get a "
                   "better type than the rest. The file has the same bytes whatever the number of threads, and for a folder the bytes "
                   "that the GGUF file made of it by 'aperto convert' gives.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
