/* SPDX-License-Identifier: Apache-2.0 */
#include "text/classes.h"

#include <utf8proc.h>

static bool is_white_space(uint32_t code)
{
    return (code >= 0x09 && code <= 0x0d) || code == 0x20 || code == 0x85 || code == 0xa0 || code == 0x1680 ||
           (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 || code == 0x202f ||
           code == 0x205f || code == 0x3000;
}

unsigned ap_class_compute(uint32_t code)
{
    unsigned space = is_white_space(code) ? AP_CLASS_SPACE : 0;
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
        return AP_CLASS_LETTER | AP_CLASS_UPPER;
    case UTF8PROC_CATEGORY_LL:
        return AP_CLASS_LETTER | AP_CLASS_LOWER;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return AP_CLASS_LETTER;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return AP_CLASS_MARK;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return AP_CLASS_NUMBER;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
        return AP_CLASS_PUNCT;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO:
        return AP_CLASS_SYMBOL;
    default:
        return space;
    }
}

bool ap_class_is_decimal(uint32_t code)
{
    return utf8proc_category((utf8proc_int32_t)code) == UTF8PROC_CATEGORY_ND;
}

bool ap_class_is_word(uint32_t code)
{
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    case UTF8PROC_CATEGORY_SO: /* letters in circles and squares */
        return (code >= 0x24b6 && code <= 0x24e9) || (code >= 0x1f130 && code <= 0x1f149) ||
               (code >= 0x1f150 && code <= 0x1f169) || (code >= 0x1f170 && code <= 0x1f189);
    default:
        return code == 0x200c || code == 0x200d || (ap_class_compute(code) & (AP_CLASS_LETTER | AP_CLASS_MARK));
    }
}

/* ---- What the reference keeps as Unicode 8 or 9 had it ----------------------------------------------------------- */

typedef struct range {
    uint32_t first, last;
} range;

/* Ascending ranges. */
static bool is_in(const range *ranges, size_t count, uint32_t code)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (code > ranges[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && code >= ranges[low].first;
}

/* P that came with Unicode 9 to 15. */
static const range newer_punct[] = {
    {0x61d, 0x61d},     {0x9fd, 0x9fd},     {0xa76, 0xa76},     {0xc77, 0xc77},     {0xc84, 0xc84},     {0x1b7d, 0x1b7e},
    {0x2e43, 0x2e4f},   {0x2e52, 0x2e5d},   {0x10ead, 0x10ead}, {0x10f55, 0x10f59}, {0x10f86, 0x10f89}, {0x1144b, 0x1144f},
    {0x1145a, 0x1145b}, {0x1145d, 0x1145d}, {0x11660, 0x1166c}, {0x116b9, 0x116b9}, {0x1183b, 0x1183b}, {0x11944, 0x11946},
    {0x119e2, 0x119e2}, {0x11a3f, 0x11a46}, {0x11a9a, 0x11a9c}, {0x11a9e, 0x11aa2}, {0x11b00, 0x11b09}, {0x11c41, 0x11c45},
    {0x11c70, 0x11c71}, {0x11ef7, 0x11ef8}, {0x11f43, 0x11f4f}, {0x11fff, 0x11fff}, {0x12ff1, 0x12ff2}, {0x16e97, 0x16e9a},
    {0x16fe2, 0x16fe2}, {0x1e95e, 0x1e95f}};

/* Where all Mn is newer. */
static const range newer_nonspacing[] = {
    {0x7fd, 0x7fd},     {0x898, 0x8e1},     {0x9fe, 0x9fe},     {0xafa, 0xaff},     {0xb55, 0xb55},     {0xc04, 0xc3c},
    {0xd00, 0xd00},     {0xd3b, 0xd3c},     {0xd81, 0xd81},     {0xeba, 0xeba},     {0xece, 0xece},     {0x180f, 0x1886},
    {0x1abf, 0x1ace},   {0x1df6, 0x1dfb},   {0xa82c, 0xa82c},   {0xa8c5, 0xa8c5},   {0xa8ff, 0xa8ff},   {0xa9bd, 0xa9bd},
    {0x10d24, 0x10f85}, {0x11070, 0x11074}, {0x110c2, 0x110c2}, {0x111c9, 0x111c9}, {0x111cf, 0x111cf}, {0x1123e, 0x11241},
    {0x1133b, 0x1133b}, {0x11438, 0x1145e}, {0x1182f, 0x13455}, {0x16f4f, 0x16f4f}, {0x16fe4, 0x16fe4}, {0x1cf00, 0x1cf46},
    {0x1e000, 0x1e4ef}, {0x1e944, 0x1e94a}};

/* Where all that has a combining class or a decomposition came with Unicode 10 to 15; and U+11930, which ends a new composition. */
static const range newer_forms[] = {
    {0x7fd, 0x7fd},     {0x898, 0x8d3},     {0x9fe, 0x9fe},     {0xc3c, 0xc3c},     {0xd3b, 0xd3c},     {0xeba, 0xeba},
    {0x1715, 0x1715},   {0x1abf, 0x1ace},   {0x1df6, 0x1dfa},   {0x32ff, 0x32ff},   {0xa7f2, 0xa7f4},   {0xa82c, 0xa82c},
    {0xab69, 0xab69},   {0x10781, 0x107ba}, {0x10d24, 0x10f85}, {0x11070, 0x11070}, {0x1133b, 0x1133b}, {0x1145e, 0x1145e},
    {0x11839, 0x11a99}, {0x11d42, 0x11f42}, {0x16ff0, 0x16ff1}, {0x1e030, 0x1e4ef}, {0x1f16c, 0x1f16c}, {0x1fbf0, 0x1fbf9}};

bool ap_class_is_own_form(uint32_t code)
{
    return is_in(newer_forms, sizeof newer_forms / sizeof newer_forms[0], code);
}

bool ap_class_is_cut_punct(unsigned class, uint32_t code)
{
    if (!(class & AP_CLASS_PUNCT)) /* two were P and are no longer */
        return (code < 0x80 && (class & AP_CLASS_SYMBOL)) || code == 0x166d || code == 0x111c9;
    return !is_in(newer_punct, sizeof newer_punct / sizeof newer_punct[0], code);
}

bool ap_class_is_cut_nonspacing(uint32_t code)
{
    if (utf8proc_category((utf8proc_int32_t)code) != UTF8PROC_CATEGORY_MN)
        return code == 0x1734; /* was Mn */
    return !is_in(newer_nonspacing, sizeof newer_nonspacing / sizeof newer_nonspacing[0], code);
}

void ap_classes_fill(ap_classes *classes)
{
    for (uint32_t code = 0; code < AP_CLASSES_FLAT; code++)
        classes->flat[code] = (uint8_t)ap_class_compute(code);
}
