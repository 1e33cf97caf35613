"""callgraph: who calls whom, in which context, as clang's IR of all units says.

Each unit is compiled once more to text (clang -O0 -S -emit-llvm), cached by the time of its newest input.
A function's labels come from @llvm.global.annotations, those of a function-pointer member from
llvm.ptr.annotation at every use; tool/ctxcheck.py says what follows from them, tool/stackcheck.py how
deep the calls go. What a pointer holds is followed, without regard to order, through variables,
parameters, members, tables (nested ones too) and globals:

  ("fn", id)          a function            ("slot", (struct, index))  a member of a struct type
  ("param", i)        the caller decides    ("slot", ("@", name))       … a global variable or array
  ("unknown",)                              ("label", labels)           … a labelled union member

A static function's id is UNIT:NAME, so that units do not mix.
"""
import concurrent.futures
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys

COMPILER = os.environ.get("CLANG", "clang-19")

NAME = r'[\w.$-]+|"[^"]*"'
STRING = re.compile(r'(@[\w.]+) = .*c"([^"]*)\\00", section "llvm.metadata"')
ANNOTATION = re.compile(r"\{ ptr @(%s), ptr (@[\w.]+)" % NAME)
GLOBAL = re.compile(r"@(%s) = ((?:[\w()]+ )*?)(?:global|constant) (.*)" % NAME)
TYPE = re.compile(r"(%%(?:%s)) = type (.*)" % NAME)
DEFINE = re.compile(r"define (.*?)@(%s)\((.*)" % NAME)
CALLEE = re.compile(r"(@(?:%s)|%%[\w.]+)\(" % NAME)
GEP = re.compile(r"getelementptr (?:inbounds |nuw |nusw )*(?:\()?(.*)")
TOKEN = re.compile(r'c"[^"]*"|@(?:%s)|%%(?:%s)|[\[\]{}(),<>]|[^\s\[\]{}(),<>]+' % (NAME, NAME))


# ---- making the IR -----------------------------------------------------------------------------

def newest_header(folders):
    newest = 0
    for folder in folders:
        for base, _, names in os.walk(folder):
            for name in names:
                if name.endswith(".h"):
                    newest = max(newest, os.stat(os.path.join(base, name)).st_mtime)
    return newest


