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

/* The family of cl100k: `word` is LETTER or LETTER | MARK, written W below, `digits` how many numbers go together;
 * without `lines` the [\r\n]* after other characters is not there.
 * (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?W+|\p{N}{1,digits}| ?[^\sW\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static inline size_t cl100k(const ap_classes *classes, const char *p, const char *end, unsigned word, unsigned digits,
                            bool lines)
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
        while (lines && q < end && is_newline(*q))
            q++;
        return (size_t)(q - p);
    }
    return white(classes, p, end, true);
}

static size_t llama3(const ap_classes *classes, const char *p, const char *end)
{
    return cl100k(classes, p, end, LETTER, 3, true);
}

static size_t qwen2(const ap_classes *classes, const char *p, const char *end)
{
    return cl100k(classes, p, end, LETTER, 1, true);
}

static size_t qwen35(const ap_classes *classes, const char *p, const char *end)
{
    return cl100k(classes, p, end, LETTER | MARK, 1, true);
}

static size_t seed_coder(const ap_classes *classes, const char *p, const char *end)
{
    return cl100k(classes, p, end, LETTER, 1, false);
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

/* Punctuation of Unicode 8 and all symbols of ASCII: the component Punctuation. */
static size_t component_punct(const ap_classes *classes, const char *p, const char *end)
{
    const char *q = p;
    size_t n;
    uint32_t code;
    for (; q < end; q += n) {
        unsigned class = ap_class_at(classes, q, end, &n, &code);
        if (!ap_class_is_cut_punct(class, code))
            break;
    }
    return (size_t)(q - p);
}

/* [\p{P}…]+ with these symbols */
static size_t punct_and(const ap_classes *classes, const char *p, const char *end, const char *symbols)
{
    const char *q = p;
    size_t n;
    for (; q < end; q += n)
        if (!(class_at(classes, q, end, &n) & PUNCT) && !(n == 1 && *q && strchr(symbols, *q)))
            break;
    return (size_t)(q - p);
}

/* [\p{P}$+<=>^~|]+, and with ` as well */
static size_t default_punct(const ap_classes *c, const char *p, const char *end) { return punct_and(c, p, end, "$+<=>^~|"); }
static size_t falcon_punct(const ap_classes *c, const char *p, const char *end) { return punct_and(c, p, end, "$+<=>^~|`"); }

/* \s */
static size_t space(const ap_classes *classes, const char *p, const char *end)
{
    size_t n;
    return class_at(classes, p, end, &n) & SPACE ? n : 0;
}

static bool is_word(const ap_classes *classes, uint32_t code)
{
    if (code < 0x80)
        return (classes->flat[code] & (LETTER | NUMBER)) || code == '_';
    return ap_class_is_word(code);
}

/* \w+|[^\w\s]+ */
static size_t words(const ap_classes *classes, const char *p, const char *end)
{
    size_t n;
    uint32_t code;
    const char *q = p;
    bool first = true, in_word = false;
    for (; q < end; q += n) {
        unsigned class = ap_class_at(classes, q, end, &n, &code);
        bool word = is_word(classes, code);
        if ((class & SPACE) || (!first && word != in_word))
            break;
        in_word = word;
        first = false;
    }
    return (size_t)(q - p);
}

/* The component Digits behind ByteLevel: of the letters that stand for bytes, those that are numbers. */
static size_t byte_digits(const ap_classes *classes, const char *p, const char *end)
{
    const char *q = p;
    (void)classes;
    for (; q < end; q++) {
        uint8_t c = (uint8_t)*q;
        if (!((c >= '0' && c <= '9') || c == 0xb2 || c == 0xb3 || c == 0xb9 || (c >= 0xbc && c <= 0xbe)))
            break;
    }
    return (size_t)(q - p);
}

