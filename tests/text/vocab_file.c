/* SPDX-License-Identifier: Apache-2.0 */
#include "vocab_file.h"

#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "format/gguf.h"
#include "text/vocab_read.h"

static ap_status optional(ap_status status) { return status == AP_E_NOTFOUND ? AP_OK : status; }

static ap_status get_id(const ap_gguf *gguf, const char *name, int32_t *out, ap_error *err)
{
    uint32_t id = 0;
    ap_status status = ap_gguf_get_u32(gguf, name, &id, err);
    if (status == AP_OK)
        *out = (int32_t)id;
    return optional(status);
}

static ap_status get_flag(const ap_gguf *gguf, const char *name, int8_t *out, ap_error *err)
{
    bool flag = false;
    ap_status status = ap_gguf_get_bool(gguf, name, &flag, err);
    if (status == AP_OK)
        *out = flag;
    return optional(status);
}

static ap_status create(ap_tokenizer **out, const ap_gguf *gguf, ap_arena *arena, ap_error *err)
{
    ap_vocab_source source = AP_VOCAB_SOURCE_NONE;
    ap_str model;
    uint64_t count = 0;
    AP_TRY(ap_gguf_get_str(gguf, "tokenizer.ggml.model", &model, err));
    if (ap_str_is(model, "llama"))
        source.kind = AP_VOCAB_SPM;
    else if (ap_str_is(model, "bert"))
        source.kind = AP_VOCAB_WORDPIECE;
    else if (!ap_str_is(model, "gpt2"))
        return ap_fail(err, AP_E_UNSUPPORTED, "tokenizer model '%.*s'", (int)model.len, model.ptr);
    AP_TRY(optional(ap_gguf_get_str(gguf, "tokenizer.ggml.pre", &source.pre, err)));
    AP_TRY(ap_gguf_get_strs(gguf, "tokenizer.ggml.tokens", arena, &source.tokens, &count, err));
    source.token_count = (uint32_t)count;
    AP_TRY(ap_gguf_get_f32s(gguf, "tokenizer.ggml.scores", count, arena, &source.scores, err));
    AP_TRY(ap_gguf_get_i32s(gguf, "tokenizer.ggml.token_type", count, arena, &source.types, err));
    count = 0;
    if (source.kind == AP_VOCAB_BPE)
        AP_TRY(ap_gguf_get_strs(gguf, "tokenizer.ggml.merges", arena, &source.merges, &count, err));
    source.merge_count = (uint32_t)count;
    AP_TRY(get_id(gguf, "tokenizer.ggml.bos_token_id", &source.bos, err));
    AP_TRY(get_id(gguf, "tokenizer.ggml.eos_token_id", &source.eos, err));
    AP_TRY(get_id(gguf, "tokenizer.ggml.eot_token_id", &source.eot, err));
    AP_TRY(get_id(gguf, "tokenizer.ggml.eom_token_id", &source.eom, err));
    AP_TRY(get_id(gguf, "tokenizer.ggml.unknown_token_id", &source.unk, err));
    AP_TRY(get_id(gguf, "tokenizer.ggml.padding_token_id", &source.pad, err));
    AP_TRY(get_flag(gguf, "tokenizer.ggml.add_bos_token", &source.add_bos, err));
    AP_TRY(get_flag(gguf, "tokenizer.ggml.add_eos_token", &source.add_eos, err));
    AP_TRY(get_flag(gguf, "tokenizer.ggml.add_space_prefix", &source.add_space_prefix, err));
    return ap_tokenizer_create(out, &source, err);
}

ap_status vocab_file_open(ap_tokenizer **out, const char *path, ap_error *err)
{
    int fd;
    ap_mapping map = {0};
    ap_gguf *gguf = NULL;
    ap_arena arena = {0};
    *out = NULL;
    AP_TRY(ap_file_open(path, &fd, err));
    ap_status status = ap_file_map(fd, &map, err);
    if (status == AP_OK && (map.len < 4 || memcmp(map.ptr, "GGUF", 4) != 0)) {
        ap_vocab_source source;
        status = ap_vocab_file_read(&source, &arena, (ap_str){(const char *)map.ptr, map.len}, err);
        if (status == AP_OK)
            status = ap_tokenizer_create(out, &source, err);
    } else if (status == AP_OK) {
        status = ap_gguf_open(&gguf, map.ptr, map.len, err);
        if (status == AP_OK)
            status = create(out, gguf, &arena, err);
    }
    ap_arena_deinit(&arena);
    ap_gguf_close(&gguf);
    ap_file_unmap(&map);
    (void)close(fd);
    return status;
}
