/* ranks.h - vocabularies that are a list of byte strings by rank: tekken.json (Mistral) and tiktoken's files.
 *
 * There are no merges: two neighbours join if their bytes together are in the list, the lowest rank first, and a word
 * that is in the list is one token.  Written as merges, those that make the same token have the same rank
 * (ap_vocab_source.equal_ranks).
 *
 * A tiktoken file is lines of `BASE64 RANK` and says neither its expression nor its special tokens.  The files of the
 * families known here differ in length, and that decides: 128,000 (Llama 3), 151,643 (Qwen), 199,998 (o200k: GPT-4o, gpt-oss),
 * 100,256 (cl100k).  Another is refused.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEXT_RANKS_H
#define AP_TEXT_RANKS_H

#include "base/arena.h"
#include "base/json.h"
#include "text/tokenizer.h"

enum { AP_RANKS_BYTES_MAX = 64 << 20 };

/* Everything in *out lives in the arena.  AP_E_FORMAT, AP_E_LIMIT, AP_E_UNSUPPORTED name the line or the entry. */
ap_status ap_tekken_read(ap_vocab_source *out, ap_arena *arena, const json_t *root, ap_error *err);
ap_status ap_tiktoken_read(ap_vocab_source *out, ap_arena *arena, ap_str file, ap_error *err);
/* Whether a file looks like tiktoken's: its first line is one. */
bool ap_tiktoken_is(ap_str file);

#endif
