"""Every decoder of golden/arch as a GGUF file of ours in llama-cpp-python: do the logits agree?

    peers.py APERTO PEER_LOGITS [NAME…]

Bound: the reference's own float32 run is at most 5e-6 of the largest logit away from float64 (golden/README.md); two
programs that are each as far off twice over differ by 2e-5.

Where the peer is known to compute something else, EXCEPTIONS names what, as habits of peer_logits.c: without them ours
must disagree, with all of them agree, and with one of them left out disagree again.  So an exception is proved, and
noticed when it ends.  A habit with the table of GELU has a second bound: where an input lies next to the border of two
entries, both programs may take different ones; neighbours are 2^-10 apart.  Half of all rows have no such input.

Needs numpy and llama-cpp-python.  SPDX-License-Identifier: Apache-2.0
"""
import ctypes
import json
import pathlib
import subprocess
import sys
import tempfile

import llama_cpp
import numpy

TOLERANCE, TABLE_STEP = 2e-5, 2.0**-10
LEVEL_ERROR = 4  # GGML_LOG_LEVEL_ERROR
GELU, SCALE = "gelu-from-table", "scores-by-head-width"
NOT_LOADED = None
EXCEPTIONS = {
    "bloom": [GELU],
    "falcon_11b": [GELU],
    "falcon_40b": [GELU],
    "falcon_7b": [GELU],
    "falcon_rw": NOT_LOADED,  # its loader knows no biases of matrices in Falcon, its graph no ALiBi
    "gemma": [GELU],
    "gemma2": [GELU, SCALE],
    "gemma3": [GELU, SCALE],
    "gpt2": [GELU],
    "gpt_neox": [GELU],
    "gpt_neox_sequential": [GELU],
    "gpt_oss": ["ramp-in-whole-pairs"],
    "mistral_window": ["every-layer-sees-all"],
    "phi3": ["every-layer-sees-all"],
    "phi3_longrope": ["context-of-256"],
    "qwen2_window": ["every-layer-sees-all"],
    "qwen3_moe_unnormed": ["experts-weigh-one"],
}

said = []


@llama_cpp.llama_log_callback
def keep_error(level, text, data):
    if level == LEVEL_ERROR:
        said.append(text.decode(errors="replace").strip())


def peer_logits(path, prompts):
    """Rows of all prompts; None if the file is refused."""
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        return None
    vocab_count = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    rows = []
    for prompt in prompts:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = prompt.get("context", 256)
        params.n_batch = params.n_ubatch = 512
        params.type_k = params.type_v = 0  # F32
        params.flash_attn_type = 0
        params.n_threads = params.n_threads_batch = 1
        context = llama_cpp.llama_init_from_model(model, params)
        tokens = prompt["tokens"]
        batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, i, 1, 0, 1
        assert llama_cpp.llama_decode(context, batch) == 0
        rows += [numpy.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, i), shape=(vocab_count,)).copy()
                 for i in range(len(tokens))]
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return numpy.array(rows)


def our_logits(tool, path, record, habits):
    raw = subprocess.run([tool, path, record, *habits], check=True, stdout=subprocess.PIPE).stdout
    return numpy.frombuffer(raw, numpy.float32)


def distances(ours, peer, prompts):
    """Of every row, relative to the largest logit of its prompt."""
    ours, at, found = ours.reshape(peer.shape), 0, []
    for prompt in prompts:
        rows = slice(at, at + len(prompt["tokens"]))
        found.append(numpy.abs(ours[rows] - peer[rows]).max(axis=1) / numpy.abs(peer[rows]).max())
        at = rows.stop
    return numpy.concatenate(found)


def agree(habits, rows):
    if GELU in habits:
        return numpy.median(rows) <= TOLERANCE and rows.max() <= TABLE_STEP
    return rows.max() <= TOLERANCE


def judge(aperto, tool, folder, work):
    path, record = work / f"{folder.name}.gguf", folder / "record.json"
    prompts = json.loads(record.read_text())["prompts"]
    habits = EXCEPTIONS.get(folder.name, [])
    subprocess.run([aperto, "convert", folder, path], check=True, stdout=subprocess.DEVNULL)
    said.clear()
    peer = peer_logits(path, prompts)
    if peer is None:
        return habits is NOT_LOADED, f"the peer does not load it: {said[0] if said else 'no reason'}"
    if habits is NOT_LOADED:
        return False, "the peer loads it now"
    rows = distances(our_logits(tool, path, record, habits), peer, prompts)
    text = f"{rows.max():.1e}, median {numpy.median(rows):.1e}" + "".join(f", {habit}" for habit in habits)
    if not agree(habits, rows):
        return False, text
    for habit in habits:
        fewer = [other for other in habits if other != habit]
        rows = distances(our_logits(tool, path, record, fewer), peer, prompts)
        if agree(fewer, rows):
            return False, f"{text}; without {habit} it agrees as well ({rows.max():.1e})"
    return True, text


llama_cpp.llama_log_set(keep_error, ctypes.c_void_p(0))
llama_cpp.llama_backend_init()
aperto, tool, *names = sys.argv[1:]
folders = [f for f in sorted((pathlib.Path(__file__).parent / "arch").iterdir()) if (f / "record.json").exists()]
folders = [f for f in folders if "hidden" not in json.loads((f / "record.json").read_text())["prompts"][0]]
unknown = set(EXCEPTIONS) - {f.name for f in folders}
assert not unknown, f"exceptions of no folder: {unknown}"
failed = 0
with tempfile.TemporaryDirectory() as work:
    for folder in folders:
        if names and folder.name not in names:
            continue
        good, text = judge(aperto, tool, folder, pathlib.Path(work))
        failed += not good
        print("ok    " if good else "FAILED", f"{folder.name}: {text}", flush=True)
print(f"{failed} failed")
sys.exit(failed != 0)
