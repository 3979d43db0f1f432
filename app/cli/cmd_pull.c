/* cmd_pull.c - takes a model into the store: from a hub, from the web, or from a path.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <signal.h>
#include <unistd.h>

#include "base/alloc.h"
#include "cli/cli.h"

static bool as_json;
static const char *as_name;

static const cli_option options[] = {
    {"--as", "NAME", CLI_TEXT, &as_name, .help = "The name in the store; made from the source's own if not given."},
    CLI_OPTION_JSON(&as_json),
    CLI_OPTION_SANDBOX,
};

/* ---- Ctrl-C ---- */

static volatile sig_atomic_t is_stopped;

static void stop(int number) { is_stopped = 1; }

/* While bytes come, the first signal ends the download in good order; a second one ends the program. */
static void listen_to_signals(bool is_listening)
{
    struct sigaction action = {.sa_handler = is_listening ? stop : SIG_DFL, .sa_flags = is_listening ? (int)SA_RESETHAND : 0};
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct sigaction old;
        if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) /* nohup */
            (void)sigaction(numbers[i], &action, NULL);
    }
}

/* ---- From elsewhere ---- */

typedef enum pull_news { OTHER_BYTES, SAME_BYTES, NOTHING_NEWER /* nothing was fetched */ } pull_news;

typedef struct search {
    ap_store *store;
    ap_store_entry *found;
    bool is_found;
} search;

/* Whether the store has this state of the source, under the name that is wanted. */
static bool has_it(void *context, const ap_fetch_state *now)
{
    search *s = context;
    ap_store_entry *entries;
    size_t count;
    if (ap_store_list(s->store, &entries, &count, NULL) != AP_OK)
        return false;
    for (size_t i = 0; i < count && !s->is_found; i++) {
        const ap_store_entry *e = &entries[i];
        s->is_found = !e->is_damaged && !e->is_cached && !e->has_no_blob && e->law_version == AP_LAW_VERSION &&
                      strcmp(e->source, now->source) == 0 && ap_fetch_is_same(e->revision, now->revision) &&
                      (!as_name || strcmp(e->name, as_name) == 0);
        if (s->is_found)
            *s->found = *e;
    }
    ap_free(entries);
    return s->is_found;
}

static ap_status pull_from_elsewhere(ap_store *store, const char *source, ap_store_entry *entry, pull_news *news, ap_error *err)
{
    char folder[AP_FETCH_PATH_ROOM], title[] = "reading";
    ap_fetch_options o;
    ap_fetched *fetched = ap_alloc(sizeof *fetched);
    search s = {.store = store, .found = entry};
    if (!fetched)
        return ap_fail_nomem(err, sizeof *fetched);
    cli_fetch_options(store, folder, &o);
    o.stop = &is_stopped;
    o.has_it = has_it;
    o.context = &s;
    listen_to_signals(true);
    ap_status status = ap_fetch_pull(source, &o, fetched, err);
    listen_to_signals(false);
    if (cli_is_terminal(STDERR_FILENO) && status != AP_OK)
        (void)fputs("\r\033[K", stderr); /* the bar */
    if (status == AP_E_CANCELLED)
        (void)(fetched->folder[0] ? ap_fail(err, status, "stopped; the same command goes on with what was fetched, 'aperto rm %.300s' removes it",
                                            fetched->state.source)
                                  : ap_fail(err, status, "stopped; nothing was fetched that the next pull could go on with"));
    *news = s.is_found ? NOTHING_NEWER : OTHER_BYTES;
    if (status == AP_OK && !s.is_found) {
        const ap_store_origin origin = {.source = fetched->state.source, .revision = fetched->state.revision};
        char made[AP_STORE_NAME_MAX + 1];
        ap_store_entry before;
        ap_store_make_name(fetched->path, made);
        bool is_known = ap_store_find(store, as_name ? as_name : made, &before, NULL) == AP_OK;
        status = ap_store_import(store, fetched->path, &origin, as_name ? as_name : made, cli_progress, title, entry, err);
        if (status == AP_OK && is_known && strcmp(before.source_sha256, entry->source_sha256) == 0)
            *news = SAME_BYTES;
        bool is_refused = status != AP_OK && entry->is_refused;
        ap_fetch_end(fetched, status == AP_OK || is_refused);
        ap_error why = *err;
        if (is_refused)
            (void)ap_fail(err, status, "%s; what was fetched is thrown away", why.message);
    }
    ap_free(fetched);
    return status;
}

