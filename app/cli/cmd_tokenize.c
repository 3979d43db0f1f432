/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "cli/cli.h"

enum { INPUT_BYTES_MAX = 256 * 1024 * 1024 };

static bool no_bos, special, decode, as_json;
static const char *file;

static const cli_option options[] = {
    {"--file", "FILE", CLI_TEXT, &file, .help = "Read the text (or the ids) from FILE; - is standard input."},
    {"--no-bos", NULL, CLI_FLAG, &no_bos, .help = "Do not begin with the begin token, even if the vocabulary asks for it."},
    {"--special", NULL, CLI_FLAG, &special, .help = "Control tokens written in the text become control tokens."},
    {"--decode", NULL, CLI_FLAG, &decode, .help = "The other way: ids to text."},
    {"--json", NULL, CLI_FLAG, &as_json, .help = "Print {\"ids\": [...], \"pieces\": [...]}, or {\"text\": ...}."},
    CLI_OPTION_SANDBOX,
};

typedef struct job {
    int fd;
    ap_str input;
} job;

static ap_status write_ids(ap_oneshot *self, const ap_vocab *vocab, const ap_tokens *t, ap_error *err)
{
    ap_buf out = {0};
    ap_status status = AP_OK;
    json_t *ids = json_array(), *pieces = json_array();
    for (size_t i = 0; i < t->count && status == AP_OK; i++) {
        if (!as_json) {
            status = ap_buf_printf(&out, err, "%s%d", i ? " " : "", t->ids[i]);
            continue;
        }
        char *text;
        size_t length;
        status = ap_vocab_detokenize(vocab, &t->ids[i], 1, AP_DETOKENIZE_SPECIAL, &text, &length, err);
        if (status == AP_OK) {
            json_array_append_new(ids, json_integer(t->ids[i]));
            json_array_append_new(pieces, json_stringn(text, length));
            ap_release(text);
        }
    }
    json_t *root = json_pack("{s:o, s:o}", "ids", ids, "pieces", pieces);
    char *text = root && as_json ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (status == AP_OK && text)
        status = ap_buf_add(&out, text, strlen(text), err);
    free(text);
    if (status == AP_OK)
        status = ap_buf_add_char(&out, '\n', err);
    if (status == AP_OK)
        status = ap_oneshot_write(self, out.ptr, out.len, err);
    ap_buf_deinit(&out);
    return status;
}

static ap_status write_text(ap_oneshot *self, const ap_vocab *vocab, const int32_t *ids, size_t count, ap_error *err)
{
    char *text;
    size_t length;
    AP_TRY(ap_vocab_detokenize(vocab, ids, count, special ? AP_DETOKENIZE_SPECIAL : 0, &text, &length, err));
    ap_status status;
    if (as_json) {
        json_t *root = json_pack("{s:o}", "text", json_stringn(text, length));
        char *json = root ? json_dumps(root, JSON_COMPACT) : NULL;
        json_decref(root);
        status = json ? ap_oneshot_write(self, json, strlen(json), err) : ap_fail_nomem(err, length);
        free(json);
        if (status == AP_OK)
            status = ap_oneshot_write(self, "\n", 1, err);
    } else {
        status = ap_oneshot_write(self, text, length, err);
    }
    ap_release(text);
    return status;
}

/* In the one-shot worker. */
static ap_status work(ap_oneshot *self, void *context, ap_error *err)
{
    const job *j = context;
    ap_vocab *vocab;
    AP_TRY(ap_vocab_open(&vocab, j->fd, err));
    ap_status status;
    if (decode) {
        int32_t *ids;
        size_t count;
        status = cli_read_ids(j->input, &ids, &count, err);
        if (status == AP_OK)
            status = write_text(self, vocab, ids, count, err);
        ap_free(ids);
    } else {
        ap_tokens tokens;
        unsigned flags = (special ? AP_TOKENIZE_SPECIAL : 0) | (no_bos ? 0 : AP_TOKENIZE_BOS);
        status = ap_vocab_tokenize(vocab, j->input.ptr, j->input.len, flags, &tokens, err);
        if (status == AP_OK)
            status = write_ids(self, vocab, &tokens, err);
        ap_release(tokens.ids);
    }
    ap_vocab_close(&vocab);
    return status;
}

static int run(unsigned count, char **operands)
{
    ap_error err = {0};
    ap_buf input = {0};
    if (count == 2 && file)
        return cli_error(CLI_MISUSE, "give either TEXT or --file, not both");
    ap_status status = count == 2 ? ap_buf_add(&input, operands[1], strlen(operands[1]), &err)
                                  : cli_read_file(file ? file : "-", INPUT_BYTES_MAX, &input, &err);
    job j = {.fd = -1};
    if (status == AP_OK && decode) {
        int32_t *ids; /* looked at here, read in the worker */
        size_t id_count;
        ap_status known = cli_read_ids(ap_buf_str(&input), &ids, &id_count, &err);
        ap_free(ids);
        if (known == AP_E_ARG) {
            ap_buf_deinit(&input);
            return cli_error(count == 2 ? CLI_MISUSE : CLI_FAILED, "%s", err.message);
        }
        status = known;
    }
    if (status == AP_OK && !decode && cli_check_text(ap_buf_str(&input), "the text", &err) != AP_OK) {
        ap_buf_deinit(&input);
        return cli_error(CLI_MISUSE, "%s", err.message);
    }
    if (status == AP_OK)
        status = cli_open_vocab(operands[0], &j.fd, &err);
    j.input = (ap_str){input.ptr ? input.ptr : "", input.len};
    int code = status == AP_OK ? cli_run_oneshot(work, &j, &j.fd, 1) : cli_failed(&err);
    if (code == CLI_DONE && decode && !as_json && cli_is_terminal(STDOUT_FILENO))
        (void)putchar('\n');
    if (j.fd >= 0)
        close(j.fd);
    ap_buf_deinit(&input);
    return code;
}

const cli_command cli_tokenize = {
    .name = "tokenize",
    .operands = "MODEL [TEXT]",
    .operands_min = 1,
    .operands_max = 2,
    .summary = "text to token ids, and back",
    .description = "Prints the token ids of TEXT (or of standard input, or of --file). MODEL is a name in the store, a GGUF "
                   "file, which may hold a vocabulary only, a tokenizer.json, a tokenizer.model, a tekken.json, a tiktoken "
                   "file of Llama 3, Qwen or OpenAI, or BERT's vocab.txt.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
