/* Answers that are nothing but calls without their marks: held back until it is certain, for calls.c.
 *
 * A second machine, the probe, gets the same bytes and takes objects that stand alone for calls; what it gives out
 * is only looked at.  As soon as that is content the answer is text, and all that was held is given out as such.
 * If the answer ends before, its bytes are read once more, as what they are.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/calls_inside.h"

static ap_status hear(void *context, const ap_answer_piece *piece, ap_error *err)
{
    bool *is_text = context;
    *is_text = *is_text || piece->kind == AP_ANSWER_CONTENT;
    return AP_OK;
}

static void probe(ap_calls *c, char byte)
{
    bool is_text = false;
    ap_calls_check(c, ap_calls_push(c->probe, (ap_str){&byte, 1}, hear, &is_text, c->err));
    if (is_text)
        ap_calls_fail(c);
}

/* What stands after the backticks: nothing, or one of these words and white space. */
static bool is_fence_name(ap_str word, bool is_complete)
{
    static const char *const names[] = {"json", "tool_call"};
    bool is_name = word.len == 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !is_name; i++)
        is_name = is_complete ? ap_str_is(word, names[i]) : ap_str_starts(ap_str_from(names[i]), word);
    return is_name;
}

void ap_calls_begin_whole(ap_calls *c, char byte)
{
    ap_call_format format = c->format;
    format.thinking = AP_THINKING_NONE;
    memset(format.is_control, true, sizeof format.is_control); /* marks are looked for here, not there */
    ap_calls_begin_candidate(c, (ap_str){&byte, 1}, true);
    c->mode = WHOLE;
    c->fence = byte == '`' ? FENCE_OPEN : FENCE_OVER;
    c->fence_bytes = 0;
    ap_calls_check(c, ap_calls_create(&c->probe, &format, c->names, c->name_count, false, c->err));
    if (!c->probe)
        return;
    c->probe->stands_alone = true;
    c->probe->is_fenced = byte == '`';
    if (byte != '`')
        probe(c, byte);
}

void ap_calls_whole_byte(ap_calls *c, char byte)
{
    enum { BACKTICKS = 3 };
    if (!c->probe)
        return;
    if (c->fence == FENCE_OVER) {
        probe(c, byte);
    } else if (c->fence == FENCE_OPEN) {
        if (byte != '`')
            ap_calls_fail(c);
        else if (c->raw.len == BACKTICKS)
            c->fence = FENCE_NAME;
    } else {
        bool is_begin = byte == '{' || byte == '[';
        ap_str word = {c->raw.ptr + BACKTICKS, c->raw.len - BACKTICKS - is_begin};
        if (!is_fence_name(ap_str_trim(word), is_begin)) {
            ap_calls_fail(c);
        } else if (is_begin) {
            c->fence = FENCE_OVER;
            c->fence_bytes = c->raw.len - 1;
            probe(c, byte);
        }
    }
}

bool ap_calls_whole_is_over(const ap_calls *c)
{
    const ap_calls *p = c->probe;
    return p && p->mode == CONTENT && p->call_count && !p->is_wrapped;
}

void ap_calls_end_whole(ap_calls *c)
{
    ap_buf raw = c->raw;
    c->raw = (ap_buf){0};
    ap_calls_destroy(&c->probe);
    c->mode = CONTENT;
    c->stands_alone = true;
    c->is_fenced = c->fence_bytes > 0;
    for (size_t i = c->fence_bytes; i < raw.len && c->status == AP_OK; i++)
        ap_calls_on_byte(c, raw.ptr[i]);
    ap_buf_deinit(&raw);
}
