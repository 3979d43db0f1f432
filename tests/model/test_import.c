/* What import and open refuse, by name, in seeded tiny models with one key or one tensor changed; nothing stays behind.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "aperto.h"
#include "base/clock.h"
#include "format/format.h"
#include "model/model.h"
#include "support.h"
#include "tiny_model.h"

enum { U8 = AP_GGUF_U8, U32 = AP_GGUF_U32, I32 = AP_GGUF_I32, F32 = AP_GGUF_F32, BOOL = AP_GGUF_BOOL };

static const ap_tiny_model small = {.seed = 3, .layers = 2, .width = 32, .heads = 4, .kv_heads = 2, .ffn = 48, .context = 64};

/* ---- Changing a file ---- */

static ap_buf tiny_bytes(const ap_tiny_model *tiny)
{
    ap_buf out = {0};
    ap_tiny_model_write(tiny, &out);
    return out;
}

static void add(ap_buf *out, const void *bytes, size_t count) { assert_ok(ap_buf_add(out, bytes, count, err)); }

static size_t infos_end(const ap_gguf *g, const ap_buf *file)
{
    const ap_gguf_tensor *last = ap_gguf_tensor_at(g, ap_gguf_tensor_count(g) - 1);
    return (size_t)(last->name.ptr - file->ptr) + last->name.len + 4 + 8 * last->dim_count + 4 + 8;
}

/* The file with the key's type and value replaced by `record`; NULL takes the key out; an absent key comes first. */
static ap_buf with_record(const ap_buf *file, const char *name, const void *record, size_t record_bytes)
{
    ap_gguf *g;
    assert_ok(ap_gguf_open(&g, (unsigned char *)file->ptr, file->len, err));
    const ap_gguf_key *key = ap_gguf_find(g, ap_str_from(name));
    size_t begin = key ? (size_t)(key->name.ptr - 8 - file->ptr) : 24;
    size_t end = key ? (size_t)((const char *)key->bytes - file->ptr) + key->byte_count : 24;
    assert_true(key || record);
    uint64_t keys = ap_gguf_key_count(g) + (key ? 0 : 1) - (record ? 0 : 1), length = strlen(name);
    size_t infos = infos_end(g, file), data = (size_t)ap_gguf_tensor_at(g, 0)->offset;
    uint32_t alignment = 32;
    if (ap_gguf_find(g, AP_STR("general.alignment")))
        assert_ok(ap_gguf_get_u32(g, "general.alignment", &alignment, err));
    ap_buf out = {0};
    add(&out, file->ptr, 16);
    add(&out, &keys, 8);
    add(&out, file->ptr + 24, begin - 24);
    if (record) {
        add(&out, &length, 8);
        add(&out, name, length);
        add(&out, record, record_bytes);
    }
    add(&out, file->ptr + end, infos - end);
    while (out.len % alignment)
        add(&out, "", 1);
    add(&out, file->ptr + data, file->len - data);
    ap_gguf_close(&g);
    return out;
}

static ap_buf with_value(const ap_buf *file, const char *name, uint32_t kind, const void *value, size_t count)
{
    ap_buf record = {0};
    add(&record, &kind, 4);
    add(&record, value, count);
    ap_buf out = with_record(file, name, record.ptr, record.len);
    ap_buf_deinit(&record);
    return out;
}

static ap_buf with_u32(const ap_buf *file, const char *name, uint32_t v) { return with_value(file, name, U32, &v, 4); }
static ap_buf with_f32(const ap_buf *file, const char *name, float v) { return with_value(file, name, F32, &v, 4); }

static ap_buf with_text(const ap_buf *file, const char *name, const char *text)
{
    char value[512];
    uint64_t length = strlen(text);
    assert_true(length < 500);
    memcpy(value, &length, 8);
    memcpy(value + 8, text, length);
    return with_value(file, name, AP_GGUF_STRING, value, 8 + length);
}

/* Where the numbers of a tensor stand in the file, to be changed in place. */
typedef struct tensor_place {
    char *name;
    uint64_t *dims; /* unaligned: through memcpy only */
    void *type;
} tensor_place;

static tensor_place find_tensor(const ap_buf *file, const char *name)
{
    ap_gguf *g;
    assert_ok(ap_gguf_open(&g, (unsigned char *)file->ptr, file->len, err));
    const ap_gguf_tensor *t = ap_gguf_find_tensor(g, ap_str_from(name));
    if (!t)
        fail_msg("no tensor '%s'", name);
    char *at = file->ptr + (t->name.ptr - file->ptr);
    tensor_place place = {at, (void *)(at + t->name.len + 4), at + t->name.len + 4 + 8 * t->dim_count};
    ap_gguf_close(&g);
    return place;
}

/* ---- Trying it ---- */

static int file_of(const ap_buf *bytes)
{
    int fd = ap_test_temporary();
    assert_ok(ap_file_write_all(fd, bytes->ptr, bytes->len, err));
    return fd;
}

static ap_status import_bytes(const ap_buf *bytes, int packed, ap_import_report *report, ap_error *err)
{
    int source = file_of(bytes);
    ap_import_options options = {.size = sizeof options};
    ap_status status = ap_model_import(source, packed, &options, report, err);
    close(source);
    return status;
}

