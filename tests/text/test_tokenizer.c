/* test_tokenizer.c - seams, special tokens, odd bytes, hostile vocabularies, and time.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "support.h"

#include <math.h>
#include <string.h>

#include "base/utf8.h"
#include "small_vocab.h"
#include "text/classes.h"
#include "text/merge.h"
#include "text/split.h"

static ap_tokenizer *create_bpe(const char *pre)
{
    small_vocab *v = calloc(1, sizeof *v);
    ap_tokenizer *t = NULL;
    small_vocab_bpe(v, pre);
    assert_ok(ap_tokenizer_create(&t, &v->source, err));
    free(v);
    return t;
}

static ap_tokenizer *create_spm(void)
{
    small_vocab *v = calloc(1, sizeof *v);
    ap_tokenizer *t = NULL;
    small_vocab_spm(v);
    assert_ok(ap_tokenizer_create(&t, &v->source, err));
    free(v);
    return t;
}

static ap_ids ids_of(const ap_tokenizer *t, const ap_text_part *parts, size_t count)
{
    ap_ids ids = {0};
    assert_ok(ap_tokenize(t, parts, count, 0, &ids, err));
    return ids;
}

static bool ids_equal(const ap_ids *a, const ap_ids *b)
{
    return a->count == b->count && (a->count == 0 || memcmp(a->ids, b->ids, a->count * sizeof *a->ids) == 0);
}

static bool has_control(const ap_tokenizer *t, const ap_ids *ids)
{
    for (size_t i = 0; i < ids->count; i++)
        if (ap_tokenizer_is_control(t, ids->ids[i]))
            return true;
    return false;
}

static void check_there_and_back(const ap_tokenizer *t, ap_str text)
{
    ap_text_part part = {text, false};
    ap_ids ids = ids_of(t, &part, 1);
    ap_buf back = {0};
    assert_ok(ap_detokenize(t, ids.ids, ids.count, 0, &back, err));
    assert_true(ap_str_equal(ap_buf_str(&back), text));
    ap_buf_deinit(&back);
    ap_ids_deinit(&ids);
}

/* ---- Special tokens and seams --------------------------------------------- */

static void control_text_of_strangers_gives_no_control_token(void **state)
{
    ap_tokenizer *vocabs[] = {create_bpe("smollm"), create_spm()};
    static const char *const texts[] = {
        "<|im_end|>", "<|im_start|>system\n", "a<|im_end|>b<|endoftext|>", "<s>", "</s>", "<unk>", " </s> <s>",
        "<<|im_end|>|im_end|>", "<|im_<|im_end|>end|>", "\n<|im_end|>\n<|im_start|>assistant\n"};
    for (unsigned v = 0; v < 2; v++) {
        for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++) {
            ap_text_part part = {ap_str_from(texts[i]), false};
            ap_ids ids = ids_of(vocabs[v], &part, 1);
            assert_false(has_control(vocabs[v], &ids));
            ap_ids_deinit(&ids);
            check_there_and_back(vocabs[v], part.text);
        }
        ap_tokenizer_destroy(&vocabs[v]);
    }
}

static void a_seam_inside_a_control_token_breaks_it(void **state)
{
    ap_tokenizer *t = create_bpe("smollm");
    ap_str whole = AP_STR("<|im_end|>");
    for (size_t cut = 1; cut < whole.len; cut++) {
        for (unsigned which = 0; which < 4; which++) {
            ap_text_part parts[] = {{{whole.ptr, cut}, which & 1}, {{whole.ptr + cut, whole.len - cut}, which & 2}};
            ap_ids ids = ids_of(t, parts, 2);
            assert_int_equal(has_control(t, &ids), which == 3);
            assert_int_equal(ids.count == 1, which == 3);
            ap_ids_deinit(&ids);
        }
    }
    ap_tokenizer_destroy(&t);
}

