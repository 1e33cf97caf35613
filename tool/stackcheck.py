#!/usr/bin/env python3
"""stackcheck [--gcc FOLDER] [--clang FOLDER] [ROOT]: do coroutines fit on their stacks?

Frame sizes come from gcc (-fcallgraph-info=su, written beside the objects of its build), calls from the IR
of all units (tool/callgraph.py), so calls through tables are followed too. What a coroutine may use is

    frames down to the first driver + GRAPH_DEPTH_MAX x (one driver down to the next) + the last driver's

and must stay under half of CO_STACK_BYTES; the other half is for what is not counted exactly: library
functions (estimated below), the frame of a signal.

  depth       the sum above
  recursion   a function that reaches itself other than through a driver's table
  unbounded   a frame whose size is not constant (alloca, arrays of variable length)
"""
import os
import re
import sys
from ctext import Findings, files, root_of
import callgraph
import ctxcheck

DRIVER = "%struct.blk_driver"
LIBRARY_BYTES = 256
LIBRARY = {"printf": 2048, "fprintf": 2048, "vsnprintf": 2048, "snprintf": 2048, "vfprintf": 2048,
           "json_dumps": 1024, "json_dumpb": 1024, "json_loadb": 2048, "json_pack": 1024,
           "json_unpack": 1024, "strerror": 512}
NEVER = float("-inf")


def constant(root, name, default=None):
    for path in files(root, ("src",), (".h",)):
        if match := re.search(r"\b(?:\w+_)?%s = ([^,;}\n/]+)" % name, path.read_text()):
            return eval(match[1], {"__builtins__": {}})   # a constant of ours: 64 << 10
    return default


class Frames:
    """Bytes of each function's frame."""

    def __init__(self, root, build, findings):
        self.bytes = {}
        found = False
        for base, _, names in os.walk(build):
            for name in names:
                if name.endswith(".ci") and "/src/" in base + "/":
                    found = True
                    self.read(root, build, os.path.join(base, name), findings)
        if not found:
            sys.exit("stackcheck: no .ci files in %s: build with gcc and -fcallgraph-info=su" % build)

    def read(self, root, build, path, findings):
        with open(path) as file:
            text = file.read()
        sizes = {}
        for title, label in re.findall(r'node: \{ title: "([^"]+)" label: "([^"]+)"', text):
            match = re.search(r"\\n(\d+) bytes \(([^)]+)\)", label)
            if not match:
                continue
            ident = self.ident(root, build, title)
            base, _, clone = ident.partition(".c:")[2].partition(".") if ".c:" in ident else \
                ident.partition(".")
            plain = (ident.partition(".c:")[0] + ".c:" if ".c:" in ident else "") + base
            part = "part" in clone
            have = sizes.setdefault(plain, [0, 0])
            have[part] = max(have[part], int(match[1]))
            if match[2] == "dynamic":
                findings.add("unbounded", plain.split(":")[0] if ":" in plain else path, 1,
                             "%s() has a frame of variable size" % base, base)
        for ident, (whole, part) in sizes.items():
            self.bytes[ident] = max(self.bytes.get(ident, 0), whole + part)

    def ident(self, root, build, title):
        path, colon, name = title.rpartition(":")
        if not colon:
            return title
        return "%s:%s" % (os.path.relpath(os.path.join(build, path), root), name)


