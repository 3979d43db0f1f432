# test_pull.py APERTO MAKE_TINY - 'aperto pull' from a hub and from the web, on a server of our own.
# SPDX-License-Identifier: Apache-2.0
import hashlib, json, os, pty, re, shutil, signal, subprocess, sys, tempfile, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from checks import check, environment, finish
from hub_server import Hub, Large, git_sha1

aperto, make_tiny = (os.path.abspath(path) for path in sys.argv[1:3])
work = tempfile.mkdtemp()
hub = Hub(token="hf_right", page=3).start()
environment |= {"APERTO_DATA": work + "/data", "HOME": work, "HF_ENDPOINT": hub.endpoint + "/", "NO_COLOR": "1"}
models = os.path.join(work, "data", "models")


def run(*arguments, **env):
    done = subprocess.run([aperto, *arguments], capture_output=True, text=True, timeout=120, cwd=work, stdin=subprocess.DEVNULL,
                          env=environment | env)
    return done


def pull(source, *options, **env):
    return run("pull", source, *options, **env)


def good(done, words, what):
    check(done.returncode == 0 and words in done.stdout, f"{what}: exit {done.returncode} {done.stdout!r} {done.stderr!r}")


def refused(done, words, what, lines=1):
    check(done.returncode == 1 and words in done.stderr and done.stderr.count("\n") == lines and done.stderr.splitlines()[-1].startswith("aperto: error: "),
          f"{what}: '{words}' expected: exit {done.returncode} {done.stderr!r}")


def show(name):
    return json.loads(run("show", "--json", name).stdout)


def downloads():
    return json.loads(run("list", "--json").stdout)["downloads"]


def tree(**kinds):
    return json.dumps([{"type": "file", "oid": "0" * 40, "size": 1, "path": "x"} | entry for entry in kinds["entries"]]).encode()


def tiny(seed_width):
    path = os.path.join(work, "tiny.gguf")
    subprocess.run([make_tiny, path, *map(str, seed_width)], check=True)
    return Large(open(path, "rb").read())


first, second = tiny([]), tiny([64])
sha = hashlib.sha256(first).hexdigest()

# ---- One GGUF file ----
hub.add("org/one", {"README.md": b"hello\n", "one.Q8_0.gguf": first, "mmproj-one.gguf": Large(b"x" * 1000), "sub/notes.txt": b"n"})
done = pull("hf:org/one", HF_TOKEN="hf_right")
good(done, "one.q8_0: ", "a repository with one GGUF file")
entry = show("one.q8_0")
commit = hub.repos["org/one"].branches["main"]
check(entry["source"] == "hf:org/one:one.Q8_0.gguf" and entry["source_sha256"] == sha and entry["revision"].startswith(commit + "/"), f"where it came from: {entry}")
check(all(r["authorization"] == "Bearer hf_right" for r in hub.asked(role="hub")) and
      hub.asked(role="store") and not any("hf_right" in str(r) for r in hub.asked(role="store")), "the token goes to the hub and nowhere else")
check(len(hub.asked("cursor=")) == 1, "the list is read to its end")
check(os.listdir(models + "/downloads") == [], "nothing is left of a download that was imported")
hub.reset()
good(pull("hf:org/one"), "nothing newer", "the same again")
check(not hub.asked("resolve"), "is not fetched again")
hub.repos["org/one"].change({"README.md": b"other\n", "one.Q8_0.gguf": first})
good(pull("hf:org/one"), "nothing newer", "another commit with the same file")
hub.repos["org/one"].change({"one.Q8_0.gguf": second})
good(pull("hf:org/one"), "rollback one.q8_0", "a new state of the source")
check(show("one.q8_0")["source_sha256"] == hashlib.sha256(second).hexdigest(), "is the new file")
for revision in (commit, commit[:10]):
    good(pull(f"hf:org/one@{revision}", "--as", "old"), "old: ", f"the revision {revision}")
    check(show("old")["source_sha256"] == sha and show("old")["source"] == f"hf:org/one:one.Q8_0.gguf@{revision}", "is the old file")
    run("rm", "--yes", "--with-history", "old")
