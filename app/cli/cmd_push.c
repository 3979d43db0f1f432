/* cmd_push.c - brings a model to an OCI registry.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>
#include <unistd.h>

#include "cli/cli.h"

static bool as_json;

static const cli_option options[] = {CLI_OPTION_JSON(&as_json), CLI_OPTION_SANDBOX};

/* What the specification of ModelPack wants to be told; nothing that changes from one push to the next. */
static char *make_config(const ap_store_entry *e, const ap_fetch_push *p)
{
    const ap_import_report *r = &e->report;
    char digest[80], size[32];
    (void)snprintf(digest, sizeof digest, "sha256:%s", p->sha256);
    if (r->parameter_count >= 1000000000)
        (void)snprintf(size, sizeof size, "%.1fb", (double)r->parameter_count / 1e9);
    else
        (void)snprintf(size, sizeof size, "%.0fm", (double)r->parameter_count / 1e6);
    json_t *descriptor = json_pack("{s:s, s:s}", "family", r->architecture, "name", r->name[0] ? r->name : e->name);
    if (descriptor && r->license[0])
        json_object_set_new(descriptor, "licenses", json_pack("[s]", r->license));
    json_t *config = json_pack("{s:o, s:{s:s, s:[s]}, s:{s:s, s:s, s:s, s:s}}", "descriptor", descriptor, "modelfs", "type", "layers",
                               "diffIds", digest, "config", "architecture", "transformer", "format", p->is_packed ? "aperto" : "gguf",
                               "paramSize", size, "quantization", r->quantization);
    char *text = config ? json_dumps(config, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(config);
    return text;
}

/* The file that is pushed: a GGUF file that was given by path as it is, everything else in its packed form. */
static ap_status choose_file(const char *model, const ap_store_entry *e, int packed_fd, ap_fetch_push *p, char sha256[AP_HASH_HEX], ap_error *err)
{
    static char title[] = "hashing";
    ap_file_stamp stamp;
    p->sha256 = sha256;
    p->is_packed = true;
    if (ap_store_is_path(model) && ap_file_open(model, &p->fd, NULL) == AP_OK) {
        AP_TRY(ap_hash_file(p->fd, AP_HASH_SHA256, sha256, cli_progress, title, err));
        /* Else it is one part of several, or packed. */
        p->is_packed = strcmp(sha256, e->source_sha256) != 0 || e->report.source_bytes == e->packed_bytes;
    }
    if (p->is_packed) {
        if (p->fd >= 0)
            close(p->fd);
        p->fd = packed_fd;
        AP_TRY(ap_hash_file(p->fd, AP_HASH_SHA256, sha256, cli_progress, title, err));
    }
    AP_TRY(ap_file_stamp_of(p->fd, &stamp, err));
    p->bytes = stamp.bytes;
    return AP_OK;
}

static ap_status push_file(const char *target, const ap_store_entry *e, ap_fetch_push *p, ap_fetch_state *now, ap_error *err)
{
    static char title[] = "pushing";
    char name[AP_STORE_NAME_MAX + 8];
    char *config = make_config(e, p);
    if (!config)
        return ap_fail(err, AP_E_NOMEM, "out of memory");
    (void)snprintf(name, sizeof name, "%s.%s", e->name, p->is_packed ? "aperto" : "gguf");
    p->config = config;
    p->file_name = name;
    p->progress = cli_progress;
    p->note = cli_note;
    p->context = title;
    ap_status status = ap_fetch_push_model(target, p, now, err);
    free(config);
    return status;
}

static int run_push(unsigned count, char **operands)
{
    ap_error err = {0};
    ap_store_entry entry;
    ap_fetch_push p = {.fd = -1};
    ap_fetch_state now;
    char sha256[AP_HASH_HEX];
    int packed_fd = -1;
    if (ap_fetch_check_target(operands[1], &err) != AP_OK)
        return cli_error(CLI_MISUSE, "%s", err.message);
    ap_status status = cli_open_model(operands[0], &entry, &packed_fd, &err);
    if (status == AP_OK)
        status = choose_file(operands[0], &entry, packed_fd, &p, sha256, &err);
    if (status == AP_OK)
        status = push_file(operands[1], &entry, &p, &now, &err);
    if (p.fd >= 0 && p.fd != packed_fd)
        close(p.fd);
    if (packed_fd >= 0)
        close(packed_fd);
    if (status != AP_OK)
        return cli_failed(&err);
    if (as_json)
        return cli_print_json(json_pack("{s:s, s:s, s:s+, s:I, s:b}", "reference", now.source, "digest", now.revision, "layer", "sha256:", sha256,
                                        "bytes", (json_int_t)p.bytes, "packed", (int)p.is_packed));
    (void)printf("%s is %s now, %.1f MB %s\nThis state alone: aperto pull %s@%s\n", now.source, entry.name, (double)p.bytes / 1e6,
                 p.is_packed ? "in packed form" : "as a GGUF file", now.source, now.revision);
    return cli_finish_output();
}

const cli_command cli_push = {
    .name = "push", .operands = "MODEL oci://HOST/REPOSITORY:TAG", .operands_min = 2, .operands_max = 2, .summary = "bring a model to an OCI registry",
    .description = "Pushes a model as an OCI artifact after the CNCF ModelPack specification. A GGUF file given by its path is pushed as it is, for "
                   "every program that reads such; a name in the store or a folder in its packed form, which only aperto reads and checks again "
                   "when it is pulled. Credentials are those of docker login (\"auths\" in ~/.docker/config.json or $DOCKER_CONFIG/config.json). "
                   "Only https; plain http to this machine itself.",
    .options = options, .option_count = 2, .run = run_push,
};
