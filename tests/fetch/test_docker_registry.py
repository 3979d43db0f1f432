# test_docker_registry.py APERTO MAKE_TINY - push and pull with Debian's docker-registry; skipped where it is missing.
# SPDX-License-Identifier: Apache-2.0
import base64, hashlib, json, os, shutil, socket, subprocess, sys, tempfile, time, urllib.error, urllib.request

aperto, make_tiny = map(os.path.abspath, sys.argv[1:3])
program = shutil.which("docker-registry")
if not program:
    print("skipped: the program docker-registry is not installed (Debian's package of that name)")
    sys.exit(77)
work = tempfile.mkdtemp()
os.chdir(work)
environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")} | {"HOME": work, "NO_COLOR": "1"}
environment.pop("DOCKER_CONFIG", None)
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
failed = 0


def check(good, what):
    global failed
    failed += not good
    if not good:
        print(f"FAILED {what}")


def run(*arguments, store="a", code=0):
    done = subprocess.run([aperto, *arguments], capture_output=True, text=True, timeout=300, env=environment | {"APERTO_DATA": f"{work}/{store}"})
    check(done.returncode == code, f"{arguments}: exit {done.returncode}\n    {done.stdout}    {done.stderr}")
    return done.stdout + done.stderr


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(port, auth=""):
    with open("config.yml", "w") as f:
        f.write(f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {work}/registry}}}}\n"
                f"http: {{addr: 127.0.0.1:{port}}}\n{auth}")
    server = subprocess.Popen([program, "serve", "config.yml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(100):
        try:
            opener.open(f"http://127.0.0.1:{port}/v2/", timeout=5)
            break
        except urllib.error.HTTPError:
            break
        except OSError:
            time.sleep(0.1)
    return server


port = free_port()
at = f"oci://127.0.0.1:{port}"
subprocess.run([make_tiny, "tiny.gguf", "4096"], check=True)
subprocess.run([make_tiny, "large.gguf", "4096"], check=True)
with open("large.gguf", "ab") as f:
    f.truncate(60 << 20) # four pieces
server = start(port)
try:
    run("pull", "tiny.gguf")
    pushed = json.loads(run("push", "tiny", f"{at}/models/tiny:q8", "--json"))
    run("push", "./tiny.gguf", f"{at}/models/tiny:gguf")
    run("push", "./large.gguf", f"{at}/models/large:gguf")
    for tag in ("q8", "gguf"):
        run("pull", f"{at}/models/tiny:{tag}", store="b")
    run("pull", f"{at}/models/large:gguf", store="b")
    run("pull", f"{at}/models/tiny@{pushed['digest']}", "--as", "pinned", store="b")
    show = {name: json.loads(run("show", name, "--json", store=store)) for name, store in (("tiny", "a"), ("tiny:q8", "b"), ("tiny:gguf", "b"), ("pinned", "b"))}
    check(len({s["digest"] for s in show.values()}) == 1, "what came back is another model")
    check(show["tiny:gguf"]["source_sha256"] == hashlib.sha256(open("tiny.gguf", "rb").read()).hexdigest(), "the file came back as another")
    check(show["tiny:q8"]["revision"] == pushed["digest"], "the digest of the manifest")
    check(run("run", "tiny:gguf", "hello", "-n", "8", "--temp", "0", store="b") == run("run", "tiny", "hello", "-n", "8", "--temp", "0"), "another answer")
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v2/models/tiny/manifests/gguf", headers={"Accept": "application/vnd.oci.image.manifest.v1+json"})
    manifest = json.load(opener.open(request))
    check(manifest["layers"][0]["mediaType"] == "application/vnd.cncf.model.weight.v1.raw", "the media type")
    # A tag that moves
    subprocess.run([make_tiny, "tiny.gguf", "512"], check=True)
    run("push", "./tiny.gguf", f"{at}/models/tiny:gguf")
    check("outdated     aperto pull " in run("outdated", "tiny:gguf", store="b"), "a tag that moved is not seen")
    check("aperto rollback tiny:gguf" in run("pull", f"{at}/models/tiny:gguf", store="b"), "the name did not move")
    check("current" in run("outdated", "tiny:gguf", "tiny:q8", store="b"), "what was pulled is not current")
    check("HTTP 404" in run("pull", f"{at}/models/nothing:here", store="b", code=1), "a repository that is not there")
    # Credentials
    server.terminate()
    server.wait(timeout=20)
    with open("htpasswd", "w") as f: # somebody: secret
        f.write("somebody:$2b$04$oEKcJ9C.rh0a/kQCs73H6uGnUlcvMYS8KeoiBJPp8hc5asoiPrbqm\n")
    server = start(port, f"auth: {{htpasswd: {{realm: tests, path: {work}/htpasswd}}}}\n")
    check("has none for it" in run("pull", f"{at}/models/tiny:q8", store="c", code=1), "nobody was let in")
    os.mkdir(".docker")
    with open(".docker/config.json", "w") as f:
        json.dump({"auths": {f"127.0.0.1:{port}": {"auth": base64.b64encode(b"somebody:secret").decode()}}}, f)
    run("pull", f"{at}/models/tiny:q8", store="c")
    run("push", "tiny", f"{at}/models/again:q8")
finally:
    server.terminate()
    server.wait(timeout=20)
    shutil.rmtree(work)
print("failed" if failed else "passed")
sys.exit(failed != 0)
