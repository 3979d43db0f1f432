/* SPDX-License-Identifier: Apache-2.0 */
#include "tiny_model.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/utf8.h"
#include "support.h"
#include "tiny_families.h"

enum { KEY_U16 = 2, KEY_U32 = 4, KEY_F32 = 6, KEY_BOOL = 7, KEY_STRING = 8, KEY_ARRAY = 9, KEY_I32 = 5, ALIGNMENT = 32 };

typedef struct tensor_info {
    char name[64];
    uint32_t columns, rows; /* rows 0: a vector, of f32 */
    size_t offset, bytes;
} tensor_info;

typedef struct writer {
    ap_buf keys, infos, data;
    uint64_t key_count, tensor_count, random;
    ap_buf tensors; /* of tensor_info */
} writer;

static void put(ap_buf *b, const void *bytes, size_t n) { assert_int_equal(ap_buf_add(b, bytes, n, NULL), AP_OK); }
static void put_u16(ap_buf *b, uint16_t v) { put(b, &v, 2); }
static void put_u32(ap_buf *b, uint32_t v) { put(b, &v, 4); }
static void put_u64(ap_buf *b, uint64_t v) { put(b, &v, 8); }
static void put_f32(ap_buf *b, float v) { put(b, &v, 4); }
static void put_text(ap_buf *b, const char *text)
{
    put_u64(b, strlen(text));
    put(b, text, strlen(text));
}

static void key(writer *w, const char *name, uint32_t type)
{
    put_text(&w->keys, name);
    put_u32(&w->keys, type);
    w->key_count++;
}
static void key_u32(writer *w, const char *name, uint32_t v)
{
    key(w, name, KEY_U32);
    put_u32(&w->keys, v);
}
static void key_f32(writer *w, const char *name, float v)
{
    key(w, name, KEY_F32);
    put_f32(&w->keys, v);
}
static void key_bool(writer *w, const char *name, bool v)
{
    key(w, name, KEY_BOOL);
    put(&w->keys, &(uint8_t){v}, 1);
}
static void key_text(writer *w, const char *name, const char *v)
{
    key(w, name, KEY_STRING);
    put_text(&w->keys, v);
}
static void key_array(writer *w, const char *name, uint32_t type, uint64_t count)
{
    key(w, name, KEY_ARRAY);
    put_u32(&w->keys, type);
    put_u64(&w->keys, count);
}

/* ---- Weights ---- */

static uint8_t byte(writer *w) { return (uint8_t)(ap_test_random(&w->random) >> 40); }
static float uniform(writer *w) { return ap_test_uniform(&w->random); }

/* Rounds towards zero; the numbers here are small. */
static uint16_t half(float f)
{
    uint32_t bits;
    if (fabsf(f) < 0x1p-14f)
        return (uint16_t)((f < 0 ? 0x8000 : 0) | (int)(fabsf(f) * 0x1p24f));
    memcpy(&bits, &f, 4);
    int exponent = (int)(bits >> 23 & 0xff) - 127 + 15;
    assert_in_range(exponent, 1, 30);
    return (uint16_t)((bits >> 16 & 0x8000) | (uint32_t)exponent << 10 | (bits >> 13 & 0x3ff));
}

static void put_bytes(writer *w, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t b = byte(w);
        put(&w->data, &b, 1);
    }
}

