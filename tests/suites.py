#!/usr/bin/env python3
"""Compares what one of the shared Python suites says with a committed list of what passes.

    RUNNER ... | suites.py LIST [--accept] [--part GLOB ...] [--lost | --second FILE]

LIST is a file of tests/data, such as http.passes. What is on it must pass; what passes and is not on it is an
error too, so that the list grows with the program (--accept writes it anew). --part names the cases this run
plays where it does not play all that the list names. --lost only names the cases that should have passed; what
the runner says when it plays these once more is for --second: real processes on a busy machine sometimes miss a
time limit. A case that passed only then counts, and is told as TWICE.

The lines of the four runners are understood:

    ok   keys_basic.json step 3 [...]      FAIL keys_basic.json step 4 [...]
    ok   01_set_get/basic step 1: ...      FAIL 01_set_get/basic: cannot set up: ...
    PASS single/start-log-stop    3.2s     FAIL single/data-dir    1.0s  why
    PASS b01-2.0-single plain (as 2.3.8)   FAIL b01-2.0-single dump of one: why

Lists are written as `CASE all` or `CASE 1-3 5` where cases have steps, else `CASE`. The last line that is printed
is `LIST: N passed, M failed`; the status is 0 if the list holds.
"""
import argparse
import fnmatch
import os
import re
import sys

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")

STEP = re.compile(r"(ok  |FAIL) (\S+?)(?:\.json)? step (\d+)\b")
BROKEN = re.compile(r"FAIL (\S+?)(?:\.json)?: ")
SCENARIO = re.compile(r"(PASS|FAIL|SKIP) (\S+) +\d+\.\ds")
FIXTURE = re.compile(r"(PASS|FAIL) ([a-z]\d\d\S* (?:[a-z][\w-]*(?: of \S+?)?))(?: \(|: |$)")


class Case:
    """The steps of a case that passed and failed; a case without steps has step 0."""

    def __init__(self):
        self.passed, self.failed, self.broken, self.skipped = set(), set(), False, False

    def all_passed(self):
        return bool(self.passed) and not self.failed and not self.broken


def read_run(lines):
    """What a runner printed, as {name: Case}."""
    cases = {}

    def note(name, step, good):
        case = cases.setdefault(name, Case())
        (case.passed if good else case.failed).add(step)
    for line in lines:
        if m := STEP.match(line):
            note(m[2], int(m[3]), m[1] == "ok  ")
        elif m := SCENARIO.match(line):
            if m[1] == "SKIP":
                cases.setdefault(m[2], Case()).skipped = True
            else:
                note(m[2], 0, m[1] == "PASS")
        elif m := FIXTURE.match(line):
            note(m[2], 0, m[1] == "PASS")
        elif m := BROKEN.match(line):
            cases.setdefault(m[1], Case()).broken = True
    return cases


def read_list(path):
    """(comment lines, {name: steps}), where steps is None for all of them."""
    comments, listed = [], {}
    if not os.path.exists(path):
        return comments, listed
    with open(path, encoding="utf-8") as f:
        for line in f.read().splitlines():
            m = re.fullmatch(r"(.*?) (all|\d+(?:-\d+)?(?: \d+(?:-\d+)?)*)", line)
            if line.startswith("#") or not line:
                comments.append(line)
            elif not m:
                listed[line] = None
            elif m[2] == "all":
                listed[m[1]] = None
            else:
                listed[m[1]] = steps = set()
                for word in m[2].split():
                    first, _, last = word.partition("-")
                    steps.update(range(int(first), int(last or first) + 1))
    return comments, listed


def entry(name, case):
    """The line of a case, or None where nothing passed."""
    if case.all_passed():
        return name if case.passed == {0} else name + " all"
    if not case.passed:
        return None
    words, steps = [], sorted(case.passed)
    while steps:
        n = 1
        while n < len(steps) and steps[n] == steps[0] + n:
            n += 1
        words.append(str(steps[0]) if n == 1 else "%d-%d" % (steps[0], steps[n - 1]))
        steps = steps[n:]
    return " ".join([name] + words)


