/* calls.c - the machine that takes an answer apart, byte by byte.
 *
 * Each byte goes through two layers.  The first looks for the marks that count in the present mode and holds
 * back what may become one; control tokens arrive whole.  What is no mark goes to the mode's own function.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "text/calls_inside.h"
#include "text/calls_marks.h"

static void plain(ap_calls *c, char byte);

/* ---- Arguments that stand alone ------------------------------------------------- */

static bool begin_args(ap_calls *c, ap_str name)
{
    c->tracker = (ap_call_tracker){0};
    c->mode = ARGS_START;
    if (ap_calls_announce(c, name))
        return true;
    ap_calls_fail(c);
    return false;
}

static void args_byte(ap_calls *c, char byte)
{
    if (!c->tracker.has_begun || !c->tracker.is_scalar)
        (void)ap_call_track(&c->tracker, byte);
    if (c->tracker.is_scalar &&
        ap_call_is_space(byte)) { /* no JSON: all up to the mark that ends it, but not the space before */
        ap_calls_keep(c, &c->space, byte);
        return;
    }
    ap_calls_put(c, AP_ANSWER_ARGUMENTS, ap_buf_str(&c->space));
    ap_calls_drop_space(c);
    ap_calls_put(c, AP_ANSWER_ARGUMENTS, (ap_str){&byte, 1});
    if (c->tracker.is_over)
        c->mode = ARGS_END;
}

static void args_start_byte(ap_calls *c, char byte)
{
    bool is_fence = c->format.form == AP_CALLS_DEEPSEEK && strchr("`json", byte) && byte;
    if (ap_call_is_space(byte) || is_fence)
        return;
    c->mode = ARGS;
    args_byte(c, byte);
}

static void args_end_byte(ap_calls *c, char byte)
{
    if (ap_call_is_space(byte) || (byte == '`' && c->format.form == AP_CALLS_DEEPSEEK))
        return;
    ap_calls_end_call(c, CONTENT);
    ap_calls_on_byte(c, byte);
}

/* A mark closes the call. */
static void close_args(ap_calls *c, ap_calls_mode next)
{
    if (c->mode == ARGS_START)
        ap_calls_put(c, AP_ANSWER_ARGUMENTS, AP_STR("{}"));
    ap_calls_end_call(c, next);
}

/* ---- Names ------------------------------------------------------------------------ */

static void name_byte(ap_calls *c, char byte)
{
    if (c->name.len + c->id.len > AP_CALL_HEADER_BYTES_MAX)
        ap_calls_fail(c);
    else
        ap_calls_keep(c, c->mode == M_ID ? &c->id : &c->name, byte);
}

static void mistral_start_byte(ap_calls *c, char byte)
{
    if (byte == '[') {
        ap_calls_begin_list(c);
    } else if (byte == '{') {
        ap_calls_begin_object(c);
    } else if (!ap_call_is_space(byte)) {
        c->mode = M_NAME;
        name_byte(c, byte);
    }
}

static void mistral_name_byte(ap_calls *c, char byte)
{
    if (byte == '{' && c->mode == M_NAME) { /* [ARGS] is missing */
        if (begin_args(c, ap_str_trim(ap_buf_str(&c->name))))
            args_start_byte(c, byte);
        return;
    }
    name_byte(c, byte);
}

static void deepseek_name_byte(ap_calls *c, char byte)
{
    if (byte == '\n')
        (void)begin_args(c, ap_str_trim(ap_buf_str(&c->name)));
    else
        name_byte(c, byte);
}

/* ---- Harmony ---------------------------------------------------------------------- */

static void begin_header(ap_calls *c, bool is_headed)
{
    ap_calls_begin_candidate(c, (ap_str){0}, false);
    c->is_headed = is_headed;
    c->mode = H_HEADER;
}

static void begin_body(ap_calls *c)
{
    ap_str header = ap_buf_str(&c->name), functions = AP_STR("functions.");
    ap_str to = ap_call_header_word(header, AP_STR("to=")),
           channel = ap_call_header_word(header, AP_STR("\001"));
    ap_buf_clear(&c->raw);
    if (ap_str_starts(to, functions)) {
        to.ptr += functions.len;
        to.len -= functions.len;
        c->tracker = (ap_call_tracker){0};
        if (ap_calls_announce(c, to)) {
            c->mode = ARGS_START;
            return;
        }
    }
    c->in_analysis = ap_str_is(channel, "analysis");
    c->mode = H_BODY;
    c->has_thought = c->has_said = false;
    if (c->was_said[c->in_analysis]) /* one message more of the same kind */
        ap_calls_put(c, c->in_analysis ? AP_ANSWER_REASONING : AP_ANSWER_CONTENT, AP_STR("\n"));
}

