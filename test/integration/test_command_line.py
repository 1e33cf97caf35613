"""The command line of `caisson daemon`: what it takes, what it refuses and in which words, its order."""
import os
import re
import signal
import socket
import time

import harness
from harness import Daemon, Qmp, contains, equal, image, run, until

HBA = "vhost-user-scsi,id=hba0,addr.type=unix,addr.path=hba0.sock"

# What is typed; what the one line on standard error must contain. None of it may leave anything behind.
REFUSED = [
    (["--foo"], ["unrecognized option '--foo'"]),
    (["--blokdev", "x"], ["unrecognized option '--blokdev'", "did you mean '--blockdev'?"]),
    (["-x"], ["unrecognized option '-x'"]),
    (["foo"], ["foo: Unexpected argument"]),
    (["--blockdev"], ["option '--blockdev' requires an argument"]),
    (["--daemonize=yes"], ["option '--daemonize' takes no value"]),
    (["--blockdev", "node-name=a"], ["--blockdev node-name=a: ", "Parameter 'driver' is missing"]),
    (["--blockdev", "driver=fil,node-name=a"],
     ["Parameter 'driver' does not accept value 'fil'", "'file'"]),
    (["--blockdev", "null-co,node-name=a,siz=1"],
     ["Parameter 'siz' is unexpected; did you mean 'size'?"]),
    (["--blockdev", "null-co,node-name=a,size=abc"], ["Parameter 'size' expects a size", "'abc'"]),
    (["--blockdev", "null-co,node-name=a,size.x=1"], ["Parameters 'size.*' are unexpected"]),
    (["--blockdev", "null-co,node-name=a,discard=foo"],
     ["Parameter 'discard' does not accept value 'foo'", "'ignore', 'unmap'"]),
    (["--blockdev", "null-co,node-name=a,cache=1"], ["'cache'", "object"]),
    (["--blockdev", "null-co,node-name=a,cache.direct=maybe"],
     ["Parameter 'cache.direct' expects 'on' or 'off', not 'maybe'"]),
    (["--blockdev", "null-co,node-name"], ["Expected '=' after parameter 'node-name'"]),
    (["--blockdev", "null-co,a..b=1"], ["Invalid parameter 'a..b'"]),
    (["--blockdev", "null-co,a.1=1"], ["Parameter 'a.0' missing"]),
    (["--blockdev", "null-co,a=1,a.b=2"], ["Parameters 'a.*' used inconsistently"]),
    (["--blockdev", '{"driver"'], ["JSON parse error, premature EOI"]),
    (["--blockdev", '{"driver": "null-co"} 1'], ["Expecting at most one JSON value"]),
    (["--blockdev", '{"driver": "null-co", "node-name": "a", "size": "1"}'],
     ["Invalid parameter type for 'size', expected: integer"]),
    (["--blockdev", "file,node-name=a"], ["Parameter 'filename' is missing"]),
    (["--blockdev", "file,node-name=a,filename=nowhere"],
     ["Could not open 'nowhere': No such file or directory"]),
    (["--blockdev", "null-co,node-name=0a"], ["Invalid node-name: '0a'"]),
    (["--blockdev", "null-co,node-name=a", "--blockdev", "null-co,node-name=a"],
     ["Duplicate nodes with node-name='a'"]),
    (["--object", "iothread"], ["Parameter 'id' is missing"]),
    (["--object", "iothred,id=io0"], ["Parameter 'qom-type' does not accept value 'iothred'"]),
    (["--object", "iothread,id=0io"], ["Parameter 'id' expects an identifier", "'0io'"]),
    (["--object", "iothread,id=io0,poll-max=3"],
     ["Parameter 'poll-max' is unexpected; did you mean 'poll-max-ns'?"]),
    (["--object", "iothread,id=io0,poll-max-ns=-1"], ["Parameter 'poll-max-ns'", "'-1'"]),
    (["--object", "iothread,id=io0", "--object", "iothread,id=io0"], ["'io0' exists already"]),
    (["--export", "foo,id=e"], ["Parameter 'type' does not accept value 'foo'", "vhost-user-scsi"]),
    (["--export", "vhost-user-scsi,id=e"], ["Parameter 'addr' is missing"]),
    (["--export", HBA + ",iothread=io9"], ["io9"]),
    (["--export", HBA + ",num-queues=0"], ["num-queues"]),
    (["--export", HBA + ",node-name=x"], ["Parameter 'node-name' is not supported"]),
    (["--export", HBA + ",writable=on"], ["Parameter 'writable' is not supported"]),
    (["--export", HBA, "--export", HBA], ["'hba0' is already in use"]),
    (["--export", "vhost-user-scsi,id=e,addr.type=unix,addr.path=no/where"],
     ["no/where", "No such file or directory"]),
    (["--export", "vhost-user-scsi,id=e,addr.type=unix,addr.path=" + 120 * "x"],
     ["File name too long"]),
    (["--device", "scsi-hd,id=d,bus=hba9.0,drive=n"], ["hba9.0"]),
    (["--device", "scsi-hdd,id=d"], ["'scsi-hdd'"]),
    (["--export", HBA, "--device", "scsi-hd,id=d,bus=hba0.0,drive=n"], ["'n'"]),
    (["--export", HBA, "--blockdev", "null-co,node-name=n",
      "--device", "scsi-hd,id=d,bus=hba0.0,drive=n,lnu=3"], ["'lnu'", "did you mean 'lun'?"]),
    (["--export", HBA, "--blockdev", "null-co,node-name=n", "--blockdev", "null-co,node-name=m",
      "--device", "scsi-hd,id=d,bus=hba0.0,drive=n,scsi-id=0,lun=3",
      "--device", "scsi-hd,id=e,bus=hba0.0,drive=m,scsi-id=0,lun=3"],
     ["lun", "3", "'d'"]),
    (["--export", HBA, "--blockdev", "null-co,node-name=n", "--blockdev", "null-co,node-name=m",
      "--device", "scsi-hd,id=d,bus=hba0.0,drive=n",
      "--device", "scsi-hd,id=d,bus=hba0.0,drive=m"], ["'d'"]),
    (["--monitor", "mon"], ['chardev "mon" not found']),
    (["--chardev", "socket,id=mon"], ["'path'", "'fd'"]),
    (["--chardev", "pty,id=mon"], ["'pty' is not a valid char driver name"]),
    (["--chardev", "socket,id=mon,path=no/where,server=on,wait=off"],
     ["Failed to bind socket to no/where: No such file or directory"]),
    (["--chardev", "socket,id=mon,path=nowhere"], ["Failed to connect to 'nowhere'"]),
    (["--chardev", "socket,id=mon,host=localhost,port=1,server=on"], ["Parameter 'host'"]),
    (["--chardev", "socket,id=mon,path=x,abstract=on,server=on"], ["Parameter 'abstract'", "use a path"]),
    (["--chardev", "socket,id=mon,fd=77,server=on,wait=off"], ["'fd'", "77"]),
    (["--chardev", "socket,id=m,path=a.sock,server=on,wait=off",
      "--chardev", "socket,id=m,path=b.sock,server=on,wait=off"], ["Duplicate ID 'm' for chardev"]),
    (["--chardev", "socket,id=m,path=a.sock,server=on,wait=off", "--monitor", "m",
      "--monitor", "m"], ['chardev "m" has a monitor already']),
    (["--chardev", "socket,id=m,path=a.sock,server=on,wait=off", "--monitor", "m,mode=readline"],
     ["Parameter 'mode' does not accept value 'readline'"]),
    (["--pidfile", "no/where"], ["no/where", "No such file or directory"]),
    (["--log-level", "loud"], ["--log-level loud"]),
    (["--shutdown-timeout", "soon"], ["--shutdown-timeout soon"]),
    (["-T", "no_such_point"], ["no_such_point"]),
    (["--device", "scsi-cdrom,help"], ["'scsi-cdrom'"]),
]


