/* texts.c - what the commands share that run a text through a model: chunks, and the measure with its passport.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/memory.h"
#include "cli/cli.h"

ap_status cli_make_chunks(const ap_vocab *vocab, ap_str text, uint32_t chunk_tokens, uint64_t chunks_max, int32_t **ids, size_t *count,
                          ap_error *err)
{
    ap_tokens begin, all;
    *ids = NULL;
    *count = 0;
    AP_TRY(ap_vocab_tokenize(vocab, "", 0, AP_TOKENIZE_BOS, &begin, err));
    ap_status status = ap_vocab_tokenize(vocab, text.ptr ? text.ptr : "", text.len, 0, &all, err);
    size_t own = chunk_tokens - begin.count; /* tokens of the text in a chunk: nearly all, for there is one begin token at most */
    if (status == AP_OK) {
        uint64_t limit = chunks_max ? chunks_max * own : UINT64_MAX;
        all.count = all.count < limit ? all.count : (size_t)limit;
        *ids = ap_alloc_array(all.count + (all.count / own + 1) * begin.count, sizeof **ids);
        status = *ids ? AP_OK : ap_fail_nomem(err, all.count * sizeof **ids);
    }
    for (size_t at = 0, n; status == AP_OK && at < all.count; at += n) {
        n = all.count - at < own ? all.count - at : own;
        if (begin.count) /* else there is no pointer either */
            memcpy(*ids + *count, begin.ids, begin.count * sizeof **ids);
        memcpy(*ids + *count + begin.count, all.ids + at, n * sizeof **ids);
        *count += begin.count + n;
    }
    ap_release(begin.ids);
    ap_release(all.ids);
    return status;
}

/* ---- The measure ---- */

enum { MODEL, PARENT };

typedef struct job {
    const cli_measuring *what;
    int fds[2];
    unsigned fd_count;
    ap_str text;
    uint64_t available_bytes; /* of memory; the worker could not look */
} job;

static ap_status open_engine(const job *j, int fd, ap_model **model, ap_engine **engine, ap_error *err)
{
    AP_TRY(ap_model_open(model, fd, err));
    uint32_t declared = ap_model_info_of(*model)->context_tokens, chunk = (uint32_t)j->what->chunk_tokens;
    if (chunk > declared)
        return ap_fail(err, AP_E_LIMIT, "chunks of %u tokens are longer than the %u that the model was made for; lower --ctx", chunk, declared);
    ap_engine_options o = {.size = sizeof o, .threads = (unsigned)j->what->threads, .isa = j->what->isa, .requests_max = 1,
                           .memory_bytes_max = j->available_bytes, .context_tokens = chunk, .step_tokens = chunk};
    return cli_hint_memory(ap_engine_create(engine, *model, &o, err), "--ctx", err);
}

static ap_status measure_both(ap_oneshot *self, const job *j, const ap_model *model, ap_engine *const engines[2], ap_error *err)
{
    int32_t *ids;
    size_t count;
    ap_measure measure = {0};
    ap_measure_options o = {.size = sizeof o, .chunk_tokens = (uint32_t)j->what->chunk_tokens, .memory_bytes_max = j->available_bytes,
                            .progress = ap_oneshot_progress, .progress_context = self};
    AP_TRY(cli_make_chunks(ap_model_vocab(model), j->text, o.chunk_tokens, (uint64_t)j->what->chunks_max, &ids, &count, err));
    ap_status status = cli_hint_memory(ap_engine_measure(engines[MODEL], engines[PARENT], ids, count, &o, &measure, err), "--ctx", err);
    ap_free(ids);
    return status == AP_OK ? ap_oneshot_write(self, &measure, sizeof measure, err) : status;
}

/* In the one-shot worker; the measure travels back as its bytes. */
static ap_status work(ap_oneshot *self, void *context, ap_error *err)
{
    const job *j = context;
    ap_model *models[2] = {NULL, NULL};
    ap_engine *engines[2] = {NULL, NULL};
    ap_status status = AP_OK;
    for (unsigned i = 0; i < j->fd_count && status == AP_OK; i++)
        status = open_engine(j, j->fds[i], &models[i], &engines[i], err);
    if (status == AP_OK)
        status = measure_both(self, j, models[MODEL], engines, err);
    for (unsigned i = 0; i < 2; i++) {
        ap_engine_destroy(&engines[i]);
        ap_model_close(&models[i]);
    }
    return status;
}