static void header_byte(ap_calls *c, char byte)
{
    if ((unsigned char)byte > AP_HEADER_CONSTRAIN) /* no mark can be written as text */
        name_byte(c, byte);
}

static void body_byte(ap_calls *c, char byte)
{
    c->was_said[c->in_analysis] = true;
    ap_calls_put(c, c->in_analysis ? AP_ANSWER_REASONING : AP_ANSWER_CONTENT, (ap_str){&byte, 1});
}

/* ---- Marks ------------------------------------------------------------------------ */

#define BIT(name) (1u << AP_MARK_##name)

/* Which marks mean something here. */
static uint32_t marks_in(const ap_calls *c, ap_calls_mode at)
{
    bool has_tools = c->name_count > 0;
    uint32_t open = 0, calls = 0;
    switch (c->format.form) {
    case AP_CALLS_HERMES:
        calls = BIT(HERMES_OPEN);
        break;
    case AP_CALLS_LLAMA:
        calls = BIT(PYTHON);
        break;
    case AP_CALLS_MISTRAL:
        calls = BIT(MISTRAL_CALLS);
        break;
    case AP_CALLS_DEEPSEEK:
        calls = BIT(DS_CALLS_BEGIN) | BIT(DS_CALL_BEGIN);
        break;
    case AP_CALLS_HARMONY:
        open = BIT(H_START) | BIT(H_CHANNEL) | BIT(H_END) | BIT(H_CALL) | BIT(H_RETURN);
        break;
    default:
        break;
    }
    if (!has_tools)
        calls = 0;
    uint32_t close = c->may_close ? BIT(HERMES_CLOSE) : 0;
    if (c->format.thinking == AP_THINKING_TAGS &&
        (c->format.is_control[AP_MARK_THINK_OPEN] || !c->has_content))
        open = BIT(THINK_OPEN);
    if (c->format.thinking == AP_THINKING_MISTRAL &&
        (c->format.is_control[AP_MARK_MISTRAL_THINK_OPEN] || !c->has_content))
        open = BIT(MISTRAL_THINK_OPEN);
    switch (at) {
    case CONTENT:
        return open | calls | close;
    case REASONING:
        return (c->format.thinking == AP_THINKING_TAGS ? BIT(THINK_CLOSE) : BIT(MISTRAL_THINK_CLOSE)) |
               (c->has_thought ? 0 : open);
    case ARGS_START:
    case ARGS:
    case ARGS_END:
        /* Text inside JSON is no mark. */
        if (c->format.form == AP_CALLS_DEEPSEEK)
            return BIT(DS_CALL_END) | BIT(DS_CALLS_END);
        return c->format.form == AP_CALLS_MISTRAL ? BIT(MISTRAL_CALLS)
                                                  : BIT(H_START) | BIT(H_END) | BIT(H_CALL) | BIT(H_RETURN);
    case WHOLE:
        if (!ap_calls_whole_is_over(c))
            return 0;
        return calls | (c->probe->may_close ? BIT(HERMES_CLOSE) : 0);
    case M_NAME:
        return BIT(MISTRAL_ARGS) | BIT(MISTRAL_ID);
    case M_ID:
        return BIT(MISTRAL_ARGS);
    case D_NEXT:
        return BIT(DS_CALL_BEGIN) | BIT(DS_CALLS_END);
    case D_HEAD:
        return BIT(DS_SEP);
    case H_HEADER:
        return BIT(H_START) | BIT(H_CHANNEL) | BIT(H_CONSTRAIN) | BIT(H_MESSAGE) | BIT(H_END);
    case H_BODY:
        return BIT(H_START) | BIT(H_END) | BIT(H_CALL) | BIT(H_RETURN);
    default:
        return 0;
    }
}

static void open_calls(ap_calls *c, ap_call_mark mark, ap_str written)
{
    ap_calls_begin_candidate(c, written, false);
    switch (mark) {
    case AP_MARK_MISTRAL_CALLS:
        c->mode = M_START;
        break;
    case AP_MARK_DS_CALLS_BEGIN:
        c->mode = D_NEXT;
        break;
    case AP_MARK_DS_CALL_BEGIN:
        c->mode = D_HEAD;
        break;
    case AP_MARK_PYTHON:
        ap_calls_leave(c);
        c->has_content = false; /* an object may stand here as if alone */
        break;
    default:
        c->mode = LIST; /* white space, then the object */
        break;
    }
}

