/* test_tokenizer_json.c - what a hostile or unknown tokenizer.json is refused for.  (That good ones give the right ids is
 * in test_token_golden.c.)
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "support.h"

#include <string.h>

#include "text/split.h"
#include "text/tokenizer_json.h"

#define BYTES "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"
#define MODEL(vocab, merges) "{" BYTES ",\"model\":{\"type\":\"BPE\",\"vocab\":" vocab ",\"merges\":" merges "}}"

static void expect(const char *json, ap_status want, const char *word)
{
    ap_vocab_source source;
    ap_arena arena = {0};
    ap_tokenizer *t = NULL;
    ap_error error = {0};
    ap_status status = ap_tokenizer_json_read(&source, &arena, ap_str_from(json), &error);
    if (status == AP_OK)
        status = ap_tokenizer_create(&t, &source, &error);
    if (status != want || !strstr(error.message, word))
        fail_msg("%s: status %d, message '%s', wanted %d and '%s'", json, status, error.message, want, word);
    ap_tokenizer_destroy(&t);
    ap_arena_deinit(&arena);
}

static void hostile_files_are_refused_by_name(void **state)
{
    expect(MODEL("{\"a\":0,\"b\":1,\"ab\":2}", "[\"a b\"]"), AP_OK, "");
    expect("{", AP_E_FORMAT, "JSON");
    expect("{}", AP_E_FORMAT, "model");
    expect(MODEL("{}", "[]"), AP_E_FORMAT, "empty");
    expect(MODEL("{\"a\":2147483648}", "[]"), AP_E_LIMIT, "2147483648");
    expect(MODEL("{\"a\":-1}", "[]"), AP_E_FORMAT, "'a'");
    expect(MODEL("{\"a\":\"1\"}", "[]"), AP_E_FORMAT, "'a'");
    expect(MODEL("{\"a\":1,\"b\":1}", "[]"), AP_E_FORMAT, "both have the id 1");
    expect(MODEL("{\"a\":0,\"a\":1}", "[]"), AP_E_FORMAT, "duplicate");
    expect(MODEL("{\"a\":0}", "[\"a a\"]"), AP_E_FORMAT, "merge 0");
    expect(MODEL("{\"a\":0,\"aa\":1}", "[\"a a\",\"a a\"]"), AP_E_FORMAT, "merges 0 and 1");
    expect(MODEL("{\"a\":0,\"aa\":1}", "[[\"a\"]]"), AP_E_FORMAT, "merge 0");
    expect(MODEL("{\"a\":0,\"aa\":1}", "[[\"a\",\"a a\"]]"), AP_E_UNSUPPORTED, "merge 0");
}

/* A byte-level vocabulary of "a" and "b" behind an expression; JSON needs its backslashes twice. */
static ap_status open_split(ap_tokenizer **t, const char *expression, ap_error *error)
{
    char json[1024];
    ap_vocab_source source;
    ap_arena arena = {0};
    (void)snprintf(json, sizeof json,
                   "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},"
                   "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]},"
                   "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"\u0120\":2},\"merges\":[]}}", expression);
    ap_status status = ap_tokenizer_json_read(&source, &arena, ap_str_from(json), error);
    if (status == AP_OK)
        status = ap_tokenizer_create(t, &source, error);
    ap_arena_deinit(&arena);
    return status;
}

/* The work is counted, so what would take exponential or quadratic time ends, and always in the same place. */
static void expressions_of_strangers_take_linear_time_or_are_refused(void **state)
{
    static const struct {
        const char *expression;
        char last;       /* behind a million times "a" */
        bool is_refused;
    } cases[] = {
        {"(a+)+$", 'b', true},        {"(a+)+$", 'a', false},           {"(a|a)*$", 'b', true},  {"a+b", 'a', true},
        {"(?:a*c|a)*", 'b', true},    {"(?=(a+)b)c|a", 'a', true},      {".*.*.*c", 'a', true},  {"(?<!b)a+", 'b', false},
        {"a{1,1000}?c", 'a', true},   {"\\\\s*[\\r\\n]+|a+(?!\\\\S)|a+", 'a', false}, {"((a?){1000}){2}c", 'a', true},
    };
    enum { RUN_BYTES = 1 << 20 };
    char *text = malloc(RUN_BYTES + 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ap_tokenizer *t = NULL;
        ap_error error = {0};
        ap_ids ids = {0};
        assert_ok(open_split(&t, cases[i].expression, err));
        memset(text, 'a', RUN_BYTES);
        text[RUN_BYTES] = cases[i].last;
        ap_text_part part = {{text, RUN_BYTES + 1}, false};
        ap_status status = ap_tokenize(t, &part, 1, 0, &ids, &error);
        if (status != (cases[i].is_refused ? AP_E_LIMIT : AP_OK) || (cases[i].is_refused && !strstr(error.message, "expression")))
            fail_msg("'%s' before '%c': status %d, '%s'", cases[i].expression, cases[i].last, status, error.message);
        assert_int_equal(ids.count, cases[i].is_refused ? 0 : RUN_BYTES + 1);
        ap_ids_deinit(&ids);
        ap_tokenizer_destroy(&t);
    }
    free(text);
}

