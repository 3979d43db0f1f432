#!/bin/sh
# sanitizers.sh [TESTDATA] - the quick tests in three more ways; ./check has AddressSanitizer and UndefinedBehaviorSanitizer.
#
#   MemorySanitizer   the rooms of lib/ (needs clang): no byte decides anything before it was written
#   NDEBUG            everything, built without assertions: no check of a stranger's input may be one
#   valgrind          the rooms of lib/, as released; not what takes it too long
#
# About fifteen minutes on two cores.  A way whose tool is not installed is skipped by name.
# SPDX-License-Identifier: Apache-2.0
set -u
data=
if [ -n "${1:-}" ]; then
    data=$(cd "$1" && pwd) || exit 2
fi
cd "$(dirname "$0")/../.." || exit 1
. scripts/packages.sh
jobs=$(build_jobs)
passed=0 failed=0 skipped=0
rooms="base format text quant kernel model engine fuzz"

# prepare FOLDER OPTION…: a build folder with these options; $CC as given.
prepare() {
    folder=$1
    shift
    [ -f "$folder/build.ninja" ] || meson setup "$folder" --werror "$@" >"$folder.log" 2>&1 || return 1
    rm -f "$folder.log"
    meson configure "$folder" -Dtestdata="$data" && ninja -C "$folder" -j "$jobs"
}

# way NAME COMMAND…: counts, and shows the tests that failed.
way() {
    name=$1
    shift
    say "== $name"
    if "$@"; then
        passed=$((passed + 1))
    else
        say "FAILED  $name"
        failed=$((failed + 1))
    fi
}

skip() {
    say "skipped $1: install $2"
    skipped=$((skipped + 1))
}

# run FOLDER OPTION…: the quick tests of the rooms that these options leave.
run() {
    folder=$1
    shift
    meson test -C "$folder" --no-rebuild --no-suite slow --no-suite law --print-errorlogs --num-processes "$jobs" \
        --timeout-multiplier 10 "$@"
}

of_rooms() {
    for room in $rooms; do printf ' --suite %s' "$room"; done
}

with_msan() {
    CC=clang prepare build-msan --buildtype=debugoptimized -Db_sanitize=memory -Db_lundef=false >build-msan.log 2>&1 &&
        clang -shared -fPIC -O1 -Wall -Werror -o build-msan/msan_libraries.so tests/slow/msan_libraries.c -ldl || {
        tail -20 build-msan.log
        return 1
    }
    rm -f build-msan.log
    # shellcheck disable=SC2046
    MSAN_OPTIONS=allocator_may_return_null=1 APERTO_TEST_SLOWNESS=10 \
        run build-msan --wrapper "env LD_PRELOAD=$PWD/build-msan/msan_libraries.so" $(of_rooms)
}

with_ndebug() {
    prepare build-ndebug --buildtype=release -Db_ndebug=true >build-ndebug.log 2>&1 || {
        tail -20 build-ndebug.log
        return 1
    }
    rm -f build-ndebug.log
    run build-ndebug
}

# Not the compiler's look at the headers, nor what takes valgrind hours, nor the modes of rounding, which it does not have.
with_valgrind() {
    prepare build-release --buildtype=release >build-valgrind.log 2>&1 || {
        tail -20 build-valgrind.log
        return 1
    }
    rm -f build-valgrind.log
    # shellcheck disable=SC2046
    tests=$(meson test -C build-release --no-rebuild --list $(of_rooms) --no-suite slow 2>/dev/null |
        sed -n 's/^aperto:[a-z+]* \/ //p' | grep -vxE 'headers|attention|dispatch|engine|kcheck')
    # shellcheck disable=SC2086
    APERTO_TEST_SLOWNESS=100 run build-release --wrapper \
        "valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite" $tests
}

if command -v clang >/dev/null 2>&1; then way MemorySanitizer with_msan; else skip MemorySanitizer clang; fi
way NDEBUG with_ndebug
if command -v valgrind >/dev/null 2>&1; then way valgrind with_valgrind; else skip valgrind valgrind; fi
say "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
