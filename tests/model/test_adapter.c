/* Adapters that are refused, by name; test_adapters of the room golden has those that are right.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "aperto.h"
#include "base/alloc.h"
#include "support.h"
#include "tiny_model.h"

enum { RANK = 3, ALLOCATED_MAX = 1 << 20 };

static const ap_tiny_model small = {.seed = 3, .layers = 2, .width = 32, .heads = 4, .kv_heads = 2, .ffn = 48, .context = 64};

static int file_of(const ap_buf *bytes, size_t count)
{
    int fd = ap_test_temporary();
    assert_ok(ap_file_write_all(fd, bytes->ptr, count, err));
    return fd;
}

static ap_model *open_model(const ap_tiny_model *tiny)
{
    ap_model *model;
    ap_import_options options = {.size = sizeof options};
    ap_import_report report;
    int source = ap_tiny_model_file(tiny), packed = ap_test_temporary();
    assert_ok(ap_model_import(source, packed, &options, &report, err));
    assert_ok(ap_model_open(&model, packed, err));
    close(source);
    close(packed);
    return model;
}

static ap_status open_gguf(const ap_model *model, const ap_buf *bytes, size_t count, ap_error *error)
{
    ap_adapter *adapter;
    int fd = file_of(bytes, count);
    ap_status status = ap_adapter_open(&adapter, model, -1, fd, error);
    close(fd);
    assert_int_equal(status == AP_OK, adapter != NULL);
    ap_adapter_close(&adapter);
    return status;
}

/* Everywhere; both have the same length. */
static void replace_all(ap_buf *bytes, const char *old, const char *new)
{
    size_t length = strlen(old), count = 0;
    assert_int_equal(length, strlen(new));
    for (char *at = bytes->ptr; (at = memmem(at, bytes->len - (size_t)(at - bytes->ptr), old, length)); count++)
        memcpy(at, new, length);
    if (count == 0)
        fail_msg("no '%s'", old);
}

static void a_gguf_adapter_that_is_none_of_this_model_is_refused_by_name(void **state)
{
    static const struct {
        const char *old, *new;
        ap_status status;
        const char *part;
    } cases[] = {
        {"adapter\x14", "imatrix\x14", AP_E_ARG, "key 'general.type' is 'imatrix'; 'adapter' is needed"},
        {"lora\x12", "dora\x12", AP_E_ARG, "key 'adapter.type' is 'dora'; 'lora' is needed"},
        {"llama\x0c", "qwen2\x0c", AP_E_ARG, "key 'general.architecture' is 'qwen2'; 'llama' is needed"},
        {"adapter.lora.alpha", "adapter.lora.alphb", AP_E_FORMAT, "'adapter.lora.alpha' is missing"},
        {"blk.1.attn_q.weight.lora_b", "blk.1.attn_q.weight.lora_c", AP_E_FORMAT, "tensor 'blk.1.attn_q.weight.lora_b' is missing"},
        {"blk.1.attn_q.weight.lora_a", "blk.1.attn_q.weight.lora_c", AP_E_FORMAT, "tensor 'blk.1.attn_q.weight.lora_a' is missing"},
        {"blk.1.attn_q.weight.lora", "blk.2.attn_q.weight.lora", AP_E_UNSUPPORTED, "tensor 'blk.2.attn_q.weight.lora_a' is for no matrix of this model"},
        {"blk.1.ffn_up.weight.", "t.token_embd.weight.", AP_E_UNSUPPORTED, "is for the embedding"},
        {"blk.1.ffn_up.weight.", "xxxxx.output.weight.", AP_E_UNSUPPORTED, "is for the output matrix"},
        {"blk.1.ffn_gate.weight.", "blk.1.ffn_gate_exps.w.", AP_E_UNSUPPORTED, "is for experts"},
        {"blk.1.ffn_up.weight.lora", "blk.1.ffn_up.weight.dora", AP_E_UNSUPPORTED, "is no part of an adapter"},
        {"blk.1.attn_k.weight", "blk.1.attn_Q.weight", AP_E_UNSUPPORTED, "is for no matrix"},
        {"blk.0.attn_k.weight", "blk.1.attn_k.weight", AP_E_FORMAT, "blk.1.attn_k.weight.lora_a"},
    };
    ap_model *model = open_model(&small);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ap_buf bytes = {0};
        ap_error error = {0};
        ap_tiny_adapter_write(&small, RANK, &bytes);
        replace_all(&bytes, cases[i].old, cases[i].new);
        ap_status status = open_gguf(model, &bytes, bytes.len, &error);
        if (status != cases[i].status || !strstr(error.message, cases[i].part))
            fail_msg("%s: status %d, '%s' without '%s'", cases[i].old, status, error.message, cases[i].part);
        ap_buf_deinit(&bytes);
    }
    ap_model_close(&model);
}

