"""Rows of the virtio-scsi path: null-co and a file at depth 1 and 32 on 1 and 2 queues, beside fio on the
same file (the limit) and qemu-storage-daemon's vhost-user-blk export under the same driver."""
import os
from contestants import Daemon, Driven, Fio, Skip, find_program
from engine import Group, Row

FILE_BYTES = 1 << 30
DEPTHS, QUEUES = (1, 32), (1, 2)
DIRECT_RATIO = 0.85   # of fio's IOPS at depth 32
CACHED_CPU_US = 1.0   # added per I/O, at depth 32: at depth 1 each I/O pays two wake-ups, and fio none


def make_file(path):
    """Written in full with random bytes, never only allocated."""
    if not os.path.exists(path) or os.path.getsize(path) != FILE_BYTES:
        with open(path + ".new", "wb") as out:
            for _ in range(FILE_BYTES >> 20):
                out.write(os.urandom(1 << 20))
            out.flush()
            os.fsync(out.fileno())
        os.rename(path + ".new", path)
    return path


def leave_cache(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fdatasync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def fill_cache(path):
    with open(path, "rb", buffering=0) as image:
        while image.read(1 << 22):
            pass


def check_direct(path):
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError as error:
        raise Skip(f"{os.path.dirname(path)}: no direct I/O here ({error.strerror}); "
                   "set BENCH_DIR") from error


def iothread(name, busy_wait):
    """Rows of CPU time go without adaptive polling: a busy wait is CPU by choice, not by I/O."""
    return f"iothread,id={name}" + ("" if busy_wait else ",poll-max-ns=0")


def caisson_daemon(config, blockdev, queues, busy_wait=True):
    threads = [f"io{i}" for i in range(queues)]

    def arguments(sockets):
        words = ["daemon"]
        for thread in threads:
            words += ["--object", iothread(thread, busy_wait)]
        export = (f"type=vhost-user-scsi,id=hba0,addr.type=unix,addr.path={sockets['scsi']},"
                  f"num-queues={queues}")
        export += "".join(f",iothread.{i}={thread}" for i, thread in enumerate(threads))
        return words + ["--blockdev", blockdev, "--export", export,
                        "--device", "scsi-hd,id=disk0,bus=hba0.0,drive=node0"]

    return Daemon(config.caisson, arguments, ["scsi"])


def qsd_daemon(blockdev, queues, busy_wait=True):
    def arguments(sockets):
        return ["--object", iothread("io0", busy_wait), "--blockdev", blockdev, "--export",
                f"type=vhost-user-blk,id=export0,node-name=node0,addr.type=unix,addr.path={sockets['blk']},"
                f"num-queues={queues},iothread=io0"]

    return Daemon(find_program("qemu-storage-daemon"), arguments, ["blk"])


def start(group, name, make):
    """A contestant that cannot be had leaves its rows with the reason."""
    if name not in group.wanted:
        return
    try:
        group.contestants[name] = make()
    except Skip as reason:
        group.skipped[name] = str(reason)


class NullGroup(Group):
    def __init__(self, config, depth, queues):
        super().__init__(config)
        self.depth, self.queues = depth, queues
        tail = f"qd{depth}.{queues}q"
        self.rows = [
            Row(f"scsi.null.{tail}", "IOPS", "scsi", "iops", peer="qsd"),
            Row(f"scsi.null.{tail}.cpu", "us CPU/IO", "scsi", "cpu_us", peer="qsd"),
            Row(f"blk.qsd.null.{tail}", "IOPS", "qsd", "iops"),
        ]

    def begin(self):
        def scsi():
            daemon = self.daemon(lambda: caisson_daemon(
                self.config, "driver=null-co,node-name=node0,size=1073741824", self.queues))
            return Driven(self.config.caisson, "vhost-user-scsi", daemon, "scsi", self.depth, self.queues)

        def qsd():
            daemon = self.daemon(lambda: qsd_daemon(
                "driver=null-co,node-name=node0,size=1073741824,read-zeroes=off", self.queues))
            return Driven(self.config.caisson, "vhost-user-blk", daemon, "blk", self.depth, self.queues)

        start(self, "scsi", scsi)
        start(self, "qsd", qsd)


class FileGroup(Group):
    def __init__(self, config, direct, depth, queues):
        super().__init__(config)
        self.direct, self.depth, self.queues = direct, depth, queues
        kind = "direct" if direct else "cached"
        tail = f"file.{kind}.qd{depth}.{queues}q"
        if direct:
            self.rows = [Row(f"scsi.{tail}", "IOPS", "scsi", "iops", peer="fio",
                             ratio_least=DIRECT_RATIO if depth == 32 else None)]
        else:
            self.rows = [Row(f"scsi.{tail}", "us CPU/IO added", "scsi", "cpu_us", peer="fio",
                             minus_peer=True,
                             value_most=CACHED_CPU_US if depth == 32 else None),
                         Row(f"scsi.{tail}.iops", "IOPS", "scsi", "iops", peer="fio")]
        self.rows += [Row(f"fio.{tail}", "IOPS", "fio", "iops"),
                      Row(f"blk.qsd.{tail}", "IOPS", "qsd", "iops", peer="fio")]

    def begin(self):
        path = make_file(self.config.image)
        blockdev = f"driver=file,node-name=node0,filename={path},aio=io_uring,cache.direct=" + \
            ("on" if self.direct else "off")
        if self.direct:
            check_direct(path)
            leave_cache(path)
        else:
            fill_cache(path)

        def scsi():
            daemon = self.daemon(lambda: caisson_daemon(self.config, blockdev, self.queues,
                                                        busy_wait=self.direct))
            return Driven(self.config.caisson, "vhost-user-scsi", daemon, "scsi", self.depth, self.queues)

        def qsd():
            # Read-only and without locks: the file is ours at the same time.
            daemon = self.daemon(lambda: qsd_daemon(blockdev + ",read-only=on,locking=off", self.queues,
                                                    busy_wait=self.direct))
            return Driven(self.config.caisson, "vhost-user-blk", daemon, "blk", self.depth, self.queues)

        start(self, "scsi", scsi)
        start(self, "fio", lambda: Fio(path, self.direct, self.depth, self.queues))
        start(self, "qsd", qsd)


def groups(config):
    for depth in DEPTHS:
        for queues in QUEUES:
            yield NullGroup(config, depth, queues)
    for direct in (True, False):
        for depth in DEPTHS:
            for queues in QUEUES:
                yield FileGroup(config, direct, depth, queues)
