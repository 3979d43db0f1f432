#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden/quantized/NAME/: tiny models in AWQ, GPTQ, FP8 and MXFP4, and what the reference computes for them.

    python3 tests/golden/make_quantized.py [NAME…]           makes them anew (all, without a name)
    python3 tests/golden/make_quantized.py --check [NAME…]   dequantises the committed folders with the packages that
                                                             define these formats, and compares bits and logits

Each folder is quantised here from random floats: codes, scales and zeros are drawn up first, and from them come, on two ways,
the packed tensors and the dequantised weights, whose digests and float64 logits go into record.json.  --check goes the
third way, from the files through other people's code: autoawq 0.2.9 and auto-gptq 0.7.1 (one file of each is
enough; --packages FOLDER says where they are unpacked), compressed-tensors 0.20.0 and transformers.
"""
import hashlib
import importlib.util
import json
import pathlib
import re
import sys

import numpy as np
import safetensors.torch
import torch

import make_arch
from make_arch import LLAMA, PHI3, QWEN3, SMALL, build, change, compute, fill, gap, make_prompts, run

QUANTIZED = pathlib.Path(__file__).resolve().parent / "quantized"
MATRIX = r"layers\.\d+\..*(proj|w1|w2|w3)\.weight$"

# ---- Packing: from codes to the bytes of a folder ----


def words_along(codes, axis, order=range(8)):
    """Eight 4-bit codes of neighbours along an axis in an I32; place k of a word holds neighbour order[k]."""
    codes = codes.movedim(axis, -1).long()
    eights = codes.reshape(*codes.shape[:-1], -1, 8)
    word = sum(eights[..., n] << 4 * k for k, n in enumerate(order))
    word = torch.where(word >= 2**31, word - 2**32, word).to(torch.int32)
    return word.movedim(-1, axis).contiguous()


def draw_4_bits(name, weight, size, spec):
    """Codes [in][out], zeros and scales [groups][out], and the group of each input."""
    out, inputs = weight.shape
    size = inputs if size == -1 else size
    groups = -(-inputs // size)
    group = torch.arange(inputs) // size
    if spec.get("shuffled"):
        chance = np.random.Generator(np.random.Philox(key=len(name) + inputs))
        group = group[torch.from_numpy(chance.permutation(inputs))]
    columns = weight.T.double()
    scales, zeros, codes = torch.empty(groups, out), torch.empty(groups, out, dtype=torch.long), torch.empty(inputs, out, dtype=torch.long)
    for g in range(groups):
        part = columns[group == g]
        low, high = part.min(0).values.clamp(max=0), part.max(0).values.clamp(min=0)
        if spec.get("sym"):
            scale = torch.maximum(-low / 8, high / 7)
            zero = torch.full_like(scale, 8)
        else:
            scale = (high - low) / 15
            zero = torch.round(-low / scale).clamp(1 if spec["method"] == "gptq" else 0, 15)
        scales[g] = scale.half().float()
        zeros[g] = zero.long()
        codes[group == g] = torch.round(part / scales[g].double() + zero).clamp(0, 15).long()
    return codes, zeros, scales, group


def pack_gptq(name, weight, spec):
    codes, zeros, scales, group = draw_4_bits(name, weight, spec["config"]["group_size"], spec)
    stored = zeros if spec["config"].get("checkpoint_format") == "gptq_v2" else zeros - 1
    stem = name.removesuffix("weight")
    tensors = {"qweight": words_along(codes, 0), "qzeros": words_along(stored, 1), "scales": scales.half()}
    if not spec.get("no_g_idx"):
        tensors["g_idx"] = group.to(torch.int32)
    exact = scales[group] * (codes - zeros[group]).float()
    return {stem + k: v for k, v in tensors.items()}, exact.T.contiguous()


def pack_awq(name, weight, spec):
    codes, zeros, scales, group = draw_4_bits(name, weight, spec["config"]["group_size"], spec)
    stem, order = name.removesuffix("weight"), (0, 2, 4, 6, 1, 3, 5, 7)
    tensors = {"qweight": words_along(codes, 1, order), "qzeros": words_along(zeros, 1, order), "scales": scales.half()}
    exact = scales[group] * (codes - zeros[group]).float()
    return {stem + k: v for k, v in tensors.items()}, exact.T.contiguous()


def pack_fp8(name, weight, spec):
    rows, columns = weight.shape
    block_rows, block_columns = spec["block"] or (1 if spec.get("per_row") else rows, columns)
    down, across = -(-rows // block_rows), -(-columns // block_columns)
    scales, exact = torch.empty(down, across), torch.empty_like(weight)
    codes = torch.empty(rows, columns, dtype=torch.float8_e4m3fn)
    for i in range(down):
        for j in range(across):
            at = slice(i * block_rows, (i + 1) * block_rows), slice(j * block_columns, (j + 1) * block_columns)
            scale = weight[at].abs().max() / 448
            if spec.get("powers"):
                scale = 2.0 ** torch.ceil(torch.log2(scale))
            scales[i, j] = scale = scale.to(spec["scale_type"]).float()
            codes[at] = (weight[at] / scale).clamp(-448, 448).to(torch.float8_e4m3fn)
            exact[at] = codes[at].float() * scale
    stored = scales.to(spec["scale_type"])
    if not spec["block"]:
        stored = stored.reshape(rows, 1) if spec.get("per_row") else stored.reshape(spec["single"])
    tensors = {name: codes, name.removesuffix("weight") + spec["scale"]: stored.contiguous()}
    if spec.get("input_scale"):
        tensors[name.removesuffix("weight") + "input_scale"] = torch.tensor([0.5])
    return tensors, exact


def pack_plain_f8(name, weight, spec):
    codes = (weight * spec["gain"]).to(spec["scale_type"])
    return {name: codes}, codes.float()


E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]


def pack_mxfp4(name, weight, spec):
    """[experts][in][out] as the reference holds it; files have [experts][out][in].  A zero has no sign here: nobody sees it."""
    rows = weight.transpose(1, 2)
    blocks = rows.reshape(*rows.shape[:2], -1, 32)
    exponent = torch.floor(torch.log2(blocks.abs().amax(-1))) - 2
    scaled = blocks / 2.0 ** exponent[..., None]
    values = torch.tensor(E2M1)
    magnitude = (scaled.abs()[..., None] - values).abs().argmin(-1)
    code = magnitude + 8 * (scaled < 0)
    exact = torch.where(scaled < 0, -values[magnitude], values[magnitude]) * 2.0 ** exponent[..., None]
    pairs = (code[..., 0::2] | code[..., 1::2] << 4).to(torch.uint8)
    exact = exact.reshape(rows.shape).transpose(1, 2).contiguous() + 0.0
    return {name + "_blocks": pairs, name + "_scales": (exponent + 127).to(torch.uint8)}, exact


# ---- The folders ----

QWEN2 = dict(SMALL, architectures=["Qwen2ForCausalLM"], model_type="qwen2", num_hidden_layers=2, hidden_size=64,
             intermediate_size=96, hidden_act="silu", rms_norm_eps=2e-3, rope_theta=1000.0, use_sliding_window=False,
             sliding_window=None, max_window_layers=2, tie_word_embeddings=True)
TINY_LLAMA = dict(LLAMA, num_hidden_layers=2, hidden_size=64, intermediate_size=128)
TINY_PHI3 = dict(PHI3, num_hidden_layers=2, hidden_size=64, intermediate_size=96, sliding_window=None, tie_word_embeddings=False)
WIDE_QWEN3 = dict(QWEN3, architectures=["Qwen3ForCausalLM"], model_type="qwen3", num_hidden_layers=2, hidden_size=160,
                  intermediate_size=288, num_attention_heads=12, num_key_value_heads=2, tie_word_embeddings=True)
SMALL_QWEN3 = dict(QWEN3, architectures=["Qwen3ForCausalLM"], model_type="qwen3", num_hidden_layers=2, hidden_size=64,
                   intermediate_size=96, tie_word_embeddings=True)
GPT_OSS = dict(make_arch.FAMILIES["gpt_oss"]["config"], num_hidden_layers=2, intermediate_size=64, num_local_experts=8,
               layer_types=["sliding_attention", "full_attention"])
MIXTRAL = dict(make_arch.FAMILIES["mixtral"]["config"], num_hidden_layers=2, hidden_size=64, intermediate_size=32)


def gptq(**more):
    return dict(quant_method="gptq", bits=4, group_size=32, damp_percent=0.01, desc_act=False, sym=True, true_sequential=True,
                static_groups=False, lm_head=False, **more)


def compressed(strategy, **more):
    weights = dict(num_bits=8, type="float", symmetric=True, strategy=strategy, dynamic=False, group_size=None, **more)
    return dict(quant_method="compressed-tensors", format="float-quantized", ignore=["lm_head"], kv_cache_scheme=None,
                quantization_status="compressed", sparsity_config={}, transform_config={},
                config_groups={"group_0": dict(targets=["Linear"], weights=weights, input_activations=dict(num_bits=8, type="float"))})


CASES = {
    "gptq_sym": dict(model=QWEN2, pack=pack_gptq, method="gptq", sym=True, type="Q4_0", config=gptq()),
    "gptq_asym": dict(model=TINY_PHI3, pack=pack_gptq, method="gptq", type="Q5_0",
                      config=dict(gptq(checkpoint_format="gptq"), sym=False, group_size=-1)),
    "gptq_v2": dict(model=TINY_LLAMA, pack=pack_gptq, method="gptq", type="Q5_0", no_g_idx=True,
                    config=dict(gptq(checkpoint_format="gptq_v2", pack_dtype="int32"), sym=False, group_size=64)),
    "gptq_desc_act": dict(model=TINY_LLAMA, pack=pack_gptq, method="gptq", shuffled=True, type="Q8_0", rounded="Q8_0",
                          config=dict(gptq(), desc_act=True, sym=False)),
    "awq": dict(model=TINY_LLAMA, pack=pack_awq, method="awq", type="Q5_0",
                config=dict(quant_method="awq", bits=4, group_size=32, zero_point=True, version="gemm",
                            modules_to_not_convert=None)),
    "awq_experts": dict(model=MIXTRAL, pack=pack_awq, method="awq", type="Q5_0",
                        config=dict(quant_method="awq", bits=4, group_size=32, zero_point=True, version="gemm",
                                    modules_to_not_convert=["gate"])),
    "fp8_blocks": dict(model=WIDE_QWEN3, pack=pack_fp8, block=(128, 128), scale="weight_scale_inv", scale_type=torch.bfloat16,
                       type="BF16", rounded="BF16",
                       config=dict(quant_method="fp8", activation_scheme="dynamic", fmt="e4m3", weight_block_size=[128, 128])),
    "fp8_powers": dict(model=WIDE_QWEN3, pack=pack_fp8, block=(128, 128), scale="weight_scale_inv", scale_type=torch.float32,
                       powers=True, type="BF16",
                       config=dict(quant_method="fp8", activation_scheme="dynamic", fmt="e4m3", scale_fmt="ue8m0",
                                   weight_block_size=[128, 128])),
    "fp8_channel": dict(model=TINY_LLAMA, pack=pack_fp8, block=None, per_row=True, scale="weight_scale", scale_type=torch.float32,
                        type="BF16", rounded="BF16", config=compressed("channel")),
    "fp8_tensor": dict(model=TINY_PHI3, pack=pack_fp8, block=None, single=[1], scale="weight_scale", scale_type=torch.bfloat16,
                       input_scale=True, type="BF16", rounded="BF16", config=compressed("tensor")),
    "f8_e4m3": dict(model=SMALL_QWEN3, pack=pack_plain_f8, scale_type=torch.float8_e4m3fn, gain=1.0, type="F16", config=None),
    "f8_e5m2": dict(model=SMALL_QWEN3, pack=pack_plain_f8, scale_type=torch.float8_e5m2, gain=1.0, type="F16", config=None),
    "mxfp4": dict(model=GPT_OSS, pack=pack_mxfp4, type="MXFP4", matrix=r"experts\.(gate_up|down)_proj$",
                  fill=make_arch.FAMILIES["gpt_oss"]["fill"],
                  config=dict(quant_method="mxfp4", modules_to_not_convert=["model.layers.*.self_attn", "model.layers.*.mlp.router",
                                                                            "model.embed_tokens", "lm_head"])),
}

# ---- Names and order of GGUF, for the digests ----


def neighbours(weight, width=16):
    """Rotary halves of heads as pairs of neighbours."""
    return weight.reshape(-1, 2, width // 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


NAMES = {"self_attn.q_proj.weight": "attn_q", "self_attn.k_proj.weight": "attn_k", "self_attn.v_proj.weight": "attn_v",
         "self_attn.o_proj.weight": "attn_output", "mlp.gate_proj.weight": "ffn_gate", "mlp.up_proj.weight": "ffn_up",
         "mlp.down_proj.weight": "ffn_down"}


def gguf_parts(config, name, weight):
    layer, rest = re.fullmatch(r"model\.layers\.(\d+)\.(.*)", name).groups()
    is_paired = config["model_type"] in ("llama", "mixtral")
    expert = re.fullmatch(r"block_sparse_moe\.experts\.(\d+)\.(w[123])\.weight", rest)
    if rest in NAMES:
        turned = neighbours(weight) if is_paired and NAMES[rest] in ("attn_q", "attn_k") else weight
        yield f"blk.{layer}.{NAMES[rest]}.weight", turned
    elif expert:
        kind = {"w1": "ffn_gate", "w3": "ffn_up", "w2": "ffn_down"}[expert[2]]
        yield f"blk.{layer}.{kind}.{expert[1]}.weight", weight
    elif rest == "self_attn.qkv_proj.weight":
        width = config["hidden_size"] // config["num_attention_heads"]
        q, kv = config["num_attention_heads"] * width, config["num_key_value_heads"] * width
        for part, kind in zip(weight.split([q, kv, kv]), ("attn_q", "attn_k", "attn_v")):
            yield f"blk.{layer}.{kind}.weight", part
    elif rest == "mlp.gate_up_proj.weight":
        for part, kind in zip(weight.chunk(2), ("ffn_gate", "ffn_up")):
            yield f"blk.{layer}.{kind}.weight", part
    elif rest == "mlp.experts.gate_up_proj":
        for e, w in enumerate(weight):
            yield f"blk.{layer}.ffn_gate.{e}.weight", w.T[0::2]
            yield f"blk.{layer}.ffn_up.{e}.weight", w.T[1::2]
    elif rest == "mlp.experts.down_proj":
        for e, w in enumerate(weight):
            yield f"blk.{layer}.ffn_down.{e}.weight", w.T
    else:
        raise AssertionError(name)


def digests(config, dequantized):
    return {k: hashlib.sha256(np.ascontiguousarray(w.numpy()).tobytes()).hexdigest()
            for name, weight in dequantized.items() for k, w in gguf_parts(config, name, weight)}


# ---- Making ----


def on_disk(model):
    """Tensors under the names that folders have."""
    import tempfile
    with tempfile.TemporaryDirectory() as room:
        model.save_pretrained(room)
        return safetensors.torch.load_file(pathlib.Path(room) / "model.safetensors")


def quantize(spec, tensors):
    """What the folder holds, and all weights as the reference has them, in float32."""
    stored, exact, dequantized = {}, {}, {}
    for name, weight in tensors.items():
        if re.search(spec.get("matrix", MATRIX), name):
            parts, dequantized[name] = spec["pack"](name, weight.float(), spec)
            stored.update(parts)
            exact[name] = dequantized[name]
        else:
            stored[name] = weight.half()
            exact[name] = stored[name].float()
    return stored, exact, dequantized


def with_weights(config, exact):
    """A model's state with these weights, which are named as on disk."""
    import tempfile
    model = build(config)
    with tempfile.TemporaryDirectory() as room:
        model.save_pretrained(room)
        safetensors.torch.save_file(exact, pathlib.Path(room) / "model.safetensors", metadata={"format": "pt"})
        return make_arch.model_class(config).from_pretrained(room, dtype=torch.float32, attn_implementation="eager").state_dict()


