#!/bin/sh
# peers.sh [NAME…] - every golden decoder as a GGUF file of `aperto convert` in llama-cpp-python: the logits agree, but for what
# docs/convert.md says of it.
# SPDX-License-Identifier: Apache-2.0
set -u
. "$(dirname "$0")/common.sh"
need_build
need_python numpy llama-cpp-python==0.3.36
"$python" tests/golden/peers.py "$aperto" build-release/tests/golden/peer_logits "$@"
