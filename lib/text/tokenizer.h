/* tokenizer.h - text to token ids and back.
 *
 * A vocabulary gives bytes (its *pieces*) to ids.  Four kinds exist here, by their names in GGUF: byte-level BPE
 * ("gpt2": text is cut into words by a *pre-tokenizer*, each word is merged by the rank of its pairs), SentencePiece
 * BPE ("llama": no words, pairs are merged by score or by rank, what is left over is spelled in byte tokens),
 * Unigram ("t5": the way through a text whose pieces have the best sum of scores) and WordPiece ("bert": each word
 * from its longest pieces, or one unknown).  A *normalizer* may change text between special tokens first.
 *
 * Words.  A *control* token (types CONTROL and UNKNOWN) steers the model; a *user-defined* token is ordinary text
 * that is always one token.  A *part* is a run of text with one origin: template text, whose control tokens count,
 * or text of strangers, whose never do.
 *
 * What happens at a seam.  All parts are joined first; the seams then matter only for control tokens: one is matched
 * where it lies wholly inside neighbouring parts with allow_special, leftmost first and the longest there.
 * Between control tokens user-defined tokens are matched the same way (they may cross a seam), and between those
 * pre-tokenizer and merges see the joined text.  So harmless text gives the ids that the whole prompt in one string
 * would give, and text of strangers gives no control id, whatever it spells: merges never make a control token
 * either.
 *
 * Invalid UTF-8.  Each maximal invalid part is cut into words like U+FFFD and encoded as its own bytes, so any bytes
 * survive the way there and back if the vocabulary has all bytes.  (An expression of the file's own, which runs in PCRE2,
 * takes an invalid part for a border and a word.)  U+0000 and U+FEFF are characters like others.
 *
 * Bytes without a token.  Some byte-level vocabularies lack bytes that were rare in training (SmolLM2 lacks 0x06 and
 * 0xff).  A character or invalid part that has one is encoded as U+FFFD and counted in ap_ids.replaced, so that the
 * caller can tell.  (One reference drops such a character, another puts <|endoftext|> there: neither will do.)  If
 * U+FFFD cannot be spelled either, and for SPM, the token of type UNKNOWN is put there; without one, refused.
 *
 * A tokenizer is constant after creation: any number of threads may use it.  Creation takes some tens of
 * milliseconds for 150,000 tokens; tokenising allocates per call, not per word, and takes time linear in the text.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEXT_TOKENIZER_H
#define AP_TEXT_TOKENIZER_H

#include "base/str.h"

typedef enum ap_vocab_kind {
    AP_VOCAB_BPE,     /* byte-level; tokenizer.ggml.model "gpt2" */
    AP_VOCAB_SPM,     /* SentencePiece BPE; tokenizer.ggml.model "llama" */
    AP_VOCAB_UNIGRAM, /* "t5" */
    AP_VOCAB_WORDPIECE /* "bert": pieces that begin a word start with U+2581 */
} ap_vocab_kind;

/* The numbers of tokenizer.ggml.token_type; 0 (undefined) is taken as NORMAL. */
typedef enum ap_token_kind {
    AP_TOKEN_NORMAL = 1,
    AP_TOKEN_UNKNOWN = 2,
    AP_TOKEN_CONTROL = 3,
    AP_TOKEN_USER_DEFINED = 4,
    AP_TOKEN_UNUSED = 5, /* a padding row: has an id, is never made from text */
    AP_TOKEN_BYTE = 6    /* "<0x41>": spells one byte */
} ap_token_kind;

/* How a control or user-defined token lies in text; GGUF has no key for it. */
enum {
    AP_TOKEN_LSTRIP = 1,      /* takes the whitespace before it along */
    AP_TOKEN_RSTRIP = 2,      /* and behind it */
    AP_TOKEN_SINGLE_WORD = 4, /* not where a letter, a number or "_" stands next to it */
    AP_TOKEN_NORMALIZED = 8   /* user-defined: looked for after the normalizer, not before */
};

