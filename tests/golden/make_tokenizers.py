#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Small tokenizer.json files, one per family, and the ids the PyPI packages `tokenizers` (0.23) and `sentencepiece` give.

    make_tokenizers.py ../text/data [NAME...]

Writes tokenizers/NAME.json or NAME.model and tokenizers/NAME.txt there (lines of `ids HEX ID...`); trained here on generated text.
"""
import json
import os
import random
import sys
import tempfile
import unicodedata

import sentencepiece
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers)

import token_vectors as vectors

rng = random.Random(5)
CORPUS = [vectors.text(rng) for _ in range(2500)]
SPECIALS = ["<s>", "</s>", "<unk>", "<|im_end|>"]


def byte_level(pre, normalizer=None, ignore=False, prefix=False):
    t = Tokenizer(models.BPE(ignore_merges=ignore))
    if normalizer:
        t.normalizer = normalizer
    t.pre_tokenizer = pre or pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=600, special_tokens=SPECIALS, show_progress=False,
                                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.add_tokens([AddedToken("<tool>", normalized=True), AddedToken("é!", normalized=True),
                  AddedToken("the", single_word=True, normalized=True), AddedToken("<raw>", normalized=False)])
    t.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False), AddedToken("<end>", rstrip=True, normalized=False)])
    t.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    return t


def sentence_bpe(metaspace=None):
    t = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    t.normalizer = normalizers.Replace(" ", "▁")
    if metaspace:
        t.pre_tokenizer = metaspace
    words = pre_tokenizers.Split("▁", "merged_with_next")
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer, trained.pre_tokenizer = t.normalizer, words
    bytes_of = ["<0x%02X>" % i for i in range(256)]
    trained.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=1100, special_tokens=["<unk>", "<s>", "</s>"] + bytes_of,
                                                            limit_alphabet=120, show_progress=False))
    data, own = json.loads(trained.to_str())["model"], json.loads(t.to_str())
    own["model"]["vocab"], own["model"]["merges"] = data["vocab"], data["merges"]
    own["normalizer"] = None if metaspace else {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
    t = Tokenizer.from_str(json.dumps(own))
    spaces = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    t.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()] if metaspace else spaces)
    t.add_special_tokens(["<unk>", "<s>", "</s>"])
    return t


def unigram(folder, words):
    corpus = os.path.join(folder, "corpus.txt")
    with open(corpus, "w", encoding="utf-8") as out:
        out.write("\n".join(" ".join(rng.choice(vectors.WORDS) for _ in range(12)) for _ in range(2000)))  # few characters
    sentencepiece.SentencePieceTrainer.train(input=corpus, model_prefix=os.path.join(folder, "u"), vocab_size=700,
                                             model_type="unigram", character_coverage=1.0, hard_vocab_limit=False,
                                             minloglevel=2, num_threads=1)
    from sentencepiece import sentencepiece_model_pb2 as pb
    model = pb.ModelProto()
    model.ParseFromString(open(os.path.join(folder, "u.model"), "rb").read())
    t = Tokenizer(models.Unigram([(p.piece, p.score) for p in model.pieces], 0, False))
    charsmap = normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap)
    meta = pre_tokenizers.Metaspace(prepend_scheme="always")
    if words:
        t.normalizer, t.pre_tokenizer = charsmap, pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), meta])
    else:
        t.normalizer = normalizers.Sequence([normalizers.Strip(left=False), charsmap, normalizers.Replace(Regex(" {2,}"), "▁")])
        t.pre_tokenizer = meta
    t.decoder = decoders.Metaspace()
    t.add_special_tokens(["<unk>", "<s>", "</s>", AddedToken("<mask>", lstrip=True, normalized=False)])
    return t


def model_files(folder, work):
    """SentencePiece's own files, with and without byte fallback, and its ids."""
    for name, kind, has_bytes in (("sentencepiece_bpe.model", "bpe", False), ("sentencepiece_unigram.model", "unigram", True)):
        path = os.path.join(folder, name)
        sentencepiece.SentencePieceTrainer.train(input=os.path.join(work, "corpus.txt"), model_prefix=path[:-6], minloglevel=2,
                                                 vocab_size=1000 if has_bytes else 700, model_type=kind, character_coverage=1.0,
                                                 hard_vocab_limit=False, num_threads=1, byte_fallback=has_bytes)
        os.unlink(path[:-6] + ".vocab")
        model = sentencepiece.SentencePieceProcessor(model_file=path)
        vectors.SPECIALS[:] = []
        with open(path[:-6] + ".txt", "w", encoding="utf-8") as out:
            for _ in range(60):
                string = vectors.text(rng)
                out.write("ids %s %s\n" % (string.encode().hex() or "-", " ".join(map(str, model.encode(string)))))


def wordpiece(lowercase):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    t.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=900, limit_alphabet=200, show_progress=False,
                                                            special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    t.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[
        ("[CLS]", t.token_to_id("[CLS]")), ("[SEP]", t.token_to_id("[SEP]"))])
    return t


