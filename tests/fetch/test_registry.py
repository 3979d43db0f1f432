# test_registry.py APERTO MAKE_TINY - push and pull of models with an OCI registry that behaves, and one that does not.
# SPDX-License-Identifier: Apache-2.0
import base64, json, os, shutil, subprocess, sys, tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from checks import check, environment, finish
from registry_server import Registry, digest

aperto, make_tiny = map(os.path.abspath, sys.argv[1:3])
work = tempfile.mkdtemp()
os.chdir(work)
environment |= {"HOME": work, "NO_COLOR": "1"}
environment.pop("DOCKER_CONFIG", None)


def run(*arguments, store="a"):
    return subprocess.run([aperto, *arguments], capture_output=True, text=True, timeout=120, env=environment | {"APERTO_DATA": f"{work}/{store}"})


def expect(code, word, *arguments, store="a"):
    done = run(*arguments, store=store)
    text = done.stdout if code == 0 else done.stderr
    lines = done.stderr.splitlines()
    check(done.returncode == code and word in text and (code == 0 or (lines[-1].startswith("aperto: error: ") and len(lines) == 1)),
          f"{arguments}: exit {done.returncode}, not {code} with '{word}'\n    {done.stdout}    {done.stderr}")
    return done


def show(name, store="a"):
    return json.loads(run("show", name, "--json", store=store).stdout)


def files(store):
    return sorted(os.path.relpath(os.path.join(folder, f), work) for folder, _, names in os.walk(os.path.join(work, store)) for f in names)


def login(registry, user):
    os.makedirs(".docker", exist_ok=True)
    with open(".docker/config.json", "w") as f:
        json.dump({"auths": {registry.host: {"auth": base64.b64encode(":".join(user).encode()).decode()}} if user else {}}, f)


subprocess.run([make_tiny, "tiny.gguf", "4096"], check=True)
subprocess.run([make_tiny, "newer.gguf", "512"], check=True)
# More than one piece of an upload: 17 MB of embedding.
gguf, newer = open("tiny.gguf", "rb").read(), open("newer.gguf", "rb").read()
registry = Registry().start()
at = f"oci://{registry.host}"

# ---- There and back ----
expect(0, "tiny", "pull", "tiny.gguf")
done = expect(0, "", "push", "tiny", f"{at}/models/tiny:q8", "--json")
pushed = json.loads(done.stdout)
check(pushed["digest"] == digest(registry.manifests["q8"]) and pushed["packed"], "what push says")
check(json.loads(registry.manifests["q8"])["layers"][0]["mediaType"] == "application/vnd.aperto.packed.v1", "a packed file is called otherwise")
check(json.loads(expect(0, "", "push", "tiny", f"{at}/models/tiny:q8", "--json").stdout)["digest"] == pushed["digest"], "another digest the second time")
expect(0, "tiny:q8: tiny", "pull", f"{at}/models/tiny:q8", store="b")
check(show("tiny:q8", "b")["digest"] == show("tiny")["digest"], "another packed file came back")
check(show("tiny:q8", "b")["revision"] == pushed["digest"] and show("tiny:q8", "b")["source"] == f"{at}/models/tiny:q8", "where it came from")
check(not [f for f in files("b") if ".gguf" in f], "the download stays")
expect(0, "", "push", "./tiny.gguf", f"{at}/models/tiny:gguf")
layer = json.loads(registry.manifests["gguf"])["layers"][0]
check(registry.blobs[layer["digest"]] == gguf and layer["mediaType"] == "application/vnd.cncf.model.weight.v1.raw", "a file is not pushed as it is")
check(layer["annotations"]["org.cncf.model.filepath"] == "tiny.gguf", "no file path")
config = json.loads(registry.blobs[json.loads(registry.manifests["gguf"])["config"]["digest"]])
check(config["config"]["format"] == "gguf" and config["modelfs"] == {"type": "layers", "diffIds": [layer["digest"]]}, "the config")
expect(0, "tiny", "pull", f"{at}/models/tiny:gguf@{digest(registry.manifests['gguf'])}", "--as", "by-digest", store="b")
expect(0, "", "run", "by-digest", "hi", "-n", "2", store="b")
expect(1, "gives another manifest", "pull", f"{at}/models/tiny:gguf@sha256:{'0' * 64}", store="b") if registry.manifests.setdefault(
    "sha256:" + "0" * 64, registry.manifests["q8"]) else None
