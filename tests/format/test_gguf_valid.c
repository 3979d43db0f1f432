/* Small valid files of every version, alignment, kind of value and type of tensor: what they say is what is read.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "format/format.h"
#include "hand.h"

/* Takes the file's bytes; they stay in `copy` (of exactly their length, for sanitizers) as long as the gguf. */
typedef struct opened {
    unsigned char *copy;
    ap_gguf *g;
} opened;

static opened open_hand(hand *h)
{
    opened o = {malloc(h->b.len), NULL};
    assert_non_null(o.copy);
    memcpy(o.copy, h->b.ptr, h->b.len);
    assert_ok(ap_gguf_open(&o.g, o.copy, h->b.len, err));
    ap_buf_deinit(&h->b);
    return o;
}

static void close_hand(opened *o)
{
    ap_gguf_close(&o->g);
    free(o->copy);
}

static void both_versions_and_all_alignments_are_read(void **state)
{
    static const uint32_t alignments[] = {0, 8, 16, 32, 64, 4096, 65536}; /* 0: the key is absent, which means 32 */
    for (uint32_t version = 2; version <= 3; version++)
        for (size_t i = 0; i < sizeof alignments / sizeof alignments[0]; i++) {
            uint32_t alignment = alignments[i] ? alignments[i] : 32, next = (20 + alignment - 1) / alignment * alignment;
            hand h = begin(version, 2, alignments[i] ? 2 : 1);
            str(&h, "general.name");
            u32(&h, AP_GGUF_STRING);
            str(&h, "by hand");
            if (alignments[i]) {
                str(&h, "general.alignment");
                u32(&h, AP_GGUF_U32);
                u32(&h, alignment);
            }
            tensor(&h, "first", 1, 5, 0, AP_TYPE_F32, 0);
            tensor(&h, "second.weight", 2, 32, 2, AP_TYPE_Q8_0, next);
            pad(&h, alignment);
            size_t data = h.b.len;
            for (unsigned n = 0; n < next + 68; n++)
                put(&h, &(char){(char)n}, 1);
            opened o = open_hand(&h);
            ap_str text;
            assert_ok(ap_gguf_get_str(o.g, "general.name", &text, err));
            assert_true(ap_str_is(text, "by hand"));
            assert_int_equal(ap_gguf_tensor_count(o.g), 2);
            const ap_gguf_tensor *first = ap_gguf_find_tensor(o.g, AP_STR("first"));
            const ap_gguf_tensor *second = ap_gguf_find_tensor(o.g, AP_STR("second.weight"));
            assert_true(first && first == ap_gguf_tensor_at(o.g, 0) && second && second == ap_gguf_tensor_at(o.g, 1));
            assert_true(first->type == AP_TYPE_F32 && first->dim_count == 1 && first->dims[0] == 5 && first->dims[1] == 1);
            assert_true(first->bytes == 20 && first->offset == data);
            assert_true(second->type == AP_TYPE_Q8_0 && second->dim_count == 2 && second->dims[0] == 32 && second->dims[1] == 2);
            assert_true(second->bytes == 68 && second->offset == data + next);
            for (unsigned n = 0; n < 68; n++)
                assert_int_equal(ap_gguf_data(o.g, second)[n], (next + n) & 255);
            assert_null(ap_gguf_find_tensor(o.g, AP_STR("second")));
            assert_null(ap_gguf_find(o.g, AP_STR("general")));
            close_hand(&o);
        }
}

/* The two ends of each kind, as the bytes of a file. */
static const struct {
    ap_gguf_kind kind;
    uint32_t bytes;
    uint64_t low, high;
} numbers[] = {
    {AP_GGUF_U8, 1, 0, 0xff},
    {AP_GGUF_I8, 1, 0x80, 0x7f},
    {AP_GGUF_U16, 2, 0, 0xffff},
    {AP_GGUF_I16, 2, 0x8000, 0x7fff},
    {AP_GGUF_U32, 4, 0, 0xffffffff},
    {AP_GGUF_I32, 4, 0x80000000, 0x7fffffff},
    {AP_GGUF_F32, 4, 0xff800000, 0x3f800000}, /* -inf and 1 */
    {AP_GGUF_BOOL, 1, 0, 1},
    {AP_GGUF_U64, 8, 0, UINT64_MAX},
    {AP_GGUF_I64, 8, 1ull << 63, INT64_MAX},
    {AP_GGUF_F64, 8, 0xfff0000000000000, 0x3ff0000000000000},
};
enum { NUMBERS = sizeof numbers / sizeof numbers[0] };

