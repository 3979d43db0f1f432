/* golden.h - a folder of golden data: a model as people publish it, and what its reference computes (README.md).
 *
 * Paths begin beside the tests: "golden/arch/llama".
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef AP_TESTS_GOLDEN_H
#define AP_TESTS_GOLDEN_H

#include "aperto.h"
#include "base/json.h"

/* Of the largest logit's magnitude. */
#define GOLDEN_TOLERANCE 2e-5

/* The files of a folder, open. */
typedef struct golden_folder {
    ap_import_file files[16];
    char names[16][256];
    size_t count;
} golden_folder;
void golden_open(golden_folder *out, const char *folder);
void golden_close(golden_folder *folder);

/* Packs the folder's files into `packed`. */
ap_status golden_import(const char *folder, int packed, bool decode_to_f32, ap_import_report *report, ap_error *error);
/* record.json; for the caller to json_decref. */
json_t *golden_record(const char *folder);
/* How far a prompt's values are from the record's. */
typedef struct golden_distance {
    double largest, worst; /* magnitude recorded, and difference; of an encoder the latter is relative to each kind's largest, and that 1 */
    size_t other_tops;     /* positions where another token has the largest logit */
} golden_distance;
/* Of a decoder logits; of an encoder final vectors, embedding and scores. */
golden_distance golden_compare(const ap_model *model, const ap_adapter *adapter, const json_t *prompt);
/* Every prompt of a record (adapter NULL: none): fails the test if a value is off by more than the tolerance, or another logit
 * is the largest.  Returns the worst difference, relative to the largest value of its prompt. */
double golden_run(const ap_model *model, const ap_adapter *adapter, const json_t *record);
/* The logits of all prompts (of an encoder final vectors, embedding and scores), one behind the other, as bits; for the caller to ap_buf_deinit. */
ap_buf golden_logits(const ap_model *model, const json_t *record);

/* Runs `test` once for each folder in "golden/NAME" with its name as *state; 1 if there is none. */
int golden_each(const char *group, const char *parent, void (*test)(void **state));

#endif
