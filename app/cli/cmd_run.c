/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "cli/cli.h"
#include "cli/editor.h"
#include "serve/answer_calls.h"
#include "serve/openai_chat.h"

enum {
    INPUT_BYTES_MAX = 64 * 1024 * 1024,
    TOOLS_BYTES_MAX = 8 * 1024 * 1024,
    TOOLS_VALUES_MAX = 1 << 18,
    READY_MS = 120000,
    DEATHS_MAX = 3
};

static const char *system_text, *isa, *adapter_path, *tools_path;
static ap_kv_type kv_type;
static int64_t answer_tokens, top_k, seed = -1, context_tokens, threads;
static double temperature = 0.7, top_p = 0.95, min_p;
static bool raw, as_json, hides_thinking;

static const cli_option options[] = {
    {"--system", "S", CLI_TEXT, &system_text, .help = "System message."},
    {"-n", "N", CLI_NUMBER, &answer_tokens, 1, 1 << 24, "At most N tokens per answer; until the model ends if not given."},
    {"--temp", "T", CLI_REAL, &temperature, 0, 100, "Temperature (0.7); 0 takes the likeliest token always."},
    {"--top-k", "K", CLI_NUMBER, &top_k, 0, 1 << 20, "Draw among the K likeliest tokens only; 0, the default, among all."},
    {"--top-p", "P", CLI_REAL, &top_p, 0, 1, "Draw among the likeliest tokens whose shares reach P (0.95); 1 is off.",
     .above_low = true},
    {"--min-p", "P", CLI_REAL, &min_p, 0, 1, "Leave out tokens less than P times as likely as the likeliest (0, off)."},
    {"--seed", "S", CLI_NUMBER, &seed, 0, 0x1p63, "Same seed, same answer; drawn (and shown by --json) if not given."},
    {"--ctx", "N", CLI_NUMBER, &context_tokens, 16, 1 << 24, "Context in tokens: prompt and answer together; what the model declares, at most 8192, if not given."},
    CLI_OPTION_THREADS(&threads),
    {"--raw", NULL, CLI_FLAG, &raw, .help = "Continue the text as it stands, without the chat template."},
    {"--hide-thinking", NULL, CLI_FLAG, &hides_thinking, .help = "Show the answer only, not what the model thinks before it."},
    CLI_OPTION_KV(&kv_type),
    CLI_OPTION_ISA(&isa),
    {"--json", NULL, CLI_FLAG, &as_json,
     .help = "Print the answer as JSON: text, reasoning, tool_calls, counts and the seed."},
    {"--tools", "FILE", CLI_TEXT, &tools_path,
     .help = "Offer the model the tools of a JSON file, an array as in OpenAI's interface; its calls are in the JSON printed "
             "by --json."},
    CLI_OPTION_SANDBOX,
    {"--json-schema", "FILE", CLI_REFUSED, NULL, .help = ""},
    {"--grammar", "FILE", CLI_REFUSED, NULL, .help = ""},
    CLI_OPTION_ADAPTER(&adapter_path),
};

static volatile sig_atomic_t interrupted;
static void on_interrupt(int signal_number) { interrupted = 1; }

/* ---- One answer ---- */

typedef struct answer {
    ap_buf text, reasoning;
    ap_answer_calls calls;
    bool is_over, is_streamed;
    bool is_thinking; /* the terminal shows reasoning */
    ap_status status;
    char message[480];
    ap_finish finish;
    uint32_t prompt_count, answer_count;
    double prompt_ms, answer_ms;
} answer;

static void answer_deinit(answer *a)
{
    ap_buf_deinit(&a->text);
    ap_buf_deinit(&a->reasoning);
    ap_answer_calls_deinit(&a->calls);
}

static bool is_dim(void)
{
    const char *terminal = getenv("TERM");
    return !getenv("NO_COLOR") && terminal && strcmp(terminal, "dumb") != 0;
}

static void end_thinking(answer *a)
{
    if (a->is_thinking)
        (void)fputs(is_dim() ? "\033[0m\n\n" : "\n\n", stdout);
    a->is_thinking = false;
}