static bool in_args(const ap_calls *c)
{
    return c->mode == ARGS_START || c->mode == ARGS || c->mode == ARGS_END;
}

static void act_deepseek(ap_calls *c, ap_call_mark mark)
{
    ap_str head = ap_str_trim(ap_buf_str(&c->name));
    switch (mark) {
    case AP_MARK_DS_SEP: /* "function", the name and a fence; or the name alone */
        if (ap_str_is(head, "function")) {
            ap_buf_clear(&c->name);
            c->mode = D_NAME;
        } else {
            (void)begin_args(c, head);
        }
        return;
    case AP_MARK_DS_CALL_END:
        close_args(c, D_NEXT);
        return;
    default: /* DS_CALLS_END */
        close_args(c, CONTENT);
        return;
    }
}

static void act_harmony(ap_calls *c, ap_call_mark mark)
{
    switch (mark) {
    case AP_MARK_H_CHANNEL:
    case AP_MARK_H_CONSTRAIN:
        if (c->mode != H_HEADER)
            begin_header(c, true);
        name_byte(c, mark == AP_MARK_H_CHANNEL ? AP_HEADER_CHANNEL : AP_HEADER_CONSTRAIN);
        return;
    case AP_MARK_H_MESSAGE:
        begin_body(c);
        return;
    default: /* START, END, CALL, RETURN */
        if (in_args(c))
            close_args(c, H_HEADER);
        else if (c->mode == H_HEADER && !c->is_headed)
            ap_calls_fail(c);
        begin_header(c, mark == AP_MARK_H_START);
        return;
    }
}

/* `written`: the mark if it was text, for content should the candidate fail. */
static void act(ap_calls *c, ap_call_mark mark, ap_str written)
{
    if (c->mode == WHOLE && mark != AP_MARK_HERMES_CLOSE)
        ap_calls_fail(c); /* calls with marks follow, so what came before them is text */
    if (ap_calls_is_candidate(c))
        ap_calls_check(c, ap_buf_add_str(&c->raw, written, c->err));
    switch (mark) {
    case AP_MARK_THINK_OPEN:
    case AP_MARK_MISTRAL_THINK_OPEN:
        ap_calls_drop_space(c);
        c->has_thought = false;
        c->mode = REASONING;
        return;
    case AP_MARK_THINK_CLOSE:
    case AP_MARK_MISTRAL_THINK_CLOSE:
        ap_calls_leave(c);
        c->mode = CONTENT;
        return;
    case AP_MARK_HERMES_CLOSE:
        (c->mode == WHOLE ? c->probe : c)->may_close = false;
        ap_calls_drop_space(c);
        return;
    case AP_MARK_MISTRAL_CALLS:
    case AP_MARK_HERMES_OPEN:
    case AP_MARK_PYTHON:
    case AP_MARK_DS_CALLS_BEGIN:
        if (in_args(c))
            close_args(c, CONTENT);
        open_calls(c, mark, written);
        return;
    case AP_MARK_DS_CALL_BEGIN:
        if (c->mode == D_NEXT)
            c->mode = D_HEAD;
        else
            open_calls(c, mark, written);
        return;
    case AP_MARK_MISTRAL_ID:
        c->mode = M_ID;
        return;
    case AP_MARK_MISTRAL_ARGS:
        (void)begin_args(c, ap_str_trim(ap_buf_str(&c->name)));
        return;
    case AP_MARK_DS_SEP:
    case AP_MARK_DS_CALL_END:
    case AP_MARK_DS_CALLS_END:
        act_deepseek(c, mark);
        return;
    default:
        act_harmony(c, mark);
        return;
    }
}

/* The first byte held back is no start of a mark. */
static void reject(ap_calls *c)
{
    char bytes[sizeof c->held];
    size_t count = c->held_bytes;
    memcpy(bytes, c->held, count);
    c->held_bytes = 0;
    plain(c, bytes[0]); /* which may change the mode, and with it the marks that count */
    for (size_t i = 1; i < count; i++)
        ap_calls_on_byte(c, bytes[i]);
}

/* Nothing more comes of what was held back. */
static void release(ap_calls *c)
{
    while (c->held_bytes)
        reject(c);
}

