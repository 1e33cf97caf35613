"""`caisson bench` against real back ends: verified loads, its report, and what it says when something is
wrong with the device or the device goes away."""
import json
import os
import shutil
import signal
import subprocess
import time

import harness
from harness import PROGRAM, Daemon, Skipped, contains, equal, image, run, until

HBA = "type=vhost-user-scsi,id=hba0,addr.type=unix,addr.path=hba0.sock"


def daemon(*more, queues=2):
    return Daemon("--object", "iothread,id=io0", "--object", "iothread,id=io1",
                  "--blockdev", f"file,node-name=disk,filename={image('disk.img', 32 << 20)}",
                  "--blockdev", "null-co,node-name=nothing,size=1048576",
                  "--export", f"{HBA},num-queues={queues},iothread.0=io0,iothread.1=io1",
                  "--device", "scsi-hd,id=disk0,bus=hba0.0,drive=disk,scsi-id=1,lun=2",
                  "--device", "scsi-hd,id=disk1,bus=hba0.0,drive=nothing,scsi-id=3", *more)


def bench(*words, socket="hba0.sock", kind="vhost-user-scsi", status=0):
    done, out, err = run("bench", kind, socket, *words)
    equal(done, status, f"{words}: {out}{err}")
    return out if status == 0 else err


def report(*words, **more):
    return json.loads(bench("--json", "--warm-up", "0", *words, **more))


def test_loads_are_verified():
    """Every mode, ring feature and way of waiting; each block read must hold what was last written."""
    with daemon():
        for rw in ("randread", "randwrite", "randrw", "read", "write"):
            for extra in ([], ["--queues", "2", "--poll"], ["--indirect=off", "--event-idx=off"],
                          ["--queues", "2", "--threads", "1", "--block-size", "64k", "--depth", "4"]):
                said = report("--verify", "--rw", rw, "--requests", "3000", "--range", "16M", *extra)
                equal(said["requests"], 3000, f"{rw} {extra}")
                assert said["verified-blocks"] > 200, said


def test_the_report():
    with daemon():
        said = report("--seconds", "0.5", "--depth", "8", "--queues", "2", "--block-size", "512")
        contains(said["device"], "target 1 lun 2")
        equal((said["rw"], said["queues"], said["depth"], said["block-bytes"]), ("randread", 2, 8, 512))
        assert abs(said["iops"] * said["seconds"] - said["requests"]) < 1 + said["requests"] / 1000, said
        latency = said["latency-ns"]
        values = [latency[name] for name in ("p50", "p90", "p99", "p99.9", "max")]
        equal(values, sorted(values))
        assert 0 < latency["mean"] < latency["max"], latency
        assert said["cpu-ns-per-request"]["backend"] > 0 and said["cpu-ns-per-request"]["bench"] > 0, said
        text = bench("--requests", "100")
        contains(text, "target 1 lun 2", "32 MiB" if "MiB" in text else "0.03 GiB", "100 requests", "p99.9")


def test_a_device_that_keeps_nothing_is_found_out():
    with daemon():
        said = bench("--lun", "3:0", "--verify", "--requests", "100", "--range", "512k", status=1)
        contains(said, "expected generation 1, found nothing of ours")


def test_what_cannot_be_is_named():
    with daemon():
        for words, status, parts in (
                (["--lun", "9:0"], 1, ["--lun 9:0: there is no target 9"]),
                (["--lun", "1:0"], 1, ["--lun 1:0: target 1 has no such LUN; it has: 2"]),
                (["--queues", "3"], 1, ["--queues 3: the back end has 2 request queues"]),
                (["--range", "33M"], 1, ["--range", "do not fit the device of 33554432 bytes"]),
                (["--range-offset", "33M"], 1, ["--range-offset 34603008"]),
                (["--verify", "--range", "64k"], 1, ["--verify: the range has 16 blocks"]),
                (["--depth", "256", "--queue-size", "128"], 1, ["a ring of 128 descriptors"])):
            contains(bench(*words, status=status), *parts)
        contains(bench(socket="no.sock", status=3), "cannot connect to 'no.sock'")


def test_no_disk():
    with Daemon("--export", HBA):
        contains(bench(status=1), "no target has a disk")


def start(*words):
    return subprocess.Popen([PROGRAM, "bench", "vhost-user-scsi", "hba0.sock", *words],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_daemon_dies():
    with daemon() as server:
        load = start("--seconds", "60")
        time.sleep(0.5)
        server.child.kill()
        server.child.wait()
        begun = time.monotonic()
        err = load.communicate(timeout=harness.PATIENCE_S)[1]
        equal(load.returncode, 1)
        contains(err, "the back end has closed the connection")
        assert time.monotonic() - begun < 5
        server.child.returncode = 0


def test_the_daemon_stands_still():
    with daemon() as server:
        load = start("--seconds", "60", "--timeout", "1")
        time.sleep(0.5)
        server.child.send_signal(signal.SIGSTOP)
        try:
            err = load.communicate(timeout=harness.PATIENCE_S)[1]
        finally:
            server.child.send_signal(signal.SIGCONT)
        equal(load.returncode, 1)
        contains(err, "no request was answered for 1 s; 32 are with the back end")


def test_a_signal_ends_it_early():
    with daemon():
        for words in (["--seconds", "60"], ["--requests", "2000000000"]):
            load = start("--rw", "randrw", "--verify", "--range", "8M", *words)
            time.sleep(1)
            load.send_signal(signal.SIGTERM)
            out, err = load.communicate(timeout=harness.PATIENCE_S)
            equal(load.returncode, 0, err)
            contains(out, "IOPS", "all right")


def test_another_back_end():
    """qemu-storage-daemon's vhost-user-blk export."""
    if shutil.which("qemu-storage-daemon") is None:
        raise Skipped("qemu-storage-daemon is not installed")
    peer = subprocess.Popen(
        ["qemu-storage-daemon", "--object", "iothread,id=io0", "--blockdev",
         f"file,node-name=n,filename={image('disk.img', 32 << 20)}", "--blockdev",
         "null-co,node-name=ro,size=1048576,read-only=on", "--export",
         "vhost-user-blk,id=e,node-name=n,writable=on,addr.type=unix,addr.path=e.sock,num-queues=2,"
         "iothread=io0", "--export", "vhost-user-blk,id=r,node-name=ro,addr.type=unix,addr.path=r.sock"])
    try:
        until(lambda: os.path.exists("e.sock") and os.path.exists("r.sock"), "the peer's sockets")
        for extra in ([], ["--indirect=off", "--event-idx=off", "--poll"]):
            said = report("--verify", "--rw", "randrw", "--requests", "5000", "--queues", "2", "--range",
                          "8M", *extra, kind="vhost-user-blk", socket="e.sock")
            equal(said["requests"], 5000)
        contains(bench("--queues", "3", kind="vhost-user-blk", socket="e.sock", status=1),
                 "the back end has 2 request queues")
        contains(bench("--rw", "write", kind="vhost-user-blk", socket="r.sock", status=1), "read-only")
    finally:
        peer.terminate()
        peer.wait()


if __name__ == "__main__":
    harness.main(globals())
