# SPDX-License-Identifier: Apache-2.0
"""The statistics of the comparison, its bars and its texts, on runs that are made up."""
import pytest

import compare
import durability
import figures
import harness
import matrix
import pairs
import processes
import tables
import verdict
from relays.haraka import Haraka
from relays.postfix import Postfix
from relays.ringpost import Ringpost
from relays.ringpost_redis import RingpostRedis


def run(relay, scenario="1k-lockstep", number=1, rate=100.0, cpu=10.0, memory=8 << 20, share=0.5,
        **compare_too):
    return {"totals": {"lost": 0}, "rate": {"delivered_per_s": rate, "share_without_relay": share},
            "relay": {"cpu_us_per_mail": cpu, "pss_peak_bytes": memory},
            "latency_us": {"accept": {"p50": 1500, "p99": 9000}},
            "compare": {"relay": relay, "scenario": scenario, "round": number, "version": "1",
                        **compare_too}}


@pytest.mark.parametrize("values, wanted", [
    ([], None), ([7], 7), ([3, 1], 2), ([9, 1, 5], 5), ([4, 1, 3, 2], 2.5),
    ([1, 1, 1000], 1), ([0.5, 0.25], 0.375)])
def test_median(values, wanted):
    assert figures.median(values) == wanted


def test_figure_leaves_out_what_was_not_measured():
    assert figures.figure([3, None, 1]) == figures.Figure(2, 1, 3, 2)
    assert figures.figure([None]) is None


def test_ratios_are_taken_within_a_round():
    # Medians of each side (20 and 2) would say 10; each round by itself says 10, 20 and 5.
    ours, theirs = {1: 10, 2: 40, 3: 20}, {1: 1, 2: 2, 3: 4}
    assert figures.ratios(ours, theirs) == figures.Figure(10, 5, 20, 3)


def test_ratios_need_both_sides():
    assert figures.ratios({1: 10, 2: 30, 3: None}, {2: 3, 3: 1, 4: 5}) == figures.Figure(10, 10, 10,
                                                                                      1)
    assert figures.ratios({1: 10}, {2: 3}) is None
    assert figures.ratios({1: 10}, {1: 0}) is None


def test_spread():
    assert figures.spread(figures.Figure(10, 8, 13, 3)) == 0.5
    assert figures.spread(figures.Figure(0, 0, 0, 1)) is None


def test_a_bar_is_met_at_its_figure_and_not_below():
    def met(rate):
        judged = verdict.judge([run("ringpostd", rate=rate), run("postfix", rate=100.0)])
        return next(v.met for v in judged if v.bar == matrix.Bar("1k-lockstep", "rate", 20))
    assert met(2000.0) is True
    assert met(1999.0) is False


def test_cpu_and_memory_are_fractions_of_the_others():
    judged = verdict.judge([run("ringpostd", cpu=10.0, memory=10 << 20),
                            run("postfix", cpu=400.0, memory=29 << 20)])
    found = {v.bar.kind: v for v in judged if v.bar.scenario == "1k-lockstep"}
    assert found["cpu"].value.median == 40 and found["cpu"].met
    assert found["memory"].value.median == 2.9 and not found["memory"].met
    assert found["share"].value.median == 0.5 and found["share"].met


def test_cpu_of_the_cgroup_goes_before_that_of_the_tree():
    judged = verdict.judge([run("ringpostd", cpu=10.0, cpu_us_per_mail=20.0),
                            run("postfix", cpu=400.0, cpu_us_per_mail=600.0)])
    assert next(v.value.median for v in judged if v.bar.kind == "cpu") == 30


def test_a_bar_without_runs_is_not_measured():
    judged = verdict.judge([run("ringpostd")])
    assert {v.met for v in judged if v.bar.kind == "rate"} == {None}


def test_bars_are_judged_by_the_relay_that_they_hold():
    judged = verdict.judge([run("ringpostd", rate=1300.0), run("ringpostd-redis", rate=1450.0),
                            run("postfix", rate=100.0)])
    found = {v.bar.relay: v for v in judged if v.bar.scenario == "1k-lockstep"
             and v.bar.kind == "rate"}
    assert found["ringpostd"].value.median == 13 and not found["ringpostd"].met
    assert found["ringpostd-redis"].value.median == 14.5 and found["ringpostd-redis"].met


def test_what_was_counted_beside_a_relay_is_shown():
    runs = [run("ringpostd-redis", number=n, a_mail={"redis_commands": 10.0 * n}) for n in (1, 3)]
    text = tables.show(runs, [Ringpost, RingpostRedis], {}, {}, "a machine")
    assert "| Ringpost with Redis | redis commands | 20 (10 to 30) |" in text
    assert "counted" not in tables.show([run("ringpostd")], [Ringpost], {}, {}, "a machine")


