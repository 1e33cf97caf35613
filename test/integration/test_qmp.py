"""The control socket of a real daemon: errors that change nothing, order, out of band, clients, limits."""
import json
import os
import socket
import time

import harness
from harness import Daemon, Qmp, contains, equal, image, until

SETUP = ["--object", "iothread,id=io0", "--blockdev", "file,node-name=f,filename=a.img",
         "--blockdev", "raw,node-name=r,file=f", "--blockdev", "null-co,node-name=n",
         "--export", "vhost-user-scsi,id=hba0,addr.type=unix,addr.path=hba0.sock,iothread=io0",
         "--device", "scsi-hd,id=d,bus=hba0.0,drive=r,scsi-id=0,lun=0"]
QUERIES = ["query-named-block-nodes", "query-block-exports", "query-scsi-devices", "query-iothreads",
           "query-waits"]
ADDR = {"type": "unix", "path": "e.sock"}
GENERIC, NOT_FOUND, NO_DEVICE = "GenericError", "CommandNotFound", "DeviceNotFound"

# A command, its arguments; the class and parts of the text of the error it must give.
REFUSED = [
    ("nope", {}, NOT_FOUND, ["The command nope has not been found"]),
    ("query-version", {"x": 1}, GENERIC, ["Parameter 'x' is unexpected"]),
    ("qmp_capabilities", {}, NOT_FOUND, ["Capabilities negotiation is already complete"]),

    ("blockdev-add", {}, GENERIC, ["Parameter 'driver' is missing"]),
    ("blockdev-add", {"driver": 1}, GENERIC, ["Invalid parameter type for 'driver', expected: string"]),
    ("blockdev-add", {"driver": "nul-co", "node-name": "x"}, GENERIC,
     ["Parameter 'driver' does not accept value 'nul-co'", "'null-co'"]),
    ("blockdev-add", {"driver": "null-co"}, GENERIC, ["node-name"]),
    ("blockdev-add", {"driver": "null-co", "node-name": "n"}, GENERIC,
     ["Duplicate nodes with node-name='n'"]),
    ("blockdev-add", {"driver": "null-co", "node-name": "x", "size": "1"}, GENERIC,
     ["Invalid parameter type for 'size', expected: integer"]),
    ("blockdev-add", {"driver": "null-co", "node-name": "x", "read-only": "on"}, GENERIC,
     ["Invalid parameter type for 'read-only', expected: boolean"]),
    ("blockdev-add", {"driver": "null-co", "node-name": "x", "node_nmae": "y"}, GENERIC,
     ["Parameter 'node_nmae' is unexpected; did you mean 'node-name'?"]),
    ("blockdev-add", {"driver": "file", "node-name": "x", "filename": "nowhere"}, GENERIC,
     ["Could not open 'nowhere': No such file or directory"]),
    ("blockdev-add", {"driver": "raw", "node-name": "x", "file": "y"}, GENERIC, ["'y'"]),
    ("blockdev-add", {"driver": "raw", "node-name": "x", "file": {"driver": "file"}}, GENERIC,
     ["filename' is missing"]),
    ("blockdev-del", {}, GENERIC, ["Parameter 'node-name' is missing"]),
    ("blockdev-del", {"node-name": 1}, GENERIC,
     ["Invalid parameter type for 'node-name', expected: string"]),
    ("blockdev-del", {"node-name": "zz"}, GENERIC, ["Failed to find node with node-name='zz'"]),
    ("blockdev-del", {"node-name": "r"}, GENERIC, ["r is in use by device 'd'"]),
    ("blockdev-del", {"node-name": "f"}, GENERIC, ["f is in use by node 'r'"]),

    ("object-add", {"id": "x"}, GENERIC, ["Parameter 'qom-type' is missing"]),
    ("object-add", {"qom-type": "secret", "id": "x"}, GENERIC,
     ["Parameter 'qom-type' does not accept value 'secret', only 'iothread'"]),
    ("object-add", {"qom-type": "iothread"}, GENERIC, ["Parameter 'id' is missing"]),
    ("object-add", {"qom-type": "iothread", "id": "io0"}, GENERIC, ["'io0' exists already"]),
    ("object-add", {"qom-type": "iothread", "id": "x", "poll-max-ns": "1"}, GENERIC,
     ["Invalid parameter type for 'poll-max-ns', expected: integer"]),
    ("object-del", {"id": "zz"}, GENERIC, ["object 'zz' not found"]),
    ("object-del", {"id": "io0"}, GENERIC, ["'io0' is in use", "'hba0'"]),
    ("qom-get", {"path": "/objects/zz", "property": "poll-max-ns"}, NO_DEVICE,
     ["Device '/objects/zz' not found"]),
    ("qom-get", {"path": "/objects/io0", "property": "pool"}, GENERIC,
     ["Property 'iothread.pool' not found"]),
    ("qom-set", {"path": "/objects/io0", "property": "poll-max-ns", "value": "1"}, GENERIC,
     ["Invalid parameter type for 'poll-max-ns', expected: integer"]),
    ("qom-set", {"path": "/objects/io0", "property": "poll-max-ns", "value": -1}, GENERIC,
     ["poll-max-ns", "-1"]),
    ("qom-set", {"path": "/objects/io0", "property": "type", "value": "x"}, GENERIC, ["read-only"]),
    ("qom-list", {"path": "/machine"}, NO_DEVICE, ["Device '/machine' not found"]),

    ("block-export-add", {"id": "e"}, GENERIC, ["Parameter 'type' is missing"]),
    ("block-export-add", {"type": "nbd", "id": "e"}, GENERIC,
     ["Parameter 'type' does not accept value 'nbd'"]),
    ("block-export-add", {"type": "vhost-user-scsi", "id": "e"}, GENERIC, ["'addr' is missing"]),
    ("block-export-add", {"type": "vhost-user-scsi", "id": "e", "addr": {"type": "unix"}}, GENERIC,
     ["addr.path"]),
    ("block-export-add", {"type": "vhost-user-scsi", "id": "e", "addr": {"type": "inet"}}, GENERIC,
     ["'addr.type' does not accept value 'inet'", "'unix'"]),
    ("block-export-add", {"type": "vhost-user-scsi", "id": "hba0", "addr": ADDR}, GENERIC, ["'hba0'"]),
    ("block-export-add", {"type": "vhost-user-scsi", "id": "0e", "addr": ADDR}, GENERIC, ["'0e'"]),
    ("block-export-add", {"type": "vhost-user-scsi", "id": "e", "addr": ADDR, "iothread": "io9"},
     GENERIC, ["io9"]),
    ("block-export-add", {"type": "vhost-user-scsi", "id": "e", "addr": ADDR,
                          "iothread": ["io0", "io9"]}, GENERIC, ["io9"]),
    ("block-export-add", {"type": "vhost-user-scsi", "id": "e", "addr": ADDR, "num-queues": 65536},
     GENERIC, ["num-queues", "65536"]),
    ("block-export-add", {"type": "vhost-user-scsi", "id": "e", "addr": ADDR, "node-name": "n"},
     GENERIC, ["Parameter 'node-name' is not supported"]),
    ("block-export-del", {"id": "zz"}, GENERIC, ["Export 'zz' is not found"]),
    ("block-export-del", {"id": "hba0"}, GENERIC, ["'hba0'", "'d'"]),
    ("block-export-del", {"id": "hba0", "mode": "soft"}, GENERIC,
     ["Parameter 'mode' does not accept value 'soft', only 'safe', 'hard'"]),

    ("device_add", {"id": "e"}, GENERIC, ["Parameter 'driver' is missing"]),
    ("device_add", {"driver": "scsi-hdd", "id": "e"}, GENERIC, ["'scsi-hdd'"]),
    ("device_add", {"driver": "scsi-hd", "id": "e", "bus": "hba9.0", "drive": "n"}, GENERIC,
     ["hba9.0"]),
    ("device_add", {"driver": "scsi-hd", "id": "e", "bus": "hba0.0"}, GENERIC, ["drive"]),
    ("device_add", {"driver": "scsi-hd", "id": "e", "bus": "hba0.0", "drive": "zz"}, GENERIC, ["'zz'"]),
    ("device_add", {"driver": "scsi-hd", "id": "d", "bus": "hba0.0", "drive": "n"}, GENERIC, ["'d'"]),
    ("device_add", {"driver": "scsi-hd", "id": "e", "bus": "hba0.0", "drive": "r"}, GENERIC,
     ["'r'", "'d'"]),
    ("device_add", {"driver": "scsi-hd", "id": "e", "bus": "hba0.0", "drive": "n", "scsi-id": 0,
                    "lun": 0}, GENERIC, ["lun", "'d'"]),
    ("device_add", {"driver": "scsi-hd", "id": "e", "bus": "hba0.0", "drive": "n", "scsi-id": 256},
     GENERIC, ["scsi-id", "256"]),
    ("device_add", {"driver": "scsi-hd", "id": "e", "bus": "hba0.0", "drive": "n", "lun": "1"},
     GENERIC, ["Invalid parameter type for 'lun', expected: integer"]),
    ("device_add", {"driver": "scsi-hd", "id": "e", "bus": "hba0.0", "drive": "n", "seral": "x"},
     GENERIC, ["Parameter 'seral' is unexpected; did you mean 'serial'?"]),
    ("device_del", {"id": "zz"}, NO_DEVICE, ["Device 'zz' not found"]),
    ("device_del", {}, GENERIC, ["Parameter 'id' is missing"]),
]


