/* vocab_read.h - a vocabulary out of whatever file or files it came in.
 *
 *     tokenizer.json                     tokenizer_json.h
 *     tokenizer.model, spiece.model      sentencepiece.h, or tiktoken's form (ranks.h)
 *     sentencepiece.bpe.model            the same with the ids of XLM-R
 *     tekken.json, NAME.tiktoken         ranks.h
 *     vocab.txt                          BERT: a token in each line
 *     vocab.json and merges.txt          GPT-2, RoBERTa, Qwen 2: what else their tokenizer.json would say is known by class
 *
 * A file alone is told by what is in it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEXT_VOCAB_READ_H
#define AP_TEXT_VOCAB_READ_H

#include "base/arena.h"
#include "base/json.h"
#include "text/tokenizer.h"

/* One file.  Everything in *out lives in the arena. */
ap_status ap_vocab_file_read(ap_vocab_source *out, ap_arena *arena, ap_str file, ap_error *err);

/* Empty: not there. */
typedef struct ap_vocab_lists {
    ap_str vocab;      /* vocab.json or vocab.txt */
    ap_str merges;     /* merges.txt */
    ap_str added;      /* added_tokens.json */
    ap_str specials;   /* special_tokens_map.json */
    ap_str config;     /* tokenizer_config.json */
    ap_str model_type; /* of config.json: where the class is not said */
} ap_vocab_lists;

/* AP_E_UNSUPPORTED names a class that is not known. */
ap_status ap_vocab_lists_read(ap_vocab_source *out, ap_arena *arena, const ap_vocab_lists *files, ap_error *err);

/* A SentencePiece model with the ids that XLM-R gives its pieces. */
ap_status ap_xlm_roberta_read(ap_vocab_source *out, ap_arena *arena, ap_str file, ap_error *err);

#endif
