"""Tokenising beside the PyPI package `tokenizers`, in turns, on one thread: the table of bench/LOG.md.

    tokenize.py BUILD TEXT TOKENIZER.json...

Each round times both over the whole text as one string; the best of five rounds counts.

SPDX-License-Identifier: Apache-2.0
"""
import os
import subprocess
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Tokenizer  # noqa: E402


def main(build, path, files):
    text = open(path, encoding="utf-8", newline="").read()
    print("| vocabulary | Aperto | tokenizers | ratio |\n|---|---|---|---|")
    for file in files:
        t = Tokenizer.from_file(file)
        t.no_truncation()
        t.no_padding()
        ours = theirs = 1e9
        for _ in range(5):
            out = subprocess.run([os.path.join(build, "bench/bench_tokenize"), file, path, "3"], capture_output=True, text=True)
            if out.returncode:
                print("| %s | refused: %s | | |" % (file, out.stderr.strip()))
                break
            ids, seconds = out.stdout.split()
            ours = min(ours, float(seconds))
            start = time.perf_counter()
            encoded = t.encode(text, add_special_tokens=False)
            theirs = min(theirs, time.perf_counter() - start)
            assert len(encoded.ids) == int(ids), (file, len(encoded.ids), ids)
        else:
            print("| %s | %.4f s | %.3f s | %.1f |" % (file, ours, theirs, theirs / ours), flush=True)


main(sys.argv[1], sys.argv[2], sys.argv[3:])