hub.repos["org/one"].change({"one.Q8_0.gguf": first}, "refs/pr/1")
hub.reset()
good(pull("hf:org/one@refs/pr/1", "--as", "pr"), "pr: ", "a branch with slashes")
check(hub.asked("/revision/refs%2Fpr%2F1"), "is one part of the address")

# ---- Several ----
several = {f"m-{q}.gguf": Large(bytes(first) + b"\0" * i * 32) for i, q in enumerate(("Q2_K", "Q4_K_M", "IQ4_XS", "UD-Q2_K", "f16"))}
hub.add("org/many", several | {"imatrix.gguf": Large(b"x"), "BF16/m-BF16-00001-of-00002.gguf": Large(b"a"), "BF16/m-BF16-00002-of-00002.gguf": Large(b"b")})
done = pull("hf:org/many")
refused(done, "hf:org/many:", "several GGUF files")
check(all(q in done.stderr for q in ("Q2_K (", "Q4_K_M (", "IQ4_XS (", "f16 (", "BF16 (")) and "imatrix" not in done.stderr, f"are listed: {done.stderr}")
good(pull("hf:org/many:Q4_K_M"), "m-q4_k_m: ", "one by its quantisation")
good(pull("hf:org/many:iq4_xs"), "m-iq4_xs: ", "in any case")
good(pull("hf:org/many:m-f16.gguf"), "m-f16: ", "one by its name")
check(show("m-q4_k_m")["source"] == "hf:org/many:m-Q4_K_M.gguf", "with its whole name")
refused(pull("hf:org/many:Q2_K"), "m-UD-Q2_K.gguf (", "two of one quantisation")
refused(pull("hf:org/many:Q3_K"), "there are: ", "none of it")
refused(pull("hf:org/many:K_M"), "there are: ", "half a name")
refused(pull("hf:org/many:model.bin"), "pickle", "a pickle file by name")
refused(pull("hf:org/many:config.json"), "alone is no model", "a file that is no model")
refused(pull("hf:org/many:safetensors"), "no model in safetensors", "safetensors that are not there")
hub.reset()
refused(pull("hf:org/many:BF16"), "error: hf:org/many:BF16/m-BF16-00001-of-00002.gguf: ", "parts that are no model, by the name they have for a user")
check(len(hub.asked("BF16-0000")) == 2, "parts are fetched together")

run("rm", "--yes", "m-iq4_xs")
refused(pull("hf:org/many:IQ4_XS", "--as", "m-f16"), "means another model already", "a name that is taken")
check([d["source"] for d in downloads()] == ["hf:org/many:m-IQ4_XS.gguf"], "what was fetched stays then")
hub.reset()
good(pull("hf:org/many:IQ4_XS"), "m-iq4_xs: ", "another name")
check(not hub.asked("resolve"), "what is there whole is not fetched again")

# ---- Failed for good ----
check(downloads() == [] and os.listdir(models + "/downloads") == [], "what the import refuses is not kept to be gone on with")
hub.add("org/html", {"h.gguf": Large(b"<html>" + b"x" * 5000)})
done = pull("hf:org/html")
refused(done, "hf:org/html:h.gguf: this is not a GGUF file", "another file under this name")
check("thrown away" in done.stderr and models not in done.stderr and downloads() == [], f"is thrown away, which is said: {done.stderr!r}")
for what, fault in (("404", {"code": 404}), ("410", {"code": 410}), ("a wrong digest", {"flip": 1000})):
    hub.reset(); hub.fault("/lfs/", **fault)
    done = pull("hf:org/one", "--as", "for-good")
    refused(done, "error: hf:org/one:one.Q8_0.gguf: ", what)
    check(downloads() == [] and models not in done.stderr, f"{what} leaves nothing to go on with: {downloads()} {done.stderr!r}")