static void an_adapter_of_other_shapes_is_refused_with_both(void **state)
{
    ap_model *model = open_model(&small);
    ap_tiny_model wide = small, tall = small;
    ap_buf bytes = {0};
    ap_error error = {0};
    wide.width = 64;
    ap_tiny_adapter_write(&wide, RANK, &bytes);
    assert_int_equal(open_gguf(model, &bytes, bytes.len, &error), AP_E_FORMAT);
    assert_string_equal(error.message, "tensor 'blk.0.attn_q.weight.lora_a' has 3 rows of 64; this model needs 3 of 32");
    ap_buf_clear(&bytes);
    tall.ffn = 80;
    ap_tiny_adapter_write(&tall, RANK, &bytes);
    assert_int_equal(open_gguf(model, &bytes, bytes.len, &error), AP_E_FORMAT);
    assert_string_equal(error.message, "tensor 'blk.0.ffn_gate.weight.lora_b' has 80 rows of 3; this model needs 48 of 3");
    ap_buf_clear(&bytes);
    ap_tiny_adapter_write(&small, 1025, &bytes);
    assert_int_equal(open_gguf(model, &bytes, bytes.len, &error), AP_E_LIMIT);
    assert_string_equal(error.message, "tensor 'blk.0.attn_q.weight.lora_a' has rank 1025; allowed are 1 to 1024");
    ap_buf_deinit(&bytes);
    ap_model_close(&model);
}

static void an_adapter_of_an_encoder_is_refused(void **state)
{
    ap_model *model = open_model(&(ap_tiny_model){.seed = 5, .family = "bert", .layers = 1, .width = 32, .heads = 4, .kv_heads = 4,
                                                  .ffn = 48, .context = 64});
    ap_buf bytes = {0};
    ap_error error = {0};
    ap_tiny_adapter_write(&small, RANK, &bytes);
    assert_int_equal(open_gguf(model, &bytes, bytes.len, &error), AP_E_UNSUPPORTED);
    assert_non_null(strstr(error.message, "the model is an encoder"));
    ap_buf_deinit(&bytes);
    ap_model_close(&model);
}

static void a_cut_adapter_is_refused_wherever_it_is_cut(void **state)
{
    ap_model *model = open_model(&small);
    ap_buf bytes = {0};
    ap_error error = {0};
    ap_tiny_adapter_write(&small, RANK, &bytes);
    assert_int_equal(open_gguf(model, &bytes, bytes.len, &error), AP_OK);
    /* Behind its last number a file may end in padding. */
    for (size_t count = 0; count + 32 < bytes.len; count += count < 2500 ? 1 : 37)
        if (open_gguf(model, &bytes, count, &error) == AP_OK)
            fail_msg("%zu of %zu bytes are enough", count, bytes.len);
    ap_buf_deinit(&bytes);
    ap_model_close(&model);
}

static void a_flipped_bit_never_costs_more_than_a_refusal(void **state)
{
    ap_model *model = open_model(&small);
    ap_buf bytes = {0};
    ap_error error = {0};
    ap_tiny_adapter_write(&small, RANK, &bytes);
    for (size_t bit = 0; bit < 2500 * 8; bit++) {
        bytes.ptr[bit / 8] = (char)(bytes.ptr[bit / 8] ^ 1 << bit % 8);
        ap_alloc_fail_at(UINT64_MAX, false);
        if (open_gguf(model, &bytes, bytes.len, &error) != AP_OK)
            assert_true(error.message[0] && !strchr(error.message, '\n'));
        assert_in_range(ap_alloc_bytes(), 0, ALLOCATED_MAX);
        ap_alloc_fail_at(0, false);
        bytes.ptr[bit / 8] = (char)(bytes.ptr[bit / 8] ^ 1 << bit % 8);
    }
    ap_buf_deinit(&bytes);
    ap_model_close(&model);
}

