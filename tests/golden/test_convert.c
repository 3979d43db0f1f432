/* Conversion of every family: a folder of golden/arch becomes a GGUF file and that a folder again, and the packed weights and the
 * logits (of an encoder vectors and scores) stay the same in every bit.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "golden.h"
#include "model/convert.h"
#include "model/hf_card.h"
#include "model/model.h"
#include "support.h"
#include "tiny_model.h"

static ap_model *open_packed(int packed)
{
    ap_model *model;
    assert_ok(ap_model_open(&model, packed, err));
    close(packed);
    return model;
}

static void expect_same_weights(const ap_packed *expected, const ap_packed *got)
{
    assert_int_equal(ap_packed_count(got), ap_packed_count(expected));
    for (uint32_t i = 0; i < ap_packed_count(expected); i++) {
        const ap_packed_tensor *a = ap_packed_at(expected, i), *b = ap_packed_find(got, a->name);
        if (!b || a->type != b->type || a->layout != b->layout || a->bytes != b->bytes || memcmp(a->data, b->data, a->bytes) != 0)
            fail_msg("the packed tensor '%.*s' is another one", (int)a->name.len, a->name.ptr);
    }
}

/* Of quantised folders, the router is narrower than in a GGUF file. */
static void expect_same(const ap_model *expected, int packed, const json_t *record, bool has_same_weights)
{
    ap_model *model = open_packed(packed);
    if (has_same_weights)
        expect_same_weights(expected->packed, model->packed);
    ap_buf want = golden_logits(expected, record), got = golden_logits(model, record);
    assert_int_equal(got.len, want.len);
    assert_memory_equal(got.ptr, want.ptr, got.len);
    ap_buf_deinit(&want);
    ap_buf_deinit(&got);
    ap_model_close(&model);
}

/* ---- The folder that is written ---- */

typedef struct made_folder {
    ap_import_file files[16];
    char names[16][64];
    size_t count;
} made_folder;

static int add_file(made_folder *f, const char *name)
{
    assert_true(f->count < 16);
    (void)snprintf(f->names[f->count], sizeof f->names[0], "%s", name);
    f->files[f->count].name = f->names[f->count];
    return f->files[f->count++].fd = ap_test_temporary();
}

static ap_status keep_document(void *context, const char *name, const char *bytes, size_t count, ap_error *err)
{
    return ap_file_write_all(add_file(context, name), bytes, count, err);
}

/* In several files. */
static void make_folder(made_folder *f, int gguf, uint64_t shard_bytes)
{
    ap_import_file source = {.fd = gguf};
    ap_convert_report report = {.shard_count = 1};
    for (uint32_t shard = 0; shard < report.shard_count; shard++) {
        int weights = ap_test_temporary();
        ap_convert_options options = {.size = sizeof options, .shard_bytes_max = shard_bytes, .shard = shard, .document = keep_document,
                                      .document_context = f};
        assert_ok(ap_model_convert_to_folder(&source, 1, weights, &options, &report, err));
        char name[64];
        (void)snprintf(name, sizeof name, AP_CONVERT_SHARD_NAME, shard + 1, report.shard_count);
        close(add_file(f, name));
        f->files[f->count - 1].fd = weights;
    }
    assert_true(report.shard_count > 1);
}

static void expect_folder(int gguf, uint64_t shard_bytes, const ap_model *expected, const json_t *record)
{
    made_folder f = {.count = 0};
    int packed = ap_test_temporary();
    ap_import_options import = {.size = sizeof import};
    ap_import_report imported;
    make_folder(&f, gguf, shard_bytes);
    assert_ok(ap_model_import_files(f.files, f.count, packed, &import, &imported, err));
    for (size_t i = 0; i < f.count; i++)
        close(f.files[i].fd);
    expect_same(expected, packed, record, true);
}

/* ---- Both ways ---- */

