/* Runs the cases of tests/api/: each file is one request and what must come back.
 *
 *   # what it protects
 *   POST /v1/chat/completions
 *   Header: value
 *                                  (an empty line)
 *   the body, until a line ===
 *   ===
 *   status 400
 *   contains TEXT                  (in the body)
 *   lacks TEXT
 *   header Name: value             (the start of the value)
 *   no-header Name
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>

#include "serve_fake.h"

typedef struct api_case {
    char name[128];
    char path[512];
} api_case;

static fake_server *server;

static char *next_line(char **text)
{
    char *line = *text, *end = line ? strchr(line, '\n') : NULL;
    if (!line || !*line)
        return NULL;
    if (end)
        *end = 0;
    *text = end ? end + 1 : NULL;
    return line;
}

static void check_line(const response *r, const char *line)
{
    size_t length;
    if (strncmp(line, "status ", 7) == 0) {
        if (r->status != atoi(line + 7))
            fail_msg("status %d instead of %s: %s", r->status, line + 7, r->body.ptr);
    } else if (strncmp(line, "contains ", 9) == 0) {
        if (!body_contains(r, line + 9))
            fail_msg("the body lacks '%s': %s", line + 9, r->body.ptr);
    } else if (strncmp(line, "lacks ", 6) == 0) {
        if (body_contains(r, line + 6))
            fail_msg("the body has '%s': %s", line + 6, r->body.ptr);
    } else if (strncmp(line, "header ", 7) == 0) {
        char name[64];
        size_t name_length = strcspn(line + 7, ":");
        assert_true(name_length < sizeof name);
        memcpy(name, line + 7, name_length);
        name[name_length] = 0;
        const char *wanted = line + 7 + name_length + 1;
        wanted += strspn(wanted, " ");
        const char *value = response_header(r, name, &length);
        if (!value || strncmp(value, wanted, strlen(wanted)) != 0)
            fail_msg("header %s is not '%s': %s", name, wanted, r->head.ptr);
    } else if (strncmp(line, "no-header ", 10) == 0) {
        if (response_header(r, line + 10, &length))
            fail_msg("there is a header %s: %s", line + 10, r->head.ptr);
    } else if (line[0] && line[0] != '#') {
        fail_msg("a case cannot expect '%s'", line);
    }
}

static void run_case(void **state)
{
    const api_case *c = *state;
    ap_buf file = {0}, headers = {0}, body = {0};
    response r;
    assert_ok(ap_file_read(c->path, 1 << 20, &file, err));
    char *text = file.ptr, *line = next_line(&text);
    while (line && line[0] == '#')
        line = next_line(&text);
    assert_non_null(line);
    char *method = line, *path = strchr(line, ' ');
    assert_non_null(path);
    *path++ = 0;
    while ((line = next_line(&text)) && line[0] && strcmp(line, "===") != 0)
        assert_ok(ap_buf_printf(&headers, err, "%s\r\n", line));
    bool has_body = line && line[0] == 0;
    while (has_body && (line = next_line(&text)) && strcmp(line, "===") != 0)
        assert_ok(ap_buf_printf(&body, err, "%s%s", body.len ? "\n" : "", line));
    client_request(server, method, path, headers.ptr, has_body ? (body.ptr ? body.ptr : "") : NULL, &r);
    unsigned checks = 0;
    while ((line = next_line(&text))) {
        check_line(&r, line);
        checks++;
    }
    assert_true(checks > 0);
    response_deinit(&r);
    ap_buf_deinit(&file);
    ap_buf_deinit(&headers);
    ap_buf_deinit(&body);
}

static int start(void **state)
{
    ap_serve_options o = fake_options();
    server = fake_start(&o);
    return 0;
}

static int stop(void **state)
{
    fake_stop(server, 1);
    return 0;
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

int main(void)
{
    struct dirent **entries = NULL;
    const char *folder = ap_test_file("api");
    int count = scandir(folder, &entries, NULL, by_name), used = 0;
    if (count < 0)
        return 99;
    struct CMUnitTest *tests = calloc((size_t)count, sizeof *tests);
    api_case *cases = calloc((size_t)count, sizeof *cases);
    if (!tests || !cases)
        return 99;
    for (int i = 0; i < count; i++) {
        char *dot = strrchr(entries[i]->d_name, '.');
        if (dot && strcmp(dot, ".test") == 0) {
            (void)snprintf(cases[used].path, sizeof cases[used].path, "%s/%s", folder, entries[i]->d_name);
            (void)snprintf(cases[used].name, sizeof cases[used].name, "%.*s", (int)(dot - entries[i]->d_name),
                           entries[i]->d_name);
            tests[used] = (struct CMUnitTest){cases[used].name, run_case, NULL, NULL, &cases[used]};
            used++;
        }
        free(entries[i]);
    }
    free(entries);
    int failed = used ? _cmocka_run_group_tests("api", tests, (size_t)used, start, stop) : 99;
    free(tests);
    free(cases);
    return failed;
}
