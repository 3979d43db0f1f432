#!/bin/sh
# tidy.sh ROOT BUILD - what a reviewer would otherwise have to look for: arrows between rooms, banned calls, long files,
# names twice, paths of a machine, symbols without our prefix.
# SPDX-License-Identifier: Apache-2.0
set -u
LC_ALL=C
export LC_ALL
root=$1
build=$2
cd "$root" || exit 1
bad=0
checks=0
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# verdict TEXT: what stands in $work/found breaks the rule.
verdict() {
    checks=$((checks + 1))
    if [ -s "$work/found" ]; then
        echo "FAILED: $1"
        sed 's/^/    /' "$work/found" | head -40
        bad=$((bad + 1))
    else
        echo "ok      $1"
    fi
}

if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    git ls-files >"$work/files"
else
    find . -type f -not -path './build*' -not -path './.*' | sed 's,^\./,,' >"$work/files"
fi
grep -E '^(lib|app|include|examples)/.*\.[ch]$' "$work/files" >"$work/sources"
grep -E '^lib/.*\.[ch]$' "$work/sources" >"$work/lib"
[ "$(wc -l <"$work/lib")" -gt 40 ] || { echo "FAILED: the sources of lib/ are not found"; exit 1; }

# arrows FOLDER/ROOM ALLOWED...: prefixes a room may include; system headers and generated *.inc aside.
arrows() {
    room=$1
    shift
    grep "^$room/" "$work/sources" | xargs grep -nE '^ *# *include *"' >"$work/includes"
    cp "$work/includes" "$work/left"
    for allowed in "$@"; do
        grep -vE "\"$allowed\"" "$work/left" >"$work/next"
        mv "$work/next" "$work/left"
    done
    mv "$work/left" "$work/found"
    [ -s "$work/includes" ] || echo "no includes at all in $room" >"$work/found"
    verdict "$room includes only what it may"
}
public='aperto\.h'
arrows lib/base "$public" 'base/.*'
arrows lib/format "$public" 'base/.*' 'format/.*'
arrows lib/text "$public" 'base/.*' 'text/.*'
arrows lib/quant "$public" 'base/.*' 'format/.*' 'quant/.*'
arrows lib/kernel "$public" 'base/.*' 'format/.*' 'quant/.*' 'kernel/.*'
arrows lib/model "$public" 'base/.*' 'format/.*' 'quant/.*' 'kernel/.*' 'text/.*' 'model/.*'
arrows lib/engine "$public" 'base/.*' 'format/.*' 'quant/.*' 'kernel/.*' 'text/.*' 'model/.*' 'engine/.*'
arrows app/worker "$public" 'base/.*' 'worker/.*'
arrows app/store "$public" 'base/.*' 'worker/.*' 'store/.*'
arrows app/fetch "$public" 'base/.*' 'fetch/.*'
arrows app/serve "$public" 'base/.*' 'worker/.*' 'store/.*' 'serve/.*' '[a-z.]*\.inc'
arrows app/cli "$public" 'base/.*' 'worker/.*' 'store/.*' 'fetch/.*' 'serve/.*' 'cli/.*'

# The public header stands on its own, and a user needs nothing else.
grep -E '^(include|examples)/' "$work/sources" | xargs grep -nE '^ *# *include *("|<(base|format|text|quant|kernel|model|engine)/)' |
    grep -vE "^examples/.*\"$public\"" >"$work/found"
verdict "include/ and examples/ include nothing of ours but aperto.h"

# Calls that end the process, write without a bound, or hide errors.
banned='exit|_exit|abort|strcpy|strcat|stpcpy|sprintf|vsprintf|gets|atoi|atol|atoll|atof|alloca|rand|srand|random|system|popen|strtok|setjmp|longjmp'
xargs grep -nE "(^|[^A-Za-z0-9_])($banned) *\(" <"$work/lib" >"$work/found"
verdict "lib/ calls none of: $banned"
grep -v '^lib/base/alloc\.c$' "$work/lib" | xargs grep -nE '(^|[^A-Za-z0-9_])(malloc|calloc|realloc|free|aligned_alloc|strdup|strndup) *\(' >"$work/found"
verdict "lib/ allocates through base/alloc only"
# What the linker sees is the truth: macros and inlining do not hide a call.
libm='(a?(sin|cos|tan)h?|atan2|exp|exp2|exp10|expm1|log|log2|log10|log1p|pow|cbrt|hypot|erfc?|[lt]gamma|fmod|remainder|ldexp|frexp|modf|nearbyint|rint|lrint|llrint|round|lround|floor|ceil|trunc|fmin|fmax|fdim)[fl]?'
for room in kernel model engine quant; do
    for archive in "$build"/lib/$room/*.a; do
        nm -u "$archive" 2>/dev/null | sed -n 's/^ *U \([^@]*\).*/\1/p' | grep -xE "$libm" | sort -u | sed "s,^,${archive##*/}: ,"
    done
done >"$work/found"
verdict "no libm on the way from tokens to logits and back to tokens"
for archive in "$build"/lib/*/*.a; do
    nm -u "$archive" 2>/dev/null | sed -n 's/^ *U \([^@]*\).*/\1/p' | grep -xE "(__)?($banned)(_chk)?" | sort -u | sed "s,^,${archive##*/}: ,"
done >"$work/found"
verdict "the libraries of lib/ link to none of the banned calls"
for archive in "$build"/lib/*/*.a "$build"/app/*/*.a; do
    [ -f "$archive" ] || { echo "no archive $archive"; continue; }
    # Sanitizers and coverage add symbols of their own with two underscores.
    nm -g --defined-only "$archive" 2>/dev/null | awk 'NF == 3 {print $3}' | grep -vE '^(ap_|__|_G)' | sed "s,^,${archive##*/}: ,"
done >"$work/found"
verdict "external symbols start with ap_"

"$build/aperto" --help | sed -n 's/^  \([a-z]*\)  .*/\1/p' >"$work/commands"
[ -s "$work/commands" ] || echo "'aperto --help' lists no commands" >"$work/commands"
while read -r command; do
    grep -q "'$command'" docs/man/meson.build || echo "$command"
done <"$work/commands" >"$work/found"
verdict "each command has a manual page"

# Files.
grep -E '\.(c|h|py|sh|js|css|html)$' "$work/files" | while read -r file; do
    lines=$(wc -l <"$file")
    [ "$lines" -le 1000 ] || echo "$file: $lines lines"
done >"$work/found"
verdict "no source file over 1,000 lines"
grep -E '\.(c|h|py|sh|js|build)$' "$work/files" | grep -v 'meson\.build$' | xargs grep -L 'SPDX-License-Identifier: Apache-2.0' >"$work/found"
verdict "each source file names its licence"
grep -E '^(lib|app)/.*\.[ch]$' "$work/sources" | while read -r file; do
    # Each room with a program of its own has its main.c: the program and the worker process.
    [ "${file##*/}" = main.c ] || echo "${file##*/}"
done | sort | uniq -d >"$work/found"
verdict "no two source files of lib/ and app/ share a name"
# Written so that this file does not find itself.
xargs grep -nIE '/wor[k]/|/roo[t]/|/hom[e]/[a-z]|artifactor[y]|GOPROX[Y]|index-ur[l]|/simpl[e]/' <"$work/files" | cut -c1-160 >"$work/found"
verdict "no path of one machine and no host of one workplace"

echo "$checks checks, $bad failed"
[ $bad = 0 ]
