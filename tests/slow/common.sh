# common.sh - what the slow suites share: a cached default model and a Python
# environment, both outside the source tree's history (build-cache/).
# SPDX-License-Identifier: Apache-2.0
cd "$(dirname "$0")/../.." || exit 1
. scripts/packages.sh
. scripts/model.sh
cache=$PWD/build-cache
mkdir -p "$cache"
export APERTO_DATA="$cache/data"

gguf=$cache/SmolLM2-135M-Instruct.Q4_1.gguf

need_build() {
    # shellcheck disable=SC2086
    packages_install $PACKAGES_BUILD libcmocka-dev || exit 1
    [ -f build-release/build.ninja ] || meson setup build-release --buildtype=release >/dev/null || exit 1
    ninja -C build-release -j "$(build_jobs)" >"$cache/ninja.log" 2>&1 || {
        tail -20 "$cache/ninja.log" >&2
        exit 1
    }
    aperto=$PWD/build-release/aperto
}

need_model() {
    [ -f "$gguf" ] && return
    # shellcheck disable=SC2086
    packages_install $PACKAGES_FETCH || exit 1
    work=$(mktemp -d) || exit 1
    model_fetch "$work" && mv "$work/$MODEL_FILE" "$gguf" || {
        rm -rf "$work"
        exit 1
    }
    rm -rf "$work"
}

# need_python PACKAGE[==VERSION]…: a virtual environment with them; its interpreter is $python.
need_python() {
    python=$cache/venv/bin/python
    [ -x "$python" ] || {
        packages_install python3-venv || exit 1
        python3 -m venv "$cache/venv" || exit 1
    }
    for package in "$@"; do
        "$python" - "$package" 2>/dev/null <<'EOF' && continue
import importlib.metadata, sys
name, _, version = sys.argv[1].partition("==")
sys.exit(importlib.metadata.version(name) != (version or importlib.metadata.version(name)))
EOF
        case $package in
        llama-cpp-python*) packages_install g++ || exit 1 ;; # it is compiled for this CPU
        esac
        say "installing $package …"
        CMAKE_ARGS="-DGGML_NATIVE=ON" "$python" -m pip install -q "$package" || exit 1
    done
}
