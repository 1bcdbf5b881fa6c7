# SPDX-License-Identifier: Apache-2.0
"""From runs to figures, and from figures to bars. PURE.

A run is what runs.Runner.run returns: a result of ringpost-bench with its member `compare`.
"""
import collections

import figures
import matrix

SUBJECT = "ringpostd"

# bar: of the matrix; value: a figure, or None where a run is missing; met: None then.
Verdict = collections.namedtuple("Verdict", "bar value met")


def member(result, path):
    """result["a"]["b"] for "a.b", or None where that is not there."""
    for name in path.split("."):
        if not isinstance(result, dict) or name not in result:
            return None
        result = result[name]
    return result


def values(runs, scenario, relay, paths):
    """By round: of several paths the first that is there."""
    found = {}
    for run in runs:
        if run["compare"]["scenario"] == scenario and run["compare"]["relay"] == relay:
            known = [member(run, path) for path in paths]
            found[run["compare"]["round"]] = next((v for v in known if v is not None), None)
    return found


def figure(runs, scenario, relay, paths):
    return figures.figure(values(runs, scenario, relay, paths).values())


RATE = ("rate.delivered_per_s",)
SHARE = ("rate.share_without_relay",)
# From the cgroup where there was one: it misses no process.
CPU = ("compare.cpu_us_per_mail", "relay.cpu_us_per_mail")
MEMORY = ("relay.pss_peak_bytes",)
ACCEPT_P50 = ("latency_us.accept.p50",)
ACCEPT_P99 = ("latency_us.accept.p99",)


def ratio(runs, scenario, relay, paths, subject_above, subject=SUBJECT):
    """Of ringpostd and another relay, within each round."""
    ours = values(runs, scenario, subject, paths)
    theirs = values(runs, scenario, relay, paths)
    return figures.ratios(ours, theirs) if subject_above else figures.ratios(theirs, ours)


def value_of(bar, runs):
    if bar.kind == "rate":
        return ratio(runs, bar.scenario, matrix.AGAINST, RATE, True, bar.relay)
    if bar.kind == "share":
        return figure(runs, bar.scenario, bar.relay, SHARE)
    paths = {"cpu": CPU, "memory": MEMORY}[bar.kind]
    return ratio(runs, bar.scenario, matrix.AGAINST, paths, False, bar.relay)


def judge(runs):
    found = []
    for bar in matrix.BARS:
        value = value_of(bar, runs)
        found.append(Verdict(bar, value, None if value is None else value.median >= bar.least))
    return found