/* Those that tests/golden/peers.py knows as exceptions, but for the table of GELU; and phi3_partial, of which no prompt there is short. */
static void expect_warning(const char *name, const char *warning)
{
    static const struct {
        const char *name, *says;
    } known[] = {{"falcon_rw", "refused"}, {"gemma2", "query_pre_attn_scalar"}, {"gemma3", "query_pre_attn_scalar"}, {"gpt_oss", "YaRN"},
                 {"mistral_window", "whole context"}, {"phi3", "whole context"}, {"phi3_longrope", "rotary factors"}, {"phi3_partial", "rotary factors"},
                 {"qwen2_window", "whole context"}, {"qwen3_moe_unnormed", "scaled to 1"}};
    const char *says = "";
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        says = strcmp(name, known[i].name) == 0 ? known[i].says : says;
    if (!says[0] != !warning[0] || !strstr(warning, says))
        fail_msg("%s: the warning is '%s', which should say '%s'", name, warning, says);
}

static void there_the_same_bits(const char *parent, const char *name, bool and_back)
{
    char path[600];
    golden_folder folder;
    ap_error error = {0};
    ap_import_options import = {.size = sizeof import};
    ap_convert_options convert = {.size = sizeof convert};
    ap_import_report imported;
    ap_convert_report report;
    int direct = ap_test_temporary(), gguf = ap_test_temporary(), packed = ap_test_temporary();
    (void)snprintf(path, sizeof path, "%s/%s", parent, name);
    ap_status status = golden_import(path, direct, false, &imported, &error);
    if (status == AP_E_UNSUPPORTED && strstr(error.message, "'architectures' is"))
        skip();
    if (status != AP_OK)
        fail_msg("%s: %s", path, error.message);
    json_t *record = golden_record(path);
    ap_model *expected = open_packed(direct);

    golden_open(&folder, path);
    assert_ok(ap_model_convert_to_gguf(folder.files, folder.count, gguf, &convert, &report, err));
    golden_close(&folder);
    assert_true(report.tensor_count > 0);
    if (and_back)
        expect_warning(name, report.elsewhere);
    assert_ok(ap_model_import(gguf, packed, &import, &imported, err));
    expect_same(expected, packed, record, and_back);
    if (and_back)
        expect_folder(gguf, 150000, expected, record);

    ap_model_close(&expected);
    json_decref(record);
    close(gguf);
}

/* ---- What else an encoder's folder says ---- */

#define WORDPIECE "{\"added_tokens\": [{\"id\": 0, \"content\": \"[PAD]\", \"special\": true}, {\"id\": 1, \"content\": \"[UNK]\", \"special\": true}," \
    "{\"id\": 2, \"content\": \"[CLS]\", \"special\": true}, {\"id\": 3, \"content\": \"[SEP]\", \"special\": true}, {\"id\": 4, \"content\": \"[MASK]\"," \
    "\"special\": true, \"lstrip\": true}], \"normalizer\": {\"type\": \"BertNormalizer\", \"lowercase\": false, \"strip_accents\": true}," \
    "\"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}, \"decoder\": {\"type\": \"WordPiece\", \"prefix\": \"##\", \"cleanup\": true}," \
    "\"post_processor\": {\"type\": \"BertProcessing\", \"cls\": [\"[CLS]\", 2], \"sep\": [\"[SEP]\", 3]}, \"model\": {\"type\": \"WordPiece\"," \
    "\"unk_token\": \"[UNK]\", \"vocab\": {\"[PAD]\": 0, \"[UNK]\": 1, \"[CLS]\": 2, \"[SEP]\": 3, \"[MASK]\": 4, \"a\": 5, \"##b\": 6, \"ab\": 7, \"C\": 8}}}"
