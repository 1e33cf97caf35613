#!/usr/bin/env python3
"""mutants [PATTERN…]: known bugs, put back one by one; each must be caught by the tests it names.

test/mutants/NAME.patch begins with "# caught-by: TEST…", names of meson tests, and a line that tells the
bug. The tree is copied to build-mutants/, once for each of JOBS workers, where only what the named tests need
is built. A mutant is caught when each named test fails, or takes ten times as long as without it; the tests
pass without it, which is checked first.
"""
import fnmatch
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PLACE = os.path.join(ROOT, "build-mutants")
FOLDER = os.path.join(ROOT, "test", "mutants")
COPIED = ("src", "sim", "test", "bench", "docs", "meson.build", "meson_options.txt", "LAYERS")
JOBS = int(os.environ.get("JOBS", os.cpu_count() or 1))
TIMEOUT_S = 60           # for a test without a mutant
TIMEOUT_MIN_S, TIMEOUT_FACTOR = 10, 10


def run(command, cwd, timeout=None, env=None):
    """(status, output); None for a status means it did not end in time, and was killed with its children."""
    environment = {**os.environ, "CC": "gcc", "GIT_CEILING_DIRECTORIES": PLACE, **(env or {})}
    child = subprocess.Popen(command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             errors="replace", start_new_session=True)
    try:
        output, _ = child.communicate(timeout=timeout)
        return child.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        output, _ = child.communicate()
        return None, output


def must(command, what, cwd):
    status, output = run(command, cwd)
    if status != 0:
        sys.exit("mutants: %s:\n%s" % (what, output[-3000:]))
    return output


def copy_file(source, target):
    """Only what differs, so that the build folder of the last run serves again."""
    with open(source, "rb") as file:
        data = file.read()
    if os.path.exists(target):
        with open(target, "rb") as file:
            if file.read() == data:
                return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "wb") as file:
        file.write(data)


class Worker:
    """One copy of the tree, and its build folder."""

    def __init__(self, number):
        self.tree = os.path.join(PLACE, "%d" % number, "tree")
        self.build = os.path.join(PLACE, "%d" % number, "build")
        os.makedirs(self.tree, exist_ok=True)
        self.copy_tree()
        if not os.path.exists(os.path.join(self.build, "build.ninja")):
            shutil.rmtree(self.build, ignore_errors=True)
            must(["meson", "setup", self.build, self.tree, "-Dwerror=false", "-Doptimization=1"],
                 "meson setup", self.tree)
        must(["ninja", "-C", self.build, "build.ninja"], "meson", self.tree)
        self.tests = self.read_tests()

    def copy_tree(self):
        wanted = set()
        for name in COPIED:
            top = os.path.join(ROOT, name)
            paths = [top] if os.path.isfile(top) else \
                [os.path.join(base, file) for base, _, files in os.walk(top) for file in files]
            for path in paths:
                relative = os.path.relpath(path, ROOT)
                wanted.add(relative)
                copy_file(path, os.path.join(self.tree, relative))
        for base, _, files in os.walk(self.tree):
            for name in files:
                path = os.path.join(base, name)
                if os.path.relpath(path, self.tree) not in wanted:
                    os.unlink(path)

    def read_tests(self):
        def introspect(what):
            return json.loads(must(["meson", "introspect", what, self.build], "introspect", self.tree))
        files = {target["id"]: target["filename"] for target in introspect("--targets")}
        tests = introspect("--tests")
        for test in tests:
            test["targets"] = [os.path.relpath(path, self.build) for ident in test["depends"]
                               for path in files.get(ident, ())]
        return {test["name"]: test for test in tests}

    def make(self, names):
        targets = sorted({target for name in names for target in self.tests[name]["targets"]})
        return run(["ninja", "--quiet", "-C", self.build, "-j", "1"] + targets, self.tree)

    def run_test(self, name, timeout):
        """(passed, output)"""
        test = self.tests[name]
        status, output = run(test["cmd"], test["workdir"] or self.build, timeout, test["env"])
        return status == 0, output

    def try_mutant(self, name, named, durations):
        """"" when caught, else what is wrong."""
        patch = os.path.join(FOLDER, name)
        status, output = run(["git", "apply", "--whitespace=nowarn", patch], self.tree)
        if status != 0:
            return "does not apply: " + output.strip()[-500:]
        try:
            status, output = self.make(named)
            if status != 0:
                return "does not build: " + output[-1000:]
            survived = [test for test in named if self.run_test(
                test, max(TIMEOUT_MIN_S, TIMEOUT_FACTOR * durations[test]))[0]]
            return "survived " + " ".join(survived) if survived else ""
        finally:
            must(["git", "apply", "--whitespace=nowarn", "-R", patch], name + " cannot be taken back",
                 self.tree)


