#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Vocabularies for tokens_compare.py, trained here: one for every pre-tokenizer, and SentencePiece's own files.

    token_families.py FOLDER

Writes FOLDER/NAME.json (byte-level BPE, SentencePiece BPE as Llama and Gemma have it, WordPiece) and FOLDER/NAME.model.
"""
import json
import os
import random
import sys

import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers

import make_tokenizers as small
import token_vectors as vectors

IGNORE_MERGES = {"llama-bpe", "tekken"}
LLAMA = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]


def byte_level(name):
    stages = pre_tokenizers.Sequence([vectors.splitter(name), pre_tokenizers.ByteLevel(False, use_regex=False)])
    return small.byte_level(stages, ignore=name in IGNORE_MERGES)


def sentence(normalizer, pre, decoder):
    own = json.loads(small.sentence_bpe().to_str())
    own["normalizer"] = json.loads(normalizer.__getstate__()) if normalizer else None
    t = Tokenizer.from_str(json.dumps(own))
    if pre:
        t.pre_tokenizer = pre
    t.decoder = decoder
    t.add_special_tokens(["<unk>", "<s>", "</s>", AddedToken("<|im_end|>", rstrip=True, normalized=False)])
    return t


def sentences():
    escape, both = normalizers.Replace(" ", "▁"), [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    first = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return {"spm_llama": sentence(normalizers.Sequence(both), None, decoders.Sequence([*LLAMA, decoders.Strip(" ", 1, 0)])),
            "spm_gemma": sentence(escape, pre_tokenizers.Split(" ", "merged_with_previous"), decoders.Sequence(LLAMA)),
            "spm_first": sentence(None, first, decoders.Sequence([*LLAMA, decoders.Strip(" ", 1, 0)])),
            "spm_metaspace": sentence(None, first, decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()]))}


MODELS = {
    "sp_bpe_bytes": {"model_type": "bpe", "byte_fallback": True, "vocab_size": 1100},
    "sp_bpe_llama": {"model_type": "bpe", "byte_fallback": True, "vocab_size": 1100, "normalization_rule_name": "identity",
                     "remove_extra_whitespaces": False, "split_digits": True, "allow_whitespace_only_pieces": True},
    "sp_bpe_gemma": {"model_type": "bpe", "byte_fallback": True, "vocab_size": 1100, "normalization_rule_name": "identity",
                     "remove_extra_whitespaces": False, "add_dummy_prefix": False, "user_defined_symbols": ["<tool>", "\t\t", "▁▁", "▁▁▁"]},
    "sp_bpe": {"model_type": "bpe", "vocab_size": 700},
    "sp_unigram": {"model_type": "unigram", "vocab_size": 700},
    "sp_unigram_bytes": {"model_type": "unigram", "byte_fallback": True, "vocab_size": 1000, "normalization_rule_name": "nmt_nfkc_cf"},
}


def main(folder):
    os.makedirs(folder, exist_ok=True)
    made = {"byte_" + name: lambda name=name: byte_level(name) for name in vectors.SPLITS}
    for name, build in made.items():
        build().save(os.path.join(folder, name + ".json"), pretty=False)
    for name, tokenizer in sentences().items():
        tokenizer.save(os.path.join(folder, name + ".json"), pretty=False)
    corpus = os.path.join(folder, "corpus.txt")
    rng = random.Random(8)
    with open(corpus, "w", encoding="utf-8") as out:
        out.write("\n".join(" ".join(rng.choice(vectors.WORDS) for _ in range(12)) for _ in range(2000)))
    for name, options in MODELS.items():
        sentencepiece.SentencePieceTrainer.train(input=corpus, model_prefix=os.path.join(folder, name), character_coverage=1.0,
                                                 hard_vocab_limit=False, minloglevel=2, num_threads=1, **options)
        os.unlink(os.path.join(folder, name + ".vocab"))
    os.unlink(corpus)


if __name__ == "__main__":
    main(sys.argv[1])
