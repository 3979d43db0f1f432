/* stream.c - bytes to whole characters, characters through the machine of the stop strings.
 *
 * The machine is Aho and Corasick's: a state is the longest end of the text that begins some stop string, so its
 * depth is exactly what must be held back.
 *
 * A U+FFFD takes up to three bytes for one, hence the size of the buffer.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "text/stream.h"

#include "base/alloc.h"
#include "base/utf8.h"
#include "text/vocab.h"

typedef struct state {
    uint16_t child, sibling, fail; /* 0: none; as `fail` the root */
    uint16_t depth;
    int16_t stop; /* the longest stop string that ends here, or -1 */
    uint8_t byte;
} state;

struct ap_stream {
    const ap_tokenizer *tokenizer;
    unsigned flags;
    bool is_at_start;
    int32_t stopped;
    state *states; /* 0 is the root */
    uint16_t state_count, now;
    char part[4]; /* the start of a character */
    size_t part_bytes;
    char *text; /* held back last time, then new */
    size_t text_bytes;
};

enum { REPLACEMENT_BYTES = 3, MARK_BYTES = 2 };

/* ---- The machine ---------------------------------------------------------- */

static uint16_t child_of(const state *states, uint16_t at, uint8_t byte)
{
    uint16_t child = states[at].child;
    while (child && states[child].byte != byte)
        child = states[child].sibling;
    return child;
}

static uint16_t step(const state *states, uint16_t at, uint8_t byte)
{
    for (;;) {
        uint16_t child = child_of(states, at, byte);
        if (child || at == 0)
            return child;
        at = states[at].fail;
    }
}

static void add_stop(ap_stream *s, const char *stop, int16_t index)
{
    uint16_t at = 0;
    for (; *stop; stop++) {
        uint16_t child = child_of(s->states, at, (uint8_t)*stop);
        if (!child) {
            child = s->state_count++;
            s->states[child] = (state){.sibling = s->states[at].child, .depth = (uint16_t)(s->states[at].depth + 1),
                                       .stop = -1, .byte = (uint8_t)*stop};
            s->states[at].child = child;
        }
        at = child;
    }
    if (s->states[at].stop < 0)
        s->states[at].stop = index; /* said twice: the first counts */
}

/* Depth by depth, since a state's fail state is less deep; `depth_max` rounds over all states are few and small. */
static void link_states(ap_stream *s, uint16_t depth_max)
{
    for (uint16_t depth = 1; depth < depth_max; depth++) {
        for (uint16_t i = 1; i < s->state_count; i++) {
            if (s->states[i].depth != depth)
                continue;
            for (uint16_t child = s->states[i].child; child; child = s->states[child].sibling) {
                uint16_t fail = step(s->states, s->states[i].fail, s->states[child].byte);
                s->states[child].fail = fail;
                if (s->states[child].stop < 0)
                    s->states[child].stop = s->states[fail].stop;
            }
        }
    }
}

/* ---- Creation ------------------------------------------------------------- */

static ap_status check_stops(const char *const *stops, size_t stop_count, size_t *total, size_t *longest, ap_error *err)
{
    *total = *longest = 0;
    if (stop_count > AP_STREAM_STOPS_MAX)
        return ap_fail(err, AP_E_LIMIT, "%zu stop strings are more than the limit of %d", stop_count,
                       AP_STREAM_STOPS_MAX);
    for (size_t i = 0; i < stop_count; i++) {
        size_t n = strnlen(stops[i], AP_STREAM_STOP_BYTES_MAX + 1);
        if (n > AP_STREAM_STOP_BYTES_MAX)
            return ap_fail(err, AP_E_LIMIT, "stop string %zu is longer than the limit of %d bytes", i,
                           AP_STREAM_STOP_BYTES_MAX);
        if (n == 0)
            return ap_fail(err, AP_E_ARG, "stop string %zu is empty", i);
        if (!ap_utf8_valid((ap_str){stops[i], n}))
            return ap_fail(err, AP_E_ARG, "stop string %zu is not valid UTF-8", i);
        *total += n;
        *longest = n > *longest ? n : *longest;
    }
    return AP_OK;
}

ap_status ap_stream_create(ap_stream **out, const ap_tokenizer *tokenizer, const char *const *stops, size_t stop_count,
                           unsigned flags, ap_error *err)
{
    size_t total, longest;
    *out = NULL;
    AP_TRY(check_stops(stops, stop_count, &total, &longest, err));
    size_t text_bytes = longest + MARK_BYTES + REPLACEMENT_BYTES * (tokenizer->piece_bytes_max + sizeof((ap_stream *)0)->part);
    ap_stream *s = ap_alloc_zero(1, sizeof *s);
    if (!s)
        return ap_fail_nomem(err, sizeof *s);
    s->states = ap_alloc_zero(total + 1, sizeof *s->states);
    s->text = ap_alloc(text_bytes);
    if (!s->states || !s->text) {
        ap_stream_destroy(&s);
        return ap_fail_nomem(err, text_bytes + (total + 1) * sizeof *s->states);
    }
    s->tokenizer = tokenizer;
    s->flags = flags;
    s->is_at_start = (flags & AP_STREAM_START) && ap_tokenizer_drops_space(tokenizer);
    s->stopped = -1;
    s->states[0].stop = -1;
    s->state_count = 1;
    for (size_t i = 0; i < stop_count; i++)
        add_stop(s, stops[i], (int16_t)i);
    link_states(s, (uint16_t)longest);
    *out = s;
    return AP_OK;
}