/* 12 bytes of packed six-bit scales and mins are any bytes; one block's weights have about `spread`. */
static void put_block(writer *w, uint32_t type, float spread)
{
    float vary = spread * (0.75f + 0.25f * uniform(w)); /* each block has its own scale */
    switch (type) {
    case 0:
        put_f32(&w->data, uniform(w) * spread * 1.7f);
        break;
    case 1:
        put_u16(&w->data, half(uniform(w) < 0 ? -vary : vary));
        break;
    case 30: {
        float v = uniform(w) * spread * 1.7f;
        put(&w->data, (char *)&v + 2, 2);
        break;
    }
    case 2: /* Q4_0 */
        put_u16(&w->data, half(vary / 4.6f));
        put_bytes(w, 16);
        break;
    case 3: /* Q4_1 */
        put_u16(&w->data, half(vary / 4.6f));
        put_u16(&w->data, half(vary / 4.6f * -7.5f));
        put_bytes(w, 16);
        break;
    case 6: /* Q5_0 */
        put_u16(&w->data, half(vary / 9.2f));
        put_bytes(w, 20);
        break;
    case 7: /* Q5_1 */
        put_u16(&w->data, half(vary / 9.2f));
        put_u16(&w->data, half(vary / 9.2f * -15.5f));
        put_bytes(w, 20);
        break;
    case 8: /* Q8_0 */
        put_u16(&w->data, half(vary / 74));
        put_bytes(w, 32);
        break;
    case 12: /* Q4_K */
    case 13: /* Q5_K */
        put_u16(&w->data, half(vary / (type == 12 ? 4.6f : 9.2f) / 32));
        put_u16(&w->data, half(vary / (type == 12 ? 4.6f : 9.2f) / 32 * (type == 12 ? 7.5f : 15.5f)));
        put_bytes(w, type == 12 ? 140 : 172);
        break;
    case 14: /* Q6_K */
        put_bytes(w, 208);
        put_u16(&w->data, half(vary / 18 / 74));
        break;
    case 10: /* Q2_K */
        put_bytes(w, 80);
        put_u16(&w->data, half(vary / 1.1f / 7.5f));
        put_u16(&w->data, half(vary / 1.1f / 7.5f * 1.5f));
        break;
    case 11: /* Q3_K */
        put_bytes(w, 108);
        put_u16(&w->data, half(vary / 18 / 2.4f));
        break;
    case 15: /* Q8_K */
        put_f32(&w->data, vary / 74);
        put_bytes(w, 288);
        break;
    case 20: /* IQ4_NL */
        put_u16(&w->data, half(vary / 65));
        put_bytes(w, 16);
        break;
    case 23: /* IQ4_XS */
        put_u16(&w->data, half(vary / 18 / 65));
        put_bytes(w, 134);
        break;
    case 35: /* TQ2_0 */
        put_bytes(w, 64);
        put_u16(&w->data, half(vary / 1.2f));
        break;
    case 39: { /* MXFP4 */
        int exponent;
        (void)frexpf(vary / 5.9f, &exponent);
        put(&w->data, &(uint8_t){(uint8_t)(127 + exponent)}, 1);
        put_bytes(w, 16);
        break;
    }
    default:
        fail_msg("type %u has no generator", type);
    }
}

static uint32_t block_elems(uint32_t type)
{
    return type == 0 || type == 1 || type == 30 ? 1 : type < 10 || type == 20 || type == 39 ? 32 : 256;
}

/* A dimension of 0 is none, nor are those behind it. */
static void tensor_of_3(writer *w, const char *name, uint32_t type, uint32_t columns, uint32_t rows, uint32_t experts,
                        float spread)
{
    put_text(&w->infos, name);
    put_u32(&w->infos, experts ? 3 : rows ? 2 : 1);
    put_u64(&w->infos, columns);
    if (rows)
        put_u64(&w->infos, rows);
    if (experts) {
        put_u64(&w->infos, experts);
        rows *= experts;
    }
    put_u32(&w->infos, type);
    put_u64(&w->infos, w->data.len);
    tensor_info info = {.columns = columns, .rows = rows, .offset = w->data.len};
    (void)snprintf(info.name, sizeof info.name, "%s", name);
    for (uint64_t i = 0; i < (uint64_t)columns * (rows ? rows : 1); i += block_elems(type))
        put_block(w, type, spread);
    info.bytes = w->data.len - info.offset;
    put(&w->tensors, &info, sizeof info);
    while (w->data.len % ALIGNMENT)
        put(&w->data, "", 1);
    w->tensor_count++;
}

