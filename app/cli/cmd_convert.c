/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "cli/cli.h"

static bool as_json, force;
static const char *type;
static int64_t shard_bytes = (int64_t)5 << 30;

static const cli_option options[] = {
    {"--type", "T", CLI_TEXT, &type, .help = "What quantised weights become in a folder: F16 (default), BF16 or F32."},
    {"--shard", "SIZE", CLI_SIZE, &shard_bytes,
     .help = "Largest file of weights in a folder (default 5G); a model with more gets several and an index."},
    {"--force", NULL, CLI_FLAG, &force, .help = "Replace TARGET if it is a file; it stays as it was until the new one is whole."},
    CLI_OPTION_JSON(&as_json),
    CLI_OPTION_SANDBOX,
};

typedef struct job {
    ap_store_source source;
    int out_fd;
    bool to_folder;
    uint32_t shard;
} job;

/* ---- In the one-shot worker ---- */

/* What travels back: documents, then the report.  A document is its name, its length and its bytes. */
enum { NAME_BYTES = 64 };
typedef struct document_head {
    char name[NAME_BYTES];
    uint64_t count;
} document_head;

static ap_status send_document(void *self, const char *name, const char *bytes, size_t count, ap_error *err)
{
    document_head head = {.count = count};
    (void)snprintf(head.name, sizeof head.name, "%s", name);
    AP_TRY(ap_oneshot_write(self, &head, sizeof head, err));
    return ap_oneshot_write(self, bytes, count, err);
}

static ap_status work(ap_oneshot *self, void *context, ap_error *err)
{
    const job *j = context;
    const ap_store_source *s = &j->source;
    ap_convert_options o = {.size = sizeof o, .type = type, .shard_bytes_max = (uint64_t)shard_bytes, .shard = j->shard, .document = send_document,
                            .document_context = self, .progress = ap_oneshot_progress, .progress_context = self};
    ap_convert_report report;
    AP_TRY(j->to_folder ? ap_model_convert_to_folder(s->files, s->count, j->out_fd, &o, &report, err)
                        : ap_model_convert_to_gguf(s->files, s->count, j->out_fd, &o, &report, err));
    return ap_oneshot_write(self, &report, sizeof report, err);
}

/* ---- Its answer, of which nothing is believed ---- */

static void show_progress(void *context, uint64_t done, uint64_t total)
{
    static char title[] = "converting";
    cli_progress(title, done, total);
}

enum { REPLY_BYTES_MAX = 256 << 20, SHARDS_MAX = 256, NEW_FILES_MAX = SHARDS_MAX + 8 };

static ap_status convert(job *j, ap_buf *reply, ap_convert_report *report, ap_error *err)
{
    ap_oneshot_options o = {.fds = j->source.fds, .fd_count = j->source.count, .output_fd = j->out_fd, .sandbox = cli_sandbox,
                            .result_bytes_max = REPLY_BYTES_MAX, .result = ap_oneshot_collect, .progress = show_progress, .context = reply};
    AP_TRY(ap_worker_oneshot(work, j, &o, err));
    if (reply->len < sizeof *report)
        return ap_fail(err, AP_E_WORKER, "the worker gave no report");
    reply->len -= sizeof *report;
    memcpy(report, reply->ptr + reply->len, sizeof *report);
    report->notes[sizeof report->notes - 1] = report->elsewhere[sizeof report->elsewhere - 1] = 0;
    if (report->shard_count > SHARDS_MAX)
        return ap_fail(err, AP_E_LIMIT, "the weights would need %u files, at most %d are allowed; raise --shard", report->shard_count, SHARDS_MAX);
    return AP_OK;
}

static int print_report(const char *target, bool to_folder, const ap_convert_report *r)
{
    if (r->elsewhere[0])
        (void)fprintf(stderr, "aperto: warning: %s\n", r->elsewhere);
    if (as_json)
        return cli_print_json(json_pack("{s:s, s:I, s:I, s:i, s:i, s:s, s:s}", "target", target, "source_bytes", (json_int_t)r->source_bytes,
                                        "written_bytes", (json_int_t)r->written_bytes, "tensors", (int)r->tensor_count, "weight_files",
                                        (int)(r->shard_count ? r->shard_count : 1), "notes", r->notes, "elsewhere", r->elsewhere));
    (void)printf("%s: %s, %u tensors, %.1f MB\n", target, to_folder ? "a folder" : "a GGUF file", r->tensor_count, (double)r->written_bytes / 1e6);
    cli_print_notes(r->notes);
    return cli_finish_output();
}

/* ---- A GGUF file ---- */

static ap_status write_file(job *j, const char *target, ap_convert_report *report, ap_error *err)
{
    ap_file_new file;
    ap_buf reply = {.limit = REPLY_BYTES_MAX};
    AP_TRY(ap_file_new_begin(&file, target, err));
    j->out_fd = file.fd;
    ap_status status = convert(j, &reply, report, err);
    if (status == AP_OK)
        status = ap_file_new_commit(&file, 0644, err);
    else
        ap_file_new_abort(&file);
    ap_buf_deinit(&reply);
    return status;
}

