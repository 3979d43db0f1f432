#!/bin/sh
# clients.sh - the official openai package from PyPI, unmodified, against the server: with a
# tiny model of random weights, with one that calls tools, and (without --tiny) with the default model.
# SPDX-License-Identifier: Apache-2.0
set -u
. "$(dirname "$0")/common.sh"
need_build
need_python openai
failed=0
say "== a tiny model"
"$python" tests/clients/test_openai.py build-release/tests/app/serve_tiny || failed=1
say "== tools and reasoning"
telling=$(mktemp) || exit 1
build-release/tests/app/make_telling "$telling" &&
    "$python" tests/clients/test_tools.py build-release/tests/app/serve_tiny "$telling" || failed=1
rm -f "$telling"
[ "${1:-}" = --tiny ] && exit "$failed"
need_model
say "== the default model"
"$python" tests/clients/test_openai.py "$aperto" serve "$gguf" --port 0 || failed=1
exit "$failed"
