/* SPDX-License-Identifier: Apache-2.0 */
#include <unistd.h>

#include "cli/cli.h"
#include "serve/hosts.h"
#include "serve/serve.h"

static const char *host = "127.0.0.1", *isa, *adapter_path;
static cli_texts allowed_hosts;
static ap_kv_type kv_type;
static int64_t port = 8080, threads, memory, context_tokens, drain = 30;

static const cli_option options[] = {
    {"--host", "ADDRESS", CLI_TEXT, &host, .help = "Address to listen on (127.0.0.1)."},
    {"--port", "N", CLI_NUMBER, &port, 0, 65535, "Port (8080); 0 takes any that is free."},
    {"--allow-host", "NAME", CLI_TEXTS, &allowed_hosts,
     .help = "A name that requests may use for this server, beside the loopback names and --host; may be given again."},
    CLI_OPTION_THREADS(&threads),
    {"--memory", "SIZE", CLI_SIZE, &memory, .help = "Memory for keys and values of each model, such as 2G; four contexts, at most 1G, if not given."},
    {"--ctx", "N", CLI_NUMBER, &context_tokens, 16, 1 << 24, "Context of one request in tokens; what the model declares, at most 8192, if not given."},
    CLI_OPTION_KV(&kv_type),
    CLI_OPTION_ADAPTER(&adapter_path),
    CLI_OPTION_ISA(&isa),
    {"--drain", "S", CLI_NUMBER, &drain, 0, 3600, "Seconds that running requests have after the first SIGTERM or Ctrl-C (30)."},
    CLI_OPTION_SANDBOX,
    {"--config", "FILE", CLI_REFUSED, NULL, .help = ""},
};

static ap_status print_address(void *context, const char *address, uint16_t at, ap_error *err)
{
    const char *model = context;
    char bracketed[300];
    if (strchr(address, ':')) { /* IPv6 in an URL */
        (void)snprintf(bracketed, sizeof bracketed, "[%.290s]", address);
        address = bracketed;
    }
    if (strncmp(address, "127.", 4) != 0 && strcmp(address, "[::1]") != 0 && strcmp(address, "localhost") != 0)
        (void)fprintf(stderr, "aperto: note: whoever reaches %s may use the model; there are no keys in this release. Another "
                              "machine reaches it by its IP address, or by a name given with --allow-host\n", address);
    (void)printf("Aperto serves %s on http://%s:%u\n\n"
                 "  curl http://%s:%u/v1/chat/completions -H 'Content-Type: application/json' \\\n"
                 "    -d '{\"model\": \"%s\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello!\"}]}'\n\n"
                 "  from openai import OpenAI\n"
                 "  client = OpenAI(base_url=\"http://%s:%u/v1\", api_key=\"none\")\n"
                 "  answer = client.chat.completions.create(model=\"%s\", messages=[{\"role\": \"user\", \"content\": \"Hello!\"}])\n"
                 "  print(answer.choices[0].message.content)\n\n"
                 "The page to chat on is at the address above; Ctrl-C stops the server.\n",
                 model, address, at, address, at, model, address, at, model);
    return cli_flush(err);
}

typedef struct served {
    const char *operand;
    ap_store_entry entry;
} served;

/* The store's file of a model again, if the model is still the one that is served. */
static ap_status reopen(void *context, int *fd, ap_error *err)
{
    const served *s = context;
    ap_store *store;
    ap_store_entry now;
    AP_TRY(cli_open_store(&store, err));
    ap_status status = ap_store_find(store, s->operand, &now, err);
    /* The name may mean another model now: whoever asks this server still gets the one it said it serves. */
    if (status == AP_OK && strcmp(now.digest, s->entry.digest) != 0 && ap_store_find(store, s->entry.digest, &now, NULL) != AP_OK)
        status = ap_fail(err, AP_E_INTEGRITY, "'%s' is another model now (%.12s, served was %.12s); start the server again to "
                         "serve it", s->operand, now.digest, s->entry.digest);
    if (status == AP_OK)
        status = ap_store_open_blob(store, &now, NULL, NULL, fd, err);
    ap_store_close(&store);
    return status;
}

static int run(unsigned count, char **operands)
{
    ap_error err = {0};
    ap_serve_options o = ap_serve_options_default();
    served all[AP_SERVE_MODELS_MAX];
    ap_served_model models[AP_SERVE_MODELS_MAX];
    cli_adapter adapter;
    unsigned opened = 0;
    if (adapter_path && count > 1)
        return cli_error(CLI_MISUSE, "option --adapter is for one MODEL, and %u are given", count);
    for (size_t i = 0; i < allowed_hosts.count; i++)
        if (!ap_host_is_possible(allowed_hosts.texts[i]))
            return cli_error(CLI_MISUSE, "option --allow-host is '%.255s'; a name or an address without port is needed",
                             allowed_hosts.texts[i]);
    ap_status status = cli_open_adapter(adapter_path, &adapter, &err);
    for (; opened < count && status == AP_OK; opened++) {
        all[opened].operand = operands[opened];
        ap_store_entry *e = &all[opened].entry;
        int fd = -1;
        status = cli_open_model(operands[opened], e, &fd, &err);
        models[opened] = (ap_served_model){.name = e->name, .packed_fd = fd, .digest = e->digest, .created = e->created,
                                            .adapter = adapter.files, .adapter_sha256 = adapter_path ? adapter.sha256 : NULL,
                                            .reopen = reopen, .reopen_context = &all[opened]};
        for (unsigned i = 0; i < opened && status == AP_OK; i++)
            if (strcmp(models[i].name, e->name) == 0)
                status = ap_fail(&err, AP_E_ARG, "two models have the name '%s'", e->name);
    }
    if (status == AP_OK) {
        cli_warn_plain();
        o.host = host;
        o.port = (uint16_t)port;
        o.allowed_hosts = allowed_hosts.texts;
        o.allowed_host_count = allowed_hosts.count;
        o.models = models;
        o.model_count = count;
        o.threads = (unsigned)threads;
        o.memory_bytes = (uint64_t)memory;
        o.context_tokens = (uint32_t)context_tokens;
        o.isa = isa;
        o.kv_type = kv_type;
        o.sandbox = cli_sandbox;
        o.drain_s = (unsigned)drain;
        o.listening = print_address;
        o.listening_context = all[0].entry.name;
        status = cli_hint_memory(ap_serve_run(&o, &err), memory ? "--memory" : "--ctx", &err);
    }
    for (unsigned i = 0; i < opened; i++)
        if (models[i].packed_fd >= 0)
            close(models[i].packed_fd);
    cli_close_adapter(&adapter);
    return status == AP_OK ? CLI_DONE : cli_failed(&err);
}

const cli_command cli_serve = {
    .name = "serve",
    .operands = "MODEL...",
    .operands_min = 1,
    .operands_max = AP_SERVE_MODELS_MAX,
    .summary = "an OpenAI-compatible server, and a page to chat on",
    .description = "Serves one or more models over HTTP: /v1/chat/completions, /v1/completions, /v1/models, /healthz, /readyz, and a page to chat "
                   "on at /. The first SIGTERM or Ctrl-C lets running requests finish, the second stops at once. "
                   "A request has a header that arrives within 30 seconds and a body of at most 32 MiB that arrives within 120; a client that takes "
                   "nothing of its answer for 30 seconds is left.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