/* Takes the bytes; refused with `status`, and the message has all of the words. */
static void expect_refused_words(ap_buf bytes, ap_status expected, const char *const *words, size_t count)
{
    ap_import_report report;
    ap_error error = {0};
    int packed = ap_test_temporary();
    ap_status status = import_bytes(&bytes, packed, &report, &error);
    close(packed);
    if (status != expected)
        fail_msg("'%s' expected, came '%s' (%s); case of '%s'", ap_status_text(expected), ap_status_text(status), error.message,
                 words[0]);
    for (size_t i = 0; i < count; i++)
        if (!strstr(error.message, words[i]))
            fail_msg("'%s' is not in the message: %s", words[i], error.message);
    assert_null(strchr(error.message, '\n'));
    ap_buf_deinit(&bytes);
}
#define expect_refused(bytes, status, ...)                                                                              \
    expect_refused_words(bytes, status, (const char *const[]){__VA_ARGS__},                                             \
                         sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void expect_taken(ap_buf bytes)
{
    ap_import_report report;
    ap_error error = {0};
    int packed = ap_test_temporary();
    ap_model *model = NULL;
    if (import_bytes(&bytes, packed, &report, &error) != AP_OK || ap_model_open(&model, packed, &error) != AP_OK)
        fail_msg("refused: %s", error.message);
    ap_model_close(&model);
    close(packed);
    ap_buf_deinit(&bytes);
}

/* ---- Hyper-parameters ---- */

static const struct {
    const char *name;
    uint32_t low, high;
    bool is_needed;
} sizes[] = {
    {"llama.block_count", 1, 512, true},
    {"llama.embedding_length", 1, 65536, true},
    {"llama.attention.head_count", 1, 1024, true},
    {"llama.attention.head_count_kv", 1, 1024, false},
    {"llama.feed_forward_length", 1, 1 << 20, true},
    {"llama.context_length", 1, 1 << 24, true},
    {"llama.attention.key_length", 2, 256, false},
    {"llama.attention.value_length", 2, 256, false},
    {"llama.rope.dimension_count", 2, 256, false},
};

static void each_size_is_refused_beyond_its_limits(void **state)
{
    ap_buf file = tiny_bytes(&small);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const char *name = sizes[i].name;
        char low[16], high[16], above[16];
        (void)snprintf(low, sizeof low, "%u to", sizes[i].low);
        (void)snprintf(high, sizeof high, "to %u", sizes[i].high);
        (void)snprintf(above, sizeof above, "is %u;", sizes[i].high + 1);
        expect_refused(with_u32(&file, name, sizes[i].low - 1), AP_E_FORMAT, name, low, high);
        expect_refused(with_u32(&file, name, sizes[i].high + 1), AP_E_FORMAT, name, above, low, high);
        expect_refused(with_u32(&file, name, UINT32_MAX), AP_E_FORMAT, name, "4294967295");
        int32_t negative = -1;
        expect_refused(with_value(&file, name, I32, &negative, 4), AP_E_FORMAT, name, "negative");
        expect_refused(with_f32(&file, name, 4), AP_E_FORMAT, name, "f32", "integer");
        expect_refused(with_text(&file, name, "4"), AP_E_FORMAT, name, "string");
        uint64_t wide = 1ull << 32 | 4;
        expect_refused(with_value(&file, name, AP_GGUF_U64, &wide, 8), AP_E_FORMAT, name, "4294967300");
        struct __attribute__((packed)) {
            uint32_t kind;
            uint64_t count;
            uint32_t items[2];
        } list = {U32, 2, {4, 4}};
        expect_refused(with_value(&file, name, AP_GGUF_ARRAY, &list, sizeof list), AP_E_FORMAT, name, "array");
        if (sizes[i].is_needed)
            expect_refused(with_record(&file, name, NULL, 0), AP_E_NOTFOUND, name, "missing");
    }
    ap_buf_deinit(&file);
}

static void each_number_is_refused_beyond_its_limits(void **state)
{
    ap_buf file = tiny_bytes(&small);
    static const struct {
        const char *name;
        float below, above;
        bool is_needed;
    } numbers[] = {{"llama.rope.freq_base", 0.5f, 2e12f, false}, {"llama.attention.layer_norm_rms_epsilon", 0, 1.5f, true}};
    for (size_t i = 0; i < 2; i++) {
        const char *name = numbers[i].name;
        expect_refused(with_f32(&file, name, numbers[i].below), AP_E_FORMAT, name, "allowed");
        expect_refused(with_f32(&file, name, numbers[i].above), AP_E_FORMAT, name, "allowed");
        expect_refused(with_f32(&file, name, 0x1p-149f), AP_E_FORMAT, name, "allowed");
        expect_refused(with_f32(&file, name, -1e-6f), AP_E_FORMAT, name, "allowed");
        expect_refused(with_f32(&file, name, NAN), AP_E_FORMAT, name, "nan");
        expect_refused(with_f32(&file, name, INFINITY), AP_E_FORMAT, name, "inf");
        expect_refused(with_f32(&file, name, -INFINITY), AP_E_FORMAT, name, "inf");
        expect_refused(with_u32(&file, name, 1), AP_E_FORMAT, name, "f32");
        expect_refused(with_text(&file, name, "1"), AP_E_FORMAT, name, "string");
        if (numbers[i].is_needed)
            expect_refused(with_record(&file, name, NULL, 0), AP_E_NOTFOUND, name, "missing");
    }
    ap_buf linear = with_text(&file, "llama.rope.scaling.type", "linear");
    expect_refused(with_f32(&linear, "llama.rope.scaling.factor", 0), AP_E_FORMAT, "llama.rope.scaling.factor");
    expect_refused(with_f32(&linear, "llama.rope.scaling.factor", 2e6f), AP_E_FORMAT, "llama.rope.scaling.factor");
    expect_refused(with_f32(&linear, "llama.rope.scaling.factor", NAN), AP_E_FORMAT, "llama.rope.scaling.factor");
    expect_refused(linear, AP_E_NOTFOUND, "llama.rope.scaling.factor");
    expect_refused(with_text(&file, "llama.rope.scaling.type", "ntk"), AP_E_UNSUPPORTED, "llama.rope.scaling.type", "ntk");
    expect_refused(with_text(&file, "llama.rope.scaling.type", "yarn"), AP_E_NOTFOUND, "llama.rope.scaling.factor");
    static const char *const scales[] = {"llama.attention.scale", "llama.attn_logit_softcapping", "llama.final_logit_softcapping",
                                         "llama.attention.clamp_kqv", "llama.attention.max_alibi_bias"};
    for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++) {
        expect_refused(with_f32(&file, scales[i], -1), AP_E_FORMAT, scales[i]);
        expect_refused(with_f32(&file, scales[i], NAN), AP_E_FORMAT, scales[i]);
        expect_refused(with_f32(&file, scales[i], 2e6f), AP_E_FORMAT, scales[i]);
        expect_taken(with_f32(&file, scales[i], 0));
    }
    expect_refused(with_u32(&file, "llama.attention.sliding_window", UINT32_MAX), AP_E_FORMAT, "llama.attention.sliding_window");
    expect_taken(with_u32(&file, "llama.attention.sliding_window", 1));
    expect_refused(with_u32(&file, "llama.expert_count", 1025), AP_E_FORMAT, "llama.expert_count");
    ap_buf experts = with_u32(&file, "llama.expert_count", 4);
    expect_refused(with_u32(&experts, "llama.expert_used_count", 5), AP_E_FORMAT, "llama.expert_used_count");
    expect_refused(with_u32(&experts, "llama.expert_used_count", 0), AP_E_FORMAT, "llama.expert_used_count");
    expect_refused(experts, AP_E_NOTFOUND, "llama.expert_used_count");
    ap_buf_deinit(&file);
}

/* The frequencies' divisor of a model with these keys; an empty type, a negative factor: the key is not there. */
static ap_status scaling_of(const ap_buf *file, const char *type, float factor, float old, float *divisor,
                            ap_error *error)
{
    ap_buf now = {0};
    add(&now, file->ptr, file->len);
    const float values[] = {factor, old};
    const char *const names[] = {"llama.rope.scaling.factor", "llama.rope.scale_linear"};
    for (int i = 0; i < 3; i++) {
        if (i < 2 ? values[i] < 0 : type[0] == 0)
            continue;
        ap_buf next = i < 2 ? with_f32(&now, names[i], values[i]) : with_text(&now, "llama.rope.scaling.type", type);
        ap_buf_deinit(&now);
        now = next;
    }
    ap_gguf *g;
    assert_ok(ap_gguf_open(&g, (unsigned char *)now.ptr, now.len, err));
    ap_hparams read;
    ap_status status = ap_hparams_read(&read, &ap_arch_llama, g, error);
    *divisor = read.rope.divisor;
    ap_gguf_close(&g);
    ap_buf_deinit(&now);
    return status;
}