static void tensor(writer *w, const char *name, uint32_t type, uint32_t columns, uint32_t rows, float spread)
{
    tensor_of_3(w, name, type, columns, rows, 0, spread);
}

/* A vector around `middle`: norms near one, biases near zero. */
static void vector(writer *w, const char *name, uint32_t count, float middle, float spread)
{
    size_t start = w->data.len;
    tensor(w, name, 0, count, 0, spread);
    for (uint32_t i = 0; i < count; i++) {
        float v;
        memcpy(&v, w->data.ptr + start + 4 * i, 4);
        v += middle;
        memcpy(w->data.ptr + start + 4 * i, &v, 4);
    }
}

/* ---- Vocabulary ---- */

static void put_vocabulary(writer *w)
{
    key_text(w, "tokenizer.ggml.model", "gpt2");
    key_text(w, "tokenizer.ggml.pre", "gpt-2");
    char pieces[AP_TINY_VOCAB][16] = {{0}};
    unsigned shifted = 256;
    for (unsigned b = 0; b < 256; b++) {
        bool is_plain = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        ap_utf8_put(is_plain ? b : shifted++, pieces[b]);
    }
    static const char *const rest[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "th", "the", "in", "er", "an", "on",
                                       "re", "\xc4\xa0t", ("\xc4\xa0" "a"), "\xc4\xa0the", "he", "user", "us"};
    for (unsigned i = 0; i < 16; i++)
        (void)snprintf(pieces[256 + i], sizeof pieces[0], "%s", rest[i]);
    key_array(w, "tokenizer.ggml.tokens", KEY_STRING, AP_TINY_VOCAB);
    for (unsigned i = 0; i < AP_TINY_VOCAB; i++)
        put_text(&w->keys, pieces[i]);
    key_array(w, "tokenizer.ggml.token_type", KEY_I32, AP_TINY_VOCAB);
    for (unsigned i = 0; i < AP_TINY_VOCAB; i++)
        put_u32(&w->keys, i >= AP_TINY_END && i <= AP_TINY_IM_END ? 3 : 1);
    static const char *const merges[] = {"t h", "th e", "h e", "i n", "e r", "a n", "o n", "r e", "\xc4\xa0 t", "\xc4\xa0 a",
                                         "\xc4\xa0t he", "u s", "us er"};
    key_array(w, "tokenizer.ggml.merges", KEY_STRING, sizeof merges / sizeof merges[0]);
    for (unsigned i = 0; i < sizeof merges / sizeof merges[0]; i++)
        put_text(&w->keys, merges[i]);
    key_u32(w, "tokenizer.ggml.bos_token_id", AP_TINY_IM_START);
    key_u32(w, "tokenizer.ggml.eos_token_id", AP_TINY_IM_END);
    key_text(w, "tokenizer.chat_template",
             "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
             "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}");
}

/* ---- Families ---- */

static const tiny_family *family_of(const char *name)
{
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (strcmp(families[i].name, name) == 0)
            return &families[i];
    fail_msg("no family %s", name);
    return NULL;
}

static bool is_wanted(tiny_when when, const ap_tiny_model *m)
{
    return when == ALWAYS || when == LATER || (when == VARIANT) == m->is_variant;
}

static uint32_t size_of(char letter, const ap_tiny_model *m)
{
    uint32_t q = m->heads * m->head_width, kv = m->kv_heads * m->head_width;
    switch (letter) {
    case 'D': return m->width;
    case 'Q': return q;
    case 'K': return kv;
    case 'A': return q + 2 * kv;
    case 'H': return m->head_width;
    case 'N': return m->heads;
    case 'F': return m->ffn;
    case 'G': return 2 * m->ffn;
    case 'E': return TINY_EXPERTS;
    case 'V': return AP_TINY_VOCAB;
    case 'C': return m->context;
    case 'R': return TINY_ROTARY / 2;
    case 'T': return TINY_TYPES;
    case 'L': return 1;
    default: return 0;
    }
}