def make(name, spec):
    config = spec["model"]
    for seed in range(make_arch.SEEDS):
        key = f"{name}/{seed}"
        prompts = make_prompts({}, key)
        model = build(config)
        fill(model, spec, key)
        stored, exact, dequantized = quantize(spec, on_disk(model))
        tensors = with_weights(config, exact)
        answers = compute(config, tensors, prompts)
        drift, distance = change(answers, run(build(config, tensors), prompts)), gap(answers)
        if drift <= make_arch.DRIFT and distance >= make_arch.GAP:
            break
    said = make_arch.complaints({}, drift, distance)
    print(f"{name}: seed {seed}, drift {drift:.1e}, gap {distance:.1e}", flush=True)
    if said:
        return said
    folder = QUANTIZED / name
    folder.mkdir(parents=True, exist_ok=True)
    written = dict(config, **({"quantization_config": spec["config"]} if spec["config"] else {}))
    (folder / "config.json").write_text(json.dumps(written, indent=2) + "\n")
    safetensors.torch.save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    make_arch.write_record(folder, {"config": config}, name, seed, prompts, answers, drift, {})
    more = {"type": spec["type"], "rounded": spec.get("rounded", ""), "weights": digests(config, dequantized)}
    record = (folder / "record.json").read_text()
    lines = "".join(f" {json.dumps(k)}: {json.dumps(v)},\n" for k, v in more.items())
    (folder / "record.json").write_text(record.replace(' "prompts": [', lines + ' "prompts": [', 1))
    return []


