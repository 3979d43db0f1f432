/* SPDX-License-Identifier: Apache-2.0 */
#include "telling_model.h"

#include "base/utf8.h"
#include "format/gguf_write.h"
#include "support.h"

enum {
    BYTES = 256,
    END = 256,
    IM_START = 257,
    IM_END = 258,
    FIRST_PIECE = 259,
    HEADS = 4,
    FFN = 32,
    VOCAB_MAX = 2048
};

static const char chat_template[] =
    "{% if reasoning_effort %}{{ '<|im_start|>effort ' + reasoning_effort + '<|im_end|>\\n' }}{% endif %}"
    "{% if tools %}{{ '<|im_start|>system\\n' }}{% for t in tools %}{{ t | tojson }}{% endfor %}"
    "{{ '<tool_call>{\"name\": , \"arguments\": }</tool_call><|im_end|>\\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}"
    "{% if m.reasoning_content %}{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ '<tool_call>' }}{{ c.function | tojson }}{{ '</tool_call>' }}{% "
    "endfor %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{{ messages[-1].content[-1:] }}{% endif "
    "%}";

typedef struct table {
    uint32_t next[VOCAB_MAX]; /* the token that follows */
    uint32_t direction[VOCAB_MAX];
    uint32_t vocab_count, direction_count;
    ap_buf names[VOCAB_MAX];
} table;

/* As byte-level BPE spells it. */
static void name_piece(ap_buf *name, const char *text)
{
    for (; *text; text++) {
        unsigned char b = (unsigned char)*text;
        unsigned code = b, shifted = 256;
        bool is_plain = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        for (unsigned before = 0; before < b && !is_plain; before++)
            shifted +=
                !((before >= 0x21 && before <= 0x7e) || (before >= 0xa1 && before <= 0xac) || before >= 0xae);
        char bytes[4];
        size_t length = ap_utf8_put(is_plain ? code : shifted, bytes);
        assert_ok(ap_buf_add(name, bytes, length, err));
    }
}

static void fill(table *t, const telling_answer *answers, size_t count)
{
    for (unsigned b = 0; b < BYTES; b++) {
        char text[2] = {(char)b, 0};
        if (b == 0)
            assert_ok(ap_buf_add_str(&t->names[b], AP_STR("\xc4\x80"), err));
        name_piece(&t->names[b], text);
    }
    static const char *const specials[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    for (unsigned i = 0; i < 3; i++)
        assert_ok(ap_buf_add_str(&t->names[END + i], ap_str_from(specials[i]), err));
    t->vocab_count = FIRST_PIECE;
    t->direction_count = 1; /* that of all tokens without one of their own: the answer ends */
    for (unsigned i = 0; i < FIRST_PIECE; i++)
        t->next[i] = IM_END;
    for (size_t i = 0; i < count; i++) {
        uint32_t last = (unsigned char)answers[i].after;
        assert_int_equal(t->direction[last], 0);
        for (size_t k = 0; k < answers[i].piece_count; k++) {
            const char *text = answers[i].pieces[k];
            uint32_t token = text[1] ? t->vocab_count++ : (unsigned char)text[0];
            assert_in_range(token, 1, VOCAB_MAX - 1);
            t->direction[last] = t->direction_count++;
            t->next[last] = token;
            if (text[1])
                name_piece(&t->names[token], text);
            assert_int_equal(t->direction[token], 0);
            t->next[token] = IM_END;
            last = token;
        }
    }
}

static void put_keys(ap_gguf_writer *w, const table *t, uint32_t width)
{
    static const struct {
        const char *name;
        uint32_t value; /* 0: the width */
    } numbers[] = {{"llama.context_length", 4096},
                   {"llama.embedding_length", 0},
                   {"llama.block_count", 1},
                   {"llama.feed_forward_length", FFN},
                   {"llama.attention.head_count", HEADS},
                   {"llama.attention.head_count_kv", 1},
                   {"tokenizer.ggml.bos_token_id", IM_START},
                   {"tokenizer.ggml.eos_token_id", IM_END}};
    ap_str names[VOCAB_MAX];
    int32_t types[VOCAB_MAX];
    for (uint32_t i = 0; i < t->vocab_count; i++) {
        names[i] = ap_buf_str(&t->names[i]);
        types[i] = i >= END && i <= IM_END ? 3 : 1;
    }
    assert_ok(ap_gguf_writer_str(w, "general.architecture", AP_STR("llama"), err));
    assert_ok(ap_gguf_writer_str(w, "general.name", AP_STR("telling"), err));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        assert_ok(ap_gguf_writer_u32(w, numbers[i].name, numbers[i].value ? numbers[i].value : width, err));
    assert_ok(ap_gguf_writer_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f, err));
    assert_ok(ap_gguf_writer_str(w, "tokenizer.ggml.model", AP_STR("gpt2"), err));
    assert_ok(ap_gguf_writer_str(w, "tokenizer.ggml.pre", AP_STR("gpt-2"), err));
    assert_ok(ap_gguf_writer_strs(w, "tokenizer.ggml.tokens", t->vocab_count, names, err));
    assert_ok(
        ap_gguf_writer_numbers(w, "tokenizer.ggml.token_type", AP_GGUF_I32, t->vocab_count, types, err));
    assert_ok(ap_gguf_writer_strs(w, "tokenizer.ggml.merges", 0, NULL, err));
    assert_ok(ap_gguf_writer_str(w, "tokenizer.chat_template", ap_str_from(chat_template), err));
}

