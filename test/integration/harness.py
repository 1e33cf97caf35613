"""harness: runs `caisson` for tests of its command line and its control socket.

A test file defines functions test_*, each given a fresh scratch folder as current directory, and ends
with `harness.main(globals())`. The program is $CAISSON, else build/caisson of this tree.
"""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.environ.get("CAISSON") or os.path.join(ROOT, "build", "caisson")
PATIENCE_S = float(os.environ.get("T_INTEGRATION", "20"))
MONITOR = ["--chardev", "socket,id=mon,path=mon.sock,server=on,wait=off", "--monitor", "mon"]


class Skipped(Exception):
    pass


def equal(found, wanted, what=""):
    if found != wanted:
        raise AssertionError("%s\n  wanted %r\n  found  %r" % (what, wanted, found))


def contains(text, *parts):
    for part in parts:
        if part not in text:
            raise AssertionError("wanted %r in %r" % (part, text))


def until(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("not within %g s: %s" % (PATIENCE_S, what))
        time.sleep(0.01)


def run(*words, timeout=PATIENCE_S, **more):
    """A run that ends by itself: (status, standard output, standard error)."""
    done = subprocess.run([PROGRAM, *words], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=timeout, **more)
    return done.returncode, done.stdout, done.stderr


class Qmp:
    """One connection. Requests go out as they are; replies and events are kept apart."""

    def __init__(self, path="mon.sock", negotiate=True, oob=False):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")
        self.events = []
        self.greeting = self.read()
        if negotiate:
            equal(self("qmp_capabilities", **({"enable": ["oob"]} if oob else {})), {})

    def send(self, text):
        self.socket.sendall(text if isinstance(text, bytes) else text.encode())

    def read(self):
        line = self.file.readline()
        if not line:
            raise EOFError
        if not line.endswith(b"\r\n"):
            raise AssertionError("a line without \\r\\n: %r" % line)
        return json.loads(line)

    def reply(self):
        while True:
            message = self.read()
            if "event" not in message:
                return message
            self.events.append(message)

    def raw(self, request):
        self.send(request if isinstance(request, (str, bytes)) else json.dumps(request))
        return self.reply()

    def __call__(self, command, **arguments):
        reply = self.raw({"execute": command,
                          "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}})
        if "error" in reply:
            raise AssertionError("%s: %s" % (command, reply["error"]))
        return reply["return"]

    def error(self, command, arguments):
        """The (class, text) with which the command fails."""
        reply = self.raw({"execute": command, "arguments": arguments})
        if "error" not in reply:
            raise AssertionError("%s %s succeeded: %s" % (command, arguments, reply))
        return reply["error"]["class"], reply["error"]["desc"]

    def wait_event(self, name, **data):
        while True:
            for event in self.events:
                if event["event"] == name and data.items() <= event.get("data", {}).items():
                    self.events.remove(event)
                    return event
            message = self.read()
            if "event" in message:
                self.events.append(message)

    def close(self):
        self.file.close()
        self.socket.close()


def greets(path):
    """Does a daemon answer there? Its whole command line has been carried out then."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PATIENCE_S)
        try:
            probe.connect(path)
            return probe.recv(8) == b'{"QMP": '
        except (FileNotFoundError, ConnectionError):
            return False


class Daemon:
    """`caisson daemon` with a control socket, ready when it answers; ended by SIGTERM."""

    def __init__(self, *options, monitor=True, ready=True, **more):
        words = ["daemon", *(MONITOR if monitor else []), *options]
        self.log_path = "daemon.log"
        with open(self.log_path, "ab") as log:
            self.child = subprocess.Popen([PROGRAM, *words], stdin=subprocess.DEVNULL, stdout=log,
                                          stderr=log, **more)
        if monitor and ready:
            until(lambda: self.child.poll() is not None or greets("mon.sock"), "a greeting")
            if self.child.poll() is not None:
                raise AssertionError("the daemon ended: " + self.log())

    def log(self):
        with open(self.log_path) as file:
            return file.read()

    def end(self, number=signal.SIGTERM):
        if self.child.poll() is None:
            self.child.send_signal(number)
        return self.wait()

    def wait(self):
        try:
            return self.child.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise AssertionError("the daemon did not end: " + self.log()) from None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            status = self.end()
        except AssertionError:
            if kind is None:
                raise
            return
        if kind is None:
            equal(status, 0, "exit status; " + self.log())
        else:
            print(self.log(), end="")


def image(name, size=1 << 20):
    with open(name, "wb") as file:
        file.truncate(size)
    return name


def run_one(name, function):
    """True: passed, False: failed, None: skipped."""
    home = os.getcwd()
    folder = tempfile.mkdtemp(prefix="caisson-")
    os.chdir(folder)
    try:
        function()
    except Skipped as why:
        print("%s: skipped: %s" % (name, why), flush=True)
        return None
    except Exception:
        print("%s: FAILED" % name)
        traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
        return False
    finally:
        os.chdir(home)
        shutil.rmtree(folder, ignore_errors=True)
    return True


def main(names):
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    tests = [(n, f) for n, f in names.items() if re.match("test_", n) and callable(f) and wanted in n]
    verdicts = [run_one(name, function) for name, function in tests]
    print("%d passed, %d failed, %d skipped" %
          (verdicts.count(True), verdicts.count(False), verdicts.count(None)))
    sys.exit(1 if False in verdicts or not verdicts else 0)
