/* The whole way: sockets, the interface, a real worker in its sandbox, a tiny model.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "serve_real.h"
#include "tiny_model.h"

static real_server real;

static int start(void **state)
{
    const ap_tiny_model tiny = {.seed = 11};
    real_start(&real, ap_tiny_model_file(&tiny));
    return 0;
}

static int stop(void **state)
{
    real_stop(&real);
    return 0;
}

static int ask(const char *path, const char *body, response *r) { return real_ask(&real, path, body, r); }

static bool wait_ready(const char *wanted, unsigned timeout_ms)
{
    for (unsigned i = 0; i < timeout_ms / 10; i++) {
        response r;
        bool is_ready = ask("/readyz", NULL, &r) == 200 && body_contains(&r, wanted);
        response_deinit(&r);
        if (is_ready)
            return true;
        (void)usleep(10000);
    }
    return false;
}

/* The worker is this process's only child. */
static pid_t worker_pid(void)
{
    char path[64], line[512];
    struct dirent *entry;
    pid_t found = 0;
    DIR *processes = opendir("/proc");
    assert_non_null(processes);
    while ((entry = readdir(processes))) {
        (void)snprintf(path, sizeof path, "/proc/%.20s/stat", entry->d_name);
        FILE *file = entry->d_name[0] >= '1' && entry->d_name[0] <= '9' ? fopen(path, "r") : NULL;
        if (!file)
            continue;
        int parent = 0;
        char kind = 0;
        if (fgets(line, sizeof line, file) && strrchr(line, ')') &&
            sscanf(strrchr(line, ')') + 2, "%c %d", &kind, &parent) == 2 && parent == getpid() && kind != 'Z')
            found = atoi(entry->d_name);
        (void)fclose(file);
    }
    (void)closedir(processes);
    return found;
}

static void the_model_becomes_ready_and_says_what_is_in_force(void **state)
{
    response r;
    assert_true(wait_ready("\"sandbox\":\"full", 20000));
    assert_int_equal(ask("/readyz", NULL, &r), 200);
    assert_true(body_contains(&r, "\"isa\":\""));
    assert_true(body_contains(&r, "\"context_tokens\":4096"));
    response_deinit(&r);
}

