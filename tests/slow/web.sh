#!/bin/sh
# web.sh - the chat page in Debian's Chromium, headless, over a tiny model of random weights.
# SPDX-License-Identifier: Apache-2.0
set -u
. "$(dirname "$0")/common.sh"
need_build
python3 tests/browser/test_page.py build-release/tests/app/serve_tiny
