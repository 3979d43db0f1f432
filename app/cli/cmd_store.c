/* cmd_store.c - the commands that only ask the store: list, show, verify, rm, tag, rollback.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "cli/cli.h"

static bool as_json, yes, with_history, only_history, may_move;

static const cli_option json_options[] = {CLI_OPTION_JSON(&as_json)};
static const cli_option show_options[] = {CLI_OPTION_JSON(&as_json), CLI_OPTION_SANDBOX};
static const cli_option rm_options[] = {
    {"--with-history", NULL, CLI_FLAG, &with_history, .help = "Also remove what the name meant before."},
    {"--only-history", NULL, CLI_FLAG, &only_history, .help = "Remove only what the name meant before; it keeps what it means now."},
    {"--yes", NULL, CLI_FLAG, &yes, .help = "Do not ask."},
};
static const cli_option tag_options[] = {
    {"--move", NULL, CLI_FLAG, &may_move, .help = "Give a name that means another model this meaning; the old one goes into its history."},
    CLI_OPTION_JSON(&as_json),
};

static json_t *entry_json(const ap_store_entry *e)
{
    if (e->is_damaged)
        return json_pack("{s:s, s:b}", "name", e->name, "damaged", 1);
    const ap_import_report *r = &e->report;
    return json_pack("{s:o, s:s, s:b, s:b, s:s, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:b, s:s, s:i}", "chat", cli_chat_json(r), "name", e->name, "damaged",
                     (int)e->has_no_blob, "by_path", (int)e->is_cached, "digest", e->digest, "packed_bytes", (json_int_t)e->packed_bytes, "source", e->source, "source_sha256", e->source_sha256, "revision", e->revision,
                     "architecture", r->architecture, "model_name", r->name, "license", r->license, "quantization",
                     r->quantization, "parameters", (json_int_t)r->parameter_count, "context_tokens",
                     (json_int_t)r->context_tokens, "created", (json_int_t)e->created, "chat_template", (int)r->has_chat_template,
                     "notes", r->notes, "law", (int)e->law_version);
}

json_t *cli_moved_json(const ap_store_entry *e)
{
    json_t *o = entry_json(e);
    if (o)
        json_object_set_new(o, "moved_from", e->moved_from[0] ? json_string(e->moved_from) : json_null());
    return o;
}

static void format_date(int64_t when, char date[32])
{
    struct tm parts;
    time_t seconds = (time_t)when;
    gmtime_r(&seconds, &parts);
    (void)strftime(date, 32, "%Y-%m-%d %H:%M UTC", &parts);
}

static void print_entry(const ap_store_entry *e)
{
    const ap_import_report *r = &e->report;
    char date[32];
    format_date(e->created, date);
    (void)printf("name           %s\nmodel          %s\narchitecture   %s\nparameters     %.1f million\nweights        %s\ncontext        %u tokens\n"
                 "chat template  %s\n",
                 e->name, r->name[0] ? r->name : "(no name)", r->architecture, (double)r->parameter_count / 1e6, r->quantization,
                 r->context_tokens, r->has_chat_template ? "yes" : "no");
    cli_print_chat(r, false);
    (void)printf("license        %s\nimported       %s from %s\nsource         sha256:%s\npacked         %.1f MB, blake2b:%s\nlaw            version %u\n",
                 r->license[0] ? r->license : "(not stated)", date, e->source,
                 e->source_sha256, (double)e->packed_bytes / 1e6, e->digest, e->law_version);
    if (e->revision[0])
        (void)printf("revision       %s\n", e->revision);
    if (r->notes[0])
        (void)printf("notes          %s\n", r->notes);
    if (e->is_cached)
        (void)printf("kept           as what was packed of a file given by path; 'serve' offers it as '%s'\n", e->name);
    if (e->has_no_blob)
        (void)printf("damaged        the packed file is missing or incomplete; import the model again from %s\n", e->source);
}

/* ---- list ---- */

