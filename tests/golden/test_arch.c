/* Every family against its reference: tiny models of golden/arch/, each a folder as people publish them with a record of
 * what the reference implementation computes in float64 for a few prompts (golden/README.md).
 *
 * Each folder is a test of its own name.  Of an encoder final vectors, embedding and scores count.  Then each feature of the
 * model is taken away (flips.c), and the record must notice: else it would not prove that the feature is right.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <unistd.h>

#include "flips.h"
#include "golden.h"
#include "support.h"
#include "tiny_model.h"

/* So many tolerances a value moves at least when a feature is taken away. */
static const double NOTICED = 100;

/* False if the model has no such feature. */
static bool check_flip(int packed, const ap_flip *flip, const json_t *prompts)
{
    ap_model *model;
    assert_ok(ap_model_open(&model, packed, err));
    bool is_there = flip->apply(model);
    const json_t *prompt;
    size_t index;
    double most = 0;
    if (is_there)
        json_array_foreach(prompts, index, prompt)
        {
            golden_distance d = golden_compare(model, NULL, prompt);
            most = d.worst <= d.largest ? fmax(most, d.worst / d.largest) : 1;
        }
    ap_model_close(&model);
    if (is_there && most < NOTICED * GOLDEN_TOLERANCE)
        fail_msg("%s: taken away it moves a value by %.1e of the largest only: the record does not see it", flip->name, most);
    return is_there;
}

static void the_reference_agrees(void **state)
{
    char folder[300];
    const json_t *prompts;
    ap_import_report report;
    ap_model *model;
    int packed = ap_test_temporary();
    (void)snprintf(folder, sizeof folder, "golden/arch/%s", (const char *)*state);
    assert_ok(golden_import(folder, packed, false, &report, err));
    json_t *record = golden_record(folder);
    assert_ok(ap_json_get_array(record, "prompts", &prompts, err));
    assert_ok(ap_model_open(&model, packed, err));
    print_message("%s: %.1e of the largest value\n", folder, golden_run(model, NULL, record));
    ap_model_close(&model);
    size_t features = 0;
    for (size_t i = 0; i < ap_flip_count; i++)
        features += check_flip(packed, &ap_flips[i], prompts);
    assert_true(features > 2);
    json_decref(record);
    close(packed);
}

int main(void) { return golden_each("arch", "golden/arch", the_reference_agrees); }
