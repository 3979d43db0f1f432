/* The same model in the words of another release: config.json and names of tensors as older programs wrote them, or as a part
 * of a model that reads pictures, import to the same bytes as the folders of golden/arch/, whose values are proved.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "aperto.h"
#include "base/file.h"
#include "base/json.h"
#include "support.h"
#include "tiny_model.h"

enum { WORDS_MAX = 8 };

typedef struct spelling {
    const char *name, *folder;
    const char *words[WORDS_MAX][2]; /* keys of config.json: these become those; NULL: they go */
    const char *set;                 /* a JSON object that is laid over */
    const char *prefixes[2];         /* tensors that begin with one begin with the other */
    bool is_text_part;               /* all but "architectures" goes into "text_config", and there are pictures' tensors */
} spelling;

static const spelling spellings[] = {
    {"Falcon 40B as RW", "falcon_40b",
     {{"num_hidden_layers", "n_layer"}, {"num_attention_heads", "n_head"}, {"num_kv_heads", "n_head_kv"},
      {"new_decoder_architecture", NULL}, {"multi_query", NULL}, {"num_ln_in_parallel_attn", NULL}},
     "{\"architectures\": [\"RWForCausalLM\"], \"parallel_attn\": true}"},
    {"Falcon 7B as RW", "falcon_7b",
     {{"num_hidden_layers", "n_layer"}, {"num_attention_heads", "n_head"}, {"num_kv_heads", NULL},
      {"new_decoder_architecture", NULL}},
     "{\"architectures\": [\"RWForCausalLM\"], \"multi_query\": true}"},
    {"Falcon RW as RW", "falcon_rw",
     {{"num_hidden_layers", "n_layer"}, {"num_attention_heads", "n_head"}, {"num_kv_heads", NULL},
      {"new_decoder_architecture", NULL}},
     "{\"architectures\": [\"RWForCausalLM\"]}"},
    {"BLOOM with other names of its sizes", "bloom",
     {{"hidden_size", "n_embed"}, {"n_layer", "num_hidden_layers"}, {"n_head", "num_attention_heads"}}},
    {"tensors without a root", "bloom", .prefixes = {"transformer.", ""}},
    {"Gemma 3 with pictures", "gemma3", .set = "{\"architectures\": [\"Gemma3ForConditionalGeneration\"]}",
     .prefixes = {"model.", "language_model.model."}, .is_text_part = true},
    {"Gemma 3 with pictures, transformers 5", "gemma3", .set = "{\"architectures\": [\"Gemma3ForConditionalGeneration\"]}",
     .prefixes = {"model.", "model.language_model."}, .is_text_part = true},
    {"BERT without a root", "bert", .prefixes = {"bert.", ""}},
    {"RoBERTa without a root", "roberta", .prefixes = {"roberta.", ""}},
    {"ModernBERT without a root", "modernbert", .prefixes = {"model.", ""}},
    {"linear scaling under the old key", "llama_rope_linear", .set = "{\"rope_scaling\": {\"type\": \"linear\", \"rope_type\": null}}"},
    {"longrope as su", "phi3_longrope", .set = "{\"rope_scaling\": {\"type\": \"su\", \"rope_type\": null}}"},
};

/* ---- A folder of two files ---- */

typedef struct model_folder {
    json_t *config;
    ap_buf weights;
} model_folder;

static model_folder read_folder(const char *name)
{
    model_folder f;
    ap_buf text;
    char path[2048];
    (void)snprintf(path, sizeof path, "%s/%s/config.json", ap_test_file("golden/arch"), name);
    assert_ok(ap_file_read(path, 1 << 20, &text, err));
    assert_ok(ap_json_parse(&f.config, ap_buf_str(&text), (ap_json_limits){1 << 20, 10000}, err));
    ap_buf_deinit(&text);
    (void)snprintf(path, sizeof path, "%s/%s/model.safetensors", ap_test_file("golden/arch"), name);
    assert_ok(ap_file_read(path, 1 << 24, &f.weights, err));
    return f;
}

static int file_of(const void *bytes, size_t count)
{
    int fd = ap_test_temporary();
    assert_ok(ap_file_write_all(fd, bytes, count, err));
    return fd;
}

/* The bytes of the packed file, without the folder. */
static ap_buf import(model_folder *f, bool has_pictures)
{
    char *text = json_dumps(f->config, 0);
    ap_import_file files[] = {{"config.json", file_of(text, strlen(text))}, {"model.safetensors", file_of(f->weights.ptr, f->weights.len)}};
    ap_import_options options = {.size = sizeof options};
    ap_import_report report;
    int packed = ap_test_temporary();
    assert_ok(ap_model_import_files(files, 2, packed, &options, &report, err));
    assert_true(has_pictures == (strstr(report.notes, "reads pictures") != NULL));
    ap_mapping map;
    ap_buf bytes = {0};
    assert_ok(ap_file_map(packed, &map, err));
    assert_ok(ap_buf_add(&bytes, map.ptr, map.len, err));
    ap_file_unmap(&map);
    close(packed);
    close(files[0].fd);
    close(files[1].fd);
    free(text);
    json_decref(f->config);
    ap_buf_deinit(&f->weights);
    return bytes;
}

