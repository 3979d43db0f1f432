"""test_exports.py APERTO MAKE_TINY - what quantize, convert, imatrix, pull and push write, and what they do not.

Bad files, dozens of them, each made from a good one by one change, or from the seeds of the fuzz targets: every command refuses in
one line and leaves no file behind, neither target nor temporary, and nothing in a registry.  Good files: the output has the same bytes whatever
freshly allocated memory holds (MALLOC_PERTURB_), and no padding that is not zero.  A canary in the environment shows nowhere.

SPDX-License-Identifier: Apache-2.0
"""
import concurrent.futures
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "fetch"))
from registry_server import Registry

aperto, make_tiny = (str(pathlib.Path(p).resolve()) for p in sys.argv[1:3])
tests = pathlib.Path(__file__).resolve().parent.parent
CANARY = b"canary-7f3b91d2-never-in-a-file"
failures = []
registry = Registry().start()


def complain(what):
    failures.append(what)
    print("FAILED", what, flush=True)


# ---- A GGUF file's parts ----

class Gguf:
    """Where the fields of a header stand."""
    SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def __init__(self, data):
        self.data, self.at = data, 4
        self.u32()
        self.tensor_count, self.key_count = self.u64(), self.u64()
        self.keys, self.tensors = {}, []
        for _ in range(self.key_count):
            start, name = self.at, self.text()
            kind_at, kind = self.at, self.u32()
            self.keys[name] = (start, kind_at, self.at, kind)
            self.skip(kind)
        for _ in range(self.tensor_count):
            tensor = {"start": self.at, "name": self.text(), "dims_at": self.at}
            tensor["dims"] = [self.u64() for _ in range(self.u32())]
            tensor["type_at"], tensor["type"] = self.at, self.u32()
            tensor["offset_at"], tensor["offset"] = self.at, self.u64()
            self.tensors.append(tensor)
        self.header_end = self.at
        self.data_start = (self.at + 31) // 32 * 32

    def u32(self):
        self.at += 4
        return struct.unpack_from("<I", self.data, self.at - 4)[0]

    def u64(self):
        self.at += 8
        return struct.unpack_from("<Q", self.data, self.at - 8)[0]

    def text(self):
        count = self.u64()
        self.at += count
        return self.data[self.at - count:self.at].decode()

    def skip(self, kind):
        if kind == 8:
            self.text()
        elif kind == 9:
            item, count = self.u32(), self.u64()
            for _ in range(count):
                self.skip(item)
        else:
            self.at += self.SIZES[kind]


def with_bytes(data, at, form, value):
    changed = bytearray(data)
    struct.pack_into(form, changed, at, value)
    return bytes(changed)