/* ---- PEFT ---- */

typedef struct peft {
    ap_buf config, weights;
} peft;

static peft read_peft(void)
{
    peft p = {0};
    assert_ok(ap_file_read(ap_test_file("golden/adapter/llama_root/adapter_config.json"), 1 << 20, &p.config, err));
    assert_ok(ap_file_read(ap_test_file("golden/adapter/llama_root/adapter_model.safetensors"), 1 << 20, &p.weights, err));
    return p;
}

static ap_status open_peft(const ap_model *model, const peft *p, ap_error *error)
{
    ap_adapter *adapter;
    int config = file_of(&p->config, p->config.len), weights = file_of(&p->weights, p->weights.len);
    ap_status status = ap_adapter_open(&adapter, model, config, weights, error);
    close(config);
    close(weights);
    ap_adapter_close(&adapter);
    return status;
}

/* The shapes of golden/arch/llama, which that adapter is for. */
static const ap_tiny_model base = {.seed = 5, .family = "qwen3", .layers = 3, .width = 48, .heads = 4, .kv_heads = 2,
                                   .head_width = 16, .ffn = 80, .context = 64};

static void replace(ap_buf *bytes, const char *old, const char *new)
{
    char *at = memmem(bytes->ptr, bytes->len, old, strlen(old));
    ap_buf out = {0};
    if (!at)
        fail_msg("no '%s'", old);
    assert_ok(ap_buf_add(&out, bytes->ptr, (size_t)(at - bytes->ptr), err));
    assert_ok(ap_buf_add(&out, new, strlen(new), err));
    assert_ok(ap_buf_add(&out, at + strlen(old), (size_t)(bytes->ptr + bytes->len - at) - strlen(old), err));
    ap_buf_deinit(bytes);
    *bytes = out;
}

static void what_a_peft_config_says_and_this_release_lacks_is_refused_by_name(void **state)
{
    static const struct {
        const char *old, *new;
        ap_status status;
        const char *part;
    } cases[] = {
        {"\"LORA\"", "\"IA3\"", AP_E_UNSUPPORTED, "adapter_config.json: 'peft_type' is 'IA3'; this release has 'LORA'"},
        {"\"peft_type\"", "\"type\"", AP_E_FORMAT, "'peft_type' is missing"},
        {"\"use_dora\": false", "\"use_dora\": true", AP_E_UNSUPPORTED, "'use_dora' is set"},
        {"\"bias\": \"none\"", "\"bias\": \"all\"", AP_E_UNSUPPORTED, "'bias' is 'all'; this release has 'none'"},
        {"\"modules_to_save\": null", "\"modules_to_save\": [\"lm_head\"]", AP_E_UNSUPPORTED, "'modules_to_save' is set"},
        {"\"layer_replication\": null", "\"layer_replication\": [[0, 1]]", AP_E_UNSUPPORTED, "'layer_replication' is set"},
        {"\"trainable_token_indices\": null", "\"trainable_token_indices\": [1]", AP_E_UNSUPPORTED, "'trainable_token_indices' is set"},
        {"\"inference_mode\"", "\"something_new\"", AP_E_UNSUPPORTED, "'something_new' is set"},
        {"\"init_lora_weights\": true", "\"init_lora_weights\": \"pissa\"", AP_E_UNSUPPORTED, "'init_lora_weights' is 'pissa', which changes the model itself"},
        {"\"r\": 9", "\"r\": 8", AP_E_FORMAT, "the config says rank 8 for 'model.layers.0.self_attn.q_proj', whose tensors have rank 9"},
        {"\"r\": 9", "\"r\": -9", AP_E_FORMAT, "adapter_config.json: 'r' is"},
        {"\"lora_alpha\": 5", "\"lora_alpha\": \"5\"", AP_E_FORMAT, "'lora_alpha' is a string"},
        {"\"rank_pattern\": {}", "\"rank_pattern\": {\"v_proj\": 4}", AP_E_FORMAT, "the config says rank 4 for 'model.layers.0.self_attn.v_proj'"},
        {"\"rank_pattern\": {}", "\"rank_pattern\": {\"v_proj\": \"9\"}", AP_E_FORMAT, "'rank_pattern.v_proj' is a string; a number is needed"},
        {"\"alpha_pattern\": {}", "\"alpha_pattern\": {\"(a+)+$\": 4}", AP_E_UNSUPPORTED, "'alpha_pattern' has the key '(a+)+$'"},
        {"\"alpha_pattern\": {}", "\"alpha_pattern\": {\"q_proj\": 1e300}", AP_E_FORMAT, "too large for a float"},
        {"{", "[", AP_E_FORMAT, "adapter_config.json: this is not valid JSON"},
    };
    ap_model *model = open_model(&base);
    ap_error error = {0};
    peft right = read_peft();
    if (open_peft(model, &right, &error) != AP_OK)
        fail_msg("%s", error.message);
    ap_buf_deinit(&right.config);
    ap_buf_deinit(&right.weights);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        peft p = read_peft();
        replace(&p.config, cases[i].old, cases[i].new);
        ap_status status = open_peft(model, &p, &error);
        if (status != cases[i].status || !strstr(error.message, cases[i].part))
            fail_msg("status %d, '%s' without '%s'", status, error.message, cases[i].part);
        ap_buf_deinit(&p.config);
        ap_buf_deinit(&p.weights);
    }
    ap_model_close(&model);
}

