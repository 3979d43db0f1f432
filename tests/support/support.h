/* support.h - what the tests of every room share.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TESTS_SUPPORT_H
#define AP_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/file.h"
#include "base/str.h"

/* The path of a file of the large test data ("models/test-model.gguf").  Without
 * that data the running test is skipped, by name and counted. */
const char *ap_test_data(const char *relative);
/* The path of a file committed beside the tests ("format/tiny.gguf"). */
const char *ap_test_file(const char *relative);

/* Runs fn with its first, second, third … allocation failing until it succeeds.
 * Each failing run must return AP_E_NOMEM (or what fn turns it into) and must
 * leave nothing behind; fn is called with `context`. */
typedef ap_status ap_test_fn(void *context);
void ap_test_each_oom(ap_test_fn *fn, void *context);

/* How many times slower than usual code runs here: 1, or what APERTO_TEST_SLOWNESS says (valgrind, MemorySanitizer).
 * Limits of time are multiplied by it. */
unsigned ap_test_slowness(void);

/* A repeatable stream of numbers (SplitMix64). */
uint64_t ap_test_random(uint64_t *state);
/* In [-1, 1). */
float ap_test_uniform(uint64_t *state);

#define assert_ok(expression)                                                                          \
    do {                                                                                               \
        ap_error test_error_ = {0};                                                                    \
        ap_error *err = &test_error_;                                                                  \
        ap_status test_status_ = (expression);                                                         \
        if (test_status_ != AP_OK)                                                                     \
            fail_msg("%s: %s (%s)", #expression, ap_status_text(test_status_), test_error_.message);   \
    } while (0)

#endif
