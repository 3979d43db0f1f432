/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"

int32_t ap_utf8_next(const char *p, size_t n, size_t *length)
{
    const unsigned char *b = (const unsigned char *)p;
    unsigned lead = b[0];
    *length = 1;
    if (lead < 0x80)
        return (int32_t)lead;
    size_t need;
    unsigned low = 0x80, high = 0xbf; /* allowed range of the second byte */
    uint32_t code;
    if (lead >= 0xc2 && lead <= 0xdf) {
        need = 2;
        code = lead & 0x1f;
    } else if (lead >= 0xe0 && lead <= 0xef) {
        need = 3;
        code = lead & 0x0f;
        if (lead == 0xe0)
            low = 0xa0; /* below: overlong */
        if (lead == 0xed)
            high = 0x9f; /* above: surrogates */
    } else if (lead >= 0xf0 && lead <= 0xf4) {
        need = 4;
        code = lead & 0x07;
        if (lead == 0xf0)
            low = 0x90;
        if (lead == 0xf4)
            high = 0x8f;
    } else {
        return AP_UTF8_BAD;
    }
    for (size_t i = 1; i < need; i++) {
        *length = i;
        if (i >= n)
            return AP_UTF8_SHORT;
        if (b[i] < low || b[i] > high)
            return AP_UTF8_BAD;
        code = code << 6 | (b[i] & 0x3fu);
        low = 0x80;
        high = 0xbf;
    }
    *length = need;
    return (int32_t)code;
}

size_t ap_utf8_put(uint32_t code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

bool ap_utf8_valid(ap_str text)
{
    size_t length;
    for (size_t i = 0; i < text.len; i += length)
        if (ap_utf8_next(text.ptr + i, text.len - i, &length) < 0)
            return false;
    return true;
}

/* Controls move the cursor (terminals take U+0080 to U+009F for them too), marks of direction reorder what stands
 * around them. */
bool ap_utf8_is_inert(int32_t code)
{
    bool is_control = code < 0x20 || (code >= 0x7f && code < 0xa0); /* AP_UTF8_BAD and AP_UTF8_SHORT are below 0x20 */
    bool is_separator = code == 0x2028 || code == 0x2029;
    bool is_direction = (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) || code == 0x200e ||
                        code == 0x200f || code == 0x061c;
    return !is_control && !is_separator && !is_direction;
}

size_t ap_utf8_tail(ap_str text)
{
    for (size_t back = 1; back <= 3 && back <= text.len; back++) {
        size_t length;
        unsigned char lead = (unsigned char)text.ptr[text.len - back];
        if ((lead & 0xc0) == 0x80)
            continue;
        return ap_utf8_next(text.ptr + text.len - back, back, &length) == AP_UTF8_SHORT ? back : 0;
    }
    return 0;
}

ap_status ap_utf8_add_lossy(ap_buf *out, ap_str text, ap_error *err)
{
    size_t length, start = 0;
    for (size_t i = 0; i < text.len; i += length) {
        if (ap_utf8_next(text.ptr + i, text.len - i, &length) >= 0)
            continue;
        AP_TRY(ap_buf_add(out, text.ptr + start, i - start, err));
        AP_TRY(ap_buf_add(out, "\xef\xbf\xbd", 3, err));
        start = i + length;
    }
    return text.len > start ? ap_buf_add(out, text.ptr + start, text.len - start, err) : AP_OK;
}
