/* The handle, and small answers.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "fetch/transfer.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "fetch/exchange.h"

enum { PAUSE_MS_DEFAULT = 1000, NOTE_PAUSE_MS = 1000 /* who waits longer wants to know why */ };

ap_status ap_transfer_open(ap_transfer **out, const ap_transfer_options *options, ap_error *err)
{
    *out = NULL;
    ap_transfer *t = ap_alloc_zero(1, sizeof *t);
    if (!t)
        return ap_fail_nomem(err, sizeof *t);
    t->options = *options;
    /* Once per process and before threads; a second time only counts. */
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(t->multi = curl_multi_init())) {
        ap_free(t);
        return ap_fail(err, AP_E_NOMEM, "libcurl cannot be started");
    }
    *out = t;
    return AP_OK;
}

void ap_transfer_close(ap_transfer **transfer)
{
    if (*transfer) {
        (void)curl_multi_cleanup((*transfer)->multi);
        curl_global_cleanup();
    }
    ap_free(*transfer);
    *transfer = NULL;
}

void ap_transfer_note(const ap_transfer *t, const char *format, ...)
{
    ap_error line; /* makes one line of what strangers wrote */
    char text[400];
    va_list args;
    if (!t->options.note)
        return;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    ap_error_write(&line, AP_OK, "%s", text);
    t->options.note(t->options.context, line.message);
}

static bool is_stopped(const ap_transfer *t) { return t->options.stop && *t->options.stop; }

ap_status ap_transfer_turn(ap_transfer *t, unsigned wait_ms, ap_exchange **ended, CURLcode *code, ap_error *err)
{
    enum { LOOK_MS = 100 }; /* a signal between the check and the wait is seen after that time */
    int running, left;
    *ended = NULL;
    if (is_stopped(t))
        return ap_fail(err, AP_E_CANCELLED, "stopped");
    if (curl_multi_perform(t->multi, &running) != CURLM_OK)
        return ap_fail(err, AP_E_BUG, "libcurl cannot go on");
    for (CURLMsg *message; (message = curl_multi_info_read(t->multi, &left));) {
        if (message->msg != CURLMSG_DONE)
            continue;
        *code = message->data.result;
        (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)ended);
        return AP_OK;
    }
    (void)curl_multi_poll(t->multi, NULL, 0, wait_ms < LOOK_MS ? (int)wait_ms : LOOK_MS, NULL);
    return AP_OK;
}

ap_status ap_transfer_retry(ap_transfer *t, ap_retries *r, const ap_exchange *x, bool is_quiet, uint64_t *until_ns, ap_error *err)
{
    uint64_t now = ap_clock_ns(), first = t->options.pause_ms ? t->options.pause_ms : PAUSE_MS_DEFAULT;
    bool is_known = now < r->until_ns;
    r->failures += !is_known;
    uint64_t pause_ms = x->retry_after_s > 0 ? (uint64_t)x->retry_after_s * 1000 : first << (r->failures > 8 ? 8 : r->failures - 1);
    *until_ns = is_known && x->retry_after_s <= 0 ? r->until_ns : now + pause_ms * 1000000;
    if (is_known)
        return AP_OK;
    if (r->failures >= AP_TRANSFER_TRIES_MAX)
        return ap_fail(err, x->error.status, "%s; tried %u times", x->error.message, r->failures);
    r->waited_ms += pause_ms;
    r->until_ns = *until_ns;
    if (r->waited_ms > (uint64_t)AP_TRANSFER_WAIT_SECONDS_MAX * 1000)
        return ap_fail(err, x->error.status, "%s; waiting for it would take more than %d seconds in all", x->error.message, AP_TRANSFER_WAIT_SECONDS_MAX);
    /* A cut after which bytes came is what the bar shows. */
    if (!is_quiet && pause_ms >= NOTE_PAUSE_MS && (x->code >= 400 || r->failures > 1))
        ap_transfer_note(t, "%s; trying again in %" PRIu64 " second%s%s (try %u of %d)", x->error.message, pause_ms / 1000, pause_ms < 2000 ? "" : "s",
                         x->retry_after_s > 0 ? ", as it asks" : "", r->failures + 1, AP_TRANSFER_TRIES_MAX);
    return AP_OK;
}