static void family_tensor(writer *w, const ap_tiny_model *m, const tiny_tensor *t, const char *prefix)
{
    char name[64];
    (void)snprintf(name, sizeof name, "%s%s", prefix, t->name);
    uint32_t columns = size_of(t->columns, m), rows = size_of(t->rows, m), experts = size_of(t->experts, m);
    float spread = 1 / sqrtf((float)columns);
    bool is_bias = strstr(name, ".bias");
    if (strstr(name, "_norm") && !is_bias)
        vector(w, name, columns, 1, 0.1f);
    else if (strstr(name, "rope_factors"))
        vector(w, name, columns, strstr(name, "long") ? 4 : 2, 0.5f);
    else if (rows == 0 && experts == 0)
        vector(w, name, columns, 0, is_bias ? 0.2f : 1);
    else if (rows == 0)
        tensor(w, name, 0, columns, experts, 0.2f);
    else if (strstr(name, "ffn_gate_inp"))
        tensor(w, name, 0, columns, rows, 3 * spread);
    else if (strstr(name, "_embd"))
        tensor(w, name, m->type, columns, rows, 1);
    else /* large q and k make attention peaked, so that a wrong position shows */
        tensor_of_3(w, name, m->type, columns, rows, experts,
                    strstr(name, "attn_q") || strstr(name, "attn_k") ? 2 * spread : spread);
}

static void family_keys(writer *w, const ap_tiny_model *m, const char *arch, const tiny_family *f)
{
    char name[96];
    for (const tiny_key *k = f->keys; k->name; k++) {
        if (!is_wanted(k->when, m))
            continue;
        (void)snprintf(name, sizeof name, "%s.%s", arch, k->name);
        switch (k->kind) {
        case TINY_U32: key_u32(w, name, (uint32_t)k->value); break;
        case TINY_F32: key_f32(w, name, k->value); break;
        case TINY_BOOL: key_bool(w, name, k->value != 0); break;
        case TINY_YARN: key_text(w, name, "yarn"); break;
        case TINY_WINDOW: key_u32(w, name, m->window); break;
        }
    }
}

static void put_family(writer *w, const ap_tiny_model *m)
{
    const tiny_family *f = family_of(m->family);
    /* Files of Mistral and Mixtral call themselves llama. */
    const char *arch = strncmp(m->family, "mi", 2) == 0 ? "llama" : m->family;
    const struct {
        const char *name;
        uint32_t value;
    } sizes[] = {{"context_length", m->context},         {"embedding_length", m->width},
                 {"block_count", m->layers},             {"feed_forward_length", m->ffn},
                 {"attention.head_count", m->heads},     {"attention.head_count_kv", m->kv_heads},
                 {"attention.key_length", m->head_width}, {"attention.value_length", m->head_width}};
    char name[96];
    key_text(w, "general.architecture", arch);
    key_text(w, "general.name", "tiny");
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        (void)snprintf(name, sizeof name, "%s.%s", arch, sizes[i].name);
        key_u32(w, name, sizes[i].value);
    }
    (void)snprintf(name, sizeof name, "%s.attention.layer_norm_%sepsilon", arch, f->has_layer_norms ? "" : "rms_");
    key_f32(w, name, 1e-5f);
    family_keys(w, m, arch, f);
    if (f->layer_more == bert)
        key_u32(w, "tokenizer.ggml.token_type_count", TINY_TYPES);
    put_vocabulary(w);
    for (const tiny_tensor *t = f->model; t->name; t++)
        if (is_wanted(t->when, m))
            family_tensor(w, m, t, "");
    for (uint32_t layer = 0; layer < m->layers; layer++) {
        (void)snprintf(name, sizeof name, "blk.%u.", layer);
        const tiny_tensor *const lists[] = {f->layer, f->layer_more};
        for (int i = 0; i < 2; i++)
            for (const tiny_tensor *t = lists[i]; t->name; t++)
                if (is_wanted(t->when, m) && !(t->when == LATER && layer == 0))
                    family_tensor(w, m, t, name);
    }
}