static void print_list(const ap_store_entry *entries, size_t n)
{
    int name = 24, license = 7; /* widths */
    for (size_t i = 0; i < n; i++) {
        int a = (int)strlen(entries[i].name), b = (int)strlen(entries[i].report.license);
        name = a > name ? a : name;
        license = b > license ? b : license;
    }
    (void)printf("%-*s %-14s %-8s %10s %10s  %s\n", name, "NAME", "DIGEST", "WEIGHTS", "SIZE", "CONTEXT", "LICENSE");
    for (size_t i = 0; i < n; i++) {
        const ap_store_entry *e = &entries[i];
        if (e->is_damaged) {
            (void)printf("%-*s its manifest is damaged; 'aperto rm %s' removes it\n", name, e->name, e->name);
            continue;
        }
        (void)printf("%-*s %-14.12s %-8s %7.1f MB %10u  ", name, e->name, e->digest, e->report.quantization,
                     (double)e->packed_bytes / 1e6, e->report.context_tokens);
        const char *stated = e->report.license[0] ? e->report.license : "-";
        if (e->has_no_blob)
            (void)printf("%-*s  damaged: import it again from %s\n", license, stated, e->source);
        else if (e->is_cached)
            (void)printf("%-*s  by path: %s\n", license, stated, e->source);
        else
            (void)puts(stated);
    }
}

static void print_downloads(const ap_fetch_leftover *downloads, size_t n)
{
    if (n)
        (void)puts("\nNot imported yet; 'aperto pull SOURCE' goes on, 'aperto rm SOURCE' removes what is there:");
    for (size_t i = 0; i < n; i++) {
        char date[32];
        format_date(downloads[i].touched, date);
        (void)printf("%s  %.1f of %.1f MB, touched %s\n", downloads[i].source, (double)downloads[i].bytes_there / 1e6,
                     (double)downloads[i].bytes / 1e6, date);
    }
}

static int print_all(const ap_store_entry *entries, size_t n, const ap_fetch_leftover *downloads, size_t download_count)
{
    if (!as_json) {
        if (n == 0)
            (void)puts("There are no models yet; 'aperto pull FILE.gguf' or 'aperto pull hf:ORG/REPO' adds one.");
        else
            print_list(entries, n);
        print_downloads(downloads, download_count);
        return cli_finish_output();
    }
    json_t *models = json_array(), *left = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(models, entry_json(&entries[i]));
    for (size_t i = 0; i < download_count; i++)
        json_array_append_new(left, json_pack("{s:s, s:I, s:I, s:I}", "source", downloads[i].source, "bytes_there",
                                              (json_int_t)downloads[i].bytes_there, "bytes", (json_int_t)downloads[i].bytes, "touched",
                                              (json_int_t)downloads[i].touched));
    return cli_print_json(json_pack("{s:o, s:o}", "models", models, "downloads", left));
}

static int run_list(unsigned count, char **operands)
{
    ap_error err = {0};
    ap_store *store;
    ap_store_entry *entries = NULL;
    ap_fetch_leftover *downloads = NULL;
    size_t n = 0, download_count = 0;
    char folder[AP_FETCH_PATH_ROOM];
    ap_status status = cli_open_store(&store, &err);
    if (status == AP_OK)
        status = ap_store_list(store, &entries, &n, &err);
    if (status == AP_OK) {
        ap_store_downloads_folder(store, folder, sizeof folder);
        status = ap_fetch_leftovers(folder, &downloads, &download_count, &err);
    }
    if (store)
        ap_store_close(&store);
    int code = status == AP_OK ? print_all(entries, n, downloads, download_count) : cli_failed(&err);
    ap_free(entries);
    ap_free(downloads);
    return code;
}

const cli_command cli_list = {
    .name = "list", .operands = "", .summary = "the models in the store",
    .description = "Lists the models in the store, by name, then what was packed of files given by path, with the name under which serve "
                   "offers them, and last the downloads that were not finished.",
    .options = json_options, .option_count = 1, .run = run_list,
};

/* ---- show ---- */

/* A file given by path, by the name that list shows, or by its path when the file is another one now or gone. */
static ap_status find_by_path_name(ap_store *store, const char *model, ap_store_entry *entry, ap_error *err)
{
    ap_store_entry *entries;
    size_t count, matches = 0;
    AP_TRY(ap_store_list(store, &entries, &count, err));
    for (size_t i = 0; i < count; i++) {
        const ap_store_entry *e = &entries[i];
        if (!e->is_cached || (strcmp(e->name, model) != 0 && strcmp(e->source, model) != 0))
            continue;
        *entry = *e;
        matches++;
    }
    ap_free(entries);
    if (matches > 1)
        return ap_fail(err, AP_E_ARG, "'%s' is the name of %zu files given by path; give the path", model, matches);
    return matches ? AP_OK : AP_E_NOTFOUND;
}

