"""guest: a real Linux guest under QEMU, driven over a control channel that polls nothing.

    with Guest(hbas=[Hba("hba0", "/tmp/hba0.sock", queues=2)]) as guest:
        disk = guest.wait_disk(target=1)             # "sda", as soon as the guest has it
        print(guest.run("sg_inq /dev/" + disk).output)
        job = guest.start("fio …")                   # goes on while the test plugs and unplugs
        guest.wait_gone(target=1)
        job.wait(timeout=60)
        guest.qmp("device_del", id="hba0")           # QEMU's own monitor: PCI hot plug
        guest.check_log()

Times out by default after T_GUEST seconds (60). Accelerator: TCG, or KVM where a probe guest really
boots with it (some machines open /dev/kvm and cannot use it); CAISSON_ACCEL=tcg|kvm decides instead.
"""
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field

HERE = os.path.dirname(os.path.abspath(__file__))
TIMEOUT_S = float(os.environ.get("T_GUEST", "60"))
PORTS = 6                              # PCIe root ports: HBAs that may be plugged at the same time

# Lines of a guest's kernel log that a healthy disk never causes.
PROBLEMS = re.compile(
    r"blocked for more than|hung_task|soft lockup|rcu.*(stall|detected)|WARNING:|BUG:|Oops|"
    r"general protection|Call Trace|[Ii]/[Oo] error|FAILED Result|Sense Key|timing out|timed out|"
    r"\breset|\babort|rejecting I/O|Unhandled sense|offline|Invalid|failed|critical (target|medium)",
    re.ASCII)
# … and those that are this machine's own, whatever disks it has.
HARMLESS = re.compile(
    r"^(ACPI|PCI|pci|pnp|acpi|clocksource|tsc|rtc|random|Spectre|MDS|RETBleed|x86/|audit|"
    r"pcieport|shpchp|i8042|platform|efi|Unknown kernel command line|systemd|integrity|KVM|kvm|"
    r"alternatives|printk|ima|AppArmor|Loading compiled|cfg80211|PM:|Failed to find|usbcore|calibrate_delay)|"
    r"Mode Sense: |Invalid ACPI|_OSC|firmware|"
    # Unit attentions, which every SCSI disk has at power-on and at plug:
    r"Power-on or device reset occurred|LUN assignments on this target have changed")


class GuestError(Exception):
    pass


@dataclass
class Hba:
    """One -device vhost-user-scsi-pci. @name is its id in QEMU."""
    name: str
    socket: str
    queues: int = 1
    driver: str = "vhost-user-scsi-pci"
    properties: dict = field(default_factory=dict)


@dataclass
class Result:
    status: int
    output: str


@dataclass
class Disk:
    """A SCSI disk in the guest's view."""
    name: str
    pci: str
    channel: int
    target: int
    lun: int


