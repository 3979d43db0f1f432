/* worker.h - the process border: who may touch a byte of a model, and how to ask.
 *
 * The front (serve, cli) holds sockets, keys and the store and never parses a
 * byte of a model.  A worker is a child process that holds one packed model: it
 * opens nothing, has no network, and runs under Landlock and seccomp.  The
 * two talk over one socket pair in frames (below).  A one-shot is a forked child
 * in the same sandbox that runs one function and ends.  A supervisor keeps one
 * worker alive.
 *
 *     ap_worker_start(&w, &options, err);      returns at once
 *     poll(ap_worker_fd(w), ap_worker_poll_events(w)) … ap_worker_receive(w, on_event, ctx, err)
 *     ap_worker_send(w, 7, job, n, err);       after the event READY
 *
 * What a worker says is not believed: lengths, kinds, JSON, UTF-8, fields and
 * request ids are checked, and a worker that breaks the protocol is killed.
 * Every request sent gets exactly one DONE or ERROR, also when its worker dies.
 *
 * A handle has no thread of its own and belongs to one thread at a time; no
 * function blocks unless it says so.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_WORKER_H
#define AP_WORKER_H

#include <jansson.h>
#include <sys/types.h>

#include "base/str.h"

/* ---- Frames --------------------------------------------------------------
 *
 * offset 0  u32 payload bytes   offset 4  u32 kind   offset 8  u64 request id   offset 16  payload, JSON text
 *
 * Little-endian.  Request ids are the front's, unique among live requests, never 0. */
enum {
    AP_WORKER_JOB_BYTES_MAX = 64 * 1024 * 1024, /* a payload to the worker */
    AP_WORKER_EVENT_BYTES_MAX = 1024 * 1024,    /* a payload from the worker */
    AP_WORKER_REQUESTS_MAX = 1024,              /* live requests of one worker */
    AP_WORKER_TOP_LOGPROBS_MAX = 20             /* likeliest tokens told beside a drawn one */
};

typedef enum ap_worker_kind {
    /* front -> worker */
    AP_WORKER_JOB = 1,
    AP_WORKER_CANCEL = 2,
    AP_WORKER_STATS = 3,
    /* worker -> front */
    AP_WORKER_READY = 16,
    AP_WORKER_ACCEPTED = 17,
    AP_WORKER_TEXT = 18,
    AP_WORKER_DONE = 19,
    AP_WORKER_ERROR = 20,
    AP_WORKER_STATS_REPLY = 21
} ap_worker_kind;

/* ---- The front's handle --------------------------------------------------- */

typedef enum ap_sandbox_mode {
    AP_SANDBOX_FULL,   /* start fails where the kernel lacks a part of the sandbox */
    AP_SANDBOX_REDUCED /* --sandbox=reduced: parts that the kernel lacks are left out, and READY says which */
} ap_sandbox_mode;

/* A LoRA adapter's files, open for reading.  0: none; 1: a GGUF file; 2: adapter_config.json and adapter_model.safetensors. */
typedef struct ap_adapter_files {
    unsigned count;
    int fds[2];
} ap_adapter_files;

/* Zero means the engine's own choice for all numbers. */
typedef struct ap_worker_options {
    int model_fd;             /* the packed file, open for reading; stays the caller's */
    ap_adapter_files adapter; /* stay the caller's */
    const char *name;         /* for messages and for `ps` */
    unsigned threads;
    const char *isa; /* NULL: the best */
    uint32_t context_tokens;
    ap_kv_type kv_type;
    uint64_t kv_bytes;
    uint32_t step_tokens;
    uint32_t requests_max; /* at most AP_WORKER_REQUESTS_MAX */
    uint64_t memory_bytes_max; /* see aperto.h */
    ap_sandbox_mode sandbox;
} ap_worker_options;

typedef struct ap_worker ap_worker;

