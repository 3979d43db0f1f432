/* store_case.h - what the tests of the store begin with: a data folder and two models as files.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEST_STORE_CASE_H
#define AP_TEST_STORE_CASE_H

#include "support.h"

#include "store/store.h"

extern char folder[], data[], first[], second[]; /* all is below folder; data folder; two models as GGUF files */

/* For the group: makes the folder, removes it. */
int make_models(void **state);
int remove_models(void **state);
/* Before each test: an empty store and two fresh files. */
int begin(void **state);

/* Paths, of which the last four are valid: "%s" of the format filled; in the store; of a blob. */
const char *at(const char *format, const char *part);
const char *in_data(const char *part);
const char *blob_of(const ap_store_entry *entry);

void write_file(const char *path, const char *bytes, size_t count);
void write_model(const char *path, uint64_t seed);
void remove_tree(const char *path);
/* File names of a part of the store that contain `word`. */
unsigned count_files(const char *part, const char *word);
ap_store *open_store(void);
ap_store_entry import(ap_store *store, const char *path, const char *name);

/* The call fails with this status, and its message has this word. */
#define assert_refused(wanted, word, expression)                                                          \
    do {                                                                                                  \
        ap_error refused_ = {0}, *err = &refused_;                                                        \
        ap_status got_ = (expression);                                                                    \
        if (got_ != (wanted) || !strstr(refused_.message, word))                                          \
            fail_msg("%s: %s (%s)", #expression, ap_status_text(got_), refused_.message);                 \
    } while (0)

#endif
