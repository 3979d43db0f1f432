/* tokenize.c - the way from text to ids.
 *
 * Joined text -> between control tokens -> between user-defined tokens -> words (BPE) -> symbols -> merges -> ids.
 * The rules at seams are in tokenizer.h.
 *
 * Most words of a text occur again, so a call remembers where a word stood in the text and where its ids stand in the
 * output: a hit copies a few numbers and nothing is ever allocated or freed for it.  SentencePiece BPE has no words; its
 * text is cut where no token holds the two characters side by side, since no merge can cross such a place.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "base/alloc.h"
#include "text/vocab.h"

enum {
    SEEN_WORD_BYTES_MAX = 64,
    SEEN_TEXT_BYTES_MIN = 512, /* shorter text does not pay for a table */
    SEEN_SLOTS_MAX = 1 << 16   /* 1.5 MiB */
};

#define REPLACEMENT "\xef\xbf\xbd"
enum { REPLACEMENT_BYTES = 3 };

typedef struct seen_word {
    uint32_t hash;
    uint32_t ids;   /* where in the output of this call */
    const char *at; /* NULL: empty */
    uint16_t bytes;
    uint16_t id_count;
} seen_word;

typedef struct work {
    const ap_tokenizer *t;
    ap_ids *out;
    size_t first; /* the output of this call starts here */
    ap_str text;
    ap_merger merger;
    ap_buf spelled; /* the text or word in characters the vocabulary has */
    ap_buf normal[2]; /* of the normalizer */
    ap_arena kept;    /* normalized text that words seen before point into */
    ap_path_node *nodes;
    size_t node_room;
    ap_regex_run regex;
    bool missed; /* SPM: the character before was unknown */
    seen_word *seen;
    uint32_t seen_mask;
    ap_error *err;
} work;

/* ---- Ids ------------------------------------------------------------------ */

ap_status ap_ids_reserve(ap_ids *ids, size_t more, ap_error *err)
{
    if (more <= ids->room - ids->count)
        return AP_OK;
    size_t need, room;
    if (!ap_add_size(ids->count, more, &need) || need > SIZE_MAX / 2 / sizeof *ids->ids)
        return ap_fail_nomem(err, SIZE_MAX);
    room = ids->room + ids->room / 2;
    room = room < 64 ? 64 : room;
    room = room < need ? need : room;
    int32_t *grown = ap_realloc_array(ids->ids, room, sizeof *grown);
    if (!grown)
        return ap_fail_nomem(err, room * sizeof *grown);
    ids->ids = grown;
    ids->room = room;
    return AP_OK;
}

void ap_ids_deinit(ap_ids *ids)
{
    ap_free(ids->ids);
    *ids = (ap_ids){0};
}

static ap_status add_id(work *w, int32_t id)
{
    AP_TRY(ap_ids_reserve(w->out, 1, w->err));
    w->out->ids[w->out->count++] = id;
    return AP_OK;
}

ap_status ap_tokenize_unknown(const ap_tokenizer *t, ap_str text, ap_ids *out, ap_error *err)
{
    /* Some byte-level vocabularies name a control token here that means something else. */
    bool is_named = t->kind == AP_VOCAB_UNIGRAM || t->kind == AP_VOCAB_WORDPIECE;
    if (t->unk < 0 || (!is_named && t->kinds[t->unk] != AP_TOKEN_UNKNOWN))
        return ap_fail(err, AP_E_ARG, "the vocabulary has no token for byte 0x%02x and none for unknown text",
                       (uint8_t)text.ptr[0]);
    AP_TRY(ap_ids_reserve(out, 1, err));
    out->replaced++;
    out->ids[out->count++] = t->unk;
    return AP_OK;
}

/* ---- Byte-level BPE ------------------------------------------------------- */

static bool has_bytes(const ap_tokenizer *t, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (t->bytes[(uint8_t)p[i]] == AP_SYMBOL_NONE)
            return false;
    return true;
}

