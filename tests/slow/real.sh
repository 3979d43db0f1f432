#!/bin/sh
# real.sh TESTDATA - real weights against an outside reference: SmolLM2-135M on the first
# 20,000 tokens of WikiText-2, ours against llama-cpp-python on the same file and
# against our own float path on the decoded weights (smollm2_results.md has the figures and why
# the gates are what they are).  About ten minutes on two quiet cores.
# SPDX-License-Identifier: Apache-2.0
set -u
testdata=${1:-}
. "$(dirname "$0")/common.sh"
[ -d "$testdata/eval/wikitext-2-raw" ] || {
    say "skipped: real weights (give the test data folder: make test-real TESTDATA=…)"
    exit 0
}
testdata=$(cd "$testdata" && pwd)
need_build
need_model

# The law on real weights: one digest of all logits for 1,100 ids (two attention segments), whatever the
# CPU level, the threads and the cut of the prompt.  Chunks are tried on the best level.
law_holds() {
    want=$(cat tests/law/smollm2.txt)
    awk 'BEGIN { for (i = 0; i < 1100; i++) printf "%s%d", i ? "," : "", (i * 7919 + i * i * 31 + 11) % 49152 }' \
        >"$cache/law_ids.txt"
    levels=$("$aperto" version | sed -n 's/^CPU levels: //p')
    [ -n "$levels" ] || return 1
    for level in $levels; do
        set -- "$@" "--isa $level --threads 2"
    done
    for threads in 1 2 3; do
        for chunk in "" "--chunk 1" "--chunk 7" "--chunk 64"; do
            set -- "$@" "--threads $threads $chunk"
        done
    done
    wrong=0
    for way in "$@"; do
        # shellcheck disable=SC2086
        got=$(timeout 900 "$aperto" logits "$gguf" --file "$cache/law_ids.txt" --all --digest $way)
        [ "$got" = "$want" ] && continue
        say "FAILED $way: gives '$got', committed is $want"
        wrong=$((wrong + 1))
    done
    say "law on real weights: $(($# - wrong)) passed, $wrong failed"
    [ "$wrong" = 0 ]
}
say "== the law of same bits"
law_holds || exit 1

need_python numpy llama-cpp-python
tool=build-release/tests/golden/compare
"build-release/tests/golden/import_tool" "$gguf" "$cache/smollm2.aperto" || exit 1
"build-release/tests/golden/import_tool" --float "$gguf" "$cache/smollm2-f32.aperto" || exit 1
windows=tests/golden/smollm2_windows.py
say "== against llama-cpp-python"
"$python" $windows "$gguf" "$testdata/eval/wikitext-2-raw" 2>/dev/null | "$tool" "$cache/smollm2.aperto" >"$cache/peer.json" || exit 1
cat "$cache/peer.json"
say "== against our own float path"
"$python" $windows "$gguf" "$testdata/eval/wikitext-2-raw" --no-logits 2>/dev/null |
    "$tool" "$cache/smollm2.aperto" --float "$cache/smollm2-f32.aperto" >"$cache/float.json" || exit 1
cat "$cache/float.json"
python3 - "$cache/peer.json" "$cache/float.json" <<'EOF'
import json, sys
peer, own = (json.load(open(path)) for path in sys.argv[1:])
checks = [
    ("negative log-likelihood within 0.2% of the peer's", abs(peer["nll_ratio"] - 1) <= 0.002),
    ("mean KL divergence from the peer at most 0.0045", peer["kl_mean"] <= 0.0045),
    ("equal top choice in at least 95.5%", peer["top1"] >= 0.955),
    ("mean KL divergence from our float path at most 0.002", own["kl_mean"] <= 0.002),
    ("equal top choice as our float path in at least 97%", own["top1"] >= 0.97),
]
for text, good in checks:
    print("ok    " if good else "FAILED", text)
failed = sum(not good for _, good in checks)
print(f"{len(checks) - failed} passed, {failed} failed")
sys.exit(failed != 0)
EOF
