#!/usr/bin/env python3
"""suites.py must be able to fail: what is lost, what is gained, and a runner that breaks off."""
import os
import subprocess
import sys
import tempfile
import unittest

import suites

HTTP = ["ok   a.json step 1 [GET /] ", "ok   a.json step 3 [GET /] ", "FAIL b.json step 2 [GET /] note",
        "     status: expected 200", "ok   b.json step 1 [x] ", "FAIL c.json: cannot start", "a.json: 2 passed, 0 failed"]
FLAT = ["PASS single/ipv6                          3.2s", "FAIL tls/client   1.0s  why", "SKIP proxy/on   0.0s  no",
        "PASS b01-2.0-single plain (as 2.3.8)", "PASS b01-2.0-single dump of one (80 lines)",
        "FAIL b02-x plain: no"]


class Reading(unittest.TestCase):
    def test_steps(self):
        cases = suites.read_run(HTTP)
        self.assertEqual(suites.entry("a", cases["a"]), "a all")
        self.assertEqual(suites.entry("b", cases["b"]), "b 1")
        self.assertIsNone(suites.entry("c", cases["c"]))

    def test_flat(self):
        cases = suites.read_run(FLAT)
        lines = [suites.entry(name, case) for name, case in cases.items()]
        self.assertEqual(lines, ["single/ipv6", None, None, "b01-2.0-single plain", "b01-2.0-single dump of one", None])


class Judging(unittest.TestCase):
    def test_as_listed(self):
        self.assertEqual(suites.judge({"a": None, "b": {1}}, suites.read_run(HTTP), []), ([], []))

    def test_lost(self):
        lost, more = suites.judge({"a": None, "b": {1, 2}, "c": None, "d": None}, suites.read_run(HTTP), [])
        self.assertEqual(([what.split(":")[0] for what in lost], more), (["b", "c", "d"], []))

    def test_skipped_is_not_lost(self):
        self.assertEqual(suites.judge({"proxy/on": None}, suites.read_run(FLAT), [])[0], [])

    def test_not_played_on_purpose(self):
        self.assertEqual(suites.judge({"d": None}, suites.read_run(HTTP[:2]), ["a*"])[0], [])

    def test_more(self):
        lost, more = suites.judge({"b": set()}, suites.read_run(HTTP), [])
        self.assertEqual((lost, more), ([], ["a all", "b 1"]))


class SecondRun(unittest.TestCase):
    def merge_second_run(self, listed, *again):
        cases = suites.read_run(HTTP + FLAT)
        mended = suites.merge_second_run(listed, cases, suites.read_run(again), [])
        return mended, [what.split(":")[0] for what in suites.judge(listed, cases, [])[0]]

    def test_mended(self):
        listed = {"a": None, "b": {1, 2}, "c": None, "tls/client": None}
        again = ["ok   b.json step 1 [x] ", "ok   b.json step 2 [x] ", "PASS tls/client   1.0s", "FAIL c.json: no"]
        self.assertEqual(self.merge_second_run(listed, *again), (["b", "tls/client"], ["c"]))

    def test_not_mended(self):
        self.assertEqual(self.merge_second_run({"b": {1, 2}}, "FAIL b.json step 1 [x] ", "ok   b.json step 2 [x] "), ([], ["b"]))
        self.assertEqual(self.merge_second_run({"tls/client": None}, "SKIP tls/client   0.0s  no"), ([], ["tls/client"]))
        self.assertEqual(self.merge_second_run({"tls/client": None}), ([], ["tls/client"]))


class Running(unittest.TestCase):
    def judge(self, listed, *printed):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "x.passes")
            with open(path, "w", encoding="utf-8") as f:
                f.write(listed)
            command = [sys.executable, suites.__file__, path]
            return subprocess.run(command, input="\n".join(printed), stdout=subprocess.PIPE, text=True).returncode

    def test_status(self):
        good = ["PASS single/a  1.0s", "1 passed, 0 failed"]
        self.assertEqual(self.judge("single/a\n", *good), 0)
        self.assertEqual(self.judge("single/a\nsingle/b\n", *good), 1)
        self.assertEqual(self.judge("", *good), 1, "the list must grow")
        self.assertEqual(self.judge("single/a\n", good[0]), 1, "broke off")
        self.assertEqual(self.judge("", "FAIL single/a  1.0s", "0 passed, 1 failed"), 1, "nothing passed")


if __name__ == "__main__":
    unittest.main()
