"""vhost_user: a vhost-user front end in a few lines, which can say anything it likes.

    with FrontEnd(path) as front:
        front.start()                              # memory, features, rings: as a good guest does
        front.command(2, bytes([0] * 6))           # TEST UNIT READY on request queue 0
        front.send(SET_VRING_NUM, struct.pack("<II", 2, 3))
"""
import array
import mmap
import os
import select
import socket
import struct
import time

(GET_FEATURES, SET_FEATURES, SET_OWNER, RESET_OWNER, SET_MEM_TABLE, SET_LOG_BASE, SET_LOG_FD,
 SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL,
 SET_VRING_ERR, GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, GET_QUEUE_NUM,
 SET_VRING_ENABLE) = range(1, 19)
GET_CONFIG, SET_CONFIG, GET_MAX_MEM_SLOTS, ADD_MEM_REG, REM_MEM_REG = 24, 25, 36, 37, 38
NEED_REPLY, F_PROTOCOL, F_INDIRECT, F_EVENT_IDX, F_VERSION_1 = 8, 30, 28, 29, 32
MQ, REPLY_ACK, CONFIG, MEM_SLOTS = 0, 3, 9, 15
MEMORY_BYTES, USER_BASE = 8 << 20, 0x7f0000000000
RING_SIZE, RING_BYTES = 64, 64 << 10
NEXT, WRITE, INDIRECT = 1, 2, 4
TIMEOUT_S = 20


class Gone(Exception):
    """The back end has closed the connection."""


class FrontEnd:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT_S)
        self.socket.connect(path)
        self.fd = os.memfd_create("guest")
        os.ftruncate(self.fd, MEMORY_BYTES)
        self.memory = mmap.mmap(self.fd, MEMORY_BYTES)
        self.rings = {}
        self.reply_ack = False

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.socket.close()
        for ring in self.rings.values():
            ring.close()
        self.rings = {}
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    # ---- messages

    def send_raw(self, data, fds=()):
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self.socket.sendmsg([data], ancillary)
        except (BrokenPipeError, ConnectionResetError):
            raise Gone() from None

    def send(self, request, payload=b"", fds=(), flags=1, size=None):
        size = len(payload) if size is None else size
        self.send_raw(struct.pack("<III", request, flags, size) + payload, fds)

    def receive(self):
        header = self.read(12)
        return self.read(struct.unpack("<III", header)[2])

    def read(self, count):
        data = b""
        while len(data) < count:
            try:
                piece = self.socket.recv(count - len(data))
            except ConnectionResetError:
                piece = b""
            if not piece:
                raise Gone()
            data += piece
        return data

    def ask(self, request, payload=b"", fds=()):
        self.send(request, payload, fds)
        return self.receive()

    def do(self, request, payload=b"", fds=()):
        """Send and wait for the acknowledgement; its value: 0 is yes."""
        if self.reply_ack:
            self.send(request, payload, fds, flags=1 | NEED_REPLY)
            return struct.unpack("<Q", self.receive())[0]
        self.send(request, payload, fds)
        self.ask(GET_FEATURES)      # messages are handled in order
        return 0

    def is_closed(self):
        """Wait until the back end closes; what it still says is thrown away."""
        try:
            while True:
                self.read(1)
        except Gone:
            return True

    # ---- what a good front end does

    def features(self, bits=(F_VERSION_1, F_INDIRECT, F_EVENT_IDX, F_PROTOCOL)):
        offered = struct.unpack("<Q", self.ask(GET_FEATURES))[0]
        offered_protocol = struct.unpack("<Q", self.ask(GET_PROTOCOL_FEATURES))[0]
        wanted = offered_protocol & (1 << MQ | 1 << REPLY_ACK | 1 << CONFIG | 1 << MEM_SLOTS)
        self.send(SET_PROTOCOL_FEATURES, struct.pack("<Q", wanted))
        self.reply_ack = bool(wanted & 1 << REPLY_ACK)
        self.send(SET_OWNER)
        return self.do(SET_FEATURES, struct.pack("<Q", sum(1 << bit for bit in bits) & offered))

    def region(self, address=0, size=MEMORY_BYTES, user=USER_BASE, offset=0):
        return struct.pack("<QQQQ", address, size, user, offset)

    def mem_table(self, *regions, count=None, fds=None):
        count = len(regions) if count is None else count
        fds = [self.fd] * len(regions) if fds is None else fds
        return self.do(SET_MEM_TABLE, struct.pack("<II", count, 0) + b"".join(regions), fds)

    def start(self, queues=(0, 1, 2)):
        self.features()
        self.mem_table(self.region())
        for index in queues:
            self.rings[index] = Ring(self, index)
            self.rings[index].start()
        return self

    def command(self, queue, cdb, data_in=0, lun=0):
        """One SCSI command; (response, status, data)."""
        return self.rings[queue].command(cdb, data_in, lun)


