/* First byte: form (low three bits), whether marks are control tokens, whether the prompt opened the reasoning; then an
 * answer, control tokens between 0xff and 0xfe.
 *
 * Holds: no crash; arguments follow their call; byte by byte gives what the whole gives.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>
#include <string.h>

#include "text/calls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct listener {
    ap_buf parts[3]; /* content, reasoning, calls */
    uint32_t calls;
} listener;

static void hold(bool condition)
{
    if (!condition)
        abort();
}

static ap_status listen(void *context, const ap_answer_piece *piece, ap_error *err)
{
    listener *l = context;
    ap_buf *part = &l->parts[piece->kind < AP_ANSWER_CALL ? piece->kind : AP_ANSWER_CALL];
    if (piece->kind == AP_ANSWER_CALL)
        AP_TRY(ap_buf_add_char(part, '\0', err));
    hold(piece->kind != AP_ANSWER_CALL || piece->call == l->calls++);
    hold(piece->kind != AP_ANSWER_ARGUMENTS || piece->call + 1 == l->calls);
    hold(piece->kind == AP_ANSWER_CALL || piece->length > 0);
    AP_TRY(ap_buf_add(part, piece->id, piece->id_length, err));
    return ap_buf_add(part, piece->text, piece->length, err);
}

static void parse(const ap_call_format *format, bool is_thinking, ap_str text, bool by_byte, listener *l)
{
    const ap_str names[] = {AP_STR("f"), AP_STR("get")};
    ap_calls *calls;
    hold(ap_calls_create(&calls, format, names, 2, is_thinking, NULL) == AP_OK);
    for (size_t i = 0; by_byte && i < text.len; i++)
        hold(ap_calls_push(calls, (ap_str){text.ptr + i, 1}, listen, l, NULL) == AP_OK);
    if (!by_byte)
        hold(ap_calls_push(calls, text, listen, l, NULL) == AP_OK);
    hold(ap_calls_finish(calls, listen, l, NULL) == AP_OK);
    ap_calls_destroy(&calls);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    ap_call_format format = {.form = (ap_call_form)(data[0] % (AP_CALLS_JSON + 1)),
                             .thinking = data[0] & 8 ? AP_THINKING_TAGS : data[0] & 16 ? AP_THINKING_MISTRAL : AP_THINKING_NONE};
    for (size_t i = 0; i < AP_CALL_MARKS_MAX; i++)
        format.is_control[i] = data[0] & 32;
    ap_str text = {(const char *)data + 1, size - 1};
    listener one = {0}, two = {0};
    bool is_thinking = (data[0] & 64) && format.thinking != AP_THINKING_NONE;
    parse(&format, is_thinking, text, false, &one);
    parse(&format, is_thinking, text, true, &two);
    hold(one.calls == two.calls);
    for (size_t i = 0; i < 3; i++) {
        hold(ap_str_equal(ap_buf_str(&one.parts[i]), ap_buf_str(&two.parts[i])));
        ap_buf_deinit(&one.parts[i]);
        ap_buf_deinit(&two.parts[i]);
    }
    return 0;
}