hub.reset(); hub.fault("/lfs/", times=1, cut=100_000); hub.fault("/lfs/", code=404)
refused(pull("hf:org/one", "--as", "for-good"), "lists 'one.Q8_0.gguf' among the files of 'org/one' and does not have it", "404 in the middle")
check(downloads() == [], "leaves nothing either")
hub.reset(); hub.fault("/lfs/", times=1, cut=100_000); hub.fault("/lfs/", code=403)
pull("hf:org/one", "--as", "for-good")
check(len(downloads()) == 1, "but 403: another token may do")
refused(run("rm", "--yes", "hf:org/nothing"), "no unfinished download", "rm of none")
good(run("rm", "--yes", downloads()[0]["source"]), "", "rm of a download")
check(downloads() == [], "removes it")
hub.add("org/gap", {"g-00001-of-00003.gguf": Large(b"a"), "g-00003-of-00003.gguf": Large(b"b")})
refused(pull("hf:org/gap"), "part 2 of 3", "a part that is missing")

# ---- Folders ----
source = os.path.join(work, "source")
os.mkdir(source)
subprocess.run([make_tiny, source + "/", "2048", "2", "0", "0"], check=True)
files = {}
for name in os.listdir(source):
    data = open(os.path.join(source, name), "rb").read()
    files[name] = Large(data) if name.endswith(".safetensors") else data
junk = {"pytorch_model.bin": Large(b"x" * 100), "original/consolidated.00.pth": Large(b"y" * 100), "README.md": b"r", "sub/model.safetensors": Large(b"z"),
        ".gitattributes": b"g"}
hub.add("org/folder", files | junk)
hub.reset()
good(pull("hf:org/folder"), "folder: ", "a folder with safetensors")
check(not hub.asked("pytorch_model") and not hub.asked("pth") and not hub.asked("README") and not hub.asked("sub%2F") and not hub.asked("/sub/"), "nothing but the model is fetched")
check(show("folder")["source"] == "hf:org/folder", "its source")
run("rm", "--yes", "folder")
local = run("pull", source, "--as", "local")
good(pull("hf:org/folder"), "folder: ", "again")
check(show("folder")["source_sha256"] == show("local")["source_sha256"], "is what a local folder of these files is")
# An embedding model says in a folder of its own how its vectors become one.
bert = os.path.join(os.environ["APERTO_TESTS"], "golden", "arch", "bert")
embed = os.path.join(work, "embed")
os.makedirs(os.path.join(embed, "1_Pooling"))
embedding = {name: open(os.path.join(bert, name), "rb").read() for name in ("config.json", "model.safetensors")}
embedding["1_Pooling/config.json"] = b'{"pooling_mode_cls_token": true}'
embedding["modules.json"] = b"[]"
for name, data in embedding.items():
    with open(os.path.join(embed, name), "wb") as file:
        file.write(data)
hub.add("org/embed", embedding | {"2_Dense/config.json": b"{}"})
good(pull("hf:org/embed", "--as", "embed"), "embed: ", "a folder with a folder in it")
check(hub.asked("1_Pooling") and not hub.asked("2_Dense"), "of folders in it only that of the pooling is fetched")
run("pull", embed, "--as", "embed-local")
check(show("embed")["source_sha256"] == show("embed-local")["source_sha256"], "is what a local folder of these files is as well")
check(downloads() == [], "and leaves nothing")
hub.add("org/both", files | {"m.Q8_0.gguf": first})
refused(pull("hf:org/both"), "':safetensors'", "both forms")
good(pull("hf:org/both:safetensors", "--as", "both"), "both: ", "the one")
good(pull("hf:org/both:Q8_0", "--as", "both-gguf"), "both-gguf: ", "the other")
hub.add("org/pickle", {"config.json": b"{}", "pytorch_model.bin": Large(b"x")})
refused(pull("hf:org/pickle"), "a pickle file", "pickle")
hub.add("org/adapter", {"adapter_config.json": b"{}", "adapter_model.safetensors": Large(b"x")})
refused(pull("hf:org/adapter"), "an adapter and no model", "an adapter")
hub.add("org/nothing", {"README.md": b"r"})
refused(pull("hf:org/nothing"), "holds no model", "nothing")