static void rope_scaling_of_every_age_is_read_or_refused(void **state)
{
    ap_buf file = tiny_bytes(&small);
    enum { ABSENT = -1 };
    static const struct {
        const char *type;
        float factor, old, divisor; /* 0: refused */
    } cases[] = {
        {"", ABSENT, ABSENT, 1}, {"none", ABSENT, ABSENT, 1}, {"linear", 2, ABSENT, 2}, {"linear", 0.5f, ABSENT, 0.5f},
        {"", 4, ABSENT, 4},      {"none", 4, ABSENT, 1},      {"linear", 0, ABSENT, 0}, {"linear", 2e6f, ABSENT, 0},
        {"", ABSENT, 0, 1},      {"", ABSENT, 1, 1},          {"", ABSENT, 8, 8},       {"linear", ABSENT, 8, 8},
        {"linear", 8, 8, 8},     {"", 8, 8, 8},               {"linear", 4, 8, 0},      {"linear", 4, 1, 0},
        {"", 4, 8, 0},           {"none", ABSENT, 1, 1},      {"none", ABSENT, 0, 1},   {"none", ABSENT, 8, 0},
        {"", ABSENT, 1e-4f, 0},  {"", ABSENT, 2e6f, 0},       {"", ABSENT, INFINITY, 0}, {"", ABSENT, NAN, 0},
        {"", NAN, ABSENT, 0},    {"linear", NAN, 2, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        float divisor;
        ap_error error = {0};
        ap_status status = scaling_of(&file, cases[i].type, cases[i].factor, cases[i].old, &divisor, &error);
        if (status != (cases[i].divisor > 0 ? AP_OK : AP_E_FORMAT) || (status == AP_OK && divisor != cases[i].divisor))
            fail_msg("case %zu: '%s', divisor %g: %s", i, ap_status_text(status), (double)divisor, error.message);
        if (status != AP_OK)
            assert_non_null(strstr(error.message, "llama.rope.scal"));
    }
    expect_refused(with_f32(&file, "llama.rope.scale_linear", -2), AP_E_FORMAT, "llama.rope.scale_linear", "-2");
    expect_refused(with_u32(&file, "llama.rope.scale_linear", 2), AP_E_FORMAT, "llama.rope.scale_linear", "f32");
    expect_taken(with_f32(&file, "llama.rope.scale_linear", 2));
    ap_buf_deinit(&file);
}

static void sizes_that_do_not_fit_each_other_are_refused(void **state)
{
    ap_buf file = tiny_bytes(&small);
    expect_refused(with_u32(&file, "llama.attention.head_count_kv", 3), AP_E_FORMAT, "4 query heads", "3 KV heads");
    expect_refused(with_u32(&file, "llama.attention.head_count_kv", 8), AP_E_FORMAT, "4 query heads", "8 KV heads");
    expect_refused(with_u32(&file, "llama.attention.head_count", 6), AP_E_NOTFOUND, "llama.attention.key_length");
    expect_refused(with_u32(&file, "llama.attention.key_length", 7), AP_E_FORMAT, "7", "even", "256");
    expect_refused(with_u32(&file, "llama.attention.key_length", 10), AP_E_FORMAT, "attn_q.weight", "[32, 40]");
    expect_refused(with_u32(&file, "llama.attention.value_length", 6), AP_E_UNSUPPORTED, "8", "6");
    expect_refused(with_u32(&file, "llama.rope.dimension_count", 7), AP_E_FORMAT, "7 rotary", "8");
    expect_refused(with_u32(&file, "llama.rope.dimension_count", 10), AP_E_FORMAT, "10 rotary", "8");
    expect_taken(with_u32(&file, "llama.rope.dimension_count", 4));
    expect_refused(with_u32(&file, "llama.embedding_length", 64), AP_E_FORMAT, "[32, 272]", "[64, 272]");
    expect_refused(with_u32(&file, "llama.feed_forward_length", 64), AP_E_FORMAT, "blk.0.ffn_gate.weight", "[32, 48]", "[32, 64]");
    expect_refused(with_u32(&file, "llama.block_count", 3), AP_E_FORMAT, "blk.2.attn_norm.weight", "missing");
    expect_refused(with_u32(&file, "llama.block_count", 512), AP_E_FORMAT, "blk.2.attn_norm.weight", "missing");
    ap_buf_deinit(&file);
}

static void features_that_are_not_there_are_refused(void **state)
{
    ap_buf file = tiny_bytes(&small);
    static const char *const names[] = {"llama.logit_scale", "llama.residual_scale", "llama.embedding_scale",
                                        "llama.expert_shared_count", "llama.expert_shared_feed_forward_length",
                                        "llama.expert_group_count", "llama.expert_weights_scale"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        expect_refused(with_u32(&file, names[i], 8), AP_E_UNSUPPORTED, names[i]);
        expect_refused(with_f32(&file, names[i], 0.5f), AP_E_UNSUPPORTED, names[i]);
        expect_taken(with_u32(&file, names[i], 0));
        expect_taken(with_f32(&file, names[i], 0));
    }
    uint8_t no = 0, yes = 1;
    expect_refused(with_value(&file, "llama.attention.causal", BOOL, &no, 1), AP_E_UNSUPPORTED, "llama.attention.causal");
    expect_taken(with_value(&file, "llama.attention.causal", BOOL, &yes, 1));
    expect_refused(with_f32(&file, "llama.rope.scaling.yarn_ext_factor", 0.5f), AP_E_UNSUPPORTED, "yarn_ext_factor");
    expect_taken(with_f32(&file, "llama.rope.scaling.yarn_ext_factor", 1));
    ap_buf_deinit(&file);
}

static void what_is_no_whole_model_is_refused(void **state)
{
    ap_buf file = tiny_bytes(&small);
    expect_refused(with_text(&file, "general.architecture", "mamba"), AP_E_UNSUPPORTED, "general.architecture", "mamba", "llama");
    expect_refused(with_text(&file, "general.architecture", ""), AP_E_UNSUPPORTED, "general.architecture");
    expect_refused(with_record(&file, "general.architecture", NULL, 0), AP_E_NOTFOUND, "general.architecture");
    expect_refused(with_u32(&file, "general.architecture", 1), AP_E_FORMAT, "general.architecture", "string");
    expect_refused(with_text(&file, "general.type", "adapter"), AP_E_UNSUPPORTED, "general.type", "adapter");
    expect_taken(with_text(&file, "general.type", "model"));
    uint16_t part = 3;
    expect_refused(with_value(&file, "split.count", AP_GGUF_U16, &part, 2), AP_E_UNSUPPORTED, "split.count", "is 3");
    expect_refused(with_value(&file, "split.no", AP_GGUF_U16, &part, 2), AP_E_UNSUPPORTED, "split.no", "is 3");
    part = 1;
    expect_refused(with_value(&file, "split.no", AP_GGUF_U16, &part, 2), AP_E_UNSUPPORTED, "split.no", "is 1");
    expect_taken(with_value(&file, "split.count", AP_GGUF_U16, &part, 2));
    part = 0;
    expect_taken(with_value(&file, "split.no", AP_GGUF_U16, &part, 2));
    int32_t tensors = 2 + 2 * 9;
    expect_taken(with_value(&file, "split.tensors.count", I32, &tensors, 4));
    tensors++;
    expect_refused(with_value(&file, "split.tensors.count", I32, &tensors, 4), AP_E_UNSUPPORTED, "split.tensors.count");
    expect_refused(with_text(&file, "split.no", "0"), AP_E_FORMAT, "split.no");
    expect_refused(with_u32(&file, "aperto.pack.version", 1), AP_E_NOTFOUND, "aperto.pack.law");
    ap_buf_deinit(&file);
}

/* ---- Vocabulary ---- */

static void a_vocabulary_that_does_not_fit_is_refused(void **state)
{
    ap_buf file = tiny_bytes(&small);
    tensor_place place = find_tensor(&file, "token_embd.weight");
    /* 32 x 271 values need as many padded bytes less than 32 x 272, so the first offset behind would be wrong: a file
     * whose offsets are right has other columns as well. */
    uint64_t dims[2] = {64, 136};
    memcpy(place.dims, dims, 16);
    ap_buf copy = {0};
    add(&copy, file.ptr, file.len);
    expect_refused(copy, AP_E_FORMAT, "272 tokens", "136 rows");
    dims[0] = 32;
    dims[1] = 272;
    memcpy(place.dims, dims, 16);
    expect_refused(with_text(&file, "tokenizer.ggml.model", "rwkv"), AP_E_UNSUPPORTED, "tokenizer.ggml.model", "rwkv");
    expect_refused(with_record(&file, "tokenizer.ggml.model", NULL, 0), AP_E_NOTFOUND, "tokenizer.ggml.model");
    expect_refused(with_text(&file, "tokenizer.ggml.pre", "no-such-rule"), AP_E_UNSUPPORTED, "no-such-rule");
    expect_refused(with_record(&file, "tokenizer.ggml.tokens", NULL, 0), AP_E_FORMAT, "0 tokens");
    expect_refused(with_text(&file, "tokenizer.ggml.tokens", "x"), AP_E_FORMAT, "tokenizer.ggml.tokens");
    expect_refused(with_text(&file, "tokenizer.ggml.token_type", "x"), AP_E_FORMAT, "tokenizer.ggml.token_type");
    expect_refused(with_text(&file, "tokenizer.ggml.merges", "x"), AP_E_FORMAT, "tokenizer.ggml.merges");
    /* Arrays of the right length whose items are of another kind. */
    static const char *const lists[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.scores",
                                        "tokenizer.ggml.merges"};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        struct __attribute__((packed)) {
            uint32_t kind;
            uint64_t count;
            uint8_t items[272 * 2];
        } list = {AP_GGUF_U16, 272, {0}};
        expect_refused(with_value(&file, lists[i], AP_GGUF_ARRAY, &list, sizeof list), AP_E_FORMAT, lists[i], "array of u16");
    }
    expect_refused(with_u32(&file, "tokenizer.ggml.pre", 1), AP_E_FORMAT, "tokenizer.ggml.pre", "string");
    expect_refused(with_u32(&file, "tokenizer.ggml.model", 1), AP_E_FORMAT, "tokenizer.ggml.model", "string");
    expect_refused(with_u32(&file, "general.type", 1), AP_E_FORMAT, "general.type", "string");
    expect_refused(with_u32(&file, "llama.rope.scaling.type", 1), AP_E_FORMAT, "llama.rope.scaling.type", "string");
    static const char *const ids[] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                      "tokenizer.ggml.eom_token_id", "tokenizer.ggml.unknown_token_id",
                                      "tokenizer.ggml.padding_token_id"};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        expect_refused(with_u32(&file, ids[i], 272), AP_E_FORMAT, ids[i], "272");
        expect_refused(with_text(&file, ids[i], "x"), AP_E_FORMAT, ids[i]);
    }
    expect_refused(with_u32(&file, "tokenizer.ggml.add_bos_token", 1), AP_E_FORMAT, "tokenizer.ggml.add_bos_token", "bool");
    expect_refused(with_u32(&file, "tokenizer.chat_template", 1), AP_E_FORMAT, "tokenizer.chat_template");
    ap_buf_deinit(&file);
}