def is_settled(t, string):
    """Whether the package's older Unicode gives the same as Python's."""
    kind, normal = json.loads(t.to_str())["normalizer"], t.normalizer.normalize_str(string)
    if kind["type"] == "NFC":
        return normal == unicodedata.normalize("NFC", string)
    if kind["type"] == "Sequence" and kind["normalizers"][0]["type"] == "NFKD":
        return normal == unicodedata.normalize("NFKD", normal)
    if kind["type"] == "BertNormalizer":
        return not kind["lowercase"] or all(unicodedata.category(c) != "Mn" for c in normal)
    return True


def stages(*list_of):
    """Byte-level BPE behind stages of any kind."""
    return byte_level(pre_tokenizers.Sequence([*list_of, pre_tokenizers.ByteLevel(False, use_regex=False)]))


def words_of_wordpiece():
    t = wordpiece(False)
    t.pre_tokenizer = pre_tokenizers.Whitespace()
    return t


# Those that were added later are made one by one, each from a generator of its own.
LATER = {
    "byte_foreign": lambda: stages(pre_tokenizers.Split(Regex(r"(?i:n't|'s|'ll)|\b\w+(?=\s)|\d{1,2}|[^\w\s]{1,3}|[\p{L}\p{M}]+?(?=\p{Lu})|\s+$"),
                                                        "isolated")),
    "byte_falcon": lambda: byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.ByteLevel(False), pre_tokenizers.Digits(False),
        pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated")])),
    "byte_glued": lambda: stages(pre_tokenizers.Split("e", "merged_with_previous"), pre_tokenizers.Split(Regex(r"[A-Z]|\s"), "merged_with_next"),
                                 pre_tokenizers.Split(Regex("[aeiou.]"), "contiguous"),
                                 pre_tokenizers.Split(Regex(r"\p{N}+"), "merged_with_previous", True)),
    "byte_dropped": lambda: stages(pre_tokenizers.WhitespaceSplit(), pre_tokenizers.CharDelimiterSplit("o"), pre_tokenizers.Punctuation("merged_with_next"),
                                   pre_tokenizers.Split(Regex("t|h"), "removed"), pre_tokenizers.FixedLength(3)),
    "byte_words": lambda: stages(pre_tokenizers.Whitespace(), pre_tokenizers.Digits(True)),
    "byte_empty_matches": lambda: stages(pre_tokenizers.Split(Regex(r"(?<=[a-z])(?=[A-Z])|(?=\d\d)|x*"), "isolated")),
    "wordpiece_words": words_of_wordpiece,
}


def make_later(folder, name):
    global rng, CORPUS
    rng = random.Random(name)
    vectors.SPECIALS[:] = []
    CORPUS = [vectors.text(rng) for _ in range(1500)]
    write(folder, name, LATER[name]())


def write(folder, name, t):
    t = Tokenizer.from_str(t.to_str())
    t.save(os.path.join(folder, name + ".json"), pretty=False)
    vectors.SPECIALS[:] = [a.content for a in t.get_added_tokens_decoder().values()]
    with open(os.path.join(folder, name + ".txt"), "w", encoding="utf-8") as out:
        for _ in range(60):
            string = vectors.text(rng)
            while t.normalizer and not is_settled(t, string):
                string = vectors.text(rng)
            vectors.write_text(out, t, vectors.write_ids(out, t, string))


def make(folder):
    split = lambda *e: pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(x), "isolated") for x in e] +
                                               [pre_tokenizers.ByteLevel(False, use_regex=False)])
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        families = {
            "byte_gpt2": byte_level(None, prefix=True), "byte_nfc": byte_level(split(*vectors.SPLITS["qwen2"]), normalizers.NFC()),
            "byte_nfkd": byte_level(split(*vectors.SPLITS["gpt-4o"]), normalizers.Sequence([normalizers.NFKD(),
                                                                                        normalizers.Lowercase()]), ignore=True),
            "byte_digits": byte_level(pre_tokenizers.Sequence([pre_tokenizers.Punctuation("contiguous"),
                                                               pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)])),
            "sentence_prepend": sentence_bpe(), "sentence_first": sentence_bpe(pre_tokenizers.Metaspace(prepend_scheme="first", split=False)),
            "sentence_words": sentence_bpe(pre_tokenizers.Metaspace(prepend_scheme="always")),
            "unigram_words": unigram(work, True), "unigram_spaces": unigram(work, False),
            "wordpiece_lower": wordpiece(True), "wordpiece_cased": wordpiece(False)}
        model_files(folder, work)
    for name, t in families.items():
        write(folder, name, t)


if __name__ == "__main__":
    target = os.path.join(sys.argv[1], "tokenizers")
    if not sys.argv[2:]:
        make(target)
    for later in sys.argv[2:] or LATER:
        make_later(target, later)
