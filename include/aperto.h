/* aperto.h - the public C interface of libaperto.
 *
 * The library opens a packed model, turns text into tokens and back, renders
 * chat templates and runs the engine: many requests at once, one step at a
 * time.  Everything that can fail returns an ap_status and, where the caller
 * passes one, fills an ap_error with one line that names field, value and limit.
 *
 * Nothing here prints, exits, opens a path or reads the environment: files
 * arrive as descriptors.  A handle belongs to one thread at a time.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef APERTO_H
#define APERTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define AP_API __attribute__((visibility("default")))

/* The version of the arithmetic (docs/law.md).  Two programs with the same
 * number produce the same bits for the same model, prompt and seed. */
#define AP_LAW_VERSION 1

/* Every status, once.  Numbers are never reused. */
#define AP_STATUS_LIST(X)                                             \
    X(0, OK, "ok")                                                    \
    X(1, E_NOMEM, "out of memory")                                    \
    X(2, E_IO, "reading or writing failed")                           \
    X(3, E_FORMAT, "the file is not what it says it is")              \
    X(4, E_LIMIT, "a limit was exceeded")                             \
    X(5, E_UNSUPPORTED, "not supported")                              \
    X(6, E_ARG, "a value is not allowed")                             \
    X(7, E_FULL, "no room at the moment")                             \
    X(8, E_NOTFOUND, "not found")                                     \
    X(9, E_CANCELLED, "cancelled")                                    \
    X(10, E_CONTEXT, "the prompt is longer than the context")         \
    X(11, E_TEMPLATE, "the chat template refused")                    \
    X(12, E_NUMERIC, "a result is not a finite number")               \
    X(13, E_STATE, "not possible in this state")                      \
    X(14, E_WORKER, "the worker ended")                               \
    X(15, E_SANDBOX, "the sandbox could not be entered")              \
    X(16, E_INTEGRITY, "the bytes do not match their digest")         \
    X(17, E_BUG, "an internal error")

typedef enum ap_status {
#define X(number, name, text) AP_##name = number,
    AP_STATUS_LIST(X)
#undef X
} ap_status;

/* Detail of a failure, in storage of the caller; no allocation. */
typedef struct ap_error {
    ap_status status;
    char message[480]; /* one line, no newline, never empty after a failure */
} ap_error;

/* The fixed text of a status, "unknown status" for a number not in the list. */
AP_API const char *ap_status_text(ap_status status);

#ifdef __cplusplus
}
#endif
#endif
