/* sandbox.h - the room without doors: what a worker may still do once it is inside.
 *
 * After ap_sandbox_enter the process cannot gain privileges, open, create or
 * stat a path, make a socket, start a program or trace another; a system call
 * outside the list ends the process with SIGSYS.  It keeps the descriptors it was
 * given, and these bound what it can reach: a model is open for reading only.
 *
 * Entered once, while the process has one thread; threads started later are
 * inside too.  Everything that a library would open lazily (time zone, random
 * seeds, memory arenas) is asked for before the door closes.
 *
 * Code that runs here looks at a descriptor with ap_file_stamp_of and not with
 * libc's fstat: that is the call newfstatat with an empty path, a filter cannot see
 * whether a path is empty, and Landlock lets any path be looked at.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_WORKER_SANDBOX_H
#define AP_WORKER_SANDBOX_H

#include "worker/worker.h"

enum { AP_SANDBOX_CALLS_MAX = 45, AP_SANDBOX_STATE_BYTES = 200, AP_SANDBOX_FDS_MAX = 320 };

typedef enum ap_sandbox_use {
    AP_SANDBOX_USE_EVERY = 1,  /* serving workers and one-shots */
    AP_SANDBOX_USE_OUTPUT = 2, /* one-shots with an output file */
    AP_SANDBOX_USE_TOOLS = 4   /* this build has a sanitizer */
} ap_sandbox_use;

/* One line of the list.  `test` narrows the call by an argument. */
typedef enum ap_sandbox_test {
    AP_SANDBOX_ANY,
    AP_SANDBOX_NO_EXEC,     /* mmap, mprotect: never executable */
    AP_SANDBOX_THREAD_ONLY, /* clone: a thread of this process, nothing else */
    AP_SANDBOX_SELF,        /* tgkill: this process */
    AP_SANDBOX_ABSENT       /* answered ENOSYS */
} ap_sandbox_test;

typedef struct ap_sandbox_call {
    int number; /* -1 where this machine has no such call */
    const char *name;
    ap_sandbox_use use;
    ap_sandbox_test test;
    const char *reason;
} ap_sandbox_call;

/* The list, for the filter, the tests and the documents. */
const ap_sandbox_call *ap_sandbox_calls(size_t *count);

typedef struct ap_sandbox_options {
    ap_sandbox_mode mode;
    const int *fds; /* kept; all others are closed */
    size_t fd_count;
    bool has_output; /* one of fds is a file to write */
} ap_sandbox_options;

/* On AP_OK `state` says what is in force: "full", or "reduced: …".  AP_E_SANDBOX: a part is
 * missing and the mode is full; the process is then half-way in and must end. */
ap_status ap_sandbox_enter(const ap_sandbox_options *options, char state[AP_SANDBOX_STATE_BYTES],
                           ap_error *err);

#endif
