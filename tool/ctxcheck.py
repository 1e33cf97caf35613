#!/usr/bin/env python3
"""ctxcheck [--build FOLDER] [ROOT]: does any call path cross an execution context? Works on the IR of all
units together (tool/callgraph.py), so it sees function tables and helpers without a label, which clang's
own analysis does not. A function without a label is transparent: what it reaches, its callers reach.

  path      no way from a labelled function through unlabelled ones to a role it has not:
              any -> nothing else; home -> home; main -> main, home; co -> co, and what else it carries;
              blocking -> everything but co. A function that asserts a role (loop_assert_main() …) has it.
  graph     no way from under a token or a drained section to what must hold neither, nor from under a
            token to what needs a drained section
  slot      a function stored in a labelled member, directly, in a table, or through a parameter of a
            registration function, promises what the member's label says (a main loop is a home, too)
  callback  a function passed to one that calls it must suit whoever passes it (part of path)
  pointer   a call through a pointer that nobody labelled and that cannot be followed

Suppressions: tool/allow.txt, "RULE PATH:FUNCTION reason" (PATH:STRUCT.MEMBER for slots).
"""
import os
import re
import sys
from ctext import Findings, blank, files, root_of
import callgraph

ROLES = frozenset({"ctx:main", "ctx:home", "ctx:co", "ctx:blocking"})
# Library functions that start a context of their own or keep the callback for later: label given.
LIBRARY_SLOTS = {"pthread_create": None, "sigaction": None, "signal": None, "atexit": None,
                 "call_rcu_memb": frozenset({"ctx:any"}), "call_rcu": frozenset({"ctx:any"}),
                 "urcu_memb_call_rcu": frozenset({"ctx:any"})}


def needs(labels):
    return labels & ROLES


def provides(labels):
    """Roles that a function with these labels may call into."""
    given = set(labels & ROLES)
    if "ctx:main" in given:
        given.add("ctx:home")
    if "ctx:blocking" in given:
        given |= {"ctx:main", "ctx:home"}
    return frozenset(given)


def slot_provides(labels):
    """Roles that a function in a slot with these labels may ask for. Which loop is home, and whether a
    coroutine lives on the main loop, only run time knows: the asserts do."""
    given = set(labels & ROLES)
    if given & {"ctx:home", "ctx:co"}:
        given |= {"ctx:main", "ctx:home"}
    if "ctx:main" in given:
        given.add("ctx:home")
    return frozenset(given)


def context(labels):
    return frozenset(label for label in labels if label.startswith("ctx:"))


def asserted_roles(root):
    """{function: role it asserts}, from ASSERTS(...) in the headers."""
    found = {}
    for path in files(root, ("src",), (".h",)):
        for name, role in re.findall(r"\b(\w+)\([^;{}]*\)\s*ASSERTS\((?:ctx_)(\w+)\)",
                                     path.read_text()):
            found[name] = "ctx:" + role
    return found


def declared_names(root):
    """Functions that the headers promise: ours also before they are written."""
    found = set()
    for path in files(root, ("src",), (".h",)):
        found |= set(re.findall(r"\b([a-z]\w+)\(", blank(path.read_text())))
    return found


