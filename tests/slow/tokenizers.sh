#!/bin/sh
# tokenizers.sh - ids and decoded texts of COUNT (100000) generated texts per vocabulary against the PyPI packages `tokenizers`
# and `sentencepiece`: every pre-tokenizer and kind of vocabulary, small ones trained here; and the real ones named as
# arguments (tokenizer.json, SentencePiece .model, GGUF).
# SPDX-License-Identifier: Apache-2.0
set -u
. "$(dirname "$0")/common.sh"
need_build
ninja -C build-release tests/text/test_token_golden >>"$cache/ninja.log" 2>&1 || exit 1
need_python tokenizers sentencepiece gguf
rm -rf "$cache/tokenizers"
"$python" tests/golden/token_families.py "$cache/tokenizers" || exit 1
"$python" tests/golden/tokens_compare.py build-release "${COUNT:-100000}" "$cache"/tokenizers/* tests/text/data/tokenizers/*.json \
    tests/text/data/tokenizers/*.model "$@"
