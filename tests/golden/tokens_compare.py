#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ids and decoded texts against the PyPI packages `tokenizers` and `sentencepiece`, over generated texts.

    tokens_compare.py BUILD COUNT VOCABULARY...

VOCABULARY: a tokenizer.json, a SentencePiece .model, or a GGUF file with byte-level BPE.  COUNT texts for each: random Unicode,
every script, emoji with joiners, long runs, control characters, combining marks, code, numbers, special tokens, whole or in
part; where a known pre-tokenizer cuts for byte-level BPE, a tenth more with invalid UTF-8.  Prints one row per file, and exits with 1 if anything differs.  BUILD is the
build folder, whose test_token_golden reads texts, ids and what the reference decodes.  SHOW=1: the first texts that differ.

Invalid UTF-8: the package takes none.  Each maximal invalid part is cut into words like U+FFFD and spelled by its own bytes, so
the package cuts the text with U+FFFD there, and its model gets the words with the bytes in place.
"""
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import unicodedata

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as model_proto
from tokenizers import Tokenizer, normalizers, pre_tokenizers

import token_vectors as vectors

RUNS = ["a", " ", "\n", "=", "0", "é", "字", "!", "\u0301", "\t", "A", "か", "ا", "\U0001F600", "\u200d", "\u00a0", "\r\n", "'", "ab", "1 ",
        "가", "\u1100", "\u0e33", "🇮🇹", "ß", "\u2581", "_", "\u0000", "\ufffd"]
CODE = ["for (int i = 0; i < n; i++) {\n\treturn a[i] ^= 0xFFu;\n}\n", "def f(x):\n    return x**2  # ok\n", "<div class=\"a\">&amp;</div>\r\n",
        "SELECT * FROM t WHERE a='b''c';", "{\"k\": [1, -2.5e10, null]}", "#include <stdio.h>\n", "x = y?.z ?? \"\\u00e9\";", "$ ls -la | grep '^d' >>f\n",
        "\\frac{1}{2} \\alpha^{2}", "https://example.org/a_b?c=d%20e#f", "fn main() -> Result<(), E> {}", "    \t  if not x:\n\n\n        pass"]
NUMBERS = ["٠١٢٣٤٥٦٧٨٩", "०१२३४", "１２３４５６７", "Ⅷ", "²³¹", "½¾", "一二三", "𝟎𝟏𝟐", "1,234,567.89", "-0.5", "1e-9", "0x1F", "0123456789" * 4]
BAD = [b"\xff", b"\x80", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8", b"\xe2\x28"]
BATCH = 1000


def any_character(rng):
    c = rng.choice([rng.randrange(0x300), rng.randrange(0x3000), rng.randrange(0x10000), rng.randrange(0x20000), rng.randrange(0x110000)])
    return chr(c if not 0xd800 <= c < 0xe000 else 0xd7ff - c % 0x400)


def text(rng):
    r = rng.random()
    if r < 0.70:
        return vectors.text(rng)
    if r < 0.78:  # any assigned character of any script
        return "".join(chr(rng.choice(vectors.ASSIGNED)) for _ in range(rng.randint(1, 40)))
    if r < 0.84:  # one stretch of the code space
        first = rng.choice(vectors.ASSIGNED)
        return "".join(chr(rng.randint(first, min(first + 64, 0xd7ff) if first < 0xd800 else first + 64))
                       for _ in range(rng.randint(1, 30)))
    if r < 0.88:  # any character at all
        return "".join(any_character(rng) for _ in range(rng.randint(1, 30)))
    if r < 0.92:
        return "".join(rng.choice(CODE) for _ in range(rng.randint(1, 3)))
    if r < 0.94:
        return "".join(rng.choice(NUMBERS) + rng.choice(vectors.SPACES) for _ in range(rng.randint(1, 4)))
    if r < 0.96:
        return rng.choice("aé字\u05d0\u0e01") + "".join(chr(rng.choice(vectors.MARKS)) for _ in range(rng.randint(5, 120)))
    if r < 0.98:
        return "".join(chr(rng.randrange(0x20)) + rng.choice(["", "a", "\x7f", " "]) for _ in range(rng.randint(1, 20)))
    return rng.choice(RUNS) * rng.randint(50, 700) + rng.choice(["", "a", " x", "\n"])


# ---- The references: for texts, their ids and what those become ------------------------------------------------------

def newer(tokenizer):
    """What Python's older Unicode does not know, so perhaps not utf8proc, and the package takes for a part of \\w or makes small."""
    unknown = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) == "Cn"]
    found = set()
    if tokenizer.pre_tokenizer is not None and b'"Whitespace"' in tokenizer.pre_tokenizer.__getstate__():
        words = pre_tokenizers.Whitespace()
        found |= {c for c in unknown if len(words.pre_tokenize_str("a" + c)) == 1}
    if tokenizer.normalizer is not None and b"ower" in tokenizer.normalizer.__getstate__():
        small = normalizers.Lowercase()
        found |= {c for c in unknown if small.normalize_str(c) != c}
    return found


def is_scanned(pre):
    """Whether the pre-tokenizer needs no foreign expression: in one, an invalid part is a border, which the package cannot show."""
    stages = pre.get("pretokenizers", [pre])
    known = {e for of in vectors.SPLITS.values() for e in of}
    return all(s["type"] == "ByteLevel" or (s["type"] == "Split" and s["behavior"] == "Isolated" and s["pattern"].get("Regex") in known)
               for s in stages)


