/* test_token_stream.c - what a stream emits does not depend on how text was cut into tokens.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "support.h"

#include <string.h>

#include "base/utf8.h"
#include "small_vocab.h"
#include "text/stream.h"

typedef struct fixture {
    small_vocab vocab;
    ap_tokenizer *bpe, *spm;
} fixture;

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    small_vocab_spm(&f->vocab);
    if (!f || ap_tokenizer_create(&f->spm, &f->vocab.source, NULL) != AP_OK)
        return -1;
    small_vocab_bpe(&f->vocab, "smollm");
    return ap_tokenizer_create(&f->bpe, &f->vocab.source, NULL) == AP_OK ? 0 : -1;
}

static int teardown(void **state)
{
    fixture *f = *state;
    ap_tokenizer_destroy(&f->bpe);
    ap_tokenizer_destroy(&f->spm);
    free(f);
    return 0;
}

/* The definition, slow and plain: the lossy text up to the stop string that is complete first. */
static size_t expected_text(ap_str clean, const char *const *stops, size_t stop_count, int32_t *hit)
{
    *hit = -1;
    for (size_t end = 1; end <= clean.len; end++) {
        size_t longest = 0;
        for (size_t i = 0; i < stop_count; i++) {
            size_t n = strlen(stops[i]);
            if (n <= end && n > longest && memcmp(clean.ptr + end - n, stops[i], n) == 0) {
                longest = n;
                *hit = (int32_t)i;
            }
        }
        if (longest)
            return end - longest;
    }
    return clean.len;
}

/* Runs ids through a stream and compares with the definition; every text given out must be whole UTF-8. */
static void check_ids(const ap_tokenizer *t, const int32_t *ids, size_t count, ap_str clean, const char *const *stops,
                      size_t stop_count, unsigned flags)
{
    ap_stream *stream = NULL;
    ap_buf got = {0};
    int32_t hit = -1, want_hit;
    ap_str text;
    assert_ok(ap_stream_create(&stream, t, stops, stop_count, flags, err));
    ap_alloc_fail_at(1, true); /* pushing allocates nothing, but got does */
    for (size_t i = 0; i < count && hit < 0; i++) {
        hit = ap_stream_push(stream, ids[i], &text);
        ap_alloc_fail_at(0, false);
        assert_true(ap_utf8_valid(text));
        assert_ok(ap_buf_add_str(&got, text, err));
        ap_alloc_fail_at(1, true);
    }
    text = ap_stream_finish(stream);
    assert_int_equal(ap_alloc_count(), 0);
    ap_alloc_fail_at(0, false);
    assert_true(ap_utf8_valid(text));
    assert_ok(ap_buf_add_str(&got, text, err));
    size_t want = expected_text(clean, stops, stop_count, &want_hit);
    assert_int_equal(hit, want_hit);
    assert_int_equal(got.len, want);
    assert_true(want == 0 || memcmp(got.ptr, clean.ptr, want) == 0);
    ap_stream_destroy(&stream);
    ap_buf_deinit(&got);
}

/* A vocabulary whose tokens are all the substrings of a text, so that each cut can be asked for by name. */
static void check_every_cut(const char *raw, size_t raw_bytes, const char *const *stops, size_t stop_count)
{
    assert_true(raw_bytes <= 13);
    small_vocab *v = calloc(1, sizeof *v);
    uint32_t index[14][14];
    v->source = (ap_vocab_source)AP_VOCAB_SOURCE_NONE;
    v->source.kind = AP_VOCAB_BPE;
    v->source.tokens = v->tokens;
    uint32_t known = 0;
    ap_str made[128];
    for (size_t from = 0; from < raw_bytes; from++) {
        for (size_t to = from + 1; to <= raw_bytes; to++) {
            ap_str piece = {raw + from, to - from};
            uint32_t at = 0;
            while (at < known && !ap_str_equal(made[at], piece))
                at++;
            index[from][to] = at;
            if (at < known)
                continue;
            made[known++] = piece;
            char *text = v->text + v->text_bytes;
            size_t n = 0;
            for (size_t i = 0; i < piece.len; i++) {
                unsigned byte = (uint8_t)piece.ptr[i], code = byte, before = 0x100;
                bool is_itself = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte != 0xad);
                for (unsigned b = 0; b < byte && !is_itself; b++)
                    before += !((b > 0x20 && b < 0x7f) || (b > 0xa0 && b != 0xad));
                n += ap_utf8_put(is_itself ? code : before, text + n);
            }
            v->text_bytes += n;
            assert_true(v->text_bytes < sizeof v->text);
            v->tokens[v->source.token_count++] = (ap_str){text, n};
        }
    }
    ap_tokenizer *t = NULL;
    assert_ok(ap_tokenizer_create(&t, &v->source, err));
    ap_buf clean = {0};
    assert_ok(ap_utf8_add_lossy(&clean, (ap_str){raw, raw_bytes}, err));
    for (unsigned cuts = 0; cuts < 1u << (raw_bytes - 1); cuts++) {
        int32_t ids[16];
        size_t count = 0, from = 0;
        for (size_t at = 1; at <= raw_bytes; at++)
            if (at == raw_bytes || (cuts >> (at - 1) & 1)) {
                ids[count++] = (int32_t)index[from][at];
                from = at;
            }
        check_ids(t, ids, count, ap_buf_str(&clean), stops, stop_count, 0);
    }
    ap_buf_deinit(&clean);
    ap_tokenizer_destroy(&t);
    free(v);
}

