/* SPDX-License-Identifier: Apache-2.0 */
#include "golden.h"

#include <dirent.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "support.h"

enum { FOLDERS_MAX = 100, RECORD_BYTES_MAX = 32 << 20, RECORD_VALUES_MAX = 1 << 22, TOKENS_MAX = 256 };

static const char *path_of(const char *folder, const char *file)
{
    static char path[2048];
    (void)snprintf(path, sizeof path, "%s%s%s", ap_test_file(folder), file ? "/" : "", file ? file : "");
    return path;
}

void golden_open(golden_folder *out, const char *folder)
{
    *out = (golden_folder){.count = 0};
    DIR *dir = opendir(path_of(folder, NULL));
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.' || strcmp(entry->d_name, "record.json") == 0)
            continue;
        size_t i = out->count++;
        assert_true(i < sizeof out->files / sizeof out->files[0]);
        (void)snprintf(out->names[i], sizeof out->names[i], "%s", entry->d_name);
        out->files[i].name = out->names[i];
        assert_ok(ap_file_open(path_of(folder, entry->d_name), &out->files[i].fd, err));
    }
    closedir(dir);
}

void golden_close(golden_folder *folder)
{
    for (size_t i = 0; i < folder->count; i++)
        close(folder->files[i].fd);
}

ap_status golden_import(const char *folder, int packed, bool decode_to_f32, ap_import_report *report, ap_error *error)
{
    golden_folder f;
    golden_open(&f, folder);
    ap_import_options options = {.size = sizeof options, .decode_to_f32 = decode_to_f32};
    ap_status status = ap_model_import_files(f.files, f.count, packed, &options, report, error);
    golden_close(&f);
    return status;
}

json_t *golden_record(const char *folder)
{
    ap_buf text;
    json_t *record;
    assert_ok(ap_file_read(path_of(folder, "record.json"), RECORD_BYTES_MAX, &text, err));
    assert_ok(ap_json_parse(&record, ap_buf_str(&text), (ap_json_limits){RECORD_BYTES_MAX, RECORD_VALUES_MAX}, err));
    ap_buf_deinit(&text);
    return record;
}

/* ---- One prompt ---- */

typedef struct comparison {
    const json_t *rows; /* expected, one per position */
    size_t seen;
    double worst;
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
    if (top != expected_top)
        fail_msg("position %zu: the largest logit is that of token %u, expected is %u", position, top, expected_top);
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

typedef void row_function(void *context, size_t position, const float *logits, uint32_t count);

/* Computes all rows of a prompt; gives back how many. */
static size_t compute(const ap_model *model, const ap_adapter *adapter, const json_t *prompt, row_function *fn, void *context)
{
    int32_t ids[TOKENS_MAX];
    const json_t *tokens;
    uint32_t limit = 0;
    assert_ok(ap_json_get_array(prompt, "tokens", &tokens, err));
    if (ap_json_find(prompt, "context")) /* the limit decides which factors of a rotary embedding hold */
        assert_ok(ap_json_get_u32(prompt, "context", &limit, err));
    size_t count = json_array_size(tokens);
    assert_in_range(count, 1, TOKENS_MAX);
    for (size_t i = 0; i < count; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(tokens, i));
    ap_engine_options options = {.size = sizeof options, .kv_type = AP_KV_F32, .threads = 1, .requests_max = 1, .context_tokens = limit,
                                 .adapter = adapter};
    ap_engine *engine;
    assert_ok(ap_engine_create(&engine, model, &options, err));
    assert_ok(ap_engine_logits(engine, ids, count, 0, false, fn, context, err));
    ap_engine_destroy(&engine);
    return count;
}

static double run_prompt(const ap_model *model, const ap_adapter *adapter, const json_t *prompt)
{
    const json_t *rows;
    assert_ok(ap_json_get_array(prompt, "logits", &rows, err));
    comparison c = {.rows = rows};
    double largest = largest_of(rows);
    size_t count = compute(model, adapter, prompt, compare_row, &c);
    assert_int_equal(json_array_size(rows), count);
    assert_int_equal(c.seen, count);
    if (!(c.worst <= GOLDEN_TOLERANCE * largest))
        fail_msg("%zu tokens: a logit differs by %.2e of the largest, %.0e is allowed", count, c.worst / largest, GOLDEN_TOLERANCE);
    return c.worst / largest;
}

static void keep_row(void *context, size_t position, const float *logits, uint32_t count)
{
    assert_ok(ap_buf_add(context, logits, count * sizeof *logits, err));
}

static void keep_values(void *context, size_t sequence, const float *values, size_t rows, uint32_t columns)
{
    assert_ok(ap_buf_add(context, values, rows * columns * sizeof *values, err));
}

/* Of an encoder: what its head says of the final vectors. */
static void encode(const ap_model *model, const json_t *prompt, ap_buf *all)
{
    int32_t ids[TOKENS_MAX];
    const json_t *tokens;
    assert_ok(ap_json_get_array(prompt, "tokens", &tokens, err));
    size_t count = json_array_size(tokens);
    assert_in_range(count, 1, TOKENS_MAX);
    for (size_t i = 0; i < count; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(tokens, i));
    ap_engine_options options = {.size = sizeof options, .threads = 1, .requests_max = 1};
    ap_engine *engine;
    assert_ok(ap_engine_create(&engine, model, &options, err));
    assert_ok(ap_engine_encode(engine, &(ap_sequence){ids, NULL, count}, 1, AP_ENCODE_SCORES, keep_values, all, err));
    ap_engine_destroy(&engine);
}

ap_buf golden_logits(const ap_model *model, const json_t *record)
{
    ap_buf all = {0};
    const json_t *prompts, *prompt;
    size_t index;
    assert_ok(ap_json_get_array(record, "prompts", &prompts, err));
    json_array_foreach(prompts, index, prompt)
    {
        if (ap_model_info_of(model)->is_encoder)
            encode(model, prompt, &all);
        else
            (void)compute(model, NULL, prompt, keep_row, &all);
    }
    assert_true(all.len > 0);
    return all;
}

double golden_run(const ap_model *model, const ap_adapter *adapter, const json_t *record)
{
    const json_t *prompts, *prompt;
    size_t index;
    double worst = 0;
    assert_ok(ap_json_get_array(record, "prompts", &prompts, err));
    assert_true(json_array_size(prompts) > 0);
    json_array_foreach(prompts, index, prompt)
        worst = fmax(worst, run_prompt(model, adapter, prompt));
    return worst;
}

/* ---- All folders ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct CMUnitTest *)a)->name, ((const struct CMUnitTest *)b)->name);
}

int golden_each(const char *group, const char *parent, void (*test)(void **state))
{
    static char names[FOLDERS_MAX][256];
    static struct CMUnitTest tests[FOLDERS_MAX];
    size_t count = 0;
    DIR *dir = opendir(path_of(parent, NULL));
    for (struct dirent *entry; dir && (entry = readdir(dir)) && count < FOLDERS_MAX;) {
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(names[count], sizeof names[0], "%s", entry->d_name);
        tests[count] = (struct CMUnitTest){.name = names[count], .test_func = test, .initial_state = names[count]};
        count++;
    }
    if (dir)
        closedir(dir);
    if (count == 0)
        return 1; /* there is nothing to agree with */
    qsort(tests, count, sizeof tests[0], by_name);
    return _cmocka_run_group_tests(group, tests, count, NULL, NULL);
}
