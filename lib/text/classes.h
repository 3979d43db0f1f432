/* classes.h - what kind of character a code point is, as pre-tokenizers ask.
 *
 * One byte per code point of planes 0 and 1 (where nearly all text lives), filled once from utf8proc; above that
 * utf8proc is asked each time.  Unicode's version is that of the installed utf8proc.
 *
 * Inside lib/text only.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEXT_CLASSES_H
#define AP_TEXT_CLASSES_H

#include "base/utf8.h"

enum {
    AP_CLASS_LETTER = 1, /* L */
    AP_CLASS_NUMBER = 2, /* N */
    AP_CLASS_PUNCT = 4,  /* P */
    AP_CLASS_SYMBOL = 8, /* S */
    AP_CLASS_MARK = 16,  /* M */
    AP_CLASS_SPACE = 32, /* the property White_Space */
    AP_CLASS_UPPER = 64, /* Lu, Lt */
    AP_CLASS_LOWER = 128 /* Ll */
};

enum { AP_CLASSES_FLAT = 0x20000 };

typedef struct ap_classes {
    uint8_t flat[AP_CLASSES_FLAT];
} ap_classes;

void ap_classes_fill(ap_classes *classes);
unsigned ap_class_compute(uint32_t code);
/* Nd */
bool ap_class_is_decimal(uint32_t code);
/* What the components Punctuation and BertPreTokenizer cut out: the symbols of ASCII, too, and P as Unicode 8 had it, which
 * the reference keeps to. */
bool ap_class_is_cut_punct(unsigned class, uint32_t code);
/* Mn as Unicode 8 had it, which BERT drops. */
bool ap_class_is_cut_nonspacing(uint32_t code);
/* Is its own normal form and joins nothing, since the reference's forms are those of Unicode 9. */
bool ap_class_is_own_form(uint32_t code);
/* What \w matches: Alphabetic, M, Nd, Pc and the two joiners. */
bool ap_class_is_word(uint32_t code);

static inline unsigned ap_class_of(const ap_classes *classes, uint32_t code)
{
    return code < AP_CLASSES_FLAT ? classes->flat[code] : ap_class_compute(code);
}

/* The class, length and code point of the character at p < end; an invalid part counts as U+FFFD. */
static inline unsigned ap_class_at(const ap_classes *classes, const char *p, const char *end, size_t *length,
                                   uint32_t *code)
{
    unsigned char lead = (unsigned char)*p;
    if (lead < 0x80) {
        *length = 1;
        *code = lead;
        return classes->flat[lead];
    }
    int32_t c = ap_utf8_next(p, (size_t)(end - p), length);
    *code = c < 0 ? 0xfffd : (uint32_t)c;
    return ap_class_of(classes, *code);
}

#endif
