/* error.h - how a failure travels: a status up the stack, one line beside it.
 *
 * Whoever knows the detail writes it with ap_fail; whoever can act reads it.
 *
 *     if (count > limit)
 *         return ap_fail(err, AP_E_LIMIT, "tensor count %" PRIu64 " is above %d", count, limit);
 *     AP_TRY(ap_file_read(&file, buf, n, err));
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_BASE_ERROR_H
#define AP_BASE_ERROR_H

#include <assert.h>
#include <inttypes.h>
#include "aperto.h"

/* ap_fail(err, status, format, ...): writes the message (cut to fit, control
 * characters replaced by '?') and is `status`.  `err` may be NULL.  A macro, so
 * that the compiler sees that a failure is never AP_OK. */
#define ap_fail(err, status, ...) (ap_error_write(err, status, __VA_ARGS__), (status))
void ap_error_write(ap_error *err, ap_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before a message already there, for the caller who knows the file. */
void ap_error_prefix(ap_error *err, const char *prefix);

/* The usual answer when memory ends: says how many bytes were wanted. */
#define ap_fail_nomem(err, bytes) ap_fail(err, AP_E_NOMEM, "out of memory: %zu bytes were wanted", (size_t)(bytes))

#define AP_TRY(expression)                           \
    do {                                             \
        ap_status ap_try_status_ = (expression);     \
        if (ap_try_status_ != AP_OK)                 \
            return ap_try_status_;                   \
    } while (0)

/* True by construction; a failure is our bug.  With NDEBUG it is compiled and not evaluated. */
#ifdef NDEBUG
#define ap_assert(condition) ((void)sizeof(!(condition)))
#else
#define ap_assert(condition) assert(condition)
#endif

#endif
