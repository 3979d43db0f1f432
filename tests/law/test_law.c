/* test_law.c - whole models under the law of same bits.
 *
 *     test_law DIGESTS [--quick] [--short] [CASE…]     checks every case, or these, against the committed digests
 *     test_law --print [--short]                       prints them (to commit, once per law version)
 *
 * --quick: only the best level, one way.  --short: the first SHORT tokens, for processors that are emulated; such
 * digests are not committed, they come from --print --short on a machine that passes without it.
 *
 * A case is a seeded model of one weight type with some features, and a prompt that crosses two
 * attention segments.  Its digest is BLAKE2b-256 over the bits of all logits of all positions; of an encoder, over the final
 * vectors and scores of three sequences, in one pass, or each in a pass of its own (any --chunk).  It must be the same for every --chunk, number of threads and CPU level, and equal to the committed one, whoever compiled this.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aperto.h"
#include "base/hash.h"
#include "support.h"
#include "tiny_model.h"

enum { PROMPT = 1100, SHORT = 100 };

typedef struct law_case {
    const char *name;
    ap_tiny_model model;
    ap_kv_type kv_type;
    uint32_t adapter_rank; /* 0: no adapter */
} law_case;

#define SMALL .layers = 1, .ffn = 256, .context = 2048
static const law_case cases[] = {
    {"f32", {.seed = 1, .type = 0, SMALL}, AP_KV_F16},
    {"f32-kv32", {.seed = 1, .type = 0, SMALL}, AP_KV_F32},
    {"f32-kv8", {.seed = 1, .type = 0, SMALL}, AP_KV_Q8},
    {"f32-kv8-odd-head", {.seed = 45, .type = 0, .layers = 2, .width = 100, .heads = 2, .kv_heads = 1, .ffn = 100, .context = 2048}, AP_KV_Q8},
    {"f16", {.seed = 2, .type = 1, SMALL}, AP_KV_F16},
    {"bf16", {.seed = 3, .type = 30, SMALL}, AP_KV_F16},
    {"q4_0", {.seed = 4, .type = 2, SMALL}, AP_KV_F16},
    {"q4_1", {.seed = 5, .type = 3, SMALL}, AP_KV_F16},
    {"q5_0", {.seed = 6, .type = 6, SMALL}, AP_KV_F16},
    {"q5_1", {.seed = 7, .type = 7, SMALL}, AP_KV_F16},
    {"q8_0", {.seed = 8, .type = 8, SMALL}, AP_KV_F16},
    {"q4_k", {.seed = 9, .type = 12, SMALL}, AP_KV_F16},
    {"q5_k", {.seed = 10, .type = 13, SMALL}, AP_KV_F16},
    {"q6_k", {.seed = 11, .type = 14, SMALL}, AP_KV_F16},
    {"q2_k", {.seed = 14, .type = 10, SMALL}, AP_KV_F16},
    {"q3_k", {.seed = 15, .type = 11, SMALL}, AP_KV_F16},
    {"q8_k", {.seed = 16, .type = 15, SMALL}, AP_KV_F16},
    {"iq4_nl", {.seed = 17, .type = 20, SMALL}, AP_KV_F16},
    {"iq4_xs", {.seed = 18, .type = 23, SMALL}, AP_KV_F16},
    {"mxfp4", {.seed = 19, .type = 39, SMALL}, AP_KV_F16},
    {"q8_0-untied-bias-ropefreqs-mha", {.seed = 12, .type = 8, .layers = 2, .ffn = 192, .width = 192, .heads = 6, .kv_heads = 6,
      .context = 2048, .has_output = true, .has_bias = true, .has_rope_freqs = true}, AP_KV_F16},
    {"f32-odd-sizes-mqa", {.seed = 13, .type = 0, .layers = 2, .width = 72, .heads = 6, .kv_heads = 1, .ffn = 100, .context = 2048},
     AP_KV_F16},
/* Families: every feature of attention, norms and experts; windows above and below what one work item has. */
#define FAMILY .layers = 4, .width = 64, .heads = 4, .ffn = 96, .context = 2048, .family
    {"mistral", {.seed = 21, .type = 8, .window = 1030, FAMILY = "mistral"}, AP_KV_F16},
    {"mixtral", {.seed = 22, .type = 8, FAMILY = "mixtral"}, AP_KV_F16},
    {"qwen2", {.seed = 23, .type = 8, FAMILY = "qwen2"}, AP_KV_F16},
    {"qwen2-yarn", {.seed = 24, .type = 0, .is_variant = true, FAMILY = "qwen2"}, AP_KV_F16},
    {"qwen3", {.seed = 25, .type = 8, .head_width = 32, FAMILY = "qwen3"}, AP_KV_F16},
    {"qwen3moe", {.seed = 26, .type = 0, FAMILY = "qwen3moe"}, AP_KV_F16},
    {"gemma", {.seed = 27, .type = 8, FAMILY = "gemma"}, AP_KV_F16},
    {"gemma2", {.seed = 28, .type = 8, FAMILY = "gemma2"}, AP_KV_F16},
    {"gemma3", {.seed = 29, .type = 8, .window = 7, FAMILY = "gemma3"}, AP_KV_F16},
    {"phi3", {.seed = 30, .type = 8, FAMILY = "phi3"}, AP_KV_F16},
    {"phi3-longrope", {.seed = 31, .type = 8, .is_variant = true, FAMILY = "phi3"}, AP_KV_F16},
    {"smollm3", {.seed = 32, .type = 8, FAMILY = "smollm3"}, AP_KV_F16},
    {"olmo", {.seed = 33, .type = 8, FAMILY = "olmo"}, AP_KV_F16},
    {"olmo2", {.seed = 34, .type = 8, FAMILY = "olmo2"}, AP_KV_F16},
    {"olmo3", {.seed = 35, .type = 8, .is_variant = true, FAMILY = "olmo2"}, AP_KV_F32},
    {"gpt2", {.seed = 36, .type = 8, FAMILY = "gpt2"}, AP_KV_F16},
    {"gptneox", {.seed = 37, .type = 8, FAMILY = "gptneox"}, AP_KV_F16},
    {"gptneox-serial", {.seed = 38, .type = 0, .is_variant = true, FAMILY = "gptneox"}, AP_KV_F16},
    {"bloom", {.seed = 39, .type = 8, .kv_heads = 4, FAMILY = "bloom"}, AP_KV_F16},
    {"bloom-3-heads", {.seed = 43, .type = 0, .layers = 2, .width = 36, .heads = 3, .kv_heads = 3, .ffn = 50, .context = 2048,
      .family = "bloom"}, AP_KV_F16},
    {"falcon-7b", {.seed = 40, .type = 8, .kv_heads = 1, FAMILY = "falcon"}, AP_KV_F16},
    {"falcon-40b", {.seed = 41, .type = 8, .is_variant = true, FAMILY = "falcon"}, AP_KV_F16},
    {"bert", {.seed = 44, .type = 8, .kv_heads = 4, FAMILY = "bert"}, AP_KV_F16},
    {"modern-bert", {.seed = 45, .type = 8, .kv_heads = 4, .window = 40, FAMILY = "modern-bert"}, AP_KV_F32},
    {"q8_0-adapter", {.seed = 44, .type = 8, .layers = 2, .ffn = 1184, .has_bias = true, .context = 2048}, AP_KV_F16, 20},
    {"gpt-oss", {.seed = 42, .type = 39, .window = 40, FAMILY = "gpt-oss"}, AP_KV_F16},
};