def lab():
    """The folder with kernel and initramfs; makes it when needed."""
    done = subprocess.run([os.path.join(HERE, "lab")], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise GuestError("test/guest/lab failed")
    return done.stdout.strip().splitlines()[-1]


def accelerator():
    """"kvm" only where a probe guest has booted with it; asked once a machine boot."""
    if os.environ.get("CAISSON_ACCEL"):
        return os.environ["CAISSON_ACCEL"]
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read().strip()
    cache = os.path.join(lab(), "kvm-" + boot)
    if not os.path.exists(cache):
        answer = "tcg"
        try:
            with Guest(accel="kvm", boot_timeout=20) as guest:
                answer = "kvm" if guest.run("true").status == 0 else "tcg"
        except GuestError:
            pass
        with open(cache, "w") as file:
            file.write(answer)
    with open(cache) as file:
        return file.read()


class Job:
    """A shell script running in the guest."""

    def __init__(self, guest, number, script):
        self.guest, self.number, self.script = guest, number, script
        self.output, self.status = "", None

    def running(self):
        return self.status is None

    def wait(self, timeout=None):
        self.guest._until(lambda: self.status is not None, timeout,
                          lambda: "'%s' did not end; so far: %s" % (self.script[:200],
                                                                    self.output[-2000:]))
        return Result(self.status, self.output)

    def wait_output(self, pattern, timeout=None):
        """Until its output matches; returns the match."""
        self.guest._until(lambda: re.search(pattern, self.output) or self.status is not None,
                          timeout, lambda: "no output like %s: %s" % (pattern, self.output[-2000:]))
        found = re.search(pattern, self.output)
        if not found:
            raise GuestError("'%s' ended (%s) without %s: %s" %
                             (self.script[:200], self.status, pattern, self.output[-2000:]))
        return found

    def kill(self, number=15):
        self.guest._send("signal", self.number, str(number))


class Guest:
    def __init__(self, hbas=(), accel=None, memory="1G", vcpus=2, extra=(), boot_timeout=None,
                 boot=True):
        self.dir = tempfile.mkdtemp(prefix="caisson-guest-")
        self.console_path = os.path.join(self.dir, "console")
        self.changed = threading.Condition()
        self.jobs, self.next_job = {}, 1
        self.events, self.log = [], []       # kernel uevents (dicts); log lines (priority, text)
        self.disks = {}                      # name -> Disk: what the guest has now
        self.history = []                    # (seconds, "add" | "remove", Disk)
        self.qmp_events, self.qmp_replies, self.qmp_next = [], {}, 1
        self.ready, self.dead = False, None
        self.ports = {}                      # HBA name -> root port index
        self.lock = threading.Lock()
        self.sockets, self.process, self.stopped = [], None, False
        try:
            self._launch(list(hbas), accel or accelerator(), memory, vcpus, list(extra))
            if boot:
                self.wait_boot(boot_timeout or TIMEOUT_S * 2)
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    # ---- start and end -------------------------------------------------------------------------

    def _launch(self, hbas, accel, memory, vcpus, extra):
        folder = lab()
        channel, channel_far = socket.socketpair()
        monitor, monitor_far = socket.socketpair()
        self.sockets = [channel, monitor]
        self.channel, self.monitor = channel, monitor
        command = [
            os.environ.get("QEMU", "qemu-system-x86_64"), "-accel", accel, "-cpu", "max",
            "-smp", str(vcpus), "-m", memory, "-machine", "q35",
            "-object", "memory-backend-memfd,id=mem,size=%s,share=on" % memory,
            "-numa", "node,memdev=mem", "-nodefaults", "-no-user-config", "-display", "none",
            "-no-reboot", "-serial", "file:" + self.console_path,
            "-kernel", folder + "/vmlinuz", "-initrd", folder + "/initrd.zst",
            "-append", "console=ttyS0 quiet panic=-1",
            "-chardev", "socket,id=agent,fd=%d" % channel_far.fileno(),
            "-device", "virtio-serial-pci,addr=0x10", "-device",
            "virtserialport,chardev=agent,name=caisson.agent",
            "-chardev", "socket,id=qmp,fd=%d" % monitor_far.fileno(),
            "-mon", "chardev=qmp,mode=control"]
        for number in range(PORTS):
            command += ["-device", "pcie-root-port,id=rp%d,chassis=%d,addr=%d.0" %
                        (number, number + 1, number + 1)]
        for hba in hbas:
            command += ["-chardev", "socket,id=%s-socket,path=%s" % (hba.name, hba.socket),
                        "-device", ",".join("%s=%s" % pair if pair[0] else pair[1]
                                            for pair in self._device(hba).items())]
        with open(os.path.join(self.dir, "qemu"), "w") as errors:
            self.process = subprocess.Popen(
                command + extra, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                pass_fds=[channel_far.fileno(), monitor_far.fileno()], start_new_session=True)
        channel_far.close()
        monitor_far.close()
        self.threads = [threading.Thread(target=work, daemon=True)
                        for work in (self._read_channel, self._read_monitor)]
        for thread in self.threads:
            thread.start()
        self.qmp("qmp_capabilities")

    def _device(self, hba):
        port = next(n for n in range(PORTS) if n not in self.ports.values())
        self.ports[hba.name] = port
        queues = "num_queues" if "scsi" in hba.driver else "num-queues"
        return {"": hba.driver, "id": hba.name, "chardev": hba.name + "-socket",
                queues: hba.queues, "bus": "rp%d" % port, **hba.properties}

    def wait_boot(self, timeout=None):
        self._until(lambda: self.ready, timeout, lambda: "the guest did not boot:\n" + self.console())

    def close(self):
        """Power off, hard. Idempotent."""
        if self.stopped:
            return
        self.stopped = True
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self.process.wait()
        for end in self.sockets:
            end.close()
        keep = os.environ.get("CAISSON_KEEP")
        if not keep:
            shutil.rmtree(self.dir, ignore_errors=True)

    def power_off(self, timeout=None):
        """As an orderly shutdown: the guest lets go of its disks first."""
        self._send("run", 0, "sync; poweroff -f")
        try:
            self.process.wait(timeout or TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise GuestError("the guest did not power off:\n" + self.console()) from None

    def console(self):
        text = ""
        for name in ("qemu", "console"):
            try:
                with open(os.path.join(self.dir, name), errors="replace") as file:
                    text += file.read()[-4000:]
            except OSError:
                pass
        return text

    # ---- the control channel -------------------------------------------------------------------

    def _until(self, condition, timeout, what):
        limit = TIMEOUT_S if timeout is None else timeout
        deadline = time.monotonic() + limit
        with self.changed:
            while not condition():
                left = deadline - time.monotonic()
                if self.dead:
                    raise GuestError("QEMU ended (%s):\n%s" % (self.dead, self.console()))
                if left <= 0:
                    raise GuestError("after %g s: %s" % (limit, what()))
                self.changed.wait(left)

    def _send(self, kind, number, body):
        data = body.encode()
        with self.lock:
            try:
                self.channel.sendall(b"%s %d %d\n" % (kind.encode(), number, len(data)) + data)
            except OSError as error:
                raise GuestError("QEMU ended (%s):\n%s" % (error, self.console())) from None

    def _read_channel(self):
        file = self.channel.makefile("rb")
        try:
            while header := file.readline():
                kind, number, length = header.split()
                body = file.read(int(length))
                with self.changed:
                    self._frame(kind.decode(), int(number), body)
                    self.changed.notify_all()
        except (OSError, ValueError) as error:
            self.dead = self.dead or error
        with self.changed:
            self.dead = self.dead or "end of the control channel"
            self.changed.notify_all()

    def _frame(self, kind, number, body):
        text = body.decode(errors="replace")
        if kind == "ready":
            self.ready = True
        elif kind == "output" and number in self.jobs:
            self.jobs[number].output += text
        elif kind == "exit" and number in self.jobs:
            self.jobs[number].status = int(text)
        elif kind == "log":
            prefix, _, line = text.partition(";")
            self.log.append((int(prefix.split(",")[0]) & 7, line.splitlines()[0]))
        elif kind == "event":
            event = dict(part.split("=", 1) for part in text.split("\0") if "=" in part)
            self.events.append(event)
            self._disk_event(event)

    def _disk_event(self, event):
        if event.get("SUBSYSTEM") != "block" or event.get("DEVTYPE") != "disk":
            return
        name, path = event["DEVNAME"], event["DEVPATH"]
        place = re.search(r"/(\d+):(\d+):(\d+):(\d+)/block/", path)
        if not place:
            return
        pci = re.findall(r"/([0-9a-f:]+\.\d)(?=/)", path)
        disk = Disk(name, pci[-1] if pci else "", *(int(place[n]) for n in (2, 3, 4)))
        if event["ACTION"] == "add":
            self.disks[name] = disk
        elif event["ACTION"] == "remove":
            self.disks.pop(name, None)
        else:
            return
        self.history.append((time.monotonic(), event["ACTION"], disk))

    # ---- commands in the guest -----------------------------------------------------------------

    def start(self, script):
        """Run a shell script in the background."""
        with self.changed:
            job = Job(self, self.next_job, script)
            self.jobs[job.number] = job
            self.next_job += 1
        self._send("run", job.number, script)
        return job

    def run(self, script, timeout=None, check=True):
        """Run a shell script to its end. With @check, a status other than 0 raises."""
        done = self.start(script).wait(timeout)
        if check and done.status != 0:
            raise GuestError("'%s' ended with %d: %s" % (script, done.status, done.output))
        return done

    # ---- disks ---------------------------------------------------------------------------------

    def find_disk(self, target=0, lun=0, channel=0, hba=None):
        pci = self.pci_of(hba) if hba else None
        for disk in list(self.disks.values()):
            if (disk.channel, disk.target, disk.lun) == (channel, target, lun) and \
                    (pci is None or disk.pci == pci):
                return disk.name
        return None

    def wait_disk(self, target=0, lun=0, channel=0, hba=None, timeout=None):
        """The name (sdX) of the disk at an address, as soon as the guest can use it."""
        self._until(lambda: self.find_disk(target, lun, channel, hba), timeout,
                    lambda: "no disk at %d:%d:%d; the guest has %s\n%s" %
                    (channel, target, lun, list(self.disks.values()), self.log_tail()))
        return self.find_disk(target, lun, channel, hba)

    def wait_gone(self, target=0, lun=0, channel=0, hba=None, timeout=None):
        self._until(lambda: not self.find_disk(target, lun, channel, hba), timeout,
                    lambda: "the disk at %d:%d:%d is still there\n%s" %
                    (channel, target, lun, self.log_tail()))

    def pci_of(self, hba):
        """The guest's PCI address of an HBA: root port n is slot n + 1, its bus comes n-th."""
        return "0000:%02x:00.0" % (self.ports[hba] + 1)

    # ---- the kernel's log ----------------------------------------------------------------------

    def log_tail(self, lines=15):
        return "\n".join(text for _, text in self.log[-lines:])

    def log_problems(self, allow=()):
        """Lines that speak of trouble. @allow: patterns of lines that this test expects."""
        bad = []
        for priority, line in list(self.log):
            if HARMLESS.search(line) or any(re.search(pattern, line) for pattern in allow):
                continue
            if PROBLEMS.search(line) or (priority <= 4 and re.search(
                    r"^(sd|sg|scsi|virtio|blk|block|Buffer|EXT4)", line)):
                bad.append(line)
        return bad

    def check_log(self, allow=()):
        bad = self.log_problems(allow)
        if bad:
            raise GuestError("the guest's log:\n  " + "\n  ".join(bad[:20]))

    # ---- QEMU's monitor ------------------------------------------------------------------------

    def _read_monitor(self):
        file = self.monitor.makefile("rb")
        try:
            while line := file.readline():
                message = json.loads(line)
                with self.changed:
                    if "event" in message:
                        self.qmp_events.append(message)
                    elif "id" in message:
                        self.qmp_replies[message["id"]] = message
                    self.changed.notify_all()
        except (OSError, ValueError):
            pass
        with self.changed:
            self.dead = self.dead or "end of the monitor"
            self.changed.notify_all()

    def qmp(self, command, **arguments):
        """A command of QEMU's monitor. _raw={…}: arguments whose names have dashes."""
        arguments.update(arguments.pop("_raw", {}))
        number, self.qmp_next = self.qmp_next, self.qmp_next + 1
        message = {"execute": command, "id": number}
        if arguments:
            message["arguments"] = arguments
        self.monitor.sendall(json.dumps(message).encode() + b"\n")
        self._until(lambda: number in self.qmp_replies, None, lambda: "no reply to " + command)
        reply = self.qmp_replies.pop(number)
        if "error" in reply:
            raise GuestError("%s: %s" % (command, reply["error"]["desc"]))
        return reply["return"]

    def wait_qmp_event(self, name, since=0, timeout=None, **data):
        def find():
            return next((event for event in self.qmp_events[since:] if event["event"] == name and
                         all(event["data"].get(key) == data[key] for key in data)), None)
        self._until(find, timeout, lambda: "no event %s %s" % (name, data))
        return find()

    def hba_add(self, hba):
        """Hot plug a PCI HBA: its chardev, then the device."""
        self.qmp("chardev-add", id=hba.name + "-socket", backend={
            "type": "socket", "data": {"addr": {"type": "unix", "data": {"path": hba.socket}},
                                       "server": False}})
        device = self._device(hba)
        device["driver"] = device.pop("")
        try:
            self.qmp("device_add", **device)
        except GuestError:
            self.ports.pop(hba.name)
            raise

    def hba_del(self, name, timeout=None):
        """Hot unplug it: the guest lets go, then device and chardev are removed."""
        since = len(self.qmp_events)
        self.qmp("device_del", id=name)
        self.wait_qmp_event("DEVICE_DELETED", since, timeout, device=name)
        self.qmp("chardev-remove", id=name + "-socket")
        self.ports.pop(name)
