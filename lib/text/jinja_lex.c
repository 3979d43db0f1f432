/* Source text to tokens.
 *
 * The rules of white space, Jinja2's with trim_blocks and lstrip_blocks on:
 * one newline after %} and #} goes; blanks from the start of a line to {% or {#
 * go; {%- {{- {#- take all white space before, -%} -}} -#} all after; + switches
 * the automatic part off.  All line ends become \n and the last one of the source goes.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#include <utf8proc.h>

#include "base/utf8.h"
#include "text/jinja_tree.h"

typedef struct lexer {
    ap_jrun *run, *scratch;
    ap_jtokens *tokens;
    const char *src;
    size_t len, at;
    uint32_t line;
    bool line_starting; /* what was read last ended with a newline */
} lexer;

static ap_status push(lexer *lx, ap_jtoken token)
{
    ap_jtokens *t = lx->tokens;
    lx->scratch->line = lx->line;
    if (t->count == t->room) {
        size_t room = t->room ? t->room * 2 : 64;
        ap_jtoken *grown;
        AP_JNEW(lx->scratch, grown, room);
        if (t->count)
            memcpy(grown, t->items, t->count * sizeof *grown);
        t->items = grown;
        t->room = room;
    }
    token.line = lx->line;
    t->items[t->count++] = token;
    return AP_OK;
}

static ap_status push_kind(lexer *lx, ap_jtoken_kind kind) { return push(lx, (ap_jtoken){.kind = kind}); }

/* Moves to `to`, counting lines. */
static void advance(lexer *lx, size_t to)
{
    for (; lx->at < to; lx->at++)
        lx->line += lx->src[lx->at] == '\n';
}

static uint32_t code_at(const lexer *lx, size_t at, size_t *length)
{
    return ap_jcode(&(ap_jstr){.ptr = lx->src, .len = lx->len}, at, length);
}

static bool has(const lexer *lx, size_t at, const char *text)
{
    size_t n = strlen(text);
    return lx->len - at >= n && memcmp(lx->src + at, text, n) == 0;
}

static size_t skip_space(const lexer *lx, size_t at)
{
    size_t length;
    while (at < lx->len && ap_jis_space(code_at(lx, at, &length)))
        at += length;
    return at;
}

static size_t back_space(const lexer *lx, size_t from, size_t to)
{
    size_t length;
    while (to > from) {
        size_t at = to - 1;
        while (at > from && ((unsigned char)lx->src[at] & 0xC0) == 0x80)
            at--;
        if (!ap_jis_space(code_at(lx, at, &length)))
            break;
        to = at;
    }
    return to;
}

/* Emits the text from lx->at to `end`, cut as the sign after the coming tag's start asks. */
static ap_status push_data(lexer *lx, size_t end, char sign, bool is_print)
{
    size_t begin = lx->at, cut = end;
    if (sign == '-') {
        cut = back_space(lx, begin, end);
    } else if (sign != '+' && !is_print) {
        size_t line = end;
        while (line > begin && lx->src[line - 1] != '\n')
            line--;
        if ((line > begin || lx->line_starting) && skip_space(lx, line) >= end)
            cut = line;
    }
    if (cut > begin)
        AP_TRY(push(lx, (ap_jtoken){.kind = AP_JT_DATA, .text = {lx->src + begin, cut - begin}}));
    return AP_OK;
}

/* Past the end of a block or comment whose last characters stand at `at` ("%}"); `sign` stood before. */
static void end_tag(lexer *lx, size_t at, char sign, bool trims)
{
    size_t next = at + 2;
    if (sign == '-')
        next = skip_space(lx, next);
    else if (sign != '+' && trims && next < lx->len && lx->src[next] == '\n')
        next++;
    advance(lx, next);
    lx->line_starting = lx->src[next - 1] == '\n';
}

static bool is_sign(char c) { return c == '-' || c == '+'; }

/* `begin`: after the opening and its sign. */
static ap_status lex_comment(lexer *lx, size_t begin)
{
    const char *found = lx->len >= begin ? memmem(lx->src + begin, lx->len - begin, "#}", 2) : NULL;
    if (!found)
        return ap_jfail(lx->run, "a comment is not closed");
    size_t at = (size_t)(found - lx->src);
    char sign = at > begin && is_sign(lx->src[at - 1]) ? lx->src[at - 1] : 0;
    end_tag(lx, at, sign, true);
    return AP_OK;
}

