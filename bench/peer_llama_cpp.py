"""Prompt and generation speed of llama-cpp-python on a GGUF file, as JSON.

    peer_llama_cpp.py MODEL.gguf [-p 512] [-n 128] [-t 2] [-r 1]

Calls the decoder directly (no Python between tokens but the call itself), greedy, flash attention as the
library defaults it.  One warm-up pass, then -r repetitions; prints tokens per second of each.

SPDX-License-Identifier: Apache-2.0
"""
import argparse
import json
import time

import llama_cpp

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("-p", type=int, default=512)
parser.add_argument("-n", type=int, default=128)
parser.add_argument("-t", type=int, default=2)
parser.add_argument("-r", type=int, default=1)
options = parser.parse_args()

llama = llama_cpp.Llama(options.model, n_ctx=options.p + options.n + 8, n_batch=options.p, n_ubatch=min(options.p, 512),
                        n_threads=options.t, n_threads_batch=options.t, verbose=False)
context = llama._ctx.ctx
memory = llama_cpp.llama_get_memory(context)
tokens = (llama_cpp.llama_token * options.p)(*[(i * 7919) % 1000 + 100 for i in range(options.p)])
one = (llama_cpp.llama_token * 1)(100)


def run():
    llama_cpp.llama_memory_clear(memory, True)
    start = time.perf_counter()
    assert llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, options.p)) == 0
    llama_cpp.llama_synchronize(context)
    middle = time.perf_counter()
    # Generation from an empty context, as the counterpart measures it.
    llama_cpp.llama_memory_clear(memory, True)
    begin = time.perf_counter()
    for _ in range(options.n):
        assert llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(one, 1)) == 0
        llama_cpp.llama_synchronize(context)
    end = time.perf_counter()
    return options.p / (middle - start), options.n / (end - begin)


run()
results = [run() for _ in range(options.r)]
print(json.dumps({"prompt": [round(r[0], 2) for r in results], "generate": [round(r[1], 2) for r in results],
                  "version": llama_cpp.__version__, "threads": options.t}))
