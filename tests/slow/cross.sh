#!/bin/sh
# cross.sh - the law on machines that are not this one, under QEMU's user-mode emulation: older x86-64
# processors (levels they lack must not be chosen, the digests must hold) and 64-bit ARM; about a quarter of an hour.  The
# ARM libraries are unpacked into build-cache/; nothing is installed.  What this machine lacks the means for is skipped by
# name.
#
# Emulation takes some fifty times as long, so of most models only the first hundred positions are computed, and compared
# with those that this machine computes once its own digests are the committed ones.  Two models run whole, through two
# attention segments.
# SPDX-License-Identifier: Apache-2.0
set -u
. "$(dirname "$0")/common.sh"
passed=0 failed=0 skipped=0

# report NAME COMMAND…: runs it quietly, shows the end of what it said if it fails.
report() {
    name=$1
    shift
    if "$@" >"$cache/cross.log" 2>&1; then
        say "ok      $name"
        passed=$((passed + 1))
    else
        tail -15 "$cache/cross.log"
        say "FAILED  $name"
        failed=$((failed + 1))
    fi
}

skip() {
    say "skipped $1: $2"
    skipped=$((skipped + 1))
}

whole_cases="q4_k f32-odd-sizes-mqa"
short_digests=$cache/short_digests.txt

# law_here: this machine's digests are the committed ones; those of the first positions are kept for the others.
law_here() {
    build-release/tests/law/test_law tests/law/digests.txt --quick &&
        build-release/tests/law/test_law --print --short >"$short_digests"
}

# law_there EMULATOR TEST_LAW
law_there() {
    # shellcheck disable=SC2086
    timeout 900 $1 "$2" "$short_digests" --quick --short && timeout 900 $1 "$2" tests/law/digests.txt --quick $whole_cases
}

# has_levels EMULATOR PROGRAM LEVELS: what the program finds on that processor.
has_levels() {
    found=$(timeout 60 $1 "$2" version | sed -n 's/^CPU levels: //p')
    echo "found '$found', expected '$3'"
    [ "$found" = "$3" ]
}

need_build
report "this machine: law" law_here

# ---- older x86-64 processors ----

if [ "$(uname -m)" != x86_64 ]; then
    skip "x86-64" "this machine is $(uname -m)"
elif ! command -v qemu-x86_64-static >/dev/null 2>&1; then
    skip "x86-64" "install qemu-user-static"
else
    for cpu in "Nehalem:plain" "IvyBridge:plain" "max:avx2 plain"; do
        report "x86-64 ${cpu%%:*}: levels" has_levels "qemu-x86_64-static -cpu ${cpu%%:*}" "$aperto" "${cpu#*:}"
    done
    for cpu in Nehalem max; do
        report "x86-64 $cpu: law" law_there "qemu-x86_64-static -cpu $cpu" build-release/tests/law/test_law
    done
fi

# ---- 64-bit ARM ----

arm=$cache/aarch64

# The libraries and all they need, for ARM, out of Debian's archive into a folder; apt's own state is a copy.
unpack_arm() {
    [ -f "$arm/whole" ] && return
    rm -rf "$arm"
    mkdir -p "$arm/state/lists/partial" "$arm/cache/archives/partial" "$arm/root" && : >"$arm/status" || return 1
    for step in update "install -y --download-only --no-install-recommends libc6-dev libsodium-dev libutf8proc-dev libpcre2-dev libjansson-dev
        libmicrohttpd-dev libedit-dev libseccomp-dev libcurl4-openssl-dev nettle-dev libcmocka-dev"; do
        # shellcheck disable=SC2086
        apt-get -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State="$arm/state" -o Dir::State::status="$arm/status" \
            -o Dir::Cache="$arm/cache" -o APT::Sandbox::User= -o Debug::NoLocking=1 $step </dev/null || return 1
    done
    for package in "$arm"/cache/archives/*.deb; do
        dpkg-deb -x "$package" "$arm/root" || return 1
    done
    rm -rf "$arm/cache" "$arm/state"
    : >"$arm/whole"
}

build_arm() {
    cat >"$arm/cross.ini" <<END
[constants]
root = '$arm/root'
[binaries]
c = 'aarch64-linux-gnu-gcc'
ar = 'aarch64-linux-gnu-ar'
strip = 'aarch64-linux-gnu-strip'
pkgconfig = 'pkg-config'
exe_wrapper = ['qemu-aarch64-static', '-L', root]
[built-in options]
c_args = ['--sysroot=' + root]
c_link_args = ['--sysroot=' + root]
[properties]
sys_root = root
pkg_config_libdir = [root + '/usr/lib/aarch64-linux-gnu/pkgconfig', root + '/usr/share/pkgconfig']
[host_machine]
system = 'linux'
cpu_family = 'aarch64'
cpu = 'aarch64'
endian = 'little'
END
    [ -f build-aarch64/build.ninja ] || meson setup build-aarch64 --buildtype=release --cross-file "$arm/cross.ini" || return 1
    ninja -C build-aarch64 -j "$(build_jobs)"
}

if ! command -v aarch64-linux-gnu-gcc >/dev/null 2>&1 || ! command -v qemu-aarch64-static >/dev/null 2>&1; then
    skip "aarch64" "install gcc-aarch64-linux-gnu and qemu-user-static"
elif ! command -v apt-get >/dev/null 2>&1 || ! unpack_arm >"$cache/cross.log" 2>&1; then
    skip "aarch64" "the libraries for arm64 could not be fetched ($(tail -1 "$cache/cross.log"))"
else
    before=$failed
    report "aarch64: build" build_arm
    if [ "$failed" = "$before" ]; then
        for cpu in "cortex-a57:neon plain" "neoverse-n1:dotprod neon plain" "max:i8mm dotprod neon plain"; do
            report "aarch64 ${cpu%%:*}: levels" has_levels "qemu-aarch64-static -L $arm/root -cpu ${cpu%%:*}" build-aarch64/aperto "${cpu#*:}"
        done
        report "aarch64: law" law_there "qemu-aarch64-static -L $arm/root" build-aarch64/tests/law/test_law
        export APERTO_TEST_SLOWNESS=50
        # Not the compiler's own look at the headers, nor tests that take emulation too long.
        tests=$(meson test -C build-aarch64 --list 2>/dev/null | sed -n '/slow\|headers\|attention\|jinja$\|golden/d; s/^aperto:\(base\|format\|text\|quant\|kernel\) \/ //p')
        for test in $tests; do
            report "aarch64: $test" meson test -C build-aarch64 --no-rebuild --timeout-multiplier 10 "$test"
        done
    fi
fi

say "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
