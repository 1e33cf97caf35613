"""The same messages to `caisson daemon` and to qemu-storage-daemon: same class of answer, and the words
of the reference at its beginning where the field defines them."""
import json
import os
import shutil
import subprocess

import harness
from harness import Qmp, Skipped, until

REFERENCE = shutil.which("qemu-storage-daemon")
OPTIONS = ["--blockdev", "null-co,node-name=a", "--object", "iothread,id=io0", *harness.MONITOR]


def request(command, **arguments):
    return json.dumps({"execute": command, "id": 7, "arguments": arguments})


# What is sent; True: the reference's text must begin ours, False: only the class must be the same.
MESSAGES = [
    (request("nope"), True), (request("query-version", x=1), True), (request("qmp_capabilities"), True),
    ('{"execute": 1}', True), ('{"foo": 1}', True), ('{"execute": "quit", "foo": 1}', True),
    ('{"arguments": {}}', True), ('{"execute": "quit", "arguments": []}', True), ("[1]", True),
    ("12 ", True), ("foo\n", False), ('{"a":}', False), ('{"a": 1, "a": 2}', False), ("}", False),
    ('{"a": "x\n', False), ('{"exec-oob": "quit"}', True), ("{'execute': 'nope', 'id': 'it\\'s'}", True),
    (request("blockdev-add"), True), (request("blockdev-add", driver="null-co"), True),
    (request("blockdev-add", driver="nullco", node_name="x"), True),
    (request("blockdev-add", **{"driver": "null-co", "node-name": "a"}), True),
    (request("blockdev-add", **{"driver": "null-co", "node-name": "x", "size": "x"}), True),
    (request("blockdev-add", **{"driver": "null-co", "node-name": "x", "xyz": 1}), True),
    (request("blockdev-add", **{"driver": "null-co", "node-name": "0x"}), True),
    (request("blockdev-add", **{"driver": "null-co", "node-name": "x", "cache": 1}), True),
    (request("blockdev-add", **{"driver": "null-co", "node-name": "x", "discard": "x"}), True),
    (request("blockdev-add", **{"driver": "file", "node-name": "x"}), True),
    (request("blockdev-add", **{"driver": "file", "node-name": "x", "filename": "nowhere"}), True),
    (request("blockdev-del"), True), (request("blockdev-del", **{"node-name": 1}), True),
    (request("blockdev-del", **{"node-name": "zz"}), True),
    (request("object-add", id="x"), True), (request("object-add", **{"qom-type": "iothread"}), True),
    (request("object-add", **{"qom-type": "nope", "id": "x"}), True),
    (request("object-add", **{"qom-type": "iothread", "id": "0x"}), True),
    (request("object-add", **{"qom-type": "iothread", "id": "io0"}), False),
    (request("object-add", **{"qom-type": "iothread", "id": "x", "poll-max-ns": "x"}), True),
    (request("object-add", **{"qom-type": "iothread", "id": "x", "poll-max-ns": -1}), False),
    (request("object-del", id="zz"), True),
    (request("qom-get", path="/objects/io0", property="poll-max-ns"), True),
    (request("qom-get", path="/objects/io0", property="nope"), True),
    (request("qom-get", path="/objects/zz", property="x"), True),
    (request("qom-get", path="io0", property="type"), True),
    (request("qom-set", path="/objects/io0", property="poll-max-ns", value="1"), True),
    (request("qom-set", path="/objects/io0", property="poll-max-ns", value=4), True),
    (request("qom-list", path="/zz"), True),
    (request("block-export-add", type="nope", id="e"), True), (request("block-export-add", id="e"), True),
    (request("block-export-del", id="e"), True), (request("query-block-exports"), True),
    (request("quit"), True),
]

# Command lines that must fail in both.
LINES = [
    ["--foo"], ["foo"], ["--blockdev"], ["--blockdev", "node-name=a"], ["--blockdev", "driver=fil"],
    ["--blockdev", "null-co,node-name=a,foo=1"], ["--blockdev", "null-co,node-name=a,size.x=1"],
    ["--blockdev", "null-co,node-name=a,discard=foo"], ["--blockdev", "null-co,node-name"],
    ["--blockdev", "null-co,node-name=a,cache.direct=maybe"], ["--blockdev", "null-co,a..b=1"],
    ["--blockdev", "null-co,a.1=1"], ["--blockdev", "null-co,a.1=1,a.b=2"], ["--blockdev", "null-co,=1"],
    ["--blockdev", "null-co,0a=1"], ["--blockdev", '{"driver"'], ["--blockdev", ""],
    ["--blockdev", '{"driver": "x"} 1'], ["--blockdev", "file,node-name=a,filename=nowhere"],
    ["--object", "iothread"], ["--object", "iothread,id=0io"], ["--object", "nope,id=x"],
    ["--object", "iothread,id=io0,poll-max=3"], ["--export", "nope,id=e"], ["--monitor", "mon"],
    ["--chardev", "nope,id=m"], ["--chardev", "socket,id=m,path=no/where,server=on,wait=off"],
]


def need_reference():
    if REFERENCE is None:
        raise Skipped("there is no qemu-storage-daemon here")


def answers(words):
    """To each message, on a connection of its own: ("return", value) or (class, text)."""
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = []
    try:
        until(lambda: os.path.exists("mon.sock"), "the control socket")
        for text, _ in MESSAGES:
            qmp = Qmp()
            reply = qmp.raw(text)
            error = reply.get("error")
            found.append((error["class"], error["desc"]) if error else ("return", reply["return"]))
            found[-1] += ("id" in reply,)
            qmp.close()
        child.wait(harness.PATIENCE_S)
    finally:
        child.kill()
        child.wait()
    return found


def test_messages():
    need_reference()
    theirs = answers([REFERENCE, *OPTIONS])
    ours = answers([harness.PROGRAM, "daemon", *OPTIONS])
    wrong = []
    for (text, same_words), them, us in zip(MESSAGES, theirs, ours):
        same = them[0] == us[0] and them[2] == us[2] and \
            (not same_words or us[1] == them[1] or us[0] != "return" and us[1].startswith(them[1]))
        if not same:
            wrong.append("%s\n  theirs %s\n  ours   %s" % (text, them, us))
    if wrong:
        raise AssertionError("\n".join(wrong))


def last_words(program, line):
    done = subprocess.run([*program, *line], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=harness.PATIENCE_S)
    first = (done.stderr.splitlines() or [""])[0]
    return done.returncode, first.split(": ", 1)[1] if ": " in first else first


def test_command_lines():
    need_reference()
    wrong = []
    for line in LINES:
        theirs = last_words([REFERENCE], line)
        ours = last_words([harness.PROGRAM, "daemon"], line)
        if theirs[0] != ours[0] or not ours[1].startswith(theirs[1]):
            wrong.append("%s\n  theirs %s\n  ours   %s" % (line, theirs, ours))
    if wrong:
        raise AssertionError("\n".join(wrong))


harness.main(globals())
