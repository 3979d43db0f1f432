/* test_vocab_read.c - vocabularies from other files than GGUF and tokenizer.json, against their own readers' ids
 * (tests/golden/make_token_folders.py), and what is refused.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "support.h"

#include <stdlib.h>
#include <string.h>

#include "text/sentencepiece.h"
#include "text/vocab_read.h"

/* ---- Recorded ids ------------------------------------------------------------------------------------------------ */

static ap_status create(ap_tokenizer **t, const ap_vocab_lists *files, ap_str alone, ap_error *error)
{
    ap_vocab_source source;
    ap_arena arena = {0};
    ap_status status = files ? ap_vocab_lists_read(&source, &arena, files, error) : ap_vocab_file_read(&source, &arena, alone, error);
    *t = NULL;
    if (status == AP_OK)
        status = ap_tokenizer_create(t, &source, error);
    ap_arena_deinit(&arena);
    return status;
}

/* Empty if there is none. */
static ap_buf read_file(const char *folder, const char *name)
{
    char path[160];
    ap_buf file = {0};
    (void)snprintf(path, sizeof path, "text/data/token_folders/%s/%s", folder, name);
    (void)ap_file_read(ap_test_file(path), 1 << 20, &file, NULL);
    return file;
}

static unsigned digit_of(char c) { return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a' + 10); }

static unsigned check_ids(const ap_tokenizer *t, const char *folder)
{
    ap_buf file = read_file(folder, "ids.txt");
    char text[1 << 14];
    unsigned lines = 0;
    for (char *p = file.ptr; p && *p; p += *p == '\n') {
        size_t n = 0;
        p += strlen("ids ");
        for (p += *p == '-'; *p != ' '; p += 2)
            text[n++] = (char)(digit_of(p[0]) * 16 + digit_of(p[1]));
        ap_text_part part = {{text, n}, true};
        ap_ids ids = {0};
        assert_ok(ap_tokenize(t, &part, 1, AP_TOKENIZE_BOS | AP_TOKENIZE_EOS, &ids, err));
        size_t i = 0;
        for (; *p == ' ' && p[1] != '\n'; i++) {
            long want = strtol(p, &p, 10);
            if (i >= ids.count || ids.ids[i] != want)
                fail_msg("%s, line %u, '%.*s': id %zu is %d, not %ld", folder, lines + 1, (int)n, text, i, i < ids.count ? ids.ids[i] : -1, want);
        }
        assert_int_equal(i, ids.count);
        p += *p == ' ';
        ap_ids_deinit(&ids);
        lines++;
    }
    ap_buf_deinit(&file);
    return lines;
}

static void folders_of_older_models_give_the_ids_of_their_readers(void **state)
{
    static const struct {
        const char *folder, *vocab;
    } folders[] = {{"gpt2", "vocab.json"}, {"roberta", "vocab.json"}, {"qwen2", "vocab.json"}, {"bert", "vocab.txt"}, {"tekken", NULL}};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        const char *folder = folders[i].folder;
        ap_buf vocab = read_file(folder, folders[i].vocab ? folders[i].vocab : "tekken.json"), merges = read_file(folder, "merges.txt"),
               config = read_file(folder, "tokenizer_config.json");
        ap_vocab_lists files = {.vocab = ap_buf_str(&vocab), .merges = ap_buf_str(&merges), .config = ap_buf_str(&config)};
        ap_tokenizer *t;
        assert_ok(create(&t, folders[i].vocab ? &files : NULL, ap_buf_str(&vocab), err));
        if (folders[i].vocab) {
            assert_int_equal(check_ids(t, folder), 60);
        } else { /* its own reader was asked without the begin token */
            assert_true(ap_tokenizer_adds_bos(t) && ap_tokenizer_bos(t) == 1 && ap_tokenizer_eos(t) == 2);
            assert_int_equal(ap_tokenizer_special(t, AP_STR("[INST]")), 3);
            assert_int_equal(ap_tokenizer_special(t, AP_STR("<SPECIAL_23>")), 23);
        }
        ap_tokenizer_destroy(&t);
        ap_buf_deinit(&vocab);
        ap_buf_deinit(&merges);
        ap_buf_deinit(&config);
    }
}

