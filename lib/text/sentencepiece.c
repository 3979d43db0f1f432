/* SPDX-License-Identifier: Apache-2.0 */
#include "text/sentencepiece.h"

#include "text/split.h"

enum { VARINT, FIXED64, BYTES, FIXED32 = 5 };
enum { VARINT_BYTES_MAX = 10 };
enum { PIECES = 1, TRAINER = 2, NORMALIZER = 3 };
enum { UNIGRAM = 1, BPE = 2 };

/* One field of a message. */
typedef struct field {
    uint64_t number, value; /* the value of a varint or a fixed number */
    unsigned kind;
    ap_str bytes;
} field;

typedef struct walker {
    const char *file; /* for offsets in messages */
    const char *p, *end;
    ap_error *err;
} walker;

static ap_status broken(const walker *w, const char *what)
{
    return ap_fail(w->err, AP_E_FORMAT, "the SentencePiece model is broken at byte %zu: %s", (size_t)(w->p - w->file), what);
}

static ap_status read_varint(walker *w, uint64_t *out)
{
    *out = 0;
    for (unsigned i = 0; i < VARINT_BYTES_MAX; i++) {
        if (w->p == w->end)
            return broken(w, "it ends within a number");
        uint8_t byte = (uint8_t)*w->p++;
        *out |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (!(byte & 0x80))
            return AP_OK;
    }
    return broken(w, "a number has more than 10 bytes");
}

static ap_status read_fixed(walker *w, unsigned bytes, uint64_t *out)
{
    if ((size_t)(w->end - w->p) < bytes)
        return broken(w, "it ends within a number");
    *out = 0;
    memcpy(out, w->p, bytes);
    w->p += bytes;
    return AP_OK;
}

/* The next field; w->p < w->end. */
static ap_status next_field(walker *w, field *f)
{
    uint64_t tag, length;
    *f = (field){0};
    AP_TRY(read_varint(w, &tag));
    f->number = tag >> 3;
    f->kind = (unsigned)tag & 7;
    switch (f->kind) {
    case VARINT:
        return read_varint(w, &f->value);
    case FIXED64:
        return read_fixed(w, 8, &f->value);
    case FIXED32:
        return read_fixed(w, 4, &f->value);
    case BYTES:
        AP_TRY(read_varint(w, &length));
        if (length > (size_t)(w->end - w->p))
            return broken(w, "a field is longer than what is left");
        f->bytes = (ap_str){w->p, length};
        w->p += length;
        return AP_OK;
    default:
        return broken(w, "a field of an unknown kind");
    }
}

static walker into(const walker *w, ap_str message)
{
    return (walker){w->file, message.ptr, message.ptr + message.len, w->err};
}

typedef struct reader {
    ap_vocab_source *out;
    ap_arena *arena;
    ap_str *tokens;
    float *scores;
    int32_t *types;
    uint32_t count;
    int64_t kind, unk, bos, eos, pad;
    bool escapes;
} reader;

static ap_status read_piece(reader *r, walker w)
{
    uint32_t id = r->count++;
    field f;
    r->types[id] = AP_TOKEN_NORMAL;
    while (w.p < w.end) {
        AP_TRY(next_field(&w, &f));
        if (f.number == 1 && f.kind == BYTES) {
            char *copy = ap_arena_copy(r->arena, f.bytes.ptr, f.bytes.len);
            if (!copy)
                return ap_fail_nomem(w.err, f.bytes.len);
            r->tokens[id] = (ap_str){copy, f.bytes.len};
        } else if (f.number == 2 && f.kind == FIXED32) {
            uint32_t bits = (uint32_t)f.value;
            memcpy(&r->scores[id], &bits, sizeof bits);
        } else if (f.number == 3 && f.kind == VARINT) {
            if (f.value < AP_TOKEN_NORMAL || f.value > AP_TOKEN_BYTE)
                return broken(&w, "a piece has an unknown type");
            r->types[id] = (int32_t)f.value;
        }
    }
    return AP_OK;
}

/* User-defined pieces are looked for in text whose spaces are still spaces. */
static void unescape(reader *r, uint32_t id)
{
    char *text = (char *)r->tokens[id].ptr, *to = text;
    for (size_t i = 0; i < r->tokens[id].len;) {
        bool is_space = ap_str_starts((ap_str){text + i, r->tokens[id].len - i}, AP_STR(AP_METASPACE));
        *to++ = is_space ? ' ' : text[i];
        i += is_space ? sizeof AP_METASPACE - 1 : 1;
    }
    r->tokens[id].len = (size_t)(to - text);
}

static ap_status read_trainer(reader *r, walker w)
{
    field f;
    while (w.p < w.end) {
        AP_TRY(next_field(&w, &f));
        int64_t value = (int64_t)f.value;
        if (f.kind != VARINT)
            continue;
        switch (f.number) {
        case 3: r->kind = value; break;
        case 40: r->unk = value; break;
        case 41: r->bos = value; break;
        case 42: r->eos = value; break;
        case 43: r->pad = value; break;
        case 24: /* the space behind words instead of before */
            if (value)
                return ap_fail(w.err, AP_E_UNSUPPORTED, "the SentencePiece model treats whitespace as a suffix, which is not supported");
            break;
        default: break;
        }
    }
    return AP_OK;
}

