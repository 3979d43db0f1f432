/* imatrix.h - how much each input column of each matrix matters: the mean square of what came in over some text.
 *
 * A GGUF file with general.type "imatrix"; for a tensor NAME it has NAME.in_sum2 (F32, columns times matrices: experts have
 * one each) and NAME.counts (F32, 1 times matrices).  A column's importance is sum over count, brought to a mean of 1 per matrix
 * and kept above a small share of it: nothing is without weight because some text never used it.
 *
 * The first half reads such a file, for quantize.c; the second gathers one.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_MODEL_IMATRIX_H
#define AP_MODEL_IMATRIX_H

#include "format/gguf.h"
#include "model/model.h"

typedef struct ap_imatrix ap_imatrix;

ap_status ap_imatrix_open(ap_imatrix **out, int fd, ap_error *err);
void ap_imatrix_close(ap_imatrix **imatrix);

/* AP_E_FORMAT names an entry whose columns or matrices do not fit its tensor, or that fits none. */
ap_status ap_imatrix_check(const ap_imatrix *imatrix, const ap_gguf_tensor *tensors, uint32_t count, ap_error *err);
/* One number > 0 per column, until the next call; NULL if the file has nothing for the tensor (or imatrix is NULL). */
const float *ap_imatrix_columns(ap_imatrix *imatrix, ap_str tensor, uint64_t columns, uint64_t matrix);

/* ---- Gathering ---- */

typedef struct ap_importance ap_importance;

/* Nothing yet, for every matrix of the layers of `model` (but routers, which are never quantised).  The model must outlive
 * it.  AP_E_NOMEM. */
ap_status ap_importance_create(ap_importance **out, const ap_model *model, ap_error *err);
void ap_importance_destroy(ap_importance **importance);
/* An ap_forward_observer: adds the squares of what a matrix reads, in f64, token by token. */
void ap_importance_add(void *importance, const ap_matrix *matrix, const float *x, uint32_t tokens);
/* Writes the file.  Matrices that files fuse have an entry under the fused name: q, k and v (which read the same) beside their
 * own, experts instead. */
ap_status ap_importance_write(const ap_importance *importance, int fd, ap_str dataset, uint32_t chunk_tokens, uint32_t chunk_count,
                              uint64_t *file_bytes, ap_error *err);

#endif
