/* flips.h - one feature of an open model taken away, to see that a golden record notices.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef AP_GOLDEN_FLIPS_H
#define AP_GOLDEN_FLIPS_H

#include "model/model.h"

typedef struct ap_flip {
    const char *name;
    bool (*apply)(ap_model *model); /* false: the model has no such feature */
} ap_flip;

extern const ap_flip ap_flips[];
extern const size_t ap_flip_count;

#endif
