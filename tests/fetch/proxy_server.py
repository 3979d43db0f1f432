# proxy_server.py - a proxy: CONNECT, and plain requests passed on.  Every host is this machine.
#
#     proxy = Proxy().start();  https_proxy=proxy.address …  then look at proxy.log: the first line and the head of each request
#
# SPDX-License-Identifier: Apache-2.0
import select, socket, socketserver, threading, urllib.parse


class Proxy:
    def __init__(self):
        self.log, self.code = [], 200  # of a CONNECT

    def start(self):
        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"proxy": self}))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        return self

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self.request.recv(65536)
            if not piece:
                return
            head += piece
        self.proxy.log.append(head.decode())
        method, target, _ = head.split(b"\r\n")[0].decode().split()
        if method == "CONNECT":
            if self.proxy.code != 200:
                return self.request.sendall(b"HTTP/1.1 %d no\r\nContent-Length: 0\r\n\r\n" % self.proxy.code)
            server = socket.create_connection(("127.0.0.1", int(target.rsplit(":")[-1])))
            self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            url = urllib.parse.urlsplit(target)
            server = socket.create_connection(("127.0.0.1", url.port))
            path = url.path + ("?" + url.query if url.query else "")
            lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"proxy-", b"connection:"))]
            server.sendall(b"\r\n".join([f"{method} {path} HTTP/1.1".encode(), b"Connection: close"] + lines[1:]))
        both = [self.request, server]
        while True:
            for end in select.select(both, [], [])[0]:
                try:
                    piece = end.recv(65536)
                    if not piece:
                        return server.close()
                    both[end is self.request].sendall(piece)
                except OSError:
                    return server.close()
