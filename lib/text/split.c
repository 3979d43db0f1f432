/* split.c - the scanners.  Above each stands the expression it matches; "\s" is White_Space, "\p" the general category.
 *
 * The alternatives that whitespace ends all families with:
 *     \s*[\r\n]+   up to the last newline of the run of whitespace
 *     \s+(?!\S)    the run without its last character, unless the text ends there
 *     \s+          what is left: one character
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "text/split.h"

enum {
    LETTER = AP_CLASS_LETTER,
    NUMBER = AP_CLASS_NUMBER,
    PUNCT = AP_CLASS_PUNCT,
    SYMBOL = AP_CLASS_SYMBOL,
    MARK = AP_CLASS_MARK,
    SPACE = AP_CLASS_SPACE
};

static inline unsigned class_at(const ap_classes *classes, const char *p, const char *end, size_t *length)
{
    uint32_t code;
    return ap_class_at(classes, p, end, length, &code);
}

static inline bool is_newline(char c) { return c == '\n' || c == '\r'; }

/* The end of the run of characters from p whose class has a bit of `in` (run_in) or none of `out` (run_out). */
static inline const char *run_in(const ap_classes *classes, const char *p, const char *end, unsigned in)
{
    size_t n;
    while (p < end && (class_at(classes, p, end, &n) & in))
        p += n;
    return p;
}

static inline const char *run_out(const ap_classes *classes, const char *p, const char *end, unsigned out)
{
    size_t n;
    while (p < end && !(class_at(classes, p, end, &n) & out))
        p += n;
    return p;
}

/* \s*[\r\n]+ (if `newlines`) | \s+(?!\S) | \s+ */
static size_t white(const ap_classes *classes, const char *p, const char *end, bool newlines)
{
    const char *q = p, *last = p, *after_newline = NULL;
    size_t n;
    while (q < end && (class_at(classes, q, end, &n) & SPACE)) {
        last = q;
        if (is_newline(*q))
            after_newline = q + n;
        q += n;
    }
    if (newlines && after_newline)
        return (size_t)(after_newline - p);
    return (size_t)((q == end || last == p ? q : last) - p);
}

