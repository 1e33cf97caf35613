#!/usr/bin/env python3
"""An idle loop sleeps: a connected idle guest and three I/O threads cost next to no CPU and little memory."""
import os
import time

from cases import Cases, expect
from daemon import Daemon
from guest import Guest, Hba

IDLE_S = float(os.environ.get("IDLE_SECONDS", "20"))
CPU_SHARE_MAX = 0.005
RSS_ANON_KIB_MAX = 16 << 10


def watch(daemon):
    """Share of one CPU over IDLE_S. The only sleep of these tests: here time is what is measured."""
    before = daemon.cpu_s(), time.monotonic()
    time.sleep(IDLE_S)
    return (daemon.cpu_s() - before[0]) / (time.monotonic() - before[1])


def main():
    with Cases() as cases, Daemon(iothreads=3) as daemon:
        daemon.image("a", 16 << 20, random=True)
        daemon.hba("hba0", queues=3)
        daemon.plug("disk-a", "a")
        with Guest([Hba("hba0", daemon.socket("hba0"), queues=3)]) as guest:
            with cases("the guest uses its disk"):
                disk = guest.wait_disk()
                guest.run("dd if=/dev/%s of=/dev/null bs=64k iflag=direct 2>/dev/null" % disk)
            with cases("idle for %g s, the daemon takes under %g %% of a CPU" %
                       (IDLE_S, 100 * CPU_SHARE_MAX)) as case:
                share = watch(daemon)
                case.note = "%.2f %%" % (100 * share)
                expect(share < CPU_SHARE_MAX, "it took more")
            with cases("the daemon holds under %d MiB of anonymous memory" %
                       (RSS_ANON_KIB_MAX >> 10)) as case:
                case.note = "%d KiB" % daemon.rss_anon_kib()
                expect(daemon.rss_anon_kib() < RSS_ANON_KIB_MAX, "it holds more")
            with cases("it wakes up again"):
                guest.run("dd if=/dev/%s of=/dev/null bs=64k count=16 iflag=direct 2>/dev/null" % disk)
                guest.check_log()


if __name__ == "__main__":
    main()
