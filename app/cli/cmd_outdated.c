/* cmd_outdated.c - compares what was recorded of each model with its source now.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "cli/cli.h"

static bool as_json;

static const cli_option options[] = {CLI_OPTION_JSON(&as_json)};

/* What the source has now, to be compared with what was recorded: a digest of it, or what it calls its own state. */
typedef struct source_now {
    char sha256[AP_HASH_HEX];                 /* empty: not known */
    char revision[AP_STORE_REVISION_MAX + 1]; /* empty: not known */
} source_now;

typedef enum answer { CURRENT, OUTDATED, UNKNOWN, UNREACHABLE } answer;

static const char *const answer_names[] = {"current", "outdated", "unknown", "unreachable"};

typedef struct checked {
    const ap_store_entry *entry;
    answer answer;
    source_now now;
    bool was_undone; /* what the source has now is what a rollback left */
    char why[400];   /* UNREACHABLE, UNKNOWN */
    char command[2 * AP_STORE_PATH_MAX + AP_STORE_NAME_MAX]; /* OUTDATED: that updates; UNKNOWN: that tells */
} checked;

/* ---- Asking ---- */

static ap_status ask_source(ap_store *store, const char *source, source_now *now, ap_error *err)
{
    char title[] = "comparing", folder[AP_FETCH_PATH_ROOM];
    if (!ap_store_is_source(source))
        return ap_store_source_sha256(source, now->sha256, cli_progress, title, err);
    ap_fetch_options o;
    cli_fetch_options(store, folder, &o);
    o.note = NULL; /* of a pull */
    ap_fetch_state state;
    AP_TRY(ap_fetch_look(source, &o, &state, err));
    (void)snprintf(now->revision, sizeof now->revision, "%s", state.revision);
    return AP_OK;
}

static bool is_same(const ap_store_entry *entry, const source_now *now)
{
    return now->sha256[0] ? strcmp(now->sha256, entry->source_sha256) == 0 : ap_fetch_is_same(entry->revision, now->revision);
}

/* ---- Saying ---- */

/* A word for a shell. */
static void quote(const char *text, char *out, size_t room)
{
    bool is_plain = text[strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-/@+=,%")] == 0;
    size_t n = 0;
    if (!is_plain)
        out[n++] = '\'';
    for (const char *p = text; *p && n + 6 < room; p++) {
        if (*p == '\'') {
            memcpy(out + n, "'\\'", 3);
            n += 3;
        }
        out[n++] = *p;
    }
    if (!is_plain)
        out[n++] = '\'';
    out[n] = 0;
}

static void check_one(ap_store *store, const ap_store_entry *entry, checked *out)
{
    ap_error err = {0};
    char quoted[2 * AP_STORE_PATH_MAX];
    *out = (checked){.entry = entry};
    if (ask_source(store, entry->source, &out->now, &err) != AP_OK) {
        out->answer = UNREACHABLE;
        (void)snprintf(out->why, sizeof out->why, "%.399s", err.message);
        return;
    }
    if (is_same(entry, &out->now))
        return;
    bool is_known = out->now.sha256[0] || (out->now.revision[0] && entry->revision[0]);
    out->answer = is_known ? OUTDATED : UNKNOWN;
    if (!is_known)
        (void)snprintf(out->why, sizeof out->why, "cannot be compared (the server %s no digest and no date)", out->now.revision[0] ? "gave" : "gives");
    quote(entry->source, quoted, sizeof quoted);
    (void)snprintf(out->command, sizeof out->command, "aperto pull %s --as %s", quoted, entry->name);
    ap_store_entry *history;
    size_t count;
    if (!is_known || ap_store_history(store, entry->name, &history, &count, NULL) != AP_OK)
        return;
    for (size_t i = 0; i < count; i++)
        out->was_undone = out->was_undone || (history[i].is_undone && is_same(&history[i], &out->now));
    ap_free(history);
}

static json_t *checked_json(const checked *c)
{
    const ap_store_entry *e = c->entry;
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", e->name, "source", e->source, "state", answer_names[c->answer], "source_sha256",
                          e->source_sha256, "revision", e->revision);
    if (!o)
        return NULL;
    if (c->now.sha256[0])
        json_object_set_new(o, "source_sha256_now", json_string(c->now.sha256));
    if (c->now.revision[0])
        json_object_set_new(o, "revision_now", json_string(c->now.revision));
    if (c->answer == OUTDATED) {
        json_object_set_new(o, "update", json_string(c->command));
        json_object_set_new(o, "rolled_back", json_boolean(c->was_undone));
    }
    if (c->answer == UNKNOWN)
        json_object_set_new(o, "compare", json_string(c->command));
    if (c->answer == UNREACHABLE || c->answer == UNKNOWN)
        json_object_set_new(o, "message", json_string(c->why));
    return o;
}

