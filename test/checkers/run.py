#!/usr/bin/env python3
"""Do the checkers report what is planted, all of it, and nothing else?

Each folder of planted/ is a small tree with violations. A line that must be reported says so:
    // expect: TEXT          on this line, a report that begins with (or contains) TEXT
    // expect-above: TEXT    on the line above      // expect-first: TEXT    on line 1
A report that no line expects is a failure too, so each checker is also shown to keep quiet.
"""
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CLANG = os.environ.get("CLANG", "clang-19")
EXPECT = re.compile(r"expect(-above|-first)?: (.*?)(?= *(?:\*/|-->|//|$))")
passed, failed = 0, 0


def case(name, problems):
    global passed, failed
    passed, failed = passed + (not problems), failed + bool(problems)
    print("%-7s %s" % ("FAILED" if problems else "ok", name))
    for problem in problems:
        print("        " + problem)


def plant(name, folder):
    """A scratch copy of planted/NAME with the real ctx.h."""
    root = pathlib.Path(folder) / name
    shutil.copytree(HERE / "planted" / name, root)
    (root / "src" / "base").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "src" / "base" / "ctx.h", root / "src" / "base")
    return root


def expected(root):
    """[(path, line, text)] that the planted tree asks for."""
    found = []
    for path in sorted(root.rglob("*")):
        if path.suffix not in (".c", ".h", ".md") and path.name != "LAYERS":
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for part in re.split(r"(?=expect(?:-above|-first)?: )", line)[1:]:
                match = EXPECT.match(part)
                place = {"-above": number - 1, "-first": 1}.get(match[1], number)
                found.append((str(path.relative_to(root)), place, match[2].strip()))
    return found


def compare(wanted, output, whole_file=("dead",)):
    """What is missing and what is too much in lines "PATH:LINE: TEXT"."""
    reports = [(match[1], int(match[2]), match[3]) for match in
               re.finditer(r"^([^\s:]+):(\d+):(?:\d+:)? (.*)$", output, re.M)]
    problems, used = [], set()
    for path, line, text in wanted:
        hits = [report for report in reports if report[0] == path and
                all(part in report[2] for part in text.split(": ")) and
                (report[1] == line or text.startswith(whole_file))]
        used |= set(hits)
        if not hits:
            problems.append("not reported: %s:%d: %s" % (path, line, text))
    problems += ["reported without cause: %s:%d: %s" % report for report in reports
                 if report not in used]
    return problems


