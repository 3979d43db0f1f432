/* test_token_golden.c - pieces and ids against the package `tokenizers`, recorded by tests/golden/token_vectors.py.
 *
 * With two arguments, a GGUF file or a tokenizer.json and a file of `ids` lines, checks those instead; bytes are not
 * compared then, since normalizers change them.  With one, a folder, what is written as a tokenizer.json stays there.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "support.h"

#include <string.h>

#include "base/utf8.h"
#include "text/split.h"
#include "text/tokenizer_json.h"
#include "text/vocab_read.h"
#include "vocab_file.h"

enum { TEXT_BYTES_MAX = 1 << 16, TOKENS_MAX = 2048 };

typedef struct reader {
    ap_buf file;
    ap_classes *classes;
    const ap_split *split;
    ap_tokenizer *tokenizer;
    ap_vocab_source source;
    ap_str tokens[TOKENS_MAX], merges[TOKENS_MAX];
    int32_t types[TOKENS_MAX];
    char text[TEXT_BYTES_MAX];
    unsigned line, wrong, pieces_checked, ids_checked, texts_checked;
    ap_ids ids; /* of the last line */
    bool is_given, is_refused; /* the last line, by the limit of a foreign expression */
    unsigned refused;
} reader;

static unsigned digit_of(char c) { return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a' + 10); }

/* Decodes the word at *p and steps over it and the space after it. */
static ap_str read_hex(reader *r, const char **p)
{
    size_t n = 0;
    const char *q = *p;
    if (*q == '-')
        q++;
    for (; *q && *q != ' ' && *q != '\n'; q += 2) {
        assert_true(n < sizeof r->text);
        r->text[n++] = (char)(digit_of(q[0]) * 16 + digit_of(q[1]));
    }
    *p = q + (*q == ' ');
    return (ap_str){r->text, n};
}

static bool next_number(const char **p, long *out)
{
    if (**p == '\n' || **p == 0)
        return false;
    char *end;
    *out = strtol(*p, &end, 10);
    *p = *end == ' ' ? end + 1 : end;
    return true;
}

static void differ(reader *r, const char *what, ap_str text)
{
    if (r->wrong++ < 20)
        print_message("line %u: %s differ for '%.*s'\n", r->line, what, (int)(text.len < 300 ? text.len : 300), text.ptr);
}

static void check_pieces(reader *r, const char *p)
{
    ap_str text = read_hex(r, &p), word;
    ap_splitter splitter;
    ap_splitter_begin(&splitter, r->classes, r->split, text, NULL, NULL);
    long want;
    bool same = true;
    while (same && next_number(&p, &want))
        same = ap_splitter_next(&splitter, &word) && (long)word.len == want;
    if (!same || ap_splitter_next(&splitter, &word))
        differ(r, "pieces", text);
    r->pieces_checked++;
}

static void check_ids(reader *r, const char *p)
{
    ap_ids ids = {0};
    ap_text_part part = {read_hex(r, &p), true};
    ap_error error = {0};
    ap_status status = ap_tokenize(r->tokenizer, &part, 1, 0, &ids, &error);
    r->is_refused = r->is_given && status == AP_E_LIMIT && strstr(error.message, "steps per byte");
    if (r->is_refused) {
        r->refused++;
        return;
    }
    if (status != AP_OK)
        fail_msg("line %u: %s", r->line, error.message);
    size_t i = 0;
    long want;
    bool same = true;
    for (; next_number(&p, &want); i++)
        same = same && i < ids.count && ids.ids[i] == want;
    if (!same || i != ids.count)
        differ(r, "ids", part.text);
    ap_buf back = {0};
    assert_ok(ap_detokenize(r->tokenizer, ids.ids, ids.count, AP_DETOKENIZE_SPECIAL, &back, err));
    if (!r->is_given && ids.replaced == 0 && !ap_str_equal(ap_buf_str(&back), part.text))
        differ(r, "bytes there and back", part.text);
    ap_buf_deinit(&back);
    ap_ids_deinit(&r->ids);
    r->ids = ids;
    r->ids_checked++;
}

/* What the package makes of the ids of the line before, control tokens included. */
static void check_text(reader *r, const char *p)
{
    ap_buf raw = {0}, whole = {0};
    ap_str want = read_hex(r, &p);
    if (r->is_refused)
        return;
    assert_ok(ap_detokenize(r->tokenizer, r->ids.ids, r->ids.count, AP_DETOKENIZE_SPECIAL, &raw, err));
    assert_ok(ap_utf8_add_lossy(&whole, ap_buf_str(&raw), err));
    if (!ap_str_equal(ap_buf_str(&whole), want)) {
        differ(r, "texts decoded", want);
        if (r->wrong < 20)
            print_message("  not '%.*s'\n", (int)(whole.len < 300 ? whole.len : 300), whole.ptr);
    }
    ap_buf_deinit(&raw);
    ap_buf_deinit(&whole);
    r->texts_checked++;
}

static ap_str rest_of_line(const char *p) { return (ap_str){p, strcspn(p, "\n")}; }

static void read_line(reader *r, const char *p)
{
    ap_vocab_source *s = &r->source;
    if (strncmp(p, "split ", 6) == 0) {
        r->split = ap_split_find(rest_of_line(p + 6));
        assert_non_null(r->split);
    } else if (strncmp(p, "pieces ", 7) == 0) {
        check_pieces(r, p + 7);
    } else if (strncmp(p, "vocab ", 6) == 0) {
        *s = (ap_vocab_source)AP_VOCAB_SOURCE_NONE;
        s->kind = AP_VOCAB_BPE;
        s->pre = rest_of_line(p + 6);
        s->tokens = r->tokens, s->merges = r->merges, s->types = r->types;
    } else if (strncmp(p, "token ", 6) == 0) {
        assert_true(s->token_count < TOKENS_MAX);
        r->types[s->token_count] = p[6] - '0';
        r->tokens[s->token_count++] = rest_of_line(p + 8);
    } else if (strncmp(p, "merge ", 6) == 0) {
        assert_true(s->merge_count < TOKENS_MAX);
        r->merges[s->merge_count++] = rest_of_line(p + 6);
    } else if (strncmp(p, "ready", 5) == 0) {
        ap_tokenizer_destroy(&r->tokenizer);
        assert_ok(ap_tokenizer_create(&r->tokenizer, s, err));
    } else if (strncmp(p, "text ", 5) == 0) {
        check_text(r, p + 5);
    } else if (strncmp(p, "ids ", 4) == 0) {
        check_ids(r, p + 4);
    } else {
        assert_true(*p == '#' || *p == '\n');
    }
}

static void check_file(reader *r, const char *path, unsigned differ_expected)
{
    assert_ok(ap_file_read(path, 1 << 30, &r->file, err));
    r->classes = calloc(1, sizeof *r->classes);
    assert_non_null(r->classes);
    ap_classes_fill(r->classes);
    for (const char *p = r->file.ptr; *p; p += strcspn(p, "\n") + 1) {
        r->line++;
        read_line(r, p);
    }
    ap_tokenizer_destroy(&r->tokenizer);
    ap_buf_deinit(&r->file);
    ap_ids_deinit(&r->ids);
    free(r->classes);
    print_message("%u texts cut, %u tokenised, %u decoded, %u differ, %u refused\n", r->pieces_checked, r->ids_checked, r->texts_checked, r->wrong,
                  r->refused);
    assert_int_equal(r->wrong, differ_expected);
}

static void recorded_pieces_and_ids(void **state)
{
    reader *r = calloc(1, sizeof *r);
    check_file(r, ap_test_file("text/data/token_vectors.txt"), 0);
    assert_true(r->pieces_checked == 17 * 70 && r->ids_checked == 2 * 160);
    free(r);
}

/* One of each kind of tokenizer.json and tokenizer.model, written by tests/golden/make_tokenizers.py. */
static void recorded_tokenizer_files(void **state)
{
    static const char *const names[] = {"byte_dropped", "byte_empty_matches", "byte_falcon", "byte_foreign", "byte_glued", "byte_words",
                                        "wordpiece_words", "byte_digits", "byte_gpt2", "byte_nfc", "byte_nfkd", "sentence_first", "sentence_prepend",
                                        "sentence_words", "unigram_spaces", "unigram_words", "wordpiece_cased", "wordpiece_lower", "sentencepiece_bpe",
                                        "sentencepiece_unigram"};
    unsigned texts_checked = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[128];
        reader *r = calloc(1, sizeof *r);
        r->is_given = true;
        (void)snprintf(path, sizeof path, "text/data/tokenizers/%s.%s", names[i],
                       strncmp(names[i], "sentencepiece", 13) == 0 ? "model" : "json");
        assert_ok(vocab_file_open(&r->tokenizer, ap_test_file(path), err));
        (void)snprintf(path, sizeof path, "text/data/tokenizers/%s.txt", names[i]);
        print_message("%s: ", names[i]);
        check_file(r, ap_test_file(path), 0);
        assert_int_equal(r->ids_checked, 60);
        texts_checked += r->texts_checked;
        free(r);
    }
    assert_true(texts_checked > 800);
}

