#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs ringpost-micro with tiny rounds: every row has figures, and table and JSON agree.

usage: test_micro.py PROGRAM

No figure is compared with another run or with a limit: machines differ, and so do their moods.
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = None
COLUMNS = ["row", "ns", "least", "bytes", "MB/s", "state"]
# What there must be at least one row of.
PARTS = {"address", "receiver", "sender", "reply", "body_in", "body_out", "header", "trace",
         "record", "crc32c", "log", "metric", "timer", "pool", "mailbox", "dns", "whole"}


def run(*arguments):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=240)


def names_in_the_source():
    text = (ROOT / "bench/micro/rows.c").read_text()
    return re.findall(r'^\t\{ "([a-z0-9_]+\.[a-z0-9_]+)",', text, flags=re.M)


def read_table(text):
    head, *lines = text.splitlines()
    assert head.split() == COLUMNS, head
    return [dict(zip(COLUMNS, line.split(), strict=True)) for line in lines]


class WholeTable(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "micro.json"
            done = run("--rounds", "2", "--round-ms", "1", "--json", str(path))
            assert done.returncode == 0, done.stderr
            cls.table = read_table(done.stdout)
            cls.result = json.loads(path.read_text())

    def test_every_row_of_the_source_is_there_once(self):
        names = names_in_the_source()
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual([row["row"] for row in self.table], names)
        self.assertEqual([row["name"] for row in self.result["rows"]], names)
        self.assertEqual(PARTS - {name.split(".")[0] for name in names}, set())

    def test_every_row_has_positive_figures(self):
        for row in self.result["rows"]:
            with self.subTest(row["name"]):
                self.assertGreater(row["ns_least"], 0)
                self.assertGreaterEqual(row["ns"], row["ns_least"])
                # A round lasted at least as long as it was told to.
                self.assertGreaterEqual(row["operations"] * row["ns"] * 2, 1e6)
                for name in ("bytes", "bytes_per_s", "state_bytes"):
                    self.assertGreater(row.get(name, 1), 0)
                self.assertEqual("bytes" in row, "bytes_per_s" in row)

    def test_table_and_json_agree(self):
        for shown, row in zip(self.table, self.result["rows"], strict=True):
            with self.subTest(row["name"]):
                self.assertEqual(shown["ns"], f"{row['ns']:.1f}")
                self.assertEqual(shown["least"], f"{row['ns_least']:.1f}")
                self.assertEqual(shown["bytes"], str(row.get("bytes", "-")))
                self.assertEqual(shown["state"], str(row.get("state_bytes", "-")))
                rate = row.get("bytes_per_s")
                self.assertEqual(shown["MB/s"], "-" if rate is None else f"{rate / 1e6:.0f}")
                if rate is not None:
                    self.assertAlmostEqual(rate, row["bytes"] * 1e9 / row["ns"], delta=rate / 1e9)

    def test_the_run_is_described(self):
        self.assertEqual(self.result["ringpost_micro"], 1)
        self.assertEqual(self.result["options"], {"rounds": 2, "round_ms": 1})
        for name in ("kernel", "cpu", "compiler"):
            self.assertTrue(self.result["machine"][name])


class Arguments(unittest.TestCase):
    def test_filters_choose_rows(self):
        done = run("--rounds", "1", "--round-ms", "1", "crc32c", "id.write")
        self.assertEqual(done.returncode, 0, done.stderr)
        wanted = [n for n in names_in_the_source() if "crc32c" in n or "id.write" in n]
        self.assertEqual([row["row"] for row in read_table(done.stdout)], wanted)

    def test_what_is_wrong_is_told(self):
        for arguments in (["no such row"], ["--rounds", "0"], ["--rounds", "100"],
                          ["--round-ms", "x"], ["--no-such-option"]):
            with self.subTest(arguments):
                done = run(*arguments)
                self.assertEqual(done.returncode, 64)
                self.assertNotEqual(done.stderr, "")

    def test_a_file_that_cannot_be_written(self):
        done = run("--rounds", "1", "--round-ms", "1", "--json", "/no/such/folder/x", "id.write")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/no/such/folder/x", done.stderr)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main()
