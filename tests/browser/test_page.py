#!/usr/bin/env python3
"""The chat page in a real browser: loads, asks, sees the answer stream, stops, in both colour schemes.

    test_page.py PROGRAM [ARGUMENT...]     a program that serves one model and whose first line ends in the port
    APERTO_SCREENSHOTS=FOLDER              keep pictures of each step there

Chromium runs headless and is driven over its debugging socket with nothing but the standard library; the page
has no hooks for tests.
SPDX-License-Identifier: Apache-2.0
"""
import base64
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0",
         "--remote-allow-origins=*", "about:blank"]
BASE = None


class Socket:
    """A WebSocket client, as much of RFC 6455 as the debugger needs."""

    def __init__(self, url):
        host, path = url.removeprefix("ws://").split("/", 1)
        name, port = host.split(":")
        self.socket = socket.create_connection((name, int(port)), timeout=30)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        self.rest = b""
        while b"\r\n\r\n" not in self.rest:
            self.rest += self.socket.recv(4096)
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        if b" 101 " not in head:
            raise RuntimeError(head)

    def take(self, count):
        while len(self.rest) < count:
            more = self.socket.recv(65536)
            if not more:
                raise EOFError("the browser closed its socket")
            self.rest += more
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def send(self, text):
        data, mask = text.encode(), os.urandom(4)
        size = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0xFE]) + struct.pack(">H", len(data)) \
            if len(data) < 65536 else bytes([0xFF]) + struct.pack(">Q", len(data))
        self.socket.sendall(b"\x81" + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

    def receive(self):
        message = b""
        while True:
            first, size = self.take(2)
            size &= 0x7F
            if size > 125:
                size = struct.unpack(">H" if size == 126 else ">Q", self.take(2 if size == 126 else 8))[0]
            data = self.take(size)
            if first & 0x0F in (0, 1):
                message += data
                if first & 0x80:
                    return message.decode()


class Browser:
    def __init__(self):
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        if not program:
            raise unittest.SkipTest("no chromium")
        self.folder = tempfile.mkdtemp()
        self.process = subprocess.Popen([program, *FLAGS, "--user-data-dir=" + self.folder], stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "DevTools listening on " in line:
                port = line.split("ws://")[1].split("/")[0]
                break
        else:
            raise RuntimeError("chromium did not start")
        for _ in range(100):
            pages = json.load(urllib.request.urlopen(f"http://{port}/json"))
            page = next((page for page in pages if page["type"] == "page"), None)
            if page:
                break
            time.sleep(0.1)
        self.socket = Socket(page["webSocketDebuggerUrl"])
        self.number, self.events = 0, []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")

    def call(self, method, **parameters):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.receive())
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(message["error"])
                return message["result"]
            self.events.append(message)

    def run(self, script):
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"])
        return result["result"].get("value")

    def wait(self, script, seconds=60):
        end = time.time() + seconds
        while time.time() < end:
            value = self.run(script)
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError("still not so: " + script)

    def picture(self, name):
        data = self.call("Page.captureScreenshot", format="png")["data"]
        if os.environ.get("APERTO_SCREENSHOTS"):
            with open(os.path.join(os.environ["APERTO_SCREENSHOTS"], name + ".png"), "wb") as file:
                file.write(base64.b64decode(data))

    def type(self, text):
        self.run("document.getElementById('input').focus()")
        self.call("Input.insertText", text=text)

    def press_enter(self):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")

    def click(self, selector):
        x, y = self.run(f"(() => {{ const r = document.querySelector('{selector}').getBoundingClientRect();"
                        "return [r.x + r.width / 2, r.y + r.height / 2]; })()")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def close(self):
        self.process.terminate()
        self.process.wait(20)
        self.process.stderr.close()
        shutil.rmtree(self.folder, ignore_errors=True)


ANSWERS = "[...document.querySelectorAll('article.assistant p')].map(p => p.textContent)"
DONE = "document.getElementById('stop').hidden && document.getElementById('status').textContent.includes('tokens in')"


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()

    def open(self, width=1000, height=700, dark=False):
        b = self.browser
        b.events.clear()
        b.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        b.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        b.call("Page.navigate", url=BASE + "/")
        b.wait("document.readyState === 'complete' && document.querySelectorAll('#model option').length > 0")

    def limit(self, tokens):
        self.browser.run(f"document.getElementById('limit').value = '{tokens}'")

    def assert_quiet(self):
        """Nothing was blocked, nothing failed, nothing went elsewhere."""
        self.browser.run("0")
        for event in self.browser.events:
            if event["method"] == "Log.entryAdded":
                self.fail(event["params"]["entry"])
            if event["method"] == "Runtime.exceptionThrown":
                self.fail(event["params"])
            if event["method"] == "Network.requestWillBeSent":
                url = event["params"]["request"]["url"]
                self.assertTrue(url.startswith((BASE, "data:")), url)

    def test_ask_and_see_the_answer(self):
        b = self.browser
        self.open()
        b.picture("empty")
        self.limit(24)
        b.type("What is a library?")
        b.press_enter()
        b.wait(DONE)
        self.assertEqual(b.run("document.querySelector('article.user p').textContent"), "What is a library?")
        self.assertTrue(b.run(ANSWERS)[0])
        self.assertEqual(b.run("document.getElementById('input').value"), "")
        b.type("And a book?")
        b.click("#send")
        b.wait(f"{ANSWERS}.length === 2 && {DONE}")
        b.picture("answered")
        b.click("#new")
        self.assertEqual(b.run("document.querySelectorAll('article').length"), 0)
        self.assert_quiet()

    def test_stop(self):
        b = self.browser
        self.open()
        # Random weights may draw the end at any time; this answer is to end by the click alone.
        b.run("""const plain = window.fetch; window.fetch = (url, options) => plain(url, options && options.body
            ? {...options, body: JSON.stringify({...JSON.parse(options.body), ignore_eos: true})} : options)""")
        b.type("Count to a million.")
        b.press_enter()
        b.wait(f"({ANSWERS}[0] || '').length > 20")
        b.picture("answering")
        b.click("#stop")
        b.wait("document.getElementById('status').textContent === 'Stopped.'")
        b.wait("fetch('/readyz').then(r => r.json()).then(r => r.models[0].requests === 0)", seconds=2)
        said = b.run(ANSWERS)[0]
        self.assertTrue(said)
        self.assertEqual(b.run("document.querySelectorAll('article.assistant').length"), 1)
        self.limit(4)
        b.type("And on?")  # what was said before the click stays part of the conversation
        b.press_enter()
        b.wait(f"{ANSWERS}.length === 2 && {DONE}")
        self.assertEqual(b.run(ANSWERS)[0], said)
        self.assert_quiet()

    def test_what_was_said_stays_text(self):
        b = self.browser
        self.open()
        self.limit(4)
        bad = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script><b>bold</b>"
        b.type(bad)
        b.press_enter()
        b.wait(DONE)
        self.assertEqual(b.run("document.querySelector('article.user p').textContent"), bad)
        self.assertEqual(b.run("document.querySelectorAll('article img, article b, article script').length"), 0)
        self.assertEqual(b.run("document.title"), "Aperto")
        self.assert_quiet()

    def test_an_error_is_shown_and_the_question_comes_back(self):
        b = self.browser
        self.open()
        b.run("document.getElementById('input').value = 'word '.repeat(30000)")
        b.run("document.getElementById('form').requestSubmit()")
        b.wait("document.getElementById('status').className === 'failed'")
        self.assertIn("context", b.run("document.getElementById('status').textContent"))
        self.assertGreater(b.run("document.getElementById('input').value.length"), 100000)
        self.assertEqual(b.run("document.querySelectorAll('article').length"), 0)

    def test_a_phone_in_the_dark(self):
        b = self.browser
        self.open(width=360, height=640, dark=True)
        self.limit(16)
        b.run("document.getElementById('settings').open = true")
        b.picture("phone_settings")
        b.run("document.getElementById('system').value = 'Be brief.'; document.getElementById('settings').open = false")
        b.type("Hello")
        b.click("#send")
        b.wait(DONE)
        b.picture("phone")
        self.assertLessEqual(b.run("document.documentElement.scrollWidth"), 360)
        low = b.run("document.getElementById('send').getBoundingClientRect().bottom")
        self.assertLessEqual(low, 640)
        self.assert_quiet()

    def test_everything_has_a_name(self):
        b = self.browser
        self.open()
        tree = b.call("Accessibility.getFullAXTree")["nodes"]
        seen = set()
        for node in tree:
            role = node.get("role", {}).get("value")
            if role in ("button", "textbox", "combobox", "spinbutton", "MenuListPopup") and not node.get("ignored"):
                seen.add(role)
                if role != "MenuListPopup":
                    self.assertTrue(node.get("name", {}).get("value"), node)
        self.assertTrue({"button", "textbox", "combobox"} <= seen, seen)


def wait_ready():
    for _ in range(600):
        try:
            return urllib.request.urlopen(BASE + "/readyz").status
        except urllib.error.HTTPError:
            time.sleep(0.1)
    raise SystemExit("the server did not become ready")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    server = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True)
    try:
        BASE = "http://127.0.0.1:" + server.stdout.readline().split()[-1].split(":")[-1]
        wait_ready()
        unittest.main(argv=sys.argv[:1], verbosity=2)
    finally:
        server.terminate()
        server.wait(20)