static char *answer_of(const char *body)
{
    response r;
    if (ask("/v1/chat/completions", body, &r) != 200)
        fail_msg("status %d: %s", r.status, r.body.ptr);
    json_t *root = json_loadb(r.body.ptr, r.body.len, 0, NULL);
    json_t *choice = json_array_get(json_object_get(root, "choices"), 0);
    char *text = json_dumps(choice, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(root);
    response_deinit(&r);
    assert_non_null(text);
    return text;
}

static void one_seed_is_one_answer_alone_and_in_company(void **state)
{
    static const char body[] = "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}],\"max_tokens\":40,"
                               "\"seed\":7,\"logprobs\":true,\"top_logprobs\":3,\"logit_bias\":{\"10\":-100}}";
    static const char company[] = "{\"model\":\"tiny\",\"prompt\":\"other\",\"max_tokens\":2000,\"n\":4,\"ignore_eos\":true}";
    char *alone = answer_of(body), *again = answer_of(body);
    assert_string_equal(alone, again);
    int fd = client_connect(real.server);
    ap_buf text = {0};
    assert_ok(ap_buf_printf(&text, err, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s",
                            strlen(company), company));
    assert_true(client_send(fd, text.ptr, text.len));
    assert_true(wait_ready("\"requests\":4", 5000));
    char *among = answer_of(body);
    assert_string_equal(alone, among);
    (void)close(fd);
    assert_true(wait_ready("\"requests\":0", 5000)); /* the company was cancelled with its client */
    ap_buf_deinit(&text);
    free(alone);
    free(again);
    free(among);
}

static void a_prompt_that_does_not_fit_gets_both_counts(void **state)
{
    ap_buf body = {0};
    response r;
    for (int is_stream = 0; is_stream < 2; is_stream++) {
        ap_buf_clear(&body);
        assert_ok(ap_buf_printf(&body, err, "{\"model\":\"tiny\",\"stream\":%s,\"prompt\":[5", is_stream ? "true" : "false"));
        for (int i = 1; i < 4096; i++)
            assert_ok(ap_buf_printf(&body, err, ",5"));
        assert_ok(ap_buf_printf(&body, err, "],\"max_tokens\":1}"));
        assert_int_equal(ask("/v1/completions", body.ptr, &r), 400);
        assert_true(body_contains(&r, "context_length_exceeded"));
        assert_true(body_contains(&r, "4096"));
        response_deinit(&r);
    }
    assert_int_equal(ask("/v1/completions", "{\"model\":\"tiny\",\"prompt\":[5,6],\"max_tokens\":4095}", &r), 400);
    assert_true(body_contains(&r, "\"param\":\"max_tokens\""));
    response_deinit(&r);
    ap_buf_deinit(&body);
}

static void what_only_the_model_can_know_is_refused_by_it(void **state)
{
    response r;
    assert_int_equal(ask("/v1/completions", "{\"model\":\"tiny\",\"prompt\":[5,99999]}", &r), 400);
    assert_true(body_contains(&r, "\"param\":\"prompt\""));
    response_deinit(&r);
    assert_int_equal(ask("/v1/completions", "{\"model\":\"tiny\",\"prompt\":\"a\",\"logit_bias\":{\"99999\":1}}", &r), 400);
    assert_true(body_contains(&r, "\"param\":\"logit_bias\""));
    response_deinit(&r);
    assert_int_equal(ask("/v1/chat/completions", "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],"
                         "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]}", &r), 400);
    assert_true(body_contains(&r, "\"param\":\"tools\"") && body_contains(&r, "does not show tools"));
    response_deinit(&r);
}

/* ChatML as it is shows a message of any role, but nothing of calls. */
static void calls_that_the_template_would_leave_out_are_refused(void **state)
{
#define MADE "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"x\",\"type\":\"function\"," \
             "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}"
    response r;
    assert_int_equal(ask("/v1/chat/completions", "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}," MADE
                         ",{\"role\":\"tool\",\"tool_call_id\":\"x\",\"content\":\"b\"}]}", &r), 400);
    assert_true(body_contains(&r, "messages[1].tool_calls") && body_contains(&r, "template_refused"));
    response_deinit(&r);
}

static void a_killed_worker_fails_its_requests_and_is_replaced(void **state)
{
    static const char body[] = "{\"model\":\"tiny\",\"prompt\":\"a\",\"max_tokens\":4000,\"ignore_eos\":true,\"stream\":true}";
    char first;
    response r;
    ap_buf text = {0};
    int fd = client_connect(real.server);
    assert_ok(ap_buf_printf(&text, err, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s",
                            strlen(body), body));
    assert_true(client_send(fd, text.ptr, text.len));
    assert_int_equal(recv(fd, &first, 1, MSG_PEEK), 1); /* the answer has begun */
    pid_t pid = worker_pid();
    assert_true(pid > 0);
    assert_int_equal(kill(pid, SIGKILL), 0);
    client_read(fd, &r);
    assert_int_equal(r.status, 200);
    assert_true(body_contains(&r, "worker_ended"));
    assert_false(body_contains(&r, "[DONE]"));
    response_deinit(&r);
    ap_buf_deinit(&text);
    (void)close(fd);
    assert_int_equal(ask("/healthz", NULL, &r), 200); /* the front lives */
    response_deinit(&r);
    assert_true(wait_ready("\"restarts\":1", 20000));
    assert_int_equal(ask("/v1/completions", "{\"model\":\"tiny\",\"prompt\":\"a\"}", &r), 200);
    response_deinit(&r);
}

static atomic_uint reopened;

/* The same bytes under another name, found after a while. */
static ap_status find_copy(void *context, int *fd, ap_error *error)
{
    (void)usleep(100000);
    atomic_fetch_add(&reopened, 1);
    return ap_file_open(context, fd, error);
}

static void restart(void)
{
    response r;
    pid_t old = worker_pid();
    assert_int_equal(kill(old, SIGKILL), 0);
    for (int i = 0; i < 2000 && (worker_pid() == old || worker_pid() == 0); i++)
        (void)usleep(10000);
    assert_true(wait_ready("ready", 20000));
    assert_int_equal(ask("/v1/completions", "{\"model\":\"tiny\",\"prompt\":\"a\"}", &r), 200);
    response_deinit(&r);
}

/* A worker is not started from a file that is not the one whose digest was compared; the server looks for that one. */
static void a_replaced_file_is_found_again(void **state)
{
    char path[] = "/tmp/aperto-serve-XXXXXX";
    ap_buf bytes = {0};
    int copy = mkostemp(path, O_CLOEXEC);
    assert_ok(ap_file_read(real.packed_path, (size_t)1 << 30, &bytes, err));
    assert_ok(ap_file_write_all(copy, bytes.ptr, bytes.len, err));
    (void)close(copy);
    ap_buf_deinit(&bytes);
    real.model.reopen = find_copy;
    real.model.reopen_context = path;
    assert_int_equal(utimensat(AT_FDCWD, real.packed_path, NULL, 0), 0); /* another stamp */
    restart();
    assert_int_equal(atomic_load(&reopened), 1);
    restart(); /* from the one found before */
    assert_int_equal(atomic_load(&reopened), 1);
    real.model.reopen = NULL;
    (void)unlink(path);
}

typedef struct crowd {
    atomic_uint answered, refused, other;
} crowd;

static void *ask_often(void *context)
{
    crowd *c = context;
    for (int i = 0; i < 6; i++) {
        response r;
        int status = ask("/v1/completions", "{\"model\":\"tiny\",\"prompt\":\"a\",\"max_tokens\":8,\"n\":3}", &r);
        atomic_fetch_add(status == 200 ? &c->answered : status == 429 ? &c->refused : &c->other, 1);
        response_deinit(&r);
    }
    return NULL;
}

static void many_clients_are_all_answered(void **state)
{
    enum { CLIENTS = 12 };
    pthread_t threads[CLIENTS];
    crowd c = {0};
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask_often, &c), 0);
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(atomic_load(&c.answered), 6 * CLIENTS);
}