#define BPE "{\"added_tokens\": [{\"id\": 0, \"content\": \"<s>\", \"special\": true}, {\"id\": 2, \"content\": \"</s>\", \"special\": true}," \
    "{\"id\": 4, \"content\": \"[MASK]\", \"special\": true, \"lstrip\": true}], \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false}," \
    "\"post_processor\": {\"type\": \"RobertaProcessing\", \"cls\": [\"<s>\", 0], \"sep\": [\"</s>\", 2]}, \"decoder\": {\"type\": \"ByteLevel\"}," \
    "\"model\": {\"type\": \"BPE\", \"vocab\": {\"<s>\": 0, \"</s>\": 2, \"[MASK]\": 4, \"a\": 5, \"b\": 6, \"ab\": 7, \"C\": 8, \"\u0120\": 9," \
    "\"\u0120a\": 10}, \"merges\": [[\"a\", \"b\"], [\"\u0120\", \"a\"]]}}"
#define UNIGRAM "{\"added_tokens\": [{\"id\": 0, \"content\": \"<s>\", \"special\": true}, {\"id\": 2, \"content\": \"</s>\", \"special\": true}," \
    "{\"id\": 4, \"content\": \"[MASK]\", \"special\": true, \"lstrip\": true}], \"normalizer\": {\"type\": \"NFKC\"}, \"pre_tokenizer\": {\"type\": \"Sequence\"," \
    "\"pretokenizers\": [{\"type\": \"WhitespaceSplit\"}, {\"type\": \"Metaspace\", \"replacement\": \"\u2581\", \"prepend_scheme\": \"always\"}]}," \
    "\"post_processor\": {\"type\": \"RobertaProcessing\", \"cls\": [\"<s>\", 0], \"sep\": [\"</s>\", 2]}, \"decoder\": {\"type\": \"Metaspace\"," \
    "\"replacement\": \"\u2581\", \"prepend_scheme\": \"always\"}, \"model\": {\"type\": \"Unigram\", \"unk_id\": 3, \"vocab\": [[\"<s>\", 0], [\"<pad>\", 0]," \
    "[\"</s>\", 0], [\"<unk>\", 0], [\"[MASK]\", 0], [\"a\", -2.5], [\"b\", -3], [\"\u2581ab\", -1.25], [\"C\", -2], [\"\u2581\", -4]]}}"
#define MODULE(name) "{\"type\": \"sentence_transformers.models." name "\"}"

static ap_tokens tokens_of(const ap_model *model, const char *text)
{
    ap_tokens tokens;
    assert_ok(ap_vocab_tokenize(ap_model_vocab(model), text, strlen(text), AP_TOKENIZE_SPECIAL | AP_TOKENIZE_BOS | AP_TOKENIZE_EOS, &tokens, err));
    return tokens;
}

static void give_file(golden_folder *folder, const char *name, const char *text)
{
    ap_import_file *file = &folder->files[folder->count++];
    file->name = name;
    assert_ok(ap_file_write_all(file->fd = ap_test_temporary(), text, strlen(text), err));
}

static ap_buf text_of_document(const made_folder *f, const char *name)
{
    ap_buf text = {0};
    for (size_t i = 0; i < f->count; i++)
        if (strcmp(f->names[i], name) == 0) {
            assert_int_equal(lseek(f->files[i].fd, 0, SEEK_SET), 0);
            assert_ok(ap_file_read_fd(f->files[i].fd, 1 << 20, &text, err));
        }
    return text;
}

static json_t *document_of(const made_folder *f, const char *name)
{
    json_t *root = NULL;
    ap_buf text = text_of_document(f, name);
    if (text.len)
        assert_ok(ap_json_parse(&root, ap_buf_str(&text), (ap_json_limits){1 << 20, 10000}, err));
    ap_buf_deinit(&text);
    return root;
}

static void expect_same_text(const char *name, ap_str text, const char *expected)
{
    if (!ap_str_is(text, expected))
        fail_msg("'%s' is '%.*s', not '%s'", name, (int)text.len, text.ptr, expected);
}

static void expect_text(const json_t *root, const char *path, const char *expected)
{
    ap_str text = {0};
    assert_ok(ap_json_get_str(root, path, &text, err));
    expect_same_text(path, text, expected);
}

