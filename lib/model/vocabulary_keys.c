/* vocabulary_keys.c - a vocabulary as GGUF keys, and back.
 *
 * The keys are GGUF's own as far as they go; what they cannot say stands under tokenizer.aperto:
 *
 *     merges         strings   SPM: pairs by rank; the scores are then for other readers
 *     split          strings   expressions of the pre-tokenizer's stages
 *     normalizer     strings   steps (text/normalize.h)
 *     flags          u8        per token: how it lies in text (text/tokenizer.h)
 *     ignore_merges  bool      a word that is a token is that token
 *     decode         u32       how ids become text (text/tokenizer.h)
 *     equal_ranks    bool      merges in a row that make the same token have one rank
 *     space_prefix   u32       where a space goes before text
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "model/vocabulary.h"

#include <stdio.h>

#include "model/model.h"

/* ---- Reading ---- */

static ap_status read_id(const ap_gguf *gguf, const char *key, uint32_t count, int32_t *out, ap_error *err)
{
    *out = -1;
    if (!ap_gguf_find(gguf, ap_str_from(key)))
        return AP_OK;
    uint32_t id;
    AP_TRY(ap_gguf_get_u32(gguf, key, &id, err));
    if (id == UINT32_MAX)
        return AP_OK; /* how some writers say "none" */
    if (id >= count)
        return ap_fail(err, AP_E_FORMAT, "key '%s' names token %u; the vocabulary has %u", key, id, count);
    *out = (int32_t)id;
    return AP_OK;
}

static ap_status read_flag(const ap_gguf *gguf, const char *key, int8_t *out, ap_error *err)
{
    *out = -1;
    if (!ap_gguf_find(gguf, ap_str_from(key)))
        return AP_OK;
    bool flag;
    AP_TRY(ap_gguf_get_bool(gguf, key, &flag, err));
    *out = flag;
    return AP_OK;
}

static const char *const kinds[] = {
    [AP_VOCAB_BPE] = "gpt2", [AP_VOCAB_SPM] = "llama", [AP_VOCAB_UNIGRAM] = "t5", [AP_VOCAB_WORDPIECE] = "bert"};

static ap_status read_kind(const ap_gguf *gguf, ap_vocab_kind *kind, ap_error *err)
{
    ap_str model;
    AP_TRY(ap_gguf_get_str(gguf, "tokenizer.ggml.model", &model, err));
    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (ap_str_is(model, kinds[i])) {
            *kind = (ap_vocab_kind)i;
            return AP_OK;
        }
    if (ap_str_is(model, AP_VOCAB_MODEL_NONE)) {
        *kind = AP_VOCAB_BPE; /* of which every token is unused */
        return AP_OK;
    }
    return ap_fail(err, AP_E_UNSUPPORTED,
                   "key 'tokenizer.ggml.model' is '%.*s'; this release has gpt2 (byte-level BPE), llama (SentencePiece BPE), "
                   "t5 (Unigram) and bert (WordPiece)",
                   (int)(model.len < 40 ? model.len : 40), model.ptr);
}

bool ap_vocab_has_ids_only(const ap_gguf *gguf)
{
    ap_str model = {0};
    return ap_gguf_get_str(gguf, "tokenizer.ggml.model", &model, NULL) == AP_OK && ap_str_is(model, AP_VOCAB_MODEL_NONE);
}

/* The bytes of an array of bytes; absent: empty. */
static ap_status read_bytes(const ap_gguf *gguf, const char *name, ap_str *out, ap_error *err)
{
    const ap_gguf_key *key = ap_gguf_find(gguf, ap_str_from(name));
    *out = (ap_str){0};
    if (!key)
        return AP_OK;
    if (key->kind != AP_GGUF_ARRAY || (key->item_kind != AP_GGUF_U8 && key->item_kind != AP_GGUF_I8))
        return ap_fail(err, AP_E_FORMAT, "key '%s' is no array of bytes", name);
    *out = (ap_str){(const char *)key->bytes, key->count};
    return AP_OK;
}