#define EVERY_CUT(text, ...)                                                                     \
    do {                                                                                         \
        const char *const stops_[] = {__VA_ARGS__};                                              \
        check_every_cut(text, sizeof(text) - 1, stops_, sizeof stops_ / sizeof stops_[0]);       \
    } while (0)

static void every_cut_gives_the_same_text(void **state)
{
    check_every_cut("ab\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 11, NULL, 0);
    check_every_cut("\xff\xe2\x82z\xc3\xf0\x9f\x98 \xed\xa0\x80", 12, NULL, 0); /* broken in every way */
    EVERY_CUT("xaababac", "abac");
    EVERY_CUT("aaaaaaaab", "aaab");
    EVERY_CUT("abcdabcxy", "abcdabcd", "bcx", "zz");
    EVERY_CUT("one two", "two", "o t", "e two");
    EVERY_CUT("abcd", "bcd", "abcd", "cd"); /* all complete at once: the longest */
    EVERY_CUT("xabcd", "abcde", "bc");      /* one inside the beginning of another */
    EVERY_CUT("a\xe2\x82\xac\xc3\xa9z", "\xc3\xa9", "\xe2\x82\xacq");
    EVERY_CUT("a\xc3\xa8\xc3\xa9", "\xc3\xa9");
    EVERY_CUT("ab\xff\xfe" "cd", "\xef\xbf\xbd" "c"); /* text made here counts as text */
    EVERY_CUT("ab\n\nUser:", "\n\nUser:", "\n\nHuman");
    EVERY_CUT("ab\xe2\x82", "bc", "a\xef\xbf\xbd"); /* held to the end, half a character with it */
}

static void random_texts_and_stops_agree_with_the_definition(void **state)
{
    const fixture *f = *state;
    uint64_t seed = 43;
    for (unsigned round = 0; round < 20000; round++) {
        int32_t ids[40];
        size_t count = ap_test_random(&seed) % 40, stop_count = ap_test_random(&seed) % 5;
        char stop_text[5][8];
        const char *stops[5];
        for (size_t i = 0; i < stop_count; i++) {
            size_t n = 1 + ap_test_random(&seed) % 6;
            for (size_t k = 0; k < n; k++)
                stop_text[i][k] = "abc"[ap_test_random(&seed) % 3];
            stop_text[i][n] = 0;
            stops[i] = stop_text[i];
        }
        for (size_t i = 0; i < count; i++) /* a, b, c; now and then anything */
            ids[i] = ap_test_random(&seed) % 16 ? SMALL_BYTES + 'a' + (int32_t)(ap_test_random(&seed) % 3)
                                                : (int32_t)(ap_test_random(&seed) % ap_tokenizer_count(f->bpe));
        unsigned flags = round & 1 ? AP_STREAM_SPECIAL : 0;
        ap_buf raw = {0}, clean = {0};
        assert_ok(ap_detokenize(f->bpe, ids, count, flags ? AP_DETOKENIZE_SPECIAL : 0, &raw, err));
        assert_ok(ap_utf8_add_lossy(&clean, ap_buf_str(&raw), err));
        check_ids(f->bpe, ids, count, ap_buf_str(&clean), stops, stop_count, flags);
        ap_buf_deinit(&raw);
        ap_buf_deinit(&clean);
    }
}

static void control_tokens_are_left_out_unless_asked_for(void **state)
{
    const fixture *f = *state;
    const int32_t ids[] = {SMALL_BYTES + 'a', SMALL_TURN_END, SMALL_TOOL, SMALL_BYTES + 'b'};
    check_ids(f->bpe, ids, 4, AP_STR("a<tool>b"), NULL, 0, 0);
    check_ids(f->bpe, ids, 4, AP_STR("a<|im_end|><tool>b"), NULL, 0, AP_STREAM_SPECIAL);
}

static void a_space_before_the_text_is_taken_away_once(void **state)
{
    const fixture *f = *state;
    ap_text_part part = {AP_STR("  hello the world"), false};
    ap_ids ids = {0};
    assert_ok(ap_tokenize(f->spm, &part, 1, AP_TOKENIZE_BOS, &ids, err));
    assert_int_equal(ids.ids[0], 1);
    check_ids(f->spm, ids.ids, ids.count, part.text, NULL, 0, AP_STREAM_START);
    check_ids(f->spm, ids.ids, ids.count, AP_STR("   hello the world"), NULL, 0, 0);
    ap_ids_deinit(&ids);
}

static void a_stopped_stream_stays_stopped(void **state)
{
    const fixture *f = *state;
    const char *const stops[] = {"zz", "bc"};
    ap_stream *stream = NULL;
    ap_str text;
    assert_ok(ap_stream_create(&stream, f->bpe, stops, 2, 0, err));
    assert_int_equal(ap_stream_push(stream, SMALL_BYTES + 'b', &text), -1);
    assert_int_equal(text.len, 0);
    assert_int_equal(ap_stream_push(stream, SMALL_BYTES + 'c', &text), 1);
    assert_int_equal(text.len, 0);
    assert_int_equal(ap_stream_push(stream, SMALL_BYTES + 'd', &text), 1);
    assert_int_equal(text.len, 0);
    assert_int_equal(ap_stream_finish(stream).len, 0);
    ap_stream_destroy(&stream);
    ap_stream_destroy(&stream);
}

static void control_tokens_may_be_marked(void **state)
{
    const fixture *f = *state;
    const char *const stops[] = {"ab", "<|im_end|>"};
    const int32_t ids[] = {SMALL_BYTES + 'a', SMALL_TURN_END, SMALL_BYTES + 'b', SMALL_BYTES + 0xc3, SMALL_TURN, SMALL_BYTES + 'a'};
    static const char *const texts[] = {"", "a\xff<|im_end|>\xfe", "b", "", "\xef\xbf\xbd\xff<|im_start|>\xfe", ""};
    ap_stream *stream = NULL;
    ap_str text;
    assert_ok(ap_stream_create(&stream, f->bpe, stops, 2, AP_STREAM_MARKS, err));
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        assert_int_equal(ap_stream_push(stream, ids[i], &text), -1);
        assert_true(ap_str_is(text, texts[i]));
    }
    assert_true(ap_str_is(ap_stream_finish(stream), "a"));
    ap_stream_destroy(&stream);
}

