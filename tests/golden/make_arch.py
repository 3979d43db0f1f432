#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden/arch/NAME/: tiny models of every family, and what the reference implementation computes for them.

    python3 tests/golden/make_arch.py [NAME…]            makes them anew (all, without a name)
    python3 tests/golden/make_arch.py --check [NAME…]    runs the committed folders again and compares

README.md beside this file says what a folder holds and which packages are needed.

The reference runs in float64 throughout: where its code turns to float32 (norms, softmax, rotary angles, router) that
is answered with float64, so that a record holds the meaning of a model and no rounding.  Weights are drawn so that
attention is peaked and nothing is idle; each feature of a family is flipped once, and a golden in which a flip moves
no logit by MOVED is refused: it could not see that feature break.
"""
import contextlib
import copy
import hashlib
import json
import os
import pathlib
import random
import re
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import numpy as np
import safetensors.torch
import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

ARCH = pathlib.Path(__file__).resolve().parent / "arch"
TOLERANCE = 2e-5        # of the test that reads the records, relative to the largest |logit|
MOVED = 100 * TOLERANCE  # what a flipped feature must change
GAP = 10 * TOLERANCE    # between the largest logit and the next, at every position
DRIFT = TOLERANCE / 4   # of the reference's own float32 run: a model that drifts more is no test of anything
SEEDS = 40              # tried in order until the two above hold
LENGTHS = (1, 7, 40)
VOCAB = 72

# ---- Running the reference ----


@contextlib.contextmanager
def float64():
    """Within, all floats of the reference are float64, also those it asks to be float32."""
    saved = torch.float32, torch.float, torch.Tensor.float
    torch.set_default_dtype(torch.float64)
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = saved
        torch.set_default_dtype(torch.float32)


def model_class(config):
    return getattr(transformers, config["architectures"][0])


def build(config, tensors=None):
    """A model in the default float type; `config` as in config.json, `tensors` by the names of its state."""
    known = CONFIG_MAPPING[config["model_type"]].from_dict(copy.deepcopy(config))
    known._attn_implementation = "eager"
    known._experts_implementation = "eager"
    model = model_class(config)(known).eval()
    if tensors is not None:
        state = model.state_dict()
        model.load_state_dict({k: v.to(state[k].dtype) for k, v in tensors.items() if k in state})
    return model


@torch.no_grad()
def run(model, prompts):
    """What is compared: logits of every position; of an encoder, its last hidden state and the head's logits."""
    answers = []
    for tokens in prompts:
        answer = model(input_ids=torch.tensor([tokens]), use_cache=False)
        answers.append({"logits": answer.logits[0].double().numpy()})
    return answers


def compute(config, tensors, prompts):
    with float64():
        return run(build(config, tensors), prompts)


def change(a, b):
    """The largest difference, relative to the largest value; the worst over what is recorded."""
    worst = 0
    for key in a[0]:
        largest = max(np.abs(x[key]).max() for x in a)
        worst = max(worst, max(np.abs(x[key] - y[key]).max() for x, y in zip(a, b)) / largest)
    return float(worst)


# ---- Weights ----

def draw(name, shape, key):
    digest = hashlib.sha256(f"{key}/{name}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little"))).standard_normal(shape)


NORM = r"(norm\w*|ln_\w+|layernorm)\.weight$"
PEAKED = r"(q_proj|k_proj|query_key_value|qkv_proj|c_attn|Wqkv|query|key)\.weight$"

# Patterns of names, and (mean, deviation); a deviation of a matrix is divided by the root of its inputs.
FILL = [
    (r"(q_norm|k_norm)\.weight$", 1.6, 0.4),
    (NORM, 1.0, 0.3),
    (r"bias$", 0.0, 0.3),
    (r"(embed|wte|wpe|emb)\w*\.weight$", 0.0, 1.0),
    (PEAKED, 0.0, 1.7),
    (r"", 0.0, 1.0),
]
EMBEDDING = r"(embed|wte|wpe|emb)\w*\.weight$"


