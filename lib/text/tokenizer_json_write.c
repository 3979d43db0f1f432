/* tokenizer_json_write.c - a vocabulary's description as a tokenizer.json.
 *
 * Scores of SentencePiece BPE become merges: each way to put a token together from two others, by the rank of the whole, is
 * what SentencePiece does one pair at a time.  The map of characters of a Unigram vocabulary becomes the component
 * Precompiled, as its publishers write it (which looks characters up by graphemes).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/map.h"
#include "base/utf8.h"
#include "text/split.h"
#include "text/tokenizer_json.h"

typedef struct writer {
    const ap_vocab_source *source;
    const ap_tokenizer *tokenizer; /* knows the kind's defaults */
    ap_buf *out;
    ap_error *err;
} writer;

static int32_t type_of(const ap_vocab_source *s, uint32_t id) { return s->types && s->types[id] ? s->types[id] : AP_TOKEN_NORMAL; }

/* ---- Text ---- */

static ap_status put(writer *w, const char *text) { return ap_buf_add_str(w->out, ap_str_from(text), w->err); }

static ap_status put_string(writer *w, ap_str text)
{
    if (!ap_utf8_valid(text))
        return ap_fail(w->err, AP_E_UNSUPPORTED, "a text of the vocabulary is no valid UTF-8, which tokenizer.json cannot hold");
    AP_TRY(ap_buf_add_char(w->out, '"', w->err));
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c < 0x20)
            AP_TRY(ap_buf_printf(w->out, w->err, "\\u%04x", c));
        else {
            if (c == '"' || c == '\\')
                AP_TRY(ap_buf_add_char(w->out, '\\', w->err));
            AP_TRY(ap_buf_add_char(w->out, (char)c, w->err));
        }
    }
    return ap_buf_add_char(w->out, '"', w->err);
}

static ap_status refuse(writer *w, const char *what, ap_str which)
{
    return ap_fail(w->err, AP_E_UNSUPPORTED, "%s '%.*s' is not written to a tokenizer.json in this release", what,
                   (int)(which.len < 60 ? which.len : 60), which.ptr);
}

/* ---- Normalizers ---- */

static ap_status put_replace(writer *w, ap_str from, ap_str to)
{
    AP_TRY(put(w, "{\"type\":\"Replace\",\"pattern\":{\"String\":"));
    AP_TRY(put_string(w, from));
    AP_TRY(put(w, "},\"content\":"));
    AP_TRY(put_string(w, to));
    return put(w, "}");
}

