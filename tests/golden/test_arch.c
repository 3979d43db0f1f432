/* Every family against its reference: tiny models of golden/arch/, each a folder as people publish them with a record of
 * what the reference implementation computes in float64 for a few prompts (golden/README.md).
 *
 * Each folder is a test of its own name.  Of an encoder final vectors, embedding and scores count.  Then each feature of the
 * model is taken away (flips.c), and the record must notice: else it would not prove that the feature is right.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "aperto.h"
#include "base/json.h"
#include "flips.h"
#include "support.h"
#include "tiny_model.h"

enum { FOLDERS_MAX = 100, FILES_MAX = 16, RECORD_BYTES_MAX = 32 << 20, RECORD_VALUES_MAX = 1 << 22, TOKENS_MAX = 256 };

/* Of the largest logit's magnitude. */
static const double TOLERANCE = 2e-5;
/* So many tolerances a logit moves at least when a feature is taken away. */
static const double NOTICED = 100;

static char *path_of(const char *folder, const char *file)
{
    static char path[2048];
    (void)snprintf(path, sizeof path, "%s/%s%s%s", ap_test_file("golden/arch"), folder, file ? "/" : "", file ? file : "");
    return path;
}

static void import(const char *folder, int packed)
{
    ap_import_file files[FILES_MAX];
    static char names[FILES_MAX][256];
    size_t count = 0;
    DIR *dir = opendir(path_of(folder, NULL));
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.' || strcmp(entry->d_name, "record.json") == 0)
            continue;
        assert_true(count < FILES_MAX);
        (void)snprintf(names[count], sizeof names[0], "%s", entry->d_name);
        files[count].name = names[count];
        assert_ok(ap_file_open(path_of(folder, entry->d_name), &files[count++].fd, err));
    }
    closedir(dir);
    ap_import_options options = {.size = sizeof options};
    ap_import_report report;
    ap_error error = {0};
    ap_status status = ap_model_import_files(files, count, packed, &options, &report, &error);
    for (size_t i = 0; i < count; i++)
        close(files[i].fd);
    if (status != AP_OK)
        fail_msg("%s: %s", folder, error.message);
}

/* ---- One prompt ---- */

typedef struct comparison {
    const json_t *rows; /* expected, one per position */
    size_t seen, other_tops; /* positions whose largest logit is another token's than expected */
    double largest, worst;
} comparison;

static void compare_row(void *context, size_t position, const float *logits, uint32_t count)
{
    comparison *c = context;
    const json_t *row = json_array_get(c->rows, position);
    assert_int_equal(position, c->seen++);
    assert_int_equal(json_array_size(row), count);
    uint32_t expected_top = 0, top = 0;
    for (uint32_t i = 0; i < count; i++) {
        double difference = fabs((double)logits[i] - json_number_value(json_array_get(row, i)));
        if (!(difference <= c->worst)) /* NaN is the worst of all */
            c->worst = difference;
        top = logits[i] > logits[top] ? i : top;
        expected_top = json_number_value(json_array_get(row, i)) > json_number_value(json_array_get(row, expected_top)) ? i : expected_top;
    }
    c->other_tops += top != expected_top;
}

static double largest_of(const json_t *rows)
{
    double largest = 0;
    size_t r, i;
    const json_t *row, *value;
    json_array_foreach(rows, r, row)
        json_array_foreach(row, i, value)
            largest = fmax(largest, fabs(json_number_value(value)));
    return largest;
}

/* ---- One prompt of an encoder ---- */

static void compare_rows(void *context, size_t sequence, const float *values, size_t rows, uint32_t columns)
{
    comparison *c = context;
    assert_int_equal(sequence, 0);
    assert_int_equal(rows, json_array_size(c->rows));
    for (size_t i = 0; i < rows; i++)
        compare_row(c, i, values + i * columns, columns);
}

/* The mean of the recorded rows, or one of them: as one row. */
static json_t *pooled(const json_t *rows, ap_pooling pooling)
{
    size_t count = json_array_size(rows), one = pooling == AP_POOLING_LAST ? count - 1 : 0;
    if (pooling != AP_POOLING_MEAN)
        return json_pack("[O]", json_array_get(rows, one));
    json_t *mean = json_array();
    for (size_t i = 0; i < json_array_size(json_array_get(rows, 0)); i++) {
        double sum = 0;
        for (size_t t = 0; t < count; t++)
            sum += json_number_value(json_array_get(json_array_get(rows, t), i));
        json_array_append_new(mean, json_real(sum / (double)count));
    }
    return json_pack("[o]", mean);
}

/* The worst of final vectors, embedding and scores, each relative to its own largest value. */
static comparison run_encoder(const ap_model *model, const json_t *prompt, ap_engine *engine, ap_sequence sequence)
{
    const json_t *hidden, *logits;
    assert_ok(ap_json_get_array(prompt, "hidden", &hidden, err));
    assert_ok(ap_json_get_array(prompt, "logits", &logits, err));
    json_t *expected[] = {
        [AP_ENCODE_HIDDEN] = json_incref((json_t *)hidden),
        [AP_ENCODE_EMBEDDING] = pooled(hidden, ap_model_info_of(model)->pooling),
        [AP_ENCODE_SCORES] = json_pack("[O]", logits),
    };
    comparison all = {.largest = 1};
    for (int i = AP_ENCODE_HIDDEN; i <= AP_ENCODE_SCORES; i++) {
        comparison c = {.rows = expected[i], .largest = largest_of(expected[i])};
        assert_ok(ap_engine_encode(engine, &sequence, 1, (ap_encoding)i, compare_rows, &c, err));
        assert_int_equal(c.seen, json_array_size(expected[i]));
        if (!(c.worst <= all.worst * c.largest))
            all.worst = c.worst / c.largest;
        all.other_tops += i == AP_ENCODE_SCORES ? c.other_tops : 0;
        json_decref(expected[i]);
    }
    return all;
}

