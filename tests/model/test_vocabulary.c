/* test_vocabulary.c - a tokenizer.json, written as GGUF keys and read again, gives the recorded ids.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "support.h"

#include "base/utf8.h"

#include <string.h>

#include "model/vocabulary.h"
#include "text/tokenizer_json.h"

static const char *const names[] = {"byte_digits", "byte_gpt2", "byte_nfc", "byte_nfkd", "sentence_first", "sentence_prepend",
                                    "sentence_words", "unigram_spaces", "unigram_words", "wordpiece_cased", "wordpiece_lower"};

static void through_keys(const char *name, uint32_t rows_more, ap_tokenizer **out)
{
    char path[128];
    ap_buf text = {0}, file = {0};
    ap_arena arena = {0};
    ap_vocab_source source;
    ap_gguf_writer *keys;
    ap_gguf *gguf = NULL;
    (void)snprintf(path, sizeof path, "text/data/tokenizers/%s.json", name);
    assert_ok(ap_file_read(ap_test_file(path), 1 << 24, &text, err));
    assert_ok(ap_tokenizer_json_read(&source, &arena, ap_buf_str(&text), err));
    assert_ok(ap_gguf_writer_create(&keys, 32, err));
    assert_ok(ap_vocab_source_write(&source, source.token_count + rows_more, keys, err));
    ap_error error = {0};
    assert_int_equal(ap_vocab_source_write(&source, source.token_count - 1, keys, &error), AP_E_FORMAT);
    assert_ok(ap_gguf_writer_keys_only(keys, &file, err));
    assert_ok(ap_gguf_open(&gguf, (const unsigned char *)file.ptr, file.len, err));
    assert_ok(ap_vocab_source_read(&source, &arena, gguf, err));
    assert_ok(ap_tokenizer_create(out, &source, err));
    ap_gguf_writer_destroy(&keys);
    ap_gguf_close(&gguf);
    ap_arena_deinit(&arena);
    ap_buf_deinit(&text);
    ap_buf_deinit(&file);
}

static unsigned digit_of(char c) { return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a' + 10); }

/* Decodes the word at p; where it ends. */
static const char *read_hex(const char *p, char *text, size_t *n)
{
    *n = 0;
    for (; *p != ' ' && *p != '-' && *p != '\n'; p += 2)
        text[(*n)++] = (char)(digit_of(p[0]) * 16 + digit_of(p[1]));
    return p + (*p == '-');
}

/* A line of ids, and what they become again if the next one says it. */
static void check_line(const ap_tokenizer *t, const char *p)
{
    char text[1 << 14];
    size_t n, i = 0;
    ap_ids ids = {0};
    assert_memory_equal(p, "ids ", 4);
    p = read_hex(p + 4, text, &n);
    ap_text_part part = {{text, n}, true};
    assert_ok(ap_tokenize(t, &part, 1, 0, &ids, err));
    for (char *end; *p == ' ' && p[1] != '\n'; p = end, i++)
        assert_true(i < ids.count && ids.ids[i] == strtol(p, &end, 10));
    assert_int_equal(i, ids.count);
    p += strcspn(p, "\n") + 1;
    if (strncmp(p, "text ", 5) == 0) {
        ap_buf raw = {0}, whole = {0};
        (void)read_hex(p + 5, text, &n);
        assert_ok(ap_detokenize(t, ids.ids, ids.count, AP_DETOKENIZE_SPECIAL, &raw, err));
        assert_ok(ap_utf8_add_lossy(&whole, ap_buf_str(&raw), err));
        assert_true(ap_str_equal(ap_buf_str(&whole), (ap_str){text, n}));
        ap_buf_deinit(&raw);
        ap_buf_deinit(&whole);
    }
    ap_ids_deinit(&ids);
}

static void a_vocabulary_as_keys_gives_the_same_ids(void **state)
{
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[128];
        ap_buf lines = {0};
        ap_tokenizer *t = NULL;
        unsigned count = 0;
        through_keys(names[i], (uint32_t)i, &t);
        (void)snprintf(path, sizeof path, "text/data/tokenizers/%s.txt", names[i]);
        assert_ok(ap_file_read(ap_test_file(path), 1 << 20, &lines, err));
        for (const char *p = lines.ptr; *p; p += strcspn(p, "\n") + 1) {
            if (strncmp(p, "text ", 5) == 0)
                continue;
            check_line(t, p);
            count++;
        }
        assert_int_equal(count, 60);
        ap_buf_deinit(&lines);
        ap_tokenizer_destroy(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_vocabulary_as_keys_gives_the_same_ids)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
