/* SPDX-License-Identifier: Apache-2.0 */
#include "small_vocab.h"

#include <stdio.h>

#include "base/utf8.h"

/* The rank is the place in the list; "\xc4\xa0" is the space of the byte-level alphabet. */
static const char *const merges[] = {
    "t h",   "th e",     "\xc4\xa0 the", "i n",  "e r",  "\xc4\xa0 a", "h e", "a n", "an d", "\xc4\xa0 and", "in g",
    "l l",   "he ll",    "hell o",       "o r",  "w or", "wor l",      "worl d", "\xc4\xa0 w", "' s", "' t", "0 0",
    "00 00", "a a",      "aa aa",        "aaaa aaaa", "\xc4\xa0 \xc4\xa0", "\xc4\xa0\xc4\xa0 \xc4\xa0\xc4\xa0",
    "\xc4\x8a \xc4\x8a", "\xc3\x83 \xc2\xa9", "\xc3\xa2 \xc4\xa4", "\xc3\xa2\xc4\xa4 \xc2\xac", "< |", "| >", "i m",
    "< s", "/ s", "\xc3\xb0 \xc5\x81"};

static const char *const words[] = {
    "\xe2\x96\x81", "a", "e", "h", "l", "o", "r", "t", "w", "d", "n", "s", "\xc3\xa9", "<", ">", "/", ".",
    "\xe2\x96\x81t", "he", "\xe2\x96\x81" "a", "ll", "or", "\xe2\x96\x81the", "\xe2\x96\x81\xe2\x96\x81", "wor", "hell",
    "\xe2\x96\x81hell", "\xe2\x96\x81hello", "ld", "\xe2\x96\x81wor", "\xe2\x96\x81world", "<s", "and", "an",
    "\xe2\x96\x81" "and", "\xe2\x96\x81\xe2\x96\x81\xe2\x96\x81\xe2\x96\x81", "aa", "aaaa"};

static ap_str keep(small_vocab *vocab, const char *bytes, size_t n)
{
    char *copy = memcpy(vocab->text + vocab->text_bytes, bytes, n);
    vocab->text_bytes += n;
    return (ap_str){copy, n};
}

static void add(small_vocab *vocab, ap_str text, int32_t type, float score)
{
    uint32_t id = vocab->source.token_count++;
    vocab->tokens[id] = text;
    vocab->types[id] = type;
    vocab->scores[id] = score;
}

static void begin(small_vocab *vocab, ap_vocab_kind kind)
{
    *vocab = (small_vocab){.source = AP_VOCAB_SOURCE_NONE};
    vocab->source.kind = kind;
    vocab->source.tokens = vocab->tokens;
    vocab->source.types = vocab->types;
    vocab->source.scores = kind == AP_VOCAB_SPM ? vocab->scores : NULL;
}

void small_vocab_bpe(small_vocab *vocab, const char *pre)
{
    begin(vocab, AP_VOCAB_BPE);
    vocab->source.pre = ap_str_from(pre);
    add(vocab, AP_STR("<|endoftext|>"), AP_TOKEN_CONTROL, 0);
    add(vocab, AP_STR("<|im_start|>"), AP_TOKEN_CONTROL, 0);
    add(vocab, AP_STR("<|im_end|>"), AP_TOKEN_CONTROL, 0);
    add(vocab, AP_STR("<tool>"), AP_TOKEN_USER_DEFINED, 0);
    uint32_t other = 0x100;
    for (unsigned byte = 0; byte < 256; byte++) {
        bool is_itself = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte != 0xad);
        char text[4];
        add(vocab, keep(vocab, text, ap_utf8_put(is_itself ? byte : other++, text)), AP_TOKEN_NORMAL, 0);
    }
    for (unsigned i = 0; i < sizeof merges / sizeof merges[0]; i++) {
        ap_str merge = ap_str_from(merges[i]);
        size_t left = (size_t)(strchr(merge.ptr + 1, ' ') - merge.ptr);
        ap_str whole = keep(vocab, merge.ptr, left);
        whole.len += keep(vocab, merge.ptr + left + 1, merge.len - left - 1).len;
        add(vocab, whole, AP_TOKEN_NORMAL, 0);
        vocab->merges[vocab->source.merge_count++] = merge;
    }
    vocab->source.merges = vocab->merges;
    vocab->source.bos = vocab->source.eos = SMALL_END;
    vocab->source.eot = SMALL_TURN_END;
}

void small_vocab_spm(small_vocab *vocab)
{
    begin(vocab, AP_VOCAB_SPM);
    add(vocab, AP_STR("<unk>"), AP_TOKEN_UNKNOWN, 0);
    add(vocab, AP_STR("<s>"), AP_TOKEN_CONTROL, 0);
    add(vocab, AP_STR("</s>"), AP_TOKEN_CONTROL, 0);
    add(vocab, AP_STR("<tool>"), AP_TOKEN_USER_DEFINED, 0);
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[8];
        int n = snprintf(text, sizeof text, "<0x%02X>", byte);
        add(vocab, keep(vocab, text, (size_t)n), AP_TOKEN_BYTE, 0);
    }
    for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++)
        add(vocab, ap_str_from(words[i]), AP_TOKEN_NORMAL, i < 17 ? -1000.0f : -(float)i);
    vocab->source.unk = 0;
    vocab->source.bos = 1;
    vocab->source.eos = 2;
}
