/* A request body, read as each endpoint reads it; what is taken goes to the worker's reader of jobs.
 *
 * Holds: a refusal is a 4xx whose JSON can be read; a body that is taken makes jobs; the worker takes each job, or
 * refuses it for a reason only it can know (its vocabulary, template and context), in a frame that the front reads.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "serve/openai_read.h"
#include "worker/job.h"
#include "worker/talk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { JOBS_TRIED = 3, CONTEXT = 1000 };

static void hold(bool condition)
{
    if (!condition)
        abort();
}

static void check_refusal(const ap_refusal *refusal)
{
    ap_buf text = {0};
    hold(refusal->status >= 400 && refusal->status < 500 && refusal->message[0]);
    hold(ap_refusal_write(&text, refusal, NULL) == AP_OK);
    json_t *root = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, NULL);
    const json_t *error = json_object_get(root, "error"), *param = json_object_get(error, "param");
    hold(json_string_length(json_object_get(error, "message")) > 0);
    hold(json_string_length(json_object_get(error, "type")) > 0);
    hold(json_is_null(param) || json_string_length(param) > 0);
    json_decref(root);
    ap_buf_deinit(&text);
}

typedef struct heard {
    unsigned accepted, refused;
} heard;

static void on_event(void *context, const ap_worker_event *event)
{
    heard *h = context;
    h->accepted += event->kind == AP_WORKER_ACCEPTED;
    if (event->kind != AP_WORKER_ERROR)
        return;
    h->refused++;
    const char *param = event->param ? event->param : "";
    bool is_prompt = strcmp(param, "prompt") == 0 || strcmp(param, "messages") == 0;
    if (event->status == AP_E_ARG)
        hold(is_prompt || strcmp(param, "logit_bias") == 0);
    else if (event->status == AP_E_CONTEXT)
        hold(is_prompt || strcmp(param, "max_tokens") == 0);
    else
        hold(event->status == AP_E_TEMPLATE && is_prompt);
}

static void check_job(ap_jobs *jobs, ap_wire_writer *writer, const ap_buf *job)
{
    static const char ready[] = "{\"sandbox\":\"full\",\"model\":{},\"engine\":{}}";
    ap_talk talk;
    heard h = {0};
    ap_wire_writer first = {0};
    hold(ap_talk_init(&talk, NULL) == AP_OK);
    hold(ap_wire_put(&first, AP_WORKER_READY, 0, ready, sizeof ready - 1, NULL) == AP_OK);
    hold(ap_buf_add(&talk.reader.buf, first.buf.ptr, first.buf.len, NULL) == AP_OK);
    hold(ap_talk_hear(&talk, NULL, NULL, NULL) == AP_OK && ap_talk_ask(&talk, 1, NULL) == AP_OK);
    hold(ap_jobs_submit(jobs, 1, job->ptr, job->len, NULL) == AP_OK);
    hold(ap_buf_add(&talk.reader.buf, writer->buf.ptr, writer->buf.len, NULL) == AP_OK);
    hold(ap_talk_hear(&talk, on_event, &h, NULL) == AP_OK);
    hold(h.accepted + h.refused == 1);
    ap_wire_writer_deinit(&first);
    ap_talk_deinit(&talk);
}

static void check_jobs(const ap_openai_request *request)
{
    size_t n = (size_t)request->fields.n, count = request->prompt_count * n;
    hold(count >= 1 && count <= AP_OPENAI_JOBS_MAX);
    for (size_t i = 0; i < count && i < JOBS_TRIED; i++) {
        size_t which = i ? count - i : 0; /* the first and the last ones */
        ap_engine *engine;
        ap_jobs *jobs;
        ap_buf job = {0};
        ap_wire_writer writer = {0};
        ap_engine_options options = {.size = sizeof options, .context_tokens = CONTEXT};
        hold(ap_engine_create(&engine, NULL, &options, NULL) == AP_OK);
        hold(ap_jobs_create(&jobs, engine, NULL, &writer, NULL) == AP_OK);
        hold(ap_openai_job(request, which / n, which % n, &job, NULL) == AP_OK);
        check_job(jobs, &writer, &job);
        ap_jobs_destroy(&jobs);
        ap_engine_destroy(&engine);
        ap_wire_writer_deinit(&writer);
        ap_buf_deinit(&job);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ap_endpoint endpoints[] = {AP_ENDPOINT_CHAT, AP_ENDPOINT_COMPLETION};
    for (size_t i = 0; i < sizeof endpoints / sizeof *endpoints; i++) {
        ap_openai_request request;
        ap_refusal refusal;
        if (!ap_openai_read(&request, endpoints[i], (ap_str){(const char *)data, size}, &refusal)) {
            check_refusal(&refusal);
            continue;
        }
        check_jobs(&request);
        ap_openai_request_deinit(&request);
    }
    return 0;
}
