/* SPDX-License-Identifier: Apache-2.0 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"

#include <pcre2.h>
#include <stdlib.h>

#include "base/alloc.h"

/* What \s, \w and \h are, as parts of a class.  On its own \w has the numbers of Latin-1 as well, in a class not. */
#define WHITE "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define WORD_IN_CLASS                                                                                                \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"
#define WORD WORD_IN_CLASS "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"
#define HEX "0-9A-Fa-f"

enum { SHOWN = 60, TRANSLATED_BYTES_MAX = 32 * AP_REGEX_BYTES_MAX, ONE_STEP = 1 };

struct ap_regex {
    pcre2_code *code;
};

/* ---- In PCRE2's terms ------------------------------------------------------------------------------------------ */

typedef struct translator {
    ap_str pattern;
    size_t i;
    ap_buf out;
    bool in_class;
    ap_error *err;
} translator;

static ap_status refuse(const translator *t, const char *what)
{
    return ap_fail(t->err, AP_E_UNSUPPORTED, "the expression '%.*s' has %s at byte %zu, which is not supported",
                   (int)(t->pattern.len < SHOWN ? t->pattern.len : SHOWN), t->pattern.ptr, what, t->i);
}

static char peek(const translator *t, size_t ahead)
{
    return t->i + ahead < t->pattern.len ? t->pattern.ptr[t->i + ahead] : 0;
}

static ap_status put(translator *t, const char *text) { return ap_buf_add(&t->out, text, strlen(text), t->err); }

/* The next n bytes as they are. */
static ap_status copy(translator *t, size_t n)
{
    AP_TRY(ap_buf_add(&t->out, t->pattern.ptr + t->i, n, t->err));
    t->i += n;
    return AP_OK;
}

static ap_status put_set(translator *t, const char *set, bool negated)
{
    t->i += 2;
    if (t->in_class)
        return put(t, set);
    AP_TRY(put(t, negated ? "[^" : "["));
    AP_TRY(put(t, set));
    return put(t, "]");
}

static bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* \x{H…}, \xHH below 0x80, \uHHHH */
static ap_status translate_code(translator *t)
{
    size_t n = 0, head = peek(t, 2) == '{' ? 3 : 2;
    while (is_hex(peek(t, head + n)) && n < 8)
        n++;
    bool is_braced = head == 3 && n > 0 && peek(t, 3 + n) == '}';
    bool is_short = head == 2 && peek(t, 1) == 'x' && n >= 2 && peek(t, 2) < '8', is_u = peek(t, 1) == 'u' && n >= 4;
    if (!is_braced && !is_short && !is_u)
        return refuse(t, "an escape for a code that is not \\x{...}, \\x00 to \\x7f or \\uHHHH");
    size_t digits = is_braced ? n : is_u ? 4 : 2;
    AP_TRY(put(t, "\\x{"));
    AP_TRY(ap_buf_add(&t->out, t->pattern.ptr + t->i + head, digits, t->err));
    t->i += head + digits + is_braced;
    return put(t, "}");
}

static ap_status translate_escape(translator *t)
{
    char c = peek(t, 1);
    switch (c) {
    case 's':
        return put_set(t, WHITE, false);
    case 'w':
        return put_set(t, t->in_class ? WORD_IN_CLASS : WORD, false);
    case 'h':
        return put_set(t, HEX, false);
    case 'S':
        return t->in_class ? copy(t, 2) : put_set(t, WHITE, true);
    case 'W':
        return t->in_class ? refuse(t, "\\W in a class") : put_set(t, WORD, true);
    case 'd':
        t->i += 2;
        return put(t, "\\p{Nd}");
    case 'D':
        t->i += 2;
        return put(t, "\\P{Nd}");
    case 'v':
        t->i += 2;
        return put(t, "\\x{b}");
    case 'x':
    case 'u':
        return translate_code(t);
    case 'p':
    case 'P': {
        size_t n = 3;
        if (peek(t, 2) != '{')
            return refuse(t, "\\p without braces");
        while (is_letter(peek(t, n)) || peek(t, n) == '_' || peek(t, n) == '^' || peek(t, n) == '&')
            n++;
        return peek(t, n) == '}' ? copy(t, n + 1) : refuse(t, "an unknown property");
    }
    case 'b':
    case 'B':
        if (t->in_class)
            return refuse(t, "\\b in a class");
        t->i += 2;
        return put(t, c == 'b' ? "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))"
                               : "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?![" WORD "]))");
    case 'A':
    case 'z':
    case 'Z':
        return t->in_class ? refuse(t, "an anchor in a class") : copy(t, 2);
    case 'n':
    case 'r':
    case 't':
    case 'f':
    case 'a':
    case 'e':
        return copy(t, 2);
    default:
        if (is_letter(c) || is_digit(c) || c == 0)
            return refuse(t, "an escape without an equal");
        return copy(t, (uint8_t)c < 0x80 ? 2 : 1); /* a backslash before another character */
    }
}