/* Reasoning is for people who watch: what a pipe or a file gets is the answer alone. */
static void show(answer *a, const ap_worker_event *e)
{
    if (e->reasoning_length && !hides_thinking && cli_is_terminal(STDOUT_FILENO)) {
        if (!a->is_thinking) {
            if (a->text.len)
                (void)putchar('\n');
            (void)fputs(is_dim() ? "\033[2mThinking: " : "Thinking: ", stdout);
        }
        a->is_thinking = true;
        cli_put_text(e->reasoning, e->reasoning_length);
    }
    if (e->text_length) {
        end_thinking(a);
        cli_put_text(e->text, e->text_length);
    }
    if (e->kind == AP_WORKER_DONE)
        end_thinking(a);
    (void)fflush(stdout);
}

static ap_status keep(answer *a, const ap_worker_event *e)
{
    AP_TRY(ap_buf_add(&a->text, e->text, e->text_length, NULL));
    AP_TRY(ap_buf_add(&a->reasoning, e->reasoning, e->reasoning_length, NULL));
    return ap_answer_calls_take(&a->calls, e->calls, AP_ANSWER_CALLS_MAX, NULL);
}

static void take_event(void *context, const ap_worker_event *e)
{
    answer *a = context;
    switch (e->kind) {
    case AP_WORKER_TEXT:
    case AP_WORKER_DONE:
        if (a->is_streamed)
            show(a, e);
        if (a->status == AP_OK)
            a->status = keep(a, e);
        if (e->kind == AP_WORKER_TEXT)
            return;
        a->is_over = true;
        a->finish = e->finish;
        a->prompt_count = e->prompt_tokens;
        a->answer_count = e->completion_tokens;
        a->prompt_ms = e->prompt_ms;
        a->answer_ms = e->completion_ms;
        return;
    case AP_WORKER_ERROR:
        a->is_over = true;
        a->status = e->status;
        (void)snprintf(a->message, sizeof a->message, "%s", e->message);
        return;
    default:
        return;
    }
}

static json_t *tools; /* of --tools, or NULL */

static json_t *job_json(json_t *messages, ap_str prompt, uint64_t draw_seed)
{
    json_t *job = json_pack("{s:f, s:f, s:f, s:I, s:I}", "temperature", temperature, "top_p", top_p, "min_p", min_p, "top_k",
                            (json_int_t)top_k, "seed", (json_int_t)draw_seed);
    if (!job)
        return NULL;
    if (answer_tokens)
        json_object_set_new(job, "max_tokens", json_integer(answer_tokens));
    if (messages) {
        json_object_set_new(job, "kind", json_string("chat"));
        json_object_set(job, "messages", messages);
        if (tools)
            json_object_set(job, "tools", tools);
        json_object_set_new(job, "now", json_integer(ap_clock_wall()));
    } else {
        json_object_set_new(job, "kind", json_string("completion"));
        json_object_set_new(job, "prompt", json_stringn(prompt.ptr, prompt.len));
    }
    return job;
}

/* Waits for the worker or for Ctrl-C, which is blocked all the time but here so that none is missed. */
static ap_status wait_for(ap_worker *worker, const sigset_t *without_block, ap_error *err)
{
    struct pollfd p = {.fd = ap_worker_fd(worker), .events = ap_worker_poll_events(worker)};
    if (ppoll(&p, 1, NULL, without_block) < 0 && errno != EINTR)
        return ap_fail(err, AP_E_IO, "waiting failed: %s", strerror(errno));
    return AP_OK;
}

/* Sends the job and hears the worker to the end; Ctrl-C cancels the answer. */
static ap_status hear_out(ap_worker *worker, const char *job, const sigset_t *without_block, answer *a, ap_error *err)
{
    static uint64_t id;
    bool is_cancelled = false;
    AP_TRY(ap_worker_send(worker, ++id, job, strlen(job), err));
    while (!a->is_over) {
        AP_TRY(wait_for(worker, without_block, err));
        if (!is_cancelled && (interrupted || (ferror(stdout) && a->is_streamed))) { /* or nobody reads any more */
            is_cancelled = true;
            (void)ap_worker_cancel(worker, id);
        }
        AP_TRY(ap_worker_receive(worker, take_event, a, err));
    }
    if (a->status != AP_OK)
        return ap_fail(err, a->status, "%s", a->message[0] ? a->message : ap_status_text(a->status));
    return AP_OK;
}

