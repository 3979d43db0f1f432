# hub_server.py - a small server that speaks the routes of a model hub, and every fault a test asks for.
#
#     hub = Hub(); hub.add("org/repo", {"config.json": b"{}", "model.gguf": Large(b"...")}); hub.start()
#     HF_ENDPOINT=hub.endpoint …            then look at hub.log
#
# Two origins: hub.endpoint (127.0.0.1) knows repositories; hub.store (localhost, another port) holds the bytes of
# large files, and the first sends there by redirect.  That it behaves as the real one does is proved by the
# unmodified package huggingface_hub (tests/slow/hub.sh).  Python's standard library only.
#
#     python3 hub_server.py     serves a few repositories of its own; prints the endpoint
#
# SPDX-License-Identifier: Apache-2.0
import hashlib, http.server, json, os, re, ssl, sys, threading, time, urllib.parse


class Large(bytes):
    """A file kept outside of git (LFS): its name is its SHA-256, and its bytes come from the store."""


def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Repo:
    def __init__(self, files, gated=False, private=False):
        self.gated, self.private = gated, private
        self.commits = []
        self.branches = {}
        self.change(files)

    def change(self, files, branch="main"):
        """A new commit with these files."""
        text = json.dumps([[name, hashlib.sha256(data).hexdigest()] for name, data in sorted(files.items())])
        sha = hashlib.sha1((text + str(len(self.commits))).encode()).hexdigest()
        self.commits.append((sha, files))
        self.branches[branch] = sha

    def find(self, revision):
        wanted = self.branches.get(revision, revision)
        for sha, files in self.commits:
            if len(wanted) >= 7 and sha.startswith(wanted):
                return sha, files
        return None, None


class Fault:
    """What goes wrong with requests whose path contains `where`, after `skip` of them, `times` times.

    code=N, head={…}     answered with that code instead (and these headers)
    body=b"…"            … and this body; with code 200 alone: another body
    cut=N                closed after N bytes of the body
    stall=N              nothing more after N bytes of the body
    slow=N               N bytes a second
    flip=N               the byte N of the file is another one
    ranges=False         Range is ignored
    length=False         no Content-Length
    etag="…"             another ETag (None: none)
    modified="…"         this Last-Modified
    replace=data         the file is another one now
    reset=True           closed without an answer
    lie_range="…"        another Content-Range
    """

    def __init__(self, where, times=None, skip=0, **what):
        self.where, self.times, self.skip, self.what = where, times, skip, what


