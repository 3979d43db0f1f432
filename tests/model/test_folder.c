/* A model as a folder, or as a GGUF file in parts: the same weights and logits as from one GGUF file, and what is
 * refused, by name.
 *
 * The folders are seeded tiny models; cases change config.json or one tensor.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "aperto.h"
#include "format/format.h"
#include "base/json.h"
#include "quant/quant.h"
#include "support.h"
#include "tiny_model.h"

static const ap_tiny_model small = {.seed = 3, .layers = 2, .width = 32, .heads = 4, .kv_heads = 2, .ffn = 48, .context = 64};

/* ---- Importing ---- */

static int file_of(const ap_buf *bytes)
{
    int fd = ap_test_temporary();
    assert_ok(ap_file_write_all(fd, bytes->ptr, bytes->len, err));
    return fd;
}

static ap_status import_files(const ap_tiny_file *files, size_t count, int packed, ap_import_report *report, ap_error *error)
{
    ap_import_file list[AP_TINY_FILES_MAX] = {0};
    for (size_t i = 0; i < count; i++)
        list[i] = (ap_import_file){files[i].name, file_of(&files[i].bytes)};
    ap_import_options options = {.size = sizeof options};
    ap_status status = ap_model_import_files(list, count, packed, &options, report, error);
    for (size_t i = 0; i < count; i++)
        close(list[i].fd);
    return status;
}

typedef struct packed_file {
    int fd;
    ap_mapping map;
    ap_packed *packed;
} packed_file;

static packed_file open_packed(int fd)
{
    packed_file p = {.fd = fd};
    assert_ok(ap_file_map(fd, &p.map, err));
    assert_ok(ap_packed_open(&p.packed, p.map.ptr, p.map.len, err));
    return p;
}

static void close_packed(packed_file *p)
{
    ap_packed_close(&p->packed);
    ap_file_unmap(&p->map);
    close(p->fd);
}

static packed_file pack_gguf(const ap_tiny_model *tiny)
{
    ap_import_options options = {.size = sizeof options};
    ap_import_report report;
    int source = ap_tiny_model_file(tiny), out = ap_test_temporary();
    assert_ok(ap_model_import(source, out, &options, &report, err));
    close(source);
    return open_packed(out);
}

static packed_file pack_folder(const ap_tiny_model *tiny, unsigned shards, ap_import_report *report)
{
    ap_tiny_file files[AP_TINY_FILES_MAX];
    size_t count = ap_tiny_model_folder(tiny, shards, files);
    int out = ap_test_temporary();
    assert_ok(import_files(files, count, out, report, err));
    ap_tiny_files_deinit(files, count);
    return open_packed(out);
}

/* ---- Equal to GGUF ---- */

static void assert_same_weights(packed_file *a, packed_file *b)
{
    assert_int_equal(ap_packed_count(a->packed), ap_packed_count(b->packed));
    for (uint32_t i = 0; i < ap_packed_count(a->packed); i++) {
        const ap_packed_tensor *x = ap_packed_at(a->packed, i), *y = ap_packed_at(b->packed, i);
        if (!ap_str_equal(x->name, y->name) || x->type != y->type || x->layout != y->layout || x->columns != y->columns ||
            x->rows != y->rows || x->bytes != y->bytes || memcmp(x->data, y->data, x->bytes) != 0)
            fail_msg("tensor '%.*s' differs", (int)x->name.len, x->name.ptr);
    }
}

static void a_folder_packs_to_the_weights_of_its_gguf(void **state)
{
    static const uint32_t types[] = {0, 1, 30};
    for (size_t i = 0; i < 12; i++) {
        ap_tiny_model tiny = small;
        tiny.type = types[i % 3];
        tiny.has_output = i / 3 & 1;
        tiny.has_bias = i / 6;
        ap_import_report report;
        packed_file gguf = pack_gguf(&tiny), folder = pack_folder(&tiny, 1 + (unsigned)i % 3, &report);
        assert_same_weights(&gguf, &folder);
        assert_string_equal(report.architecture, "llama");
        assert_string_equal(report.name, "tiny");
        assert_string_equal(report.quantization, i % 3 == 0 ? "F32" : i % 3 == 1 ? "F16" : "BF16");
        assert_int_equal(report.context_tokens, 64);
        close_packed(&gguf);
        close_packed(&folder);
    }
}

/* ---- Parts ---- */

