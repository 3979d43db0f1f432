/* cli.h - the program `aperto`: commands as data, one file each.
 *
 * A command is a table of options and a function.  The parser, --help and the man pages
 * all read that table, so an option is described once.  Errors are one line on
 * standard error, "aperto: error: …", naming the option or file; the exit code is 0 (done), 1
 * (failed) or 2 (asked wrongly).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_CLI_H
#define AP_CLI_H

#include <jansson.h>
#include <stdio.h>

#include "aperto.h"
#include "base/str.h"
#include "fetch/fetch.h"
#include "store/passport.h"
#include "store/store.h"
#include "worker/worker.h"

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_MISUSE = 2 };

typedef enum cli_kind {
    CLI_FLAG,   /* bool */
    CLI_TEXT,   /* const char * */
    CLI_TEXTS,  /* cli_texts: the option may be given again */
    CLI_NUMBER, /* int64_t, low to high */
    CLI_REAL,   /* double, low to high */
    CLI_SIZE,   /* int64_t bytes: 512M, 4G */
    CLI_ISA,    /* const char *: a level this CPU has */
    CLI_KV,     /* ap_kv_type */
    CLI_SANDBOX, /* ap_sandbox_mode */
    CLI_REFUSED /* known, not in this release: named */
} cli_kind;

enum { CLI_TEXTS_MAX = 32 };
typedef struct cli_texts {
    const char *texts[CLI_TEXTS_MAX];
    size_t count;
} cli_texts;

typedef struct cli_option {
    const char *name;   /* "--temp" or "-n" */
    const char *value;  /* what stands for the value in help: "T"; NULL for a flag */
    cli_kind kind;
    void *out;          /* where the value goes; unset leaves what is there */
    double low, high;
    const char *help;
    bool above_low; /* CLI_REAL: low itself is not allowed */
} cli_option;

typedef struct cli_command {
    const char *name;
    const char *operands; /* "MODEL [PROMPT]" */
    unsigned operands_min, operands_max;
    const char *summary;     /* one line */
    const char *description; /* a paragraph for help and man page */
    const cli_option *options;
    size_t option_count;
    int (*run)(unsigned count, char **operands);
} cli_command;

extern const cli_command cli_bench, cli_convert, cli_imatrix, cli_list, cli_logits, cli_outdated, cli_perplexity, cli_pull, cli_push, cli_quantize, cli_render, cli_rm, cli_rollback, cli_run,
    cli_serve, cli_show, cli_tag, cli_tokenize, cli_verify, cli_version;

/* ---- Talking to people ---- */

