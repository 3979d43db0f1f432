#!/bin/sh
# bench.sh - our speed beside llama-cpp-python's (built for this CPU) on the same file with the same
# threads, in turns; writes bench/RESULTS.md.  ROUNDS (7) and THREADS (all) may be set.
# SPDX-License-Identifier: Apache-2.0
set -u
. "$(dirname "$0")/common.sh"
need_build
need_model
need_python numpy llama-cpp-python
python3 bench/side_by_side.py "$aperto" "$python" "$gguf" --rounds "${ROUNDS:-7}" --threads "${THREADS:-$(nproc)}"