/* A control token ends whatever it is not part of: thinking that was never closed, a call broken off. */
static void on_control(ap_calls *c, ap_str name)
{
    release(c);
    unsigned mark = 0;
    while (mark < AP_MARK_COUNT && !(c->format.is_control[mark] && ap_str_is(name, ap_call_marks[mark])))
        mark++;
    if (mark == AP_MARK_COUNT)
        return;
    bool is_here = marks_in(c, c->mode) >> mark & 1,
         is_close = mark == AP_MARK_HERMES_CLOSE && (c->mode == OBJECT || c->mode == LIST);
    if (!is_here && !is_close && !(marks_in(c, CONTENT) >> mark & 1))
        return;
    if (!is_here && c->mode == REASONING)
        ap_calls_leave(c);
    else if (!is_here && c->is_announced)
        ap_calls_end_call(c, CONTENT);
    else if (!is_here && ap_calls_is_candidate(c))
        ap_calls_fail(c);
    if (!is_here)
        c->mode = CONTENT;
    act(c, mark, (ap_str){0});
}

/* ---- Bytes ------------------------------------------------------------------------ */

static void content_byte(ap_calls *c, char byte)
{
    /* Where this is the model's own form a call is given out as it comes, and text may follow. */
    bool is_own = c->format.form == AP_CALLS_LLAMA || c->format.form == AP_CALLS_JSON || c->stands_alone;
    bool may_begin = c->name_count && !c->has_content, stands_alone = may_begin && is_own;
    if (c->is_wrapped && byte == '}') {
        c->is_wrapped = false;
        return;
    }
    /* Several objects: a semicolon between. */
    if (stands_alone && byte == ';' && c->call_count && !c->has_said) {
        ap_calls_drop_space(c);
        return;
    }
    if (stands_alone && byte == '`' && c->is_fenced && c->call_count && !c->has_said) {
        ap_calls_drop_space(c);
        return;
    }
    bool is_begin = byte == '{' || byte == '[';
    if (may_begin && !c->stands_alone && c->format.form != AP_CALLS_HARMONY && (byte == '`' || (is_begin && !is_own))) {
        ap_calls_begin_whole(c, byte);
        return;
    }
    if (!stands_alone || !is_begin) {
        ap_calls_say(c, byte);
        return;
    }
    ap_calls_begin_candidate(c, (ap_str){&byte, 1}, true);
    if (byte == '{')
        ap_calls_begin_object(c);
    else
        ap_calls_begin_list(c);
}

static void plain(ap_calls *c, char byte)
{
    if (ap_calls_is_candidate(c)) {
        ap_calls_keep(c, &c->raw, byte);
        if (c->raw.len > AP_CALL_HELD_BYTES_MAX) {
            ap_calls_fail(c);
            return;
        }
    }
    switch (c->mode) {
    case CONTENT:
        content_byte(c, byte);
        return;
    case REASONING:
        ap_calls_think(c, byte);
        return;
    case WHOLE:
        ap_calls_whole_byte(c, byte);
        return;
    case OBJECT:
        ap_calls_object_byte(c, byte);
        return;
    case LIST:
        if (c->in_list && c->format.form == AP_CALLS_LLAMA && c->is_bare && ap_call_is_name_byte(byte, true))
            ap_calls_begin_python(c, byte);
        else
            ap_calls_list_byte(c, byte);
        return;
    case PYTHON:
        ap_calls_python_byte(c, byte);
        return;
    case PYTHON_NEXT:
        ap_calls_python_next_byte(c, byte);
        return;
    case ARGS_START:
        args_start_byte(c, byte);
        return;
    case ARGS:
        args_byte(c, byte);
        return;
    case ARGS_END:
        args_end_byte(c, byte);
        return;
    case M_START:
        mistral_start_byte(c, byte);
        return;
    case M_NAME:
    case M_ID:
        mistral_name_byte(c, byte);
        return;
    case D_NEXT:
        if (!ap_call_is_space(byte))
            ap_calls_fail(c);
        return;
    case D_HEAD:
        name_byte(c, byte);
        return;
    case D_NAME:
        deepseek_name_byte(c, byte);
        return;
    case H_HEADER:
        header_byte(c, byte);
        return;
    case H_BODY:
        body_byte(c, byte);
        return;
    }
}

/* The marks that count here and are written as text. */
static uint32_t text_marks(const ap_calls *c)
{
    uint32_t marks = marks_in(c, c->mode);
    if (c->mode == ARGS && !c->tracker.is_scalar) /* inside JSON nothing is a mark */
        return 0;
    for (unsigned i = 0; marks && i < AP_MARK_COUNT; i++)
        if (c->format.is_control[i])
            marks &= ~(1u << i);
    return marks;
}

