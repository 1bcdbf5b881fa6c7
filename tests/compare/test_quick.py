# SPDX-License-Identifier: Apache-2.0
"""A whole comparison of ringpostd, over disk and over Redis, with Postfix: some hundred mails."""
import json
import os
import pathlib
import shutil

import pytest

import compare
import verdict

SCENARIOS = ("1k-lockstep", "1k-single", "100k-pipelined")
RELAYS = ("ringpostd", "ringpostd-redis", "postfix")


@pytest.fixture(scope="module")
def out():
    if os.geteuid() != 0:
        pytest.skip("needs root: Postfix changes to users of its own")
    folder = pathlib.Path(f"/var/tmp/ringpost-compare-test-{os.getpid()}")
    try:
        status = compare.main(["--quick", "--relays", ",".join(RELAYS),
                               "--scenarios", ",".join(SCENARIOS), "--out", str(folder / "out"),
                               "--folder", str(folder / "queues")])
        assert status == 0
        assert not list((folder / "queues").iterdir()), "a relay left something behind"
        yield folder / "out"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def result(out):
    return json.loads((out / "result.json").read_text())


def test_every_relay_ran_every_scenario(result):
    assert [(run["compare"]["scenario"], run["compare"]["relay"]) for run in result["runs"]] == [
        (scenario, relay) for scenario in SCENARIOS for relay in RELAYS]


def test_nothing_was_lost(result):
    for run in result["runs"]:
        totals = run["totals"]
        assert totals["mails_accepted"] == totals["recipients_delivered"] == compare.QUICK_MAILS
        assert totals["lost"] == totals["duplicated"] == 0


def test_everything_that_bars_need_was_measured(result):
    for run in result["runs"]:
        for paths in (verdict.RATE, verdict.SHARE, verdict.CPU, verdict.MEMORY,
                      verdict.ACCEPT_P50, verdict.ACCEPT_P99):
            assert any((verdict.member(run, path) or 0) > 0 for path in paths), paths
    measured = {bar["scenario"] for bar in result["bars"] if bar["met"] is not None}
    assert measured == set(SCENARIOS)


def test_what_redis_does_for_a_mail_was_counted(result):
    for run in result["runs"]:
        counted = run["compare"]["a_mail"]
        if run["compare"]["relay"] == "ringpostd-redis":
            assert counted["redis_commands"] >= 3 and counted["redis_bytes_in"] > 200
        else:
            assert counted == {}


def test_all_sync_before_250(result):
    for relay, syncs in result["syncs"].items():
        assert syncs is None or syncs >= 1, relay


def test_the_pages_are_there(out):
    table = (out / "table.md").read_text()
    assert "| Ringpost |" in table and "| Postfix |" in table and "## Bars" in table
    report = (out / "report.html").read_text()
    assert "Postfix" in report and "</html>" in report
