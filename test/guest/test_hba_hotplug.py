#!/usr/bin/env python3
"""A whole HBA comes and goes: the export is made, the guest's PCI device is plugged through QEMU's monitor,
its disk is used, the PCI device is unplugged and the export deleted; on another HBA fio verifies on."""
import os
import time

from cases import Cases, expect
from daemon import Daemon
from guest import Guest, Hba
from scenario import Fio, check_stamp, content_sum, median, read_sum, write_stamp

CYCLES = int(os.environ.get("HBA_CYCLES", "20"))
SETTLED = 5
BYTES = 1 << 20


def cycle(daemon, guest, number, wanted):
    daemon.hba("hba1", queues=2)
    daemon.plug("disk-b", "b", hba="hba1")
    guest.hba_add(Hba("hba1", daemon.socket("hba1"), queues=2))
    disk = guest.wait_disk(hba="hba1")
    found = read_sum(guest, disk, BYTES)
    expect(found == wanted, "cycle %d: B reads differently: %s" % (number, found))
    write_stamp(guest, disk, "cycle %d" % number)
    guest.hba_del("hba1")
    guest_gone = not [disk for disk in guest.disks.values() if disk.name != "sda"]
    expect(guest_gone, "the guest still has %s" % guest.disks)
    since = daemon.mark()
    daemon.qmp("block-export-del", id="hba1", mode="hard")
    daemon.wait_event("BLOCK_EXPORT_DELETED", since, id="hba1")
    expect(daemon.monitor.find_events("DEVICE_DELETED", since, device="disk-b"),
           "the export went without DEVICE_DELETED of its disk")
    check_stamp(daemon.path("b"), "cycle %d" % number)


def run(cases, daemon, guest):
    fio = Fio(guest, guest.wait_disk(target=0, hba="hba0"))
    wanted, times, settled = content_sum("b", BYTES), [], None
    with cases("an HBA is plugged and unplugged %d times" % CYCLES) as case:
        for number in range(CYCLES):
            start = time.monotonic()
            cycle(daemon, guest, number, wanted)
            times.append(time.monotonic() - start)
            fio.check()
            if number + 1 == min(SETTLED, CYCLES):
                settled = daemon.descriptors(), daemon.rss_anon_kib()
        case.note = "%.1f s a cycle at the median, %.1f at most" % (median(times), max(times))
    with cases("no descriptor and no memory leaked since cycle %d" % SETTLED) as case:
        now = daemon.descriptors(), daemon.rss_anon_kib()
        case.note = "descriptors %s, RssAnon %s KiB" % tuple(zip(settled, now))
        expect(now[0] == settled[0] and now[1] <= settled[1] + 256, "leaked")
    with cases("fio on the other HBA verified without an error") as case:
        case.note = "%d runs, %d MiB read, %d MiB written" % fio.finish()
    with cases("the guest's log is free of trouble"):
        guest.check_log(allow=[r"Synchronize Cache\(10\) failed"])


def refuse_safe(cases, daemon):
    with cases("block-export-del refuses while a front end is connected, and names it"):
        try:
            daemon.qmp("block-export-del", id="hba0")
        except Exception as error:
            expect("hba0" in str(error), str(error))
        else:
            raise AssertionError("it was deleted")


def main():
    with Cases() as cases, Daemon(iothreads=2) as daemon:
        daemon.image("a", 32 << 20, random=True)
        daemon.image("b", BYTES, random=True)
        daemon.hba("hba0")
        daemon.plug("disk-a", "a")
        with Guest([Hba("hba0", daemon.socket("hba0"))]) as guest:
            refuse_safe(cases, daemon)
            run(cases, daemon, guest)


if __name__ == "__main__":
    main()