class Checker:
    def __init__(self, root, graph, findings):
        self.root, self.graph, self.findings = root, graph, findings
        self.asserts, self.ours = asserted_roles(root), declared_names(root)
        self.sinks = self.find_sinks()
        self.edges = {ident: self.edges_of(function) for ident, function in graph.functions.items()}

    # ---- what happens to a function-pointer parameter

    def find_sinks(self):
        """{(function, parameter): {("slot", key) | ("called",) | ("library", name)}}, to a fixpoint."""
        sinks, changed = {}, True
        while changed:
            changed = False
            for function in self.graph.functions.values():
                for index, sink in self.sinks_of(function, sinks):
                    known = sinks.setdefault((function.id, index), set())
                    changed |= sink not in known
                    known.add(sink)
        return sinks

    def sinks_of(self, function, sinks):
        for key, origins, _ in function.slot_stores:
            for origin in origins:
                if origin[0] == "param":
                    yield origin[1], ("slot", key)
        for callee, arguments, _ in function.calls:
            if not isinstance(callee, tuple):
                for origin in callee:
                    if origin[0] == "param":
                        yield origin[1], ("called",)
            for index, origins in enumerate(arguments):
                for origin in origins:
                    if origin[0] == "param":
                        for sink in self.argument_sinks(callee, index, sinks):
                            yield origin[1], sink

    def targets(self, callee):
        """Functions that a call may reach."""
        if isinstance(callee, tuple):
            return [callee[1]]
        found = []
        for origin in callee:
            if origin[0] == "fn":
                found.append(origin[1])
            elif origin[0] == "slot":
                found += [ident for ident, _ in self.graph.slot(origin[1]).functions]
        return found

    def argument_sinks(self, callee, index, sinks):
        for target in self.targets(callee):
            if target in self.graph.functions:
                yield from list(sinks.get((target, index), ()))
            elif isinstance(callee, tuple) and target not in self.ours:
                yield ("library", target)

    # ---- edges of the call graph: ("fn", id) and ("slot", key)

    def edges_of(self, function):
        edges = []
        for callee, arguments, line in function.calls:
            if isinstance(callee, tuple):
                edges.append((callee, line))
            else:
                edges += [(edge, line) for edge in self.indirect_edges(function, callee, line)]
            for index, origins in enumerate(arguments):
                for origin in origins:
                    edges += self.callback_edges(function, callee, index, origin, line)
        for key, origins, line in function.slot_stores:
            for origin in origins:
                self.check_stored_origin(function, key, origin, line)
        return edges

    def indirect_edges(self, function, origins, line):
        for origin in sorted(origins, key=str):
            if origin[0] == "slot":
                labelled = context(self.graph.slot(origin[1]).labels)
                if not labelled and origin[1][1] not in self.graph.constants:
                    self.unknown(function, line, "%s, which has no label" %
                                 self.graph.slot_text(origin[1]))
                yield origin
            elif origin[0] == "fn":
                yield origin
            elif origin[0] == "label":
                yield ("label", origin[1])
            elif origin[0] != "param":
                self.unknown(function, line, "one that cannot be followed")
        if not origins:
            self.unknown(function, line, "one that is never set")

    def unknown(self, function, line, why):
        self.findings.add("pointer", function.unit, line or function.line,
                          "%s() calls an unknown pointer: %s" % (function.name, why), function.name)

    def callback_edges(self, function, callee, index, origin, line):
        """What passing @origin as an argument means for the caller."""
        if origin[0] not in ("fn", "slot"):
            return
        for sink in self.argument_sinks(callee, index, self.sinks):
            if sink[0] == "called":
                yield origin, line
            elif sink[0] == "slot":
                self.check_stored_origin(function, sink[1], origin, line)
            elif sink[0] == "library" and sink[1] not in LIBRARY_SLOTS:
                yield origin, line
            elif sink[0] == "library" and LIBRARY_SLOTS[sink[1]] is not None:
                self.check_stored(origin, LIBRARY_SLOTS[sink[1]], sink[1] + "()", function, line)

    # ---- slots

    def check_stored_origin(self, function, key, origin, line):
        if origin[0] in ("fn", "slot"):
            labels = context(self.graph.slot(key).labels)
            if labels:
                self.check_stored(origin, labels, self.graph.slot_text(key), function, line)

    def check_stored(self, origin, labels, where, function, line):
        """@origin (a function, or what another slot holds) is put where @labels say what may be."""
        if origin[0] == "fn":
            if origin[1] not in self.graph.functions:
                return
            name, have = origin[1] + "()", context(self.graph.label(origin[1]))
        else:
            name, have = self.graph.slot_text(origin[1]), context(self.graph.slot(origin[1]).labels)
        self.judge_slot(name, have, labels, where, function.unit, line, function.name)

    def judge_slot(self, name, have, labels, where, unit, line, place):
        plain = name.split(":")[-1]
        if not have:
            self.findings.add("slot", unit, line, "%s has no label; it sits in %s, which promises %s" %
                              (plain, where, text_of(labels)), plain.rstrip("()"))
        elif needs(have) - slot_provides(labels):
            self.findings.add("slot", unit, line, "%s is %s; it sits in %s, which promises %s" %
                              (plain, text_of(have), where, text_of(labels)), plain.rstrip("()"))

    def check_tables(self):
        for key, slot in self.graph.slots.items():
            labels = context(slot.labels)
            for ident, where in slot.functions:
                if labels and ident in self.graph.functions and " in " in where and "()" not in where:
                    function = self.graph.functions[ident]
                    table = where.replace("__const.", "").split(" in ")[0]
                    self.judge_slot(ident + "()", context(self.graph.label(ident)), labels,
                                    "%s (%s)" % (self.graph.slot_text(key), table), function.unit,
                                    function.line, function.name)

    # ---- paths

    def label_of(self, node):
        if node[0] == "fn":
            return self.graph.label(node[1])
        return self.graph.slot(node[1]).labels if node[0] == "slot" else node[1]

    def name_of(self, node):
        if node[0] == "fn":
            return node[1].split(":")[-1]
        return self.graph.slot_text(node[1]) if node[0] == "slot" else "(labelled pointer)"

    def next_of(self, node):
        if node[0] == "fn":
            return [edge for edge, _ in self.edges.get(node[1], ())]
        if node[0] == "slot":
            return [("fn", ident) for ident, _ in self.graph.slot(node[1]).functions]
        return []

    def gained(self, node):
        """Roles that a function has from its asserts."""
        roles = set()
        for edge, _ in self.edges.get(node[1], ()) if node[0] == "fn" else ():
            if edge[0] == "fn" and edge[1] in self.asserts:
                roles.add(self.asserts[edge[1]])
        return provides(frozenset(roles))

    def check_paths(self):
        for ident in sorted(self.graph.functions):
            labels = context(self.graph.label(ident))
            if labels:
                self.walk(ident, labels, lambda found: context(found),
                          provides(labels), self.forbidden)

    def forbidden(self, labels, found, given):
        missing = needs(found) - given
        if "ctx:blocking" in labels and "ctx:co" not in labels:
            missing &= {"ctx:co"}
        return missing

    def check_graph(self):
        rules = {"graph:rd": {"graph:none", "graph:wr"}, "graph:wr": {"graph:none"}}
        for ident in sorted(self.graph.functions):
            have = self.graph.label(ident) & rules.keys()
            for label in have:
                self.walk(ident, frozenset({label}),
                          lambda found: frozenset(x for x in found if x.startswith("graph:")),
                          frozenset(), lambda _, found, __, bad=rules[label]: found & bad,
                          rule="graph", own=self.graph.label(ident))

    def walk(self, ident, labels, select, given, forbidden, rule="path", own=frozenset()):
        """Depth first from @ident through nodes without (selected) labels."""
        start = ("fn", ident)
        given = given | self.gained(start)
        todo, seen = [((start,), given)], {(start, given)}
        while todo:
            path, have = todo.pop()
            for node in self.next_of(path[-1]):
                if (node, have) in seen:
                    continue
                seen.add((node, have))
                found = select(self.label_of(node))
                if bad := forbidden(labels, found, have) - own:
                    self.report(rule, path + (node,), labels, bad)
                elif not found:
                    todo.append((path + (node,), have | self.gained(node)))

    def report(self, rule, path, labels, bad):
        function = self.graph.functions[path[0][1]]
        lines = [line for edge, line in self.edges[path[0][1]] if edge == path[1]]
        self.findings.add(rule, function.unit, (lines or [0])[0] or function.line,
                          "%s: %s [%s]" % (text_of(labels), " -> ".join(map(self.name_of, path)),
                                           text_of(bad)), function.name)


def text_of(labels):
    return " ".join(sorted(label.split(":")[1] for label in labels))


def check(root, graph):
    findings = Findings(root, ("path", "graph", "slot", "pointer"))
    checker = Checker(root, graph, findings)
    checker.check_tables()
    checker.check_paths()
    checker.check_graph()
    return findings


def main(arguments):
    build = None
    if "--build" in arguments:
        at = arguments.index("--build")
        build = arguments[at + 1]
        del arguments[at:at + 2]
    root = root_of(arguments)
    graph = callgraph.load(str(root), os.path.abspath(build or str(root / "build-clang")))
    labelled = sum(bool(context(graph.label(ident))) for ident in graph.functions)
    slots = sum(bool(context(slot.labels)) for slot in graph.slots.values())
    print("%d functions, %d of them labelled; %d labelled members" %
          (len(graph.functions), labelled, slots))
    return check(root, graph).finish()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
