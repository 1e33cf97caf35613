#!/usr/bin/env python3
"""A disk at LUN 1 only: LUN 0 and the well-known LUN of its target answer, so the guest finds it. That the
guest boots at all shows that SeaBIOS, which asks each of 256 targets, got its answers."""
from cases import Cases, expect
from daemon import Daemon
from guest import Guest, Hba
from scenario import content_sum, read_sum

BYTES = 1 << 20


def look(cases, daemon, guest):
    with cases("the disk at target 3, LUN 1 is found at boot") as case:
        case.note = disk = guest.wait_disk(target=3, lun=1)
        expect(read_sum(guest, disk, BYTES) == content_sum("a", BYTES), "its content is wrong")
    with cases("nothing else is found"):
        expect(len(guest.disks) == 1, str(guest.disks))
    with cases("REPORT LUNS through the disk lists LUN 1") as case:
        listed = guest.run("sg_luns /dev/%s" % guest.find_disk(target=3, lun=1)).output
        case.note = " ".join(listed.split()[-2:])
        expect("0001000000000000" in listed, listed)
    with cases("a disk plugged at LUN 1 of an empty target is found, too"):
        daemon.plug("disk-b", "b", scsi_id=7, lun=1)
        disk = guest.wait_disk(target=7, lun=1)
        expect(read_sum(guest, disk, BYTES) == content_sum("b", BYTES), "its content is wrong")
    with cases("LUN 0 and LUN 1 of one target are two disks"):
        daemon.plug("disk-c", "c", scsi_id=7, lun=0)
        disk = guest.wait_disk(target=7, lun=0)
        expect(read_sum(guest, disk, BYTES) == content_sum("c", BYTES), "its content is wrong")
        daemon.unplug("disk-c")
        guest.wait_gone(target=7, lun=0)
        expect(guest.find_disk(target=7, lun=1), "LUN 1 went with LUN 0")
    with cases("the guest's log is free of trouble"):
        guest.check_log(allow=[r"Synchronize Cache\(10\) failed"])


def main():
    with Cases() as cases, Daemon() as daemon:
        for name in "abc":
            daemon.image(name, BYTES, random=True)
        daemon.hba("hba0")
        daemon.plug("disk-a", "a", scsi_id=3, lun=1)
        with Guest([Hba("hba0", daemon.socket("hba0"))]) as guest:
            look(cases, daemon, guest)


if __name__ == "__main__":
    main()
