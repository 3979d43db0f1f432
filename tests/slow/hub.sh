#!/bin/sh
# hub.sh - the server that the tests of 'aperto pull' use, before the unmodified huggingface_hub from PyPI.
# SPDX-License-Identifier: Apache-2.0
set -u
. "$(dirname "$0")/common.sh"
need_python huggingface_hub
"$python" tests/fetch/test_hub_server.py
