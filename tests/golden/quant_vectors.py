# SPDX-License-Identifier: Apache-2.0
"""Writes tests/quant/data/blocks.bin: weight blocks and what they decode to.

    python tests/golden/quant_vectors.py        (needs numpy and the PyPI package gguf)

The decoder is the numpy one of the package gguf, so the C decoders are held to an
implementation we did not write.  The blocks are random bytes from a fixed seed; the
f16 scales of the first are ordinary numbers, those of the last few are zeros of
both signs, the smallest and largest subnormal, the largest number, infinity, NaN.

File: for each type  u32 type, u32 blocks, the blocks, then float32 of every weight.
All numbers little-endian.
"""
import pathlib
import struct

import gguf
import numpy as np

TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K",
         "Q2_K", "Q3_K", "IQ4_NL", "IQ4_XS", "MXFP4",
         "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "TQ1_0", "TQ2_0"]
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2],
          "Q6_K": [208], "Q2_K": [80, 82], "Q3_K": [108], "IQ4_NL": [0], "IQ4_XS": [0], "IQ1_S": [0], "IQ2_XXS": [0],
          "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0], "TQ1_0": [52], "TQ2_0": [64]}
ODD = [0x0000, 0x8000, 0x0001, 0x83FF, 0x7BFF, 0xFC00, 0x7E00]


def blocks_of(name, size, random):
    if name not in SCALES:
        return random.integers(0, 256, (16 if name in ("MXFP4", "IQ1_M") else 128, size), dtype=np.uint8)
    blocks = random.integers(0, 256, (4 + len(ODD) if size < 50 else 5, size), dtype=np.uint8)
    for i, block in enumerate(blocks):
        for j, at in enumerate(SCALES[name]):
            value = np.float16(random.uniform(-0.02, 0.02)).view(np.uint16)
            if i >= 4:
                value = np.uint16(ODD[(i + 2 * j) % len(ODD)])
            block[at:at + 2] = np.frombuffer(struct.pack("<H", value), np.uint8)
    return blocks


def main():
    random = np.random.default_rng(20240607)
    out = bytearray()
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        _, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = blocks_of(name, size, random)
        if name == "F32":
            decoded = blocks.view(np.float32)
        elif name == "F16":
            decoded = blocks.view(np.float16).astype(np.float32)
        else:
            with np.errstate(all="ignore"):
                decoded = gguf.quants.dequantize(blocks, kind)
        out += struct.pack("<II", int(kind), len(blocks)) + blocks.tobytes()
        out += np.ascontiguousarray(decoded, dtype="<f4").tobytes()
    path = pathlib.Path(__file__).resolve().parent.parent / "quant" / "data" / "blocks.bin"
    path.write_bytes(bytes(out))
    print(path, len(out), "bytes")


main()