/* ---- The command ---- */

static int print_pulled(const ap_store_entry *entry, pull_news news)
{
    if (as_json)
        return cli_print_json(cli_moved_json(entry));
    (void)printf("%s: %s, %.1f million parameters in %s, %.1f MB; license: %s\n", entry->name,
                 entry->report.name[0] ? entry->report.name : entry->report.architecture, (double)entry->report.parameter_count / 1e6,
                 entry->report.quantization, (double)entry->packed_bytes / 1e6,
                 entry->report.license[0] ? entry->report.license : "not stated");
    if (news == NOTHING_NEWER)
        (void)printf("The source has nothing newer; nothing was fetched.\n");
    if (news == SAME_BYTES)
        (void)printf("The source has the same bytes as before.\n");
    if (entry->moved_from[0])
        (void)printf("Until now the name '%s' meant %.12s of the same source; 'aperto rollback %s' goes back to it.\n", entry->name,
                     entry->moved_from, entry->name);
    cli_print_chat(&entry->report, true);
    if (entry->report.notes[0])
        (void)puts(entry->report.notes);
    return cli_finish_output();
}

static int run(unsigned count, char **operands)
{
    ap_error err = {0};
    ap_store *store;
    ap_store_entry entry;
    pull_news news = OTHER_BYTES;
    char title[] = "reading";
    if (as_name && ap_store_check_new_name(as_name, &err) != AP_OK)
        return cli_error(CLI_MISUSE, "option --as: %s", err.message);
    ap_status status = cli_open_store(&store, &err);
    if (status == AP_OK)
        status = ap_store_is_source(operands[0]) ? pull_from_elsewhere(store, operands[0], &entry, &news, &err)
                                                 : ap_store_import(store, operands[0], NULL, as_name, cli_progress, title, &entry, &err);
    if (store)
        ap_store_close(&store);
    return status == AP_OK ? print_pulled(&entry, news) : cli_failed(&err);
}

const cli_command cli_pull = {
    .name = "pull", .operands = "SOURCE", .operands_min = 1, .operands_max = 1, .summary = "take a model into the store",
    .description = "SOURCE is hf:ORG/REPO (a repository of the Hugging Face hub; hf:ORG/REPO:FILE takes one of its GGUF files, by its name or by the "
                   "quantisation in it, as in hf:ORG/REPO:Q4_K_M; @REVISION at the end takes a branch, tag or commit), https://…/NAME.gguf, "
                   "oci://HOST/REPOSITORY:TAG or @sha256:DIGEST (a registry; credentials are those of docker login), a GGUF file or a Hugging "
                   "Face folder (config.json and *.safetensors). What is fetched is compared with the digests of hub and registry, and a "
                   "download that was stopped goes on where it was; one from a server that gives neither digest, ETag nor date begins again. A server that is "
                   "busy is asked again, at most six times, and waited for as long as it asks (300 seconds at a time, 600 in all). The model is checked, its weights are packed and kept in the store under a name; "
                   "the source itself is not needed afterwards. A name that means an older state of the same source moves to the new one and keeps "
                   "the old in its history; one that means anything else is left alone. The environment says HF_ENDPOINT (another hub), HF_TOKEN (for "
                   "models that are not open to all; it is sent to the hub alone), https_proxy, all_proxy, no_proxy (in small or capital letters, as curl reads them; no token is shown to a proxy) and SSL_CERT_FILE.",
    .options = options, .option_count = sizeof options / sizeof options[0], .run = run,
};