/* All bytes of the word have tokens. */
static ap_status merge_word(work *w, ap_str word)
{
    const ap_tokenizer *t = w->t;
    uint32_t id;
    if (t->words.count && ap_map_get(&t->words, word, &id))
        return add_id(w, (int32_t)id);
    size_t bytes;
    uint32_t *symbols = ap_merger_begin(&w->merger, (uint32_t)word.len, &bytes);
    if (!symbols)
        return ap_fail_nomem(w->err, bytes);
    for (size_t i = 0; i < word.len; i++)
        symbols[i] = t->bytes[(uint8_t)word.ptr[i]];
    uint32_t count = ap_merger_run(&w->merger, &t->pairs, (uint32_t)word.len);
    AP_TRY(ap_ids_reserve(w->out, count, w->err));
    for (uint32_t i = 0; i < count; i++)
        w->out->ids[w->out->count++] = (int32_t)symbols[i];
    return AP_OK;
}

static ap_status replace_and_merge(work *w, ap_str word)
{
    ap_buf *s = &w->spelled;
    bool can_replace = has_bytes(w->t, REPLACEMENT, REPLACEMENT_BYTES);
    ap_buf_clear(s);
    for (size_t i = 0, n; i < word.len; i += n) {
        (void)ap_utf8_next(word.ptr + i, word.len - i, &n);
        if (has_bytes(w->t, word.ptr + i, n)) {
            AP_TRY(ap_buf_add(s, word.ptr + i, n, w->err));
        } else if (can_replace) {
            AP_TRY(ap_buf_add(s, REPLACEMENT, REPLACEMENT_BYTES, w->err));
            w->out->replaced++;
        } else {
            if (s->len)
                AP_TRY(merge_word(w, ap_buf_str(s)));
            ap_buf_clear(s);
            AP_TRY(ap_tokenize_unknown(w->t, (ap_str){word.ptr + i, n}, w->out, w->err));
        }
    }
    return s->len ? merge_word(w, ap_buf_str(s)) : AP_OK;
}

static uint32_t hash_word(ap_str word)
{
    uint64_t h = word.len * 0x9e3779b97f4a7c15u, x;
    const char *p = word.ptr;
    size_t n = word.len;
    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&x, p, 8);
        h = (h ^ x) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    x = 0;
    memcpy(&x, p, n);
    h = (h ^ x) * 0xc4ceb9fe1a85ec53u;
    return (uint32_t)(h ^ h >> 32);
}

/* Where a word is remembered; NULL if words of its length are not, or none are. */
static seen_word *place_of(const work *w, ap_str word, uint32_t *hash)
{
    *hash = 0;
    if (!w->seen || word.len > SEEN_WORD_BYTES_MAX)
        return NULL;
    *hash = hash_word(word);
    return &w->seen[*hash & w->seen_mask];
}

/* Whether the word was there before; its ids are then out. */
static ap_status recall(work *w, const seen_word *slot, uint32_t hash, ap_str word, bool *is_known)
{
    *is_known = slot && slot->hash == hash && slot->bytes == word.len && slot->at && memcmp(slot->at, word.ptr, word.len) == 0;
    if (!*is_known)
        return AP_OK;
    AP_TRY(ap_ids_reserve(w->out, slot->id_count, w->err));
    const int32_t *from = w->out->ids + w->first + slot->ids;
    for (unsigned i = 0; i < slot->id_count; i++)
        w->out->ids[w->out->count++] = from[i];
    return AP_OK;
}

/* The ids from `before` on are the word's.  Not remembered if it could not be spelled: that is counted each time. */
static void remember(work *w, seen_word *slot, uint32_t hash, ap_str word, size_t before, size_t replaced_before)
{
    if (slot && w->out->replaced == replaced_before)
        *slot = (seen_word){.hash = hash, .at = word.ptr, .ids = (uint32_t)(before - w->first), .bytes = (uint16_t)word.len,
                            .id_count = (uint16_t)(w->out->count - before)};
}

typedef ap_status word_adder(work *w, ap_str word);