/* Written as a tokenizer.json again, each gives the same ids. */
static void written_tokenizer_files(void **state)
{
    static const struct {
        const char *name, *refused;
        unsigned differ; /* texts with graphemes of several characters, or U+0085, of which SentencePiece thinks otherwise */
    } rows[] = {{"byte_dropped"}, {"byte_empty_matches"}, {"byte_falcon", "behind bytes"}, {"byte_foreign"}, {"byte_glued"}, {"byte_words"},
                {"wordpiece_words"}, {"byte_digits"}, {"byte_gpt2"}, {"byte_nfc"}, {"byte_nfkd"}, {"sentence_first"}, {"sentence_prepend"},
                {"sentence_words"}, {"unigram_spaces"}, {"unigram_words"}, {"wordpiece_cased"}, {"wordpiece_lower"}, {"sentencepiece_unigram", .differ = 9}};
    const char *keep = *state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char path[600];
        ap_arena arena = {0};
        ap_buf file = {0}, written = {0};
        ap_vocab_source source, again;
        ap_error error = {0};
        (void)snprintf(path, sizeof path, "text/data/tokenizers/%s.%s", rows[i].name, strncmp(rows[i].name, "sentencepiece", 13) == 0 ? "model" : "json");
        assert_ok(ap_file_read(ap_test_file(path), 1 << 24, &file, err));
        assert_ok(ap_vocab_file_read(&source, &arena, ap_buf_str(&file), err));
        ap_status status = ap_tokenizer_json_write(&source, &written, &error);
        if (rows[i].refused) {
            assert_int_equal(status, AP_E_UNSUPPORTED);
            assert_non_null(strstr(error.message, rows[i].refused));
        } else {
            if (status != AP_OK)
                fail_msg("%s: %s", rows[i].name, error.message);
            reader *r = calloc(1, sizeof *r);
            r->is_given = true;
            assert_ok(ap_tokenizer_json_read(&again, &arena, ap_buf_str(&written), err));
            assert_ok(ap_tokenizer_create(&r->tokenizer, &again, err));
            (void)snprintf(path, sizeof path, "text/data/tokenizers/%s.txt", rows[i].name);
            print_message("%s: ", rows[i].name);
            check_file(r, ap_test_file(path), rows[i].differ);
            free(r);
            (void)snprintf(path, sizeof path, "%s/%s.json", keep ? keep : "", rows[i].name);
            if (keep)
                assert_ok(ap_file_replace(path, written.ptr, written.len, 0644, err));
        }
        ap_buf_deinit(&file);
        ap_buf_deinit(&written);
        ap_arena_deinit(&arena);
    }
}

