#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden/adapter/NAME/: LoRA adapters for models of tests/golden/arch, and what the reference computes with them.

    python3 tests/golden/make_adapters.py [NAME…]            makes them anew (all, without a name)
    python3 tests/golden/make_adapters.py --check [NAME…]    loads the committed folders with PEFT and compares

PEFT 0.21.2 makes, saves and runs the adapters, in float64; those in the form of GGUF are written with the package gguf
from what PEFT saved.
"""
import json
import math
import pathlib
import re
import sys

import gguf
import numpy as np
import peft
import safetensors.torch
import torch

import make_arch
from make_arch import change, draw, float64, gap, make_prompts, run

ADAPTERS = pathlib.Path(__file__).resolve().parent / "adapter"
LLAMA_ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

CASES = {
    "llama_patterns": dict(base="llama", config=dict(r=4, lora_alpha=6, target_modules=LLAMA_ALL,
                                                     rank_pattern={"k_proj": 20, "layers.1.mlp.up_proj": 3},
                                                     alpha_pattern={"layers.2.self_attn.v_proj": 9, "down_proj": 2.5})),
    "llama_root": dict(base="llama", config=dict(r=9, lora_alpha=5, use_rslora=True, target_modules=["q_proj", "v_proj"])),
    "llama_bias_half": dict(base="llama_untied_bias", dtype=torch.bfloat16,
                            config=dict(r=2, lora_alpha=4, target_modules=r".*\.[02]\..*(q_proj|down_proj)")),
    "phi3_fused": dict(base="phi3", config=dict(r=4, lora_alpha=4, target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"])),
    "falcon_groups": dict(base="falcon_40b", config=dict(r=4, lora_alpha=8, target_modules=["query_key_value", "dense"])),
    "gpt2_turned": dict(base="gpt2", config=dict(r=4, lora_alpha=8, fan_in_fan_out=True, target_modules=["c_attn", "c_fc"])),
    "qwen3_moe": dict(base="qwen3_moe", config=dict(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "o_proj"])),
    "llama_gguf": dict(base="llama", gguf="llama", config=dict(r=4, lora_alpha=6, target_modules=LLAMA_ALL)),
    "phi3_gguf": dict(base="phi3", gguf="phi3", dtype=torch.float16,
                      config=dict(r=4, lora_alpha=0.5, target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"])),
}


def config_of(spec):
    """As PEFT read it from a folder, or from its arguments."""
    read = spec["config"]
    return read if isinstance(read, peft.LoraConfig) else peft.LoraConfig(task_type="CAUSAL_LM", **read)


def base_of(spec):
    config, model = make_arch.load(make_arch.ARCH / spec["base"])
    return config, model.state_dict()


def adapted(config, tensors, spec, state):
    """The base with PEFT's layers around it, and these tensors in them."""
    model = peft.get_peft_model(make_arch.build(config, tensors), config_of(spec),
                                autocast_adapter_dtype=False)
    peft.set_peft_model_state_dict(model, state)
    return model.eval()


def compute(config, tensors, spec, state, prompts):
    with float64():
        model = adapted(config, tensors, spec, {k: v.double() for k, v in state.items()})
        assert all(p.dtype == torch.float64 for p in model.parameters())
        return run(model, prompts)


# ---- GGUF ----

NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "self_attn.qkv_proj": "attn_qkv",
         "mlp.gate_up_proj": "ffn_up"}


def neighbours(b, width=16):
    """Rotary halves of heads as pairs of neighbours, as the rows of the model itself."""
    return b.reshape(-1, 2, width // 2, b.shape[1]).transpose(1, 2).reshape(b.shape)


def write_gguf(path, spec, state):
    writer = gguf.GGUFWriter(path, spec["gguf"])
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", spec["config"]["lora_alpha"])
    for key, value in state.items():
        layer, module, kind = re.fullmatch(r"base_model\.model\.model\.layers\.(\d+)\.(.*)\.lora_([AB])\.weight", key).groups()
        if kind == "B" and spec["gguf"] == "llama" and NAMES[module] in ("attn_q", "attn_k"):
            value = neighbours(value)
        writer.add_tensor(f"blk.{layer}.{NAMES[module]}.weight.lora_{kind.lower()}", value.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ---- Making and checking ----


def make(name, spec):
    config, tensors = base_of(spec)
    dtype = spec.get("dtype", torch.float32)
    for seed in range(make_arch.SEEDS):
        key = f"adapter/{name}/{seed}"
        prompts = make_prompts({}, key)
        model = peft.get_peft_model(make_arch.build(config, tensors), config_of(spec))
        with torch.no_grad():
            for parameter_name, p in model.named_parameters():
                if ".lora_" in parameter_name:
                    size = 0.6 / math.sqrt(p.shape[1])
                    p.copy_(torch.from_numpy(size * draw(parameter_name, tuple(p.shape), key)).to(dtype))
        state = {k: v.to(dtype) for k, v in peft.get_peft_model_state_dict(model).items()}
        answers = compute(config, tensors, spec, state, prompts)
        drift = change(answers, run(adapted(config, tensors, spec, {k: v.float() for k, v in state.items()}), prompts))
        if drift <= make_arch.DRIFT and gap(answers) >= make_arch.GAP:
            break
    flips = {"adapter": change(answers, make_arch.compute(config, tensors, prompts))}
    for key in state:
        if re.search(r"\.0\..*lora_B", key):
            less = dict(state, **{key: torch.zeros_like(state[key])})
            flips[key.removeprefix("base_model.model.").removesuffix(".lora_B.weight")] = change(answers, compute(config, tensors, spec, less, prompts))
    said = make_arch.complaints(flips, drift, gap(answers))
    print(f"{name}: seed {seed}, drift {drift:.1e}, {len(state)} tensors, least flip {min(flips.values()):.1e}", flush=True)
    if said:
        return said
    folder = ADAPTERS / name
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    if "gguf" in spec:
        write_gguf(folder / "adapter.gguf", spec, state)
    else:
        model.to(dtype).save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
    make_arch.write_record(folder, {"config": config}, name, seed, prompts, answers, drift, flips)
    record = (folder / "record.json").read_text()
    (folder / "record.json").write_text(record.replace('{\n', '{\n "base": ' + json.dumps(spec["base"]) + ',\n', 1))
    return []


def check(name, spec):
    folder = ADAPTERS / name
    config, tensors = base_of(spec)
    record = json.loads((folder / "record.json").read_text())
    prompts = [p["tokens"] for p in record["prompts"]]
    if "gguf" in spec:
        return []
    state = safetensors.torch.load_file(folder / "adapter_model.safetensors")
    answers = compute(config, tensors, {"config": peft.LoraConfig.from_pretrained(folder)}, state, prompts)
    difference = change(answers, [{"logits": np.array(p["logits"])} for p in record["prompts"]])
    print(f"{name}: differs by {difference:.1e}", flush=True)
    return [f"the record differs by {difference:.2e}"] if difference > 1e-8 else []


def main(arguments):
    work = check if "--check" in arguments else make
    names = [a for a in arguments if not a.startswith("--")] or list(CASES)
    torch.set_num_threads(1)
    failed = 0
    for name in names:
        for sentence in work(name, CASES[name]):
            print(f"{name}: {sentence}", flush=True)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
