"""cases: a test's report. One line a case, the reason under a failure, and the closing line.

    with Cases() as cases:
        with cases("a disk is found"):
            …                                   # an exception fails the case, and the test goes on
        cases.skip("KVM", "/dev/kvm is not there")
"""
import sys
import time
import traceback


class Cases:
    def __init__(self):
        self.passed, self.failed, self.skipped = 0, 0, 0

    def __enter__(self):
        return self

    def __call__(self, name):
        return Case(self, name)

    def skip(self, name, why):
        self.skipped += 1
        print("skipped: %s: %s" % (name, why), flush=True)

    def __exit__(self, kind, error, trace):
        if kind is not None and kind is not SystemExit:
            self.failed += 1
            print("FAILED  outside a case\n" + explain(kind, error, trace), flush=True)
        print("%d passed, %d failed, %d skipped" % (self.passed, self.failed, self.skipped), flush=True)
        sys.stdout.flush()
        sys.exit(1 if self.failed or not self.passed else 0)


class Case:
    def __init__(self, cases, name):
        self.cases, self.name, self.note = cases, name, ""

    def __enter__(self):
        self.start = time.monotonic()
        return self

    def __exit__(self, kind, error, trace):
        seconds = time.monotonic() - self.start
        if kind in (KeyboardInterrupt, SystemExit):
            return False
        note = " (%s)" % self.note if self.note else ""
        if kind is None:
            self.cases.passed += 1
            print("ok      %s%s, %.1f s" % (self.name, note, seconds), flush=True)
        else:
            self.cases.failed += 1
            print("FAILED  %s%s, %.1f s\n%s" % (self.name, note, seconds,
                                               explain(kind, error, trace)), flush=True)
        return True


def explain(kind, error, trace):
    lines = traceback.format_exception(kind, error, trace)
    return "\n".join("        " + line for line in "".join(lines[-3:]).rstrip().splitlines())


def expect(condition, message):
    """Like assert, but never switched off."""
    if not condition:
        raise AssertionError(message)
