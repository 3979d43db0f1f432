/* tokenizer_json.h - a vocabulary out of a Hugging Face tokenizer.json.
 *
 * The components (normalizer, pre-tokenizer, model, post-processor, added tokens) are recognised by what they do; the
 * result is a description as a GGUF file would give it.  What a description cannot say is refused by name:
 * nothing is dropped in silence but what has no effect on ids (truncation, padding, offsets).
 *
 * Two things are stricter than in the package `tokenizers`: control tokens are always looked for in the text as it
 * stands (whatever their flag `normalized` says), and before user-defined ones.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEXT_TOKENIZER_JSON_H
#define AP_TEXT_TOKENIZER_JSON_H

#include "base/arena.h"
#include "base/json.h"
#include "text/tokenizer.h"

enum {
    AP_TOKENIZER_JSON_BYTES_MAX = 64 << 20, /* the largest known file has 33 MiB */
    AP_TOKENIZER_JSON_VALUES_MAX = 8 << 20  /* Gemma 3: two million */
};

/* Everything in *out lives in the arena.  AP_E_FORMAT, AP_E_LIMIT, AP_E_UNSUPPORTED name the component or token. */
ap_status ap_tokenizer_json_read(ap_vocab_source *out, ap_arena *arena, ap_str text, ap_error *err);
/* The same of what was parsed already. */
ap_status ap_tokenizer_json_read_root(ap_vocab_source *out, ap_arena *arena, const json_t *root, ap_error *err);

/* The way back: adds the text to *out.  AP_E_UNSUPPORTED names what such a file cannot
 * say, or this release does not. */
ap_status ap_tokenizer_json_write(const ap_vocab_source *source, ap_buf *out, ap_error *err);

#endif