/* One thing the worker said, checked.  Pointers are borrowed for the call. */
typedef struct ap_worker_event {
    ap_worker_kind kind; /* READY … STATS_REPLY */
    uint64_t id;         /* 0 for READY and STATS_REPLY */
    const json_t *body; /* READY: {"model":{…},"engine":{…},"sandbox":"…"}; STATS_REPLY: the engine's numbers;
                           else as sent */

    /* ACCEPTED, DONE; ERROR if known, else 0 */
    uint32_t prompt_tokens;
    /* ACCEPTED: names of kwargs the template does not read, ", " between; or NULL */
    const char *no_effect;
    /* TEXT, DONE: valid UTF-8, NUL-terminated, perhaps empty */
    const char *text;
    size_t text_length;
    /* TEXT: array of {"id","text","logprob","bytes":[…],"top":[{"id","text","logprob","bytes":[…]}]}, or
     * NULL. A logprob of minus infinity arrives as -9999. */
    const json_t *tokens;
    /* TEXT, DONE of a chat: what the model thought, apart from the text; may be NULL */
    const char *reasoning;
    size_t reasoning_length;
    /* TEXT, DONE of a chat: what came of calls of tools, in order: array of {"index","name","id"} where one begins ("id" only
     * if the model gave one) and {"index","arguments"} for more of its arguments; or NULL */
    const json_t *calls;
    /* DONE */
    ap_finish finish;
    const char *stop; /* the stop string that ended it, or NULL */
    uint32_t completion_tokens;
    double prompt_ms, completion_ms;
    /* ERROR */
    ap_status status;
    const char *message;     /* one line */
    const char *param;       /* the field of the job to blame ("messages", "prompt", "logit_bias"), or NULL */
    uint32_t context_tokens; /* with AP_E_CONTEXT */
} ap_worker_event;
typedef void ap_worker_event_fn(void *context, const ap_worker_event *event);

/* Starts the program again (/proc/self/exe worker …) with socket and model as its
 * only descriptors, in its own session.  The event READY, or a failure of
 * ap_worker_receive with the worker's last words, follows.  A front with
 * threads may call it. */
ap_status ap_worker_start(ap_worker **out, const ap_worker_options *options, ap_error *err);
/* Blocks until READY (AP_OK), the worker's end (AP_E_WORKER or what it reported), or
 * the time limit (AP_E_WORKER; the worker lives on). */
ap_status ap_worker_wait_ready(ap_worker *worker, unsigned timeout_ms, ap_error *err);

int ap_worker_fd(const ap_worker *worker);            /* to poll; stays the handle's */
short ap_worker_poll_events(const ap_worker *worker); /* POLLIN, and POLLOUT while something is unsent */
pid_t ap_worker_pid(const ap_worker *worker);
bool ap_worker_is_ready(const ap_worker *worker);
size_t ap_worker_live_count(const ap_worker *worker);  /* requests without DONE or ERROR yet */
const json_t *ap_worker_info(const ap_worker *worker); /* READY's body, borrowed; NULL before */
const char *
ap_worker_sandbox(const ap_worker *worker); /* "full", or "reduced: no Landlock, …"; "" before READY */

/* Sends a job (JSON, see docs in job.c).  AP_E_ARG: id 0 or live already; AP_E_LIMIT: above
 * AP_WORKER_JOB_BYTES_MAX; AP_E_FULL: too many requests or unsent bytes, try later; AP_E_STATE: not
 * ready, or dead.  After a failure no event comes for this id. */
ap_status ap_worker_send(ap_worker *worker, uint64_t id, const char *json, size_t length, ap_error *err);
/* DONE with AP_FINISH_CANCELLED follows, or whatever had ended it before.  Fine for an id that is not live.
 */
ap_status ap_worker_cancel(ap_worker *worker, uint64_t id);
/* Asks for STATS_REPLY. */
ap_status ap_worker_ask_stats(ap_worker *worker);
/* Sends what is unsent, then decodes every complete frame.  AP_E_WORKER once the
 * process is gone or broke the protocol: the live requests got ERROR with AP_E_WORKER first, err tells how it
 * died, and only ap_worker_stop makes sense from then on.  fn must not stop the worker. */
ap_status ap_worker_receive(ap_worker *worker, ap_worker_event_fn *fn, void *context, ap_error *err);
/* Hangs up, waits up to grace_ms for it to end, kills it, reaps it.  Blocks.  NULL is fine; no events. */
void ap_worker_stop(ap_worker **worker, unsigned grace_ms);

/* main() of the program hands over here when its first argument is "worker"; the
 * result is the exit status. */
int ap_worker_main(int argc, char **argv);

/* ---- One-shots ------------------------------------------------------------ */

/* The child's side; talks to the parent through a pipe. */
typedef struct ap_oneshot ap_oneshot;

/* Runs in the child, in the sandbox, with the kept descriptors under their old numbers.
 * Memory is a copy of the parent's; nothing written to it comes back. */
