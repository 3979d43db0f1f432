/* telling_model.h - models that say what a test wants to hear, so that a test of tools or reasoning need not
 * hope for it.
 *
 * The weights are a table of "after this token comes that one": each token that matters has a direction of
 * its own in the hidden vector, attention and the gated MLP add nothing, and the output matrix turns each
 * direction into the token that follows.  The first token of an answer follows from the last byte of the last
 * message, with which the template ends the prompt; so the answer to a tool's result can depend on it.  After
 * any other byte the answer is empty.
 *
 * The template is ChatML with tools, calls as Hermes writes them, <think> and reasoning_effort.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TESTS_TELLING_MODEL_H
#define AP_TESTS_TELLING_MODEL_H

#include <stddef.h>

typedef struct telling_answer {
    char after;                /* the last byte of the last message: each byte begins one answer */
    const char *const *pieces; /* one token each, in order; none may be given twice in the whole model, nor
                                  begin an answer */
    size_t piece_count;
} telling_answer;

/* Writes the model to an open file. */
void telling_model_write(const telling_answer *answers, size_t count, int fd);
/* One that knows two tools, "weather" and "time": after '?' it thinks, then calls weather for Turin; after
 * '!' it calls both; after 'C' and 'F', as a temperature ends, it says whether it is warm. */
void telling_model_weather(int fd);

#endif
