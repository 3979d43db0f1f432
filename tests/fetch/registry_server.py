# registry_server.py - a small OCI registry with faults to order.
# SPDX-License-Identifier: Apache-2.0
import base64, hashlib, json, re, threading, urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    """Faults are attributes; what was asked is kept in `log` as (method, path, authorization)."""

    def __init__(self):
        self.blobs, self.manifests, self.uploads, self.log = {}, {}, {}, []
        self.user = None          # (name, password): asked for
        self.scheme = "Bearer"    # or Basic
        self.realm = None         # another realm than our own
        self.token_uses = None    # so many requests until a token ends
        self.tokens = {}
        self.challenge = None     # sent as it is
        self.cut_get = self.cut_patch = 0   # so many answers or pieces are cut in the middle
        self.wrong_bytes = False  # blobs are others than they say
        self.redirect = None      # blobs are at this address
        self.forget_uploads = 0   # so many pieces find no upload
        self.drop_location = False
        self.min_chunk = None
        self.grow_chunk = 0       # by so much more with each upload
        self.upload_to = None     # another registry takes the bytes
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self, code, body=b"", **headers):
                self.send_response(code)
                for key, value in headers.items():
                    self.send_header(key.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def handle_any(self):
                outer.handle(self)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = handle_any

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None # who asks may leave
        self.port = self.server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"

    def start(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    # ---- What is in it ----

    def add(self, data):
        self.blobs[digest(data)] = data
        return digest(data)

    def add_manifest(self, name, manifest):
        data = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
        self.manifests[name] = self.manifests[digest(data)] = data
        return digest(data)

    def add_model(self, name, data, media_type="application/vnd.cncf.model.weight.v1.raw", **annotations):
        layer = {"mediaType": media_type, "digest": self.add(data), "size": len(data)}
        if annotations:
            layer["annotations"] = {"org.cncf.model.filepath": annotations["path"]}
        return self.add_manifest(name, {"schemaVersion": 2, "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": self.add(b"{}"),
                                                                       "size": 2}, "layers": [layer]})

    # ---- Answers ----

    def is_let_in(self, h):
        if not self.user:
            return True
        given = h.headers.get("Authorization", "")
        if self.scheme == "Basic":
            return given == "Basic " + base64.b64encode(":".join(self.user).encode()).decode()
        token = given.removeprefix("Bearer ")
        if self.tokens.get(token, 0) <= 0:
            return False
        self.tokens[token] -= 1
        return True

    def handle(self, h):
        url = urllib.parse.urlsplit(h.path)
        length = int(h.headers.get("Content-Length") or 0)
        self.log.append((h.command, url.path, h.headers.get("Authorization")))
        if url.path == "/token":
            wanted = "Basic " + base64.b64encode(":".join(self.user).encode()).decode() if self.user else None
            if h.headers.get("Authorization") != wanted:
                return h.answer(401)
            token = f"token{len(self.tokens)}"
            self.tokens[token] = self.token_uses or 1 << 30
            return h.answer(200, json.dumps({"token": token}).encode())
        if not self.is_let_in(h):
            h.rfile.read(length)
            realm = self.realm or f"http://{self.host}/token"
            challenge = self.challenge or (f'Bearer realm="{realm}",service="tests",scope="repository:x:pull,push"'
                                           if self.scheme == "Bearer" else 'Basic realm="tests"')
            return h.answer(401, WWW_Authenticate=challenge)
        if m := re.fullmatch(r"/v2/([a-z0-9/_.-]+)/manifests/(.+)", url.path):
            if h.command == "PUT":
                data = h.rfile.read(length)
                for blob in [json.loads(data)["config"], *json.loads(data)["layers"]]:
                    if blob["digest"] not in self.blobs:
                        return h.answer(400, b"blob unknown")
                self.add_manifest(m[2], data)
                return h.answer(201, Location="/")
            data = self.manifests.get(m[2])
            return h.answer(404) if data is None else h.answer(200, data, Content_Type="application/vnd.oci.image.manifest.v1+json")
        if m := re.fullmatch(r"/v2/([a-z0-9/_.-]+)/blobs/(sha256:[0-9a-f]{64})", url.path):
            return self.give_blob(h, m[2])
        if re.fullmatch(r"/v2/([a-z0-9/_.-]+)/blobs/uploads/", url.path) and h.command == "POST":
            name = f"/upload/{len(self.uploads)}"
            (self.upload_to or self).uploads[name] = bytearray()
            at = f"http://localhost:{self.upload_to.port}" if self.upload_to else ""
            headers = {} if self.drop_location else {"Location": at + name + "?state=1"}
            if self.min_chunk:
                headers["OCI_Chunk_Min_Length"] = str(self.min_chunk)
                self.min_chunk += self.grow_chunk
            return h.answer(202, **headers)
        if url.path in self.uploads:
            return self.take_upload(h, url, length)
        h.rfile.read(length)
        h.answer(404)

    def give_blob(self, h, name):
        data = self.blobs.get(name)
        if data is None:
            return h.answer(404)
        if self.redirect and h.command == "GET":
            return h.answer(307, Location=f"{self.redirect}{h.path}")
        if self.wrong_bytes:
            data = bytes(len(data))
        first, last, code, headers = 0, len(data) - 1, 200, {"ETag": f'"{name}"', "Accept_Ranges": "bytes"}
        if m := re.fullmatch(r"bytes=(\d+)-(\d*)", h.headers.get("Range", "")):
            first, last, code = int(m[1]), min(int(m[2] or last), last), 206
            headers["Content_Range"] = f"bytes {first}-{last}/{len(data)}"
        part = data[first:last + 1]
        if h.command == "GET" and self.cut_get and len(part) > 10:
            self.cut_get -= 1
            h.send_response(code)
            for key, value in headers.items():
                h.send_header(key.replace("_", "-"), value)
            h.send_header("Content-Length", str(len(part)))
            h.end_headers()
            h.wfile.write(part[:len(part) // 2])
            h.wfile.flush()
            h.connection.shutdown(2)
            h.close_connection = True
            return
        h.answer(code, part, **headers)

    def take_upload(self, h, url, length):
        upload = self.uploads[url.path]
        if h.command == "GET":
            return h.answer(204, Location=url.path + "?state=2", Range=f"0-{max(len(upload) - 1, 0)}")
        if h.command == "PATCH":
            if self.forget_uploads:
                self.forget_uploads -= 1
                h.rfile.read(length)
                del self.uploads[url.path]
                self.uploads[url.path + "-forgotten"] = bytearray()
                return h.answer(404)
            first, last = map(int, h.headers["Content-Range"].split("-"))
            if first != len(upload) or last - first + 1 != length:
                h.rfile.read(length)
                return h.answer(416, Location=url.path + "?state=3", Range=f"0-{max(len(upload) - 1, 0)}")
            if self.cut_patch:
                self.cut_patch -= 1
                upload += h.rfile.read(length // 2)
                h.connection.shutdown(2)
                h.close_connection = True
                return
            upload += h.rfile.read(length)
            return h.answer(202, Location=url.path + "?state=4", Range=f"0-{len(upload) - 1}")
        data = bytes(upload) + h.rfile.read(length)
        if urllib.parse.parse_qs(url.query).get("digest") != [digest(data)]:
            return h.answer(400, b"digest invalid")
        self.add(data)
        h.answer(201, Location="/")
