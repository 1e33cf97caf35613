#!/usr/bin/env python3
"""compare.py OLD NEW -- two files of `make bench`, row by row. A difference counts when it is larger than
the two spreads together. Exit status 0; 2: a file cannot be read."""
import json
import sys

HIGHER_IS_BETTER = ("IOPS", "MB/s")


def load(path):
    try:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
        return report, {row["row"]: row for row in report["rows"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"bench-compare: {path}: {error}", file=sys.stderr)
        sys.exit(2)


def verdict(old, new):
    if old["value"] is None or new["value"] is None:
        return "not measured in both"
    change = new["value"] - old["value"]
    if abs(change) <= (old["spread"] or 0) + (new["spread"] or 0):
        return "same"
    return "better" if (change > 0) == new["unit"].startswith(HIGHER_IS_BETTER) else "worse"


def number(value):
    return "-" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def main():
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    (old_report, old), (new_report, new) = load(sys.argv[1]), load(sys.argv[2])
    for key in ("cpu", "kernel", "seconds", "repeats"):
        if old_report.get(key) != new_report.get(key):
            print(f"note: {key} differs: {old_report.get(key)} then, {new_report.get(key)} now")
    width = max(len(name) for name in list(old) + list(new) + ["row"])
    print(f"{'row':{width}}  {'old':>12}  {'new':>12}  {'change':>8}  verdict")
    for name in new:
        if name not in old:
            print(f"{name:{width}}  {'-':>12}  {number(new[name]['value']):>12}  {'':>8}  new")
            continue
        before, after = old[name]["value"], new[name]["value"]
        change = f"{(after - before) / abs(before) * 100:+.1f} %" if before and after is not None else ""
        print(f"{name:{width}}  {number(before):>12}  {number(after):>12}  {change:>8}"
              f"  {verdict(old[name], new[name])}")
    for name in old:
        if name not in new:
            print(f"{name:{width}}  {number(old[name]['value']):>12}  {'-':>12}  {'':>8}  gone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