/* 's|'t|'re|'ve|'m|'ll|'d; with `fold` in either case, where U+017F is an s, as Unicode folds it. */
static size_t contraction(const char *p, const char *end, bool fold)
{
    size_t n = (size_t)(end - p);
    if (n < 2 || *p != '\'')
        return 0;
    char a = p[1], b = n > 2 ? p[2] : 0;
    if (fold) {
        if (n > 2 && (uint8_t)a == 0xc5 && (uint8_t)b == 0xbf)
            return 3;
        a = a >= 'A' && a <= 'Z' ? (char)(a + 32) : a;
        b = b >= 'A' && b <= 'Z' ? (char)(b + 32) : b;
    }
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t gpt2(const ap_classes *classes, const char *p, const char *end)
{
    size_t n = contraction(p, end, false);
    if (n)
        return n;
    const char *q = p + (*p == ' ' && p + 1 < end);
    unsigned class = class_at(classes, q, end, &n);
    if (class & SPACE)
        return white(classes, p, end, false);
    if (class & LETTER)
        return (size_t)(run_in(classes, q + n, end, LETTER) - p);
    if (class & NUMBER)
        return (size_t)(run_in(classes, q + n, end, NUMBER) - p);
    return (size_t)(run_out(classes, q + n, end, SPACE | LETTER | NUMBER) - p);
}

/* The family of cl100k: `word` is LETTER or LETTER | MARK, written W below, `digits` how many numbers go together.
 * (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?W+|\p{N}{1,digits}| ?[^\sW\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static inline size_t cl100k(const ap_classes *classes, const char *p, const char *end, unsigned word, unsigned digits)
{
    size_t n = contraction(p, end, true);
    if (n)
        return n;
    unsigned class = class_at(classes, p, end, &n);
    if (class & word)
        return (size_t)(run_in(classes, p + n, end, word) - p);
    if (class & NUMBER) {
        const char *q = p + n;
        while (--digits && q < end && (class_at(classes, q, end, &n) & NUMBER))
            q += n;
        return (size_t)(q - p);
    }
    const char *q = p + n;
    if (!is_newline(*p) && q < end) {
        size_t m;
        if (class_at(classes, q, end, &m) & word)
            return (size_t)(run_in(classes, q + m, end, word) - p);
    }
    if (*p != ' ')
        q = p;
    if (q < end && !(class_at(classes, q, end, &n) & (SPACE | word | LETTER | NUMBER))) {
        q = run_out(classes, q + n, end, SPACE | word | LETTER | NUMBER);
        while (q < end && is_newline(*q))
            q++;
        return (size_t)(q - p);
    }
    return white(classes, p, end, true);
}

static size_t llama3(const ap_classes *classes, const char *p, const char *end)
{
    return cl100k(classes, p, end, LETTER, 3);
}

static size_t qwen2(const ap_classes *classes, const char *p, const char *end)
{
    return cl100k(classes, p, end, LETTER, 1);
}

static size_t qwen35(const ap_classes *classes, const char *p, const char *end)
{
    return cl100k(classes, p, end, LETTER | MARK, 1);
}

/* \p{N} */
static size_t digit(const ap_classes *classes, const char *p, const char *end)
{
    size_t n;
    return class_at(classes, p, end, &n) & NUMBER ? n : 0;
}

/* \p{N}+ */
static size_t digits(const ap_classes *classes, const char *p, const char *end)
{
    return (size_t)(run_in(classes, p, end, NUMBER) - p);
}

/* [0-9][0-9][0-9] */
static size_t ascii_digits_3(const ap_classes *classes, const char *p, const char *end)
{
    (void)classes;
    if (end - p < 3)
        return 0;
    for (unsigned i = 0; i < 3; i++)
        if (p[i] < '0' || p[i] > '9')
            return 0;
    return 3;
}

/* [\p{P}$+<=>^~|`]+ with the backtick, or without */
static inline size_t punct_run(const ap_classes *classes, const char *p, const char *end, bool backtick)
{
    const char *q = p;
    size_t n;
    while (q < end) {
        bool in = (class_at(classes, q, end, &n) & PUNCT) || (*q == '`' && backtick) ||
                  (n == 1 && *q && strchr("$+<=>^~|", *q));
        if (!in)
            break;
        q += n;
    }
    return (size_t)(q - p);
}

static size_t falcon_punct(const ap_classes *classes, const char *p, const char *end)
{
    return punct_run(classes, p, end, true);
}

static size_t default_punct(const ap_classes *classes, const char *p, const char *end)
{
    return punct_run(classes, p, end, false);
}

/* [\r\n] */
static size_t newline(const ap_classes *classes, const char *p, const char *end)
{
    (void)classes;
    (void)end;
    return is_newline(*p);
}

/* \s?C+ for a class C */
static inline size_t spaced_run(const ap_classes *classes, const char *p, const char *end, unsigned in)
{
    size_t n;
    const char *q = p;
    if (class_at(classes, p, end, &n) & SPACE)
        q = p + n;
    const char *r = run_in(classes, q, end, in);
    return r > q ? (size_t)(r - p) : 0;
}

static size_t spaced_letters(const ap_classes *classes, const char *p, const char *end)
{
    return spaced_run(classes, p, end, LETTER);
}

static size_t spaced_punct(const ap_classes *classes, const char *p, const char *end)
{
    return spaced_run(classes, p, end, PUNCT);
}

typedef bool code_test(uint32_t code);

static inline size_t code_run(const char *p, const char *end, code_test *test)
{
    const char *q = p;
    size_t n;
    while (q < end && (uint8_t)*q >= 0x80) {
        int32_t code = ap_utf8_next(q, (size_t)(end - q), &n);
        if (code < 0 || !test((uint32_t)code))
            break;
        q += n;
    }
    return (size_t)(q - p);
}

static bool is_deepseek_coder_han(uint32_t c) { return (c >= 0x0800 && c <= 0x9fa5) || (c >= 0xac00 && c <= 0xd7ff); }
static bool is_deepseek_v3_cjk(uint32_t c) { return (c >= 0x4e00 && c <= 0x9fa5) || (c >= 0x3040 && c <= 0x30ff); }

/* [\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+ */
static size_t deepseek_coder_han(const ap_classes *classes, const char *p, const char *end)
{
    (void)classes;
    return code_run(p, end, is_deepseek_coder_han);
}

/* [\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+ */
static size_t deepseek_v3_cjk(const ap_classes *classes, const char *p, const char *end)
{
    (void)classes;
    return code_run(p, end, is_deepseek_v3_cjk);
}

/* \p{N}{1,3} */
static size_t digits_3(const ap_classes *classes, const char *p, const char *end)
{
    const char *q = p;
    size_t n;
    for (unsigned i = 0; i < 3 && q < end && (class_at(classes, q, end, &n) & NUMBER); i++)
        q += n;
    return (size_t)(q - p);
}

static bool is_ascii_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/* [ASCII punctuation][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t deepseek_v3(const ap_classes *classes, const char *p, const char *end)
{
    size_t n, m;
    unsigned class = class_at(classes, p, end, &n);
    if (n == 1 && (class & (PUNCT | SYMBOL)) && p + 1 < end && is_ascii_letter(p[1])) {
        const char *q = p + 2;
        while (q < end && is_ascii_letter(*q))
            q++;
        return (size_t)(q - p);
    }
    const char *q = p + n;
    if (class & (LETTER | MARK))
        return (size_t)(run_in(classes, q, end, LETTER | MARK) - p);
    if (!is_newline(*p) && !(class & (PUNCT | SYMBOL)) && q < end &&
        (class_at(classes, q, end, &m) & (LETTER | MARK)))
        return (size_t)(run_in(classes, q + m, end, LETTER | MARK) - p);
    q = *p == ' ' ? p + 1 : p;
    const char *r = run_in(classes, q, end, PUNCT | SYMBOL);
    if (r > q) {
        while (r < end && is_newline(*r))
            r++;
        return (size_t)(r - p);
    }
    return class & SPACE ? white(classes, p, end, true) : 0;
}

/* One letter class of tekken and o200k: H = [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}], h = [\p{Ll}\p{Lm}\p{Lo}\p{M}]. */
static inline bool is_high(unsigned class) { return (class & (LETTER | MARK)) && !(class & AP_CLASS_LOWER); }
static inline bool is_low(unsigned class) { return (class & (LETTER | MARK)) && !(class & AP_CLASS_UPPER); }

/* H*h+ from p, or NULL.  If no h follows the run of H, the run must give back from its end to its last h. */
static const char *high_low(const ap_classes *classes, const char *p, const char *end)
{
    const char *back = NULL;
    size_t n;
    unsigned class;
    while (p < end && is_high(class = class_at(classes, p, end, &n))) {
        p += n;
        if (is_low(class))
            back = p;
    }
    const char *q = p;
    while (q < end && is_low(class_at(classes, q, end, &n)))
        q += n;
    return q > p ? q : back;
}

/* H+h* from p, or NULL. */
static const char *highs_low(const ap_classes *classes, const char *p, const char *end)
{
    const char *q = p;
    size_t n;
    while (q < end && is_high(class_at(classes, q, end, &n)))
        q += n;
    if (q == p)
        return NULL;
    while (q < end && is_low(class_at(classes, q, end, &n)))
        q += n;
    return q;
}

/* [^\r\n\p{L}\p{N}]?H*h+C|[^\r\n\p{L}\p{N}]?H+h*C|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
 * where C is nothing (tekken) or (?i:'s|'t|'re|'ve|'m|'ll|'d)? (o200k). */
static inline size_t cased(const ap_classes *classes, const char *p, const char *end, bool contracts, unsigned most)
{
    size_t n;
    unsigned class = class_at(classes, p, end, &n);
    bool can_lead = !is_newline(*p) && !(class & (LETTER | NUMBER));
    const char *word = can_lead ? high_low(classes, p + n, end) : NULL;
    if (!word)
        word = high_low(classes, p, end);
    if (!word && can_lead)
        word = highs_low(classes, p + n, end);
    if (!word)
        word = highs_low(classes, p, end);
    if (word)
        return (size_t)(word - p) + (contracts && word < end ? contraction(word, end, true) : 0);
    if (class & NUMBER) {
        const char *q = p + n;
        while (--most && q < end && (class_at(classes, q, end, &n) & NUMBER))
            q += n;
        return (size_t)(q - p);
    }
    const char *q = p + (*p == ' ');
    const char *r = run_out(classes, q, end, SPACE | LETTER | NUMBER);
    if (r > q) {
        while (r < end && (is_newline(*r) || *r == '/'))
            r++;
        return (size_t)(r - p);
    }
    return white(classes, p, end, true);
}

static size_t tekken(const ap_classes *classes, const char *p, const char *end)
{
    return cased(classes, p, end, false, 1);
}

static size_t o200k(const ap_classes *classes, const char *p, const char *end)
{
    return cased(classes, p, end, true, 3);
}

static bool is_bloom_stop(uint32_t c)
{
    switch (c) {
    case '(': case ')': case '|': case '.': case ',': case '!': case '?':
    case 0x2026: case 0x3002: case 0xff0c: case 0x3001: case 0x0964: case 0x06d4: case 0x060c:
        return true;
    default:
        return false;
    }
}

/* " ?[^(\s|.,!?…。，、।۔،)]+": a set, whatever it was meant to be */
static size_t bloom(const ap_classes *classes, const char *p, const char *end)
{
    const char *start = p + (*p == ' '), *q = start;
    size_t n;
    uint32_t code;
    while (q < end && !(ap_class_at(classes, q, end, &n, &code) & SPACE) && !is_bloom_stop(code))
        q += n;
    return q > start ? (size_t)(q - p) : 0;
}

static const ap_split splits[] = {
    {"default", {default_punct, gpt2, digits, ascii_digits_3}},
    {"gpt-2 mpt olmo jais phi-2 roberta-bpe", {gpt2}},
    {"llama-bpe llama3 llama-v3 falcon3 pixtral lfm2", {llama3}, .adds_bos = true, .ignores_merges = true},
    {"dbrx smaug-bpe chatglm-bpe glm4", {llama3}},
    {"qwen2 stablelm2 deepseek-r1-qwen megrez hunyuan", {qwen2}},
    {"qwen35", {qwen35}},
    {"falcon", {falcon_punct, gpt2, ascii_digits_3}},
    {"starcoder refact command-r smollm codeshell exaone minerva-7b mellum2", {digit, gpt2}},
    {"deepseek-coder", {newline, spaced_letters, spaced_punct, deepseek_coder_han, digit}},
    {"deepseek-v3", {digits_3, deepseek_v3_cjk, deepseek_v3}},
    {"tekken", {tekken}, .adds_bos = true, .ignores_merges = true},
    {"gpt-4o llama4 minimax-m2", {o200k}},
    {"bloom poro-chat gpt3-finnish", {bloom}},
    {"viking", {bloom, digit}},
};

enum { SPLIT_COUNT = sizeof splits / sizeof splits[0] };

const ap_split *ap_split_find(ap_str name)
{
    for (unsigned i = 0; i < SPLIT_COUNT && name.len; i++) {
        const char *p = splits[i].names;
        while (*p) {
            size_t n = strcspn(p, " ");
            if (n == name.len && memcmp(p, name.ptr, n) == 0)
                return &splits[i];
            p += n + (p[n] == ' ');
        }
    }
    return NULL;
}

ap_status ap_split_names(ap_buf *out, ap_error *err)
{
    for (unsigned i = 0; i < SPLIT_COUNT; i++) {
        const char *p = splits[i].names;
        while (*p) {
            size_t n = strcspn(p, " ");
            if (out->len)
                AP_TRY(ap_buf_add(out, ", ", 2, err));
            AP_TRY(ap_buf_add(out, p, n, err));
            p += n + (p[n] == ' ');
        }
    }
    return AP_OK;
}

void ap_splitter_begin(ap_splitter *splitter, const ap_classes *classes, const ap_split *split, ap_str text)
{
    *splitter = (ap_splitter){.classes = classes, .split = split, .p = text.ptr};
    while (split->stages[splitter->depth])
        splitter->depth++;
    splitter->ends[0] = text.ptr + text.len;
    for (unsigned i = 1; i <= splitter->depth; i++)
        splitter->ends[i] = text.ptr;
}

/* The end of the match that starts at p, or of the gap before the next match. */
static const char *piece_end(const ap_classes *classes, ap_split_stage *stage, const char *p, const char *end)
{
    size_t n = stage(classes, p, end);
    if (n)
        return p + n;
    do {
        class_at(classes, p, end, &n);
        p += n;
    } while (p < end && !stage(classes, p, end));
    return p;
}

bool ap_splitter_next(ap_splitter *splitter, ap_str *word)
{
    unsigned level = splitter->depth;
    while (splitter->p == splitter->ends[level])
        if (level-- == 0)
            return false;
    for (; level < splitter->depth; level++)
        splitter->ends[level + 1] =
            piece_end(splitter->classes, splitter->split->stages[level], splitter->p, splitter->ends[level]);
    *word = (ap_str){splitter->p, (size_t)(splitter->ends[level] - splitter->p)};
    splitter->p = splitter->ends[level];
    return true;
}
