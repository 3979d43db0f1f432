/* SPDX-License-Identifier: Apache-2.0 */
#include "text/normalize.h"

#include <utf8proc.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "text/classes.h"
#include "text/tokenizer.h"

typedef enum step_kind {
    NFC, NFD, NFKC, NFKD, LOWERCASE, STRIP_MARKS, DROP_NONSPACING, STRIP_LEFT, STRIP_RIGHT, CLEAN, CHINESE, SPACES, NMT, CHARSMAP,
    CHARSMAP_GRAPHEMES, PREPEND, REPLACE, SQUEEZE, KIND_COUNT
} step_kind;

static const char *const names[KIND_COUNT] = {
    [NFC] = "nfc", [NFD] = "nfd", [NFKC] = "nfkc", [NFKD] = "nfkd", [LOWERCASE] = "lowercase",
    [STRIP_MARKS] = "strip_marks", [DROP_NONSPACING] = "drop_nonspacing", [STRIP_LEFT] = "strip_left",
    [STRIP_RIGHT] = "strip_right", [CLEAN] = "clean", [CHINESE] = "chinese", [SPACES] = "spaces", [NMT] = "nmt", [CHARSMAP] = "charsmap",
    [CHARSMAP_GRAPHEMES] = "charsmap_graphemes", [PREPEND] = "prepend:", [REPLACE] = "replace:", [SQUEEZE] = "squeeze:"};

typedef struct step {
    step_kind kind;
    ap_str from, to;
} step;

struct ap_normalizer {
    uint32_t count;
    step steps[AP_NORMALIZER_STEPS_MAX];
    const uint32_t *units; /* the double array of the map; NULL: none */
    uint32_t unit_count;
    ap_str texts; /* what the map's values point into, each ended by a NUL */
};

enum { FIRST_INTERESTING = 0x300, GRAPHEME_BYTES_MAX = 6, SORTED_SIMPLY_MAX = 32, CODES_OF_ONE = 32 };

/* ---- Creation -------------------------------------------------------------------------------------------------- */

static ap_status read_map(ap_normalizer *n, ap_arena *arena, ap_str map, ap_error *err)
{
    uint32_t bytes;
    if (map.len < sizeof bytes)
        return ap_fail(err, AP_E_FORMAT, "the precompiled map of characters has %zu bytes, not the 4 of its size", map.len);
    memcpy(&bytes, map.ptr, sizeof bytes);
    if (bytes % 4 || bytes == 0 || bytes > map.len - sizeof bytes)
        return ap_fail(err, AP_E_FORMAT, "the trie of the precompiled map has %u bytes, which is no multiple of 4 within its %zu",
                       bytes, map.len - sizeof bytes);
    uint32_t *units = ap_arena_alloc(arena, bytes);
    char *texts = ap_arena_copy(arena, map.ptr + sizeof bytes + bytes, map.len - sizeof bytes - bytes);
    if (!units || !texts)
        return ap_fail_nomem(err, map.len);
    memcpy(units, map.ptr + sizeof bytes, bytes);
    n->units = units;
    n->unit_count = bytes / 4;
    n->texts = (ap_str){texts, map.len - sizeof bytes - bytes};
    return AP_OK;
}

static ap_status read_step(step *out, ap_str text, ap_error *err)
{
    for (unsigned kind = 0; kind < KIND_COUNT; kind++) {
        size_t length = strlen(names[kind]);
        bool has_text = names[kind][length - 1] == ':';
        if (!ap_str_starts(text, (ap_str){names[kind], length}) || (!has_text && text.len != length))
            continue;
        *out = (step){.kind = (step_kind)kind, .to = {text.ptr + length, text.len - length}};
        if (kind != REPLACE)
            return AP_OK;
        size_t bytes = 0;
        while (out->to.len && out->to.ptr[0] >= '0' && out->to.ptr[0] <= '9' && bytes <= AP_TOKEN_BYTES_MAX) {
            bytes = bytes * 10 + (size_t)(out->to.ptr[0] - '0');
            out->to = (ap_str){out->to.ptr + 1, out->to.len - 1};
        }
        if (bytes == 0 || out->to.len < bytes + 1 || out->to.ptr[0] != ':')
            break;
        out->from = (ap_str){out->to.ptr + 1, bytes};
        out->to = (ap_str){out->from.ptr + bytes, out->to.len - bytes - 1};
        return AP_OK;
    }
    return ap_fail(err, AP_E_UNSUPPORTED, "normalizer step '%.*s' is not known", (int)(text.len < 40 ? text.len : 40), text.ptr);
}

