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

/* ---- Against the record ---- */

typedef struct comparison {
    const json_t *rows; /* expected, one per position */
    size_t seen;
    golden_distance distance;
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
        if (!(difference <= c->distance.worst)) /* NaN is the worst of all */
            c->distance.worst = difference;
        top = logits[i] > logits[top] ? i : top;
        expected_top = json_number_value(json_array_get(row, i)) > json_number_value(json_array_get(row, expected_top)) ? i : expected_top;
    }
    c->distance.other_tops += top != expected_top;
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

/* ---- One prompt ---- */

typedef struct prompt_ids {
    int32_t ids[TOKENS_MAX];
    uint8_t types[TOKENS_MAX]; /* of an encoder's */
    size_t count;
} prompt_ids;

/* An engine for one prompt, which is read into `p`. */
static ap_engine *open_prompt(const ap_model *model, const ap_adapter *adapter, const json_t *prompt, prompt_ids *p)
{
    const json_t *tokens;
    uint32_t limit = 0;
    assert_ok(ap_json_get_array(prompt, "tokens", &tokens, err));
    if (ap_json_find(prompt, "context")) /* the limit decides which factors of a rotary embedding hold */
        assert_ok(ap_json_get_u32(prompt, "context", &limit, err));
    *p = (prompt_ids){.count = json_array_size(tokens)};
    assert_in_range(p->count, 1, TOKENS_MAX);
    for (size_t i = 0; i < p->count; i++) {
        p->ids[i] = (int32_t)json_integer_value(json_array_get(tokens, i));
        p->types[i] = (uint8_t)json_integer_value(json_array_get(ap_json_find(prompt, "types"), i));
    }
    ap_engine_options options = {.size = sizeof options, .kv_type = AP_KV_F32, .threads = 1, .requests_max = 1, .context_tokens = limit,
                                 .adapter = adapter};
    ap_engine *engine;
    assert_ok(ap_engine_create(&engine, model, &options, err));
    return engine;
}

/* The worst of final vectors, embedding and scores, each relative to its own largest value. */
static golden_distance compare_encoder(const ap_model *model, const json_t *prompt, ap_engine *engine, const prompt_ids *p)
{
    const json_t *hidden, *logits;
    assert_ok(ap_json_get_array(prompt, "hidden", &hidden, err));
    assert_ok(ap_json_get_array(prompt, "logits", &logits, err));
    json_t *expected[] = {
        [AP_ENCODE_HIDDEN] = json_incref((json_t *)hidden),
        [AP_ENCODE_EMBEDDING] = pooled(hidden, ap_model_info_of(model)->pooling),
        [AP_ENCODE_SCORES] = json_pack("[O]", logits),
    };
    ap_sequence sequence = {p->ids, p->types, p->count};
    golden_distance all = {.largest = 1};
    for (int i = AP_ENCODE_HIDDEN; i <= AP_ENCODE_SCORES; i++) {
        comparison c = {.rows = expected[i], .distance = {.largest = largest_of(expected[i])}};
        assert_ok(ap_engine_encode(engine, &sequence, 1, (ap_encoding)i, compare_rows, &c, err));
        assert_int_equal(c.seen, json_array_size(expected[i]));
        if (!(c.distance.worst <= all.worst * c.distance.largest))
            all.worst = c.distance.worst / c.distance.largest;
        all.other_tops += i == AP_ENCODE_SCORES ? c.distance.other_tops : 0;
        json_decref(expected[i]);
    }
    return all;
}

golden_distance golden_compare(const ap_model *model, const ap_adapter *adapter, const json_t *prompt)
{
    const json_t *rows;
    prompt_ids p;
    assert_ok(ap_json_get_array(prompt, "logits", &rows, err));
    ap_engine *engine = open_prompt(model, adapter, prompt, &p);
    comparison c = {.rows = rows};
    if (ap_json_find(prompt, "hidden")) {
        c.distance = compare_encoder(model, prompt, engine, &p);
    } else {
        c.distance.largest = largest_of(rows);
        assert_int_equal(json_array_size(rows), p.count);
        assert_ok(ap_engine_logits(engine, p.ids, p.count, 0, false, compare_row, &c, err));
        assert_int_equal(c.seen, p.count);
    }
    ap_engine_destroy(&engine);
    return c.distance;
}

double golden_run(const ap_model *model, const ap_adapter *adapter, const json_t *record)
{
    const json_t *prompts, *prompt;
    size_t index;
    double worst = 0;
    assert_ok(ap_json_get_array(record, "prompts", &prompts, err));
    assert_true(json_array_size(prompts) > 0);
    json_array_foreach(prompts, index, prompt)
    {
        golden_distance d = golden_compare(model, adapter, prompt);
        if (!(d.worst <= GOLDEN_TOLERANCE * d.largest))
            fail_msg("prompt %zu: a value differs by %.2e of the largest, %.0e is allowed", index, d.worst / d.largest, GOLDEN_TOLERANCE);
        if (d.other_tops)
            fail_msg("prompt %zu: at %zu positions another token has the largest logit", index, d.other_tops);
        worst = fmax(worst, d.worst / d.largest);
    }
    return worst;
}

/* ---- The bits ---- */

static void keep_row(void *context, size_t position, const float *logits, uint32_t count)
{
    assert_ok(ap_buf_add(context, logits, count * sizeof *logits, err));
}

static void keep_values(void *context, size_t sequence, const float *values, size_t rows, uint32_t columns)
{
    assert_ok(ap_buf_add(context, values, rows * columns * sizeof *values, err));
}

ap_buf golden_logits(const ap_model *model, const json_t *record)
{
    ap_buf all = {0};
    const json_t *prompts, *prompt;
    size_t index;
    assert_ok(ap_json_get_array(record, "prompts", &prompts, err));
    json_array_foreach(prompts, index, prompt)
    {
        prompt_ids p;
        ap_engine *engine = open_prompt(model, NULL, prompt, &p);
        ap_sequence sequence = {p.ids, p.types, p.count};
        for (int i = AP_ENCODE_HIDDEN; ap_model_info_of(model)->is_encoder && i <= (ap_model_info_of(model)->label_count ? AP_ENCODE_SCORES : AP_ENCODE_EMBEDDING); i++)
            assert_ok(ap_engine_encode(engine, &sequence, 1, (ap_encoding)i, keep_values, &all, err));
        if (!ap_model_info_of(model)->is_encoder)
            assert_ok(ap_engine_logits(engine, p.ids, p.count, 0, false, keep_row, &all, err));
        ap_engine_destroy(&engine);
    }
    assert_true(all.len > 0);
    return all;
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