/* ---- Tensors ---- */

static void a_missing_tensor_is_named(void **state)
{
    ap_tiny_model with_all = small;
    with_all.has_bias = with_all.has_rope_freqs = true;
    ap_buf file = tiny_bytes(&with_all);
    static const char *const names[] = {
        "token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight", "blk.0.attn_q.weight", "blk.1.attn_k.weight",
        "blk.1.attn_v.weight", "blk.0.attn_output.weight", "blk.1.ffn_norm.weight", "blk.0.ffn_gate.weight",
        "blk.0.ffn_up.weight", "blk.1.ffn_down.weight"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        tensor_place place = find_tensor(&file, names[i]);
        place.name[0] ^= 1;
        ap_buf copy = {0};
        add(&copy, file.ptr, file.len);
        expect_refused(copy, AP_E_FORMAT, names[i], "missing");
        place.name[0] ^= 1;
    }
    expect_taken(file);
}

static void a_tensor_of_a_wrong_shape_or_type_is_named(void **state)
{
    ap_tiny_model with_all = small;
    with_all.has_bias = with_all.has_rope_freqs = with_all.has_output = true;
    ap_buf file = tiny_bytes(&with_all);
    ap_gguf *g;
    assert_ok(ap_gguf_open(&g, (unsigned char *)file.ptr, file.len, err));
    unsigned tried = 0;
    for (uint32_t i = 0; i < ap_gguf_tensor_count(g); i++) {
        char name[64] = {0};
        const ap_gguf_tensor *t = ap_gguf_tensor_at(g, i);
        memcpy(name, t->name.ptr, t->name.len);
        tensor_place place = find_tensor(&file, name);
        /* Twice the columns and half the rows: the same bytes, another matrix. */
        if (t->dim_count == 2 && i != 0) {
            uint64_t dims[2] = {t->dims[0] * 2, t->dims[1] / 2}, old[2];
            memcpy(old, place.dims, 16);
            memcpy(place.dims, dims, 16);
            ap_buf copy = {0};
            add(&copy, file.ptr, file.len);
            memcpy(place.dims, old, 16);
            expect_refused(copy, AP_E_FORMAT, name, "shape", "needed");
        }
        /* I32 has the size of F32. */
        uint32_t old_type, type = AP_TYPE_I32;
        memcpy(&old_type, place.type, 4);
        memcpy(place.type, &type, 4);
        ap_buf copy = {0};
        add(&copy, file.ptr, file.len);
        memcpy(place.type, &old_type, 4);
        expect_refused(copy, AP_E_UNSUPPORTED, name, "26 (I32)");
        tried++;
    }
    assert_int_equal(tried, 4 + 2 * 12);
    ap_gguf_close(&g);
    expect_taken(file);
}

