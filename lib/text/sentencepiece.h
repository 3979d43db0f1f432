/* sentencepiece.h - a vocabulary out of a SentencePiece model file (tokenizer.model, spiece.model): BPE and Unigram.
 *
 * The file is one protobuf message; a walker over its fields is all that is needed.  Fields read (numbers in brackets):
 * pieces (1): text (1), score (2), type (3); trainer (2): kind (3), byte fallback (35), ids of unknown, begin, end and
 * padding (40 to 43); normalizer (3): precompiled map (2), prefix space (3), removal of extra spaces (4), escaping of
 * spaces (5).  Others are stepped over.
 *
 * A model file does not say whether begin and end tokens are put around text: BPE adds the begin, Unigram the end, as
 * GGUF has it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEXT_SENTENCEPIECE_H
#define AP_TEXT_SENTENCEPIECE_H

#include "base/arena.h"
#include "text/tokenizer.h"

enum { AP_SENTENCEPIECE_BYTES_MAX = 64 << 20 };

/* Everything in *out lives in the arena.  AP_E_FORMAT names the field and its offset; AP_E_LIMIT, AP_E_UNSUPPORTED. */
ap_status ap_sentencepiece_read(ap_vocab_source *out, ap_arena *arena, ap_str file, ap_error *err);

#endif