static void harmless_text_gives_the_same_ids_for_every_seam(void **state)
{
    ap_tokenizer *vocabs[] = {create_bpe("smollm"), create_bpe("llama-bpe"), create_spm()};
    ap_str whole = AP_STR("<|im_start|>user\nhello the  world's <tool> and\xc3\xa9\xe2\x82\xac 0000 </s><|im_end|>\n");
    for (unsigned v = 0; v < 3; v++) {
        ap_text_part one = {whole, true};
        ap_ids want = ids_of(vocabs[v], &one, 1);
        assert_true(has_control(vocabs[v], &want));
        size_t first = 12, last = whole.len - 16; /* between the control tokens */
        for (size_t from = first; from <= last; from++) {
            for (size_t to = from; to <= last; to++) {
                ap_text_part parts[] = {{{whole.ptr, from}, true},
                                        {{whole.ptr + from, to - from}, false},
                                        {{NULL, 0}, false},
                                        {{whole.ptr + to, whole.len - to}, true}};
                ap_ids got = ids_of(vocabs[v], parts, 4);
                assert_true(ids_equal(&want, &got));
                ap_ids_deinit(&got);
            }
        }
        ap_ids_deinit(&want);
        ap_tokenizer_destroy(&vocabs[v]);
    }
}

static void user_defined_tokens_match_in_any_text_and_across_seams(void **state)
{
    ap_tokenizer *t = create_bpe("smollm");
    ap_text_part parts[] = {{AP_STR("a<to"), true}, {AP_STR("ol>b"), false}};
    ap_ids ids = ids_of(t, parts, 2);
    const int32_t want[] = {SMALL_BYTES + 'a', SMALL_TOOL, SMALL_BYTES + 'b'};
    assert_int_equal(ids.count, 3);
    assert_memory_equal(ids.ids, want, sizeof want);
    ap_ids_deinit(&ids);
    ap_tokenizer_destroy(&t);
}

static void the_begin_token_is_added_where_asked_for(void **state)
{
    small_vocab *v = calloc(1, sizeof *v);
    ap_tokenizer *t = NULL;
    ap_ids ids = {0};
    ap_text_part part = {AP_STR("a"), false};
    for (int8_t add = -1; add <= 1; add++) {
        small_vocab_bpe(v, "smollm");
        v->source.add_bos = add;
        assert_ok(ap_tokenizer_create(&t, &v->source, err));
        ids.count = 0;
        assert_ok(ap_tokenize(t, &part, 1, AP_TOKENIZE_BOS, &ids, err));
        assert_int_equal(ids.count, add > 0 ? 2 : 1);
        ids.count = 0;
        assert_ok(ap_tokenize(t, &part, 1, 0, &ids, err));
        assert_int_equal(ids.count, 1);
        ap_tokenizer_destroy(&t);
    }
    t = create_bpe("llama-bpe");
    assert_true(ap_tokenizer_adds_bos(t));
    ap_tokenizer_destroy(&t);
    ids.count = 0;
    t = create_spm();
    assert_ok(ap_tokenize(t, NULL, 0, AP_TOKENIZE_BOS, &ids, err));
    assert_int_equal(ids.count, 1);
    assert_int_equal(ids.ids[0], 1);
    ap_ids_deinit(&ids);
    ap_tokenizer_destroy(&t);
    free(v);
}

static void ends_of_turns_are_known(void **state)
{
    ap_tokenizer *t = create_bpe("smollm");
    size_t count;
    const int32_t *ends = ap_tokenizer_ends(t, &count);
    assert_int_equal(count, 2);
    assert_int_equal(ends[0], SMALL_END);
    assert_int_equal(ends[1], SMALL_TURN_END);
    assert_true(ap_tokenizer_is_end(t, SMALL_TURN_END));
    assert_false(ap_tokenizer_is_end(t, SMALL_TURN));
    assert_false(ap_tokenizer_is_end(t, -1));
    assert_int_equal(ap_tokenizer_special(t, AP_STR("<|im_start|>")), SMALL_TURN);
    assert_int_equal(ap_tokenizer_special(t, AP_STR("<|im_start")), -1);
    assert_int_equal(ap_tokenizer_special(t, AP_STR("")), -1);
    assert_true(ap_str_is(ap_tokenizer_piece(t, SMALL_TOOL), "<tool>"));
    assert_null(ap_tokenizer_piece(t, -1).ptr);
    assert_null(ap_tokenizer_piece(t, (int32_t)ap_tokenizer_count(t)).ptr);
    ap_tokenizer_destroy(&t);
    ap_tokenizer_destroy(&t);
}

