# test_transfer.py FETCH_TOOL - asking and fetching over HTTP, when all goes well and when it does not.
# SPDX-License-Identifier: Apache-2.0
import email.utils, hashlib, json, os, random, shutil, subprocess, sys, tempfile, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from checks import check, environment, finish
from hub_server import Hub, Large, git_sha1

tool = os.path.abspath(sys.argv[1])
here = os.path.dirname(os.path.abspath(__file__))
statuses = {"ok": 0, "io": 2, "format": 3, "limit": 4, "unsupported": 5, "arg": 6, "notfound": 8, "cancelled": 9, "integrity": 16}
data = random.Random(1).randbytes(2_000_000)
other = random.Random(2).randbytes(2_000_000)
sha256 = hashlib.sha256(data).hexdigest()
work = tempfile.mkdtemp()
hub = Hub().start()
hub.files["/file"] = data
hub.files["/small"] = b"hello\n"
hub.files["/empty"] = b""


def run(*arguments, kill=False):
    done = subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True, timeout=60, env=environment)
    if kill:
        return done.returncode
    if done.returncode != 0:
        sys.exit(f"FAILED {arguments}: exit {done.returncode}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout)


def ask(path, *options):
    return run("ask", path if "://" in path else hub.endpoint + path, "--pause", 20, *options)


def fetch(path, *options, name="f", keep=False, kill=False):
    if not keep:
        shutil.rmtree(work)
        os.mkdir(work)
    options = list(options)
    for key, value in (("--pause", 20), ("--piece", 100_000)):
        if key not in options:
            options += [key, value]
    return run("file", path if "://" in path else hub.endpoint + path, work, name, *options, kill=kill)


def got(name="f"):
    path = os.path.join(work, name)
    return open(path, "rb").read() if os.path.exists(path) else None


def expect(answer, status, words="", what=""):
    good = answer["status"] == statuses[status] and words in answer["message"]
    check(good, f"{what}: {status} '{words}' expected, got {answer['status']} '{answer['message']}'")
    return good


def bytes_asked(role=None):
    """How many bytes the ranges of the log come to."""
    total = 0
    for r in hub.asked(role=role):
        if r["range"]:
            first, last = r["range"][6:].split("-")
            total += int(last) - int(first) + 1
    return total


# ---- Asking ----
a = ask("/small")
check(a["code"] == 200 and a["body"] == "hello\n", "an answer")
check(ask("/none")["code"] == 404, "404 is an answer")
expect(ask("/file"), "limit", "longer than 65536 bytes", "a long answer")
hub.reset(); hub.fault("/small", times=2, code=503)
check(ask("/small")["body"] == "hello\n" and len(hub.asked("/small")) == 3, "503 is tried again")
hub.reset(); hub.fault("/small", times=1, code=429, head={"Retry-After": "1"})
started = time.time()
check(ask("/small")["body"] == "hello\n" and time.time() - started >= 1, "Retry-After is waited for")
hub.reset(); hub.fault("/small", code=429, head={"Retry-After": "4000"})
expect(ask("/small"), "io", "come back in 4000 seconds", "a long Retry-After")
hub.reset(); hub.fault("/small", code=500)
expect(ask("/small"), "io", "HTTP 500", "500 for ever")
check(len(hub.asked("/small")) == 6, "six tries")
hub.reset(); hub.fault("/small", times=1, code=502)
check("answers with HTTP 502; trying again in 1 second (try 2 of 6)" in run("ask", hub.endpoint + "/small")["notes"], "what is tried again, and why")
hub.reset(); hub.fault("/small", times=1, code=429, head={"Retry-After": "2"})
check("HTTP 429: too many requests; trying again in 2 seconds, as it asks (try 2 of 6)" in ask("/small")["notes"], "who asks for the pause")
hub.reset(); hub.fault("/small", code=503)
expect(run("ask", hub.endpoint + "/small", "--pause", 601_000), "io", "more than 600 seconds in all", "all waiting has an end")
hub.reset(); hub.fault("/small", times=1, reset=True)
check(ask("/small")["body"] == "hello\n", "a connection closed without an answer")
hub.reset(); hub.fault("/small", stall=2, seconds=5)
started = time.time()
expect(ask("/small", "--stall", 1), "io", "", "a server that says nothing more")
check(time.time() - started < 30, "stalls end")
for head, words in (({f"X-{i}": "x" for i in range(300)}, "lines of headers"), ({f"X-{i}": "x" * 1000 for i in range(90)}, "bytes of headers"),
                    ({"X-A": "a\x01b"}, "control character")):
    hub.reset(); hub.fault("/small", code=200, body=b"x", head=head)
    a = ask("/small")
    check(a["status"] in (statuses["limit"], statuses["format"]) and words in a["message"], f"{words}: {a}")
hub.reset()
closed = "http://127.0.0.1:9/x"
started = time.time()
check(run("ask", closed)["status"] == statuses["io"] and time.time() - started < 5, "a closed port is said at once")

# ---- Which addresses ----
for address, words in (("http://example.org/x", "over http"), ("ftp://example.org/x", "only https"), ("file:///etc/passwd", "only https"),
                       ("https://u:p@example.org/x", "name or password"), ("https://exa mple.org/", "visible ASCII"), ("https:////", ""),
                       ("gopher://x/", "only https"), ("https://", ""), ("/etc/passwd", "")):
    a = run("ask", address)
    check(a["status"] == statuses["arg"] and words in a["message"], f"{address}: {a}")

# ---- Redirects ----
token = "Bearer hf_secret"
for where in (hub.store + "/x", hub.endpoint.replace("127.0.0.1", "localhost") + "/x", hub.store.replace("localhost", "127.0.0.1") + "/x"):
    hub.reset(); hub.fault("/go", code=302, head={"Location": where})
    ask("/go", "--auth", token)
    asked = hub.asked()
    check(asked[0]["authorization"] == token and len(asked) == 2 and asked[1]["authorization"] is None and
          not any(token[7:] in str(r["head"]) for r in asked[1:]), f"the token does not follow to {where}")
hub.reset(); hub.fault("/go", code=307, head={"Location": "/small"})
check(ask("/go", "--auth", token)["body"] == "hello\n" and hub.asked("/small")[0]["authorization"] == token, "the token stays within its origin")
hub.reset(); hub.fault("/go", code=302, head={"Location": hub.store + "/back"}); hub.fault("/back", code=302, head={"Location": hub.endpoint + "/small"})
check(ask("/go", "--auth", token)["body"] == "hello\n" and hub.asked("/small")[0]["authorization"] is None, "a token that was left behind stays behind")
hub.reset(); hub.fault("/go", code=302, head={"Location": "/go"})
expect(ask("/go"), "limit", "more than 10 times", "a loop")
check(len(hub.asked()) == 11, "a loop ends")
for where, words in (("http://example.org/", "over http"), ("file:///etc/passwd", "only https"), ("https://a:b@example.org/", "name or password"),
                     ("https://" + "x" * 9000 + "/", "longer than"), ("https://e.org/a b", "no")):
    hub.reset(); hub.fault("/go", code=302, head={"Location": where})
    expect(ask("/go"), "integrity", words, f"redirect to {where[:40]}")
    hub.reset(); hub.fault("/go", code=302, head={"Location": where})
    expect(fetch("/go"), "integrity", words, f"redirect of a file to {where[:40]}")

# ---- Files ----
hub.reset()
a = fetch("/file", "--sha256", sha256, "--bytes", len(data))
check(a["status"] == 0 and got() == data and os.listdir(work) == ["f"] and a["sha256"] == sha256, f"a file in pieces: {a}")
check(len(hub.asked("/file")) == 20 and bytes_asked() == len(data), "each byte is asked for once")
hub.reset(); hub.fault("/file", slow=400_000)
check(fetch("/file")["status"] == 0 and got() == data, "a file of unknown length and digest")
times = [r["time"] for r in hub.asked("/file")]
check(times[3] - times[1] < 0.25, "several connections at once")
hub.reset(); hub.fault("/file", slow=400_000)
fetch("/file", "--connections", 1, "--piece", 500_000)
check(len(hub.asked("/file")) == 4 and min(b["time"] - a["time"] for a, b in zip(hub.asked("/file"), hub.asked("/file")[1:])) > 0.5, "one connection at a time")
hub.reset()
check(fetch("/small")["status"] == 0 and got() == b"hello\n", "a small file")
check(fetch("/small", "--bytes", 6, "--sha1", git_sha1(b"hello\n"))["status"] == 0 and got() == b"hello\n", "a file by git's digest")
check(fetch("/empty", "--bytes", 0, "--sha1", git_sha1(b""))["status"] == 0 and got() == b"", "an empty file")
hub.reset()
check(fetch("/small", "--bytes", 6)["status"] == 0 and len(hub.asked("/small")) >= 1, "asked")
hub.reset()
check(fetch("/small", "--bytes", 6, keep=True)["status"] == 0 and not hub.asked(), "what is there is not asked for")
for digest in (["--sha1", git_sha1(b"hello\n")], ["--sha256", hashlib.sha256(b"hello\n").hexdigest()]):
    hub.reset()
    check(fetch("/small", "--bytes", 6, *digest, keep=True)["status"] == 0 and not hub.asked(), "nor with its digest")
    open(work + "/f", "w").write("hullo\n")
    check(fetch("/small", "--bytes", 6, *digest, keep=True)["status"] == 0 and hub.asked() and got() == b"hello\n", "unless it has another digest")
expect(fetch("/none"), "notfound", "HTTP 404", "a file that is not there")
check(os.listdir(work) == [], "nothing is left of nothing")
expect(fetch("/small", "--bytes", 7), "integrity", "it should have 7", "a wrong length")
expect(fetch("/small", "--bytes", 10**13, "--piece", 1 << 25), "io", "the disk has", "a file larger than the disk")
expect(fetch("/small", "--bytes", 10**18), "limit", "the limit is", "a file larger than any")
for name in ("a/b", "", "x" * 250):
    expect(fetch("/small", name=name), "arg", "no name of a file", f"the name {name[:10]!r}")

# ---- Digests ----
for options in (["--sha256", sha256], ["--sha1", git_sha1(data)]):
    hub.reset(); hub.fault("/file", skip=5, times=1, flip=599_999)
    a = fetch("/file", *options)
    if a["status"] == 0:  # the flipped byte was not in that piece
        hub.reset(); hub.fault("/file", flip=599_999)
        a = fetch("/file", *options)
    expect(a, "integrity", "thrown away", "a wrong digest")
    check(os.listdir(work) == [], "bytes of a wrong digest do not stay")
hub.reset()

# ---- Cuts ----
hub.fault("/file", times=7, cut=70_000)
check(fetch("/file", "--sha256", sha256)["status"] == 0 and got() == data, "cuts are mended")
check(bytes_asked() < 2 * len(data), "and only what is missing is asked for again")
check(all(r["if_range"] for r in hub.asked("/file")[5:]), "with If-Range")
hub.reset(); hub.fault("/file", cut=50)
expect(fetch("/file"), "io", "", "cut again and again")
check(len(hub.asked("/file")) <= 6 * 4, "an end of trying, of all connections together")
hub.reset(); hub.fault("/file", skip=4, times=4, stall=1000, seconds=6)
started = time.time()
check(fetch("/file", "--stall", 1)["status"] == 0 and got() == data and time.time() - started < 20, "stalled connections are given up")
hub.reset(); hub.fault("/file", skip=1, times=9, code=503)
a = fetch("/file", "--pause", 1000, "--connections", 8)
check(a["status"] == 0 and got() == data and a["notes"].count("HTTP 503; trying again") == 2, f"eight connections meet the same trouble: it counts once: {a}")
hub.reset(); hub.fault("/file", skip=3, times=2, code=503); hub.fault("/file", times=2, skip=6, code=429, head={"Retry-After": "1"})
check(fetch("/file")["status"] == 0 and got() == data, "a busy server in the middle")

# ---- Stopped, killed, resumed ----
for how in (["--stop-at", 900_000], ["--kill-at", 900_000]):
    hub.reset()
    hub.fault("/file", slow=2_000_000)
    a = fetch("/file", "--sha256", sha256, "--bytes", len(data), *how, kill="--kill-at" in how)
    check(a == -9 or a["status"] == statuses["cancelled"], f"{how}: {a}")
    check("f" not in os.listdir(work) and "f.part" in os.listdir(work), "a half file has no name")
    hub.settle()
    hub.reset()
    a = fetch("/file", "--sha256", sha256, "--bytes", len(data), keep=True)
    check(a["status"] == 0 and got() == data and os.listdir(work) == ["f"], f"goes on after {how}: {a}")
    if "--stop-at" in how:
        check(bytes_asked() <= 1_100_000, f"only the rest is asked for: {bytes_asked()}")
        check(all(r["if_range"] for r in hub.asked("/file")), "the rest with If-Range")


def stop_half_way():
    hub.reset(); hub.fault("/file", slow=2_000_000)
    check(fetch("/file", "--stop-at", 900_000)["status"] == statuses["cancelled"], "stopped")
    hub.settle()
    hub.reset()


stop_half_way()
hub.files["/file"] = other
a = fetch("/file", keep=True)
check(a["status"] == 0 and got() == other and "another one now" in a["notes"], f"a file that changed meanwhile begins again: {a}")
hub.files["/file"] = data
stop_half_way()
hub.files["/file"] = other[:700_000]
check(fetch("/file", keep=True)["status"] == 0 and got() == other[:700_000], "also when it is shorter")
hub.files["/file"] = data
stop_half_way()
hub.fault("/file", etag="other")  # the same bytes, another name: only the digest could tell
check(fetch("/file", keep=True)["status"] == 0 and got() == data and bytes_asked() >= len(data), "another ETag counts as another file")
stop_half_way()
text = open(work + "/f.state").read()
for broken in ("", "{", "[]", text.replace('"done":[', '"done":[-1,'), text.replace('"bytes":2000000', '"bytes":2000001'), text[:-3],
               text.replace("100000", "1"), text.replace("100000", "99999999999999999999"), "x" * 100_000):
    stop_half_way()
    open(work + "/f.state", "w").write(broken)
    a = fetch("/file", "--sha256", sha256, keep=True)
    check(a["status"] == 0 and got() == data and "is damaged (" in a["notes"] or "2000001" in broken, f"a damaged state {broken[:40]!r}: {a}")
stop_half_way()
os.truncate(work + "/f.part", 1000)
check(fetch("/file", "--sha256", sha256, keep=True)["status"] == 0 and got() == data, "a part that is shorter than its state says")
stop_half_way()
os.remove(work + "/f.part"); os.symlink("/dev/null", work + "/f.part")
expect(fetch("/file", keep=True), "io", "cannot be opened", "a link in the place of the part")

hub.reset()
a = fetch("/file", "--sha256", sha256, "--room", 900_000, "--connections", 1)
expect(a, "io", "cannot be written", "a full disk")
hub.reset()
check(fetch("/file", "--sha256", sha256, keep=True)["status"] == 0 and got() == data and bytes_asked() <= 1_200_000, "keeps what is there")

# ---- Changed while it is fetched; servers that cannot ---
hub.reset(); hub.fault("/file", skip=6, times=1, replace=other)
a = fetch("/file")
check(a["status"] == 0 and got() == data and "beginning it again" in a["notes"], f"another file in the middle: {a}")
hub.reset(); hub.fault("/file", ranges=False)
check(fetch("/file")["status"] == 0 and got() == data and len(hub.asked()) == 1, "a server without ranges")
hub.reset(); hub.fault("/file", ranges=False, times=1, cut=900_000); hub.fault("/file", ranges=False)
check(fetch("/file", "--sha256", sha256)["status"] == 0 and got() == data, "cut, without ranges")
hub.reset(); hub.fault("/file", etag=None)
check(fetch("/file")["status"] == 0 and got() == data and not hub.asked()[-1]["range"], "without an ETag parts are not put together")
hub.reset(); hub.fault("/file", etag=None)
check(fetch("/file", "--sha256", sha256)["status"] == 0 and got() == data and hub.asked()[-1]["range"], "unless a digest tells")
old, new = (email.utils.formatdate(time.time() + seconds, usegmt=True) for seconds in (-100, 100))
hub.reset(); hub.fault("/file", etag=None, modified=old, skip=4, times=2, cut=70_000); hub.fault("/file", etag=None, modified=old)
check(fetch("/file")["status"] == 0 and got() == data and bytes_asked() < 2 * len(data) and all(r["if_range"] == old for r in hub.asked("/file")[1:]),
      "without an ETag the date of the last change tells")
hub.reset(); hub.fault("/file", etag=None, modified=old, slow=2_000_000)
fetch("/file", "--stop-at", 900_000); hub.settle(); hub.reset(); hub.fault("/file", etag=None, modified=old)
check(fetch("/file", keep=True)["status"] == 0 and got() == data and bytes_asked() <= 1_200_000, "in the next call as well")
hub.reset(); hub.fault("/file", etag=None, modified=new)
check(fetch("/file")["status"] == 0 and got() == data and not hub.asked()[-1]["range"], "but not one as young as the answer")
hub.reset(); hub.fault("/file", etag=None, skip=1, times=1, cut=900_000); hub.fault("/file", etag=None)
a = fetch("/file")
check(a["status"] == 0 and got() == data and len(hub.asked("/file")) == 3 and "neither ETag nor date" in a["notes"] and "beginning it again" in a["notes"],
      f"a cut without either: begun again, which is said: {a}")
hub.reset(); hub.fault("/file", etag=None, cut=900_000)
a = fetch("/file")
expect(a, "io", "begun again once already", "but once")
check(len(hub.asked("/file")) == 3 and os.listdir(work) == [], f"and nothing is kept that is of no use: {os.listdir(work)} {len(hub.asked())}")
hub.reset(); hub.fault("/file", etag="caf\xe9", slow=2_000_000)
check(fetch("/file", "--stop-at", 900_000)["status"] == statuses["cancelled"] and not os.path.exists(work + "/f.state"), "an ETag that is no ASCII is none")
hub.settle()
hub.reset(); hub.fault("/file", etag='W/"weak"')
check(fetch("/file")["status"] == 0 and got() == data and not hub.asked()[-1]["range"], "a weak ETag is none")
hub.reset(); hub.fault("/file", ranges=False, length=False)
expect(fetch("/file"), "unsupported", "how long", "a file without a length")
check(fetch("/file", "--bytes", len(data), "--sha256", sha256)["status"] == 0 and got() == data, "unless the length was promised")
for lie in ("bytes 0-99999/1999999", "bytes 5-100004/2000000", "bytes 0-99999/*", "bytes 99999-0/2000000", "nonsense",
            "bytes 0-99999/99999999999999999999999", "bytes 0-99998/2000000"):
    hub.reset(); hub.fault("/file", skip=3, times=3, lie_range=lie)
    a = fetch("/file", "--bytes", len(data), "--sha256", sha256)
    check(a["status"] in (statuses["format"], statuses["integrity"]) and got() is None, f"a wrong range {lie}: {a}")
hub.reset(); hub.fault("/file", code=200, body=data, head={"Content-Encoding": "gzip"})
expect(fetch("/file"), "unsupported", "content encoding", "an encoding that was not asked for")

# ---- Through a redirect, with a token and a signature that ends ----
repo = hub.add("org/m", {"big": Large(data)})
hub.reset()
a = fetch("/org/m/resolve/main/big", "--auth", token)
expect(a, "notfound", "HTTP 401", "a wrong token")
hub.token = "hf_secret"
hub.reset()
check(fetch("/org/m/resolve/main/big", "--auth", token)["status"] == 0 and got() == data, "through a redirect")
check(len(hub.asked(role="hub")) == 1 and len(hub.asked(role="store")) == 20, "the way is asked for once")
check(all(r["authorization"] is None for r in hub.asked(role="store")), "the token does not follow")
hub.reset(); hub.signature_uses = 5
check(fetch("/org/m/resolve/main/big", "--auth", token)["status"] == 0 and got() == data and len(hub.asked(role="hub")) >= 2, "a signature that ended: the way is asked again")
hub.reset(); hub.fault("/lfs/", skip=5, code=403)
expect(fetch("/org/m/resolve/main/big", "--auth", token), "notfound", "HTTP 403", "a store that refuses for ever")

# ---- TLS ----
safe = Hub(certificate=os.path.join(here, "data", "localhost.pem")).start()
safe.files["/small"] = b"hello\n"
expect(run("ask", safe.endpoint + "/small"), "io", "certificate", "a certificate that nobody signed")
check(run("ask", safe.endpoint + "/small", "--ca", os.path.join(here, "data", "localhost.pem"))["body"] == "hello\n", "the certificate given")
hub.reset()
safe.fault("/down", code=302, head={"Location": hub.endpoint + "/small"})
expect(run("ask", safe.endpoint + "/down", "--ca", os.path.join(here, "data", "localhost.pem")), "integrity", "from https to http", "a redirect to http")
check(not hub.asked(), "which is not asked")

# ---- The end of memory ----
for n in range(1, 80):
    hub.reset()
    a = fetch("/small", "--oom", n)
    if a["status"] == 0:
        break
    check(a["status"] == 1 and got() is None, f"allocation {n} fails: {a}")
check(n > 5 and a["status"] == 0 and got() == b"hello\n", f"memory: {n}")

hub.stop()
safe.stop()
shutil.rmtree(work)
finish()