def state(qmp):
    return [qmp(query) for query in QUERIES]


def test_bad_input_names_the_culprit_and_changes_nothing():
    image("a.img")
    wrong = []
    with Daemon(*SETUP) as daemon:
        qmp = Qmp()
        before = state(qmp)
        for command, arguments, kind, parts in REFUSED:
            try:
                found = qmp.error(command, arguments)
            except AssertionError as why:
                found = ("success", str(why))
            if found[0] != kind or not all(part in found[1] for part in parts) or \
               state(qmp) != before or qmp.events:
                wrong.append("%s %s\n  wanted %s %s\n  found  %s\n  %s" % (
                    command, json.dumps(arguments), kind, parts, found,
                    "" if state(qmp) == before else "and something has changed"))
        equal(os.path.exists("e.sock"), False)
        fds = len(os.listdir("/proc/%d/fd" % daemon.child.pid))
        for command, arguments, _, _ in REFUSED:
            qmp.raw({"execute": command, "arguments": arguments})
        until(lambda: len(os.listdir("/proc/%d/fd" % daemon.child.pid)) == fds, "no descriptor lost")
    if wrong:
        raise AssertionError("\n".join(wrong))


def test_locked_by_another_process():
    image("a.img")
    os.mkdir("other")
    with Daemon(*SETUP):
        os.chdir("other")
        with Daemon("--export", "vhost-user-scsi,id=hba1,addr.type=unix,addr.path=hba1.sock"):
            qmp = Qmp()
            reply = qmp.raw({"execute": "blockdev-add", "arguments": {
                "driver": "file", "node-name": "f", "filename": "../a.img"}})
            if "error" not in reply:  # the lock is taken by whoever writes: the device
                reply = qmp.raw({"execute": "device_add", "arguments": {
                    "driver": "scsi-hd", "id": "x", "bus": "hba1.0", "drive": "f"}})
                equal(qmp("query-scsi-devices"), [])
            contains(reply["error"]["desc"], "lock", "a.img")
        os.chdir("..")