static void a_folder_without_a_class_is_known_by_its_model(void **state)
{
    ap_buf vocab = read_file("gpt2", "vocab.json"), merges = read_file("gpt2", "merges.txt");
    ap_vocab_lists files = {.vocab = ap_buf_str(&vocab), .merges = ap_buf_str(&merges), .model_type = AP_STR("gpt2")};
    ap_tokenizer *t;
    assert_ok(create(&t, &files, (ap_str){0}, err));
    assert_int_equal(check_ids(t, "gpt2"), 60);
    ap_tokenizer_destroy(&t);
    files.added = AP_STR("{\"<more>\":900}");
    files.specials = AP_STR("{\"bos_token\":\"<|endoftext|>\",\"additional_special_tokens\":[{\"content\":\"<more>\"}]}");
    assert_ok(create(&t, &files, (ap_str){0}, err));
    assert_int_equal(ap_tokenizer_special(t, AP_STR("<more>")), 900);
    assert_true(ap_tokenizer_is_control(t, 900));
    ap_tokenizer_destroy(&t);
    ap_buf_deinit(&vocab);
    ap_buf_deinit(&merges);
}

static void a_list_of_words_alone_is_told_by_its_lines(void **state)
{
    ap_buf vocab = read_file("bert", "vocab.txt");
    ap_tokenizer *t;
    assert_ok(create(&t, NULL, ap_buf_str(&vocab), err));
    assert_int_equal(check_ids(t, "bert"), 60); /* no word has a capital letter: lower case */
    ap_tokenizer_destroy(&t);
    assert_ok(create(&t, NULL, AP_STR("[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\nA\r\na\r\n##b\r\n"), err));
    ap_text_part part = {AP_STR("A Ab ab"), false};
    ap_ids ids = {0};
    assert_ok(ap_tokenize(t, &part, 1, AP_TOKENIZE_BOS | AP_TOKENIZE_EOS, &ids, err));
    const int32_t want[] = {2, 4, 4, 6, 5, 6, 3};
    assert_int_equal(ids.count, sizeof want / sizeof want[0]);
    assert_memory_equal(ids.ids, want, sizeof want);
    ap_ids_deinit(&ids);
    ap_tokenizer_destroy(&t);
    ap_buf_deinit(&vocab);
}

/* ---- Ranks ------------------------------------------------------------------------------------------------------- */

static void add_line(ap_buf *file, const unsigned char *bytes, unsigned n, unsigned rank)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned bits = (unsigned)bytes[0] << 16 | (n > 1 ? bytes[1] << 8 : 0) | (n > 2 ? bytes[2] : 0);
    assert_ok(ap_buf_printf(file, err, "%c%c%c%c %u\n", digits[bits >> 18], digits[bits >> 12 & 63], n > 1 ? digits[bits >> 6 & 63] : '=',
                            n > 2 ? digits[bits & 63] : '=', rank));
}

/* As many ranks as cl100k: the bytes, all pairs of them, and triples of "aaa" and what follows it. */
static ap_buf many_ranks(void)
{
    ap_buf file = {0};
    unsigned rank = 0;
    for (unsigned i = 0; i < 256; i++)
        add_line(&file, &(unsigned char){(unsigned char)i}, 1, rank++);
    for (unsigned i = 0; i < 65536; i++)
        add_line(&file, (unsigned char[]){(unsigned char)(i >> 8), (unsigned char)i}, 2, rank++);
    for (unsigned i = 0; rank < 100256; i++)
        add_line(&file, (unsigned char[]){(unsigned char)('a' + (i >> 16)), (unsigned char)(i >> 8), (unsigned char)i}, 3, rank++);
    return file;
}