static void parts_pack_to_the_weights_of_the_whole(void **state)
{
    for (unsigned parts = 1; parts <= 5; parts++) {
        ap_tiny_file files[AP_TINY_FILES_MAX];
        size_t count = ap_tiny_model_parts(&small, parts, files);
        for (unsigned turn = 0; turn < parts; turn++) { /* their order is of no account */
            ap_tiny_file first = files[0];
            memmove(files, files + 1, (count - 1) * sizeof *files);
            files[count - 1] = first;
            ap_import_report report;
            int out = ap_test_temporary();
            assert_ok(import_files(files, count, out, &report, err));
            packed_file whole = pack_gguf(&small), joined = open_packed(out);
            assert_same_weights(&whole, &joined);
            assert_null(ap_gguf_find(ap_packed_gguf(joined.packed), AP_STR("split.count")));
            close_packed(&whole);
            close_packed(&joined);
        }
        ap_tiny_files_deinit(files, count);
    }
}

static void expect_no_parts(const ap_tiny_file *files, size_t count, ap_status status, const char *first, const char *second)
{
    ap_error error = {0};
    ap_import_report report;
    int out = ap_test_temporary();
    assert_int_equal(import_files(files, count, out, &report, &error), status);
    if (!strstr(error.message, first) || !strstr(error.message, second))
        fail_msg("'%s' does not say '%s' and '%s'", error.message, first, second);
    assert_int_equal(lseek(out, 0, SEEK_END), 0);
    close(out);
}

/* The number behind a key; a part has each key once. */
static void set_number(ap_tiny_file *file, const char *key, int number)
{
    char *at = memmem(file->bytes.ptr, file->bytes.len, key, strlen(key));
    assert_non_null(at);
    memcpy(at + strlen(key) + 4, &number, 2);
}

static void parts_that_do_not_make_a_model_are_refused_by_name(void **state)
{
    ap_tiny_file files[AP_TINY_FILES_MAX], others[AP_TINY_FILES_MAX];
    size_t count = ap_tiny_model_parts(&small, 3, files);
    expect_no_parts(files, 2, AP_E_FORMAT, "00001-of-00003", "3 parts; there are 2");
    expect_no_parts(files, 1, AP_E_FORMAT, "00001-of-00003", "3 parts; there are 1");
    ap_tiny_file twice[] = {files[0], files[1], files[1]};
    expect_no_parts(twice, 3, AP_E_FORMAT, "00002-of-00003", "a second part with the number 1");
    ap_tiny_file with_more[] = {files[0], files[1], files[2], files[2]};
    expect_no_parts(with_more, 4, AP_E_FORMAT, "00001-of-00003", "3 parts; there are 4");

    set_number(&files[2], "split.no", 7);
    expect_no_parts(files, count, AP_E_FORMAT, "00003-of-00003", "number 7 of 3");
    set_number(&files[2], "split.no", 2);
    set_number(&files[2], "split.tensors.count", 5);
    expect_no_parts(files, count, AP_E_FORMAT, "00003-of-00003", "5 tensors");
    for (size_t i = 0; i < count; i++)
        set_number(&files[i], "split.tensors.count", 21);
    expect_no_parts(files, count, AP_E_FORMAT, "split.tensors.count", "21");
    for (size_t i = 0; i < count; i++)
        set_number(&files[i], "split.tensors.count", 20);

    /* The middle of another model. */
    ap_tiny_model other = small;
    other.layers = 3;
    assert_int_equal(ap_tiny_model_parts(&other, 3, others), 3);
    ap_tiny_file mixed[] = {files[0], others[1], files[2]};
    expect_no_parts(mixed, count, AP_E_FORMAT, "00002-of-00003", "tensors");
    ap_tiny_file config[] = {files[0], files[1], {"notes.gguf", files[2].bytes}};
    config[2].bytes.len = 16;
    expect_no_parts(config, count, AP_E_FORMAT, "", "");
    ap_tiny_files_deinit(files, count);
    ap_tiny_files_deinit(others, 3);
}

/* ---- Changing a folder ---- */

static ap_tiny_file *named(ap_tiny_file *files, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(files[i].name, name) == 0)
            return &files[i];
    fail_msg("no file '%s'", name);
    return NULL;
}

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