/* The word's text must live as long as the call. */
static ap_status add_word(work *w, ap_str word, word_adder *add)
{
    uint32_t hash;
    bool is_known;
    seen_word *slot = place_of(w, word, &hash);
    AP_TRY(recall(w, slot, hash, word, &is_known));
    if (is_known) {
        w->missed = false; /* a word with an unknown token depends on what is around it, and is not remembered */
        return AP_OK;
    }
    size_t before = w->out->count, replaced = w->out->replaced;
    AP_TRY(add(w, word));
    remember(w, slot, hash, word, before, replaced);
    return AP_OK;
}

static ap_status add_bytes_word(work *w, ap_str word)
{
    return has_bytes(w->t, word.ptr, word.len) ? merge_word(w, word) : replace_and_merge(w, word);
}

/* Keeps text that was made for this call as long as the call. */
static ap_status keep(work *w, ap_str before, ap_str text, ap_str *out)
{
    char *copy = ap_arena_alloc(&w->kept, before.len + text.len + 1);
    if (!copy)
        return ap_fail_nomem(w->err, before.len + text.len);
    memcpy(copy, before.ptr, before.len);
    memcpy(copy + before.len, text.ptr, text.len);
    *out = (ap_str){copy, before.len + text.len};
    return AP_OK;
}

static ap_status add_words(work *w, ap_str text)
{
    ap_splitter splitter;
    ap_str word;
    if (w->t->adds_space && text.ptr[0] != ' ')
        AP_TRY(keep(w, AP_STR(" "), text, &text));
    ap_splitter_begin(&splitter, w->t->classes, w->t->split, text, &w->regex, w->err);
    while (ap_splitter_next(&splitter, &word))
        AP_TRY(add_word(w, word, add_bytes_word));
    return splitter.status;
}

/* ---- SentencePiece -------------------------------------------------------- */

/* Every byte its token, or one unknown token for a run of characters; w->missed says whether the last one was such. */
static ap_status add_bytes(work *w, ap_str character)
{
    for (size_t i = 0; i < character.len; i++)
        if (w->t->bytes[(uint8_t)character.ptr[i]] == AP_SYMBOL_NONE) {
            bool follows = w->missed;
            w->missed = true;
            w->out->replaced += follows;
            return follows ? AP_OK : ap_tokenize_unknown(w->t, character, w->out, w->err);
        }
    w->missed = false;
    for (size_t i = 0; i < character.len; i++)
        AP_TRY(add_id(w, (int32_t)w->t->bytes[(uint8_t)character.ptr[i]]));
    return AP_OK;
}

/* Valid UTF-8 whose characters all occur in tokens, and their symbols.  A symbol that is no token and is still there after
 * merging is one character; its place in the text follows from the lengths of the tokens before. */
static ap_status merge_symbols(work *w, ap_str s, uint32_t *symbols, uint32_t count)
{
    const ap_tokenizer *t = w->t;
    size_t at = 0;
    count = ap_merger_run(&w->merger, &t->pairs, count);
    for (uint32_t k = 0; k < count; k++) {
        size_t length;
        if (symbols[k] < t->count) {
            /* The spelling is longer than the piece by two bytes for each space in it. */
            ap_str piece = t->pieces[symbols[k]];
            length = piece.len;
            for (size_t j = 0; j < piece.len; j++)
                length += piece.ptr[j] == ' ' ? AP_SPM_SPACE_BYTES - 1 : 0;
            AP_TRY(add_id(w, (int32_t)symbols[k]));
            w->missed = false;
        } else {
            (void)ap_utf8_next(s.ptr + at, s.len - at, &length);
            AP_TRY(add_bytes(w, (ap_str){s.ptr + at, length}));
        }
        at += length;
    }
    return AP_OK;
}