MALFORMED = [
    ('{"a":}', "JSON parse error"), ("foo\n", "JSON parse error"), ("}", "JSON parse error"),
    ('{"a": 1, "a": 2}', "JSON parse error"), ('{"a": "x\n', "JSON parse error"),
    (b'{"execute\xff', "JSON parse error"), ("[1]", "QMP input must be a JSON object"),
    ("12\n", "QMP input must be a JSON object"), ('{"foo": 1}', "QMP input member 'foo' is unexpected"),
    ('{"execute": 1}', "QMP input member 'execute' must be a string"),
    ('{"execute": "quit", "arguments": []}', "QMP input member 'arguments' must be an object"),
    ('{"execute": "quit", "exec-oob": "quit"}', "QMP input member 'exec-oob' is unexpected"),
    ('{"arguments": {}}', "QMP input lacks member 'execute'"), ("[" * 70 + "]" * 70, "nesting"),
    ('{"execute": "' + (1 << 20) * "x" + '"}', "too many bytes"),
]


def test_malformed_messages():
    with Daemon():
        qmp = Qmp()
        for text, part in MALFORMED:
            reply = qmp.raw(text)
            equal(reply["error"]["class"], GENERIC, text[:80])
            contains(reply["error"]["desc"], part)
            equal(qmp.raw('{"execute": "query-waits", "id": 1}'), {"return": [], "id": 1}, text[:80])