for media_type in ("application/vnd.docker.ai.gguf.v3", "application/vnd.ollama.image.model", "application/vnd.cncf.model.weight.v1.gguf"):
    registry.add_model("theirs", gguf, media_type)
    expect(0, "tiny", "pull", f"{at}/x/theirs:theirs", "--as", "theirs", store="b")

# ---- Each kind of thing the store holds ----
os.mkdir("folder")
subprocess.run([make_tiny, "folder/", "512", "2", "0", "0"], check=True)
arch = os.path.join(os.environ["APERTO_TESTS"], "golden", "arch")
expect(0, "", "pull", "folder", "--as", "of-folder")
expect(0, "", "pull", f"{arch}/bert", "--as", "embedding")
expect(0, "", "push", "of-folder", f"{at}/kinds/of:name")
for i, (model, kept) in enumerate((("of-folder", "of-folder"), ("./folder", "of-folder"), ("embedding", "embedding"), (show("tiny")["digest"][:12], "tiny"),
                                   (f"{at}/models/tiny:q8", None))):
    if kept is None:
        expect(1, "MODEL is a name in the store or a path", "push", model, f"{at}/kinds/k:{i}")
        continue
    pushed = json.loads(expect(0, "", "push", model, f"{at}/kinds/k:{i}", "--json").stdout)
    expect(0, "", "pull", f"{at}/kinds/k:{i}", "--as", "back", store=f"kind{i}")
    check(pushed["packed"] and show("back", f"kind{i}")["digest"] == show(kept)["digest"], f"{model}: pulled on an empty store it has another digest")

# ---- A tag that moves ----
registry.add_model("moves", gguf)
expect(0, "", "pull", f"{at}/x/m:moves", store="b")
registry.log.clear()
expect(0, "", "pull", f"{at}/x/m:moves", store="b")
check(not [path for _, path, _ in registry.log if "blobs" in path], "what is current is fetched again")
expect(0, "current", "outdated", "m:moves", store="b")
registry.add_model("moves", newer)
expect(0, f"outdated     aperto pull {at}/x/m:moves --as m:moves", "outdated", "m:moves", store="b")
expect(0, "aperto rollback m:moves", "pull", f"{at}/x/m:moves", "--as", "m:moves", store="b")
check(show("m:moves", "b")["context_tokens"] == 512 and show("m:moves", "b")["history"][0]["context_tokens"] == 4096, "the name did not move")
expect(0, "", "rollback", "m:moves", store="b")
expect(0, "goes to what was rolled back", "outdated", "m:moves", store="b")
del registry.manifests["moves"]
expect(1, "could not be compared", "outdated", "m:moves", store="b")

# ---- Who may come in ----
registry.user = ("somebody", "secret")
expect(1, "no token is given", "pull", f"{at}/models/tiny:q8", store="c")
login(registry, registry.user)
registry.tokens.clear()
registry.log.clear()
expect(0, "", "pull", f"{at}/models/tiny:q8", store="c")
expect(0, "", "push", "tiny", f"{at}/mine/tiny:q8")
basic = "Basic " + base64.b64encode(b"somebody:secret").decode()
check(all(auth in (None, basic) if path == "/token" else auth != basic for _, path, auth in registry.log), "the password goes to others than the realm")
registry.token_uses = 1
expect(0, "", "pull", f"{at}/models/tiny:gguf", store="c") # each request needs a new one
registry.token_uses = None
registry.scheme = "Basic"
expect(0, "", "pull", f"{at}/models/tiny:gguf", "--as", "basic", store="c")
login(registry, ("somebody", "wrong"))
expect(1, "credentials are not accepted", "pull", f"{at}/models/tiny:gguf", store="d")
login(registry, None)
expect(1, "has none for it", "pull", f"{at}/models/tiny:gguf", store="d")
with open(".docker/config.json", "w") as f:
    f.write('{"credsStore": "helper"}')
expect(1, "helper program, which is not run", "pull", f"{at}/models/tiny:gguf", store="d")
for text in ("{", "[" * 100, '{"auths": {"%s": {"auth": "not base64!"}}}' % registry.host):
    with open(".docker/config.json", "w") as f:
        f.write(text)
    expect(1, "config.json" if text[0] != "{" or text == "{" else "no base64", "pull", f"{at}/models/tiny:gguf", store="d")
login(registry, registry.user)
for challenge, word in (("Negotiate", "'Negotiate'"), ('Bearer service="x"', "no realm"), ('Bearer realm="http://127.0.0.1:1', "no end"),
                        ("Bearer realm", "without a value"), ('Bearer realm="' + "x" * 3000 + '"', "2000 bytes"),
                        ('Bearer realm="file:///etc/passwd"', "where no server may"), ('Bearer realm="http://example.invalid/token"', "where no server may")):
    registry.challenge = challenge
    expect(1, word, "pull", f"{at}/models/tiny:gguf", store="d")