# ---- Stopped and resumed ----
big = Large(bytes(first) + os.urandom(3_000_000))
hub.add("org/big", {"big.gguf": big})
for number in (signal.SIGINT, signal.SIGKILL):
    hub.reset()
    hub.fault("/lfs/", slow=1_000_000)
    process = subprocess.Popen([aperto, "pull", "hf:org/big"], env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=work)
    time.sleep(1.5)
    refused(pull("hf:org/big"), "another process is fetching this", "twice at once")
    process.send_signal(number)
    _, err = process.communicate()
    if number == signal.SIGINT:
        check(process.returncode == 1 and "goes on with what was fetched" in err and err.count("\n") == 1, f"Ctrl-C: {process.returncode} {err!r}")
        there = downloads()
        check(len(there) == 1 and there[0]["source"] == "hf:org/big:big.gguf" and 500_000 < there[0]["bytes_there"] < len(big) == there[0]["bytes"], f"what is there: {there}")
        check("Not imported yet" in run("list").stdout, "list shows it")
    check("big" not in [m["name"] for m in json.loads(run("list", "--json").stdout)["models"]], "a half file is no model")
    hub.settle()
    hub.reset()
    good(pull("hf:org/big"), "big: ", "goes on")
    if number == signal.SIGINT:
        check(len(hub.asked("/lfs/")) == 1 and hub.asked("/lfs/")[0]["range"], "with the rest alone")
    check(downloads() == [], "nothing is left")
    run("rm", "--yes", "big")
hub.reset()
hub.fault("/lfs/", slow=1_000_000)
process = subprocess.Popen([aperto, "pull", "hf:org/big"], env=environment, stderr=subprocess.PIPE, cwd=work)
time.sleep(1.2)
process.terminate()
process.wait()
hub.settle()
hub.reset()
hub.repos["org/big"].change({"big.gguf": big, "README.md": b"more"})
good(pull("hf:org/big"), "big: ", "another commit with the same file")
check(len(hub.asked("/lfs/")) == 1 and hub.asked("/lfs/")[0]["range"], "goes on with the rest alone")
hub.reset(); hub.fault("/lfs/", cut=700_000, times=3)
run("rm", "--yes", "big")
good(pull("hf:org/big"), "big: ", "cut three times")
os.makedirs(models + "/downloads/" + "0" * 32)
key = models + "/downloads/" + "1" * 32
os.makedirs(key + "/x")
open(key + "/pull.json", "w").write('{"source": "hf:org/old", "revision": "", "bytes": 5}')
open(key + "/x/y.part", "w").write("abc")
for path in (key + "/pull.json", key + "/x/y.part", key + "/x", key):
    os.utime(path, (time.time() - 31 * 86400,) * 2)
hub.reset()
done = pull("hf:org/big")
check(done.returncode == 0 and "removed the unfinished download of hf:org/old" in done.stderr and not os.path.exists(key), f"old ones go: {done.stderr}")

# ---- On a terminal ----
run("rm", "--yes", "big")
hub.reset()
hub.fault("/lfs/", slow=1_500_000)
child, fd = pty.fork()
if child == 0:
    os.execve(aperto, [aperto, "pull", "hf:org/big"], environment | {"TERM": "vt100"})
seen = b""
try:
    while piece := os.read(fd, 65536):
        seen += piece
except OSError:  # the program is gone
    pass
check(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and re.search(rb"fetching \[#+\.+\] +\d+% of 3\.\d MB, \d+\.\d MB/s, 0:00:0\d left", seen),
      f"a bar with speed and time left: {seen[-300:]}")

# ---- Wrong bytes ----
run("rm", "--yes", "big")
hub.reset(); hub.fault("/lfs/", flip=1000)
refused(pull("hf:org/big"), "thrown away", "a wrong digest (SHA-256)")
check(not any(n.endswith((".gguf", ".part")) for _, _, names in os.walk(models + "/downloads") for n in names), "nothing of it stays")
hub.reset(); hub.fault("resolve-cache/models/org/folder", flip=3)
run("rm", "--yes", "folder"); run("rm", "--yes", "local")
refused(pull("hf:org/folder"), "thrown away", "a wrong digest (git)")
for head, words in (({"X-Linked-ETag": '"' + "0" * 64 + '"'}, "has the digest 000"), ({"X-Linked-Size": "5"}, "has 5 bytes")):
    hub.reset(); hub.fault("/resolve/", code=302, head={"Location": hub.store + "/lfs/x"} | head)
    refused(pull("hf:org/big"), words, f"{head}")