static json_t *history_json(const ap_store_entry *history, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *o = entry_json(&history[i]);
        if (o) {
            json_object_set_new(o, "replaced", json_integer(history[i].replaced));
            json_object_set_new(o, "undone", json_boolean(history[i].is_undone));
        }
        json_array_append_new(list, o);
    }
    return list;
}

static void print_history(const ap_store_entry *history, size_t n)
{
    char date[32];
    for (size_t i = 0; i < n; i++) {
        const ap_store_entry *e = &history[i];
        format_date(e->replaced, date);
        (void)printf("%-14s %.12s until %s, %.1f MB from %s%s%s%s%s\n", e->is_undone ? "undone" : "before", e->digest, date,
                     (double)e->packed_bytes / 1e6, e->source, e->revision[0] ? " at " : "", e->revision,
                     e->has_no_blob ? "; damaged" : "", e->law_version != AP_LAW_VERSION ? "; packed for another law" : "");
    }
}

static int run_show(unsigned count, char **operands)
{
    ap_error err = {0};
    ap_store *store;
    ap_store_entry entry, *history = NULL;
    size_t history_count = 0;
    ap_status status = cli_open_store(&store, &err);
    if (status == AP_OK)
        status = ap_store_find(store, operands[0], &entry, &err);
    if (status == AP_E_NOTFOUND)
        status = find_by_path_name(store, operands[0], &entry, &err);
    if (status == AP_E_NOTFOUND && ap_store_is_path(operands[0])) {
        int fd = -1; /* a file that was not packed yet */
        status = cli_open_model(operands[0], &entry, &fd, &err);
        entry.is_cached = true;
        if (fd >= 0)
            close(fd);
    }
    if (status == AP_OK && !entry.is_cached)
        status = ap_store_history(store, entry.name, &history, &history_count, &err);
    ap_passport passport;
    bool has_passport = status == AP_OK && ap_store_passport(store, entry.source_sha256, &passport, NULL) == AP_OK;
    if (store)
        ap_store_close(&store);
    if (status != AP_OK)
        return cli_failed(&err);
    if (as_json) {
        json_t *o = entry_json(&entry);
        if (o)
            json_object_set_new(o, "history", history_json(history, history_count));
        if (o)
            json_object_set_new(o, "passport", has_passport ? ap_passport_json(&passport) : json_null());
        ap_free(history);
        return cli_print_json(o);
    }
    print_entry(&entry);
    if (has_passport)
        cli_print_passport(&passport);
    print_history(history, history_count);
    ap_free(history);
    return cli_finish_output();
}

const cli_command cli_show = {
    .name = "show", .operands = "MODEL", .operands_min = 1, .operands_max = 1, .summary = "what is known of a model",
    .description = "Shows what is known of a model: where it came from, its licence, sizes and digests, and what the name meant before.",
    .options = show_options, .option_count = 2, .run = run_show,
};

/* ---- verify ---- */

static int run_verify(unsigned count, char **operands)
{
    ap_error err = {0};
    ap_store *store;
    ap_store_entry entry;
    int fd = -1;
    char title[] = "verifying";
    ap_status status = cli_open_store(&store, &err);
    if (status == AP_OK)
        status = ap_store_find(store, operands[0], &entry, &err);
    if (status == AP_OK)
        status = ap_store_open_blob(store, &entry, cli_progress, title, &fd, &err);
    if (fd >= 0)
        close(fd);
    if (store)
        ap_store_close(&store);
    if (status != AP_OK)
        return cli_failed(&err);
    if (as_json)
        return cli_print_json(json_pack("{s:s, s:s, s:b}", "name", entry.name, "digest", entry.digest, "intact", 1));
    (void)printf("%s is intact: its %.1f MB have the digest blake2b:%s\n", entry.name, (double)entry.packed_bytes / 1e6, entry.digest);
    return cli_finish_output();
}

const cli_command cli_verify = {
    .name = "verify", .operands = "MODEL", .operands_min = 1, .operands_max = 1, .summary = "compare a model's bytes with its digest",
    .description = "Reads the whole packed file and compares its digest with the manifest's.",
    .options = json_options, .option_count = 1, .run = run_verify,
};

/* ---- rm ---- */

