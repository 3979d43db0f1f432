/* fuzz_gguf.c - any bytes as a model file: the reader, all its typed getters, the vocabulary with its template, the check of
 * sizes and the reader of packed files.
 *
 * What is accepted must hold: every span lies in the file, every name finds its own entry.  What is refused must say why
 * in one line.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { NAME_BYTES = 128, ARENA_BYTES_MAX = 64 << 20 };

static void must(bool is_true)
{
    if (!is_true)
        abort();
}

static void check_refusal(ap_status status, const ap_error *err)
{
    if (status != AP_OK)
        must(err->message[0] && !strchr(err->message, '\n') && strlen(err->message) < sizeof err->message);
}

static void read_typed(const ap_gguf *g, const char *name, uint64_t count)
{
    uint32_t number;
    float real;
    bool flag;
    ap_str text;
    const ap_str *strings;
    const float *reals;
    const int32_t *numbers;
    char shown[16];
    ap_error err = {0};
    ap_arena arena = {.limit_bytes = ARENA_BYTES_MAX};
    check_refusal(ap_gguf_get_u32(g, name, &number, &err), &err);
    check_refusal(ap_gguf_get_f32(g, name, &real, &err), &err);
    check_refusal(ap_gguf_get_bool(g, name, &flag, &err), &err);
    check_refusal(ap_gguf_get_str(g, name, &text, &err), &err);
    ap_gguf_copy_str(g, name, shown, sizeof shown);
    must(strlen(shown) < sizeof shown);
    uint64_t string_count = 0, string_bytes = 0;
    if (ap_gguf_get_strs(g, name, &arena, &strings, &string_count, &err) == AP_OK)
        for (uint64_t i = 0; i < string_count; i++)
            for (size_t k = 0; k < strings[i].len; k++)
                string_bytes += (unsigned char)strings[i].ptr[k]; /* touched: the sanitizer looks */
    check_refusal(ap_gguf_get_f32s(g, name, count, &arena, &reals, &err), &err);
    check_refusal(ap_gguf_get_i32s(g, name, count, &arena, &numbers, &err), &err);
    ap_arena_deinit(&arena);
    must(string_bytes < UINT64_MAX);
}

static void walk(const ap_gguf *g, const uint8_t *data, size_t size)
{
    for (uint32_t i = 0; i < ap_gguf_key_count(g); i++) {
        const ap_gguf_key *key = ap_gguf_key_at(g, i);
        must(ap_gguf_find(g, key->name) == key);
        must(key->bytes >= data && key->byte_count <= size && (size_t)(key->bytes - data) <= size - key->byte_count);
        char name[NAME_BYTES];
        if (key->name.len >= sizeof name || memchr(key->name.ptr, 0, key->name.len))
            continue;
        if (key->name.len)
            memcpy(name, key->name.ptr, key->name.len);
        name[key->name.len] = 0;
        read_typed(g, name, key->count);
    }
    for (uint32_t i = 0; i < ap_gguf_tensor_count(g); i++) {
        const ap_gguf_tensor *t = ap_gguf_tensor_at(g, i);
        must(ap_gguf_find_tensor(g, t->name) == t);
        must(t->offset <= size && t->bytes <= size - t->offset && ap_gguf_data(g, t) == data + t->offset);
        must(t->dim_count <= AP_GGUF_DIMS_MAX && ap_type_info_of(t->type));
    }
}

static void use_vocabulary(const ap_gguf *g)
{
    static const char text[] = "Hello the <|im_end|> 12 \xc3\xa9\xf0\x9f\x98\x80";
    static const char chat[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"x<|im_end|>\"}],\"add_generation_prompt\":true}";
    ap_error err = {0};
    ap_vocab *vocab = NULL;
    check_refusal(ap_vocab_create(&vocab, g, &err), &err);
    if (!vocab)
        return;
    ap_tokens tokens;
    ap_status status = ap_vocab_tokenize(vocab, text, sizeof text - 1, AP_TOKENIZE_BOS, &tokens, &err);
    check_refusal(status, &err);
    for (size_t i = 0; i < tokens.count; i++)
        must(tokens.ids[i] >= 0 && (uint32_t)tokens.ids[i] < ap_vocab_count(vocab));
    char *back = NULL;
    size_t length;
    if (status == AP_OK)
        check_refusal(ap_vocab_detokenize(vocab, tokens.ids, tokens.count, AP_DETOKENIZE_SPECIAL, &back, &length, &err), &err);
    ap_free(back);
    ap_free(tokens.ids);
    check_refusal(ap_vocab_render(vocab, chat, sizeof chat - 1, 0, NULL, NULL, &tokens, &err), &err);
    ap_free(tokens.ids);
    ap_vocab_close(&vocab);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* Aligned like a mapped file; exactly this long, so that a byte too far is seen. */
    uint8_t *file = NULL;
    if (posix_memalign((void **)&file, 64, size ? size : 1) != 0)
        return 0;
    if (size)
        memcpy(file, data, size);
    ap_error err = {0};
    ap_gguf *g = NULL;
    ap_status status = ap_gguf_open(&g, file, size, &err);
    check_refusal(status, &err);
    must((status == AP_OK) == (g != NULL));
    if (g) {
        walk(g, file, size);
        use_vocabulary(g);
        ap_hparams sizes;
        check_refusal(ap_hparams_read(&sizes, &ap_arch_llama, g, &err), &err);
        ap_gguf_close(&g);
        ap_packed *packed = NULL;
        check_refusal(ap_packed_open(&packed, file, size, &err), &err);
        ap_packed_close(&packed);
    }
    free(file);
    return 0;
}