def read_patches(patterns):
    patches = []
    for name in sorted(os.listdir(FOLDER)) if os.path.isdir(FOLDER) else []:
        if name.endswith(".patch") and any(fnmatch.fnmatch(name[:-6], p) for p in patterns or ["*"]):
            with open(os.path.join(FOLDER, name)) as file:
                match = re.match(r"# caught-by:\s*(.+)", file.readline())
            patches.append((name, match[1].split() if match else []))
    return patches


class Run:
    def __init__(self, patches):
        self.patches, self.lock = patches, threading.Lock()
        self.passed = self.failed = 0
        self.durations = {}
        self.workers = [Worker(number) for number in range(max(1, min(JOBS, len(patches))))]
        self.known = self.workers[0].tests
        self.named = sorted({test for _, tests in patches for test in tests if test in self.known})

    def say(self, good, line):
        with self.lock:
            self.passed, self.failed = self.passed + good, self.failed + (not good)
            print(line, flush=True)

    def share(self, items, work):
        """Each item to whichever worker is free."""
        waiting = queue.SimpleQueue()
        for item in items:
            waiting.put(item)

        def serve(worker):
            while True:
                try:
                    item = waiting.get_nowait()
                except queue.Empty:
                    return
                work(worker, item)
        threads = [threading.Thread(target=serve, args=(worker,)) for worker in self.workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def check_green(self, worker, name):
        start = time.monotonic()
        green, output = worker.run_test(name, TIMEOUT_S)
        self.durations[name] = time.monotonic() - start
        if not green:
            self.say(False, "FAILED   %s fails without any mutant\n%s" % (name, output[-2000:]))

    def check_mutant(self, worker, item):
        name, named = item
        start = time.monotonic()
        unknown = [test for test in named if test not in self.known]
        if not named or unknown:
            problem = "no such test: " + " ".join(unknown) if unknown else "names no test"
        else:
            problem = worker.try_mutant(name, named, self.durations)
        self.say(not problem, "%-9s%s by %s, %.1f s%s" % (
            "FAILED" if problem else "caught", name[:-6], " ".join(named), time.monotonic() - start,
            ": " + problem if problem else ""))

    def run(self):
        problems = []

        def make(worker, _):
            status, output = worker.make(self.named)
            if status != 0:
                problems.append(output)
        self.share_all(make)
        if problems:
            sys.exit("mutants: the tree does not build:\n" + problems[0][-3000:])
        self.share(self.named, self.check_green)
        self.share(self.patches, self.check_mutant)

    def share_all(self, work):
        threads = [threading.Thread(target=work, args=(worker, None)) for worker in self.workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def main(patterns):
    patches = read_patches(patterns)
    if not patches:
        print("no mutant in test/mutants/\n0 passed, 1 failed, 0 skipped")
        return 1
    all_of_them = Run(patches)
    all_of_them.run()
    print("%d passed, %d failed, 0 skipped" % (all_of_them.passed, all_of_them.failed))
    return 1 if all_of_them.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
