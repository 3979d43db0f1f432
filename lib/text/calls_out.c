/* What calls.c has taken apart is given out: parts of one kind joined, white space beside reasoning and calls
 * left out, and what was a call only by its look as content.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/calls_inside.h"

enum { SPACE_BYTES_MAX = 4096 };

/* ---- Out ------------------------------------------------------------------- */

void ap_calls_check(ap_calls *c, ap_status status)
{
    if (c->status == AP_OK)
        c->status = status;
}

void ap_calls_keep(ap_calls *c, ap_buf *buf, char byte)
{
    ap_calls_check(c, ap_buf_add_char(buf, byte, c->err));
}

void ap_calls_flush(ap_calls *c)
{
    if (c->out.len && c->status == AP_OK) {
        ap_answer_piece piece = {.kind = c->out_kind,
                                 .call = c->call_count - 1,
                                 .text = c->out.ptr,
                                 .length = c->out.len,
                                 .id = ""};
        if (piece.kind != AP_ANSWER_ARGUMENTS)
            piece.call = 0;
        ap_calls_check(c, c->fn(c->context, &piece, c->err));
    }
    ap_buf_clear(&c->out);
}

void ap_calls_put(ap_calls *c, ap_answer_kind kind, ap_str text)
{
    if (text.len == 0)
        return;
    if (c->out_kind != kind)
        ap_calls_flush(c);
    c->out_kind = kind;
    ap_calls_check(c, ap_buf_add_str(&c->out, text, c->err));
}

void ap_calls_drop_space(ap_calls *c) { ap_buf_clear(&c->space); }

static bool is_plain(const ap_calls *c)
{
    return c->name_count == 0 && c->format.thinking == AP_THINKING_NONE;
}

void ap_calls_say(ap_calls *c, char byte)
{
    if (ap_call_is_space(byte) && !is_plain(c) && c->space.len < SPACE_BYTES_MAX) {
        ap_calls_keep(c, &c->space, byte);
        return;
    }
    if (c->has_said || !c->is_apart)
        ap_calls_put(c, AP_ANSWER_CONTENT, ap_buf_str(&c->space));
    ap_calls_drop_space(c);
    ap_calls_put(c, AP_ANSWER_CONTENT, (ap_str){&byte, 1});
    c->has_said = true;
    c->has_content = c->has_content || !ap_call_is_space(byte);
    c->may_close = c->is_wrapped = false;
}

void ap_calls_think(ap_calls *c, char byte)
{
    if (ap_call_is_space(byte) && c->space.len < SPACE_BYTES_MAX) {
        if (c->has_thought)
            ap_calls_keep(c, &c->space, byte);
        return;
    }
    ap_calls_put(c, AP_ANSWER_REASONING, ap_buf_str(&c->space));
    ap_calls_drop_space(c);
    ap_calls_put(c, AP_ANSWER_REASONING, (ap_str){&byte, 1});
    c->has_thought = true;
}

/* ---- Candidates --------------------------------------------------------------- */

void ap_calls_leave(ap_calls *c)
{
    c->is_apart = true;
    c->has_said = false;
    ap_calls_drop_space(c);
}

void ap_calls_begin_candidate(ap_calls *c, ap_str mark, bool is_bare)
{
    ap_buf_clear(&c->raw);
    ap_calls_check(c, ap_buf_add_str(&c->raw, mark, c->err));
    c->is_bare = is_bare;
    c->in_list = c->is_announced = false;
    ap_buf_clear(&c->id);
    ap_buf_clear(&c->name);
}

bool ap_calls_is_candidate(const ap_calls *c)
{
    return c->mode != CONTENT && c->mode != REASONING && c->mode != H_BODY && !c->is_announced;
}

void ap_calls_fail(ap_calls *c)
{
    c->mode = CONTENT;
    ap_calls_destroy(&c->probe);
    for (size_t i = 0; i < c->raw.len && c->status == AP_OK; i++)
        ap_calls_say(c, c->raw.ptr[i]);
    ap_buf_clear(&c->raw);
}

void ap_calls_end_call(ap_calls *c, ap_calls_mode next)
{
    ap_buf_clear(&c->raw);
    ap_buf_clear(&c->id);
    ap_buf_clear(&c->name);
    ap_calls_leave(c);
    c->is_announced = false;
    c->may_close = c->format.form == AP_CALLS_HERMES;
    c->mode = next;
}

bool ap_calls_is_known(const ap_calls *c, ap_str name)
{
    for (size_t i = 0; i < c->name_count; i++)
        if (ap_str_equal(c->names[i], name))
            return true;
    return false;
}

bool ap_calls_announce(ap_calls *c, ap_str name)
{
    if (!ap_calls_is_known(c, name) || c->call_count == AP_CALLS_MAX)
        return false;
    ap_calls_flush(c);
    ap_calls_drop_space(c);
    ap_str id = ap_str_trim(ap_buf_str(&c->id));
    ap_answer_piece piece = {.kind = AP_ANSWER_CALL,
                             .call = c->call_count++,
                             .text = name.ptr,
                             .length = name.len,
                             .id = id.len ? id.ptr : "",
                             .id_length = id.len};
    if (c->status == AP_OK)
        ap_calls_check(c, c->fn(c->context, &piece, c->err));
    c->is_announced = true;
    ap_buf_clear(&c->raw);
    return true;
}
