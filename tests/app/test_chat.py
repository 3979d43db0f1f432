# test_chat.py APERTO MAKE_TINY MAKE_TELLING - a conversation on a terminal: Ctrl-C stops the answer and not the program.
# SPDX-License-Identifier: Apache-2.0
import os, pty, re, select, signal, subprocess, sys, tempfile, termios, time

aperto, make_tiny, make_telling = (os.path.abspath(path) for path in sys.argv[1:4])


class Terminal:
    def __init__(self, environment, *arguments):
        self.seen = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(aperto, [aperto, *arguments], environment)

    def send(self, text):
        time.sleep(0.2)  # the line editor takes the terminal over only after its prompt is printed
        os.write(self.fd, text.encode())

    def wait(self, pattern, seconds=20):
        """Reads until the pattern is on the screen; what stood up to it is taken off and returned."""
        end = time.time() + seconds
        while not (found := re.search(pattern, self.seen)):
            if not select.select([self.fd], [], [], max(0, end - time.time()))[0]:
                sys.exit(f"FAILED: no '{pattern}' in {self.seen[-2000:]!r}")
            try:
                self.seen += os.read(self.fd, 65536).decode(errors="replace")
            except OSError:  # the program is gone
                sys.exit(f"FAILED: the program ended before '{pattern}': {self.seen[-2000:]!r}")
        text, self.seen = self.seen[: found.end()], self.seen[found.end():]
        return text

    def end(self):
        """Reads what still comes; the exit code."""
        end = time.time() + 30
        while time.time() < end:
            try:
                if not os.read(self.fd, 65536):
                    break
            except OSError:
                break
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def check(good, what):
    if not good:
        sys.exit(f"FAILED: {what}")


