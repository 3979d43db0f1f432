/* Encoders beside their values (test_arch.c): what a folder says about pooling and labels, what is refused by name, and that
 * the neighbours of a sequence do not change its bits.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "aperto.h"
#include "base/file.h"
#include "base/json.h"
#include "model/model.h"
#include "support.h"
#include "tiny_model.h"

#define POOLING_FILE "1_Pooling/config.json"

/* ---- A folder of golden/arch/ with other words ---- */

typedef struct words {
    const char *folder;
    const char *set;         /* laid over config.json; null takes a key away */
    const char *modules;     /* modules.json, or NULL */
    const char *pooling;     /* POOLING_FILE, or NULL */
    const char *from, *to;   /* in the names of tensors, of the same length; or NULL */
} words;

static int file_of(const void *bytes, size_t count)
{
    int fd = ap_test_temporary();
    assert_ok(ap_file_write_all(fd, bytes, count, err));
    return fd;
}

static ap_buf read_of(const char *folder, const char *file)
{
    char path[2048];
    ap_buf bytes;
    (void)snprintf(path, sizeof path, "%s/%s/%s", ap_test_file("golden/arch"), folder, file);
    assert_ok(ap_file_read(path, 1 << 24, &bytes, err));
    return bytes;
}

static int config_of(const words *w)
{
    ap_buf text = read_of(w->folder, "config.json");
    json_t *config;
    assert_ok(ap_json_parse(&config, ap_buf_str(&text), (ap_json_limits){1 << 20, 10000}, err));
    json_t *set = json_loads(w->set ? w->set : "{}", 0, NULL);
    assert_non_null(set);
    assert_int_equal(json_object_update(config, set), 0);
    char *out = json_dumps(config, 0);
    int fd = file_of(out, strlen(out));
    free(out);
    json_decref(set);
    json_decref(config);
    ap_buf_deinit(&text);
    return fd;
}

static int weights_of(const words *w)
{
    ap_buf bytes = read_of(w->folder, "model.safetensors");
    uint64_t header;
    memcpy(&header, bytes.ptr, 8);
    for (uint64_t i = 8; w->from && i + strlen(w->from) < 8 + header; i++)
        if (memcmp(bytes.ptr + i, w->from, strlen(w->from)) == 0)
            memcpy(bytes.ptr + i, w->to, strlen(w->to));
    int fd = file_of(bytes.ptr, bytes.len);
    ap_buf_deinit(&bytes);
    return fd;
}

/* *model is NULL after a refusal. */
static ap_status open_words(const words *w, ap_model **model, ap_error *error)
{
    ap_import_file files[4] = {{"config.json", config_of(w)}, {"model.safetensors", weights_of(w)}};
    size_t count = 2;
    if (w->modules)
        files[count++] = (ap_import_file){"modules.json", file_of(w->modules, strlen(w->modules))};
    if (w->pooling)
        files[count++] = (ap_import_file){POOLING_FILE, file_of(w->pooling, strlen(w->pooling))};
    ap_import_options options = {.size = sizeof options};
    ap_import_report report;
    int packed = ap_test_temporary();
    *model = NULL;
    ap_status status = ap_model_import_files(files, count, packed, &options, &report, error);
    if (status == AP_OK) {
        assert_non_null(strstr(report.notes, "This is an encoder"));
        status = ap_model_open(model, packed, error);
    }
    close(packed);
    while (count)
        close(files[--count].fd);
    return status;
}

static ap_model *open_golden(const char *folder)
{
    ap_model *model;
    assert_ok(open_words(&(words){folder}, &model, err));
    return model;
}

/* ---- Pooling ---- */

/* The head's tensors take names that belong to the training of a masked model. */
#define PLAIN_BERT .folder = "bert", .set = "{\"architectures\": [\"BertModel\"]}", .from = "classifier", .to = "cls.ifier."
#define MODULE(type) "{\"idx\": 0, \"name\": \"0\", \"path\": \"\", \"type\": \"sentence_transformers.models." type "\"}"