static ap_status read_normalizer(reader *r, walker w)
{
    field f;
    while (w.p < w.end) {
        AP_TRY(next_field(&w, &f));
        if (f.number == 2 && f.kind == BYTES) {
            char *copy = ap_arena_copy(r->arena, f.bytes.ptr, f.bytes.len);
            if (!copy)
                return ap_fail_nomem(w.err, f.bytes.len);
            r->out->charsmap = (ap_str){copy, f.bytes.len};
        } else if (f.kind == VARINT && f.number == 3) {
            r->out->add_space_prefix = f.value != 0;
        } else if (f.kind == VARINT && f.number == 4) {
            r->out->remove_extra_spaces = f.value != 0;
        } else if (f.kind == VARINT && f.number == 5) {
            r->escapes = f.value != 0;
        }
    }
    return AP_OK;
}

static ap_status check_id(const reader *r, const char *name, int64_t id, int32_t *out, ap_error *err)
{
    if (id >= (int64_t)r->count || id < INT32_MIN)
        return ap_fail(err, AP_E_FORMAT, "the %s token of the SentencePiece model is %lld, it has %u pieces", name, (long long)id,
                       r->count);
    *out = id < 0 ? -1 : (int32_t)id;
    return AP_OK;
}

static ap_status count_pieces(walker w, uint32_t *count)
{
    field f;
    uint64_t pieces = 0;
    while (w.p < w.end) {
        AP_TRY(next_field(&w, &f));
        pieces += f.number == PIECES && f.kind == BYTES;
    }
    if (pieces == 0)
        return ap_fail(w.err, AP_E_FORMAT, "the SentencePiece model has no pieces");
    if (pieces > AP_VOCAB_TOKENS_MAX)
        return ap_fail(w.err, AP_E_LIMIT, "the SentencePiece model has %" PRIu64 " pieces; the limit is %d", pieces, AP_VOCAB_TOKENS_MAX);
    *count = (uint32_t)pieces;
    return AP_OK;
}

static ap_status read_fields(reader *r, walker w)
{
    field f;
    while (w.p < w.end) {
        AP_TRY(next_field(&w, &f));
        if (f.kind != BYTES)
            continue;
        if (f.number == PIECES)
            AP_TRY(read_piece(r, into(&w, f.bytes)));
        else if (f.number == TRAINER)
            AP_TRY(read_trainer(r, into(&w, f.bytes)));
        else if (f.number == NORMALIZER)
            AP_TRY(read_normalizer(r, into(&w, f.bytes)));
    }
    return AP_OK;
}

ap_status ap_sentencepiece_read(ap_vocab_source *out, ap_arena *arena, ap_str file, ap_error *err)
{
    *out = (ap_vocab_source)AP_VOCAB_SOURCE_NONE;
    if (file.len > AP_SENTENCEPIECE_BYTES_MAX)
        return ap_fail(err, AP_E_LIMIT, "the SentencePiece model has %zu bytes; the limit is %d", file.len, AP_SENTENCEPIECE_BYTES_MAX);
    walker w = {file.ptr, file.ptr, file.ptr + file.len, err};
    uint32_t count;
    AP_TRY(count_pieces(w, &count));
    /* What a message does not say has the value its definition gives. */
    reader r = {.out = out, .arena = arena, .kind = UNIGRAM, .unk = 0, .bos = 1, .eos = 2, .pad = -1, .escapes = true};
    out->add_space_prefix = 1;
    out->remove_extra_spaces = 1;
    r.tokens = ap_arena_zero(arena, count, sizeof *r.tokens);
    r.scores = ap_arena_zero(arena, count, sizeof *r.scores);
    r.types = ap_arena_zero(arena, count, sizeof *r.types);
    if (!r.tokens || !r.scores || !r.types)
        return ap_fail_nomem(err, count * sizeof *r.tokens);
    AP_TRY(read_fields(&r, w));
    for (uint32_t id = 0; id < count; id++)
        if (r.types[id] == AP_TOKEN_USER_DEFINED && r.tokens[id].len)
            unescape(&r, id);
    out->token_count = count;
    out->tokens = r.tokens;
    out->scores = r.scores;
    out->types = r.types;
    if (!r.escapes)
        return ap_fail(err, AP_E_UNSUPPORTED, "the SentencePiece model does not escape spaces, which is not supported");
    AP_TRY(check_id(&r, "unknown", r.unk, &out->unk, err));
    AP_TRY(check_id(&r, "begin", r.bos, &out->bos, err));
    AP_TRY(check_id(&r, "end", r.eos, &out->eos, err));
    AP_TRY(check_id(&r, "padding", r.pad, &out->pad, err));
    if (r.kind != UNIGRAM && r.kind != BPE)
        return ap_fail(err, AP_E_UNSUPPORTED, "the SentencePiece model is of kind %lld; this release has 1 (Unigram) and 2 (BPE)",
                       (long long)r.kind);
    out->kind = r.kind == BPE ? AP_VOCAB_SPM : AP_VOCAB_UNIGRAM;
    return AP_OK;
}
