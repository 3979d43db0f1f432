/* hf_quantized.c - matrices of folders that are not plain floats.
 *
 * W is [out][in] here; q are codes, s scales, z zeros; in files a 4-bit code is a part of an I32, low bits first.
 *
 *     GPTQ   X.qweight [in/8][out]: eight codes of neighbouring columns; X.qzeros [groups][out/8]: of neighbouring rows;
 *            X.scales [groups][out]; X.g_idx [in]: the group of a column.  w = s (q - z), and files of version 1 hold z - 1.
 *     AWQ    X.qweight [in][out/8], X.qzeros [groups][out/8]: eight neighbouring rows in the order 0 2 4 6 1 3 5 7;
 *            X.scales [groups][out].  w = s (q - z).
 *     FP8    X.weight [out][in] in F8_E4M3, X.weight_scale_inv or X.weight_scale: one, one per row, or one per block.  w = s q.
 *     MXFP4  X_blocks [experts][out][in/32][16]: a byte is two neighbouring columns, the first in its low half; X_scales
 *            [experts][out][in/32]: exponents.
 *
 * What a matrix becomes is decided by what it holds.  Q4_0 and Q5_0 hold s (q - z) exactly if 32 neighbouring columns
 * share a scale and that is one of F16's: Q4_0 if every z is 8, Q5_0 else (q - z is within -16 … 15).  Q4_1 does not: s z
 * has more bits than its minimum.  What neither holds (groups that follow the order of activations) is kept as Q8_0.
 * FP8 times powers of two is BF16; other products have up to 28 bits and are rounded to BF16, which is what the makers'
 * own tools do with them.  MXFP4 keeps every bit.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>

#include "model/hf.h"
#include "quant/quant.h"

enum { NAME_ROOM = 160, CODES_PER_WORD = 8, BLOCK_SIDE_MAX = 1 << 16, GROUP_COLUMNS_MAX = 1 << 20 };

/* ---- quantization_config ---- */

static ap_status refuse_text(const char *path, ap_str text, const char *has, ap_error *err)
{
    return ap_fail(err, AP_E_UNSUPPORTED, "'quantization_config.%s' is '%.*s'; this release has %s", path,
                   (int)(text.len < 40 ? text.len : 40), text.ptr, has);
}

/* A text that, if it is there, must be one of two. */
static ap_status check_text(const json_t *q, const char *path, const char *one, const char *other, ap_error *err)
{
    ap_str text;
    if (!ap_json_find(q, path))
        return AP_OK;
    AP_TRY(ap_json_get_str(q, path, &text, err));
    return ap_str_is(text, one) || ap_str_is(text, other) ? AP_OK : refuse_text(path, text, one, err);
}

static ap_status check_flag(const json_t *q, const char *path, bool must, ap_error *err)
{
    bool flag;
    if (!ap_json_find(q, path))
        return AP_OK;
    AP_TRY(ap_json_get_bool(q, path, &flag, err));
    if (flag != must)
        return ap_fail(err, AP_E_UNSUPPORTED, "'quantization_config.%s' is %s; this release has %s", path, flag ? "true" : "false",
                       must ? "true" : "false");
    return AP_OK;
}

/* Rules of a feature that this release lacks; null and empty objects are none. */
static ap_status check_empty(const json_t *q, const char *path, ap_error *err)
{
    const json_t *value = ap_json_find(q, path);
    if (!value || (json_is_object(value) && json_object_size(value) == 0) || (json_is_array(value) && json_array_size(value) == 0))
        return AP_OK;
    return ap_fail(err, AP_E_UNSUPPORTED, "'quantization_config.%s' is set, which this release does not have", path);
}

static ap_status read_4_bits(const json_t *q, ap_hf_quantization *out, ap_error *err)
{
    uint32_t bits;
    AP_TRY(ap_json_get_u32(q, "bits", &bits, err));
    if (bits != 4)
        return ap_fail(err, AP_E_UNSUPPORTED, "'quantization_config.bits' is %u; this release has 4", bits);
    const json_t *group = ap_json_find(q, "group_size");
    if (group && json_is_integer(group) && json_integer_value(group) == -1)
        return AP_OK;
    AP_TRY(ap_json_get_u32(q, "group_size", &out->group_columns, err));
    if (out->group_columns == 0 || out->group_columns > GROUP_COLUMNS_MAX)
        return ap_fail(err, AP_E_LIMIT, "'quantization_config.group_size' is %u; -1 and 1 to %d are allowed", out->group_columns,
                       GROUP_COLUMNS_MAX);
    return AP_OK;
}

