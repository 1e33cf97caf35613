"""`caisson ctl`: what it prints, what it reads, its exit status."""
import json
import os
import socket
import subprocess
import threading
import time

import harness
from harness import Daemon, Qmp, contains, equal, run, until

SETUP = ["--blockdev", "null-co,node-name=n,size=1M", "--export",
         "vhost-user-scsi,id=hba0,addr.type=unix,addr.path=hba0.sock"]


def ctl(*words, **more):
    return run("ctl", "mon.sock", *words, **more)


def test_exit_status():
    with Daemon():
        equal(ctl("query-waits")[0], 0)
        status, out, err = ctl("device_del", "id=zz")
        equal((status, out), (1, ""))
        equal(err, "caisson ctl: DeviceNotFound: Device 'zz' not found\n")
        status, out, err = ctl("nope")
        equal(status, 1)
        contains(err, "CommandNotFound: The command nope has not been found")
        for words in ([], ["--foo", "query-waits"], ["query-waits", "x"], ["query-waits", "=1"],
                      ["--timeout", "soon", "query-waits"], ["--timeout"], ["--wait"]):
            status, out, err = ctl(*words)
            equal((status, out), (2, ""), words)
            contains(err, "caisson ctl: ", "usage: ")
    status, _, err = ctl("query-waits")
    equal(status, 3)
    contains(err, "mon.sock", "No such file or directory")
    equal(run("ctl")[0], 2)
    equal(run("ctl", "--help")[0], 0)


def test_tables_objects_and_json():
    with Daemon(*SETUP, "--object", "iothread,id=io0"):
        equal(ctl("device_add", "driver=scsi-hd", "id=d", "bus=hba0.0", "drive=n", "lun=3",
                  "serial=0123", "share-rw=true"), (0, "", ""))
        _, out, _ = ctl("query-scsi-devices")
        head, row = [line.split() for line in out.splitlines()]
        equal(head[:2] + row[:2], ["id", "type", "d", "scsi-hd"])
        equal(row[head.index("lun")], "3")
        _, out, _ = ctl("--json", "query-scsi-devices")
        found = json.loads(out)
        equal((found[0]["id"], found[0]["lun"]), ("d", 3))
        _, out, _ = ctl("query-version")
        contains(out, "package:", "caisson")
        equal(ctl("qom-set", "path=/objects/io0", "property=poll-max-ns", "value=7")[0], 0)
        equal(ctl("qom-get", "path=/objects/io0", "property=poll-max-ns"), (0, "7\n", ""))
        equal(json.loads(ctl("--json", "device_del", "id=zz")[1])["error"]["class"], "DeviceNotFound")


def test_values():
    """Numbers, booleans and null as they look; text in quotes stays text; dotted keys nest."""
    with Daemon():
        equal(ctl("blockdev-add", "driver=null-co", "node-name=a", "size=65536", "read-only=true",
                  "cache.direct=false")[0], 0)
        node = Qmp()("query-named-block-nodes")[0]
        equal((node["image"]["virtual-size"], node["ro"]), (65536, True))
        contains(ctl("blockdev-add", "driver=null-co", "node-name=b", 'size="65536"')[2],
                 "Invalid parameter type for 'size'")
        equal(ctl("blockdev-add", 'node-name="c"', "driver=raw", "file.driver=null-co",
                  "file.size=4096")[0], 0)
        equal(ctl("block-export-add", "type=vhost-user-scsi", "id=e", 'addr={"type":"unix","path":"e.sock"}',
                  "num-queues=2")[0], 0)


def test_waiting_for_an_event():
    with Daemon(*SETUP, "--device", "scsi-hd,id=d,bus=hba0.0,drive=n"):
        equal(ctl("--wait", "DEVICE_DELETED:d", "--timeout", "10", "device_del", "id=d")[0], 0)
        equal(json.loads(ctl("--json", "query-scsi-devices")[1]), [])
        start = time.monotonic()
        status, _, err = ctl("--wait", "DEVICE_DELETED:other", "--timeout", "1", "query-waits")
        equal(status, 1)
        contains(err, "DEVICE_DELETED:other")
        equal(0.9 < time.monotonic() - start < 5, True)
        start = time.monotonic()
        equal(ctl("--wait", "DEVICE_DELETED:d", "device_del", "id=d")[0], 1)  # failed: nothing to wait for
        equal(time.monotonic() - start < 2, True)
        equal(ctl("--wait", "BLOCK_EXPORT_DELETED", "--timeout", "10", "block-export-del", "id=hba0")[0], 0)


def test_events_as_they_come():
    with Daemon(*SETUP):
        child = subprocess.Popen([harness.PROGRAM, "ctl", "mon.sock", "events"], text=True,
                                 stdout=subprocess.PIPE)
        time.sleep(0.3)
        ctl("block-export-del", "id=hba0")
        line = child.stdout.readline()
        contains(line, "BLOCK_EXPORT_DELETED", "id=hba0")
        child.terminate()
        child.wait()
        child.stdout.close()
        status, out, _ = ctl("--timeout", "1", "events")
        equal((status, out), (0, ""))


def test_quit():
    daemon = Daemon()
    equal(ctl("quit")[0], 0)
    equal(daemon.wait(), 0)


def test_a_daemon_that_goes_away_or_is_silent():
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("mon.sock")
    listener.listen()

    def serve(text):
        peer, _ = listener.accept()
        peer.sendall(text)
        if text:
            peer.close()

    for text, status in ((b'{"QMP": {}}', 3), (b"nonsense\n", 3)):
        thread = threading.Thread(target=serve, args=(text,))
        thread.start()
        equal(ctl("query-waits", timeout=30)[0], status, text)
        thread.join()
    status, _, err = ctl("--timeout", "1", "query-waits")
    equal(status, 1)
    contains(err, "1 s")


harness.main(globals())