hub.reset()

# ---- What the list may not say ----
sentinel = os.path.join(work, "outside.gguf")
for path in ("../../outside.gguf", "/outside.gguf", "a/../../outside.gguf", "..", "a//b.gguf", "a\\b.gguf", "a\x00b.gguf", "a\nb.gguf", "./x.gguf",
             "x" * 250 + ".gguf", "/".join(["abcdefgh"] * 80) + ".gguf", "", "a/", "\x7f.gguf"):
    hub.reset(); hub.fault("/tree/", body=tree(entries=[{"path": path, "lfs": {"oid": sha, "size": len(first), "pointerSize": 1}}]))
    done = pull("hf:org/one", "--as", "evil")
    check(done.returncode == 1 and ("path" in done.stderr or "NUL" in done.stderr or "\\u0000" in done.stderr) and not hub.asked("/resolve/"), f"the path {path[:30]!r}: {done.stderr!r}")
check(not os.path.exists(sentinel), "nothing outside")
for body, words in ((b"{}", "no list"), (b"[", ""), (b'[{"type":"file"}]', "path"), (b'[{"type":"file","path":"a.gguf","oid":"x","size":1}]', "40 hex digits"),
                    (b'[{"type":"file","path":"a.gguf","oid":"' + b"0" * 40 + b'","size":-1}]', "size"),
                    (b'[{"type":"file","path":"a.gguf","oid":"' + b"0" * 40 + b'","size":1e30}]', "size"),
                    (b'[{"type":"file","path":"a.gguf","oid":"' + b"0" * 40 + b'","size":99999999999999999}]', "limit"),
                    (b"[" * 100 + b"]" * 100, ""), (b" " * (17 << 20), "longer than")):
    hub.reset(); hub.fault("/tree/", body=body)
    refused(pull("hf:org/one", "--as", "evil"), words, f"the list {body[:40]}")
hub.reset(); hub.fault("/tree/", body=tree(entries=[{"path": "a.gguf"}, {"path": "a.gguf"}]))
refused(pull("hf:org/one", "--as", "evil"), "there twice", "a file twice")
hub.reset(); hub.fault("/tree/", body=tree(entries=[{"path": "a.gguf", "size": 10**13}]))
refused(pull("hf:org/one", "--as", "evil"), "the download and the packed model need", "more than the disk has")
hub.reset(); hub.fault("/tree/", body=b"[]", head={"Link": f'<{hub.store}/more>; rel="next"'})
refused(pull("hf:org/one", "--as", "evil", HF_TOKEN="hf_right"), "goes on elsewhere", "a list that goes on elsewhere")
check(not hub.asked("/more"), "is not asked there")
hub.reset(); hub.fault("/tree/", body=b"[]", head={"Link": f'<{hub.endpoint}/api/models/org/one/tree/main?x>; rel="next"'})
refused(pull("hf:org/one", "--as", "evil"), "more than 200 pages", "a list without an end")
for body in (b"{}", b'{"sha": "x"}', b'{"sha": 5}', b"[]", b"nonsense"):
    hub.reset(); hub.fault("/revision/", body=body)
    refused(pull("hf:org/one", "--as", "evil"), "", f"the revision {body}")
hub.reset()

# ---- Who may ----
hub.add("org/gated", {"g.gguf": first}, gated=True)
hub.add("org/denied", {"g.gguf": first}, gated="not you")
hub.add("org/private", {"p.gguf": first}, private=True)
refused(pull("hf:org/gated"), "accept them at", "gated, without a token")
refused(pull("hf:org/denied", HF_TOKEN="hf_right"), "ask for access", "gated, not granted")
refused(pull("hf:org/gated", HF_TOKEN="hf_wrong"), "does not know the token", "a wrong token")
good(pull("hf:org/gated", HF_TOKEN=" hf_right\n"), "g: ", "gated, with a token")
refused(pull("hf:org/private"), "or it is private", "private")
refused(pull("hf:org/absent"), "there is no 'org/absent'", "absent")
refused(pull("hf:org/absent", HF_TOKEN="hf_right"), "whether your token may read it", "absent, with a token")
refused(pull("hf:org/one@v9"), "no branch, tag or commit 'v9'", "a revision that is not there")
good(pull("hf:org/private", "--as", "p1", HUGGING_FACE_HUB_TOKEN="hf_right"), "p1: ", "the old name of the token")
for where, env in ((".cache/huggingface/token", {}), ("hf/token", {"HF_HOME": work + "/hf"}), ("t", {"HF_TOKEN_PATH": work + "/t"}),
                   ("c/huggingface/token", {"XDG_CACHE_HOME": work + "/c"})):
    path = os.path.join(work, where)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "w").write("hf_right\n")
    good(pull("hf:org/private", "--as", "p2", **env), "p2: ", f"the token file {where}")
    os.remove(path)
    run("rm", "--yes", "p2")