/* If a block {% WORD %} starts at `at`: the place of its "%}", and the signs; else 0. */
static size_t match_word_block(const lexer *lx, size_t at, const char *word, char *open, char *close)
{
    if (!has(lx, at, "{%"))
        return 0;
    at += 2;
    *open = at < lx->len && is_sign(lx->src[at]) ? lx->src[at++] : 0;
    at = skip_space(lx, at);
    if (!has(lx, at, word))
        return 0;
    at = skip_space(lx, at + strlen(word));
    *close = at < lx->len && is_sign(lx->src[at]) ? lx->src[at++] : 0;
    return has(lx, at, "%}") ? at : 0;
}

/* {% raw %} starts at lx->at and its "%}" stands at `end`. */
static ap_status lex_raw(lexer *lx, size_t end, char close)
{
    end_tag(lx, end, close, false);
    for (size_t at = lx->at;; at++) {
        const char *found = lx->len > at ? memmem(lx->src + at, lx->len - at, "{%", 2) : NULL;
        if (!found)
            return ap_jfail(lx->run, "a raw block is not closed");
        at = (size_t)(found - lx->src);
        char open = 0;
        end = match_word_block(lx, at, "endraw", &open, &close);
        if (end) {
            AP_TRY(push_data(lx, at, open, false));
            end_tag(lx, end, close, true);
            return AP_OK;
        }
    }
}

