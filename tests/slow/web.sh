#!/bin/sh
# web.sh - the chat page in Debian's Chromium, headless, over a small model of random weights: with 64 layers it answers
# slowly enough to be stopped.
# SPDX-License-Identifier: Apache-2.0
set -u
. "$(dirname "$0")/common.sh"
need_build
packages_install chromium || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
build-release/tests/make_tiny "$work/slow.gguf" 8192 64 || exit 1
python3 tests/browser/test_page.py build-release/tests/app/serve_tiny "$work/slow.gguf"