/* ---- Other words ---- */

static void spell_config(json_t *config, const spelling *s)
{
    for (size_t i = 0; i < WORDS_MAX && s->words[i][0]; i++) {
        json_t *value = json_object_get(config, s->words[i][0]);
        if (value && s->words[i][1])
            assert_int_equal(json_object_set(config, s->words[i][1], value), 0);
        (void)json_object_del(config, s->words[i][0]);
    }
    if (s->is_text_part) {
        json_t *text = json_copy(config);
        json_object_clear(config);
        assert_int_equal(json_object_set_new(config, "text_config", text), 0);
    }
    if (s->set) {
        json_t *set = json_loads(s->set, 0, NULL);
        assert_non_null(set);
        assert_int_equal(json_object_update_recursive(config, set), 0);
        json_decref(set);
    }
}

static void spell_tensors(ap_buf *weights, const spelling *s)
{
    uint64_t length, data;
    memcpy(&length, weights->ptr, 8);
    json_t *header = json_loadb(weights->ptr + 8, (size_t)length, 0, NULL), *renamed = json_object();
    assert_non_null(header);
    const char *name;
    json_t *value;
    json_object_foreach(header, name, value) {
        char other[256];
        bool begins = s->prefixes[0] && strncmp(name, s->prefixes[0], strlen(s->prefixes[0])) == 0;
        (void)snprintf(other, sizeof other, "%s%s", begins ? s->prefixes[1] : "", begins ? name + strlen(s->prefixes[0]) : name);
        assert_int_equal(json_object_set(renamed, other, value), 0);
    }
    data = weights->len - 8 - length;
    if (s->is_text_part)
        assert_int_equal(json_object_set_new(renamed, "vision_tower.norm.weight",
                                             json_pack("{s:s, s:[i], s:[I, I]}", "dtype", "F32", "shape", 1, "data_offsets", (json_int_t)data,
                                                       (json_int_t)data + 4)), 0);
    ap_buf out = {0};
    char *text = json_dumps(renamed, JSON_COMPACT);
    uint64_t text_length = strlen(text);
    assert_ok(ap_buf_add(&out, &text_length, 8, err));
    assert_ok(ap_buf_add(&out, text, (size_t)text_length, err));
    assert_ok(ap_buf_add(&out, weights->ptr + 8 + length, (size_t)data, err));
    if (s->is_text_part)
        assert_ok(ap_buf_add(&out, "\0\0\0\0", 4, err));
    free(text);
    json_decref(header);
    json_decref(renamed);
    ap_buf_deinit(weights);
    *weights = out;
}

static void the_same_model(void **state)
{
    const spelling *s = *state;
    model_folder plain = read_folder(s->folder), other = read_folder(s->folder);
    spell_config(other.config, s);
    spell_tensors(&other.weights, s);
    ap_buf a = import(&plain, false), b = import(&other, s->is_text_part);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.ptr, b.ptr, a.len);
    ap_buf_deinit(&a);
    ap_buf_deinit(&b);
}

/* What Gemma 3 does not say is as usual for it. */
static void what_is_left_out_is_usual(void **state)
{
    static const char usual[] = "{\"max_position_embeddings\": 131072, \"rms_norm_eps\": 1e-6, \"rope_theta\": 1000000.0,"
                                "\"rope_local_base_freq\": 10000.0, \"query_pre_attn_scalar\": 256, \"sliding_window\": 4096}";
    json_t *set = json_loads(usual, 0, NULL);
    model_folder said = read_folder("gemma3"), silent = read_folder("gemma3");
    const char *key;
    json_t *value;
    json_object_foreach(set, key, value) {
        assert_int_equal(json_object_set(said.config, key, value), 0);
        assert_int_equal(json_object_del(silent.config, key), 0);
    }
    json_decref(set);
    ap_buf a = import(&said, false), b = import(&silent, false);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.ptr, b.ptr, a.len);
    ap_buf_deinit(&a);
    ap_buf_deinit(&b);
}

int main(void)
{
    enum { COUNT = sizeof spellings / sizeof spellings[0] };
    static struct CMUnitTest tests[COUNT + 1];
    for (size_t i = 0; i < COUNT; i++)
        tests[i] = (struct CMUnitTest){.name = spellings[i].name, .test_func = the_same_model, .initial_state = (void *)&spellings[i]};
    tests[COUNT] = (struct CMUnitTest)cmocka_unit_test(what_is_left_out_is_usual);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