static void a_cut_file_is_refused(void **state)
{
    ap_buf file = tiny_bytes(&small);
    for (size_t keep = 0; keep + 32 < file.len; keep += keep < 256 ? 1 : 4099) {
        ap_buf copy = {0};
        add(&copy, file.ptr, keep);
        int source = file_of(&copy), packed = ap_test_temporary();
        ap_import_options options = {.size = sizeof options};
        ap_import_report report;
        ap_error error = {0};
        assert_int_not_equal(ap_model_import(source, packed, &options, &report, &error), AP_OK);
        assert_true(error.message[0] != 0);
        close(source);
        close(packed);
        ap_buf_deinit(&copy);
    }
    ap_buf_deinit(&file);
}

static void what_the_template_does_is_reported(void **state)
{
#define EACH "{% for m in messages %}{{ m.content }}{% endfor %}"
#define EARLIER "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}{% endfor %}"
#define SHOWN "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}"
    enum { SYSTEM = AP_CHAT_KNOWN | AP_CHAT_SYSTEM, CALLS = SYSTEM | AP_CHAT_TOOLS | AP_CHAT_CALLS };
    static const struct {
        const char *source, *calls;
        uint32_t chat;
        bool adds_bos;
        const char *note;
    } cases[] = {
        {EACH, "", SYSTEM, false, ""},
        {EACH, "", SYSTEM | AP_CHAT_TOKENIZER_BOS, true, ""},
        {"{{ bos_token }}" EACH, "", SYSTEM | AP_CHAT_BOS, false, ""},
        {"{{ bos_token }}" EACH, "", SYSTEM | AP_CHAT_BOS | AP_CHAT_TOKENIZER_BOS, true, "BOS is doubled"},
        {"{{ bos_token + bos_token }}" EACH, "", SYSTEM | AP_CHAT_BOS | AP_CHAT_BOS_TWICE, false, "writes BOS twice"},
        {"{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "", AP_CHAT_KNOWN, false, ""},
        {EACH SHOWN "<tool_call> <think>", "Hermes", CALLS | AP_CHAT_REASONING, false, ""},
        {EACH SHOWN EARLIER "<tool_call>", "Hermes", CALLS | AP_CHAT_RESULTS, false, ""},
        {EACH SHOWN "{% if tools %}" EARLIER "{% endif %}<tool_call>", "Hermes", CALLS | AP_CHAT_RESULTS, false, ""},
        {EACH SHOWN "<arg_key>", "GLM", SYSTEM | AP_CHAT_TOOLS, false, ""},
        {EACH SHOWN, "", SYSTEM | AP_CHAT_TOOLS, false, ""},
        {"{% for t in tools %}{{ t.function.name }}{% endfor %}<tool_call>" EACH, "Hermes", CALLS, false, "fails for a message without tools (line 1: "},
        {"{{ functions + messages[0].content }}", "", 0, false, "without tools (line 1: 'functions' is undefined)"},
    };
    ap_buf file = tiny_bytes(&small);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ap_import_report report;
        int packed = ap_test_temporary(), copy = ap_test_temporary();
        ap_buf one = with_text(&file, "tokenizer.chat_template", cases[i].source);
        ap_buf two = with_value(&one, "tokenizer.ggml.add_bos_token", AP_GGUF_BOOL, &cases[i].adds_bos, 1);
        assert_ok(import_bytes(&two, packed, &report, err));
        for (int again = 0; again < 2; again++) { /* the packed file as well */
            if (report.chat != cases[i].chat || strcmp(report.chat_calls, cases[i].calls) != 0)
                fail_msg("case %zu: chat %u, calls '%s'", i, report.chat, report.chat_calls);
            assert_true(again || (cases[i].note[0] ? strstr(report.notes, cases[i].note) != NULL : !report.notes[0]));
            assert_ok(ap_model_import(packed, copy, &(ap_import_options){.size = sizeof(ap_import_options)}, &report, err));
        }
        close(packed);
        close(copy);
        ap_buf_deinit(&one);
        ap_buf_deinit(&two);
    }
    ap_buf_deinit(&file);
}

static void what_is_packed_already_is_checked_and_copied(void **state)
{
    ap_buf file = tiny_bytes(&small), bytes = {0};
    int packed = ap_test_temporary(), copy = ap_test_temporary();
    ap_import_report first, second;
    ap_mapping one, two;
    assert_ok(import_bytes(&file, packed, &first, err));
    assert_ok(ap_file_map(packed, &one, err));
    add(&bytes, one.ptr, one.len);
    assert_ok(import_bytes(&bytes, copy, &second, err));
    assert_ok(ap_file_map(copy, &two, err));
    assert_true(one.len == two.len && memcmp(one.ptr, two.ptr, one.len) == 0);
    ap_file_unmap(&two);
    assert_true(second.parameter_count == first.parameter_count && second.context_tokens == first.context_tokens);
    assert_true(second.source_bytes == one.len && second.packed_bytes == one.len && second.has_chat_template);
    assert_string_equal(second.architecture, first.architecture);
    assert_string_equal(second.quantization, first.quantization);
    /* A stranger packed it: what does not fit together is refused, and nothing is written. */
    char *dims = memmem(bytes.ptr, bytes.len, "aperto.tensor.dims", 18);
    assert_non_null(dims);
    dims[18 + 4 + 4 + 8] ^= 32; /* the first of the columns, behind kind, kind of the elements and count */
    ap_error error = {0};
    assert_int_equal(ftruncate(copy, 0), 0);
    assert_int_equal(import_bytes(&bytes, copy, &second, &error), AP_E_FORMAT);
    assert_int_equal(lseek(copy, 0, SEEK_END), 0);
    ap_file_unmap(&one);
    close(packed);
    close(copy);
    ap_buf_deinit(&bytes);
    ap_buf_deinit(&file);
}

/* ---- What a refusal may cost ---- */

/* Where the data begins; of a file that is none, its length. */
static uint64_t header_bytes(const ap_buf *file)
{
    ap_gguf *g = NULL;
    uint64_t bytes = file->len;
    if (ap_gguf_open(&g, (unsigned char *)file->ptr, file->len, NULL) == AP_OK && ap_gguf_tensor_count(g))
        bytes = ap_gguf_tensor_at(g, 0)->offset;
    ap_gguf_close(&g);
    return bytes;
}