/* ---- Odd text ------------------------------------------------------------- */

static void odd_bytes_survive_there_and_back(void **state)
{
    static const char *const pres[] = {"smollm", "llama-bpe", "gpt-4o", "deepseek-v3", "default", "bloom"};
    char *marks = malloc(20001);
    marks[0] = 'e';
    for (unsigned i = 0; i < 10000; i++)
        memcpy(marks + 1 + 2 * i, "\xcc\x81", 2);
    for (unsigned p = 0; p < sizeof pres / sizeof pres[0]; p++) {
        ap_tokenizer *t = create_bpe(pres[p]);
        check_there_and_back(t, AP_STR(""));
        check_there_and_back(t, AP_STR("\0"));
        check_there_and_back(t, AP_STR("a\0\0b \0"));
        check_there_and_back(t, AP_STR("\xef\xbb\xbfhello"));
        check_there_and_back(t, AP_STR("\xc0\xaf \xe0\x80\xaf \xf0\x80\x80\xaf"));        /* overlong */
        check_there_and_back(t, AP_STR("\xed\xa0\x80 \xed\xbf\xbf \xed\xa0\xbd\xed\xb8\x80")); /* surrogates */
        check_there_and_back(t, AP_STR("\xf4\x90\x80\x80\xff\xfe\xc3"));
        check_there_and_back(t, AP_STR("\xe2\x82"));
        check_there_and_back(t, AP_STR("\xef\xbf\xbf\xef\xb7\x90"));
        check_there_and_back(t, (ap_str){marks, 20001});
        uint64_t seed = 23 + p;
        for (unsigned round = 0; round < 2000; round++) {
            char text[64];
            size_t n = ap_test_random(&seed) % 64;
            for (size_t i = 0; i < n; i++)
                text[i] = ap_test_random(&seed) % 3 ? (char)ap_test_random(&seed) : "a \n'\xe2\x80\xc3"[round % 7];
            check_there_and_back(t, (ap_str){text, n});
        }
        ap_tokenizer_destroy(&t);
    }
    ap_tokenizer *spm = create_spm();
    check_there_and_back(spm, AP_STR("\xff\xc3 a\0b\xed\xa0\x80 "));
    check_there_and_back(spm, AP_STR("  leading and trailing  "));
    check_there_and_back(spm, (ap_str){marks, 20001});
    ap_tokenizer_destroy(&spm);
    free(marks);
}

static void a_character_without_tokens_is_replaced_and_counted(void **state)
{
    small_vocab *v = calloc(1, sizeof *v);
    small_vocab_bpe(v, "smollm");
    v->types[SMALL_BYTES + 0x06] = AP_TOKEN_UNUSED;
    v->types[SMALL_BYTES + 0xff] = AP_TOKEN_UNUSED;
    ap_tokenizer *t = NULL;
    ap_buf back = {0};
    assert_ok(ap_tokenizer_create(&t, &v->source, err));
    ap_text_part part = {AP_STR("a\x06 b\xff\xc3\xa9"), false};
    ap_ids ids = ids_of(t, &part, 1);
    assert_int_equal(ids.replaced, 2);
    assert_ok(ap_detokenize(t, ids.ids, ids.count, 0, &back, err));
    assert_true(ap_str_is(ap_buf_str(&back), "a\xef\xbf\xbd b\xef\xbf\xbd\xc3\xa9"));
    ap_buf_deinit(&back);
    ap_tokenizer_destroy(&t);
    v->types[SMALL_BYTES + 0xbd] = AP_TOKEN_UNUSED; /* now U+FFFD cannot be written either */
    assert_ok(ap_tokenizer_create(&t, &v->source, err));
    ap_error error = {0};
    size_t before = ids.count;
    assert_int_equal(ap_tokenize(t, &part, 1, 0, &ids, &error), AP_E_ARG);
    assert_int_equal(ids.count, before);
    assert_int_equal(ids.replaced, 2);
    assert_non_null(strstr(error.message, "0x06"));
    ap_ids_deinit(&ids);
    ap_tokenizer_destroy(&t);
    free(v);
}

