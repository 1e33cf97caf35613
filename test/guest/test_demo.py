#!/usr/bin/env python3
"""The demonstration: a Linux guest with two disks on one HBA runs fio with verification on both, while a
third disk is plugged and unplugged. What the summary tells of disks is the guest's own view."""
import os
import time

from cases import Cases, expect
from daemon import Daemon
from guest import Guest, Hba, accelerator
from scenario import Fio, check_stamp, content_sum, median, read_sum, write_stamp

CYCLES = int(os.environ.get("DEMO_CYCLES", "20"))
BYTES = 4 << 20


def say(text):
    print("        " + text, flush=True)


def cycle(daemon, guest, number, wanted):
    """Plug the third disk, let the guest read it and write to it, unplug it. Seconds for both."""
    start = time.monotonic()
    daemon.plug("third", "c", scsi_id=2)
    disk = guest.wait_disk(target=2)
    plug_s = time.monotonic() - start
    found = read_sum(guest, disk, BYTES)
    expect(found == wanted, "the third disk reads differently: %s" % found)
    write_stamp(guest, disk, "cycle %d" % number)
    start = time.monotonic()
    daemon.unplug("third")
    guest.wait_gone(target=2)
    unplug_s = time.monotonic() - start
    check_stamp(daemon.path("c"), "cycle %d" % number)
    return plug_s, unplug_s


def show_disks(guest, disks):
    for name in disks:
        facts = guest.run("cd /sys/block/%s; cat device/vendor device/model size; "
                          "sg_inq -p 0x80 /dev/%s | grep -i serial" % (name, name), check=False)
        say("%s: %s" % (name, " ".join(facts.output.split())))


def plug_and_unplug(daemon, guest):
    wanted = content_sum("c", BYTES)
    times = [cycle(daemon, guest, number, wanted) for number in range(CYCLES)]
    came = sum(what == "add" and disk.target == 2 for _, what, disk in guest.history)
    went = sum(what == "remove" and disk.target == 2 for _, what, disk in guest.history)
    say("the guest saw it appear %d times and vanish %d times, with the right content" % (came, went))
    for index, what in ((0, "from plug to usable"), (1, "from unplug to gone")):
        say("%s: %.0f ms at the median, %.0f at most" %
            (what, 1000 * median([t[index] for t in times]), 1000 * max(t[index] for t in times)))
    expect(came == went == CYCLES, "not every plug and unplug was seen")


def run_guest(cases, daemon, guest):
    with cases("the guest finds two disks"):
        disks = [guest.wait_disk(target=number) for number in (0, 1)]
        show_disks(guest, disks)
    loads = [Fio(guest, name) for name in disks]
    with cases("while fio works on both, a third disk is plugged and unplugged %d times" % CYCLES):
        plug_and_unplug(daemon, guest)
    for load in loads:
        with cases("fio verified what it wrote to %s" % load.disk):
            say("%d runs, %d MiB read and compared, %d MiB written, no error" % load.finish())
    with cases("the guest's kernel log is free of trouble"):
        guest.check_log(allow=[r"Synchronize Cache\(10\) failed"])


def main():
    with Cases() as cases, Daemon(iothreads=2) as daemon:
        print("caisson daemon: one HBA with two request queues on two I/O threads, two disks on it")
        for name, size in (("a", 32 << 20), ("b", 32 << 20), ("c", BYTES)):
            daemon.image(name, size, random=True)
        daemon.hba("hba0", queues=2)
        daemon.plug("first", "a", scsi_id=0, serial="FIRST")
        daemon.plug("second", "b", scsi_id=1, serial="SECOND")
        print("a Linux guest boots under QEMU (%s)" % accelerator(), flush=True)
        with Guest([Hba("hba0", daemon.socket("hba0"), queues=2)]) as guest:
            run_guest(cases, daemon, guest)


if __name__ == "__main__":
    main()
