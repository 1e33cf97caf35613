#!/usr/bin/env python3
"""tidy [--warn] [ROOT]: the rules of style that a text can show. One line a violation; a rule that must
give way somewhere has a line in tool/allow.txt, with the reason.

  label       a prototype or static inline function in a header of src/ carries its context label, or
              stands between CTX_ANY_BEGIN and CTX_ANY_END; so does a function-pointer member (…_SLOT)
  atomic      __atomic, __sync and C11 atomics only in sync/
  os          system calls, and the headers that declare them, only in os/
  library     liburing only in os/, liburcu only in sync/
  banned      strcpy and its family, atoi, alloca …: the replacement is named
  memory      malloc and its family only in base/mem.c
  asserts     "believe me" (ASSERTS) only in loop/ and co/
  tsa-trust   TSA_TRUST only where allow.txt says
  unfinished  no TODO, FIXME, XXX
  count       sizeof is not an element count: countof()
  typedef     no typedef of a struct, union or enum
  header      #pragma once; a file opens with a comment that says what it is for (x.h speaks for x.c)
  line        at most 100 columns (110 in Python); no tabs, no blanks at the end
  function    at most 70 lines
  file        at most 800 lines
  glossary    words that docs/glossary.md lists under "Not said" do not occur in code or documents
  dead        every source is in a meson.build, every header is included by somebody

--warn also lists bool parameters (flags or two functions read better), without failing.
"""
import re
import sys
from ctext import Findings, blank, files, line_of, root_of

RULES = ("label", "atomic", "os", "library", "banned", "memory", "asserts", "tsa-trust",
         "unfinished", "count", "typedef", "header", "line", "function", "file", "glossary", "dead")
LINE_COLUMNS, PYTHON_COLUMNS, FUNCTION_LINES, FILE_LINES = 100, 110, 70, 800

LABELS = r"\b(?:ANY_THREAD|HOME_LOOP|MAIN_LOOP|CO_FN|BLOCKING)\b"
SLOTS = r"\b(?:CO_SLOT|HOME_SLOT|MAIN_SLOT|ANY_SLOT|BLOCKING_SLOT)\b"

ATOMIC = re.compile(r"\b(__atomic_\w+|__sync_\w+|_Atomic|atomic_(?:load|store|fetch|exchange)\w*)\b")
CALLS = re.compile(r"(?<![\w.>])(" + "|".join("""
    open openat creat close read write pread pwrite preadv pwritev preadv2 pwritev2 readv writev lseek
    ftruncate truncate fallocate fsync fdatasync syncfs stat fstat fstatat statx lstat unlink unlinkat
    rename mkdir rmdir link symlink readlink access faccessat chmod fchmod chown flock fcntl ioctl mmap
    munmap mremap madvise mprotect memfd_create socket bind listen accept accept4 connect send recv sendto
    recvfrom sendmsg recvmsg setsockopt getsockopt socketpair shutdown pipe pipe2 dup dup2 dup3 eventfd
    epoll_create1 epoll_ctl epoll_wait poll ppoll select timerfd_create signalfd sigaction sigprocmask
    pthread_create pthread_join pthread_mutex_lock pthread_cond_wait pthread_sigmask nanosleep usleep
    sleep clock_gettime gettimeofday time fork execve execvp waitpid kill raise getpid gettid setsid
    daemon chdir umask syscall sched_yield sched_setaffinity getrandom fopen fclose fread fwrite
    fgets""".split()) + r")\s*\(")
OS_HEADERS = re.compile(r"^\s*#\s*include\s+<(unistd\.h|fcntl\.h|poll\.h|pthread\.h|signal\.h|"
                        r"sys/(?:ioctl|mman|socket|un|stat|epoll|eventfd|syscall|timerfd|signalfd|wait|"
                        r"file|random)\.h)>", re.M)
LIBRARIES = ((re.compile(r"^\s*#\s*include\s+<liburing", re.M), ("src/os/",), "liburing"),
             (re.compile(r"^\s*#\s*include\s+<urcu", re.M), ("src/sync/",), "liburcu"))
BANNED = {"strcpy": "str_copy or strbuf", "strncpy": "str_copy", "strcat": "strbuf", "strncat": "strbuf",
          "sprintf": "strbuf or snprintf", "vsprintf": "vsnprintf", "gets": "nothing",
          "strtok": "str_split", "atoi": "str_to_u64 and its kin", "atol": "str_to_u64 and its kin",
          "atof": "nothing", "alloca": "a bounded array", "setjmp": "nothing", "longjmp": "nothing"}
BANNED_CALL = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
MEMORY = re.compile(r"(?<![\w.>])(malloc|calloc|realloc|reallocarray|free|strdup|strndup|asprintf|"
                    r"vasprintf|aligned_alloc|posix_memalign|getline)\s*\(")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
COUNT = re.compile(r"\bfor\s*\([^{};]*;[^;]*<=?\s*\(?\s*sizeof\b|\bsizeof\s*\(?[\w.>-]+\)?\s*/\s*sizeof\b")