registry.challenge, registry.scheme, registry.user = None, "Bearer", None

# A token stays with the registry, whoever it sends us to.
elsewhere = Registry().start()
elsewhere.blobs = registry.blobs
registry.user, registry.redirect = ("somebody", "secret"), f"http://localhost:{elsewhere.port}"
expect(0, "", "pull", f"{at}/models/tiny:gguf", "--as", "elsewhere", store="c")
check(elsewhere.log and all(auth is None for _, _, auth in elsewhere.log), f"the token went to another host: {elsewhere.log}")
elsewhere.user, elsewhere.scheme = ("other", "one"), "Basic"
done = expect(1, "HTTP 401", "pull", f"{at}/models/tiny:gguf", "--as", "elsewhere2", store="d")
check(all(auth is None for _, _, auth in elsewhere.log), "another host asks, and is told")
registry.user = registry.redirect = None
registry.redirect = "file://"
expect(1, "where no server may", "pull", f"{at}/models/tiny:gguf", store="d")
registry.redirect = None

# ---- Bytes that are others, or do not come ----
registry.cut_get = 2
expect(0, "", "pull", f"{at}/models/tiny:gguf", "--as", "cut", store="d")
registry.wrong_bytes = True
expect(1, "", "pull", f"{at}/models/tiny:gguf", "--as", "wrong", store="e")
registry.wrong_bytes = False
check(not [f for f in files("e") if "blobs" in f or "names" in f], "bytes of another digest left something")
broken = registry.add_model("broken", gguf[:3000])
expect(1, "", "pull", f"{at}/x/broken:broken", store="e")
check(not [f for f in files("e") if "blobs" in f or "names" in f], f"a broken model left something: {files('e')}")

# ---- Manifests of an enemy ----
layer = {"mediaType": "application/vnd.cncf.model.weight.v1.raw", "digest": digest(gguf), "size": len(gguf)}
config = {"mediaType": "x/y", "digest": digest(b"{}"), "size": 2}


def manifest(**changes):
    return {"schemaVersion": 2, "config": config, "layers": [layer]} | changes


for i, (evil, word) in enumerate((
        (b"", "empty"), (b"[]", "no object"), (b"{", "JSON"), (b"{" * 100000, ""), (b" " * (5 << 20), "longer than"),
        (manifest(schemaVersion=1), "schemaVersion"), (manifest(layers={}), "array 'layers'"), (manifest(layers=[]), "0 layers"),
        (manifest(layers=[layer] * 300), "300 layers"), (manifest(layers=[layer] * 2), "2 layers of weights"),
        (manifest(manifests=[]), "list of manifests"), (manifest(config=None), "'config'"),
        (manifest(layers=[layer | {"digest": "sha256:../../../../etc/passwd"}]), "its digest"),
        (manifest(layers=[layer | {"digest": "sha512:" + "0" * 64}]), "its digest"),
        (manifest(layers=[layer | {"size": -1}]), "size"), (manifest(layers=[layer | {"size": 1 << 50}]), "the limit"),
        (manifest(layers=[layer | {"size": len(gguf) + 1}]), ""), (manifest(layers=[layer | {"size": 100}]), ""),
        (manifest(layers=[layer | {"mediaType": "a\nb"}]), "media type"), (manifest(layers=[layer | {"mediaType": "x" * 300}]), "media type"),
        (manifest(layers=[layer | {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}]), "is a model"),
        (manifest(layers=[layer, layer | {"mediaType": "application/vnd.ollama.image.adapter"}]), "image.adapter"),
        (manifest(layers=[layer | {"mediaType": "application/vnd.cncf.model.weight.v1.tar+gzip"}]), "one GGUF file"),
        (manifest(layers=[layer | {"annotations": {"org.cncf.model.filepath": "model.safetensors"}}]), "model.safetensors"))):
    registry.add_manifest(f"evil{i}", evil)
    expect(1, word, "pull", f"{at}/x/evil:evil{i}", store="e")
check(not [f for f in files("e") if "blobs" in f or "names" in f], "an evil manifest left something")
outside = set(os.listdir(work))
for path in ("../../../../../../tmp/evil.gguf", "/etc/cron.d/evil.gguf", "..", "a\x00b.gguf", "\x1b[2Jx.gguf", "x" * 5000 + ".gguf"):
    registry.add_manifest("path", manifest(layers=[layer | {"annotations": {"org.cncf.model.filepath": path, "org.opencontainers.image.title": path}}]))
    done = run("pull", f"{at}/x/path:path", store="e")
    check(done.returncode == (1 if path == ".." else 0) and "\x1b" not in done.stderr + done.stdout, f"a file path {path[:30]!r}: {done.stderr}")