static ap_status translate_class(translator *t)
{
    t->in_class = true;
    AP_TRY(copy(t, peek(t, 1) == '^' ? 2 : 1));
    if (peek(t, 0) == ']')
        return refuse(t, "an empty class");
    while (t->i < t->pattern.len && peek(t, 0) != ']') {
        if (peek(t, 0) == '[')
            return refuse(t, "a class in a class");
        if (peek(t, 0) == '&' && peek(t, 1) == '&')
            return refuse(t, "an intersection of classes");
        AP_TRY(peek(t, 0) == '\\' ? translate_escape(t) : copy(t, 1));
    }
    t->in_class = false;
    return t->i < t->pattern.len ? copy(t, 1) : refuse(t, "a class without an end");
}

/* A group captures nothing: no back reference can ask for it. */
static ap_status translate_group(translator *t)
{
    static const char *const heads[] = {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:", "(?i)", "(?-i:", "(?-i)"};
    if (peek(t, 1) != '?') {
        t->i++;
        return put(t, "(?:");
    }
    ap_str rest = {t->pattern.ptr + t->i, t->pattern.len - t->i};
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        if (ap_str_starts(rest, ap_str_from(heads[i])))
            return copy(t, strlen(heads[i]));
    return refuse(t, "a group of another kind than (?: (?= (?! (?> (?<= (?<! (?i:");
}

/* {n}, {n,}, {n,m}; any other brace is a character. */
static ap_status translate_brace(translator *t)
{
    size_t n = 1;
    unsigned value = 0, values = 0;
    while (is_digit(peek(t, n)) || (peek(t, n) == ',' && values == 0)) {
        values += peek(t, n) == ',';
        value = peek(t, n) == ',' ? 0 : value * 10 + (unsigned)(peek(t, n) - '0');
        if (value > AP_REGEX_REPEAT_MAX)
            return ap_fail(t->err, AP_E_LIMIT, "the expression '%.*s' repeats more than %d times at byte %zu",
                           (int)(t->pattern.len < SHOWN ? t->pattern.len : SHOWN), t->pattern.ptr, AP_REGEX_REPEAT_MAX, t->i);
        n++;
    }
    if (peek(t, n) != '}' || n == 1) {
        t->i++;
        return put(t, "\\{");
    }
    if (peek(t, 1) == ',')
        return refuse(t, "a repetition without a lower bound");
    if (peek(t, n + 1) == '+')
        return refuse(t, "a repetition of a repetition");
    return copy(t, n + 1);
}

static ap_status translate(translator *t)
{
    while (t->i < t->pattern.len)
        switch (peek(t, 0)) {
        case '\\':
            AP_TRY(translate_escape(t));
            break;
        case '[':
            AP_TRY(translate_class(t));
            break;
        case '(':
            AP_TRY(translate_group(t));
            break;
        case '{':
            AP_TRY(translate_brace(t));
            break;
        case 0:
            AP_TRY(refuse(t, "a character U+0000"));
            break;
        default:
            AP_TRY(copy(t, 1));
        }
    return AP_OK;
}

/* ---- Compiling --------------------------------------------------------------------------------------------------- */

static void *allocate(PCRE2_SIZE bytes, void *context)
{
    (void)context;
    return ap_alloc(bytes);
}

static void release(void *pointer, void *context)
{
    (void)context;
    ap_free(pointer);
}

static ap_status compile(ap_regex *regex, ap_str pattern, ap_str translated, ap_error *err)
{
    enum { OPTIONS = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_START_OPTIMIZE | PCRE2_AUTO_CALLOUT };
    pcre2_general_context *memory = pcre2_general_context_create(allocate, release, NULL);
    pcre2_compile_context *context = memory ? pcre2_compile_context_create(memory) : NULL;
    int code = PCRE2_ERROR_NOMEMORY;
    PCRE2_SIZE at = 0;
    if (context) {
        (void)pcre2_set_newline(context, PCRE2_NEWLINE_LF);
        (void)pcre2_set_parens_nest_limit(context, AP_REGEX_NESTING_MAX);
        regex->code = pcre2_compile((PCRE2_SPTR)translated.ptr, translated.len, OPTIONS, &code, &at, context);
    }
    pcre2_compile_context_free(context);
    pcre2_general_context_free(memory);
    if (regex->code)
        return AP_OK;
    if (code == PCRE2_ERROR_NOMEMORY || code == PCRE2_ERROR_HEAP_FAILED)
        return ap_fail_nomem(err, translated.len);
    unsigned char reason[128] = "";
    (void)pcre2_get_error_message(code, reason, sizeof reason);
    return ap_fail(err, AP_E_UNSUPPORTED, "the expression '%.*s' cannot be used: %s",
                   (int)(pattern.len < SHOWN ? pattern.len : SHOWN), pattern.ptr, (const char *)reason);
}

ap_status ap_regex_compile(ap_regex **out, ap_str pattern, ap_error *err)
{
    *out = NULL;
    if (pattern.len == 0 || pattern.len > AP_REGEX_BYTES_MAX)
        return ap_fail(err, AP_E_LIMIT, "an expression of the pre-tokenizer has %zu bytes; allowed are 1 to %d", pattern.len,
                       AP_REGEX_BYTES_MAX);
    translator t = {.pattern = pattern, .out = {.limit = TRANSLATED_BYTES_MAX}, .err = err};
    ap_regex *regex = ap_alloc_zero(1, sizeof *regex);
    ap_status status = regex ? translate(&t) : ap_fail_nomem(err, sizeof *regex);
    if (status == AP_OK)
        status = compile(regex, pattern, ap_buf_str(&t.out), err);
    ap_buf_deinit(&t.out);
    if (status != AP_OK)
        ap_regex_destroy(&regex);
    *out = regex;
    return status;
}

void ap_regex_destroy(ap_regex **regex)
{
    if (*regex) {
        pcre2_code_free((*regex)->code);
        ap_free(*regex);
    }
    *regex = NULL;
}

/* ---- Matching ---------------------------------------------------------------------------------------------------- */

/* PCRE2 calls before it tries an item.  What it walked over since then is the way from where it was. */
static int count_step(pcre2_callout_block *block, void *data)
{
    ap_regex_run *run = data;
    size_t at = block->current_position, way = at > run->at ? at - run->at : run->at - at;
    run->at = at;
    if (way + ONE_STEP > run->steps)
        return PCRE2_ERROR_MATCHLIMIT;
    run->steps -= way + ONE_STEP;
    return 0;
}

static ap_status prepare(ap_regex_run *run, ap_error *err)
{
    if (run->data)
        return AP_OK;
    pcre2_general_context *memory = pcre2_general_context_create(allocate, release, NULL);
    run->data = memory ? pcre2_match_data_create(1, memory) : NULL;
    run->context = memory ? pcre2_match_context_create(memory) : NULL;
    pcre2_general_context_free(memory);
    if (!run->data || !run->context)
        return ap_fail_nomem(err, sizeof *run);
    (void)pcre2_set_match_limit(run->context, UINT32_MAX); /* the steps end before */
    (void)pcre2_set_depth_limit(run->context, UINT32_MAX); /* depth is memory */
    (void)pcre2_set_heap_limit(run->context, AP_REGEX_HEAP_KIB_MAX);
    (void)pcre2_set_callout(run->context, count_step, run);
    return AP_OK;
}

void ap_regex_run_deinit(ap_regex_run *run)
{
    pcre2_match_data_free(run->data);
    pcre2_match_context_free(run->context);
    *run = (ap_regex_run){0};
}

ap_status ap_regex_find(const ap_regex *regex, ap_regex_run *run, ap_str text, size_t from, size_t *begin, size_t *end,
                        ap_error *err)
{
    AP_TRY(prepare(run, err));
    run->at = from;
    int rc = pcre2_match(regex->code, (PCRE2_SPTR)text.ptr, text.len, from, PCRE2_NO_UTF_CHECK, run->data, run->context);
    *begin = *end = SIZE_MAX;
    if (rc == PCRE2_ERROR_NOMATCH)
        return AP_OK;
    if (rc >= 0) {
        const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(run->data);
        *begin = ends[0];
        *end = ends[1] > ends[0] ? ends[1] : ends[0];
        return AP_OK;
    }
    if (rc == PCRE2_ERROR_NOMEMORY)
        return ap_fail_nomem(err, text.len);
    return ap_fail(err, AP_E_LIMIT, "an expression of the pre-tokenizer needs more than %s for a text of %zu bytes",
                   rc == PCRE2_ERROR_HEAPLIMIT ? "256 MiB" : "128 steps per byte", text.len);
}
