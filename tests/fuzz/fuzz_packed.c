/* A packed file from a stranger: one of ours, changed in a few places of its head, opened and, if that goes, asked.
 *
 * Input: which model, how many changes, then for each change two bytes where, one how, one what.  Holds: what is refused says why in one
 * line; what is opened computes logits within its memory, whatever they are.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "format/packed.h"
#include "tiny_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CHANGE_BYTES = 4, CHANGES_MAX = 3, Q8_0 = 8, TYPES_BYTES = 600, MEMORY_BYTES_MAX = 256 << 20 };

typedef struct base {
    ap_buf bytes;
    size_t head_bytes; /* before the tensors' data */
    size_t types_at;   /* in it: "aperto.tensor.types", and behind it layouts and dimensions */
} base;

static void must(bool is_true)
{
    if (!is_true)
        abort();
}

static const ap_tiny_model models[] = {
    {.seed = 1, .type = Q8_0, .width = 64, .ffn = 128, .heads = 2, .kv_heads = 1, .layers = 2, .context = 64, .has_output = true, .has_rope_freqs = true},
    {.seed = 2, .type = Q8_0, .width = 64, .ffn = 128, .heads = 2, .kv_heads = 1, .layers = 1, .context = 64, .has_bias = true},
    {.seed = 3, .width = 64, .ffn = 64, .heads = 2, .kv_heads = 1, .layers = 1, .context = 64, .family = "mixtral"},
    {.seed = 4, .width = 64, .ffn = 128, .heads = 2, .kv_heads = 1, .layers = 2, .context = 64, .family = "gemma3"},
    {.seed = 5, .width = 64, .ffn = 128, .heads = 2, .kv_heads = 2, .layers = 1, .context = 64, .family = "gpt2"},
};
enum { MODEL_COUNT = sizeof models / sizeof models[0] };

static const base *packed_model(size_t index)
{
    static base all[MODEL_COUNT];
    base *b = &all[index];
    if (b->bytes.ptr)
        return b;
    ap_import_options options = {.size = sizeof options};
    ap_import_report report;
    ap_mapping map;
    ap_packed *packed;
    int source = ap_tiny_model_file(&models[index]), out = ap_test_temporary();
    must(ap_model_import(source, out, &options, &report, NULL) == AP_OK && ap_file_map(out, &map, NULL) == AP_OK);
    must(ap_buf_add(&b->bytes, map.ptr, map.len, NULL) == AP_OK && ap_packed_open(&packed, map.ptr, map.len, NULL) == AP_OK);
    b->head_bytes = map.len;
    for (uint32_t i = 0; i < ap_packed_count(packed); i++) {
        size_t at = (size_t)(ap_packed_at(packed, i)->data - map.ptr);
        b->head_bytes = at < b->head_bytes ? at : b->head_bytes;
    }
    const char *types = memmem(b->bytes.ptr, b->head_bytes, "aperto.tensor.types", 19);
    must(types != NULL);
    b->types_at = (size_t)(types - b->bytes.ptr);
    ap_packed_close(&packed);
    ap_file_unmap(&map);
    close(source);
    close(out);
    return b;
}

/* Half of the changes meet what says how the weights lie there. */
static void change(unsigned char *head, const base *b, const uint8_t *c)
{
    size_t bytes = b->head_bytes;
    static const uint64_t numbers[] = {0, 1, UINT64_MAX, 1ull << 31, 1ull << 32, 16, 17, 255};
    size_t at = (size_t)c[0] | (size_t)c[1] << 8;
    at = (c[2] & 16 ? b->types_at + at % TYPES_BYTES : at) % bytes;
    size_t room = bytes - at;
    switch (c[2] % 4) {
    case 0: head[at] ^= (unsigned char)(1 << c[3] % 8); break;
    case 1: head[at] = c[3]; break;
    case 2: memcpy(head + at, &numbers[c[3] % 8], room < 8 ? room : 8); break;
    default: memcpy(head + at, &numbers[c[3] % 8], room < 4 ? room : 4);
    }
}

static void look(void *context, size_t position, const float *logits, uint32_t count)
{
    uint32_t sum = 0, bits;
    for (uint32_t i = 0; i < count; i++) { /* touched: the sanitizer looks */
        memcpy(&bits, &logits[i], 4);
        sum += bits;
    }
    *(uint32_t *)context += sum;
}

static void ask(const ap_model *model)
{
    static const int32_t ids[] = {5, 1, 66, 2, 9, 3};
    const ap_engine_options options = {.size = sizeof options, .threads = 1, .context_tokens = 32, .kv_bytes = 1 << 20, .step_tokens = 32,
                                       .requests_max = 1, .memory_bytes_max = MEMORY_BYTES_MAX};
    ap_engine *engine;
    ap_error err = {0};
    uint32_t sum = 0;
    if (ap_engine_create(&engine, model, &options, &err) != AP_OK) {
        must(err.message[0] && !strchr(err.message, '\n'));
        return;
    }
    (void)ap_engine_logits(engine, ids, sizeof ids / sizeof ids[0], 4, false, look, &sum, &err);
    ap_engine_destroy(&engine);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const base *b = packed_model(data[0] % MODEL_COUNT);
    int fd = memfd_create("packed", MFD_CLOEXEC);
    must(fd >= 0);
    unsigned char *copy = malloc(b->bytes.len);
    must(copy != NULL);
    memcpy(copy, b->bytes.ptr, b->bytes.len);
    for (size_t i = 0; i < data[1] % (CHANGES_MAX + 1u) && 2 + (i + 1) * CHANGE_BYTES <= size; i++)
        change(copy, b, data + 2 + i * CHANGE_BYTES);
    must(ap_file_write_all(fd, copy, b->bytes.len, NULL) == AP_OK);
    free(copy);
    ap_model *model;
    ap_error err = {0};
    if (ap_model_open(&model, fd, &err) == AP_OK)
        ask(model);
    else
        must(err.message[0] && !strchr(err.message, '\n'));
    ap_model_close(&model);
    close(fd);
    return 0;
}
