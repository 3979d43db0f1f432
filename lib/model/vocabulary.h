/* vocabulary.h - a vocabulary's description, read from GGUF keys and written as such.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_MODEL_VOCABULARY_H
#define AP_MODEL_VOCABULARY_H

#include "format/gguf_write.h"
#include "text/tokenizer.h"

/* Borrows from the file and the arena. */
ap_status ap_vocab_source_read(ap_vocab_source *source, ap_arena *arena, const ap_gguf *gguf, ap_error *err);
/* For a model whose embedding has `rows` rows: those without a token get a name.  The keys of special tokens may be written
 * again by the caller, who knows better. */
ap_status ap_vocab_source_write(const ap_vocab_source *source, uint32_t rows, ap_gguf_writer *keys, ap_error *err);

#endif
