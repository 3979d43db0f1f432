/* fuzz_tokenizer.c - any bytes: tokenised and detokenised they are the same bytes, no control token comes of them, and
 * a stream gives the same text.
 *
 * The first byte chooses the vocabulary and the second where a seam goes; the rest is text.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>

#include "base/utf8.h"
#include "small_vocab.h"
#include "text/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TEXT_BYTES_MAX = 1 << 16 };

static const char *const pres[] = {"smollm", "gpt-2", "llama-bpe", "qwen2", "qwen35", "falcon", "default", "tekken", "gpt-4o",
                                   "deepseek-coder", "deepseek-v3", "bloom", "viking", "deepseek-llm", "seed-coder", "superbpe"};
enum { PRE_COUNT = sizeof pres / sizeof pres[0] };

/* One of each, made once; the last is SentencePiece. */
static const ap_tokenizer *vocabulary(unsigned which)
{
    static ap_tokenizer *made[PRE_COUNT + 1];
    static small_vocab vocab;
    if (made[which])
        return made[which];
    if (which < PRE_COUNT)
        small_vocab_bpe(&vocab, pres[which]);
    else
        small_vocab_spm(&vocab);
    if (ap_tokenizer_create(&made[which], &vocab.source, NULL) != AP_OK)
        abort();
    return made[which];
}

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void check_stream(const ap_tokenizer *t, const ap_ids *ids, ap_str raw)
{
    ap_stream *stream = NULL;
    ap_buf got = {0}, want = {0};
    ap_str text;
    require(ap_stream_create(&stream, t, NULL, 0, AP_STREAM_START, NULL) == AP_OK);
    for (size_t i = 0; i < ids->count; i++) {
        require(ap_stream_push(stream, ids->ids[i], &text) == -1);
        require(ap_utf8_valid(text) && ap_buf_add_str(&got, text, NULL) == AP_OK);
    }
    require(ap_buf_add_str(&got, ap_stream_finish(stream), NULL) == AP_OK);
    require(ap_utf8_add_lossy(&want, raw, NULL) == AP_OK);
    require(ap_str_equal(ap_buf_str(&got), ap_buf_str(&want)));
    ap_stream_destroy(&stream);
    ap_buf_deinit(&got);
    ap_buf_deinit(&want);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > TEXT_BYTES_MAX)
        return 0;
    const ap_tokenizer *t = vocabulary(data[0] % (PRE_COUNT + 1));
    ap_str text = {(const char *)data + 2, size - 2};
    size_t seam = text.len * data[1] / 255;
    ap_text_part parts[] = {{{text.ptr, seam}, false}, {{text.ptr + seam, text.len - seam}, false}};
    ap_ids ids = {0}, one = {0};
    ap_buf back = {0};
    require(ap_tokenize(t, parts, 2, 0, &ids, NULL) == AP_OK);
    parts[0].text = text;
    require(ap_tokenize(t, parts, 1, 0, &one, NULL) == AP_OK);
    require(ids.count == one.count);
    for (size_t i = 0; i < ids.count; i++)
        require(ids.ids[i] == one.ids[i] && !ap_tokenizer_is_control(t, ids.ids[i]));
    require(ap_detokenize(t, ids.ids, ids.count, 0, &back, NULL) == AP_OK);
    bool is_exact = ap_tokenizer_kind(t) == AP_VOCAB_BPE;
    if (is_exact)
        require(ap_str_equal(ap_buf_str(&back), text));
    else /* SentencePiece has one spelling for U+2581 and the space, and puts a space before each text */
        require(back.len <= 2 * text.len + 1);
    check_stream(t, &ids, ap_buf_str(&back));
    one.count = 0;
    parts[0].allow_special = true; /* as template text: still never a crash, still the same bytes */
    require(ap_tokenize(t, parts, 1, AP_TOKENIZE_BOS, &one, NULL) == AP_OK);
    ap_buf_clear(&back);
    size_t bos = ap_tokenizer_adds_bos(t);
    const int32_t *shown = bos ? one.ids + bos : one.ids; /* NULL when there is nothing */
    require(ap_detokenize(t, shown, one.count - bos, AP_DETOKENIZE_SPECIAL, &back, NULL) == AP_OK);
    require(!is_exact || ap_str_equal(ap_buf_str(&back), text));
    ap_ids_deinit(&ids);
    ap_ids_deinit(&one);
    ap_buf_deinit(&back);
    return 0;
}
