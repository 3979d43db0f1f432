"""Makes the files that quantise_results.md compares.

    quantise_peer.py parent IN.gguf PARENT.gguf           the weights of IN as F32, off their lattice
    quantise_peer.py quantise PARENT.gguf IMATRIX PREFIX  PREFIX<type>.gguf by llama.cpp's quantiser, with these importances

The packages that a registry carries are quantised already.  A weight on the lattice of its old code says little about an encoder, so
"parent" moves each by a uniform random part of its step, from -1/2 to 1/2: what it may have been before.  Needs the
PyPI packages numpy, gguf and, for "quantise", llama-cpp-python.

SPDX-License-Identifier: Apache-2.0
"""
import ctypes
import sys
import time

import gguf
import numpy

FILE_TYPES = {"Q8_0": 7, "Q6_K": 18, "Q5_K_M": 17, "Q4_K_M": 15, "Q4_0": 2, "IQ4_XS": 30}
FLOATS = (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16)


def steps(tensor):
    """The distance of neighbouring codes, for each weight."""
    kind = tensor.tensor_type
    blocks = numpy.asarray(tensor.data).view(numpy.uint8).reshape(-1, gguf.GGML_QUANT_SIZES[kind][1])

    def half(offset):
        return blocks[:, offset:offset + 2].copy().view(numpy.float16).astype(numpy.float32)

    if kind.name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"):
        return numpy.repeat(numpy.abs(half(0)), 32, axis=1)
    if kind.name in ("Q4_K", "Q5_K"):
        scales, _ = gguf.quants.Q4_K.get_scale_min(blocks[:, 4:16].copy())
        return numpy.repeat(half(0) * scales.astype(numpy.float32), 32, axis=1)
    if kind.name == "Q6_K":
        scales = blocks[:, 192:208].copy().view(numpy.int8).astype(numpy.float32)
        return numpy.repeat(numpy.abs(half(208) * scales), 16, axis=1)
    raise SystemExit(f"{tensor.name} is {kind.name}: not known here")


def make_parent(source, target):
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type", "general.quantization_version"):
            continue
        of = {"sub_type": field.types[-1]} if field.types[0] == gguf.GGUFValueType.ARRAY else {}
        writer.add_key_value(name, field.contents(), field.types[0], **of)
    writer.add_file_type(0)
    random = numpy.random.default_rng(20240)
    for tensor in reader.tensors:
        shape = tuple(int(n) for n in reversed(tensor.shape))
        weights = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32).reshape(shape)
        if tensor.tensor_type not in FLOATS:
            weights = weights + steps(tensor).reshape(shape) * (random.random(shape, dtype=numpy.float32) - numpy.float32(0.5))
        writer.add_tensor(tensor.name, numpy.ascontiguousarray(weights, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantise(parent, imatrix, prefix):
    import llama_cpp

    tensors = {t.name: numpy.asarray(t.data, dtype=numpy.float32) for t in gguf.GGUFReader(imatrix).tensors}
    names = [name.removesuffix(".in_sum2") for name in tensors if name.endswith(".in_sum2")]
    entries = (llama_cpp.llama_model_imatrix_data * (len(names) + 1))()
    kept = []
    for entry, name in zip(entries, names):
        counts = tensors[name + ".counts"].reshape(-1, 1)
        means = tensors[name + ".in_sum2"].reshape(len(counts), -1) / numpy.maximum(counts, 1)
        kept.append(numpy.ascontiguousarray(means.reshape(-1)))
        entry.name, entry.size = name.encode(), kept[-1].size
        entry.data = kept[-1].ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    llama_cpp.llama_backend_init()
    for name, number in FILE_TYPES.items():
        params = llama_cpp.llama_model_quantize_default_params()
        params.nthread, params.ftype, params.imatrix = 2, number, entries
        begin = time.time()
        if llama_cpp.llama_model_quantize(parent.encode(), (prefix + name + ".gguf").encode(), ctypes.byref(params)) != 0:
            raise SystemExit(f"{name}: refused")
        print(f"{name}: {time.time() - begin:.1f} s", flush=True)


if len(sys.argv) == 4 and sys.argv[1] == "parent":
    make_parent(*sys.argv[2:])
elif len(sys.argv) == 5 and sys.argv[1] == "quantise":
    quantise(*sys.argv[2:])
else:
    raise SystemExit(__doc__)
