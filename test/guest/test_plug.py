#!/usr/bin/env python3
"""Disk B is plugged and unplugged with I/O running on it, while fio verifies on disk A of the same HBA:
no error on A, every plug and unplug seen by the guest, B's content right each time, DEVICE_DELETED each
time, nothing leaked, nothing in the guest's log."""
import os
import time

from cases import Cases, expect
from daemon import Daemon
from guest import Guest, Hba
from scenario import Fio, check_stamp, content_sum, median, read_sum, write_stamp

CYCLES = int(os.environ.get("PLUG_CYCLES", "200"))
SETTLED = 10                   # cycles after which nothing may grow any more
SLACK_KIB = 256                # what the allocator's own rounding may do to RssAnon
BYTES = 1 << 20                # of B that are compared; as much again is written to meanwhile

# Through an open descriptor: a dd of= that comes too late would make a plain file of that name.
LOAD = """
exec 3<>/dev/{disk}
while dd if=/dev/zero of=/proc/self/fd/3 bs=64k seek=16 count=16 oflag=direct conv=notrunc 2>/dev/null &&
      dd if=/proc/self/fd/3 of=/dev/null bs=64k count=16 iflag=direct 2>/dev/null; do echo pass; done
"""


class Plugger:
    def __init__(self, daemon, guest):
        self.daemon, self.guest = daemon, guest
        self.wanted, self.times = content_sum("b", BYTES), []
        daemon.make_image("b", 2 * BYTES, random=True)

    def cycle(self, number):
        """Node, disk, content, load, unplug under load, node gone."""
        daemon, guest, start = self.daemon, self.guest, time.monotonic()
        daemon.add_node("b")
        daemon.plug("disk-b", "b", scsi_id=1)
        disk = guest.wait_disk(target=1)
        found = read_sum(guest, disk, BYTES)
        expect(found == self.wanted, "cycle %d: B reads differently: %s" % (number, found))
        write_stamp(guest, disk, "cycle %d" % number)
        load = guest.start(LOAD.format(disk=disk))
        load.wait_output("pass")
        daemon.unplug("disk-b")
        guest.wait_gone(target=1)
        load.wait()
        daemon.qmp("blockdev-del", node_name="b")
        check_stamp(daemon.path("b"), "cycle %d" % number)
        self.times.append(time.monotonic() - start)

    def usage(self):
        return self.daemon.descriptors(), self.daemon.rss_anon_kib()


def plug_loop(cases, daemon, guest, fio):
    plugger = Plugger(daemon, guest)
    settled = None
    with cases("B is plugged and unplugged %d times under I/O" % CYCLES) as case:
        for number in range(CYCLES):
            plugger.cycle(number)
            fio.check()
            if number + 1 == min(SETTLED, CYCLES):
                settled = plugger.usage()
        case.note = "%.0f ms a cycle at the median, %.0f at most" % (
            1000 * median(plugger.times), 1000 * max(plugger.times))
    with cases("the guest saw every plug and every unplug") as case:
        came = sum(what == "add" and disk.target == 1 for _, what, disk in guest.history)
        went = sum(what == "remove" and disk.target == 1 for _, what, disk in guest.history)
        case.note = "%d and %d" % (came, went)
        expect(came == went == CYCLES, "%d plugs" % CYCLES)
    with cases("DEVICE_DELETED came each time, once") as case:
        events = daemon.monitor.find_events("DEVICE_DELETED", device="disk-b")
        expect(len(events) == CYCLES, "%d events for %d unplugs" % (len(events), CYCLES))
    return plugger, settled


def check_leaks(cases, plugger, settled):
    with cases("no descriptor and no memory leaked since cycle %d" % SETTLED) as case:
        expect(settled is not None, "the loop did not get that far")
        now = plugger.usage()
        case.note = "descriptors %d then, %d now; RssAnon %d KiB, %d KiB" % (
            settled[0], now[0], settled[1], now[1])
        expect(now[0] == settled[0], "descriptors")
        expect(now[1] <= settled[1] + SLACK_KIB, "anonymous memory")


def main():
    with Cases() as cases, Daemon(iothreads=2) as daemon:
        daemon.image("a", 32 << 20, random=True)
        daemon.hba("hba0", queues=2)
        daemon.plug("disk-a", "a", scsi_id=0)
        with Guest([Hba("hba0", daemon.socket("hba0"), queues=2)]) as guest:
            fio = Fio(guest, guest.wait_disk(target=0))
            plugger, settled = plug_loop(cases, daemon, guest, fio)
            with cases("fio on A verified without an error") as case:
                case.note = "%d runs, %d MiB read, %d MiB written" % fio.finish()
            check_leaks(cases, plugger, settled)
            with cases("the guest's log is free of hung tasks, resets and errors on A"):
                # What was under way on B when it went is answered with an error, as it must be.
                guest.check_log(allow=[r"^sd \d+:0:1:0: ", r"dev sdb", r"callbacks suppressed"])
            with cases("the daemon did not complain"):
                expect("error" not in daemon.log.lower(), daemon.log[-1000:])


if __name__ == "__main__":
    main()
