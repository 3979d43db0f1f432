# test_proxy.py APERTO MAKE_TINY - 'aperto pull' through a proxy, as curl reads the environment; no token is shown to it.
# SPDX-License-Identifier: Apache-2.0
import os, shutil, subprocess, sys, tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from checks import check, environment, finish
from hub_server import Hub, Large
from proxy_server import Proxy

aperto, make_tiny = map(os.path.abspath, sys.argv[1:3])
certificate = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "localhost.pem")
work = tempfile.mkdtemp()
environment |= {"HOME": work, "APERTO_DATA": work + "/data", "NO_COLOR": "1", "SSL_CERT_FILE": certificate, "HF_TOKEN": "hf_right"}


def pull(hub, **env):
    proxy.log.clear()
    hub.reset()
    shutil.rmtree(work + "/data", ignore_errors=True)
    return subprocess.run([aperto, "pull", "hf:org/tiny"], capture_output=True, text=True, timeout=120, cwd=work,
                          env=environment | {"HF_ENDPOINT": hub.endpoint} | env)


subprocess.run([make_tiny, work + "/tiny.gguf", "64", "1", "0", "0"], check=True)
tiny = Large(open(work + "/tiny.gguf", "rb").read())
proxy = Proxy().start()
safe, plain = Hub(token="hf_right", certificate=certificate).start(), Hub(token="hf_right").start()
for hub in (safe, plain):
    hub.add("org/tiny", {"tiny.gguf": tiny})

# ---- Through a tunnel ----
for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
    done = pull(safe, **{name: proxy.address})
    check(done.returncode == 0 and "tiny: " in done.stdout, f"{name}: {done.stderr}")
    check(len(proxy.log) >= 2 and all(head.startswith("CONNECT ") for head in proxy.log), f"{name}: every way goes through the proxy: {proxy.log}")
    check({head.split()[1].split(":")[0] for head in proxy.log} == {"127.0.0.1", "localhost"}, f"{name}: that of the redirect as well")
    check(not any("hf_right" in head or "uthorization" in head for head in proxy.log), f"{name}: and no head shows the token")
    check(all(r["authorization"] == "Bearer hf_right" for r in safe.asked(role="hub")) and safe.asked(role="hub"), f"{name}: which the hub gets")
    check(not any("hf_right" in str(r) for r in safe.asked(role="store")), f"{name}: and the store does not")
    check(not any(key.lower().startswith("proxy-") for r in safe.asked() for key in r["head"]), f"{name}: no line for the proxy comes through")
done = pull(safe, https_proxy=proxy.address.replace("//", "//name:pass@"))
check(done.returncode == 0 and all("Proxy-Authorization: Basic bmFtZTpwYXNz" in head for head in proxy.log), "the proxy's own name and password")
check(not any("bmFtZTpwYXNz" in str(r) for r in safe.asked()), "are for it alone")

# ---- Not through it ----
for env in ({"no_proxy": "127.0.0.1,localhost"}, {"NO_PROXY": "127.0.0.1,localhost"}, {"NO_PROXY": "*"}):
    done = pull(safe, HTTPS_PROXY=proxy.address, **env)
    check(done.returncode == 0 and not proxy.log, f"{env}: {proxy.log} {done.stderr}")
done = pull(safe, HTTPS_PROXY=proxy.address, NO_PROXY="localhost")
check(done.returncode == 0 and proxy.log and not any("localhost" in head for head in proxy.log), "one host of two")
done = pull(plain, http_proxy=proxy.address, all_proxy=proxy.address)
check(done.returncode == 0 and not proxy.log, f"plain http to this machine itself, with its token, passes no proxy: {proxy.log}")

# ---- Plain http to elsewhere: the proxy reads all of it ----
for name in ("http_proxy", "all_proxy"):
    plain.store = plain.store.replace("localhost", "hub.test")
    done = pull(plain, **{name: proxy.address}, HF_ENDPOINT=plain.endpoint.replace("127.0.0.1", "hub.test"))
    check(any(head.startswith("GET http://hub.test:") for head in proxy.log) and not any("hf_right" in head for head in proxy.log), f"{name}: without the token: {proxy.log}")
done = pull(plain, HTTP_PROXY="http://127.0.0.1:9", HF_ENDPOINT=plain.endpoint.replace("127.0.0.1", "hub.test"))
check(done.returncode == 1 and "127.0.0.1 port 9" not in done.stderr, f"HTTP_PROXY in capitals is a header of CGI: {done.stderr}")

# ---- Proxies that refuse, or are not there ----
for code, words in ((407, "refuses the way there (HTTP 407: it wants a name and a password"), (403, "refuses the way there (HTTP 403)")):
    proxy.code = code
    done = pull(safe, https_proxy=proxy.address)
    check(done.returncode == 1 and words in done.stderr and done.stderr.count("\n") == 1 and len(proxy.log) == 1, f"{code}: {done.stderr}")
done = pull(safe, https_proxy="http://name:pass@127.0.0.1:9")
check(done.returncode == 1 and done.stderr.count("\n") == 1 and "pass" not in done.stderr, f"nobody there: {done.stderr}")

for server in (proxy, safe, plain):
    server.stop()
shutil.rmtree(work)
finish()
