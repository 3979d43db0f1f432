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

/* Writes the message (cut to fit, control characters replaced by '?') and
 * returns `status`.  `err` may be NULL. */
ap_status ap_fail(ap_error *err, ap_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before a message already there, for the caller who knows the file. */
void ap_error_prefix(ap_error *err, const char *prefix);

/* The usual answer when memory ends: says how many bytes were wanted. */
ap_status ap_fail_nomem(ap_error *err, size_t bytes);

#define AP_TRY(expression)                           \
    do {                                             \
        ap_status ap_try_status_ = (expression);     \
        if (ap_try_status_ != AP_OK)                 \
            return ap_try_status_;                   \
    } while (0)

/* True by construction; a failure is our bug.  Checked in debug builds. */
#define ap_assert(condition) assert(condition)

#endif
