#!/bin/sh
# compilers.sh [--quick] - the committed digests, reproduced by a library that gcc -O1, clang -O1 and
# clang -O3 have built (gcc -O3 is the build everyone has).  --quick: only on the best level of this CPU,
# whole prompts.  A build folder each, kept between runs.  A compiler that is not installed is skipped
# by name.
# SPDX-License-Identifier: Apache-2.0
set -u
cd "$(dirname "$0")/../.." || exit 1
. scripts/packages.sh
passed=0 failed=0 skipped=0
jobs=$(build_jobs)

# build FOLDER COMPILER LEVEL: the test and what it needs, nothing else.
build() {
    [ -f "$1/build.ninja" ] ||
        CC=$2 meson setup "$1" --werror --buildtype=release -Doptimization="$3" || return 1
    ninja -C "$1" -j "$jobs" tests/law/test_law
}

# Ninja may run this inside another build: its variables would reach the inner one.
unset MAKEFLAGS NINJA_STATUS CFLAGS LDFLAGS
for way in gcc:1 clang:1 clang:3; do
    compiler=${way%:*} level=${way#*:} folder=build-law-${way%:*}-O${way#*:}
    if ! command -v "$compiler" >/dev/null 2>&1; then
        say "skipped $compiler -O$level: $compiler is not installed"
        skipped=$((skipped + 1))
        continue
    fi
    log=$folder.log
    # shellcheck disable=SC2086
    if build "$folder" "$compiler" "$level" >"$log" 2>&1 &&
        timeout 1200 "$folder/tests/law/test_law" tests/law/digests.txt ${1:-} >"$log" 2>&1; then
        say "ok      $compiler -O$level: $(tail -1 "$log")"
        passed=$((passed + 1))
        rm -f "$log"
    else
        tail -15 "$log"
        say "FAILED  $compiler -O$level (the whole of it: $log)"
        failed=$((failed + 1))
    fi
done
say "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
