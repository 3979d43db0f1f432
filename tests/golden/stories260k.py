"""The llama2.c checkpoint stories260K as a float32 GGUF file, and its greedy ids.

    stories260k.py FOLDER OUT.gguf          writes the GGUF file (standard library only)
    stories260k.py FOLDER --ids             prints the 200 greedy token ids of a float64 forward pass
                                            (needs numpy) and checks that they spell the published text

FOLDER holds stories260K.bin, tok512.bin and expected.json.  The checkpoint is a header of seven int32 (width, MLP
width, layers, heads, KV heads, vocabulary, context), then float32 arrays: embedding, attention
norms, wq, wk, wv, wo, MLP norms, w1 (gate), w2 (down), w3 (up), final norm, two unused rotary tables;
the output head is the embedding.  tok512.bin is the longest length, then per token a score, a length, bytes.
llama2.c turns neighbouring pairs, which is how GGUF files of this family are laid out, so no row moves.

SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import struct
import sys
from array import array

ALIGNMENT = 32


def read_checkpoint(folder):
    data = (folder / "stories260K.bin").read_bytes()
    width, ffn, layers, heads, kv_heads, vocab, context = struct.unpack_from("<7i", data)
    head = width // heads
    at = 28
    tensors = {}

    def take(name, *shape):
        nonlocal at
        count = 1
        for n in shape:
            count *= n
        tensors[name] = (shape, data[at:at + 4 * count])
        at += 4 * count

    take("token_embd.weight", vocab, width)
    for part, rows, columns in (("attn_norm", None, width), ("attn_q", width, width), ("attn_k", kv_heads * head, width),
                                ("attn_v", kv_heads * head, width), ("attn_output", width, width),
                                ("ffn_norm", None, width), ("ffn_gate", ffn, width), ("ffn_down", width, ffn),
                                ("ffn_up", ffn, width)):
        for layer in range(layers):
            take(f"blk.{layer}.{part}.weight", *((columns,) if rows is None else (rows, columns)))
    take("output_norm.weight", width)
    sizes = dict(width=width, ffn=ffn, layers=layers, heads=heads, kv_heads=kv_heads, vocab=vocab, context=context)
    return sizes, tensors


def read_vocabulary(folder):
    data = (folder / "tok512.bin").read_bytes()
    at = 4
    tokens = []
    while at < len(data):
        score, length = struct.unpack_from("<fi", data, at)
        at += 8
        tokens.append((data[at:at + length], score))
        at += length
    return tokens


def text(value):
    if isinstance(value, str):
        value = value.encode()
    return struct.pack("<Q", len(value)) + value


def write_gguf(folder, out):
    sizes, tensors = read_checkpoint(folder)
    tokens = read_vocabulary(folder)
    # llama2.c writes a blank where SentencePiece writes U+2581, and pads its control tokens with newlines.
    spelled = [piece.strip(b"\n") if i in (1, 2) else piece.replace(b" ", "\u2581".encode())
               for i, (piece, _) in enumerate(tokens)]
    kinds = [2 if i == 0 else 3 if i in (1, 2) else 6 if i < 259 else 1 for i in range(len(tokens))]

    def key(name, kind, value):
        return text(name) + struct.pack("<I", kind) + value

    def u32(name, value):
        return key(name, 4, struct.pack("<I", value))

    def items(name, kind, values, pack):
        return key(name, 9, struct.pack("<IQ", kind, len(values)) + b"".join(pack(v) for v in values))

    keys = [
        key("general.architecture", 8, text("llama")),
        key("general.name", 8, text("stories260K")),
        key("general.license", 8, text("mit")),
        u32("general.file_type", 0),
        u32("llama.context_length", sizes["context"]),
        u32("llama.embedding_length", sizes["width"]),
        u32("llama.block_count", sizes["layers"]),
        u32("llama.feed_forward_length", sizes["ffn"]),
        u32("llama.attention.head_count", sizes["heads"]),
        u32("llama.attention.head_count_kv", sizes["kv_heads"]),
        u32("llama.rope.dimension_count", sizes["width"] // sizes["heads"]),
        key("llama.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-5)),
        key("tokenizer.ggml.model", 8, text("llama")),
        items("tokenizer.ggml.tokens", 8, spelled, text),
        items("tokenizer.ggml.scores", 6, [score for _, score in tokens], lambda v: struct.pack("<f", v)),
        items("tokenizer.ggml.token_type", 5, kinds, lambda v: struct.pack("<i", v)),
        u32("tokenizer.ggml.bos_token_id", 1),
        u32("tokenizer.ggml.eos_token_id", 2),
        u32("tokenizer.ggml.unknown_token_id", 0),
    ]
    infos, data = b"", b""
    for name, (shape, content) in tensors.items():
        infos += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *reversed(shape))
        infos += struct.pack("<IQ", 0, len(data))
        data += content + bytes(-len(content) % ALIGNMENT)
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys) + infos
    out.write_bytes(header + bytes(-len(header) % ALIGNMENT) + data)


def greedy_ids(folder, steps):
    import numpy
    sizes, raw = read_checkpoint(folder)
    weights = {name: numpy.frombuffer(content, "<f4").reshape(shape).astype("f8") for name, (shape, content) in raw.items()}
    heads, kv_heads, width = sizes["heads"], sizes["kv_heads"], sizes["width"]
    head = width // heads
    keys = [[] for _ in range(sizes["layers"])]
    values = [[] for _ in range(sizes["layers"])]

    def norm(x, weight):
        return weight * x / numpy.sqrt(numpy.mean(x * x) + 1e-5)

    def rotate(x, position):
        pairs = x.reshape(-1, head // 2, 2)
        angle = position * 10000.0 ** (-2.0 * numpy.arange(head // 2) / head)
        a, b = pairs[..., 0], pairs[..., 1]
        turned = numpy.stack([a * numpy.cos(angle) - b * numpy.sin(angle), a * numpy.sin(angle) + b * numpy.cos(angle)], -1)
        return turned.reshape(x.shape)

    ids, token = [], 1
    for position in range(steps):
        x = weights["token_embd.weight"][token].copy()
        for layer in range(sizes["layers"]):
            def w(name):
                return weights[f"blk.{layer}.{name}.weight"]
            h = norm(x, w("attn_norm"))
            q = rotate(w("attn_q") @ h, position).reshape(heads, head)
            keys[layer].append(rotate(w("attn_k") @ h, position).reshape(kv_heads, head))
            values[layer].append((w("attn_v") @ h).reshape(kv_heads, head))
            k, v = numpy.array(keys[layer]), numpy.array(values[layer])
            mixed = []
            for i in range(heads):
                scores = k[:, i * kv_heads // heads] @ q[i] / numpy.sqrt(head)
                p = numpy.exp(scores - scores.max())
                mixed.append((p / p.sum()) @ v[:, i * kv_heads // heads])
            x += w("attn_output") @ numpy.concatenate(mixed)
            h = norm(x, w("ffn_norm"))
            gate = w("ffn_gate") @ h
            x += w("ffn_down") @ (gate / (1 + numpy.exp(-gate)) * (w("ffn_up") @ h))
        token = int(numpy.argmax(weights["token_embd.weight"] @ norm(x, weights["output_norm.weight"])))
        ids.append(token)
    return ids


def main():
    folder = pathlib.Path(sys.argv[1])
    if sys.argv[2] != "--ids":
        write_gguf(folder, pathlib.Path(sys.argv[2]))
        return
    expected = json.loads((folder / "expected.json").read_text())
    ids = greedy_ids(folder, expected["steps"])
    tokens = read_vocabulary(folder)
    # Ids 3 to 258 are single bytes, spelled <0xNN>.
    spelled = b"".join(bytes([i - 3]) if 3 <= i < 259 else tokens[i][0] for i in ids).decode().removeprefix(" ")
    if spelled.rstrip() != expected["expected_text"].rstrip():
        sys.exit(f"the text differs:\n{spelled}")
    print(",".join(map(str, ids)))


main()
