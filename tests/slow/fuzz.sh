#!/bin/sh
# fuzz.sh [NAME…] - libFuzzer with address and undefined behaviour sanitizers, FUZZ_SECONDS (60) for each target, from a
# fresh copy of its corpus.  What breaks a target stays in build-fuzz/found/NAME.
# SPDX-License-Identifier: Apache-2.0
set -u
cd "$(dirname "$0")/../.." || exit 1
. scripts/packages.sh
if ! command -v clang >/dev/null; then
    say "skipped: fuzzing needs clang"
    exit 0
fi
[ -f build-fuzz/build.ninja ] ||
    CC=clang meson setup build-fuzz --buildtype=debugoptimized -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false >/dev/null || exit 1
targets=${*:-$(sed -n "s/^  '\([a-z0-9_]*\)': {'deps'.*/\1/p" tests/fuzz/meson.build)}
programs=
for name in $targets; do programs="$programs tests/fuzz/libfuzzer_$name"; done
# shellcheck disable=SC2086
ninja -C build-fuzz -j "$(build_jobs)" $programs >build-fuzz/ninja.log 2>&1 || {
    tail -20 build-fuzz/ninja.log >&2
    exit 1
}
failed=0
for name in $targets; do
    found=build-fuzz/found/$name/
    work=$(mktemp -d) || exit 1
    mkdir -p "$found"
    cp tests/fuzz/corpus/"$name"/* "$work" || exit 1
    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 build-fuzz/tests/fuzz/libfuzzer_"$name" -max_total_time="${FUZZ_SECONDS:-60}" \
        -timeout=10 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 -artifact_prefix="$found" "$work" >"build-fuzz/$name.log" 2>&1
    status=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "build-fuzz/$name.log")
    if [ $status = 0 ]; then
        say "ok     $name: ${runs:-0} inputs"
    else
        say "FAILED $name after ${runs:-?} inputs: build-fuzz/$name.log, input in $found"
        failed=1
    fi
    rm -rf "$work"
done
exit $failed