def test_negotiation():
    with Daemon():
        qmp = Qmp(negotiate=False)
        equal(sorted(qmp.greeting["QMP"]), ["capabilities", "version"])
        equal(qmp.greeting["QMP"]["capabilities"], ["oob"])
        equal(sorted(qmp.greeting["QMP"]["version"]), ["package", "qemu"])
        for command in ("query-version", "nope", "quit"):
            equal(qmp.error(command, {}), (NOT_FOUND, "Expecting capabilities negotiation with "
                                                      "'qmp_capabilities'"))
        contains(qmp.error("qmp_capabilities", {"enable": ["tls"]})[1], "'tls'", "'oob'")
        qmp("qmp_capabilities", enable=["oob"])
        equal(qmp.raw({"exec-oob": "query-waits", "id": {"a": [1]}}), {"return": [], "id": {"a": [1]}})
        contains(qmp.raw({"exec-oob": "blockdev-add"})["error"]["desc"],
                 "The command blockdev-add does not support OOB")


def test_answers_come_in_order():
    with Daemon():
        qmp = Qmp()
        count = 300
        qmp.send("".join(json.dumps({"execute": command, "id": i, "arguments": arguments})
                         for i in range(count) for command, arguments in [
                             [("object-add", {"qom-type": "iothread", "id": "t"}),
                              ("query-iothreads", {}), ("object-del", {"id": "t"})][i % 3]]))
        for i in range(count):
            reply = qmp.reply()
            equal(reply["id"], i)
            if i % 3 == 1:
                equal([t["id"] for t in reply["return"]], ["t"])
            else:
                equal(reply["return"], {})


def test_clients_are_independent_and_all_hear_events():
    with Daemon(*SETUP[:2], *SETUP[6:10]):
        clients = [Qmp() for _ in range(8)]
        silent = Qmp(negotiate=False)
        clients[0]("device_add", driver="scsi-hd", id="x", bus="hba0.0", drive="n")
        clients[1]("device_del", id="x")
        for qmp in clients:
            event = qmp.wait_event("DEVICE_DELETED", device="x")
            equal(sorted(event), ["data", "event", "timestamp"])
            equal(sorted(event["timestamp"]), ["microseconds", "seconds"])
            equal(sorted(event["data"]), ["device", "path"])
        silent.socket.settimeout(0.1)
        try:
            raise AssertionError("told before negotiation: %r" % silent.read())
        except socket.timeout:
            pass


def test_as_many_clients_as_promised():
    with Daemon():
        clients = [Qmp() for _ in range(64)]
        extra = Qmp.__new__(Qmp)
        try:
            Qmp.__init__(extra)
            raise AssertionError("the 65th client was served")
        except (EOFError, AssertionError, BrokenPipeError, ConnectionResetError):
            contains(extra.greeting["error"]["desc"], "64 clients")
        clients.pop().close()
        time.sleep(0.1)
        clients.append(Qmp())
        for qmp in clients:
            equal(qmp("query-waits"), [])


def test_a_client_that_only_sends_and_closes_gets_its_answers():
    with Daemon():
        plain = socket.socket(socket.AF_UNIX)
        plain.connect("mon.sock")
        plain.sendall(b"{'execute': 'qmp_capabilities'}\n{'execute': 'object-add', 'arguments': "
                      b"{'qom-type': 'iothread', 'id': 't'}}\n{'execute': 'query-iothreads'}\n")
        plain.shutdown(socket.SHUT_WR)
        lines = plain.makefile("rb").readlines()
        equal(len(lines), 4)
        equal(json.loads(lines[3])["return"][0]["id"], "t")


def test_device_life():
    image("a.img")
    with Daemon(*SETUP):
        qmp = Qmp()
        equal([(d["id"], d["type"], d["bus"], d["channel"], d["scsi-id"], d["lun"], d["node-name"])
               for d in qmp("query-scsi-devices")], [("d", "scsi-hd", "hba0.0", 0, 0, 0, "r")])
        qmp("device_del", id="d")
        event = qmp.wait_event("DEVICE_DELETED", device="d")
        contains(event["data"]["path"], "d")
        equal(qmp("query-scsi-devices"), [])
        qmp("device_add", driver="scsi-hd", id="d", bus="hba0.0", drive="r")  # id, address, node are free
        qmp("device_del", id="d")
        qmp.wait_event("DEVICE_DELETED", device="d")
        qmp("blockdev-del", node_name="r")
        qmp("blockdev-del", node_name="f")
        qmp("block-export-del", id="hba0")
        qmp.wait_event("BLOCK_EXPORT_DELETED", id="hba0")
        qmp("object-del", id="io0")
        equal([qmp(query) for query in QUERIES[1:]], [[], [], [], []])


