# test_hub_server.py - the unmodified package huggingface_hub finds on hub_server.py what it expects of a hub.
# SPDX-License-Identifier: Apache-2.0
import os, sys, tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from hub_server import Hub, Large, git_sha1

hub = Hub(token="hf_right", page=2).start()
home = tempfile.mkdtemp()
os.environ.update(HF_ENDPOINT=hub.endpoint, HF_HOME=home, HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
for name in list(os.environ):
    if name.lower().endswith("_proxy") or name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        del os.environ[name]
import huggingface_hub
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

large = Large(os.urandom(24_000_000)) # the package reads in pieces of 10 MiB
files = {"config.json": b'{"a": 1}\n', "README.md": b"# hello\n", "sub/notes.txt": b"notes\n", "model.safetensors": large, "empty.txt": b""}
repo = hub.add("org/model", files)
hub.add("org/gated", {"config.json": b"{}", "g.gguf": large}, gated=True)
hub.add("org/private", {"p.txt": b"p"}, private=True)
api = HfApi()

info = api.model_info("org/model")
commit = repo.branches["main"]
assert info.sha == commit and sorted(s.rfilename for s in info.siblings) == sorted(files)
assert api.model_info("org/model", revision=commit).sha == commit
tree = {f.path: f for f in api.list_repo_tree("org/model", recursive=True)}
assert set(tree) == set(files) | {"sub"}, tree
assert len(hub.asked("cursor=")) >= 2, "the tree comes in pages"
import hashlib
assert tree["model.safetensors"].lfs.sha256 == hashlib.sha256(large).hexdigest() and tree["model.safetensors"].size == len(large)
assert tree["config.json"].blob_id == git_sha1(files["config.json"]) and tree["config.json"].lfs is None

for name, data in files.items():
    path = hf_hub_download("org/model", name)
    assert open(path, "rb").read() == data, name
    # Its blob is named by the ETag: X-Linked-ETag for large files, git's digest for the others.
    etag = os.path.basename(os.path.realpath(path))
    assert etag == (hashlib.sha256(data).hexdigest() if isinstance(data, Large) else git_sha1(data)), (name, etag)
meta = huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url("org/model", "model.safetensors"))
assert meta.commit_hash == commit and meta.size == len(large) and meta.location.startswith(hub.store)

hub.reset()
folder = snapshot_download("org/model", local_dir=os.path.join(home, "local"), token="hf_right")
assert all(open(os.path.join(folder, name), "rb").read() == data for name, data in files.items())
assert not any("hf_right" in str(r["head"]) for r in hub.asked(role="store"))

hub.reset()
hub.fault("/lfs/", times=1, cut=15_000_000)
again = hf_hub_download("org/model", "model.safetensors", cache_dir=os.path.join(home, "cut"))
assert open(again, "rb").read() == large
assert any(r["range"] for r in hub.asked("/lfs/")), "a cut is mended by a range"

for call, error in ((lambda: hf_hub_download("org/gated", "g.gguf"), GatedRepoError), (lambda: api.model_info("org/private"), RepositoryNotFoundError),
                    (lambda: api.model_info("org/absent"), RepositoryNotFoundError), (lambda: hf_hub_download("org/model", "no.txt"), EntryNotFoundError),
                    (lambda: api.model_info("org/model", revision="v9"), RevisionNotFoundError)):
    try:
        call()
    except error:
        continue
    sys.exit(f"FAILED: {error.__name__} expected")
assert open(hf_hub_download("org/gated", "g.gguf", token="hf_right"), "rb").read() == large
assert api.model_info("org/private", token="hf_right").sha
print(f"huggingface_hub {huggingface_hub.__version__}: the server behaves as a hub")
