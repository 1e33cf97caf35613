#!/usr/bin/env python3
"""The README's first use, as a reader would paste it: its ```sh blocks are run one after the other, the
guest's with its console on a pipe."""
import os
import re
import shutil
import signal
import subprocess
import threading

from cases import Cases, expect
from daemon import ROOT, program

TIMEOUT_S = float(os.environ.get("T_GUEST", "60"))


class Console:
    """The guest's shell: type a line, wait for output."""

    def __init__(self, script):
        self.process = subprocess.Popen(["bash", "-c", script], cwd=ROOT, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        start_new_session=True)
        self.text, self.changed = "", threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        while data := os.read(self.process.stdout.fileno(), 4096):
            with self.changed:
                self.text += data.decode(errors="replace")
                self.changed.notify_all()

    def wait(self, pattern):
        with self.changed:
            found = self.changed.wait_for(lambda: re.search(pattern, self.text), TIMEOUT_S)
            expect(found, "no %s on the console:\n%s" % (pattern, self.text[-2000:]))

    def type(self, line, pattern):
        self.text = ""
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        self.wait(pattern)

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def run(script):
    done = subprocess.run(["bash", "-ec", script], cwd=ROOT, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, timeout=TIMEOUT_S)
    expect(done.returncode == 0, done.stdout)
    return done.stdout


def walk(cases, blocks, console):
    daemon, _, plug, leave = blocks
    with cases("the guest boots into a shell and has the disk"):
        console.wait(r"# ")
        console.type("until grep -q sda /proc/partitions; do usleep 100000; done; echo fo''und", "found")
    lines = plug.strip().splitlines()
    with cases("a disk is plugged with ctl; the guest has it, too"):
        run("\n".join(lines[:2]))
        console.type("until grep -q sdb /proc/partitions; do usleep 100000; done; echo fo''und", "found")
    with cases("query-scsi-devices lists both"):
        listed = run(lines[2])
        expect("disk0" in listed and "disk1" in listed, listed)
    with cases("it is unplugged and gone"):
        run("\n".join(lines[3:]))
        console.type("while grep -q sdb /proc/partitions; do usleep 100000; done; echo go''ne", "gone")
    with cases("the guest powers off, the daemon quits"):
        console.process.stdin.write(b"poweroff -f\n")
        console.process.stdin.flush()
        console.process.wait(TIMEOUT_S)
        run(leave)


def main():
    with open(os.path.join(ROOT, "README.md")) as file:
        blocks = re.findall(r"^```sh\n(.*?)^```", file.read(), re.M | re.S)
    # The program under test, and a folder of this run's own.
    place = "/tmp/caisson-readme-%d" % os.getpid()
    blocks = [block.replace("/tmp/caisson", place).replace("build/caisson", program())
              for block in blocks]
    console = None
    with Cases() as cases:
        try:
            with cases("the README has its four blocks"):
                expect(len(blocks) == 4, "%d blocks" % len(blocks))
            with cases("the daemon starts"):
                run(blocks[0])
            if not cases.failed:
                console = Console(blocks[1])
                walk(cases, blocks, console)
        finally:
            if console:
                console.close()
            if os.path.exists(place + "/pid"):
                with open(place + "/pid") as file:
                    text = file.read().strip()
                if text and os.path.exists("/proc/%s" % text):
                    os.kill(int(text), signal.SIGKILL)
            shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
