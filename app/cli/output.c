/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli.h"

ap_sandbox_mode cli_sandbox = AP_SANDBOX_FULL;

bool cli_is_terminal(int fd) { return isatty(fd); }

int cli_error(int code, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    /* Names of files and options come from outside: one line, no control characters. */
    for (char *p = line; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    bool is_red = isatty(STDERR_FILENO) && !getenv("NO_COLOR");
    (void)fflush(stdout);
    (void)fprintf(stderr, "aperto: %serror%s: %s\n", is_red ? "\033[31m" : "", is_red ? "\033[0m" : "", line);
    return code;
}

int cli_failed(const ap_error *err)
{
    return cli_error(CLI_FAILED, "%s", err->message[0] ? err->message : ap_status_text(err->status));
}

ap_status cli_hint_memory(ap_status status, const char *options, ap_error *err)
{
    ap_error why = *err;
    return status == AP_E_NOMEM ? ap_fail(err, status, "%.400s; lower %s", why.message, options) : status;
}

ap_status cli_flush(ap_error *err)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return AP_OK;
    return ap_fail(err, AP_E_IO, "standard output cannot be written: %s", strerror(errno));
}

int cli_finish_output(void)
{
    ap_error err = {0};
    return cli_flush(&err) == AP_OK ? CLI_DONE : cli_failed(&err);
}

int cli_print_json(json_t *value)
{
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(value);
    if (!text)
        return cli_error(CLI_FAILED, "out of memory");
    (void)puts(text);
    free(text);
    return cli_finish_output();
}

/* False if the bar is not to be drawn now. */
static bool is_due(uint64_t done, uint64_t total)
{
    static uint64_t last_ns;
    uint64_t now = ap_clock_ns();
    if (!isatty(STDERR_FILENO) || total == 0 || (done < total && now - last_ns < 100000000u))
        return false;
    last_ns = now;
    return true;
}

static void draw(const char *title, uint64_t done, uint64_t total, const char *after)
{
    enum { WIDTH = 32 };
    char bar[WIDTH + 1];
    int filled = (int)((double)done / (double)total * WIDTH);
    for (int i = 0; i < WIDTH; i++)
        bar[i] = i < filled ? '#' : '.';
    bar[WIDTH] = 0;
    (void)fprintf(stderr, "\r%s [%s] %3.0f%% of %.1f MB%s%s", title, bar, 100.0 * (double)done / (double)total,
                  (double)total / 1e6, after, *after ? "\033[K" : "" /* it may become shorter */);
    if (done >= total)
        (void)fputs("\r\033[K", stderr);
    (void)fflush(stderr);
}

void cli_progress(void *title, uint64_t done, uint64_t total)
{
    if (is_due(done, total))
        draw(title, done, total, "");
}

void cli_progress_download(const char *title, uint64_t done, uint64_t total)
{
    static uint64_t first_done, first_ns;
    uint64_t now = ap_clock_ns();
    if (!first_ns || done < first_done) { /* what was there before came without time */
        first_ns = now;
        first_done = done;
    }
    if (!is_due(done, total))
        return;
    char after[64] = "";
    double seconds = (double)(now - first_ns) / 1e9, speed = seconds > 0 ? (double)(done - first_done) / seconds : 0;
    if (seconds > 1 && speed > 0) {
        double left = (double)(total - done) / speed;
        unsigned rest = left < 359999 ? (unsigned)left : 359999;
        (void)snprintf(after, sizeof after, ", %.1f MB/s, %u:%02u:%02u left", speed / 1e6, rest / 3600, rest / 60 % 60, rest % 60);
    }
    draw(title, done, total, after);
}

void cli_warn_plain(void)
{
    const char *best = ap_isa_available(0);
    if (best && strcmp(best, "plain") == 0)
        (void)fputs("This CPU has none of the vector instructions that Aperto knows (AVX2 and later): plain C is used, with the "
                    "same results, many times slower.\n", stderr);
}

ap_status cli_open_store(ap_store **store, ap_error *err)
{
    char folder[2048];
    *store = NULL;
    AP_TRY(ap_store_data_folder(folder, sizeof folder, err));
    return ap_store_open(store, folder, cli_sandbox, err);
}