/* A name of a JSON object has no NUL that a reader would take. */
static void a_token_with_a_nul_is_refused(void **state)
{
    const ap_str tokens[] = {{"[UNK]", 5}, {AP_METASPACE "a", 4}, {"b\0", 2}};
    const int32_t types[] = {AP_TOKEN_UNKNOWN, AP_TOKEN_NORMAL, AP_TOKEN_NORMAL};
    ap_vocab_source source = AP_VOCAB_SOURCE_NONE;
    source.kind = AP_VOCAB_WORDPIECE;
    source.tokens = tokens;
    source.types = types;
    source.add_bos = source.add_eos = 0;
    source.unk = 0;
    for (uint32_t count = 2; count <= 3; count++) {
        ap_buf written = {0};
        ap_error error = {0};
        source.token_count = count;
        assert_int_equal(ap_tokenizer_json_write(&source, &written, &error), count == 2 ? AP_OK : AP_E_UNSUPPORTED);
        assert_true(count == 2 || strstr(error.message, "token 2 has a NUL byte"));
        ap_buf_deinit(&written);
    }
}

static const char *const *given;

static void given_ids(void **state)
{
    reader *r = calloc(1, sizeof *r);
    r->is_given = true;
    assert_ok(vocab_file_open(&r->tokenizer, given[1], err));
    check_file(r, given[2], 0);
    free(r);
}

int main(int argc, char **argv)
{
    given = (const char *const *)argv;
    const struct CMUnitTest recorded[] = {cmocka_unit_test(recorded_pieces_and_ids), cmocka_unit_test(recorded_tokenizer_files), cmocka_unit_test(a_token_with_a_nul_is_refused),
                                          cmocka_unit_test_prestate(written_tokenizer_files, argc == 2 ? argv[1] : NULL)};
    const struct CMUnitTest other[] = {cmocka_unit_test(given_ids)};
    return argc == 3 ? cmocka_run_group_tests(other, NULL, NULL) : cmocka_run_group_tests(recorded, NULL, NULL);
}