refused(pull("hf:org/one", HF_TOKEN="a\r\nb"), "visible ASCII", "a token of two lines")
check("hf_" not in pull("hf:org/one", HF_TOKEN="hf_a b").stderr, "a token is not shown")
for endpoint, words in (("ftp://x", "HF_ENDPOINT: only https"), ("http://u:p@localhost", "HF_ENDPOINT: the address has a name"), ("nonsense", "HF_ENDPOINT"),
                        ("https://x/?a", "HF_ENDPOINT")):
    done = pull("hf:org/one", HF_ENDPOINT=endpoint)
    check(done.returncode == 1 and words.split(":")[0] in done.stderr, f"{endpoint}: {done.stderr!r}")

# ---- Busy, broken ----
hub.reset(); hub.fault("/revision/", times=1, code=429, head={"Retry-After": "1"}); hub.fault("/tree/", times=1, code=503); hub.fault("/lfs/", times=1, code=500)
good(pull("hf:org/one", "--as", "busy"), "busy: ", "a busy hub")
hub.reset()
refused(pull("hf:org/one", HF_ENDPOINT="http://127.0.0.1:9"), "127.0.0.1:9", "nobody there")

# ---- Names ----
for source in ("hf:", "hf:x", "hf:x/", "hf:/x", "hf:../x", "hf:x/..", "hf:x/y/z", "hf:x/y@", "hf:x/y:", "hf:x/y@a:b", "hf:x/y:../z", "hf:x/y:/z", "hf:x/y:a\\b",
               "hf:x/y@../z", "hf:x y/z", "hf:x/y@a b", "hf:-x/y", "hf:x/y:" + "z" * 700, "hf:" + "x" * 100 + "/y"):
    hub.reset()
    refused(pull(source), "", source)
    check(not hub.asked(), f"{source[:30]} is not asked for")

for name in ("hf:foo", "HF:x", "oci:x", "https:x", "http:x", "ftp:x", "file:x"):
    for command in (("pull", "hf:org/one", "--as", name), ("tag", "m-f16", name), ("pull", work + "/tiny.gguf", "--as", name)):
        done = run(*command)
        check(done.returncode == 2 and f"'{name}' is no possible name: it begins like a source" in done.stderr, f"{command}: {done.returncode} {done.stderr!r}")
shutil.copy(work + "/tiny.gguf", work + "/hf:x.gguf")
good(run("pull", "./hf:x.gguf"), "hf-x: ", "a name that is made")
good(run("tag", "m-f16", "llama3:q4"), "llama3:q4 means", "a colon alone is fine")

# ---- The web ----
hub.files["/m/web.gguf"] = bytes(first)
good(pull(hub.store.replace("localhost", "127.0.0.1").replace(hub.store.rsplit(":")[-1], hub.endpoint.rsplit(":")[-1]) + "/m/web.gguf", HF_ENDPOINT=""), "web: ", "a web address")
check(show("web")["source_sha256"] == sha and show("web")["source"].endswith("/m/web.gguf") and show("web")["revision"].startswith('"'), "its state")
address = show("web")["source"]
hub.reset()
good(pull(address, HF_ENDPOINT=""), "nothing newer", "the same again")
check([r["method"] for r in hub.asked()] == ["HEAD"], "only looks")
hub.files["/m/web.gguf"] = bytes(second)
good(pull(address, HF_ENDPOINT=""), "rollback", "another file there")
refused(pull(address), "write hf:", "an address of the hub itself")
refused(pull(address.replace("web", "none"), HF_ENDPOINT=""), "HTTP 404", "a web address of nothing")
refused(pull("http://example.org/x.gguf"), "over http", "plain http")
refused(pull("https://example.org/x.zip"), "NAME.gguf", "another file")
refused(pull("https://u:p@example.org/x.gguf"), "name or password", "a password")
refused(pull("ftp://example.org/x.gguf"), "not in this release", "another scheme")

