# SPDX-License-Identifier: Apache-2.0
"""Holds what was promised against what arrived. No I/O but reading the two logs.

A mail with a 250 that never arrives is lost. A mail that arrives twice is explained only when the
earlier arrival's final reply left within the window of a kill: from twice the longest commit of
that round plus 100 ms before the kill, up to the moment when the next process was started (a reply
sent to a dead process is never read), and the later arrival came after the kill. An arrival without
a 250 is neither: it is counted as `unacknowledged, delivered`.
"""
import collections
from dataclasses import dataclass, field

GRACE_NS = 100_000_000


@dataclass
class Kill:
    at_ns: int
    restarted_ns: int
    longest_commit_s: float = 0.0

    @property
    def window_start_ns(self):
        return self.at_ns - int(2 * self.longest_commit_s * 1e9) - GRACE_NS

    def explains(self, first_ns, second_ns):
        return self.window_start_ns <= first_ns <= self.restarted_ns and second_ns > self.at_ns


@dataclass
class Account:
    accepted: int = 0
    arrived: int = 0
    refused: int = 0
    broken: int = 0
    lost: list = field(default_factory=list)
    duplicates: list = field(default_factory=list)
    unexplained: list = field(default_factory=list)
    unacknowledged: list = field(default_factory=list)

    def show(self):
        return (f"accepted {self.accepted}, refused {self.refused}, broken {self.broken}, "
                f"arrived {self.arrived}, lost {len(self.lost)}, "
                f"duplicates {len(self.duplicates)} (unexplained {len(self.unexplained)}), "
                f"unacknowledged, delivered {len(self.unacknowledged)}")


def read_facts(path):
    """What the load client wrote: a dict of what -> {id: ns}."""
    facts = collections.defaultdict(dict)
    with open(path) as lines:
        for line in lines:
            what, name, ns, *_ = line.split()
            facts[what][name] = int(ns)
    return facts


def read_arrivals(path):
    """What the sink wrote: {id: [ns of the final reply, ...]}."""
    arrivals = collections.defaultdict(list)
    with open(path) as lines:
        for line in lines:
            name, ns = line.split()
            arrivals[name].append(int(ns))
    return arrivals


def account(facts, arrivals, kills):
    result = Account(accepted=len(facts["accepted"]), arrived=len(arrivals),
                     refused=len(facts["refused"]), broken=len(facts["broken"]))
    result.lost = sorted(set(facts["accepted"]) - set(arrivals))
    result.unacknowledged = sorted(set(arrivals) - set(facts["accepted"]))
    for name, times in arrivals.items():
        times = sorted(times)
        for first, second in zip(times, times[1:]):
            result.duplicates.append(name)
            if not any(kill.explains(first, second) for kill in kills):
                result.unexplained.append((name, first, second))
    return result