ap_status ap_normalizer_create(ap_normalizer **out, ap_arena *arena, const ap_str *steps, uint32_t count, ap_str charsmap,
                               ap_error *err)
{
    if (count > AP_NORMALIZER_STEPS_MAX)
        return ap_fail(err, AP_E_LIMIT, "the normalizer has %u steps, the limit is %d", count, AP_NORMALIZER_STEPS_MAX);
    ap_normalizer *n = ap_arena_zero(arena, 1, sizeof *n);
    if (!n)
        return ap_fail_nomem(err, sizeof *n);
    for (uint32_t i = 0; i < count; i++) {
        char *copy = ap_arena_copy(arena, steps[i].ptr, steps[i].len);
        if (!copy)
            return ap_fail_nomem(err, steps[i].len);
        step *s = &n->steps[n->count];
        AP_TRY(read_step(s, (ap_str){copy, steps[i].len}, err));
        bool needs_map = s->kind == CHARSMAP || s->kind == CHARSMAP_GRAPHEMES;
        if (needs_map && charsmap.len == 0)
            return ap_fail(err, AP_E_FORMAT, "the normalizer has the step '%s' but no precompiled map", names[s->kind]);
        if (needs_map && !n->units)
            AP_TRY(read_map(n, arena, charsmap, err));
        n->count++;
    }
    *out = n;
    return AP_OK;
}

/* ---- Normal forms ------------------------------------------------------------------------------------------------ */

typedef struct codes {
    int32_t *at;
    size_t count, room;
} codes;

static ap_status add_codes(codes *c, size_t more, ap_error *err)
{
    if (c->count + more <= c->room)
        return AP_OK;
    size_t room = c->room ? c->room * 2 : 256;
    room = room < c->count + more ? c->count + more : room;
    int32_t *at = ap_realloc_array(c->at, room, sizeof *at);
    if (!at)
        return ap_fail_nomem(err, room * sizeof *at);
    c->at = at;
    c->room = room;
    return AP_OK;
}

static unsigned combining_class(int32_t code) { return (unsigned)utf8proc_get_property(code)->combining_class; }

/* Puts marks in the order of their classes, equal ones as they stood.  A long run is sorted by counting: strangers
 * choose its length. */
static ap_status sort_marks(int32_t *at, size_t count, ap_error *err)
{
    if (count <= SORTED_SIMPLY_MAX) {
        for (size_t i = 1; i < count; i++) {
            int32_t code = at[i];
            unsigned class = combining_class(code);
            size_t k = i;
            for (; k > 0 && combining_class(at[k - 1]) > class; k--)
                at[k] = at[k - 1];
            at[k] = code;
        }
        return AP_OK;
    }
    size_t places[257] = {0};
    int32_t *sorted = ap_alloc_array(count, sizeof *sorted);
    if (!sorted)
        return ap_fail_nomem(err, count * sizeof *sorted);
    for (size_t i = 0; i < count; i++)
        places[combining_class(at[i]) + 1]++;
    for (unsigned i = 1; i < 257; i++)
        places[i] += places[i - 1];
    for (size_t i = 0; i < count; i++)
        sorted[places[combining_class(at[i])]++] = at[i];
    memcpy(at, sorted, count * sizeof *sorted);
    ap_free(sorted);
    return AP_OK;
}

static ap_status write_codes(ap_buf *out, const codes *c, ap_error *err)
{
    char bytes[4];
    for (size_t i = 0; i < c->count; i++)
        AP_TRY(ap_buf_add(out, bytes, ap_utf8_put((uint32_t)c->at[i], bytes), err));
    return AP_OK;
}