static comparison run_prompt(const ap_model *model, const json_t *prompt)
{
    uint8_t types[TOKENS_MAX] = {0};
    int32_t ids[TOKENS_MAX];
    const json_t *tokens, *rows;
    uint32_t context = 0;
    assert_ok(ap_json_get_array(prompt, "tokens", &tokens, err));
    assert_ok(ap_json_get_array(prompt, "logits", &rows, err));
    if (ap_json_find(prompt, "context")) /* the limit decides which factors of a rotary embedding hold */
        assert_ok(ap_json_get_u32(prompt, "context", &context, err));
    size_t count = json_array_size(tokens);
    assert_in_range(count, 1, TOKENS_MAX);
    for (size_t i = 0; i < count; i++) {
        ids[i] = (int32_t)json_integer_value(json_array_get(tokens, i));
        types[i] = (uint8_t)json_integer_value(json_array_get(ap_json_find(prompt, "types"), i));
    }
    ap_engine_options options = {.size = sizeof options, .kv_type = AP_KV_F32, .threads = 1, .requests_max = 1, .context_tokens = context};
    ap_engine *engine;
    comparison c = {.rows = rows, .largest = largest_of(rows)};
    assert_ok(ap_engine_create(&engine, model, &options, err));
    if (ap_json_find(prompt, "hidden")) {
        c = run_encoder(model, prompt, engine, (ap_sequence){ids, types, count});
    } else {
        assert_int_equal(json_array_size(rows), count);
        assert_ok(ap_engine_logits(engine, ids, count, 0, false, compare_row, &c, err));
        assert_int_equal(c.seen, count);
    }
    ap_engine_destroy(&engine);
    return c;
}

/* ---- One folder ---- */

static void check_values(const ap_model *model, const json_t *prompts, const char *folder)
{
    const json_t *prompt;
    size_t index;
    double worst = 0;
    json_array_foreach(prompts, index, prompt) {
        comparison c = run_prompt(model, prompt);
        if (!(c.worst <= TOLERANCE * c.largest))
            fail_msg("prompt %zu: a logit differs by %.2e of the largest, %.0e is allowed", index, c.worst / c.largest, TOLERANCE);
        if (c.other_tops)
            fail_msg("prompt %zu: at %zu positions another token has the largest logit", index, c.other_tops);
        worst = fmax(worst, c.worst / c.largest);
    }
    print_message("%s: %.1e of the largest logit\n", folder, worst);
}

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
        json_array_foreach(prompts, index, prompt) {
            comparison c = run_prompt(model, prompt);
            most = c.worst <= c.largest ? fmax(most, c.worst / c.largest) : 1;
        }
    ap_model_close(&model);
    if (is_there && most < NOTICED * TOLERANCE)
        fail_msg("%s: taken away it moves a logit by %.1e of the largest only: the record does not see it", flip->name, most);
    return is_there;
}

static void the_reference_agrees(void **state)
{
    const char *folder = *state;
    int packed = ap_test_temporary();
    import(folder, packed);
    ap_buf text;
    json_t *record;
    assert_ok(ap_file_read(path_of(folder, "record.json"), RECORD_BYTES_MAX, &text, err));
    assert_ok(ap_json_parse(&record, ap_buf_str(&text), (ap_json_limits){RECORD_BYTES_MAX, RECORD_VALUES_MAX}, err));
    ap_buf_deinit(&text);
    const json_t *prompts;
    assert_ok(ap_json_get_array(record, "prompts", &prompts, err));
    assert_true(json_array_size(prompts) > 0);
    ap_model *model;
    assert_ok(ap_model_open(&model, packed, err));
    check_values(model, prompts, folder);
    ap_model_close(&model);
    size_t features = 0;
    for (size_t i = 0; i < ap_flip_count; i++)
        features += check_flip(packed, &ap_flips[i], prompts);
    assert_true(features > 2);
    json_decref(record);
    close(packed);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct CMUnitTest *)a)->name, ((const struct CMUnitTest *)b)->name);
}

int main(void)
{
    static char names[FOLDERS_MAX][256];
    static struct CMUnitTest tests[FOLDERS_MAX];
    size_t count = 0;
    DIR *dir = opendir(ap_test_file("golden/arch"));
    for (struct dirent *entry; dir && (entry = readdir(dir)) && count < FOLDERS_MAX;) {
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(names[count], sizeof names[0], "%s", entry->d_name);
        tests[count] = (struct CMUnitTest){.name = names[count], .test_func = the_reference_agrees, .initial_state = names[count]};
        count++;
    }
    if (dir)
        closedir(dir);
    if (count == 0)
        return 1; /* there is nothing to agree with */
    qsort(tests, count, sizeof tests[0], by_name);
    return _cmocka_run_group_tests("arch", tests, count, NULL, NULL);
}