class Hub:
    def __init__(self, token=None, page=1000, small_redirect=True, certificate=None):
        self.token, self.page, self.small_redirect = token, page, small_redirect
        self.repos, self.faults, self.log, self.lock = {}, [], [], threading.Lock()
        self.files = {}  # plain ones, for https pulls: path -> bytes
        self.stored = {}  # sha256 -> bytes
        self.servers = []
        self.certificate = certificate
        self.signature, self.signature_uses = "good", None  # of the store's addresses; after so many uses another one is needed

    def add(self, name, files, **how):
        self.repos[name] = Repo(files, **how)
        return self.repos[name]

    def start(self):
        scheme = "https" if self.certificate else "http"
        ports = []
        for role in ("hub", "store"):
            handler = type("Handler", (Handler,), {"hub": self, "role": role})
            server = Server(("127.0.0.1", 0), handler)
            if self.certificate:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(self.certificate)
                server.socket = context.wrap_socket(server.socket, server_side=True)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.servers.append(server)
            ports.append(server.server_address[1])
        self.endpoint = f"{scheme}://127.0.0.1:{ports[0]}"
        self.store = f"{scheme}://localhost:{ports[1]}"
        return self

    def stop(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def fault(self, *args, **kwargs):
        self.faults.append(Fault(*args, **kwargs))

    def reset(self):
        with self.lock:
            self.faults, self.log = [], []

    def settle(self):
        """Waits until the requests of clients that are gone were seen, too."""
        count = -1
        while count != len(self.log):
            count = len(self.log)
            time.sleep(0.3)

    def take_fault(self, path):
        with self.lock:
            for fault in self.faults:
                if fault.where not in path or fault.times == 0:
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                if fault.times:
                    fault.times -= 1
                return dict(fault.what)
        return {}

    def asked(self, word="", role=None):
        with self.lock:
            return [r for r in self.log if word in r["path"] and role in (None, r["role"])]


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass  # clients that leave are what the tests are about


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    # ---- Answers ----

    def answer(self, code, body=b"", head=None, fault=None):
        fault = fault or {}
        self.send_response(code)
        for name, value in (head or {}).items():
            if value is not None:
                self.send_header(name, value)
        if fault.get("length", True):
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if self.command == "HEAD":
            return
        end = min(fault.get("cut", len(body)), fault.get("stall", len(body)))
        step = max(1, fault["slow"] // 20) if "slow" in fault else 65536
        for at in range(0, end, step):
            self.wfile.write(body[at : min(at + step, end)])
            if "slow" in fault:
                time.sleep(0.05)
        if "stall" in fault:
            time.sleep(fault.get("seconds", 20))
        if end < len(body):
            self.close_connection = True

    def refuse(self, code, error_code, message):
        self.answer(code, json.dumps({"error": message}).encode(),
                    {"Content-Type": "application/json", "X-Error-Code": error_code, "X-Error-Message": message})

    def give_file(self, data, etag, head=None, fault=None):
        """A whole file or the range that was asked for, as RFC 9110 says."""
        fault = fault or {}
        data = fault.get("replace", data)
        if "flip" in fault:
            data = bytearray(data)
            data[fault["flip"]] ^= 1
            data = bytes(data)
        etag = fault.get("etag", etag if "replace" not in fault else hashlib.md5(data).hexdigest())
        head = dict(head or {})
        if etag is not None:
            head["ETag"] = etag if etag.startswith("W/") else f'"{etag}"'
        head["Accept-Ranges"] = "bytes"
        head["Last-Modified"] = fault.get("modified")
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if_range = self.headers.get("If-Range")
        if asked and fault.get("ranges", True) and (if_range is None or if_range in (head.get("ETag"), head["Last-Modified"])):
            first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
            if first >= len(data):
                return self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            head["Content-Range"] = fault.get("lie_range", f"bytes {first}-{last}/{len(data)}")
            return self.answer(206, data[first : last + 1], head, fault)
        self.answer(200, data, head, fault)

    # ---- Requests ----

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub = self.hub
        with hub.lock:
            hub.log.append({"role": self.role, "method": self.command, "path": self.path,
                            "authorization": self.headers.get("Authorization"), "range": self.headers.get("Range"),
                            "if_range": self.headers.get("If-Range"), "head": dict(self.headers), "time": time.time()})
        fault = hub.take_fault(self.path)
        if fault.get("reset"):
            self.close_connection = True
            self.connection.shutdown(2)
            return
        if "code" in fault:
            return self.answer(fault["code"], fault.get("body", b""), fault.get("head"), fault)
        if "body" in fault:
            return self.answer(200, fault["body"], {"Content-Type": "application/json", **fault.get("head", {})}, fault)
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        if self.role == "store":
            found = re.fullmatch(r"/lfs/([0-9a-f]{64})", url.path)
            if not found or found[1] not in hub.stored:
                return self.answer(404)
            with hub.lock:
                if hub.signature_uses is not None:
                    hub.signature_uses -= 1
                    if hub.signature_uses < 0:
                        hub.signature, hub.signature_uses = hub.signature + "x", None
            if query.get("signature") != [hub.signature]:
                return self.answer(403)
            return self.give_file(hub.stored[found[1]], hashlib.md5(found[1].encode()).hexdigest(), fault=fault)
        if url.path in hub.files:
            data = hub.files[url.path]
            return self.give_file(data, hashlib.md5(data).hexdigest(), fault=fault)
        for pattern, route in ROUTES:
            if found := re.fullmatch(pattern, url.path):
                return route(self, *[urllib.parse.unquote(g) for g in found.groups()], query=query, fault=fault)
        self.answer(404)

    def may_read(self, name, metadata):
        """The repository, or None after the refusal; metadata of gated ones is public."""
        repo = self.hub.repos.get(name)
        given = self.headers.get("Authorization")
        is_known = given == f"Bearer {self.hub.token}"
        if given and not is_known:
            self.refuse(401, "", "Invalid credentials in Authorization header")
        elif repo is None or (repo.private and not is_known):
            self.refuse(404 if is_known else 401, "RepoNotFound", "Repository not found")
        elif repo.gated and not metadata and not given:
            self.refuse(401, "GatedRepo", f"Access to model {name} is restricted. You must have access to it and be authenticated to access it.")
        elif repo.gated == "not you" and not metadata:
            self.refuse(403, "GatedRepo", f"Access to model {name} is restricted and you are not in the authorized list.")
        else:
            return repo
        return None

    def revision(self, name, revision="main", query=None, fault=None):
        if not (repo := self.may_read(name, True)):
            return
        sha, files = repo.find(revision)
        if sha is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        self.answer(200, json.dumps({
            "_id": "0" * 24, "id": name, "modelId": name, "sha": sha, "private": repo.private, "gated": "auto" if repo.gated else False,
            "disabled": False, "author": name.split("/")[0], "lastModified": "2026-01-01T00:00:00.000Z",
            "createdAt": "2026-01-01T00:00:00.000Z", "tags": [], "downloads": 0, "likes": 0,
            "siblings": [{"rfilename": f} for f in sorted(files)]}).encode(), {"Content-Type": "application/json"}, fault)

    def tree(self, name, revision, query=None, fault=None):
        if not (repo := self.may_read(name, True)):
            return
        sha, files = repo.find(revision)
        if sha is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        entries = []
        folders = set()
        for path, data in sorted(files.items()):
            parts = path.split("/")
            for i in range(1, len(parts)):
                folder = "/".join(parts[:i])
                if folder not in folders:
                    folders.add(folder)
                    entries.append({"type": "directory", "oid": hashlib.sha1(folder.encode()).hexdigest(), "size": 0, "path": folder})
            entry = {"type": "file", "oid": git_sha1(data), "size": len(data), "path": path}
            if isinstance(data, Large):
                entry["oid"] = git_sha1(b"version https://git-lfs.github.com/spec/v1\n" + hashlib.sha256(data).hexdigest().encode())
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
                entry["xetHash"] = hashlib.sha256(b"xet" + data).hexdigest()
            entries.append(entry)
        if query.get("recursive", ["false"])[0].lower() != "true":
            entries = [e for e in entries if "/" not in e["path"]]
        start = int(query.get("cursor", ["0"])[0])
        head = {"Content-Type": "application/json"}
        if start + self.hub.page < len(entries):
            rest = urllib.parse.urlencode({"recursive": query.get("recursive", ["false"])[0], "cursor": start + self.hub.page})
            head["Link"] = f'<{self.hub.endpoint}{urllib.parse.urlsplit(self.path).path}?{rest}>; rel="next"'
        self.answer(200, json.dumps(entries[start : start + self.hub.page]).encode(), head, fault)

    def resolve(self, name, revision, path, query=None, fault=None):
        if not (repo := self.may_read(name, False)):
            return
        sha, files = repo.find(revision)
        if sha is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if path not in files:
            return self.refuse(404, "EntryNotFound", f"Entry not found")
        data = files[path]
        head = {"X-Repo-Commit": sha}
        if isinstance(data, Large):
            digest = hashlib.sha256(data).hexdigest()
            self.hub.stored[digest] = data
            head |= {"X-Linked-Size": str(len(data)), "X-Linked-ETag": f'"{digest}"', "ETag": f'"{digest}"',
                     "Location": f"{self.hub.store}/lfs/{digest}?signature={self.hub.signature}"}
            return self.answer(302, b"Found. Redirecting", head, fault)
        if self.hub.small_redirect and not query.get("cached"):
            here = urllib.parse.quote(f"/api/resolve-cache/models/{name}/{sha}/{path}")
            head |= {"X-Linked-Size": str(len(data)), "ETag": f'"{git_sha1(data)}"', "Location": here}
            return self.answer(307, b"Temporary Redirect", head, fault)
        self.give_file(data, git_sha1(data), head, fault)

    def resolve_cache(self, name, sha, path, query=None, fault=None):
        self.resolve(name, sha, path, query={"cached": ["1"]}, fault=fault)


NAME = r"([^/]+/[^/]+)"
ROUTES = [
    (rf"/api/models/{NAME}/tree/([^/]+)", Handler.tree),
    (rf"/api/models/{NAME}/revision/([^/]+)", Handler.revision),
    (rf"/api/models/{NAME}", Handler.revision),
    (rf"/api/resolve-cache/models/{NAME}/([^/]+)/(.+)", Handler.resolve_cache),
    (rf"/{NAME}/resolve/([^/]+)/(.+)", Handler.resolve),
]


if __name__ == "__main__":
    hub = Hub(token="hf_test", page=2)
    hub.add("org/model", {"README.md": b"# A model\n", "config.json": b'{"a": 1}\n', "sub/notes.txt": b"notes\n",
                          "model.safetensors": Large(os.urandom(3_000_000)), "empty.txt": b""})
    hub.add("org/gated", {"config.json": b"{}", "model.gguf": Large(os.urandom(100_000))}, gated=True)
    hub.start()
    print(hub.endpoint, flush=True)
    sys.stdin.read()