def inputs_of(name, shape):
    if len(shape) < 2 or re.search(EMBEDDING, name):
        return 1
    is_stored_in_out = re.search(r"c_attn|c_proj|c_fc|experts\.(gate_up|down)_proj$", name)
    return shape[-2] if is_stored_in_out else shape[-1]


def fill(model, spec, key):
    rules = spec.get("fill", []) + FILL
    with torch.no_grad():
        for name, p in model.named_parameters():
            pattern, mean, deviation = next(r for r in rules if re.search(r[0], name))
            values = mean + deviation / np.sqrt(inputs_of(name, p.shape)) * draw(name, tuple(p.shape), key)
            p.copy_(torch.from_numpy(values.astype(np.float32)))


# ---- Flips: what a feature is changed to, as functions of (config, tensors) ----

def setting(**values):
    def flip(config, tensors):
        config.update(values)
    return flip


def setting_in(outer, **values):
    def flip(config, tensors):
        config[outer].update(values)
    return flip


def without(*names):
    def flip(config, tensors):
        for name in names:
            config.pop(name)
    return flip


def times(key, factor):
    def flip(config, tensors):
        config[key] *= factor
    return flip


def filled(pattern, value):
    def flip(config, tensors):
        found = [k for k in tensors if re.search(pattern, k)]
        assert found, pattern
        for k in found:
            tensors[k] = torch.full_like(tensors[k], value)
    return flip


def permuted(pattern, order):
    """Rows in another order; order(config, row count) gives it."""
    def flip(config, tensors):
        found = [k for k in tensors if re.search(pattern, k)]
        assert found, pattern
        for k in found:
            tensors[k] = tensors[k][order(config, len(tensors[k]))]
    return flip


def both(*flips):
    def flip(config, tensors):
        for f in flips:
            f(config, tensors)
    return flip