static void print_checked(const checked *c)
{
    (void)printf("%-24s %-12s", c->entry->name, answer_names[c->answer]);
    if (c->answer == OUTDATED)
        (void)printf(" %s%s", c->command, c->was_undone ? "   (goes to what was rolled back)" : "");
    else if (c->answer == UNKNOWN)
        (void)printf(" %s; this fetches it and compares: %s", c->why, c->command);
    else if (c->answer == UNREACHABLE)
        (void)printf(" %s", c->why);
    (void)putchar('\n');
    (void)fflush(stdout); /* the next source may take its time */
}

/* ---- The command ---- */

/* The names that were given, or all in the store; what was given by path follows its source by itself. */
static ap_status list_names(ap_store *store, unsigned count, char **operands, ap_store_entry **entries, size_t *n, ap_error *err)
{
    *n = 0;
    if (count == 0) {
        size_t all;
        AP_TRY(ap_store_list(store, entries, &all, err));
        for (size_t i = 0; i < all; i++)
            if (!(*entries)[i].is_damaged && !(*entries)[i].is_cached)
                (*entries)[(*n)++] = (*entries)[i];
        return AP_OK;
    }
    *entries = ap_alloc_zero(count, sizeof **entries);
    if (!*entries)
        return ap_fail_nomem(err, count * sizeof **entries);
    for (; *n < count; ++*n) {
        AP_TRY(ap_store_find(store, operands[*n], &(*entries)[*n], err));
        if ((*entries)[*n].is_cached)
            return ap_fail(err, AP_E_ARG, "'%s' was given by path and has no name in the store: it is packed again when it changes", operands[*n]);
    }
    return AP_OK;
}

static int run_outdated(unsigned count, char **operands)
{
    ap_error err = {0};
    ap_store *store;
    ap_store_entry *entries = NULL;
    size_t n = 0, not_compared = 0;
    json_t *list = json_array();
    checked *c = ap_alloc(sizeof *c);
    ap_status status = c ? cli_open_store(&store, &err) : ap_fail_nomem(&err, sizeof *c);
    if (status == AP_OK) {
        status = list_names(store, count, operands, &entries, &n, &err);
        for (size_t i = 0; i < n && status == AP_OK; i++) {
            check_one(store, &entries[i], c);
            not_compared += c->answer == UNREACHABLE || c->answer == UNKNOWN;
            if (as_json)
                json_array_append_new(list, checked_json(c));
            else
                print_checked(c);
        }
        ap_store_close(&store);
    }
    ap_free(entries);
    ap_free(c);
    if (status != AP_OK) {
        json_decref(list);
        return cli_failed(&err);
    }
    int code = CLI_DONE;
    if (as_json)
        code = cli_print_json(json_pack("{s:o}", "models", list));
    else
        json_decref(list);
    if (code == CLI_DONE)
        code = cli_finish_output();
    if (code == CLI_DONE && not_compared)
        code = cli_error(CLI_FAILED, "of %zu sources %zu could not be compared", n, not_compared);
    return code;
}

const cli_command cli_outdated = {
    .name = "outdated", .operands = "[NAME...]", .operands_max = 32, .summary = "which models have a newer source",
    .description = "Compares what was recorded of each name (all of them if none is given) with its source now, and prints for each one whether it is "
                   "current, outdated, with the command that updates it, unknown, when its server gives neither digest, ETag nor date (pulling it again compares "
                   "the bytes), or why its source could not be asked. Nothing is fetched and nothing is "
                   "changed. The exit status is 0 when every source was compared, whatever the result, and 1 when one could not be.",
    .options = options, .option_count = 1, .run = run_outdated,
};