static ap_status read_gptq(const json_t *q, ap_hf_quantization *out, ap_error *err)
{
    ap_str version = AP_STR("gptq");
    const char *key = ap_json_find(q, "checkpoint_format") ? "checkpoint_format" : "format";
    AP_TRY(read_4_bits(q, out, err));
    if (ap_json_find(q, key))
        AP_TRY(ap_json_get_str(q, key, &version, err));
    if (!ap_str_is(version, "gptq") && !ap_str_is(version, "gptq_v2"))
        return refuse_text(key, version, "gptq and gptq_v2", err);
    out->is_zero_less_one = ap_str_is(version, "gptq");
    if (ap_json_find(q, "desc_act"))
        AP_TRY(ap_json_get_bool(q, "desc_act", &out->must_have_groups, err));
    AP_TRY(check_text(q, "pack_dtype", "int32", "int32", err));
    AP_TRY(check_flag(q, "is_marlin_format", false, err));
    return check_empty(q, "dynamic", err);
}

static ap_status read_awq(const json_t *q, ap_hf_quantization *out, ap_error *err)
{
    AP_TRY(read_4_bits(q, out, err));
    AP_TRY(check_flag(q, "zero_point", true, err));
    return check_text(q, "version", "gemm", "GEMM", err);
}

static ap_status read_sides(const json_t *q, const char *path, ap_hf_quantization *out, ap_error *err)
{
    const json_t *sides;
    if (!ap_json_find(q, path))
        return AP_OK;
    AP_TRY(ap_json_get_array(q, path, &sides, err));
    json_int_t rows = json_integer_value(json_array_get(sides, 0)), columns = json_integer_value(json_array_get(sides, 1));
    if (json_array_size(sides) != 2 || rows < 1 || rows > BLOCK_SIDE_MAX || columns < 1 || columns > BLOCK_SIDE_MAX)
        return ap_fail(err, AP_E_FORMAT, "'%s' of the quantisation is no list of two numbers from 1 to %d", path, BLOCK_SIDE_MAX);
    out->block_rows = (uint32_t)rows;
    out->block_columns = (uint32_t)columns;
    return AP_OK;
}

static ap_status read_fp8(const json_t *q, ap_hf_quantization *out, ap_error *err)
{
    AP_TRY(check_text(q, "fmt", "e4m3", "float8_e4m3fn", err));
    return read_sides(q, "weight_block_size", out, err);
}

static ap_status read_group(const json_t *group, ap_hf_quantization *out, ap_error *err)
{
    uint32_t bits;
    bool is_symmetric = true;
    ap_str type, strategy;
    AP_TRY(ap_json_get_u32(group, "weights.num_bits", &bits, err));
    AP_TRY(ap_json_get_str(group, "weights.type", &type, err));
    AP_TRY(ap_json_get_str(group, "weights.strategy", &strategy, err));
    if (ap_json_find(group, "weights.symmetric"))
        AP_TRY(ap_json_get_bool(group, "weights.symmetric", &is_symmetric, err));
    if (bits != 8 || !ap_str_is(type, "float") || !is_symmetric)
        return ap_fail(err, AP_E_UNSUPPORTED, "'quantization_config.config_groups' has weights of %u bits, type '%.*s'%s; this release has "
                       "symmetric ones of 8 bits, type 'float'", bits, (int)(type.len < 20 ? type.len : 20), type.ptr,
                       is_symmetric ? "" : ", asymmetric");
    if (!ap_str_is(strategy, "tensor") && !ap_str_is(strategy, "channel") && !ap_str_is(strategy, "block"))
        return refuse_text("config_groups…strategy", strategy, "tensor, channel and block", err);
    return read_sides(group, "weights.block_structure", out, err);
}