static ap_status lex_escape(lexer *lx, size_t *at, size_t end, char *out, size_t *n)
{
    static const char letters[] = "ntrabfv\\'\"", values[] = "\n\t\r\a\b\f\v\\'\"";
    char c = lx->src[*at + 1];
    const char *known = strchr(letters, c);
    uint32_t code = 0;
    if (c && known) {
        out[(*n)++] = values[known - letters];
        *at += 2;
        return AP_OK;
    }
    if (c == '\n') {
        *at += 2;
        return AP_OK;
    }
    size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0, from = *at + 2;
    if (digits) {
        if (end - from < digits)
            return ap_jfail(lx->run, "a string ends inside the escape \\%c", c);
        for (size_t i = 0; i < digits; i++) {
            char d = lx->src[from + i];
            int v = d >= '0' && d <= '9' ? d - '0' : d >= 'a' && d <= 'f' ? d - 'a' + 10 : d >= 'A' && d <= 'F' ? d - 'A' + 10 : -1;
            if (v < 0)
                return ap_jfail(lx->run, "the escape \\%c needs %zu hexadecimal digits", c, digits);
            code = code << 4 | (uint32_t)v;
        }
        *at = from + digits;
    } else if (c >= '0' && c <= '7') {
        for (*at += 1; digits < 3 && *at < end && lx->src[*at] >= '0' && lx->src[*at] <= '7'; digits++)
            code = code * 8 + (uint32_t)(lx->src[(*at)++] - '0');
    } else if (c == 'N') {
        return ap_jfail(lx->run, "the escape \\N{...} is not supported");
    } else { /* not an escape: both characters stay */
        out[(*n)++] = '\\';
        *at += 1;
        return AP_OK;
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
        return ap_jfail(lx->run, "the escape \\%c names no character", c);
    *n += ap_utf8_put(code, out + *n);
    return AP_OK;
}

static ap_status lex_string(lexer *lx)
{
    char quote = lx->src[lx->at];
    size_t end = lx->at + 1;
    bool plain = true;
    while (end < lx->len && lx->src[end] != quote) {
        plain &= lx->src[end] != '\\';
        end += lx->src[end] == '\\' ? 2 : 1;
    }
    if (end >= lx->len)
        return ap_jfail(lx->run, "a string is not closed");
    size_t from = lx->at + 1;
    ap_str text = {lx->src + from, end - from};
    if (!plain) {
        char *out;
        size_t n = 0;
        AP_JNEW(lx->run, out, text.len + 4); /* an escape is never shorter than what it stands for */
        while (from < end)
            if (lx->src[from] == '\\')
                AP_TRY(lex_escape(lx, &from, end, out, &n));
            else
                out[n++] = lx->src[from++];
        text = (ap_str){out, n};
    }
    AP_TRY(push(lx, (ap_jtoken){.kind = AP_JT_STRING, .text = text}));
    advance(lx, end + 1);
    return AP_OK;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Digits with single underscores between them. */
static size_t skip_digits(const lexer *lx, size_t at)
{
    while (at < lx->len && (is_digit(lx->src[at]) || (lx->src[at] == '_' && at + 1 < lx->len && is_digit(lx->src[at + 1]))))
        at++;
    return at;
}

static ap_status lex_number(lexer *lx)
{
    size_t at = skip_digits(lx, lx->at), from = lx->at;
    bool is_float = false, after_dot = from > 0 && lx->src[from - 1] == '.'; /* a.0.1 is two indexes, not a number */
    int base = 10;
    if (!after_dot) {
        if (at + 1 < lx->len && lx->src[at] == '.' && is_digit(lx->src[at + 1])) {
            at = skip_digits(lx, at + 1);
            is_float = true;
        }
        size_t e = at;
        if (e < lx->len && (lx->src[e] == 'e' || lx->src[e] == 'E')) {
            e++;
            if (e < lx->len && is_sign(lx->src[e]))
                e++;
            if (e < lx->len && is_digit(lx->src[e])) {
                at = skip_digits(lx, e);
                is_float = true;
            }
        }
    }
    if (!is_float && lx->src[from] == '0' && at == from + 1 && at < lx->len) {
        char kind = (char)(lx->src[at] | 0x20);
        base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 10;
        if (base != 10)
            for (from = ++at; at < lx->len && (isalnum((unsigned char)lx->src[at]) || lx->src[at] == '_');)
                at++;
    }
    char digits[64];
    size_t n = 0;
    for (size_t i = from; i < at; i++)
        if (lx->src[i] != '_') {
            if (n + 1 >= sizeof digits)
                return ap_jfail(lx->run, "a number has more than %zu characters", sizeof digits - 1);
            digits[n++] = lx->src[i];
        }
    digits[n] = 0;
    char *stop;
    errno = 0;
    ap_jval value = is_float ? ap_jfloat(strtod(digits, &stop)) : ap_jint(strtoll(digits, &stop, base));
    if (n == 0 || *stop || (!is_float && errno))
        return ap_jfail(lx->run, "the number '%s' is none or does not fit in 64 bits", digits);
    AP_TRY(push(lx, (ap_jtoken){.kind = is_float ? AP_JT_FLOAT : AP_JT_INT, .value = value, .text = {lx->src + lx->at, at - lx->at}}));
    advance(lx, at);
    return AP_OK;
}

static bool is_word(uint32_t code)
{
    if (code < 0x80)
        return code == '_' || isalnum((int)code);
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)code);
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) ||
           (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO);
}

