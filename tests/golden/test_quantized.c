/* Folders in AWQ, GPTQ, FP8 and MXFP4, golden/quantized/ (golden/README.md).
 *
 * Decoded to floats their weights have the bits that the reference's dequantisation has, and the logits are the
 * reference's; as they are packed by default they have the same bits where a packed type holds them, and are within half
 * a step where it rounds, which the report must say.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "format/format.h"
#include "golden.h"
#include "quant/quant.h"
#include "support.h"
#include "tiny_model.h"

typedef struct packed_model {
    ap_mapping map;
    ap_packed *packed;
    ap_import_report report;
    int fd;
} packed_model;

static packed_model pack(const char *folder, bool decode_to_f32)
{
    packed_model p = {.fd = ap_test_temporary()};
    assert_ok(golden_import(folder, p.fd, decode_to_f32, &p.report, err));
    assert_ok(ap_file_map(p.fd, &p.map, err));
    assert_ok(ap_packed_open(&p.packed, p.map.ptr, p.map.len, err));
    return p;
}

static void unpack(packed_model *p)
{
    ap_packed_close(&p->packed);
    ap_file_unmap(&p->map);
    close(p->fd);
}

/* All rows as floats, for the caller to free. */
static float *floats_of(const ap_packed_tensor *t)
{
    float *out = malloc(t->rows * t->columns * sizeof *out);
    assert_non_null(out);
    for (uint32_t row = 0; row < t->rows; row++) {
        float *to = out + (size_t)row * t->columns;
        if (t->layout == AP_LAYOUT_ROWS)
            ap_decode(t->type, t->data + row * ap_row_bytes(t->type, (uint32_t)t->columns), (size_t)t->columns, to);
        else
            ap_matrix_row(&(ap_matrix){t->type, (uint32_t)t->rows, (uint32_t)t->columns, t->data}, row, to);
    }
    return out;
}

static void check_hash(const char *name, const float *x, size_t count, const char *expected)
{
    ap_hash hash;
    char hex[AP_HASH_HEX];
    ap_hash_begin(&hash, AP_HASH_SHA256);
    ap_hash_add(&hash, x, count * sizeof *x);
    ap_hash_end(&hash, hex);
    if (strcmp(hex, expected) != 0)
        fail_msg("%s: other bits than the reference's", name);
}

/* Half a step of the type: of BF16 2^-9 of the number; of Q8_0, whose scale is fitted, one step of the block. */
static void check_rounded(const char *name, ap_type type, const float *x, const float *exact, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float largest = 0, bound = fabsf(exact[i]) * 0x1p-8f;
        for (size_t k = i / 32 * 32; k < i / 32 * 32 + 32 && k < count; k++)
            largest = fmaxf(largest, fabsf(exact[k]));
        if (type == AP_TYPE_Q8_0)
            bound = largest / 127;
        if (!(fabsf(x[i] - exact[i]) <= bound))
            fail_msg("%s: weight %zu is %g, %g is more than a step away", name, i, (double)x[i], (double)exact[i]);
    }
}

static void check_weights(const json_t *record, const packed_model *plain, const packed_model *decoded)
{
    ap_str type, rounded;
    const json_t *weights, *digest;
    const char *name;
    assert_ok(ap_json_get_str(record, "type", &type, err));
    assert_ok(ap_json_get_str(record, "rounded", &rounded, err));
    assert_ok(ap_json_get_object(record, "weights", &weights, err));
    assert_true(json_object_size(weights) > 0);
    json_object_foreach((json_t *)weights, name, digest)
    {
        const ap_packed_tensor *a = ap_packed_find(plain->packed, ap_str_from(name)), *b = ap_packed_find(decoded->packed, ap_str_from(name));
        assert_true(a && b && a->rows == b->rows && a->columns == b->columns);
        if (!ap_str_is(type, ap_type_info_of(a->type)->name))
            fail_msg("%s: is packed as %s", name, ap_type_info_of(a->type)->name);
        assert_int_equal(b->type, AP_TYPE_F32);
        float *x = floats_of(a), *exact = floats_of(b);
        size_t count = (size_t)(a->rows * a->columns);
        check_hash(name, exact, count, json_string_value(digest));
        if (rounded.len)
            check_rounded(name, a->type, x, exact, count);
        else
            assert_memory_equal(x, exact, count * sizeof *x);
        free(x);
        free(exact);
    }
    char said[64];
    (void)snprintf(said, sizeof said, "rounded to %.*s", (int)rounded.len, rounded.ptr);
    assert_int_equal(strstr(plain->report.notes, rounded.len ? said : "rounded") != NULL, rounded.len > 0);
    assert_null(strstr(decoded->report.notes, "rounded"));
    if (!ap_str_is(type, plain->report.quantization))
        fail_msg("the report says that most weights are %s", plain->report.quantization);
}

static void the_reference_agrees(void **state)
{
    char folder[512];
    (void)snprintf(folder, sizeof folder, "golden/quantized/%s", (const char *)*state);
    json_t *record = golden_record(folder);
    packed_model plain = pack(folder, false), decoded = pack(folder, true);
    check_weights(record, &plain, &decoded);
    ap_model *model;
    assert_ok(ap_model_open(&model, decoded.fd, err));
    print_message("%s: %.1e of the largest logit\n", (const char *)*state, golden_run(model, NULL, record));
    ap_model_close(&model);
    assert_ok(ap_model_open(&model, plain.fd, err));
    ap_model_close(&model);
    unpack(&plain);
    unpack(&decoded);
    json_decref(record);
}

int main(void) { return golden_each("quantized", "golden/quantized", the_reference_agrees); }
