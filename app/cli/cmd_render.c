/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli.h"

static const char *context_file;
static bool as_json;

static const cli_option options[] = {
    {"--context", "FILE", CLI_TEXT, &context_file,
     .help = "JSON: {\"messages\": [...], \"tools\": [...], \"add_generation_prompt\": true, \"kwargs\": {...}}; - is standard input."},
    {"--json", NULL, CLI_FLAG, &as_json, .help = "Print {\"text\": ..., \"ids\": [...]}."},
    CLI_OPTION_SANDBOX,
};

typedef struct job {
    int fd;
    ap_str json;
} job;

static ap_status work(ap_oneshot *self, void *context, ap_error *err)
{
    const job *j = context;
    ap_vocab *vocab;
    AP_TRY(ap_vocab_open(&vocab, j->fd, err));
    char *text = NULL;
    size_t length = 0;
    ap_tokens tokens = {0};
    ap_status status = ap_vocab_render(vocab, j->json.ptr, j->json.len, ap_clock_wall(), &text, &length, as_json ? &tokens : NULL, err);
    if (status == AP_OK && as_json) {
        json_t *ids = json_array();
        for (size_t i = 0; i < tokens.count; i++)
            json_array_append_new(ids, json_integer(tokens.ids[i]));
        json_t *root = json_pack("{s:o, s:o}", "text", json_stringn(text, length), "ids", ids);
        char *out = root ? json_dumps(root, JSON_COMPACT) : NULL;
        json_decref(root);
        status = out ? ap_oneshot_write(self, out, strlen(out), err) : ap_fail(err, AP_E_TEMPLATE, "the text is not UTF-8");
        if (status == AP_OK)
            status = ap_oneshot_write(self, "\n", 1, err);
        free(out);
    } else if (status == AP_OK) {
        status = ap_oneshot_write(self, text, length, err);
    }
    ap_release(text);
    ap_release(tokens.ids);
    ap_vocab_close(&vocab);
    return status;
}

static int run(unsigned count, char **operands)
{
    ap_error err = {0};
    ap_buf input = {0};
    enum { CONTEXT_BYTES_MAX = 64 * 1024 * 1024 };
    if (!context_file)
        return cli_error(CLI_MISUSE, "render needs --context FILE");
    ap_status status = cli_read_file(context_file, CONTEXT_BYTES_MAX, &input, &err);
    job j = {.fd = -1};
    if (status == AP_OK)
        status = cli_open_vocab(operands[0], &j.fd, &err);
    j.json = ap_buf_str(&input);
    int code = status == AP_OK ? cli_run_oneshot(work, &j, &j.fd, 1) : cli_failed(&err);
    if (j.fd >= 0)
        close(j.fd);
    ap_buf_deinit(&input);
    return code;
}

const cli_command cli_render = {
    .name = "render",
    .operands = "MODEL",
    .operands_min = 1,
    .operands_max = 1,
    .summary = "a chat template's output, byte for byte",
    .description = "Renders the model's chat template over the messages of a JSON file and prints the text the model would read.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
