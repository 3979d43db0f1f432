"""Tokenising beside the PyPI package `tokenizers`, in turns, on one thread: the table of bench/LOG.md.

    tokenize.py BUILD TEXT TOKENIZER.json...

Seven turns (ROUNDS) per vocabulary; in each both start a new process, take the whole text as one string, which is the first
call, and then again a few times.  The first call of `tokenizers` finds its table of words empty and its later ones find it full;
ours begins with an empty one each time.  Processor time; medians, and the median of the turns' ratios with the least.

SPDX-License-Identifier: Apache-2.0
"""
import os
import statistics
import subprocess
import sys
import time

CALLS = 3  # after the first
ONE_THREAD = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}


def reference(file, path):
    """What bench_tokenize prints, of the package."""
    from tokenizers import Tokenizer
    text = open(path, encoding="utf-8", newline="").read()
    t = Tokenizer.from_file(file)
    t.no_truncation()
    t.no_padding()
    taken = []
    for _ in range(1 + CALLS):
        start = time.process_time()
        encoded = t.encode(text, add_special_tokens=False)
        taken.append(time.process_time() - start)
    print(len(encoded.ids), taken[0], statistics.median(taken[1:]))


def run(*command):
    out = subprocess.run(command, capture_output=True, text=True, env=ONE_THREAD)
    if out.returncode:
        raise SystemExit(" ".join(command) + ": " + out.stderr.strip())
    ids, first, later = out.stdout.split()
    return int(ids), float(first), float(later)


def main(build, path, files):
    rounds = int(os.environ.get("ROUNDS", "7"))
    print("| vocabulary | Aperto, first call | tokenizers, first call | ratio (least) | Aperto, later | tokenizers, later | ratio (least) |")
    print("|---|---|---|---|---|---|---|")
    for file in files:
        turns = []
        for _ in range(rounds):
            ours = run(os.path.join(build, "bench/bench_tokenize"), file, path, str(CALLS))
            theirs = run(sys.executable, __file__, "--reference", file, path)
            assert ours[0] == theirs[0], (file, ours[0], theirs[0])
            turns.append((*ours[1:], *theirs[1:]))
        row = [os.path.basename(file).removesuffix(".json")]
        for a, b in ((0, 2), (1, 3)):
            ratios = [t[b] / t[a] for t in turns]
            row += ["%.4f s" % statistics.median(t[a] for t in turns), "%.3f s" % statistics.median(t[b] for t in turns),
                    "%.1f (%.1f)" % (statistics.median(ratios), min(ratios))]
        print("| " + " | ".join(row) + " |", flush=True)


if sys.argv[1] == "--reference":
    reference(*sys.argv[2:])
else:
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