with tempfile.TemporaryDirectory() as folder:
    data = os.path.join(folder, "data")
    environment = {"APERTO_DATA": data, "TERM": "vt100", "PATH": os.environ["PATH"], "NO_COLOR": "1",
                   "LSAN_OPTIONS": "print_suppressions=0:suppressions="
                                   + os.path.join(os.path.dirname(os.path.abspath(__file__)), "libedit.supp"),
                   **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}}
    model = os.path.join(folder, "long.gguf")
    subprocess.run([make_tiny, model, "8192"], check=True)
    subprocess.run([aperto, "pull", model, "--as", "long"], check=True, env=environment, stdout=subprocess.DEVNULL)

    t = Terminal(environment, "run", "long", "--temp", "1", "--seed", "5")
    t.wait("is ready.*\r\n.*> ")
    t.send("h\u00e9llo, begin\n")
    t.wait("(\r\n){5}")  # the tiny model answers with new lines
    t.send("\x03")
    t.wait(r"stopped\)\r\n.*> ")
    t.send("half a line\x03")  # thrown away
    t.wait("\n.*> ")
    t.send("/help\n")
    t.wait("/clear .*begin")
    t.send("/clear\n")
    t.wait("A new conversation")
    t.send("/system be brief\n")
    t.wait("with this system message")
    t.send("/nonsense\n")
    t.wait("no '/nonsense'")
    t.send("one \\\n")
    t.wait(r"\. ")
    t.send("two\n")
    t.wait("(\r\n){5}")
    t.send("\x03")
    t.wait(r"stopped\)\r\n.*> ")
    t.send("\x1b[A")  # the last entry of the history
    t.wait("two")
    t.send("\x03")
    t.wait("> ")
    t.send("\x04")
    check(t.end() == 0, "Ctrl-D does not leave with 0")
    history = os.path.join(data, "history")
    check("begin" in open(history).read(), "the history is not kept")
    check(os.stat(history).st_mode & 0o077 == 0, "the history can be read by others")

    # What a model thinks is shown apart, dimmed where the terminal has that, and stays out of the answer.
    telling = os.path.join(folder, "telling.gguf")
    subprocess.run([make_telling, telling], check=True)
    for colour in (False, True):
        shown = {k: v for k, v in environment.items() if k != "NO_COLOR" or not colour}
        before, after = (r"\x1b\[2m", r"\x1b\[0m") if colour else ("", "")
        for ask in ((), ("In Turin?",)):
            t = Terminal(shown, "run", telling, *ask)
            if not ask:
                t.wait("is ready.*\r\n.*> ")
                t.send("In Turin?\n")
            screen = t.wait(f"{before}Thinking: The user wants the weather.{after}\r\n\r\n<tool_call>")
            check(colour or "\x1b[2m" not in screen, "colours in spite of NO_COLOR")
            if not ask:
                t.wait("</tool_call>\r\n[^>]*> ")
                t.send("21 C\n")
                check("Thinking" not in t.wait(r"It is warm in Turin\."), "an answer without a thought shows one")
                t.wait("> ")
                t.send("\x04")
            check(t.end() == 0, "a conversation with reasoning")
    t = Terminal(environment, "run", telling, "In Turin?", "--hide-thinking")
    check("hink" not in t.wait("<tool_call>"), "--hide-thinking shows it")
    check(t.end() == 0, "an answer without the reasoning")

    # What is pasted is one message, whatever its ends of lines; the terminal gets its modes back.
    t = Terminal(environment, "run", "long", "--temp", "1", "--seed", "5", "-n", "300")
    modes = termios.tcgetattr(t.fd)
    t.wait(r"\x1b\[\?2004h[^$]*> ")
    t.send("\x1b[200~paste \u00e9\r\nmiddle\rend\x1b[201~")
    t.wait("(?s)paste \u00e9.*\r\n.*middle.*\r\n.*end")
    t.send("\n")
    t.wait("(\r\n){5}")
    # What is typed during an answer is not shown in it, but is the start of the next message.
    t.send("ahead")
    check("ahead" not in t.wait(r"cut at the limit\)\r\n"), "typing is echoed into the answer")
    t.wait("> .*ahead")
    t.send(" of time\n")
    t.wait(r"cut at the limit\)\r\n.*> ")
    t.send("\x04")
    t.wait(r"\x1b\[\?2004l")
    check(t.end() == 0, "Ctrl-D after a paste")
    check(termios.tcgetattr(t.fd)[:4] == modes[:4], "the terminal's modes are not restored")
    kept = open(history).read()
    check(kept.count("paste") == 1 and "middle" in [l for l in kept.splitlines() if "paste" in l][0], f"a paste is no one message: {kept}")
    check("ahead\\040of\\040time" in kept, "what was typed during an answer is lost")
    t = Terminal(environment, "run", "long")
    t.wait(r"\x1b\[\?2004h[^$]*> ")
    time.sleep(0.2)
    os.kill(t.pid, signal.SIGTERM)
    t.wait(r"\x1b\[\?2004l")
    check(t.end() == -signal.SIGTERM, "SIGTERM at the prompt")
    check(termios.tcgetattr(t.fd)[:4] == modes[:4], "the terminal's modes are not restored after a signal")

    # A worker's death is told and mended; the conversation goes on, unless the third one in a row dies.
    def kill_worker(t):
        children = open(f"/proc/{t.pid}/task/{t.pid}/children").read().split()
        check(len(children) == 1, f"the children are {children}")
        os.kill(int(children[0]), signal.SIGKILL)

    t = Terminal(environment, "run", "long", "--temp", "1", "--seed", "5")
    t.wait("is ready.*\r\n.*> ")
    t.send("begin\n")
    t.wait("(\r\n){5}")
    kill_worker(t)
    t.wait("error: the worker of 'long' was ended by signal 9.* the conversation goes on\r\n")
    t.wait("> ")
    kill_worker(t)  # nobody asks it: the next message goes to a new one
    time.sleep(0.2)
    t.send("begin again\n")
    t.wait("the conversation goes on\r\n")
    t.wait("(\r\n){5}")
    t.send("\x03")
    t.wait(r"stopped\)\r\n.*> ")
    for _ in range(2):
        t.send("begin\n")
        t.wait("(\r\n){5}")
        kill_worker(t)
        t.wait("the conversation goes on\r\n.*> ")
    t.send("begin\n")
    t.wait("(\r\n){5}")
    kill_worker(t)
    t.wait("third death in a row")
    check(t.end() == 1, "three deaths in a row")

    # A conversation needs a terminal on both sides; with a prompt one answer may go anywhere.
    class Redirected(Terminal):
        def __init__(self, environment, out, *arguments):
            self.seen = ""
            self.pid, self.fd = pty.fork()
            if self.pid == 0:
                os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 1)
                os.execve(aperto, [aperto, *arguments], environment)

    out = os.path.join(folder, "out")
    t = Redirected(environment, out, "run", "long")
    t.wait("error: .*standard output is not a terminal.*\n")
    check(t.end() == 2, "a conversation without a screen")
    t = Redirected(environment, out, "run", "long", "hello", "-n", "4")
    check(t.end() == 0 and os.path.getsize(out) > 0, "one answer into a file")

    # One answer: Ctrl-C ends it and the program.
    t = Terminal(environment, "run", "long", "hello", "--temp", "1", "--seed", "5")
    t.wait(r"\x1b\[K(.|\r\n)")  # after the bar that says how far reading is
    t.send("\x03")
    check(t.end() == -signal.SIGINT, "a stopped answer does not end the program as Ctrl-C does")
    # The same from the first moment on: a loop in a shell ends.
    for delay in (0.02, 0.1, 0.2, 0.3, 0.5):
        run = subprocess.Popen([aperto, "run", "long", "hello", "--temp", "1", "--seed", "5"], env=environment,
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        time.sleep(delay)
        run.send_signal(signal.SIGINT)
        words = run.communicate(timeout=30)[1]
        check(run.returncode == -signal.SIGINT and not words, f"Ctrl-C after {delay} s: {run.returncode} {words}")

    # One token says nothing of the speed.
    t = Terminal(environment, "run", "long", "hello", "--temp", "0", "-n", "1")
    t.wait(r"prompt tokens in [0-9.]+ s, 1 token, cut at the limit\)")
    check(t.end() == 0, "an answer of one token")

    # A model cannot steer the terminal.
    t = Terminal(environment, "tokenize", "long", "--decode", "188 189 190 191 27")
    t.wait(r"\x1b\[K")
    out = t.wait("\n")
    check("\x1b[" not in out and not re.search("[\x00-\x08\x0e-\x1f\x7f-\x9f]", out), f"control characters: {out!r}")

    # rm asks.
    t = Terminal(environment, "rm", "long")
    t.wait(r"\[y/N\]")
    t.send("n\n")
    t.wait("nothing was removed")
    check(t.end() == 1, "rm after no")
    t = Terminal(environment, "rm", "long")
    t.wait(r"\[y/N\]")
    t.send("y\n")
    check(t.end() == 0, "rm after yes")
print("a conversation on a terminal: passed")