static ap_status ask(ap_worker *worker, json_t *messages, ap_str prompt, uint64_t draw_seed, answer *a, ap_error *err)
{
    sigset_t block, before;
    json_t *job = job_json(messages, prompt, draw_seed);
    char *text = job ? json_dumps(job, JSON_COMPACT) : NULL;
    json_decref(job);
    if (!text)
        return ap_fail(err, AP_E_ARG, "the text is not valid UTF-8");
    (void)sigemptyset(&block);
    (void)sigaddset(&block, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &block, &before);
    ap_status status = hear_out(worker, text, &before, a, err);
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    free(text);
    return status;
}

static void print_statistics(const answer *a)
{
    if (!cli_is_terminal(STDERR_FILENO) || as_json)
        return;
    char rate[32] = "";
    if (a->answer_count > 1 && a->answer_ms >= 1) /* less time says nothing of the speed */
        (void)snprintf(rate, sizeof rate, " at %.1f per second", 1000.0 * a->answer_count / a->answer_ms);
    (void)fprintf(stderr, "(%u prompt token%s in %.2f s, %u token%s%s%s)\n", a->prompt_count, a->prompt_count == 1 ? "" : "s",
                  a->prompt_ms / 1000, a->answer_count, a->answer_count == 1 ? "" : "s", rate,
                  a->finish == AP_FINISH_CANCELLED ? ", stopped" : a->finish == AP_FINISH_LENGTH ? ", cut at the limit" : "");
}

static uint64_t choose_seed(void)
{
    uint64_t drawn;
    if (seed >= 0)
        return (uint64_t)seed;
    if (getrandom(&drawn, sizeof drawn, 0) != (ssize_t)sizeof drawn)
        drawn = ap_clock_ns();
    return drawn & 0x1fffffffffffffu; /* exact as a JSON number */
}

static json_t *message(const char *role, const char *content, size_t length)
{
    return json_pack("{s:s, s:o}", "role", role, "content", json_stringn(content, length));
}

/* The worker, and what is needed to start another one. */
typedef struct session {
    const char *model;
    ap_store_entry entry;
    char adapter_sha256[AP_HASH_HEX]; /* of the first start; empty: no adapter */
    ap_worker *worker;
    unsigned deaths; /* since the last answer */
} session;

/* ---- One prompt ---- */

static json_t *text_json(const ap_buf *text) { return json_stringn(text->ptr ? text->ptr : "", text->len); }

static int print_answer_json(const answer *a, uint64_t draw_seed, const char *adapter_sha256)
{
    static const char *const reasons[] = {"stop", "length", "cancelled"};
    ap_buf calls = {0};
    ap_status status = ap_answer_calls_write(&a->calls, &calls, NULL);
    bool is_call = a->calls.count && a->finish == AP_FINISH_STOP;
    int code = cli_print_json(json_pack(
        "{s:o, s:o, s:o, s:s, s:i, s:i, s:I, s:f, s:f, s:s*}", "text", text_json(&a->text), "reasoning",
        a->reasoning.len ? text_json(&a->reasoning) : json_null(), "tool_calls",
        status == AP_OK ? json_loadb(calls.ptr, calls.len, JSON_ALLOW_NUL, NULL) : NULL, "finish_reason",
        is_call ? "tool_calls" : reasons[a->finish], "prompt_tokens", (int)a->prompt_count, "completion_tokens",
        (int)a->answer_count, "seed", (json_int_t)draw_seed, "prompt_ms", a->prompt_ms, "completion_ms", a->answer_ms,
        "adapter_sha256", adapter_sha256[0] ? adapter_sha256 : NULL));
    ap_buf_deinit(&calls);
    return code;
}