/* Valid UTF-8.  A character that occurs in no token ends the run: nothing can merge across it. */
static ap_status merge_segment(work *w, ap_str s)
{
    size_t bytes, n, begin = 0;
    uint32_t count = 0;
    uint32_t *symbols = ap_merger_begin(&w->merger, (uint32_t)s.len, &bytes);
    if (!symbols)
        return ap_fail_nomem(w->err, bytes);
    for (size_t i = 0; i < s.len; i += n) {
        ap_str one = {s.ptr + i, 0};
        (void)ap_utf8_next(s.ptr + i, s.len - i, &n);
        one.len = n;
        if (ap_map_get(&w->t->chars, one, &symbols[count])) {
            count++;
            continue;
        }
        AP_TRY(merge_symbols(w, (ap_str){s.ptr + begin, i - begin}, symbols, count));
        AP_TRY(add_bytes(w, one));
        begin = i + n;
        count = 0;
    }
    return merge_symbols(w, (ap_str){s.ptr + begin, s.len - begin}, symbols, count);
}

/* Cuts where no token holds the two characters side by side: a segment's ids do not depend on what is around it. */
static ap_status merge_spm(work *w, ap_str s)
{
    size_t n;
    w->missed = false;
    for (size_t i = 0; i < s.len;) {
        size_t begin = i;
        int32_t code = ap_utf8_next(s.ptr + i, s.len - i, &n);
        i += n;
        if (code < 0) {
            AP_TRY(add_bytes(w, (ap_str){s.ptr + begin, n}));
            continue;
        }
        for (int32_t next; i < s.len; code = next, i += n) {
            next = ap_utf8_next(s.ptr + i, s.len - i, &n);
            if (next < 0 || !ap_tokenizer_joins(w->t, (uint32_t)code, (uint32_t)next))
                break;
        }
        AP_TRY(add_word(w, (ap_str){s.ptr + begin, i - begin}, merge_segment));
    }
    return AP_OK;
}

/* ---- SPM and Unigram: spaces written as U+2581 ---------------------------- */

static ap_status add_escaped(ap_buf *s, ap_str text, ap_error *err)
{
    for (size_t i = 0; i < text.len;) {
        const char *space = memchr(text.ptr + i, ' ', text.len - i);
        size_t n = space ? (size_t)(space - text.ptr) - i : text.len - i;
        AP_TRY(ap_buf_add(s, text.ptr + i, n, err));
        if (space)
            AP_TRY(ap_buf_add(s, AP_SPM_SPACE, AP_SPM_SPACE_BYTES, err));
        i += n + (space != NULL);
    }
    return AP_OK;
}

/* Words with one space between; `unless`: none before a word that has one. */
static ap_status add_escaped_words(ap_buf *s, ap_str text, bool adds_space, bool unless, ap_error *err)
{
    bool is_first = true;
    for (size_t i = 0; i < text.len;) {
        while (i < text.len && text.ptr[i] == ' ')
            i++;
        size_t begin = i;
        while (i < text.len && text.ptr[i] != ' ')
            i++;
        if (i == begin)
            break;
        bool has_space = unless && ap_str_starts((ap_str){text.ptr + begin, i - begin}, AP_STR(AP_SPM_SPACE));
        if ((adds_space || !is_first) && !has_space)
            AP_TRY(ap_buf_add(s, AP_SPM_SPACE, AP_SPM_SPACE_BYTES, err));
        AP_TRY(ap_buf_add(s, text.ptr + begin, i - begin, err));
        is_first = false;
    }
    return AP_OK;
}

static ap_status add_unigram_word(work *w, ap_str word)
{
    return ap_unigram_word(w->t, word, &w->nodes, &w->node_room, w->out, w->err);
}

