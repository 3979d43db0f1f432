/* SPDX-License-Identifier: Apache-2.0 */
#include "model/rules.h"

#include <stdio.h>
#include <string.h>

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
    case AP_EXTENT_HEAD:
        return s->head_width;
    case AP_EXTENT_HEADS:
        return s->head_count;
    case AP_EXTENT_FFN:
        return s->ffn_width;
    case AP_EXTENT_EXPERT_FFN:
        return s->expert_ffn_width;
    case AP_EXTENT_EXPERTS:
        return s->expert_count;
    case AP_EXTENT_VOCAB:
        return s->vocab_count;
    case AP_EXTENT_CONTEXT:
        return s->context_tokens;
    case AP_EXTENT_TYPES:
        return s->type_count;
    case AP_EXTENT_LABELS:
        return s->label_count;
    case AP_EXTENT_ROPE_HALF:
        return s->rope_width / 2;
    }
    return 0;
}

/* "blk.3.ffn_gate.7.weight" of layer 3, expert 7 and "ffn_gate.%u.weight". */
static void write_name(char *out, size_t room, const char *name, uint32_t layer, uint32_t expert)
{
    const char *number = strchr(name, '%');
    int head = number ? (int)(number - name) : (int)strlen(name);
    size_t used = 0;
    if (layer != AP_LAYER_NONE)
        used = (size_t)snprintf(out, room, "blk.%u.", layer);
    used += (size_t)snprintf(out + used, room - used, "%.*s", head, name);
    if (number)
        (void)snprintf(out + used, room - used, "%u%s", expert, number + 2);
}

static void place_in_fused(ap_wanted *w, const ap_hparams *s)
{
    uint64_t q = extent(AP_EXTENT_Q, s), kv = extent(AP_EXTENT_KV, s), length = w->rows ? w->rows : w->columns;
    ap_role role = w->rule->role;
    switch (w->rule->fused) {
    case AP_FUSED_NONE:
        return;
    case AP_FUSED_QKV:
        w->fused_total = q + 2 * kv;
        w->fused_first = role == AP_ROLE_Q || role == AP_ROLE_Q_BIAS ? 0 : role == AP_ROLE_K || role == AP_ROLE_K_BIAS ? q : q + kv;
        break;
    case AP_FUSED_GATE_UP:
        w->fused_total = 2 * length;
        w->fused_first = role == AP_ROLE_GATE || role == AP_ROLE_GATE_BIAS ? 0 : length;
        break;
    case AP_FUSED_EXPERTS:
        w->fused_total = s->expert_count * length;
        w->fused_first = w->expert * length;
        break;
    }
    write_name(w->fused_name, sizeof w->fused_name, w->rule->fused_name, w->layer, 0);
}

static ap_status want(const ap_tensor_rule *rule, uint32_t layer, uint32_t expert, const ap_hparams *sizes, ap_wanted_fn *fn,
                      void *context, ap_error *err)
{
    ap_wanted wanted = {.rule = rule, .layer = layer, .expert = expert, .columns = extent(rule->columns, sizes),
                        .rows = extent(rule->rows, sizes)};
    write_name(wanted.name, sizeof wanted.name, rule->gguf_name, layer, expert);
    place_in_fused(&wanted, sizes);
    return fn(context, &wanted, err);
}

/* How often a rule of layers stands in each of them. */
static uint32_t times_per_layer(ap_role role, const ap_hparams *sizes)
{
    if (role >= AP_ROLE_EXPERT_FIRST)
        return sizes->expert_count;
    if (role >= AP_ROLE_ROUTER)
        return sizes->expert_count > 0;
    return role < AP_ROLE_DENSE_FIRST || sizes->expert_count == 0;
}

ap_status ap_rules_walk(const ap_arch *arch, const ap_hparams *sizes, ap_wanted_fn *fn, void *context, ap_error *err)
{
    for (size_t i = 0; i < arch->tensor_count; i++) {
        const ap_tensor_rule *rule = &arch->tensors[i];
        bool is_there = rule->role < AP_ROLE_HEAD_FIRST || sizes->label_count > 0;
        if (rule->role < AP_ROLE_LAYER_FIRST && is_there)
            AP_TRY(want(rule, AP_LAYER_NONE, 0, sizes, fn, context, err));
    }
    for (uint32_t layer = 0; layer < sizes->layer_count; layer++)
        for (size_t i = 0; i < arch->tensor_count; i++) {
            const ap_tensor_rule *rule = &arch->tensors[i];
            uint32_t times = rule->role >= AP_ROLE_LAYER_FIRST ? times_per_layer(rule->role, sizes) : 0;
            bool is_first_norm = layer == 0 && (rule->role == AP_ROLE_ATTN_NORM || rule->role == AP_ROLE_ATTN_NORM_BIAS);
            if (is_first_norm && arch->has_no_first_norm)
                continue;
            for (uint32_t expert = 0; expert < times; expert++)
                AP_TRY(want(rule, layer, expert, sizes, fn, context, err));
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

bool ap_wanted_is_fused(const ap_wanted *w, const uint64_t *dims)
{
    /* The dimensions of a tensor that was read multiply without wrapping. */
    uint64_t others = dims[1] * dims[2] * dims[3];
    if (w->rule->rows == AP_EXTENT_NONE)
        return w->fused_total && dims[0] * others == w->fused_total;
    return w->fused_total && dims[0] == w->columns && others == w->fused_total;
}