static void expressions_without_an_equal_are_refused_by_name(void **state)
{
    static const char *const parts[][2] = {
        {"(a)\\\\1", "escape"}, {"[a[b]]", "class in a class"}, {"[a&&b]", "intersection"}, {"a{1,3}+", "repetition"},
        {"(?<n>a)", "group"}, {"(?s:a)", "group"}, {"\\\\K", "escape"}, {"\\\\C", "escape"}, {"a{1001}", "1000 times"}, {"(a", "cannot be used"},
        {"\\\\p{Nonsense}", "cannot be used"}, {"[a", "without an end"}, {"[]a]", "empty class"}, {"\\\\pL", "braces"}, {"\\\\xff", "code"},
        {"(((((((((((((((((((((((((((((((((((a)))))))))))))))))))))))))))))))))))", "cannot be used"}, {"(?P>a)", "group"}, {"(?R)", "group"}};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        ap_tokenizer *t = NULL;
        ap_error error = {0};
        ap_status status = open_split(&t, parts[i][0], &error);
        if (status == AP_OK || !strstr(error.message, parts[i][1]))
            fail_msg("'%s': status %d, '%s'", parts[i][0], status, error.message);
    }
}

static void components_that_cannot_be_said_are_refused_by_name(void **state)
{
    static const char *const parts[][2] = {
        {"\"normalizer\":{\"type\":\"Dream\"}", "Dream"},
        {"\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a+\"},\"content\":\"b\"}", "a+"},
        {"\"post_processor\":{\"type\":\"Dream\"}", "Dream"},
        {"\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"a\"}},"
         "{\"SpecialToken\":{\"id\":\"a\"}},{\"Sequence\":{\"id\":\"A\"}}]}", "two tokens"},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        char json[1024];
        (void)snprintf(json, sizeof json, "{%s," BYTES ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}", parts[i][0]);
        expect(json, AP_E_UNSUPPORTED, parts[i][1]);
    }
    expect("{" BYTES ",\"decoder\":{\"type\":\"CTC\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}", AP_E_UNSUPPORTED, "decoder");
    expect("{" BYTES ",\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
           AP_E_UNSUPPORTED, "decoder");
    expect("{\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}", AP_E_UNSUPPORTED,
           "UnicodeScripts");
    expect("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}", AP_E_UNSUPPORTED, "U+2581");
    expect("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"end_of_word_suffix\":\"</w>\"}}", AP_E_UNSUPPORTED,
           "end_of_word_suffix");
}

/* A pattern reaches its scanner by its spelling, so a typing error in the table would be seen as "not known". */
static void every_scanner_is_found_by_its_expression(void **state)
{
    for (unsigned i = AP_SCAN_NONE + 1; i < AP_SCAN_REGEX; i++)
        assert_int_equal(ap_split_scanner(ap_str_from(ap_split_expression(i))), i);
    assert_int_equal(ap_split_scanner(AP_STR("[\r\n]")), AP_SCAN_NEWLINE);
    assert_int_equal(ap_split_scanner(AP_STR("")), AP_SCAN_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_files_are_refused_by_name),
        cmocka_unit_test(expressions_of_strangers_take_linear_time_or_are_refused),
        cmocka_unit_test(expressions_without_an_equal_are_refused_by_name),
        cmocka_unit_test(components_that_cannot_be_said_are_refused_by_name),
        cmocka_unit_test(every_scanner_is_found_by_its_expression),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
