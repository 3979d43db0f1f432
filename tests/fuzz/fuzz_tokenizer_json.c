/* fuzz_tokenizer_json.c - any bytes as a tokenizer.json: refused in one line, or a tokenizer that takes any text.
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
    } else {
        hold(err.message[0] && !strchr(err.message, '\n'));
    }
    ap_tokenizer_destroy(&t);
    ap_arena_deinit(&arena);
    return 0;
}
