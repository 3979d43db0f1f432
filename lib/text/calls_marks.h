/* calls_marks.h - the marks of all forms, for calls.c and calls_format.c.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEXT_CALLS_MARKS_H
#define AP_TEXT_CALLS_MARKS_H

#include "text/calls.h"

/* U+FF5C and U+2581, which DeepSeek's tokens are written with. */
#define AP_DEEPSEEK_BAR "\xef\xbd\x9c"
#define AP_DEEPSEEK_GAP "\xe2\x96\x81"
#define AP_DEEPSEEK_MARK(a, b, c) "<" AP_DEEPSEEK_BAR a AP_DEEPSEEK_GAP b AP_DEEPSEEK_GAP c AP_DEEPSEEK_BAR ">"

#define AP_CALL_MARKS(X)                                          \
    X(THINK_OPEN, "<think>")                                      \
    X(THINK_CLOSE, "</think>")                                    \
    X(MISTRAL_THINK_OPEN, "[THINK]")                              \
    X(MISTRAL_THINK_CLOSE, "[/THINK]")                            \
    X(HERMES_OPEN, "<tool_call>")                                 \
    X(HERMES_CLOSE, "</tool_call>")                               \
    X(PYTHON, "<|python_tag|>")                                   \
    X(MISTRAL_CALLS, "[TOOL_CALLS]")                              \
    X(MISTRAL_ARGS, "[ARGS]")                                     \
    X(MISTRAL_ID, "[CALL_ID]")                                    \
    X(DS_CALLS_BEGIN, AP_DEEPSEEK_MARK("tool", "calls", "begin")) \
    X(DS_CALLS_END, AP_DEEPSEEK_MARK("tool", "calls", "end"))     \
    X(DS_CALL_BEGIN, AP_DEEPSEEK_MARK("tool", "call", "begin"))   \
    X(DS_CALL_END, AP_DEEPSEEK_MARK("tool", "call", "end"))       \
    X(DS_SEP, "<" AP_DEEPSEEK_BAR "tool" AP_DEEPSEEK_GAP "sep" AP_DEEPSEEK_BAR ">") \
    X(H_START, "<|start|>")                                       \
    X(H_END, "<|end|>")                                           \
    X(H_MESSAGE, "<|message|>")                                   \
    X(H_CHANNEL, "<|channel|>")                                   \
    X(H_CONSTRAIN, "<|constrain|>")                               \
    X(H_CALL, "<|call|>")                                         \
    X(H_RETURN, "<|return|>")

typedef enum ap_call_mark {
#define X(name, text) AP_MARK_##name,
    AP_CALL_MARKS(X)
#undef X
    AP_MARK_COUNT
} ap_call_mark;

extern const char *const ap_call_marks[AP_MARK_COUNT]; /* calls_format.c */

#endif