def test_bad_input_names_the_culprit_and_leaves_nothing():
    wrong = []
    for words, parts in REFUSED:
        status, out, err = run("daemon", *words)
        lines = [line for line in err.splitlines() if not line.startswith("caisson: info:")]
        if status != 1 or out != "" or len(lines) != 1 or os.listdir(".") or \
           not all(part in lines[0] for part in ["caisson: ", *parts]):
            wrong.append("%s\n  wanted %s\n  found  %d %r %r %s" %
                         (" ".join(words), parts, status, out, err, os.listdir(".")))
    if wrong:
        raise AssertionError("\n".join(wrong))


def test_an_option_that_fails_undoes_those_before_it():
    image("a.img")
    status, _, err = run("daemon", "--object", "iothread,id=io0", "--pidfile", "pid",
                         "--blockdev", "file,node-name=a,filename=a.img", *harness.MONITOR,
                         "--export", HBA + ",iothread=io0", "--device",
                         "scsi-hd,id=d,bus=hba0.0,drive=a", "--blockdev", "file,node-name=b,filename=b.img")
    equal(status, 1)
    contains(err, "caisson: --blockdev file,node-name=b,filename=b.img: Could not open 'b.img'")
    equal(os.listdir("."), ["a.img"])


def test_options_are_carried_out_in_order():
    image("a.img")
    late = ["--blockdev", "raw,node-name=r,file=f", "--blockdev", "file,node-name=f,filename=a.img"]
    status, _, err = run("daemon", *late)
    equal(status, 1)
    contains(err, "--blockdev raw,node-name=r,file=f: ", "'f'")
    with Daemon(*late[2:], *late[:2]):
        equal(sorted(n["node-name"] for n in Qmp()("query-named-block-nodes")), ["f", "r"])