static ap_status read_compressed(const json_t *q, ap_hf_quantization *out, ap_error *err)
{
    const json_t *groups;
    const char *key;
    json_t *group;
    AP_TRY(check_text(q, "format", "float-quantized", "naive-quantized", err));
    AP_TRY(check_empty(q, "sparsity_config", err));
    AP_TRY(check_empty(q, "transform_config", err));
    AP_TRY(ap_json_get_object(q, "config_groups", &groups, err));
    json_object_foreach((json_t *)groups, key, group)
    {
        uint32_t rows = out->block_rows, columns = out->block_columns;
        AP_TRY(read_group(group, out, err));
        if (rows && (rows != out->block_rows || columns != out->block_columns))
            return ap_fail(err, AP_E_UNSUPPORTED, "'quantization_config.config_groups' has blocks of several sizes");
    }
    return AP_OK;
}

ap_status ap_hf_quantization_read(const json_t *config, ap_hf_quantization *out, ap_error *err)
{
    ap_str method = AP_STR("unknown");
    *out = (ap_hf_quantization){0};
    const json_t *q = ap_json_find(config, "quantization_config");
    if (!q)
        return AP_OK;
    static const struct {
        const char *name;
        ap_hf_method method;
        ap_status (*read)(const json_t *q, ap_hf_quantization *out, ap_error *err);
    } methods[] = {{"gptq", AP_HF_GPTQ, read_gptq}, {"awq", AP_HF_AWQ, read_awq}, {"fp8", AP_HF_FP8, read_fp8},
                   {"compressed-tensors", AP_HF_FP8, read_compressed}, {"mxfp4", AP_HF_MXFP4, NULL}};
    if (ap_json_find(q, "quant_method"))
        AP_TRY(ap_json_get_str(q, "quant_method", &method, err));
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (ap_str_is(method, methods[i].name)) {
            out->method = methods[i].method;
            ap_status status = methods[i].read ? methods[i].read(q, out, err) : AP_OK;
            return status == AP_E_NOTFOUND ? AP_E_FORMAT : status;
        }
    return refuse_text("quant_method", method, "awq, compressed-tensors, fp8, gptq and mxfp4", err);
}

/* ---- The tensors of one matrix ---- */

const char *ap_hf_quantized_ending(ap_hf_method method)
{
    return method == AP_HF_GPTQ || method == AP_HF_AWQ ? ".qweight" : method == AP_HF_MXFP4 ? "_blocks" : NULL;
}

static bool ends_with(ap_str name, const char *end)
{
    size_t length = strlen(end);
    return name.len >= length && memcmp(name.ptr + name.len - length, end, length) == 0;
}

bool ap_hf_is_quantized(const ap_hf_quantization *q, const ap_hf_weight *w)
{
    const char *ending = ap_hf_quantized_ending(q->method);
    return ending ? ends_with(w->name, ending) : q->method == AP_HF_FP8 && w->tensor->dtype == AP_DTYPE_F8_E4M3;
}

bool ap_hf_is_idle_scale(const ap_hf_quantization *q, ap_str name)
{
    static const char *const ends[] = {".input_scale", ".activation_scale", ".output_scale", ".k_scale", ".v_scale", ".q_scale"};
    for (size_t i = 0; q->method == AP_HF_FP8 && i < sizeof ends / sizeof ends[0]; i++)
        if (ends_with(name, ends[i]))
            return true;
    return false;
}

/* The tensor that is called as `codes`, but for the ending; NULL if absent. */
static ap_hf_weight *sibling(const ap_hf_files *files, const ap_hf_weight *codes, const char *old, const char *new, char name[NAME_ROOM])
{
    (void)snprintf(name, NAME_ROOM, "%.*s%s", (int)(codes->name.len - strlen(old)), codes->name.ptr, new);
    ap_hf_weight *w = ap_hf_files_weight(files, ap_str_from(name));
    if (w)
        w->is_used = true;
    return w;
}

static ap_status need(const ap_hf_files *files, const ap_hf_weight *codes, const char *old, const char *new, ap_hf_weight **out,
                      ap_error *err)
{
    char name[NAME_ROOM];
    *out = sibling(files, codes, old, new, name);
    return *out ? AP_OK : ap_fail(err, AP_E_FORMAT, "tensor '%s' is missing", name);
}

static ap_status check(const ap_hf_weight *w, ap_dtype dtype, uint32_t dim_count, const uint64_t *shape, ap_error *err)
{
    if (w->tensor->dtype != dtype)
        return ap_fail(err, AP_E_FORMAT, "tensor '%.*s' has the type %s; %s is needed", (int)w->name.len, w->name.ptr,
                       ap_dtype_name(w->tensor->dtype), ap_dtype_name(dtype));
    return ap_hf_weight_check(w, dim_count, shape, err);
}

