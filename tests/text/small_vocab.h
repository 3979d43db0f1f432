/* small_vocab.h - vocabularies small enough to stand in the source, for tests and fuzzing.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TESTS_SMALL_VOCAB_H
#define AP_TESTS_SMALL_VOCAB_H

#include "text/tokenizer.h"

/* A description in storage of its own, free to be spoilt by a test. */
typedef struct small_vocab {
    ap_vocab_source source;
    ap_str tokens[512];
    float scores[512];
    int32_t types[512];
    ap_str merges[128];
    char text[4096];
    size_t text_bytes;
} small_vocab;

enum { SMALL_END = 0, SMALL_TURN = 1, SMALL_TURN_END = 2, SMALL_TOOL = 3, SMALL_BYTES = 4 };

/* Byte-level: 0 "<|endoftext|>", 1 "<|im_start|>", 2 "<|im_end|>" control, 3 "<tool>" user-defined, the 256 bytes
 * (byte b is token SMALL_BYTES + b), and what a short list of English merges makes. */
void small_vocab_bpe(small_vocab *vocab, const char *pre);
/* SentencePiece: 0 "<unk>", 1 "<s>", 2 "</s>", 3 "<tool>" user-defined, 256 byte tokens (byte b is SMALL_BYTES + b),
 * then characters and words with falling scores. */
void small_vocab_spm(small_vocab *vocab);

#endif
