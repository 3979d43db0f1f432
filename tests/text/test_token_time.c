/* test_token_time.c - the time for ten million bytes of one character is in proportion to that for fewer.
 *
 * A run of one character is the worst word there is: it is never cut, and every pair in it can merge.
 *
 * With an argument: the kinds that are read from files, a test of its own since both take minutes on a busy machine.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "support.h"

#include <malloc.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "small_vocab.h"
#include "text/stream.h"
#include "vocab_file.h"

/* Three doublings at once: each may cost 2.2 times, and what disturbs a measurement averages out. */
enum { BYTES = 10 << 20, PART_BYTES = BYTES / 8 };
static const double ratio_max = 2.2 * 2.2 * 2.2;

static const char *const units[] = {"a", " ", "\n", "0", "!", "'", "=", "A", "\t", "\xc3\xa9", "\xcc\x81",
                                    "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xff", "\xc3", "<", "<tool", "<|im_end|", "\r\n ", "a '"};

/* Processor time, so that other programs disturb less. */
static double seconds(const ap_tokenizer *t, const char *text, size_t bytes)
{
    ap_text_part part = {{text, bytes}, true};
    ap_ids ids = {0};
    clock_t start = clock();
    assert_ok(ap_tokenize(t, &part, 1, 0, &ids, err));
    double taken = (double)(clock() - start) / CLOCKS_PER_SEC;
    ap_ids_deinit(&ids);
    return taken;
}

static void check_runs(ap_tokenizer *t, const char *name, unsigned step)
{
    char *text = malloc(BYTES);
    for (unsigned u = 0; u < sizeof units / sizeof units[0]; u += step) {
        size_t n = strlen(units[u]);
        for (size_t i = 0; i < BYTES; i++)
            text[i] = units[u][i % n];
        double few = 0, all = 1;
        for (unsigned tries = 0; tries < 8 && all > ratio_max * few; tries++) {
            few = seconds(t, text, PART_BYTES); /* a disturbed pair proves nothing: ask again */
            all = seconds(t, text, BYTES);
        }
        print_message("%s, unit %u: %.3f s for 10 MiB, %.2f times that of 1.25 MiB\n", name, u, all, all / few);
        assert_true(all <= ratio_max * few);
    }
    free(text);
    ap_tokenizer_destroy(&t);
}

static void long_runs(const char *pre, unsigned step)
{
    small_vocab *v = calloc(1, sizeof *v);
    ap_tokenizer *t = NULL;
    if (pre)
        small_vocab_bpe(v, pre);
    else
        small_vocab_spm(v);
    assert_ok(ap_tokenizer_create(&t, &v->source, err));
    free(v);
    check_runs(t, pre ? pre : "sentencepiece", step);
}

static void smollm_runs_take_linear_time(void **state) { long_runs("smollm", 1); }
static void llama3_runs_take_linear_time(void **state) { long_runs("llama-bpe", 4); }
static void o200k_runs_take_linear_time(void **state) { long_runs("gpt-4o", 3); }
static void default_runs_take_linear_time(void **state) { long_runs("default", 5); }
static void deepseek_runs_take_linear_time(void **state) { long_runs("deepseek-v3", 3); }
static void deepseek_llm_runs_take_linear_time(void **state) { long_runs("deepseek-llm", 1); }
static void superbpe_runs_take_linear_time(void **state) { long_runs("superbpe", 3); }
static void bloom_runs_take_linear_time(void **state) { long_runs("viking", 5); }
static void sentencepiece_runs_take_linear_time(void **state) { long_runs(NULL, 2); }

/* Kinds and normalizers that small_vocab does not make. */
static void file_runs(const char *name)
{
    char path[128];
    ap_tokenizer *t = NULL;
    (void)snprintf(path, sizeof path, "text/data/tokenizers/%s.json", name);
    assert_ok(vocab_file_open(&t, ap_test_file(path), err));
    check_runs(t, name, 5);
}

static void unigram_runs_take_linear_time(void **state) { file_runs("unigram_words"); }
static void unigram_with_spaces_runs_take_linear_time(void **state) { file_runs("unigram_spaces"); }
static void wordpiece_runs_take_linear_time(void **state) { file_runs("wordpiece_lower"); }
static void normal_form_runs_take_linear_time(void **state) { file_runs("byte_nfkd"); }

int main(int argc, char **argv)
{
    /* A stack of 256 KiB for what follows: nothing here may recurse over text. */
    struct rlimit stack = {256 << 10, RLIM_INFINITY};
    (void)setrlimit(RLIMIT_STACK, &stack);
    /* Blocks of all these sizes come fresh from the system; else small ones would be warm and large ones not. */
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 20);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(smollm_runs_take_linear_time),   cmocka_unit_test(llama3_runs_take_linear_time),
        cmocka_unit_test(o200k_runs_take_linear_time),    cmocka_unit_test(default_runs_take_linear_time),
        cmocka_unit_test(deepseek_runs_take_linear_time), cmocka_unit_test(bloom_runs_take_linear_time),
        cmocka_unit_test(deepseek_llm_runs_take_linear_time), cmocka_unit_test(superbpe_runs_take_linear_time),
        cmocka_unit_test(sentencepiece_runs_take_linear_time),
    };
    const struct CMUnitTest files[] = {
        cmocka_unit_test(unigram_runs_take_linear_time), cmocka_unit_test(unigram_with_spaces_runs_take_linear_time),
        cmocka_unit_test(wordpiece_runs_take_linear_time), cmocka_unit_test(normal_form_runs_take_linear_time),
    };
    return argc > 1 ? cmocka_run_group_tests(files, NULL, NULL) : cmocka_run_group_tests(tests, NULL, NULL);
}
