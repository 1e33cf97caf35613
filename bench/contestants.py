"""What is measured, ours and others'. A contestant is started once, run many times in turn with the others
of its group, and stopped. run() gives a dict: iops, p50_us, p99_us, cpu_us (per I/O, of the side that is
compared: the back end's process, or fio itself)."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

START_S = 10.0  # how long a daemon may take to listen


class Skip(Exception):
    """Cannot be measured here; the text says why."""


class Daemon:
    """A process that listens at a socket of its own in a scratch directory."""

    def __init__(self, program, arguments, sockets):
        self.directory = tempfile.mkdtemp(prefix="caisson-bench-")
        self.sockets = {name: os.path.join(self.directory, name + ".sock") for name in sockets}
        self.log = open(os.path.join(self.directory, "log"), "w+")
        self.process = subprocess.Popen([program] + arguments(self.sockets), stdout=self.log,
                                        stderr=self.log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_S
        while not all(os.path.exists(path) for path in self.sockets.values()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                text = self.said()
                self.stop()
                raise Skip(f"{os.path.basename(program)} did not start: {text}")
            time.sleep(0.02)

    def said(self):
        self.log.flush()
        self.log.seek(0)
        lines = self.log.read().strip().splitlines()
        return lines[-1] if lines else "no message"

    def is_alive(self):
        return self.process.poll() is None

    def stop(self):
        if self.is_alive():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)


class Driven:
    """A vhost-user back end under our own driver."""

    def __init__(self, caisson, kind, daemon, socket, depth, queues, options=()):
        self.command = [caisson, "bench", kind, daemon.sockets[socket], "--json", "--depth", str(depth),
                        "--queues", str(queues), "--cpu-of", str(daemon.process.pid), *options]
        self.daemon = daemon

    def run(self, seconds, seed):
        done = subprocess.run(self.command + ["--seconds", str(seconds), "--warm-up", "0.3", "--seed",
                                              str(seed)], capture_output=True, text=True)
        if not self.daemon.is_alive():
            raise Skip(f"peer crashed: {self.daemon.said()}")
        if done.returncode != 0:
            raise Skip(done.stderr.strip().splitlines()[0] if done.stderr.strip() else "no report")
        report = json.loads(done.stdout)
        cpu = report["cpu-ns-per-request"]["backend"]
        return {"iops": report["iops"], "p50_us": report["latency-ns"]["p50"] / 1000,
                "p99_us": report["latency-ns"]["p99"] / 1000,
                "cpu_us": None if cpu is None else cpu / 1000,
                "driver_cpu_us": report["cpu-ns-per-request"]["bench"] / 1000}


class Fio:
    """fio with io_uring on the same file: what is left when nobody stands in between."""

    def __init__(self, path, direct, depth, jobs):
        if shutil.which("fio") is None:
            raise Skip("fio is not installed")
        self.command = ["fio", "--name=bench", f"--filename={path}", "--readonly", "--ioengine=io_uring",
                        f"--direct={int(direct)}", "--rw=randread", "--bs=4k", f"--iodepth={depth}",
                        f"--numjobs={jobs}", "--thread", "--group_reporting", "--time_based",
                        "--ramp_time=300ms", "--invalidate=0", "--norandommap",
                        "--output-format=json"]

    def run(self, seconds, seed):
        done = subprocess.run(self.command + [f"--runtime={seconds}", f"--randseed={seed}"],
                              capture_output=True, text=True)
        if done.returncode != 0:
            raise Skip(f"fio: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
        job = json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]
        read = job["read"]
        percentile = read["clat_ns"]["percentile"]
        cpu_us = (job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"] * 1000
        return {"iops": read["iops"], "p50_us": percentile["50.000000"] / 1000,
                "p99_us": percentile["99.000000"] / 1000, "cpu_us": cpu_us / max(read["total_ios"], 1)}


def find_program(name):
    path = shutil.which(name)
    if path is None:
        raise Skip(f"{name} is not installed")
    return path