class Ring:
    """The driver's side of one split ring, a page-aligned slice of memory of its own."""

    def __init__(self, front, index):
        self.front, self.index = front, index
        self.base = (1 + index) * RING_BYTES
        self.desc, self.avail, self.used = self.base, self.base + 4096, self.base + 8192
        self.buffers = self.base + 16384
        self.next_avail, self.next_used = 0, 0
        self.kick, self.call, self.err = (os.eventfd(0, os.EFD_NONBLOCK) for _ in range(3))

    def close(self):
        for fd in (self.kick, self.call, self.err):
            os.close(fd)

    def pack(self, value):
        return struct.pack("<II", self.index, value)

    def start(self, size=RING_SIZE, addresses=None, base=0):
        do, user = self.front.do, USER_BASE
        do(SET_VRING_NUM, self.pack(size))
        do(SET_VRING_BASE, self.pack(base))
        desc, used, avail = addresses or (user + self.desc, user + self.used, user + self.avail)
        do(SET_VRING_ADDR, struct.pack("<IIQQQQ", self.index, 0, desc, used, avail, 0))
        do(SET_VRING_CALL, struct.pack("<Q", self.index), [self.call])
        do(SET_VRING_ERR, struct.pack("<Q", self.index), [self.err])
        answer = do(SET_VRING_KICK, struct.pack("<Q", self.index), [self.kick])
        return answer or do(SET_VRING_ENABLE, self.pack(1))

    def describe(self, index, address, length, flags=0, next_index=0):
        self.front.memory[self.desc + 16 * index:self.desc + 16 * index + 16] = \
            struct.pack("<QIHH", address, length, flags, next_index)

    def offer(self, head=0, jump=1):
        """Make @head available; @jump: how far the index moves (1 is right)."""
        at = self.avail + 4 + 2 * (self.next_avail % RING_SIZE)
        self.front.memory[at:at + 2] = struct.pack("<H", head)
        self.next_avail = (self.next_avail + jump) & 0xffff
        event = self.avail + 4 + 2 * RING_SIZE      # used_event: interrupt me for the next one
        self.front.memory[event:event + 2] = struct.pack("<H", self.next_used)
        self.front.memory[self.avail + 2:self.avail + 4] = struct.pack("<H", self.next_avail)
        os.eventfd_write(self.kick, 1)

    def used_index(self):
        return struct.unpack("<H", self.front.memory[self.used + 2:self.used + 4])[0]

    def wait_used(self):
        deadline = time.monotonic() + TIMEOUT_S
        while self.used_index() == self.next_used:
            if not select.select([self.call, self.err], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError("ring %d: no answer" % self.index)
            if self.is_broken():
                raise BrokenPipeError("ring %d: the error descriptor was signalled" % self.index)
            self.clear(self.call)
        self.next_used = (self.next_used + 1) & 0xffff

    @staticmethod
    def clear(fd):
        try:
            return os.eventfd_read(fd) > 0
        except BlockingIOError:
            return False

    def is_broken(self, wait=0):
        return bool(select.select([self.err], [], [], wait)[0])

    def request(self, cdb, lun=0):
        """The bytes of a virtio-scsi request header at target 0 (virtio 1.2, 5.6.6.1)."""
        address = bytes([1, 0, 0x40 | lun >> 8, lun & 0xff, 0, 0, 0, 0])
        return address + struct.pack("<QBBB", 1, 0, 0, 0) + cdb.ljust(32, b"\0")

    def command(self, cdb, data_in, lun):
        header = self.request(cdb, lun)
        memory, out, answer, data = self.front.memory, self.buffers, self.buffers + 512, \
            self.buffers + 1024
        memory[out:out + len(header)] = header
        memory[answer:answer + 108] = b"\xee" * 108
        self.describe(0, out, len(header), NEXT, 1)
        self.describe(1, answer, 108, WRITE | (NEXT if data_in else 0), 2)
        if data_in:
            self.describe(2, data, data_in, WRITE)
        self.offer()
        self.wait_used()
        _, _, _, status, response = struct.unpack("<IIHBB", memory[answer:answer + 12])
        return response, status, bytes(memory[data:data + data_in])
