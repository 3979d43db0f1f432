/* text.h - between people's text and the numbers a model reads.
 *
 * This room owns tokenizers and their vocabularies (tokenizer.h), chat templates
 * (template.h), the stream from tokens back to text (stream.h) and what an answer is made of (calls.h).  It knows no file
 * format: descriptions come in as plain structures.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEXT_TEXT_H
#define AP_TEXT_TEXT_H

#include "text/calls.h"
#include "text/stream.h"
#include "text/template.h"
#include "text/tokenizer.h"

#endif
