/* rules.h - a family's list of tensors, walked over the layers of one model.
 *
 * Import and open ask the same question: which tensor stands for which rule, and
 * has it the shape that the sizes demand?
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_MODEL_RULES_H
#define AP_MODEL_RULES_H

#include "model/arch.h"

enum { AP_LAYER_NONE = UINT32_MAX };

/* A tensor that the file should hold. */
typedef struct ap_wanted {
    const ap_tensor_rule *rule;
    uint32_t layer; /* AP_LAYER_NONE: stands once per model */
    uint32_t expert; /* 0 if the rule is not of experts */
    char name[64];
    uint32_t columns, rows; /* rows 0: a vector; rows of the embedding are 0 until known */
    /* The same within a fused tensor, which has `fused_total` rows of these columns (of a vector: elements); it begins at
     * row (element) `fused_first`.  fused_total 0: there is none. */
    char fused_name[64];
    uint64_t fused_first, fused_total;
} ap_wanted;

/* Calls fn for every rule and layer; stops at the first failure and returns it. */
typedef ap_status ap_wanted_fn(void *context, const ap_wanted *wanted, ap_error *err);
ap_status ap_rules_walk(const ap_arch *arch, const ap_hparams *sizes, ap_wanted_fn *fn, void *context, ap_error *err);

/* Whether a tensor with these dimensions is what is wanted; AP_E_FORMAT says both shapes. */
ap_status ap_wanted_check(const ap_wanted *wanted, uint32_t dim_count, const uint64_t *dims, ap_error *err);
/* Whether these are the dimensions of the fused tensor. */
bool ap_wanted_is_fused(const ap_wanted *wanted, const uint64_t *dims);

#endif