static void ranks_merge_the_lowest_first_and_equal_ones_from_the_left(void **state)
{
    ap_buf file = many_ranks();
    ap_tokenizer *t;
    assert_ok(create(&t, NULL, ap_buf_str(&file), err));
    assert_int_equal(ap_tokenizer_count(t), 100277);
    assert_int_equal(ap_tokenizer_special(t, AP_STR("<|endoftext|>")), 100257);
    ap_text_part part = {AP_STR("zzzzz zz"), false};
    ap_ids ids = {0};
    assert_ok(ap_tokenize(t, &part, 1, AP_TOKENIZE_BOS, &ids, err));
    /* "zzzzz" is zz zz z; " zz" has the pairs " z" (lower) and "zz". */
    const int32_t want[] = {256 + 'z' * 257, 256 + 'z' * 257, 'z', 256 + ' ' * 256 + 'z', 'z'};
    assert_int_equal(ids.count, sizeof want / sizeof want[0]);
    assert_memory_equal(ids.ids, want, sizeof want);
    ap_ids_deinit(&ids);
    ap_tokenizer_destroy(&t);
    ap_buf_deinit(&file);
}

/* ---- XLM-R ------------------------------------------------------------------------------------------------------- */

static void xlm_roberta_shifts_the_ids_of_pieces(void **state)
{
    ap_buf file = {0};
    ap_arena arena = {0};
    ap_vocab_source sources[2];
    ap_tokenizer *t[2];
    assert_ok(ap_file_read(ap_test_file("text/data/tokenizers/sentencepiece_unigram.model"), 1 << 20, &file, err));
    assert_ok(ap_sentencepiece_read(&sources[0], &arena, ap_buf_str(&file), err));
    assert_ok(ap_xlm_roberta_read(&sources[1], &arena, ap_buf_str(&file), err));
    for (unsigned i = 0; i < 2; i++)
        assert_ok(ap_tokenizer_create(&t[i], &sources[i], err));
    ap_text_part part = {AP_STR("Hello world, the <mask> 123"), true};
    ap_ids plain = {0}, shifted = {0};
    assert_ok(ap_tokenize(t[0], &(ap_text_part){AP_STR("Hello world, the"), true}, 1, 0, &plain, err));
    assert_ok(ap_tokenize(t[1], &part, 1, AP_TOKENIZE_BOS | AP_TOKENIZE_EOS, &shifted, err));
    assert_int_equal(shifted.ids[0], 0);
    assert_int_equal(shifted.ids[shifted.count - 1], 2);
    for (size_t i = 0; i < plain.count; i++)
        assert_int_equal(shifted.ids[i + 1], plain.ids[i] == 0 ? 3 : plain.ids[i] + 1);
    assert_int_equal(shifted.ids[plain.count + 1], (int32_t)ap_tokenizer_count(t[0]) + 1);
    ap_ids_deinit(&plain);
    ap_ids_deinit(&shifted);
    ap_tokenizer_destroy(&t[0]);
    ap_tokenizer_destroy(&t[1]);
    ap_arena_deinit(&arena);
    ap_buf_deinit(&file);
}

/* ---- Refusals ---------------------------------------------------------------------------------------------------- */