def test_a_hard_delete_unplugs_and_tells():
    image("a.img")
    with Daemon(*SETUP):
        qmp = Qmp()
        qmp("device_add", driver="scsi-hd", id="e", bus="hba0.0", drive="n")
        qmp("block-export-del", id="hba0", mode="hard")
        names = []
        while "BLOCK_EXPORT_DELETED" not in names:
            while not qmp.events:
                qmp.events.append(qmp.read())
            event = qmp.events.pop(0)
            names.append(event["event"])
        equal(names, ["DEVICE_DELETED", "DEVICE_DELETED", "BLOCK_EXPORT_DELETED"])
        equal(os.path.exists("hba0.sock"), False)
        qmp("block-export-add", type="vhost-user-scsi", id="hba0", addr={"type": "unix",
                                                                         "path": "hba0.sock"})


def test_polling_is_set_at_run_time():
    with Daemon("--object", "iothread,id=io0,poll-max-ns=5000"):
        qmp = Qmp()
        equal(qmp("qom-get", path="/objects/io0", property="poll-max-ns"), 5000)
        qmp("qom-set", path="/objects/io0", property="poll-max-ns", value=0)
        thread = qmp("query-iothreads")[0]
        equal((thread["id"], thread["poll-max-ns"]), ("io0", 0))
        equal(os.path.isdir("/proc/self/task"), True)
        for member in ("thread-id", "poll-grow", "poll-shrink", "aio-max-batch"):
            equal(isinstance(thread[member], int), True, member)
        equal(qmp("qom-get", path="io0", property="type"), "iothread")
        contains(json.dumps(qmp("qom-list", path="/objects")), '"io0"', "child<iothread>")


def test_quit_answers_first():
    daemon = Daemon()
    qmp = Qmp()
    equal(qmp("quit"), {})
    try:
        raise AssertionError("one more message: %r" % qmp.read())
    except EOFError:
        pass
    equal(daemon.wait(), 0)


def test_a_command_that_hangs_hangs_its_own_connection_only():
    os.mkfifo("pipe")
    daemon = Daemon("--shutdown-timeout", "1")
    hung, other, oob = Qmp(), Qmp(), Qmp(oob=True)
    for qmp in (hung, oob):
        qmp.send({hung: "", oob: " "}[qmp] + json.dumps({"execute": "blockdev-add", "arguments": {
            "driver": "file", "filename": "pipe", "read-only": True,
            "node-name": "h" if qmp is hung else "o"}}))
    hung.send('{"execute": "query-waits", "id": 1}')
    equal(oob.raw({"exec-oob": "query-named-block-nodes", "id": 2}), {"return": [], "id": 2})
    other("blockdev-add", driver="null-co", node_name="n")
    hung.socket.settimeout(0.2)
    try:
        raise AssertionError("answered out of order: %r" % hung.read())
    except socket.timeout:
        pass
    other("quit")
    equal(daemon.wait(), 1)
    contains(daemon.log(), "giving up: not everything has ended within 1 s")


def test_every_command_of_the_tables_answers():
    """Nobody forgot to register a handler: each command runs, or says what it lacks."""
    with Daemon():
        qmp = Qmp()
        names = [c["name"] for c in qmp("query-commands")]
        for wanted in ("object-add", "object-del", "blockdev-add", "blockdev-del", "block-export-add",
                       "block-export-del", "query-block-exports", "query-named-block-nodes",
                       "query-version", "query-commands", "qom-get", "qom-set", "quit", "device_add",
                       "device_del", "query-iothreads", "query-scsi-devices", "query-waits"):
            equal(wanted in names, True, wanted)
        for name in names:
            if name != "quit":
                reply = qmp.raw({"execute": name, "arguments": {}})
                equal(len({"return", "error"} & set(reply)), 1, name)


harness.main(globals())