static void a_model_that_cannot_be_loaded_is_told_at_the_start(void **state)
{
    ap_serve_options o = real.options;
    ap_workers *failing;
    ap_error error = {0};
    o.isa = "abacus";
    assert_ok(ap_workers_create(&failing, &o, err));
    assert_int_not_equal(ap_workers_start(failing, -1, &error), AP_OK);
    assert_non_null(strstr(error.message, "abacus"));
    ap_workers_destroy(&failing, 0);
    o.isa = NULL;
    o.port = fake_port(real.server); /* all is well but the port */
    assert_int_equal(ap_serve_run(&o, &error), AP_E_IO);
    assert_non_null(strstr(error.message, "port"));
}

/* Pages are not touched before they are used: a second worker would find the first one's memory free. */
static void memory_is_counted_over_all_workers(void **state)
{
    enum { RESERVE_BYTES = 64 << 20 };
    const ap_served_model two[] = {real.model, {.name = "second", .packed_fd = real.model.packed_fd, .digest = real.model.digest}};
    ap_serve_options o = real.options;
    ap_workers *both;
    ap_backend backend = ap_workers_backend(real.workers);
    ap_buf text = {0};
    ap_error error = {0};
    bool is_ready;
    unsigned long long took = 0;
    assert_ok(backend.ops->describe(backend.self, 0, &text, &is_ready, err));
    const char *found = strstr(text.ptr, "\"memory_bytes\":");
    assert_true(found && sscanf(found, "\"memory_bytes\":%llu", &took) == 1 && took > 1 << 20);
    ap_buf_deinit(&text);
    o.models = two;
    o.model_count = 2;
    o.available_bytes = 2 * took + RESERVE_BYTES;
    assert_ok(ap_workers_create(&both, &o, err));
    assert_ok(ap_workers_start(both, -1, err));
    ap_workers_destroy(&both, 0);
    o.available_bytes--;
    assert_ok(ap_workers_create(&both, &o, err));
    assert_int_equal(ap_workers_start(both, -1, &error), AP_E_NOMEM);
    assert_non_null(strstr(error.message, "are available"));
    ap_workers_destroy(&both, 0);
}

static void a_file_that_is_no_model_is_told_at_the_start(void **state)
{
    ap_served_model bad = real.model;
    ap_serve_options o = real.options;
    ap_workers *failing = NULL;
    ap_error error = {0};
    char path[] = "/tmp/aperto-serve-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    assert_int_equal(write(fd, "GGUF", 4), 4);
    (void)close(fd);
    bad.packed_fd = open(path, O_RDONLY | O_CLOEXEC);
    o.models = &bad;
    ap_status status = ap_workers_create(&failing, &o, &error);
    if (status == AP_OK)
        status = ap_workers_start(failing, -1, &error);
    assert_true(status != AP_OK && error.message[0]);
    ap_workers_destroy(&failing, 0);
    (void)close(bad.packed_fd);
    (void)unlink(path);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "worker") == 0)
        return ap_worker_main(argc, argv);
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_model_becomes_ready_and_says_what_is_in_force),
        cmocka_unit_test(one_seed_is_one_answer_alone_and_in_company),
        cmocka_unit_test(a_prompt_that_does_not_fit_gets_both_counts),
        cmocka_unit_test(what_only_the_model_can_know_is_refused_by_it),
        cmocka_unit_test(calls_that_the_template_would_leave_out_are_refused),
        cmocka_unit_test(a_model_that_cannot_be_loaded_is_told_at_the_start),
        cmocka_unit_test(memory_is_counted_over_all_workers),
        cmocka_unit_test(a_file_that_is_no_model_is_told_at_the_start),
        cmocka_unit_test(many_clients_are_all_answered),
        cmocka_unit_test(a_killed_worker_fails_its_requests_and_is_replaced),
        cmocka_unit_test(a_replaced_file_is_found_again),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
