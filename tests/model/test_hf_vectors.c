/* test_hf_vectors.c - the ids recorded for named models in the test data's tokenizers/hf_vectors.
 *
 * Each file of vectors wants a vocabulary.  Five come with the test data; the others are too large or not free enough for
 * it, and are looked for in the folder that APERTO_VOCABULARIES names (`make test-tokens` fills one).  What is not there
 * is printed by name.  Ids include the tokens that a vocabulary puts around text.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "support.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "model/model.h"

typedef struct row {
    const char *vectors, *vocabulary; /* in the test data, or NAME in the folder */
    unsigned cases;
    bool is_here;   /* in the test data */
    bool adds_bos;  /* HF's tokenizer adds the begin token; the vocabulary here does not say so, or otherwise */
    bool tidied;    /* the recorded text lacks the spaces before punctuation, as one reference tidies up */
    bool loses;     /* the recorded text is put together from words otherwise */
} row;

static const row rows[] = {
    {"Xenova__bert-base-uncased", "tokenizers/ggml-vocab-bert-bge.gguf", 30, true, true, .loses = true},
    {"tiiuae__falcon-7b", "tokenizers/ggml-vocab-falcon.gguf", 24, true, false, .tidied = true},
    {"Xenova__gpt2", "tokenizers/ggml-vocab-gpt-2.gguf", 26, true, false, .tidied = true},
    {"Xenova__llama-tokenizer", "tokenizers/ggml-vocab-llama-spm.gguf", 37, true, true},
    {"Xenova__deepseek-coder-1.3b-instruct", "tokenizers/ggml-vocab-deepseek-coder.gguf", 37, true, true},
    {"Xenova__llama3-tokenizer", "llama3.json", 37, false, false, .tidied = true},
    {"Xenova__Qwen1.5-0.5B-Chat", "qwen3.json", 25, false, false},
    {"Xenova__gpt-4o", "gpt4o.json", 15, false, false},
    {"Xenova__TinyLLama-v0", "tinyllama.json", 13, false, true},
    {"huggingface-course__codeparrot-ds", "codeparrot-ds.json", 9, false, false},
    {"Xenova__t5-small", "t5-small.json", 29, false, false},
    {"Xenova__bge-reranker-base", "xlm-roberta-base.json", 25, false, true},
    {"Xenova__paraphrase-multilingual-MiniLM-L12-v2", "xlm-roberta-base.json", 28, false, true},
    {"Xenova__multilingual-e5-small", "xlm-roberta-base.json", 6, false, true},
    {"Xenova__bloom-560m", "bloom.json", 31, false, false},
};
enum { ROWS = sizeof rows / sizeof rows[0], HERE = 5 };

static ap_str text_of(const json_t *value) { return (ap_str){json_string_value(value), json_string_length(value)}; }

static void add(const ap_tokenizer *t, const json_t *text, unsigned flags, ap_ids *ids)
{
    ap_text_part part = {text_of(text), true};
    assert_ok(ap_tokenize(t, &part, 1, flags, ids, err));
}

static bool is_same(const ap_ids *ids, const json_t *want)
{
    bool same = ids->count == json_array_size(want);
    for (size_t i = 0; same && i < ids->count; i++)
        same = ids->ids[i] == json_integer_value(json_array_get(want, i));
    return same;
}

/* Takes a space away before each mark of punctuation that the recorded texts have. */
static void tidy(ap_buf *text)
{
    size_t n = 0;
    for (size_t i = 0; i < text->len; i++)
        if (text->ptr[i] != ' ' || i + 1 == text->len || !strchr(".?!,", text->ptr[i + 1]))
            text->ptr[n++] = text->ptr[i];
    text->len = n;
}

static unsigned check_case(const ap_tokenizer *t, const row *r, const json_t *one)
{
    const json_t *pair = json_object_get(one, "text_pair"), *want = json_object_get(one, "ids");
    ap_ids ids = {0};
    unsigned wrong = 0;
    if (r->adds_bos && !ap_tokenizer_adds_bos(t)) {
        assert_ok(ap_ids_reserve(&ids, 1, err));
        ids.ids[ids.count++] = ap_tokenizer_bos(t);
    }
    add(t, json_object_get(one, "text"), (r->adds_bos ? AP_TOKENIZE_BOS : 0) | AP_TOKENIZE_EOS, &ids);
    if (json_is_string(pair))
        add(t, pair, AP_TOKENIZE_EOS, &ids);
    if (!is_same(&ids, want)) {
        print_message("%s, %s: ids differ for '%s':", r->vectors, json_string_value(json_object_get(one, "name")),
                      json_string_value(json_object_get(one, "text")));
        for (size_t i = 0; i < ids.count; i++)
            print_message(" %d", ids.ids[i]);
        print_message("\n");
        wrong = 1;
    }
    ap_buf text = {0};
    assert_ok(ap_detokenize(t, ids.ids, ids.count, AP_DETOKENIZE_SPECIAL, &text, err));
    if (r->tidied)
        tidy(&text);
    ap_str decoded = text_of(json_object_get(one, "decoded"));
    if (!wrong && !r->loses && decoded.ptr && !ap_str_equal(ap_buf_str(&text), decoded)) {
        print_message("%s, %s: text differs: '%.*s', recorded '%s'\n", r->vectors, json_string_value(json_object_get(one, "name")),
                      (int)text.len, text.ptr, decoded.ptr);
        wrong = 1;
    }
    ap_buf_deinit(&text);
    ap_ids_deinit(&ids);
    return wrong;
}

/* False: the vocabulary is not there. */
static bool check_row(const row *r, unsigned *wrong)
{
    char path[512];
    const char *folder = getenv("APERTO_VOCABULARIES");
    if (r->is_here)
        (void)snprintf(path, sizeof path, "%s", ap_test_data(r->vocabulary));
    else
        (void)snprintf(path, sizeof path, "%s/%s", folder ? folder : "", r->vocabulary);
    if (!r->is_here && (!folder || access(path, R_OK) != 0)) {
        print_message("%s: not checked, its vocabulary %s is not here (APERTO_VOCABULARIES)\n", r->vectors, r->vocabulary);
        return false;
    }
    int fd;
    ap_vocab *vocab = NULL;
    assert_ok(ap_file_open(path, &fd, err));
    assert_ok(ap_vocab_open(&vocab, fd, err));
    (void)close(fd);
    ap_buf file = {0};
    (void)snprintf(path, sizeof path, "tokenizers/hf_vectors/%s.json", r->vectors);
    assert_ok(ap_file_read(ap_test_data(path), 1 << 20, &file, err));
    json_t *root;
    assert_ok(ap_json_parse(&root, ap_buf_str(&file), (ap_json_limits){1 << 20, 1 << 16}, err));
    const json_t *cases = json_object_get(root, "cases");
    assert_int_equal(json_array_size(cases), r->cases);
    unsigned before = *wrong;
    for (size_t i = 0; i < json_array_size(cases); i++)
        *wrong += check_case(vocab->tokenizer, r, json_array_get(cases, i));
    print_message("%s: %u cases, %u differ\n", r->vectors, r->cases, *wrong - before);
    json_decref(root);
    ap_buf_deinit(&file);
    ap_vocab_close(&vocab);
    return true;
}

static void named_models_give_the_recorded_ids(void **state)
{
    unsigned checked = 0, wrong = 0;
    for (unsigned i = 0; i < ROWS; i++)
        checked += check_row(&rows[i], &wrong);
    print_message("%u of %d files of vectors checked\n", checked, ROWS);
    assert_true(checked >= HERE);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(named_models_give_the_recorded_ids)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