static int answer_once(const session *s, ap_str prompt)
{
    ap_error err = {0};
    uint64_t draw_seed = choose_seed();
    answer a = {.is_streamed = !as_json};
    json_t *messages = NULL;
    if (!raw) {
        messages = json_array();
        if (system_text)
            json_array_append_new(messages, message("system", system_text, strlen(system_text)));
        json_array_append_new(messages, message("user", prompt.ptr, prompt.len));
    }
    ap_status status = ask(s->worker, messages, prompt, draw_seed, &a, &err);
    json_decref(messages);
    int code;
    if (status != AP_OK) {
        code = cli_failed(&err);
    } else if (as_json) {
        code = print_answer_json(&a, draw_seed, s->adapter_sha256);
    } else {
        (void)putchar('\n');
        code = cli_finish_output();
        print_statistics(&a);
        if (a.finish == AP_FINISH_LENGTH && !a.text.len && a.reasoning.len)
            cli_note(NULL, "The model was still thinking when its answer was cut.");
    }
    answer_deinit(&a);
    return code;
}

/* ---- A conversation ---- */

static void print_chat_help(void)
{
    (void)puts("/clear         begin a new conversation\n/system TEXT   set the system message and begin anew\n/quit          leave (as Ctrl-D does)\n"
               "Ctrl-C stops an answer. A backslash at the end of a line continues it on the next; what is pasted is one message.");
}

static json_t *new_conversation(const char *text)
{
    json_t *messages = json_array();
    if (text && *text)
        json_array_append_new(messages, message("system", text, strlen(text)));
    return messages;
}

/* Answers one message and keeps both in the conversation; a failed or stopped turn is forgotten. */
static ap_status take_turn(ap_worker *worker, json_t *messages, ap_str text, uint64_t draw_seed, ap_error *err)
{
    answer a = {.is_streamed = true};
    json_array_append_new(messages, message("user", text.ptr, text.len));
    ap_status status = ask(worker, messages, (ap_str){0}, draw_seed, &a, err);
    end_thinking(&a);
    if (a.text.len || status == AP_OK)
        (void)putchar('\n');
    if (status == AP_OK) {
        print_statistics(&a);
        json_t *said = message("assistant", a.text.ptr ? a.text.ptr : "", a.text.len);
        if (a.reasoning.len) /* which of it stays in the prompt is for the template to say */
            json_object_set_new(said, "reasoning_content", text_json(&a.reasoning));
        json_array_append_new(messages, said);
    } else {
        json_array_remove(messages, json_array_size(messages) - 1);
    }
    answer_deinit(&a);
    return status;
}

static void history_path(char *path, size_t room)
{
    char folder[2048];
    if (ap_store_data_folder(folder, sizeof folder, NULL) == AP_OK)
        (void)snprintf(path, room, "%s/history", folder);
    else
        path[0] = 0;
}

/* True if the line was a command of the chat. */
static bool take_command(const char *line, json_t **messages, bool *is_over)
{
    if (strcmp(line, "/quit") == 0 || strcmp(line, "/exit") == 0) {
        *is_over = true;
    } else if (strcmp(line, "/help") == 0) {
        print_chat_help();
    } else if (strcmp(line, "/clear") == 0) {
        json_decref(*messages);
        *messages = new_conversation(system_text);
        (void)puts("A new conversation.");
    } else if (strncmp(line, "/system", 7) == 0 && (line[7] == ' ' || !line[7])) {
        json_decref(*messages);
        *messages = new_conversation(line + 7 + strspn(line + 7, " "));
        (void)puts("A new conversation with this system message.");
    } else if (line[0] == '/' && line[1] >= 'a' && line[1] <= 'z' && !strpbrk(line, " \n")) {
        (void)printf("There is no '%s' here; /help lists what there is.\n", line);
    } else {
        return false;
    }
    return true;
}

static ap_status start_worker(session *s, ap_error *err)
{
    ap_worker_options o = {.name = s->entry.name, .threads = (unsigned)threads, .isa = isa, .context_tokens = (uint32_t)context_tokens,
                           .kv_type = kv_type, .sandbox = cli_sandbox, .requests_max = 1,
                           .memory_bytes_max = ap_memory_available("")};
    cli_adapter adapter;
    AP_TRY(cli_open_adapter(adapter_path, &adapter, err));
    if (s->adapter_sha256[0] && strcmp(adapter.sha256, s->adapter_sha256) != 0) {
        cli_close_adapter(&adapter);
        return ap_fail(err, AP_E_INTEGRITY, "the adapter '%.400s' was changed meanwhile", adapter_path);
    }
    memcpy(s->adapter_sha256, adapter.sha256, sizeof s->adapter_sha256);
    o.adapter = adapter.files;
    ap_status status = cli_open_model(s->model, &s->entry, &o.model_fd, err);
    if (status == AP_OK) {
        status = ap_worker_start(&s->worker, &o, err);
        close(o.model_fd);
    }
    cli_close_adapter(&adapter);
    if (status == AP_OK)
        status = ap_worker_wait_ready(s->worker, READY_MS, err);
    return cli_hint_memory(status, "--ctx", err);
}

