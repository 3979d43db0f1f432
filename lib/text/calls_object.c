/* Calls that are objects of JSON, or written as Python: byte by byte, for calls.c.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/calls_inside.h"

enum { NAME_KEY_BYTES = 12 };

/* ---- JSON --------------------------------------------------------------------- */

static bool decode(ap_calls *c, ap_str json, ap_buf *out)
{
    bool is_text = false;
    ap_calls_check(c, ap_call_decode(json, out, &is_text, c->err));
    return is_text;
}

void ap_calls_begin_object(ap_calls *c)
{
    c->object = (ap_calls_object){.state = WANT_KEY};
    ap_buf_clear(&c->arguments);
    c->mode = OBJECT;
}

void ap_calls_begin_list(ap_calls *c)
{
    c->in_list = true;
    c->mode = LIST;
}

static void end_object(ap_calls *c)
{
    ap_calls_object *o = &c->object;
    if (!c->is_announced) {
        /* Without a mark in front only what has both is a call. */
        if ((c->is_bare && !o->has_arguments) || !ap_calls_announce(c, ap_buf_str(&c->name))) {
            ap_calls_fail(c);
            return;
        }
        ap_calls_put(c, AP_ANSWER_ARGUMENTS, o->has_arguments ? ap_buf_str(&c->arguments) : AP_STR("{}"));
    }
    ap_calls_end_call(c, c->in_list ? LIST : CONTENT);
}

static void end_value(ap_calls *c)
{
    ap_calls_object *o = &c->object;
    ap_str value = ap_buf_str(&c->value);
    o->state = WANT_COMMA;
    if (o->is_streaming) {
        o->is_streaming = false;
    } else if (o->key == KEY_NAME) {
        if (!decode(c, value, &c->name))
            ap_calls_fail(c);
    } else if (o->key == KEY_ID) {
        (void)decode(c, value, &c->id); /* a number is no id: ours is taken */
    } else if (o->key == KEY_ARGUMENTS) {
        /* Some models write the JSON text into a string, as OpenAI's interface has it; and null for nothing.
         */
        if (ap_str_is(value, "null"))
            ap_calls_check(c, ap_buf_add_str(&c->arguments, AP_STR("{}"), c->err));
        else if (!value.len || value.ptr[0] != '"' || !decode(c, value, &c->arguments))
            ap_calls_check(c, ap_buf_add_str(&c->arguments, value, c->err));
        o->has_arguments = true;
    }
}

static void begin_value(ap_calls *c, char byte)
{
    ap_calls_object *o = &c->object;
    o->value = (ap_call_tracker){0};
    o->state = IN_VALUE;
    ap_buf_clear(&c->value);
    if (o->key == KEY_ARGUMENTS && o->has_arguments)
        o->key = KEY_OTHER; /* "arguments" and "parameters": the first */
    if (o->key == KEY_ARGUMENTS && byte == '{' && c->name.len) {
        if (!ap_calls_announce(c, ap_buf_str(&c->name))) {
            ap_calls_fail(c);
            return;
        }
        o->is_streaming = o->has_arguments = true;
    }
}