static void an_id_that_is_none_has_no_text(void **state)
{
    const fixture *f = *state;
    ap_stream *stream = NULL;
    ap_str text;
    assert_ok(ap_stream_create(&stream, f->bpe, NULL, 0, 0, err));
    const int32_t bad[] = {-1, INT32_MIN, INT32_MAX, (int32_t)ap_tokenizer_count(f->bpe)};
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(ap_stream_push(stream, bad[i], &text), -1);
        assert_int_equal(text.len, 0);
    }
    ap_stream_destroy(&stream);
}

static void stop_strings_outside_the_limits_are_refused(void **state)
{
    const fixture *f = *state;
    ap_stream *stream = NULL;
    ap_error error = {0};
    const char *many[AP_STREAM_STOPS_MAX + 1];
    for (unsigned i = 0; i <= AP_STREAM_STOPS_MAX; i++)
        many[i] = "x";
    assert_int_equal(ap_stream_create(&stream, f->bpe, many, AP_STREAM_STOPS_MAX + 1, 0, &error), AP_E_LIMIT);
    assert_null(stream);
    assert_ok(ap_stream_create(&stream, f->bpe, many, AP_STREAM_STOPS_MAX, 0, err));
    ap_stream_destroy(&stream);
    char longest[AP_STREAM_STOP_BYTES_MAX + 2];
    memset(longest, 'y', sizeof longest);
    longest[AP_STREAM_STOP_BYTES_MAX + 1] = 0;
    const char *one[] = {longest};
    assert_int_equal(ap_stream_create(&stream, f->bpe, one, 1, 0, &error), AP_E_LIMIT);
    longest[AP_STREAM_STOP_BYTES_MAX] = 0;
    assert_ok(ap_stream_create(&stream, f->bpe, one, 1, 0, err));
    ap_stream_destroy(&stream);
    one[0] = "";
    assert_int_equal(ap_stream_create(&stream, f->bpe, one, 1, 0, &error), AP_E_ARG);
    one[0] = "\xc3";
    assert_int_equal(ap_stream_create(&stream, f->bpe, one, 1, 0, &error), AP_E_ARG);
    assert_null(stream);
}

static ap_status create_once(void *context)
{
    const fixture *f = context;
    const char *const stops[] = {"one", "two"};
    ap_stream *stream = NULL;
    ap_error error = {0};
    ap_status status = ap_stream_create(&stream, f->bpe, stops, 2, 0, &error);
    assert_true((status == AP_OK) == (stream != NULL));
    ap_stream_destroy(&stream);
    return status;
}

static void creation_survives_the_end_of_memory(void **state) { ap_test_each_oom(create_once, *state); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut_gives_the_same_text),
        cmocka_unit_test(random_texts_and_stops_agree_with_the_definition),
        cmocka_unit_test(control_tokens_are_left_out_unless_asked_for),
        cmocka_unit_test(a_space_before_the_text_is_taken_away_once),
        cmocka_unit_test(a_stopped_stream_stays_stopped),
        cmocka_unit_test(control_tokens_may_be_marked),
        cmocka_unit_test(an_id_that_is_none_has_no_text),
        cmocka_unit_test(stop_strings_outside_the_limits_are_refused),
        cmocka_unit_test(creation_survives_the_end_of_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
