/* quant.h - what a weight format means: decode to floats, pack into panels and back.
 *
 * A file's matrix has `rows` output rows of `cols` columns, each row a run of
 * blocks (format/type.h has their sizes).  Before use it is packed once into
 * panels of 16 rows (block.h draws them); the packed bytes go to the store and
 * are mapped from there.  Packing loses nothing: unpacking gives the source back
 * byte for byte, whatever bits it held.  The scales of a stranger's file may be
 * NaN or absurd; that is data, and it comes out as NaN.
 *
 *     AP_TRY(ap_pack_bytes(AP_TYPE_Q4_0, 49152, 576, &bytes, err));
 *     for (row = 0; row < rows; row += 16 * n)           // any n, so memory stays bounded
 *         ap_pack_rows(AP_TYPE_Q4_0, cols, row_count, source, panels);
 *     ap_matrix m = {AP_TYPE_Q4_0, rows, cols, panels};  // 64-byte aligned
 *     ap_matrix_row(&m, token, embedding);
 *
 * Nothing here allocates or keeps a pointer; every function may be called from
 * any thread.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_QUANT_QUANT_H
#define AP_QUANT_QUANT_H

#include "base/error.h"
#include "format/type.h"
#include "quant/block.h"
#include "quant/half.h"

/* A packed matrix; the panels are borrowed (a mapped file), aligned to 64 bytes. */
typedef struct ap_matrix {
    ap_type type;
    uint32_t rows, cols;
    const unsigned char *panels;
} ap_matrix;

/* Can this type be packed, decoded and multiplied?  Today: F32, F16, BF16, Q4_0,
 * Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, Q8_K, IQ4_NL, IQ4_XS, MXFP4. */
bool ap_quant_supports(uint32_t type);
/* Can it be decoded at least?  Those above, and IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, TQ1_0, TQ2_0:
 * what is only decoded is packed as another type (ap_encode). */
bool ap_quant_decodes(uint32_t type);

static inline uint32_t ap_panel_count(uint32_t rows)
{
    return rows / AP_PANEL_ROWS + (rows % AP_PANEL_ROWS != 0);
}

/* Bytes of all panels of a matrix.  AP_E_UNSUPPORTED for a type named above as
 * missing, AP_E_FORMAT when rows or cols is 0 or cols is no multiple of the
 * type's block, AP_E_LIMIT when the product does not fit. */
ap_status ap_pack_bytes(uint32_t type, uint32_t rows, uint32_t cols, uint64_t *out, ap_error *err);

/* For a type and cols that ap_pack_bytes accepted: bytes of one source row and of
 * one panel of 16 rows. */
uint64_t ap_row_bytes(ap_type type, uint32_t cols);
uint64_t ap_panel_bytes(ap_type type, uint32_t cols);

/* Packs row_count consecutive source rows into ap_panel_count(row_count) panels.  All
 * calls but the last of a matrix pass a multiple of 16 rows; missing rows of the
 * last panel become zero bytes.  `source` need not be aligned. */
void ap_pack_rows(ap_type type, uint32_t cols, uint32_t row_count, const unsigned char *source, unsigned char *panels);
/* The inverse, for the first row_count rows of `panels`. */
void ap_unpack_rows(ap_type type, uint32_t cols, uint32_t row_count, const unsigned char *panels,
                    unsigned char *source);

/* Decodes `count` weights (whole blocks) of source bytes. */
void ap_decode(ap_type type, const unsigned char *source, size_t count, float *out);

/* Can floats be encoded in this type?  F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS. */
bool ap_quant_encodes(uint32_t type);
/* Encodes `count` floats (whole blocks) so that the sum of importance times squared error is small; importance has a
 * number > 0 per float, NULL: all alike.  NaN and infinity become finite numbers in block types. */
void ap_encode(ap_type type, const float *x, size_t count, const float *importance, unsigned char *out);

/* Decodes row `row` < rows out of the panels: out has matrix->cols floats, equal
 * in bits to ap_decode of the source row. */
void ap_matrix_row(const ap_matrix *matrix, uint32_t row, float *out);

#endif