def bad_ggufs(good):
    """(name, bytes)"""
    g = Gguf(good)
    for i, value in enumerate((2**31, 2**32, 2**61, 2**63, 2**64 - 1)):
        yield f"tensors-{i}", with_bytes(good, 8, "<Q", value)
        yield f"keys-{i}", with_bytes(good, 16, "<Q", value)
        yield f"dim-{i}", with_bytes(good, g.tensors[0]["dims_at"] + 4, "<Q", value)
        yield f"offset-{i}", with_bytes(good, g.tensors[1]["offset_at"], "<Q", value)
        yield f"key-name-{i}", with_bytes(good, g.keys["llama.block_count"][0], "<Q", value)
    for version in (0, 1, 99):
        yield f"version-{version}", with_bytes(good, 4, "<I", version)
    for cut in (0, 3, 4, 8, 16, 23, 24, g.header_end // 2, g.header_end - 1, g.header_end, g.data_start, g.data_start + 1,
                (g.data_start + len(good)) // 2, len(good) - 1):
        yield f"cut-{cut}", good[:cut]
    yield "magic", b"GGUX" + good[4:]
    yield "dims", with_bytes(good, g.tensors[0]["dims_at"], "<I", 5)
    yield "dims-0", with_bytes(good, g.tensors[0]["dims_at"] + 4, "<Q", 0)
    yield "type", with_bytes(good, g.tensors[0]["type_at"], "<I", 99)
    yield "misaligned", with_bytes(good, g.tensors[1]["offset_at"], "<Q", g.tensors[1]["offset"] + 1)
    yield "overlap", with_bytes(good, g.tensors[2]["offset_at"], "<Q", g.tensors[1]["offset"])
    same = next(t for t in g.tensors[1:] for u in g.tensors if u is not t and len(u["name"]) == len(t["name"]))
    other = next(u for u in g.tensors if u is not same and len(u["name"]) == len(same["name"]))
    yield "twice", good[:same["start"] + 8] + other["name"].encode() + good[same["start"] + 8 + len(same["name"]):]
    yield "renamed", good[:g.tensors[2]["start"] + 8] + b"x" + good[g.tensors[2]["start"] + 9:]
    for key in ("block_count", "embedding_length", "attention.head_count", "attention.head_count_kv", "feed_forward_length"):
        for value in (0, 2**31, 7):
            yield f"{key}-{value}", with_bytes(good, g.keys["llama." + key][2], "<I", value)
        yield f"{key}-kind", with_bytes(good, g.keys["llama." + key][1], "<I", 6)
    start = g.keys["general.architecture"][2]
    yield "architecture", good[:start + 8] + b"lxama" + good[start + 13:]


def bad_folders(config, weights):
    """(name, files)"""
    def folder(name, **changes):
        return name, {"config.json": json.dumps({**config, **changes}).encode(), "model.safetensors": weights}

    header_bytes = struct.unpack_from("<Q", weights)[0]
    header, data = json.loads(weights[8:8 + header_bytes]), weights[8 + header_bytes:]
    names = [name for name in header if name != "__metadata__"]

    def file_of(changed, rest=data):
        text = json.dumps(changed).encode()
        return struct.pack("<Q", len(text)) + text + rest

    def tensor(name, which=0, **changes):
        return name, {"config.json": json.dumps(config).encode(),
                      "model.safetensors": file_of({**header, names[which]: {**header[names[which]], **changes}})}

    for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"):
        for value in (0, -1, 7, 2**31, 2**63, "x", None, 1.5):
            yield folder(f"{key}-{value}", **{key: value})
    yield folder("family", architectures=["NoSuchForCausalLM"], model_type="no_such")
    yield "no-config", {"model.safetensors": weights}
    yield "config-cut", {"config.json": json.dumps(config).encode()[:-5], "model.safetensors": weights}
    yield "config-empty", {"config.json": b"", "model.safetensors": weights}
    for value in (0, 1, 2**31, 2**61, 2**64 - 1, len(weights) - 7):
        yield f"header-{value}", {"config.json": json.dumps(config).encode(),
                                  "model.safetensors": struct.pack("<Q", value) + weights[8:]}
    for cut in (0, 7, 8, 9, 8 + header_bytes, 9 + header_bytes, len(weights) - 1):
        yield f"weights-cut-{cut}", {"config.json": json.dumps(config).encode(), "model.safetensors": weights[:cut]}
    begin, end = header[names[0]]["data_offsets"]
    yield tensor("dtype", dtype="Q9")
    yield tensor("past-the-end", data_offsets=[begin, end + 2**40])
    yield tensor("backwards", data_offsets=[end, begin])
    yield tensor("overlap", 1, data_offsets=header[names[0]]["data_offsets"])
    yield tensor("shape", shape=[2**32, 2**32])
    missing = {name: entry for name, entry in header.items() if name != names[1]}
    yield "gap", {"config.json": json.dumps(config).encode(), "model.safetensors": file_of(missing)}
    yield "trailing", {"config.json": json.dumps(config).encode(), "model.safetensors": weights + b"\0"}
    for i, path in enumerate(("../../x.safetensors", "/etc/passwd", "a\\b.safetensors", "x" * 4096)):
        index = {"weight_map": {name: path for name in names}}
        yield f"index-{i}", {"config.json": json.dumps(config).encode(), "model.safetensors.index.json": json.dumps(index).encode()}


# ---- Running ----

def environment(home, fill=None):
    env = {**os.environ, "APERTO_DATA": str(home / "data"), "TMPDIR": str(home), "HOME": str(home), "NO_COLOR": "1",
           "APERTO_CANARY": CANARY.decode()}
    env.pop("MALLOC_PERTURB_", None)
    if fill is not None:
        env["MALLOC_PERTURB_"] = str(fill)
    return env


def run(home, *arguments, fill=None):
    return subprocess.run([aperto, *arguments], cwd=home, env=environment(home, fill), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)


def files_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())