static void hash_row(void *context, size_t position, const float *logits, uint32_t count)
{
    ap_hash_add(context, logits, count * sizeof *logits);
}

static size_t prompt_tokens = PROMPT;

static void hash_encoding(void *context, size_t sequence, const float *values, size_t rows, uint32_t columns)
{
    ap_hash_add(context, values, rows * columns * sizeof *values);
}

/* The prompt, its tail and its second token alone; of the tail half has another type, where there is one. */
static ap_status encode(ap_engine *engine, const ap_model *model, const int32_t *ids, bool is_apart, ap_hash *hash, ap_error *err)
{
    uint8_t types[PROMPT] = {0};
    size_t tail = prompt_tokens / 3;
    for (size_t i = 0; i < tail / 2 && ap_model_info_of(model)->type_count > 1; i++)
        types[i] = 1;
    const ap_sequence sequences[] = {{ids, NULL, prompt_tokens}, {ids + prompt_tokens - tail, types, tail}, {ids + 1, NULL, 1}};
    size_t each = is_apart ? 1 : 3;
    for (int encoding = AP_ENCODE_HIDDEN; encoding <= AP_ENCODE_SCORES; encoding++)
        for (size_t i = 0; i < 3; i += each)
            AP_TRY(ap_engine_encode(engine, sequences + i, each, (ap_encoding)encoding, hash_encoding, hash, err));
    return AP_OK;
}

/* A case, ready to run. */
typedef struct opened {
    ap_model *model;
    ap_adapter *adapter;
} opened;

static void digest_of(const opened *o, ap_kv_type kv_type, const char *isa, unsigned threads, uint32_t chunk, char *hex)
{
    ap_engine_options options = {.size = sizeof options, .isa = isa, .threads = threads, .kv_type = kv_type,
                                 .context_tokens = 2048, .step_tokens = 2048, .adapter = o->adapter};
    ap_engine *engine;
    ap_error err = {0};
    int32_t ids[PROMPT];
    uint64_t random = 99;
    for (int i = 0; i < PROMPT; i++)
        ids[i] = (int32_t)(ap_test_random(&random) % 256);
    ap_hash hash;
    ap_hash_begin(&hash, AP_HASH_BLAKE2B);
    ap_status status = ap_engine_create(&engine, o->model, &options, &err);
    if (status == AP_OK)
        status = ap_model_info_of(o->model)->is_encoder ? encode(engine, o->model, ids, chunk > 0, &hash, &err)
                                                     : ap_engine_logits(engine, ids, prompt_tokens, chunk, false, hash_row, &hash, &err);
    if (status != AP_OK) {
        fprintf(stderr, "test_law: %s\n", err.message);
        exit(1);
    }
    ap_engine_destroy(&engine);
    ap_hash_end(&hash, hex);
}