/* ---- The file ---- */

static ap_tiny_model with_defaults(const ap_tiny_model *model)
{
    ap_tiny_model m = *model;
    m.layers = m.layers ? m.layers : 2;
    m.width = m.width ? m.width : 256;
    m.heads = m.heads ? m.heads : 4;
    m.kv_heads = m.kv_heads ? m.kv_heads : 2;
    m.ffn = m.ffn ? m.ffn : 512;
    m.context = m.context ? m.context : 4096;
    m.head_width = m.head_width ? m.head_width : m.width / m.heads;
    m.window = m.window ? m.window : 300;
    return m;
}

static void put_keys(writer *w, const ap_tiny_model *m)
{
    key_text(w, "general.architecture", "llama");
    key_text(w, "general.name", "tiny");
    key_text(w, "general.license", "apache-2.0");
    key_u32(w, "llama.context_length", m->context);
    key_u32(w, "llama.embedding_length", m->width);
    key_u32(w, "llama.block_count", m->layers);
    key_u32(w, "llama.feed_forward_length", m->ffn);
    key_u32(w, "llama.attention.head_count", m->heads);
    key_u32(w, "llama.attention.head_count_kv", m->kv_heads);
    key_u32(w, "llama.rope.dimension_count", m->width / m->heads);
    key_f32(w, "llama.rope.freq_base", 10000);
    key_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    if (m->rope_scale > 0)
        key_f32(w, "llama.rope.scale_linear", m->rope_scale);
    put_vocabulary(w);
}

static void put_tensors(writer *w, const ap_tiny_model *m)
{
    uint32_t head = m->width / m->heads, kv = head * m->kv_heads;
    float spread = 1 / sqrtf((float)m->width);
    uint32_t rows = AP_TINY_VOCAB + m->spare_rows;
    tensor(w, "token_embd.weight", m->type, m->width, rows, 1);
    if (m->nan_token) {
        assert_int_equal(m->type, 0);
        float nan = NAN;
        memcpy(w->data.ptr + (size_t)m->nan_token * m->width * 4, &nan, 4);
    }
    vector(w, "output_norm.weight", m->width, 1, 0.1f);
    if (m->has_output)
        tensor(w, "output.weight", m->type, m->width, rows, 4 * spread);
    if (m->has_rope_freqs)
        vector(w, "rope_freqs.weight", head / 2, 2, 0.5f);
    for (uint32_t layer = 0; layer < m->layers; layer++) {
        char name[64];
#define NAME(part) (snprintf(name, sizeof name, "blk.%u." part, layer), name)
        vector(w, NAME("attn_norm.weight"), m->width, 1, 0.1f);
        /* Large q and k make attention peaked, so that a wrong position shows. */
        tensor(w, NAME("attn_q.weight"), m->type, m->width, m->width, 2 * spread);
        tensor(w, NAME("attn_k.weight"), m->type, m->width, kv, 2 * spread);
        tensor(w, NAME("attn_v.weight"), m->type, m->width, kv, spread);
        if (m->has_bias) {
            vector(w, NAME("attn_q.bias"), m->width, 0, 0.2f);
            vector(w, NAME("attn_k.bias"), kv, 0, 0.2f);
            vector(w, NAME("attn_v.bias"), kv, 0, 0.2f);
        }
        tensor(w, NAME("attn_output.weight"), m->type, m->width, m->width, spread);
        vector(w, NAME("ffn_norm.weight"), m->width, 1, 0.1f);
        tensor(w, NAME("ffn_gate.weight"), m->type, m->width, m->ffn, spread);
        tensor(w, NAME("ffn_up.weight"), m->type, m->width, m->ffn, spread);
        tensor(w, NAME("ffn_down.weight"), m->type, m->ffn, m->width, spread);
#undef NAME
    }
    if (m->extra_vector)
        vector(w, m->extra_vector, m->width, 0, 0.2f);
}