static void every_kind_of_number_is_read(void **state)
{
    hand h = begin(3, 0, NUMBERS * 5);
    char name[32];
    for (unsigned i = 0; i < NUMBERS; i++) {
        for (int high = 0; high < 2; high++) {
            (void)snprintf(name, sizeof name, "%s.%u", high ? "high" : "low", i);
            str(&h, name);
            u32(&h, numbers[i].kind);
            put(&h, high ? &numbers[i].high : &numbers[i].low, numbers[i].bytes);
        }
        for (unsigned items = 0; items < 3; items++) {
            (void)snprintf(name, sizeof name, "array.%u.%u", items, i);
            str(&h, name);
            u32(&h, AP_GGUF_ARRAY);
            u32(&h, numbers[i].kind);
            u64(&h, items);
            for (unsigned n = 0; n < items; n++)
                put(&h, n ? &numbers[i].high : &numbers[i].low, numbers[i].bytes);
        }
    }
    opened o = open_hand(&h);
    assert_int_equal(ap_gguf_key_count(o.g), NUMBERS * 5);
    ap_arena arena = {0};
    for (unsigned i = 0; i < NUMBERS; i++) {
        for (unsigned items = 0; items < 3; items++) {
            (void)snprintf(name, sizeof name, "array.%u.%u", items, i);
            const ap_gguf_key *key = ap_gguf_find(o.g, ap_str_from(name));
            assert_true(key && key->kind == AP_GGUF_ARRAY && key->item_kind == numbers[i].kind && key->count == items);
            assert_true(key->byte_count == items * numbers[i].bytes);
            assert_true(items < 1 || memcmp(key->bytes, &numbers[i].low, numbers[i].bytes) == 0);
            assert_true(items < 2 || memcmp(key->bytes + numbers[i].bytes, &numbers[i].high, numbers[i].bytes) == 0);
            const float *floats;
            const int32_t *ints;
            bool is_f32 = numbers[i].kind == AP_GGUF_F32, is_i32 = numbers[i].kind == AP_GGUF_I32;
            assert_int_equal(ap_gguf_get_f32s(o.g, name, items, &arena, &floats, NULL), is_f32 ? AP_OK : AP_E_FORMAT);
            assert_true(!is_f32 || items < 2 || (floats[0] == -INFINITY && floats[1] == 1));
            assert_int_equal(ap_gguf_get_i32s(o.g, name, items, &arena, &ints, NULL), is_i32 ? AP_OK : AP_E_FORMAT);
            assert_true(!is_i32 || items < 2 || (ints[0] == INT32_MIN && ints[1] == INT32_MAX));
            assert_int_equal(ap_gguf_get_i32s(o.g, name, items + 1, &arena, &ints, NULL), AP_E_FORMAT);
        }
        for (int high = 0; high < 2; high++) {
            (void)snprintf(name, sizeof name, "%s.%u", high ? "high" : "low", i);
            uint64_t value = high ? numbers[i].high : numbers[i].low;
            const ap_gguf_key *key = ap_gguf_find(o.g, ap_str_from(name));
            assert_true(key && key->kind == numbers[i].kind && key->item_kind == key->kind && key->count == 1);
            assert_true(key->byte_count == numbers[i].bytes && memcmp(key->bytes, &value, numbers[i].bytes) == 0);
            bool is_integer = key->kind != AP_GGUF_F32 && key->kind != AP_GGUF_BOOL && key->kind != AP_GGUF_F64;
            bool is_signed = key->kind == AP_GGUF_I8 || key->kind == AP_GGUF_I16 || key->kind == AP_GGUF_I32 || key->kind == AP_GGUF_I64;
            uint32_t whole;
            float real;
            bool flag;
            ap_str text;
            ap_status fits = is_integer && !(is_signed && !high) && value <= UINT32_MAX ? AP_OK : AP_E_FORMAT;
            assert_int_equal(ap_gguf_get_u32(o.g, name, &whole, NULL), fits);
            assert_true(fits != AP_OK || whole == value);
            assert_int_equal(ap_gguf_get_f32(o.g, name, &real, NULL), key->kind == AP_GGUF_F32 ? AP_OK : AP_E_FORMAT);
            assert_true(key->kind != AP_GGUF_F32 || real == (high ? 1 : -INFINITY));
            assert_int_equal(ap_gguf_get_bool(o.g, name, &flag, NULL), key->kind == AP_GGUF_BOOL ? AP_OK : AP_E_FORMAT);
            assert_true(key->kind != AP_GGUF_BOOL || flag == high);
            assert_int_equal(ap_gguf_get_str(o.g, name, &text, NULL), AP_E_FORMAT);
        }
    }
    /* A number array may be absent; then there are no numbers, which is no error. */
    const float *none = (const float *)name;
    assert_ok(ap_gguf_get_f32s(o.g, "absent", 7, &arena, &none, err));
    assert_null(none);
    ap_arena_deinit(&arena);
    close_hand(&o);
}

