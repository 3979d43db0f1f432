"""Our speed and llama-cpp-python's in turns, and what their ratios say.

    side_by_side.py APERTO PYTHON MODEL.gguf [--rounds 7] [--threads 2]

Each round runs one engine after the other (A B, then B A), prompt of 512 tokens and 128 generated ones;
prints medians and the median of the paired ratios with its range, and writes them to bench/RESULTS.md.

SPDX-License-Identifier: Apache-2.0
"""
import argparse
import json
import pathlib
import platform
import statistics
import subprocess

parser = argparse.ArgumentParser()
parser.add_argument("aperto")
parser.add_argument("python")
parser.add_argument("model")
parser.add_argument("--rounds", type=int, default=7)
parser.add_argument("--threads", type=int, default=2)
options = parser.parse_args()
here = pathlib.Path(__file__).parent


def ours():
    out = subprocess.check_output([options.aperto, "bench", options.model, "-r", "1", "--threads", str(options.threads), "--json"])
    return {r["kind"]: r["tokens_per_s"] for r in json.loads(out)["results"]}


def peer():
    out = subprocess.check_output([options.python, here / "peer_llama_cpp.py", options.model, "-t", str(options.threads)],
                                  stderr=subprocess.DEVNULL)
    result = json.loads(out)
    peer.version = result["version"]
    return {"prompt": result["prompt"][0], "generate": result["generate"][0]}


pairs = []
for i in range(options.rounds):
    if i % 2:
        b = peer()
        a = ours()
    else:
        a = ours()
        b = peer()
    pairs.append((a, b))
    print(f"round {i + 1}: ours {a}, llama-cpp-python {b}", flush=True)

cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
lines = ["# Side by side with llama-cpp-python", "",
         f"`make bench`: {pathlib.Path(options.model).name}, {options.threads} threads, {cpu}, {options.rounds} rounds in turns, "
         f"llama-cpp-python {peer.version} built with GGML_NATIVE. Medians, tokens per second; ratios of the paired rounds.", "",
         "| work | aperto | llama-cpp-python | ratio, median | lowest to highest |", "|---|---|---|---|---|"]
for kind, text in (("prompt", "prompt of 512 tokens"), ("generate", "128 generated tokens")):
    ratios = sorted(a[kind] / b[kind] for a, b in pairs)
    lines.append(f"| {text} | {statistics.median(a[kind] for a, _ in pairs):.0f} | {statistics.median(b[kind] for _, b in pairs):.0f} "
                 f"| {statistics.median(ratios):.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f} |")
text = "\n".join(lines) + "\n"
(here / "RESULTS.md").write_text(text)
print(text)