static ap_status read_list(const ap_gguf *gguf, const char *name, ap_arena *arena, uint64_t most, const ap_str **out,
                           uint32_t *out_count, ap_error *err)
{
    uint64_t count;
    if (!ap_gguf_find(gguf, ap_str_from(name)))
        return AP_OK;
    AP_TRY(ap_gguf_get_strs(gguf, name, arena, out, &count, err));
    if (count > most)
        return ap_fail(err, AP_E_LIMIT, "key '%s' has %" PRIu64 " entries; at most %" PRIu64 " are allowed", name, count, most);
    static const ap_str none = {0};
    if (!*out)
        *out = &none; /* an empty list is there all the same */
    *out_count = (uint32_t)count;
    return AP_OK;
}

static ap_status read_own(ap_vocab_source *source, ap_arena *arena, const ap_gguf *gguf, ap_error *err)
{
    ap_str flags;
    AP_TRY(read_list(gguf, "tokenizer.aperto.split", arena, AP_VOCAB_TOKENS_MAX, &source->split, &source->split_count, err));
    AP_TRY(read_list(gguf, "tokenizer.aperto.normalizer", arena, AP_NORMALIZER_STEPS_MAX, &source->normalizer,
                     &source->normalizer_count, err));
    AP_TRY(read_flag(gguf, "tokenizer.aperto.ignore_merges", &source->ignore_merges, err));
    uint32_t decode = 0;
    if (ap_gguf_find(gguf, AP_STR("tokenizer.aperto.decode")))
        AP_TRY(ap_gguf_get_u32(gguf, "tokenizer.aperto.decode", &decode, err));
    if (decode >= 2 * AP_DECODE_TIDY)
        return ap_fail(err, AP_E_FORMAT, "key 'tokenizer.aperto.decode' is %u; bits up to %d are known", decode, AP_DECODE_TIDY);
    source->decode = (uint8_t)decode;
    int8_t equal_ranks;
    AP_TRY(read_flag(gguf, "tokenizer.aperto.equal_ranks", &equal_ranks, err));
    source->equal_ranks = equal_ranks > 0;
    AP_TRY(read_bytes(gguf, "tokenizer.aperto.flags", &flags, err));
    if (flags.len && flags.len != source->token_count)
        return ap_fail(err, AP_E_FORMAT, "key 'tokenizer.aperto.flags' has %zu entries; the vocabulary has %u", flags.len,
                       source->token_count);
    source->flags = flags.len ? (const uint8_t *)flags.ptr : NULL;
    uint32_t prefix = AP_SPACE_EACH;
    if (ap_gguf_find(gguf, AP_STR("tokenizer.aperto.space_prefix")))
        AP_TRY(ap_gguf_get_u32(gguf, "tokenizer.aperto.space_prefix", &prefix, err));
    if (prefix > AP_SPACE_FIRST)
        return ap_fail(err, AP_E_FORMAT, "key 'tokenizer.aperto.space_prefix' is %u; 0 to %d are known", prefix, AP_SPACE_FIRST);
    source->space_prefix = (ap_space_prefix)prefix;
    return AP_OK;
}