static uint32_t word_at(const unsigned char *words, uint64_t index)
{
    uint32_t word;
    memcpy(&word, words + 4 * index, 4);
    return word;
}

/* The scales' floats; checked to be of one of these types. */
static float scale_at(const ap_hf_matrix *m, uint64_t index)
{
    uint16_t half;
    if (m->scale_dtype == AP_DTYPE_F32)
        return ap_float_of_bits(word_at(m->scales, index));
    memcpy(&half, m->scales + 2 * index, 2);
    return m->scale_dtype == AP_DTYPE_F16 ? ap_f32_of_f16(half) : ap_f32_of_bf16(half);
}

static ap_status set_scales(ap_hf_matrix *m, const ap_hf_weight *w, ap_error *err)
{
    m->scales = w->data;
    m->scale_dtype = w->tensor->dtype;
    if (m->scale_dtype == AP_DTYPE_F32 || m->scale_dtype == AP_DTYPE_F16 || m->scale_dtype == AP_DTYPE_BF16)
        return AP_OK;
    return ap_fail(err, AP_E_UNSUPPORTED, "tensor '%.*s' has the type %s; scales in F32, F16 and BF16 are read", (int)w->name.len,
                   w->name.ptr, ap_dtype_name(m->scale_dtype));
}

/* ---- 4 bits with zeros ---- */

/* Where in a word AWQ has row r of eight. */
static const unsigned char awq_place[CODES_PER_WORD] = {0, 4, 1, 5, 2, 6, 3, 7};

static uint32_t group_of(const ap_hf_matrix *m, uint64_t column)
{
    return m->groups ? word_at(m->groups, column) : (uint32_t)(column / m->group_columns);
}

static int code_at(const ap_hf_matrix *m, uint64_t row, uint64_t column)
{
    if (m->method == AP_HF_GPTQ)
        return word_at(m->codes, column / 8 * m->rows + row) >> column % 8 * 4 & 15;
    return word_at(m->codes, column * (m->rows / 8) + row / 8) >> awq_place[row % 8] * 4 & 15;
}

static int zero_at(const ap_hf_matrix *m, uint64_t row, uint32_t group)
{
    unsigned place = m->method == AP_HF_GPTQ ? row % 8 : awq_place[row % 8];
    return (int)(word_at(m->zeros, group * (m->rows / 8) + row / 8) >> place * 4 & 15) + m->is_zero_less_one;
}

static ap_status check_groups(const ap_hf_matrix *m, const ap_hf_weight *w, uint64_t count, ap_error *err)
{
    for (uint64_t c = 0; c < m->columns; c++)
        if (group_of(m, c) >= count)
            return ap_fail(err, AP_E_FORMAT, "tensor '%.*s' puts column %" PRIu64 " into group %" PRId32 "; there are %" PRIu64,
                           (int)w->name.len, w->name.ptr, c, (int32_t)group_of(m, c), count);
    return AP_OK;
}

static bool is_grouped_by_blocks(const ap_hf_matrix *m)
{
    for (uint64_t c = 0; c < m->columns; c++)
        if (group_of(m, c) != group_of(m, c - c % AP_BLOCK_COLS))
            return false;
    return m->columns % AP_BLOCK_COLS == 0;
}

static bool are_scales_f16(const ap_hf_matrix *m, uint64_t count)
{
    for (uint64_t i = 0; m->scale_dtype != AP_DTYPE_F16 && i < count; i++) {
        float scale = scale_at(m, i);
        if (!(ap_f32_of_f16(ap_f16_of_f32(scale)) == scale))
            return false;
    }
    return true;
}

