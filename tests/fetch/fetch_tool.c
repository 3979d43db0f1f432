/* fetch_tool.c - the transfer layer by hand, for test_transfer.py.
 *
 *     fetch_tool ask URL OPTION…             prints {"status", "message", "code", "address", "notes", "body"}
 *     fetch_tool file URL FOLDER NAME OPTION…   prints {"status", "message", "code", "sha256", "etag", "notes"}
 *
 * --auth A --origin O --max N --bytes N --sha256 H --sha1 H --connections N --piece N --stall N --pause MS --ca F
 * --stop-at N (as Ctrl-C after N bytes) --kill-at N (as kill -9) --oom N (allocations fail from the N-th on)
 * --room N (no file can be longer than N bytes: as on a full disk)
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/alloc.h"
#include "fetch/transfer.h"

static volatile sig_atomic_t is_stopped;
static uint64_t stop_at = UINT64_MAX, kill_at = UINT64_MAX;
static char notes[4096];

static void watch(void *context, uint64_t done, uint64_t total)
{
    if (done >= kill_at)
        (void)raise(SIGKILL);
    if (done >= stop_at)
        is_stopped = 1;
}

static void note(void *context, const char *line)
{
    size_t length = strlen(notes);
    (void)snprintf(notes + length, sizeof notes - length, "%s\n", line);
}

static int print(json_t *value)
{
    char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
    (void)puts(text ? text : "{\"status\": -1}");
    free(text);
    json_decref(value);
    return 0;
}

static int ask(ap_transfer_options *o, ap_transfer_request *r)
{
    ap_error err = {0};
    ap_transfer *t;
    ap_transfer_answer *a = calloc(1, sizeof *a);
    ap_status status = ap_transfer_open(&t, o, &err);
    if (status == AP_OK) {
        status = ap_transfer_ask(t, r, a, &err);
        ap_transfer_close(&t);
    }
    ap_alloc_fail_at(0, false);
    int code = print(json_pack("{s:i, s:s, s:i, s:s, s:s, s:s%}", "status", status, "message", err.message, "code", (int)a->code, "address",
                               a->address, "notes", notes, "body", status == AP_OK && a->body.ptr ? a->body.ptr : "", status == AP_OK ? (int)a->body.len : 0));
    ap_transfer_answer_deinit(a);
    free(a);
    return code;
}

static int fetch(ap_transfer_options *o, ap_transfer_file *f, const char *folder)
{
    ap_error err = {0};
    ap_transfer *t;
    f->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ap_status status = ap_transfer_open(&t, o, &err);
    if (status == AP_OK) {
        status = ap_transfer_fetch(t, f, &err);
        ap_transfer_close(&t);
    }
    ap_alloc_fail_at(0, false);
    int code = print(json_pack("{s:i, s:s, s:i, s:s, s:s, s:s}", "status", status, "message", err.message, "code", (int)f->code, "sha256",
                               f->sha256_is, "etag", f->etag, "notes", notes));
    ap_buf_deinit(&f->refusal_head);
    close(f->folder);
    return code;
}

int main(int argc, char **argv)
{
    bool is_file = argc > 4 && strcmp(argv[1], "file") == 0;
    if (argc < 3 || (!is_file && strcmp(argv[1], "ask") != 0))
        return 2;
    ap_transfer_options o = {.stop = &is_stopped, .progress = watch, .note = note};
    ap_transfer_request r = {.address = argv[2], .answer_bytes_max = 65536, .body_fd = -1};
    ap_transfer_file f = {.address = argv[2], .name = is_file ? argv[4] : "", .bytes = UINT64_MAX};
    for (int i = is_file ? 5 : 3; i + 1 < argc; i += 2) {
        const char *name = argv[i], *text = argv[i + 1];
        uint64_t number = strtoull(text, NULL, 10);
        if (strcmp(name, "--auth") == 0)
            r.authorization = f.authorization = text;
        else if (strcmp(name, "--origin") == 0)
            o.http_origin = text;
        else if (strcmp(name, "--max") == 0)
            r.answer_bytes_max = number;
        else if (strcmp(name, "--bytes") == 0)
            f.bytes = number;
        else if (strcmp(name, "--sha256") == 0)
            f.sha256 = text;
        else if (strcmp(name, "--sha1") == 0)
            f.git_sha1 = text;
        else if (strcmp(name, "--connections") == 0)
            o.connections = (unsigned)number;
        else if (strcmp(name, "--piece") == 0)
            o.piece_bytes = number;
        else if (strcmp(name, "--stall") == 0)
            o.stall_seconds = (unsigned)number;
        else if (strcmp(name, "--pause") == 0)
            o.pause_ms = (unsigned)number;
        else if (strcmp(name, "--ca") == 0)
            o.ca_file = text;
        else if (strcmp(name, "--stop-at") == 0)
            stop_at = number;
        else if (strcmp(name, "--kill-at") == 0)
            kill_at = number;
        else if (strcmp(name, "--room") == 0) {
            (void)signal(SIGXFSZ, SIG_IGN);
            (void)setrlimit(RLIMIT_FSIZE, &(struct rlimit){number, number});
        } else if (strcmp(name, "--oom") == 0)
            ap_alloc_fail_at(number, true);
        else
            return 2;
    }
    return is_file ? fetch(&o, &f, argv[3]) : ask(&o, &r);
}
