"""Writes the windows that tests/golden/compare reads, for a GGUF file on WikiText-2.

    windows.py MODEL.gguf WIKITEXT_FOLDER [--float FLOAT.gguf] [--windows N] > WINDOWS

The first 20,000 tokens of the text (tokenised by llama-cpp-python) in disjoint windows of 512, the first of them
BOS where the file says so, and the logits of llama-cpp-python for each.  With --float it decodes the weights to
f32 first, into a file that is removed again: then it computes with the same weights and rounds no activations.
Needs the PyPI packages llama-cpp-python and numpy.

SPDX-License-Identifier: Apache-2.0
"""
import argparse
import ctypes
import os
import pathlib
import struct
import sys

import llama_cpp
import numpy

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("wikitext")
parser.add_argument("--float")
parser.add_argument("--windows", type=int, default=39)
options = parser.parse_args()

text = "".join(p.read_text(encoding="utf-8") for p in sorted(pathlib.Path(options.wikitext).glob("*"))
               if p.suffix in (".txt", ".raw", ".tokens"))
model = options.model
if options.float:
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = 0, True  # all of it F32
    model = options.float
    assert llama_cpp.llama_model_quantize(options.model.encode(), model.encode(), ctypes.byref(params)) == 0
llama = llama_cpp.Llama(model, n_ctx=512, n_batch=512, n_threads=2, logits_all=True, verbose=False)
if options.float:
    os.unlink(model)
ids = llama.tokenize(text[:200000].encode(), add_bos=False, special=False)[:20000]
assert len(ids) == 20000, len(ids)
start = [llama.token_bos()] if llama.metadata.get("tokenizer.ggml.add_bos_token") == "true" else []
step = 512 - len(start)
out = sys.stdout.buffer
for window in range(options.windows):
    part = start + ids[window * step:(window + 1) * step]
    out.write(struct.pack("<I", len(part)) + numpy.array(part, "<i4").tobytes())
    llama.reset()
    llama.eval(part)
    rows = numpy.asarray(llama.scores[:len(part) - 1], dtype="<f4")
    out.write(struct.pack("<I", len(rows)) + rows.tobytes())
    out.flush()
    print(f"window {window + 1} of {options.windows}", file=sys.stderr)
