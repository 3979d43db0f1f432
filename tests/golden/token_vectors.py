#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Vectors for the tokenizer tests, from the PyPI package `tokenizers` (0.23).

    token_vectors.py make ../text/data/token_vectors.txt
        the committed file: pieces of every pre-tokenizer, and ids of small vocabularies trained here
    token_vectors.py gguf MODEL.gguf COUNT OUT [SEED]
        ids of a real byte-level vocabulary for COUNT generated texts; needs the package `gguf` as well.
        Compare with: test_token_golden MODEL.gguf OUT

The file is lines of words: `split NAME` and `pieces HEX LENGTH...`; `vocab NAME`, `token TYPE TEXT`, `merge TEXT`,
`ready`, then `ids HEX ID...`.
"""
import json
import random
import sys
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CONTRACT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WHITE = r"\s*[\r\n]+|\s+(?!\S)|\s+"
HIGH, LOW = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def cl100k(word, digits, other):
    return CONTRACT + r"|[^\r\n\p{L}\p{N}]?" + word + "+|" + digits + "| ?" + other + r"+[\r\n]*|" + WHITE


def cased(tail, digits):
    lead = r"[^\r\n\p{L}\p{N}]?"
    return "|".join([lead + HIGH + "*" + LOW + "+" + tail, lead + HIGH + "+" + LOW + "*" + tail, digits,
                     r" ?[^\s\p{L}\p{N}]+[\r\n/]*", WHITE])


# The letters that deepseek-llm lists.
LLM_LETTERS = ("\u0041-\u005a\u0061-\u007a\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293"
               "\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1"
               "\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-"
               "\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45"
               "\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-"
               "\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107"
               "\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f"
               "\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d"
               "\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-"
               "\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-"
               "\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943")

SPLITS = {
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
    "gpt-2": [GPT2],
    "llama-bpe": [cl100k(r"\p{L}", r"\p{N}{1,3}", r"[^\s\p{L}\p{N}]")],
    "qwen2": [cl100k(r"\p{L}", r"\p{N}", r"[^\s\p{L}\p{N}]")],
    "qwen35": [cl100k(r"[\p{L}\p{M}]", r"\p{N}", r"[^\s\p{L}\p{M}\p{N}]")],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"],
    "smollm": [r"\p{N}", GPT2],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", r"\p{N}"],
    "deepseek-v3": [r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
                    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
                    r"| ?[\p{P}\p{S}]+[\r\n]*|" + WHITE],
    "tekken": [cased("", r"\p{N}")],
    "gpt-4o": [cased(CONTRACT + "?", r"\p{N}{1,3}")],
    "bloom": [r" ?[^(\s|.,!?…。，、।۔،)]+"],
    "viking": [r" ?[^(\s|.,!?…。，、।۔،)]+", r"\p{N}"],
    "deepseek-llm": [r"[\r\n]", r"\s?[" + LLM_LETTERS + "]+", "\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+", r"\s+$",
                     "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", r"\p{N}+"],
    "seed-coder": [CONTRACT + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|" + WHITE],
    "bailingmoe": [r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"],
    "superbpe": [r"\p{N}+", r"(?=(\d{3})+(?!\d))"],
}


def splitter(name):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(e), "isolated") for e in SPLITS[name]])


# ---- texts ----------------------------------------------------------------------------------------------------

WORDS = ("the and of to Hello world don't WE'LL it's I'm they've you're he'd O'S 'tis ''s Perché città naïve Straße "
         "ЁЖ Привет ΑΒΓ λόγος שָׁלוֹם مَرْحَبًا नमस्ते สวัสดี 你好 世界 日本語 カタカナ ひらがな 한국어 ǅungla ʰʲ ª º ﬁ ſ 'ſ ﷽ "
         "x86 3.14 1234567 12 ١٢٣ ⅷ ½ ² 𝟘𝟙 CamelCase snake_case http://a.b/c?d=e&f int main(){} <tag> // ... --- "
         "!!! ?! $5 €9 ~~ ^^ `q` |x| \\n").split(" ")
SPACES = [" "] * 12 + ["  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n", "\n ", " \n \n", "\u00a0", "\u2003", "\u3000", "\u0085",
                       "\u2028", "\u1680", "\v", "\f", "\x1c", "\u200b", "\u180e", "\ufeff", "", "", ""]
EMOJI = ["😀", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇮🇹", "👍🏽", "❤️", "☃", "1️⃣", "\u200d", "\ufe0f"]
ASSIGNED = [c for c in range(0x323B0) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
MARKS = [c for c in ASSIGNED if unicodedata.category(chr(c))[0] == "M"]
SPECIALS = []


def text(rng):
    out, kind = [], rng.random()
    for _ in range(rng.choice([1, 1, 2, 3, 5, 8, 13, 30])):
        r = rng.random()
        if r < 0.40 or kind < 0.3:
            out.append(rng.choice(WORDS))
        elif r < 0.46:
            out.append("".join(chr(rng.choice(ASSIGNED)) for _ in range(rng.randint(1, 6))))
        elif r < 0.52:
            out.append("".join(chr(rng.randint(0x20, 0x7e)) for _ in range(rng.randint(1, 8))))
        elif r < 0.57:
            out.append(rng.choice("aeßéЖ字") + "".join(chr(rng.choice(MARKS)) for _ in range(rng.randint(1, 5))))
        elif r < 0.62:
            out.append(rng.choice(EMOJI))
        elif r < 0.67:
            out.append(str(rng.randint(0, 10 ** rng.randint(1, 14))))
        elif r < 0.71:
            out.append(rng.choice(["a", " ", "\n", "=", "0", "é", "字", "!", "\u0301", "\t", "A"]) * rng.randint(2, 60))
        elif r < 0.75:
            out.append(chr(rng.choice([0, 1, 0x1b, 0x7f, 0xad, 0x200e, 0x2060, 0xfeff, 0xfffd, 0xe000, 0x10ffff, 0x378])))
        elif r < 0.80:
            out.append("'" + rng.choice(["s", "t", "re", "ve", "m", "ll", "d", "S", "T", "RE", "Ve", "LL", "l", "r", "ſ", "é", ""]))
        elif r < 0.84 and SPECIALS:
            special = rng.choice(SPECIALS)
            out.append(special[:rng.randint(1, len(special))] if rng.random() < 0.3 else special)
        else:
            out.append("".join(rng.choice(WORDS) for _ in range(2)))
        out.append(rng.choice(SPACES))
    return "".join(out)


def mangled(tokenizer):
    """Added tokens that the package takes for bytes when it decodes: "é!" becomes "\ufffd!"; we give back what was there."""
    added = tokenizer.get_added_tokens_decoder().items()
    is_byte_level = tokenizer.decoder is not None and b"ByteLevel" in tokenizer.decoder.__getstate__()
    return {i for i, t in added if is_byte_level and not t.content.isascii() and set(t.content) <= set(LETTERS.values())}


def write_text(out, tokenizer, ids):
    """What the ids of the line before become again, where the package says it."""
    if tokenizer.decoder is not None and mangled(tokenizer).isdisjoint(ids):
        out.write("text %s\n" % (tokenizer.decode(ids, skip_special_tokens=False).encode().hex() or "-"))


def write_ids(out, tokenizer, string, spelled=None):
    ids = tokenizer.encode(string if spelled is None else spelled, add_special_tokens=False).ids
    out.write("ids %s %s\n" % (string.encode().hex() or "-", " ".join(map(str, ids))))
    return ids


def make(path):
    rng = random.Random(20)
    with open(path, "w", encoding="utf-8") as out:
        out.write("# SPDX-License-Identifier: Apache-2.0\n# Made by tests/golden/token_vectors.py; own words only.\n")
        for name in SPLITS:
            out.write("split %s\n" % name)
            split = splitter(name)
            for _ in range(70):
                string = text(rng)
                lengths = [len(piece.encode()) for piece, _ in split.pre_tokenize_str(string)] if string else []
                out.write("pieces %s %s\n" % (string.encode().hex() or "-", " ".join(map(str, lengths))))
        global SPECIALS
        SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_end|>x", "<tool>", "  "]
        for name, ignore_merges in (("smollm", False), ("llama-bpe", True)):
            tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence([splitter(name), pre_tokenizers.ByteLevel(False, use_regex=False)])
            tokenizer.decoder = decoders.ByteLevel()
            trainer = trainers.BpeTrainer(vocab_size=600, show_progress=False, special_tokens=SPECIALS[:4],
                                          initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
            tokenizer.train_from_iterator((text(rng) for _ in range(3000)), trainer)
            tokenizer.add_tokens([AddedToken("<tool>", normalized=True), AddedToken("  ", normalized=True)])
            vocab = sorted(tokenizer.get_vocab(True).items(), key=lambda item: item[1])
            merges = json.loads(tokenizer.to_str())["model"]["merges"]
            out.write("vocab %s\n" % name)
            for token, _ in vocab:
                kind = 3 if token in SPECIALS[:4] else 4 if token in SPECIALS else 1
                out.write("token %d %s\n" % (kind, token))
            for merge in merges:
                out.write("merge %s\n" % (merge if isinstance(merge, str) else " ".join(merge)))
            out.write("ready\n")
            for _ in range(160):
                write_ids(out, tokenizer, text(rng))


PRINTABLE = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
LETTERS = {b: chr(b) for b in PRINTABLE} | {b: chr(0x100 + i) for i, b in enumerate(b for b in range(256) if b not in PRINTABLE)}


def spell(data):
    """Bytes in the letters of byte-level BPE."""
    return "".join(LETTERS[b] for b in data)


def gguf_tokenizer(path):
    """A byte-level vocabulary as the package's tokenizer, what becomes of a text whose bytes it lacks, and its special tokens."""
    from gguf import GGUFReader
    reader = GGUFReader(path)
    field = lambda key: reader.fields["tokenizer.ggml." + key].contents()
    tokens, types, merges = field("tokens"), field("token_type"), [tuple(m.split(" ")) for m in field("merges")]
    pre = field("pre")
    pre = {"starcoder": "smollm", "mpt": "gpt-2"}.get(pre, pre)
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges, ignore_merges=pre == "llama-bpe"))
    if pre == "smollm":
        first = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                         pre_tokenizers.ByteLevel(add_prefix_space=False)])
    else:
        first = pre_tokenizers.Sequence([splitter(pre), pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.pre_tokenizer = first
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t, k in zip(tokens, types) if k == 3])
    tokenizer.add_tokens([AddedToken(t, normalized=True, special=False) for t, k in zip(tokens, types) if k == 4])
    known = {b for b, c in LETTERS.items() if c in set(tokens)}

    def spelled(string):  # a character with a byte that has no token becomes U+FFFD
        return "".join(c if known.issuperset(c.encode()) else "\ufffd" for c in string)

    return tokenizer, spelled, [t for t, kind in zip(tokens, types) if kind in (3, 4)]


def from_gguf(path, count, out_path, seed):
    tokenizer, spelled, specials = gguf_tokenizer(path)
    SPECIALS.extend(specials)
    rng = random.Random(seed)
    with open(out_path, "w", encoding="utf-8") as out:
        for _ in range(count):
            string = text(rng)
            write_ids(out, tokenizer, string, spelled(string))


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2])
    else:
        from_gguf(sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5]) if len(sys.argv) > 5 else 1)
