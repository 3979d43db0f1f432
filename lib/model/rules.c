/* SPDX-License-Identifier: Apache-2.0 */
#include "model/rules.h"

#include <stdio.h>

static uint32_t extent(ap_extent which, const ap_hparams *s)
{
    switch (which) {
    case AP_EXTENT_NONE:
        return 0;
    case AP_EXTENT_WIDTH:
        return s->width;
    case AP_EXTENT_Q:
        return s->head_count * s->head_width;
    case AP_EXTENT_KV:
        return s->kv_head_count * s->head_width;
    case AP_EXTENT_FFN:
        return s->ffn_width;
    case AP_EXTENT_VOCAB:
        return s->vocab_count;
    case AP_EXTENT_ROPE_HALF:
        return s->rope_width / 2;
    }
    return 0;
}

static ap_status want(const ap_tensor_rule *rule, uint32_t layer, const ap_hparams *sizes, ap_wanted_fn *fn,
                      void *context, ap_error *err)
{
    ap_wanted wanted = {
        .rule = rule, .layer = layer, .columns = extent(rule->columns, sizes), .rows = extent(rule->rows, sizes)};
    if (layer == AP_LAYER_NONE)
        (void)snprintf(wanted.name, sizeof wanted.name, "%s", rule->gguf_name);
    else
        (void)snprintf(wanted.name, sizeof wanted.name, "blk.%u.%s", layer, rule->gguf_name);
    return fn(context, &wanted, err);
}

ap_status ap_rules_walk(const ap_arch *arch, const ap_hparams *sizes, ap_wanted_fn *fn, void *context, ap_error *err)
{
    for (size_t i = 0; i < arch->tensor_count; i++) {
        const ap_tensor_rule *rule = &arch->tensors[i];
        if (rule->role < AP_ROLE_LAYER_FIRST)
            AP_TRY(want(rule, AP_LAYER_NONE, sizes, fn, context, err));
    }
    for (uint32_t layer = 0; layer < sizes->layer_count; layer++)
        for (size_t i = 0; i < arch->tensor_count; i++) {
            const ap_tensor_rule *rule = &arch->tensors[i];
            if (rule->role >= AP_ROLE_LAYER_FIRST)
                AP_TRY(want(rule, layer, sizes, fn, context, err));
        }
    return AP_OK;
}

ap_status ap_wanted_check(const ap_wanted *w, uint32_t dim_count, const uint64_t *dims, ap_error *err)
{
    bool is_vector = w->rule->rows == AP_EXTENT_NONE;
    uint64_t columns = dims[0], rows = dim_count > 1 ? dims[1] : 1;
    bool is_flat = (dim_count < 3 || dims[2] == 1) && (dim_count < 4 || dims[3] == 1);
    if (is_flat && columns == w->columns && rows == (is_vector ? 1 : w->rows))
        return AP_OK;
    return ap_fail(err, AP_E_FORMAT, "tensor '%s' has the shape [%" PRIu64 ", %" PRIu64 "]%s; [%u, %u] is needed", w->name,
                   columns, rows, is_flat ? "" : " and more dimensions", w->columns, is_vector ? 1 : w->rows);
}