static void strings_of_any_bytes_are_read(void **state)
{
    static const ap_str texts[] = {{"", 0}, {"a\0b", 3}, {"\xff\xfe\xc0", 3}, {"\xe2\x82\xac", 3}};
    enum { TEXTS = sizeof texts / sizeof texts[0] };
    hand h = begin(2, 0, TEXTS + 2);
    char name[32];
    for (unsigned i = 0; i < TEXTS; i++) {
        (void)snprintf(name, sizeof name, "text.%u", i);
        str(&h, name);
        u32(&h, AP_GGUF_STRING);
        u64(&h, texts[i].len);
        put(&h, texts[i].ptr, texts[i].len);
    }
    for (unsigned items = 0; items <= TEXTS; items += TEXTS) {
        str(&h, items ? "all" : "none");
        u32(&h, AP_GGUF_ARRAY);
        u32(&h, AP_GGUF_STRING);
        u64(&h, items);
        for (unsigned i = 0; i < items; i++) {
            u64(&h, texts[i].len);
            put(&h, texts[i].ptr, texts[i].len);
        }
    }
    opened o = open_hand(&h);
    ap_arena arena = {0};
    for (unsigned i = 0; i < TEXTS; i++) {
        ap_str text;
        (void)snprintf(name, sizeof name, "text.%u", i);
        assert_ok(ap_gguf_get_str(o.g, name, &text, err));
        assert_true(ap_str_equal(text, texts[i]));
    }
    const ap_str *list;
    uint64_t count;
    assert_ok(ap_gguf_get_strs(o.g, "all", &arena, &list, &count, err));
    assert_int_equal(count, TEXTS);
    for (unsigned i = 0; i < TEXTS; i++)
        assert_true(ap_str_equal(list[i], texts[i]));
    assert_ok(ap_gguf_get_strs(o.g, "none", &arena, &list, &count, err));
    assert_int_equal(count, 0);
    assert_int_equal(ap_gguf_get_strs(o.g, "text.0", &arena, &list, &count, NULL), AP_E_FORMAT);
    assert_int_equal(ap_gguf_get_strs(o.g, "absent", &arena, &list, &count, NULL), AP_E_NOTFOUND);
    ap_arena_deinit(&arena);
    close_hand(&o);
}

static void tensors_of_every_type_and_dimension_are_sized(void **state)
{
    static const struct {
        uint32_t type;
        const char *name;
        uint32_t elems, bytes;
    } types[] = {
#define X(number, name, elems, bytes) {number, #name, elems, bytes},
        AP_TYPE_LIST(X)
#undef X
    };
    enum { TYPES = sizeof types / sizeof types[0] };
    hand h = begin(3, TYPES * 4, 0);
    uint64_t offset = 0;
    char name[32];
    for (unsigned i = 0; i < TYPES; i++)
        for (uint32_t dims = 1; dims <= 4; dims++) {
            (void)snprintf(name, sizeof name, "%s.%u", types[i].name, dims);
            str(&h, name);
            u32(&h, dims);
            u64(&h, types[i].elems * 3ull);
            for (uint32_t d = 1; d < dims; d++)
                u64(&h, d + 1);
            u32(&h, types[i].type);
            u64(&h, offset);
            offset += (types[i].bytes * 3ull * (dims == 1 ? 1 : dims == 2 ? 2 : dims == 3 ? 6 : 24) + 31) / 32 * 32;
        }
    finish(&h, (size_t)offset);
    opened o = open_hand(&h);
    for (unsigned i = 0; i < TYPES; i++)
        for (uint32_t dims = 1; dims <= 4; dims++) {
            (void)snprintf(name, sizeof name, "%s.%u", types[i].name, dims);
            const ap_gguf_tensor *t = ap_gguf_find_tensor(o.g, ap_str_from(name));
            assert_true(t && (uint32_t)t->type == types[i].type && t->dim_count == dims);
            uint64_t rows = 1;
            for (uint32_t d = 1; d < 4; d++) {
                assert_true(t->dims[d] == (d < dims ? d + 1 : 1));
                rows *= t->dims[d];
            }
            assert_true(t->dims[0] == types[i].elems * 3ull && t->bytes == types[i].bytes * 3ull * rows);
            assert_null(ap_type_removed(types[i].type));
            assert_string_equal(ap_type_info_of(types[i].type)->name, types[i].name);
        }
    close_hand(&o);
}

static void files_may_be_empty_of_tensors_or_keys(void **state)
{
    hand h = begin(3, 0, 0); /* the header alone: nothing needs to be padded */
    opened o = open_hand(&h);
    assert_true(ap_gguf_key_count(o.g) == 0 && ap_gguf_tensor_count(o.g) == 0);
    assert_null(ap_gguf_find(o.g, AP_STR("general.name")));
    assert_null(ap_gguf_find_tensor(o.g, AP_STR("")));
    close_hand(&o);
    h = begin(2, 1, 0);
    tensor(&h, "only", 1, 1, 0, AP_TYPE_I8, 0);
    finish(&h, 1); /* the padding behind the last tensor may be missing */
    o = open_hand(&h);
    assert_int_equal(ap_gguf_find_tensor(o.g, AP_STR("only"))->bytes, 1);
    close_hand(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_versions_and_all_alignments_are_read),
        cmocka_unit_test(every_kind_of_number_is_read),
        cmocka_unit_test(strings_of_any_bytes_are_read),
        cmocka_unit_test(tensors_of_every_type_and_dimension_are_sized),
        cmocka_unit_test(files_may_be_empty_of_tensors_or_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