/* One run of valid text without a character that needs nothing. */
static ap_status normal_form_of(ap_buf *out, codes *c, ap_str text, step_kind kind, ap_error *err)
{
    bool compat = kind == NFKC || kind == NFKD;
    size_t marks = 0, length;
    c->count = 0;
    for (size_t i = 0; i < text.len; i += length) {
        int32_t code = ap_utf8_next(text.ptr + i, text.len - i, &length);
        int boundary = 0;
        AP_TRY(add_codes(c, CODES_OF_ONE, err));
        utf8proc_ssize_t n = utf8proc_decompose_char(code, c->at + c->count, CODES_OF_ONE,
            (utf8proc_option_t)(UTF8PROC_DECOMPOSE | UTF8PROC_STABLE | (compat ? UTF8PROC_COMPAT : 0)), &boundary);
        if (n < 0 || n > CODES_OF_ONE) { /* no character has more than 18 */
            c->at[c->count] = code;
            n = 1;
        }
        for (utf8proc_ssize_t k = 0; k < n; k++) {
            if (combining_class(c->at[c->count]) == 0) {
                AP_TRY(sort_marks(c->at + c->count - marks, marks, err));
                marks = 0;
            } else {
                marks++;
            }
            c->count++;
        }
    }
    AP_TRY(sort_marks(c->at + c->count - marks, marks, err));
    if (kind == NFC || kind == NFKC) {
        utf8proc_ssize_t n = utf8proc_normalize_utf32(c->at, (utf8proc_ssize_t)c->count,
                                                      (utf8proc_option_t)(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
        c->count = n < 0 ? c->count : (size_t)n;
    }
    return write_codes(out, c, err);
}

/* No character, or one that does nothing to its neighbours nor they to it. */
static bool stands_alone(int32_t code) { return code < 0 || ap_class_is_own_form((uint32_t)code); }

/* Characters below U+0300 are their own NFC and never join what stands before them, ASCII is its own in all forms:
 * most text is copied. */
static ap_status normal_form(ap_buf *out, ap_str text, step_kind kind, ap_error *err)
{
    int32_t inert_below = kind == NFC ? FIRST_INTERESTING : 0x80;
    codes c = {0};
    ap_status status = AP_OK;
    size_t copied = 0, last = 0, length; /* everything before `copied` is out; `last` is the character before i */
    for (size_t i = 0; i < text.len && status == AP_OK; i += length) {
        int32_t code = ap_utf8_next(text.ptr + i, text.len - i, &length);
        if (code < inert_below || stands_alone(code)) {
            last = i + (code < 0 || code >= inert_below ? length : 0);
            continue;
        }
        size_t begin = last < copied ? i : last, end = i + length;
        status = ap_buf_add(out, text.ptr + copied, begin - copied, err);
        while (end < text.len) {
            code = ap_utf8_next(text.ptr + end, text.len - end, &length);
            if (code < inert_below || stands_alone(code))
                break;
            end += length;
        }
        if (status == AP_OK)
            status = normal_form_of(out, &c, (ap_str){text.ptr + begin, end - begin}, kind, err);
        copied = last = end;
        i = end;
        length = 0;
    }
    if (status == AP_OK)
        status = ap_buf_add(out, text.ptr + copied, text.len - copied, err);
    ap_free(c.at);
    return status;
}

/* ---- Character by character -------------------------------------------------------------------------------------- */

static bool is_white(int32_t code) { return code >= 0 && (ap_class_compute((uint32_t)code) & AP_CLASS_SPACE); }

static bool is_ideograph(int32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) ||
           (c >= 0x2a700 && c <= 0x2b73f) || (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
           (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

static bool is_control(int32_t code)
{
    if (code == '\t' || code == '\n' || code == '\r')
        return false;
    if (code == 0x890 || code == 0x891 || code == 0x8e2 || code == 0x110cd || (code >= 0x13430 && code <= 0x1343f))
        return false; /* Cf since Unicode 9 to 15; the reference keeps to 8 */
    utf8proc_category_t category = utf8proc_category(code);
    return code == 0 || code == 0xfffd || category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF ||
           category == UTF8PROC_CATEGORY_CO;
}

static bool is_nmt_dropped(int32_t c)
{
    return (c >= 1 && c <= 8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f || c == 0x8f || c == 0x9f;
}

static bool is_nmt_space(int32_t c)
{
    return c == 9 || c == 0xa || c == 0xc || c == 0xd || c == 0x1680 || (c >= 0x200b && c <= 0x200f) || c == 0x2028 ||
           c == 0x2029 || c == 0x2581 || c == 0xfeff || c == 0xfffd;
}

/* What one character becomes; U+0130 alone becomes two. */
static ap_status lower(ap_buf *out, int32_t code, ap_error *err)
{
    char bytes[4];
    if (code == 0x130)
        return ap_buf_add(out, "i\xcc\x87", 3, err);
    return ap_buf_add(out, bytes, ap_utf8_put((uint32_t)utf8proc_tolower(code), bytes), err);
}

static ap_status map_character(ap_buf *out, step_kind kind, int32_t code, ap_str whole, ap_error *err)
{
    switch (kind) {
    case LOWERCASE:
        return lower(out, code, err);
    case STRIP_MARKS:
        if (ap_class_compute((uint32_t)code) & AP_CLASS_MARK)
            return AP_OK;
        break;
    case DROP_NONSPACING:
        if (ap_class_is_cut_nonspacing((uint32_t)code))
            return AP_OK;
        break;
    case CLEAN:
        if (is_control(code))
            return AP_OK;
        if (is_white(code))
            return ap_buf_add_char(out, ' ', err);
        break;
    case CHINESE:
        if (is_ideograph(code)) {
            AP_TRY(ap_buf_add_char(out, ' ', err));
            AP_TRY(ap_buf_add_str(out, whole, err));
            return ap_buf_add_char(out, ' ', err);
        }
        break;
    case SPACES:
        if (is_white(code))
            return ap_buf_add_char(out, ' ', err);
        break;
    default: /* NMT */
        if (is_nmt_dropped(code))
            return AP_OK;
        if (is_nmt_space(code))
            return ap_buf_add_char(out, ' ', err);
    }
    return ap_buf_add_str(out, whole, err);
}

static ap_status map_characters(ap_buf *out, ap_str text, step_kind kind, ap_error *err)
{
    size_t length;
    for (size_t i = 0; i < text.len; i += length) {
        int32_t code = ap_utf8_next(text.ptr + i, text.len - i, &length);
        ap_str whole = {text.ptr + i, length};
        AP_TRY(code < 0 ? ap_buf_add_str(out, whole, err) : map_character(out, kind, code, whole, err));
    }
    return AP_OK;
}

/* ---- The precompiled map ------------------------------------------------------------------------------------------- */

/* A unit of the double array (Darts): offset in bits 10 to 30, shifted by 8 more if bit 9 is set; bit 8: a value follows;
 * bits 0 to 7 and 31: the label. */
static uint32_t offset_of(uint32_t unit) { return (unit >> 10) << ((unit & 512) >> 6); }

/* The shortest or the longest key at p, its value's text in *out; its length, 0: none. */
static size_t find_in_map(const ap_normalizer *n, const char *p, const char *end, bool longest, ap_str *out)
{
    size_t found = 0;
    uint32_t node = offset_of(n->units[0]);
    for (const char *q = p; q < end; q++) {
        node ^= (uint8_t)*q;
        if (node >= n->unit_count || (n->units[node] & 0x800000ffu) != (uint8_t)*q)
            break;
        uint32_t unit = n->units[node];
        node ^= offset_of(unit);
        if (node >= n->unit_count)
            break;
        if (unit & 256) {
            uint32_t value = n->units[node] & 0x7fffffffu;
            if (value < n->texts.len) {
                const char *text = n->texts.ptr + value;
                *out = (ap_str){text, strnlen(text, n->texts.len - value)};
                found = (size_t)(q + 1 - p);
                if (!longest)
                    break;
            }
        }
    }
    return found;
}

static ap_status apply_map(const ap_normalizer *n, ap_buf *out, ap_str text, ap_error *err)
{
    const char *end = text.ptr + text.len;
    size_t length;
    for (const char *p = text.ptr; p < end; p += length) {
        ap_str to;
        length = find_in_map(n, p, end, true, &to);
        if (!length) {
            (void)ap_utf8_next(p, (size_t)(end - p), &length);
            to = (ap_str){p, length};
        }
        AP_TRY(ap_buf_add_str(out, to, err));
    }
    return AP_OK;
}

/* The package looks up a short grapheme by its shortest key and replaces all of it; a longer one goes by characters. */
static ap_status map_grapheme(const ap_normalizer *n, ap_buf *out, ap_str g, ap_error *err)
{
    ap_str to;
    if (g.len < GRAPHEME_BYTES_MAX && find_in_map(n, g.ptr, g.ptr + g.len, false, &to))
        return ap_buf_add_str(out, to, err);
    size_t length;
    for (size_t i = 0; i < g.len; i += length) {
        (void)ap_utf8_next(g.ptr + i, g.len - i, &length);
        ap_str one = {g.ptr + i, length};
        AP_TRY(ap_buf_add_str(out, find_in_map(n, one.ptr, one.ptr + length, false, &to) ? to : one, err));
    }
    return AP_OK;
}

static ap_status apply_map_to_graphemes(const ap_normalizer *n, ap_buf *out, ap_str text, ap_error *err)
{
    size_t begin = 0, length;
    int32_t before = -1, state = 0;
    for (size_t i = 0; i < text.len; i += length) {
        int32_t code = ap_utf8_next(text.ptr + i, text.len - i, &length);
        bool breaks = before < 0 || code < 0 || utf8proc_grapheme_break_stateful(before, code, &state);
        if (i && breaks) {
            AP_TRY(map_grapheme(n, out, (ap_str){text.ptr + begin, i - begin}, err));
            begin = i;
        }
        if (code < 0)
            state = 0;
        before = code;
    }
    return map_grapheme(n, out, (ap_str){text.ptr + begin, text.len - begin}, err);
}

/* ---- Texts --------------------------------------------------------------------------------------------------------- */

static ap_status replace(ap_buf *out, ap_str text, ap_str from, ap_str to, ap_error *err)
{
    const char *p = text.ptr, *end = p + text.len, *found;
    for (; p < end && (found = memmem(p, (size_t)(end - p), from.ptr, from.len)); p = found + from.len) {
        AP_TRY(ap_buf_add(out, p, (size_t)(found - p), err));
        AP_TRY(ap_buf_add_str(out, to, err));
    }
    return ap_buf_add(out, p, (size_t)(end - p), err);
}

static ap_status squeeze(ap_buf *out, ap_str text, ap_str to, ap_error *err)
{
    for (size_t i = 0; i < text.len;) {
        size_t begin = i;
        while (i < text.len && text.ptr[i] == ' ')
            i++;
        if (i - begin >= 2) {
            AP_TRY(ap_buf_add_str(out, to, err));
            continue;
        }
        while (i < text.len && text.ptr[i] != ' ')
            i++;
        AP_TRY(ap_buf_add(out, text.ptr + begin, i - begin, err));
    }
    return AP_OK;
}

static ap_str strip(ap_str text, bool left)
{
    size_t length, end = 0;
    for (size_t i = 0; i < text.len; i += length) {
        bool white = is_white(ap_utf8_next(text.ptr + i, text.len - i, &length));
        if (left && !white)
            return (ap_str){text.ptr + i, text.len - i};
        if (!white)
            end = i + length;
    }
    return (ap_str){text.ptr, left ? 0 : end};
}

static ap_status run_step(const ap_normalizer *n, const step *s, ap_str text, ap_buf *out, ap_error *err)
{
    switch (s->kind) {
    case NFC:
    case NFD:
    case NFKC:
    case NFKD:
        return normal_form(out, text, s->kind, err);
    case CHARSMAP:
        return apply_map(n, out, text, err);
    case CHARSMAP_GRAPHEMES:
        return apply_map_to_graphemes(n, out, text, err);
    case REPLACE:
        return replace(out, text, s->from, s->to, err);
    case SQUEEZE:
        return squeeze(out, text, s->to, err);
    case PREPEND:
        AP_TRY(ap_buf_add_str(out, s->to, err));
        return ap_buf_add_str(out, text, err);
    default:
        return map_characters(out, text, s->kind, err);
    }
}

ap_status ap_normalize(const ap_normalizer *n, ap_str text, ap_buf buffers[2], ap_str *out, ap_error *err)
{
    unsigned next = 0;
    for (uint32_t i = 0; i < n->count && text.len; i++) {
        const step *s = &n->steps[i];
        if (s->kind == STRIP_LEFT || s->kind == STRIP_RIGHT) {
            text = strip(text, s->kind == STRIP_LEFT);
            continue;
        }
        ap_buf *to = &buffers[next];
        ap_buf_clear(to);
        AP_TRY(run_step(n, s, text, to, err));
        text = (ap_str){to->ptr ? to->ptr : "", to->len};
        next ^= 1;
    }
    *out = text;
    return AP_OK;
}