static ap_status put_step(writer *w, ap_str step)
{
    static const struct {
        const char *step, *json;
    } simple[] = {{"nfc", "{\"type\":\"NFC\"}"}, {"nfd", "{\"type\":\"NFD\"}"}, {"nfkc", "{\"type\":\"NFKC\"}"}, {"nfkd", "{\"type\":\"NFKD\"}"},
                  {"lowercase", "{\"type\":\"Lowercase\"}"}, {"strip_marks", "{\"type\":\"StripAccents\"}"}, {"nmt", "{\"type\":\"Nmt\"}"},
                  {"strip_left", "{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":false}"},
                  {"strip_right", "{\"type\":\"Strip\",\"strip_left\":false,\"strip_right\":true}"}};
    const ap_str prepend = AP_STR("prepend:"), replace = AP_STR("replace:"), squeeze = AP_STR("squeeze:");
    for (size_t i = 0; i < sizeof simple / sizeof simple[0]; i++)
        if (ap_str_is(step, simple[i].step))
            return put(w, simple[i].json);
    if (ap_str_starts(step, prepend)) {
        AP_TRY(put(w, "{\"type\":\"Prepend\",\"prepend\":"));
        AP_TRY(put_string(w, (ap_str){step.ptr + prepend.len, step.len - prepend.len}));
        return put(w, "}");
    }
    if (ap_str_starts(step, squeeze)) {
        AP_TRY(put(w, "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":"));
        AP_TRY(put_string(w, (ap_str){step.ptr + squeeze.len, step.len - squeeze.len}));
        return put(w, "}");
    }
    if (ap_str_starts(step, replace)) {
        size_t at = replace.len, length = 0;
        while (at < step.len && step.ptr[at] >= '0' && step.ptr[at] <= '9' && length < 4096)
            length = length * 10 + (size_t)(step.ptr[at++] - '0');
        at++;
        if (at + length <= step.len)
            return put_replace(w, (ap_str){step.ptr + at, length}, (ap_str){step.ptr + at + length, step.len - at - length});
    }
    return refuse(w, "the normalizer's step", step);
}

/* The steps of BERT that stand at the front of `steps`, in their order, as one component; how many there are in *taken. */
static ap_status put_bert_steps(writer *w, const ap_str *steps, uint32_t count, uint32_t *taken)
{
    uint32_t i = 0;
    bool clean = i < count && ap_str_is(steps[i], "clean");
    i += clean;
    bool chinese = i < count && ap_str_is(steps[i], "chinese");
    i += chinese;
    bool accents = i + 1 < count && ap_str_is(steps[i], "nfd") && ap_str_is(steps[i + 1], "drop_nonspacing");
    i += accents ? 2 : 0;
    *taken = 0;
    if (i == 0)
        return AP_OK;
    bool lowercase = i < count && ap_str_is(steps[i], "lowercase");
    *taken = i + lowercase;
    return ap_buf_printf(w->out, w->err, "{\"type\":\"BertNormalizer\",\"clean_text\":%s,\"handle_chinese_chars\":%s,\"strip_accents\":%s,\"lowercase\":%s}",
                         clean ? "true" : "false", chinese ? "true" : "false", accents ? "true" : "false", lowercase ? "true" : "false");
}

static ap_status put_charsmap(writer *w)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    ap_str map = w->source->charsmap;
    AP_TRY(put(w, "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\""));
    for (size_t i = 0; i < map.len; i += 3) {
        size_t count = map.len - i < 3 ? map.len - i : 3;
        uint32_t bits = 0;
        for (size_t k = 0; k < 3; k++)
            bits = bits << 8 | (k < count ? (unsigned char)map.ptr[i + k] : 0);
        char four[4] = {digits[bits >> 18], digits[bits >> 12 & 63], count > 1 ? digits[bits >> 6 & 63] : '=', count > 2 ? digits[bits & 63] : '='};
        AP_TRY(ap_buf_add(w->out, four, 4, w->err));
    }
    return put(w, "\"}");
}

static bool is_spaced(const writer *w) { return w->source->kind == AP_VOCAB_SPM || w->source->kind == AP_VOCAB_UNIGRAM; }

/* Runs of spaces become one and none is left at the ends: words, each with one space before it. */
static bool has_words_only(const writer *w)
{
    const ap_vocab_source *s = w->source;
    return s->remove_extra_spaces < 0 ? s->kind == AP_VOCAB_UNIGRAM : s->remove_extra_spaces > 0;
}

static bool is_metaspace(const writer *w)
{
    return is_spaced(w) && ap_tokenizer_adds_space(w->tokenizer) && (w->source->space_prefix != AP_SPACE_EACH || has_words_only(w));
}

/* Words are cut apart before they are looked up, so no token may reach from one into the next. */
static ap_status check_words(writer *w)
{
    const ap_vocab_source *s = w->source;
    bool cuts = s->split_count == 1 && ap_split_scanner(s->split[0]) == AP_SCAN_METASPACE;
    if (s->kind == AP_VOCAB_WORDPIECE || s->kind == AP_VOCAB_BPE || !has_words_only(w))
        return AP_OK;
    if (!ap_tokenizer_adds_space(w->tokenizer) || s->space_prefix == AP_SPACE_FIRST || (s->split_count && !cuts))
        return refuse(w, "the removal of", AP_STR("extra spaces"));
    for (uint32_t id = 0; id < s->token_count && !cuts; id++) {
        bool is_spelled = type_of(s, id) == AP_TOKEN_NORMAL || type_of(s, id) == AP_TOKEN_USER_DEFINED;
        if (is_spelled && s->tokens[id].len > 3 && memmem(s->tokens[id].ptr + 3, s->tokens[id].len - 3, AP_METASPACE, 3))
            return refuse(w, "a token of several words,", s->tokens[id]);
    }
    return AP_OK;
}

static ap_status put_steps(writer *w, const ap_str *steps, uint32_t count)
{
    uint32_t taken;
    for (uint32_t i = 0; i < count; i += taken) {
        bool is_map = ap_str_is(steps[i], "charsmap") || ap_str_is(steps[i], "charsmap_graphemes");
        AP_TRY(put(w, i ? "," : ""));
        AP_TRY(put_bert_steps(w, steps + i, count - i, &taken));
        if (taken == 0)
            AP_TRY(is_map ? put_charsmap(w) : put_step(w, steps[i]));
        taken += taken == 0;
    }
    return AP_OK;
}

static ap_status put_normalizer(writer *w)
{
    static const ap_str bert[] = {{"clean", 5}, {"chinese", 7}, {"nfd", 3}, {"drop_nonspacing", 15}, {"lowercase", 9}}, mapped[] = {{"charsmap", 8}};
    const ap_vocab_source *s = w->source;
    const ap_str *steps = s->normalizer;
    uint32_t count = s->normalizer_count;
    bool has_spaces = is_spaced(w) && !is_metaspace(w);
    AP_TRY(check_words(w));
    if (!steps && s->kind == AP_VOCAB_WORDPIECE) { /* what a description leaves out */
        steps = bert;
        count = sizeof bert / sizeof bert[0];
    } else if (!steps && s->charsmap.len) {
        steps = mapped;
        count = 1;
    }
    if (count && is_metaspace(w) && has_words_only(w) && ap_str_is(steps[count - 1], "spaces"))
        count--; /* the cut into words takes every kind of space away */
    if (count == 0 && !has_spaces)
        return put(w, "null");
    AP_TRY(put(w, "{\"type\":\"Sequence\",\"normalizers\":["));
    AP_TRY(put_steps(w, steps, count));
    if (has_spaces) {
        AP_TRY(put(w, count ? "," : ""));
        if (ap_tokenizer_adds_space(w->tokenizer))
            AP_TRY(put(w, "{\"type\":\"Prepend\",\"prepend\":\"" AP_METASPACE "\"},"));
        AP_TRY(put_replace(w, AP_STR(" "), AP_STR(AP_METASPACE)));
    }
    return put(w, "]}");
}

/* ---- Pre-tokenizers ---- */

static ap_status put_stage(writer *w, ap_str expression)
{
    static const char *const behaviors[] = {
        [AP_SPLIT_BOTH] = "\"Isolated\"",
        [AP_SPLIT_DROP_MATCHES] = "\"Removed\"",
        [AP_SPLIT_DROP_GAPS] = "\"Removed\"",
        [AP_SPLIT_GLUE_BEFORE] = "\"MergedWithPrevious\"",
        [AP_SPLIT_GLUE_AFTER] = "\"MergedWithNext\"",
        [AP_SPLIT_JOIN] = "\"Contiguous\""};
    ap_split_mode mode = ap_split_take_mode(&expression);
    unsigned scanner = ap_split_scanner(expression);
    /* Under these names the package means other characters than under the expressions. */
    if (scanner == AP_SCAN_SPACE && mode == AP_SPLIT_DROP_MATCHES)
        return put(w, "{\"type\":\"WhitespaceSplit\"}");
    if (scanner == AP_SCAN_WORDS && mode == AP_SPLIT_DROP_GAPS)
        return put(w, "{\"type\":\"Whitespace\"}");
    if (scanner == AP_SCAN_BYTE_DIGITS)
        return refuse(w, "the stage behind bytes", expression);
    if (scanner == AP_SCAN_PUNCT || scanner == AP_SCAN_PUNCT_RUN) {
        AP_TRY(put(w, "{\"type\":\"Punctuation\",\"behavior\":"));
        AP_TRY(put(w, behaviors[scanner == AP_SCAN_PUNCT_RUN ? AP_SPLIT_JOIN : mode]));
        return put(w, "}");
    }
    AP_TRY(put(w, "{\"type\":\"Split\",\"pattern\":{\"Regex\":"));
    AP_TRY(put_string(w, expression));
    AP_TRY(put(w, "},\"behavior\":"));
    AP_TRY(put(w, behaviors[mode]));
    AP_TRY(put(w, mode == AP_SPLIT_DROP_GAPS ? ",\"invert\":true" : ",\"invert\":false"));
    return put(w, "}");
}

static ap_status put_stages(writer *w, uint32_t *count)
{
    const ap_vocab_source *s = w->source;
    *count = s->split_count;
    for (uint32_t i = 0; i < s->split_count; i++) {
        AP_TRY(put(w, i ? "," : ""));
        AP_TRY(put_stage(w, s->split[i]));
    }
    if (s->split || s->kind != AP_VOCAB_BPE)
        return AP_OK;
    const ap_split *known = ap_split_find(s->pre.len ? s->pre : AP_STR("default"));
    for (uint32_t i = 0; known && known->stages[i]; i++) {
        AP_TRY(put(w, i ? "," : ""));
        AP_TRY(put_stage(w, ap_str_from(ap_split_expression(known->stages[i]))));
        ++*count;
    }
    return AP_OK;
}

static ap_status put_pre_tokenizer(writer *w)
{
    const ap_vocab_source *s = w->source;
    uint32_t count;
    if (s->kind == AP_VOCAB_BPE && s->add_space_prefix > 0) { /* the space goes before the first word, so bytes come first */
        bool is_plain = s->split_count == 0 && s->split;
        bool is_gpt2 = s->split_count == 1 ? ap_split_scanner(s->split[0]) == AP_SCAN_GPT2
                                           : !s->split && ap_split_find(s->pre) == ap_split_find(AP_STR("gpt-2"));
        if (!is_plain && !is_gpt2)
            return refuse(w, "a pre-tokenizer of several stages that", AP_STR("puts a space before text"));
        return put(w, is_gpt2 ? "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true}"
                              : "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":false}");
    }
    if (is_metaspace(w)) {
        bool has_words = has_words_only(w), splits = has_words || (s->split_count == 1 && ap_split_scanner(s->split[0]) == AP_SCAN_METASPACE);
        if (s->split_count && !splits)
            return refuse(w, "the pre-tokenizer's stage", s->split[0]);
        AP_TRY(put(w, has_words ? "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"}," : ""));
        AP_TRY(ap_buf_printf(w->out, w->err, "{\"type\":\"Metaspace\",\"replacement\":\"" AP_METASPACE "\",\"prepend_scheme\":\"%s\",\"split\":%s}",
                             s->space_prefix == AP_SPACE_FIRST ? "first" : "always", splits ? "true" : "false"));
        return put(w, has_words ? "]}" : "");
    }
    if (s->kind == AP_VOCAB_WORDPIECE && s->split_count == 0)
        return put(w, "{\"type\":\"BertPreTokenizer\"}");
    if (s->split_count == 0 && s->kind != AP_VOCAB_BPE)
        return put(w, "null");
    AP_TRY(put(w, "{\"type\":\"Sequence\",\"pretokenizers\":["));
    AP_TRY(put_stages(w, &count));
    if (s->kind == AP_VOCAB_BPE) {
        AP_TRY(put(w, count ? "," : ""));
        AP_TRY(put(w, "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false}"));
    }
    return put(w, "]}");
}

/* ---- Post-processor, decoder ---- */

static ap_status put_special(writer *w, int32_t id, unsigned type)
{
    AP_TRY(put(w, "{\"SpecialToken\":{\"id\":"));
    AP_TRY(put_string(w, w->source->tokens[id]));
    return ap_buf_printf(w->out, w->err, ",\"type_id\":%u}}", type);
}

static ap_status put_special_entry(writer *w, int32_t id)
{
    AP_TRY(put_string(w, w->source->tokens[id]));
    AP_TRY(put(w, ":{\"id\":"));
    AP_TRY(put_string(w, w->source->tokens[id]));
    AP_TRY(ap_buf_printf(w->out, w->err, ",\"ids\":[%d],\"tokens\":[", id));
    AP_TRY(put_string(w, w->source->tokens[id]));
    return put(w, "]}");
}

/* A text and what stands around it; id below 0: nothing. */
static ap_status put_sequence(writer *w, int32_t before, char name, unsigned type, int32_t behind, unsigned behind_type)
{
    if (before >= 0) {
        AP_TRY(put_special(w, before, 0));
        AP_TRY(put(w, ","));
    }
    AP_TRY(ap_buf_printf(w->out, w->err, "{\"Sequence\":{\"id\":\"%c\",\"type_id\":%u}}", name, type));
    if (behind < 0)
        return AP_OK;
    AP_TRY(put(w, ","));
    return put_special(w, behind, behind_type);
}

/* Of two texts no description speaks, so it is as the families do: BERT (whose begin is [CLS]) ends both and gives the second
 * another type; RoBERTa begins the second with an end; others treat each like a text alone. */
static ap_status put_pair_template(writer *w, int32_t bos, int32_t eos)
{
    bool is_bert = bos >= 0 && eos >= 0 && ap_str_is(w->source->tokens[bos], "[CLS]");
    bool is_roberta = bos >= 0 && eos >= 0 && !is_bert;
    AP_TRY(put_sequence(w, bos, 'A', 0, eos, 0));
    AP_TRY(put(w, ","));
    return put_sequence(w, is_bert ? -1 : is_roberta ? eos : bos, 'B', !is_roberta, eos, is_bert);
}

static ap_status put_post_processor(writer *w)
{
    int32_t bos = ap_tokenizer_adds_bos(w->tokenizer) ? w->source->bos : -1, eos = ap_tokenizer_adds_eos(w->tokenizer) ? w->source->eos : -1;
    if (bos < 0 && eos < 0)
        return put(w, w->source->kind == AP_VOCAB_BPE ? "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":false,\"use_regex\":true}"
                                                      : "null");
    AP_TRY(put(w, "{\"type\":\"TemplateProcessing\",\"single\":["));
    AP_TRY(put_sequence(w, bos, 'A', 0, eos, 0));
    AP_TRY(put(w, "],\"pair\":["));
    AP_TRY(put_pair_template(w, bos, eos));
    AP_TRY(put(w, "],\"special_tokens\":{"));
    if (bos >= 0)
        AP_TRY(put_special_entry(w, bos));
    if (eos >= 0 && eos != bos) {
        AP_TRY(put(w, bos >= 0 ? "," : ""));
        AP_TRY(put_special_entry(w, eos));
    }
    return put(w, "}}");
}

static ap_status put_decoder(writer *w)
{
    if (w->source->kind == AP_VOCAB_BPE)
        return put(w, "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true}");
    if (w->source->kind == AP_VOCAB_WORDPIECE)
        return ap_buf_printf(w->out, w->err, "{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":%s}",
                             w->source->decode & AP_DECODE_TIDY ? "true" : "false");
    AP_TRY(put(w, "{\"type\":\"Sequence\",\"decoders\":["));
    if (w->source->decode & AP_DECODE_DROP_FIRST_SPACES)
        return put(w, "{\"type\":\"ByteFallback\"},{\"type\":\"Metaspace\",\"replacement\":\"" AP_METASPACE
                      "\",\"prepend_scheme\":\"always\",\"split\":true}]}");
    AP_TRY(put_replace(w, AP_STR(AP_METASPACE), AP_STR(" ")));
    AP_TRY(put(w, ",{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}"));
    if (ap_tokenizer_drops_space(w->tokenizer))
        AP_TRY(put(w, ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}"));
    return put(w, "]}");
}

/* ---- Tokens ---- */

static ap_status put_added(writer *w)
{
    const ap_vocab_source *s = w->source;
    bool is_first = true;
    for (uint32_t id = 0; id < s->token_count; id++) {
        int32_t type = type_of(s, id);
        unsigned flags = s->flags ? s->flags[id] : 0;
        if (type != AP_TOKEN_CONTROL && type != AP_TOKEN_UNKNOWN && type != AP_TOKEN_USER_DEFINED)
            continue;
        AP_TRY(ap_buf_printf(w->out, w->err, "%s\n{\"id\":%u,\"content\":", is_first ? "" : ",", id));
        AP_TRY(put_string(w, s->tokens[id]));
        AP_TRY(ap_buf_printf(w->out, w->err, ",\"single_word\":%s,\"lstrip\":%s,\"rstrip\":%s,\"normalized\":%s,\"special\":%s}",
                             flags & AP_TOKEN_SINGLE_WORD ? "true" : "false", flags & AP_TOKEN_LSTRIP ? "true" : "false",
                             flags & AP_TOKEN_RSTRIP ? "true" : "false", flags & AP_TOKEN_NORMALIZED ? "true" : "false",
                             type == AP_TOKEN_USER_DEFINED ? "false" : "true"));
        is_first = false;
    }
    return AP_OK;
}

/* Rows of the embedding behind the last token have no entry. */
static uint32_t spelled_count(const ap_vocab_source *s)
{
    uint32_t count = s->token_count;
    while (count && type_of(s, count - 1) == AP_TOKEN_UNUSED)
        count--;
    return count;
}

/* Of WordPiece: a description marks what begins a word, such a file what continues one.  (Special tokens, and what other
 * writers take for one by its brackets, have no mark in either.) */
static ap_status spell(const ap_vocab_source *s, uint32_t id, ap_buf *out, ap_error *err)
{
    ap_str text = s->tokens[id];
    bool is_special = text.len > 1 && text.ptr[0] == '[' && text.ptr[text.len - 1] == ']';
    ap_buf_clear(out);
    if (s->kind == AP_VOCAB_WORDPIECE && type_of(s, id) == AP_TOKEN_NORMAL && !is_special) {
        if (ap_str_starts(text, AP_STR(AP_METASPACE)))
            text = (ap_str){text.ptr + 3, text.len - 3};
        else
            AP_TRY(ap_buf_add_str(out, AP_STR("##"), err));
    }
    return ap_buf_add_str(out, text, err);
}

/* A Unigram vocabulary is a list without holes: a row without a token gets a text that is in no text, for it has a space. */
static ap_status put_scored(writer *w, uint32_t id, float least)
{
    bool is_hole = type_of(w->source, id) == AP_TOKEN_UNUSED;
    AP_TRY(put(w, id ? ",\n[" : "\n["));
    if (is_hole)
        AP_TRY(ap_buf_printf(w->out, w->err, "\"[PAD %u]\"", id));
    else
        AP_TRY(put_string(w, w->source->tokens[id]));
    return ap_buf_printf(w->out, w->err, ",%.9g]", (double)(is_hole ? least : w->source->scores[id]));
}

static ap_status put_vocab(writer *w)
{
    const ap_vocab_source *s = w->source;
    ap_buf text = {0};
    ap_status status = AP_OK;
    float least = 0;
    for (uint32_t id = 0; s->kind == AP_VOCAB_UNIGRAM && id < s->token_count; id++)
        least = s->scores[id] < least && type_of(s, id) == AP_TOKEN_NORMAL ? s->scores[id] : least;
    for (uint32_t id = 0; id < spelled_count(s) && status == AP_OK; id++) {
        if (s->kind == AP_VOCAB_UNIGRAM) {
            status = put_scored(w, id, least);
            continue;
        }
        status = put(w, id ? ",\n" : "\n");
        if (status == AP_OK)
            status = spell(s, id, &text, w->err);
        if (status == AP_OK && text.len && memchr(text.ptr, 0, text.len))
            status = ap_fail(w->err, AP_E_UNSUPPORTED, "token %u has a NUL byte, which no reader takes in a name of tokenizer.json", id);
        if (status == AP_OK)
            status = put_string(w, ap_buf_str(&text));
        if (status == AP_OK)
            status = ap_buf_printf(w->out, w->err, ":%u", id);
    }
    ap_buf_deinit(&text);
    return status;
}

/* ---- Merges ---- */

typedef struct merge {
    float score;
    uint32_t whole, left, right;
} merge;

static int by_rank(const void *a, const void *b)
{
    const merge *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    if (x->whole != y->whole)
        return x->whole < y->whole ? -1 : 1;
    if (x->left != y->left)
        return x->left < y->left ? -1 : 1;
    return x->right < y->right ? -1 : x->right > y->right;
}

static ap_status put_pair(writer *w, bool is_first, ap_str left, ap_str right)
{
    AP_TRY(put(w, is_first ? "\n[" : ",\n["));
    AP_TRY(put_string(w, left));
    AP_TRY(put(w, ","));
    AP_TRY(put_string(w, right));
    return put(w, "]");
}

static ap_status add_merges(const ap_vocab_source *s, const ap_map *ids, uint32_t whole, merge **list, size_t *count, size_t *room, ap_error *err)
{
    ap_str text = s->tokens[whole];
    for (size_t i = 1; i < text.len; i++) {
        merge m = {.score = s->scores[whole], .whole = whole};
        if (((unsigned char)text.ptr[i] & 0xc0) == 0x80 || !ap_map_get(ids, (ap_str){text.ptr, i}, &m.left) ||
            !ap_map_get(ids, (ap_str){text.ptr + i, text.len - i}, &m.right))
            continue;
        if (*count == AP_VOCAB_MERGES_MAX)
            return ap_fail(err, AP_E_LIMIT, "the vocabulary has more than %d merges", AP_VOCAB_MERGES_MAX);
        if (*count == *room) {
            *room = *room ? 2 * *room : 65536;
            merge *grown = ap_realloc_array(*list, *room, sizeof *grown);
            if (!grown)
                return ap_fail_nomem(err, *room * sizeof *grown);
            *list = grown;
        }
        (*list)[(*count)++] = m;
    }
    return AP_OK;
}

static ap_status put_scored_merges(writer *w)
{
    const ap_vocab_source *s = w->source;
    ap_map ids = {0};
    merge *list = NULL;
    size_t count = 0, room = 0;
    ap_status status = s->scores ? ap_map_reserve(&ids, s->token_count, w->err) : ap_fail(w->err, AP_E_FORMAT, "the vocabulary has no scores");
    for (uint32_t id = 0; id < s->token_count && status == AP_OK; id++)
        if (type_of(s, id) == AP_TOKEN_NORMAL || type_of(s, id) == AP_TOKEN_USER_DEFINED)
            status = ap_map_set(&ids, s->tokens[id], id, w->err);
    for (uint32_t id = 0; id < s->token_count && status == AP_OK; id++)
        if (type_of(s, id) == AP_TOKEN_NORMAL || type_of(s, id) == AP_TOKEN_USER_DEFINED)
            status = isfinite(s->scores[id]) ? add_merges(s, &ids, id, &list, &count, &room, w->err)
                                             : ap_fail(w->err, AP_E_FORMAT, "the score of token %u is not a finite number", id);
    if (status == AP_OK)
        qsort(list, count, sizeof *list, by_rank);
    for (size_t i = 0; i < count && status == AP_OK; i++)
        status = put_pair(w, i == 0, s->tokens[list[i].left], s->tokens[list[i].right]);
    ap_map_deinit(&ids);
    ap_free(list);
    return status;
}

static ap_status put_merges(writer *w)
{
    const ap_vocab_source *s = w->source;
    if (!s->merges && s->kind == AP_VOCAB_SPM)
        return put_scored_merges(w);
    for (uint32_t i = 0; i < s->merge_count; i++) {
        ap_str text = s->merges[i];
        const char *space = text.len > 1 ? memchr(text.ptr + 1, ' ', text.len - 1) : NULL;
        if (!space)
            return ap_fail(w->err, AP_E_FORMAT, "merge %u is no pair", i);
        AP_TRY(put_pair(w, i == 0, (ap_str){text.ptr, (size_t)(space - text.ptr)}, (ap_str){space + 1, (size_t)(text.ptr + text.len - space - 1)}));
    }
    return AP_OK;
}

/* ---- All of it ---- */

static bool ignores_merges(const writer *w)
{
    const ap_vocab_source *s = w->source;
    const ap_split *known = s->split ? NULL : ap_split_find(s->pre.len ? s->pre : AP_STR("default"));
    return s->ignore_merges < 0 ? s->kind == AP_VOCAB_BPE && known && known->ignores_merges : s->ignore_merges > 0;
}

static bool has_bytes(const ap_vocab_source *s)
{
    for (uint32_t id = 0; id < s->token_count; id++)
        if (type_of(s, id) == AP_TOKEN_BYTE)
            return true;
    return false;
}

static ap_status put_unigram(writer *w)
{
    const ap_vocab_source *s = w->source;
    AP_TRY(put(w, "{\"type\":\"Unigram\",\"unk_id\":"));
    AP_TRY(s->unk >= 0 ? ap_buf_printf(w->out, w->err, "%d", s->unk) : put(w, "null"));
    AP_TRY(ap_buf_printf(w->out, w->err, ",\"byte_fallback\":%s,\"vocab\":[", has_bytes(s) ? "true" : "false"));
    AP_TRY(put_vocab(w));
    return put(w, "]}");
}

static ap_status put_wordpiece(writer *w)
{
    const ap_vocab_source *s = w->source;
    if (s->unk < 0)
        return refuse(w, "a vocabulary without", AP_STR("an unknown token"));
    AP_TRY(put(w, "{\"type\":\"WordPiece\",\"unk_token\":"));
    AP_TRY(put_string(w, s->tokens[s->unk]));
    AP_TRY(put(w, ",\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,\"vocab\":{"));
    AP_TRY(put_vocab(w));
    return put(w, "}}");
}

static ap_status put_bpe(writer *w)
{
    const ap_vocab_source *s = w->source;
    bool is_spm = s->kind == AP_VOCAB_SPM;
    AP_TRY(put(w, "{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":"));
    if (is_spm && s->unk >= 0)
        AP_TRY(put_string(w, s->tokens[s->unk]));
    else
        AP_TRY(put(w, "null"));
    AP_TRY(ap_buf_printf(w->out, w->err, ",\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":%s,\"byte_fallback\":%s,"
                         "\"ignore_merges\":%s,\"vocab\":{", is_spm ? "true" : "false", is_spm && has_bytes(s) ? "true" : "false",
                         ignores_merges(w) ? "true" : "false"));
    AP_TRY(put_vocab(w));
    AP_TRY(put(w, "},\"merges\":["));
    AP_TRY(put_merges(w));
    return put(w, "]}");
}

static ap_status put_all(writer *w)
{
    AP_TRY(put(w, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":["));
    AP_TRY(put_added(w));
    AP_TRY(put(w, "],\n\"normalizer\":"));
    AP_TRY(put_normalizer(w));
    AP_TRY(put(w, ",\n\"pre_tokenizer\":"));
    AP_TRY(put_pre_tokenizer(w));
    AP_TRY(put(w, ",\n\"post_processor\":"));
    AP_TRY(put_post_processor(w));
    AP_TRY(put(w, ",\n\"decoder\":"));
    AP_TRY(put_decoder(w));
    AP_TRY(put(w, ",\n\"model\":"));
    AP_TRY(w->source->kind == AP_VOCAB_UNIGRAM ? put_unigram(w) : w->source->kind == AP_VOCAB_WORDPIECE ? put_wordpiece(w) : put_bpe(w));
    return put(w, "}\n");
}

/* ---- The proof ---- */

static bool is_same_type(const ap_vocab_source *a, const ap_vocab_source *b, uint32_t id)
{
    int32_t x = type_of(a, id), y = type_of(b, id);
    return x == y || (int32_t)id == a->unk || (x == AP_TOKEN_UNKNOWN && y == AP_TOKEN_CONTROL);
}

static ap_status compare(writer *w, const ap_vocab_source *read, ap_buf buffers[2])
{
    const ap_vocab_source *s = w->source;
    bool is_same = read->token_count >= spelled_count(s) && read->unk == s->unk;
    for (uint32_t id = 0; id < spelled_count(s) && is_same; id++) {
        bool is_hole = type_of(s, id) == AP_TOKEN_UNUSED;
        AP_TRY(spell(s, id, &buffers[0], w->err));
        AP_TRY(spell(read, id, &buffers[1], w->err));
        is_same = is_hole || (is_same_type(s, read, id) && ap_str_equal(ap_buf_str(&buffers[0]), ap_buf_str(&buffers[1])));
        if (!is_same)
            return ap_fail(w->err, AP_E_UNSUPPORTED, "token %u of the vocabulary, '%.*s', is one that tokenizer.json cannot say", id,
                           (int)(s->tokens[id].len < 60 ? s->tokens[id].len : 60), s->tokens[id].ptr);
    }
    return is_same ? AP_OK : ap_fail(w->err, AP_E_UNSUPPORTED, "the vocabulary has unknown tokens or rows that tokenizer.json cannot say");
}

/* Marks of words and holes make two ways to say the same: what was written is read, and must be the same vocabulary. */
static ap_status read_back(writer *w, ap_str text)
{
    ap_arena arena = {0};
    ap_vocab_source read;
    ap_tokenizer *tokenizer = NULL;
    ap_buf buffers[2] = {{0}};
    ap_status status = ap_tokenizer_json_read(&read, &arena, text, w->err);
    if (status == AP_OK)
        status = compare(w, &read, buffers);
    if (status == AP_OK)
        status = ap_tokenizer_create(&tokenizer, &read, w->err);
    ap_tokenizer_destroy(&tokenizer);
    ap_buf_deinit(&buffers[0]);
    ap_buf_deinit(&buffers[1]);
    ap_arena_deinit(&arena);
    return status;
}

ap_status ap_tokenizer_json_write(const ap_vocab_source *source, ap_buf *out, ap_error *err)
{
    ap_tokenizer *tokenizer;
    size_t before = out->len;
    AP_TRY(ap_tokenizer_create(&tokenizer, source, err));
    writer w = {.source = source, .tokenizer = tokenizer, .out = out, .err = err};
    ap_status status = put_all(&w);
    if (status == AP_OK && (source->kind == AP_VOCAB_UNIGRAM || source->kind == AP_VOCAB_WORDPIECE))
        status = read_back(&w, (ap_str){out->ptr + before, out->len - before});
    ap_tokenizer_destroy(&tokenizer);
    return status;
}