void ap_calls_object_byte(ap_calls *c, char byte)
{
    ap_calls_object *o = &c->object;
    bool is_list_of_calls = c->format.form == AP_CALLS_JSON && c->is_bare && !c->in_list && !c->is_wrapped;
    switch (o->state) {
    case WANT_KEY:
        if (byte == '"') {
            ap_buf_clear(&c->key);
            o->is_escaped = false;
            o->state = IN_KEY;
        } else if (byte == '}') {
            end_object(c);
        } else if (!ap_call_is_space(byte)) {
            ap_calls_fail(c);
        }
        return;
    case IN_KEY:
        if (byte == '"' && !o->is_escaped) {
            o->key = ap_call_key_of(ap_buf_str(&c->key));
            o->state = WANT_COLON;
        } else if (c->key.len < NAME_KEY_BYTES) { /* a longer one is none of ours */
            ap_calls_keep(c, &c->key, byte);
        }
        o->is_escaped = byte == '\\' && !o->is_escaped;
        return;
    case WANT_COLON:
        if (byte == ':')
            o->state = WANT_VALUE;
        else if (!ap_call_is_space(byte))
            ap_calls_fail(c);
        return;
    case WANT_VALUE:
        if (ap_call_is_space(byte))
            return;
        if (byte == ',' || byte == '}' || byte == ']') {
            ap_calls_fail(c);
            return;
        }
        if (is_list_of_calls &&
            ((o->key == KEY_CALL && byte == '{') || (o->key == KEY_CALLS && byte == '['))) {
            c->is_wrapped = true;
            if (byte == '{')
                ap_calls_begin_object(c);
            else
                ap_calls_begin_list(c);
            return;
        }
        begin_value(c, byte);
        if (c->mode != OBJECT)
            return;
        break;
    case IN_VALUE:
        break;
    case WANT_COMMA:
        if (byte == ',')
            o->state = WANT_KEY;
        else if (byte == '}')
            end_object(c);
        else if (!ap_call_is_space(byte)) {
            if (c->is_announced) { /* the arguments stand; what follows them is no JSON */
                ap_calls_end_call(c, CONTENT);
                ap_calls_on_byte(c, byte);
            } else {
                ap_calls_fail(c);
            }
        }
        return;
    }
    bool is_taken = ap_call_track(&o->value, byte);
    if (is_taken && o->is_streaming)
        ap_calls_put(c, AP_ANSWER_ARGUMENTS, (ap_str){&byte, 1});
    else if (is_taken)
        ap_calls_keep(c, &c->value, byte);
    if (!o->value.is_over)
        return;
    end_value(c);
    if (!is_taken && c->mode == OBJECT)
        ap_calls_object_byte(c, byte);
}

void ap_calls_list_byte(ap_calls *c, char byte)
{
    if (byte == '{')
        ap_calls_begin_object(c);
    else if (c->in_list && byte == ']')
        ap_calls_end_call(c, CONTENT);
    else if (!ap_call_is_space(byte) && !(c->in_list && byte == ','))
        ap_calls_fail(c);
}

/* ---- Calls as Python ------------------------------------------------------------ */

void ap_calls_begin_python(ap_calls *c, char byte)
{
    c->tracker = (ap_call_tracker){0};
    ap_buf_clear(&c->value);
    ap_calls_keep(c, &c->value, byte);
    c->mode = PYTHON;
}

/* value: the call up to here. */
void ap_calls_python_byte(ap_calls *c, char byte)
{
    ap_call_tracker *t = &c->tracker;
    ap_calls_keep(c, &c->value, byte);
    if (!t->has_begun) {
        if (byte == '(') {
            if (!ap_calls_is_known(c, (ap_str){c->value.ptr, c->value.len - 1}))
                ap_calls_fail(c);
            t->has_begun = true;
            t->depth = 1;
        } else if (!ap_call_is_name_byte(byte, false) || c->value.len > AP_CALL_HEADER_BYTES_MAX) {
            ap_calls_fail(c);
        }
        return;
    }
    if (ap_call_track_python(t, byte)) {
        ap_str name;
        ap_buf_clear(&c->arguments);
        if (!ap_call_from_python(ap_buf_str(&c->value), &name, &c->arguments) ||
            !ap_calls_announce(c, name)) {
            ap_calls_fail(c);
            return;
        }
        ap_calls_put(c, AP_ANSWER_ARGUMENTS, ap_buf_str(&c->arguments));
        ap_calls_end_call(c, PYTHON_NEXT);
    }
}

void ap_calls_python_next_byte(ap_calls *c, char byte)
{
    if (byte == ']')
        ap_calls_end_call(c, CONTENT);
    else if (ap_call_is_name_byte(byte, true))
        ap_calls_begin_python(c, byte);
    else if (!ap_call_is_space(byte) && byte != ',')
        ap_calls_fail(c);
}