typedef enum matrix { ZEROS, ONES, EMBEDDING, OUTPUT } matrix;

static void put_data(ap_gguf_writer *w, const table *t, matrix kind, uint32_t columns, uint32_t rows)
{
    ap_buf row = {0};
    assert_ok(ap_buf_reserve(&row, columns * sizeof(float), err));
    float *values = (float *)(void *)row.ptr;
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t c = 0; c < columns; c++)
            values[c] = kind == ONES;
        if (kind == EMBEDDING)
            values[t->direction[r]] = 1;
        for (uint32_t token = 0; kind == OUTPUT && token < t->vocab_count; token++)
            if (t->next[token] == r)
                values[t->direction[token]] = 8;
        assert_ok(ap_gguf_writer_data(w, values, columns * sizeof(float), err));
    }
    ap_buf_deinit(&row);
}

void telling_model_write(const telling_answer *answers, size_t count, int fd)
{
    table *t = calloc(1, sizeof *t);
    ap_gguf_writer *w = NULL;
    assert_non_null(t);
    fill(t, answers, count);
    /* Heads have an even width that kernels like. */
    uint32_t width = (t->direction_count + 255) / 256 * 256, kv = width / HEADS, vocab = t->vocab_count;
    const struct {
        const char *name;
        uint32_t columns, rows; /* rows 0: a vector */
        matrix kind;
    } tensors[] = {
        {"token_embd.weight", width, vocab, EMBEDDING}, {"output_norm.weight", width, 0, ONES},
        {"output.weight", width, vocab, OUTPUT},        {"blk.0.attn_norm.weight", width, 0, ONES},
        {"blk.0.attn_q.weight", width, width, ZEROS},   {"blk.0.attn_k.weight", width, kv, ZEROS},
        {"blk.0.attn_v.weight", width, kv, ZEROS},      {"blk.0.attn_output.weight", width, width, ZEROS},
        {"blk.0.ffn_norm.weight", width, 0, ONES},      {"blk.0.ffn_gate.weight", width, FFN, ZEROS},
        {"blk.0.ffn_up.weight", width, FFN, ZEROS},     {"blk.0.ffn_down.weight", FFN, width, ZEROS}};
    enum { COUNT = sizeof tensors / sizeof tensors[0] };
    assert_ok(ap_gguf_writer_create(&w, 32, err));
    put_keys(w, t, width);
    for (size_t i = 0; i < COUNT; i++) {
        const uint64_t dims[2] = {tensors[i].columns, tensors[i].rows};
        assert_ok(ap_gguf_writer_tensor(w, ap_str_from(tensors[i].name), AP_TYPE_F32, tensors[i].rows ? 2 : 1,
                                        dims, err));
    }
    assert_ok(ap_gguf_writer_begin(w, fd, err));
    for (size_t i = 0; i < COUNT; i++)
        put_data(w, t, tensors[i].kind, tensors[i].columns, tensors[i].rows ? tensors[i].rows : 1);
    assert_ok(ap_gguf_writer_end(w, NULL, err));
    ap_gguf_writer_destroy(&w);
    for (size_t i = 0; i < VOCAB_MAX; i++)
        ap_buf_deinit(&t->names[i]);
    free(t);
}

void telling_model_weather(int fd)
{
    static const char *const one[] = {"<think>",
                                      "The user wants the ",
                                      "weather.",
                                      "</think>\n\n",
                                      "<tool_call>\n{\"na",
                                      "me\": \"weather\", \"argu",
                                      "ments\": {\"city\": ",
                                      "\"Turin\"}",
                                      "}\n</tool_call>"};
    static const char *const both[] = {
        "Both",
        " then. ",
        "<tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}</tool",
        "_call>\n<tool_call>",
        "{\"name\": \"time\", \"arguments\": {",
        "}}</tool_call>"};
    static const char *const warm[] = {"It is ", "warm in Turin."};
    static const char *const cold[] = {"It ", "is cold in Turin."};
    const telling_answer answers[] = {{'?', one, sizeof one / sizeof *one},
                                      {'!', both, sizeof both / sizeof *both},
                                      {'C', warm, 2},
                                      {'F', cold, 2}};
    telling_model_write(answers, sizeof answers / sizeof *answers, fd);
}