/* ---- A folder ---- */

/* Where the only file within a folder of the folder stands. */
#define POOLING_FOLDER "1_Pooling"

/* Its files stay without names until all are written; then they get a folder, which gets its name. */
typedef struct new_folder {
    const char *target;
    ap_file_new files[NEW_FILES_MAX];
    char names[NEW_FILES_MAX][NAME_BYTES];
    unsigned count;
} new_folder;

static ap_status add_file(new_folder *f, const char *name, ap_error *err)
{
    if (f->count == NEW_FILES_MAX)
        return ap_fail(err, AP_E_LIMIT, "there are more than %d files", NEW_FILES_MAX);
    AP_TRY(ap_file_new_begin(&f->files[f->count], f->target, err)); /* beside it, under no name or a temporary one */
    (void)snprintf(f->names[f->count++], NAME_BYTES, "%s", name);
    return AP_OK;
}

static ap_status take_documents(new_folder *f, const ap_buf *reply, ap_error *err)
{
    static const char *const known[] = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
                                        "model.safetensors.index.json", "modules.json", "README.md", POOLING_FOLDER "/config.json"};
    enum { KNOWN = sizeof known / sizeof known[0] };
    bool is_there[KNOWN] = {false};
    for (size_t at = 0; at < reply->len;) {
        document_head head;
        size_t which = 0;
        if (reply->len - at < sizeof head)
            return ap_fail(err, AP_E_WORKER, "the worker broke the protocol: half a document");
        memcpy(&head, reply->ptr + at, sizeof head);
        at += sizeof head;
        while (which < KNOWN && strncmp(head.name, known[which], sizeof head.name) != 0)
            which++;
        if (which == KNOWN || is_there[which] || head.count > reply->len - at)
            return ap_fail(err, AP_E_WORKER, "the worker broke the protocol: a document of no known name or length, or one that came before");
        is_there[which] = true;
        AP_TRY(add_file(f, known[which], err));
        AP_TRY(ap_file_write_all(f->files[f->count - 1].fd, reply->ptr + at, (size_t)head.count, err));
        at += (size_t)head.count;
    }
    return AP_OK;
}

static ap_status write_weights(job *j, new_folder *f, ap_convert_report *report, ap_error *err)
{
    uint32_t shards = 1;
    uint64_t written = 0;
    for (j->shard = 0; j->shard < shards; j->shard++) {
        ap_buf reply = {.limit = REPLY_BYTES_MAX};
        ap_status status = add_file(f, "", err);
        unsigned mine = f->count - 1;
        if (status == AP_OK) {
            j->out_fd = f->files[mine].fd;
            status = convert(j, &reply, report, err);
        }
        if (status == AP_OK)
            status = take_documents(f, &reply, err);
        ap_buf_deinit(&reply);
        AP_TRY(status);
        shards = report->shard_count;
        written += report->written_bytes;
        (void)snprintf(f->names[mine], NAME_BYTES, shards == 1 ? "model.safetensors" : AP_CONVERT_SHARD_NAME, j->shard + 1, shards);
    }
    report->written_bytes = written;
    return AP_OK;
}

/* From here on the files have names: a signal waits until they have their place or are gone. */
static ap_status publish(new_folder *f, ap_error *err)
{
    char temporary[3072];
    if (snprintf(temporary, sizeof temporary, "%s.new-XXXXXX", f->target) >= (int)sizeof temporary)
        return ap_fail(err, AP_E_LIMIT, "the path is longer than %zu bytes", sizeof temporary - 12);
    for (unsigned i = 0; i < f->count; i++)
        if (fsync(f->files[i].fd) != 0)
            return ap_fail(err, AP_E_IO, "'%.400s' cannot be written: %s", f->target, strerror(errno));
    if (!mkdtemp(temporary))
        return ap_fail(err, AP_E_IO, "'%.400s' cannot be created: %s", f->target, strerror(errno));
    char pooling[sizeof temporary + sizeof POOLING_FOLDER];
    (void)snprintf(pooling, sizeof pooling, "%s/" POOLING_FOLDER, temporary);
    ap_status status = AP_OK;
    unsigned done = 0;
    for (unsigned i = 0; i < f->count && status == AP_OK; i++)
        if (strchr(f->names[i], '/') && mkdir(pooling, 0755) != 0)
            status = ap_fail(err, AP_E_IO, "'%.400s/" POOLING_FOLDER "' cannot be created: %s", f->target, strerror(errno));
    for (; done < f->count && status == AP_OK; done++) {
        ap_file_new *file = &f->files[done];
        char name[NAME_BYTES]; /* a copy: both stand in *f */
        memcpy(name, f->names[done], sizeof name);
        (void)snprintf(file->path, sizeof file->path, "%s/%s", temporary, name);
        if (!file->has_name)
            (void)snprintf(file->temporary, sizeof file->temporary, "%s/%s.new-XXXXXX", temporary, name);
        status = ap_file_new_commit(file, 0644, err);
    }
    if (status == AP_OK && (chmod(temporary, 0755) != 0 || rename(temporary, f->target) != 0))
        status = ap_fail(err, AP_E_IO, "'%.400s' cannot be finished: %s", f->target, strerror(errno));
    if (status == AP_OK)
        return ap_file_sync_folder_of(f->target, err);
    for (unsigned i = 0; i < done; i++)
        (void)unlink(f->files[i].path);
    (void)rmdir(pooling);
    (void)rmdir(temporary);
    return status;
}