static ap_status choose_4_bits(ap_hf_matrix *m, const ap_hf_weight *zeros, uint64_t groups, ap_error *err)
{
    bool all_are_8 = true;
    for (uint64_t g = 0; g < groups; g++)
        for (uint64_t row = 0; row < m->rows; row++) {
            int zero = zero_at(m, row, (uint32_t)g);
            all_are_8 = all_are_8 && zero == 8;
            /* Some programs read this as 16 and some as 0. */
            if (zero > 15)
                return ap_fail(err, AP_E_UNSUPPORTED, "tensor '%.*s' has a zero of 16 in group %" PRIu64 ", row %" PRIu64 "; at most 15 is allowed",
                               (int)zeros->name.len, zeros->name.ptr, g, row);
        }
    bool is_exact = is_grouped_by_blocks(m) && are_scales_f16(m, groups * m->rows);
    m->type = !is_exact ? AP_TYPE_F32 : all_are_8 ? AP_TYPE_Q4_0 : AP_TYPE_Q5_0;
    m->kept = is_exact ? m->type : m->columns % AP_BLOCK_COLS ? AP_TYPE_F32 : AP_TYPE_Q8_0;
    return AP_OK;
}

static ap_status open_4_bits(const ap_hf_files *files, const ap_hf_quantization *q, const ap_hf_weight *codes, ap_hf_matrix *m,
                             ap_error *err)
{
    char name[NAME_ROOM];
    ap_hf_weight *zeros, *scales;
    uint64_t rows = m->rows, columns = m->columns;
    bool is_gptq = m->method == AP_HF_GPTQ;
    if (rows % CODES_PER_WORD || (is_gptq && columns % CODES_PER_WORD))
        return ap_fail(err, AP_E_FORMAT, "tensor '%.*s' packs %" PRIu64 " rows of %" PRIu64 " columns; multiples of %d are needed",
                       (int)codes->name.len, codes->name.ptr, rows, columns, CODES_PER_WORD);
    m->group_columns = q->group_columns ? q->group_columns : columns;
    m->is_zero_less_one = q->is_zero_less_one;
    uint64_t groups = (columns + m->group_columns - 1) / m->group_columns;
    AP_TRY(need(files, codes, "qweight", "qzeros", &zeros, err));
    AP_TRY(need(files, codes, "qweight", "scales", &scales, err));
    uint64_t code_shape[2] = {is_gptq ? columns / 8 : columns, is_gptq ? rows : rows / 8};
    AP_TRY(check(codes, AP_DTYPE_I32, 2, code_shape, err));
    AP_TRY(check(zeros, AP_DTYPE_I32, 2, (uint64_t[]){groups, rows / 8}, err));
    AP_TRY(ap_hf_weight_check(scales, 2, (uint64_t[]){groups, rows}, err));
    AP_TRY(set_scales(m, scales, err));
    m->codes = codes->data;
    m->zeros = zeros->data;
    ap_hf_weight *order = is_gptq ? sibling(files, codes, "qweight", "g_idx", name) : NULL;
    if (order) {
        AP_TRY(check(order, AP_DTYPE_I32, 1, &columns, err));
        m->groups = order->data;
        AP_TRY(check_groups(m, order, groups, err));
    } else if (q->must_have_groups) {
        return ap_fail(err, AP_E_FORMAT, "tensor '%s' is missing, and 'quantization_config.desc_act' is true", name);
    }
    return choose_4_bits(m, zeros, groups, err);
}

/* ---- FP8 ---- */

static ap_status open_fp8(const ap_hf_files *files, const ap_hf_quantization *q, const ap_hf_weight *codes, ap_hf_matrix *m, ap_error *err)
{
    char name[NAME_ROOM];
    uint64_t rows = m->rows, columns = m->columns, count = 1;
    AP_TRY(check(codes, AP_DTYPE_F8_E4M3, 2, (uint64_t[]){rows, columns}, err));
    ap_hf_weight *scales = sibling(files, codes, "weight", "weight_scale_inv", name);
    if (!scales)
        AP_TRY(need(files, codes, "weight", "weight_scale", &scales, err));
    AP_TRY(set_scales(m, scales, err));
    const ap_safetensor *t = scales->tensor;
    for (uint32_t i = 0; i < t->dim_count; i++)
        count *= t->dims[i]; /* the dimensions of a tensor that was read multiply without wrapping */
    if (q->block_rows && t->dim_count == 2) {
        m->block_rows = q->block_rows;
        m->block_columns = q->block_columns;
        AP_TRY(ap_hf_weight_check(scales, 2, (uint64_t[]){(rows + m->block_rows - 1) / m->block_rows,
                                                          (columns + m->block_columns - 1) / m->block_columns}, err));
    } else {
        bool is_per_row = count == rows && t->dim_count && t->dims[0] == rows;
        if (!is_per_row && count != 1)
            return ap_fail(err, AP_E_FORMAT, "tensor '%.*s' has %" PRIu64 " scales; 1 or one for each of %" PRIu64 " rows are needed",
                           (int)scales->name.len, scales->name.ptr, count, rows);
        m->block_rows = is_per_row ? 1 : rows;
        m->block_columns = columns;
    }
    m->codes = codes->data;
    m->type = m->kept = AP_TYPE_BF16;
    for (uint64_t i = 0; i < count; i++) {
        uint32_t bits = ap_bits_of_float(scale_at(m, i)) & 0x7fffffffu;
        bool is_power = (bits & 0x7fffffu) == 0 && bits >= 27u << 23 && bits <= 227u << 23; /* 2^-100 … 2^100 */
        if (!is_power)
            m->type = AP_TYPE_F32;
    }
    return AP_OK;
}

