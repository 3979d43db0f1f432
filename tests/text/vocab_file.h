/* vocab_file.h - a tokenizer out of a GGUF file, a tokenizer.json or a SentencePiece model, for the tests of lib/text.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TESTS_VOCAB_FILE_H
#define AP_TESTS_VOCAB_FILE_H

#include "text/tokenizer.h"

ap_status vocab_file_open(ap_tokenizer **out, const char *path, ap_error *err);

#endif