static void deinit(writer *w)
{
    ap_buf_deinit(&w->keys);
    ap_buf_deinit(&w->infos);
    ap_buf_deinit(&w->data);
    ap_buf_deinit(&w->tensors);
}

static void put_file(ap_buf *out, const ap_buf *keys, uint64_t key_count, const ap_buf *infos, uint64_t tensor_count,
                     const char *data, size_t data_bytes)
{
    size_t start = out->len;
    put(out, "GGUF", 4);
    put_u32(out, 3);
    put_u64(out, tensor_count);
    put_u64(out, key_count);
    put(out, keys->ptr, keys->len);
    put(out, infos->ptr, infos->len);
    while ((out->len - start) % ALIGNMENT)
        put(out, "", 1);
    put(out, data, data_bytes);
}

void ap_tiny_model_write(const ap_tiny_model *model, ap_buf *out)
{
    ap_tiny_model m = with_defaults(model);
    writer w = {.random = m.seed};
    if (m.family) {
        put_family(&w, &m);
    } else {
        put_keys(&w, &m);
        put_tensors(&w, &m);
    }
    put_file(out, &w.keys, w.key_count, &w.infos, w.tensor_count, w.data.ptr, w.data.len);
    deinit(&w);
}

/* ---- Parts ---- */

void ap_tiny_adapter_write(const ap_tiny_model *model, uint32_t rank, ap_buf *out)
{
    ap_tiny_model m = with_defaults(model);
    writer w = {.random = m.seed + 1};
    uint32_t kv = m.width / m.heads * m.kv_heads;
    const struct {
        const char *name;
        uint32_t columns, rows;
    } matrices[] = {{"attn_q", m.width, m.width}, {"attn_k", m.width, kv}, {"attn_v", m.width, kv}, {"attn_output", m.width, m.width},
                    {"ffn_gate", m.width, m.ffn}, {"ffn_up", m.width, m.ffn}, {"ffn_down", m.ffn, m.width}};
    key_text(&w, "general.type", "adapter");
    key_text(&w, "general.architecture", "llama");
    key_text(&w, "adapter.type", "lora");
    key_f32(&w, "adapter.lora.alpha", 3);
    for (uint32_t layer = 0; layer < m.layers; layer++)
        for (size_t i = 0; i < sizeof matrices / sizeof matrices[0]; i++) {
            char name[64];
            (void)snprintf(name, sizeof name, "blk.%u.%s.weight.lora_a", layer, matrices[i].name);
            tensor(&w, name, 0, matrices[i].columns, rank, 0.3f);
            name[strlen(name) - 1] = 'b';
            tensor(&w, name, 0, rank, matrices[i].rows, 0.3f);
        }
    put_file(out, &w.keys, w.key_count, &w.infos, w.tensor_count, w.data.ptr, w.data.len);
    deinit(&w);
}

static void put_split_keys(writer *w, unsigned part, unsigned parts, uint64_t tensor_count)
{
    key(w, "split.no", KEY_U16);
    put_u16(&w->keys, (uint16_t)part);
    key(w, "split.count", KEY_U16);
    put_u16(&w->keys, (uint16_t)parts);
    key(w, "split.tensors.count", KEY_I32);
    put_u32(&w->keys, (uint32_t)tensor_count);
}

/* Copies the next entry of `infos`, its data now beginning at `offset`; returns where its data began. */
static uint64_t move_info(const char **infos, ap_buf *out, uint64_t offset)
{
    uint64_t length, was;
    uint32_t dims;
    memcpy(&length, *infos, 8);
    memcpy(&dims, *infos + 8 + length, 4);
    size_t bytes = 8 + length + 4 + 8ul * dims + 4;
    memcpy(&was, *infos + bytes, 8);
    put(out, *infos, bytes);
    put_u64(out, offset);
    *infos += bytes + 8;
    return was;
}

/* Where the data of the entry at `infos` begins; `end` behind the last. */
static uint64_t offset_at(const char *infos, const ap_buf *all, uint64_t end)
{
    ap_buf nothing = {0};
    uint64_t offset = infos == all->ptr + all->len ? end : move_info(&infos, &nothing, 0);
    ap_buf_deinit(&nothing);
    return offset;
}

