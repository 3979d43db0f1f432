/* A passport of a stranger, as it lies beside a file.
 *
 * Holds: a refusal is one line; what is taken has digests of 64 digits and finite figures, and comes back from its own JSON
 * as it was.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "store/passport.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hold(bool condition)
{
    if (!condition)
        abort();
}

static void hold_same(const ap_passport *p)
{
    json_t *root = ap_passport_json(p);
    char *text = root ? json_dumps(root, JSON_REAL_PRECISION(17)) : NULL;
    ap_passport again;
    hold(text && ap_passport_parse(ap_str_from(text), &again, NULL) == AP_OK);
    hold(strcmp(again.sha256, p->sha256) == 0 && strcmp(again.text, p->text) == 0 && again.created == p->created);
    hold(again.measure.kl_mean == p->measure.kl_mean && again.measure.predictions == p->measure.predictions);
    free(text);
    json_decref(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ap_passport p;
    ap_error err = {0};
    if (ap_passport_parse((ap_str){(const char *)data, size}, &p, &err) != AP_OK) {
        hold(err.message[0] && !strchr(err.message, '\n'));
        return 0;
    }
    hold(strlen(p.sha256) == 64 && strlen(p.parent_sha256) == 64 && strlen(p.text_sha256) == 64);
    hold(isfinite(p.measure.kl_mean) && isfinite(p.measure.nll) && p.measure.predictions > 0);
    hold_same(&p);
    return 0;
}
