/* test_token_vectors.c - real vocabularies against recorded ids of their reference tokenizers.
 *
 * NAME.gguf.inp holds texts separated by a line, NAME.gguf.out one line of ids for each.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "support.h"

#include <string.h>

#include "vocab_file.h"

static const char separator[] = "\n__ggml_vocab_test__\n";

static ap_tokenizer *open_vocab(const char *name)
{
    char relative[128];
    ap_tokenizer *t = NULL;
    (void)snprintf(relative, sizeof relative, "tokenizers/ggml-vocab-%s.gguf", name);
    const char *path = ap_test_data(relative);
    assert_ok(vocab_file_open(&t, path, err));
    return t;
}

static void expect_line(const char *name, ap_str text, ap_str line, const ap_ids *ids)
{
    char got[8192];
    size_t n = 0;
    got[0] = 0;
    for (size_t i = 0; i < ids->count && n < sizeof got - 16; i++)
        n += (size_t)snprintf(got + n, sizeof got - n, " %d", ids->ids[i]);
    while (line.len && line.ptr[line.len - 1] == ' ')
        line.len--;
    if (!ap_str_equal(line, (ap_str){got, n}))
        fail_msg("%s: '%.*s'\nwant '%.*s'\ngot  '%s'", name, (int)text.len, text.ptr, (int)line.len, line.ptr, got);
}

/* WordPiece loses spaces and case; SPM the first space. */
typedef enum { LOSES_NOTHING, LOSES_A_SPACE, LOSES_MUCH } loss;

static void check_vectors(const char *name, loss losing)
{
    ap_tokenizer *t = open_vocab(name);
    char relative[128];
    ap_buf inputs = {0}, outputs = {0}, back = {0};
    (void)snprintf(relative, sizeof relative, "tokenizers/ggml-vocab-%s.gguf.inp", name);
    assert_ok(ap_file_read(ap_test_data(relative), 1 << 20, &inputs, err));
    (void)snprintf(relative, sizeof relative, "tokenizers/ggml-vocab-%s.gguf.out", name);
    assert_ok(ap_file_read(ap_test_data(relative), 1 << 20, &outputs, err));
    const char *in = inputs.ptr, *out = outputs.ptr;
    unsigned count = 0;
    ap_ids ids = {0};
    while (out && *out) {
        const char *in_end = strstr(in, separator), *out_end = strchr(out, '\n');
        ap_str text = {in, in_end ? (size_t)(in_end - in) : strlen(in)};
        ap_str line = {out, out_end ? (size_t)(out_end - out) : strlen(out)};
        ap_text_part part = {text, true};
        ids.count = 0;
        assert_ok(ap_tokenize(t, &part, 1, 0, &ids, err));
        expect_line(name, text, line, &ids);
        ap_buf_clear(&back);
        assert_ok(ap_detokenize(t, ids.ids, ids.count, AP_DETOKENIZE_SPECIAL, &back, err));
        if (losing == LOSES_NOTHING || (losing == LOSES_A_SPACE && (text.len == 0 || text.ptr[0] != ' ')))
            assert_true(ap_str_equal(ap_buf_str(&back), text));
        count++;
        in = in_end ? in_end + strlen(separator) : in + strlen(in);
        out = out_end ? out_end + 1 : NULL;
    }
    assert_true(count > 30);
    ap_ids_deinit(&ids);
    ap_buf_deinit(&back);
    ap_buf_deinit(&inputs);
    ap_buf_deinit(&outputs);
    ap_tokenizer_destroy(&t);
}

static void gpt2_vectors(void **state) { check_vectors("gpt-2", LOSES_NOTHING); }
static void starcoder_vectors(void **state) { check_vectors("starcoder", LOSES_NOTHING); }
static void mpt_vectors(void **state) { check_vectors("mpt", LOSES_NOTHING); }
static void falcon_vectors(void **state) { check_vectors("falcon", LOSES_NOTHING); }
static void deepseek_coder_vectors(void **state) { check_vectors("deepseek-coder", LOSES_NOTHING); }
static void llama_spm_vectors(void **state) { check_vectors("llama-spm", LOSES_A_SPACE); }
static void phi3_vectors(void **state) { check_vectors("phi-3", LOSES_A_SPACE); }

static void bert_vectors(void **state) { check_vectors("bert-bge", LOSES_MUCH); }

/* The recorded text writes spaces as U+2581 and shows the one that is put behind each control token. */
static void check_mistral(const char *model, const char *version)
{
    char relative[128];
    ap_tokenizer *t = NULL;
    ap_buf shown = {0}, wanted = {0}, plain = {0};
    (void)snprintf(relative, sizeof relative, "tokenizers/mistral/%s", model);
    assert_ok(vocab_file_open(&t, ap_test_data(relative), err));
    (void)snprintf(relative, sizeof relative, "tokenizers/mistral/samples/no_tools/text_%s.txt", version);
    assert_ok(ap_file_read(ap_test_data(relative), 1 << 20, &shown, err));
    (void)snprintf(relative, sizeof relative, "tokenizers/mistral/samples/no_tools/tokens_%s.json", version);
    assert_ok(ap_file_read(ap_test_data(relative), 1 << 20, &wanted, err));
    static const char space[] = "\xe2\x96\x81";
    bool is_behind = false;
    for (size_t i = 0; i < shown.len;) {
        bool is_space = strncmp(shown.ptr + i, space, 3) == 0;
        if (is_space && !is_behind)
            assert_ok(ap_buf_add_char(&plain, ' ', err));
        if (is_space) {
            i += 3;
            is_behind = false;
            continue;
        }
        is_behind = false;
        for (int32_t id = 0; id < 16 && !is_behind; id++) {
            ap_str piece = ap_tokenizer_piece(t, id);
            is_behind = ap_tokenizer_is_control(t, id) && ap_str_starts((ap_str){shown.ptr + i, shown.len - i}, piece);
            if (is_behind) {
                assert_ok(ap_buf_add_str(&plain, piece, err));
                i += piece.len;
            }
        }
        if (!is_behind)
            assert_ok(ap_buf_add_char(&plain, shown.ptr[i++], err));
    }
    ap_text_part part = {ap_buf_str(&plain), true};
    ap_ids ids = {0};
    assert_ok(ap_tokenize(t, &part, 1, 0, &ids, err));
    size_t count = 0;
    for (char *p = strchr(wanted.ptr, '['), *end; p && *p != ']'; p = end + strspn(end, ", \n"), count++) {
        p += *p == '[';
        assert_true(count < ids.count);
        assert_int_equal(ids.ids[count], strtol(p, &end, 10));
    }
    assert_int_equal(count, ids.count);
    ap_ids_deinit(&ids);
    ap_buf_deinit(&shown);
    ap_buf_deinit(&wanted);
    ap_buf_deinit(&plain);
    ap_tokenizer_destroy(&t);
}

static void mistral_v1_vectors(void **state) { check_mistral("tokenizer.model.v1", "v1"); }
static void mistral_v3_vectors(void **state) { check_mistral("mistral_instruct_tokenizer_240323.model.v3", "v3"); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2_vectors),           cmocka_unit_test(starcoder_vectors),
        cmocka_unit_test(mpt_vectors),            cmocka_unit_test(falcon_vectors),
        cmocka_unit_test(deepseek_coder_vectors), cmocka_unit_test(llama_spm_vectors),
        cmocka_unit_test(phi3_vectors), cmocka_unit_test(bert_vectors),
        cmocka_unit_test(mistral_v1_vectors), cmocka_unit_test(mistral_v3_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