static void words_labels_and_pooling_come_back(void **state)
{
    static const struct {
        const char *folder, *tokenizer, *class, *model_type;
        int64_t rows; /* of positions */
    } cases[] = {{"bert", WORDPIECE, "BertForSequenceClassification", "bert", 64}, {"roberta", BPE, "RobertaForSequenceClassification", "roberta", 66},
                 {"xlm_roberta", UNIGRAM, "XLMRobertaForSequenceClassification", "xlm-roberta", 66},
                 {"modernbert", BPE, "ModernBertForSequenceClassification", "modernbert", 64}};
    static const char *const texts[] = {"ab C", " aabb [MASK] Cab", "", "Cab</s> C"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[200];
        golden_folder folder;
        int direct = ap_test_temporary(), gguf = ap_test_temporary(), packed = ap_test_temporary();
        made_folder made = {.count = 0};
        ap_import_options import = {.size = sizeof import};
        ap_convert_options convert = {.size = sizeof convert};
        ap_import_report imported;
        ap_convert_report report;
        (void)snprintf(path, sizeof path, "golden/arch/%s", cases[i].folder);
        golden_open(&folder, path);
        const char *extra[][2] = {{"tokenizer.json", cases[i].tokenizer}, {"tokenizer_config.json", "{\"mask_token\": {\"content\": \"[MASK]\"}}"}};
        for (size_t k = 0; k < 2; k++)
            give_file(&folder, extra[k][0], extra[k][1]);
        assert_ok(ap_model_import_files(folder.files, folder.count, direct, &import, &imported, err));
        assert_ok(ap_model_convert_to_gguf(folder.files, folder.count, gguf, &convert, &report, err));
        golden_close(&folder);
        make_folder(&made, gguf, 150000);
        json_t *config = document_of(&made, "config.json"), *words = document_of(&made, "tokenizer_config.json");
        expect_text(config, "architectures.0", cases[i].class);
        expect_text(config, "model_type", cases[i].model_type);
        expect_text(config, "id2label.0", "LABEL_0");
        assert_int_equal(json_integer_value(json_object_get(config, "max_position_embeddings")), cases[i].rows);
        expect_text(words, "mask_token", "[MASK]");
        assert_null(document_of(&made, "modules.json"));
        assert_ok(ap_model_import_files(made.files, made.count, packed, &import, &imported, err));
        ap_model *before = open_packed(direct), *after = open_packed(packed);
        for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++) {
            ap_tokens a = tokens_of(before, texts[k]), b = tokens_of(after, texts[k]);
            assert_int_equal(a.count, b.count);
            assert_memory_equal(a.ids, b.ids, a.count * sizeof *a.ids);
            ap_free(a.ids);
            ap_free(b.ids);
        }
        ap_model_close(&before);
        ap_model_close(&after);
        json_decref(config);
        json_decref(words);
        while (made.count)
            close(made.files[--made.count].fd);
        close(gguf);
    }
}

static void a_pooling_comes_back(void **state)
{
    golden_folder folder;
    made_folder made = {.count = 0};
    int gguf = ap_test_temporary();
    ap_convert_options convert = {.size = sizeof convert};
    ap_convert_report report;
    golden_open(&folder, "golden/arch/qwen3"); /* also of decoders */
    const char *extra[][2] = {{"1_Pooling/config.json", "{\"pooling_mode_mean_tokens\": true}"},
                              {"modules.json", "[" MODULE("Transformer") ", " MODULE("Pooling") ", " MODULE("Normalize") "]"}};
    for (size_t k = 0; k < 2; k++)
        give_file(&folder, extra[k][0], extra[k][1]);
    assert_ok(ap_model_convert_to_gguf(folder.files, folder.count, gguf, &convert, &report, err));
    golden_close(&folder);
    make_folder(&made, gguf, 150000);
    json_t *pooling = document_of(&made, "1_Pooling/config.json"), *modules = document_of(&made, "modules.json");
    assert_true(json_is_true(json_object_get(pooling, "pooling_mode_mean_tokens")) && json_is_false(json_object_get(pooling, "pooling_mode_lasttoken")));
    assert_int_equal(json_array_size(modules), 3);
    expect_text(modules, "1.path", "1_Pooling");
    expect_text(modules, "2.type", "sentence_transformers.models.Normalize");
    json_decref(pooling);
    json_decref(modules);
    while (made.count)
        close(made.files[--made.count].fd);
    close(gguf);
}

