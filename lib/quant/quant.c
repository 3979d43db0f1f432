/* SPDX-License-Identifier: Apache-2.0 */
#include "quant/quant.h"

#include "base/alloc.h"
#include "quant/family.h"

static const ap_quant_family *const families[] = {
    [AP_TYPE_F32] = &ap_family_f32,   [AP_TYPE_F16] = &ap_family_f16,   [AP_TYPE_BF16] = &ap_family_bf16,
    [AP_TYPE_Q4_0] = &ap_family_q4_0, [AP_TYPE_Q4_1] = &ap_family_q4_1, [AP_TYPE_Q5_0] = &ap_family_q5_0,
    [AP_TYPE_Q5_1] = &ap_family_q5_1, [AP_TYPE_Q8_0] = &ap_family_q8_0, [AP_TYPE_Q4_K] = &ap_family_q4_k,
    [AP_TYPE_Q5_K] = &ap_family_q5_k, [AP_TYPE_Q6_K] = &ap_family_q6_k,
    [AP_TYPE_Q2_K] = &ap_family_q2_k, [AP_TYPE_Q3_K] = &ap_family_q3_k, [AP_TYPE_Q8_K] = &ap_family_q8_k,
    [AP_TYPE_IQ4_NL] = &ap_family_iq4_nl, [AP_TYPE_IQ4_XS] = &ap_family_iq4_xs, [AP_TYPE_MXFP4] = &ap_family_mxfp4,
    [AP_TYPE_IQ1_S] = &ap_family_iq1_s, [AP_TYPE_IQ1_M] = &ap_family_iq1_m, [AP_TYPE_IQ2_XXS] = &ap_family_iq2_xxs,
    [AP_TYPE_IQ2_XS] = &ap_family_iq2_xs, [AP_TYPE_IQ2_S] = &ap_family_iq2_s, [AP_TYPE_IQ3_XXS] = &ap_family_iq3_xxs,
    [AP_TYPE_IQ3_S] = &ap_family_iq3_s, [AP_TYPE_TQ1_0] = &ap_family_tq1_0, [AP_TYPE_TQ2_0] = &ap_family_tq2_0,
};

static const ap_quant_family *family_of(uint32_t type)
{
    return type < sizeof families / sizeof *families ? families[type] : NULL;
}

bool ap_quant_supports(uint32_t type) { return family_of(type) && family_of(type)->panel_block_bytes; }

bool ap_quant_decodes(uint32_t type) { return family_of(type) != NULL; }

ap_status ap_pack_bytes(uint32_t type, uint32_t rows, uint32_t cols, uint64_t *out, ap_error *err)
{
    const ap_quant_family *family = family_of(type);
    const ap_type_info *info = ap_type_info_of(type);
    *out = 0;
    if (!info)
        return ap_fail(err, AP_E_UNSUPPORTED, "weight type %" PRIu32 " is not known", type);
    if (!ap_quant_supports(type))
        return ap_fail(err, AP_E_UNSUPPORTED, "weight type %s cannot be packed", info->name);
    if (rows == 0 || cols == 0)
        return ap_fail(err, AP_E_FORMAT, "a matrix of %" PRIu32 " rows and %" PRIu32 " columns is empty", rows, cols);
    if (cols % family->block_elems != 0)
        return ap_fail(err, AP_E_FORMAT, "%" PRIu32 " columns are no multiple of the %zu of a %s block", cols,
                       family->block_elems, info->name);
    if (!ap_mul_u64(ap_panel_bytes(info->type, cols), ap_panel_count(rows), out) || *out > INT64_MAX)
        return ap_fail(err, AP_E_LIMIT, "%" PRIu32 " times %" PRIu32 " weights do not fit in memory", rows, cols);
    return AP_OK;
}

uint64_t ap_row_bytes(ap_type type, uint32_t cols)
{
    const ap_quant_family *family = family_of(type);
    return (uint64_t)(cols / family->block_elems) * family->block_bytes;
}

uint64_t ap_panel_bytes(ap_type type, uint32_t cols)
{
    const ap_quant_family *family = family_of(type);
    return (uint64_t)(cols / family->block_elems) * family->panel_block_bytes;
}

void ap_pack_rows(ap_type type, uint32_t cols, uint32_t row_count, const unsigned char *source, unsigned char *panels)
{
    const ap_quant_family *family = family_of(type);
    size_t blocks = cols / family->block_elems, row_bytes = blocks * family->block_bytes;
    for (size_t row = 0; row < row_count; row += AP_PANEL_ROWS) {
        unsigned lanes = row_count - row < AP_PANEL_ROWS ? (unsigned)(row_count - row) : AP_PANEL_ROWS;
        const unsigned char *from = source + row * row_bytes;
        unsigned char *to = panels + row / AP_PANEL_ROWS * (blocks * family->panel_block_bytes);
        if (lanes < AP_PANEL_ROWS)
            memset(to, 0, blocks * family->panel_block_bytes);
        for (size_t block = 0; block < blocks; block++)
            for (unsigned lane = 0; lane < lanes; lane++)
                family->pack(from + lane * row_bytes + block * family->block_bytes, lane,
                             to + block * family->panel_block_bytes);
    }
}

void ap_unpack_rows(ap_type type, uint32_t cols, uint32_t row_count, const unsigned char *panels,
                    unsigned char *source)
{
    const ap_quant_family *family = family_of(type);
    size_t blocks = cols / family->block_elems, row_bytes = blocks * family->block_bytes;
    for (size_t row = 0; row < row_count; row++) {
        const unsigned char *from = panels + row / AP_PANEL_ROWS * (blocks * family->panel_block_bytes);
        for (size_t block = 0; block < blocks; block++)
            family->unpack(from + block * family->panel_block_bytes, row % AP_PANEL_ROWS,
                           source + row * row_bytes + block * family->block_bytes);
    }
}

void ap_decode(ap_type type, const unsigned char *source, size_t count, float *out)
{
    const ap_quant_family *family = family_of(type);
    for (size_t block = 0; block < count / family->block_elems; block++)
        family->decode(source + block * family->block_bytes, out + block * family->block_elems);
}

bool ap_quant_encodes(uint32_t type) { return family_of(type) && family_of(type)->encode; }

void ap_encode(ap_type type, const float *x, size_t count, const float *importance, unsigned char *out)
{
    const ap_quant_family *family = family_of(type);
    float alike[AP_SUPER_COLS];
    for (size_t i = 0; i < AP_SUPER_COLS; i++)
        alike[i] = 1;
    for (size_t block = 0; block < count / family->block_elems; block++)
        family->encode(x + block * family->block_elems, importance ? importance + block * family->block_elems : alike,
                       out + block * family->block_bytes);
}

void ap_matrix_row(const ap_matrix *matrix, uint32_t row, float *out)
{
    const ap_quant_family *family = family_of(matrix->type);
    size_t blocks = matrix->cols / family->block_elems;
    const unsigned char *panel = matrix->panels + row / AP_PANEL_ROWS * (blocks * family->panel_block_bytes);
    for (size_t block = 0; block < blocks; block++) {
        unsigned char bytes[sizeof(ap_block_q8_k)]; /* the largest block */
        family->unpack(panel + block * family->panel_block_bytes, row % AP_PANEL_ROWS, bytes);
        family->decode(bytes, out + block * family->block_elems);
    }
}
