#!/bin/sh
# registry.sh - push and pull with Debian's docker-registry, run on a port of its own over a temporary folder.
# SPDX-License-Identifier: Apache-2.0
set -u
. "$(dirname "$0")/common.sh"
need_build
packages_install docker-registry || exit 1
python3 tests/fetch/test_docker_registry.py "$aperto" build-release/tests/make_tiny