/* Files of other converters say neither class nor rows of positions: both follow from the vocabulary. */
static void a_family_is_found_without_our_keys(void **state)
{
    static const struct {
        const char *vocab;
        int32_t padding; /* below 0: not said */
        const ap_arch *arch;
        uint32_t skipped;
    } cases[] = {{"t5", 3, &ap_arch_xlm_roberta, 4}, {"t5", -1, &ap_arch_xlm_roberta, 2}, {"gpt2", 1, &ap_arch_roberta, 2}, {"bert", 0, &ap_arch_bert, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ap_gguf_writer *writer;
        ap_buf bytes = {0};
        ap_gguf *keys;
        const ap_arch *arch = &ap_arch_bert;
        uint32_t skipped;
        assert_ok(ap_gguf_writer_create(&writer, AP_GGUF_ALIGNMENT_DEFAULT, err));
        assert_ok(ap_gguf_writer_str(writer, "tokenizer.ggml.model", ap_str_from(cases[i].vocab), err));
        if (cases[i].padding >= 0)
            assert_ok(ap_gguf_writer_u32(writer, "tokenizer.ggml.padding_token_id", (uint32_t)cases[i].padding, err));
        assert_ok(ap_gguf_writer_keys_only(writer, &bytes, err));
        assert_ok(ap_gguf_open(&keys, (const unsigned char *)bytes.ptr, bytes.len, err));
        assert_ok(ap_convert_family(keys, &arch, &skipped, err));
        assert_ptr_equal(arch, cases[i].arch);
        assert_int_equal(skipped, cases[i].skipped);
        ap_gguf_close(&keys);
        ap_gguf_writer_destroy(&writer);
        ap_buf_deinit(&bytes);
    }
}

/* ---- The card ---- */

static void expect_key(const ap_gguf *gguf, const char *name, const char *expected)
{
    ap_str text = {0};
    assert_ok(ap_gguf_get_str(gguf, name, &text, err));
    expect_same_text(name, text, expected);
}

static const char readme[] = "---\nlicense: apache-2.0 # a comment\nlanguage:\n- en\n- 'no'\nbase_model: org/base\ntags: [tiny, \"a, b\"]\n"
                             "pipeline_tag: text-generation\nmodel_name: \"A \\\"Model\\\": 7\"\nlibrary_name: transformers\nmodel-index:\n- name: x\n"
                             "  results: [1]\nauthor: Ada\ngguf: {\"general.priority\": 7, \"general.architecture\": \"other\", \"general.scale\": 0.1}\n"
                             "---\n\n# Text\nlicense: other\n";
static const char generation[] = "{\"do_sample\": true, \"temperature\": 0.6, \"top_k\": 20, \"max_new_tokens\": 9, \"eos_token_id\": 2}";

/* Folder to GGUF to folder to GGUF: the two GGUF files are equal in every byte. */
static void the_card_comes_back(void **state)
{
    golden_folder folder;
    made_folder made = {.count = 0};
    int gguf = ap_test_temporary(), again = ap_test_temporary();
    ap_convert_options convert = {.size = sizeof convert};
    ap_convert_report report;
    golden_open(&folder, "golden/arch/llama");
    const char *extra[][2] = {{"README.md", readme}, {"generation_config.json", generation}};
    for (size_t k = 0; k < 2; k++)
        give_file(&folder, extra[k][0], extra[k][1]);
    assert_ok(ap_model_convert_to_gguf(folder.files, folder.count, gguf, &convert, &report, err));
    golden_close(&folder);
    make_folder(&made, gguf, 150000);

    ap_mapping file;
    ap_gguf *keys;
    float number;
    uint32_t whole;
    assert_ok(ap_file_map(gguf, &file, err));
    assert_ok(ap_gguf_open(&keys, file.ptr, file.len, err));
    expect_key(keys, "general.architecture", "llama");
    expect_key(keys, "general.name", "A \"Model\": 7");
    expect_key(keys, "general.license", "apache-2.0");
    expect_key(keys, "general.author", "Ada");
    expect_key(keys, "general.base_model.0.repo_url", "https://huggingface.co/org/base");
    assert_int_equal(ap_gguf_find(keys, AP_STR("general.tags"))->count, 3);
    assert_int_equal(ap_gguf_find(keys, AP_STR("general.languages"))->count, 2);
    assert_ok(ap_gguf_get_u32(keys, "general.priority", &whole, err));
    assert_int_equal(whole, 7);
    assert_ok(ap_gguf_get_f32(keys, "general.sampling.temp", &number, err));
    assert_true(number == 0.6f);
    ap_gguf_close(&keys);

    ap_buf card = text_of_document(&made, "README.md");
    for (size_t i = 0; i < 7; i++) {
        static const char *const lines[] = {"\nlicense: apache-2.0\n", "\nbase_model: org/base\n", "\n- \"no\"\n", "\nlibrary_name: transformers\n",
                                            "\n- tiny\n- \"a, b\"\n", "\npipeline_tag: text-generation\n", "\n# A \"Model\": 7\n"};
        if (!strstr(card.ptr, lines[i]))
            fail_msg("the card has no '%s': %s", lines[i], card.ptr);
    }
    ap_buf_deinit(&card);
    json_t *sampling = document_of(&made, "generation_config.json");
    assert_true(json_is_true(json_object_get(sampling, "do_sample")) && json_real_value(json_object_get(sampling, "temperature")) == 0.6);
    assert_int_equal(json_integer_value(json_object_get(sampling, "max_new_tokens")), 9);
    assert_int_equal(json_integer_value(json_object_get(sampling, "eos_token_id")), 2);
    json_decref(sampling);

    ap_mapping other;
    assert_ok(ap_model_convert_to_gguf(made.files, made.count, again, &convert, &report, err));
    assert_ok(ap_file_map(again, &other, err));
    assert_int_equal(other.len, file.len);
    assert_memory_equal(other.ptr, file.ptr, file.len);
    ap_file_unmap(&other);
    ap_file_unmap(&file);
    while (made.count)
        close(made.files[--made.count].fd);
    close(gguf);
    close(again);
}

/* A GGUF file that no folder was before: each key that can be said comes back. */
static void keys_without_a_card_come_back(void **state)
{
    static const char *const names[] = {"general.name", "general.organization", "general.finetune", "general.quantized_by", "general.base_model.0.name",
                                        "general.base_model.0.organization", "general.base_model.0.version", "general.something"};
    ap_gguf_writer *writer;
    ap_buf bytes = {0}, card = {0};
    ap_gguf *keys;
    json_t *read, *general;
    made_folder made = {.count = 0};
    const ap_str tags[] = {{"one", 3}, {"two: three", 10}};
    assert_ok(ap_gguf_writer_create(&writer, AP_GGUF_ALIGNMENT_DEFAULT, err));
    assert_ok(ap_gguf_writer_str(writer, "general.\xff", AP_STR("left out"), err));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_ok(ap_gguf_writer_str(writer, names[i], ap_str_from(names[i] + 8), err));
    assert_ok(ap_gguf_writer_u32(writer, "general.base_model.count", 1, err));
    assert_ok(ap_gguf_writer_strs(writer, "general.tags", 2, tags, err));
    assert_ok(ap_gguf_writer_bool(writer, "general.flag", true, err));
    assert_ok(ap_gguf_writer_keys_only(writer, &bytes, err));
    assert_ok(ap_gguf_open(&keys, (const unsigned char *)bytes.ptr, bytes.len, err));
    ap_convert_options options = {.size = sizeof options, .document = keep_document, .document_context = &made};
    assert_ok(ap_convert_card(keys, &options, err));
    card = text_of_document(&made, "README.md");
    assert_non_null(strstr(card.ptr, "\nbase_model: base_model.0.organization/base_model.0.name\n"));
    assert_ok(ap_hf_card_read(&read, ap_buf_str(&card), err));
    assert_ok(ap_hf_card_general(read, &general, err));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_string_equal(json_string_value(json_object_get(general, names[i])), names[i] + 8);
    assert_int_equal(json_array_size(json_object_get(general, "general.tags")), 2);
    assert_true(json_is_true(json_object_get(general, "general.flag")));
    json_decref(read);
    json_decref(general);
    ap_buf_deinit(&card);
    ap_gguf_close(&keys);
    ap_gguf_writer_destroy(&writer);
    ap_buf_deinit(&bytes);
    close(made.files[0].fd);
}

static void a_card_is_read_as_far_as_it_goes(void **state)
{
    static const struct {
        const char *text, *key, *value; /* value NULL: nothing is there */
    } cases[] = {
        {"---\nlicense: mit\n---\n", "license", "mit"},
        {NULL, "license", NULL}, /* no such file */
        {"\xef\xbb\xbf---\r\nlicense: 'it''s'  # x\r\n---\r\n", "license", "it's"},
        {"---\nlicense: \"a\\u00e9\"\n...\n", "license", "a\xc3\xa9"},
        {"license: mit\n", "license", NULL},
        {"---\nlicense: mit\n", "license", NULL}, /* without an end it is text */
        {"---\nlicense:mit\n---\n", "license", NULL},
        {"---\nlicense: {a: b}\n---\n", "license", NULL},
        {"---\nlicense: |\n  a\n---\n", "license", NULL},
        {"---\nlicense: \"open\n---\n", "license", NULL},
        {"---\nlicense:\n- name: x\n---\n", "license", NULL},
        {"---\nlicense: a\nlicense: b\n---\n", "license", "b"},
        {"---\nx:\n  license: mit\n---\n", "license", NULL},
        {"---\nlicense: ~\n---\n", "license", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *card;
        assert_ok(ap_hf_card_read(&card, ap_str_from(cases[i].text), err));
        const char *got = json_string_value(json_object_get(card, cases[i].key));
        if (!got != !cases[i].value || (got && strcmp(got, cases[i].value) != 0))
            fail_msg("case %zu: '%s'", i, got ? got : "nothing");
        json_decref(card);
    }
    ap_buf lines = {0};
    json_t *card;
    ap_error error = {0};
    assert_ok(ap_buf_printf(&lines, err, "---\n"));
    for (int i = 0; i < AP_HF_CARD_LINES_MAX; i++)
        assert_ok(ap_buf_printf(&lines, err, "#\n"));
    assert_ok(ap_buf_printf(&lines, err, "#\n---\n"));
    assert_int_equal(ap_hf_card_read(&card, ap_buf_str(&lines), &error), AP_E_LIMIT);
    assert_non_null(strstr(error.message, "262144"));
    json_decref(card);
    ap_buf_deinit(&lines);
}

static void a_family(void **state) { there_the_same_bits("golden/arch", *state, true); }
static void a_quantized_folder(void **state) { there_the_same_bits("golden/quantized", *state, false); }

int main(void)
{
    const struct CMUnitTest documents[] = {cmocka_unit_test(words_labels_and_pooling_come_back), cmocka_unit_test(a_pooling_comes_back),
                                          cmocka_unit_test(a_family_is_found_without_our_keys),
                                          cmocka_unit_test(the_card_comes_back), cmocka_unit_test(keys_without_a_card_come_back),
                                          cmocka_unit_test(a_card_is_read_as_far_as_it_goes)};
    int failed = cmocka_run_group_tests(documents, NULL, NULL);
    failed = golden_each("convert", "golden/arch", a_family) || failed;
    return golden_each("convert_quantized", "golden/quantized", a_quantized_folder) || failed;
}