size_t ap_tiny_model_parts(const ap_tiny_model *model, unsigned parts, ap_tiny_file files[AP_TINY_FILES_MAX])
{
    ap_tiny_model m = with_defaults(model);
    writer w = {.random = m.seed};
    assert_true(parts <= AP_TINY_FILES_MAX && !m.family);
    put_keys(&w, &m);
    put_tensors(&w, &m);
    const char *info = w.infos.ptr;
    for (unsigned i = 0; i < parts; i++) {
        uint64_t first = w.tensor_count * i / parts, last = w.tensor_count * (i + 1) / parts;
        writer part = {0};
        if (i == 0) {
            put(&part.keys, w.keys.ptr, w.keys.len);
            part.key_count = w.key_count;
        }
        put_split_keys(&part, i, parts, w.tensor_count);
        uint64_t start = offset_at(info, &w.infos, w.data.len);
        for (uint64_t t = first; t < last; t++)
            (void)move_info(&info, &part.infos, offset_at(info, &w.infos, w.data.len) - start);
        files[i] = (ap_tiny_file){0};
        (void)snprintf(files[i].name, sizeof files[i].name, "tiny-%05u-of-%05u.gguf", i + 1, parts);
        put_file(&files[i].bytes, &part.keys, part.key_count, &part.infos, last - first, w.data.ptr + start,
                 offset_at(info, &w.infos, w.data.len) - start);
        deinit(&part);
    }
    deinit(&w);
    return parts;
}

/* ---- The folder ---- */

static void name_in_folder(const char *gguf, char name[96])
{
    static const struct {
        const char *gguf, *folder;
    } names[] = {
        {"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"},          {"output", "lm_head"},
        {"attn_norm", "input_layernorm"},     {"attn_q", "self_attn.q_proj"},         {"attn_k", "self_attn.k_proj"},
        {"attn_v", "self_attn.v_proj"},       {"attn_output", "self_attn.o_proj"},    {"ffn_norm", "post_attention_layernorm"},
        {"ffn_gate", "mlp.gate_proj"},        {"ffn_up", "mlp.up_proj"},              {"ffn_down", "mlp.down_proj"},
    };
    unsigned layer;
    int skip = 0;
    char prefix[32] = "";
    if (sscanf(gguf, "blk.%u.%n", &layer, &skip) == 1)
        (void)snprintf(prefix, sizeof prefix, "model.layers.%u.", layer);
    size_t length = strcspn(gguf + skip, ".");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (ap_str_is((ap_str){gguf + skip, length}, names[i].gguf)) {
            (void)snprintf(name, 96, "%s%s%s", prefix, names[i].folder, gguf + skip + length);
            return;
        }
    (void)snprintf(name, 96, "%s", gguf); /* a tensor that nobody knows */
}

/* The rows of q and k: the first elements of all pairs of a head, then the second ones. */
static void put_halves(ap_buf *out, const char *from, size_t bytes, uint32_t rows, uint32_t head)
{
    size_t row_bytes = bytes / rows;
    for (uint32_t row = 0; row < rows; row++) {
        uint32_t in_head = row % head, half = head / 2;
        put(out, from + (size_t)(row - in_head + in_head % half * 2 + in_head / half) * row_bytes, row_bytes);
    }
}