/* A source that names no model is a download that was not finished. */
static ap_status remove_one(ap_store *store, const char *model, ap_error *err)
{
    char folder[AP_FETCH_PATH_ROOM];
    if (!ap_store_is_source(model) || ap_store_name_is_valid(model))
        return ap_store_remove(store, model, with_history, err);
    ap_store_downloads_folder(store, folder, sizeof folder);
    return ap_fetch_forget(folder, model, err);
}

static int run_rm(unsigned count, char **operands)
{
    ap_error err = {0};
    ap_store *store;
    size_t dropped = 0;
    if (with_history && only_history)
        return cli_error(CLI_MISUSE, "--with-history and --only-history exclude each other");
    if (!yes && cli_is_terminal(STDIN_FILENO) && cli_is_terminal(STDERR_FILENO)) {
        char answer[16] = "";
        (void)fprintf(stderr, "Remove %s '%s'%s? [y/N] ", only_history ? "the history of" : "the model", operands[0],
                      with_history ? " and all that it meant before" : "");
        if (!fgets(answer, sizeof answer, stdin) || (answer[0] != 'y' && answer[0] != 'Y'))
            return cli_error(CLI_FAILED, "nothing was removed");
    }
    ap_status status = cli_open_store(&store, &err);
    if (status == AP_OK)
        status = only_history ? ap_store_forget(store, operands[0], &dropped, &err)
                              : remove_one(store, operands[0], &err);
    if (store)
        ap_store_close(&store);
    return status == AP_OK ? CLI_DONE : cli_failed(&err);
}

const cli_command cli_rm = {
    .name = "rm", .operands = "MODEL", .operands_min = 1, .operands_max = 1, .summary = "remove a model",
    .description = "Removes a name from the store, and the model's bytes when no other name needs them. Of a GGUF file or a folder it removes what "
                   "was packed at its first use, not the source; of a source such as hf:ORG/REPO what was fetched and not imported. A name with a history is removed only together with it, and when that is "
                   "said. On a terminal it asks first.",
    .options = rm_options, .option_count = 3, .run = run_rm,
};

/* ---- tag, rollback ---- */

static int print_moved(const ap_store_entry *e)
{
    if (as_json)
        return cli_print_json(cli_moved_json(e));
    if (e->moved_from[0])
        (void)printf("%s means %.12s now; until now it meant %.12s, which stays in its history\n", e->name, e->digest, e->moved_from);
    else
        (void)printf("%s means %.12s\n", e->name, e->digest);
    return cli_finish_output();
}

static int run_tag(unsigned count, char **operands)
{
    ap_error err = {0};
    ap_store *store;
    ap_store_entry entry;
    if (ap_store_check_new_name(operands[1], &err) != AP_OK)
        return cli_error(CLI_MISUSE, "%s", err.message);
    ap_status status = cli_open_store(&store, &err);
    if (status == AP_OK)
        status = ap_store_tag(store, operands[0], operands[1], may_move, &entry, &err);
    if (store)
        ap_store_close(&store);
    return status == AP_OK ? print_moved(&entry) : cli_failed(&err);
}

const cli_command cli_tag = {
    .name = "tag", .operands = "MODEL NAME", .operands_min = 2, .operands_max = 2, .summary = "give a model a name",
    .description = "Makes NAME mean the model that MODEL means now: a name, the start of a digest, or a file that was packed. Nothing is copied: a name "
                   "points at a digest. A name that means another model keeps that meaning unless --move is given; then what it meant goes into "
                   "its history, which 'aperto show NAME' lists and 'aperto rollback NAME' goes back in.",
    .options = tag_options, .option_count = 2, .run = run_tag,
};

static int run_rollback(unsigned count, char **operands)
{
    ap_error err = {0};
    ap_store *store;
    ap_store_entry entry;
    ap_status status = cli_open_store(&store, &err);
    if (status == AP_OK)
        status = ap_store_rollback(store, operands[0], &entry, &err);
    if (store)
        ap_store_close(&store);
    return status == AP_OK ? print_moved(&entry) : cli_failed(&err);
}

const cli_command cli_rollback = {
    .name = "rollback", .operands = "NAME", .operands_min = 1, .operands_max = 1, .summary = "let a name mean what it meant before",
    .description = "Makes NAME mean again what it meant before, and what it meant before that when called again. What is left stays in the history as "
                   "undone; 'aperto tag DIGEST NAME --move' brings it back. A server that runs keeps the model that it opened.",
    .options = json_options, .option_count = 1, .run = run_rollback,
};