/* Takes the bytes; whatever is wrong with them, import asks for at most 16 MiB and four times the header, in a second. */
static void import_within_bounds(ap_buf bytes, ap_status *status)
{
    ap_import_report report;
    ap_error error = {0};
    int packed = ap_test_temporary();
    uint64_t start = ap_clock_ns();
    ap_alloc_fail_at(UINT64_MAX, false); /* count, never fail */
    *status = import_bytes(&bytes, packed, &report, &error);
    uint64_t taken = ap_alloc_bytes();
    ap_alloc_fail_at(0, false);
    double seconds = (double)(ap_clock_ns() - start) * 1e-9;
    if (*status != AP_OK && (taken > (16u << 20) + 4 * header_bytes(&bytes) || seconds > ap_test_slowness()))
        fail_msg("%" PRIu64 " bytes of memory, %g s for a file of %zu: %s", taken, seconds, bytes.len, error.message);
    assert_true(*status == AP_OK || error.message[0]);
    close(packed);
    ap_buf_deinit(&bytes);
}

/* An array of strings: `count` numbers in hexadecimal, each with `rest` behind. */
static ap_buf with_texts(const ap_buf *file, const char *name, uint32_t count, const char *rest)
{
    ap_buf list = {0};
    uint32_t kind = AP_GGUF_STRING;
    uint64_t items = count;
    add(&list, &kind, 4);
    add(&list, &items, 8);
    for (uint32_t i = 0; i < count; i++) {
        char text[32];
        uint64_t length = (uint64_t)snprintf(text, sizeof text, "%x%s", i, rest);
        add(&list, &length, 8);
        add(&list, text, length);
    }
    ap_buf out = with_value(file, name, AP_GGUF_ARRAY, list.ptr, list.len);
    ap_buf_deinit(&list);
    return out;
}

static void a_refusal_keeps_to_its_memory_and_time(void **state)
{
    ap_status status;
    ap_buf file = tiny_bytes(&small);
    /* Every 32 bits of the header in turn are absurd. */
    size_t header = (size_t)(find_tensor(&file, "token_embd.weight").name - file.ptr);
    static const uint32_t absurd[] = {1u << 31, UINT32_MAX, 65536, 0};
    for (size_t at = 8; at < header; at += 7)
        for (size_t i = 0; i < sizeof absurd / sizeof absurd[0]; i++) {
            ap_buf copy = {0};
            add(&copy, file.ptr, file.len);
            memcpy(copy.ptr + at, &absurd[i], 4);
            import_within_bounds(copy, &status);
        }
    /* A large vocabulary of short tokens, refused as late as can be: only after the tokens are the merges read. */
    enum { TOKENS = 150000 };
    ap_tiny_model large = small;
    large.width = 8;
    large.heads = large.kv_heads = 1;
    large.spare_rows = TOKENS;
    ap_buf steps[4] = {tiny_bytes(&large)};
    steps[1] = with_texts(&steps[0], "tokenizer.ggml.tokens", TOKENS, "");
    steps[2] = with_record(&steps[1], "tokenizer.ggml.token_type", NULL, 0);
    steps[3] = with_texts(&steps[2], "tokenizer.ggml.merges", TOKENS, " ~");
    import_within_bounds(steps[3], &status);
    assert_int_equal(status, AP_E_FORMAT);
    for (int i = 0; i < 3; i++)
        ap_buf_deinit(&steps[i]);
    ap_buf_deinit(&file);
}

static void the_collected_bad_files_cost_little_to_refuse(void **state)
{
    static const char *const folders[] = {"gguf_crashes", "gguf_fuzz_corpus", "gguf_header_only", "weight-inspect"};
    unsigned refused = 0;
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        char relative[64];
        (void)snprintf(relative, sizeof relative, "bad_inputs/%s", folders[i]);
        const char *folder = ap_test_data(relative);
        DIR *dir = opendir(folder);
        assert_non_null(dir);
        for (struct dirent *d; (d = readdir(dir));) {
            char path[4096];
            (void)snprintf(path, sizeof path, "%s/%s", folder, d->d_name);
            if (d->d_type != DT_REG)
                continue;
            ap_buf bytes;
            ap_status status;
            assert_ok(ap_file_read(path, 1 << 20, &bytes, err));
            import_within_bounds(bytes, &status);
            assert_int_not_equal(status, AP_OK); /* not one of them is a whole model */
            refused++;
        }
        closedir(dir);
    }
    assert_true(refused >= 185);
}

/* ---- The report ---- */

typedef struct progress_seen {
    uint64_t done, total;
} progress_seen;

static void see(void *context, uint64_t done, uint64_t total)
{
    progress_seen *s = context;
    assert_true(done >= s->done && done <= total && (s->total == 0 || s->total == total));
    *s = (progress_seen){done, total};
}