def run_tool(arguments, cwd=ROOT):
    done = subprocess.run([sys.executable] + arguments, cwd=cwd, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def add_long_files(root):
    body = "\n".join("    one();" for _ in range(71))
    fits = "\n".join("    one();" for _ in range(70))
    (root / "src/scsi/long.c").write_text(
        "/* long.c -- one function of 70 lines, one of 71. */\nstatic void fits(void)\n{\n" + fits +
        "\n}\nstatic void too_long(void)\n{\n" + body + "\n}\n")
    (root / "src/scsi/many.c").write_text("/* many.c -- 801 lines. expect: file: 801 lines */\n" +
                                          "static int line;\n" * 800)
    return ("src/scsi/long.c", 76, "function: too_long() has 71 lines")


def check_text(scratch):
    root = plant("text", scratch)
    long = add_long_files(root)
    wanted = [item for item in expected(root)] + [long]
    layers = [item for item in wanted if re.match(r"(layer|private|order):", item[2])]
    tidy = [item for item in wanted if item not in layers]
    for tool, share in (("layers", layers), ("tidy", tidy)):
        status, output = run_tool(["tool/%s.py" % tool, str(root)])
        rules = {text.split(":")[0] for _, _, text in share}
        problems = compare(share, output) + ([] if status == 1 else ["exit status %d" % status])
        case("%s reports what is planted (%d lines, %d rules)" % (tool, len(share), len(rules)),
             problems)
    (root / "tool").mkdir()
    (root / "tool/allow.txt").write_text(
        "memory src/scsi/planted.c:memory handed to a library\nmemory src/scsi/absent.c never used\n")
    _, output = run_tool(["tool/tidy.py", str(root)])
    case("a suppression holds for its function", ["not suppressed"] if "strdup()" in output else [])
    case("a suppression that suppresses nothing is an error",
         [] if "suppresses nothing any more: src/scsi/absent.c" in output else [output])
    (root / "tool/allow.txt").write_text("memory src/scsi/planted.c:memory\n")
    status, output = run_tool(["tool/tidy.py", str(root)])
    case("a suppression without a reason is an error",
         [] if status and "needs a reason" in output else [output])


def compile_commands(root, build, compiler):
    build.mkdir(exist_ok=True)
    sources = sorted((root / "src").rglob("*.c"))
    commands = [{"directory": str(root), "file": str(path.relative_to(root)),
                 "command": "%s -Isrc -c %s" % (compiler, path.relative_to(root))} for path in sources]
    (build / "compile_commands.json").write_text(json.dumps(commands))
    return sources


def check_contexts(scratch):
    root = plant("contexts", scratch)
    compile_commands(root, root / "build", CLANG)
    wanted = expected(root)
    status, output = run_tool(["tool/ctxcheck.py", "--build", str(root / "build"), str(root)])
    problems = compare(wanted, output) + ([] if status == 1 else ["exit status %d" % status])
    case("ctxcheck reports what is planted (%d lines)" % len(wanted), problems + (
        [output] if problems else []))


def check_analysis(scratch):
    root = plant("analysis", scratch)
    wanted = expected(root)
    done = subprocess.run([CLANG, "-Isrc", "-Wthread-safety", "-Werror", "-ferror-limit=0",
                           "-fsyntax-only", "src/planted.c"], cwd=root, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    output = "\n".join(line for line in done.stdout.splitlines() if ": note: " not in line)
    case("clang's analysis reports what is planted (%d lines)" % len(wanted),
         compare(wanted, output) + ([] if done.returncode else ["exit status 0"]))


def check_stack(scratch):
    root = plant("stack", scratch)
    build = root / "build"
    compile_commands(root, build, CLANG)
    (build / "src").mkdir()
    subprocess.run(["gcc", "-O1", "-I../src", "-fcallgraph-info=su", "-c", "../src/planted.c",
                    "-o", "src/planted.o"], cwd=build, check=True)
    _, output = run_tool(["tool/stackcheck.py", "--gcc", str(build), "--clang", str(build), str(root)])
    for what, pattern in (
            ("a chain of frames that is too deep", r"^src/co/co.h:1: depth: coroutines may need \d+"),
            ("recursion", r"^src/planted.c:\d+: recursion: (about -> around -> about|around -> about)"),
            ("a frame of variable size", r"unbounded: variable\(\)")):
        case("stackcheck reports " + what,
             [] if re.search(pattern, output, re.M) else output.splitlines())
    problems = [line for line in output.splitlines() if re.search(r"recursion: .*_go", line)]
    case("stackcheck lets drivers recurse through their table", problems)


def check_runner():
    """tool/runtests reads results as it should."""
    loader = importlib.machinery.SourceFileLoader("runtests", str(ROOT / "tool" / "runtests"))
    spec = importlib.util.spec_from_loader("runtests", loader)
    runner = importlib.util.module_from_spec(spec)
    loader.exec_module(runner)
    cmocka = ("[==========] Running 3 test(s).\n[ RUN      ] a\n[       OK ] a\n[ RUN      ] b\n"
              "[  ERROR   ] --- 1 != 2\n[   LINE   ] --- x.c:1: error: Failure!\n[  FAILED  ] b\n"
              "[ RUN      ] c\n[  SKIPPED ] c\n[==========] 3 test(s) run.\n[  PASSED  ] 1 test(s).\n"
              "[  FAILED  ] 1 test(s), listed below:\n[  FAILED  ] b\n\n 1 FAILED TEST(S)\n")
    for what, status, output, want in (
            ("cmocka's cases", 1, cmocka, (1, 1, 1)),
            ("a crash inside a case", -11, "[ RUN      ] a\n[       OK ] a\n[ RUN      ] b\n", (1, 1, 0)),
            ("a crash after the last case", -6, "[ RUN      ] a\n[       OK ] a\n", (1, 1, 0)),
            ("a closing line", 0, "x\n12 passed, 0 failed, 3 skipped\nskipped: no KVM\n", (12, 0, 3)),
            ("a closing line that hides a bad exit", 3, "2 passed, 0 failed, 0 skipped\n", (2, 1, 0)),
            ("a program that ran nothing", 0, "hello\n", (0, 1, 0)),
            ("a skipped program", 77, "skipped: no io_uring\n", (0, 0, 1))):
        tally, _ = runner.tally_of("x", status, output)
        got = (tally.passed, tally.failed, tally.skipped)
        case("runtests counts " + what, [] if got == want else ["%s, not %s" % (got, want)])


def main():
    with tempfile.TemporaryDirectory(prefix="caisson-checkers-") as scratch:
        check_text(scratch)
        check_contexts(scratch)
        check_analysis(scratch)
        check_stack(scratch)
    check_runner()
    print("%d passed, %d failed, 0 skipped" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