static void put_weights(const writer *w, const ap_tiny_model *m, uint64_t first, uint64_t last, ap_buf *out, ap_buf *index,
                        const char *file)
{
    static const char *const dtypes[31] = {[0] = "F32", [1] = "F16", [30] = "BF16"};
    ap_buf header = {0}, data = {0};
    for (uint64_t i = first; i < last; i++) {
        tensor_info info, *t = &info;
        memcpy(&info, w->tensors.ptr + i * sizeof info, sizeof info);
        char name[96], shape[32];
        name_in_folder(t->name, name);
        (void)snprintf(shape, sizeof shape, t->rows ? "%u,%u" : "%u", t->rows ? t->rows : t->columns, t->columns);
        size_t begin = data.len;
        const char *from = w->data.ptr + t->offset;
        if (strstr(t->name, "attn_q.") || strstr(t->name, "attn_k."))
            put_halves(&data, from, t->bytes, t->rows ? t->rows : t->columns, m->width / m->heads);
        else
            put(&data, from, t->bytes);
        assert_int_equal(ap_buf_printf(&header, NULL, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                                       i > first ? "," : "{\"__metadata__\":{\"format\":\"pt\"},", name,
                                       t->rows ? dtypes[m->type] : "F32", shape, begin, data.len), AP_OK);
        if (index)
            assert_int_equal(ap_buf_printf(index, NULL, "%s\"%s\":\"%s\"", i ? "," : "{\"weight_map\":{", name, file), AP_OK);
    }
    put(&header, "}", 1);
    put_u64(out, header.len);
    put(out, header.ptr, header.len);
    put(out, data.ptr, data.len);
    ap_buf_deinit(&header);
    ap_buf_deinit(&data);
}

size_t ap_tiny_model_folder(const ap_tiny_model *model, unsigned shards, ap_tiny_file files[AP_TINY_FILES_MAX])
{
    ap_tiny_model m = with_defaults(model);
    writer w = {.random = m.seed};
    put_tensors(&w, &m);
    size_t count = 0;
    ap_tiny_file *file = &files[count++];
    *file = (ap_tiny_file){.name = "config.json"};
    assert_int_equal(ap_buf_printf(&file->bytes, NULL,
                                   "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"_name_or_path\":\"org/tiny\",\n"
                                   "\"hidden_size\":%u,\"intermediate_size\":%u,\"num_hidden_layers\":%u,\"num_attention_heads\":%u,\n"
                                   "\"num_key_value_heads\":%u,\"head_dim\":null,\"rms_norm_eps\":1e-05,\"rope_theta\":10000.0,\n"
                                   "\"rope_scaling\":null,\"max_position_embeddings\":%u,\"vocab_size\":%u,\"hidden_act\":\"silu\",\n"
                                   "\"tie_word_embeddings\":%s,\"bos_token_id\":1,\"eos_token_id\":[2,3]}\n",
                                   m.width, m.ffn, m.layers, m.heads, m.kv_heads, m.context, AP_TINY_VOCAB + m.spare_rows,
                                   m.has_output ? "false" : "true"), AP_OK);
    assert_true(shards >= 1 && shards + 2 <= AP_TINY_FILES_MAX);
    ap_buf index = {0};
    for (unsigned i = 0; i < shards; i++) {
        file = &files[count++];
        *file = (ap_tiny_file){.name = "model.safetensors"};
        if (shards > 1)
            (void)snprintf(file->name, sizeof file->name, "model-%05u-of-%05u.safetensors", i + 1, shards);
        put_weights(&w, &m, w.tensor_count * i / shards, w.tensor_count * (i + 1) / shards, &file->bytes,
                    shards > 1 ? &index : NULL, file->name);
    }
    if (shards > 1) {
        put(&index, "}}", 2);
        files[count] = (ap_tiny_file){.name = "model.safetensors.index.json", .bytes = index};
        count++;
    }
    deinit(&w);
    return count;
}

void ap_tiny_files_deinit(ap_tiny_file *files, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ap_buf_deinit(&files[i].bytes);
}

int ap_test_temporary(void)
{
    char path[] = "/tmp/aperto-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(unlink(path), 0);
    return fd;
}

int ap_tiny_model_file(const ap_tiny_model *model)
{
    ap_buf bytes = {0};
    ap_tiny_model_write(model, &bytes);
    int fd = ap_test_temporary();
    assert_int_equal(ap_file_write_all(fd, bytes.ptr, bytes.len, NULL), AP_OK);
    ap_buf_deinit(&bytes);
    return fd;
}