/* How ids become text, where that is not text to ids turned round. */
enum {
    AP_DECODE_KEEP_SPACE = 1,        /* the space put before text stays */
    AP_DECODE_DROP_SPACE = 2,        /* a text loses the space it begins with, although none was put there */
    AP_DECODE_DROP_FIRST_SPACES = 4, /* all spaces of the first token go (the decoder Metaspace) */
    AP_DECODE_TIDY = 8               /* WordPiece: no space before . ? ! , n't 'm 's 've 're */
};

/* Where SPM and Unigram put a space before text (byte-level BPE: AP_SPACE_UNLESS or never). */
typedef enum ap_space_prefix {
    AP_SPACE_EACH,   /* before each run of plain text */
    AP_SPACE_UNLESS, /* unless one is there */
    AP_SPACE_FIRST   /* the same, and only at the very start */
} ap_space_prefix;

/* Limits on a stranger's vocabulary and on text. */
enum {
    AP_VOCAB_TOKENS_MAX = 1 << 20,
    AP_VOCAB_MERGES_MAX = 1 << 21,
    AP_TOKEN_BYTES_MAX = 4096,
    AP_SPECIAL_BYTES_MAX = 512, /* control and user-defined tokens: bounds the work per byte of text */
    AP_VOCAB_BYTES_MAX = 64 << 20,
    AP_TOKENIZE_BYTES_MAX = 1 << 29,
    AP_NORMALIZER_STEPS_MAX = 16
};

/* What a file says, in the file's own form.  Everything is borrowed during creation only. */
typedef struct ap_vocab_source {
    ap_vocab_kind kind;
    ap_str pre; /* BPE: tokenizer.ggml.pre; empty means "default" */
    uint32_t token_count;
    const ap_str *tokens;
    const float *scores;  /* SPM without merges, Unigram: needed; else NULL or ignored */
    const int32_t *types; /* NULL: all NORMAL */
    uint32_t merge_count; /* BPE, and SPM that merges by rank: in order of rank */
    const ap_str *merges; /* "left right", split at the first space that is not the first byte */
    int32_t bos, eos, eot, eom, unk, pad;       /* -1: absent */
    int8_t add_bos, add_eos, add_space_prefix; /* 0, 1; -1: absent, the kind's default holds */
    int8_t remove_extra_spaces; /* SPM, Unigram: runs of spaces become one, none at the ends; -1: Unigram does */
    ap_str charsmap;            /* tokenizer.ggml.precompiled_charsmap; empty: none */
    /* What GGUF has no key for; absent: as the reference of GGUF does. */
    const uint8_t *flags;       /* per token, AP_TOKEN_LSTRIP …; NULL: none */
    uint32_t split_count;       /* expressions of the pre-tokenizer's stages, instead of `pre` */
    const ap_str *split;        /* each is one that split.c scans; SPM and Unigram may have some too */
    uint32_t normalizer_count;
    const ap_str *normalizer;   /* steps, see normalize.h; NULL: the kind's default */
    int8_t ignore_merges;       /* -1: as the pre-tokenizer does */
    uint8_t decode;             /* AP_DECODE_KEEP_SPACE, … */
    bool equal_ranks;           /* merges in a row that make the same token have one rank */
    ap_space_prefix space_prefix;
} ap_vocab_source;

#define AP_VOCAB_SOURCE_NONE                                                                            \
    {.bos = -1, .eos = -1, .eot = -1, .eom = -1, .unk = -1, .pad = -1, .add_bos = -1, .add_eos = -1, \
     .add_space_prefix = -1, .remove_extra_spaces = -1, .ignore_merges = -1}

typedef struct ap_tokenizer ap_tokenizer;

/* Checks everything, copies what it keeps.  AP_E_FORMAT or AP_E_LIMIT name the token or merge at fault;
 * AP_E_UNSUPPORTED names an unknown pre-tokenizer and lists those known. */
