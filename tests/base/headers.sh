#!/bin/sh
# headers.sh ROOT CC... - every header of include/, lib/ and app/ compiles alone.
# SPDX-License-Identifier: Apache-2.0
root=$1
shift
cd "$root" || exit 1
bad=0
count=0
for header in include/*.h lib/*/*.h lib/*/*/*.h app/*/*.h; do
    [ -f "$header" ] || continue
    flags=
    case $header in
    lib/kernel/lanes_math.h) continue ;; # the second half of lanes_plain.h, lanes_avx2.h, lanes_avx512.h and lanes_neon.h
    lib/kernel/arm/*) [ "$(uname -m)" = aarch64 ] || continue ;;
    lib/kernel/x86/*avx512*) flags="-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mfma -mf16c" ;;
    lib/kernel/x86/*avx2*) flags="-mavx2 -mfma -mf16c" ;;
    esac
    count=$((count + 1))
    printf '#include "%s"\n' "$root/$header" |
        "$@" -std=gnu17 -D_GNU_SOURCE -Wall -Wno-unused-function -fsyntax-only -Iinclude -Ilib -Iapp $flags -x c - ||
        { echo "FAILED: $header does not compile alone"; bad=1; }
done
echo "$count headers"
[ "$count" -gt 20 ] && [ $bad = 0 ]