/* F16 has every value of both 8-bit floats: E5M2 is its upper half, E4M3 has the bias 7 where F16 has 15. */
uint16_t ap_hf_half_of_f8(ap_dtype dtype, unsigned char byte)
{
    if (dtype == AP_DTYPE_F8_E5M2)
        return (uint16_t)(byte << 8);
    unsigned sign = (byte & 0x80u) << 8, exponent = byte >> 3 & 15, mantissa = byte & 7;
    if (exponent == 15 && mantissa == 7)
        return (uint16_t)(sign | 0x7e00); /* its only NaN; it has no infinity */
    if (exponent == 0)
        return (uint16_t)(sign | ap_f16_of_f32((float)mantissa * 0x1p-9f));
    return (uint16_t)(sign | (exponent + 8) << 10 | mantissa << 7);
}

/* ---- MXFP4 ---- */

static ap_status open_mxfp4(const ap_hf_files *files, const ap_hf_weight *codes, uint64_t experts, uint64_t expert,
                             ap_hf_matrix *m, ap_error *err)
{
    ap_hf_weight *scales;
    uint64_t rows = m->rows / experts, blocks = m->columns / AP_BLOCK_COLS;
    if (m->columns % AP_BLOCK_COLS)
        return ap_fail(err, AP_E_FORMAT, "tensor '%.*s' packs rows of %" PRIu64 " columns; a multiple of %d is needed", (int)codes->name.len,
                       codes->name.ptr, m->columns, AP_BLOCK_COLS);
    AP_TRY(need(files, codes, "_blocks", "_scales", &scales, err));
    AP_TRY(check(codes, AP_DTYPE_U8, 4, (uint64_t[]){experts, rows, blocks, 16}, err));
    AP_TRY(check(scales, AP_DTYPE_U8, 3, (uint64_t[]){experts, rows, blocks}, err));
    m->codes = codes->data;
    m->scales = scales->data;
    m->type = m->kept = AP_TYPE_MXFP4;
    const unsigned char *none = memchr(scales->data + expert * rows * blocks, 255, (size_t)(rows * blocks));
    if (none)
        return ap_fail(err, AP_E_UNSUPPORTED, "tensor '%.*s' has the exponent 255, no number, at %zu; at most 254 is allowed",
                       (int)scales->name.len, scales->name.ptr, (size_t)(none - scales->data));
    return AP_OK;
}

/* ---- Rows ---- */

ap_status ap_hf_matrix_open(const ap_hf_files *files, const ap_hf_quantization *q, const ap_hf_weight *codes, uint64_t experts,
                            uint64_t expert, uint64_t rows, uint64_t columns, ap_hf_matrix *out, ap_error *err)
{
    *out = (ap_hf_matrix){.method = q->method, .rows = rows, .columns = columns};
    switch (q->method) {
    case AP_HF_GPTQ:
    case AP_HF_AWQ: return open_4_bits(files, q, codes, out, err);
    case AP_HF_FP8: return open_fp8(files, q, codes, out, err);
    case AP_HF_MXFP4: return open_mxfp4(files, codes, experts, expert, out, err);
    case AP_HF_PLAIN: break;
    }
    return ap_fail(err, AP_E_BUG, "tensor '%.*s' is not quantised", (int)codes->name.len, codes->name.ptr);
}

