/* gather.c - a text through the model in chunks, and what its matrices read on the way.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "engine/engine.h"
#include "model/imatrix.h"

static void ignore_row(void *context, size_t position, const float *logits, uint32_t count)
{
}

static ap_status run_chunks(ap_engine *e, const int32_t *ids, size_t count, const ap_imatrix_options *o, uint32_t *chunks, ap_error *err)
{
    for (size_t at = 0, n; at < count; at += n, ++*chunks) {
        n = count - at < o->chunk_tokens ? count - at : o->chunk_tokens;
        AP_TRY(ap_engine_logits(e, ids + at, n, 0, true, ignore_row, NULL, err));
        if (o->progress)
            o->progress(o->progress_context, at + n, count);
    }
    return AP_OK;
}

ap_status ap_engine_imatrix(ap_engine *e, const int32_t *ids, size_t count, const ap_imatrix_options *o, int out_fd,
                            uint64_t *file_bytes, ap_error *err)
{
    ap_importance *importance;
    uint32_t chunks = 0;
    if (o->size != sizeof *o)
        return ap_fail(err, AP_E_ARG, "the options have %zu bytes, this library expects %zu", o->size, sizeof *o);
    if (count == 0 || o->chunk_tokens == 0)
        return ap_fail(err, AP_E_ARG, "there are no tokens to gather importances from");
    AP_TRY(ap_importance_create(&importance, ap_engine_model(e), err));
    ap_engine_observe(e, ap_importance_add, importance);
    ap_status status = run_chunks(e, ids, count, o, &chunks, err);
    ap_engine_observe(e, NULL, NULL);
    if (status == AP_OK)
        status = ap_importance_write(importance, out_fd, ap_str_from(o->dataset), o->chunk_tokens, chunks, file_bytes, err);
    ap_importance_destroy(&importance);
    return status;
}
