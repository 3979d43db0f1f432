#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Small folders with the tokenizer files of older models, and the ids that their own readers give.

    make_token_folders.py ../text/data

From the vocabularies of make_tokenizers.py it writes token_folders/NAME with vocab.json and merges.txt (GPT-2, RoBERTa, Qwen 2),
vocab.txt (BERT), sentencepiece.bpe.model (XLM-R) and tekken.json (Mistral), and ids.txt there: what `transformers` 5 (AutoTokenizer)
and `mistral-common` make of generated texts.
"""
import base64
import json
import os
import random
import shutil
import sys
import warnings

from transformers import AutoTokenizer

import token_vectors as vectors

warnings.simplefilter("ignore")


def load(folder, name):
    return json.load(open(os.path.join(folder, "tokenizers", name + ".json"), encoding="utf-8"))


def write(path, text):
    with open(path, "w", encoding="utf-8", newline="") as out:
        out.write(text)


def write_ids(target, encode, specials):
    rng = random.Random(target.rsplit("/", 1)[-1])
    vectors.SPECIALS[:] = specials
    with open(os.path.join(target, "ids.txt"), "w", encoding="utf-8") as out:
        for _ in range(60):
            string = vectors.text(rng)
            out.write("ids %s %s\n" % (string.encode().hex() or "-", " ".join(map(str, encode(string)))))


def bpe(folder, target, source, kind, more=None):
    model = load(folder, source)["model"]
    special = ["<|endoftext|>"] if kind != "Roberta" else []
    vocab = dict(model["vocab"])
    if kind == "Roberta":
        names = ["<s>", "<pad>", "</s>", "<unk>"]  # where RoBERTa has them
        rest = [t for t in sorted(vocab, key=vocab.get) if t not in names]
        vocab = {t: i for i, t in enumerate(names + rest + ["<mask>"])}
    for token in special:
        vocab.setdefault(token, len(vocab))
    write(os.path.join(target, "vocab.json"), json.dumps(vocab, ensure_ascii=False))
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    write(os.path.join(target, "merges.txt"), "#version: 0.2\n" + "\n".join(merges) + "\n")
    config = {"tokenizer_class": kind + "Tokenizer", "model_max_length": 512}
    if more:
        config["added_tokens_decoder"] = {str(len(vocab) + i): {"content": t, "lstrip": False, "normalized": False, "rstrip": False,
                                                               "single_word": False, "special": s} for i, (t, s) in enumerate(more)}
    if kind == "Roberta":  # as files of its time say it; transformers 5 has forgotten it
        config["added_tokens_decoder"] = {str(vocab["<mask>"]): {"content": "<mask>", "lstrip": True, "normalized": False, "rstrip": False,
                                                                 "single_word": False, "special": True}}
    write(os.path.join(target, "tokenizer_config.json"), json.dumps(config))
    return special + ["<s>", "</s>", "<mask>"] + [t for t, _ in more or []]


def bert(folder, target):
    vocab = load(folder, "wordpiece_lower")["model"]["vocab"]
    write(os.path.join(target, "vocab.txt"), "\n".join(sorted(vocab, key=vocab.get)) + "\n")
    write(os.path.join(target, "tokenizer_config.json"), json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True}))
    return ["[MASK]", "[UNK]"]


def tekken(folder, target):
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer
    model = load(folder, "byte_gpt2")["model"]
    printable = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    others = [b for b in range(256) if b not in printable]
    byte = {chr(b): b for b in printable} | {chr(0x100 + i): b for i, b in enumerate(others)}
    merged = ["".join(m.split(" ") if isinstance(m, str) else m) for m in model["merges"]]
    ranks = [bytes([b]) for b in range(256)] + [bytes(byte[c] for c in t) for t in merged]
    ranks = list(dict.fromkeys(ranks))
    path = os.path.join(target, "tekken.json")
    write(path, json.dumps({"config": {"pattern": vectors.SPLITS["tekken"][0], "num_vocab_tokens": len(ranks), "default_vocab_size": len(ranks) + 24,
                                       "default_num_special_tokens": 24, "version": "v3"},
                            "vocab": [{"rank": i, "token_bytes": base64.b64encode(b).decode(), "token_str": None} for i, b in enumerate(ranks)]}))
    return lambda s: Tekkenizer.from_file(path).encode(s, False, False)


def main(folder):
    for name, make in {
            "gpt2": lambda t: bpe(folder, t, "byte_gpt2", "GPT2"), "roberta": lambda t: bpe(folder, t, "byte_gpt2", "Roberta"),
            "qwen2": lambda t: bpe(folder, t, "byte_nfc", "Qwen2", [("<|im_start|>", True), ("<tool_call>", False)]),
            "bert": lambda t: bert(folder, t), "tekken": lambda t: tekken(folder, t)}.items():
        target = os.path.join(folder, "token_folders", name)
        shutil.rmtree(target, ignore_errors=True)
        os.makedirs(target)
        made = make(target)
        if callable(made):
            write_ids(target, made, [])
        else:
            tokenizer = AutoTokenizer.from_pretrained(target)
            write_ids(target, lambda s: tokenizer(s)["input_ids"], made)


if __name__ == "__main__":
    main(sys.argv[1])
