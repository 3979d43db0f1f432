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
from unittest import mock

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


def attention(config):
    """Falcon's plain path adds ALiBi twice, to the scores and again within the mask; the other one adds it once."""
    return "sdpa" if config.get("alibi") else "eager"


def build(config, tensors=None):
    """A model in the default float type; `config` as in config.json, `tensors` by the names of its state."""
    known = CONFIG_MAPPING[config["model_type"]].from_dict(copy.deepcopy(config))
    known._attn_implementation = attention(config)
    known._experts_implementation = "eager"
    model = model_class(config)(known).eval()
    if tensors is not None:
        state = model.state_dict()
        model.load_state_dict({k: v.to(state[k].dtype) for k, v in tensors.items() if k in state})
    return model


def is_encoder(model):
    return type(model).__name__.endswith("ForSequenceClassification")


def types_of(config, tokens):
    """Of a model with several token types, the second half of a prompt is the second text of a pair."""
    return [int(config.get("type_vocab_size", 1) > 1 and i >= (len(tokens) + 1) // 2) for i in range(len(tokens))]


@torch.no_grad()
def run(model, prompts):
    """What is compared: logits of every position; of an encoder, its last hidden state and the head's logits."""
    answers = []
    for tokens in prompts:
        ids = torch.tensor([tokens])
        if is_encoder(model):
            more = {}
            if any(types_of(vars(model.config), tokens)):
                more["token_type_ids"] = torch.tensor([types_of(vars(model.config), tokens)])
            found = {"hidden": model.base_model(input_ids=ids, **more).last_hidden_state[0],
                     "logits": model(input_ids=ids, **more).logits[0]}
        else:
            found = {"logits": model(input_ids=ids, use_cache=False).logits[0]}
        answers.append({k: v.double().numpy() for k, v in found.items()})
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


NORM = r"(norm\w*|ln_\w+|layernorm|LayerNorm)\.weight$"
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
    if len(shape) < 2 or name.endswith("bias") or re.search(EMBEDDING, name):
        return 1
    is_stored_in_out = re.search(r"c_attn|c_proj|c_fc|experts\.(gate_up|down)_proj$", name)
    return shape[-2] if is_stored_in_out else shape[-1]


def lowered(matrix, norm_bias):
    """Rows of a matrix get a part along the bias of the norm before it, so that all their results are near -2."""
    def adjust(tensors):
        for k in [k for k in tensors if k.endswith(matrix)]:
            bias = tensors[re.sub(r"^(.*layers?\.\d+|.*h\.\d+)\..*", r"\1.", k) + norm_bias]
            tensors[k] -= 2.2 * bias / (bias @ bias)
    return adjust


def lowered_by_embedding(matrix, norm, size):
    """Likewise where norms have no bias: all embeddings get a common part, alternating in sign."""
    def adjust(tensors):
        embedding, = [k for k in tensors if re.search(r"(embed_tokens|tok_embeddings)\.weight$", k)]
        sign = torch.ones(tensors[embedding].shape[1])
        sign[1::2] = -1
        tensors[embedding] += size * sign * tensors[embedding].std()
        for k in [k for k in tensors if k.endswith(matrix)]:
            weight = tensors[re.sub(r"^(.*layers\.\d+)\..*", r"\1.", k) + norm]
            weight = weight if weight.mean() > 0.5 else 1 + weight
            rows = len(tensors[k]) // 2 if k.endswith("Wi.weight") else len(tensors[k])
            tensors[k][:rows] -= 3.0 * sign / (weight * len(sign))
    return adjust


def fill(model, spec, key):
    rules = spec.get("fill", []) + FILL
    with torch.no_grad():
        for name, p in model.named_parameters():
            pattern, mean, deviation = next(r for r in rules if re.search(r[0], name))
            values = mean + deviation / np.sqrt(inputs_of(name, p.shape)) * draw(name, tuple(p.shape), key)
            p.copy_(torch.from_numpy(values.astype(np.float32)))
        if "adjust" in spec:
            spec["adjust"](dict(model.named_parameters()))


# ---- Flips: what a feature is changed to, as functions of (config, tensors); some give a context to run in ----

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


def filled_row(pattern, row, value):
    def flip(config, tensors):
        found = [k for k in tensors if re.search(pattern, k)]
        assert found, pattern
        for k in found:
            tensors[k] = tensors[k].clone()
            tensors[k][row] = value
    return flip


def permuted(pattern, order):
    """Rows in another order; order(config, row count) gives it."""
    def flip(config, tensors):
        found = [k for k in tensors if re.search(pattern, k)]
        assert found, pattern
        for k in found:
            tensors[k] = tensors[k][order(config, len(tensors[k]))]
    return flip


def add(key, count):
    def flip(config, tensors):
        config[key] += count
    return flip


def rolled(pattern):
    return permuted(pattern, lambda config, rows: torch.arange(rows).roll(1))


def rolled_by_half(pattern):
    return permuted(pattern, lambda config, rows: torch.arange(rows).roll(rows // 2))


def exchanged(one, other):
    def flip(config, tensors):
        for k in [k for k in tensors if f".{one}." in k]:
            twin = k.replace(f".{one}.", f".{other}.")
            tensors[k], tensors[twin] = tensors[twin], tensors[k]
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
    head, = [k for k in tensors if re.search(r"(lm_head|embed_out)\.weight$", k)]
    embedding, = [k for k in tensors if re.search(r"(embed_tokens|embed_in|word_embeddings)\.weight$", k)]
    tensors[head] = tensors[embedding]


def qkv_behind_each_other(config, rows):
    """Fused rows of q, k and v per head as if all of q came first, then k, then v."""
    heads = config.get("num_attention_heads", config.get("n_head"))
    width = rows // (3 * heads)
    return torch.cat([torch.arange(width) + width * (i * heads + h) for h in range(heads) for i in range(3)])


def qkv_of_groups_behind_each_other(config, rows):
    """Likewise where a group of two query heads has a key and a value."""
    order, width = [0, 1, 4, 6, 2, 3, 5, 7], rows // 8
    return torch.cat([torch.arange(width) + width * i for i in order])


def unscaled_embedding(config, tensors):
    """Embeddings that were not multiplied by the root of their width, while the tied head stays."""
    scale = config["hidden_size"] ** 0.5
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"] / scale
    tensors["model.norm.weight"] = (1 + tensors["model.norm.weight"]) * scale - 1


def gate_behind_up(config, tensors):
    """Columns of gate and up as if one stood behind the other instead of alternating."""
    for k in [k for k in tensors if re.search(r"gate_up_proj$", k)]:
        count = tensors[k].shape[2]
        tensors[k] = tensors[k][:, :, torch.arange(count).reshape(2, -1).T.reshape(-1)]


def no_alibi(config, tensors):
    module = transformers.models.bloom.modeling_bloom
    return mock.patch.object(module, "_get_alibi_slopes", lambda heads, device: torch.zeros(heads))


def alibi_times(factor):
    def flip(config, tensors):
        module = transformers.models.falcon.modeling_falcon
        real = module.build_alibi_tensor
        return mock.patch.object(module, "build_alibi_tensor", lambda mask, heads, dtype: real(mask, heads, dtype) * factor)
    return flip


def alibi_of_8(config, tensors):
    """As if a number of heads that is no power of two took its slopes from the next one that is."""
    module = transformers.models.bloom.modeling_bloom
    real = module._get_alibi_slopes
    return mock.patch.object(module, "_get_alibi_slopes", lambda heads, device: real(8, device)[:heads])


def erf_gelu_for_bloom(config, tensors):
    module = transformers.models.bloom.modeling_bloom
    return mock.patch.object(module, "bloom_gelu_forward", torch.nn.functional.gelu)


def bare_norm_epsilon(config, tensors):
    """For a layer norm whose epsilon is in the code alone."""
    real = torch.nn.functional.layer_norm
    return mock.patch.object(torch.nn.functional, "layer_norm", lambda x, shape, w, b, eps: real(x, shape, w, b, 10 * eps))


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
WINDOW_EDGE = {"window": setting(sliding_window=60), "window_edge": setting(sliding_window=10)}
QK_NORM = {"q_norm": filled(r"q_norm\.weight$", 1), "k_norm": filled(r"k_norm\.weight$", 1)}
EXPERTS = {"used": add("num_experts_per_tok", 1), "order": rolled(r"experts\.down_proj$"),
           "router": filled(r"\.gate\.weight$", 0)}
LINEAR_BIASES = {"qkv_bias": filled(r"query_key_value\.bias$", 0), "o_bias": filled(r"(attention|attn)\.dense\.bias$", 0),
                 "up_bias": filled(r"dense_h_to_4h\.bias$", 0), "down_bias": filled(r"dense_4h_to_h\.bias$", 0)}
QWEN3 = dict(SMALL, head_dim=16, hidden_act="silu", rms_norm_eps=2e-3, rope_theta=1000.0, attention_bias=False,
             use_sliding_window=False, sliding_window=None, max_window_layers=3)

# Two kinds of GELU differ where their input is near -2: the inputs are moved there, and their small outputs made large.
GELU_FILL = [(r"(dense_h_to_4h|intermediate\.dense)\.bias$", -2.2, 0.3),
             (r"(dense_h_to_4h|intermediate\.dense)\.weight$", 0.0, 0.5),
             (r"(dense_4h_to_h|\d\.output\.dense)\.weight$", 0.0, 20.0)]

FALCON_FILL = [(r"h\.\d+\..*(norm|ln_\w+)\.bias$", 0.0, 0.8)] + GELU_FILL[1:]

FALCON = dict(architectures=["FalconForCausalLM"], model_type="falcon", hidden_size=64, num_hidden_layers=3,
              num_attention_heads=4, vocab_size=VOCAB, layer_norm_epsilon=2e-3, alibi=False, new_decoder_architecture=False,
              parallel_attn=True, bias=False, activation="gelu", max_position_embeddings=64, ffn_hidden_size=128,
              tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, torch_dtype="float32")
FALCON_FLIPS = {"eps": times("layer_norm_epsilon", 10), "norms": filled(NORM, 1),
                "norm_biases": filled(r"(norm|ln_\w+)\.bias$", 0), "activation": setting(activation="gelu_pytorch_tanh")}
NEOX = dict(architectures=["GPTNeoXForCausalLM"], model_type="gpt_neox", hidden_size=64, intermediate_size=128,
            num_hidden_layers=3, num_attention_heads=4, vocab_size=VOCAB, max_position_embeddings=64, hidden_act="gelu",
            layer_norm_eps=2e-3, rotary_pct=0.25, rotary_emb_base=1000, use_parallel_residual=True, tie_word_embeddings=False,
            bos_token_id=0, eos_token_id=0, torch_dtype="float32")
NEOX_FLIPS = {"eps": times("layer_norm_eps", 10), "norms": filled(NORM, 1), "norm_biases": filled(r"norm\.bias$", 0),
              **LINEAR_BIASES, "parallel": setting(use_parallel_residual=False), "rotary_pct": setting(rotary_pct=0.5),
              "theta": times("rotary_emb_base", 10), "activation": setting(hidden_act="gelu_pytorch_tanh"),
              "layout": permuted(r"query_key_value\.(weight|bias)$", qkv_behind_each_other), "untied": head_is_embedding,
              "norms_exchanged": exchanged("input_layernorm", "post_attention_layernorm")}

GEMMA_FILL = [(r"model\.norm\.weight$", -1.0, 1.0), (NORM, 0.0, 0.3), (r"gate_proj\.weight$", 0.0, 0.3),
              (r"down_proj\.weight$", 0.0, 20.0), (r"embed_tokens\.weight$", 0.0, 0.3)]
GEMMA_FLIPS = {"eps": times("rms_norm_eps", 10), "norms": filled(r"layernorm\.weight$", 0), "gqa": GQA, **WINDOW_EDGE,
               "embedding_scale": unscaled_embedding, "score_scale": setting(query_pre_attn_scalar=16),
               "activation": setting(hidden_activation="gelu")}


def labels(count):
    return {str(i): f"LABEL_{i}" for i in range(count)}


PHI3 = dict(SMALL, architectures=["Phi3ForCausalLM"], model_type="phi3", hidden_size=64, hidden_act="silu", rms_norm_eps=2e-3,
            rope_theta=1000.0, pad_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attention_bias=False)
PHI3_FLIPS = {"eps": times("rms_norm_eps", 10), "norms": filled(NORM, 1), "theta": times("rope_theta", 10),
              "gate_and_up": rolled_by_half(r"gate_up_proj\.weight$")}
BERT = dict(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96, hidden_act="gelu",
            layer_norm_eps=2e-3, vocab_size=VOCAB, position_embedding_type="absolute", hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0, id2label=labels(3), torch_dtype="float32")
# No k_bias: it moves all scores of a query alike, which softmax does not see.
BERT_FLIPS = {"eps": times("layer_norm_eps", 10), "norms": filled(NORM, 1), "norm_biases": filled(r"LayerNorm\.bias$", 0),
              "positions": filled(r"position_embeddings", 0), "first_position": rolled(r"position_embeddings"),
              "types": filled(r"token_type_embeddings", 0),
              "q_bias": filled(r"query\.bias$", 0), "v_bias": filled(r"value\.bias$", 0),
              "o_bias": filled(r"attention\.output\.dense\.bias$", 0), "up_bias": filled(r"intermediate\.dense\.bias$", 0),
              "down_bias": filled(r"\d\.output\.dense\.bias$", 0), "activation": setting(hidden_act="gelu_new")}
ROBERTA_FLIPS = {"head_dense_bias": filled(r"classifier\.dense\.bias$", 0), "head_bias": filled(r"out_proj\.bias$", 0)}
MODERNBERT = dict(architectures=["ModernBertForSequenceClassification"], model_type="modernbert", hidden_size=64,
                  num_hidden_layers=4, num_attention_heads=4, intermediate_size=96, hidden_activation="gelu", norm_eps=2e-3,
                  norm_bias=False, vocab_size=VOCAB, max_position_embeddings=64, global_attn_every_n_layers=3,
                  local_attention=8, global_rope_theta=1000.0, local_rope_theta=100.0, attention_bias=False, mlp_bias=False,
                  classifier_bias=False, classifier_activation="gelu", id2label=labels(3), pad_token_id=0, bos_token_id=1,
                  eos_token_id=2, cls_token_id=1, sep_token_id=2, torch_dtype="float32")
MODERNBERT_FILL = [(r"Wi\.weight$", 0.0, 0.5), (r"mlp\.Wo\.weight$", 0.0, 45.0)]
MODERNBERT_FLIPS = {"eps": times("norm_eps", 10), "norms": filled(NORM, 1), "window": setting(local_attention=120),
                    "window_edge": setting(local_attention=10), "layers": setting(global_attn_every_n_layers=2),
                    "theta": setting(global_rope_theta=100.0), "local_theta": setting(local_rope_theta=1000.0),
                    "activation": setting(hidden_activation="gelu_pytorch_tanh"),
                    "head_activation": setting(classifier_activation="silu"), "gate_and_up": rolled_by_half(r"mlp\.Wi\.weight$")}

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
    "mixtral": {
        "config": {**{k: v for k, v in LLAMA.items() if k not in ("attention_bias", "mlp_bias")},
                   "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "sliding_window": None,
                   "tie_word_embeddings": False, "num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 32},
        "flips": {**LLAMA_FLIPS, **EXPERTS, "untied": head_is_embedding},
    },
    "falcon_7b": {
        "config": dict(FALCON, multi_query=True, num_kv_heads=4, rope_theta=1000.0),
        "fill": FALCON_FILL,
        "adjust": lowered("dense_h_to_4h.weight", "input_layernorm.bias"),
        "flips": {**FALCON_FLIPS, "theta": times("rope_theta", 10)},
    },
    "falcon_40b": {
        "config": dict(FALCON, new_decoder_architecture=True, multi_query=True, num_kv_heads=2, rope_theta=1000.0,
                       num_ln_in_parallel_attn=2),
        "fill": FALCON_FILL,
        "adjust": lowered("dense_h_to_4h.weight", "ln_mlp.bias"),
        "flips": {**FALCON_FLIPS, "theta": times("rope_theta", 10),
                  "layout": permuted(r"query_key_value\.weight$", qkv_of_groups_behind_each_other),
                  "norms_exchanged": exchanged("ln_attn", "ln_mlp")},
    },
    "falcon_11b": {
        "config": dict(FALCON, new_decoder_architecture=True, multi_query=True, num_kv_heads=2, rope_theta=1000.0,
                       num_ln_in_parallel_attn=1, tie_word_embeddings=False),
        "fill": FALCON_FILL,
        "adjust": lowered("dense_h_to_4h.weight", "input_layernorm.bias"),
        "flips": {**FALCON_FLIPS, "theta": times("rope_theta", 10), "untied": head_is_embedding,
                  "layout": permuted(r"query_key_value\.weight$", qkv_of_groups_behind_each_other)},
    },
    "falcon_rw": {
        "config": dict(FALCON, alibi=True, multi_query=False, parallel_attn=False, bias=True, num_kv_heads=4),
        "fill": GELU_FILL,
        "flips": {**FALCON_FLIPS, **LINEAR_BIASES, "alibi": setting(alibi=False), "alibi_scale": alibi_times(4),
                  "alibi_twice": alibi_times(2),
                  "layout": permuted(r"query_key_value\.(weight|bias)$", qkv_behind_each_other)},
        "note": "the bias is divided by the root of the head's width, as the scores are; the reference rounds ALiBi slopes and biases to bfloat16; with this number of heads and these lengths "
                "all of them are exact",
    },
    "bloom": {
        "config": dict(architectures=["BloomForCausalLM"], model_type="bloom", hidden_size=48, n_layer=3, n_head=6,
                       layer_norm_epsilon=2e-3, apply_residual_connection_post_layernorm=False, vocab_size=VOCAB,
                       seq_length=64, pretraining_tp=1, slow_but_exact=False, bos_token_id=1, eos_token_id=2,
                       tie_word_embeddings=True, torch_dtype="float32"),
        "fill": GELU_FILL,
        "flips": {"eps": times("layer_norm_epsilon", 10), "norms": filled(NORM, 1),
                  "norm_biases": filled(r"(norm|ln_f)\w*\.bias$", 0), **LINEAR_BIASES,
                  "residual": setting(apply_residual_connection_post_layernorm=True), "alibi": no_alibi,
                  "alibi_heads": alibi_of_8, "activation": erf_gelu_for_bloom,
                  "layout": permuted(r"query_key_value\.(weight|bias)$", qkv_behind_each_other)},
    },
    "gpt_neox": {
        "config": NEOX,
        "fill": GELU_FILL,
        "flips": NEOX_FLIPS,
    },
    "gpt_neox_sequential": {
        "config": dict(NEOX, use_parallel_residual=False, rotary_pct=1.0, hidden_act="gelu_fast"),
        "fill": GELU_FILL,
        "flips": dict(NEOX_FLIPS, parallel=setting(use_parallel_residual=True), rotary_pct=setting(rotary_pct=0.25),
                      activation=setting(hidden_act="gelu")),
    },
    "olmo": {
        "config": dict(SMALL, architectures=["OlmoForCausalLM"], model_type="olmo", hidden_size=64, hidden_act="silu",
                       rope_theta=1000.0, attention_bias=False, clip_qkv=1.5, tie_word_embeddings=False),
        "fill": [(r"embed_tokens\.weight$", 0.0, 0.01)],
        "flips": {"eps": bare_norm_epsilon, "gqa": GQA, **ROTARY, "clip": setting(clip_qkv=None),
                  "untied": head_is_embedding},
    },
    "olmo2": {
        "config": dict(SMALL, architectures=["Olmo2ForCausalLM"], model_type="olmo2", hidden_size=64, hidden_act="silu",
                       rms_norm_eps=2e-3, rope_theta=1000.0, attention_bias=False, tie_word_embeddings=False),
        "flips": {"eps": times("rms_norm_eps", 10), "norms": filled(r"layernorm\.weight$", 1), **QK_NORM,
                  "gqa": both(permuted(r"q_(proj|norm)\.weight$", other_groups), swap_columns_too), **ROTARY,
                  "untied": head_is_embedding},
    },
    "olmo3": {
        "config": dict(SMALL, architectures=["Olmo3ForCausalLM"], model_type="olmo3", hidden_size=64, hidden_act="silu",
                       num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=1, rms_norm_eps=2e-3, rope_theta=500000,
                       rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32, beta_fast=32.0,
                                         beta_slow=1.0, attention_factor=1.2),
                       attention_bias=False, sliding_window=9, layer_types=["sliding_attention"] * 3 + ["full_attention"],
                       tie_word_embeddings=False),
        "flips": {"eps": times("rms_norm_eps", 10), "norms": filled(r"layernorm\.weight$", 1), **QK_NORM, **WINDOW_EDGE,
                  "layers": setting(layer_types=["full_attention"] + ["sliding_attention"] * 3),
                  "scaling": setting(rope_scaling=None),
                  "attention_factor": setting_in("rope_scaling", attention_factor=1.0),
                  "beta": setting_in("rope_scaling", beta_fast=1.5),
                  "original": setting_in("rope_scaling", original_max_position_embeddings=64), "untied": head_is_embedding},
        "note": "the scaling is that of the full layers alone; rope_theta is 500000 because this version of the reference "
                "gives sliding layers that value whatever config.json says at its top",
    },
    "gpt2": {
        "config": dict(architectures=["GPT2LMHeadModel"], model_type="gpt2", n_embd=48, n_layer=3, n_head=4, n_positions=64,
                       n_ctx=64, n_inner=None, activation_function="gelu_new", layer_norm_epsilon=2e-3, vocab_size=VOCAB,
                       resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, scale_attn_weights=True,
                       scale_attn_by_inverse_layer_idx=False, bos_token_id=1, eos_token_id=2, torch_dtype="float32"),
        "fill": [(r"c_fc\.bias$", -2.2, 0.3), (r"c_fc\.weight$", 0.0, 0.5), (r"mlp\.c_proj\.weight$", 0.0, 20.0)],
        "flips": {"eps": times("layer_norm_epsilon", 10), "norms": filled(r"ln_\w+\.weight$", 1),
                  "norm_biases": filled(r"ln_\w+\.bias$", 0), "positions": filled(r"wpe", 0),
                  "qkv_bias": filled(r"c_attn\.bias$", 0), "o_bias": filled(r"attn\.c_proj\.bias$", 0),
                  "up_bias": filled(r"c_fc\.bias$", 0), "down_bias": filled(r"mlp\.c_proj\.bias$", 0),
                  "activation": setting(activation_function="gelu")},
    },
    "qwen3": {
        "config": dict(QWEN3, architectures=["Qwen3ForCausalLM"], model_type="qwen3", tie_word_embeddings=True),
        "flips": {**LLAMA_FLIPS, **QK_NORM},
    },
    "qwen3_moe": {
        "config": dict(QWEN3, architectures=["Qwen3MoeForCausalLM"], model_type="qwen3_moe", tie_word_embeddings=False,
                       num_experts=6, num_experts_per_tok=3, moe_intermediate_size=24, norm_topk_prob=True,
                       decoder_sparse_step=1, mlp_only_layers=[]),
        "flips": {**LLAMA_FLIPS, **QK_NORM, **EXPERTS, "norm_topk_prob": setting(norm_topk_prob=False),
                  "untied": head_is_embedding},
    },
    "qwen3_moe_unnormed": {
        "config": dict(QWEN3, architectures=["Qwen3MoeForCausalLM"], model_type="qwen3_moe", tie_word_embeddings=False,
                       num_experts=6, num_experts_per_tok=3, moe_intermediate_size=24, norm_topk_prob=False,
                       decoder_sparse_step=1, mlp_only_layers=[]),
        "flips": {**LLAMA_FLIPS, **QK_NORM, **EXPERTS, "norm_topk_prob": setting(norm_topk_prob=True),
                  "untied": head_is_embedding},
    },
    "smollm3": {
        "config": dict(SMALL, architectures=["SmolLM3ForCausalLM"], model_type="smollm3", hidden_size=64, hidden_act="silu",
                       num_hidden_layers=4, rms_norm_eps=2e-3, rope_theta=1000.0, no_rope_layers=[1, 1, 1, 0],
                       no_rope_layer_interval=4, use_sliding_window=False, sliding_window=None, attention_bias=False,
                       mlp_bias=False, tie_word_embeddings=True, pad_token_id=0),
        "flips": {**LLAMA_FLIPS, "no_rope": setting(no_rope_layers=[1, 1, 1, 1]),
                  "no_rope_layers": setting(no_rope_layers=[0, 1, 1, 1])},
    },
    "gemma": {
        "config": dict(SMALL, architectures=["GemmaForCausalLM"], model_type="gemma", head_dim=16, num_key_value_heads=1,
                       hidden_act="gelu", hidden_activation=None, rms_norm_eps=2e-2, rope_theta=1000.0, attention_bias=False,
                       pad_token_id=0),
        "fill": GEMMA_FILL,
        "adjust": lowered_by_embedding("gate_proj.weight", "post_attention_layernorm.weight", 2.0),
        "flips": {"eps": times("rms_norm_eps", 10), "norms": filled(NORM, 0), **ROTARY, "embedding_scale": unscaled_embedding,
                  "activation": setting(hidden_act="gelu_python")},
        "note": "hidden_act is 'gelu', which this family's code takes for the tanh form",
    },
    "gemma2": {
        "config": dict(SMALL, architectures=["Gemma2ForCausalLM"], model_type="gemma2", head_dim=16, num_hidden_layers=4,
                       hidden_act="gelu_pytorch_tanh", hidden_activation="gelu_pytorch_tanh", rms_norm_eps=2e-3,
                       rope_theta=1000.0, attention_bias=False, query_pre_attn_scalar=24, sliding_window=9,
                       attn_logit_softcapping=5.0, final_logit_softcapping=10.0, pad_token_id=0),
        "fill": GEMMA_FILL,
        "adjust": lowered_by_embedding("gate_proj.weight", "pre_feedforward_layernorm.weight", 2.0),
        "flips": {**GEMMA_FLIPS, **ROTARY, "attention_cap": setting(attn_logit_softcapping=None),
                  "logit_cap": setting(final_logit_softcapping=None)},
    },
    "gemma3": {
        "config": dict(SMALL, architectures=["Gemma3ForCausalLM"], model_type="gemma3_text", head_dim=16, num_hidden_layers=7,
                       intermediate_size=64, hidden_activation="gelu_pytorch_tanh", rms_norm_eps=2e-3, rope_theta=1000000.0,
                       rope_local_base_freq=10000.0, rope_scaling=dict(rope_type="linear", factor=8.0), attention_bias=False,
                       query_pre_attn_scalar=24, sliding_window=9, sliding_window_pattern=6, attn_logit_softcapping=None,
                       final_logit_softcapping=None, pad_token_id=0),
        "fill": [(r"(q_norm|k_norm)\.weight$", 0.6, 0.3)] + GEMMA_FILL,
        "adjust": lowered_by_embedding("gate_proj.weight", "pre_feedforward_layernorm.weight", 2.0),
        "flips": {**GEMMA_FLIPS, "pairs": PAIRS, "q_norm": filled(r"q_norm\.weight$", 0), "k_norm": filled(r"k_norm\.weight$", 0),
                  "theta": setting(rope_theta=10000.0), "local_theta": setting(rope_local_base_freq=1000000.0),
                  "scaling": setting(rope_scaling=None), "pattern": setting(sliding_window_pattern=3)},
    },
    "phi3": {
        "config": dict(PHI3, sliding_window=9, rope_scaling=None, tie_word_embeddings=False),
        "flips": {**PHI3_FLIPS, **WINDOW, "untied": head_is_embedding},
    },
    "phi3_longrope": {
        "config": dict(PHI3, original_max_position_embeddings=16, sliding_window=None, tie_word_embeddings=False,
                       rope_scaling=dict(type="longrope", short_factor=[1.0, 1.1, 1.2, 1.4, 1.7, 2.0, 2.2, 2.5],
                                         long_factor=[1.3, 1.7, 2.5, 3.3, 4.1, 5.2, 6.4, 8.0])),
        "lengths": (1, 7, 16, 17, 40),
        "original": 16,
        "flips": {**PHI3_FLIPS, "scaling": setting(rope_scaling=None), "untied": head_is_embedding,
                  "long": setting_in("rope_scaling", long_factor=[1.0] * 8),
                  "short": setting_in("rope_scaling", short_factor=[1.0] * 8),
                  "attention_factor": setting(max_position_embeddings=16)},
        "note": "the reference takes the short factors for a prompt of at most 16 tokens and the long ones for all positions "
                "of a longer one; `context` is the limit under which a prompt's record was made: 16 or more than 16",
    },
    "phi3_partial": {
        "config": dict(PHI3, original_max_position_embeddings=16, sliding_window=None, tie_word_embeddings=True,
                       partial_rotary_factor=0.75,
                       rope_scaling=dict(type="longrope", short_factor=[1.0, 1.1, 1.2, 1.4, 1.7, 2.0],
                                         long_factor=[1.3, 1.7, 2.5, 3.3, 4.1, 5.2])),
        "lengths": (17, 40),
        "original": 16,
        "flips": {**PHI3_FLIPS, "partial": both(setting(partial_rotary_factor=0.5),
                                                setting_in("rope_scaling", short_factor=[1.0] * 4, long_factor=[1.3, 1.7, 2.5, 3.3])),
                  "long": setting_in("rope_scaling", long_factor=[1.0] * 6)},
        "note": "all prompts are longer than the original length: the long factors hold",
    },
    "gpt_oss": {
        "config": dict(SMALL, architectures=["GptOssForCausalLM"], model_type="gpt_oss", hidden_size=64, intermediate_size=32,
                       num_hidden_layers=4, head_dim=16, hidden_act="silu", rms_norm_eps=2e-3, rope_theta=150000,
                       rope_scaling=dict(rope_type="yarn", factor=4.0, beta_fast=32.0, beta_slow=1.0, truncate=False,
                                         original_max_position_embeddings=32),
                       attention_bias=True, sliding_window=9, layer_types=["sliding_attention", "full_attention"] * 2,
                       num_local_experts=4, num_experts_per_tok=2, experts_per_token=2, swiglu_limit=7.0,
                       tie_word_embeddings=False),
        "fill": [(r"sinks$", 1.0, 2.0), (r"experts\.gate_up_proj$", 0.0, 3.5), (r"experts\.down_proj$", 0.0, 0.5)],
        "flips": {**LLAMA_FLIPS, **WINDOW_EDGE, **ALL_BIASES, "o_bias": filled(r"o_proj\.bias$", 0),
                  "sinks": filled(r"sinks$", -1e4), "limit": setting(swiglu_limit=100.0),
                  "router_bias": filled(r"router\.bias$", 0), "gate_up_bias": filled(r"gate_up_proj_bias$", 0),
                  "down_bias": filled(r"down_proj_bias$", 0), "used": add("num_experts_per_tok", 1),
                  "order": rolled(r"experts\.down_proj$"), "gate_and_up_behind_each_other": gate_behind_up,
                  "layers": setting(layer_types=["full_attention", "sliding_attention"] * 2),
                  "scaling": setting(rope_scaling=dict(rope_type="default")), "truncate": setting_in("rope_scaling", truncate=True),
                  "original": setting_in("rope_scaling", original_max_position_embeddings=64),
                  "attention_factor": setting_in("rope_scaling", attention_factor=1.0), "untied": head_is_embedding},
    },
    "bert": {
        "config": dict(BERT, architectures=["BertForSequenceClassification"], model_type="bert", max_position_embeddings=64,
                       type_vocab_size=2, pad_token_id=0),
        "fill": GELU_FILL,
        "flips": {**BERT_FLIPS, "second_type": filled_row(r"token_type_embeddings", 1, 0), "pooler_bias": filled(r"pooler\.dense\.bias$", 0), "head_bias": filled(r"classifier\.bias$", 0)},
    },
    "roberta": {
        "config": dict(BERT, architectures=["RobertaForSequenceClassification"], model_type="roberta", max_position_embeddings=66,
                       type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2),
        "fill": GELU_FILL,
        "flips": {**BERT_FLIPS, **ROBERTA_FLIPS},
        "note": "the first position is row 2 of the position embeddings",
    },
    "xlm_roberta": {
        "config": dict(BERT, architectures=["XLMRobertaForSequenceClassification"], model_type="xlm-roberta", id2label=labels(1),
                       max_position_embeddings=66, type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2),
        "fill": GELU_FILL,
        "flips": {**BERT_FLIPS, **ROBERTA_FLIPS},
        "note": "one label, as rerankers have; the first position is row 2 of the position embeddings",
    },
    "modernbert": {
        "config": dict(MODERNBERT, classifier_pooling="cls"),
        "fill": MODERNBERT_FILL,
        "adjust": lowered_by_embedding("Wi.weight", "mlp_norm.weight", 2.0),
        "flips": dict(MODERNBERT_FLIPS, pooling=setting(classifier_pooling="mean")),
    },
    "modernbert_mean": {
        "config": dict(MODERNBERT, classifier_pooling="mean", id2label=labels(1)),
        "fill": MODERNBERT_FILL,
        "adjust": lowered_by_embedding("Wi.weight", "mlp_norm.weight", 2.0),
        "flips": dict(MODERNBERT_FLIPS, pooling=setting(classifier_pooling="cls")),
    },
}

# ---- Writing and checking ----


def make_prompts(spec, key):
    chance = random.Random(key)
    return [[chance.randrange(3, VOCAB) for _ in range(n)] for n in spec.get("lengths", LENGTHS)]


def gap(answers):
    """Between the largest and the next of the logits, the smallest over all positions, relative to the largest of all."""
    if answers[0]["logits"].shape[-1] == 1:
        return np.inf
    largest = max(np.abs(a["logits"]).max() for a in answers)
    ordered = [np.sort(a["logits"], axis=-1) for a in answers]
    return float(min((o[..., -1] - o[..., -2]).min() for o in ordered) / largest)


def flipped(spec, tensors, prompts, answers):
    features = {}
    for name, flip in spec["flips"].items():
        config, changed = copy.deepcopy(spec["config"]), dict(tensors)
        with flip(config, changed) or contextlib.nullcontext():
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
    model = model_class(config).from_pretrained(folder, dtype=torch.float32, attn_implementation=attention(config))
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
        if any(types_of(spec["config"], tokens)):
            lines.append(f'   "types": {json.dumps(types_of(spec["config"], tokens))},')
        if "original" in spec:
            limit = spec["original"] if len(tokens) <= spec["original"] else spec["config"]["max_position_embeddings"]
            lines.append(f'   "context": {limit},')
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
