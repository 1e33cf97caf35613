#!/usr/bin/env python3
"""layers [ROOT]: who may include whom, as LAYERS says.

  layer      a source includes only headers of its own layer and of those LAYERS names after its arrow
  private    x_int.h never leaves its directory (a layer's unit tests and explorations may see it)
  order      LAYERS itself points down only, and names every folder of src/
"""
import re
import sys
from ctext import Findings, blank, files, root_of

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def read_layers(root, findings):
    may, order = {}, []
    for number, line in enumerate((root / "LAYERS").read_text().splitlines(), 1):
        if match := re.match(r"(\w+)\s*->\s*(.*)", line):
            may[match[1]] = match[2].split("//")[0].split()
            order.append((number, match[1]))
    names = [name for _, name in order]
    for index, (number, name) in enumerate(order):
        for below in may[name]:
            if below not in names[index + 1:]:
                findings.add("order", "LAYERS", number, "%s -> %s does not point down" % (name, below))
    for folder in sorted(path.name for path in (root / "src").iterdir() if path.is_dir()):
        if folder not in may:
            findings.add("order", "LAYERS", 1, "src/%s/ has no line" % folder)
    return may


def check_file(root, path, may, findings):
    text = blank(path.read_text(), keep_strings=True)
    parts = path.relative_to(root).parts
    layer = parts[1] if parts[0] == "src" else None
    for match in INCLUDE.finditer(text):
        header = match[1]
        line = text.count("\n", 0, match.start(1)) + 1
        target = (root / "src" / header) if (root / "src" / header).exists() else path.parent / header
        if not target.exists():
            continue
        target = target.resolve()
        if root / "src" not in target.parents:
            continue
        theirs = target.relative_to(root / "src").parts[0]
        if layer and theirs != layer and theirs not in may.get(layer, ()):
            findings.add("layer", path, line, "%s/ may not include %s" % (layer, header), header)
        if header.endswith("_int.h") and target.parent != path.parent:
            test_of = parts[0] == "test" and (theirs in parts or "explore" in parts)
            if not test_of:
                findings.add("private", path, line, "%s stays in its directory" % header, header)


def main(arguments):
    root = root_of(arguments)
    findings = Findings(root, ("layer", "private", "order"))
    may = read_layers(root, findings)
    for path in files(root, ("src", "sim", "test", "bench"), (".c", ".h")):
        check_file(root, path, may, findings)
    return findings.finish()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