static void tensors_of_peft_that_fit_nowhere_are_refused_by_name(void **state)
{
#define Q "base_model.model.model.layers.0.self_attn.q_proj."
    static const struct {
        const char *old, *new; /* equally long */
        ap_status status;
        const char *part;
    } cases[] = {
        {Q "lora_A.weight", Q "lora_C.weight", AP_E_FORMAT, "q_proj.lora_A.weight' is missing"},
        {Q "lora_B.weight\":{\"dtype\":\"F32", Q "lora_B.weight\":{\"dtype\":\"I32", AP_E_UNSUPPORTED, "has the type I32; F32, F16 and BF16 are read"},
        {"layers.0.self_attn.q_proj.lora", "layers.7.self_attn.q_proj.lora", AP_E_FORMAT, "is missing"},
        {"\"shape\":[9,48]", "\"shape\":[48,9]", AP_E_FORMAT, "has 48 rows of 9; this model needs 48 of 48"},
        {"\"shape\":[64,9]", "\"shape\":[9,64]", AP_E_FORMAT, "has 9 rows of 64; this model needs 64 of 9"},
    };
    ap_model *model = open_model(&base);
    ap_error error = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        peft p = read_peft();
        replace(&p.weights, cases[i].old, cases[i].new);
        ap_status status = open_peft(model, &p, &error);
        if (status != cases[i].status || !strstr(error.message, cases[i].part))
            fail_msg("status %d, '%s' without '%s'", status, error.message, cases[i].part);
        ap_buf_deinit(&p.config);
        ap_buf_deinit(&p.weights);
    }
    ap_model_close(&model);
}

/* ---- The end of memory ---- */

typedef struct opening {
    const ap_model *model;
    int config, weights;
} opening;

static ap_status open_once(void *context)
{
    const opening *o = context;
    ap_adapter *adapter;
    ap_status status = ap_adapter_open(&adapter, o->model, o->config, o->weights, NULL);
    ap_adapter_close(&adapter);
    return status;
}

static void the_end_of_memory_leaves_nothing(void **state)
{
    ap_buf bytes = {0};
    ap_model *model = open_model(&small);
    ap_tiny_adapter_write(&small, RANK, &bytes);
    opening o = {model, -1, file_of(&bytes, bytes.len)};
    ap_test_each_oom(open_once, &o);
    close(o.weights);
    ap_buf_deinit(&bytes);
    ap_model_close(&model);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gguf_adapter_that_is_none_of_this_model_is_refused_by_name),
        cmocka_unit_test(an_adapter_of_other_shapes_is_refused_with_both),
        cmocka_unit_test(an_adapter_of_an_encoder_is_refused),
        cmocka_unit_test(a_cut_adapter_is_refused_wherever_it_is_cut),
        cmocka_unit_test(a_flipped_bit_never_costs_more_than_a_refusal),
        cmocka_unit_test(what_a_peft_config_says_and_this_release_lacks_is_refused_by_name),
        cmocka_unit_test(tensors_of_peft_that_fit_nowhere_are_refused_by_name),
        cmocka_unit_test(the_end_of_memory_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