def other_groups(config, rows):
    """Query head h as if it read KV head h mod Hkv."""
    kv, heads = config["num_key_value_heads"], config["num_attention_heads"]
    width = rows // heads
    to = [(h % kv) * (heads // kv) + h // kv for h in range(heads)]
    return torch.cat([torch.arange(width) + width * h for h in to])


def other_pairs(config, rows):
    """Rotary halves of 16-wide heads as neighbours."""
    row = torch.arange(rows)
    return row // 16 * 16 + row % 2 * 8 + row % 16 // 2


def swap_columns_too(config, tensors):
    """The columns of the matrix behind attention, in the order other_groups gives its heads."""
    for k in [k for k in tensors if re.search(r"o_proj\.weight$", k)]:
        tensors[k] = tensors[k][:, other_groups(config, tensors[k].shape[1])]


def head_is_embedding(config, tensors):
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]


GQA = both(permuted(r"q_proj\.(weight|bias)$", other_groups), swap_columns_too)
PAIRS = permuted(r"(q_proj|k_proj)\.(weight|bias)$", other_pairs)

# ---- The families ----

SMALL = dict(hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
             vocab_size=VOCAB, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, torch_dtype="float32")
LLAMA = dict(SMALL, architectures=["LlamaForCausalLM"], model_type="llama", head_dim=16, hidden_act="silu",
             rms_norm_eps=2e-3, rope_theta=1000.0, attention_bias=False, mlp_bias=False, tie_word_embeddings=True)
ROTARY = {"theta": times("rope_theta", 10), "pairs": PAIRS}
LLAMA_FLIPS = {"eps": times("rms_norm_eps", 10), "norms": filled(NORM, 1), "gqa": GQA, **ROTARY}
ALL_BIASES = {"q_bias": filled(r"q_proj\.bias$", 0), "k_bias": filled(r"k_proj\.bias$", 0),
              "v_bias": filled(r"v_proj\.bias$", 0)}
WINDOW = {"window": setting(sliding_window=None), "window_edge": setting(sliding_window=10)}

FAMILIES = {
    "llama": {
        "config": LLAMA,
        "flips": {**LLAMA_FLIPS, "activation": setting(hidden_act="gelu")},
    },
    "llama_untied_bias": {
        "config": dict(LLAMA, tie_word_embeddings=False, attention_bias=True, mlp_bias=True),
        "flips": {**LLAMA_FLIPS, **ALL_BIASES, "o_bias": filled(r"o_proj\.bias$", 0),
                  "gate_bias": filled(r"gate_proj\.bias$", 0), "up_bias": filled(r"up_proj\.bias$", 0),
                  "down_bias": filled(r"down_proj\.bias$", 0), "untied": head_is_embedding},
    },
    "llama_rope_llama3": {
        "config": dict(LLAMA, rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                                original_max_position_embeddings=32)),
        "flips": {**LLAMA_FLIPS, "scaling": setting(rope_scaling=None), "factor": setting_in("rope_scaling", factor=2.0),
                  "low": setting_in("rope_scaling", low_freq_factor=2.0),
                  "high": setting_in("rope_scaling", high_freq_factor=8.0),
                  "original": setting_in("rope_scaling", original_max_position_embeddings=16)},
    },
    "llama_rope_linear": {
        "config": dict(LLAMA, rope_scaling=dict(type="linear", factor=4.0)),
        "flips": {**LLAMA_FLIPS, "scaling": setting(rope_scaling=None)},
    },
    "llama_wide_heads_v5": {
        "config": dict({k: v for k, v in LLAMA.items() if k not in ("rope_theta", "torch_dtype")}, dtype="float32", head_dim=20,
                       num_key_value_heads=1,
                       rope_parameters=dict(rope_type="llama3", rope_theta=1000.0, factor=8.0, low_freq_factor=1.0,
                                            high_freq_factor=4.0, original_max_position_embeddings=32)),
        "flips": {"eps": times("rms_norm_eps", 10), "norms": filled(NORM, 1),
                  "scaling": setting(rope_parameters=dict(rope_type="default", rope_theta=1000.0)),
                  "theta": setting_in("rope_parameters", rope_theta=10000.0)},
    },
    "mistral_window": {
        "config": {**{k: v for k, v in LLAMA.items() if k not in ("attention_bias", "mlp_bias")},
                   "architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 9,
                   "tie_word_embeddings": False},
        "flips": {**LLAMA_FLIPS, **WINDOW, "untied": head_is_embedding},
    },
    "qwen2": {
        "config": dict(SMALL, architectures=["Qwen2ForCausalLM"], model_type="qwen2", num_hidden_layers=3, hidden_act="silu",
                       hidden_size=64, rms_norm_eps=2e-3, rope_theta=1000.0, use_sliding_window=False, sliding_window=9,
                       max_window_layers=3, tie_word_embeddings=True),
        "flips": {**LLAMA_FLIPS, **ALL_BIASES, "window_of_no_use": setting(use_sliding_window=True, max_window_layers=0)},
    },
    "qwen2_window": {
        "config": dict(SMALL, architectures=["Qwen2ForCausalLM"], model_type="qwen2", num_hidden_layers=3, hidden_act="silu",
                       hidden_size=64, rms_norm_eps=2e-3, rope_theta=1000.0, use_sliding_window=True, sliding_window=9,
                       max_window_layers=1, tie_word_embeddings=False),
        "flips": {**LLAMA_FLIPS, **ALL_BIASES, **WINDOW, "window_layers": setting(max_window_layers=2),
                  "untied": head_is_embedding},
    },
}

# ---- Writing and checking ----


def make_prompts(spec, key):
    chance = random.Random(key)
    return [[chance.randrange(3, VOCAB) for _ in range(n)] for n in spec.get("lengths", LENGTHS)]


def gap(answers):
    """Between the largest and the next of the logits, the smallest over all positions, relative to the largest of all."""
    largest = max(np.abs(a["logits"]).max() for a in answers)
    ordered = [np.sort(a["logits"], axis=-1) for a in answers]
    return float(min((o[..., -1] - o[..., -2]).min() for o in ordered) / largest)


def flipped(spec, tensors, prompts, answers):
    features = {}
    for name, flip in spec["flips"].items():
        config, changed = copy.deepcopy(spec["config"]), dict(tensors)
        flip(config, changed)
        features[name] = change(answers, compute(config, changed, prompts))
    return features