/* After the worker's death: says so and starts another one, unless that came to nothing thrice. */
static ap_status replace_worker(session *s, const ap_error *why, ap_error *err)
{
    ap_error death = *why;
    if (++s->deaths == DEATHS_MAX)
        return ap_fail(err, AP_E_WORKER, "%.300s; that was the third death in a row, so the conversation ends", death.message);
    (void)cli_error(CLI_FAILED, "%.300s; a new one is started, the conversation goes on", death.message);
    ap_worker_stop(&s->worker, 0);
    return start_worker(s, err);
}

/* One message of the conversation; a failure that is returned ends it. */
static ap_status answer_message(session *s, json_t *messages, ap_str text, uint64_t draw_seed, ap_error *err)
{
    if (!ap_utf8_valid(text)) {
        (void)cli_error(CLI_FAILED, "the line is not valid UTF-8");
        return AP_OK;
    }
    ap_error why = {0};
    /* A worker that died while nobody asked it is replaced before the message is lost to it. */
    if (ap_worker_receive(s->worker, NULL, NULL, &why) != AP_OK)
        AP_TRY(replace_worker(s, &why, err));
    interrupted = 0;
    ap_status status = take_turn(s->worker, messages, text, draw_seed, &why);
    if (status == AP_E_WORKER)
        return replace_worker(s, &why, err);
    s->deaths = 0;
    if (status != AP_OK)
        (void)cli_failed(&why);
    if (status == AP_E_CONTEXT)
        (void)puts("The conversation has outgrown the context; /clear begins a new one, --ctx gives more.");
    return AP_OK;
}

static int converse(session *s)
{
    char path[2100];
    ap_error err = {0};
    cli_editor *editor;
    history_path(path, sizeof path);
    if (cli_editor_open(&editor, path[0] ? path : NULL, &err) != AP_OK)
        return cli_failed(&err);
    (void)printf("%s is ready. /help lists commands, Ctrl-D leaves.\n", s->entry.name);
    json_t *messages = new_conversation(system_text);
    ap_buf line = {0};
    uint64_t draw_seed = choose_seed();
    int code = CLI_DONE;
    bool is_over = false;
    while (!is_over && code == CLI_DONE) {
        if (!cli_editor_read(editor, &interrupted, &line)) {
            (void)putchar('\n');
            break;
        }
        if (line.len == 0 || take_command(line.ptr, &messages, &is_over))
            continue;
        if (answer_message(s, messages, ap_buf_str(&line), draw_seed++, &err) != AP_OK)
            code = cli_failed(&err);
    }
    cli_editor_close(&editor);
    ap_buf_deinit(&line);
    json_decref(messages);
    return code;
}

/* ---- The command ---- */

/* PROMPT, or what comes through a pipe, or one after the other. */
static ap_status read_prompt(const char *operand, ap_buf *prompt, ap_error *err)
{
    if (!cli_is_terminal(STDIN_FILENO)) {
        AP_TRY(ap_file_read_fd(STDIN_FILENO, INPUT_BYTES_MAX, prompt, err));
        while (!raw && prompt->len && prompt->ptr[prompt->len - 1] == '\n')
            prompt->ptr[--prompt->len] = 0;
    }
    if (operand) {
        ap_buf piped = *prompt;
        *prompt = (ap_buf){0};
        ap_status status = ap_buf_printf(prompt, err, "%s%s", operand, piped.len ? "\n" : "");
        if (status == AP_OK)
            status = ap_buf_add_str(prompt, ap_buf_str(&piped), err);
        ap_buf_deinit(&piped);
        AP_TRY(status);
    }
    if (prompt->len == 0)
        return ap_fail(err, AP_E_ARG, "the prompt is empty");
    return cli_check_text(ap_buf_str(prompt), "the prompt", err);
}