def test_a_locked_image_names_the_file():
    image("a.img")
    with Daemon("--blockdev", "file,node-name=a,filename=a.img",
                "--export", HBA, "--device", "scsi-hd,id=d,bus=hba0.0,drive=a"):
        status, _, err = run("daemon", "--blockdev", "file,node-name=a,filename=a.img", "--export",
                             HBA.replace("hba0", "hba1"), "--device", "scsi-hd,id=d,bus=hba1.0,drive=a")
        equal(status, 1)
        contains(err, "a.img", "lock")


def test_both_spellings_and_json():
    with Daemon("--object=iothread,id=io0", "--object", '{"qom-type": "iothread", "id": "io1"}',
                "--blockdev={'driver': 'null-co', 'node-name': 'n', 'size': 65536}",
                "--export", '{"type": "vhost-user-scsi", "id": "hba0", "num-queues": 2, '
                '"addr": {"type": "unix", "path": "hba0.sock"}, "iothread": ["io0", "io1"]}',
                "--device", '{"driver": "scsi-hd", "id": "d", "bus": "hba0.0", "drive": "n", "lun": 5}'):
        qmp = Qmp()
        equal([t["id"] for t in qmp("query-iothreads")], ["io0", "io1"])
        equal([d["lun"] for d in qmp("query-scsi-devices")], [5])
        equal(qmp("query-named-block-nodes")[0]["image"]["virtual-size"], 65536)


def test_pid_file():
    with Daemon("--pidfile", "pid") as daemon:
        with open("pid") as file:
            equal(file.read(), "%d\n" % daemon.child.pid)
        status, _, err = run("daemon", "--pidfile", "pid")
        equal(status, 1)
        contains(err, "pid file 'pid'", "locked by process %d" % daemon.child.pid)
        contains(open("pid").read(), "%d" % daemon.child.pid)
    equal(os.path.exists("pid"), False)


def test_daemonize_returns_when_it_serves():
    status, out, err = run("daemon", "--daemonize", "--pidfile", "pid", *harness.MONITOR)
    equal((status, out, err), (0, "", ""))
    qmp = Qmp()  # at once: no waiting for a socket
    pid = int(open("pid").read())
    equal(os.readlink("/proc/%d/cwd" % pid), "/")
    qmp("quit")
    until(lambda: not os.path.exists("pid"), "the end; relative paths still mean the first folder")
    equal(os.path.exists("mon.sock"), False)
    status, _, err = run("daemon", "--daemonize", "--blockdev", "file,node-name=a,filename=nowhere")
    equal(status, 1)
    contains(err, "nowhere")