class Depth:
    def __init__(self, graph, checker, frames, findings):
        self.graph, self.checker, self.frames, self.findings = graph, checker, frames, findings
        self.callbacks = {}
        self.edges = {ident: self.edges_of(ident) for ident in graph.functions}
        self.memo, self.reported = {}, set()

    def edges_of(self, ident):
        function = self.graph.functions[ident]
        edges = [edge for edge, _ in self.checker.edges[ident]]
        for callee, arguments, _ in function.calls:          # a callback runs on top of who calls it
            for index, origins in enumerate(arguments):
                for origin in origins:
                    if origin[0] == "fn" and ("called",) in self.checker.argument_sinks(
                            callee, index, self.checker.sinks):
                        for target in self.checker.targets(callee):
                            self.callbacks.setdefault(target, set()).add(origin)
        return edges

    def children(self, node):
        if node[0] == "fn":
            return list(self.edges.get(node[1], ())) + sorted(self.callbacks.get(node[1], ()))
        return self.checker.next_of(node)

    def cost(self, node):
        if node[0] != "fn":
            return 0
        if node[1] in self.graph.functions:
            return self.frames.bytes.get(node[1], 0) + (8 if node[1] in self.frames.bytes else 0)
        name = node[1]
        return 0 if name in self.checker.ours else LIBRARY.get(name, LIBRARY_BYTES)

    def is_driver(self, node):
        return node[0] == "slot" and node[1][0] == DRIVER

    def deepest(self, node, to_driver, trail=()):
        """(bytes, path) of the worst way from @node to a leaf, or, @to_driver, to a driver's table."""
        if self.is_driver(node):
            return (0, (node,)) if to_driver else (NEVER, ())
        if node in trail:
            self.recursion(trail[trail.index(node):] + (node,))
            return NEVER, ()
        key = (node, to_driver)
        if key not in self.memo:
            below, path = (NEVER, ()) if to_driver else (0, ())
            for child in self.children(node):
                bytes_, way = self.deepest(child, to_driver, trail + (node,))
                if bytes_ > below:
                    below, path = bytes_, way
            self.memo[key] = (self.cost(node) + below, (node,) + path)
        return self.memo[key]

    def recursion(self, cycle):
        names = [self.checker.name_of(node) for node in cycle]
        ids = [node[1] for node in cycle if node[0] == "fn"]
        for ident in ids:                                     # one line in allow.txt breaks the cycle
            function = self.graph.functions[ident]
            if self.findings.allow.covers("recursion", function.unit, function.name):
                return
        key = frozenset(ids)
        if key not in self.reported:
            self.reported.add(key)
            function = self.graph.functions[ids[0]]
            self.findings.add("recursion", function.unit, function.line, " -> ".join(names),
                              function.name)

    def worst(self, nodes, to_driver):
        return max((self.deepest(node, to_driver) for node in nodes), default=(NEVER, ()),
                   key=lambda found: found[0])

    def show(self, path):
        return " -> ".join("%s %s" % (self.checker.name_of(node), int(self.cost(node)))
                           for node in path if self.cost(node) or node[0] != "fn")


def check(root, graph, frames_of):
    findings = Findings(root, ("depth", "recursion", "unbounded"))
    scratch = Findings(root, ())
    checker = ctxcheck.Checker(root, graph, scratch)
    depth = Depth(graph, checker, frames_of(findings), findings)
    sys.setrecursionlimit(10000)
    roots = [("fn", ident) for ident in sorted(graph.functions) if "ctx:co" in graph.label(ident)]
    drivers = sorted({("fn", ident) for key, slot in graph.slots.items() if key[0] == DRIVER
                      for ident, _ in slot.functions})
    stack = constant(root, "CO_STACK_BYTES")
    levels = constant(root, "DEPTH_MAX", 1)
    leaf, leaf_path = depth.worst(roots, False)
    total, text = leaf, "the deepest call without a driver needs %d: %s" % (leaf, depth.show(leaf_path))
    if drivers:
        first, first_path = depth.worst(roots, True)
        level, level_path = depth.worst(drivers, True)
        last, last_path = depth.worst(drivers, False)
        level = max(level, 0)
        deep = max(first, 0) + (levels - 1) * level + last
        print("down to a driver %d: %s" % (first, depth.show(first_path)))
        print("from driver to driver %d, at most %d times: %s" % (level, levels,
                                                                 depth.show(level_path)))
        print("the last driver %d: %s" % (last, depth.show(last_path)))
        if deep > total:
            total, text = deep, "%d + %d x %d + %d = %d" % (first, levels - 1, level, last, deep)
    print("%s; half a coroutine's stack is %d" % (text, stack // 2))
    if total > stack // 2:
        findings.add("depth", "src/co/co.h", 1, "coroutines may need %d bytes of %d" %
                     (total, stack // 2), "CO_STACK_BYTES")
    return findings


def main(arguments):
    folders = {"--gcc": None, "--clang": None}
    for option in folders:
        if option in arguments:
            at = arguments.index(option)
            folders[option] = arguments[at + 1]
            del arguments[at:at + 2]
    root = root_of(arguments)
    graph = callgraph.load(str(root), os.path.abspath(folders["--clang"] or str(root / "build-clang")))
    gcc = os.path.abspath(folders["--gcc"] or str(root / "build"))
    return check(root, graph, lambda findings: Frames(str(root), gcc, findings)).finish()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