def judge(listed, cases, parts):
    """(what should pass and does not, what passes and is not listed)"""
    lost, more = [], []
    for name, steps in sorted(listed.items()):
        if parts and not any(fnmatch.fnmatch(name, part) for part in parts):
            continue
        case = cases.get(name)
        if case is None:
            lost.append("%s: was not played" % name)
        elif case.skipped:
            continue
        elif steps is None and not case.all_passed():
            lost.append("%s: %s" % (name, "step " + ", ".join(map(str, sorted(case.failed)))
                                    if case.failed != {0} and not case.broken else "failed"))
        elif steps is not None and steps - case.passed:
            lost.append("%s: step %s" % (name, ", ".join(map(str, sorted(steps - case.passed)))))
    for name, case in sorted(cases.items()):
        steps = listed.get(name, set())
        if steps is not None and (case.all_passed() or case.passed - steps):
            more.append(entry(name, case))
    return lost, more


def merge_second_run(listed, cases, again, parts):
    """Takes the cases that were lost from a second run; the names of those that it mended."""
    mended = []
    for what in judge(listed, cases, parts)[0]:
        name = what.split(": ")[0]
        if name in again and not again[name].skipped:
            first, cases[name] = cases.get(name), again[name]
            if any(lost.split(": ")[0] == name for lost in judge(listed, cases, parts)[0]):
                # The first run has more to tell.
                if first is not None:
                    cases[name] = first
            else:
                mended.append(name)
    return mended


def failure_lines(lines, name):
    """What a runner said on the failures of a case: the line, and those below that are set in."""
    found, inside = [], False
    for line in lines:
        inside = bool(re.match(r"FAIL %s(\.json)?[ :]" % re.escape(name), line)) or inside and line.startswith(" ")
        if inside:
            found.append(line)
    return found


def write_list(path, comments, listed_lines):
    with open(path, "w", encoding="utf-8") as f:
        f.write("".join(line + "\n" for line in comments + sorted(listed_lines)))


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("list")
    ap.add_argument("--accept", action="store_true", help="write the list anew from what passed")
    ap.add_argument("--part", action="append", default=[], metavar="GLOB", help="only these cases are played")
    ap.add_argument("--lost", action="store_true", help="only print the names of what should have passed")
    ap.add_argument("--second", metavar="FILE", help="what the runner said when it played the lost ones again")
    opts = ap.parse_args()
    path = os.path.join(DATA, opts.list)
    sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    lines = sys.stdin.read().splitlines()
    cases = read_run(lines)
    if opts.lost:
        print("\n".join(what.split(": ")[0] for what in judge(read_list(path)[1], cases, opts.part)[0]))
        return 0
    summary = next((line for line in reversed(lines) if re.fullmatch(r"\d+ passed, \d+ failed", line)), None)
    if summary is None or not any(case.passed for case in cases.values()):
        print("\n".join(lines[-30:]))
        print("%s: %s" % (opts.list, "nothing passed" if summary else "the runner did not come to its end"))
        return 1
    comments, listed = read_list(path)
    if opts.second:
        with open(opts.second, encoding="utf-8", errors="replace") as f:
            second = read_run(f.read().splitlines())
        for name in merge_second_run(listed, cases, second, opts.part):
            print("TWICE %s: passed at the second try only" % name)
            for line in failure_lines(lines, name)[:12]:
                print("      " + line)
    for line in lines:
        if line.startswith("SKIP "):
            print(line)
    lost, more = judge(listed, cases, opts.part)
    for what in lost:
        print("LOST %s" % what)
        name = what.split(": ")[0]
        for line in failure_lines(lines, name)[:12]:
            print("     " + line)
    for what in more:
        print("MORE passes than %s says: make its line `%s`" % (opts.list, what))
    if opts.accept:
        kept = [name for name in listed if name not in cases or cases[name].skipped]
        kept = [line for line in open(path, encoding="utf-8").read().splitlines()
                if any(line == name or line.startswith(name + " ") for name in kept)] if kept else []
        write_list(path, comments, kept + [line for name, case in cases.items() if (line := entry(name, case))])
        print("wrote %s" % path)
    print("%s: %s" % (opts.list, summary))
    return 1 if lost or (more and not opts.accept) else 0


if __name__ == "__main__":
    sys.exit(main())