def test_every_bar_names_a_scenario_and_a_relay():
    for bar in matrix.BARS:
        assert matrix.scenario(bar.scenario)
        assert bar.relay in compare.RELAYS


@pytest.mark.parametrize("value, wanted", [
    (None, "–"), (12345.6, "12,346"), (99.94, "99.9"), (1.234, "1.23"), (0.123, "0.123"),
    (0.0123, "0.01"), (0, "0.00")])
def test_numbers(value, wanted):
    assert tables.number(value) == wanted


def test_the_report_has_every_bar_relay_and_scenario():
    runs = [run(relay, number=number, rate=rate * number) for number in (1, 2, 3)
            for relay, rate in (("ringpostd", 2500.0), ("postfix", 100.0))]
    text = tables.show(runs, [Ringpost, Postfix], {"ringpostd": 1, "postfix": None},
                       {"postfix": "3.7"}, "a machine")
    assert "| Ringpost | 5,000 (2,500 to 7,500) | 1 | 1 |" in text
    assert "| Postfix | 200 (100 to 300) | 25 (25 to 25) | 1 (1 to 1) |" in text
    assert "at least 20 | 25 (25 to 25) | met |" in text
    assert text.count("not measured") == sum(
        (b.scenario, b.relay) != ("1k-lockstep", "ringpostd") for b in matrix.BARS)
    assert "not observed" in text and "No run lost" in text
    assert "## 10 KiB" not in text


def test_losses_are_shown():
    broken = run("postfix")
    broken["totals"].update(lost=2, duplicated=1)
    assert tables.show_losses([broken])[-1] == "| postfix | 1k-lockstep | 1 | 2 | 1 | 0 | 0 | 0 |"


def test_syncs_are_read_from_the_trace():
    trace = ("# tracer: nop\n"
             "  kworker/1:0-53  [001] .....  2543.3568: ext4_sync_file_enter: dev 254,0 ino 40 "
             "parent 15 datasync 1 \n"
             "   cleanup-9 9    [000] .....  2544.0: block_rq_issue: 254,0 WS\n"
             "   cleanup-99     [000] .....  2545.25: ext4_sync_file_enter: dev 254,0 ino 7 parent "
             "2 datasync 0 \n")
    assert durability.parse_syncs(trace) == [(2543.3568, 40, 15), (2545.25, 7, 2)]


@pytest.mark.parametrize("rates, lost, wanted", [
    ((89, 95, 91), 0, True), ((89, 95, 88), 0, False), ((95, 95, 95), 1, False)])
def test_pairs_alternate_and_their_median_decides(rates, lost, wanted):
    asked = []

    def load(name, n):
        asked.append(name)
        result = run(name, rate=100 if name == "plain" else rates[n])
        result["totals"]["lost"] = lost if n == 1 else 0
        return result
    assert pairs.compare(["plain", "other"], load, len(rates), "lockstep") == wanted
    assert asked == ["plain", "other", "other", "plain", "plain", "other"]


def test_memory_is_refused_for_queues(monkeypatch, tmp_path):
    monkeypatch.setattr(compare, "mount_of", lambda path: ("tmpfs", "0:1"))
    with pytest.raises(harness.Failure, match="memory"):
        compare.check_folder(tmp_path)


def test_the_file_system_is_that_of_the_nearest_mount():
    assert compare.mount_of(compare.pathlib.Path("/proc/self"))[0] == "proc"
    assert compare.mount_of(compare.pathlib.Path("/sys"))[0] == "sysfs"


def test_options():
    options = compare.parse_options(["--relays", "postfix,exim", "--quick"])
    assert options.relays == ["postfix", "exim"] and options.rounds == 1
    with pytest.raises(SystemExit):
        compare.parse_options(["--relays", "sendmail"])


def test_haraka_is_pinned():
    lock = compare.json.loads((compare.ROOT / "bench/compare/haraka/package-lock.json").read_text())
    wanted = compare.json.loads((compare.ROOT / "bench/compare/haraka/package.json").read_text())
    for name, version in wanted["dependencies"].items():
        assert lock["packages"][f"node_modules/{name}"]["version"] == version
    assert Haraka.name in compare.RELAYS


def test_the_end_of_processes():
    child = compare.subprocess.Popen(["sh", "-c", "read line | cat & read other"],
                                     stdin=compare.subprocess.PIPE)
    try:
        handles = processes.descendants(compare.os.getpid())
        assert handles
        processes.end(handles)
        assert child.wait(10) != 0
    finally:
        child.stdin.close()
