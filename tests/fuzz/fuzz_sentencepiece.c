/* fuzz_sentencepiece.c - any bytes as a SentencePiece model: refused in one line, or a tokenizer that takes any text.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>

#include "text/sentencepiece.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hold(bool condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ap_vocab_source source;
    ap_arena arena = {0};
    ap_tokenizer *t = NULL;
    ap_error err = {0};
    ap_status status = ap_sentencepiece_read(&source, &arena, (ap_str){(const char *)data, size}, &err);
    if (status == AP_OK)
        status = ap_tokenizer_create(&t, &source, &err);
    hold((status == AP_OK) == (t != NULL));
    if (status == AP_OK) {
        ap_text_part parts[] = {{AP_STR("  hello\xe2\x96\x81world \xff\n\xef\xbc\xa1"), true}, {{(const char *)data, size}, false}};
        ap_ids ids = {0};
        ap_buf back = {0};
        if (ap_tokenize(t, parts, 2, AP_TOKENIZE_BOS | AP_TOKENIZE_EOS, &ids, &err) == AP_OK)
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