ap_status ap_vocab_source_read(ap_vocab_source *source, ap_arena *arena, const ap_gguf *gguf, ap_error *err)
{
    *source = (ap_vocab_source)AP_VOCAB_SOURCE_NONE;
    AP_TRY(read_kind(gguf, &source->kind, err));
    if (ap_gguf_find(gguf, AP_STR("tokenizer.ggml.pre")))
        AP_TRY(ap_gguf_get_str(gguf, "tokenizer.ggml.pre", &source->pre, err));
    uint64_t count;
    AP_TRY(ap_gguf_get_strs(gguf, "tokenizer.ggml.tokens", arena, &source->tokens, &count, err));
    if (count == 0 || count > AP_VOCAB_TOKENS_MAX)
        return ap_fail(err, AP_E_LIMIT, "key 'tokenizer.ggml.tokens' has %" PRIu64 " tokens; allowed are 1 to %d", count,
                       AP_VOCAB_TOKENS_MAX);
    source->token_count = (uint32_t)count;
    AP_TRY(ap_gguf_get_f32s(gguf, "tokenizer.ggml.scores", count, arena, &source->scores, err));
    AP_TRY(ap_gguf_get_i32s(gguf, "tokenizer.ggml.token_type", count, arena, &source->types, err));
    const char *merges = source->kind == AP_VOCAB_BPE ? "tokenizer.ggml.merges" : "tokenizer.aperto.merges";
    if (source->kind == AP_VOCAB_BPE && !ap_gguf_find(gguf, ap_str_from(merges)))
        AP_TRY(ap_gguf_get_strs(gguf, merges, arena, &source->merges, &count, err));
    AP_TRY(read_list(gguf, merges, arena, AP_VOCAB_MERGES_MAX, &source->merges, &source->merge_count, err));
    uint32_t n = source->token_count;
    bool is_bert = source->kind == AP_VOCAB_WORDPIECE;
    AP_TRY(read_id(gguf, "tokenizer.ggml.bos_token_id", n, &source->bos, err));
    AP_TRY(read_id(gguf, "tokenizer.ggml.eos_token_id", n, &source->eos, err));
    AP_TRY(read_id(gguf, "tokenizer.ggml.eot_token_id", n, &source->eot, err));
    AP_TRY(read_id(gguf, "tokenizer.ggml.eom_token_id", n, &source->eom, err));
    AP_TRY(read_id(gguf, "tokenizer.ggml.unknown_token_id", n, &source->unk, err));
    AP_TRY(read_id(gguf, "tokenizer.ggml.padding_token_id", n, &source->pad, err));
    if (is_bert && source->bos < 0)
        AP_TRY(read_id(gguf, "tokenizer.ggml.cls_token_id", n, &source->bos, err));
    if (is_bert && source->eos < 0)
        AP_TRY(read_id(gguf, "tokenizer.ggml.seperator_token_id", n, &source->eos, err));
    AP_TRY(read_flag(gguf, "tokenizer.ggml.add_bos_token", &source->add_bos, err));
    AP_TRY(read_flag(gguf, "tokenizer.ggml.add_eos_token", &source->add_eos, err));
    AP_TRY(read_flag(gguf, "tokenizer.ggml.add_space_prefix", &source->add_space_prefix, err));
    AP_TRY(read_flag(gguf, "tokenizer.ggml.remove_extra_whitespaces", &source->remove_extra_spaces, err));
    AP_TRY(read_bytes(gguf, "tokenizer.ggml.precompiled_charsmap", &source->charsmap, err));
    return read_own(source, arena, gguf, err);
}

/* ---- Writing ---- */

static ap_status write_id(ap_gguf_writer *keys, const char *name, int32_t id, ap_error *err)
{
    return id < 0 ? AP_OK : ap_gguf_writer_u32(keys, name, (uint32_t)id, err);
}

static ap_status write_flag(ap_gguf_writer *keys, const char *name, int8_t flag, ap_error *err)
{
    return flag < 0 ? AP_OK : ap_gguf_writer_bool(keys, name, flag > 0, err);
}

/* A row of the embedding without a token has a name to be shown by. */
static ap_status write_tokens(const ap_vocab_source *source, uint32_t rows, ap_arena *arena, ap_gguf_writer *keys, ap_error *err)
{
    ap_str *tokens = ap_arena_zero(arena, rows, sizeof *tokens);
    int32_t *types = ap_arena_zero(arena, rows, sizeof *types);
    float *scores = ap_arena_zero(arena, rows, sizeof *scores);
    char *flags = ap_arena_zero(arena, rows, 1);
    if (!tokens || !types || !scores || !flags)
        return ap_fail_nomem(err, rows * sizeof *tokens);
    for (uint32_t id = 0; id < rows; id++) {
        if (id < source->token_count) {
            tokens[id] = source->tokens[id];
            types[id] = source->types ? source->types[id] : AP_TOKEN_NORMAL;
            flags[id] = source->flags ? (char)source->flags[id] : 0;
            scores[id] = source->scores ? source->scores[id] : types[id] == AP_TOKEN_NORMAL ? -(float)id : 0;
            continue;
        }
        char name[24];
        int length = snprintf(name, sizeof name, "[PAD%u]", id);
        tokens[id] = (ap_str){ap_arena_copy(arena, name, (size_t)length), (size_t)length};
        types[id] = AP_TOKEN_UNUSED;
        if (!tokens[id].ptr)
            return ap_fail_nomem(err, (size_t)length);
    }
    AP_TRY(ap_gguf_writer_strs(keys, "tokenizer.ggml.tokens", rows, tokens, err));
    if (source->scores || source->kind == AP_VOCAB_SPM)
        AP_TRY(ap_gguf_writer_numbers(keys, "tokenizer.ggml.scores", AP_GGUF_F32, rows, scores, err));
    AP_TRY(ap_gguf_writer_numbers(keys, "tokenizer.ggml.token_type", AP_GGUF_I32, rows, types, err));
    return source->flags ? ap_gguf_writer_numbers(keys, "tokenizer.aperto.flags", AP_GGUF_U8, rows, flags, err) : AP_OK;
}

