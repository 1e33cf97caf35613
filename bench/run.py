#!/usr/bin/env python3
"""run.py [--rows GLOB] [--list] -- measures the rows of `make bench`, prints a table and writes
build/bench.json. Exit status 0 whatever the ratios; 2: there is nothing to measure with.

Every row is measured BENCH_REPEATS (5) times in turn with its peers, each time for BENCH_SECONDS (2).
BENCH_DIR (the build folder) holds the 1 GiB image; it should be on a disk, not in memory.
BENCH_CAISSON (build/caisson) is the program to measure, BENCH_OUT (build/bench.json) where results go."""
import argparse
import fnmatch
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import engine  # noqa: E402
import block_rows  # noqa: E402
import rt_rows  # noqa: E402
import scsi_rows  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FAMILIES = (rt_rows, block_rows, scsi_rows)


class Config:
    def __init__(self):
        build = os.path.join(ROOT, os.environ.get("BUILD", "build"))
        self.caisson = os.environ.get("BENCH_CAISSON", os.path.join(build, "caisson"))
        self.out = os.environ.get("BENCH_OUT", os.path.join(build, "bench.json"))
        self.image = os.path.join(os.environ.get("BENCH_DIR", build), "bench.img")
        self.seconds = float(os.environ.get("BENCH_SECONDS", "2"))
        self.repeats = max(1, int(os.environ.get("BENCH_REPEATS", "5")))


def chosen_groups(config, pattern):
    for family in FAMILIES:
        for group in family.groups(config):
            group.rows = [row for row in group.rows if fnmatch.fnmatch(row.name, pattern)]
            group.wanted = {name for row in group.rows for name in (row.contestant, row.peer) if name}
            if group.rows:
                yield group


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", default="*", help="only rows that match this glob")
    parser.add_argument("--list", action="store_true", help="print the rows' names")
    arguments = parser.parse_args()
    config = Config()
    groups = list(chosen_groups(config, arguments.rows))
    if arguments.list:
        print("\n".join(row.name for group in groups for row in group.rows))
        return 0
    if not groups:
        print(f"bench: no row matches '{arguments.rows}' (--list names them)", file=sys.stderr)
        return 2
    if not os.access(config.caisson, os.X_OK):
        print(f"bench: {config.caisson} is not there: build it first", file=sys.stderr)
        return 2
    cpu, kernel = engine.machine()
    results = []
    for group in groups:
        for result in engine.measure_group(group):
            results.append({**result, "cpu": cpu, "kernel": kernel})
            print(f"  {result['row']}: {engine.number(result['value'])} {result['unit']}"
                  f" ({result['verdict']})", file=sys.stderr, flush=True)
    report = {"cpu": cpu, "kernel": kernel, "cpus": os.cpu_count(), "seconds": config.seconds,
              "repeats": config.repeats, "spread": "IQR", "rows": results}
    with open(config.out, "w", encoding="utf-8") as out:
        json.dump(report, out, indent=1)
        out.write("\n")
    print(f"\n{cpu}, {os.cpu_count()} CPUs, Linux {kernel}; median of {config.repeats} x"
          f" {config.seconds:g} s, spread is the interquartile range\n")
    print("\n".join(engine.table(results)))
    print(f"\n{len(results)} rows, in {config.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