static void sentencepiece_adds_one_space_to_each_text_between_special_tokens(void **state)
{
    ap_tokenizer *t = create_spm();
    ap_text_part part = {AP_STR("hello</s>the world"), true};
    ap_ids ids = ids_of(t, &part, 1);
    ap_str pieces[] = {AP_STR(" hello"), AP_STR("</s>"), AP_STR(" the"), AP_STR(" world")};
    assert_int_equal(ids.count, 4);
    for (unsigned i = 0; i < 4; i++)
        assert_true(ap_str_equal(ap_tokenizer_piece(t, ids.ids[i]), pieces[i]));
    ap_ids_deinit(&ids);
    ap_tokenizer_destroy(&t);
}

/* ---- Merges --------------------------------------------------------------- */

/* The definition: look for the best pair from the start, again and again. */
static uint32_t merge_plainly(uint32_t *symbols, uint32_t count, const uint32_t rank[8][8], const uint32_t result[8][8])
{
    for (;;) {
        uint32_t best = UINT32_MAX, at = 0;
        for (uint32_t i = 0; i + 1 < count; i++)
            if (rank[symbols[i]][symbols[i + 1]] < best)
                best = rank[symbols[i]][symbols[i + 1]], at = i;
        if (best == UINT32_MAX)
            return count;
        symbols[at] = result[symbols[at]][symbols[at + 1]];
        memmove(symbols + at + 1, symbols + at + 2, (count - at - 2) * sizeof *symbols);
        count--;
    }
}

static void merging_agrees_with_the_definition_for_any_ranks(void **state)
{
    uint64_t seed = 7;
    ap_merger merger = {0};
    for (unsigned round = 0; round < 3000; round++) {
        uint32_t rank[8][8], result[8][8], plain[700], count = (uint32_t)(ap_test_random(&seed) % (round % 20 ? 40 : 700));
        ap_pairs pairs;
        assert_ok(ap_pairs_init(&pairs, 64, err));
        for (uint32_t a = 0; a < 8; a++)
            for (uint32_t b = 0; b < 8; b++) {
                rank[a][b] = ap_test_random(&seed) % 3 ? UINT32_MAX : (uint32_t)(ap_test_random(&seed) % 20);
                result[a][b] = (uint32_t)(ap_test_random(&seed) % 8);
                if (rank[a][b] != UINT32_MAX)
                    assert_null(ap_pairs_add(&pairs, (ap_pair){a, b, rank[a][b], result[a][b]}));
            }
        size_t bytes;
        uint32_t *symbols = ap_merger_begin(&merger, count, &bytes);
        for (uint32_t i = 0; i < count; i++)
            plain[i] = symbols[i] = (uint32_t)(ap_test_random(&seed) % 8);
        uint32_t left = ap_merger_run(&merger, &pairs, count);
        assert_int_equal(left, merge_plainly(plain, count, rank, result));
        assert_memory_equal(symbols, plain, left * sizeof *plain);
        ap_pairs_deinit(&pairs);
    }
    ap_merger_deinit(&merger);
}

/* ---- Hostile vocabularies ------------------------------------------------- */

static void refuse(small_vocab *v, ap_status want, const char *word)
{
    ap_tokenizer *t = NULL;
    ap_error error = {0};
    ap_status status = ap_tokenizer_create(&t, &v->source, &error);
    assert_null(t);
    if (status != want || !strstr(error.message, word))
        fail_msg("status %d, message '%s', wanted %d and '%s'", status, error.message, want, word);
}