ap_status ap_vocab_source_write(const ap_vocab_source *source, uint32_t rows, ap_gguf_writer *keys, ap_error *err)
{
    if (rows < source->token_count)
        return ap_fail(err, AP_E_FORMAT, "the vocabulary has %u tokens, the embedding only %u rows", source->token_count, rows);
    ap_arena arena = {0};
    AP_TRY(ap_gguf_writer_str(keys, "tokenizer.ggml.model", ap_str_from(kinds[source->kind]), err));
    if (source->pre.len)
        AP_TRY(ap_gguf_writer_str(keys, "tokenizer.ggml.pre", source->pre, err));
    ap_status status = write_tokens(source, rows, &arena, keys, err);
    ap_arena_deinit(&arena);
    AP_TRY(status);
    if (source->merges)
        AP_TRY(ap_gguf_writer_strs(keys, source->kind == AP_VOCAB_BPE ? "tokenizer.ggml.merges" : "tokenizer.aperto.merges",
                                   source->merge_count, source->merges, err));
    AP_TRY(write_id(keys, "tokenizer.ggml.bos_token_id", source->bos, err));
    AP_TRY(write_id(keys, "tokenizer.ggml.eos_token_id", source->eos, err));
    if (source->kind == AP_VOCAB_WORDPIECE) { /* under the names that other readers look for, the second as they misspell it */
        AP_TRY(write_id(keys, "tokenizer.ggml.cls_token_id", source->bos, err));
        AP_TRY(write_id(keys, "tokenizer.ggml.seperator_token_id", source->eos, err));
    }
    AP_TRY(write_id(keys, "tokenizer.ggml.eot_token_id", source->eot, err));
    AP_TRY(write_id(keys, "tokenizer.ggml.eom_token_id", source->eom, err));
    AP_TRY(write_id(keys, "tokenizer.ggml.unknown_token_id", source->unk, err));
    AP_TRY(write_id(keys, "tokenizer.ggml.padding_token_id", source->pad, err));
    AP_TRY(write_flag(keys, "tokenizer.ggml.add_bos_token", source->add_bos, err));
    AP_TRY(write_flag(keys, "tokenizer.ggml.add_eos_token", source->add_eos, err));
    AP_TRY(write_flag(keys, "tokenizer.ggml.add_space_prefix", source->add_space_prefix, err));
    AP_TRY(write_flag(keys, "tokenizer.ggml.remove_extra_whitespaces", source->remove_extra_spaces, err));
    if (source->charsmap.len)
        AP_TRY(ap_gguf_writer_numbers(keys, "tokenizer.ggml.precompiled_charsmap", AP_GGUF_U8, source->charsmap.len,
                                      source->charsmap.ptr, err));
    if (source->split)
        AP_TRY(ap_gguf_writer_strs(keys, "tokenizer.aperto.split", source->split_count, source->split, err));
    if (source->normalizer)
        AP_TRY(ap_gguf_writer_strs(keys, "tokenizer.aperto.normalizer", source->normalizer_count, source->normalizer, err));
    AP_TRY(write_flag(keys, "tokenizer.aperto.ignore_merges", source->ignore_merges, err));
    if (source->decode)
        AP_TRY(ap_gguf_writer_u32(keys, "tokenizer.aperto.decode", source->decode, err));
    if (source->equal_ranks)
        AP_TRY(ap_gguf_writer_bool(keys, "tokenizer.aperto.equal_ranks", true, err));
    return source->space_prefix != AP_SPACE_EACH
               ? ap_gguf_writer_u32(keys, "tokenizer.aperto.space_prefix", source->space_prefix, err)
               : AP_OK;
}