ap_status ap_tokenizer_create(ap_tokenizer **out, const ap_vocab_source *source, ap_error *err);
void ap_tokenizer_destroy(ap_tokenizer **tokenizer);

/* Ids that grow; zero is a valid empty list. */
typedef struct ap_ids {
    int32_t *ids;
    size_t count;
    size_t room;
    size_t replaced; /* characters of the texts that no token could spell */
} ap_ids;

ap_status ap_ids_reserve(ap_ids *ids, size_t more, ap_error *err);
void ap_ids_deinit(ap_ids *ids);

typedef struct ap_text_part {
    ap_str text;
    bool allow_special; /* text of ours: control tokens written in it are control tokens */
} ap_text_part;

/* Adds the ids of the joined parts to *out.  Flags: AP_TOKENIZE_BOS puts the begin token first if the vocabulary
 * asks for it, AP_TOKENIZE_EOS the end token last.  (AP_TOKENIZE_SPECIAL is what allow_special says here and has no effect.)  On failure *out is as
 * before.  AP_E_LIMIT beyond AP_TOKENIZE_BYTES_MAX; AP_E_ARG for text that cannot be spelled; AP_E_NOMEM. */
ap_status ap_tokenize(const ap_tokenizer *tokenizer, const ap_text_part *parts, size_t part_count, unsigned flags,
                      ap_ids *out, ap_error *err);

/* Adds the raw bytes of the ids to *out, which need not be whole UTF-8 (stream.h makes text of them).  Control
 * tokens are left out unless AP_DETOKENIZE_SPECIAL is given.  The one space that SPM and others put before text is taken
 * away from the start (AP_DECODE_KEEP_SPACE and others change that); WordPiece has a space before each word and control token
 * but the first.  AP_E_ARG for an id that is none. */
ap_status ap_detokenize(const ap_tokenizer *tokenizer, const int32_t *ids, size_t count, unsigned flags, ap_buf *out,
                        ap_error *err);

ap_vocab_kind ap_tokenizer_kind(const ap_tokenizer *tokenizer);
uint32_t ap_tokenizer_count(const ap_tokenizer *tokenizer);
/* Raw bytes, valid as long as the tokenizer; {NULL, 0} for an id that is none. */
ap_str ap_tokenizer_piece(const ap_tokenizer *tokenizer, int32_t id);
/* AP_TOKEN_UNUSED for an id that is none. */
ap_token_kind ap_tokenizer_token_kind(const ap_tokenizer *tokenizer, int32_t id);
/* CONTROL or UNKNOWN: left out of text for people. */
bool ap_tokenizer_is_control(const ap_tokenizer *tokenizer, int32_t id);
/* The control or user-defined token written exactly so, or -1. */
int32_t ap_tokenizer_special(const ap_tokenizer *tokenizer, ap_str text);

/* -1: absent. */
int32_t ap_tokenizer_bos(const ap_tokenizer *tokenizer);
int32_t ap_tokenizer_eos(const ap_tokenizer *tokenizer);
int32_t ap_tokenizer_unk(const ap_tokenizer *tokenizer);
int32_t ap_tokenizer_pad(const ap_tokenizer *tokenizer);
bool ap_tokenizer_adds_bos(const ap_tokenizer *tokenizer);
bool ap_tokenizer_adds_eos(const ap_tokenizer *tokenizer);
/* SPM, Unigram, WordPiece: a space is put before text. */
bool ap_tokenizer_adds_space(const ap_tokenizer *tokenizer);
/* The same kinds: the text of ids starts with one space more than it should; a stream takes it away. */
bool ap_tokenizer_drops_space(const ap_tokenizer *tokenizer);

/* Tokens after which an answer is over: eos, eot, eom and the well-known ends of a turn the vocabulary has,
 * ascending, without repetition. */
const int32_t *ap_tokenizer_ends(const ap_tokenizer *tokenizer, size_t *count);
bool ap_tokenizer_is_end(const ap_tokenizer *tokenizer, int32_t id);

#endif