def refused(home, name, source, commands, must):
    """Each command; what is refused leaves nothing."""
    before = files_in(home)
    for command in commands:
        done = run(home, *command)
        said = done.stdout + done.stderr
        where = f"{name}: {command[0]}"
        if CANARY in said:
            complain(f"{where}: the canary is in what it says")
        if done.returncode == 0 and not must:
            shutil.rmtree(home / "out", ignore_errors=True) if (home / "out").is_dir() else (home / "out").unlink(missing_ok=True)
            shutil.rmtree(home / "data", ignore_errors=True)
            continue
        if done.returncode != 1 or done.stderr.count(b"\n") != 1 or not done.stderr.startswith(b"aperto: error: "):
            complain(f"{where}: exit {done.returncode}, {done.stderr[:200]!r}")
        left = [f for f in files_in(home) if f not in before and f != "data/models/lock"]
        if left:
            complain(f"{where}: left {left}")
            return
        if any(f"/bad/{name.lower()}/" in path for _, path, _ in registry.log):
            complain(f"{where}: the registry was asked")


def one_gguf(work, name, data, must):
    home = work / f"gguf-{name}"
    home.mkdir()
    (home / "bad.gguf").write_bytes(data)
    (home / "text").write_text("The quick brown fox jumps over the lazy dog, and so does the next one.")
    refused(home, name, home / "bad.gguf", [
        ("convert", "bad.gguf", "out"),
        ("quantize", "bad.gguf", "out", "--type", "Q8_0"),
        ("imatrix", "bad.gguf", "--file", "text", "--out", "out", "--ctx", "16"),
        ("pull", "bad.gguf", "--as", "bad"),
    ] + [("push", "./bad.gguf", f"oci://{registry.host}/bad/{name.lower()}:1")] * must, must)
    shutil.rmtree(home)


def one_folder(work, name, files):
    home = work / f"folder-{name}"
    (home / "bad").mkdir(parents=True)
    for file, data in files.items():
        (home / "bad" / file).write_bytes(data)
    refused(home, name, home / "bad", [
        ("convert", "bad", "out.gguf"),
        ("quantize", "bad", "out", "--type", "Q8_0"),
        ("pull", "bad", "--as", "bad"),
        ("push", "./bad", f"oci://{registry.host}/bad/{name.lower()}:1"),
    ], True)
    shutil.rmtree(home)


# ---- Good files ----

