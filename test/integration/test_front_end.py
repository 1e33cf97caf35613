#!/usr/bin/env python3
"""test_front_end: a front end that sends nonsense harms nobody but itself, and is told what was wrong.

Each case has an adapter of its own with one disk, does one thing wrong, and expects: a line in the
daemon's log that names the message or ring and what would be right; a next front end that is served;
and, all the time, verified I/O on another adapter that goes on."""
import os
import random
import re
import struct
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "guest"), HERE]
from cases import Cases, expect  # noqa: E402
from daemon import Daemon, program  # noqa: E402
import vhost_user as vu  # noqa: E402
from vhost_user import FrontEnd, Gone, NEXT, WRITE, INDIRECT, USER_BASE  # noqa: E402

TEST_UNIT_READY, INQUIRY = bytes(6), bytes([0x12, 0, 0, 0, 36, 0])
LOG_WAIT_S = 10


class Bystander:
    """Verified I/O on another adapter, until stopped; it must not see a thing."""

    def __init__(self, daemon):
        daemon.image("calm", 32 << 20)
        daemon.hba("calm_hba", queues=2)
        daemon.plug("calm_disk", "calm", "calm_hba")
        self.process = subprocess.Popen(
            [program(), "bench", "vhost-user-scsi", daemon.socket("calm_hba"), "--rw", "randrw",
             "--verify", "--depth", "4", "--queues", "2", "--seconds", "600"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def finish(self):
        if self.process.poll() is not None:
            raise AssertionError("it ended early:\n" + self.process.communicate()[0])
        self.process.terminate()
        output = self.process.communicate(timeout=30)[0]
        match = re.search(r"verified (\d+) blocks", output)
        expect(match and int(match[1]) > 1000, "it verified too little:\n" + output)
        expect(self.process.returncode == 0, "exit status %d:\n%s" % (self.process.returncode, output))
        return int(match[1])


class Victim:
    """An adapter with one disk, for one case."""
    number = 0

    def __init__(self, daemon):
        Victim.number += 1
        self.daemon, self.name = daemon, "hba%d" % Victim.number
        self.path = daemon.socket(self.name)

    def __enter__(self):
        self.log_start = len(self.daemon.log)
        self.daemon.qmp("blockdev-add", driver="null-co", size=1 << 20, node_name=self.name)
        self.daemon.hba(self.name)
        self.daemon.plug("disk-" + self.name, self.name, self.name)
        return self

    def __exit__(self, kind, *exc):
        since = self.daemon.mark()
        self.daemon.qmp("block-export-del", id=self.name, mode="hard")
        self.daemon.wait_event("BLOCK_EXPORT_DELETED", since, id=self.name)
        self.daemon.qmp("blockdev-del", node_name=self.name)

    def expect_log(self, pattern):
        """The line may be written a moment after the connection is closed."""
        deadline = time.monotonic() + LOG_WAIT_S
        wanted = re.compile("export '%s'.*%s" % (self.name, pattern))
        while not wanted.search(self.daemon.log[self.log_start:]):
            expect(time.monotonic() < deadline, "no line like %r in the log:\n%s" %
                   (wanted.pattern, self.daemon.log[self.log_start:]))
            time.sleep(0.02)

    def expect_served(self):
        """A good front end comes next, and is served at once."""
        with FrontEnd(self.path) as front:
            front.start()
            response, status, data = front.command(2, INQUIRY, 36)
            expect((response, status) == (0, 0), "INQUIRY: response %d status %d" % (response, status))
            expect(data[0] == 0 and data[8:28] == b"CAISSON CAISSON DISK", "INQUIRY: %r" % data)


def refused(do):
    """Either answer is the protocol's: no in the acknowledgement, or the connection is closed."""
    try:
        return do() != 0
    except Gone:
        return True


# ---- messages: what is sent, and what the log says about it

def message_cases():
    header = struct.pack
    yield "a message cut in its header", "hung up in the middle of a message", \
        lambda f: (f.send_raw(b"\1\0\0"), f.socket.shutdown(1))
    yield "half a message, then the end", "hung up in the middle of a message", \
        lambda f: (f.send_raw(header("<III", vu.SET_FEATURES, 1, 8) + b"\0" * 3),
                   f.socket.shutdown(1))
    yield "a payload of the wrong size", "SET_FEATURES: payload of 4 bytes, expected 8", \
        lambda f: f.send(vu.SET_FEATURES, b"\0" * 4)
    yield "a payload of 4 GiB", "payload of 4294967295", \
        lambda f: f.send(vu.SET_FEATURES, b"\0" * 8, size=0xffffffff)
    yield "a version that does not exist", "version 2", \
        lambda f: f.send(vu.GET_FEATURES, flags=2)
    yield "an unknown message", "message 999 is unknown", \
        lambda f: f.do(999)
    yield "a message that was not offered", "(SET_LOG_BASE|log)", \
        lambda f: f.send(vu.SET_LOG_BASE, b"\0" * 16, [f.fd])
    yield "a hundred descriptors in one message", "file descriptors", \
        lambda f: f.send(vu.SET_OWNER, fds=[f.fd] * 100)
    yield "a descriptor where none belongs", "1 file descriptors came along, expected 0", \
        lambda f: f.send(vu.SET_OWNER, fds=[f.fd])
    yield "feature bits never offered", "feature bits 0x[0-9a-f]+ were never offered", \
        lambda f: f.do(vu.SET_FEATURES, header("<Q", 1 << 63 | 1 << vu.F_VERSION_1))
    yield "a ring that does not exist", "ring 77 does not exist", \
        lambda f: f.do(vu.SET_VRING_NUM, header("<II", 77, 64))
    yield "a ring size that is no power of two", "size 63 is not a power of two", \
        lambda f: f.do(vu.SET_VRING_NUM, header("<II", 2, 63))
    yield "a ring of no entries", "size 0", \
        lambda f: f.do(vu.SET_VRING_NUM, header("<II", 2, 0))
    yield "random bytes", ".", \
        lambda f: f.send_raw(random.Random(1).randbytes(4096))


def memory_cases():
    def table(*regions, **options):
        return lambda f: f.mem_table(*(f.region(**region) for region in regions), **options)

    yield "an empty region", "empty", table({"size": 0})
    yield "a region that ends beyond 2^64", "beyond 2\\^64", table({"address": 2 ** 64 - 4096})
    yield "a region longer than its file", "end at|longer|file", table({"size": vu.MEMORY_BYTES + 4096})
    yield "an offset beyond the file", "mmap offset", table({"offset": 1 << 40, "size": 4096})
    yield "regions that overlap", "overlaps", table({"size": 8192}, {"address": 4096, "size": 8192,
                                                                   "user": USER_BASE + (1 << 20)})
    yield "510 regions in one message", "510 regions", table({}, count=510)
    yield "fewer descriptors than regions", "file descriptor", \
        lambda f: f.mem_table(f.region(size=4096), f.region(address=1 << 20, size=4096), fds=[f.fd])

    def slots(front):
        for number in range(510):
            region = front.region(number * 8192, 4096, USER_BASE + number * 8192, 0)
            if front.do(vu.ADD_MEM_REG, struct.pack("<Q", 0) + region, [front.fd]) != 0:
                expect(number == 509, "region %d was refused" % number)
                return 1
        return 0
    yield "510 regions one by one", "510 memory regions|at most 509", slots


def ring_setup_cases():
    yield "a ring enabled before its addresses", "ring 2 .*(addresses|ADDR)", \
        lambda f: (f.mem_table(f.region()),
                   f.do(vu.SET_VRING_ENABLE, struct.pack("<II", 2, 1)),
                   f.do(vu.SET_VRING_KICK, struct.pack("<Q", 2), [f.fd]))[2]
    yield "ring addresses outside memory", "(queue|ring) 2.*user address", \
        lambda f: (f.mem_table(f.region()),
                   ring(f).start(addresses=(0x1000, 0x2000, 0x3000)))[1]
    yield "a misaligned ring", "(queue|ring) 2.*user address", \
        lambda f: (f.mem_table(f.region()),
                   ring(f).start(addresses=(USER_BASE + 1, USER_BASE + 8192, USER_BASE + 4096)))[1]
    yield "a ring without memory", "SET_MEM_TABLE must come before", \
        lambda f: ring(f).start()


def ring(front):
    front.rings[2] = vu.Ring(front, 2)
    return front.rings[2]


# ---- rings that run: what the guest puts there

def chain_cases():
    def offer(*descs, head=0, jump=1, table=None):
        def run(front):
            r = front.rings[2]
            if table is not None:
                front.memory[r.buffers:r.buffers + len(table)] = table
            for number, desc in enumerate(descs):
                r.describe(number, *[r.buffers + 65536 if x == "buffers" else
                                     r.buffers if x == "table" else x for x in desc])
            r.offer(head, jump)
        return run

    def desc(address, length, flags=0, next_index=0):
        return struct.pack("<QIHH", address, length, flags, next_index)

    yield "a chain that loops", "loop|longer than", \
        offer(("buffers", 64, NEXT, 1), ("buffers", 64, NEXT, 0))
    yield "a descriptor index out of range", "(head|descriptor).*(9999|range)", offer(head=9999)
    yield "a next index out of range", "5000", offer(("buffers", 64, NEXT, 5000))
    yield "an address outside memory", "0x700000000000|outside", offer((0x700000000000, 64))
    yield "a length that leaves memory", "outside|memory", offer((vu.MEMORY_BYTES - 16, 64))
    yield "an address whose end overflows", "outside|memory|0xfffffffffffffff0", \
        offer((2 ** 64 - 16, 64))
    yield "a readable buffer behind a writable one", "writable", \
        offer(("buffers", 64, WRITE | NEXT, 1), ("buffers", 64))
    yield "an index that jumps", "avail.*|jump", offer(jump=5000)
    yield "an indirect table of odd length", "indirect", offer(("table", 17, INDIRECT))
    yield "an indirect table in an indirect table", "indirect", \
        offer(("table", 16, INDIRECT), table=desc(0, 16, INDIRECT))
    yield "an indirect table that loops", "loop|longer than|indirect", \
        offer(("table", 32, INDIRECT), table=desc(0, 64, NEXT, 1) + desc(0, 64, NEXT, 0))
    yield "no room for the response", "writable bytes", \
        offer(("buffers", 51, NEXT, 1), ("buffers", 8, WRITE))


def run_message_case(daemon, pattern, act, start=True):
    with Victim(daemon) as victim:
        with FrontEnd(victim.path) as front:
            if start:
                front.features()
            if refused(lambda: answer_of(front, act)):
                pass
        victim.expect_log(pattern)
        victim.expect_served()


def answer_of(front, act):
    """What @act was answered; nothing said means the connection must end."""
    answer = act(front)
    if isinstance(answer, int):
        expect(answer != 0, "it was accepted")
        return answer
    expect(front.is_closed(), "the connection goes on")
    return 1


def run_chain_case(daemon, pattern, act):
    with Victim(daemon) as victim:
        with FrontEnd(victim.path) as front:
            front.start()
            expect(front.command(2, TEST_UNIT_READY)[0] == 0, "the ring does not work to begin with")
            act(front)
            expect(front.rings[2].is_broken(wait=vu.TIMEOUT_S), "the error descriptor stays silent")
            victim.expect_log(pattern)
            base = struct.unpack("<II", front.ask(vu.GET_VRING_BASE, struct.pack("<II", 2, 0)))
            expect(base[0] == 2, "GET_VRING_BASE of a broken ring: %r" % (base,))
        victim.expect_served()


def truncated_under_load(daemon):
    """The guest's memory goes away while requests use it: a zero page, a broken front end, no crash."""
    with Victim(daemon) as victim:
        with FrontEnd(victim.path) as front:
            front.start()
            stop = threading.Event()
            done = []

            def load():
                try:
                    while not stop.is_set():
                        front.command(2, bytes([0x28, 0, 0, 0, 0, 0, 0, 0, 64, 0]), 32768)
                        done.append(1)
                except (Gone, OSError, ValueError, struct.error):
                    pass
            worker = threading.Thread(target=load)
            worker.start()
            while len(done) < 50:
                time.sleep(0.001)
            stop.set()
            worker.join()
            r = front.rings[2]
            front.memory[r.buffers:r.buffers + 51] = r.request(bytes([0x28, 0, 0, 0, 0, 0, 0, 0, 64, 0]))
            r.describe(0, r.buffers, 51, NEXT, 1)
            r.describe(1, vu.MEMORY_BYTES - 65536, 108, WRITE | NEXT, 2)     # the answer's place
            r.describe(2, vu.MEMORY_BYTES - 32768, 32768, WRITE)
            os.ftruncate(front.fd, vu.MEMORY_BYTES - 65536)
            r.offer()
            expect(r.is_broken(wait=vu.TIMEOUT_S) or front.is_closed(), "nobody noticed")
        victim.expect_log("memory")
        victim.expect_served()


def vanish(daemon):
    """Front ends that die at each step of a start, without a word."""
    with Victim(daemon) as victim:
        for step in range(12):
            front = FrontEnd(victim.path)
            sent = 0

            def counted(*args, real=front.send, **options):
                nonlocal sent
                sent += 1
                if sent > step:
                    raise Gone()
                real(*args, **options)
            front.send = counted
            try:
                front.start()
            except Gone:
                pass
            front.close()
        victim.expect_served()


def selected(name):
    """Words on the command line pick the cases that contain one of them."""
    return len(sys.argv) < 2 or any(word in name for word in sys.argv[1:])


def main():
    with Cases() as cases, Daemon(iothreads=2) as daemon:
        bystander = Bystander(daemon)
        fds = None
        for group, runner in ((message_cases, run_message_case), (memory_cases, run_message_case),
                              (ring_setup_cases, run_message_case), (chain_cases, run_chain_case)):
            for name, pattern, act in filter(lambda case: selected(case[0]), group()):
                with cases(name):
                    expect(daemon.process.poll() is None, "the daemon is gone:\n" + daemon.log[-2000:])
                    runner(daemon, pattern, act)
                if fds is None:
                    fds = daemon.descriptors()
        with cases("memory truncated under load"):
            truncated_under_load(daemon)
        with cases("front ends that die at each step of a start"):
            vanish(daemon)
        with cases("no descriptor has leaked"):
            fds = daemon.descriptors() if fds is None else fds
            expect(daemon.descriptors() <= fds, "%d descriptors, %d after the first case" %
                   (daemon.descriptors(), fds))
        with cases("verified I/O on the other adapter went on") as case:
            case.note = "%d blocks verified" % bystander.finish()
        with cases("the daemon is well"):
            expect(daemon.process.poll() is None, "it is gone:\n" + daemon.log)
            expect(len(daemon.qmp("query-scsi-devices")) == 1, "devices are left over")


if __name__ == "__main__":
    main()