/* ---- Small answers ---- */

static ap_status keep_body(ap_exchange *x, const void *bytes, size_t count, ap_error *err)
{
    ap_transfer_answer *answer = x->context;
    char shown[AP_ADDRESS_SHOWN_ROOM];
    if (count > x->request->answer_bytes_max - answer->body.len) {
        ap_address_show(x->address, shown);
        return ap_fail(err, AP_E_LIMIT, "the answer of %s is longer than %zu bytes", shown, x->request->answer_bytes_max);
    }
    return ap_buf_add(&answer->body, bytes, count, err);
}

static ap_status wait_until(ap_transfer *t, uint64_t end, ap_error *err)
{
    for (uint64_t now; (now = ap_clock_ns()) < end;) {
        if (is_stopped(t))
            return ap_fail(err, AP_E_CANCELLED, "stopped");
        uint64_t rest = end - now < 100000000 ? end - now : 100000000;
        (void)nanosleep(&(struct timespec){.tv_nsec = (long)rest}, NULL);
    }
    return AP_OK;
}

static ap_status ask_until_answered(ap_exchange *x, ap_transfer_answer *answer, ap_error *err)
{
    const char *method = x->request->method ? x->request->method : "GET";
    bool may_repeat = strcmp(method, "POST") != 0 && strcmp(method, "PATCH") != 0;
    ap_retries retries = {0};
    for (;;) {
        ap_exchange *ended = NULL;
        CURLcode code = CURLE_OK;
        ap_buf_clear(&answer->body);
        AP_TRY(ap_exchange_begin(x, err));
        while (!ended)
            AP_TRY(ap_transfer_turn(x->transfer, 1000, &ended, &code, err));
        ap_verdict verdict = ap_exchange_judge(x, code);
        if (verdict == AP_VERDICT_ANSWERED)
            return AP_OK;
        if (verdict == AP_VERDICT_REDIRECTED)
            continue;
        /* Nothing was reached yet, so a name or a port that nobody knows is taken for a mistake at once. */
        if (verdict == AP_VERDICT_FAILED || !may_repeat || x->error.status == AP_E_NOTFOUND)
            return ap_fail(err, x->error.status == AP_E_NOTFOUND ? AP_E_IO : x->error.status, "%s", x->error.message);
        uint64_t until;
        AP_TRY(ap_transfer_retry(x->transfer, &retries, x, false, &until, err));
        AP_TRY(wait_until(x->transfer, until, err));
    }
}

ap_status ap_transfer_ask(ap_transfer *transfer, const ap_transfer_request *request, ap_transfer_answer *answer, ap_error *err)
{
    *answer = (ap_transfer_answer){0};
    ap_exchange *x = ap_alloc(sizeof *x);
    if (!x)
        return ap_fail_nomem(err, sizeof *x);
    ap_status status = ap_exchange_init(x, transfer, request, err);
    x->on_body = keep_body;
    x->context = answer;
    if (status == AP_OK)
        status = ask_until_answered(x, answer, err);
    if (status == AP_OK) {
        answer->code = x->code;
        answer->head = x->head;
        x->head = (ap_buf){0};
        if (x->code / 100 != 2) {
            ap_buf_deinit(&answer->body);
            answer->body = x->refusal;
            x->refusal = (ap_buf){0};
        }
        (void)snprintf(answer->address, sizeof answer->address, "%s", x->address);
    }
    ap_exchange_deinit(x);
    ap_free(x);
    return status;
}

void ap_transfer_answer_deinit(ap_transfer_answer *answer)
{
    ap_buf_deinit(&answer->body);
    ap_buf_deinit(&answer->head);
}