typedef ap_status ap_oneshot_fn(ap_oneshot *self, void *context, ap_error *err);

/* Sends result bytes to the parent.  Fails when the parent's output function failed or its limit is reached.
 */
ap_status ap_oneshot_write(ap_oneshot *self, const void *bytes, size_t count, ap_error *err);
/* An ap_progress whose context is the ap_oneshot; at most about twenty reports a second travel. */
void ap_oneshot_progress(void *self, uint64_t done, uint64_t total);

typedef struct ap_oneshot_options {
    const int *fds; /* kept open, for reading: at most 317 (the shards of a large model) */
    size_t fd_count;
    int output_fd; /* kept open, may also be written and cut to size (import); -1: none */
    ap_sandbox_mode sandbox;
    uint64_t result_bytes_max; /* 0: 64 MiB */
    /* Both run in the parent, in the calling thread; both may be NULL.  Result bytes are from
     * an untrusted process: treat them as text from a stranger. */
    ap_status (*result)(void *context, const char *bytes, size_t count, ap_error *err);
    ap_progress *progress;
    void *context; /* of result and progress */
} ap_oneshot_options;

/* Blocks until the child ended.  What fn returned comes back as status and message;
 * AP_E_WORKER if the child died, with how.  For result bytes in memory give
 * ap_oneshot_collect and an ap_buf. */
ap_status ap_worker_oneshot(ap_oneshot_fn *fn, void *fn_context, const ap_oneshot_options *options,
                            ap_error *err);
ap_status ap_oneshot_collect(void *buf, const char *bytes, size_t count, ap_error *err);

/* ---- Supervisor ----------------------------------------------------------- */

/* Keeps one worker alive: starts it, waits for READY with a limit, restarts it when it
 * dies: at once the first time, then after 1, 2, 4 … 30 s; a worker that was
 * ready for a minute starts the count anew. */
typedef struct ap_supervisor ap_supervisor;

typedef enum ap_supervisor_state {
    AP_SUPERVISOR_STARTING, /* process runs, READY not seen */
    AP_SUPERVISOR_READY,
    AP_SUPERVISOR_WAITING /* died; restarts later */
} ap_supervisor_state;

/* Opens the model anew for each start; the descriptor becomes the supervisor's.  May be slow (digest). */
typedef ap_status ap_supervisor_open_fn(void *context, int *model_fd, ap_error *err);

typedef struct ap_supervisor_options {
    ap_worker_options worker; /* model_fd is not used; strings are copied */
    ap_supervisor_open_fn *open;
    void *open_context;
    unsigned ready_timeout_ms; /* 0: 60,000 */
} ap_supervisor_options;

/* Starts the first worker.  All `now_ms` are from one clock that never goes back. */
ap_status ap_supervisor_create(ap_supervisor **out, const ap_supervisor_options *options, uint64_t now_ms,
                               ap_error *err);
/* Receives from the worker, notices death and time-out, restarts when due.  Call when the
 * descriptor is ready and when the time of ap_supervisor_timeout_ms is over. */
void ap_supervisor_step(ap_supervisor *supervisor, uint64_t now_ms, ap_worker_event_fn *fn, void *context);
/* For poll(): milliseconds until step has something to do, -1 if nothing is planned. */
int ap_supervisor_timeout_ms(const ap_supervisor *supervisor, uint64_t now_ms);
/* The worker to send to; NULL unless READY.  Valid until the next step. */
ap_worker *ap_supervisor_worker(ap_supervisor *supervisor);
/* The descriptor to poll and for what; -1 and 0 while WAITING.  Changes at a restart. */
int ap_supervisor_fd(const ap_supervisor *supervisor);
short ap_supervisor_poll_events(const ap_supervisor *supervisor);
ap_supervisor_state ap_supervisor_state_of(const ap_supervisor *supervisor);
/* For /readyz: "ready", "starting", "restarts in 4 s: it died by signal 9 (Killed)". */
void ap_supervisor_describe(const ap_supervisor *supervisor, uint64_t now_ms, char *text, size_t bytes);
uint64_t ap_supervisor_restarts(const ap_supervisor *supervisor);
/* Why the last worker that ended did so; AP_OK if none has. */
ap_status ap_supervisor_last_failure(const ap_supervisor *supervisor, ap_error *err);
void ap_supervisor_destroy(ap_supervisor **supervisor, unsigned grace_ms);

#endif