static void hostile_files_are_refused_by_name(void **state)
{
#define TEKKEN(size, specials, vocab, more) \
    "{\"config\":{\"pattern\":\"a\",\"default_vocab_size\":" size ",\"default_num_special_tokens\":" specials "},\"vocab\":[" vocab "]" more "}"
#define RANK(n, bytes) "{\"rank\":" n ",\"token_bytes\":\"" bytes "\"}"
    static const struct {
        const char *file, *word;
    } files[] = {
        {"", "no vocabulary"},
        {"nothing\nof\nthis kind\n", "no vocabulary"},
        {"{\"a\":0,\"b\":1}", "merges.txt"},
        {"YQ== 0\nYg== 1\n", "2 ranks"},
        {"YQ== 0\nYg== 0\n", "second time"},
        {"YQ== 0\nYg== 2\n", "line 2"},
        {"YQ== 0\n!!!! 1\n", "rank 1"},
        {"YQ== 0\nYg== x\n", "line 2"},
        {"YQ== 0\n 1\n", "line 2"},
        {"[UNK]\n[SEP]\n", "[CLS]"},
        {"[UNK]\n[SEP]\n[CLS]\na\na\n", "lines 4 and 5"},
        {"[UNK]\n[SEP]\n[CLS]\n\xff\n", "line 4"},
        {TEKKEN("3", "1", RANK("0", "YQ==") "," RANK("2", "Yg=="), ""), "entry 1"},
        {TEKKEN("3", "1", RANK("0", "YQ==") "," RANK("1", "YQ=="), ""), "same bytes"},
        {TEKKEN("3", "1", RANK("0", "YQ==") "," RANK("1", ""), ""), "rank 1"},
        {TEKKEN("4", "1", RANK("0", "YQ=="), ""), "does not fit"},
        {TEKKEN("4000000000", "1", RANK("0", "YQ=="), ""), "does not fit"},
        {TEKKEN("2", "0", RANK("0", "YQ=="), ""), "does not fit"},
        {TEKKEN("2", "1", RANK("0", "YQ=="), ",\"special_tokens\":[{\"rank\":1,\"token_str\":\"<s>\"}]"), "special token 0"},
        {TEKKEN("2", "1", RANK("0", "YQ=="), ",\"special_tokens\":[{\"rank\":0,\"token_str\":\"x\"},{\"rank\":0,\"token_str\":\"y\"}]"), "'y'"},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        ap_tokenizer *t;
        ap_error error = {0};
        ap_status status = create(&t, NULL, ap_str_from(files[i].file), &error);
        if (status == AP_OK || !strstr(error.message, files[i].word))
            fail_msg("'%s': status %d, '%s', wanted '%s'", files[i].file, status, error.message, files[i].word);
    }
    static const struct {
        ap_vocab_lists files;
        const char *word;
    } lists[] = {
        {{.vocab = {"{\"a\":0}", 7}, .merges = {"a a", 3}, .model_type = {"dream", 5}}, "dream"},
        {{.vocab = {"{\"a\":0}", 7}, .merges = {"a a", 3}, .model_type = {"gpt2", 4}}, "merge 0"},
        {{.vocab = {"[]", 2}, .merges = {"a a", 3}, .model_type = {"gpt2", 4}}, "vocab.json"},
        {{.vocab = {"{\"a\":0}", 7}, .merges = {"\xff a", 3}, .model_type = {"gpt2", 4}}, "line 1"},
        {{.vocab = {"{\"a\":0}", 7}, .merges = {"#version", 8}, .config = {"{\"tokenizer_class\":\"MysteryTokenizer\"}", 38}}, "Mystery"},
        {{.vocab = {"{\"a\":0}", 7}, .merges = {"#version", 8}, .config = {"{", 1}}, "JSON"},
        {{.vocab = {"{\"a\":0}", 7}, .merges = {"#version", 8}, .model_type = {"gpt2", 4}, .added = {"{\"x\":4000000000}", 16}}, "4000000000"},
    };
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        ap_tokenizer *t;
        ap_error error = {0};
        ap_status status = create(&t, &lists[i].files, (ap_str){0}, &error);
        if (status == AP_OK || !strstr(error.message, lists[i].word))
            fail_msg("list %zu: status %d, '%s', wanted '%s'", i, status, error.message, lists[i].word);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_of_older_models_give_the_ids_of_their_readers),
        cmocka_unit_test(a_folder_without_a_class_is_known_by_its_model),
        cmocka_unit_test(a_list_of_words_alone_is_told_by_its_lines),
        cmocka_unit_test(ranks_merge_the_lowest_first_and_equal_ones_from_the_left),
        cmocka_unit_test(xlm_roberta_shifts_the_ids_of_pieces),
        cmocka_unit_test(hostile_files_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