def save(folder, config, model):
    """config.json as real folders have it, and the weights under the names the reference gives them on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    model.save_pretrained(folder)
    for extra in folder.iterdir():
        if extra.name != "model.safetensors":
            extra.unlink()
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def load(folder):
    config = json.loads((folder / "config.json").read_text())
    model = model_class(config).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return config, model.eval()


def rows(array):
    return [rows(a) for a in array] if array.ndim > 1 else [float(f"{x:.9g}") for x in array]


def write_record(folder, spec, name, seed, prompts, answers, drift, features):
    record = {"family": name, "transformers": transformers.__version__, "torch": torch.__version__.split("+")[0], "seed": seed,
              "drift": float(f"{drift:.3g}"), "features": {k: float(f"{v:.3g}") for k, v in features.items()}}
    if "note" in spec:
        record["note"] = spec["note"]
    lines = [f' {json.dumps(k)}: {json.dumps(v)},' for k, v in record.items()]
    lines.append(' "prompts": [')
    for i, (tokens, answer) in enumerate(zip(prompts, answers)):
        lines.append(f'  {{"tokens": {json.dumps(tokens)},')
        for j, (key, value) in enumerate(answer.items()):
            end = "" if j + 1 < len(answer) else "}" if i + 1 == len(prompts) else "},"
            value = rows(value)
            inner = ",\n    ".join(json.dumps(v) for v in value)
            lines.append(f'   {json.dumps(key)}: [{inner}]{"," if j + 1 < len(answer) else ""}{end}')
    lines += [" ]", "}"]
    (folder / "record.json").write_text("{\n" + "\n".join(lines) + "\n")


def complaints(features, drift, distance):
    said = [f"{k} moves the logits by {v:.2e} only" for k, v in features.items() if not v >= MOVED]
    if not drift <= DRIFT:
        said.append(f"float32 drifts by {drift:.2e}")
    if not distance >= GAP:
        said.append(f"the two largest logits are {distance:.2e} apart")
    return said


def make(name, spec):
    config = spec["config"]
    for seed in range(SEEDS):
        key = f"{name}/{seed}"
        prompts = make_prompts(spec, key)
        model = build(config)
        fill(model, spec, key)
        tensors = {k: v.clone() for k, v in model.state_dict().items()}
        answers = compute(config, tensors, prompts)
        drift, distance = change(answers, run(build(config, tensors), prompts)), gap(answers)
        if drift <= DRIFT and distance >= GAP:
            break
    features = flipped(spec, tensors, prompts, answers)
    said = complaints(features, drift, distance)
    print(f"{name}: seed {seed}, drift {drift:.1e}, gap {distance:.1e}, "
          f"flips {' '.join(f'{k} {v:.1e}' for k, v in features.items())}", flush=True)
    if said:
        return said
    folder = ARCH / name
    save(folder, config, model)
    read, again = load(folder)
    state = again.state_dict()
    if any(not torch.equal(tensors[k], state[k]) for k in tensors) or change(answers, run(again, prompts)) > DRIFT:
        return ["the folder does not give the model back"]
    write_record(folder, spec, name, seed, prompts, answers, drift, features)
    return []


def check(name, spec):
    folder = ARCH / name
    config, model = load(folder)
    if config != spec["config"]:
        return ["config.json is not what this script writes"]
    record = json.loads((folder / "record.json").read_text())
    tensors = model.state_dict()
    prompts = [p["tokens"] for p in record["prompts"]]
    answers = compute(config, tensors, prompts)
    said = complaints(flipped(spec, tensors, prompts, answers), change(answers, run(model, prompts)), gap(answers))
    recorded = [{k: np.array(p[k]) for k in a} for p, a in zip(record["prompts"], answers)]
    difference = change(answers, recorded)
    print(f"{name}: differs by {difference:.1e}", flush=True)
    return said + ([f"the record differs by {difference:.2e}"] if difference > 1e-8 else [])


def main(arguments):
    work = check if "--check" in arguments else make
    names = [a for a in arguments if not a.startswith("--")] or list(FAMILIES)
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    failed = 0
    for name in names:
        for sentence in work(name, FAMILIES[name]):
            print(f"{name}: {sentence}", flush=True)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