static opened open_case(const law_case *c)
{
    int source = ap_tiny_model_file(&c->model), packed = ap_test_temporary();
    ap_import_options options = {.size = sizeof options};
    ap_import_report report;
    opened o = {0};
    ap_error err = {0};
    if (ap_model_import(source, packed, &options, &report, &err) != AP_OK || ap_model_open(&o.model, packed, &err) != AP_OK) {
        fprintf(stderr, "test_law: %s: %s\n", c->name, err.message);
        exit(1);
    }
    close(source);
    close(packed);
    if (c->adapter_rank) {
        ap_buf bytes = {0};
        int fd = ap_test_temporary();
        ap_tiny_adapter_write(&c->model, c->adapter_rank, &bytes);
        if (ap_file_write_all(fd, bytes.ptr, bytes.len, &err) != AP_OK || ap_adapter_open(&o.adapter, o.model, -1, fd, &err) != AP_OK) {
            fprintf(stderr, "test_law: %s: %s\n", c->name, err.message);
            exit(1);
        }
        ap_buf_deinit(&bytes);
        close(fd);
    }
    return o;
}

static void close_case(opened *o)
{
    ap_adapter_close(&o->adapter);
    ap_model_close(&o->model);
}

/* The committed digest of a case, or NULL. */
static const char *committed(const char *list, const char *name)
{
    size_t length = strlen(name);
    for (const char *line = list; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL)
        if (strncmp(line, name, length) == 0 && line[length] == ' ')
            return line + length + 1;
    return NULL;
}

static int check(const law_case *c, const opened *o, const char *want, const char *isa, unsigned threads, uint32_t chunk)
{
    char hex[AP_HASH_HEX];
    digest_of(o, c->kv_type, isa, threads, chunk, hex);
    if (want && strncmp(want, hex, 64) == 0)
        return 0;
    printf("FAILED %s: --isa %s --threads %u --chunk %u gives %s, committed is %.64s\n", c->name, isa, threads, chunk, hex,
           want ? want : "none");
    return 1;
}

/* Whether the case is among those named; with no name, all are. */
static bool is_wanted(const law_case *c, char **names, int count)
{
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], c->name) == 0)
            return true;
    return count == 0;
}

int main(int argc, char **argv)
{
    bool is_print = argc >= 2 && strcmp(argv[1], "--print") == 0, is_quick = false;
    if (argc < 2) {
        fprintf(stderr, "usage: test_law DIGESTS [--quick] [--short] [CASE...] | --print [--short]\n");
        return 2;
    }
    int first = 2;
    for (; first < argc && strncmp(argv[first], "--", 2) == 0; first++) {
        if (strcmp(argv[first], "--quick") == 0)
            is_quick = true;
        else if (strcmp(argv[first], "--short") == 0)
            prompt_tokens = SHORT;
        else {
            fprintf(stderr, "test_law: option '%s' is not known\n", argv[first]);
            return 2;
        }
    }
    ap_buf list = {0};
    ap_error err = {0};
    if (!is_print && ap_file_read(argv[1], 1 << 20, &list, &err) != AP_OK) {
        fprintf(stderr, "test_law: %s\n", err.message);
        return 1;
    }
    int passed = 0, failed = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const law_case *c = &cases[i];
        if (!is_wanted(c, argv + first, argc - first))
            continue;
        opened o = open_case(c);
        if (is_print) {
            char hex[AP_HASH_HEX];
            digest_of(&o, c->kv_type, "plain", 1, 0, hex);
            printf("%s %s\n", c->name, hex);
            close_case(&o);
            continue;
        }
        const char *want = committed(list.ptr, c->name), *isa;
        int wrong = 0;
        for (unsigned k = 0; (isa = ap_isa_available(k)); k++)
            if (!is_quick || k == 0)
                wrong += check(c, &o, want, isa, 2, 0);
        /* How the prompt was cut and how many threads ran: on the best level, where it is quick. */
        static const uint32_t chunks[] = {1, 7, 64};
        for (size_t k = 0; k < 3 && !is_quick; k++)
            wrong += check(c, &o, want, ap_isa_available(0), (unsigned)k + 1, chunks[k]);
        close_case(&o);
        printf("%s %s\n", wrong ? "not ok" : "ok", c->name);
        (void)fflush(stdout);
        wrong ? failed++ : passed++;
    }
    ap_buf_deinit(&list);
    if (!is_print)
        printf("%d passed, %d failed\n", passed, failed);
    return failed != 0 || (!is_print && passed == 0);
}