void ap_stream_destroy(ap_stream **stream)
{
    if (!*stream)
        return;
    ap_free((*stream)->states);
    ap_free((*stream)->text);
    ap_free(*stream);
    *stream = NULL;
}

/* ---- Text ----------------------------------------------------------------- */

/* Bytes of whole characters; stops reading where a stop string is complete, and cuts it off. */
static void take(ap_stream *s, const char *bytes, size_t count)
{
    for (size_t i = 0; i < count && s->stopped < 0; i++) {
        s->text[s->text_bytes++] = bytes[i];
        s->now = step(s->states, s->now, (uint8_t)bytes[i]);
        int16_t stop = s->states[s->now].stop;
        if (stop < 0)
            continue;
        s->stopped = stop;
        /* The state may be deeper than the stop string that ends in it. */
        uint16_t at = s->now;
        while (s->states[s->states[at].fail].stop == stop)
            at = s->states[at].fail;
        s->text_bytes -= s->states[at].depth;
        s->now = 0;
    }
}

static void take_raw(ap_stream *s, ap_str raw)
{
    for (size_t i = 0; i < raw.len; i++) {
        if (s->part_bytes == 0 && (uint8_t)raw.ptr[i] < 0x80) {
            take(s, raw.ptr + i, 1);
            continue;
        }
        s->part[s->part_bytes++] = raw.ptr[i];
        while (s->part_bytes) {
            size_t n;
            int32_t code = ap_utf8_next(s->part, s->part_bytes, &n);
            if (code == AP_UTF8_SHORT)
                break;
            if (code == AP_UTF8_BAD)
                take(s, "\xef\xbf\xbd", REPLACEMENT_BYTES);
            else
                take(s, s->part, n);
            s->part_bytes -= n;
            memmove(s->part, s->part + n, s->part_bytes);
        }
    }
}

/* A character cut short before a token that is no text. */
static void end_character(ap_stream *s)
{
    if (s->part_bytes)
        take(s, "\xef\xbf\xbd", REPLACEMENT_BYTES);
    s->part_bytes = 0;
}

/* What was held back for a stop string is text now: none goes on behind the token. */
static void take_mark(ap_stream *s, ap_str piece)
{
    end_character(s);
    if (s->stopped >= 0)
        return;
    s->now = 0;
    s->text[s->text_bytes++] = (char)0xff;
    memcpy(s->text + s->text_bytes, piece.ptr, piece.len);
    s->text_bytes += piece.len;
    s->text[s->text_bytes++] = (char)0xfe;
}

/* Forgets what was given out and keeps what was held back. */
static void begin(ap_stream *s)
{
    size_t held = s->states[s->now].depth;
    memmove(s->text, s->text + s->text_bytes - held, held);
    s->text_bytes = held;
}

int32_t ap_stream_push(ap_stream *s, int32_t id, ap_str *text)
{
    *text = (ap_str){s->text, 0};
    if (s->stopped >= 0)
        return s->stopped;
    begin(s);
    bool is_control = ap_tokenizer_is_control(s->tokenizer, id);
    ap_str piece = ap_tokenizer_piece(s->tokenizer, id);
    if (piece.len && is_control && (s->flags & AP_STREAM_MARKS)) {
        s->is_at_start = false;
        take_mark(s, piece);
    } else if (piece.len && (!is_control || (s->flags & AP_STREAM_SPECIAL))) {
        char room[AP_TOKEN_BYTES_MAX];
        if (s->is_at_start && !is_control)
            piece = ap_tokenizer_first_piece(s->tokenizer, piece, room);
        s->is_at_start = false;
        take_raw(s, piece);
    }
    text->len = s->text_bytes - s->states[s->now].depth;
    return s->stopped;
}

ap_str ap_stream_finish(ap_stream *s)
{
    if (s->stopped >= 0)
        return (ap_str){s->text, 0};
    begin(s);
    if (s->part_bytes) {
        memcpy(s->text + s->text_bytes, "\xef\xbf\xbd", REPLACEMENT_BYTES);
        s->text_bytes += REPLACEMENT_BYTES;
    }
    s->part_bytes = 0;
    s->now = 0;
    return (ap_str){s->text, s->text_bytes};
}