static void hostile_vocabularies_are_refused_by_name(void **state)
{
    small_vocab *v = calloc(1, sizeof *v);
#define REFUSED(kind, status, word, ...)  \
    do {                                  \
        small_vocab_##kind;               \
        __VA_ARGS__;                      \
        refuse(v, status, word);          \
    } while (0)
    char *giant = calloc(1, AP_TOKEN_BYTES_MAX + 1);
    memset(giant, 'x', AP_TOKEN_BYTES_MAX + 1);
    REFUSED(bpe(v, "smollm"), AP_E_FORMAT, "empty", v->source.token_count = 0);
    REFUSED(bpe(v, "smollm"), AP_E_LIMIT, "tokens", v->source.token_count = 1u << 31);
    REFUSED(bpe(v, "smollm"), AP_E_LIMIT, "merges", v->source.merge_count = UINT32_MAX);
    REFUSED(bpe(v, "smollm"), AP_E_FORMAT, "merges", v->source.merges = NULL);
    REFUSED(bpe(v, "no-such"), AP_E_UNSUPPORTED, "smollm", (void)0);
    REFUSED(bpe(v, "smol"), AP_E_UNSUPPORTED, "'smol'", (void)0);
    REFUSED(bpe(v, "smollm"), AP_E_FORMAT, "eos", v->source.eos = (int32_t)v->source.token_count);
    REFUSED(bpe(v, "smollm"), AP_E_FORMAT, "bos", v->source.bos = -2);
    REFUSED(bpe(v, "smollm"), AP_E_FORMAT, "begin token", v->source.bos = -1; v->source.add_bos = 1);
    REFUSED(bpe(v, "smollm"), AP_E_FORMAT, "token 7", v->types[7] = 7);
    REFUSED(bpe(v, "smollm"), AP_E_FORMAT, "token 7", v->types[7] = -1);
    REFUSED(bpe(v, "smollm"), AP_E_FORMAT, "token 9", v->tokens[9] = AP_STR("\xff"));
    REFUSED(bpe(v, "smollm"), AP_E_LIMIT, "token 9", v->tokens[9] = (ap_str){giant, AP_TOKEN_BYTES_MAX + 1});
    REFUSED(bpe(v, "smollm"), AP_E_LIMIT, "token 0", v->tokens[0] = (ap_str){giant, AP_SPECIAL_BYTES_MAX + 1});
    REFUSED(bpe(v, "smollm"), AP_E_FORMAT, "tokens 70 and 71", v->tokens[71] = v->tokens[70]);
    REFUSED(bpe(v, "smollm"), AP_E_FORMAT, "tokens 0 and 1", v->tokens[1] = v->tokens[0]);
    REFUSED(bpe(v, "smollm"), AP_E_FORMAT, "merges 0 and 1", v->merges[1] = v->merges[0]);
    REFUSED(bpe(v, "smollm"), AP_E_FORMAT, "merge 2", v->merges[2] = AP_STR("the"));
    REFUSED(bpe(v, "smollm"), AP_E_FORMAT, "merge 2", v->merges[2] = AP_STR("the "));
    REFUSED(bpe(v, "smollm"), AP_E_FORMAT, "merge 2", v->merges[2] = AP_STR(""));
    REFUSED(bpe(v, "smollm"), AP_E_FORMAT, "merge 2", v->merges[2] = AP_STR("q q"));
    REFUSED(bpe(v, "smollm"), AP_E_FORMAT, "merge 2", v->merges[2] = AP_STR("<|im_ end|>"));
    REFUSED(bpe(v, "smollm"), AP_E_FORMAT, "merge 2", v->types[SMALL_BYTES + 256 + 2] = AP_TOKEN_CONTROL);
    REFUSED(bpe(v, "smollm"), AP_E_LIMIT, "merge 2", v->merges[2] = (ap_str){giant, SIZE_MAX / 2});
    REFUSED(bpe(v, "smollm"), AP_E_FORMAT, "<0x41>", v->types[12] = AP_TOKEN_BYTE);
    REFUSED(bpe(v, "smollm"), AP_E_UNSUPPORTED, "add_space_prefix", v->source.add_space_prefix = 1);
    REFUSED(bpe(v, "smollm"), AP_E_UNSUPPORTED, "kind", v->source.kind = (ap_vocab_kind)9);
    REFUSED(spm(v), AP_E_FORMAT, "scores", v->source.scores = NULL);
    REFUSED(spm(v), AP_E_FORMAT, "score of token 270", v->scores[270] = NAN);
    REFUSED(spm(v), AP_E_FORMAT, "byte 65", v->tokens[SMALL_BYTES + 66] = AP_STR("<0x41>"));
    free(giant);
    free(v);
}

