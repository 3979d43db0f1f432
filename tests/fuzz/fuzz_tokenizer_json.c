/* fuzz_tokenizer_json.c - any bytes as a tokenizer.json: refused in one line, or a tokenizer that takes any text; written as a
 * tokenizer.json again it gives the same ids.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>

#include "text/tokenizer_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hold(bool condition)
{
    if (!condition)
        abort();
}

/* Written again, it is refused in one line or it is the same tokenizer. */
static void write_again(const ap_vocab_source *source, ap_str text, const ap_ids *expected)
{
    ap_vocab_source read;
    ap_arena arena = {0};
    ap_buf written = {0};
    ap_tokenizer *t = NULL;
    ap_ids ids = {0};
    ap_error err = {0};
    if (ap_tokenizer_json_write(source, &written, &err) != AP_OK) {
        hold(err.message[0] && !strchr(err.message, '\n'));
    } else {
        hold(ap_tokenizer_json_read(&read, &arena, ap_buf_str(&written), &err) == AP_OK);
        hold(ap_tokenizer_create(&t, &read, &err) == AP_OK);
        ap_text_part part = {text, true};
        bool takes = ap_tokenize(t, &part, 1, AP_TOKENIZE_BOS | AP_TOKENIZE_EOS, &ids, &err) == AP_OK;
        hold(!takes || (ids.count == expected->count && memcmp(ids.ids, expected->ids, ids.count * sizeof *ids.ids) == 0));
    }
    ap_ids_deinit(&ids);
    ap_tokenizer_destroy(&t);
    ap_buf_deinit(&written);
    ap_arena_deinit(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = " a  b\n'll 12345 \xe2\x96\x81<s>\xcc\x81\xff\xe5\xad\x97 <|im_end|>!!";
    ap_vocab_source source;
    ap_arena arena = {0};
    ap_tokenizer *t = NULL;
    ap_error err = {0};
    ap_status status = ap_tokenizer_json_read(&source, &arena, (ap_str){(const char *)data, size}, &err);
    if (status == AP_OK)
        status = ap_tokenizer_create(&t, &source, &err);
    hold((status == AP_OK) == (t != NULL));
    if (status == AP_OK) {
        ap_text_part parts[] = {{AP_STR(text), true}, {AP_STR(text), false}, {{(const char *)data, size}, false}};
        ap_ids ids = {0};
        ap_buf back = {0};
        if (ap_tokenize(t, parts, 3, AP_TOKENIZE_BOS | AP_TOKENIZE_EOS, &ids, &err) == AP_OK)
            hold(ap_detokenize(t, ids.ids, ids.count, AP_DETOKENIZE_SPECIAL, &back, &err) == AP_OK);
        ap_ids_deinit(&ids);
        ap_buf_deinit(&back);
        if (ap_tokenize(t, parts, 1, AP_TOKENIZE_BOS | AP_TOKENIZE_EOS, &ids, &err) == AP_OK)
            write_again(&source, parts[0].text, &ids);
        ap_ids_deinit(&ids);
    } else {
        hold(err.message[0] && !strchr(err.message, '\n'));
    }
    ap_tokenizer_destroy(&t);
    ap_arena_deinit(&arena);
    return 0;
}
