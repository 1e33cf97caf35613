#!/usr/bin/env python3
"""SCSI as Linux and sg3_utils use it: what issue order, VPD pages, sizes, UNMAP, WRITE SAME, reset, wrong
commands and a filesystem make of a disk, and not a word of it in the guest's log."""
import re

from cases import Cases, expect
from daemon import Daemon
from guest import Guest, Hba

BYTES = 64 << 20
SERIAL = "CAISSON-7"

# (what, command in the guest with {} for the disk, pattern its output must match, exit status)
COMMANDS = (
    ("INQUIRY", "sg_inq {}", r"PQual=0 +(?:Device_type=0|PDT=0)", 0),
    ("VPD 00, the supported pages", "sg_vpd -p sv {}",
     r"(?s)Supported VPD.*nit serial.*evice ident.*lock limits.*lock device char.*ogical block prov", 0),
    ("VPD 80, the serial number", "sg_vpd -p sn {}", re.escape(SERIAL), 0),
    ("VPD 83, identification", "sg_vpd -p di {}", r"(?i)designat", 0),
    ("VPD B0, block limits", "sg_vpd -p bl {}", r"Maximum unmap LBA count: (?!0\b)\S+", 0),
    ("VPD B1, characteristics", "sg_vpd -p bdc {}", r"(?i)rotation rate", 0),
    ("VPD B2, provisioning", "sg_vpd -p lbpv {}", r"(?i)LBPU\W+1", 0),
    ("TEST UNIT READY", "sg_turs {}", r"", 0),
    ("REQUEST SENSE", "sg_requests {}", r"(?i)no sense|no additional|^$", 0),
    ("REPORT LUNS", "sg_luns {}", r"0000000000000000", 0),
    ("READ CAPACITY 10", "sg_readcap {}", r"Last LBA=%d " % (BYTES // 512 - 1), 0),
    ("READ CAPACITY 16", "sg_readcap -l {}", r"lbpme=1", 0),
    ("MODE SENSE 10", "sg_modes -p 0x3f {}", r"(?i)caching", 0),
    ("MODE SENSE 6", "sg_modes -6 -p 8 {}", r"(?i)caching", 0),
    ("READ 6", "sg_dd if={} of=/tmp/r6 bs=512 count=8 cdbsz=6 blk_sgio=1 2>&1; cmp /tmp/r6 /tmp/head",
     r"", 0),
    ("READ 10", "sg_dd if={} of=/tmp/r10 bs=512 count=8 cdbsz=10 blk_sgio=1 2>&1; cmp /tmp/r10 /tmp/head",
     r"", 0),
    ("READ 12", "sg_dd if={} of=/tmp/r12 bs=512 count=8 cdbsz=12 blk_sgio=1 2>&1; cmp /tmp/r12 /tmp/head",
     r"", 0),
    ("READ 16", "sg_dd if={} of=/tmp/r16 bs=512 count=8 cdbsz=16 blk_sgio=1 2>&1; cmp /tmp/r16 /tmp/head",
     r"", 0),
    ("WRITE 16, then READ 10", "sg_dd if=/tmp/mark of={} bs=512 count=8 seek=64 cdbsz=16 blk_sgio=1 2>&1; "
     "dd if={} bs=512 skip=64 count=8 iflag=direct 2>/dev/null | cmp - /tmp/mark", r"", 0),
    ("WRITE 6, then READ 10", "sg_dd if=/tmp/mark of={} bs=512 count=8 seek=128 cdbsz=6 blk_sgio=1 2>&1; "
     "dd if={} bs=512 skip=128 count=8 iflag=direct 2>/dev/null | cmp - /tmp/mark", r"", 0),
    ("SYNCHRONIZE CACHE 10", "sg_sync {}", r"", 0),
    ("SYNCHRONIZE CACHE 16", "sg_sync -S {}", r"", 0),
    ("UNMAP", "sg_unmap --force -l 64 -n 8 {}; "
     "dd if={} bs=512 skip=64 count=8 iflag=direct 2>/dev/null | cmp - /tmp/zero", r"", 0),
    ("WRITE SAME 10", "sg_write_same -i /tmp/mark --xferlen=512 -l 256 -n 8 {}; "
     "for i in 0 1 2 3 4 5 6 7; do head -c 512 /tmp/mark; done >/tmp/same; "
     "dd if={} bs=512 skip=256 count=8 iflag=direct 2>/dev/null | cmp - /tmp/same", r"", 0),
    ("WRITE SAME 16 with UNMAP", "sg_write_same -S -U -i /tmp/zero --xferlen=512 -l 256 -n 8 {}; "
     "dd if={} bs=512 skip=256 count=8 iflag=direct 2>/dev/null | cmp - /tmp/zero", r"", 0),
    ("an unknown command is refused with sense", "sg_raw {} c1 00 00 00 00 00 2>&1",
     r"(?i)illegal request(?s:.*)invalid command operation", None),
    ("a read beyond the end is refused with sense", "sg_raw -r 512 {} 28 00 7f ff ff ff 00 00 01 00 2>&1",
     r"(?i)illegal request(?s:.*)(?:out of range|2100)", None),
    ("a wrong VPD page is refused with sense", "sg_raw -r 64 {} 12 01 ee 00 40 00 2>&1",
     r"(?i)illegal request(?s:.*)invalid field in cdb", None),
    ("LUN RESET", "sg_reset -d {} && dd if={} of=/dev/null bs=4k count=1 iflag=direct 2>&1", r"", 0),
    ("TRIM from Linux", "blkdiscard -o 1048576 -l 1048576 {} && "
     "dd if={} bs=1M skip=1 count=1 iflag=direct 2>/dev/null | tr -d '\\0' | wc -c", r"^0$", 0),
    ("ext4: make, write, unmount, read", "/usr/bin/mke2fs -q -t ext4 {} && "
     "mkdir -p /m && mount -t ext4 {} /m && cp /bin/busybox /m/ && umount /m && echo 3 >"
     "/proc/sys/vm/drop_caches && mount -t ext4 {} /m && cmp /bin/busybox /m/busybox && umount /m", r"", 0),
)


def run_commands(cases, guest, disk):
    guest.run("dd if=/dev/%s of=/tmp/head bs=512 count=8 iflag=direct 2>/dev/null; "
              "head -c 4096 /dev/urandom >/tmp/mark; head -c 4096 /dev/zero >/tmp/zero" % disk)
    for what, command, pattern, status in COMMANDS:
        with cases(what):
            done = guest.run(command.replace("{}", "/dev/" + disk), check=False)
            if status is not None:
                expect(done.status == status, "exit status %d: %s" % (done.status, done.output))
            expect(re.search(pattern, done.output, re.M), done.output)


def main():
    with Cases() as cases, Daemon(iothreads=2) as daemon:
        daemon.image("a", BYTES, random=True, discard="unmap")
        daemon.hba("hba0", queues=2)
        daemon.plug("disk-a", "a", serial=SERIAL)
        with Guest([Hba("hba0", daemon.socket("hba0"), queues=2)]) as guest:
            with cases("the guest finds the disk"):
                disk = guest.wait_disk()
            run_commands(cases, guest, disk)
            with cases("the guest's log is free of trouble"):
                guest.check_log(allow=[r"device reset$"])
            with cases("the guest shuts down in order"):
                guest.power_off()


if __name__ == "__main__":
    main()