static ap_status add_spaced(work *w, ap_str text, bool is_start)
{
    const ap_tokenizer *t = w->t;
    ap_buf *s = &w->spelled;
    bool adds_space = t->adds_space && (t->space_prefix != AP_SPACE_FIRST || is_start);
    ap_buf_clear(s);
    if (t->removes_extra_spaces) {
        AP_TRY(add_escaped_words(s, text, adds_space, t->space_prefix != AP_SPACE_EACH, w->err));
    } else {
        bool has_space = text.ptr[0] == ' ' || ap_str_starts(text, AP_STR(AP_SPM_SPACE));
        if (adds_space && !(has_space && t->space_prefix != AP_SPACE_EACH))
            AP_TRY(ap_buf_add(s, AP_SPM_SPACE, AP_SPM_SPACE_BYTES, w->err));
        AP_TRY(add_escaped(s, text, w->err));
    }
    static const ap_split whole = {0};
    ap_splitter splitter;
    ap_str word, spelled = ap_buf_str(s);
    if (w->seen) /* words that are remembered point into it */
        AP_TRY(keep(w, (ap_str){"", 0}, spelled, &spelled));
    ap_splitter_begin(&splitter, t->classes, t->split ? t->split : &whole, spelled, &w->regex, w->err);
    while (ap_splitter_next(&splitter, &word))
        AP_TRY(t->kind == AP_VOCAB_SPM ? merge_spm(w, word) : add_word(w, word, add_unigram_word));
    return splitter.status;
}

/* ---- WordPiece ------------------------------------------------------------ */

static ap_status add_wordpiece_word(work *w, ap_str word) { return ap_wordpiece_word(w->t, word, w->out, w->err); }

/* Words end at whitespace, which goes, and punctuation is a word of its own, if the vocabulary does not say otherwise. */
static ap_status add_bert(work *w, ap_str text)
{
    size_t n, begin = 0;
    if (w->t->split) {
        ap_splitter splitter;
        ap_str word;
        ap_splitter_begin(&splitter, w->t->classes, w->t->split, text, &w->regex, w->err);
        while (ap_splitter_next(&splitter, &word))
            AP_TRY(add_word(w, word, add_wordpiece_word));
        return splitter.status;
    }
    for (size_t i = 0; i < text.len; i += n) {
        int32_t code = ap_utf8_next(text.ptr + i, text.len - i, &n);
        unsigned class = code < 0 ? 0 : ap_class_compute((uint32_t)code);
        bool is_punct = code >= 0 && ap_class_is_cut_punct(class, (uint32_t)code);
        if (!is_punct && !(class & AP_CLASS_SPACE))
            continue;
        if (i > begin)
            AP_TRY(add_word(w, (ap_str){text.ptr + begin, i - begin}, add_wordpiece_word));
        if (is_punct)
            AP_TRY(add_word(w, (ap_str){text.ptr + i, n}, add_wordpiece_word));
        begin = i + n;
    }
    return text.len > begin ? add_word(w, (ap_str){text.ptr + begin, text.len - begin}, add_wordpiece_word) : AP_OK;
}

/* ---- Special tokens ------------------------------------------------------- */

/* Text without special tokens; is_start: it begins where the whole text does. */
static ap_status add_plain(work *w, ap_str text, bool is_start)
{
    if (text.len == 0)
        return AP_OK;
    switch (w->t->kind) {
    case AP_VOCAB_BPE:
        return add_words(w, text);
    case AP_VOCAB_WORDPIECE:
        return add_bert(w, text);
    default:
        return add_spaced(w, text, is_start);
    }
}

static bool is_word_char(int32_t code) { return code >= 0 && ap_class_is_word((uint32_t)code); }

/* The character that ends at `end`, and how long it is. */
static int32_t char_before(const char *begin, const char *end, size_t *length)
{
    const char *p = end;
    do
        p--;
    while (p > begin && end - p < 4 && ((uint8_t)*p & 0xc0) == 0x80);
    int32_t code = ap_utf8_next(p, (size_t)(end - p), length);
    return *length == (size_t)(end - p) ? code : AP_UTF8_BAD;
}

static bool is_white(int32_t code) { return code >= 0 && (ap_class_compute((uint32_t)code) & AP_CLASS_SPACE); }

/* A special token found in begin..end, with what its flags make of the text around it. */
typedef struct found {
    int32_t id;             /* -1: none is left */
    const char *from, *to;  /* with the whitespace it takes along */
} found;

/* The next token of a set at or after p that ends by `end`; text before `begin` is another
 * token's. */