class Json:
    def __init__(self, path):
        if path.endswith(".gguf"):
            self.tokenizer, self.spelled, _ = vectors.gguf_tokenizer(path)
        else:
            self.tokenizer, self.spelled = Tokenizer.from_file(path), lambda string: string
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.added = {i: t.content for i, t in self.tokenizer.get_added_tokens_decoder().items()}
        pre = self.tokenizer.pre_tokenizer
        self.is_byte_level = pre is not None and b"ByteLevel" in pre.__getstate__()
        self.takes_bytes = self.is_byte_level and not path.endswith(".gguf") and is_scanned(json.loads(pre.__getstate__()))
        self.newer = newer(self.tokenizer)
        self.mangled = vectors.mangled(self.tokenizer)

    def is_settled(self, string):
        return self.newer.isdisjoint(string)

    def specials(self, rng):
        return rng.sample(sorted(self.added.values()), min(60, len(self.added)))

    def ids(self, strings):
        found = self.tokenizer.encode_batch([self.spelled(s) for s in strings], add_special_tokens=False)
        return [e.ids for e in found]

    def texts(self, lists):
        if self.tokenizer.decoder is None:
            return [None] * len(lists)
        back = self.tokenizer.decode_batch(lists, skip_special_tokens=False)
        return [None if self.mangled and self.mangled & set(ids) else text for ids, text in zip(lists, back)]

    def ids_of_bytes(self, data):
        """None where an added token is in the text."""
        parts, at = [], 0
        whole = data.decode("utf-8", "replace")
        for character in whole:
            good = character.encode()
            if data.startswith(good, at):
                parts.append(None)
                at += len(good)
                continue
            n = next((n for n in (1, 2, 3) if data[at:at + n].decode("utf-8", "replace") == "\ufffd"
                      and (at + n == len(data) or data[at:at + n + 1].decode("utf-8", "replace") != "\ufffd")), 1)
            parts.append(data[at:at + n])
            at += n
        bad = [p for c, p in zip(whole, parts) if c == "\ufffd"]
        if self.added.keys() & set(self.tokenizer.encode(whole, add_special_tokens=False).ids):
            return None
        normal = self.tokenizer.normalizer.normalize_str(whole) if self.tokenizer.normalizer else whole
        assert normal.count("\ufffd") == len(bad)
        ids, bad = [], iter(bad)
        mark = vectors.spell(b"\xef\xbf\xbd")
        for word, _ in self.tokenizer.pre_tokenizer.pre_tokenize_str(normal):
            word = re.sub(mark, lambda found: vectors.spell(next(bad) or b"\xef\xbf\xbd"), word)
            ids += [t.id for t in self.tokenizer.model.tokenize(word)]
        return ids


class Sentences:
    takes_bytes = False

    def __init__(self, path):
        self.model = sentencepiece.SentencePieceProcessor(model_file=path)
        self.unknown = self.model.unk_id()
        own = model_proto.ModelProto()
        own.ParseFromString(open(path, "rb").read())
        self.defines = any(p.type == p.USER_DEFINED for p in own.pieces)

    def is_settled(self, string):  # U+2581 in the text, which a user-defined piece takes for a space, is not one to us
        return not self.defines or "▁" not in string

    def specials(self, rng):
        return ["<tool>", "▁", "▁▁", "<0x41>"]

    def ids(self, strings):
        return self.model.encode(strings)

    def texts(self, lists):  # it writes an unknown token in a way of its own
        return [None if self.unknown in ids else self.model.decode(ids) for ids in lists]


# ---- The comparison --------------------------------------------------------------------------------------------------

def write_valid(out, reference, rng, count):
    for begin in range(0, count, BATCH):
        strings = []
        while len(strings) < min(BATCH, count - begin):
            string = text(rng)
            if reference.is_settled(string):
                strings.append(string)
        lists = reference.ids(strings)
        for string, ids, back in zip(strings, lists, reference.texts(lists)):
            out.write("ids %s %s\n" % (string.encode().hex() or "-", " ".join(map(str, ids))))
            if back is not None:
                out.write("text %s\n" % (back.encode().hex() or "-"))


def write_invalid(out, reference, rng, count):
    vectors.SPECIALS[:] = []
    while count:
        data = bytearray(text(rng).encode())
        for _ in range(rng.randint(1, 5)):
            at = rng.randint(0, len(data))
            data[at:at] = rng.choice(BAD)
        ids = reference.ids_of_bytes(bytes(data))
        if ids is None:
            continue
        out.write("ids %s %s\n" % (data.hex(), " ".join(map(str, ids))))
        count -= 1


def compare(build, count, path):
    rng = random.Random(11)
    reference = Sentences(path) if path.endswith(".model") else Json(path)
    vectors.SPECIALS[:] = reference.specials(rng)
    with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as out:
        write_valid(out, reference, rng, count)
        if reference.takes_bytes:
            write_invalid(out, reference, rng, count // 10)
    run = subprocess.run([os.path.join(build, "tests/text/test_token_golden"), path, out.name], capture_output=True, text=True,
                         errors="replace", env={**os.environ, "CMOCKA_MESSAGE_OUTPUT": "stdout"})
    os.unlink(out.name)
    found = re.search(r"(\d+) tokenised, (\d+) decoded, (\d+) differ, (\d+) refused", run.stdout + run.stderr)
    print("| %s | %s | %s | %s | %s |" % (os.path.basename(path), *(found.groups() if found else ("failed", "", "", run.stdout[-300:]))), flush=True)
    if (not found or found[3] != "0") and os.environ.get("SHOW"):
        print(run.stdout[:6000])
    return bool(found) and found[3] == "0"


def main(build, count, paths):
    print("| file | texts | decoded | differ | refused |\n|---|---|---|---|---|")
    same = [compare(build, count, path) for path in paths]
    raise SystemExit(not all(same))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