# ---- Outdated ----
good(pull("hf:org/one", "--as", "fresh"), "fresh: ", "fresh")
check(run("outdated", "fresh").returncode == 0 and " current" in run("outdated", "fresh").stdout, "outdated: not yet")
hub.repos["org/one"].change({"one.Q8_0.gguf": second, "README.md": b"5"})
check(" current" in run("outdated", "fresh").stdout, "outdated: another commit alone is no news")
hub.repos["org/one"].change({"one.Q8_0.gguf": first, "README.md": b"6"})
done = run("outdated", "fresh")
check("aperto pull hf:org/one:one.Q8_0.gguf --as fresh" in done.stdout, f"outdated: {done.stdout!r} {done.stderr!r}")

hub.fault("/m/web.gguf", etag=None)
for options in ((), ("web",)):
    done = run("outdated", *options, HF_ENDPOINT="")
    check(done.returncode == 1 and f"cannot be compared (the server gives no digest and no date); this fetches it and compares: aperto pull {address} --as web" in done.stdout,
          f"outdated without an ETag: {done.stdout!r} {done.stderr!r}")
state = json.loads(run("outdated", "web", "--json", HF_ENDPOINT="").stdout)["models"][0]
check(state["state"] == "unknown" and state["compare"] == f"aperto pull {address} --as web", f"as JSON: {state}")
good(pull(address, "--as", "web", HF_ENDPOINT=""), "The source has the same bytes as before", "which does so")
hub.reset()
done = run("outdated", "web", HF_ENDPOINT="")
check("cannot be compared (the server gave no digest and no date)" in done.stdout, f"nor when it had none: {done.stdout!r}")

# ---- Names of all letters, many files, a store that is not to be changed ----
hub.add("org/letters", {"Gr\u00fc\u00dfe \u6a21\u578b \U0001f600.gguf": first})
good(pull("hf:org/letters"), "gr-e: ", "a file with a name of all letters")
check(show("gr-e")["source"] == "hf:org/letters:Gr\u00fc\u00dfe \u6a21\u578b \U0001f600.gguf", "its source")
good(pull(show("gr-e")["source"]), "nothing newer", "which can be pulled")
hub.add("org/300", files | {f"notes/{i}.txt": b"x" for i in range(300)})
good(pull("hf:org/300"), "300: ", "300 files that are no model")
hub.add("org/310", {"config.json": files["config.json"]} | {f"model-{i:05d}-of-00310.safetensors": Large(b"%d" % i) for i in range(1, 311)})
refused(pull("hf:org/310"), "'org/310' has more than 300 files of a model", "310 that are")
full = os.path.join(work, "full")
os.makedirs(full + "/models")
for name in ("downloads", "lock"):  # as good as a disk that is not to be written: root may write everywhere else
    os.symlink("/proc/none", full + "/models/" + name)
refused(pull("hf:org/one", APERTO_DATA=full), "the folder of downloads '" + full + "/models/downloads' cannot be changed", "downloads that cannot be written")
refused(run("pull", work + "/tiny.gguf", APERTO_DATA=full), "the store '" + full + "/models' cannot be changed", "a store that cannot be written")

# ---- Hints ----
refused(run("run", "org/model", "hi"), "'aperto pull hf:org/model' fetches it", "run of a hub's name")
refused(run("serve", "org/model:Q4_K_M", "--port", "0"), "'aperto pull hf:org/model:Q4_K_M' fetches it", "serve of a hub's name")
refused(run("run", "hf:org/model", "hi"), "'aperto pull hf:org/model' fetches it", "run of a source")
refused(run("run", "./org/model", "hi"), "cannot be opened", "run of a path")

hub.stop()
shutil.rmtree(work)
finish()