/* CLI_DONE, or the exit code after a message. */
static int read_tools(void)
{
    ap_buf text = {0};
    ap_error err = {0};
    ap_refusal refusal;
    const json_t *checked = NULL;
    if (!as_json)
        return cli_error(CLI_MISUSE, "--tools needs --json, which shows the calls");
    if (raw)
        return cli_error(CLI_MISUSE, "--raw uses no chat template, so there is no place for --tools");
    ap_status status = cli_read_file(tools_path, TOOLS_BYTES_MAX, &text, &err);
    if (status == AP_OK)
        status = ap_json_parse(&tools, ap_buf_str(&text), (ap_json_limits){TOOLS_BYTES_MAX, TOOLS_VALUES_MAX}, &err);
    ap_buf_deinit(&text);
    if (status != AP_OK)
        return cli_error(CLI_FAILED, "%s: %s", tools_path, err.message);
    if (!ap_openai_tools_read(&(ap_openai_fields){.tools = tools}, &checked, &refusal))
        return cli_error(CLI_FAILED, "%s: %s", tools_path, refusal.message);
    return CLI_DONE;
}

static int run(unsigned count, char **operands)
{
    ap_error err = {0};
    session s = {.model = operands[0]};
    ap_buf prompt = {0};
    bool is_chat = count == 1 && cli_is_terminal(STDIN_FILENO) && !as_json;
    if (is_chat && raw)
        return cli_error(CLI_MISUSE, "--raw needs a PROMPT or text through a pipe");
    if (is_chat && !cli_is_terminal(STDOUT_FILENO))
        return cli_error(CLI_MISUSE, "standard output is not a terminal, so there can be no conversation; give a PROMPT");
    if (raw && system_text)
        return cli_error(CLI_MISUSE, "--raw uses no chat template, so there is no place for --system");
    if (system_text && !ap_utf8_valid(ap_str_from(system_text)))
        return cli_error(CLI_MISUSE, "option --system is not valid UTF-8");
    int bad_tools = tools_path ? read_tools() : CLI_DONE;
    if (bad_tools != CLI_DONE)
        return bad_tools;
    ap_status status = is_chat ? AP_OK : read_prompt(count > 1 ? operands[1] : NULL, &prompt, &err);
    if (status == AP_E_ARG || status == AP_E_LIMIT) {
        ap_buf_deinit(&prompt);
        return cli_error(CLI_MISUSE, "%s", err.message);
    }
    if (status == AP_OK)
        status = start_worker(&s, &err);
    if (status == AP_OK)
        cli_warn_plain();
    /* From here on Ctrl-C stops the answer; until here it stopped the program. */
    struct sigaction action = {.sa_handler = on_interrupt};
    (void)sigaction(SIGINT, &action, NULL);
    int code = status != AP_OK ? cli_failed(&err) : is_chat ? converse(&s) : answer_once(&s, ap_buf_str(&prompt));
    ap_worker_stop(&s.worker, 500);
    ap_buf_deinit(&prompt);
    json_decref(tools);
    if (interrupted && !is_chat) { /* whoever started the program learns of Ctrl-C: a loop in a shell ends as well */
        (void)signal(SIGINT, SIG_DFL);
        (void)raise(SIGINT);
    }
    return code;
}

const cli_command cli_run = {
    .name = "run",
    .operands = "MODEL [PROMPT]",
    .operands_min = 1,
    .operands_max = 2,
    .summary = "chat in the terminal, or answer one prompt",
    .description = "Without PROMPT on a terminal: a conversation, with line editing and history; Ctrl-C stops an answer and not the program. "
                   "What is pasted is one message, whatever its lines. With PROMPT, or with text through a pipe: one answer, then the "
                   "program ends; Ctrl-C stops the answer and ends the program as that signal does. What a model thinks before it answers is "
                   "shown on a terminal, apart from the answer, and not written to a pipe or file. MODEL is a name in the store or a GGUF file.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