static void the_folder_says_how_to_pool(void **state)
{
    static const struct {
        words words;
        ap_pooling pooling;
        uint32_t labels;
    } cases[] = {
        {{PLAIN_BERT}, AP_POOLING_MEAN, 0},
        {{PLAIN_BERT, .pooling = "{\"pooling_mode_cls_token\": true, \"pooling_mode_mean_tokens\": false}"}, AP_POOLING_CLS, 0},
        {{PLAIN_BERT, .pooling = "{\"pooling_mode_mean_tokens\": true}"}, AP_POOLING_MEAN, 0},
        {{PLAIN_BERT, .pooling = "{\"pooling_mode_lasttoken\": true, \"pooling_mode_max_tokens\": false}"}, AP_POOLING_LAST, 0},
        {{PLAIN_BERT, .pooling = "{\"pooling_mode\": \"cls\"}"}, AP_POOLING_CLS, 0},
        {{PLAIN_BERT, .modules = "[" MODULE("Transformer") ", " MODULE("Pooling") ", " MODULE("Normalize") "]",
          .pooling = "{\"pooling_mode_cls_token\": true}"}, AP_POOLING_CLS, 0},
        {{"bert"}, AP_POOLING_CLS, 3},
        {{"xlm_roberta"}, AP_POOLING_CLS, 1},
        {{"modernbert"}, AP_POOLING_CLS, 3},
        {{"modernbert_mean"}, AP_POOLING_MEAN, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ap_model *model;
        assert_ok(open_words(&cases[i].words, &model, err));
        const ap_model_info *info = ap_model_info_of(model);
        assert_true(info->is_encoder);
        if (info->pooling != cases[i].pooling || info->label_count != cases[i].labels)
            fail_msg("case %zu: pooling %d, %u labels", i, (int)info->pooling, info->label_count);
        ap_model_close(&model);
    }
}

static void what_changes_the_numbers_is_refused(void **state)
{
    static const struct {
        words words;
        const char *says;
    } cases[] = {
        {{PLAIN_BERT, .pooling = "{\"pooling_mode_max_tokens\": true}"}, "pooling_mode_max_tokens"},
        {{PLAIN_BERT, .pooling = "{\"pooling_mode_cls_token\": true, \"pooling_mode_mean_tokens\": true}"}, "2 poolings"},
        {{PLAIN_BERT, .pooling = "{}"}, "0 poolings"},
        {{PLAIN_BERT, .pooling = "[]"}, POOLING_FILE},
        {{PLAIN_BERT, .modules = "[" MODULE("Transformer") ", " MODULE("Pooling") "]"}, POOLING_FILE},
        {{PLAIN_BERT, .modules = "[" MODULE("Transformer") ", " MODULE("Dense") "]"}, "Dense"},
        {{PLAIN_BERT, .modules = "{}"}, "modules.json"},
        {{"bert", .set = "{\"architectures\": [\"BertModel\"]}"}, "classifier."},
        {{"bert", .set = "{\"hidden_act\": \"relu\"}"}, "hidden_act"},
        {{"bert", .set = "{\"position_embedding_type\": \"relative_key\"}"}, "position_embedding_type"},
        {{"bert", .set = "{\"is_decoder\": true}"}, "is_decoder"},
        {{"bert", .set = "{\"type_vocab_size\": 3}"}, "token_type_embeddings"},
        {{"bert", .set = "{\"type_vocab_size\": 300}"}, "token_type_count"},
        {{"bert", .set = "{\"id2label\": {\"0\": \"a\", \"2\": \"b\"}}"}, "id2label.1"},
        {{"bert", .set = "{\"id2label\": {}}"}, "id2label"},
        {{"bert", .set = "{\"id2label\": {\"0\": \"a\"}}"}, "classifier.weight"},
        {{"bert", .from = "pooler.dense.weight", .to = "pooler.other.weight"}, "bert.pooler.dense.weight"},
        {{"roberta", .set = "{\"pad_token_id\": 65}"}, "max_position_embeddings"},
        {{"roberta", .set = "{\"pad_token_id\": 4000000000}"}, "pad_token_id"},
        {{"modernbert", .set = "{\"classifier_activation\": \"silu\"}"}, "classifier_activation"},
        {{"modernbert", .set = "{\"classifier_pooling\": \"max\"}"}, "classifier_pooling"},
        {{"modernbert", .from = "layers.1.attn_norm", .to = "layers.0.attn_norm"}, "layers.1.attn_norm"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ap_model *model;
        ap_error error = {0};
        if (open_words(&cases[i].words, &model, &error) == AP_OK)
            fail_msg("case %zu, '%s', is accepted", i, cases[i].says);
        if (!strstr(error.message, cases[i].says))
            fail_msg("case %zu: '%s' says nothing of '%s'", i, error.message, cases[i].says);
    }
}

/* As transformers 5 writes it. */
static void layers_may_be_listed(void **state)
{
    static const words listed = {"modernbert", .set = "{\"global_attn_every_n_layers\": null, \"global_rope_theta\": null, \"local_rope_theta\": null,"
                                 "\"layer_types\": [\"full_attention\", \"sliding_attention\", \"sliding_attention\", \"full_attention\"],"
                                 "\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"default\", \"rope_theta\": 1000.0},"
                                 "\"sliding_attention\": {\"rope_type\": \"default\", \"rope_theta\": 100.0}}}"};
    ap_model *plain = open_golden("modernbert"), *other;
    assert_ok(open_words(&listed, &other, err));
    assert_true(plain->sizes.is_sliding[1] && !plain->sizes.is_sliding[3] && plain->sizes.rope_local.base == 100);
    assert_memory_equal(&plain->sizes, &other->sizes, sizeof plain->sizes);
    ap_model_close(&plain);
    ap_model_close(&other);
}

/* ---- Requests ---- */

static ap_engine *engine_of(const ap_model *model, unsigned threads, uint32_t context)
{
    ap_engine_options options = {.size = sizeof options, .threads = threads, .context_tokens = context, .step_tokens = 16};
    ap_engine *engine;
    assert_ok(ap_engine_create(&engine, model, &options, err));
    return engine;
}

static void keep(void *context, size_t sequence, const float *values, size_t rows, uint32_t columns)
{
    assert_ok(ap_buf_add(context, values, rows * columns * sizeof *values, err));
}

static void no_logits(void *context, size_t position, const float *logits, uint32_t count) { fail(); }

static void no_text(void **state)
{
    ap_model *model = open_golden("bert");
    ap_engine *engine = engine_of(model, 1, 0);
    const int32_t ids[] = {1, 2, 3};
    ap_error error = {0};
    ap_request request = {.size = sizeof request, .id = 1, .prompt = ids, .prompt_count = 3, .sampling = ap_sampling_default()};
    assert_int_equal(ap_engine_submit(engine, &request, &error), AP_E_UNSUPPORTED);
    assert_non_null(strstr(error.message, "encoder (bert)"));
    assert_non_null(strstr(error.message, "embeddings and scores"));
    assert_int_equal(ap_engine_logits(engine, ids, 3, 0, false, no_logits, NULL, &error), AP_E_UNSUPPORTED);
    ap_engine_destroy(&engine);
    ap_model_close(&model);
}

static void a_sequence_is_checked(void **state)
{
    ap_model *model, *with_head = open_golden("bert");
    assert_ok(open_words(&(words){PLAIN_BERT}, &model, err));
    ap_engine *engine = engine_of(with_head, 1, 32), *headless = engine_of(model, 1, 0);
    int32_t ids[64] = {1, 2, 3}, bad[] = {1, 72};
    uint8_t types[] = {0, 2};
    ap_buf out = {0};
    const struct {
        ap_engine *engine;
        ap_sequence sequence;
        ap_encoding encoding;
        ap_status status;
        const char *says;
    } cases[] = {
        {engine, {ids, NULL, 0}, AP_ENCODE_HIDDEN, AP_E_CONTEXT, "0 tokens"},
        {engine, {ids, NULL, 33}, AP_ENCODE_HIDDEN, AP_E_CONTEXT, "1 to 32"},
        {engine, {bad, NULL, 2}, AP_ENCODE_SCORES, AP_E_ARG, "token 72"},
        {engine, {ids, types, 2}, AP_ENCODE_SCORES, AP_E_ARG, "type 2"},
        {engine, {ids, NULL, 2}, (ap_encoding)3, AP_E_ARG, "encoding 3"},
        {headless, {ids, NULL, 2}, AP_ENCODE_SCORES, AP_E_UNSUPPORTED, "no head"},
        {engine, {ids, NULL, 32}, AP_ENCODE_SCORES, AP_OK, ""},
        {headless, {ids, NULL, 64}, AP_ENCODE_EMBEDDING, AP_OK, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ap_error error = {0};
        const ap_sequence both[] = {{ids, NULL, 1}, cases[i].sequence};
        size_t before = out.len;
        assert_int_equal(ap_engine_encode(cases[i].engine, both, 2, cases[i].encoding, keep, &out, &error), cases[i].status);
        assert_true((out.len > before) == (cases[i].status == AP_OK)); /* nothing is told of a call that is refused */
        assert_non_null(strstr(error.message, cases[i].says));
    }
    ap_buf_deinit(&out);
    ap_engine_destroy(&engine);
    ap_engine_destroy(&headless);
    ap_model_close(&model);
    ap_model_close(&with_head);
}

/* Sixty sequences need several passes; each is the same as alone. */
static void neighbours_change_no_bit(void **state)
{
    enum { SEQUENCES = 60, LENGTH = 64 };
    ap_model *model = open_golden(*state);
    int32_t ids[SEQUENCES + LENGTH];
    uint64_t random = 5;
    ap_sequence sequences[SEQUENCES];
    for (int i = 0; i < SEQUENCES + LENGTH; i++)
        ids[i] = (int32_t)(ap_test_random(&random) % 72);
    for (int i = 0; i < SEQUENCES; i++)
        sequences[i] = (ap_sequence){ids + i, NULL, 1 + ap_test_random(&random) % LENGTH};
    ap_engine *together = engine_of(model, 2, 0), *alone = engine_of(model, 1, 0);
    for (int encoding = AP_ENCODE_HIDDEN; encoding <= AP_ENCODE_SCORES; encoding++) {
        ap_buf a = {0}, b = {0};
        assert_ok(ap_engine_encode(together, sequences, SEQUENCES, (ap_encoding)encoding, keep, &a, err));
        for (int i = 0; i < SEQUENCES; i++)
            assert_ok(ap_engine_encode(alone, &sequences[i], 1, (ap_encoding)encoding, keep, &b, err));
        assert_int_equal(a.len, b.len);
        assert_memory_equal(a.ptr, b.ptr, a.len);
        ap_buf_deinit(&a);
        ap_buf_deinit(&b);
    }
    ap_engine_destroy(&together);
    ap_engine_destroy(&alone);
    ap_model_close(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_folder_says_how_to_pool),
        cmocka_unit_test(what_changes_the_numbers_is_refused),
        cmocka_unit_test(layers_may_be_listed),
        cmocka_unit_test(no_text),
        cmocka_unit_test(a_sequence_is_checked),
        cmocka_unit_test_prestate(neighbours_change_no_bit, (void *)"bert"),
        cmocka_unit_test_prestate(neighbours_change_no_bit, (void *)"modernbert_mean"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