static found find_special(const ap_tokenizer *t, const ap_special *set, const char *begin, const char *p, const char *end)
{
    for (size_t n; set->count && p < end; p++) {
        int32_t id = ap_special_match(set, p, end, &n);
        if (id < 0)
            continue;
        found f = {id, p, p + n};
        unsigned flags = t->flags ? t->flags[id] : 0;
        size_t m;
        if (flags & AP_TOKEN_SINGLE_WORD) {
            bool joins = (p > begin && is_word_char(char_before(begin, p, &m))) ||
                         (f.to < end && is_word_char(ap_utf8_next(f.to, (size_t)(end - f.to), &m)));
            if (joins)
                continue;
        }
        while ((flags & AP_TOKEN_LSTRIP) && f.from > begin && is_white(char_before(begin, f.from, &m)))
            f.from -= m;
        while ((flags & AP_TOKEN_RSTRIP) && f.to < end && is_white(ap_utf8_next(f.to, (size_t)(end - f.to), &m)))
            f.to += m;
        return f;
    }
    return (found){.id = -1};
}

/* Text without tokens that are looked for as it stands. */
static ap_status add_normalized(work *w, ap_str text, bool is_start)
{
    const ap_tokenizer *t = w->t;
    if (t->normalizer && text.len) {
        AP_TRY(ap_normalize(t->normalizer, text, w->normal, &text, w->err));
        AP_TRY(keep(w, (ap_str){"", 0}, text, &text));
    }
    const char *p = text.ptr, *end = p + text.len;
    for (found f; (f = find_special(t, &t->normalized, p, p, end)).id >= 0; p = f.to) {
        AP_TRY(add_plain(w, (ap_str){p, (size_t)(f.from - p)}, is_start && p == text.ptr));
        AP_TRY(add_id(w, f.id));
    }
    return add_plain(w, (ap_str){p, (size_t)(end - p)}, is_start && p == text.ptr);
}

/* Text between control tokens. */
static ap_status add_defined(work *w, const char *p, const char *end)
{
    for (found f; (f = find_special(w->t, &w->t->defined, p, p, end)).id >= 0; p = f.to) {
        AP_TRY(add_normalized(w, (ap_str){p, (size_t)(f.from - p)}, p == w->text.ptr));
        AP_TRY(add_id(w, f.id));
    }
    return add_normalized(w, (ap_str){p, (size_t)(end - p)}, p == w->text.ptr);
}

static ap_status add_parts(work *w, const ap_text_part *parts, size_t part_count)
{
    const char *start = w->text.ptr, *p = start; /* everything before `start` is out */
    for (size_t i = 0; i < part_count;) {
        bool allow = parts[i].allow_special;
        const char *run_end = p;
        for (; i < part_count && parts[i].allow_special == allow; i++)
            run_end += parts[i].text.len;
        /* What a token takes along stays within text of ours as well. */
        for (found f; allow && (f = find_special(w->t, &w->t->control, start > p ? start : p, p, run_end)).id >= 0;) {
            AP_TRY(add_defined(w, start, f.from));
            AP_TRY(add_id(w, f.id));
            start = p = f.to;
        }
        p = run_end;
    }
    return add_defined(w, start, p);
}

/* ---- The call ------------------------------------------------------------- */

static ap_status prepare(work *w, size_t length)
{
    if (length < SEEN_TEXT_BYTES_MIN)
        return AP_OK;
    uint32_t slots = 64;
    while (slots < SEEN_SLOTS_MAX && slots < length / 8)
        slots *= 2;
    w->seen = ap_alloc_zero(slots, sizeof *w->seen);
    if (!w->seen)
        return ap_fail_nomem(w->err, slots * sizeof *w->seen);
    w->seen_mask = slots - 1;
    return AP_OK;
}

