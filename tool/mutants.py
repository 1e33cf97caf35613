#!/usr/bin/env python3
"""mutants [PATTERN…]: known bugs, put back one by one; each must be caught by the tests it names.

test/mutants/NAME.patch begins with "# caught-by: TEST…", names of meson tests, and a line that tells the bug.
The tree is copied to build-mutants/, where only what the named tests need is built. A mutant is caught when
each named test fails or does not end; the tests pass without it, which is checked first.
"""
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PLACE = os.path.join(ROOT, "build-mutants")
TREE, BUILD = os.path.join(PLACE, "tree"), os.path.join(PLACE, "build")
FOLDER = os.path.join(ROOT, "test", "mutants")
COPIED = ("src", "sim", "test", "bench", "meson.build", "meson_options.txt", "LAYERS")
TIMEOUT_S = int(os.environ.get("MUTANT_S", "60"))
ENV = {**os.environ, "CC": "gcc", "GIT_CEILING_DIRECTORIES": PLACE}


def run(command, timeout=None, cwd=TREE, env=None):
    """(status, output); None for a status means it did not end in time."""
    try:
        done = subprocess.run(command, cwd=cwd, env={**ENV, **(env or {})}, timeout=timeout,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace")
        return done.returncode, done.stdout
    except subprocess.TimeoutExpired as expired:
        return None, (expired.stdout or b"").decode(errors="replace")


def must(command, what, cwd=TREE):
    status, output = run(command, cwd=cwd)
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


def copy_tree():
    wanted = set()
    for name in COPIED:
        top = os.path.join(ROOT, name)
        paths = [top] if os.path.isfile(top) else \
            [os.path.join(base, file) for base, _, files in os.walk(top) for file in files]
        for path in paths:
            relative = os.path.relpath(path, ROOT)
            wanted.add(relative)
            copy_file(path, os.path.join(TREE, relative))
    for base, _, files in os.walk(TREE):
        for name in files:
            path = os.path.join(base, name)
            if os.path.relpath(path, TREE) not in wanted:
                os.unlink(path)


def configure():
    if not os.path.exists(os.path.join(BUILD, "build.ninja")):
        shutil.rmtree(BUILD, ignore_errors=True)
        must(["meson", "setup", BUILD, TREE, "-Dwerror=false", "-Doptimization=1"], "meson setup")
    must(["ninja", "-C", BUILD, "build.ninja"], "meson")
    tests = json.loads(must(["meson", "introspect", "--tests", BUILD], "meson introspect"))
    return {test["name"]: test for test in tests}


def build(tests):
    targets = sorted({os.path.relpath(test["cmd"][0], BUILD) for test in tests})
    return run(["ninja", "-C", BUILD] + targets)


def runs_green(test):
    status, output = run(test["cmd"], TIMEOUT_S, BUILD, test["env"])
    return status == 0, output


def read_patches(patterns):
    patches = []
    for name in sorted(os.listdir(FOLDER)) if os.path.isdir(FOLDER) else []:
        if name.endswith(".patch") and any(fnmatch.fnmatch(name[:-6], p) for p in patterns or ["*"]):
            with open(os.path.join(FOLDER, name)) as file:
                first = file.readline()
            match = re.match(r"# caught-by:\s*(.+)", first)
            patches.append((name, match[1].split() if match else []))
    return patches


def try_mutant(name, named, known):
    """"" when caught, else what is wrong."""
    unknown = [test for test in named if test not in known]
    if not named or unknown:
        return "names no test" if not named else "no such test: " + " ".join(unknown)
    patch = os.path.join(FOLDER, name)
    status, output = run(["git", "apply", "--whitespace=nowarn", patch])
    if status != 0:
        return "does not apply: " + output.strip()[-500:]
    try:
        tests = [known[test] for test in named]
        status, output = build(tests)
        if status != 0:
            return "does not build: " + output[-1000:]
        survived = [test["name"] for test in tests if runs_green(test)[0]]
        return "survived " + " ".join(survived) if survived else ""
    finally:
        must(["git", "apply", "--whitespace=nowarn", "-R", patch], name + " cannot be taken back")


def main(patterns):
    patches = read_patches(patterns)
    if not patches:
        print("no mutant in test/mutants/\n0 passed, 1 failed, 0 skipped")
        return 1
    os.makedirs(TREE, exist_ok=True)
    copy_tree()
    known = configure()
    passed = failed = 0
    named = sorted({test for _, tests in patches for test in tests if test in known})
    status, output = build([known[name] for name in named]) if named else (0, "")
    if status != 0:
        sys.exit("mutants: the tree does not build:\n" + output[-3000:])
    for name in named:
        green, output = runs_green(known[name])
        if not green:
            failed += 1
            print("FAILED  %s fails without any mutant\n%s" % (name, output[-2000:]), flush=True)
    for name, tests in patches:
        start = time.monotonic()
        problem = try_mutant(name, tests, known)
        passed, failed = passed + (not problem), failed + bool(problem)
        print("%-9s%s by %s, %.1f s%s" % ("FAILED" if problem else "caught", name[:-6], " ".join(tests),
                                         time.monotonic() - start, ": " + problem if problem else ""),
              flush=True)
    print("%d passed, %d failed, 0 skipped" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
