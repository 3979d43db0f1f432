/* fuzz_vocab_read.c - any bytes as a vocabulary file of any kind, or as the lists of an older model: refused in one line, or a
 * tokenizer that takes any text.
 *
 * A first byte of 1, 2 or 3 makes lists of what follows, which U+0000 separates: vocab.json, merges.txt, and one more.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>

#include "text/vocab_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hold(bool condition)
{
    if (!condition)
        abort();
}

static ap_str next_part(ap_str *rest)
{
    const char *end = memchr(rest->ptr, 0, rest->len);
    ap_str part = {rest->ptr, end ? (size_t)(end - rest->ptr) : rest->len};
    size_t used = part.len + (end != NULL);
    *rest = (ap_str){rest->ptr + used, rest->len - used};
    return part;
}

static ap_status read_lists(ap_vocab_source *source, ap_arena *arena, unsigned which, ap_str rest, ap_error *err)
{
    static const char *const types[] = {"gpt2", "roberta", "qwen2"};
    ap_vocab_lists files = {.vocab = next_part(&rest), .merges = next_part(&rest), .model_type = ap_str_from(types[which])};
    *(which == 0 ? &files.added : which == 1 ? &files.specials : &files.config) = next_part(&rest);
    return ap_vocab_lists_read(source, arena, &files, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = " a  b\n'll 12345 \xe2\x96\x81<s>\xcc\x81\xff\xe5\xad\x97 <|im_end|>!!";
    ap_vocab_source source;
    ap_arena arena = {0};
    ap_tokenizer *t = NULL;
    ap_error err = {0};
    ap_str file = {(const char *)data, size};
    ap_status status = size && data[0] >= 1 && data[0] <= 3
                           ? read_lists(&source, &arena, data[0] - 1, (ap_str){file.ptr + 1, size - 1}, &err)
                           : ap_vocab_file_read(&source, &arena, file, &err);
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