def compile_unit(command, directory, source, out, newest):
    """IR of one unit in @out; nothing to do when it is younger than all it is made from."""
    arguments, skip = [], False
    for word in command[1:]:
        if skip:
            skip = False
        elif word in ("-o", "-MF", "-MQ", "-MT"):
            skip = True
        elif word in ("-c", "-MD", "-MMD", "-g", "-Werror", source) or \
                re.match(r"-O|-W|-fsanitize|-fcallgraph|--coverage", word):
            continue
        else:
            arguments.append(word)
    arguments = [COMPILER] + arguments + ["-w", "-O0", "-gline-tables-only", "-S", "-emit-llvm",
                                          source, "-o", out + ".new"]
    path = os.path.join(directory, source)
    if os.path.exists(out) and os.stat(out).st_mtime > max(newest, os.stat(path).st_mtime):
        return None
    done = subprocess.run(arguments, cwd=directory, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        return "%s: %s" % (source, done.stderr[-2000:])
    os.replace(out + ".new", out)
    return None


def make_ir(root, build, only="src/"):
    """[(unit, path of its IR)] of every unit below @only that compile_commands.json knows."""
    with open(os.path.join(build, "compile_commands.json")) as file:
        entries = json.load(file)
    folder = os.path.join(build, "ir")
    os.makedirs(folder, exist_ok=True)
    newest = newest_header([os.path.join(root, "src")])
    work = {}
    for entry in entries:
        source = os.path.normpath(os.path.join(entry["directory"], entry["file"]))
        unit = os.path.relpath(source, root)
        if not unit.startswith(only) or not unit.endswith(".c") or unit in work:
            continue
        command = shlex.split(entry["command"])
        key = hashlib.sha256(repr(command).encode()).hexdigest()[:8]
        out = os.path.join(folder, unit.replace("/", "-") + "." + key + ".ll")
        work[unit] = (command, entry["directory"], entry["file"], out, newest)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        problems = [text for text in pool.map(lambda item: compile_unit(*item), work.values()) if text]
    if problems:
        print("\n".join(problems))
        sys.exit("%s cannot compile %d units to IR" % (COMPILER, len(problems)))
    return [(unit, item[3]) for unit, item in sorted(work.items())]


# ---- reading it --------------------------------------------------------------------------------

class Function:
    def __init__(self, ident, name, unit):
        self.id, self.name, self.unit, self.line = ident, name, unit, 0
        self.calls = []       # (callee: "fn" id or origins, [origins of each argument], line)
        self.slot_stores = []  # (slot, origins, line)


class Slot:
    def __init__(self):
        self.labels, self.name, self.functions = set(), None, []   # functions: (id, where)


class Graph:
    def __init__(self):
        self.functions, self.labels = {}, {}
        self.slots, self.constants, self.sources = {}, set(), {}

    def slot(self, key):
        return self.slots.setdefault(key, Slot())

    def label(self, ident):
        return self.labels.get(ident, frozenset())

    def slot_text(self, key):
        slot = self.slots.get(key)
        if key[0] == "@":
            return key[1].split(":")[-1]
        struct = re.sub(r"^%(struct|union)\.", "", key[0].split(":")[-1])
        return "%s.%s" % (struct, slot.name if slot and slot.name else "[%d]" % key[1])


class Unit:
    """Parses the IR of one unit into the graph."""

    def __init__(self, graph, unit, path, root):
        self.graph, self.unit, self.root = graph, unit, root
        self.strings, self.types, self.defined = {}, {}, {}
        self.functions_here, self.private = set(), set()
        with open(path) as file:
            self.lines = file.read().split("\n")
        self.locations = {}

    def read(self):
        annotations = ""
        for line in self.lines:
            if line.startswith("define "):
                match = DEFINE.match(line)
                name = match[2].strip('"')
                static = "internal" in match[1].split() or "private" in match[1].split()
                self.defined[name] = "%s:%s" % (self.unit, name) if static else name
                self.functions_here.add(name)
            elif line.startswith("declare "):
                if match := re.search(r"@(%s)\(" % NAME, line):
                    self.functions_here.add(match[1].strip('"'))
            elif line.startswith("@"):
                if match := STRING.match(line):
                    self.strings[match[1]] = match[2]
            elif line.startswith("%"):
                if match := TYPE.match(line):
                    self.types[match[1]] = self.parse_type(Tokens(match[2]))
            elif line.startswith("!"):
                if match := re.match(r"(!\d+) = (?:distinct )?!DI(?:Location|Subprogram)\(.*?"
                                     r"\bline: (\d+)", line):
                    self.locations[match[1]] = int(match[2])
        for line in self.lines:
            if line.startswith("@llvm.global.annotations"):
                annotations = line
            elif line.startswith("@") and not line.startswith(("@.str", "@llvm.")):
                self.read_global(line)
        for name, string in ANNOTATION.findall(annotations):
            self.annotate(name.strip('"'), self.strings[string])
        self.read_functions()

    def annotate(self, name, label):
        if not self.is_function(name):
            self.graph.slot(("@", self.gvar(name))).labels.add(label)
            return
        ident = self.ident(name)
        self.graph.labels[ident] = self.graph.labels.get(ident, frozenset()) | {label}

    def ident(self, name):
        return self.defined.get(name, name)

    def is_function(self, name):
        return name in self.functions_here

    def gvar(self, name):
        return name if name not in self.private else "%s:%s" % (self.unit, name)

    # ---- types and constants

    def parse_type(self, tokens):
        token = tokens.next()
        if token == "[":
            count = int(tokens.next())
            tokens.next()
            inner = self.parse_type(tokens)
            tokens.expect("]")
            return ("array", count, inner)
        if token == "<":
            if tokens.peek() == "{":
                inner = self.parse_type(tokens)
                tokens.expect(">")
                return inner
            while tokens.next() != ">":
                pass
            return ("scalar",)
        if token == "{":
            members = []
            while tokens.peek() != "}":
                members.append(self.parse_type(tokens))
                if tokens.peek() == ",":
                    tokens.next()
            tokens.next()
            return ("struct", None, members)
        if token.startswith("%"):
            return ("named", token)
        if token == "opaque":
            return ("scalar",)
        return ("scalar",) if token != "ptr" else ("ptr",)

    def members(self, kind):
        """(key name, member types) of a struct type, or None."""
        if kind[0] == "named":
            inner = self.types.get(kind[1])
            if inner and inner[0] == "struct":
                return self.struct_name(kind[1]), inner[2]
            return None
        return (None, kind[2]) if kind[0] == "struct" else None

    def struct_name(self, name):
        plain = re.sub(r"\.\d+$", "", name)
        return "%s:%s" % (self.unit, name) if plain.endswith(".anon") else plain

    def field(self, kind, indices):
        """The slot that a getelementptr's indices end in: (struct, index), or None."""
        found = None
        for index in indices[1:]:
            if kind[0] == "array":
                kind = kind[2]
                continue
            named = self.members(kind)
            if named is None or not index.isdigit() or int(index) >= len(named[1]):
                return None
            found = (named[0], int(index)) if named[0] else None
            kind = named[1][int(index)]
        return found

    def read_global(self, line):
        match = GLOBAL.match(line)
        if not match:
            return
        name = match[1].strip('"')
        if re.search(r"\b(internal|private)\b", match[2]):
            self.private.add(name)
        text = match[3]
        if re.match(r"@(%s) = [^@]*?constant " % NAME, line):
            self.graph.constants.add(self.gvar(name))
        if "@" not in text:
            return
        tokens = Tokens(text)
        kind = self.parse_type(tokens)
        self.read_constant(kind, tokens, None, name)

    def read_constant(self, kind, tokens, slot, table):
        token = tokens.peek()
        if token is None:
            return
        if token in ("{", "[", "<"):
            self.read_aggregate(kind, tokens, slot, table)
        elif token.startswith("@"):
            tokens.next()
            name = token[1:].strip('"')
            if self.is_function(name):
                ident = self.ident(name)
                slot = slot or ("@", self.gvar(table))
                self.graph.slot(slot).functions.append((ident, "%s in %s" % (table, self.unit)))
        else:
            tokens.next()
            while tokens.peek() == "inbounds":
                tokens.next()
            if tokens.peek() == "(":
                tokens.balanced()

    def read_aggregate(self, kind, tokens, slot, table):
        token = tokens.next()
        if token == "<":
            token = tokens.next()
        close = {"{": "}", "[": "]"}[token]
        named = self.members(kind)
        index = 0
        while tokens.peek() not in (close, None):
            inner = self.parse_type(tokens)
            inner_slot = slot if kind[0] == "array" else None
            if named and named[0]:
                inner_slot = (named[0], index)
            self.read_constant(inner, tokens, inner_slot, table)
            index += 1
            if tokens.peek() == ",":
                tokens.next()
        tokens.next()
        if tokens.peek() == ">":
            tokens.next()

    # ---- functions

    def read_functions(self):
        body, function, params = [], None, []
        for line in self.lines:
            if function is None and line.startswith("define "):
                match = DEFINE.match(line)
                name = match[2].strip('"')
                function = Function(self.ident(name), name, self.unit)
                if found := re.search(r"!dbg (!\d+)", line):
                    function.line = self.locations.get(found[1], 0)
                params, body = self.parameters(match[3]), []
            elif function is not None and line == "}":
                Body(self, function, params, body).read()
                self.graph.functions[function.id] = function
                function = None
            elif function is not None:
                body.append(line.strip())

    def parameters(self, text):
        names = {}
        for index, part in enumerate(split_arguments("(" + text)):
            found = re.findall(r"%[\w.]+", part)
            if found:
                names[found[-1]] = index
        return names


class Tokens:
    def __init__(self, text):
        self.items, self.at = TOKEN.findall(text), 0

    def peek(self):
        return self.items[self.at] if self.at < len(self.items) else None

    def next(self):
        self.at += 1
        return self.items[self.at - 1] if self.at <= len(self.items) else ""

    def expect(self, token):
        found = self.next()
        if found != token:
            raise ValueError("IR: '%s' where '%s' was expected" % (found, token))

    def balanced(self):
        depth = 0
        while True:
            token = self.next()
            depth += (token in ("(", "[", "{")) - (token in (")", "]", "}"))
            if depth == 0 or token == "":
                return


def split_arguments(text):
    """The comma-separated parts of the first parenthesis of @text."""
    depth, parts, start = 0, [], None
    for offset, char in enumerate(text):
        if char in "([{":
            depth += 1
            start = offset + 1 if start is None else start
        elif char in ")]}":
            depth -= 1
            if depth == 0:
                parts.append(text[start:offset])
                break
        elif char == "," and depth == 1:
            parts.append(text[start:offset])
            start = offset + 1
    return [part.strip() for part in parts if part.strip()]


class Body:
    """One function's instructions: what its pointers hold, whom it calls."""

    def __init__(self, unit, function, params, lines):
        self.unit, self.function, self.params, self.lines = unit, function, params, lines
        self.defs, self.stores = {}, {}

    def read(self):
        calls = []
        for line in self.lines:
            match = re.match(r"(%[\w.]+) = (.*)", line)
            target, text = (match[1], match[2]) if match else (None, line)
            if re.match(r"(?:tail |musttail |notail )?call ", text) or " call " in text[:12]:
                call, annotated = self.read_call(text, line)
                if target:
                    self.defs[target] = ("annotated", annotated) if annotated else ("call", None)
                if call:
                    calls.append(call)
            elif text.startswith("store "):
                parts = re.match(r"store (?:atomic )?(?:volatile )?(\S+) (.*), ptr (.*)", text)
                if parts and parts[1] == "ptr":
                    place = re.sub(r",? (?:align|seq_cst|release|monotonic|!dbg).*$", "", parts[3])
                    self.stores.setdefault(place, []).append((parts[2], self.line(line)))
            elif target:
                self.defs[target] = ("text", text)
        for callee, arguments, line in calls:
            target = callee if isinstance(callee, tuple) else self.origins(callee)
            self.function.calls.append((target, [self.argument(part) for part in arguments], line))
        for place, values in self.stores.items():
            self.read_store(self.location(place), values)

    def read_store(self, place, values):
        for value, line in values:
            origins = self.origins(value)
            if place and place[0] == "slot":
                self.function.slot_stores.append((place[1], origins, line))

    def line(self, text):
        found = re.search(r"!dbg (!\d+)", text)
        return self.unit.locations.get(found[1], 0) if found else 0

    def read_call(self, text, whole):
        match = CALLEE.search(text)
        if not match or re.search(r"\basm\b", text.split("(", 1)[0]):
            return None, None
        arguments = split_arguments(text[match.end() - 1:])
        name = match[1]
        if name.startswith("@llvm.ptr.annotation"):
            return None, self.read_annotation(arguments)
        if name.startswith("@llvm."):
            return None, None
        line = self.line(whole)
        if name.startswith("@"):
            return (("fn", self.unit.ident(name[1:].strip('"'))), arguments, line), None
        return (name, arguments, line), None

    def read_annotation(self, arguments):
        place = self.location(re.sub(r"^ptr ", "", arguments[0]))
        label = self.unit.strings.get(arguments[1].split()[-1], "")
        if place and place[0] == "slot":
            slot = self.unit.graph.slot(place[1])
            slot.labels.add(label)
            file = self.unit.strings.get(arguments[2].split()[-1], "")
            slot.name = slot.name or self.member_name(file, int(arguments[3].split()[-1]))
            return place
        return ("label", frozenset({label}))

    def member_name(self, file, line):
        sources = self.unit.graph.sources
        if file not in sources:
            for base in ("", os.path.join(self.unit.root, "build-clang"), self.unit.root):
                path = os.path.join(base, file)
                if os.path.exists(path):
                    with open(path) as source:
                        sources[file] = source.read().split("\n")
                    break
            else:
                sources[file] = []
        text = " ".join(sources[file][line - 1:line + 2])
        match = re.search(r"\(\s*\*\s*(?:const\s+)?(\w+)\)|\*?\s*(\w+)\s*;", text)
        return (match[1] or match[2]) if match else None

    # ---- places and values

    def location(self, place):
        """Where a pointer points: ("slot", key), ("var", name), ("label", set) or None."""
        place = place.strip()
        if place.startswith("getelementptr"):
            return self.gep_location(place)
        if place.startswith("@"):
            return ("slot", ("@", self.unit.gvar(place[1:].strip('"'))))
        kind, what = self.defs.get(place, (None, None))
        if kind == "annotated":
            return what
        if kind != "text":
            return None
        if what.startswith("alloca"):
            return ("var", place)
        if what.startswith("getelementptr"):
            return self.gep_location(what)
        return None

    def gep_location(self, text):
        match = GEP.match(text)
        inner = match[1]
        if "(" == text[text.find("getelementptr") + len("getelementptr "):].lstrip("inbounds ")[:1]:
            inner = split_arguments(text[text.find("("):])
        else:
            inner = split_arguments("(" + re.sub(r", !dbg.*$", "", inner) + ")")
        kind = self.unit.parse_type(Tokens(inner[0]))
        indices = [part.split()[-1] for part in inner[2:]]
        found = self.unit.field(kind, indices)
        if found:
            return ("slot", found)
        base = self.location(re.sub(r"^ptr ", "", inner[1]))
        if base and base[0] in ("var", "slot"):
            return base
        return None

    def argument(self, text):
        if not text.startswith("ptr"):
            return frozenset()
        value = re.search(r"(@(?:%s)|%%[\w.]+)$" % NAME, text)
        if not value:
            return frozenset()
        return frozenset(origin for origin in self.origins(value[1])
                         if origin[0] in ("fn", "slot", "param", "label"))

    def origins(self, value, seen=frozenset()):
        value = value.strip()
        if value in ("null", "undef", "poison", "zeroinitializer") or value in seen:
            return frozenset()
        if value.startswith("@"):
            name = value[1:].strip('"')
            return frozenset({("fn", self.unit.ident(name))} if self.unit.is_function(name) else set())
        if value in self.params:
            return frozenset({("param", self.params[value])})
        kind, what = self.defs.get(value, (None, None))
        seen = seen | {value}
        if kind == "call":
            return frozenset({("unknown",)})
        if kind != "text":
            return frozenset({("unknown",)} if value.startswith("%") else set())
        if what.startswith("load"):
            match = re.search(r"ptr, ptr (.*?)(?:, (?:align|!)| (?:seq_cst|acquire|monotonic).*|$)", what)
            return self.loaded(match[1], seen) if match else frozenset({("unknown",)})
        if what.startswith("phi ptr"):
            found = set()
            for part in re.findall(r"\[ ([^,]+), ", what):
                found |= self.origins(part, seen)
            return frozenset(found)
        if what.startswith("select"):
            found = set()
            for part in re.findall(r"ptr (@(?:%s)|%%[\w.]+)" % NAME, what):
                found |= self.origins(part, seen)
            return frozenset(found)
        if what.startswith(("alloca", "getelementptr")):
            return frozenset()
        return frozenset({("unknown",)})

    def loaded(self, place, seen):
        where = self.location(place)
        if where is None or where[0] == "unknown":
            return frozenset({("unknown",)})
        if where[0] == "var":
            found = set()
            for value, _ in self.stores.get(where[1], ()):
                found |= self.origins(value, seen)
            return frozenset(found)
        return frozenset({where})


def load(root, build, units=None):
    """The graph of all units. @units: [(name, path of IR)] instead of the build folder's."""
    graph = Graph()
    for unit, path in units or make_ir(root, build):
        Unit(graph, unit, path, root).read()
    if not graph.functions:
        sys.exit("no unit of %s is built in %s: nothing was checked" % (root, build))
    for function in graph.functions.values():
        for key, origins, line in function.slot_stores:
            for origin in origins:
                if origin[0] == "fn":
                    where = "%s() in %s:%d" % (function.name, function.unit, line)
                    graph.slot(key).functions.append((origin[1], where))
    return graph