static ap_status create_and_use(void *context)
{
    small_vocab *v = context;
    ap_tokenizer *t = NULL;
    ap_ids ids = {0};
    ap_buf back = {0};
    ap_error error = {0};
    char text[2000];
    for (unsigned i = 0; i < sizeof text; i++)
        text[i] = (char)('a' + i % 7 - (i % 5 == 0 ? 'a' - ' ' : 0));
    ap_text_part parts[] = {{AP_STR("<|im_start|>"), true}, {{text, sizeof text}, false}};
    ap_status status = ap_tokenizer_create(&t, &v->source, &error);
    if (status == AP_OK) {
        status = ap_tokenize(t, parts, 2, AP_TOKENIZE_BOS, &ids, &error);
        assert_true(status == AP_OK || ids.count == 0);
    }
    if (status == AP_OK)
        status = ap_detokenize(t, ids.ids, ids.count, 0, &back, &error);
    ap_buf_deinit(&back);
    ap_ids_deinit(&ids);
    ap_tokenizer_destroy(&t);
    return status;
}

static void the_end_of_memory_is_survived(void **state)
{
    small_vocab *v = calloc(1, sizeof *v);
    small_vocab_bpe(v, "llama-bpe");
    ap_test_each_oom(create_and_use, v);
    small_vocab_spm(v);
    ap_test_each_oom(create_and_use, v);
    free(v);
}

static void class_table_is_what_unicode_says(void **state)
{
    ap_classes *classes = malloc(sizeof *classes);
    ap_classes_fill(classes);
    unsigned spaces = 0;
    for (uint32_t code = 0; code < 0x110000; code++) {
        assert_int_equal(ap_class_of(classes, code), ap_class_compute(code));
        spaces += (ap_class_of(classes, code) & AP_CLASS_SPACE) != 0;
    }
    assert_int_equal(spaces, 25);
    assert_int_equal(ap_class_of(classes, 'A'), AP_CLASS_LETTER | AP_CLASS_UPPER);
    assert_int_equal(ap_class_of(classes, 0x1c5), AP_CLASS_LETTER | AP_CLASS_UPPER);
    assert_int_equal(ap_class_of(classes, 0x2b0), AP_CLASS_LETTER);
    assert_int_equal(ap_class_of(classes, 0x301), AP_CLASS_MARK);
    assert_int_equal(ap_class_of(classes, 0x2167), AP_CLASS_NUMBER);
    assert_int_equal(ap_class_of(classes, 0xfffd), AP_CLASS_SYMBOL);
    assert_int_equal(ap_class_of(classes, 0x20000), AP_CLASS_LETTER);
    free(classes);
}

static void invalid_parts_are_cut_like_the_replacement(void **state)
{
    static const char *const names[] = {"default", "gpt-2", "llama-bpe", "qwen2", "qwen35", "seed-coder", "falcon", "smollm", "deepseek-llm",
                                        "deepseek-coder", "deepseek-v3", "tekken", "gpt-4o", "bloom", "viking", "superbpe"};
    ap_classes *classes = calloc(1, sizeof *classes);
    ap_classes_fill(classes);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        ap_str raw = AP_STR("\xf8" "citt\xc3\xa0 \xff'x\xc3 12\xe2\x82\n\xf0\x9f\x98 a\xff\xff" "1"), word, want;
        ap_buf whole = {0};
        assert_ok(ap_utf8_add_lossy(&whole, raw, err));
        ap_splitter a, b;
        ap_splitter_begin(&a, classes, ap_split_find(ap_str_from(names[i])), raw, NULL, NULL);
        ap_splitter_begin(&b, classes, ap_split_find(ap_str_from(names[i])), ap_buf_str(&whole), NULL, NULL);
        while (ap_splitter_next(&b, &want)) {
            ap_buf one = {0};
            assert_true(ap_splitter_next(&a, &word));
            assert_ok(ap_utf8_add_lossy(&one, word, err));
            if (!ap_str_equal(ap_buf_str(&one), want))
                fail_msg("%s: '%.*s', wanted '%.*s'", names[i], (int)one.len, one.ptr, (int)want.len, want.ptr);
            ap_buf_deinit(&one);
        }
        assert_false(ap_splitter_next(&a, &word));
        ap_buf_deinit(&whole);
    }
    free(classes);
}

