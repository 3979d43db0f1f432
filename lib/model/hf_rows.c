/* SPDX-License-Identifier: Apache-2.0 */
#include "model/hf.h"

bool ap_hf_alternative(const char *list, unsigned which, ap_str *out)
{
    for (; which > 0; which--) {
        list += strcspn(list, "|");
        if (!*list++)
            return false;
    }
    *out = (ap_str){list, strcspn(list, "|")};
    return true;
}

/* The number of a rule among those that share a tensor. */
static unsigned part_of(ap_role role)
{
    switch ((int)role) {
    case AP_ROLE_K:
    case AP_ROLE_K_BIAS:
    case AP_ROLE_UP:
    case AP_ROLE_EXPERT_UP:
    case AP_ROLE_EXPERT_UP_BIAS: return 1;
    case AP_ROLE_V:
    case AP_ROLE_V_BIAS: return 2;
    }
    return 0;
}

ap_hf_span ap_hf_span_of(const ap_wanted *w, const ap_hparams *s)
{
    uint64_t rows = w->rule->rows == AP_EXTENT_NONE ? w->columns : w->rows;
    uint64_t q = (uint64_t)s->head_count * s->head_width, kv = (uint64_t)s->kv_head_count * s->head_width;
    ap_hf_span span = {.rows = w->rule->hf_rows, .part = part_of(w->rule->role), .step = 1, .all = rows};
    switch (span.rows) {
    case AP_HF_ROWS_SAME:
    case AP_HF_ROWS_Q_PAIRS:
    case AP_HF_ROWS_K_PAIRS:
    case AP_HF_ROWS_POSITIONS: break; /* who has the folder's config knows how many are skipped */
    case AP_HF_ROWS_QKV:
        span.first = span.part == 0 ? 0 : span.part == 1 ? q : q + kv;
        span.all = q + 2 * kv;
        break;
    case AP_HF_ROWS_GROUPS: span.all = q + 2 * kv; break;
    case AP_HF_ROWS_GATE_UP:
        span.first = span.part * rows;
        span.all = 2 * rows;
        break;
    case AP_HF_ROWS_EXPERT:
        span.first = w->expert * rows;
        span.all = s->expert_count * rows;
        break;
    case AP_HF_ROWS_EXPERT_GATE_UP:
        span.first = w->expert * rows * 2 + span.part;
        span.step = 2;
        span.all = s->expert_count * rows * 2;
        break;
    }
    return span;
}

/* A head's rotary dimensions are two halves in a folder: x0 x1 … y0 y1 …; here they may be pairs: x0 y0 x1 y1 …. */
uint64_t ap_hf_span_row(const ap_hf_span *span, const ap_hparams *s, uint64_t row)
{
    uint64_t width = s->head_width, turned = s->rope_width, head = row / width, in_head = row % width;
    if (span->rows == AP_HF_ROWS_Q_PAIRS || span->rows == AP_HF_ROWS_K_PAIRS)
        return in_head >= turned ? row : row - in_head + in_head % 2 * (turned / 2) + in_head / 2;
    if (span->rows != AP_HF_ROWS_GROUPS)
        return span->first + row * span->step;
    uint64_t queries = s->head_count / s->kv_head_count;
    uint64_t group = span->part == 0 ? head / queries : head, within = span->part == 0 ? head % queries : queries + span->part - 1;
    return (group * (queries + 2) + within) * width + in_head;
}