static void the_report_tells_what_was_packed(void **state)
{
    ap_tiny_model tiny = small;
    tiny.type = AP_TYPE_Q8_0;
    tiny.ffn = 64;
    ap_buf file = tiny_bytes(&tiny);
    int source = file_of(&file), packed = ap_test_temporary();
    char digest[65];
    memset(digest, 'a', 64);
    digest[64] = 0;
    progress_seen seen = {0};
    ap_import_options options = {.size = sizeof options, .source_sha256 = digest, .progress = see, .progress_context = &seen};
    ap_import_report report;
    assert_ok(ap_model_import(source, packed, &options, &report, err));
    uint64_t parameters = 272 * 32 + 32 + 2 * (2 * 32 + 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64);
    assert_string_equal(report.architecture, "llama");
    assert_string_equal(report.name, "tiny");
    assert_string_equal(report.license, "apache-2.0");
    assert_string_equal(report.quantization, "Q8_0");
    assert_true(report.parameter_count == parameters);
    assert_true(report.source_bytes == file.len);
    assert_true(report.packed_bytes == (uint64_t)lseek(packed, 0, SEEK_END));
    assert_int_equal(report.context_tokens, 64);
    assert_true(report.has_chat_template);
    assert_string_equal(report.notes, "");
    assert_true(seen.total > 0 && seen.done == seen.total);
    ap_model *model;
    assert_ok(ap_model_open(&model, packed, err));
    const ap_model_info *info = ap_model_info_of(model);
    assert_string_equal(info->source_sha256, digest);
    assert_string_equal(info->quantization, "Q8_0");
    assert_true(info->parameter_count == parameters && info->file_bytes == report.packed_bytes);
    assert_int_equal(info->vocab_count, 272);
    assert_int_equal(info->layer_count, 2);
    assert_int_equal(info->embedding_width, 32);
    /* Layers, KV heads, head width, keys and values. */
    assert_int_equal(info->kv_token_bytes[AP_KV_F16], 2 * 2 * 8 * 2 * 2);
    assert_int_equal(info->kv_token_bytes[AP_KV_F32], 2 * 2 * 8 * 2 * 4);
    assert_int_equal(info->kv_token_bytes[AP_KV_Q8], 2 * 2 * (8 + 2) * 2);
    ap_model_close(&model);

    /* Packing again gives the same bytes; as f32 it has the same parameters. */
    int again = ap_test_temporary();
    options.progress = NULL;
    assert_ok(ap_model_import(source, again, &options, &report, err));
    ap_mapping one, two;
    assert_ok(ap_file_map(packed, &one, err));
    assert_ok(ap_file_map(again, &two, err));
    assert_true(one.len == two.len && memcmp(one.ptr, two.ptr, one.len) == 0);
    ap_file_unmap(&one);
    ap_file_unmap(&two);
    close(again);
    again = ap_test_temporary();
    options.decode_to_f32 = true;
    assert_ok(ap_model_import(source, again, &options, &report, err));
    assert_ok(ap_model_open(&model, again, err));
    assert_string_equal(ap_model_info_of(model)->quantization, "F32");
    assert_true(ap_model_info_of(model)->parameter_count == parameters);
    ap_model_close(&model);
    close(again);
    close(packed);
    close(source);

    ap_buf bad_template = with_text(&file, "tokenizer.chat_template", "{% for %}");
    packed = ap_test_temporary();
    assert_ok(import_bytes(&bad_template, packed, &report, err));
    assert_false(report.has_chat_template);
    assert_int_equal(report.chat, 0);
    assert_non_null(strstr(report.notes, "template cannot be used"));
    assert_ok(ap_model_open(&model, packed, err)); /* it can still complete text */
    ap_model_close(&model);
    close(packed);
    ap_buf_deinit(&bad_template);
    ap_import_options other = {.size = 8};
    assert_int_equal(ap_model_import(-1, -1, &other, &report, NULL), AP_E_ARG);
    ap_buf_deinit(&file);
}

/* Nothing runs ternary weights: they are kept as Q8_0, and that is said. */
static void types_that_are_only_decoded_are_kept_as_q8_0(void **state)
{
    ap_tiny_model tiny = {.seed = 8, .type = AP_TYPE_TQ2_0, .layers = 1, .ffn = 256, .has_output = true};
    float rows[2][256];
    for (int exact = 0; exact < 2; exact++) {
        int source = ap_tiny_model_file(&tiny), packed = ap_test_temporary();
        ap_import_options options = {.size = sizeof options, .decode_to_f32 = exact};
        ap_import_report report;
        ap_model *model;
        assert_ok(ap_model_import(source, packed, &options, &report, err));
        assert_string_equal(report.quantization, "TQ2_0");
        assert_int_equal(strstr(report.notes, " in TQ2_0) were packed as Q8_0") != NULL, !exact);
        assert_ok(ap_model_open(&model, packed, err));
        assert_int_equal(model->layers[0].q.type, exact ? AP_TYPE_F32 : AP_TYPE_Q8_0);
        ap_matrix_row(&model->layers[0].mlp.down, 17, rows[exact]);
        ap_model_close(&model);
        close(source);
        close(packed);
    }
    for (int i = 0; i < 256; i++)
        assert_true(fabsf(rows[0][i] - rows[1][i]) <= 0.005f * fabsf(rows[1][i]));
}

/* ---- Damaged packed files ---- */

static ap_buf packed_bytes(const ap_tiny_model *tiny)
{
    ap_buf file = tiny_bytes(tiny), out = {0};
    ap_import_report report;
    int packed = ap_test_temporary();
    assert_ok(import_bytes(&file, packed, &report, err));
    ap_mapping map;
    assert_ok(ap_file_map(packed, &map, err));
    add(&out, map.ptr, map.len);
    ap_file_unmap(&map);
    close(packed);
    ap_buf_deinit(&file);
    return out;
}

static ap_status open_bytes(const ap_buf *bytes, ap_error *err)
{
    int fd = file_of(bytes);
    ap_model *model = NULL;
    ap_status status = ap_model_open(&model, fd, err);
    assert_true((status == AP_OK) == (model != NULL));
    ap_model_close(&model);
    close(fd);
    return status;
}

/* Takes the bytes. */
static void expect_damaged(ap_buf bytes, ap_status expected, const char *word)
{
    ap_error error = {0};
    ap_status status = open_bytes(&bytes, &error);
    if (status != expected || !strstr(error.message, word))
        fail_msg("'%s' with '%s' expected, came '%s': %s", ap_status_text(expected), word, ap_status_text(status), error.message);
    ap_buf_deinit(&bytes);
}

static ap_buf with_item(const ap_buf *packed, const char *name, size_t offset, const void *bytes, size_t count)
{
    ap_gguf *g;
    assert_ok(ap_gguf_open(&g, (unsigned char *)packed->ptr, packed->len, err));
    const ap_gguf_key *key = ap_gguf_find(g, ap_str_from(name));
    assert_non_null(key);
    ap_buf out = {0};
    add(&out, packed->ptr, packed->len);
    assert_true(offset + count <= key->byte_count);
    memcpy(out.ptr + ((const char *)key->bytes - packed->ptr) + offset, bytes, count);
    ap_gguf_close(&g);
    return out;
}