/* One of them alone, as the component Punctuation cuts. */
static size_t single_punct(const ap_classes *classes, const char *p, const char *end)
{
    size_t n;
    (void)class_at(classes, p, end, &n);
    return component_punct(classes, p, p + n);
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

/* The letters of deepseek-llm: those with case, as an older Unicode knew them. */
static const struct {
    uint32_t first, last;
} cased_letters[] = {
    {0x41, 0x5a}, {0x61, 0x7a}, {0xb5, 0xb5}, {0xc0, 0xd6}, {0xd8, 0xf6}, {0xf8, 0x1ba}, {0x1bc, 0x1bf},
    {0x1c4, 0x293}, {0x295, 0x2af}, {0x370, 0x373}, {0x376, 0x376}, {0x377, 0x377}, {0x37b, 0x37d},
    {0x37f, 0x37f}, {0x386, 0x386}, {0x388, 0x38a}, {0x38c, 0x38c}, {0x38e, 0x3a1}, {0x3a3, 0x3f5},
    {0x3f7, 0x481}, {0x48a, 0x52f}, {0x531, 0x556}, {0x10a0, 0x10c5}, {0x13a0, 0x13f5}, {0x13f8, 0x13fd},
    {0x1c90, 0x1cba}, {0x1cbd, 0x1cbf}, {0x1d00, 0x1d2b}, {0x1d6b, 0x1d77}, {0x1d79, 0x1d9a},
    {0x1e00, 0x1f15}, {0x1f18, 0x1f1d}, {0x1f20, 0x1f45}, {0x1f48, 0x1f4d}, {0x1f50, 0x1f57},
    {0x1f59, 0x1f59}, {0x1f5b, 0x1f5b}, {0x1f5d, 0x1f5d}, {0x1f5f, 0x1f7d}, {0x1f80, 0x1fb4},
    {0x1fb6, 0x1fbc}, {0x1fbe, 0x1fbe}, {0x1fc2, 0x1fc4}, {0x1fc6, 0x1fcc}, {0x1fd0, 0x1fd3},
    {0x1fd6, 0x1fdb}, {0x1fe0, 0x1fec}, {0x1ff2, 0x1ff4}, {0x1ff6, 0x1ffc}, {0x2102, 0x2102},
    {0x2107, 0x2107}, {0x210a, 0x2113}, {0x2115, 0x2115}, {0x2119, 0x211d}, {0x2124, 0x2124},
    {0x2126, 0x2126}, {0x2128, 0x2128}, {0x212a, 0x212d}, {0x212f, 0x2134}, {0x2139, 0x2139},
    {0x213c, 0x213f}, {0x2145, 0x2149}, {0x214e, 0x214e}, {0x2183, 0x2183}, {0x2184, 0x2184},
    {0x2c00, 0x2c7b}, {0x2c7e, 0x2ce4}, {0x2ceb, 0x2cee}, {0x2cf2, 0x2cf2}, {0x2cf3, 0x2cf3},
    {0xa640, 0xa66d}, {0xa680, 0xa69b}, {0xa722, 0xa76f}, {0xa771, 0xa787}, {0xa78b, 0xa78e},
    {0xab70, 0xabbf}, {0xfb00, 0xfb06}, {0xfb13, 0xfb17}, {0xff21, 0xff3a}, {0xff41, 0xff5a},
    {0x10400, 0x1044f}, {0x104b0, 0x104d3}, {0x104d8, 0x104fb}, {0x10c80, 0x10cb2}, {0x10cc0, 0x10cf2},
    {0x118a0, 0x118df}, {0x1e900, 0x1e943},
};

static bool is_cased_letter(uint32_t code)
{
    size_t low = 0, high = sizeof cased_letters / sizeof cased_letters[0];
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (code > cased_letters[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    return low < sizeof cased_letters / sizeof cased_letters[0] && code >= cased_letters[low].first;
}

/* [!-/:-~！-／：-～‘-‟　-。] */
static bool is_llm_punct(uint32_t c)
{
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '~') || (c >= 0xff01 && c <= 0xff0f) || (c >= 0xff1a && c <= 0xff5e) ||
           (c >= 0x2018 && c <= 0x201f) || (c >= 0x3000 && c <= 0x3002);
}

typedef bool code_test(uint32_t code);

/* \s?C+ for a set C that shares no character with \s but perhaps U+3000, which then begins either way. */
static inline size_t spaced_codes(const ap_classes *classes, const char *p, const char *end, code_test *test)
{
    size_t n;
    uint32_t code;
    unsigned class = ap_class_at(classes, p, end, &n, &code);
    const char *q = p, *start = class & SPACE ? p + n : p;
    for (q = start; q < end; q += n) {
        (void)ap_class_at(classes, q, end, &n, &code);
        if (!test(code))
            break;
    }
    if (q > start)
        return (size_t)(q - p);
    return start > p && test(0x3000) && (uint8_t)p[0] == 0xe3 ? (size_t)(start - p) : 0;
}

static size_t llm_letters(const ap_classes *classes, const char *p, const char *end)
{
    return spaced_codes(classes, p, end, is_cased_letter);
}

static size_t llm_punct(const ap_classes *classes, const char *p, const char *end)
{
    return spaced_codes(classes, p, end, is_llm_punct);
}

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
    if ((uint8_t)*p < 0x80 && (class & (PUNCT | SYMBOL)) && p + 1 < end && is_ascii_letter(p[1])) {
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

/* [^\n]+|[\n]+ */
static size_t lines(const ap_classes *classes, const char *p, const char *end)
{
    (void)classes;
    const char *q = p;
    if (*p != '\n') {
        q = memchr(p, '\n', (size_t)(end - p));
        return (size_t)((q ? q : end) - p);
    }
    while (q < end && *q == '\n')
        q++;
    return (size_t)(q - p);
}

/* U+2581 begins a word: what the component Metaspace cuts. */
static size_t metaspace(const ap_classes *classes, const char *p, const char *end)
{
    (void)classes;
    const char *q = memmem(p + 1, (size_t)(end - p) - 1, AP_METASPACE, sizeof AP_METASPACE - 1);
    return (size_t)((q ? q : end) - p);
}

/* The expressions in parts that several share. */
#define WHITE "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define GPT2_WORDS "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+"
#define CL100K(word, digits, other) CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?" word "+|" digits "| ?" other "|" WHITE
/* The same with possessive quantifiers, which change nothing here: \s*[\r\n] ends at the last newline as well. */
#define TIKTOKEN(digits, newlines) \
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|" newlines \
    "|\\s+(?!\\S)|\\s+"
#define HIGH "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOW "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(tail, digits)                                                                            \
    "[^\\r\\n\\p{L}\\p{N}]?" HIGH "*" LOW "+" tail "|[^\\r\\n\\p{L}\\p{N}]?" HIGH "+" LOW "*" tail "|" digits \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" WHITE

#define LLM_LETTERS \
    "\\s?[" \
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370" \
    "-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-" \
    "\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-" \
    "\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-" \
    "\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4" \
    "\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a" \
    "-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-" \
    "\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-" \
    "\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-" \
    "\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-" \
    "\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943" \
    "]+"

/* A scanner and the expressions, as files spell them, that it matches; the first stands for all.  A carriage return and
 * a newline may stand in a file as themselves. */
enum { SPELLINGS_MAX = 4 };
static const struct {
    ap_scan *scan; /* NULL: see piece_end */
    const char *expressions[SPELLINGS_MAX];
} scanners[] = {
    [AP_SCAN_GPT2] = {gpt2, {GPT2_WORDS "|\\s+(?!\\S)|\\s+", GPT2_WORDS "|\\s+(?!\\S)"}},
    [AP_SCAN_LLAMA3] = {llama3, {CL100K("\\p{L}", "\\p{N}{1,3}", "[^\\s\\p{L}\\p{N}]+[\\r\\n]*"),
                                 TIKTOKEN("\\p{N}{1,3}", "\\s*[\\r\\n]"), TIKTOKEN("\\p{N}{1,3}", "\\s*[\\r\\n]+")}},
    [AP_SCAN_QWEN2] = {qwen2, {CL100K("\\p{L}", "\\p{N}", "[^\\s\\p{L}\\p{N}]+[\\r\\n]*"),
                               TIKTOKEN("\\p{N}", "\\s*[\\r\\n]"), TIKTOKEN("\\p{N}", "\\s*[\\r\\n]+"),
                               CL100K("\\p{L}", "\\p{N}{1}", "[^\\s\\p{L}\\p{N}]+[\\r\\n]*")}},
    [AP_SCAN_QWEN35] = {qwen35, {CL100K("[\\p{L}\\p{M}]", "\\p{N}", "[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*")}},
    [AP_SCAN_SEED_CODER] = {seed_coder, {CL100K("\\p{L}", "\\p{N}{1}", "[^\\s\\p{L}\\p{N}\\r\\n]+"),
                                         CL100K("\\p{L}", "\\p{N}", "[^\\s\\p{L}\\p{N}\\r\\n]+")}},
    [AP_SCAN_TEKKEN] = {tekken, {CASED("", "\\p{N}")}},
    [AP_SCAN_O200K] = {o200k, {CASED(CONTRACTION "?", "\\p{N}{1,3}")}},
    [AP_SCAN_DEEPSEEK_V3] = {deepseek_v3,
                             {"[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
                              "| ?[\\p{P}\\p{S}]+[\\r\\n]*|" WHITE}},
    [AP_SCAN_DEEPSEEK_V3_CJK] = {deepseek_v3_cjk, {"[一-龥぀-ゟ゠-ヿ]+"}},
    [AP_SCAN_DEEPSEEK_HAN] = {deepseek_coder_han, {"[一-龥ࠀ-一가-퟿]+"}},
    [AP_SCAN_LLM_LETTERS] = {llm_letters, {LLM_LETTERS}},
    [AP_SCAN_LLM_PUNCT] = {llm_punct, {"\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"}},
    [AP_SCAN_NEWLINE] = {newline, {"[\\r\\n]"}},
    [AP_SCAN_SPACED_LETTERS] = {spaced_letters, {"\\s?\\p{L}+"}},
    [AP_SCAN_SPACED_PUNCT] = {spaced_punct, {"\\s?\\p{P}+"}},
    [AP_SCAN_TAIL] = {NULL, {"\\s+$"}},
    [AP_SCAN_DIGIT] = {digit, {"\\p{N}"}},
    [AP_SCAN_DIGITS] = {digits, {"\\p{N}+"}},
    [AP_SCAN_DIGITS_3] = {digits_3, {"\\p{N}{1,3}"}},
    [AP_SCAN_ASCII_DIGITS_3] = {ascii_digits_3, {"[0-9][0-9][0-9]"}},
    [AP_SCAN_DIGIT_GROUPS] = {NULL, {"(?=(\\d{3})+(?!\\d))"}},
    [AP_SCAN_PUNCT] = {single_punct, {"(?#Unicode 8)[\\p{P}\\$\\+<=>\\^~\\|`]"}},
    [AP_SCAN_PUNCT_RUN] = {component_punct, {"(?#Unicode 8)[\\p{P}\\$\\+<=>\\^~\\|`]+"}},
    [AP_SCAN_FALCON_PUNCT] = {falcon_punct, {"[\\p{P}\\$\\+<=>\\^~\\|`]+"}},
    [AP_SCAN_DEFAULT_PUNCT] = {default_punct, {"[\\p{P}\\$\\+<=>\\^~\\|]+"}},
    [AP_SCAN_BLOOM] = {bloom, {" ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+",
                               " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"}},
    [AP_SCAN_LINES] = {lines, {"[^\\n]+|[\\n]+"}},
    [AP_SCAN_SPACE] = {space, {"\\s"}},
    [AP_SCAN_WORDS] = {words, {"\\w+|[^\\w\\s]+"}},
    [AP_SCAN_BYTE_DIGITS] = {byte_digits, {"(?-u:[0-9\\xb2\\xb3\\xb9\\xbc-\\xbe]+)"}},
    [AP_SCAN_METASPACE] = {metaspace, {AP_METASPACE "[^" AP_METASPACE "]*|[^" AP_METASPACE "]+"}},
};

static const ap_split splits[] = {
    {"default", {AP_SCAN_DEFAULT_PUNCT, AP_SCAN_GPT2, AP_SCAN_DIGITS, AP_SCAN_ASCII_DIGITS_3}},
    {"gpt-2 mpt olmo jais phi-2 roberta-bpe", {AP_SCAN_GPT2}},
    {"llama-bpe llama3 llama-v3 falcon3 pixtral lfm2", {AP_SCAN_LLAMA3}, .adds_bos = true, .ignores_merges = true},
    {"dbrx smaug-bpe chatglm-bpe glm4", {AP_SCAN_LLAMA3}},
    {"qwen2 stablelm2 deepseek-r1-qwen megrez hunyuan bailingmoe", {AP_SCAN_QWEN2}},
    {"qwen35", {AP_SCAN_QWEN35}},
    {"seed-coder", {AP_SCAN_SEED_CODER}},
    {"falcon", {AP_SCAN_PUNCT_RUN, AP_SCAN_GPT2, AP_SCAN_ASCII_DIGITS_3}},
    {"starcoder refact command-r smollm codeshell exaone minerva-7b mellum2", {AP_SCAN_DIGIT, AP_SCAN_GPT2}},
    {"deepseek-llm", {AP_SCAN_NEWLINE, AP_SCAN_LLM_LETTERS, AP_SCAN_LLM_PUNCT, AP_SCAN_TAIL, AP_SCAN_DEEPSEEK_HAN, AP_SCAN_DIGITS}},
    {"deepseek-coder", {AP_SCAN_NEWLINE, AP_SCAN_SPACED_LETTERS, AP_SCAN_SPACED_PUNCT, AP_SCAN_DEEPSEEK_HAN, AP_SCAN_DIGIT}},
    {"deepseek-v3 joyai-llm", {AP_SCAN_DIGITS_3, AP_SCAN_DEEPSEEK_V3_CJK, AP_SCAN_DEEPSEEK_V3}},
    {"tekken", {AP_SCAN_TEKKEN}, .adds_bos = true, .ignores_merges = true},
    {"gpt-4o llama4 minimax-m2", {AP_SCAN_O200K}},
    {"bloom poro-chat gpt3-finnish", {AP_SCAN_BLOOM}},
    {"viking", {AP_SCAN_BLOOM, AP_SCAN_DIGIT}},
    {"superbpe", {AP_SCAN_DIGITS, AP_SCAN_DIGIT_GROUPS}},
};

enum { SPLIT_COUNT = sizeof splits / sizeof splits[0], SCANNER_COUNT = sizeof scanners / sizeof scanners[0] };

/* Whether `text` spells the expression, \r and \n perhaps as the characters themselves. */
static bool spells(ap_str text, const char *expression)
{
    size_t i = 0;
    for (; i < text.len && *expression; i++) {
        char c = text.ptr[i];
        if (is_newline(c) && expression[0] == '\\' && expression[1] == (c == '\n' ? 'n' : 'r'))
            expression += 2;
        else if (c == *expression)
            expression++;
        else
            return false;
    }
    return i == text.len && !*expression;
}

unsigned ap_split_scanner(ap_str expression)
{
    for (unsigned i = 1; i < SCANNER_COUNT; i++)
        for (unsigned k = 0; k < SPELLINGS_MAX && scanners[i].expressions[k]; k++)
            if (spells(expression, scanners[i].expressions[k]))
                return i;
    return AP_SCAN_NONE;
}

const char *ap_split_expression(unsigned scanner) { return scanners[scanner].expressions[0]; }

bool ap_split_covers(unsigned scanner)
{
    return scanner >= AP_SCAN_GPT2 && scanner <= AP_SCAN_O200K && scanner != AP_SCAN_SEED_CODER;
}

static const char *const mode_texts[] = {
    [AP_SPLIT_BOTH] = "", [AP_SPLIT_DROP_MATCHES] = "(?#drop matches)", [AP_SPLIT_DROP_GAPS] = "(?#drop gaps)",
    [AP_SPLIT_GLUE_BEFORE] = "(?#glue before)", [AP_SPLIT_GLUE_AFTER] = "(?#glue after)", [AP_SPLIT_JOIN] = "(?#join)"};

const char *ap_split_mode_text(ap_split_mode mode) { return mode_texts[mode]; }

ap_split_mode ap_split_take_mode(ap_str *expression)
{
    for (unsigned i = AP_SPLIT_BOTH + 1; i <= AP_SPLIT_JOIN; i++) {
        size_t n = strlen(mode_texts[i]);
        if (ap_str_starts(*expression, (ap_str){mode_texts[i], n})) {
            *expression = (ap_str){expression->ptr + n, expression->len - n};
            return (ap_split_mode)i;
        }
    }
    return AP_SPLIT_BOTH;
}

ap_status ap_split_add(ap_split *split, ap_str stage, ap_error *err)
{
    unsigned i = 0;
    while (split->stages[i])
        i++;
    if (i == AP_SPLIT_STAGES_MAX)
        return ap_fail(err, AP_E_LIMIT, "the pre-tokenizer has more than %d stages", AP_SPLIT_STAGES_MAX);
    ap_split_mode mode = ap_split_take_mode(&stage);
    unsigned scanner = ap_split_scanner(stage);
    ap_regex *regex = NULL;
    if (scanner == AP_SCAN_NONE)
        AP_TRY(ap_regex_compile(&regex, stage, err));
    else if (mode != AP_SPLIT_BOTH && !scanners[scanner].scan)
        return ap_fail(err, AP_E_UNSUPPORTED, "the pre-tokenizer's expression '%.*s' can only cut", (int)stage.len, stage.ptr);
    split->stages[i] = (uint8_t)(regex ? AP_SCAN_REGEX : scanner);
    split->how[i] = (ap_split_how){mode, regex};
    return AP_OK;
}

void ap_split_deinit(ap_split *split)
{
    for (unsigned i = 0; i < AP_SPLIT_STAGES_MAX; i++)
        ap_regex_destroy(&split->how[i].regex);
}

static bool has_usual_modes(const ap_split *split)
{
    for (unsigned i = 0; i < AP_SPLIT_STAGES_MAX; i++)
        if (split->how[i].mode != AP_SPLIT_BOTH || split->how[i].regex)
            return false;
    return true;
}

const ap_split *ap_split_same(const ap_split *split)
{
    for (unsigned i = 0; i < SPLIT_COUNT; i++)
        if (memcmp(splits[i].stages, split->stages, sizeof split->stages) == 0 && has_usual_modes(split) &&
            splits[i].ignores_merges == split->ignores_merges)
            return &splits[i];
    return NULL;
}

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

void ap_splitter_begin(ap_splitter *splitter, const ap_classes *classes, const ap_split *split, ap_str text, ap_regex_run *run,
                       ap_error *err)
{
    *splitter = (ap_splitter){.classes = classes, .split = split, .run = run, .p = text.ptr, .err = err};
    for (; split->stages[splitter->depth]; splitter->depth++)
        if (split->stages[splitter->depth] == AP_SCAN_REGEX)
            ap_regex_allow(run, text.len);
    splitter->ends[0] = text.ptr + text.len;
    splitter->begins[0] = text.ptr;
    for (unsigned i = 1; i <= splitter->depth; i++)
        splitter->ends[i] = text.ptr;
}

/* Where the whitespace at the end of p..end begins. */
static const char *tail_start(const ap_classes *classes, const char *p, const char *end)
{
    const char *tail = end;
    while (tail > p) {
        const char *q = tail - 1;
        while (q > p && tail - q < 4 && ((uint8_t)*q & 0xc0) == 0x80)
            q--;
        size_t n;
        if (!(class_at(classes, q, tail, &n) & SPACE) || q + n != tail)
            break;
        tail = q;
    }
    return tail;
}

/* (?=(\d{3})+(?!\d)) cuts before each position from which 3, 6, 9 … digits follow.  What is left of a run is counted
 * once: `grouped` remembers where a run ends that was cut at such a position already. */
static const char *group_end(ap_splitter *s, const char *p, const char *end)
{
    const char *q = p;
    size_t n;
    uint32_t code;
    if (s->grouped > p && s->grouped <= end) {
        for (unsigned i = 0; i < 3; i++) {
            (void)class_at(s->classes, q, s->grouped, &n);
            q += n;
        }
        if (q < s->grouped)
            return q;
    }
    while (q < end) {
        const char *run = q;
        size_t count = 0;
        while (q < end && (ap_class_at(s->classes, q, end, &n, &code) & NUMBER) && ap_class_is_decimal(code)) {
            q += n;
            count++;
        }
        size_t first = count % 3 ? count % 3 : run == p ? 3 : 0;
        if (count >= 3 && !(run == p && count == 3)) {
            s->grouped = q;
            for (; first; first--) {
                (void)class_at(s->classes, run, end, &n);
                run += n;
            }
            return run;
        }
        if (q < end) {
            (void)class_at(s->classes, q, end, &n);
            q += n;
        }
    }
    return end;
}

/* The end of the match that starts at p, or of the gap before the next match. */
static const char *scanned_end(ap_splitter *s, unsigned level, const char *p, const char *end)
{
    unsigned stage = s->split->stages[level];
    const char *tail;
    size_t n;
    if (stage == AP_SCAN_DIGIT_GROUPS)
        return group_end(s, p, end);
    if (stage == AP_SCAN_TAIL) { /* each position on its own would read a run of spaces again and again */
        tail = tail_start(s->classes, p, end);
        return tail > p ? tail : end;
    }
    ap_scan *scan = scanners[stage].scan;
    n = scan(s->classes, p, end);
    if (n)
        return p + n;
    do {
        class_at(s->classes, p, end, &n);
        p += n;
    } while (p < end && !scan(s->classes, p, end));
    return p;
}

/* The first match of an expression in p..end; one that is empty only counts behind p, where it cuts. */
static ap_status search(ap_splitter *s, unsigned level, const char *p, const char *end)
{
    ap_str text = {s->begins[level], (size_t)(end - s->begins[level])};
    size_t at = (size_t)(p - text.ptr), from = at, first, last, n;
    s->found[level].begin = s->found[level].end = end;
    for (;; from += n) {
        AP_TRY(ap_regex_find(s->split->how[level].regex, s->run, text, from, &first, &last, s->err));
        if (first == SIZE_MAX)
            return AP_OK;
        if (last > first || first > at)
            break;
        if (from == text.len)
            return AP_OK;
        (void)ap_utf8_next(text.ptr + from, text.len - from, &n);
    }
    s->found[level].begin = text.ptr + first;
    s->found[level].end = text.ptr + last;
    return AP_OK;
}

/* The first match at or behind p, or `end`; the one found last is asked first. */
static ap_status next_match(ap_splitter *s, unsigned level, const char *p, const char *end, const char **from, const char **to)
{
    unsigned stage = s->split->stages[level];
    const char *begin = s->found[level].begin;
    if (!begin || begin < p || (begin == p && s->found[level].end == p && p < end)) {
        if (stage == AP_SCAN_REGEX) {
            AP_TRY(search(s, level, p, end));
        } else {
            size_t n = 0, m;
            const char *q = p;
            while (q < end && !(n = scanners[stage].scan(s->classes, q, end))) {
                class_at(s->classes, q, end, &m);
                q += m;
            }
            s->found[level].begin = q;
            s->found[level].end = q + n;
        }
    }
    *from = s->found[level].begin;
    *to = s->found[level].end;
    return AP_OK;
}

/* The next piece of p..end, and whether it stays. */
static ap_status next_piece(ap_splitter *s, unsigned level, const char *p, const char *end, const char **to, bool *stays)
{
    ap_split_mode mode = s->split->how[level].mode;
    bool is_regex = s->split->stages[level] == AP_SCAN_REGEX;
    const char *from, *next;
    *stays = true;
    if (!is_regex && mode == AP_SPLIT_BOTH) {
        *to = scanned_end(s, level, p, end);
        return AP_OK;
    }
    if (is_regex) {
        size_t n;
        if (ap_utf8_next(p, (size_t)(end - p), &n) < 0) { /* a border, and a piece of its own */
            *to = p + n;
            s->begins[level] = p + n;
            return AP_OK;
        }
        if (s->valid_to[level] <= p) {
            const char *q = p;
            while (q < end && ap_utf8_next(q, (size_t)(end - q), &n) >= 0)
                q += n;
            s->valid_to[level] = q;
        }
        end = s->valid_to[level] < end ? s->valid_to[level] : end;
    }
    AP_TRY(next_match(s, level, p, end, &from, &next));
    bool is_match = from == p && next > p;
    *to = is_match ? next : from > p ? from : end;
    switch (mode) {
    case AP_SPLIT_DROP_MATCHES:
        *stays = !is_match;
        break;
    case AP_SPLIT_DROP_GAPS:
        *stays = is_match;
        break;
    case AP_SPLIT_GLUE_BEFORE:
        *to = next;
        break;
    case AP_SPLIT_GLUE_AFTER:
        if (is_match && next < end) {
            AP_TRY(next_match(s, level, next, end, &from, &next));
            *to = from;
        }
        break;
    case AP_SPLIT_JOIN:
        while (is_match && *to < end) {
            AP_TRY(next_match(s, level, *to, end, &from, &next));
            is_match = from == *to && next > from;
            *to = is_match ? next : *to;
        }
        break;
    default:
        break;
    }
    return AP_OK;
}

bool ap_splitter_next(ap_splitter *s, ap_str *word)
{
    unsigned level = s->depth;
    for (;;) {
        while (s->p == s->ends[level])
            if (level-- == 0)
                return false;
        if (level == s->depth)
            break;
        const char *end;
        bool stays;
        s->status = next_piece(s, level, s->p, s->ends[level], &end, &stays);
        if (s->status != AP_OK)
            return false;
        if (!stays) {
            s->p = end;
            continue;
        }
        level++;
        s->ends[level] = end;
        s->begins[level] = s->p;
        if (level < s->depth) {
            s->found[level].begin = NULL;
            s->valid_to[level] = NULL;
        }
    }
    *word = (ap_str){s->p, (size_t)(s->ends[level] - s->p)};
    s->p = s->ends[level];
    return true;
}
