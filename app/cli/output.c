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

void cli_progress(void *title, uint64_t done, uint64_t total)
{
    static uint64_t last_ns;
    enum { WIDTH = 32 };
    if (!isatty(STDERR_FILENO) || total == 0)
        return;
    uint64_t now = ap_clock_ns();
    if (done < total && now - last_ns < 100000000u)
        return;
    last_ns = now;
    char bar[WIDTH + 1];
    int filled = (int)((double)done / (double)total * WIDTH);
    for (int i = 0; i < WIDTH; i++)
        bar[i] = i < filled ? '#' : '.';
    bar[WIDTH] = 0;
    (void)fprintf(stderr, "\r%s [%s] %3.0f%% of %.1f MB", (const char *)title, bar, 100.0 * (double)done / (double)total,
                  (double)total / 1e6);
    if (done >= total)
        (void)fputs("\r\033[K", stderr);
    (void)fflush(stderr);
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

ap_status cli_open_model(const char *model, ap_store_entry *entry, int *fd, ap_error *err)
{
    ap_store *store;
    AP_TRY(cli_open_store(&store, err));
    char title[] = "reading";
    ap_status status = ap_store_resolve(store, model, cli_progress, title, entry, fd, err);
    ap_store_close(&store);
    return status;
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
    AP_TRY(ap_file_open(path, &a->fds[a->count], err));
    a->count++;
    return AP_OK;
}

ap_status cli_open_adapter(const char *path, cli_adapter *out, ap_error *err)
{
    struct stat st;
    *out = (cli_adapter){0};
    if (!path)
        return AP_OK;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        AP_TRY(open_in(out, path, "adapter_config.json", err));
        ap_status status = open_in(out, path, "adapter_model.safetensors", err);
        if (status != AP_OK)
            cli_close_adapter(out);
        return status;
    }
    AP_TRY(ap_file_open(path, &out->fds[0], err));
    out->count = 1;
    return AP_OK;
}

void cli_close_adapter(cli_adapter *adapter)
{
    while (adapter->count)
        close(adapter->fds[--adapter->count]);
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