static void row_of_f32(const ap_hf_matrix *m, uint64_t row, unsigned char *out)
{
    for (uint64_t c = 0; c < m->columns; c++) {
        uint32_t group = group_of(m, c);
        float value = scale_at(m, group * m->rows + row) * (float)(code_at(m, row, c) - zero_at(m, row, group));
        memcpy(out + 4 * c, &value, 4);
    }
}

static void row_of_q4_0(const ap_hf_matrix *m, uint64_t row, unsigned char *out)
{
    for (uint64_t c = 0; c < m->columns; c += AP_BLOCK_COLS, out += sizeof(ap_block_q4_0)) {
        ap_block_q4_0 b = {.d = ap_f16_of_f32(scale_at(m, group_of(m, c) * m->rows + row))};
        for (unsigned e = 0; e < 16; e++)
            b.qs[e] = (uint8_t)(code_at(m, row, c + e) | code_at(m, row, c + e + 16) << 4);
        memcpy(out, &b, sizeof b);
    }
}

static void row_of_q5_0(const ap_hf_matrix *m, uint64_t row, unsigned char *out)
{
    for (uint64_t c = 0; c < m->columns; c += AP_BLOCK_COLS, out += sizeof(ap_block_q5_0)) {
        uint32_t group = group_of(m, c);
        int offset = 16 - zero_at(m, row, group);
        ap_block_q5_0 b = {.d = ap_f16_of_f32(scale_at(m, group * m->rows + row))};
        for (unsigned e = 0; e < AP_BLOCK_COLS; e++) {
            int code = code_at(m, row, c + e) + offset;
            b.qs[e % 16] = (uint8_t)(b.qs[e % 16] | (code & 15) << e / 16 * 4);
            b.qh[e / 8] = (uint8_t)(b.qh[e / 8] | code >> 4 << e % 8);
        }
        memcpy(out, &b, sizeof b);
    }
}

static void row_of_fp8(const ap_hf_matrix *m, uint64_t row, unsigned char *out)
{
    uint64_t blocks = (m->columns + m->block_columns - 1) / m->block_columns, first = row / m->block_rows * blocks;
    const unsigned char *codes = m->codes + row * m->columns;
    float numbers[256];
    for (unsigned code = 0; code < 256; code++)
        numbers[code] = ap_f32_of_f16(ap_hf_half_of_f8(AP_DTYPE_F8_E4M3, (unsigned char)code));
    for (uint64_t block = 0; block < blocks; block++) {
        float scale = scale_at(m, first + block);
        uint64_t end = block + 1 < blocks ? (block + 1) * m->block_columns : m->columns;
        for (uint64_t c = block * m->block_columns; c < end; c++) {
            float value = numbers[codes[c]] * scale;
            uint16_t half = ap_bf16_of_f32(value);
            if (m->type == AP_TYPE_F32)
                memcpy(out + 4 * c, &value, 4);
            else
                memcpy(out + 2 * c, &half, 2);
        }
    }
}

/* From pairs of neighbours to halves 16 apart. */
static void row_of_mxfp4(const ap_hf_matrix *m, uint64_t row, unsigned char *out)
{
    uint64_t blocks = m->columns / AP_BLOCK_COLS;
    for (uint64_t i = row * blocks; i < (row + 1) * blocks; i++, out += sizeof(ap_block_mxfp4)) {
        const unsigned char *pairs = m->codes + 16 * i;
        ap_block_mxfp4 b = {.e = m->scales[i]};
        for (unsigned e = 0; e < 16; e++) {
            unsigned low = pairs[e / 2] >> e % 2 * 4 & 15, high = pairs[8 + e / 2] >> e % 2 * 4 & 15;
            b.qs[e] = (uint8_t)(low | high << 4);
        }
        memcpy(out, &b, sizeof b);
    }
}

void ap_hf_matrix_row(const ap_hf_matrix *m, uint64_t row, unsigned char *out)
{
    if (m->method == AP_HF_FP8)
        row_of_fp8(m, row, out);
    else if (m->method == AP_HF_MXFP4)
        row_of_mxfp4(m, row, out);
    else if (m->type == AP_TYPE_F32)
        row_of_f32(m, row, out);
    else if (m->type == AP_TYPE_Q4_0)
        row_of_q4_0(m, row, out);
    else
        row_of_q5_0(m, row, out);
}
