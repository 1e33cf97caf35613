"""daemon: starts `caisson daemon` for a test, talks QMP to it, and looks at what it costs.

    with Daemon(iothreads=2) as daemon:
        daemon.image("a", 64 << 20)                       # a scratch image, and a node of that name
        daemon.hba("hba0", queues=2)                      # an export on daemon.socket("hba0")
        daemon.qmp("device_add", driver="scsi-hd", id="disk0", bus="hba0.0", drive="a")
        daemon.wait_event("DEVICE_DELETED", device="disk0")

The program is $CAISSON, else build/caisson of this tree.
"""
import hashlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TIMEOUT_S = float(os.environ.get("T_GUEST", "60"))


class DaemonError(Exception):
    pass


class QmpError(DaemonError):
    def __init__(self, command, error):
        super().__init__("%s: %s: %s" % (command, error["class"], error["desc"]))
        self.kind, self.text = error["class"], error["desc"]


def program():
    names = [os.environ.get("CAISSON", "")] + \
        [os.path.join(ROOT, "build", name) for name in ("caisson", "src/cli/caisson")]
    for name in names:
        if name and os.access(name, os.X_OK):
            return name
    raise DaemonError("no program: build it with make, or set CAISSON")


class Qmp:
    """One QMP connection."""

    def __init__(self, path, alive=lambda: True):
        self.changed = threading.Condition()
        self.events, self.replies, self.next = [], {}, 1
        self.greeting, self.closed = None, False
        self.socket = connect(path, alive)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()
        self.until(lambda: self.greeting, None, "no greeting")
        self("qmp_capabilities")

    def read(self):
        try:
            with self.socket.makefile("rb") as file:
                while line := file.readline():
                    self.handle(json.loads(line))
        except (OSError, ValueError):
            pass
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def handle(self, message):
        with self.changed:
            if "QMP" in message:
                self.greeting = message
            elif "event" in message:
                self.events.append(message)
            elif "id" in message:
                self.replies[message["id"]] = message
            self.changed.notify_all()

    def until(self, condition, timeout, what):
        limit = TIMEOUT_S if timeout is None else timeout
        deadline = time.monotonic() + limit
        with self.changed:
            while not condition():
                left = deadline - time.monotonic()
                if self.closed:
                    raise DaemonError("the monitor was closed; " + what)
                if left <= 0:
                    raise DaemonError("after %g s: %s" % (limit, what))
                self.changed.wait(left)
            return condition()

    def __call__(self, command, _timeout=None, **arguments):
        """Run a command; an underscore in an argument's name is a dash."""
        number, self.next = self.next, self.next + 1
        message = {"execute": command, "id": number}
        if arguments:
            message["arguments"] = {key.replace("_", "-"): value for key, value in arguments.items()}
        self.socket.sendall(json.dumps(message).encode() + b"\r\n")
        self.until(lambda: number in self.replies, _timeout, "no reply to " + command)
        reply = self.replies.pop(number)
        if "error" in reply:
            raise QmpError(command, reply["error"])
        return reply["return"]

    def mark(self):
        """Where wait_event() may begin to look."""
        return len(self.events)

    def find_events(self, name, since=0, **data):
        return [event for event in self.events[since:] if event["event"] == name and
                all(event.get("data", {}).get(key) == data[key] for key in data)]

    def wait_event(self, name, since=0, timeout=None, **data):
        return self.until(lambda: self.find_events(name, since, **data), timeout,
                          "no event %s %s" % (name, data))[0]


def connect(path, alive, timeout=20):
    """A server that is starting has no socket yet."""
    deadline = time.monotonic() + timeout
    while True:
        end = socket.socket(socket.AF_UNIX)
        try:
            end.connect(path)
            return end
        except OSError as error:
            end.close()
            if not alive() or time.monotonic() > deadline:
                raise DaemonError("cannot connect to %s: %s" % (path, error)) from None
            time.sleep(0.01)


class Daemon:
    def __init__(self, iothreads=1, arguments=()):
        self.dir = tempfile.mkdtemp(prefix="caisson-daemon-")
        self.log_path = os.path.join(self.dir, "log")
        self.process, self.monitor = None, None
        self.iothreads = ["io%d" % number for number in range(iothreads)]
        command = [program(), "daemon"]
        for name in self.iothreads:
            command += ["--object", "iothread,id=" + name]
        command += ["--chardev", "socket,id=qmp,path=%s,server=on,wait=off" % self.socket("qmp"),
                    "--monitor", "chardev=qmp"] + list(arguments)
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.monitor = Qmp(self.socket("qmp"), lambda: self.process.poll() is None)
        except DaemonError as error:
            self.close()
            raise DaemonError("%s\n%s\n%s" % (error, " ".join(command), self.log)) from None
        self.qmp, self.wait_event, self.mark = self.monitor, self.monitor.wait_event, self.monitor.mark

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    @property
    def log(self):
        if os.path.exists(self.log_path):
            with open(self.log_path, errors="replace") as file:
                self.last_log = file.read()
        return getattr(self, "last_log", "")

    def socket(self, name):
        return os.path.join(self.dir, name + ".sock")

    def close(self):
        """SIGTERM, as an operator would; SIGKILL if that does not help. Idempotent."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log
        if not os.environ.get("CAISSON_KEEP"):
            shutil.rmtree(self.dir, ignore_errors=True)

    # ---- disks

    def image(self, name, size, random=False, **options):
        """A scratch image and a node for it."""
        self.make_image(name, size, random)
        self.add_node(name, **options)

    def path(self, name):
        return os.path.join(self.dir, name + ".img")

    def make_image(self, name, size, random=False):
        with open(self.path(name), "wb") as file:
            if random:
                file.write(noise(name, size))
            file.truncate(size)

    def add_node(self, name, **options):
        self.qmp("blockdev-add", driver="file", filename=self.path(name), node_name=name, **options)

    def hba(self, name, queues=1, threads=None, **options):
        threads = self.iothreads if threads is None else threads
        if threads:
            options["iothread"] = threads
        self.qmp("block-export-add", type="vhost-user-scsi", id=name, num_queues=queues,
                 addr={"type": "unix", "path": self.socket(name)}, **options)

    def plug(self, name, node, hba="hba0", **options):
        self.qmp("device_add", driver="scsi-hd", id=name, bus=hba + ".0", drive=node, **options)

    def unplug(self, name, timeout=None):
        since = self.mark()
        self.qmp("device_del", id=name)
        return self.wait_event("DEVICE_DELETED", since, timeout, device=name)

    # ---- what it costs

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.process.pid))

    def rss_anon_kib(self):
        with open("/proc/%d/status" % self.process.pid) as file:
            return next(int(line.split()[1]) for line in file if line.startswith("RssAnon:"))

    def cpu_s(self):
        with open("/proc/%d/stat" % self.process.pid) as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def noise(name, size):
    """Random bytes that are the same each time for a name."""
    return hashlib.shake_128(name.encode()).digest(size)
