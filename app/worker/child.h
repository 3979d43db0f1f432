/* child.h - what serving workers and one-shots share as child processes: their
 * standard error, a pipe to the front that is logged line by line, and the
 * sentence that tells how a child ended.
 *
 * A child never gets the front's own standard error: that may be a terminal, and a
 * terminal can be read, and does what it is told.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_WORKER_CHILD_H
#define AP_WORKER_CHILD_H

#include <sys/types.h>

#include "base/str.h"

enum { AP_WORDS_LOGGED_MAX = 100 };

typedef struct ap_words {
    int fd;         /* the pipe's end to read, -1: none */
    char line[300]; /* being collected */
    size_t length;
    char last[300];  /* the last whole line, one line, NUL-terminated */
    unsigned logged; /* lines so far; a child cannot fill the front's log */
} ap_words;

/* A pipe whose ends close on exec and never block: what a full pipe does not take is lost. */
ap_status ap_words_open(ap_words *words, int *write_end, ap_error *err);
/* Logs what is there, at most about 4 KiB a call, each line with the child's name before it. */
void ap_words_drain(ap_words *words, const char *name);
void ap_words_close(ap_words *words);

/* Kills the child if it still runs, takes its end, and writes how it ended as a sentence
 * without subject: "was ended by signal 11 (Segmentation fault)". */
void ap_child_reap(pid_t pid, bool kill_first, int *wait_status);
void ap_child_describe(int wait_status, const ap_words *words, char *text, size_t bytes);

/* In the child after fork, before anything else: own session, no blocked signals, default handlers.
 * Only calls that are safe after a fork of a process with threads. */
void ap_child_reset_signals(void);

#endif
