"""ctext: what the text checkers share: C without comments, the tree's files, suppressions, reports."""
import pathlib
import re
import sys

TOKEN = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""", re.S)
RULES_FILE = "tool/allow.txt"


def blank(text, keep_strings=False):
    """@text with comments (and the insides of strings) as spaces; lines and columns stay."""
    def replace(match):
        token = match[0]
        if token[0] == "/":
            return re.sub(r"[^\n]", " ", token)
        if keep_strings or len(token) < 2:
            return token
        return token[0] + re.sub(r"[^\n]", " ", token[1:-1]) + token[-1]
    return TOKEN.sub(replace, text)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def files(root, folders, suffixes):
    """The tree's files, sorted, without build folders and without planted violations."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in suffixes and path.is_file() and \
                    not any(part.startswith(("build", ".", "__pycache__", "planted"))
                            for part in path.relative_to(root).parts[:-1]):
                yield path


class Allow:
    """tool/allow.txt: "RULE PATH[:NAME] reason", one a line. A line that suppresses nothing is an error
    of its checker, so the list only shrinks. Without RULE, it is thread-safety's: tsa-trust."""

    def __init__(self, root, rules):
        self.entries, self.used = {}, set()
        path = root / RULES_FILE
        for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
            words = line.split(None, 2)
            if not words or words[0].startswith("#"):
                continue
            if "/" in words[0]:
                words = ["tsa-trust"] + line.split(None, 1)
            if len(words) < 3:
                print("%s:%d: a suppression needs a reason" % (RULES_FILE, number))
                sys.exit(1)
            if words[0] in rules:
                self.entries[words[0], words[1]] = number

    def covers(self, rule, path, name=None):
        for key in ((rule, path), (rule, "%s:%s" % (path, name))):
            if key in self.entries:
                self.used.add(key)
                return True
        return False

    def unused(self):
        return [(number, rule, what) for (rule, what), number in self.entries.items()
                if (rule, what) not in self.used]


class Findings:
    """Collects violations of named rules; the closing line counts rules that hold."""

    def __init__(self, root, rules):
        self.root, self.rules, self.allow = root, list(rules), Allow(root, rules)
        self.found = []

    def add(self, rule, path, line, message, name=None):
        relative = str(path.relative_to(self.root)) if isinstance(path, pathlib.Path) else path
        if not self.allow.covers(rule, relative, name):
            self.found.append((relative, line, rule, message))

    def finish(self):
        for number, rule, what in self.allow.unused():
            self.found.append((RULES_FILE, number, rule, "suppresses nothing any more: %s" % what))
        for path, line, rule, message in sorted(set(self.found), key=str):
            print("%s:%s: %s: %s" % (path, line, rule, message))
        broken = {rule for _, _, rule, _ in self.found}
        print("%d passed, %d failed, 0 skipped" % (len(self.rules) - len(broken), len(broken)))
        return 1 if broken else 0


def root_of(arguments):
    """The tree to look at: the argument, or the one this tool lies in."""
    given = [argument for argument in arguments if not argument.startswith("-")]
    return pathlib.Path(given[0]).resolve() if given else pathlib.Path(__file__).resolve().parent.parent