def test_nobody_is_let_in_before_all_has_succeeded():
    """wait=on keeps start-up waiting; control socket and export listen, but nobody is answered."""
    daemon = Daemon("--export", HBA, "--pidfile", "pid", "--chardev",
                    "socket,id=slow,path=slow.sock,server=on", "--monitor", "slow,pretty=on", ready=False)
    until(lambda: os.path.exists("slow.sock"), "the second socket")
    until(lambda: "waiting for a client" in daemon.log(), "the wait")
    early, door = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    early.connect("mon.sock")
    door.connect("hba0.sock")
    door.sendall(b"\1\0\0\0\1\0\0\0\0\0\0\0")  # VHOST_USER_GET_FEATURES
    for waiting in (early, door):
        waiting.settimeout(0.2)
        try:
            raise AssertionError("answered: %r" % waiting.recv(100))
        except socket.timeout:
            waiting.settimeout(harness.PATIENCE_S)
    equal(os.path.exists("pid"), False)
    slow = socket.socket(socket.AF_UNIX)
    slow.connect("slow.sock")
    contains(early.recv(1000).decode(), '{"QMP": ')
    equal(door.recv(1000)[:4], b"\1\0\0\0")
    equal(os.path.exists("pid"), True)
    slow.settimeout(harness.PATIENCE_S)
    contains(slow.recv(1000).decode(), '{\n    "QMP": {\n')
    equal(daemon.end(), 0)
    equal(sorted(os.listdir(".")), ["daemon.log"])


def test_a_signal_while_it_waits_for_a_client():
    daemon = Daemon("--chardev", "socket,id=slow,path=slow.sock,server=on", "--monitor", "slow",
                    monitor=False)
    until(lambda: os.path.exists("slow.sock"), "the socket")
    equal(daemon.end(), 0)
    equal(os.path.exists("slow.sock"), False)


def test_every_signal_ends_it():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        daemon = Daemon("--object", "iothread,id=io0", "--blockdev", "null-co,node-name=n",
                        "--export", HBA + ",iothread=io0", "--device", "scsi-hd,id=d,bus=hba0.0,drive=n")
        qmp = Qmp()
        equal(daemon.end(number), 0)
        qmp.wait_event("DEVICE_DELETED", device="d")
        qmp.wait_event("BLOCK_EXPORT_DELETED", id="hba0")
        equal(os.listdir("."), ["daemon.log"])
        os.unlink("daemon.log")


def stuck_in_start_up(*options):
    """Opening a FIFO for reading waits for a writer, in a thread of the pool."""
    os.mkfifo("pipe")
    daemon = Daemon(*options, "--blockdev", "file,node-name=p,filename=pipe,read-only=on", ready=False)
    until(lambda: os.path.exists("mon.sock"), "the start")
    time.sleep(0.3)
    equal(daemon.child.poll(), None)
    return daemon


def test_start_up_that_hangs_is_given_up():
    daemon = stuck_in_start_up("--shutdown-timeout", "1")
    equal(daemon.end(), 1)
    contains(daemon.log(), "giving up")


def test_a_second_signal_leaves_at_once():
    daemon = stuck_in_start_up()
    daemon.child.send_signal(signal.SIGTERM)
    until(lambda: "shutting down: SIGTERM" in daemon.log(), "the first signal")
    equal(daemon.end(signal.SIGINT), 128 + signal.SIGINT)


def test_a_stale_socket_file_is_replaced_and_a_live_one_is_not():
    daemon = Daemon()
    Qmp().close()
    status, _, err = run("daemon", *harness.MONITOR)
    equal(status, 1)
    contains(err, "Failed to bind socket to mon.sock: Address already in use")
    daemon.child.kill()
    daemon.child.wait()
    equal(os.path.exists("mon.sock"), True)
    with Daemon(ready=False):
        until(lambda: harness.greets("mon.sock"), "a socket of its own")
        Qmp().close()