def blocks(text):
    """Functions of clang-formatted C: (name, first line, lines of the body)."""
    lines = text.split("\n")
    start = None
    for number, line in enumerate(lines):
        if line == "{":
            start = number
        elif line.startswith("}") and start is not None:
            head = " ".join(lines[max(0, start - 8):start])
            names = re.findall(r"(\w+)\s*\(", head)
            names = [name for name in names if not re.fullmatch(r"[A-Z_0-9]+|__attribute__", name)]
            yield (names[-1] if names else "?"), start, number - start - 1
            start = None


def function_at(text, offset):
    line = text.count("\n", 0, offset)
    for name, start, length in blocks(text):
        if start - 8 <= line <= start + length + 1 and line > start - 3:
            return name
    return None


def declarations(text):
    """Top-level statements of a header: (offset, text), function bodies left out."""
    depth = parens = start = 0
    for offset, char in enumerate(text):
        if char == "(":
            parens += 1
        elif char == ")":
            parens -= 1
        elif char == "{":
            depth += 1
            if depth == 1 and re.search(r"\)\s*(?:[A-Z_]+\([^)]*\)\s*)*$", text[start:offset]):
                yield start, text[start:offset]
                start = None
        elif char == "}":
            depth -= 1
            if depth == 0 and start is None:
                start = offset + 1
        elif char == ";" and depth == 0 and parens == 0 and start is not None:
            yield start, text[start:offset]
            start = offset + 1


def without_directives(text):
    """Preprocessor lines (and their continuations) blanked; brackets' positions remembered apart."""
    return re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*",
                  lambda match: re.sub(r"[^\n]", " ", match[0]), text, flags=re.M)


def check_labels(path, text, findings):
    code = without_directives(text)
    brackets = [(match.start(), match[0]) for match in
                re.finditer(r"^CTX_ANY_(?:BEGIN|END)\b", code, re.M)]
    code = re.sub(r"^CTX_ANY_(?:BEGIN|END)\b", lambda match: " " * len(match[0]), code, flags=re.M)

    def bracketed(offset):
        before = [name for place, name in brackets if place < offset]
        return bool(before) and before[-1].endswith("BEGIN")

    code = re.sub(r"\b(struct\s+)TSA_\(\w+\(\"[^\"]*\"\)\)", r"\1", code)
    for offset, statement in declarations(code):
        flat = re.sub(r"__attribute__\s*\(\((?:[^()]|\([^()]*\))*\)\)", " ", statement)
        if re.match(r"\s*(?:typedef|struct\s+\w+\s*\{|enum\b[^()]*\{|union\s+\w+\s*\{|static_assert"
                    r"|_Static_assert|extern\s+\"|DEFINE_)", flat) or "=" in flat:
            continue
        plain = re.sub(r"\b[A-Z][A-Z0-9_]*\s*\([^()]*\)|\b\w+_like\([^()]*\)", " ", flat)
        match = re.search(r"[\w*]\s*\b(\w+)\s*\(", plain)
        if not match or match[1] in ("if", "while", "sizeof"):
            continue
        if not re.search(LABELS, flat) and not bracketed(offset + len(statement) - 1):
            line = line_of(code, offset + len(statement) - len(statement.lstrip()))
            findings.add("label", path, line, "%s() has no context label" % match[1], match[1])


def check_slots(path, text, findings):
    """Members of structs that are function pointers."""
    for struct in re.finditer(r"\b(?:struct|union)\s*(?:TSA_\([^)]*\)+\s*)?\w*\s*\{", text):
        depth, offset = 1, struct.end()
        start = offset
        while depth > 0 and offset < len(text):
            char = text[offset]
            depth += (char == "{") - (char == "}")
            if char == ";" and depth == 1:
                member = text[start:offset]
                pointer = re.search(r"\(\s*\*\s*(?:const\s+)?(\w+)\s*\)\s*\(", member)
                if pointer and not re.search(SLOTS, member):
                    findings.add("label", path, line_of(text, start + pointer.start()),
                                 "member %s is a function pointer without a slot label" % pointer[1],
                                 pointer[1])
                start = offset + 1
            elif char in "{}":
                start = offset + 1
            offset += 1