/* "aperto: error: …" on standard error; gives back `code`. */
int cli_error(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for a failed call. */
int cli_failed(const ap_error *err);
/* Adds to a failure for want of memory which option to lower; gives back `status`. */
ap_status cli_hint_memory(ap_status status, const char *options, ap_error *err);
/* Prints JSON and a newline, takes the reference; CLI_FAILED when standard output cannot be written. */
int cli_print_json(json_t *value);
/* What was printed so far goes out; AP_E_IO if it cannot be written (a full disk, a closed pipe). */
ap_status cli_flush(ap_error *err);
/* The same at the end of a command: CLI_FAILED after the message. */
int cli_finish_output(void);
/* A progress bar on standard error, only on a terminal; the context is its title. */
void cli_progress(void *title, uint64_t done, uint64_t total);
/* The same with speed and time left, for downloads. */
void cli_progress_download(const char *title, uint64_t done, uint64_t total);
bool cli_is_terminal(int fd);

/* ---- Parsing ---- */

/* Parses options and operands; CLI_DONE, or the exit code after a message.  Operands are left in argv[0 … *count). */
int cli_parse(const cli_command *command, int argc, char **argv, unsigned *count, bool *wants_help);
void cli_print_help(const cli_command *command);
/* A troff man page on standard output. */
void cli_print_man(const cli_command *command);
/* The nearest of `names` to a mistyped or abbreviated word, or NULL. */
const char *cli_nearest(const char *word, const char *const *names, size_t count);
/* Ids out of "1,2,3" (commas, spaces, newlines), perhaps none; freed with ap_free. */
ap_status cli_read_ids(ap_str text, int32_t **ids, size_t *count, ap_error *err);
/* The same, at least one, of `text`, given as `option`, or if that is NULL of a file; CLI_DONE, or the exit code after a message. */
int cli_read_ids_of(const char *text, const char *option, const char *file, int32_t **ids, size_t *count);
/* The tokens of a text in chunks of `chunk_tokens`, each with the begin token where the vocabulary asks for one; at most
 * `chunks_max` (0: all).  Freed with ap_free. */
ap_status cli_make_chunks(const ap_vocab *vocab, ap_str text, uint32_t chunk_tokens, uint64_t chunks_max, int32_t **ids, size_t *count,
                          ap_error *err);
/* A whole file or pipe, or standard input for "-". */
ap_status cli_read_file(const char *file, size_t limit, ap_buf *out, ap_error *err);
/* AP_E_ARG unless it is valid UTF-8 (U+0000 is); says where it is not. */
ap_status cli_check_text(ap_str text, const char *what, ap_error *err);
/* The rows that several commands share. */
#define CLI_OPTION_JSON(out) {"--json", NULL, CLI_FLAG, out, .help = "Print JSON."}
#define CLI_OPTION_THREADS(out) \
    {"--threads", "N", CLI_NUMBER, out, 1, 256, "Threads; one per available CPU if not given."}
#define CLI_OPTION_ISA(out)                                                                                   \
    {"--isa", "NAME", CLI_ISA, out,                                                                           \
     .help = "CPU level; the best this CPU has if not given. 'aperto version' lists them. The results are the same."}
#define CLI_OPTION_KV(out) \
    {"--kv-type", "T", CLI_KV, out, .help = "Type of stored keys and values: f16 (default), f32, or q8 (8 bits, a scale for each 32)."}
/* Of the commands that run a text through a model. */
enum { CLI_TEXT_BYTES_MAX = 256 * 1024 * 1024, CLI_CHUNK_TOKENS = 512 };
#define CLI_OPTION_CHUNKS(tokens, chunks)                                                              \
    {"--ctx", "N", CLI_NUMBER, tokens, 16, 8192, "Tokens of a chunk, which is a text of its own; 512 if not given."}, \
    {"--chunks", "N", CLI_NUMBER, chunks, 1, 1000000, "Stop after N chunks; the whole text if not given."}
#define CLI_OPTION_SANDBOX                \
    {"--sandbox", "MODE", CLI_SANDBOX, &cli_sandbox, \
     .help = "full (default): fail where the kernel lacks a part of the sandbox; reduced: do without that part."}
extern ap_sandbox_mode cli_sandbox; /* of every worker this command starts */

/* ---- Models ---- */

/* What the chat template of an import does: one line, or lines below "chat template" of show; nothing if it is not known. */
void cli_print_chat(const ap_import_report *report, bool is_sentence);
json_t *cli_chat_json(const ap_import_report *report);

/* Opens the store below the data folder. */
ap_status cli_open_store(ap_store **store, ap_error *err);
/* A line on standard error about what goes on. */
void cli_note(void *context, const char *line);
/* What downloads need to know of a store; stop, has_it and context are the caller's. */
void cli_fetch_options(const ap_store *store, char folder[AP_FETCH_PATH_ROOM], ap_fetch_options *out);
/* The packed file of MODEL, with a progress bar while it is packed. */
ap_status cli_open_model(const char *model, ap_store_entry *entry, int *fd, ap_error *err);
/* The file that holds MODEL's vocabulary: a GGUF file is opened as it is, nothing is packed. */
ap_status cli_open_vocab(const char *model, int *fd, ap_error *err);
/* A LoRA adapter: a folder with adapter_config.json and adapter_model.safetensors, or a GGUF file.  A NULL path is none,
 * with an empty sha256.  Zero fields, or what was opened, may be closed. */
typedef struct cli_adapter {
    ap_adapter_files files;
    char sha256[AP_HASH_HEX]; /* of the file; of a folder, that of what sha256sum prints for the two */
} cli_adapter;
ap_status cli_open_adapter(const char *path, cli_adapter *out, ap_error *err);
void cli_close_adapter(cli_adapter *adapter);
#define CLI_OPTION_ADAPTER(out) \
    {"--adapter", "PATH", CLI_TEXT, out, .help = "A LoRA adapter made for MODEL: a PEFT folder or a GGUF file."}
/* Measures MODEL over a text file, and with `parent` (a MODEL as well, or NULL) how far it is from that. */
typedef struct cli_measuring {
    const char *model, *parent, *file;
    int64_t chunk_tokens, chunks_max, threads;
    const char *isa;
} cli_measuring;
/* With a parent the passport is filled and kept in the store. */
ap_status cli_measure(const cli_measuring *what, ap_measure *measure, ap_passport *passport, ap_error *err);
/* The lines of 'show' for a passport. */
void cli_print_passport(const ap_passport *passport);
/* Runs fn in a one-shot worker with these descriptors open for reading; what it writes goes to standard output.
 * The exit code, after the message if it failed. */
int cli_run_oneshot(ap_oneshot_fn *fn, void *context, const int *fds, size_t fd_count);
/* An entry after its name was changed: with what it meant until then, or null. */
json_t *cli_moved_json(const ap_store_entry *entry);
/* Text of a model: on a terminal without control characters, so that it cannot steer the terminal. */
void cli_put_text(const char *text, size_t length);
/* Opens a model's floats and its card: those at `operand`, or, if nothing lies there and the store has a model of that name, of the file or
 * folder which that was packed from, as long as it is there unchanged.  AP_E_NOTFOUND says why it is not, and what to do.
 * `path` is where they were found; on failure there is nothing to close. */
enum { CLI_PATH_ROOM = 4096 };
ap_status cli_open_source(const char *operand, ap_store_source *source, char path[CLI_PATH_ROOM], ap_error *err);
/* The notes of a report on a line of their own, if there are any. */
void cli_print_notes(const char *notes);
/* Says in a sentence when this CPU has nothing better than plain C. */
void cli_warn_plain(void);

#endif