# ---- Checking: from the files, through the code of others ----


def module_of(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def others_awq(packages, stem, stored, spec):
    packing = module_of(next(packages.rglob("awq/utils/packing_utils.py")))
    size = spec["config"]["group_size"]
    return packing.dequantize_gemm(stored[stem + "qweight"], stored[stem + "qzeros"], stored[stem + "scales"].float(), 4, size).T


def others_gptq(packages, stem, stored, spec):
    """The product with the identity.  Files of version 2 are put into version 1 as that package does it: less one."""
    linear = module_of(next(packages.rglob("qlinear/qlinear_cuda.py"))).QuantLinear
    inputs, out = stored[stem + "qweight"].shape[0] * 8, stored[stem + "qweight"].shape[1]
    layer = linear(4, spec["config"]["group_size"], inputs, out, False)
    layer.autogptq_cuda_available = False
    for key in ("qweight", "qzeros", "scales", "g_idx"):
        if stem + key in stored:
            setattr(layer, key, stored[stem + key])
    layer.scales = layer.scales.float()
    if spec["config"].get("checkpoint_format") == "gptq_v2":
        layer.qzeros = layer.qzeros - 0x11111111
    return layer(torch.eye(inputs)).T


def others_fp8(packages, stem, stored, spec):
    weight, scale = stored[stem + "weight"], stored[stem + spec["scale"]].float()
    if spec["config"]["quant_method"] == "fp8":
        from transformers.integrations.finegrained_fp8 import _dequantize_fp8_weight
        return _dequantize_fp8_weight(weight, scale, spec["config"]["weight_block_size"], torch.float32)
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import dequantize
    return dequantize(weight, scale, args=QuantizationArgs(**spec["config"]["config_groups"]["group_0"]["weights"]), dtype=torch.float32)


def others_mxfp4(stem, stored):
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors
    return convert_moe_packed_tensors(stored[stem + "_blocks"], stored[stem + "_scales"], dtype=torch.float32) + 0.0


def check(name, spec, packages):
    folder = QUANTIZED / name
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    record = json.loads((folder / "record.json").read_text())
    exact, dequantized = {}, {}
    for key, value in stored.items():
        stem = None
        if key.endswith(".qweight"):
            stem, made = key.removesuffix("qweight"), others_awq if spec["method"] == "awq" else others_gptq
            name_now, weight = stem + "weight", made(packages, stem, stored, spec)
        elif key.endswith("_blocks"):
            name_now, weight = key.removesuffix("_blocks"), others_mxfp4(key.removesuffix("_blocks"), stored)
        elif value.dtype == torch.float8_e4m3fn and spec["config"]:
            name_now, weight = key, others_fp8(packages, key.removesuffix("weight"), stored, spec)
        elif value.dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
            name_now, weight = key, value.float()
        elif value.dtype == torch.float16 and not key.endswith("scales"):
            exact[key] = value.float()
            continue
        else:
            continue
        exact[name_now] = dequantized[name_now] = weight.float().contiguous()
    config = spec["model"]
    said = []
    if digests(config, dequantized) != record["weights"]:
        said.append("the packages make other weights of it")
    prompts = [p["tokens"] for p in record["prompts"]]
    recorded = [{"logits": np.array(p["logits"])} for p in record["prompts"]]
    difference = change(compute(config, with_weights(config, exact), prompts), recorded)
    print(f"{name}: {len(dequantized)} matrices, logits differ by {difference:.1e}", flush=True)
    return said + ([f"the record differs by {difference:.2e}"] if difference > 1e-8 else [])


def main(arguments):
    packages = pathlib.Path(arguments[arguments.index("--packages") + 1]) if "--packages" in arguments else None
    names = [a for a in arguments if a in CASES] or list(CASES)
    torch.set_num_threads(1)
    failed = 0
    for name in names:
        said = check(name, CASES[name], packages) if "--check" in arguments else make(name, CASES[name])
        for sentence in said:
            print(f"{name}: {sentence}", flush=True)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