static ap_status write_folder(job *j, const char *target, ap_convert_report *report, ap_error *err)
{
    sigset_t all, before;
    new_folder *f = ap_alloc_zero(1, sizeof *f);
    if (!f)
        return ap_fail_nomem(err, sizeof *f);
    f->target = target;
    ap_status status = write_weights(j, f, report, err);
    (void)sigfillset(&all);
    (void)sigprocmask(SIG_BLOCK, &all, &before);
    if (status == AP_OK)
        status = publish(f, err);
    for (unsigned i = 0; i < f->count; i++)
        ap_file_new_abort(&f->files[i]);
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    ap_free(f);
    return status;
}

/* ---- The command ---- */

static bool ends_in_gguf(const char *name)
{
    size_t length = strlen(name);
    return length > 5 && strcmp(name + length - 5, ".gguf") == 0;
}

static bool is_empty_folder(const char *path)
{
    DIR *folder = opendir(path);
    bool is_empty = folder;
    for (struct dirent *entry; is_empty && (entry = readdir(folder));)
        is_empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    if (folder)
        closedir(folder);
    return is_empty;
}

/* Which of the two the target becomes follows from the source; a name that says otherwise was meant otherwise. */
static ap_status check_target(const char *target, bool to_folder, ap_error *err)
{
    struct stat st;
    if (to_folder && ends_in_gguf(target))
        return ap_fail(err, AP_E_ARG, "the source is a GGUF file, so the target is a folder, and '%.300s' would be a strange name for one", target);
    if (!to_folder && !ends_in_gguf(target))
        return ap_fail(err, AP_E_ARG, "the source is a folder, so the target is a GGUF file: its name ends in .gguf, '%.300s' does not", target);
    if (lstat(target, &st) != 0)
        return errno == ENOENT ? AP_OK : ap_fail(err, AP_E_IO, "'%.400s': %s", target, strerror(errno));
    bool is_file = S_ISREG(st.st_mode), is_folder = S_ISDIR(st.st_mode);
    if (to_folder && is_file && force)
        return ap_fail(err, AP_E_ARG, "'%.300s' is a file and the target is a folder; --force replaces files by files only", target);
    if (is_file ? force : to_folder && is_folder && is_empty_folder(target))
        return AP_OK;
    return ap_fail(err, AP_E_STATE, "'%.400s' exists already%s; nothing was written%s", target, is_folder && to_folder ? " and is not empty" : "",
                   is_file ? " (--force replaces it)" : "");
}

static bool is_gguf(const ap_store_source *s)
{
    return !s->files[0].name || ends_in_gguf(s->files[0].name);
}

static int run(unsigned count, char **operands)
{
    ap_error err = {0};
    job j = {.out_fd = -1};
    ap_convert_report report;
    char target[2048];
    size_t length = strlen(operands[1]);
    while (length > 1 && operands[1][length - 1] == '/')
        length--;
    if (shard_bytes < 1 << 20)
        return cli_error(CLI_MISUSE, "option --shard: a file of weights has at least 1M");
    if (length >= sizeof target)
        return cli_error(CLI_FAILED, "the path of the target is longer than %zu bytes", sizeof target - 1);
    (void)snprintf(target, sizeof target, "%.*s", (int)length, operands[1]);
    char source[CLI_PATH_ROOM];
    ap_status status = cli_open_source(operands[0], &j.source, source, &err);
    if (status == AP_OK) {
        j.to_folder = is_gguf(&j.source);
        status = check_target(target, j.to_folder, &err);
    }
    if (status == AP_OK)
        status = j.to_folder ? write_folder(&j, target, &report, &err) : write_file(&j, target, &report, &err);
    int code = status == AP_OK ? print_report(target, j.to_folder, &report) : cli_failed(&err);
    ap_store_source_close(&j.source);
    return code;
}

const cli_command cli_convert = {
    .name = "convert",
    .operands = "SOURCE TARGET",
    .operands_min = 2,
    .operands_max = 2,
    .summary = "a model folder as a GGUF file, and back",
    .description = "Writes the model of SOURCE, a Hugging Face folder, as the GGUF file TARGET, whose name ends in .gguf; or that of a GGUF file "
                   "(also one in parts) as the folder TARGET, which is new or empty, with config.json, safetensors and the files of the tokenizer. "
                   "SOURCE can also be the name of a model in the store whose source is still on this machine. Floats keep their values; quantised "
                   "weights are decoded for a folder. What the other form cannot say is refused by name; where llama.cpp is known to compute "
                   "something else from the GGUF file, a warning says so.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