void ap_calls_on_byte(ap_calls *c, char byte)
{
    uint32_t marks = text_marks(c);
    bool is_start = false;
    c->held[c->held_bytes++] = byte;
    for (unsigned i = 0; marks >> i; i++) {
        if (!(marks >> i & 1) || strncmp(ap_call_marks[i], c->held, c->held_bytes) != 0)
            continue;
        is_start = true;
        if (ap_call_marks[i][c->held_bytes])
            continue;
        c->held_bytes = 0;
        act(c, i, ap_str_from(ap_call_marks[i]));
        return;
    }
    if (!is_start)
        reject(c);
}

/* ---- Interface ---------------------------------------------------------------------- */

ap_status ap_calls_create(ap_calls **out, const ap_call_format *format, const ap_str *names,
                          size_t name_count, bool is_thinking, ap_error *err)
{
    size_t bytes = 1;
    *out = NULL;
    for (size_t i = 0; i < name_count; i++)
        bytes += names[i].len;
    ap_calls *c = ap_alloc_zero(1, sizeof *c);
    if (!c)
        return ap_fail_nomem(err, sizeof *c);
    c->format = *format;
    c->names = ap_alloc_array(name_count + 1, sizeof *c->names);
    c->name_bytes = ap_alloc(bytes);
    if (!c->names || !c->name_bytes) {
        ap_calls_destroy(&c);
        return ap_fail_nomem(err, bytes + name_count * sizeof *names);
    }
    char *at = c->name_bytes;
    for (size_t i = 0; i < name_count; i++) {
        if (names[i].len)
            memcpy(at, names[i].ptr, names[i].len);
        c->names[i] = (ap_str){at, names[i].len};
        at += names[i].len;
    }
    c->name_count = format->form == AP_CALLS_NONE ? 0 : name_count;
    c->mode = is_thinking ? REASONING : format->form == AP_CALLS_HARMONY ? H_HEADER : CONTENT;
    *out = c;
    return AP_OK;
}

void ap_calls_destroy(ap_calls **calls)
{
    ap_calls *c = *calls;
    *calls = NULL;
    if (!c)
        return;
    ap_buf *const bufs[] = {&c->out,   &c->control, &c->space, &c->raw,      &c->key,
                            &c->value, &c->name,    &c->id,    &c->arguments};
    for (size_t i = 0; i < sizeof bufs / sizeof bufs[0]; i++)
        ap_buf_deinit(bufs[i]);
    ap_calls_destroy(&c->probe);
    ap_free(c->names);
    ap_free(c->name_bytes);
    ap_free(c);
}

static void begin_push(ap_calls *c, ap_answer_fn *fn, void *context, ap_error *err)
{
    c->fn = fn;
    c->context = context;
    c->err = err;
}

ap_status ap_calls_push(ap_calls *c, ap_str text, ap_answer_fn *fn, void *context, ap_error *err)
{
    enum { CONTROL_OPEN = 0xff, CONTROL_CLOSE = 0xfe };
    begin_push(c, fn, context, err);
    for (size_t i = 0; i < text.len && c->status == AP_OK; i++) {
        unsigned char byte = (unsigned char)text.ptr[i];
        if (byte == CONTROL_OPEN) {
            c->in_control = true;
            ap_buf_clear(&c->control);
        } else if (byte == CONTROL_CLOSE) {
            if (c->in_control)
                on_control(c, ap_buf_str(&c->control));
            c->in_control = false;
        } else if (!c->in_control) {
            ap_calls_on_byte(c, (char)byte);
        } else if (c->control.len < AP_SPECIAL_BYTES_MAX) {
            ap_calls_keep(c, &c->control, (char)byte);
        }
    }
    ap_calls_flush(c);
    return c->status;
}

ap_status ap_calls_finish(ap_calls *c, ap_answer_fn *fn, void *context, ap_error *err)
{
    begin_push(c, fn, context, err);
    release(c);
    if (c->mode == WHOLE && ap_calls_whole_is_over(c)) {
        ap_calls_end_whole(c);
        release(c);
    }
    if (ap_calls_is_candidate(c) && !(c->mode == H_HEADER && c->is_headed))
        ap_calls_fail(c);
    if (c->mode == CONTENT && (c->has_said || !c->is_apart))
        ap_calls_put(c, AP_ANSWER_CONTENT, ap_buf_str(&c->space));
    ap_calls_drop_space(c);
    ap_calls_flush(c);
    return c->status;
}