check(set(os.listdir(work)) == outside and not os.path.exists("/tmp/evil.gguf"), "a file outside of the store")
check(all(f.split("/")[2] in ("blobs", "names", "lock", "cache", "downloads") if f.startswith("e/models/") else False for f in files("e")), f"{files('e')}")
registry.add_manifest("left", manifest(layers=[layer, layer | {"mediaType": "application/vnd.ollama.image.template"}]))
check("not used: application/vnd.ollama.image.template" in run("pull", f"{at}/x/left:left", store="e").stderr, "a layer is left in silence")

# ---- Uploads ----
subprocess.run([make_tiny, "large.gguf", "4096"], check=True)
with open("large.gguf", "ab") as f:
    f.truncate(40 << 20)
expect(0, "", "pull", "tiny.gguf", "--as", "up")
for what, faults in (("cut", {"cut_patch": 2}), ("forgotten", {"forget_uploads": 2}), ("both", {"cut_patch": 3, "forget_uploads": 1})):
    registry.blobs.clear()
    for key, value in faults.items():
        setattr(registry, key, value)
    expect(0, "", "push", "./large.gguf", f"{at}/up/{what}:1")
    check(digest(open("large.gguf", "rb").read()) in registry.blobs, f"an upload that was {what}")
    check(registry.cut_patch == registry.forget_uploads == 0, f"no fault happened: {what}")
# Bytes may go to another host; who we are does not.
elsewhere = Registry().start()
elsewhere.blobs = registry.blobs
registry.blobs.clear()
registry.user, registry.upload_to = ("somebody", "secret"), elsewhere
expect(0, "", "push", "tiny", f"{at}/up/elsewhere:1")
check(elsewhere.log and all(auth is None for _, _, auth in elsewhere.log), f"the token went to the host of the uploads: {elsewhere.log}")
registry.user = registry.upload_to = None
registry.blobs.clear()
registry.forget_uploads = 1000
expect(1, "forgot 5 uploads", "push", "tiny", f"{at}/up/x:1")
registry.forget_uploads, registry.cut_patch = 0, 1000
expect(1, "", "push", "tiny", f"{at}/up/x:1")
registry.cut_patch = 0
registry.drop_location = True
expect(1, "where to send", "push", "tiny", f"{at}/up/x:1")
registry.drop_location = False
registry.min_chunk = 1 << 40
expect(1, "wants pieces of more than", "push", "tiny", f"{at}/up/x:1")
registry.min_chunk = 20 << 20
expect(0, "", "push", "./large.gguf", f"{at}/up/x:2")
# The second upload of a blob may ask for longer pieces than the first.
registry.blobs.clear()
registry.min_chunk, registry.grow_chunk, registry.forget_uploads = 17 << 20, 16 << 20, 1
expect(0, "", "push", "./large.gguf", f"{at}/up/x:3")
check(digest(open("large.gguf", "rb").read()) in registry.blobs and registry.forget_uploads == 0, "pieces that grow")
registry.min_chunk, registry.grow_chunk = None, 0

# ---- Words ----
for bad, word in (("oci://", "is no address"), ("oci:x", "is no address"), (f"{at}/x", "no state"), (f"{at}/X:y", "repository"), (f"{at}/a//b:y", "repository"),
                  (f"{at}/../b:y", "repository"), (f"{at}/a-:y", "repository"), (f"{at}/a:-y", "tag"), (f"{at}/a:" + "y" * 129, "tag"), (f"{at}/a:", "tag"),
                  ("oci://a b/x:y", "host"), ("oci://u:p@h/x:y", "host"), ("oci://h:99999999/x:y", "host"), (f"{at}/a@sha256:12", "digest"),
                  (f"{at}/a?x=y:z", "repository"), ("oci://[::1/x:y", "host")):
    expect(1, word, "pull", bad)
    expect(2, word, "push", "tiny", bad)
expect(2, "no digest", "push", "tiny", f"{at}/a:b@sha256:{'0' * 64}")
expect(1, "no model", "push", "nothing", f"{at}/a:b")
expect(1, "", "pull", "oci://127.0.0.1:1/a:b") # nobody there
registry.server.shutdown()
shutil.rmtree(work)
finish()