/* Letters stay together, each kind of mark is cut off; `expected` has a bar where a word ends. */
static void expect_cuts(const ap_classes *classes, const char *stage, ap_str text, const char *expected)
{
    ap_split split = {0};
    ap_splitter splitter;
    ap_str word;
    ap_buf cut = {0};
    assert_ok(ap_split_add(&split, ap_str_from(stage), err));
    ap_splitter_begin(&splitter, classes, &split, text, NULL, NULL);
    while (ap_splitter_next(&splitter, &word)) {
        assert_ok(ap_buf_add_str(&cut, word, err));
        assert_ok(ap_buf_add_char(&cut, '|', err));
    }
    assert_ok(ap_buf_add_char(&cut, 0, err));
    assert_string_equal(cut.ptr, expected);
    ap_buf_deinit(&cut);
    ap_split_deinit(&split);
}

/* U+12FF2 is punctuation since Unicode 14, U+2031 since long. */
static void punctuation_is_as_old_as_what_cuts_at_it(void **state)
{
    ap_classes *classes = calloc(1, sizeof *classes);
    ap_classes_fill(classes);
    ap_str text = AP_STR("a`b$$c\xe2\x80\xb1" "d\xf0\x92\xbf\xb2" "e");
    expect_cuts(classes, ap_split_expression(AP_SCAN_FALCON_PUNCT), text, "a|`|b|$$|c|\xe2\x80\xb1|d|\xf0\x92\xbf\xb2|e|");
    expect_cuts(classes, ap_split_expression(AP_SCAN_DEFAULT_PUNCT), text, "a`b|$$|c|\xe2\x80\xb1|d|\xf0\x92\xbf\xb2|e|");
    expect_cuts(classes, ap_split_expression(AP_SCAN_PUNCT_RUN), text, "a|`|b|$$|c|\xe2\x80\xb1|d\xf0\x92\xbf\xb2" "e|");
    expect_cuts(classes, ap_split_expression(AP_SCAN_PUNCT), text, "a|`|b|$|$|c|\xe2\x80\xb1|d\xf0\x92\xbf\xb2" "e|");
    free(classes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(punctuation_is_as_old_as_what_cuts_at_it),
        cmocka_unit_test(invalid_parts_are_cut_like_the_replacement),
        cmocka_unit_test(control_text_of_strangers_gives_no_control_token),
        cmocka_unit_test(a_seam_inside_a_control_token_breaks_it),
        cmocka_unit_test(harmless_text_gives_the_same_ids_for_every_seam),
        cmocka_unit_test(user_defined_tokens_match_in_any_text_and_across_seams),
        cmocka_unit_test(the_begin_token_is_added_where_asked_for),
        cmocka_unit_test(ends_of_turns_are_known),
        cmocka_unit_test(odd_bytes_survive_there_and_back),
        cmocka_unit_test(a_character_without_tokens_is_replaced_and_counted),
        cmocka_unit_test(sentencepiece_adds_one_space_to_each_text_between_special_tokens),
        cmocka_unit_test(merging_agrees_with_the_definition_for_any_ranks),
        cmocka_unit_test(hostile_vocabularies_are_refused_by_name),
        cmocka_unit_test(the_end_of_memory_is_survived),
        cmocka_unit_test(class_table_is_what_unicode_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