static void show_progress(void *context, uint64_t done, uint64_t total)
{
    static char title[] = "measuring";
    cli_progress(title, done, total);
}

static ap_status run_worker(job *j, ap_measure *measure, ap_error *err)
{
    ap_buf reply = {.limit = sizeof *measure};
    ap_oneshot_options o = {.fds = j->fds, .fd_count = j->fd_count, .output_fd = -1, .sandbox = cli_sandbox, .result = ap_oneshot_collect,
                            .progress = show_progress, .context = &reply};
    ap_status status = ap_worker_oneshot(work, j, &o, err);
    if (status == AP_OK && reply.len != sizeof *measure)
        status = ap_fail(err, AP_E_WORKER, "the worker gave no report");
    if (status == AP_OK)
        memcpy(measure, reply.ptr, sizeof *measure);
    ap_buf_deinit(&reply);
    return status;
}

static void copy_name(char *out, size_t room, const char *path)
{
    const char *slash = strrchr(path, '/');
    (void)snprintf(out, room, "%s", slash && slash[1] ? slash + 1 : path);
    for (char *p = out; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
}

static ap_status keep(const cli_measuring *what, const ap_store_entry entries[2], ap_str text, const ap_measure *measure, ap_passport *out,
                      ap_error *err)
{
    ap_store *store;
    ap_hash hash;
    *out = (ap_passport){.chunk_tokens = (uint32_t)what->chunk_tokens, .law_version = entries[MODEL].law_version, .created = (int64_t)time(NULL),
                         .measure = *measure};
    memcpy(out->sha256, entries[MODEL].source_sha256, sizeof out->sha256);
    memcpy(out->parent_sha256, entries[PARENT].source_sha256, sizeof out->parent_sha256);
    copy_name(out->parent, sizeof out->parent, what->parent);
    copy_name(out->text, sizeof out->text, what->file);
    ap_hash_begin(&hash, AP_HASH_SHA256);
    ap_hash_add(&hash, text.ptr, text.len);
    ap_hash_end(&hash, out->text_sha256);
    AP_TRY(cli_open_store(&store, err));
    ap_status status = ap_store_put_passport(store, out, err);
    ap_store_close(&store);
    return status;
}

ap_status cli_measure(const cli_measuring *what, ap_measure *measure, ap_passport *passport, ap_error *err)
{
    ap_buf text = {0};
    ap_store_entry entries[2];
    job j = {.what = what, .fds = {-1, -1}, .fd_count = what->parent ? 2 : 1, .available_bytes = ap_memory_available("")};
    ap_status status = cli_read_file(what->file, CLI_TEXT_BYTES_MAX, &text, err);
    j.text = ap_buf_str(&text);
    if (status == AP_OK)
        status = cli_check_text(j.text, "the text", err);
    if (status == AP_OK)
        status = cli_open_model(what->model, &entries[MODEL], &j.fds[MODEL], err);
    if (status == AP_OK && what->parent)
        status = cli_open_model(what->parent, &entries[PARENT], &j.fds[PARENT], err);
    if (status == AP_OK && what->parent && strcmp(entries[MODEL].source_sha256, entries[PARENT].source_sha256) == 0)
        status = ap_fail(err, AP_E_ARG, "the model and its parent are the same file");
    if (status == AP_OK)
        status = run_worker(&j, measure, err);
    if (status == AP_OK && what->parent)
        status = keep(what, entries, j.text, measure, passport, err);
    for (int i = 0; i < 2; i++)
        if (j.fds[i] >= 0)
            close(j.fds[i]);
    ap_buf_deinit(&text);
    return status;
}

void cli_print_passport(const ap_passport *p)
{
    const ap_measure *m = &p->measure;
    (void)printf("passport       against %s (sha256:%.12s) on %s (sha256:%.12s), %llu predictions in chunks of %u:\n"
                 "               divergence (KL) %.6f on average, 99.9%% within %.4f; perplexity times %.5f (%.6g, its parent's %.6g);\n"
                 "               the same likeliest token %.2f%% of the time\n",
                 p->parent, p->parent_sha256, p->text, p->text_sha256, (unsigned long long)m->predictions, p->chunk_tokens, m->kl_mean,
                 m->kl_999, exp(m->nll - m->parent_nll), exp(m->nll), exp(m->parent_nll), 100 * m->top1);
}