def check_source(root, path, findings, warnings):
    raw = path.read_text()
    text = blank(raw)
    name = str(path.relative_to(root))
    layer = path.relative_to(root).parts[1] if name.startswith("src/") else None

    def each(pattern, rule, message, group=1):
        for match in pattern.finditer(text):
            findings.add(rule, path, line_of(text, match.start(group)), message % match[group],
                         function_at(text, match.start()))

    if layer:
        if path.suffix == ".h":
            check_labels(path, text, findings)
        check_slots(path, text, findings)
        if layer != "sync":
            each(ATOMIC, "atomic", "%s outside sync/: at_load() and its kin")
        if layer != "os":
            each(CALLS, "os", "system call %s() outside os/")
            for match in OS_HEADERS.finditer(text):
                findings.add("os", path, line_of(text, match.start(1)),
                             "<%s> outside os/" % match[1], match[1])
        for pattern, homes, library in LIBRARIES:
            for match in pattern.finditer(text):
                if not name.startswith(homes):
                    findings.add("library", path, line_of(text, match.start()),
                                 "%s only in %s" % (library, homes[0]))
        if name != "src/base/mem.c":
            each(MEMORY, "memory", "%s(): mem_alloc() and its kin (base/mem.h)")
        if layer not in ("loop", "co") and name != "src/base/ctx.h":
            each(re.compile(r"\b(ASSERTS(?:_SHARED)?)\("), "asserts", "%s outside loop/ and co/")
        if name != "src/base/ctx.h":
            each(re.compile(r"\b(TSA_TRUST)\b"), "tsa-trust", "%s without a line in tool/allow.txt")
        for match in re.finditer(r"\bbool\s+(\w+)\s*[,)]", text):
            warnings.append("%s:%d: bool parameter %s" % (name, line_of(text, match.start()), match[1]))
    for match in BANNED_CALL.finditer(text):
        findings.add("banned", path, line_of(text, match.start(1)),
                     "%s(): use %s" % (match[1], BANNED[match[1]]), match[1])
    for match in COUNT.finditer(text):
        if name != "src/base/macros.h":
            findings.add("count", path, line_of(text, match.start()), "sizeof as a count: countof()",
                         function_at(text, match.start()))
    for match in re.finditer(r"\btypedef\s+(struct|union|enum)\b", text):
        findings.add("typedef", path, line_of(text, match.start()), "typedef of a %s" % match[1])
    for match in UNFINISHED.finditer(raw):
        findings.add("unfinished", path, line_of(raw, match.start()), match[0])
    if path.suffix == ".h" and "#pragma once" not in text:
        findings.add("header", path, 1, "no #pragma once")
    explained = path.suffix == ".c" and path.with_suffix(".h").exists()
    if not raw.lstrip().startswith(("/*", "//")) and not explained:
        findings.add("header", path, 1, "does not open with a comment that says what it is for")
    for function, start, length in blocks(text):
        if length > FUNCTION_LINES:
            findings.add("function", path, start + 1, "%s() has %d lines" % (function, length), function)


def check_text(path, findings):
    lines = path.read_text().split("\n")
    if len(lines) - 1 > FILE_LINES:
        findings.add("file", path, 1, "%d lines" % (len(lines) - 1))
    for number, line in enumerate(lines, 1):
        if len(line) > (PYTHON_COLUMNS if path.suffix == ".py" else LINE_COLUMNS):
            findings.add("line", path, number, "%d columns" % len(line))
        if "\t" in line and path.name != "Makefile":
            findings.add("line", path, number, "tab")
        if line != line.rstrip():
            findings.add("line", path, number, "blanks at the end")


def check_glossary(root, findings):
    """The words of the glossary's last column, as whole words, anywhere but in the glossary."""
    path = root / "docs" / "glossary.md"
    words = []
    for line in path.read_text().splitlines() if path.exists() else []:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(cells) >= 3:
            words += re.findall(r"`([^`]+)`", cells[-1])
    if not words:
        return
    pattern = re.compile(r"(?<![A-Za-z0-9])(" + "|".join(map(re.escape, words)) + r")(?![A-Za-z0-9])")
    sources = list(files(root, ("src", "sim", "test", "bench"), (".c", ".h")))
    sources += [doc for doc in sorted(root.glob("*.md")) + sorted(root.glob("docs/*.md")) if doc != path]
    for source in sources:
        text = source.read_text()
        for match in pattern.finditer(text):
            findings.add("glossary", source, line_of(text, match.start()),
                         "'%s' is not our word: see docs/glossary.md" % match[1], match[1])


def check_dead(root, findings):
    builds = "\n".join(path.read_text() for path in files(root, (".",), (".build",)))
    sources = list(files(root, ("src", "sim", "test", "bench"), (".c", ".h")))
    included = set()
    for path in sources:
        for name in re.findall(r'#\s*include\s+"([^"]+)"', path.read_text()):
            included.add(name.rsplit("/", 1)[-1])
    for path in sources:
        if "guest" in path.parts:
            continue
        if path.suffix == ".h" and path.name not in included:
            findings.add("dead", path, 1, "nobody includes it")
        stem = re.escape(re.sub(r"^(test|explore|fuzz|fault|stress)_", "", path.stem))
        if path.suffix == ".c" and path.name not in builds and \
                not re.search(r"'%s'" % stem, builds) and not re.search(r"\b%s\b" % stem, builds):
            findings.add("dead", path, 1, "in no meson.build")


def main(arguments):
    root = root_of(arguments)
    findings, warnings = Findings(root, RULES), []
    for path in files(root, ("src", "sim", "test", "bench"), (".c", ".h")):
        check_source(root, path, findings, warnings)
        check_text(path, findings)
    for path in files(root, ("tool", "test", "bench"), (".py",)):
        check_text(path, findings)
    check_glossary(root, findings)
    check_dead(root, findings)
    if "--warn" in arguments:
        print("\n".join(warnings))
    return findings.finish()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