ap_status ap_tokenize(const ap_tokenizer *tokenizer, const ap_text_part *parts, size_t part_count, unsigned flags,
                      ap_ids *out, ap_error *err)
{
    work w = {.t = tokenizer, .out = out, .first = out->count, .err = err};
    size_t total = 0, replaced_before = out->replaced;
    for (size_t i = 0; i < part_count; i++)
        if (!ap_add_size(total, parts[i].text.len, &total) || total > AP_TOKENIZE_BYTES_MAX)
            return ap_fail(err, AP_E_LIMIT, "text of more than %d bytes cannot be tokenised", AP_TOKENIZE_BYTES_MAX);
    ap_buf joined = {0};
    ap_status status = AP_OK;
    if (part_count == 1) {
        w.text = parts[0].text;
    } else {
        status = ap_buf_reserve(&joined, total, err);
        for (size_t i = 0; i < part_count && status == AP_OK; i++)
            status = ap_buf_add_str(&joined, parts[i].text, err);
        w.text = ap_buf_str(&joined);
    }
    if (status == AP_OK)
        status = prepare(&w, total);
    if (status == AP_OK && (flags & AP_TOKENIZE_BOS) && ap_tokenizer_adds_bos(tokenizer))
        status = add_id(&w, tokenizer->bos);
    if (status == AP_OK && total)
        status = add_parts(&w, parts, part_count);
    if (status == AP_OK && (flags & AP_TOKENIZE_EOS) && ap_tokenizer_adds_eos(tokenizer))
        status = add_id(&w, tokenizer->eos);
    if (status != AP_OK) {
        out->count = w.first;
        out->replaced = replaced_before;
    }
    ap_free(w.seen);
    ap_merger_deinit(&w.merger);
    ap_buf_deinit(&w.spelled);
    ap_buf_deinit(&w.normal[0]);
    ap_buf_deinit(&w.normal[1]);
    ap_arena_deinit(&w.kept);
    ap_free(w.nodes);
    ap_regex_run_deinit(&w.regex);
    ap_buf_deinit(&joined);
    return status;
}

/* What a tidied text has no space before. */
static bool is_tidied(ap_str word)
{
    static const char *const heads[] = {".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re"};
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        if (ap_str_starts(word, ap_str_from(heads[i])))
            return true;
    return false;
}

static ap_status add_piece(const ap_tokenizer *t, int32_t id, bool is_start, ap_buf *out, ap_error *err)
{
    ap_str piece = t->pieces[id];
    bool is_special = t->kinds[id] == AP_TOKEN_USER_DEFINED || ap_tokenizer_is_control(t, id);
    if (t->kind == AP_VOCAB_WORDPIECE) {
        bool has_space = piece.len && piece.ptr[0] == ' ';
        ap_str word = {piece.ptr + has_space, piece.len - has_space};
        bool wants_space = !is_start && (has_space || is_special) && !((t->decode & AP_DECODE_TIDY) && is_tidied(word));
        if (wants_space)
            AP_TRY(ap_buf_add_char(out, ' ', err));
        return ap_buf_add_str(out, word, err);
    }
    if (!is_start || !t->drops_space || ap_tokenizer_is_control(t, id))
        return ap_buf_add_str(out, piece, err);
    char room[AP_TOKEN_BYTES_MAX];
    return ap_buf_add_str(out, ap_tokenizer_first_piece(t, piece, room), err);
}

ap_status ap_detokenize(const ap_tokenizer *tokenizer, const int32_t *ids, size_t count, unsigned flags, ap_buf *out,
                        ap_error *err)
{
    size_t before = out->len;
    bool is_start = true;
    ap_status status = AP_OK;
    for (size_t i = 0; i < count && status == AP_OK; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= tokenizer->count) {
            status = ap_fail(err, AP_E_ARG, "token id %d is not in the vocabulary of %u tokens", ids[i], tokenizer->count);
        } else if ((flags & AP_DETOKENIZE_SPECIAL) || !ap_tokenizer_is_control(tokenizer, ids[i])) {
            status = add_piece(tokenizer, ids[i], is_start, out, err);
            is_start = is_start && tokenizer->pieces[ids[i]].len == 0;
        }
    }
    if (status != AP_OK) {
        if (out->ptr)
            out->ptr[before] = 0;
        out->len = before;
    }
    return status;
}
