"""Rows of the runtime (rt.*): loops, coroutines, timers, watches and reads, each beside a peer that
does the same work: libuv, GLib's main loop, a bare eventfd or cache-line ping-pong, fio.

Cases of one thread that never sleeps are given in CPU time, which what else the machine does is not
in. So is the round trip of two threads on one CPU, where one of them runs all the time."""
import json
import os
import subprocess
from contestants import Fio, Skip
from engine import Group, Row
from scsi_rows import check_direct, leave_cache, make_file

SKIPPED = 77  # exit status of bench-runtime


class Case:
    def __init__(self, program, case, path=None):
        self.command, self.path = [program, case], path

    def run(self, seconds, turn):
        done = subprocess.run(self.command + [str(seconds)] + ([self.path] if self.path else []),
                              capture_output=True, text=True, timeout=120 + 10 * seconds)
        if done.returncode == SKIPPED:
            raise Skip(done.stdout.strip().splitlines()[-1].removeprefix("skipped: "))
        if done.returncode != 0:
            raise Skip(f"{self.command[1]} failed: {done.stderr.strip()[-200:]}")
        return json.loads(done.stdout)


class Once(Case):
    """Takes its time and has no noise: measured in the first turn only."""

    numbers = None

    def run(self, seconds, turn):
        if self.numbers is None:
            self.numbers = super().run(seconds, turn)
        return self.numbers


class RuntimeGroup(Group):
    def __init__(self, config, rows, once=()):
        super().__init__(config)
        self.rows, self.once = rows, once

    def begin(self):
        program = os.path.join(os.path.dirname(self.config.caisson), "bench", "bench-runtime")
        if not os.access(program, os.X_OK):
            raise Skip(f"{program} is not there: build it first")
        for name in sorted(self.wanted):
            self.contestants[name] = (Once if name in self.once else Case)(program, name)


class ReadGroup(Group):
    def __init__(self, config, depth):
        super().__init__(config)
        self.depth = depth
        self.rows = [Row(f"rt.read.qd{depth}", "IOPS", f"read.{depth}", "iops", peer="fio")]

    def begin(self):
        path = make_file(self.config.image)
        check_direct(path)
        leave_cache(path)
        program = os.path.join(os.path.dirname(self.config.caisson), "bench", "bench-runtime")
        self.contestants[f"read.{self.depth}"] = Case(program, f"read.{self.depth}", path)
        try:
            self.contestants["fio"] = Fio(path, True, self.depth, 1)
        except Skip as reason:
            self.skipped["fio"] = str(reason)


def groups(config):
    yield RuntimeGroup(config, [
        Row("rt.co.switch", "ns CPU", "switch", "ns", value_most=5),
        Row("rt.co.wake", "ns CPU", "wake", "ns"),
        Row("rt.co.create", "ns CPU", "create", "ns", value_most=40)])
    yield RuntimeGroup(config, [
        Row("rt.bh.uv", "ns CPU", "bh", "ns", peer="uv.async"),
        Row("rt.bh.glib", "ns CPU", "bh", "ns", peer="glib.source")])
    yield RuntimeGroup(config, [
        Row("rt.wake.pinned", "ns CPU", "ball.pinned", "cpu_ns", peer="bare.eventfd.pinned", ratio_most=1.25),
        Row("rt.wake.pinned.uv", "ns CPU", "ball.pinned", "cpu_ns", peer="uv.ball")])
    yield RuntimeGroup(config, [
        Row("rt.wake.unpinned", "ns", "ball.free", "ns", peer="bare.eventfd.free"),
        Row("rt.co.mutex", "ns", "mutex", "ns", peer="bare.eventfd.free")])
    yield RuntimeGroup(config, [
        Row("rt.wake.polling", "ns", "ball.polling", "ns", peer="bare.line", ratio_most=6)])
    yield RuntimeGroup(config, [
        Row("rt.schedule.8to1", "callbacks/s", "senders", "per_s", peer="uv.senders", ratio_least=3)])
    yield RuntimeGroup(config, [
        Row("rt.timer.100k", "ns CPU", "timer", "ns", peer="uv.timer"),
        Row("rt.timer.100k.glib", "ns CPU", "timer", "ns", peer="glib.timer")])
    yield RuntimeGroup(config, [Row("rt.fd.10k", "ns CPU", "fd", "ns", peer="uv.fd")])
    yield RuntimeGroup(config, [
        Row("rt.allocations", "in steady state", "allocations", "allocations", value_most=0)])
    yield RuntimeGroup(config, [
        Row("rt.idle.calls", "system calls in 10 s", "idle", "system_calls", value_most=0),
        Row("rt.idle.slices", "times run in 10 s", "idle", "slices", value_most=0)], once=("idle",))
    for depth in (1, 32):
        yield ReadGroup(config, depth)