static void a_damaged_packed_file_is_refused(void **state)
{
    ap_tiny_model tiny = small;
    tiny.type = AP_TYPE_Q4_0;
    tiny.ffn = 64;
    for (int round = 0; round < 2; round++, tiny.has_output = true) { /* tied, then with an embedding in rows */
        ap_buf packed = packed_bytes(&tiny);
        assert_ok(open_bytes(&packed, err));
        expect_damaged(with_u32(&packed, "aperto.pack.version", 2), AP_E_UNSUPPORTED, "aperto.pack.version");
        expect_damaged(with_text(&packed, "aperto.pack.version", "1"), AP_E_FORMAT, "aperto.pack.version");
        expect_damaged(with_record(&packed, "aperto.pack.version", NULL, 0), AP_E_FORMAT, "plain GGUF");
        expect_damaged(with_u32(&packed, "aperto.pack.law", AP_LAW_VERSION + 1), AP_E_UNSUPPORTED, "aperto.pack.law");
        expect_damaged(with_record(&packed, "aperto.pack.law", NULL, 0), AP_E_NOTFOUND, "aperto.pack.law");
        expect_damaged(with_u32(&packed, "aperto.source.sha256", 1), AP_E_FORMAT, "aperto.source.sha256");
        expect_damaged(with_record(&packed, "aperto.source.sha256", NULL, 0), AP_E_NOTFOUND, "aperto.source.sha256");
        static const char *const lists[] = {"aperto.tensor.types", "aperto.tensor.layouts", "aperto.tensor.dims"};
        for (int i = 0; i < 3; i++) {
            expect_damaged(with_record(&packed, lists[i], NULL, 0), AP_E_FORMAT, lists[i]);
            expect_damaged(with_u32(&packed, lists[i], 1), AP_E_FORMAT, lists[i]);
            struct __attribute__((packed)) {
                uint32_t kind;
                uint64_t count;
                uint64_t item;
            } list = {i == 0 ? I32 : i == 1 ? U8 : AP_GGUF_U64, 1, 0};
            expect_damaged(with_value(&packed, lists[i], AP_GGUF_ARRAY, &list, i == 0 ? 16 : i == 1 ? 13 : 20), AP_E_FORMAT, lists[i]);
        }
        ap_gguf *g;
        assert_ok(ap_gguf_open(&g, (unsigned char *)packed.ptr, packed.len, err));
        uint32_t count = ap_gguf_tensor_count(g);
        for (uint32_t i = 0; i < count; i++) {
            char name[64] = {0};
            const ap_gguf_tensor *t = ap_gguf_tensor_at(g, i);
            memcpy(name, t->name.ptr, t->name.len);
            static const int32_t types[] = {-1, AP_TYPE_I8, AP_TYPE_F64, AP_TYPE_Q8_0, 63, 1000};
            for (size_t k = 0; k < sizeof types / sizeof types[0]; k++) {
                ap_buf bad = with_item(&packed, "aperto.tensor.types", 4 * i, &types[k], 4);
                ap_error error = {0};
                ap_status status = open_bytes(&bad, &error);
                if (status != AP_E_FORMAT && status != AP_E_UNSUPPORTED)
                    fail_msg("tensor '%s' as type %d: %s", name, types[k], ap_status_text(status));
                ap_buf_deinit(&bad);
            }
            static const uint8_t layouts[] = {AP_LAYOUT_COUNT, 255};
            for (size_t k = 0; k < 2; k++)
                expect_damaged(with_item(&packed, "aperto.tensor.layouts", i, &layouts[k], 1), AP_E_FORMAT, name);
            static const uint64_t wrong[] = {0, 1ull << 32, 1ull << 63, UINT64_MAX, 33, 5};
            for (size_t k = 0; k < sizeof wrong / sizeof wrong[0]; k++)
                for (size_t which = 0; which < 2; which++) {
                    ap_buf bad = with_item(&packed, "aperto.tensor.dims", 16 * i + 8 * which, &wrong[k], 8);
                    assert_int_equal(open_bytes(&bad, NULL), AP_E_FORMAT);
                    ap_buf_deinit(&bad);
                }
            ap_buf bad = {0};
            add(&bad, packed.ptr, packed.len);
            find_tensor(&bad, name).name[0] ^= 1;
            bool is_optional = strcmp(name, "output.weight") == 0;
            expect_damaged(bad, AP_E_FORMAT, is_optional ? "no output" : i == 0 ? "no embedding" : name);
            /* A byte less is still in the same place after padding, but not what type and dimensions need. */
            bad = (ap_buf){0};
            add(&bad, packed.ptr, packed.len);
            uint64_t bytes = t->bytes - 1;
            memcpy(find_tensor(&bad, name).dims, &bytes, 8);
            expect_damaged(bad, AP_E_FORMAT, name);
            uint32_t type = AP_TYPE_F32;
            bad = (ap_buf){0};
            add(&bad, packed.ptr, packed.len);
            memcpy(find_tensor(&bad, name).type, &type, 4);
            assert_int_not_equal(open_bytes(&bad, NULL), AP_OK);
            ap_buf_deinit(&bad);
        }
        ap_gguf_close(&g);
        /* The sizes are read again from the keys; another value no longer fits the tensors. */
        expect_damaged(with_u32(&packed, "llama.block_count", 3), AP_E_FORMAT, "blk.2");
        expect_damaged(with_u32(&packed, "llama.feed_forward_length", 96), AP_E_FORMAT, "ffn_gate");
        expect_damaged(with_u32(&packed, "llama.attention.head_count_kv", 4), AP_E_FORMAT, "attn_k");
        expect_damaged(with_u32(&packed, "llama.attention.head_count", 0), AP_E_FORMAT, "head_count");
        expect_damaged(with_text(&packed, "general.architecture", "mamba"), AP_E_UNSUPPORTED, "general.architecture");
        expect_damaged(with_record(&packed, "tokenizer.ggml.tokens", NULL, 0), AP_E_NOTFOUND, "tokenizer.ggml.tokens");
        for (size_t keep = 0; keep + 64 < packed.len; keep += 1009) {
            ap_buf cut = {0};
            add(&cut, packed.ptr, keep);
            assert_int_not_equal(open_bytes(&cut, NULL), AP_OK);
            ap_buf_deinit(&cut);
        }
        ap_buf_deinit(&packed);
    }
}

/* ---- The end of memory ---- */

static ap_status import_and_open(void *context)
{
    int source = *(int *)context, packed = ap_test_temporary();
    ap_import_options options = {.size = sizeof options};
    ap_import_report report;
    ap_model *model = NULL;
    ap_status status = ap_model_import(source, packed, &options, &report, NULL);
    if (status == AP_OK)
        status = ap_model_open(&model, packed, NULL);
    assert_true((status == AP_OK) == (model != NULL));
    ap_model_close(&model);
    close(packed);
    return status;
}

static void the_end_of_memory_leaves_nothing(void **state)
{
    ap_tiny_model tiny = small;
    tiny.layers = 1;
    int source = ap_tiny_model_file(&tiny);
    ap_test_each_oom(import_and_open, &source);
    close(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_size_is_refused_beyond_its_limits),
        cmocka_unit_test(each_number_is_refused_beyond_its_limits),
        cmocka_unit_test(rope_scaling_of_every_age_is_read_or_refused),
        cmocka_unit_test(sizes_that_do_not_fit_each_other_are_refused),
        cmocka_unit_test(features_that_are_not_there_are_refused),
        cmocka_unit_test(what_is_no_whole_model_is_refused),
        cmocka_unit_test(what_the_template_does_is_reported),
        cmocka_unit_test(what_is_packed_already_is_checked_and_copied),
        cmocka_unit_test(a_vocabulary_that_does_not_fit_is_refused),
        cmocka_unit_test(a_missing_tensor_is_named),
        cmocka_unit_test(a_tensor_of_a_wrong_shape_or_type_is_named),
        cmocka_unit_test(types_that_are_only_decoded_are_kept_as_q8_0),
        cmocka_unit_test(a_cut_file_is_refused),
        cmocka_unit_test(a_refusal_keeps_to_its_memory_and_time),
        cmocka_unit_test(the_collected_bad_files_cost_little_to_refuse),
        cmocka_unit_test(the_report_tells_what_was_packed),
        cmocka_unit_test(a_damaged_packed_file_is_refused),
        cmocka_unit_test(the_end_of_memory_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