def test_a_passed_socket():
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("passed.sock")
    listener.listen()
    number = listener.fileno()
    with Daemon("--chardev", "socket,id=p,fd=%d,server=on,wait=off" % number, "--monitor", "p",
                monitor=False, pass_fds=[number]):
        equal(Qmp("passed.sock")("query-commands")[0], {"name": "qmp_capabilities"})
    listener.settimeout(1)
    client = socket.socket(socket.AF_UNIX)  # the socket is ours still, and alive
    client.connect("passed.sock")
    listener.accept()


def test_a_client_chardev():
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("there.sock")
    listener.listen()
    listener.settimeout(harness.PATIENCE_S)
    with Daemon("--chardev", "socket,id=p,path=there.sock", "--monitor", "p", monitor=False):
        peer, _ = listener.accept()
        peer.settimeout(harness.PATIENCE_S)
        contains(peer.recv(1000).decode(), '{"QMP": ')
    equal(os.path.exists("there.sock"), True)


# ---- what it says about itself ----

def test_version_and_help():
    version = run("--version")
    equal(version[0], 0)
    contains(version[1], "caisson ")
    for words in (["daemon", "--version"], ["daemon", "-V"], ["-V"]):
        equal(run(*words), version)
    status, out, err = run("--help")
    equal((status, err), (0, ""))
    for part in ("daemon", "ctl", "bench"):
        contains(out, part)
        status, text, err = run(part, "--help")
        equal((status, err), (0, ""), part)
        contains(text, "usage: caisson " + part)
    equal(run()[0], 2)
    equal(run("serve")[0], 2)


OPTIONS = ["object", "blockdev", "chardev", "monitor", "export", "device", "pidfile", "daemonize",
           "trace", "log-level", "shutdown-timeout", "version", "help"]


def test_help_names_every_option_and_every_option_of_help_exists():
    _, text, _ = run("daemon", "--help")
    named = re.findall(r"^  (?:-\w, )?--([\w-]+)", text, re.M)
    equal(named, OPTIONS)
    for name in set(named) - {"daemonize"}:  # which takes no value, and would serve
        if "unrecognized" in run("daemon", "--" + name)[2]:
            raise AssertionError(name)


def listed(text):
    return [line.split()[0] for line in text.splitlines()[1:]]


def test_lists_of_types_and_their_properties():
    """Each type that `X help` lists has its own help, and each property shown there is known."""
    for option, key in (("object", "qom-type"), ("blockdev", "driver"), ("export", "type"),
                        ("device", "driver"), ("chardev", "backend")):
        status, text, err = run("daemon", "--" + option, "help")
        equal((status, err), (0, ""))
        for name in listed(text):
            for spelling in (name + ",help", "%s=%s,help" % (key, name), name + ",?"):
                status, properties, err = run("daemon", "--" + option, spelling)
                equal((status, err), (0, ""), spelling)
            equal(properties.splitlines()[0], name + " options:")
            for known in listed(properties):
                shown = known.split("=")[0].replace(".N.", ".0.")
                err = run("daemon", "--" + option, "%s,%s=~,zzz=1" % (name, shown))[2]
                if "'%s' is unexpected" % shown in err:
                    raise AssertionError("%s %s: %s" % (option, name, err))


def test_trace_points():
    _, text, _ = run("daemon", "-T", "help")
    points = text.split()
    if not points:
        raise AssertionError("no trace point")
    for words in (["-T", points[0]], ["-T" + points[0]], ["--trace", "enable=" + points[0]],
                  ["--trace=*"]):
        with Daemon(*words):
            Qmp().close()
        os.unlink("daemon.log")


def test_log_level():
    for level, spoken in (("error", False), ("info", True), ("debug", True)):
        with Daemon("--log-level", level) as daemon:
            pass
        equal("shutting down" in daemon.log(), spoken, level)
        os.unlink("daemon.log")


harness.main(globals())