/* The inside of {{ }} or {% %}, up to and with its end. */
static ap_status lex_inside(lexer *lx, bool is_print)
{
    static const int pairs[] = {AP_JPAIR('*', '*'), AP_JPAIR('/', '/'), AP_JPAIR('=', '='), AP_JPAIR('!', '='),
                                AP_JPAIR('<', '='), AP_JPAIR('>', '=')};
    char closers[AP_JINJA_PARSE_DEPTH];
    size_t open = 0, length;
    for (;;) {
        advance(lx, skip_space(lx, lx->at));
        lx->run->line = lx->line;
        if (lx->at >= lx->len)
            return ap_jfail(lx->run, "the template ends inside a tag");
        size_t at = lx->at;
        char c = lx->src[at], sign = is_sign(c) ? c : 0;
        if (open == 0 && has(lx, at + (sign != 0), is_print ? "}}" : "%}") && !(is_print && sign == '+')) {
            AP_TRY(push_kind(lx, is_print ? AP_JT_PRINT_END : AP_JT_BLOCK_END));
            end_tag(lx, at + (sign != 0), sign, !is_print);
            return AP_OK;
        }
        if (c == '"' || c == '\'') {
            AP_TRY(lex_string(lx));
            continue;
        }
        if (is_digit(c)) {
            AP_TRY(lex_number(lx));
            continue;
        }
        while (at < lx->len && is_word(code_at(lx, at, &length)))
            at += length;
        if (at > lx->at) {
            AP_TRY(push(lx, (ap_jtoken){.kind = AP_JT_NAME, .text = {lx->src + lx->at, at - lx->at}}));
            advance(lx, at);
            continue;
        }
        int op = (unsigned char)c, pair = at + 1 < lx->len ? AP_JPAIR(op, (unsigned char)lx->src[at + 1]) : 0;
        for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
            if (pair == pairs[i])
                op = pair;
        if (op == 0 || (op < 256 && !strchr("+-*/%~()[]{}<>=.:|,", op)))
            return ap_jfail(lx->run, "unexpected character '%.*s'", (int)(code_at(lx, at, &length), length), lx->src + at);
        if (c == '(' || c == '[' || c == '{') {
            if (open == sizeof closers)
                return ap_jfail_limit(lx->run, "brackets inside brackets", sizeof closers);
            closers[open++] = c == '(' ? ')' : c == '[' ? ']' : '}';
        } else if (c == ')' || c == ']' || c == '}') {
            if (open == 0 || closers[--open] != c)
                return ap_jfail(lx->run, "unexpected '%c'", c);
        }
        AP_TRY(push(lx, (ap_jtoken){.kind = AP_JT_OP, .op = op, .text = {lx->src + at, op < 256 ? 1 : 2}}));
        advance(lx, at + (op < 256 ? 1 : 2));
    }
}

static ap_status normalise(ap_jrun *run, ap_str source, ap_str *out)
{
    char *copy;
    size_t n = 0;
    AP_JNEW(run, copy, source.len + 1);
    for (size_t i = 0; i < source.len; i++) {
        copy[n++] = source.ptr[i] == '\r' ? '\n' : source.ptr[i];
        if (source.ptr[i] == '\r' && i + 1 < source.len && source.ptr[i + 1] == '\n')
            i++;
    }
    if (n && copy[n - 1] == '\n')
        n--;
    *out = (ap_str){copy, n};
    return AP_OK;
}

ap_status ap_jlex(ap_jrun *run, ap_jrun *scratch, ap_str source, ap_jtokens *tokens)
{
    ap_str text = {0};
    AP_TRY(normalise(run, source, &text));
    lexer lx = {.run = run, .scratch = scratch, .tokens = tokens, .src = text.ptr, .len = text.len, .line = 1, .line_starting = true};
    while (lx.at < lx.len) {
        run->line = lx.line;
        size_t tag = lx.at;
        for (;; tag++) {
            const char *found = memchr(lx.src + tag, '{', lx.len - tag);
            tag = found ? (size_t)(found - lx.src) : lx.len;
            if (!found || has(&lx, tag, "{{") || has(&lx, tag, "{%") || has(&lx, tag, "{#"))
                break;
        }
        if (tag == lx.len) {
            AP_TRY(push(&lx, (ap_jtoken){.kind = AP_JT_DATA, .text = {lx.src + lx.at, lx.len - lx.at}}));
            advance(&lx, lx.len);
            break;
        }
        char kind = lx.src[tag + 1], sign = tag + 2 < lx.len ? lx.src[tag + 2] : 0, open, close;
        if (!is_sign(sign))
            sign = 0;
        AP_TRY(push_data(&lx, tag, sign, kind == '{'));
        advance(&lx, tag);
        run->line = lx.line;
        size_t raw = kind == '%' ? match_word_block(&lx, tag, "raw", &open, &close) : 0;
        if (raw) {
            AP_TRY(lex_raw(&lx, raw, close));
        } else if (kind == '#') {
            AP_TRY(lex_comment(&lx, tag + 2 + (sign != 0)));
        } else {
            AP_TRY(push_kind(&lx, kind == '%' ? AP_JT_BLOCK_BEGIN : AP_JT_PRINT_BEGIN));
            advance(&lx, tag + 2 + (sign != 0));
            AP_TRY(lex_inside(&lx, kind == '{'));
        }
    }
    return push_kind(&lx, AP_JT_END);
}
