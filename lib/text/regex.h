/* regex.h - an expression out of a stranger's tokenizer.json, in PCRE2.
 *
 * The expressions of known families have scanners of their own (split.c).  For others, what the reference's engine
 * (Oniguruma) means is written in PCRE2's terms: `^` and `$` are at lines, \s is White_Space, \w has marks and joiners,
 * groups capture nothing.  What has no equal there is refused by name: back references, classes in classes, \b's
 * relatives, options other than i.
 *
 * No expression can hold up a worker: there is no JIT; every item PCRE2 tries and every character it walks over is a
 * *step*, and the steps are counted.  AP_REGEX_STEPS_PER_BYTE of them for each byte of text is far more than known
 * expressions take (about 30); beyond that the text is refused, always at the same place.  So time is linear or ends.
 *
 * Inside lib/text only.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEXT_REGEX_H
#define AP_TEXT_REGEX_H

#include "base/str.h"

enum {
    AP_REGEX_BYTES_MAX = 4096,
    AP_REGEX_REPEAT_MAX = 1000,       /* {n,m}: what is repeated so is one step */
    AP_REGEX_NESTING_MAX = 32,
    AP_REGEX_STEPS_PER_BYTE = 128,
    AP_REGEX_STEPS_MIN = 1 << 21,     /* for a call, however short its text: some hundredths of a second */
    AP_REGEX_HEAP_KIB_MAX = 256 << 10 /* for going back; 10 MB of one character take less in known expressions */
};

typedef struct ap_regex ap_regex;

/* AP_E_LIMIT, AP_E_UNSUPPORTED name what is too much or not known.  The pattern may be freed. */
ap_status ap_regex_compile(ap_regex **out, ap_str pattern, ap_error *err);
void ap_regex_destroy(ap_regex **regex);

/* Working memory of one thread; zero is valid. */
typedef struct ap_regex_run {
    void *data, *context;
    uint64_t steps; /* left; see ap_regex_allow */
    size_t at;      /* where the last step was */
    bool is_used;
} ap_regex_run;

void ap_regex_run_deinit(ap_regex_run *run);
/* Steps for so many bytes of text more. */
static inline void ap_regex_allow(ap_regex_run *run, size_t bytes)
{
    run->steps += (uint64_t)bytes * AP_REGEX_STEPS_PER_BYTE + (run->is_used ? 0 : AP_REGEX_STEPS_MIN);
    run->is_used = true;
}
/* The first match in text (valid UTF-8) at or after `from`: *begin to *end, or *begin = SIZE_MAX for none.  AP_E_LIMIT
 * when steps or memory have ended. */
ap_status ap_regex_find(const ap_regex *regex, ap_regex_run *run, ap_str text, size_t from, size_t *begin, size_t *end,
                        ap_error *err);

#endif