def check_padding(name, data):
    g = Gguf(data)
    spans = [(0, g.header_end)]
    sizes = {0: (1, 4), 1: (1, 2), 2: (32, 18), 8: (32, 34), 12: (256, 144), 14: (256, 210), 30: (1, 2)}
    for tensor in g.tensors:
        elements = 1
        for dim in tensor["dims"]:
            elements *= dim
        block, size = sizes[tensor["type"]]
        begin = g.data_start + tensor["offset"]
        spans.append((begin, begin + elements // block * size))
    spans.sort()
    end = 0
    for begin, next_end in spans + [(len(data), len(data))]:
        if any(data[end:begin]) or begin < end:
            complain(f"{name}: bytes {end} to {begin} are padding and not zero")
        end = max(end, next_end)


def outputs(home, name, command, target):
    """The files that a command writes under two fills of fresh memory; the same."""
    made = []
    for fill in (85, 170):  # glibc fills with the complement: 170, 85
        done = run(home, *command, fill=fill)
        if done.returncode != 0:
            complain(f"{name}: {done.stderr[:200]!r}")
            return {}
        path = home / target
        files = {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*")} if path.is_dir() else {target: path.read_bytes()}
        made.append(files)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if made[0] != made[1]:
        complain(f"{name}: memory that nobody wrote is in the output")
    for file, data in made[0].items():
        if CANARY in data or bytes([85]) * 16 in data or bytes([170]) * 16 in data:
            complain(f"{name}: {file} has the canary or the fill of fresh memory")
        if file.endswith(".safetensors"):
            count = struct.unpack_from("<Q", data)[0]
            header = json.loads(data[8:8 + count])
            spans = sorted(entry["data_offsets"] for key, entry in header.items() if key != "__metadata__")
            if [begin for begin, _ in spans] != [0] + [end for _, end in spans[:-1]] or spans[-1][1] != len(data) - 8 - count:
                complain(f"{name}: {file} has bytes of no tensor")
        if data[:4] == b"GGUF":
            check_padding(f"{name}: {file}", data)
    return made[0]


def good_outputs(work, tiny):
    home = work / "good"
    home.mkdir()
    (home / "tiny.gguf").write_bytes(tiny)
    shutil.copytree(tests / "golden/arch/llama_untied_bias", home / "folder")
    (home / "folder/record.json").unlink()
    for kind in ("Q8_0", "Q4_K_M", "Q4_0", "BF16"):
        outputs(home, f"quantize {kind}", ("quantize", "tiny.gguf", "out.gguf", "--type", kind), "out.gguf")
    outputs(home, "convert to a folder", ("convert", "tiny.gguf", "out", "--shard", "1M"), "out")
    outputs(home, "convert to GGUF", ("convert", "folder", "out.gguf"), "out.gguf")
    pushes(home, "push a file", "./tiny.gguf")
    pushes(home, "push a folder", "./folder")


def pushes(home, name, source):
    """What a registry gets under two fills of fresh memory; the same."""
    made = []
    for fill in (85, 170):
        registry.blobs.clear(), registry.manifests.clear()
        done = run(home, "push", source, f"oci://{registry.host}/good/good:1", fill=fill)
        if done.returncode != 0:
            return complain(f"{name}: {done.stderr[:200]!r}")
        made.append((dict(registry.blobs), dict(registry.manifests)))
        shutil.rmtree(home / "data", ignore_errors=True)
    if made[0] != made[1]:
        complain(f"{name}: memory that nobody wrote is in the registry")
    for data in made[0][0].values():
        if CANARY in data or bytes([85]) * 16 in data or bytes([170]) * 16 in data:
            complain(f"{name}: a blob has the canary or the fill of fresh memory")


def main():
    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(temporary)
        subprocess.run([make_tiny, str(work / "tiny.gguf"), "64", "1", "0", "0"], check=True)
        tiny = (work / "tiny.gguf").read_bytes()
        llama = tests / "golden/arch/llama_untied_bias"
        config = json.loads((llama / "config.json").read_text())
        weights = (llama / "model.safetensors").read_bytes()
        jobs = [(one_gguf, name, data, True) for name, data in bad_ggufs(tiny)]
        jobs += [(one_folder, name, files) for name, files in bad_folders(config, weights)]
        jobs += [(one_gguf, f.name, f.read_bytes(), False) for f in sorted((tests / "fuzz/corpus/gguf").iterdir())]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(job[0], work, *job[1:]) for job in jobs]:
                done.result()
        good_outputs(work, tiny)
        print(f"{len(jobs)} bad files, {len(failures)} failed")
    return bool(failures)


sys.exit(main())