/* ORG/REPO, perhaps with :FILE: what somebody writes who thinks of a hub. */
static bool looks_like_hub(const char *model)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    size_t org = strspn(model, plain), repo = model[org] == '/' ? strspn(model + org + 1, plain) : 0;
    const char *end = model + org + 1 + repo;
    return org && repo && model[0] != '.' && (*end == 0 || *end == ':' || *end == '@');
}

/* A model that is not here, and looks as if it were elsewhere. */
static ap_status hint_pull(ap_status status, const char *model, ap_error *err)
{
    bool is_source = ap_store_is_source(model);
    if (status != AP_E_NOTFOUND || (!is_source && !looks_like_hub(model)))
        return status;
    ap_error why = *err;
    return ap_fail(err, status, "%.240s; 'aperto pull %s%.150s' fetches it", is_source ? "MODEL is a name in the store or a path" : why.message,
                   is_source ? "" : "hf:", model);
}

ap_status cli_open_model(const char *model, ap_store_entry *entry, int *fd, ap_error *err)
{
    ap_store *store;
    AP_TRY(cli_open_store(&store, err));
    char title[] = "reading";
    ap_status status = ap_store_resolve(store, model, cli_progress, title, entry, fd, err);
    ap_store_close(&store);
    return hint_pull(status, model, err);
}

void cli_note(void *context, const char *line) { (void)fprintf(stderr, "%s%s\n", isatty(STDERR_FILENO) ? "\r\033[K" : "", line); }

static void show_fetch(void *context, uint64_t done, uint64_t total) { cli_progress_download("fetching", done, total); }

void cli_fetch_options(const ap_store *store, char folder[AP_FETCH_PATH_ROOM], ap_fetch_options *out)
{
    ap_store_downloads_folder(store, folder, AP_FETCH_PATH_ROOM);
    *out = (ap_fetch_options){.folder = folder, .is_model_file = ap_store_is_model_file, .progress = show_fetch, .note = cli_note};
}

static ap_status print_result(void *context, const char *bytes, size_t count, ap_error *err)
{
    cli_put_text(bytes, count);
    return ferror(stdout) ? cli_flush(err) : AP_OK;
}

static ap_status open_in(cli_adapter *a, const char *folder, const char *name, ap_error *err)
{
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path)
        return ap_fail(err, AP_E_ARG, "the path '%.200s…' is longer than %zu bytes", folder, sizeof path);
    AP_TRY(ap_file_open(path, &a->files.fds[a->files.count], err));
    a->files.count++;
    return AP_OK;
}

static ap_status open_adapter(const char *path, cli_adapter *a, ap_error *err)
{
    static const char *const names[] = {"adapter_config.json", "adapter_model.safetensors"};
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
        AP_TRY(ap_file_open(path, &a->files.fds[0], err));
        a->files.count = 1;
        return ap_hash_file(a->files.fds[0], AP_HASH_SHA256, a->sha256, NULL, NULL, err);
    }
    char pickle[4096];
    if ((size_t)snprintf(pickle, sizeof pickle, "%s/adapter_model.bin", path) < sizeof pickle && access(pickle, F_OK) == 0)
        return ap_fail(err, AP_E_UNSUPPORTED, "'%.300s' is a pickle file: reading one can run code that is hidden in it, so it is never read; save "
                       "the adapter as adapter_model.safetensors and remove it", pickle);
    ap_hash hash;
    ap_hash_begin(&hash, AP_HASH_SHA256);
    for (unsigned i = 0; i < 2; i++) {
        char hex[AP_HASH_HEX], line[AP_HASH_HEX + 32];
        AP_TRY(open_in(a, path, names[i], err));
        AP_TRY(ap_hash_file(a->files.fds[i], AP_HASH_SHA256, hex, NULL, NULL, err));
        ap_hash_add(&hash, line, (size_t)snprintf(line, sizeof line, "%s  %s\n", hex, names[i]));
    }
    ap_hash_end(&hash, a->sha256);
    return AP_OK;
}

ap_status cli_open_adapter(const char *path, cli_adapter *out, ap_error *err)
{
    *out = (cli_adapter){0};
    ap_status status = path ? open_adapter(path, out, err) : AP_OK;
    if (status != AP_OK)
        cli_close_adapter(out);
    return status;
}

void cli_close_adapter(cli_adapter *adapter)
{
    while (adapter->files.count)
        close(adapter->files.fds[--adapter->files.count]);
}