/* In the header of a safetensors file: its length follows. */
static void replace_in_header(ap_buf *bytes, const char *old, const char *new)
{
    uint64_t length;
    replace(bytes, old, new);
    memcpy(&length, bytes->ptr, 8);
    length += strlen(new) - strlen(old);
    memcpy(bytes->ptr, &length, 8);
}

static void expect_refused(ap_tiny_file *files, size_t count, ap_status expected, const char *part)
{
    ap_import_report report;
    ap_error error = {0};
    int out = ap_test_temporary();
    ap_status status = import_files(files, count, out, &report, &error);
    assert_int_equal(lseek(out, 0, SEEK_END), 0); /* nothing was written */
    close(out);
    if (status != expected || !strstr(error.message, part))
        fail_msg("status %d, '%s' without '%s'", status, error.message, part);
    ap_tiny_files_deinit(files, count);
}

static void what_a_config_says_and_this_release_lacks_is_refused_by_name(void **state)
{
    static const struct {
        const char *old, *new;
        ap_status status;
        const char *part;
    } cases[] = {
        {"LlamaForCausalLM", "FancyForCausalLM", AP_E_UNSUPPORTED, "config.json: 'architectures' is 'FancyForCausalLM'; this release has: LlamaForCausalLM"},
        {"\"architectures\"", "\"x\"", AP_E_FORMAT, "config.json: 'architectures.0' is missing"},
        {"\"silu\"", "\"gelu\"", AP_E_UNSUPPORTED, "config.json: 'hidden_act' is 'gelu'; this release has 'silu'"},
        {"\"hidden_size\":32", "\"hidden_size\":\"32\"", AP_E_FORMAT, "config.json: 'hidden_size' is a string"},
        {"\"hidden_size\":32", "\"hidden_size\":40", AP_E_FORMAT, "tensor 'model.embed_tokens.weight' has the shape [272, 32]; [272, 40]"},
        {"\"num_hidden_layers\":2", "\"num_hidden_layers\":3", AP_E_FORMAT, "tensor 'model.layers.2.input_layernorm.weight' is missing"},
        {"\"num_hidden_layers\":2", "\"num_hidden_layers\":1", AP_E_UNSUPPORTED, "tensor 'model.layers.1."},
        {"\"num_hidden_layers\":2", "\"num_hidden_layers\":4294967295", AP_E_FORMAT, "block_count"},
        {"\"rms_norm_eps\":1e-05,", "", AP_E_NOTFOUND, "layer_norm_rms_epsilon"},
        {"\"rope_scaling\":null", "\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2.0}", AP_E_UNSUPPORTED, "'dynamic'"},
        {"\"rope_scaling\":null", "\"rope_scaling\":[1]", AP_E_FORMAT, "an object is needed"},
        {"\"rope_scaling\":null", "\"rope_parameters\":{\"sliding_attention\":{\"rope_type\":\"yarn\"}}", AP_E_UNSUPPORTED, "layers with a window is scaled ('yarn')"},
        {"\"rope_scaling\":null", "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0}", AP_E_NOTFOUND, "'low_freq_factor' is missing"},
        {"\"rope_scaling\":null", "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":4.0,\"high_freq_factor\":4.0,\"original_max_position_embeddings\":64}", AP_E_FORMAT, "must be above"},
        {"\"rope_scaling\":null", "\"quantization_config\":{\"quant_method\":\"bitsandbytes\"}", AP_E_UNSUPPORTED, "'bitsandbytes'; this release has awq"},
        {"\"tie_word_embeddings\":true", "\"tie_word_embeddings\":false", AP_E_FORMAT, "tensor 'lm_head.weight' is missing"},
        {"\"vocab_size\"", "\"hidden_size\"", AP_E_FORMAT, "config.json: this is not valid JSON: duplicate"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ap_tiny_file files[AP_TINY_FILES_MAX];
        size_t count = ap_tiny_model_folder(&small, 1, files);
        replace(&files[0].bytes, cases[i].old, cases[i].new);
        expect_refused(files, count, cases[i].status, cases[i].part);
    }
}

static void weights_that_do_not_fit_are_refused_by_name(void **state)
{
    static const struct {
        const char *old, *new;
        ap_status status;
        const char *part;
    } cases[] = {
        {"\"model.layers.0.self_attn.q_proj.weight\":{\"dtype\":\"F32\"", "\"model.layers.0.self_attn.q_proj.weight\":{\"dtype\":\"I32\"",
         AP_E_UNSUPPORTED, "tensor 'model.layers.0.self_attn.q_proj.weight' has the type I32"},
        {"layers.0.mlp.up_proj", "layers.0.mlp.upper", AP_E_FORMAT, "tensor 'model.layers.0.mlp.up_proj.weight' is missing"},
        {"\"shape\":[48,32]", "\"shape\":[32,48]", AP_E_FORMAT, "[48, 32] is needed"},
        {"\"shape\":[32]", "\"shape\":[32,1]", AP_E_FORMAT, "[32] is needed"},
        {"\"shape\":[272,32]", "\"shape\":[8704]", AP_E_FORMAT, "model.embed_tokens.weight"},
        {"\"F32\"", "\"F33\"", AP_E_UNSUPPORTED, "model.safetensors: the dtype"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ap_tiny_file files[AP_TINY_FILES_MAX];
        size_t count = ap_tiny_model_folder(&small, 1, files);
        replace_in_header(&files[1].bytes, cases[i].old, cases[i].new);
        expect_refused(files, count, cases[i].status, cases[i].part);
    }
    ap_tiny_model odd = small;
    odd.extra_vector = "model.layers.0.strange.weight";
    ap_tiny_file files[AP_TINY_FILES_MAX];
    size_t count = ap_tiny_model_folder(&odd, 1, files);
    expect_refused(files, count, AP_E_UNSUPPORTED, "tensor 'model.layers.0.strange.weight' belongs to a feature");
}

static void files_of_a_folder_must_be_there_and_agree(void **state)
{
    ap_tiny_file files[AP_TINY_FILES_MAX];
    size_t count = ap_tiny_model_folder(&small, 2, files);
    replace(&named(files, count, "model.safetensors.index.json")->bytes, "model-00002-of-00002", "model-00003-of-00002");
    expect_refused(files, count, AP_E_FORMAT, "no file 'model-00003-of-00002.safetensors', which the index names");
    count = ap_tiny_model_folder(&small, 2, files);
    replace(&named(files, count, "model.safetensors.index.json")->bytes, "model-00002-of-00002.safetensors", "../model.safetensors");
    expect_refused(files, count, AP_E_FORMAT, "model.safetensors.index.json: 'weight_map' names the file '../model.safetensors'");
    count = ap_tiny_model_folder(&small, 2, files);
    replace(&named(files, count, "model.safetensors.index.json")->bytes, "model.embed_tokens", "model.embed_tokenz");
    expect_refused(files, count, AP_E_FORMAT, "tensor 'model.embed_tokenz.weight' is not in 'model-00001-of-00002.safetensors'");
    count = ap_tiny_model_folder(&small, 1, files);
    (void)snprintf(files[0].name, sizeof files[0].name, "konfig.json");
    expect_refused(files, count, AP_E_NOTFOUND, "no config.json");
    count = ap_tiny_model_folder(&small, 1, files);
    (void)snprintf(files[1].name, sizeof files[1].name, "weights.safetensors");
    expect_refused(files, count, AP_E_NOTFOUND, "neither model.safetensors nor");
    count = ap_tiny_model_folder(&small, 1, files);
    (void)snprintf(files[1].name, sizeof files[1].name, "../model.safetensors");
    expect_refused(files, count, AP_E_ARG, "plain name");
}

/* ---- Quantised folders ---- */

/* Of golden/quantized/. */
static void read_quantized(const char *folder, ap_tiny_file files[2])
{
    static const char *const names[] = {"config.json", "model.safetensors"};
    for (size_t i = 0; i < 2; i++) {
        char path[256];
        (void)snprintf(path, sizeof path, "golden/quantized/%s/%s", folder, names[i]);
        (void)snprintf(files[i].name, sizeof files[i].name, "%s", names[i]);
        assert_ok(ap_file_read(ap_test_file(path), 1 << 20, &files[i].bytes, err));
    }
}

/* Sets all bytes of a tensor. */
static void set_bytes(ap_buf *bytes, const char *tensor, int value)
{
    uint64_t length;
    memcpy(&length, bytes->ptr, 8);
    json_t *header = json_loadb(bytes->ptr + 8, (size_t)length, 0, NULL);
    const json_t *offsets = json_object_get(json_object_get(header, tensor), "data_offsets");
    assert_non_null(offsets);
    size_t begin = (size_t)json_integer_value(json_array_get(offsets, 0)), end = (size_t)json_integer_value(json_array_get(offsets, 1));
    memset(bytes->ptr + 8 + length + begin, value, end - begin);
    json_decref(header);
}

static void what_a_quantisation_says_and_this_release_lacks_is_refused_by_name(void **state)
{
    static const struct {
        const char *folder, *old, *new;
        ap_status status;
        const char *part;
    } cases[] = {
        {"gptq_sym", "\"quant_method\": \"gptq\"", "\"quant_method\": \"hqq\"", AP_E_UNSUPPORTED, "config.json: 'quantization_config.quant_method' is 'hqq'; this release has awq, compressed-tensors, fp8, gptq and mxfp4"},
        {"gptq_sym", "\"quant_method\"", "\"method\"", AP_E_UNSUPPORTED, "'quantization_config.quant_method' is 'unknown'"},
        {"gptq_sym", "\"bits\": 4", "\"bits\": 3", AP_E_UNSUPPORTED, "'quantization_config.bits' is 3; this release has 4"},
        {"gptq_sym", "\"bits\"", "\"bit\"", AP_E_FORMAT, "'bits' is missing"},
        {"gptq_sym", "\"group_size\": 32", "\"group_size\": 0", AP_E_LIMIT, "'quantization_config.group_size' is 0"},
        {"gptq_sym", "\"group_size\": 32", "\"group_size\": 64", AP_E_FORMAT, "q_proj.qzeros' has the shape [2, 8]; [1, 8] is needed"},
        {"gptq_sym", "\"lm_head\"", "\"dynamic\": {\"+:x\": {}}, \"lm_head\"", AP_E_UNSUPPORTED, "'quantization_config.dynamic' is set"},
        {"gptq_v2", "\"gptq_v2\"", "\"marlin\"", AP_E_UNSUPPORTED, "'quantization_config.checkpoint_format' is 'marlin'; this release has gptq and gptq_v2"},
        {"gptq_v2", "\"int32\"", "\"int16\"", AP_E_UNSUPPORTED, "'quantization_config.pack_dtype' is 'int16'; this release has int32"},
        {"awq", "\"gemm\"", "\"gemv\"", AP_E_UNSUPPORTED, "'quantization_config.version' is 'gemv'; this release has gemm"},
        {"awq", "\"zero_point\": true", "\"zero_point\": false", AP_E_UNSUPPORTED, "'quantization_config.zero_point' is false; this release has true"},
        {"fp8_blocks", "\"fmt\": \"e4m3\"", "\"fmt\": \"e5m2\"", AP_E_UNSUPPORTED, "'quantization_config.fmt' is 'e5m2'"},
        {"fp8_blocks", "\"weight_block_size\": [", "\"weight_block_size\": [0,", AP_E_FORMAT, "'weight_block_size' of the quantisation"},
        {"fp8_blocks", "128,", "64,", AP_E_FORMAT, "weight_scale_inv' has the shape [2, 2]; [3, 2] is needed"},
        {"fp8_channel", "\"num_bits\": 8", "\"num_bits\": 4", AP_E_UNSUPPORTED, "weights of 4 bits, type 'float'"},
        {"fp8_channel", "\"type\": \"float\"", "\"type\": \"int\"", AP_E_UNSUPPORTED, "weights of 8 bits, type 'int'"},
        {"fp8_channel", "\"strategy\": \"channel\"", "\"strategy\": \"group\"", AP_E_UNSUPPORTED, "is 'group'; this release has tensor, channel and block"},
        {"fp8_channel", "\"float-quantized\"", "\"pack-quantized\"", AP_E_UNSUPPORTED, "'quantization_config.format' is 'pack-quantized'"},
        {"fp8_channel", "\"transform_config\": {}", "\"transform_config\": {\"a\": 1}", AP_E_UNSUPPORTED, "'quantization_config.transform_config' is set"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ap_tiny_file files[2] = {0};
        read_quantized(cases[i].folder, files);
        replace(&files[0].bytes, cases[i].old, cases[i].new);
        expect_refused(files, 2, cases[i].status, cases[i].part);
    }
}

static void codes_and_scales_that_do_not_fit_are_refused_by_name(void **state)
{
    static const struct {
        const char *folder, *old, *new; /* in the header; new NULL: all bytes of the tensor `old` become `value` */
        int value;
        ap_status status;
        const char *part;
    } cases[] = {
        {"gptq_sym", "layers.0.self_attn.q_proj.qzeros", "layers.0.self_attn.q_proj.qzeroz", 0, AP_E_FORMAT, "q_proj.qzeros' is missing"},
        {"gptq_sym", "layers.0.self_attn.q_proj.scales\":{\"dtype\":\"F16", "layers.0.self_attn.q_proj.scales\":{\"dtype\":\"I16", 0, AP_E_UNSUPPORTED, "q_proj.scales' has the type I16; scales in F32, F16 and BF16"},
        {"gptq_sym", "layers.0.self_attn.q_proj.qweight\":{\"dtype\":\"I32", "layers.0.self_attn.q_proj.qweight\":{\"dtype\":\"F32", 0, AP_E_FORMAT, "q_proj.qweight' has the type F32; I32 is needed"},
        {"gptq_sym", "\"shape\":[8,64]", "\"shape\":[64,8]", 0, AP_E_FORMAT, "[8, 64] is needed"},
        {"gptq_sym", "model.layers.0.self_attn.q_proj.qzeros", NULL, 255, AP_E_UNSUPPORTED, "q_proj.qzeros' has a zero of 16 in group 0, row 0; at most 15 is allowed"},
        {"gptq_sym", "model.layers.1.mlp.up_proj.g_idx", NULL, 255, AP_E_FORMAT, "up_proj.g_idx' puts column 0 into group -1; there are 2"},
        {"gptq_sym", "model.layers.1.mlp.up_proj.g_idx", NULL, 2, AP_E_FORMAT, "into group 33686018; there are 2"},
        {"gptq_desc_act", "layers.0.self_attn.q_proj.g_idx", "layers.0.self_attn.q_proj.g_idy", 0, AP_E_FORMAT, "q_proj.g_idx' is missing, and 'quantization_config.desc_act' is true"},
        {"gptq_v2", "layers.0.self_attn.q_proj.scales", "layers.0.self_attn.q_proj.skales", 0, AP_E_FORMAT, "q_proj.scales' is missing"},
        {"awq", "layers.0.self_attn.q_proj.qweight", "layers.0.self_attn.q_proj.kweight", 0, AP_E_FORMAT, "tensor 'model.layers.0.self_attn.q_proj.weight' is missing"},
        {"fp8_blocks", "layers.0.self_attn.q_proj.weight_scale_inv", "layers.0.self_attn.q_proj.weight_scale_vin", 0, AP_E_FORMAT, "q_proj.weight_scale' is missing"},
        {"fp8_channel", "\"shape\":[64,1]", "\"shape\":[32,2]", 0, AP_E_FORMAT, "has 64 scales; 1 or one for each of 64 rows"},
        {"mxfp4", "model.layers.0.mlp.experts.down_proj_scales", NULL, 255, AP_E_UNSUPPORTED, "down_proj_scales' has the exponent 255, no number, at 0"},
        {"mxfp4", "layers.0.mlp.experts.down_proj_scales\":{\"dtype\":\"U8", "layers.0.mlp.experts.down_proj_scales\":{\"dtype\":\"I8", 0, AP_E_FORMAT, "down_proj_scales' has the type I8; U8 is needed"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ap_tiny_file files[2] = {0};
        read_quantized(cases[i].folder, files);
        if (cases[i].new)
            replace_in_header(&files[1].bytes, cases[i].old, cases[i].new);
        else
            set_bytes(&files[1].bytes, cases[i].old, cases[i].value);
        expect_refused(files, 2, cases[i].status, cases[i].part);
    }
}

/* ---- What has no GGUF form to be compared with ---- */

static void eight_bit_floats_are_kept_exactly(void **state)
{
    static const char e4m3[] = "\"F8_E4M3\"", e5m2[] = "\"F8_E5M2\"";
    for (int is_e5m2 = 0; is_e5m2 < 2; is_e5m2++) {
        ap_tiny_model tiny = small;
        tiny.type = 1;
        ap_tiny_file files[AP_TINY_FILES_MAX];
        size_t count = ap_tiny_model_folder(&tiny, 1, files);
        /* The embedding comes first: half of its bytes go, the other half is every byte there is. */
        uint64_t length;
        memcpy(&length, files[1].bytes.ptr, 8);
        ap_buf *b = &files[1].bytes;
        size_t start = 8 + (size_t)length;
        for (size_t i = 0; i < 272 * 32; i++)
            b->ptr[start + i] = (char)(i * 7);
        memmove(b->ptr + start + 272 * 32, b->ptr + start + 2 * 272 * 32, b->len - start - 2 * 272 * 32);
        b->len -= 272 * 32;
        json_t *header = json_loadb(b->ptr + 8, (size_t)length, 0, NULL), *t;
        const char *name;
        assert_non_null(header);
        json_object_foreach(header, name, t)
        {
            json_t *offsets = json_object_get(t, "data_offsets");
            for (size_t k = 0; k < json_array_size(offsets); k++) {
                json_int_t at = json_integer_value(json_array_get(offsets, k));
                json_array_set_new(offsets, k, json_integer(at ? at - 272 * 32 : 0));
            }
            if (strcmp(name, "model.embed_tokens.weight") == 0)
                json_object_set_new(t, "dtype", json_string(is_e5m2 ? "F8_E5M2" : "F8_E4M3"));
        }
        char *text = json_dumps(header, JSON_COMPACT);
        ap_buf out = {0};
        uint64_t new_length = strlen(text);
        assert_ok(ap_buf_add(&out, &new_length, 8, err));
        assert_ok(ap_buf_add(&out, text, strlen(text), err));
        assert_ok(ap_buf_add(&out, b->ptr + start, b->len - start, err));
        assert_non_null(strstr(text, is_e5m2 ? e5m2 : e4m3));
        ap_buf_deinit(b);
        *b = out;
        free(text);
        json_decref(header);

        ap_import_report report;
        int fd = ap_test_temporary();
        assert_ok(import_files(files, count, fd, &report, err));
        ap_tiny_files_deinit(files, count);
        packed_file p = open_packed(fd);
        const ap_packed_tensor *e = ap_packed_find(p.packed, AP_STR("token_embd.weight"));
        assert_non_null(e);
        assert_int_equal(e->type, AP_TYPE_F16);
        ap_matrix m = {.type = AP_TYPE_F16, .rows = 272, .cols = 32, .panels = e->data};
        for (uint32_t row = 0; row < 16; row++) {
            float values[32];
            ap_matrix_row(&m, row, values);
            for (uint32_t i = 0; i < 32; i++) {
                unsigned byte = (row * 32 + i) * 7 & 255, mantissa_bits = is_e5m2 ? 2 : 3;
                unsigned exponent = (byte & 127) >> mantissa_bits, mantissa = byte & ((1u << mantissa_bits) - 1);
                int bias = is_e5m2 ? 15 : 7;
                double value = exponent ? (1 + mantissa / (double)(1u << mantissa_bits)) : mantissa / (double)(1u << mantissa_bits);
                for (int k = (exponent ? (int)exponent : 1) - bias; k != 0; k += k > 0 ? -1 : 1)
                    value = k > 0 ? value * 2 : value / 2;
                bool is_special = is_e5m2 ? exponent == 31 : exponent == 15 && mantissa == 7;
                if (is_special && (!is_e5m2 || mantissa))
                    assert_true(values[i] != values[i]);
                else if (is_special)
                    assert_true(values[i] == (byte & 128 ? -1.0f : 1.0f) / 0.0f);
                else
                    assert_true((double)values[i] == (byte & 128 ? -value : value));
            }
        }
        close_packed(&p);
    }
}

static void llama_3_scaling_becomes_divisors(void **state)
{
    ap_tiny_file files[AP_TINY_FILES_MAX];
    size_t count = ap_tiny_model_folder(&small, 1, files);
    replace(&files[0].bytes, "\"rope_scaling\":null",
            "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
            "\"original_max_position_embeddings\":128}");
    ap_import_report report;
    int fd = ap_test_temporary();
    assert_ok(import_files(files, count, fd, &report, err));
    ap_tiny_files_deinit(files, count);
    packed_file p = open_packed(fd);
    const ap_packed_tensor *t = ap_packed_find(p.packed, AP_STR("rope_freqs.weight"));
    assert_non_null(t);
    assert_int_equal(t->columns, 4);
    float divisors[4];
    memcpy(divisors, t->data, sizeof divisors);
    /* Frequencies 1, 0.1, 0.01, 0.001: in 128 positions they turn 20.4, 2.04, 0.2 and 0.02 times. */
    double share = (128 * 0.1 / 6.283185307179586 - 1) / 3, between = 1 / ((1 - share) / 8 + share);
    assert_true(divisors[0] == 1 && divisors[2] == 8 && divisors[3] == 8);
    assert_true(divisors[1] > between * (1 - 1e-6) && divisors[1] < between * (1 + 1e-6));
    close_packed(&p);
}

static void a_folder_without_a_tokenizer_takes_ids_only(void **state)
{
    ap_import_report report;
    packed_file p = pack_folder(&small, 1, &report);
    ap_vocab *vocab;
    ap_tokens tokens;
    ap_error error = {0};
    assert_ok(ap_vocab_open(&vocab, p.fd, err));
    assert_int_equal(ap_vocab_count(vocab), AP_TINY_VOCAB);
    assert_int_equal(ap_vocab_tokenize(vocab, "a", 1, 0, &tokens, &error), AP_E_UNSUPPORTED);
    assert_false(ap_vocab_has_template(vocab));
    ap_vocab_close(&vocab);
    close_packed(&p);
    ap_tiny_file files[AP_TINY_FILES_MAX];
    size_t count = ap_tiny_model_folder(&small, 1, files);
    files[count] = (ap_tiny_file){.name = "vocab.json"};
    assert_ok(ap_buf_add(&files[count].bytes, "{}", 2, err));
    expect_refused(files, count + 1, AP_E_FORMAT, "merges.txt");
}

/* ---- The end of memory ---- */

static ap_status import_once(void *context)
{
    static int packed = -1;
    const ap_import_file *list = context;
    ap_import_options options = {.size = sizeof options};
    ap_import_report report;
    if (packed < 0)
        packed = ap_test_temporary();
    assert_int_equal(ftruncate(packed, 0), 0);
    assert_int_equal(lseek(packed, 0, SEEK_SET), 0);
    return ap_model_import_files(list, 4, packed, &options, &report, NULL);
}

static void the_end_of_memory_leaves_no_part(void **state)
{
    ap_tiny_file files[AP_TINY_FILES_MAX];
    ap_import_file list[4];
    ap_tiny_model tiny = {.seed = 3, .layers = 1, .width = 8, .heads = 2, .kv_heads = 1, .ffn = 8, .context = 16};
    assert_int_equal(ap_tiny_model_parts(&tiny, 4, files), 4);
    for (size_t i = 0; i < 4; i++)
        list[i] = (ap_import_file){files[i].name, file_of(&files[i].bytes)};
    ap_test_each_oom(import_once, list);
    for (size_t i = 0; i < 4; i++)
        close(list[i].fd);
    ap_tiny_files_deinit(files, 4);
}

static void the_end_of_memory_leaves_nothing(void **state)
{
    ap_tiny_file files[AP_TINY_FILES_MAX];
    ap_import_file list[AP_TINY_FILES_MAX];
    ap_tiny_model tiny = {.seed = 3, .layers = 1, .width = 8, .heads = 2, .kv_heads = 1, .ffn = 8, .context = 16};
    size_t count = ap_tiny_model_folder(&tiny, 2, files);
    assert_int_equal(count, 4);
    for (size_t i = 0; i < count; i++)
        list[i] = (ap_import_file){files[i].name, file_of(&files[i].bytes)};
    ap_test_each_oom(import_once, list);
    for (size_t i = 0; i < count; i++)
        close(list[i].fd);
    ap_tiny_files_deinit(files, count);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_packs_to_the_weights_of_its_gguf),
        cmocka_unit_test(what_a_config_says_and_this_release_lacks_is_refused_by_name),
        cmocka_unit_test(weights_that_do_not_fit_are_refused_by_name),
        cmocka_unit_test(files_of_a_folder_must_be_there_and_agree),
        cmocka_unit_test(what_a_quantisation_says_and_this_release_lacks_is_refused_by_name),
        cmocka_unit_test(codes_and_scales_that_do_not_fit_are_refused_by_name),
        cmocka_unit_test(eight_bit_floats_are_kept_exactly),
        cmocka_unit_test(llama_3_scaling_becomes_divisors),
        cmocka_unit_test(a_folder_without_a_tokenizer_takes_ids_only),
        cmocka_unit_test(parts_pack_to_the_weights_of_the_whole),
        cmocka_unit_test(parts_that_do_not_make_a_model_are_refused_by_name),
        cmocka_unit_test(the_end_of_memory_leaves_no_part),
        cmocka_unit_test(the_end_of_memory_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