int cli_run_oneshot(ap_oneshot_fn *fn, void *context, const int *fds, size_t fd_count)
{
    ap_error err = {0};
    ap_oneshot_options o = {.fds = fds, .fd_count = fd_count, .output_fd = -1, .sandbox = cli_sandbox, .result = print_result,
                            .result_bytes_max = (uint64_t)64 << 30};
    ap_status status = ap_worker_oneshot(fn, context, &o, &err);
    return status == AP_OK ? cli_finish_output() : cli_failed(&err);
}

void cli_put_text(const char *text, size_t length)
{
    if (!isatty(STDOUT_FILENO)) {
        (void)fwrite(text, 1, length, stdout);
        return;
    }
    size_t start = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        bool is_c1 = c == 0xc2 && i + 1 < length && (unsigned char)text[i + 1] < 0xa0; /* U+0080 to U+009F */
        if ((c >= 0x20 && c != 0x7f && !is_c1) || c == '\n' || c == '\t')
            continue;
        (void)fwrite(text + start, 1, i - start, stdout);
        start = i + 1 + is_c1;
        i += is_c1;
    }
    (void)fwrite(text + start, 1, length - start, stdout);
}

void cli_print_notes(const char *notes)
{
    if (!notes[0])
        return;
    cli_put_text(notes, strlen(notes));
    (void)putchar('\n');
}

/* The store has packed weights, which no file for others is written of. */
static ap_status find_source_of(const ap_store_entry *entry, char path[CLI_PATH_ROOM], ap_error *err)
{
    char sha256[AP_HASH_HEX], title[] = "reading";
    bool is_elsewhere = ap_store_is_source(entry->source);
    if (is_elsewhere || access(entry->source, R_OK) != 0)
        return ap_fail(err, AP_E_NOTFOUND, "the store has '%s' in packed form only, and what it was made of (%.300s) is not on this machine: "
                       "%s give its path", entry->name, entry->source, is_elsewhere ? "download that file or folder and" : "put it there again or");
    AP_TRY(ap_store_source_sha256(entry->source, sha256, cli_progress, title, err));
    if (strcmp(sha256, entry->source_sha256) != 0)
        return ap_fail(err, AP_E_STATE, "what '%s' in the store was made of, '%.300s', is another one now: give the path of the one that is meant",
                       entry->name, entry->source);
    (void)snprintf(path, CLI_PATH_ROOM, "%s", entry->source);
    return AP_OK;
}

static ap_status find_source(const char *operand, char path[CLI_PATH_ROOM], ap_error *err)
{
    ap_store *store = NULL;
    ap_store_entry entry;
    if (snprintf(path, CLI_PATH_ROOM, "%s", operand) >= CLI_PATH_ROOM)
        return ap_fail(err, AP_E_LIMIT, "the path is longer than %d bytes", CLI_PATH_ROOM - 1);
    if (access(operand, F_OK) == 0 || !ap_store_name_is_valid(operand) || cli_open_store(&store, NULL) != AP_OK)
        return AP_OK;
    bool is_known = ap_store_find(store, operand, &entry, NULL) == AP_OK && !entry.is_cached && strcmp(entry.name, operand) == 0;
    ap_store_close(&store);
    return is_known ? find_source_of(&entry, path, err) : AP_OK;
}

ap_status cli_open_source(const char *operand, ap_store_source *source, char path[CLI_PATH_ROOM], ap_error *err)
{
    AP_TRY(find_source(operand, path, err));
    AP_TRY(ap_store_source_open(source, path, err));
    ap_status status = ap_store_source_add_card(source, path, err);
    if (status != AP_OK)
        ap_store_source_close(source);
    return status;
}

ap_status cli_open_vocab(const char *model, int *fd, ap_error *err)
{
    ap_store *store;
    ap_store_entry entry;
    if (ap_store_is_path(model)) {
        AP_TRY(cli_open_store(&store, err));
        ap_status status = ap_store_find(store, model, &entry, err);
        ap_store_close(&store);
        struct stat st;
        bool is_folder = stat(model, &st) == 0 && S_ISDIR(st.st_mode); /* its vocabulary is read when it is packed */
        if (!is_folder && (status != AP_OK || strcmp(entry.name, model) != 0))
            return ap_file_open(model, fd, err);
    }
    return cli_open_model(model, &entry, fd, err);
}
